//! The authority's suggestions (RFC 9773): when certloop asks for them, what follows from the
//! answers, and what an order replaces.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    Fault, Installation, Invocation, Leaf, LocalCloud, PebbleOptions, Response, Sent, Service,
    Stall,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, instant, later};

/// The path of Pebble's renewal information.
pub(crate) const RENEWAL_INFO: &str = "/draft-ietf-acme-ari-03/renewalInfo/";
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
/// Later than the Retry-After of Pebble's renewal information.
pub(crate) const ASKED_AGAIN: Duration = Duration::from_secs(7 * 60 * 60);
const DIRECTORY: &str = "/dir";
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

pub(crate) type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs all of them, this many at the same time.
pub(crate) async fn in_parallel(at_once: usize, all: impl IntoIterator<Item = Run>) {
    let mut runs = JoinSet::new();
    for one in all {
        if runs.len() >= at_once
            && let Some(done) = runs.join_next().await
        {
            done.unwrap();
        }
        runs.spawn(one);
    }
    while let Some(done) = runs.join_next().await {
        done.unwrap();
    }
}

/// Installs certloop and lets it issue `shop` for `<label>.example.com`.
pub(crate) async fn issued(cloud: &LocalCloud, label: &str) -> (Installation, String, Leaf) {
    let mut label = label.to_owned();
    loop {
        let site = cloud.install(&label).await;
        let domain = format!("{label}.example.com");
        site.want("shop", &[&domain]).await;
        let pass = site.pass().await;
        assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
        let leaf = site.browser_trusts(&domain).await.unwrap();
        if replaceable(&leaf) {
            return (site, domain, leaf);
        }
        label.push('x');
    }
}

/// Whether Pebble can find a certificate that an order replaces. It cannot when the serial's DER
/// begins with a zero.
pub(crate) fn replaceable(leaf: &Leaf) -> bool {
    !leaf.serial.starts_with("00")
}

/// Lets the authority suggest a replacement in the certificate's second hour.
pub(crate) async fn suggest_early(cloud: &LocalCloud, leaf: &Leaf) {
    let begin = leaf.not_before;
    let window = begin + HOUR..begin + 2 * HOUR;
    cloud.pebble().suggest(leaf, window, None).await;
}

/// Whether a request of this installation goes to this path of the authority.
pub(crate) fn to(
    site: &Installation,
    path: &'static str,
) -> impl Fn(&Sent) -> bool + Send + Sync + 'static {
    let function = site.renew.clone();
    move |sent| sent.is_acme(path) && sent.function.as_deref() == Some(&function)
}

/// Counts an invocation's requests for renewal information.
pub(crate) fn questions(pass: &Invocation) -> usize {
    pass.count(|sent| sent.is_acme(RENEWAL_INFO))
}

/// Starts a cloud whose authority refuses no nonce and validates every name again: requests can be
/// counted.
pub(crate) async fn steady() -> LocalCloud {
    LocalCloud::start_with(PebbleOptions {
        nonces_rejected: Some(0),
        reuse: Some(0),
        ..PebbleOptions::default()
    })
    .await
}

/// Returns the replaced certificate that each new order of an installation names.
pub(crate) fn replacing(cloud: &LocalCloud, site: &Installation) -> Vec<Value> {
    let orders = evidence::asked(cloud, site, NEW_ORDER).into_iter();
    orders
        .map(|sent| sent.payload["replaces"].clone())
        .collect()
}

/// Changes an answer's JSON.
pub(crate) fn edited(
    change: impl Fn(&mut Value) + Send + Sync + 'static,
) -> impl Fn(&mut Response) + Send + Sync + 'static {
    move |response| {
        if let Ok(mut body) = serde_json::from_slice::<Value>(&response.body) {
            change(&mut body);
            response.body = body.to_string().into_bytes();
        }
    }
}

pub(crate) fn told(start: OffsetDateTime, end: OffsetDateTime) -> Value {
    let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
    json!({"suggestedWindow": {"start": text(start), "end": text(end)}})
}

