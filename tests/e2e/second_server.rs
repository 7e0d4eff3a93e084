//! A real server that is no relative of Pebble issues, renews and revokes (acme2certifier,
//! `tests/acme2certifier/README.md`).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Acme2certifier, Installation, Invocation, LocalCloud, Moment, Plan, Sent, tls};
use x509_parser::parse_x509_certificate;

use crate::evidence::{self, DAY, MINUTE, later};
use crate::interruption::passes_afterwards;
use crate::validation::{misroute_challenges, nowhere, route_challenges_rightly};

const NEW_ACCOUNT: &str = "/acme/newaccount";
const NEW_ORDER: &str = "/acme/neworders";
const DOMAIN: &str = "shop.example.com";

/// A cloud with such a server.
struct Second {
    cloud: LocalCloud,
    server: Acme2certifier,
}

impl Second {
    async fn start() -> Self {
        let cloud = LocalCloud::start().await;
        let server = cloud.acme2certifier().await;
        Self { cloud, server }
    }

    /// Installs certloop, which knows no other authority, with the document `shop`.
    async fn install(&self, label: &str) -> Installation {
        let mut site = self.cloud.install(label).await;
        site.roots = self.server.roots().to_owned();
        let mut settings = site.settings();
        settings["authorities"] = json!({"second": self.server.settings()});
        settings["defaults"] = json!({"authority": "second"});
        site.put_settings(&settings).await;
        site
    }

    /// Returns the requests of an installation to a path of the server.
    fn asked(&self, site: &Installation, path: &str) -> Vec<Sent> {
        evidence::asked_by(self.server.wire(), site, path)
    }

    /// Counts the orders that the server made.
    fn orders(&self, site: &Installation) -> usize {
        let asked = self.asked(site, NEW_ORDER).into_iter();
        asked.filter(|sent| sent.status == Some(201)).count()
    }
}

/// What a failed assertion says of a pass.
fn told(pass: &Invocation) -> String {
    let requests: Vec<String> = pass.requests.iter().map(ToString::to_string).collect();
    let result = match &pass.result {
        Ok(report) => format!("{report:#}"),
        Err(error) => error.to_string(),
    };
    format!("{result}\n{}", requests.join("\n"))
}

