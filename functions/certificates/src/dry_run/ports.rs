//! The ports of a plan: they keep changes to themselves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::contract::message::Message;
use crate::contract::settings::Channel;
use crate::ports::Ports;
use crate::ports::probe::{Fetched, Proven, Question};
use crate::values::key::{KeyType, PrivateKey};
use crate::values::names::DnsName;
use crate::values::partition::Partition;
use crate::values::problem::ServiceError;

use super::authority::{DryRunAuthorities, Shared};
use super::certificate_manager::{self, DryRunCertificateManager};
use super::journal::Journal;
use super::load_balancer::{self, DryRunLoadBalancer};
use super::reading::ReadPorts;
use super::store::DryRunStore;

/// Everything outside, simulated.
pub struct DryRunPorts<'l, L: Ports> {
    live: ReadPorts<'l, L>,
    account: String,
    pub(super) journal: Rc<Journal>,
    store: Rc<DryRunStore<'l, L::Store>>,
    authorities: DryRunAuthorities<'l, L>,
    certificate_managers: Rc<certificate_manager::CertificateChanges>,
    load_balancers: Rc<load_balancer::ListenerChanges>,
    /// One of each type is enough: none of them is stored.
    keys: RefCell<HashMap<KeyType, Zeroizing<String>>>,
}

impl<'l, L: Ports> DryRunPorts<'l, L> {
    /// Makes ports for a plan at an instant. `account` is the function's account, where it is
    /// known; it appears in made-up ARNs.
    pub(super) fn new(live: &'l L, at: OffsetDateTime, account: Option<&str>) -> Self {
        let live = ReadPorts::of(live);
        let journal = Rc::new(Journal::new(at));
        let store = Rc::new(DryRunStore::new(live.store(), journal.clone()));
        let authorities = DryRunAuthorities {
            live: live.authorities(),
            shared: Rc::new(Shared::new(journal.clone(), store.clone())),
        };
        Self {
            live,
            account: account.unwrap_or("000000000000").to_owned(),
            journal,
            store,
            authorities,
            certificate_managers: Rc::default(),
            load_balancers: Rc::default(),
            keys: RefCell::default(),
        }
    }
}

impl<'l, L: Ports> Ports for DryRunPorts<'l, L> {
    type Store = DryRunStore<'l, L::Store>;
    type Authorities = DryRunAuthorities<'l, L>;
    type CertificateManager = DryRunCertificateManager<L::CertificateManager>;
    type LoadBalancer = DryRunLoadBalancer<L::LoadBalancer>;
    type Resolver = L::Resolver;

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn authorities(&self) -> &Self::Authorities {
        &self.authorities
    }

    fn certificate_manager(&self, region: &str) -> Self::CertificateManager {
        DryRunCertificateManager {
            live: self.live.certificate_manager(region),
            region: region.to_owned(),
            partition: Partition::of(region).name().to_owned(),
            account: self.account.clone(),
            changes: self.certificate_managers.clone(),
            journal: self.journal.clone(),
        }
    }

    fn load_balancer(&self, region: &str) -> Self::LoadBalancer {
        DryRunLoadBalancer {
            live: self.live.load_balancer(region),
            changes: self.load_balancers.clone(),
            journal: self.journal.clone(),
        }
    }

    fn resolver(&self, servers: Option<&[SocketAddr]>) -> Self::Resolver {
        self.live.resolver(servers)
    }

    async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String> {
        let made = self.keys.borrow().get(&key_type).cloned();
        if let Some(pem) = made {
            return PrivateKey::from_pem(&pem).map_err(|error| error.to_string());
        }
        let key = self.live.new_key(key_type).await?;
        self.keys.borrow_mut().insert(key_type, key.to_pem());
        Ok(key)
    }

    async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError> {
        self.live.secret(arn).await
    }

    async fn fetch(
        &self,
        _name: &DnsName,
        _token: &str,
        _key_authorization: &str,
        _connect_to: Option<&str>,
        _limit: Duration,
    ) -> Fetched {
        Fetched::Right
    }

    /// A made-up chain leads to no trust root.
    fn is_public(&self, _chain_pem: &str, _name: &str, _at: OffsetDateTime) -> Option<bool> {
        None
    }

    async fn send(&self, _channel: &Channel, _message: &Message) -> Result<(), String> {
        Err("a plan sends no messages".to_owned())
    }

    async fn handshake(&self, _question: &Question<'_>, _limit: Duration) -> Proven {
        Proven::Yes { trusted: Ok(()) }
    }
}
