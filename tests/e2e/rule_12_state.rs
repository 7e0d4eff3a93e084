//! Rule 12 and the state: what is served, what should be served, and a state that is older than
//! AWS.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tests::http;
use tests::{Fault, Installation, Invocation, Leaf, LocalCloud, Sent, tls};
use time::OffsetDateTime;

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, later};
use crate::helpers::{
    acme, arn, assert_person, assert_problem, changing_a_listener, importing, refuse_to_add, shown,
    take_more_certificates, with,
};
use crate::proofs::stale_server;
use crate::pull::Host;
use crate::renewal_information::{HOUR, issued, steady};

async fn status_of(site: &Installation, name: &str, clock: Duration) -> Value {
    let event = json!({"action": "status"});
    shown(&site.invoke_with(&event, later(clock)).await, name)
}

fn forced() -> Value {
    json!({"action": "reconcile", "force": true})
}

/// The bucket's records of its certificates from another day.
struct Backup(Vec<(String, Vec<u8>)>);

impl Backup {
    const FOLDERS: [&str; 2] = ["state/", "vault/"];

    async fn of(site: &Installation) -> Self {
        let mut objects = Vec::new();
        for folder in Self::FOLDERS {
            for key in site.keys(folder).await {
                let body = site.read(&key).await.unwrap();
                objects.push((key, body));
            }
        }
        Self(objects)
    }

    async fn restore(self, site: &Installation) {
        for folder in Self::FOLDERS {
            for key in site.keys(folder).await {
                site.delete(&key).await;
            }
        }
        for (key, body) in self.0 {
            site.put(&key, body).await;
        }
    }
}

/// Restores a bucket to before its last renewal. Returns the domain, the certificate of the bucket
/// and the one that is served.
async fn restored(cloud: &LocalCloud) -> (Installation, String, Leaf, Leaf) {
    let (site, domain, old) = issued(cloud, "shop").await;
    let backup = Backup::of(&site).await;
    a_second_later().await;
    let pass = site.invoke(&forced()).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let newer = site.browser_trusts(&domain).await.unwrap();
    backup.restore(&site).await;
    (site, domain, old, newer)
}

/// Waits until the next certificate ends later than the one before.
async fn a_second_later() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

