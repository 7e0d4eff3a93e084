//! Rules 2, 5 to 7 and 9 on orders: which pass orders, when and where, and how the names are
//! validated.

use certificates::contract::settings::CheckMode;
use certificates::ports::authority::AuthorizationStatus;
use certificates::values::problem::AcmeError;
use time::Duration;

use super::Told;
use super::record::is_revoked;
use crate::ca::Site;
use crate::world::{Met, World};

/// Rule 6: an account is created once.
pub(crate) fn before_registration(world: &mut World, site: Site, key: &str) {
    let is_known = world.ca.accounts.keys().any(|(other, _)| *other == site);
    if is_known && world.visitors.restored_at.is_none() {
        world.broken("rule 6: a second account is made");
    }
    let stored = world.objects.iter().any(|(object, stored)| {
        object.starts_with("accounts/") && String::from_utf8_lossy(&stored.body).contains(key)
    });
    if !stored {
        world.broken("rule 2: an account is registered whose key is not stored");
    }
}

/// Rules 5 and 7: which pass orders, and when.
pub(crate) fn order_asked_for(world: &mut World, pass: u32, site: Site, names: &[String]) {
    rehearsed_before(world, pass, site, names);
    in_turn(world, pass, site, names);
    let now = world.now();
    let candidates = candidates(world, pass, names);
    if candidates.is_empty() {
        if world.is_steady() {
            world.broken(format!(
                "rule 5: pass#{pass} orders {} without the lease of such a certificate",
                names.join(",")
            ));
        }
        return;
    }
    let Some(running) = world.passes.get(&pass) else {
        return;
    };
    let (clock, force, from) = (running.clock(now), running.force, running.from);
    let mut too_early = Vec::new();
    for name in &candidates {
        let document = world
            .objects
            .get(&format!("certificates/{name}.json"))
            .map(|stored| stored.etag.clone());
        let edited = world.wishes[name].since(from).count() > 1;
        let Some(failure) = world
            .states
            .get(name)
            .and_then(|state| state.orders.failure_at(&site.directory()))
        else {
            continue;
        };
        let about = failure.identifiers.is_empty()
            || failure.identifiers.iter().any(|held| names.contains(held));
        let other_document = edited || document.as_ref() != Some(&failure.document);
        let excused =
            !failure.binding && (force || other_document && failure.identifiers.is_empty());
        // Later than any wait of ours or of an authority: a clock was wrong.
        let longest = if failure.binding {
            Duration::days(8)
        } else {
            Duration::hours(25)
        };
        let void = failure.next_attempt > clock + longest;
        if about && !excused && !void && failure.next_attempt > clock + Duration::seconds(1) {
            too_early.push(format!("{name} until {}", failure.next_attempt));
        }
    }
    if !too_early.is_empty() && too_early.len() == candidates.len() {
        world.broken(format!(
            "rule 7: an order is placed, although a failure has to wait: {}",
            too_early.join("; ")
        ));
    }
    if let [name] = &candidates[..] {
        if let Some(told) = world.book.told.get(&(name.clone(), site))
            && told.ended_well
            && told.names == names
            && now + Duration::seconds(5) < told.until
            && world.is_steady()
        {
            let until = told.until;
            world.broken(format!(
                "rule 7: the authority asked {name} to wait until {until}, and gets another request"
            ));
        }
        let calm = world.calm_since(name) < now - Duration::days(1);
        let asked = world.asked.entry(name.clone()).or_default();
        asked.push_back(now);
        while asked
            .front()
            .is_some_and(|at| *at < now - Duration::days(1))
        {
            asked.pop_front();
        }
        let (many, most) = (asked.len(), if calm { 30 } else { 80 });
        if many > most {
            world.broken(format!(
                "rule 7: {many} orders were asked for {name} within a day"
            ));
        }
    }
}

fn candidates(world: &World, pass: u32, names: &[String]) -> Vec<String> {
    let Some(owner) = world.passes.get(&pass).and_then(|pass| pass.owner.as_ref()) else {
        return Vec::new();
    };
    let held = world.states.iter().filter(|(_, state)| {
        state
            .lease
            .as_ref()
            .is_some_and(|lease| lease.owner == *owner)
    });
    held.filter(|(name, _)| {
        world
            .wishes_during(name, pass)
            .iter()
            .flatten()
            .any(|wish| {
                wish.domains == names
                    || wish.partial && names.iter().all(|name| wish.domains.contains(name))
            })
    })
    .map(|(name, _)| name.clone())
    .collect()
}

