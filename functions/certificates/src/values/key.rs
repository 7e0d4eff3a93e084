//! Key types, private keys and the signing requests made with them.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SanType, SigningKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::values::names::DnsName;

/// Kind and size of a certificate's key: the five types that Let's Encrypt signs and ACM imports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyType {
    /// ECDSA on the curve P-256.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on the curve P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA with 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl KeyType {
    /// Every key type, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// Returns whether keys of this type sign with ECDSA; the others sign with RSA.
    pub fn is_ecdsa(self) -> bool {
        matches!(self, Self::EcdsaP256 | Self::EcdsaP384)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        })
    }
}

/// A certificate's private key, of one of the five types.
///
/// It is wiped from memory when dropped. It has no `Debug` output and no serialization: only
/// [`PrivateKey::to_pem`] gives the key away.
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
    key_type: KeyType,
}

impl PrivateKey {
    /// Generates a random key.
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let failed = |_: Unspecified| KeyError::NotGenerated(key_type);
        let ecdsa = |algorithm| {
            EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
                .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        };
        let rsa = |size| {
            let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(size)?.as_der()?;
            Ok(Zeroizing::new(der.as_ref().to_vec()))
        };
        let pkcs8 = match key_type {
            KeyType::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyType::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyType::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyType::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyType::Rsa4096 => rsa(KeySize::Rsa4096),
        }
        .map_err(failed)?;
        Self::from_pkcs8(pkcs8)
    }

    /// Reads a key from a PEM text: unencrypted PKCS#8, of one of the five types.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let body = pem
            .split_once(PEM_BEGIN)
            .and_then(|(_, rest)| rest.split_once(PEM_END))
            .map(|(body, _)| body)
            .ok_or(KeyError::NotPem)?;
        let mut text = Zeroizing::new(String::with_capacity(body.len()));
        text.extend(body.split_ascii_whitespace());
        // Allocates the whole result at once: a growing vector would leave copies of the key in
        // memory.
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(text.len()));
        STANDARD
            .decode_vec(text.as_bytes(), &mut pkcs8)
            .map_err(|_| KeyError::NotPem)?;
        Self::from_pkcs8(pkcs8)
    }

    /// Returns the key as the PEM text that ACM imports (`BEGIN PRIVATE KEY`, PKCS#8).
    pub fn to_pem(&self) -> Zeroizing<String> {
        let text = Zeroizing::new(STANDARD.encode(self.pkcs8.as_slice()));
        let room = text.len() + text.len() / PEM_LINE + PEM_BEGIN.len() + PEM_END.len() + 4;
        let mut pem = Zeroizing::new(String::with_capacity(room));
        pem.push_str(PEM_BEGIN);
        for (at, letter) in text.chars().enumerate() {
            if at % PEM_LINE == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push('\n');
        pem.push_str(PEM_END);
        pem.push('\n');
        pem
    }

    /// Makes a signing request (DER) for `names`.
    ///
    /// The names are in the subject alternative names only, and the subject is empty: a common name
    /// must be one of the names and have at most 64 characters, and some profiles refuse it.
    pub fn csr(&self, names: &[DnsName]) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names
            .iter()
            .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)))
            .collect::<Result<_, rcgen::Error>>()?;
        Ok(params.serialize_request(&Signer(self))?.der().to_vec())
    }

    /// Returns the public key as SubjectPublicKeyInfo (DER), as a certificate holds it.
    pub fn public_key_der(&self) -> Vec<u8> {
        Signer(self).subject_public_key_info()
    }

    /// Returns the public key in the form that making a certificate needs.
    pub(crate) fn public_key(&self) -> impl PublicKeyData {
        Signer(self)
    }

    /// Returns the kind and size of the key.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8).map(Pair::Ecdsa)
        };
        let (pair, key_type) = if let Ok(pair) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            (pair, KeyType::EcdsaP256)
        } else if let Ok(pair) = ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            (pair, KeyType::EcdsaP384)
        } else if let Ok(pair) = RsaKeyPair::from_pkcs8(&pkcs8) {
            let key_type = match pair.public_modulus_len() {
                256 => KeyType::Rsa2048,
                384 => KeyType::Rsa3072,
                512 => KeyType::Rsa4096,
                _ => return Err(KeyError::Unsupported),
            };
            (Pair::Rsa(pair), key_type)
        } else {
            return Err(KeyError::Unsupported);
        };
        Ok(Self {
            pkcs8,
            pair,
            key_type,
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, hidden)", self.key_type)
    }
}

