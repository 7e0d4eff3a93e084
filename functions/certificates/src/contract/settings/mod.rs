//! `settings.json`: authorities, defaults, checks and permissions of one installation.
//!
//! The JSON Schema ([`settings_schema`]) is generated from the types that people write, so it
//! cannot promise other fields. What is planned but not built is refused by name ("not yet"), never
//! ignored. [`super::strict`] has the reading.

mod authority;
mod notify;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::pattern::{Permit, PermitDocument};
use crate::contract::strict::{Invalid, Object, check_range, read, schema_generator, unique_keys};
use crate::values::key::KeyType;
use crate::values::names::quoted;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

pub use authority::{Authority, ExternalAccount};
use authority::{AuthorityDocument, MAX_COUNT};
pub(crate) use authority::{find_authority, is_letsencrypt};
use notify::NotifyDocument;
pub use notify::{Channel, Notify, WebhookFormat};

/// Checked content of `settings.json`.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The certificate authorities, by the key that documents use.
    pub authorities: BTreeMap<String, Authority>,
    /// Defaults for certificates.
    pub defaults: Defaults,
    /// Our own fetch of a challenge, before the CA fetches it.
    pub self_check: SelfCheck,
    /// The check of what a load balancer serves after a change.
    pub proof: Proof,
    /// The names and targets that documents may ask for.
    pub permit: Permit,
    /// Key of the authority where a new set of names is first issued as a trial run.
    pub rehearse: Option<String>,
    /// Below this share of the lifetime left, the next authority of a certificate's list is used; 0
    /// to 1.
    pub fallback_share: f64,
    /// How our checks resolve names.
    pub dns: Dns,
    /// What happens to our certificates whose document was deleted.
    pub orphans: Orphans,
    /// Where notifications are sent.
    pub notify: Notify,
    /// Limits: work at once, imports in a year, and the overlap of old and new certificates.
    pub limits: Bounds,
}

impl Settings {
    /// Returns the settings of an authority, by the key that documents use.
    pub fn authority(&self, key: &str) -> Result<&Authority, Problem> {
        self.authorities.get(key).ok_or_else(|| {
            Problem::ours(
                ProblemType::InvalidDocument,
                format!("authority: {key:?} is not in settings.json; add it there"),
            )
        })
    }

    /// Reads and checks `settings.json`.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        let document = read::<SettingsDocument>(json)?;
        let authorities = check_authorities(document.authorities)?;
        let defaults = Defaults::check(document.defaults.0, &authorities)?;
        let self_check = SelfCheck::check(document.self_check.0)?;
        let proof = Proof::check(document.proof.0)?;
        let limits = Bounds::check(document.limits.0)?;
        let share = document.fallback.0.share;
        if !(0.0..=1.0).contains(&share) {
            return Err(Invalid::at(
                "fallback.share",
                format!("is {share}: give a share of the lifetime between 0 and 1"),
            ));
        }
        refuse_what_is_not_built(&document.roles)?;
        if let Some(key) = &document.rehearse {
            find_authority("rehearse", key, &authorities)?;
        }
        Ok(Self {
            authorities,
            defaults,
            self_check,
            proof,
            permit: Permit::check(document.permit.0)?,
            rehearse: document.rehearse,
            fallback_share: share,
            dns: Dns::check(document.dns.0)?,
            orphans: document.orphans,
            notify: Notify::check(document.notify.0)?,
            limits,
        })
    }
}

fn check_authorities(
    documents: BTreeMap<String, Object<AuthorityDocument>>,
) -> Result<BTreeMap<String, Authority>, Invalid> {
    if documents.is_empty() {
        return Err(Invalid::at(
            "authorities",
            "holds none: add one with its directory URL and termsOfServiceAgreed",
        ));
    }
    let checked = documents.into_iter().map(|(key, Object(authority))| {
        let authority = Authority::check(&key, authority)?;
        Ok((key, authority))
    });
    checked.collect()
}

impl Defaults {
    fn check(
        document: DefaultsDocument,
        authorities: &BTreeMap<String, Authority>,
    ) -> Result<Self, Invalid> {
        find_authority("defaults.authority", &document.authority, authorities)?;
        check_profile("defaults.profile", document.profile.as_deref())?;
        check_validation("defaults.validation", &document.validation)?;
        Ok(Self {
            authority: document.authority,
            profile: document.profile,
            key_type: document.key_type,
        })
    }
}

impl SelfCheck {
    fn check(document: SelfCheckDocument) -> Result<Self, Invalid> {
        check_connect_to("selfCheck.connectTo", document.connect_to.as_deref())?;
        Ok(Self {
            mode: document.mode,
            connect_to: document.connect_to,
        })
    }
}

impl Proof {
    fn check(document: ProofDocument) -> Result<Self, Invalid> {
        check_connect_to("proof.connectTo", document.connect_to.as_deref())?;
        check_range("proof.seconds", document.seconds, 1, MAX_PROOF_SECONDS)?;
        Ok(Self {
            mode: document.mode,
            connect_to: document.connect_to,
            seconds: document.seconds,
        })
    }
}

impl Bounds {
    fn check(limits: LimitsDocument) -> Result<Self, Invalid> {
        check_range("limits.concurrency", limits.concurrency, 1, MAX_CONCURRENCY)?;
        check_range(
            "limits.overlapSeconds",
            limits.overlap_seconds,
            0,
            MAX_OVERLAP_SECONDS,
        )?;
        check_range(
            "limits.importsPerYear",
            limits.imports_per_year,
            1,
            MAX_COUNT,
        )?;
        if let Some(most) = limits.certificates_per_load_balancer {
            check_range(
                "limits.certificatesPerLoadBalancer",
                most,
                1,
                MAX_CERTIFICATES_PER_LOAD_BALANCER,
            )?;
        }
        Ok(Self {
            // The check above allows at most 64.
            concurrency: usize::try_from(limits.concurrency).unwrap_or(1),
            overlap_seconds: limits.overlap_seconds,
            // The check above allows at most a million.
            imports_per_year: u32::try_from(limits.imports_per_year).unwrap_or(u32::MAX),
            certificates_per_load_balancer: (limits.certificates_per_load_balancer)
                .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        })
    }
}

