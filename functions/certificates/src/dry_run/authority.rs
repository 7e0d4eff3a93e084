//! The authorities as they would answer: every name is validated again and passes, and every order
//! is issued at once.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::journal::Journal;
use super::made_up::{LeafWish, MadeUp};
use super::reading::{ReadAccount, ReadAuthorities, ReadOrder};
use super::store::DryRunStore;
use crate::contract::settings::Authority;
use crate::ports::Ports;
use crate::ports::authority::{
    Account, AccountKey, Authorities, Authorization, AuthorizationStatus, ChallengeStatus,
    ExternalBinding, Http01, Order, OrderStatus, Registered, Suggested,
};
use crate::ports::store::{self, StoreError, read_record};
use crate::records::certificate::IssuedCertificate;
use crate::records::order::OrderRecord;
use crate::records::state::State;
use crate::records::vault::{PendingKey, VaultEntry};
use crate::values::chain::{Chain, Leaf};
use crate::values::instant::whole_seconds;
use crate::values::key::PrivateKey;
use crate::values::names::{CertificateName, DnsName};
use crate::values::problem::{AcmeError, UNSPECIFIED, URN};
use crate::values::revocation_reason::Reason;
use crate::values::text::listed;

/// The account that the live port signs in to, and its orders.
type LiveAccount<L> = <<L as Ports>::Authorities as Authorities>::Account;
type LiveOrder<L> = <LiveAccount<L> as Account>::Order;

/// The authorities.
pub struct DryRunAuthorities<'l, L: Ports> {
    pub(super) live: ReadAuthorities<'l, L::Authorities>,
    pub(super) shared: Rc<Shared<'l, L>>,
}

/// The part that all accounts and orders share.
pub(super) struct Shared<'l, L: Ports> {
    journal: Rc<Journal>,
    store: Rc<DryRunStore<'l, L::Store>>,
    issuer: OnceCell<MadeUp>,
    /// The unique identifiers (RFC 9773 section 4.1) of made-up certificates.
    identifiers: RefCell<BTreeSet<String>>,
}

impl<'l, L: Ports> Shared<'l, L> {
    pub(super) fn new(journal: Rc<Journal>, store: Rc<DryRunStore<'l, L::Store>>) -> Self {
        Self {
            journal,
            store,
            issuer: OnceCell::new(),
            identifiers: RefCell::default(),
        }
    }

    /// Returns the current certificate and its state.
    async fn state(&self) -> Result<(CertificateName, State), AcmeError> {
        let Some(name) = self.journal.certificate() else {
            return Err(unmade("there is no current certificate"));
        };
        let read = read_record::<State>(&*self.store, &store::state_key(&name)).await;
        let state = read.map_err(unread)?.map(|(state, _)| state);
        Ok((name, state.unwrap_or_default()))
    }

    /// Returns the pending order of the current certificate.
    async fn order(&self) -> Result<(CertificateName, State, OrderRecord), AcmeError> {
        let (name, state) = self.state().await?;
        match state.orders.current.clone() {
            Some(order) => Ok((name, state, order)),
            None => Err(unmade("there is no pending order")),
        }
    }

    /// Makes the chain that the pending order would issue.
    async fn issue(&self) -> Result<String, AcmeError> {
        let (name, state, order) = self.order().await?;
        let pending = store::pending_key(&name);
        let read = read_record::<PendingKey>(&*self.store, &pending).await;
        let Some((pending, _)) = read.map_err(unread)? else {
            return Err(unmade("the order's key does not exist"));
        };
        let key = PrivateKey::from_pem(&pending.private_key);
        let key = key.map_err(|error| unmade(&error.to_string()))?;
        let similar = state.certificate.filter(|held| {
            held.directory == order.directory
                && held.profile == order.profile
                && held.key_type == key.key_type()
        });
        let before = match &similar {
            Some(held) => self.leaf(&name, &held.serial).await,
            None => None,
        };
        let wish = LeafWish {
            key: &key,
            names: &order.domains,
            from: whole_seconds(self.journal.at) - time::Duration::HOUR,
            lifetime: similar.as_ref().map_or_else(
                || expected_lifetime(order.profile.as_deref()),
                IssuedCertificate::lifetime,
            ),
            like: before.as_deref(),
        };
        let failed = |error: rcgen::Error| unmade(&error.to_string());
        if self.issuer.get().is_none() {
            let _ = self.issuer.set(MadeUp::new().map_err(failed)?);
        }
        let Some(issuer) = self.issuer.get() else {
            return Err(unmade("no issuer"));
        };
        let pem = issuer.issue(&wish).map_err(failed)?;
        let chain = Chain::parse(&pem).map_err(|error| unmade(&error.to_string()))?;
        self.journal
            .show(&chain.leaf().serial, "<serial>".to_owned());
        self.identifiers
            .borrow_mut()
            .extend(chain.leaf().identifier());
        Ok(pem)
    }

