//! The local cloud, which the end-to-end tests, `make demo` and the benchmarks run on.
//!
//! [`LocalCloud`] starts a stand-in for AWS, a real certificate authority (Pebble) with its DNS,
//! and the Lambda Runtime API in front of the real function binaries. Between them is a wire that
//! counts, records and disturbs requests. An [`Installation`] is one certloop in it: a bucket, two
//! functions and a load balancer. The load balancer's two ports follow the listeners in the
//! stand-in for AWS. The functions do not notice that they are not on AWS.
//!
//! Each cloud has its own loopback network (`127.a.b.0/24`), so any number of clouds can run side
//! by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a stand-in that cannot do its work should end its test, loudly"
)]

pub mod accent;
pub mod acme2certifier;
pub mod authority;
pub mod aws;
pub mod browser;
pub mod chromium;
pub mod dns;
pub mod function_url;
pub mod http;
mod installation;
pub mod lambda;
pub mod lambda_api;
pub mod load_balancer;
mod losses;
pub mod nginx;
pub mod operator;
pub mod pebble;
pub mod process;
pub mod proxy;
mod receiver;
pub mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::net::TcpListener;

pub use crate::acme2certifier::Acme2certifier;
pub use crate::authority::Authority;
pub use crate::aws::Aws;
pub use crate::browser::Leaf;
pub use crate::dns::Dns;
pub use crate::function_url::FunctionUrl;
pub use crate::http::{Response, Stall};
pub use crate::installation::{Installation, Listed};
pub use crate::lambda::{Function, FunctionError, Invocation, Lambda, Moment, Plan};
pub use crate::lambda_api::LambdaApi;
pub use crate::load_balancer::Visit;
pub use crate::losses::Loss;
pub use crate::nginx::Nginx;
pub use crate::operator::{Operator, Ran};
pub use crate::pebble::{Pebble, PebbleOptions};
pub use crate::proxy::{Broken, Fault, Proxy, Sent, Service};
pub use crate::receiver::{Post, Receiver};
pub use crate::tls::PrivateAuthority;

/// The account of everything here.
pub const ACCOUNT: &str = "123456789012";
/// The region of everything here, unless a test says otherwise.
pub const REGION: &str = "us-east-1";

const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 8443;
const ACME_PORT: u16 = 14000;

/// A cloud on this machine. Everything in it ends when it is dropped. The drop panics if certloop
/// took from a visitor what did not belong to certloop, unless the test called
/// [`LocalCloud::may_lose`].
#[derive(Debug)]
pub struct LocalCloud {
    shared: Arc<Shared>,
    may_lose: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lambda: Lambda,
    pub(crate) to_aws: Proxy,
    pub(crate) to_acme: Proxy,
    pub(crate) aws: Arc<Aws>,
    pub(crate) dns: Arc<Dns>,
    pub(crate) pebble: Pebble,
    pub(crate) authority: PrivateAuthority,
    pub(crate) directory: String,
    network: [u8; 2],
    installations: AtomicU8,
    authorities: AtomicU8,
    others: AtomicU8,
    files: Directory,
}

impl LocalCloud {
    /// Starts a cloud.
    pub async fn start() -> Self {
        Self::start_with(PebbleOptions::default()).await
    }

