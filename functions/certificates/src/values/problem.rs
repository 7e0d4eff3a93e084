//! Problems: what went wrong, when a new attempt makes sense, and what we remember of it.
//!
//! # The words for what went wrong
//!
//! A call that fails answers with the error type of its side:
//!
//! - `ServiceError`: an AWS call failed, with the service's code. `AttachError` sorts the errors of
//!   attaching by what the caller does about them.
//! - `AcmeError`: the authority answered with a problem document, or not at all.
//! - `DnsError`: the DNS gave no answer. "No such record" is an answer, not an error.
//! - `StoreError`: an object cannot be read or written, or another writer changed it meanwhile.
//! - `Invalid`: we refuse what a person wrote, by field, before we call any service. `InvalidArn`,
//!   `ChainError` and `KeyError` refuse a single value.
//!
//! Then each error becomes one of these, in this order:
//!
//! - [`Problem`]: the form that people and programs read, with a type and when to try again.
//! - `Failing`: a problem with facts that matter only now (which names, not before when, whether
//!   another authority may help). It lasts no longer than the pass.
//! - `Stop`: why the work on a certificate ends in this pass. It need not be a failure: the work
//!   may have to wait, or the lease is lost.
//! - [`Failure`]: a problem as the record keeps it across passes, with the number of attempts and
//!   the time of the next.
//!
//! Two more end a whole run, not the work on one certificate: `InvocationError` in a function,
//! `CliError` in a command.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::values::problem_types::{self, ProblemType, Retry};

/// What went wrong with a certificate, in the form that reports and states hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The authority's URN (RFC 8555 section 6.7) or `certloop:<word>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, to which name, and what the reader can do. Never contains a secret.
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

    /// Whether the cause lies outside the authority: we asked only the DNS, or the bucket failed.
    /// Then no wait is longer than an hour.
    pub fn costs_nobody(&self) -> bool {
        [ProblemType::CaaForbids, ProblemType::Store]
            .iter()
            .any(|problem_type| self.kind == Self::kind_of(*problem_type))
    }

    /// Returns the type `certloop:<word>`.
    pub fn kind_of(problem_type: ProblemType) -> String {
        format!("certloop:{}", problem_type.word())
    }

    /// Makes a problem of type `certloop:<word>`.
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
#[error(
    "{operation}: {}{message}",
    code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default()
)]
pub struct ServiceError {
    /// The API operation, e.g. `ImportCertificate`.
    pub operation: &'static str,
    /// The service's error code; `None` when no answer arrived.
    pub code: Option<String>,
    /// The service's message, or why no answer arrived.
    pub message: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
}

impl ServiceError {
    /// Whether the call may have taken effect although it failed: no answer, or a fault of the
    /// service.
    pub fn may_have_happened(&self) -> bool {
        !self.is_throttling() && self.status.is_none_or(|status| status >= 500)
    }

    /// Whether the service asks for fewer calls (throttling).
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

    /// Returns the certificate's problem of this type, with the AWS remedy where one is known.
    pub fn problem(&self, problem_type: ProblemType, about: &str) -> Problem {
        let (retry, remedy) = of_aws(problem_type, self.code.as_deref());
        let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
        Problem {
            retry,
            ..Problem::ours(problem_type, format!("{about}: {self}{remedy}"))
        }
    }
}

/// The error that an authority answered, or why no answer came.
#[derive(Clone, Debug)]
pub struct AcmeError {
    /// The problem document's type (RFC 8555 section 6.7), or `certloop:authority` when there was
    /// none.
    pub kind: String,
    /// The problem document's text, including subproblems.
    pub detail: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The instant before which the authority accepts no new request.
    pub retry_after: Option<OffsetDateTime>,
    /// Whether no connection was made: no address for the name, refused, no TLS.
    pub unconnected: bool,
}

/// The problem type when the authority gave none.
pub const UNSPECIFIED: &str = "certloop:authority";
/// The namespace of the problem types of RFC 8555 section 6.7.
pub const URN: &str = "urn:ietf:params:acme:error:";

impl AcmeError {
    /// Makes the error for an answer that did not arrive in time.
    pub fn no_answer(limit: std::time::Duration) -> Self {
        Self {
            kind: UNSPECIFIED.to_owned(),
            detail: format!("no answer within {:.0} s", limit.as_secs_f64()),
            status: None,
            retry_after: None,
            unconnected: false,
        }
    }

