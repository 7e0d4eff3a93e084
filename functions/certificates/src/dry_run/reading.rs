//! The live ports as a plan sees them. They have only the calls that read, so a plan cannot change
//! anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::contract::settings::Authority;
use crate::ports::Ports;
use crate::ports::authority::{
    Account, AccountKey, Authorities, Authorization, Order, OrderStatus, Suggested,
};
use crate::ports::certificate_manager::{CertificateManager, Described, Listed};
use crate::ports::load_balancer::{Balancer, Holding, Listener, LoadBalancer, RuledListener};
use crate::ports::store::{ListedObject, Store, StoreError, StoredObject};
use crate::values::arn::{CertificateArn, ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::key::{KeyType, PrivateKey};
use crate::values::problem::{AcmeError, ServiceError};

/// Everything outside.
pub(super) struct ReadPorts<'l, L>(&'l L);

impl<'l, L: Ports> ReadPorts<'l, L> {
    pub(super) fn of(live: &'l L) -> Self {
        Self(live)
    }

    pub(super) fn store(&self) -> ReadStore<'l, L::Store> {
        ReadStore(self.0.store())
    }

    pub(super) fn authorities(&self) -> ReadAuthorities<'l, L::Authorities> {
        ReadAuthorities(self.0.authorities())
    }

    pub(super) fn certificate_manager(
        &self,
        region: &str,
    ) -> ReadCertificateManager<L::CertificateManager> {
        ReadCertificateManager(self.0.certificate_manager(region))
    }

    pub(super) fn load_balancer(&self, region: &str) -> ReadLoadBalancer<L::LoadBalancer> {
        ReadLoadBalancer(self.0.load_balancer(region))
    }

    /// A key that is not registered anywhere changes nothing.
    pub(super) async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String> {
        self.0.new_key(key_type).await
    }

    pub(super) fn resolver(&self, servers: Option<&[SocketAddr]>) -> L::Resolver {
        self.0.resolver(servers)
    }

    pub(super) async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError> {
        self.0.secret(arn).await
    }
}

/// The bucket.
pub(super) struct ReadStore<'l, S>(&'l S);

impl<S: Store> ReadStore<'_, S> {
    pub(super) async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        self.0.read(key).await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        self.0.list(prefix).await
    }
}

/// The authorities.
pub(super) struct ReadAuthorities<'l, A>(&'l A);

impl<A: Authorities> ReadAuthorities<'_, A> {
    pub(super) fn new_key(&self) -> Result<AccountKey, AcmeError> {
        self.0.new_key()
    }

    /// Asks for the directory at most.
    pub(super) async fn sign_in(
        &self,
        authority: &Authority,
        key: &AccountKey,
        url: &str,
    ) -> Result<ReadAccount<A::Account>, AcmeError> {
        Ok(ReadAccount(self.0.sign_in(authority, key, url).await?))
    }

    pub(super) async fn caa_identities(
        &self,
        authority: &Authority,
    ) -> Result<Vec<String>, AcmeError> {
        self.0.caa_identities(authority).await
    }

    pub(super) async fn renewal_information(
        &self,
        authority: &Authority,
        certificate: &str,
    ) -> Result<Option<Suggested>, AcmeError> {
        self.0.renewal_information(authority, certificate).await
    }
}

/// An account.
pub(super) struct ReadAccount<A>(A);

impl<A: Account> ReadAccount<A> {
    pub(super) fn profiles(&self) -> Vec<String> {
        self.0.profiles()
    }

    pub(super) async fn order(&self, url: &str) -> Result<ReadOrder<A::Order>, AcmeError> {
        Ok(ReadOrder(self.0.order(url).await?))
    }
}

/// A pending order.
pub(super) struct ReadOrder<O>(O);

impl<O: Order> ReadOrder<O> {
    pub(super) fn status(&self) -> OrderStatus {
        self.0.status()
    }

    pub(super) fn error(&self) -> Option<AcmeError> {
        self.0.error()
    }

    pub(super) async fn refresh(&mut self) -> Result<Option<Duration>, AcmeError> {
        self.0.refresh().await
    }

    pub(super) async fn authorizations(
        &mut self,
        fresh: bool,
    ) -> Result<Vec<Authorization>, AcmeError> {
        self.0.authorizations(fresh).await
    }

    pub(super) async fn certificate(&mut self) -> Result<String, AcmeError> {
        self.0.certificate().await
    }
}

/// The certificate manager of a region.
pub(super) struct ReadCertificateManager<C>(C);

impl<C: CertificateManager> ReadCertificateManager<C> {
    pub(super) async fn describe(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<Described>, ServiceError> {
        self.0.describe(arn).await
    }

    pub(super) async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
        self.0.tags(arn).await
    }

    pub(super) async fn leaf_pem(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<String>, ServiceError> {
        self.0.leaf_pem(arn).await
    }

    pub(super) async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        self.0.list().await
    }
}

/// The load balancers of a region.
pub(super) struct ReadLoadBalancer<B>(B);

impl<B: LoadBalancer> ReadLoadBalancer<B> {
    pub(super) async fn listener(
        &self,
        arn: &ListenerArn,
    ) -> Result<Option<Listener>, ServiceError> {
        self.0.listener(arn).await
    }

    pub(super) async fn on_port(
        &self,
        load_balancer: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<ListenerArn>, ServiceError> {
        self.0.on_port(load_balancer, port).await
    }

    pub(super) async fn certificates(&self, arn: &ListenerArn) -> Result<Holding, ServiceError> {
        self.0.certificates(arn).await
    }

    pub(super) async fn balancer(
        &self,
        arn: &LoadBalancerArn,
    ) -> Result<Option<Balancer>, ServiceError> {
        self.0.balancer(arn).await
    }

    pub(super) async fn rules_on(
        &self,
        arn: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<RuledListener>, ServiceError> {
        self.0.rules_on(arn, port).await
    }

    pub(super) async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError> {
        self.0.function_groups().await
    }

    pub(super) async fn web_acl(
        &self,
        arn: &LoadBalancerArn,
    ) -> Result<Option<String>, ServiceError> {
        self.0.web_acl(arn).await
    }
}

#[cfg(test)]
mod of {
    //! For tests, which have one port only.

    use super::{ReadCertificateManager, ReadLoadBalancer, ReadStore};

    impl<'l, S> ReadStore<'l, S> {
        pub(in super::super) fn of(store: &'l S) -> Self {
            Self(store)
        }
    }

    impl<C> ReadCertificateManager<C> {
        pub(in super::super) fn of(manager: C) -> Self {
            Self(manager)
        }
    }

    impl<B> ReadLoadBalancer<B> {
        pub(in super::super) fn of(balancer: B) -> Self {
            Self(balancer)
        }
    }
}
