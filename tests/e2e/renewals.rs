//! When a new certificate is ordered, and when not.

use serde_json::json;
use tests::{Fault, LocalCloud, PebbleOptions, Plan, Response};

use crate::helpers::{acme, arn, changing, changing_a_listener, describe, import_foreign, text};

const DAY: u64 = 24 * 60 * 60;

/// Without a profile Pebble chooses one at random. These tests need to know a certificate's
/// lifetime.
async fn cloud(profiles: &[(&str, u64)]) -> LocalCloud {
    let profiles = profiles.iter();
    let profiles = profiles.map(|(name, days)| ((*name).to_owned(), days * DAY));
    LocalCloud::start_with(PebbleOptions {
        profiles: profiles.collect(),
        ..PebbleOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_two_months_later_under_the_same_arn() {
    let cloud = cloud(&[("default", 90)]).await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let first = shop.pass().await;
    assert_eq!(first.outcome("shop"), "issued", "{:#}", first.report());
    let (first_arn, first_serial) = (arn(&first, "shop"), text(&first, "shop", "serial"));

    // Nothing is due: one look, and nothing else.
    let kept = shop.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    let mut calls: Vec<&str> = kept
        .requests
        .iter()
        .map(|sent| sent.call.as_str())
        .collect();
    calls.sort_unstable();
    assert_eq!(
        calls,
        [
            "DescribeListenerCertificates",
            "DescribeListeners",
            "DescribeRules",
            "DescribeTargetGroups",
            "GetObject certificates/shop.json",
            "GetObject limits/certificate-manager-us-east-1.json",
            "GetObject limits/strays.json",
            "GetObject settings.json",
            "GetObject state/shop.json",
            "ListObjectsV2",
            "ListObjectsV2",
        ]
    );

    // Two months later it is due.
    let second = shop.pass_with(Plan::days_later(61)).await;
    assert_eq!(second.outcome("shop"), "renewed", "{:#}", second.report());
    let second_serial = text(&second, "shop", "serial");
    assert_ne!(second_serial, first_serial);
    assert_eq!(arn(&second, "shop"), first_arn);
    assert_eq!(
        second.count(changing_a_listener),
        0,
        "the listener's ARN is the same"
    );
    assert_eq!(second.certificate("shop")["targets"][0]["proved"], true);
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, second_serial);
    let vault = |serial: &str| format!("vault/shop/{serial}.json");
    let mut both = [vault(&first_serial), vault(&second_serial)];
    both.sort();
    assert_eq!(shop.keys("vault/").await, both);

    // The authority's clock has not moved, so the third is due at once: the previous one is kept,
    // the older one goes.
    let third = shop.pass_with(Plan::days_later(61)).await;
    assert_eq!(third.outcome("shop"), "renewed", "{:#}", third.report());
    let mut both = [
        vault(&second_serial),
        vault(&text(&third, "shop", "serial")),
    ];
    both.sort();
    assert_eq!(shop.keys("vault/").await, both);
    assert_eq!(arn(&third, "shop"), first_arn);
    assert_eq!(shop.imported().await.len(), 2, "the placeholder's and ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_change_of_what_is_certified_orders_anew() {
    let cloud = cloud(&[("monthly", 30), ("quarterly", 90)]).await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["www.example.com", "Bücher.example.com", "a.example.com"]);
    document["profile"] = json!("monthly");
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let leaf = shop
        .browser_trusts("xn--bcher-kva.example.com")
        .await
        .unwrap();
    assert_eq!(leaf.names.len(), 3);

    // The same names in another order, case and spelling.
    document["domains"] = json!([
        "XN--BCHER-KVA.example.com",
        "A.Example.com",
        "www.example.com"
    ]);
    shop.put_document("shop", &document).await;
    let kept = shop.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert_eq!((kept.count(acme), kept.count(changing)), (0, 0));

    // Other names: a new certificate at once, under the same ARN while the two share a name.
    document["domains"] = json!(["www.example.com", "new.example.com"]);
    shop.put_document("shop", &document).await;
    let changed = shop.pass().await;
    assert_eq!(changed.outcome("shop"), "renewed", "{:#}", changed.report());
    assert!(text(&changed, "shop", "reason").contains("new.example.com"));
    assert_eq!(arn(&changed, "shop"), arn(&issued, "shop"));
    let mut names = shop.browser_trusts("new.example.com").await.unwrap().names;
    names.sort();
    assert_eq!(names, ["new.example.com", "www.example.com"]);
    assert!(shop.browser_trusts("a.example.com").await.is_err());

    // Names that share none with the old ones cannot go under the old ARN.
    document["domains"] = json!(["other.example.com"]);
    shop.put_document("shop", &document).await;
    let moved = shop.pass().await;
    assert_eq!(moved.outcome("shop"), "renewed", "{:#}", moved.report());
    assert_ne!(arn(&moved, "shop"), arn(&issued, "shop"));
    assert_eq!(shop.listed().await.sni, [arn(&moved, "shop")].into());
    assert!(shop.browser_trusts("www.example.com").await.is_err());
    shop.pass().await;
    assert!(
        describe(&cloud, &arn(&issued, "shop")).await.is_none(),
        "deleted by the next pass"
    );

    // Another profile waits for the renewal, which uses it.
    document["profile"] = json!("quarterly");
    shop.put_document("shop", &document).await;
    let kept = shop.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert_eq!(kept.count(acme), 0);
    let renewed = shop.pass_with(Plan::days_later(22)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    let leaf = shop.browser_trusts("other.example.com").await.unwrap();
    assert_eq!((leaf.not_after - leaf.not_before).whole_days(), 89);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_directory_said_binds_no_other() {
    let cloud = cloud(&[("default", 90)]).await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let refused = Fault::on("/order-plz").always();
    let refused = refused.problem(403, "rejectedIdentifier", "not here: shop.example.com");
    cloud.to_acme().inject(refused);
    assert_eq!(shop.pass().await.outcome("shop"), "failed");
    let waiting = shop.pass().await;
    assert_eq!(waiting.outcome("shop"), "waiting", "{:#}", waiting.report());

    // From staging to production: a wait that staging asked for does not apply.
    let mut settings = shop.settings();
    let directory = cloud.directory().replacen(".2:", ".3:", 1);
    settings["authorities"]["pebble"]["directory"] = json!(directory);
    shop.put_settings(&settings).await;

    let pass = shop.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_means_another_account_and_a_new_certificate() {
    let cloud = cloud(&[("default", 90)]).await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let first = shop.pass().await;
    assert_eq!(first.outcome("shop"), "issued", "{:#}", first.report());
    let accounts = shop.keys("accounts/").await;

    // Pebble's own address instead of the proxy's.
    let mut settings = shop.settings();
    let directory = cloud.directory().replacen(".2:", ".3:", 1);
    assert_ne!(directory, cloud.directory());
    settings["authorities"]["pebble"]["directory"] = json!(directory);
    shop.put_settings(&settings).await;
    let second = shop.pass().await;

    assert_eq!(second.outcome("shop"), "renewed", "{:#}", second.report());
    assert_eq!(
        second.count(acme),
        0,
        "the former directory gets no request"
    );
    assert_ne!(
        text(&second, "shop", "serial"),
        text(&first, "shop", "serial")
    );
    assert_eq!(arn(&second, "shop"), arn(&first, "shop"));
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, text(&second, "shop", "serial"));
    let both = shop.keys("accounts/").await;
    assert_eq!(both.len(), 2);
    assert!(both.contains(&accounts[0]), "the former account is kept");
    let third = shop.pass().await;
    assert_eq!(third.outcome("shop"), "kept", "{:#}", third.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_take_the_old_ones_place_gets_an_arn_of_its_own() {
    let cloud = cloud(&[("default", 90)]).await;
    let shop = cloud.install("shop").await;

    // Ours by its tags (the record of it is lost), but without the key usages of a new one: an
    // import may not add them.
    let bare = import_foreign(&cloud, &["shop.example.com"]).await;
    let add = cloud.aws().acm().add_tags_to_certificate();
    add.certificate_arn(&bare)
        .tags(tag("certloop:installation", "shop-certificates"))
        .tags(tag("certloop:certificate", "shop"))
        .send()
        .await
        .unwrap();
    shop.add_to_listener(&bare).await;
    shop.want("shop", &["shop.example.com"]).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let first = arn(&issued, "shop");
    assert_ne!(first, bare);
    assert_eq!(shop.listed().await.sni, [first.clone()].into());
    assert_eq!(issued.count(|sent| sent.is("ImportCertificate")), 1);
    shop.pass().await;
    assert!(
        describe(&cloud, &bare).await.is_none(),
        "deleted by the next pass"
    );

    // A refusal that nothing announced.
    let refusal = Response::new(400, r#"{"__type":"ValidationException","message":"No."}"#);
    let refusal = refusal.with("Content-Type", "application/x-amz-json-1.1");
    cloud
        .to_aws()
        .inject(Fault::on("ImportCertificate").answer(refusal));
    let renewed = shop.pass_with(Plan::days_later(61)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    let second = arn(&renewed, "shop");
    assert_ne!(second, first);
    assert_eq!(shop.listed().await.sni, [second].into());
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, text(&renewed, "shop", "serial"));
}

fn tag(key: &str, value: &str) -> aws_sdk_acm::types::Tag {
    let tag = aws_sdk_acm::types::Tag::builder().key(key).value(value);
    tag.build().unwrap()
}
