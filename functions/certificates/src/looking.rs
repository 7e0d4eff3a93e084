//! Looks at one certificate, its document, record and targets, and decides what is to be done and what of it may be done now.

use time::OffsetDateTime;

use crate::arn::ListenerArn;
use crate::asking;
use crate::classes::Ours;
use crate::cycle::{Cycle, Ports, state_problem, store_problem};
use crate::document::Wanted;
use crate::limits::Blocked;
use crate::messages;
use crate::names::CertificateName;
use crate::problem::{Failure, Problem};
use crate::removal::wanted_nowhere;
use crate::renewal::{Decision, rfc3339};
use crate::report::{Entry, Outcome};
use crate::settings::Orphans;
use crate::state::{Held, Removal, State, TargetRecord, TargetState};
use crate::store::{self, Condition, Store, read_record, write_record};

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
    pub(crate) fn failed(name: &str, problem: Problem) -> Self {
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
struct Seen<'s> {
    name: &'s CertificateName,
    document: &'s str,
    state: &'s State,
    etag: Option<&'s str>,
}

/// What the decision about one certificate came to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Whether a certificate has to be revoked, and that may be tried now.
    pub(crate) revoke: bool,
    /// Why an order is needed and may be made now.
    pub(crate) order: Option<String>,
    /// Why a deployment is needed and may be tried now.
    pub(crate) deploy: Option<String>,
    /// The listeners on which what is ordered takes a place in the certificate list.
    pub(crate) places: Vec<ListenerArn>,
    /// Why the bucket has to be swept, or the record written.
    pub(crate) sweep: bool,
    /// Whether everything of ours is to go.
    pub(crate) remove: Option<Step>,
    /// What people are to be told of; nothing else is to be done.
    pub(crate) tell: Option<Box<Entry>>,
    /// What is to be told whatever comes of it.
    pub(crate) problem: Option<Problem>,
    /// What has to wait.
    pub(crate) waiting: Option<Waits>,
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
    pub(crate) fn removal(step: Step) -> Self {
        Self {
            remove: Some(step),
            ..Self::default()
        }
    }
}

