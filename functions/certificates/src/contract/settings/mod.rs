//! `settings.json`: authorities, defaults, checks and permissions of one installation.
//!
//! What people write is read strictly: an unknown field, a wrong type or a value out of range is an [`Invalid`] that
//! names the field and says what to do. What is planned but not built is refused by name ("not yet"), never ignored.
//! The JSON Schema ([`settings_schema`]) is generated from the types as written, so it cannot promise other fields.

mod notify;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};
use x509_parser::pem::Pem;

use crate::contract::rate_limit;
use crate::values::arn;
use crate::values::key::KeyType;
use crate::values::names::{self, DnsName, quoted};
use crate::values::problem::Problem;
use crate::values::problem_types::Ours;
use crate::values::trust;

use notify::NotifyDocument;
pub use notify::{Channel, Notify, WebhookFormat};

/// Checked content of `settings.json`.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The certificate authorities, by the key documents call them.
    pub authorities: BTreeMap<String, Authority>,
    /// What holds for a certificate that does not say otherwise.
    pub defaults: Defaults,
    /// Our own fetch of a challenge before the CA is asked to make it.
    pub self_check: SelfCheck,
    /// The look at what a load balancer serves after a change.
    pub proof: Proof,
    /// Which names and targets documents may ask for.
    pub permit: Permit,
    /// Key of the authority at which names never issued before are ordered first, for nothing.
    pub rehearse: Option<String>,
    /// The next authority of a certificate's list is used below this share of the lifetime left, 0 to 1.
    pub fallback_share: f64,
    /// How the checks resolve names.
    pub dns: Dns,
    /// What becomes of certificates of ours whose document is gone.
    pub orphans: Orphans,
    /// Who is told.
    pub notify: Notify,
    /// How much is done at once and in a year, and how long old and new overlap.
    pub limits: Limits,
}

impl Settings {
    /// Returns the settings of an authority, by the key that documents call it.
    pub fn authority(&self, key: &str) -> Result<&Authority, Problem> {
        self.authorities.get(key).ok_or_else(|| {
            Problem::ours(
                Ours::InvalidDocument,
                format!("authority: {key:?} is not in settings.json; add it there"),
            )
        })
    }

    /// Reads and checks `settings.json`.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        let document = read::<SettingsDocument>(json)?;

        if document.authorities.is_empty() {
            return Err(Invalid::at(
                "authorities",
                "holds none: add one with its directory URL and termsOfServiceAgreed",
            ));
        }
        let authorities = document
            .authorities
            .into_iter()
            .map(|(key, Object(authority))| {
                let authority = Authority::check(&key, authority)?;
                Ok((key, authority))
            })
            .collect::<Result<BTreeMap<_, _>, Invalid>>()?;

        let Object(defaults) = document.defaults;
        find_authority("defaults.authority", &defaults.authority, &authorities)?;
        check_profile("defaults.profile", defaults.profile.as_deref())?;
        check_validation("defaults.validation", &defaults.validation)?;

        check_connect_to(
            "selfCheck.connectTo",
            document.self_check.0.connect_to.as_deref(),
        )?;
        check_connect_to("proof.connectTo", document.proof.0.connect_to.as_deref())?;
        check_range(
            "proof.seconds",
            document.proof.0.seconds,
            1,
            MAX_PROOF_SECONDS,
        )?;

        let Object(limits) = document.limits;
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
            defaults: Defaults {
                authority: defaults.authority,
                profile: defaults.profile,
                key_type: defaults.key_type,
            },
            self_check: SelfCheck {
                mode: document.self_check.0.mode,
                connect_to: document.self_check.0.connect_to,
            },
            proof: Proof {
                mode: document.proof.0.mode,
                connect_to: document.proof.0.connect_to,
                seconds: document.proof.0.seconds,
            },
            permit: Permit::check(document.permit.0)?,
            rehearse: document.rehearse,
            fallback_share: share,
            dns: Dns::check(document.dns.0)?,
            orphans: document.orphans,
            notify: Notify::check(document.notify.0)?,
            limits: Limits {
                // Checked above to be at most 64.
                concurrency: usize::try_from(limits.concurrency).unwrap_or(1),
                overlap_seconds: limits.overlap_seconds,
                // Checked above to be at most a million.
                imports_per_year: u32::try_from(limits.imports_per_year).unwrap_or(u32::MAX),
                certificates_per_load_balancer: (limits.certificates_per_load_balancer)
                    .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            },
        })
    }
}

/// A certificate authority and what it must be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// The authority's key in `authorities`.
    pub key: String,
    /// URL of its ACME directory (RFC 8555 section 7.1.1).
    pub directory: String,
    /// Contact URLs of the account, each `mailto:`.
    pub contact: Vec<String>,
    /// PEM text of trust roots beside the platform's; holds at least one certificate.
    pub root_certificate: Option<String>,
    /// The account at the CA that the ACME account is bound to.
    pub external_account: Option<ExternalAccount>,
    /// The domains by which CAA records name it, lower case; `None` where its directory may know better.
    pub caa_identities: Option<Vec<String>>,
    /// The rate limits to keep within.
    pub limits: rate_limit::Limits,
    /// Whether its certificates are not meant for the public: their roots need not be known to anybody.
    pub private: bool,
}

