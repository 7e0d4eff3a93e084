//! The words of the domain: immutable, without I/O. Imports nothing of ours.

pub mod arn;
pub mod chain;
pub mod clock;
pub mod key;
pub mod names;
pub mod problem;
pub mod problem_types;
