//! What must hold as time passes.

use time::{Duration, OffsetDateTime};

use super::at_rest::{is_held_back, is_refused, needs_person};
use super::knows_arn;
use super::listener::FULL;
use super::record::is_revoked;
use crate::aws::{covers, served};
use crate::people::Wish;
use crate::world::{EPOCH, Wished, World};

/// What must hold as time passes.
pub(crate) fn time_passes(world: &mut World) {
    let now = world.now();
    let mut broken = None;
    let mut expired = 0;
    for (name, wished) in &world.wishes {
        let Some(wish) = wished.now() else { continue };
        let sound = world.calm_but_for_others_since(name);
        let replaced = others_replaced(world, name, wish, now);
        let calm = world.calm_since(name) + Duration::days(3) < now;
        if let Some(why) = replaced
            && !(is_held_back(world, name)
                || world.visitors.is_on() && needs_person(world, name, wish))
        {
            broken = Some(why);
        }
        // Where a person has to decide first, no order is allowed.
        let waits =
            is_held_back(world, name) || world.visitors.is_on() && needs_person(world, name, wish);
        for (domain, why) in unprovided(world, name, wish, sound, now) {
            if waits {
                break;
            }
            broken = Some(format!("partial: {domain} of {name} {why}"));
        }
        for (listener, _) in wish.listeners() {
            for domain in &wish.domains {
                let Some((arn, leaf)) =
                    served(world, listener, domain, wish.key_type.is_ecdsa(), now)
                else {
                    continue;
                };
                if leaf.not_after < now && covers(leaf, domain) {
                    expired += 1;
                    // Certificates that others attached, or that lost our tags, are not ours to
                    // renew.
                    let ours =
                        world.owner_of(arn).as_ref() == Some(name) || knows_arn(world, name, arn);
                    if calm && ours && !wish.paused && !needs_person(world, name, wish) {
                        broken = Some(format!(
                            "{domain} of {name} is served {} ({arn}) on {listener}, which expired \
                             at {}, and nothing was out of order for three days",
                            leaf.serial, leaf.not_after
                        ));
                    }
                }
            }
        }
    }
    for (serial, (name, since)) in &world.book.revoking {
        let wish = world.wishes.get(name).and_then(Wished::now);
        let calm = world.calm_since(name).max(*since);
        if wish.is_some()
            && calm + REPLACED_WITHIN < now
            && !is_revoked(world, serial)
            // An expired certificate needs no revocation.
            && world.ca.issued[serial].not_after > calm + REPLACED_WITHIN
            && !world.book.removing.contains_key(name)
            && !is_lost(world, name, serial)
        {
            broken = Some(format!(
                "revocation: {serial} of {name} should be revoked since {since}, and is not"
            ));
        }
    }
    if expired > 0 {
        world.tally.count("expired one served for a reason");
    }
    if let Some(broken) = broken {
        world.broken(broken);
    }
}

/// Whether a restored bucket lost a leaf that the certificate manager does not hold either. Nobody
/// can revoke it any more; the report says so.
fn is_lost(world: &World, name: &str, serial: &str) -> bool {
    let is_held = |holding: &crate::aws::AcmCertificate| holding.leaf.serial == serial;
    world.visitors.restored_at.is_some()
        && !world
            .objects
            .contains_key(&format!("vault/{name}/{serial}.json"))
        && !world.manager.values().any(is_held)
}

/// A revoked certificate is replaced within a day where that is possible.
fn others_replaced(world: &World, name: &str, wish: &Wish, now: OffsetDateTime) -> Option<String> {
    let state = world.states.get(name)?;
    let held = state.certificate.as_ref()?;
    let revoked = world.ca.issued.get(&held.serial)?.revoked?;
    let calm = world.calm_since(name).max(revoked);
    let overdue = calm + REPLACED_WITHIN < now;
    (overdue && !wish.paused).then(|| {
        let why = state.orders.failure.as_ref();
        let why =
            why.map(|failure| format!("{} until {}", failure.problem.detail, failure.next_attempt));
        format!(
            "revocation: {} of {name} was revoked at {revoked} and is still the wanted one, and \
             nothing was out of order since {calm} ({})",
            held.serial,
            why.unwrap_or_default()
        )
    })
}

/// Returns the names that could have been validated for a day and are in no valid certificate,
/// although the document allows missing names.
fn unprovided<'w>(
    world: &'w World,
    name: &str,
    wish: &'w Wish,
    sound: OffsetDateTime,
    now: OffsetDateTime,
) -> Vec<(&'w str, String)> {
    // A name that others serve as well may be theirs to validate.
    let is_held = world.book.rolled_back.contains_key(name) || is_held_back(world, name);
    if !wish.partial || wish.paused || is_held {
        return Vec::new();
    }
    let sound = sound.max(world.first_down);
    let state = world.states.get(name);
    let held = state.and_then(|state| state.certificate.as_ref());
    // A served certificate is not given up for a new name.
    let blocked = held.is_some_and(|held| {
        held.not_after > now
            && held.domains.iter().any(|known| {
                world.astray.contains_key(known.as_str())
                    || world.ca.paused.contains_key(known.as_str())
                    || (world.back_at.get(known.as_str()))
                        .is_some_and(|back| *back + PROVIDED_WITHIN >= now)
            })
    });
    // No order for a certificate that cannot be attached.
    let is_full = |(listener, _): (&str, bool)| {
        let listener = world.listeners.get(listener);
        listener.is_some_and(|it| it.holding.list.len() >= it.quota.min(FULL))
    };
    // Nor for a place that another document holds.
    let is_contended = world.visitors.is_on() && crate::words::rival(world, name, wish).is_some();
    let is_refused = is_refused(world, name, wish);
    if blocked || is_contended || is_refused || wish.listeners().any(is_full) {
        return Vec::new();
    }
    let provable = |domain: &&String| {
        let back = world.back_at.get(*domain).copied();
        !world.astray.contains_key(*domain)
            && !world.ca.paused.contains_key(*domain)
            && sound.max(back.unwrap_or(EPOCH)) + PROVIDED_WITHIN < now
    };
    let has = |domain: &String| {
        held.is_some_and(|held| {
            held.not_after > now && held.domains.iter().any(|known| known.as_str() == domain)
        })
    };
    let domains = wish.domains.iter().filter(provable);
    domains
        .filter(|domain| !has(domain))
        .map(|domain| {
            let missing = state.map(|state| &state.orders.missing);
            let failure = state.and_then(|state| state.orders.failure.as_ref());
            let why = format!(
                "could be proved since {sound} and is in no valid certificate ({:?}; {:?})",
                missing.map(|missing| missing.keys().map(ToString::to_string).collect::<Vec<_>>()),
                failure.map(|failure| (&failure.problem.detail, failure.next_attempt))
            );
            (domain.as_str(), why)
        })
        .collect()
}

/// One day and our longest wait.
const REPLACED_WITHIN: Duration = Duration::hours(26);

const PROVIDED_WITHIN: Duration = Duration::hours(26);
