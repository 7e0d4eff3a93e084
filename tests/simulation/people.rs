//! What people want at first, and everything they do later.

mod deeds;

use std::collections::BTreeMap;

use certificates::contract::settings::CheckMode;
use certificates::invocation::actions::Action;
use certificates::ports::load_balancer::Holding;
use certificates::values::chain::Chain;
use certificates::values::key::KeyType;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::aws::{SimListener, add_certificate, change, covers};
use crate::ca::{self, Site};
use crate::faults::Roughness;
use crate::rules;
use crate::store;
use crate::world::{ACCOUNT, HOME, Wished, World};

pub(crate) use deeds::act;

/// The content of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Sorted.
    pub(crate) domains: Vec<String>,
    pub(crate) key_type: KeyType,
    pub(crate) profile: Option<&'static str>,
    pub(crate) targets: Vec<Target>,
    pub(crate) supersedes: Vec<String>,
    pub(crate) paused: bool,
    /// Whether names that cannot be validated delay the others.
    pub(crate) partial: bool,
    /// Keys of the settings; empty for the default.
    pub(crate) authorities: Vec<&'static str>,
}

/// A request of a person, by a certificate's name, until it has an answer.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) name: String,
    pub(crate) action: Action,
}

/// A place for the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Listener { arn: String, default: bool },
    Manager { region: String },
}

impl Wish {
    fn document(&self) -> Value {
        let targets: Vec<Value> = self
            .targets
            .iter()
            .map(|target| match target {
                Target::Listener { arn, default } => {
                    let place = if *default { "default" } else { "sni" };
                    json!({"type": "listener", "arn": arn, "as": place})
                }
                Target::Manager { region } => {
                    json!({"type": "certificateManager", "region": region})
                }
            })
            .collect();
        let authority = match &self.authorities[..] {
            [] => Value::Null,
            [one] => json!(one),
            list => json!(list),
        };
        json!({
            "authority": authority,
            "partial": self.partial,
            "domains": self.domains,
            "keyType": self.key_type,
            "profile": self.profile,
            "targets": targets,
            "supersedes": self.supersedes,
            "paused": self.paused,
        })
    }

    /// Returns the authorities it may come from, the preferred one first.
    pub(crate) fn sites(&self) -> Vec<Site> {
        let keys = self.authorities.iter();
        let sites: Vec<Site> = keys.map(|key| Site::of_key(key)).collect();
        match sites.is_empty() {
            true => vec![Site::First],
            false => sites,
        }
    }

    /// Returns the wish without a profile that its preferred authority does not offer.
    fn sensible(mut self) -> Self {
        if self.sites()[0] == Site::Second {
            self.profile = self.profile.filter(|profile| *profile == "classic");
        }
        self
    }

    /// Returns the listeners it asks for.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&str, bool)> {
        self.targets.iter().filter_map(|target| match target {
            Target::Listener { arn, default } => Some((arn.as_str(), *default)),
            Target::Manager { .. } => None,
        })
    }

    /// Returns the regions it asks for.
    pub(crate) fn regions(&self) -> Vec<&str> {
        let mut regions: Vec<&str> = self
            .targets
            .iter()
            .map(|target| match target {
                Target::Listener { .. } => HOME,
                Target::Manager { region } => region,
            })
            .collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }
}

/// Creates the first content of a world: listeners with certificates of others, documents, limits.
pub(crate) fn settle(world: &mut World) {
    let rough = world.weather.roughness;
    let listeners = world.rng.usize(1..=3);
    for n in 0..listeners {
        let arn = format!(
            "arn:aws:elasticloadbalancing:{HOME}:{ACCOUNT}:listener/app/web{n}/000000000000000{n}/\
             00000000000000{n}f"
        );
        let default = match world.rng.u8(..5) {
            0 => Default::SelfSigned,
            1 => Default::EndsSoon,
            _ => Default::Good,
        };
        let default = foreign(world, &format!("host{n}.foreign.net"), default);
        let mut list = Vec::new();
        for other in 0..world.rng.usize(..3) {
            list.push(foreign(
                world,
                &format!("other{other}.list{n}.foreign.net"),
                Default::Good,
            ));
        }
        let quota = match world.rng.u8(..10) {
            0 if rough > Roughness::Light => list.len() + 2,
            1 => list.len() + 4,
            _ => 25,
        };
        let holding = Holding {
            default: Some(default),
            list,
        };
        let now = world.now();
        // In this mode a certificate that cannot be seen is never proved: such a setting means that
        // nobody wants a deployment.
        let must_be_seen = world.settings.proof.mode == CheckMode::Require;
        let internet_facing = world.rng.u8(..6) != 0 || must_be_seen;
        world.listeners.insert(
            arn,
            SimListener {
                host: format!("web{n}.elb.example"),
                internet_facing,
                versions: vec![(now, holding.clone())],
                holding,
                quota,
                listing_lag: Duration::ZERO,
                serving_lag: Duration::ZERO,
            },
        );
    }
    let many = world.rng.usize(1..=7);
    for n in 0..many {
        let name = format!("c{n}");
        let wish = draw_wish(world, n);
        want(world, &name, Some(wish.clone()));
        // Sometimes a pair: the same names with the other kind of key.
        if world.rng.u8(..6) == 0 {
            let twin = Wish {
                key_type: if wish.key_type.is_ecdsa() {
                    KeyType::Rsa2048
                } else {
                    KeyType::EcdsaP256
                },
                targets: wish.targets.iter().cloned().map(as_sni).collect(),
                supersedes: Vec::new(),
                ..wish
            };
            want(world, &format!("c{n}-twin"), Some(twin));
        }
    }
}

