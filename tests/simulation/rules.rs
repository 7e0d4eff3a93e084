//! The rules that may never be broken, looked at from outside: after each call with an effect, and at each step of time.
//!
//! Nothing here asks the library what is allowed; what it must not do is written down a second time.

use std::collections::{BTreeMap, BTreeSet};

use certificates::contract::message::{Kind, Message};
use certificates::contract::report::Entry;
use certificates::contract::settings::{CheckMode, Orphans};
use certificates::invocation::actions::Action;
use certificates::ports::authority::AuthorizationStatus;
use certificates::ports::certificate_manager::Material;
use certificates::records::state::State;
use certificates::values::chain::{Chain, Leaf, same_serial};
use certificates::values::key::KeyType;
use certificates::values::problem::Refusal;
use time::{Duration, OffsetDateTime};

use crate::aws::{covers, reimport, served};
use crate::ca::{Site, Window};
use crate::people::{Target, Wish};
use crate::words;
use crate::world::{ACCOUNT_KEY, EPOCH, HOME, Met, THUMBPRINT, Wished, World, name_in};

/// What the rules remember.
#[derive(Default)]
pub(crate) struct Book {
    /// When a pass with a wrong clock was last alive.
    skewed_at: Option<OffsetDateTime>,
    /// When one was wrong by more than the count of what the authorities allow puts up with.
    miscounted_at: Option<OffsetDateTime>,
    /// Until when the authority told a certificate to wait, by whom it was heard, and whether that pass ended well.
    told: BTreeMap<(String, Site), Told>,
    /// When ours was last taken off a listener, by ARN.
    detached: BTreeMap<String, OffsetDateTime>,
    /// When people last touched a listener or a certificate of ours.
    pub(crate) touched: BTreeMap<String, OffsetDateTime>,
    /// When people will raise the import quota.
    pub(crate) quota_raised_at: Option<OffsetDateTime>,
    /// The last full pass that nothing disturbed.
    pub(crate) last_good_pass: Option<OffsetDateTime>,
    /// Certificates of ours that were defaults.
    was_default: BTreeSet<String>,
    /// Tokens that one document deleted while another had them as well.
    shared_tokens: BTreeSet<String>,
    /// Which pass last saw an order of a certificate end.
    order_ended: BTreeMap<String, u32>,
    state_written: BTreeMap<String, OffsetDateTime>,
    /// When an order was forced, by certificate.
    forced: BTreeMap<String, OffsetDateTime>,
    /// How many limits of the authority were met.
    pub(crate) limits_met: u64,
    /// Where somebody went back to an earlier certificate, by certificate.
    rolled_back: BTreeMap<String, RolledBack>,
    /// The serials whose revocation was written down, with the certificate and since when.
    revoking: BTreeMap<String, (String, OffsetDateTime)>,
    /// What people heard of a certificate, by its name and the channel.
    heard: BTreeMap<(String, String), Heard>,
    /// Since when a removal has been under way, by certificate.
    removing: BTreeMap<String, OffsetDateTime>,
}

struct RolledBack {
    /// The one that is to be kept.
    serial: String,
    /// The document's ETag at the time.
    document: Option<String>,
}

/// What people heard of a certificate on a channel.
#[derive(Default)]
struct Heard {
    messages: BTreeMap<String, Message>,
    /// The messages of the last pass that told something: should it die before they are marked, all of them are told again.
    last: BTreeSet<String>,
    last_pass: u32,
    /// What a pass told again, before anything new.
    retold: (u32, BTreeSet<String>),
    has_problem: bool,
    was_issued: bool,
    running_out: BTreeSet<OffsetDateTime>,
}

struct Told {
    names: Vec<String>,
    until: OffsetDateTime,
    pass: u32,
    ended_well: bool,
}

impl World {
    /// Whether all clocks have been right for a while: only then a lease keeps others out for certain.
    fn is_steady(&self) -> bool {
        let now = self.now();
        self.book
            .skewed_at
            .is_none_or(|at| now - at > Duration::hours(2))
    }

    /// Whether what is counted of the authorities' limits was counted by clocks that were right: a bucket fills in a week.
    fn is_well_counted(&self) -> bool {
        let wrong_at = self.book.miscounted_at;
        self.is_steady() && wrong_at.is_none_or(|at| self.now() - at > Duration::days(8))
    }

