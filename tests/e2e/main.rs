//! The cycle, end to end, on the local cloud.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod accents;
mod alarms;
mod authority_refusals;
mod aws_refusals;
mod budget;
mod check;
mod command_actions;
mod command_documents;
mod command_status;
mod concurrency;
mod documents;
mod drift;
mod events;
mod evidence;
mod fallback;
mod first_issuance;
mod function_url;
mod helpers;
mod interruption;
mod key_changes;
mod many_certificates;
mod messages;
mod never_wrong;
mod new_listeners;
mod page;
mod partial;
mod placement;
mod plan;
mod proofs;
mod pull;
mod rehearsal;
mod remove;
mod renewal_information;
mod renewals;
mod replacements;
mod revoke;
mod rollback;
mod rule_12_actions;
mod rule_12_heirs;
mod rule_12_listeners;
mod rule_12_state;
mod second_server;
mod secrets;
mod snapshots;
mod stand_ins;
mod targets;
mod trust;
mod unmanaged;
mod validation;
