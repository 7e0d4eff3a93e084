//! Rule 12: no action of certloop may take a certificate from a visitor.
//!
//! A visitor has a name and a kind of key, and sends the name (SNI) or not. Around each call of
//! certloop that changes a listener or the content of an ARN, this module compares what every
//! visitor gets before and after. Nothing here asks the library what is allowed;
//! [`words`](crate::words) says which losses a person's word covers.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use certificates::values::chain::{Chain, Leaf};
use certificates::values::key::KeyType;
use time::{Duration, OffsetDateTime};

use crate::aws::covers;
use crate::trace::shorten;
use crate::words;
use crate::world::{World, name_in};

/// The memory of the oracle.
pub(crate) struct Visitors {
    mode: Mode,
    is_provoked: bool,
    /// The leaves issued for our documents, by serial.
    pub(crate) issued: BTreeMap<String, IssuedLeaf>,
    /// Serials of ours that some place has held.
    served: BTreeSet<String>,
    /// How often a place was rolled back from a serial.
    ways_back: BTreeMap<(String, String), u32>,
    /// ARNs whose tags people removed, with the document and since when.
    pub(crate) was_ours: BTreeMap<String, (String, OffsetDateTime)>,
    /// When the bucket was last restored to another day,
    pub(crate) restored_at: Option<OffsetDateTime>,
    /// and our ARNs that existed then.
    pub(crate) older: BTreeSet<String>,
    /// The last report of each certificate, as text.
    pub(crate) reports: BTreeMap<String, String>,
    /// The first finding of each case.
    pub(crate) found: BTreeMap<String, String>,
}

/// Whether the oracle checks, and what a finding does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Only the other rules are checked.
    Off,
    /// Findings are listed, and the simulation continues.
    List,
    /// A finding is a broken rule.
    On,
}

/// A certificate that was issued for a document.
pub(crate) struct IssuedLeaf {
    pub(crate) document: String,
    pub(crate) leaf: Rc<Leaf>,
}

thread_local! {
    static PROVOKED: Cell<bool> = const { Cell::new(false) };
}

/// Lets people provoke rule 12 in the worlds that this thread makes from now on.
pub(crate) fn provoke() {
    PROVOKED.set(true);
}

impl Default for Visitors {
    fn default() -> Self {
        let mode = std::env::var("RULE12").unwrap_or_default();
        Self {
            mode: match mode.as_str() {
                "list" => Mode::List,
                "off" => Mode::Off,
                _ => Mode::On,
            },
            is_provoked: matches!(mode.as_str(), "on" | "restores" | "list") || PROVOKED.get(),
            issued: BTreeMap::new(),
            served: BTreeSet::new(),
            ways_back: BTreeMap::new(),
            was_ours: BTreeMap::new(),
            restored_at: None,
            older: BTreeSet::new(),
            reports: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }
}

impl Visitors {
    /// Records serials that some place holds.
    pub(crate) fn note_served(&mut self, serials: BTreeSet<String>) {
        self.served.extend(serials);
    }

    /// Whether rule 12 is checked.
    pub(crate) fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// Whether people provoke it.
    pub(crate) fn is_provoked(&self) -> bool {
        self.is_provoked
    }
}

impl World {
    /// Records that something was taken from a visitor.
    pub(crate) fn takes(&mut self, case: &str, what: &str) {
        match self.visitors.mode {
            Mode::Off => {}
            Mode::On => self.broken(format!("rule 12, {case}: {}", shorten(what))),
            Mode::List => self.list(case, what),
        }
    }

    /// In the list mode, lists a finding instead of ending the world.
    pub(crate) fn lists(&mut self, what: &str) -> bool {
        let is_listed = self.visitors.mode == Mode::List && !what.contains("does not end");
        if is_listed {
            let rule = what.split(':').next().unwrap_or_default();
            self.list(&format!("the others, {rule}"), what);
        }
        is_listed
    }

