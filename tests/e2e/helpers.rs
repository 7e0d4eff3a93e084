//! Helpers that several of the tests share.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_sdk_acm::primitives::Blob;
use aws_sdk_acm::types::CertificateDetail;
use serde_json::{Value, json};
use tests::{
    Fault, Installation, Invocation, Listed, LocalCloud, Plan, PrivateAuthority, Sent, Service,
};

/// Returns a moment just after the first wait of the ladder.
pub(crate) fn two_minutes_later() -> Plan {
    later(Duration::from_secs(120))
}

/// Returns a moment hours from now.
pub(crate) fn hours_later(hours: u64) -> Plan {
    later(Duration::from_secs(hours * 60 * 60))
}

fn later(clock: Duration) -> Plan {
    Plan {
        clock,
        ..Plan::default()
    }
}

/// Describes a certificate; `None` if there is none.
pub(crate) async fn describe(cloud: &LocalCloud, arn: &str) -> Option<CertificateDetail> {
    describe_with(cloud.aws().acm(), arn).await
}

/// Describes a certificate with the client of another region.
pub(crate) async fn describe_with(
    acm: &aws_sdk_acm::Client,
    arn: &str,
) -> Option<CertificateDetail> {
    let described = acm
        .describe_certificate()
        .certificate_arn(arn)
        .send()
        .await
        .ok()?;
    described.certificate
}

/// Deletes a certificate, by hand.
pub(crate) async fn delete_certificate(cloud: &LocalCloud, arn: &str) {
    let delete = cloud.aws().acm().delete_certificate();
    delete.certificate_arn(arn).send().await.unwrap();
}

/// Imports somebody else's certificate: issued by an authority, valid, and not ours.
pub(crate) async fn import_foreign(cloud: &LocalCloud, names: &[&str]) -> String {
    let authority = PrivateAuthority::new();
    let (leaf, key) = authority.issue(names);
    let import = cloud.aws().acm().import_certificate();
    let import = import.certificate(Blob::new(leaf));
    let import = import.certificate_chain(Blob::new(authority.root_pem()));
    let imported = import.private_key(Blob::new(key)).send().await.unwrap();
    imported.certificate_arn.unwrap()
}

/// A certificate of somebody else, and the root that its visitors trust.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) arn: String,
    root: String,
}

impl Foreign {
    /// Imports one with an ECDSA key, valid for a month: a listener prefers a newer one of ours to
    /// it.
    pub(crate) async fn import(cloud: &LocalCloud, names: &[&str]) -> Self {
        Self::import_for(cloud, names, time::Duration::days(30)).await
    }

    /// Imports one with an ECDSA key, valid this long.
    pub(crate) async fn import_for(
        cloud: &LocalCloud,
        names: &[&str],
        lifetime: time::Duration,
    ) -> Self {
        let authority = PrivateAuthority::new();
        let issued = authority.issue_for(names, lifetime);
        Self::of(cloud, &authority, issued).await
    }

    /// Imports one with an RSA key.
    pub(crate) async fn import_rsa(cloud: &LocalCloud, names: &[&str]) -> Self {
        let authority = PrivateAuthority::new();
        let issued = authority.issue_rsa(names);
        Self::of(cloud, &authority, issued).await
    }

    async fn of(
        cloud: &LocalCloud,
        authority: &PrivateAuthority,
        (leaf, key): (String, String),
    ) -> Self {
        let root = authority.root_pem();
        let import = cloud.aws().acm().import_certificate();
        let import = import.certificate(Blob::new(leaf));
        let import = import.certificate_chain(Blob::new(root.clone()));
        let imported = import.private_key(Blob::new(key)).send().await.unwrap();
        Self {
            arn: imported.certificate_arn.unwrap(),
            root,
        }
    }

    /// Whether a visitor of this name sees this certificate.
    pub(crate) async fn is_seen(&self, site: &Installation, name: &str) -> bool {
        site.browser_with(name, &self.root).await.is_ok()
    }
}

/// Returns what `status` says of one certificate.
#[track_caller]
pub(crate) fn shown(status: &Invocation, name: &str) -> Value {
    status.certificate(name).clone()
}

