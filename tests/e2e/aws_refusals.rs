//! AWS refusing, throttling, lagging and losing answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, Invocation, LocalCloud, Response, Sent, Service};
use tokio::task::JoinSet;

use crate::evidence::{self, MINUTE, NEW_ACCOUNT, later};

/// By now the lease of the pass that was interrupted has ended.
const AFTERWARDS: Duration = Duration::from_secs(16 * 60);

fn imports(cloud: &LocalCloud, site: &Installation) -> Vec<Sent> {
    let mut sent = cloud.to_aws().sent();
    sent.retain(|one| one.is("ImportCertificate") && one.function.as_deref() == Some(&site.renew));
    sent
}

/// Returns AWS's refusal for a missing permission, in the format of this call's service.
fn denied(call: &str) -> Response {
    let message = format!(
        "User: arn:aws:sts::123456789012:assumed-role/renew/renew is not authorized to perform: \
         {call}"
    );
    let is_s3 = ["GetObject", "PutObject", "DeleteObject", "ListObjectsV2"]
        .iter()
        .any(|operation| call.starts_with(operation));
    if is_s3 {
        let body = format!("<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>");
        return Response::new(403, body).with("Content-Type", "application/xml");
    }
    if call.contains("Listener") || call.contains("LoadBalancers") {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>\
             {message}</Message></Error></ErrorResponse>"
        );
        return Response::new(403, body).with("Content-Type", "text/xml");
    }
    let body = json!({"__type": "AccessDeniedException", "message": message});
    Response::new(400, body.to_string()).with("Content-Type", "application/x-amz-json-1.1")
}

