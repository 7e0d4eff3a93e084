//! From one attempt to the next: what follows when an authority or a name is blocked.

pub mod end;
pub mod issue;
pub mod place;
mod poll;
pub mod pursue;
pub(crate) mod route;
pub mod validate;
mod validation;

use crate::life::order::route::{OrderRoute, route_of};
use crate::life::work::Work;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::rules::order_names::{self, FailedName};
use crate::rules::renewal::Decision;
use crate::values::problem::{Failure, Problem};
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Orders until a certificate as wanted is in the vault, or nothing more can be done now.
    /// Returns whether there is a new one. There is none if an order could only repeat the
    /// certificate held, unless it is forced.
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
                        // The order is answered: only the missing names prevent a new certificate.
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
        Err(Problem::ours(ProblemType::Order, "several orders in a row failed").into())
    }

    /// An earlier failure there is waited out, also where a rehearsal or another authority came
    /// first.
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

    /// Leaves blocked names out, where the document allows that; returns whether an order can be
    /// made without them.
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
