//! The answer to `plan`.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::authority::expected_lifetime;
use super::journal::{Call, Journal};
use super::{DryRunPorts, LiveOrDryRun};
use crate::contract::certificate::Wanted;
use crate::contract::report::{Entry, Outcome, fitting};
use crate::life::run;
use crate::pass::context::Cycle;
use crate::pass::ledgers::LimitsLeft;
use crate::ports::Ports;
use crate::ports::store::{self, Store, read_record};
use crate::records::state::State;
use crate::rules::renewal;
use crate::rules::targets::regions;
use crate::values::instant::whole_seconds;
use crate::values::names::CertificateName;
use crate::values::problem::Problem;

/// The actions of a pass, simulated.
#[derive(Debug, Serialize)]
pub struct Forecast {
    /// The simulated time.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// One entry per certificate, in the order of a pass.
    pub certificates: Vec<Foreseen>,
    /// How many entries were left out.
    pub omitted: usize,
    /// The totals, including entries left out.
    pub total: Total,
}

/// What a pass would do for one certificate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Foreseen {
    /// The document's name.
    pub name: String,
    /// The outcome that a pass would report.
    pub outcome: Outcome,
    /// The sentence that a pass would report.
    pub reason: String,
    /// The instant before which nothing would be tried.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt: Option<OffsetDateTime>,
    /// The problem that there would be.
    pub problem: Option<Problem>,
    /// Every call that changes something, in order.
    pub calls: Vec<Call>,
    /// Orders in a year, computed from the current or expected lifetime. None for a paused
    /// certificate; `None` without a valid document.
    pub orders_per_year: Option<f64>,
    /// Imports in a year into the certificate managers of all its regions.
    pub imports_per_year: Option<f64>,
}

/// The totals of all certificates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// Orders now.
    pub orders: usize,
    /// Imports now.
    pub imports: usize,
    /// Orders in a year.
    pub orders_per_year: f64,
    /// Imports in a year.
    pub imports_per_year: f64,
    /// What would be left of all limits afterwards.
    pub limits: LimitsLeft,
}

/// Runs the prepared pass over the named certificates without changing anything, and returns what
/// it would do. It takes one certificate after the other while there is time.
pub async fn forecast<L: Ports>(
    live: &L,
    cycle: Cycle<'_, LiveOrDryRun<'_, L>>,
    names: &[String],
) -> Forecast {
    let planned = DryRunPorts::new(live, cycle.clock.now(), cycle.account_id.as_deref());
    let ports = LiveOrDryRun::dry_run(&planned);
    let cycle = cycle.over(&ports);
    dry_run(&cycle, &planned.journal, names).await
}

/// The journal belongs to planned ports; live ports have none.
async fn dry_run<P: Ports>(cycle: &Cycle<'_, P>, journal: &Journal, names: &[String]) -> Forecast {
    // No log line may look as if any of this had happened.
    let foreseen = foresee(cycle, journal, names);
    let foreseen = foreseen.with_subscriber(NoSubscriber::new());
    let mut certificates = foreseen.await;
    let calls = |operation: &str| {
        let calls = certificates.iter().flat_map(|foreseen| &foreseen.calls);
        calls.filter(|call| call.operation == operation).count()
    };
    let sum =
        |of: fn(&Foreseen) -> Option<f64>| one_decimal(certificates.iter().filter_map(of).sum());
    let total = Total {
        orders: calls("newOrder"),
        imports: calls("ImportCertificate"),
        orders_per_year: sum(|foreseen| foreseen.orders_per_year),
        imports_per_year: sum(|foreseen| foreseen.imports_per_year),
        limits: cycle.ledgers.limits_left().await,
    };
    let all = certificates.len();
    certificates.truncate(fitting(&certificates));
    Forecast {
        at: whole_seconds(journal.at),
        omitted: all - certificates.len(),
        certificates,
        total,
    }
}

async fn foresee<P: Ports>(
    cycle: &Cycle<'_, P>,
    journal: &Journal,
    names: &[String],
) -> Vec<Foreseen> {
    let mut foreseen = Vec::new();
    for name in by_urgency(cycle, names).await {
        if cycle.clock.left() < LEAST {
            foreseen.push(Foreseen::of(not_looked_at(&name), Vec::new()));
            continue;
        }
        journal.turn_to(name.parse().ok());
        let named = std::slice::from_ref(&name);
        let entry = run(cycle, named, false).await.entries.pop();
        let calls = journal.take();
        let entry = match entry {
            Some(entry) => entry,
            // A pass does not report this one.
            None if calls.is_empty() => continue,
            None => Entry::bare(&name, Outcome::Kept, "tidied up"),
        };
        let mut one = Foreseen::of(entry, calls);
        one.reason = journal.shown(&one.reason);
        if let Some(problem) = &mut one.problem {
            problem.detail = journal.shown(&problem.detail);
        }
        if let Some((orders, imports)) = per_year(cycle, &name).await {
            one.orders_per_year = Some(one_decimal(orders));
            one.imports_per_year = Some(one_decimal(imports));
        }
        foreseen.push(one);
    }
    foreseen
}

