//! `make bench`: measures costs and compares them with the bounds that they must keep.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for the terminal that has nothing to save when it fails"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tests::{Function, Installation, Invocation, LocalCloud, Plan};

const STARTS: usize = 21;
const ROUNDS: usize = 3;
const MANY: usize = 20;

#[tokio::main]
async fn main() -> ExitCode {
    let cloud = LocalCloud::start().await;
    let mut table = Table { kept: true };

    let site = cloud.install("start").await;
    cloud
        .lambda()
        .deploy(Function::new("hello", "hello", Duration::from_secs(5)));
    let [hello, challenge, renew] = starts(&cloud, ["hello", &site.challenge, &site.renew]).await;
    table.row("start of a bare function", milliseconds(hello), "");
    table.row("start of challenge", milliseconds(challenge), "");
    table.row("start of renew", milliseconds(renew), "");
    let ratio = challenge.as_secs_f64() / hello.as_secs_f64();
    table.bound("challenge / bare", ratio, 5.0);
    let size = std::fs::metadata(tests::binary("challenge")).unwrap().len();
    table.bound("challenge, MB", size as f64 / 1e6, 6.0);

    let (mut one, mut many, mut requests, mut idle) = (vec![], vec![], vec![], vec![]);
    let mut quiet = true;
    let mut last = None;
    for round in 0..ROUNDS {
        let site = cloud.install(&format!("one-{round}")).await;
        site.want("one", &[&format!("one.{round}.example.com")])
            .await;
        let pass = site.pass().await;
        check(&pass, 1);
        one.push(pass.duration + pass.start.unwrap_or_default());

        let pass = site.pass().await;
        quiet &= pass.count(|sent| sent.is_acme("/")) == 0;
        idle.push(pass.duration);

        let site = cloud.install(&format!("many-{round}")).await;
        want_many(&site, round).await;
        let pass = site.pass().await;
        check(&pass, MANY);
        many.push(pass.duration + pass.start.unwrap_or_default());
        requests.push(acme_per_certificate(&pass));
        last = Some(pass);
        if round == 0 {
            price(&table, &site).await;
        }
    }
    let (one, many) = (median(one), median(many));
    table.bound("first issuance, s", one.as_secs_f64(), 3.0);
    table.row("20 certificates in one pass", milliseconds(many), "");
    let ratio = many.as_secs_f64() / one.as_secs_f64();
    table.bound("20 certificates / 1", ratio, 3.0);
    requests.sort_by(f64::total_cmp);
    table.bound("ACME requests a certificate", requests[ROUNDS / 2], 7.5);
    let silence = if quiet {
        "no ACME request"
    } else {
        "ACME was asked!"
    };
    table.row("pass with nothing due", milliseconds(median(idle)), silence);
    table.kept &= quiet;

    if std::env::args().any(|argument| argument == "--requests") {
        for (call, count) in last.iter().flat_map(histogram) {
            println!("{:>8.2}  {call}", count as f64 / MANY as f64);
        }
    }

    if table.kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// From process start to the request for the first invocation. The functions take turns, so that a
/// busy machine affects all of them.
async fn starts<const N: usize>(cloud: &LocalCloud, functions: [&str; N]) -> [Duration; N] {
    let mut starts = [const { Vec::new() }; N];
    for _ in 0..STARTS {
        for (function, starts) in functions.iter().zip(&mut starts) {
            cloud.lambda().forget(function);
            // The answer does not matter: an unknown event is as good as any other.
            let invocation = cloud.lambda().invoke(function, &json!({})).await;
            starts.extend(invocation.start);
        }
    }
    starts.map(median)
}

async fn want_many(site: &Installation, round: usize) {
    for number in 0..MANY {
        let domain = format!("many-{number}.{round}.example.com");
        site.want(&format!("many-{number}"), &[&domain]).await;
    }
}

/// Counts what AWS charges for: infra/README.md, "What it costs", computes a month of it.
async fn price(table: &Table, site: &Installation) {
    let quiet = site.pass().await;
    let daily = site.pass_with(Plan::days_later(2)).await;
    let renewing = site.pass_with(Plan::days_later(70)).await;
    for (what, pass) in [("quiet", quiet), ("daily", daily), ("renewing", renewing)] {
        let count = |calls: &[&str]| pass.count(|sent| calls.iter().any(|call| sent.is(call)));
        table.row(
            &format!("{what} pass, {MANY} certificates"),
            format!("{} reads", count(&["GetObject"])),
            &format!(
                "{} writes and listings of the bucket, {} calls in all",
                count(&["PutObject", "ListObjectsV2"]),
                pass.requests.len()
            ),
        );
    }
}

fn check(pass: &Invocation, issued: usize) {
    assert_eq!(
        pass.report()["summary"]["issued"],
        issued,
        "{:#}",
        pass.report()
    );
}

/// Directory and account are read once per pass, for any number of certificates: they do not count.
/// Repetitions after a rejected nonce do not count either.
fn acme_per_certificate(pass: &Invocation) -> f64 {
    let requests = pass.count(|sent| {
        sent.is_acme("/")
            && !sent.is_acme("/dir")
            && !sent.is_acme("/sign-me-up")
            && sent.status != Some(400)
    });
    requests as f64 / MANY as f64
}

/// Counts the requests of a pass by operation, without identifiers.
fn histogram(pass: &Invocation) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for sent in &pass.requests {
        let mut call = sent.call.clone();
        if let Some(end) = sent.target[1..].find('/').filter(|_| sent.is_acme("/")) {
            call = format!("{} {}/..", sent.method, &sent.target[..=end]);
        } else if let Some((call_only, key)) = sent.call.split_once(' ') {
            call = match key.split_once('/') {
                Some((prefix, _)) if !prefix.is_empty() => format!("{call_only} {prefix}/.."),
                _ => sent.call.clone(),
            };
        }
        let status = sent
            .status
            .map_or("none".to_owned(), |status| status.to_string());
        *counts.entry(format!("{call} {status}")).or_default() += 1;
    }
    counts
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

struct Table {
    kept: bool,
}

impl Table {
    fn row(&self, what: &str, figure: String, remark: &str) {
        println!("{what:<30}{figure:>12}  {remark}");
    }

    fn bound(&mut self, what: &str, figure: f64, bound: f64) {
        let kept = figure <= bound;
        self.kept &= kept;
        let remark = format!("(at most {bound}){}", if kept { "" } else { "  TOO MUCH" });
        self.row(what, format!("{figure:.2}"), &remark);
    }
}
