//! What came of a run that did not fail.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use time::OffsetDateTime;

use super::files::instant;

/// What came of a run that did not fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    /// What was done.
    pub(super) outcome: Done,
    /// The certificate's name.
    pub(super) name: String,
    /// Of the certificate that the files hold, lower-case hex.
    pub(super) serial: String,
    /// Its names, sorted.
    pub(super) domains: Vec<String>,
    /// The end of its validity.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) not_after: OffsetDateTime,
    /// Where the files are.
    pub(super) directory: PathBuf,
    /// Whether the command ran, and succeeded.
    pub(super) command_ran: bool,
    /// How the certificate was chosen.
    pub(super) chosen: Chosen,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Done {
    /// Nothing: the files were as wanted.
    Unchanged,
    /// The files, or their links, owner or mode, were put right.
    Changed,
    /// The files were as wanted; the command of an earlier run had not succeeded and now did.
    CommandRepeated,
}

/// How the certificate was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Chosen {
    /// It is the one to be served, by the certificate's state.
    State,
    /// It is the one before that, since the bucket does not hold the key of the one to be served.
    Before,
    /// It begins last of those in the vault: this host may not read the state, and so follows no
    /// rollback.
    Newest,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        match self.outcome {
            Done::Unchanged => write!(f, "{}: unchanged", self.name)?,
            Done::Changed => write!(f, "{}: new files in {directory}", self.name)?,
            Done::CommandRepeated => {
                let name = &self.name;
                write!(f, "{name}: unchanged; the command was still to succeed")?;
            }
        }
        let until = instant(&self.not_after);
        write!(f, ", serial {}, valid until {until}", self.serial)?;
        if self.command_ran {
            f.write_str(", the command succeeded")?;
        }
        match self.chosen {
            Chosen::State => Ok(()),
            Chosen::Before => write!(
                f,
                "\n{0}: chosen as the one before the certificate to serve, whose key is nowhere in \
                 the bucket: `certloop status {0}`, where the fleet is operated, says when another \
                 one is ordered",
                self.name
            ),
            Chosen::Newest => write!(
                f,
                "\n{0}: chosen as the newest in the vault, since state/{0}.json may not be read \
                 here: a rollback is not followed",
                self.name
            ),
        }
    }
}
