//! What others change or lose is repaired from the vault, without a new order.

use serde_json::{Value, json};
use tests::{Installation, Invocation, LocalCloud};

use crate::helpers::{acme, arn, changing, delete_certificate, import_foreign, tags, text};

async fn serves(installation: &Installation, pass: &Invocation, name: &str) {
    let leaf = installation
        .browser_trusts(&format!("{name}.example.com"))
        .await;
    assert_eq!(leaf.unwrap().serial, text(pass, name, "serial"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_from_the_vault() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let ours = arn(&issued, "shop");

    // Removed from the listener.
    shop.remove_from_listener(&ours).await;
    assert!(shop.browser_trusts("shop.example.com").await.is_err());
    let repaired = shop.pass().await;
    assert_eq!(
        repaired.outcome("shop"),
        "deployed",
        "{:#}",
        repaired.report()
    );
    assert_eq!(repaired.count(acme), 0);
    assert_eq!(arn(&repaired, "shop"), ours);
    serves(&shop, &issued, "shop").await;

    // Removed from the listener and deleted.
    shop.remove_from_listener(&ours).await;
    delete_certificate(&cloud, &ours).await;
    let repaired = shop.pass().await;
    assert_eq!(
        repaired.outcome("shop"),
        "deployed",
        "{:#}",
        repaired.report()
    );
    assert_eq!(repaired.count(acme), 0);
    let again = arn(&repaired, "shop");
    assert_ne!(again, ours);
    assert_eq!(shop.listed().await.sni, [again.clone()].into());
    assert_eq!(
        tags(cloud.aws().acm(), &again).await["certloop:certificate"],
        "shop"
    );
    serves(&shop, &issued, "shop").await;

    // Another valid certificate replaces it as the default. That certificate stays in the list: it
    // is not ours to remove.
    let mut document = shop.document(&["shop.example.com"]);
    document["targets"][0]["as"] = json!("default");
    shop.put_document("shop", &document).await;
    let pass = shop.pass().await;
    assert_eq!(pass.outcome("shop"), "deployed", "{:#}", pass.report());
    assert_eq!(shop.listed().await.default, again);
    let wrong = import_foreign(&cloud, &["wrong.example.net"]).await;
    shop.set_default(&wrong).await;
    let repaired = shop.pass().await;
    assert_eq!(
        repaired.outcome("shop"),
        "deployed",
        "{:#}",
        repaired.report()
    );
    assert_eq!(repaired.count(acme), 0);
    let held = shop.listed().await;
    assert_eq!(held.default, again);
    assert!(held.sni.contains(&wrong));

    let kept = shop.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert_eq!(kept.count(changing), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_arn_is_found_beyond_the_first_page() {
    let cloud = LocalCloud::start().await;
    let pages = json!({"listCertificatesPage": 2, "listObjectsPage": 2, "describePage": 2});
    cloud.aws().options(pages).await;
    let shop = cloud.install("shop").await;
    let (certificate, key) = tests::tls::self_signed(&["d.example.com"]);
    let foreign = shop.import(&certificate, &key).await;
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    for name in names {
        let mut document = shop.document(&[&format!("{name}.example.com")]);
        // ACM lists it only if the request names every key type.
        document["keyType"] = json!(if name == "d" {
            "rsa-3072"
        } else {
            "ecdsa-p256"
        });
        shop.put_document(name, &document).await;
    }
    let issued = shop.pass().await;
    assert_eq!(
        issued.report()["summary"]["issued"],
        7,
        "{:#}",
        issued.report()
    );
    let before = shop.imported().await;
    assert_eq!(before.len(), 9, "two of others and ours");

    // The record has lost its ARN, as after an answer that never arrived.
    for name in names {
        let key = format!("state/{name}.json");
        let mut state = shop.read_json(&key).await;
        assert!(state["imports"]["us-east-1"]["arn"].is_string());
        state["imports"]["us-east-1"]["arn"] = Value::Null;
        shop.put(&key, state.to_string()).await;
    }
    let found = shop.pass().await;
    for name in names {
        assert_eq!(
            arn(&found, name),
            arn(&issued, name),
            "{:#}",
            found.report()
        );
        assert_eq!(
            found.certificate(name)["serial"],
            issued.certificate(name)["serial"]
        );
    }
    assert_eq!(found.count(|sent| sent.is("ImportCertificate")), 0);
    assert_eq!(found.count(acme), 0);

    // The whole record is lost. The vault may be incomplete, so one more order is placed, but no
    // second ARN is imported.
    shop.delete("state/d.json").await;
    let again = shop.pass().await;
    assert_eq!(again.outcome("d"), "issued", "{:#}", again.report());
    assert_eq!(arn(&again, "d"), arn(&issued, "d"));
    assert_eq!(again.report()["summary"]["kept"], 6, "{:#}", again.report());
    serves(&shop, &again, "d").await;

    let sorted = |mut arns: Vec<String>| {
        arns.sort();
        arns
    };
    let after = sorted(shop.imported().await);
    assert_eq!(after, sorted(before));
    let of_others = [&foreign, &shop.placeholder];
    assert!(of_others.iter().all(|arn| after.contains(arn)));
}