impl Authority {
    fn check(key: &str, document: AuthorityDocument) -> Result<Self, Invalid> {
        let at = |field: &str| format!("authorities.{}.{field}", path_key(key));
        if !names::is_short_name(key) {
            return Err(Invalid::at(
                format!("authorities.{}", path_key(key)),
                "is not a usable key: use 1 to 63 of a-z, 0-9 and -, the first not a -",
            ));
        }
        check_directory(&at("directory"), &document.directory)?;
        if !document.terms_of_service_agreed {
            return Err(Invalid::at(
                at("termsOfServiceAgreed"),
                "is false, and no CA makes an account without agreement: read the terms that the directory names \
                 (meta.termsOfService), then set it to true",
            ));
        }
        for (index, contact) in document.contact.iter().enumerate() {
            check_contact(&at(&format!("contact[{index}]")), contact)?;
        }
        if let Some(pem) = &document.root_certificate {
            check_roots(&at("rootCertificate"), pem)?;
        }
        let caa_identities = document
            .caa_identities
            .map(|identities| check_caa_identities(&at("caaIdentities"), identities))
            .transpose()?;
        let limits = document.limits.check(&at("limits"), &document.directory)?;
        if let Some(Object(external)) = &document.external_account {
            if external.key_id.is_empty() {
                return Err(Invalid::at(
                    at("externalAccount.keyId"),
                    "is empty: give the key identifier the CA gave you",
                ));
            }
            check_secret(&at("externalAccount.secretArn"), &external.secret_arn)?;
        }

        Ok(Self {
            key: key.to_owned(),
            limits,
            // A trust root of its own is what a private server is known by.
            private: document
                .private
                .unwrap_or(document.root_certificate.is_some()),
            directory: document.directory,
            contact: document.contact,
            root_certificate: document.root_certificate,
            caa_identities,
            external_account: document
                .external_account
                .map(|Object(external)| ExternalAccount {
                    key_id: external.key_id,
                    secret_arn: external.secret_arn,
                }),
        })
    }
}

/// How the checks resolve names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dns {
    /// The servers to ask; `None` for the system's.
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
                            "{} is not the address of a server: write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53",
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

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalAccount {
    /// Identifier of the key, as the CA gave it.
    pub key_id: String,
    /// ARN of the secret whose string is the base64url HMAC key.
    pub secret_arn: String,
}

/// What holds for a certificate that does not say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defaults {
    /// Key of the authority; always one of [`Settings::authorities`].
    pub authority: String,
    /// Profile to order, or the CA's own choice.
    pub profile: Option<String>,
    /// Kind of key to make.
    pub key_type: KeyType,
}

/// What a check's result may stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckMode {
    /// Not checked.
    Off,
    /// Checked and reported.
    Warn,
    /// Checked, and gone on with only if right.
    Require,
}

/// Our own fetch of a challenge before the CA is asked to make it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SelfCheck {
    /// What a bad result stops.
    pub mode: CheckMode,
    /// `host:port` that every connection goes to in place of the name's own address.
    pub connect_to: Option<String>,
}

/// The look at what a load balancer serves after a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// What a bad result stops.
    pub mode: CheckMode,
    /// `host:port` that every connection goes to in place of the load balancer's addresses.
    pub connect_to: Option<String>,
    /// How long to wait for a change to show.
    pub seconds: u64,
}

/// Which names and targets documents may ask for; `None` is anything, an empty list nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permit {
    /// Patterns of DNS names, matched against A-labels in lower case.
    pub domains: Option<Vec<Pattern>>,
    /// Patterns of ARNs. A listener is matched by its ARN, a `certificateManager` target by
    /// `arn:aws:acm:<region>:<account>:certificate/*`, in which `*` stands for a region or account not given.
    pub targets: Option<Vec<Pattern>>,
    /// Patterns of the ARNs of certificates that documents may take over from (`supersedes`).
    pub supersedes: Option<Vec<Pattern>>,
}

impl Permit {
    /// Returns whether a document may ask for `name`.
    pub fn permits_domain(&self, name: &DnsName) -> bool {
        permits(self.domains.as_deref(), name.as_str())
    }

    /// Returns whether a document may ask for the target that `arn` describes.
    pub fn permits_target(&self, arn: &str) -> bool {
        permits(self.targets.as_deref(), arn)
    }

    /// Returns whether a document may take over from the certificate of this ARN. Left out, it may
    /// from any where nothing else is restricted, and from none where something is.
    pub fn permits_superseding(&self, arn: &str) -> bool {
        let is_restricted = self.domains.is_some() || self.targets.is_some();
        match &self.supersedes {
            None => !is_restricted,
            patterns => permits(patterns.as_deref(), arn),
        }
    }

    fn check(document: PermitDocument) -> Result<Self, Invalid> {
        let domains = document.domains.map(|patterns| {
            patterns
                .iter()
                .enumerate()
                .map(|(index, text)| domain_pattern(&format!("permit.domains[{index}]"), text))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            domains: domains.transpose()?,
            targets: arn_patterns("permit.targets", document.targets)?,
            supersedes: arn_patterns("permit.supersedes", document.supersedes)?,
        })
    }
}

