//! What one pass has at hand, and the work on one certificate under its lease.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::settings::Settings;
use crate::pass::channels::Channels;
use crate::pass::contention::{Claims, Lost};
use crate::pass::ledgers::Budget;
use crate::pass::memo::Memo;
use crate::pass::preflight::Sights;
use crate::ports::Ports;
use crate::ports::authority::Opened;
use crate::ports::certificate_manager::{CertificateManager, Listed};
use crate::ports::load_balancer::{Holding, LoadBalancer};
use crate::ports::store::{self, Condition, Store, StoreError, write_record};
use crate::records::certificate::Held;
use crate::records::state::{LONGEST_LEASE, Lease, Leftovers, State};
use crate::rules::listener::balancer_of;
use crate::rules::order_names::Blame;
use crate::rules::standing::Judge;
use crate::values::arn::ListenerArn;
use crate::values::clock::Clock;
use crate::values::instant::whole_seconds;
use crate::values::lifetime;
use crate::values::names::CertificateName;
use crate::values::problem::{self, Failure, Problem, Refusal, ServiceError, backoff};
use crate::values::problem_types::Ours;

/// One pass.
pub struct Cycle<'p, P: Ports> {
    /// Everything outside.
    pub ports: &'p P,
    /// The checked settings.
    pub settings: Settings,
    /// The bucket's name: the value of the tag `certloop:installation`.
    pub installation: String,
    /// The function's region.
    pub home: String,
    /// The function's account, where the invocation told it.
    pub account_id: Option<String>,
    /// The invocation's time.
    pub clock: Clock,
    /// Whether nothing is removed because its document is gone: so many are that it may be a mistake.
    pub keeps_orphans: bool,
    /// Whether all documents are looked at, so that who wants what is known without asking further.
    pub is_full: bool,
    /// Whether what is forced is ordered also where the certificate that is to be served is not on
    /// its targets yet.
    pub reissue: bool,
    pub(crate) owner: String,
    pub(crate) accounts: Memo<Result<Opened, Failing>>,
    /// The directories that could not answer a question for renewal information.
    pub(crate) silent: RefCell<BTreeSet<String>>,
    pub(crate) budget: Budget,
    pub(crate) channels: RefCell<Channels>,
    pub(crate) sights: Sights<P::Resolver>,
    /// What documents want of listeners, and what their records say of that, by name.
    pub(crate) claims: RefCell<Claims>,
    /// The documents of which that could not be told.
    pub(crate) unknown_claims: RefCell<BTreeSet<String>>,
    /// What was decided of that; `None` before all were looked at.
    pub(crate) contention: RefCell<Option<Lost>>,
    /// The load balancers that refused a certificate for want of room.
    pub(crate) full: RefCell<BTreeSet<String>>,
    holdings: Memo<Result<Holding, ServiceError>>,
    listings: Memo<(OffsetDateTime, Rc<Vec<Listed>>)>,
}

impl<'p, P: Ports> Cycle<'p, P> {
    /// Prepares a pass.
    pub fn new(
        ports: &'p P,
        settings: Settings,
        installation: String,
        home: String,
        account_id: Option<String>,
        clock: Clock,
    ) -> Self {
        Self {
            ports,
            settings,
            installation,
            home,
            account_id,
            clock,
            keeps_orphans: false,
            is_full: false,
            reissue: false,
            owner: format!("{:032x}", fastrand::u128(..)),
            accounts: Memo::default(),
            silent: RefCell::default(),
            budget: Budget::default(),
            channels: RefCell::default(),
            sights: Sights::default(),
            claims: RefCell::default(),
            unknown_claims: RefCell::default(),
            contention: RefCell::default(),
            full: RefCell::default(),
            holdings: Memo::default(),
            listings: Memo::default(),
        }
    }

