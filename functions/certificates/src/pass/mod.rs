//! What all certificates of a pass share. Each thing is asked for once. Imports `rules` and above.

mod accounts;
pub(crate) mod contention;
pub mod context;
pub mod ledgers;
pub(crate) mod memo;
pub(crate) mod notifier;
pub(crate) mod patience;
pub(crate) mod preflight;
pub(crate) mod prospect;
mod renewal_information;
pub mod stop;
pub(crate) mod strays;
