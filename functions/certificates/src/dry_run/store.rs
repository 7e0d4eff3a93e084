//! The bucket as it would be.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::journal::Journal;
use super::reading::ReadStore;
use crate::ports::store::{Condition, ListedObject, Store, StoreError, StoredObject};

/// The bucket as it was read, with the planned writes.
pub struct DryRunStore<'l, S> {
    live: ReadStore<'l, S>,
    journal: Rc<Journal>,
    objects: RefCell<BTreeMap<String, SeenObject>>,
    versions: Cell<u32>,
}

/// An object as it was read or would be written; `None` where there is none.
struct SeenObject {
    object: Option<StoredObject>,
    changed: bool,
}

impl<'l, S: Store> DryRunStore<'l, S> {
    pub(super) fn new(live: ReadStore<'l, S>, journal: Rc<Journal>) -> Self {
        Self {
            live,
            journal,
            objects: RefCell::default(),
            versions: Cell::default(),
        }
    }

    fn put(&self, key: &str, object: Option<StoredObject>, changed: bool) {
        let seen = SeenObject { object, changed };
        self.objects.borrow_mut().insert(key.to_owned(), seen);
    }
}

impl<S: Store> Store for DryRunStore<'_, S> {
    async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        if let Some(seen) = self.objects.borrow().get(key) {
            return Ok(seen.object.clone());
        }
        let object = self.live.read(key).await?;
        self.put(key, object.clone(), false);
        Ok(object)
    }

    async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: Condition<'_>,
    ) -> Result<String, StoreError> {
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => self.read(key).await?.is_none(),
            Condition::Matches(etag) => {
                let there = self.read(key).await?;
                there.is_some_and(|object| object.etag == etag)
            }
        };
        if !holds {
            return Err(StoreError::ConditionFailed {
                key: key.to_owned(),
            });
        }
        self.versions.set(self.versions.get() + 1);
        let etag = format!("\"planned-{}\"", self.versions.get());
        let object = StoredObject {
            body,
            etag: etag.clone(),
            modified: None,
        };
        self.put(key, Some(object), true);
        self.journal.record("s3", "PutObject", key);
        Ok(etag)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.put(key, None, true);
        self.journal.record("s3", "DeleteObject", key);
        Ok(())
    }

    async fn delete_matching(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        match self.read(key).await? {
            Some(object) if object.etag != etag => Err(StoreError::ConditionFailed {
                key: key.to_owned(),
            }),
            _ => self.delete(key).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        let listed = self.live.list(prefix).await?.into_iter();
        let mut entries: BTreeMap<String, String> =
            listed.map(|entry| (entry.key, entry.etag)).collect();
        let objects = self.objects.borrow();
        let changed = objects.iter().filter(|(_, seen)| seen.changed);
        for (key, seen) in changed.filter(|(key, _)| key.starts_with(prefix)) {
            match &seen.object {
                Some(object) => entries.insert(key.clone(), object.etag.clone()),
                None => entries.remove(key),
            };
        }
        let entries = entries.into_iter();
        Ok(entries
            .map(|(key, etag)| ListedObject { key, etag })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    /// Holds `state/a.json` and `state/b.json`, and cannot be written.
    struct RealStore;

    impl Store for RealStore {
        async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
            match key {
                "state/a.json" | "state/b.json" => Ok(Some(StoredObject {
                    body: b"real".to_vec(),
                    etag: "\"1\"".to_owned(),
                    modified: None,
                })),
                "broken" => Err(StoreError::Unavailable {
                    verb: "read",
                    key: key.to_owned(),
                    reason: String::new(),
                    person: false,
                }),
                _ => Ok(None),
            }
        }

        async fn write(&self, _: &str, _: Vec<u8>, _: Condition<'_>) -> Result<String, StoreError> {
            panic!("written");
        }

        async fn delete(&self, _: &str) -> Result<(), StoreError> {
            panic!("deleted");
        }

        async fn delete_matching(&self, _: &str, _: &str) -> Result<(), StoreError> {
            panic!("deleted");
        }

        async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
            let keys = ["state/a.json", "state/b.json"].into_iter();
            let keys = keys.filter(|key| key.starts_with(prefix));
            let entry = |key: &str| ListedObject {
                key: key.to_owned(),
                etag: "\"1\"".to_owned(),
            };
            Ok(keys.map(entry).collect())
        }
    }

    fn planned(journal: &Rc<Journal>) -> DryRunStore<'static, RealStore> {
        DryRunStore::new(ReadStore::of(&RealStore), journal.clone())
    }

    #[tokio::test]
    async fn conditions_are_those_of_what_would_be_there() {
        let journal = Rc::new(Journal::new(OffsetDateTime::UNIX_EPOCH));
        let store = planned(&journal);
        let body = || b"planned".to_vec();
        let failed = |outcome: Result<String, StoreError>| {
            matches!(outcome, Err(StoreError::ConditionFailed { .. }))
        };
        assert!(failed(
            store.write("state/a.json", body(), Condition::Absent).await
        ));
        assert!(failed(
            store
                .write("state/a.json", body(), Condition::Matches("\"2\""))
                .await
        ));
        let etag = store
            .write("state/a.json", body(), Condition::Matches("\"1\""))
            .await
            .unwrap();
        assert!(failed(
            store
                .write("state/a.json", body(), Condition::Matches("\"1\""))
                .await
        ));
        store
            .write("state/a.json", body(), Condition::Matches(&etag))
            .await
            .unwrap();
        let outdated = store.delete_matching("state/a.json", &etag).await;
        assert!(outdated.is_err());
        store.delete("state/a.json").await.unwrap();
        assert!(store.read("state/a.json").await.unwrap().is_none());
        assert!(failed(
            store
                .write("state/a.json", body(), Condition::Matches(&etag))
                .await
        ));
        store
            .write("state/a.json", body(), Condition::Absent)
            .await
            .unwrap();
        let unknown = store.write("broken", body(), Condition::Absent).await;
        assert!(
            !failed(unknown),
            "an unreadable object is not an absent one"
        );
        let operations: Vec<_> = journal.take().iter().map(|call| call.operation).collect();
        assert_eq!(
            operations,
            ["PutObject", "PutObject", "DeleteObject", "PutObject"]
        );
    }

    #[tokio::test]
    async fn a_list_has_what_would_be_there() {
        let journal = Rc::new(Journal::new(OffsetDateTime::UNIX_EPOCH));
        let store = planned(&journal);
        store.read("state/none.json").await.unwrap();
        store.read("state/b.json").await.unwrap();
        store.delete("state/a.json").await.unwrap();
        for key in ["state/c.json", "vault/c/1.json"] {
            store.write(key, Vec::new(), Condition::None).await.unwrap();
        }
        let listed = store.list("state/").await.unwrap();
        let keys: Vec<_> = listed.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["state/b.json", "state/c.json"]);
    }
}