    /// Prepares the same pass over other ports, which tells nobody of it.
    pub(crate) fn over<Q: Ports>(mut self, ports: &Q) -> Cycle<'_, Q> {
        self.settings.notify.channels.clear();
        Cycle {
            keeps_orphans: self.keeps_orphans,
            is_full: self.is_full,
            reissue: self.reissue,
            ..Cycle::new(
                ports,
                self.settings,
                self.installation,
                self.home,
                self.account_id,
                self.clock,
            )
        }
    }

    /// Returns what a listener holds, read once per pass: enough to see whether there is work, never to act upon.
    pub(crate) async fn holding_seen(&self, arn: &ListenerArn) -> Result<Holding, ServiceError> {
        let cell = self.holdings.cell(arn.as_str());
        cell.get_or_init(|| async {
            self.ports
                .load_balancer(arn.region())
                .certificates(arn)
                .await
        })
        .await
        .clone()
    }

    /// Notes what a listener was found to hold by those who are at work on it.
    pub(crate) fn note_holding(&self, arn: &ListenerArn, holding: &Holding) {
        self.holdings.replace(arn.as_str(), Ok(holding.clone()));
    }

    /// Returns the certificates of a region, listed not before the given instant; without one, once per pass.
    pub(crate) async fn listing(
        &self,
        region: &str,
        not_before: Option<OffsetDateTime>,
    ) -> Result<Rc<Vec<Listed>>, ServiceError> {
        let cell = self.listings.cell(region);
        let read = || async {
            let at = self.clock.now();
            let listed = self.ports.certificate_manager(region).list().await?;
            Ok::<_, ServiceError>((at, Rc::new(listed)))
        };
        let (at, listed) = cell.get_or_try_init(read).await?;
        if not_before.is_none_or(|instant| instant < *at) {
            return Ok(listed.clone());
        }
        let (at, listed) = read().await?;
        self.listings.replace(region, (at, listed.clone()));
        Ok(listed)
    }

    /// Returns what judges how certificates stand now.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge {
            settings: &self.settings,
            installation: &self.installation,
            home: &self.home,
            keeps_orphans: self.keeps_orphans,
            reissue: self.reissue,
            now: self.clock.now(),
        }
    }

    /// Returns the two tags that make a certificate ours, and the document's own.
    pub(crate) fn tags(&self, wanted: &Wanted) -> BTreeMap<String, String> {
        let mut tags = wanted.tags.clone();
        tags.extend(self.own_tags(&wanted.name));
        tags
    }

    /// Returns the two tags that make something ours.
    pub(crate) fn own_tags(&self, name: &CertificateName) -> [(String, String); 2] {
        [
            (TAG_INSTALLATION.to_owned(), self.installation.clone()),
            (TAG_CERTIFICATE.to_owned(), name.to_string()),
        ]
    }

    /// Returns what the listeners that were looked at hold, by ARN.
    pub(crate) fn holdings_seen(&self) -> Vec<(String, Holding)> {
        let answers = self.holdings.answers().into_iter();
        let held = answers.filter_map(|(listener, cell)| {
            let holding = cell.get()?.as_ref().ok()?;
            Some((listener, holding.clone()))
        });
        held.collect()
    }

    /// Notes that a load balancer refused a certificate for want of room.
    pub(crate) fn note_full(&self, listener: &ListenerArn) {
        self.full.borrow_mut().insert(balancer_of(listener));
    }

    /// Returns how many certificates the fullest load balancer holds beside the defaults, on its listeners seen in this pass:
    /// the quota is the load balancer's.
    pub fn most_certificates_on_a_load_balancer(&self) -> Option<usize> {
        self.certificates_by_load_balancer().into_values().max()
    }

    /// Whether these tags say that a certificate is this one of ours.
    pub(crate) fn is_ours(&self, tags: &BTreeMap<String, String>, name: &CertificateName) -> bool {
        tags.get(TAG_INSTALLATION)
            .is_some_and(|value| *value == self.installation)
            && tags
                .get(TAG_CERTIFICATE)
                .is_some_and(|value| value == name.as_str())
    }
}

/// Why the work on a certificate stops for this pass.
#[derive(Debug)]
pub enum Halt {
    /// Something went wrong: it is remembered and reported.
    Failed(Failing),
    /// Nothing went wrong, but it cannot go on before this instant.
    Waiting {
        /// Why, for a person.
        reason: String,
        /// When to go on.
        until: OffsetDateTime,
        /// What lies behind it.
        problem: Option<Problem>,
    },
    /// Another invocation has taken the certificate over: nothing of ours may be saved any more.
    LeaseLost,
}

/// What went wrong, and what is known about when to try again.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The problem.
    pub problem: Problem,
    /// The instant the other side named.
    pub not_before: Option<OffsetDateTime>,
    /// The names it is about.
    pub identifiers: Vec<String>,
    /// Whether the authority waits for somebody to act.
    pub paused: bool,
    /// Whether the authority is down or limiting, so that another may be used.
    pub unavailable: bool,
    /// The names that stand in the way, each with its own problem.
    pub blamed: Vec<Blame>,
}

impl From<Problem> for Failing {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            not_before: None,
            identifiers: Vec::new(),
            paused: false,
            unavailable: false,
            blamed: Vec::new(),
        }
    }
}

