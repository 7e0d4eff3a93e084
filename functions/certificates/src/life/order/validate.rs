//! Answers an order's challenges. They are recorded, prepared, fetched by ourselves, then fetched
//! by the authority (rule 9).

use std::time::Duration;

use crate::life::order::poll::{OrderOf, Polls};
use crate::life::order::validation::{self, Challenge, names_of};
use crate::life::work::Work;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::authority::{
    Authorization, AuthorizationStatus, ChallengeStatus, Order, OrderStatus,
};
use crate::values::names::DnsName;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Prepares all challenges, fetches them as the authority will, answers them, waits for the
    /// result. Returns the failure of an authorization where the authority lets the order of it
    /// pend.
    pub(super) async fn validate(
        &mut self,
        order: &mut OrderOf<P>,
    ) -> Result<Option<Failing>, Stop> {
        self.time_for("validating", LEAST, LEAST)?;
        let authorizations = self.authorizations_of(order).await?;
        if authorizations.iter().any(Authorization::has_failed) {
            // Nothing of this order can become valid, so nothing more is answered.
            return self.why_failed(order).await.map(Some);
        }
        let challenges = challenges(authorizations)?;
        if !challenges.is_empty() {
            self.prepare(&challenges).await?;
            // If this fails, the prepared files stay: others may share the authorization, and the
            // next attempt uses the same files.
            self.see_for_ourselves(&challenges).await?;
            self.within_time(order.answer()).await?;
            self.note("answered", names_of(&challenges));
        }
        if let Some(failing) = self.wait_for_validation(order).await? {
            return Ok(Some(failing));
        }
        if order.status() == OrderStatus::Invalid {
            // One failure ends the order; the others may still be validated.
            return Ok(None);
        }
        // All authorizations are final now: no authority asks for the challenges any more.
        self.sweep().await?;
        Ok(None)
    }

    /// Looks at a pending order until it names its authorizations: some authorities say nothing of
    /// an order at first but its URL.
    async fn authorizations_of(
        &mut self,
        order: &mut OrderOf<P>,
    ) -> Result<Vec<Authorization>, Stop> {
        let waits_for = "the authority does not say yet how to validate the names";
        let mut polls = Polls::new(FIRST_LOOK_AT_VALIDATION, waits_for);
        loop {
            let authorizations = self.within_time(order.authorizations(false)).await?;
            if !authorizations.is_empty() || order.status() != OrderStatus::Pending {
                return Ok(authorizations);
            }
            self.look_again(order, &mut polls).await?;
        }
    }

    /// Waits until the order does not pend any more. After some looks at the order alone, it looks
    /// at the authorizations too: not every authority ends the order of a failed one.
    async fn wait_for_validation(
        &mut self,
        order: &mut OrderOf<P>,
    ) -> Result<Option<Failing>, Stop> {
        let mut polls = Polls::new(
            FIRST_LOOK_AT_VALIDATION,
            "the authority is still validating",
        );
        let (mut looks, mut next_whole_look) = (0, LOOKS_AT_THE_ORDER_ALONE);
        while order.status() == OrderStatus::Pending {
            self.look_again(order, &mut polls).await?;
            looks += 1;
            if looks < next_whole_look || order.status() != OrderStatus::Pending {
                continue;
            }
            next_whole_look = looks * 2;
            let seen = match self.within_time(order.authorizations(true)).await {
                Ok(seen) => seen,
                // The order itself can be read: that is enough to go on.
                Err(refusal) if refusal.status.is_none_or(|status| status >= 500) => continue,
                Err(refusal) => return Err(refusal.into()),
            };
            if seen.iter().any(Authorization::has_failed) {
                return self.why_failed(order).await.map(Some);
            }
            polls.waits_for = unvalidated(&seen);
            let ignored = ignored(&seen);
            polls.problem = ignored.as_ref().map(|(problem, _)| problem.clone());
            if polls.waited() > LONGEST_IGNORED
                && let Some((problem, identifiers)) = ignored
            {
                if self.has_pended_long() {
                    // The next order is for the next attempt.
                    return Ok(Some(Failing {
                        identifiers,
                        ..Failing::from(problem)
                    }));
                }
                return Err(self.waits(&polls));
            }
        }
        Ok(None)
    }

    /// Whether the order is so old that an authority that ignores its answers gets a new one.
    fn has_pended_long(&self) -> bool {
        let order = self.state.orders.current.as_ref();
        let at = order.and_then(|order| order.ordered_at);
        at.is_some_and(|at| self.cycle.clock.now() - at > LONGEST_PENDING)
    }
}

/// Says in words what the authority has not validated yet.
fn unvalidated(seen: &[Authorization]) -> String {
    let names: Vec<&str> = (seen.iter())
        .filter(|authorization| authorization.status != AuthorizationStatus::Valid)
        .map(|authorization| authorization.identifier.as_str())
        .collect();
    format!("the authority is still validating {}", names.join(", "))
}

/// Returns the problem of challenges that the authority leaves pending though they are answered,
/// with their names.
fn ignored(seen: &[Authorization]) -> Option<(Problem, Vec<String>)> {
    let is_pending = |authorization: &&Authorization| {
        let challenge = authorization.http01.as_ref();
        authorization.status == AuthorizationStatus::Pending
            && challenge.is_some_and(|challenge| challenge.status == ChallengeStatus::Pending)
    };
    let words: Vec<String> = (seen.iter().filter(is_pending))
        .map(|authorization| {
            let error = validation::error_in(authorization);
            let why = error.map_or(String::new(), |error| format!(" ({})", error.detail));
            format!("{}{why}", authorization.identifier)
        })
        .collect();
    let detail = format!(
        "the authority has the answer to a challenge and leaves it pending: {}; the next pass \
         answers it again",
        words.join(", ")
    );
    let names = seen.iter().filter(is_pending);
    let names: Vec<String> = names.map(|one| one.identifier.clone()).collect();
    (!names.is_empty()).then(|| (Problem::ours(ProblemType::Order, detail), names))
}

/// Returns what the authority wants to see before it issues.
fn challenges(authorizations: Vec<Authorization>) -> Result<Vec<Challenge>, Problem> {
    let mut challenges = Vec::new();
    for authorization in authorizations {
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

/// No step starts with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
const FIRST_LOOK_AT_VALIDATION: Duration = Duration::from_millis(500);
/// A validation rarely takes more; each further look costs a request for each name.
const LOOKS_AT_THE_ORDER_ALONE: u32 = 3;
/// A challenge that pends this long after its answer is a problem; a validation that runs is not.
const LONGEST_IGNORED: Duration = Duration::from_secs(60);
/// After this time a new order is better than one more answer to the same challenge.
const LONGEST_PENDING: time::Duration = time::Duration::HOUR;
