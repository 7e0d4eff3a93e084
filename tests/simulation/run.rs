//! One world from its beginning to its end: passes, people and faults, and sometimes a lull.
//!
//! The schedule fires every ten minutes. A pass that finds everything in order, nothing due and
//! nothing in progress changes nothing. Later passes would not either until the next instant that a
//! state names: they are skipped. Events that no state names (people, faults, revocations) bring
//! the next pass forward. Even in the deepest calm a pass runs every few hours to some days: it has
//! to find nothing to do, or skipping would be wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration as StdDuration;

use certificates::contract::message::Message;
use certificates::contract::report::{Entry, Outcome};
use certificates::contract::settings::{Channel, Settings};
use certificates::invocation::actions::{Action, act_on};
use certificates::life::{self, list_known, read_settings};
use certificates::pass::context::Cycle;
use certificates::ports::Ports;
use certificates::ports::probe::{Fetched, Proven, Question};
use certificates::values::clock::Clock;
use certificates::values::key::{KeyType, PrivateKey};
use certificates::values::names::DnsName;
use certificates::values::problem::ServiceError;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::aws::{SimCertificateManager, SimLoadBalancer, SimResolver, served};
use crate::ca::{Limits, SimAuthorities, Site, read_challenge};
use crate::faults::{Disorder, Roughness, Service};
use crate::people::{self, Errand};
use crate::provocations;
use crate::rules;
use crate::store::{self, SimStore};
use crate::trace::Tally;
use crate::world::{ACCOUNT, EPOCH, HOME, Handle, Met, Running, Shared, World};

/// The result of a world.
pub(crate) struct Ended {
    pub(crate) seed: u64,
    pub(crate) certificate_years: f64,
    pub(crate) hash: u64,
    pub(crate) lines: u64,
    pub(crate) tally: Tally,
    /// The first finding of each case of rule 12, in the list mode.
    pub(crate) found: BTreeMap<String, String>,
    /// The broken rule, with the last lines of the trace.
    pub(crate) broken: Option<String>,
}

/// Simulates one world. The same seed gives the same life.
pub(crate) fn live(seed: u64, whole_trace: Option<&str>) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    fastrand::seed(seed);
    let local = LocalSet::new();
    let shared = local.block_on(&runtime, life(seed, whole_trace));
    let world = &mut *shared.borrow_mut();
    let mut days = 0.0;
    let end = world.ended;
    for wished in world.wishes.values() {
        for (n, (from, wish)) in wished.versions.iter().enumerate() {
            let to = wished.versions.get(n + 1).map_or(end, |(to, _)| *to);
            if wish.is_some() {
                days += (to - *from).as_seconds_f64() / 86_400.0;
            }
        }
    }
    let broken = world.broken.take().map(|broken| {
        format!(
            "seed {seed}: {broken}\nThe last that happened:\n{}",
            world.trace.last()
        )
    });
    Ended {
        seed: world.seed,
        certificate_years: days / 365.0,
        hash: world.trace.hash(),
        lines: world.trace.lines(),
        tally: std::mem::take(&mut world.tally),
        found: std::mem::take(&mut world.visitors.found),
        broken,
    }
}

