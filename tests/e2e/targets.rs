//! The targets of certificates besides one listener, and the owners of certificates.

use serde_json::{Value, json};
use tests::{LocalCloud, PebbleOptions, Plan};

use crate::evidence::NEW_ORDER;
use crate::helpers::{
    acme, arn, changing, changing_a_listener, describe_with, tags, text, two_minutes_later,
};

async fn cloud() -> LocalCloud {
    LocalCloud::start_with(PebbleOptions {
        profiles: vec![("default".into(), 90 * 24 * 60 * 60)],
        ..PebbleOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_follows_its_targets() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    let second = cloud.install("second").await;
    let ireland = cloud.aws().acm_in("eu-west-1");
    let on = |listener: &str| json!({"type": "listener", "arn": listener});
    let mut document = shop.document(&["shop.example.com"]);
    document["tags"] = json!({"Team": "web"});

    // No target: issued and kept in the vault.
    document["targets"] = json!([]);
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    assert_eq!(issued.certificate("shop")["certificateArn"], Value::Null);
    assert_eq!(shop.imported().await.len(), 2, "the placeholders");
    let serial = text(&issued, "shop", "serial");
    assert_eq!(
        shop.keys("vault/").await,
        [format!("vault/shop/{serial}.json")]
    );
    assert_eq!(shop.pass().await.outcome("shop"), "kept");

    // On two load balancers and in another region: no new order.
    let ireland_target = json!({"type": "certificateManager", "region": "eu-west-1"});
    document["targets"] = json!([on(&shop.listener), on(&second.listener), ireland_target]);
    shop.put_document("shop", &document).await;
    let deployed = shop.pass().await;
    assert_eq!(
        deployed.outcome("shop"),
        "deployed",
        "{:#}",
        deployed.report()
    );
    assert_eq!(deployed.count(acme), 0);
    let home = arn(&deployed, "shop");
    for installation in [&shop, &second] {
        assert!(installation.listed().await.sni.contains(&home));
        let leaf = installation
            .browser_trusts("shop.example.com")
            .await
            .unwrap();
        assert_eq!(leaf.serial, serial);
    }
    let targets = deployed.certificate("shop")["targets"]
        .as_array()
        .unwrap()
        .clone();
    let states: Vec<&Value> = targets.iter().map(|target| &target["state"]).collect();
    assert_eq!(states, ["attached", "attached", "imported"]);
    let away = targets[2]["certificateArn"].as_str().unwrap().to_owned();
    assert!(away.starts_with("arn:aws:acm:eu-west-1:"), "{away}");
    let expected = [
        ("Team", "web"),
        ("certloop:certificate", "shop"),
        ("certloop:installation", "shop-certificates"),
    ];
    for (acm, arn) in [(cloud.aws().acm(), &home), (&ireland, &away)] {
        let tags = tags(acm, arn).await;
        let tags: Vec<(&str, &str)> = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(tags, expected, "{arn}");
    }

    // Renewed everywhere, under the same ARNs.
    let renewed = shop.pass_with(Plan::days_later(61)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    assert_eq!(renewed.count(changing_a_listener), 0);
    let serial = text(&renewed, "shop", "serial");
    for (acm, arn) in [(cloud.aws().acm(), &home), (&ireland, &away)] {
        let held = describe_with(acm, arn).await.unwrap();
        let held = held.serial.unwrap().replace(':', "").to_lowercase();
        assert_eq!(
            held.trim_start_matches('0'),
            serial.trim_start_matches('0'),
            "{arn}"
        );
    }

    // One target less: detached there and reported once, without a new order.
    document["targets"] = json!([on(&shop.listener)]);
    shop.put_document("shop", &document).await;
    let fewer = shop.pass().await;
    assert_eq!(fewer.outcome("shop"), "deployed", "{:#}", fewer.report());
    assert_eq!(fewer.count(|sent| sent.is_acme(NEW_ORDER)), 0);
    assert!(second.listed().await.sni.is_empty());
    assert!(shop.browser_trusts("shop.example.com").await.is_ok());
    let told: Vec<(&Value, &Value)> = fewer.certificate("shop")["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| (&target["arn"], &target["state"]))
        .collect();
    let first = (&json!(shop.listener), &json!("attached"));
    let gone = (&json!(second.listener), &json!("detached"));
    assert!(told.contains(&first) && told.contains(&gone), "{told:?}");
    // The next pass deletes the import that nothing else uses.
    let tidied = shop.pass().await;
    assert_eq!(tidied.outcome("shop"), "kept", "{:#}", tidied.report());
    let told = tidied.certificate("shop")["targets"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(told, 1, "{:#}", tidied.report());
    assert!(describe_with(&ireland, &away).await.is_none());
    let idle = shop.pass().await;
    assert_eq!(
        (idle.outcome("shop"), idle.count(changing)),
        ("kept", 0),
        "{:#}",
        idle.report()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arn_that_others_follow_does_not_change() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["shop.example.com"]);
    document["targets"] = json!([{"type": "certificateManager"}]);
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let held = arn(&issued, "shop");

    document["keyType"] = json!("rsa-2048");
    shop.put_document("shop", &document).await;
    let failed = shop.pass().await;

    assert_eq!(failed.outcome("shop"), "failed", "{:#}", failed.report());
    let entry = failed.certificate("shop");
    assert_eq!(entry["problem"]["type"], "certloop:arnWouldChange");
    assert_eq!(entry["problem"]["retry"], "person");
    assert_eq!(entry["certificateArn"], held.as_str());
    let kept = describe_with(cloud.aws().acm(), &held).await.unwrap();
    assert_eq!(kept.key_algorithm.unwrap().as_str(), "EC_prime256v1");
    assert_eq!(shop.imported().await.len(), 2, "the placeholder's and ours");

    // Tried again later, without another order. After the edit is undone, the next certificate goes
    // under the ARN.
    let again = shop.pass_with(two_minutes_later()).await;
    assert_eq!(again.outcome("shop"), "failed", "{:#}", again.report());
    assert_eq!(again.count(acme), 0);
    document["keyType"] = json!("ecdsa-p256");
    shop.put_document("shop", &document).await;
    let undone = shop.pass().await;
    assert_eq!(undone.outcome("shop"), "renewed", "{:#}", undone.report());
    assert_eq!(arn(&undone, "shop"), held);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_with_a_document_of_the_same_name_leave_each_other_alone() {
    let cloud = cloud().await;
    let east = cloud.install("east").await;
    let west = cloud.install("west").await;
    // The same name, domain, account and region; each on its own load balancer.
    east.want("shop", &["shop.example.com"]).await;
    let first = east.pass().await;
    assert_eq!(first.outcome("shop"), "issued", "{:#}", first.report());
    let everywhere = json!({"host": "shop.example.com"});
    cloud.pebble().dns("clear-a", everywhere).await;
    west.want("shop", &["shop.example.com"]).await;
    let second = west.pass().await;
    assert_eq!(second.outcome("shop"), "issued", "{:#}", second.report());
    let (easts, wests) = (arn(&first, "shop"), arn(&second, "shop"));
    assert_ne!(easts, wests);

    // Renewals, and a switch with its cleanup, on one side.
    let renewed = west.pass_with(Plan::days_later(61)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    let mut document = west.document(&["shop.example.com"]);
    document["keyType"] = json!("rsa-2048");
    west.put_document("shop", &document).await;
    let switched = west.pass().await;
    assert_eq!(
        switched.outcome("shop"),
        "renewed",
        "{:#}",
        switched.report()
    );
    west.pass().await;

    // The other side holds and serves the same as before. Even a lost ARN is looked for among its
    // own certificates only.
    let leaf = east.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, text(&first, "shop", "serial"));
    let mut state = east.read_json("state/shop.json").await;
    state["imports"]["us-east-1"]["arn"] = Value::Null;
    east.put("state/shop.json", state.to_string()).await;
    let found = east.pass().await;
    assert_eq!(arn(&found, "shop"), easts, "{:#}", found.report());
    assert_eq!(west.listed().await.sni, [arn(&switched, "shop")].into());
    let mut imported = east.imported().await;
    let placeholders = [&east.placeholder, &west.placeholder];
    imported.retain(|arn| !placeholders.contains(&arn));
    imported.sort();
    let mut expected = [easts, arn(&switched, "shop")];
    expected.sort();
    assert_eq!(imported, expected);

    // A certificate with other tags is no longer ours: it is left alone, and another one is
    // imported.
    let lost = arn(&switched, "shop");
    let tag = aws_sdk_acm::types::Tag::builder();
    let tag = tag
        .key("certloop:installation")
        .value("somebody-else")
        .build()
        .unwrap();
    let add = cloud.aws().acm().add_tags_to_certificate();
    add.certificate_arn(&lost).tags(tag).send().await.unwrap();
    west.remove_from_listener(&lost).await;
    let before = describe_with(cloud.aws().acm(), &lost)
        .await
        .unwrap()
        .serial;
    let renewed = west.pass_with(Plan::days_later(61)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    assert_ne!(arn(&renewed, "shop"), lost);
    west.pass_with(Plan::days_later(61)).await;
    let after = describe_with(cloud.aws().acm(), &lost)
        .await
        .unwrap()
        .serial;
    assert_eq!(after, before);
}
