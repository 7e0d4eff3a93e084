//! The rate limits of an authority and of the certificate manager: a request that would exceed one
//! waits, and the report says until when.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud, Response};
use time::OffsetDateTime;

use crate::evidence::{self, CHALLENGE, DAY, MINUTE, NEW_ORDER, instant, later};
use crate::renewal_information::{
    ASKED_AGAIN, HOUR, RENEWAL_INFO, Run, assert_ahead, assert_serves, edited, in_parallel, issued,
    steady, to, told,
};

/// Gives an installation's authority these limits.
async fn limit(site: &Installation, limits: Value) {
    let mut settings = site.settings();
    settings["authorities"]["pebble"]["limits"] = limits;
    site.put_settings(&settings).await;
}

fn new_orders(pass: &Invocation) -> usize {
    pass.count(|sent| sent.is_acme(NEW_ORDER))
}

/// Asserts that a certificate waits this long, and that the report says so in words.
#[track_caller]
fn assert_waits(pass: &Invocation, name: &str, clock: Duration, wait: Duration, words: &[&str]) {
    let told = pass.certificate(name);
    let context = format!("{:#}", pass.report());
    assert_eq!(told["outcome"], "waiting", "{context}");
    assert_ahead(&told["nextAttempt"], clock, wait, &context);
    let reason = told["reason"].as_str().unwrap();
    for word in words {
        assert!(reason.contains(word), "no {word:?} in {reason:?}");
    }
}

