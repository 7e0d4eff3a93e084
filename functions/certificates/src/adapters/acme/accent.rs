//! The accents of authorities: an answer that says something in a way of its own becomes the answer
//! that RFC 8555 describes, before the library reads it.
//!
//! Pure. What we do not need cannot stop us: it is left out. What we need and cannot read is named
//! by its member. `tests/accents` lists who answers in which way.

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use url::Url;

use crate::values::problem::URN;
use crate::values::problem_types;

/// Returns an answer's content as RFC 8555 describes it. `url` is what was asked.
///
/// Content that is not a JSON object stays as it is. An error names the member that we need and
/// cannot read.
pub(super) fn plain(
    url: &str,
    status: StatusCode,
    content: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    let Some(mut answer) = object(content) else {
        return Ok(None);
    };
    without_nulls(&mut answer);
    let has = |member: &str| answer.contains_key(member);
    if !status.is_success() {
        problem(&mut answer);
    } else if has("newNonce") || has("newAccount") || has("newOrder") {
        directory(&mut answer, url);
    } else if has("challenges") || has("identifier") {
        authorization(&mut answer, url)?;
    } else if has("identifiers") || has("finalize") || has("authorizations") || has("certificate") {
        order(&mut answer, url)?;
    } else if has("token") {
        challenge(&mut answer, url);
    }
    Ok(serde_json::to_vec(&answer).ok())
}

/// Returns the order that an authority made but did not describe: it is pending, and a look at its
/// URL says the rest. Without this, nobody would remember the order.
pub(super) fn undescribed_order() -> Vec<u8> {
    json!({"status": "pending", "authorizations": [], "finalize": ""})
        .to_string()
        .into_bytes()
}

/// Returns a new order that says that it replaces this certificate; `None` where it says so itself,
/// or is no order.
pub(super) fn echoing(content: &[u8], replaces: &str) -> Option<Vec<u8>> {
    let mut order = object(content).filter(|_| is_order(content))?;
    let echo = Value::from(replaces);
    if order.get("replaces") == Some(&echo) {
        return None;
    }
    order.insert("replaces".to_owned(), echo);
    serde_json::to_vec(&order).ok()
}

/// Whether content describes an order, after [`plain`].
pub(super) fn is_order(content: &[u8]) -> bool {
    object(content).is_some_and(|order| {
        let has = |member: &str| order.contains_key(member);
        has("status") && has("authorizations") && has("finalize")
    })
}

/// Resolves a reference against the URL that was asked (RFC 3986 section 5).
pub(super) fn resolved(reference: &str, asked: &str) -> Option<String> {
    let asked = Url::parse(asked).ok()?;
    let url = asked.join(reference.trim()).ok()?;
    Some(url.to_string())
}

fn object(content: &[u8]) -> Option<Map<String, Value>> {
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    match serde_json::from_slice(content) {
        Ok(Value::Object(answer)) => Some(answer),
        _ => None,
    }
}

/// A member that is `null` is absent.
fn without_nulls(answer: &mut Map<String, Value>) {
    answer.retain(|_, value| !value.is_null());
    answer.values_mut().for_each(without_nulls_inside);
}

fn without_nulls_inside(value: &mut Value) {
    match value {
        Value::Object(members) => without_nulls(members),
        Value::Array(values) => {
            values.retain(|value| !value.is_null());
            values.iter_mut().for_each(without_nulls_inside);
        }
        _ => {}
    }
}

/// RFC 8555 section 7.1.1.
fn directory(answer: &mut Map<String, Value>, url: &str) {
    for member in ["newNonce", "newAccount", "newOrder"] {
        resolve(answer, member, url);
    }
    for member in ["newAuthz", "revokeCert", "keyChange", "renewalInfo"] {
        resolve(answer, member, url);
        drop_unless(answer, member, is_text);
    }
    drop_unless(answer, "meta", Value::is_object);
    if let Some(Value::Object(meta)) = answer.get_mut("meta") {
        let profiles = meta.remove("profiles").and_then(profiles);
        if let Some(profiles) = profiles {
            meta.insert("profiles".to_owned(), profiles);
        }
        let identities = meta.remove("caaIdentities").map(texts);
        if let Some(identities) = identities.filter(|identities| !identities.is_empty()) {
            meta.insert("caaIdentities".to_owned(), identities.into());
        }
    }
}

/// Profiles by name; some authorities list only the names.
fn profiles(value: Value) -> Option<Value> {
    let described = |(name, description): (String, Value)| match description {
        Value::String(_) => (name, description),
        _ => (name, Value::from("")),
    };
    match value {
        Value::Object(profiles) => {
            Some(Value::Object(profiles.into_iter().map(described).collect()))
        }
        Value::Array(_) => {
            let named = texts(value).into_iter().map(|name| (name, Value::from("")));
            Some(Value::Object(named.collect()))
        }
        _ => None,
    }
}