/// Draws the settings, and the limits that the authority enforces.
fn settings(rng: &mut fastrand::Rng) -> (Settings, Vec<u8>, Limits, bool) {
    let few = Limits {
        orders: (10.0, 10_800.0),
        domain: (6.0, 604_800.0),
        set: (3.0, 604_800.0),
        failures: (3.0, 3_600.0),
    };
    let limit =
        |(count, seconds): (f64, f64)| json!({"count": count as u32, "seconds": seconds as u64});
    let (limits, told) = match rng.u8(..10) {
        0 => (
            few,
            json!({
                "ordersPerAccount": limit(few.orders),
                "certificatesPerDomain": limit(few.domain),
                "certificatesPerNameSet": limit(few.set),
                "failedValidationsPerName": limit(few.failures),
            }),
        ),
        1 => (few, json!(null)),
        _ => (Limits::default(), json!("letsencrypt")),
    };
    let kept = !told.is_null();
    let modes = ["off", "warn", "require", "require"];
    let mut mode = || modes[rng.usize(..modes.len())];
    let (self_check, proof) = (mode(), mode());
    let concurrency = [1, 4, 16][rng.usize(..3)];
    let authority = |site: Site, limits: serde_json::Value| {
        json!({
            "directory": site.directory(),
            "termsOfServiceAgreed": true,
            "contact": ["mailto:ops@example.com"],
            "limits": limits,
            "private": true,
        })
    };
    let rehearse = (rng.u8(..4) == 0).then_some(Site::Staging.key());
    let share = [0.1, 0.1, 0.25, 0.5][rng.usize(..4)];
    let orphans = ["report", "remove"][rng.usize(..2)];
    // Drawn separately: worlds without notifications stay as they were.
    let mut others = fastrand::Rng::with_seed(rng.clone().u64(..));
    let notify = match others.u8(..3) {
        0 => json!({}),
        1 => json!({"topicArn": TOPIC, "renewals": true}),
        _ => json!({
            "topicArn": TOPIC,
            "webhooks": [{"secretArn": WEBHOOK, "format": "slack"}],
        }),
    };
    let document = json!({
        "authorities": {
            Site::First.key(): authority(Site::First, told),
            Site::Second.key(): authority(Site::Second, json!(null)),
            Site::Staging.key(): authority(Site::Staging, json!(null)),
        },
        "rehearse": rehearse,
        "fallback": {"share": share},
        "orphans": orphans,
        "notify": notify,
        "defaults": {"authority": "letsencrypt"},
        "selfCheck": {"mode": self_check},
        "proof": {"mode": proof},
        "limits": {"concurrency": concurrency},
    });
    let body = serde_json::to_vec(&document).unwrap();
    (Settings::parse(&body).unwrap(), body, limits, kept)
}

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:certloop";
const WEBHOOK: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook-AbCdEf";

/// Periods in which nothing goes wrong and nobody does anything. At their end everything must be
/// well.
struct Lulls(Vec<(OffsetDateTime, OffsetDateTime)>);

impl Lulls {
    fn holds(&self, at: OffsetDateTime) -> bool {
        self.0.iter().any(|(from, to)| *from <= at && at < *to)
    }
}

async fn life(seed: u64, whole_trace: Option<&str>) -> Shared {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x005e_ed0f_ce27_1007);
    let days = rng.i64(80..400);
    let roughness = match rng.u8(..100) {
        0..=24 => Roughness::Calm,
        25..=59 => Roughness::Light,
        60..=87 => Roughness::Rough,
        _ => Roughness::Hostile,
    };
    let (settings, body, limits, limits_kept) = settings(&mut rng);
    let mut world = World::new(seed, whole_trace, settings, roughness, days, rng);
    world.ca.limits = limits;
    world.limits_kept = limits_kept;
    world.ca.windowless = world.rng.u8(..8) == 0;
    let end = EPOCH + Duration::days(days);
    let mut lulls = Vec::new();
    let mut at = EPOCH;
    loop {
        at += Duration::hours(world.rng.i64(15 * 24..50 * 24));
        if at + Duration::days(5) >= end {
            break;
        }
        lulls.push((at, at + Duration::days(4)));
        at += Duration::days(4);
    }
    lulls.push((end, end + Duration::days(9)));
    world.weather.lulls.clone_from(&lulls);
    let weather = &mut world.weather;
    let lull = |at| lulls.iter().any(|(from, to)| *from <= at && at < *to);
    weather.spells.retain(|spell| !lull(spell.from));
    let lulls = Lulls(lulls);
    let modes = (
        world.settings.self_check.mode,
        world.settings.proof.mode,
        world.settings.limits.concurrency,
    );
    let others = (
        world.settings.rehearse.clone(),
        world.settings.fallback_share,
        world.settings.orphans,
    );
    world.say(format_args!(
        "seed {seed}: {days} days, {roughness:?}, self-check, proof and concurrency {modes:?}, \
         rehearse {:?}, fallback at {}, orphans {:?}",
        others.0, others.1, others.2
    ));
    store::put(&mut world, "settings.json", body);
    people::settle(&mut world);
    provocations::settle(&mut world);
    let edits_a_year = match roughness {
        Roughness::Calm => 2.0,
        Roughness::Light => 10.0,
        Roughness::Rough => 40.0,
        Roughness::Hostile => 90.0,
    };
    let shared = Shared::new(world.into());
    let mut driver = Driver {
        world: shared.clone(),
        lulls,
        edits_a_year,
        end: end + Duration::days(9),
        tick: EPOCH + TICK,
        next_edit: EPOCH,
        pass: 0,
        running: Vec::new(),
        due: true,
        looked: EPOCH,
    };
    driver.next_edit = driver.draw_edit(EPOCH);
    driver.run().await;
    let ended = shared.borrow().now();
    shared.borrow_mut().ended = ended;
    shared
}

