//! Proof that a load balancer serves the right certificate, by TLS handshakes with the load
//! balancer itself.
//!
//! A listener may hold certificates with both kinds of keys and prefers ECDSA, so each handshake
//! offers only the signature algorithms of the new key. Two separate questions: which leaf is
//! served, and whether browsers would trust its chain.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, PeerMisbehaved, SignatureScheme, SupportedCipherSuite,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::adapters::network;
use crate::ports::probe::{Proven, Question};
use crate::values::chain::Leaf;
use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// Asks every address of the load balancer for every name, and compares the leaf.
///
/// One wrong leaf decides. Otherwise one address without a leaf leaves the answer open. An IPv6
/// address that this machine has no route to does not count if IPv4 answered. `limit` bounds the
/// whole check, [`LONGEST`] each handshake.
pub async fn handshake_all(question: &Question<'_>, limit: Duration) -> Proven {
    let until = Instant::now() + limit;
    let client = Client::new(question.key_type);
    let lookup = network::deadline(limit, LONGEST);
    let addresses =
        network::addresses(question.host, question.port, question.connect_to, lookup).await;
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(why) => return Proven::CouldNotTell(why),
    };
    let mut names: Vec<String> = question.names.iter().map(asked_name).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Proven::CouldNotTell(format!("no name to ask {} for", question.host));
    }

    // The futures are made first, the stream second: with a closure inside the stream, none of this
    // could be sent to a task.
    let mut asks = Vec::with_capacity(names.len() * addresses.len());
    for name in &names {
        for address in &addresses {
            asks.push(client.ask(name, *address, question.leaf_der, until));
        }
    }
    let answers: Vec<Shown> = stream::iter(asks).buffered(AT_ONCE).collect().await;
    judge(question, &answers)
}

/// The longest time for one handshake.
pub const LONGEST: Duration = Duration::from_secs(5);

fn judge(question: &Question<'_>, answers: &[Shown]) -> Proven {
    let (mut right, mut other, mut silent, mut no_route) = (vec![], vec![], vec![], vec![]);
    for answer in answers {
        match answer {
            Shown::Right { name, chain } => right.push((name, chain)),
            Shown::Other(what) => other.push(what.as_str()),
            Shown::Silent(what) => silent.push(what.as_str()),
            Shown::NoRoute(what) => no_route.push(what.as_str()),
        }
    }
    if !other.is_empty() {
        return Proven::Wrong(shorten(&other));
    }
    if right.is_empty() {
        silent.append(&mut no_route);
    }
    if !silent.is_empty() {
        return Proven::CouldNotTell(shorten(&silent));
    }
    Proven::Yes {
        trusted: trusted(question, &right),
    }
}

fn trusted(question: &Question<'_>, served: &[(&String, &ServedChain)]) -> Result<(), String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(network::trust_roots(question.roots));
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| format!("no chain can be checked: {error}"))?;
    let seconds = question.now.unix_timestamp().try_into().unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for (name, chain) in served {
        let untrusted = |why: &dyn fmt::Display| format!("the chain served for {name}: {why}");
        let server = ServerName::try_from(name.as_str()).map_err(|error| untrusted(&error))?;
        let (leaf, intermediates) = chain
            .split_first()
            .ok_or_else(|| untrusted(&"it is empty"))?;
        verifier
            .verify_server_cert(leaf, intermediates, &server, &[], now)
            .map_err(|error| untrusted(&error))?;
    }
    Ok(())
}

/// Returns the server name for the handshake: the name itself, or for a wildcard a name that only
/// the wildcard covers.
fn asked_name(name: &DnsName) -> String {
    match name.as_str().strip_prefix("*.") {
        Some(zone) => format!("certloop-probe.{zone}"),
        None => name.as_str().to_owned(),
    }
}

fn shorten(sentences: &[&str]) -> String {
    let mut text = sentences[..sentences.len().min(MOST_NAMED)].join("; ");
    if sentences.len() > MOST_NAMED {
        text.push_str(&format!("; and {} more", sentences.len() - MOST_NAMED));
    }
    text
}

type ServedChain = Vec<CertificateDer<'static>>;

/// The result of one handshake.
enum Shown {
    Right { name: String, chain: ServedChain },
    Other(String),
    Silent(String),
    NoRoute(String),
}

/// A TLS client that accepts certificates with one kind of key only.
struct Client {
    provider: CryptoProvider,
    schemes: &'static [SignatureScheme],
}

