//! Rule 12 and actions of people: revoke, roll back, renew by force, pause.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Installation, Invocation, Leaf, LocalCloud};
use time::OffsetDateTime;

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, instant, later};
use crate::helpers::{
    arn, assert_person, importing, refuse_to_add, shown, take_more_certificates, text,
};
use crate::renewal_information::{HOUR, issued, steady};

const FULL: &str = "certloop:listenerFull";

fn forced() -> Value {
    json!({"action": "reconcile", "force": true})
}

fn new_orders(pass: &Invocation) -> usize {
    pass.count(|sent| sent.is_acme(NEW_ORDER))
}

/// One certificate is served. Others were issued after it and never reached the listener.
struct Stuck {
    cloud: LocalCloud,
    site: Installation,
    domain: String,
    served: Leaf,
    /// Serials, oldest first: the last one should be served.
    never_served: Vec<String>,
}

impl Stuck {
    /// Edits the key type; the listener accepts no more certificates.
    async fn on_a_full_listener() -> Self {
        Self::behind("TooManyCertificates", &["rsa-2048"]).await
    }

    /// Edits the key type twice; the listeners may not be changed.
    async fn twice() -> Self {
        // For a full listener, certloop knows that another order is useless.
        Self::behind("AccessDenied", &["rsa-2048", "ecdsa-p384"]).await
    }

    async fn behind(refusal: &str, key_types: &[&str]) -> Self {
        let cloud = steady().await;
        let (site, domain, served) = issued(&cloud, "shop").await;
        refuse_to_add(&cloud, refusal).await;
        let mut never_served = Vec::new();
        for (number, key_type) in key_types.iter().enumerate() {
            let mut document = site.document(&[&domain]);
            document["keyType"] = json!(key_type);
            site.put_document("shop", &document).await;
            let number = u32::try_from(number).unwrap();
            let pass = site.pass_with(later(number * 3 * HOUR)).await;
            let problem = &pass.certificate("shop")["problem"];
            assert_eq!(problem["retry"], "person", "{:#}", pass.report());
            let serial = text(&pass, "shop", "serial");
            assert_ne!(serial, served.serial, "{:#}", pass.report());
            assert!(!never_served.contains(&serial), "{:#}", pass.report());
            never_served.push(serial);
        }
        let this = Self {
            cloud,
            site,
            domain,
            served,
            never_served,
        };
        this.assert_serves_the_first().await;
        this
    }

    async fn assert_serves_the_first(&self) {
        let seen = self.site.browser_trusts(&self.domain).await.unwrap();
        assert_eq!(seen.serial, self.served.serial);
    }

    async fn revoked(&self, serial: &str) -> Option<u64> {
        self.cloud.pebble().revoked(serial).await
    }

