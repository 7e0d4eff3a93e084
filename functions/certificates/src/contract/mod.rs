//! What people and programs write and read, checked on parse. Imports `values`.

pub mod certificate;
pub mod report;
pub mod settings;
