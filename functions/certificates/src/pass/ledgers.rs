//! The ledgers of limits, in `limits/`: read once per pass, changed by compare-and-swap.
//!
//! All invocations share them. Within one invocation the certificates change them one after the
//! other. An unreadable ledger is never taken for an empty one: then nothing is ordered or
//! imported.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::contract::rate_limit::RateLimits;
use crate::contract::settings::{Authority, Settings};
use crate::pass::memo::Memo;
use crate::pass::stop::{Stop, store_problem};
use crate::ports::Ports;
use crate::ports::store::{
    self, Condition, Store, StoreError, imports_key, ledger_key, read_record, write_record,
};
use crate::records::ledger::{Hold, Reserved};
use crate::records::record::Record;
use crate::rules::ledger::{Blocked, Imports, Ledger, Left, OrderFate, Purpose};
use crate::values::clock::Clock;
use crate::values::names::{CertificateName, DnsName};
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The records of limits as this pass last read them, each behind a lock.
pub(crate) struct Ledgers<'p, P: Ports> {
    ports: &'p P,
    settings: Rc<Settings>,
    clock: Clock,
    ledgers: Memo<Rc<Mutex<LastSeen<Ledger>>>>,
    imports: Memo<Rc<Mutex<LastSeen<Imports>>>>,
}

/// A record as it was last read.
#[derive(Default)]
enum LastSeen<R> {
    /// Not read yet, or another invocation has written it since.
    #[default]
    Not,
    /// It could not be read: that counts for the whole pass.
    Failed(Problem),
    /// With its ETag; `None` where there was no object.
    Read(R, Option<String>),
}

/// What is left of all limits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsLeft {
    /// By authority; an authority without any entry is left out.
    pub authorities: BTreeMap<String, AuthorityLeft>,
    /// By region.
    pub imports: BTreeMap<String, ImportsLeft>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What is left of an authority's limits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorityLeft {
    /// The buckets from which something was used.
    pub limits: Vec<Left>,
    /// The names, domains or orders that the authority put on hold.
    pub holds: Vec<HoldLeft>,
}

/// A hold in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldLeft {
    /// The name or registered domain; `None` is all of it.
    pub subject: Option<String>,
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// What the authority said.
    pub problem: Problem,
}

/// What is left of a region's yearly imports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportsLeft {
    /// How many are left.
    pub left: u32,
    /// Of how many in 365 days.
    pub of: u32,
    /// When the next can be made, where none is left.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
}

impl<'p, P: Ports> Ledgers<'p, P> {
    pub(crate) fn new(ports: &'p P, settings: Rc<Settings>, clock: Clock) -> Self {
        Self {
            ports,
            settings,
            clock,
            ledgers: Memo::default(),
            imports: Memo::default(),
        }
    }

    /// Returns why no order for these names can be made at an authority now, by the copy that this
    /// pass has read.
    pub(crate) async fn what_blocks(
        &self,
        authority: &Authority,
        certificate: &CertificateName,
        names: &[DnsName],
        purpose: Purpose,
    ) -> Result<Option<Blocked>, Problem> {
        let (key, lock) = self.ledger(authority).await;
        let mut seen = lock.lock().await;
        let now = self.clock.now();
        let limits = &authority.limits;
        let (ledger, _) = look(self.ports.store(), &key, &mut seen).await?;
        Ok(ledger.what_blocks(limits, certificate.as_str(), names, purpose, now))
    }

