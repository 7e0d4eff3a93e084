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

#[allow(non_upper_case_globals, reason = "`pull` still has the former name")]
impl Ends {
    /// What could not be read or written failed.
    pub(crate) const Unknown: Self = Self::NeedsPerson;
}

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
        let cli_error = Self::failed(format!("bucket {bucket}: {error}"));
        match error {
            StoreError::ConditionFailed { .. } => {
                cli_error.try_next("look at it as it is now and repeat the command")
            }
            StoreError::Unavailable { person: true, .. } => cli_error
                .try_next("certloop doctor")
                .try_next("check that your credentials may use the bucket: --profile, AWS_PROFILE"),
            _ => cli_error,
        }
    }

    /// Makes the error of a problem that stands in the way of everything.
    pub(crate) fn of_problem(problem: &Problem, bucket: &str) -> Self {
        Self::failed(format!(
            "bucket {bucket}: {} ({})",
            problem.detail, problem.kind
        ))
        .try_next("certloop doctor")
    }
}

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
