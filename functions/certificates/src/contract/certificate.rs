//! `certificates/<name>.json`: one wanted certificate, as a person writes it and after the check
//! against the settings.
//!
//! The rest of the program works with [`Wanted`]: names are normalised and sorted, defaults are
//! filled in, every target is parsed. It needs no further check, and it contains no feature that is
//! not built.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::contract::settings::{self, Settings};
use crate::contract::strict::{self, Invalid, Object};
use crate::contract::target::{Target, TargetDocument, check_targets};
use crate::values::arn::CertificateArn;
use crate::values::key::KeyType;
use crate::values::names::{CertificateName, DnsName, quoted};

/// One wanted certificate, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Name of the document.
    pub name: CertificateName,
    /// The names that the certificate must hold: sorted, without duplicates.
    pub domains: Vec<DnsName>,
    /// Keys of the authorities to order from, in order of preference; at least one. All of them are
    /// in the settings.
    pub authorities: Vec<String>,
    /// Profile to order; `None` for the CA's default.
    pub profile: Option<String>,
    /// Kind of key to generate.
    pub key_type: KeyType,
    /// Where the certificate goes, in the order of the document; when empty, only the vault keeps
    /// it.
    pub targets: Vec<Target>,
    /// ARNs of the certificates that this one takes over from.
    pub supersedes: Vec<CertificateArn>,
    /// Whether the order goes on without names that cannot be validated.
    pub partial: bool,
    /// Whether nothing is ordered.
    pub paused: bool,
    /// Tags of the imported certificates, in addition to our own two.
    pub tags: BTreeMap<String, String>,
}

impl Wanted {
    /// Reads and checks the document `certificates/<name>.json`.
    ///
    /// `account` is our own account, where it is known: a listener of another account is refused.
    pub fn parse(
        name: &CertificateName,
        json: &[u8],
        settings: &Settings,
        account: Option<&str>,
    ) -> Result<Self, Invalid> {
        let document = strict::read::<CertificateDocument>(json)?;

        if let Some(validation) = &document.validation {
            settings::check_validation("validation", validation)?;
        }
        let authorities = match document.authority {
            Some(keys) => check_authorities(keys, settings)?,
            None => vec![settings.defaults.authority.clone()],
        };
        settings::check_profile("profile", document.profile.as_deref())?;
        let profile = document
            .profile
            .or_else(|| settings.defaults.profile.clone());

        let domains = check_domains(&document.domains, profile.as_deref(), settings)?;
        let targets = check_targets(document.targets, settings, account)?;
        let supersedes = check_supersedes(&document.supersedes, settings)?;
        check_tags(&document.tags)?;

        Ok(Self {
            name: name.clone(),
            domains,
            authorities,
            profile,
            partial: document.partial,
            key_type: document.key_type.unwrap_or(settings.defaults.key_type),
            targets,
            supersedes,
            paused: document.paused,
            tags: document.tags,
        })
    }
}

/// Returns the JSON Schema of `certificates/<name>.json`.
pub fn certificate_schema() -> serde_json::Value {
    strict::schema_generator()
        .into_root_schema_for::<CertificateDocument>()
        .to_value()
}

fn check_authorities(keys: OneOrMany, settings: &Settings) -> Result<Vec<String>, Invalid> {
    let (keys, listed) = match keys {
        OneOrMany::One(key) => (vec![key], false),
        OneOrMany::Many(keys) => (keys, true),
    };
    for (index, key) in keys.iter().enumerate() {
        let field = match listed {
            true => format!("authority[{index}]"),
            false => "authority".to_owned(),
        };
        settings::find_authority(&field, key, &settings.authorities)?;
        if let Some(earlier) = keys[..index].iter().position(|other| other == key) {
            return Err(Invalid::at(
                field,
                format!("is the same authority as authority[{earlier}]: remove one of the two"),
            ));
        }
    }
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(Invalid::at(
            "authority",
            "is an empty list: name an authority, or leave the field out to use the default",
        )),
    }
}

