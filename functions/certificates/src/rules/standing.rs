//! Pure: how a certificate stands, from its record.

use crate::contract::certificate::Wanted;
use crate::contract::report::Entry;
use crate::records::state::State;
use crate::rules::targets::target_entries;
use crate::values::instant::whole_seconds;

impl Entry {
    /// Fills in what the state knows.
    pub fn with_state(mut self, state: &State, wanted: Option<&Wanted>, home: &str) -> Self {
        if let Some(held) = &state.certificate {
            self.serial = Some(held.serial.clone());
            self.not_before = Some(whole_seconds(held.not_before));
            self.not_after = Some(whole_seconds(held.not_after));
            self.renew_at = state.renew_at().map(whole_seconds);
        }
        self.unserved_since = wanted
            .filter(|wanted| !wanted.paused)
            .and(state.unserved_since);
        self.next_attempt = self.next_attempt.map(whole_seconds);
        self.targets = wanted
            .map(|wanted| {
                target_entries(state, wanted, home)
                    .into_iter()
                    .map(|(_, entry)| entry)
                    .collect()
            })
            .unwrap_or_default();
        self.certificate_arn = self
            .targets
            .first()
            .and_then(|target| target.certificate_arn.clone());
        self
    }
}
