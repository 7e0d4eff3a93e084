//! The event `check`: each verdict once true and once false, and what a pass finds ahead of time.

use std::net::IpAddr;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, FixedResponseActionConfig, RedirectActionConfig,
    RedirectActionStatusCodeEnum, RuleCondition, RulePriorityPair, TargetTypeEnum,
};
use serde_json::{Value, json};
use tests::{Fault, Installation, LocalCloud};

use crate::helpers::{self, with};

const PATTERN: &str = "/.well-known/acme-challenge/*";

/// Returns settings that ask Pebble's DNS and name the authority for CAA records.
fn settings(cloud: &LocalCloud, site: &Installation) -> Value {
    let mut settings = site.settings();
    settings["dns"]["servers"] = json!([cloud.pebble().dns_server().to_string()]);
    settings["authorities"]["pebble"]["caaIdentities"] = json!(["ca.example"]);
    settings
}

/// Returns these settings without our own fetch: addresses then count as they do in production.
fn without_fetch(cloud: &LocalCloud, site: &Installation) -> Value {
    let mut settings = settings(cloud, site);
    settings["selfCheck"] = json!({"mode": "off", "connectTo": null});
    settings
}

async fn check(site: &Installation, name: &str) -> Value {
    let answer = site.invoke(&json!({"action": "check", "name": name})).await;
    answer.report().clone()
}

/// Returns the verdict and the detail of one check of one name.
#[track_caller]
fn told<'a>(answer: &'a Value, domain: &str, check: &str) -> (&'a str, &'a str) {
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    let domains = answer["domains"].as_array().into_iter().flatten();
    let found = domains
        .filter(|one| one["domain"] == domain)
        .flat_map(|one| one["checks"].as_array().into_iter().flatten())
        .find(|one| one["check"] == check)
        .unwrap_or_else(|| panic!("no {check} of {domain} in {answer:#}"));
    (text(&found["verdict"]), text(&found["detail"]))
}

#[track_caller]
fn assert_told(answer: &Value, domain: &str, check: &str, verdict: &str, said: &str) {
    let (found, detail) = told(answer, domain, check);
    assert!(
        found == verdict && detail.contains(said),
        "{domain} {check}: wanted {verdict} with {said:?}, found {found}: {detail}"
    );
}

/// Returns the ARNs of all rules of the HTTP listener but the default one.
async fn rules(cloud: &LocalCloud, site: &Installation) -> Vec<String> {
    let describe = cloud.aws().elb().describe_rules();
    let described = describe.listener_arn(&site.http_listener).send().await;
    let rules = described.unwrap().rules.unwrap_or_default().into_iter();
    rules
        .filter(|rule| rule.is_default != Some(true))
        .filter_map(|rule| rule.rule_arn)
        .collect()
}

async fn without_rules(cloud: &LocalCloud, site: &Installation) {
    for rule in rules(cloud, site).await {
        let delete = cloud.aws().elb().delete_rule();
        delete.rule_arn(rule).send().await.unwrap();
    }
}

async fn add_rule(
    cloud: &LocalCloud,
    site: &Installation,
    priority: i32,
    path: &str,
    action: Action,
) -> String {
    let condition = RuleCondition::builder().field("path-pattern").values(path);
    let create = cloud.aws().elb().create_rule();
    let create = create.listener_arn(&site.http_listener).priority(priority);
    let create = create.conditions(condition.build()).actions(action);
    let created = create.send().await.unwrap();
    created
        .rules
        .unwrap_or_default()
        .remove(0)
        .rule_arn
        .unwrap()
}

/// Returns the ARN of the challenge function's target group.
async fn group(cloud: &LocalCloud) -> String {
    let describe = cloud.aws().elb().describe_target_groups();
    let described = describe.names("shop-challenge").send().await.unwrap();
    let group = described.target_groups.unwrap_or_default().remove(0);
    group.target_group_arn.unwrap()
}

fn forward(group: &str) -> Action {
    Action::builder()
        .r#type(ActionTypeEnum::Forward)
        .target_group_arn(group)
        .build()
}

