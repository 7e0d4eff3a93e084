//! Certificates as we read them: chains, leaves, and which certificate may replace which.
//!
//! Everything here is pure: it takes bytes and a time, and returns facts and verdicts.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension};
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::values::key::{KeyType, PrivateKey};
use crate::values::names::DnsName;

/// A certificate with its issuers, each followed by the one that issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: Leaf,
    leaf_pem: String,
    der: Vec<Vec<u8>>,
    /// Whether there are intermediates and none of them issued the leaf.
    lacks_issuer: bool,
}

impl Chain {
    /// Reads a chain from a PEM text and puts it in order: the leaf, then each issuer. Leaves out
    /// repetitions, the root above an intermediate, and what has no place in the chain: ACM refuses
    /// them, and no browser needs them.
    ///
    /// The leaf is the first certificate that is not an authority's. If each is an authority's, it
    /// is the first of all. An issuer has the name that the certificate says, and has signed it.
    pub fn parse(pem: &str) -> Result<Self, ChainError> {
        Self::parse_from(pem, |_| false)
    }

    /// Reads a chain as [`parse`](Self::parse) does. Its leaf is the certificate of `key`, where
    /// there is one.
    pub fn parse_of(pem: &str, key: &PrivateKey) -> Result<Self, ChainError> {
        Self::parse_from(pem, |certificate| {
            certificate.public_key().raw == key.public_key_der()
        })
    }

    fn parse_from(
        pem: &str,
        is_leaf: impl Fn(&X509Certificate<'_>) -> bool,
    ) -> Result<Self, ChainError> {
        let der = CertificateDer::pem_slice_iter(tidy(pem).as_bytes())
            .map(|certificate| certificate.map(|der| der.to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| ChainError::NotPem)?;
        let (der, others) = in_order(&der, is_leaf)?;
        let first = der.first().ok_or(ChainError::NotPem)?;
        Ok(Self {
            leaf: Leaf::parse(first)?,
            leaf_pem: to_pem(first),
            lacks_issuer: der.len() == 1 && others > 0,
            der,
        })
    }

    /// Returns the facts of the leaf.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Returns the leaf alone as PEM: ACM calls this the certificate.
    pub fn leaf_pem(&self) -> &str {
        &self.leaf_pem
    }

    /// Returns everything after the leaf as PEM: ACM calls this the certificate chain. It is empty
    /// when the authority sent the leaf only.
    pub fn intermediates_pem(&self) -> String {
        self.der.iter().skip(1).map(|der| to_pem(der)).collect()
    }

    /// Returns the whole chain as PEM, the leaf first.
    pub fn pem(&self) -> String {
        self.leaf_pem.clone() + &self.intermediates_pem()
    }

    /// Checks that the issuer of the leaf is among the intermediates, where there are any: visitors
    /// could not trust such a chain.
    pub fn check_issuer(&self) -> Result<(), ChainError> {
        match self.lacks_issuer {
            true => Err(ChainError::IssuerMissing(self.leaf.issuer.clone())),
            false => Ok(()),
        }
    }

    /// Returns the certificates as DER, the leaf first.
    pub fn der(&self) -> &[Vec<u8>] {
        &self.der
    }
}

/// What certloop needs to know about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Serial number: the content bytes of its DER as lower-case hexadecimal, two digits each.
    pub serial: String,
    /// DNS names that it is valid for: sorted, without duplicates.
    pub names: Vec<DnsName>,
    /// Everything else that it claims to be valid for, as text: IP addresses, mail addresses,
    /// invalid names. If there is no subject alternative name at all: the common name.
    pub other_names: Vec<String>,
    /// Its issuer, as text.
    pub issuer: String,
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
    /// Kind and size of its key; `None` when certloop does not support them.
    pub key_type: Option<KeyType>,
    /// Key usages in ACM's words; `None` when there is no such extension.
    pub key_usages: Option<BTreeSet<String>>,
    /// Extended key usages in ACM's words, or as dotted object identifiers; `None` when there is no
    /// such extension.
    pub extended_key_usages: Option<BTreeSet<String>>,
    /// Whether it names itself as its issuer.
    pub self_signed: bool,
    /// SHA-256 of the DER in lower-case hexadecimal.
    pub fingerprint: String,
    /// The certificate itself.
    pub der: Vec<u8>,
    /// Identifier of the key that signed it: renewal information (RFC 9773) asks by it.
    pub authority_key_identifier: Option<Vec<u8>>,
    raw_serial: Vec<u8>,
}

impl Leaf {
    /// Reads the facts of one certificate from DER.
    pub fn parse(der: &[u8]) -> Result<Self, ChainError> {
        let certificate = parse(der)?;
        let mut leaf = Self {
            serial: hex(certificate.raw_serial()),
            names: Vec::new(),
            other_names: Vec::new(),
            issuer: certificate.issuer().to_string(),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            key_type: key_type(certificate.public_key()),
            key_usages: None,
            extended_key_usages: None,
            self_signed: false,
            fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
            der: der.to_vec(),
            authority_key_identifier: None,
            raw_serial: certificate.raw_serial().to_vec(),
        };
        let (mut has_alternative_names, mut subject_key_identifier) = (false, None);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(alternative) => {
                    has_alternative_names = true;
                    for name in &alternative.general_names {
                        leaf.add_name(name);
                    }
                }
                ParsedExtension::KeyUsage(usage) => leaf.key_usages = Some(key_usages(usage)),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    leaf.extended_key_usages = Some(extended_key_usages(usage));
                }
                ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                    let key = identifier.key_identifier.as_ref();
                    leaf.authority_key_identifier = key.map(|key| key.0.to_vec());
                }
                ParsedExtension::SubjectKeyIdentifier(identifier) => {
                    subject_key_identifier = Some(identifier.0.to_vec());
                }
                ParsedExtension::ParseError { error } => {
                    return Err(ChainError::Unreadable(format!(
                        "extension {}: {error}",
                        extension.oid
                    )));
                }
                _ => {}
            }
        }
        if !has_alternative_names {
            leaf.add_common_names(&certificate);
        }
        leaf.names.sort();
        leaf.names.dedup();
        leaf.self_signed = is_self_signed(
            &certificate,
            leaf.authority_key_identifier.as_deref(),
            subject_key_identifier.as_deref(),
        );
        Ok(leaf)
    }

    /// Returns its unique identifier (RFC 9773 section 4.1), or `None` when the certificate does
    /// not name the key of its authority.
    pub fn identifier(&self) -> Option<String> {
        let authority = self.authority_key_identifier.as_ref()?;
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Some(format!("{}.{}", text(authority), text(&self.raw_serial)))
    }

    fn add_common_names(&mut self, certificate: &X509Certificate<'_>) {
        let common_names = certificate.subject().iter_common_name();
        self.other_names
            .extend(common_names.filter_map(|name| name.as_str().ok().map(str::to_owned)));
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(text) => match DnsName::parse(text) {
                Ok(name) => self.names.push(name),
                Err(_) => self.other_names.push((*text).to_owned()),
            },
            other => self.other_names.push(other.to_string()),
        }
    }
}

