//! The bucket: strong, with conditional writes.

use std::collections::BTreeMap;

use certificates::ports::store::{
    Condition, ListedObject, Store, StoreError, StoredObject, parse_record,
};
use certificates::records::state::State;
use certificates::records::vault::{PendingKey, VaultEntry};
use certificates::values::key::PrivateKey;
use time::{Duration, OffsetDateTime};

use crate::faults::Service;
use crate::people;
use crate::provocations;
use crate::rules;
use crate::visitors;
use crate::world::{Handle, Stored, World, name_in};

pub(crate) struct SimStore(pub(crate) Handle);

impl Store for SimStore {
    async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        self.0
            .call(Service::Store, "s3.read", key, |world| {
                Ok(world.objects.get(key).map(|stored| StoredObject {
                    body: stored.body.clone(),
                    etag: stored.etag.clone(),
                    modified: None,
                }))
            })
            .await
    }

    async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: Condition<'_>,
    ) -> Result<String, StoreError> {
        let pass = self.0.pass;
        let unconditional = condition == Condition::None;
        let written = self
            .0
            .call(Service::Store, "s3.write", key, |world| {
                let there = world.objects.get(key).map(|stored| stored.etag.as_str());
                let holds = match condition {
                    Condition::None => true,
                    Condition::Absent => there.is_none(),
                    Condition::Matches(etag) => there == Some(etag),
                };
                if !holds {
                    world.tally.count("condition failed");
                    return Err(StoreError::ConditionFailed {
                        key: key.to_owned(),
                    });
                }
                let state = read_state(world, key, &body);
                if key.starts_with("state/") && std::env::var_os("BODIES").is_some() {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    world.say(format_args!("body of {key}: {body}"));
                }
                rules::before_write(world, pass, key, &body, state.as_ref());
                Ok(put_known(world, key, body, state))
            })
            .await;
        match written {
            // An unconditional write cannot fail by a condition.
            Err(StoreError::ConditionFailed { key }) if unconditional => {
                Err(StoreError::Unavailable {
                    verb: "write",
                    key,
                    reason: "simulated".to_owned(),
                    person: false,
                })
            }
            written => written,
        }
    }

    async fn delete_matching(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        let pass = self.0.pass;
        self.0
            .call(Service::Store, "s3.delete", key, |world| {
                if world.objects.get(key).is_some_and(|held| held.etag != etag) {
                    return Err(StoreError::ConditionFailed {
                        key: key.to_owned(),
                    });
                }
                rules::before_object_deletion(world, pass, key);
                remove(world, key);
                people::document_is_gone(world, key);
                Ok(())
            })
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let pass = self.0.pass;
        self.0
            .call(Service::Store, "s3.delete", key, |world| {
                rules::before_object_deletion(world, pass, key);
                remove(world, key);
                Ok(())
            })
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        self.0
            .call(Service::Store, "s3.list", prefix, |world| {
                let below = world.objects.range(prefix.to_owned()..);
                Ok(below
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .map(|(key, stored)| ListedObject {
                        key: key.clone(),
                        etag: stored.etag.clone(),
                    })
                    .collect())
            })
            .await
    }
}

fn read_state(world: &mut World, key: &str, body: &[u8]) -> Option<State> {
    if !key.starts_with("state/") {
        return None;
    }
    match serde_json::from_slice(body) {
        Ok(state) => Some(state),
        Err(error) => {
            world.broken(format!("a state was written that cannot be read: {error}"));
            None
        }
    }
}

/// Puts an object, for certloop or for anyone else.
pub(crate) fn put(world: &mut World, key: &str, body: Vec<u8>) -> String {
    put_known(world, key, body, None)
}

/// Puts an object, and reads the parts that the rules need.
fn put_known(world: &mut World, key: &str, body: Vec<u8>, state: Option<State>) -> String {
    // The same document has the same ETag again; everything that the cycle writes is new each time.
    let etag = match key.starts_with("certificates/") {
        true => format!("\"{:016x}\"", hash(&body)),
        false => format!("e{}", world.fresh()),
    };
    if let Some(name) = name_in(key).map(str::to_owned) {
        if let Some(state) = state {
            world.states.insert(name, state);
        } else if key.ends_with("/pending.json") {
            if let Ok(pending) = parse_record::<PendingKey>(key, &body)
                && let Ok(private) = PrivateKey::from_pem(&pending.private_key)
            {
                let public = private.public_key_der();
                world.pending.insert(name, (pending.order, public));
            }
        } else if key.starts_with("vault/")
            && let Ok(entry) = parse_record::<VaultEntry>(key, &body)
        {
            let private = entry.private_key.to_string();
            visitors::stored(world, key, &entry.chain);
            world.vault.insert(key.to_owned(), (entry.chain, private));
        }
    }
    let stored = Stored {
        body,
        etag: etag.clone(),
    };
    let before = world.objects.insert(key.to_owned(), stored);
    remember(world, key, before);
    etag
}

fn hash(body: &[u8]) -> u64 {
    (body.iter()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Deletes an object.
pub(crate) fn remove(world: &mut World, key: &str) {
    let before = world.objects.remove(key);
    remember(world, key, before);
    world.vault.remove(key);
    if let Some(name) = name_in(key) {
        if key.starts_with("state/") {
            world.states.remove(name);
            crate::rules::forgotten(world, name);
        } else if key.ends_with("/pending.json") {
            world.pending.remove(name);
        }
    }
}

/// Remembers an object's content before a change, for as many days as people restore.
fn remember(world: &mut World, key: &str, before: Option<Stored>) {
    if !world.visitors.is_provoked() || !provocations::is_restored(key) {
        return;
    }
    let now = world.now();
    world.journal.push_back((now, key.to_owned(), before));
    while (world.journal.front()).is_some_and(|(at, ..)| now - *at > REMEMBERED) {
        world.journal.pop_front();
    }
}

/// Restores the bucket to its content of an instant.
pub(crate) fn restore(world: &mut World, to: OffsetDateTime) {
    let mut old: BTreeMap<String, Option<Stored>> = BTreeMap::new();
    let changes = world.journal.iter().rev();
    for (_, key, before) in changes.take_while(|(at, ..)| *at > to) {
        old.insert(key.clone(), before.clone());
    }
    for (key, before) in old {
        remove(world, &key);
        let Some(Stored { body, etag }) = before else {
            continue;
        };
        let state = read_state(world, &key, &body);
        put_known(world, &key, body, state);
        // The same content has the same ETag.
        if let Some(stored) = world.objects.get_mut(&key) {
            stored.etag = etag;
        }
    }
}

const REMEMBERED: Duration = Duration::days(11);
