//! One outside thing each: only here are `aws_sdk_*`, `instant_acme`, hickory and hyper.

pub mod acme;
pub mod aws;
pub mod challenge_fetch;
pub mod dns;
pub mod live;
pub mod network;
pub mod served_leaf;
mod webhook;
