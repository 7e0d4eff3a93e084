//! One certificate, from absent to proved: one file for each step. Imports `pass` and above.
//!
//! One pass over the certificates: look, take the lease where there is work, order, deploy, report.

pub mod act;
pub mod decide;
pub mod deploy;
pub mod notify;
pub mod order;
pub mod remove;
pub mod revoke;
pub mod rollback;
pub mod work;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::contract::message::Sent;
use crate::contract::report::{Entry, Outcome};
use crate::contract::settings::Settings;
use crate::life::decide::{Assessment, Plan, Task, look};
use crate::life::work::Work;
use crate::pass::context::Cycle;
use crate::pass::patience::within;
use crate::pass::prospect::ListPlace;
use crate::pass::stop::store_problem;
use crate::ports::Ports;
use crate::ports::store::{self, Store};
use crate::values::names::CertificateName;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// What a pass found.
#[derive(Debug, Default)]
pub struct Pass {
    /// One entry per certificate.
    pub entries: Vec<Entry>,
    /// The lowest share of lifetime left, among those that have a certificate.
    pub lowest_share_left: Option<f64>,
    /// The result of the messages, by channel.
    pub sent: Sent,
    /// Certificates in the fullest of the lists of limited length that this pass looked at.
    pub most_in_a_place: Option<usize>,
}

/// Reads the settings; without them no pass can run.
pub async fn read_settings(store: &impl Store) -> Result<Settings, Problem> {
    let object = store
        .read(store::SETTINGS)
        .await
        .map_err(|error| store_problem(&error))?;
    let object = object.ok_or_else(|| {
        Problem::ours(
            ProblemType::SettingsMissing,
            "settings.json is not in the bucket; put it there (see README.md, Settings)",
        )
    })?;
    Settings::parse(&object.body)
        .map_err(|error| Problem::ours(ProblemType::Settings, format!("settings.json: {error}")))
}

/// Lists the names of all documents. Ignores objects that do not end in `.json`.
pub async fn list_names(store: &impl Store) -> Result<Vec<String>, Problem> {
    let entries = store
        .list(store::CERTIFICATES)
        .await
        .map_err(|error| store_problem(&error))?;
    Ok(entries
        .iter()
        .filter_map(|entry| store::name_of_certificate_key(&entry.key))
        .map(str::to_owned)
        .collect())
}

/// The names that the bucket knows.
#[derive(Debug, Default)]
pub struct Known {
    /// Those of all documents.
    pub documents: Vec<String>,
    /// Those that have a record but no document.
    pub orphans: Vec<String>,
}

impl Known {
    /// Whether so many documents are gone at once that it may be a mistake.
    pub fn most_are_gone(&self) -> bool {
        self.orphans.len() > FEW && self.orphans.len() > self.documents.len()
    }
}

/// Lists the names of all documents and of all records.
pub async fn list_known(store: &impl Store) -> Result<Known, Problem> {
    // The records first: a record that is created meanwhile has a document.
    let records = store.list(store::STATE).await;
    let records = records.map_err(|error| store_problem(&error))?;
    let mut documents = list_names(store).await?;
    documents.sort();
    let is_orphan = |name: &&str| {
        let by_name = |known: &String| known.as_str().cmp(name);
        documents.binary_search_by(by_name).is_err()
    };
    let orphans = records
        .iter()
        .filter_map(|entry| entry.key.strip_prefix(store::STATE)?.strip_suffix(".json"))
        .filter(is_orphan)
        .map(str::to_owned)
        .collect();
    Ok(Known { documents, orphans })
}

