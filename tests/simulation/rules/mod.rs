//! The rules that must never be broken, checked from outside: after each call with an effect, and
//! at each step of time. There is one file per subject; what they all remember is here.
//!
//! Nothing here asks the library what is allowed: its obligations are written again independently.

mod at_rest;
mod deletion;
mod going_back;
mod import;
mod in_time;
mod listener;
mod messages;
mod order;
mod record;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use certificates::contract::message::Message;
use certificates::contract::report::Entry;
use time::{Duration, OffsetDateTime};

use crate::ca::Site;
use crate::people::Wish;
use crate::world::{EPOCH, World};

pub(crate) use at_rest::all_is_well;
pub(crate) use deletion::{before_certificate_deletion, before_object_deletion};
pub(crate) use going_back::before_revocation;
pub(crate) use import::{before_first_import, before_reimport};
pub(crate) use in_time::time_passes;
pub(crate) use listener::{after_event, before_attach, before_detach};
pub(crate) use messages::{forgotten, told};
pub(crate) use order::{
    before_answer, before_finalize, before_registration, issued, limit_met, order_answered,
    order_asked_for, validation_failed,
};
pub(crate) use record::before_write;
pub(crate) use window::window_asked_for;

/// The memory of the rules.
#[derive(Default)]
pub(crate) struct Book {
    /// When a pass with a wrong clock last ran.
    skewed_at: Option<OffsetDateTime>,
    /// When a clock was so wrong that the count of the authorities' limits cannot be trusted.
    miscounted_at: Option<OffsetDateTime>,
    /// The wait that the authority asked for, by certificate: its end, the pass that heard it, and
    /// whether that pass ended well.
    told: BTreeMap<(String, Site), Told>,
    /// When ours was last removed from a listener, by ARN.
    detached: BTreeMap<String, OffsetDateTime>,
    /// When people last touched a listener or a certificate of ours.
    pub(crate) touched: BTreeMap<String, OffsetDateTime>,
    /// When people will raise the import quota.
    pub(crate) quota_raised_at: Option<OffsetDateTime>,
    /// The last full pass without a disturbance.
    pub(crate) last_good_pass: Option<OffsetDateTime>,
    /// Certificates of ours that have been defaults.
    was_default: BTreeSet<String>,
    /// Tokens that one document deleted while another one had them as well.
    shared_tokens: BTreeSet<String>,
    /// The pass that last saw an order of a certificate end.
    order_ended: BTreeMap<String, u32>,
    state_written: BTreeMap<String, OffsetDateTime>,
    /// When an order was forced, by certificate.
    forced: BTreeMap<String, OffsetDateTime>,
    /// How often a limit of the authority was met.
    pub(crate) limits_met: u64,
    /// Rollbacks to an earlier certificate, by certificate.
    rolled_back: BTreeMap<String, RolledBack>,
    /// The serials with a recorded revocation, with the certificate and since when.
    revoking: BTreeMap<String, (String, OffsetDateTime)>,
    /// The messages that people received, by certificate and channel.
    heard: BTreeMap<(String, String), Heard>,
    /// Since when a removal has been in progress, by certificate.
    removing: BTreeMap<String, OffsetDateTime>,
}

struct RolledBack {
    /// The serial that must be kept.
    serial: String,
    /// The document's ETag at that time.
    document: Option<String>,
}

/// The messages that people received about a certificate on a channel.
#[derive(Default)]
struct Heard {
    messages: BTreeMap<String, Message>,
    /// The messages of the last pass that sent any. If the pass dies before they are marked, all of
    /// them are sent again.
    last: BTreeSet<String>,
    last_pass: u32,
    /// What a pass sent again, before any new message.
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
    /// Whether all clocks have been right for a while: only then does a lease surely exclude
    /// others.
    fn is_steady(&self) -> bool {
        let now = self.now();
        self.book
            .skewed_at
            .is_none_or(|at| now - at > Duration::hours(2))
    }

    /// Whether our counts for the authorities' limits come from right clocks: a bucket fills in a
    /// week.
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

/// Rule 11: no call begins after the deadline.
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

pub(crate) fn knows_arn(world: &World, name: &str, arn: &str) -> bool {
    world.states.get(name).is_some_and(|state| {
        state.deployment.imports.values().any(|import| {
            import
                .arn
                .as_ref()
                .is_some_and(|known| known.as_str() == arn)
                || import.superseded.iter().any(|old| old.arn.as_str() == arn)
                || import.untagged.iter().any(|old| old.arn.as_str() == arn)
        })
    })
}

/// A pass has ended: checks its report, and whether it kept its time.
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
    record::secrets(world, "a report", &report);
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

/// The bucket was restored to another day: what the rules remember of later days no longer counts.
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
        if let (Some(back), Some(held)) = (&state.previous.rolled_back, held) {
            let back = RolledBack {
                serial: held.serial.clone(),
                document: Some(back.document.clone()),
            };
            book.rolled_back.insert(name.clone(), back);
        }
    }
    book.revoking.retain(|serial, (name, _)| {
        let state = states.get(name);
        state.is_some_and(|state| state.revocations.is_pending(serial))
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

/// Whether a removal is in progress.
pub(crate) fn is_removed(world: &World, name: &str) -> bool {
    world.book.removing.contains_key(name)
}

/// Returns the serial to which a person rolled back.
pub(crate) fn went_back_to<'w>(world: &'w World, name: &str) -> Option<&'w str> {
    let back = world.book.rolled_back.get(name);
    back.map(|back| back.serial.as_str())
}
