//! Actions of people that provoke rule 12: restored buckets, removed tags, two documents for one
//! place, edits while the authority is down, certificates of others with various names and ends,
//! proofs that never succeed.

use std::collections::BTreeMap;

use certificates::invocation::actions::Action;
use certificates::values::chain::Chain;
use certificates::values::key::KeyType;
use certificates::values::revocation_reason::Reason;
use time::{Duration, OffsetDateTime};

use crate::aws::{add_certificate, change};
use crate::ca;
use crate::faults::{Disorder, Fault, Roughness, Spell};
use crate::people::{Errand, Target, Wish, want};
use crate::rules;
use crate::store;
use crate::world::{HOME, Wished, World, name_in};

/// What people plan to do later.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Renew every certificate by force.
    Force,
    Ask(Errand),
    /// Let the handshakes of a listener show the served certificate again.
    SeeAgain(String),
    /// Raise the quota of a full listener.
    Raise(String),
}

/// Adds certificates of others to those that a world has at first.
pub(crate) fn settle(world: &mut World) {
    if !world.visitors.is_provoked() {
        return;
    }
    for listener in world.listeners.keys().cloned().collect::<Vec<_>>() {
        for _ in 0..world.rng.usize(..3) {
            let theirs = stranger(world, &listener);
            let default = world.rng.u8(..3) == 0;
            put_on(world, &listener, theirs, default);
        }
    }
}

/// Imports a certificate of others: names that documents want and other names, any end, any kind of
/// key.
fn stranger(world: &mut World, listener: &str) -> String {
    let now = world.now().replace_nanosecond(0).unwrap();
    let on_it = |wish: &&Wish| wish.listeners().any(|(arn, _)| arn == listener);
    let wishes: Vec<Wish> = (world.wishes.values().filter_map(Wished::now))
        .filter(on_it)
        .cloned()
        .collect();
    let mut names = Vec::new();
    if let Some(wish) = wishes.get(world.rng.usize(..wishes.len().max(1))) {
        match world.rng.u8(..4) {
            0 => {}
            1 => names.extend(wish.domains.iter().cloned()),
            2 => names.push(wish.domains[0].clone()),
            _ => {
                let (_, parent) = wish.domains[0].split_once('.').unwrap();
                names.push(format!("*.{parent}"));
            }
        }
    }
    if names.is_empty() || world.rng.bool() {
        names.push(format!("shop{}.foreign.net", world.rng.u8(..9)));
    }
    names.sort();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let until = now
        + Duration::days(if world.rng.bool() {
            world.rng.i64(5..200)
        } else {
            900
        });
    let rsa = world.rng.u8(..3) == 0;
    let pem = ca::foreign_with(&names, now - Duration::days(3), until, false, rsa);
    let leaf = Chain::parse(&pem).unwrap().leaf().clone();
    let tags = BTreeMap::from([("Owner".to_owned(), "somebody".to_owned())]);
    let arn = add_certificate(world, HOME, leaf, &pem, tags);
    if let Some(held) = world.manager.get_mut(&arn) {
        held.known_at = now;
    }
    world.imports -= 1;
    world.say(format_args!(
        "people: {arn} of others is for {}, {} until {until}",
        names.join(","),
        if rsa { "RSA" } else { "ECDSA" }
    ));
    arn
}

fn put_on(world: &mut World, listener: &str, theirs: String, default: bool) {
    let now = world.now();
    world.book.touched.insert(listener.to_owned(), now);
    let line = format!("people: {theirs} is put on {listener}, default: {default}");
    world.say(format_args!("{line}"));
    change(world, listener, |holding| match default {
        true => holding.default = Some(theirs),
        false => holding.list.push(theirs),
    });
    world.disturb();
}

