//! Revocation of a certificate, and what is served afterwards.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::{Broken, Fault, Response};

use crate::evidence::{self, MINUTE, later};
use crate::interruption::{AFTERWARDS, Visitor, passes_afterwards, survives};
use crate::renewal_information::{HOUR, Run, in_parallel, issued, steady, to};

const REVOKE: &str = "/revoke-cert";
/// This many requests reach well beyond the revocation.
const REVOCATION: usize = 18;

fn revoke() -> Value {
    json!({"action": "revoke", "name": "shop"})
}

fn revoke_for(reason: &str) -> Value {
    json!({"action": "revoke", "name": "shop", "reason": reason})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_replaced_in_the_same_invocation() {
    let cloud = Arc::new(steady().await);
    // RFC 5280 section 5.3.1.
    let reasons = [
        (None, 0),
        (Some("unspecified"), 0),
        (Some("keyCompromise"), 1),
        (Some("affiliationChanged"), 3),
        (Some("superseded"), 4),
        (Some("cessationOfOperation"), 5),
    ];
    let numbered = reasons.into_iter().enumerate();
    let runs = numbered.map(|(number, (reason, code))| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let label = format!("reason-{number}");
            let (site, domain, leaf) = issued(&cloud, &label).await;
            assert_eq!(cloud.pebble().revoked(&leaf.serial).await, None);

            let event = reason.map_or_else(revoke, revoke_for);
            let pass = site.invoke(&event).await;

            let told = format!("{reason:?}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "renewed", "{told}");
            assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
            let revoked = cloud.pebble().revoked(&leaf.serial).await;
            assert_eq!(revoked, Some(code), "{told}");
            let new = site.browser_trusts(&domain).await.unwrap();
            assert_eq!(new.serial, pass.certificate("shop")["serial"], "{told}");
            assert_ne!(new.serial, leaf.serial, "{told}");
            assert_eq!(cloud.pebble().revoked(&new.serial).await, None);
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
            let kept = site.pass().await;
            assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
            assert_eq!(evidence::orders(&cloud, &site), 2, "{told}");

            // A rollback to it is impossible.
            for event in [
                json!({"action": "rollback", "name": "shop"}),
                json!({"action": "rollback", "name": "shop", "serial": leaf.serial}),
            ] {
                let refused = site.invoke(&event).await;
                let problem = &refused.certificate("shop")["problem"];
                assert_eq!(problem["type"], "certloop:noPrevious", "{problem}");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains("revoked"), "{detail}");
                let served = site.browser_trusts(&domain).await.unwrap();
                assert_eq!(served.serial, new.serial);
            }
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_before_can_be_revoked_by_its_serial_and_nothing_is_replaced() {
    let cloud = steady().await;
    let (site, domain, old) = issued(&cloud, "shop").await;
    let forced = json!({"action": "reconcile", "force": true});
    let pass = site.invoke(&forced).await;
    let serial = pass.certificate("shop")["serial"].clone();

    let event =
        json!({"action": "revoke", "name": "shop", "serial": old.serial, "reason": "superseded"});
    for _ in 0..2 {
        let pass = site.invoke(&event).await;
        let told = pass.certificate("shop");
        assert_ne!(told["outcome"], "failed", "{told:#}");
        assert_eq!(told["serial"], serial, "{told:#}");
    }
    assert_eq!(cloud.pebble().revoked(&old.serial).await, Some(4));
    assert_eq!(evidence::asked(&cloud, &site, REVOKE).len(), 1);
    assert_eq!(evidence::orders(&cloud, &site), 2);
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(json!(served.serial), serial);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;

    let event = json!({"action": "revoke", "name": "shop", "serial": "04abcdef"});
    let refused = site.invoke(&event).await;
    let told = refused.certificate("shop");
    assert_eq!(told["outcome"], "failed", "{told:#}");
    assert_eq!(told["problem"]["retry"], "never", "{told:#}");
    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_revoked_is_refused_by_the_name_of_the_field() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    for (event, word) in [
        (revoke_for("boredom"), "reason"),
        // A reason that a subscriber may not give (RFC 5280 section 5.3.1).
        (revoke_for("cACompromise"), "reason"),
        (
            json!({"action": "revoke", "name": "shop", "reason": 1}),
            "reason",
        ),
        (
            json!({"action": "revoke", "name": "shop", "force": true}),
            "force",
        ),
        (json!({"action": "revoke"}), "name"),
    ] {
        let answer = site.invoke(&event).await;
        let error = answer.result.clone().unwrap_err();
        assert!(error.message.contains(word), "{event}: {error}");
        assert_eq!(answer.count(|sent| sent.is_acme("/")), 0, "{event}");
    }
    site.want("club", &["club.example.com"]).await;
    let event = json!({"action": "revoke", "name": "club"});
    let refused = site.invoke(&event).await;
    let told = refused.certificate("club");
    assert_eq!(
        told["problem"]["type"], "certloop:noCertificate",
        "{told:#}"
    );
    assert_eq!(evidence::asked(&cloud, &site, REVOKE).len(), 0);
    assert_eq!(cloud.pebble().revoked(&leaf.serial).await, None);
    assert!(site.browser_trusts(&domain).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_does_not_get_through_is_finished_by_later_passes() {
    let cloud = Arc::new(steady().await);
    let runs = ["closed", "busy", "redirected", "unheard"].map(|way| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, leaf) = issued(&cloud, way).await;
            let busy = || Response::new(503, "busy").with("Retry-After", "60");
            match way {
                "closed" => {
                    cloud
                        .to_acme()
                        .break_connections(&site.renew, Broken::Closed);
                }
                "busy" => {
                    let fault = Fault::when(to(&site, REVOKE)).always().labelled(way);
                    cloud.to_acme().inject(fault.answer(busy()));
                }
                // A redirect is no success: nothing was revoked.
                "redirected" => {
                    let moved = Response::new(308, "").with("Location", "/elsewhere");
                    let fault = Fault::when(to(&site, REVOKE)).always().labelled(way);
                    cloud.to_acme().inject(fault.answer(moved));
                }
                // The authority has revoked it, and the answer is lost: later it answers
                // alreadyRevoked.
                _ => {
                    let fault = Fault::when(to(&site, REVOKE));
                    cloud.to_acme().inject(fault.swallow(busy()));
                }
            }
            // A new process, which has no open connection.
            let event = revoke_for("keyCompromise");
            let asked = site.invoke_with(&event, later(MINUTE)).await;
            let told = format!("{way}: {:#}", asked.report());
            assert_eq!(asked.outcome("shop"), "failed", "{told}");
            assert!(site.browser_trusts(&domain).await.is_ok(), "{told}");
            let state = site.read_json("state/shop.json").await;
            assert_eq!(state["revoking"][0]["serial"], leaf.serial, "{state:#}");
            let status = site.invoke(&json!({"action": "status"})).await;
            let shown = &status.report()["certificates"][0];
            assert_eq!(shown["revoking"], json!([leaf.serial]), "{shown:#}");
            // Not before the next attempt is due.
            let early = site.pass_with(later(MINUTE)).await;
            let told = format!("{way}: {:#}", early.report());
            assert_eq!(early.outcome("shop"), "waiting", "{told}");
            assert_eq!(early.count(|sent| sent.is_acme(REVOKE)), 0, "{told}");

            cloud.to_acme().mend_connections(&site.renew);
            cloud.to_acme().heal_labelled(way);
            let pass = site.pass_with(later(3 * MINUTE)).await;
            let told = format!("{way}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "renewed", "{told}");
            assert_eq!(cloud.pebble().revoked(&leaf.serial).await, Some(1));
            let new = site.browser_trusts(&domain).await.unwrap();
            assert_eq!(new.serial, pass.certificate("shop")["serial"], "{told}");
            assert_eq!(cloud.pebble().revoked(&new.serial).await, None);
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
            let kept = site.pass_with(later(3 * MINUTE)).await;
            assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
            assert_eq!(evidence::orders(&cloud, &site), 2, "{told}");
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_survives_death_at_every_request() {
    let cloud = steady().await;
    survives(30, cloud, |cloud, death| async move {
        // The order of its successor is the same as any other: these requests are skipped.
        if death.request > REVOCATION {
            return false;
        }
        let label = death.label("revoked");
        let (site, domain, old) = issued(&cloud, &label).await;
        let site = Arc::new(site);
        let visitor = Visitor::start(site.clone(), &domain);
        let killed = death.of_an_answer(&site, &revoke_for("superseded")).await;
        let context = &killed.context;
        let state = site.read_json("state/shop.json").await;
        let is_written = state["revoking"][0]["serial"] == old.serial
            || state["certificate"]["revokedAt"].is_string()
            || state["certificate"]["serial"] != old.serial;
        assert!(
            is_written || killed.died,
            "{context}: {:#}",
            killed.invocation.report()
        );
        passes_afterwards(&site, "shop", context).await;

        let revoked = cloud.pebble().revoked(&old.serial).await;
        let held = match is_written {
            true => {
                assert_eq!(revoked, Some(4), "{context}");
                2
            }
            false => {
                assert_eq!(revoked, None, "{context}");
                1
            }
        };
        evidence::assert_at_rest(&cloud, &site, "shop", &domain, held).await;
        assert_eq!(evidence::issued(&cloud, &site), held, "{context}");
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial != old.serial, is_written, "{context}");
        // A person who received no answer asks again, by the serial.
        let again = json!({"action": "revoke", "name": "shop", "serial": old.serial});
        let again = site.invoke_with(&again, later(AFTERWARDS)).await;
        let told = format!("{context}: {:#}", again.report());
        assert_ne!(again.outcome("shop"), "failed", "{told}");
        assert!(cloud.pebble().revoked(&old.serial).await.is_some());
        assert_eq!(evidence::issued(&cloud, &site), 2, "{told}");
        visitor.stop().await;
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_are_revoked_where_two_were_asked_for() {
    let cloud = steady().await;
    let (site, domain, first) = issued(&cloud, "shop").await;
    let forced = json!({"action": "reconcile", "force": true});
    site.invoke(&forced).await;
    let second = site.browser_trusts(&domain).await.unwrap();
    let busy = Response::new(503, "busy").with("Retry-After", "600");
    let fault = Fault::when(to(&site, REVOKE)).always().labelled("busy");
    cloud.to_acme().inject(fault.answer(busy));

    for serial in [&second.serial, &first.serial, &second.serial] {
        let event = json!({"action": "revoke", "name": "shop", "serial": serial});
        let asked = site.invoke(&event).await;
        assert_ne!(asked.outcome("shop"), "kept", "{:#}", asked.report());
    }
    // The authority's wait is respected, even if the revocation is asked for again and again.
    assert_eq!(evidence::asked(&cloud, &site, REVOKE).len(), 2);
    let status = site.invoke(&json!({"action": "status"})).await;
    let shown = &status.report()["certificates"][0]["revoking"];
    assert_eq!(*shown, json!([second.serial, first.serial]));

    cloud.to_acme().heal_labelled("busy");
    let pass = site.pass_with(later(11 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    for serial in [&first.serial, &second.serial] {
        assert_eq!(cloud.pebble().revoked(serial).await, Some(0));
    }
    assert!(site.browser_trusts(&domain).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_certificate_that_is_revoked_is_a_problem() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let mut document = site.document(&[&domain]);
    document["paused"] = json!(true);
    site.put_document("shop", &document).await;

    let revoked = site.invoke(&revoke()).await;
    assert_eq!(cloud.pebble().revoked(&leaf.serial).await, Some(0));
    for pass in [revoked, site.pass().await] {
        let told = pass.certificate("shop");
        assert_eq!(told["problem"]["type"], "certloop:revoked", "{told:#}");
        assert_eq!(told["problem"]["retry"], "person", "{told:#}");
    }
    document["paused"] = json!(false);
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_never_put_back() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let mut settings = site.settings();
    settings["proof"] = json!({"mode": "require", "connectTo": "127.0.0.9:1", "seconds": 1});
    site.put_settings(&settings).await;

    let revoked = site.invoke(&revoke_for("keyCompromise")).await;
    let told = revoked.certificate("shop");
    assert_eq!(told["problem"]["type"], "certloop:unproved", "{told:#}");
    let served = site.browser_trusts(&domain).await.unwrap().serial;
    assert_ne!(served, leaf.serial, "{told:#}");
    for clock in [2 * MINUTE, 20 * MINUTE] {
        site.pass_with(later(clock)).await;
        assert_eq!(site.browser_trusts(&domain).await.unwrap().serial, served);
    }
    site.put_settings(&site.settings()).await;
    let pass = site.pass_with(later(5 * HOUR)).await;
    assert_eq!(pass.certificate("shop")["problem"], json!(null));
    assert_eq!(site.browser_trusts(&domain).await.unwrap().serial, served);
}
