//! From a key in the vault to a chain in the vault.

use std::time::Duration;

use crate::contract::word::Word;
use crate::life::order::poll::{OrderOf, is_too_old};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::authority::{Order, OrderStatus};
use crate::ports::store::{self, Condition, read_record, write_record};
use crate::records::certificate::IssuedCertificate;
use crate::records::order::{OrderRecord, Rehearsed, Stage};
use crate::records::vault::{PendingKey, VaultEntry};
use crate::rules::ledger::OrderFate;
use crate::rules::renewal;
use crate::values::chain::{Chain, Leaf, added_names, check_issued};
use crate::values::instant;
use crate::values::key::PrivateKey;
use crate::values::names::DnsName;
use crate::values::problem::{AcmeError, Problem};
use crate::values::problem_types::ProblemType;
use time::OffsetDateTime;

/// What `vault/<name>/pending.json` holds.
enum Pending {
    /// The key of this order.
    Here(PrivateKey),
    /// No key of this order; perhaps an older one, by its ETag.
    Missing { replaced: Option<String> },
}

impl<P: Ports> Work<'_, '_, P> {
    /// Stores the key, then sends the CSR.
    pub(super) async fn finalize(&mut self, order: &mut OrderOf<P>) -> Result<(), Stop> {
        self.time_for("finalizing", LEAST, LEAST)?;
        let key = match self.pending_key(order.url()).await? {
            Pending::Here(key) => key,
            Pending::Missing { replaced } => {
                self.make_pending_key(order.url(), replaced.as_deref())
                    .await?
            }
        };
        if let Some(record) = &mut self.state.orders.current
            && record.stage != Stage::Finalizing
        {
            record.stage = Stage::Finalizing;
            self.note("finalizing", order.url());
            self.save().await?;
        }
        let csr = key
            .csr(self.ordered_names())
            .map_err(|error| Problem::ours(ProblemType::Key, error.to_string()))?;
        let wait = self.send_csr(order, &csr).await?;
        if order.status() != OrderStatus::Processing {
            return Ok(());
        }
        let first = wait.unwrap_or_default().max(FIRST_LOOK_AT_ISSUANCE);
        self.wait_for_issuance(order, first).await
    }

    /// Sends the CSR. Returns how long the authority wants us to wait before the next look.
    ///
    /// Some authorities call an order ready a moment before they take its CSR: then it is sent
    /// again.
    async fn send_csr(
        &mut self,
        order: &mut OrderOf<P>,
        csr: &[u8],
    ) -> Result<Option<Duration>, Stop> {
        let mut pauses = NOT_READY_YET.into_iter();
        loop {
            let refusal = match self.within_time(order.finalize(csr)).await {
                Ok(wait) => return Ok(wait),
                Err(refusal) => refusal,
            };
            let is_not_ready = refusal.word() == "orderNotReady";
            let is_refused = refusal
                .status
                .is_some_and(|status| (400..500).contains(&status));
            if !is_not_ready && (!is_refused || refusal.retry_after.is_some()) {
                return Err(Stop::Failed(self.nearly_there(refusal)));
            }
            // An earlier visit may have sent it already: the status shows that.
            self.within_time(order.refresh()).await?;
            if order.status() != OrderStatus::Ready {
                return Ok(None);
            }
            let left = self.cycle.clock.left();
            match pauses
                .next()
                .filter(|pause| is_not_ready && left > *pause + LEAST)
            {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(refusal.into()),
            }
        }
    }

    /// Looks for the stored key of this order.
    async fn pending_key(&self, order: &str) -> Result<Pending, Stop> {
        let object = store::pending_key(&self.wanted.name);
        match read_record::<PendingKey>(self.cycle.ports.store(), &object).await? {
            None => Ok(Pending::Missing { replaced: None }),
            Some((record, etag)) if record.order != order => Ok(Pending::Missing {
                replaced: Some(etag),
            }),
            Some((record, _)) => Ok(Pending::Here(
                PrivateKey::from_pem(&record.private_key).map_err(|error| {
                    let detail = format!(
                        "{object} holds no usable key: {error}; delete it and a new order is made"
                    );
                    Problem::ours(ProblemType::Record, detail)
                })?,
            )),
        }
    }

    async fn make_pending_key(
        &self,
        order: &str,
        replaced: Option<&str>,
    ) -> Result<PrivateKey, Stop> {
        let made = self.cycle.ports.new_key(self.wanted.key_type).await;
        let key = made.map_err(|error| {
            Problem::ours(ProblemType::Key, format!("no key could be made: {error}"))
        })?;
        let object = store::pending_key(&self.wanted.name);
        let mut record = PendingKey::new(order.to_owned(), key.to_pem());
        let condition = replaced.map_or(Condition::Absent, Condition::Matches);
        write_record(self.cycle.ports.store(), &object, &mut record, condition).await?;
        Ok(key)
    }