/// Makes one of these provocations, for one of the documents.
pub(crate) fn provoke(world: &mut World, name: &str) -> Option<Errand> {
    let wish = world.wishes[name].now()?.clone();
    let listener = wish.listeners().next().map(|(arn, _)| arn.to_owned());
    let counted = match world.rng.u8(..21) {
        0..=2 if restores() => restore(world)?,
        0..=2 => take_tags(world, name)?,
        3 => take_tags(world, name)?,
        4 | 5 => supersede_ours(world, name, wish)?,
        6 | 7 => want_one_default(world, name, wish)?,
        8 | 9 => share_names(world, name, wish)?,
        10..=13 => edit_while_down(world, name, wish)?,
        14 | 15 => {
            let listener = listener?;
            let theirs = stranger(world, &listener);
            let default = world.rng.u8(..3) == 0;
            put_on(world, &listener, theirs, default);
            "rule 12: one of others put on a listener"
        }
        16 => supersede_theirs(world, name, wish)?,
        17 => see_nothing(world, name)?,
        20 => {
            world.next_skew = Some(Duration::days(100));
            "rule 12: one pass with a clock months ahead"
        }
        _ => fill_up(world, name, wish)?,
    };
    world.disturb_certificate(name);
    world.tally.count(&format!("people: {counted}"));
    world.say(format_args!("people: {counted} ({name})"));
    rules::after_event(world);
    None
}

/// Whether buckets of another day are restored: `RULE12=restores`, or `RULE12=list`.
fn restores() -> bool {
    std::env::var("RULE12").is_ok_and(|mode| mode == "restores" || mode == "list")
}

/// Restores the whole bucket to its content of another day.
fn restore(world: &mut World) -> Option<&'static str> {
    let now = world.now();
    let to = now - Duration::seconds(world.rng.i64(3 * 3_600..10 * 86_400));
    // Not to a time when the world was still empty.
    if to < crate::world::EPOCH + Duration::days(1) {
        return None;
    }
    world.say(format_args!("people: the bucket is restored as of {to}"));
    store::restore(world, to);
    for wished in world.wishes.values_mut() {
        let stood = wished.versions.iter().rfind(|(from, _)| *from <= to);
        let stood = stood.and_then(|(_, wish)| wish.clone());
        if wished.now() != stood.as_ref() {
            wished.versions.push((now, stood));
        }
    }
    rules::restored(world);
    world.acted_at = now;
    world.disturb();
    Some("rule 12: bucket of another day restored")
}

/// Removes our tags from one of our certificates.
fn take_tags(world: &mut World, name: &str) -> Option<&'static str> {
    let ours: Vec<String> = (world.manager.keys())
        .filter(|arn| world.owner_of(arn).as_deref() == Some(name))
        .cloned()
        .collect();
    let arn = ours.get(world.rng.usize(..ours.len().max(1)))?.clone();
    let now = world.now();
    world.book.touched.insert(arn.clone(), now);
    let tag = ["certloop:certificate", "certloop:installation"][world.rng.usize(..2)];
    world.manager.get_mut(&arn)?.tags.remove(tag);
    (world.visitors.was_ours).insert(arn.clone(), (name.to_owned(), now));
    world.say(format_args!("people: {tag} is taken from {arn}"));
    Some("rule 12: our tags taken away")
}

/// Returns another document on one of this document's listeners.
fn neighbour(world: &mut World, name: &str, wish: &Wish) -> Option<(String, Wish, String)> {
    let mut found = Vec::new();
    for (other, wished) in &world.wishes {
        let Some(theirs) = wished.now().filter(|_| other != name) else {
            continue;
        };
        for (listener, _) in theirs.listeners() {
            if wish.listeners().any(|(arn, _)| arn == listener) {
                found.push((other.clone(), theirs.clone(), listener.to_owned()));
            }
        }
    }
    found.get(world.rng.usize(..found.len().max(1))).cloned()
}