struct Driver {
    world: Shared,
    lulls: Lulls,
    edits_a_year: f64,
    end: OffsetDateTime,
    tick: OffsetDateTime,
    next_edit: OffsetDateTime,
    pass: u32,
    running: Vec<JoinHandle<()>>,
    /// Whether the next pass has something due.
    due: bool,
    /// Spells were checked until this instant.
    looked: OffsetDateTime,
}

impl Driver {
    fn draw_edit(&self, now: OffsetDateTime) -> OffsetDateTime {
        let luck = self.world.borrow_mut().rng.f64().max(1e-9);
        now + Duration::seconds_f64(-luck.ln() * 365.0 * 86_400.0 / self.edits_a_year)
    }

    async fn run(&mut self) {
        loop {
            let until = {
                let world = self.world.borrow();
                if world.broken.is_some() {
                    return;
                }
                let mut next = self.tick.min(self.next_edit).min(self.end);
                let mends = people::mends_at(&world);
                for at in mends.into_iter().chain(provocations::planned_at(&world)) {
                    next = next.min(at.max(world.now()));
                }
                world.moment(next)
            };
            tokio::time::sleep_until(until + StdDuration::from_millis(1)).await;
            let now = self.world.borrow().now();
            let asked = provocations::carry_on(&mut self.world.borrow_mut());
            for errand in asked {
                send(&self.world, errand);
            }
            self.look();
            if now >= self.end {
                return;
            }
            if self.next_edit <= now {
                self.edit(now);
            }
            if self.tick <= now {
                self.fire(now).await;
            }
        }
    }

    /// What happens by the passage of time alone.
    fn look(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let now = world.now();
        people::mend(world);
        people::still_astray(world);
        provocations::still_provoked(world);
        let mut disturbed = world.disturbed;
        for (from, _) in &self.lulls.0 {
            if *from <= now {
                disturbed = disturbed.max(*from);
            }
        }
        for spell in &world.weather.spells {
            if spell.from <= now && spell.to > self.looked && !world.weather.is_lull(spell.from) {
                let to = match spell.what {
                    Disorder::WrongClocks(most) => spell.to + most,
                    _ => spell.to,
                };
                match spell.what {
                    Disorder::AuthorityDown(Some(Service::Authority), _) => {
                        world.first_down = world.first_down.max(to);
                    }
                    _ => disturbed = disturbed.max(to),
                }
                if spell.from > self.looked {
                    world.tally.count(&format!("spell: {}", spell.what.word()));
                }
            }
        }
        if world.acted_at == now {
            self.due = true;
            self.tick = self.tick.min(next_tick(now));
        }
        self.looked = now;
        world.disturbed = disturbed;
        rules::time_passes(world);
    }

    fn edit(&mut self, now: OffsetDateTime) {
        if !self.lulls.holds(now) {
            act(&self.world);
        }
        self.next_edit = self.draw_edit(now);
        self.due = true;
        self.tick = self.tick.min(next_tick(now));
    }

