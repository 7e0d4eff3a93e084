//! The port for small named objects, and the only place that builds object keys.
//!
//! Absence is `Ok(None)`, and only when the service says so. Every other reason why an object
//! cannot be read is a [`StoreError`], so that "could not read" is never taken for "does not
//! exist".

use thiserror::Error;
use time::OffsetDateTime;

use crate::records::record::Record;
use crate::values::names::CertificateName;

/// The store of objects: one bucket with conditional writes.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Store {
    /// Returns the object. `None` when the service says that it does not exist.
    async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError>;

    /// Writes the object and returns its new ETag.
    ///
    /// If the condition does not hold, it MUST leave the object unchanged
    /// ([`StoreError::ConditionFailed`]). It retries after a conflict with another write in
    /// progress, but not after a failed condition.
    async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: Condition<'_>,
    ) -> Result<String, StoreError>;

    /// Deletes the object. Succeeds if it does not exist.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Deletes the object if it still has this ETag. Succeeds if it does not exist.
    async fn delete_matching(&self, key: &str, etag: &str) -> Result<(), StoreError>;

    /// Lists every object under a prefix, to the last page.
    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError>;
}

/// An object that was read.
#[derive(Clone)]
pub struct StoredObject {
    /// Its content. May hold secrets: do not log it.
    pub body: Vec<u8>,
    /// Its version, for [`Condition::Matches`].
    pub etag: String,
    /// When it was written, by the clock of the bucket; `None` where the bucket does not say it.
    pub modified: Option<OffsetDateTime>,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The whole key.
    pub key: String,
    /// Its version.
    pub etag: String,
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// None: the last write wins.
    None,
    /// The object does not exist yet (`If-None-Match: *`).
    Absent,
    /// The object still has this ETag (`If-Match`).
    Matches(&'a str),
}

/// Why an object cannot be read or written.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Another writer changed the object in between (412).
    #[error("{key} was changed by somebody else in the meantime")]
    ConditionFailed {
        /// The object's key.
        key: String,
    },
    /// The service refused or was not reachable.
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
    /// The object exists but its content is not valid.
    #[error("{key} cannot be used: {reason}")]
    Unusable {
        /// The object's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a record. A newer version than ours is an error, and it is never overwritten.
pub async fn read_record<R: Record>(
    store: &impl Store,
    key: &str,
) -> Result<Option<(R, String)>, StoreError> {
    let Some(object) = store.read(key).await? else {
        return Ok(None);
    };
    Ok(Some((parse_record(key, &object.body)?, object.etag)))
}

/// Parses a record after checking its version.
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
    // The parser's message may quote the content, which can be a secret: report only the place.
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
            "it has version {version} and this build knows {} at most; deploy the newer \
             build again",
            R::VERSION
        )));
    }
    serde_json::from_slice(body).map_err(place)
}

/// Writes a record and returns its new ETag.
///
/// After a failed condition it reads the object. If it has our own `writeId`, an earlier attempt of
/// this write succeeded and only its answer was lost.
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
        reason: "it cannot be serialized to JSON".to_owned(),
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

/// The key of the settings.
pub const SETTINGS: &str = "settings.json";
/// The prefix of the wanted certificates.
pub const CERTIFICATES: &str = "certificates/";
/// The prefix of our records about certificates.
pub const STATE: &str = "state/";

/// Returns the key of a wanted certificate's document.
pub fn certificate_key(name: &CertificateName) -> String {
    format!("{CERTIFICATES}{name}.json")
}

/// Returns the certificate name for a document's key, or `None` for any other key. A name with `/`
/// is that of an object in a folder: it is no name of a certificate, and the report says so.
pub fn name_of_certificate_key(key: &str) -> Option<&str> {
    key.strip_prefix(CERTIFICATES)?
        .strip_suffix(".json")
        .filter(|name| !name.is_empty())
}

/// Returns the key of a certificate's state.
pub fn state_key(name: &CertificateName) -> String {
    format!("{STATE}{name}.json")
}

/// Returns the key of an issued chain with its private key.
pub fn vault_key(name: &CertificateName, serial: &str) -> String {
    format!("vault/{name}/{serial}.json")
}

/// Returns the prefix of everything issued for a certificate.
pub fn vault_prefix(name: &CertificateName) -> String {
    format!("vault/{name}/")
}

/// Returns the serial of a vault object. `None` for the key of a pending order.
pub fn serial_of_vault_key<'k>(name: &CertificateName, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(&vault_prefix(name))?
        .strip_suffix(".json")
        .filter(|serial| *serial != "pending")
}

/// Returns the key of the private key of a pending order.
pub fn pending_key(name: &CertificateName) -> String {
    format!("vault/{name}/pending.json")
}

/// Returns the key of the account at an authority's directory. Another directory is another
/// account.
pub fn account_key(authority: &str, directory: &str) -> String {
    format!("accounts/{authority}-{}.json", digest(directory.as_bytes()))
}

/// The prefix of the ledgers of limits.
pub const LIMITS: &str = "limits/";

/// Returns the key of the ledger of an authority's limits.
pub fn ledger_key(authority: &str, directory: &str) -> String {
    format!("{LIMITS}{authority}-{}.json", digest(directory.as_bytes()))
}

/// The prefix of the counts of imports; a region follows.
pub const IMPORTS: &str = "limits/certificate-manager-";

/// Returns the key of the count of imports into the certificate manager of a region.
pub fn imports_key(region: &str) -> String {
    format!("{IMPORTS}{region}.json")
}

/// Returns the region of a count of imports. `None` for the ledger of an authority that has the
/// same name.
pub fn region_of_imports_key(key: &str) -> Option<&str> {
    let region = key.strip_prefix(IMPORTS)?.strip_suffix(".json")?;
    let (_, last) = region.rsplit_once('-')?;
    ((1..=2).contains(&last.len()) && last.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some(region)
}

/// The key of the latest list of certificates that are ours but in no record. The key of every
/// ledger has a hyphen, this one has none.
pub const STRAYS: &str = "limits/strays.json";

/// Returns 12 hex digits of the SHA-256 of a text.
pub(crate) fn digest(of: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, of);
    let bytes = digest.as_ref().iter().take(6);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
