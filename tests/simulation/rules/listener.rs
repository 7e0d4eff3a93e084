//! Rules 2, 3 and 5 on listeners: what is added, what is removed, and what must hold at every
//! instant.

use certificates::records::state::State;
use time::{Duration, OffsetDateTime};

use super::knows_arn;
use crate::people::Wish;
use crate::world::World;

/// Rules 3 and 4, and everything else that must hold at every instant.
pub(crate) fn after_event(world: &mut World) {
    let mut broken = None;
    for (arn, listener) in &world.listeners {
        let Some(default) = &listener.holding.default else {
            broken = Some(format!("rule 3: {arn} has no default"));
            break;
        };
        let gone = listener
            .holding
            .list
            .iter()
            .chain([default])
            .find(|held| !world.manager.contains_key(*held));
        if let Some(gone) = gone {
            broken = Some(format!("rule 3: {arn} holds {gone}, which does not exist"));
        }
    }
    for (arn, held) in &world.manager {
        let Some(name) = world.owner_of(arn) else {
            continue;
        };
        let Some(state) = world.states.get(&name) else {
            continue;
        };
        let import = state.deployment.imports.get(&held.region);
        let known = import.is_some_and(|import| {
            import.importing.is_some()
                || import
                    .arn
                    .as_ref()
                    .is_some_and(|known| known.as_str() == arn)
                || import.superseded.iter().any(|old| old.arn.as_str() == arn)
        });
        if !known && !world.visitors.older.contains(arn) {
            broken = Some(format!(
                "rule 4: {arn} is {name}'s and its state does not know of it: it has leaked"
            ));
        }
    }
    if let Some(broken) = broken {
        world.broken(broken);
    }
}

/// Rules 2, 3, 5.
pub(crate) fn before_attach(
    world: &mut World,
    pass: u32,
    listener: &str,
    certificate: &str,
    default: bool,
) {
    let from = world.pass_from(pass);
    let people = world
        .book
        .touched
        .get(listener)
        .is_some_and(|at| *at >= from - Duration::seconds(30));
    let holding = world.listeners[listener].holding.clone();
    match world.owner_of(certificate) {
        Some(name) => {
            let forgotten = world.visitors.older.contains(certificate);
            if !knows_arn(world, &name, certificate) && !forgotten {
                world.broken(format!(
                    "rule 2: {certificate} is attached and no state knows its ARN"
                ));
            }
            let wanted = world
                .wishes_during(&name, pass)
                .iter()
                .flatten()
                .any(|wish| wish.listeners().any(|(arn, _)| arn == listener));
            // Until a leaf for an edited document is issued, the previous text is in force.
            let in_force = (world.states.get(&name)).and_then(|state| state.in_force.as_ref());
            let was_wanted = in_force.is_some_and(|word| {
                let mut targets = word.targets.iter();
                targets.any(|target| format!("{target:?}").contains(listener))
            });
            let wanted = wanted || was_wanted;
            // A certificate of others may move from the default to the list.
            if !wanted && !holding.has(certificate) {
                world.broken(format!(
                    "rule 3: {certificate} of {name} is attached to {listener}, where no document \
                     wants it"
                ));
            }
            // The certificate that took its place may put it back.
            let comes_back = world.states.iter().any(|(other, state)| {
                let mut targets = state.deployment.targets.iter();
                world.has_lease(pass, other)
                    && targets.any(|target| target.to_restore.holds(certificate))
            });
            if wanted && !comes_back && !holding.has(certificate) {
                world.needs_lease(pass, &name, "an attachment");
            }
        }
        None => {
            let comes_back = world.states.values().any(|state| {
                state
                    .deployment
                    .targets
                    .iter()
                    .any(|target| target.id == listener && target.to_restore.holds(certificate))
            });
            // Without its tags it is not overwritten and not deleted, but it may stay where it was.
            let known = world
                .states
                .keys()
                .any(|name| knows_arn(world, name, certificate));
            if !holding.has(certificate) && !comes_back && !people && !known {
                world.broken(format!(
                    "rule 3: {certificate} is not ours and is attached to {listener}"
                ));
            }
        }
    }
    let Some(old) = holding.default.filter(|old| default && *old != certificate) else {
        return;
    };
    world.tally.count("default replaced");
    let now = world.now();
    if world.owner_of(&old).is_some() && world.owner_of(&old) == world.owner_of(certificate) {
        world.book.was_default.insert(old.clone());
        world.book.detached.insert(old, now);
        return;
    }
    let clock = world.passes.get(&pass).map_or(now, |pass| pass.clock(now));
    let Some(held) = world.manager.get(&old) else {
        return;
    };
    let owner = world.owner_of(certificate);
    let wishes: Vec<Wish> = owner
        .iter()
        .flat_map(|name| world.wishes_during(name, pass))
        .flatten()
        .cloned()
        .collect();
    // Whether ours serves everything that it serves is a question of rule 12, if that is checked.
    let gives_way = world.visitors.is_on()
        || held.leaf.self_signed
        || held.leaf.not_after <= clock
        || wishes.iter().any(|wish| {
            wish.supersedes.contains(&old)
                || held
                    .leaf
                    .names
                    .iter()
                    .all(|name| wish.domains.contains(&name.to_string()))
        })
        // It is also ours if a person removed our tags from it.
        || world.states.keys().any(|name| knows_arn(world, name, &old));
    // A certificate that is put back takes the place of ours.
    let put_back = owner.is_none();
    if !gives_way && !put_back && !people && !holding.list.contains(&old) {
        world.broken(format!(
            "rule 3: {old} was the default of {listener}, is not ours, and is lost"
        ));
    }
}