/// A document supersedes another document's certificate; perhaps both supersede each other.
fn supersede_ours(world: &mut World, name: &str, mut wish: Wish) -> Option<&'static str> {
    let (other, mut theirs, _) = neighbour(world, name, &wish)?;
    let arn = |world: &World, name: &str| {
        let import = world.states.get(name)?.deployment.imports.get(HOME)?;
        Some(import.arn.as_ref()?.to_string())
    };
    let (own, their) = (arn(world, name), arn(world, &other)?);
    // A repeated entry would make the document invalid.
    if !wish.supersedes.contains(&their) {
        wish.supersedes.push(their);
    }
    want(world, name, Some(wish));
    if let Some(own) = own.filter(|own| !theirs.supersedes.contains(own) && world.rng.bool()) {
        theirs.supersedes.push(own);
        want(world, &other, Some(theirs));
    }
    Some("rule 12: one of ours superseded")
}

/// A second document wants to be the default of a listener.
fn want_one_default(world: &mut World, name: &str, mut wish: Wish) -> Option<&'static str> {
    let (other, mut theirs, at) = neighbour(world, name, &wish)?;
    let set = |wish: &mut Wish| {
        for target in &mut wish.targets {
            if let Target::Listener { arn, default } = target {
                *default |= *arn == at;
            }
        }
    };
    set(&mut wish);
    set(&mut theirs);
    want(world, name, Some(wish));
    want(world, &other, Some(theirs));
    Some("rule 12: one default wanted twice")
}

/// Two documents share a name and the kind of key on a listener.
fn share_names(world: &mut World, name: &str, mut wish: Wish) -> Option<&'static str> {
    let (_, theirs, _) = neighbour(world, name, &wish)?;
    let shared = theirs.domains[world.rng.usize(..theirs.domains.len())].clone();
    if wish.domains.contains(&shared) {
        return None;
    }
    wish.key_type = theirs.key_type;
    wish.domains.push(shared);
    wish.domains.sort();
    want(world, name, Some(wish));
    Some("rule 12: name and key type shared")
}

/// An edit that needs a new certificate, which the authorities do not issue for a while.
fn edit_while_down(world: &mut World, name: &str, mut wish: Wish) -> Option<&'static str> {
    let now = world.now();
    if world.weather.is_lull(now + Duration::days(2)) {
        return None;
    }
    let spell = Spell {
        from: now,
        to: now + Duration::seconds(world.rng.i64(7_200..4 * 86_400)),
        what: Disorder::AuthorityDown(None, Fault::Internal),
    };
    let spells = &mut world.weather.spells;
    let place = spells.partition_point(|known| known.from <= spell.from);
    spells.insert(place, spell);
    let listener = wish.listeners().next().map(|(arn, _)| arn.to_owned());
    match world.rng.u8(..5) {
        0 if wish.targets.len() > 1 => {
            wish.targets.pop();
        }
        1 if wish.domains.len() > 1 => {
            wish.domains.pop();
        }
        2 | 3 => {
            for target in &mut wish.targets {
                if let Target::Listener { default, .. } = target {
                    *default = true;
                }
            }
        }
        _ => {
            let listener = listener?;
            let held = world.listeners[&listener].holding.list.clone();
            let theirs: Vec<String> = (held.into_iter())
                .filter(|arn| world.owner_of(arn).is_none())
                .collect();
            let theirs = match theirs.get(world.rng.usize(..theirs.len().max(1))) {
                Some(theirs) => theirs.clone(),
                None => {
                    let theirs = stranger(world, &listener);
                    put_on(world, &listener, theirs.clone(), false);
                    theirs
                }
            };
            if !wish.supersedes.contains(&theirs) {
                wish.supersedes.push(theirs);
            }
        }
    }
    wish.domains
        .push(format!("w{}.{name}.beta.org", world.rng.u16(..999)));
    wish.domains.sort();
    wish.domains.dedup();
    want(world, name, Some(wish));
    Some("rule 12: edited while the authority is down")
}

/// A document supersedes a certificate of others, even one that serves more names.
fn supersede_theirs(world: &mut World, name: &str, mut wish: Wish) -> Option<&'static str> {
    let listener = wish.listeners().next().map(|(arn, _)| arn.to_owned())?;
    let theirs = stranger(world, &listener);
    let default = world.rng.u8(..3) == 0;
    put_on(world, &listener, theirs.clone(), default);
    wish.supersedes.push(theirs);
    want(world, name, Some(wish));
    Some("rule 12: one of others superseded")
}