    /// Starts a cloud whose certificate authority has these habits.
    pub async fn start_with(options: PebbleOptions) -> Self {
        let files = Directory::new();
        let authority = PrivateAuthority::new();
        let (network, aws_listener) = claim_network().await;
        let at = |host: u8, port: u16| address(network, host, port);
        let acme = at(2, ACME_PORT);
        let acme_listener = TcpListener::bind(acme).await.unwrap();
        let addresses = pebble_addresses(network, 3);
        let pebble = async {
            let dns = Dns::start(at(4, 8053), at(4, 8055), at(10, 0).ip()).await;
            let dns = Arc::new(dns);
            let pebble = Pebble::start(addresses, &options, dns.clone(), &authority, &files.0);
            (pebble.await, dns)
        };
        let (aws, (pebble, dns)) = tokio::join!(Aws::start(), pebble);
        let aws = Arc::new(aws);

        let endpoint = format!("http://{}", aws_listener.local_addr().unwrap());
        let lambda = Lambda::new(
            vec![("AWS_ENDPOINT_URL".into(), endpoint)],
            tool("faketime/libfaketime.so.1"),
        );
        let to_aws = Proxy::start(
            Service::Aws,
            aws_listener,
            aws.address(),
            None,
            lambda.clone(),
        );
        let to_acme =
            authority::acme_wire(acme_listener, addresses.acme, &authority, lambda.clone());
        Self {
            shared: Arc::new(Shared {
                lambda,
                to_aws,
                to_acme,
                aws,
                dns,
                pebble,
                authority,
                directory: format!("https://{acme}/dir"),
                network,
                installations: AtomicU8::new(0),
                authorities: AtomicU8::new(0),
                others: AtomicU8::new(0),
                files,
            }),
            may_lose: AtomicBool::new(false),
        }
    }

    /// Allows certloop to take from visitors what does not belong to it (rule 12): the end of the
    /// cloud does not check it.
    pub fn may_lose(&self) {
        self.may_lose.store(true, Ordering::Relaxed);
    }

    /// Installs certloop: bucket, functions, load balancer, settings. Names lead to the first
    /// installation unless a test points them elsewhere.
    pub async fn install(&self, name: &str) -> Installation {
        let host = 10 + self.shared.installations.fetch_add(1, Ordering::Relaxed);
        let ports = (
            address(self.shared.network, host, HTTP_PORT),
            address(self.shared.network, host, HTTPS_PORT),
        );
        Installation::new(self.shared.clone(), name, ports).await
    }

    /// Starts one more certificate authority. Installations use it only if their settings name it.
    pub async fn another_authority(&self, options: PebbleOptions) -> Authority {
        let Shared {
            network, authority, ..
        } = &*self.shared;
        // Hosts between the cloud's own and those of the first installation.
        let number = self.shared.authorities.fetch_add(1, Ordering::Relaxed);
        assert!(number < 2, "no address is left for another authority");
        let (wire, own) = (5 + 2 * number, 6 + 2 * number);
        let addresses = pebble_addresses(*network, own);
        let dns = self.shared.dns.clone();
        let files = &self.shared.files.0;
        let pebble = Pebble::start(addresses, &options, dns, authority, files).await;
        let wire = address(*network, wire, ACME_PORT);
        let lambda = self.shared.lambda.clone();
        Authority::open(wire, pebble, addresses.acme, authority, lambda).await
    }

    /// Starts an authority that is no relative of Pebble. Installations use it only if their
    /// settings name it.
    pub async fn acme2certifier(&self) -> Acme2certifier {
        let Shared {
            dns,
            authority,
            lambda,
            ..
        } = &*self.shared;
        let addresses = (self.another(ACME_PORT), self.another(ACME_PORT));
        Acme2certifier::start(addresses, dns.address(), authority, lambda.clone()).await
    }

    /// Gives a function a URL whose name leads to it.
    pub async fn function_url(&self, function: &str) -> FunctionUrl {
        let address = self.another(443);
        let lambda = self.shared.lambda.clone();
        let url = FunctionUrl::open(function, address, lambda, &self.shared.authority).await;
        self.pebble().point(url.host(), address.ip()).await;
        url
    }

    /// Starts an nginx with these `server` blocks. It uses the cloud's DNS and trusts the
    /// certificates of function URLs.
    pub async fn nginx(&self, sites: &str) -> Nginx {
        let roots = self.shared.authority.root_pem();
        let dns = self.shared.pebble.dns_server();
        Nginx::start(sites, self.another(HTTP_PORT), dns, &roots).await
    }

    /// Starts an nginx that serves the certificate in these files.
    pub async fn nginx_over_tls(&self, chain: &Path, key: &Path) -> Nginx {
        Nginx::start_over_tls(chain, key, self.another(HTTPS_PORT)).await
    }