fn arn_patterns(
    field: &str,
    written: Option<Vec<String>>,
) -> Result<Option<Vec<Pattern>>, Invalid> {
    let patterns = written.map(|patterns| {
        patterns
            .into_iter()
            .enumerate()
            .map(|(index, text)| match text.is_empty() {
                true => Err(empty_pattern(format!("{field}[{index}]"))),
                false => Ok(Pattern(text)),
            })
            .collect()
    });
    patterns.transpose()
}

/// A text in which `*` stands for any run of characters, also none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// Returns whether the whole of `text` fits; at most the product of both lengths in steps.
    pub fn matches(&self, text: &str) -> bool {
        let pattern = self.0.as_bytes();
        let text = text.as_bytes();
        let (mut at, mut next) = (0, 0);
        // Where the last star was, and how much of the text it has swallowed. Only the last one ever needs to be
        // tried again: an earlier one swallowing more cannot help.
        let mut star = None;
        while next < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, next));
                    at += 1;
                }
                Some(byte) if *byte == text[next] => {
                    at += 1;
                    next += 1;
                }
                _ => {
                    let Some((position, swallowed)) = star else {
                        return false;
                    };
                    star = Some((position, swallowed + 1));
                    at = position + 1;
                    next = swallowed + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

/// What becomes of certificates of ours whose document is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// They are reported and left alone.
    Report,
    /// They are taken off their targets and deleted.
    Remove,
}

/// How much is done at once and in a year, and how long old and new overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Certificates worked on at once within one invocation, 1 to 64.
    pub concurrency: usize,
    /// Seconds between detaching a superseded certificate and deleting it.
    pub overlap_seconds: u64,
    /// Imports into the certificate manager of each region in any 365 days, 1 to 1,000,000.
    pub imports_per_year: u32,
    /// Certificates beside the defaults on one load balancer; `None` for AWS's 25 until a load
    /// balancer is seen to hold more.
    pub certificates_per_load_balancer: Option<usize>,
}

/// Why a document was refused: the field, and a reason that ends with what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Path of the field, such as `domains[1]`; `document` when it is the whole.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl Invalid {
    pub(crate) fn at(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Refuses what is planned and not built.
    pub(crate) fn not_yet(field: impl Into<String>, what: &str, remedy: &str) -> Self {
        Self::at(field, format!("{what} is not yet supported: {remedy}"))
    }
}

/// Returns the JSON Schema of `settings.json`.
pub fn settings_schema() -> serde_json::Value {
    schema_generator()
        .into_root_schema_for::<SettingsDocument>()
        .to_value()
}

pub(crate) fn schema_generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// Reads a document as written; whatever is wrong with it names the field and what to do.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Invalid> {
    if json.starts_with(b"\xef\xbb\xbf") {
        return Err(Invalid::at(
            WHOLE,
            "begins with a byte order mark, which is not JSON: save it as UTF-8 without one",
        ));
    }
    // Whether it is JSON at all is asked first: serde_json reports some wrong types as wrong syntax.
    serde_json::from_slice::<serde_json::Value>(json).map_err(|error| {
        Invalid::at(
            WHOLE,
            format!(
                "is not valid JSON, {} at {}: correct it there",
                bare_message(&error),
                position(&error)
            ),
        )
    })?;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut deserializer)
        .map(|Object(document)| document)
        .map_err(|error| explain(error.path(), error.inner()))
}

/// Reads an object whose keys are free, refusing one that stands twice: the first would be lost without a word.
pub(crate) fn unique_keys<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct UniqueKeys<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueKeys<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, T>()? {
                if entries.contains_key(&key) {
                    return Err(de::Error::custom(format!("duplicate field `{key}`")));
                }
                entries.insert(key, value);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(UniqueKeys(PhantomData))
}

/// What must be written as an object: serde would also take a list of the fields' values.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Finds the authority that `field` names.
pub(crate) fn find_authority<'s>(
    field: &str,
    key: &str,
    authorities: &'s BTreeMap<String, Authority>,
) -> Result<&'s Authority, Invalid> {
    authorities.get(key).ok_or_else(|| {
        let known = authorities.keys().cloned().collect::<Vec<_>>().join(", ");
        Invalid::at(
            field,
            format!(
                "{} is not an authority: use one of {known}, or add it to authorities in settings.json",
                quoted(key)
            ),
        )
    })
}