/// A set of names that was never issued is rehearsed first, if the settings say so.
fn rehearsed_before(world: &mut World, pass: u32, site: Site, names: &[String]) {
    if world.settings.rehearse.is_none() {
        if site == Site::Staging {
            world.broken("rehearsal: ordered at staging, and the settings want no rehearsal");
        }
        return;
    }
    if site == Site::Staging {
        world.tally.count("rehearsals");
        return;
    }
    let mut issued = world.ca.issued.values();
    // A certificate that cannot wait is not delayed by a rehearsal.
    let candidates = candidates(world, pass, names);
    // Also where another pass has taken the lease meanwhile.
    let wanted = world.wishes.keys().filter(|name| {
        let wishes = world.wishes_during(name, pass);
        wishes
            .into_iter()
            .flatten()
            .any(|wish| wish.domains == names)
    });
    let hurries = (candidates.iter().chain(wanted)).any(|name| cannot_wait(world, pass, name));
    if !hurries && !issued.any(|issued| issued.names == names) {
        world.broken(format!(
            "rehearsal: {} is ordered at {}, and was neither issued nor rehearsed before",
            names.join(","),
            site.key()
        ));
    }
}

/// Whether a certificate's leaf was revoked or nears its end.
fn cannot_wait(world: &World, pass: u32, name: &str) -> bool {
    let state = world.states.get(name);
    state
        .and_then(|state| state.certificate.as_ref())
        .is_some_and(|held| {
            let clock =
                (world.passes.get(&pass)).map_or(world.now(), |pass| pass.clock(world.now()));
            let lifetime = held.not_after - held.not_before;
            let little = match lifetime < Duration::days(10) {
                true => lifetime / 4,
                false => Duration::max(lifetime / 20, Duration::DAY),
            };
            is_revoked(world, &held.serial)
                || held.not_after - clock <= little + Duration::minutes(1)
        })
}

/// An authority other than the preferred one gets an order only when little lifetime is left and
/// the one before it is in trouble.
fn in_turn(world: &mut World, pass: u32, site: Site, names: &[String]) {
    let now = world.now();
    if site == Site::Staging || !world.is_steady() {
        return;
    }
    let candidates = candidates(world, pass, names);
    let [name] = &candidates[..] else { return };
    let wishes = world.wishes_during(name, pass);
    let [Some(wish)] = wishes[..] else { return };
    let sites = wish.sites();
    let Some(place) = sites.iter().position(|known| *known == site) else {
        let name = name.clone();
        world.broken(format!(
            "fallback: {name} is ordered at {}, which its document does not name",
            site.key()
        ));
        return;
    };
    if place == 0 {
        return;
    }
    let name = name.clone();
    let state = world.states.get(&name);
    // An order that was begun there is completed there.
    let begun = state
        .and_then(|state| state.orders.current.as_ref())
        .is_some_and(|order| Site::of_url(&order.url) == site)
        || world.book.order_ended.get(&name) == Some(&pass);
    let held = state.and_then(|state| state.certificate.as_ref());
    let share = world.settings.fallback_share;
    let plenty = held.is_some_and(|held| {
        held.not_after - now > held.lifetime() * share && !is_revoked(world, &held.serial)
    });
    let serial = held.map(|held| held.serial.clone());
    let first = sites[0];
    let trouble = world.ca.trouble_at.get(&first);
    let trouble = trouble.is_some_and(|at| now - *at < Duration::days(2));
    // Two documents with the same names share one order, and we count both.
    let has_twin = world.wishes.iter().any(|(other, wished)| {
        let theirs = wished.now().filter(|_| *other != name);
        theirs.is_some_and(|theirs| theirs.domains == wish.domains)
    });
    let limited = has_twin || world.is_nearly_limited(first, names);
    world.tally.count("fallback: ordered elsewhere");
    if plenty && !begun {
        world.broken(format!(
            "fallback: {name} is ordered at {} although {} has more than {share} of its lifetime \
             left",
            site.key(),
            serial.unwrap_or_default()
        ));
    } else if !trouble && !limited && !begun {
        world.broken(format!(
            "fallback: {name} is ordered at {} although {} was neither down nor limiting",
            site.key(),
            first.key()
        ));
    }
}

/// Remembers the wait that the authority asked for.
pub(crate) fn order_answered(
    world: &mut World,
    pass: u32,
    site: Site,
    names: &[String],
    answer: &Result<String, AcmeError>,
) {
    let now = world.now();
    let candidates = candidates(world, pass, names);
    let [name] = &candidates[..] else { return };
    let Err(refusal) = answer else {
        world.book.told.remove(&(name.clone(), site));
        return;
    };
    if refusal.word() != "rateLimited" {
        return;
    }
    let skew = world
        .passes
        .get(&pass)
        .map_or(Duration::ZERO, |pass| pass.skew);
    if skew.abs() >= Duration::seconds(4) {
        return;
    }
    let until = refusal
        .retry_after
        .map_or(now + Duration::hours(20), |until| until - skew);
    let told = Told {
        names: names.to_vec(),
        until,
        pass,
        ended_well: false,
    };
    world.book.told.insert((name.clone(), site), told);
}

