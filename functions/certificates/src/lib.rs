//! The life of a certificate: what the functions share.
//!
//! `functions/README.md` is the map. Each folder opens with its rule; `tests/folders.rs` holds them to
//! their order.
//!
//! `challenge`, `log` and `metrics` are all that the challenge function needs: it compiles these three
//! files in and depends on nothing else, since it has to be small and to start fast.

pub mod adapters;
pub mod challenge;
pub mod contract;
pub mod dry_run;
pub mod invocation;
pub mod life;
pub mod log;
pub mod metrics;
pub mod pass;
pub mod ports;
pub mod records;
pub mod rules;
pub mod values;
