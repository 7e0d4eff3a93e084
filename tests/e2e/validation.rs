//! Names that cannot be validated, and our own look before the authority's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tests::{Function, Installation, Invocation, LocalCloud, Sent, Service};

use crate::evidence::{self, CHALLENGE, DAY, MINUTE, instant, later};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn acme(sent: &Sent) -> bool {
    sent.service == Service::Acme
}

/// Returns an address where nothing listens.
pub(crate) fn nowhere(site: &Installation) -> IpAddr {
    let IpAddr::V4(address) = site.ports().address() else {
        panic!("not an IPv4 network")
    };
    let [a, b, c, _] = address.octets();
    IpAddr::from([a, b, c, 250])
}

/// Lets a name lead to this address and nowhere else.
async fn repoint(cloud: &LocalCloud, name: &str, address: IpAddr) {
    cloud.pebble().dns("clear-a", json!({"host": name})).await;
    cloud.pebble().point(name, address).await;
}

const CHALLENGES: &str = "/.well-known/acme-challenge/*";

/// Lets challenges lead to a function that does not know them, as a rule above ours would do.
pub(crate) async fn misroute_challenges(cloud: &LocalCloud, site: &Installation) {
    let elb = cloud.aws().elb();
    let rules = elb.describe_rules().listener_arn(&site.http_listener);
    let rules = rules.send().await.unwrap().rules.unwrap_or_default();
    for rule in rules {
        if rule.priority.as_deref() == Some("1") {
            let arn = rule.rule_arn.unwrap_or_default();
            elb.delete_rule().rule_arn(arn).send().await.unwrap();
        }
    }
    let elsewhere = Function::new("elsewhere", "hello", Duration::from_secs(5));
    cloud.lambda().deploy(elsewhere);
    site.route(2, CHALLENGES, "elsewhere", false).await;
}

/// Lets challenges lead to the challenge function again.
pub(crate) async fn route_challenges_rightly(site: &Installation) {
    site.route(1, CHALLENGES, &site.challenge, false).await;
}

