//! Listeners that a document names by load balancer and port: certloop makes them with the first
//! real certificate.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Fault, Installation, LocalCloud, Moment, Response, Sent};

use crate::evidence::{self, later};
use crate::helpers::{acme, arn, delete_certificate, two_minutes_later};

const POLICY: &str = "ELBSecurityPolicy-TLS13-1-2-2021-06";

/// Deletes the HTTPS listener: the load balancer is like a new one that has no certificate yet.
async fn without_listener(cloud: &LocalCloud, site: &Installation) {
    delete_listener(cloud, &site.listener).await;
    delete_certificate(cloud, &site.placeholder).await;
}

async fn delete_listener(cloud: &LocalCloud, listener: &str) {
    let delete = cloud.aws().elb().delete_listener().listener_arn(listener);
    delete.send().await.unwrap();
}

async fn target_group(cloud: &LocalCloud, site: &Installation) -> String {
    let describe = cloud.aws().elb().describe_target_groups();
    let described = describe.load_balancer_arn(&site.balancer).send().await;
    let group = described.unwrap().target_groups.unwrap_or_default();
    group[0].target_group_arn.clone().unwrap()
}

async fn document(cloud: &LocalCloud, site: &Installation, domains: &[&str]) -> Value {
    json!({
        "domains": domains,
        "targets": [{
            "type": "listener", "loadBalancer": site.balancer,
            "forward": target_group(cloud, site).await, "tlsPolicy": POLICY,
        }],
    })
}

/// Returns the load balancer's listeners by port.
async fn listeners(cloud: &LocalCloud, site: &Installation, port: i32) -> Vec<String> {
    let describe = cloud.aws().elb().describe_listeners();
    let described = describe.load_balancer_arn(&site.balancer).send().await;
    let listeners = described.unwrap().listeners.unwrap_or_default().into_iter();
    listeners
        .filter(|listener| listener.port == Some(port))
        .map(|listener| listener.listener_arn.unwrap())
        .collect()
}