    /// Whether `replaces` alone may be the cause, in any wording: authorities
    /// differ in how they refuse an order for a successor (RFC 9773 section 5).
    pub fn may_be_about_replaces(&self) -> bool {
        match self.word() {
            "alreadyReplaced" | "malformed" | "unauthorized" => true,
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
            // Pebble answers this when it does not find the predecessor.
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

    /// Returns the certificate's problem.
    pub fn problem(&self) -> Problem {
        Problem {
            kind: self.kind.clone(),
            detail: self.detail.clone(),
            retry: self.retry(),
        }
    }
}

/// Says of an `unauthorized` request what it is about. A request that is no answer to a challenge
/// shows only the account: the authority refuses that, and not a name.
pub fn of_account(refusal: AcmeError) -> AcmeError {
    if refusal.word() != "unauthorized" {
        return refusal;
    }
    AcmeError {
        kind: format!("certloop:{}", ProblemType::AccountRefused.word()),
        detail: format!(
            "the authority refuses the account: {}; ask the authority why; where it has \
             deactivated the account for good, delete the account's object under `accounts/` and \
             certloop makes a new one",
            refusal.detail
        ),
        ..refusal
    }
}

/// Returns when to try again after an authority's error.
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

/// Whether the authority has paused a name or an account until a person opens a link: a limit and a
/// link, without Retry-After. A short limit also has a link, to its documentation, but its text
/// says when to retry.
pub fn is_paused(refusal: &AcmeError) -> bool {
    let is_limit = refusal.word() == "rateLimited" || refusal.status == Some(429);
    let says_when = refusal.detail.contains("retry after");
    is_limit && !says_when && refusal.retry_after.is_none() && refusal.detail.contains("://")
}

/// Whether an authority is down or limits requests, so that another authority may help. `false`
/// when it refuses.
pub fn is_unavailable(refusal: &AcmeError) -> bool {
    match refusal.word() {
        "rateLimited" | "serverInternal" => true,
        _ => {
            let is_answer = |status: u16| status < 500 && status != 429;
            !refusal.status.is_some_and(is_answer)
        }
    }
}

/// Returns when to try again after an error of AWS, and the remedy for the error code if one is
/// known.
pub fn of_aws(problem_type: ProblemType, code: Option<&str>) -> (Retry, Option<&'static str>) {
    let of_code = problem_types::AWS
        .iter()
        .find(|(codes, ..)| code.is_some_and(|code| codes.contains(&code)));
    match of_code {
        Some((_, retry, remedy)) => (*retry, Some(remedy)),
        None => (problem_type.retry(), None),
    }
}

/// A problem that we remember across passes, with its class and its next attempt (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The last problem.
    pub problem: Problem,
    /// How many times it happened in a row.
    pub attempts: u32,
    /// When it happened last.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// We try nothing before this instant.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
    /// The names that the authority named: if the document changes, only these names wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<String>,
    /// Whether the authority set the instant, or a person must act there: neither force nor a new
    /// document overrides that.
    #[serde(default)]
    pub binding: bool,
    /// The ETag of the document of that attempt: another document gets a new attempt.
    #[serde(default)]
    pub document: String,
    /// The directory of the authority of that attempt: what one authority says about a name does
    /// not bind another.
    #[serde(default)]
    pub directory: String,
    /// Whether the authority was down or limited requests, so that another may be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unavailable: bool,
}

/// Our own waits after the first, second and third failure in a row, and after every later one.
const LADDER: [Duration; 4] = [
    Duration::minutes(1),
    Duration::minutes(10),
    Duration::minutes(100),
    Duration::days(1),
];
/// One of our next attempts further ahead than this is void: the clock was wrong once.
pub(crate) const LONGEST_WAIT: Duration = Duration::hours(25);
/// An authority never asks for a wait longer than this; a longer one comes from a wrong clock.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::hours(8 * 24 + 1);
/// Our waits when little of the lifetime is left.
const URGENT_WAIT: Duration = Duration::hours(1);

/// Returns the wait after this many failures in a row. `jitter` in 0..1 shortens it by up to a
/// tenth, so that certificates that failed together do not all retry together. With `urgent` the
/// wait is never longer than an hour.
pub fn backoff(attempts: u32, urgent: bool, jitter: f64) -> Duration {
    let step = LADDER[(attempts.max(1) as usize - 1).min(LADDER.len() - 1)];
    let step = if urgent { step.min(URGENT_WAIT) } else { step };
    step * (1.0 - 0.1 * jitter.clamp(0.0, 1.0))
}

impl Failure {
    /// Whether we leave the authority alone at this instant because it was down or limited
    /// requests.
    pub fn is_unavailable(&self, now: OffsetDateTime) -> bool {
        self.unavailable && self.is_planned(now)
    }

    /// Whether the next attempt is still ahead. One too far ahead does not count: a wrong clock
    /// wrote it.
    pub fn is_planned(&self, now: OffsetDateTime) -> bool {
        self.next_attempt > now && !self.is_too_far_ahead(now)
    }

    /// Whether the next attempt is so far ahead that only a wrong clock can have written it.
    pub fn is_too_far_ahead(&self, now: OffsetDateTime) -> bool {
        self.next_attempt > now + self.longest()
    }

    fn longest(&self) -> Duration {
        match self.binding {
            true => LONGEST_RETRY_AFTER,
            false => LONGEST_WAIT,
        }
    }

    /// Returns the instant before which nothing may be tried; `None` when a try is allowed now.
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
