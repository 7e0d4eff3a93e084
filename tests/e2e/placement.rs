//! The place of our certificate on a listener, and what happens to the certificates that were
//! there.

use serde_json::{Value, json};
use tests::{Installation, Listed, LocalCloud};

use crate::helpers::{arn, describe, import_foreign, watched};

fn as_default(installation: &Installation, domains: &[&str]) -> Value {
    let mut document = installation.document(domains);
    document["targets"][0]["as"] = json!("default");
    document
}

fn listed(default: &str, sni: &[&str]) -> Listed {
    Listed {
        default: default.to_owned(),
        sni: sni.iter().map(|arn| (*arn).to_owned()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_default_keeps_a_default_that_others_may_need_and_no_other() {
    let cloud = LocalCloud::start().await;

    // Our certificate replaces a self-signed placeholder.
    let shop = cloud.install("shop").await;
    shop.put_document("shop", &as_default(&shop, &["shop.example.com"]))
        .await;
    let pass = shop.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(shop.listed().await, listed(&arn(&pass, "shop"), &[]));
    assert!(shop.browser_trusts("shop.example.com").await.is_ok());
    assert!(
        describe(&cloud, &shop.placeholder).await.is_some(),
        "not ours to delete"
    );

    // Another owner's valid default moves to the list before it is replaced.
    let club = cloud.install("club").await;
    let foreign = import_foreign(&cloud, &["www.club.example.net"]).await;
    club.set_default(&foreign).await;
    club.put_document("club", &as_default(&club, &["club.example.com"]))
        .await;
    let (pass, states) = watched(&cloud, &club, club.pass()).await;
    assert_eq!(pass.outcome("club"), "issued", "{:#}", pass.report());
    assert_eq!(
        states,
        [
            listed(&foreign, &[]),
            listed(&foreign, &[&foreign]),
            listed(&arn(&pass, "club"), &[&foreign])
        ]
    );
    let kept = club.pass().await;
    assert_eq!(kept.outcome("club"), "kept", "{:#}", kept.report());

    // A certificate is not needed any more when ours covers all its names.
    let inn = cloud.install("inn").await;
    let covered = import_foreign(&cloud, &["inn.example.com", "www.inn.example.com"]).await;
    inn.set_default(&covered).await;
    let document = as_default(
        &inn,
        &["inn.example.com", "www.inn.example.com", "bar.example.com"],
    );
    inn.put_document("inn", &document).await;
    let pass = inn.pass().await;
    assert_eq!(pass.outcome("inn"), "issued", "{:#}", pass.report());
    assert_eq!(inn.listed().await, listed(&arn(&pass, "inn"), &[]));
    assert!(describe(&cloud, &covered).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_default_that_also_stood_in_the_list_leaves_both() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let foreign = shop.add_foreign("foreign.example.net").await;
    let mut document = as_default(&shop, &["shop.example.com"]);
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let old = arn(&issued, "shop");
    shop.add_to_listener(&old).await;

    document["keyType"] = json!("rsa-2048");
    shop.put_document("shop", &document).await;
    let (switched, states) = watched(&cloud, &shop, shop.pass()).await;

    assert_eq!(
        switched.outcome("shop"),
        "renewed",
        "{:#}",
        switched.report()
    );
    let new = arn(&switched, "shop");
    assert_eq!(
        states,
        [
            listed(&old, &[&foreign, &old]),
            listed(&new, &[&foreign, &old]),
            listed(&new, &[&foreign])
        ]
    );
    assert_eq!(
        shop.browser_trusts("shop.example.com").await.unwrap().key,
        "rsa"
    );
    shop.pass().await;
    assert!(describe(&cloud, &old).await.is_none());

    // From the default to the list: a listener needs a default, so ours stays the default and is
    // renewed there as well.
    document["targets"][0]["as"] = json!("sni");
    shop.put_document("shop", &document).await;
    let moved = shop.pass().await;
    assert_eq!(moved.outcome("shop"), "deployed", "{:#}", moved.report());
    assert_eq!(shop.listed().await, listed(&new, &[&foreign, &new]));
    document["keyType"] = json!("ecdsa-p256");
    shop.put_document("shop", &document).await;
    let back = shop.pass().await;
    assert_eq!(back.outcome("shop"), "renewed", "{:#}", back.report());
    let newest = arn(&back, "shop");
    assert_eq!(shop.listed().await, listed(&newest, &[&foreign, &newest]));
}

#[tokio::test(flavor = "multi_thread")]
async fn others_stay_and_what_is_superseded_is_detached_but_never_deleted() {
    let cloud = LocalCloud::start().await;

    // In the list: it is replaced. The other certificates of the listener are not ours to touch.
    let shop = cloud.install("shop").await;
    let default = import_foreign(&cloud, &["example.net"]).await;
    shop.set_default(&default).await;
    let other = shop.add_foreign("other.example.net").await;
    let theirs = import_foreign(&cloud, &["shop.example.com"]).await;
    shop.add_to_listener(&theirs).await;
    let mut document = shop.document(&["shop.example.com"]);
    document["supersedes"] = json!([theirs]);
    shop.put_document("shop", &document).await;
    let (pass, states) = watched(&cloud, &shop, shop.pass()).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let ours = arn(&pass, "shop");
    assert_eq!(
        states,
        [
            listed(&default, &[&other, &theirs]),
            listed(&default, &[&other, &theirs, &ours]),
            listed(&default, &[&other, &ours])
        ]
    );
    assert!(shop.browser_trusts("shop.example.com").await.is_ok());
    let kept = shop.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert!(describe(&cloud, &theirs).await.is_some());

    // A default with a name that ours lacks: it stays, although the document supersedes it.
    let club = cloud.install("club").await;
    let theirs = import_foreign(&cloud, &["club.example.net"]).await;
    club.set_default(&theirs).await;
    club.add_to_listener(&theirs).await;
    let mut document = club.document(&["club.example.com"]);
    document["supersedes"] = json!([theirs]);
    club.put_document("club", &document).await;
    let pass = club.pass().await;
    assert_eq!(pass.outcome("club"), "issued", "{:#}", pass.report());
    let problem = &pass.certificate("club")["problem"];
    assert_eq!(problem["type"], "certloop:supersedes", "{problem:#}");
    let ours = arn(&pass, "club");
    assert_eq!(club.listed().await, listed(&theirs, &[&theirs, &ours]));
    let kept = club.pass().await;
    assert_eq!(kept.outcome("club"), "kept", "{:#}", kept.report());

    // Ours becomes the default, and theirs is served from the list.
    document["targets"][0]["as"] = json!("default");
    club.put_document("club", &document).await;
    let pass = club.pass().await;
    assert_eq!(pass.outcome("club"), "deployed", "{:#}", pass.report());
    let held = club.listed().await;
    assert_eq!(held.default, arn(&pass, "club"));
    assert!(held.sni.contains(&theirs));
    assert!(describe(&cloud, &theirs).await.is_some());
}