fn as_sni(target: Target) -> Target {
    match target {
        Target::Listener { arn, .. } => Target::Listener {
            arn,
            default: false,
        },
        target => target,
    }
}

enum Default {
    Good,
    SelfSigned,
    EndsSoon,
}

/// Imports a certificate of somebody else.
fn foreign(world: &mut World, name: &str, kind: Default) -> String {
    let now = world.now().replace_nanosecond(0).unwrap();
    let until = match kind {
        Default::EndsSoon => now + Duration::days(world.rng.i64(1..60)),
        _ => now + Duration::days(1_500),
    };
    let pem = ca::foreign(
        &[name],
        now - Duration::days(3),
        until,
        matches!(kind, Default::SelfSigned),
    );
    let leaf = Chain::parse(&pem).unwrap().leaf().clone();
    let tags = BTreeMap::from([("Owner".to_owned(), "somebody".to_owned())]);
    let arn = add_certificate(world, HOME, leaf, &pem, tags);
    if let Some(held) = world.manager.get_mut(&arn) {
        held.known_at = now;
    }
    world.imports -= 1;
    arn
}

fn draw_wish(world: &mut World, n: usize) -> Wish {
    let mut domains = vec![format!(
        "www.c{n}.{}",
        DOMAINS[world.rng.usize(..DOMAINS.len())]
    )];
    for extra in 0..world.rng.usize(..4).saturating_sub(1) {
        domains.push(format!(
            "x{extra}.c{n}.{}",
            DOMAINS[world.rng.usize(..DOMAINS.len())]
        ));
    }
    if world.rng.u8(..8) == 0 {
        // A name that other certificates have as well.
        domains.push(format!("shared.{}", DOMAINS[0]));
    }
    domains.sort();
    domains.dedup();
    Wish {
        partial: domains.len() > 1 && world.rng.bool(),
        domains,
        key_type: draw_key_type(world),
        profile: draw_profile(world),
        targets: draw_targets(world),
        supersedes: Vec::new(),
        paused: false,
        authorities: draw_authorities(world),
    }
    .sensible()
}

fn draw_authorities(world: &mut World) -> Vec<&'static str> {
    let (first, second) = (Site::First.key(), Site::Second.key());
    match world.rng.u8(..12) {
        0..=4 => vec![first, second],
        5 => vec![second],
        6 => vec![second, first],
        7 => vec![first],
        _ => Vec::new(),
    }
}

fn draw_key_type(world: &mut World) -> KeyType {
    match world.rng.u8(..12) {
        0 => KeyType::Rsa2048,
        1 => KeyType::EcdsaP384,
        _ => KeyType::EcdsaP256,
    }
}

fn draw_profile(world: &mut World) -> Option<&'static str> {
    match world.rng.u8(..20) {
        0 => Some("shortlived"),
        1..=7 => Some("tlsserver"),
        8..=12 => Some("classic"),
        _ => None,
    }
}

/// Whether a document wants to be the default of a listener.
fn has_default(world: &World, arn: &str) -> bool {
    let mut wishes = world.wishes.values().filter_map(Wished::now);
    wishes.any(|wish| {
        let mut listeners = wish.listeners();
        listeners.any(|(other, default)| other == arn && default)
    })
}

fn draw_targets(world: &mut World) -> Vec<Target> {
    let all: Vec<String> = world.listeners.keys().cloned().collect();
    let mut targets = Vec::new();
    for arn in all {
        if targets.is_empty() || world.rng.u8(..4) == 0 {
            // One default at most on each listener.
            let default = !has_default(world, &arn) && world.rng.u8(..5) == 0;
            targets.push(Target::Listener { arn, default });
        }
    }
    match world.rng.u8(..10) {
        0 => {
            targets = vec![Target::Manager {
                region: HOME.to_owned(),
            }]
        }
        1 => targets.push(Target::Manager {
            region: "us-east-1".to_owned(),
        }),
        2 if world.rng.bool() => targets.clear(),
        _ => {}
    }
    if targets.len() > 1 && world.rng.bool() {
        targets.swap(0, 1);
    }
    targets
}

