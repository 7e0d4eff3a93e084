//! The inventory: what is served, until when, what is next, which problem was last. Reads documents
//! and states only.

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::message;
use crate::contract::report::{TargetEntry, fitting};
use crate::invocation::unmanaged::{Unmanaged, unmanaged};
use crate::life::decide::unknown;
use crate::life::order::route::{OrderRoute, purpose_of_next, route_of};
use crate::life::{Known, list_known};
use crate::pass::context::Cycle;
use crate::pass::ledgers::LimitsLeft;
use crate::pass::stop::{state_problem, store_problem};
use crate::ports::Ports;
use crate::ports::store::{self, Store, read_record};
use crate::records::certificate::RenewalInformation;
use crate::records::deployment::Served;
use crate::records::order::{OrderRecord, Stage};
use crate::records::previous::RolledBack;
use crate::records::state::{HISTORY, HistoryStep, State};
use crate::rules::order_names;
use crate::rules::renewal::Decision;
use crate::rules::standing::revoked;
use crate::rules::targets::{known_entries, target_entries};
use crate::values::instant::whole_seconds;
use crate::values::names::CertificateName;
use crate::values::problem::{Failure, Problem};
use crate::values::problem_types::ProblemType;

/// The answer to `status`. A reader takes a field that an older build left out for unknown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// When it was made, by the clock of the function.
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
    /// One entry per certificate, by name.
    pub certificates: Vec<Standing>,
    /// How many documents there are in all.
    pub total: usize,
    /// Pass this as `after` to read the next page; null at the end.
    pub next: Option<String>,
    /// Names that have a state but no document any more, the first 500.
    pub orphans: Vec<String>,
    /// Names that are being removed, of those 500.
    pub removing: Vec<String>,
    /// The certificates that are not ours, if the request asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<Vec<Unmanaged>>,
    /// What is left of the authorities' limits and of the certificate manager's quota.
    pub limits: LimitsLeft,
}

/// The state of one certificate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Standing {
    /// The document's name.
    pub name: String,
    /// The names wanted, in the order of the document; none where it cannot be read.
    pub domains: Vec<String>,
    /// The settings' name of the authority that issued it or will issue it.
    pub authority: Option<String>,
    /// The profile wanted.
    pub profile: Option<String>,
    /// The key type wanted.
    pub key_type: Option<String>,
    /// Whether nothing is ordered for it.
    pub paused: bool,
    /// The serial of the current certificate, lower-case hex.
    pub serial: Option<String>,
    /// Start of its validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// End of its validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// What is served, as far as a listener was looked at; null where it is not known.
    pub served: Option<Served>,
    /// 1 for a fresh certificate, 0 for one that has ended.
    pub lifetime_left_share: Option<f64>,
    /// When it will be renewed.
    #[serde(with = "time::serde::rfc3339::option")]
    pub renew_at: Option<OffsetDateTime>,
    /// The serial of the previous certificate, which a rollback goes to.
    pub previous: Option<String>,
    /// The rollback in force.
    pub rolled_back: Option<RolledBack>,
    /// The serials of certificates with a pending revocation.
    pub revoking: Vec<String>,
    /// Names that the certificate lacks, or that blocked the last attempts.
    pub missing: Vec<MissingName>,
    /// What the authority suggests, where it does.
    pub renewal_information: Option<Suggestion>,
    /// The pending order.
    pub under_way: Option<UnderWay>,
    /// Nothing is tried before this instant.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt: Option<OffsetDateTime>,
    /// The targets, in the order of the document.
    pub targets: Vec<TargetStanding>,
    /// The last failure, or what is not as it should be.
    pub problem: Option<Problem>,
    /// Messages about it that have not reached every channel, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Untold>,
    /// The last steps, oldest first.
    pub history: Vec<HistoryStep>,
}

/// A message that has not reached every channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Untold {
    /// What it is about.
    pub kind: message::Kind,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The channels that have not taken it.
    pub to: Vec<String>,
    /// Why one of them did not.
    pub failure: Option<String>,
    /// When it is sent again.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
}

/// What the authority suggests for the renewal, our instant in it, and when we ask again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// Start of the window.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub start: Option<OffsetDateTime>,
    /// End of the window.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub end: Option<OffsetDateTime>,
    /// The authority's page that says why.
    #[serde(rename = "explanationURL")]
    pub explanation_url: Option<String>,
    /// When we ask the authority again.
    #[serde(with = "time::serde::rfc3339")]
    pub ask_again: OffsetDateTime,
}

