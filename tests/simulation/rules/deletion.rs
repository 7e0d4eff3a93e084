//! What may be deleted: objects of the bucket, and certificates of the certificate manager.

use certificates::ports::authority::AuthorizationStatus;
use time::Duration;

use crate::world::{World, name_in};

/// What a pass may delete.
pub(crate) fn before_object_deletion(world: &mut World, pass: u32, key: &str) {
    if let Some(running) = world.passes.get_mut(&pass) {
        running.wrote = true;
    }
    let name = name_in(key).unwrap_or_default().to_owned();
    if key.starts_with("vault/") {
        world.needs_lease(pass, &name, &format!("a deletion of {key}"));
        let serial = key
            .rsplit('/')
            .next()
            .and_then(|file| file.strip_suffix(".json"))
            .unwrap_or_default();
        let may_go = is_to_be_forgotten(world, &name);
        let state = world.states.get(&name);
        let needed = !may_go
            && state.is_some_and(|state| {
                state
                    .certificate
                    .as_ref()
                    .is_some_and(|held| held.serial == serial)
                    || state.previous.serial.as_deref() == Some(serial)
            });
        if needed {
            world.broken(format!(
                "rule 1: {key} is deleted and is the current or previous certificate"
            ));
        }
    } else if let Some(token) = key.strip_prefix("challenges/") {
        let holders = world.states.values();
        let holders = holders.filter(|state| state.leftovers.tokens.contains(token));
        let several = holders.count() > 1;
        let looked_at = world.ca.authorizations.values().any(|known| {
            known.token == token && known.answered && known.status == AuthorizationStatus::Pending
        });
        let fault = world.passes.get(&pass).is_some_and(|pass| pass.met_fault);
        if several || looked_at && fault {
            world.tally.count("token of two documents deleted");
            world.book.shared_tokens.insert(token.to_owned());
        }
    } else if key.starts_with("certificates/") {
        let running = world.passes.get(&pass);
        let asked = world.states.get(&name).is_some_and(|state| {
            let removing = state.removing.as_ref();
            let asked_for = removing.and_then(|removing| removing.document.as_ref());
            asked_for == world.objects.get(key).map(|stored| &stored.etag)
        });
        if !asked || running.is_none() {
            world.broken(format!(
                "removal: {key} is deleted, and nobody asked for that"
            ));
        }
        world.needs_lease(pass, &name, "a deletion of the document");
        world.tally.count("removal: document deleted");
    } else if key.starts_with("state/") {
        let owned = world.manager.keys().cloned().collect::<Vec<_>>();
        let left = owned
            .iter()
            .find(|arn| world.owner_of(arn).as_deref() == Some(&name))
            .filter(|arn| !world.visitors.older.contains(*arn));
        if let Some(left) = left {
            world.broken(format!("rule 4: {key} is deleted and {left} stays"));
        }
        if !is_to_be_forgotten(world, &name) && world.is_steady() {
            world.broken(format!(
                "removal: {key} is deleted before a week without its document is over"
            ));
        }
        world.needs_lease(pass, &name, "a deletion of the state");
        world.book.rolled_back.remove(&name);
        world.book.removing.remove(&name);
        world.tally.count("removal: all forgotten");
    } else {
        world.broken(format!("rule 6: {key} is deleted"));
    }
}

/// Whether a removal has been in progress for a week: then the bucket's objects may go.
fn is_to_be_forgotten(world: &World, name: &str) -> bool {
    let week = Duration::weeks(1) - Duration::minutes(5);
    let since = world.book.removing.get(name).copied();
    // A wrong clock may have recorded an instant long ago.
    let written = world
        .states
        .get(name)
        .and_then(|state| state.removing.as_ref());
    let since = since.map(|since| written.map_or(since, |removal| since.min(removal.at)));
    let is_over = since.is_some_and(|since| world.now() - since >= week);
    (is_over || !world.is_steady())
        && !world
            .objects
            .contains_key(&format!("certificates/{name}.json"))
}

/// Rules 3, 4, 5.
pub(crate) fn before_certificate_deletion(world: &mut World, pass: u32, arn: &str) {
    let Some(held) = world.manager.get(arn) else {
        return;
    };
    let region = held.region.clone();
    let Some(name) = world.owner_of(arn) else {
        let touched = world
            .book
            .touched
            .get(arn)
            .is_some_and(|at| *at >= world.pass_from(pass));
        if !touched {
            world.broken(format!("rule 3: {arn} is not ours and is deleted"));
        }
        return;
    };
    world.needs_lease(pass, &name, "a deletion in the certificate manager");
    let import = world
        .states
        .get(&name)
        .and_then(|state| state.deployment.imports.get(&region));
    if import.is_some_and(|import| {
        import
            .arn
            .as_ref()
            .is_some_and(|current| current.as_str() == arn)
    }) {
        world.broken(format!(
            "rule 4: {arn} is the current one of {name} and is deleted"
        ));
    }
    let now = world.now();
    #[allow(clippy::cast_possible_wrap)]
    let overlap = Duration::seconds(world.settings.limits.overlap_seconds as i64);
    let early = world
        .book
        .detached
        .get(arn)
        .is_some_and(|at| now - *at + Duration::seconds(10) < overlap);
    // A default that only others could replace left when they did so. The overlap counts from the
    // last instant it was seen in use.
    let left_by_others = world.book.was_default.contains(arn);
    if early && world.is_steady() && !left_by_others {
        world.broken(format!(
            "rule 3: {arn} is deleted before the overlap is over"
        ));
    }
    world.tally.count("deletion of a superseded one");
}
