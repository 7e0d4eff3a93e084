//! Looks at one certificate, its document, record and targets. Decides what must be done, and what
//! of it may be done now.
//!
//! [`rules::renewal`](crate::rules::renewal) decides whether a certificate is due for renewal; here
//! that decision becomes a plan.

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::report::{Entry, Outcome};
use crate::contract::settings::Authority;
use crate::life::deploy::deployment::may_delete;
use crate::life::deploy::deployment_needed;
use crate::life::order::route::{OrderRoute, costs_in_words, route_of, what_blocks_an_order};
use crate::life::remove::wanted_nowhere;
use crate::pass::context::Cycle;
use crate::pass::prospect::ListPlace;
use crate::pass::stop::{state_problem, store_problem};
use crate::ports::Ports;
use crate::ports::store::{self, Condition, Store, read_record, write_record};
use crate::records::order::OrderRecord;
use crate::records::state::{Lease, Removal, State};
use crate::rules::ledger::Blocked;
use crate::rules::news;
use crate::rules::order_names;
use crate::rules::renewal::Decision;
use crate::rules::standing::kept_reason;
use crate::rules::targets::is_deployed;
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::names::CertificateName;
use crate::values::problem::{Failure, Problem};
use crate::values::problem_types::ProblemType;

/// How the work on one certificate begins.
pub(crate) enum Assessment {
    /// Nothing to do and nothing to report.
    Nothing,
    /// Nothing to do, or nothing that may be done now.
    Settled(Box<Entry>),
    /// There is work: `order` says why an order is needed, `deploy` why a deployment is.
    Work(Box<Task>),
}

impl Assessment {
    pub(crate) fn failed(name: &str, problem: Problem) -> Self {
        Self::Settled(Box::new(Entry::failed(name, problem, None)))
    }
}

/// The work on one certificate.
pub(crate) struct Task {
    pub(crate) wanted: Wanted,
    /// The document's ETag, empty where there is none.
    pub(crate) document: String,
    pub(crate) state: State,
    pub(crate) etag: Option<String>,
    pub(crate) plan: Plan,
}

impl Task {
    /// Returns the sort key of this task. First what the authority wants replaced at once, then
    /// orders for certificates with little time left, then by the end of the current certificate. A
    /// task without a current certificate, or with only a deployment, comes before those with one.
    pub(crate) fn urgency(&self, now: OffsetDateTime) -> (u8, Option<OffsetDateTime>) {
        let held = self.state.certificate.as_ref();
        let held = held.filter(|_| self.plan.order.is_some());
        if self.plan.tell.is_some() {
            // A message can wait for a certificate.
            return (3, None);
        }
        let rank = match held {
            Some(held) if held.is_to_be_replaced_at_once(now) => 0,
            Some(held) if held.is_urgent(now) => 1,
            _ => 2,
        };
        (rank, held.map(|held| held.not_after))
    }
}

/// A certificate as it was read.
struct Seen<'n> {
    name: &'n CertificateName,
    /// The document's ETag, empty where there is none.
    document: String,
    state: State,
    etag: Option<String>,
    /// Whether the record must be written, even if nothing else is done.
    is_to_be_written: bool,
}

impl Seen<'_> {
    fn work(self, wanted: Wanted, plan: Plan) -> Assessment {
        Assessment::Work(Box::new(Task {
            wanted,
            document: self.document,
            state: self.state,
            etag: self.etag,
            plan,
        }))
    }
}

