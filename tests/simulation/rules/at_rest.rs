//! What must hold some time after all disturbance: everything is as wanted, and no leftover of ours
//! remains.

use certificates::contract::settings::Orphans;
use certificates::values::chain::same_serial;
use certificates::values::key::KeyType;
use time::{Duration, OffsetDateTime};

use super::going_back::went_back_onto_another;
use super::knows_arn;
use super::record::is_revoked;
use crate::aws::covers;
use crate::people::{Target, Wish};
use crate::words;
use crate::world::{HOME, World, name_in};

/// A day after the last disturbance everything is as wanted, and no leftover of ours remains.
pub(crate) fn all_is_well(world: &mut World) {
    let now = world.now();
    let mut problems = Vec::new();
    let mut looked_at = 0;
    let mut all_calm = true;
    let mut calm = Vec::new();
    for (name, wished) in &world.wishes {
        let Some(wish) = wished.now().filter(|wish| !wish.paused) else {
            all_calm = false;
            if wished.now().is_none() && world.calm_since(name) + CALM < now {
                problems.extend(not_gone(world, name, now));
            }
            continue;
        };
        let is_settled = world.calm_since(name) + CALM <= now;
        if is_settled {
            calm.push((name.clone(), wish.clone()));
        }
        if !is_settled || needs_person(world, name, wish) || went_back_onto_another(world, name) {
            all_calm = false;
            continue;
        }
        looked_at += 1;
        problems.extend(
            not_well(world, name, wish, now)
                .into_iter()
                .map(|problem| format!("{name}: {problem}")),
        );
    }
    if all_calm && looked_at > 0 {
        let left = world
            .objects
            .keys()
            .filter(|key| key.starts_with("challenges/"))
            .count();
        if left > 0 {
            problems.push(format!("{left} tokens are left over"));
        }
        world.tally.count("calm worlds looked at");
    }
    for _ in 0..looked_at {
        world.tally.count("calm certificates looked at");
    }
    if !problems.is_empty() {
        world.broken(format!(
            "not in order a day after the last disturbance: {}",
            problems.join("; ")
        ));
    }
    for (name, wish) in calm {
        words::calm(world, &name, &wish);
    }
}

/// Returns the leftovers of a removed certificate.
fn not_gone(world: &World, name: &str, now: OffsetDateTime) -> Vec<String> {
    let mut problems = Vec::new();
    let removing = world.book.removing.get(name);
    let state = world.states.get(name);
    let documents = world
        .wishes
        .values()
        .filter(|wished| wished.now().is_some());
    let documents = documents.count();
    let orphans = (world.states.keys()).filter(|name| {
        !world
            .objects
            .contains_key(&format!("certificates/{name}.json"))
    });
    let orphans = orphans.count();
    // There are so many orphans that certloop does nothing by itself.
    let is_kept = orphans > 3 && orphans > documents;
    if removing.is_none() && state.is_some() {
        if world.settings.orphans == Orphans::Remove && !is_kept {
            problems.push(format!(
                "{name}: its document is gone and nothing removes it"
            ));
        }
        return problems;
    }
    let is_default = |arn: &str| {
        let mut listeners = world.listeners.values();
        listeners.any(|listener| listener.holding.default.as_deref() == Some(arn))
    };
    for (listener, it) in &world.listeners {
        for held in &it.holding.list {
            let older = world.visitors.older.contains(held) && !knows_arn(world, name, held);
            if world.owner_of(held).as_deref() == Some(name) && !is_default(held) && !older {
                problems.push(format!("{name}: {held} is left on {listener}"));
            }
        }
    }
    // One without our tags may be a default as well.
    let mut stays = world
        .manager
        .keys()
        .any(|arn| is_default(arn) && knows_arn(world, name, arn));
    for arn in world.manager.keys() {
        let older = world.visitors.older.contains(arn) && !knows_arn(world, name, arn);
        if world.owner_of(arn).as_deref() != Some(name) || older {
            continue;
        }
        if is_default(arn) {
            stays = true;
            continue;
        }
        let left_at = world.book.detached.get(arn);
        if left_at.is_none_or(|at| now - *at > Duration::DAY) {
            problems.push(format!("{name}: {arn} is left in the certificate manager"));
        }
    }
    let told = state.and_then(|state| state.deployment.failure.as_ref());
    if stays && told.is_none_or(|told| told.problem.kind != "certloop:stillDefault") {
        problems.push(format!("{name}: it stays a default and no report says so"));
    }
    let week = removing.is_none_or(|since| *since + Duration::days(8) < now);
    if week && !stays {
        let left = world.objects.keys().find(|key| {
            ["state/", "vault/", "certificates/"]
                .iter()
                .any(|folder| key.starts_with(folder))
                && name_in(key) == Some(name)
        });
        if let Some(left) = left {
            problems.push(format!("{name}: {left} is left in the bucket"));
        }
    }
    problems
}