fn target(pass: &tests::Invocation, name: &str) -> Value {
    pass.certificate(name)["targets"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_listener_has_a_policy_of_today() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let mut wanted = document(&cloud, &site, &["shop.example.com"]).await;
    wanted["targets"][0]["tlsPolicy"].take();
    site.put_document("shop", &wanted).await;
    // The newest policy may be missing in a partition.
    let missing =
        |sent: &Sent| sent.is("CreateListener") && sent.payload.to_string().contains("-PQ-");
    let refusal = "<ErrorResponse><Error><Code>SSLPolicyNotFound</Code><Message>not found\
                   </Message></Error></ErrorResponse>";
    let refused = Response::new(400, refusal);
    cloud.to_aws().inject(Fault::when(missing).answer(refused));
    let policy = async |site: &Installation| {
        let listener = &listeners(&cloud, site, 443).await[0];
        let describe = cloud.aws().elb().describe_listeners();
        let described = describe.listener_arns(listener).send().await.unwrap();
        described.listeners()[0].ssl_policy().unwrap().to_owned()
    };

    assert_eq!(site.pass().await.outcome("shop"), "issued");
    assert_eq!(
        policy(&site).await,
        "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    );

    let other = cloud.install("other").await;
    without_listener(&cloud, &other).await;
    let mut wanted = document(&cloud, &other, &["other.example.com"]).await;
    wanted["targets"][0]["tlsPolicy"].take();
    other.put_document("other", &wanted).await;
    assert_eq!(other.pass().await.outcome("other"), "issued");
    let recommended = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09";
    assert_eq!(policy(&other).await, recommended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_born_with_the_first_real_certificate() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    assert!(site.browser_trusts("shop.example.com").await.is_err());
    let wanted = document(&cloud, &site, &["shop.example.com"]).await;
    site.put_document("shop", &wanted).await;
    let before = site.invoke(&json!({"action": "status"})).await;
    let standing = &before.report()["certificates"][0]["targets"][0];
    assert_eq!(
        (&standing["state"], &standing["arn"]),
        (&json!("pending"), &Value::Null)
    );

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let made = listeners(&cloud, &site, 443).await;
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(target(&pass, "shop")["arn"], json!(made[0]));
    assert_eq!(target(&pass, "shop")["state"], "attached");
    assert_eq!(target(&pass, "shop")["proved"], true);
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
    let ours = arn(&pass, "shop");
    assert_eq!(site.listed_at(&made[0]).await.default, ours);

    let describe = cloud
        .aws()
        .elb()
        .describe_listeners()
        .listener_arns(&made[0]);
    let listener = describe.send().await.unwrap().listeners.unwrap().remove(0);
    assert_eq!(listener.ssl_policy.as_deref(), Some(POLICY));
    let action = &listener.default_actions.unwrap()[0];
    let group = target_group(&cloud, &site).await;
    assert_eq!(action.target_group_arn.as_deref(), Some(&*group));
    let describe = cloud.aws().elb().describe_tags().resource_arns(&made[0]);
    let tags = describe.send().await.unwrap().tag_descriptions.unwrap();
    let tags = tags[0].tags.clone().unwrap_or_default().into_iter();
    let mut tags: Vec<_> = tags
        .map(|tag| (tag.key.unwrap(), tag.value.unwrap()))
        .collect();
    tags.sort();
    assert_eq!(
        tags,
        [
            ("certloop:certificate".to_owned(), "shop".to_owned()),
            ("certloop:installation".to_owned(), site.bucket.clone()),
        ]
    );

    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert!(evidence::writes(&kept).is_empty());

    // A switch to another ARN also changes the default.
    let mut wanted = wanted;
    wanted["keyType"] = json!("rsa-2048");
    site.put_document("shop", &wanted).await;
    let switched = site.pass().await;
    assert_eq!(
        switched.outcome("shop"),
        "renewed",
        "{:#}",
        switched.report()
    );
    assert_ne!(arn(&switched, "shop"), ours);
    assert_eq!(
        site.listed_at(&made[0]).await.default,
        arn(&switched, "shop")
    );
    assert_eq!(listeners(&cloud, &site, 443).await, made);
    assert_eq!(site.pass().await.outcome("shop"), "kept");
    assert_eq!(site.imported().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_there_only_gets_the_certificate() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    let wanted = document(&cloud, &site, &["shop.example.com"]).await;
    site.put_document("shop", &wanted).await;

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pass.count(|sent| sent.is("CreateListener")), 0);
    assert_eq!(pass.count(|sent| sent.is("ModifyListener")), 0);
    assert_eq!(target(&pass, "shop")["arn"], json!(site.listener));
    let listed = site.listed().await;
    assert_eq!(listed.default, site.placeholder);
    assert!(listed.sni.contains(&arn(&pass, "shop")));

    // The same listener, named by its ARN: only the record changes.
    site.want("shop", &["shop.example.com"]).await;
    let by_arn = site.pass().await;
    assert_eq!(by_arn.outcome("shop"), "kept", "{:#}", by_arn.report());
    assert_eq!(site.listed().await, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_certificates_may_wait_for_the_same_listener() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let names = ["one", "two", "three"];
    for name in names {
        let domain = format!("{name}.example.com");
        let wanted = document(&cloud, &site, &[&domain]).await;
        site.put_document(name, &wanted).await;
    }

    let pass = site.pass().await;

    for name in names {
        assert_eq!(pass.outcome(name), "issued", "{:#}", pass.report());
        let trusted = site.browser_trusts(&format!("{name}.example.com")).await;
        assert!(trusted.is_ok(), "{name}: {trusted:?}");
    }
    assert_eq!(listeners(&cloud, &site, 443).await.len(), 1);
    let kept = site.pass().await;
    for name in names {
        assert_eq!(kept.outcome(name), "kept", "{:#}", kept.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_the_listener_first_the_certificate_comes_onto_it() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let wanted = document(&cloud, &site, &["shop.example.com"]).await;
    site.put_document("shop", &wanted).await;
    // The listener exists when the answer comes: another person made it, or our own answer was
    // lost.
    let taken = "<ErrorResponse><Error><Type>Sender</Type><Code>DuplicateListener</Code>\
                 <Message>A listener already exists on this port</Message></Error></ErrorResponse>";
    let taken = Response::new(400, taken).with("Content-Type", "text/xml");
    cloud
        .to_aws()
        .inject(Fault::on("CreateListener").swallow(taken));

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let made = listeners(&cloud, &site, 443).await;
    assert_eq!(target(&pass, "shop")["arn"], json!(made[0]));
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
    assert_eq!(site.pass().await.outcome("shop"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_deleted_by_hand_is_made_again() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let wanted = document(&cloud, &site, &["shop.example.com"]).await;
    site.put_document("shop", &wanted).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    let first = listeners(&cloud, &site, 443).await.remove(0);
    delete_listener(&cloud, &first).await;

    let again = site.pass().await;

    assert_eq!(again.outcome("shop"), "deployed", "{:#}", again.report());
    assert_eq!(again.count(acme), 0);
    let second = listeners(&cloud, &site, 443).await.remove(0);
    assert_ne!(first, second);
    assert_eq!(target(&again, "shop")["arn"], json!(second));
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
    assert_eq!(site.pass().await.outcome("shop"), "kept");

    // Another port: the listener is made there. The old one is left alone, since a listener must
    // have a default.
    let mut moved = wanted.clone();
    moved["targets"][0]["port"] = json!(8443);
    site.put_settings(&{
        let mut settings = site.settings();
        settings["proof"]["mode"] = json!("off");
        settings
    })
    .await;
    site.put_document("shop", &moved).await;
    let elsewhere = site.pass().await;
    assert_eq!(
        elsewhere.outcome("shop"),
        "deployed",
        "{:#}",
        elsewhere.report()
    );
    assert_eq!(listeners(&cloud, &site, 8443).await.len(), 1);
    let reason = elsewhere.certificate("shop")["reason"].as_str().unwrap();
    assert!(reason.contains("stays the default"), "{reason}");
    assert_eq!(site.listed_at(&second).await.sni.len(), 0);
    assert_eq!(site.pass().await.outcome("shop"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_listener_from_being_made_is_said_and_orders_nothing_anew() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let good = document(&cloud, &site, &["shop.example.com"]).await;
    let elsewhere = |field: &str, text: &str| {
        let mut document = good.clone();
        document["targets"][0][field] = json!(text);
        document
    };
    let gone = site.balancer.replace("/app/shop/", "/app/gone/");
    let group = target_group(&cloud, &site).await;
    let no_group = group.replace("targetgroup/", "targetgroup/no-");
    let wrong = [
        (
            elsewhere("loadBalancer", &gone),
            "name an existing load balancer",
        ),
        (elsewhere("forward", &no_group), "name a target group"),
        (
            elsewhere("tlsPolicy", "ELBSecurityPolicy-None"),
            "describe-ssl-policies",
        ),
    ];
    for (document, remedy) in wrong {
        site.put_document("shop", &document).await;
        let pass = site.pass().await;
        assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
        let problem = &pass.certificate("shop")["problem"];
        assert_eq!(problem["type"], "certloop:listenerNotMade", "{problem:#}");
        assert_eq!(problem["retry"], "person");
        assert!(
            problem["detail"].as_str().unwrap().contains(remedy),
            "{problem:#}"
        );
        // Without a load balancer nothing is ordered. Other mistakes show only when the listener is
        // made.
        let is_ordered = !problem["detail"].as_str().unwrap().contains("app/gone");
        let state = if is_ordered { "failed" } else { "pending" };
        assert_eq!(target(&pass, "shop")["state"], state);
        assert_eq!(target(&pass, "shop")["arn"], Value::Null);
        let orders = evidence::orders(&cloud, &site);
        assert_eq!(orders, usize::from(is_ordered));
    }
    assert_eq!(evidence::issued(&cloud, &site), 1);

    // An answer is lost, and for a moment the load balancer does not know the certificate.
    cloud
        .aws()
        .options(json!({"unknownCertificate": {"calls": 2}}))
        .await;
    cloud
        .to_aws()
        .inject(Fault::on("CreateListener").after(1).hang_up());
    site.put_document("shop", &good).await;
    let pass = site.pass_with(two_minutes_later()).await;
    assert_eq!(pass.outcome("shop"), "deployed", "{:#}", pass.report());
    assert_eq!(listeners(&cloud, &site, 443).await.len(), 1);
    assert_eq!(evidence::issued(&cloud, &site), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_made_once_whatever_stops_it() {
    let cloud = Arc::new(LocalCloud::start().await);
    let mut deaths = 0;
    for moment in [Moment::Before, Moment::After] {
        let label = format!("born-{moment:?}").to_lowercase();
        let domain = format!("{label}.example.com");
        let site = cloud.install(&label).await;
        // The certificate is in the vault: only the listener is missing.
        let mut nowhere = document(&cloud, &site, &[&domain]).await;
        let targets = nowhere["targets"].take();
        nowhere["targets"] = json!([]);
        site.put_document("shop", &nowhere).await;
        assert_eq!(site.pass().await.outcome("shop"), "issued");
        nowhere["targets"] = targets;
        let wanted = nowhere;
        for request in 1..60 {
            for listener in listeners(&cloud, &site, 443).await {
                delete_listener(&cloud, &listener).await;
            }
            site.put_document("shop", &json!({"domains": [domain], "targets": []}))
                .await;
            site.pass_with(later(Duration::from_secs(16 * 60))).await;
            site.put_document("shop", &wanted).await;
            let plan = later(Duration::ZERO).killed_at(request, moment);
            let pass = site.pass_with(plan).await;
            let died = pass.result.is_err();
            let context = format!("{moment:?} request {request}: {:?}", pass.requests.last());
            let after = site.pass_with(later(Duration::from_secs(16 * 60))).await;
            let outcome = after.outcome("shop");
            assert!(
                ["deployed", "kept"].contains(&outcome),
                "{context}: {:#}",
                after.report()
            );
            assert_eq!(listeners(&cloud, &site, 443).await.len(), 1, "{context}");
            let trusted = site.browser_trusts(&domain).await;
            assert!(trusted.is_ok(), "{context}: {trusted:?}");
            if !died {
                break;
            }
            deaths += 1;
        }
        assert_eq!(evidence::issued(&cloud, &site), 1, "no new order");
    }
    assert!(deaths > 20, "only {deaths} deaths");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_served_it_stays_until_it_stands_where_it_is_wanted() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    let served = site.listed().await;
    let by_port = document(&cloud, &site, &["shop.example.com"]).await;
    let with_target = |field: &str, value: Value| {
        let mut document = by_port.clone();
        document["targets"][0][field] = value;
        document
    };

    // The listener on the port is unknown: it may be the right one.
    let silent = Response::new(503, "");
    cloud
        .to_aws()
        .inject(Fault::on("DescribeListeners").times(5).answer(silent));
    site.put_document("shop", &by_port).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    assert_eq!(site.listed().await, served);
    cloud.to_aws().heal();

    // The listener cannot be made in the new place.
    let group = target_group(&cloud, &site).await;
    let mut elsewhere = with_target("port", json!(8443));
    elsewhere["targets"][0]["forward"] = json!(group.replace("targetgroup/", "targetgroup/no-"));
    let mistyped = site.balancer.replace("/app/shop/", "/app/shap/");
    for document in [elsewhere, with_target("loadBalancer", json!(mistyped))] {
        site.put_document("shop", &document).await;
        let pass = site.pass().await;
        assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
        assert_eq!(site.listed().await, served);
        assert!(site.browser_trusts("shop.example.com").await.is_ok());
    }

    site.put_document("shop", &by_port).await;
    let healed = site.pass_with(two_minutes_later()).await;
    assert_ne!(healed.outcome("shop"), "failed", "{:#}", healed.report());
    assert_eq!(site.listed().await, served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_listener_that_does_not_answer_yet_is_looked_at_by_the_next_pass() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let warning = |connect_to: String| {
        let mut settings = site.settings();
        settings["proof"] = json!({"mode": "warn", "connectTo": connect_to, "seconds": 120});
        settings
    };
    site.put_settings(&warning("127.0.0.1:9".to_owned())).await;
    let wanted = document(&cloud, &site, &["shop.example.com"]).await;
    site.put_document("shop", &wanted).await;
    let born = site.pass().await;
    assert_eq!(born.outcome("shop"), "issued", "{:#}", born.report());
    assert_eq!(target(&born, "shop")["proved"], Value::Null);

    let https = site.ports().https().to_string();
    site.put_settings(&warning(https)).await;
    let next = site.pass().await;
    assert_eq!(target(&next, "shop")["proved"], true, "{:#}", next.report());
    assert_eq!(site.pass().await.outcome("shop"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_listener_leads_to_must_be_permitted() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    without_listener(&cloud, &site).await;
    let wanted = document(&cloud, &site, &["shop.example.com"]).await;
    let permitting = |patterns: Value| {
        let mut settings = site.settings();
        settings["permit"] = json!({"targets": patterns});
        settings
    };
    let listeners_only = json!(["arn:aws:elasticloadbalancing:*:listener/app/shop/*"]);
    site.put_settings(&permitting(listeners_only)).await;
    site.put_document("shop", &wanted).await;
    let refused = site.pass().await;
    let problem = &refused.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:invalidDocument", "{problem:#}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("targets[0].forward")
    );

    let both = json!([
        "arn:aws:elasticloadbalancing:*:listener/app/shop/*",
        target_group(&cloud, &site).await
    ]);
    site.put_settings(&permitting(both)).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
}
