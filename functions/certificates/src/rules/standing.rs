//! Pure: what a certificate's record says about its condition.

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::report::{Entry, TargetState};
use crate::contract::settings::{Orphans, Settings};
use crate::records::certificate::IssuedCertificate;
use crate::records::deployment::TargetRecord;
use crate::records::state::State;
use crate::rules::figures::is_failing;
use crate::rules::order_names;
use crate::rules::renewal::{self, Decision, Situation};
use crate::rules::targets::{is_deployed, target_entries};
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::names::CertificateName;
use crate::values::problem::{Problem, backoff};
use crate::values::problem_types::ProblemType;

/// Judges the condition of certificates, from the settings and from what a pass knows of its
/// installation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    /// The settings.
    pub(crate) settings: &'a Settings,
    /// The bucket's name.
    pub(crate) installation: &'a str,
    /// The function's region.
    pub(crate) home: &'a str,
    /// Whether so many documents are gone that no certificate is removed for it.
    pub(crate) mass_deletion_suspected: bool,
    /// Whether a forced renewal orders even if the certificate is not on its targets yet.
    pub(crate) reissue: bool,
    /// The present instant.
    pub(crate) now: OffsetDateTime,
}

impl<'a> Judge<'a> {
    /// Returns the directories of the authorities that may issue a certificate, in order of
    /// preference.
    pub(crate) fn directories(&self, wanted: &Wanted) -> Vec<&'a str> {
        let known = |key| self.settings.authorities.get(key);
        let authorities = wanted.authorities.iter().filter_map(known);
        authorities
            .map(|authority| authority.directory.as_str())
            .collect()
    }

    /// Decides whether to order a certificate. Issued is not deployed (rule 1): a certificate that
    /// is not on its targets yet is no reason for another order. This includes a forced one, unless
    /// `reissue` is set.
    pub(crate) fn decide(&self, wanted: &Wanted, state: &State, force: bool) -> Decision {
        let force = force && (self.reissue || is_deployed(wanted, state, self.home));
        let situation = Situation {
            wanted,
            state,
            directories: &self.directories(wanted),
            now: self.now,
        };
        renewal::decide(&situation, force)
    }

    /// Whether a certificate without a document is removed automatically.
    pub(crate) fn removes_orphans(&self) -> bool {
        self.settings.orphans == Orphans::Remove && !self.mass_deletion_suspected
    }

    pub(crate) fn orphan_problem(&self, name: &CertificateName, state: &State) -> Problem {
        let until = state
            .certificate
            .as_ref()
            .map(|held| rfc3339(held.not_after));
        let until = until.map_or(String::new(), |until| format!(", valid until {until},"));
        let kept = match self.mass_deletion_suspected && self.settings.orphans == Orphans::Remove {
            true => " (more documents are gone than are left, so nothing is removed automatically)",
            false => "",
        };
        let detail = format!(
            "certificates/{name}.json is gone{kept}; its certificate{until} stays where it is and \
             is not renewed: put the document back, or invoke \
             {{\"action\":\"remove\",\"name\":\"{name}\"}}"
        );
        Problem::ours(ProblemType::Orphan, detail)
    }

    /// Fills in what the record knows of a certificate.
    pub(crate) fn with_state(&self, entry: Entry, state: &State, wanted: Option<&Wanted>) -> Entry {
        let standing = wanted.and_then(|wanted| self.problem(wanted, state));
        let mut entry = entry.with_state(state, wanted, self.home);
        entry.is_untrusted = self.untrusted(state).is_some();
        entry.is_failing = wanted.is_some_and(|wanted| {
            is_failing(entry.outcome, wanted.paused, state, || {
                state.orders.current.is_some()
                    || self.decide(wanted, state, false) != Decision::Keep
            })
        });
        // Nothing is worse than a revoked certificate that is served.
        if let Some(problem) = revoked(wanted, state, entry.problem.as_ref()) {
            entry.problem = Some(problem);
        }
        // The listener is full because one of ours is there that lost its tags.
        let full = Problem::kind_of(ProblemType::ListenerFull);
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

    /// Returns what is wrong with a certificate although nothing failed just now, and when it is
    /// checked again.
    pub(crate) fn problem(
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
        if let Some((problem, next)) = order_names::missing_problem(wanted, state) {
            return Some((problem, Some(next)));
        }
        if let Some(problem) = kept(wanted, state, self.now) {
            return Some((problem, state.renew_at()));
        }
        let untrusted = self.untrusted(state).map(|problem| (problem, None));
        let preflight = || {
            let preflight = state.orders.preflight.as_ref().filter(|_| !wanted.paused)?;
            Some((preflight.problem.clone()?, None))
        };
        (untrusted.or_else(|| key_lost(wanted, state)))
            .or_else(preflight)
            .or_else(|| not_tagged(wanted, state))
    }

    /// The problem of a certificate that we imported and that lost its tags.
    fn tags_lost(&self, name: &CertificateName, state: &State) -> Option<Problem> {
        let (region, lost) = (state.deployment.imports.iter())
            .find_map(|(region, import)| Some((region, import.untagged.first()?)))?;
        let (arn, serial, installation) = (&lost.arn, &lost.serial, self.installation);
        let detail = format!(
            "{arn} holds {serial}, which we imported there, but it no longer carries our tags: it \
             is not renewed, and another one takes its place; put the tags back (aws acm \
             add-tags-to-certificate --region {region} --certificate-arn {arn} --tags \
             Key=certloop:installation,Value={installation} Key=certloop:certificate,Value={name}) \
             or delete it there"
        );
        Some(Problem::ours(ProblemType::TagsLost, detail))
    }

    /// Returns why the new certificate does not replace the served one: the public trusts the
    /// served one, but not the new one (rule 12).
    pub(crate) fn distrusts(&self, wanted: &Wanted, state: &State) -> Option<Problem> {
        let new = state.certificate.as_ref()?;
        let served = state.held(&state.deployment.served.as_ref()?.serial)?;
        let is_worse = new.public == Some(false)
            && self.may_be_trusted(served, new)
            && served.serial != new.serial
            && served.revoked_at.is_none()
            && served.not_after > self.now
            && !self.is_private(new)
            && !wanted.targets.is_empty();
        let detail = format!(
            "no public root trusts {} of {}, but the public trusts {}, which is served: that one \
             stays until {}; name another authority in the document, or set authorities.{}.private \
             to true if only machines of your own should trust it",
            new.serial,
            new.directory,
            served.serial,
            rfc3339(served.not_after),
            new.authority
        );
        is_worse.then(|| Problem::ours(ProblemType::Untrusted, detail))
    }

    /// Whether the public may trust a certificate. One that was not checked counts like the new one
    /// if both are from the same authority.
    fn may_be_trusted(&self, served: &IssuedCertificate, new: &IssuedCertificate) -> bool {
        let unknown = served.directory != new.directory && !self.is_private(served);
        served.public.unwrap_or(unknown)
    }

    /// Whether the public does not trust a certificate that it should trust.
    pub(crate) fn is_distrusted(&self, held: &IssuedCertificate) -> bool {
        held.public == Some(false) && !self.is_private(held)
    }

    fn is_private(&self, held: &IssuedCertificate) -> bool {
        let mut authorities = self.settings.authorities.values();
        authorities.any(|authority| authority.directory == held.directory && authority.private)
    }

    /// The problem of a served certificate that the public does not trust; `None` if its authority
    /// is private.
    fn untrusted(&self, state: &State) -> Option<Problem> {
        // The previous certificate may still be served.
        let served = |target: &TargetRecord| {
            let held = state.held(target.serial.as_deref()?)?.clone();
            let is_untrusted = held.public == Some(false) && !self.is_private(&held);
            let is_served = target.state == TargetState::Attached;
            (is_served && is_untrusted).then_some(held)
        };
        let (served, held) =
            (state.deployment.targets.iter()).find_map(|target| Some((target, served(target)?)))?;
        let detail = format!(
            "{} serves a certificate of {} that no public root trusts (those of a staging \
             environment are like that): name another authority in the document, or set \
             authorities.{}.private to true if only machines of your own should trust it",
            served.id, held.directory, held.authority
        );
        Some(Problem::ours(ProblemType::Untrusted, detail))
    }
}

