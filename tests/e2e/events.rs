//! The events of the functions, and invocations that run out of time.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, LocalCloud, Plan};
use time::OffsetDateTime;

use crate::evidence::{self, FINALIZE, NEW_ORDER, instant};

fn sample(name: &str) -> Value {
    let path = tests::root().join("events").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn issue(site: &Installation, domains: &[&str]) -> Value {
    json!({"action": "issue", "name": "shop", "certificate": site.document(domains)})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_answered() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    let mut seen = 0;
    let folder = std::fs::read_dir(tests::root().join("events")).unwrap();
    let mut names: Vec<String> = folder
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json") && !name.ends_with(".sample.json"))
        .collect();
    names.sort();
    for domain in ["shop.example.com", "www.shop.example.com"] {
        site.point(domain).await;
    }
    let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    for name in names {
        let mut event = sample(&name);
        if name.starts_with("challenge-") {
            let key = format!("challenges/{token}");
            site.put(&key, format!("{token}.thumbprint")).await;
            let answer = cloud.lambda().invoke(&site.challenge, &event).await;
            assert_eq!(answer.report()["statusCode"], 200, "{name}");
            let health = name == "challenge-health.json";
            let body = answer.report()["body"].as_str().unwrap();
            let wanted = ["evaGxf", "OK"][usize::from(health)];
            assert!(body.starts_with(wanted), "{name}: {body}");
            seen += 1;
            continue;
        }
        if name == "object-created.json" {
            event["detail"]["bucket"]["name"] = site.bucket.as_str().into();
        }
        if name == "s3-notification.json" {
            event["Records"][0]["s3"]["bucket"]["name"] = site.bucket.as_str().into();
        }
        let answer = site.invoke(&event).await;
        match event["action"].as_str() {
            Some("plan") => assert!(answer.report()["total"].is_object(), "{name}"),
            Some("check") => assert!(answer.report()["verdict"].is_string(), "{name}"),
            Some("status") => assert!(answer.report()["total"].is_number(), "{name}"),
            _ => {
                let report = answer.report();
                assert!(
                    report["summary"]["failed"].is_number(),
                    "{name}: {report:#}"
                );
            }
        }
        seen += 1;
    }
    assert!(seen >= 13, "only {seen} samples");
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_view_alias_nothing_but_looking_is_possible() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let document = site.read("certificates/shop.json").await;

    let created = {
        let mut event = sample("object-created.json");
        event["detail"]["bucket"]["name"] = site.bucket.as_str().into();
        event
    };
    let doing = [
        json!({"action": "reconcile"}),
        json!({
            "action": "issue", "name": "shop", "replace": true,
            "certificate": site.document(&["a.example.com"]),
        }),
        sample("scheduled.json"),
        sample("scheduler.json"),
        created,
    ];
    for event in doing {
        let answer = site.invoke_with(&event, Plan::through("view")).await;
        // Not an error of the function: a caller who may only look must not raise its alarm.
        let refusal = answer.report();
        assert_eq!(refusal["errorType"], "certloop.NotPermitted", "{event}");
        let why = refusal["errorMessage"].as_str().unwrap();
        assert!(why.contains("without the alias"), "{why}");
        assert!(answer.requests.is_empty(), "{event}: {:?}", answer.requests);
        assert!(answer.metrics().is_empty(), "{event}: no pass");
    }
    for event in [
        json!({}),
        json!([1, 2]),
        json!({"action": "dance"}),
        json!({"action": "status", "certificats": ["shop"]}),
        json!({"action": "plan", "at": "2020-01-01T00:00:00Z"}),
    ] {
        let answer = site.invoke_with(&event, Plan::through("view")).await;
        let refusal = answer.report();
        assert_eq!(refusal["errorType"], "certloop.NotUnderstood", "{event}");
        assert!(refusal["errorMessage"].is_string(), "{refusal:#}");
    }
    assert_eq!(site.read("certificates/shop.json").await, document);
    assert!(site.keys("state/").await.is_empty());

    let status = json!({"action": "status"});
    let seen = site.invoke_with(&status, Plan::through("view")).await;
    assert_eq!(seen.report()["total"], 1, "{:#}", seen.report());
    assert!(evidence::writes(&seen).is_empty());
    let plan = json!({"action": "plan"});
    let seen = site.invoke_with(&plan, Plan::through("view")).await;
    assert_eq!(seen.outcome("shop"), "issued", "{:#}", seen.report());
    assert!(evidence::writes(&seen).is_empty());
    let check = json!({"action": "check", "name": "shop"});
    let checked = site.invoke_with(&check, Plan::through("view")).await;
    assert_eq!(checked.report()["name"], "shop");
    // A probe is written and deleted; nothing else is written.
    let written = evidence::writes(&checked);
    let is_probe = |sent: &String| sent.contains("challenges/certloop-check_shop");
    assert!(written.iter().all(is_probe), "{written:?}");
    // Through any other alias the function behaves as it does without one.
    let pass = json!({"action": "reconcile"});
    let live = site.invoke_with(&pass, Plan::through("live")).await;
    assert_eq!(live.outcome("shop"), "issued", "{:#}", live.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_event_is_an_error_that_lists_the_known_ones() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    let elsewhere = sample("object-created.json");
    for event in [
        json!({}),
        json!([1, 2]),
        json!({"action": "dance"}),
        json!({"action": "reconcile", "certificats": ["shop"]}),
        json!({"detail-type": "Dance", "source": "aws.s3"}),
        json!({"Records": [{"eventSource": "aws:sqs", "body": "{}"}]}),
        elsewhere,
    ] {
        let answer = site.invoke(&event).await;
        let error = answer.result.clone().unwrap_err();
        assert_eq!(error.error_type, "certloop.NotUnderstood", "{event}");
        for known in [
            "Scheduled Event",
            "Object Created",
            "reconcile",
            "issue",
            "status",
        ] {
            assert!(error.message.contains(known), "{event}: {error}");
        }
        assert!(answer.requests.is_empty(), "{event}: {:?}", answer.requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_issued_by_hand() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    for domain in ["shop.example.com", "www.example.com"] {
        site.point(domain).await;
    }
    let event = issue(&site, &["shop.example.com"]);

    let answer = site.invoke(&event).await;
    assert_eq!(answer.outcome("shop"), "issued", "{:#}", answer.report());
    let stored = site.read_json("certificates/shop.json").await;
    assert_eq!(stored, event["certificate"]);
    assert!(site.browser_trusts("shop.example.com").await.is_ok());

    let again = site.invoke(&event).await;
    assert_eq!(again.outcome("shop"), "kept", "{:#}", again.report());
    assert_eq!(evidence::writes(&again), Vec::<String>::new());

    let mut other = issue(&site, &["shop.example.com", "www.example.com"]);
    let refused = site.invoke(&other).await;
    assert_eq!(refused.outcome("shop"), "failed", "{:#}", refused.report());
    let problem = &refused.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:documentExists");
    assert!(problem["detail"].as_str().unwrap().contains("replace"));
    assert_eq!(site.read_json("certificates/shop.json").await, stored);

    other["replace"] = true.into();
    let replaced = site.invoke(&other).await;
    assert_eq!(
        replaced.outcome("shop"),
        "renewed",
        "{:#}",
        replaced.report()
    );
    assert!(site.browser_trusts("www.example.com").await.is_ok());

    for (field, value, word) in [
        (
            "certificate",
            json!({"domains": [], "targets": []}),
            "domains",
        ),
        ("name", json!("No Such Name"), "name"),
    ] {
        let mut invalid = issue(&site, &["shop.example.com"]);
        invalid[field] = value;
        let answer = site.invoke(&invalid).await;
        let told = &answer.report()["certificates"][0];
        assert_eq!(told["problem"]["type"], "certloop:invalidDocument");
        assert!(told["reason"].as_str().unwrap().contains(word), "{told:#}");
        assert_eq!(evidence::writes(&answer), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_what_is_served_and_what_went_wrong() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    site.put("certificates/zoo.json", "{}").await;
    let empty = site.invoke(&json!({"action": "status"})).await;
    assert_eq!(empty.report()["total"], 2, "{:#}", empty.report());
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());

    let status = site.invoke(&json!({"action": "status"})).await;

    let shop = status.certificate("shop");
    for field in ["serial", "notBefore", "notAfter", "renewAt"] {
        assert_eq!(shop[field], pass.certificate("shop")[field], "{shop:#}");
    }
    let left = shop["lifetimeLeftShare"].as_f64().unwrap();
    assert!((0.99..=1.0).contains(&left), "{shop:#}");
    assert_eq!(shop["targets"][0]["state"], "attached", "{shop:#}");
    assert_eq!(shop["targets"][0]["proved"], true, "{shop:#}");
    assert!(shop["problem"].is_null(), "{shop:#}");
    assert!(shop["underWay"].is_null(), "{shop:#}");
    assert!(!shop["history"].as_array().unwrap().is_empty(), "{shop:#}");
    let zoo = status.certificate("zoo");
    assert_eq!(
        zoo["problem"]["type"], "certloop:invalidDocument",
        "{zoo:#}"
    );
    assert_eq!(evidence::writes(&status), Vec::<String>::new());
    assert_eq!(status.count(|one| one.service == tests::Service::Acme), 0);

    // By pages.
    let first = site.invoke(&json!({"action": "status", "limit": 1})).await;
    assert_eq!(first.report()["next"], "shop", "{:#}", first.report());
    let rest = json!({"action": "status", "limit": 1, "after": "shop"});
    let rest = site.invoke(&rest).await;
    assert_eq!(rest.report()["certificates"][0]["name"], "zoo");
    assert!(rest.report()["next"].is_null(), "{:#}", rest.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_out_of_time_is_taken_up_by_the_next() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    // Enough time to order, too little to validate as well.
    let short = Plan::default().within(Duration::from_secs(6));

    let pass = site.pass_with(short).await;

    assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());
    let told = pass.certificate("shop");
    assert!(told["reason"].as_str().unwrap().contains("out of time"));
    assert!(told["problem"].is_null(), "{told:#}");
    assert!(instant(&told["nextAttempt"]) <= OffsetDateTime::now_utc());
    assert_eq!(evidence::orders(&cloud, &site), 1);
    let next = site.pass().await;
    assert_eq!(next.outcome("shop"), "issued", "{:#}", next.report());
    assert_eq!(evidence::orders(&cloud, &site), 1);
    evidence::assert_at_rest(&cloud, &site, "shop", "shop.example.com", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_renewal_out_of_time_is_seen_through_by_the_schedule() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let first = site.pass().await;
    assert_eq!(first.outcome("shop"), "issued", "{:#}", first.report());
    let force = json!({"action": "reconcile", "certificates": ["shop"], "force": true});
    // Pebble sometimes reuses valid authorizations; then finalizing takes too long.
    let slow = Fault::on(FINALIZE).always().delay(Duration::from_secs(20));
    cloud.to_acme().inject(slow);

    let short = Plan::default().within(Duration::from_secs(8));
    let forced = site.invoke_with(&force, short).await;

    cloud.to_acme().heal();
    let outcome = forced.outcome("shop");
    assert_eq!(outcome, "waiting", "{:#}", forced.report());
    let next = site.pass_with(evidence::later(2 * evidence::MINUTE)).await;
    assert_eq!(next.outcome("shop"), "renewed", "{:#}", next.report());
    assert_eq!(evidence::orders(&cloud, &site), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_ends_before_the_platform_ends_it() {
    let cloud = LocalCloud::start().await;
    for (number, path) in [NEW_ORDER, FINALIZE].into_iter().enumerate() {
        let site = cloud.install(&format!("shop-{number}")).await;
        let domain = format!("shop-{number}.example.com");
        site.want("shop", &[&domain]).await;
        site.want("blog", &[&format!("blog-{number}.example.com")])
            .await;
        let stuck = Fault::on(path).always().delay(Duration::from_secs(60));
        cloud.to_acme().inject(stuck);

        let limit = Duration::from_secs(12);
        let pass = site.pass_with(Plan::default().within(limit)).await;

        cloud.to_acme().heal();
        for name in ["shop", "blog"] {
            let outcome = pass.outcome(name);
            assert!(
                ["waiting", "failed"].contains(&outcome),
                "{:#}",
                pass.report()
            );
        }
        let state = site.read_json("state/shop.json").await;
        assert!(state["lease"].is_null(), "{state:#}");
        let next = site.pass_with(evidence::later(2 * evidence::MINUTE)).await;
        assert_eq!(next.report()["summary"]["issued"], 2, "{:#}", next.report());
        evidence::assert_at_rest_among(&cloud, &site, "shop", &domain).await;
    }
}
