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
mod error;
mod files;
mod options;
mod outcome;
pub(crate) mod owner;
mod round;
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
