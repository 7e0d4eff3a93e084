//! Pure: which certificates may leave a target, and which may be replaced (rule 12). The leaves
//! that were read decide, never the wishes of a document.

use time::OffsetDateTime;

use crate::values::chain::Leaf;
use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// Returns what clients would lose if this leaf of others left the place where ours is: its names,
/// or other subjects that it is valid for. Empty if the leaf may leave.
///
/// A leaf validly serves a name if it holds the name, is neither expired nor self-signed, and the
/// client supports its kind of key. A client that supports only RSA cannot use an ECDSA leaf.
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

/// Returns the names that would be lost if `new` replaced `old`, both ours: names that the document
/// wants and `old` holds, but `new` does not hold with the kind of key that the document wants.
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

/// Returns a name that a leaf of others validly serves and that ours holds with the same kind of
/// key.
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

/// Whether both leaves have the same kind of key, so that the same clients can use them. An unknown
/// kind equals no other.
pub(crate) fn same_kind(one: &Leaf, other: &Leaf) -> bool {
    let is_ecdsa = |leaf: &Leaf| leaf.key_type.map(crate::values::key::KeyType::is_ecdsa);
    is_ecdsa(one).is_some() && is_ecdsa(one) == is_ecdsa(other)
}

/// The kind of a leaf's key, in words.
pub(crate) fn kind(leaf: &Leaf) -> Option<&'static str> {
    leaf.key_type.map(|key| match key.is_ecdsa() {
        true => "ECDSA",
        false => "RSA",
    })
}

/// Whether a leaf of ours may replace another one of ours: it ends later, or it begins later and
/// has half of its lifetime left, or the old one is of no use any more (ended or self-signed).
pub(crate) fn may_follow(new: &Leaf, old: &Leaf, now: OffsetDateTime) -> bool {
    let half = new.not_before + (new.not_after - new.not_before) / 2;
    old.not_after <= now
        || old.self_signed
        || new.not_after > old.not_after
        || (new.not_before > old.not_before && now < half)
}
/// Whether an authority may have added a name of its own accord: some add `www.` before each name.
pub(crate) fn may_be_added(name: &DnsName, wanted: &[DnsName]) -> bool {
    let base = name.as_str().strip_prefix("www.");
    base.is_some_and(|base| wanted.iter().any(|wanted| wanted.as_str() == base))
        && !wanted.contains(name)
}
