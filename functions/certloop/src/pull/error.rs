//! Why a run failed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use certificates::ports::store::StoreError;
use certificates::values::names::CertificateName;
use thiserror::Error;
use time::OffsetDateTime;

use super::command::CommandFailure;
use super::files::instant;

/// Why a host does not hold what it should. The files are as they were, unless it says otherwise.
#[derive(Debug, Error)]
pub(super) enum PullError {
    /// The bucket could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such bucket.
    #[error(
        "{0}. This bucket does not exist, or its name is wrong: name the right one with --bucket \
         or CERTLOOP_BUCKET"
    )]
    NoBucket(StoreError),
    /// The bucket lets us see neither of the two places that tell which certificate it is.
    #[error(
        "{state}, and {vault}. Give this host's role or user the policy of the module's output \
         pull_policy_arns, and name it in the variable pull"
    )]
    Denied {
        /// Why the state could not be read.
        state: StoreError,
        /// Why the vault could not be listed.
        vault: StoreError,
    },
    /// There is nothing to pull yet, or any more.
    #[error(
        "{name} has no certificate in this bucket: either it is called otherwise, or `certloop \
         status {name}`, where the fleet is operated, says why"
    )]
    NoCertificate {
        /// The certificate's name.
        name: CertificateName,
    },
    /// The vault lacks what the state names.
    #[error(
        "{key} is not there: the key of the certificate to serve is nowhere in the bucket. The \
         files stay as they are, and the next renewal brings new ones. Where the fleet is \
         operated, `certloop renew {name} --force --reissue` orders at once"
    )]
    Lost {
        /// The vault entry.
        key: String,
        /// The certificate's name.
        name: CertificateName,
    },
    /// The directory holds a newer certificate that the bucket does not know.
    #[error(
        "{} holds {held}, valid until {}. It begins later than {wanted}, valid until {}, and the \
         bucket does not know it: the bucket may have been restored from an older copy. The files \
         stay as they are. certloop orders a new certificate in time, and a later pull brings it; \
         `--replace` brings {wanted} now",
        path.display(),
        instant(.held_until),
        instant(.wanted_until)
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The serial that it holds.
        held: String,
        /// The end of that one's validity.
        held_until: OffsetDateTime,
        /// The serial that the bucket names.
        wanted: String,
        /// The end of that one's validity.
        wanted_until: OffsetDateTime,
    },
    /// The directory is for another certificate.
    #[error(
        "{} holds {held}, not {name}: pull {name} into another directory, or take this one over \
         with `--replace`",
        path.display()
    )]
    AnotherCertificate {
        /// The directory.
        path: PathBuf,
        /// The name of the certificate it is for, or the names in its leaf.
        held: String,
        /// The name of the certificate that was asked for.
        name: CertificateName,
    },
    /// What the vault holds must not be served.
    #[error("{key} cannot be served: {reason}. `certloop renew {name}` makes another one")]
    Unservable {
        /// The vault entry.
        key: String,
        /// What is wrong with it.
        reason: String,
        /// The certificate's name.
        name: CertificateName,
    },
    /// It is valid only later.
    #[error(
        "{key} is valid only from {} on, and this host's clock shows {}: set the clock",
        instant(.from),
        instant(.now)
    )]
    NotYetValid {
        /// The vault entry.
        key: String,
        /// Begin of its validity.
        from: OffsetDateTime,
        /// What the clock shows.
        now: OffsetDateTime,
    },
    /// A file or directory could not be worked on.
    #[error("could not {doing} {}: {source}", path.display())]
    Files {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else has the place of one of our files.
    #[error(
        "{} is {what}, and no file of certloop's: remove it, or pull into another directory",
        path.display()
    )]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// Anybody could put another key in the place of ours.
    #[error(
        "everybody may write into {}: `chmod o-w` it, or pull into another directory",
        path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
    },
    /// Another run works on the same directory.
    #[error("another certloop pull works on {} just now: let it end", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The command failed.
    #[error("the command {failure} with the certificate {serial}{after}")]
    Command {
        /// How.
        failure: CommandFailure,
        /// The serial it was to take up.
        serial: String,
        /// What was done about it.
        after: After,
    },
}

/// What was done after the command had failed.
#[derive(Debug)]
pub(super) enum After {
    /// The files of this serial came back, and the command ran on them: how that failed, if it did.
    Back(String, Option<CommandFailure>),
    /// The new files stay: there are no others, or these are no longer valid.
    Stays,
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Back(serial, None) => {
                write!(
                    f,
                    "; the files of {serial} are back, and with them it succeeded"
                )
            }
            Self::Back(serial, Some(failure)) => write!(
                f,
                "; the files of {serial} are back, and with them it {failure} too: look at what it \
                 does, not at the certificate"
            ),
            Self::Stays => f.write_str(
                "; the new files stay, since no valid ones were there before. The next pull runs \
                 it again",
            ),
        }
    }
}

impl PullError {
    /// Returns the serial that a command failed with.
    pub(super) fn serial(&self) -> Option<&str> {
        match self {
            Self::Command { serial, .. } => Some(serial),
            _ => None,
        }
    }

    pub(super) fn files(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Files {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