    fn list(&mut self, case: &str, what: &str) {
        let what = shorten(what);
        self.tally.count(&format!("rule 12: {case}"));
        self.say(format_args!("RULE 12, {case}: {what}"));
        let first = format!("{}: {what}", self.now());
        self.visitors.found.entry(case.to_owned()).or_insert(first);
        // A finding that returns in each pass for ever has been reported often enough.
        if self.tally.of(&format!("rule 12: {case}")) > LISTED && self.broken.is_none() {
            self.broken = Some(format!("{case} was listed {LISTED} times"));
        }
    }
}

/// A world in the list mode ends after this many findings of one case.
const LISTED: u64 = 300;

/// A call of certloop that changes what visitors get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch<'t> {
    Add { listener: &'t str, arn: &'t str },
    SetDefault { listener: &'t str, arn: &'t str },
    Remove { listener: &'t str, arn: &'t str },
    ReImport { arn: &'t str },
    Delete { arn: &'t str },
}

impl Touch<'_> {
    pub(crate) fn arn(&self) -> &str {
        match self {
            Self::Add { arn, .. }
            | Self::SetDefault { arn, .. }
            | Self::Remove { arn, .. }
            | Self::ReImport { arn }
            | Self::Delete { arn } => arn,
        }
    }
}

/// A certificate in a place.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) arn: String,
    pub(crate) leaf: Rc<Leaf>,
    /// The document it belongs to: by its tags, or, if people removed them, by our state and vault.
    pub(crate) owner: Option<String>,
}

/// What a listener holds.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) default: Option<Standing>,
    pub(crate) list: Vec<Standing>,
}

impl View {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Standing> {
        self.list.iter().chain(&self.default)
    }

    pub(crate) fn has(&self, arn: &str) -> bool {
        self.all().any(|standing| standing.arn == arn)
    }

    /// Returns what a visitor gets: of several that fit a valid one, of the shortest validity, then
    /// the first by ARN, as in [`served`](crate::aws::served).
    fn gets(&self, visitor: &Visitor, at: OffsetDateTime) -> Option<&Standing> {
        let speaks = |standing: &&Standing| is_ecdsa(&standing.leaf) == visitor.ecdsa;
        let fitting = self.all().filter(speaks);
        let fitting = fitting.filter(|it| visitor.sni && covers(&it.leaf, &visitor.name));
        let chosen = fitting.min_by_key(|it| {
            let leaf = &it.leaf;
            (
                leaf.not_after < at,
                leaf.not_after - leaf.not_before,
                it.arn.clone(),
            )
        });
        chosen.or_else(|| self.default.as_ref().filter(speaks))
    }

    /// Returns every visitor for whom a valid certificate is here.
    fn visitors(&self, world: &World, at: OffsetDateTime) -> BTreeSet<Visitor> {
        let exact = || self.all().flat_map(|it| &it.leaf.names);
        let mut visitors = BTreeSet::new();
        for standing in self.all() {
            if !is_good(world, &standing.leaf, at) {
                continue;
            }
            let is_default = self.default.as_ref().map(|it| &it.arn) == Some(&standing.arn);
            let mut come = |name: &str| {
                for sni in [true, false] {
                    if sni || is_default {
                        visitors.insert(Visitor {
                            name: name.to_owned(),
                            ecdsa: is_ecdsa(&standing.leaf),
                            sni,
                        });
                    }
                }
            };
            for name in &standing.leaf.names {
                let Some(parent) = name.as_str().strip_prefix("*.") else {
                    come(name.as_str());
                    continue;
                };
                come(&format!("visitor.{parent}"));
                let below = exact().filter(|other| covers(&standing.leaf, other.as_str()));
                below
                    .filter(|name| !name.as_str().starts_with("*."))
                    .for_each(|name| come(name.as_str()));
            }
        }
        visitors
    }
}

/// A visitor of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Visitor {
    pub(crate) name: String,
    /// Accepts ECDSA keys only; otherwise RSA keys only.
    pub(crate) ecdsa: bool,
    pub(crate) sni: bool,
}

impl std::fmt::Display for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.ecdsa { "ECDSA" } else { "RSA" };
        let how = if self.sni { "" } else { ", without SNI" };
        write!(f, "{} ({kind}{how})", self.name)
    }
}

