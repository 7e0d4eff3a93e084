//! Names, addresses, connections and trust, for the adapters that do not use an SDK.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use time::OffsetDateTime;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};

use crate::values::address::is_global;
use crate::values::trust::roots_in;

/// Returns the platform's trust roots and those in `extra_pem`.
///
/// The platform's roots are read once per process. An unusable root in `extra_pem` is left out with
/// a warning: [`roots_in`] refuses such text when the settings are read.
pub fn trust_roots(extra_pem: Option<&str>) -> RootCertStore {
    let mut roots = PLATFORM.get_or_init(platform_roots).clone();
    match extra_pem.map(roots_in) {
        None => {}
        Some(Ok(extra)) => {
            roots.add_parsable_certificates(extra);
        }
        Some(Err(error)) => tracing::warn!(%error, "extra trust roots are left out"),
    }
    roots
}

/// Returns whether a chain leads to a trust root of the platform for this name. `None` when the
/// platform has no trust roots.
pub fn is_public(chain_pem: &str, name: &str, at: OffsetDateTime) -> Option<bool> {
    let roots = PLATFORM.get_or_init(platform_roots);
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider);
    let verifier = verifier.build().ok()?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
    let chain = chain.ok()?;
    let (leaf, intermediates) = chain.split_first()?;
    let name = ServerName::try_from(name.replacen('*', "certloop-probe", 1)).ok()?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.unix_timestamp().try_into().ok()?));
    let verified = verifier.verify_server_cert(leaf, intermediates, &name, &[], at);
    Some(verified.is_ok())
}

/// Returns the addresses to connect to for `host` and `port`: those of `connect_to` where it is
/// set, otherwise the global addresses of the host.
///
/// # Errors
///
/// Describes the error of a name lookup in words. Every such error means "could not decide".
pub(crate) async fn addresses(
    host: &str,
    port: u16,
    connect_to: Option<&str>,
    until: Instant,
) -> Result<Vec<SocketAddr>, String> {
    let asked = connect_to.unwrap_or(host);
    let lookup = async {
        match connect_to {
            Some(target) => lookup_host(target).await.map(Vec::from_iter),
            None => lookup_host((host, port)).await.map(Vec::from_iter),
        }
    };
    let mut found: Vec<SocketAddr> = match timeout_at(until, lookup).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(format!("{asked} could not be looked up: {error}")),
        Err(_) => return Err(format!("looking up {asked} took too long")),
    };
    found.dedup();
    if connect_to.is_none() {
        let all = found.len();
        found.retain(|address| is_global(address.ip()));
        if found.is_empty() && all > 0 {
            return Err(format!(
                "{host} has no public address as seen from here, and connectTo is not set"
            ));
        }
    }
    if found.is_empty() {
        return Err(format!("{asked} has no address"));
    }
    Ok(found)
}

/// Returns whether a connection failed because this machine has no route to such addresses (a
/// function outside a VPC has no IPv6). That says nothing about the host.
pub(crate) fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Returns the instant `limit` from now, but at most `longest` from now.
pub(crate) fn deadline(limit: Duration, longest: Duration) -> Instant {
    Instant::now() + limit.min(longest)
}

/// Returns a TLS client that checks servers with `verifier` only and resumes no sessions.
pub(crate) fn tls_client(
    provider: CryptoProvider,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, rustls::Error> {
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    Ok(client)
}

/// The schemes that a client of [`https_client`] accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Schemes {
    /// Only `https://`.
    Https,
    /// Also `http://`.
    HttpsOrHttp,
}

/// Returns a client that trusts `roots` and keeps connections for a while.
pub(crate) fn https_client<B>(
    roots: RootCertStore,
    schemes: Schemes,
) -> Result<Client<HttpsConnector<HttpConnector>, B>, rustls::Error>
where
    B: Body + Send,
    B::Data: Send,
{
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new().with_tls_config(config);
    let connector = match schemes {
        Schemes::Https => connector.https_only(),
        Schemes::HttpsOrHttp => connector.https_or_http(),
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .build(connector.enable_http1().wrap_connector(tcp)))
}

/// Accepts every server. Authorities follow a redirect to HTTPS without checking the certificate:
/// it will be replaced soon, and rustls may not even be able to parse it.
#[derive(Debug)]
pub(crate) struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn platform_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a file of the platform's trust roots could not be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

const CONNECT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(30);

static PLATFORM: OnceLock<RootCertStore> = OnceLock::new();

/// The error number for an address family that the kernel does not have. `io::ErrorKind` has no
/// name for it.
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_roots_come_on_top_and_broken_ones_are_named() {
        let params = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        assert_eq!(roots_in(&pem.repeat(2)).unwrap().len(), 2);
        assert_eq!(trust_roots(Some(&pem)).len(), trust_roots(None).len() + 1);

        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n", broken] {
            assert!(roots_in(text).is_err(), "{text}");
            assert_eq!(trust_roots(Some(text)).len(), trust_roots(None).len());
        }
    }

    #[tokio::test]
    async fn private_addresses_are_dialled_only_where_connect_to_says_so() {
        let until = deadline(Duration::from_secs(5), Duration::from_secs(5));
        let refused = addresses("127.0.0.1", 80, None, until).await.unwrap_err();
        assert!(refused.contains("no public address"), "{refused}");
        let allowed = addresses("a.example.com", 80, Some("127.0.0.1:8080"), until).await;
        assert_eq!(allowed.unwrap(), ["127.0.0.1:8080".parse().unwrap()]);
        let nonsense = addresses("a.example.com", 80, Some("nonsense"), until).await;
        assert!(nonsense.unwrap_err().contains("nonsense"));
    }
}
