//! Why the work on a certificate stops, and what the store's errors mean for it.

use time::OffsetDateTime;

use crate::ports::store::StoreError;
use crate::rules::ledger::Blocked;
use crate::rules::order_names::FailedName;
use crate::values::problem::{self, AcmeError, Problem};
use crate::values::problem_types::ProblemType;

/// Why the work on a certificate stops for this pass.
#[derive(Debug)]
pub enum Stop {
    /// Something failed: it is remembered and reported.
    Failed(Failing),
    /// Nothing failed, but the work cannot continue before this instant.
    Waiting {
        /// Why, for a person.
        reason: String,
        /// When to continue.
        until: OffsetDateTime,
        /// The problem that caused the wait.
        problem: Option<Problem>,
    },
    /// Another invocation has taken the lease: this one may save nothing any more.
    LeaseLost,
}

/// What failed, and what is known about when to try again.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The problem.
    pub problem: Problem,
    /// The instant that the other side named.
    pub not_before: Option<OffsetDateTime>,
    /// The names it is about.
    pub identifiers: Vec<String>,
    /// Whether the authority waits for a person to act.
    pub paused: bool,
    /// Whether the authority is down or limiting, so that another may be used.
    pub unavailable: bool,
    /// The names that are blocked, each with its own problem.
    pub failed_names: Vec<FailedName>,
}

impl From<Problem> for Failing {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            not_before: None,
            identifiers: Vec::new(),
            paused: false,
            unavailable: false,
            failed_names: Vec::new(),
        }
    }
}

impl From<AcmeError> for Failing {
    fn from(refusal: AcmeError) -> Self {
        Self {
            not_before: refusal.retry_after,
            paused: problem::is_paused(&refusal),
            unavailable: problem::is_unavailable(&refusal),
            ..Self::from(refusal.problem())
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem.into())
    }
}

impl From<AcmeError> for Stop {
    fn from(refusal: AcmeError) -> Self {
        Self::Failed(refusal.into())
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::from(store_problem(&error))
    }
}

impl From<Blocked> for Stop {
    fn from(blocked: Blocked) -> Self {
        Self::Waiting {
            problem: Some(blocked.problem()),
            reason: blocked.what,
            until: blocked.until,
        }
    }
}

/// Returns the problem of a certificate whose record the store could not read or write.
pub fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::ConditionFailed { .. } | StoreError::Unavailable { person: false, .. } => {
            Problem::ours(ProblemType::Store, error.to_string())
        }
        StoreError::Unavailable { .. } => Problem::ours(
            ProblemType::StoreDenied,
            format!("{error}; check the bucket and the function's permissions"),
        ),
        StoreError::Unusable { .. } => Problem::ours(ProblemType::Record, error.to_string()),
    }
}

/// Returns the problem of a state that cannot be read or that a newer build wrote.
pub fn state_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unusable { .. } => Problem::ours(ProblemType::State, error.to_string()),
        error => store_problem(error),
    }
}
