//! The metrics behind the alarms: each number of a full pass follows from what was done.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud, Plan};

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, later};
use crate::helpers::{arn, hours_later};

/// The one line of metrics of a pass.
fn metrics(pass: &Invocation) -> Value {
    let mut lines = pass.metrics();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

async fn strays_told(site: &Installation, plan: Plan) -> Vec<Value> {
    let asked = json!({"action": "status", "unmanaged": true});
    let status = site.invoke_with(&asked, plan).await;
    let mut told = status.report()["unmanaged"].as_array().unwrap().clone();
    told.retain(|one| one["stray"].is_string());
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_counts_until_it_has_succeeded_whether_or_not_it_is_tried() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    assert_eq!(metrics(&site.pass().await)["Failing"], 0);
    site.want("shop", &["shop.example.com"]).await;
    let down = Fault::on(NEW_ORDER).always().problem(
        500,
        "urn:ietf:params:acme:error:serverInternal",
        "down",
    );
    cloud.to_acme().inject(down);
    // The ladder: tried, waiting, tried, then waiting for hours.
    for (minutes, outcome, failed) in [
        (0, "failed", 1),
        (0, "waiting", 0),
        (2, "failed", 1),
        (2, "waiting", 0),
        (15, "failed", 1),
        (40, "waiting", 0),
        (60, "waiting", 0),
    ] {
        let pass = site.pass_with(later(minutes * MINUTE)).await;
        assert_eq!(
            pass.outcome("shop"),
            outcome,
            "{minutes}: {:#}",
            pass.report()
        );
        let told = metrics(&pass);
        assert_eq!(told["Failed"], failed, "{minutes}: {told}");
        assert_eq!(told["Failing"], 1, "{minutes}: {told}");
    }
    // A paused certificate needs no order.
    let mut document = site.document(&["shop.example.com"]);
    document["paused"] = true.into();
    site.put_document("shop", &document).await;
    let paused = site.pass_with(later(61 * MINUTE)).await;
    assert_eq!(metrics(&paused)["Failing"], 0, "{:#}", paused.report());
    cloud.to_acme().heal();
    site.want("shop", &["shop.example.com"]).await;
    let issued = site.pass_with(later(130 * MINUTE)).await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    assert_eq!(metrics(&issued)["Failing"], 0);
    // A certificate that is in the vault and not on its listener also counts as failing.
    let refused = Fault::on("ImportCertificate").always().hang_up();
    cloud.to_aws().inject(refused);
    site.want("blog", &["blog.example.com"]).await;
    for outcome in ["failed", "waiting"] {
        let pass = site.pass_with(later(131 * MINUTE)).await;
        assert_eq!(pass.outcome("blog"), outcome, "{:#}", pass.report());
        assert_eq!(metrics(&pass)["Failing"], 1);
    }
    cloud.to_aws().heal();
    let deployed = site.pass_with(later(134 * MINUTE)).await;
    assert_eq!(
        deployed.outcome("blog"),
        "deployed",
        "{:#}",
        deployed.report()
    );
    assert_eq!(metrics(&deployed)["Failing"], 0, "{:#}", deployed.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_for_a_day_and_not_served_counts() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let down = Fault::on(NEW_ORDER).always().hang_up();
    cloud.to_acme().inject(down);
    let first = site.pass().await;
    assert_eq!(first.outcome("shop"), "failed", "{:#}", first.report());
    assert_eq!(metrics(&first)["Unserved"], 0);
    let mut state = site.read_json("state/shop.json").await;
    let since = state["history"][0]["at"].clone();
    state["unservedSince"] = since;
    site.put("state/shop.json", state.to_string()).await;
    let unserved = async |hours, paused: bool| {
        let mut document = site.document(&["shop.example.com"]);
        document["paused"] = paused.into();
        site.put_document("shop", &document).await;
        metrics(&site.pass_with(hours_later(hours)).await)["Unserved"].clone()
    };
    assert_eq!(unserved(23, false).await, 0);
    assert_eq!(unserved(25, false).await, 1);
    assert_eq!(unserved(26, true).await, 0, "a paused one does not count");
    assert_eq!(unserved(50, false).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_wiped_does_not_look_healthy() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.add_foreign("other.example.com").await;
    site.want("shop", &["shop.example.com"]).await;
    site.want("blog", &["blog.example.com"]).await;
    let issued = site.pass().await;
    let told = metrics(&issued);
    assert_eq!(
        (&told["CertificatesManaged"], &told["Strays"]),
        (&json!(2), &json!(0))
    );
    assert!(strays_told(&site, hours_later(2)).await.is_empty());

    let mut kept = Vec::new();
    for prefix in ["certificates/", "state/", "vault/", "limits/"] {
        for key in site.keys(prefix).await {
            kept.push((key.clone(), site.read(&key).await.unwrap()));
            site.delete(&key).await;
        }
    }
    let wiped = site.pass_with(hours_later(2)).await;
    let told = metrics(&wiped);
    assert_eq!(
        (&told["Passes"], &told["CertificatesManaged"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(told["Strays"], 2, "{told}");
    assert!(told["LifetimeLeftShare"].is_null(), "{told}");
    // Reported again without another look. Each has its name.
    let again = site.pass_with(hours_later(2)).await;
    assert_eq!(metrics(&again)["Strays"], 2);
    assert_eq!(again.count(|sent| sent.is("ListCertificates")), 0);
    assert_eq!(evidence::writes(&again), Vec::<String>::new());
    let strays = strays_told(&site, hours_later(2)).await;
    let mut of: Vec<_> = (strays.iter())
        .map(|one| (one["stray"].as_str().unwrap(), one["arn"].as_str().unwrap()))
        .collect();
    of.sort_unstable();
    let (shop, blog) = (arn(&issued, "shop"), arn(&issued, "blog"));
    assert_eq!(of, [("blog", blog.as_str()), ("shop", shop.as_str())]);

    for (key, body) in kept
        .into_iter()
        .filter(|(key, _)| !key.starts_with("limits/"))
    {
        site.put(&key, body).await;
    }
    let back = metrics(&site.pass_with(hours_later(4)).await);
    assert_eq!(
        (&back["CertificatesManaged"], &back["Strays"]),
        (&json!(2), &json!(0))
    );
    assert!(back["LifetimeLeftShare"].is_f64(), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strays_are_looked_for_daily_and_where_certificates_are_gone() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    site.want("blog", &["blog.example.com"]).await;
    site.pass().await;
    let looked = |pass: &Invocation| pass.count(|sent| sent.is("ListCertificates"));
    let quiet = site.pass_with(hours_later(2)).await;
    assert_eq!(
        (looked(&quiet), metrics(&quiet)["Strays"].clone()),
        (0, json!(0))
    );
    // One record is lost, and so is its document: the last look found one certificate more.
    for key in ["certificates/blog.json", "state/blog.json"] {
        site.delete(key).await;
    }
    let fewer = site.pass_with(hours_later(3)).await;
    let told = metrics(&fewer);
    assert_eq!(
        (looked(&fewer), told["Strays"].clone()),
        (1, json!(1)),
        "{told}"
    );
    assert!(
        told["LifetimeLeftShare"].is_f64(),
        "of the certificates that are left: {told}"
    );
    // The record alone decides: the document does not say what the certificate manager holds.
    let next_day = site.pass_with(later(2 * DAY)).await;
    assert_eq!(looked(&next_day), 1);
    // An unknown number is not reported as zero.
    cloud
        .to_aws()
        .inject(Fault::on("ListTagsForCertificate").always().hang_up());
    let blind = site.pass_with(later(4 * DAY)).await;
    assert!(metrics(&blind)["Strays"].is_null(), "{:#}", blind.report());
    assert_eq!(blind.outcome("shop"), "kept", "{:#}", blind.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_at_work_is_not_managed() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    site.want("blog", &["blog.example.com"]).await;
    site.pass().await;
    site.delete("certificates/blog.json").await;
    let mut state = site.read_json("state/blog.json").await;
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(60);
    let until = soon.format(&time::format_description::well_known::Rfc3339);
    state["lease"] = json!({"owner": "another", "until": until.unwrap()});
    site.put("state/blog.json", state.to_string()).await;
    // If one pass counted it and the next did not, the alarm would see a fall.
    assert_eq!(metrics(&site.pass().await)["CertificatesManaged"], 1);
}
