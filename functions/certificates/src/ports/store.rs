//! The port for small named objects, and the only place object keys are built.
//!
//! Absence is `Ok(None)` and only when the service said so; anything else that keeps an object from being read is a
//! [`StoreError`], so that "could not tell" is never taken for "is not there".

use thiserror::Error;

use crate::records::record::Record;
use crate::values::names::CertificateName;

/// Where objects are kept: one bucket of an object store with conditional writes.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Store {
    /// Returns the object, or `None` when the service said that there is none.
    async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError>;

    /// Writes the object and returns its new ETag.
    ///
    /// MUST leave the object untouched when the condition does not hold ([`StoreError::ConditionFailed`]). A conflict with
    /// another write in flight is retried here, a failed condition is not.
    async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: Condition<'_>,
    ) -> Result<String, StoreError>;

    /// Deletes the object; deleting what is not there succeeds.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Deletes the object if it is still the one with this ETag; deleting what is not there succeeds.
    async fn delete_matching(&self, key: &str, etag: &str) -> Result<(), StoreError>;

    /// Lists every object under a prefix, to the last page.
    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError>;
}

/// An object as read.
#[derive(Clone)]
pub struct StoredObject {
    /// Its content. May hold secrets: never logged.
    pub body: Vec<u8>,
    /// Its version, for [`Condition::Matches`].
    pub etag: String,
}

/// An object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The whole key.
    pub key: String,
    /// Its version.
    pub etag: String,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Nothing: the last write wins.
    None,
    /// No such object yet (`If-None-Match: *`).
    Absent,
    /// The object is still the one with this ETag (`If-Match`).
    Matches(&'a str),
}

/// Why an object could not be read or written.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Somebody else wrote the object in between (412).
    #[error("{key} was changed by somebody else in the meantime")]
    ConditionFailed {
        /// The object's key.
        key: String,
    },
    /// The service refused or could not be reached.
    #[error("could not {verb} {key}: {reason}")]
    Unavailable {
        /// read, write, delete or list.
        verb: &'static str,
        /// The object's key or prefix.
        key: String,
        /// The service's code and message.
        reason: String,
        /// Whether only a person can help (a denied permission, a missing bucket).
        person: bool,
    },
    /// The object is there but is not what it should be.
    #[error("{key} cannot be used: {reason}")]
    Unusable {
        /// The object's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a record; a version newer than ours is an error and nothing is written over it.
pub async fn read_record<R: Record>(
    store: &impl Store,
    key: &str,
) -> Result<Option<(R, String)>, StoreError> {
    let Some(object) = store.read(key).await? else {
        return Ok(None);
    };
    Ok(Some((parse_record(key, &object.body)?, object.etag)))
}

/// Parses a record after looking at its version.
pub fn parse_record<R: Record>(key: &str, body: &[u8]) -> Result<R, StoreError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
        #[serde(rename = "writeId", default)]
        _write_id: Option<String>,
    }
    let unusable = |reason: String| StoreError::Unusable {
        key: key.to_owned(),
        reason,
    };
    // The parser's own words may quote the content, which can be a secret: only the place is told.
    let place = |error: serde_json::Error| {
        unusable(format!(
            "line {} column {} is not as expected",
            error.line(),
            error.column()
        ))
    };
    let Versioned { version, .. } = serde_json::from_slice(body).map_err(place)?;
    if version > R::VERSION {
        return Err(unusable(format!(
            "it has version {version} and this build knows {} at most; deploy the newer build again",
            R::VERSION
        )));
    }
    serde_json::from_slice(body).map_err(place)
}

