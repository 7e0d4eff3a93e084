//! What keeps a command from doing its work: what happened, to what, and what to try next.

use std::fmt;

use certificates::ports::store::StoreError;
use certificates::values::problem::Problem;

/// Why a command ends without having done its work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CliError {
    /// What happened, and to which object.
    pub(crate) what: String,
    /// What to try next, one per line.
    pub(crate) next: Vec<String>,
    /// How the command ends.
    pub(crate) ends: Ends,
}

/// How a command ends: its exit status. [`EXIT_CODES`] has the table for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ends {
    /// It is done, and nothing needs a person.
    Well = 0,
    /// Something needs a person, was refused, or failed.
    NeedsPerson = 1,
    /// The command was not understood, or lacks something: nothing was done.
    Misused = 2,
}

/// The table of exit codes, as `certloop --help` ends with it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, and nothing needs a person
  1  something needs a person, was refused, or failed
  2  the command was not understood or lacks something; nothing was done";

impl CliError {
    /// Makes the error of something that was refused or that failed.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next: Vec::new(),
            ends: Ends::NeedsPerson,
        }
    }

    /// Makes the error of a command that cannot be carried out as it was typed.
    pub(crate) fn misused(what: impl Into<String>) -> Self {
        Self {
            ends: Ends::Misused,
            ..Self::failed(what)
        }
    }

    /// Adds what to try next.
    #[must_use]
    pub(crate) fn try_next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }

    /// Makes the error of an object of the bucket that cannot be read or written.
    pub(crate) fn of_store(error: &StoreError, bucket: &str) -> Self {
        match error {
            StoreError::ConditionFailed { .. } => Self::failed(format!("bucket {bucket}: {error}"))
                .try_next("look at it as it is now and repeat the command"),
            error => Self::of_bucket(&error.to_string(), bucket),
        }
    }

    /// Makes the error of a problem that keeps every command from its work.
    pub(crate) fn of_problem(problem: &Problem, bucket: &str) -> Self {
        let detail = problem.detail.as_str();
        Self::of_bucket(detail.strip_suffix(PERMISSIONS).unwrap_or(detail), bucket)
    }

    /// Tells a bucket that is missing from one that may not be used.
    fn of_bucket(reason: &str, bucket: &str) -> Self {
        if reason.contains(NO_BUCKET) {
            return Self::failed(format!("there is no bucket {bucket}"))
                .try_next("another --bucket, --region or --profile");
        }
        if REFUSALS.iter().any(|code| reason.contains(code)) {
            return Self::failed(format!(
                "your credentials may not do this in the bucket {bucket}: {reason}"
            ))
            .try_next("other credentials: --profile, AWS_PROFILE")
            .try_next("certloop doctor, which names the permissions that are missing");
        }
        Self::failed(format!("bucket {bucket}: {reason}")).try_next("certloop doctor")
    }
}

/// The code of S3 for a bucket that does not exist.
pub(crate) const NO_BUCKET: &str = "NoSuchBucket";
/// What the function adds to a refusal of the bucket.
pub(crate) const PERMISSIONS: &str = "; check the bucket and the function's permissions";
/// The codes of AWS for credentials that may not, or that are not valid.
const REFUSALS: [&str; 5] = [
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
];

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certloop: {}", self.what)?;
        for next in &self.next {
            write!(f, "\n  try: {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use certificates::values::problem_types::ProblemType;

    use super::*;

    #[test]
    fn a_missing_bucket_and_missing_rights_are_two_messages() {
        let of = |code: &str| {
            let problem = Problem::ours(
                ProblemType::StoreDenied,
                format!("could not read settings.json: GetObject: {code}: x{PERMISSIONS}"),
            );
            CliError::of_problem(&problem, "b").to_string()
        };
        let missing = of("NoSuchBucket");
        assert!(
            missing.starts_with("certloop: there is no bucket b\n"),
            "{missing}"
        );
        assert!(!missing.contains("permission"), "{missing}");
        let denied = of("AccessDenied");
        assert!(denied.contains("your credentials may not"), "{denied}");
        assert!(!denied.contains(PERMISSIONS), "{denied}");
    }
}