/// Looks at all the named certificates, then does the work that is due, the most urgent first.
/// Works on as many at once as the settings allow. A failure does not stop the others.
pub async fn run<P: Ports>(cycle: &Cycle<'_, P>, names: &[String], force: bool) -> Pass {
    let concurrency = cycle.settings.limits.concurrency;
    // A name that is given twice counts once: two workers on one certificate would block each
    // other.
    let names: BTreeSet<&String> = names.iter().collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    // When the time is too short for all of them, it must not always be the same that wait.
    let first = fastrand::usize(..names.len().max(1));
    names.rotate_left(first);
    // Half of the time, so that enough is left for the work that is found.
    let until = cycle.clock.elapsed() + cycle.clock.left() / 2;
    let looks: Vec<(&String, Assessment)> = stream::iter(names)
        .map(|name| async move { (name, look_until(cycle, name, force, until).await) })
        .buffer_unordered(concurrency)
        .collect()
        .await;
    let looks = with_neighbours_in_mind(cycle, looks, force, until).await;
    let (mut entries, mut due) = (Vec::new(), Vec::new());
    for look in looks {
        match look {
            Assessment::Nothing => {}
            Assessment::Settled(entry) => {
                log(&entry);
                entries.push(*entry);
            }
            Assessment::Work(task) => due.push(*task),
        }
    }
    keep_back_what_has_no_place(cycle, &mut due, &mut entries);
    let now = cycle.clock.now();
    due.sort_by_key(|task| task.urgency(now));
    let worked_off: Vec<Option<Entry>> = stream::iter(due)
        .map(|task| async move {
            let entry = reconcile(cycle, task, force).await;
            entry.iter().for_each(log);
            entry
        })
        .buffer_unordered(concurrency)
        .collect()
        .await;
    entries.extend(worked_off.into_iter().flatten());
    cycle
        .outlook
        .look_ahead_of_all(&mut entries, cycle.judge())
        .await;
    let shares = entries.iter().filter_map(|entry| share_left(cycle, entry));
    Pass {
        lowest_share_left: shares.min_by(f64::total_cmp),
        sent: cycle.notifier.sent(),
        most_in_a_place: cycle.most_certificates_on_a_load_balancer(),
        entries,
    }
}

/// Looks again at certificates whose place another document has taken or has left.
async fn with_neighbours_in_mind<P: Ports>(
    cycle: &Cycle<'_, P>,
    looks: Vec<(&String, Assessment)>,
    force: bool,
    until: Duration,
) -> Vec<Assessment> {
    let due = looks.iter().filter_map(|(_, look)| match look {
        Assessment::Work(task) => Some(task.wanted.name.clone()),
        Assessment::Nothing | Assessment::Settled(_) => None,
    });
    let due: Vec<CertificateName> = due.collect();
    let names: Vec<&str> = looks.iter().map(|(name, _)| name.as_str()).collect();
    // What is not known in time is read again before any place is taken.
    let left = until.saturating_sub(cycle.clock.elapsed());
    let settling = cycle.settle_contention(&names, &due);
    let changed = within(left, settling).await.unwrap_or_default();
    let mut settled = Vec::with_capacity(looks.len());
    for (name, look) in looks {
        let is_concerned = changed.iter().any(|changed| changed.as_str() == name);
        settled.push(match is_concerned {
            true => look_until(cycle, name, force, until).await,
            false => look,
        });
    }
    settled
}

/// Limits the orders to the room in the lists; the rest waits for the next pass.
fn keep_back_what_has_no_place<P: Ports>(
    cycle: &Cycle<'_, P>,
    due: &mut Vec<Task>,
    entries: &mut Vec<Entry>,
) {
    let wishes = due.iter().filter(|task| task.plan.order.is_some());
    let wishes: Vec<(&str, Vec<String>)> = wishes
        .map(|task| {
            let places = task.plan.places.iter().map(ListPlace::shared_by);
            (task.wanted.name.as_str(), places.collect())
        })
        .collect();
    let waiting = cycle.without_a_place(&wishes);
    for task in due.extract_if(.., |task| {
        waiting.iter().any(|name| name == task.wanted.name.as_str())
    }) {
        let name = task.wanted.name.as_str();
        let mut entry = Entry::bare(name, Outcome::Waiting, ListPlace::MAY_BE_FULL);
        entry.next_attempt = Some(crate::values::instant::whole_seconds(cycle.clock.now()));
        log(&entry);
        entries.push(entry);
    }
}