/// A fault on the calls of one installation, while the switch is on.
fn switched(site: &Installation, call: &str, answer: Response) -> (Fault, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let (function, call) = (site.renew.clone(), call.to_owned());
    let on = switch.clone();
    let fault = Fault::when(move |sent| {
        sent.service == Service::Aws
            && sent.call.starts_with(&call)
            && sent.function.as_deref() == Some(&function)
            && on.load(Ordering::SeqCst)
    });
    (fault.always().answer(answer), switch)
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_imports_wait_their_turn() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        site.want(name, &[&format!("{name}.example.com")]).await;
    }
    // The import of the placeholder has used the first second.
    cloud.aws().options(json!({"rates": true})).await;

    let pass = site.pass().await;

    cloud.aws().options(json!({"rates": null})).await;
    assert_eq!(
        pass.report()["summary"]["issued"],
        names.len(),
        "{:#}",
        pass.report()
    );
    assert_eq!(evidence::orders(&cloud, &site), names.len());
    let imports = imports(&cloud, &site);
    let done = imports.iter().filter(|one| one.status == Some(200)).count();
    assert_eq!(done, names.len(), "{imports:#?}");
    assert!(imports.len() > done, "nothing was throttled");
    for name in names {
        let domain = format!("{name}.example.com");
        assert!(site.browser_trusts(&domain).await.is_ok(), "{name}");
        let ours = evidence::ours(&cloud, &site, name, &domain).await;
        assert_eq!(ours.len(), 1, "{name}: {ours:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_answer_is_lost_is_found_again() {
    let cloud = LocalCloud::start().await;
    let lost_answer = json!({"service": "acm", "operation": "ImportCertificate", "kind": "after",
                             "status": 500, "code": "InternalFailure"});
    let dropped = json!({"service": "acm", "operation": "ImportCertificate", "kind": "after",
                         "close": true});
    let no_list = json!({"service": "acm", "operation": "ListCertificates", "nth": 2,
                         "count": 30, "status": 400, "code": "AccessDeniedException"});
    for (number, faults) in [
        vec![lost_answer.clone()],
        vec![dropped.clone()],
        vec![lost_answer, no_list.clone()],
        vec![dropped, no_list],
    ]
    .into_iter()
    .enumerate()
    {
        let site = cloud.install(&format!("shop-{number}")).await;
        let domain = format!("shop-{number}.example.com");
        site.want("shop", &[&domain]).await;
        let blind = faults.len() > 1;
        for fault in faults {
            cloud.aws().fault(fault).await;
        }

        let pass = site.pass().await;
        if blind {
            assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
            let problem = &pass.certificate("shop")["problem"]["detail"];
            assert!(
                problem.as_str().unwrap().contains("ListCertificates"),
                "{problem}"
            );
            cloud.aws().admin("DELETE", "faults", None).await;
            let pass = site.pass_with(later(2 * MINUTE)).await;
            let outcome = pass.outcome("shop");
            assert_eq!(outcome, "deployed", "{:#}", pass.report());
        } else {
            assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
        }

        assert_eq!(imports(&cloud, &site).len(), 1, "faults {number}");
        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
        assert_eq!(evidence::orders(&cloud, &site), 1);
    }
}

/// Runs first issuances until one has no more writes of the state. In each run, another write of
/// the state fails.
async fn at_every_write_of_the_state(
    label: &str,
    fault: Value,
    check: impl AsyncFn(&LocalCloud, &Installation, &str, Invocation),
) {
    let cloud = LocalCloud::start().await;
    for nth in 1.. {
        let site = cloud.install(&format!("{label}-{nth}")).await;
        let domain = format!("{label}-{nth}.example.com");
        site.want("shop", &[&domain]).await;
        let mut fault = fault.clone();
        fault["service"] = "s3".into();
        fault["operation"] = "PutObject".into();
        fault["match"] = "state/".into();
        fault["nth"] = nth.into();
        cloud.aws().fault(fault).await;

        let pass = site.pass().await;
        let faults = cloud.aws().admin("GET", "faults", None).await;
        let fired = faults["faults"][0]["fired"].as_u64().unwrap_or_default();
        cloud.aws().admin("DELETE", "faults", None).await;
        check(&cloud, &site, &domain, pass).await;
        if fired == 0 {
            assert!(nth > 6, "only {nth} writes: does the fault match?");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_the_state_that_worked_without_an_answer_is_known_as_ours() {
    let fault = json!({"kind": "after", "status": 500, "code": "InternalError"});
    at_every_write_of_the_state("lost", fault, async |cloud, site, domain, pass| {
        assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
        assert_eq!(evidence::orders(cloud, site), 1);
        evidence::assert_at_rest(cloud, site, "shop", domain, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_another_write_in_flight_is_waited_out() {
    let fault = json!({"kind": "before", "count": 2, "status": 409,
                       "code": "ConditionalRequestConflict"});
    at_every_write_of_the_state("conflict", fault, async |cloud, site, domain, pass| {
        assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
        assert_eq!(evidence::orders(cloud, site), 1);
        evidence::assert_at_rest(cloud, site, "shop", domain, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_written_by_somebody_else_stops_the_pass_and_costs_no_second_certificate() {
    let fault = json!({"kind": "before", "status": 412, "code": "PreconditionFailed"});
    at_every_write_of_the_state("taken", fault, async |cloud, site, domain, pass| {
        let outcome = pass.outcome("shop");
        assert!(
            ["issued", "waiting"].contains(&outcome),
            "{:#}",
            pass.report()
        );
        if outcome == "waiting" {
            let pass = site.pass_with(later(AFTERWARDS)).await;
            let outcome = pass.outcome("shop");
            assert!(
                ["issued", "deployed", "kept"].contains(&outcome),
                "{:#}",
                pass.report()
            );
        }
        let state = site.read_json("state/shop.json").await;
        if state["lease"].is_null() {
            evidence::assert_at_rest(cloud, site, "shop", domain, 1).await;
        }
        assert_eq!(evidence::issued(cloud, site), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_yet_know_the_certificate_is_waited_for() {
    let cloud = LocalCloud::start().await;
    for (label, options) in [
        (
            "not-found",
            json!({"unknownCertificate": {"calls": 2, "code": "CertificateNotFound"}}),
        ),
        (
            "unsupported",
            json!({"unknownCertificate": {"seconds": 2, "code": "UnsupportedCertificate"}}),
        ),
        ("lagging", json!({"listenerCertificatesLagSeconds": 2})),
    ] {
        let site = cloud.install(label).await;
        cloud.aws().options(options).await;
        let domain = format!("{label}.example.com");
        site.want("shop", &[&domain]).await;

        let pass = site.pass().await;

        assert_eq!(
            pass.outcome("shop"),
            "issued",
            "{label}: {:#}",
            pass.report()
        );
        assert_eq!(pass.certificate("shop")["targets"][0]["proved"], true);
        assert_eq!(imports(&cloud, &site).len(), 1, "{label}");
        let usual = json!({"unknownCertificate": null, "listenerCertificatesLagSeconds": 0});
        cloud.aws().options(usual).await;
        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_named() {
    let cloud = Arc::new(LocalCloud::start().await);
    let calls = [
        "GetObject certificates/",
        "GetObject state/",
        "GetObject accounts/",
        "GetObject vault/",
        "PutObject state/",
        "PutObject accounts/",
        "PutObject challenges/",
        "PutObject vault/",
        "DeleteObject challenges/",
        "ListCertificates",
        "ImportCertificate",
        "DescribeListeners",
        "DescribeLoadBalancers",
        "DescribeListenerCertificates",
        "AddListenerCertificates",
    ];
    let mut runs = JoinSet::new();
    for (number, call) in calls.into_iter().enumerate() {
        let cloud = cloud.clone();
        runs.spawn(async move {
            let label = format!("denied-{number}");
            let domain = format!("{label}.example.com");
            let site = cloud.install(&label).await;
            site.want("shop", &[&domain]).await;
            let (fault, switch) = switched(&site, call, denied(call));
            cloud.to_aws().inject(fault);

            let pass = site.pass().await;
            let told = format!("{call}: {:#}", pass.report());
            assert_eq!(pass.outcome("shop"), "failed", "{told}");
            let problem = &pass.certificate("shop")["problem"];
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(problem["retry"], "person", "{told}");
            let operation = call.split(' ').next().unwrap();
            assert!(detail.contains(operation), "{told}");
            assert!(detail.contains("AccessDenied"), "{told}");
            assert!(detail.contains("permission"), "{told}");
            assert_eq!(pass.metrics()[0]["NeedsPerson"], 1, "{told}");

            switch.store(false, Ordering::SeqCst);
            let pass = site.pass_with(later(AFTERWARDS)).await;
            let outcome = pass.outcome("shop");
            let told = format!("{call}: {:#}", pass.report());
            assert!(["issued", "deployed"].contains(&outcome), "{told}");
            evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
            assert_eq!(evidence::orders(&cloud, &site), 1, "{call}");
            assert_eq!(evidence::issued(&cloud, &site), 1, "{call}");
        });
        if runs.len() >= 5
            && let Some(done) = runs.join_next().await
        {
            done.unwrap();
        }
    }
    runs.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_or_a_listing_that_cannot_be_read_are_an_error_of_the_invocation() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    for call in ["GetObject settings.json", "ListObjectsV2"] {
        let (fault, switch) = switched(&site, call, denied(call));
        cloud.to_aws().inject(fault);
        let pass = site.pass().await;
        let error = pass.result.clone().unwrap_err();
        assert_eq!(error.error_type, "certloop.CannotRun", "{error}");
        assert!(error.message.contains("AccessDenied"), "{error}");
        assert!(error.message.contains("permission"), "{error}");
        assert_eq!(evidence::writes(&pass), Vec::<String>::new());
        switch.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_never_taken_for_absent() {
    let cloud = LocalCloud::start().await;
    let server_error = Response::new(
        500,
        "<Error><Code>InternalError</Code><Message>We encountered an internal \
         error.</Message></Error>",
    );
    // The certificate exists. A record that cannot be read must not cause another order.
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let state = site.read("state/shop.json").await;
    let plain = json!({"action": "reconcile"});
    let forced = json!({"action": "reconcile", "force": true});
    for (answer, events) in [
        (denied("GetObject"), vec![&plain, &forced]),
        (server_error.clone(), vec![&forced]),
    ] {
        let (fault, switch) = switched(&site, "GetObject state/", answer);
        cloud.to_aws().inject(fault);
        for event in events {
            let pass = site.invoke(event).await;
            assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
            let detail = &pass.certificate("shop")["problem"]["detail"];
            assert!(detail.as_str().unwrap().contains("state/shop.json"));
            assert_eq!(evidence::writes(&pass), Vec::<String>::new());
        }
        switch.store(false, Ordering::SeqCst);
    }
    assert_eq!(site.read("state/shop.json").await, state);
    assert_eq!(evidence::orders(&cloud, &site), 1);

    // Nor another account.
    let accounts = site.keys("accounts/").await;
    let account = site.read(&accounts[0]).await;
    site.want("blog", &["blog.example.com"]).await;
    for answer in [denied("GetObject"), server_error] {
        let (fault, switch) = switched(&site, "GetObject accounts/", answer);
        cloud.to_aws().inject(fault);
        let forced = json!({"action": "reconcile", "force": true, "certificates": ["blog"]});
        let pass = site.invoke(&forced).await;
        assert_eq!(pass.outcome("blog"), "failed", "{:#}", pass.report());
        let put = pass.count(|one| one.call.starts_with("PutObject accounts/"));
        assert_eq!(put, 0);
        switch.store(false, Ordering::SeqCst);
    }
    assert_eq!(evidence::asked(&cloud, &site, NEW_ACCOUNT).len(), 1);
    assert_eq!(site.keys("accounts/").await, accounts);
    assert_eq!(site.read(&accounts[0]).await, account);
    let forced = json!({"action": "reconcile", "force": true, "certificates": ["blog"]});
    let pass = site.invoke(&forced).await;
    assert_eq!(pass.outcome("blog"), "issued", "{:#}", pass.report());
}