pub(crate) fn check_profile(field: &str, profile: Option<&str>) -> Result<(), Invalid> {
    match profile {
        Some(profile) if profile.is_empty() || !profile.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(Invalid::at(
                field,
                format!(
                    "{} is not the name of a profile: use one the CA's directory lists (meta.profiles), or null",
                    quoted(profile)
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Accepts `http-01`, the one way of validation that is built.
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

/// Returns a key fit to stand in a field's path.
pub(crate) fn path_key(key: &str) -> String {
    let plain = !key.is_empty()
        && key.len() <= names::MAX_QUOTED
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | ':'));
    match plain {
        true => key.to_owned(),
        false => quoted(key),
    }
}

fn permits(patterns: Option<&[Pattern]>, text: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(text)))
}

/// Returns the pattern with its international labels as A-labels, since names are matched in that form.
fn domain_pattern(field: &str, text: &str) -> Result<Pattern, Invalid> {
    if text.is_empty() {
        return Err(empty_pattern(field));
    }
    let labels = text
        .split('.')
        .map(|label| match label.is_ascii() {
            true => Some(label.to_ascii_lowercase()),
            false if label.contains('*') => None,
            false => names::a_label(label),
        })
        .collect::<Option<Vec<_>>>();
    let Some(labels) = labels else {
        return Err(Invalid::at(
            field,
            format!(
                "{} mixes * with international letters, or holds letters no name has: write the label in its xn-- form",
                quoted(text)
            ),
        ));
    };
    Ok(Pattern(labels.join(".")))
}

fn empty_pattern(field: impl Into<String>) -> Invalid {
    Invalid::at(
        field,
        "is empty and fits nothing: write a pattern, or remove it",
    )
}

fn check_directory(field: &str, directory: &str) -> Result<(), Invalid> {
    let remedy = "give the https URL of the CA's ACME directory, such as \
                  https://acme-staging-v02.api.letsencrypt.org/directory";
    if !directory.starts_with("https://") {
        return Err(Invalid::at(field, format!("is not an https URL: {remedy}")));
    }
    let valid = directory.parse::<Uri>().is_ok_and(|uri| {
        uri.authority().is_some_and(|authority| {
            !authority.host().is_empty() && !authority.as_str().contains('@')
        })
    });
    if !valid || directory.contains('#') {
        return Err(Invalid::at(
            field,
            format!("has no host, or carries credentials or a fragment: {remedy}"),
        ));
    }
    Ok(())
}

/// Returns whether a directory is one of Let's Encrypt's.
pub(crate) fn is_letsencrypt(directory: &str) -> bool {
    let uri = directory.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "letsencrypt.org" || host.ends_with(".letsencrypt.org")
}

fn check_contact(field: &str, contact: &str) -> Result<(), Invalid> {
    let refuse = |reason: &str| {
        Err(Invalid::at(
            field,
            format!("{} {reason}: write mailto:ops@example.com", quoted(contact)),
        ))
    };
    let Some(address) = contact.strip_prefix("mailto:") else {
        return refuse("does not begin with mailto:");
    };
    // RFC 8555 section 7.3 wants one address and no header fields.
    let one_address = address
        .split_once('@')
        .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if !one_address
        || address.contains([',', '?'])
        || !address.bytes().all(|b| b.is_ascii_graphic())
    {
        return refuse("is not one plain mail address");
    }
    Ok(())
}

/// Returns the domains by which CAA records name an authority, in lower case.
fn check_caa_identities(field: &str, identities: Vec<String>) -> Result<Vec<String>, Invalid> {
    if identities.is_empty() {
        return Err(Invalid::at(
            field,
            "is empty: list the domains that the CA names for CAA records, or leave it out",
        ));
    }
    identities
        .iter()
        .enumerate()
        .map(|(index, identity)| {
            let domain = identity.strip_suffix('.').unwrap_or(identity);
            let is_label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            match domain.split('.').all(is_label) {
                true => Ok(domain.to_ascii_lowercase()),
                false => Err(Invalid::at(
                    format!("{field}[{index}]"),
                    format!(
                        "{} is not a domain: write it as CAA records do, such as letsencrypt.org",
                        quoted(identity)
                    ),
                )),
            }
        })
        .collect()
}

/// Checks PEM text for trust roots, without ever repeating any of it.
fn check_roots(field: &str, pem: &str) -> Result<(), Invalid> {
    let remedy =
        "give the PEM text of the CA's root certificates (-----BEGIN CERTIFICATE-----), or null";
    let mut certificates = 0;
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let Ok(block) = block else {
            return Err(Invalid::at(field, format!("is broken PEM: {remedy}")));
        };
        if block.label.contains("PRIVATE KEY") {
            return Err(Invalid::at(
                field,
                "holds a private key, which must never be here: remove it, replace the key, and give certificates only",
            ));
        }
        if block.label != "CERTIFICATE" || block.parse_x509().is_err() {
            return Err(Invalid::at(
                field,
                format!("holds something that is no certificate: {remedy}"),
            ));
        }
        certificates += 1;
    }
    if certificates == 0 {
        return Err(Invalid::at(
            field,
            format!("holds no certificate: {remedy}"),
        ));
    }
    // As they are read when a server is judged: one that cannot be used then would be left out.
    trust::roots_in(pem).map(drop).map_err(|reason| {
        Invalid::at(
            field,
            format!("holds a certificate that is {reason}: {remedy}"),
        )
    })
}

/// Checks that a secret is named, not given; the text is not repeated, since it may be the secret itself.
fn check_secret(field: &str, text: &str) -> Result<(), Invalid> {
    match arn::is_secret(text) {
        true => Ok(()),
        false => Err(Invalid::at(
            field,
            "is not the ARN of a secret in AWS Secrets Manager: store the secret there and give its ARN, \
             arn:aws:secretsmanager:<region>:<account>:secret:...",
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
                "{} is not host:port: write 192.0.2.1:443, [2001:db8::1]:443 or host.example:443, or null",
                quoted(address)
            ),
        )),
    }
}

