//! Another key type needs another ARN: the switch has no gap and leaves nothing behind.

use serde_json::json;
use tests::{Installation, Listed, LocalCloud, PebbleOptions, Plan};

use crate::evidence::NEW_ORDER;
use crate::helpers::{
    acme, arn, changing, changing_a_listener, describe, hours_later, text, two_minutes_later,
    watched, with,
};

fn sni(installation: &Installation, arns: &[&str]) -> Listed {
    Listed {
        default: installation.placeholder.clone(),
        sni: arns.iter().map(|arn| (*arn).to_owned()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_type_change_switches_without_a_gap_and_cleans_up_later() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["shop.example.com"]);
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let ecdsa = arn(&issued, "shop");

    // To RSA. The certificate manager is slow to see that the listener no longer uses the old one.
    cloud.aws().options(json!({"inUseLagSeconds": 600})).await;
    document["keyType"] = json!("rsa-2048");
    shop.put_document("shop", &document).await;
    let (switched, states) = watched(&cloud, &shop, shop.pass()).await;
    assert_eq!(
        switched.outcome("shop"),
        "renewed",
        "{:#}",
        switched.report()
    );
    let rsa = arn(&switched, "shop");
    assert_ne!(rsa, ecdsa);
    assert_eq!(
        states,
        [
            sni(&shop, &[&ecdsa]),
            sni(&shop, &[&ecdsa, &rsa]),
            sni(&shop, &[&rsa])
        ]
    );
    assert_eq!(
        shop.browser_trusts("shop.example.com").await.unwrap().key,
        "rsa"
    );
    assert!(
        describe(&cloud, &ecdsa).await.is_some(),
        "not deleted by the pass that detached it"
    );

    let in_use = shop.pass().await;
    assert_eq!(in_use.outcome("shop"), "kept", "{:#}", in_use.report());
    assert_eq!(
        in_use.count(|sent| sent.is("DeleteCertificate")),
        0,
        "seen as in use"
    );
    cloud.aws().options(json!({"inUseLagSeconds": 0})).await;
    let deleting = shop.pass().await;
    assert_eq!(deleting.outcome("shop"), "kept", "{:#}", deleting.report());
    assert!(describe(&cloud, &ecdsa).await.is_none());
    let idle = shop.pass().await;
    assert_eq!((idle.count(acme), idle.count(changing)), (0, 0));

    // And back, with an hour between detaching and deleting.
    shop.put_settings(&with(shop.settings(), "limits", "overlapSeconds", 3600))
        .await;
    document["keyType"] = json!("ecdsa-p384");
    shop.put_document("shop", &document).await;
    let (back, states) = watched(&cloud, &shop, shop.pass()).await;
    assert_eq!(back.outcome("shop"), "renewed", "{:#}", back.report());
    let ecdsa = arn(&back, "shop");
    assert_eq!(
        states,
        [
            sni(&shop, &[&rsa]),
            sni(&shop, &[&ecdsa, &rsa]),
            sni(&shop, &[&ecdsa])
        ]
    );
    let waiting = shop.pass().await;
    assert_eq!(waiting.outcome("shop"), "kept", "{:#}", waiting.report());
    assert_eq!(waiting.count(changing), 0, "the overlap is not over");
    assert!(describe(&cloud, &rsa).await.is_some());
    shop.pass_with(hours_later(2)).await;
    assert!(describe(&cloud, &rsa).await.is_none());
    assert_eq!(shop.imported().await.len(), 2, "the placeholder's and ours");
    assert_eq!(
        shop.browser_trusts("shop.example.com").await.unwrap().key,
        "ecdsa"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_listener_a_renewal_works_and_a_key_type_change_fails_safely() {
    let cloud = LocalCloud::start_with(PebbleOptions {
        profiles: vec![("default".into(), 90 * 24 * 60 * 60)],
        ..PebbleOptions::default()
    })
    .await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["shop.example.com"]);
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let old = arn(&issued, "shop");
    let mut foreign = Vec::new();
    for index in 0..24 {
        foreign.push(
            shop.add_foreign(&format!("foreign-{index}.example.net"))
                .await,
        );
    }
    let full = shop.listed().await;
    assert_eq!(full.sni.len(), 25);

    let renewed = shop.pass_with(Plan::days_later(61)).await;
    assert_eq!(renewed.outcome("shop"), "renewed", "{:#}", renewed.report());
    assert_eq!(arn(&renewed, "shop"), old);
    assert_eq!(renewed.count(changing_a_listener), 0);

    document["keyType"] = json!("rsa-2048");
    shop.put_document("shop", &document).await;
    let failed = shop.pass().await;
    assert_eq!(failed.outcome("shop"), "failed", "{:#}", failed.report());
    let entry = failed.certificate("shop");
    assert_eq!(entry["problem"]["type"], "certloop:listenerFull");
    assert_eq!(entry["problem"]["retry"], "person");
    assert_eq!(entry["targets"][0]["state"], "failed");
    assert_eq!(
        entry["targets"][0]["certificateArn"],
        old.as_str(),
        "the served certificate"
    );
    assert_eq!(
        failed.count(|sent| sent.is("RemoveListenerCertificates")),
        0
    );
    assert_eq!(shop.listed().await, full);
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, text(&renewed, "shop", "serial"));

    let waiting = shop.pass().await;
    assert_eq!(waiting.outcome("shop"), "waiting", "{:#}", waiting.report());
    assert_eq!(
        waiting.certificate("shop")["nextAttempt"],
        entry["nextAttempt"]
    );
    assert_eq!((waiting.count(acme), waiting.count(changing)), (0, 0));

    // Somebody makes room: the certificate in the vault is attached, not another one.
    shop.remove_from_listener(&foreign[7]).await;
    let finished = shop.pass_with(two_minutes_later()).await;
    assert_eq!(
        finished.outcome("shop"),
        "deployed",
        "{:#}",
        finished.report()
    );
    assert_eq!(
        (
            finished.count(|sent| sent.is_acme(NEW_ORDER)),
            finished.count(|sent| sent.is("ImportCertificate"))
        ),
        (0, 0)
    );
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(
        (leaf.key, leaf.serial),
        ("rsa", text(&failed, "shop", "serial"))
    );
    let listed = shop.listed().await.sni;
    assert!(!listed.contains(&old) && listed.contains(&arn(&finished, "shop")));
    assert_eq!(
        foreign.iter().filter(|arn| listed.contains(*arn)).count(),
        23
    );
    shop.pass_with(two_minutes_later()).await;
    assert!(describe(&cloud, &old).await.is_none());
}