impl<P: Ports> Cycle<'_, P> {
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
        self.note_untold(&state);
        // A removal goes on while its document is still there; another document ends it.
        let removing = state.removing.as_ref();
        let goes_on = removing.map(|removing| removing.document.as_ref() == Some(&object.etag));
        if goes_on == Some(true) {
            return Ok(self.look_at_orphan(name, state, etag.unwrap_or_default()));
        }
        let is_news = self.apply_contention(name, &mut state) | state.set_right(self.clock.now());
        let is_revived = goes_on == Some(false);
        if is_revived {
            state.removing = None;
        }
        state.note_document(&object.etag, wanted.as_ref().ok());
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
        let seen = Seen {
            name,
            document: &object.etag,
            state: &state,
            etag: etag.as_deref(),
        };
        let settled = |entry: Entry, wanted: Option<&Wanted>| {
            Ok(self.settled(&seen, self.with_state(entry, &state, wanted), wanted))
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
        self.note_claims(&wanted, &state);
        self.note_refusals(&state);
        let now = self.clock.now();
        if let Some(lease) = state.lease_in_force(now) {
            let mut entry = Entry::bare(
                name.as_str(),
                Outcome::Waiting,
                "another invocation is working on it",
            );
            entry.next_attempt = Some(lease.until);
            let entry = self.with_state(entry, &state, Some(&wanted));
            return Ok(Look::Settled(Box::new(entry)));
        }
        let plan = match self.plan(&wanted, &object.etag, &state, force).await {
            Ok(plan) => Plan {
                // One that never was written down begins to count the time for which it is not served.
                sweep: plan.sweep || is_revived || is_news || etag.is_none(),
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

    /// Settles a certificate for which nothing is to be done now but that people may have to be told of.
    fn settled(&self, seen: &Seen<'_>, entry: Entry, wanted: Option<&Wanted>) -> Look {
        let names = wanted.iter().flat_map(|wanted| &wanted.domains);
        let names = names.map(ToString::to_string).collect();
        let found = self.found(&entry, seen.state, names);
        if seen.state.lease_in_force(self.clock.now()).is_some()
            || !messages::is_news(&found, &self.settings.notify)
        {
            return Look::Settled(Box::new(entry));
        }
        Look::Work(Box::new(ToDo {
            wanted: match wanted {
                Some(wanted) => wanted.clone(),
                None => wanted_nowhere(seen.name, seen.state),
            },
            document: seen.document.to_owned(),
            state: seen.state.clone(),
            etag: seen.etag.map(str::to_owned),
            plan: Plan {
                tell: Some(Box::new(entry)),
                ..Plan::default()
            },
        }))
    }

    /// Whether people are still to hear of a certificate that goes.
    fn has_to_tell(&self, state: &State) -> bool {
        let told = state
            .told
            .as_ref()
            .filter(|_| !self.settings.notify.channels.is_empty());
        told.is_some_and(|told| {
            told.problem.is_some() || !told.sendable(self.clock.now()).is_empty()
        })
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
        let seen = |state| Seen {
            name,
            document: "",
            state,
            etag: Some(&etag),
        };
        let work = |state: State, plan: Plan| {
            Look::Work(Box::new(ToDo {
                wanted: wanted.clone(),
                document: String::new(),
                state,
                etag: Some(etag.clone()),
                plan,
            }))
        };
        // What people know of a document that came to nothing ends before its record goes.
        if state.removing.is_none() && state.is_nothing() && self.has_to_tell(&state) {
            let entry = Entry::bare(name.as_str(), Outcome::Removed, "the document is gone");
            return self.settled(&seen(&state), entry, Some(&wanted));
        }
        if state.removing.is_none() && (self.removes_orphans() || state.is_nothing()) {
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
                    self.settled(&seen(&state), entry, Some(&wanted))
                }
                None if state.is_to_be_taken_away(now, |old| self.may_delete(old)) => {
                    work(state, Plan::removal(Step::GoesOn))
                }
                None if self.has_to_tell(&state) => {
                    let entry = Entry::bare(name.as_str(), Outcome::Removed, "it is removed");
                    self.settled(&seen(&state), entry, Some(&wanted))
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
        let entry = self.with_state(entry, &state, None);
        self.settled(&seen(&state), entry, Some(&wanted))
    }

    /// Whether what has no document any more is taken away by itself.
    pub(crate) fn removes_orphans(&self) -> bool {
        self.settings.orphans == Orphans::Remove && !self.keeps_orphans
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
        entry.is_failing =
            wanted.is_some_and(|wanted| self.is_failing(entry.outcome, wanted, state));
        // Nothing is worse than what is served and revoked.
        if let Some(problem) = revoked(wanted, state, entry.problem.as_ref()) {
            entry.problem = Some(problem);
        }
        // One of ours without its tags takes the room that is missing.
        let full = Problem::kind_of(Ours::ListenerFull);
        if let (Some(full), Some(wanted)) = (
            entry
                .problem
                .as_mut()
                .filter(|problem| problem.kind == full),
            wanted,
        ) && let Some(lost) = self.tags_lost(&wanted.name, state)
        {
            let detail = format!("{}; until then: {}", lost.detail, full.detail);
            *full = Problem { detail, ..lost };
        }
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
        if let Some(problem) = revoked(Some(wanted), state, None) {
            return Some((problem, None));
        }
        let stands = contended(wanted, state)
            .or_else(|| stays(state))
            .or_else(|| self.tags_lost(&wanted.name, state));
        if let Some(problem) = stands {
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

    /// Returns the problem of a certificate that we imported and that lost its tags.
    fn tags_lost(&self, name: &CertificateName, state: &State) -> Option<Problem> {
        let (region, lost) = (state.imports.iter())
            .find_map(|(region, import)| Some((region, import.untagged.first()?)))?;
        let (arn, serial, installation) = (&lost.arn, &lost.serial, &self.installation);
        let detail = format!(
            "{arn} holds {serial}, which we imported there, and does not carry our tags any more: it is not renewed, and \
             another one takes its place; put the tags back (aws acm add-tags-to-certificate --region {region} \
             --certificate-arn {arn} --tags Key=certloop:installation,Value={installation} \
             Key=certloop:certificate,Value={name}) or delete it there"
        );
        Some(Problem::ours(Ours::TagsLost, detail))
    }

    /// Returns why the certificate that is to be served takes nobody's place: the public does not trust it, and trusts what is
    /// served (rule 12).
    pub(crate) fn distrusts(&self, wanted: &Wanted, state: &State) -> Option<Problem> {
        let new = state.certificate.as_ref()?;
        let served = state.held(&state.served.as_ref()?.serial)?;
        let is_worse = new.public == Some(false)
            && self.may_be_trusted(served, new)
            && served.serial != new.serial
            && served.revoked_at.is_none()
            && served.not_after > self.clock.now()
            && !self.is_private(new)
            && !wanted.targets.is_empty();
        let detail = format!(
            "{} of {} is trusted by no public root, and {}, which is served, is: it stays until {}; name another authority in \
             the document, or set authorities.{}.private to true if only machines of your own are to trust it",
            new.serial,
            new.directory,
            served.serial,
            rfc3339(served.not_after),
            new.authority
        );
        is_worse.then(|| Problem::ours(Ours::Untrusted, detail))
    }

    /// Whether the public may trust a certificate. One that was not looked at is as the new one is
    /// where both are of one authority.
    fn may_be_trusted(&self, served: &Held, new: &Held) -> bool {
        let unknown = served.directory != new.directory && !self.is_private(served);
        served.public.unwrap_or(unknown)
    }

    /// Whether the public does not trust a certificate that it is to trust.
    pub(crate) fn is_distrusted(&self, held: &Held) -> bool {
        held.public == Some(false) && !self.is_private(held)
    }

    fn is_private(&self, held: &Held) -> bool {
        let mut authorities = self.settings.authorities.values();
        authorities.any(|authority| authority.directory == held.directory && authority.private)
    }

    /// Returns the problem of a certificate that is served and that the public does not trust, unless its authority is private.
    fn untrusted(&self, state: &State) -> Option<Problem> {
        // What is served may still be the one before.
        let served = |target: &TargetRecord| {
            let held = state.held(target.serial.as_deref()?)?.clone();
            let is_untrusted = held.public == Some(false) && !self.is_private(&held);
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

    /// Notes which load balancer refused a certificate of this document for want of room.
    fn note_refusals(&self, state: &State) {
        let full = Problem::kind_of(Ours::ListenerFull);
        let failure = state.deployment_failure.as_ref();
        // It is believed for an hour: somebody may have made room since.
        let is_fresh = failure.is_some_and(|failure| {
            failure.problem.kind == full && self.clock.now() - failure.at < time::Duration::HOUR
        });
        if !is_fresh {
            return;
        }
        let failed = state
            .targets
            .iter()
            .filter(|target| target.state == TargetState::Failed);
        for listener in failed.filter_map(|target| target.id.parse().ok()) {
            self.note_full(&listener);
        }
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
            Decision::Order { reason } => Some(match state.rollback_ended_by() {
                Some(ended) => format!("{reason}; {ended}"),
                None => reason,
            }),
            Decision::Keep => under_way.map(|order| order.reason.clone()),
        };
        let is_deployed = crate::targets::is_deployed(wanted, state, &self.home);
        if force && !self.reissue && order.is_none() && state.certificate.is_some() && !is_deployed
        {
            plan.deploy = Some(
                "forced: the certificate that is to be served is not on all its targets yet, so it is deployed again and \
                 none is ordered; say \"reissue\": true to order in any case"
                    .to_owned(),
            );
        }
        if let Some(reason) = order {
            let held = if wanted.paused {
                Some(Waits {
                    reason: format!("paused; otherwise: {reason}"),
                    until: None,
                    problem: None,
                    is_failure: false,
                })
            } else if let Some(held) = holds(state.failure_at(&authority.directory)) {
                Some(held)
            } else if let Some(until) = asked_to_wait(state, now) {
                Some(Waits {
                    reason: "the authority is at work on the order".to_owned(),
                    until: Some(until),
                    problem: None,
                    is_failure: false,
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
                let blocked = blocked.map_or_else(
                    |problem| Some(Waits::from(problem)),
                    |blocked| blocked.map(Waits::from),
                );
                match blocked {
                    Some(blocked) => Some(blocked),
                    None => {
                        let outlook = self.outlook(wanted, state).await;
                        plan.places = outlook.places;
                        outlook.problem.map(Waits::for_person)
                    }
                }
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
                    None => plan.deploy = plan.deploy.or(Some(reason)),
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
            is_failure: false,
        }
    }
}

impl From<Blocked> for Waits {
    fn from(blocked: Blocked) -> Self {
        Self {
            problem: Some(blocked.problem()),
            reason: blocked.what,
            until: Some(blocked.until),
            is_failure: false,
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
            is_failure: false,
        }
    }

    /// Makes what a person has to change before an order makes sense.
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
    Problem::ours(Ours::UnknownCertificate, detail)
}

/// Returns what is wrong where a revoked certificate is served, or one is not to be replaced.
pub(crate) fn revoked(
    wanted: Option<&Wanted>,
    state: &State,
    why: Option<&Problem>,
) -> Option<Problem> {
    let is_paused = wanted.is_some_and(|wanted| wanted.paused);
    let paused = state.certificate.as_ref().filter(|_| is_paused);
    if let Some((held, at)) = paused.and_then(|held| Some((held, held.revoked_at?))) {
        let name = wanted.map_or("NAME", |wanted| wanted.name.as_str());
        let detail = format!(
            "{} was revoked at {} and is not replaced while it is paused: set paused to false in certificates/{name}.json",
            held.serial,
            rfc3339(at),
        );
        return Some(Problem::ours(Ours::Revoked, detail));
    }
    let served = state.served.as_ref()?;
    let at = state.revoked_at(&served.serial)?;
    let failures = [&state.deployment_failure, &state.order_failure];
    let failures = failures.into_iter().flatten();
    let failed = failures.map(|failure| &failure.problem);
    let contended = wanted.and_then(|wanted| contended(wanted, state));
    let why = why.into_iter().chain(failed).chain(&contended);
    let why = why.into_iter().next().map_or_else(
        || "its replacement is not there yet".to_owned(),
        |problem| format!("its replacement is not there yet: {}", problem.detail),
    );
    let detail = format!(
        "{} is served and was revoked at {}: browsers may refuse it; {why}",
        served.serial,
        rfc3339(at)
    );
    Some(Problem::ours(Ours::Revoked, detail))
}

/// Returns the problem of a place that another document holds.
fn contended(wanted: &Wanted, state: &State) -> Option<Problem> {
    let (listener, contended) = state.contended.iter().next()?;
    Some(contended.problem(wanted.name.as_str(), listener))
}

/// Returns why something that is superseded stays on a listener.
fn stays(state: &State) -> Option<Problem> {
    let mut stays = state
        .targets
        .iter()
        .flat_map(|target| target.stays.values());
    stays.next().cloned()
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

/// An instant further ahead than this was written by a clock that was wrong.
const LONGEST_ORDER_WAIT: time::Duration = time::Duration::hours(25);
