//! The actions of the function, with the real command: through Lambda, and in its own process.

use serde_json::json;
use tests::LocalCloud;

use crate::evidence;
use crate::helpers::{refuse_to_add, take_more_certificates};
use crate::renewal_information::{issued, steady};
use crate::snapshots::assert_shows;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lives_its_life_by_command() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let operator = cloud.operator(&shop).await;

    let plan = operator.in_terminal(&["plan"], "").await;
    assert_eq!(plan.status, 0, "{}", plan.out);
    assert_shows("plan", &plan.seen());

    let issued = operator.run(&["renew", "shop"]).await;
    assert_eq!(issued.status, 0, "{issued:?}");
    assert!(issued.out.starts_with("shop  issued"), "{}", issued.out);
    let first = shop.browser_trusts("shop.example.com").await.unwrap();
    let renewed = operator.run(&["renew", "shop", "--force"]).await;
    assert!(renewed.out.starts_with("shop  renewed"), "{renewed:?}");

    let back = operator.run(&["rollback", "shop", "--yes"]).await;
    assert_eq!(back.status, 0, "{back:?}");
    let served = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(served.serial, first.serial);

    let unasked = operator.run(&["revoke", "shop"]).await;
    assert_eq!(unasked.status, 2, "{unasked:?}");
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    assert_eq!(cloud.pebble().revoked(&first.serial).await, None);
    let revoked = operator
        .run(&["revoke", "shop", "--yes", "--reason", "keyCompromise"])
        .await;
    assert_eq!(revoked.status, 0, "{revoked:?}");
    let other = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_ne!(other.serial, first.serial);

    // More than ten steps: the bucket has the rest.
    let history = operator.run(&["history", "shop"]).await;
    assert_eq!(
        (history.status, history.err.as_str()),
        (0, ""),
        "{history:?}"
    );
    let steps = history
        .out
        .lines()
        .filter(|line| line.contains(" UTC  "))
        .count();
    let state = shop.read_json("state/shop.json").await;
    let all = state["history"].as_array().unwrap().len();
    assert!(
        all > 10 && steps == all,
        "{steps} of {all}: {}",
        history.out
    );

    let removed = operator.run(&["remove", "shop", "--yes"]).await;
    assert_eq!(removed.status, 0, "{removed:?}");
    assert_eq!(shop.read("certificates/shop.json").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_broken_and_the_command_that_repairs_it() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut settings = shop.settings();
    settings["dns"] = json!({"servers": [cloud.dns().address()]});
    shop.put_settings(&settings).await;
    shop.want("shop", &["shop.example.com"]).await;
    let operator = cloud.operator(&shop).await;
    let fine = operator.run(&["check", "shop"]).await;
    assert_eq!(fine.status, 0, "{fine:?}");

    shop.unroute(1).await;
    let broken = operator.in_terminal(&["check", "shop"], "").await;
    assert_eq!(broken.status, 1, "{}", broken.out);
    assert_shows("check-broken", &broken.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_done_in_its_own_process() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut operator = cloud.operator(&shop).await;
    operator.set("CERTLOOP_FUNCTION", "");
    let document = shop.document(&["shop.example.com"]);
    shop.point("shop.example.com").await;
    operator.write("shop.json", &document.to_string());

    let issued = operator
        .run(&["issue", "shop", "--file", "shop.json", "--local", "--json"])
        .await;
    assert_eq!((issued.status, issued.err.as_str()), (0, ""), "{issued:?}");
    assert_eq!(issued.json()["certificates"][0]["outcome"], "issued");
    shop.browser_trusts("shop.example.com").await.unwrap();
    let other = shop.document(&["other.example.com"]);
    operator.write("shop.json", &other.to_string());
    let refused = operator
        .run(&["issue", "shop", "--file", "shop.json", "--local"])
        .await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.out.contains("replace"), "{}", refused.out);

    let status = operator.run(&["status", "--local"]).await;
    assert_eq!(status.status, 0, "{status:?}");
    assert_eq!(operator.lambda().asked().len(), 0);
}

