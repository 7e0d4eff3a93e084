//! Pure decisions with their reasons. `now` and jitter are arguments. Imports `ports` and above.

pub mod caa;
pub mod challenge_path;
pub(crate) mod contention;
pub(crate) mod destination;
pub(crate) mod figures;
pub mod ledger;
pub(crate) mod listener;
pub mod news;
pub mod order_names;
pub mod remedy;
pub mod renewal;
pub(crate) mod standing;
pub(crate) mod takeover;
pub(crate) mod targets;
pub mod tls_policy;
pub mod word;
pub mod wording;
