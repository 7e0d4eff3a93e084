//! One adapter per outside thing: only here are the clients of AWS, ACME, the DNS and HTTP.

pub mod acme;
pub mod aws;
pub mod challenge_fetch;
pub mod dns;
pub mod live;
pub mod network;
pub mod served_leaf;
mod webhook;