impl From<&RenewalInformation> for Suggestion {
    fn from(information: &RenewalInformation) -> Self {
        let window = information.window.as_ref();
        Self {
            start: window.map(|window| whole_seconds(window.start)),
            end: window.map(|window| whole_seconds(window.end)),
            explanation_url: window.and_then(|window| window.explanation_url.clone()),
            ask_again: whole_seconds(information.ask_again),
        }
    }
}

/// A name that blocked an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingName {
    /// The name.
    pub domain: String,
    /// Why.
    pub problem: Problem,
    /// When it is tried again.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
}

/// The work in progress on a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnderWay {
    /// How far the order is.
    pub stage: Stage,
    /// Why it was made.
    pub reason: String,
    /// The order's URL (RFC 8555 section 7.1.3).
    pub order_url: String,
}

/// A target as in the report, with the result of the last look at it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStanding {
    /// As the report has it.
    #[serde(flatten)]
    pub entry: TargetEntry,
    /// When what is served was last looked at.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub checked_at: Option<OffsetDateTime>,
    /// Whether the served chain leads to the authority's configured root or a public one.
    pub trusted: Option<bool>,
    /// What was seen, where it is not as it should be.
    pub detail: Option<String>,
}

/// Which part of the inventory is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Only these.
    pub certificates: Option<Vec<String>>,
    /// At most this many.
    pub limit: Option<usize>,
    /// Only names after this one.
    pub after: Option<String>,
    /// Whether to list also the certificates that are not ours.
    pub unmanaged: bool,
}

/// Reads the inventory.
pub async fn status<P: Ports>(
    cycle: &Cycle<'_, P>,
    selection: &Selection,
) -> Result<Inventory, Problem> {
    let Known {
        documents: names,
        orphans,
    } = list_known(cycle.ports.store()).await?;
    let without: Vec<(String, bool)> = stream::iter(orphans.into_iter().take(PAGE))
        .map(async |name| {
            let is_going = is_being_removed(cycle, &name).await;
            (name, is_going)
        })
        .buffered(cycle.settings.limits.concurrency)
        .collect()
        .await;
    let (removing, orphans) = (without.into_iter()).partition::<Vec<_>, _>(|(_, going)| *going);
    let names_of = |found: Vec<(String, bool)>| found.into_iter().map(|(name, _)| name).collect();
    let total = names.len();
    let mut chosen = match &selection.certificates {
        Some(asked) => asked.clone(),
        None => names,
    };
    chosen.sort();
    chosen.dedup();
    chosen.retain(|name| selection.after.as_ref().is_none_or(|after| name > after));
    let limit = selection.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let more = chosen.len() > limit;
    chosen.truncate(limit);
    // A request for one certificate wants all of its history.
    let asked_for = selection.certificates.as_ref().map(Vec::len);
    let steps = if asked_for == Some(1) { HISTORY } else { STEPS };
    let mut certificates: Vec<Standing> = stream::iter(&chosen)
        .map(|name| standing_of(cycle, name, steps))
        .buffered(cycle.settings.limits.concurrency)
        .collect()
        .await;
    let fitting = fitting(&certificates);
    let more = more || fitting < certificates.len();
    certificates.truncate(fitting);
    let last = certificates.last().map(|standing| standing.name.clone());
    let next = last.filter(|_| more);
    Ok(Inventory {
        at: Some(whole_seconds(cycle.clock.now())),
        certificates,
        total,
        next,
        orphans: names_of(orphans),
        removing: names_of(removing),
        unmanaged: match selection.unmanaged {
            true => Some(unmanaged(cycle).await?),
            false => None,
        },
        limits: cycle.ledgers.limits_left().await,
    })
}

/// Whether a certificate without a document is being removed. An unreadable one is reported as an
/// orphan.
async fn is_being_removed<P: Ports>(cycle: &Cycle<'_, P>, name: &str) -> bool {
    let Ok(parsed) = name.parse::<CertificateName>() else {
        return false;
    };
    let read = read_record::<State>(cycle.ports.store(), &store::state_key(&parsed)).await;
    matches!(
        read,
        Ok(Some((
            State {
                removing: Some(_),
                ..
            },
            _
        )))
    )
}

