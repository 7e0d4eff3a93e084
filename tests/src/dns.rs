//! The DNS that every authority of a cloud asks (pebble-challtestsrv). A name leads to the first
//! installation and has no other records, unless a test says otherwise.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::http::{self, Request};
use crate::pebble::{program, reachable};
use crate::process::Process;

/// A running DNS.
#[derive(Debug)]
pub struct Dns {
    server: SocketAddr,
    management: SocketAddr,
    _process: Process,
}

impl Dns {
    pub(crate) async fn start(
        server: SocketAddr,
        management: SocketAddr,
        default_address: IpAddr,
    ) -> Self {
        let mut command = Command::new(program("pebble-challtestsrv"));
        command
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .args(["-defaultIPv4", &default_address.to_string()])
            .args(["-defaultIPv6", ""])
            .args(["-dnsserver", &server.to_string()])
            .args(["-management", &management.to_string()]);
        let process = Process::start_watched("pebble-challtestsrv", &command).unwrap();
        reachable("pebble-challtestsrv", &process, management).await;
        Self {
            server,
            management,
            _process: process,
        }
    }

    /// Returns its address, for UDP and TCP: the value for `dns.servers`.
    pub fn address(&self) -> SocketAddr {
        self.server
    }

    /// Adds addresses to a name: A or AAAA records.
    pub async fn lead(&self, name: &str, addresses: &[IpAddr]) {
        for (verb, v6) in [("add-a", false), ("add-aaaa", true)] {
            let addresses = addresses.iter().filter(|address| address.is_ipv6() == v6);
            let addresses: Vec<_> = addresses.map(ToString::to_string).collect();
            if !addresses.is_empty() {
                let body = json!({"host": name, "addresses": addresses});
                self.call(verb, body).await;
            }
        }
    }

    /// Sets the addresses of a name. Without any, the name leads to the first installation again.
    pub async fn lead_only(&self, name: &str, addresses: &[IpAddr]) {
        for verb in ["clear-a", "clear-aaaa"] {
            self.call(verb, json!({"host": name})).await;
        }
        self.lead(name, addresses).await;
    }

    /// Sets the CAA records of a name, as pairs of tag and value:
    /// `("issue", "ca.example; validationmethods=http-01")`.
    pub async fn set_caa(&self, name: &str, policies: &[(&str, &str)]) {
        self.call("clear-caa", json!({"host": name})).await;
        if !policies.is_empty() {
            let policies = policies.iter();
            let policies = policies.map(|(tag, value)| json!({"tag": tag, "value": value}));
            let policies = Value::from_iter(policies);
            self.call("add-caa", json!({"host": name, "policies": policies}))
                .await;
        }
    }

    /// Makes a name an alias of another. Only one alias is followed, as by a server that would have
    /// to ask for two zones.
    pub async fn set_cname(&self, name: &str, target: &str) {
        self.call("set-cname", json!({"host": name, "target": target}))
            .await;
    }

    /// Removes the alias of a name.
    pub async fn clear_cname(&self, name: &str) {
        self.call("clear-cname", json!({"host": name})).await;
    }

    /// Answers every question about a name with SERVFAIL.
    pub async fn set_servfail(&self, name: &str) {
        self.call("set-servfail", json!({"host": name})).await;
    }

    /// Answers questions about a name again.
    pub async fn clear_servfail(&self, name: &str) {
        self.call("clear-servfail", json!({"host": name})).await;
    }

    /// Calls the management interface: `add-txt`, `set-cname`, `clear-a`.
    pub async fn call(&self, verb: &str, body: Value) {
        let mut request = Request::get(&self.management.to_string(), &format!("/{verb}"));
        request.method = "POST".into();
        request.body = body.to_string().into_bytes();
        let stream = TcpStream::connect(self.management).await.unwrap();
        let response = http::exchange(stream, request).await.unwrap();
        assert_eq!(response.status, 200, "{verb}: {}", response.text());
    }
}