fn says_adopted(shown: &Value) -> bool {
    let mut steps = shown["history"].as_array().into_iter().flatten();
    steps.any(|step| {
        step["step"]
            .as_str()
            .unwrap_or_default()
            .contains("adopted")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_brings_no_older_certificate_over_a_newer_one() {
    let cloud = steady().await;
    let (site, domain, old) = issued(&cloud, "shop").await;
    let backup = Backup::of(&site).await;
    a_second_later().await;
    let pass = site.invoke(&forced()).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let newer = site.browser_trusts(&domain).await.unwrap();
    assert!(newer.not_after > old.not_after);
    let ours = arn(&pass, "shop");
    backup.restore(&site).await;
    cloud.to_acme().down().await;

    // At once, by the daily look, and by force.
    let passes = [
        (json!({"action": "reconcile"}), Duration::ZERO),
        (json!({"action": "reconcile"}), 2 * DAY),
        (forced(), 2 * DAY),
        (json!({"action": "reconcile"}), 4 * DAY),
    ];
    for (event, clock) in passes {
        let pass = site.invoke_with(&event, later(clock)).await;
        let told = format!("{event} after {clock:?}: {:#}", pass.report());
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial, newer.serial, "{told}");
        assert_eq!(pass.count(importing), 0, "{told}");
        assert_eq!(site.listed().await.sni, [ours.clone()].into(), "{told}");
    }
    let status = json!({"action": "status", "certificates": ["shop"]});
    let status = site.invoke_with(&status, later(4 * DAY)).await;
    let status = shown(&status, "shop");
    assert!(says_adopted(&status), "{status:#}");
    assert_eq!(status["served"]["serial"], newer.serial, "{status:#}");
    assert_eq!(status["served"]["notAfter"], newer.until(), "{status:#}");

    // Its key is lost, so it is replaced, in time.
    cloud.to_acme().up().await;
    let pass = site.pass_with(later(75 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let newest = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(json!(newest.serial), pass.certificate("shop")["serial"]);
    assert!(![&old.serial, &newer.serial].contains(&&newest.serial));
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_takes_off_no_newer_certificate_of_another_key_type() {
    let cloud = steady().await;
    let (site, domain, _) = issued(&cloud, "shop").await;
    let backup = Backup::of(&site).await;
    a_second_later().await;
    let mut document = site.document(&[&domain]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let newer = site.browser_trusts(&domain).await.unwrap();
    let ours = arn(&pass, "shop");
    // The next one deletes the former ARN.
    site.pass().await;
    backup.restore(&site).await;
    cloud.to_acme().down().await;

    for clock in [Duration::ZERO, 2 * HOUR, 2 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial, newer.serial, "{told}");
        assert!(site.listed().await.sni.contains(&ours), "{told}");
        assert_eq!(pass.count(importing), 0, "{told}");
    }
    let status = json!({"action": "status", "certificates": ["shop"]});
    let status = site.invoke_with(&status, later(2 * DAY)).await;
    let status = shown(&status, "shop");
    assert!(says_adopted(&status), "{status:#}");
    assert_eq!(status["served"]["serial"], newer.serial, "{status:#}");
}

/// Finds the members of a record that put an attempt far ahead.
fn far_ahead(record: &Value, path: &str, limit: OffsetDateTime, found: &mut Vec<String>) {
    let format = &time::format_description::well_known::Rfc3339;
    match record {
        Value::Object(members) => {
            for (key, value) in members {
                let path = format!("{path}.{key}");
                let is_attempt = ["nextAttempt", "next", "askAgain", "notBefore"]
                    .iter()
                    .any(|word| key == word);
                let instant = value.as_str().filter(|_| is_attempt);
                let instant = instant.and_then(|text| OffsetDateTime::parse(text, format).ok());
                match instant {
                    Some(instant) if instant > limit => found.push(format!("{path}: {instant}")),
                    _ => far_ahead(value, &path, limit, found),
                }
            }
        }
        Value::Array(all) => {
            for (index, value) in all.iter().enumerate() {
                far_ahead(value, &format!("{path}[{index}]"), limit, found);
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_with_a_clock_far_ahead_leaves_no_attempt_far_ahead() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    // One certificate has nothing yet. The authority limits the renewal of the other.
    site.want("new", &["new.example.com"]).await;
    cloud.to_acme().down().await;
    let ahead = site.pass_with(later(100 * DAY)).await;
    for name in ["shop", "new"] {
        assert_eq!(ahead.outcome(name), "failed", "{:#}", ahead.report());
    }

    for _ in 0..2 {
        let pass = site.pass().await;
        let told = format!("{:#}", pass.report());
        assert_eq!(pass.outcome("shop"), "kept", "{told}");
        let limit = OffsetDateTime::now_utc() + 25 * HOUR;
        let mut found = Vec::new();
        far_ahead(pass.report(), "report", limit, &mut found);
        let status = site.invoke(&json!({"action": "status"})).await;
        far_ahead(status.report(), "status", limit, &mut found);
        for name in ["shop", "new"] {
            let state = site.read_json(&format!("state/{name}.json")).await;
            far_ahead(&state, name, limit, &mut found);
        }
        assert!(found.is_empty(), "{found:#?}");
    }
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, leaf.serial);

    cloud.to_acme().up().await;
    let pass = site.pass_with(later(DAY)).await;
    assert_eq!(pass.outcome("new"), "issued", "{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_somebody_removes_are_told_and_put_back_on_request() {
    use aws_sdk_acm::types::Tag;

    let cloud = steady().await;
    let (site, domain, _) = issued(&cloud, "shop").await;
    let ours = site.listed().await.sni.into_iter().next().unwrap();
    let tags = site.tags(&ours).await;
    let tags: Vec<Tag> = tags
        .into_iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build().unwrap())
        .collect();
    let remove = cloud.aws().acm().remove_tags_from_certificate();
    let remove = remove.certificate_arn(&ours).set_tags(Some(tags.clone()));
    remove.send().await.unwrap();
    a_second_later().await;

    let words = [
        ours.as_str(),
        "aws acm add-tags-to-certificate",
        "certloop:installation",
        "certloop:certificate",
    ];
    let pass = site.invoke(&forced()).await;
    assert_person(&pass, "shop", "certloop:tagsLost", &words);
    for clock in [Duration::ZERO, 2 * HOUR, 26 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        assert_person(&pass, "shop", "certloop:tagsLost", &words);
        assert!(
            site.browser_trusts(&domain).await.is_ok(),
            "{:#}",
            pass.report()
        );
        assert!(site.imported().await.contains(&ours), "it is not deleted");
        let shown = status_of(&site, "shop", clock).await;
        assert_eq!(shown["problem"]["type"], "certloop:tagsLost", "{shown:#}");
    }

    let add = cloud.aws().acm().add_tags_to_certificate();
    let add = add.certificate_arn(&ours).set_tags(Some(tags));
    add.send().await.unwrap();
    let orders = evidence::orders(&cloud, &site);
    // Later than the ladder's next attempt.
    let pass = site.pass_with(later(75 * HOUR)).await;
    assert_eq!(
        pass.certificate("shop")["problem"],
        Value::Null,
        "{:#}",
        pass.report()
    );
    assert_eq!(evidence::orders(&cloud, &site), orders, "nothing is lost");
    site.pass_with(later(76 * HOUR)).await;
    let served = site.browser_trusts(&domain).await.unwrap();
    let state = site.read_json("state/shop.json").await;
    assert_eq!(
        json!(served.serial),
        state["certificate"]["serial"],
        "{state:#}"
    );
    assert_eq!(site.listed().await.sni.len(), 1, "{state:#}");
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
}

/// Returns the serials that an invocation imported, in order.
fn imported(pass: &Invocation) -> Vec<String> {
    let imports = pass.requests.iter().filter(|sent| importing(sent));
    let serial = |sent: &Sent| {
        let pem = sent.payload["Certificate"].as_str()?;
        let pem = BASE64_STANDARD.decode(pem).ok()?;
        let pem = String::from_utf8(pem).ok()?;
        Some(Leaf::read(&tls::certificates(&pem)).serial)
    };
    imports.filter_map(serial).collect()
}

async fn behind_something_else(site: &Installation, domain: &str) -> http::Serving {
    let (address, serving) = stale_server(&[domain]).await;
    let mut settings = site.settings();
    settings["proof"] = json!({"mode": "require", "connectTo": address, "seconds": 1});
    site.put_settings(&settings).await;
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_taken_once_for_one_leaf() {
    let cloud = steady().await;
    let (site, domain, old) = issued(&cloud, "shop").await;
    let _serving = behind_something_else(&site, &domain).await;
    a_second_later().await;

    let mut all = Vec::new();
    let mut last = site.invoke(&forced()).await;
    all.extend(imported(&last));
    // A pass every ten minutes.
    for number in 1..=36 {
        last = site.pass_with(later(number * 10 * MINUTE)).await;
        all.extend(imported(&last));
        assert!(site.browser_trusts(&domain).await.is_ok());
    }

    let back = all.iter().filter(|serial| **serial == old.serial).count();
    assert_eq!(back, 1, "{all:#?}");
    assert!(all.len() <= 3, "{all:#?}");
    assert_person(&last, "shop", "certloop:unproved", &[&site.listener]);
    assert_eq!(evidence::orders(&cloud, &site), 2, "one renewal, no more");

    // At last the proof succeeds.
    site.put_settings(&site.settings()).await;
    let pass = site.pass_with(later(3 * DAY)).await;
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_ne!(served.serial, old.serial, "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_leads_to_no_certificate_that_is_about_to_end() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let domain = "shop.example.com";
    let mut document = site.document(&[domain]);
    document["profile"] = json!("shortlived");
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let old = site.browser_trusts(domain).await.unwrap();
    document["profile"] = json!("default");
    site.put_document("shop", &document).await;
    let _serving = behind_something_else(&site, domain).await;

    // Five minutes before it ends: the next attempts are a minute and eleven minutes away.
    let clock = 6 * DAY - 5 * MINUTE;
    let mut all = Vec::new();
    for clock in [clock, clock + 2 * MINUTE, clock + 20 * MINUTE] {
        let pass = site.invoke_with(&forced(), later(clock)).await;
        all.extend(imported(&pass));
        let served = site.browser_trusts(domain).await.unwrap();
        let told = format!("{:#}", pass.report());
        assert_ne!(served.serial, old.serial, "{told}");
        let kind = &pass.certificate("shop")["problem"]["type"];
        assert_eq!(kind, "certloop:unproved", "{told}");
    }
    assert!(!all.contains(&old.serial), "{all:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_and_what_is_to_be_served_are_two_facts() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let domain = "shop.example.com";
    let document = site.document(&[domain]);
    site.put_document("shop", &document).await;
    let status = status_of(&site, "shop", Duration::ZERO).await;
    assert!(
        status.as_object().unwrap().contains_key("served"),
        "{status:#}"
    );
    assert_eq!(status["served"], Value::Null, "{status:#}");

    // Seen by a handshake.
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let first = site.browser_trusts(domain).await.unwrap();
    let status = status_of(&site, "shop", Duration::ZERO).await;
    let served = &status["served"];
    assert_eq!(served["serial"], first.serial, "{status:#}");
    assert_eq!(served["notAfter"], first.until(), "{status:#}");
    assert_eq!(served["by"], "handshake", "{status:#}");
    let age = OffsetDateTime::now_utc() - evidence::instant(&served["at"]);
    assert!(age < time::Duration::minutes(1), "{status:#}");

    // It should be served, and it is attached nowhere.
    refuse_to_add(&cloud, "TooManyCertificates").await;
    let mut edited = document.clone();
    edited["keyType"] = json!("rsa-2048");
    site.put_document("shop", &edited).await;
    let pass = site.pass().await;
    assert_person(&pass, "shop", "certloop:listenerFull", &[]);
    let status = status_of(&site, "shop", Duration::ZERO).await;
    assert_ne!(status["serial"], first.serial, "{status:#}");
    assert_eq!(status["served"]["serial"], first.serial, "{status:#}");
    assert_eq!(
        status["served"]["notAfter"],
        first.until(),
        "the end is that of the served one"
    );
    take_more_certificates(&cloud).await;
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "deployed", "{:#}", pass.report());
    let second = site.browser_trusts(domain).await.unwrap();
    let status = status_of(&site, "shop", 2 * MINUTE).await;
    assert_eq!(status["served"]["serial"], second.serial, "{status:#}");
    assert_eq!(status["serial"], second.serial, "{status:#}");

    // Without a proof, only what the targets hold is known.
    site.put_settings(&with(site.settings(), "proof", "mode", "off"))
        .await;
    site.want("blind", &["blind.example.com"]).await;
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("blind"), "issued", "{:#}", pass.report());
    let status = status_of(&site, "blind", 2 * MINUTE).await;
    assert_eq!(status["served"]["serial"], status["serial"], "{status:#}");
    assert_eq!(status["served"]["by"], "held", "{status:#}");

    // Removed by hand and not put back yet: the status reports what the look found.
    let blind = arn(&pass, "blind");
    site.remove_from_listener(&blind).await;
    refuse_to_add(&cloud, "TooManyCertificates").await;
    let pass = site.pass_with(later(3 * MINUTE)).await;
    assert_person(&pass, "blind", "certloop:listenerFull", &[]);
    let status = status_of(&site, "blind", 3 * MINUTE).await;
    assert_eq!(status["served"], Value::Null, "{status:#}");
}

/// The facts come from the record alone: a status changes nothing and asks no authority.
#[tokio::test(flavor = "multi_thread")]
async fn telling_what_is_served_costs_nothing() {
    let cloud = steady().await;
    let (site, _, leaf) = issued(&cloud, "shop").await;
    let fault = Fault::when(acme).always();
    cloud.to_acme().inject(fault.hang_up());
    let event = json!({"action": "status"});
    let status = site.invoke(&event).await;
    assert_eq!(
        status.certificate("shop")["served"]["serial"],
        leaf.serial,
        "{:#}",
        status.report()
    );
    assert!(evidence::writes(&status).is_empty());
    assert_eq!(status.count(acme), 0);
    assert_eq!(status.count(changing_a_listener), 0);
    assert_eq!(evidence::asked(&cloud, &site, NEW_ORDER).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_vault_takes_no_certificate_from_its_listener() {
    let cloud = steady().await;
    let (site, domain, served) = issued(&cloud, "shop").await;
    let ours = site.listed().await.sni.into_iter().next().unwrap();
    for key in site.keys("vault/").await {
        site.delete(&key).await;
    }

    // The daily look finds that the vault is empty.
    let pass = site.pass_with(later(26 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    let state = site.read_json("state/shop.json").await;
    assert_eq!(state["certificate"]["serial"], served.serial, "{told}");
    let status = status_of(&site, "shop", 26 * HOUR).await;
    assert_eq!(status["served"]["serial"], served.serial, "{status:#}");
    let kind = &status["problem"]["type"];
    assert_eq!(kind, "certloop:vaultEntryLost", "{status:#}");
    assert_eq!(evidence::orders(&cloud, &site), 1, "{told}");
    // The renewals of a fleet come one after the other, but soon.
    let renews = evidence::instant(&status["renewAt"]);
    let now = OffsetDateTime::now_utc() + 26 * HOUR;
    assert!(now - MINUTE < renews && renews < now + 4 * DAY, "{renews}");

    // Drift is repaired, although the authority is down.
    cloud.to_acme().down().await;
    site.remove_from_listener(&ours).await;
    for clock in [27 * HOUR, 5 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let seen = site.browser_trusts(&domain).await;
        assert_eq!(
            seen.map(|leaf| leaf.serial),
            Ok(served.serial.clone()),
            "{told}"
        );
    }

    cloud.to_acme().up().await;
    let pass = site.pass_with(later(7 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
    let newest = site.browser_trusts(&domain).await.unwrap();
    assert_ne!(newest.serial, served.serial);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_pull_do_not_wait_long_for_what_was_adopted() {
    let cloud = steady().await;
    let (site, _, old, newer) = restored(&cloud).await;

    let pass = site.pass_with(later(26 * HOUR)).await;

    let told = format!("{:#}", pass.report());
    let state = site.read_json("state/shop.json").await;
    assert_eq!(state["certificate"]["serial"], newer.serial, "{told}");
    let status = status_of(&site, "shop", 26 * HOUR).await;
    let problem = &status["problem"];
    assert_eq!(problem["type"], "certloop:vaultEntryLost", "{status:#}");
    assert!(problem.to_string().contains(&newer.serial), "{status:#}");
    // A new host gets the one before: the vault has its key.
    let host = Host::new(&cloud, &site);
    let ran = host.pull(&[]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.contains("nowhere in the bucket"), "{ran:?}");
    assert_eq!(host.held(), old.serial);

    let pass = site.pass_with(later(26 * HOUR + 10 * MINUTE)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "renewed", "{told}");
    assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
    assert_eq!(host.pull(&[]).status, Some(0));
    assert_eq!(json!(host.held()), pass.certificate("shop")["serial"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_another_day_takes_no_name_from_what_was_adopted() {
    let cloud = steady().await;
    let (site, domain, _) = issued(&cloud, "shop").await;
    let backup = Backup::of(&site).await;
    a_second_later().await;
    let more = "more.example.com";
    site.want("shop", &[&domain, more]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let newer = site.browser_trusts(more).await.unwrap();
    backup.restore(&site).await;
    site.want("shop", &[&domain]).await;

    for clock in [26 * HOUR, 27 * HOUR, 4 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let words = [newer.serial.as_str(), more, "older copy", "--force"];
        assert_person(&pass, "shop", "certloop:record", &words);
        let served = site.browser_trusts(more).await.map(|leaf| leaf.serial);
        assert_eq!(served, Ok(newer.serial.clone()), "{told}");
        assert_eq!(evidence::orders(&cloud, &site), 2, "{told}");
    }

    site.want("shop", &[&domain, more]).await;
    let pass = site.pass_with(later(4 * DAY + HOUR)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "renewed", "{told}");
    assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
    assert!(site.browser_trusts(more).await.is_ok(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_revokes_nothing_that_is_not_served() {
    for is_named in [false, true] {
        let cloud = steady().await;
        let (site, domain, old, newer) = restored(&cloud).await;
        // The command names what status shows as served.
        let mut event = json!({"action": "revoke", "name": "shop", "reason": "keyCompromise"});
        if is_named {
            event["serial"] = json!(old.serial);
        }

        let refused = site.invoke_with(&event, later(MINUTE)).await;

        let told = format!("{:#}", refused.report());
        let words = [old.serial.as_str(), newer.serial.as_str()];
        let kind = ("certloop:noCertificate", "never");
        assert_problem(&refused, "shop", kind, &words);
        for serial in [&old.serial, &newer.serial] {
            assert_eq!(cloud.pebble().revoked(serial).await, None, "{told}");
        }
        let served = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(served.serial, newer.serial, "{told}");
        let status = status_of(&site, "shop", MINUTE).await;
        assert_eq!(status["served"]["serial"], newer.serial, "{status:#}");

        // Asked again, it revokes what is served, or what was named.
        let again = site.invoke_with(&event, later(2 * MINUTE)).await;
        let told = format!("{:#}", again.report());
        let revoked = match is_named {
            true => &old.serial,
            false => &newer.serial,
        };
        assert_eq!(cloud.pebble().revoked(revoked).await, Some(1), "{told}");
    }
}
