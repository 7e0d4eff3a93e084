//! `certloop pull`: a host outside AWS follows a certificate.
//!
//! ```text
//!  DIR/privkey.pem ─▶ .certloop/current/privkey.pem      five links that never change
//!  DIR/.certloop/current ─▶ 4f62cdb6d4bcdd4c             the one link that does
//!  DIR/.certloop/4f62cdb6d4bcdd4c/{cert,chain,fullchain,privkey,bundle}.pem
//! ```
//!
//! A set of files is written in a directory of its own, synced, and then taken by renaming one link over another: at every
//! instant the five names under `DIR` are of one certificate. A program that opens two of them may do so on both sides of that
//! rename; its command, which runs afterwards, has it read again, and `bundle.pem` alone holds everything.
//!
//! An error at any step is left as it stands, like a death there: the next run begins by looking at what there is.

mod command;
mod directory;
pub(crate) mod owner;
#[cfg(test)]
mod tests;
mod wanted;
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certificates::ports::store::{Store, StoreError};
use certificates::values::names::CertificateName;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use command::CommandFailure;
use directory::Directory;
use wanted::Wanted;
use watch::watch;

use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::installation::Installation;
use crate::terminal::{say, tell};

use owner::{Mode, Owner};

/// What to pull, and what to make of it.
#[derive(Clone, Debug)]
struct PullOptions {
    /// Which certificate.
    name: CertificateName,
    /// Where its files are to be; made where it is missing.
    directory: PathBuf,
    /// Run by `sh -c` when something changed.
    command: Option<String>,
    /// How long that may take before it is ended and counts as failed.
    timeout: Duration,
    /// Whose the files are to be; whoever runs this where it is not said.
    owner: Option<Owner>,
    /// Of the files that hold the key; the others may be read by everybody.
    mode: Mode,
}

/// Pulls once, or with `--watch` for as long as nobody ends it.
pub(crate) async fn run(
    here: &Installation,
    asked: &cli::Pull,
    json: bool,
) -> Result<Ends, CliError> {
    let options = PullOptions {
        name: asked.name.clone(),
        directory: asked.to.clone(),
        command: asked.exec.clone(),
        timeout: asked.exec_timeout,
        owner: asked.owner,
        mode: asked.mode,
    };
    let bucket = here.bucket().await?;
    if asked.watch {
        let told = |pulled| drop(told(pulled, json));
        match watch(&bucket, &options, asked.every, told).await {}
    }
    told(pull(&bucket, &options).await, json)
}

/// Writes what came of a run; with `--json`, a line on standard output that is an object.
fn told(pulled: Result<Outcome, PullError>, json: bool) -> Result<Ends, CliError> {
    let ends = pulled.as_ref().map_or_else(PullError::ends, |_| Ends::Well);
    match (&pulled, json) {
        (Ok(outcome), false) => say(&format!("{outcome}\n"))?,
        (Err(error), false) => tell(&format!("certloop: {error}")),
        (Ok(outcome), true) => say(&format!("{}\n", json!(outcome)))?,
        (Err(error), true) => {
            let told =
                json!({"outcome": "failed", "serial": error.serial(), "error": error.to_string()});
            say(&format!("{told}\n"))?;
        }
    }
    Ok(ends)
}

/// What came of a run that did not fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// What was done.
    outcome: Done,
    /// The certificate's name.
    name: String,
    /// Of the certificate that the files hold, lower-case hex.
    serial: String,
    /// Its names, sorted.
    domains: Vec<String>,
    /// The end of its validity.
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
    /// Where the files are.
    directory: PathBuf,
    /// Whether the command ran, and succeeded.
    command_ran: bool,
    /// How the certificate was chosen.
    chosen: Chosen,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Done {
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
enum Chosen {
    /// It is the one to be served, by the certificate's state.
    State,
    /// It begins last of those in the vault: this host may not read the state, and so follows no rollback.
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
            Chosen::Newest => write!(
                f,
                "\n{0}: chosen as the newest in the vault, since state/{0}.json may not be read here: a rollback is not followed",
                self.name
            ),
        }
    }
}