impl Client {
    fn new(key_type: KeyType) -> Self {
        let schemes = match key_type.is_ecdsa() {
            true => ECDSA,
            false => RSA,
        };
        let mut provider = aws_lc_rs::default_provider();
        // TLS 1.3 suites do not depend on the key; TLS 1.2 suites name its kind.
        provider.cipher_suites.retain(|suite| match suite {
            SupportedCipherSuite::Tls12(suite) => {
                suite.sign.iter().any(|scheme| schemes.contains(scheme))
            }
            SupportedCipherSuite::Tls13(_) => true,
        });
        Self { provider, schemes }
    }

    async fn ask(&self, name: &str, address: SocketAddr, wanted: &[u8], until: Instant) -> Shown {
        let until = until.min(network::deadline(LONGEST, LONGEST));
        let silent = |why: &dyn fmt::Display| {
            Shown::Silent(format!("{name} at {address} could not be asked: {why}"))
        };
        let witness = Arc::new(Witness {
            provider: self.provider.clone(),
            schemes: self.schemes,
            chain: OnceLock::new(),
        });
        let (client, server) = match (self.config(&witness), ServerName::try_from(name)) {
            (Ok(client), Ok(server)) => (client, server.to_owned()),
            (Err(error), _) => return silent(&error),
            (_, Err(error)) => return silent(&error),
        };
        let stream = match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if address.is_ipv6() && network::is_no_route(&error) => {
                return Shown::NoRoute(format!(
                    "{name} at {address} could not be asked: no IPv6 from here ({error})"
                ));
            }
            Ok(Err(error)) => return silent(&error),
            Err(_) => return silent(&"no connection in time"),
        };
        let handshake = TlsConnector::from(Arc::new(client)).connect(server, stream);
        let failure = match timeout_at(until, handshake).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("TLS handshake failed: {error}")),
            Err(_) => Some("no TLS handshake in time".to_owned()),
        };
        // A handshake that fails after it showed the leaf has still shown the leaf.
        let chain = witness.chain.get().cloned().unwrap_or_default();
        match (chain.first(), failure) {
            (Some(leaf), _) if **leaf != *wanted => {
                Shown::Other(format!("{name} at {address} is served {}", describe(leaf)))
            }
            (Some(_), None) => Shown::Right {
                name: name.to_owned(),
                chain,
            },
            (_, Some(failure)) => silent(&failure),
            (None, None) => silent(&"no certificate was shown"),
        }
    }

    fn config(&self, witness: &Arc<Witness>) -> Result<ClientConfig, rustls::Error> {
        network::tls_client(
            self.provider.clone(),
            Arc::<Witness>::clone(witness) as Arc<dyn ServerCertVerifier>,
        )
    }
}

fn describe(der: &[u8]) -> String {
    match Leaf::parse(der) {
        Ok(leaf) => format!(
            "serial {} issued by {}, valid until {}",
            leaf.serial,
            if leaf.issuer.is_empty() {
                "nobody"
            } else {
                &leaf.issuer
            },
            leaf.not_after.date()
        ),
        Err(error) => error.to_string(),
    }
}

/// Keeps the server's chain and accepts it, but requires proof that the server holds the key.
#[derive(Debug)]
struct Witness {
    provider: CryptoProvider,
    schemes: &'static [SignatureScheme],
    chain: OnceLock<ServedChain>,
}

impl Witness {
    fn check_scheme(&self, signature: &DigitallySignedStruct) -> Result<(), rustls::Error> {
        match self.schemes.contains(&signature.scheme) {
            true => Ok(()),
            false => Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()),
        }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(intermediates);
        self.chain
            .get_or_init(|| chain.map(|der| der.clone().into_owned()).collect());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_scheme(signature)?;
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_scheme(signature)?;
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.to_vec()
    }
}

