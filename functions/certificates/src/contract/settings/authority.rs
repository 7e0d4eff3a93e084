//! The certificate authorities of an installation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use hyper::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use x509_parser::pem::Pem;

use crate::contract::rate_limit::{self};
use crate::contract::strict::{Invalid, Object, check_range, path_key};
use crate::values::arn;
use crate::values::names::{self, quoted};
use crate::values::trust;

/// A certificate authority and what we need to use it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// The authority's key in `authorities`.
    pub key: String,
    /// URL of its ACME directory (RFC 8555 section 7.1.1).
    pub directory: String,
    /// Contact URLs of the account, each `mailto:`.
    pub contact: Vec<String>,
    /// PEM text of trust roots in addition to the platform's; it holds at least one certificate.
    pub root_certificate: Option<String>,
    /// The account at the CA that the ACME account is bound to.
    pub external_account: Option<ExternalAccount>,
    /// The domains by which CAA records name it, in lower case; `None` to use those of its
    /// directory.
    pub caa_identities: Option<Vec<String>>,
    /// The rate limits to keep within.
    pub limits: rate_limit::RateLimits,
    /// Whether its certificates are not meant for the public. If so, their roots need not be
    /// publicly trusted.
    pub private: bool,
}

impl Authority {
    pub(super) fn check(key: &str, document: AuthorityDocument) -> Result<Self, Invalid> {
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
                "is false, and no CA makes an account without agreement: read the terms that the \
                 directory names (meta.termsOfService), then set it to true",
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
            // A private server is known by its own trust root.
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

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalAccount {
    /// Identifier of the key, from the CA.
    pub key_id: String,
    /// ARN of the secret whose string is the base64url HMAC key.
    pub secret_arn: String,
}

/// Checks that `field` names an authority of the settings.
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
                "{} is not an authority: use one of {known}, or add it to authorities \
                 in settings.json",
                quoted(key)
            ),
        )
    })
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
    // RFC 8555 section 7.3 requires one address and no header fields.
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

/// Checks PEM text for trust roots. Messages never repeat any of it.
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
                "holds a private key, which must never be here: remove it, replace the key, and \
                 give certificates only",
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
    // Parse the certificates as the TLS client does: it would skip one that it cannot use.
    trust::roots_in(pem).map(drop).map_err(|reason| {
        Invalid::at(
            field,
            format!("holds a certificate that is {reason}: {remedy}"),
        )
    })
}

/// Checks that the text is the ARN of a secret. Messages do not repeat the text: it may be the
/// secret itself.
pub(super) fn check_secret(field: &str, text: &str) -> Result<(), Invalid> {
    match arn::is_secret(text) {
        true => Ok(()),
        false => Err(Invalid::at(
            field,
            "is not the ARN of a secret in AWS Secrets Manager: store the secret there and give \
             its ARN, arn:aws:secretsmanager:<region>:<account>:secret:...",
        )),
    }
}

/// A certificate authority that speaks ACME (RFC 8555).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Authority")]
pub(super) struct AuthorityDocument {
    /// https URL of the ACME directory.
    #[schemars(regex(pattern = r"^https://[^\s#@]+$"))]
    directory: String,
    /// Contacts of the account.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^mailto:[^\s@,?]+@[^\s@,?]+$")))]
    contact: Vec<String>,
    /// Whether you have read the CA's terms of service and agree to them. Without this, certloop
    /// makes no account.
    #[schemars(extend("const" = true))]
    terms_of_service_agreed: bool,
    /// PEM text of trust roots in addition to the platform's, for a private ACME server.
    #[serde(default)]
    root_certificate: Option<String>,
    /// Account at the CA that the ACME account is bound to, for CAs that require one.
    #[serde(default)]
    external_account: Option<Object<ExternalAccountDocument>>,
    /// The domains by which CAA records name this CA. Left out or null: those that its directory
    /// lists (meta.caaIdentities). If a directory under letsencrypt.org lists none:
    /// "letsencrypt.org".
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9.-]+$")), extend("minItems" = 1))]
    caa_identities: Option<Vec<String>>,
    /// Rate limits to keep within: the preset "letsencrypt", limits of your own, or null for none.
    /// Left out: the preset for directories under letsencrypt.org, none for others.
    #[serde(default)]
    limits: AuthorityLimitsDocument,
    /// Whether its certificates are only for clients that know its root, not for the public. If
    /// false, a certificate on a listener is a problem when the public does not trust its root.
    /// Left out: true if `rootCertificate` is set, else false.
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
    fn check(&self, field: &str, directory: &str) -> Result<rate_limit::RateLimits, Invalid> {
        match self {
            Self::Absent if is_letsencrypt(directory) => Ok(rate_limit::RateLimits::letsencrypt()),
            Self::Absent | Self::Null => Ok(rate_limit::RateLimits::default()),
            Self::Preset(preset) if preset == PRESET => Ok(rate_limit::RateLimits::letsencrypt()),
            Self::Preset(other) => Err(Invalid::at(
                field,
                format!(
                    "{} is not a preset: use \"{PRESET}\", write the limits themselves \
                     ({{\"ordersPerAccount\": {{\"count\": 300, \"seconds\": 10800}}}}), or \
                     null for none",
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

/// Rate limits of an authority, each a token bucket. A limit that is left out does not apply.
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
    fn check(&self, field: &str) -> Result<rate_limit::RateLimits, Invalid> {
        let check = |name: &str, limit: &Option<Object<LimitDocument>>| {
            let limit = limit.as_ref().map(|Object(limit)| limit);
            let checked = limit.map(|limit| limit.check(&format!("{field}.{name}")));
            checked.transpose()
        };
        Ok(rate_limit::RateLimits {
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
    /// How many are allowed at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    count: u64,
    /// Seconds until all of them are available again. They come back evenly over this time.
    #[schemars(range(min = 1, max = 31_536_000))]
    seconds: u64,
}

impl LimitDocument {
    fn check(&self, field: &str) -> Result<rate_limit::RateLimit, Invalid> {
        check_range(&format!("{field}.count"), self.count, 1, MAX_COUNT)?;
        check_range(&format!("{field}.seconds"), self.seconds, 1, MAX_SECONDS)?;
        Ok(rate_limit::RateLimit {
            // The check allows at most a million.
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
    /// Identifier of the key, from the CA.
    #[schemars(length(min = 1))]
    key_id: String,
    /// ARN of the secret in AWS Secrets Manager whose string is the base64url HMAC key.
    #[schemars(regex(
        pattern = r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$"
    ))]
    secret_arn: String,
}

/// The name of the only preset of rate limits.
const PRESET: &str = "letsencrypt";

pub(super) const MAX_COUNT: u64 = 1_000_000;

/// A year, in seconds.
const MAX_SECONDS: u64 = 31_536_000;