/// Puts a document, or deletes it.
pub(crate) fn want(world: &mut World, name: &str, wish: Option<Wish>) {
    let now = world.now();
    world.acted_at = now;
    let key = format!("certificates/{name}.json");
    match &wish {
        Some(wish) => {
            let body = serde_json::to_vec(&wish.document()).unwrap();
            store::put(world, &key, body);
        }
        None => store::remove(world, &key),
    }
    let line = wish
        .as_ref()
        .map_or("nothing".to_owned(), |wish| format!("{wish:?}"));
    world.say(format_args!("people: {name} is wanted as {line}"));
    let wished = world
        .wishes
        .entry(name.to_owned())
        .or_insert_with(|| Wished {
            versions: Vec::new(),
        });
    wished.versions.push((now, wish));
    world.disturb_certificate(name);
    rules::after_event(world);
}

/// Records that a removal has deleted a document.
pub(crate) fn document_is_gone(world: &mut World, key: &str) {
    let name = key.strip_prefix("certificates/");
    let Some(name) = name.and_then(|name| name.strip_suffix(".json")) else {
        return;
    };
    let now = world.now();
    if let Some(wished) = world.wishes.get_mut(name) {
        wished.versions.push((now, None));
    }
    world.disturb_certificate(name);
}

/// What ends by itself after some days: a person unpauses, raises quotas, repairs the names.
pub(crate) fn mend(world: &mut World) {
    let now = world.now();
    let back: Vec<String> = (world.astray.iter())
        .filter(|(_, astray)| astray.until <= now)
        .map(|(name, _)| name.clone())
        .collect();
    for name in back {
        disturb_all_with(world, &name);
        world.astray.remove(&name);
        world.back_at.insert(name, now);
    }
    let unpaused: Vec<String> = (world.ca.paused.iter())
        .filter(|(_, until)| **until <= now)
        .map(|(name, _)| name.clone())
        .collect();
    for name in unpaused {
        world.say(format_args!("people: {name} is unpaused"));
        disturb_all_with(world, &name);
        world.ca.paused.remove(&name);
        world.back_at.insert(name, now);
    }
    if world.book.quota_raised_at.is_some_and(|at| at <= now) {
        world.book.quota_raised_at = None;
        world.import_quota = 1_000_000;
        world.disturb();
    }
    // A full listener is noticed, and its quota is raised.
    let full: Vec<String> = world
        .listeners
        .iter()
        .filter(|(_, it)| it.holding.list.len() >= it.quota)
        .map(|(arn, _)| arn.clone())
        .collect();
    for arn in full {
        if world.kept_full.contains(&arn) {
            continue;
        }
        if world.rng.u8(..4) == 0 {
            let listener = world.listeners.get_mut(&arn).unwrap();
            listener.quota += 5;
            world.say(format_args!("people: the quota of {arn} is raised"));
        }
        world.disturb();
    }
    heed_what_needs_a_person(world);
    // No certificate stays paused for ever.
    let paused: Vec<(String, Wish)> = (world.wishes.iter())
        .filter_map(|(name, wished)| {
            let (since, wish) = wished.versions.last()?;
            let wish = wish
                .as_ref()
                .filter(|wish| wish.paused && now - *since > Duration::days(9))?;
            Some((name.clone(), wish.clone()))
        })
        .collect();
    for (name, wish) in paused {
        want(
            world,
            &name,
            Some(Wish {
                paused: false,
                ..wish
            }),
        );
    }
}

/// A problem that only a person can repair is repaired after some days of reports.
fn heed_what_needs_a_person(world: &mut World) {
    let mut told = Vec::new();
    for (name, state) in &world.states {
        let failure = state.deployment.failure.as_ref();
        if let Some(failure) = failure.filter(|failure| failure.attempts > 4) {
            told.push((name.clone(), failure.problem.kind.clone()));
        }
    }
    for (name, kind) in told {
        if kind == "certloop:stillDefault" {
            choose_other_defaults(world, &name);
            continue;
        }
        let Some(wish) = world.wishes.get(&name).and_then(Wished::now).cloned() else {
            continue;
        };
        if world.weather.is_lull(world.now()) || world.rng.u8(..10) != 0 {
            continue;
        }
        if kind == "certloop:arnWouldChange" {
            let mut wish = wish;
            let holds_arn = |target: &Target| matches!(target, Target::Manager { .. });
            wish.targets.retain(|target| !holds_arn(target));
            world
                .tally
                .count("people: certificateManager target given up");
            want(world, &name, Some(wish));
        } else if kind == "certloop:unproved" || kind == "certloop:contended" {
            take_off_rivals(world, &name, &wish);
            give_up_shared_names(world, &name, wish);
        }
    }
}

