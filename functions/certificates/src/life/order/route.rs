//! Where an order goes.

use crate::contract::certificate::Wanted;
use crate::contract::settings::Authority;
use crate::records::state::State;
use crate::rules::order_names;

/// Where the next order goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderRoute<'s> {
    pub(crate) authority: &'s Authority,
    /// Whether it is made for nothing but to see whether it would succeed.
    pub(crate) is_rehearsal: bool,
}

impl OrderRoute<'_> {
    /// Whether an order under way is what would be made now.
    pub(crate) fn fits(&self, wanted: &Wanted, state: &State, now: time::OffsetDateTime) -> bool {
        state.orders.current.as_ref().is_some_and(|order| {
            order.rehearsal == self.is_rehearsal
                && order_names::fits(order, wanted, state, &self.authority.directory, now)
        })
    }
}
