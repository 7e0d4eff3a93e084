//! Renewals in adverse conditions: authorities that refuse, stall or fail, throttling by AWS, and
//! events that arrive twice.

#![allow(
    clippy::print_stdout,
    reason = "how many deaths there were is worth seeing"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::proxy::FaultBuilder;
use tests::{
    Broken, Fault, Installation, Invocation, LocalCloud, Moment, PebbleOptions, Response, Sent,
    Service, Stall,
};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::evidence::{
    self, CHALLENGE, DAY, FINALIZE, MINUTE, NEW_ACCOUNT, NEW_ORDER, instant, later,
};
use crate::interruption::{Death, Visitor};
use crate::renewal_information::{
    ASKED_AGAIN, HOUR, RENEWAL_INFO, Run, assert_ahead, assert_serves, in_parallel, issued,
    replaceable, steady, suggest_early, to,
};

const DIRECTORY: &str = "/dir";
const NONCE: &str = "/nonce-plz";
const AUTHORIZATION: &str = "/authZ/";
const ORDER: &str = "/my-order/";
const CERTIFICATE: &str = "/certZ/";
/// The requests of a renewal to the authority, in order.
const REQUESTS: [&str; 9] = [
    DIRECTORY,
    RENEWAL_INFO,
    NONCE,
    NEW_ORDER,
    AUTHORIZATION,
    CHALLENGE,
    ORDER,
    FINALIZE,
    CERTIFICATE,
];
const URN: &str = "urn:ietf:params:acme:error:";
const LINK: &str = "https://portal.example/unpause?jwt=abc";

fn problem(status: u16, urn: &str, detail: &str) -> Response {
    let body = json!({"type": format!("{URN}{urn}"), "detail": detail, "status": status});
    Response::new(status, body.to_string()).with("Content-Type", "application/problem+json")
}

/// Returns an instant this far ahead of now, as RFC 9110 section 5.6.7 writes it.
fn date(ahead: Duration) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = OffsetDateTime::now_utc() + ahead;
    at.format(format).unwrap()
}