fn redirect(port: &str) -> Action {
    let config = RedirectActionConfig::builder()
        .protocol("HTTPS")
        .port(port)
        .status_code(RedirectActionStatusCodeEnum::Http301);
    Action::builder()
        .r#type(ActionTypeEnum::Redirect)
        .redirect_config(config.build())
        .build()
}

fn answer(body: &str) -> Action {
    let config = FixedResponseActionConfig::builder()
        .status_code("200")
        .content_type("text/plain")
        .message_body(body);
    Action::builder()
        .r#type(ActionTypeEnum::FixedResponse)
        .fixed_response_config(config.build())
        .build()
}

async fn caa(cloud: &LocalCloud, host: &str, tag: &str, value: &str) {
    cloud.dns().set_caa(host, &[(tag, value)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_name_leads_is_told() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&without_fetch(&cloud, &site)).await;
    // Without our own fetch these addresses are compared only: no connection is made.
    let (ours, others): (IpAddr, IpAddr) =
        ("52.0.0.7".parse().unwrap(), "52.0.0.8".parse().unwrap());
    let (ours_v6, others_v6): (IpAddr, IpAddr) = (
        "2600:1f18::7".parse().unwrap(),
        "2600:1f18::8".parse().unwrap(),
    );
    let dns = cloud.dns();
    dns.call("set-default-ipv4", json!({"ip": ""})).await;
    dns.lead_only(&site.host, &[ours, ours_v6]).await;
    let leads: [(&str, &[IpAddr]); 7] = [
        ("here", &[ours]),
        ("elsewhere", &[others]),
        ("nowhere", &[]),
        ("v6-elsewhere", &[ours, others_v6]),
        ("v6-here", &[ours, ours_v6]),
        ("v6-only", &[ours_v6]),
        ("private", &["10.0.0.7".parse().unwrap()]),
    ];
    let mut names = Vec::new();
    for (label, addresses) in leads {
        let name = format!("{label}.example.com");
        dns.lead_only(&name, addresses).await;
        names.push(name);
    }
    dns.set_cname("alias.example.com", &site.host).await;
    dns.set_servfail("broken.example.com").await;
    names.extend(["alias.example.com", "broken.example.com"].map(str::to_owned));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Put by hand: the helper would lead the names to the load balancer.
    let document = site.document(&names).to_string();
    site.put("certificates/shop.json", document).await;

    let found = check(&site, "shop").await;

    for (name, check, verdict, said) in [
        (
            "here",
            "addresses",
            "ok",
            "leads to this load balancer (52.0.0.7)",
        ),
        ("alias", "addresses", "ok", "leads to this load balancer"),
        ("elsewhere", "addresses", "warning", "52.0.0.8"),
        (
            "nowhere",
            "addresses",
            "blocked",
            "neither an A nor an AAAA record",
        ),
        ("broken", "addresses", "warning", "SERV"),
        (
            "private",
            "addresses",
            "blocked",
            "cannot be reached from the internet",
        ),
        ("v6-elsewhere", "addresses", "ok", "52.0.0.7"),
        ("v6-elsewhere", "ipv6", "warning", "authorities prefer IPv6"),
        (
            "v6-here",
            "ipv6",
            "ok",
            "leads to this load balancer (2600:1f18::7)",
        ),
        ("v6-only", "ipv6", "ok", "leads to this load balancer"),
        (
            "here",
            "rule",
            "ok",
            "leads the challenge path to a function",
        ),
    ] {
        assert_told(&found, &format!("{name}.example.com"), check, verdict, said);
    }
    assert_eq!(found["verdict"], "blocked");
    let checks = |name: &str| -> Vec<&Value> {
        let mut domains = found["domains"].as_array().into_iter().flatten();
        let domain = domains.find(|one| one["domain"] == name).unwrap();
        let checks = domain["checks"].as_array().into_iter().flatten();
        checks.map(|one| &one["check"]).collect()
    };
    assert_eq!(
        checks("here.example.com"),
        ["addresses", "rule", "webAcl", "caa"],
        "no verdict without an AAAA record, and none without a fetch"
    );
    assert_eq!(
        checks("v6-only.example.com"),
        ["ipv6", "rule", "webAcl", "caa"]
    );
    // The same, but our own fetch goes by another way: authorities may see other addresses than we
    // do.
    let settings = with(
        settings(&cloud, &site),
        "selfCheck",
        "connectTo",
        site.ports().http().to_string(),
    );
    site.put_settings(&settings).await;
    let found = check(&site, "shop").await;
    for name in ["elsewhere.example.com", "nowhere.example.com"] {
        assert_told(&found, name, "addresses", "warning", "");
        assert_told(&found, name, "fetch", "ok", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caa_records_say_is_told() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&settings(&cloud, &site)).await;
    site.want("first", &["first.example.com"]).await;
    assert_eq!(site.pass().await.outcome("first"), "issued");
    let account = site.keys("accounts/").await.remove(0);
    let account = site.read_json(&account).await["url"].clone();
    let account = account.as_str().unwrap();
    site.put_settings(&without_fetch(&cloud, &site)).await;

    let dns = cloud.dns();
    let with_account = |account: &str| format!("ca.example; accounturi={account}");
    let cases = [
        ("none", vec![], "ok"),
        ("allows", vec!["ca.example"], "ok"),
        ("among", vec!["other.example", "ca.example"], "ok"),
        ("letters", vec!["CA.example"], "warning"),
        (
            "semicolon",
            vec!["ca.example; validationmethods=http-01;"],
            "blocked",
        ),
        ("other", vec!["other.example"], "blocked"),
        ("nobody", vec![";"], "blocked"),
        (
            "method",
            vec!["ca.example; validationmethods=http-01"],
            "ok",
        ),
        (
            "other-method",
            vec!["ca.example; validationmethods=dns-01"],
            "blocked",
        ),
    ];
    let mut domains = Vec::new();
    for (label, values, _) in &cases {
        let name = format!("{label}.test.example");
        let policies: Vec<(&str, &str)> = values.iter().map(|value| ("issue", *value)).collect();
        dns.set_caa(&name, &policies).await;
        domains.push(name);
    }
    caa(&cloud, "ours.test.example", "issue", &with_account(account)).await;
    let other = format!("{account}0");
    caa(
        &cloud,
        "theirs.test.example",
        "issue",
        &with_account(&other),
    )
    .await;
    // The closest record set counts: the parent's, the alias's own, and no record set of the
    // alias's parents.
    caa(&cloud, "strict.example", "issue", "other.example").await;
    caa(&cloud, "lenient.strict.example", "issue", "ca.example").await;
    caa(&cloud, "target.example.net", "issue", "other.example").await;
    dns.set_cname("www.alias.example", "target.example.net")
        .await;
    caa(&cloud, "example.org", "issue", "other.example").await;
    dns.set_cname("www.free.example", "target.example.org")
        .await;
    dns.set_servfail("broken.example.com").await;
    domains.extend(
        [
            "ours.test.example",
            "theirs.test.example",
            "a.b.strict.example",
            "www.lenient.strict.example",
            "www.alias.example",
            "www.free.example",
            "www.broken.example.com",
            "broken.example.com",
        ]
        .map(str::to_owned),
    );
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let document = site.document(&domains);
    site.put("certificates/shop.json", document.to_string())
        .await;

    let found = check(&site, "shop").await;

    for (label, _, verdict) in &cases {
        let name = format!("{label}.test.example");
        assert_told(&found, &name, "caa", verdict, "");
    }
    for (name, verdict, said) in [
        (
            "other.test.example",
            "blocked",
            "CAA 0 issue \"ca.example\"",
        ),
        ("nobody.test.example", "blocked", "allow no authority"),
        ("other-method.test.example", "blocked", "add http-01"),
        ("ours.test.example", "ok", ""),
        ("theirs.test.example", "blocked", account),
        (
            "a.b.strict.example",
            "blocked",
            "CAA records of strict.example",
        ),
        ("www.lenient.strict.example", "ok", ""),
        (
            "www.alias.example",
            "blocked",
            "CAA records of target.example.net, which www.alias.example is an alias of,",
        ),
        (
            "www.alias.example",
            "blocked",
            "add the record target.example.net CAA 0 issue",
        ),
        ("www.free.example", "ok", ""),
        ("broken.example.com", "warning", "SERV"),
        ("www.broken.example.com", "warning", "SERV"),
    ] {
        assert_told(&found, name, "caa", verdict, said);
    }

    // The settings do not name it. Each case has its own function: a warm function remembers the
    // directory.
    for (name, told) in [
        ("unknown", Value::Null),
        ("known", json!(["other.example"])),
    ] {
        cloud.to_acme().heal();
        let directory = Fault::on("/dir").always().edit(move |response| {
            let mut directory: Value = serde_json::from_slice(&response.body).unwrap();
            directory["meta"]["caaIdentities"] = told.clone();
            response.body = directory.to_string().into_bytes();
            response
                .headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        });
        cloud.to_acme().inject(directory);
        let site = cloud.install(name).await;
        let mut settings = without_fetch(&cloud, &site);
        settings["authorities"]["pebble"]["caaIdentities"] = Value::Null;
        site.put_settings(&settings).await;
        let document = site.document(&domains).to_string();
        site.put("certificates/shop.json", document).await;
        let found = check(&site, "shop").await;
        let expected = match name {
            "unknown" => [
                ("other", "warning", "set caaIdentities"),
                ("nobody", "blocked", ""),
            ],
            _ => [
                ("other", "ok", ""),
                ("allows", "blocked", "\"other.example\""),
            ],
        };
        for (label, verdict, said) in expected {
            let name = format!("{label}.test.example");
            assert_told(&found, &name, "caa", verdict, said);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_before_the_challenge_path_is_told_with_what_repairs_it() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&settings(&cloud, &site)).await;
    let name = "shop.example.com";
    site.want("shop", &[name]).await;
    let group = group(&cloud).await;

    let found = check(&site, "shop").await;
    assert_told(
        &found,
        name,
        "rule",
        "ok",
        "leads the challenge path to a function",
    );
    assert_told(&found, name, "fetch", "ok", "exactly the right answer");
    assert_told(&found, name, "webAcl", "ok", "no web ACL");
    assert_eq!(site.keys("challenges/").await, [""; 0], "the probe is gone");

    without_rules(&cloud, &site).await;
    let found = check(&site, "shop").await;
    let create = format!(
        "aws elbv2 create-rule --region us-east-1 --listener-arn {} --priority 1 --conditions \
         'Field=path-pattern,Values={PATTERN}' --actions 'Type=forward,TargetGroupArn={group}'",
        site.http_listener
    );
    assert_told(&found, name, "rule", "blocked", &create);
    // The redirect to HTTPS is followed; connectTo leads it back to port 80.
    let followed = "https://shop.example.com/";
    assert_told(&found, name, "fetch", "warning", followed);
    assert_eq!(found["verdict"], "blocked");

    // The rule that the suggested command makes.
    add_rule(&cloud, &site, 1, PATTERN, forward(&group)).await;
    let found = check(&site, "shop").await;
    assert_told(&found, name, "rule", "ok", "");
    assert_told(&found, name, "fetch", "ok", "");

    without_rules(&cloud, &site).await;
    let other_letters = "/.well-known/ACME-challenge/*";
    let wrong = add_rule(&cloud, &site, 4, other_letters, forward(&group)).await;
    let found = check(&site, "shop").await;
    let modify = format!("aws elbv2 modify-rule --region us-east-1 --rule-arn {wrong}");
    assert_told(&found, name, "rule", "blocked", &modify);
    assert_told(&found, name, "fetch", "warning", followed);

    without_rules(&cloud, &site).await;
    add_rule(&cloud, &site, 2, "/*", redirect("443")).await;
    let ours = add_rule(&cloud, &site, 3, PATTERN, forward(&group)).await;
    let found = check(&site, "shop").await;
    let set = format!(
        "aws elbv2 set-rule-priorities --region us-east-1 --rule-priorities \
         RuleArn={ours},Priority=1"
    );
    assert_told(&found, name, "rule", "blocked", &set);
    assert_told(&found, name, "rule", "blocked", "redirects to https://");
    assert_told(&found, name, "fetch", "warning", followed);
    let pair = RulePriorityPair::builder().rule_arn(&ours).priority(1);
    let moved = cloud.aws().elb().set_rule_priorities();
    moved.rule_priorities(pair.build()).send().await.unwrap();
    let found = check(&site, "shop").await;
    assert_told(&found, name, "rule", "ok", "");
    assert_told(&found, name, "fetch", "ok", "");

    // Only the fetch can see these.
    without_rules(&cloud, &site).await;
    add_rule(&cloud, &site, 1, "/*", redirect("8443")).await;
    let found = check(&site, "shop").await;
    assert_told(
        &found,
        name,
        "fetch",
        "blocked",
        "another port than 80 and 443",
    );
    without_rules(&cloud, &site).await;
    add_rule(&cloud, &site, 1, "/*", answer("hello")).await;
    let found = check(&site, "shop").await;
    assert_told(
        &found,
        name,
        "fetch",
        "blocked",
        "answered 200 with 5 bytes",
    );
    without_rules(&cloud, &site).await;
    add_rule(&cloud, &site, 1, "/*", answer(&"a".repeat(200))).await;
    let found = check(&site, "shop").await;
    assert_told(&found, name, "fetch", "blocked", "128 bytes or more");
    assert_eq!(site.keys("challenges/").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_acl_is_told_by_name_and_what_cannot_be_told_is_said() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&settings(&cloud, &site)).await;
    let name = "shop.example.com";
    site.want("shop", &[name]).await;
    site.associate_web_acl("edge").await;

    let found = check(&site, "shop").await;
    assert_told(
        &found,
        name,
        "webAcl",
        "warning",
        "the web ACL edge is associated",
    );
    assert_eq!(found["verdict"], "warning", "{found:#}");

    // Without the permission a check cannot decide, and it says so.
    for operation in [
        "GetWebACLForResource",
        "DescribeRules",
        "DescribeTargetGroups",
        "DescribeLoadBalancers",
    ] {
        let denied = Fault::on(operation).always();
        let denied = denied.answer(match operation {
            "GetWebACLForResource" => tests::Response::new(
                400,
                r#"{"__type": "AccessDeniedException", "message": "not authorized"}"#,
            ),
            _ => tests::Response::new(
                403,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not \
                 authorized</Message></Error></ErrorResponse>",
            ),
        });
        cloud.to_aws().inject(denied);
    }
    let found = check(&site, "shop").await;
    assert_told(&found, name, "webAcl", "warning", "AccessDenied");
    assert_told(&found, name, "rule", "warning", "AccessDenied");
    assert_told(&found, name, "addresses", "warning", "AccessDenied");
    assert_told(&found, name, "fetch", "ok", "");
    assert_eq!(found["verdict"], "warning", "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_document_cannot_be_checked_and_without_a_load_balancer_less_is() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&settings(&cloud, &site)).await;
    for (name, body, kind) in [
        ("none", None, "certloop:unknownCertificate"),
        ("bad", Some("{}"), "certloop:invalidDocument"),
        ("No Name", None, "certloop:invalidDocument"),
    ] {
        if let Some(body) = body {
            site.put(&format!("certificates/{name}.json"), body).await;
        }
        let found = check(&site, name).await;
        assert_eq!(found["problem"]["type"], kind, "{found:#}");
        assert_eq!(found["verdict"], "blocked");
        assert_eq!(found["domains"], json!([]));
    }

    let document =
        json!({"domains": ["vault.example.com"], "targets": [{"type": "certificateManager"}]});
    site.put_document("vault", &document).await;
    let found = check(&site, "vault").await;
    let checks = found["domains"][0]["checks"].as_array().unwrap();
    let checks: Vec<&str> = checks
        .iter()
        .filter_map(|one| one["check"].as_str())
        .collect();
    assert_eq!(checks, ["addresses", "fetch", "caa"], "{found:#}");
    assert_eq!(found["verdict"], "ok", "{found:#}");
    let way = "by another path than an authority (selfCheck.connectTo ";
    assert_told(&found, "vault.example.com", "fetch", "ok", way);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_gone_is_a_problem_of_the_next_pass_until_it_is_back() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&settings(&cloud, &site)).await;
    let name = "shop.example.com";
    site.want("shop", &[name]).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    let quiet = site.pass().await;
    assert_eq!(quiet.outcome("shop"), "kept");
    assert_eq!(quiet.certificate("shop")["problem"], Value::Null);
    assert!(
        !quiet
            .requests
            .iter()
            .any(|sent| sent.to_string().contains("challenges/")),
        "the order has fetched today: no further fetch"
    );
    let group = group(&cloud).await;

    without_rules(&cloud, &site).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "kept");
    let problem = &pass.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:challengePath", "{problem:#}");
    assert_eq!(problem["retry"], "person");
    let detail = problem["detail"].as_str().unwrap();
    let command = format!(
        "aws elbv2 create-rule --region us-east-1 --listener-arn {}",
        site.http_listener
    );
    assert!(detail.contains(&command), "{detail}");
    assert_eq!(site.keys("challenges/").await, [""; 0]);

    // The problem remains until it is repaired, and status reports it as well.
    let again = site.pass().await;
    assert_eq!(
        again.certificate("shop")["problem"]["type"],
        "certloop:challengePath"
    );
    let status = site.invoke(&json!({"action": "status"})).await;
    assert_eq!(
        status.certificate("shop")["problem"]["type"],
        "certloop:challengePath"
    );

    add_rule(&cloud, &site, 1, PATTERN, forward(&group)).await;
    let repaired = site.pass().await;
    assert_eq!(repaired.certificate("shop")["problem"], Value::Null);

    // Some installations lead the challenge path to certloop by another way.
    without_rules(&cloud, &site).await;
    let every = Action::builder()
        .r#type(ActionTypeEnum::Forward)
        .target_group_arn(&group);
    add_rule(&cloud, &site, 9, "*", every.build()).await;
    let pass = site.pass().await;
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_port_443_behind_a_redirect_will_do_and_another_function_will_not() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&without_fetch(&cloud, &site)).await;
    site.want("shop", &["shop.example.com"]).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    let group = group(&cloud).await;

    without_rules(&cloud, &site).await;
    let pass = site.pass().await;
    let problem = &pass.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:challengePath", "{problem:#}");
    let condition = RuleCondition::builder().field("path-pattern");
    let create = cloud.aws().elb().create_rule();
    let create = create.listener_arn(&site.listener).priority(1);
    let create = create.conditions(condition.values(PATTERN).build());
    let created = create.actions(forward(&group)).send().await.unwrap();
    let pass = site.pass().await;
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
    let found = check(&site, "shop").await;
    assert_told(&found, "shop.example.com", "rule", "ok", "to a function");

    let behind = created.rules.unwrap_or_default().remove(0).rule_arn;
    let delete = cloud.aws().elb().delete_rule();
    let deleted = delete.set_rule_arn(behind).send().await;
    deleted.unwrap();
    let other = cloud.aws().elb().create_target_group().name("api");
    let other = other.target_type(TargetTypeEnum::Lambda).send().await;
    let other = other.unwrap().target_groups.unwrap_or_default().remove(0);
    let other = other.target_group_arn.unwrap();
    add_rule(&cloud, &site, 1, PATTERN, forward(&other)).await;
    let pass = site.pass().await;
    let problem = &pass.certificate("shop")["problem"];
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("forwards elsewhere (api)"), "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn caa_records_that_forbid_are_a_problem_within_a_day_and_keep_an_order_back() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.put_settings(&settings(&cloud, &site)).await;
    let name = "shop.example.com";
    site.want("shop", &[name]).await;
    assert_eq!(site.pass().await.outcome("shop"), "issued");
    caa(&cloud, "example.com", "issue", "other.example").await;

    let pass = site.pass_with(helpers::hours_later(25)).await;
    assert_eq!(pass.outcome("shop"), "kept");
    let problem = &pass.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:caaForbids", "{problem:#}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("CAA 0 issue \"ca.example\""), "{detail}");

    site.want("other", &["other.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("other"), "failed");
    let problem = &pass.certificate("other")["problem"];
    assert_eq!(problem["type"], "certloop:caaForbids", "{problem:#}");
    let ordered = pass.requests.iter().any(|sent| {
        sent.to_string().contains("order-plz") || sent.to_string().contains("new-order")
    });
    assert!(!ordered, "{:?}", pass.requests);

    cloud.dns().set_caa("example.com", &[]).await;
    let pass = site.pass_with(helpers::hours_later(27)).await;
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
    assert_eq!(pass.outcome("other"), "issued");
}
