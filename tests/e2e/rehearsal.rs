//! Names that were never issued are first ordered at an authority where a failure costs nothing.
//! Nothing of that is deployed.

use std::time::Duration;

use serde_json::{Value, json};
use tests::Installation;

use crate::evidence::{self, DAY, FINALIZE, MINUTE, NEW_ORDER, Rest, later};
use crate::fallback::Pair;
use crate::interruption::{passes_afterwards, survives};

/// This many requests reach well into the order after the rehearsal.
const REHEARSAL: usize = 48;

/// Installs certloop that rehearses at the second authority.
async fn rehearsing(pair: &Pair, label: &str) -> Installation {
    let site = pair.install(label).await;
    let mut settings = pair.settings(&site);
    settings["rehearse"] = "second".into();
    site.put_settings(&settings).await;
    site
}

/// Asserts that a certificate of the first authority is at rest, and that the rehearsal left
/// nothing behind.
async fn assert_at_rest(pair: &Pair, site: &Installation, domain: &str, held: usize) {
    let rest = Rest {
        accounts: 2,
        ..Rest::holding(held)
    };
    evidence::assert_rest(&pair.cloud, site, "shop", domain, rest).await;
    assert_eq!(pair.issuer(site, domain).await, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_names_are_rehearsed_and_then_issued_in_one_pass() {
    let pair = Pair::start().await;
    let site = rehearsing(&pair, "shop").await;
    let domain = "shop.example.com";
    site.want("shop", &[domain]).await;

    let pass = site.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_at_rest(&pair, &site, domain, 1).await;
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 1));
    assert_eq!(pair.asked(&site, FINALIZE), (1, 1));
    let last_of = |wanted: &str, second: bool| {
        let mut requests = pass.requests.iter().rev();
        let found = requests
            .find(|sent| sent.target.starts_with(wanted) && pair.second.heard(sent) == second);
        found.map(|sent| sent.at).unwrap()
    };
    assert!(last_of(FINALIZE, true) < last_of(NEW_ORDER, false));
    let imported = site.imported().await;
    assert_eq!(imported.len(), 2, "the placeholder's and ours");

    // A renewal needs no rehearsal, forced or not; neither does a change of the key.
    let pass = site.pass_with(later(61 * DAY)).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    let forced = json!({"action": "reconcile", "force": true});
    let pass = site.invoke(&forced).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(pair.asked(&site, NEW_ORDER), (3, 1));

    // Other names do.
    let more = [domain, "more.example.com"];
    site.want("shop", &more).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    assert_eq!(pair.asked(&site, NEW_ORDER), (4, 2));
    assert_eq!(site.browser_trusts(more[1]).await.unwrap().names.len(), 2);
    assert_at_rest(&pair, &site, domain, 2).await;
    let kept = site.pass().await;
    assert_eq!(kept.outcome("shop"), "kept", "{:#}", kept.report());
    assert_eq!(pair.asked(&site, NEW_ORDER), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_fails_is_found_where_it_costs_nothing() {
    let pair = Pair::start().await;
    let site = rehearsing(&pair, "shop").await;
    let names = ["shop.example.com", "lost.example.com"];
    site.want("shop", &names).await;
    let nowhere = "127.0.0.9".parse().unwrap();
    let dns = pair.cloud.dns();
    dns.lead_only(names[1], &[nowhere]).await;

    for clock in [Duration::ZERO, 2 * MINUTE] {
        let pass = site.pass_with(later(clock)).await;
        let told = pass.certificate("shop");
        assert_eq!(told["outcome"], "failed", "{told:#}");
        let urn = "urn:ietf:params:acme:error:connection";
        assert_eq!(told["problem"]["type"], urn, "{told:#}");
        let detail = told["problem"]["detail"].as_str().unwrap();
        assert!(detail.contains(names[1]), "{detail}");
        assert!(!detail.contains(names[0]), "{detail}");
    }
    assert_eq!(pair.asked(&site, NEW_ORDER), (0, 2));
    assert!(site.keys("vault/").await.is_empty());
    assert!(site.listed().await.sni.is_empty());

    dns.lead_only(names[1], &[site.ports().address()]).await;
    let pass = site.pass_with(later(15 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
    assert_eq!(pair.asked(&site, NEW_ORDER), (1, 3));
    assert_at_rest(&pair, &site, names[1], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caa_records_keep_from_the_rehearsal_is_ordered_all_the_same() {
    let pair = Pair::start().await;
    let site = rehearsing(&pair, "shop").await;
    let mut settings = pair.settings(&site);
    settings["rehearse"] = "second".into();
    settings["dns"]["servers"] = json!([pair.cloud.pebble().dns_server().to_string()]);
    site.put_settings(&settings).await;
    let dns = pair.cloud.dns();
    // By its name, and for an account: the account at the rehearsal's authority differs, and is
    // unknown until it is made.
    let account = "second.example; accounturi=https://first.example/acct/ours";
    for (name, records) in [
        ("named.example.com", vec![("issue", "first.example")]),
        (
            "account.example.com",
            vec![("issue", account), ("issue", "first.example")],
        ),
    ] {
        dns.set_caa(name, &records).await;
        site.want("shop", &[name]).await;
        let pass = site.pass().await;
        let told = pass.certificate("shop");
        assert_ne!(told["outcome"], "failed", "{name}: {told:#}");
        assert_eq!(told["problem"], Value::Null, "{name}: {told:#}");
        assert_eq!(pair.issuer(&site, name).await, "first");
        let state = site.read_json("state/shop.json").await;
        let mut history = state["history"].as_array().unwrap().iter();
        let noted = history.find(|step| {
            let detail = step["detail"].as_str().unwrap_or_default();
            step["step"] == "not rehearsed" && detail.contains(name)
        });
        assert!(noted.is_some(), "{name}: {:#}", state["history"]);
    }
    assert_eq!(pair.asked(&site, NEW_ORDER), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_survives_death_at_every_request() {
    let pair = Pair::start().await;
    survives(80, pair, |pair, death| async move {
        // The requests after that are those of any first issuance.
        if death.request > REHEARSAL {
            return false;
        }
        let label = death.label("rehearsal");
        let domain = format!("{label}.example.com");
        let site = rehearsing(&pair, &label).await;
        site.want("shop", &[&domain]).await;

        let killed = death.of_a_pass(&site).await;
        let context = &killed.context;
        passes_afterwards(&site, "shop", context).await;

        assert_at_rest(&pair, &site, &domain, 1).await;
        let wires = [pair.cloud.to_acme(), pair.second.wire()];
        let granted = wires.map(|wire| {
            let asked = evidence::asked_by(wire, &site, FINALIZE).into_iter();
            asked.filter(|one| one.status == Some(200)).count()
        });
        assert_eq!(granted[0], 1, "{context}");
        assert!((1..=2).contains(&granted[1]), "{context}: {granted:?}");
        let (first, second) = pair.asked(&site, NEW_ORDER);
        assert!((1..=2).contains(&first), "{context}: {first} orders");
        assert!((1..=2).contains(&second), "{context}: {second} rehearsals");
        killed.ended_at_all(&pair.cloud, &site)
    })
    .await;
}
