//! What all records have in common.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record in the store. It has a version, and each write stamps it with a new `writeId`.
pub trait Record: Serialize + DeserializeOwned {
    /// The schema version that this build writes.
    const VERSION: u32 = 1;
    /// Whether its JSON is indented, for people to read.
    const PRETTY: bool = true;

    /// Sets the `writeId` for the next write.
    fn stamp(&mut self, write_id: String);
}
