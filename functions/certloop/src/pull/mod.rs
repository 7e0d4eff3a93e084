//! `certloop pull`: a host outside AWS follows a certificate.
//!
//! ```text
//!  DIR/privkey.pem ─▶ .certloop/current/privkey.pem      five links that never change
//!  DIR/.certloop/current ─▶ 4f62cdb6d4bcdd4c             the one link that does
//!  DIR/.certloop/4f62cdb6d4bcdd4c/{cert,chain,fullchain,privkey,bundle}.pem
//! ```
//!
//! A run writes a set of files in a directory of its own, syncs it, and then renames one link over
//! another: at every instant the five names under `DIR` are of one certificate. A program that
//! opens two of them may do so on both sides of that rename; its command, which runs afterwards,
//! has it read again, and `bundle.pem` alone holds everything.
//!
//! After an error at any step, as after a death there, the next run begins by looking at what there
//! is.
//!
//! The state says which certificate to bring, so a rollback is followed. Two things keep it out:
//!
//! - `DIR/.certloop/name` says which certificate the directory is for. Another one is refused. A
//!   directory without that file is another certificate's if its leaf and the wanted one have no
//!   name in common. The file is written before a set counts.
//! - A bucket restored from an older copy names an older certificate. The set on the disk stays
//!   where it is valid, begins and ends later, serves every name of the wanted one, and neither
//!   state nor vault knows its serial. A run then ends with an error, until the wanted one begins
//!   later.
//!
//! `--replace` brings the bucket's certificate in both cases. Files of before certloop (the set
//! `before`) keep nothing out.
//!
//! After such a restore certloop adopts what the certificate manager holds: the state names it and
//! the vault has no key of it. A directory that holds it is as wanted. Elsewhere a run ends with an
//! error, and the next renewal brings files.

mod command;
mod directory;
mod error;
mod files;
mod options;
mod outcome;
pub(crate) mod owner;
mod round;
mod standing;
#[cfg(test)]
mod tests;
mod wanted;
mod watch;

use serde_json::json;

use error::PullError;
use options::PullOptions;
use outcome::Outcome;
use round::pull;
use watch::watch;

use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::installation::Installation;
use crate::terminal::{say, tell};

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
        replace: asked.replace,
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
    let ends = pulled.as_ref().map_or(Ends::NeedsPerson, |_| Ends::Well);
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
