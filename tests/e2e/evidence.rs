//! Evidence from outside after a pass: the account's certificates, the bucket, and the requests to
//! the authority.

use std::time::Duration;

use aws_sdk_acm::types::{Filters, KeyAlgorithm};
use serde_json::Value;
use tests::{Installation, Invocation, LocalCloud, Plan, Proxy, Sent, Service};

/// Returns the ARNs of certificates that carry this installation's and this certificate's tags.
pub(crate) async fn ours(
    cloud: &LocalCloud,
    site: &Installation,
    name: &str,
    domain: &str,
) -> Vec<String> {
    let all = KeyAlgorithm::values()
        .iter()
        .map(|name| KeyAlgorithm::from(*name));
    let filter = Filters::builder()
        .set_key_types(Some(all.collect()))
        .build();
    let list = cloud.aws().acm().list_certificates().includes(filter);
    let mut pages = list.into_paginator().send();
    let mut arns = Vec::new();
    while let Some(page) = pages.next().await {
        for summary in page.unwrap().certificate_summary_list.unwrap_or_default() {
            let names = summary
                .subject_alternative_name_summaries
                .unwrap_or_default();
            let arn = summary.certificate_arn.unwrap_or_default();
            if !names.iter().any(|held| held == domain) {
                continue;
            }
            let tags = site.tags(&arn).await;
            let has = |key: &str, value: &str| tags.iter().any(|(k, v)| k == key && v == value);
            if has("certloop:installation", &site.bucket) && has("certloop:certificate", name) {
                arns.push(arn);
            }
        }
    }
    arns
}

/// Returns the requests of an installation's renew function to the authority, in order.
pub(crate) fn asked(cloud: &LocalCloud, site: &Installation, path: &str) -> Vec<Sent> {
    asked_by(cloud.to_acme(), site, path)
}

/// Returns its requests through the proxy of one authority.
pub(crate) fn asked_by(wire: &Proxy, site: &Installation, path: &str) -> Vec<Sent> {
    let mut sent = wire.sent();
    sent.retain(|one| one.is_acme(path) && one.function.as_deref() == Some(&site.renew));
    sent
}

/// Counts an installation's requests to a path that the authority answered with success.
pub(crate) fn granted(cloud: &LocalCloud, site: &Installation, path: &str) -> usize {
    let asked = asked(cloud, site, path).into_iter();
    asked
        .filter(|one| one.status.is_some_and(|status| status < 300))
        .count()
}

/// Counts the new orders.
pub(crate) fn orders(cloud: &LocalCloud, site: &Installation) -> usize {
    granted(cloud, site, NEW_ORDER)
}

/// Counts the accounts made: for an existing account the answer is 200.
pub(crate) fn accounts(cloud: &LocalCloud, site: &Installation) -> usize {
    let asked = asked(cloud, site, NEW_ACCOUNT).into_iter();
    asked.filter(|one| one.status == Some(201)).count()
}

/// Counts the certificates issued.
pub(crate) fn issued(cloud: &LocalCloud, site: &Installation) -> usize {
    granted(cloud, site, FINALIZE)
}

/// Returns an invocation's requests that wrote to the bucket or changed something in AWS.
pub(crate) fn writes(pass: &Invocation) -> Vec<String> {
    let sent = pass.requests.iter();
    let writes = sent.filter(|one| {
        one.service == Service::Aws
            && [
                "Put", "Delete", "Create", "Import", "Add", "Remove", "Modify", "POST", "PUT",
            ]
            .iter()
            .any(|verb| one.call.starts_with(verb))
    });
    writes.map(ToString::to_string).collect()
}

/// Asserts that a certificate is at rest: it is served, it is our only one for these names, and no
/// unfinished step is left. The vault holds `held` serials.
pub(crate) async fn assert_at_rest(
    cloud: &LocalCloud,
    site: &Installation,
    name: &str,
    domain: &str,
    held: usize,
) {
    assert_rest(cloud, site, name, domain, Rest::holding(held)).await;
}

/// Asserts the same where the listener has two certificates.
pub(crate) async fn assert_at_rest_among(
    cloud: &LocalCloud,
    site: &Installation,
    name: &str,
    domain: &str,
) {
    let rest = Rest {
        listed: 2,
        ..Rest::holding(1)
    };
    assert_rest(cloud, site, name, domain, rest).await;
}

/// What exists in total when a certificate is at rest.
pub(crate) struct Rest {
    /// Serials in the vault.
    pub(crate) held: usize,
    /// All certificates on the listener.
    pub(crate) listed: usize,
    /// Accounts.
    pub(crate) accounts: usize,
}

impl Rest {
    /// One certificate on the listener, and one account.
    pub(crate) fn holding(held: usize) -> Self {
        Self {
            held,
            listed: 1,
            accounts: 1,
        }
    }
}

/// Asserts that a certificate is at rest.
pub(crate) async fn assert_rest(
    cloud: &LocalCloud,
    site: &Installation,
    name: &str,
    domain: &str,
    rest: Rest,
) {
    let state = site.read_json(&format!("state/{name}.json")).await;
    let serial = state["certificate"]["serial"].as_str().unwrap_or_default();
    let context = format!("{name}: {state:#}");
    assert!(state["lease"].is_null(), "a lease is left; {context}");
    assert!(state["order"].is_null(), "an order is left; {context}");

    let ours = ours(cloud, site, name, domain).await;
    assert_eq!(ours.len(), 1, "certificates of ours: {ours:?}; {context}");
    let listed = site.listed().await;
    assert_eq!(listed.default, site.placeholder, "{context}");
    assert!(listed.sni.contains(&ours[0]), "{listed:?}; {context}");
    assert_eq!(listed.sni.len(), rest.listed, "{listed:?}; {context}");
    let leaf = site.browser_trusts(domain).await;
    let leaf = leaf.unwrap_or_else(|why| panic!("the browser: {why}; {context}"));
    assert_eq!(leaf.serial, serial, "{context}");

    let vault = site.keys(&format!("vault/{name}/")).await;
    assert_eq!(vault.len(), rest.held, "{vault:?}; {context}");
    let current = format!("vault/{name}/{serial}.json");
    assert!(vault.contains(&current), "{vault:?}; {context}");
    let pending = format!("vault/{name}/pending.json");
    assert!(!vault.contains(&pending), "{vault:?}; {context}");
    let tokens = site.keys("challenges/").await;
    assert!(tokens.is_empty(), "{tokens:?}; {context}");
    let accounts = site.keys("accounts/").await;
    assert_eq!(accounts.len(), rest.accounts, "{accounts:?}; {context}");
}

/// Returns a plan with the function's clock moved forward.
pub(crate) fn later(clock: Duration) -> Plan {
    Plan {
        clock,
        ..Plan::default()
    }
}

/// Returns the instant a report's field names.
#[track_caller]
pub(crate) fn instant(field: &Value) -> time::OffsetDateTime {
    let text = field
        .as_str()
        .unwrap_or_else(|| panic!("no instant: {field}"));
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, format).unwrap()
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const NEW_ACCOUNT: &str = "/sign-me-up";
pub(crate) const NEW_ORDER: &str = "/order-plz";
pub(crate) const FINALIZE: &str = "/finalize-order/";
pub(crate) const CHALLENGE: &str = "/chalZ/";

/// Waits until something has happened.
pub(crate) async fn until(what: &str, happened: impl Fn() -> bool) {
    for _ in 0..4000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} never came");
}