    /// Returns a leaf of the vault in DER. An unreadable one counts as absent.
    async fn leaf(&self, name: &CertificateName, serial: &str) -> Option<Vec<u8>> {
        let key = store::vault_key(name, serial);
        let (entry, _) = read_record::<VaultEntry>(&*self.store, &key).await.ok()??;
        Some(Chain::parse(&entry.chain).ok()?.leaf().der.clone())
    }
}

impl<'l, L: Ports> Authorities for DryRunAuthorities<'l, L> {
    type Account = DryRunAccount<'l, L>;

    fn new_key(&self) -> Result<AccountKey, AcmeError> {
        self.live.new_key()
    }

    async fn register(
        &self,
        authority: &Authority,
        _key: &AccountKey,
        _contact: &[String],
        _binding: Option<&ExternalBinding>,
    ) -> Result<Registered, AcmeError> {
        let journal = &self.shared.journal;
        journal.record("acme", "newAccount", &authority.directory);
        Ok(Registered {
            url: made_up_url(&authority.directory, journal.next()),
            is_new: true,
        })
    }

    async fn sign_in(
        &self,
        authority: &Authority,
        key: &AccountKey,
        url: &str,
    ) -> Result<DryRunAccount<'l, L>, AcmeError> {
        Ok(DryRunAccount {
            live: self.live.sign_in(authority, key, url).await?,
            directory: authority.directory.clone(),
            shared: self.shared.clone(),
        })
    }

    async fn renewal_information(
        &self,
        authority: &Authority,
        certificate: &str,
    ) -> Result<Option<Suggested>, AcmeError> {
        if self.shared.identifiers.borrow().contains(certificate) {
            return Ok(None);
        }
        self.live.renewal_information(authority, certificate).await
    }

    async fn caa_identities(&self, authority: &Authority) -> Result<Vec<String>, AcmeError> {
        self.live.caa_identities(authority).await
    }
}

/// An account, which may be made up.
pub struct DryRunAccount<'l, L: Ports> {
    live: ReadAccount<LiveAccount<L>>,
    directory: String,
    shared: Rc<Shared<'l, L>>,
}

impl<'l, L: Ports> Account for DryRunAccount<'l, L> {
    type Order = DryRunOrder<'l, L>;

    fn profiles(&self) -> Vec<String> {
        self.live.profiles()
    }

    async fn set_contact(&self, _contact: &[String]) -> Result<(), AcmeError> {
        let journal = &self.shared.journal;
        journal.record("acme", "updateAccount", &self.directory);
        Ok(())
    }

    async fn new_order(
        &self,
        names: &[DnsName],
        _profile: Option<&str>,
        _replaces: Option<&str>,
    ) -> Result<DryRunOrder<'l, L>, AcmeError> {
        let journal = &self.shared.journal;
        journal.record("acme", "newOrder", &listed(names));
        let challenges = names.iter().map(|name| {
            let token = format!("planned-{}", journal.next());
            // The challenge of a wildcard is the challenge of the name below it.
            let identifier = name.as_str().trim_start_matches("*.").to_owned();
            (identifier, token)
        });
        Ok(DryRunOrder {
            url: made_up_url(&self.directory, journal.next()),
            status: OrderStatus::Pending,
            live: None,
            challenges: challenges.collect(),
            shared: self.shared.clone(),
        })
    }

    async fn revoke(&self, certificate: &[u8], _reason: Reason) -> Result<(), AcmeError> {
        let leaf = Leaf::parse(certificate).map_err(|error| unmade(&error.to_string()))?;
        let journal = &self.shared.journal;
        journal.record("acme", "revokeCert", &leaf.serial);
        Ok(())
    }

    async fn order(&self, url: &str) -> Result<DryRunOrder<'l, L>, AcmeError> {
        if url.starts_with(&made_up_url(&self.directory, "")) {
            return Err(AcmeError {
                kind: format!("{URN}malformed"),
                detail: "an order that was only planned".to_owned(),
                status: Some(404),
                retry_after: None,
                unconnected: false,
            });
        }
        let live = self.live.order(url).await?;
        Ok(DryRunOrder {
            url: url.to_owned(),
            status: live.status(),
            live: Some(live),
            challenges: Vec::new(),
            shared: self.shared.clone(),
        })
    }
}