    async fn fire(&mut self, now: OffsetDateTime) {
        let stopped = {
            let world = self.world.borrow();
            world
                .weather
                .now(now)
                .filter(|spell| matches!(spell.what, Disorder::NoPasses))
                .map(|spell| spell.to)
                .max()
        };
        if let Some(until) = stopped {
            let world = &mut *self.world.borrow_mut();
            world.disturbed = world.disturbed.max(until);
            self.tick = next_tick(until);
            return;
        }
        self.running.retain(|running| !running.is_finished());
        let lull = self.lulls.holds(now);
        let (company, force) = {
            let world = &mut *self.world.borrow_mut();
            // If nothing is due, two passes cannot disturb each other.
            let overlap = match (lull, self.due) {
                (true, _) => 0.0,
                (false, true) => world.weather.overlap,
                (false, false) => world.weather.overlap / 8.0,
            };
            let company = if world.rng.f64() < overlap {
                world.rng.u32(1..=2)
            } else {
                0
            };
            let force =
                !lull && world.weather.roughness > Roughness::Calm && world.rng.u16(..600) == 0;
            let asked_for = std::mem::take(&mut world.force_next) && !lull;
            (company, force || asked_for)
        };
        let report = Rc::new(std::cell::RefCell::new(None));
        self.launch(None, force, StdDuration::ZERO, Some(report.clone()));
        for _ in 0..company {
            let (name, delay, edit) = {
                let world = &mut *self.world.borrow_mut();
                let names: Vec<&String> = world.wishes.keys().collect();
                let whole = world.rng.u8(..3) == 0;
                let name = if whole {
                    None
                } else {
                    Some(names[world.rng.usize(..names.len())].clone())
                };
                world.tally.count("overlapping passes");
                (
                    name,
                    StdDuration::from_millis(world.rng.u64(..20_000)),
                    world.rng.u8(..8) == 0,
                )
            };
            self.launch(name, false, delay, None);
            if edit {
                let world = self.world.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(delay).await;
                    act(&world);
                });
            }
        }
        let until = Instant::now() + StdDuration::from_secs(600);
        let handles = std::mem::take(&mut self.running);
        for mut handle in handles {
            if tokio::time::timeout_at(until, &mut handle).await.is_err() {
                self.running.push(handle);
            }
        }
        let report = report.borrow_mut().take();
        self.tick = self.next(report);
    }

    /// Returns when the next pass may have something to do.
    fn next(&mut self, report: Option<Vec<Entry>>) -> OffsetDateTime {
        let world = &mut *self.world.borrow_mut();
        let now = world.now();
        world.passes.retain(|_, pass| {
            !pass.dead && pass.started.elapsed() < pass.remaining + StdDuration::from_secs(1_800)
        });
        let soon = next_tick(now);
        self.due = true;
        let Some(entries) = report.filter(|_| self.running.is_empty()) else {
            return soon;
        };
        // A pass for a single certificate saw no request for another.
        let mut whole = world.passes.values().rev().filter(|pass| pass.whole);
        let asked = whole.next().is_none_or(|pass| pass.from <= world.acted_at);
        // Any of the passes that ran at the same time may have left something to do.
        let this_tick = StdDuration::from_secs(630);
        let mut passes = world.passes.values();
        let stirred =
            passes.any(|pass| pass.started.elapsed() < this_tick && (pass.wrote || pass.met_fault));
        if asked || !world.errands.is_empty() || stirred {
            return soon;
        }
        // A document that no pass has seen has no state.
        let is_new = |(name, wished): (&String, &crate::world::Wished)| {
            wished.now().is_some() && !world.states.contains_key(name)
        };
        if world.wishes.iter().any(is_new) {
            return soon;
        }
        let lull = self.lulls.holds(now);
        let cap = if lull || now - world.disturbed < Duration::days(1) {
            Duration::hours(world.rng.i64(5..14))
        } else {
            Duration::hours(world.rng.i64(24..110))
        };
        let mut wake = now + cap;
        let begun = now - Duration::minutes(15);
        for entry in &entries {
            if entry.outcome == Outcome::Failed && entry.next_attempt.is_none() {
                wake = wake.min(now + Duration::hours(4));
            }
            for at in [entry.next_attempt, entry.renew_at].into_iter().flatten() {
                // A past instant without an effect has none at the next tick either: paused, held.
                if at > begun {
                    wake = wake.min(at);
                }
            }
        }
        #[allow(clippy::cast_possible_wrap)]
        let overlap = Duration::seconds(world.settings.limits.overlap_seconds as i64);
        for state in world.states.values() {
            let ends = state
                .deployment
                .imports
                .values()
                .flat_map(|import| &import.superseded)
                .filter_map(|old| old.detached_at)
                .map(|at| at + overlap);
            let waits = state
                .orders
                .current
                .as_ref()
                .and_then(|order| order.not_before);
            let lease = state.lease.as_ref().map(|lease| lease.until);
            let renewal = state.certificate.as_ref().map(|held| held.renew_at());
            let share = world.settings.fallback_share;
            let little = state.certificate.as_ref();
            let little = little.map(|held| held.not_after - held.lifetime() * share);
            let tried = state
                .orders
                .missing
                .values()
                .map(|missing| missing.next_attempt);
            let revoked = (state.revocations.pending.iter())
                .filter_map(|revoking| Some(revoking.failure.as_ref()?.next_attempt))
                .min();
            let elsewhere = state.orders.failures_elsewhere.iter();
            let elsewhere = elsewhere.map(|failure| failure.next_attempt);
            let running_out = state.certificate.as_ref();
            let running_out = running_out.map(|held| held.not_after - held.lifetime() / 4);
            let untold = state.told.iter().flat_map(|told| &told.outbox);
            let untold = untold.map(|outgoing| outgoing.next_attempt);
            let forgotten = state.removing.as_ref().map(|removing| removing.at + WEEK);
            for at in ends
                .chain(waits)
                .chain(renewal)
                .chain(state.renew_at())
                .chain(little)
                .chain(tried)
                .chain(revoked)
                .chain(elsewhere)
                .chain(forgotten)
                .chain(running_out)
                .chain(untold)
                .chain(lease)
                .filter(|at| *at > begun)
            {
                wake = wake.min(at);
            }
        }
        self.due = wake < now + cap;
        next_tick(wake).max(soon)
    }

    fn launch(
        &mut self,
        name: Option<String>,
        force: bool,
        delay: StdDuration,
        report: Option<Rc<std::cell::RefCell<Option<Vec<Entry>>>>>,
    ) {
        let shared = self.world.clone();
        let id = next_pass(&shared);
        self.pass = id;
        let lull = self.lulls.holds(shared.borrow().now());
        self.running.push(tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            let what = match name {
                Some(name) => What::One(name),
                None => What::All,
            };
            let entries = pass(shared, id, what, force, lull).await;
            if let Some(report) = report {
                *report.borrow_mut() = entries;
            }
        }));
    }
}