/// A slow machine sees a look some seconds later than a fast one.
fn settled(seen: &str) -> String {
    seen.replace("by a handshake just now", "by a handshake 31 seconds ago")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_revoked_and_nothing_is_said_of_it_that_is_of_another() {
    let cloud = steady().await;
    let (shop, domain, served) = issued(&cloud, "shop").await;
    let operator = cloud.operator(&shop).await;
    refuse_to_add(&cloud, "TooManyCertificates").await;
    let edited = operator
        .run(&["edit", "shop", "--set", "keyType=rsa-2048", "--yes"])
        .await;
    let lost = format!("names lost to visitors that understand ECDSA alone: {domain}\n");
    assert!(edited.out.contains(&lost), "{edited:?}");
    let stuck = operator.run(&["renew", "shop"]).await;
    assert_eq!(stuck.status, 1, "{stuck:?}");
    let ready = shop.read_json("state/shop.json").await["certificate"]["serial"]
        .as_str()
        .unwrap()
        .to_owned();
    let told = format!("next: serial {ready}");
    assert!(stuck.out.contains(&told), "{}", stuck.out);

    let status = operator.in_terminal(&["status"], "").await;
    assert_eq!(status.status, 1, "{}", status.out);
    assert_shows("status-stuck", &settled(&status.seen()));
    let history = operator.run(&["history", "shop"]).await;
    for words in [
        format!("Served: {}, valid until", served.serial),
        format!("Next: {ready}, "),
    ] {
        assert!(history.out.contains(&words), "{words}: {}", history.out);
    }

    // Another attempt costs no order.
    let orders = evidence::orders(&cloud, &shop);
    operator.run(&["renew", "shop", "--force"]).await;
    assert_eq!(evidence::orders(&cloud, &shop), orders);
    let half = operator.run(&["renew", "shop", "--reissue"]).await;
    assert_eq!(half.status, 2, "{half:?}");
    assert!(half.err.contains("--force"), "{}", half.err);

    let fates = [
        format!("shop: {}, which is served until ", served.serial),
        ": revoked; the next one takes its place".to_owned(),
        format!("shop: {ready}, valid until "),
        ", which is next: kept".to_owned(),
    ];
    let unasked = operator.run(&["revoke", "shop"]).await;
    assert_eq!(unasked.status, 2, "{unasked:?}");
    assert_eq!(cloud.pebble().revoked(&served.serial).await, None);
    let revoked = operator
        .run(&["revoke", "shop", "--yes", "--reason", "keyCompromise"])
        .await;
    for fate in &fates {
        assert!(unasked.err.contains(fate), "{fate}: {}", unasked.err);
        assert!(revoked.err.contains(fate), "{fate}: {}", revoked.err);
    }
    for said in [
        format!("{} is served and was revoked at ", served.serial),
        format!("next: serial {ready}, "),
    ] {
        assert!(revoked.out.contains(&said), "{said}: {}", revoked.out);
    }
    assert_eq!(cloud.pebble().revoked(&served.serial).await, Some(1));
    assert_eq!(cloud.pebble().revoked(&ready).await, None);

    let status = operator.in_terminal(&["status"], "").await;
    assert_eq!(status.status, 1, "{}", status.out);
    assert_shows("status-revoked", &settled(&status.seen()));
    let page = operator.run(&["page"]).await;
    for words in [
        "1 needs a person",
        "<svg class=\"bar ended\"",
        "<b>Revoked</b>, served until",
        "certloop renew shop --force",
    ] {
        assert!(page.out.contains(words), "{words}: {}", page.out);
    }
    assert!(!page.out.contains("bar enough"), "{}", page.out);

    take_more_certificates(&cloud).await;
    let orders = evidence::orders(&cloud, &shop);
    let renewed = operator
        .run(&["renew", "shop", "--force", "--reissue"])
        .await;
    assert!(renewed.out.starts_with("shop  renewed"), "{renewed:?}");
    assert_eq!(evidence::orders(&cloud, &shop), orders + 1);
    let fine = operator.run(&["status"]).await;
    assert_eq!(fine.status, 0, "{fine:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_and_what_ends_it_are_said_before() {
    let cloud = steady().await;
    let (shop, domain, first) = issued(&cloud, "shop").await;
    let operator = cloud.operator(&shop).await;
    let renewed = operator.run(&["renew", "shop", "--force"]).await;
    assert_eq!(renewed.status, 0, "{renewed:?}");
    let second = shop.browser_trusts(&domain).await.unwrap();

    let unasked = operator.run(&["rollback", "shop"]).await;
    assert_eq!(unasked.status, 2, "{unasked:?}");
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    let refused = operator.in_terminal(&["rollback", "shop"], "n\n").await;
    assert_eq!(refused.status, 1, "{}", refused.out);
    let served = shop.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, second.serial);
    let back = operator.run(&["rollback", "shop", "--yes"]).await;
    let said = format!("shop: {} replaces {}\n", first.serial, second.serial);
    assert_eq!(back.err, said, "{back:?}");
    let served = shop.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, first.serial);

    for calm in ["pause", "resume"] {
        let ran = operator.run(&[calm, "shop", "--yes"]).await;
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(!ran.out.contains("rollback"), "{calm}: {}", ran.out);
    }
    let names = format!("domains=[\"www.{domain}\"]");
    let edit = ["edit", "shop", "--set", &names];
    let refused = operator.in_terminal(&edit, "n\n").await;
    assert_eq!(refused.status, 1, "{}", refused.out);
    let seen = refused.seen();
    let question = seen.find("Write it?").unwrap();
    for words in [
        "this ends the rollback that is in force (changed: domains)".to_owned(),
        format!("names lost: {domain}; "),
    ] {
        let at = seen.find(&words);
        assert!(at.is_some_and(|at| at < question), "{words}: {seen}");
    }

    let unasked = operator.run(&["remove", "shop"]).await;
    assert_eq!(unasked.status, 2, "{unasked:?}");
    let lost = format!("shop: names lost: {domain}; ");
    assert!(unasked.err.contains(&lost), "{}", unasked.err);
    shop.browser_trusts(&domain).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_pull_is_held_ready() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["shop.example.com"]);
    document["targets"] = json!([]);
    shop.point("shop.example.com").await;
    shop.put_document("shop", &document).await;
    let operator = cloud.operator(&shop).await;
    let issued = operator.run(&["renew", "shop"]).await;
    assert_eq!(issued.status, 0, "{issued:?}");

    let status = operator.in_terminal(&["status"], "").await;
    assert_eq!(status.status, 0, "{}", status.out);
    assert_shows("status-ready", &status.seen());
}