fn check_domains(
    written: &[String],
    profile: Option<&str>,
    settings: &Settings,
) -> Result<Vec<DnsName>, Invalid> {
    if written.is_empty() {
        return Err(Invalid::at(
            "domains",
            "is empty: list the names that the certificate must hold",
        ));
    }
    let mut names = written
        .iter()
        .enumerate()
        .map(|(index, text)| {
            DnsName::parse(text)
                .map_err(|refusal| Invalid::at(domain_at(index), refusal.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    check_named_once(&names)?;
    check_number_of_names(&names, profile)?;
    check_none_is_covered(&names)?;
    for (index, name) in names.iter().enumerate() {
        if name.is_wildcard() {
            return Err(Invalid::at(
                domain_at(index),
                format!(
                    "{name} is a wildcard, which http-01 cannot validate, and dns-01 is not yet \
                     supported: list the names one by one"
                ),
            ));
        }
    }
    for (index, name) in names.iter().enumerate() {
        if !settings.permit.permits_domain(name) {
            return Err(Invalid::at(
                domain_at(index),
                format!(
                    "{name} is not permitted by permit.domains of settings.json: remove it here, \
                     or add a pattern there"
                ),
            ));
        }
    }
    names.sort();
    Ok(names)
}

fn domain_at(index: usize) -> String {
    format!("domains[{index}]")
}

fn check_named_once(names: &[DnsName]) -> Result<(), Invalid> {
    let mut first = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(earlier) = first.insert(name, index) {
            return Err(Invalid::at(
                domain_at(index),
                format!("is {name}, the same name as domains[{earlier}]: remove one of the two"),
            ));
        }
    }
    Ok(())
}

fn check_number_of_names(names: &[DnsName], profile: Option<&str>) -> Result<(), Invalid> {
    let most = most_names(profile);
    if names.len() > most {
        let profile = match profile {
            Some(profile) => format!("profile {}", quoted(profile)),
            None => "the CA's default profile".to_owned(),
        };
        return Err(Invalid::at(
            "domains",
            format!(
                "has {} names and {profile} allows {most}: split them over several documents",
                names.len()
            ),
        ));
    }
    Ok(())
}

/// Checks that no wildcard covers another name of the list.
fn check_none_is_covered(names: &[DnsName]) -> Result<(), Invalid> {
    for (index, name) in names.iter().enumerate() {
        let wildcard = names
            .iter()
            .find(|other| *other != name && other.covers(name));
        if let Some(wildcard) = wildcard {
            return Err(Invalid::at(
                domain_at(index),
                format!(
                    "{name} is covered by {wildcard}, and CAs refuse both in one certificate: \
                     remove one of the two"
                ),
            ));
        }
    }
    Ok(())
}

/// Returns how many names a certificate of this profile may hold, by Let's Encrypt's table of
/// profiles.
fn most_names(profile: Option<&str>) -> usize {
    match profile {
        Some("tlsserver" | "shortlived") => MAX_NAMES_OF_NARROW_PROFILES,
        _ => MAX_NAMES,
    }
}

fn check_supersedes(
    written: &[String],
    settings: &Settings,
) -> Result<Vec<CertificateArn>, Invalid> {
    let mut arns = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let field = format!("supersedes[{index}]");
        let arn = text
            .parse::<CertificateArn>()
            .map_err(|refusal| Invalid::at(&field, refusal.to_string()))?;
        if let Some(earlier) = arns.iter().position(|other| *other == arn) {
            return Err(Invalid::at(
                field,
                format!("is the same certificate as supersedes[{earlier}]: remove one of the two"),
            ));
        }
        if !settings.permit.permits_superseding(arn.as_str()) {
            return Err(Invalid::at(
                field,
                format!(
                    "{arn} is not permitted by permit.supersedes of settings.json: remove it here, \
                     or add a pattern there"
                ),
            ));
        }
        arns.push(arn);
    }
    Ok(arns)
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if tags.len() > MAX_TAGS {
        return Err(Invalid::at(
            "tags",
            format!(
                "has {} tags, and AWS allows 50 of which certloop uses 2: keep {MAX_TAGS}",
                tags.len()
            ),
        ));
    }
    for (key, value) in tags {
        let field = format!("tags.{}", strict::path_key(key));
        let lower = key.to_ascii_lowercase();
        if let Some(prefix) = RESERVED_TAG_PREFIXES.iter().find(|p| lower.starts_with(*p)) {
            return Err(Invalid::at(
                field,
                format!("begins with {prefix}, which is reserved: use another key"),
            ));
        }
        if key.is_empty() || key.chars().count() > MAX_TAG_KEY {
            return Err(Invalid::at(
                field,
                format!("is empty or too long for a tag's key: use 1 to {MAX_TAG_KEY} characters"),
            ));
        }
        if value.chars().count() > MAX_TAG_VALUE {
            return Err(Invalid::at(
                field,
                format!("has a value that is too long: use at most {MAX_TAG_VALUE} characters"),
            ));
        }
        if !key.chars().chain(value.chars()).all(is_tag_character) {
            return Err(Invalid::at(
                field,
                "has characters no tag may hold: use letters, digits, spaces and _ . : / = + - @",
            ));
        }
    }
    Ok(())
}

/// The characters that ACM accepts: `[\p{L}\p{Z}\p{N}_.:\/=+\-@]`.
fn is_tag_character(c: char) -> bool {
    c.is_alphanumeric()
        || (c.is_whitespace() && !c.is_control())
        || matches!(c, '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@')
}

/// A certificate that certloop keeps valid (`certificates/<name>.json` in its bucket).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "certloop certificate")]
struct CertificateDocument {
    /// URL or path of this document's schema, for editors.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    /// The names that the certificate must hold. Order and letter case do not matter; international
    /// names may be written in Unicode. A profile may limit how many there are. Wildcards need
    /// dns-01, which is not yet supported.
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1)),
        extend("uniqueItems" = true)
    )]
    domains: Vec<String>,
    /// Key of an authority in settings.json, or a list of keys in order of preference. certloop
    /// uses the next one when those before it are down or limit requests, and little of the
    /// lifetime is left (`fallback.share` of the settings). Left out: the settings' default.
    #[serde(default)]
    authority: Option<OneOrMany>,
    /// Profile to order; the CA's directory lists them. Left out or null: the settings' default.
    #[serde(default)]
    profile: Option<String>,
    /// Kind and size of key. Left out: the settings' default.
    #[serde(default)]
    key_type: Option<KeyType>,
    /// How to prove control over the names: "http-01"; other methods are not yet supported. Left
    /// out: the settings' default.
    #[serde(default)]
    #[schemars(extend("enum" = ["http-01", "dns-01", "dns-persist-01", null]))]
    validation: Option<String>,
    /// Where the certificate goes. With an empty list only the vault keeps it.
    targets: Vec<Object<TargetDocument>>,
    /// ARNs of certificates in AWS Certificate Manager that this one takes over from. certloop
    /// takes them off the targets when this one is there, and puts them back if the proof fails. It
    /// never deletes them.
    #[serde(default)]
    #[schemars(
        inner(regex(
            pattern = r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9_-]+$"
        )),
        extend("uniqueItems" = true)
    )]
    supersedes: Vec<String>,
    /// Whether to go on without the names that cannot be validated. certloop tries those again on
    /// their own schedule.
    #[serde(default)]
    partial: bool,
    /// Order nothing; keep serving and reporting.
    #[serde(default)]
    paused: bool,
    /// Tags of the imported certificates.
    #[serde(default, deserialize_with = "strict::unique_keys")]
    #[schemars(extend(
        "maxProperties" = 48,
        "propertyNames" = {
            "minLength": 1,
            "maxLength": 128,
            "not": {"pattern": "^([Aa][Ww][Ss]|[Cc][Ee][Rr][Tt][Ll][Oo][Oo][Pp]):"}
        },
        "additionalProperties" = {"type": "string", "maxLength": 256}
    ))]
    tags: BTreeMap<String, String>,
}

