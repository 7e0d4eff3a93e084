//! Problems: what went wrong, when trying again makes sense, and what is remembered of it.
//!
//! # The words for what went wrong
//!
//! What a call answers where it fails, one type for each side that can:
//!
//! - `ServiceError`: an AWS call failed, with the service's code; `AttachError` sorts those of
//!   attaching by what a caller does about them.
//! - `AcmeError`: the authority answered a problem document, or nothing at all.
//! - `DnsError`: the DNS gave no answer; that there is no such record is an answer.
//! - `StoreError`: an object could not be read or written, or somebody else wrote it meanwhile.
//! - `Invalid`: what a person wrote is refused, by field, before anybody is called; `InvalidArn`,
//!   `ChainError` and `KeyError` refuse a single value.
//!
//! What becomes of it, in this order:
//!
//! - [`Problem`]: any of these as people and programs read it, with a type and when to try again.
//! - `Failing`: a problem with what is known at that moment only (which names, not before when,
//!   whether another authority may help); it lasts no longer than the pass.
//! - `Stop`: why the work on a certificate ends for this pass, which need not be a failure: it may
//!   have to wait, or the lease is lost.
//! - [`Failure`]: a problem as the record keeps it across passes, with its attempts and the next.
//!
//! Two end a run instead of the work on one certificate: `InvocationError` that of a function,
//! `CliError` that of a command.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::values::problem_types::{self, ProblemType, Retry};

/// What went wrong with a certificate, as reports and states carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The authority's URN (RFC 8555 section 6.7) or `certloop:<word>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, to which name, and what the reader can do. Never holds a secret.
    pub detail: String,
    /// When to try again.
    pub retry: Retry,
}

impl Problem {
    /// Returns the type without its namespace.
    pub fn word(&self) -> &str {
        let kind = self.kind.strip_prefix(URN).unwrap_or(&self.kind);
        kind.strip_prefix("certloop:").unwrap_or(kind)
    }

    /// Whether it is nothing the authority has to bear: the DNS alone was asked, or the bucket stumbled. Then the longest wait is an hour.
    pub fn costs_nobody(&self) -> bool {
        [ProblemType::CaaForbids, ProblemType::Store]
            .iter()
            .any(|problem_type| self.kind == Self::kind_of(*problem_type))
    }

    /// Returns the type of a problem of ours.
    pub fn kind_of(problem_type: ProblemType) -> String {
        format!("certloop:{}", problem_type.word())
    }

    /// Makes a problem of ours: `certloop:<word>`.
    pub fn ours(problem_type: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind: Self::kind_of(problem_type),
            detail: detail.into(),
            retry: problem_type.retry(),
        }
    }
}

/// An AWS call that failed.
#[derive(Clone, Debug, Error)]
#[error("{operation}: {}{message}", code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default())]
pub struct ServiceError {
    /// The API operation, e.g. `ImportCertificate`.
    pub operation: &'static str,
    /// The service's error code, `None` when no answer arrived.
    pub code: Option<String>,
    /// The service's words, or what kept the answer from arriving.
    pub message: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
}

impl ServiceError {
    /// Whether the call may have taken effect although it failed: no answer, or a fault on the service's side.
    pub fn may_have_happened(&self) -> bool {
        !self.is_throttling() && self.status.is_none_or(|status| status >= 500)
    }

    /// Whether the service asked for fewer calls.
    pub fn is_throttling(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some(
                "ThrottlingException"
                    | "Throttling"
                    | "ThrottledException"
                    | "TooManyRequestsException"
                    | "RequestLimitExceeded"
                    | "SlowDown"
                    | "PriorRequestNotComplete"
            )
        )
    }

    /// Returns the problem this is for a certificate.
    pub fn problem(&self, problem_type: ProblemType, about: &str) -> Problem {
        let (retry, remedy) = of_aws(problem_type, self.code.as_deref());
        let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
        Problem {
            retry,
            ..Problem::ours(problem_type, format!("{about}: {self}{remedy}"))
        }
    }
}