pub(crate) fn is_ecdsa(leaf: &Leaf) -> bool {
    leaf.key_type.is_some_and(KeyType::is_ecdsa)
}

/// Whether a leaf serves anyone validly. A placeholder does not.
pub(crate) fn is_good(world: &World, leaf: &Leaf, at: OffsetDateTime) -> bool {
    let revoked = world.ca.issued.get(&leaf.serial);
    let revoked = revoked.is_some_and(|issued| issued.revoked.is_some());
    !leaf.self_signed && !revoked && leaf.not_before <= at && at < leaf.not_after
}

/// Whether a visitor who gets this is validly served.
pub(crate) fn serves(world: &World, leaf: &Leaf, visitor: &Visitor, at: OffsetDateTime) -> bool {
    is_good(world, leaf, at) && is_ecdsa(leaf) == visitor.ecdsa && covers(leaf, &visitor.name)
}

/// Whether one of our leaves may replace another one: it ends later, or it begins later and half of
/// its lifetime is left.
pub(crate) fn succeeds(new: &Leaf, old: &Leaf, at: OffsetDateTime) -> bool {
    let half = (new.not_after - new.not_before) / 2;
    new.not_after > old.not_after
        || new.not_before > old.not_before && new.not_after - at >= half
        || new.serial == old.serial
}

/// Returns the certificate under an ARN.
pub(crate) fn standing(world: &World, arn: &str) -> Option<Standing> {
    let held = world.manager.get(arn)?;
    let owner = world.owner_of(arn).or_else(|| {
        let issued = world.visitors.issued.get(&held.leaf.serial)?;
        let known = crate::rules::knows_arn(world, &issued.document, arn);
        known.then(|| issued.document.clone())
    });
    Some(Standing {
        arn: arn.to_owned(),
        leaf: held.leaf.clone(),
        owner,
    })
}

/// Returns what a listener holds now.
pub(crate) fn view(world: &World, listener: &str) -> View {
    let Some(it) = world.listeners.get(listener) else {
        return View::default();
    };
    View {
        default: (it.holding.default.as_ref()).and_then(|arn| standing(world, arn)),
        list: (it.holding.list.iter())
            .filter_map(|arn| standing(world, arn))
            .collect(),
    }
}

/// Lets a call take effect, and judges its effect on visitors.
pub(crate) fn around<T>(
    world: &mut World,
    pass: u32,
    touch: Touch<'_>,
    act: impl FnOnce(&mut World) -> T,
) -> T {
    if !world.visitors.is_on() {
        return act(world);
    }
    let listeners: Vec<String> = match touch {
        Touch::Add { listener, .. }
        | Touch::SetDefault { listener, .. }
        | Touch::Remove { listener, .. } => vec![listener.to_owned()],
        Touch::ReImport { arn } | Touch::Delete { arn } => (world.listeners.iter())
            .filter(|(_, it)| it.holding.has(arn))
            .map(|(listener, _)| listener.clone())
            .collect(),
    };
    let before: Vec<View> = listeners.iter().map(|it| view(world, it)).collect();
    let content = standing(world, touch.arn());
    let done = act(world);
    let call = Call {
        pass,
        touch,
        at: at(world, pass),
    };
    let went_back = goes_back(world, &call, content.as_ref(), &listeners, &before);
    for (listener, before) in listeners.iter().zip(&before) {
        let after = view(world, listener);
        if !went_back {
            judge(world, &call, listener, before, &after);
        }
        for standing in after.all().filter(|it| it.owner.is_some()) {
            world.visitors.served.insert(standing.leaf.serial.clone());
        }
    }
    if let Some(content) = content.filter(|_| !went_back) {
        judge_content(world, &call, &content);
    }
    done
}

/// A call and the pass that made it.
pub(crate) struct Call<'t> {
    pub(crate) pass: u32,
    pub(crate) touch: Touch<'t>,
    /// The later of the two clocks: an end that a wrong clock believes past is no fault.
    pub(crate) at: OffsetDateTime,
}

fn at(world: &World, pass: u32) -> OffsetDateTime {
    let now = world.now();
    let clock = world.passes.get(&pass).map(|pass| pass.clock(now));
    clock.map_or(now, |clock| clock.max(now))
}

