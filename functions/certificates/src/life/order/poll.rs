//! Polls an order until the authority is done with it.

use std::time::Duration;

use time::OffsetDateTime;

use crate::life::work::Work;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::authority::{Account, Authorities, Order, OrderStatus};
use crate::records::order::Stage;
use crate::values::instant;
use crate::values::problem::{AcmeError, Problem};

/// An order at an authority.
pub(super) type OrderOf<P> =
    <<<P as Ports>::Authorities as Authorities>::Account as Account>::Order;

/// The looks at an order that has not changed.
pub(super) struct Polls {
    /// The time before the next look.
    pause: Duration,
    waited: Duration,
    unanswered: u32,
    /// What the authority has not done, in words.
    pub(super) waits_for: String,
    /// What a person should know of it.
    pub(super) problem: Option<Problem>,
}

impl Polls {
    pub(super) fn new(first: Duration, waits_for: &str) -> Self {
        Self {
            pause: first,
            waited: Duration::ZERO,
            unanswered: 0,
            waits_for: waits_for.to_owned(),
            problem: None,
        }
    }

    /// Returns how long the order has been waited for.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Waits until the certificate of an order is issued. Looks as often as the authority wants.
    pub(super) async fn wait_for_issuance(
        &mut self,
        order: &mut OrderOf<P>,
        first: Duration,
    ) -> Result<(), Stop> {
        let mut polls = Polls::new(first, "the authority is still processing the order");
        while order.status() == OrderStatus::Processing {
            self.look_again(order, &mut polls).await?;
        }
        Ok(())
    }

    /// Looks at an order after a pause. Stops the work where the pause is too long for this pass.
    pub(super) async fn look_again(
        &mut self,
        order: &mut OrderOf<P>,
        polls: &mut Polls,
    ) -> Result<(), Stop> {
        let pause = polls.pause;
        let too_long = polls.waited + pause > LONGEST_WAIT;
        let no_time = self.cycle.clock.left() < pause + LEAST;
        if too_long || no_time {
            let until = self.cycle.clock.now() + pause.min(LONGEST_PAUSE_OF_AN_ORDER);
            if let Some(record) = &mut self.state.orders.current {
                record.not_before = Some(until);
            }
        }
        if too_long {
            return Err(self.waits(polls));
        }
        if no_time {
            return Err(self.waits_for_the_next_pass(polls));
        }
        tokio::time::sleep(pause).await;
        polls.waited += pause;
        polls.pause = match self.within_time(order.refresh()).await {
            Ok(Some(wish)) => wish.max(SHORTEST_PAUSE),
            Ok(None) => pause.mul_f32(1.5).min(LONGEST_PAUSE),
            // A look can be repeated; a few failed looks do not make the order fail.
            Err(refusal)
                if refusal.retry_after.is_none()
                    && refusal.status.is_none_or(|status| status >= 500)
                    && polls.unanswered < UNANSWERED =>
            {
                polls.unanswered += 1;
                pause.mul_f32(2.0).min(LONGEST_PAUSE)
            }
            Err(refusal) => return Err(Stop::Failed(self.nearly_there(refusal))),
        };
        Ok(())
    }

    /// Returns a failure of the pending order. Where its CSR was sent a short time ago, no other
    /// authority is asked: the certificate is issued, or will be in a moment.
    pub(super) fn nearly_there(&self, refusal: AcmeError) -> Failing {
        let now = self.cycle.clock.now();
        let order = self.state.orders.current.as_ref();
        let is_near = order.is_some_and(|order| {
            order.stage == Stage::Finalizing
                && order.ordered_at.is_some_and(|at| now - at < SHORT_TIME)
        });
        let is_limit = refusal.word() == "rateLimited" || refusal.status == Some(429);
        let failing = Failing::from(refusal);
        if !is_near || is_limit {
            return failing;
        }
        Failing {
            unavailable: false,
            not_before: (failing.not_before).map(|at| at.min(now + LONGEST_PAUSE_OF_AN_ORDER)),
            ..failing
        }
    }

    /// Returns the stop of an order at the end of the pass.
    fn waits_for_the_next_pass(&self, polls: &Polls) -> Stop {
        Stop::Waiting {
            reason: format!("{}; the next pass looks again", polls.waits_for),
            until: self.cycle.clock.now(),
            problem: polls.problem.clone(),
        }
    }

    /// Returns the stop of an order whose authority needs more time than this pass has.
    pub(super) fn waits(&self, polls: &Polls) -> Stop {
        let now = self.cycle.clock.now();
        let asked = instant::rfc3339(instant::whole_seconds(now + polls.pause));
        let reason = match polls.pause > LONGEST_WAIT {
            true => format!(
                "{}; it asks to look again at {asked}, certloop looks within the hour",
                polls.waits_for
            ),
            false => format!("{}; the next pass looks again", polls.waits_for),
        };
        Stop::Waiting {
            reason,
            until: now + polls.pause.min(LONGEST_PAUSE_OF_AN_ORDER),
            problem: polls.problem.clone(),
        }
    }
}

/// Whether a new order is better than one more try of this one.
pub(super) fn is_too_old(ordered_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    ordered_at.is_some_and(|at| now - at > LONGEST_LIFE)
}

/// No step starts with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(180);
/// certloop looks at an order again within this time, even if its authority asks for more.
const LONGEST_PAUSE_OF_AN_ORDER: Duration = Duration::from_secs(3600);
const UNANSWERED: u32 = 3;
/// How long a certificate that is issued is waited for, before another authority may be asked.
const SHORT_TIME: time::Duration = time::Duration::hours(2);
/// An order that is neither ready nor dead by then is abandoned.
const LONGEST_LIFE: time::Duration = time::Duration::DAY;
