//! The truth of one simulated world, and the gate through which every call of the cycle goes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::rc::Rc;

use certificates::contract::settings::Settings;
use certificates::invocation::actions::Action;
use certificates::ports::load_balancer::AttachError;
use certificates::ports::store::StoreError;
use certificates::records::state::State;
use certificates::values::problem::{AcmeError, ServiceError, URN};
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::aws::{AcmCertificate, SimListener};
use crate::ca::{Ca, Site};
use crate::faults::{Fate, Fault, Roughness, Service, Weather};
use crate::people::Wish;
use crate::provocations::Plan;
use crate::rules;
use crate::trace::{Tally, Trace};
use crate::visitors::Visitors;

/// A world, shared by its passes and by everything outside of them.
pub(crate) type Shared = Rc<RefCell<World>>;

/// Everything there is.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: fastrand::Rng,
    started: Instant,
    pub(crate) ended: OffsetDateTime,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) settings: Settings,
    /// Whether the settings know the authority's limits.
    pub(crate) limits_kept: bool,
    pub(crate) installation: String,
    pub(crate) weather: Weather,
    /// The bucket.
    pub(crate) objects: BTreeMap<String, Stored>,
    /// The states in it, parsed.
    pub(crate) states: BTreeMap<String, State>,
    /// The issued certificates in it: chain and key by object.
    pub(crate) vault: BTreeMap<String, (String, String)>,
    /// The keys of pending orders in it: order and public key by certificate.
    pub(crate) pending: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) ca: Ca,
    pub(crate) manager: BTreeMap<String, AcmCertificate>,
    pub(crate) imports: u32,
    pub(crate) import_quota: u32,
    pub(crate) listeners: BTreeMap<String, SimListener>,
    /// Names whose port 80 does not lead to us, and until when.
    pub(crate) astray: BTreeMap<String, Astray>,
    /// What people want, by certificate.
    pub(crate) wishes: BTreeMap<String, Wished>,
    pub(crate) passes: BTreeMap<u32, Running>,
    /// What our own fetches of a token met.
    pub(crate) fetched: BTreeMap<String, Vec<(u32, Met)>>,
    /// When each name last led back to us.
    pub(crate) back_at: BTreeMap<String, OffsetDateTime>,
    /// When something was last out of order for all, and for each certificate.
    pub(crate) disturbed: OffsetDateTime,
    pub(crate) disturbed_certificate: BTreeMap<String, OffsetDateTime>,
    /// When the preferred authority alone was last down,
    pub(crate) first_down: OffsetDateTime,
    /// and when one of a certificate's names last led elsewhere.
    pub(crate) led_astray: BTreeMap<String, OffsetDateTime>,
    /// How often an order was asked for, by certificate.
    pub(crate) asked: BTreeMap<String, VecDeque<OffsetDateTime>>,
    pub(crate) book: rules::Book,
    /// How many people wait for an answer about a certificate,
    pub(crate) errands: BTreeMap<String, u32>,
    /// and when a person last got one, or did something else.
    pub(crate) acted_at: OffsetDateTime,
    pub(crate) last_pass: u32,
    /// The memory of the oracle of rule 12.
    pub(crate) visitors: Visitors,
    /// The bucket's content before each change of the last days.
    pub(crate) journal: VecDeque<(OffsetDateTime, String, Option<Stored>)>,
    /// Listeners whose handshakes show another certificate,
    pub(crate) unseen: BTreeSet<String>,
    /// and those that people leave full.
    pub(crate) kept_full: BTreeSet<String>,
    /// What people plan to do, and when.
    pub(crate) plans: Vec<(OffsetDateTime, Plan)>,
    /// Whether the next pass renews by force.
    pub(crate) force_next: bool,
    /// By how much the clock of the next pass is wrong.
    pub(crate) next_skew: Option<Duration>,
    next: u64,
    /// The first broken rule.
    pub(crate) broken: Option<String>,
}