impl State {
    /// Whether an earlier certificate is valid for longer than the next two attempts take.
    pub(crate) fn lasts_long_enough(&self, serial: &str, now: OffsetDateTime) -> bool {
        (self.held(serial)).is_some_and(|held| self.outlasts_attempts(held.not_after, now))
    }

    /// Whether `not_after` is after the next two attempts, so that a person has time to act.
    pub(crate) fn outlasts_attempts(&self, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
        let attempts = (self.deployment.failure.as_ref()).map_or(0, |failure| failure.attempts);
        let two_more = backoff(attempts + 1, false, 0.0) + backoff(attempts + 2, false, 0.0);
        not_after > now + two_more
    }
}

impl Entry {
    /// Fills in what the state knows.
    pub fn with_state(mut self, state: &State, wanted: Option<&Wanted>, home: &str) -> Self {
        if let Some(held) = &state.certificate {
            self.serial = Some(held.serial.clone());
            self.not_before = Some(whole_seconds(held.not_before));
            self.not_after = Some(whole_seconds(held.not_after));
            self.renew_at = state.renew_at().map(whole_seconds);
        }
        self.unserved_since = wanted
            .filter(|wanted| !wanted.paused)
            .and(state.deployment.unserved_since);
        self.next_attempt = self.next_attempt.map(whole_seconds);
        self.targets = wanted
            .map(|wanted| {
                target_entries(state, wanted, home)
                    .into_iter()
                    .map(|(_, entry)| entry)
                    .collect()
            })
            .unwrap_or_default();
        self.certificate_arn = self
            .targets
            .first()
            .and_then(|target| target.certificate_arn.clone());
        self
    }
}

