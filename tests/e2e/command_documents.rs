//! `certloop add`, `edit`, `pause`, `resume` and `remove`, with the real command.

use serde_json::{Value, json};
use tests::{Installation, LocalCloud};

use crate::snapshots::assert_shows;

const DOCUMENT: &str = "certificates/shop.json";

#[tokio::test(flavor = "multi_thread")]
async fn add_and_wait_ends_with_the_served_leaf() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.point("shop.example.com").await;
    let operator = cloud.operator(&shop).await;
    let add = [
        "add",
        "shop",
        "--domain",
        "shop.example.com",
        "--listener",
        &shop.listener,
        "--wait",
    ];

    let added = operator.in_terminal(&add, "y\n").await;
    assert_eq!(added.status, 0, "{}", added.out);
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert!(
        added.out.contains(&leaf.serial),
        "{} is not in {}",
        leaf.serial,
        added.out
    );
    assert_shows("add-wait", &added.seen());

    // An identical document writes nothing. A different one is refused.
    let etag = shop.read(DOCUMENT).await;
    let again = operator.run(&add).await;
    assert_eq!(again.status, 0, "{again:?}");
    let other = [
        "add",
        "shop",
        "-d",
        "other.example.com",
        "-l",
        &shop.listener,
    ];
    let refused = operator.run(&other).await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.err.contains("certloop edit shop"),
        "{}",
        refused.err
    );
    assert_eq!(shop.read(DOCUMENT).await, etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_asked_for_and_what_is_wrong_never_leaves_the_machine() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let operator = cloud.operator(&shop).await;

    let silent = operator.run(&["add", "shop"]).await;
    assert_eq!(silent.status, 2, "{silent:?}");
    assert!(silent.err.contains("--domain"), "{}", silent.err);
    let wrong = operator
        .run(&["add", "shop", "-d", "*.example.com", "-l", &shop.listener])
        .await;
    assert_eq!(wrong.status, 1, "{wrong:?}");
    assert!(
        wrong.err.contains("domains[0]") && wrong.err.contains("wildcard"),
        "{}",
        wrong.err
    );
    assert_eq!(shop.read(DOCUMENT).await, None);

    let no = format!("a.example.com b.example.com\n{}\nn\n", shop.listener);
    let no = operator.in_terminal(&["add", "shop"], &no).await;
    assert_eq!(no.status, 1, "{}", no.out);
    assert_eq!(shop.read(DOCUMENT).await, None);
    let yes = format!("a.example.com b.example.com\n{}\ny\n", shop.listener);
    let yes = operator.in_terminal(&["add", "shop"], &yes).await;
    assert_eq!(yes.status, 0, "{}", yes.out);
    let document = shop.read_json(DOCUMENT).await;
    assert_eq!(
        document["domains"],
        json!(["a.example.com", "b.example.com"])
    );
    assert_eq!(
        document["targets"],
        json!([{"type": "listener", "arn": shop.listener}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_shows_the_difference_and_never_overwrites_another_change() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    put_pretty(&shop, &shop.document(&["shop.example.com"])).await;
    let mut operator = cloud.operator(&shop).await;

    let set = operator
        .run(&["edit", "shop", "--set", "keyType=rsa-2048", "--yes"])
        .await;
    assert_eq!(set.status, 0, "{set:?}");
    assert!(
        set.out.contains("+  \"keyType\": \"rsa-2048\""),
        "{}",
        set.out
    );
    assert_eq!(shop.read_json(DOCUMENT).await["keyType"], "rsa-2048");
    let wrong = operator
        .run(&["edit", "shop", "--set", "keyType=rsa-1"])
        .await;
    assert_eq!(wrong.status, 1, "{wrong:?}");
    assert!(wrong.err.contains("keyType"), "{}", wrong.err);

    for asks in [
        &["pause", "shop"][..],
        &["edit", "shop", "--set", "partial=true"],
        &[
            "add",
            "blog",
            "-d",
            "blog.example.com",
            "-l",
            &shop.listener,
        ],
    ] {
        let unasked = operator.run(asks).await;
        assert_eq!(unasked.status, 2, "{unasked:?}");
        assert!(unasked.err.contains("--yes"), "{}", unasked.err);
        let refused = operator.in_terminal(asks, "n\n").await;
        assert_eq!(refused.status, 1, "{}", refused.out);
    }
    assert_eq!(shop.read_json(DOCUMENT).await.get("paused"), None);
    assert_eq!(shop.read("certificates/blog.json").await, None);
    let paused = operator.in_terminal(&["pause", "shop"], "y\n").await;
    assert_eq!(paused.status, 0, "{paused:?}");
    assert_eq!(shop.read_json(DOCUMENT).await["paused"], true);
    let again = operator.run(&["pause", "shop"]).await;
    assert!(again.out.contains("already"), "{again:?}");
    operator.run(&["resume", "shop", "--yes"]).await;
    assert_eq!(shop.read_json(DOCUMENT).await.get("paused"), None);

    // If the edited text is wrong, the editor opens again with that text.
    let editor = "#!/bin/sh\nif grep -q typed \"$1\"; then sed -i 's/typed/partial/' \"$1\"\n\
                  else sed -i '2i\\  \"typed\": true,' \"$1\"; fi\n";
    let editor = operator.write("editor", editor);
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    operator.set("EDITOR", editor.to_str().unwrap());
    let edited = operator.in_terminal(&["edit", "shop"], "y\ny\n").await;
    assert_eq!(edited.status, 0, "{}", edited.out);
    assert!(edited.out.contains("typed"), "{}", edited.out);
    assert_eq!(shop.read_json(DOCUMENT).await["partial"], true);

    // Another person writes first: their document stays, and the edited text is kept.
    let slow = format!(
        "#!/bin/sh\nsed -i 's/rsa-2048/rsa-4096/' \"$1\"\ntouch {0}/open\nwhile [ -e {0}/open ]; \
         do sleep 0.05; done\n",
        operator.directory().display()
    );
    operator.write("editor", &slow);
    let edits = operator.run(&["edit", "shop", "--yes"]);
    let other = async {
        while !operator.directory().join("open").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        put_pretty(&shop, &shop.document(&["theirs.example.com"])).await;
        std::fs::remove_file(operator.directory().join("open")).unwrap();
    };
    let (late, ()) = tokio::join!(edits, other);
    assert_eq!(late.status, 1, "{late:?}");
    assert!(late.err.contains("somebody else"), "{}", late.err);
    assert_eq!(
        shop.read_json(DOCUMENT).await["domains"],
        json!(["theirs.example.com"])
    );
    let kept = late.err.split("kept in ").nth(1).unwrap().trim();
    let kept_text = std::fs::read_to_string(kept).unwrap();
    std::fs::remove_file(kept).unwrap();
    assert!(kept_text.contains("rsa-4096"), "{kept_text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_with_other_credentials_or_in_an_editor_that_nobody_sees() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let document = shop.document(&["shop.example.com"]);
    shop.put_document("shop", &document).await;
    let operator = cloud.operator(&shop).await;

    // The environment has keys that would work.
    assert_eq!(operator.run(&["status"]).await.status, 0);
    let other = operator.run(&["status", "--profile", "nosuch"]).await;
    assert_eq!(other.status, 2, "{other:?}");
    assert!(other.err.contains("--profile"), "{}", other.err);

    let typed = operator.run(&["edit", "shop"]).await;
    assert_eq!(typed.status, 2, "{typed:?}");
    assert!(typed.err.contains("--set FIELD=JSON"), "{}", typed.err);

    let late = operator.run(&["plan", "--at", "tomorrow"]).await;
    assert_eq!(late.status, 2, "{late:?}");
    assert!(late.err.contains("RFC 3339"), "{}", late.err);
    let which = operator.run(&["renew"]).await;
    assert_eq!(which.status, 2, "{which:?}");
    assert!(which.err.contains("certloop renew --all"), "{}", which.err);
}

async fn put_pretty(shop: &Installation, document: &Value) {
    shop.put(DOCUMENT, format!("{document:#}\n")).await;
}