/// What certloop does not repair by itself. A default of a certificate without a document is one.
const FOR_A_PERSON: [&str; 2] = ["certloop:arnWouldChange", "certloop:contended"];

/// Whether a problem remains that only a person can repair.
pub(super) fn needs_person(world: &World, name: &str, wish: &Wish) -> bool {
    let full = wish.listeners().any(|(arn, _)| {
        let listener = &world.listeners[arn];
        listener.holding.list.len() >= listener.quota
    });
    let refused = world.states.get(name).is_some_and(|state| {
        let failures = [&state.orders.failure, &state.deployment.failure];
        failures
            .into_iter()
            .flatten()
            .any(|failure| FOR_A_PERSON.contains(&&*failure.problem.kind))
    });
    // A certificate of others for the same name is on the same listener: which one is served is
    // unpredictable.
    let rivalled = wish.listeners().any(|(arn, _)| {
        let holding = &world.listeners[arn].holding;
        holding.list.iter().chain(&holding.default).any(|held| {
            let ours =
                world.owner_of(held).as_deref() == Some(name) || knows_arn(world, name, held);
            !ours
                && !wish.supersedes.contains(held)
                && world.manager.get(held).is_some_and(|held| {
                    let ecdsa = held.leaf.key_type.is_some_and(KeyType::is_ecdsa);
                    ecdsa == wish.key_type.is_ecdsa()
                        && wish.domains.iter().any(|name| covers(&held.leaf, name))
                })
        })
    });
    full || refused
        || rivalled
        || is_held_back(world, name)
        || needs_person_by_rule_12(world, name, wish)
}

/// Whether another document holds the place, or something superseded stays: a person has to decide.
pub(super) fn is_held_back(world: &World, name: &str) -> bool {
    world.states.get(name).is_some_and(|state| {
        let mut targets = state.deployment.targets.iter();
        !state.deployment.contended.is_empty() || targets.any(|target| !target.stays.is_empty())
    })
}

/// Whether a document supersedes another document's certificate: then it is refused.
pub(super) fn is_refused(world: &World, name: &str, wish: &Wish) -> bool {
    let owners = wish.supersedes.iter().filter_map(|old| world.owner_of(old));
    owners.into_iter().any(|owner| owner != name)
}

/// Whether another document wants the same place, a superseded certificate of others serves more
/// than ours, or the bucket does not know one of ours.
fn needs_person_by_rule_12(world: &World, name: &str, wish: &Wish) -> bool {
    if !world.visitors.is_on() {
        return false;
    }
    let stays = wish.listeners().any(|(arn, _)| {
        let holding = &world.listeners[arn].holding;
        holding.list.iter().chain(&holding.default).any(|held| {
            let forgotten = world.visitors.older.contains(held)
                && world.owner_of(held).as_deref() == Some(name)
                && !knows_arn(world, name, held);
            let theirs = world.owner_of(held).is_none() && wish.supersedes.contains(held);
            forgotten
                || theirs
                    && world.manager.get(held).is_some_and(|held| {
                        wish.domains.iter().any(|name| covers(&held.leaf, name))
                    })
        })
    });
    stays || is_refused(world, name, wish) || words::rival(world, name, wish).is_some()
}