/// Looks at a certificate, unless `until` (time since the pass began) is over before.
#[tracing::instrument(
    name = "certificate",
    level = "error",
    skip_all,
    fields(certificate.name = name)
)]
async fn look_until<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &str,
    force: bool,
    until: Duration,
) -> Assessment {
    match name.parse::<CertificateName>() {
        Ok(parsed) => {
            let left = until.saturating_sub(cycle.clock.elapsed());
            match within(left, look(cycle, &parsed, force)).await {
                Some(looked) => looked.unwrap_or_else(|problem| Assessment::failed(name, problem)),
                None => Assessment::Settled(Box::new(out_of_time(cycle, &parsed))),
            }
        }
        Err(error) => Assessment::failed(name, misplaced(name, &error.to_string())),
    }
}

/// The problem of an object whose key gives no name of a certificate.
fn misplaced(name: &str, error: &str) -> Problem {
    let detail = match name.rsplit_once('/') {
        Some((folder, file)) => format!(
            "certificates/{name}.json is in the folder {folder}/, and certloop reads none: move it \
             to certificates/{file}.json"
        ),
        None => format!("certificates/{name}.json: {error}; rename the object"),
    };
    Problem::ours(ProblemType::InvalidDocument, detail)
}

/// Does the work on a certificate; `None` where there is nothing to report.
#[tracing::instrument(
    name = "certificate",
    level = "error",
    skip_all,
    fields(certificate.name = %task.wanted.name)
)]
async fn reconcile<P: Ports>(
    cycle: &Cycle<'_, P>,
    mut task: Task,
    mut force: bool,
) -> Option<Entry> {
    let name = task.wanted.name.clone();
    // The result of the look is valid, even if its message cannot be sent now.
    let found = task.plan.tell.clone();
    if let Some(found) = found.clone().filter(|_| !cycle.notifier.may_tell()) {
        return reported(*found);
    }
    // If another certificate of this pass found no room, this one finds none either.
    let mut places = task.plan.places.iter();
    if let Some(problem) = places.find_map(|place| cycle.refused_room(place)) {
        return Some(Entry::failed(name.as_str(), problem, None));
    }
    let or_found = |entry: Entry| found.clone().map_or(Some(entry), |found| reported(*found));
    // The invocation that is slower at the lease looks again: the other may have done all the work.
    for _ in 0..RACES {
        match attempt(cycle, task, force).await {
            Attempt::Over(entry) => return entry,
            Attempt::NotMade(entry) => return or_found(entry),
            Attempt::Outrun(next) => (task, force) = *next,
        }
    }
    let mut entry = out_of_time(cycle, &name);
    entry.reason = "another invocation keeps the lease; the next pass looks again".to_owned();
    or_found(entry)
}

/// The result of one attempt to work on a certificate.
enum Attempt {
    /// The work was done, or there is none any more. This is the entry to report.
    Over(Option<Entry>),
    /// It could not be worked on, for this reason.
    NotMade(Entry),
    /// Another invocation was faster: this is the work now, and whether it is still forced.
    Outrun(Box<(Task, bool)>),
}

/// Takes the lease and carries out the plan. Looks again where another invocation has the lease by
/// now.
async fn attempt<P: Ports>(cycle: &Cycle<'_, P>, task: Task, force: bool) -> Attempt {
    let name = task.wanted.name.clone();
    if cycle.clock.left() < LEAST {
        return Attempt::NotMade(out_of_time(cycle, &name));
    }
    let before = serial(&task);
    let Task {
        wanted,
        document,
        state,
        etag,
        plan,
    } = task;
    let begun = Work::begin(cycle, wanted, document, state, etag);
    match within(cycle.clock.left(), begun).await {
        Some(Ok(Some(mut work))) => {
            work.by_hand = force;
            Attempt::Over(carry_out(work, plan, force).await)
        }
        Some(Ok(None)) => {
            tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..100))).await;
            look_again(cycle, &name, before, force).await
        }
        Some(Err(error)) => {
            Attempt::NotMade(Entry::failed(name.as_str(), store_problem(&error), None))
        }
        None => Attempt::NotMade(out_of_time(cycle, &name)),
    }
}

