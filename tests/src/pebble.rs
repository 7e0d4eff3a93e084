//! Pebble, Let's Encrypt's test authority, and the DNS it asks.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;

use crate::browser::Leaf;
use crate::http::{self, Request};
use crate::process::Process;
use crate::tls::{self, PrivateAuthority};
use crate::tool;

const DAY: u64 = 24 * 60 * 60;

/// How a Pebble behaves.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// Validity in seconds by profile.
    pub profiles: Vec<(String, u64)>,
    /// Key id and base64url MAC key an account must be bound to, if any.
    pub external_account: Option<(String, String)>,
    /// The Retry-After seconds for authorizations and orders; 0 sends none.
    pub retry_after: (u32, u32),
    /// Names it refuses to issue for.
    pub blocked: Vec<String>,
    /// Percentage of valid authorizations used again; `None` is Pebble's own 50.
    pub reuse: Option<u8>,
    /// Percentage of good nonces rejected; `None` is Pebble's own 5.
    pub nonces_rejected: Option<u8>,
    /// Number of intermediates.
    pub chain_length: u8,
}

impl Default for PebbleOptions {
    fn default() -> Self {
        Self {
            profiles: vec![
                ("default".into(), 90 * DAY),
                ("tlsserver".into(), 45 * DAY),
                ("shortlived".into(), 6 * DAY),
            ],
            external_account: None,
            retry_after: (0, 0),
            blocked: vec!["blocked.example".into()],
            reuse: None,
            nonces_rejected: None,
            chain_length: 1,
        }
    }
}

/// Where the parts of it listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) acme: SocketAddr,
    pub(crate) management: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) dns_management: SocketAddr,
    /// Where all validation goes, and by default every name.
    pub(crate) http_port: u16,
    pub(crate) tls_port: u16,
    pub(crate) default_address: IpAddr,
}

/// A running Pebble.
#[derive(Debug)]
pub struct Pebble {
    addresses: Addresses,
    authority_root: String,
    pebble: Process,
    _dns: Process,
}

