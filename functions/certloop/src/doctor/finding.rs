//! What a look at one thing found.

use certificates::values::problem::ServiceError;
use serde::Serialize;

/// What was read of AWS, or why it could not be.
pub(crate) type Seen<T> = Result<T, ServiceError>;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// How it is.
    pub(crate) verdict: Verdict,
    /// What was looked at.
    pub(crate) about: String,
    /// What was found.
    pub(crate) found: String,
    /// What to do.
    pub(crate) remedy: Option<String>,
}

/// How something is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// As it has to be.
    Ok,
    /// This installation does not have it, and need not: it is a local one.
    Absent,
    /// It works, but not for ever or not as well as it could.
    Warning,
    /// It could not be read.
    CouldNotTell,
    /// Something does not work, or is open to others.
    Wrong,
}

impl Finding {
    /// Adds what to do.
    #[must_use]
    pub(crate) fn with(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

fn of(verdict: Verdict, about: &str, found: impl Into<String>) -> Finding {
    Finding {
        verdict,
        about: about.to_owned(),
        found: found.into(),
        remedy: None,
    }
}

/// Says that all is well.
pub(crate) fn ok(about: &str, found: impl Into<String>) -> Finding {
    of(Verdict::Ok, about, found)
}

/// Says what a local installation does not have.
pub(crate) fn absent(about: &str, found: impl Into<String>) -> Finding {
    of(Verdict::Absent, about, found)
}

/// Says what should be better.
pub(crate) fn warning(about: &str, found: impl Into<String>) -> Finding {
    of(Verdict::Warning, about, found)
}

/// Says what has to be corrected.
pub(crate) fn wrong(about: &str, found: impl Into<String>) -> Finding {
    of(Verdict::Wrong, about, found)
}

/// Says what could not be read.
pub(crate) fn unknown(about: &str, found: impl Into<String>) -> Finding {
    of(Verdict::CouldNotTell, about, found)
}

/// Says what could not be read since AWS did not answer, and which permission it takes where that
/// is why.
pub(crate) fn could_not_tell(
    about: &str,
    what: &str,
    permission: &str,
    error: &ServiceError,
) -> Finding {
    let found = unknown(about, format!("{what}: {error}"));
    match is_denied(error) {
        true => found.with(format!(
            "needs {permission}, which the module's policy `doctor` has: attach it, or use other \
             credentials (--profile)"
        )),
        false => found,
    }
}

/// Whether the call was refused for want of a permission.
pub(crate) fn is_denied(error: &ServiceError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.starts_with("AccessDenied")
        || code == "UnauthorizedOperation"
        || error.status == Some(403) && code.is_empty()
}

/// What most often corrects something.
pub(crate) const APPLY: &str = "terraform apply, which restores what the module has";