async fn standing_of<P: Ports>(cycle: &Cycle<'_, P>, name: &str, steps: usize) -> Standing {
    match read_standing(cycle, name, steps).await {
        Ok(standing) => standing,
        Err(problem) => Standing::of_problem(name, problem),
    }
}

async fn read_standing<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &str,
    steps: usize,
) -> Result<Standing, Problem> {
    let invalid = |detail: String| {
        Problem::ours(
            ProblemType::InvalidDocument,
            format!("certificates/{name}.json: {detail}"),
        )
    };
    let parsed: CertificateName = name.parse().map_err(|error| invalid(format!("{error}")))?;
    let store = cycle.ports.store();
    let object = store
        .read(&store::certificate_key(&parsed))
        .await
        .map_err(|error| store_problem(&error))?;
    let state = read_record::<State>(store, &store::state_key(&parsed))
        .await
        .map_err(|error| state_problem(&error))?;
    let state = state.map(|(state, _)| state);
    let (object, mut state) = match (object, state) {
        (Some(object), state) => (object, state.unwrap_or_default()),
        (None, Some(state)) => {
            let is_orphan = state.removing.is_none();
            let problem = is_orphan.then(|| cycle.judge().orphan_problem(&parsed, &state));
            return Ok(describe(cycle, name, &state, steps, None, problem));
        }
        (None, None) => return Err(unknown(&parsed)),
    };
    let wanted = Wanted::parse(
        &parsed,
        &object.body,
        &cycle.settings,
        cycle.account_id.as_deref(),
    );
    state.note_document(&object.etag, wanted.as_ref().ok());
    match wanted {
        Ok(wanted) => {
            let standing = describe(cycle, name, &state, steps, Some(&wanted), None);
            Ok(with_limits(cycle, standing, &wanted, &state).await)
        }
        Err(error) => Ok(describe(
            cycle,
            name,
            &state,
            steps,
            None,
            Some(invalid(error.to_string())),
        )),
    }
}

/// Adds the limit that delays a due order, where nothing else delays it.
async fn with_limits<P: Ports>(
    cycle: &Cycle<'_, P>,
    mut standing: Standing,
    wanted: &Wanted,
    state: &State,
) -> Standing {
    let due = cycle.judge().decide(wanted, state, false) != Decision::Keep;
    if !due || wanted.paused || state.orders.current.is_some() || standing.problem.is_some() {
        return standing;
    }
    let Ok(OrderRoute { authority, .. }) = route_of(cycle, wanted, state).await else {
        return standing;
    };
    let purpose = purpose_of_next(cycle, wanted, state, &authority.directory);
    let names = order_names::names_now(wanted, state, cycle.clock.now());
    let blocked = cycle
        .ledgers
        .what_blocks(authority, &wanted.name, &names, purpose)
        .await;
    // An unreadable ledger is reported once, with the limits.
    if let Ok(Some(blocked)) = blocked {
        standing.problem = Some(blocked.problem());
        standing.next_attempt = Some(blocked.until);
    }
    standing
}

