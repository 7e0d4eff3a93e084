//! Rollback to the previous certificate.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, Leaf, Listed, LocalCloud, Response};

use crate::evidence::{self, DAY, FINALIZE, MINUTE, NEW_ORDER, instant, later};
use crate::helpers::{acme, arn, watched};
use crate::interruption::{AFTERWARDS, Visitor, passes_afterwards, survives};
use crate::renewal_information::{Run, in_parallel, issued, steady, to};

fn rollback() -> Value {
    json!({"action": "rollback", "name": "shop"})
}

fn forced() -> Value {
    json!({"action": "reconcile", "force": true})
}

/// Issues `shop` and renews it. Returns both certificates, the older one first.
async fn renewed(cloud: &LocalCloud, label: &str) -> (Installation, String, Leaf, Leaf) {
    let (site, domain, first) = issued(cloud, label).await;
    let pass = site.invoke(&forced()).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let second = site.browser_trusts(&domain).await.unwrap();
    assert_ne!(first.serial, second.serial);
    (site, domain, first, second)
}

#[track_caller]
fn assert_problem(pass: &Invocation, kind: &str, retry: &str) {
    let told = pass.certificate("shop");
    assert_eq!(told["outcome"], "failed", "{told:#}");
    assert_eq!(told["problem"]["type"], kind, "{told:#}");
    assert_eq!(told["problem"]["retry"], retry, "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_before_is_served_again_and_held() {
    let cloud = steady().await;
    let (site, domain, first, _) = renewed(&cloud, "shop").await;
    let orders = evidence::orders(&cloud, &site);
    let serial = async || site.browser_trusts(&domain).await.unwrap().serial;

    // Two months later, when a renewal is due. The second rollback changes nothing.
    let clock = later(61 * DAY);
    for _ in 0..2 {
        let back = site.invoke_with(&rollback(), clock.clone()).await;
        let told = back.certificate("shop");
        assert_ne!(told["outcome"], "failed", "{told:#}");
        assert_eq!(told["serial"], first.serial, "{told:#}");
        assert_eq!(told["problem"], Value::Null, "{told:#}");
        assert_eq!(back.count(acme), 0, "{told:#}");
        assert_eq!(serial().await, first.serial);
    }
    for _ in 0..3 {
        let kept = site.pass_with(clock.clone()).await;
        let told = kept.certificate("shop");
        assert_eq!(told["outcome"], "kept", "{told:#}");
        assert_eq!(told["problem"], Value::Null, "{told:#}");
        assert!(told["reason"].as_str().unwrap().contains("rollback"));
        assert_eq!(serial().await, first.serial);
    }
    assert_eq!(evidence::orders(&cloud, &site), orders);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;

    // The renewal comes by itself when the certificate nears its end.
    let kept = site.pass_with(later(84 * DAY)).await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    let pass = site.pass_with(later(87 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(evidence::orders(&cloud, &site), orders + 1);
    assert_eq!(serial().await, pass.certificate("shop")["serial"]);
    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_ends_with_force_a_document_or_the_other_serial() {
    let cloud = Arc::new(steady().await);
    let runs = ["forced", "document", "serial"].map(|way| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, first, second) = renewed(&cloud, way).await;
            // Without an edit that ends the rollback, no renewal is due either.
            let clock = match way {
                "serial" => Duration::ZERO,
                _ => 61 * DAY,
            };
            let clock = later(clock);
            let back = site.invoke_with(&rollback(), clock.clone()).await;
            let told = format!("{way}: {:#}", back.report());
            assert_eq!(back.certificate("shop")["serial"], first.serial, "{told}");

            let event = match way {
                "forced" => forced(),
                "document" => {
                    let mut document = site.document(&[&domain]);
                    document["supersedes"] = json!([site.placeholder]);
                    site.put_document("shop", &document).await;
                    json!({"action": "reconcile"})
                }
                _ => json!({"action": "rollback", "name": "shop", "serial": second.serial}),
            };
            let pass = site.invoke_with(&event, clock.clone()).await;
            let told = format!("{way}: {:#}", pass.report());
            assert_ne!(pass.outcome("shop"), "failed", "{told}");
            let served = site.browser_trusts(&domain).await.unwrap().serial;
            assert_eq!(pass.certificate("shop")["serial"], served, "{told}");
            let orders = evidence::orders(&cloud, &site);
            match way {
                "serial" => {
                    assert_eq!(served, second.serial, "{told}");
                    assert_eq!(orders, 2, "{told}");
                    // The rollback has ended: a renewal is made when it is due.
                    let kept = site.pass_with(clock).await;
                    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
                    let pass = site.pass_with(later(61 * DAY)).await;
                    let told = format!("{way}: {:#}", pass.report());
                    assert_eq!(pass.outcome("shop"), "renewed", "{told}");
                }
                _ => {
                    assert_eq!(pass.outcome("shop"), "renewed", "{told}");
                    assert!(![first.serial, second.serial].contains(&served), "{told}");
                    assert_eq!(orders, 3, "{told}");
                }
            }
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_renewal_that_takes_two_passes_is_seen_through() {
    let cloud = steady().await;
    let (site, domain, first, _) = renewed(&cloud, "shop").await;
    site.invoke(&rollback()).await;
    let busy = Response::new(503, "busy").with("Retry-After", "60");
    let fault = Fault::when(to(&site, FINALIZE)).always().labelled("busy");
    cloud.to_acme().inject(fault.answer(busy));

    let pass = site.invoke(&forced()).await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    cloud.to_acme().heal_labelled("busy");
    let orders = evidence::orders(&cloud, &site);
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(evidence::orders(&cloud, &site), orders);
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_ne!(served.serial, first.serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_for_again_after_an_edit_it_holds_again() {
    let cloud = steady().await;
    let (site, domain, first, _) = renewed(&cloud, "shop").await;
    site.invoke(&rollback()).await;
    let mut document = site.document(&[&domain]);
    document["supersedes"] = json!([site.placeholder]);
    site.put_document("shop", &document).await;
    // Nothing is due: the served certificate stays, and its renewal is planned as before.
    let pass = site.pass().await;
    let renew_at = instant(&pass.certificate("shop")["renewAt"]);

    let back = site.invoke(&rollback()).await;
    let told = back.certificate("shop");
    assert_eq!(told["serial"], first.serial, "{told:#}");
    assert!(instant(&told["renewAt"]) > renew_at + 10 * DAY, "{told:#}");
    let kept = site.pass_with(later(61 * DAY)).await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, first.serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_to_go_back_to_nothing_happens() {
    let cloud = steady().await;
    let (site, domain, first) = issued(&cloud, "shop").await;
    let refused = site.invoke(&rollback()).await;
    assert_problem(&refused, "certloop:noPrevious", "never");
    let unknown = json!({"action": "rollback", "name": "club"});
    let unknown = site.invoke(&unknown).await;
    let told = unknown.certificate("club");
    assert_eq!(told["problem"]["type"], "certloop:unknownCertificate");

    let pass = site.invoke(&forced()).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let served = site.browser_trusts(&domain).await.unwrap();
    // A serial that does not exist, and a certificate that is about to end.
    let other = json!({"action": "rollback", "name": "shop", "serial": "04abcdef"});
    let refused = site.invoke(&other).await;
    assert_problem(&refused, "certloop:noPrevious", "never");
    let refused = site.invoke_with(&rollback(), later(87 * DAY)).await;
    assert_problem(&refused, "certloop:noPrevious", "never");
    // One whose key is gone from the vault.
    let key = format!("vault/shop/{}.json", first.serial);
    site.delete(&key).await;
    let refused = site.invoke(&rollback()).await;
    assert_problem(&refused, "certloop:noPrevious", "never");

    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    let still = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(still.serial, served.serial);
    for wrong in [
        json!({"action": "rollback"}),
        json!({"action": "rollback", "name": "shop", "to": "04ab"}),
        json!({"action": "rollback", "name": 7}),
    ] {
        let answer = site.invoke(&wrong).await;
        assert!(answer.result.is_err(), "{wrong}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_to_another_type_of_key_switches_without_a_gap() {
    let cloud = LocalCloud::start().await;
    let (site, domain, first) = issued(&cloud, "shop").await;
    let mut document = site.document(&[&domain]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let rsa = arn(&pass, "shop");
    // By then the former ARN is gone.
    site.pass().await;
    assert_eq!(site.imported().await.len(), 2);

    let (back, states) = watched(&cloud, &site, site.invoke(&rollback())).await;
    let told = format!("{:#}", back.report());
    assert_ne!(back.outcome("shop"), "failed", "{told}");
    let ecdsa = arn(&back, "shop");
    assert_ne!(ecdsa, rsa, "{told}");
    let sni = |arns: &[&String]| Listed {
        default: site.placeholder.clone(),
        sni: arns.iter().map(|arn| (*arn).clone()).collect(),
    };
    let both = sni(&[&rsa, &ecdsa]);
    assert_eq!(states, [sni(&[&rsa]), both, sni(&[&ecdsa])]);
    let leaf = site.browser_trusts(&domain).await.unwrap();
    assert_eq!((leaf.key, &leaf.serial), ("ecdsa", &first.serial));

    // The document still says RSA: the rollback holds all the same.
    for _ in 0..3 {
        let kept = site.pass().await;
        assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    }
    let leaf = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(leaf.serial, first.serial);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;

    // And forward again, by its serial.
    let serial = pass.certificate("shop")["serial"].clone();
    let event = json!({"action": "rollback", "name": "shop", "serial": serial});
    let forth = site.invoke(&event).await;
    assert_ne!(forth.outcome("shop"), "failed", "{:#}", forth.report());
    let leaf = site.browser_trusts(&domain).await.unwrap();
    assert_eq!((leaf.key, json!(leaf.serial)), ("rsa", serial));
    site.pass().await;
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
    assert_eq!(evidence::asked(&cloud, &site, NEW_ORDER).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_survives_death_at_every_request() {
    let cloud = steady().await;
    survives(15, cloud, |cloud, death| async move {
        let label = death.label("back");
        // Every second run goes back to another key type.
        let switches = death.request % 2 == 0;
        let (site, domain, first) = issued(&cloud, &label).await;
        let site = Arc::new(site);
        if switches {
            let mut document = site.document(&[&domain]);
            document["keyType"] = json!("ecdsa-p384");
            site.put_document("shop", &document).await;
        }
        let pass = site.invoke(&forced()).await;
        assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
        let second = pass.certificate("shop")["serial"].clone();

        let visitor = Visitor::start(site.clone(), &domain);
        let killed = death.of_an_answer(&site, &rollback()).await;
        let context = &killed.context;
        let state = site.read_json("state/shop.json").await;
        let is_written = state["certificate"]["serial"] == first.serial;
        assert!(
            is_written || killed.died,
            "{context}: {:#}",
            killed.invocation.report()
        );
        passes_afterwards(&site, "shop", context).await;

        let served = site.browser_trusts(&domain).await.unwrap();
        let wanted = match is_written {
            true => json!(first.serial),
            false => second,
        };
        assert_eq!(json!(served.serial), wanted, "{context}");
        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        assert_eq!(evidence::orders(&cloud, &site), 2, "{context}");
        // A person who received no answer asks again.
        let again = later(AFTERWARDS);
        let again = site.invoke_with(&rollback(), again).await;
        let told = format!("{context}: {:#}", again.report());
        assert_eq!(again.certificate("shop")["serial"], first.serial, "{told}");
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial, first.serial, "{told}");
        visitor.stop().await;
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}