    fn pass_from(&self, pass: u32) -> OffsetDateTime {
        self.passes.get(&pass).map_or(EPOCH, |pass| pass.from)
    }

    /// Returns what was wanted of a certificate while a pass ran.
    pub(crate) fn wishes_during(&self, name: &str, pass: u32) -> Vec<Option<&Wish>> {
        let from = self.pass_from(pass);
        self.wishes
            .get(name)
            .map(|wished| wished.since(from).collect())
            .unwrap_or_default()
    }

    fn has_lease(&self, pass: u32, name: &str) -> bool {
        let owner = self.passes.get(&pass).and_then(|pass| pass.owner.as_ref());
        let lease = self.states.get(name).and_then(|state| state.lease.as_ref());
        owner.is_some() && owner == lease.map(|lease| &lease.owner)
    }

    fn needs_lease(&mut self, pass: u32, name: &str, act: &str) {
        if self.is_steady() && !self.has_lease(pass, name) {
            self.broken(format!(
                "rule 5: pass#{pass} did {act} for {name} without its lease"
            ));
        }
    }
}

/// A message arrives: sent under the lease, the same whenever it is repeated, in the order in which things happened, and no state twice.
pub(crate) fn told(world: &mut World, pass: u32, channel: &str, message: &Message) {
    let name = message.certificate.name.clone();
    world.needs_lease(pass, &name, "a message");
    world.tally.count(&format!("told: {:?}", message.kind));
    // With wrong clocks two can hold the lease at once.
    let is_steady = world.is_steady();
    // A bucket of another day does not know what was told since.
    if world.visitors.restored_at.is_some() {
        return;
    }
    let key = (name.clone(), channel.to_owned());
    let heard = world.book.heard.entry(key).or_default();
    if let Some(before) = heard.messages.get(&message.id) {
        let is_same = before == message;
        let is_last = heard.last.contains(&message.id);
        if heard.retold.0 != pass {
            heard.retold = (pass, BTreeSet::new());
        }
        heard.retold.1.insert(message.id.clone());
        world.tally.count("told again");
        if is_steady && !(is_same && is_last) {
            world.broken(format!(
                "messages: {name} was told {} again, but otherwise ({is_same}) or late ({is_last})",
                message.id
            ));
        }
        return;
    }
    let had_problem = heard.has_problem;
    let wrong = match message.kind {
        Kind::Issued => std::mem::replace(&mut heard.was_issued, true),
        Kind::Renewed => {
            // The all-clear: who goes back to the one before is told of its end again.
            heard.running_out.clear();
            !heard.was_issued
        }
        Kind::ProblemStarted => std::mem::replace(&mut heard.has_problem, true),
        Kind::ProblemChanged => !had_problem,
        Kind::ProblemEnded => !std::mem::replace(&mut heard.has_problem, false),
        Kind::RunningOut => {
            let until = message.certificate.not_after;
            until.is_none_or(|until| !heard.running_out.insert(until))
        }
    };
    if std::mem::replace(&mut heard.last_pass, pass) != pass {
        heard.last.clear();
        if heard.retold.0 == pass {
            heard.last.clone_from(&heard.retold.1);
        }
    }
    heard.last.insert(message.id.clone());
    heard.messages.insert(message.id.clone(), message.clone());
    if wrong && is_steady {
        world.broken(format!(
            "messages: {name} was told {:?} of {:?}, which does not follow from what was told before",
            message.kind,
            message.problem.as_ref().or(message.before.as_ref())
        ));
    }
}

/// Nobody remembers what was told of a certificate whose record is gone.
pub(crate) fn forgotten(world: &mut World, name: &str) {
    world.book.heard.retain(|(known, _), _| known != name);
}

/// Rule 11: nothing begins after the deadline.
pub(crate) fn call_begins(world: &mut World, pass: u32, operation: &str) {
    let now = world.now();
    let Some(running) = world.passes.get(&pass) else {
        return;
    };
    if running.skew.abs() >= Duration::seconds(4) {
        world.book.skewed_at = Some(now);
    }
    if running.skew.abs() > Duration::minutes(5) {
        world.book.miscounted_at = Some(now);
    }
    let elapsed = running.started.elapsed();
    let remaining = running.remaining;
    if elapsed > remaining {
        world.broken(format!(
            "rule 11: pass#{pass} began {operation} {:?} after its deadline",
            elapsed - remaining
        ));
    }
}

