//! Certificates that the public does not trust.

use serde_json::{Value, json};
use tests::LocalCloud;

use crate::evidence::MINUTE;
use crate::evidence::later;

#[tokio::test(flavor = "multi_thread")]
async fn a_root_the_public_does_not_know_is_a_problem_unless_it_is_private() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let mut settings = site.settings();
    for (private, is_problem) in [
        (json!(false), true),
        (json!(true), false),
        // An authority with a root of its own counts as private.
        (Value::Null, false),
        (json!(false), true),
    ] {
        settings["authorities"]["pebble"]["private"] = private.clone();
        site.put_settings(&settings).await;
        // Facts about a certificate do not depend on the settings at the time it was issued.
        let passes = [site.pass().await, site.pass_with(later(MINUTE)).await];
        let status = site.invoke(&json!({"action": "status"})).await;
        let shown = &status.report()["certificates"][0]["problem"];
        let told = passes.each_ref().map(|pass| {
            let told = pass.certificate("shop");
            assert_ne!(told["outcome"], "failed", "{told:#}");
            &told["problem"]
        });
        for problem in told.into_iter().chain([shown]) {
            let expected = match is_problem {
                true => json!("certloop:untrusted"),
                false => Value::Null,
            };
            assert_eq!(problem["type"], expected, "{private}: {problem:#}");
            if is_problem {
                assert_eq!(problem["retry"], "person", "{problem:#}");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains("private"), "{detail}");
            }
        }
    }

    // On no target, trust does not matter.
    let mut nowhere = site.document(&["vault.example.com"]);
    nowhere["targets"] = json!([]);
    site.put_document("vault", &nowhere).await;
    let pass = site.pass().await;
    let told = pass.certificate("vault");
    assert_eq!(told["outcome"], "issued", "{told:#}");
    assert_eq!(told["problem"], Value::Null, "{told:#}");
}
