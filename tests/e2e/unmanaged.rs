//! The certificates that are not ours: the inventory lists them on request.

use serde_json::json;
use tests::{Fault, LocalCloud};

use crate::evidence;
use crate::helpers::{arn, import_foreign};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_told_with_its_end_and_what_uses_it() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("theirs").await;
    let spare = import_foreign(&cloud, &["spare.example.com"]).await;
    site.want("shop", &["shop.theirs.example.com"]).await;
    let pass = site.pass().await;
    let ours = arn(&pass, "shop");

    let plain = site.invoke(&json!({"action": "status"})).await;
    assert!(
        plain.report()["unmanaged"].is_null(),
        "{:#}",
        plain.report()
    );
    let asked = json!({"action": "status", "unmanaged": true});
    let status = site.invoke(&asked).await;
    assert!(evidence::writes(&status).is_empty());
    let told = status.report()["unmanaged"].as_array().unwrap();
    let of = |arn: &str| told.iter().find(|one| one["arn"] == arn).unwrap();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told.iter().all(|one| one["arn"] != ours.as_str()));
    assert_eq!(of(&spare)["domains"], json!(["spare.example.com"]));
    assert_eq!(of(&spare)["inUseBy"], json!([]));
    let placeholder = of(&site.placeholder);
    assert_eq!(placeholder["domains"], json!(["placeholder.invalid"]));
    assert_eq!(
        placeholder["inUseBy"],
        json!([site.listener]),
        "the listener, not its load balancer"
    );
    assert!(placeholder["notAfter"].is_string());

    cloud
        .to_aws()
        .inject(Fault::on("ListTagsForCertificate").always().hang_up());
    let blind = site.invoke(&asked).await;
    let error = blind.result.unwrap_err().message;
    assert!(error.contains("cannot be listed"), "{error}");
}
