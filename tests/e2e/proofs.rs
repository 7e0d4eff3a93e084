//! The served certificate decides: one that is imported and attached is not done until a client
//! sees it.

use serde_json::{Value, json};
use tests::http::{self, Response};
use tests::{Installation, LocalCloud, PrivateAuthority, tls};
use tokio::net::TcpListener;

use crate::helpers::{
    acme, arn, describe, hours_later, import_foreign, text, two_minutes_later, watched, with,
};

/// Another server for these names: the view of a client whose load balancer still serves another
/// certificate.
pub(crate) async fn stale_server(names: &[&str]) -> (String, http::Serving) {
    let (chain, key) = PrivateAuthority::new().issue(names);
    let config = tls::server_config(&chain, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = http::listen(listener, move |stream, _| {
        let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = http::serve(stream, async |_| Some(Response::new(200, "stale"))).await;
            }
        }
    });
    (address, serving)
}

fn looking_at(installation: &Installation, mode: &str, address: &str) -> Value {
    let mut settings = installation.settings();
    settings["proof"] = json!({"mode": mode, "connectTo": address, "seconds": 1});
    settings
}

/// Nothing listens there.
const NOBODY: &str = "127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn only_the_new_keys_algorithms_are_offered() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let foreign = import_foreign(&cloud, &["shop.example.com"]).await;
    shop.add_to_listener(&foreign).await;
    let mut document = shop.document(&["shop.example.com"]);
    document["keyType"] = json!("rsa-2048");
    shop.put_document("shop", &document).await;

    let pass = shop.pass().await;

    // A client of both kinds sees the foreign one: the listener prefers ECDSA.
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["targets"][0]["proved"], true);
    assert!(shop.browser_trusts("shop.example.com").await.is_err());
    assert!(shop.listed().await.sni.contains(&foreign));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_seen_is_not_proved_where_proof_is_required() {
    let cloud = LocalCloud::start().await;

    // A first certificate.
    let shop = cloud.install("shop").await;
    shop.put_settings(&looking_at(&shop, "require", NOBODY))
        .await;
    shop.want("shop", &["shop.example.com"]).await;
    let failed = shop.pass().await;
    assert_eq!(failed.outcome("shop"), "failed", "{:#}", failed.report());
    let entry = failed.certificate("shop");
    assert_eq!(entry["problem"]["type"], "certloop:unproved");
    assert_eq!(entry["targets"][0]["proved"], Value::Null);
    let waiting = shop.pass().await;
    assert_eq!(waiting.outcome("shop"), "waiting", "{:#}", waiting.report());
    let again = shop.pass_with(two_minutes_later()).await;
    assert_eq!(again.outcome("shop"), "failed", "{:#}", again.report());
    assert_eq!(again.count(acme), 0);
    shop.put_settings(&shop.settings()).await;
    let proved = shop.pass_with(hours_later(1)).await;
    assert_eq!(proved.outcome("shop"), "deployed", "{:#}", proved.report());
    assert_eq!(proved.count(acme), 0);
    assert_eq!(proved.certificate("shop")["targets"][0]["proved"], true);
    assert_eq!(shop.pass().await.outcome("shop"), "kept");

    // A switch: the previous certificate is put back, and no superseded one is removed.
    let club = cloud.install("club").await;
    let mut document = club.document(&["club.example.com"]);
    club.put_document("club", &document).await;
    let issued = club.pass().await;
    assert_eq!(issued.outcome("club"), "issued", "{:#}", issued.report());
    let old = arn(&issued, "club");
    let theirs = club.add_foreign("club.example.net").await;
    club.put_settings(&looking_at(&club, "require", NOBODY))
        .await;
    document["keyType"] = json!("rsa-2048");
    document["supersedes"] = json!([theirs]);
    club.put_document("club", &document).await;
    let (failed, states) = watched(&cloud, &club, club.pass()).await;
    assert_eq!(failed.outcome("club"), "failed", "{:#}", failed.report());
    assert_eq!(
        failed.certificate("club")["problem"]["type"],
        "certloop:unproved"
    );
    // The listener always has a certificate. At the end it is as it was, with ours beside it.
    assert!(states.iter().all(|held| !held.sni.is_empty()));
    let sni = club.listed().await.sni;
    assert!(sni.contains(&old) && sni.contains(&theirs), "{states:#?}");
    let leaf = club.browser_trusts("club.example.com").await.unwrap();
    assert_eq!(leaf.serial, text(&issued, "club", "serial"));

    // One way back is enough for one leaf: the next attempt leaves it there, and a person has to
    // look.
    let again = club.pass_with(two_minutes_later()).await;
    assert_eq!(again.outcome("club"), "failed", "{:#}", again.report());
    assert_eq!(again.certificate("club")["problem"]["retry"], "person");
    let sni = club.listed().await.sni;
    assert!(!sni.contains(&old) && !sni.contains(&theirs) && sni.len() == 1);

    club.put_settings(&club.settings()).await;
    let switched = club.pass_with(hours_later(5)).await;
    assert_eq!(
        switched.outcome("club"),
        "deployed",
        "{:#}",
        switched.report()
    );
    assert_eq!(switched.count(acme), 0);
    assert_eq!(club.listed().await.sni, [arn(&switched, "club")].into());
    assert_eq!(
        club.browser_trusts("club.example.com").await.unwrap().key,
        "rsa"
    );

    // In the mode `warn` the same succeeds, and the report says that there is no proof.
    let inn = cloud.install("inn").await;
    inn.put_settings(&looking_at(&inn, "warn", NOBODY)).await;
    inn.want("inn", &["inn.example.com"]).await;
    let warned = inn.pass().await;
    assert_eq!(warned.outcome("inn"), "issued", "{:#}", warned.report());
    let target = &warned.certificate("inn")["targets"][0];
    assert_eq!(
        (&target["state"], &target["proved"]),
        (&json!("attached"), &Value::Null)
    );
    assert!(inn.browser_trusts("inn.example.com").await.is_ok());
    assert_eq!(inn.pass().await.outcome("inn"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_leaf_brings_back_what_was_served() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["shop.example.com"]);
    shop.put_document("shop", &document).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{:#}", issued.report());
    let (ours, serial) = (arn(&issued, "shop"), text(&issued, "shop", "serial"));
    let (stale, _serving) = stale_server(&["shop.example.com", "club.example.com"]).await;

    // A renewal under the same ARN is undone in the certificate manager.
    shop.put_settings(&looking_at(&shop, "require", &stale))
        .await;
    let renew = json!({"action": "reconcile", "certificates": ["shop"], "force": true});
    let failed = shop.invoke(&renew).await;
    assert_eq!(failed.outcome("shop"), "failed", "{:#}", failed.report());
    let entry = failed.certificate("shop");
    assert_eq!(entry["problem"]["type"], "certloop:unproved");
    assert_eq!(entry["targets"][0]["proved"], false);
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, serial, "the former certificate is back");
    let newer = text(&failed, "shop", "serial");
    assert_ne!(newer, serial);
    shop.put_settings(&shop.settings()).await;
    let retried = shop.pass_with(two_minutes_later()).await;
    assert_eq!(
        retried.outcome("shop"),
        "deployed",
        "{:#}",
        retried.report()
    );
    assert_eq!(retried.count(acme), 0);
    assert_eq!(arn(&retried, "shop"), ours);
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.serial, newer);

    // A switch to another ARN is undone on the listener, even in the mode `warn`.
    shop.put_settings(&looking_at(&shop, "warn", &stale)).await;
    document["keyType"] = json!("ecdsa-p384");
    shop.put_document("shop", &document).await;
    let failed = shop.pass().await;
    assert_eq!(failed.outcome("shop"), "failed", "{:#}", failed.report());
    let entry = failed.certificate("shop");
    assert_eq!(entry["problem"]["type"], "certloop:unproved");
    assert_eq!(entry["targets"][0]["proved"], false);
    assert!(shop.listed().await.sni.contains(&ours));
    assert!(shop.browser_trusts("shop.example.com").await.is_ok());
    assert!(describe(&cloud, &ours).await.is_some());

    // A default that ours should replace comes back as the default.
    let club = cloud.install("club").await;
    let theirs = import_foreign(&cloud, &["club.example.com"]).await;
    club.set_default(&theirs).await;
    let before = club.listed().await;
    club.put_settings(&looking_at(&club, "require", &stale))
        .await;
    let mut document = club.document(&["club.example.com"]);
    document["targets"][0]["as"] = json!("default");
    document["supersedes"] = json!([theirs]);
    club.put_document("club", &document).await;
    let failed = club.pass().await;
    assert_eq!(failed.outcome("club"), "failed", "{:#}", failed.report());
    assert_eq!(club.listed().await, before, "{:#}", failed.report());
    club.put_settings(&with(club.settings(), "proof", "seconds", 5))
        .await;
    let deployed = club.pass_with(hours_later(1)).await;
    assert_eq!(
        deployed.outcome("club"),
        "deployed",
        "{:#}",
        deployed.report()
    );
    assert_eq!(club.listed().await.default, arn(&deployed, "club"));
    assert!(describe(&cloud, &theirs).await.is_some());
}
