//! A plan changes nothing, and a pass right after it makes exactly the planned calls.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    Fault, Installation, Invocation, LocalCloud, Moment, PebbleOptions, Plan, REGION, Sent,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::helpers::{acme, arn, changing, import_foreign, two_minutes_later, with};

/// Every name is validated again, and no request has to be repeated.
async fn cloud() -> LocalCloud {
    LocalCloud::start_with(PebbleOptions {
        reuse: Some(0),
        nonces_rejected: Some(0),
        ..PebbleOptions::default()
    })
    .await
}

/// Returns the bucket's objects with their ETags, and what the listener holds.
async fn everything(cloud: &LocalCloud, site: &Installation) -> (BTreeMap<String, String>, String) {
    let list = cloud.aws().s3().list_objects_v2().bucket(&site.bucket);
    let listed = list.send().await.unwrap().contents.unwrap_or_default();
    let objects = listed.into_iter();
    let objects = objects.map(|object| (object.key.unwrap(), object.e_tag.unwrap()));
    let elsewhere = format!("{:?} {:?}", site.listed().await, site.imported().await);
    (objects.collect(), elsewhere)
}

/// Plans, asserts that nothing has changed, runs a pass and asserts that it makes the planned
/// calls. Returns both.
async fn as_planned(
    cloud: &LocalCloud,
    site: &Installation,
    name: &str,
    later: Plan,
) -> (Invocation, Invocation) {
    let at = OffsetDateTime::now_utc() + later.clock + Duration::from_secs(1);
    let event = json!({
        "action": "plan", "certificates": [name], "at": at.format(&Rfc3339).unwrap(),
    });
    let before = everything(cloud, site).await;
    let planned = site.invoke(&event).await;
    assert_eq!(everything(cloud, site).await, before);
    assert_eq!(planned.count(changing), 0, "{:?}", planned.requests);
    let signed = planned.count(|sent| acme(sent) && sent.payload.is_object());
    assert_eq!(signed, 0, "{:?}", planned.requests);
    assert!(planned.metrics().is_empty());
    let lines = planned.log_lines();
    let passes = ["certificate", "step", "pass done", "account registered"];
    let misleading = lines.iter().find(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        passes.contains(&message)
    });
    assert_eq!(misleading, None);

    let event = json!({"action": "reconcile", "certificates": [name]});
    let pass = site.invoke_with(&event, later).await;
    assert_eq!(
        calls_of_plan(&planned, name, &before.0),
        calls_of_pass(cloud, site, &pass, &before.0),
        "{:#}\n{:#}\n{}",
        planned.report(),
        pass.report(),
        pass.log.join("\n")
    );
    let (told, came) = (planned.certificate(name), pass.certificate(name));
    for field in ["outcome", "reason", "problem"] {
        assert_eq!(told[field], came[field], "{field} of {name}");
    }
    (planned, pass)
}

fn calls_of_plan(
    planned: &Invocation,
    name: &str,
    before: &BTreeMap<String, String>,
) -> Vec<String> {
    let calls = planned.certificate(name)["calls"].as_array().unwrap();
    let calls = calls.iter().map(|call| {
        let text = |field: &str| call[field].as_str().unwrap().to_owned();
        let (operation, mut resource) = (text("operation"), text("resource"));
        if text("service") == "s3" {
            resource = key_in_general(&resource, before);
        }
        // The record does not have the region.
        if operation == "ImportCertificate" && !resource.starts_with("arn:") {
            resource = "new".to_owned();
        }
        // The record does not have these parts of the pass.
        if ["challenge", "finalize"].contains(&operation.as_str()) {
            assert!(!resource.is_empty());
            resource.clear();
        }
        format!("{} {operation} {resource}", text("service"))
    });
    in_no_order(calls.collect())
}