    /// Takes from an authority's limits what an order needs, or says what blocks it.
    ///
    /// Each reservation must be settled. If the invocation ends before the order's URL is known,
    /// the next reservation of the certificate releases the old one.
    pub(crate) async fn reserve(
        &self,
        authority: &Authority,
        certificate: &CertificateName,
        names: &[DnsName],
        purpose: Purpose,
    ) -> Result<Result<Reserved, Blocked>, Stop> {
        let (key, lock) = self.ledger(authority).await;
        let mut seen = lock.lock().await;
        let (limits, owner) = (&authority.limits, certificate.as_str());
        if *limits == RateLimits::default() {
            let (ledger, _) = look(self.ports.store(), &key, &mut seen).await?;
            let blocked = ledger.what_blocks(limits, owner, names, purpose, self.clock.now());
            return Ok(blocked.map_or_else(|| Ok(Reserved::default()), Err));
        }
        // An outdated copy cannot be written. A copy that says no is read again first.
        let now = self.clock.now();
        let stale = matches!(&*seen, LastSeen::Read(ledger, _)
            if ledger.what_blocks(limits, owner, names, purpose, now).is_some());
        if stale {
            *seen = LastSeen::Not;
        }
        let id = format!("{:016x}", fastrand::u64(..));
        let decide = |ledger: &mut Ledger| {
            let now = self.clock.now();
            match ledger.what_blocks(limits, owner, names, purpose, now) {
                Some(blocked) => match ledger.tidy(limits, now) {
                    true => RecordChange::Write(Err(blocked)),
                    false => RecordChange::None(Err(blocked)),
                },
                None => RecordChange::Write(Ok(ledger.reserve(
                    limits,
                    owner,
                    id.clone(),
                    names,
                    purpose,
                    now,
                ))),
            }
        };
        change(self.ports.store(), &key, &mut seen, decide)
            .await
            .map_err(Stop::from)
    }

    /// Books the result of an order. Must run before the state forgets the order; it can be
    /// repeated.
    pub(crate) async fn settle(
        &self,
        authority: &str,
        directory: &str,
        reserved: &Reserved,
        outcome: OrderFate<'_>,
    ) -> Result<(), Stop> {
        if reserved.is_empty() {
            return Ok(());
        }
        let (key, lock) = self.ledger_of(authority, directory).await;
        let mut seen = lock.lock().await;
        let decide = |ledger: &mut Ledger| {
            ledger.settle(reserved, outcome, self.clock.now());
            RecordChange::Write(())
        };
        change(self.ports.store(), &key, &mut seen, decide)
            .await
            .map_err(Stop::from)
    }

    /// Holds all new orders at an authority until the instant it named.
    pub(crate) async fn hold_authority(
        &self,
        authority: &Authority,
        until: OffsetDateTime,
        problem: Problem,
    ) {
        let hold = Hold { until, problem };
        let set = |ledger: &mut Ledger| ledger.hold(hold.clone());
        self.keep_hold(authority, set).await;
    }

    /// Holds new orders at an authority with one of these names.
    pub(crate) async fn hold_names(
        &self,
        authority: &Authority,
        names: &[DnsName],
        until: OffsetDateTime,
        problem: Problem,
    ) {
        let hold = Hold { until, problem };
        let set = |ledger: &mut Ledger| ledger.hold_names(names, &hold);
        self.keep_hold(authority, set).await;
    }

    /// Holds new orders at an authority with a name under the registered domain of one of these.
    pub(crate) async fn hold_domains(
        &self,
        authority: &Authority,
        names: &[DnsName],
        until: OffsetDateTime,
        problem: Problem,
    ) {
        let hold = Hold { until, problem };
        let set = |ledger: &mut Ledger| ledger.hold_domains(names, &hold);
        self.keep_hold(authority, set).await;
    }

    /// Stores a hold. If that fails, this pass still respects it as far as it can, and the
    /// certificate's own state remembers it as well.
    async fn keep_hold(&self, authority: &Authority, set: impl Fn(&mut Ledger)) {
        let (key, lock) = self.ledger(authority).await;
        let mut seen = lock.lock().await;
        let decide = |ledger: &mut Ledger| {
            ledger.tidy(&authority.limits, self.clock.now());
            set(ledger);
            RecordChange::Write(())
        };
        if let Err(problem) = change(self.ports.store(), &key, &mut seen, decide).await {
            tracing::warn!(
                authority = %authority.key,
                problem.detail = %problem.detail,
                "hold not stored"
            );
            if let LastSeen::Read(ledger, _) = &mut *seen {
                set(ledger);
            }
        }
    }

