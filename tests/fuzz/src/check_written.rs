//! The files that people write: `settings.json` and `certificates/<name>.json`.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::contract::certificate::{Wanted, certificate_schema};
use crate::contract::settings::{Settings, settings_schema};
use crate::contract::strict::{Invalid, path_key};
use crate::contract::target::{ListenerAt, Target};
use crate::values::names::DnsName;

/// Settings are read completely, or refused with the field's name.
pub fn settings(json: &[u8]) {
    let read = match Settings::parse(json) {
        Ok(read) => read,
        Err(refusal) => return is_fit(&refusal, json, &SETTINGS_SCHEMA),
    };
    let written = value(json);

    let keys: Vec<&String> = read.authorities.keys().collect();
    let mut expected: Vec<&String> = object(&written["authorities"]).keys().collect();
    expected.sort();
    assert_eq!(keys, expected);
    for (key, authority) in &read.authorities {
        let written = &written["authorities"][key];
        assert_eq!(written["directory"], authority.directory.as_str());
        assert!(authority.directory.starts_with("https://"));
        assert_eq!(written["termsOfServiceAgreed"], true);
        let contact = json!(authority.contact);
        assert!(written["contact"] == contact || authority.contact.is_empty());
        assert_eq!(
            written["rootCertificate"].as_str(),
            authority.root_certificate.as_deref()
        );
        if let Some(pem) = &authority.root_certificate {
            let roots = crate::values::trust::roots_in(pem);
            assert!(roots.is_ok(), "accepted, and useless: {roots:?}");
        }
        if let Some(external) = &authority.external_account {
            assert!(external.secret_arn.starts_with("arn:aws"));
        }
    }
    assert!(read.authorities.contains_key(&read.defaults.authority));
    assert!((1..=64).contains(&read.limits.concurrency));
    assert!((1..=1_000_000).contains(&read.limits.imports_per_year));
    let patterns = |read: &Option<Vec<_>>| read.as_ref().map(Vec::len);
    let listed = |field: &str| written["permit"][field].as_array().map(Vec::len);
    assert_eq!(patterns(&read.permit.domains), listed("domains"));
    assert_eq!(patterns(&read.permit.targets), listed("targets"));

    let again = Settings::parse(&bytes(&written));
    assert_eq!(again.as_ref(), Ok(&read));
    nothing_more_is_taken(&written, &["/authorities", "/roles"], |json| {
        Settings::parse(json).map(drop)
    });
}

/// A document is read completely, or refused with the field's name, with any permissions in the
/// settings.
pub fn documents(json: &[u8]) {
    let name = "shop".parse().unwrap();
    let parse =
        |json: &[u8], settings: &Settings, account| Wanted::parse(&name, json, settings, account);
    let read = match parse(json, &ANYTHING, None) {
        Ok(read) => read,
        Err(refusal) => {
            for account in [None, Some(ACCOUNT)] {
                assert!(parse(json, &LITTLE, account).is_err(), "{refusal}");
            }
            return is_fit(&refusal, json, &CERTIFICATE_SCHEMA);
        }
    };
    let written = value(json);

    assert_eq!(read.name, name);
    assert_eq!(list(&written["domains"]).len(), read.domains.len());
    assert!((1..=100).contains(&read.domains.len()));
    assert!(read.domains.is_sorted_by(|one, two| one < two));
    for domain in &read.domains {
        assert_eq!(DnsName::parse(domain.as_str()).as_ref(), Ok(domain));
        assert!(!domain.is_wildcard());
    }
    assert_eq!(list(&written["targets"]).len(), read.targets.len());
    for (target, written) in read.targets.iter().zip(list(&written["targets"])) {
        let text = |field: &str| written[field].as_str();
        match target {
            Target::Listener { at, .. } => match at {
                ListenerAt::Arn(arn) => assert_eq!(text("arn"), Some(arn.as_str())),
                ListenerAt::Port(new) => {
                    assert_eq!(text("loadBalancer"), Some(new.load_balancer.as_str()));
                    assert_eq!(text("forward"), Some(new.forward.as_str()));
                    assert_eq!(text("tlsPolicy"), new.tls_policy.as_deref());
                    let port = written["port"].as_u64();
                    assert_eq!(port.unwrap_or(443), u64::from(new.port));
                }
            },
            Target::CertificateManager { region } => assert_eq!(text("region"), region.as_deref()),
        }
    }
    let supersedes: Vec<&str> = read.supersedes.iter().map(|arn| arn.as_str()).collect();
    assert!(written["supersedes"] == json!(supersedes) || supersedes.is_empty());
    assert!(written["tags"] == json!(read.tags) || read.tags.is_empty());
    assert_eq!(written["paused"].as_bool().unwrap_or(false), read.paused);

    assert_eq!(parse(&bytes(&written), &ANYTHING, None).as_ref(), Ok(&read));
    nothing_more_is_taken(&written, &["/tags"], |json| {
        parse(json, &ANYTHING, None).map(drop)
    });

    // A narrower installation reads the same certificate, and accepts only what it permits.
    match parse(json, &LITTLE, Some(ACCOUNT)) {
        Err(refusal) => is_fit(&refusal, json, &CERTIFICATE_SCHEMA),
        Ok(narrow) => {
            assert_eq!(narrow, read);
            for domain in &narrow.domains {
                assert!(domain.as_str().ends_with(".example.com"), "{domain}");
            }
            for target in &narrow.targets {
                if let Target::Listener { at, .. } = target {
                    let (region, account) = match at {
                        ListenerAt::Arn(arn) => (arn.region(), arn.account()),
                        ListenerAt::Port(new) => {
                            (new.load_balancer.region(), new.forward.account())
                        }
                    };
                    assert_eq!((region, account), ("eu-central-1", ACCOUNT));
                }
            }
        }
    }
}