/// Returns the calls of a pass that have an effect. New identifiers in them are replaced.
fn calls_of_pass(
    cloud: &LocalCloud,
    site: &Installation,
    pass: &Invocation,
    before: &BTreeMap<String, String>,
) -> Vec<String> {
    let done = |sent: &&Sent| sent.status.is_some_and(|status| status < 300);
    let calls = pass.requests.iter().filter(done);
    let calls = calls.filter(|sent| changing(sent) || acme(sent) && sent.payload.is_object());
    // A full pass records the state of the whole account: that belongs to no certificate.
    let calls = calls.filter(|sent| !sent.call.ends_with("limits/strays.json"));
    let calls = calls.map(|sent| {
        let says = |field: &str| sent.payload[field].as_str().map(str::to_owned);
        let (operation, rest) = sent.call.split_once(' ').unwrap_or((&sent.call, ""));
        match operation {
            "PutObject" | "DeleteObject" => {
                let key = key_in_general(rest, before);
                format!("s3 {operation} {key}")
            }
            "ImportCertificate" | "DeleteCertificate" => {
                let about = says("CertificateArn").unwrap_or("new".to_owned());
                format!("acm {operation} {about}")
            }
            "CreateListener" => {
                let balancer = says("LoadBalancerArn").unwrap();
                format!("elbv2 {operation} {balancer}:{}", says("Port").unwrap())
            }
            "POST" => match rest.split('/').nth(1) {
                Some("sign-me-up") => format!("acme newAccount {}", cloud.directory()),
                Some("order-plz") => {
                    let names = sent.payload["identifiers"].as_array().unwrap().iter();
                    let names = names.map(|identifier| identifier["value"].as_str().unwrap());
                    format!("acme newOrder {}", names.collect::<Vec<_>>().join(", "))
                }
                Some("my-account") => format!("acme updateAccount {}", cloud.directory()),
                Some("chalZ") => "acme challenge ".to_owned(),
                Some("finalize-order") => "acme finalize ".to_owned(),
                _ => format!("acme {rest}"),
            },
            operation => {
                let listener = says("ListenerArn").unwrap_or_default();
                let listener = match listener == site.listener {
                    true => listener,
                    false => format!("{}/<new>", listener.rsplit_once('/').unwrap().0),
                };
                format!("elbv2 {operation} {listener}")
            }
        }
    });
    in_no_order(calls.collect())
}

/// Returns an object's key without the token, and without the serial of a certificate that does not
/// exist yet.
fn key_in_general(key: &str, before: &BTreeMap<String, String>) -> String {
    let is_new = !before.contains_key(key);
    match key.rsplit_once('/') {
        Some(("challenges", _)) => "challenges/<token>".to_owned(),
        Some((vault, _))
            if is_new && vault.starts_with("vault/") && !key.ends_with("/pending.json") =>
        {
            format!("{vault}/<serial>.json")
        }
        _ => key.to_owned(),
    }
}

/// Consecutive deletions run at the same time: their order does not matter.
fn in_no_order(mut calls: Vec<String>) -> Vec<String> {
    let is_deletion = |call: &String| call.starts_with("s3 DeleteObject");
    let mut runs = calls.chunk_by_mut(|a, b| is_deletion(a) && is_deletion(b));
    runs.by_ref().for_each(<[String]>::sort);
    drop(runs);
    calls
}