/// Returns the subjects of the chain in the vault.
async fn chain(site: &Installation, serial: &Value) -> Vec<String> {
    let entry = format!("vault/shop/{}.json", serial.as_str().unwrap());
    let entry = site.read_json(&entry).await;
    let chain = tls::certificates(entry["chain"].as_str().unwrap());
    let subject = |der: &_| {
        let (_, certificate) = parse_x509_certificate(der).unwrap();
        certificate.subject().to_string()
    };
    chain.iter().map(|der| subject(&der[..])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_issues_and_each_renewal_is_one_order() {
    if Acme2certifier::is_missing("it_issues_and_each_renewal_is_one_order") {
        return;
    }
    let second = Second::start().await;
    let site = second.install("shop").await;
    site.want("shop", &[DOMAIN]).await;

    let issued = site.pass().await;

    assert_eq!(issued.outcome("shop"), "issued", "{}", told(&issued));
    let registrations = second.asked(&site, NEW_ACCOUNT);
    let contact = &registrations[0].payload["contact"];
    assert_eq!(contact, &json!(["mailto:ops@example.com"]));
    assert_eq!(second.orders(&site), 1, "{}", told(&issued));
    let first = site.browser_trusts(DOMAIN).await.unwrap();
    // The server sends its root too.
    let subjects = chain(&site, &issued.certificate("shop")["serial"]).await;
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert_eq!(subjects[1], "CN=second intermediate", "{subjects:?}");
    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{}", told(&kept));

    let operator = second.cloud.operator(&site).await;
    let forced = operator
        .run(&["renew", "shop", "--force", "--reissue"])
        .await;

    assert!(forced.out.starts_with("shop  renewed"), "{forced:?}");
    let leaf = site.browser_trusts(DOMAIN).await.unwrap();
    assert_ne!(leaf.serial, first.serial);
    let orders = second.asked(&site, NEW_ORDER);
    assert_eq!(second.orders(&site), 2, "{orders:#?}");
    // The server has renewal information, but does not know `replaces`.
    assert!(orders[1].payload["replaces"].is_string(), "{orders:#?}");

    let renewed = site.pass_with(later(DUE)).await;

    assert_eq!(renewed.outcome("shop"), "renewed", "{}", told(&renewed));
    assert_eq!(second.orders(&site), 3, "{}", told(&renewed));
    let state = site.read_json("state/shop.json").await;
    assert!(state["order"].is_null(), "{state:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_revokes_and_the_certificate_is_replaced() {
    if Acme2certifier::is_missing("it_revokes_and_the_certificate_is_replaced") {
        return;
    }
    let second = Second::start().await;
    let site = second.install("shop").await;
    site.want("shop", &[DOMAIN]).await;
    let issued = site.pass().await;
    assert_eq!(issued.outcome("shop"), "issued", "{}", told(&issued));
    let leaf = site.browser_trusts(DOMAIN).await.unwrap();
    assert!(!second.server.has_revoked(&leaf.serial));

    let event = json!({"action": "revoke", "name": "shop", "reason": "keyCompromise"});
    let pass = site.invoke(&event).await;

    assert_eq!(pass.outcome("shop"), "renewed", "{}", told(&pass));
    assert!(second.server.has_revoked(&leaf.serial), "{}", told(&pass));
    let new = site.browser_trusts(DOMAIN).await.unwrap();
    assert_ne!(new.serial, leaf.serial);
    assert!(!second.server.has_revoked(&new.serial));
    assert_eq!(second.orders(&site), 2, "{}", told(&pass));
    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{}", told(&kept));
}

/// Where an invocation dies, and the orders that the server has made in the end.
const DEATHS: [(&str, Moment, usize); 7] = [
    ("POST /acme/newaccount", Moment::After, 1),
    ("POST /acme/neworders", Moment::Before, 1),
    // Nobody knows the first one: its URL was in the answer.
    ("POST /acme/neworders", Moment::After, 2),
    ("POST /acme/chall/", Moment::After, 1),
    // Before the CSR, and after it.
    ("PutObject vault/shop/pending.json", Moment::After, 1),
    ("POST /acme/cert/", Moment::Before, 1),
    ("POST /acme/cert/", Moment::After, 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_death_during_an_issuance_recovers() {
    if Acme2certifier::is_missing("a_death_during_an_issuance_recovers") {
        return;
    }
    let second = Second::start().await;
    for (number, (request, moment, orders)) in DEATHS.into_iter().enumerate() {
        let site = second.install(&format!("death-{number}")).await;
        let domain = format!("death-{number}.example.com");
        site.want("shop", &[&domain]).await;

        let died = site
            .pass_with(Plan::default().killed_on(request, moment))
            .await;

        let context = format!("{moment:?} {request}: {}", told(&died));
        assert!(died.result.is_err(), "{context}");
        passes_afterwards(&site, "shop", &context).await;
        evidence::assert_at_rest(&second.cloud, &site, "shop", &domain, 1).await;
        assert_eq!(second.orders(&site), orders, "{context}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_challenge_ends_the_order_at_once_though_it_pends() {
    if Acme2certifier::is_missing("a_failed_challenge_ends_the_order_at_once_though_it_pends") {
        return;
    }
    let second = Second::start().await;
    // The name leads to nobody; or to somebody else, who answers wrongly.
    for (label, is_answered) in [("unanswered", false), ("wrong", true)] {
        let site = second.install(label).await;
        let domain = format!("{label}.example.com");
        site.want("shop", &[&domain]).await;
        match is_answered {
            false => {
                second
                    .cloud
                    .dns()
                    .lead_only(&domain, &[nowhere(&site)])
                    .await
            }
            true => {
                let mut settings = site.read_json("settings.json").await;
                settings["selfCheck"]["mode"] = json!("off");
                site.put_settings(&settings).await;
                misroute_challenges(&second.cloud, &site).await;
            }
        }

        let began = Instant::now();
        let failed = site.pass().await;

        let context = format!("{label}: {:?}, {}", began.elapsed(), told(&failed));
        assert_eq!(failed.outcome("shop"), "failed", "{context}");
        let detail = failed.certificate("shop")["problem"]["detail"].to_string();
        assert!(detail.contains(&domain), "{context}");
        assert!(failed.duration < AT_ONCE, "{context}");
        let state = site.read_json("state/shop.json").await;
        assert!(state["order"].is_null(), "{state:#}");
        assert_eq!(second.orders(&site), 1, "{context}");
        // Nothing is asked before the next attempt.
        let early = site.pass().await;
        assert_eq!(early.outcome("shop"), "waiting", "{}", told(&early));
        assert_eq!(early.count(crate::helpers::acme), 0, "{}", told(&early));
        let again = site.pass_with(later(2 * MINUTE)).await;
        assert_eq!(again.outcome("shop"), "failed", "{}", told(&again));
        assert_eq!(second.orders(&site), 2, "{}", told(&again));

        match is_answered {
            false => {
                let here = [site.ports().address()];
                second.cloud.dns().lead_only(&domain, &here).await;
            }
            true => route_challenges_rightly(&site).await,
        }
        let issued = site.pass_with(later(DAY)).await;
        assert_eq!(issued.outcome("shop"), "issued", "{}", told(&issued));
        assert_eq!(second.orders(&site), 3, "{}", told(&issued));
    }
}

/// The server suggests any instant in the last 15% of the 90 days; certloop renews while a
/// twentieth is left.
const DUE: Duration = Duration::from_secs(86 * 24 * 60 * 60);
/// A pass that ends at once has not waited for an order.
const AT_ONCE: Duration = Duration::from_secs(15);