/// An object.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) body: Vec<u8>,
    pub(crate) etag: String,
}

/// Where a name's port 80 leads, if not to us.
pub(crate) struct Astray {
    pub(crate) until: OffsetDateTime,
    /// Another server answers; otherwise none does.
    pub(crate) answered: bool,
}

/// The result of our own fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Right,
    Wrong,
    Nothing,
}

/// The wishes for one certificate, now and before.
pub(crate) struct Wished {
    /// Each version with the instant from which it was valid.
    pub(crate) versions: Vec<(OffsetDateTime, Option<Wish>)>,
}

impl Wished {
    /// Returns the wish of now.
    pub(crate) fn now(&self) -> Option<&Wish> {
        self.versions.last().and_then(|(_, wish)| wish.as_ref())
    }

    /// Returns every wish of some instant since then.
    pub(crate) fn since(&self, at: OffsetDateTime) -> impl Iterator<Item = Option<&Wish>> {
        let first = self.versions.iter().rposition(|(from, _)| *from <= at);
        self.versions[first.unwrap_or(0)..]
            .iter()
            .map(|(_, wish)| wish.as_ref())
    }
}

/// A running pass.
pub(crate) struct Running {
    /// By how much its clock is wrong.
    pub(crate) skew: Duration,
    pub(crate) from: OffsetDateTime,
    pub(crate) started: Instant,
    pub(crate) remaining: std::time::Duration,
    pub(crate) force: bool,
    /// Whether it covers every certificate.
    pub(crate) whole: bool,
    pub(crate) dead: bool,
    pub(crate) death: Rc<Notify>,
    /// The owner in its leases, once it has taken one.
    pub(crate) owner: Option<String>,
    /// A person's request, and the certificate it is about, if it is not a pass.
    pub(crate) errand: Option<(String, Action)>,
    /// Whether it wrote anything.
    pub(crate) wrote: bool,
    /// Whether one of its calls failed.
    pub(crate) met_fault: bool,
}

impl Running {
    /// Returns its own idea of the time.
    pub(crate) fn clock(&self, now: OffsetDateTime) -> OffsetDateTime {
        now + self.skew
    }
}

impl World {
    pub(crate) fn new(
        seed: u64,
        whole_trace: Option<&str>,
        settings: Settings,
        roughness: Roughness,
        days: i64,
        mut rng: fastrand::Rng,
    ) -> Self {
        let weather = Weather::draw(roughness, EPOCH, days, &mut rng);
        Self {
            seed,
            started: Instant::now(),
            ended: EPOCH,
            trace: Trace::new(whole_trace),
            tally: Tally::default(),
            settings,
            limits_kept: false,
            installation: "certloop-simulated".to_owned(),
            weather,
            objects: BTreeMap::new(),
            states: BTreeMap::new(),
            vault: BTreeMap::new(),
            pending: BTreeMap::new(),
            ca: Ca::default(),
            manager: BTreeMap::new(),
            imports: 0,
            import_quota: 5_000,
            listeners: BTreeMap::new(),
            astray: BTreeMap::new(),
            wishes: BTreeMap::new(),
            passes: BTreeMap::new(),
            fetched: BTreeMap::new(),
            back_at: BTreeMap::new(),
            disturbed: EPOCH,
            disturbed_certificate: BTreeMap::new(),
            first_down: EPOCH,
            led_astray: BTreeMap::new(),
            asked: BTreeMap::new(),
            book: rules::Book::default(),
            errands: BTreeMap::new(),
            acted_at: EPOCH,
            last_pass: 0,
            visitors: Visitors::default(),
            journal: VecDeque::new(),
            unseen: BTreeSet::new(),
            kept_full: BTreeSet::new(),
            plans: Vec::new(),
            force_next: false,
            next_skew: None,
            next: 0,
            broken: None,
            rng,
        }
    }