/// What an authority answered instead of what was asked for, or why no answer came.
#[derive(Clone, Debug)]
pub struct AcmeError {
    /// The problem document's type (RFC 8555 section 6.7), or `certloop:authority` when there was none.
    pub kind: String,
    /// The problem document's words, subproblems included.
    pub detail: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The instant before which the authority does not want to be asked again.
    pub retry_after: Option<OffsetDateTime>,
    /// Whether no connection came about: no address for the name, refused, no TLS.
    pub unconnected: bool,
}

/// The problem type when the authority named none.
pub const UNSPECIFIED: &str = "certloop:authority";
/// The problem type when an order was made that does not echo `replaces` (RFC 9773 section 5).
pub const REPLACES_NOT_ECHOED: &str = "certloop:replacesNotEchoed";
/// The namespace of the problem types of RFC 8555 section 6.7.
pub const URN: &str = "urn:ietf:params:acme:error:";

impl AcmeError {
    /// Makes the error for want of an answer in time.
    pub fn no_answer(limit: std::time::Duration) -> Self {
        Self {
            kind: UNSPECIFIED.to_owned(),
            detail: format!("no answer within {:.0} s", limit.as_secs_f64()),
            status: None,
            retry_after: None,
            unconnected: false,
        }
    }

    /// Whether this may be about `replaces` alone, in whatever words: authorities differ in how they say that they do not take
    /// an order for a successor (RFC 9773 section 5).
    pub fn may_be_about_replaces(&self) -> bool {
        match self.word() {
            "alreadyReplaced" | "malformed" | "unauthorized" | REPLACES_NOT_ECHOED => true,
            "accountDoesNotExist"
            | "badNonce"
            | "badSignatureAlgorithm"
            | "caa"
            | "dns"
            | "externalAccountRequired"
            | "invalidProfile"
            | "rateLimited"
            | "rejectedIdentifier"
            | "unsupportedIdentifier"
            | "userActionRequired" => false,
            // Pebble stumbles over a predecessor that it does not find.
            "serverInternal" => self.status == Some(500) && self.retry_after.is_none(),
            _ => matches!(self.status, Some(400 | 403 | 404 | 409)),
        }
    }

    /// Returns the problem type without its namespace.
    pub fn word(&self) -> &str {
        self.kind.strip_prefix(URN).unwrap_or(&self.kind)
    }

    /// Returns when to try again.
    pub fn retry(&self) -> Retry {
        of_acme(self)
    }

    /// Returns the problem this is for a certificate.
    pub fn problem(&self) -> Problem {
        Problem {
            kind: self.kind.clone(),
            detail: self.detail.clone(),
            retry: self.retry(),
        }
    }
}

/// Returns the class of what an authority said.
pub fn of_acme(refusal: &AcmeError) -> Retry {
    let word = refusal.word();
    let known = problem_types::AUTHORITY
        .iter()
        .find(|(known, ..)| *known == word);
    match known.map(|(_, retry, _)| *retry) {
        Some(class @ (Retry::Person | Retry::Never)) => class,
        _ if refusal.retry_after.is_some() => Retry::At,
        _ if is_paused(refusal) => Retry::Person,
        _ => word
            .strip_prefix("certloop:")
            .and_then(|word| {
                ProblemType::ALL
                    .iter()
                    .find(|problem_type| problem_type.word() == word)
            })
            .map_or(Retry::Soon, |problem_type| problem_type.retry()),
    }
}

/// Whether the authority has paused a name or account until somebody opens a link: a limit, a link, and no Retry-After. A limit that is
/// over in a moment has a link to its documentation, and says in words when to retry.
pub fn is_paused(refusal: &AcmeError) -> bool {
    let is_limit = refusal.word() == "rateLimited" || refusal.status == Some(429);
    let says_when = refusal.detail.contains("retry after");
    is_limit && !says_when && refusal.retry_after.is_none() && refusal.detail.contains("://")
}

/// Whether an authority is down or limiting, rather than unwilling: another authority may be of use.
pub fn is_unavailable(refusal: &AcmeError) -> bool {
    match refusal.word() {
        "rateLimited" | "serverInternal" => true,
        _ => {
            let is_answer = |status: u16| status < 500 && status != 429;
            !refusal.status.is_some_and(is_answer)
        }
    }
}