/// Returns what `status` says of a limit.
async fn left(site: &Installation, clock: Duration, limit: &str) -> Option<Value> {
    let status = json!({"action": "status"});
    let status = site.invoke_with(&status, later(clock)).await;
    assert_eq!(evidence::writes(&status), Vec::<String>::new());
    let limits = &status.report()["limits"]["authorities"]["pebble"]["limits"];
    let limits = limits.as_array().cloned().unwrap_or_default();
    limits.into_iter().find(|one| one["limit"] == limit)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_order_of_two_an_hour_waits_its_turn() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let two = json!({"count": 2, "seconds": 3600});
    limit(&site, json!({"ordersPerAccount": two})).await;
    let names = ["a", "b", "c"];
    for name in names {
        site.want(name, &[&format!("{name}.example.com")]).await;
    }

    let pass = site.pass().await;

    let summary = &pass.report()["summary"];
    assert_eq!(
        (&summary["issued"], &summary["waiting"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(evidence::asked(&cloud, &site, NEW_ORDER).len(), 2);
    let waits = names
        .into_iter()
        .find(|name| pass.outcome(name) == "waiting")
        .unwrap();
    let words = ["no new order is left", "2 per"];
    assert_waits(&pass, waits, Duration::ZERO, 30 * MINUTE, &words);
    let shown = left(&site, Duration::ZERO, "ordersPerAccount")
        .await
        .unwrap();
    assert_eq!(
        (&shown["left"], &shown["of"]),
        (&json!(0), &json!(2)),
        "{shown:#}"
    );
    assert_ahead(&shown["nextAt"], Duration::ZERO, 30 * MINUTE, "status");

    // A forced pass waits too.
    let forced = json!({"action": "reconcile", "force": true, "certificates": [waits]});
    for event in [json!({"action": "reconcile"}), forced] {
        let early = site.invoke_with(&event, later(20 * MINUTE)).await;
        assert_eq!(early.outcome(waits), "waiting", "{:#}", early.report());
        assert_eq!(new_orders(&early), 0);
    }
    let pass = site.pass_with(later(31 * MINUTE)).await;
    assert_eq!(pass.outcome(waits), "issued", "{:#}", pass.report());
    for name in names {
        let leaf = site.browser_trusts(&format!("{name}.example.com")).await;
        assert!(leaf.is_ok(), "{name}: {leaf:?}");
    }
    assert_eq!(evidence::orders(&cloud, &site), 3);
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_at_once_share_one_budget() {
    let cloud = steady().await;
    let site = Arc::new(cloud.install("shop").await);
    let three = json!({"count": 3, "seconds": 3600});
    limit(&site, json!({"ordersPerAccount": three})).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        site.want(name, &[&format!("{name}.example.com")]).await;
    }

    let only = |names: &[&str]| json!({"action": "reconcile", "certificates": names});
    let (left, right) = (only(&names[..3]), only(&names[3..]));
    let (left, right) = tokio::join!(site.invoke(&left), site.invoke(&right));

    let reports = format!("{:#}\n{:#}", left.report(), right.report());
    let count = |word: &str| {
        let of = |pass: &Invocation| pass.report()["summary"][word].as_u64().unwrap();
        of(&left) + of(&right)
    };
    assert_eq!((count("issued"), count("waiting")), (3, 3), "{reports}");
    assert_eq!(
        evidence::asked(&cloud, &site, NEW_ORDER).len(),
        3,
        "{reports}"
    );
    let next = site.pass_with(later(HOUR + 5 * MINUTE)).await;
    assert_eq!(next.report()["summary"]["issued"], 3, "{:#}", next.report());
    for name in names {
        assert!(
            site.browser_trusts(&format!("{name}.example.com"))
                .await
                .is_ok()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_renewal_says_what_it_costs_and_obeys() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let domain = "shop.example.com";
    let two = json!({"count": 2, "seconds": 86_400});
    limit(&site, json!({"certificatesPerNameSet": two})).await;
    site.want("shop", &[domain]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let forced = json!({"action": "reconcile", "force": true});

    let pass = site.invoke(&forced).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let reason = pass.certificate("shop")["reason"].as_str().unwrap();
    for word in ["forced", "takes", "of 2", "import"] {
        assert!(reason.contains(word), "no {word:?} in {reason:?}");
    }
    assert_serves(&site, domain, &pass).await;

    let pass = site.invoke(&forced).await;
    let words = ["exactly these names", "2 per"];
    assert_waits(&pass, "shop", Duration::ZERO, 12 * HOUR, &words);
    assert_eq!(new_orders(&pass), 0);
    // Without force there is no renewal to wait for.
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "kept", "{:#}", pass.report());
    let shown = left(&site, Duration::ZERO, "certificatesPerNameSet")
        .await
        .unwrap();
    assert_eq!(shown["left"], 0, "{shown:#}");

    let pass = site.invoke_with(&forced, later(12 * HOUR + MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_serves(&site, domain, &pass).await;
    evidence::assert_at_rest(&cloud, &site, "shop", domain, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_in_its_window_passes_an_empty_bucket() {
    let cloud = Arc::new(steady().await);
    // In the window the order is exempt. After the window it is like any other order.
    let runs = [true, false].map(|in_window| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, leaf) = issued(&cloud, &format!("exempt-{in_window}")).await;
            let one = json!({"count": 1, "seconds": 864_000});
            limit(
                &site,
                json!({"certificatesPerNameSet": one, "ordersPerAccount": one}),
            )
            .await;
            // Orders placed before the settings had limits are not counted: the test empties the
            // bucket by hand.
            let forced = json!({"action": "reconcile", "force": true});
            let pass = site.invoke(&forced).await;
            assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
            let second = assert_serves(&site, &domain, &pass).await;
            assert_ne!(second.serial, leaf.serial);
            let begin = second.not_before;
            let fault = Fault::when(to(&site, RENEWAL_INFO)).always();
            cloud.to_acme().inject(fault.edit(edited(move |answer| {
                // By the function's clock the window is open for another minute, and the renewal's
                // instant is in the past.
                let open = OffsetDateTime::now_utc() + ASKED_AGAIN + Duration::from_secs(20);
                *answer = match in_window {
                    true => told(begin - 900 * HOUR, open),
                    false => told(begin + HOUR, begin + 2 * HOUR),
                };
            })));

            let pass = site.pass_with(later(ASKED_AGAIN)).await;
            if in_window {
                assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
                let orders = evidence::asked(&cloud, &site, NEW_ORDER);
                assert!(orders[2].payload["replaces"].is_string());
                assert_serves(&site, &domain, &pass).await;
            } else {
                assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());
                assert_eq!(new_orders(&pass), 0);
                let served = site.browser_trusts(&domain).await.unwrap();
                assert_eq!(served.serial, second.serial);
                let pass = site.pass_with(later(11 * DAY)).await;
                assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
                assert_serves(&site, &domain, &pass).await;
            }
        }) as Run
    });
    in_parallel(2, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validations_that_fail_are_counted_and_not_made_too_often() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let domain = "shop.example.com";
    let mut settings = site.settings();
    let five = json!({"count": 5, "seconds": 3600});
    settings["authorities"]["pebble"]["limits"] = json!({"failedValidationsPerName": five});
    settings["selfCheck"]["mode"] = "off".into();
    site.put_settings(&settings).await;
    site.want("shop", &[domain]).await;
    // Pebble finds no server there.
    cloud.pebble().dns("clear-a", json!({"host": domain})).await;
    cloud.pebble().point(domain, [127, 0, 0, 9].into()).await;
    let forced = json!({"action": "reconcile", "force": true});

    let mut failed = 0;
    let mut last = None;
    for _ in 0..7 {
        let pass = site.invoke(&forced).await;
        let outcome = pass.outcome("shop").to_owned();
        match outcome.as_str() {
            "failed" => failed += 1,
            "waiting" => {
                last = Some(pass);
                break;
            }
            _ => panic!("{:#}", pass.report()),
        }
    }

    let last = last.expect("it goes on for ever");
    assert!((4..=5).contains(&failed), "{failed} validations failed");
    assert_waits(&last, "shop", Duration::ZERO, 12 * MINUTE, &[domain]);
    assert_eq!(new_orders(&last), 0);
    assert_eq!(evidence::granted(&cloud, &site, CHALLENGE), failed);
    // The limit of one name does not affect another name of the installation.
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());

    cloud.pebble().dns("clear-a", json!({"host": domain})).await;
    site.point(domain).await;
    let pass = site.invoke_with(&forced, later(13 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert!(site.browser_trusts(domain).await.is_ok());
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validation_that_succeeds_costs_nothing() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let one = json!({"count": 1, "seconds": 3600});
    limit(&site, json!({"failedValidationsPerName": one})).await;
    let domain = "shop.example.com";
    site.want("shop", &[domain]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let forced = json!({"action": "reconcile", "force": true});
    for _ in 0..2 {
        let pass = site.invoke(&forced).await;
        assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
        assert_serves(&site, domain, &pass).await;
    }
    let shown = left(&site, Duration::ZERO, "failedValidationsPerName").await;
    assert!(shown.is_none_or(|shown| shown["left"] == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_of_a_year_are_kept_for_what_is_about_to_end() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let mut settings = site.settings();
    settings["limits"]["importsPerYear"] = 2.into();
    site.put_settings(&settings).await;
    for name in ["a", "b"] {
        site.want(name, &[&format!("{name}.example.com")]).await;
    }
    let pass = site.pass().await;
    assert_eq!(pass.report()["summary"]["issued"], 2, "{:#}", pass.report());

    // The third is not even ordered.
    site.want("c", &["c.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("c"), "waiting", "{:#}", pass.report());
    assert_eq!(new_orders(&pass), 0);
    let reason = pass.certificate("c")["reason"].as_str().unwrap();
    assert!(reason.contains("import"), "{reason}");
    let next = instant(&pass.certificate("c")["nextAttempt"]) - OffsetDateTime::now_utc();
    assert!((360..=367).contains(&next.whole_days()), "{next}");
    let status = site.invoke(&json!({"action": "status"})).await;
    let shown = &status.report()["limits"]["imports"]["us-east-1"];
    assert_eq!((&shown["left"], &shown["of"]), (&json!(0), &json!(2)));

    // Renewals wait as well, until little lifetime is left.
    let pass = site.pass_with(later(62 * DAY)).await;
    for name in ["a", "b", "c"] {
        assert_eq!(pass.outcome(name), "waiting", "{:#}", pass.report());
    }
    assert_eq!(new_orders(&pass), 0);
    let pass = site.pass_with(later(88 * DAY)).await;
    for name in ["a", "b"] {
        assert_eq!(pass.outcome(name), "renewed", "{:#}", pass.report());
        let served = site.browser_trusts(&format!("{name}.example.com")).await;
        assert_eq!(served.unwrap().serial, pass.certificate(name)["serial"]);
    }
    assert_eq!(pass.outcome("c"), "waiting", "{:#}", pass.report());

    // The quota is higher now.
    site.put_settings(&site.settings()).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("c"), "issued", "{:#}", pass.report());
    assert!(site.browser_trusts("c.example.com").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_limit_or_none_at_all() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    limit(&site, json!({"ordersPerDay": {"count": 1, "seconds": 1}})).await;
    let pass = site.pass().await;
    let error = pass.result.unwrap_err();
    assert!(error.message.contains("ordersPerDay"), "{error}");
    limit(&site, Value::Null).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_nobody_heard_of_is_counted() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let two = json!({"count": 2, "seconds": 36_000});
    limit(&site, json!({"ordersPerAccount": two})).await;
    site.want("shop", &["shop.example.com"]).await;
    let lost = Fault::when(to(&site, NEW_ORDER)).swallow(Response::new(502, "<html>"));
    cloud.to_acme().inject(lost);

    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());

    // The authority has counted two orders.
    site.want("blog", &["blog.example.com"]).await;
    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("blog"), "waiting", "{:#}", pass.report());
    assert_eq!(new_orders(&pass), 0);
    let pass = site.pass_with(later(6 * HOUR)).await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());
    for name in ["shop.example.com", "blog.example.com"] {
        assert!(site.browser_trusts(name).await.is_ok(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_authority_says_of_a_domain_or_a_set_of_names_holds_no_other() {
    let cloud = Arc::new(steady().await);
    let sayings = [
        (
            "too many certificates (50) already issued for \"example.com\" in the last 168h0m0s, \
             retry after \
             2026-11-29 12:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-registered-domain",
            ["waiting", "issued"],
        ),
        (
            "too many certificates (5) already issued for this exact set of identifiers in the \
             last 168h0m0s, retry after \
             2026-11-29 12:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers",
            ["issued", "issued"],
        ),
        (
            "too many failed authorizations (5) for \"a0.example.com\" in the last 1h0m0s, retry \
             after \
             2026-11-29 12:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#authorization-failures-per-hostname-per-account",
            ["issued", "issued"],
        ),
        (
            "too many new orders (300) from this account in the last 3h0m0s, retry after \
             2026-11-29 12:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account",
            ["waiting", "waiting"],
        ),
    ];
    let runs = sayings
        .into_iter()
        .enumerate()
        .map(|(number, (detail, others))| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let site = cloud.install(&format!("said-{number}")).await;
                let domain = if number == 2 {
                    "a0.example.com".to_owned()
                } else {
                    format!("a{number}x.example.com")
                };
                site.want("first", &[&domain]).await;
                let urn = "urn:ietf:params:acme:error:rateLimited";
                let body = json!({"type": urn, "detail": detail, "status": 429});
                let limited = Response::new(429, body.to_string())
                    .with("Content-Type", "application/problem+json")
                    .with("Retry-After", "3600");
                cloud
                    .to_acme()
                    .inject(Fault::when(to(&site, NEW_ORDER)).answer(limited));
                let pass = site.pass().await;
                let told = format!("{detail}: {:#}", pass.report());
                assert_eq!(pass.outcome("first"), "failed", "{told}");
                assert_eq!(
                    pass.certificate("first")["problem"]["retry"],
                    "at",
                    "{told}"
                );

                site.want("same", &[&format!("b{number}.example.com")])
                    .await;
                site.want("other", &[&format!("c{number}.example.org")])
                    .await;
                let pass = site.pass_with(later(10 * MINUTE)).await;
                let told = format!("{detail}: {:#}", pass.report());
                assert_eq!(pass.outcome("first"), "waiting", "{told}");
                let outcomes = ["same", "other"].map(|name| pass.outcome(name));
                assert_eq!(outcomes, others, "{told}");

                let pass = site.pass_with(later(61 * MINUTE)).await;
                assert_eq!(
                    pass.outcome("first"),
                    "issued",
                    "{detail}: {:#}",
                    pass.report()
                );
                assert!(site.browser_trusts(&domain).await.is_ok());
            }) as Run
        });
    in_parallel(4, runs).await;
}
