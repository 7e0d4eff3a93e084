//! `vault/<name>/`: chains with their keys.

use serde::{Deserialize, Serialize};

use crate::records::record::Record;
use crate::values::chain::Leaf;

/// `vault/<name>/<serial>.json`: an issued chain with its private key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VaultEntry {
    version: u32,
    write_id: String,
    /// The leaf's serial, lower-case hex.
    pub serial: String,
    /// The chain as downloaded, PEM.
    pub chain: String,
    /// The private key, PKCS#8 PEM.
    pub private_key: zeroize::Zeroizing<String>,
}

impl VaultEntry {
    /// The entry of an issued certificate.
    pub fn new(leaf: &Leaf, chain: String, private_key: zeroize::Zeroizing<String>) -> Self {
        Self {
            version: Self::VERSION,
            write_id: String::new(),
            serial: leaf.serial.clone(),
            chain,
            private_key,
        }
    }
}

impl Record for VaultEntry {
    fn stamp(&mut self, write_id: String) {
        self.write_id = write_id;
    }
}

/// `vault/<name>/pending.json`: the key of the order in progress, stored before the authority gets
/// its CSR.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingKey {
    version: u32,
    write_id: String,
    /// The order's URL.
    pub order: String,
    /// The private key, PKCS#8 PEM.
    pub private_key: zeroize::Zeroizing<String>,
}

impl PendingKey {
    /// The record of a key that was made for an order.
    pub fn new(order: String, private_key: zeroize::Zeroizing<String>) -> Self {
        Self {
            version: Self::VERSION,
            write_id: String::new(),
            order,
            private_key,
        }
    }
}

impl Record for PendingKey {
    fn stamp(&mut self, write_id: String) {
        self.write_id = write_id;
    }
}