    /// Counts an import into the certificate manager of a region, or says until when none is left.
    /// Counts in any case where waiting would do more harm than a refused import.
    pub(crate) async fn reserve_import(
        &self,
        region: &str,
        in_any_case: bool,
    ) -> Result<Result<(), Blocked>, Stop> {
        let (key, lock) = self.imports(region).await;
        let mut seen = lock.lock().await;
        let limit = self.settings.limits.imports_per_year;
        let decide = |imports: &mut Imports| {
            let now = self.clock.now();
            match imports.what_blocks(limit, region, now) {
                Some(blocked) if !in_any_case => RecordChange::None(Err(blocked)),
                _ => {
                    imports.count(now);
                    RecordChange::Write(Ok(()))
                }
            }
        };
        let stale = matches!(&*seen, LastSeen::Read(imports, _)
            if imports.what_blocks(limit, region, self.clock.now()).is_some());
        if stale {
            *seen = LastSeen::Not;
        }
        match change(self.ports.store(), &key, &mut seen, decide).await {
            // Failed bookkeeping does not delay what cannot wait.
            Err(problem) if in_any_case => {
                tracing::warn!(problem.detail = %problem.detail, "import not counted");
                Ok(Ok(()))
            }
            counted => counted.map_err(Stop::from),
        }
    }

    /// Returns why nothing can be imported into the certificate manager of a region now, by the
    /// copy that this pass has read.
    pub(crate) async fn what_blocks_imports(
        &self,
        region: &str,
    ) -> Result<Option<Blocked>, Problem> {
        let (key, lock) = self.imports(region).await;
        let mut seen = lock.lock().await;
        let (imports, _) = look(self.ports.store(), &key, &mut seen).await?;
        let limit = self.settings.limits.imports_per_year;
        Ok(imports.what_blocks(limit, region, self.clock.now()))
    }

    /// Returns how many imports into a region are left, and of how many.
    pub(crate) async fn imports_left(&self, region: &str) -> Result<(u32, u32), Problem> {
        let (key, lock) = self.imports(region).await;
        let mut seen = lock.lock().await;
        let (imports, _) = look(self.ports.store(), &key, &mut seen).await?;
        let limit = self.settings.limits.imports_per_year;
        Ok((imports.left(limit, self.clock.now()), limit))
    }

    /// Takes back the count of an import that certainly did not happen. If that fails, it stays
    /// counted.
    pub(crate) async fn refund_import(&self, region: &str) {
        let (key, lock) = self.imports(region).await;
        let mut seen = lock.lock().await;
        let decide = |imports: &mut Imports| {
            imports.refund(self.clock.now());
            RecordChange::Write(())
        };
        if let Err(problem) = change(self.ports.store(), &key, &mut seen, decide).await {
            tracing::warn!(problem.detail = %problem.detail, "import stays counted");
        }
    }

    /// Returns what is left of every limit: one request for each authority, one for each region,
    /// and a list. For what cannot be read it says why.
    pub(crate) async fn limits_left(&self) -> LimitsLeft {
        let mut left = LimitsLeft::default();
        for (name, authority) in &self.settings.authorities {
            let (key, lock) = self.ledger(authority).await;
            let mut seen = lock.lock().await;
            match look(self.ports.store(), &key, &mut seen).await {
                Ok((ledger, _)) => {
                    let of_authority = self.left_of(ledger, authority);
                    if !of_authority.limits.is_empty() || !of_authority.holds.is_empty() {
                        left.authorities.insert(name.clone(), of_authority);
                    }
                }
                Err(problem) => left.problem = Some(problem),
            }
        }
        let regions = self.regions().await.unwrap_or_else(|problem| {
            left.problem = Some(problem);
            Vec::new()
        });
        let of = self.settings.limits.imports_per_year;
        for region in regions {
            let (key, lock) = self.imports(&region).await;
            let mut seen = lock.lock().await;
            let now = self.clock.now();
            match look(self.ports.store(), &key, &mut seen).await {
                Ok((imports, _)) => {
                    let next = imports.next(of, now);
                    let of_region = ImportsLeft {
                        left: imports.left(of, now),
                        of,
                        next_at: (next > now).then_some(next),
                    };
                    left.imports.insert(region, of_region);
                }
                Err(problem) => left.problem = Some(problem),
            }
        }
        left
    }

    /// Returns what is left of an authority's limits, the scarcest first.
    fn left_of(&self, ledger: &Ledger, authority: &Authority) -> AuthorityLeft {
        let now = self.clock.now();
        let holds = ledger.holds_in_force(now).into_iter().take(MOST_TOLD);
        let holds = holds.map(|(subject, hold)| HoldLeft {
            subject: subject.map(str::to_owned),
            until: hold.until,
            problem: hold.problem.clone(),
        });
        let mut limits = ledger.left(&authority.limits, now);
        limits.sort_by_key(|left| left.left);
        limits.truncate(MOST_TOLD);
        AuthorityLeft {
            limits,
            holds: holds.collect(),
        }
    }

