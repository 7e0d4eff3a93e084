//! One more certificate authority beside the cloud's own: for fallbacks and rehearsals.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::lambda::Lambda;
use crate::pebble::Pebble;
use crate::proxy::{Proxy, Sent, Service};
use crate::tls::{self, PrivateAuthority};

/// A separate Pebble behind its own wire. It uses the same DNS as the first one.
#[derive(Debug)]
pub struct Authority {
    address: SocketAddr,
    pebble: Pebble,
    wire: Proxy,
    roots: String,
    directory_root: String,
}

impl Authority {
    /// Puts a wire in front of a Pebble.
    pub(crate) async fn open(
        address: SocketAddr,
        pebble: Pebble,
        upstream: SocketAddr,
        authority: &PrivateAuthority,
        lambda: Lambda,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let wire = acme_wire(listener, upstream, authority, lambda);
        Self {
            address,
            wire,
            roots: pebble.root().await,
            pebble,
            directory_root: authority.root_pem(),
        }
    }

    /// Returns its entry for the settings' `authorities`.
    pub fn settings(&self) -> Value {
        json!({
            "directory": self.directory(),
            "contact": ["mailto:ops@example.com"],
            "termsOfServiceAgreed": true,
            "rootCertificate": format!("{}{}", self.directory_root, self.roots),
        })
    }

    /// Returns the URL of its directory, as the functions reach it.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Returns the PEM of the root that its certificates lead to.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// Returns the Pebble itself.
    pub fn pebble(&self) -> &Pebble {
        &self.pebble
    }

    /// Returns the wire to it.
    pub fn wire(&self) -> &Proxy {
        &self.wire
    }

    /// Returns whether it has received any request.
    pub fn heard(&self, sent: &Sent) -> bool {
        sent.service == Service::Acme && sent.host == self.address.to_string()
    }
}

/// Starts the wire in front of a Pebble, with TLS on both sides.
pub(crate) fn acme_wire(
    listener: TcpListener,
    upstream: SocketAddr,
    authority: &PrivateAuthority,
    lambda: Lambda,
) -> Proxy {
    let address = listener.local_addr().unwrap();
    let (chain, key) = authority.issue(&["localhost", &address.ip().to_string()]);
    let outer = tls::server_config(&chain, &key).unwrap();
    let inner = tls::client_config(&authority.root_pem());
    let tls = Some((outer, inner));
    Proxy::start(Service::Acme, listener, upstream, tls, lambda)
}