/// Rules 3 and 4, and whatever must hold at every instant.
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
        let import = state.imports.get(&held.region);
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

/// Rules 2, 5, 8, 10: what is written, by whom, when.
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
            world.broken(format!("rehearsal: {key} is what was ordered for nothing"));
        }
    } else if let Some(token) = key.strip_prefix("challenges/") {
        // What looking ahead puts is of no order, and has the certificate's name.
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

fn secrets(world: &mut World, place: &str, text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap_or_default();
    for secret in [THUMBPRINT, ACCOUNT_KEY, "PRIVATE KEY"] {
        if text.contains(secret) {
            world.broken(format!("rule 10: a secret ({secret}) stands in {place}"));
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
        let imports = state.imports.values().flat_map(|import| &import.superseded);
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
        // Clocks that count as right may differ by seconds.
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
    for revoking in &new.revoking {
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
    let url = |state: &State| state.order.as_ref().map(|order| order.url.clone());
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
        // What was forced is seen through, by later passes as well.
        let forced = world
            .book
            .forced
            .get(name)
            .is_some_and(|at| now - *at < Duration::days(9));
        // One that died while nobody looked is replaced once, by the pass that finds it dead.
        let replaced = world.book.order_ended.get(name) == Some(&pass);
        if fits && !force && !forced && !replaced && clock < earliest {
            world.broken(format!("rule 8: {name} holds {} which is as wanted and not due before {earliest}, and {placed} was ordered", held.serial));
        }
    }
}

fn is_revoked(world: &World, serial: &str) -> bool {
    let issued = world.ca.issued.get(serial);
    issued.is_some_and(|issued| issued.revoked.is_some())
}

/// Whoever went back to an earlier certificate keeps it: until the document changes, it is forced, revoked, wanted back by its
/// authority, or near its end, or somebody goes back from there.
fn goes_back(world: &mut World, pass: u32, name: &str, new: &State) {
    let now = world.now();
    let serial = |state: &State| Some(state.certificate.as_ref()?.serial.clone());
    let holds = new.rolled_back.as_ref().map(|back| back.document.clone());
    if holds.is_none() && world.passes.get(&pass).is_some_and(|pass| pass.force) {
        // Whoever forces a renewal ends the hold, whether or not it comes off at once; what is wanted is wanted from now on.
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
        .and_then(|state| state.previous.clone());
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
            // Back to the newer one: that is no going back any more.
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
    // The last answer about its window counts where the authority has not answered since.
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

/// Only what somebody asked to be revoked is, and what they asked for stands in the record first.
pub(crate) fn before_revocation(world: &mut World, pass: u32, serial: &str) {
    // Another pass was faster, and nothing comes of this one.
    if is_revoked(world, serial) {
        return;
    }
    let holder = world.states.iter().find(|(_, state)| {
        let mut revoking = state.revoking.iter();
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

/// Rule 8: the instant in a window is drawn once, and what is no window is not kept.
fn windows(world: &mut World, pass: u32, name: &str, new: &State) {
    let Some(held) = &new.certificate else {
        return;
    };
    let Some(window) = held.window() else { return };
    if window.end <= window.start || window.end <= held.not_before {
        world.broken(format!(
            "rule 8: pass#{pass} keeps {}..{} for {name}, which is no window",
            window.start, window.end
        ));
        return;
    }
    let before = world
        .states
        .get(name)
        .and_then(|state| state.certificate.as_ref());
    let before = before.filter(|before| before.serial == held.serial);
    if let Some(before) = before.and_then(|before| before.window())
        && before.at != window.at
        && (window.start..=window.end).contains(&before.at)
    {
        world.broken(format!(
            "rule 8: pass#{pass} draws another instant for {name}: {} and now {}",
            before.at, window.at
        ));
    }
}

/// The things a pass may throw away.
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
                    || state.previous.as_deref() == Some(serial)
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

/// Whether a removal was under way for a week, so that what the bucket knows may go.
fn is_to_be_forgotten(world: &World, name: &str) -> bool {
    let week = Duration::weeks(1) - Duration::minutes(5);
    let since = world.book.removing.get(name).copied();
    // A wrong clock may have written down that it was long ago.
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

/// Rule 1: only what is in the vault goes to AWS.
fn from_vault(world: &mut World, name: &str, leaf: &Leaf, material: &Material<'_>) {
    let site = world.ca.issued.get(&leaf.serial).map(|issued| issued.site);
    if site == Some(Site::Staging) {
        world.broken(format!(
            "rehearsal: {} is imported for {name}, and was ordered for nothing",
            leaf.serial
        ));
    }
    let prefix = format!("vault/{name}/");
    let stored = world.vault.iter().any(|(key, (chain, private))| {
        key.starts_with(&prefix)
            && private.as_str() == material.private_key
            && chain.starts_with(material.certificate.trim_end())
    });
    // The PEM may be laid out anew: the leaf itself is compared then.
    let stored = stored
        || world.vault.iter().any(|(key, (chain, private))| {
            key.starts_with(&prefix)
                && private.as_str() == material.private_key
                && Chain::parse(chain)
                    .is_ok_and(|chain| chain.leaf().fingerprint == leaf.fingerprint)
        });
    if !stored {
        world.broken(format!(
            "rule 1: {} is imported for {name} and is not in the vault",
            leaf.serial
        ));
    }
}

/// Rules 1, 2, 4, 5, 6.
pub(crate) fn before_first_import(
    world: &mut World,
    pass: u32,
    region: &str,
    leaf: &Leaf,
    material: &Material<'_>,
    tags: &BTreeMap<String, String>,
) {
    let name = tags
        .get("certloop:certificate")
        .cloned()
        .unwrap_or_default();
    if tags.get("certloop:installation") != Some(&world.installation) || name.is_empty() {
        world.broken("rule 3: imported without both tags");
        return;
    }
    world.needs_lease(pass, &name, "a first import");
    from_vault(world, &name, leaf, material);
    let Some(import) = world
        .states
        .get(&name)
        .and_then(|state| state.imports.get(region))
        .cloned()
    else {
        world.broken(format!(
            "rule 2: {name} is imported in {region} and its state says nothing of it"
        ));
        return;
    };
    if !import
        .importing
        .is_some_and(|intent| same_serial(&intent.serial, &leaf.serial))
    {
        world.broken(format!(
            "rule 2: {name} is imported in {region} without a stored intent"
        ));
    }
    let from = world.pass_from(pass);
    let mut broken = None;
    for (arn, held) in &world.manager {
        if held.region != region
            || world.owner_of(arn).as_deref() != Some(&name)
            || held.imported_at >= from
        {
            continue;
        }
        if same_serial(&held.leaf.serial, &leaf.serial) {
            broken = Some(format!(
                "rule 4: {} is imported a second time for {name}: it stands under {arn}",
                leaf.serial
            ));
        }
        let current = import
            .arn
            .as_ref()
            .is_some_and(|current| current.as_str() == arn);
        if current && reimport(&held.leaf, leaf).is_ok() {
            broken = Some(format!(
                "rule 4: {name} gets a new ARN although {arn} could hold it"
            ));
        }
    }
    if let Some(broken) = broken {
        world.broken(broken);
    }
    world.tally.count("first import");
}

/// Rules 1, 3, 5.
pub(crate) fn before_reimport(
    world: &mut World,
    pass: u32,
    arn: &str,
    leaf: &Leaf,
    material: &Material<'_>,
) {
    let Some(name) = world.owner_of(arn) else {
        let touched = world
            .book
            .touched
            .get(arn)
            .is_some_and(|at| *at >= world.pass_from(pass));
        if world.manager.contains_key(arn) && !touched {
            world.broken(format!("rule 3: {arn} is not ours and is overwritten"));
        }
        return;
    };
    world.needs_lease(pass, &name, "a re-import");
    from_vault(world, &name, leaf, material);
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
        .and_then(|state| state.imports.get(&region));
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
    // A default that only others could replace left when they did so; the overlap counts from when it was last seen in use.
    let left_by_others = world.book.was_default.contains(arn);
    if early && world.is_steady() && !left_by_others {
        world.broken(format!(
            "rule 3: {arn} is deleted before the overlap is over"
        ));
    }
    world.tally.count("deletion of a superseded one");
}

pub(crate) fn knows_arn(world: &World, name: &str, arn: &str) -> bool {
    world.states.get(name).is_some_and(|state| {
        state.imports.values().any(|import| {
            import
                .arn
                .as_ref()
                .is_some_and(|known| known.as_str() == arn)
                || import.superseded.iter().any(|old| old.arn.as_str() == arn)
        })
    })
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
            // Until a leaf for an edited document is issued, what it said before is in force.
            let in_force = (world.states.get(&name)).and_then(|state| state.in_force.as_ref());
            let was_wanted = in_force.is_some_and(|word| {
                let mut targets = word.targets.iter();
                targets.any(|target| format!("{target:?}").contains(listener))
            });
            let wanted = wanted || was_wanted;
            // Another's certificate may be moved from the default to the list.
            if !wanted && !holding.has(certificate) {
                world.broken(format!("rule 3: {certificate} of {name} is attached to {listener}, where nobody wants it"));
            }
            // Whoever took its place may put it back.
            let comes_back = world.states.iter().any(|(other, state)| {
                let mut targets = state.targets.iter();
                world.has_lease(pass, other)
                    && targets.any(|target| target.standby.holds(certificate))
            });
            if wanted && !comes_back && !holding.has(certificate) {
                world.needs_lease(pass, &name, "an attachment");
            }
        }
        None => {
            let comes_back = world.states.values().any(|state| {
                state
                    .targets
                    .iter()
                    .any(|target| target.id == listener && target.standby.holds(certificate))
            });
            // Stripped of its tags it is not overwritten and not deleted, but where it stood it may stand.
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
    // Whether ours serves all that it serves is asked by rule 12, where that is looked at.
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
        // Ours it is also where somebody has taken our tags from it.
        || world.states.keys().any(|name| knows_arn(world, name, &old));
    // What is put back takes the place of ours.
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
        // One of ours that lost its tags leaves as the one before does, so that it shadows nothing.
        let has_lost_tags = |state: &State| {
            let mut lost = state.imports.values().flat_map(|import| &import.untagged);
            lost.any(|lost| lost.arn.as_str() == certificate)
        };
        if holder.is_some() || world.states.values().any(has_lost_tags) {
            return;
        }
        let successors: Vec<String> = world
            .wishes
            .keys()
            .filter(|name| {
                world
                    .wishes_during(name, pass)
                    .iter()
                    .flatten()
                    .any(|wish| {
                        wish.supersedes.iter().any(|old| old == certificate)
                            && wish.listeners().any(|(arn, _)| arn == listener)
                    })
            })
            .cloned()
            .collect();
        if successors.is_empty() {
            world.broken(format!("rule 3: {certificate} is not ours, nobody supersedes it, and it is taken off {listener}"));
        } else if !successors
            .iter()
            .any(|name| stands_on(world, name, listener, certificate, now))
        {
            world.broken(format!(
                "rule 3: {certificate} is taken off {listener} before its successor stands there"
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
            world.broken(format!("rule 3: {certificate} of {name} is taken off {listener} and nothing of it stays there"));
        }
    }
}

/// Whether another certificate of this document stands on a listener, valid.
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

/// Rule 6: an account is made once.
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

/// Rules 5 and 7: who asks for an order, and when.
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
            .and_then(|state| state.failure_at(&site.directory()))
        else {
            continue;
        };
        let about = failure.identifiers.is_empty()
            || failure.identifiers.iter().any(|held| names.contains(held));
        let other_document = edited || document.as_ref() != Some(&failure.document);
        let excused =
            !failure.binding && (force || other_document && failure.identifiers.is_empty());
        // Further ahead than any of ours, or than an authority asks for: a clock was wrong.
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
            "rule 7: ordered although it failed and has to wait: {}",
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
                "rule 7: the authority told {name} to wait until {until}, and it is asked again"
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

/// A set of names that was never issued is rehearsed first, where the settings say so.
fn rehearsed_before(world: &mut World, pass: u32, site: Site, names: &[String]) {
    if world.settings.rehearse.is_none() {
        if site == Site::Staging {
            world.broken("rehearsal: ordered at staging, and nobody wants that");
        }
        return;
    }
    if site == Site::Staging {
        world.tally.count("rehearsals");
        return;
    }
    let mut issued = world.ca.issued.values();
    // What cannot wait is not put at risk for a rehearsal.
    let candidates = candidates(world, pass, names);
    let hurries = candidates.iter().any(|name| cannot_wait(world, pass, name));
    if !hurries && !issued.any(|issued| issued.names == names) {
        world.broken(format!(
            "rehearsal: {} is ordered at {}, and was neither issued nor rehearsed before",
            names.join(","),
            site.key()
        ));
    }
}

/// Whether what a certificate holds was revoked or nears its end.
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

/// An authority that is not the preferred one is asked only when little is left and the one before it is in trouble.
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
    // What was begun there is seen through there.
    let begun = state
        .and_then(|state| state.order.as_ref())
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
    // Two documents of the same names get one order, and we count both.
    let has_twin = world.wishes.iter().any(|(other, wished)| {
        let theirs = wished.now().filter(|_| *other != name);
        theirs.is_some_and(|theirs| theirs.domains == wish.domains)
    });
    let limited = has_twin || world.is_nearly_limited(first, names);
    world.tally.count("fallback: ordered elsewhere");
    if plenty && !begun {
        world.broken(format!(
            "fallback: {name} is ordered at {} although {} has more than {share} of its lifetime left",
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

/// Remembers what the authority told.
pub(crate) fn order_answered(
    world: &mut World,
    pass: u32,
    site: Site,
    names: &[String],
    answer: &Result<String, Refusal>,
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

/// A limit of the authority was met: the names' certificates may have to wait.
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
    // A rateLimited order holds the authority for all.
    world.disturbed = world.disturbed.max(now + Duration::days(2));
}

/// A name could not be validated although it led to us: then we answered wrongly.
pub(crate) fn validation_failed(world: &mut World, name: &str, token: &str, why: &str) {
    if why == "404" || why == "something else" {
        world.broken(format!(
            "rule 2: {name} could not be validated, since {token} was not there when the authority looked"
        ));
    }
}

/// Rules 2, 5, 9: before a challenge is answered.
pub(crate) fn before_answer(world: &mut World, pass: u32, url: &str) {
    // Two documents for the same names may share an order.
    let holders = world.states.iter();
    let holders: Vec<String> = holders
        .filter(|(_, state)| state.order.as_ref().is_some_and(|order| order.url == url))
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
        // Or the name was left out of an order for it.
        let blocked = blocked
            || holders.iter().any(|holder| {
                let missing = &world.states[holder].missing;
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

/// Rule 2: returns the certificate whose stored key this is.
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
                .and_then(|state| state.order.as_ref())
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

/// Renewal information is not asked for expired certificates, and not more often than told.
pub(crate) fn window_asked_for(world: &mut World, pass: u32, serial: &str) {
    let now = world.now();
    let steady = world.is_steady();
    let clock = world.passes.get(&pass).map_or(now, |pass| pass.clock(now));
    let from = world.pass_from(pass);
    // Two documents that share an order may hold the same certificate: one of them is due.
    let holders = world.states.iter().filter_map(|(name, state)| {
        let held = state.certificate.as_ref()?;
        (held.serial == serial).then_some((name, held.renewal.information.as_ref()?.ask_again))
    });
    let holder = holders.min_by_key(|(_, ask_again)| *ask_again);
    if let Some((name, ask_again)) = holder
        // Several that look at once may ask at once.
        && world.book.state_written.get(name).is_none_or(|at| *at < from)
        && ask_again > clock + Duration::seconds(1)
        && ask_again < clock + Duration::hours(24)
    {
        world.broken(format!(
            "rule 7: a window is asked for {name} before {ask_again}"
        ));
    }
    if let Some(issued) = world.ca.issued.get(serial)
        && issued.not_after + Duration::minutes(1) < now
        && steady
    {
        world.broken(format!(
            "rule 8: a window is asked for {serial}, which has expired"
        ));
    }
}

/// A pass has ended: what it told, and whether it kept its time.
pub(crate) fn pass_ended(world: &mut World, pass: u32, entries: &[Entry], full: bool) {
    let now = world.now();
    let Some(running) = world.passes.get(&pass) else {
        return;
    };
    let (elapsed, remaining, fault, skew) = (
        running.started.elapsed(),
        running.remaining,
        running.met_fault,
        running.skew,
    );
    if elapsed > remaining {
        world.broken(format!(
            "rule 11: pass#{pass} ended {:?} after its deadline",
            elapsed - remaining
        ));
    }
    let report = serde_json::to_vec(entries).unwrap_or_default();
    secrets(world, "a report", &report);
    if !fault {
        for told in world
            .book
            .told
            .values_mut()
            .filter(|told| told.pass == pass)
        {
            told.ended_well = true;
        }
        if full && skew.abs() < Duration::seconds(4) {
            world.book.last_good_pass = Some(now);
        }
    }
}

/// What must hold as time goes by.
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
        // Where a person is needed first, nothing may be ordered.
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
                    // What others put there, or took our tags from, is theirs to renew.
                    let ours =
                        world.owner_of(arn).as_ref() == Some(name) || knows_arn(world, name, arn);
                    if calm && ours && !wish.paused && !needs_person(world, name, wish) {
                        broken = Some(format!(
                            "{domain} of {name} is served {} ({arn}) on {listener}, which expired at {}, and nothing was out of order for three days",
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
            // What has ended needs no revocation.
            && world.ca.issued[serial].not_after > calm + REPLACED_WITHIN
            && !world.book.removing.contains_key(name)
        {
            broken = Some(format!(
                "revocation: {serial} of {name} was to be revoked since {since}, and is not"
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

/// What is revoked is replaced within a day where that can be done.
fn others_replaced(world: &World, name: &str, wish: &Wish, now: OffsetDateTime) -> Option<String> {
    let state = world.states.get(name)?;
    let held = state.certificate.as_ref()?;
    let revoked = world.ca.issued.get(&held.serial)?.revoked?;
    let calm = world.calm_since(name).max(revoked);
    let overdue = calm + REPLACED_WITHIN < now;
    (overdue && !wish.paused).then(|| {
        let why = state.order_failure.as_ref();
        let why = why.map(|failure| format!("{} until {}", failure.problem.detail, failure.next_attempt));
        format!(
            "revocation: {} of {name} was revoked at {revoked} and is still what is wanted, and nothing was out of order since {calm} ({})",
            held.serial,
            why.unwrap_or_default()
        )
    })
}

/// Returns the names that could be proved for a day and are in no valid certificate, although the document bears that others cannot.
fn unprovided<'w>(
    world: &'w World,
    name: &str,
    wish: &'w Wish,
    sound: OffsetDateTime,
    now: OffsetDateTime,
) -> Vec<(&'w str, String)> {
    // One that others serve as well may be theirs to validate.
    let is_held = world.book.rolled_back.contains_key(name) || is_held_back(world, name);
    if !wish.partial || wish.paused || is_held {
        return Vec::new();
    }
    let sound = sound.max(world.first_down);
    let state = world.states.get(name);
    let held = state.and_then(|state| state.certificate.as_ref());
    // What is served is not given up for a name that is new.
    let blocked = held.is_some_and(|held| {
        held.not_after > now
            && held.domains.iter().any(|known| {
                world.astray.contains_key(known.as_str())
                    || world.ca.paused.contains_key(known.as_str())
                    || (world.back_at.get(known.as_str()))
                        .is_some_and(|back| *back + PROVIDED_WITHIN >= now)
            })
    });
    // What cannot be attached is not ordered.
    let is_full = |(listener, _): (&str, bool)| {
        let listener = world.listeners.get(listener);
        listener.is_some_and(|it| it.holding.list.len() >= it.quota.min(FULL))
    };
    // Nor is what another document holds.
    let is_contended = world.visitors.is_on() && crate::words::rival(world, name, wish).is_some();
    if blocked || is_contended || wish.listeners().any(is_full) {
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
            let missing = state.map(|state| &state.missing);
            let failure = state.and_then(|state| state.order_failure.as_ref());
            let why = format!(
                "could be proved since {sound} and is in no valid certificate ({:?}; {:?})",
                missing.map(|missing| missing.keys().map(ToString::to_string).collect::<Vec<_>>()),
                failure.map(|failure| (&failure.problem.detail, failure.next_attempt))
            );
            (domain.as_str(), why)
        })
        .collect()
}

/// Whether somebody went back to a certificate whose names another document has by now, with a key of the same kind: a listener shows one
/// of the two.
fn went_back_onto_another(world: &World, name: &str) -> bool {
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

/// A day after things calmed down everything is as wanted, and nothing of ours is left over.
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
            "not well a day after things calmed down: {}",
            problems.join("; ")
        ));
    }
    for (name, wish) in calm {
        words::calm(world, &name, &wish);
    }
}

/// What is left of a certificate that was removed.
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
    // So many that nothing is done by itself.
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
    // One that somebody took our tags from may be a default as well.
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
    let told = state.and_then(|state| state.deployment_failure.as_ref());
    if stays && told.is_none_or(|told| told.problem.kind != "certloop:stillDefault") {
        problems.push(format!("{name}: it stays a default and nobody is told"));
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

/// What only a person can mend, and nobody has yet.
fn needs_person(world: &World, name: &str, wish: &Wish) -> bool {
    let full = wish.listeners().any(|(arn, _)| {
        let listener = &world.listeners[arn];
        listener.holding.list.len() >= listener.quota
    });
    let refused = world.states.get(name).is_some_and(|state| {
        let failures = [&state.order_failure, &state.deployment_failure];
        failures
            .into_iter()
            .flatten()
            .any(|failure| failure.problem.kind == "certloop:arnWouldChange")
    });
    // Somebody else's certificate for the same name stands on the same listener: which one is served nobody can tell.
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

/// Whether another document holds the place, or something that is superseded stays: a person has to say what is meant.
fn is_held_back(world: &World, name: &str) -> bool {
    world.states.get(name).is_some_and(|state| {
        let mut targets = state.targets.iter();
        !state.contended.is_empty() || targets.any(|target| !target.stays.is_empty())
    })
}

/// Another document wants the same place, one of others that is superseded serves more than ours does, or the bucket does not know
/// of one of ours.
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
    stays || words::rival(world, name, wish).is_some()
}

/// The bucket is that of another day: what is remembered of later ones is held against nobody.
pub(crate) fn restored(world: &mut World) {
    let now = world.now();
    let ours: Vec<String> = world.manager.keys().cloned().collect();
    let ours = ours.into_iter().filter(|arn| world.owner_of(arn).is_some());
    let ours: Vec<String> = ours.collect();
    world.visitors.restored_at = Some(now);
    world.visitors.older.extend(ours);
    let states = &world.states;
    let book = &mut world.book;
    (book.skewed_at, book.miscounted_at) = (Some(now), Some(now));
    book.told.clear();
    book.heard.clear();
    book.rolled_back.clear();
    for (name, state) in states {
        let held = state.certificate.as_ref();
        if let (Some(back), Some(held)) = (&state.rolled_back, held) {
            let back = RolledBack {
                serial: held.serial.clone(),
                document: Some(back.document.clone()),
            };
            book.rolled_back.insert(name.clone(), back);
        }
    }
    book.revoking.retain(|serial, (name, _)| {
        let state = states.get(name);
        state.is_some_and(|state| state.is_to_be_revoked(serial))
    });
    book.removing.retain(|name, _| {
        let state = states.get(name);
        state.is_some_and(|state| state.removing.is_some())
    });
    for (name, state) in states {
        if let Some(removing) = &state.removing {
            book.removing.entry(name.clone()).or_insert(removing.at);
        }
    }
}

/// Whether a removal goes on.
pub(crate) fn is_removed(world: &World, name: &str) -> bool {
    world.book.removing.contains_key(name)
}

/// Returns the serial to which somebody went back.
pub(crate) fn went_back_to<'w>(world: &'w World, name: &str) -> Option<&'w str> {
    let back = world.book.rolled_back.get(name);
    back.map(|back| back.serial.as_str())
}

fn not_well(world: &World, name: &str, wish: &Wish, now: OffsetDateTime) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(state) = world.states.get(name) else {
        return vec!["it has no state".to_owned()];
    };
    let failures = [&state.order_failure, &state.deployment_failure];
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
    // A pause, tags or `partial` do not end a rollback: only another word does.
    let word = (world.states.get(name))
        .and_then(|state| state.rolled_back.as_ref())
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
            let there = if *default {
                holding.default.as_deref() == Some(arn)
            } else {
                holding.has(arn)
            };
            if !there {
                problems.push(format!("{listener} does not hold it ({})", why.join("; ")));
            }
        }
    }
    if let Some(order) = &state.order {
        problems.push(format!(
            "{} is still under way ({})",
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
            || state.previous.as_deref() == Some(serial)
            || state.is_to_be_revoked(serial);
        if !is_needed {
            problems.push(format!("{key} is left over"));
        }
    }
    let regions = wish.regions();
    for (arn, it) in &world.manager {
        if world.owner_of(arn).as_deref() != Some(name) {
            continue;
        }
        let import = state.imports.get(&it.region);
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
        // A switch that was put off until now: the overlap has only begun.
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

/// After a day and what the longest wait of ours may add to it.
const REPLACED_WITHIN: Duration = Duration::hours(26);
const PROVIDED_WITHIN: Duration = Duration::hours(26);
/// How long nothing may have been out of order before everything must be well.
const CALM: Duration = Duration::hours(54);

/// A load balancer takes so many certificates beside the defaults.
const FULL: usize = 25;