    /// Returns which limits an order would use and what is left of them, by the copy that this pass
    /// has read.
    pub(crate) async fn costs(
        &self,
        authority: &Authority,
        names: &[DnsName],
        purpose: Purpose,
    ) -> Result<Vec<Left>, Problem> {
        let (key, lock) = self.ledger(authority).await;
        let mut seen = lock.lock().await;
        let (ledger, _) = look(self.ports.store(), &key, &mut seen).await?;
        Ok(ledger.costs(&authority.limits, names, purpose, self.clock.now()))
    }

    /// Returns the imports of the last 365 days in that one of these regions that has the most.
    pub(crate) async fn imports_of_a_year(
        &self,
        regions: &BTreeSet<String>,
    ) -> Result<u32, Problem> {
        let mut most = 0;
        for region in regions {
            let (key, lock) = self.imports(region).await;
            let mut seen = lock.lock().await;
            let (imports, _) = look(self.ports.store(), &key, &mut seen).await?;
            most = most.max(imports.of_a_year(self.clock.now()));
        }
        Ok(most)
    }

    /// Returns the regions that ever had an import.
    pub(crate) async fn regions(&self) -> Result<Vec<String>, Problem> {
        let listed = self.ports.store().list(store::IMPORTS).await;
        let listed = listed.map_err(|error| store_problem(&error))?;
        let regions = listed.iter();
        let regions = regions.filter_map(|entry| store::region_of_imports_key(&entry.key));
        Ok(regions.map(str::to_owned).collect())
    }

    async fn ledger(&self, authority: &Authority) -> (String, Rc<Mutex<LastSeen<Ledger>>>) {
        self.ledger_of(&authority.key, &authority.directory).await
    }

    async fn ledger_of(
        &self,
        authority: &str,
        directory: &str,
    ) -> (String, Rc<Mutex<LastSeen<Ledger>>>) {
        let key = ledger_key(authority, directory);
        let cell = self.ledgers.cell(&key);
        let lock = cell.get_or_init(|| async { Rc::default() }).await.clone();
        (key, lock)
    }

    async fn imports(&self, region: &str) -> (String, Rc<Mutex<LastSeen<Imports>>>) {
        let key = imports_key(region);
        let cell = self.imports.cell(&key);
        let lock = cell.get_or_init(|| async { Rc::default() }).await.clone();
        (key, lock)
    }
}

/// Returns a record as this pass has read it. Reads it if it has not.
async fn look<'s, R: Kept>(
    store: &impl Store,
    key: &str,
    seen: &'s mut LastSeen<R>,
) -> Result<(&'s mut R, &'s mut Option<String>), Problem> {
    if matches!(seen, LastSeen::Not) {
        *seen = read(store, key).await;
    }
    match seen {
        LastSeen::Read(record, etag) => Ok((record, etag)),
        LastSeen::Failed(problem) => Err(problem.clone()),
        LastSeen::Not => Err(keeps_changing(key)),
    }
}

async fn read<R: Kept>(store: &impl Store, key: &str) -> LastSeen<R> {
    match read_record(store, key).await {
        Ok(Some((record, etag))) => LastSeen::Read(record, Some(etag)),
        Ok(None) => LastSeen::Read(R::default(), None),
        Err(error) => LastSeen::Failed(store_problem(&error)),
    }
}

/// Changes a record by compare-and-swap. If another invocation was faster, reads it again and
/// decides again.
async fn change<R: Kept, T>(
    store: &impl Store,
    key: &str,
    seen: &mut LastSeen<R>,
    decide: impl Fn(&mut R) -> RecordChange<T>,
) -> Result<T, Problem> {
    if matches!(seen, LastSeen::Failed(_)) {
        *seen = LastSeen::Not;
    }
    for round in 0..ROUNDS {
        let (record, etag) = look(store, key, seen).await?;
        let mut changed = record.clone();
        let answer = match decide(&mut changed) {
            RecordChange::None(answer) => return Ok(answer),
            RecordChange::Write(answer) => answer,
        };
        let condition = condition(etag);
        match write_record(store, key, &mut changed, condition).await {
            Ok(written) => {
                *seen = LastSeen::Read(changed, Some(written));
                return Ok(answer);
            }
            Err(StoreError::ConditionFailed { .. }) => *seen = LastSeen::Not,
            Err(error) => {
                // The write may have succeeded although it returned an error: then the record is
                // there.
                *seen = read(store, key).await;
                return match seen {
                    LastSeen::Read(stored, _) if stored.write_id() == changed.write_id() => {
                        Ok(answer)
                    }
                    _ => Err(store_problem(&error)),
                };
            }
        }
        let pause = PAUSE.mul_f64(f64::from(round + 1) * (0.5 + fastrand::f64()));
        tokio::time::sleep(pause).await;
    }
    Err(keeps_changing(key))
}