fn history(state: &serde_json::Value) -> Vec<String> {
    let steps = state["history"].as_array().into_iter().flatten();
    steps
        .map(|step| format!("{}: {}", step["step"], step["detail"]))
        .collect()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_fails_is_told_held_and_tried_again_ever_more_rarely() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("good", &["good.example.com"]).await;
    site.want("bad", &["fine.example.com", "lost.example.com"])
        .await;
    repoint(&cloud, "lost.example.com", nowhere(&site)).await;

    // Ladder: 1, 10 and 100 minutes, then daily; up to a tenth earlier.
    let moments = [
        Duration::ZERO,
        2 * MINUTE,
        15 * MINUTE,
        3 * HOUR,
        2 * DAY,
        4 * DAY,
    ];
    let waits = [MINUTE, 10 * MINUTE, 100 * MINUTE, DAY, DAY, DAY];
    for (attempt, (moment, wait)) in moments.into_iter().zip(waits).enumerate() {
        let pass = site.pass_with(later(moment)).await;
        assert_ne!(pass.outcome("good"), "failed", "{:#}", pass.report());
        let connection = "urn:ietf:params:acme:error:connection";
        assert_problem(&pass, "bad", connection, &["lost.example.com"]);
        let detail = pass.certificate("bad")["problem"]["detail"].to_string();
        assert!(!detail.contains("fine.example.com"), "{detail}");
        assert!(site.keys("challenges/").await.is_empty());

        let state = site.read_json("state/bad.json").await;
        assert!(state["order"].is_null(), "{state:#}");
        let failure = &state["orderFailure"];
        assert_eq!(failure["attempts"], attempt + 1, "{failure:#}");
        assert_eq!(failure["identifiers"], json!(["lost.example.com"]));
        let next = instant(&pass.certificate("bad")["nextAttempt"]);
        let waited = (next - instant(&failure["at"])).as_seconds_f64();
        let wait = wait.as_secs_f64();
        assert!(
            (wait * 0.9 - 2.0..=wait + 2.0).contains(&waited),
            "attempt {attempt}: {waited} s instead of {wait} s"
        );

        let early = site.pass_with(later(moment)).await;
        assert_eq!(early.outcome("bad"), "waiting", "{:#}", early.report());
        let told = early.certificate("bad");
        assert_eq!(instant(&told["nextAttempt"]), next, "{told:#}");
        assert_eq!(told["problem"]["type"], connection, "{told:#}");
        assert_eq!(early.count(acme), 0, "{:#}", early.report());
    }
    assert!(site.browser_trusts("good.example.com").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_name_is_issued_at_the_next_attempt_and_a_dropped_one_holds_nobody() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    for name in ["repaired", "dropped"] {
        let lost = format!("lost-{name}.example.com");
        site.want(name, &[&format!("{name}.example.com"), &lost])
            .await;
        repoint(&cloud, &lost, nowhere(&site)).await;
    }
    let pass = site.pass().await;
    assert_eq!(pass.report()["summary"]["failed"], 2, "{:#}", pass.report());

    // Another document with the same bad name: the authority's answer about it still applies.
    site.want("dropped", &["lost-dropped.example.com", "more.example.com"])
        .await;
    repoint(&cloud, "lost-dropped.example.com", nowhere(&site)).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("dropped"), "waiting", "{:#}", pass.report());
    assert_eq!(pass.count(acme), 0, "{:#}", pass.report());

    // Without the bad name there is no wait.
    site.want("dropped", &["dropped.example.com"]).await;
    repoint(&cloud, "lost-repaired.example.com", site.ports().address()).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("dropped"), "issued", "{:#}", pass.report());
    assert_eq!(pass.outcome("repaired"), "waiting", "{:#}", pass.report());

    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("repaired"), "issued", "{:#}", pass.report());
    let leaf = site.browser_trusts("lost-repaired.example.com").await;
    assert_eq!(leaf.unwrap().names.len(), 2);
    let state = site.read_json("state/repaired.json").await;
    assert!(state["orderFailure"].is_null(), "{state:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_fetch_comes_before_the_authoritys() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com", "www.example.com"])
        .await;

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let visits = site.ports().visits();
    let agents = visits.iter().filter(|visit| visit.port == 80);
    let agents: Vec<&str> = agents.map(|visit| visit.agent.as_str()).collect();
    assert_eq!(agents[..2], ["certloop", "certloop"], "{visits:#?}");
    assert!(agents.len() > 3, "{visits:#?}");
    assert!(!agents[2..].contains(&"certloop"), "{visits:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_to_our_own_fetch_blocks_the_challenge() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    misroute_challenges(&cloud, &site).await;

    for (attempt, moment) in [Duration::ZERO, 2 * MINUTE, 15 * MINUTE]
        .into_iter()
        .enumerate()
    {
        let pass = site.pass_with(later(moment)).await;
        let words = ["shop.example.com", "port-80 rule"];
        assert_problem(&pass, "shop", "certloop:selfCheck", &words);
        assert!(!pass.report().to_string().contains("httpMethod"));
        assert_eq!(evidence::asked(&cloud, &site, CHALLENGE).len(), 0);
        // The challenge stays for the next attempt: the authorization is not final.
        assert_eq!(site.keys("challenges/").await.len(), 1, "{attempt}");
    }
    // Only our own fetch has been there.
    let visits = site.ports().visits();
    assert!(
        visits.iter().all(|one| one.agent == "certloop"),
        "{visits:#?}"
    );

    route_challenges_rightly(&site).await;
    let pass = site.pass_with(later(3 * HOUR)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(evidence::orders(&cloud, &site), 1, "the order was kept");
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn not_getting_through_ourselves_blocks_one_step_only() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let mut settings = site.settings();
    let closed = SocketAddr::new(nowhere(&site), 80).to_string();
    settings["selfCheck"]["connectTo"] = closed.into();
    site.put_settings(&settings).await;

    let pass = site.pass().await;
    let words = ["shop.example.com", "could not connect"];
    assert_problem(&pass, "shop", "certloop:selfCheckUnreachable", &words);
    assert_eq!(evidence::asked(&cloud, &site, CHALLENGE).len(), 0);
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "waiting", "{:#}", pass.report());

    let pass = site.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(evidence::granted(&cloud, &site, CHALLENGE), 1);
    assert_eq!(evidence::orders(&cloud, &site), 1);
    assert!(site.keys("challenges/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_check_that_warns_goes_on_and_one_that_is_off_does_not_look() {
    let cloud = LocalCloud::start().await;
    for mode in ["warn", "off"] {
        let site = cloud.install(mode).await;
        let domain = format!("{mode}.example.com");
        site.want("shop", &[&domain]).await;
        let mut settings = site.settings();
        let closed = SocketAddr::new(nowhere(&site), 80).to_string();
        settings["selfCheck"] = json!({"mode": mode, "connectTo": closed});
        site.put_settings(&settings).await;

        let pass = site.pass().await;

        assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
        let state = site.read_json("state/shop.json").await;
        let history = history(&state).join("\n");
        let warned = history.contains("could not connect");
        assert_eq!(warned, mode == "warn", "{history}");
        assert!(site.browser_trusts(&domain).await.is_ok());
    }

    // Without our own look the authority is the first to see a wrong rule.
    let site = cloud.install("misrouted").await;
    site.want("shop", &["misrouted.example.com"]).await;
    let mut settings = site.settings();
    settings["selfCheck"]["mode"] = "off".into();
    site.put_settings(&settings).await;
    misroute_challenges(&cloud, &site).await;
    let pass = site.pass().await;
    let unauthorized = "urn:ietf:params:acme:error:unauthorized";
    assert_problem(&pass, "shop", unauthorized, &["misrouted.example.com"]);
    assert!(site.keys("challenges/").await.is_empty());
    let visits = site.ports().visits();
    assert!(
        visits.iter().all(|one| one.agent != "certloop"),
        "{visits:#?}"
    );
}
