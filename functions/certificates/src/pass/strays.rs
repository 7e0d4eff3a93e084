//! Certificates that carry our installation's tag and that no record knows. They stay in the
//! certificate manager when the bucket is emptied or restored from another day.
//!
//! Each certificate of the account that no record knows costs a call. So the search runs once a
//! day, and at once when fewer certificates are managed than at the last search. The bucket keeps
//! the result. An emptied bucket has none, so the next pass searches.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::pass::context::{Cycle, TAG_CERTIFICATE, TAG_INSTALLATION};
use crate::pass::stop::store_problem;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::store::{self, Condition, Store, read_record, write_record};
use crate::records::record::Record;
use crate::records::state::State;
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The result of the last search.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Strays {
    version: u32,
    write_id: String,
    /// When that was.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// How many certificates were managed then.
    managed: usize,
    /// How many were found.
    count: usize,
}

impl Record for Strays {
    fn stamp(&mut self, write_id: String) {
        self.version = Self::VERSION;
        self.write_id = write_id;
    }
}

impl Strays {
    /// Whether the next search is due.
    fn are_due(&self, managed: usize, now: OffsetDateTime) -> bool {
        let age = now - self.at;
        let is_doubtful = managed == 0 || self.count > 0;
        managed < self.managed
            || age >= Duration::DAY
            || is_doubtful && age >= Duration::HOUR
            // A wrong clock wrote it.
            || age < -Duration::HOUR
    }
}

/// The certificates of the certificate manager that the records know.
#[derive(Debug, Default)]
pub(crate) struct KnownArns {
    arns: BTreeSet<String>,
    /// The names of the records that cannot be read: what they know is not known.
    unread: BTreeSet<String>,
}

impl KnownArns {
    /// Takes in what a record says, in all its parts; `None` where it cannot be read.
    pub(crate) fn note(&mut self, name: &str, record: Option<&impl Serialize>) {
        match record.and_then(|record| serde_json::to_value(record).ok()) {
            Some(record) => self.note_all(&record),
            None => {
                self.unread.insert(name.to_owned());
            }
        }
    }

    fn note_all(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.parse::<CertificateArn>().is_ok() => {
                self.arns.insert(text.clone());
            }
            Value::Array(all) => all.iter().for_each(|one| self.note_all(one)),
            Value::Object(fields) => {
                for (key, one) in fields {
                    self.note_all(&Value::String(key.clone()));
                    self.note_all(one);
                }
            }
            _ => {}
        }
    }

    /// Whether a certificate that carries our installation's tag may be one that a record knows.
    pub(crate) fn may_hold(&self, arn: &str, tags: &BTreeMap<String, String>) -> bool {
        let name = tags.get(TAG_CERTIFICATE);
        self.arns.contains(arn) || name.is_some_and(|name| self.unread.contains(name))
    }
}

/// What the records name.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) listeners: BTreeSet<ListenerArn>,
    pub(crate) regions: BTreeSet<String>,
    pub(crate) known: KnownArns,
}