/// Why a key cannot be made, read or used. No message contains any part of the key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The random generator or the key generation failed.
    #[error("could not generate a key of type {0}")]
    NotGenerated(KeyType),
    /// The text is not the PEM of an unencrypted PKCS#8 key.
    #[error("not a PEM private key: expected one unencrypted PKCS#8 block, BEGIN PRIVATE KEY")]
    NotPem,
    /// The key has none of the five types.
    #[error(
        "the key has a type that certloop does not support: expected ecdsa-p256, ecdsa-p384, \
         rsa-2048, rsa-3072 or rsa-4096"
    )]
    Unsupported,
    /// The signing request cannot be made.
    #[error("could not make the signing request")]
    Request(#[from] rcgen::Error),
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// Signs for rcgen: its own key type keeps a copy of the key that is not wiped.
struct Signer<'a>(&'a PrivateKey);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        match &self.0.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.0.key_type {
            KeyType::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = SystemRandom::new();
        let failed = |_| rcgen::Error::RingUnspecified;
        match &self.0.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
const PEM_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;

    use super::*;

    fn names(names: &[&str]) -> Vec<DnsName> {
        names
            .iter()
            .map(|name| DnsName::parse(name).unwrap())
            .collect()
    }

    #[test]
    fn every_key_type_survives_pem_and_requests_its_names() {
        for key_type in KeyType::ALL {
            let key = PrivateKey::generate(key_type).unwrap();
            assert_eq!(key.key_type(), key_type);
            let pem = key.to_pem();
            assert!(
                pem.starts_with("-----BEGIN PRIVATE KEY-----\n"),
                "{key_type}"
            );
            assert!(pem.ends_with("\n-----END PRIVATE KEY-----\n"), "{key_type}");
            assert!(
                pem.len() <= 5120,
                "ACM takes 5,120 bytes, {key_type} has {}",
                pem.len()
            );
            assert!(pem.lines().all(|line| (1..=64).contains(&line.len())));
            let again = PrivateKey::from_pem(&pem).unwrap();
            assert_eq!(again.key_type(), key_type);
            assert_eq!(again.public_key_der(), key.public_key_der());
            assert_eq!(*again.to_pem(), *pem);

            let wanted = ["shop.example.com", "www.shop.example.com"];
            let csr = again.csr(&names(&wanted)).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&csr).unwrap();
            assert!(rest.is_empty());
            let info = &request.certification_request_info;
            assert_eq!(info.subject.iter().count(), 0, "the subject is empty");
            assert_eq!(info.subject_pki.raw, key.public_key_der());
            let text = format!(
                "{:?}",
                request.requested_extensions().unwrap().collect::<Vec<_>>()
            );
            for name in wanted {
                assert!(text.contains(name), "{text}");
            }
        }
    }

    #[test]
    fn the_request_is_signed_by_the_key() {
        use aws_lc_rs::signature::{
            ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256,
            UnparsedPublicKey, VerificationAlgorithm,
        };
        let cases: [(KeyType, &'static dyn VerificationAlgorithm, &str); 3] = [
            (
                KeyType::EcdsaP256,
                &ECDSA_P256_SHA256_ASN1,
                "1.2.840.10045.4.3.2",
            ),
            (
                KeyType::EcdsaP384,
                &ECDSA_P384_SHA384_ASN1,
                "1.2.840.10045.4.3.3",
            ),
            (
                KeyType::Rsa2048,
                &RSA_PKCS1_2048_8192_SHA256,
                "1.2.840.113549.1.1.11",
            ),
        ];
        for (key_type, algorithm, oid) in cases {
            let key = PrivateKey::generate(key_type).unwrap();
            let csr = key.csr(&names(&["a.example.com"])).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&csr).unwrap();
            assert_eq!(request.signature_algorithm.algorithm.to_id_string(), oid);
            let info = &request.certification_request_info;
            UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data)
                .verify(info.raw, &request.signature_value.data)
                .unwrap();
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        for (what, pem) in [
            ("nothing", ""),
            (
                "another label",
                "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----",
            ),
            ("no end", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0"),
            (
                "no base64",
                "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----",
            ),
            (
                "no key",
                "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----",
            ),
        ] {
            let error = PrivateKey::from_pem(pem).expect_err(what);
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("secret") && !text.contains("c2Vj"),
                "{what}: {text}"
            );
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(ecdsa-p256, hidden)");
    }

    #[test]
    fn key_types_read_and_write_as_the_documents_have_them() {
        for key_type in KeyType::ALL {
            let text = serde_json::to_string(&key_type).unwrap();
            assert_eq!(text, format!("\"{key_type}\""));
            assert_eq!(serde_json::from_str::<KeyType>(&text).unwrap(), key_type);
        }
        assert!(serde_json::from_str::<KeyType>("\"ecdsa-p521\"").is_err());
    }
}
