//! What all certificates of a pass share, each thing asked for once. Imports `rules` and above.

mod account;
pub(crate) mod channels;
pub(crate) mod contention;
pub mod context;
pub mod halt;
pub mod ledgers;
pub(crate) mod memo;
pub(crate) mod outlook;
pub(crate) mod preflight;
mod renewal_information;
pub(crate) mod strays;
