//! The life of a certificate: what the functions share.
//!
//! `cycle` and `pass` are the middle: they look, decide by the pure rules (`renewal`, `listener`, `problem`, `certificate`) and act
//! through ports (`store`, `authority`, `certificate_manager`, `load_balancer`), whose adapters are in `aws` and
//! `authority::acme`. `functions/README.md` is the map.
//!
//! `challenge`, `log` and `metrics` are all the challenge function needs; everything else sits behind the `cycle` feature.

pub mod challenge;
pub mod log;
pub mod metrics;

#[cfg(feature = "cycle")]
pub mod adapters;
#[cfg(feature = "cycle")]
pub mod contract;
#[cfg(feature = "cycle")]
pub mod dry_run;
#[cfg(feature = "cycle")]
pub mod invocation;
#[cfg(feature = "cycle")]
pub mod life;
#[cfg(feature = "cycle")]
pub mod pass;
#[cfg(feature = "cycle")]
pub mod ports;
#[cfg(feature = "cycle")]
pub mod records;
#[cfg(feature = "cycle")]
pub mod rules;
#[cfg(feature = "cycle")]
pub mod values;
