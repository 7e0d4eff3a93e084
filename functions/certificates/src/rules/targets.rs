//! Pure: all targets of a document, and the result of a deployment to them. Questions about a
//! single target are in [`destination`](super::destination).

use crate::contract::certificate::Wanted;
use crate::contract::report::{TargetEntry, TargetKind, TargetState};
use crate::records::state::State;
use crate::rules::destination::arn_of_place;
use crate::values::problem::Problem;
use crate::values::problem_types::{ProblemType, Retry};

/// What a deployment did.
#[derive(Debug, Default)]
pub(crate) struct Deployed {
    /// Whether a target was changed.
    pub(crate) changed: bool,
    /// What a person should know although nothing failed.
    pub(crate) remarks: Vec<String>,
    /// Certificates that could not be taken off a listener or deleted, because they are in use
    /// there.
    pub(crate) still_default: Vec<String>,
    /// The first failure. The work on the other targets went on.
    pub(crate) problem: Option<Problem>,
}

impl Deployed {
    /// Notes that an unproved certificate stays all the same: only a person can decide what is
    /// right.
    pub(crate) fn stays_unproved(&mut self) {
        let unproved = Problem::kind_of(ProblemType::Unproved);
        let problem = self
            .problem
            .as_mut()
            .filter(|problem| problem.kind == unproved);
        if let Some(problem) = problem {
            problem.retry = Retry::Person;
            if !problem.detail.ends_with(STAYS) {
                problem.detail += STAYS;
            }
        }
    }

    /// Remembers a failure, if it is the first.
    pub(crate) fn note(&mut self, problem: Problem) {
        self.problem.get_or_insert(problem);
    }
}

const STAYS: &str = "; the previous certificate was put back once before, or ends too soon for \
                     that, so this one stays: check what else answers there, or set proof.mode to \
                     off";

/// Whether all targets hold the certificate that should be served.
pub(crate) fn is_deployed(wanted: &Wanted, state: &State, home: &str) -> bool {
    let serial = state.certificate.as_ref().map(|held| &held.serial);
    wanted.targets.iter().all(|target| {
        let record = state.deployment.target(&target.id(state, home));
        record.is_some_and(|record| record.holds_ours() && record.serial.as_ref() == serial)
    })
}

/// Whether a document has a target in a region.
pub(crate) fn uses_region(wanted: &Wanted, region: &str, home: &str) -> bool {
    wanted
        .targets
        .iter()
        .any(|target| target.region(home) == region)
}

/// Returns the regions of a document's targets, each once.
pub(crate) fn regions(wanted: &Wanted, home: &str) -> Vec<String> {
    let mut regions: Vec<String> = wanted
        .targets
        .iter()
        .map(|target| target.region(home).to_owned())
        .collect();
    regions.sort();
    regions.dedup();
    regions
}

/// Returns the ids of targets that hold ours although the document no longer names them.
pub(crate) fn stray_targets(wanted: &Wanted, state: &State, home: &str) -> Vec<String> {
    let named: Vec<String> = wanted
        .targets
        .iter()
        .map(|target| target.id(state, home))
        .collect();
    state
        .deployment
        .targets
        .iter()
        .filter(|target| target.state != TargetState::Detached && !named.contains(&target.id))
        .map(|target| target.id.clone())
        .collect()
}

/// Returns a certificate's targets with the ids of their records: first those of the document, in
/// its order. Then those that were just taken off, which are reported once.
pub(crate) fn target_entries(
    state: &State,
    wanted: &Wanted,
    home: &str,
) -> Vec<(String, TargetEntry)> {
    let mut ids: Vec<(TargetKind, String)> = wanted
        .targets
        .iter()
        .map(|target| (target.kind(), target.id(state, home)))
        .collect();
    let detached =
        state.deployment.targets.iter().filter(|target| {
            target.state == TargetState::Detached && target.undetachable.is_empty()
        });
    let detached: Vec<_> = detached
        .map(|target| (target.kind, target.id.clone()))
        .filter(|known| !ids.contains(known))
        .collect();
    ids.extend(detached);
    ids.into_iter()
        .map(|(kind, id)| (id.clone(), target_entry(state, kind, &id)))
        .collect()
}

/// Returns what is known of all places, where there is no document that names some.
pub(crate) fn known_entries(state: &State) -> Vec<(String, TargetEntry)> {
    let known = state.deployment.targets.iter();
    known
        .map(|target| {
            (
                target.id.clone(),
                target_entry(state, target.kind, &target.id),
            )
        })
        .collect()
}

fn target_entry(state: &State, kind: TargetKind, id: &str) -> TargetEntry {
    let known = state.deployment.target(id);
    let certificate_arn = known
        .and_then(|target| target.certificate_arn.as_ref())
        .map(ToString::to_string);
    TargetEntry {
        kind,
        arn: arn_of_place(kind, id, certificate_arn.as_deref()),
        state: known.map_or(TargetState::Pending, |target| target.state),
        proved: known.and_then(|target| target.proved),
        certificate_arn,
    }
}