/// For days the handshakes of all listeners show another certificate, as behind a CDN.
fn see_nothing(world: &mut World, name: &str) -> Option<&'static str> {
    let wish = world.wishes[name].now()?;
    let listener = wish.listeners().next().map(|(arn, _)| arn.to_owned())?;
    let until = world.now() + Duration::days(world.rng.i64(1..30));
    world.unseen.insert(listener.clone());
    plan(world, until, Plan::SeeAgain(listener));
    Some("rule 12: behind a proof that never comes")
}

/// A listener is full for days. Meanwhile its document is edited, renewed by force, rolled back or
/// revoked.
fn fill_up(world: &mut World, name: &str, mut wish: Wish) -> Option<&'static str> {
    let listener = wish.listeners().next().map(|(arn, _)| arn.to_owned())?;
    let now = world.now();
    let it = world.listeners.get_mut(&listener)?;
    it.quota = it.holding.list.len();
    world.kept_full.insert(listener.clone());
    wish.key_type = match wish.key_type {
        KeyType::EcdsaP256 => KeyType::Rsa2048,
        _ => KeyType::EcdsaP256,
    };
    want(world, name, Some(wish));
    let hours = |hours: i64| now + Duration::hours(hours);
    let (first, second) = (world.rng.i64(2..24), world.rng.i64(24..60));
    plan(world, hours(first), Plan::Force);
    let action = match world.rng.u8(..3) {
        0 => Action::RollBack { serial: None },
        _ => Action::Revoke {
            serial: None,
            reason: Reason::KeyCompromise,
        },
    };
    let name = name.to_owned();
    plan(world, hours(second), Plan::Ask(Errand { name, action }));
    plan(world, hours(80), Plan::Raise(listener));
    Some("rule 12: listener full for days")
}

fn plan(world: &mut World, at: OffsetDateTime, what: Plan) {
    world.plans.push((at, what));
    world.plans.sort_by_key(|(at, _)| *at);
}

/// Returns the instant of the next planned action.
pub(crate) fn planned_at(world: &World) -> Option<OffsetDateTime> {
    world.plans.first().map(|(at, _)| *at)
}

/// Does what is planned until now. Returns the requests to the functions.
pub(crate) fn carry_on(world: &mut World) -> Vec<Errand> {
    let now = world.now();
    let mut errands = Vec::new();
    while world.plans.first().is_some_and(|(at, _)| *at <= now) {
        let (_, plan) = world.plans.remove(0);
        let lull = world.weather.is_lull(now);
        world.say(format_args!("people: {plan:?}"));
        world.acted_at = now;
        match plan {
            Plan::Force => world.force_next = !lull,
            Plan::Ask(errand) => {
                let wanted = world
                    .wishes
                    .get(&errand.name)
                    .and_then(Wished::now)
                    .is_some();
                if wanted && !lull {
                    world.disturb_certificate(&errand.name);
                    errands.push(errand);
                }
            }
            Plan::SeeAgain(listener) => {
                world.unseen.remove(&listener);
                world.disturb();
            }
            Plan::Raise(listener) => {
                world.kept_full.remove(&listener);
                world.disturb();
            }
        }
    }
    errands
}

/// Whether people make a provocation now, instead of an ordinary deed.
pub(crate) fn is_due(world: &mut World) -> bool {
    world.visitors.is_provoked()
        && world.weather.roughness > Roughness::Calm
        && world.rng.u8(..5) < 2
}

/// Records a disturbance while a provocation lasts.
pub(crate) fn still_provoked(world: &mut World) {
    if !world.unseen.is_empty() || !world.kept_full.is_empty() {
        world.disturb();
    }
}

/// Returns a certificate's name for an object of the folders that are restored.
pub(crate) fn is_restored(key: &str) -> bool {
    let folders = [
        "certificates/",
        "state/",
        "vault/",
        "limits/",
        "accounts/",
        "challenges/",
    ];
    folders.iter().any(|folder| key.starts_with(folder)) && name_in(key).is_some()
}
