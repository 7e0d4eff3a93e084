//! One pass over the certificates: look, take the lease where there is work, order, deploy, report.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::classes::Ours;
use crate::cycle::{Cycle, Failing, Halt, Ports, Work, state_problem, store_problem};
use crate::document::Wanted;
use crate::limits::Blocked;
use crate::names::CertificateName;
use crate::problem::{Failure, Problem};
use crate::renewal::{Decision, decide, rfc3339};
use crate::report::{Entry, Outcome};
use crate::settings::Settings;
use crate::state::{State, TargetState};
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

/// How the work on one certificate begins.
enum Look {
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

struct ToDo {
    wanted: Wanted,
    document: String,
    state: State,
    etag: Option<String>,
    plan: Plan,
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
struct Plan {
    /// Why an order is needed and may be made now.
    order: Option<String>,
    /// Why a deployment is needed and may be tried now.
    deploy: Option<String>,
    /// Why the bucket has to be swept.
    sweep: bool,
    /// What has to wait.
    waiting: Option<Waits>,
}

#[derive(Clone, Debug)]
struct Waits {
    reason: String,
    until: Option<OffsetDateTime>,
    problem: Option<Problem>,
}

impl Plan {
    fn is_idle(&self) -> bool {
        self.order.is_none() && self.deploy.is_none() && !self.sweep
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
                Look::Settled(entry) => entries.push(*entry),
                Look::Work(to_do) => due.push(*to_do),
            }
        }
        let now = self.clock.now();
        due.sort_by_key(|to_do| to_do.urgency(now));
        let worked_off: Vec<Entry> = stream::iter(due)
            .map(|to_do| async move {
                let entry = self.reconcile(to_do, force).await;
                log(&entry);
                entry
            })
            .buffer_unordered(concurrency)
            .collect()
            .await;
        entries.extend(worked_off);
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

