//! Rule 12: a served certificate stays until another one that serves its visitors replaces it.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Installation, Invocation, LocalCloud, Moment, Plan, Sent, tls};

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, later};
use crate::helpers::{
    Foreign, arn, assert_person, assert_problem, delete_certificate, importing, refuse_to_add,
    take_more_certificates, text,
};
use crate::renewal_information::{HOUR, issued, steady};

fn new_orders(pass: &Invocation) -> usize {
    pass.count(|sent| sent.is_acme(NEW_ORDER))
}

fn as_default(site: &Installation, domains: &[&str]) -> Value {
    let mut document = site.document(domains);
    document["targets"][0]["as"] = json!("default");
    document
}

async fn fill_to(site: &Installation, count: usize) {
    let (leaf, key) = tls::self_signed(&["filler.example.net"]);
    while site.listed().await.sni.len() < count {
        let filler = site.import(&leaf, &key).await;
        site.add_to_listener(&filler).await;
    }
}

fn no_import() -> Value {
    json!({
        "service": "acm", "operation": "ImportCertificate", "count": null,
        "status": 400, "code": "AccessDeniedException",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_trusts_takes_nobodys_place() {
    let cloud = steady().await;
    for (label, is_default) in [("list", false), ("default", true)] {
        let own = format!("{label}.example.com");
        let own = own.as_str();
        let site = cloud.install(label).await;
        let mut settings = site.settings();
        settings["authorities"]["pebble"]["private"] = json!(false);
        site.put_settings(&settings).await;
        let theirs = Foreign::import(&cloud, &[own]).await;
        let mut document = site.document(&[own]);
        match is_default {
            true => {
                site.set_default(&theirs.arn).await;
                document = as_default(&site, &[own]);
            }
            false => {
                site.add_to_listener(&theirs.arn).await;
                document["supersedes"] = json!([theirs.arn]);
            }
        }
        site.put_document("shop", &document).await;
        let before = site.listed().await;
        for clock in [Duration::ZERO, 2 * HOUR, 26 * HOUR] {
            let pass = site.pass_with(later(clock)).await;
            let told = format!("{label}, after {clock:?}: {:#}", pass.report());
            assert_person(&pass, "shop", "certloop:untrusted", &[&theirs.arn, own]);
            assert_eq!(site.listed().await, before, "{told}");
            assert!(theirs.is_seen(&site, own).await, "{told}");
        }
        // A person says that the authority is for private machines.
        settings["authorities"]["pebble"]["private"] = json!(true);
        site.put_settings(&settings).await;
        let pass = site.pass_with(later(3 * DAY)).await;
        let told = format!("{label}: {:#}", pass.report());
        assert!(site.browser_trusts(own).await.is_ok(), "{told}");
        assert_eq!(new_orders(&pass), 0, "{told}");
    }
}

/// Lets the certificate manager answer each question for a certificate's leaf with an error.
async fn unreadable(cloud: &LocalCloud, arn: &str, code: &str) {
    let fault = json!({
        "service": "acm", "operation": "GetCertificate", "match": arn, "count": null,
        "status": 400, "code": code,
    });
    cloud.aws().fault(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_trusts_has_an_heir_beside_one_that_cannot_be_read() {
    let cloud = steady().await;
    let (site, own) = (cloud.install("site").await, "shop.example.com");
    let mut settings = site.settings();
    settings["authorities"]["pebble"]["private"] = json!(false);
    site.put_settings(&settings).await;
    site.want("shop", &[own]).await;
    let before = arn(&site.pass().await, "shop");
    let theirs = Foreign::import(&cloud, &["other.example.net"]).await;
    site.add_to_listener(&theirs.arn).await;
    let others = [theirs.arn.clone()].into();

    // Another key type needs another ARN. An error that may pass is not a reason for a person.
    unreadable(&cloud, &theirs.arn, "ThrottlingException").await;
    let mut document = site.document(&[own]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("shop", &document).await;
    let pass = site.pass_with(later(HOUR)).await;
    let words = [theirs.arn.as_str(), "ThrottlingException"];
    assert_problem(
        &pass,
        "shop",
        ("certloop:certificateManager", "soon"),
        &words,
    );
    assert!(
        site.listed().await.sni.contains(&before),
        "{:#}",
        pass.report()
    );
    cloud.aws().admin("DELETE", "faults", None).await;

    unreadable(&cloud, &theirs.arn, "ResourceNotFoundException").await;
    let pass = site.pass_with(later(3 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    let heir = arn(&pass, "shop");
    assert_ne!(heir, before, "{told}");
    let listed = &site.listed().await.sni - &others;
    assert_eq!(listed, [heir.clone()].into(), "{told}");

    // Drift is repaired.
    site.remove_from_listener(&heir).await;
    let pass = site.pass_with(later(4 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    assert!(site.listed().await.sni.contains(&heir), "{told}");

    // On another listener it would be new.
    let second = cloud.install("second").await;
    second.add_to_listener(&theirs.arn).await;
    let on = |listener: &str| json!({"type": "listener", "arn": listener});
    document["targets"] = json!([on(&site.listener), on(&second.listener)]);
    site.put_document("shop", &document).await;
    let pass = site.pass_with(later(5 * HOUR)).await;
    assert_person(
        &pass,
        "shop",
        "certloop:untrusted",
        &[&theirs.arn, &second.listener],
    );
    assert_eq!(second.listed().await.sni, others, "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_brought_nowhere() {
    let cloud = steady().await;
    let (site, domain, served) = issued(&cloud, "shop").await;
    cloud.aws().fault(no_import()).await;
    let force = json!({"action": "reconcile", "force": true});
    let ready = text(&site.invoke(&force).await, "shop", "serial");
    assert_ne!(ready, served.serial);
    let mut document = site.document(&[&domain]);
    document["paused"] = json!(true);
    site.put_document("shop", &document).await;
    let revoke = json!({"action": "revoke", "name": "shop", "serial": ready});
    let pass = site.invoke(&revoke).await;
    assert_eq!(
        cloud.pebble().revoked(&ready).await,
        Some(0),
        "{:#}",
        pass.report()
    );
    cloud.aws().admin("DELETE", "faults", None).await;

    for clock in [MINUTE, 2 * HOUR, 26 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let seen = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(seen.serial, served.serial, "{told}");
        assert_eq!(pass.count(importing), 0, "{told}");
        assert_person(&pass, "shop", "certloop:revoked", &[&ready]);
    }
    document["paused"] = json!(false);
    site.put_document("shop", &document).await;
    let pass = site.pass_with(later(27 * HOUR)).await;
    let seen = site.browser_trusts(&domain).await.unwrap();
    assert!(
        seen.serial != served.serial && seen.serial != ready,
        "{:#}",
        pass.report()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_taken_back_takes_no_name_from_what_stands() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let (one, two) = ("one.example.com", "two.example.com");
    site.want("shop", &[one, two]).await;
    site.pass().await;
    let served = site.browser_trusts(two).await.unwrap();
    cloud.aws().fault(no_import()).await;
    site.want("shop", &[one]).await;
    let narrow = text(&site.pass().await, "shop", "serial");
    assert_ne!(narrow, served.serial);

    site.want("shop", &[one, two]).await;
    cloud.aws().admin("DELETE", "faults", None).await;
    cloud.to_acme().down().await;
    for clock in [MINUTE, 2 * HOUR, 26 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let seen = site.browser_trusts(two).await;
        assert_eq!(
            seen.map(|leaf| leaf.serial),
            Ok(served.serial.clone()),
            "{told}"
        );
    }
    cloud.to_acme().up().await;
    let pass = site.pass_with(later(3 * DAY)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
    let seen = site.browser_trusts(two).await.unwrap();
    assert!(
        seen.serial != served.serial && seen.serial != narrow,
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_type_that_is_taken_back_leaves_what_stands() {
    let cloud = steady().await;
    let (site, domain, served) = issued(&cloud, "shop").await;
    refuse_to_add(&cloud, "AccessDenied").await;
    let mut document = site.document(&[&domain]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("shop", &document).await;
    let ready = text(&site.pass().await, "shop", "serial");
    assert_ne!(ready, served.serial);

    site.want("shop", &[&domain]).await;
    cloud.aws().admin("DELETE", "faults", None).await;
    cloud.to_acme().down().await;
    for clock in [MINUTE, 2 * HOUR, 26 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let seen = site.browser_trusts(&domain).await;
        assert_eq!(
            seen.map(|leaf| leaf.serial),
            Ok(served.serial.clone()),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heir_of_an_orphan_that_is_the_default_is_served_by_its_names() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    site.put_document("old", &as_default(&site, &[own])).await;
    let old = arn(&site.pass().await, "old");
    site.delete("certificates/old.json").await;
    site.put_document("new", &as_default(&site, &[own])).await;

    let pass = site.pass().await;

    let told = format!("{:#}", pass.report());
    let listed = site.listed().await;
    assert_eq!(listed.default, old, "{told}");
    assert!(listed.sni.contains(&arn(&pass, "new")), "{told}");
    assert_person(
        &pass,
        "new",
        "certloop:contended",
        &["old", &old, &site.listener],
    );
    let quiet = site.pass_with(later(75 * DAY)).await;
    let told = format!("{:#}", quiet.report());
    let serial = text(&quiet, "new", "serial");
    assert_ne!(serial, text(&pass, "new", "serial"), "{told}");
    assert!(
        site.listed().await.sni.contains(&arn(&quiet, "new")),
        "{told}"
    );

    site.invoke(&json!({"action": "remove", "name": "old"}))
        .await;
    let pass = site.pass_with(later(77 * DAY)).await;
    assert_eq!(
        site.listed().await.default,
        arn(&pass, "new"),
        "{:#}",
        pass.report()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_state_is_lost_is_found_on_a_full_listener() {
    let cloud = steady().await;
    let (site, domain, served) = issued(&cloud, "shop").await;
    fill_to(&site, 25).await;
    let before = site.listed().await;
    site.delete("state/shop.json").await;

    let pass = site.pass_with(later(MINUTE)).await;

    let told = format!("{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
    assert_eq!(site.listed().await, before, "{told}");
    let seen = site.browser_trusts(&domain).await.unwrap();
    assert!(seen.not_after >= served.not_after, "{told}");
    let next = site.pass_with(later(75 * DAY)).await;
    assert_eq!(
        next.certificate("shop")["problem"],
        Value::Null,
        "{:#}",
        next.report()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_document_that_wishes_for_a_name_takes_it_from_nobody() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let (older, younger) = ("older.example.com", "younger.example.com");
    site.want("older", &[older]).await;
    site.pass().await;
    site.want("younger", &[younger]).await;
    site.pass_with(later(HOUR)).await;
    let served = site.browser_trusts(younger).await.unwrap();
    let before = site.listed().await;

    site.want("older", &[older, younger]).await;
    for clock in [2 * HOUR, 3 * HOUR, 28 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        let words = ["older", "younger", younger, site.listener.as_str()];
        assert_person(&pass, "older", "certloop:contended", &words);
        assert_eq!(
            pass.certificate("younger")["problem"],
            Value::Null,
            "{told}"
        );
        assert_eq!(new_orders(&pass), 0, "{told}");
        assert_eq!(site.listed().await, before, "{told}");
        let seen = site.browser_trusts(younger).await.unwrap();
        assert_eq!(seen.serial, served.serial, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_default_another_document_holds_has_an_heir_in_its_place() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let (holder, other) = ("holder.example.com", "other.example.com");
    site.put_document("holder", &as_default(&site, &[holder]))
        .await;
    let default = arn(&site.pass().await, "holder");
    let mut document = site.document(&[other]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("other", &document).await;
    let before = arn(&site.pass().await, "other");

    // Another key type needs another ARN.
    site.put_document("other", &as_default(&site, &[other]))
        .await;
    site.pass_with(later(HOUR)).await;
    let pass = site.pass_with(later(3 * HOUR)).await;

    let told = format!("{:#}", pass.report());
    let words = ["holder", "other", "default", site.listener.as_str()];
    assert_person(&pass, "other", "certloop:contended", &words);
    let now = arn(&pass, "other");
    assert_ne!(now, before, "{told}");
    let listed = site.listed().await;
    assert_eq!(listed.default, default, "{told}");
    assert!(
        listed.sni.contains(&now) && !listed.sni.contains(&before),
        "{told}"
    );
    assert!(site.browser_trusts(other).await.is_ok(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_lost_on_a_full_listener_are_told_and_put_back_on_request() {
    let cloud = steady().await;
    let (site, domain, _) = issued(&cloud, "shop").await;
    let ours = site.listed().await.sni.into_iter().next().unwrap();
    let tags = site.tags(&ours).await;
    let tags: Vec<_> = (tags.into_iter())
        .map(|(key, value)| {
            let tag = aws_sdk_acm::types::Tag::builder().key(key).value(value);
            tag.build().unwrap()
        })
        .collect();
    fill_to(&site, 25).await;
    let remove = cloud.aws().acm().remove_tags_from_certificate();
    let remove = remove.certificate_arn(&ours).set_tags(Some(tags.clone()));
    remove.send().await.unwrap();

    let pass = site.pass_with(later(75 * DAY)).await;

    let words = [ours.as_str(), "aws acm add-tags-to-certificate", "no room"];
    assert_person(&pass, "shop", "certloop:tagsLost", &words);
    let add = cloud.aws().acm().add_tags_to_certificate();
    let add = add.certificate_arn(&ours).set_tags(Some(tags));
    add.send().await.unwrap();
    let pass = site.pass_with(later(78 * DAY)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
    assert_eq!(arn(&pass, "shop"), ours, "{told}");
    let seen = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(seen.serial, text(&pass, "shop", "serial"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_revoked_long_ago_is_told_while_it_is_served() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let second = cloud.install("second").await;
    let domain = "shop.example.com";
    let mut document = site.document(&[domain]);
    let on = |listener: &str| json!({"type": "listener", "arn": listener});
    document["targets"] = json!([on(&site.listener), on(&second.listener)]);
    site.put_document("shop", &document).await;
    let first = text(&site.pass().await, "shop", "serial");
    // From here on the second listener accepts no more: the first certificate stays there.
    let refusal = json!({
        "service": "elbv2", "operation": "AddListenerCertificates", "match": second.listener,
        "count": null, "status": 400, "code": "TooManyCertificates",
    });
    cloud.aws().fault(refusal).await;
    for (key_type, clock) in [("rsa-2048", HOUR), ("ecdsa-p384", 4 * HOUR)] {
        document["keyType"] = json!(key_type);
        site.put_document("shop", &document).await;
        site.pass_with(later(clock)).await;
    }
    let revoke = json!({"action": "revoke", "name": "shop", "serial": first});
    let pass = site.invoke_with(&revoke, later(5 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(cloud.pebble().revoked(&first).await, Some(0), "{told}");
    assert_eq!(
        second.browser_trusts(domain).await.unwrap().serial,
        first,
        "{told}"
    );

    let pass = site.pass_with(later(6 * HOUR)).await;

    let words = [first.as_str(), "revoked", "browsers may refuse it"];
    assert_person(&pass, "shop", "certloop:revoked", &words);
}

/// Lets `shop` supersede another owner's certificate. Returns the pass and that certificate.
async fn supersedes(
    cloud: &LocalCloud,
    site: &Installation,
    own: &str,
    plan: Plan,
) -> (Invocation, Foreign) {
    let theirs = Foreign::import(cloud, &[own]).await;
    site.add_to_listener(&theirs.arn).await;
    let mut document = site.document(&[own]);
    document["supersedes"] = json!([theirs.arn]);
    site.put_document("shop", &document).await;
    (site.pass_with(plan).await, theirs)
}

/// Returns the number of the request that removes another owner's certificate.
async fn removal_request(cloud: &LocalCloud) -> usize {
    let site = cloud.install("whole").await;
    let (pass, _) = supersedes(cloud, &site, "whole.example.com", Plan::default()).await;
    let taken_off = |sent: &Sent| sent.is("RemoveListenerCertificates");
    pass.requests.iter().position(taken_off).unwrap() + 1
}

/// Stops a pass right after a switch removed another owner's certificate, and returns that one.
async fn stopped_in_a_switch(
    cloud: &LocalCloud,
    site: &Installation,
    own: &str,
    removal: usize,
) -> Foreign {
    let plan = Plan::default().killed_at(removal, Moment::After);
    let (killed, theirs) = supersedes(cloud, site, own, plan).await;
    assert!(killed.result.is_err(), "{:?}", killed.requests);
    assert!(!site.listed().await.sni.contains(&theirs.arn));
    theirs
}

fn remove() -> Value {
    json!({"action": "remove", "name": "shop"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_after_a_death_gives_back_what_the_switch_took_off() {
    let cloud = steady().await;
    let removal = removal_request(&cloud).await;
    let (site, own) = (cloud.install("dies").await, "dies.example.com");
    let theirs = stopped_in_a_switch(&cloud, &site, own, removal).await;

    let pass = site.invoke_with(&remove(), later(16 * MINUTE)).await;

    let told = format!("{:#}", pass.report());
    let listed = site.listed().await.sni;
    assert_eq!(listed, [theirs.arn.clone()].into(), "{told}");
    assert!(theirs.is_seen(&site, own).await, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_after_a_death_ends_where_nothing_can_come_back() {
    let cloud = steady().await;
    let removal = removal_request(&cloud).await;
    for gone in ["listener", "certificate"] {
        let (site, own) = (cloud.install(gone).await, format!("{gone}.example.com"));
        let theirs = stopped_in_a_switch(&cloud, &site, &own, removal).await;
        if gone == "listener" {
            let delete = cloud.aws().elb().delete_listener();
            let delete = delete.listener_arn(&site.listener).send().await;
            delete.unwrap();
        } else {
            delete_certificate(&cloud, &theirs.arn).await;
        }

        let pass = site.invoke_with(&remove(), later(16 * MINUTE)).await;

        let told = format!("{gone}: {:#}", pass.report());
        let entry = pass.certificate("shop");
        assert_eq!(entry["outcome"], "removed", "{told}");
        assert_eq!(entry["problem"], Value::Null, "{told}");
        site.pass_with(later(26 * HOUR)).await;
        site.pass_with(later(50 * HOUR)).await;
        let left = evidence::ours(&cloud, &site, "shop", &own).await;
        assert!(left.is_empty(), "{told}: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_gives_back_later_what_could_not_come_back_at_once() {
    let cloud = steady().await;
    let removal = removal_request(&cloud).await;
    let (site, own) = (cloud.install("dies").await, "dies.example.com");
    let theirs = stopped_in_a_switch(&cloud, &site, own, removal).await;
    let ours = site.listed().await.sni;
    refuse_to_add(&cloud, "TooManyCertificates").await;

    let pass = site.invoke_with(&remove(), later(16 * MINUTE)).await;

    let words = [theirs.arn.as_str(), site.listener.as_str()];
    assert_person(&pass, "shop", "certloop:listenerFull", &words);
    assert_eq!(site.listed().await.sni, ours, "{:#}", pass.report());

    // Two attempts fail before one succeeds.
    site.pass_with(later(26 * HOUR)).await;
    assert_eq!(site.listed().await.sni, ours);
    take_more_certificates(&cloud).await;
    let pass = site.pass_with(later(52 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    let listed = site.listed().await.sni;
    assert_eq!(listed, [theirs.arn.clone()].into(), "{told}");
    assert!(theirs.is_seen(&site, own).await, "{told}");
    for days in [4, 6] {
        site.pass_with(later(days * DAY)).await;
    }
    let left = evidence::ours(&cloud, &site, "shop", own).await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_waits_for_no_certificate_that_has_ended() {
    let cloud = steady().await;
    let removal = removal_request(&cloud).await;
    let (site, own) = (cloud.install("dies").await, "dies.example.com");
    stopped_in_a_switch(&cloud, &site, own, removal).await;
    refuse_to_add(&cloud, "TooManyCertificates").await;

    // The other's certificate was valid for 30 days.
    let pass = site.invoke_with(&remove(), later(31 * DAY)).await;

    let told = format!("{:#}", pass.report());
    let entry = pass.certificate("shop");
    assert_eq!(entry["outcome"], "removed", "{told}");
    assert_eq!(entry["problem"], Value::Null, "{told}");
    assert!(site.listed().await.sni.is_empty(), "{told}");
}
