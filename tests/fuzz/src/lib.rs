//! The library without its adapters to AWS, compiled in, and what has to hold of all that reads what others wrote.
//!
//! Compiled in rather than linked: the AWS SDK would take longer than all of the rest, and what the library keeps to itself can be
//! reached.

#![allow(
    dead_code,
    unused_imports,
    private_interfaces,
    reason = "only what reads is called, and not by all targets"
)]

include!(concat!(env!("OUT_DIR"), "/library.rs"));

// The answers' module is the authority's own secret; here it is a neighbour of what looks at it.
#[path = "../../../functions/certificates/src/adapters/acme/answer.rs"]
mod answer;

pub use invocation::event;

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
