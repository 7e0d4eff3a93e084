//! The parts of an authority's answer beside the content: a refusal in words for a report, and when
//! to ask again.
//!
//! Pure, apart from the clock in `retry_after`.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{DATE, HeaderMap, RETRY_AFTER};
use time::OffsetDateTime;

use crate::values::problem::{AcmeError, UNSPECIFIED};

/// Reads a problem document (RFC 8555 section 6.7). Without one, it uses `answered`: the URL and
/// the status in words.
pub(super) fn refusal(
    status: StatusCode,
    retry_after: Option<OffsetDateTime>,
    answered: &str,
    body: &[u8],
) -> AcmeError {
    let says_something = |problem: &instant_acme::Problem| {
        problem.detail.is_some() || problem.r#type.is_some() || !problem.subproblems.is_empty()
    };
    let problem = serde_json::from_slice::<instant_acme::Problem>(body).ok();
    let (kind, detail) = match problem.filter(says_something) {
        Some(problem) => {
            let AcmeError { kind, detail, .. } = of_problem(&problem);
            let is_said = problem.detail.is_some() || !problem.subproblems.is_empty();
            let detail = match is_said {
                true => detail,
                false => format!("{answered} without a detail"),
            };
            (kind, detail)
        }
        None => (UNSPECIFIED.to_owned(), answered.to_owned()),
    };
    AcmeError {
        kind,
        detail,
        status: Some(status.as_u16()),
        retry_after,
        unconnected: false,
    }
}

/// Turns a problem document into words, subproblems included.
///
/// An authority that got a wrong answer quotes the right one. That is a key authorization, so we
/// leave it out.
pub(super) fn of_problem(problem: &instant_acme::Problem) -> AcmeError {
    let told = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut detail = told(&problem.detail).unwrap_or_else(|| "no detail given".to_owned());
    for subproblem in problem.subproblems.iter().take(MOST_SUBPROBLEMS) {
        detail.push_str("; ");
        detail.push_str(&subproblem.to_string());
    }
    AcmeError {
        kind: told(&problem.r#type).map_or(UNSPECIFIED.to_owned(), |kind| fit_for_a_report(&kind)),
        detail: fit_for_a_report(&detail),
        status: problem.status,
        retry_after: None,
        unconnected: false,
    }
}

fn fit_for_a_report(text: &str) -> String {
    shortened(&without_key_authorizations(text))
}

/// Replaces everything that has the form of a key authorization: a token, a dot, a SHA-256
/// thumbprint in base64url. A link for a person may hold a JWT, which has three parts; it stays.
fn without_key_authorizations(text: &str) -> String {
    let is_base64url = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut cleaned = String::with_capacity(text.len());
    let mut word = String::new();
    let flush = |word: &mut String, cleaned: &mut String| {
        let parts: Vec<&str> = word.trim_matches('.').split('.').collect();
        let secret = matches!(parts[..], [_, thumbprint] if thumbprint.len() == THUMBPRINT);
        cleaned.push_str(if secret { "(key authorization)" } else { word });
        word.clear();
    };
    for c in text.chars() {
        if is_base64url(c) || c == '.' {
            word.push(c);
        } else {
            flush(&mut word, &mut cleaned);
            cleaned.push(c);
        }
    }
    flush(&mut word, &mut cleaned);
    cleaned
}

/// Cuts an authority's text to a length that a person reads. A link for a person stays whole.
fn shortened(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(LONGEST_DETAIL) else {
        return text.to_owned();
    };
    let rest = &text[end..];
    let link = text.split_whitespace().find(|word| word.contains("://"));
    match link.filter(|link| !text[..end].contains(link) && link.len() <= LONGEST_LINK) {
        Some(link) => format!("{}… {link}", &text[..end]),
        None if rest.is_empty() => text.to_owned(),
        None => format!("{}…", &text[..end]),
    }
}

/// Parses `Retry-After`, seconds or a date (RFC 9110 section 10.2.3). A date is compared with the
/// authority's own clock from the same answer, because our clock may differ.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<OffsetDateTime> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let date = |value: &str| httpdate::parse_http_date(value).ok();
    let value = text(RETRY_AFTER)?;
    let wait = match value.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => {
            let now = text(DATE).and_then(date).unwrap_or_else(SystemTime::now);
            date(value)?.duration_since(now).unwrap_or_default()
        }
    };
    Some(OffsetDateTime::now_utc() + wait.min(LONGEST_RETRY_AFTER))
}

