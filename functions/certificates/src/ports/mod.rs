//! Traits for what is outside, one thing each, in our types. Imports `records` and above.

pub mod authority;
pub mod certificate_manager;
pub mod dns;
pub mod load_balancer;
pub mod probe;
pub mod store;

use std::net::SocketAddr;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::contract::message::Message;
use crate::contract::settings::Channel;
use crate::ports::authority::Authorities;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::dns::Resolver;
use crate::ports::load_balancer::LoadBalancer;
use crate::ports::probe::{Fetched, Proven, Question};
use crate::ports::store::Store;
use crate::values::key::{KeyType, PrivateKey};
use crate::values::names::DnsName;
use crate::values::problem::ServiceError;

/// Everything outside that a pass talks to.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Ports {
    /// The bucket.
    type Store: Store;
    /// The certificate authorities.
    type Authorities: Authorities;
    /// The certificate manager of a region.
    type CertificateManager: CertificateManager;
    /// The load balancers of a region.
    type LoadBalancer: LoadBalancer;
    /// The DNS.
    type Resolver: Resolver;

    /// Returns the bucket.
    fn store(&self) -> &Self::Store;
    /// Returns the authorities.
    fn authorities(&self) -> &Self::Authorities;
    /// Returns the certificate manager of a region.
    fn certificate_manager(&self, region: &str) -> Self::CertificateManager;
    /// Returns the load balancers of a region.
    fn load_balancer(&self, region: &str) -> Self::LoadBalancer;
    /// Returns the DNS as these servers tell it, or those of the system.
    fn resolver(&self, servers: Option<&[SocketAddr]>) -> Self::Resolver;
    /// Makes a private key. Large RSA keys take seconds: the other certificates of the pass go on meanwhile.
    async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String>;
    /// Reads a secret.
    async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError>;
    /// Fetches a challenge as the authority will.
    async fn fetch(
        &self,
        name: &DnsName,
        token: &str,
        key_authorization: &str,
        connect_to: Option<&str>,
        limit: Duration,
    ) -> Fetched;
    /// Returns whether an issued chain leads to a trust root of the platform for this name, or `None` when that cannot be told.
    fn is_public(&self, chain_pem: &str, name: &str, at: OffsetDateTime) -> Option<bool>;
    /// Sends a message; says in words why the channel did not take it. Never names a secret.
    async fn send(&self, channel: &Channel, message: &Message) -> Result<(), String>;
    /// Looks at what is served.
    async fn handshake(&self, question: &Question<'_>, limit: Duration) -> Proven;
}
