//! Several names in a certificate, several certificates in a pass, every type of key.

use serde_json::json;
use tests::LocalCloud;

use crate::helpers::{arn, describe};

#[tokio::test(flavor = "multi_thread")]
async fn one_pass_makes_certificates_of_many_names_and_all_key_types() {
    let key_types = [
        ("ecdsa-p256", "EC_prime256v1", "ecdsa"),
        ("ecdsa-p384", "EC_secp384r1", "ecdsa"),
        ("rsa-2048", "RSA_2048", "rsa"),
        ("rsa-3072", "RSA_3072", "rsa"),
        ("rsa-4096", "RSA_4096", "rsa"),
    ];
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    for (key_type, ..) in key_types {
        let (apex, www) = (
            format!("{key_type}.example.com"),
            format!("www.{key_type}.example.com"),
        );
        let mut document = shop.document(&[&www, &apex]);
        document["keyType"] = json!(key_type);
        shop.put_document(key_type, &document).await;
    }

    let pass = shop.pass().await;

    assert_eq!(pass.report()["summary"]["issued"], 5, "{:#}", pass.report());
    let listed = shop.listed().await;
    assert_eq!(
        (listed.default, listed.sni.len()),
        (shop.placeholder.clone(), 5)
    );
    for (key_type, algorithm, key) in key_types {
        let (apex, www) = (
            format!("{key_type}.example.com"),
            format!("www.{key_type}.example.com"),
        );
        let arn = arn(&pass, key_type);
        let held = describe(&cloud, &arn).await.unwrap();
        assert_eq!(held.key_algorithm.unwrap().as_str(), algorithm);
        assert!(listed.sni.contains(&arn));
        for name in [&apex, &www] {
            let leaf = shop.browser_trusts(name).await.unwrap();
            assert_eq!(leaf.serial, pass.certificate(key_type)["serial"], "{name}");
            assert_eq!(leaf.key, key, "{name}");
            let mut names = leaf.names;
            names.sort();
            assert_eq!(names, [apex.as_str(), www.as_str()]);
        }
        let target = &pass.certificate(key_type)["targets"][0];
        assert_eq!(
            (&target["state"], &target["proved"]),
            (&json!("attached"), &json!(true))
        );
    }
    // One account served them all. Nothing is left of the validations.
    assert_eq!(shop.keys("accounts/").await.len(), 1);
    assert!(shop.keys("challenges/").await.is_empty());
    assert_eq!(shop.keys("vault/").await.len(), 5);
}
