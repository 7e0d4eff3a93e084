//! What people and programs write and read, checked on parse. Imports `values`.

pub mod certificate;
pub mod message;
pub mod pattern;
pub mod rate_limit;
pub mod report;
pub mod settings;
pub mod strict;
pub mod target;
pub mod word;
