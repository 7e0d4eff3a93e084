//! Traits for what is outside, one thing each, in our types. Imports `records` and above.

pub mod authority;
pub mod certificate_manager;
pub mod load_balancer;
pub mod store;
