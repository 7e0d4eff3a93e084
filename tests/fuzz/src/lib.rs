//! What is fuzzed of the library, compiled in: everything that reads what others wrote, and what that needs.
//!
//! The paths are the library's own, also of what it keeps to itself. A module that is missing here is added here.

#![allow(
    dead_code,
    unused_imports,
    reason = "only what reads is called, and not by all targets"
)]

#[path = "../../../functions/certificates/src/arn.rs"]
pub mod arn;
#[path = "../../../functions/certificates/src/authority/mod.rs"]
pub mod authority;
#[path = "../../../functions/certificates/src/certificate.rs"]
pub mod certificate;
#[path = "../../../functions/certificates/src/challenge.rs"]
pub mod challenge;
#[path = "../../../functions/certificates/src/classes.rs"]
pub mod classes;
#[path = "../../../functions/certificates/src/document.rs"]
pub mod document;
#[path = "../../../functions/certificates/src/key.rs"]
pub mod key;
#[path = "../../../functions/certificates/src/limits.rs"]
pub mod limits;
#[path = "../../../functions/certificates/src/names.rs"]
pub mod names;
#[path = "../../../functions/certificates/src/network.rs"]
pub mod network;
#[path = "../../../functions/certificates/src/problem.rs"]
pub mod problem;
#[path = "../../../functions/certificates/src/renewal.rs"]
pub mod renewal;
#[path = "../../../functions/certificates/src/report.rs"]
pub mod report;
#[path = "../../../functions/certificates/src/settings.rs"]
pub mod settings;
#[path = "../../../functions/certificates/src/state.rs"]
pub mod state;
#[path = "../../../functions/certificates/src/store.rs"]
pub mod store;
#[path = "../../../functions/certificates/src/targets.rs"]
mod targets;

// The answers' module is the authority's own secret; here it is a neighbour of what looks at it.
#[path = "../../../functions/certificates/src/authority/answer.rs"]
mod answer;

mod check_answers;
mod check_names;
mod check_pem;
mod check_records;
mod check_written;

pub use check_answers::answers;
pub use check_names::names;
pub use check_pem::pem;
pub use check_records::records;
pub use check_written::{documents, settings as settings_document};
