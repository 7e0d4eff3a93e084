//! One pass over the certificates: look, take the lease where there is work, order, deploy, report.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::asking;
use crate::classes::Ours;
use crate::cycle::{Cycle, Failing, Halt, Ports, Work, state_problem, store_problem};
use crate::document::Wanted;
use crate::limits::Blocked;
use crate::names::CertificateName;
use crate::problem::{Failure, Problem};
use crate::removal::{Removed, wanted_nowhere};
use crate::renewal::{Decision, rfc3339};
use crate::report::{Entry, Outcome};
use crate::settings::{Orphans, Settings};
use crate::state::{Held, Removal, State, TargetRecord, TargetState};
use crate::store::{self, Condition, Store, read_record, write_record};
use crate::targets::Deployed;

/// What a pass found.
#[derive(Debug, Default)]
pub struct Pass {
    /// One entry per certificate.
    pub entries: Vec<Entry>,
    /// The lowest share of lifetime left, among those that have a certificate.
    pub lowest_share_left: Option<f64>,
    /// Certificates beside the defaults on the fullest load balancer whose listeners were looked at.
    pub most_on_a_load_balancer: Option<usize>,
}

/// Reads the settings; without them no pass can run.
pub async fn read_settings(store: &impl Store) -> Result<Settings, Problem> {
    let object = store
        .read(store::SETTINGS)
        .await
        .map_err(|error| store_problem(&error))?;
    let object = object.ok_or_else(|| {
        Problem::ours(
            Ours::SettingsMissing,
            "settings.json is not in the bucket; put it there (see README.md, Settings)",
        )
    })?;
    Settings::parse(&object.body)
        .map_err(|error| Problem::ours(Ours::Settings, format!("settings.json: {error}")))
}

/// Lists the names of all documents. Objects that do not end in `.json` or lie deeper are nobody's business.
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
    // The records first: one that is made meanwhile has a document.
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

/// How the work on one certificate begins.
pub(crate) enum Look {
    /// Nothing to do, and nothing to tell.
    Nothing,
    /// Nothing to do, or nothing that may be done now.
    Settled(Box<Entry>),
    /// There is work: `order` says why one is needed, `deploy` whether the deployment is to be looked at as well.
    Work(Box<ToDo>),
}

impl Look {
    fn failed(name: &str, problem: Problem) -> Self {
        Self::Settled(Box::new(Entry::failed(name, problem, None)))
    }
}

/// The work on one certificate.
pub(crate) struct ToDo {
    pub(crate) wanted: Wanted,
    /// The document's ETag, empty where there is none.
    pub(crate) document: String,
    pub(crate) state: State,
    pub(crate) etag: Option<String>,
    pub(crate) plan: Plan,
}

impl ToDo {
    /// Returns what this is sorted by: first what the authority wants replaced at once, then orders for what has little left, then
    /// by the end of what is held. One that holds nothing, or has only to be deployed, comes before those that hold something.
    fn urgency(&self, now: OffsetDateTime) -> (u8, Option<OffsetDateTime>) {
        let held = self.state.certificate.as_ref();
        let held = held.filter(|_| self.plan.order.is_some());
        let rank = match held {
            Some(held) if held.is_to_be_replaced_at_once(now) => 0,
            Some(held) if held.is_urgent(now) => 1,
            _ => 2,
        };
        (rank, held.map(|held| held.not_after))
    }
}

/// What the decision about one certificate came to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Whether a certificate has to be revoked, and that may be tried now.
    pub(crate) revoke: bool,
    /// Why an order is needed and may be made now.
    order: Option<String>,
    /// Why a deployment is needed and may be tried now.
    pub(crate) deploy: Option<String>,
    /// Why the bucket has to be swept, or the record written.
    pub(crate) sweep: bool,
    /// Whether everything of ours is to go.
    pub(crate) remove: Option<Step>,
    /// What is to be told whatever comes of it.
    problem: Option<Problem>,
    /// What has to wait.
    waiting: Option<Waits>,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begins,
    GoesOn,
}

#[derive(Clone, Debug)]
pub(crate) struct Waits {
    reason: String,
    until: Option<OffsetDateTime>,
    problem: Option<Problem>,
}

impl Plan {
    fn is_idle(&self) -> bool {
        self.order.is_none()
            && self.deploy.is_none()
            && !self.sweep
            && !self.revoke
            && self.remove.is_none()
    }

    /// Returns the plan of a removal.
    pub(crate) fn removal(step: Step) -> Self {
        Self {
            remove: Some(step),
            ..Self::default()
        }
    }
}

