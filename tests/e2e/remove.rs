//! Removal: what goes, what stays, and certificates whose document is gone.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud, Response};

use crate::evidence::{self, DAY, MINUTE, later};
use crate::helpers::{acme, arn, changing, describe, import_foreign, with};
use crate::interruption::{AFTERWARDS, survives};
use crate::renewal_information::{HOUR, issued, steady, to};

fn remove() -> Value {
    json!({"action": "remove", "name": "shop"})
}

/// Whether a report has an entry of this name.
fn tells_of(pass: &Invocation, name: &str) -> bool {
    let entries = pass.report()["certificates"].as_array().unwrap();
    entries.iter().any(|entry| entry["name"] == name)
}

/// Asserts that nothing of `shop` is left in AWS, nor of a pending order.
async fn assert_gone(cloud: &LocalCloud, site: &Installation, domain: &str, context: &str) {
    let ours = evidence::ours(cloud, site, "shop", domain).await;
    assert!(ours.is_empty(), "{context}: {ours:?}");
    let there = site.read("certificates/shop.json").await;
    assert!(there.is_none(), "{context}: the document is there");
    let tokens = site.keys("challenges/").await;
    assert!(tokens.is_empty(), "{context}: {tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_certificate_is_taken_off_then_deleted_and_forgotten_a_week_later() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let settings = with(site.settings(), "limits", "overlapSeconds", 3600);
    site.put_settings(&settings).await;
    let foreign = import_foreign(&cloud, &[&domain, "www.example.com"]).await;
    site.add_to_listener(&foreign).await;
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass().await;
    let (ours, others) = (arn(&pass, "shop"), arn(&pass, "blog"));

    let removed = site.invoke(&remove()).await;

    let told = removed.certificate("shop");
    assert_eq!(told["outcome"], "removed", "{told:#}");
    assert_eq!(told["problem"], Value::Null, "{told:#}");
    assert_eq!(removed.report()["summary"]["removed"], 1);
    assert_eq!(removed.count(acme), 0);
    let listed = site.listed().await;
    assert_eq!(listed.default, site.placeholder);
    assert_eq!(listed.sni, [foreign.clone(), others.clone()].into());
    assert!(site.read("certificates/shop.json").await.is_none());
    assert!(describe(&cloud, &ours).await.is_some(), "the overlap");

    // Reported once: later passes complete the rest without a report.
    for clock in [Duration::ZERO, 10 * MINUTE] {
        let pass = site.pass_with(later(clock)).await;
        assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
        assert_eq!(pass.outcome("blog"), "kept", "{:#}", pass.report());
        assert_eq!(pass.count(changing), 0, "{:#?}", pass.requests);
        assert!(describe(&cloud, &ours).await.is_some(), "the overlap");
    }
    let pass = site.pass_with(later(2 * HOUR)).await;
    assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
    assert_gone(&cloud, &site, &domain, "two hours later").await;
    assert!(describe(&cloud, &ours).await.is_none());
    let vault = vec![format!("vault/shop/{}.json", leaf.serial)];
    for clock in [2 * HOUR, 6 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
        assert_eq!(site.keys("vault/shop/").await, vault);
        assert_eq!(site.keys("state/shop.json").await.len(), 1);
    }
    let pass = site.pass_with(later(8 * DAY)).await;
    assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
    assert!(site.keys("vault/shop/").await.is_empty());
    assert!(site.keys("state/shop.json").await.is_empty());

    for arn in [&foreign, &others, &site.placeholder] {
        assert!(describe(&cloud, arn).await.is_some(), "{arn}");
    }
    assert!(site.browser_trusts("blog.example.com").await.is_ok());
    let again = site.invoke(&remove()).await;
    let told = again.certificate("shop");
    assert_eq!(told["problem"]["type"], "certloop:unknownCertificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_twice_is_asking_once_and_a_new_document_ends_it() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    for clock in [Duration::ZERO, MINUTE, 2 * MINUTE] {
        let removed = site.invoke_with(&remove(), later(clock)).await;
        let told = removed.certificate("shop");
        assert_eq!(told["outcome"], "removed", "{told:#}");
        assert!(site.browser_trusts(&domain).await.is_err());
    }
    assert_gone(&cloud, &site, &domain, "three times").await;

    site.want("shop", &[&domain]).await;
    let back = site.pass_with(later(3 * MINUTE)).await;
    assert_eq!(back.outcome("shop"), "deployed", "{:#}", back.report());
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, leaf.serial, "from the vault");
    assert_eq!(evidence::orders(&cloud, &site), 1);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
    // The week is over, and the removal is forgotten.
    let kept = site.pass_with(later(8 * DAY)).await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;

    // Removed, forgotten, and started again.
    for clock in [8 * DAY, 8 * DAY + MINUTE, 16 * DAY] {
        site.invoke_with(&remove(), later(clock)).await;
    }
    site.pass_with(later(16 * DAY)).await;
    assert!(site.keys("state/").await.is_empty());
    site.want("shop", &[&domain]).await;
    let pass = site.pass_with(later(16 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert!(site.browser_trusts(&domain).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_document_put_again_after_a_death_is_a_new_one() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let document = site.read_json("certificates/shop.json").await;
    // The pass deletes the document and cannot write that down.
    let is_state = |sent: &tests::Sent| sent.call == "PutObject state/shop.json";
    let lost = Fault::when(is_state).after(1).always().labelled("lost");
    cloud.to_aws().inject(lost.hang_up());
    site.invoke(&remove()).await;
    cloud.to_aws().heal_labelled("lost");
    assert!(site.read("certificates/shop.json").await.is_none());
    // The bucket tells whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    site.put_document("shop", &document).await;
    for clock in [AFTERWARDS, 2 * AFTERWARDS] {
        site.pass_with(later(clock)).await;
    }

    assert!(site.read("certificates/shop.json").await.is_some());
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, leaf.serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_where_a_removal_stands() {
    let cloud = steady().await;
    let (site, _, _) = issued(&cloud, "shop").await;
    site.invoke(&remove()).await;

    let asked = json!({"action": "status", "certificates": ["shop"]});
    let status = site.invoke(&asked).await;

    let target = &status.report()["certificates"][0]["targets"][0];
    assert_eq!(target["arn"], json!(site.listener), "{target:#}");
    assert_eq!(target["state"], "detached", "{target:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_stays_until_somebody_chooses_another() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let domain = "shop.example.com";
    let mut document = site.document(&[domain]);
    document["targets"][0]["as"] = json!("default");
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let ours = arn(&pass, "shop");
    assert_eq!(site.listed().await.default, ours);

    let mut asked = vec![site.invoke(&remove()).await];
    for clock in [DAY, 10 * DAY] {
        asked.push(site.pass_with(later(clock)).await);
    }
    for pass in &asked {
        let told = pass.certificate("shop");
        assert_eq!(told["problem"]["type"], "certloop:stillDefault", "{told:#}");
        assert_eq!(told["problem"]["retry"], "person", "{told:#}");
        let detail = told["problem"]["detail"].as_str().unwrap();
        // The listener, or later the load balancer: the certificate manager names the latter as the
        // user.
        let where_from = [&site.listener, &site.balancer];
        assert!(
            where_from.iter().any(|arn| detail.contains(*arn)),
            "{detail}"
        );
    }
    assert_eq!(site.listed().await.default, ours);
    assert!(site.browser_trusts(domain).await.is_ok());
    assert!(site.read("certificates/shop.json").await.is_none());
    // Nothing of it is deleted while it is served.
    assert_eq!(site.keys("vault/shop/").await.len(), 1);

    // A person sets another default, and may leave ours in the list.
    site.set_default(&site.placeholder).await;
    site.add_to_listener(&ours).await;
    for clock in [11 * DAY, 12 * DAY, 20 * DAY] {
        site.pass_with(later(clock)).await;
    }
    assert!(describe(&cloud, &ours).await.is_none());
    assert_eq!(site.listed().await.default, site.placeholder);
    assert!(site.keys("state/").await.is_empty());
    assert!(site.keys("vault/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_issued_can_be_removed_as_well() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    // No pass has looked at it yet.
    site.want("shop", &["shop.example.com"]).await;
    let removed = site.invoke(&remove()).await;
    assert_eq!(removed.outcome("shop"), "removed", "{:#}", removed.report());
    assert!(site.read("certificates/shop.json").await.is_none());
    // An order is pending.
    site.want("shop", &["lost.example.com"]).await;
    let dns = cloud.dns();
    dns.lead_only("lost.example.com", &["127.0.0.9".parse().unwrap()])
        .await;
    let plan = later(Duration::ZERO).killed_at(20, tests::Moment::After);
    let died = site.pass_with(plan).await;
    assert!(died.result.is_err(), "{died:?}");
    let removed = site.invoke_with(&remove(), later(AFTERWARDS)).await;
    assert_eq!(removed.outcome("shop"), "removed", "{:#}", removed.report());
    assert_gone(&cloud, &site, "lost.example.com", "pending order").await;
    for clock in [HOUR, 9 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
        assert_eq!(pass.count(acme), 0, "{:#}", pass.report());
    }
    assert!(site.keys("state/").await.is_empty());
    assert!(site.keys("vault/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_served_on_and_reported_or_removed() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());

    site.delete("certificates/shop.json").await;
    // Also when a renewal would be due.
    for clock in [Duration::ZERO, 61 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        let told = pass.certificate("shop");
        assert_eq!(told["outcome"], "kept", "{told:#}");
        assert_eq!(told["problem"]["type"], "certloop:orphan", "{told:#}");
        assert_eq!(told["problem"]["retry"], "person", "{told:#}");
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial, leaf.serial);
    }
    assert_eq!(evidence::orders(&cloud, &site), 3, "and blog's renewal");
    // A pass over others does not mention it.
    let some = json!({"action": "reconcile", "certificates": ["blog"]});
    let pass = site.invoke(&some).await;
    assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
    let status = site.invoke(&json!({"action": "status"})).await;
    assert_eq!(status.report()["orphans"], json!(["shop"]));

    let mut settings = site.settings();
    settings["orphans"] = "remove".into();
    site.put_settings(&settings).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "removed", "{:#}", pass.report());
    assert!(site.browser_trusts(&domain).await.is_err());
    let pass = site.pass_with(later(MINUTE)).await;
    assert!(!tells_of(&pass, "shop"), "{:#}", pass.report());
    assert_gone(&cloud, &site, &domain, "an orphan").await;
    assert!(site.browser_trusts("blog.example.com").await.is_ok());
    let status = site.invoke(&json!({"action": "status"})).await;
    assert_eq!(status.report()["orphans"], json!([]), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_without_targets_is_kept_and_reported_as_well() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let mut document = site.document(&["shop.example.com"]);
    document["targets"] = json!([]);
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let vault = site.keys("vault/shop/").await;

    site.delete("certificates/shop.json").await;
    for clock in [Duration::ZERO, 9 * DAY, 18 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        let told = pass.certificate("shop");
        assert_eq!(told["problem"]["type"], "certloop:orphan", "{told:#}");
        assert_eq!(site.keys("vault/shop/").await, vault);
    }
    let status = json!({"action": "status", "certificates": ["shop"]});
    let shown = site.invoke(&status).await.report()["certificates"][0].clone();
    assert_eq!(shown["problem"]["type"], "certloop:orphan", "{shown:#}");

    let mut settings = site.settings();
    settings["orphans"] = "remove".into();
    site.put_settings(&settings).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "removed", "{:#}", pass.report());
    assert_eq!(site.keys("vault/shop/").await, vault);
    site.pass_with(later(9 * DAY)).await;
    assert!(site.keys("vault/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_revoked_is_revoked_before_it_is_forgotten() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let busy = Response::new(503, "busy").with("Retry-After", "600");
    let fault = Fault::when(to(&site, "/revoke-cert"))
        .always()
        .labelled("busy");
    cloud.to_acme().inject(fault.answer(busy));
    let revoke = json!({"action": "revoke", "name": "shop", "reason": "keyCompromise"});
    let asked = site.invoke(&revoke).await;
    assert_eq!(asked.outcome("shop"), "failed", "{:#}", asked.report());

    let removed = site.invoke(&remove()).await;
    assert_eq!(removed.outcome("shop"), "removed", "{:#}", removed.report());
    assert!(site.browser_trusts(&domain).await.is_err());
    let status = site
        .invoke(&json!({"action": "status", "certificates": ["shop"]}))
        .await;
    let shown = &status.report()["certificates"][0];
    assert_eq!(shown["revoking"], json!([leaf.serial]), "{shown:#}");
    cloud.to_acme().heal_labelled("busy");
    site.pass_with(later(11 * MINUTE)).await;
    assert_eq!(cloud.pebble().revoked(&leaf.serial).await, Some(1));
    site.pass_with(later(9 * DAY)).await;
    site.pass_with(later(9 * DAY)).await;
    assert!(site.keys("state/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_whose_revocation_fails_stays_where_it_is() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let busy = Response::new(503, "busy").with("Retry-After", "600");
    let fault = Fault::when(to(&site, "/revoke-cert")).always();
    cloud.to_acme().inject(fault.answer(busy));
    let revoke = json!({"action": "revoke", "name": "shop", "reason": "keyCompromise"});
    let asked = site.invoke(&revoke).await;
    assert_eq!(asked.outcome("shop"), "failed", "{:#}", asked.report());

    site.delete("certificates/shop.json").await;

    for minutes in [11, 30] {
        let pass = site.pass_with(later(minutes * MINUTE)).await;
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial, leaf.serial, "{:#}", pass.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_survives_death_at_every_request() {
    let cloud = steady().await;
    survives(15, cloud, |cloud, death| async move {
        let label = death.label("removed");
        let (site, domain, leaf) = issued(&cloud, &label).await;
        let foreign = import_foreign(&cloud, &["foreign.example.net"]).await;
        site.add_to_listener(&foreign).await;

        let killed = death.of_an_answer(&site, &remove()).await;
        let context = &killed.context;
        let state = site.read_json("state/shop.json").await;
        let is_written = state["removing"].is_object();
        assert!(
            is_written || killed.died,
            "{context}: {:#}",
            killed.invocation.report()
        );
        let mut last = usize::MAX;
        for round in 0..4 {
            let clock = AFTERWARDS + round * MINUTE;
            let pass = site.pass_with(later(clock)).await;
            let told = format!("{context}: {:#}", pass.report());
            assert_eq!(pass.report()["summary"]["failed"], 0, "{told}");
            assert_eq!(pass.report()["summary"]["waiting"], 0, "{told}");
            last = evidence::writes(&pass).len();
        }
        assert_eq!(last, 0, "{context}: no pass is the last one");
        if is_written {
            assert_gone(&cloud, &site, &domain, context).await;
            let vault = format!("vault/shop/{}.json", leaf.serial);
            assert_eq!(site.keys("vault/").await, [vault], "{context}");
        } else {
            let served = site.browser_trusts(&domain).await.unwrap();
            assert_eq!(served.serial, leaf.serial, "{context}");
            let removed = site.invoke_with(&remove(), later(HOUR)).await;
            let told = format!("{context}: {:#}", removed.report());
            assert_eq!(removed.outcome("shop"), "removed", "{told}");
        }
        assert_eq!(site.listed().await.sni, [foreign.clone()].into());
        for clock in [9 * DAY, 9 * DAY + MINUTE] {
            site.pass_with(later(clock)).await;
        }
        for prefix in ["state/", "vault/", "certificates/", "challenges/"] {
            let keys = site.keys(prefix).await;
            assert!(keys.is_empty(), "{context}: {keys:?}");
        }
        assert!(describe(&cloud, &foreign).await.is_some(), "{context}");
        assert_eq!(evidence::orders(&cloud, &site), 1, "{context}");
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}
