//! An authority that refuses, stumbles, hesitates or asks for more.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud, PebbleOptions, Response, Sent, Service};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::evidence::{self, CHALLENGE, FINALIZE, MINUTE, NEW_ACCOUNT, NEW_ORDER, instant, later};

const AUTHORIZATION: &str = "/authZ/";
const CERTIFICATE: &str = "/certZ/";
const ORDER: &str = "/my-order/";
const HOUR: Duration = Duration::from_secs(60 * 60);

fn error_page(status: u16) -> Response {
    Response::new(status, "<html><h1>oops-4711</h1></html>").with("Content-Type", "text/html")
}

fn rate_limited(detail: &str) -> Response {
    let urn = "urn:ietf:params:acme:error:rateLimited";
    let body = json!({"type": urn, "detail": detail, "status": 429});
    Response::new(429, body.to_string()).with("Content-Type", "application/problem+json")
}

fn orders_asked(pass: &Invocation) -> usize {
    pass.count(|sent| sent.is_acme(NEW_ORDER))
}

/// Whether a request of this installation goes to this path of the authority.
fn to(site: &Installation, path: &'static str) -> impl Fn(&Sent) -> bool + Send + Sync + 'static {
    let function = site.renew.clone();
    move |sent| {
        sent.service == Service::Acme
            && sent.target.starts_with(path)
            && sent.function.as_deref() == Some(&function)
    }
}

#[track_caller]
fn assert_problem(pass: &Invocation, name: &str, kind: &str, words: &[&str]) {
    let certificate = pass.certificate(name);
    assert_eq!(certificate["outcome"], "failed", "{certificate:#}");
    assert_eq!(certificate["problem"]["type"], kind, "{certificate:#}");
    let detail = certificate["problem"]["detail"].as_str().unwrap();
    for word in words {
        assert!(detail.contains(word), "no {word:?} in {detail:?}");
    }
}

/// Asserts that an instant lies about this far ahead of now.
#[track_caller]
fn assert_ahead(field: &Value, ahead: Duration) {
    let ahead_in_fact = (instant(field) - OffsetDateTime::now_utc()).as_seconds_f64();
    let wanted = ahead.as_secs_f64();
    assert!(
        (wanted - 15.0..=wanted + 5.0).contains(&ahead_in_fact),
        "{field} is {ahead_in_fact} s ahead, not {wanted} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_answer_to_any_request_costs_no_second_certificate() {
    let cloud = Arc::new(LocalCloud::start().await);
    let paths = [
        "/dir",
        "/nonce-plz",
        NEW_ACCOUNT,
        NEW_ORDER,
        AUTHORIZATION,
        CHALLENGE,
        ORDER,
        FINALIZE,
        CERTIFICATE,
    ];
    let mut runs = JoinSet::new();
    for (number, path) in paths.into_iter().enumerate() {
        for kind in ["hang-up", "error-page", "lost-answer"] {
            let cloud = cloud.clone();
            runs.spawn(async move {
                let label = format!("{kind}-{number}");
                let context = format!("{kind} at {path}");
                let domain = format!("{label}.example.com");
                let site = cloud.install(&label).await;
                site.want("shop", &[&domain]).await;
                let fault = Fault::when(to(&site, path));
                cloud.to_acme().inject(match kind {
                    "hang-up" => fault.hang_up(),
                    "error-page" => fault.answer(error_page(500)),
                    _ => fault.swallow(error_page(502)),
                });

                let pass = site.pass().await;
                let told = format!("{context}: {:#}", pass.report());
                assert!(!told.contains("oops-4711"), "{told}");
                match pass.outcome("shop") {
                    "issued" => {}
                    "failed" => {
                        let problem = &pass.certificate("shop")["problem"];
                        assert_eq!(problem["type"], "certloop:authority", "{told}");
                        assert_eq!(problem["retry"], "soon", "{told}");
                        assert_ahead(&pass.certificate("shop")["nextAttempt"], MINUTE);
                        let pass = site.pass_with(later(2 * MINUTE)).await;
                        assert_eq!(
                            pass.outcome("shop"),
                            "issued",
                            "{context}: {:#}",
                            pass.report()
                        );
                    }
                    _ => panic!("{told}"),
                }
                evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
                // Only an order whose URL never arrived is placed again.
                assert_eq!(evidence::orders(&cloud, &site), 1, "{context}");
                let made = evidence::asked(&cloud, &site, NEW_ORDER);
                let refused = made.iter().filter(|one| one.status == Some(400)).count();
                let again = usize::from(path == NEW_ORDER);
                assert_eq!(made.len() - refused, 1 + again, "{context}: {made:?}");
                let downloads = evidence::asked(&cloud, &site, CERTIFICATE).into_iter();
                let mut downloads: Vec<String> = downloads.map(|one| one.target).collect();
                downloads.sort();
                downloads.dedup();
                assert_eq!(downloads.len(), 1, "{context}: {downloads:?}");
            });
            if runs.len() >= 6
                && let Some(done) = runs.join_next().await
            {
                done.unwrap();
            }
        }
    }
    runs.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_authority_is_asked_again_when_it_says_so() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let busy = error_page(503).with("Retry-After", "3600");
    cloud.to_acme().inject(Fault::on(NEW_ORDER).answer(busy));

    let pass = site.pass().await;
    assert_problem(&pass, "shop", "certloop:authority", &["503"]);
    let told = pass.certificate("shop");
    assert_eq!(told["problem"]["retry"], "at", "{told:#}");
    assert_ahead(&told["nextAttempt"], HOUR);

    // Neither the ladder nor a forced pass overrides it.
    let forced = json!({"action": "reconcile", "force": true});
    let early = site.invoke_with(&forced, later(30 * MINUTE)).await;
    assert_eq!(early.outcome("shop"), "waiting", "{:#}", early.report());
    assert_eq!(orders_asked(&early), 0);

    let pass = site.pass_with(later(62 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_on_new_orders_holds_every_certificate() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("first", &["first.example.com"]).await;
    site.want("kept", &["kept.example.com"]).await;
    let only = |name: &str| json!({"action": "reconcile", "certificates": [name]});
    let pass = site.invoke(&only("kept")).await;
    assert_eq!(pass.outcome("kept"), "issued", "{:#}", pass.report());
    let limited = rate_limited("too many new orders").with("Retry-After", "3600");
    cloud.to_acme().inject(Fault::on(NEW_ORDER).answer(limited));

    let pass = site.invoke(&only("first")).await;
    let urn = "urn:ietf:params:acme:error:rateLimited";
    assert_problem(&pass, "first", urn, &["too many new orders"]);
    assert_eq!(pass.certificate("first")["problem"]["retry"], "at");
    assert_ahead(&pass.certificate("first")["nextAttempt"], HOUR);

    site.want("second", &["second.example.com"]).await;
    let forced = json!({"action": "reconcile", "force": true});
    for (event, clock) in [
        (json!({"action": "reconcile"}), Duration::ZERO),
        (forced, 30 * MINUTE),
    ] {
        let pass = site.invoke_with(&event, later(clock)).await;
        for name in ["first", "second"] {
            let told = pass.certificate(name);
            assert_eq!(told["outcome"], "waiting", "{:#}", pass.report());
            assert_eq!(told["problem"]["type"], urn, "{told:#}");
            assert_ahead(&told["nextAttempt"], HOUR);
        }
        assert_eq!(orders_asked(&pass), 0, "{:#}", pass.report());
    }
    assert!(site.browser_trusts("kept.example.com").await.is_ok());

    let pass = site.pass_with(later(62 * MINUTE)).await;
    for name in ["first", "second"] {
        assert_eq!(pass.outcome(name), "issued", "{:#}", pass.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_name_needs_a_person() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let link = "https://portal.example/unpause?jwt=abc";
    let paused = rate_limited(&format!("shop.example.com is paused; visit {link}"));
    cloud.to_acme().inject(Fault::on(NEW_ORDER).answer(paused));

    let pass = site.pass().await;
    let urn = "urn:ietf:params:acme:error:rateLimited";
    assert_problem(&pass, "shop", urn, &[link]);
    assert_eq!(pass.certificate("shop")["problem"]["retry"], "person");
    assert_eq!(pass.metrics()[0]["NeedsPerson"], 1);

    let forced = json!({"action": "reconcile", "force": true});
    let early = site.invoke_with(&forced, later(2 * HOUR)).await;
    assert_eq!(early.outcome("shop"), "waiting", "{:#}", early.report());
    assert_eq!(orders_asked(&early), 0);
    // Other certificates may be ordered.
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass_with(later(2 * HOUR)).await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());
    assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());

    let pass = site.pass_with(later(25 * HOUR)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_loses_every_other_nonce_is_asked_again() {
    let options = PebbleOptions {
        nonces_rejected: Some(50),
        ..PebbleOptions::default()
    };
    let cloud = LocalCloud::start_with(options).await;
    let site = cloud.install("shop").await;
    for name in ["a", "b", "c", "d"] {
        site.want(name, &[&format!("{name}.example.com")]).await;
    }

    let pass = site.pass().await;

    assert_eq!(pass.report()["summary"]["issued"], 4, "{:#}", pass.report());
    assert_eq!(evidence::orders(&cloud, &site), 4);
    assert_eq!(evidence::issued(&cloud, &site), 4);
    assert_eq!(evidence::accounts(&cloud, &site), 1);
    let refused = pass.count(|sent| sent.service == Service::Acme && sent.status == Some(400));
    assert!(refused > 10, "only {refused} nonces were rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_or_a_redirect_in_place_of_the_certificate_costs_no_second_order() {
    let cloud = LocalCloud::start().await;
    for (name, answer) in [
        ("page", Response::new(200, "<html>one moment</html>")),
        (
            "moved",
            Response::new(302, "").with("Location", "/elsewhere"),
        ),
    ] {
        let site = cloud.install(name).await;
        site.want("shop", &[&format!("{name}.example.com")]).await;
        cloud
            .to_acme()
            .inject(Fault::on(CERTIFICATE).answer(answer));

        let pass = site.pass().await;
        assert_eq!(
            pass.outcome("shop"),
            "failed",
            "{name}: {:#}",
            pass.report()
        );
        let detail = pass.certificate("shop")["problem"]["detail"].to_string();
        assert!(detail.contains(CERTIFICATE), "{name}: {detail}");

        let next = site.pass_with(later(2 * MINUTE)).await;
        assert_eq!(
            next.outcome("shop"),
            "issued",
            "{name}: {:#}",
            next.report()
        );
        assert_eq!(evidence::orders(&cloud, &site), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_not_ready_is_looked_at_again() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let not_ready = Fault::on(FINALIZE).problem(403, "orderNotReady", "wait a moment");
    cloud.to_acme().inject(not_ready);

    let pass = site.pass().await;
    if pass.outcome("shop") != "issued" {
        let urn = "urn:ietf:params:acme:error:orderNotReady";
        assert_problem(&pass, "shop", urn, &["wait a moment"]);
        let pass = site.pass_with(later(2 * MINUTE)).await;
        assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    }
    assert_eq!(evidence::orders(&cloud, &site), 1);
    evidence::assert_at_rest(&cloud, &site, "shop", "shop.example.com", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_is_valid_already_is_not_challenged() {
    let options = PebbleOptions {
        reuse: Some(100),
        ..PebbleOptions::default()
    };
    let cloud = LocalCloud::start_with(options).await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(evidence::granted(&cloud, &site, CHALLENGE), 1);

    // First one of two names is already valid, then both are.
    let names = ["shop.example.com", "www.example.com"];
    // Another key type: both certificates find a place on the listener.
    let mut document = site.document(&names);
    document["keyType"] = "rsa-2048".into();
    site.put_document("both", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("both"), "issued", "{:#}", pass.report());
    assert_eq!(evidence::granted(&cloud, &site, CHALLENGE), 2);
    let puts = |pass: &Invocation| pass.count(|one| one.call.starts_with("PutObject challenges/"));
    assert_eq!(puts(&pass), 1);
    let mut document = site.document(&names);
    document["keyType"] = "rsa-2048".into();
    // Kept in the vault only: its place on the listener is taken.
    document["targets"] = Value::Array(Vec::new());
    site.put_document("pair", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("pair"), "issued", "{:#}", pass.report());
    assert_eq!(evidence::granted(&cloud, &site, CHALLENGE), 2);
    assert_eq!(puts(&pass), 0);
}

/// Changes the challenges an authorization offers.
fn offering(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Fault {
    Fault::on(AUTHORIZATION).always().edit(move |response| {
        if let Ok(mut body) = serde_json::from_slice::<Value>(&response.body)
            && let Some(challenges) = body["challenges"].as_array_mut()
        {
            change(challenges);
            response.body = body.to_string().into_bytes();
            response
                .headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_of_unknown_types_are_left_alone() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    cloud.to_acme().inject(offering(|challenges| {
        let url = challenges[0]["url"].clone();
        challenges.insert(
            0,
            json!({"type": "dns-persist-01", "status": "pending", "url": url,
                   "issuer-domain-names": ["ca.example"]}),
        );
    }));

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(evidence::granted(&cloud, &site, CHALLENGE), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_without_http_01_is_told_as_such() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    cloud.to_acme().inject(offering(|challenges| {
        challenges.retain(|challenge| challenge["type"] != "http-01");
    }));

    let pass = site.pass().await;

    let words = ["http-01", "shop.example.com"];
    assert_problem(&pass, "shop", "certloop:noChallenge", &words);
    assert_eq!(pass.certificate("shop")["problem"]["retry"], "person");
    assert_eq!(evidence::asked(&cloud, &site, CHALLENGE).len(), 0);
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_in_processing_is_looked_at_as_often_as_the_authority_wants() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let processing = |response: &mut Response| {
        let mut body = serde_json::from_slice::<Value>(&response.body).unwrap();
        if body["finalize"].is_string() {
            body["status"] = "processing".into();
            if let Some(order) = body.as_object_mut() {
                order.remove("certificate");
            }
            response.body = body.to_string().into_bytes();
            response.headers.retain(|(name, _)| {
                !["content-length", "retry-after"].contains(&name.to_lowercase().as_str())
            });
            response.headers.push(("Retry-After".into(), "2".into()));
        }
    };
    let wire = cloud.to_acme();
    wire.inject(Fault::on(FINALIZE).always().edit(processing));

    let first = async {
        evidence::until("finalize", || {
            evidence::granted(&cloud, &site, FINALIZE) > 0
        })
        .await;
        wire.inject(Fault::on(ORDER).edit(processing));
    };
    let (pass, ()) = tokio::join!(site.pass(), first);

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let looks: Vec<&Sent> = pass
        .requests
        .iter()
        .filter(|one| one.status == Some(200) && (one.is_acme(FINALIZE) || one.is_acme(ORDER)))
        .skip_while(|one| !one.is_acme(FINALIZE))
        .collect();
    assert_eq!(looks.len(), 3, "{looks:#?}");
    for pair in looks.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= Duration::from_millis(1900), "looked after {gap:?}");
        assert!(gap < Duration::from_millis(3500), "looked after {gap:?}");
    }
}

/// Stores a secret in the stand-in's Secrets Manager and returns its ARN.
pub(crate) async fn put_secret(cloud: &LocalCloud, name: &str, value: &str) -> String {
    let address = cloud.aws().address();
    let mut request = tests::http::Request::get(&address.to_string(), "/");
    request.method = "POST".into();
    let authorization = "AWS4-HMAC-SHA256 \
        Credential=local/20260101/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, \
        Signature=0";
    for (name, value) in [
        ("authorization", authorization),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "secretsmanager.CreateSecret"),
    ] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let token = "0123456789abcdef0123456789abcdef";
    let body = json!({"Name": name, "SecretString": value, "ClientRequestToken": token});
    request.body = body.to_string().into_bytes();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let response = tests::http::exchange(stream, request).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let created: Value = serde_json::from_slice(&response.body).unwrap();
    created["ARN"].as_str().unwrap().to_owned()
}

/// The HMAC key of the external account. Authorities issue one to each customer.
pub(crate) const EXTERNAL_KEY: &str =
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_bound_to_an_external_one() {
    let options = PebbleOptions {
        external_account: Some(("kid-1".into(), EXTERNAL_KEY.into())),
        ..PebbleOptions::default()
    };
    let cloud = LocalCloud::start_with(options).await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let right = put_secret(&cloud, "right", EXTERNAL_KEY).await;
    let wrong = put_secret(&cloud, "wrong", &EXTERNAL_KEY.replace("zWND", "AAAA")).await;
    let broken = put_secret(&cloud, "broken", "not base64!").await;
    let missing = right.replace("right", "missing");
    let bind = async |secret: &str| {
        let mut settings = site.settings();
        settings["authorities"]["pebble"]["externalAccount"] =
            json!({"keyId": "kid-1", "secretArn": secret});
        site.put_settings(&settings).await;
    };

    // A person tries again after each repair.
    let forced = json!({"action": "reconcile", "force": true});
    let pass = site.pass().await;
    let required = "urn:ietf:params:acme:error:externalAccountRequired";
    assert_problem(&pass, "shop", required, &[]);
    assert_eq!(pass.certificate("shop")["problem"]["retry"], "person");
    // The key of that attempt is bound as soon as the settings name the external account.
    for (secret, kind, words) in [
        (
            &missing,
            "certloop:externalAccount",
            vec!["GetSecretValue", "ResourceNotFound"],
        ),
        (&broken, "certloop:externalAccount", vec!["base64url"]),
        (&wrong, "", vec![]),
    ] {
        bind(secret).await;
        let pass = site.invoke(&forced).await;
        let told = pass.certificate("shop");
        assert_eq!(told["outcome"], "failed", "{told:#}");
        if !kind.is_empty() {
            assert_problem(&pass, "shop", kind, &words);
        }
        let text = pass.report().to_string();
        assert!(!text.contains("not base64!"), "{text}");
        assert!(!text.contains("MUAsUDkMTQ12W"), "{text}");
        assert_eq!(evidence::accounts(&cloud, &site), 0);
    }

    bind(&right).await;
    let pass = site.invoke(&forced).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(site.keys("accounts/").await.len(), 1);
    let next = site.pass().await;
    assert_eq!(next.outcome("shop"), "kept", "{:#}", next.report());
    assert_eq!(evidence::accounts(&cloud, &site), 1);
}