/// Checks that the authority sent what we ordered, before we keep it or pass it on.
///
/// The leaf must hold the public key of `key` and all names in `wanted`, and be valid at `now`: ACM
/// refuses to import a certificate before its validity starts, even one second before. Names that
/// the authority added are accepted ([`added_names`]).
pub fn check_issued(
    chain: &Chain,
    key: &PrivateKey,
    wanted: &[DnsName],
    now: OffsetDateTime,
) -> Result<(), ChainError> {
    let leaf = chain.leaf();
    if parse(&leaf.der)?.public_key().raw != key.public_key_der() {
        return Err(ChainError::OtherKey);
    }
    chain.check_issuer()?;
    let missing: Vec<&str> = (wanted.iter())
        .filter(|name| !leaf.names.contains(name))
        .map(DnsName::as_str)
        .collect();
    if !missing.is_empty() {
        return Err(ChainError::NamesMissing(missing.join(", ")));
    }
    if now < leaf.not_before {
        return Err(ChainError::NotYetValid(leaf.not_before));
    }
    if now > leaf.not_after {
        return Err(ChainError::Expired(leaf.not_after));
    }
    Ok(())
}

/// Returns what a leaf is valid for beside the names in `wanted`. Some authorities add the name
/// with `www.`, or the common name.
pub fn added_names(leaf: &Leaf, wanted: &[DnsName]) -> Vec<String> {
    let names = leaf.names.iter().filter(|name| !wanted.contains(name));
    let names = names.map(ToString::to_string);
    names.chain(leaf.other_names.iter().cloned()).collect()
}

