//! Documents and settings that people write, and the state of a newer build.

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud, Response};

use crate::evidence::{self, DAY, MINUTE, later};
use crate::helpers::arn;

#[track_caller]
fn assert_failed(pass: &Invocation, name: &str, kind: &str, words: &[&str]) {
    let certificate = pass.certificate(name);
    assert_eq!(certificate["outcome"], "failed", "{certificate:#}");
    let problem = &certificate["problem"];
    assert_eq!(problem["type"], kind, "{certificate:#}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    for word in words {
        assert!(detail.contains(word), "no {word:?} in {detail:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_documents_stop_no_good_one_and_change_nothing() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("good-one", &["one.example.com"]).await;
    site.want("good-two", &["two.example.com", "three.example.com"])
        .await;
    let document = |field: &str, value: Value| {
        let mut document = site.document(&["bad.example.com"]);
        document[field] = value;
        document.to_string()
    };
    let foreign = site.listener.replace("123456789012", "210987654321");
    let bad = [
        ("bad-json", "{\"domains\": [".to_owned(), "line 1"),
        ("bad-field", document("domain", json!("x")), "domain"),
        ("bad-missing", json!({"targets": []}).to_string(), "domains"),
        ("bad-empty", document("domains", json!([])), "domains"),
        (
            "bad-twice",
            document("domains", json!(["a.example.com", "A.example.com."])),
            "domains",
        ),
        (
            "bad-wildcard",
            document("domains", json!(["*.example.com"])),
            "domains",
        ),
        (
            "bad-dns",
            document("validation", json!("dns-01")),
            "not yet",
        ),
        ("bad-partial", document("partial", json!("yes")), "partial"),
        ("bad-key", document("keyType", json!("dsa")), "keyType"),
        (
            "bad-authority",
            document("authority", json!("elsewhere")),
            "authority",
        ),
        (
            "bad-authorities",
            document("authority", json!(["pebble", "other"])),
            "authority",
        ),
        (
            "bad-target",
            document(
                "targets",
                json!([{"type": "listener", "arn": "arn:aws:s3:::x"}]),
            ),
            "targets",
        ),
        (
            "bad-account",
            document("targets", json!([{"type": "listener", "arn": foreign}])),
            "targets",
        ),
        (
            "bad-tag",
            document("tags", json!({"certloop:certificate": "other"})),
            "tags",
        ),
    ];
    for (name, body, _) in &bad {
        site.put(&format!("certificates/{name}.json"), body.clone())
            .await;
    }
    let body = site.document(&["bad.example.com"]).to_string();
    for key in ["Bad_Name", "-bad", "bad.name"] {
        let key = format!("certificates/{key}.json");
        site.put(&key, body.clone()).await;
    }
    for key in ["notes.txt", "folder/bad.json"] {
        site.put(&format!("certificates/{key}"), body.clone()).await;
    }
    let misplaced = "move it to certificates/bad.json";

    let pass = site.pass().await;

    assert_eq!(pass.outcome("good-one"), "issued", "{:#}", pass.report());
    assert_eq!(pass.outcome("good-two"), "issued", "{:#}", pass.report());
    for (name, _, word) in &bad {
        let key = format!("certificates/{name}.json");
        assert_failed(&pass, name, "certloop:invalidDocument", &[&key, word]);
    }
    for name in ["Bad_Name", "-bad", "bad.name"] {
        let key = format!("certificates/{name}.json");
        assert_failed(&pass, name, "certloop:invalidDocument", &[&key, "rename"]);
    }
    assert_failed(
        &pass,
        "folder/bad",
        "certloop:invalidDocument",
        &[misplaced],
    );
    let metrics = pass.metrics();
    assert_eq!(metrics[0]["NeedsPerson"], bad.len() + 4, "{metrics:#?}");
    assert_eq!(metrics[0]["Failed"], bad.len() + 4, "{metrics:#?}");
    assert!(site.browser_trusts("three.example.com").await.is_ok());
    let good = ["state/good-one.json", "state/good-two.json"];
    assert_eq!(site.keys("state/").await, good);
    assert_eq!(evidence::orders(&cloud, &site), 2);
    let again = site.pass().await;
    assert_eq!(evidence::writes(&again), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_change_later_reach_the_certificate() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    let put = async |tags: Value| {
        let mut document = site.document(&["shop.example.com"]);
        document["tags"] = tags;
        site.put_document("shop", &document).await;
    };
    put(json!({"Team": "web", "Stage": "test"})).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    let arn = site.read_json("state/shop.json").await["imports"]["us-east-1"]["arn"].clone();
    let arn = arn.as_str().unwrap().to_owned();
    let tag = cloud.aws().acm().add_tags_to_certificate();
    let others = aws_sdk_acm::types::Tag::builder().key("Cost").value("42");
    let tag = tag.certificate_arn(&arn).tags(others.build().unwrap());
    tag.send().await.unwrap();
    let ours = site.tags(&arn).await.len() - 3;

    put(json!({"Team": "shop", "Owner": "ann"})).await;
    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "deployed", "{:#}", pass.report());
    let tags = site.tags(&arn).await;
    let value = |key: &str| {
        let mut tags = tags.iter();
        tags.find(|(one, _)| one == key)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(value("Team"), Some("shop"));
    assert_eq!(value("Owner"), Some("ann"));
    assert_eq!(value("Cost"), Some("42"), "a tag of others went");
    assert_eq!(value("Stage"), None);
    assert_eq!(tags.len(), ours + 3, "{tags:?}");
    assert_eq!(evidence::orders(&cloud, &site), 1);
    let quiet = site.pass().await;
    assert_eq!(evidence::writes(&quiet), Vec::<String>::new());
    // What was never tagged needs no look.
    put(json!({})).await;
    assert_eq!(site.pass().await.outcome("shop"), "deployed");
    assert_eq!(site.tags(&arn).await.len(), ours + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_are_refused_delay_nothing_else() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let issued = site.pass().await;
    let ours = arn(&issued, "shop");
    let denied = r#"{"__type": "AccessDeniedException", "message": "not authorized"}"#;
    let fault = Fault::on("AddTagsToCertificate")
        .always()
        .labelled("denied");
    cloud
        .to_aws()
        .inject(fault.answer(Response::new(400, denied)));
    let mut document = site.document(&["shop.example.com"]);
    document["tags"] = json!({"Team": "web"});
    site.put_document("shop", &document).await;
    let asks = |pass: &Invocation| pass.count(|sent| sent.is("AddTagsToCertificate"));

    let refused = site.pass().await;

    assert_eq!(asks(&refused), 1);
    let told = refused.certificate("shop");
    assert_ne!(told["outcome"], "failed", "{told:#}");
    assert_eq!(
        told["problem"]["type"], "certloop:certificateManager",
        "{told:#}"
    );
    // Listeners are repaired meanwhile, and the same tags wait for a day.
    site.remove_from_listener(&ours).await;
    let repaired = site.pass().await;
    assert_eq!(
        repaired.outcome("shop"),
        "deployed",
        "{:#}",
        repaired.report()
    );
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
    assert_eq!(asks(&repaired), 0);
    cloud.to_aws().heal_labelled("denied");
    let tagged = site.pass_with(later(DAY + MINUTE)).await;
    assert_eq!(asks(&tagged), 1);
    let tags = site.tags(&ours).await;
    assert!(
        tags.contains(&("Team".to_owned(), "web".to_owned())),
        "{tags:?}"
    );
    assert_eq!(tagged.certificate("shop")["problem"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_turns_invalid_leaves_its_certificate_served() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");

    site.put("certificates/shop.json", "{}").await;
    let pass = site.pass().await;

    assert_failed(&pass, "shop", "certloop:invalidDocument", &["domains"]);
    assert!(pass.certificate("shop")["serial"].is_string());
    assert_eq!(evidence::writes(&pass), Vec::<String>::new());
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_newer_build_is_left_alone() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    site.want("blog", &["blog.example.com"]).await;
    let newer = json!({"version": 2, "writeId": "x", "novelty": {}}).to_string();
    site.put("state/shop.json", newer.clone()).await;

    let pass = site.pass().await;

    assert_failed(&pass, "shop", "certloop:state", &["version 2"]);
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());
    let kept = site.read("state/shop.json").await.unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), newer);
    let about_shop = evidence::writes(&pass).into_iter();
    let about_shop: Vec<String> = about_shop.filter(|call| call.contains("shop")).collect();
    assert!(about_shop.is_empty(), "{about_shop:?}");
    assert_eq!(evidence::orders(&cloud, &site), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_newer_build_in_the_vault_or_among_the_accounts_is_left_alone() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    let account = site.keys("accounts/").await.remove(0);
    let newer = json!({"version": 2, "writeId": "x"}).to_string();
    site.put(&account, newer.clone()).await;
    site.want("blog", &["blog.example.com"]).await;

    let pass = site.pass().await;

    assert_failed(&pass, "blog", "certloop:record", &[&account, "version 2"]);
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    let kept = site.read(&account).await.unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), newer);
    assert_eq!(evidence::accounts(&cloud, &site), 1);
}

async fn refused(site: &Installation, words: &[&str]) {
    let pass = site.pass().await;
    let error = pass.result.clone().unwrap_err();
    assert_eq!(error.error_type, "certloop.CannotRun", "{error}");
    for word in words {
        assert!(error.message.contains(word), "no {word:?} in {error}");
    }
    assert_eq!(evidence::writes(&pass), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_settings_that_can_be_read_nothing_is_changed() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let good = site.settings();
    let with = |pointer: &str, value: Value| {
        let mut settings = good.clone();
        *settings.pointer_mut(pointer).unwrap() = value;
        settings.to_string()
    };

    site.delete("settings.json").await;
    refused(&site, &["settings.json", "not in the bucket"]).await;
    let mut unknown = good.clone();
    unknown["limit"] = json!({});
    for (body, words) in [
        ("{".to_owned(), vec!["settings.json", "line 1"]),
        (unknown.to_string(), vec!["settings.json", "limit"]),
        (
            with("/authorities/pebble/termsOfServiceAgreed", json!(false)),
            vec!["termsOfServiceAgreed"],
        ),
        (
            with("/authorities/pebble/directory", json!("http://x.example")),
            vec!["directory", "https"],
        ),
        (
            with("/defaults/authority", json!("x")),
            vec!["defaults.authority"],
        ),
        (
            with("/authorities/pebble/rootCertificate", json!("no PEM")),
            vec!["rootCertificate"],
        ),
        (with("/proof/mode", json!("perhaps")), vec!["proof.mode"]),
    ] {
        site.put("settings.json", body).await;
        refused(&site, &words).await;
    }
    assert!(evidence::asked(&cloud, &site, "/").is_empty());

    site.put_settings(&good).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_root_is_trusted_only_when_it_is_configured() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let mut settings = site.settings();
    settings["authorities"]["pebble"]["rootCertificate"] = Value::Null;
    site.put_settings(&settings).await;

    let pass = site.pass().await;
    assert_failed(
        &pass,
        "shop",
        "certloop:authority",
        &["could not be asked", "UnknownIssuer"],
    );
    assert!(evidence::asked(&cloud, &site, "/").is_empty());

    site.put_settings(&site.settings()).await;
    let pass = site.pass_with(evidence::later(2 * evidence::MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
}