fn next_pass(shared: &Shared) -> u32 {
    let world = &mut *shared.borrow_mut();
    world.last_pass += 1;
    world.last_pass
}

/// Lets people do something, and sends their requests.
fn act(shared: &Shared) {
    let asked = people::act(&mut shared.borrow_mut());
    {
        let world = &mut *shared.borrow_mut();
        world.acted_at = world.now();
    }
    if let Some(errand) = asked {
        send(shared, errand);
    }
}

fn send(shared: &Shared, errand: Errand) {
    *shared
        .borrow_mut()
        .errands
        .entry(errand.name.clone())
        .or_default() += 1;
    tokio::task::spawn_local(ask(shared.clone(), errand));
}

/// Asks until there is an answer: when an invocation dies, people do not know the result of their
/// request.
async fn ask(shared: Shared, errand: Errand) {
    for attempt in 0..200 {
        let lull = {
            let world = &mut *shared.borrow_mut();
            if world.broken.is_some() {
                return;
            }
            world.disturb_certificate(&errand.name);
            if attempt > 0 {
                world.tally.count("people: asked again");
            }
            let now = world.now();
            world.weather.is_lull(now)
        };
        let id = next_pass(&shared);
        let answer = pass(
            shared.clone(),
            id,
            What::Errand(errand.clone()),
            false,
            lull,
        )
        .await;
        let pause = {
            let world = &mut *shared.borrow_mut();
            world.disturb_certificate(&errand.name);
            if let Some(word) = answered(&errand.action, answer.as_deref()) {
                world.tally.count(&word);
                break;
            }
            StdDuration::from_secs(world.rng.u64(30..1_800))
        };
        tokio::time::sleep(pause).await;
    }
    let world = &mut *shared.borrow_mut();
    world.acted_at = world.now();
    if let Some(waiting) = world.errands.get_mut(&errand.name) {
        *waiting -= 1;
        if *waiting == 0 {
            world.errands.remove(&errand.name);
        }
    }
}