/// A limit of the authority was met: the certificates of these names may have to wait.
pub(crate) fn limit_met(world: &mut World, site: Site, bucket: &str, names: &[String]) {
    world.book.limits_met += 1;
    if site == Site::First && world.limits_kept && world.is_well_counted() {
        world.broken(format!("the authority's limit is met: {bucket}"));
    }
    world.tally.count(&format!(
        "limit met: {}",
        bucket.split(' ').nth(1).unwrap_or_default()
    ));
    let now = world.now();
    let held: Vec<String> = world
        .wishes
        .iter()
        .filter(|(_, wished)| {
            wished
                .now()
                .is_some_and(|wish| wish.domains.iter().any(|name| names.contains(name)))
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in held {
        world
            .disturbed_certificate
            .insert(name, now + Duration::days(7));
    }
    // A refusal `rateLimited` holds all orders at the authority.
    world.disturbed = world.disturbed.max(now + Duration::days(2));
}

/// A name that led to us could not be validated: our answer was wrong.
pub(crate) fn validation_failed(world: &mut World, name: &str, token: &str, why: &str) {
    if why == "404" || why == "something else" {
        world.broken(format!(
            "rule 2: {name} could not be validated: {token} did not exist when the authority \
             fetched it"
        ));
    }
}

/// Rules 2, 5, 9: before a challenge is answered.
pub(crate) fn before_answer(world: &mut World, pass: u32, url: &str) {
    // Two documents with the same names may share an order.
    let holders = world.states.iter();
    let holders: Vec<String> = holders
        .filter(|(_, state)| {
            state
                .orders
                .current
                .as_ref()
                .is_some_and(|order| order.url == url)
        })
        .map(|(name, _)| name.clone())
        .collect();
    if holders.is_empty() {
        world.broken(format!(
            "rule 2: {url} is answered and no state knows its URL"
        ));
        return;
    }
    if !holders.iter().any(|name| world.has_lease(pass, name)) && world.is_steady() {
        world.broken(format!(
            "rule 5: pass#{pass} answers the challenges of {url} without its lease"
        ));
    }
    let mode = world.settings.self_check.mode;
    let mut broken = None;
    for id in &world.ca.orders[url].authorizations {
        let authorization = &world.ca.authorizations[id];
        if authorization.status != AuthorizationStatus::Pending || authorization.answered {
            continue;
        }
        let token = &authorization.token;
        let met = world
            .fetched
            .get(token)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let right = met.iter().any(|(_, met)| *met == Met::Right);
        let blocked = met
            .iter()
            .any(|(other, met)| *met == Met::Nothing && *other != pass);
        // Or the name was left out of an order for this reason.
        let blocked = blocked
            || holders.iter().any(|holder| {
                let missing = &world.states[holder].orders.missing;
                missing
                    .keys()
                    .any(|name| name.as_str() == authorization.name)
            });
        let wrong = met.last().is_some_and(|(_, met)| *met == Met::Wrong);
        if mode == CheckMode::Require && (wrong || !right && !blocked) {
            broken = Some(format!(
                "rule 9: the challenge for {} is answered and our own fetch met {met:?}",
                authorization.name
            ));
        }
        if !world.objects.contains_key(&format!("challenges/{token}")) {
            broken = Some(format!(
                "rule 2: the challenge for {} is answered before its token is put",
                authorization.name
            ));
        }
    }
    if let Some(broken) = broken {
        world.broken(broken);
    }
}

/// Rule 2: returns the certificate that stored this key.
pub(crate) fn before_finalize(
    world: &mut World,
    pass: u32,
    url: &str,
    public_key: &[u8],
) -> Option<String> {
    let owner = world
        .pending
        .iter()
        .find(|(_, (order, key))| order == url && key == public_key)
        .map(|(name, _)| name.clone());
    match &owner {
        None => world.broken(format!(
            "rule 2: {url} is finalized with a key that is not stored"
        )),
        Some(name) => {
            let known = world
                .states
                .get(name)
                .and_then(|state| state.orders.current.as_ref())
                .is_some_and(|order| order.url == url);
            if !known {
                world.broken(format!(
                    "rule 2: {url} is finalized and the state of {name} does not know it"
                ));
            }
            let name = name.clone();
            world.needs_lease(pass, &name, "a finalization");
        }
    }
    owner
}

/// A certificate was issued.
pub(crate) fn issued(world: &mut World, url: &str, owner: Option<&str>, serial: &str) {
    let _ = (url, serial);
    if let Some(name) = owner {
        world.tally.count("issued to a stored key");
        let _ = name;
    }
}