/// How our checks resolve names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dns {
    /// The DNS servers; `None` for the system's.
    pub servers: Option<Vec<SocketAddr>>,
}

impl Dns {
    fn check(document: DnsDocument) -> Result<Self, Invalid> {
        let Some(texts) = document.servers else {
            return Ok(Self::default());
        };
        if texts.is_empty() {
            return Err(Invalid::at(
                "dns.servers",
                "is empty: list a server, or set it to null for the system's",
            ));
        }
        let servers = texts
            .iter()
            .enumerate()
            .map(|(index, text)| {
                dns_server(text).ok_or_else(|| {
                    Invalid::at(
                        format!("dns.servers[{index}]"),
                        format!(
                            "{} is not the address of a server: write 192.0.2.53, 192.0.2.53:5353 \
                             or [2001:db8::53]:53",
                            quoted(text)
                        ),
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            servers: Some(servers),
        })
    }
}

fn dns_server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() > 0).then_some(address);
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => IpAddr::V6(inner.parse().ok()?),
        None => text.parse().ok()?,
    };
    Some(SocketAddr::new(address, DNS_PORT))
}

/// Defaults for certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defaults {
    /// Key of the authority; always one of [`Settings::authorities`].
    pub authority: String,
    /// Profile to order; `None` for the CA's default.
    pub profile: Option<String>,
    /// Kind of key to generate.
    pub key_type: KeyType,
}

/// What a bad result of a check stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckMode {
    /// The check is not made.
    Off,
    /// A bad result is reported.
    Warn,
    /// A bad result is reported and stops the work.
    Require,
}

/// Our own fetch of a challenge, before the CA fetches it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SelfCheck {
    /// What a bad result stops.
    pub mode: CheckMode,
    /// `host:port` for every connection, in place of the name's own address.
    pub connect_to: Option<String>,
}

/// The check of what a load balancer serves after a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// What a bad result stops.
    pub mode: CheckMode,
    /// `host:port` for every connection, in place of the load balancer's addresses.
    pub connect_to: Option<String>,
    /// How long to wait until a change shows.
    pub seconds: u64,
}

/// What happens to our certificates whose document was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// They are reported and left alone.
    Report,
    /// They are removed from their targets and deleted.
    Remove,
}

/// Limits: work at once, imports in a year, and the overlap of old and new certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Certificates worked on at once in one invocation, 1 to 64.
    pub concurrency: usize,
    /// Seconds between detaching a superseded certificate and deleting it.
    pub overlap_seconds: u64,
    /// Imports into the certificate manager of each region in any 365 days, 1 to 1,000,000.
    pub imports_per_year: u32,
    /// Certificates on one load balancer, not counting defaults. `None`: 25, AWS's default quota,
    /// until a load balancer holds more.
    pub certificates_per_load_balancer: Option<usize>,
}

/// Returns the JSON Schema of `settings.json`.
pub fn settings_schema() -> serde_json::Value {
    schema_generator()
        .into_root_schema_for::<SettingsDocument>()
        .to_value()
}

