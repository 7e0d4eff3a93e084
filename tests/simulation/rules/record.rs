//! Rules 2, 5, 8 and 10: what is written, by which pass, and when.

use certificates::records::state::State;
use time::Duration;

use super::going_back::goes_back;
use super::window::windows;
use crate::ca::Site;
use crate::words;
use crate::world::{ACCOUNT_KEY, THUMBPRINT, World, name_in};

/// Rules 2, 5, 8, 10: what is written, by which pass, and when.
pub(crate) fn before_write(
    world: &mut World,
    pass: u32,
    key: &str,
    body: &[u8],
    state: Option<&State>,
) {
    if let Some(running) = world.passes.get_mut(&pass) {
        running.wrote = true;
    }
    if !["vault/", "accounts/", "challenges/"]
        .iter()
        .any(|secret| key.starts_with(secret))
    {
        secrets(world, key, body);
    }
    let name = name_in(key).unwrap_or_default().to_owned();
    if let Some(state) = state {
        state_write(world, pass, &name, state);
    } else if key.starts_with("vault/") {
        world.needs_lease(pass, &name, &format!("a write of {key}"));
        let serial = key.rsplit('/').next().unwrap_or_default();
        let issued = world.ca.issued.get(serial.trim_end_matches(".json"));
        if issued.is_some_and(|issued| issued.site == Site::Staging) {
            world.broken(format!("rehearsal: {key} comes from a rehearsal"));
        }
    } else if let Some(token) = key.strip_prefix("challenges/") {
        // The probe of a check belongs to no order; it has the certificate's name.
        let is_ahead = token.starts_with("certloop-check");
        let known = is_ahead
            || world
                .states
                .values()
                .any(|state| state.leftovers.tokens.contains(token));
        if !known {
            world.broken(format!(
                "rule 2: the token {token} is put and no state knows of it"
            ));
        }
    }
}

pub(super) fn secrets(world: &mut World, place: &str, text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap_or_default();
    for secret in [THUMBPRINT, ACCOUNT_KEY, "PRIVATE KEY"] {
        if text.contains(secret) {
            world.broken(format!("rule 10: a secret ({secret}) is in {place}"));
        }
    }
}

fn state_write(world: &mut World, pass: u32, name: &str, new: &State) {
    let now = world.now();
    let last = (world.states.get(name)).and_then(|state| state.history.last().cloned());
    let steps = new.history.iter().rev();
    let news: Vec<String> = steps
        .take_while(|step| {
            last.as_ref().is_none_or(|last| {
                (step.at, &step.step, &step.detail) != (last.at, &last.step, &last.detail)
            })
        })
        .map(|step| format!("{}: {}", step.step, step.detail))
        .collect();
    for step in news.iter().rev() {
        let word = step.split(':').next().unwrap_or_default();
        world.tally.count(&format!("step: {word}"));
        world.say(format_args!("pass#{pass} {name}: {step}"));
    }
    if let (Some(lease), Some(running)) = (&new.lease, world.passes.get_mut(&pass)) {
        running.owner = Some(lease.owner.clone());
    }
    let of = |state: &State| {
        let imports = state
            .deployment
            .imports
            .values()
            .flat_map(|import| &import.superseded);
        let old: Vec<String> = imports
            .map(|old| format!("{}, detached {:?}", old.arn, old.detached_at))
            .collect();
        old.join("; ")
    };
    let old = of(new);
    if world.states.get(name).map(of).unwrap_or_default() != old {
        world.say(format_args!("pass#{pass} {name}: superseded: {old}"));
    }
    let before = world.states.get(name);
    if let Some(lease) = before.and_then(|state| state.lease.as_ref()) {
        // Even clocks that count as right may differ by seconds.
        let in_force =
            lease.until > now + Duration::seconds(4) && lease.until <= now + Duration::minutes(15);
        let owner = world.passes.get(&pass).and_then(|pass| pass.owner.as_ref());
        let other = owner != Some(&lease.owner);
        if in_force && other && world.is_steady() {
            world.broken(format!(
                "rule 5: pass#{pass} wrote the state of {name}, whose lease another holds until {}",
                lease.until
            ));
            return;
        }
    }
    windows(world, pass, name, new);
    words::state_written(world, pass, name, new);
    goes_back(world, pass, name, new);
    for revoking in &new.revocations.pending {
        let intents = &mut world.book.revoking;
        intents
            .entry(revoking.serial.clone())
            .or_insert_with(|| (name.to_owned(), now));
    }
    match &new.removing {
        Some(_) => {
            world.book.removing.entry(name.to_owned()).or_insert(now);
        }
        None => {
            world.book.removing.remove(name);
        }
    }
    world.book.state_written.insert(name.to_owned(), now);
    let before = world.states.get(name);
    let url = |state: &State| state.orders.current.as_ref().map(|order| order.url.clone());
    if before.and_then(url).is_some() && url(new).is_none() {
        world.book.order_ended.insert(name.to_owned(), pass);
    }
    let before = world.states.get(name);
    let placed = url(new).filter(|new| before.and_then(url).as_ref() != Some(new));
    if let (Some(placed), Some(held)) = (placed, before.and_then(|state| state.certificate.clone()))
    {
        let wanted = world.wishes_during(name, pass);
        let fits = wanted.iter().flatten().all(|wish| {
            let domains: Vec<String> = held.domains.iter().map(ToString::to_string).collect();
            let sites = wish.sites();
            domains == wish.domains
                && held.key_type == wish.key_type
                && sites.contains(&Site::of_url(&held.directory))
                && !is_revoked(world, &held.serial)
        });
        if world.passes.get(&pass).is_some_and(|pass| pass.force) {
            world.book.forced.insert(name.to_owned(), now);
        }
        let (clock, force) = world
            .passes
            .get(&pass)
            .map_or((now, false), |pass| (pass.clock(now), pass.force));
        let lifetime = held.not_after - held.not_before;
        let left = if lifetime < Duration::days(10) {
            lifetime / 2
        } else {
            lifetime / 3
        };
        let by_lifetime = held.not_after - left - lifetime / 10 - Duration::minutes(1);
        let told = world
            .ca
            .issued
            .get(&held.serial)
            .and_then(|issued| issued.told);
        let earliest = told.map_or(by_lifetime, |told| told.min(by_lifetime));
        // A forced order is completed, by later passes as well.
        let forced = world
            .book
            .forced
            .get(name)
            .is_some_and(|at| now - *at < Duration::days(9));
        // An order that ended unseen is placed again once, by the pass that finds it ended.
        let replaced = world.book.order_ended.get(name) == Some(&pass);
        // Without its key, nobody can bring it to another place: it is renewed at once.
        let key = format!("vault/{name}/{}.json", held.serial);
        let fits = fits && world.objects.contains_key(&key);
        if fits && !force && !forced && !replaced && clock < earliest {
            world.broken(format!(
                "rule 8: {name} holds {}, which is as wanted and not due before {earliest}, and \
                 {placed} was ordered",
                held.serial
            ));
        }
    }
}

pub(super) fn is_revoked(world: &World, serial: &str) -> bool {
    let issued = world.ca.issued.get(serial);
    issued.is_some_and(|issued| issued.revoked.is_some())
}
