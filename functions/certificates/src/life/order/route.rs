//! Asked before an order: where it goes, what blocks it there, and what it costs.

use crate::contract::certificate::Wanted;
use crate::contract::settings::Authority;
use crate::pass::context::Cycle;
use crate::ports::Ports;
use crate::records::certificate::IssuedCertificate;
use crate::records::state::State;
use crate::rules::ledger::{Blocked, Left, Purpose};
use crate::rules::order_names;
use crate::rules::targets::regions;
use crate::values::names::DnsName;
use crate::values::problem::Problem;

/// Where the next order goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderRoute<'s> {
    pub(crate) authority: &'s Authority,
    /// Whether it is a rehearsal, which only shows whether the order would succeed.
    pub(crate) is_rehearsal: bool,
}

impl OrderRoute<'_> {
    /// Whether the pending order is the one that would be made now.
    pub(crate) fn fits(&self, wanted: &Wanted, state: &State, now: time::OffsetDateTime) -> bool {
        state.orders.current.as_ref().is_some_and(|order| {
            order.rehearsal == self.is_rehearsal
                && order_names::fits(order, wanted, state, &self.authority.directory, now)
        })
    }
}

/// Returns where the next order for a document goes.
pub(crate) async fn route_of<'c, P: Ports>(
    cycle: &'c Cycle<'_, P>,
    wanted: &Wanted,
    state: &State,
) -> Result<OrderRoute<'c>, Problem> {
    let route = OrderRoute {
        authority: authority_for(cycle, wanted, state).await?,
        is_rehearsal: false,
    };
    let rehearsal = rehearsal_before(cycle, wanted, state, &route);
    Ok(rehearsal.unwrap_or(route))
}

/// Returns the first authority of a document's list. If that one is down or limiting and little
/// lifetime is left, returns the next one that is not and that no CAA record forbids.
async fn authority_for<'c, P: Ports>(
    cycle: &'c Cycle<'_, P>,
    wanted: &Wanted,
    state: &State,
) -> Result<&'c Authority, Problem> {
    let mut candidates = Vec::new();
    for key in &wanted.authorities {
        candidates.push(cycle.settings.authority(key)?);
    }
    let Some((first, others)) = candidates.split_first() else {
        return cycle.settings.authority(&cycle.settings.defaults.authority);
    };
    let now = cycle.clock.now();
    if others.is_empty() {
        return Ok(first);
    }
    let is_left_alone = |authority: &Authority| {
        let failure = state.orders.failure_at(&authority.directory);
        failure.is_some_and(|failure| failure.is_unavailable(now))
    };
    // An order that began at another authority is completed there.
    let under_way = state
        .orders
        .current
        .as_ref()
        .filter(|order| !order.rehearsal);
    let begun = under_way.and_then(|order| {
        let mut all = candidates.iter();
        all.find(|authority| authority.directory == order.directory)
    });
    if let Some(begun) = begun
        && !is_left_alone(begun)
    {
        return Ok(begun);
    }
    if !order_names::little_is_left(state, cycle.settings.fallback_share, now) {
        return Ok(first);
    }
    for (place, authority) in candidates.iter().enumerate() {
        if is_left_alone(authority) {
            continue;
        }
        let blocked = what_blocks_an_order(cycle, authority, wanted, state).await;
        if matches!(blocked, Ok(Some(_))) {
            continue;
        }
        if place > 0 {
            let names = order_names::names_now(wanted, state, now);
            let account = cycle.outlook.account_seen(authority).await;
            let forbidden = cycle
                .outlook
                .forbidden_by_caa(authority, account.as_deref(), &names)
                .await;
            if !forbidden.is_empty() {
                continue;
            }
        }
        return Ok(authority);
    }
    Ok(first)
}