/// Carries out a plan of any kind.
async fn carry_out<P: Ports>(work: Work<'_, '_, P>, plan: Plan, force: bool) -> Option<Entry> {
    match plan {
        Plan {
            remove: Some(step), ..
        } => work.carry_out_removal(step).await,
        Plan {
            tell: Some(entry), ..
        } => reported(work.carry_out_telling(*entry).await),
        plan => Some(work.carry_out(plan, force).await),
    }
}

/// Looks at a certificate on which another invocation works; `before`: the serial that it had.
async fn look_again<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    before: Option<String>,
    force: bool,
) -> Attempt {
    let looking = async {
        match look(cycle, name, force).await? {
            // The other invocation has renewed it: that does what was forced.
            Assessment::Work(task) if force && serial(&task) != before => {
                Ok((look(cycle, name, false).await?, false))
            }
            look => Ok((look, force)),
        }
    };
    match within(cycle.clock.left(), looking).await {
        Some(Ok((Assessment::Work(task), force))) => Attempt::Outrun(Box::new((*task, force))),
        Some(Ok((Assessment::Settled(entry), _))) => Attempt::Over(Some(*entry)),
        Some(Ok((Assessment::Nothing, _))) => Attempt::Over(None),
        Some(Err(problem)) => Attempt::NotMade(Entry::failed(name.as_str(), problem, None)),
        None => Attempt::NotMade(out_of_time(cycle, name)),
    }
}

/// Returns the serial of the current certificate.
fn serial(task: &Task) -> Option<String> {
    Some(task.state.certificate.as_ref()?.serial.clone())
}

fn out_of_time<P: Ports>(cycle: &Cycle<'_, P>, name: &CertificateName) -> Entry {
    let reason = "ran out of time; the next pass looks at it";
    let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
    entry.next_attempt = Some(crate::values::instant::whole_seconds(cycle.clock.now()));
    entry.is_unseen = true;
    entry
}

fn share_left<P: Ports>(cycle: &Cycle<'_, P>, entry: &Entry) -> Option<f64> {
    let (from, to) = (entry.not_before?, entry.not_after?);
    let share = (to - cycle.clock.now()).as_seconds_f64() / (to - from).as_seconds_f64().max(1.0);
    Some(share.clamp(0.0, 1.0))
}

/// Returns what is reported of a certificate after its message was sent: nothing for one that was
/// removed before.
fn reported(entry: Entry) -> Option<Entry> {
    (entry.outcome != Outcome::Removed).then_some(entry)
}

pub(crate) fn log(entry: &Entry) {
    let outcome = format!("{:?}", entry.outcome).to_lowercase();
    let arn = entry.certificate_arn.as_deref().unwrap_or_default();
    let serial = entry.serial.as_deref().unwrap_or_default();
    match &entry.problem {
        Some(problem) => tracing::warn!(
            certificate.name = entry.name,
            certificate.arn = arn,
            certificate.serial = serial,
            outcome,
            reason = entry.reason,
            problem.type = problem.kind,
            problem.detail = problem.detail,
            problem.retry = ?problem.retry,
            "certificate"
        ),
        None => tracing::info!(
            certificate.name = entry.name,
            certificate.arn = arn,
            certificate.serial = serial,
            outcome,
            reason = entry.reason,
            "certificate"
        ),
    }
}

/// No certificate is looked at with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
/// How often a lost race for the lease is followed by another look.
const RACES: usize = 4;
/// Up to this many certificates, any number of documents may disappear at once.
const FEW: usize = 3;
