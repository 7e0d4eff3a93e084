//! Which authority is asked, for which names, and what follows when one of them stands in the way.

pub mod end;
pub mod issue;
pub mod place;
mod poll;
pub mod pursue;
pub(crate) mod route;
mod sweep;
pub mod validate;
mod validation;

use crate::contract::certificate::Wanted;
use crate::contract::settings::Authority;
use crate::life::order::place::what_blocks_an_order;
use crate::life::order::route::OrderRoute;
use crate::life::work::Work;
use crate::pass::context::Cycle;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::records::state::State;
use crate::rules::order_names::{self, FailedName};
use crate::rules::renewal::Decision;
use crate::values::problem::{Failure, Problem};
use crate::values::problem_types::ProblemType;

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

/// Returns the first authority of a document's list, or where that is down or limiting and little of the lifetime is left, the next
/// that is not and that no CAA record forbids.
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
    // What was begun elsewhere is seen through there.
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

/// Returns where names that were never issued are ordered for nothing first, until that has succeeded.
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
    // What ends or was revoked is not put at risk for a rehearsal.
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

impl<P: Ports> Work<'_, '_, P> {
    /// Orders until a certificate as wanted is in the vault, or nothing more can be done now. Returns whether there is a new one: none
    /// is needed where all that could still be had is what is held already, unless it is forced.
    #[tracing::instrument(level = "error", skip_all)]
    pub(crate) async fn order(&mut self, reason: &str, force: bool) -> Result<bool, Stop> {
        let cycle = self.cycle;
        for round in 0..MOST_ORDERS {
            let route = route_of(cycle, &self.wanted, &self.state).await?;
            if round > 0 {
                self.may_order_at(&route.authority.directory)?;
            }
            let stop = match self.obtain(&route, reason).await {
                Ok(()) if route.is_rehearsal => continue,
                Ok(()) => return Ok(true),
                Err(stop) => stop,
            };
            let is_unavailable = match &stop {
                Stop::Failed(failing) if self.leave_out_names(&route, failing) => {
                    let still = cycle.judge().decide(&self.wanted, &self.state, force);
                    if still == Decision::Keep {
                        // It was heard, and only the names that are missing keep it from coming off.
                        let now = cycle.clock.now();
                        self.state
                            .orders
                            .has_ordered_at(&route.authority.directory, now);
                        self.abandon_unneeded().await?;
                        return Ok(false);
                    }
                    continue;
                }
                Stop::Failed(failing) => {
                    self.remember(&route, failing);
                    failing.unavailable
                }
                Stop::Waiting { problem, .. } => {
                    let limit = Problem::kind_of(ProblemType::Limit);
                    problem
                        .as_ref()
                        .is_some_and(|problem| problem.kind == limit)
                }
                Stop::LeaseLost => false,
            };
            let next = match is_unavailable {
                true => route_of(cycle, &self.wanted, &self.state).await?,
                false => return Err(stop),
            };
            let now = cycle.clock.now();
            let failure = self.state.orders.failure_at(&next.authority.directory);
            let waits_too = failure.is_some_and(|failure| failure.is_unavailable(now));
            if waits_too || next.authority.directory == route.authority.directory {
                return Err(stop);
            }
            self.note(
                "fallback",
                format!("from {} to {}", route.authority.key, next.authority.key),
            );
        }
        Err(Problem::ours(
            ProblemType::Order,
            "one order after the other came to nothing",
        )
        .into())
    }

    /// What failed there before is waited out, also where a rehearsal or another authority came first.
    fn may_order_at(&self, directory: &str) -> Result<(), Stop> {
        let now = self.cycle.clock.now();
        let names = order_names::names_now(&self.wanted, &self.state, now);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let waits = self.state.orders.failure_at(directory).and_then(|failure| {
            let until = failure.holds(now, false, &self.document, directory, &names)?;
            Some(Stop::Waiting {
                reason: format!("{directory} waits after: {}", failure.problem.detail),
                until,
                problem: Some(failure.problem.clone()),
            })
        });
        waits.map_or(Ok(()), Err)
    }

    /// Leaves the names that stand in the way out, where the document allows that; returns whether an order can be made without them.
    fn leave_out_names(&mut self, route: &OrderRoute<'_>, failing: &Failing) -> bool {
        let now = self.cycle.clock.now();
        let ordered = match self
            .state
            .orders
            .current
            .as_ref()
            .filter(|_| route.fits(&self.wanted, &self.state, now))
        {
            Some(order) => order.domains.clone(),
            None => order_names::names_now(&self.wanted, &self.state, now),
        };
        let jitter = (fastrand::f64(), self.by_hand);
        let failed_names = &failing.failed_names;
        let changed = order_names::leave_out(
            &mut self.state,
            &self.wanted,
            &ordered,
            failed_names,
            now,
            jitter,
        );
        for FailedName { name, problem, .. } in failed_names {
            if self.state.orders.missing.contains_key(name) {
                self.note("in the way", format!("{name}: {}", problem.detail));
            }
        }
        changed
    }

    fn remember(&mut self, route: &OrderRoute<'_>, failing: &Failing) {
        let directory = &route.authority.directory;
        let before: Option<Failure> = self.state.orders.failure_at(directory).cloned();
        let failure = self.failure(failing, before.as_ref(), directory);
        self.note("failed", failing.problem.detail.clone());
        self.state.orders.remember(failure);
    }
}

/// In one visit: a rehearsal, each authority, and some names left out.
const MOST_ORDERS: usize = 8;
