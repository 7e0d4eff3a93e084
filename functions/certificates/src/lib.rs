//! The life of a certificate: what the functions share.
//!
//! `challenge` and `metrics` are all the challenge function needs; everything else sits behind the `cycle` feature.

pub mod challenge;
pub mod metrics;

#[cfg(feature = "cycle")]
pub mod arn;
#[cfg(feature = "cycle")]
pub mod certificate;
#[cfg(feature = "cycle")]
pub mod document;
#[cfg(feature = "cycle")]
pub mod key;
#[cfg(feature = "cycle")]
pub mod names;
#[cfg(feature = "cycle")]
pub mod network;
#[cfg(feature = "cycle")]
pub mod proof;
#[cfg(feature = "cycle")]
pub mod self_check;
#[cfg(feature = "cycle")]
pub mod settings;
