//! Answers an order's challenges. They are recorded, prepared, fetched by ourselves, then fetched
//! by the authority (rule 9).

use std::time::Duration;

use crate::life::order::poll::OrderOf;
use crate::life::order::validation::{Challenge, names_of};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::authority::{AuthorizationStatus, Order, OrderStatus};
use crate::values::names::DnsName;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Prepares all challenges, fetches them as the authority will, answers them, waits for the
    /// result.
    pub(super) async fn validate(&mut self, order: &mut OrderOf<P>) -> Result<(), Stop> {
        self.time_for("validating", LEAST, LEAST)?;
        let challenges = self.challenges(order).await?;
        if !challenges.is_empty() {
            self.prepare(&challenges).await?;
            // If this fails, the prepared files stay: others may share the authorization, and the
            // next attempt uses the same files.
            self.see_for_ourselves(&challenges).await?;
            self.within_time(order.answer()).await?;
            self.note("answered", names_of(&challenges));
        }
        self.wait(order, OrderStatus::Pending, FIRST_LOOK_AT_VALIDATION)
            .await?;
        if order.status() == OrderStatus::Invalid {
            // One failure ends the order; the others may still be validated.
            return Ok(());
        }
        // All authorizations are final now: no authority asks for the challenges any more.
        self.sweep().await
    }

    /// Returns what the authority wants to see before it issues.
    async fn challenges(&self, order: &mut OrderOf<P>) -> Result<Vec<Challenge>, Stop> {
        let mut challenges = Vec::new();
        for authorization in self.within_time(order.authorizations(false)).await? {
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = DnsName::parse(&authorization.identifier).map_err(|error| {
                Problem::ours(
                    ProblemType::Protocol,
                    format!("an authorization is for no DNS name: {error}"),
                )
            })?;
            challenges.push(Challenge::of(name, authorization)?);
        }
        Ok(challenges)
    }
}

/// No step starts with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
const FIRST_LOOK_AT_VALIDATION: Duration = Duration::from_millis(500);
