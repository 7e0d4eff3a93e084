//! Which certificate a host should hold, and whether a server can serve it.

use certificates::ports::store::{
    Store, StoreError, read_record, serial_of_vault_key, state_key, vault_key, vault_prefix,
};
use certificates::records::vault::VaultEntry;
use certificates::values::chain::{Chain, same_serial};
use certificates::values::key::PrivateKey;
use certificates::values::names::CertificateName;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::error::PullError;
use super::files::{Pair, instant};
use super::outcome::Chosen;
use crate::cli_error::NO_BUCKET;

/// The certificate a host should hold.
pub(super) struct Wanted {
    /// Lower-case hex.
    pub(super) serial: String,
    /// The certificate with its key; `None` where the vault does not hold it.
    pub(super) pair: Option<Pair>,
    /// The one before, if the vault holds only that one.
    pub(super) before: Option<Pair>,
    pub(super) chosen: Chosen,
    /// Serials that the bucket knows: those of the state, or else those of the vault.
    known: Vec<String>,
}

impl Wanted {
    /// Whether the bucket knows a certificate: by the state, or by the vault.
    ///
    /// The state alone is enough. The vault is looked at where the state knows nothing of it.
    pub(super) async fn is_known(
        &self,
        store: &impl Store,
        name: &CertificateName,
        serial: &str,
    ) -> Result<bool, StoreError> {
        let is_it = |known: &String| same_serial(known, serial);
        Ok(self.known.iter().any(is_it)
            || match self.chosen {
                Chosen::State | Chosen::Before => in_vault(store, name).await?.iter().any(is_it),
                Chosen::Newest => false,
            })
    }
}

