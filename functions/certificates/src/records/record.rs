//! What all records have in common.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record of ours in the store: versioned, and stamped with a new `writeId` at each write.
pub trait Record: Serialize + DeserializeOwned {
    /// The schema version this build writes.
    const VERSION: u32 = 1;
    /// Whether it is written for people's eyes.
    const PRETTY: bool = true;

    /// Sets the stamp of the write about to happen.
    fn stamp(&mut self, write_id: String);
}