/// Sets another default where a removed certificate is still the default.
fn choose_other_defaults(world: &mut World, name: &str) {
    if world.weather.is_lull(world.now()) || world.rng.u8(..10) != 0 {
        return;
    }
    let listeners: Vec<String> = (world.listeners.iter())
        .filter(|(_, listener)| {
            let default = listener.holding.default.as_deref();
            default.is_some_and(|arn| {
                world.owner_of(arn).as_deref() == Some(name) || rules::knows_arn(world, name, arn)
            })
        })
        .map(|(arn, _)| arn.clone())
        .collect();
    for listener in listeners {
        let now = world.now();
        let theirs = foreign(world, "default.foreign.net", Default::Good);
        world.book.touched.insert(listener.clone(), now);
        change(world, &listener, |holding| holding.default = Some(theirs));
        world.disturb();
        world.disturb_certificate(name);
        world
            .tally
            .count("people: default of a removed one replaced");
    }
}

/// Removes names from a document if another one serves them on the same listener: it is
/// unpredictable which of the two is served.
fn give_up_shared_names(world: &mut World, name: &str, wish: Wish) {
    let mut kept = wish.clone();
    kept.domains.retain(|domain| {
        !world.wishes.iter().any(|(other, wished)| {
            let wished = wished.now().filter(|_| other != name);
            wished.is_some_and(|theirs| {
                let mut listeners = theirs.listeners();
                theirs.key_type.is_ecdsa() == wish.key_type.is_ecdsa()
                    && theirs.domains.contains(domain)
                    && listeners.any(|(arn, _)| wish.listeners().any(|(own, _)| own == arn))
            })
        })
    });
    if !kept.domains.is_empty() && kept.domains != wish.domains {
        world.tally.count("people: shared names given up");
        want(world, name, Some(kept));
    }
}

/// Removes certificates without a document from its listeners if they have the same names.
fn take_off_rivals(world: &mut World, name: &str, wish: &Wish) {
    let listeners: Vec<String> = wish.listeners().map(|(arn, _)| arn.to_owned()).collect();
    for listener in listeners {
        let held = world.listeners[&listener].holding.list.clone();
        let rivals: Vec<String> = held
            .into_iter()
            .filter(|arn| {
                let nobodys = world.owner_of(arn).is_none();
                let same = world.manager.get(arn).is_some_and(|held| {
                    let names = &wish.domains;
                    names.iter().any(|name| covers(&held.leaf, name))
                });
                nobodys && same && !rules::knows_arn(world, name, arn)
            })
            .collect();
        if rivals.is_empty() {
            continue;
        }
        let now = world.now();
        world.book.touched.insert(listener.clone(), now);
        change(world, &listener, |holding| {
            holding.list.retain(|arn| !rivals.contains(arn));
        });
        world.say(format_args!(
            "people: rivals of {name} are taken off {listener}"
        ));
        world.tally.count("people: rivals taken off");
        world.disturb();
    }
}

/// While names lead elsewhere or are paused, they count as out of order.
pub(crate) fn still_astray(world: &mut World) {
    let names = world.astray.keys().chain(world.ca.paused.keys());
    let names: Vec<String> = names.cloned().collect();
    for name in names {
        disturb_all_with(world, &name);
    }
}

fn disturb_all_with(world: &mut World, domain: &str) {
    let now = world.now();
    let names: Vec<(String, bool)> = (world.wishes.iter())
        .filter_map(|(name, wished)| {
            let wish = wished.now()?;
            let mut domains = wish.domains.iter();
            (domains.any(|it| it == domain)).then(|| (name.clone(), wish.partial))
        })
        .collect();
    for (name, partial) in names {
        if partial {
            world.led_astray.insert(name, now);
        } else {
            world.disturb_certificate(&name);
        }
    }
}

/// Returns the next instant at which something is repaired by itself.
pub(crate) fn mends_at(world: &World) -> Option<OffsetDateTime> {
    let astray = world.astray.values().map(|astray| astray.until);
    let paused = world.ca.paused.values().copied();
    astray.chain(paused).chain(world.book.quota_raised_at).min()
}

const DOMAINS: [&str; 3] = ["alpha.com", "beta.org", "gamma.net"];
