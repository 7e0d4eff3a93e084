//! Pure: what may leave a place, and what may be written over (rule 12). Judged by leaves that
//! were looked at, never by what a document wishes.

use time::OffsetDateTime;

use crate::values::chain::Leaf;
use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// Returns what visitors would lose if this leaf of others left the place where ours stands: its
/// names, or what else it is valid for; empty where it may leave.
///
/// A leaf serves a name validly while it holds it, is neither expired nor self-signed, and the
/// visitor speaks its kind of key: one that knows RSA alone gets nothing from an ECDSA leaf.
pub(crate) fn lost(theirs: &Leaf, ours: &Leaf, now: OffsetDateTime) -> Vec<String> {
    let serves = |leaf: &Leaf| leaf.not_before <= now && leaf.not_after > now;
    if theirs.self_signed || !serves(theirs) {
        return Vec::new();
    }
    let is_covered = serves(ours) && same_kind(theirs, ours);
    let names = theirs.names.iter();
    let names =
        names.filter(|name| !is_covered || !ours.names.iter().any(|held| held.covers(name)));
    let others = theirs.other_names.iter();
    let others = others.filter(|name| !is_covered || !ours.other_names.contains(name));
    names
        .map(ToString::to_string)
        .chain(others.cloned())
        .collect()
}

/// Returns the names that a document wants, that one of ours holds, and that the one which is to
/// take its place does not hold, or not with the kind of key that the document wants.
pub(crate) fn lost_of_ours(
    old: &Leaf,
    new: &Leaf,
    wanted: &[DnsName],
    key_type: KeyType,
) -> Vec<String> {
    let holds = |leaf: &Leaf, name: &DnsName| leaf.names.iter().any(|held| held.covers(name));
    let is_wanted = |leaf: &Leaf| leaf.key_type.map(KeyType::is_ecdsa) == Some(key_type.is_ecdsa());
    let loses_kind = is_wanted(old) && !is_wanted(new);
    let lost = wanted
        .iter()
        .filter(|name| holds(old, name) && (loses_kind || !holds(new, name)));
    lost.map(ToString::to_string).collect()
}

/// Returns a name that a leaf validly serves, and that ours holds with the same kind of key.
pub(crate) fn shared_name<'l>(
    theirs: &'l Leaf,
    ours: &Leaf,
    now: OffsetDateTime,
) -> Option<&'l DnsName> {
    let serves = !theirs.self_signed && theirs.not_before <= now && now < theirs.not_after;
    let mut names = theirs.names.iter();
    names.find(|name| {
        let shared = |held: &DnsName| held.covers(name) || name.covers(held);
        serves && same_kind(theirs, ours) && ours.names.iter().any(shared)
    })
}

/// Whether visitors that speak one kind of key can use both leaves. A kind that is not known is
/// like no other.
pub(crate) fn same_kind(one: &Leaf, other: &Leaf) -> bool {
    let is_ecdsa = |leaf: &Leaf| leaf.key_type.map(crate::values::key::KeyType::is_ecdsa);
    is_ecdsa(one).is_some() && is_ecdsa(one) == is_ecdsa(other)
}

/// Returns the kind of a leaf's key, as people call it.
pub(crate) fn kind(leaf: &Leaf) -> Option<&'static str> {
    leaf.key_type.map(|key| match key.is_ecdsa() {
        true => "ECDSA",
        false => "RSA",
    })
}

/// Whether a leaf of ours may take the place of another one of ours: it ends later, or it begins
/// later and has half of its lifetime left, or the other one serves nobody any more.
pub(crate) fn may_follow(new: &Leaf, old: &Leaf, now: OffsetDateTime) -> bool {
    let half = new.not_before + (new.not_after - new.not_before) / 2;
    old.not_after <= now
        || old.self_signed
        || new.not_after > old.not_after
        || (new.not_before > old.not_before && now < half)
}
