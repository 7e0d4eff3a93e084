//! Answers of certificate authorities: refusals (RFC 8555 section 6.7), Retry-After, renewal
//! information (RFC 9773).

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use instant_acme::RenewalInfo;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::answer;
use crate::ports::authority::Suggested;
use crate::records::certificate::{IssuedCertificate, RenewalInformation};
use crate::records::state::State;
use crate::rules::renewal::information_after;
use crate::values::problem::Problem;
use crate::values::problem_types::Retry;

/// Checks an answer in its form on the wire: the status, header lines, an empty line and the body.
/// In the body `{KEY}` marks the place of a key authorization.
pub fn answers(text: &str) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.parse().ok());
    let status: u16 = status.unwrap_or(400);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value.trim())) {
            headers.append(name, value);
        }
    }

    let before = OffsetDateTime::now_utc();
    let retry_after = answer::retry_after(&headers);
    if let Some(at) = retry_after {
        let now = OffsetDateTime::now_utc();
        assert!(at >= before && at <= now + Duration::days(8), "{at}");
    }
    refusal(status, retry_after, body);
    renewal_information(retry_after.map(|at| (at - before).unsigned_abs()), body);
}

fn refusal(status: StatusCode, retry_after: Option<OffsetDateTime>, body: &str) {
    let mut alone = true;
    let body = match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            plant(&mut value, &mut alone);
            value.to_string()
        }
        Err(_) => body.to_owned(),
    };
    let refusal = answer::refusal(status, retry_after, HOST, body.as_bytes());
    assert_eq!(refusal.status, Some(status.as_u16()));
    let told = refusal.problem();
    assert_eq!(told.retry, refusal.retry());
    if told.retry == Retry::At {
        assert!(retry_after.is_some());
    }
    for words in [&told.kind, &told.detail] {
        assert!(!alone || !words.contains(THUMBPRINT), "{told:?}");
        assert!(words.len() <= LONGEST, "{} bytes", words.len());
    }
    assert!(!told.kind.is_empty() && !told.detail.is_empty(), "{told:?}");
    // Repeated as part of a report, it stays the same.
    let json = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), told);
}

/// Replaces `{KEY}` by a key authorization. `alone` stays true while each one is a word of its own:
/// within a longer word it cannot be recognized.
fn plant(value: &mut Value, alone: &mut bool) {
    match value {
        Value::String(text) => {
            // A thumbprint without its token that is there by chance is no key authorization, and
            // hides the planted one.
            *alone &= !text.contains(THUMBPRINT);
            let mut parts = text.split(PLACE).peekable();
            while let Some(before) = parts.next() {
                if let Some(after) = parts.peek() {
                    let before = before.trim_end_matches('.').chars().next_back();
                    let after = after.trim_start_matches('.').chars().next();
                    let of_word = |c: Option<char>| {
                        c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                    };
                    // Two that touch each other are one word as well.
                    *alone &= !of_word(before) && !of_word(after);
                    *alone &= before.is_some() || after.is_some() || text == PLACE;
                }
            }
            *text = text.replace(PLACE, &format!("{TOKEN}.{THUMBPRINT}"));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| plant(value, alone)),
        Value::Object(fields) => fields.values_mut().for_each(|value| plant(value, alone)),
        _ => {}
    }
}

fn renewal_information(retry_after: Option<std::time::Duration>, body: &str) {
    let Ok(told) = serde_json::from_str::<RenewalInfo>(body) else {
        return;
    };
    let mut state: State = serde_json::from_str(STATE).unwrap();
    let fresh = state.certificate.take().unwrap();
    for jitter in [0.0, 0.5, 1.0] {
        let mut held = fresh.clone();
        for days in [0, 40, 89] {
            let now = held.not_before + Duration::days(days);
            let suggested = Suggested {
                start: told.suggested_window.start,
                end: told.suggested_window.end,
                explanation_url: told.explanation_url.clone(),
                retry_after,
            };
            let information = information_after(&held, Ok(Some(suggested)), now, jitter);
            is_kept(&information, now);
            held.renewal.information = Some(information);
            of_held(&held, now);
        }
        state.certificate = Some(held);
        let json = serde_json::to_vec(&state).expect("a state can be written");
        let again: State = serde_json::from_slice(&json).expect("a state can be read");
        assert_eq!(serde_json::to_vec(&again).unwrap(), json);
    }
}

fn is_kept(information: &RenewalInformation, now: OffsetDateTime) {
    let pause = information.ask_again - now;
    assert!(
        pause >= Duration::seconds(59) && pause <= Duration::days(1),
        "{pause}"
    );
    if let Some(window) = &information.window {
        assert!(window.start < window.end);
        let second = Duration::SECOND;
        assert!(
            window.start - window.at < second && window.at <= window.end,
            "{window:?}"
        );
        let url = window.explanation_url.as_ref();
        assert!(url.is_none_or(|url| url.len() <= 1_000));
    }
}

fn of_held(held: &IssuedCertificate, now: OffsetDateTime) {
    let latest: OffsetDateTime = held.not_after - held.lifetime() / 20;
    assert!(held.renew_at() <= latest.max(held.renewal.at));
    held.is_in_window(now);
    held.is_to_be_replaced_at_once(now);
    assert!(!held.is_to_be_asked_about(now) || now >= held.not_after);
    crate::values::instant::rfc3339(held.renew_at());
    crate::rules::renewal::draw(now, now + Duration::days(90), Some(held), now, 1.0);
}

const PLACE: &str = "{KEY}";
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const THUMBPRINT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
const HOST: &str = "acme.example";
/// In bytes: a detail of a thousand characters and a link.
const LONGEST: usize = 4 * 1_000 + 4_000 + 16;
const STATE: &str = r#"{
    "version": 1,
    "writeId": "00",
    "certificate": {
        "serial": "00", "fingerprint": "00",
        "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-04-01T00:00:00Z",
        "domains": ["shop.example.com"], "keyType": "ecdsa-p256",
        "authority": "staging", "directory": "https://acme.example/directory", "profile": null,
        "identifier": "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE",
        "renewal": {"at": "2026-03-01T00:00:00Z"}
    }
}"#;
