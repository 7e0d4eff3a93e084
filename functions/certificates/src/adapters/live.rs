//! The live ports of a pass: AWS, the authorities, the network.

use std::net::SocketAddr;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::adapters::acme::Acme;
use crate::adapters::aws::{Aws, Bucket, CertificateManagerClient, LoadBalancerClient};
use crate::adapters::challenge_fetch;
use crate::adapters::dns::DnsClient;
use crate::adapters::network;
use crate::adapters::served_leaf;
use crate::adapters::webhook::Webhooks;
use crate::contract::message::Message;
use crate::contract::settings::Channel;
use crate::ports::Ports;
use crate::ports::probe::{Fetched, Proven, Question};
use crate::rules::wording;
use crate::values::key::{KeyType, PrivateKey};
use crate::values::names::DnsName;
use crate::values::problem::ServiceError;

/// Everything outside, live.
pub struct Live {
    aws: Aws,
    bucket: Bucket,
    authorities: Acme,
    webhooks: Webhooks,
}

impl Live {
    /// Opens the bucket. `kms_key_arn` encrypts accounts and the vault.
    pub fn new(aws: Aws, bucket: String, kms_key_arn: Option<String>) -> Self {
        let bucket = aws.bucket(bucket, kms_key_arn);
        Self {
            aws,
            bucket,
            authorities: Acme::default(),
            webhooks: Webhooks::default(),
        }
    }
}

impl Ports for Live {
    type Store = Bucket;
    type Authorities = Acme;
    type CertificateManager = CertificateManagerClient;
    type LoadBalancer = LoadBalancerClient;
    type Resolver = DnsClient;

    fn store(&self) -> &Bucket {
        &self.bucket
    }

    fn authorities(&self) -> &Acme {
        &self.authorities
    }

    fn certificate_manager(&self, region: &str) -> CertificateManagerClient {
        self.aws.certificate_manager(region)
    }

    fn load_balancer(&self, region: &str) -> LoadBalancerClient {
        self.aws.load_balancer(region)
    }

    fn resolver(&self, servers: Option<&[SocketAddr]>) -> DnsClient {
        DnsClient::new(servers)
    }

    async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String> {
        let made = tokio::task::spawn_blocking(move || PrivateKey::generate(key_type)).await;
        made.map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError> {
        self.aws.secret(arn).await
    }

    async fn fetch(
        &self,
        name: &DnsName,
        token: &str,
        key_authorization: &str,
        connect_to: Option<&str>,
        limit: Duration,
    ) -> Fetched {
        challenge_fetch::fetch(name, token, key_authorization, connect_to, limit).await
    }

    fn is_public(&self, chain_pem: &str, name: &str, at: OffsetDateTime) -> Option<bool> {
        network::is_public(chain_pem, name, at)
    }

    async fn send(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        let told = |error: ServiceError| error.to_string();
        match channel {
            Channel::Topic { arn } => self.aws.publish(arn, message).await.map_err(told),
            Channel::EventBus { bus } => self.aws.put_event(bus, message).await.map_err(told),
            Channel::Webhook { secret_arn, format } => {
                let url = self.aws.secret(secret_arn).await.map_err(told)?;
                let body = wording::body(message, *format);
                self.webhooks.post(&url, &message.id, &body).await
            }
        }
    }

    async fn handshake(&self, question: &Question<'_>, limit: Duration) -> Proven {
        served_leaf::handshake_all(question, limit).await
    }
}