/// One key, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrMany {
    /// One key.
    One(String),
    /// Keys in order of preference.
    Many(#[schemars(length(min = 1), extend("uniqueItems" = true))] Vec<String>),
}

// Written by hand: serde's `untagged` reports every mistake as "did not match any variant".
impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor;

        impl<'de> Visitor<'de> for OneOrManyVisitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = list.next_element()? {
                    keys.push(key);
                }
                Ok(OneOrMany::Many(keys))
            }
        }

        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

/// The most names in a certificate of Let's Encrypt.
const MAX_NAMES: usize = 100;

/// The most names under its profiles `tlsserver` and `shortlived`.
const MAX_NAMES_OF_NARROW_PROFILES: usize = 25;

/// AWS allows fifty; certloop needs two to mark its own certificates.
const MAX_TAGS: usize = 48;

const MAX_TAG_KEY: usize = 128;

const MAX_TAG_VALUE: usize = 256;

const RESERVED_TAG_PREFIXES: [&str; 2] = ["certloop:", "aws:"];

#[cfg(test)]
mod tests {
    use crate::contract::target::{ListenerAt, NewListener, Placement};
    use serde_json::{Value, json};

    use super::*;
    use crate::contract::settings::tests::{
        assert_schema_is_current, minimal, parse as parse_settings, without_columns,
    };

    const ACCOUNT: &str = "123456789012";
    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";
    const OLD: &str =
        "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012";

    /// The sample of the documentation.
    fn sample() -> Value {
        json!({
            "domains": ["shop.example.com", "www.shop.example.com"],
            "authority": "letsencrypt",
            "profile": "tlsserver",
            "keyType": "ecdsa-p256",
            "validation": "http-01",
            "targets": [{"type": "listener", "arn": LISTENER, "as": "sni"}],
            "supersedes": [],
            "partial": false,
            "paused": false,
            "tags": {"Team": "web"}
        })
    }

    /// The sample with the fields of `changes` replaced.
    fn with(changes: Value) -> Value {
        let mut document = sample();
        for (field, value) in changes.as_object().unwrap() {
            document[field] = value.clone();
        }
        document
    }

    fn parse_in(settings: &Settings, document: &Value) -> Result<Wanted, Invalid> {
        parse_text(settings, &document.to_string())
    }

    fn parse_text(settings: &Settings, text: &str) -> Result<Wanted, Invalid> {
        let name = "shop".parse().unwrap();
        Wanted::parse(&name, text.as_bytes(), settings, Some(ACCOUNT))
    }

    fn parse(document: &Value) -> Result<Wanted, Invalid> {
        parse_in(&parse_settings(&minimal()).unwrap(), document)
    }

    fn refusal(document: &Value) -> String {
        parse(document).unwrap_err().to_string()
    }

    fn listener(arn: &str) -> Value {
        json!({"type": "listener", "arn": arn})
    }

    #[test]
    fn the_sample_is_understood() {
        let wanted = parse(&sample()).unwrap();
        assert_eq!(
            wanted,
            Wanted {
                name: "shop".parse().unwrap(),
                domains: vec![
                    DnsName::parse("shop.example.com").unwrap(),
                    DnsName::parse("www.shop.example.com").unwrap(),
                ],
                authorities: vec!["letsencrypt".to_owned()],
                partial: false,
                profile: Some("tlsserver".to_owned()),
                key_type: KeyType::EcdsaP256,
                targets: vec![Target::Listener {
                    at: ListenerAt::Arn(LISTENER.parse().unwrap()),
                    placement: Placement::Sni,
                }],
                supersedes: Vec::new(),
                paused: false,
                tags: BTreeMap::from([("Team".to_owned(), "web".to_owned())]),
            }
        );
    }