/// The decision about one certificate.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Whether a certificate must be revoked, and that may be tried now.
    pub(crate) revoke: bool,
    /// Why an order is needed and may be made now.
    pub(crate) order: Option<String>,
    /// Why a deployment is needed and may be tried now.
    pub(crate) deploy: Option<String>,
    /// The places that the new certificate takes in lists of limited length.
    pub(crate) places: Vec<ListPlace>,
    /// Whether the bucket must be swept, or the record written.
    pub(crate) sweep: bool,
    /// Whether everything of ours must be removed, and how far that is.
    pub(crate) remove: Option<RemovalStage>,
    /// The entry for messages to people; then there is no other work.
    pub(crate) tell: Option<Box<Entry>>,
    /// The problem to report after any result.
    pub(crate) problem: Option<Problem>,
    /// What has to wait.
    pub(crate) waiting: Option<Deferred>,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovalStage {
    Begins,
    GoesOn,
}

#[derive(Clone, Debug)]
pub(crate) struct Deferred {
    reason: String,
    until: Option<OffsetDateTime>,
    problem: Option<Problem>,
    /// Whether it waits for a person, who has to change something first.
    is_failure: bool,
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
    pub(crate) fn removal(step: RemovalStage) -> Self {
        Self {
            remove: Some(step),
            ..Self::default()
        }
    }
}

/// Looks at document, state and targets, and decides what must be done. Changes only the renewal
/// information, where it is time to ask the authority for it.
pub(crate) async fn look<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    force: bool,
) -> Result<Assessment, Problem> {
    let store = cycle.ports.store();
    let object = store
        .read(&store::certificate_key(name))
        .await
        .map_err(|error| store_problem(&error))?;
    let state = read_record::<State>(store, &store::state_key(name))
        .await
        .map_err(|error| state_problem(&error))?;
    let Some(object) = object else {
        let (state, etag) = state.ok_or_else(|| unknown(name))?;
        return Ok(look_at_orphan(cycle, name, state, etag));
    };
    let wanted = Wanted::parse(
        name,
        &object.body,
        &cycle.settings,
        cycle.account_id.as_deref(),
    );
    let (mut state, etag) = match state {
        Some((state, etag)) => (state, Some(etag)),
        None => (State::default(), None),
    };
    cycle.notifier.note_untold(&state);
    // A removal continues while its document is still there; a new document ends it.
    let removing = state.removing.as_ref();
    let goes_on = removing.map(|removing| removing.document.as_ref() == Some(&object.etag));
    if goes_on == Some(true) {
        return Ok(look_at_orphan(cycle, name, state, etag.unwrap_or_default()));
    }
    let is_news = cycle.apply_contention(name, &mut state) | state.set_right(cycle.clock.now());
    let is_revived = goes_on == Some(false);
    if is_revived {
        state.removing = None;
    }
    state.note_document(&object.etag, wanted.as_ref().ok());
    let mut seen = Seen {
        name,
        document: object.etag,
        state,
        etag,
        is_to_be_written: is_revived || is_news,
    };
    match wanted {
        Ok(wanted) => {
            ask_when_to_renew(cycle, &mut seen).await;
            Ok(look_at_wanted(cycle, seen, wanted, force).await)
        }
        Err(invalid) => {
            let detail = format!("certificates/{name}.json: {invalid}");
            let problem = Problem::ours(ProblemType::InvalidDocument, detail);
            let entry = Entry::failed(name.as_str(), problem, None);
            Ok(settled_as_it_stands(cycle, &seen, entry, None))
        }
    }
}

/// Asks the authority when to renew, where that is due, and stores its answer.
async fn ask_when_to_renew<P: Ports>(cycle: &Cycle<'_, P>, seen: &mut Seen<'_>) {
    let Seen {
        name, state, etag, ..
    } = seen;
    let is_free = state.lease_in_force(cycle.clock.now()).is_none();
    if !is_free || !cycle.update_renewal(state).await {
        return;
    }
    let key = store::state_key(name);
    let condition = etag
        .as_deref()
        .map_or(Condition::Absent, Condition::Matches);
    match write_record(cycle.ports.store(), &key, state, condition).await {
        Ok(written) => *etag = Some(written),
        // Another invocation was faster, and acts on what it read. The authority is asked again
        // later.
        Err(error) => {
            tracing::warn!(%error, "renewal information not stored");
        }
    }
}

