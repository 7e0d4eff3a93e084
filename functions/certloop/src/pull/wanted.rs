//! Which certificate a host is to hold, and whether that can be served.

use certificates::ports::store::{
    Store, StoreError, read_record, serial_of_vault_key, state_key, vault_key, vault_prefix,
};
use certificates::records::vault::VaultEntry;
use certificates::values::chain::{self, Chain};
use certificates::values::key::PrivateKey;
use certificates::values::names::CertificateName;
use serde::Deserialize;
use time::OffsetDateTime;

use super::error::PullError;
use super::files::{Facts, Pems, instant};
use super::outcome::Chosen;

/// The certificate a host is to hold.
pub(super) struct Wanted {
    pub(super) facts: Facts,
    pub(super) pems: Pems,
    pub(super) chosen: Chosen,
}

/// Reads the certificate that is to be served and checks that it can be.
///
/// The state says which: it follows rollbacks. A host that may read the vault only takes what begins last there.
pub(super) async fn find(
    store: &impl Store,
    name: &CertificateName,
    now: OffsetDateTime,
) -> Result<Wanted, PullError> {
    match by_state(store, name).await {
        Ok(Some(serial)) => {
            let key = vault_key(name, &serial);
            let read = read_record::<VaultEntry>(store, &key).await?;
            let (entry, _) = read.ok_or_else(|| PullError::Lost {
                key: key.clone(),
                name: name.clone(),
            })?;
            servable(name, key, &entry, now, Chosen::State)
        }
        Ok(None) => Err(PullError::NoCertificate { name: name.clone() }),
        Err(state @ StoreError::Unavailable { person: true, .. }) => {
            match newest(store, name).await {
                Ok(Some((key, entry))) => servable(name, key, &entry, now, Chosen::Newest),
                Ok(None) => Err(PullError::NoCertificate { name: name.clone() }),
                Err(vault) => Err(PullError::Denied { state, vault }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the serial that the state says is to be served.
///
/// Nothing else of the state is looked at, so that a host need not be of the functions' very build.
async fn by_state(
    store: &impl Store,
    name: &CertificateName,
) -> Result<Option<String>, StoreError> {
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
    let state: State = serde_json::from_slice(&object.body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unusable(format!("line {line} column {column} is not as expected"))
    })?;
    if state.version > VERSION {
        return Err(unusable(format!(
            "it has version {} and this build knows {VERSION} at most; install the newer certloop here",
            state.version
        )));
    }
    Ok(state.certificate.map(|held| held.serial))
}

/// Of the state's schema.
const VERSION: u32 =
    <certificates::records::state::State as certificates::records::record::Record>::VERSION;

/// Returns the entry of the vault whose certificate begins last.
async fn newest(
    store: &impl Store,
    name: &CertificateName,
) -> Result<Option<(String, VaultEntry)>, StoreError> {
    let mut newest = None;
    for listed in store.list(&vault_prefix(name)).await? {
        if serial_of_vault_key(name, &listed.key).is_none() {
            continue;
        }
        // Deleted since it was listed, or no certificate at all.
        let Some((entry, _)) = read_record::<VaultEntry>(store, &listed.key).await? else {
            continue;
        };
        let Ok(chain) = Chain::parse(&entry.chain) else {
            continue;
        };
        let begins = chain.leaf().not_before;
        if (newest.as_ref()).is_none_or(|(latest, _, _)| begins > *latest) {
            newest = Some((begins, listed.key, entry));
        }
    }
    Ok(newest.map(|(_, key, entry)| (key, entry)))
}

/// Checks that what the vault holds can be served: the key is the certificate's, the chain in order, and it is valid now.
fn servable(
    name: &CertificateName,
    key: String,
    entry: &VaultEntry,
    now: OffsetDateTime,
    chosen: Chosen,
) -> Result<Wanted, PullError> {
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
        chain.check_order().map_err(|error| error.to_string())?;
        // The names are its own, so what is left of this is the key; when it begins is told apart below.
        let then = now.max(leaf.not_before);
        chain::check_issued(&chain, &private_key, &leaf.names, then)
            .map_err(|error| error.to_string())?;
        Ok((chain, private_key))
    })();
    let (chain, private_key) = checked.map_err(|reason| PullError::Unservable {
        key: key.clone(),
        reason,
        name: name.clone(),
    })?;
    let from = chain.leaf().not_before;
    if now < from {
        return Err(PullError::NotYetValid { key, from, now });
    }
    Ok(Wanted {
        facts: Facts::of(&chain),
        pems: Pems::of(&chain, &private_key),
        chosen,
    })
}