impl<P: Ports> Cycle<'_, P> {
    /// Looks at all the named certificates, then works off what is due, the most urgent first, each up to the configured number
    /// at once. One that fails stops no other.
    pub async fn run(&self, names: &[String], force: bool) -> Pass {
        let concurrency = self.settings.limits.concurrency;
        // Named twice is wanted once: two at work on one certificate would be in each other's way.
        let names: BTreeSet<&String> = names.iter().collect();
        let mut names: Vec<&String> = names.into_iter().collect();
        // Where there is not the time to look at all of them, it must not always be the same that wait.
        let first = fastrand::usize(..names.len().max(1));
        names.rotate_left(first);
        // Half of the time, so that what is found to be due gets done.
        let until = self.clock.elapsed() + self.clock.left() / 2;
        let looks: Vec<Look> = stream::iter(names)
            .map(|name| self.look_until(name, force, until))
            .buffer_unordered(concurrency)
            .collect()
            .await;
        let (mut entries, mut due) = (Vec::new(), Vec::new());
        for look in looks {
            match look {
                Look::Nothing => {}
                Look::Settled(entry) => entries.push(*entry),
                Look::Work(to_do) => due.push(*to_do),
            }
        }
        let now = self.clock.now();
        due.sort_by_key(|to_do| to_do.urgency(now));
        let worked_off: Vec<Option<Entry>> = stream::iter(due)
            .map(|to_do| async move {
                let entry = self.reconcile(to_do, force).await;
                entry.iter().for_each(log);
                entry
            })
            .buffer_unordered(concurrency)
            .collect()
            .await;
        entries.extend(worked_off.into_iter().flatten());
        self.look_ahead_of_all(&mut entries).await;
        let shares = entries.iter().filter_map(|entry| self.share_left(entry));
        Pass {
            lowest_share_left: shares.min_by(f64::total_cmp),
            most_on_a_load_balancer: self.most_certificates_on_a_load_balancer(),
            entries,
        }
    }

    /// Looks at a certificate, if that can be done until so long after the pass began.
    async fn look_until(&self, name: &str, force: bool, until: Duration) -> Look {
        let looked = match name.parse::<CertificateName>() {
            Ok(parsed) => {
                let left = until.saturating_sub(self.clock.elapsed());
                match tokio::time::timeout(left, self.look(&parsed, force)).await {
                    Ok(looked) => looked.unwrap_or_else(|problem| Look::failed(name, problem)),
                    Err(_) => Look::Settled(Box::new(self.out_of_time(&parsed))),
                }
            }
            Err(error) => {
                let detail = format!("certificates/{name}.json: {error}; rename the object");
                Look::failed(name, Problem::ours(Ours::InvalidDocument, detail))
            }
        };
        if let Look::Settled(entry) = &looked {
            log(entry);
        }
        looked
    }

    /// Works a certificate off; `None` where there is nothing to tell.
    async fn reconcile(&self, mut to_do: ToDo, mut force: bool) -> Option<Entry> {
        let name = to_do.wanted.name.clone();
        let serial = |to_do: &ToDo| Some(to_do.state.certificate.as_ref()?.serial.clone());
        let before = serial(&to_do);
        // Whoever is not faster with the lease looks again: the winner may have settled everything.
        for _ in 0..RACES {
            if self.clock.left() < LEAST {
                return Some(self.out_of_time(&name));
            }
            let ToDo {
                wanted,
                document,
                state,
                etag,
                plan,
            } = to_do;
            let begun = Work::begin(self, wanted, document, state, etag);
            let Ok(begun) = tokio::time::timeout(self.clock.left(), begun).await else {
                return Some(self.out_of_time(&name));
            };
            match begun {
                Ok(Some(work)) => {
                    return match plan.remove {
                        Some(step) => work.carry_out_removal(step).await,
                        None => Some(work.carry_out(plan, force).await),
                    };
                }
                Ok(None) => {
                    tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..100))).await;
                }
                Err(error) => {
                    return Some(Entry::failed(name.as_str(), store_problem(&error), None));
                }
            }
            let looking = async {
                match self.look(&name, force).await? {
                    // The winner has renewed it: what was forced is done.
                    Look::Work(to_do) if force && serial(&to_do) != before => {
                        force = false;
                        self.look(&name, force).await
                    }
                    look => Ok(look),
                }
            };
            to_do = match tokio::time::timeout(self.clock.left(), looking).await {
                Ok(Ok(Look::Work(to_do))) => *to_do,
                Ok(Ok(Look::Settled(entry))) => return Some(*entry),
                Ok(Ok(Look::Nothing)) => return None,
                Ok(Err(problem)) => return Some(Entry::failed(name.as_str(), problem, None)),
                Err(_) => return Some(self.out_of_time(&name)),
            };
        }
        let mut entry = self.out_of_time(&name);
        entry.reason = "others keep working on it; the next pass looks again".to_owned();
        Some(entry)
    }

    fn out_of_time(&self, name: &CertificateName) -> Entry {
        let reason = "out of time; the next pass looks at it";
        let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
        entry.next_attempt = Some(crate::report::whole_seconds(self.clock.now()));
        entry
    }

    fn share_left(&self, entry: &Entry) -> Option<f64> {
        let (from, to) = (entry.not_before?, entry.not_after?);
        let share =
            (to - self.clock.now()).as_seconds_f64() / (to - from).as_seconds_f64().max(1.0);
        Some(share.clamp(0.0, 1.0))
    }

    /// Looks at document, state and listeners, and says what is to be done. Changes nothing but what is known of the renewal,
    /// where the authority is to be asked about it.
    pub(crate) async fn look(&self, name: &CertificateName, force: bool) -> Result<Look, Problem> {
        let store = self.ports.store();
        let object = store
            .read(&store::certificate_key(name))
            .await
            .map_err(|error| store_problem(&error))?;
        let state = read_record::<State>(store, &store::state_key(name))
            .await
            .map_err(|error| state_problem(&error))?;
        let Some(object) = object else {
            let (state, etag) = state.ok_or_else(|| unknown(name))?;
            return Ok(self.look_at_orphan(name, state, etag));
        };
        let wanted = Wanted::parse(
            name,
            &object.body,
            &self.settings,
            self.account_id.as_deref(),
        );
        let (mut state, mut etag) = match state {
            Some((state, etag)) => (state, Some(etag)),
            None => (State::default(), None),
        };
        // A removal goes on while its document is still there; another document ends it.
        let removing = state.removing.as_ref();
        let goes_on = removing.map(|removing| removing.document.as_ref() == Some(&object.etag));
        if goes_on == Some(true) {
            return Ok(self.look_at_orphan(name, state, etag.unwrap_or_default()));
        }
        let is_revived = goes_on == Some(false);
        if is_revived {
            state.removing = None;
        }
        state.note_document(&object.etag);
        let is_free = state.lease_in_force(self.clock.now()).is_none();
        if is_free && wanted.is_ok() && self.update_renewal(&mut state).await {
            let key = store::state_key(name);
            let condition = etag
                .as_deref()
                .map_or(Condition::Absent, Condition::Matches);
            match write_record(store, &key, &mut state, condition).await {
                Ok(written) => etag = Some(written),
                // Whoever was faster goes by what they read; what was told is asked for again.
                Err(error) => {
                    tracing::warn!(certificate.name = %name, %error, "renewal information not stored");
                }
            }
        }
        let settled = |entry: Entry, wanted: Option<&Wanted>| {
            Ok(Look::Settled(Box::new(
                self.with_state(entry, &state, wanted),
            )))
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(invalid) => {
                let detail = format!("certificates/{name}.json: {invalid}");
                return settled(
                    Entry::failed(
                        name.as_str(),
                        Problem::ours(Ours::InvalidDocument, detail),
                        None,
                    ),
                    None,
                );
            }
        };
        let now = self.clock.now();
        if let Some(lease) = state.lease_in_force(now) {
            let mut entry = Entry::bare(
                name.as_str(),
                Outcome::Waiting,
                "another invocation is working on it",
            );
            entry.next_attempt = Some(lease.until);
            return settled(entry, Some(&wanted));
        }
        let plan = match self.plan(&wanted, &object.etag, &state, force).await {
            Ok(plan) => Plan {
                sweep: plan.sweep || is_revived,
                ..plan
            },
            Err(problem) => {
                return settled(Entry::failed(name.as_str(), problem, None), Some(&wanted));
            }
        };
        if !plan.is_idle() {
            return Ok(Look::Work(Box::new(ToDo {
                wanted,
                document: object.etag,
                state,
                etag,
                plan,
            })));
        }
        let entry = match plan.waiting {
            Some(held) => held.entry(name),
            None => {
                self.sights.note(&wanted, &state);
                Entry::bare(name.as_str(), Outcome::Kept, kept_reason(&state, now))
            }
        };
        settled(entry, Some(&wanted))
    }

    /// Looks at a record without a document: what is being removed, is to be by the settings, or is only to be reported.
    fn look_at_orphan(&self, name: &CertificateName, mut state: State, etag: String) -> Look {
        let now = self.clock.now();
        if let Some(lease) = state.lease_in_force(now) {
            let reason = "another invocation is working on it";
            let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
            entry.next_attempt = Some(lease.until);
            return Look::Settled(Box::new(entry));
        }
        let wanted = wanted_nowhere(name, &state);
        let work = |state: State, plan: Plan| {
            Look::Work(Box::new(ToDo {
                wanted: wanted.clone(),
                document: String::new(),
                state,
                etag: Some(etag.clone()),
                plan,
            }))
        };
        let is_to_go = match self.settings.orphans {
            Orphans::Remove => !self.keeps_orphans,
            Orphans::Report => false,
        };
        if state.removing.is_none() && (is_to_go || state.is_nothing()) {
            state.removing = Some(Removal {
                at: crate::report::whole_seconds(now),
                document: None,
            });
            state.note(now, "removal", "the document is gone");
            return work(state, Plan::removal(Step::Begins));
        }
        if state.removing.is_some() {
            let failure = state.deployment_failure.as_ref();
            let held = failure.and_then(|failure| {
                let until = failure.holds(now, false, "", &failure.directory, &[])?;
                Some((failure.problem.clone(), until))
            });
            return match held {
                Some((problem, until)) => {
                    let entry = Entry::failed(name.as_str(), problem, Some(until));
                    Look::Settled(Box::new(entry))
                }
                None if state.is_to_be_taken_away(now, |old| self.may_delete(old)) => {
                    work(state, Plan::removal(Step::GoesOn))
                }
                None => Look::Nothing,
            };
        }
        let problem = self.orphan_problem(name, &state);
        let revoke = state.is_to_revoke(now);
        if revoke || state.order.is_some() || !state.leftovers.is_empty(now) {
            let plan = Plan {
                sweep: true,
                revoke,
                problem: Some(problem),
                ..Plan::default()
            };
            return work(state, plan);
        }
        let mut entry = Entry::bare(name.as_str(), Outcome::Kept, problem.detail.clone());
        entry.problem = Some(problem);
        entry.is_orphan = true;
        Look::Settled(Box::new(self.with_state(entry, &state, None)))
    }

    pub(crate) fn orphan_problem(&self, name: &CertificateName, state: &State) -> Problem {
        let until = state
            .certificate
            .as_ref()
            .map(|held| rfc3339(held.not_after));
        let until = until.map_or(String::new(), |until| format!(", valid until {until},"));
        let kept = match self.keeps_orphans && self.settings.orphans == Orphans::Remove {
            true => " (more documents are gone than there are, so nothing is removed by itself)",
            false => "",
        };
        let detail = format!(
            "certificates/{name}.json is gone{kept}; its certificate{until} stays where it is and is not renewed: put the document back, or \
             invoke {{\"action\":\"remove\",\"name\":\"{name}\"}}"
        );
        Problem::ours(Ours::Orphan, detail)
    }

    /// Fills in what the record knows of a certificate.
    pub(crate) fn with_state(&self, entry: Entry, state: &State, wanted: Option<&Wanted>) -> Entry {
        let standing = wanted.and_then(|wanted| self.standing_problem(wanted, state));
        let mut entry = entry.with_state(state, wanted, &self.home);
        entry.is_untrusted = self.untrusted(state).is_some();
        if let (None, Some((problem, next))) = (&entry.problem, standing) {
            entry.problem = Some(problem);
            entry.next_attempt = entry.next_attempt.or(next);
        }
        entry
    }

    /// Returns what is wrong with a certificate although nothing has just failed, and when that is looked at again.
    pub(crate) fn standing_problem(
        &self,
        wanted: &Wanted,
        state: &State,
    ) -> Option<(Problem, Option<OffsetDateTime>)> {
        if let Some(problem) = revoked(wanted, state) {
            return Some((problem, None));
        }
        if let Some((problem, next)) = asking::missing_problem(wanted, state) {
            return Some((problem, Some(next)));
        }
        let untrusted = self.untrusted(state).map(|problem| (problem, None));
        untrusted.or_else(|| {
            let preflight = state.preflight.as_ref().filter(|_| !wanted.paused)?;
            Some((preflight.problem.clone()?, None))
        })
    }

    /// Returns the problem of a certificate that is served and that the public does not trust, unless its authority is private.
    fn untrusted(&self, state: &State) -> Option<Problem> {
        let is_private = |held: &Held| {
            let mut authorities = self.settings.authorities.values();
            authorities.any(|authority| authority.directory == held.directory && authority.private)
        };
        // What is served may still be the one before.
        let served = |target: &TargetRecord| {
            let held = state.held(target.serial.as_deref()?)?.clone();
            let is_untrusted = held.public == Some(false) && !is_private(&held);
            let is_served = target.state == TargetState::Attached;
            (is_served && is_untrusted).then_some(held)
        };
        let (served, held) =
            (state.targets.iter()).find_map(|target| Some((target, served(target)?)))?;
        let detail = format!(
            "{} serves a certificate of {} that no public root knows, as those of a staging environment: name another authority in the \
             document, or set authorities.{}.private to true if only machines of your own are to trust it",
            served.id, held.directory, held.authority
        );
        Some(Problem::ours(Ours::Untrusted, detail))
    }

    /// Decides what is to be done about a certificate, and what of it may be done now.
    pub(crate) async fn plan(
        &self,
        wanted: &Wanted,
        document: &str,
        state: &State,
        force: bool,
    ) -> Result<Plan, Problem> {
        let now = self.clock.now();
        let names = asking::names_now(wanted, state, now);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let holds = |failure: Option<&Failure>| {
            let failure = failure?;
            let until = failure.holds(now, force, document, &failure.directory, &names)?;
            Some(Waits::after(failure, until))
        };
        let mut plan = Plan {
            revoke: state.is_to_revoke(now),
            ..Plan::default()
        };
        let mut revocations = state.revoking.iter();
        plan.waiting = revocations.find_map(|revocation| {
            let (failure, until) = revocation.waits(now)?;
            Some(Waits::after(failure, until))
        });
        let decision = self.decide(wanted, state, force);
        let course = self.course(wanted, state).await?;
        let authority = course.authority;
        // An order under way for what is wanted is seen through, also one that was forced and is not due.
        let is_held_back = !force && state.is_held_back(now);
        let under_way =
            (state.order.as_ref()).filter(|_| !is_held_back && course.fits(wanted, state, now));
        let needs_none = || self.decide(wanted, state, false) == Decision::Keep;
        let order = match decision {
            Decision::Order { reason } if force && under_way.is_none() && needs_none() => {
                let costs = self.costs_in_words(authority, wanted, state).await;
                Some(match costs {
                    Ok(costs) if !costs.is_empty() => format!("{reason}; it takes {costs}"),
                    _ => reason,
                })
            }
            Decision::Order { reason } => Some(reason),
            Decision::Keep => under_way.map(|order| order.reason.clone()),
        };
        if let Some(reason) = order {
            let held = if wanted.paused {
                Some(Waits {
                    reason: format!("paused; otherwise: {reason}"),
                    until: None,
                    problem: None,
                })
            } else if let Some(held) = holds(state.failure_at(&authority.directory)) {
                Some(held)
            } else if let Some(until) = asked_to_wait(state, now) {
                Some(Waits {
                    reason: "the authority is at work on the order".to_owned(),
                    until: Some(until),
                    problem: None,
                })
            } else if under_way.is_none() {
                // What cannot be told keeps back the order, not the deployment of what is there.
                let blocked = self.what_blocks_an_order(authority, wanted, state).await;
                // Where single names are in the way the order goes without them.
                let goes_without = |blocked: &Blocked| {
                    let ordered = asking::names_now(wanted, state, now);
                    asking::can_go_without(&blocked.names, &ordered, wanted, state, now)
                };
                let blocked =
                    blocked.map(|blocked| blocked.filter(|blocked| !goes_without(blocked)));
                blocked.map_or_else(
                    |problem| Some(Waits::from(problem)),
                    |blocked| blocked.map(Waits::from),
                )
            } else {
                None
            };
            match held {
                Some(held) => plan.waiting = plan.waiting.or(Some(held)),
                None => plan.order = Some(reason),
            }
        }
        // With an order ahead the deployment follows it anyway, and what stands now is looked at again then.
        if plan.order.is_none() {
            let needed = self.deployment_needed(wanted, state).await;
            if let Some(reason) = needed {
                match holds(state.deployment_failure.as_ref()) {
                    Some(held) => plan.waiting = plan.waiting.or(Some(held)),
                    None => plan.deploy = Some(reason),
                }
            }
        }
        // What an order under way still needs is not swept.
        plan.sweep = state.order.is_none() && !state.leftovers.is_empty(now)
            || state.order.is_some() && plan.order.is_none() && plan.waiting.is_none();
        Ok(plan)
    }
}