    /// Returns an unused address.
    fn another(&self, port: u16) -> SocketAddr {
        let host = 100 + self.shared.others.fetch_add(1, Ordering::Relaxed);
        address(self.shared.network, host, port)
    }

    /// Returns the stand-in for AWS.
    pub fn aws(&self) -> &Aws {
        &self.shared.aws
    }

    /// Returns the certificate authority.
    pub fn pebble(&self) -> &Pebble {
        &self.shared.pebble
    }

    /// Returns the DNS that all authorities use.
    pub fn dns(&self) -> &Dns {
        &self.shared.dns
    }

    /// Returns the functions.
    pub fn lambda(&self) -> &Lambda {
        &self.shared.lambda
    }

    /// Returns the wire to AWS.
    pub fn to_aws(&self) -> &Proxy {
        &self.shared.to_aws
    }

    /// Returns the wire to the certificate authority.
    pub fn to_acme(&self) -> &Proxy {
        &self.shared.to_acme
    }

    /// Returns the URL of the certificate authority's directory, as the functions reach it.
    pub fn directory(&self) -> &str {
        &self.shared.directory
    }

    /// Returns the PEM of the root behind the certificate authority's own HTTPS: the value for
    /// `rootCertificate`.
    pub fn directory_root(&self) -> String {
        self.shared.authority.root_pem()
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a second panic would end the process without the first one's message"
)]
impl Drop for LocalCloud {
    fn drop(&mut self) {
        if self.may_lose.load(Ordering::Relaxed) {
            return;
        }
        let told = match losses::breaking_rule_12(self.shared.aws.address()) {
            Ok(losses) if losses.is_empty() => return,
            Ok(losses) => {
                let lines = losses.iter().map(|loss| format!("\n  {loss}"));
                format!("rule 12: visitors lost{}", lines.collect::<String>())
            }
            Err(error) => format!("rule 12: what visitors lost is unknown: {error}"),
        };
        // A failing test prints this beside its own message.
        if std::thread::panicking() {
            eprintln!("{told}");
        } else {
            panic!("{told}");
        }
    }
}

/// Tries random loopback networks until one is free. The wire to AWS reserves it.
async fn claim_network() -> ([u8; 2], TcpListener) {
    for _ in 0..100 {
        let network = [fastrand::u8(1..=254), fastrand::u8(..)];
        if let Ok(listener) = TcpListener::bind(address(network, 1, 4566)).await {
            return (network, listener);
        }
    }
    panic!("no loopback network is free: are 127.0.0.0/8 addresses usable here?");
}

/// Returns the addresses of a Pebble at this host.
fn pebble_addresses(network: [u8; 2], host: u8) -> pebble::Addresses {
    pebble::Addresses {
        acme: address(network, host, ACME_PORT),
        management: address(network, host, 15000),
        http_port: HTTP_PORT,
        tls_port: HTTPS_PORT,
    }
}

fn address(network: [u8; 2], host: u8, port: u16) -> SocketAddr {
    let ip = Ipv4Addr::new(127, network[0], network[1], host);
    SocketAddr::new(IpAddr::V4(ip), port)
}

/// Returns the repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the path of a file that the set-up installs.
pub fn tool(path: &str) -> PathBuf {
    root().join(".tools").join(path)
}

/// Returns whether an optional program of `tests/setup` does not run, and prints which test is
/// skipped because of that. Where nothing may be skipped (`CI=true`) the test fails.
#[track_caller]
#[allow(clippy::print_stderr, reason = "a skipped test must be visible")]
fn is_missing(program: &str, version: &mut Command, test: &str) -> bool {
    let version = version.stdout(Stdio::null()).stderr(Stdio::null());
    let missing = !version.status().is_ok_and(|status| status.success());
    if missing {
        let left_out =
            format!("SKIPPED {test}: there is no {program}, and tests/setup could not get one");
        let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!ci, "{left_out}; with CI=true nothing may be left out");
        eprintln!("{left_out}");
    }
    missing
}

/// Returns the path of a program of the workspace.
pub fn binary(name: &str) -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    };
    target.join("release").join(name)
}

/// A directory that is deleted with its owner.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!(
            "local-cloud-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
