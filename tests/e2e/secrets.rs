//! The output of the functions: JSON lines with their numbers, and no secret in any of them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Function, Installation, Invocation, LocalCloud, PebbleOptions, Plan, Response};
use tokio::sync::Mutex;

use crate::authority_refusals::{EXTERNAL_KEY, put_secret};
use crate::evidence::{self, CHALLENGE, FINALIZE, MINUTE, later};
use crate::validation::misroute_challenges;

/// Everything that was printed or answered, and everything that must not appear in it.
#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    reports: Vec<String>,
    metrics: Vec<Value>,
    secrets: Vec<String>,
}

impl Collected {
    fn take(&mut self, pass: &Invocation) {
        self.lines.extend(pass.log.iter().cloned());
        self.metrics.extend(pass.metrics());
        match &pass.result {
            Ok(report) => self.reports.push(report.to_string()),
            Err(error) => self.reports.push(error.to_string()),
        }
    }

    /// Remembers the secrets in the bucket now.
    async fn remember(&mut self, site: &Installation) {
        for key in site.keys("").await {
            let Some(body) = site.read(&key).await else {
                continue;
            };
            let text = String::from_utf8_lossy(&body).into_owned();
            if key.starts_with("challenges/") {
                // All of them share the account's half; the token alone is in every URL.
                let (_, thumbprint) = text.split_once('.').unwrap();
                self.secrets.push(thumbprint.to_owned());
            } else if key.starts_with("accounts/") {
                let record: Value = serde_json::from_str(&text).unwrap();
                self.secrets
                    .push(record["key"].as_str().unwrap().to_owned());
            } else if key.starts_with("vault/") {
                let record: Value = serde_json::from_str(&text).unwrap();
                let pem = record["privateKey"].as_str().unwrap();
                let lines = pem.lines().filter(|line| line.len() == 64);
                self.secrets.extend(lines.map(str::to_owned));
            }
        }
        self.secrets.sort();
        self.secrets.dedup();
    }
}

fn deploy_talkative(cloud: &LocalCloud, site: &Installation, level: &str) {
    for (name, binary) in [(&site.renew, "renew"), (&site.challenge, "challenge")] {
        let function = Function::new(name, binary, Duration::from_secs(60))
            .with("CERTLOOP_BUCKET", &site.bucket)
            .with("AWS_LAMBDA_LOG_LEVEL", level);
        cloud.lambda().deploy(function);
    }
}

