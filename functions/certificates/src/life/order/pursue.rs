//! From "an order is needed" to "chain and key are in the vault": the order as one loop.
//!
//! Each visit asks the authority for the order's status and takes the next step (RFC 8555 section
//! 7.1.6). What cannot be undone is written down first: the order's URL before validation, the
//! tokens before they are put, the key before `finalize`. Every step can be repeated after a stop.

use std::time::Duration;

use time::OffsetDateTime;

use crate::life::order::end::Ended;
use crate::life::order::poll::{OrderOf, is_too_old};
use crate::life::order::route::OrderRoute;
use crate::life::work::Work;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::authority::{Account, Order, OrderStatus};
use crate::records::order::Rehearsed;
use crate::rules::ledger::OrderFate;
use crate::rules::order_names::{self, FailedName};
use crate::values::problem::{Failure, Problem, URN, of_account};
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Brings a certificate as wanted into the vault.
    pub(crate) async fn obtain(
        &mut self,
        route: &OrderRoute<'_>,
        reason: &str,
    ) -> Result<(), Stop> {
        let now = self.cycle.clock.now();
        if self.state.orders.current.is_some() && !route.fits(&self.wanted, &self.state, now) {
            self.abandon("a different order is needed now", OrderFate::Unknown)
                .await?;
        }
        self.time_for("ordering", LEAST, LEAST)?;
        let account = self.cycle.accounts.account(route.authority).await?;
        let mut resumed = self.resume(&account).await?;
        if route.is_rehearsal && resumed.is_none() && self.may_not_rehearse(route).await? {
            return Ok(());
        }
        // An order that died between two visits is replaced once; one that dies during this visit
        // is a failure.
        let mut last = Problem::ours(ProblemType::Order, "the order ended without saying why");
        for _ in 0..2 {
            let fresh = resumed.is_none();
            let mut order = match resumed.take() {
                Some(order) => order,
                None => self.place(route, &account, reason).await?,
            };
            match self.pursue(&mut order).await? {
                Ended::Issued => return Ok(()),
                Ended::Died(failing) if route.is_rehearsal && is_of_caa(&failing) => {
                    self.go_unrehearsed(route, &failing.problem.detail);
                    return Ok(());
                }
                Ended::Died(failing) if fresh || !failing.identifiers.is_empty() => {
                    return Err(Stop::Failed(failing));
                }
                // Each order would cost a certificate: the next one is for the next attempt.
                Ended::Unusable(problem) if fresh => return Err(problem.into()),
                Ended::Died(Failing { problem, .. }) | Ended::Unusable(problem) => last = problem,
            }
        }
        Err(last.into())
    }

    async fn pursue(&mut self, order: &mut OrderOf<P>) -> Result<Ended, Stop> {
        for _ in 0..TURNS {
            match order.status() {
                OrderStatus::Pending => {
                    if let Some(failing) = self.validate(order).await? {
                        return self.end_order(failing).await;
                    }
                }
                OrderStatus::Ready => match self.finalize(order).await {
                    // It may be ready for ever and take no CSR.
                    Err(Stop::Failed(failing)) if self.has_an_old_order() => {
                        return self.end_order(failing).await;
                    }
                    finalized => finalized?,
                },
                OrderStatus::Processing => {
                    self.wait_for_issuance(order, FIRST_LOOK_AT_ISSUANCE)
                        .await?
                }
                OrderStatus::Valid => {
                    return match self.download(order).await? {
                        None => Ok(Ended::Issued),
                        Some(why) => {
                            self.abandon(&why.detail, OrderFate::Issued).await?;
                            Ok(Ended::Unusable(why))
                        }
                    };
                }
                OrderStatus::Invalid => {
                    let failing = self.why_failed(order).await?;
                    return self.end_order(failing).await;
                }
            }
        }
        Err(Problem::ours(
            ProblemType::Order,
            "the order's status keeps changing and the order does not end",
        )
        .into())
    }

    fn has_an_old_order(&self) -> bool {
        let order = self.state.orders.current.as_ref();
        is_too_old(
            order.and_then(|order| order.ordered_at),
            self.cycle.clock.now(),
        )
    }

    /// Reads the pending order; `None` when there is none any more.
    async fn resume<A: Account>(&mut self, account: &A) -> Result<Option<A::Order>, Stop> {
        let Some(record) = &self.state.orders.current else {
            return Ok(None);
        };
        match self.within_time(account.order(&record.url)).await {
            Ok(order) if is_stuck(order.status(), record.ordered_at, self.cycle.clock.now()) => {
                self.abandon("not completed within 24 hours", OrderFate::Unknown)
                    .await?;
                Ok(None)
            }
            Ok(order) => Ok(Some(order)),
            // Gone, or not an order of this account. The authority says so, and not a proxy before
            // it.
            Err(refusal)
                if matches!(refusal.status, Some(403 | 404)) && refusal.kind.starts_with(URN) =>
            {
                self.abandon(
                    "the authority does not know the order any more",
                    OrderFate::Unknown,
                )
                .await?;
                Ok(None)
            }
            // What cannot be read for a day is given up (its authority may have forgotten it).
            Err(refusal) if is_too_old(record.ordered_at, self.cycle.clock.now()) => {
                let why = format!("not readable within 24 hours: {}", refusal.detail);
                self.abandon(&why, OrderFate::Unknown).await?;
                Ok(None)
            }
            Err(refusal) => Err(Stop::Failed(self.nearly_there(of_account(refusal)))),
        }
    }

    /// Whether CAA records clearly forbid the rehearsal's authority. That says nothing about the
    /// authority of the real order.
    async fn may_not_rehearse(&mut self, route: &OrderRoute<'_>) -> Result<bool, Stop> {
        let names = order_names::names_now(&self.wanted, &self.state, self.cycle.clock.now());
        let Some(why) = self.caa_against(route.authority, &names).await? else {
            return Ok(false);
        };
        self.go_unrehearsed(route, &why.problem.detail);
        Ok(true)
    }

    /// Books a rehearsal that is impossible as if it had succeeded.
    fn go_unrehearsed(&mut self, route: &OrderRoute<'_>, why: &str) {
        let now = self.cycle.clock.now();
        let domains = order_names::names_now(&self.wanted, &self.state, now);
        let key = &route.authority.key;
        self.note("not rehearsed", format!("CAA forbids {key}: {why}"));
        self.state.orders.rehearsed = Some(Rehearsed {
            domains,
            directory: route.authority.directory.clone(),
            at: crate::values::instant::whole_seconds(now),
        });
        let is_of_it = |failure: &Failure| failure.directory == route.authority.directory;
        if self.state.orders.failure.as_ref().is_some_and(is_of_it) {
            self.state.orders.failure = None;
        }
    }
}

/// Whether an order has waited for its authority so long that a new one is better.
fn is_stuck(status: OrderStatus, ordered_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    matches!(status, OrderStatus::Pending | OrderStatus::Processing) && is_too_old(ordered_at, now)
}

/// Whether an order died only of CAA records.
fn is_of_caa(failing: &Failing) -> bool {
    let of_caa =
        |failed_name: &FailedName| failed_name.problem.kind.strip_prefix(URN) == Some("caa");
    !failing.failed_names.is_empty() && failing.failed_names.iter().all(of_caa)
}

/// No step starts with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
const FIRST_LOOK_AT_ISSUANCE: Duration = Duration::from_millis(250);
/// More turns than any order needs.
const TURNS: usize = 12;