fn check_range(field: &str, value: u64, least: u64, most: u64) -> Result<(), Invalid> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(Invalid::at(
            field,
            format!("is {value}: give a whole number from {least} to {most}"),
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

/// Turns serde's refusal into one for an operator. Values are not repeated: one in the wrong place may be a secret.
fn explain(path: &Path, error: &serde_json::Error) -> Invalid {
    let field = field_path(path);
    let message = bare_message(error);
    let at = position(error);
    let inside = |name: &str| match field.as_str() {
        WHOLE => path_key(name),
        parent => format!("{parent}.{}", path_key(name)),
    };

    if let Some(rest) = message.strip_prefix("unknown field `") {
        let known = rest.rsplit_once("`, expected ").map(|(_, known)| known);
        let known = known.map_or_else(String::new, listed);
        return Invalid::at(
            field,
            format!(
                "is not a known field ({at}): remove it or correct its name; known here: {known}"
            ),
        );
    }
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((variant, known)) = rest.rsplit_once("`, expected ")
    {
        return Invalid::at(
            field,
            format!(
                "{} is not known here ({at}): use one of {}",
                quoted(variant),
                listed(known)
            ),
        );
    }
    if let Some(name) = between_backticks(&message, "missing field ") {
        return Invalid::at(
            inside(name),
            format!("is missing ({at}): it is required, add it"),
        );
    }
    if let Some(name) = between_backticks(&message, "duplicate field ") {
        return Invalid::at(
            inside(name),
            format!("stands twice ({at}): remove one of the two"),
        );
    }
    if message.starts_with("invalid type: ") || message.starts_with("invalid value: ") {
        let wanted = message
            .rsplit_once(", expected ")
            .map_or("another type", |(_, wanted)| wanted);
        return Invalid::at(
            field,
            format!("has the wrong type ({at}): give {}", operator_word(wanted)),
        );
    }
    if error.classify() == Category::Syntax {
        return Invalid::at(
            field,
            format!("has the wrong type ({at}): give a text in quotes"),
        );
    }
    Invalid::at(field, format!("{message} ({at}): correct it"))
}

/// Returns serde's list of names without its grammar.
fn listed(known: &str) -> String {
    known
        .trim_start_matches("one of ")
        .replace(" or ", ", ")
        .replace('`', "")
}

fn between_backticks<'m>(message: &'m str, prefix: &str) -> Option<&'m str> {
    message
        .strip_prefix(prefix)?
        .strip_prefix('`')?
        .strip_suffix('`')
}

/// Returns an operator's word for what serde calls a type.
fn operator_word(wanted: &str) -> &str {
    match wanted {
        "u64" => "a whole number, not negative",
        "f64" => "a number",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other => other,
    }
}

fn field_path(path: &Path) -> String {
    let mut field = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key } => {
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(&path_key(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    match field.is_empty() {
        true => WHOLE.to_owned(),
        false => field,
    }
}

/// Returns serde_json's message without its "at line .. column ..".
fn bare_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&suffix).unwrap_or(&message).to_owned()
}

fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// Settings of one certloop installation (`settings.json` in its bucket).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "certloop settings")]
struct SettingsDocument {
    /// Where the schema of this document is; for editors.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    /// The certificate authorities, by the key that documents call them by.
    #[serde(deserialize_with = "unique_keys")]
    #[schemars(extend("minProperties" = 1, "propertyNames" = {"pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}))]
    authorities: BTreeMap<String, Object<AuthorityDocument>>,
    /// What holds for a certificate that does not say otherwise.
    defaults: Object<DefaultsDocument>,
    /// Our own fetch of a challenge through port 80, before the CA is asked to make it.
    #[serde(default)]
    self_check: Object<SelfCheckDocument>,
    /// The TLS handshake with the load balancer after each change and once a day.
    #[serde(default)]
    proof: Object<ProofDocument>,
    /// Who is told.
    #[serde(default)]
    notify: Object<NotifyDocument>,
    /// Which names and targets documents may ask for.
    #[serde(default)]
    permit: Object<PermitDocument>,
    /// Role ARNs with external ids that documents may refer to by key. Not yet supported: must be empty.
    #[serde(default, deserialize_with = "unique_keys")]
    #[schemars(extend("maxProperties" = 0))]
    roles: BTreeMap<String, serde_json::Value>,
    /// How names are resolved by the checks.
    #[serde(default)]
    dns: Object<DnsDocument>,
    /// When the next authority of a certificate's list is tried.
    #[serde(default)]
    fallback: Object<FallbackDocument>,
    /// Key of an authority, such as a CA's staging environment. A set of names never issued before is first ordered there until that
    /// succeeds, and nothing of it is deployed.
    #[serde(default)]
    rehearse: Option<String>,
    /// What becomes of certificates of ours whose document is gone: "report" leaves them alone and says so, "remove" takes them
    /// off their targets and deletes them.
    #[serde(default = "default_orphans")]
    orphans: Orphans,
    /// How much is done at once and in a year, and how long old and new overlap.
    #[serde(default)]
    limits: Object<LimitsDocument>,
}

