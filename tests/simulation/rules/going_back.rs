//! Rollback and revocation: only on request, and they persist.

use certificates::invocation::actions::Action;
use certificates::records::state::State;
use certificates::values::chain::same_serial;
use time::Duration;

use super::RolledBack;
use super::record::is_revoked;
use crate::ca::Window;
use crate::world::World;

/// A rollback persists until the document changes, the renewal is forced, the certificate is
/// revoked, its authority asks for its renewal, it nears its end, or a person rolls back from it.
pub(super) fn goes_back(world: &mut World, pass: u32, name: &str, new: &State) {
    let now = world.now();
    let serial = |state: &State| Some(state.certificate.as_ref()?.serial.clone());
    let holds = new
        .previous
        .rolled_back
        .as_ref()
        .map(|back| back.document.clone());
    if holds.is_none() && world.passes.get(&pass).is_some_and(|pass| pass.force) {
        // A forced renewal ends the hold, whether or not it succeeds at once; from now on the
        // document counts.
        if world.book.rolled_back.remove(name).is_some() {
            world.disturb_certificate(name);
        }
    }
    let (Some(before), Some(new)) = (world.states.get(name).and_then(serial), serial(new)) else {
        return;
    };
    if before == new {
        return;
    }
    let running = world.passes.get(&pass);
    let asked = running.and_then(|running| running.errand.as_ref());
    let previous = world
        .states
        .get(name)
        .and_then(|state| state.previous.serial.clone());
    let goes_back = matches!(asked, Some((_, Action::RollBack { .. })));
    if goes_back && previous.as_ref() == Some(&new) {
        world.tally.count("rolled back");
        match holds {
            Some(document) => {
                let back = RolledBack {
                    serial: new,
                    document: Some(document),
                };
                world.book.rolled_back.insert(name.to_owned(), back);
            }
            // Back to the newer one: the rollback has ended.
            None => {
                world.book.rolled_back.remove(name);
            }
        }
        return;
    }
    let Some(back) = world.book.rolled_back.remove(name) else {
        return;
    };
    if back.serial != before {
        return;
    }
    let document = world.objects.get(&format!("certificates/{name}.json"));
    let document = document.map(|stored| stored.etag.clone());
    let edited = document != back.document || world.wishes_during(name, pass).len() > 1;
    let forced = world
        .book
        .forced
        .get(name)
        .is_some_and(|at| now - *at < Duration::days(9));
    let (clock, force) = running.map_or((now, false), |pass| (pass.clock(now), pass.force));
    let issued = &world.ca.issued[&before];
    let lifetime = issued.not_after - issued.not_before;
    let near = if lifetime < Duration::days(10) {
        lifetime / 4
    } else {
        Duration::max(lifetime / 20, Duration::DAY)
    };
    let ends = issued.not_after - clock <= near + Duration::minutes(1);
    // If the authority has not answered since, its last answer about the window counts.
    let known = world
        .states
        .get(name)
        .and_then(|state| state.certificate.as_ref());
    let known = known.and_then(|held| held.renewal.information.as_ref()?.window.as_ref());
    let wanted_back =
        matches!(issued.window, Window::Past(_)) || known.is_some_and(|known| known.end <= clock);
    let why = [
        (edited, "the document changed"),
        (force || forced, "it was forced"),
        (ends, "it neared its end"),
        (wanted_back, "its authority wanted it back"),
    ];
    match why.iter().find(|(holds, _)| *holds) {
        Some((_, why)) => world.tally.count(&format!("hold ended: {why}")),
        None if world.is_steady() => world.broken(format!(
            "rollback: {name} was taken back to {before}, and pass#{pass} replaces it by {new}"
        )),
        None => {}
    }
}

/// Only a certificate that a person asked to revoke is revoked, and the record has the request
/// first.
pub(crate) fn before_revocation(world: &mut World, pass: u32, serial: &str) {
    // Another pass was faster, and this request changes nothing.
    if is_revoked(world, serial) {
        return;
    }
    let holder = world.states.iter().find(|(_, state)| {
        let mut revoking = state.revocations.pending.iter();
        revoking.any(|revoking| same_serial(&revoking.serial, serial))
    });
    let Some(name) = holder.map(|(name, _)| name.clone()) else {
        world.broken(format!(
            "revocation: pass#{pass} revokes {serial}, and no state says so"
        ));
        return;
    };
    world.needs_lease(pass, &name, "a revocation");
}

/// Whether a person rolled back to a certificate whose names another document has by now, with a
/// key of the same kind: a listener shows only one of the two.
pub(super) fn went_back_onto_another(world: &World, name: &str) -> bool {
    let held = |name: &str| world.states.get(name)?.certificate.as_ref();
    let Some(ours) = held(name).filter(|_| world.book.rolled_back.contains_key(name)) else {
        return false;
    };
    let others = world.states.keys().filter(|other| other.as_str() != name);
    others.filter_map(|other| held(other)).any(|theirs| {
        theirs.key_type.is_ecdsa() == ours.key_type.is_ecdsa()
            && theirs
                .domains
                .iter()
                .any(|domain| ours.domains.contains(domain))
    })
}
