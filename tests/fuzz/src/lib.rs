//! The library without its adapters to AWS, compiled in, and the properties of everything that
//! reads foreign texts.
//!
//! It is compiled in rather than linked: building the AWS SDK would take longer than all the rest,
//! and private items are reachable this way.

#![allow(
    dead_code,
    unused_imports,
    private_interfaces,
    reason = "only the parsers are called, and not by all targets"
)]

include!(concat!(env!("OUT_DIR"), "/library.rs"));

// In the library these modules are private to the authority; here they are beside their checks.
#[path = "../../../functions/certificates/src/adapters/acme/accent.rs"]
mod accent;
#[path = "../../../functions/certificates/src/adapters/acme/answer.rs"]
mod answer;

pub use invocation::event;

mod check_accents;
mod check_answers;
mod check_names;
mod check_pem;
mod check_records;
mod check_written;

pub use check_accents::accents;
pub use check_answers::answers;
pub use check_names::names;
pub use check_pem::pem;
pub use check_records::records;
pub use check_written::{documents, settings as settings_document};
