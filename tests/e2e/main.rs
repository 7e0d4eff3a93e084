//! The cycle, end to end, on the local cloud.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod first_issuance;
mod stand_ins;