/// Returns the names, without duplicates, about in the order of a pass: first the certificates that
/// must be replaced at once or that end soon.
async fn by_urgency<P: Ports>(cycle: &Cycle<'_, P>, names: &[String]) -> Vec<String> {
    let names: BTreeSet<&String> = names.iter().collect();
    let until = cycle.clock.elapsed() + cycle.clock.left() / 4;
    let urgencies = stream::iter(names).map(|name| async move {
        let held = match cycle.clock.elapsed() < until {
            true => read(cycle, name).await.and_then(|(wanted, state)| {
                cycle.note_claims(&wanted, &state);
                state.certificate
            }),
            false => None,
        };
        let now = cycle.clock.now();
        let rank = match &held {
            Some(held) if held.is_to_be_replaced_at_once(now) => 0,
            Some(held) if held.is_urgent(now) => 1,
            _ => 2,
        };
        (rank, held.map(|held| held.not_after), name.clone())
    });
    let urgencies = urgencies.buffer_unordered(cycle.settings.limits.concurrency);
    let mut urgencies: Vec<_> = urgencies.collect().await;
    urgencies.sort();
    urgencies.into_iter().map(|(.., name)| name).collect()
}

/// Reads a valid document and its state, after the planned changes.
async fn read<P: Ports>(cycle: &Cycle<'_, P>, name: &str) -> Option<(Wanted, State)> {
    let name: CertificateName = name.parse().ok()?;
    let store = cycle.ports.store();
    let state = read_record::<State>(store, &store::state_key(&name)).await;
    let object = store.read(&store::certificate_key(&name)).await.ok()??;
    let account = cycle.account_id.as_deref();
    let wanted = Wanted::parse(&name, &object.body, &cycle.settings, account).ok()?;
    let state = state.ok()?.map(|(state, _)| state);
    Some((wanted, state.unwrap_or_default()))
}

/// Returns orders and imports in a year. It uses the renewal rule without renewal information, at
/// the middle of the random range.
async fn per_year<P: Ports>(cycle: &Cycle<'_, P>, name: &str) -> Option<(f64, f64)> {
    let (wanted, state) = read(cycle, name).await?;
    if wanted.paused {
        return Some((0.0, 0.0));
    }
    let held = state.certificate.as_ref();
    let lifetime = held
        .filter(|held| held.profile == wanted.profile)
        .map_or_else(
            || expected_lifetime(wanted.profile.as_deref()),
            |held| held.lifetime(),
        );
    let from = cycle.clock.now();
    let renewal = renewal::draw(from, from + lifetime, None, from, 0.5);
    let orders = YEAR / (renewal.at - from).max(Duration::HOUR);
    let regions = regions(&wanted, &cycle.home).len();
    Some((orders, orders * regions as f64))
}

fn not_looked_at(name: &str) -> Entry {
    let reason = "out of time to plan it; ask for it by name";
    Entry::bare(name, Outcome::Waiting, reason)
}

impl Foreseen {
    fn of(entry: Entry, calls: Vec<Call>) -> Self {
        Self {
            name: entry.name,
            outcome: entry.outcome,
            reason: entry.reason,
            next_attempt: entry.next_attempt,
            problem: entry.problem,
            calls,
            orders_per_year: None,
            imports_per_year: None,
        }
    }
}

fn one_decimal(number: f64) -> f64 {
    // The sum of no numbers is -0.
    (number * 10.0).round() / 10.0 + 0.0
}

const YEAR: Duration = Duration::days(365);
/// With less time than this left, no further certificate is started.
const LEAST: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn fields(value: &Value) -> Vec<&String> {
        value.as_object().unwrap().keys().collect()
    }

    #[test]
    fn the_sample_has_the_fields_of_the_answer() {
        let sample = include_str!("../../../../events/plan.sample.json");
        let sample: Value = serde_json::from_str(sample).unwrap();
        let call = Call {
            service: "s3",
            operation: "PutObject",
            resource: "state/shop.json".to_owned(),
        };
        let entry = Entry::bare("shop", Outcome::Kept, "");
        let forecast = Forecast {
            at: OffsetDateTime::UNIX_EPOCH,
            certificates: vec![Foreseen::of(entry, vec![call])],
            omitted: 0,
            total: Total {
                orders: 0,
                imports: 0,
                orders_per_year: 0.0,
                imports_per_year: 0.0,
                limits: LimitsLeft::default(),
            },
        };
        let answer = serde_json::to_value(&forecast).unwrap();
        assert_eq!(fields(&sample), fields(&answer));
        for pointer in [
            "/certificates/0",
            "/certificates/0/calls/0",
            "/total",
            "/total/limits",
        ] {
            let of = |value: &Value| value.pointer(pointer).unwrap().clone();
            assert_eq!(fields(&of(&sample)), fields(&of(&answer)), "{pointer}");
        }
    }
}