    /// Returns the true instant.
    pub(crate) fn now(&self) -> OffsetDateTime {
        EPOCH + self.started.elapsed()
    }

    /// Returns the moment at which the true time will be this.
    pub(crate) fn moment(&self, at: OffsetDateTime) -> Instant {
        let ahead = at - EPOCH;
        self.started + std::time::Duration::try_from(ahead).unwrap_or_default()
    }

    /// Returns a number that was never returned before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Records that something is out of order for every certificate.
    pub(crate) fn disturb(&mut self) {
        self.disturbed = self.disturbed.max(self.now());
    }

    /// Records that something is out of order for one certificate.
    pub(crate) fn disturb_certificate(&mut self, name: &str) {
        let now = self.now();
        self.disturbed_certificate.insert(name.to_owned(), now);
    }

    /// Returns since when nothing is out of order for a certificate.
    pub(crate) fn calm_since(&self, name: &str) -> OffsetDateTime {
        let astray = self.led_astray.get(name).copied();
        let calm = self.calm_but_for_others_since(name);
        calm.max(self.first_down).max(astray.unwrap_or(EPOCH))
    }

    /// Returns since when nothing is out of order for a certificate except what it should tolerate:
    /// a name that leads elsewhere while others do not, or an authority that is down while another
    /// is not.
    pub(crate) fn calm_but_for_others_since(&self, name: &str) -> OffsetDateTime {
        let own = self.disturbed_certificate.get(name).copied();
        own.map_or(self.disturbed, |own| own.max(self.disturbed))
    }

    /// Records a broken rule, unless there is one already.
    pub(crate) fn broken(&mut self, what: impl Display) {
        if self.broken.is_none() {
            let what = what.to_string();
            if self.lists(&what) {
                return;
            }
            let now = self.now();
            self.trace.line(now, format_args!("BROKEN: {what}"));
            self.broken = Some(format!("{now}: {what}"));
        }
    }

    /// Writes a line.
    pub(crate) fn say(&mut self, line: std::fmt::Arguments<'_>) {
        let now = self.now();
        self.trace.line(now, line);
    }

    /// Returns a certificate's own name for an ARN of ours, by the tags it carries.
    pub(crate) fn owner_of(&self, arn: &str) -> Option<String> {
        let held = self.manager.get(arn)?;
        (held.tags.get("certloop:installation") == Some(&self.installation))
            .then(|| held.tags.get("certloop:certificate").cloned())
            .flatten()
    }
}

/// The connection of one pass to the world.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) world: Shared,
    pub(crate) pass: u32,
}

impl Handle {
    /// One call: it may fail before or after it takes effect, and the process may die of it.
    /// Afterwards the rules are checked.
    pub(crate) async fn call<T, E: Failing>(
        &self,
        service: Service,
        operation: &'static str,
        about: &str,
        act: impl FnOnce(&mut World) -> Result<T, E>,
    ) -> Result<T, E> {
        self.alive().await;
        let (fate, latency) = {
            let world = &mut *self.world.borrow_mut();
            rules::call_begins(world, self.pass, operation);
            let now = world.now();
            let fate = world.weather.fate(service, now, &mut world.rng);
            let latency = match service {
                Service::Store => 10 + world.rng.u64(..40),
                service if service.is_authority() => 40 + world.rng.u64(..300),
                _ => 30 + world.rng.u64(..200),
            };
            (fate, std::time::Duration::from_millis(latency))
        };
        tokio::time::sleep(latency).await;
        self.alive().await;
        match fate {
            Fate::DiesBefore => self.die(operation, "before").await,
            Fate::Before(fault) => {
                return Err(self.failed(service, operation, about, fault, "before"));
            }
            Fate::Stalls(false) => {
                tokio::time::sleep(patience(service)).await;
                self.alive().await;
                return Err(self.failed(
                    service,
                    operation,
                    about,
                    Fault::NoAnswer,
                    "stalled before",
                ));
            }
            _ => {}
        }
        let outcome = {
            let world = &mut *self.world.borrow_mut();
            let outcome = act(world);
            if let Err(error) = &outcome {
                let line = error.told();
                world.say(format_args!(
                    "pass#{} {operation} {about} -> {line}",
                    self.pass
                ));
            } else if !is_quiet(operation) {
                world.say(format_args!("pass#{} {operation} {about}", self.pass));
            }
            world.tally.count(operation);
            if outcome.is_ok() && CHANGES.contains(&operation) {
                rules::after_event(world);
            }
            outcome
        };
        match fate {
            Fate::DiesAfter => self.die(operation, "after").await,
            Fate::After(fault) if outcome.is_ok() => {
                return Err(self.failed(service, operation, about, fault, "after"));
            }
            Fate::Stalls(true) => {
                tokio::time::sleep(patience(service)).await;
                self.alive().await;
                return Err(self.failed(
                    service,
                    operation,
                    about,
                    Fault::NoAnswer,
                    "stalled after",
                ));
            }
            _ => {}
        }
        self.alive().await;
        outcome
    }

