//! Tests of the stand-ins: what the other tests assume about them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::Certificate;
use serde_json::{Value, json};
use tests::{Fault, Function, LocalCloud, Moment, PebbleOptions, Plan};
use tokio::net::UdpSocket;

use crate::helpers::{Foreign, acme, two_minutes_later};

fn hello(name: &str) -> Function {
    Function::new(name, "hello", Duration::from_secs(5))
}

fn body(result: &Value) -> Value {
    serde_json::from_str(result["body"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_run_fail_die_and_time_out_as_on_lambda() {
    let cloud = LocalCloud::start().await;
    let lambda = cloud.lambda();
    lambda.deploy(hello("hello"));

    let first = lambda.invoke("hello", &json!({"a": 1})).await;
    assert!(first.start.is_some());
    let said = body(first.report());
    assert_eq!(said["event"], json!({"a": 1}));
    assert_eq!(
        said["function"],
        "arn:aws:lambda:us-east-1:123456789012:function:hello"
    );

    let again = lambda.invoke("hello", &json!({})).await;
    assert_eq!(again.start, None, "an idle environment is used again");

    let (left, right) = (json!({"left": 1}), json!({"right": 1}));
    let (left, right) = tokio::join!(
        lambda.invoke("hello", &left),
        lambda.invoke("hello", &right)
    );
    assert!(left.start.is_some() != right.start.is_some());

    let failed = lambda.invoke("hello", &json!({"do": "fail"})).await;
    assert_eq!(failed.result.unwrap_err().message, "asked to fail");

    let died = lambda.invoke("hello", &json!({"do": "exit"})).await;
    assert_eq!(died.result.unwrap_err().error_type, "Runtime.ExitError");

    let plan = Plan::default().within(Duration::from_millis(300));
    let slow = lambda
        .invoke_with("hello", &json!({"do": "sleep"}), plan)
        .await;
    let error = slow.result.unwrap_err();
    assert_eq!(error.error_type, "Sandbox.Timedout");
    assert!(error.message.contains("Task timed out after 0.30 seconds"));

    lambda.deploy(Function {
        binary: "/bin/false".into(),
        ..hello("broken")
    });
    let error = lambda
        .invoke("broken", &json!({}))
        .await
        .result
        .unwrap_err();
    assert_eq!(error.error_type, "Runtime.ExitError");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_lives_two_months_later_deadline_included() {
    let cloud = LocalCloud::start().await;
    let lambda = cloud.lambda();
    lambda.deploy(hello("hello"));

    let now = body(lambda.invoke("hello", &json!({})).await.report());
    let plan = Plan::days_later(60);
    let later = lambda.invoke_with("hello", &json!({}), plan).await;
    let later = body(later.report());

    for field in ["now", "deadline"] {
        let moved = later[field].as_u64().unwrap() - now[field].as_u64().unwrap();
        let days = moved as f64 / 86_400_000.0;
        assert!((days - 60.0).abs() < 0.01, "{field} moved by {days} days");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_balancer_follows_rules_and_certificates() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("site").await;
    cloud.lambda().deploy(hello("echo"));
    cloud.lambda().deploy(hello("multi"));
    site.route(20, "/echo/?", "echo", false).await;
    site.route(21, "/multi", "multi", true).await;

    let away = site.fetch("site.example.com", "/page?a=1").await;
    assert_eq!(away.status, 301);
    assert_eq!(
        away.header("location"),
        Some("https://site.example.com:443/page?a=1")
    );
    assert_eq!(site.fetch("site.example.com", "/Echo/x").await.status, 301);
    assert_eq!(site.fetch("site.example.com", "/echo/xy").await.status, 301);

    let echo = site.fetch("site.example.com", "/echo/x?a=%20b").await;
    assert_eq!(echo.status, 200);
    let event = serde_json::from_slice::<Value>(&echo.body).unwrap();
    let event = &event["event"];
    assert_eq!(event["httpMethod"], "GET");
    assert_eq!(event["path"], "/echo/x");
    assert_eq!(event["queryStringParameters"]["a"], "%20b");
    assert_eq!(event["headers"]["host"], "site.example.com");
    assert_eq!(event["headers"]["x-forwarded-port"], "80");
    assert!(event["requestContext"]["elb"]["targetGroupArn"].is_string());

    // The answer has no multiValueHeaders, which such a target group requires.
    assert_eq!(site.fetch("site.example.com", "/multi").await.status, 502);

    let (rsa_like, key) = tests::tls::self_signed(&["other.example.com", "*.wild.example.com"]);
    let other = site.import(&rsa_like, &key).await;
    let roots = format!("{rsa_like}\n");
    let https = site.ports().https();
    let visit = async |name| tests::browser::visit(https, name, &roots).await;
    assert!(visit("other.example.com").await.is_err());
    site.add_to_listener(&other).await;
    let (leaf, page) = visit("other.example.com").await.unwrap();
    assert_eq!(leaf.names[0], "other.example.com");
    assert_eq!(page.text(), "the site\n");
    assert!(visit("a.wild.example.com").await.is_ok());
    assert!(visit("a.b.wild.example.com").await.is_err());
    site.remove_from_listener(&other).await;
    assert!(visit("other.example.com").await.is_err());
}

/// Removes another owner's certificate from the listener, as a caller of this name.
async fn take_off(cloud: &LocalCloud, listener: &str, arn: &str, caller: &'static str) {
    let remove = cloud.aws().elb_as(caller).remove_listener_certificates();
    let certificate = Certificate::builder().certificate_arn(arn).build();
    let remove = remove.listener_arn(listener).certificates(certificate);
    remove.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_tells_in_the_end_what_certloop_took_from_visitors() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("site").await;
    let theirs = Foreign::import(&cloud, &["other.example.net"]).await.arn;
    let lost = async |caller| {
        site.add_to_listener(&theirs).await;
        take_off(&cloud, &site.listener, &theirs, caller).await;
        let losses = cloud.aws().losses().await;
        losses.into_iter().next_back().unwrap()
    };

    // A person may do that.
    let by_hand = lost(tests::aws::HANDS).await;
    assert!(by_hand.lost && by_hand.is_foreign() && !by_hand.is_certloops());
    assert!(!by_hand.breaks_rule_12());
    // Neither a function nor a command may.
    for caller in ["site-renew", "operator"] {
        let loss = lost(caller).await;
        assert!(loss.breaks_rule_12(), "{loss}");
        assert_eq!((&*loss.caller, &*loss.name), (caller, "other.example.net"));
        assert_eq!((&*loss.key_type, loss.sni), ("ECDSA", true));
        assert_eq!(loss.listener.as_ref(), Some(&site.listener));
        assert_eq!(loss.instead, [&*site.placeholder]);
    }

    let ended = catch_unwind(AssertUnwindSafe(|| drop(cloud))).unwrap_err();
    let told = ended.downcast_ref::<String>().unwrap();
    let line = format!(
        "RemoveListenerCertificates by site-renew: other.example.net (ECDSA) lost {theirs} on {}",
        site.listener
    );
    assert!(told.contains(&line), "{told}");
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_takes_from_visitors_bears_its_name_and_its_clock() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    let issued = shop.pass().await;
    assert_eq!(issued.outcome("shop"), "issued");
    let before = cloud.aws().losses().await;
    assert!(before.is_empty(), "{before:?}");

    let event = json!({"action": "remove", "name": "shop"});
    let removed = shop.invoke_with(&event, Plan::days_later(1)).await;

    let told = format!("{:#}", removed.report());
    let answer = cloud.aws().admin("GET", "losses", None).await;
    let at = answer["losses"][0]["at"].as_f64().expect(&told);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let ahead = at - now.as_secs_f64();
    assert!((86_100.0..86_500.0).contains(&ahead), "{ahead}");
    let [loss] = &*cloud.aws().losses().await else {
        panic!("{answer:#}");
    };
    // Its own certificate, by a person's request: rule 12 does not apply.
    assert_eq!(loss.caller, shop.renew);
    assert_eq!(loss.name, "shop.example.com");
    assert!(loss.lost && loss.ours && !loss.is_foreign() && !loss.breaks_rule_12());
    cloud.aws().forget_losses().await;
    assert!(cloud.aws().losses().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_challenge_function_answers_through_the_load_balancer() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("site").await;
    site.put("challenges/token-1", "token-1.thumbprint").await;

    let answer = site
        .fetch("a.example.com", "/.well-known/acme-challenge/token-1")
        .await;

    assert_eq!(
        (answer.status, answer.text()),
        (200, "token-1.thumbprint".into())
    );
    let reads = cloud.to_aws().sent();
    let reads = reads.iter().map(|sent| sent.call.as_str());
    assert_eq!(reads.collect::<Vec<_>>(), ["GetObject challenges/token-1"]);
    let missing = site
        .fetch("a.example.com", "/.well-known/acme-challenge/no")
        .await;
    assert_eq!(missing.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_dies_at_the_request_it_is_told_to() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("site").await;
    site.put("challenges/token-1", "token-1.thumbprint").await;
    let event = json!({
        "requestContext": {"elb": {"targetGroupArn": "arn"}},
        "httpMethod": "GET", "path": "/.well-known/acme-challenge/token-1",
        "headers": {"host": "a.example.com"}, "body": "", "isBase64Encoded": false,
    });

    for moment in [Moment::Before, Moment::After] {
        let plan = Plan::default().killed_at(1, moment);
        let lambda = cloud.lambda();
        let killed = lambda.invoke_with(&site.challenge, &event, plan).await;

        assert_eq!(killed.requests.len(), 1);
        let reached = killed.requests[0].status.is_some();
        assert_eq!(reached, moment == Moment::After);
        let error = killed.result.unwrap_err();
        assert_eq!(error.error_type, "Runtime.ExitError");
        assert!(error.message.contains("signal: 9"), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_authority_is_reached_through_the_wire() {
    let cloud = LocalCloud::start().await;
    let client = tests::tls::client_config(&cloud.directory_root());
    let host = cloud.directory().strip_prefix("https://").unwrap();
    let host = host.strip_suffix("/dir").unwrap();
    let address = host.parse::<std::net::SocketAddr>().unwrap();
    let get = async |path: &str| {
        let name = address.ip().to_string();
        let stream = tests::tls::connect(client.clone(), address, &name).await;
        let request = tests::http::Request::get(host, path);
        tests::http::exchange(stream.unwrap(), request)
            .await
            .unwrap()
    };

    let directory = serde_json::from_slice::<Value>(&get("/dir").await.body).unwrap();
    assert_eq!(directory["newOrder"], format!("https://{host}/order-plz"));
    assert!(directory["meta"]["profiles"]["shortlived"].is_string());

    let slow_down = tests::Fault::on("/dir")
        .after(1)
        .problem(429, "rateLimited", "slow down");
    cloud.to_acme().inject(slow_down);
    let statuses = [
        get("/dir").await.status,
        get("/dir").await.status,
        get("/dir").await.status,
    ];
    assert_eq!(statuses, [200, 429, 200]);
    assert!(cloud.pebble().root().await.contains("BEGIN CERTIFICATE"));
}

/// Asks the cloud's DNS; returns the answer's code and the types of its records.
async fn ask(cloud: &LocalCloud, name: &str, kind: u16) -> (u8, Vec<u16>) {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend([kind.to_be_bytes(), 1_u16.to_be_bytes()].concat());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = cloud.dns().address();
    socket.send_to(&question, server).await.unwrap();
    let mut answer = [0; 1024];
    let patience = Duration::from_secs(5);
    let read = tokio::time::timeout(patience, socket.recv(&mut answer));
    let length = read.await.unwrap().unwrap();
    let answer = &answer[..length];
    let number = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    let mut types = Vec::new();
    let mut at = question.len();
    for _ in 0..number(6) {
        // A name ends with an empty label or a pointer (RFC 1035 section 4.1.4).
        while answer[at] != 0 && answer[at] < 0xc0 {
            at += usize::from(answer[at]) + 1;
        }
        at += if answer[at] == 0 { 1 } else { 2 };
        types.push(number(at));
        at += 10 + usize::from(number(at + 8));
    }
    (answer[3] & 15, types)
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_says_what_it_was_told_to_say() {
    const A: u16 = 1;
    const CNAME: u16 = 5;
    const AAAA: u16 = 28;
    const CAA: u16 = 257;
    let cloud = LocalCloud::start().await;
    let dns = cloud.dns();
    let name = "shop.example.com";
    assert_eq!(ask(&cloud, name, A).await, (0, vec![A]), "where all lead");
    for kind in [AAAA, CAA] {
        assert_eq!(ask(&cloud, name, kind).await, (0, vec![]), "{kind}");
    }

    let both = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    dns.lead_only(name, &both).await;
    dns.set_caa(name, &[("issue", "ca.example"), ("issuewild", ";")])
        .await;
    assert_eq!(ask(&cloud, name, AAAA).await, (0, vec![AAAA]));
    assert_eq!(ask(&cloud, name, CAA).await, (0, vec![CAA, CAA]));
    dns.set_caa(name, &[]).await;
    assert_eq!(ask(&cloud, name, CAA).await, (0, vec![]));

    dns.set_cname("www.example.com", name).await;
    let alias = ask(&cloud, "www.example.com", AAAA).await;
    assert_eq!(alias, (0, vec![CNAME, AAAA]));
    dns.clear_cname("www.example.com").await;
    assert_eq!(ask(&cloud, "www.example.com", AAAA).await, (0, vec![]));

    dns.set_servfail(name).await;
    for kind in [A, AAAA, CAA] {
        assert_eq!(ask(&cloud, name, kind).await, (2, vec![]), "{kind}");
    }
    dns.clear_servfail(name).await;
    assert_eq!(ask(&cloud, name, A).await, (0, vec![A]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_authority_has_roots_of_its_own_and_can_be_taken_down() {
    let cloud = LocalCloud::start().await;
    let identities = vec!["second.example".to_owned()];
    let second = cloud.another_authority(PebbleOptions {
        caa_identities: identities,
        ..PebbleOptions::default()
    });
    let second = second.await;
    let shop = cloud.install("shop").await;
    let mut settings = shop.settings_with("second", &second);
    settings["defaults"]["authority"] = "second".into();
    shop.put_settings(&settings).await;
    shop.want("shop", &["shop.example.com"]).await;

    second.wire().down().await;
    let refused = shop.pass().await;
    assert_eq!(refused.outcome("shop"), "failed", "{:#}", refused.report());
    assert_eq!(refused.count(|sent| second.heard(sent)), 0);
    second.wire().up().await;
    let meta = Arc::new(Mutex::new(Value::Null));
    let seen = meta.clone();
    let look = Fault::on("/dir").edit(move |directory| {
        *seen.lock().unwrap() = serde_json::from_slice(&directory.body).unwrap();
    });
    second.wire().inject(look);
    let pass = shop.pass_with(two_minutes_later()).await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert!(pass.count(|sent| second.heard(sent)) > 5);
    assert_eq!(pass.count(acme), pass.count(|sent| second.heard(sent)));
    let identities = meta.lock().unwrap()["meta"]["caaIdentities"].clone();
    assert_eq!(identities, json!(["second.example"]));
    let name = "shop.example.com";
    assert!(shop.browser_trusts(name).await.is_err(), "the first's root");
    let leaf = shop.browser_with(name, second.roots()).await.unwrap();
    assert_eq!(second.pebble().revoked(&leaf.serial).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_acl_stands_before_a_load_balancer() {
    let cloud = LocalCloud::start().await;
    let [shop, other] = [cloud.install("shop").await, cloud.install("other").await];
    let acl = shop.associate_web_acl("strict").await;
    for (site, held) in [(shop, json!(acl)), (other, Value::Null)] {
        let question = json!({"ResourceArn": site.balancer});
        let target = "AWSWAF_20190729.GetWebACLForResource";
        let answer = cloud.aws().json("wafv2", target, &question).await;
        assert_eq!(answer["WebACL"]["ARN"], held, "{answer:#}");
        assert_eq!(ask(&cloud, &site.host, 1).await, (0, vec![1]));
    }
}