impl From<Refusal> for Failing {
    fn from(refusal: Refusal) -> Self {
        Self {
            not_before: refusal.retry_after,
            paused: problem::is_paused(&refusal),
            unavailable: problem::is_unavailable(&refusal),
            ..Self::from(refusal.problem())
        }
    }
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem.into())
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.into())
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::from(store_problem(&error))
    }
}

/// Returns the problem a store error is for a certificate.
pub fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::ConditionFailed { .. } | StoreError::Unavailable { person: false, .. } => {
            Problem::ours(Ours::Store, error.to_string())
        }
        StoreError::Unavailable { .. } => Problem::ours(
            Ours::StoreDenied,
            format!("{error}; check the bucket and the function's permissions"),
        ),
        StoreError::Unusable { .. } => Problem::ours(Ours::Record, error.to_string()),
    }
}

/// Returns the problem of a state that cannot be read or is of a newer build.
pub fn state_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unusable { .. } => Problem::ours(Ours::State, error.to_string()),
        error => store_problem(error),
    }
}

/// The work on one certificate, under its lease.
pub struct Work<'c, 'p, P: Ports> {
    pub(crate) cycle: &'c Cycle<'p, P>,
    pub(crate) wanted: Wanted,
    /// What is in force for it: the document's word, once that counts (rule 12).
    pub(crate) in_force: Wanted,
    pub(crate) document: String,
    pub(crate) state: State,
    /// What was put back on a listener in this pass: it may not be listed there for a while.
    pub(crate) put_back: BTreeSet<String>,
    /// Whether a person asked for what is done: then a failure does not climb the ladder.
    pub(crate) by_hand: bool,
    etag: Option<String>,
}