/// Decides whether ACM lets `new` replace `old` under the same ARN. If not, returns the reason in
/// words.
///
/// The rules are ACM's ("Reimport a certificate", and the prerequisites for importing). Key type
/// and size stay the same. No key usage and no extended key usage is lost, except key encipherment
/// of an ECDSA certificate and client authentication. An extension does not appear where there was
/// none. At least one name stays.
pub fn may_reimport(old: &Leaf, new: &Leaf) -> Result<(), String> {
    let (Some(old_type), Some(new_type)) = (old.key_type, new.key_type) else {
        return Err("a key has a type that certloop does not support".to_owned());
    };
    if old_type != new_type {
        return Err(format!(
            "the key type changes from {old_type} to {new_type}"
        ));
    }
    let forgiven = if old_type.is_ecdsa() {
        KEY_ENCIPHERMENT
    } else {
        ""
    };
    let usages = (&old.key_usages, &new.key_usages);
    usages_stay("key usage", usages, forgiven)?;
    let usages = (&old.extended_key_usages, &new.extended_key_usages);
    usages_stay("extended key usage", usages, CLIENT_AUTHENTICATION)?;
    if !new.names.iter().any(|name| old.names.contains(name)) {
        return Err("no name of the old certificate is in the new one".to_owned());
    }
    Ok(())
}

/// Why a chain cannot be read or used.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// The text holds no certificate, or a broken one.
    #[error("not a PEM certificate chain")]
    NotPem,
    /// A certificate cannot be parsed.
    #[error("unreadable certificate: {0}")]
    Unreadable(String),
    /// No certificate of the chain issued the leaf.
    #[error("the chain holds other certificates than the issuer of its first one, {0:?}")]
    IssuerMissing(String),
    /// The leaf was issued for another key.
    #[error("the certificate holds another public key than the key of its order")]
    OtherKey,
    /// The leaf does not have all names that were ordered.
    #[error("the certificate lacks names that were ordered: {0}")]
    NamesMissing(String),
    /// The leaf is not valid yet.
    #[error(
        "the certificate is valid only from {} on and ACM refuses it until then: our clock is slow \
         or the authority's clock is fast",
        instant(.0)
    )]
    NotYetValid(OffsetDateTime),
    /// The leaf has expired.
    #[error("the certificate expired at {}", instant(.0))]
    Expired(OffsetDateTime),
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, ChainError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(ChainError::Unreadable("bytes after its end".to_owned())),
        Err(error) => Err(ChainError::Unreadable(error.to_string())),
    }
}

/// Makes a PEM text one that a strict reader accepts: each block on lines of its own, without a
/// byte order mark and without space around the lines.
fn tidy(pem: &str) -> String {
    let apart = pem
        .trim_start_matches('\u{feff}')
        .replace("-----BEGIN ", "\n-----BEGIN ")
        .replace(" X509 CERTIFICATE-----", " CERTIFICATE-----");
    let lines: Vec<&str> = apart.lines().map(str::trim).collect();
    lines.join("\n")
}

/// Returns the leaf, then each issuer, without repetitions and without the root above an
/// intermediate. Also returns how many other intermediates there are.
fn in_order(
    all: &[Vec<u8>],
    is_leaf: impl Fn(&X509Certificate<'_>) -> bool,
) -> Result<(Vec<Vec<u8>>, usize), ChainError> {
    let mut rest: Vec<(&Vec<u8>, X509Certificate<'_>)> = Vec::new();
    let mut unreadable = None;
    for der in all {
        match parse(der) {
            _ if rest.iter().any(|(known, _)| *known == der) => {}
            Ok(certificate) => rest.push((der, certificate)),
            Err(error) => unreadable = Some(error),
        }
    }
    if let Some(error) = unreadable.filter(|_| rest.is_empty()) {
        return Err(error);
    }
    let is_authority = |certificate: &X509Certificate<'_>| {
        let constraints = certificate.basic_constraints().ok().flatten();
        constraints.is_some_and(|constraints| constraints.value.ca)
    };
    let leaf = (rest.iter())
        .position(|(_, certificate)| is_leaf(certificate))
        .or_else(|| (rest.iter()).position(|(_, certificate)| !is_authority(certificate)));
    let is_root = |certificate: &X509Certificate<'_>| {
        certificate.subject().as_raw() == certificate.issuer().as_raw()
    };
    let issued = |above: &X509Certificate<'_>, below: &X509Certificate<'_>| {
        below.issuer().as_raw() == above.subject().as_raw() && has_signed(above, below)
    };
    let mut ordered = Vec::new();
    let mut next = (!rest.is_empty()).then_some(leaf.unwrap_or(0));
    while let Some(at) = next {
        let (der, below) = rest.remove(at);
        ordered.push(der.clone());
        let issuers = rest
            .iter()
            .map(|(_, other)| issued(other, &below).then_some(is_root(other)));
        let issuers: Vec<Option<bool>> = issuers.collect();
        next = issuers.iter().position(|issuer| *issuer == Some(false));
        // The root of a leaf that it issued itself stays: ACM takes no leaf without a chain.
        if next.is_none() && ordered.len() == 1 && !is_root(&below) {
            next = issuers.iter().position(Option::is_some);
        }
    }
    let others = rest.iter();
    let others = others.filter(|(_, other)| is_authority(other) && !is_root(other));
    let others = others.count();
    Ok((ordered, others))
}