fn not_well(world: &World, name: &str, wish: &Wish, now: OffsetDateTime) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(state) = world.states.get(name) else {
        return vec!["it has no state".to_owned()];
    };
    let failures = [&state.orders.failure, &state.deployment.failure];
    let why: Vec<String> = failures
        .into_iter()
        .flatten()
        .map(|failure| format!("{} until {}", failure.problem.detail, failure.next_attempt))
        .collect();
    let Some(held) = &state.certificate else {
        return vec![format!("it has no certificate ({})", why.join("; "))];
    };
    let domains: Vec<String> = held.domains.iter().map(ToString::to_string).collect();
    let document = world.objects.get(&format!("certificates/{name}.json"));
    let document = document.map(|stored| stored.etag.as_str());
    let back = world.book.rolled_back.get(name);
    // A pause, tags or `partial` do not end a rollback; only other changes do.
    let word = (world.states.get(name))
        .and_then(|state| state.previous.rolled_back.as_ref())
        .and_then(|back| back.word.as_ref());
    let says_the_same = word.is_some_and(|word| {
        word.key_type == wish.key_type
            && word.domains.len() == wish.domains.len()
            && (word.domains.iter())
                .all(|name| wish.domains.iter().any(|wanted| wanted == name.as_str()))
    });
    let is_held_back = back.is_some_and(|back| {
        back.serial == held.serial && (back.document.as_deref() == document || says_the_same)
    });
    if !is_held_back && (domains != wish.domains || held.key_type != wish.key_type) {
        problems.push(format!(
            "its certificate is not as wanted ({})",
            why.join("; ")
        ));
    }
    if is_revoked(world, &held.serial) {
        problems.push(format!("its certificate is revoked ({})", why.join("; ")));
    }
    let due = match is_held_back {
        true => held.not_after - Duration::min(held.lifetime() / 20, Duration::DAY),
        false => held.renew_at(),
    };
    if held.not_after <= now || due + Duration::hours(30) < now {
        problems.push(format!(
            "it is overdue since {} ({})",
            held.renew_at(),
            why.join("; ")
        ));
    }
    for target in &wish.targets {
        let region = match target {
            Target::Listener { .. } => HOME,
            Target::Manager { region } => region,
        };
        let arn = state
            .deployment
            .imports
            .get(region)
            .and_then(|import| import.arn.as_ref())
            .map(|arn| arn.as_str());
        let stands = arn
            .and_then(|arn| world.manager.get(arn))
            .is_some_and(|it| same_serial(&it.leaf.serial, &held.serial));
        if !stands {
            problems.push(format!(
                "{region} does not hold its certificate ({})",
                why.join("; ")
            ));
            continue;
        }
        if let Target::Listener {
            arn: listener,
            default,
        } = target
        {
            let holding = &world.listeners[listener].holding;
            let arn = arn.unwrap_or_default();
            // After a rollback the certificate stays where it was: the document is not in force.
            let there = if *default && state.previous.rolled_back.is_none() {
                holding.default.as_deref() == Some(arn)
            } else {
                holding.has(arn)
            };
            if !there {
                problems.push(format!("{listener} does not hold it ({})", why.join("; ")));
            }
        }
    }
    if let Some(order) = &state.orders.current {
        problems.push(format!(
            "{} is still in progress ({})",
            order.url,
            why.join("; ")
        ));
    }
    if world.pending.contains_key(name) {
        problems.push("the key of an order is left over".to_owned());
    }
    let prefix = format!("vault/{name}/");
    for key in world.vault.keys().filter(|key| key.starts_with(&prefix)) {
        let serial = key[prefix.len()..].trim_end_matches(".json");
        let is_needed = serial == held.serial
            || state.previous.serial.as_deref() == Some(serial)
            || state.revocations.is_pending(serial);
        if !is_needed {
            problems.push(format!("{key} is left over"));
        }
    }
    let regions = wish.regions();
    for (arn, it) in &world.manager {
        if world.owner_of(arn).as_deref() != Some(name) {
            continue;
        }
        let import = state.deployment.imports.get(&it.region);
        let current = import.is_some_and(|import| {
            import
                .arn
                .as_ref()
                .is_some_and(|current| current.as_str() == arn)
        });
        let used = world
            .listeners
            .values()
            .any(|listener| listener.holding.has(arn));
        // A delayed switch: the overlap has only begun.
        let left_at = world.book.detached.get(arn);
        if left_at.is_some_and(|at| now - *at < Duration::DAY) {
            continue;
        }
        if world.visitors.older.contains(arn) && !knows_arn(world, name, arn) {
            continue;
        }
        if (!current || !regions.contains(&it.region.as_str())) && !used {
            problems.push(format!("{arn} is left over"));
        }
    }
    problems
}

/// How long nothing may have been out of order before everything must be well.
const CALM: Duration = Duration::hours(54);
