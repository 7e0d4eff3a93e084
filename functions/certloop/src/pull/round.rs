//! One run: what is wanted, brought into the directory.

use certificates::ports::store::{Store, vault_key};
use time::OffsetDateTime;

use super::command;
use super::directory::Directory;
use super::error::{After, PullError};
use super::files::{Facts, Pair};
use super::options::PullOptions;
use super::outcome::{Chosen, Done, Outcome};
use super::standing::Standing;
use super::wanted::{self, Wanted};

/// Brings the files of a certificate up to date and, if that changed anything, runs the command.
pub(super) async fn pull(store: &impl Store, options: &PullOptions) -> Result<Outcome, PullError> {
    let now = OffsetDateTime::now_utc();
    let wanted = wanted::find(store, &options.name, now).await?;
    take_up(store, options, &wanted, now).await
}

/// Brings a certificate into the directory, unless what the directory holds keeps it out.
pub(super) async fn take_up(
    store: &impl Store,
    options: &PullOptions,
    wanted: &Wanted,
    now: OffsetDateTime,
) -> Result<Outcome, PullError> {
    let at_hand = wanted.pair.as_ref().or(wanted.before.as_ref());
    if at_hand.is_none() && !options.directory.is_dir() {
        return Err(lost(options, wanted));
    }
    let directory = Directory::open(&options.directory)?;
    let standing = directory.standing();
    refuse_another(&directory, options, wanted, standing.as_ref())?;
    let standing = standing.as_ref().and_then(|set| set.servable(now));
    let (offered, chosen) = match (&wanted.pair, &wanted.before) {
        (Some(pair), _) => (pair, wanted.chosen),
        (None, before) => {
            let is_wanted = |held: &&Pair| held.leaf().serial == wanted.serial;
            if let Some(held) = standing.filter(is_wanted) {
                return bring(&directory, options, held, wanted.chosen, now).await;
            }
            // The one before is better than none, but not better than a newer one.
            let is_older =
                |before: &&Pair| standing.is_none_or(|held| !held.is_successor_of(before.leaf()));
            let before = before.as_ref().filter(is_older);
            (before.ok_or_else(|| lost(options, wanted))?, Chosen::Before)
        }
    };
    let stays = standing.filter(|held| !options.replace && held.is_successor_of(offered.leaf()));
    if let Some(held) = stays
        && !(wanted.is_known(store, &options.name, &held.leaf().serial)).await?
    {
        // Its own files may have to be put right, and their command may have to run.
        bring(&directory, options, held, wanted.chosen, now).await?;
        let (held, wanted) = (held.leaf(), offered.leaf());
        return Err(PullError::Newer {
            path: directory.path().to_owned(),
            held: held.serial.clone(),
            held_until: held.not_after,
            wanted: wanted.serial.clone(),
            wanted_until: wanted.not_after,
        });
    }
    directory.note_name(&options.name)?;
    bring(&directory, options, offered, chosen, now).await
}

/// Refuses a directory that is for another certificate.
fn refuse_another(
    directory: &Directory,
    options: &PullOptions,
    wanted: &Wanted,
    standing: Option<&Standing>,
) -> Result<(), PullError> {
    if options.replace {
        return Ok(());
    }
    let offered = wanted.pair.as_ref().or(wanted.before.as_ref());
    let held = match (directory.noted_name()?, standing, offered) {
        (Some(noted), ..) if noted == options.name => return Ok(()),
        (Some(noted), ..) => format!("the certificate {noted}"),
        (None, Some(standing), Some(pair)) if !standing.shares_a_name_with(pair.leaf()) => {
            let domains = Facts::of(standing.leaf()).domains;
            format!("a certificate for {}", domains.join(", "))
        }
        (None, ..) => return Ok(()),
    };
    Err(PullError::AnotherCertificate {
        path: directory.path().to_owned(),
        held,
        name: options.name.clone(),
    })
}

fn lost(options: &PullOptions, wanted: &Wanted) -> PullError {
    PullError::Lost {
        key: vault_key(&options.name, &wanted.serial),
        name: options.name.clone(),
    }
}

/// Has the files hold a certificate, and runs the command where it has to succeed.
async fn bring(
    directory: &Directory,
    options: &PullOptions,
    pair: &Pair,
    chosen: Chosen,
    now: OffsetDateTime,
) -> Result<Outcome, PullError> {
    let facts = Facts::of(pair.leaf());
    let outcome = |done, command_ran| Outcome {
        outcome: done,
        name: options.name.to_string(),
        serial: facts.serial.clone(),
        domains: facts.domains.clone(),
        not_after: facts.not_after,
        directory: directory.path().to_owned(),
        command_ran,
        chosen,
    };
    let changed = directory.put(&pair.pems(), options)?;
    let owed = directory.owed()?;
    let Some(command) = &options.command else {
        return Ok(outcome(done(changed, Done::Unchanged), false));
    };
    let Some(before) = owed else {
        return Ok(outcome(Done::Unchanged, false));
    };

    let run = async |facts| command::run(command, facts, options, directory.path()).await;
    let Err(failure) = run(&facts).await else {
        directory.settle()?;
        return Ok(outcome(done(changed, Done::CommandRepeated), true));
    };
    let after = match directory.facts_of(before.as_deref(), now) {
        None => After::Stays,
        Some((version, facts)) => {
            directory.go_to(version)?;
            // Once more, on what worked before: a restart may have ended the service, and a reload
            // costs nothing.
            let again = run(&facts).await.err();
            if again.is_none() {
                directory.settle()?;
            }
            After::Back(facts.serial, again)
        }
    };
    Err(PullError::Command {
        failure,
        serial: facts.serial,
        after,
    })
}

fn done(changed: bool, otherwise: Done) -> Done {
    match changed {
        true => Done::Changed,
        false => otherwise,
    }
}
