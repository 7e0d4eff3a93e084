//! What must be attached to a listener, and the facts that one step of that passes to the next.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::target::{Placement, Target};
use crate::life::deploy::by_arn::import::{Arrived, Imported};
use crate::ports::load_balancer::{Holding, Listener};
use crate::records::deployment::TargetRecord;
use crate::records::state::State;
use crate::rules::listener::{self, Change, Wish};
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::chain::Leaf;
use crate::values::problem::Problem;

/// Which certificate must be attached and where, and which others it replaces.
pub(crate) struct Placing {
    pub(super) placement: Placement,
    pub(super) ours: CertificateArn,
    /// Certificates of ours that it replaces.
    pub(super) old: Vec<String>,
    /// Certificates of others that it replaces: those that the document supersedes, and those that
    /// were ours until they lost their tags.
    pub(super) supersedes: Vec<String>,
}

impl Placing {
    pub(crate) fn wish(&self) -> Wish<'_> {
        Wish {
            ours: self.ours.as_str(),
            placement: self.placement,
            old: &self.old,
            supersedes: &self.supersedes,
        }
    }

    /// While an earlier version of the document is in force, a default that others set since then
    /// is not replaced.
    pub(crate) fn leaves_others_default(&mut self, holding: &Holding) {
        let is_ours =
            |default: &String| *default == *self.ours.as_str() || self.old.contains(default);
        if holding
            .default
            .as_ref()
            .is_some_and(|default| !is_ours(default))
        {
            self.placement = Placement::Sni;
        }
    }

    /// Replaces none of those that stay.
    pub(super) fn leaves(&mut self, stays: &BTreeMap<String, Problem>) {
        self.supersedes.retain(|theirs| !stays.contains_key(theirs));
        self.old.retain(|old| !stays.contains_key(old));
    }
}

/// What happens to a default whose place ours takes.
pub(super) struct Displaced {
    /// It moves to the certificate list: others may need it. Not if it is self-signed, expired,
    /// superseded or wholly covered by ours.
    pub(super) keep: bool,
    /// It comes back if the proof of ours fails. Not if it is self-signed or expired.
    pub(super) restore: bool,
}

/// A switch of one listener: what it must hold, what it held, and the changes between.
pub(super) struct Switch<'s> {
    pub(super) at: &'s ListenerArn,
    pub(super) arrived: &'s Arrived<'s>,
    pub(super) listener: Listener,
    /// What the listener held before.
    pub(super) before: Holding,
    pub(super) placing: Placing,
    /// What stays although ours would replace it, each with the reason.
    pub(super) stays: BTreeMap<String, Problem>,
    pub(super) displaced: Displaced,
    /// The changes to make. After the switch: the changes that were made.
    pub(super) changes: Vec<Change>,
    /// Why a default stays although the document wants its place.
    pub(super) refused: Option<Problem>,
}

impl Switch<'_> {
    /// Decides which changes put ours in its place.
    pub(super) fn decide_changes(&mut self) {
        let (wish, keep) = (self.placing.wish(), self.displaced.keep);
        self.changes = listener::establish(&self.before, &wish, keep);
    }

    /// Whether ours replaces the present default.
    pub(super) fn replaces_default(&self) -> bool {
        let replaces = |change: &Change| matches!(change, Change::SetDefault(_));
        self.changes.iter().any(replaces)
    }

    /// Whether anything was changed since the last proof; `record`: as it was before the switch.
    pub(super) fn has_changed_anything(&self, record: &TargetRecord) -> bool {
        !self.changes.is_empty()
            || self.arrived.how == Imported::Over
            // Also after a stop between a change and its proof.
            || !record.to_restore.is_empty()
            || record.certificate_arn.as_ref() != Some(&self.arrived.arn)
            || record.serial.as_ref() != Some(&self.leaf().serial)
    }

    pub(super) fn leaf(&self) -> &Leaf {
        self.arrived.issued.leaf()
    }
}

/// The ARN and the serial that the record gave for a listener before a switch.
pub(super) type Previously = (Option<CertificateArn>, Option<String>);

/// What a switch changed, as far as the proof needs to know.
pub(super) struct Switched {
    pub(super) previously: Previously,
    /// Whether anything was changed since the last proof.
    pub(super) is_touched: bool,
}

/// Whether the proof accepts a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProofOutcome {
    Passed,
    Failed,
}

/// Whether a document itself says that its certificate is the default of a listener.
pub(crate) fn says_default(
    document: &Wanted,
    state: &State,
    listener: &ListenerArn,
    home: &str,
) -> bool {
    let is_it = |target: &&Target| target.id(state, home) == listener.as_str();
    let target = document.targets.iter().find(is_it);
    target.is_some_and(Target::wants_default)
}

/// Returns what this document wants of a listener. A certificate of ours that has ended or was
/// revoked replaces no other.
pub(crate) fn placing(
    wanted: &Wanted,
    state: &State,
    listener: &ListenerArn,
    placement: Placement,
    ours: CertificateArn,
    now: OffsetDateTime,
) -> Placing {
    let held = state.certificate.as_ref();
    let has_ended = held.is_some_and(|held| held.not_after <= now || held.revoked_at.is_some());
    let old = (state.deployment.imports.get(listener.region()).into_iter())
        .flat_map(|import| &import.superseded)
        .map(|old| old.arn.to_string())
        .filter(|old| *old != ours.as_str() && !has_ended)
        .collect();
    let untagged = state.deployment.imports.get(listener.region());
    let untagged = untagged.into_iter().flat_map(|import| &import.untagged);
    let supersedes = (wanted.supersedes.iter())
        .chain(untagged.map(|lost| &lost.arn))
        .filter(|_| !has_ended);
    let supersedes = supersedes.map(ToString::to_string).collect();
    Placing {
        placement: match has_ended {
            true => Placement::Sni,
            false => placement,
        },
        ours,
        old,
        supersedes,
    }
}
