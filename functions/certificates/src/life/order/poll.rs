//! Polls an order until the authority is done with it.

use std::time::Duration;

use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::authority::{Account, Authorities, Order, OrderStatus};

/// An order at an authority.
pub(super) type OrderOf<P> =
    <<<P as Ports>::Authorities as Authorities>::Account as Account>::Order;

impl<P: Ports> Work<'_, '_, P> {
    /// Waits until the order has left a status. Looks as often as the authority wants.
    pub(super) async fn wait(
        &mut self,
        order: &mut OrderOf<P>,
        left: OrderStatus,
        first: Duration,
    ) -> Result<(), Stop> {
        let (mut pause, mut waited, mut unanswered) = (first, Duration::ZERO, 0);
        while order.status() == left {
            let too_long = waited + pause > LONGEST_WAIT;
            if (too_long || self.cycle.clock.left() < pause + LEAST)
                && let Some(record) = &mut self.state.orders.current
            {
                record.not_before = Some(self.cycle.clock.now() + pause);
            }
            if too_long {
                return Err(Stop::Waiting {
                    reason:
                        "the authority is still processing the order; the next pass looks again"
                            .to_owned(),
                    until: self.cycle.clock.now() + pause,
                    problem: None,
                });
            }
            if self.cycle.clock.left() < pause + LEAST {
                return Err(self.out_of_time("the authority's answer"));
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = match self.within_time(order.refresh()).await {
                Ok(Some(wish)) => wish.max(SHORTEST_PAUSE),
                Ok(None) => pause.mul_f32(1.5).min(LONGEST_PAUSE),
                // A look can be repeated; a few failed looks do not make the order fail.
                Err(refusal)
                    if refusal.retry_after.is_none()
                        && refusal.status.is_none_or(|status| status >= 500)
                        && unanswered < UNANSWERED =>
                {
                    unanswered += 1;
                    pause.mul_f32(2.0).min(LONGEST_PAUSE)
                }
                Err(refusal) => return Err(refusal.into()),
            };
        }
        Ok(())
    }
}

/// No step starts with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(180);
const UNANSWERED: u32 = 3;