/// Looks at a certificate that a document wants.
async fn look_at_wanted<P: Ports>(
    cycle: &Cycle<'_, P>,
    seen: Seen<'_>,
    wanted: Wanted,
    force: bool,
) -> Assessment {
    let (name, state) = (seen.name, &seen.state);
    cycle.note_claims(&wanted, state);
    cycle.note_refusals(state);
    let now = cycle.clock.now();
    if let Some(lease) = state.lease_in_force(now) {
        let entry = held_by_another(name, lease);
        let entry = cycle.judge().with_state(entry, state, Some(&wanted));
        return Assessment::Settled(Box::new(entry));
    }
    let plan = match plan_for(cycle, &wanted, &seen.document, state, force).await {
        Ok(plan) => Plan {
            // A certificate without a record gets one: it starts the count of the time without
            // service.
            sweep: plan.sweep || seen.is_to_be_written || seen.etag.is_none(),
            ..plan
        },
        Err(problem) => {
            let entry = Entry::failed(name.as_str(), problem, None);
            return settled_as_it_stands(cycle, &seen, entry, Some(&wanted));
        }
    };
    if !plan.is_idle() {
        return seen.work(wanted, plan);
    }
    let entry = match plan.waiting {
        Some(held) => held.entry(name),
        None => {
            cycle.outlook.note(&wanted, state);
            Entry::bare(name.as_str(), Outcome::Kept, kept_reason(state, now))
        }
    };
    settled_as_it_stands(cycle, &seen, entry, Some(&wanted))
}

/// Returns the entry for a certificate on which another invocation is working.
fn held_by_another(name: &CertificateName, lease: &Lease) -> Entry {
    let reason = "another invocation is working on it";
    let mut entry = Entry::bare(name.as_str(), Outcome::Waiting, reason);
    entry.next_attempt = Some(lease.until);
    entry
}

/// Settles a certificate with what its record says of it.
fn settled_as_it_stands<P: Ports>(
    cycle: &Cycle<'_, P>,
    seen: &Seen<'_>,
    entry: Entry,
    wanted: Option<&Wanted>,
) -> Assessment {
    let entry = cycle.judge().with_state(entry, &seen.state, wanted);
    settled(cycle, seen, entry, wanted)
}

/// Settles a certificate that needs no work now, except perhaps messages to people.
fn settled<P: Ports>(
    cycle: &Cycle<'_, P>,
    seen: &Seen<'_>,
    entry: Entry,
    wanted: Option<&Wanted>,
) -> Assessment {
    let names = wanted.iter().flat_map(|wanted| &wanted.domains);
    let names = names.map(ToString::to_string).collect();
    let found = cycle.notifier.found(&entry, &seen.state, names);
    if seen.state.lease_in_force(cycle.clock.now()).is_some()
        || !news::is_news(&found, &cycle.settings.notify)
    {
        return Assessment::Settled(Box::new(entry));
    }
    Assessment::Work(Box::new(Task {
        wanted: match wanted {
            Some(wanted) => wanted.clone(),
            None => wanted_nowhere(seen.name, &seen.state),
        },
        document: seen.document.clone(),
        state: seen.state.clone(),
        etag: seen.etag.clone(),
        plan: Plan {
            tell: Some(Box::new(entry)),
            ..Plan::default()
        },
    }))
}

