//! Fallback: another authority issues when the preferred one is down or limits us and little
//! lifetime is left.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Authority, Broken, Fault, Installation, LocalCloud, PebbleOptions, Response};

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, later};
use crate::renewal_information::{HOUR, Run, in_parallel};

/// A cloud with two authorities: `pebble` and `second`.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cloud: LocalCloud,
    pub(crate) second: Authority,
}

impl Pair {
    /// Starts both. They refuse no nonce and validate every name again: requests can be counted.
    pub(crate) async fn start() -> Self {
        let options = |identity: &str| PebbleOptions {
            nonces_rejected: Some(0),
            reuse: Some(0),
            caa_identities: vec![identity.to_owned()],
            ..PebbleOptions::default()
        };
        let cloud = LocalCloud::start_with(options("first.example")).await;
        let second = cloud.another_authority(options("second.example")).await;
        Self { cloud, second }
    }

    /// Installs certloop with both in its settings; the browser trusts both.
    pub(crate) async fn install(&self, label: &str) -> Installation {
        let mut site = self.cloud.install(label).await;
        site.roots.push_str(self.second.roots());
        let settings = self.settings(&site);
        site.put_settings(&settings).await;
        site
    }

    /// Returns settings with both.
    pub(crate) fn settings(&self, site: &Installation) -> Value {
        site.settings_with("second", &self.second)
    }

    /// Returns what an installation asked of the first and of the second, with any answer.
    pub(crate) fn asked(&self, site: &Installation, path: &str) -> (usize, usize) {
        let wires = [self.cloud.to_acme(), self.second.wire()];
        wires
            .map(|wire| evidence::asked_by(wire, site, path).len())
            .into()
    }

    /// Returns whose certificate is served under a name: `first` or `second`.
    pub(crate) async fn issuer(&self, site: &Installation, domain: &str) -> &'static str {
        if site.browser_with(domain, self.second.roots()).await.is_ok() {
            return "second";
        }
        let leaf = site.browser_trusts(domain).await;
        assert!(leaf.is_ok(), "{domain}: {leaf:?}");
        "first"
    }
}

/// Returns a document that prefers the first authority.
pub(crate) fn either(site: &Installation, domains: &[&str]) -> Value {
    let mut document = site.document(domains);
    document["authority"] = json!(["pebble", "second"]);
    document
}

/// Whether a request comes from this installation.
fn of(site: &Installation, path: &'static str) -> tests::proxy::FaultBuilder {
    let function = site.renew.clone();
    let fault =
        Fault::when(move |sent| sent.is_acme(path) && sent.function.as_deref() == Some(&function));
    fault.always().labelled(&site.renew)
}

/// Breaks the first authority for one installation only.
fn close(pair: &Pair, site: &Installation) {
    let wire = pair.cloud.to_acme();
    wire.break_connections(&site.renew, Broken::Closed);
}

fn mend(pair: &Pair, site: &Installation) {
    pair.cloud.to_acme().heal_labelled(&site.renew);
    pair.cloud.to_acme().mend_connections(&site.renew);
}

fn busy() -> Response {
    Response::new(503, "busy").with("Retry-After", "3600")
}

fn limited() -> Response {
    let urn = "urn:ietf:params:acme:error:rateLimited";
    let body = json!({"type": urn, "detail": "too many new orders recently", "status": 429});
    let response = Response::new(429, body.to_string());
    response
        .with("Content-Type", "application/problem+json")
        .with("Retry-After", "3600")
}

type Deed = fn(&Pair, &Installation);