/// Reads the certificate that a host should serve, and checks that a server can serve it.
///
/// The state says which: it follows rollbacks. A host that may read the vault only takes what
/// begins last there.
pub(super) async fn find(
    store: &impl Store,
    name: &CertificateName,
    now: OffsetDateTime,
) -> Result<Wanted, PullError> {
    let none = || PullError::NoCertificate { name: name.clone() };
    match by_state(store, name).await {
        Ok(Some(told)) => {
            let pair = in_vault_of(store, name, &told.serial, now)
                .await?
                .transpose()?;
            let before = match told.before.filter(|_| pair.is_none()) {
                // One that cannot be served is none.
                Some(before) => in_vault_of(store, name, &before, now)
                    .await?
                    .and_then(Result::ok),
                None => None,
            };
            Ok(Wanted {
                serial: told.serial,
                pair,
                before,
                chosen: Chosen::State,
                known: told.known,
            })
        }
        Ok(None) => Err(none()),
        Err(state) if is_of_no_bucket(&state) => Err(PullError::NoBucket(state)),
        Err(state @ StoreError::Unavailable { person: true, .. }) => {
            let known = match in_vault(store, name).await {
                Ok(known) => known,
                Err(vault) => return Err(PullError::Denied { state, vault }),
            };
            match newest(store, name, &known).await {
                Ok(Some((serial, entry))) => {
                    let pair = servable(name, vault_key(name, &serial), &entry, now)?;
                    Ok(Wanted {
                        serial,
                        pair: Some(pair),
                        before: None,
                        chosen: Chosen::Newest,
                        known,
                    })
                }
                Ok(None) => Err(none()),
                Err(vault) => Err(PullError::Denied { state, vault }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn is_of_no_bucket(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { reason, .. } if reason.contains(NO_BUCKET))
}

/// Returns what the vault holds of a serial, if a server can serve it.
async fn in_vault_of(
    store: &impl Store,
    name: &CertificateName,
    serial: &str,
    now: OffsetDateTime,
) -> Result<Option<Result<Pair, PullError>>, StoreError> {
    let key = vault_key(name, serial);
    let read = read_record::<VaultEntry>(store, &key).await?;
    Ok(read.map(|(entry, _)| servable(name, key, &entry, now)))
}

/// What a host reads of a state.
struct Told {
    /// What a host should serve.
    serial: String,
    /// The one before, unless it is revoked or a rollback left it.
    before: Option<String>,
    /// All serials that the state knows.
    known: Vec<String>,
}

/// Returns what a host should serve by the state.
///
/// Nothing else of the state is looked at, so that a host need not be of the functions' very build.
async fn by_state(store: &impl Store, name: &CertificateName) -> Result<Option<Told>, StoreError> {
    #[derive(Deserialize)]
    struct State {
        version: u32,
        certificate: Option<Held>,
    }
    #[derive(Deserialize)]
    struct Held {
        serial: String,
    }
    let key = state_key(name);
    let Some(object) = store.read(&key).await? else {
        return Ok(None);
    };
    let unusable = |reason: String| StoreError::Unusable {
        key: key.clone(),
        reason,
    };
    let place = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        unusable(format!("line {line} column {column} is not as expected"))
    };
    let state: State = serde_json::from_slice(&object.body).map_err(place)?;
    if state.version > VERSION {
        return Err(unusable(format!(
            "it has version {} and this build knows {VERSION} at most; install the newer \
             certloop here",
            state.version
        )));
    }
    let all = serde_json::from_slice(&object.body).map_err(place)?;
    Ok(state.certificate.map(|held| Told {
        serial: held.serial,
        before: before_in(&all),
        known: serials_in(&all),
    }))
}

/// Returns the serial of the certificate before the one to serve, by a state. One that is revoked,
/// or that a rollback left, must not be served again.
fn before_in(state: &Value) -> Option<String> {
    let before = state.get("previous")?.as_str()?;
    let one = |pointer| state.pointer(pointer).and_then(Value::as_str);
    let revoked = state.get("revoked").and_then(Value::as_object);
    let revoking = state.get("revoking").and_then(Value::as_array);
    let mut revoking = revoking.into_iter().flatten();
    let is_out = one("/previousHeld/revokedAt").is_some()
        || one("/rolledBack/from").is_some_and(|from| same_serial(from, before))
        || revoked.is_some_and(|all| all.keys().any(|serial| same_serial(serial, before)))
        || revoking.any(|one| {
            one["serial"]
                .as_str()
                .is_some_and(|it| same_serial(it, before))
        });
    (!is_out).then(|| before.to_owned())
}

/// Returns the serials of the certificates that certloop issued, by a state: the one to serve,
/// those before it, the one that a rollback left, and those that are revoked or deleted.
///
/// What it saw on targets or in the certificate manager does not count: after a restore, a newer
/// certificate can be seen there that the bucket knows nothing else of.
fn serials_in(state: &Value) -> Vec<String> {
    let one = |pointer| state.pointer(pointer).into_iter();
    let all = |pointer| one(pointer).filter_map(Value::as_array).flatten();
    let revoked = one("/revoked").filter_map(Value::as_object);
    let revoked = revoked.flat_map(|revoked| revoked.keys().map(String::as_str));
    let revoking = all("/revoking").filter_map(|revocation| revocation.get("serial"));
    one("/certificate/serial")
        .chain(one("/previous"))
        .chain(one("/previousHeld/serial"))
        .chain(one("/rolledBack/from"))
        .chain(revoking)
        .chain(all("/leftovers/serials"))
        .filter_map(Value::as_str)
        .chain(revoked)
        .map(str::to_owned)
        .collect()
}

/// Of the state's schema.
const VERSION: u32 =
    <certificates::records::state::State as certificates::records::record::Record>::VERSION;

/// Returns the serials of the vault's entries.
async fn in_vault(store: &impl Store, name: &CertificateName) -> Result<Vec<String>, StoreError> {
    let listed = store.list(&vault_prefix(name)).await?;
    let serials = listed
        .iter()
        .filter_map(|entry| serial_of_vault_key(name, &entry.key));
    Ok(serials.map(str::to_owned).collect())
}

/// Returns the serial and the entry of the vault whose certificate begins last.
async fn newest(
    store: &impl Store,
    name: &CertificateName,
    serials: &[String],
) -> Result<Option<(String, VaultEntry)>, StoreError> {
    let mut newest = None;
    for serial in serials {
        // Deleted since it was listed, or no certificate at all.
        let read = read_record::<VaultEntry>(store, &vault_key(name, serial)).await?;
        let Some((entry, _)) = read else {
            continue;
        };
        let Ok(chain) = Chain::parse(&entry.chain) else {
            continue;
        };
        let begins = chain.leaf().not_before;
        if (newest.as_ref()).is_none_or(|(latest, _, _)| begins > *latest) {
            newest = Some((begins, serial.clone(), entry));
        }
    }
    Ok(newest.map(|(_, serial, entry)| (serial, entry)))
}

/// Checks that a server can serve what the vault holds: the key is the certificate's, the chain in
/// order, and it is valid now.
fn servable(
    name: &CertificateName,
    key: String,
    entry: &VaultEntry,
    now: OffsetDateTime,
) -> Result<Pair, PullError> {
    let checked = (|| {
        let chain = Chain::parse(&entry.chain).map_err(|error| error.to_string())?;
        let private_key =
            PrivateKey::from_pem(&entry.private_key).map_err(|error| error.to_string())?;
        let leaf = chain.leaf();
        if leaf.serial != entry.serial || !key.ends_with(&format!("/{}.json", leaf.serial)) {
            return Err(format!("the certificate in it has serial {}", leaf.serial));
        }
        if now > leaf.not_after {
            let until = instant(&leaf.not_after);
            return Err(format!("it was valid until {until} only"));
        }
        chain.check_issuer().map_err(|error| error.to_string())?;
        Pair::of(chain, private_key).map_err(|error| error.to_string())
    })();
    let pair = checked.map_err(|reason| PullError::Unservable {
        key: key.clone(),
        reason,
        name: name.clone(),
    })?;
    let from = pair.leaf().not_before;
    if now < from {
        return Err(PullError::NotYetValid { key, from, now });
    }
    Ok(pair)
}
