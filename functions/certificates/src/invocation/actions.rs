//! The requests of people for one certificate: roll back, revoke, remove. Each request is stored
//! first, then carried out like any other work.

use std::time::Duration;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::report::{Entry, Outcome};
use crate::life::decide::{Plan, RemovalStage, Task, plan_for, unknown};
use crate::life::remove::wanted_nowhere;
use crate::life::revoke::unlike_the_record;
use crate::life::rollback::{leaf_of_ours, look_up_previous};
use crate::life::work::Work;
use crate::life::{Pass, log};
use crate::pass::context::Cycle;
use crate::pass::stop::{state_problem, store_problem};
use crate::ports::Ports;
use crate::ports::store::{self, Store, read_record};
use crate::records::certificate::IssuedCertificate;
use crate::records::state::{Removal, State};
use crate::records::vault::VaultEntry;
use crate::values::instant::whole_seconds;
use crate::values::names::CertificateName;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;
use crate::values::revocation_reason::Reason;

/// A request for one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve the previous certificate again; or the one of this serial.
    RollBack {
        /// Lower-case hex.
        serial: Option<String>,
    },
    /// Revoke the certificate and replace it; or revoke the one of this serial.
    Revoke {
        /// Lower-case hex.
        serial: Option<String>,
        /// Why.
        reason: Reason,
    },
    /// Remove everything of ours.
    Remove,
}

/// What follows from a request.
enum Prepared {
    Work(Box<Task>),
    /// The request is refused, since the record is not what AWS holds. The work puts it right.
    Refused(Box<Task>, Problem),
    /// Another invocation is working on the certificate.
    Busy,
}

/// Carries out a request. Waits a while if another invocation is working on the certificate.
pub async fn act_on<P: Ports>(cycle: &Cycle<'_, P>, name: &str, action: &Action) -> Pass {
    let asked = match name.parse::<CertificateName>() {
        Ok(parsed) => act_on_parsed(cycle, &parsed, action).await,
        Err(error) => Err(Problem::ours(
            ProblemType::InvalidDocument,
            format!("name: {error}"),
        )),
    };
    let entry = asked.unwrap_or_else(|problem| Entry::failed(name, problem, None));
    log(&entry);
    Pass {
        entries: vec![entry],
        sent: cycle.notifier.sent(),
        ..Pass::default()
    }
}

async fn act_on_parsed<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    action: &Action,
) -> Result<Entry, Problem> {
    loop {
        // Without an answer in time, nothing was requested.
        let prepared = prepared(cycle, name, action);
        let Ok(prepared) = tokio::time::timeout(cycle.clock.left(), prepared).await else {
            return Ok(busy(cycle, name));
        };
        let entry = match prepared? {
            Prepared::Work(task) => match begin(cycle, *task).await? {
                Some(entry) => return Ok(entry),
                None => busy(cycle, name),
            },
            Prepared::Refused(task, problem) => match begin(cycle, *task).await? {
                Some(_) => return Ok(Entry::failed(name.as_str(), problem, None)),
                None => busy(cycle, name),
            },
            Prepared::Busy => busy(cycle, name),
        };
        if cycle.clock.grant(LEAST, LEAST).is_none() {
            return Ok(entry);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes the request into the record, and returns what follows from it.
async fn prepared<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    action: &Action,
) -> Result<Prepared, Problem> {
    let store = cycle.ports.store();
    let object = store.read(&store::certificate_key(name)).await;
    let object = object.map_err(|error| store_problem(&error))?;
    let read = read_record::<State>(store, &store::state_key(name)).await;
    let (mut state, etag) = match read.map_err(|error| state_problem(&error))? {
        Some((state, etag)) => (state, Some(etag)),
        None => (State::default(), None),
    };
    let now = cycle.clock.now();
    if state.lease_in_force(now).is_some() {
        return Ok(Prepared::Busy);
    }
    let document = object.as_ref().map(|object| object.etag.clone());
    let modified = object.as_ref().and_then(|object| object.modified);
    if *action == Action::Remove {
        if object.is_none() && etag.is_none() {
            return Err(unknown(name));
        }
        let removal = removal_asked_for(name, state, etag, (document, modified), now);
        return Ok(Prepared::Work(Box::new(removal)));
    }
    let object = object.ok_or_else(|| unknown(name))?;
    let wanted = wanted_by(cycle, name, &object.body)?;
    state.note_document(&object.etag, Some(&wanted));
    look_up_previous(cycle, name, &mut state).await?;
    let (mut plan, mut refused) = (Plan::default(), None);
    match action {
        Action::RollBack { serial } => {
            let rolled_back = state.roll_back(serial.as_deref(), &object.etag, now)?;
            if let Some(held) = state.certificate.as_ref().filter(|_| rolled_back.is_some()) {
                must_be_in_vault(cycle, name, &held.serial).await?;
            }
            plan = plan_for(cycle, &wanted, &object.etag, &state, false).await?;
            let words = match rolled_back {
                Some(words) => format!("rolled back {words}"),
                None => "that certificate is already the current one".to_owned(),
            };
            plan.deploy = Some(words);
        }
        Action::Revoke { serial, reason } => {
            refused = why_not_to_revoke(cycle, &state, serial.as_deref()).await?;
            if let Some(problem) = &refused {
                plan.deploy = Some(problem.detail.clone());
            } else {
                let serial = serial.as_deref();
                ask_for_revocation(cycle, name, &mut state, serial, *reason, now).await?;
                plan = plan_for(cycle, &wanted, &object.etag, &state, false).await?;
                plan.sweep = true;
            }
        }
        Action::Remove => {}
    }
    let task = Box::new(Task {
        wanted,
        document: object.etag,
        state,
        etag,
        plan,
    });
    Ok(match refused {
        Some(problem) => Prepared::Refused(task, problem),
        None => Prepared::Work(task),
    })
}

fn wanted_by<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    document: &[u8],
) -> Result<Wanted, Problem> {
    let account = cycle.account_id.as_deref();
    let wanted = Wanted::parse(name, document, &cycle.settings, account);
    wanted.map_err(|invalid| {
        let detail = format!("certificates/{name}.json: {invalid}");
        Problem::ours(ProblemType::InvalidDocument, detail)
    })
}

/// Writes down a requested removal, unless the record has it already. The document is given by its
/// ETag and the time of its last change.
fn removal_asked_for(
    name: &CertificateName,
    mut state: State,
    etag: Option<String>,
    (document, document_modified): (Option<String>, Option<OffsetDateTime>),
    now: OffsetDateTime,
) -> Task {
    let removing = state.removing.as_ref();
    let is_it = |removing: &Removal| {
        removing.document == document && removing.document_modified == document_modified
    };
    let is_asked_for = removing.is_some_and(|removing| document.is_none() || is_it(removing));
    if !is_asked_for {
        state.note(whole_seconds(now), "removal", "asked for");
        state.removing = Some(Removal {
            at: whole_seconds(now),
            document,
            document_modified,
        });
    }
    state.deployment.failure = None;
    Task {
        wanted: wanted_nowhere(name, &state),
        document: String::new(),
        state,
        etag,
        plan: Plan::removal(RemovalStage::GoesOn),
    }
}

/// Returns why a revocation is refused, or `None`: it means what is served, and AWS does not hold
/// what the record says. The bucket may be an older copy.
///
/// The command names the serial that the record says is served. Where AWS does not answer, that
/// name is enough.
async fn why_not_to_revoke<P: Ports>(
    cycle: &Cycle<'_, P>,
    state: &State,
    named: Option<&str>,
) -> Result<Option<Problem>, Problem> {
    let meant = match named {
        Some(named) => state.serial_to_revoke().ok().filter(|meant| meant == named),
        None => Some(state.serial_to_revoke()?),
    };
    let Some(meant) = meant else {
        return Ok(None);
    };
    let unlike = match unlike_the_record(cycle, state).await {
        Err(_) if named.is_some() => None,
        looked => looked?,
    };
    Ok(unlike.map(|why| {
        let detail = format!(
            "nothing was revoked: by the record of certloop {meant} is served, but {why}; certloop \
             put its record right: ask again, or name the serial"
        );
        Problem::ours(ProblemType::NoCertificate, detail)
    }))
}

/// Writes down a requested revocation: of this serial, or of the served certificate.
async fn ask_for_revocation<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    state: &mut State,
    serial: Option<&str>,
    reason: Reason,
    now: OffsetDateTime,
) -> Result<(), Problem> {
    let serial = match serial {
        Some(serial) => serial.to_owned(),
        None => state.serial_to_revoke()?,
    };
    let found = held_by_serial(cycle, name, state, &serial).await?;
    state.ask_for_revocation(&serial, found.as_ref(), reason, now)
}