/// Looks at a record without a document: its removal is running, the settings ask for its removal,
/// or it is only reported.
fn look_at_orphan<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    state: State,
    etag: String,
) -> Assessment {
    let now = cycle.clock.now();
    if let Some(lease) = state.lease_in_force(now) {
        return Assessment::Settled(Box::new(held_by_another(name, lease)));
    }
    let wanted = wanted_nowhere(name, &state);
    let mut seen = Seen {
        name,
        document: String::new(),
        state,
        etag: Some(etag),
        is_to_be_written: false,
    };
    if seen.state.removing.is_some() {
        return look_at_removal(cycle, seen, wanted);
    }
    let has_no_certificate = seen.state.has_no_certificate();
    // If we reported a problem of a document that never got a certificate, we report its end before
    // the record is deleted.
    if has_no_certificate && seen.state.has_to_tell(&cycle.settings.notify, now) {
        let entry = Entry::bare(name.as_str(), Outcome::Removed, "the document is gone");
        return settled(cycle, &seen, entry, Some(&wanted));
    }
    if cycle.judge().removes_orphans() || has_no_certificate {
        seen.state.removing = Some(Removal {
            at: whole_seconds(now),
            document: None,
            document_modified: None,
        });
        seen.state.note(now, "removal", "the document is gone");
        return seen.work(wanted, Plan::removal(RemovalStage::Begins));
    }
    report_orphan(cycle, seen, wanted)
}

/// Looks at a removal in progress: decides whether it continues now.
fn look_at_removal<P: Ports>(cycle: &Cycle<'_, P>, seen: Seen<'_>, wanted: Wanted) -> Assessment {
    let (name, state, now) = (seen.name, &seen.state, cycle.clock.now());
    let failure = state.deployment.failure.as_ref();
    let held = failure.and_then(|failure| {
        let until = failure.holds(now, false, "", &failure.directory, &[])?;
        Some((failure.problem.clone(), until))
    });
    if let Some((problem, until)) = held {
        let entry = Entry::failed(name.as_str(), problem, Some(until));
        return settled(cycle, &seen, entry, Some(&wanted));
    }
    if state.is_to_be_taken_away(now, |old| may_delete(cycle, old)) {
        return seen.work(wanted, Plan::removal(RemovalStage::GoesOn));
    }
    if state.has_to_tell(&cycle.settings.notify, now) {
        let entry = Entry::bare(name.as_str(), Outcome::Removed, "it is removed");
        return settled(cycle, &seen, entry, Some(&wanted));
    }
    Assessment::Nothing
}

/// Reports what stays although its document is gone. It is tidied up, and revoked where that was
/// asked for.
fn report_orphan<P: Ports>(cycle: &Cycle<'_, P>, seen: Seen<'_>, wanted: Wanted) -> Assessment {
    let (name, state, now) = (seen.name, &seen.state, cycle.clock.now());
    let problem = cycle.judge().orphan_problem(name, state);
    let revoke = state.is_to_revoke(now);
    if revoke || state.orders.current.is_some() || !state.leftovers.is_empty(now) {
        let plan = Plan {
            sweep: true,
            revoke,
            problem: Some(problem),
            ..Plan::default()
        };
        return seen.work(wanted, plan);
    }
    let mut entry = Entry::bare(name.as_str(), Outcome::Kept, problem.detail.clone());
    entry.problem = Some(problem);
    let entry = cycle.judge().with_state(entry, state, None);
    settled(cycle, &seen, entry, Some(&wanted))
}

/// Decides what must be done about a certificate, and what of it may be done now.
pub(crate) async fn plan_for<P: Ports>(
    cycle: &Cycle<'_, P>,
    wanted: &Wanted,
    document: &str,
    state: &State,
    force: bool,
) -> Result<Plan, Problem> {
    let now = cycle.clock.now();
    let case = Case {
        cycle,
        wanted,
        document,
        state,
        force,
        now,
    };
    let route = route_of(cycle, wanted, state).await?;
    // A pending order for what is wanted is completed, also one that was forced and is not due.
    let is_held_back = !force && state.is_held_back(now);
    let under_way =
        (state.orders.current.as_ref()).filter(|_| !is_held_back && route.fits(wanted, state, now));
    let order = case.why_order(&route, under_way).await;
    let mut plan = Plan {
        revoke: state.is_to_revoke(now),
        waiting: case.what_keeps_back_a_revocation(),
        deploy: case.why_deploy_by_force(order.is_none()),
        ..Plan::default()
    };
    if let Some(reason) = order {
        let (held, places) = case
            .what_keeps_back_the_order(&reason, &route, under_way.is_some())
            .await;
        plan.places = places;
        match held {
            Some(held) => plan.waiting = plan.waiting.or(Some(held)),
            None => plan.order = Some(reason),
        }
    }
    // After an order the deployment follows anyway, and the targets are read again then.
    if plan.order.is_none()
        && let Some(reason) = deployment_needed(cycle, wanted, state).await
    {
        match case.waits_after(state.deployment.failure.as_ref()) {
            Some(held) => plan.waiting = plan.waiting.or(Some(held)),
            None => plan.deploy = plan.deploy.or(Some(reason)),
        }
    }
    // What a pending order still needs is not swept.
    plan.sweep = state.orders.current.is_none() && !state.leftovers.is_empty(now)
        || state.orders.current.is_some() && plan.order.is_none() && plan.waiting.is_none();
    Ok(plan)
}