/// A certificate authority that speaks ACME (RFC 8555).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Authority")]
struct AuthorityDocument {
    /// https URL of the ACME directory.
    #[schemars(regex(pattern = r"^https://[^\s#@]+$"))]
    directory: String,
    /// Contacts of the account.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^mailto:[^\s@,?]+@[^\s@,?]+$")))]
    contact: Vec<String>,
    /// Whether the CA's terms of service were read and agreed to: no account is made without.
    #[schemars(extend("const" = true))]
    terms_of_service_agreed: bool,
    /// PEM text of trust roots beside the platform's, for a private ACME server.
    #[serde(default)]
    root_certificate: Option<String>,
    /// Account at the CA that the ACME account is bound to, for CAs that ask for it.
    #[serde(default)]
    external_account: Option<Object<ExternalAccountDocument>>,
    /// The domains by which CAA records name this CA. Left out or null, those that its directory names (meta.caaIdentities);
    /// for directories under letsencrypt.org that name none, "letsencrypt.org".
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9.-]+$")), extend("minItems" = 1))]
    caa_identities: Option<Vec<String>>,
    /// Rate limits to keep within: the preset "letsencrypt", limits of your own, or null for none. Where it is left out, the
    /// preset for directories under letsencrypt.org, none for others.
    #[serde(default)]
    limits: AuthorityLimitsDocument,
    /// Whether its certificates are not meant for the public. One of another authority whose root the public does not know is a problem
    /// on a listener. Left out: true where `rootCertificate` is set.
    #[serde(default)]
    private: Option<bool>,
}

/// Rate limits to keep within, as written.
#[derive(Default)]
enum AuthorityLimitsDocument {
    #[default]
    Absent,
    Null,
    Preset(String),
    Own(OwnLimitsDocument),
}

impl AuthorityLimitsDocument {
    fn check(&self, field: &str, directory: &str) -> Result<rate_limit::Limits, Invalid> {
        match self {
            Self::Absent if is_letsencrypt(directory) => Ok(rate_limit::Limits::letsencrypt()),
            Self::Absent | Self::Null => Ok(rate_limit::Limits::default()),
            Self::Preset(preset) if preset == PRESET => Ok(rate_limit::Limits::letsencrypt()),
            Self::Preset(other) => Err(Invalid::at(
                field,
                format!(
                    "{} is not a preset: use \"{PRESET}\", write the limits themselves ({{\"ordersPerAccount\": \
                     {{\"count\": 300, \"seconds\": 10800}}}}), or null for none",
                    quoted(other)
                ),
            )),
            Self::Own(own) => own.check(field),
        }
    }
}

impl<'de> Deserialize<'de> for AuthorityLimitsDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = AuthorityLimitsDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{PRESET}\", an object or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(AuthorityLimitsDocument::Null)
            }

            fn visit_str<E: de::Error>(self, preset: &str) -> Result<Self::Value, E> {
                Ok(AuthorityLimitsDocument::Preset(preset.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                OwnLimitsDocument::deserialize(MapAccessDeserializer::new(map))
                    .map(AuthorityLimitsDocument::Own)
            }
        }

        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for AuthorityLimitsDocument {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AuthorityLimits".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let own = generator.subschema_for::<OwnLimitsDocument>();
        schemars::json_schema!({"anyOf": [{"enum": [PRESET, null]}, own]})
    }
}

/// Rate limits of an authority, each a token bucket; what is left out is not limited.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "AuthorityLimits")]
struct OwnLimitsDocument {
    /// New orders of the account.
    #[serde(default)]
    orders_per_account: Option<Object<LimitDocument>>,
    /// Certificates for names under one registered domain.
    #[serde(default)]
    certificates_per_domain: Option<Object<LimitDocument>>,
    /// Certificates for exactly the same names.
    #[serde(default)]
    certificates_per_name_set: Option<Object<LimitDocument>>,
    /// Failed validations of one name.
    #[serde(default)]
    failed_validations_per_name: Option<Object<LimitDocument>>,
}

impl OwnLimitsDocument {
    fn check(&self, field: &str) -> Result<rate_limit::Limits, Invalid> {
        let check = |name: &str, limit: &Option<Object<LimitDocument>>| {
            let limit = limit.as_ref().map(|Object(limit)| limit);
            let checked = limit.map(|limit| limit.check(&format!("{field}.{name}")));
            checked.transpose()
        };
        Ok(rate_limit::Limits {
            orders_per_account: check("ordersPerAccount", &self.orders_per_account)?,
            certificates_per_domain: check("certificatesPerDomain", &self.certificates_per_domain)?,
            certificates_per_name_set: check(
                "certificatesPerNameSet",
                &self.certificates_per_name_set,
            )?,
            failed_validations_per_name: check(
                "failedValidationsPerName",
                &self.failed_validations_per_name,
            )?,
        })
    }
}

/// A token bucket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limit")]
struct LimitDocument {
    /// How many may be made at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    count: u64,
    /// In how many seconds as many more may be made; they come back evenly.
    #[schemars(range(min = 1, max = 31_536_000))]
    seconds: u64,
}

impl LimitDocument {
    fn check(&self, field: &str) -> Result<rate_limit::Limit, Invalid> {
        check_range(&format!("{field}.count"), self.count, 1, MAX_COUNT)?;
        check_range(&format!("{field}.seconds"), self.seconds, 1, MAX_SECONDS)?;
        Ok(rate_limit::Limit {
            // Checked to be at most a million.
            count: u32::try_from(self.count).unwrap_or(u32::MAX),
            seconds: self.seconds,
        })
    }
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "ExternalAccount")]
struct ExternalAccountDocument {
    /// Identifier of the key, as the CA gave it.
    #[schemars(length(min = 1))]
    key_id: String,
    /// ARN of the secret in AWS Secrets Manager whose string is the base64url HMAC key.
    #[schemars(regex(
        pattern = r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$"
    ))]
    secret_arn: String,
}