/// Runs a pass and remembers every secret that is in the bucket at some moment.
async fn pass(
    cloud: &LocalCloud,
    site: &Installation,
    clock: Duration,
    collected: &Mutex<Collected>,
) -> Invocation {
    for path in [CHALLENGE, FINALIZE] {
        let slow = Fault::on(path).delay(Duration::from_millis(300));
        cloud.to_acme().inject(slow);
    }
    let pass = {
        let pass = site.pass_with(later(clock));
        tokio::pin!(pass);
        loop {
            tokio::select! {
                done = &mut pass => break done,
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    collected.lock().await.remember(site).await;
                }
            }
        }
    };
    cloud.to_acme().heal();
    let mut collected = collected.lock().await;
    collected.take(&pass);
    collected.remember(site).await;
    collected
        .lines
        .extend(cloud.lambda().printed(&site.challenge));
    pass
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_ever_printed_or_reported() {
    let options = PebbleOptions {
        external_account: Some(("kid-1".into(), EXTERNAL_KEY.into())),
        ..PebbleOptions::default()
    };
    let cloud = LocalCloud::start_with(options).await;
    let external = put_secret(&cloud, "external", EXTERNAL_KEY).await;
    let collected = Arc::new(Mutex::new(Collected::default()));
    for level in ["TRACE", "DEBUG"] {
        let site = cloud.install(&level.to_lowercase()).await;
        deploy_talkative(&cloud, &site, level);
        let mut settings = site.settings();
        settings["authorities"]["pebble"]["externalAccount"] =
            json!({"keyId": "kid-1", "secretArn": external});
        settings["selfCheck"]["mode"] = "warn".into();
        site.put_settings(&settings).await;
        let domain = |name: &str| format!("{name}.{level}.example.com").to_lowercase();

        // Issued, and reissued at once.
        site.want("shop", &[&domain("shop"), &domain("www")]).await;
        let first = pass(&cloud, &site, Duration::ZERO, &collected).await;
        assert_eq!(first.outcome("shop"), "issued", "{:#}", first.report());
        // Another key type.
        let mut document = site.document(&[&domain("shop")]);
        document["keyType"] = "rsa-2048".into();
        site.put_document("shop", &document).await;
        let second = pass(&cloud, &site, Duration::ZERO, &collected).await;
        assert_eq!(second.outcome("shop"), "renewed", "{:#}", second.report());
        // An authority that receives a wrong answer quotes the right one.
        misroute_challenges(&cloud, &site).await;
        site.want("blog", &[&domain("blog")]).await;
        let third = pass(&cloud, &site, Duration::ZERO, &collected).await;
        assert_eq!(third.outcome("blog"), "failed", "{:#}", third.report());
        // Records that cannot be parsed, and refusals with whole pages.
        let account = site.keys("accounts/").await.remove(0);
        let record = String::from_utf8(site.read(&account).await.unwrap()).unwrap();
        site.put(&account, record.replace("\"version\"", "\"vision\""))
            .await;
        let fourth = pass(&cloud, &site, 2 * MINUTE, &collected).await;
        assert_eq!(fourth.outcome("blog"), "failed", "{:#}", fourth.report());
        site.put(&account, record).await;
        let status = site.invoke(&json!({"action": "status"})).await;
        let mut collected = collected.lock().await;
        collected.take(&status);
        let states = site.keys("state/").await;
        for key in states {
            let state = site.read(&key).await.unwrap();
            collected.reports.push(String::from_utf8(state).unwrap());
        }
    }

    let mut collected = collected.lock().await;
    collected.secrets.push(EXTERNAL_KEY.to_owned());
    collected.secrets.push("PRIVATE KEY".to_owned());
    let Collected {
        lines,
        reports,
        metrics,
        secrets,
    } = &*collected;
    assert!(secrets.len() > 20, "only {} secrets found", secrets.len());
    assert!(lines.len() > 100, "only {} lines printed", lines.len());
    for line in lines.iter().chain(reports) {
        for secret in secrets {
            // Part of a secret is already too much.
            let piece = &secret[..secret.len().min(24)];
            assert!(!line.contains(piece), "{piece} is in {line}");
        }
    }
    assert_lines(lines);
    assert_metrics(metrics);
}

fn assert_lines(lines: &[String]) {
    let mut fields = Vec::new();
    for line in lines {
        let parsed: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{error}: not a JSON line: {line}"));
        let Value::Object(parsed) = parsed else {
            panic!("not an object: {line}");
        };
        if !parsed.contains_key("_aws") {
            assert!(parsed.contains_key("level"), "no level: {line}");
            fields.extend(parsed.keys().cloned());
        }
    }
    for field in [
        "certificate.name",
        "certificate.arn",
        "problem.type",
        "problem.detail",
    ] {
        assert!(
            fields.iter().any(|known| known == field),
            "no line has {field}"
        );
    }
}