/// Why a host does not hold what it should. The files are as they were, unless it says otherwise.
#[derive(Debug, Error)]
enum PullError {
    /// The bucket could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket lets us see neither of the two places that tell which certificate it is.
    #[error(
        "{state}, and {vault}. Give this host's role or user the policy of the module's output pull_policy_arns, and name it in the variable pull"
    )]
    Denied {
        /// Why the state could not be read.
        state: StoreError,
        /// Why the vault could not be listed.
        vault: StoreError,
    },
    /// There is nothing to pull yet, or any more.
    #[error(
        "{name} has no certificate in this bucket: either it is called otherwise, or `certloop status {name}`, where the fleet is operated, says why"
    )]
    NoCertificate {
        /// The certificate's name.
        name: CertificateName,
    },
    /// The vault lacks what the state names.
    #[error(
        "{key} is not there, and it is what should be served. If it is still missing in an hour: `certloop renew {name}`"
    )]
    Lost {
        /// The vault entry.
        key: String,
        /// The certificate's name.
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
    #[error("{key} is valid only from {} on, and this host's clock shows {}: set the clock", instant(.from), instant(.now))]
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
    #[error("{} is {what}, and no file of certloop's: remove it, or pull into another directory", path.display())]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// Anybody could put another key in the place of ours.
    #[error("everybody may write into {}: `chmod o-w` it, or pull into another directory", path.display())]
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
enum After {
    /// The files of this serial came back, and the command was run on them: how that failed, if it did.
    Back(String, Option<CommandFailure>),
    /// The new files stay: there are no others, or these are no longer valid.
    Stays,
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Back(serial, None) => {
                write!(f, "; the files of {serial} are back, and with them it succeeded")
            }
            Self::Back(serial, Some(failure)) => write!(
                f,
                "; the files of {serial} are back, and with them it {failure} too: look at what it does, not at the certificate"
            ),
            Self::Stays => f.write_str(
                "; the new files stay, since no valid ones were there before. It is run again by the next pull",
            ),
        }
    }
}

impl PullError {
    /// Returns how the command ends: whether somebody has to act, or it could not be told what should be here.
    fn ends(&self) -> Ends {
        match self {
            Self::Store(_) | Self::Files { .. } | Self::Busy { .. } => Ends::Unknown,
            _ => Ends::NeedsPerson,
        }
    }

    /// Returns the serial that a command failed with.
    fn serial(&self) -> Option<&str> {
        match self {
            Self::Command { serial, .. } => Some(serial),
            _ => None,
        }
    }

    fn files(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Files {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Brings the files of a certificate up to date and, if that changed anything, runs the command.
async fn pull(store: &impl Store, options: &PullOptions) -> Result<Outcome, PullError> {
    let now = OffsetDateTime::now_utc();
    let wanted = wanted::find(store, &options.name, now).await?;
    take_up(options, &wanted, now).await
}

async fn take_up(
    options: &PullOptions,
    wanted: &Wanted,
    now: OffsetDateTime,
) -> Result<Outcome, PullError> {
    let directory = Directory::open(&options.directory)?;
    let outcome = |done, command_ran| Outcome {
        outcome: done,
        name: options.name.to_string(),
        serial: wanted.facts.serial.clone(),
        domains: wanted.facts.domains.clone(),
        not_after: wanted.facts.not_after,
        directory: directory.path().to_owned(),
        command_ran,
        chosen: wanted.chosen,
    };
    let changed = directory.put(&wanted.pems, options)?;
    let owed = directory.owed()?;
    let Some(command) = &options.command else {
        return Ok(outcome(done(changed, Done::Unchanged), false));
    };
    let Some(before) = owed else {
        return Ok(outcome(Done::Unchanged, false));
    };

    let run = async |facts| command::run(command, facts, options, directory.path()).await;
    let Err(failure) = run(&wanted.facts).await else {
        directory.settle()?;
        return Ok(outcome(done(changed, Done::CommandRepeated), true));
    };
    let after = match directory.facts_of(before.as_deref(), now) {
        None => After::Stays,
        Some((version, facts)) => {
            directory.go_to(version)?;
            // Once more, on what worked before: a restart may have ended the service, and a reload costs nothing.
            let again = run(&facts).await.err();
            if again.is_none() {
                directory.settle()?;
            }
            After::Back(facts.serial, again)
        }
    };
    Err(PullError::Command {
        failure,
        serial: wanted.facts.serial.clone(),
        after,
    })
}

fn done(changed: bool, otherwise: Done) -> Done {
    match changed {
        true => Done::Changed,
        false => otherwise,
    }
}

fn instant(at: &OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