impl From<Problem> for Waits {
    fn from(problem: Problem) -> Self {
        Self {
            reason: problem.detail.clone(),
            until: None,
            problem: Some(problem),
        }
    }
}

impl From<Blocked> for Waits {
    fn from(blocked: Blocked) -> Self {
        Self {
            problem: Some(blocked.problem()),
            reason: blocked.what,
            until: Some(blocked.until),
        }
    }
}

impl Waits {
    fn after(failure: &Failure, until: OffsetDateTime) -> Self {
        let detail = &failure.problem.detail;
        Self {
            reason: format!("backing off until {} after: {detail}", rfc3339(until)),
            until: Some(until),
            problem: Some(failure.problem.clone()),
        }
    }

    fn entry(self, name: &CertificateName) -> Entry {
        let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, self.reason);
        entry.next_attempt = self.until;
        entry.problem = self.problem;
        entry
    }
}

/// What the work on one certificate came to.
#[derive(Default)]
struct Done {
    /// Whether a chain came into the vault, and whether it was the first.
    obtained: Option<bool>,
    reason: Option<String>,
    changed: bool,
    remarks: Vec<String>,
    halt: Option<Halt>,
    /// Whether what was done calls for another decision.
    decide_again: bool,
}

impl Done {
    /// Keeps the first of several halts, but for a lost lease, which ends everything.
    fn stop(&mut self, outcome: Result<(), Halt>) {
        match outcome {
            Err(halt) if self.halt.is_none() || matches!(halt, Halt::LeaseLost) => {
                self.halt = Some(halt);
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Does what was planned, remembers what failed, gives the lease back and tells what became of it.
    pub(crate) async fn carry_out(mut self, plan: Plan, force: bool) -> Entry {
        let mut done = Done {
            reason: plan.order.clone().or(plan.deploy.clone()),
            ..Done::default()
        };
        let mut plan = plan;
        if force && plan.order.is_some() {
            // Whoever forces a renewal does not want what was gone back to any more.
            self.state.rolled_back = None;
        }
        for round in 0..ROUNDS {
            // Cut off at the end of the invocation's time, which the records bear as they bear a stop.
            let left = self.cycle.clock.left();
            done.halt = match tokio::time::timeout(left, self.act(&plan, force, &mut done)).await {
                Ok(outcome) => outcome.err(),
                Err(_) => {
                    done.halt = Some(self.out_of_time("the end of what was begun"));
                    break;
                }
            };
            if matches!(done.halt, Some(Halt::LeaseLost)) {
                break;
            }
            // Edited while it was worked on: go round again, under the same lease.
            let left = self.cycle.clock.left();
            let reread = tokio::time::timeout(left, self.reread_document()).await;
            let again = std::mem::take(&mut done.decide_again);
            match reread.unwrap_or(Ok(false)).map(|changed| changed || again) {
                Ok(true) if round + 1 < ROUNDS => match self
                    .cycle
                    .plan(
                        &self.wanted,
                        &self.document,
                        &self.state,
                        force && done.obtained.is_none(),
                    )
                    .await
                {
                    Ok(next) => {
                        done.reason = next.order.clone().or(next.deploy.clone()).or(done.reason);
                        plan = next;
                    }
                    Err(problem) => {
                        done.halt = Some(problem.into());
                        break;
                    }
                },
                Ok(_) => break,
                Err(halt) => {
                    done.halt = done.halt.or(Some(halt));
                    break;
                }
            }
        }
        let mut entry = self.conclude(done, plan.waiting);
        entry.problem = entry.problem.or(plan.problem);
        // Taken off and told: forgotten.
        let home = &self.cycle.home;
        let named: Vec<String> = self
            .wanted
            .targets
            .iter()
            .map(|target| crate::targets::target_id(target, &self.state, home).1)
            .collect();
        self.state
            .targets
            .retain(|target| target.state != TargetState::Detached || named.contains(&target.id));
        match tokio::time::timeout(TO_END, self.end()).await {
            Ok(Ok(())) | Err(_) => {
                // The daily look at what is served must not put off the look ahead.
                if matches!(entry.outcome, Outcome::Kept | Outcome::Deployed) {
                    self.cycle.sights.note(&self.wanted, &self.state);
                }
                entry
            }
            Ok(Err(halt)) => self.entry_of_halt(halt),
        }
    }

    async fn act(&mut self, plan: &Plan, force: bool, done: &mut Done) -> Result<(), Halt> {
        if plan.revoke {
            match self.revoke().await {
                Ok(any) => {
                    done.reason
                        .get_or_insert("a revocation was asked for".to_owned());
                    if any {
                        done.remarks.push("it is revoked".to_owned());
                    }
                    // What has no document is not replaced.
                    if !self.document.is_empty() {
                        done.decide_again = true;
                        return Ok(());
                    }
                }
                Err(Halt::LeaseLost) => return Err(Halt::LeaseLost),
                Err(halt) => done.halt = Some(halt),
            }
        }
        if let Some(reason) = &plan.order {
            let first = self.state.certificate.is_none() && self.state.previous.is_none();
            match self.order(reason, force && done.obtained.is_none()).await {
                Ok(true) => done.obtained = Some(done.obtained.unwrap_or(first)),
                Ok(false) => {}
                Err(Halt::LeaseLost) => return Err(Halt::LeaseLost),
                Err(halt) => done.halt = Some(halt),
            }
        } else if self.state.order.is_some() && plan.waiting.is_none() {
            done.stop(self.abandon_unneeded().await);
        } else if plan.sweep {
            done.stop(self.sweep().await);
        }
        if matches!(done.halt, Some(Halt::LeaseLost)) {
            return Err(Halt::LeaseLost);
        }
        // Whatever became of the order: what is in the vault belongs on its targets.
        let stopped = done.halt.take();
        let deploy = plan.deploy.is_some()
            || done.obtained.is_some()
            || self.deployment_due_after(stopped.as_ref()).await?;
        if deploy {
            match self.deploy().await {
                Ok(Deployed {
                    changed,
                    remarks,
                    problem,
                    still_default: _,
                }) => {
                    done.changed |= changed;
                    done.remarks.extend(remarks);
                    match problem {
                        None => {
                            self.state.deployment_failure = None;
                            self.state.still_served = None;
                        }
                        Some(problem) => {
                            return Err(self.deployment_failed(stopped, problem.into()));
                        }
                    }
                }
                Err(Halt::Failed(failing)) => return Err(self.deployment_failed(stopped, failing)),
                Err(halt) => return Err(halt),
            }
        }
        stopped.map_or(Ok(()), Err)
    }

    /// After an order that did not come off, drift of what stands is repaired all the same.
    async fn deployment_due_after(&self, stopped: Option<&Halt>) -> Result<bool, Halt> {
        if stopped.is_none() || self.state.certificate.is_none() {
            return Ok(false);
        }
        let now = self.cycle.clock.now();
        let held = self
            .state
            .deployment_failure
            .as_ref()
            .is_some_and(|failure| {
                failure
                    .holds(now, false, &self.document, &failure.directory, &[])
                    .is_some()
            });
        Ok(!held
            && self
                .cycle
                .deployment_needed(&self.wanted, &self.state)
                .await
                .is_some())
    }

    fn deployment_failed(&mut self, stopped: Option<Halt>, failing: Failing) -> Halt {
        let failure = self.failure(&failing, self.state.deployment_failure.as_ref(), "");
        self.note("deployment failed", failing.problem.detail.clone());
        self.state.deployment_failure = Some(failure);
        match stopped {
            Some(Halt::Failed(first)) => Halt::Failed(first),
            _ => Halt::Failed(failing),
        }
    }

    /// Reads the document again; returns whether it is another one now.
    async fn reread_document(&mut self) -> Result<bool, Halt> {
        let key = store::certificate_key(&self.wanted.name);
        let Some(object) = self.cycle.ports.store().read(&key).await? else {
            return Ok(false);
        };
        if object.etag == self.document {
            return Ok(false);
        }
        let parsed = Wanted::parse(
            &self.wanted.name,
            &object.body,
            &self.cycle.settings,
            self.cycle.account_id.as_deref(),
        );
        let wanted = parsed
            .map_err(|invalid| Problem::ours(Ours::InvalidDocument, format!("{key}: {invalid}")))?;
        self.note("document changed", "it was edited while it was worked on");
        self.state.note_document(&object.etag);
        self.wanted = wanted;
        self.document = object.etag;
        Ok(true)
    }

    fn conclude(&self, done: Done, waiting: Option<Waits>) -> Entry {
        let name = &self.wanted.name;
        if let Some(halt) = done.halt {
            return self.entry_of_halt(halt);
        }
        let outcome = match done.obtained {
            Some(true) => Outcome::Issued,
            Some(false) => Outcome::Renewed,
            None if done.changed => Outcome::Deployed,
            None => match waiting {
                Some(held) => {
                    let entry = held.entry(name);
                    return (self.cycle).with_state(entry, &self.state, Some(&self.wanted));
                }
                None => Outcome::Kept,
            },
        };
        let mut reason = done.reason.unwrap_or_else(|| "tidied up".to_owned());
        for remark in done.remarks {
            reason = format!("{reason}; {remark}");
        }
        let entry = Entry::bare(name.as_str(), outcome, reason);
        (self.cycle).with_state(entry, &self.state, Some(&self.wanted))
    }

    /// Takes everything of ours away, as far as that can be done now; `None` where there is nothing to tell.
    pub(crate) async fn carry_out_removal(mut self, step: Step) -> Option<Entry> {
        let name = self.wanted.name.clone();
        let left = self.cycle.clock.left();
        let is_first = step == Step::Begins
            || (self.state.targets.iter()).any(|target| target.state != TargetState::Detached)
            || self
                .state
                .removing
                .as_ref()
                .is_some_and(|removing| removing.document.is_some());
        let taken = match tokio::time::timeout(left, self.take_away()).await {
            Ok(taken) => taken,
            Err(_) => Err(self.out_of_time("the end of the removal")),
        };
        let told = |reason: &str| Some(Entry::bare(name.as_str(), Outcome::Removed, reason));
        let entry = match taken {
            Ok(Removed::Wholly) => return told("nothing of it is left").filter(|_| is_first),
            Ok(Removed::Revived) => {
                let reason = "another document was put; the next pass looks at it";
                let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
                entry.next_attempt = Some(self.cycle.clock.now());
                Some(entry)
            }
            Ok(Removed::NotYet(Deployed {
                changed,
                problem: None,
                ..
            })) => {
                self.state.deployment_failure = None;
                told("taken off; it is deleted once nothing uses it, its vault entry a week later")
                    .filter(|_| changed || is_first)
            }
            Ok(Removed::NotYet(Deployed {
                problem: Some(problem),
                ..
            })) => {
                let halt = self.deployment_failed(None, problem.into());
                Some(self.entry_of_halt(halt))
            }
            Err(Halt::Failed(failing)) => {
                let halt = self.deployment_failed(None, failing);
                Some(self.entry_of_halt(halt))
            }
            Err(halt) => Some(self.entry_of_halt(halt)),
        };
        match tokio::time::timeout(TO_END, self.end()).await {
            Ok(Ok(())) | Err(_) => entry,
            Ok(Err(halt)) => Some(self.entry_of_halt(halt)),
        }
    }

    fn entry_of_halt(&self, halt: Halt) -> Entry {
        let name = self.wanted.name.as_str();
        let entry = match halt {
            Halt::Failed(failing) => {
                let revoking =
                    (self.state.revoking.iter()).filter_map(|revoking| revoking.failure.as_ref());
                let failures = [
                    self.state.order_failure.as_ref(),
                    self.state.deployment_failure.as_ref(),
                ];
                let next = failures
                    .into_iter()
                    .flatten()
                    .chain(revoking)
                    .find(|failure| failure.problem == failing.problem)
                    .map(|failure| failure.next_attempt);
                let is_limit = failing.problem.kind == Problem::kind_of(Ours::Limit);
                let mut entry = Entry::failed(name, failing.problem, next);
                if is_limit {
                    // Nothing is wrong but that it has to wait.
                    entry.outcome = Outcome::Waiting;
                }
                entry
            }
            Halt::Waiting {
                reason,
                until,
                problem,
            } => {
                let mut entry = Entry::bare(name, Outcome::Waiting, reason);
                entry.next_attempt = Some(until);
                entry.problem = problem;
                entry
            }
            Halt::LeaseLost => {
                let reason = "another invocation has taken it over";
                let mut entry = Entry::bare(name, Outcome::Waiting, reason);
                entry.next_attempt = Some(self.cycle.clock.now());
                entry
            }
        };
        (self.cycle).with_state(entry, &self.state, Some(&self.wanted))
    }
}

pub(crate) fn unknown(name: &CertificateName) -> Problem {
    let detail = format!(
        "certificates/{name}.json is not in the bucket; put it there or ask for another name"
    );
    Problem::ours(Ours::UnknownCertificate, detail)
}

/// Returns what is wrong with a revoked certificate that is not to be replaced.
fn revoked(wanted: &Wanted, state: &State) -> Option<Problem> {
    let held = state.certificate.as_ref().filter(|_| wanted.paused)?;
    let detail = format!(
        "{} was revoked at {} and is not replaced while it is paused: set paused to false in certificates/{}.json",
        held.serial,
        rfc3339(held.revoked_at?),
        wanted.name
    );
    Some(Problem::ours(Ours::Revoked, detail))
}

/// Returns when the authority wants its order to be looked at again, if that is still to come.
fn asked_to_wait(state: &State, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let until = state.order.as_ref()?.not_before?;
    (until > now && until <= now + LONGEST_ORDER_WAIT).then_some(until)
}

fn kept_reason(state: &State, now: OffsetDateTime) -> String {
    let (Some(held), Some(renew_at)) = (&state.certificate, state.renew_at()) else {
        return "nothing to do".to_owned();
    };
    let (until, renew_at) = (rfc3339(held.not_after), rfc3339(renew_at));
    match &state.rolled_back {
        Some(back) if state.is_held_back(now) => format!(
            "held since the rollback from {} at {}, valid until {until}, to be renewed at {renew_at}",
            back.from,
            rfc3339(back.at)
        ),
        _ => format!("valid until {until}, to be renewed at {renew_at}"),
    }
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

/// An instant further ahead than this was written by a clock that was wrong.
const LONGEST_ORDER_WAIT: time::Duration = time::Duration::hours(25);
/// For giving the lease back: less than the clock keeps free at the end.
const TO_END: Duration = Duration::from_secs(2);
/// No certificate is looked at with less than this left.
const LEAST: Duration = Duration::from_secs(2);
/// How often a lost race for the lease is followed by another look.
const RACES: usize = 4;
/// How often a document may be edited while it is worked on before the rest is left to the next pass.
const ROUNDS: usize = 3;
/// Of so many certificates any number may lose their documents at once.
const FEW: usize = 3;