/// What holds for a certificate that does not say otherwise.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Defaults")]
struct DefaultsDocument {
    /// Key of the authority.
    authority: String,
    /// Profile to order, one the CA's directory lists; null leaves it to the CA.
    #[serde(default)]
    profile: Option<String>,
    /// Kind and size of key.
    #[serde(default = "default_key_type")]
    key_type: KeyType,
    /// How control over the names is shown: "http-01"; the others are not yet supported.
    #[serde(default = "default_validation")]
    #[schemars(extend("enum" = ["http-01", "dns-01", "dns-persist-01"]))]
    validation: String,
}

/// Our own fetch of a challenge through port 80, before the CA is asked to make it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "SelfCheck")]
struct SelfCheckDocument {
    /// "off": not made. "warn": reported and gone on with. "require": a wrong answer stops the order until it is right.
    mode: CheckMode,
    /// "host:port" that replaces every connection's address, redirects included.
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
    /// "off": not made. "warn": a wrong certificate is not proved, and what could not be told is gone on with. "require":
    /// neither is proved.
    mode: CheckMode,
    /// "host:port" that replaces every connection's address.
    #[schemars(regex(pattern = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"))]
    connect_to: Option<String>,
    /// How long to wait for a change to show.
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

/// Which names and targets documents may ask for.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Permit")]
struct PermitDocument {
    /// Patterns of names, * standing for any run of characters, letter case meaning nothing. null permits any name, an
    /// empty list none.
    #[schemars(inner(length(min = 1)))]
    domains: Option<Vec<String>>,
    /// Patterns of ARNs, * standing for any run of characters. A listener is matched by its ARN, a certificateManager
    /// target by `arn:aws:acm:<region>:<account>:certificate/*`, in which * stands for a region or account not given. null
    /// permits any target, an empty list none.
    #[schemars(inner(length(min = 1)))]
    targets: Option<Vec<String>>,
    /// Patterns of the ARNs of certificates that documents may take over from (`supersedes`), *
    /// standing for any run of characters. Left out or null: any where nothing else is restricted
    /// here, else none.
    #[schemars(inner(length(min = 1)))]
    supersedes: Option<Vec<String>>,
}

/// How names are resolved by the checks.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Dns")]
struct DnsDocument {
    /// DNS servers to ask in place of the system's, each an IP address, perhaps with a port: `192.0.2.53`, `192.0.2.53:5353`,
    /// `[2001:db8::53]:53`. null asks those of the system. What certloop fetches and whom it connects to goes by the system's
    /// all the same.
    #[schemars(inner(regex(pattern = r"^[0-9A-Fa-f.:\[\]]+$")), extend("minItems" = 1))]
    servers: Option<Vec<String>>,
}

/// When the next authority of a certificate's list is tried: the ones before are down or limiting, and so little is left.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Fallback")]
struct FallbackDocument {
    /// Share of the certificate's lifetime.
    #[schemars(range(min = 0, max = 1))]
    share: f64,
}

impl Default for FallbackDocument {
    fn default() -> Self {
        Self { share: 0.1 }
    }
}

/// How much is done at once and in a year, and how long old and new overlap.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Limits")]
struct LimitsDocument {
    /// Certificates worked on at once within one invocation.
    #[schemars(range(min = 1, max = 64))]
    concurrency: u64,
    /// Seconds between detaching a superseded certificate and deleting it.
    #[schemars(range(min = 0, max = 2_592_000))]
    overlap_seconds: u64,
    /// Imports into the certificate manager of each region in any 365 days: the account's quota.
    #[schemars(range(min = 1, max = 1_000_000))]
    imports_per_year: u64,
    /// Certificates beside the defaults that one load balancer takes: the account's quota. Left out
    /// or null: AWS's 25, until a load balancer is seen to hold more.
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

/// What the field of an [`Invalid`] says when it is the whole document.
pub(crate) const WHOLE: &str = "document";

const MAX_CONCURRENCY: u64 = 64;

const MAX_PROOF_SECONDS: u64 = 600;

const MAX_CERTIFICATES_PER_LOAD_BALANCER: u64 = 100_000;

/// Thirty days.
const MAX_OVERLAP_SECONDS: u64 = 2_592_000;

/// The name of the one preset of an authority's limits.
const PRESET: &str = "letsencrypt";
/// Where DNS servers listen unless another port is given.
const DNS_PORT: u16 = 53;

const MAX_COUNT: u64 = 1_000_000;

/// A year.
const MAX_SECONDS: u64 = 31_536_000;

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The least that is required.
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