/// Whether a certificate names itself as its issuer, and no other key as the one that signed it.
fn is_self_signed(
    certificate: &X509Certificate<'_>,
    authority_key: Option<&[u8]>,
    own_key: Option<&[u8]>,
) -> bool {
    let same_name = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let other_key = match (authority_key, own_key) {
        (Some(authority), Some(own)) => authority != own,
        _ => false,
    };
    same_name && !other_key
}

/// Whether the key of `above` has signed `below`.
///
/// Key identifiers decide only where the algorithm is one that we do not know. Some authorities
/// write wrong ones, and a client must not exclude an issuer for that (RFC 4158 section 3.5.12).
fn has_signed(above: &X509Certificate<'_>, below: &X509Certificate<'_>) -> bool {
    match below.verify_signature(Some(above.public_key())) {
        Ok(()) => true,
        Err(X509Error::SignatureUnsupportedAlgorithm) => !other_key(below, above),
        Err(_) => false,
    }
}

/// Whether `below` names another key as its signer than the key of `above`. The key identifiers are
/// optional; most certificates have them.
fn other_key(below: &X509Certificate<'_>, above: &X509Certificate<'_>) -> bool {
    let authority =
        below
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                    identifier.key_identifier.as_ref()
                }
                _ => None,
            });
    let subject =
        above
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier),
                _ => None,
            });
    matches!((authority, subject), (Some(authority), Some(subject)) if authority != subject)
}

fn key_type(public_key: &SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    match public_key.parsed().ok()? {
        PublicKey::EC(_) => {
            let curve = public_key.algorithm.parameters.as_ref()?.as_oid().ok()?;
            if curve == OID_EC_P256 {
                Some(KeyType::EcdsaP256)
            } else if curve == OID_NIST_EC_P384 {
                Some(KeyType::EcdsaP384)
            } else {
                None
            }
        }
        PublicKey::RSA(key) => {
            let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
            let first = key.modulus.get(zeros)?;
            let bits = (key.modulus.len() - zeros) * 8 - first.leading_zeros() as usize;
            match bits {
                2048 => Some(KeyType::Rsa2048),
                3072 => Some(KeyType::Rsa3072),
                4096 => Some(KeyType::Rsa4096),
                _ => None,
            }
        }
        _ => None,
    }
}

fn key_usages(usage: &KeyUsage) -> BTreeSet<String> {
    chosen([
        (usage.digital_signature(), "DIGITAL_SIGNATURE"),
        (usage.non_repudiation(), "NON_REPUDIATION"),
        (usage.key_encipherment(), KEY_ENCIPHERMENT),
        (usage.data_encipherment(), "DATA_ENCIPHERMENT"),
        (usage.key_agreement(), "KEY_AGREEMENT"),
        (usage.key_cert_sign(), "CERTIFICATE_SIGNING"),
        (usage.crl_sign(), "CRL_SIGNING"),
        (usage.encipher_only(), "ENCIPHER_ONLY"),
        (usage.decipher_only(), "DECIPHER_ONLY"),
    ])
}

fn extended_key_usages(usage: &ExtendedKeyUsage<'_>) -> BTreeSet<String> {
    let mut usages = chosen([
        (usage.any, "ANY"),
        (usage.server_auth, "TLS_WEB_SERVER_AUTHENTICATION"),
        (usage.client_auth, CLIENT_AUTHENTICATION),
        (usage.code_signing, "CODE_SIGNING"),
        (usage.email_protection, "EMAIL_PROTECTION"),
        (usage.time_stamping, "TIME_STAMPING"),
        (usage.ocsp_signing, "OCSP_SIGNING"),
    ]);
    usages.extend(usage.other.iter().map(|oid| match oid.to_id_string() {
        oid if oid == "1.3.6.1.5.5.7.3.5" => "IPSEC_END_SYSTEM".to_owned(),
        oid if oid == "1.3.6.1.5.5.7.3.6" => "IPSEC_TUNNEL".to_owned(),
        oid if oid == "1.3.6.1.5.5.7.3.7" => "IPSEC_USER".to_owned(),
        oid => oid,
    }));
    usages
}

fn chosen<const N: usize>(usages: [(bool, &str); N]) -> BTreeSet<String> {
    usages
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, word)| word.to_owned())
        .collect()
}

