//! Orders that name the certificate they replace (RFC 9773 section 5), and authorities that refuse
//! that.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::proxy::FaultBuilder;
use tests::{Fault, Installation, Response};

use crate::evidence::{self, FINALIZE, MINUTE, NEW_ORDER, later};
use crate::renewal_information::{
    ASKED_AGAIN, Run, assert_serves, edited, in_parallel, issued, replacing, steady, suggest_early,
    to,
};

/// A fault on the orders of an installation that name a replaced certificate.
fn on_replacements(site: &Installation) -> FaultBuilder {
    let orders = to(site, NEW_ORDER);
    Fault::when(move |sent| orders(sent) && sent.payload["replaces"].is_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_replacement_costs_at_most_one_more_order_and_not_the_certificate() {
    let cloud = Arc::new(steady().await);
    let problem = |status: u16, urn: &'static str, detail: &'static str| {
        Box::new(move |fault: FaultBuilder| fault.problem(status, urn, detail)) as Answer
    };
    type Answer = Box<dyn Fn(FaultBuilder) -> Fault + Send + Sync>;
    let wordings: Vec<(&str, Answer)> = vec![
        (
            "409 alreadyReplaced",
            problem(
                409,
                "alreadyReplaced",
                "certificate 04ab already has a replacement order",
            ),
        ),
        ("409 conflict", problem(409, "conflict", "replaced already")),
        ("409 malformed", problem(409, "malformed", "cannot replace")),
        (
            "409 bare",
            Box::new(|fault| fault.answer(Response::new(409, ""))),
        ),
        (
            "403 unauthorized",
            problem(
                403,
                "unauthorized",
                "requester account did not request the certificate",
            ),
        ),
        (
            "404 malformed",
            problem(
                404,
                "malformed",
                "could not find an order for the given certificate",
            ),
        ),
        (
            "404 bare",
            Box::new(|fault| fault.answer(Response::new(404, "not found"))),
        ),
        (
            "400 malformed",
            problem(
                400,
                "malformed",
                "parsing ARI CertID failed: certificate could not be found",
            ),
        ),
        (
            "not echoed, it is used",
            Box::new(|fault| {
                fault.edit(edited(|order| {
                    order.as_object_mut().unwrap().remove("replaces");
                }))
            }),
        ),
        (
            "another echoed, it is used",
            Box::new(|fault| {
                fault.edit(edited(|order| {
                    order["replaces"] = json!("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
                }))
            }),
        ),
        (
            "200 and not echoed, it is used",
            Box::new(|fault| {
                let without = edited(|order| {
                    order.as_object_mut().unwrap().remove("replaces");
                });
                fault.edit(move |response| {
                    response.status = 200;
                    without(response);
                })
            }),
        ),
    ];
    let runs = wordings
        .into_iter()
        .enumerate()
        .map(|(number, (what, answer))| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let (site, domain, leaf) = issued(&cloud, &format!("refused-{number}")).await;
                suggest_early(&cloud, &leaf).await;
                cloud
                    .to_acme()
                    .inject(answer(on_replacements(&site).always()));

                let pass = site.pass_with(later(ASKED_AGAIN)).await;

                assert_eq!(
                    pass.outcome("shop"),
                    "renewed",
                    "{what}: {:#}",
                    pass.report()
                );
                let replaced = replacing(&cloud, &site);
                let mut wanted = vec![Value::Null, json!(leaf.identifier())];
                // An order that was made is used.
                wanted.extend((!what.contains("echoed, it is used")).then_some(Value::Null));
                assert_eq!(replaced, wanted, "{what}");
                assert_eq!(evidence::issued(&cloud, &site), 2, "{what}");
                let second = assert_serves(&site, &domain, &pass).await;
                assert_ne!(second.serial, leaf.serial, "{what}");
                let next = site.pass_with(later(2 * ASKED_AGAIN)).await;
                assert_eq!(next.outcome("shop"), "kept", "{what}: {:#}", next.report());
                evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
            }) as Run
        });
    in_parallel(5, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_nobody_heard_of_is_still_made() {
    let cloud = Arc::new(steady().await);
    let ways = ["taken again", "taken once", "cut off", "never heard"];
    let runs = ways.into_iter().enumerate().map(|(number, way)| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let (site, domain, leaf) = issued(&cloud, &format!("lost-{number}")).await;
            suggest_early(&cloud, &leaf).await;
            let wire = cloud.to_acme();
            wire.inject(match way {
                "cut off" => on_replacements(&site).stall(tests::Stall::CutInBody),
                "never heard" => on_replacements(&site).hang_up(),
                _ => on_replacements(&site).swallow(Response::new(502, "<html>")),
            });
            let taken = "certificate already has a replacement order";
            if way == "taken once" {
                let again = on_replacements(&site).always();
                wire.inject(again.problem(409, "alreadyReplaced", taken));
            }

            let mut pass = site.pass_with(later(ASKED_AGAIN)).await;
            assert!(site.browser_trusts(&domain).await.is_ok(), "{way}");
            if pass.outcome("shop") != "renewed" {
                assert_eq!(pass.outcome("shop"), "failed", "{way}: {:#}", pass.report());
                assert_eq!(
                    pass.certificate("shop")["problem"]["retry"],
                    "soon",
                    "{way}"
                );
                pass = site.pass_with(later(ASKED_AGAIN + 2 * MINUTE)).await;
            }

            assert_eq!(
                pass.outcome("shop"),
                "renewed",
                "{way}: {:#}",
                pass.report()
            );
            assert_serves(&site, &domain, &pass).await;
            assert_eq!(evidence::issued(&cloud, &site), 2, "{way}");
            assert!(
                evidence::asked(&cloud, &site, NEW_ORDER).len() <= 4,
                "{way}"
            );
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        }) as Run
    });
    in_parallel(4, runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_stumbles_over_replacements_is_asked_without() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;
    suggest_early(&cloud, &leaf).await;
    let stumbles = on_replacements(&site).always();
    let words = "could not find an order for the given certificate";
    let stumbles = stumbles.problem(500, "serverInternal", words);
    cloud.to_acme().inject(stumbles);

    let mut outcomes = Vec::new();
    for waited in [0, 2, 13, 115] {
        let pass = site.pass_with(later(ASKED_AGAIN + waited * MINUTE)).await;
        outcomes.push(pass.outcome("shop").to_owned());
        assert!(site.browser_trusts(&domain).await.is_ok());
        if pass.outcome("shop") == "renewed" {
            break;
        }
    }

    assert_eq!(outcomes.last().unwrap(), "renewed", "{outcomes:?}");
    evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_shares_a_name_and_the_directory() {
    let cloud = steady().await;
    let (site, domain, leaf) = issued(&cloud, "shop").await;

    // More names, one of them the same.
    site.want("shop", &[&domain, "more.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let second = assert_serves(&site, &domain, &pass).await;
    // No name is the same.
    site.want("shop", &["other.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_serves(&site, "other.example.com", &pass).await;
    let replaced = replacing(&cloud, &site);
    assert_eq!(
        replaced,
        [Value::Null, json!(leaf.identifier()), Value::Null]
    );
    assert_ne!(second.serial, leaf.serial);

    // Another directory does not know the old certificate: Pebble's own address instead of the
    // proxy's.
    let mut settings = site.settings();
    let directory = cloud.directory().replacen(".2:", ".3:", 1);
    settings["authorities"]["pebble"]["directory"] = json!(directory);
    site.put_settings(&settings).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_serves(&site, "other.example.com", &pass).await;
    let said = cloud.pebble().output();
    let replacements = said
        .iter()
        .filter(|line| line.contains("is a replacement of"));
    assert_eq!(replacements.count(), 1);
    assert_eq!(evidence::granted(&cloud, &site, FINALIZE), 3);
}