fn assert_metrics(metrics: &[Value]) {
    assert!(metrics.len() >= 8, "only {} metric lines", metrics.len());
    for line in metrics {
        let document = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(document["Namespace"], "certloop", "{line}");
        assert_eq!(document["Dimensions"], json!([["Function"]]), "{line}");
        assert!(line["_aws"]["Timestamp"].is_u64(), "{line}");
        assert!(
            line["Function"].as_str().unwrap().ends_with("-renew"),
            "{line}"
        );
        let declared = document["Metrics"].as_array().unwrap();
        for metric in declared {
            let name = metric["Name"].as_str().unwrap();
            assert!(line[name].is_number(), "{name} in {line}");
        }
        for name in [
            "Passes",
            "PassSeconds",
            "CertificatesManaged",
            "Issued",
            "Renewed",
            "Deployed",
            "Waiting",
            "Failed",
            "NeedsPerson",
            "Unproved",
            "Failing",
            "Unserved",
            "Strays",
        ] {
            let found = declared.iter().any(|metric| metric["Name"] == name);
            assert!(found, "no {name} in {line}");
        }
    }
    let sum = |name: &str| -> u64 { metrics.iter().filter_map(|line| line[name].as_u64()).sum() };
    assert_eq!(sum("Issued"), 2, "{metrics:#?}");
    assert_eq!(sum("Renewed"), 2, "{metrics:#?}");
    assert_eq!(sum("Failed"), 4, "{metrics:#?}");
    assert!(
        metrics
            .iter()
            .any(|line| line["LifetimeLeftShare"].is_f64())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_pass_counts_no_pass() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    let empty = site.pass().await.metrics();
    assert_eq!(empty[0]["LifetimeLeftShare"], 1.0, "nothing runs out");
    site.want("shop", &["shop.example.com"]).await;
    let one = json!({"action": "reconcile", "certificates": ["shop"]});
    let part = site.invoke(&one).await;
    let metrics = part.metrics();
    assert_eq!(metrics.len(), 1, "{metrics:#?}");
    assert_eq!(metrics[0]["Issued"], 1, "{metrics:#?}");
    assert!(metrics[0]["Passes"].is_null(), "{metrics:#?}");
    assert!(metrics[0]["CertificatesManaged"].is_null(), "{metrics:#?}");
    for name in ["ImportsThisYear", "Failing", "Unserved", "Strays"] {
        assert!(metrics[0][name].is_null(), "{name} in {metrics:#?}");
    }
    site.add_foreign("other.example.com").await;
    let whole = site.pass().await.metrics();
    assert_eq!(whole[0]["Passes"], 1, "{whole:#?}");
    // Numbers near a quota: our imports, and the certificates on the listener besides its default.
    assert_eq!(whole[0]["ImportsThisYear"], 1, "{whole:#?}");
    assert_eq!(whole[0]["ListenerCertificates"], 2, "{whole:#?}");
    assert_eq!(whole[0]["CertificatesManaged"], 1, "{whole:#?}");
    assert_eq!(evidence::issued(&cloud, &site), 1);
    let renewed = site.pass_with(Plan::days_later(61)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    assert_eq!(
        renewed.metrics()[0]["ImportsThisYear"],
        2,
        "re-imports count"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_nobody_heard_of_counts_once_it_is_seen() {
    let cloud = LocalCloud::start_with(PebbleOptions {
        profiles: vec![("default".into(), 90 * 24 * 60 * 60)],
        ..PebbleOptions::default()
    })
    .await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    // The answer is lost, first of a new import, then of one under the same ARN.
    for (day, outcome, imports) in [(0, "issued", 1), (61, "renewed", 3)] {
        let lost = Response::new(500, "");
        cloud
            .to_aws()
            .inject(Fault::on("ImportCertificate").times(9).swallow(lost));
        let cut_off = site.pass_with(Plan::days_later(day)).await;
        assert!(
            ["failed", outcome].contains(&cut_off.outcome("shop")),
            "{:#}",
            cut_off.report()
        );
        cloud.to_aws().heal();
        let clock = Duration::from_secs(day * 24 * 60 * 60 + 15 * 60);
        let seen = site
            .pass_with(Plan {
                clock,
                ..Plan::default()
            })
            .await;
        // The authority's clock does not move, so a renewal is due again: a third import.
        assert_ne!(seen.outcome("shop"), "failed", "{:#}", seen.report());
        let counted = seen.metrics()[0]["ImportsThisYear"].as_u64().unwrap();
        assert!(counted >= imports, "{counted} after day {day}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_load_balancer_shows() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    for number in 0..25 {
        site.add_foreign(&format!("other{number}.example.net"))
            .await;
    }
    site.want("shop", &["shop.example.com"]).await;
    let full = site.pass().await;
    let problem = &full.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:listenerFull", "{problem:#}");
    assert_eq!(full.metrics()[0]["ListenerCertificates"], 25);
}
