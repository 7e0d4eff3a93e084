//! Concurrency: passes, events and a person with an editor at the same time.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::evidence::{self, FINALIZE, NEW_ORDER, instant, until};

fn outcomes(passes: &[Invocation], name: &str) -> Vec<String> {
    let mut outcomes: Vec<String> = passes
        .iter()
        .map(|pass| pass.outcome(name).to_owned())
        .collect();
    outcomes.sort();
    outcomes
}

fn reports(passes: &[Invocation]) -> String {
    let reports = passes.iter().map(|pass| format!("{:#}", pass.report()));
    reports.collect::<Vec<_>>().join("\n")
}

/// Returns the event that the bucket sends when a document is put.
fn object_created(site: &Installation, name: &str) -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../../events/object-created.json")).unwrap();
    event["detail"]["bucket"]["name"] = site.bucket.as_str().into();
    event["detail"]["object"]["key"] = format!("certificates/{name}.json").into();
    event
}

fn from_now(seconds: i64) -> String {
    let at = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    at.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

async fn lease(site: &Installation, name: &str, until: &str) {
    let lease = json!({"owner": "another invocation", "until": until});
    let state = json!({"version": 1, "writeId": "elsewhere", "lease": lease});
    site.put(&format!("state/{name}.json"), state.to_string())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_passes_at_the_same_moment_make_one_order() {
    let cloud = LocalCloud::start().await;
    for round in 0..5 {
        let site = cloud.install(&format!("round-{round}")).await;
        let domain = format!("round-{round}.example.com");
        site.want("shop", &[&domain]).await;

        let (left, right) = tokio::join!(site.pass(), site.pass());

        let passes = [left, right];
        let told = reports(&passes);
        assert_eq!(outcomes(&passes, "shop"), ["issued", "waiting"], "{told}");
        let loser = passes.iter().find(|pass| pass.outcome("shop") == "waiting");
        let loser = loser.unwrap().certificate("shop");
        assert!(
            instant(&loser["nextAttempt"]) > OffsetDateTime::now_utc(),
            "{told}"
        );
        assert!(loser["problem"].is_null(), "{told}");
        assert_eq!(evidence::orders(&cloud, &site), 1, "{told}");
        assert_eq!(evidence::accounts(&cloud, &site), 1, "{told}");
        assert_eq!(evidence::issued(&cloud, &site), 1, "{told}");
        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_first_runs_for_two_certificates_make_one_account() {
    let cloud = LocalCloud::start().await;
    for round in 0..5 {
        let site = cloud.install(&format!("round-{round}")).await;
        site.want("shop", &[&format!("shop-{round}.example.com")])
            .await;
        site.want("blog", &[&format!("blog-{round}.example.com")])
            .await;

        let only = |name: &str| json!({"action": "reconcile", "certificates": [name]});
        let (shop, blog) = (only("shop"), only("blog"));
        let (shop, blog) = tokio::join!(site.invoke(&shop), site.invoke(&blog));

        assert_eq!(shop.outcome("shop"), "issued", "{:#}", shop.report());
        assert_eq!(blog.outcome("blog"), "issued", "{:#}", blog.report());
        assert_eq!(evidence::accounts(&cloud, &site), 1);
        assert_eq!(site.keys("accounts/").await.len(), 1);
        assert_eq!(evidence::orders(&cloud, &site), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_and_a_bucket_event_at_once_make_one_order() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    site.want("blog", &["blog.example.com"]).await;
    let event = object_created(&site, "shop");

    let (one, two, three, put) =
        tokio::join!(site.pass(), site.pass(), site.pass(), site.invoke(&event));

    let told = reports(&[one.clone(), two.clone(), three.clone(), put.clone()]);
    let named = put.report()["certificates"].as_array().unwrap().len();
    assert_eq!(named, 1, "the event is about one: {told}");
    let shop = outcomes(&[one.clone(), two.clone(), three.clone(), put], "shop");
    let blog = outcomes(&[one, two, three], "blog");
    assert_eq!(
        shop.iter().filter(|one| *one == "issued").count(),
        1,
        "{told}"
    );
    assert_eq!(
        blog.iter().filter(|one| *one == "issued").count(),
        1,
        "{told}"
    );
    let settled = ["issued", "waiting", "kept"];
    assert!(shop.iter().all(|one| settled.contains(&&**one)), "{told}");
    assert_eq!(evidence::orders(&cloud, &site), 2, "{told}");
    assert_eq!(evidence::accounts(&cloud, &site), 1, "{told}");
    let next = site.pass().await;
    assert_eq!(next.report()["summary"]["kept"], 2, "{:#}", next.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_event_issues_the_one_it_names() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    site.want("blog", &["blog.example.com"]).await;

    let put = site.invoke(&object_created(&site, "shop")).await;

    assert_eq!(put.outcome("shop"), "issued", "{:#}", put.report());
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
    assert!(site.browser_trusts("blog.example.com").await.is_err());
    assert_eq!(site.keys("state/").await, ["state/shop.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_edited_while_its_certificate_is_made_is_served_as_edited() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    for (stage, names) in [
        (NEW_ORDER, ["a.example.com", "b.example.com"]),
        (FINALIZE, ["c.example.com", "d.example.com"]),
    ] {
        let name = names[0].replace(".example.com", "");
        site.want(&name, &names[..1]).await;
        let slow = Fault::on(stage).delay(Duration::from_millis(500));
        cloud.to_acme().inject(slow);
        let before = evidence::asked(&cloud, &site, stage).len();

        let edit = async {
            until("the request", || {
                evidence::asked(&cloud, &site, stage).len() > before
            })
            .await;
            site.want(&name, &names).await;
        };
        let (pass, ()) = tokio::join!(site.pass(), edit);

        assert_eq!(pass.outcome(&name), "issued", "{:#}", pass.report());
        let leaf = site.browser_trusts(names[1]).await;
        let leaf = leaf.unwrap_or_else(|why| panic!("{why}: {:#}", pass.report()));
        assert_eq!(leaf.names, names);
        assert_eq!(leaf.serial, pass.certificate(&name)["serial"]);
        assert!(site.keys("challenges/").await.is_empty());
        let next = site.pass().await;
        assert_eq!(next.outcome(&name), "kept", "{:#}", next.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_broken_while_its_certificate_is_made_is_told() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let slow = Fault::on(FINALIZE).delay(Duration::from_millis(500));
    cloud.to_acme().inject(slow);

    let edit = async {
        until("finalize", || {
            !evidence::asked(&cloud, &site, FINALIZE).is_empty()
        })
        .await;
        site.put("certificates/shop.json", r#"{"domain": []}"#)
            .await;
    };
    let (pass, ()) = tokio::join!(site.pass(), edit);

    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    let problem = &pass.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:invalidDocument");
    // The certificate issued before the edit is neither lost nor ordered again.
    site.want("shop", &["shop.example.com"]).await;
    let next = site.pass().await;
    assert!(
        ["kept", "deployed"].contains(&next.outcome("shop")),
        "{:#}",
        next.report()
    );
    assert_eq!(evidence::orders(&cloud, &site), 1);
    evidence::assert_at_rest(&cloud, &site, "shop", "shop.example.com", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_respected_and_one_too_far_ahead_is_void() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;

    let end = from_now(5 * 60);
    lease(&site, "shop", &end).await;
    let before = site.read("state/shop.json").await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["nextAttempt"], end);
    let forced = json!({"action": "reconcile", "force": true});
    let pass = site.invoke(&forced).await;
    assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());
    assert_eq!(site.read("state/shop.json").await, before);
    assert!(evidence::asked(&cloud, &site, "/").is_empty());

    lease(&site, "shop", &from_now(20 * 60)).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    evidence::assert_at_rest(&cloud, &site, "shop", "shop.example.com", 1).await;
}