/// Returns what was taken from visitors of a listener.
fn judge(world: &mut World, call: &Call<'_>, listener: &str, before: &View, after: &View) {
    let mut findings = losses(world, call, listener, before, after);
    findings.extend(foreign_left(world, call, listener, before, after));
    findings.extend(own_left(world, call, listener, before, after));
    findings.extend(of_another(world, call, listener, before));
    let touch = call.touch;
    for (case, what) in findings {
        let line = format!("pass#{} {touch:?} on {listener}: {what}", call.pass);
        world.takes(&case, &line);
    }
}

type Finding = (String, String);

/// Returns visitors who were validly served before, are not now, and whose loss no word covers.
fn losses(
    world: &mut World,
    call: &Call<'_>,
    listener: &str,
    before: &View,
    after: &View,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut spoken = Vec::new();
    for visitor in before.visitors(world, call.at) {
        let good = |it: &&Standing| serves(world, &it.leaf, &visitor, call.at);
        let Some(lost) = before.gets(&visitor, call.at).filter(good) else {
            continue;
        };
        let now = after.gets(&visitor, call.at);
        if now.is_some_and(|it| good(&it)) {
            continue;
        }
        if let Some(word) = words::covers_loss(world, call, listener, &visitor, lost, after) {
            spoken.push(format!("word: {word}"));
            continue;
        }
        let case = words::case(world, call, lost);
        let got = now.map_or("nothing".to_owned(), |it| {
            format!("{} ({})", it.leaf.serial, it.arn)
        });
        findings.push((
            case,
            format!(
                "{visitor} loses {} ({}, of {}) and gets {got}",
                lost.leaf.serial,
                lost.arn,
                lost.owner.as_deref().unwrap_or("others")
            ),
        ));
    }
    for word in spoken {
        world.tally.count(&word);
    }
    findings
}

/// A certificate of others leaves only when ours serves everything that it serves, with a key of
/// the same kind.
fn foreign_left(
    world: &World,
    call: &Call<'_>,
    listener: &str,
    before: &View,
    after: &View,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let left = before.all().filter(|it| it.owner.is_none());
    for theirs in left.filter(|it| !after.has(&it.arn) && is_good(world, &it.leaf, call.at)) {
        let names = theirs.leaf.names.iter();
        let bare: Vec<&str> = names
            .map(|name| name.as_str())
            .filter(|name| {
                let name = name.replacen('*', "visitor", 1);
                !after.all().any(|it| {
                    it.owner.is_some()
                        && is_good(world, &it.leaf, call.at)
                        && is_ecdsa(&it.leaf) == is_ecdsa(&theirs.leaf)
                        && covers(&it.leaf, &name)
                })
            })
            .collect();
        if !bare.is_empty() {
            findings.push((
                words::case(world, call, theirs),
                format!(
                    "{} ({}) of others leaves {listener} and nothing of ours serves {}",
                    theirs.leaf.serial,
                    theirs.arn,
                    bare.join(",")
                ),
            ));
        }
    }
    findings
}

/// One of ours leaves only for a later one.
fn own_left(
    world: &World,
    call: &Call<'_>,
    listener: &str,
    before: &View,
    after: &View,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for old in before.all().filter(|it| is_good(world, &it.leaf, call.at)) {
        let Some(owner) = &old.owner else { continue };
        let stays = |it: &Standing| it.arn == old.arn && it.leaf.serial == old.leaf.serial;
        if after.all().any(stays)
            || words::went_back(world, owner, &old.leaf)
            || words::is_to_be_revoked(world, owner, &old.leaf.serial)
        {
            continue;
        }
        // A loss that a word covers needs no successor.
        let names = old.leaf.names.iter().filter(|name| {
            let visitor = Visitor {
                name: name.to_string(),
                ecdsa: is_ecdsa(&old.leaf),
                sni: true,
            };
            words::covers_loss(world, call, listener, &visitor, old, after).is_none()
        });
        let names: Vec<&str> = names.map(|name| name.as_str()).collect();
        let heirs: Vec<&Standing> = (after.all())
            .filter(|it| it.owner.as_ref() == Some(owner))
            .filter(|it| names.iter().any(|name| covers(&it.leaf, name)))
            .collect();
        if heirs.is_empty()
            || heirs
                .iter()
                .any(|it| succeeds(&it.leaf, &old.leaf, call.at))
        {
            continue;
        }
        findings.push((
            words::case(world, call, old),
            format!(
                "{} of {owner} leaves {listener}, ends at {}, and only {} stays, which ends at {}",
                old.leaf.serial, old.leaf.not_after, heirs[0].leaf.serial, heirs[0].leaf.not_after
            ),
        ));
    }
    findings
}