/// A refusal names the field, in one line that fits into a report.
fn is_fit(refusal: &Invalid, json: &[u8], schema: &Value) {
    let Invalid { field, reason } = refusal;
    assert!(!reason.is_empty());
    assert!(
        !refusal.to_string().contains(char::is_control),
        "{refusal:?}"
    );
    assert!(reason.chars().count() <= LONGEST, "{refusal:?}");
    assert!(field.chars().count() <= LONGEST, "{refusal:?}");
    if field == "document" {
        return;
    }
    let named = |key: &str| {
        let rest = field.strip_prefix(&path_key(key));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let known = object(&schema["properties"]).keys().any(|key| named(key));
    let written = serde_json::from_slice::<Value>(json);
    let there = written.is_ok_and(|written| {
        let keys = written.as_object().map(Map::keys);
        keys.into_iter().flatten().any(|key| named(key))
    });
    assert!(known || there, "no such field: {refusal:?}");
}

/// An accepted text is refused if any of its objects has one more field: no field is ignored.
/// `free` lists the objects with free keys.
fn nothing_more_is_taken(
    written: &Value,
    free: &[&str],
    parse: impl Fn(&[u8]) -> Result<(), Invalid>,
) {
    let mut places = Vec::new();
    find_objects(written, String::new(), &mut places);
    places.retain(|place| !free.contains(&place.as_str()));
    for place in places.into_iter().take(MOST_PLACES) {
        let mut more = written.clone();
        let there = more.pointer_mut(&place).and_then(Value::as_object_mut);
        there.unwrap().insert("notAField".to_owned(), Value::Null);
        let refusal = parse(&bytes(&more)).expect_err(&place);
        assert!(refusal.to_string().contains("notAField"), "{refusal}");
    }
}

fn find_objects(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                find_objects(value, format!("{place}/{key}"), places);
            }
            places.push(place);
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                find_objects(value, format!("{place}/{index}"), places);
            }
        }
        _ => {}
    }
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("accepted text is JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn settings_with(permit: Value) -> Settings {
    let authority = |host: &str| {
        let directory = format!("https://{host}/directory");
        json!({"directory": directory, "termsOfServiceAgreed": true})
    };
    let written = json!({
        "authorities": {
            "staging": authority("acme-staging-v02.api.letsencrypt.org"),
            "other": authority("acme.example.net"),
        },
        "defaults": {"authority": "staging"},
        "permit": permit,
    });
    Settings::parse(&bytes(&written)).unwrap()
}

static ANYTHING: LazyLock<Settings> = LazyLock::new(|| settings_with(json!({})));
static LITTLE: LazyLock<Settings> = LazyLock::new(|| {
    settings_with(json!({
        "domains": ["*.example.com"],
        "targets": [
            "arn:aws:elasticloadbalancing:eu-central-1:*:listener/app/*",
            "arn:aws:elasticloadbalancing:eu-central-1:*:targetgroup/*",
            "arn:aws:acm:*",
        ],
    }))
});
static SETTINGS_SCHEMA: LazyLock<Value> = LazyLock::new(settings_schema);
static CERTIFICATE_SCHEMA: LazyLock<Value> = LazyLock::new(certificate_schema);

const ACCOUNT: &str = "123456789012";
/// In characters. An escaped text of [`crate::values::names::MAX_QUOTED`] characters takes most of
/// it.
const LONGEST: usize = 2_500;
/// This many objects of a document are tried with one more field.
const MOST_PLACES: usize = 8;