/// Returns the answer in words, unless it leaves open whether anything was done.
fn answered(action: &Action, entries: Option<&[Entry]>) -> Option<String> {
    let entry = entries?.first()?;
    let kind = entry.problem.as_ref().map(|problem| problem.kind.as_str());
    if entry.reason.ends_with("nothing was done: ask again") || kind == Some("certloop:store") {
        return None;
    }
    let word = match action {
        Action::RollBack { .. } => "rollback",
        Action::Revoke { .. } => "revoke",
        Action::Remove => "remove",
    };
    let came = kind.map_or(format!("{:?}", entry.outcome), str::to_owned);
    Some(format!("{word}: {came}"))
}

/// The content of an invocation's event.
#[derive(Clone)]
enum What {
    All,
    One(String),
    Errand(Errand),
}

async fn pass(shared: Shared, id: u32, what: What, force: bool, lull: bool) -> Option<Vec<Entry>> {
    let (clock, death, longest) = begin(&mut shared.borrow_mut(), id, &what, force, lull);
    let full = matches!(what, What::All);
    let ports = SimPorts::new(Handle {
        world: shared.clone(),
        pass: id,
    });
    let installation = shared.borrow().installation.clone();
    let work = async {
        let settings = match read_settings(ports.store()).await {
            Ok(settings) => settings,
            Err(problem) => return Err(problem),
        };
        let mut cycle = Cycle::new(
            &ports,
            settings,
            installation,
            HOME.to_owned(),
            Some(ACCOUNT.to_owned()),
            clock,
        );
        let names = match what {
            What::Errand(errand) => {
                let pass = act_on(&cycle, &errand.name, &errand.action).await;
                return Ok(pass.entries);
            }
            What::One(name) => vec![name],
            What::All => {
                let known = list_known(ports.store()).await?;
                cycle.mass_deletion_suspected = known.most_are_gone();
                cycle.is_full = true;
                [known.documents, known.orphans].concat()
            }
        };
        Ok(life::run(&cycle, &names, force).await.entries)
    };
    let ended = tokio::select! {
        biased;
        () = death.notified() => None,
        ended = work => Some(ended),
        () = tokio::time::sleep(longest + StdDuration::from_secs(120)) => {
            let world = &mut *shared.borrow_mut();
            if world.broken.is_none() {
                world.broken(format!("rule 11: pass#{id} does not end"));
            }
            None
        }
    };
    let world = &mut *shared.borrow_mut();
    let Some(ended) = ended else {
        if let Some(pass) = world.passes.get_mut(&id) {
            pass.dead = true;
        }
        return None;
    };
    match ended {
        Ok(entries) => {
            for entry in &entries {
                world.tally.count(&format!("outcome: {:?}", entry.outcome));
                if entry.outcome != Outcome::Kept {
                    world.say(format_args!(
                        "pass#{id} {}: {:?} ({}) next {:?}",
                        entry.name, entry.outcome, entry.reason, entry.next_attempt
                    ));
                }
                // Our own count of a limit makes it wait: that is correct.
                if let (Some(problem), Some(until)) = (&entry.problem, entry.next_attempt)
                    && problem.kind == "certloop:limit"
                {
                    world
                        .disturbed_certificate
                        .insert(entry.name.clone(), until);
                }
                if let Some(problem) = &entry.problem {
                    world.tally.count(&format!("problem: {}", problem.kind));
                }
            }
            for entry in &entries {
                let report = serde_json::to_string(entry).unwrap_or_default();
                world.visitors.reports.insert(entry.name.clone(), report);
            }
            rules::pass_ended(world, id, &entries, full);
            world.tally.count("passes");
            if full && lull {
                rules::all_is_well(world);
            }
            Some(entries)
        }
        Err(problem) => {
            world.say(format_args!("pass#{id} could not run: {}", problem.detail));
            world.tally.count("passes that could not run");
            None
        }
    }
}