fn condition(etag: &Option<String>) -> Condition<'_> {
    etag.as_deref()
        .map_or(Condition::Absent, Condition::Matches)
}

/// A record that all invocations share.
trait Kept: Record + Default + Clone {
    /// Returns the stamp of its last write.
    fn write_id(&self) -> &str;
}

impl Kept for Ledger {
    fn write_id(&self) -> &str {
        self.write_id()
    }
}

impl Kept for Imports {
    fn write_id(&self) -> &str {
        self.write_id()
    }
}

/// The decision about a record, with the answer to return after it.
enum RecordChange<T> {
    None(T),
    Write(T),
}

fn keeps_changing(key: &str) -> Problem {
    let detail = format!("{key} keeps being changed by others");
    Problem::ours(ProblemType::Store, detail)
}

/// The most limits and holds that an answer lists for one authority.
const MOST_TOLD: usize = 200;
/// How often a change is tried.
const ROUNDS: u32 = 16;
/// The first pause between two tries.
const PAUSE: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    use time::macros::datetime;

    use super::*;
    use crate::ports::store::{ListedObject, StoredObject};

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);
    const KEY: &str = "limits/certificate-manager-eu-central-1.json";

    /// The fault of a request.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// The store refuses it and changes nothing.
        Refused,
        /// The store executes it and the answer is lost.
        Unheard,
        /// Another invocation writes first.
        Overtaken,
    }

    /// One object.
    #[derive(Default)]
    struct Fake {
        object: RefCell<Option<Vec<u8>>>,
        version: Cell<u32>,
        reads: RefCell<VecDeque<Fault>>,
        writes: RefCell<VecDeque<Fault>>,
        requests: Cell<u32>,
    }

    impl Fake {
        fn fault(&self, faults: &RefCell<VecDeque<Fault>>) -> Fault {
            self.requests.set(self.requests.get() + 1);
            faults.borrow_mut().pop_front().unwrap_or(Fault::None)
        }

        fn put(&self, body: Vec<u8>) -> String {
            *self.object.borrow_mut() = Some(body);
            self.version.set(self.version.get() + 1);
            self.version.get().to_string()
        }

        fn stored(&self) -> u32 {
            let object = self.object.borrow();
            object.as_ref().map_or(0, |body| {
                serde_json::from_slice::<Imports>(body)
                    .unwrap()
                    .of_a_year(NOW)
            })
        }
    }

    fn unavailable(verb: &'static str) -> StoreError {
        StoreError::Unavailable {
            verb,
            key: KEY.to_owned(),
            reason: "InternalError".to_owned(),
            person: false,
        }
    }

    impl Store for Fake {
        async fn read(&self, _: &str) -> Result<Option<StoredObject>, StoreError> {
            match self.fault(&self.reads) {
                Fault::None => Ok(self.object.borrow().as_ref().map(|body| StoredObject {
                    body: body.clone(),
                    etag: self.version.get().to_string(),
                    modified: None,
                })),
                _ => Err(unavailable("read")),
            }
        }

        async fn write(
            &self,
            key: &str,
            body: Vec<u8>,
            condition: Condition<'_>,
        ) -> Result<String, StoreError> {
            let fault = self.fault(&self.writes);
            if fault == Fault::Refused {
                return Err(unavailable("write"));
            }
            if fault == Fault::Overtaken {
                let mut theirs: Imports = self
                    .object
                    .borrow()
                    .as_ref()
                    .map_or_else(Imports::default, |body| {
                        serde_json::from_slice(body).unwrap()
                    });
                theirs.count(NOW);
                self.put(serde_json::to_vec(&theirs).unwrap());
            }
            let version = self.version.get().to_string();
            let holds = match condition {
                Condition::None => true,
                Condition::Absent => self.object.borrow().is_none(),
                Condition::Matches(etag) => etag == version,
            };
            if !holds {
                return Err(StoreError::ConditionFailed {
                    key: key.to_owned(),
                });
            }
            let etag = self.put(body);
            match fault {
                Fault::Unheard => Err(unavailable("write")),
                _ => Ok(etag),
            }
        }

        async fn delete(&self, _: &str) -> Result<(), StoreError> {
            Ok(())
        }

        async fn delete_matching(&self, _: &str, _: &str) -> Result<(), StoreError> {
            Ok(())
        }

        async fn list(&self, _: &str) -> Result<Vec<ListedObject>, StoreError> {
            Ok(Vec::new())
        }
    }

    async fn count(store: &Fake, seen: &mut LastSeen<Imports>) -> Result<bool, Problem> {
        let decide = |imports: &mut Imports| match imports.left(3, NOW) {
            0 => RecordChange::None(false),
            _ => {
                imports.count(NOW);
                RecordChange::Write(true)
            }
        };
        change(store, KEY, seen, decide).await
    }

    #[tokio::test]
    async fn a_change_is_made_once_or_not_at_all() {
        use Fault::{Overtaken, Refused, Unheard};
        // Two were counted before. Our answer, the count stored then, and the number of requests.
        for (why, reads, writes, answer, stored, requests) in [
            ("nothing goes wrong", &[][..], &[][..], Some(true), 3, 2),
            ("the first read fails", &[Refused], &[], None, 2, 1),
            ("the write fails", &[], &[Refused], None, 2, 3),
            ("its answer is lost", &[], &[Unheard], Some(true), 3, 3),
            (
                "its answer is lost, and the next read fails",
                &[Fault::None, Refused],
                &[Unheard],
                None,
                3,
                3,
            ),
            // The condition fails, the stamp is compared, then the record is read again: nothing is
            // left.
            (
                "another invocation takes the last one",
                &[],
                &[Overtaken],
                Some(false),
                3,
                4,
            ),
        ] {
            let store = Fake::default();
            let mut before = Imports::default();
            (0..2).for_each(|_| before.count(NOW));
            store.put(serde_json::to_vec(&before).unwrap());
            store.reads.borrow_mut().extend(reads);
            store.writes.borrow_mut().extend(writes);
            let mut seen = LastSeen::default();
            let counted = count(&store, &mut seen).await;
            assert_eq!(counted.ok(), answer, "{why}");
            assert_eq!(store.stored(), stored, "{why}");
            assert_eq!(store.requests.get(), requests, "{why}");
        }
    }

    #[tokio::test]
    async fn a_copy_is_read_once_and_written_over_and_over() {
        let store = Fake::default();
        let mut seen = LastSeen::default();
        for _ in 0..3 {
            assert_eq!(count(&store, &mut seen).await, Ok(true));
        }
        assert_eq!(store.requests.get(), 4, "one read, three writes");
        assert_eq!(count(&store, &mut seen).await, Ok(false));
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_not_empty() {
        let store = Fake::default();
        store.reads.borrow_mut().extend([Fault::Refused]);
        let mut seen = LastSeen::<Imports>::default();
        assert!(look(&store, KEY, &mut seen).await.is_err());
        assert!(
            look(&store, KEY, &mut seen).await.is_err(),
            "not asked again"
        );
        assert_eq!(store.requests.get(), 1);
        assert_eq!(count(&store, &mut seen).await, Ok(true), "but for a change");
    }

    #[tokio::test]
    async fn somebody_who_is_always_faster_stops_us() {
        let store = Fake::default();
        let crowd = vec![Fault::Overtaken; ROUNDS as usize];
        store.writes.borrow_mut().extend(crowd);
        let mut seen = LastSeen::<Imports>::default();
        let decide = |imports: &mut Imports| {
            imports.count(NOW);
            RecordChange::Write(())
        };
        let problem = change(&store, KEY, &mut seen, decide).await.unwrap_err();
        assert_eq!(problem.retry, crate::values::problem_types::Retry::Soon);
        assert_eq!(store.stored(), ROUNDS);
    }
}