/// Writes a record and returns its new ETag.
///
/// A failed condition is looked at again: when the object carries our own `writeId`, an earlier attempt of this very write
/// had worked and only its answer was lost.
pub async fn write_record<R: Record>(
    store: &impl Store,
    key: &str,
    record: &mut R,
    condition: Condition<'_>,
) -> Result<String, StoreError> {
    let write_id = format!("{:032x}", fastrand::u128(..));
    record.stamp(write_id.clone());
    let written = match R::PRETTY {
        true => serde_json::to_vec_pretty(record),
        false => serde_json::to_vec(record),
    };
    let body = written.map_err(|_| StoreError::Unusable {
        key: key.to_owned(),
        reason: "it cannot be put into JSON".to_owned(),
    })?;
    match store.write(key, body, condition).await {
        Err(StoreError::ConditionFailed { key }) => {
            #[derive(serde::Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct Stamp {
                write_id: String,
            }
            match store.read(&key).await? {
                Some(object)
                    if serde_json::from_slice::<Stamp>(&object.body)
                        .is_ok_and(|stamp| stamp.write_id == write_id) =>
                {
                    Ok(object.etag)
                }
                _ => Err(StoreError::ConditionFailed { key }),
            }
        }
        outcome => outcome,
    }
}

/// The settings' key.
pub const SETTINGS: &str = "settings.json";
/// The prefix of the wanted certificates.
pub const CERTIFICATES: &str = "certificates/";
/// The prefix of the records of what is true and under way.
pub const STATE: &str = "state/";

/// Returns the key of a wanted certificate's document.
pub fn certificate_key(name: &CertificateName) -> String {
    format!("{CERTIFICATES}{name}.json")
}

/// Returns the name a document's key stands for, or `None` when it is no document's key.
pub fn name_of_certificate_key(key: &str) -> Option<&str> {
    key.strip_prefix(CERTIFICATES)?
        .strip_suffix(".json")
        .filter(|name| !name.contains('/'))
}

/// Returns the key of a certificate's state.
pub fn state_key(name: &CertificateName) -> String {
    format!("{STATE}{name}.json")
}

/// Returns the key under which an issued chain and its private key are kept.
pub fn vault_key(name: &CertificateName, serial: &str) -> String {
    format!("vault/{name}/{serial}.json")
}

/// Returns the prefix under which everything issued for a certificate is kept.
pub fn vault_prefix(name: &CertificateName) -> String {
    format!("vault/{name}/")
}

/// Returns the serial an object of the vault is kept for, or `None` when it is the key of an order under way.
pub fn serial_of_vault_key<'k>(name: &CertificateName, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(&vault_prefix(name))?
        .strip_suffix(".json")
        .filter(|serial| *serial != "pending")
}

/// Returns the key of the private key whose order is under way.
pub fn pending_key(name: &CertificateName) -> String {
    format!("vault/{name}/pending.json")
}

/// Returns the key of the account at an authority's directory: another directory is another account.
pub fn account_key(authority: &str, directory: &str) -> String {
    format!("accounts/{authority}-{}.json", digest(directory.as_bytes()))
}

/// The prefix of what is left of limits.
pub const LIMITS: &str = "limits/";

/// Returns the key of the ledger of an authority's limits.
pub fn ledger_key(authority: &str, directory: &str) -> String {
    format!("{LIMITS}{authority}-{}.json", digest(directory.as_bytes()))
}

/// The prefix of the counts of imports, each followed by a region.
pub const IMPORTS: &str = "limits/certificate-manager-";

/// Returns the key of the count of imports into the certificate manager of a region.
pub fn imports_key(region: &str) -> String {
    format!("{IMPORTS}{region}.json")
}

/// Returns the region whose imports a key stands for, or `None` when it is the ledger of an authority that happens to be called so.
pub fn region_of_imports_key(key: &str) -> Option<&str> {
    let region = key.strip_prefix(IMPORTS)?.strip_suffix(".json")?;
    let (_, last) = region.rsplit_once('-')?;
    ((1..=2).contains(&last.len()) && last.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some(region)
}

/// The key of what was found when certificates of ours that no record knows were looked for last.
/// Every ledger's key has a hyphen.
pub const STRAYS: &str = "limits/strays.json";

/// Returns 12 hex digits of the SHA-256 of something.
pub(crate) fn digest(of: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, of);
    let bytes = digest.as_ref().iter().take(6);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
