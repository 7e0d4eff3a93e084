//! One run: what is wanted, brought into the directory.

use certificates::ports::store::Store;
use time::OffsetDateTime;

use super::command;
use super::directory::Directory;
use super::error::{After, PullError};
use super::options::PullOptions;
use super::outcome::{Done, Outcome};
use super::wanted::{self, Wanted};

/// Brings the files of a certificate up to date and, if that changed anything, runs the command.
pub(super) async fn pull(store: &impl Store, options: &PullOptions) -> Result<Outcome, PullError> {
    let now = OffsetDateTime::now_utc();
    let wanted = wanted::find(store, &options.name, now).await?;
    take_up(options, &wanted, now).await
}

pub(super) async fn take_up(
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