const AT_ONCE: usize = 8;
const MOST_NAMED: usize = 5;
const ECDSA: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
];
const RSA: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use time::OffsetDateTime;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::version::{TLS12, TLS13};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::values::key::PrivateKey;

    const LIMIT: Duration = Duration::from_secs(20);

    struct TestAuthority {
        root: CertifiedIssuer<'static, rcgen::KeyPair>,
        middle: CertifiedIssuer<'static, rcgen::KeyPair>,
    }

    impl TestAuthority {
        fn new() -> Self {
            let params = |name: &str| {
                let mut params = CertificateParams::default();
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(DnType::CommonName, name);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params
            };
            let key = || rcgen::KeyPair::generate().unwrap();
            let root = CertifiedIssuer::self_signed(params("the root"), key()).unwrap();
            let middle = CertifiedIssuer::signed_by(params("the middle"), key(), &root).unwrap();
            Self { root, middle }
        }

        fn issue(&self, key_type: KeyType, names: &[&str]) -> Arc<CertifiedKey> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.not_before = OffsetDateTime::now_utc() - time::Duration::days(1);
            params.not_after = OffsetDateTime::now_utc() + time::Duration::days(9);
            let pem = PrivateKey::generate(key_type).unwrap().to_pem();
            let key = rcgen::KeyPair::from_pem(&pem).unwrap();
            let leaf = params.signed_by(&key, &self.middle).unwrap();
            let middle: &rcgen::Certificate = self.middle.as_ref();
            let chain = vec![leaf.der().clone(), middle.der().clone()];
            let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
            let provider = aws_lc_rs::default_provider();
            Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap())
        }

        fn roots(&self) -> String {
            let root: &rcgen::Certificate = self.root.as_ref();
            root.pem()
        }
    }

    /// A load balancer's listener: certificates by name, `*` for all others; it prefers ECDSA where
    /// the client supports it.
    #[derive(Debug)]
    struct TestListener(HashMap<&'static str, Vec<Arc<CertifiedKey>>>);

    impl ResolvesServerCert for TestListener {
        fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            let name = hello.server_name()?;
            let held = self.0.get(name).or_else(|| self.0.get("*"))?;
            held.iter()
                .find(|key| key.key.choose_scheme(hello.signature_schemes()).is_some())
                .cloned()
        }
    }

    struct TlsServer {
        address: String,
        tasks: JoinSet<()>,
    }

    impl TlsServer {
        async fn start(held: &[(&'static str, &[&Arc<CertifiedKey>])]) -> Self {
            Self::start_with(held, &[&TLS13, &TLS12]).await
        }

        async fn start_with(
            held: &[(&'static str, &[&Arc<CertifiedKey>])],
            versions: &[&'static rustls::SupportedProtocolVersion],
        ) -> Self {
            let held = held
                .iter()
                .map(|(name, keys)| (*name, keys.iter().map(|key| Arc::clone(key)).collect()));
            let provider = Arc::new(aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(TestListener(held.collect())));
            let tls = TlsAcceptor::from(Arc::new(config));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let _ = tls.accept(stream).await;
                }
            });
            Self { address, tasks }
        }

        async fn prove(
            &self,
            authority: &TestAuthority,
            names: &[&str],
            key_type: KeyType,
            leaf: &CertifiedKey,
        ) -> Proven {
            assert_eq!(self.tasks.len(), 1);
            let roots = authority.roots();
            let names: Vec<DnsName> = names
                .iter()
                .map(|name| DnsName::parse(name).unwrap())
                .collect();
            let question = question(Some(&self.address), &names, key_type, leaf, &roots);
            handshake_all(&question, LIMIT).await
        }
    }

    fn question<'a>(
        connect_to: Option<&'a str>,
        names: &'a [DnsName],
        key_type: KeyType,
        leaf: &'a CertifiedKey,
        roots: &'a str,
    ) -> Question<'a> {
        Question {
            host: "127.0.0.1",
            port: 443,
            connect_to,
            names,
            leaf_der: &leaf.cert[0],
            key_type,
            roots: Some(roots),
            now: OffsetDateTime::now_utc(),
        }
    }

    const PROVED: Proven = Proven::Yes { trusted: Ok(()) };
    const A: &str = "a.example.com";
    const B: &str = "b.example.com";

    #[tokio::test]
    async fn the_right_leaf_is_proved_for_every_key_type_and_protocol_version() {
        let authority = TestAuthority::new();
        for key_type in KeyType::ALL {
            let leaf = authority.issue(key_type, &[A, B]);
            for version in [&TLS12, &TLS13] {
                let server = TlsServer::start_with(&[("*", &[&leaf])], &[version]).await;
                let proven = server.prove(&authority, &[A, B], key_type, &leaf).await;
                assert_eq!(proven, PROVED, "{key_type} {version:?}");
            }
        }
    }

    #[tokio::test]
    async fn each_name_is_asked_for_by_itself() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A, B]);
        let other = authority.issue(KeyType::EcdsaP256, &[B]);
        let server = TlsServer::start(&[(A, &[&ours]), ("*", &[&other])]).await;
        let key_type = KeyType::EcdsaP256;
        assert_eq!(
            server.prove(&authority, &[A], key_type, &ours).await,
            PROVED
        );
        let Proven::Wrong(why) = server.prove(&authority, &[A, B], key_type, &ours).await else {
            panic!("b.example.com is served another leaf");
        };
        let serial = Leaf::parse(&other.cert[0]).unwrap().serial;
        let place = format!(
            "b.example.com at {} is served serial {serial}",
            server.address
        );
        assert!(why.contains(&place), "{why}");
        assert!(why.contains("issued by CN=the middle"), "{why}");
        assert!(!why.contains("a.example.com"), "{why}");
    }

    #[tokio::test]
    async fn a_wildcard_is_asked_for_by_a_name_under_its_zone() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &["*.example.com"]);
        let other = authority.issue(KeyType::EcdsaP256, &[A]);
        let held: [(_, &[_]); 2] = [("certloop-probe.example.com", &[&ours]), ("*", &[&other])];
        let server = TlsServer::start(&held).await;
        let proven = server.prove(&authority, &["*.example.com"], KeyType::EcdsaP256, &ours);
        assert_eq!(proven.await, PROVED);
    }

    #[tokio::test]
    async fn beside_a_certificate_of_the_other_kind_only_ours_counts() {
        let authority = TestAuthority::new();
        let ecdsa = authority.issue(KeyType::EcdsaP256, &[A]);
        let rsa = authority.issue(KeyType::Rsa2048, &[A]);
        let old = authority.issue(KeyType::Rsa2048, &[A]);
        for version in [&TLS12, &TLS13] {
            let server = TlsServer::start_with(&[("*", &[&ecdsa, &rsa])], &[version]).await;
            let asked = [(KeyType::EcdsaP256, &ecdsa), (KeyType::Rsa2048, &rsa)];
            for (key_type, ours) in asked {
                let proven = server.prove(&authority, &[A], key_type, ours).await;
                assert_eq!(proven, PROVED, "{key_type} {version:?}");
            }
            let proven = server.prove(&authority, &[A], KeyType::Rsa2048, &old).await;
            assert!(matches!(proven, Proven::Wrong(_)), "{proven:?}");
        }
    }

    #[tokio::test]
    async fn a_listener_without_the_kind_shows_nothing() {
        let authority = TestAuthority::new();
        let ecdsa = authority.issue(KeyType::EcdsaP256, &[A]);
        let rsa = authority.issue(KeyType::Rsa2048, &[A]);
        let server = TlsServer::start(&[("*", &[&ecdsa])]).await;
        let proven = server.prove(&authority, &[A], KeyType::Rsa2048, &rsa).await;
        assert!(matches!(proven, Proven::CouldNotTell(_)), "{proven:?}");
    }

    #[tokio::test]
    async fn a_leaf_whose_key_the_server_does_not_hold_proves_nothing() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A]);
        let thief = authority.issue(KeyType::EcdsaP256, &[A]);
        let stolen = Arc::new(CertifiedKey::new(ours.cert.clone(), thief.key.clone()));
        for version in [&TLS12, &TLS13] {
            let server = TlsServer::start_with(&[("*", &[&stolen])], &[version]).await;
            let proven = server
                .prove(&authority, &[A], KeyType::EcdsaP256, &ours)
                .await;
            assert!(matches!(proven, Proven::CouldNotTell(_)), "{proven:?}");
        }
    }

    #[tokio::test]
    async fn one_wrong_leaf_decides_over_a_name_that_stays_silent() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A, B]);
        let other = authority.issue(KeyType::EcdsaP256, &[A]);
        let server = TlsServer::start(&[(B, &[&other])]).await;
        let proven = server
            .prove(&authority, &[A, B], KeyType::EcdsaP256, &ours)
            .await;
        assert!(matches!(proven, Proven::Wrong(_)), "{proven:?}");
        let proven = server
            .prove(&authority, &[A], KeyType::EcdsaP256, &ours)
            .await;
        assert!(matches!(proven, Proven::CouldNotTell(_)), "{proven:?}");
    }

    #[tokio::test]
    async fn the_right_leaf_with_a_chain_to_nowhere_is_proved_and_untrusted() {
        let (authority, stranger) = (TestAuthority::new(), TestAuthority::new());
        let ours = authority.issue(KeyType::EcdsaP256, &[A]);
        let server = TlsServer::start(&[("*", &[&ours])]).await;
        let proven = server
            .prove(&stranger, &[A], KeyType::EcdsaP256, &ours)
            .await;
        let Proven::Yes { trusted: Err(why) } = proven else {
            panic!("{proven:?}");
        };
        assert!(why.contains("a.example.com"), "{why}");

        let short = CertifiedKey::new(vec![ours.cert[0].clone()], ours.key.clone());
        let server = TlsServer::start(&[("*", &[&Arc::new(short)])]).await;
        let proven = server
            .prove(&authority, &[A], KeyType::EcdsaP256, &ours)
            .await;
        assert!(
            matches!(proven, Proven::Yes { trusted: Err(_) }),
            "{proven:?}"
        );
    }

    #[tokio::test]
    async fn a_chain_is_judged_at_the_time_given_and_for_the_name() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A]);
        let server = TlsServer::start(&[("*", &[&ours])]).await;
        let roots = authority.roots();
        for (name, days, fits) in [(A, 0, true), (A, 10, false), (B, 0, false)] {
            let names = [DnsName::parse(name).unwrap()];
            let address = Some(server.address.as_str());
            let mut question = question(address, &names, KeyType::EcdsaP256, &ours, &roots);
            question.now += time::Duration::days(days);
            let proven = handshake_all(&question, LIMIT).await;
            let Proven::Yes { trusted } = proven else {
                panic!("{proven:?}");
            };
            assert_eq!(trusted.is_ok(), fits, "{name} in {days} days: {trusted:?}");
        }
    }

    #[tokio::test]
    async fn nobody_listening_private_addresses_and_silence_leave_it_open() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A]);
        let roots = authority.roots();
        let names = [DnsName::parse(A).unwrap()];
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed_address = closed.local_addr().unwrap().to_string();
        drop(closed);
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mute_address = mute.local_addr().unwrap().to_string();
        let short = Duration::from_millis(300);
        for (sentence, connect_to, names, limit, words) in [
            (
                "nobody listening",
                Some(&*closed_address),
                &names[..],
                LIMIT,
                A,
            ),
            (
                "nobody answering",
                Some(&*mute_address),
                &names,
                short,
                "in time",
            ),
            (
                "a private address",
                None,
                &names,
                LIMIT,
                "no public address",
            ),
            ("no names", Some(&*mute_address), &[], LIMIT, "no name"),
        ] {
            let question = question(connect_to, names, KeyType::EcdsaP256, &ours, &roots);
            let began = std::time::Instant::now();
            let Proven::CouldNotTell(why) = handshake_all(&question, limit).await else {
                panic!("{sentence}");
            };
            assert!(why.contains(words), "{sentence}: {why}");
            assert!(began.elapsed() < LONGEST, "{sentence}");
        }
    }

    #[test]
    fn an_ipv6_address_out_of_reach_does_not_count_where_ipv4_answered() {
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A]);
        let roots = authority.roots();
        let names = [DnsName::parse(A).unwrap()];
        let question = question(None, &names, KeyType::EcdsaP256, &ours, &roots);
        let right = || Shown::Right {
            name: A.to_owned(),
            chain: ours.cert.clone(),
        };
        let no_route = || Shown::NoRoute("no way".to_owned());
        let silent = || Shown::Silent("nothing".to_owned());
        let other = || Shown::Other("another".to_owned());
        let open = |why: &str| Proven::CouldNotTell(why.to_owned());
        let wrong = Proven::Wrong("another".to_owned());
        for (answers, verdict) in [
            (vec![right(), no_route()], PROVED),
            (vec![no_route(), no_route()], open("no way; no way")),
            (vec![right(), silent(), no_route()], open("nothing")),
            (vec![right(), silent(), other()], wrong),
        ] {
            assert_eq!(judge(&question, &answers), verdict);
        }
        assert_eq!(shorten(&["x"; 7]), "x; x; x; x; x; and 2 more");
    }

    #[test]
    fn the_proof_can_run_in_a_task_of_its_own() {
        fn is_send<T: Send>(_: &T) {}
        let authority = TestAuthority::new();
        let ours = authority.issue(KeyType::EcdsaP256, &[A]);
        let roots = authority.roots();
        let question = question(None, &[], KeyType::EcdsaP256, &ours, &roots);
        is_send(&handshake_all(&question, LIMIT));
    }
}