fn has(invocation: &Invocation, name: &str, operation: &str) -> bool {
    let calls = invocation.certificate(name)["calls"].as_array().unwrap();
    calls.iter().any(|call| call["operation"] == operation)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_certificate_to_the_deletion_of_an_old_one() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["shop.example.com"]);
    shop.put_document("shop", &document).await;

    let (planned, issued) = as_planned(&cloud, &shop, "shop", Plan::default()).await;
    assert_eq!(planned.outcome("shop"), "issued");
    for operation in [
        "newAccount",
        "newOrder",
        "challenge",
        "finalize",
        "ImportCertificate",
        "AddListenerCertificates",
    ] {
        assert!(has(&planned, "shop", operation), "{operation}");
    }
    // 90 days, renewed after 55.5 of them on average.
    assert_eq!(planned.certificate("shop")["ordersPerYear"], 6.6);
    let total = &planned.report()["total"];
    assert_eq!(
        (&total["orders"], &total["imports"]),
        (&json!(1), &json!(1))
    );

    // The first of these passes may make the daily look.
    as_planned(&cloud, &shop, "shop", Plan::default()).await;
    let (planned, _) = as_planned(&cloud, &shop, "shop", Plan::default()).await;
    assert_eq!(planned.outcome("shop"), "kept", "nothing is due");
    assert_eq!(planned.certificate("shop")["calls"], json!([]));

    shop.remove_from_listener(&arn(&issued, "shop")).await;
    let (planned, _) = as_planned(&cloud, &shop, "shop", Plan::default()).await;
    assert_eq!(planned.outcome("shop"), "deployed", "drift");

    document["keyType"] = json!("rsa-2048");
    shop.put_document("shop", &document).await;
    let (planned, _) = as_planned(&cloud, &shop, "shop", Plan::default()).await;
    assert_eq!(planned.outcome("shop"), "renewed", "another ARN");
    assert!(has(&planned, "shop", "RemoveListenerCertificates"));

    let (planned, _) = as_planned(&cloud, &shop, "shop", Plan::default()).await;
    assert!(
        has(&planned, "shop", "DeleteCertificate"),
        "the overlap is over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_that_others_need_and_a_renewal_in_place() {
    let cloud = cloud().await;
    let club = cloud.install("club").await;
    let foreign = import_foreign(&cloud, &["www.club.example.net"]).await;
    club.set_default(&foreign).await;
    let mut document = club.document(&["a.club.example.com", "club.example.com"]);
    document["targets"][0]["as"] = json!("default");
    let mut settings = club.settings();
    settings["authorities"]["pebble"]["limits"] = json!("letsencrypt");
    club.put_settings(&settings).await;
    club.put_document("club", &document).await;
    let (planned, issued) = as_planned(&cloud, &club, "club", Plan::default()).await;
    assert!(has(&planned, "club", "ModifyListener"));
    assert!(club.listed().await.sni.contains(&foreign));
    let calls = planned.certificate("club")["calls"].as_array().unwrap();
    let challenges = calls.iter().filter(|call| call["operation"] == "challenge");
    let challenges: Vec<_> = challenges.map(|call| &call["resource"]).collect();
    assert_eq!(challenges, ["a.club.example.com", "club.example.com"]);

    let (planned, renewed) = as_planned(&cloud, &club, "club", Plan::days_later(61)).await;
    assert_eq!(planned.outcome("club"), "renewed");
    assert_eq!(arn(&renewed, "club"), arn(&issued, "club"));
    assert!(!has(&planned, "club", "newAccount"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_yet_to_be_made() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    let describe = cloud.aws().elb().describe_target_groups();
    let described = describe.load_balancer_arn(&shop.balancer).send().await;
    let group = described.unwrap().target_groups.unwrap_or_default();
    let document = json!({
        "domains": ["shop.example.com"],
        "targets": [{
            "type": "listener", "loadBalancer": shop.balancer, "port": 8443,
            "forward": group[0].target_group_arn.as_deref().unwrap(),
        }],
    });
    // Nothing listens on that port here.
    let settings = with(shop.settings(), "proof", "mode", "off");
    shop.put_settings(&settings).await;
    shop.put_document("shop", &document).await;
    let (planned, _) = as_planned(&cloud, &shop, "shop", Plan::default()).await;
    assert!(has(&planned, "shop", "CreateListener"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_under_way_is_seen_through() {
    let cloud = cloud().await;
    // Stopped after the order was placed, after its challenge was answered, and after the CSR was
    // sent.
    for (name, path) in [
        ("one", "/order-plz"),
        ("two", "/chalZ/"),
        ("three", "/finalize-order/"),
    ] {
        let site = cloud.install(name).await;
        let domain = format!("{name}.example.com");
        site.want(name, &[&domain]).await;
        let whole = {
            let twin = cloud.install(&format!("{name}-twin")).await;
            twin.want("twin", &[&format!("twin.{domain}")]).await;
            twin.pass().await
        };
        let asked = |sent: &Sent| sent.is_acme(path) && sent.payload.is_object();
        let number = whole.requests.iter().position(asked).unwrap() + 2;
        let stopped = site
            .pass_with(Plan::default().killed_at(number, Moment::After))
            .await;
        assert!(stopped.result.is_err(), "{path}");
        let (planned, _) = as_planned(&cloud, &site, name, two_minutes_later()).await;
        assert_eq!(planned.outcome(name), "issued", "{path}");
        assert!(!has(&planned, name, "newOrder"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_that_is_being_validated_is_not_answered_again() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let asked = |sent: &Sent| sent.is_acme("/chalZ/") && sent.payload.is_object();
    let whole = {
        let twin = cloud.install("twin").await;
        twin.want("twin", &["twin.example.com"]).await;
        twin.pass().await
    };
    // The count starts at 1: the answer itself is never sent.
    let number = whole.requests.iter().position(asked).unwrap() + 1;
    let stopped = shop
        .pass_with(Plan::default().killed_at(number, Moment::Before))
        .await;
    assert!(stopped.result.is_err());
    // The authorization between the answer and its validation.
    let validating = Fault::on("/authZ/").always().edit(|response| {
        let mut authorization: Value = serde_json::from_slice(&response.body).unwrap();
        for challenge in authorization["challenges"].as_array_mut().unwrap() {
            challenge["status"] = json!("processing");
        }
        response.body = authorization.to_string().into_bytes();
        response
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    });
    // By then the lease of the killed pass has ended.
    let at = OffsetDateTime::now_utc() + two_minutes_later().clock;
    let at = at.format(&Rfc3339).unwrap();
    let plan = json!({"action": "plan", "certificates": ["shop"], "at": at});
    let planned = shop.invoke(&plan).await;
    assert!(has(&planned, "shop", "challenge"), "{:#}", planned.report());
    cloud.to_acme().inject(validating);
    let planned = shop.invoke(&plan).await;
    assert!(has(&planned, "shop", "finalize"), "{:#}", planned.report());
    assert!(
        !has(&planned, "shop", "challenge"),
        "{:#}",
        planned.report()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_up_is_not_said_to_be_untrusted() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    let mut settings = shop.settings();
    settings["authorities"]["pebble"]["private"] = json!(false);
    shop.put_settings(&settings).await;
    shop.want("shop", &["shop.example.com"]).await;
    let plan = json!({"action": "plan"});
    let planned = shop.invoke(&plan).await;
    assert_eq!(planned.outcome("shop"), "issued");
    assert_eq!(planned.certificate("shop")["problem"], Value::Null);

    // The findings about the previous certificate also apply to its successor.
    let issued = shop.pass().await;
    let kind = &issued.certificate("shop")["problem"]["type"];
    assert_eq!(kind, "certloop:untrusted", "{:#}", issued.report());
    as_planned(&cloud, &shop, "shop", Plan::days_later(61)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_certificates_and_regions() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    for (name, region) in [("one", REGION), ("two", "eu-west-3")] {
        let mut document = shop.document(&[&format!("{name}.example.com")]);
        let target = json!({"type": "certificateManager", "region": region});
        document["targets"].as_array_mut().unwrap().push(target);
        shop.put_document(name, &document).await;
    }
    let before = everything(&cloud, &shop).await;
    let planned = shop.invoke(&json!({"action": "plan"})).await;
    assert_eq!(everything(&cloud, &shop).await, before);
    let pass = shop.pass().await;
    let expected = ["one", "two"].map(|name| calls_of_plan(&planned, name, &before.0));
    let mut expected = expected.concat();
    let mut calls = calls_of_pass(&cloud, &shop, &pass, &before.0);
    calls.sort();
    expected.sort();
    assert_eq!(calls, expected);
    assert_eq!(planned.certificate("one")["importsPerYear"], 6.6);
    assert_eq!(planned.certificate("two")["importsPerYear"], 13.2);
    let calls = planned.certificate("two")["calls"].as_array().unwrap();
    let imports = calls.iter().filter(|call| call["service"] == "acm");
    let regions: Vec<_> = imports.map(|call| &call["resource"]).collect();
    assert_eq!(regions, ["eu-west-3", REGION]);
    assert_eq!(planned.report()["total"]["imports"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_fails_or_is_unknown_is_told_as_a_pass_would() {
    let cloud = cloud().await;
    let shop = cloud.install("shop").await;
    let mut document = shop.document(&["paused.example.com"]);
    document["paused"] = json!(true);
    shop.put_document("paused", &document).await;
    shop.put("certificates/broken.json", "{\"domain\": 1}")
        .await;
    shop.want("refused", &["refused.blocked.example"]).await;
    let failed = shop.pass().await;
    assert_eq!(failed.outcome("refused"), "failed", "{:#}", failed.report());

    let planned = shop.invoke(&json!({"action": "plan"})).await;
    let report = planned.report();
    let names = |report: &Value| -> Vec<String> {
        let all = report["certificates"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut known = names(report);
    known.sort();
    assert_eq!(known, ["broken", "paused", "refused"]);
    let pass = shop.pass().await;
    for name in known {
        let (entry, told) = (planned.certificate(&name), pass.certificate(&name));
        assert_eq!(entry["calls"], json!([]), "{name}");
        for field in ["outcome", "reason", "nextAttempt", "problem"] {
            assert_eq!(entry[field], told[field], "{name}");
        }
    }
    assert_eq!(planned.certificate("paused")["ordersPerYear"], 0.0);
    assert_eq!(planned.certificate("broken")["ordersPerYear"], Value::Null);

    let unknown = json!({"action": "plan", "certificates": ["nobody", "nobody"]});
    let unknown = shop.invoke(&unknown).await;
    assert_eq!(names(unknown.report()), ["nobody"]);
    let entry = unknown.certificate("nobody");
    assert_eq!(entry["problem"]["type"], "certloop:unknownCertificate");

    let past = json!({"action": "plan", "at": "2020-01-01T00:00:00Z"});
    let error = shop.invoke(&past).await.result.unwrap_err();
    assert_eq!(error.error_type, "certloop.NotUnderstood");
    assert!(error.message.starts_with("at: 2020"), "{error}");
    let far = json!({"action": "plan", "at": "9999-12-31T23:59:59Z"});
    let error = shop.invoke(&far).await.result.unwrap_err();
    assert_eq!(error.error_type, "certloop.NotUnderstood");
    assert!(error.message.starts_with("at: 9999"), "{error}");
}