fn begin(
    world: &mut World,
    id: u32,
    what: &What,
    force: bool,
    lull: bool,
) -> (Clock, Rc<Notify>, StdDuration) {
    let now = world.now();
    let wrong = world.weather.now(now).find_map(|spell| match spell.what {
        Disorder::WrongClocks(most) => Some(most),
        _ => None,
    });
    let mut skew = Duration::milliseconds(world.rng.i64(-400..400));
    let a_minute_off = !lull && world.rng.f64() < world.weather.skew;
    if let Some(most) = wrong.filter(|_| world.rng.bool()) {
        skew = Duration::seconds_f64(most.as_seconds_f64() * (world.rng.f64() * 2.0 - 1.0));
        world.tally.count("passes with a wrong clock");
    } else if a_minute_off {
        skew = Duration::seconds(world.rng.i64(-240..240));
        world.tally.count("passes with a clock minutes off");
    }
    if let Some(wrong) = world.next_skew.take().filter(|_| !lull) {
        skew = wrong;
        world.disturb();
        world.tally.count("passes with a clock months ahead");
    }
    let short = !lull && world.rng.f64() < world.weather.short;
    let seconds = if short {
        world.tally.count("passes with little time");
        world.rng.u64(8..90)
    } else {
        [300, 900][world.rng.usize(..2)]
    };
    let remaining = StdDuration::from_secs(seconds);
    let errand = match what {
        What::Errand(errand) => Some((errand.name.clone(), errand.action.clone())),
        _ => None,
    };
    let whole = matches!(what, What::All);
    let what = match what {
        What::All => "all".to_owned(),
        What::One(name) => name.clone(),
        What::Errand(errand) => format!("{:?} for {}", errand.action, errand.name),
    };
    world.say(format_args!(
        "pass#{id} begins: {what}{}, {seconds} s, clock off by {skew}",
        if force { ", force" } else { "" }
    ));
    let death = Rc::new(Notify::new());
    world.passes.insert(
        id,
        Running {
            skew,
            from: now,
            started: Instant::now(),
            remaining,
            force,
            whole,
            dead: false,
            death: death.clone(),
            owner: None,
            errand,
            wrote: false,
            met_fault: false,
        },
    );
    (Clock::starting(now + skew, remaining), death, remaining)
}

fn next_tick(at: OffsetDateTime) -> OffsetDateTime {
    let since = (at - EPOCH).whole_seconds();
    EPOCH + Duration::seconds((since / 600 + 1) * 600)
}

const TICK: Duration = Duration::minutes(10);
const WEEK: Duration = Duration::weeks(1);

/// Everything outside of a pass.
pub(crate) struct SimPorts {
    handle: Handle,
    store: SimStore,
    authorities: SimAuthorities,
}

impl SimPorts {
    fn new(handle: Handle) -> Self {
        Self {
            store: SimStore(handle.clone()),
            authorities: SimAuthorities(handle.clone()),
            handle,
        }
    }
}

thread_local! {
    /// Keys that take long to make, made once for all worlds.
    pub(crate) static RSA: String =
        PrivateKey::generate(KeyType::Rsa2048).unwrap().to_pem().to_string();
}

impl Ports for SimPorts {
    type Store = SimStore;
    type Authorities = SimAuthorities;
    type CertificateManager = SimCertificateManager;
    type LoadBalancer = SimLoadBalancer;
    type Resolver = SimResolver;

    fn store(&self) -> &SimStore {
        &self.store
    }

    fn authorities(&self) -> &SimAuthorities {
        &self.authorities
    }

    fn certificate_manager(&self, region: &str) -> SimCertificateManager {
        SimCertificateManager {
            handle: self.handle.clone(),
            region: region.to_owned(),
        }
    }