    /// Downloads the chain and stores it with its key in the vault. For a chain that is not usable,
    /// returns why.
    pub(super) async fn download(
        &mut self,
        order: &mut OrderOf<P>,
    ) -> Result<Option<Problem>, Stop> {
        let Pending::Here(key) = self.pending_key(order.url()).await? else {
            let detail =
                "the key of the issued certificate is not in the vault; a new order follows";
            return Ok(Some(Problem::ours(ProblemType::KeyLost, detail)));
        };
        let pem = match self.within_time(order.certificate()).await {
            Ok(pem) => pem,
            Err(refusal) => return self.not_downloaded(refusal),
        };
        let chain = match self.usable(&pem, &key) {
            Ok(chain) => chain,
            Err(why) => {
                let detail = format!("the downloaded chain cannot be used: {why}");
                return Ok(Some(Problem::ours(ProblemType::Chain, detail)));
            }
        };
        let (leaf, pem) = (chain.leaf().clone(), chain.pem());
        let order = self.state.orders.current.as_ref();
        if order.is_some_and(|order| order.rehearsal) {
            self.rehearsed().await?;
            return Ok(None);
        }
        let name = leaf.names.first().map_or("", DnsName::as_str);
        let ports = self.cycle.ports;
        let public = ports.is_public(&pem, name, self.judged_at(&leaf));
        let mut entry = VaultEntry::new(&leaf, pem, key.to_pem());
        let object = store::vault_key(&self.wanted.name, &leaf.serial);
        write_record(ports.store(), &object, &mut entry, Condition::None).await?;

        if let Err(Stop::Failed(failing)) = self.settle(OrderFate::Issued).await {
            // Failed bookkeeping does not delay a certificate: the reservation only counts a little
            // longer.
            tracing::warn!(problem.detail = %failing.problem.detail, "issuance not booked");
        }
        let Some(record) = self.state.orders.current.take() else {
            return Ok(None);
        };
        let now = self.cycle.clock.now();
        self.state.orders.has_ordered_at(&record.directory, now);
        let added = added_names(&leaf, &record.domains);
        let held = self.held(record, &leaf, public);
        self.take_up(held);
        let until = instant::rfc3339(leaf.not_after);
        let detail = format!("serial {}, valid until {until}", leaf.serial);
        self.note("issued", detail);
        if !added.is_empty() {
            let added = added.join(", ");
            self.note("names added", format!("by the authority: {added}"));
            self.remarks
                .push(format!("the authority added names: {added}"));
        }
        self.save().await?;
        self.sweep().await?;
        self.ask_about_new().await;
        Ok(None)
    }

    /// Returns why a certificate that is issued cannot be had; `Err` while another try may bring
    /// it.
    fn not_downloaded(&self, refusal: AcmeError) -> Result<Option<Problem>, Stop> {
        let order = self.state.orders.current.as_ref();
        let ordered_at = order.and_then(|order| order.ordered_at);
        match is_too_old(ordered_at, self.cycle.clock.now()) {
            true => Ok(Some(refusal.problem())),
            false => Err(Stop::Failed(self.nearly_there(refusal))),
        }
    }

    /// Returns the chain in order if it is what was ordered, or why it is not.
    fn usable(&self, pem: &str, key: &PrivateKey) -> Result<Chain, String> {
        let chain = Chain::parse_of(pem, key).map_err(|error| error.to_string())?;
        let judged_at = self.judged_at(chain.leaf());
        check_issued(&chain, key, self.ordered_names(), judged_at)
            .map_err(|error| error.to_string())?;
        Ok(chain)
    }

    /// Returns the instant by which a new chain is judged. A certificate that becomes valid in a
    /// moment is not thrown away: the import waits for it.
    fn judged_at(&self, leaf: &Leaf) -> OffsetDateTime {
        self.cycle.clock.now().max(leaf.not_before)
    }

    /// Makes the record of an issued certificate; `public`: whether the public trusts it.
    fn held(&self, record: OrderRecord, leaf: &Leaf, public: Option<bool>) -> IssuedCertificate {
        let before = self.state.certificate.as_ref();
        let same = before.filter(|held| held.directory == record.directory);
        let (now, jitter) = (self.cycle.clock.now(), fastrand::f64());
        IssuedCertificate {
            serial: leaf.serial.clone(),
            fingerprint: leaf.fingerprint.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            // Where this is unknown, it is taken from the certificate before.
            public: public.or_else(|| same?.public),
            domains: record.domains,
            key_type: record.key_type,
            authority: record.authority,
            directory: record.directory,
            profile: record.profile,
            identifier: leaf.identifier(),
            renewal: renewal::draw(leaf.not_before, leaf.not_after, before, now, jitter),
            adopted: false,
            kept_under: None,
            was_served: Some(false),
            revoked_at: None,
            refused_at: None,
            refused_before: before.is_some_and(|held| held.refused_at.is_some()),
        }
    }

    /// Makes an issued certificate the current one, and the current one the previous one.
    fn take_up(&mut self, held: IssuedCertificate) {
        let state = &mut self.state;
        // If an earlier one was never deployed, what it left in service ends first.
        let served = state.deployment.still_served;
        state.deployment.still_served =
            served.or(state.certificate.as_ref().map(IssuedCertificate::validity));
        state
            .orders
            .missing
            .retain(|name, _| !held.domains.contains(name));
        let serial = held.serial.clone();
        let before = state.certificate.replace(held);
        if let Some(before) = before.filter(|before| before.serial != serial) {
            state.supersede(before);
        }
        state.previous.rolled_back = None;
        state.in_force = Some(Box::new(Word::from(&self.wanted)));
        state.leftovers.pending_key = true;
        state.deployment.failure = None;
    }

    /// Books that the rehearsal succeeded: the real order would be issued.
    async fn rehearsed(&mut self) -> Result<(), Stop> {
        self.settle(OrderFate::Issued).await?;
        let Some(record) = self.state.orders.current.take() else {
            return Ok(());
        };
        let names = listed_names(record.domains.iter());
        self.note("rehearsed", format!("{names} at {}", record.authority));
        let now = crate::values::instant::whole_seconds(self.cycle.clock.now());
        self.state.orders.has_ordered_at(&record.directory, now);
        self.state.orders.rehearsed = Some(Rehearsed {
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

/// No step starts with less time than this left.
const LEAST: Duration = Duration::from_secs(2);
/// The pauses before a CSR is sent again to an order that was not ready.
const NOT_READY_YET: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
const FIRST_LOOK_AT_ISSUANCE: Duration = Duration::from_millis(250);
