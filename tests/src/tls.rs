//! The certificates of the stand-ins, and the TLS configurations for them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A private certificate authority. It signs the certificate of Pebble's own HTTPS; a browser must
/// never accept it for a site.
#[derive(Debug)]
pub struct PrivateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl PrivateAuthority {
    /// Makes a new authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("local cloud private authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// Returns the root as PEM.
    pub fn root_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a server certificate. Returns chain and key as PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.sign(server(names), &KeyPair::generate().unwrap())
    }

    /// Issues one for an RSA key.
    pub fn issue_rsa(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        self.sign(server(names), &key)
    }

    /// Issues one that ends after this time.
    pub fn issue_for(&self, names: &[&str], lifetime: time::Duration) -> (String, String) {
        let mut params = server(names);
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(1);
        params.not_after = now + lifetime;
        self.sign(params, &KeyPair::generate().unwrap())
    }

    /// Issues a certificate for the public key of another one, for these names, as PEM.
    pub fn issue_again(&self, leaf: &[u8], names: &[&str]) -> String {
        let mut params = server(names);
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::HOUR;
        params.not_after = now + time::Duration::days(90);
        let key = PublicKey::of(leaf);
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> (String, String) {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The public key of a certificate; its private key is somebody else's.
struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Takes the ECDSA P-256 key of a certificate in DER.
    fn of(der: &[u8]) -> Self {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        Self(certificate.public_key().subject_public_key.data.to_vec())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn server(names: &[&str]) -> CertificateParams {
    let names = names.iter().map(|name| (*name).to_owned());
    let mut params = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
    params.distinguished_name = common_name("local cloud");
    params
}

impl Default for PrivateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a self-signed certificate and its key as PEM: a listener holds it before certloop.
pub fn self_signed(names: &[&str]) -> (String, String) {
    let owned = names.iter().map(|name| (*name).to_owned());
    let mut params = CertificateParams::new(owned.collect::<Vec<_>>()).unwrap();
    params.distinguished_name = common_name(names.first().copied().unwrap_or("placeholder"));
    // ACM refuses what is not valid now, and rcgen's default is valid from 1975 to 4096: use one
    // year.
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(365);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Returns the certificates of a PEM text.
pub fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect()
}

/// Returns a server configuration with this chain and key.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>, String> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| e.to_string())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates(chain_pem), key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns a client that trusts only the roots of this PEM text.
pub fn client_config(roots_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in certificates(roots_pem) {
        roots.add(root).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Connects to `address` with the server name `name`.
pub async fn connect(
    config: Arc<ClientConfig>,
    address: std::net::SocketAddr,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
