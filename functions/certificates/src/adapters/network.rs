//! Names, addresses, connections and trust: what the self-check and the proof share.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use time::OffsetDateTime;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};

/// Returns the platform's trust roots and those in `extra_pem`.
///
/// The platform's are read once per process. A root of `extra_pem` that cannot be used is left out with a warning:
/// [`roots_in`] finds such text when the settings are read.
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

/// Returns the certificates in a PEM text, or in words why one of them is no trust root.
pub fn roots_in(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let roots = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "not a PEM certificate: expected BEGIN CERTIFICATE blocks".to_owned())?;
    if roots.is_empty() {
        return Err("no certificate in it: expected BEGIN CERTIFICATE blocks".to_owned());
    }
    for root in &roots {
        RootCertStore::empty()
            .add(root.clone())
            .map_err(|error| format!("not usable as a trust root: {error}"))?;
    }
    Ok(roots)
}

/// Returns whether a chain leads to a trust root of the platform for this name, or `None` when the platform has none.
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

/// Returns whether an address is one of the public internet's hosts (IANA special-purpose address registries).
///
/// IPv4 addresses within IPv6 ones count as non-global, except behind the well-known NAT64 prefix, where the IPv4 address counts.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

/// Returns the addresses to connect to for `host` and `port`: those of `connect_to` where it is set, else the host's own
/// that are global.
///
/// # Errors
///
/// Says in words what the name lookup met; every such error is of the kind "could not tell".
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

/// Returns whether a connection failed because this machine has no way to such addresses at all (a function outside a
/// VPC has no IPv6): that says nothing about the host.
pub(crate) fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Returns the instant `limit` from now, at most `longest`.
pub(crate) fn deadline(limit: Duration, longest: Duration) -> Instant {
    Instant::now() + limit.min(longest)
}

/// Returns a TLS client that judges servers by `verifier` alone and resumes nothing.
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

/// Lets any server be: authorities follow a redirect to HTTPS without looking at the certificate, for it is about to be
/// replaced, and may be of a kind that rustls would not even read.
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
        tracing::warn!(%error, "a place of the platform's trust roots could not be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, _, _)
    )
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_global_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        // Protocol assignments, documentation twice, 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

static PLATFORM: OnceLock<RootCertStore> = OnceLock::new();

/// The error number of an address family the kernel does not have, for which `io::ErrorKind` has no word.
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_public_internet_are_global() {
        let global = [
            "1.1.1.1",
            "52.95.110.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2600:1f18::1",
            "2001:200::1",
            "2a05:d018::1",
            "64:ff9b::101:101",
        ];
        let not = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:101:101::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ];
        for address in global {
            assert!(is_global(address.parse().unwrap()), "{address} is global");
        }
        for address in not {
            assert!(
                !is_global(address.parse().unwrap()),
                "{address} is not global"
            );
        }
    }

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