async fn information(site: &Installation) -> Value {
    let state = site.read_json("state/shop.json").await;
    state["certificate"]["renewal"]["information"].clone()
}

/// Asserts that an instant lies this far ahead of a function's clock, which itself is ahead of
/// ours.
#[track_caller]
pub(crate) fn assert_ahead(field: &Value, clock: Duration, ahead: Duration, context: &str) {
    let now = OffsetDateTime::now_utc() + clock;
    let in_fact = (instant(field) - now).as_seconds_f64();
    let wanted = ahead.as_secs_f64();
    assert!(
        (wanted * 0.9 - 15.0..=wanted + 5.0).contains(&in_fact),
        "{context}: {field} is {in_fact} s ahead, not {wanted} s"
    );
}

/// Asserts that a certificate is renewed by its own lifetime: the instant lies in the tenth before
/// the last third.
#[track_caller]
fn assert_by_lifetime(pass: &Invocation, leaf: &Leaf, context: &str) {
    let at = instant(&pass.certificate("shop")["renewAt"]) - leaf.not_before;
    let days = at.as_seconds_f64() / 86_400.0;
    assert!((50.9..=60.1).contains(&days), "{context}: day {days}");
}

pub(crate) async fn assert_serves(site: &Installation, domain: &str, pass: &Invocation) -> Leaf {
    let leaf = site.browser_trusts(domain).await;
    let leaf = leaf.unwrap_or_else(|why| panic!("{domain}: {why}"));
    assert_eq!(leaf.serial, pass.certificate("shop")["serial"]);
    leaf
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_is_asked_for_right_after_issuance_and_then_when_the_authority_says() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let leaf = assert_serves(&site, "shop.example.com", &pass).await;
    let asked = evidence::asked(&cloud, &site, RENEWAL_INFO);
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let wanted = format!("GET {RENEWAL_INFO}{} 200", leaf.identifier());
    assert_eq!(asked, [wanted]);
    let stored = information(&site).await;
    let window = &stored["window"];
    let at = instant(&window["at"]);
    assert!(instant(&window["start"]) <= at, "{stored:#}");
    assert!(at <= instant(&window["end"]), "{stored:#}");
    assert_ahead(&stored["askAgain"], Duration::ZERO, 6 * HOUR, "at first");
    let renew_at = pass.certificate("shop")["renewAt"].clone();
    assert!((instant(&renew_at) - at).abs() < time::Duration::SECOND);

    // Pebble asks for a pause of six hours: no pass asks again in that time. The instant stays the
    // same for as long as the window does.
    let plain = json!({"action": "status"});
    for (clock, times) in [
        (Duration::ZERO, 0),
        (5 * HOUR + 55 * MINUTE, 0),
        (6 * HOUR + MINUTE, 1),
        (11 * HOUR, 0),
        (13 * HOUR, 1),
        (20 * HOUR, 1),
        (3 * DAY, 1),
    ] {
        for round in 0..2 {
            let pass = site.pass_with(later(clock)).await;
            let context = format!("{clock:?}, round {round}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "kept", "{context}");
            assert_eq!(questions(&pass), times * (1 - round), "{context}");
            assert_eq!(pass.certificate("shop")["renewAt"], renew_at, "{context}");
        }
    }
    assert_eq!(instant(&information(&site).await["window"]["at"]), at);

    // Another window: another instant, and a page that gives the reason.
    let page = "https://ca.example/incident-4711";
    let (start, end) = (
        leaf.not_before + 40 * DAY,
        leaf.not_before + 40 * DAY + HOUR,
    );
    cloud.pebble().suggest(&leaf, start..end, Some(page)).await;
    let pass = site.pass_with(later(4 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    let moved = instant(&pass.certificate("shop")["renewAt"]);
    assert!((start - time::Duration::SECOND..=end).contains(&moved));
    let status = site.invoke_with(&plain, later(4 * DAY)).await;
    let status = status.certificate("shop");
    assert!(status.to_string().contains(page), "{status:#}");
    let shown = &status["renewalInformation"];
    assert_eq!(shown["explanationURL"], page, "{status:#}");
    assert_eq!(
        instant(&shown["start"]),
        start.replace_nanosecond(0).unwrap()
    );
    assert_eq!(evidence::orders(&cloud, &site), 1);
    evidence::assert_at_rest(&cloud, &site, "shop", "shop.example.com", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authoritys_wish_when_to_be_asked_is_kept_within_a_minute_and_a_day() {
    let cloud = Arc::new(steady().await);
    let in_two_hours = || {
        let at = OffsetDateTime::now_utc() + 2 * HOUR;
        let format = time::macros::format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        at.format(format).unwrap()
    };
    let six = 6 * HOUR;
    let wishes = [
        (Some("1".to_owned()), MINUTE),
        (Some("0".to_owned()), MINUTE),
        (Some("864000".to_owned()), DAY),
        (Some("1800".to_owned()), 30 * MINUTE),
        (Some(in_two_hours()), 2 * HOUR),
        (None, six),
        (Some("soon".to_owned()), six),
        (Some("-5".to_owned()), six),
        (Some("99999999999999999999".to_owned()), six),
    ];
    let runs = wishes
        .into_iter()
        .enumerate()
        .map(|(number, (wish, wait))| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let label = format!("wish-{number}");
                let site = cloud.install(&label).await;
                let said = wish.clone();
                let fault = Fault::when(to(&site, RENEWAL_INFO)).always();
                cloud.to_acme().inject(fault.edit(move |response| {
                    let name = "retry-after";
                    response
                        .headers
                        .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
                    response
                        .headers
                        .extend(said.clone().map(|said| (name.to_owned(), said)));
                }));
                let domain = format!("{label}.example.com");
                site.want("shop", &[&domain]).await;
                let context = format!("Retry-After {wish:?}");
                let pass = site.pass().await;
                assert_eq!(
                    pass.outcome("shop"),
                    "issued",
                    "{context}: {:#}",
                    pass.report()
                );
                assert_eq!(questions(&pass), 1, "{context}");
                // A number that is too large is invalid, or means more than a day.
                let wait = match wish.as_deref() {
                    Some(wish) if wish.len() == 20 => {
                        let asks = instant(&information(&site).await["askAgain"]);
                        let hours = (asks - OffsetDateTime::now_utc()).whole_hours();
                        if hours < 7 { wait } else { DAY }
                    }
                    _ => wait,
                };
                assert_ahead(
                    &information(&site).await["askAgain"],
                    Duration::ZERO,
                    wait,
                    &context,
                );

                let early = site.pass_with(later(wait * 8 / 10)).await;
                assert_eq!(
                    early.outcome("shop"),
                    "kept",
                    "{context}: {:#}",
                    early.report()
                );
                assert_eq!(questions(&early), 0, "{context}");
                let asking = site.pass_with(later(wait + MINUTE)).await;
                assert_eq!(
                    asking.outcome("shop"),
                    "kept",
                    "{context}: {:#}",
                    asking.report()
                );
                assert_eq!(questions(&asking), 1, "{context}");
                evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
            }) as Run
        });
    in_parallel(5, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_moved_into_the_past_renews_once_and_says_what_is_replaced() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    suggest_early(&cloud, &leaf).await;

    // No pass has asked yet.
    let early = site.pass_with(later(5 * HOUR)).await;
    assert_eq!(early.outcome("shop"), "kept", "{:#}", early.report());
    assert_eq!(early.count(|sent| sent.service == Service::Acme), 0);

    let pass = site.pass_with(later(ASKED_AGAIN)).await;

    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(
        replacing(&cloud, &site),
        [Value::Null, json!(leaf.identifier())]
    );
    let second = assert_serves(&site, &domain, &pass).await;
    assert_ne!(second.serial, leaf.serial);
    let arn = &pass.certificate("shop")["certificateArn"];
    assert_eq!(
        site.listed().await.sni,
        [arn.as_str().unwrap().to_owned()].into()
    );
    // One request for the old one, then one for the new one; no further request for the old one.
    let asked = evidence::asked(&cloud, &site, RENEWAL_INFO).into_iter();
    let asked: Vec<String> = asked
        .map(|sent| sent.target.replace(RENEWAL_INFO, ""))
        .collect();
    let (old, new) = (leaf.identifier(), second.identifier());
    assert_eq!(asked, [old.clone(), old, new.clone()]);

    for clock in [ASKED_AGAIN, ASKED_AGAIN, 2 * ASKED_AGAIN, 3 * DAY, 10 * DAY] {
        let pass = site.pass_with(later(clock)).await;
        assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    }
    let asked = evidence::asked(&cloud, &site, RENEWAL_INFO);
    assert!(
        asked[3..].iter().all(|sent| sent.target.ends_with(&new)),
        "{asked:#?}"
    );
    assert_eq!(evidence::orders(&cloud, &site), 2);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_wants_everything_replaced_at_once_is_followed_ever_more_slowly() {
    let cloud = steady().await;
    let (site, domain, _) = issued(&cloud, "shop").await;
    let begin = 10 * DAY;
    let always = Fault::when(to(&site, RENEWAL_INFO)).always();
    cloud.to_acme().inject(always.edit(edited(move |answer| {
        let now = OffsetDateTime::now_utc() + begin;
        *answer = told(now - 2 * HOUR, now - HOUR);
    })));

    let mut renewed = Vec::new();
    for after in [
        Duration::ZERO,
        3 * MINUTE,
        20 * MINUTE,
        3 * HOUR,
        8 * HOUR,
        30 * HOUR,
    ] {
        let mut count = 0;
        for _ in 0..4 {
            let pass = site.pass_with(later(begin + after)).await;
            match pass.outcome("shop") {
                "renewed" => count += 1,
                "kept" | "waiting" => {}
                _ => panic!("{after:?}: {:#}", pass.report()),
            }
            assert_serves(&site, &domain, &pass).await;
        }
        renewed.push(count);
    }

    // At first as the window asks, then after 1, 10 and 100 minutes, and after a day.
    assert!((1..=2).contains(&renewed[0]), "{renewed:?}");
    assert!(renewed[1..].iter().all(|count| *count <= 1), "{renewed:?}");
    let all: i32 = renewed.iter().sum();
    assert!((4..=6).contains(&all), "{renewed:?}");
    assert_eq!(renewed[4], 0, "a day had not passed: {renewed:?}");
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_postpones_a_renewal_to_the_last_twentieth() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let end = leaf.not_after;
    let late = end - 2 * DAY..end - DAY;
    cloud.pebble().suggest(&leaf, late, None).await;

    let pass = site.pass_with(later(DAY)).await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    let renew_at = instant(&pass.certificate("shop")["renewAt"]);
    assert!(renew_at <= end - LIFETIME / 20, "{renew_at}");
    // After the last third has begun (the window postpones the renewal), and before the last
    // twentieth.
    let pass = site.pass_with(later(84 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    let pass = site.pass_with(later(86 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_serves(&site, &domain, &pass).await;
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_make_no_sense_are_ignored() {
    let cloud = Arc::new(steady().await);
    let windows = [
        ("reversed", 3 * DAY, 2 * DAY),
        ("of no length", 3 * DAY, 3 * DAY),
        ("before it began", Duration::ZERO, HOUR),
    ];
    let runs = windows
        .into_iter()
        .enumerate()
        .map(|(number, (what, start, end))| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let label = format!("window-{number}");
                let site = cloud.install(&label).await;
                let begin = match what {
                    "before it began" => OffsetDateTime::now_utc() - 5 * HOUR,
                    _ => OffsetDateTime::now_utc(),
                };
                let fault = Fault::when(to(&site, RENEWAL_INFO)).always();
                let (start, end) = (begin + start, begin + end);
                cloud
                    .to_acme()
                    .inject(fault.edit(edited(move |answer| *answer = told(start, end))));
                let domain = format!("{label}.example.com");
                site.want("shop", &[&domain]).await;
                let pass = site.pass().await;
                assert_eq!(
                    pass.outcome("shop"),
                    "issued",
                    "{what}: {:#}",
                    pass.report()
                );
                let leaf = assert_serves(&site, &domain, &pass).await;
                assert_by_lifetime(&pass, &leaf, what);
                for clock in [ASKED_AGAIN, 4 * DAY, 45 * DAY] {
                    let pass = site.pass_with(later(clock)).await;
                    assert_eq!(pass.outcome("shop"), "kept", "{what}: {:#}", pass.report());
                    assert_by_lifetime(&pass, &leaf, what);
                }
                let pass = site.pass_with(later(61 * DAY)).await;
                assert_eq!(
                    pass.outcome("shop"),
                    "renewed",
                    "{what}: {:#}",
                    pass.report()
                );
                assert_serves(&site, &domain, &pass).await;
                evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
            }) as Run
        });
    in_parallel(4, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_does_not_tell_costs_no_renewal() {
    let cloud = Arc::new(steady().await);
    let page = || Response::new(500, "<html>oops-4711</html>").with("Content-Type", "text/html");
    type Answer = Box<dyn Fn(tests::proxy::FaultBuilder) -> Fault + Send + Sync>;
    let answers: Vec<(&str, bool, Answer)> = vec![
        ("hung up", true, Box::new(|fault| fault.hang_up())),
        ("500", true, Box::new(move |fault| fault.answer(page()))),
        (
            "500 with a problem",
            true,
            Box::new(|fault| fault.problem(500, "serverInternal", "oops")),
        ),
        (
            "503",
            true,
            Box::new(|fault| fault.answer(Response::new(503, "busy"))),
        ),
        (
            "cut off",
            true,
            Box::new(|fault| fault.stall(Stall::CutInBody)),
        ),
        (
            "404",
            false,
            Box::new(|fault| fault.problem(404, "malformed", "no such certificate")),
        ),
        (
            "403",
            false,
            Box::new(|fault| fault.problem(403, "unauthorized", "not yours")),
        ),
        (
            "no JSON",
            false,
            Box::new(|fault| fault.edit(|response| response.body = b"<html>".to_vec())),
        ),
        (
            "no window",
            false,
            Box::new(|fault| fault.edit(edited(|answer| *answer = json!({})))),
        ),
        (
            "no instants",
            false,
            Box::new(|fault| {
                fault.edit(edited(|answer| {
                    answer["suggestedWindow"] = json!({"start": "tomorrow", "end": 17});
                }))
            }),
        ),
        (
            "empty",
            false,
            Box::new(|fault| fault.edit(|response| response.body.clear())),
        ),
    ];
    let runs = answers
        .into_iter()
        .enumerate()
        .map(|(number, (what, temporary, answer))| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let label = format!("silent-{number}");
                let site = cloud.install(&label).await;
                let fault = Fault::when(to(&site, RENEWAL_INFO)).always();
                cloud.to_acme().inject(answer(fault));
                let domain = format!("{label}.example.com");
                site.want("shop", &[&domain]).await;

                let pass = site.pass().await;
                assert_eq!(
                    pass.outcome("shop"),
                    "issued",
                    "{what}: {:#}",
                    pass.report()
                );
                assert!(pass.certificate("shop")["problem"].is_null(), "{what}");
                let leaf = assert_serves(&site, &domain, &pass).await;
                assert_by_lifetime(&pass, &leaf, what);
                let mut clock = Duration::ZERO;
                for wait in [1, 2, 4] {
                    let wait = if temporary { wait * MINUTE } else { 6 * HOUR };
                    let stored = information(&site).await;
                    assert_ahead(
                        &stored["askAgain"],
                        clock,
                        wait,
                        &format!("{what}: {stored:#}"),
                    );
                    clock += wait + Duration::from_secs(10);
                    let pass = site.pass_with(later(clock)).await;
                    assert_eq!(pass.outcome("shop"), "kept", "{what}: {:#}", pass.report());
                    assert_eq!(questions(&pass), 1, "{what}");
                    let again = site.pass_with(later(clock)).await;
                    assert_eq!(questions(&again), 0, "{what}");
                }
                if temporary {
                    let mut state = site.read_json("state/shop.json").await;
                    state["certificate"]["renewal"]["information"]["unanswered"] = json!(30);
                    site.put("state/shop.json", state.to_string()).await;
                    clock += DAY;
                    let pass = site.pass_with(later(clock)).await;
                    assert_eq!(questions(&pass), 1, "{what}: {:#}", pass.report());
                    let stored = information(&site).await;
                    assert_ahead(&stored["askAgain"], clock, 6 * HOUR, what);
                }

                let pass = site.pass_with(later(61 * DAY)).await;
                assert_eq!(
                    pass.outcome("shop"),
                    "renewed",
                    "{what}: {:#}",
                    pass.report()
                );
                assert!(!pass.report().to_string().contains("oops-4711"));
                // It accepts replacements, with or without windows.
                let replaced = replacing(&cloud, &site);
                assert_eq!(replaced, [Value::Null, json!(leaf.identifier())], "{what}");
                assert_serves(&site, &domain, &pass).await;
                evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
            }) as Run
        });
    in_parallel(5, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_renewal_information_is_not_asked() {
    let cloud = steady().await;
    let fault = Fault::on(DIRECTORY).always();
    cloud.to_acme().inject(fault.edit(edited(|directory| {
        directory.as_object_mut().unwrap().remove("renewalInfo");
    })));
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    let pass = site.pass_with(later(ASKED_AGAIN)).await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    assert_by_lifetime(&pass, &leaf, "no renewalInfo");
    // Nor does each pass read the directory.
    let pass = site.pass_with(later(ASKED_AGAIN)).await;
    assert_eq!(pass.count(|sent| sent.service == Service::Acme), 0);

    let pass = site.pass_with(later(61 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(evidence::asked(&cloud, &site, RENEWAL_INFO).len(), 0);
    assert_eq!(replacing(&cloud, &site), [Value::Null, Value::Null]);
    assert_serves(&site, &domain, &pass).await;

    // The authority may start to offer it one day.
    cloud.to_acme().heal();
    let pass = site.pass_with(later(2 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    assert_eq!(questions(&pass), 1);
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_about_a_certificate_that_has_ended() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let domain = "shop.example.com";
    let mut document = site.document(&[domain]);
    document["profile"] = "shortlived".into();
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let leaf = assert_serves(&site, domain, &pass).await;
    // The authority's clock does not move: its next certificate has to outlive the other.
    site.want("shop", &[domain]).await;
    let refused = Fault::when(to(&site, NEW_ORDER));
    let refused = refused.problem(500, "serverInternal", "not now");
    cloud.to_acme().inject(refused);

    let pass = site.pass_with(later(7 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    assert_eq!(questions(&pass), 0);
    let pass = site.pass_with(later(7 * DAY + 2 * HOUR)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let asked = pass
        .requests
        .iter()
        .filter(|sent| sent.is_acme(RENEWAL_INFO));
    let asked: Vec<&Sent> = asked.collect();
    assert!(
        asked
            .iter()
            .all(|sent| !sent.target.ends_with(&leaf.identifier())),
        "{asked:#?}"
    );
    assert_serves(&site, domain, &pass).await;
    evidence::assert_at_rest(&cloud, &site, "shop", domain, 2).await;
}