#[tokio::test(flavor = "multi_thread")]
async fn a_first_certificate_is_had_from_the_second_at_once_and_the_next_from_the_first_again() {
    let pair = Arc::new(Pair::start().await);
    let ways: [(&str, Deed); 5] = [
        ("closed", close),
        ("busy", |pair, site| {
            pair.cloud.to_acme().inject(of(site, "/").answer(busy()));
        }),
        ("limited", |pair, site| {
            let fault = of(site, NEW_ORDER).answer(limited());
            pair.cloud.to_acme().inject(fault);
        }),
        ("broken", |pair, site| {
            let page = Response::new(500, "<html>").with("Content-Type", "text/html");
            pair.cloud
                .to_acme()
                .inject(of(site, NEW_ORDER).answer(page));
        }),
        // The invocation dies during the order.
        ("half-way", |pair, site| {
            pair.cloud
                .to_acme()
                .inject(of(site, "/authZ/").answer(busy()));
        }),
    ];
    let runs = ways.map(|(way, deed)| {
        let pair = pair.clone();
        Box::pin(async move {
            let site = pair.install(way).await;
            let domain = format!("{way}.example.com");
            let document = either(&site, &[&domain]);
            site.put_document("shop", &document).await;
            deed(&pair, &site);

            let pass = site.pass().await;

            let told = format!("{way}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "issued", "{told}");
            assert_eq!(pair.issuer(&site, &domain).await, "second", "{told}");
            let (first, second) = pair.asked(&site, NEW_ORDER);
            assert!(first <= 1, "{way}: {first} orders");
            assert_eq!(second, 1, "{told}");
            let serial = pass.certificate("shop")["serial"].clone();
            assert!(site.keys("challenges/").await.is_empty(), "{told}");

            // The fallback's certificate is like any other, even if the first authority is back.
            for (back, clock) in [(false, MINUTE), (false, 2 * HOUR), (true, 3 * HOUR)] {
                if back {
                    mend(&pair, &site);
                }
                let kept = site.pass_with(later(clock)).await;
                let told = format!("{way}, {clock:?}: {:#}", kept.report());
                assert_eq!(kept.outcome("shop"), "kept", "{told}");
                assert_eq!(kept.certificate("shop")["serial"], serial, "{told}");
                assert_eq!(kept.certificate("shop")["problem"], Value::Null, "{told}");
                assert_eq!(pair.asked(&site, NEW_ORDER), (first, second), "{told}");
            }

            let renewed = site.pass_with(later(61 * DAY)).await;
            let told = format!("{way}: {:#}", renewed.report());
            assert_eq!(renewed.outcome("shop"), "renewed", "{told}");
            assert_eq!(pair.issuer(&site, &domain).await, "first", "{told}");
            assert_eq!(pair.asked(&site, NEW_ORDER), (first + 1, second), "{told}");
            // The first authority cannot replace a certificate that the other one issued.
            let orders = evidence::asked(&pair.cloud, &site, NEW_ORDER);
            assert_eq!(orders.last().unwrap().payload["replaces"], Value::Null);
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_own_count_leaves_nothing_of_comes_from_the_second() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let mut settings = pair.settings(&site);
    let one = json!({"count": 1, "seconds": 36_000});
    settings["authorities"]["pebble"]["limits"] = json!({"ordersPerAccount": one});
    site.put_settings(&settings).await;
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());

    let document = either(&site, &["shop.example.com"]);
    site.put_document("shop", &document).await;
    site.want("club", &["club.example.com"]).await;
    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pass.outcome("club"), "waiting", "{:#}", pass.report());
    assert_eq!(pair.issuer(&site, "shop.example.com").await, "second");
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 1));
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_goes_elsewhere_only_when_little_is_left() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let domain = "shop.example.com";
    let document = either(&site, &[domain]);
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let leaf = site.browser_trusts(domain).await.unwrap();
    assert_eq!(pair.issuer(&site, domain).await, "first");

    pair.cloud.to_acme().down().await;
    // A third, a fifth, and little more than a tenth of the lifetime is left.
    for day in [61, 72, 80] {
        let pass = site.pass_with(later(day * DAY)).await;
        let told = format!("day {day}: {:#}", pass.report());
        assert_eq!(pass.outcome("shop"), "failed", "{told}");
        let problem = &pass.certificate("shop")["problem"];
        assert_eq!(problem["type"], "certloop:authority", "{told}");
        assert_eq!(pass.count(|sent| pair.second.heard(sent)), 0, "{told}");
        let served = site.browser_trusts(domain).await.unwrap();
        assert_eq!(served.serial, leaf.serial);
    }
    let pass = site.pass_with(later(82 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(pair.issuer(&site, domain).await, "second");
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 1));
    let order = &evidence::asked_by(pair.second.wire(), &site, NEW_ORDER)[0];
    assert_eq!(order.payload["replaces"], Value::Null);

    pair.cloud.to_acme().up().await;
    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_little_is_for_the_settings_to_say() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let domain = "shop.example.com";
    let document = either(&site, &[domain]);
    site.put_document("shop", &document).await;
    let mut settings = pair.settings(&site);
    settings["fallback"] = json!({"share": 0.5});
    site.put_settings(&settings).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());

    close(&pair, &site);
    let pass = site.pass_with(later(61 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(pair.issuer(&site, domain).await, "second");

    // With a single authority there is no fallback.
    let other = pair.install("other").await;
    other.want("other", &["other.example.com"]).await;
    close(&pair, &other);
    let pass = other.pass().await;
    assert_eq!(pass.outcome("other"), "failed", "{:#}", pass.report());
    assert_eq!(pair.asked(&other, "/").1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caa_forbids_is_not_ordered_from_the_second() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let domain = "shop.example.com";
    let dns = pair.cloud.dns();
    let mut settings = pair.settings(&site);
    settings["dns"] = json!({"servers": [dns.address().to_string()]});
    site.put_settings(&settings).await;
    let document = either(&site, &[domain]);
    site.put_document("shop", &document).await;
    // The record is that of the whole zone (RFC 8659 section 3).
    dns.set_caa("example.com", &[("issue", "first.example")])
        .await;
    close(&pair, &site);

    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    let problem = &pass.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:authority", "{problem}");
    assert_eq!(pair.asked(&site, NEW_ORDER).1, 0);

    let both = [("issue", "first.example"), ("issue", "second.example")];
    dns.set_caa("example.com", &both).await;
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pair.issuer(&site, domain).await, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_merely_unwilling_is_no_reason_to_ask_another() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let document = either(&site, &["lost.example.com"]);
    site.put_document("lost", &document).await;
    let document = either(&site, &["refused.example.com"]);
    site.put_document("refused", &document).await;
    let nowhere = "127.0.0.9".parse().unwrap();
    let dns = pair.cloud.dns();
    dns.lead_only("lost.example.com", &[nowhere]).await;
    let unwilling = Fault::when(|sent| {
        sent.is_acme(NEW_ORDER) && sent.payload.to_string().contains("refused.example.com")
    });
    let unwilling = unwilling.always();
    let unwilling = unwilling.problem(403, "rejectedIdentifier", "not refused.example.com");
    pair.cloud.to_acme().inject(unwilling);

    for clock in [Duration::ZERO, 2 * MINUTE, 15 * MINUTE] {
        let pass = site.pass_with(later(clock)).await;
        for (name, kind) in [("lost", "connection"), ("refused", "rejectedIdentifier")] {
            let told = pass.certificate(name);
            assert!(
                ["failed", "waiting"].contains(&pass.outcome(name)),
                "{told:#}"
            );
            let urn = format!("urn:ietf:params:acme:error:{kind}");
            assert_eq!(told["problem"]["type"], urn, "{told:#}");
        }
    }
    assert_eq!(pair.asked(&site, "/"), (pair.asked(&site, "/").0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_down_the_one_that_comes_back_issues() {
    let pair = Arc::new(Pair::start().await);
    let runs = ["first", "second"].map(|back| {
        let pair = pair.clone();
        Box::pin(async move {
            let site = pair.install(&format!("back-{back}")).await;
            let domain = format!("back-{back}.example.com");
            let document = either(&site, &[&domain]);
            site.put_document("shop", &document).await;
            close(&pair, &site);
            let wire = pair.second.wire();
            wire.break_connections(&site.renew, Broken::Closed);

            let pass = site.pass().await;
            let told = format!("{back}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "failed", "{told}");
            let early = site.pass_with(later(30 * MINUTE / 60)).await;
            let told = format!("{back}: {:#}", early.report());
            assert_eq!(early.outcome("shop"), "waiting", "{told}");

            match back {
                "first" => mend(&pair, &site),
                _ => wire.mend_connections(&site.renew),
            }
            let pass = site.pass_with(later(2 * MINUTE)).await;
            let told = format!("{back}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "issued", "{told}");
            assert_eq!(pair.issuer(&site, &domain).await, back, "{told}");
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_is_passed_over_where_caa_records_are_for_another_account_there() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let mut settings = pair.settings(&site);
    settings["dns"]["servers"] = json!([pair.cloud.pebble().dns_server().to_string()]);
    // Nothing listens there.
    let mut dead = settings["authorities"]["second"].clone();
    dead["directory"] = json!("https://127.0.0.1:1/dir");
    settings["authorities"]["dead"] = dead;
    site.put_settings(&settings).await;
    // Now the first authority has an account.
    site.want("before", &["before.example.org"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("before"), "issued", "{:#}", pass.report());

    let dns = pair.cloud.dns();
    let another = "first.example; accounturi=https://first.example/acct/of-another";
    let records = [("issue", another), ("issue", "second.example")];
    dns.set_caa("shop.example.com", &records).await;
    let mut document = site.document(&["shop.example.com"]);
    document["authority"] = json!(["dead", "pebble", "second"]);
    site.put_document("shop", &document).await;

    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pair.issuer(&site, "shop.example.com").await, "second");
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_second_has_issued_is_downloaded_from_it_later() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let domain = "shop.example.com";
    let document = either(&site, &[domain]);
    site.put_document("shop", &document).await;
    close(&pair, &site);
    let certificates = Fault::on("/certZ/").answer(busy());
    pair.second.wire().inject(certificates);

    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());

    // The first is back, and the second says when to ask again.
    mend(&pair, &site);
    let orders = pair.asked(&site, NEW_ORDER);
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());
    let pass = site.pass_with(later(62 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pair.issuer(&site, domain).await, "second");
    assert_eq!(pair.asked(&site, NEW_ORDER), orders);
}
