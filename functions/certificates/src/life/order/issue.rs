//! From a key in the vault to a chain in the vault.

use std::time::Duration;

use crate::contract::word::Word;
use crate::life::order::poll::OrderOf;
use crate::life::work::Work;
use crate::pass::halt::Halt;
use crate::ports::Ports;
use crate::ports::authority::{Order, OrderStatus};
use crate::ports::store::{self, Condition, read_record, write_record};
use crate::records::certificate::Held;
use crate::records::order::{Rehearsed, Stage};
use crate::records::vault::{PendingKey, VaultEntry};
use crate::rules::ledger::OrderFate;
use crate::rules::renewal;
use crate::values::chain::{Chain, check_issued};
use crate::values::instant;
use crate::values::key::PrivateKey;
use crate::values::names::DnsName;
use crate::values::problem::Problem;
use crate::values::problem_types::Ours;

/// What `vault/<name>/pending.json` holds.
enum Pending {
    /// The key of this order.
    Here(PrivateKey),
    /// No key of this order; perhaps an older one, by its ETag.
    Missing { replaced: Option<String> },
}

impl<P: Ports> Work<'_, '_, P> {
    /// Stores the key, then hands in the CSR.
    pub(super) async fn finalize(&mut self, order: &mut OrderOf<P>) -> Result<(), Halt> {
        self.grant("finalizing", LEAST, LEAST)?;
        let key = match self.pending_key(order.url()).await? {
            Pending::Here(key) => key,
            Pending::Missing { replaced } => {
                self.make_pending_key(order.url(), replaced.as_deref())
                    .await?
            }
        };
        if let Some(record) = &mut self.state.order
            && record.stage != Stage::Finalizing
        {
            record.stage = Stage::Finalizing;
            self.note("finalizing", order.url());
            self.save().await?;
        }
        let csr = key
            .csr(self.ordered_names())
            .map_err(|error| Problem::ours(Ours::Key, error.to_string()))?;
        match self.answered(order.finalize(&csr)).await {
            Ok(wait) if order.status() == OrderStatus::Processing => {
                self.wait(
                    order,
                    OrderStatus::Processing,
                    wait.unwrap_or_default().max(FIRST_LOOK_AT_ISSUANCE),
                )
                .await
            }
            Ok(_) => Ok(()),
            // Perhaps an earlier visit has handed it in already: the status tells.
            Err(refusal) if refusal.word() == "orderNotReady" || refusal.status == Some(403) => {
                self.answered(order.refresh()).await?;
                if order.status() == OrderStatus::Ready {
                    Err(refusal.into())
                } else {
                    Ok(())
                }
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Looks for the stored key of this order.
    async fn pending_key(&self, order: &str) -> Result<Pending, Halt> {
        let object = store::pending_key(&self.wanted.name);
        match read_record::<PendingKey>(self.cycle.ports.store(), &object).await? {
            None => Ok(Pending::Missing { replaced: None }),
            Some((record, etag)) if record.order != order => Ok(Pending::Missing {
                replaced: Some(etag),
            }),
            Some((record, _)) => Ok(Pending::Here(PrivateKey::from_pem(&record.private_key).map_err(|error| {
                Problem::ours(Ours::Record, format!("{object} holds no usable key: {error}; delete it and the order is made anew"))
            })?)),
        }
    }

    async fn make_pending_key(
        &self,
        order: &str,
        replaced: Option<&str>,
    ) -> Result<PrivateKey, Halt> {
        let made = self.cycle.ports.new_key(self.wanted.key_type).await;
        let key = made
            .map_err(|error| Problem::ours(Ours::Key, format!("no key could be made: {error}")))?;
        let object = store::pending_key(&self.wanted.name);
        let mut record = PendingKey::new(order.to_owned(), key.to_pem());
        let condition = replaced.map_or(Condition::Absent, Condition::Matches);
        write_record(self.cycle.ports.store(), &object, &mut record, condition).await?;
        Ok(key)
    }

    /// Downloads the chain and puts it with its key into the vault. A chain that is of no use to us says why.
    pub(super) async fn download(
        &mut self,
        order: &mut OrderOf<P>,
    ) -> Result<Option<Problem>, Halt> {
        let Pending::Here(key) = self.pending_key(order.url()).await? else {
            let detail = "the key of the issued certificate is not in the vault; ordering anew";
            return Ok(Some(Problem::ours(Ours::KeyLost, detail)));
        };
        let pem = self.answered(order.certificate()).await?;
        let unusable = |error: &dyn std::fmt::Display| {
            let detail = format!("the downloaded chain cannot be used: {error}");
            Ok(Some(Problem::ours(Ours::Chain, detail)))
        };
        let chain = match Chain::parse(&pem) {
            Ok(chain) => chain,
            Err(error) => return unusable(&error),
        };
        let leaf = chain.leaf().clone();
        // A validity that begins in a moment is no reason to throw the certificate away: the import will wait for it.
        let at = self.cycle.clock.now().max(leaf.not_before);
        if let Err(error) = check_issued(&chain, &key, self.ordered_names(), at) {
            return unusable(&error);
        }
        if self
            .state
            .order
            .as_ref()
            .is_some_and(|order| order.rehearsal)
        {
            self.rehearsed().await?;
            return Ok(None);
        }
        let name = leaf.names.first().map_or("", DnsName::as_str);
        let public = self.cycle.ports.is_public(&pem, name, at);
        let mut entry = VaultEntry::new(&leaf, pem, key.to_pem());
        let object = store::vault_key(&self.wanted.name, &leaf.serial);
        write_record(
            self.cycle.ports.store(),
            &object,
            &mut entry,
            Condition::None,
        )
        .await?;

        if let Err(Halt::Failed(failing)) = self.settle(OrderFate::Issued).await {
            // Bookkeeping that fails keeps no certificate back: it only counts a little longer.
            tracing::warn!(certificate.name = %self.wanted.name, problem.detail = %failing.problem.detail, "issuance not booked");
        }
        let Some(record) = self.state.order.take() else {
            return Ok(None);
        };
        self.state
            .has_ordered_at(&record.directory, self.cycle.clock.now());
        // What cannot be told of it is taken to be as with the one before.
        let before = self.state.certificate.as_ref();
        let before = before.filter(|held| held.directory == record.directory);
        let public = public.or_else(|| before?.public);
        let held = Held {
            serial: leaf.serial.clone(),
            fingerprint: leaf.fingerprint.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            domains: record.domains,
            key_type: record.key_type,
            authority: record.authority,
            directory: record.directory,
            profile: record.profile,
            identifier: leaf.identifier(),
            renewal: renewal::draw(
                leaf.not_before,
                leaf.not_after,
                self.state.certificate.as_ref(),
                self.cycle.clock.now(),
                fastrand::f64(),
            ),
            public,
            adopted: false,
            was_served: Some(false),
            revoked_at: None,
        };
        // What an earlier one that was never deployed left to be served ends first.
        let replaced =
            self.state
                .still_served
                .or(self.state.certificate.as_ref().map(Held::validity));
        (self.state.missing).retain(|name, _| !held.domains.contains(name));
        let before =
            (self.state.certificate.replace(held)).filter(|before| before.serial != leaf.serial);
        if let Some(before) = before {
            self.state.supersede(before);
        }
        self.state.rolled_back = None;
        self.state.in_force = Some(Box::new(Word::from(&self.wanted)));
        self.state.still_served = replaced;
        self.state.leftovers.pending_key = true;
        self.state.deployment_failure = None;
        self.note(
            "issued",
            format!(
                "serial {}, valid until {}",
                leaf.serial,
                instant::rfc3339(leaf.not_after)
            ),
        );
        self.save().await?;
        self.sweep().await?;
        self.ask_about_new().await;
        Ok(None)
    }

    /// Books that what was ordered for nothing would have been issued.
    async fn rehearsed(&mut self) -> Result<(), Halt> {
        self.settle(OrderFate::Issued).await?;
        let Some(record) = self.state.order.take() else {
            return Ok(());
        };
        let names = listed_names(record.domains.iter());
        self.note("rehearsed", format!("{names} at {}", record.authority));
        let now = crate::values::instant::whole_seconds(self.cycle.clock.now());
        self.state.has_ordered_at(&record.directory, now);
        self.state.rehearsed = Some(Rehearsed {
            domains: record.domains,
            directory: record.directory,
            at: now,
        });
        self.state.leftovers.pending_key = true;
        self.save().await?;
        self.sweep().await
    }
}

fn listed_names<'n>(names: impl Iterator<Item = &'n DnsName>) -> String {
    names.map(DnsName::as_str).collect::<Vec<_>>().join(", ")
}

/// No step starts with less than this left.
const LEAST: Duration = Duration::from_secs(2);
const FIRST_LOOK_AT_ISSUANCE: Duration = Duration::from_millis(250);
