//! The command that has a service read its new files.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::time::Instant;

use super::files::{Facts, instant};
use super::options::PullOptions;

/// How a command failed.
#[derive(Debug, Error)]
pub(super) enum CommandFailure {
    /// There is no shell, or no process to be had.
    #[error("could not be started ({0})")]
    NotStarted(io::Error),
    /// It said so itself, or was ended by a signal.
    #[error("failed ({0})")]
    Status(ExitStatus),
    /// It took too long and was ended.
    #[error("did not end within {} s and was stopped", .0.as_secs())]
    TooLong(Duration),
}

/// Runs the command through the shell and waits for it. What it prints goes to standard error.
pub(super) async fn run(
    command: &str,
    facts: &Facts,
    options: &PullOptions,
    directory: &Path,
) -> Result<(), CommandFailure> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("CERTLOOP_NAME", options.name.as_str())
        .env("CERTLOOP_DIRECTORY", directory)
        .env("CERTLOOP_SERIAL", &facts.serial)
        .env("CERTLOOP_DOMAINS", facts.domains.join(" "))
        .env("CERTLOOP_NOT_AFTER", instant(&facts.not_after))
        .stdin(Stdio::null())
        .stdout(io::stderr())
        // All that it starts is stopped with it.
        .process_group(0)
        .spawn()
        .map_err(CommandFailure::NotStarted)?;
    match end_of(&mut child, options.timeout).await? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(CommandFailure::Status(status)),
        None => {
            stop(&mut child).await?;
            Err(CommandFailure::TooLong(options.timeout))
        }
    }
}

async fn stop(child: &mut Child) -> Result<(), CommandFailure> {
    let Ok(group) = i32::try_from(child.id()) else {
        return Ok(());
    };
    // Not reaped yet, so the number is still its own. What is already gone needs no signal.
    let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
    tokio::time::sleep(GRACE).await;
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    end_of(child, GRACE).await.map(|_| ())
}

/// Waits for a process to end, so long.
async fn end_of(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, CommandFailure> {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait().map_err(CommandFailure::NotStarted)? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= until => return Ok(None),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Between being asked to end and being made to.
const GRACE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