    async fn status(&self, clock: Duration) -> Value {
        let status = json!({"action": "status", "certificates": ["shop"]});
        shown(&self.site.invoke_with(&status, later(clock)).await, "shop")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_without_a_serial_revokes_what_is_served() {
    let stuck = Stuck::on_a_full_listener().await;
    let event = json!({"action": "revoke", "name": "shop", "reason": "keyCompromise"});

    let pass = stuck.site.invoke(&event).await;

    let told = format!("{:#}", pass.report());
    assert_eq!(
        stuck.revoked(&stuck.served.serial).await,
        Some(1),
        "the served one is revoked\n{told}"
    );
    let ready = &stuck.never_served[0];
    assert_eq!(
        stuck.revoked(ready).await,
        None,
        "its key is not compromised\n{told}"
    );
    let entry = pass.certificate("shop").to_string();
    assert!(entry.contains(&stuck.served.serial), "{told}");
    assert!(entry.contains("revoked"), "{told}");
    assert!(
        entry.contains(ready.as_str()),
        "the answer has its fate as well\n{told}"
    );
    assert_eq!(new_orders(&pass), 0, "the replacement is there\n{told}");

    take_more_certificates(&stuck.cloud).await;
    let pass = stuck.site.pass_with(later(2 * HOUR)).await;
    let seen = stuck.site.browser_trusts(&stuck.domain).await.unwrap();
    assert_eq!(seen.serial, *ready, "{:#}", pass.report());
    assert_eq!(
        pass.certificate("shop")["problem"],
        Value::Null,
        "{:#}",
        pass.report()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_revoked_however_many_were_issued_since() {
    let stuck = Stuck::twice().await;
    let event = json!({"action": "revoke", "name": "shop", "reason": "keyCompromise"});

    let pass = stuck.site.invoke_with(&event, later(4 * HOUR)).await;

    let told = format!("{:#}", pass.report());
    assert_eq!(
        stuck.revoked(&stuck.served.serial).await,
        Some(1),
        "the served one is revoked\n{told}"
    );
    for serial in &stuck.never_served {
        assert_eq!(stuck.revoked(serial).await, None, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_serial_that_is_held_can_be_revoked() {
    let stuck = Stuck::twice().await;
    // A superseded certificate that was never served is still there.
    let mut settings = stuck.site.settings();
    settings["limits"]["overlapSeconds"] = json!(86_400);
    stuck.site.put_settings(&settings).await;
    let mut serials = vec![stuck.served.serial.clone()];
    serials.extend(stuck.never_served.iter().cloned());
    for serial in &serials {
        let event = json!({
            "action": "revoke", "name": "shop", "serial": serial, "reason": "superseded",
        });
        let pass = stuck.site.invoke_with(&event, later(4 * HOUR)).await;
        let told = format!("{serial}: {:#}", pass.report());
        assert_eq!(stuck.revoked(serial).await, Some(4), "{told}");
        assert!(pass.certificate("shop").to_string().contains(serial));
    }
    let nobodys = json!({"action": "revoke", "name": "shop", "serial": "04abcdef"});
    let refused = stuck.site.invoke_with(&nobodys, later(4 * HOUR)).await;
    let problem = &refused.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:noCertificate", "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_key_is_lost_can_be_revoked_while_the_certificate_manager_holds_it() {
    let cloud = steady().await;
    let (site, _, served) = issued(&cloud, "shop").await;
    site.delete(&format!("vault/shop/{}.json", served.serial))
        .await;
    let event = json!({
        "action": "revoke", "name": "shop", "serial": served.serial, "reason": "keyCompromise",
    });

    let pass = site.invoke(&event).await;

    let revoked = cloud.pebble().revoked(&served.serial).await;
    assert_eq!(revoked, Some(1), "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_leads_to_the_last_one_that_was_served() {
    let stuck = Stuck::twice().await;
    let event = json!({"action": "rollback", "name": "shop"});

    let back = stuck.site.invoke_with(&event, later(4 * HOUR)).await;

    let told = back.certificate("shop");
    assert_ne!(told["outcome"], "failed", "{told:#}");
    assert_eq!(told["problem"], Value::Null, "{told:#}");
    assert_eq!(told["serial"], stuck.served.serial, "{told:#}");
    stuck.assert_serves_the_first().await;
    let status = stuck.status(4 * HOUR).await;
    assert_eq!(status["serial"], stuck.served.serial, "{status:#}");
    assert_eq!(
        status["served"]["serial"], stuck.served.serial,
        "{status:#}"
    );

    // The rollback still holds when there is room again.
    take_more_certificates(&stuck.cloud).await;
    let orders = evidence::orders(&stuck.cloud, &stuck.site);
    for clock in [4 * HOUR, 30 * HOUR] {
        let kept = stuck.site.pass_with(later(clock)).await;
        let told = kept.certificate("shop");
        assert_eq!(told["problem"], Value::Null, "{told:#}");
        assert_eq!(told["serial"], stuck.served.serial, "{told:#}");
        stuck.assert_serves_the_first().await;
    }
    assert_eq!(evidence::orders(&stuck.cloud, &stuck.site), orders);
}

/// A regression test: this holds today.
#[tokio::test(flavor = "multi_thread")]
async fn going_back_from_one_that_was_never_served_keeps_what_is_served() {
    let stuck = Stuck::on_a_full_listener().await;
    let event = json!({"action": "rollback", "name": "shop"});
    for _ in 0..2 {
        let back = stuck.site.invoke(&event).await;
        let told = back.certificate("shop");
        assert_ne!(told["outcome"], "failed", "{told:#}");
        assert_eq!(told["serial"], stuck.served.serial, "{told:#}");
        stuck.assert_serves_the_first().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_that_is_still_served_is_a_problem() {
    let stuck = Stuck::on_a_full_listener().await;
    let serial = &stuck.served.serial;
    let event = json!({
        "action": "revoke", "name": "shop", "serial": serial, "reason": "keyCompromise",
    });
    stuck.site.invoke(&event).await;
    assert_eq!(stuck.revoked(serial).await, Some(1));
    stuck.assert_serves_the_first().await;

    for clock in [Duration::ZERO, 2 * HOUR] {
        let pass = stuck.site.pass_with(later(clock)).await;
        let status = stuck.status(clock).await;
        let problem = &status["problem"];
        assert_eq!(problem["type"], "certloop:revoked", "{status:#}");
        assert_eq!(problem["retry"], "person", "{status:#}");
        let detail = problem["detail"].as_str().unwrap();
        for word in [serial.as_str(), stuck.site.listener.as_str()] {
            assert!(detail.contains(word), "no {word:?} in {detail:?}");
        }
        assert_eq!(status["served"]["serial"], *serial, "{status:#}");
        let told = pass.certificate("shop").to_string();
        assert!(told.contains("revoked"), "{told}");
    }
    take_more_certificates(&stuck.cloud).await;
    stuck.site.pass_with(later(5 * HOUR)).await;
    let status = stuck.status(5 * HOUR).await;
    assert_eq!(status["problem"], Value::Null, "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn force_deploys_what_is_not_deployed_yet_and_orders_nothing() {
    let stuck = Stuck::on_a_full_listener().await;
    let orders = evidence::orders(&stuck.cloud, &stuck.site);
    for _ in 0..3 {
        let pass = stuck.site.invoke(&forced()).await;
        assert_eq!(new_orders(&pass), 0, "{:#}", pass.report());
        assert_person(&pass, "shop", FULL, &[]);
    }

    take_more_certificates(&stuck.cloud).await;
    let pass = stuck.site.invoke(&forced()).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "deployed", "{told}");
    let reason = text(&pass, "shop", "reason").to_lowercase();
    assert!(
        reason.contains("deploy") && reason.contains("reissue"),
        "the reason says what was done and how to order anyway: {reason}"
    );
    assert_eq!(
        evidence::orders(&stuck.cloud, &stuck.site),
        orders,
        "{told}"
    );
    let seen = stuck.site.browser_trusts(&stuck.domain).await.unwrap();
    assert_eq!(seen.serial, stuck.never_served[0], "{told}");
    // The deployed certificate is renewed.
    let pass = stuck.site.invoke(&forced()).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(new_orders(&pass), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_word_orders_in_any_case() {
    let stuck = Stuck::on_a_full_listener().await;
    take_more_certificates(&stuck.cloud).await;
    let event = json!({"action": "reconcile", "force": true, "reissue": true});
    let pass = stuck.site.invoke(&event).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "renewed", "{told}");
    assert_eq!(new_orders(&pass), 1, "{told}");
    let seen = stuck.site.browser_trusts(&stuck.domain).await.unwrap();
    assert!(!stuck.never_served.contains(&seen.serial), "{told}");
    assert_ne!(seen.serial, stuck.served.serial, "{told}");
}

/// Asserts that the next attempt is at most a minute away, or not later than before.
#[track_caller]
fn assert_soon(pass: &Invocation, before: OffsetDateTime) {
    let told = pass.certificate("shop");
    let next = instant(&told["nextAttempt"]);
    let in_a_minute = OffsetDateTime::now_utc() + time::Duration::seconds(70);
    let limit = in_a_minute.max(before + time::Duration::seconds(1));
    assert!(next <= limit, "{next} is later than {limit}: {told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_tried_by_hand_do_not_put_off_the_next_attempt() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    cloud.to_acme().down().await;
    let failed = site.pass().await;
    assert_eq!(failed.outcome("shop"), "failed", "{:#}", failed.report());
    let before = instant(&failed.certificate("shop")["nextAttempt"]);
    for _ in 0..3 {
        let pass = site.invoke(&forced()).await;
        assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
        assert_soon(&pass, before);
    }
    cloud.to_acme().up().await;
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
}

/// Today each attempt places a new order, and so restarts the ladder.
#[tokio::test(flavor = "multi_thread")]
async fn deployments_tried_by_hand_do_not_put_off_the_next_attempt() {
    let stuck = Stuck::on_a_full_listener().await;
    let waiting = stuck.site.pass().await;
    let before = instant(&waiting.certificate("shop")["nextAttempt"]);
    for _ in 0..3 {
        let pass = stuck.site.invoke(&forced()).await;
        assert_soon(&pass, before);
    }
    take_more_certificates(&stuck.cloud).await;
    let pass = stuck.site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "deployed", "{:#}", pass.report());
}

/// A certificate whose key type was edited, and that was rolled back afterwards.
async fn brought_back(cloud: &LocalCloud, label: &str) -> (Installation, String, Leaf, Value) {
    let (site, domain, first) = issued(cloud, label).await;
    let mut document = site.document(&[&domain]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let back = site
        .invoke(&json!({"action": "rollback", "name": "shop"}))
        .await;
    let told = back.certificate("shop");
    assert_eq!(told["serial"], first.serial, "{told:#}");
    (site, domain, first, document)
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_pause_nor_its_end_ends_a_rollback() {
    let cloud = steady().await;
    let (site, domain, first, document) = brought_back(&cloud, "shop").await;
    let orders = evidence::orders(&cloud, &site);
    let edits = [
        ("paused", json!(true)),
        ("paused", json!(false)),
        ("tags", json!({"Team": "web"})),
        ("partial", json!(true)),
    ];
    for (field, value) in edits {
        let mut edited = document.clone();
        edited[field] = value.clone();
        site.put_document("shop", &edited).await;
        for clock in [Duration::ZERO, 2 * HOUR] {
            let pass = site.pass_with(later(clock)).await;
            let told = format!("{field} {value}: {:#}", pass.report());
            assert_ne!(pass.outcome("shop"), "renewed", "{told}");
            let seen = site.browser_trusts(&domain).await.unwrap();
            assert_eq!(seen.serial, first.serial, "{told}");
            assert_eq!(evidence::orders(&cloud, &site), orders, "{told}");
        }
    }
    let status = json!({"action": "status", "certificates": ["shop"]});
    let status = shown(&site.invoke(&status).await, "shop");
    assert!(status["rolledBack"].is_object(), "{status:#}");
    // The same document, byte for byte.
    site.put_document("shop", &document).await;
    let pass = site.pass_with(later(2 * HOUR)).await;
    assert_ne!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let seen = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(seen.serial, first.serial, "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_or_another_place_ends_a_rollback_and_says_so() {
    let cloud = steady().await;
    let second = cloud.install("second").await;
    for way in ["name", "target", "key"] {
        let (site, domain, first, document) = brought_back(&cloud, way).await;
        let mut edited = document.clone();
        match way {
            "name" => {
                let more = format!("more.{domain}");
                edited["domains"] = json!([domain, more]);
            }
            "key" => edited["keyType"] = json!("ecdsa-p384"),
            _ => {
                let elsewhere = json!({"type": "listener", "arn": second.listener});
                let targets = edited["targets"].as_array_mut().unwrap();
                targets.push(elsewhere);
            }
        }
        site.put_document("shop", &edited).await;

        let planned = site.invoke(&json!({"action": "plan"})).await;
        let pass = site.pass().await;

        for report in [&planned, &pass] {
            let told = report.certificate("shop").to_string();
            assert!(told.contains("rollback"), "{way}: {told}");
        }
        let told = format!("{way}: {:#}", pass.report());
        assert_eq!(pass.outcome("shop"), "renewed", "{told}");
        let seen = site.browser_trusts(&domain).await.unwrap();
        assert_ne!(seen.serial, first.serial, "{told}");
        let status = site.invoke(&json!({"action": "status"})).await;
        assert_eq!(
            shown(&status, "shop")["rolledBack"],
            Value::Null,
            "{:#}",
            status.report()
        );
    }
}

/// An attempt by hand imports nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn force_on_a_full_listener_imports_nothing_again() {
    let stuck = Stuck::on_a_full_listener().await;
    let held = stuck.site.imported().await;
    for _ in 0..3 {
        let pass = stuck.site.invoke(&forced()).await;
        assert_eq!(pass.count(importing), 0, "{:#}", pass.report());
    }
    assert_eq!(stuck.site.imported().await, held);
    let pass = stuck.site.pass_with(later(DAY)).await;
    assert_eq!(pass.count(importing), 0, "{:#}", pass.report());
    take_more_certificates(&stuck.cloud).await;
    let pass = stuck.site.pass_with(later(3 * DAY)).await;
    assert!(stuck.site.listed().await.sni.contains(&arn(&pass, "shop")));
}