/// RFC 8555 section 7.1.3, and `replaces` of RFC 9773 section 5.
fn order(answer: &mut Map<String, Value>, url: &str) -> Result<(), String> {
    let urls = answer.remove("authorizations").map(texts);
    let urls = urls.unwrap_or_default().into_iter();
    let urls: Vec<Value> = urls
        .map(|authorization| resolved(&authorization, url).unwrap_or(authorization))
        .map(Value::from)
        .collect();
    answer.insert("authorizations".to_owned(), urls.into());
    for member in ["finalize", "certificate"] {
        resolve(answer, member, url);
        drop_unless(answer, member, is_text);
    }
    // A valid order does not need it any more, and a pending one not yet.
    answer.entry("finalize").or_insert(Value::from(""));
    drop_unless(answer, "replaces", |value| {
        value
            .as_str()
            .is_some_and(|text| text.split('.').filter(|part| !part.is_empty()).count() == 2)
    });
    drop_unless(answer, "profile", is_text);
    error_of(answer);
    let has_certificate = answer.contains_key("certificate");
    let status = match (word(answer, "status"), has_certificate) {
        (Some(status), _) => status,
        (None, true) => "valid".to_owned(),
        (None, false) => return Err("its member `status` is missing".to_owned()),
    };
    let status = match &*status {
        "expired" | "revoked" | "deactivated" | "cancelled" | "canceled" | "rejected" => "invalid",
        known @ ("pending" | "ready" | "processing" | "valid" | "invalid") => known,
        other => return Err(unknown("order", other)),
    };
    if status == "valid" {
        answer.remove("error");
    }
    answer.insert("status".to_owned(), status.into());
    Ok(())
}