    fn failed<E: Failing>(
        &self,
        service: Service,
        operation: &'static str,
        about: &str,
        fault: Fault,
        when: &str,
    ) -> E {
        let world = &mut *self.world.borrow_mut();
        world
            .tally
            .count(&format!("fault: {service:?} {fault:?} {when}"));
        world.say(format_args!(
            "pass#{} {operation} {about} -> FAULT {fault:?} {when}",
            self.pass
        ));
        let now = world.now();
        if let Some(site) = Site::ALL.into_iter().find(|site| site.service() == service) {
            world.ca.trouble_at.insert(site, now);
        }
        let clock = world.passes.get_mut(&self.pass).map(|pass| {
            pass.met_fault = true;
            pass.clock(now)
        });
        E::of(fault, operation, about, clock.unwrap_or(now))
    }

    /// Continues only while the process lives and no rule is broken.
    async fn alive(&self) {
        let stop = {
            let world = self.world.borrow();
            world.broken.is_some() || world.passes.get(&self.pass).is_none_or(|pass| pass.dead)
        };
        if stop {
            std::future::pending::<()>().await;
        }
    }

    async fn die(&self, operation: &str, when: &str) {
        {
            let world = &mut *self.world.borrow_mut();
            world.tally.count(&format!("death: {when} {operation}"));
            world.say(format_args!("pass#{} DIES {when} {operation}", self.pass));
            if let Some(pass) = world.passes.get_mut(&self.pass) {
                pass.dead = true;
                pass.death.notify_one();
            }
        }
        std::future::pending::<()>().await;
    }
}

/// How long a caller waits for an answer, as in the adapters.
fn patience(service: Service) -> std::time::Duration {
    std::time::Duration::from_secs(match service {
        service if service.is_authority() => 20,
        Service::Network => 5,
        _ => 30,
    })
}

/// Calls after which a rule may be broken.
const CHANGES: [&str; 9] = [
    "ca.revoke",
    "s3.write",
    "s3.delete",
    "acm.importNew",
    "acm.importOver",
    "acm.delete",
    "elb.add",
    "elb.setDefault",
    "elb.remove",
];

/// Calls that change nothing: the trace shows them only when they fail.
fn is_quiet(operation: &str) -> bool {
    matches!(
        operation,
        "s3.read"
            | "s3.list"
            | "acm.describe"
            | "acm.tags"
            | "acm.get"
            | "acm.list"
            | "elb.listener"
            | "elb.certificates"
            | "ca.signIn"
            | "ca.order"
            | "ca.refresh"
            | "ca.authorizations"
    )
}