/// Returns what is known of a certificate that the record no longer names.
async fn held_by_serial<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    state: &State,
    serial: &str,
) -> Result<Option<IssuedCertificate>, Problem> {
    let Some(current) = state
        .certificate
        .as_ref()
        .filter(|_| state.held(serial).is_none())
    else {
        return Ok(None);
    };
    let leaf = leaf_of_ours(cycle, name, state, serial).await?;
    Ok(leaf.and_then(|leaf| current.like(&leaf, cycle.clock.now())))
}

async fn must_be_in_vault<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    serial: &str,
) -> Result<(), Problem> {
    let object = store::vault_key(name, serial);
    let read = read_record::<VaultEntry>(cycle.ports.store(), &object).await;
    match read.map_err(|error| store_problem(&error))? {
        Some(_) => Ok(()),
        None => {
            let detail = format!("the vault does not hold {serial} any more");
            Err(Problem::ours(ProblemType::NoPrevious, detail))
        }
    }
}

/// Takes the lease and starts the work; `None` when another invocation was faster.
#[tracing::instrument(
    name = "certificate",
    level = "error",
    skip_all,
    fields(certificate.name = %task.wanted.name)
)]
async fn begin<P: Ports>(cycle: &Cycle<'_, P>, task: Task) -> Result<Option<Entry>, Problem> {
    let name = task.wanted.name.clone();
    let Task {
        wanted,
        document,
        state,
        etag,
        plan,
    } = task;
    let begun = Work::begin(cycle, wanted, document, state, etag).await;
    let Some(mut work) = begun.map_err(|error| store_problem(&error))? else {
        return Ok(None);
    };
    work.by_hand = true;
    let Some(step) = plan.remove else {
        return Ok(Some(work.carry_out(plan, false).await));
    };
    let entry = work.carry_out_removal(step).await;
    Ok(Some(entry.unwrap_or_else(|| {
        let reason = "its removal is in progress, and nothing more can be done now";
        Entry::bare(name.as_str(), Outcome::Removed, reason)
    })))
}

fn busy<P: Ports>(cycle: &Cycle<'_, P>, name: &CertificateName) -> Entry {
    let reason = "another invocation is working on it, and nothing was done: ask again";
    let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
    entry.next_attempt = Some(whole_seconds(cycle.clock.now()));
    entry
}

/// Nothing starts with less time than this left.
const LEAST: Duration = Duration::from_secs(5);
/// The pause between two looks whether the other invocation is done.
const PAUSE: Duration = Duration::from_secs(1);