    async fn reconcile(&self, mut to_do: ToDo, mut force: bool) -> Entry {
        let name = to_do.wanted.name.clone();
        let serial = |to_do: &ToDo| Some(to_do.state.certificate.as_ref()?.serial.clone());
        let before = serial(&to_do);
        // Whoever is not faster with the lease looks again: the winner may have settled everything.
        for _ in 0..RACES {
            if self.clock.left() < LEAST {
                return self.out_of_time(&name);
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
                return self.out_of_time(&name);
            };
            match begun {
                Ok(Some(work)) => return work.carry_out(plan, force).await,
                Ok(None) => {
                    tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..100))).await;
                }
                Err(error) => return Entry::failed(name.as_str(), store_problem(&error), None),
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
                Ok(Ok(Look::Settled(entry))) => return *entry,
                Ok(Err(problem)) => return Entry::failed(name.as_str(), problem, None),
                Err(_) => return self.out_of_time(&name),
            };
        }
        let mut entry = self.out_of_time(&name);
        entry.reason = "others keep working on it; the next pass looks again".to_owned();
        entry
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
    async fn look(&self, name: &CertificateName, force: bool) -> Result<Look, Problem> {
        let store = self.ports.store();
        let object = store
            .read(&store::certificate_key(name))
            .await
            .map_err(|error| store_problem(&error))?;
        let Some(object) = object else {
            let detail = format!(
                "certificates/{name}.json is not in the bucket; put it there or ask for another name"
            );
            return Err(Problem::ours(Ours::UnknownCertificate, detail));
        };
        let state = read_record::<State>(store, &store::state_key(name))
            .await
            .map_err(|error| state_problem(&error))?;
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
                entry.with_state(&state, wanted, &self.home),
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
            Ok(plan) => plan,
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
            None => Entry::bare(name.as_str(), Outcome::Kept, kept_reason(&state)),
        };
        settled(entry, Some(&wanted))
    }

    /// Decides what is to be done about a certificate, and what of it may be done now.
    async fn plan(
        &self,
        wanted: &Wanted,
        document: &str,
        state: &State,
        force: bool,
    ) -> Result<Plan, Problem> {
        let now = self.clock.now();
        let names: Vec<String> = wanted.domains.iter().map(ToString::to_string).collect();
        let holds = |failure: &Option<Failure>| {
            failure.as_ref().and_then(|failure| {
                failure
                    .holds(now, force, document, self.directory(wanted), &names)
                    .map(|until| Waits {
                        reason: format!(
                            "backing off until {} after: {}",
                            rfc3339(until),
                            failure.problem.detail
                        ),
                        until: Some(until),
                        problem: Some(failure.problem.clone()),
                    })
            })
        };
        let mut plan = Plan::default();
        let authority = self.authority(&wanted.authority)?;
        let decision = decide(
            wanted,
            &authority.directory,
            state.certificate.as_ref(),
            now,
            force,
        );
        // An order under way for what is wanted is seen through, also one that was forced and is not due.
        let under_way =
            (state.order.as_ref()).filter(|order| order.fits(wanted, &authority.directory));
        let needs_none = || {
            let held = state.certificate.as_ref();
            decide(wanted, &authority.directory, held, now, false) == Decision::Keep
        };
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
            } else if let Some(held) = holds(&state.order_failure) {
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
                blocked.map_or_else(
                    |problem| Some(Waits::from(problem)),
                    |blocked| blocked.map(Waits::from),
                )
            } else {
                None
            };
            match held {
                Some(held) => plan.waiting = Some(held),
                None => plan.order = Some(reason),
            }
        }
        // With an order ahead the deployment follows it anyway, and what stands now is looked at again then.
        if plan.order.is_none() {
            let needed = self.deployment_needed(wanted, state).await;
            if let Some(reason) = needed {
                match holds(&state.deployment_failure) {
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
}

impl<P: Ports> Work<'_, '_, P> {
    /// Does what was planned, remembers what failed, gives the lease back and tells what became of it.
    async fn carry_out(mut self, plan: Plan, force: bool) -> Entry {
        let mut done = Done {
            reason: plan.order.clone().or(plan.deploy.clone()),
            ..Done::default()
        };
        let mut plan = plan;
        for round in 0..ROUNDS {
            // Cut off at the end of the invocation's time, which the records bear as they bear a stop.
            let left = self.cycle.clock.left();
            done.halt = match tokio::time::timeout(left, self.act(&plan, &mut done)).await {
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
            match reread.unwrap_or(Ok(false)) {
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
        let entry = self.conclude(done, plan.waiting);
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
            Ok(Ok(())) | Err(_) => entry,
            Ok(Err(halt)) => self.entry_of_halt(halt),
        }
    }

    async fn act(&mut self, plan: &Plan, done: &mut Done) -> Result<(), Halt> {
        if let Some(reason) = &plan.order {
            let first = self.state.certificate.is_none() && self.state.previous.is_none();
            let authority = self.cycle.authority(&self.wanted.authority)?.clone();
            match self.obtain(&authority, reason).await {
                Ok(()) => done.obtained = Some(done.obtained.unwrap_or(first)),
                Err(Halt::Failed(failing)) => {
                    let failure = self.failure(&failing, self.state.order_failure.as_ref());
                    self.note("failed", failing.problem.detail.clone());
                    self.state.order_failure = Some(failure);
                    done.halt = Some(Halt::Failed(failing));
                }
                Err(Halt::LeaseLost) => return Err(Halt::LeaseLost),
                Err(halt) => done.halt = Some(halt),
            }
        } else if self.state.order.is_some() && plan.waiting.is_none() {
            done.halt = self.abandon_unneeded().await.err();
        } else if plan.sweep {
            done.halt = self.sweep().await.err();
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
                let directory = self.cycle.directory(&self.wanted);
                failure
                    .holds(now, false, &self.document, directory, &[])
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
        let failure = self.failure(&failing, self.state.deployment_failure.as_ref());
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
                    return held.entry(name).with_state(
                        &self.state,
                        Some(&self.wanted),
                        &self.cycle.home,
                    );
                }
                None => Outcome::Kept,
            },
        };
        let mut reason = done.reason.unwrap_or_else(|| "tidied up".to_owned());
        for remark in done.remarks {
            reason = format!("{reason}; {remark}");
        }
        Entry::bare(name.as_str(), outcome, reason).with_state(
            &self.state,
            Some(&self.wanted),
            &self.cycle.home,
        )
    }

    fn entry_of_halt(&self, halt: Halt) -> Entry {
        let name = self.wanted.name.as_str();
        let entry = match halt {
            Halt::Failed(failing) => {
                let failures = [&self.state.order_failure, &self.state.deployment_failure];
                let next = failures
                    .into_iter()
                    .flatten()
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
        entry.with_state(&self.state, Some(&self.wanted), &self.cycle.home)
    }
}

/// Returns when the authority wants its order to be looked at again, if that is still to come.
fn asked_to_wait(state: &State, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let until = state.order.as_ref()?.not_before?;
    (until > now && until <= now + LONGEST_ORDER_WAIT).then_some(until)
}

fn kept_reason(state: &State) -> String {
    state.certificate.as_ref().map_or_else(
        || "nothing to do".to_owned(),
        |held| {
            format!(
                "valid until {}, to be renewed at {}",
                rfc3339(held.not_after),
                rfc3339(held.renew_at())
            )
        },
    )
}

fn log(entry: &Entry) {
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