/// Asserts that a report has this problem in these words, and that a person has to act.
#[track_caller]
pub(crate) fn assert_person(pass: &Invocation, name: &str, kind: &str, words: &[&str]) {
    assert_problem(pass, name, (kind, "person"), words);
}

/// Asserts that a report has this problem of this class in these words.
#[track_caller]
pub(crate) fn assert_problem(
    pass: &Invocation,
    name: &str,
    (kind, retry): (&str, &str),
    words: &[&str],
) {
    let told = pass.certificate(name);
    assert_eq!(told["problem"]["type"], kind, "{told:#}");
    assert_eq!(told["problem"]["retry"], retry, "{told:#}");
    let detail = told["problem"]["detail"].as_str().unwrap_or_default();
    for word in words {
        let is_there = detail.to_lowercase().contains(&word.to_lowercase());
        assert!(is_there, "no {word:?} in {detail:?}");
    }
}

/// Whether a request imports a certificate.
pub(crate) fn importing(sent: &Sent) -> bool {
    sent.is("ImportCertificate")
}

/// Lets listeners refuse every certificate added to their lists, with an AWS error code.
pub(crate) async fn refuse_to_add(cloud: &LocalCloud, code: &str) {
    let fault = json!({
        "service": "elbv2", "operation": "AddListenerCertificates", "status": 400, "code": code,
        "count": null,
    });
    cloud.aws().fault(fault).await;
}

/// Lets listeners accept certificates again.
pub(crate) async fn take_more_certificates(cloud: &LocalCloud) {
    cloud.aws().admin("DELETE", "faults", None).await;
}

/// Returns a certificate's tags by key.
pub(crate) async fn tags(acm: &aws_sdk_acm::Client, arn: &str) -> BTreeMap<String, String> {
    let list = acm.list_tags_for_certificate().certificate_arn(arn);
    let tags = list.send().await.unwrap().tags.unwrap_or_default();
    let tags = tags.into_iter();
    tags.map(|tag| (tag.key, tag.value.unwrap_or_default()))
        .collect()
}

/// Whether a request went to the certificate authority.
pub(crate) fn acme(sent: &Sent) -> bool {
    sent.service == Service::Acme
}

/// Whether a request changes anything in AWS.
pub(crate) fn changing(sent: &Sent) -> bool {
    let call = sent.call.as_str();
    sent.service == Service::Aws
        && !["Get", "Head", "List", "Describe"]
            .iter()
            .any(|reading| call.starts_with(reading))
}

/// Whether a request changes a listener.
pub(crate) fn changing_a_listener(sent: &Sent) -> bool {
    [
        "AddListenerCertificates",
        "RemoveListenerCertificates",
        "ModifyListener",
    ]
    .iter()
    .any(|operation| sent.is(operation))
}

/// Returns a report's text field of one certificate.
#[track_caller]
pub(crate) fn text(pass: &Invocation, name: &str, field: &str) -> String {
    let value = &pass.certificate(name)[field];
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("no {field} in {:#}", pass.report()))
        .to_owned()
}

/// Returns the ARN a report names for one certificate.
#[track_caller]
pub(crate) fn arn(pass: &Invocation, name: &str) -> String {
    text(pass, name, "certificateArn")
}

/// Returns a settings object with one member of a section changed.
pub(crate) fn with(
    mut settings: Value,
    section: &str,
    field: &str,
    value: impl Into<Value>,
) -> Value {
    settings[section][field] = value.into();
    settings
}

/// Runs a pass and watches the listener. Every change is slowed down: the watch sees each state.
/// Returns the states in order, each once.
pub(crate) async fn watched(
    cloud: &LocalCloud,
    installation: &Installation,
    pass: impl Future<Output = Invocation>,
) -> (Invocation, Vec<Listed>) {
    let slowed = Fault::when(changing_a_listener)
        .always()
        .delay(Duration::from_millis(150));
    cloud.to_aws().inject(slowed);
    let mut states = vec![installation.listed().await];
    let pass = {
        tokio::pin!(pass);
        loop {
            tokio::select! {
                done = &mut pass => break done,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            let seen = installation.listed().await;
            if states.last() != Some(&seen) {
                states.push(seen);
            }
        }
    };
    cloud.to_aws().heal();
    let last = installation.listed().await;
    if states.last() != Some(&last) {
        states.push(last);
    }
    (pass, states)
}