    /// Returns a message with its columns as N: where exactly they point is serde_json's affair.
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
            "schemas/{file} is not what the types say: run the tests with UPDATE_SCHEMAS=1 and commit it"
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
                        "secretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:eab-AbCdEf"
                    },
                    "limits": "letsencrypt"
                }
            },
            "defaults": {"authority": "letsencrypt", "profile": null, "keyType": "ecdsa-p256", "validation": "http-01"},
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

    /// What reads certificates leniently takes it, and what judges servers does not.
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
                        limits: rate_limit::Limits::letsencrypt(),
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
                limits: Limits {
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
        use crate::contract::rate_limit::{Limit, Limits};

        let letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";
        let preset = Limits::letsencrypt;
        let one = |count, seconds| Some(Limit { count, seconds });
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
                Limits::default(),
            ),
            (
                "another that only sounds like it",
                "https://notletsencrypt.org/directory",
                None,
                Limits::default(),
            ),
            ("none", letsencrypt, Some(json!(null)), Limits::default()),
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
                Limits {
                    orders_per_account: one(1_000_000, 1),
                    certificates_per_domain: one(1, 31_536_000),
                    certificates_per_name_set: one(2, 3),
                    failed_validations_per_name: one(4, 5),
                },
            ),
            (
                "what is left out or null is not limited",
                letsencrypt,
                Some(
                    json!({"ordersPerAccount": null, "certificatesPerDomain": {"count": 7, "seconds": 8}}),
                ),
                Limits {
                    certificates_per_domain: one(7, 8),
                    ..Limits::default()
                },
            ),
            ("nothing", letsencrypt, Some(json!({})), Limits::default()),
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
                ".ordersPerHour: is not a known field (line 1, column N): remove it or correct its name; known here: \
                 ordersPerAccount, certificatesPerDomain, certificatesPerNameSet, failedValidationsPerName",
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
                ".certificatesPerDomain.count: has the wrong type (line 1, column N): give a whole number, not negative",
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
                ".failedValidationsPerName.seconds: is 31536001: give a whole number from 1 to 31536000",
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
                    "dns.servers[1]: {text:?} is not the address of a server: write 192.0.2.53, 192.0.2.53:5353 or \
                     [2001:db8::53]:53"
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
                "authorities.letsencrypt.caaIdentities: is empty: list the domains that the CA names for CAA records, or leave \
                 it out",
            ),
            (
                json!(["ca.example", "https://ca.example"]),
                "authorities.letsencrypt.caaIdentities[1]: \"https://ca.example\" is not a domain: write it as CAA records do, \
                 such as letsencrypt.org",
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
                "termsOfServiceAgreed: is false, and no CA makes an account without agreement: read the terms that the directory names (meta.termsOfService), then set it to true",
            ),
            (
                format!("{le}/termsOfServiceAgreed"),
                json!("yes"),
                "termsOfServiceAgreed: has the wrong type (line 1, column",
            ),
            (
                format!("{le}/contact"),
                json!(["mailto:a@b.example", "ops@example.com"]),
                "authorities.letsencrypt.contact[1]: \"ops@example.com\" does not begin with mailto:: write mailto:ops@example.com",
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
                "externalAccount.secretArn: is not the ARN of a secret in AWS Secrets Manager: store the secret there and give its ARN",
            ),
            (
                format!("{le}/externalAccount"),
                json!("hunter2"),
                "externalAccount: has the wrong type (line 1, column",
            ),
            (
                format!("{le}/externalAccount/hmacKey"),
                json!("hunter2"),
                "authorities.letsencrypt.externalAccount.hmacKey: is not a known field (line 1, column",
            ),
            (
                "/defaults/authority".to_owned(),
                json!("zerossl"),
                "defaults.authority: \"zerossl\" is not an authority: use one of letsencrypt, or add it",
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
                "document: is not valid JSON, EOF while parsing a value at line 1, column N: correct it there",
            ),
            (
                "\u{feff}{}",
                "document: begins with a byte order mark, which is not JSON: save it as UTF-8 without one",
            ),
            (
                "{} {}",
                "document: is not valid JSON, trailing characters at line 1, column N: correct it there",
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
                "authority: is not a known field (line 2, column N): remove it or correct its name; known here: $schema, \
                 authorities, defaults, selfCheck, proof, notify, permit, roles, dns, fallback, rehearse, orphans, limits",
            ),
            (
                "{\"authorities\": {}, \"authorities\": {}}",
                "authorities: stands twice (line 1, column N): remove one of the two",
            ),
            (
                "{\"authorities\": {\"x\": {\"directory\": \"https://a.example\", \"termsOfServiceAgreed\": true}, \
                 \"x\": {\"directory\": \"https://b.example\", \"termsOfServiceAgreed\": true}}}",
                "authorities.x: stands twice (line 1, column N): remove one of the two",
            ),
            (
                "{\"orphans\": \"\\ud800\"}",
                "document: is not valid JSON, unexpected end of hex escape at line 1, column N: correct it there",
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
    fn a_star_stands_for_any_run() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "www.example.com.evil.example", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyybzz", false),
            ("*ab", "aab", true),
            ("a**b", "ab", true),
        ] {
            let matched = Pattern(pattern.to_owned()).matches(text);
            assert_eq!(matched, fits, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_longer() {
        let pattern = Pattern(format!("{}b", "a*".repeat(500)));
        let text = "a".repeat(5000);
        let start = std::time::Instant::now();
        assert!(!pattern.matches(&text));
        assert!(start.elapsed() < std::time::Duration::from_secs(1));
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
                &json!({"ordersPerAccount": 0, "certificatesPerDomain": 0, "certificatesPerNameSet": 0, "failedValidationsPerName": 0}),
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
