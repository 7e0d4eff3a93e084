//! acme2certifier, an authority that is no relative of Pebble (`tests/acme2certifier/README.md`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use x509_parser::pem::Pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::authority::acme_wire;
use crate::lambda::Lambda;
use crate::pebble::reachable;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::tls::PrivateAuthority;
use crate::{Directory, HTTP_PORT, is_missing, root, tool};

/// A running acme2certifier behind a wire of its own. It uses the cloud's DNS, and fetches
/// challenges from port 80 of load balancers.
#[derive(Debug)]
pub struct Acme2certifier {
    address: SocketAddr,
    _process: Process,
    wire: Proxy,
    roots: String,
    directory_root: String,
    files: Directory,
}

impl Acme2certifier {
    /// Returns whether acme2certifier is missing, so that the test must be skipped. With `CI=true`
    /// the test fails instead.
    #[track_caller]
    pub fn is_missing(test: &str) -> bool {
        let import = ["-c", "import acme2certifier"];
        is_missing("acme2certifier", Command::new(python()).args(import), test)
    }

    /// Starts one with an intermediate below a root, and an empty database.
    pub(crate) async fn start(
        (address, upstream): (SocketAddr, SocketAddr),
        dns: SocketAddr,
        authority: &PrivateAuthority,
        lambda: Lambda,
    ) -> Self {
        let files = Directory::new();
        let file = |name: &str, content: &str| {
            let path = files.0.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let issuing = Issuing::new();
        let (chain, key) = authority.issue(&["localhost", &upstream.ip().to_string()]);
        let certificates = files.0.join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        // Only what has no default.
        let configuration = format!(
            "[DEFAULT]\n\
             dns_server_list: [\"{dns}\"]\n\
             [CAhandler]\n\
             handler_module: acme2certifier.cahandlers.openssl_ca_handler\n\
             issuing_ca_key: {key}\n\
             issuing_ca_cert: {intermediate}\n\
             ca_cert_chain_list: [\"{root}\"]\n\
             issuing_ca_crl: {crl}\n\
             cert_validity_days: 90\n\
             cert_save_path: {certificates}\n\
             [DBhandler]\n\
             handler_module: acme2certifier.dbhandlers.wsgi_handler\n\
             dbfile: {database}\n\
             [Certificate]\n\
             [Challenge]\n\
             [Order]\n",
            dns = dns.ip(),
            key = file("intermediate.key", &issuing.key).display(),
            intermediate = file("intermediate.pem", &issuing.intermediate).display(),
            root = file("root.pem", &issuing.root).display(),
            crl = files.0.join(REVOKED).display(),
            certificates = certificates.display(),
            database = files.0.join("database.sqlite").display(),
        );
        let mut server = Command::new(python());
        server
            .arg(root().join("tests/acme2certifier/serve.py"))
            .args([upstream.ip().to_string(), upstream.port().to_string()])
            .args([dns.port().to_string(), HTTP_PORT.to_string()])
            .args([file("server.pem", &chain), file("server.key", &key)])
            .env("ACME_SRV_CONFIGFILE", file("acme_srv.cfg", &configuration));
        let process = Process::start_watched("acme2certifier", &server).unwrap();
        reachable("acme2certifier", &process, upstream).await;
        let listener = TcpListener::bind(address).await.unwrap();
        Self {
            address,
            _process: process,
            wire: acme_wire(listener, upstream, authority, lambda),
            roots: issuing.root,
            directory_root: authority.root_pem(),
            files,
        }
    }

    /// Returns its entry for the settings' `authorities`.
    pub fn settings(&self) -> Value {
        json!({
            "directory": format!("https://{}/directory", self.address),
            "contact": ["mailto:ops@example.com"],
            "termsOfServiceAgreed": true,
            "rootCertificate": format!("{}{}", self.directory_root, self.roots),
        })
    }

    /// Returns the PEM of the root that its certificates lead to.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// Returns the wire to it.
    pub fn wire(&self) -> &Proxy {
        &self.wire
    }

    /// Returns whether it has revoked the certificate with a serial number (hexadecimal).
    pub fn has_revoked(&self, serial: &str) -> bool {
        let Ok(pem) = std::fs::read(self.files.0.join(REVOKED)) else {
            return false;
        };
        let pem = Pem::iter_from_buffer(&pem).next().unwrap().unwrap();
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        let wanted = serial.trim_start_matches('0');
        list.iter_revoked_certificates()
            .any(|revoked| format!("{:x}", revoked.serial()) == wanted)
    }
}

/// What it issues with, as PEM.
struct Issuing {
    root: String,
    intermediate: String,
    /// The key of the intermediate.
    key: String,
}

impl Issuing {
    fn new() -> Self {
        let root = params("second root", BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut intermediate = params("second intermediate", BasicConstraints::Constrained(0));
        intermediate.use_authority_key_identifier_extension = true;
        Self {
            intermediate: intermediate.signed_by(&key, &root).unwrap().pem(),
            root: root.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::DAY;
    params.not_after = now + 3650 * Duration::DAY;
    params
}

fn python() -> PathBuf {
    tool("acme2certifier/bin/python")
}

const REVOKED: &str = "revoked.pem";