fn usages_stay(
    what: &str,
    (old, new): (&Option<BTreeSet<String>>, &Option<BTreeSet<String>>),
    forgiven: &str,
) -> Result<(), String> {
    let Some(old) = old else {
        return match new {
            None => Ok(()),
            Some(_) => Err(format!(
                "the new certificate has the {what} extension and the old one has none"
            )),
        };
    };
    let kept = |usage: &String| new.as_ref().is_some_and(|new| new.contains(usage));
    match old.iter().find(|usage| *usage != forgiven && !kept(usage)) {
        Some(lost) => Err(format!("the {what} {lost} would be lost")),
        None => Ok(()),
    }
}

fn instant(at: &OffsetDateTime) -> impl fmt::Display {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----");
    for (at, letter) in text.chars().enumerate() {
        if at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const KEY_ENCIPHERMENT: &str = "KEY_ENCIPHERMENT";
const CLIENT_AUTHENTICATION: &str = "TLS_WEB_CLIENT_AUTHENTICATION";

/// Whether two hexadecimal serials are the same number: DER keeps a leading zero that the service
/// may drop.
pub fn same_serial(a: &str, b: &str) -> bool {
    let number = |serial: &str| serial.trim_start_matches('0').to_ascii_lowercase();
    number(a) == number(b)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyUsagePurpose, SerialNumber,
    };
    use time::Duration;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::parse("2026-11-22T12:00:00Z", &Rfc3339).unwrap()
    }

    fn names(names: &[&str]) -> Vec<DnsName> {
        names
            .iter()
            .map(|name| DnsName::parse(name).unwrap())
            .collect()
    }

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = now() - Duration::days(1);
        params.not_after = now() + Duration::days(89);
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn authority() -> CertifiedIssuer<'static, rcgen::KeyPair> {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA");
        CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    /// A chain for `key`.
    fn issue(params: &CertificateParams, key: &PrivateKey) -> Chain {
        let authority = authority();
        let key = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        let root: &rcgen::Certificate = authority.as_ref();
        Chain::parse(&(leaf.pem() + &root.pem())).unwrap()
    }

    #[test]
    fn a_leaf_is_read_with_all_its_facts() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let mut params = params(&["www.example.com", "a.example.com", "www.example.com"]);
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc, 0xde]));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 99]),
        ];
        let chain = issue(&params, &key);
        let leaf = chain.leaf();
        assert_eq!(leaf.serial, "0abcde");
        assert_eq!(leaf.names, names(&["a.example.com", "www.example.com"]));
        assert!(leaf.other_names.is_empty());
        assert_eq!(leaf.issuer, "CN=a CA");
        assert_eq!(leaf.not_before, now() - Duration::days(1));
        assert_eq!(leaf.not_after, now() + Duration::days(89));
        assert_eq!(leaf.key_type, Some(KeyType::EcdsaP256));
        let usages = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            leaf.key_usages,
            usages(&["DIGITAL_SIGNATURE", "KEY_ENCIPHERMENT"])
        );
        assert_eq!(
            leaf.extended_key_usages,
            usages(&["1.3.6.1.4.1.99", "TLS_WEB_SERVER_AUTHENTICATION"])
        );
        assert!(!leaf.self_signed);
        assert_eq!(leaf.fingerprint.len(), 64);
        assert_eq!(leaf.der, chain.der()[0]);
        assert!(leaf.authority_key_identifier.is_some());
    }

    #[test]
    fn the_unique_identifier_keeps_the_zero_byte_of_the_serial() {
        // The example of RFC 9773 section 4.1.
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let mut leaf = issue(&params(&["example.com"]), &key).leaf().clone();
        leaf.authority_key_identifier = Some(vec![
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0,
            0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
        ]);
        leaf.raw_serial = vec![0x00, 0x87, 0x65, 0x43, 0x21];
        let expected = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
        assert_eq!(leaf.identifier().as_deref(), Some(expected));
    }

    #[test]
    fn a_serial_beginning_with_a_high_bit_keeps_its_zero_byte() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let mut params = params(&["a.example.com"]);
        params.serial_number = Some(SerialNumber::from_slice(&[0xff, 0x01]));
        assert_eq!(issue(&params, &key).leaf().serial, "00ff01");
    }

    #[test]
    fn the_five_key_types_are_distinguished() {
        for key_type in KeyType::ALL {
            let key = PrivateKey::generate(key_type).unwrap();
            let chain = issue(&params(&["a.example.com"]), &key);
            assert_eq!(chain.leaf().key_type, Some(key_type));
        }
    }

    #[test]
    fn a_self_signed_certificate_without_extensions_is_read_too() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "placeholder");
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let chain = Chain::parse(&params.self_signed(&key).unwrap().pem()).unwrap();
        let leaf = chain.leaf();
        assert!(leaf.self_signed);
        assert_eq!(leaf.key_type, None);
        assert_eq!(leaf.key_usages, None);
        assert_eq!(leaf.extended_key_usages, None);
        assert!(leaf.names.is_empty());
        assert_eq!(leaf.other_names, ["placeholder"]);
        assert_eq!(chain.intermediates_pem(), "");
    }

    #[test]
    fn an_address_is_kept_apart_from_the_names() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let chain = issue(&params(&["a.example.com", "192.0.2.7"]), &key);
        assert_eq!(chain.leaf().names, names(&["a.example.com"]));
        assert_eq!(chain.leaf().other_names.len(), 1);
        let wanted = names(&["a.example.com"]);
        assert_eq!(check_issued(&chain, &key, &wanted, now()), Ok(()));
        assert_eq!(added_names(chain.leaf(), &wanted).len(), 1);
    }

    /// A leaf, its intermediate and the root, as PEM.
    fn three() -> [String; 3] {
        let root = authority();
        let mut between = params(&[]);
        between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        between
            .distinguished_name
            .push(DnType::CommonName, "between");
        let new_key = || rcgen::KeyPair::generate().unwrap();
        let between = CertifiedIssuer::signed_by(between, new_key(), &root).unwrap();
        let leaf = params(&["a.example.com"]).signed_by(&new_key(), &between);
        let pem = |issuer: &CertifiedIssuer<'_, rcgen::KeyPair>| issuer.pem();
        [leaf.unwrap().pem(), pem(&between), pem(&root)]
    }

    #[test]
    fn a_chain_is_put_in_order() {
        let [leaf, intermediate, root] = three();
        let other = three();
        let wanted = Chain::parse(&[&*leaf, &intermediate].concat()).unwrap();
        assert_eq!(wanted.der().len(), 2);
        let glued = [leaf.trim_end(), &intermediate].concat();
        let indented = glued.replace('\n', "\r\n   ");
        let marked = format!("\u{feff}subject=/CN=a.example.com\n{leaf}{intermediate}");
        let old_label = marked.replace(" CERTIFICATE-----", " X509 CERTIFICATE-----");
        for (what, text) in [
            (
                "the intermediate twice",
                [&*leaf, &intermediate, &intermediate].concat(),
            ),
            ("the leaf twice", [&*leaf, &leaf, &intermediate].concat()),
            ("the root too", [&*leaf, &intermediate, &root].concat()),
            (
                "root before intermediate",
                [&*leaf, &root, &intermediate].concat(),
            ),
            ("the leaf last", [&*root, &intermediate, &leaf].concat()),
            (
                "the leaf in the middle",
                [&*intermediate, &leaf, &root].concat(),
            ),
            (
                "one that has no place",
                [&*leaf, &other[1], &intermediate].concat(),
            ),
            ("blocks without a line between", glued),
            ("space around lines", indented),
            ("a byte order mark and text", marked),
            ("the label of old tools", old_label),
        ] {
            assert_eq!(Chain::parse(&text).as_ref(), Ok(&wanted), "{what}");
        }
    }

    #[test]
    fn a_root_stays_where_it_issued_the_leaf() {
        let root = authority();
        let leaf =
            params(&["a.example.com"]).signed_by(&rcgen::KeyPair::generate().unwrap(), &root);
        let (leaf, root) = (leaf.unwrap().pem(), root.pem());
        for text in [format!("{leaf}{root}"), format!("{root}{leaf}{root}")] {
            let chain = Chain::parse(&text).unwrap();
            assert_eq!(chain.leaf().names[0].as_str(), "a.example.com");
            assert_eq!(chain.der().len(), 2, "{text}");
            assert_eq!(chain.check_issuer(), Ok(()));
        }
    }

    #[test]
    fn a_chain_without_the_issuer_of_its_leaf_is_refused() {
        let [leaf, intermediate, root] = three();
        let other = three();
        for (parts, is_good) in [
            ([&*leaf, "", ""], true),
            ([&*leaf, &root, ""], true),
            ([&*leaf, &intermediate, &other[1]], true),
            ([&*leaf, &other[1], &root], false),
        ] {
            let verdict = Chain::parse(&parts.concat()).unwrap().check_issuer();
            assert_eq!(verdict.is_ok(), is_good, "{verdict:?}");
        }
    }

    #[test]
    fn an_issuer_is_known_by_its_signature_and_not_by_key_identifiers() {
        let root = authority();
        let between = |identifier: &[u8]| {
            let mut params = params(&[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(identifier.to_vec());
            params
                .distinguished_name
                .push(DnType::CommonName, "between");
            params
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let served = between(b"one").signed_by(&key, &root).unwrap();
        let signing = CertifiedIssuer::signed_by(between(b"another"), key, &root).unwrap();
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let leaf = params(&["a.example.com"]).signed_by(&leaf_key, &signing);
        let leaf = leaf.unwrap().pem();
        let stranger_key = rcgen::KeyPair::generate().unwrap();
        let stranger = between(b"another").signed_by(&stranger_key, &root).unwrap();

        let chain = Chain::parse(&(leaf.clone() + &stranger.pem() + &served.pem())).unwrap();

        assert_eq!(chain.der()[1..], [served.der().to_vec()]);
        assert_eq!(chain.check_issuer(), Ok(()));
        let chain = Chain::parse(&(leaf + &stranger.pem())).unwrap();
        assert!(chain.check_issuer().is_err());
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let unfinished = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert_eq!(Chain::parse(""), Err(ChainError::NotPem));
        assert_eq!(Chain::parse(unfinished), Err(ChainError::NotPem));
        assert!(matches!(
            Chain::parse(broken),
            Err(ChainError::Unreadable(_))
        ));
    }

    #[test]
    fn what_was_issued_is_held_against_what_was_asked_for() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let other = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let held = ["a.example.com", "*.b.example.com"];
        let chain = issue(&params(&held), &key);
        let leaf = chain.leaf();
        let second = Duration::seconds(1);
        for (sentence, key, wanted, now, verdict) in [
            (
                "the same names in any order",
                &key,
                &["*.b.example.com", "a.example.com"][..],
                now(),
                None,
            ),
            ("the first second", &key, &held, leaf.not_before, None),
            ("the last second", &key, &held, leaf.not_after, None),
            (
                "another key",
                &other,
                &held,
                now(),
                Some("another public key"),
            ),
            (
                "a name missing",
                &key,
                &["a.example.com", "*.b.example.com", "c.example.com"],
                now(),
                Some("lacks names that were ordered: c.example.com"),
            ),
            ("a name too many", &key, &["a.example.com"], now(), None),
            (
                "a second early",
                &key,
                &held,
                leaf.not_before - second,
                Some("ACM refuses it until then"),
            ),
            (
                "a second late",
                &key,
                &held,
                leaf.not_after + second,
                Some("expired at 2027-02-19T12:00:00Z"),
            ),
        ] {
            let answer = check_issued(&chain, key, &names(wanted), now);
            match (verdict, answer) {
                (None, answer) => assert_eq!(answer, Ok(()), "{sentence}"),
                (Some(words), Err(error)) => {
                    assert!(error.to_string().contains(words), "{sentence}: {error}");
                }
                (Some(_), Ok(())) => panic!("{sentence}: let through"),
            }
        }
    }

    #[test]
    fn acm_takes_the_new_certificate_under_the_old_arn_or_it_is_said_why_not() {
        const SIGN: &str = "DIGITAL_SIGNATURE";
        const SERVER: &str = "TLS_WEB_SERVER_AUTHENTICATION";
        const P256: Option<KeyType> = Some(KeyType::EcdsaP256);
        const RSA: Option<KeyType> = Some(KeyType::Rsa2048);
        type Side<'a> = (
            Option<KeyType>,
            Option<&'a [&'a str]>,
            Option<&'a [&'a str]>,
            &'a [&'a str],
        );

        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let template = issue(&params(&["a.example.com"]), &key).leaf().clone();
        let leaf = |(key_type, usages, extended, held): Side<'_>| {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            Leaf {
                key_type,
                key_usages: usages.map(words),
                extended_key_usages: extended.map(words),
                names: names(held),
                ..template.clone()
            }
        };
        const A: &[&str] = &["a.example.com"];
        const BOTH: Option<&[&str]> = Some(&[SIGN, KEY_ENCIPHERMENT]);
        const SIGNS: Option<&[&str]> = Some(&[SIGN]);
        const SERVES: Option<&[&str]> = Some(&[SERVER]);
        const SERVES_AND_ASKS: Option<&[&str]> = Some(&[SERVER, CLIENT_AUTHENTICATION]);

        let cases: &[(&str, Side<'_>, Side<'_>, Option<&str>)] = &[
            (
                "the same again",
                (P256, SIGNS, SERVES, A),
                (P256, SIGNS, SERVES, A),
                None,
            ),
            (
                "no usages, as before",
                (RSA, None, None, A),
                (RSA, None, None, A),
                None,
            ),
            (
                "another kind of key",
                (P256, SIGNS, SERVES, A),
                (RSA, SIGNS, SERVES, A),
                Some("the key type changes from ecdsa-p256 to rsa-2048"),
            ),
            (
                "another size of key",
                (RSA, SIGNS, SERVES, A),
                (Some(KeyType::Rsa4096), SIGNS, SERVES, A),
                Some("the key type changes from rsa-2048 to rsa-4096"),
            ),
            (
                "an unknown key before",
                (None, SIGNS, SERVES, A),
                (P256, SIGNS, SERVES, A),
                Some("a key has a type that certloop does not support"),
            ),
            (
                "unknown keys on both sides",
                (None, SIGNS, SERVES, A),
                (None, SIGNS, SERVES, A),
                Some("a key has a type that certloop does not support"),
            ),
            (
                "key encipherment lost, ECDSA",
                (P256, BOTH, SERVES, A),
                (P256, SIGNS, SERVES, A),
                None,
            ),
            (
                "key encipherment lost, RSA",
                (RSA, BOTH, SERVES, A),
                (RSA, SIGNS, SERVES, A),
                Some("the key usage KEY_ENCIPHERMENT would be lost"),
            ),
            (
                "digital signature lost, ECDSA",
                (P256, BOTH, SERVES, A),
                (P256, Some(&[KEY_ENCIPHERMENT]), SERVES, A),
                Some("the key usage DIGITAL_SIGNATURE would be lost"),
            ),
            (
                "a key usage more",
                (RSA, SIGNS, SERVES, A),
                (RSA, BOTH, SERVES, A),
                None,
            ),
            (
                "the key usages gone",
                (RSA, SIGNS, SERVES, A),
                (RSA, None, SERVES, A),
                Some("the key usage DIGITAL_SIGNATURE would be lost"),
            ),
            (
                "key usages where none were",
                (RSA, None, SERVES, A),
                (RSA, SIGNS, SERVES, A),
                Some("the new certificate has the key usage extension and the old one has none"),
            ),
            (
                "client authentication lost",
                (RSA, SIGNS, SERVES_AND_ASKS, A),
                (RSA, SIGNS, SERVES, A),
                None,
            ),
            (
                "client authentication more",
                (RSA, SIGNS, SERVES, A),
                (RSA, SIGNS, SERVES_AND_ASKS, A),
                None,
            ),
            (
                "server authentication lost",
                (RSA, SIGNS, SERVES_AND_ASKS, A),
                (RSA, SIGNS, Some(&[CLIENT_AUTHENTICATION]), A),
                Some("the extended key usage TLS_WEB_SERVER_AUTHENTICATION would be lost"),
            ),
            (
                "the extended key usages gone",
                (RSA, SIGNS, SERVES, A),
                (RSA, SIGNS, None, A),
                Some("the extended key usage TLS_WEB_SERVER_AUTHENTICATION would be lost"),
            ),
            (
                "extended key usages where none were",
                (RSA, SIGNS, None, A),
                (RSA, SIGNS, SERVES, A),
                Some(
                    "the new certificate has the extended key usage extension and the old one \
                     has none",
                ),
            ),
            (
                "one name stays",
                (P256, SIGNS, SERVES, &["a.example.com", "b.example.com"]),
                (P256, SIGNS, SERVES, &["b.example.com", "c.example.com"]),
                None,
            ),
            (
                "no name stays",
                (P256, SIGNS, SERVES, A),
                (P256, SIGNS, SERVES, &["b.example.com"]),
                Some("no name of the old certificate is in the new one"),
            ),
            (
                "a wildcard over the old name is another name",
                (P256, SIGNS, SERVES, A),
                (P256, SIGNS, SERVES, &["*.example.com"]),
                Some("no name of the old certificate is in the new one"),
            ),
        ];
        for (sentence, old, new, verdict) in cases {
            let expected = verdict.map_or(Ok(()), |why| Err(why.to_owned()));
            assert_eq!(
                may_reimport(&leaf(*old), &leaf(*new)),
                expected,
                "{sentence}"
            );
        }
    }

    #[test]
    fn serials_are_numbers() {
        for (a, b, same) in [
            ("03AB00", "03ab00", true),
            ("3ab00", "0003ab00", true),
            ("00c3", "c3", true),
            ("03ab", "03ac", false),
            ("3ab0", "3ab", false),
        ] {
            assert_eq!(same_serial(a, b), same, "{a:?} {b:?}");
        }
    }
}
