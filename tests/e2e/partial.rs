//! Partial issuance: if some names cannot be validated, the others are served. The missing names
//! follow when they can be validated.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Function, Installation, Invocation, Response};
use time::OffsetDateTime;

use crate::evidence::{self, MINUTE, NEW_ORDER, instant, later};
use crate::fallback::Pair;
use crate::renewal_information::{HOUR, Run, in_parallel, to};

const CHALLENGES: &str = "/.well-known/acme-challenge/*";

/// What is wrong with a name, and what the report says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It leads elsewhere: only the authority sees that.
    Elsewhere,
    /// It does not resolve.
    Unresolved,
    /// Something else answers its challenges.
    Misrouted,
    /// Its CAA records name another authority.
    Forbidden,
}

impl Wrong {
    async fn befall(self, pair: &Pair, site: &Installation, name: &str) {
        let dns = pair.cloud.dns();
        match self {
            Self::Elsewhere => dns.lead_only(name, &["127.0.0.9".parse().unwrap()]).await,
            Self::Unresolved => dns.set_servfail(name).await,
            Self::Misrouted => {
                let elsewhere = Function::new("elsewhere", "hello", Duration::from_secs(5));
                pair.cloud.lambda().deploy(elsewhere);
                site.unroute(1).await;
                site.unroute(2).await;
                site.route_host(1, name, CHALLENGES, "elsewhere").await;
                site.route(2, CHALLENGES, &site.challenge, false).await;
            }
            Self::Forbidden => dns.set_caa(name, &[("issue", "other.example")]).await,
        }
    }

    async fn mend(self, pair: &Pair, site: &Installation, name: &str) {
        let dns = pair.cloud.dns();
        match self {
            Self::Elsewhere => dns.lead_only(name, &[site.ports().address()]).await,
            Self::Unresolved => dns.clear_servfail(name).await,
            Self::Misrouted => site.unroute(1).await,
            Self::Forbidden => dns.set_caa(name, &[]).await,
        }
    }

    /// Installs certloop in such a way that it sees the fault, with three names and their document.
    async fn install(self, pair: &Pair, partial: bool) -> (Installation, [String; 3], Value) {
        let label = format!("{self:?}-{partial}").to_lowercase();
        let site = pair.install(&label).await;
        let mut settings = pair.settings(&site);
        if self == Self::Forbidden {
            let server = pair.cloud.dns().address().to_string();
            settings["dns"] = json!({"servers": [server]});
        }
        site.put_settings(&settings).await;
        let names = ["a", "bad", "c"].map(|one| format!("{one}.{label}.example.com"));
        let mut document = site.document(&names.each_ref().map(String::as_str));
        document["partial"] = partial.into();
        site.put_document("shop", &document).await;
        self.befall(pair, &site, &names[1]).await;
        (site, names, document)
    }
}

const ALL: [Wrong; 4] = [
    Wrong::Elsewhere,
    Wrong::Unresolved,
    Wrong::Misrouted,
    Wrong::Forbidden,
];

fn new_orders(pair: &Pair, site: &Installation) -> usize {
    evidence::asked(&pair.cloud, site, NEW_ORDER).len()
}