/// Rules 3, 5.
pub(crate) fn before_detach(world: &mut World, pass: u32, listener: &str, certificate: &str) {
    let now = world.now();
    let holding = world.listeners[listener].holding.clone();
    if !holding.list.iter().any(|held| held == certificate) {
        return;
    }
    let Some(name) = world.owner_of(certificate) else {
        let holder = world
            .states
            .iter()
            .find(|(name, _)| knows_arn(world, name, certificate));
        // One of ours that lost its tags leaves like the previous one: it must not hide another
        // one.
        let has_lost_tags = |state: &State| {
            let mut lost = state
                .deployment
                .imports
                .values()
                .flat_map(|import| &import.untagged);
            lost.any(|lost| lost.arn.as_str() == certificate)
        };
        if holder.is_some() || world.states.values().any(has_lost_tags) {
            return;
        }
        let takes_over = |wish: &Wish| {
            wish.supersedes.iter().any(|old| old == certificate)
                && wish.listeners().any(|(arn, _)| arn == listener)
        };
        // An expired one may go by the word of a former document, which is in force until a leaf
        // for the present one is issued.
        let held = world.manager.get(certificate);
        let is_over = held.is_some_and(|held| held.leaf.not_after < now);
        let successors: Vec<String> = world
            .wishes
            .iter()
            .filter(|(name, wished)| {
                let present = world.wishes_during(name, pass);
                let mut former = wished.versions.iter().filter_map(|(_, wish)| wish.as_ref());
                present.iter().flatten().any(|wish| takes_over(wish))
                    || is_over && former.any(takes_over)
            })
            .map(|(name, _)| name.clone())
            .collect();
        if successors.is_empty() {
            world.broken(format!(
                "rule 3: {certificate} is not ours, no document supersedes it, and it is removed \
                 from {listener}"
            ));
        } else if !successors
            .iter()
            .any(|name| stands_on(world, name, listener, certificate, now))
        {
            world.broken(format!(
                "rule 3: {certificate} is removed from {listener} before its successor is there"
            ));
        }
        world.tally.count("superseded one of others taken off");
        return;
    };
    world.needs_lease(pass, &name, "a detachment");
    world.book.detached.insert(certificate.to_owned(), now);
    let always_wanted = world
        .wishes_during(&name, pass)
        .iter()
        .all(|wish| wish.is_some_and(|wish| wish.listeners().any(|(arn, _)| arn == listener)));
    if always_wanted {
        world.tally.count("switch: old one taken off");
        if !stands_on(world, &name, listener, certificate, now) {
            world.broken(format!(
                "rule 3: {certificate} of {name} is removed from {listener}, and no other one of \
                 it stays there"
            ));
        }
    }
}

/// Whether a listener has another valid certificate of this document.
fn stands_on(world: &World, name: &str, listener: &str, but: &str, now: OffsetDateTime) -> bool {
    let holding = &world.listeners[listener].holding;
    holding.list.iter().chain(&holding.default).any(|held| {
        held != but
            && (world.owner_of(held).as_deref() == Some(name) || knows_arn(world, name, held))
            && world
                .manager
                .get(held)
                .is_some_and(|held| held.leaf.not_after > now)
    })
}

/// A load balancer accepts this many certificates besides the defaults.
pub(super) const FULL: usize = 25;