impl<'c, 'p, P: Ports> Work<'c, 'p, P> {
    /// Takes the lease, or returns `None` when somebody else was faster.
    pub(crate) async fn begin(
        cycle: &'c Cycle<'p, P>,
        wanted: Wanted,
        document: String,
        state: State,
        etag: Option<String>,
    ) -> Result<Option<Self>, StoreError> {
        let mut work = Self {
            cycle,
            in_force: wanted.clone(),
            wanted,
            document,
            state,
            put_back: BTreeSet::new(),
            by_hand: false,
            etag,
        };
        if work.state.told.is_none() {
            // From before there were messages: what it holds has long been there.
            work.state.told = Some(work.state.told());
        }
        work.state.lease = Some(Lease {
            owner: cycle.owner.clone(),
            until: cycle
                .clock
                .deadline()
                .min(cycle.clock.now() + LONGEST_LEASE),
        });
        match work.write().await {
            Ok(()) => Ok(Some(work)),
            Err(StoreError::ConditionFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let condition = match &self.etag {
            Some(etag) => Condition::Matches(etag),
            None => Condition::Absent,
        };
        let key = store::state_key(&self.wanted.name);
        self.etag =
            Some(write_record(self.cycle.ports.store(), &key, &mut self.state, condition).await?);
        Ok(())
    }

    /// Saves the state: intent before an act, or what came of it.
    pub(crate) async fn save(&mut self) -> Result<(), Halt> {
        match self.write().await {
            Ok(()) => Ok(()),
            Err(StoreError::ConditionFailed { .. }) => Err(Halt::LeaseLost),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the lease back together with everything not yet saved.
    pub(crate) async fn end(&mut self) -> Result<(), Halt> {
        self.state.lease = None;
        if !self.document.is_empty() {
            let now = whole_seconds(self.cycle.clock.now());
            self.state.note_unserved(now);
        }
        match self.save().await {
            Err(Halt::LeaseLost) => {}
            outcome => return outcome,
        }
        // A write of ours that was cut off may have taken effect after all: then the lease there is still ours.
        let key = store::state_key(&self.wanted.name);
        match store::read_record::<State>(self.cycle.ports.store(), &key).await? {
            Some((
                State {
                    lease: Some(lease), ..
                },
                etag,
            )) if lease.owner == self.cycle.owner => {
                self.etag = Some(etag);
                self.save().await
            }
            _ => Err(Halt::LeaseLost),
        }
    }

    /// Adds to the history.
    pub(crate) fn note(&mut self, step: &str, detail: impl Into<String>) {
        let detail = detail.into();
        tracing::info!(certificate.name = %self.wanted.name, step, detail, "step");
        self.state
            .note(whole_seconds(self.cycle.clock.now()), step, detail);
    }

    /// Returns the failure to be remembered after this one (rule 7); `directory`: of the authority it happened with, empty for none.
    pub(crate) fn failure(
        &self,
        failing: &Failing,
        before: Option<&Failure>,
        directory: &str,
    ) -> Failure {
        let now = self.cycle.clock.now();
        // What a person asks for, also by an edit, puts no attempt of our own off.
        let asked_for = before.filter(|before| self.by_hand || before.document != self.document);
        let attempts = match asked_for {
            Some(before) => before.attempts.max(1),
            None => before.map_or(0, |failure| failure.attempts) + 1,
        };
        // Until a new certificate is deployed, the one before it may be what is served.
        let held = self.state.certificate.as_ref().map(Held::validity);
        let urgent = [held, self.state.still_served]
            .into_iter()
            .flatten()
            .any(|valid| lifetime::urgent(valid.not_before, valid.not_after, now));
        let held = self.state.certificate.as_ref();
        let urgent = urgent
            || failing.problem.costs_nobody()
            || held.is_some_and(|held| held.revoked_at.is_some());
        // Paused: the authority says nothing of when, only that somebody must act. It is asked once a day.
        let paused = failing.paused;
        let ours = if paused {
            now + backoff(u32::MAX, false, fastrand::f64())
        } else {
            now + backoff(attempts, urgent, fastrand::f64())
        };
        let planned = asked_for.filter(|before| before.is_planned(now));
        let ours = planned.map_or(ours, |before| before.next_attempt.min(ours));
        // What the authority asks for always wins over our own ladder.
        let next_attempt = failing.not_before.map_or(ours, |instant| instant.max(now));
        Failure {
            problem: failing.problem.clone(),
            attempts,
            at: whole_seconds(now),
            next_attempt: whole_seconds(next_attempt) + Duration::from_secs(1),
            identifiers: failing.identifiers.clone(),
            binding: failing.not_before.is_some() || paused,
            document: self.document.clone(),
            directory: directory.to_owned(),
            unavailable: failing.unavailable,
        }
    }

    /// Waits for an authority's answer, but not so long that nothing could be remembered of its silence: whoever is cut off without a
    /// word would ask again at each pass.
    pub(crate) async fn answered<T>(
        &self,
        asked: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let limit = self.cycle.clock.left().saturating_sub(TO_REMEMBER);
        // So short a time says nothing about the authority: then the cut at the end is what it is.
        if limit < ENOUGH_FOR_AN_ANSWER {
            return asked.await;
        }
        tokio::time::timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(Refusal::no_answer(limit)))
    }

    /// Returns the bound for a step, or stops the work when too little time is left for it (rule 11).
    pub(crate) fn grant(
        &self,
        step: &str,
        least: Duration,
        wish: Duration,
    ) -> Result<Duration, Halt> {
        self.cycle
            .clock
            .grant(least, wish)
            .ok_or_else(|| self.out_of_time(step))
    }

    /// Returns the halt for want of time.
    pub(crate) fn out_of_time(&self, step: &str) -> Halt {
        Halt::Waiting {
            reason: format!("out of time before: {step}; the next pass goes on"),
            until: self.cycle.clock.now(),
            problem: None,
        }
    }

    /// Deletes what the record says is left over: tokens nobody asks for any more, keys that have served, old vault entries.
    pub(crate) async fn sweep(&mut self) -> Result<(), Halt> {
        let now = self.cycle.clock.now();
        if self.state.leftovers.is_empty(now) {
            return Ok(());
        }
        let store = self.cycle.ports.store();
        let leftovers = &self.state.leftovers;
        let mut asked_for = leftovers.asked_for.clone();
        let over = asked_for.extract_if(.., |_, until| until.is_over(now));
        let over: Vec<String> = over.map(|(token, _)| token).collect();
        let mut keys: Vec<String> = leftovers
            .tokens
            .iter()
            .filter(|token| !asked_for.contains_key(*token))
            .chain(&over)
            .map(|token| format!("challenges/{token}"))
            .collect();
        keys.extend(
            leftovers
                .serials
                .iter()
                .map(|serial| store::vault_key(&self.wanted.name, serial)),
        );
        if leftovers.pending_key {
            keys.push(store::pending_key(&self.wanted.name));
        }
        for outcome in
            futures_util::future::join_all(keys.iter().map(|key| store.delete(key))).await
        {
            outcome?;
        }
        self.state.leftovers = Leftovers {
            asked_for,
            ..Leftovers::default()
        };
        Ok(())
    }
}

const TO_REMEMBER: Duration = Duration::from_secs(1);
const ENOUGH_FOR_AN_ANSWER: Duration = Duration::from_secs(10);
/// The tag naming the installation, by its bucket.
pub(crate) const TAG_INSTALLATION: &str = "certloop:installation";
/// The tag naming the certificate, by its document.
pub(crate) const TAG_CERTIFICATE: &str = "certloop:certificate";
