//! The words of the domain: immutable values without I/O. This module imports no other module of
//! the crate.

pub mod address;
pub mod arn;
pub mod chain;
pub mod clock;
pub mod instant;
pub mod key;
pub mod lifetime;
pub mod names;
pub mod partition;
pub mod problem;
pub mod problem_types;
pub mod revocation_reason;
pub mod text;
pub mod trust;
pub mod wildcard;
