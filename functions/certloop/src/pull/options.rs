//! What a run is asked for.

use std::path::PathBuf;
use std::time::Duration;

use certificates::values::names::CertificateName;

use super::owner::{Mode, Owner};

/// What to pull, and what to make of it.
#[derive(Clone, Debug)]
pub(super) struct PullOptions {
    /// Which certificate.
    pub(super) name: CertificateName,
    /// Where its files belong; made where it is missing.
    pub(super) directory: PathBuf,
    /// Run by `sh -c` when something changed.
    pub(super) command: Option<String>,
    /// How long that may take before it is ended and counts as failed.
    pub(super) timeout: Duration,
    /// Who owns the files; where it is not said, who runs this.
    pub(super) owner: Option<Owner>,
    /// Of the files that hold the key; the others may be read by everybody.
    pub(super) mode: Mode,
    /// Whether the bucket's certificate also takes the place of another certificate, or of a newer
    /// one that the bucket does not know.
    pub(super) replace: bool,
}