/// Asserts that a report names the second name and no other as missing. Returns its next attempt.
#[track_caller]
fn assert_missing(pass: &Invocation, names: &[String; 3]) -> OffsetDateTime {
    let told = pass.certificate("shop");
    assert_eq!(told["problem"]["type"], "certloop:namesMissing", "{told:#}");
    let detail = told["problem"]["detail"].as_str().unwrap();
    assert!(detail.contains(&names[1]), "{detail}");
    for fine in [&names[0], &names[2]] {
        assert!(!detail.contains(fine.as_str()), "{detail}");
    }
    instant(&told["nextAttempt"])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_that_can_be_had_are_served_and_the_last_follows_once_it_can() {
    let pair = Arc::new(Pair::start().await);
    let runs = ALL.map(|wrong| {
        let pair = pair.clone();
        Box::pin(async move {
            let (site, names, _) = wrong.install(&pair, true).await;

            let pass = site.pass().await;

            let told = format!("{wrong:?}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "issued", "{told}");
            let next = assert_missing(&pass, &names);
            let leaf = site.browser_trusts(&names[0]).await.unwrap();
            let mut served = leaf.names.clone();
            served.sort();
            assert_eq!(served, [names[0].clone(), names[2].clone()], "{told}");
            assert!(site.browser_trusts(&names[1]).await.is_err(), "{told}");
            let asked = new_orders(&pair, &site);
            assert!(asked <= 2, "{told}: {asked} orders");
            // The abandoned order may have shared its authorizations: its tokens go when no
            // authority can fetch them any more.
            assert!(
                site.keys("challenges/").await.len() <= names.len(),
                "{told}"
            );

            // Until the next attempt nothing is ordered, and each report says so.
            for _ in 0..5 {
                let kept = site.pass().await;
                let told = format!("{wrong:?}: {:#}", kept.report());
                assert_eq!(kept.outcome("shop"), "kept", "{told}");
                assert_eq!(assert_missing(&kept, &names), next, "{told}");
                assert_eq!(new_orders(&pair, &site), asked, "{told}");
            }
            // Then one attempt, which fails: the served certificate stays.
            let again = site.pass_with(later(2 * MINUTE)).await;
            let told = format!("{wrong:?}: {:#}", again.report());
            let after = assert_missing(&again, &names);
            assert!(after > next + 5 * MINUTE, "{told}");
            let tried = new_orders(&pair, &site);
            assert!(tried <= asked + 1, "{told}: {tried} orders");
            for _ in 0..2 {
                let kept = site.pass_with(later(2 * MINUTE)).await;
                let told = format!("{wrong:?}: {:#}", kept.report());
                assert_eq!(kept.outcome("shop"), "kept", "{told}");
                assert_eq!(new_orders(&pair, &site), tried, "{told}");
            }
            let served = site.browser_trusts(&names[2]).await.unwrap();
            assert_eq!(served.serial, leaf.serial);
            let status = site.invoke(&json!({"action": "status"})).await;
            let shown = &status.report()["certificates"][0];
            let kind = &shown["problem"]["type"];
            assert_eq!(kind, "certloop:namesMissing", "{shown:#}");

            wrong.mend(&pair, &site, &names[1]).await;
            let whole = site.pass_with(later(15 * MINUTE)).await;
            let told = format!("{wrong:?}: {:#}", whole.report());
            assert_eq!(whole.outcome("shop"), "renewed", "{told}");
            assert_eq!(whole.certificate("shop")["problem"], Value::Null, "{told}");
            let leaf = site.browser_trusts(&names[1]).await.unwrap();
            assert_eq!(leaf.names.len(), 3, "{told}");
            evidence::assert_at_rest(&pair.cloud, &site, "shop", &names[1], 2).await;
            let orders = new_orders(&pair, &site);
            let kept = site.pass_with(later(15 * MINUTE)).await;
            assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
            assert_eq!(new_orders(&pair, &site), orders);
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_nothing_is_issued_and_the_report_names_what_stands_in_the_way() {
    let pair = Arc::new(Pair::start().await);
    let runs = ALL.map(|wrong| {
        let pair = pair.clone();
        Box::pin(async move {
            let (site, names, mut document) = wrong.install(&pair, false).await;
            let pass = site.pass().await;
            let told = pass.certificate("shop");
            assert_eq!(told["outcome"], "failed", "{wrong:?}: {told:#}");
            let detail = told["problem"]["detail"].as_str().unwrap();
            assert!(detail.contains(&names[1]), "{detail}");
            for fine in [&names[0], &names[2]] {
                assert!(!detail.contains(fine.as_str()), "{detail}");
            }
            assert!(site.keys("vault/").await.len() <= 1, "the key of an order");
            assert!(site.listed().await.sni.is_empty());

            // Allowed later: at once, or when the authority's answer about the name expires.
            document["partial"] = true.into();
            site.put_document("shop", &document).await;
            wrong.befall(&pair, &site, &names[1]).await;
            let pass = site.pass_with(later(2 * MINUTE)).await;
            let told = format!("{wrong:?}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "issued", "{told}");
            assert_missing(&pass, &names);
            assert!(site.browser_trusts(&names[0]).await.is_ok(), "{told}");
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_name_can_be_had_it_fails_as_ever() {
    let pair = Pair::start().await;
    let (site, names, _) = Wrong::Elsewhere.install(&pair, true).await;
    for name in &names {
        Wrong::Elsewhere.befall(&pair, &site, name).await;
    }

    let pass = site.pass().await;
    let told = pass.certificate("shop");
    assert_eq!(told["outcome"], "failed", "{told:#}");
    let detail = told["problem"]["detail"].as_str().unwrap();
    assert!(names.iter().all(|name| detail.contains(name)), "{detail}");
    assert_eq!(new_orders(&pair, &site), 1);
    let early = site.pass().await;
    assert_eq!(early.outcome("shop"), "waiting", "{:#}", early.report());

    // One valid name is enough.
    Wrong::Elsewhere.mend(&pair, &site, &names[0]).await;
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let leaf = site.browser_trusts(&names[0]).await.unwrap();
    assert_eq!(leaf.names, [names[0].clone()]);
    for name in &names[1..] {
        Wrong::Elsewhere.mend(&pair, &site, name).await;
    }
    let pass = site.pass_with(later(HOUR)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let leaf = site.browser_trusts(&names[1]).await.unwrap();
    assert_eq!(leaf.names.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_given_up_is_missed_no_more() {
    let pair = Pair::start().await;
    let (site, names, mut document) = Wrong::Elsewhere.install(&pair, true).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let serial = pass.certificate("shop")["serial"].clone();
    let asked = new_orders(&pair, &site);

    document["domains"] = json!([names[2], names[0]]);
    site.put_document("shop", &document).await;
    let kept = site.pass_with(later(2 * MINUTE)).await;
    let told = kept.certificate("shop");
    assert_eq!(told["outcome"], "kept", "{told:#}");
    assert_eq!(told["problem"], Value::Null, "{told:#}");
    assert_eq!(told["serial"], serial, "{told:#}");
    assert_eq!(new_orders(&pair, &site), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_that_fails_takes_nothing_from_those_served() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let names = ["a", "bad", "c"].map(|one| format!("{one}.example.com"));
    let mut document = site.document(&[&names[0], &names[2]]);
    document["partial"] = true.into();
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let serial = pass.certificate("shop")["serial"].clone();

    document["domains"] = json!(names);
    site.put_document("shop", &document).await;
    Wrong::Elsewhere.befall(&pair, &site, &names[1]).await;
    let pass = site.pass().await;
    // Without the name the certificate stays the same: no useless order.
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    assert_missing(&pass, &names);
    assert_eq!(pass.certificate("shop")["serial"], serial);
    assert_eq!(evidence::issued(&pair.cloud, &site), 1);
    let served = site.browser_trusts(&names[0]).await.unwrap();
    assert_eq!(served.serial, serial);

    // A served name that fails when the names change is not left out either.
    document["domains"] = json!([names[0], names[1], names[2], "d.example.com"]);
    site.put_document("shop", &document).await;
    Wrong::Elsewhere.befall(&pair, &site, &names[1]).await;
    Wrong::Elsewhere.befall(&pair, &site, &names[2]).await;
    for clock in [Duration::ZERO, 2 * MINUTE] {
        site.pass_with(later(clock)).await;
        let leaf = site.browser_trusts(&names[2]).await.unwrap();
        assert!(leaf.names.contains(&names[2]), "{:?}", leaf.names);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_the_authority_holds_keeps_back_no_other() {
    let pair = Pair::start().await;
    let site = pair.install("shop").await;
    let names = ["a", "bad", "c"].map(|one| format!("{one}.example.com"));
    let mut other = site.document(&[&names[1]]);
    other["targets"] = json!([]);
    site.put_document("other", &other).await;
    let urn = "urn:ietf:params:acme:error:rateLimited";
    let detail = format!(
        "too many failed authorizations (5) for \"{}\" in the last 1h0m0s",
        names[1]
    );
    let body = json!({"type": urn, "detail": detail, "status": 429});
    let limited = Response::new(429, body.to_string())
        .with("Content-Type", "application/problem+json")
        .with("Retry-After", "3600");
    let fault = Fault::when(to(&site, NEW_ORDER));
    pair.cloud.to_acme().inject(fault.answer(limited));
    let pass = site.pass().await;
    assert_eq!(pass.outcome("other"), "failed", "{:#}", pass.report());

    let mut document = site.document(&names.each_ref().map(String::as_str));
    document["partial"] = true.into();
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "issued", "{told}");
    let next = assert_missing(&pass, &names);
    let leaf = site.browser_trusts(&names[0]).await.unwrap();
    assert_eq!(leaf.names.len(), 2, "{told}");
    assert_eq!(new_orders(&pair, &site), 2, "{told}");
    assert!(next > OffsetDateTime::now_utc() + 50 * MINUTE, "{told}");

    let pass = site.pass_with(later(62 * MINUTE)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.outcome("other"), "issued", "{told}");
    assert_eq!(pass.outcome("shop"), "renewed", "{told}");
    let leaf = site.browser_trusts(&names[1]).await.unwrap();
    assert_eq!(leaf.names.len(), 3, "{told}");
}