/// Returns what is wrong if a revoked certificate is served, or is not replaced because it is
/// paused.
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
            "{} was revoked at {} and is not replaced while it is paused: set paused to false in \
             certificates/{name}.json",
            held.serial,
            rfc3339(at),
        );
        return Some(Problem::ours(ProblemType::Revoked, detail));
    }
    let served = state.deployment.served.as_ref()?;
    let at = state.revoked_at(&served.serial)?;
    let failures = [&state.deployment.failure, &state.orders.failure];
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
    Some(Problem::ours(ProblemType::Revoked, detail))
}

/// The problem of a place that another document holds.
fn contended(wanted: &Wanted, state: &State) -> Option<Problem> {
    let (listener, contended) = state.deployment.contended.iter().next()?;
    Some(contended.problem(wanted.name.as_str(), listener))
}

/// The problem of an adopted certificate that serves more than the document says.
fn kept(wanted: &Wanted, state: &State, now: OffsetDateTime) -> Option<Problem> {
    let held = state.kept().filter(|_| state.is_held_back(now))?;
    let names = held.domains.iter();
    let mut serves: Vec<String> = names
        .filter(|name| !wanted.domains.contains(name))
        .map(ToString::to_string)
        .collect();
    if held.key_type != wanted.key_type {
        serves.push(format!("the key type {}", held.key_type));
    }
    let (name, serves) = (&wanted.name, serves.join(", "));
    let until = state.renew_at().map(rfc3339).unwrap_or_default();
    let detail = format!(
        "{} was adopted and has {serves}, which certificates/{name}.json does not say: the bucket \
         may be an older copy, and its documents as well. Nothing is ordered before {until}: put \
         the newer document back, or order by this one (certloop renew {name} --force)",
        held.serial
    );
    Some(Problem::ours(ProblemType::Record, detail))
}

/// The problem of tags that the certificate manager did not take.
fn not_tagged(wanted: &Wanted, state: &State) -> Option<(Problem, Option<OffsetDateTime>)> {
    let mut imports = state.deployment.imports.values();
    let failure = imports.find_map(|import| {
        let failure = import.tags_failure.as_ref();
        failure.filter(|failure| failure.tags == wanted.tags)
    })?;
    let next = failure.at + time::Duration::DAY;
    Some((failure.problem.clone(), Some(next)))
}

/// The problem of a certificate that is served although the vault does not hold its key, and when
/// a new one is ordered.
fn key_lost(wanted: &Wanted, state: &State) -> Option<(Problem, Option<OffsetDateTime>)> {
    let held = state.certificate.as_ref().filter(|held| held.adopted)?;
    let next = state.renew_at().filter(|_| !wanted.paused);
    let then = match next {
        Some(at) => format!("a new certificate is ordered at {}", rfc3339(at)),
        None => "no new certificate is ordered while it is paused".to_owned(),
    };
    let detail = format!(
        "the vault does not hold the key of {}: it stays where it is, but it cannot be imported \
         elsewhere, and hosts cannot pull it; {then}",
        held.serial
    );
    Some((Problem::ours(ProblemType::VaultEntryLost, detail), next))
}

/// Returns why a superseded certificate stays on a listener.
fn stays(state: &State) -> Option<Problem> {
    let mut stays = state
        .deployment
        .targets
        .iter()
        .flat_map(|target| target.stays.values());
    stays.next().cloned()
}

/// Says why a certificate needs no work.
pub(crate) fn kept_reason(state: &State, now: OffsetDateTime) -> String {
    let (Some(held), Some(renew_at)) = (&state.certificate, state.renew_at()) else {
        return "nothing to do".to_owned();
    };
    let (until, renew_at) = (rfc3339(held.not_after), rfc3339(renew_at));
    match &state.previous.rolled_back {
        Some(back) if state.is_held_back(now) => format!(
            "held since the rollback from {} at {}, valid until {until}, to be renewed at \
             {renew_at}",
            back.from,
            rfc3339(back.at)
        ),
        _ => format!("valid until {until}, to be renewed at {renew_at}"),
    }
}