/// RFC 8555 section 7.1.4.
fn authorization(answer: &mut Map<String, Value>, url: &str) -> Result<(), String> {
    let Some(Value::Object(identifier)) = answer.get_mut("identifier") else {
        return Err("its member `identifier` is missing".to_owned());
    };
    let (Some(kind), true) = (
        word(identifier, "type"),
        identifier.get("value").is_some_and(is_text),
    ) else {
        return Err("its member `identifier` has no type or no value".to_owned());
    };
    identifier.insert("type".to_owned(), kind.into());

    let challenges = answer.remove("challenges");
    let Some(Value::Array(challenges)) = challenges.or(Some(json!([]))) else {
        return Err("its member `challenges` is not a list".to_owned());
    };
    let challenges: Vec<Value> = challenges
        .into_iter()
        .filter_map(|value| match value {
            Value::Object(mut one) => challenge(&mut one, url).then_some(Value::Object(one)),
            _ => None,
        })
        .collect();
    let is_valid = |value: &Value| value["status"] == "valid";
    let status = word(answer, "status").unwrap_or_else(|| {
        let valid = challenges.iter().any(is_valid);
        if valid { "valid" } else { "pending" }.to_owned()
    });
    let status = match &*status {
        "processing" | "unknown" => "pending",
        known @ ("pending" | "valid" | "invalid" | "revoked" | "expired" | "deactivated") => known,
        other => return Err(unknown("authorization", other)),
    };
    answer.insert("status".to_owned(), status.into());
    answer.insert("challenges".to_owned(), challenges.into());
    let wildcard = match answer.remove("wildcard") {
        Some(Value::Bool(wildcard)) => wildcard,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    answer.insert("wildcard".to_owned(), wildcard.into());
    Ok(())
}

/// RFC 8555 section 7.1.5. Returns whether the challenge can be used at all.
fn challenge(answer: &mut Map<String, Value>, url: &str) -> bool {
    // Drafts of RFC 8555 called it `uri`.
    if !answer.get("url").is_some_and(is_text)
        && let Some(uri) = answer.remove("uri")
    {
        answer.insert("url".to_owned(), uri);
    }
    resolve(answer, "url", url);
    drop_unless(answer, "token", is_text);
    error_of(answer);
    let status = word(answer, "status").unwrap_or_default();
    let status = match &*status {
        known @ ("processing" | "valid" | "invalid") => known,
        _ => "pending",
    };
    if status == "valid" {
        answer.remove("error");
    }
    answer.insert("status".to_owned(), status.into());
    let Some(kind) = word(answer, "type") else {
        return false;
    };
    answer.insert("type".to_owned(), kind.into());
    answer.get("url").is_some_and(is_text)
}

/// Puts the member `error` of an order or a challenge into the form of RFC 7807.
fn error_of(answer: &mut Map<String, Value>) {
    match answer.remove("error") {
        Some(Value::Object(mut error)) if !error.is_empty() => {
            problem(&mut error);
            answer.insert("error".to_owned(), Value::Object(error));
        }
        Some(Value::String(detail)) if !detail.is_empty() => {
            answer.insert("error".to_owned(), json!({ "detail": detail }));
        }
        _ => {}
    }
}

/// RFC 7807, and the subproblems of RFC 8555 section 6.7.1.
fn problem(answer: &mut Map<String, Value>) {
    described(answer);
    let status = match answer.remove("status") {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    if let Some(status) = status.filter(|status| (100.0..600.0).contains(status)) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is below 600
        answer.insert("status".to_owned(), (status as u16).into());
    }
    let subproblems: Vec<Value> = match answer.remove("subproblems") {
        Some(Value::Array(all)) => all.into_iter().filter_map(subproblem).collect(),
        Some(one @ Value::Object(_)) => subproblem(one).into_iter().collect(),
        _ => Vec::new(),
    };
    answer.insert("subproblems".to_owned(), subproblems.into());
}

fn subproblem(value: Value) -> Option<Value> {
    let Value::Object(mut answer) = value else {
        return None;
    };
    described(&mut answer);
    let Some(Value::Object(mut identifier)) = answer.remove("identifier") else {
        return Some(Value::Object(answer));
    };
    let kind = word(&identifier, "type");
    match (kind.as_deref(), identifier.remove("value")) {
        (Some(kind @ ("dns" | "ip")), Some(Value::String(name))) => {
            let is_readable = kind == "dns" || name.parse::<std::net::IpAddr>().is_ok();
            if is_readable {
                let identifier = json!({"type": kind, "value": name});
                answer.insert("identifier".to_owned(), identifier);
            }
        }
        // The library knows four types; the name of another one is still worth reading.
        (_, Some(Value::String(name))) => {
            let detail = answer.get("detail").and_then(Value::as_str);
            let detail = format!("{name}: {}", detail.unwrap_or("no detail given"));
            answer.insert("detail".to_owned(), detail.into());
        }
        _ => {}
    }
    Some(Value::Object(answer))
}

/// Makes `type` the URN of RFC 8555 where it means that, and `detail` a text.
fn described(answer: &mut Map<String, Value>) {
    let kind = match answer.remove("type") {
        Some(Value::String(kind)) => urn(kind.trim()),
        _ => None,
    };
    if let Some(kind) = kind {
        answer.insert("type".to_owned(), kind.into());
    }
    let other_members = ["title", "message", "error_description", "error", "errors"];
    let detail = ["detail"].iter().chain(&other_members);
    let detail = detail
        .filter_map(|member| answer.get(*member))
        .map(in_words)
        .find(|detail| !detail.is_empty());
    answer.remove("detail");
    if let Some(detail) = detail {
        answer.insert("detail".to_owned(), detail.into());
    }
}

/// Returns a problem's type as RFC 8555 writes it: some authorities leave the namespace out, or use
/// that of a draft. `about:blank` says nothing (RFC 7807 section 4.2).
fn urn(kind: &str) -> Option<String> {
    let word = [URN, DRAFT_URN].iter().find_map(|namespace| {
        let (start, word) = kind.split_at_checked(namespace.len())?;
        start.eq_ignore_ascii_case(namespace).then_some(word)
    });
    let known = |word: &str| {
        let mut all = problem_types::AUTHORITY.iter();
        all.find(|(known, ..)| known.eq_ignore_ascii_case(word))
            .map(|(known, ..)| *known)
    };
    match word {
        Some(word) => Some(format!("{URN}{}", known(word).unwrap_or(word))),
        None if kind.is_empty() || kind.eq_ignore_ascii_case("about:blank") => None,
        None => Some(known(kind).map_or_else(|| kind.to_owned(), |word| format!("{URN}{word}"))),
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(in_words).collect();
            words.join("; ")
        }
        Value::Object(members) => match members.get("detail").or(members.get("message")) {
            Some(Value::String(text)) => text.clone(),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// Returns a text member as a word of RFC 8555: lower case, without space around it.
fn word(answer: &Map<String, Value>, member: &str) -> Option<String> {
    let text = answer.get(member)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_ascii_lowercase())
}

fn texts(value: Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn drop_unless(answer: &mut Map<String, Value>, member: &str, is_usable: impl Fn(&Value) -> bool) {
    if !answer.get(member).is_some_and(is_usable) {
        answer.remove(member);
    }
}

/// Makes the URL in a member absolute.
fn resolve(answer: &mut Map<String, Value>, member: &str, url: &str) {
    if let Some(Value::String(reference)) = answer.get_mut(member)
        && !reference.is_empty()
        && let Some(absolute) = resolved(reference, url)
    {
        *reference = absolute;
    }
}

fn unknown(of: &str, status: &str) -> String {
    let status: String = status.chars().take(40).collect();
    format!("its member `status` is {status:?}, which is no status of an {of} (RFC 8555)")
}

/// Some servers write text files with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The namespace before RFC 8555.
const DRAFT_URN: &str = "urn:acme:error:";