pub(crate) fn check_profile(field: &str, profile: Option<&str>) -> Result<(), Invalid> {
    match profile {
        Some(profile) if profile.is_empty() || !profile.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(Invalid::at(
                field,
                format!(
                    "{} is not the name of a profile: use one the CA's directory lists \
                     (meta.profiles), or null",
                    quoted(profile)
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Accepts `http-01`, the only validation method that is built.
pub(crate) fn check_validation(field: &str, validation: &str) -> Result<(), Invalid> {
    match validation {
        "http-01" => Ok(()),
        "dns-01" | "dns-persist-01" => Err(Invalid::not_yet(
            field,
            &quoted(validation),
            "use \"http-01\"",
        )),
        other => Err(Invalid::at(
            field,
            format!(
                "{} is not a way of validation: use \"http-01\"",
                quoted(other)
            ),
        )),
    }
}

fn check_connect_to(field: &str, address: Option<&str>) -> Result<(), Invalid> {
    let Some(address) = address else {
        return Ok(());
    };
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        host && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match valid {
        true => Ok(()),
        false => Err(Invalid::at(
            field,
            format!(
                "{} is not host:port: write 192.0.2.1:443, [2001:db8::1]:443 or \
                 host.example:443, or null",
                quoted(address)
            ),
        )),
    }
}

fn refuse_what_is_not_built(roles: &BTreeMap<String, serde_json::Value>) -> Result<(), Invalid> {
    match roles.is_empty() {
        true => Ok(()),
        false => Err(Invalid::not_yet(
            "roles",
            "a role of another account",
            "leave it empty",
        )),
    }
}

/// Settings of one certloop installation (`settings.json` in its bucket).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "certloop settings")]
struct SettingsDocument {
    /// URL or path of this document's schema, for editors.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    /// The certificate authorities, by the key that documents use.
    #[serde(deserialize_with = "unique_keys")]
    #[schemars(extend(
        "minProperties" = 1,
        "propertyNames" = {"pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}
    ))]
    authorities: BTreeMap<String, Object<AuthorityDocument>>,
    /// Defaults for certificates.
    defaults: Object<DefaultsDocument>,
    /// Our own fetch of a challenge through port 80, before the CA fetches it.
    #[serde(default)]
    self_check: Object<SelfCheckDocument>,
    /// The TLS handshake with the load balancer after each change and once a day.
    #[serde(default)]
    proof: Object<ProofDocument>,
    /// Where notifications are sent.
    #[serde(default)]
    notify: Object<NotifyDocument>,
    /// The names and targets that documents may ask for.
    #[serde(default)]
    permit: Object<PermitDocument>,
    /// Role ARNs with external ids that documents may refer to by key. Not yet supported: must be
    /// empty.
    #[serde(default, deserialize_with = "unique_keys")]
    #[schemars(extend("maxProperties" = 0))]
    roles: BTreeMap<String, serde_json::Value>,
    /// How the checks resolve names.
    #[serde(default)]
    dns: Object<DnsDocument>,
    /// When to try the next authority of a certificate's list.
    #[serde(default)]
    fallback: Object<FallbackDocument>,
    /// Key of an authority, such as a CA's staging environment. certloop first orders a new set of
    /// names there as a trial run, and deploys nothing of it. The real order follows after the
    /// trial run succeeds.
    #[serde(default)]
    rehearse: Option<String>,
    /// What happens to a certificate whose document was deleted. "report": certloop leaves it alone
    /// and reports it. "remove": certloop takes it off its targets and deletes it.
    #[serde(default = "default_orphans")]
    orphans: Orphans,
    /// Limits: work at once, imports in a year, and the overlap of old and new certificates.
    #[serde(default)]
    limits: Object<LimitsDocument>,
}

/// Defaults for certificates.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Defaults")]
struct DefaultsDocument {
    /// Key of the authority.
    authority: String,
    /// Profile to order; the CA's directory lists them. null leaves the choice to the CA.
    #[serde(default)]
    profile: Option<String>,
    /// Kind and size of key.
    #[serde(default = "default_key_type")]
    key_type: KeyType,
    /// How to prove control over the names: "http-01"; other methods are not yet supported.
    #[serde(default = "default_validation")]
    #[schemars(extend("enum" = ["http-01", "dns-01", "dns-persist-01"]))]
    validation: String,
}

/// Our own fetch of a challenge through port 80, before the CA fetches it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "SelfCheck")]
struct SelfCheckDocument {
    /// "off": no fetch. "warn": a wrong answer is reported, and the order goes on. "require": a
    /// wrong answer stops the order until it is right.
    mode: CheckMode,
    /// "host:port" that replaces the address of every connection, redirects included.
    #[schemars(regex(pattern = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"))]
    connect_to: Option<String>,
}

impl Default for SelfCheckDocument {
    fn default() -> Self {
        Self {
            mode: CheckMode::Require,
            connect_to: None,
        }
    }
}

/// The TLS handshake with the load balancer after each change and once a day.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Proof")]
struct ProofDocument {
    /// "off": no handshake. "warn": a wrong certificate counts as not proved; a check without a
    /// result is reported, and the work goes on. "require": neither counts as proved.
    mode: CheckMode,
    /// "host:port" that replaces the address of every connection.
    #[schemars(regex(pattern = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"))]
    connect_to: Option<String>,
    /// How long to wait until a change shows, in seconds.
    #[schemars(range(min = 1, max = 600))]
    seconds: u64,
}

impl Default for ProofDocument {
    fn default() -> Self {
        Self {
            mode: CheckMode::Warn,
            connect_to: None,
            seconds: 120,
        }
    }
}

/// How the checks resolve names.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Dns")]
struct DnsDocument {
    /// DNS servers in place of the system's. Each is an IP address, optionally with a port:
    /// `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::53]:53`. null: the system's servers.
    /// Connections that certloop makes itself always use the system's servers.
    #[schemars(inner(regex(pattern = r"^[0-9A-Fa-f.:\[\]]+$")), extend("minItems" = 1))]
    servers: Option<Vec<String>>,
}

/// When to try the next authority of a certificate's list: the authorities before it are down or
/// limit requests, and less than `share` is left.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Fallback")]
struct FallbackDocument {
    /// Share of the certificate's lifetime, 0 to 1. certloop tries the next authority only when
    /// less than this share is left.
    #[schemars(range(min = 0, max = 1))]
    share: f64,
}

impl Default for FallbackDocument {
    fn default() -> Self {
        Self { share: 0.1 }
    }
}

/// Limits: work at once, imports in a year, and the overlap of old and new certificates.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Limits")]
struct LimitsDocument {
    /// Certificates worked on at once in one invocation.
    #[schemars(range(min = 1, max = 64))]
    concurrency: u64,
    /// Seconds between detaching a superseded certificate and deleting it.
    #[schemars(range(min = 0, max = 2_592_000))]
    overlap_seconds: u64,
    /// Imports into the certificate manager of each region in any 365 days: the account's quota.
    #[schemars(range(min = 1, max = 1_000_000))]
    imports_per_year: u64,
    /// Certificates on one load balancer, not counting defaults: the account's quota. Left out or
    /// null: 25, AWS's default, until a load balancer holds more.
    #[schemars(range(min = 1, max = 100_000))]
    certificates_per_load_balancer: Option<u64>,
}

impl Default for LimitsDocument {
    fn default() -> Self {
        Self {
            concurrency: 16,
            overlap_seconds: 3600,
            imports_per_year: 5000,
            certificates_per_load_balancer: None,
        }
    }
}

fn default_orphans() -> Orphans {
    Orphans::Report
}

fn default_key_type() -> KeyType {
    KeyType::EcdsaP256
}

fn default_validation() -> String {
    "http-01".to_owned()
}

const MAX_CONCURRENCY: u64 = 64;

const MAX_PROOF_SECONDS: u64 = 600;

const MAX_CERTIFICATES_PER_LOAD_BALANCER: u64 = 100_000;

/// Thirty days, in seconds.
const MAX_OVERLAP_SECONDS: u64 = 2_592_000;

/// The port of DNS servers unless another is given.
const DNS_PORT: u16 = 53;

#[cfg(test)]
pub(crate) mod tests {
    use crate::contract::rate_limit;
    use serde_json::{Value, json};
    use x509_parser::pem::Pem;

    use super::*;

    /// The smallest valid settings.
    pub(crate) fn minimal() -> Value {
        json!({
            "authorities": {
                "letsencrypt": {
                    "directory": "https://acme-v02.api.letsencrypt.org/directory",
                    "termsOfServiceAgreed": true
                }
            },
            "defaults": {"authority": "letsencrypt"}
        })
    }

    pub(crate) fn parse(settings: &Value) -> Result<Settings, Invalid> {
        Settings::parse(settings.to_string().as_bytes())
    }

    /// Returns a message with its columns as N: serde_json decides where exactly they point.
    pub(crate) fn without_columns(message: &str) -> String {
        let (first, rest) = message.split_once("column ").unwrap_or((message, ""));
        match rest.trim_start_matches(|c: char| c.is_ascii_digit()) {
            "" => first.to_owned(),
            rest => format!("{first}column N{}", without_columns(rest)),
        }
    }

    /// Compares a committed schema with the generated one; with `UPDATE_SCHEMAS=1` it writes it.
    pub(crate) fn assert_schema_is_current(file: &str, schema: &Value) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("schemas")
            .join(file);
        let generated = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
        if std::env::var("UPDATE_SCHEMAS").is_ok_and(|value| value == "1") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "schemas/{file} differs from the types: run the tests with UPDATE_SCHEMAS=1 and \
             commit it"
        );
    }

    /// The sample of the documentation, without what is not yet supported.
    fn sample() -> Value {
        json!({
            "authorities": {
                "letsencrypt": {
                    "directory": "https://acme-v02.api.letsencrypt.org/directory",
                    "contact": ["mailto:ops@example.com"],
                    "termsOfServiceAgreed": true,
                    "rootCertificate": null,
                    "externalAccount": {
                        "keyId": "kid-1",
                        "secretArn":
                            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:eab-AbCdEf"
                    },
                    "limits": "letsencrypt"
                }
            },
            "defaults": {"authority": "letsencrypt", "profile": null, "keyType": "ecdsa-p256",
                         "validation": "http-01"},
            "selfCheck": {"mode": "require", "connectTo": null},
            "proof": {"mode": "warn", "connectTo": null, "seconds": 120},
            "notify": {"topicArn": null, "eventBus": null, "webhooks": [], "renewals": false},
            "permit": {"domains": null, "targets": null, "supersedes": null},
            "roles": {},
            "dns": {"servers": null},
            "fallback": {"share": 0.1},
            "orphans": "report",
            "limits": {
                "concurrency": 16, "overlapSeconds": 3600, "importsPerYear": 5000,
                "certificatesPerLoadBalancer": null
            }
        })
    }

    /// The sample with `value` at the JSON pointer `field`, whose parent is there.
    fn with(field: &str, value: Value) -> Value {
        let mut settings = sample();
        let (parent, last) = field.rsplit_once('/').unwrap();
        settings.pointer_mut(parent).unwrap()[last] = value;
        settings
    }

    fn refusal(settings: &Value) -> Invalid {
        parse(settings).unwrap_err()
    }

    /// A lenient reader of certificates accepts it; the TLS client does not.
    fn with_a_byte_more(pem: &str) -> String {
        use base64::Engine;
        let certificate = Pem::iter_from_buffer(pem.as_bytes()).next().unwrap();
        let mut der = certificate.unwrap().contents;
        der.push(0);
        let text = base64::prelude::BASE64_STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    fn root() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn the_sample_is_understood() {
        let settings = parse(&sample()).unwrap();
        let authority = &settings.authorities["letsencrypt"];
        assert_eq!(authority.key, "letsencrypt");
        assert_eq!(authority.contact, ["mailto:ops@example.com"]);
        let external = authority.external_account.as_ref().unwrap();
        assert_eq!(external.key_id, "kid-1");
        assert!(external.secret_arn.ends_with(":secret:eab-AbCdEf"));
    }

    #[test]
    fn the_sample_says_the_defaults() {
        let mut spelled_out = sample();
        let authority = &mut spelled_out["authorities"]["letsencrypt"];
        authority["contact"] = json!([]);
        authority["externalAccount"] = json!(null);
        assert_eq!(parse(&spelled_out), parse(&minimal()));
        let settings = parse(&minimal()).unwrap();
        assert_eq!(
            settings,
            Settings {
                authorities: BTreeMap::from([(
                    "letsencrypt".to_owned(),
                    Authority {
                        key: "letsencrypt".to_owned(),
                        directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
                        contact: Vec::new(),
                        root_certificate: None,
                        external_account: None,
                        limits: rate_limit::RateLimits::letsencrypt(),
                        private: false,
                        caa_identities: None,
                    }
                )]),
                defaults: Defaults {
                    authority: "letsencrypt".to_owned(),
                    profile: None,
                    key_type: KeyType::EcdsaP256,
                },
                self_check: SelfCheck {
                    mode: CheckMode::Require,
                    connect_to: None
                },
                proof: Proof {
                    mode: CheckMode::Warn,
                    connect_to: None,
                    seconds: 120
                },
                permit: Permit::default(),
                rehearse: None,
                fallback_share: 0.1,
                dns: Dns::default(),
                orphans: Orphans::Report,
                notify: Notify::default(),
                limits: Bounds {
                    concurrency: 16,
                    overlap_seconds: 3600,
                    imports_per_year: 5000,
                    certificates_per_load_balancer: None,
                },
            }
        );
    }

    #[test]
    fn what_is_given_is_taken() {
        for (field, value) in [
            ("/$schema", json!("settings.schema.json")),
            (
                "/authorities/letsencrypt/directory",
                json!("https://[::1]:14000/dir?x=1"),
            ),
            ("/authorities/letsencrypt/limits", json!(null)),
            ("/authorities/letsencrypt/rootCertificate", json!(root())),
            (
                "/authorities/letsencrypt/rootCertificate",
                json!(format!("# two\n{}{}", root(), root())),
            ),
            ("/defaults/profile", json!("tlsserver")),
            ("/defaults/keyType", json!("rsa-2048")),
            ("/selfCheck", json!({})),
            ("/selfCheck/mode", json!("off")),
            ("/selfCheck/connectTo", json!("127.0.0.1:8080")),
            ("/proof/connectTo", json!("[2001:db8::1]:443")),
            ("/proof/connectTo", json!("balancer.internal:65535")),
            ("/proof/seconds", json!(1)),
            ("/proof/seconds", json!(600)),
            ("/permit/domains", json!([])),
            ("/permit/targets", json!(["arn:aws:acm:*"])),
            ("/permit/supersedes", json!(["arn:aws:acm:*"])),
            ("/limits/certificatesPerLoadBalancer", json!(100)),
            ("/fallback/share", json!(0)),
            ("/fallback/share", json!(1)),
            ("/limits/concurrency", json!(64)),
            ("/limits/overlapSeconds", json!(0)),
            ("/limits/overlapSeconds", json!(2_592_000)),
            ("/limits/importsPerYear", json!(1)),
            ("/limits/importsPerYear", json!(1_000_000)),
        ] {
            let outcome = parse(&with(field, value));
            assert!(outcome.is_ok(), "{field}: {outcome:?}");
        }
        let settings = parse(&with("/proof/mode", json!("require"))).unwrap();
        assert_eq!(settings.proof.mode, CheckMode::Require);
    }

    #[test]
    fn an_authoritys_limits_are_the_preset_ours_or_none() {
        use crate::contract::rate_limit::{RateLimit, RateLimits};

        let letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";
        let preset = RateLimits::letsencrypt;
        let one = |count, seconds| Some(RateLimit { count, seconds });
        for (why, directory, value, expected) in [
            ("left out", letsencrypt, None, preset()),
            (
                "left out, staging",
                "https://ACME-staging-v02.api.LetsEncrypt.org/directory",
                None,
                preset(),
            ),
            (
                "left out, elsewhere",
                "https://acme.example/directory",
                None,
                RateLimits::default(),
            ),
            (
                "another that only sounds like it",
                "https://notletsencrypt.org/directory",
                None,
                RateLimits::default(),
            ),
            (
                "none",
                letsencrypt,
                Some(json!(null)),
                RateLimits::default(),
            ),
            (
                "the preset elsewhere",
                "https://acme.example/directory",
                Some(json!("letsencrypt")),
                preset(),
            ),
            (
                "all of ours",
                letsencrypt,
                Some(json!({
                    "ordersPerAccount": {"count": 1_000_000, "seconds": 1},
                    "certificatesPerDomain": {"count": 1, "seconds": 31_536_000},
                    "certificatesPerNameSet": {"count": 2, "seconds": 3},
                    "failedValidationsPerName": {"count": 4, "seconds": 5}
                })),
                RateLimits {
                    orders_per_account: one(1_000_000, 1),
                    certificates_per_domain: one(1, 31_536_000),
                    certificates_per_name_set: one(2, 3),
                    failed_validations_per_name: one(4, 5),
                },
            ),
            (
                "what is left out or null is not limited",
                letsencrypt,
                Some(json!({"ordersPerAccount": null,
                           "certificatesPerDomain": {"count": 7, "seconds": 8}})),
                RateLimits {
                    certificates_per_domain: one(7, 8),
                    ..RateLimits::default()
                },
            ),
            (
                "nothing",
                letsencrypt,
                Some(json!({})),
                RateLimits::default(),
            ),
        ] {
            let mut settings = minimal();
            let authority = &mut settings["authorities"]["letsencrypt"];
            authority["directory"] = json!(directory);
            if let Some(value) = value {
                authority["limits"] = value;
            }
            let settings = parse(&settings).unwrap();
            assert_eq!(
                settings.authorities["letsencrypt"].limits, expected,
                "{why}"
            );
        }
    }

    #[test]
    fn an_authoritys_limits_are_read_strictly() {
        let field = "authorities.letsencrypt.limits";
        for (value, expected) in [
            (
                json!("zerossl"),
                ": \"zerossl\" is not a preset: use \"letsencrypt\", write the limits themselves \
                 ({\"ordersPerAccount\": {\"count\": 300, \"seconds\": 10800}}), or null for none",
            ),
            (
                json!(7),
                ": has the wrong type (line 1, column N): give \"letsencrypt\", an object or null",
            ),
            (
                json!([]),
                ": has the wrong type (line 1, column N): give \"letsencrypt\", an object or null",
            ),
            (
                json!({"ordersPerHour": 3}),
                ".ordersPerHour: is not a known field (line 1, column N): remove it or correct its \
                 name; known here: ordersPerAccount, certificatesPerDomain, \
                 certificatesPerNameSet, failedValidationsPerName",
            ),
            (
                json!({"ordersPerAccount": 3}),
                ".ordersPerAccount: has the wrong type (line 1, column N): give an object",
            ),
            (
                json!({"ordersPerAccount": {"count": 3}}),
                ".ordersPerAccount.seconds: is missing (line 1, column N): it is required, add it",
            ),
            (
                json!({"ordersPerAccount": {"count": 3, "seconds": 1, "hours": 1}}),
                ".ordersPerAccount.hours: is not a known field",
            ),
            (
                json!({"certificatesPerDomain": {"count": "3", "seconds": 1}}),
                ".certificatesPerDomain.count: has the wrong type (line 1, column N): give a whole \
                 number, not negative",
            ),
            (
                json!({"certificatesPerDomain": {"count": 0, "seconds": 1}}),
                ".certificatesPerDomain.count: is 0: give a whole number from 1 to 1000000",
            ),
            (
                json!({"certificatesPerNameSet": {"count": 1_000_001, "seconds": 1}}),
                ".certificatesPerNameSet.count: is 1000001: give a whole number from 1 to 1000000",
            ),
            (
                json!({"failedValidationsPerName": {"count": 1, "seconds": 0}}),
                ".failedValidationsPerName.seconds: is 0: give a whole number from 1 to 31536000",
            ),
            (
                json!({"failedValidationsPerName": {"count": 1, "seconds": 31_536_001}}),
                ".failedValidationsPerName.seconds: is 31536001: give a whole number from 1 \
                 to 31536000",
            ),
        ] {
            let refusal = refusal(&with("/authorities/letsencrypt/limits", value));
            let refusal = without_columns(&refusal.to_string());
            let expected = format!("{field}{expected}");
            assert!(refusal.starts_with(&expected), "{refusal}");
        }
    }

    #[test]
    fn dns_servers_are_addresses_with_or_without_a_port() {
        let written = json!([
            "192.0.2.53",
            "192.0.2.54:5353",
            "2001:db8::53",
            "[2001:db8::53]",
            "[2001:db8::54]:5353"
        ]);
        let settings = parse(&with("/dns/servers", written)).unwrap();
        let servers = settings.dns.servers.unwrap();
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            [
                "192.0.2.53:53",
                "192.0.2.54:5353",
                "[2001:db8::53]:53",
                "[2001:db8::53]:53",
                "[2001:db8::54]:5353"
            ]
        );
        assert_eq!(parse(&sample()).unwrap().dns.servers, None);
        for text in [
            "",
            "dns.example",
            "192.0.2.53:0",
            "192.0.2.53:",
            "[192.0.2.53]:53",
            "::1]:53",
        ] {
            let refusal = refusal(&with("/dns/servers", json!(["192.0.2.53", text])));
            assert_eq!(
                refusal.to_string(),
                format!(
                    "dns.servers[1]: {text:?} is not the address of a server: write 192.0.2.53, \
                     192.0.2.53:5353 or [2001:db8::53]:53"
                )
            );
        }
        assert_eq!(
            refusal(&with("/dns/servers", json!([]))).to_string(),
            "dns.servers: is empty: list a server, or set it to null for the system's"
        );
    }

    #[test]
    fn the_names_caa_records_know_an_authority_by_are_domains() {
        let at = "/authorities/letsencrypt/caaIdentities";
        let settings = parse(&with(at, json!(["LetsEncrypt.org.", "ca.example"]))).unwrap();
        let authority = &settings.authorities["letsencrypt"];
        assert_eq!(
            authority.caa_identities.as_deref(),
            Some(&["letsencrypt.org".to_owned(), "ca.example".to_owned()][..])
        );
        assert_eq!(
            parse(&sample()).unwrap().authorities["letsencrypt"].caa_identities,
            None
        );
        for (value, wanted) in [
            (
                json!([]),
                "authorities.letsencrypt.caaIdentities: is empty: list the domains that the CA \
                 names for CAA records, or leave it out",
            ),
            (
                json!(["ca.example", "https://ca.example"]),
                "authorities.letsencrypt.caaIdentities[1]: \"https://ca.example\" is not a domain: \
                 write it as CAA records do, such as letsencrypt.org",
            ),
        ] {
            assert_eq!(refusal(&with(at, value)).to_string(), wanted);
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (at, value, field) in [
            (
                "/defaults/validation",
                json!("dns-01"),
                "defaults.validation",
            ),
            (
                "/defaults/validation",
                json!("dns-persist-01"),
                "defaults.validation",
            ),
            (
                "/roles",
                json!({"shared": {"arn": "arn:...", "externalId": "x"}}),
                "roles",
            ),
        ] {
            let refusal = refusal(&with(at, value));
            assert_eq!(refusal.field, field);
            assert!(
                refusal.reason.contains(" is not yet supported: "),
                "{refusal}"
            );
        }
        assert_eq!(
            refusal(&with("/roles", json!({"shared": {}}))).to_string(),
            "roles: a role of another account is not yet supported: leave it empty"
        );
    }

    #[test]
    fn wrong_values_are_refused_with_field_and_remedy() {
        let le = "/authorities/letsencrypt";
        for (at, value, expected) in [
            (
                "/authorities".to_owned(),
                json!({}),
                "authorities: holds none: add one with",
            ),
            (
                "/authorities/Big".to_owned(),
                sample()["authorities"]["letsencrypt"].clone(),
                "authorities.Big: is not a usable key: use",
            ),
            (
                format!("{le}/directory"),
                json!("http://acme.example/directory"),
                "authorities.letsencrypt.directory: is not an https URL: give",
            ),
            (
                format!("{le}/directory"),
                json!("acme.example"),
                "authorities.letsencrypt.directory: is not an https URL: give",
            ),
            (
                format!("{le}/directory"),
                json!("https:///directory"),
                "directory: has no host, or carries credentials or a fragment: give",
            ),
            (
                format!("{le}/directory"),
                json!("https://u:p@acme.example/"),
                "directory: has no host, or carries credentials or a fragment: give",
            ),
            (
                format!("{le}/directory"),
                json!("https://acme.example/#x"),
                "directory: has no host, or carries credentials or a fragment: give",
            ),
            (
                format!("{le}/termsOfServiceAgreed"),
                json!(false),
                "termsOfServiceAgreed: is false, and no CA makes an account without agreement: \
                 read the terms that the directory names (meta.termsOfService), then set it \
                 to true",
            ),
            (
                format!("{le}/termsOfServiceAgreed"),
                json!("yes"),
                "termsOfServiceAgreed: has the wrong type (line 1, column",
            ),
            (
                format!("{le}/contact"),
                json!(["mailto:a@b.example", "ops@example.com"]),
                "authorities.letsencrypt.contact[1]: \"ops@example.com\" does not begin with \
                 mailto:: write mailto:ops@example.com",
            ),
            (
                format!("{le}/contact"),
                json!(["tel:+123"]),
                "contact[0]: \"tel:+123\" does not begin with mailto:: write",
            ),
            (
                format!("{le}/contact"),
                json!(["mailto:ops"]),
                "contact[0]: \"mailto:ops\" is not one plain mail address: write",
            ),
            (
                format!("{le}/contact"),
                json!(["mailto:a@b.example,c@d.example"]),
                "is not one plain mail address: write",
            ),
            (
                format!("{le}/contact"),
                json!(["mailto:a@b.example?subject=x"]),
                "is not one plain mail address: write",
            ),
            (
                format!("{le}/rootCertificate"),
                json!(""),
                "authorities.letsencrypt.rootCertificate: holds no certificate: give the PEM text",
            ),
            (
                format!("{le}/rootCertificate"),
                json!("MIIB"),
                "rootCertificate: holds no certificate: give the PEM text",
            ),
            (
                format!("{le}/rootCertificate"),
                json!("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
                "rootCertificate: holds something that is no certificate: give",
            ),
            (
                format!("{le}/rootCertificate"),
                json!("-----BEGIN CERTIFICATE-----\nMIIB\n"),
                "rootCertificate: is broken PEM: give",
            ),
            (
                format!("{le}/rootCertificate"),
                json!("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"),
                "rootCertificate: holds a private key, which must never be here: remove it",
            ),
            (
                format!("{le}/rootCertificate"),
                json!(with_a_byte_more(&root())),
                "rootCertificate: holds a certificate that is not usable as a trust root: ",
            ),
            (
                format!("{le}/externalAccount/keyId"),
                json!(""),
                "externalAccount.keyId: is empty: give the key identifier",
            ),
            (
                format!("{le}/externalAccount/secretArn"),
                json!("hunter2"),
                "externalAccount.secretArn: is not the ARN of a secret in AWS Secrets Manager: \
                 store the secret there and give its ARN",
            ),
            (
                format!("{le}/externalAccount"),
                json!("hunter2"),
                "externalAccount: has the wrong type (line 1, column",
            ),
            (
                format!("{le}/externalAccount/hmacKey"),
                json!("hunter2"),
                "authorities.letsencrypt.externalAccount.hmacKey: is not a known field (line \
                 1, column",
            ),
            (
                "/defaults/authority".to_owned(),
                json!("zerossl"),
                "defaults.authority: \"zerossl\" is not an authority: use one of letsencrypt, \
                 or add it",
            ),
            (
                "/defaults/profile".to_owned(),
                json!("a b"),
                "defaults.profile: \"a b\" is not the name of a profile: use one",
            ),
            (
                "/defaults/keyType".to_owned(),
                json!("ed25519"),
                "use one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096",
            ),
            (
                "/defaults/validation".to_owned(),
                json!("tls-alpn-01"),
                "defaults.validation: \"tls-alpn-01\" is not a way of validation: use",
            ),
            (
                "/selfCheck/mode".to_owned(),
                json!("on"),
                "): use one of off, warn, require",
            ),
            (
                "/selfCheck/mode".to_owned(),
                json!(true),
                "selfCheck.mode: has the wrong type (line 1, column",
            ),
            (
                "/selfCheck/connectTo".to_owned(),
                json!("localhost"),
                "selfCheck.connectTo: \"localhost\" is not host:port: write",
            ),
            (
                "/selfCheck/connectTo".to_owned(),
                json!("localhost:0"),
                "selfCheck.connectTo: \"localhost:0\" is not host:port: write",
            ),
            (
                "/selfCheck/connectTo".to_owned(),
                json!("localhost:+80"),
                "is not host:port: write",
            ),
            (
                "/selfCheck/connectTo".to_owned(),
                json!("http://localhost:80"),
                "is not host:port: write",
            ),
            (
                "/proof/connectTo".to_owned(),
                json!("2001:db8::1:443"),
                "proof.connectTo: \"2001:db8::1:443\" is not host:port: write",
            ),
            (
                "/proof/connectTo".to_owned(),
                json!("x:65536"),
                "proof.connectTo: \"x:65536\" is not host:port: write",
            ),
            (
                "/proof/connectTo".to_owned(),
                json!(":443"),
                "proof.connectTo: \":443\" is not host:port: write",
            ),
            (
                "/proof/seconds".to_owned(),
                json!(0),
                "proof.seconds: is 0: give a whole number from 1 to 600",
            ),
            (
                "/proof/seconds".to_owned(),
                json!(601),
                "proof.seconds: is 601: give a whole number from 1 to 600",
            ),
            (
                "/proof/seconds".to_owned(),
                json!(-1),
                "proof.seconds: has the wrong type (line 1, column",
            ),
            (
                "/limits/concurrency".to_owned(),
                json!(0),
                "limits.concurrency: is 0: give a whole number from 1 to 64",
            ),
            (
                "/limits/concurrency".to_owned(),
                json!(65),
                "limits.concurrency: is 65: give a whole number from 1 to 64",
            ),
            (
                "/limits/concurrency".to_owned(),
                json!(1.5),
                "give a whole number, not negative",
            ),
            (
                "/limits/overlapSeconds".to_owned(),
                json!(2_592_001),
                "limits.overlapSeconds: is 2592001: give a whole number from 0 to 2592000",
            ),
            (
                "/limits/importsPerYear".to_owned(),
                json!(0),
                "limits.importsPerYear: is 0: give a whole number from 1 to 1000000",
            ),
            (
                "/limits/importsPerYear".to_owned(),
                json!(1_000_001),
                "limits.importsPerYear: is 1000001: give a whole number from 1 to 1000000",
            ),
            (
                "/fallback/share".to_owned(),
                json!(1.1),
                "fallback.share: is 1.1: give a share of the lifetime between 0 and 1",
            ),
            (
                "/fallback/share".to_owned(),
                json!(-0.1),
                "fallback.share: is -0.1: give a share",
            ),
            (
                "/permit/domains".to_owned(),
                json!(["*", ""]),
                "permit.domains[1]: is empty and fits nothing: write a pattern, or remove it",
            ),
            (
                "/permit/domains".to_owned(),
                json!(["bü*.example"]),
                "permit.domains[0]: \"bü*.example\" mixes * with international letters",
            ),
            (
                "/permit/targets".to_owned(),
                json!([""]),
                "permit.targets[0]: is empty and fits nothing: write",
            ),
            (
                "/notify/webhooks".to_owned(),
                json!([{"secretArn": "arn:...", "format": "irc"}]),
                "notify.webhooks[0].format: \"irc\" is not known here",
            ),
            (
                "/orphans".to_owned(),
                json!("keep"),
                "orphans: \"keep\" is not known here",
            ),
            (
                "/limits".to_owned(),
                json!([16, 3600]),
                "limits: has the wrong type (line 1, column",
            ),
            (
                "/authorities/letsencrypt".to_owned(),
                json!(["https://a.example", [], true]),
                "authorities.letsencrypt: has the wrong type (line 1, column",
            ),
            (
                "/selfcheck".to_owned(),
                json!({}),
                "selfcheck: is not a known field (line 1, column",
            ),
            (
                "/limits".to_owned(),
                json!(null),
                "limits: has the wrong type (line 1, column",
            ),
        ] {
            let refusal = refusal(&with(&at, value)).to_string();
            assert!(refusal.contains(expected), "{at}: {refusal}");
            assert!(
                !refusal.contains("hunter2"),
                "a secret is repeated: {refusal}"
            );
        }
    }

    #[test]
    fn the_form_is_refused_with_its_place() {
        for (text, expected) in [
            (
                "",
                "document: is not valid JSON, EOF while parsing a value at line 1, column N: \
                 correct it there",
            ),
            (
                "\u{feff}{}",
                "document: begins with a byte order mark, which is not JSON: save it as \
                 UTF-8 without one",
            ),
            (
                "{} {}",
                "document: is not valid JSON, trailing characters at line 1, column N: correct \
                 it there",
            ),
            (
                "7",
                "document: has the wrong type (line 1, column N): give an object",
            ),
            (
                "{}",
                "authorities: is missing (line 1, column N): it is required, add it",
            ),
            (
                "{\n \"authorities\": {\"x\": {}}\n}",
                "authorities.x.directory: is missing (line 2, column N): it is required, add it",
            ),
            (
                "{\n \"authority\": {}\n}",
                "authority: is not a known field (line 2, column N): remove it or correct its \
                 name; known here: $schema, authorities, defaults, selfCheck, proof, notify, \
                 permit, roles, dns, fallback, rehearse, orphans, limits",
            ),
            (
                "{\"authorities\": {}, \"authorities\": {}}",
                "authorities: is given twice (line 1, column N): remove one of the two",
            ),
            (
                "{\"authorities\": {\"x\": {\"directory\": \"https://a.example\", \
                 \"termsOfServiceAgreed\": true}, \"x\": {\"directory\": \"https://b.example\", \
                 \"termsOfServiceAgreed\": true}}}",
                "authorities.x: is given twice (line 1, column N): remove one of the two",
            ),
            (
                "{\"orphans\": \"\\ud800\"}",
                "document: is not valid JSON, unexpected end of hex escape at line 1, column N: \
                 correct it there",
            ),
            (
                "{\"a\\nb\": 1}",
                "\"a\\nb\": is not a known field (line 1, column N): remove it or correct its name",
            ),
        ] {
            let refusal = Settings::parse(text.as_bytes()).unwrap_err().to_string();
            let refusal = without_columns(&refusal);
            assert!(refusal.starts_with(expected), "{text}: {refusal}");
        }
        assert!(
            Settings::parse(b"{\"orphans\": \"\xff\"}").is_err(),
            "not UTF-8"
        );
    }

    #[test]
    fn the_committed_schema_is_current() {
        assert_schema_is_current("settings.schema.json", &settings_schema());
    }

    #[test]
    fn the_schema_knows_every_field() {
        let schema = settings_schema();
        let definitions = &schema["$defs"];
        let samples = sample();
        let fields = samples.as_object().unwrap().keys().map(String::as_str);
        for field in fields.chain(["$schema"]) {
            let property = &schema["properties"][field];
            assert!(property["description"].is_string(), "{field}: {property}");
        }
        for (definition, sample) in [
            ("Authority", &samples["authorities"]["letsencrypt"]),
            (
                "ExternalAccount",
                &samples["authorities"]["letsencrypt"]["externalAccount"],
            ),
            ("Defaults", &samples["defaults"]),
            ("SelfCheck", &samples["selfCheck"]),
            ("Proof", &samples["proof"]),
            ("Notify", &samples["notify"]),
            ("Permit", &samples["permit"]),
            ("Dns", &samples["dns"]),
            ("Fallback", &samples["fallback"]),
            ("Limits", &samples["limits"]),
            (
                "AuthorityLimits",
                &json!({"ordersPerAccount": 0, "certificatesPerDomain": 0,
                        "certificatesPerNameSet": 0, "failedValidationsPerName": 0}),
            ),
            ("Limit", &json!({"count": 0, "seconds": 0})),
        ] {
            for field in sample.as_object().unwrap().keys() {
                let property = &definitions[definition]["properties"][field];
                assert!(
                    property["description"].is_string(),
                    "{definition}.{field}: {property}"
                );
            }
            assert_eq!(
                definitions[definition]["additionalProperties"],
                json!(false)
            );
        }
        assert_eq!(schema["required"], json!(["authorities", "defaults"]));
        assert_eq!(
            definitions["Proof"]["properties"]["seconds"]["default"],
            json!(120)
        );
        assert_eq!(
            definitions["Limits"]["properties"]["concurrency"]["maximum"],
            json!(64)
        );
    }
}
