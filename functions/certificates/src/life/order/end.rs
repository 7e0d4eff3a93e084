//! How an order ends that brings no certificate into the vault: it died, nobody needs it any more,
//! or what it issued is not usable. Its failure stays, its tokens stay for a while, and so does
//! what it cost. What orders leave in the bucket is deleted here as well.
//!
//! One that succeeds ends in `issue`.

use std::time::Duration;

use crate::life::order::poll::OrderOf;
use crate::life::order::validation::{self, not_asked_for};
use crate::life::work::Work;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::authority::{AuthorizationStatus, Order};
use crate::ports::store::{self, Store};
use crate::records::order::Stage;
use crate::records::state::AskedFor;
use crate::rules::ledger::OrderFate;
use crate::rules::order_names::FailedName;
use crate::values::names::DnsName;
use crate::values::problem::{self, AcmeError, Problem};
use crate::values::problem_types::ProblemType;

/// How an order ended, one that succeeded included.
pub(super) enum Ended {
    /// Its certificate is in the vault.
    Issued,
    /// It is valid, but what it issued is not usable: somebody else finalized it, or it is too old.
    Unusable(Problem),
    /// It cannot be completed.
    Died(Failing),
}

impl<P: Ports> Work<'_, '_, P> {
    /// Returns the names of the pending order.
    pub(super) fn ordered_names(&self) -> &[DnsName] {
        let order = self.state.orders.current.as_ref();
        order.map_or(&self.wanted.domains, |order| &order.domains)
    }

    /// Finds out which names made the order fail, and why.
    pub(super) async fn why_failed(&mut self, order: &mut OrderOf<P>) -> Result<Failing, Stop> {
        let authorizations = self.within_time(order.authorizations(true)).await?;
        let until = AskedFor(
            crate::values::instant::whole_seconds(self.cycle.clock.now()) + STILL_ASKED_FOR,
        );
        let pending = (authorizations.iter())
            .filter(|authorization| authorization.status == AuthorizationStatus::Pending)
            .filter(|authorization| !authorization.has_failed());
        for authorization in pending {
            validation::keep(authorization, &mut self.state.leftovers, until);
        }
        let failed: Vec<(String, AcmeError)> = authorizations
            .into_iter()
            .filter_map(|authorization| {
                let error = validation::failure_of(&authorization)?;
                Some((authorization.identifier, error))
            })
            .collect();
        let Some((_, first)) = failed.first() else {
            let failing = order.error().map_or_else(
                || {
                    Problem::ours(
                        ProblemType::Order,
                        "the authority ended the order without saying why",
                    )
                    .into()
                },
                Failing::from,
            );
            return Ok(failing);
        };
        let failed_name = |(name, refusal): &(String, AcmeError)| {
            Some(FailedName {
                name: DnsName::parse(name).ok()?,
                problem: refusal.problem(),
                not_before: refusal.retry_after,
            })
        };
        let failed_names = failed.iter().filter_map(failed_name).collect();
        let detail: Vec<String> = failed
            .iter()
            .map(|(name, refusal)| format!("{name}: {}", refusal.detail))
            .collect();
        let problem = Problem {
            kind: first.kind.clone(),
            detail: detail.join("; "),
            retry: first.retry(),
        };
        Ok(Failing {
            problem,
            not_before: first.retry_after,
            paused: problem::is_paused(first),
            identifiers: failed.into_iter().map(|(name, _)| name).collect(),
            unavailable: false,
            failed_names,
        })
    }

    pub(super) async fn end_order(&mut self, failing: Failing) -> Result<Ended, Stop> {
        let failed = &failing.identifiers;
        self.abandon(&failing.problem.detail, OrderFate::Ended { failed })
            .await?;
        Ok(Ended::Died(failing))
    }

    /// Books the result of the pending order.
    pub(super) async fn settle(&self, outcome: OrderFate<'_>) -> Result<(), Stop> {
        let Some(order) = &self.state.orders.current else {
            return Ok(());
        };
        self.cycle
            .ledgers
            .settle(&order.authority, &order.directory, &order.reserved, outcome)
            .await
    }

    /// Forgets the pending order, with its tokens and its key.
    pub(super) async fn abandon(&mut self, why: &str, outcome: OrderFate<'_>) -> Result<(), Stop> {
        let was_finalized = self
            .state
            .orders
            .current
            .as_ref()
            .is_some_and(|order| order.stage == Stage::Finalizing);
        let names: Vec<String> = (self.ordered_names().iter())
            .map(ToString::to_string)
            .collect();
        if matches!(outcome, OrderFate::Unknown) && !was_finalized {
            self.keep_tokens_for_now();
        }
        let outcome = match outcome {
            // An order without a CSR cannot give a certificate; its validations may have failed.
            OrderFate::Unknown if !was_finalized => OrderFate::Ended { failed: &names },
            outcome => outcome,
        };
        self.settle(outcome).await?;
        if was_finalized {
            self.gather_strays().await?;
        }
        if let Some(order) = self.state.orders.current.take() {
            self.note("order ended", format!("{}: {why}", order.url));
            self.state.leftovers.pending_key = true;
            self.save().await?;
        }
        self.sweep().await
    }

    /// An abandoned order may be in validation: its authority asks for the tokens for some time
    /// yet.
    fn keep_tokens_for_now(&mut self) {
        let now = crate::values::instant::whole_seconds(self.cycle.clock.now());
        let until = AskedFor(now + STILL_ASKED_FOR);
        validation::keep_all(&mut self.state.leftovers, until);
    }

    /// Notes what the vault holds and no record names: a stop came between the certificate and the
    /// state.
    async fn gather_strays(&mut self) -> Result<(), Stop> {
        let name = &self.wanted.name;
        let entries = self
            .cycle
            .ports
            .store()
            .list(&store::vault_prefix(name))
            .await?;
        let current = self.state.certificate.as_ref();
        let current = current.map(|held| held.serial.as_str());
        let previous = self.state.previous.serial.as_deref();
        let strays = entries
            .iter()
            .filter_map(|entry| store::serial_of_vault_key(name, &entry.key))
            .filter(|serial| ![current, previous].contains(&Some(serial)))
            .filter(|serial| !self.state.revocations.is_pending(serial));
        let strays: Vec<String> = strays.map(str::to_owned).collect();
        self.state.leftovers.serials.extend(strays);
        Ok(())
    }

    /// Deletes what the record says is left over: tokens that no authority asks for any more, keys
    /// that are no longer needed, old vault entries.
    pub(crate) async fn sweep(&mut self) -> Result<(), Stop> {
        let now = self.cycle.clock.now();
        if self.state.leftovers.is_empty(now) {
            return Ok(());
        }
        let store = self.cycle.ports.store();
        let leftovers = &self.state.leftovers;
        let (mut keys, kept) = not_asked_for(leftovers, now);
        keys.extend(
            leftovers
                .serials
                .iter()
                .map(|serial| store::vault_key(&self.wanted.name, serial)),
        );
        if leftovers.pending_key {
            keys.push(store::pending_key(&self.wanted.name));
        }
        let deletions = keys.iter().map(|key| store.delete(key));
        for outcome in futures_util::future::join_all(deletions).await {
            outcome?;
        }
        self.state.leftovers = kept;
        Ok(())
    }

    /// Forgets an order that nobody needs any more.
    pub(crate) async fn abandon_unneeded(&mut self) -> Result<(), Stop> {
        self.abandon("no order is needed any more", OrderFate::Unknown)
            .await
    }
}

/// How long an authority may continue a validation that has begun, after the order has died.
const STILL_ASKED_FOR: Duration = Duration::from_secs(600);