/// Describes a certificate; `invalid`: what is wrong with its document, where it has one.
fn describe<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &str,
    state: &State,
    steps: usize,
    wanted: Option<&Wanted>,
    invalid: Option<Problem>,
) -> Standing {
    let now = cycle.clock.now();
    let held = state.certificate.as_ref();
    let failure = failure(cycle, state, wanted);
    let standing = wanted.and_then(|wanted| cycle.judge().problem(wanted, state));
    Standing {
        name: name.to_owned(),
        domains: wanted
            .map(|wanted| wanted.domains.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        authority: (held.map(|held| held.authority.clone()))
            .filter(|authority| wanted.is_some_and(|wanted| wanted.authorities.contains(authority)))
            .or(wanted.and_then(|wanted| wanted.authorities.first().cloned())),
        profile: wanted.and_then(|wanted| wanted.profile.clone()),
        key_type: wanted.map(|wanted| wanted.key_type.to_string()),
        paused: wanted.is_some_and(|wanted| wanted.paused),
        serial: held.map(|held| held.serial.clone()),
        not_before: held.map(|held| held.not_before),
        not_after: held.map(|held| held.not_after),
        served: state.known_served(whole_seconds(now)),
        lifetime_left_share: held.map(|held| (held.share_left(now) * 1000.0).round() / 1000.0),
        renew_at: state.renew_at().map(whole_seconds),
        rolled_back: state.held_back().map(|back| RolledBack {
            word: None,
            ..back.clone()
        }),
        revoking: (state.revocations.pending.iter())
            .map(|revocation| revocation.serial.clone())
            .collect(),
        previous: state.previous.serial.clone(),
        missing: missing_names(state, wanted),
        renewal_information: held
            .and_then(|held| held.renewal.information.as_ref())
            .map(Suggestion::from),
        under_way: state.orders.current.as_ref().map(UnderWay::from),
        next_attempt: failure
            .filter(|failure| failure.is_planned(now) || failure.next_attempt <= now)
            .map(|failure| failure.next_attempt)
            .or(state
                .orders
                .current
                .as_ref()
                .and_then(|order| order.not_before))
            .or(standing.as_ref().and_then(|(_, next)| *next)),
        targets: target_standings(state, wanted, &cycle.home),
        problem: revoked(wanted, state, invalid.as_ref())
            .or(invalid)
            .or_else(|| failure.map(|failure| failure.problem.clone()))
            .or(standing.map(|(problem, _)| problem)),
        untold: untold(state),
        history: last_steps(state, steps),
    }
}

/// Returns what failed last: an order, a deployment, or else a revocation.
fn failure<'s, P: Ports>(
    cycle: &Cycle<'_, P>,
    state: &'s State,
    wanted: Option<&Wanted>,
) -> Option<&'s Failure> {
    // A failed order is past as soon as no order is needed any more.
    let order_failure = state.orders.failure.as_ref().filter(|_| {
        wanted.is_some_and(|wanted| cycle.judge().decide(wanted, state, false) != Decision::Keep)
    });
    let mut revocations = state.revocations.pending.iter();
    order_failure
        .or(state.deployment.failure.as_ref())
        .or(revocations.find_map(|revocation| revocation.failure.as_ref()))
}

/// Returns the names of a document that its certificate lacks.
fn missing_names(state: &State, wanted: Option<&Wanted>) -> Vec<MissingName> {
    let Some(wanted) = wanted.filter(|wanted| wanted.partial) else {
        return Vec::new();
    };
    let missing = (state.orders.missing.iter()).filter(|(name, _)| wanted.domains.contains(name));
    let missing = missing.map(|(name, missing)| MissingName {
        domain: name.to_string(),
        problem: missing.problem.clone(),
        next_attempt: missing.next_attempt,
    });
    missing.collect()
}

/// Returns the state of the targets of a document.
fn target_standings(state: &State, wanted: Option<&Wanted>, home: &str) -> Vec<TargetStanding> {
    let entries = match wanted {
        Some(wanted) => target_entries(state, wanted, home),
        // During a removal, the places say what is done.
        None if state.removing.is_some() => known_entries(state),
        None => Vec::new(),
    };
    let standings = entries.into_iter().map(|(id, entry)| {
        let known = state.deployment.target(&id);
        TargetStanding {
            entry,
            checked_at: known.and_then(|target| target.checked_at),
            trusted: known.and_then(|target| target.trusted),
            detail: known.and_then(|target| target.detail.clone()),
        }
    });
    standings.collect()
}

/// Returns the messages that have not reached every channel.
fn untold(state: &State) -> Vec<Untold> {
    let outbox = state.told.iter().flat_map(|told| &told.outbox);
    let untold = outbox.map(|outgoing| Untold {
        kind: outgoing.message.kind,
        at: outgoing.message.at,
        to: outgoing.to.clone(),
        failure: outgoing.failure.clone(),
        next_attempt: outgoing.next_attempt,
    });
    untold.collect()
}

/// Returns this many last steps of the history, oldest first.
fn last_steps(state: &State, steps: usize) -> Vec<HistoryStep> {
    let first = state.history.len().saturating_sub(steps);
    state.history.iter().skip(first).cloned().collect()
}

impl From<&OrderRecord> for UnderWay {
    fn from(order: &OrderRecord) -> Self {
        Self {
            stage: order.stage,
            reason: order.reason.clone(),
            order_url: order.url.clone(),
        }
    }
}

impl Standing {
    fn of_problem(name: &str, problem: Problem) -> Self {
        Self {
            name: name.to_owned(),
            problem: Some(problem),
            ..Self::default()
        }
    }
}

/// The largest and the usual number of certificates in one answer: with their history they need
/// less than 5 MB.
const PAGE: usize = 500;
/// How many steps of the history an answer about several certificates has.
const STEPS: usize = 10;