impl Pebble {
    pub(crate) async fn start(
        addresses: Addresses,
        options: &PebbleOptions,
        authority: &PrivateAuthority,
        directory: &Path,
    ) -> Self {
        let (chain, key) = authority.issue(&["localhost", &addresses.acme.ip().to_string()]);
        let file = |name: &str, content: String| {
            let path = directory.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let profiles = options.profiles.iter().map(|(name, seconds)| {
            let profile = json!({"description": name, "validityPeriod": seconds});
            (name.clone(), profile)
        });
        let keys = options.external_account.iter();
        let keys = keys.map(|(id, key)| (id.clone(), Value::from(key.clone())));
        let config = json!({"pebble": {
            "listenAddress": addresses.acme.to_string(),
            "managementListenAddress": addresses.management.to_string(),
            "certificate": file("pebble.pem", chain),
            "privateKey": file("pebble.key", key),
            "httpPort": addresses.http_port,
            "tlsPort": addresses.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": options.external_account.is_some(),
            "externalAccountMACKeys": keys.collect::<serde_json::Map<_, _>>(),
            "domainBlocklist": options.blocked,
            "retryAfter": {"authz": options.retry_after.0, "order": options.retry_after.1},
            "keyAlgorithm": "ecdsa",
            "profiles": profiles.collect::<serde_json::Map<_, _>>(),
        }});
        let config = file("pebble.json", config.to_string());

        let mut dns = Command::new(program("pebble-challtestsrv"));
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .args(["-defaultIPv4", &addresses.default_address.to_string()])
            .args(["-defaultIPv6", ""])
            .args(["-dnsserver", &addresses.dns.to_string()])
            .args(["-management", &addresses.dns_management.to_string()]);
        let dns = Process::start_watched("pebble-challtestsrv", &dns).unwrap();

        let mut pebble = Command::new(program("pebble"));
        pebble
            .arg("-config")
            .arg(config)
            .args(["-dnsserver", &addresses.dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_CHAIN_LENGTH", options.chain_length.to_string());
        if let Some(share) = options.reuse {
            pebble.env("PEBBLE_AUTHZREUSE", share.to_string());
        }
        if let Some(share) = options.nonces_rejected {
            pebble.env("PEBBLE_WFE_NONCEREJECT", share.to_string());
        }
        let pebble = Process::start_watched("pebble", &pebble).unwrap();
        for (name, process, address) in [
            ("pebble", &pebble, addresses.acme),
            ("pebble", &pebble, addresses.management),
            ("pebble-challtestsrv", &dns, addresses.dns_management),
        ] {
            reachable(name, process, address).await;
        }
        Self {
            addresses,
            authority_root: authority.root_pem(),
            pebble,
            _dns: dns,
        }
    }

    /// Returns the PEM of the root its certificates lead to.
    pub async fn root(&self) -> String {
        self.management("/roots/0").await
    }

    /// Returns the PEM of the intermediate its certificates are issued by.
    pub async fn intermediate(&self) -> String {
        self.management("/intermediates/0").await
    }

    /// Lets a name lead to an address.
    pub async fn point(&self, name: &str, address: IpAddr) {
        self.dns(
            "add-a",
            json!({"host": name, "addresses": [address.to_string()]}),
        )
        .await;
    }

    /// Returns the address of the DNS it asks.
    pub fn dns_server(&self) -> SocketAddr {
        self.addresses.dns
    }

    /// Calls the DNS helper's management interface: `add-txt`, `set-cname`, `add-caa`, `clear-a`.
    pub async fn dns(&self, verb: &str, body: Value) {
        let address = self.addresses.dns_management;
        let mut request = Request::get(&address.to_string(), &format!("/{verb}"));
        request.method = "POST".into();
        request.body = body.to_string().into_bytes();
        let stream = TcpStream::connect(address).await.unwrap();
        let response = http::exchange(stream, request).await.unwrap();
        assert_eq!(response.status, 200, "{verb}: {}", response.text());
    }

    /// Returns what Pebble has printed.
    pub fn output(&self) -> Vec<String> {
        self.pebble.output()
    }

    /// Fetches a path of the management interface: `/roots/0`, `/cert-status-by-serial/<hex>`.
    pub async fn management(&self, path: &str) -> String {
        let request = Request::get(&self.addresses.management.to_string(), path);
        self.manage(request).await
    }

    /// Sets what it answers from now on when it is asked for a certificate's renewal information (RFC 9773). It checks
    /// nothing of it, so this need not be JSON.
    pub async fn set_renewal_information(&self, certificate: &Leaf, answer: &str) {
        let path = "/set-renewal-info/";
        let mut request = Request::get(&self.addresses.management.to_string(), path);
        request.method = "POST".into();
        let body = json!({"Certificate": certificate.pem(), "ARIResponse": answer});
        request.body = body.to_string().into_bytes();
        self.manage(request).await;
    }

    /// Suggests that a certificate be replaced between two instants, with a page that says why.
    pub async fn suggest(
        &self,
        certificate: &Leaf,
        window: Range<OffsetDateTime>,
        explanation: Option<&str>,
    ) {
        let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
        let window = json!({"start": text(window.start), "end": text(window.end)});
        let mut answer = json!({"suggestedWindow": window});
        if let Some(explanation) = explanation {
            answer["explanationURL"] = explanation.into();
        }
        self.set_renewal_information(certificate, &answer.to_string())
            .await;
    }

    async fn manage(&self, request: Request) -> String {
        let path = request.target.clone();
        let address = self.addresses.management;
        let client = tls::client_config(&self.authority_root);
        let stream = tls::connect(client, address, &address.ip().to_string())
            .await
            .unwrap();
        let response = http::exchange(stream, request).await.unwrap();
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.text()
    }
}

async fn reachable(name: &str, process: &Process, address: SocketAddr) {
    for _ in 0..2000 {
        if TcpStream::connect(address).await.is_ok() {
            return;
        }
        if process.exited().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!(
        "{name} does not answer on {address}:\n{}",
        process.output().join("\n")
    );
}

/// Prefers the installed program to the one in PATH, as the set-up does.
fn program(name: &str) -> PathBuf {
    let installed = tool(&format!("pebble/{name}"));
    if installed.exists() {
        installed
    } else {
        PathBuf::from(name)
    }
}
