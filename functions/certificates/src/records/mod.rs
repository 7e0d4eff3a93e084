//! What we store for ourselves, versioned: no decisions. Imports `contract` and above.

pub mod state;