/// Returns where names that were never issued are rehearsed first, until that has succeeded.
fn rehearsal_before<'c, P: Ports>(
    cycle: &'c Cycle<'_, P>,
    wanted: &Wanted,
    state: &State,
    route: &OrderRoute<'_>,
) -> Option<OrderRoute<'c>> {
    let authority = cycle
        .settings
        .authorities
        .get(cycle.settings.rehearse.as_ref()?)?;
    let now = cycle.clock.now();
    let names = order_names::names_now(wanted, state, now);
    let mut issued = state
        .certificate
        .iter()
        .chain(state.previous.certificate.as_deref());
    let passed = state.orders.rehearsed.as_ref().is_some_and(|rehearsed| {
        rehearsed.domains == names && rehearsed.directory == authority.directory
    });
    // A certificate that ends soon or was revoked is not delayed for a rehearsal.
    let has_time = (state.certificate.as_ref()).is_none_or(|held| !held.cannot_wait(now));
    let is_needed = has_time
        && authority.directory != route.authority.directory
        && !passed
        && !route.fits(wanted, state, now)
        && !issued.any(|held| held.domains == names);
    is_needed.then_some(OrderRoute {
        authority,
        is_rehearsal: true,
    })
}

/// Returns how the authority's limits count an order; `as_successor`: it says which certificate it
/// replaces.
pub(super) fn purpose<P: Ports>(
    cycle: &Cycle<'_, P>,
    names: &[DnsName],
    held: Option<&IssuedCertificate>,
    directory: &str,
    as_successor: bool,
) -> Purpose {
    let now = cycle.clock.now();
    let in_window = as_successor && held.is_some_and(|held| held.is_in_window(now));
    Purpose::of(held, names, directory, in_window, now)
}

/// Returns how the authority's limits count the next order for a document.
pub(crate) fn purpose_of_next<P: Ports>(
    cycle: &Cycle<'_, P>,
    wanted: &Wanted,
    state: &State,
    directory: &str,
) -> Purpose {
    let held = state.certificate.as_ref();
    let now = cycle.clock.now();
    let successor = held.and_then(|held| held.replaceable(wanted, directory, now));
    let names = order_names::names_now(wanted, state, now);
    purpose(cycle, &names, held, directory, successor.is_some())
}

/// Returns why no order can be made for a document now: the authority's limits and holds, or the
/// certificate manager's quota, since what cannot be imported is not ordered. The quota is ignored
/// if little lifetime is left or the renewal window is over.
pub(crate) async fn what_blocks_an_order<P: Ports>(
    cycle: &Cycle<'_, P>,
    authority: &Authority,
    wanted: &Wanted,
    state: &State,
) -> Result<Option<Blocked>, Problem> {
    let purpose = purpose_of_next(cycle, wanted, state, &authority.directory);
    let held = state.certificate.as_ref();
    let now = cycle.clock.now();
    let urgent = held.is_some_and(|held| held.cannot_wait(now));
    let names = order_names::names_now(wanted, state, now);
    let blocked = cycle
        .ledgers
        .what_blocks(authority, &wanted.name, &names, purpose)
        .await;
    let blocked = match blocked {
        Err(problem) if urgent => {
            warn_uncounted(authority, &problem);
            None
        }
        blocked => blocked?,
    };
    if blocked.is_some() || urgent || held.is_some_and(|held| held.is_to_be_replaced_at_once(now)) {
        return Ok(blocked);
    }
    for region in regions(wanted, &cycle.home) {
        let blocked = cycle.ledgers.what_blocks_imports(&region).await?;
        if blocked.is_some() {
            return Ok(blocked);
        }
    }
    Ok(None)
}

pub(super) fn warn_uncounted(authority: &Authority, problem: &Problem) {
    tracing::warn!(
        authority = %authority.key,
        problem.type = %problem.kind,
        problem.detail = %problem.detail,
        "order not counted"
    );
}

/// Returns in words what an order that nobody needs would cost.
pub(crate) async fn costs_in_words<P: Ports>(
    cycle: &Cycle<'_, P>,
    authority: &Authority,
    wanted: &Wanted,
    state: &State,
) -> Result<String, Problem> {
    let purpose = purpose_of_next(cycle, wanted, state, &authority.directory);
    let names = order_names::names_now(wanted, state, cycle.clock.now());
    let costs = cycle.ledgers.costs(authority, &names, purpose).await?;
    let mut words: Vec<String> = costs.iter().map(Left::in_words).collect();
    for region in regions(wanted, &cycle.home) {
        let (left, of) = cycle.ledgers.imports_left(&region).await?;
        words.push(format!(
            "an import into {region} of {of} per 365 days ({left} left)"
        ));
    }
    Ok(words.join(", "))
}