/// One way in which a request fails, and what certloop should make of it.
struct Refused {
    what: &'static str,
    act: Box<dyn Fn(FaultBuilder) -> Fault + Send + Sync>,
    /// The class, and how long no attempt is made.
    class: (&'static str, Duration),
}

impl Refused {
    fn new(
        what: &'static str,
        class: (&'static str, Duration),
        act: impl Fn(FaultBuilder) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self {
            what,
            act: Box::new(act),
            class,
        }
    }
}

const SOON: (&str, Duration) = ("soon", MINUTE);

/// Answers of the authority, or of something in front of it.
fn answers() -> Vec<Refused> {
    vec![
        Refused::new("429 with Retry-After", ("at", HOUR), |fault| {
            fault.answer(problem(429, "rateLimited", "slow").with("Retry-After", "3600"))
        }),
        Refused::new("429 with a date", ("at", HOUR), |fault| {
            // By the authority's clock, which its answer shows.
            fault.answer_by(|_| {
                problem(429, "rateLimited", "slow")
                    .with("Date", date(Duration::ZERO))
                    .with("Retry-After", date(HOUR))
            })
        }),
        Refused::new("429 without Retry-After", SOON, |fault| {
            fault.answer(problem(429, "rateLimited", "slow"))
        }),
        Refused::new("503 with Retry-After", ("at", 30 * MINUTE), |fault| {
            fault.answer(Response::new(503, "busy").with("Retry-After", "1800"))
        }),
        Refused::new("500 with a problem", SOON, |fault| {
            fault.answer(problem(500, "serverInternal", "oops"))
        }),
        Refused::new("502 of something before it", SOON, |fault| {
            fault.swallow(Response::new(502, "<html>bad</html>").with("Content-Type", "text/html"))
        }),
        Refused::new("500 without a word", SOON, |fault| {
            fault.answer(Response::new(500, ""))
        }),
        Refused::new("reset", SOON, |fault| fault.hang_up()),
    ]
}

/// Answers that stop halfway. A pass waits at most 20 s for them.
fn stalls() -> Vec<Refused> {
    [
        ("stalled before its head", Stall::BeforeHead),
        ("stalled in its head", Stall::InHead),
        ("stalled in its body", Stall::InBody),
        ("dripping without an end", Stall::Drip),
        ("flooding without an end", Stall::Flood),
        ("cut off in its body", Stall::CutInBody),
    ]
    .map(|(what, stall)| Refused::new(what, SOON, move |fault| fault.stall(stall)))
    .into()
}

/// Completes a renewal by renewal information in spite of the injected fault. The certificate is
/// always served, and a failure has the class, waits as long as it should and is not tried earlier.
/// Returns the outcomes.
async fn survives(
    cloud: &LocalCloud,
    (site, domain): (&Installation, &str),
    class: (&str, Duration),
    context: &str,
) -> Vec<String> {
    let mut clock = ASKED_AGAIN;
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("{context} after {outcomes:?}: {:#}", pass.report());
        let outcome = pass.outcome("shop").to_owned();
        outcomes.push(outcome.clone());
        let served = site.browser_trusts(domain).await;
        assert!(served.is_ok(), "{served:?}: {told}");
        match outcome.as_str() {
            "renewed" => {
                assert_serves(site, domain, &pass).await;
                evidence::assert_at_rest(cloud, site, "shop", domain, 2).await;
                assert_eq!(evidence::accounts(cloud, site), 1, "{told}");
                let next = site.pass_with(later(clock)).await;
                assert_eq!(
                    next.outcome("shop"),
                    "kept",
                    "{context}: {:#}",
                    next.report()
                );
                return outcomes;
            }
            // The question failed, and by its lifetime the certificate is not due.
            "kept" => clock += ASKED_AGAIN,
            "waiting" => {
                let next = instant(&pass.certificate("shop")["nextAttempt"]);
                let wait = next - OffsetDateTime::now_utc() - clock;
                clock += Duration::try_from(wait).unwrap_or_default() + Duration::from_secs(5);
            }
            "failed" => {
                let certificate = pass.certificate("shop");
                assert_eq!(certificate["problem"]["retry"], class.0, "{told}");
                assert_ahead(&certificate["nextAttempt"], clock, class.1, &told);
                let early = site.pass_with(later(clock + class.1 / 2)).await;
                let orders = early.count(|sent| sent.is_acme("/"));
                assert_eq!(
                    early.outcome("shop"),
                    "waiting",
                    "{told}: {:#}",
                    early.report()
                );
                assert_eq!(orders, 0, "{told}: {:#?}", early.requests);
                clock += class.1 + Duration::from_secs(20);
            }
            _ => panic!("{told}"),
        }
    }
    panic!("{context}: never renewed: {outcomes:?}");
}

/// Runs a renewal for each pair of a request and a way in which it fails once.
async fn each_goes_wrong_once(
    label: &'static str,
    at_once: usize,
    pairs: Vec<(&'static str, Refused)>,
) {
    let cloud = Arc::new(steady().await);
    let struck = Arc::new(AtomicUsize::new(0));
    // A run that waits needs no processor; a run that issues does.
    let issuing = Arc::new(Semaphore::new(6));
    let all = pairs.len();
    let runs = pairs
        .into_iter()
        .enumerate()
        .map(|(number, (path, refused))| {
            let (cloud, struck) = (cloud.clone(), struck.clone());
            let issuing = issuing.clone();
            Box::pin(async move {
                let turn = issuing.acquire_owned().await.unwrap();
                let (site, domain, leaf) = issued(&cloud, &format!("{label}-{number}")).await;
                drop(turn);
                suggest_early(&cloud, &leaf).await;
                let seen = Arc::new(AtomicUsize::new(0));
                let matches = to(&site, path);
                let counted = seen.clone();
                let fault = Fault::when(move |sent| {
                    let hit = matches(sent);
                    counted.fetch_add(hit.into(), Ordering::SeqCst);
                    hit
                });
                cloud.to_acme().inject((refused.act)(fault));
                let context = format!("{} at {path}", refused.what);
                survives(&cloud, (&site, &domain), refused.class, &context).await;
                let orders = evidence::asked(&cloud, &site, NEW_ORDER).len();
                let again = usize::from(path == NEW_ORDER);
                assert!(orders <= 2 + again, "{context}: {orders} orders");
                // If its answer is lost, a certificate counts as refused.
                let issued = evidence::issued(&cloud, &site);
                assert!(issued <= 2, "{context}: {issued} certificates");
                struck.fetch_add(seen.load(Ordering::SeqCst), Ordering::SeqCst);
                cloud.lambda().forget(&site.renew);
                cloud.lambda().forget(&site.challenge);
            }) as Run
        });
    in_parallel(at_once, runs).await;
    // Pebble reuses one authorization of a hundred even when it should not. Then the request is not
    // made, and the fault does not strike.
    let struck = struck.load(Ordering::SeqCst);
    assert!(
        (all - 3..=all).contains(&struck),
        "{struck} of {all} struck"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_any_request_of_a_renewal_delays_it_and_no_more() {
    let mut pairs: Vec<(&str, Refused)> = Vec::new();
    pairs.extend(REQUESTS.iter().flat_map(|path| {
        let all = answers().into_iter();
        // Each request is refused in every way; the variants in wording only where they matter
        // most.
        let all = all.filter(move |refused| {
            *path == NEW_ORDER
                || ![
                    "429 with a date",
                    "429 without Retry-After",
                    "500 without a word",
                ]
                .contains(&refused.what)
        });
        all.map(move |refused| (*path, refused))
    }));
    // The order is read again, and finalized again.
    let not_ready = Refused::new("orderNotReady", SOON, |fault| {
        fault.answer(problem(403, "orderNotReady", "wait a moment"))
    });
    pairs.push((FINALIZE, not_ready));
    each_goes_wrong_once("refusal", 6, pairs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_at_any_point_of_a_renewal_delays_it_and_no_more() {
    let pairs = REQUESTS.iter().flat_map(|path| {
        let all = stalls().into_iter();
        // The slow ones run with all the others, and wait.
        let all = all.filter(move |refused| {
            let long = ["dripping without an end", "stalled in its head"].contains(&refused.what);
            !long || [NEW_ORDER, FINALIZE, CERTIFICATE, RENEWAL_INFO].contains(path)
        });
        all.map(move |refused| (*path, refused))
    });
    each_goes_wrong_once("stall", 24, pairs.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_comes_about_delays_a_renewal_and_no_more() {
    let cloud = Arc::new(steady().await);
    let ways = [
        Some(Broken::Closed),
        Some(Broken::Silent),
        Some(Broken::Garbage),
        None,
    ];
    let runs = ways.into_iter().enumerate().map(|(number, broken)| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, leaf) = issued(&cloud, &format!("broken-{number}")).await;
            suggest_early(&cloud, &leaf).await;
            let before = site.keys("accounts/").await;
            let mut settings = site.settings();
            match broken {
                Some(how) => cloud.to_acme().break_connections(&site.renew, how),
                // No name leads to the authority any more.
                None => {
                    let authority = &mut settings["authorities"]["pebble"];
                    authority["directory"] = "https://ca.nowhere.invalid/dir".into();
                }
            }
            site.put_settings(&settings).await;
            let context = format!("{broken:?}");
            // Due by its lifetime, although renewal information is unknown.
            let mut steps = vec![(0, "failed"), (0, "waiting"), (2, "failed"), (14, "failed")];
            if broken == Some(Broken::Silent) {
                // Each pass waits as long as it may.
                steps.truncate(2);
            }
            for (waited, outcome) in steps {
                let clock = 62 * DAY + waited * MINUTE;
                let pass = site.pass_with(later(clock)).await;
                let told = format!("{context}, {waited}: {:#}", pass.report());
                assert_eq!(pass.outcome("shop"), outcome, "{told}");
                let problem = &pass.certificate("shop")["problem"];
                assert_eq!(problem["retry"], "soon", "{told}");
                assert_eq!(problem["type"], "certloop:authority", "{told}");
                if waited == 0 {
                    assert_ahead(
                        &pass.certificate("shop")["nextAttempt"],
                        clock,
                        MINUTE,
                        &told,
                    );
                }
                assert_eq!(pass.count(|sent| sent.is_acme(NEW_ACCOUNT)), 0, "{told}");
                let served = site.browser_trusts(&domain).await.unwrap();
                assert_eq!(served.serial, leaf.serial, "{told}");
            }
            cloud.to_acme().mend_connections(&site.renew);
            site.put_settings(&site.settings()).await;
            let pass = site.pass_with(later(62 * DAY + 120 * MINUTE)).await;
            assert_eq!(
                pass.outcome("shop"),
                "renewed",
                "{context}: {:#}",
                pass.report()
            );
            assert_serves(&site, &domain, &pass).await;
            assert_eq!(evidence::accounts(&cloud, &site), 1, "{context}");
            if broken.is_none() {
                // The key for the directory that was never found.
                let mut accounts = site.keys("accounts/").await;
                assert_eq!(accounts.len(), 2, "{accounts:?}");
                accounts.retain(|one| !before.contains(one));
                site.delete(&accounts[0]).await;
            }
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        }) as Run
    });
    in_parallel(4, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_account_needs_a_person_and_never_makes_another() {
    let cloud = Arc::new(steady().await);
    let troubles = [
        (
            400,
            "accountDoesNotExist",
            "Account \"17\" not found",
            "person",
        ),
        (
            403,
            "unauthorized",
            "Account is not valid, has status \"deactivated\"",
            "person",
        ),
        (
            403,
            "externalAccountRequired",
            "bind it to an external account",
            "person",
        ),
        (
            403,
            "userActionRequired",
            "agree to the terms of service",
            "person",
        ),
        (400, "badPublicKey", "the key was compromised", "person"),
    ];
    let runs = troubles
        .into_iter()
        .enumerate()
        .map(|(number, (status, urn, detail, class))| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let (site, domain, leaf) = issued(&cloud, &format!("account-{number}")).await;
                suggest_early(&cloud, &leaf).await;
                let accounts = site.keys("accounts/").await;
                let account = site.read(&accounts[0]).await;
                let function = site.renew.clone();
                let signed = Fault::when(move |sent: &Sent| {
                    let path = sent.target.as_str();
                    sent.service == Service::Acme
                        && sent.function.as_deref() == Some(&function)
                        && ![DIRECTORY, NONCE].contains(&path)
                        && !path.starts_with(RENEWAL_INFO)
                });
                cloud
                    .to_acme()
                    .inject(signed.always().problem(status, urn, detail));

                let pass = site.pass_with(later(ASKED_AGAIN)).await;
                let told = format!("{urn}: {:#}", pass.report());
                assert_eq!(pass.outcome("shop"), "failed", "{told}");
                let problem = &pass.certificate("shop")["problem"];
                // The authority's word says nothing about the account.
                let kind = match urn {
                    "unauthorized" => "certloop:accountRefused".to_owned(),
                    urn => format!("{URN}{urn}"),
                };
                assert_eq!(problem["type"], kind, "{told}");
                assert!(
                    problem["detail"].as_str().unwrap().contains(detail),
                    "{told}"
                );
                assert_eq!(problem["retry"], class, "{told}");
                assert_eq!(pass.metrics()[0]["NeedsPerson"], 1, "{told}");
                let again = site.pass_with(later(ASKED_AGAIN)).await;
                assert_eq!(
                    again.outcome("shop"),
                    "waiting",
                    "{urn}: {:#}",
                    again.report()
                );
                let forced = json!({"action": "reconcile", "force": true});
                let forced = site
                    .invoke_with(&forced, later(ASKED_AGAIN + 30 * HOUR))
                    .await;
                assert_eq!(
                    forced.outcome("shop"),
                    "failed",
                    "{urn}: {:#}",
                    forced.report()
                );
                let served = site.browser_trusts(&domain).await.unwrap();
                assert_eq!(served.serial, leaf.serial, "{urn}");

                assert_eq!(
                    evidence::asked(&cloud, &site, NEW_ACCOUNT).len(),
                    1,
                    "{urn}"
                );
                assert_eq!(site.keys("accounts/").await, accounts, "{urn}");
                assert_eq!(site.read(&accounts[0]).await, account, "{urn}");
            }) as Run
        });
    in_parallel(5, runs).await;
    // Now the person has acted.
    cloud.to_acme().heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_name_is_told_with_its_link_and_holds_no_other() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());
    let blog = site.browser_trusts("blog.example.com").await.unwrap();
    suggest_early(&cloud, &leaf).await;
    suggest_early(&cloud, &blog).await;
    let orders = to(&site, NEW_ORDER);
    let paused = Fault::when(move |sent| {
        orders(sent) && sent.payload["identifiers"][0]["value"] == "shop.example.com"
    });
    let detail = format!("Your account is paused from requesting shop.example.com; visit {LINK}");
    let paused = paused.always().answer(problem(429, "rateLimited", &detail));
    cloud.to_acme().inject(paused);

    let pass = site.pass_with(later(ASKED_AGAIN)).await;

    assert_eq!(pass.outcome("blog"), "renewed", "{:#}", pass.report());
    let told = pass.certificate("shop");
    assert_eq!(told["outcome"], "failed", "{told:#}");
    assert_eq!(told["problem"]["retry"], "person", "{told:#}");
    assert!(told["problem"]["detail"].as_str().unwrap().contains(LINK));
    for minutes in [1, 10, 20, 40, 60, 90] {
        let pass = site.pass_with(later(ASKED_AGAIN + minutes * MINUTE)).await;
        assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());
        assert_eq!(pass.outcome("blog"), "kept", "{:#}", pass.report());
        assert_eq!(pass.count(|sent| sent.is_acme(NEW_ORDER)), 0);
    }
    let status = site.invoke(&json!({"action": "status"})).await;
    assert!(status.certificate("shop").to_string().contains(LINK));
    let served = site.browser_trusts(&domain).await.unwrap();
    assert_eq!(served.serial, leaf.serial);

    cloud.to_acme().heal();
    let pass = site.pass_with(later(ASKED_AGAIN + 25 * HOUR)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    for name in ["shop", "blog"] {
        let served = site.browser_trusts(&format!("{name}.example.com")).await;
        let state = site.read_json(&format!("state/{name}.json")).await;
        assert_eq!(served.unwrap().serial, state["certificate"]["serial"]);
    }
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_has_to_be_asked_again_is_renewed_in_the_same_pass() {
    let cloud = Arc::new(steady().await);
    let mut all: Vec<(&str, FaultOn)> = Vec::new();
    type FaultOn = Box<dyn Fn(FaultBuilder) -> Fault + Send + Sync>;
    for path in [NEW_ORDER, AUTHORIZATION, CHALLENGE, FINALIZE, CERTIFICATE] {
        // Answers that bring no new nonce: once, and more often than the library retries by itself.
        for times in [1, 4] {
            all.push((
                path,
                Box::new(move |fault| {
                    let words = "JWS has an invalid anti-replay nonce";
                    fault.times(times).problem(400, "badNonce", words)
                }),
            ));
        }
    }
    let runs = all.into_iter().enumerate().map(|(number, (path, fault))| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, leaf) = issued(&cloud, &format!("again-{number}")).await;
            suggest_early(&cloud, &leaf).await;
            cloud.to_acme().inject(fault(Fault::when(to(&site, path))));
            let pass = site.pass_with(later(ASKED_AGAIN)).await;
            let told = format!("{number} at {path}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "renewed", "{told}");
            assert_serves(&site, &domain, &pass).await;
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        }) as Run
    });
    in_parallel(5, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_all_nonces_refused_is_no_reason_for_a_second_pass() {
    let options = PebbleOptions {
        nonces_rejected: Some(50),
        reuse: Some(0),
        ..PebbleOptions::default()
    };
    let cloud = LocalCloud::start_with(options).await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let names: Vec<String> = (0..25)
        .map(|number| format!("n{number}.example.com"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    site.want("many", &names).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("many"), "issued", "{:#}", pass.report());
    let many = site.browser_trusts("n17.example.com").await.unwrap();
    assert_eq!(many.names.len(), 25);
    let refused = pass.count(|sent| sent.service == Service::Acme && sent.status == Some(400));
    assert!(refused > 25, "only {refused} nonces were refused");

    suggest_early(&cloud, &leaf).await;
    suggest_early(&cloud, &many).await;
    let pass = site.pass_with(later(ASKED_AGAIN)).await;

    for name in ["shop", "many"] {
        assert_eq!(pass.outcome(name), "renewed", "{:#}", pass.report());
    }
    let served = site.browser_trusts("n17.example.com").await.unwrap();
    assert_eq!(served.serial, pass.certificate("many")["serial"]);
    assert_eq!(evidence::orders(&cloud, &site), 4);
    assert_eq!(evidence::accounts(&cloud, &site), 1);
    assert!(site.browser_trusts(&domain).await.is_ok());
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_by_renewal_information_survives_death_at_every_request() {
    let cloud = Arc::new(steady().await);
    let undisturbed = {
        let (site, _, leaf) = issued(&cloud, "undisturbed").await;
        suggest_early(&cloud, &leaf).await;
        let pass = site.pass_with(later(ASKED_AGAIN)).await;
        assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
        pass.requests.len()
    };
    assert!(
        undisturbed > 30,
        "only {undisturbed}: is every request counted?"
    );
    let deaths = Arc::new(AtomicUsize::new(0));
    let moments = (1..=undisturbed).flat_map(|request| {
        [Moment::Before, Moment::After].map(|moment| Death { request, moment })
    });
    let runs = moments.map(|death| {
        let (cloud, deaths) = (cloud.clone(), deaths.clone());
        Box::pin(async move {
            let label = death.label("renewal");
            let (site, domain, leaf) = issued(&cloud, &label).await;
            suggest_early(&cloud, &leaf).await;

            let killed = death.of_a_later_pass(&site, ASKED_AGAIN).await;
            deaths.fetch_add(killed.died.into(), Ordering::SeqCst);
            let context = &killed.context;
            let mut told = Vec::new();
            loop {
                let served = site.browser_trusts(&domain).await;
                assert!(served.is_ok(), "{context}: {served:?}");
                // By now the lease of the dead invocation has ended.
                let pass = site.pass_with(later(ASKED_AGAIN + 16 * MINUTE)).await;
                let outcome = pass.outcome("shop").to_owned();
                told.push(format!("{:#}", pass.report()));
                assert!(
                    !["failed", "waiting"].contains(&&*outcome),
                    "{context}: {told:#?}"
                );
                if evidence::writes(&pass).is_empty() {
                    assert_eq!(outcome, "kept", "{context}: {told:#?}");
                    break;
                }
                assert!(
                    told.len() < 5,
                    "{context}: no pass is the last one: {told:#?}"
                );
            }

            let served = site.browser_trusts(&domain).await.unwrap();
            assert_ne!(served.serial, leaf.serial, "{context}: {told:#?}");
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
            assert_eq!(evidence::issued(&cloud, &site), 2, "{context}");
            let orders = evidence::asked(&cloud, &site, NEW_ORDER).len();
            assert!(orders <= 3, "{context}: {orders} orders");
            assert_eq!(evidence::accounts(&cloud, &site), 1, "{context}");
            killed.ended_at_all(&cloud, &site);
        }) as Run
    });
    in_parallel(10, runs).await;
    let deaths = deaths.load(Ordering::SeqCst);
    println!("{deaths} deaths");
    assert!(
        deaths > 2 * undisturbed - 8,
        "only {deaths} deaths of {undisturbed} requests"
    );
}

/// Returns a service's request for fewer calls, in the format of that service.
fn throttled(sent: &Sent) -> Response {
    let message = "Rate exceeded";
    if sent.call.contains("Object") {
        let body = "<Error><Code>SlowDown</Code><Message>Please reduce your \
                    request rate.</Message></Error>";
        return Response::new(503, body).with("Content-Type", "application/xml");
    }
    if ["Listener", "LoadBalancer", "Rule", "TargetGroup"]
        .iter()
        .any(|part| sent.call.contains(part))
    {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>\
             {message}</Message></Error></ErrorResponse>"
        );
        return Response::new(400, body).with("Content-Type", "text/xml");
    }
    let body = json!({"__type": "ThrottlingException", "message": message});
    Response::new(400, body.to_string()).with("Content-Type", "application/x-amz-json-1.1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_of_all_calls_to_aws_throttled_costs_a_few_passes_at_most() {
    let cloud = Arc::new(steady().await);
    let runs = (0..4_u64).map(|seed| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let label = format!("seed-{seed}");
            let domain = format!("{label}.example.com");
            let site = Arc::new(cloud.install(&label).await);
            site.want("shop", &[&domain]).await;
            let function = site.renew.clone();
            let fault = Fault::when(move |sent| {
                sent.service == Service::Aws && sent.function.as_deref() == Some(&function)
            });
            cloud.to_aws().inject(
                fault
                    .labelled(&site.renew)
                    .share(0.3, seed)
                    .answer_by(throttled),
            );
            let mut clock = Duration::ZERO;
            let mut passes = Vec::new();
            let first = through(&site, &mut clock, "issued", &mut passes).await;
            assert!(first <= 5, "seed {seed}: {passes:#?}");

            let leaf = site.browser_trusts(&domain).await.unwrap();
            suggest_early(&cloud, &leaf).await;
            let visitor = Visitor::start(site.clone(), &domain);
            clock = clock.max(ASKED_AGAIN);
            let second = through(&site, &mut clock, "renewed", &mut passes).await;
            assert!(second <= 5, "seed {seed}: {passes:#?}");

            cloud.to_aws().heal_labelled(&site.renew);
            // What could not be stored then is stored now.
            clock += 2 * HOUR;
            let pass = site.pass_with(later(clock)).await;
            assert!(pass.result.is_ok());
            visitor.stop().await;
            assert_eq!(
                evidence::issued(&cloud, &site),
                2,
                "seed {seed}: {passes:#?}"
            );
            assert_eq!(
                evidence::orders(&cloud, &site),
                2,
                "seed {seed}: {passes:#?}"
            );
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        }) as Run
    });
    in_parallel(4, runs).await;
}

/// Runs passes, each when the one before asks for it, until the newest certificate is on its
/// targets. Returns the number of passes.
async fn through(
    site: &Installation,
    clock: &mut Duration,
    wanted: &str,
    passes: &mut Vec<String>,
) -> usize {
    let mut made = false;
    for number in 1..10 {
        let pass = site.pass_with(later(*clock)).await;
        *clock += 2 * MINUTE;
        let Ok(report) = &pass.result else {
            passes.push(format!("{:?}", pass.result));
            continue;
        };
        passes.push(format!("{report:#}"));
        let certificate = pass.certificate("shop");
        made |= ["issued", "renewed"].contains(&pass.outcome("shop"));
        let done = pass.outcome("shop") == wanted
            || pass.outcome("shop") == "deployed"
            || (made && pass.outcome("shop") == "kept");
        if done {
            return number;
        }
        if certificate["nextAttempt"].is_string() {
            let now = OffsetDateTime::now_utc() + *clock;
            let wait = instant(&certificate["nextAttempt"]) - now;
            *clock += Duration::try_from(wait).unwrap_or_default() + Duration::from_secs(5);
        }
    }
    panic!("never {wanted}: {passes:#?}");
}

/// Returns the event that the bucket sends when a document is put.
fn object_created(site: &Installation, name: &str) -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../../events/object-created.json")).unwrap();
    event["detail"]["bucket"]["name"] = site.bucket.as_str().into();
    event["detail"]["object"]["key"] = format!("certificates/{name}.json").into();
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_twice_or_at_once_renew_once() {
    let cloud = Arc::new(steady().await);
    let runs = ["schedule", "bucket", "issue", "issue-forced"].map(|kind| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, leaf) = issued(&cloud, kind).await;
            suggest_early(&cloud, &leaf).await;
            let site = Arc::new(site);
            let schedule = json!({"action": "reconcile"});
            let wanted = site.document(&[&domain]);
            let issue = json!({"action": "issue", "name": "shop", "certificate": wanted});
            let put = object_created(&site, "shop");
            let events = match kind {
                "schedule" => vec![schedule.clone(), schedule.clone(), schedule],
                "bucket" => vec![put.clone(), schedule.clone(), put, schedule],
                "issue" => vec![issue.clone(), issue, schedule],
                _ => vec![issue.clone(), issue, put, schedule],
            };
            let visitor = Visitor::start(site.clone(), &domain);
            let mut passes = JoinSet::new();
            for event in events {
                let site = site.clone();
                passes.spawn(async move { site.invoke_with(&event, later(ASKED_AGAIN)).await });
            }
            let passes = passes.join_all().await;
            visitor.stop().await;
            let told: Vec<&Value> = passes.iter().map(Invocation::report).collect();
            let outcomes: Vec<&str> = passes.iter().map(|pass| pass.outcome("shop")).collect();
            let renewed = outcomes.iter().filter(|one| **one == "renewed").count();
            assert_eq!(renewed, 1, "{told:#?}");
            let settled = BTreeSet::from(["renewed", "waiting", "kept"]);
            assert!(
                outcomes.iter().all(|one| settled.contains(one)),
                "{told:#?}"
            );
            assert_eq!(evidence::orders(&cloud, &site), 2, "{told:#?}");
            assert_eq!(evidence::issued(&cloud, &site), 2, "{told:#?}");
            let imports = passes
                .iter()
                .map(|pass| pass.count(|sent| sent.is("ImportCertificate")));
            assert_eq!(imports.sum::<usize>(), 1, "{told:#?}");
            let next = site.pass_with(later(ASKED_AGAIN)).await;
            assert_eq!(next.outcome("shop"), "kept", "{:#}", next.report());
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_revocation_is_worked_off_most_urgent_first() {
    let cloud = steady().await;
    let site = cloud.install("fleet").await;
    let mut settings = site.settings();
    settings["limits"]["concurrency"] = 3.into();
    site.put_settings(&settings).await;
    cloud
        .aws()
        .options(json!({"listenerCertificates": 40}))
        .await;
    // Two have less of their lifetime left. For two others the window does not ask for renewal at
    // once.
    let short = ["m04", "m17"];
    let calm = ["m09", "m23"];
    let names: Vec<String> = (0..30).map(|number| format!("m{number:02}")).collect();
    for name in &names {
        let mut document = site.document(&[&format!("{name}.example.com")]);
        if short.contains(&name.as_str()) || calm.contains(&name.as_str()) {
            document["profile"] = "shortlived".into();
        }
        site.put_document(name, &document).await;
    }
    let mut issued = 0;
    for _ in 0..4 {
        let pass = site.pass().await;
        issued += pass.report()["summary"]["issued"].as_u64().unwrap();
    }
    assert_eq!(issued, 30);
    for name in &names {
        let domain = format!("{name}.example.com");
        let force = json!({"action": "reconcile", "force": true, "certificates": [name]});
        while !replaceable(&site.browser_trusts(&domain).await.unwrap()) {
            let pass = site.invoke(&force).await;
            assert_eq!(pass.outcome(name), "renewed", "{:#}", pass.report());
        }
    }
    let imports = || {
        let calls = cloud.to_aws().sent().into_iter();
        let imports = calls.filter(|sent| sent.is("ImportCertificate"));
        imports.filter(|sent| sent.status == Some(200)).count()
    };
    let imported_before = imports();
    let mut before = Vec::new();
    for name in &names {
        let domain = format!("{name}.example.com");
        let leaf = site.browser_trusts(&domain).await.unwrap();
        let begin = leaf.not_before;
        let mut window = begin + HOUR..begin + 2 * HOUR;
        if calm.contains(&name.as_str()) {
            // Its renewal instant is past, the end of its window is not.
            window.end = OffsetDateTime::now_utc() + ASKED_AGAIN + MINUTE;
            window.start = window.end - 100 * HOUR;
        }
        cloud.pebble().suggest(&leaf, window, None).await;
        before.push((domain, leaf.serial));
    }
    cloud
        .aws()
        .options(json!({"rates": {"ImportCertificate": 3}}))
        .await;
    let earlier = evidence::asked(&cloud, &site, NEW_ORDER).len();

    let mut renewed = 0;
    for number in 0..5 {
        let pass = site
            .pass_with(later(ASKED_AGAIN + number * 2 * MINUTE))
            .await;
        let summary = &pass.report()["summary"];
        assert_eq!(summary["failed"], 0, "{:#}", pass.report());
        renewed += summary["renewed"].as_u64().unwrap() + summary["deployed"].as_u64().unwrap();
        for (domain, _) in &before {
            assert!(site.browser_trusts(domain).await.is_ok(), "{domain}");
        }
        if renewed >= 30 {
            break;
        }
    }

    cloud.aws().options(json!({"rates": null})).await;
    let orders = evidence::asked(&cloud, &site, NEW_ORDER);
    let ordered: Vec<&str> = orders[earlier..]
        .iter()
        .filter_map(|sent| sent.payload["identifiers"][0]["value"].as_str()?.get(..3))
        .collect();
    let place = |name: &str| ordered.iter().position(|held| *held == name).unwrap();
    assert_eq!(ordered.len(), 30, "{ordered:?}");
    for name in short {
        assert!(place(name) < 3, "{name}: {ordered:?}");
    }
    for name in calm {
        assert!(place(name) >= 27, "{name}: {ordered:?}");
    }
    assert!(
        orders[earlier..]
            .iter()
            .all(|sent| sent.payload["replaces"].is_string())
    );
    for (domain, serial) in &before {
        let leaf = site.browser_trusts(domain).await.unwrap();
        assert_ne!(leaf.serial, *serial, "{domain} is still the revoked one");
    }
    let imported = site.imported().await;
    assert_eq!(imported.len(), 31, "the placeholder's and ours");
    assert!(site.keys("challenges/").await.is_empty());
    assert_eq!(imports() - imported_before, 30, "one for each certificate");
}