/// Returns the class of what AWS said about a problem of ours, and what helps.
pub fn of_aws(problem_type: ProblemType, code: Option<&str>) -> (Retry, Option<&'static str>) {
    let of_code = problem_types::AWS
        .iter()
        .find(|(codes, ..)| code.is_some_and(|code| codes.contains(&code)));
    match of_code {
        Some((_, retry, remedy)) => (*retry, Some(remedy)),
        None => (problem_type.retry(), None),
    }
}

/// A problem remembered across passes, with its class and next attempt (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What went wrong last.
    pub problem: Problem,
    /// How often in a row.
    pub attempts: u32,
    /// When it happened last.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Nothing is tried before this instant.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
    /// The names the authority spoke about: only they are held when the document changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<String>,
    /// Whether the authority set the instant or must see a person act: neither force nor a new document overrides that.
    #[serde(default)]
    pub binding: bool,
    /// The ETag of the document it happened with: another document deserves a new try.
    #[serde(default)]
    pub document: String,
    /// The directory of the authority it happened with: what one says of a name binds no other.
    #[serde(default)]
    pub directory: String,
    /// Whether the authority was down or limiting, so that another may be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unavailable: bool,
}

/// Our own waits after the first, second and third failure in a row, and after each later one.
const LADDER: [Duration; 4] = [
    Duration::minutes(1),
    Duration::minutes(10),
    Duration::minutes(100),
    Duration::days(1),
];
/// A next attempt of ours further ahead than this is void (a clock that was wrong once).
pub(crate) const LONGEST_WAIT: Duration = Duration::hours(25);
/// What an authority asked for is never further ahead than this; if it is, a clock was wrong.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::hours(8 * 24 + 1);
/// Our waits when little of the lifetime is left.
const URGENT_WAIT: Duration = Duration::hours(1);

/// Returns the wait after the given number of failures in a row; `jitter` in 0..1 shortens it by up to a tenth, so that
/// certificates that failed together do not come back together. `urgent`: never longer than an hour.
pub fn backoff(attempts: u32, urgent: bool, jitter: f64) -> Duration {
    let step = LADDER[(attempts.max(1) as usize - 1).min(LADDER.len() - 1)];
    let step = if urgent { step.min(URGENT_WAIT) } else { step };
    step * (1.0 - 0.1 * jitter.clamp(0.0, 1.0))
}

impl Failure {
    /// Whether the authority is left alone at this instant because it was down or limiting.
    pub fn is_unavailable(&self, now: OffsetDateTime) -> bool {
        self.unavailable && self.is_planned(now)
    }

    /// Whether the next attempt is to come. One too far ahead was written by a clock that was wrong.
    pub fn is_planned(&self, now: OffsetDateTime) -> bool {
        self.next_attempt > now && !self.is_too_far_ahead(now)
    }

    /// Whether the next attempt is so far ahead that a clock that was wrong wrote it down.
    pub fn is_too_far_ahead(&self, now: OffsetDateTime) -> bool {
        self.next_attempt > now + self.longest()
    }

    fn longest(&self) -> Duration {
        match self.binding {
            true => LONGEST_RETRY_AFTER,
            false => LONGEST_WAIT,
        }
    }

    /// Returns until when nothing may be tried, or `None` when a try may be made now.
    pub fn holds(
        &self,
        now: OffsetDateTime,
        force: bool,
        document: &str,
        directory: &str,
        names: &[String],
    ) -> Option<OffsetDateTime> {
        if !self.directory.is_empty() && self.directory != directory {
            return None;
        }
        if !self.is_planned(now) {
            return None;
        }
        let about_these_names =
            self.identifiers.is_empty() || self.identifiers.iter().any(|held| names.contains(held));
        if !about_these_names {
            return None;
        }
        let said_by_authority = self.binding || !self.identifiers.is_empty();
        if !self.binding && (force || (self.document != document && !said_by_authority)) {
            return None;
        }
        Some(self.next_attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_capped_when_little_is_left() {
        assert_eq!(backoff(1, false, 0.0), Duration::minutes(1));
        assert_eq!(backoff(3, false, 0.0), Duration::minutes(100));
        assert_eq!(backoff(9, false, 0.0), Duration::days(1));
        assert_eq!(backoff(9, true, 0.0), Duration::hours(1));
        assert!(backoff(9, false, 1.0) >= Duration::hours(21));
    }
}