/// An error of our own: `word` is its type.
pub(super) fn ours(word: &str, detail: &str) -> AcmeError {
    AcmeError {
        kind: format!("certloop:{word}"),
        detail: detail.to_owned(),
        status: None,
        retry_after: None,
        unconnected: false,
    }
}

/// How often we repeat a call whose nonces were refused, each time with three tries of the library.
/// If half of all nonces are refused, reading the authorizations of a hundred names takes about
/// thirteen repetitions.
pub(super) const NONCE_ROUNDS: u32 = 48;
/// The length of a SHA-256 digest in base64url.
const THUMBPRINT: usize = 43;
/// The most names of an order at Let's Encrypt; more would be cut anyway.
const MOST_SUBPROBLEMS: usize = 100;
/// In characters.
const LONGEST_DETAIL: usize = 1_000;
/// In bytes.
const LONGEST_LINK: usize = 4_000;
/// No authority's limit lasts longer; a later time is a mistake.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(8 * 86_400);

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_quoted_key_authorization_is_left_out() {
        let said = "The key authorization file from the server did not match this challenge \
            \"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.\
            9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI\" \
            != \"hello.world\" at https://a.example.com/x.txt";
        let cleaned = without_key_authorizations(said);
        assert!(
            !cleaned.contains("9jg46WB3rR") && !cleaned.contains("evaGxf"),
            "{cleaned}"
        );
        assert!(
            cleaned.contains("hello.world") && cleaned.contains("a.example.com/x.txt"),
            "{cleaned}"
        );
    }

    #[test]
    fn a_type_is_no_place_for_a_key_authorization_either() {
        let secret = format!("{}.{}", "t".repeat(43), "x".repeat(THUMBPRINT));
        let body = serde_json::json!({"type": format!("no {secret}"), "detail": ""}).to_string();
        let refusal = refusal(StatusCode::FORBIDDEN, None, "acme.example", body.as_bytes());
        assert_eq!(refusal.kind, "no (key authorization)");
        assert_eq!(refusal.detail, "no detail given");
    }

    #[test]
    fn a_link_with_a_jwt_stays() {
        let part = "x".repeat(THUMBPRINT);
        let link = format!("https://portal.example.com/sfe/v1/unpause?jwt={part}.{part}.{part}");
        let said = format!(
            "prevented from requesting certificates for a.example.com. Please visit: {link}"
        );
        assert_eq!(without_key_authorizations(&said), said);
        let long = format!("{} {link}", "name.example.com, ".repeat(100));
        assert!(shortened(&long).ends_with(&link));
        let name = format!("{part}x.{part}x.example.com is held");
        assert_eq!(without_key_authorizations(&name), name);
    }

    #[test]
    fn a_long_detail_is_cut() {
        assert_eq!(
            shortened(&"ü".repeat(5_000)).chars().count(),
            LONGEST_DETAIL + 1
        );
    }

    #[test]
    fn of_many_subproblems_the_first_are_quoted() {
        let subproblem = |at: usize| {
            serde_json::json!({
                "type": "urn:ietf:params:acme:error:dns",
                "detail": format!("no {at}"),
                "identifier": {"type": "dns", "value": "a.example"},
            })
        };
        let all: Vec<_> = (0..20_000).map(subproblem).collect();
        let problem = serde_json::json!({"detail": "", "subproblems": all});
        let problem: instant_acme::Problem = serde_json::from_value(problem).unwrap();
        let since = std::time::Instant::now();
        let refusal = of_problem(&problem);
        assert!(since.elapsed() < Duration::from_millis(500));
        assert!(refusal.detail.contains("no 0"), "{}", refusal.detail);
    }

    #[test]
    fn a_date_is_read_by_the_clock_of_the_answer() {
        let mut headers = HeaderMap::new();
        headers.insert(
            DATE,
            HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"),
        );
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_static("Wed, 21 Oct 2015 07:29:00 GMT"),
        );
        let wait = retry_after(&headers).unwrap() - OffsetDateTime::now_utc();
        assert!((wait.as_seconds_f64() - 60.0).abs() < 1.0, "{wait}");
    }
}
