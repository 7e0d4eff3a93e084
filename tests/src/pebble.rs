//! Pebble, Let's Encrypt's test authority.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;

use crate::browser::Leaf;
use crate::dns::Dns;
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
    /// The key id and base64url MAC key that an account must be bound to, if any.
    pub external_account: Option<(String, String)>,
    /// Seconds in Retry-After for authorizations and orders; 0 sends none.
    pub retry_after: (u32, u32),
    /// Names that it refuses to issue for.
    pub blocked: Vec<String>,
    /// Percentage of valid authorizations that it uses again; `None` is Pebble's own 50.
    pub reuse: Option<u8>,
    /// Percentage of good nonces that it rejects; `None` is Pebble's own 5.
    pub nonces_rejected: Option<u8>,
    /// Number of intermediates.
    pub chain_length: u8,
    /// The issuer domain names for CAA records in its directory. Pebble itself ignores CAA records.
    pub caa_identities: Vec<String>,
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
            caa_identities: Vec::new(),
        }
    }
}

/// The addresses of its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) acme: SocketAddr,
    pub(crate) management: SocketAddr,
    /// The target of all validations.
    pub(crate) http_port: u16,
    pub(crate) tls_port: u16,
}

/// A running Pebble.
#[derive(Debug)]
pub struct Pebble {
    addresses: Addresses,
    authority_root: String,
    pebble: Process,
    dns: Arc<Dns>,
}

impl Pebble {
    pub(crate) async fn start(
        addresses: Addresses,
        options: &PebbleOptions,
        dns: Arc<Dns>,
        authority: &PrivateAuthority,
        directory: &Path,
    ) -> Self {
        let (chain, key) = authority.issue(&["localhost", &addresses.acme.ip().to_string()]);
        let file = |name: &str, content: String| {
            let path = directory.join(format!("{}-{name}", addresses.acme.ip()));
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
            "caaIdentities": options.caa_identities,
            "retryAfter": {"authz": options.retry_after.0, "order": options.retry_after.1},
            "keyAlgorithm": "ecdsa",
            "profiles": profiles.collect::<serde_json::Map<_, _>>(),
        }});
        let config = file("pebble.json", config.to_string());

        let mut pebble = Command::new(program("pebble"));
        pebble
            .arg("-config")
            .arg(config)
            .args(["-dnsserver", &dns.address().to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_CHAIN_LENGTH", options.chain_length.to_string());
        if let Some(share) = options.reuse {
            pebble.env("PEBBLE_AUTHZREUSE", share.to_string());
        }
        if let Some(share) = options.nonces_rejected {
            pebble.env("PEBBLE_WFE_NONCEREJECT", share.to_string());
        }
        let pebble = Process::start_watched("pebble", &pebble).unwrap();
        for address in [addresses.acme, addresses.management] {
            reachable("pebble", &pebble, address).await;
        }
        Self {
            addresses,
            authority_root: authority.root_pem(),
            pebble,
            dns,
        }
    }

    /// Returns the PEM of the root that its certificates lead to.
    pub async fn root(&self) -> String {
        self.management("/roots/0").await
    }

    /// Returns the PEM of the intermediate that issues its certificates.
    pub async fn intermediate(&self) -> String {
        self.management("/intermediates/0").await
    }

    /// Points a name to an address, in the DNS that it uses.
    pub async fn point(&self, name: &str, address: IpAddr) {
        self.dns.lead(name, &[address]).await;
    }

    /// Returns the address of the DNS that it uses.
    pub fn dns_server(&self) -> SocketAddr {
        self.dns.address()
    }

    /// Calls the management interface of the DNS that it uses: `add-txt`, `clear-a`.
    pub async fn dns(&self, verb: &str, body: Value) {
        self.dns.call(verb, body).await;
    }

    /// Returns the revocation reason (RFC 5280 section 5.3.1) of the certificate with a serial
    /// number (hexadecimal). `None` when it is not revoked.
    pub async fn revoked(&self, serial: &str) -> Option<u64> {
        let path = format!("/cert-status-by-serial/{serial}");
        let status: Value = serde_json::from_str(&self.management(&path).await).unwrap();
        match status["Status"].as_str() {
            Some("Revoked") => Some(status["Reason"].as_u64().unwrap_or_default()),
            Some("Valid") => None,
            _ => panic!("{serial}: {status}"),
        }
    }

    /// Returns Pebble's output.
    pub fn output(&self) -> Vec<String> {
        self.pebble.output()
    }

    /// Fetches a path of the management interface: `/roots/0`, `/cert-status-by-serial/<hex>`.
    pub async fn management(&self, path: &str) -> String {
        let request = Request::get(&self.addresses.management.to_string(), path);
        self.manage(request).await
    }

    /// Sets its next answers to a request for a certificate's renewal information (RFC 9773). It
    /// does not check them, so they need not be JSON.
    pub async fn set_renewal_information(&self, certificate: &Leaf, answer: &str) {
        let path = "/set-renewal-info/";
        let mut request = Request::get(&self.addresses.management.to_string(), path);
        request.method = "POST".into();
        let body = json!({"Certificate": certificate.pem(), "ARIResponse": answer});
        request.body = body.to_string().into_bytes();
        self.manage(request).await;
    }

    /// Suggests to replace a certificate between two instants, with a page that gives the reason.
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

pub(crate) async fn reachable(name: &str, process: &Process, address: SocketAddr) {
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
pub(crate) fn program(name: &str) -> PathBuf {
    let installed = tool(&format!("pebble/{name}"));
    if installed.exists() {
        installed
    } else {
        PathBuf::from(name)
    }
}