/// An error as an adapter makes it.
pub(crate) trait Failing {
    fn of(fault: Fault, operation: &'static str, about: &str, clock: OffsetDateTime) -> Self;
    fn told(&self) -> String;
}

impl Failing for StoreError {
    fn of(fault: Fault, operation: &'static str, about: &str, _clock: OffsetDateTime) -> Self {
        if fault == Fault::MetItself && operation == "s3.write" {
            return Self::ConditionFailed {
                key: about.to_owned(),
            };
        }
        Self::Unavailable {
            verb: match operation {
                "s3.read" => "read",
                "s3.delete" => "delete",
                "s3.list" => "list",
                _ => "write",
            },
            key: about.to_owned(),
            reason: format!("simulated {fault:?}"),
            person: false,
        }
    }

    fn told(&self) -> String {
        self.to_string()
    }
}

impl Failing for ServiceError {
    fn of(fault: Fault, operation: &'static str, _about: &str, _clock: OffsetDateTime) -> Self {
        let (code, status) = match fault {
            Fault::Throttled | Fault::Busy(_) => (Some("ThrottlingException"), Some(400)),
            Fault::Internal => (Some("InternalFailure"), Some(500)),
            _ => (None, None),
        };
        Self {
            operation,
            code: code.map(str::to_owned),
            message: format!("simulated {fault:?}"),
            status,
        }
    }

    fn told(&self) -> String {
        self.to_string()
    }
}

impl Failing for AttachError {
    fn of(fault: Fault, operation: &'static str, about: &str, clock: OffsetDateTime) -> Self {
        Self::Service(ServiceError::of(fault, operation, about, clock))
    }

    fn told(&self) -> String {
        match self {
            Self::NotYetKnown(error) | Self::Full(error) | Self::Service(error) => error.told(),
        }
    }
}

impl Failing for AcmeError {
    fn of(fault: Fault, _operation: &'static str, _about: &str, clock: OffsetDateTime) -> Self {
        let urn = |word: &str| format!("{URN}{word}");
        let (kind, status, wait) = match fault {
            Fault::Internal => (urn("serverInternal"), Some(500), Some(60)),
            Fault::Busy(wait) => ("certloop:authority".to_owned(), Some(503), wait),
            Fault::Throttled => (urn("rateLimited"), Some(429), Some(600)),
            Fault::BadNonce => (urn("badNonce"), Some(400), None),
            _ => ("certloop:authority".to_owned(), None, None),
        };
        refusal(
            kind,
            format!("simulated {fault:?}"),
            status,
            wait.map(|wait| clock + Duration::seconds(wait)),
            fault == Fault::NoConnection,
        )
    }

    fn told(&self) -> String {
        format!("{} {:?}: {}", self.kind, self.status, self.detail)
    }
}

/// Returns a refusal of the authority.
pub(crate) fn refusal(
    kind: String,
    detail: String,
    status: Option<u16>,
    retry_after: Option<OffsetDateTime>,
    unconnected: bool,
) -> AcmeError {
    AcmeError {
        kind,
        detail,
        status,
        retry_after,
        unconnected,
    }
}

/// Returns the object key's certificate name, for keys `<folder>/<name>...`.
pub(crate) fn name_in(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('/')?;
    let end = rest.find(['/', '.']).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// When every world begins.
pub(crate) const EPOCH: OffsetDateTime = match OffsetDateTime::from_unix_timestamp(1_798_761_600) {
    Ok(epoch) => epoch,
    Err(_) => OffsetDateTime::UNIX_EPOCH,
};
/// The function's region and account.
pub(crate) const HOME: &str = "eu-central-1";
pub(crate) const ACCOUNT: &str = "123456789012";
/// What no report and no state may contain: the part of every key authorization after its token.
pub(crate) const THUMBPRINT: &str = "SIMULATEDthumbprintNOTFORanyEYESxxxxxxxxxxx";
/// What no report and no state may contain: the account's key.
pub(crate) const ACCOUNT_KEY: &str = "SIMULATEDaccountKEYnotFORanyEYES";
