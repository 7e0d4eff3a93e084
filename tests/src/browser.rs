//! A browser: it trusts its own roots and nothing else.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::http::{self, Request, Response};
use crate::tls;

/// What a server presented, after the browser accepted it.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The chain as served, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The DNS names of the leaf.
    pub names: Vec<String>,
    /// The common name of the issuer.
    pub issuer: String,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// `ecdsa` or `rsa`.
    pub key: &'static str,
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
}

impl Leaf {
    /// Parses a chain.
    pub fn read(chain: &[CertificateDer<'_>]) -> Self {
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let issuer = leaf.issuer().iter_common_name().next();
        let issuer = issuer.and_then(|name| name.as_str().ok());
        let algorithm = leaf.public_key().algorithm.algorithm.to_id_string();
        Self {
            chain: chain.iter().map(|one| one.to_vec()).collect(),
            names: names.collect(),
            issuer: issuer.unwrap_or_default().to_owned(),
            serial: leaf.raw_serial_as_string().replace(':', ""),
            key: if algorithm == "1.2.840.10045.2.1" {
                "ecdsa"
            } else {
                "rsa"
            },
            not_before: leaf.validity().not_before.to_datetime(),
            not_after: leaf.validity().not_after.to_datetime(),
        }
    }

    /// Returns the leaf as PEM.
    pub fn pem(&self) -> String {
        let body = BASE64_STANDARD.encode(&self.chain[0]);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    /// Returns the leaf's unique identifier (RFC 9773 section 4.1).
    pub fn identifier(&self) -> String {
        let (_, leaf) = X509Certificate::from_der(&self.chain[0]).unwrap();
        let key = leaf
            .iter_extensions()
            .find_map(|one| match one.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.clone(),
                _ => None,
            });
        let [key, serial] =
            [key.unwrap().0, leaf.raw_serial()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{key}.{serial}")
    }

    /// Returns the end of validity as RFC 3339.
    pub fn until(&self) -> String {
        self.not_after.format(&Rfc3339).unwrap_or_default()
    }
}

/// Opens `https://<name>/` at an address, trusting only these roots. The error says in words why
/// the browser refuses.
pub async fn visit(
    address: SocketAddr,
    name: &str,
    roots_pem: &str,
) -> Result<(Leaf, Response), String> {
    let client = tls::client_config(roots_pem);
    let stream = tls::connect(client, address, name)
        .await
        .map_err(|error| error.to_string())?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = Leaf::read(chain);
    let response = http::exchange(stream, Request::get(name, "/"))
        .await
        .map_err(|error| error.to_string())?;
    Ok((leaf, response))
}