/// One certificate and the facts for its decision.
struct Case<'d, 'p, P: Ports> {
    cycle: &'d Cycle<'p, P>,
    wanted: &'d Wanted,
    document: &'d str,
    state: &'d State,
    force: bool,
    now: OffsetDateTime,
}

impl<P: Ports> Case<'_, '_, P> {
    /// Returns the wait after a failure, where that is not over.
    fn waits_after(&self, failure: Option<&Failure>) -> Option<Deferred> {
        let failure = failure?;
        let names = order_names::names_now(self.wanted, self.state, self.now);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let (force, directory) = (self.force, &failure.directory);
        let until = failure.holds(self.now, force, self.document, directory, &names)?;
        Some(Deferred::after(failure, until))
    }

    /// Returns what a revocation waits for.
    fn what_keeps_back_a_revocation(&self) -> Option<Deferred> {
        let mut revocations = self.state.revocations.pending.iter();
        revocations.find_map(|revocation| {
            let (failure, until) = revocation.waits(self.now)?;
            Some(Deferred::after(failure, until))
        })
    }

    /// Returns why an order is needed, or why the pending one is completed.
    async fn why_order(
        &self,
        route: &OrderRoute<'_>,
        under_way: Option<&OrderRecord>,
    ) -> Option<String> {
        let (wanted, state) = (self.wanted, self.state);
        let judge = self.cycle.judge();
        let needs_none = || judge.decide(wanted, state, false) == Decision::Keep;
        match judge.decide(wanted, state, self.force) {
            Decision::Order { reason } if self.force && under_way.is_none() && needs_none() => {
                let costs = costs_in_words(self.cycle, route.authority, wanted, state).await;
                Some(match costs {
                    Ok(costs) if !costs.is_empty() => format!("{reason}; it takes {costs}"),
                    _ => reason,
                })
            }
            Decision::Order { reason } => Some(match state.rollback_ended_by() {
                Some(ended) => format!("{reason}; {ended}"),
                None => reason,
            }),
            Decision::Keep => under_way.map(|order| order.reason.clone()),
        }
    }

    /// Returns why a deployment is made although an order was forced.
    fn why_deploy_by_force(&self, orders_none: bool) -> Option<String> {
        let is_deployed = is_deployed(self.wanted, self.state, &self.cycle.home);
        let has_one = self.state.certificate.is_some() && !is_deployed;
        let is_asked_for = self.force && !self.cycle.reissue;
        (is_asked_for && orders_none && has_one).then(|| {
            "forced: the current certificate is not on all its targets yet, so it is deployed \
             again and no new one is ordered; say \"reissue\": true to order in any case"
                .to_owned()
        })
    }