    fn load_balancer(&self, _region: &str) -> SimLoadBalancer {
        SimLoadBalancer {
            handle: self.handle.clone(),
        }
    }

    fn resolver(&self, _: Option<&[SocketAddr]>) -> SimResolver {
        SimResolver
    }

    async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String> {
        match key_type {
            KeyType::Rsa2048 => RSA.with(|pem| PrivateKey::from_pem(pem)),
            _ => PrivateKey::generate(key_type),
        }
        .map_err(|error| error.to_string())
    }

    async fn secret(&self, _arn: &str) -> Result<Zeroizing<String>, ServiceError> {
        Ok(Zeroizing::new(String::new()))
    }

    async fn fetch(
        &self,
        name: &DnsName,
        token: &str,
        _key_authorization: &str,
        _connect_to: Option<&str>,
        _limit: StdDuration,
    ) -> Fetched {
        let pass = self.handle.pass;
        let fetched = self
            .handle
            .call(Service::Network, "fetch", name.as_str(), |world| {
                let read = read_challenge(world, name.as_str(), token);
                let (met, fetched) = match read {
                    Ok(()) => (Met::Right, Fetched::Right),
                    Err("nobody") => (
                        Met::Nothing,
                        Fetched::Unreachable("nobody answers".to_owned()),
                    ),
                    Err(why) => (Met::Wrong, Fetched::Wrong(format!("{why} answers"))),
                };
                world.tally.count(&format!("fetched: {met:?}"));
                world
                    .fetched
                    .entry(token.to_owned())
                    .or_default()
                    .push((pass, met));
                Ok::<_, ServiceError>(fetched)
            })
            .await;
        match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                let world = &mut *self.handle.world.borrow_mut();
                world
                    .fetched
                    .entry(token.to_owned())
                    .or_default()
                    .push((pass, Met::Nothing));
                Fetched::Unreachable(error.to_string())
            }
        }
    }

    fn is_public(&self, chain_pem: &str, name: &str, at: OffsetDateTime) -> Option<bool> {
        certificates::adapters::network::is_public(chain_pem, name, at)
    }

    async fn send(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        let pass = self.handle.pass;
        let sent = self
            .handle
            .call(Service::Network, "message", &channel.key(), |world| {
                rules::told(world, pass, &channel.key(), message);
                Ok::<_, ServiceError>(())
            })
            .await;
        sent.map_err(|error| error.to_string())
    }

    async fn handshake(&self, question: &Question<'_>, limit: StdDuration) -> Proven {
        let patience = limit.min(StdDuration::from_secs(5));
        let asked = self
            .handle
            .call(Service::Network, "handshake", question.host, |world| {
                let now = world.now();
                let listener = world
                    .listeners
                    .iter()
                    .find(|(_, it)| it.host == question.host)
                    .map(|(arn, _)| arn.clone());
                let Some(listener) = listener else {
                    return Ok(Proven::CouldNotTell("no such host".to_owned()));
                };
                if world.unseen.contains(&listener) {
                    world.tally.count("proof: something else for days");
                    let wrong = "something else in front is served";
                    return Ok::<_, ServiceError>(Proven::Wrong(wrong.to_owned()));
                }
                for name in question.names {
                    match served(
                        world,
                        &listener,
                        name.as_str(),
                        question.key_type.is_ecdsa(),
                        now,
                    ) {
                        Some((_, leaf)) if leaf.der == question.leaf_der => {}
                        Some((arn, leaf)) => {
                            let wrong = format!("{name} is served {} ({arn})", leaf.serial);
                            world.tally.count("proof: wrong");
                            return Ok::<_, ServiceError>(Proven::Wrong(wrong));
                        }
                        None => {
                            world.tally.count("proof: could not tell");
                            return Ok(Proven::CouldNotTell(format!("{name}: no handshake")));
                        }
                    }
                }
                world.tally.count("proof: right");
                Ok(Proven::Yes { trusted: Ok(()) })
            });
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(proven)) => proven,
            Ok(Err(error)) => Proven::CouldNotTell(error.to_string()),
            Err(_) => Proven::CouldNotTell("no answer in time".to_owned()),
        }
    }
}
