//! What we store for ourselves, versioned: no decisions. Imports `contract` and above.

pub mod ledger;
pub mod record;
pub mod state;
pub mod told;
