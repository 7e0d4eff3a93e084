//! What is asked of the function by name, with the real command: through Lambda, and in its own process.

use serde_json::json;
use tests::LocalCloud;

use crate::snapshots::assert_shows;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lives_its_life_by_command() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let operator = cloud.operator(&shop).await;

    let plan = operator.in_terminal(&["plan"], "").await;
    assert_eq!(plan.status, 0, "{}", plan.out);
    assert_shows("plan", &plan.seen());

    let issued = operator.run(&["renew", "shop"]).await;
    assert_eq!(issued.status, 0, "{issued:?}");
    assert!(issued.out.starts_with("shop  issued"), "{}", issued.out);
    let first = shop.browser_trusts("shop.example.com").await.unwrap();
    let renewed = operator.run(&["renew", "shop", "--force"]).await;
    assert!(renewed.out.starts_with("shop  renewed"), "{renewed:?}");

    let back = operator.run(&["rollback", "shop"]).await;
    assert_eq!(back.status, 0, "{back:?}");
    let served = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(served.serial, first.serial);

    let unasked = operator.run(&["revoke", "shop"]).await;
    assert_eq!(unasked.status, 1, "{unasked:?}");
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    assert_eq!(cloud.pebble().revoked(&first.serial).await, None);
    let revoked = operator
        .run(&["revoke", "shop", "--yes", "--reason", "keyCompromise"])
        .await;
    assert_eq!(revoked.status, 0, "{revoked:?}");
    let other = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_ne!(other.serial, first.serial);

    // More than ten steps: the rest is read from the bucket.
    let history = operator.run(&["history", "shop"]).await;
    assert_eq!(
        (history.status, history.err.as_str()),
        (0, ""),
        "{history:?}"
    );
    let steps = history
        .out
        .lines()
        .filter(|line| line.contains(" UTC  "))
        .count();
    let state = shop.read_json("state/shop.json").await;
    let all = state["history"].as_array().unwrap().len();
    assert!(
        all > 10 && steps == all,
        "{steps} of {all}: {}",
        history.out
    );

    let removed = operator.run(&["remove", "shop", "--yes"]).await;
    assert_eq!(removed.status, 0, "{removed:?}");
    assert_eq!(shop.read("certificates/shop.json").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_broken_and_the_command_that_repairs_it() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut settings = shop.settings();
    settings["dns"] = json!({"servers": [cloud.dns().address()]});
    shop.put_settings(&settings).await;
    shop.want("shop", &["shop.example.com"]).await;
    let operator = cloud.operator(&shop).await;
    let fine = operator.run(&["check", "shop"]).await;
    assert_eq!(fine.status, 0, "{fine:?}");

    shop.unroute(1).await;
    let broken = operator.in_terminal(&["check", "shop"], "").await;
    assert_eq!(broken.status, 1, "{}", broken.out);
    assert_shows("check-broken", &broken.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_done_in_its_own_process() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut operator = cloud.operator(&shop).await;
    operator.set("CERTLOOP_FUNCTION", "");
    let document = shop.document(&["shop.example.com"]);
    shop.point("shop.example.com").await;
    operator.write("shop.json", &document.to_string());

    let issued = operator
        .run(&["issue", "shop", "--file", "shop.json", "--local", "--json"])
        .await;
    assert_eq!((issued.status, issued.err.as_str()), (0, ""), "{issued:?}");
    assert_eq!(issued.json()["certificates"][0]["outcome"], "issued");
    shop.browser_trusts("shop.example.com").await.unwrap();
    let other = shop.document(&["other.example.com"]);
    operator.write("shop.json", &other.to_string());
    let refused = operator
        .run(&["issue", "shop", "--file", "shop.json", "--local"])
        .await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.out.contains("replace"), "{}", refused.out);

    let status = operator.run(&["status", "--local"]).await;
    assert_eq!(status.status, 0, "{status:?}");
    assert_eq!(operator.lambda().asked().len(), 0);
}