    #[test]
    fn what_is_left_out_comes_from_the_settings() {
        let mut settings = minimal();
        settings["defaults"]["profile"] = json!("shortlived");
        settings["defaults"]["keyType"] = json!("rsa-3072");
        let settings = parse_settings(&settings).unwrap();
        for (why, document) in [
            (
                "left out",
                json!({"domains": ["a.example.com"], "targets": []}),
            ),
            (
                "null",
                json!({"$schema": "certificate.schema.json", "domains": ["a.example.com"],
                       "targets": [], "authority": null, "profile": null, "keyType": null,
                       "validation": null}),
            ),
        ] {
            let wanted = parse_in(&settings, &document).unwrap();
            assert_eq!(wanted.authorities, ["letsencrypt"], "{why}");
            assert_eq!(wanted.profile.as_deref(), Some("shortlived"), "{why}");
            assert_eq!(wanted.key_type, KeyType::Rsa3072, "{why}");
            assert!(wanted.targets.is_empty() && wanted.tags.is_empty(), "{why}");
            assert!(!wanted.paused, "{why}");
        }
    }

    #[test]
    fn what_is_given_is_taken() {
        let wanted = parse(&with(json!({
            "domains": ["WWW.b.example", "bücher.example", "a.example."],
            "authority": ["letsencrypt"],
            "keyType": "rsa-4096",
            "targets": [
                {"type": "listener", "arn": LISTENER, "as": "default"},
                {"type": "certificateManager"},
                {"type": "certificateManager", "region": "us-east-1"},
            ],
            "supersedes": [OLD],
            "paused": true,
        })))
        .unwrap();
        let domains = wanted.domains.iter().map(DnsName::as_str);
        assert_eq!(
            domains.collect::<Vec<_>>(),
            ["a.example", "www.b.example", "xn--bcher-kva.example"],
            "normalised and sorted"
        );
        assert_eq!(wanted.key_type, KeyType::Rsa4096);
        assert_eq!(
            wanted.targets,
            [
                Target::Listener {
                    at: ListenerAt::Arn(LISTENER.parse().unwrap()),
                    placement: Placement::Default
                },
                Target::CertificateManager { region: None },
                Target::CertificateManager {
                    region: Some("us-east-1".to_owned())
                },
            ]
        );
        assert_eq!(wanted.supersedes, [OLD.parse().unwrap()]);
        assert!(wanted.paused);
    }

    #[test]
    fn names_are_refused_with_their_place() {
        let many = |count: usize| {
            (0..count)
                .map(|n| format!("n{n}.example.com"))
                .collect::<Vec<_>>()
        };
        for (why, changes, expected) in [
            (
                "no names",
                json!({"domains": []}),
                "domains: is empty: list the names that the certificate must hold",
            ),
            (
                "the same name twice",
                json!({"domains": ["a.example", "b.example", "a.example"]}),
                "domains[2]: is a.example, the same name as domains[0]: remove one of the two",
            ),
            (
                "the same name in another case",
                json!({"domains": ["a.example", "A.Example."]}),
                "domains[1]: is a.example, the same name as domains[0]: remove one of the two",
            ),
            (
                "the same name as an A-label",
                json!({"domains": ["bücher.example", "xn--bcher-kva.example"]}),
                "domains[1]: is xn--bcher-kva.example, the same name as domains[0]: remove one \
                 of the two",
            ),
            (
                "a wildcard",
                json!({"domains": ["example.com", "*.example.com"]}),
                "domains[1]: *.example.com is a wildcard, which http-01 cannot validate, and \
                 dns-01 is not yet supported: list the names one by one",
            ),
            (
                "a wildcard with a name it covers",
                json!({"domains": ["*.example.com", "A.example.com"]}),
                "domains[1]: a.example.com is covered by *.example.com, and CAs refuse both in one \
                 certificate: remove one of the two",
            ),
            (
                "a single label",
                json!({"domains": ["example.com", "localhost"]}),
                "domains[1]: \"localhost\" is a single label, which no public CA signs: give \
                 the full name",
            ),
            (
                "more names than the profile allows",
                json!({"domains": many(26)}),
                "domains: has 26 names and profile \"tlsserver\" allows 25: split them over \
                 several documents",
            ),
            (
                "more names than the other narrow profile allows",
                json!({"domains": many(26), "profile": "shortlived"}),
                "domains: has 26 names and profile \"shortlived\" allows 25: split them over \
                 several documents",
            ),
            (
                "more names than any profile allows",
                json!({"domains": many(101), "profile": null}),
                "domains: has 101 names and the CA's default profile allows 100: split them over \
                 several documents",
            ),
        ] {
            assert_eq!(refusal(&with(changes)), expected, "{why}");
        }
        assert!(parse(&with(json!({"domains": many(25)}))).is_ok());
        assert!(parse(&with(json!({"domains": many(100), "profile": "classic"}))).is_ok());
    }

