//! What we store for our own use, with versions. No decisions. Imports `contract` and above.

pub mod certificate;
pub mod deployment;
pub mod ledger;
pub mod notified;
pub mod order;
pub mod previous;
pub mod record;
pub mod revocation;
pub mod state;
pub mod vault;
