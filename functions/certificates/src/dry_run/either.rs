//! Ports that are live or planned. The choice is made at each call, so the pass over both is one
//! type and is compiled once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    DryRunAuthorities, DryRunCertificateManager, DryRunLoadBalancer, DryRunPorts, DryRunStore,
};
use crate::contract::message::Message;
use crate::contract::settings::{Authority, Channel};
use crate::contract::target::NewListener;
use crate::ports::Ports;
use crate::ports::authority::{
    Account, AccountKey, Authorities, Authorization, ExternalBinding, Order, OrderStatus,
    Registered, Suggested,
};
use crate::ports::certificate_manager::{
    CertificateManager, Deletion, Described, Listed, Material,
};
use crate::ports::load_balancer::{
    AttachError, Balancer, Holding, Listener, LoadBalancer, RuledListener,
};
use crate::ports::probe::{Fetched, Proven, Question};
use crate::ports::store::{Condition, ListedObject, Store, StoreError, StoredObject};
use crate::values::arn::{CertificateArn, ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::key::{KeyType, PrivateKey};
use crate::values::names::DnsName;
use crate::values::problem::{AcmeError, ServiceError};
use crate::values::revocation_reason::Reason;

/// A live or a planned port.
pub enum Either<L, P> {
    /// The live one.
    Live(L),
    /// The planned one.
    DryRun(P),
}

/// Generates the calls that go to one port or the other.
macro_rules! pass_on {
    (async &self: $($call:ident($($name:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        async fn $call(&self, $($name: $kind),*) -> $answer {
            match self {
                Self::Live(port) => port.$call($($name),*).await,
                Self::DryRun(port) => port.$call($($name),*).await,
            }
        }
    )*};
    (async &mut self: $($call:ident($($name:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        async fn $call(&mut self, $($name: $kind),*) -> $answer {
            match self {
                Self::Live(port) => port.$call($($name),*).await,
                Self::DryRun(port) => port.$call($($name),*).await,
            }
        }
    )*};
    (&self: $($call:ident() -> $answer:ty;)*) => {$(
        fn $call(&self) -> $answer {
            match self {
                Self::Live(port) => port.$call(),
                Self::DryRun(port) => port.$call(),
            }
        }
    )*};
}

impl<L: Store, P: Store> Store for Either<&L, &P> {
    pass_on! { async &self:
        read(key: &str) -> Result<Option<StoredObject>, StoreError>;
        write(key: &str, body: Vec<u8>, condition: Condition<'_>) -> Result<String, StoreError>;
        delete(key: &str) -> Result<(), StoreError>;
        delete_matching(key: &str, etag: &str) -> Result<(), StoreError>;
        list(prefix: &str) -> Result<Vec<ListedObject>, StoreError>;
    }
}

impl<L: Authorities, P: Authorities> Authorities for Either<&L, &P> {
    type Account = Either<L::Account, P::Account>;

    pass_on! { &self:
        new_key() -> Result<AccountKey, AcmeError>;
    }

    pass_on! { async &self:
        register(
            authority: &Authority,
            key: &AccountKey,
            contact: &[String],
            binding: Option<&ExternalBinding>
        ) -> Result<Registered, AcmeError>;
        renewal_information(authority: &Authority, certificate: &str)
            -> Result<Option<Suggested>, AcmeError>;
        caa_identities(authority: &Authority) -> Result<Vec<String>, AcmeError>;
    }

    async fn sign_in(
        &self,
        authority: &Authority,
        key: &AccountKey,
        url: &str,
    ) -> Result<Self::Account, AcmeError> {
        Ok(match self {
            Self::Live(port) => Either::Live(port.sign_in(authority, key, url).await?),
            Self::DryRun(port) => Either::DryRun(port.sign_in(authority, key, url).await?),
        })
    }
}

impl<L: Account, P: Account> Account for Either<L, P> {
    type Order = Either<L::Order, P::Order>;

    pass_on! { &self:
        profiles() -> Vec<String>;
    }

    pass_on! { async &self:
        set_contact(contact: &[String]) -> Result<(), AcmeError>;
        revoke(certificate: &[u8], reason: Reason) -> Result<(), AcmeError>;
    }

    async fn new_order(
        &self,
        names: &[DnsName],
        profile: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Self::Order, AcmeError> {
        Ok(match self {
            Self::Live(port) => Either::Live(port.new_order(names, profile, replaces).await?),
            Self::DryRun(port) => Either::DryRun(port.new_order(names, profile, replaces).await?),
        })
    }

    async fn order(&self, url: &str) -> Result<Self::Order, AcmeError> {
        Ok(match self {
            Self::Live(port) => Either::Live(port.order(url).await?),
            Self::DryRun(port) => Either::DryRun(port.order(url).await?),
        })
    }
}

impl<L: Order, P: Order> Order for Either<L, P> {
    pass_on! { &self:
        url() -> &str;
        status() -> OrderStatus;
        error() -> Option<AcmeError>;
        ignores_replaces() -> bool;
    }

    pass_on! { async &mut self:
        refresh() -> Result<Option<Duration>, AcmeError>;
        authorizations(fresh: bool) -> Result<Vec<Authorization>, AcmeError>;
        answer() -> Result<(), AcmeError>;
        finalize(csr: &[u8]) -> Result<Option<Duration>, AcmeError>;
        certificate() -> Result<String, AcmeError>;
    }
}

impl<L: CertificateManager, P: CertificateManager> CertificateManager for Either<L, P> {
    pass_on! { async &self:
        import_new(material: &Material<'_>, tags: &BTreeMap<String, String>)
            -> Result<CertificateArn, ServiceError>;
        import_over(arn: &CertificateArn, material: &Material<'_>) -> Result<(), ServiceError>;
        describe(arn: &CertificateArn) -> Result<Option<Described>, ServiceError>;
        tags(arn: &CertificateArn) -> Result<Option<BTreeMap<String, String>>, ServiceError>;
        change_tags(arn: &CertificateArn, gone: &[String], set: &BTreeMap<String, String>)
            -> Result<(), ServiceError>;
        leaf_pem(arn: &CertificateArn) -> Result<Option<String>, ServiceError>;
        list() -> Result<Vec<Listed>, ServiceError>;
        delete(arn: &CertificateArn) -> Result<Deletion, ServiceError>;
    }
}

impl<L: LoadBalancer, P: LoadBalancer> LoadBalancer for Either<L, P> {
    pass_on! { async &self:
        listener(arn: &ListenerArn) -> Result<Option<Listener>, ServiceError>;
        on_port(load_balancer: &LoadBalancerArn, number: u16)
            -> Result<Option<ListenerArn>, ServiceError>;
        create(new: &NewListener, certificate: &str, tags: &BTreeMap<String, String>)
            -> Result<ListenerArn, AttachError>;
        certificates(arn: &ListenerArn) -> Result<Holding, ServiceError>;
        add(arn: &ListenerArn, certificate: &str) -> Result<(), AttachError>;
        set_default(arn: &ListenerArn, certificate: &str) -> Result<(), AttachError>;
        remove(arn: &ListenerArn, certificate: &str) -> Result<(), ServiceError>;
        balancer(arn: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError>;
        rules_on(arn: &LoadBalancerArn, port: u16) -> Result<Option<RuledListener>, ServiceError>;
        function_groups() -> Result<Vec<TargetGroupArn>, ServiceError>;
        web_acl(arn: &LoadBalancerArn) -> Result<Option<String>, ServiceError>;
    }
}

/// Everything outside, live or planned.
pub struct LiveOrDryRun<'p, L: Ports> {
    ports: Either<&'p L, &'p DryRunPorts<'p, L>>,
    store: Either<&'p L::Store, &'p DryRunStore<'p, L::Store>>,
    authorities: Either<&'p L::Authorities, &'p DryRunAuthorities<'p, L>>,
}

impl<'p, L: Ports> LiveOrDryRun<'p, L> {
    /// Everything live.
    pub fn live(ports: &'p L) -> Self {
        Self {
            ports: Either::Live(ports),
            store: Either::Live(ports.store()),
            authorities: Either::Live(ports.authorities()),
        }
    }

    /// Everything planned.
    pub(super) fn dry_run(ports: &'p DryRunPorts<'p, L>) -> Self {
        Self {
            ports: Either::DryRun(ports),
            store: Either::DryRun(ports.store()),
            authorities: Either::DryRun(ports.authorities()),
        }
    }
}

impl<'p, L: Ports> Ports for LiveOrDryRun<'p, L> {
    type Store = Either<&'p L::Store, &'p DryRunStore<'p, L::Store>>;
    type Authorities = Either<&'p L::Authorities, &'p DryRunAuthorities<'p, L>>;
    type CertificateManager =
        Either<L::CertificateManager, DryRunCertificateManager<L::CertificateManager>>;
    type LoadBalancer = Either<L::LoadBalancer, DryRunLoadBalancer<L::LoadBalancer>>;
    type Resolver = L::Resolver;

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn authorities(&self) -> &Self::Authorities {
        &self.authorities
    }

    fn certificate_manager(&self, region: &str) -> Self::CertificateManager {
        match self.ports {
            Either::Live(ports) => Either::Live(ports.certificate_manager(region)),
            Either::DryRun(ports) => Either::DryRun(ports.certificate_manager(region)),
        }
    }

    fn load_balancer(&self, region: &str) -> Self::LoadBalancer {
        match self.ports {
            Either::Live(ports) => Either::Live(ports.load_balancer(region)),
            Either::DryRun(ports) => Either::DryRun(ports.load_balancer(region)),
        }
    }

    fn resolver(&self, servers: Option<&[SocketAddr]>) -> L::Resolver {
        match self.ports {
            Either::Live(ports) => ports.resolver(servers),
            Either::DryRun(ports) => ports.resolver(servers),
        }
    }

    async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String> {
        match self.ports {
            Either::Live(ports) => ports.new_key(key_type).await,
            Either::DryRun(ports) => ports.new_key(key_type).await,
        }
    }

    async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError> {
        match self.ports {
            Either::Live(ports) => ports.secret(arn).await,
            Either::DryRun(ports) => ports.secret(arn).await,
        }
    }

    async fn fetch(
        &self,
        name: &DnsName,
        token: &str,
        key: &str,
        connect_to: Option<&str>,
        limit: Duration,
    ) -> Fetched {
        match self.ports {
            Either::Live(ports) => ports.fetch(name, token, key, connect_to, limit).await,
            Either::DryRun(ports) => ports.fetch(name, token, key, connect_to, limit).await,
        }
    }

    async fn handshake(&self, question: &Question<'_>, limit: Duration) -> Proven {
        match self.ports {
            Either::Live(ports) => ports.handshake(question, limit).await,
            Either::DryRun(ports) => ports.handshake(question, limit).await,
        }
    }

    async fn send(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        match self.ports {
            Either::Live(ports) => ports.send(channel, message).await,
            Either::DryRun(ports) => ports.send(channel, message).await,
        }
    }

    fn is_public(&self, chain_pem: &str, name: &str, at: OffsetDateTime) -> Option<bool> {
        match self.ports {
            Either::Live(ports) => ports.is_public(chain_pem, name, at),
            Either::DryRun(ports) => ports.is_public(chain_pem, name, at),
        }
    }
}
