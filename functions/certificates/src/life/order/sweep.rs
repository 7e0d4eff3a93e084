//! Deletes what orders leave behind, by what the record says of it.

use crate::life::order::validation::not_asked_for;
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::store::{self, Store};

impl<P: Ports> Work<'_, '_, P> {
    /// Deletes what the record says is left over: tokens nobody asks for any more, keys that have
    /// served, old vault entries.
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
}