/// An order that would be made, or a pending one as it would go on.
pub struct DryRunOrder<'l, L: Ports> {
    url: String,
    status: OrderStatus,
    live: Option<ReadOrder<LiveOrder<L>>>,
    /// Names and made-up tokens.
    challenges: Vec<(String, String)>,
    shared: Rc<Shared<'l, L>>,
}

impl<L: Ports> DryRunOrder<'_, L> {
    fn journal(&self) -> &Journal {
        &self.shared.journal
    }
}

impl<L: Ports> Order for DryRunOrder<'_, L> {
    fn url(&self) -> &str {
        &self.url
    }

    fn status(&self) -> OrderStatus {
        self.status
    }

    fn error(&self) -> Option<AcmeError> {
        self.live.as_ref()?.error()
    }

    async fn refresh(&mut self) -> Result<Option<Duration>, AcmeError> {
        let Some(live) = &mut self.live else {
            return Ok(None);
        };
        live.refresh().await?;
        self.status = match (self.status, live.status()) {
            (_, OrderStatus::Invalid) => OrderStatus::Invalid,
            // The authority finishes at once what it is processing.
            (OrderStatus::Pending, _) => OrderStatus::Ready,
            (OrderStatus::Processing, _) => OrderStatus::Valid,
            (status, _) => status,
        };
        Ok(None)
    }

    async fn authorizations(&mut self, fresh: bool) -> Result<Vec<Authorization>, AcmeError> {
        if let Some(live) = &mut self.live {
            let authorizations = live.authorizations(fresh).await?;
            for authorization in &authorizations {
                if let Some(challenge) = &authorization.http01 {
                    let shown = format!("<token of {}>", authorization.identifier);
                    self.shared.journal.show(&challenge.token, shown);
                }
            }
            return Ok(authorizations);
        }
        let status = match self.status {
            OrderStatus::Pending => AuthorizationStatus::Pending,
            _ => AuthorizationStatus::Valid,
        };
        let authorization = |(identifier, token): &(String, String)| {
            self.journal()
                .show(token, format!("<token of {identifier}>"));
            Authorization {
                identifier: identifier.clone(),
                status,
                http01: Some(Http01 {
                    token: token.clone(),
                    key_authorization: format!("{token}.planned"),
                    status: match status {
                        AuthorizationStatus::Pending => ChallengeStatus::Pending,
                        _ => ChallengeStatus::Valid,
                    },
                    error: None,
                }),
            }
        };
        Ok(self.challenges.iter().map(authorization).collect())
    }

    async fn answer(&mut self) -> Result<(), AcmeError> {
        for authorization in self.authorizations(false).await? {
            let is_pending = (authorization.http01)
                .is_some_and(|challenge| challenge.status == ChallengeStatus::Pending);
            if authorization.status == AuthorizationStatus::Pending && is_pending {
                self.journal()
                    .record("acme", "challenge", &authorization.identifier);
            }
        }
        self.status = OrderStatus::Ready;
        Ok(())
    }

    async fn finalize(&mut self, _csr: &[u8]) -> Result<Option<Duration>, AcmeError> {
        let (_, _, order) = self.shared.order().await?;
        self.journal()
            .record("acme", "finalize", &listed(&order.domains));
        self.status = OrderStatus::Valid;
        Ok(None)
    }

    async fn certificate(&mut self) -> Result<String, AcmeError> {
        match &mut self.live {
            Some(live) if live.status() == OrderStatus::Valid => live.certificate().await,
            _ => self.shared.issue().await,
        }
    }
}

/// Returns the expected lifetime of a certificate when there is none yet to learn from.
pub(super) fn expected_lifetime(profile: Option<&str>) -> time::Duration {
    match profile {
        Some("shortlived") => time::Duration::hours(160),
        _ => time::Duration::days(90),
    }
}

fn made_up_url(directory: &str, id: impl ToString) -> String {
    format!("{directory}#planned-{}", id.to_string())
}

fn unread(error: StoreError) -> AcmeError {
    unmade(&error.to_string())
}

/// Returns the error for a step that a plan cannot simulate.
fn unmade(detail: &str) -> AcmeError {
    AcmeError {
        kind: UNSPECIFIED.to_owned(),
        detail: format!("cannot be planned: {detail}"),
        status: None,
        retry_after: None,
        unconnected: false,
    }
}