/// A certificate that another document has on a listener is not removed or displaced.
fn of_another(world: &World, call: &Call<'_>, listener: &str, before: &View) -> Vec<Finding> {
    let is_valid = |it: &&Standing| is_good(world, &it.leaf, call.at);
    match call.touch {
        Touch::Remove { arn, .. } => {
            let theirs = before.all().filter(is_valid).find(|it| it.arn == arn);
            // Without its tags it counts as one of others.
            let owner = world.owner_of(arn);
            let Some((theirs, owner)) = theirs.zip(owner) else {
                return Vec::new();
            };
            let is_current = words::current_arn(world, &owner, arn);
            let taker = words::who_supersedes(world, call.pass, arn, listener);
            let taker = taker.into_iter().find(|taker| *taker != owner);
            match taker.filter(|_| is_current && words::wants(world, call.pass, &owner, listener)) {
                Some(taker) => vec![(
                    "case 3".to_owned(),
                    format!("{taker} takes {} of {owner} off", theirs.leaf.serial),
                )],
                None => Vec::new(),
            }
        }
        Touch::SetDefault { arn, .. } => {
            let Some(theirs) = before.default.as_ref().filter(is_valid) else {
                return Vec::new();
            };
            // Without its tags it counts as one of others.
            let (Some(owner), Some(taker)) = (&world.owner_of(&theirs.arn), world.owner_of(arn))
            else {
                return Vec::new();
            };
            let holds = words::wants_default(world, call.pass, owner, listener)
                && !words::is_restored(world);
            match holds && *owner != taker {
                true => vec![(
                    "case 4".to_owned(),
                    format!("{taker} takes the default that {owner} wants and holds"),
                )],
                false => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// Clients that follow an ARN get its content.
fn judge_content(world: &mut World, call: &Call<'_>, old: &Standing) {
    let Some(owner) = old.owner.clone() else {
        return;
    };
    let followed = words::is_followed(world, &owner, &old.arn);
    let new = match call.touch {
        Touch::ReImport { arn } => world.manager.get(arn).map(|held| held.leaf.clone()),
        Touch::Delete { .. } => None,
        _ => return,
    };
    if followed && let Some(new) = &new {
        world.visitors.served.insert(new.serial.clone());
    }
    if !followed || !is_good(world, &old.leaf, call.at) {
        return;
    }
    let back = words::went_back(world, &owner, &old.leaf)
        || words::is_to_be_revoked(world, &owner, &old.leaf.serial);
    if let Some(new) = new
        .as_ref()
        .filter(|new| !back && !succeeds(new, &old.leaf, call.at))
    {
        let what = format!(
            "pass#{} {:?}: {} of {owner} ends at {}, and {} takes its place, which ends at {}",
            call.pass, call.touch, old.leaf.serial, old.leaf.not_after, new.serial, new.not_after
        );
        let case = words::case(world, call, old);
        world.takes(&case, &what);
    }
    let names = old.leaf.names.iter().map(|name| name.as_str());
    let kept = |name: &str| new.as_ref().is_some_and(|new| covers(new, name));
    let lost: Vec<String> = (names.filter(|name| !kept(name)))
        .filter(|name| !words::content_is_covered(world, call, &owner, name, old, new.as_deref()))
        .map(str::to_owned)
        .collect();
    if !lost.is_empty() {
        let what = format!(
            "pass#{} {:?}: followers of {} lose {}",
            call.pass,
            call.touch,
            old.arn,
            lost.join(",")
        );
        let case = words::case(world, call, old);
        world.takes(&case, &what);
    }
}

/// The way back after a failed proof: allowed once for one leaf (twice if a pass died during it),
/// and not to a leaf that ends before the next attempt but one. Returns whether this call is a step
/// of it.
fn goes_back(
    world: &mut World,
    call: &Call<'_>,
    old: Option<&Standing>,
    listeners: &[String],
    before: &[View],
) -> bool {
    let arn = call.touch.arn();
    let (owner, left, place) = match call.touch {
        Touch::ReImport { .. } => {
            let Some((owner, old)) = old.and_then(|old| Some((old.owner.clone()?, old))) else {
                return false;
            };
            let new = world.manager.get(arn).map(|held| held.leaf.serial.clone());
            if !words::is_way_back(world, &owner, arn, &old.leaf.serial, new.as_deref()) {
                return false;
            }
            (owner, old.leaf.serial.clone(), arn.to_owned())
        }
        Touch::Add { listener, .. } | Touch::SetDefault { listener, .. } => {
            let Some(owner) = words::brings_back(world, call.pass, listener, arn) else {
                return false;
            };
            let held = world.states.get(&owner);
            let held = held.and_then(|state| state.certificate.as_ref());
            let Some(left) = held.map(|held| held.serial.clone()) else {
                return false;
            };
            let is_there = match call.touch {
                // A default that moves to the list during the switch does not come back.
                Touch::Add { .. } => before[0].has(arn),
                _ => before[0].default.as_ref().is_some_and(|it| it.arn == arn),
            };
            if is_there {
                return false;
            }
            (owner, left, format!("{}, {arn}", listeners[0]))
        }
        _ => return false,
    };
    world.tally.count("rule 12: a way back");
    let back = world.manager.get(arn).map(|held| held.leaf.clone());
    let times = (world.visitors.ways_back)
        .entry((place.clone(), left.clone()))
        .or_default();
    *times += 1;
    let times = *times;
    if times > 2 {
        let what = format!("{place} of {owner} goes back from {left} for the {times}th time");
        world.takes("case 6", &what);
    }
    let ends = back.map(|back| back.not_after);
    if ends.is_some_and(|ends| ends < call.at + NEXT_BUT_ONE) && words::is_fresh(world, &left) {
        let what = format!("{place} of {owner} goes back from {left} to one that ends at {ends:?}");
        world.takes("case 6", &what);
    }
    true
}

/// After a failed deployment the next attempt comes a minute later, the one after it ten minutes
/// later.
const NEXT_BUT_ONE: Duration = Duration::minutes(11);

/// Records what the vault received: which leaf was issued for which document.
pub(crate) fn stored(world: &mut World, key: &str, chain: &str) {
    let Some(name) = name_in(key).filter(|_| world.visitors.is_on()) else {
        return;
    };
    let Ok(chain) = Chain::parse(chain) else {
        return;
    };
    let leaf = Rc::new(chain.leaf().clone());
    let issued = IssuedLeaf {
        document: name.to_owned(),
        leaf: leaf.clone(),
    };
    world.visitors.issued.insert(leaf.serial.clone(), issued);
}

/// Whether some place has ever held this serial.
pub(crate) fn was_served(world: &World, serial: &str) -> bool {
    world.visitors.served.contains(serial)
}

/// Returns the serials of a document in places where visitors may get them now.
pub(crate) fn served_now(world: &World, name: &str) -> BTreeSet<String> {
    let is_ours = |it: &Standing| it.owner.as_deref() == Some(name);
    let mut serials = BTreeSet::new();
    for listener in world.listeners.keys() {
        let view = view(world, listener);
        let ours = view.all().filter(|it| is_ours(it));
        serials.extend(ours.map(|it| it.leaf.serial.clone()));
    }
    let followed = (world.manager.keys()).filter(|arn| words::is_followed(world, name, arn));
    let followed = followed.filter_map(|arn| standing(world, arn));
    serials.extend(followed.map(|it| it.leaf.serial.clone()));
    serials
}