    const BALANCER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        loadbalancer/app/web/50dc6c495c0c9188";
    const GROUP: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/site/73e2d6bc24d8a067";

    #[test]
    fn a_listener_may_be_named_by_its_load_balancer_and_port() {
        let with_target = |target: Value| parse(&with(json!({"targets": [target]}))).unwrap();
        let new = |wanted: &Wanted| match &wanted.targets[0] {
            Target::Listener {
                at: ListenerAt::Port(new),
                ..
            } => (**new).clone(),
            other => panic!("{other:?}"),
        };
        let wanted = with_target(json!({
            "type": "listener", "loadBalancer": BALANCER, "port": 8443, "forward": GROUP,
            "tlsPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06", "as": "default",
        }));
        assert_eq!(
            new(&wanted),
            NewListener {
                load_balancer: BALANCER.parse().unwrap(),
                port: 8443,
                forward: GROUP.parse().unwrap(),
                tls_policy: Some("ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned()),
            }
        );
        let short =
            with_target(json!({"type": "listener", "loadBalancer": BALANCER, "forward": GROUP}));
        assert_eq!(new(&short).port, 443);
        assert_eq!(new(&short).key(), format!("{BALANCER}:443"));
        assert_eq!(
            short.targets[0].permit_text(Some(ACCOUNT)),
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
             listener/app/web/50dc6c495c0c9188/*"
        );
    }

    #[test]
    fn a_listener_to_be_made_is_refused_with_its_place() {
        let balancer = json!({"type": "listener", "loadBalancer": BALANCER, "forward": GROUP});
        let changed = |field: &str, value: Value| {
            let mut target = balancer.clone();
            target[field] = value;
            json!([target])
        };
        let foreign = BALANCER.replace(ACCOUNT, "210987654321");
        let away = GROUP.replace("eu-central-1", "us-east-1");
        for (targets, expected) in [
            (
                changed("arn", json!(LISTENER)),
                "targets[0].arn: names a listener that exists, and \"loadBalancer\" one",
            ),
            (
                changed("loadBalancer", json!(LISTENER)),
                "targets[0].loadBalancer: \"arn:aws:elast",
            ),
            (
                changed("loadBalancer", json!(foreign)),
                "targets[0].loadBalancer: a load balancer of another account",
            ),
            (
                changed("forward", json!(null)),
                "targets[0].forward: is missing: add the ARN of the target group",
            ),
            (
                changed("forward", json!(BALANCER)),
                "is a load balancer, not a target group: give",
            ),
            (
                changed("forward", json!(away)),
                "targets[0].forward: is in another region or account than the load balancer",
            ),
            (
                changed("port", json!(0)),
                "targets[0].port: is 0: write 1 to 65535",
            ),
            (
                changed("port", json!(80)),
                "targets[0].port: is 80, which stays plain HTTP",
            ),
            (changed("port", json!(70_000)), "targets[0].port: "),
            (
                changed("tlsPolicy", json!("TLS 1.3")),
                "targets[0].tlsPolicy: \"TLS 1.3\" is not the name of a security policy",
            ),
            (
                changed("region", json!("eu-central-1")),
                "targets[0].region: belongs to a certificateManager target",
            ),
            (
                json!([{"type": "listener", "arn": LISTENER, "port": 443}]),
                "targets[0].port: goes with \"loadBalancer\"",
            ),
            (
                json!([{"type": "certificateManager", "forward": GROUP}]),
                "targets[0].forward: belongs to a listener target",
            ),
            (
                json!([balancer, balancer]),
                "targets[1]: is the same target as targets[0]",
            ),
        ] {
            let refused = refusal(&with(json!({"targets": targets})));
            assert!(refused.contains(expected), "{refused}\nlacks {expected}");
        }
    }

    #[test]
    fn targets_are_refused_with_their_place() {
        let balancer = LISTENER.replace("listener/app", "loadbalancer/app");
        let net = LISTENER.replace("/app/", "/net/");
        let foreign = LISTENER.replace(ACCOUNT, "210987654321");
        for (why, targets, expected) in [
            (
                "no ARN",
                json!([{"type": "listener"}]),
                "targets[0].arn: is missing: add the ARN of the listener",
            ),
            (
                "no ARN at all",
                json!([listener("web")]),
                "targets[0].arn: \"web\" is not an ARN: give the ARN of",
            ),
            (
                "another service's",
                json!([listener(OLD)]),
                "is not an ARN of Elastic Load Balancing: give the ARN of",
            ),
            (
                "a load balancer",
                json!([listener(&balancer)]),
                "is a load balancer, not one of its listeners: give",
            ),
            (
                "an NLB",
                json!([listener(&net)]),
                "Network Load Balancer, which is not yet supported: give the ARN of",
            ),
            (
                "another account",
                json!([listener(&foreign)]),
                "targets[0].arn: a listener of another account (210987654321, and this is \
                 123456789012) is not yet supported: give a listener of this account, or run \
                 certloop in that one",
            ),
            (
                "another placement",
                json!([{"type": "listener", "arn": LISTENER, "as": "first"}]),
                "targets[0].as: \"first\" is not known here (line 1, column",
            ),
            (
                "the same listener twice",
                json!([listener(LISTENER), {"type": "certificateManager"}, listener(LISTENER)]),
                "targets[2]: is the same target as targets[0]: remove one of the two",
            ),
            (
                "one listener placed twice",
                json!([listener(LISTENER), {"type": "listener", "arn": LISTENER, "as": "default"}]),
                "targets[1]: is the same target as targets[0]: remove one of the two",
            ),
            (
                "the same region twice",
                json!([{"type": "certificateManager", "region": "us-east-1"},
                       {"type": "certificateManager", "region": "us-east-1"}]),
                "targets[1]: is the same target as targets[0]: remove one of the two",
            ),
            (
                "the own region twice",
                json!([{"type": "certificateManager"},
                       {"type": "certificateManager", "region": null}]),
                "targets[1]: is the same target as targets[0]: remove one of the two",
            ),
            (
                "no region",
                json!([{"type": "certificateManager", "region": "Virginia"}]),
                "targets[0].region: \"Virginia\" is not the name of a region: write one such as \
                 us-east-1, or leave it out",
            ),
            (
                "a listener with a region",
                json!([{"type": "listener", "arn": LISTENER, "region": "eu-central-1"}]),
                "targets[0].region: belongs to a certificateManager target, and this one is a \
                 listener: remove it",
            ),
            (
                "an import with an ARN",
                json!([{"type": "certificateManager", "arn": OLD}]),
                "targets[0].arn: belongs to a listener target, and this one is a \
                 certificateManager: remove it",
            ),
            (
                "an import with a placement",
                json!([{"type": "certificateManager", "as": "sni"}]),
                "targets[0].as: belongs to a listener target, and this one is a \
                 certificateManager: remove it",
            ),
            (
                "an unknown type",
                json!([{"type": "nginx"}]),
                "targets[0].type: \"nginx\" is not a target type: use \"listener\" or \
                 \"certificateManager\"",
            ),
            (
                "no type",
                json!([{"arn": LISTENER}]),
                "targets[0].type: is missing (line 1, column",
            ),
            (
                "an unknown field",
                json!([{"type": "listener", "arn": LISTENER, "portal": 443}]),
                "targets[0].portal: is not a known field (line 1, column",
            ),
            (
                "a text",
                json!([LISTENER]),
                "targets[0]: has the wrong type (line 1, column",
            ),
        ] {
            let refusal = refusal(&with(json!({"targets": targets})));
            assert!(refusal.contains(expected), "{why}: {refusal}");
        }
    }

    #[test]
    fn any_listener_goes_where_the_account_is_unknown() {
        let settings = parse_settings(&minimal()).unwrap();
        let text = sample().to_string().replace(ACCOUNT, "210987654321");
        let wanted = Wanted::parse(&"shop".parse().unwrap(), text.as_bytes(), &settings, None);
        assert!(wanted.is_ok());
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let settings = parse_settings(&minimal()).unwrap();
        let target = |kind: &str| json!({"targets": [{"type": kind}]});
        let elsewhere =
            json!({"targets": [{"type": "listener", "arn": LISTENER, "account": "shared"}]});
        for (changes, field) in [
            (json!({"validation": "dns-01"}), "validation"),
            (
                json!({"validation": "dns-01", "domains": ["*.example.com"]}),
                "validation",
            ),
            (json!({"validation": "dns-persist-01"}), "validation"),
            (json!({"domains": ["*.example.com"]}), "domains[0]"),
            (json!({"domains": ["192.0.2.1"]}), "domains[0]"),
            (elsewhere, "targets[0].account"),
            (target("classicLoadBalancer"), "targets[0].type"),
            (target("classic-load-balancer"), "targets[0].type"),
            (target("secretsManager"), "targets[0].type"),
            (target("kubernetes"), "targets[0].type"),
            (target("cloudFront"), "targets[0].type"),
            (target("apiGateway"), "targets[0].type"),
            (target("networkLoadBalancer"), "targets[0].type"),
        ] {
            let refusal = parse_in(&settings, &with(changes)).unwrap_err();
            assert_eq!(refusal.field, field);
            assert!(refusal.reason.contains("not yet supported: "), "{refusal}");
        }
    }

    #[test]
    fn authorities_are_kept_in_their_order_and_none_stands_twice() {
        let mut settings = minimal();
        settings["authorities"]["other"] = settings["authorities"]["letsencrypt"].clone();
        let settings = parse_settings(&settings).unwrap();
        let in_order =
            |list: serde_json::Value| parse_in(&settings, &with(json!({"authority": list})));
        let wanted = in_order(json!(["other", "letsencrypt"])).unwrap();
        assert_eq!(wanted.authorities, ["other", "letsencrypt"]);
        let twice = in_order(json!(["other", "other"])).unwrap_err();
        assert_eq!(twice.field, "authority[1]");
    }

    #[test]
    fn the_rest_is_refused_with_its_field() {
        let tags = |count: usize| {
            (0..count)
                .map(|n| (format!("t{n}"), json!("x")))
                .collect::<serde_json::Map<_, _>>()
        };
        let long = "a".repeat(129);
        for (why, changes, expected) in [
            (
                "an unknown authority",
                json!({"authority": "zerossl"}),
                "authority: \"zerossl\" is not an authority: use one of letsencrypt, or add it to \
                 authorities in settings.json",
            ),
            (
                "an unknown one in a list",
                json!({"authority": ["letsencrypt", "x"]}),
                "authority[1]: \"x\" is not",
            ),
            (
                "no authority",
                json!({"authority": []}),
                "authority: is an empty list: name an authority, or leave",
            ),
            (
                "a number for an authority",
                json!({"authority": 1}),
                "authority: has the wrong type (line 1, column",
            ),
            (
                "a number in the list",
                json!({"authority": [1]}),
                "authority[0]: has the wrong type (line 1, column",
            ),
            (
                "an empty profile",
                json!({"profile": ""}),
                "profile: \"\" is not the name of a profile: use one",
            ),
            (
                "an unknown validation",
                json!({"validation": "tls-alpn-01"}),
                "validation: \"tls-alpn-01\" is not a way of validation: use \"http-01\"",
            ),
            (
                "a listener to supersede",
                json!({"supersedes": [LISTENER]}),
                "is not an ARN of Certificate Manager: give",
            ),
            (
                "one to supersede twice",
                json!({"supersedes": [OLD, OLD]}),
                "supersedes[1]: is the same certificate as supersedes[0]: remove one of the two",
            ),
            (
                "a tag of ours",
                json!({"tags": {"certloop:certificate": "x"}}),
                "tags.certloop:certificate: begins with certloop:, which is reserved: use \
                 another key",
            ),
            (
                "a tag of AWS",
                json!({"tags": {"AWS:x": "x"}}),
                "tags.AWS:x: begins with aws:, which is reserved: use another key",
            ),
            (
                "too many tags",
                json!({"tags": tags(49)}),
                "tags: has 49 tags, and AWS allows 50 of which certloop uses 2: keep 48",
            ),
            (
                "an empty tag key",
                json!({"tags": {"": "x"}}),
                "tags.\"\": is empty or too long for a tag's key: use 1 to",
            ),
            (
                "a long tag key",
                json!({"tags": {long.as_str(): "x"}}),
                "is empty or too long for a tag's key: use 1 to 128",
            ),
            (
                "a long tag value",
                json!({"tags": {"a": long.repeat(2)}}),
                "tags.a: has a value that is too long: use at most 256 characters",
            ),
            (
                "a strange tag value",
                json!({"tags": {"a": "b\n"}}),
                "tags.a: has characters no tag may hold: use letters, digits, spaces and _ . : / \
                 = + - @",
            ),
            (
                "a tag that is a number",
                json!({"tags": {"a": 1}}),
                "tags.a: has the wrong type (line 1, column",
            ),
            (
                "a text for paused",
                json!({"paused": "no"}),
                "paused: has the wrong type (line 1, column",
            ),
            (
                "null for paused",
                json!({"paused": null}),
                "paused: has the wrong type (line 1, column",
            ),
            (
                "an unknown field",
                json!({"domain": "a.example"}),
                "domain: is not a known field (line 1, column",
            ),
        ] {
            let refusal = refusal(&with(changes));
            assert!(refusal.contains(expected), "{why}: {refusal}");
        }
        assert!(parse(&with(json!({"tags": tags(48)}))).is_ok());
        let full = json!({"tags": {"a".repeat(128): "ä b_.:/=+-@".repeat(23)}});
        assert!(parse(&with(full)).is_ok());
    }

    #[test]
    fn every_key_type_is_known_and_others_get_the_list() {
        for key_type in KeyType::ALL {
            let document = with(json!({"keyType": key_type.to_string()}));
            assert_eq!(parse(&document).unwrap().key_type, key_type);
        }
        let settings = parse_settings(&minimal()).unwrap();
        for (written, said) in [
            (
                "\"rsa-1024\"",
                "\"rsa-1024\" is not known here (line 1, column N): use one of ecdsa-p256, \
                 ecdsa-p384, rsa-2048, rsa-3072, rsa-4096",
            ),
            ("2048", "has the wrong type (line 1, column"),
        ] {
            let text = format!(
                "{{\"domains\": [\"a.example\"], \"targets\": [], \"keyType\": {written}}}"
            );
            let refusal = parse_text(&settings, &text).unwrap_err();
            assert_eq!(refusal.field, "keyType");
            assert!(
                without_columns(&refusal.reason).starts_with(said),
                "{refusal}"
            );
        }
    }

    #[test]
    fn the_form_is_refused_with_its_place() {
        let settings = parse_settings(&minimal()).unwrap();
        for (text, expected) in [
            (
                "",
                "document: is not valid JSON, EOF while parsing a value at line 1, column N: \
                 correct it there",
            ),
            (
                "{",
                "document: is not valid JSON, EOF while parsing an object at line 1, column N: \
                 correct it there",
            ),
            (
                "{\n  \"domains\": [\"a.example\",],\n}",
                "document: is not valid JSON, trailing comma at line 2, column N: correct it there",
            ),
            (
                "[]",
                "document: has the wrong type (line 1, column N): give an object",
            ),
            (
                "{}",
                "domains: is missing (line 1, column N): it is required, add it",
            ),
            (
                "{\"domains\": [\"a.example\"]}",
                "targets: is missing (line 1, column N): it is required, add it",
            ),
            (
                "{\"domains\": [\"a.example\"], \"domains\": []}",
                "domains: is given twice (line 1, column N): remove one of the two",
            ),
            (
                "{\"tags\": {\"a\": \"1\", \"a\": \"2\"}}",
                "tags.a: is given twice (line 1, column N): remove one of the two",
            ),
            (
                "{\"domains\": \"a.example\"}",
                "domains: has the wrong type (line 1, column N): give a list",
            ),
            (
                "{\"domains\": [7]}",
                "domains[0]: has the wrong type (line 1, column N): give a text in quotes",
            ),
        ] {
            let refusal = parse_text(&settings, text).unwrap_err().to_string();
            assert_eq!(without_columns(&refusal), expected);
        }
    }

    #[test]
    fn only_what_is_permitted_may_be_asked_for() {
        let with_permit = |permit: Value| {
            let mut settings = minimal();
            settings["permit"] = permit;
            parse_settings(&settings).unwrap()
        };
        let imports = json!({"targets": [{"type": "certificateManager", "region": "us-east-1"}]});
        let import_here = json!({"targets": [{"type": "certificateManager"}]});
        for (why, permit, changes, refused) in [
            (
                "null is anything",
                json!({"domains": null, "targets": null}),
                json!({}),
                None,
            ),
            (
                "an empty list is nothing",
                json!({"domains": []}),
                json!({}),
                Some("domains[0]"),
            ),
            (
                "every name must fit",
                json!({"domains": ["shop.*"]}),
                json!({}),
                Some("domains[1]"),
            ),
            (
                "one of several patterns",
                json!({"domains": ["shop.*", "WWW.shop.*"]}),
                json!({}),
                None,
            ),
            (
                "an international pattern",
                json!({"domains": ["*.bücher.example"]}),
                json!({"domains": ["a.BÜCHER.example"]}),
                None,
            ),
            (
                "no targets",
                json!({"targets": []}),
                json!({}),
                Some("targets[0]"),
            ),
            (
                "no targets wanted",
                json!({"targets": []}),
                json!({"targets": []}),
                None,
            ),
            (
                "a listener by its ARN",
                json!({"targets": ["*:listener/app/web/*"]}),
                json!({}),
                None,
            ),
            (
                "another listener",
                json!({"targets": ["*:listener/app/api/*"]}),
                json!({}),
                Some("targets[0]"),
            ),
            (
                "an import by region",
                json!({"targets": ["arn:aws:acm:us-east-1:*"]}),
                imports.clone(),
                None,
            ),
            (
                "an import elsewhere",
                json!({"targets": ["arn:aws:acm:eu-west-1:*"]}),
                imports.clone(),
                Some("targets[0]"),
            ),
            (
                "an import by account",
                json!({"targets": ["arn:aws:acm:*:123456789012:certificate/*"]}),
                imports,
                None,
            ),
            (
                "a region not given is a star",
                json!({"targets": ["arn:aws:acm:us-east-1:*"]}),
                import_here.clone(),
                Some("targets[0]"),
            ),
            (
                "any import",
                json!({"targets": ["arn:aws:acm:*"]}),
                import_here,
                None,
            ),
        ] {
            let outcome = parse_in(&with_permit(permit), &with(changes));
            assert_eq!(
                outcome.err().map(|refusal| refusal.field).as_deref(),
                refused,
                "{why}"
            );
        }
        assert_eq!(
            parse_in(
                &with_permit(json!({"domains": ["*.example.org"]})),
                &sample()
            )
            .unwrap_err()
            .to_string(),
            "domains[0]: shop.example.com is not permitted by permit.domains of settings.json: \
             remove it here, or add a pattern there"
        );
        assert_eq!(
            parse_in(
                &with_permit(json!({"targets": ["x"]})),
                &with(json!({"targets": [{"type": "certificateManager"}]}))
            )
            .unwrap_err()
            .to_string(),
            "targets[0]: arn:aws:acm:*:123456789012:certificate/* is not permitted by \
             permit.targets of settings.json: remove it here, or add a pattern there"
        );
    }

    #[test]
    fn the_committed_schema_is_current() {
        assert_schema_is_current("certificate.schema.json", &certificate_schema());
    }

    #[test]
    fn the_schema_knows_every_field() {
        let schema = certificate_schema();
        let sample = sample();
        let fields = sample.as_object().unwrap().keys().map(String::as_str);
        for field in fields.chain(["$schema"]) {
            let property = &schema["properties"][field];
            assert!(property["description"].is_string(), "{field}: {property}");
        }
        assert_eq!(schema["required"], json!(["domains", "targets"]));
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}