impl<P: Ports> Cycle<'_, P> {
    /// Returns what all records name.
    pub(crate) async fn places(&self) -> Result<Places, Problem> {
        let store = self.ports.store();
        let records = store.list(store::STATE).await;
        let records = records.map_err(|error| store_problem(&error))?;
        let states: Vec<(&str, Option<State>)> = stream::iter(&records)
            .map(async |entry| {
                // An unreadable record is reported with its own certificate.
                let read = read_record::<State>(store, &entry.key).await;
                let name = entry.key.strip_prefix(store::STATE).unwrap_or_default();
                let name = name.strip_suffix(".json").unwrap_or_default();
                (name, read.ok().flatten().map(|(state, _)| state))
            })
            .buffered(self.settings.limits.concurrency)
            .collect()
            .await;
        let mut places = Places::default();
        for (name, state) in states {
            places.known.note(name, state.as_ref());
            let Some(state) = state else { continue };
            places.regions.extend(state.deployment.imports.into_keys());
            let ids = state
                .deployment
                .targets
                .iter()
                .map(|target| target.id.parse());
            places.listeners.extend(ids.filter_map(Result::ok));
        }
        Ok(places)
    }

    /// Returns how many certificates carry our installation's tag and are known by no record, by a
    /// search within the last day; `managed` is how many there are documents for.
    pub(crate) async fn count_of_strays(&self, managed: usize) -> Result<usize, Problem> {
        let store = self.ports.store();
        let last = match read_record::<Strays>(store, store::STRAYS).await {
            Ok(last) => last.map(|(last, _)| last),
            // It is replaced by a new one.
            Err(store::StoreError::Unusable { .. }) => None,
            Err(error) => return Err(store_problem(&error)),
        };
        let now = self.clock.now();
        if let Some(last) = last.filter(|last| !last.are_due(managed, now)) {
            return Ok(last.count);
        }
        let found = self.strays().await?;
        for arn in &found {
            tracing::warn!(
                certificate.arn = %arn,
                "carries the tag of this installation, and no record knows it"
            );
        }
        let mut strays = Strays {
            version: Strays::VERSION,
            write_id: String::new(),
            at: now,
            managed,
            count: found.len(),
        };
        // If that fails, the next pass searches again.
        let written = write_record(store, store::STRAYS, &mut strays, Condition::None).await;
        if let Err(error) = written {
            tracing::warn!(%error, "the result of the search for strays is not stored");
        }
        Ok(found.len())
    }

    /// Looks for the certificates with our installation's tag that no record knows, in all regions
    /// that are or ever were in use.
    async fn strays(&self) -> Result<Vec<CertificateArn>, Problem> {
        let places = self.places().await?;
        let mut regions = places.regions;
        regions.extend(self.ledgers.regions().await?);
        regions.insert(self.home.clone());
        let may_be_known_soon = self.clock.now() - Duration::HOUR;
        let mut found = Vec::new();
        for region in &regions {
            let could_not = |error: crate::values::problem::ServiceError| {
                let about = format!("{region}: certificates of ours that no record knows");
                error.problem(ProblemType::CertificateManager, &about)
            };
            let listed = self.listing(region, None).await.map_err(could_not)?;
            let is_old = |at: OffsetDateTime| at < may_be_known_soon;
            let unknown = listed
                .iter()
                .filter(|one| !places.known.arns.contains(one.arn.as_str()))
                // Another invocation may have imported it just now, and be about to record that.
                .filter(|one| one.imported_at.is_none_or(is_old));
            let manager = self.ports.certificate_manager(region);
            let looked: Vec<_> = stream::iter(unknown)
                .map(|one| async { (&one.arn, manager.tags(&one.arn).await) })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for (arn, tags) in looked {
                let tags = tags.map_err(could_not)?.unwrap_or_default();
                let is_ours = tags.get(TAG_INSTALLATION) == Some(&self.installation);
                if is_ours && !places.known.may_hold(arn.as_str(), &tags) {
                    found.push(arn.clone());
                }
            }
        }
        Ok(found)
    }
}

const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    #[test]
    fn they_are_looked_for_daily_and_where_there_is_doubt() {
        let (minute, hour, day) = (Duration::MINUTE, Duration::HOUR, Duration::DAY);
        for (why, found, managed, age, due) in [
            ("just looked", (5, 0), 5, minute, false),
            ("more than there were", (5, 0), 9, hour, false),
            ("a day ago", (5, 0), 5, day, true),
            ("fewer than there were", (5, 0), 4, minute, true),
            ("none, and none found", (0, 0), 0, minute, false),
            ("none, and an hour ago", (0, 0), 0, hour, true),
            ("one was found", (5, 1), 5, hour, true),
            ("one was found just now", (5, 1), 5, minute, false),
            ("in the future", (5, 0), 5, -day, true),
            ("clocks differ", (5, 0), 5, -minute, false),
        ] {
            let last = Strays {
                version: 1,
                write_id: String::new(),
                at: NOW - age,
                managed: found.0,
                count: found.1,
            };
            assert_eq!(last.are_due(managed, NOW), due, "{why}");
        }
    }

    #[test]
    fn a_record_knows_an_arn_wherever_it_stands_alone() {
        let arn = |n: u32| format!("arn:aws:acm:eu-central-1:123456789012:certificate/{n}");
        let mut known = KnownArns::default();
        known.note(
            "shop",
            Some(&json!({
                "imports": {"eu-central-1": {"arn": arn(1), "superseded": [{"arn": arn(2)}]}},
                "targets": [{"stays": {arn(3): 1}}],
                "history": [{"detail": format!("imported as {}", arn(4))}],
            })),
        );
        known.note("lost", None::<&Value>);
        let tags = |name: &str| BTreeMap::from([(TAG_CERTIFICATE.to_owned(), name.to_owned())]);
        for (n, name, held) in [
            (1, "shop", true),
            (2, "shop", true),
            (3, "blog", true),
            (4, "shop", false),
            (5, "gone", false),
            // What its record knows cannot be read.
            (5, "lost", true),
        ] {
            assert_eq!(known.may_hold(&arn(n), &tags(name)), held, "{n} {name}");
        }
    }
}
