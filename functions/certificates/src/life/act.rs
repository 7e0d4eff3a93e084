//! Carries out the plan for one certificate, and reports the result.

use std::time::Duration;

use crate::contract::certificate::Wanted;
use crate::contract::report::{Entry, Outcome, TargetState};
use crate::life::decide::{Deferred, Plan, RemovalStage, plan_for};
use crate::life::deploy::deployment_needed;
use crate::life::remove::Removed;
use crate::life::work::Work;
use crate::pass::patience::within;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::store::{self, Store};
use crate::rules::targets::Deployed;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The result of the work on one certificate.
#[derive(Default)]
struct Done {
    /// Whether the vault received a chain, and whether it was the first.
    obtained: Option<bool>,
    reason: Option<String>,
    changed: bool,
    remarks: Vec<String>,
    stopped: Option<Stop>,
    /// Whether another decision must follow.
    decide_again: bool,
}

impl Done {
    /// Keeps the first of several stops. A lost lease replaces it, since that ends everything.
    fn stop(&mut self, outcome: Result<(), Stop>) {
        match outcome {
            Err(stop) if self.stopped.is_none() || matches!(stop, Stop::LeaseLost) => {
                self.stopped = Some(stop);
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Whether another invocation has taken the lease.
    fn is_lost(&self) -> bool {
        matches!(self.stopped, Some(Stop::LeaseLost))
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Carries out the plan, remembers failures, gives the lease back and reports the result.
    pub(crate) async fn carry_out(mut self, mut plan: Plan, force: bool) -> Entry {
        let mut done = Done {
            reason: plan.order.clone().or(plan.deploy.clone()),
            ..Done::default()
        };
        if force && plan.order.is_some() {
            // A person who forces a renewal ends the rollback.
            self.state.previous.rolled_back = None;
        }
        for round in 1..=ROUNDS {
            let goes_on = self.go_round(&plan, force, &mut done).await;
            if !goes_on || round == ROUNDS {
                break;
            }
            let Some(next) = self.decide_again(force, &mut done).await else {
                break;
            };
            plan = next;
        }
        let is_lost = done.is_lost();
        let mut entry = self.conclude(done, plan.waiting);
        entry.problem = entry.problem.or(plan.problem);
        self.forget_detached();
        if is_lost {
            return self.end_with(entry).await;
        }
        match self.tell(&entry).await {
            Err(Stop::LeaseLost) => return self.entry_of_stop(Stop::LeaseLost),
            // What could not be stored was not sent either: the next pass sends it.
            Ok(false) | Err(_) => {}
            Ok(true) => {
                if let Some(plan) = self.edited_meanwhile().await {
                    let next = Box::pin(self.carry_out(plan, false)).await;
                    return match next.outcome {
                        Outcome::Kept => entry,
                        _ => next,
                    };
                }
            }
        }
        self.end_with(entry).await
    }

    /// One round: carries out the plan and reads the document again. Returns whether another round
    /// is needed, because the document changed or because of what was done.
    async fn go_round(&mut self, plan: &Plan, force: bool, done: &mut Done) -> bool {
        // The end of the invocation may cut this off. The records survive that as they survive a
        // stop.
        let acted = within(self.cycle.clock.left(), self.act(plan, force, done)).await;
        let Some(outcome) = acted else {
            done.stopped = Some(self.out_of_time("the end of the work"));
            return false;
        };
        done.stopped = outcome.err();
        if done.is_lost() {
            return false;
        }
        // The document was edited during the work: start another round under the same lease.
        let reread = within(self.cycle.clock.left(), self.reread_document()).await;
        let again = std::mem::take(&mut done.decide_again);
        match reread.unwrap_or(Ok(false)) {
            Ok(changed) => changed || again,
            Err(stop) => {
                done.stopped = done.stopped.take().or(Some(stop));
                false
            }
        }
    }

    /// Decides what the next round does; `None` where it cannot decide.
    async fn decide_again(&self, force: bool, done: &mut Done) -> Option<Plan> {
        let force = force && done.obtained.is_none();
        let next = plan_for(self.cycle, &self.wanted, &self.document, &self.state, force);
        match within(self.cycle.clock.left(), next).await {
            Some(Ok(next)) => {
                let reason = next.order.clone().or(next.deploy.clone());
                done.reason = reason.or(done.reason.take());
                Some(next)
            }
            Some(Err(problem)) => {
                done.stopped = Some(problem.into());
                None
            }
            None => {
                let late = self.out_of_time("the next decision");
                done.stopped = done.stopped.take().or(Some(late));
                None
            }
        }
    }

    /// Forgets targets that we left and reported. One where our certificate stayed as the default
    /// is kept.
    fn forget_detached(&mut self) {
        let home = &self.cycle.home;
        let named: Vec<String> = self
            .wanted
            .targets
            .iter()
            .map(|target| target.id(&self.state, home))
            .collect();
        self.state.deployment.targets.retain(|target| {
            target.state != TargetState::Detached
                || !target.undetachable.is_empty()
                || named.contains(&target.id)
        });
    }

    /// Gives the lease back; returns the entry to report after that.
    async fn end_with(mut self, entry: Entry) -> Entry {
        match within(TO_END, self.end()).await {
            Some(Ok(())) | None => {
                // The daily look at what is served must not delay the preflight check.
                if matches!(entry.outcome, Outcome::Kept | Outcome::Deployed) {
                    self.cycle.outlook.note(&self.wanted, &self.state);
                }
                entry
            }
            Some(Err(stop)) => self.entry_of_stop(stop),
        }
    }

    /// Returns the plan where somebody edited the document while messages were sent: the pass of
    /// that edit found the lease taken.
    async fn edited_meanwhile(&mut self) -> Option<Plan> {
        if self.document.is_empty() {
            return None;
        }
        let reread = within(self.cycle.clock.left(), self.reread_document()).await;
        let Some(Ok(true)) = reread else {
            return None;
        };
        let planned = plan_for(self.cycle, &self.wanted, &self.document, &self.state, false);
        within(self.cycle.clock.left(), planned).await?.ok()
    }

    /// Revokes, then orders, then deploys, as far as each is planned.
    ///
    /// Order, deployment and removal are boxed: nested futures of all steps are too deep for the
    /// compiler.
    async fn act(&mut self, plan: &Plan, force: bool, done: &mut Done) -> Result<(), Stop> {
        if plan.revoke {
            self.act_on_revocations(done).await?;
            if done.decide_again {
                return Ok(());
            }
        }
        self.act_on_order(plan, force, done).await?;
        // Even after a failed order, the certificate in the vault belongs on its targets.
        let stopped = done.stopped.take();
        let deploy = plan.deploy.is_some()
            || done.obtained.is_some()
            || self.deployment_due_after(stopped.as_ref()).await?;
        if deploy {
            return self.act_on_deployment(stopped, done).await;
        }
        stopped.map_or(Ok(()), Err)
    }

    /// Revokes what is pending. Where there is a document, another decision follows.
    async fn act_on_revocations(&mut self, done: &mut Done) -> Result<(), Stop> {
        let serials = self
            .state
            .revocations
            .pending
            .iter()
            .map(|revocation| revocation.serial.as_str());
        let asked = format!("asked to revoke {}", serials.collect::<Vec<_>>().join(", "));
        let revoked = match self.revoke().await {
            Ok(revoked) => revoked,
            Err(Stop::LeaseLost) => return Err(Stop::LeaseLost),
            Err(stop) => {
                done.stopped = Some(stop);
                return Ok(());
            }
        };
        done.reason.get_or_insert(asked);
        for serial in revoked {
            let is_served = (self.state.deployment.served.as_ref())
                .is_some_and(|served| served.serial == serial);
            done.remarks.push(match is_served {
                true => format!("{serial}, which is served, is revoked"),
                false => format!("{serial}, which is not served, is revoked"),
            });
        }
        // A certificate without a document is not replaced.
        done.decide_again = !self.document.is_empty();
        Ok(())
    }

    /// Orders, or abandons an order that is no longer needed, or tidies up. Only a lost lease ends
    /// the work here.
    async fn act_on_order(
        &mut self,
        plan: &Plan,
        force: bool,
        done: &mut Done,
    ) -> Result<(), Stop> {
        if let Some(reason) = &plan.order {
            let first = self.state.certificate.is_none() && self.state.previous.serial.is_none();
            let force = force && done.obtained.is_none();
            match Box::pin(self.order(reason, force)).await {
                Ok(true) => done.obtained = Some(done.obtained.unwrap_or(first)),
                Ok(false) => {}
                Err(stop) => done.stopped = Some(stop),
            }
            done.remarks.append(&mut self.remarks);
        } else if self.state.orders.current.is_some() && plan.waiting.is_none() {
            done.stop(self.abandon_unneeded().await);
        } else if plan.sweep {
            done.stop(self.sweep().await);
        }
        match done.is_lost() {
            true => Err(Stop::LeaseLost),
            false => Ok(()),
        }
    }

    /// Deploys; `stopped`: why the order before it failed, if it did.
    async fn act_on_deployment(
        &mut self,
        stopped: Option<Stop>,
        done: &mut Done,
    ) -> Result<(), Stop> {
        let Deployed {
            changed,
            remarks,
            problem,
            still_default: _,
        } = match Box::pin(self.deploy()).await {
            Ok(deployed) => deployed,
            Err(Stop::Failed(failing)) => return Err(self.deployment_failed(stopped, failing)),
            Err(stop) => return Err(stop),
        };
        done.changed |= changed;
        done.remarks.extend(remarks);
        if let Some(problem) = problem {
            return Err(self.deployment_failed(stopped, problem.into()));
        }
        self.state.deployment.failure = None;
        self.state.deployment.still_served = None;
        stopped.map_or(Ok(()), Err)
    }

    /// Even after a failed order, drift of what is deployed is repaired.
    async fn deployment_due_after(&self, stopped: Option<&Stop>) -> Result<bool, Stop> {
        // A certificate without a document stays where it is: nothing says where it belongs.
        let has_document = !self.document.is_empty();
        if stopped.is_none() || self.state.certificate.is_none() || !has_document {
            return Ok(false);
        }
        let now = self.cycle.clock.now();
        let held = self
            .state
            .deployment
            .failure
            .as_ref()
            .is_some_and(|failure| {
                failure
                    .holds(now, false, &self.document, &failure.directory, &[])
                    .is_some()
            });
        Ok(!held
            && deployment_needed(self.cycle, &self.wanted, &self.state)
                .await
                .is_some())
    }

    fn deployment_failed(&mut self, stopped: Option<Stop>, failing: Failing) -> Stop {
        let failure = self.failure(&failing, self.state.deployment.failure.as_ref(), "");
        self.note("deployment failed", failing.problem.detail.clone());
        self.state.deployment.failure = Some(failure);
        match stopped {
            Some(Stop::Failed(first)) => Stop::Failed(first),
            _ => Stop::Failed(failing),
        }
    }

    /// Reads the document again; returns whether it has changed.
    async fn reread_document(&mut self) -> Result<bool, Stop> {
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
        let wanted = parsed.map_err(|invalid| {
            Problem::ours(ProblemType::InvalidDocument, format!("{key}: {invalid}"))
        })?;
        self.note("document changed", "it was edited during the work");
        self.state.note_document(&object.etag, Some(&wanted));
        self.wanted = wanted;
        self.document = object.etag;
        Ok(true)
    }

    fn conclude(&self, done: Done, waiting: Option<Deferred>) -> Entry {
        let name = &self.wanted.name;
        let with_remarks = |mut entry: Entry| {
            for remark in &done.remarks {
                entry.reason = format!("{}; {remark}", entry.reason);
            }
            entry
        };
        if let Some(stop) = done.stopped {
            return with_remarks(self.entry_of_stop(stop));
        }
        // Report what is waiting, even if other work succeeded.
        let waiting = waiting.map(|held| held.entry(name));
        let outcome = match (done.obtained, &waiting) {
            (Some(true), _) => Outcome::Issued,
            (Some(false), _) => Outcome::Renewed,
            (None, _) if done.changed => Outcome::Deployed,
            (None, Some(_)) => Outcome::Waiting,
            (None, None) => Outcome::Kept,
        };
        if let (Outcome::Waiting, Some(entry)) = (outcome, &waiting) {
            let entry = with_remarks(entry.clone());
            return (self.cycle.judge()).with_state(entry, &self.state, Some(&self.wanted));
        }
        let mut reason = done.reason.unwrap_or_else(|| "tidied up".to_owned());
        for remark in done.remarks {
            reason = format!("{reason}; {remark}");
        }
        let mut entry = Entry::bare(name.as_str(), outcome, reason);
        if let Some(waiting) = waiting {
            entry.problem = waiting.problem;
            entry.next_attempt = waiting.next_attempt;
        }
        (self.cycle.judge()).with_state(entry, &self.state, Some(&self.wanted))
    }

    /// Removes everything of ours, as far as that is possible now; `None` where there is nothing to
    /// report.
    pub(crate) async fn carry_out_removal(mut self, step: RemovalStage) -> Option<Entry> {
        let name = self.wanted.name.clone();
        let left = self.cycle.clock.left();
        let is_first = step == RemovalStage::Begins
            || (self.state.deployment.targets.iter())
                .any(|target| target.state != TargetState::Detached)
            || self
                .state
                .removing
                .as_ref()
                .is_some_and(|removing| removing.document.is_some());
        let taken = match within(left, Box::pin(self.take_away())).await {
            Some(taken) => taken,
            None => Err(self.out_of_time("the end of the removal")),
        };
        let told = |reason: &str| Some(Entry::bare(name.as_str(), Outcome::Removed, reason));
        let entry = match taken {
            Ok(Removed::Wholly) => return told("nothing of it is left").filter(|_| is_first),
            Ok(Removed::Revived) => {
                let reason = "a new document was put; the next pass looks at it";
                let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
                entry.next_attempt = Some(self.cycle.clock.now());
                Some(entry)
            }
            Ok(Removed::NotYet(Deployed {
                changed,
                problem: None,
                ..
            })) => {
                self.state.deployment.failure = None;
                told("taken off; it is deleted once nothing uses it, its vault entry a week later")
                    .filter(|_| changed || is_first)
            }
            Ok(Removed::NotYet(Deployed {
                problem: Some(problem),
                ..
            })) => {
                let stop = self.deployment_failed(None, problem.into());
                Some(self.entry_of_stop(stop))
            }
            Err(Stop::Failed(failing)) => {
                let stop = self.deployment_failed(None, failing);
                Some(self.entry_of_stop(stop))
            }
            Err(Stop::LeaseLost) => return Some(self.entry_of_stop(Stop::LeaseLost)),
            Err(stop) => Some(self.entry_of_stop(stop)),
        };
        if let Some(entry) = &entry
            && let Err(Stop::LeaseLost) = self.tell(entry).await
        {
            return Some(self.entry_of_stop(Stop::LeaseLost));
        }
        match within(TO_END, self.end()).await {
            Some(Ok(())) | None => entry,
            Some(Err(stop)) => Some(self.entry_of_stop(stop)),
        }
    }

    /// Sends the messages about a certificate that needs no other work.
    pub(crate) async fn carry_out_telling(mut self, entry: Entry) -> Entry {
        match self.tell(&entry).await {
            // The invocation that holds the lease sends them.
            Err(Stop::LeaseLost) => return entry,
            Ok(false) | Err(_) => {}
            Ok(true) => {
                if let Some(plan) = self.edited_meanwhile().await {
                    return self.carry_out(plan, false).await;
                }
            }
        }
        // If this fails, the lease ends with the invocation. The next pass sends the message again,
        // under the same id.
        let ended = within(TO_END, self.end()).await;
        if let Some(Err(stop)) = ended {
            tracing::warn!(halt = ?stop, "sent messages are not marked as sent");
        }
        entry
    }

    fn entry_of_stop(&self, stop: Stop) -> Entry {
        let name = self.wanted.name.as_str();
        let entry = match stop {
            Stop::Failed(failing) => {
                let revoking = (self.state.revocations.pending.iter())
                    .filter_map(|revoking| revoking.failure.as_ref());
                let failures = [
                    self.state.orders.failure.as_ref(),
                    self.state.deployment.failure.as_ref(),
                ];
                let next = failures
                    .into_iter()
                    .flatten()
                    .chain(revoking)
                    .find(|failure| failure.problem == failing.problem)
                    .map(|failure| failure.next_attempt);
                let is_limit = failing.problem.kind == Problem::kind_of(ProblemType::Limit);
                let mut entry = Entry::failed(name, failing.problem, next);
                if is_limit {
                    // Nothing failed: it only has to wait.
                    entry.outcome = Outcome::Waiting;
                }
                entry
            }
            Stop::Waiting {
                reason,
                until,
                problem,
            } => {
                let mut entry = Entry::bare(name, Outcome::Waiting, reason);
                entry.next_attempt = Some(until);
                entry.problem = problem;
                entry
            }
            Stop::LeaseLost => {
                let reason = "another invocation has taken it over";
                let mut entry = Entry::bare(name, Outcome::Waiting, reason);
                entry.next_attempt = Some(self.cycle.clock.now());
                entry
            }
        };
        (self.cycle.judge()).with_state(entry, &self.state, Some(&self.wanted))
    }
}

/// The time limit for giving the lease back: less than the clock keeps free at the end.
const TO_END: Duration = Duration::from_secs(2);
/// How many rounds one pass makes when the document is edited meanwhile. The rest is left to the
/// next pass.
const ROUNDS: usize = 3;