    /// Returns why the order must wait, and the places that it takes in lists of limited length.
    async fn what_keeps_back_the_order(
        &self,
        reason: &str,
        route: &OrderRoute<'_>,
        is_under_way: bool,
    ) -> (Option<Deferred>, Vec<ListPlace>) {
        let without_problem = |reason: String, until| Deferred {
            reason,
            until,
            problem: None,
            is_failure: false,
        };
        let failure = self.state.orders.failure_at(&route.authority.directory);
        let held = if self.wanted.paused {
            let reason = format!("paused; otherwise: {reason}");
            Some(without_problem(reason, None))
        } else if let Some(held) = self.waits_after(failure) {
            Some(held)
        } else if let Some(until) = asked_to_wait(self.state, self.now) {
            let reason = "the authority is processing the order".to_owned();
            Some(without_problem(reason, Some(until)))
        } else if is_under_way {
            None
        } else {
            return self.what_stands_ahead(route.authority).await;
        };
        (held, Vec::new())
    }

    /// Returns what blocks a new order, and the places that it takes in lists of limited length.
    async fn what_stands_ahead(&self, authority: &Authority) -> (Option<Deferred>, Vec<ListPlace>) {
        let (wanted, state, now) = (self.wanted, self.state, self.now);
        // If only single names are blocked, the order goes without them.
        let goes_without = |blocked: &Blocked| {
            let ordered = order_names::names_now(wanted, state, now);
            order_names::can_go_without(&blocked.names, &ordered, wanted, state, now)
        };
        match what_blocks_an_order(self.cycle, authority, wanted, state).await {
            // An unreadable limit delays the order, but not the deployment of what is there.
            Err(problem) => (Some(Deferred::from(problem)), Vec::new()),
            Ok(Some(blocked)) if !goes_without(&blocked) => {
                (Some(Deferred::from(blocked)), Vec::new())
            }
            Ok(_) => {
                let prospect = self.cycle.prospect(wanted, state).await;
                (prospect.problem.map(Deferred::for_person), prospect.places)
            }
        }
    }
}

impl From<Problem> for Deferred {
    fn from(problem: Problem) -> Self {
        Self {
            reason: problem.detail.clone(),
            until: None,
            problem: Some(problem),
            is_failure: false,
        }
    }
}

impl From<Blocked> for Deferred {
    fn from(blocked: Blocked) -> Self {
        Self {
            problem: Some(blocked.problem()),
            reason: blocked.what,
            until: Some(blocked.until),
            is_failure: false,
        }
    }
}

impl Deferred {
    fn after(failure: &Failure, until: OffsetDateTime) -> Self {
        let detail = &failure.problem.detail;
        Self {
            reason: format!("backing off until {} after: {detail}", rfc3339(until)),
            until: Some(until),
            problem: Some(failure.problem.clone()),
            is_failure: false,
        }
    }

    /// Returns a wait for a person, who has to change something before an order makes sense.
    fn for_person(problem: Problem) -> Self {
        Self {
            is_failure: true,
            ..Self::from(problem)
        }
    }

    pub(crate) fn entry(self, name: &CertificateName) -> Entry {
        let outcome = match self.is_failure {
            true => Outcome::Failed,
            false => Outcome::Waiting,
        };
        let mut entry = Entry::bare(name.as_str(), outcome, self.reason);
        entry.next_attempt = self.until;
        entry.problem = self.problem;
        entry
    }
}

pub(crate) fn unknown(name: &CertificateName) -> Problem {
    let detail = format!(
        "certificates/{name}.json is not in the bucket; put it there or ask for another name"
    );
    Problem::ours(ProblemType::UnknownCertificate, detail)
}

/// Returns when to look at the order again, by the authority's wish, if that is still in the
/// future.
fn asked_to_wait(state: &State, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let until = state.orders.current.as_ref()?.not_before?;
    (until > now && until <= now + LONGEST_ORDER_WAIT).then_some(until)
}

/// certloop looks at an order again within this time, even if its authority asks for more. A wrong
/// clock or an older build wrote an instant that is further ahead.
const LONGEST_ORDER_WAIT: time::Duration = time::Duration::HOUR;
