//! Whole answers of an authority, changed member by member: what we do not need stops nothing, and
//! what we need is named.

use hyper::StatusCode;
use instant_acme::{AuthorizationState, Challenge, OrderState, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::accent;

/// Changes an answer as the bytes say, and reads it. The first byte chooses the answer. Of all
/// others, three are a change: the place, what is done there, and with which value.
pub fn accents(bytes: &[u8]) {
    let Some((&first, changes)) = bytes.split_first() else {
        return;
    };
    let answers = answers();
    let (status, mut answer) = answers[usize::from(first) % answers.len()].clone();
    let mut twice = None;
    for change in changes.chunks_exact(3).take(MOST_CHANGES) {
        let mut place = usize::from(change[0]);
        apply(&mut answer, &mut place, change, &mut twice);
    }
    read(status, &written(&answer, twice.as_ref()));
}

/// The answers of a good run, one of each kind, and a refusal.
fn answers() -> [(StatusCode, Value); 6] {
    let error = json!({
        "type": "urn:ietf:params:acme:error:unauthorized", "detail": "no", "status": 403,
        "subproblems": [{"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden",
                         "identifier": {"type": "dns", "value": "a.example"}}],
    });
    let challenge = json!({
        "type": "http-01", "url": "https://ca.example/chall/1", "token": "abc",
        "status": "invalid", "error": error,
    });
    let directory = json!({
        "newNonce": "https://ca.example/nonce", "newAccount": "https://ca.example/account",
        "newOrder": "https://ca.example/order", "revokeCert": "https://ca.example/revoke",
        "keyChange": "https://ca.example/key", "renewalInfo": "https://ca.example/ari",
        "meta": {"termsOfService": "https://ca.example/terms", "externalAccountRequired": false,
                 "caaIdentities": ["ca.example"], "profiles": {"default": "all"}},
    });
    let order = json!({
        "status": "valid", "expires": "2030-01-01T00:00:00Z",
        "identifiers": [{"type": "dns", "value": "a.example"}],
        "authorizations": ["https://ca.example/authz/1"],
        "finalize": "https://ca.example/finalize/1",
        "certificate": "https://ca.example/cert/1", "replaces": "YWtp.c2VyaWFs",
        "profile": "default", "error": error,
    });
    let authorization = json!({
        "status": "pending", "expires": "2030-01-01T00:00:00Z", "wildcard": false,
        "identifier": {"type": "dns", "value": "a.example"}, "challenges": [challenge],
    });
    let account = json!({
        "status": "valid", "contact": ["mailto:a@a.example"],
        "orders": "https://ca.example/orders/1",
    });
    [
        (StatusCode::OK, directory),
        (StatusCode::CREATED, order),
        (StatusCode::OK, authorization),
        (StatusCode::OK, challenge),
        (StatusCode::OK, account),
        (StatusCode::FORBIDDEN, error),
    ]
}

/// Visits the members one after the other until `place` is 0, and changes that one.
fn apply(value: &mut Value, place: &mut usize, change: &[u8], twice: &mut Option<(String, Value)>) {
    match value {
        Value::Object(members) => {
            let names: Vec<String> = members.keys().cloned().collect();
            for name in names {
                if *place == 0 {
                    *place = usize::MAX;
                    let other = VALUES[usize::from(change[2]) % VALUES.len()];
                    let other: Value = serde_json::from_str(other).unwrap_or_default();
                    match change[1] % 4 {
                        0 => drop(members.remove(&name)),
                        1 => *twice = Some((name, other)),
                        2 => drop(members.insert(format!("{name}X"), other)),
                        _ => drop(members.insert(name, other)),
                    }
                    return;
                }
                *place -= 1;
                if let Some(value) = members.get_mut(&name) {
                    apply(value, place, change, twice);
                }
                if *place == usize::MAX {
                    return;
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                apply(value, place, change, twice);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Writes an answer; `twice`: a member that it has once more, in front of the others.
fn written(answer: &Value, twice: Option<&(String, Value)>) -> String {
    let text = answer.to_string();
    match (twice, text.strip_prefix('{')) {
        (Some((name, value)), Some(rest)) if rest != "}" => {
            format!("{{{}:{value},{rest}", Value::from(name.as_str()))
        }
        _ => text,
    }
}

fn read(status: StatusCode, content: &str) {
    const URL: &str = "https://ca.example/asked";
    let plain = match accent::plain(URL, status, content.as_bytes()) {
        Ok(Some(plain)) => plain,
        Ok(None) => return,
        Err(why) => {
            assert!(why.contains('`'), "{why}: {content}");
            return;
        }
    };
    // What is plain stays as it is.
    let again = accent::plain(URL, status, &plain)
        .expect("a plain answer")
        .expect("an object");
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    assert_eq!(value(&again), value(&plain), "{content}");
    let answer = value(&plain);
    let has = |member: &str| answer.get(member).is_some();
    if !status.is_success() {
        taken::<Problem>(&plain);
    } else if has("newNonce") || has("newAccount") || has("newOrder") {
    } else if has("challenges") {
        taken::<AuthorizationState>(&plain);
    } else if has("authorizations") {
        taken::<OrderState>(&plain);
    } else if has("token") && has("type") {
        taken::<Challenge>(&plain);
    }
}

/// The library takes it, or says which member it misses.
fn taken<T: DeserializeOwned>(plain: &[u8]) {
    if let Err(error) = serde_json::from_slice::<T>(plain) {
        let content = String::from_utf8_lossy(plain);
        assert!(
            error.to_string().starts_with("missing field `"),
            "{error}: {content}"
        );
    }
}

const MOST_CHANGES: usize = 6;
const VALUES: [&str; 14] = [
    "null",
    "true",
    "0",
    "-1.5",
    "\"\"",
    "\"x\"",
    "\"403\"",
    "\"PENDING\"",
    "\"/relative\"",
    "[]",
    "[null]",
    "[{}, \"x\", 1]",
    "{}",
    "{\"type\": 1, \"value\": [], \"status\": {}, \"error\": \"x\"}",
];
