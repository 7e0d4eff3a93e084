//! Made-up certificates in place of those that an authority would issue.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::values::key::PrivateKey;
use crate::values::names::DnsName;

/// Issues made-up certificates during one plan.
pub(super) struct MadeUp(CertifiedIssuer<'static, KeyPair>);

/// What to issue.
pub(super) struct LeafWish<'a> {
    pub(super) key: &'a PrivateKey,
    pub(super) names: &'a [DnsName],
    pub(super) from: OffsetDateTime,
    pub(super) lifetime: Duration,
    /// The leaf, in DER, whose usages it copies.
    pub(super) like: Option<&'a [u8]>,
}

impl MadeUp {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name = named("made up for a plan");
        CertifiedIssuer::self_signed(params, KeyPair::generate()?).map(Self)
    }

    /// Returns a chain as PEM: the leaf and its issuer.
    pub(super) fn issue(&self, wish: &LeafWish<'_>) -> Result<String, rcgen::Error> {
        let names: Vec<String> = wish.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial()));
        params.not_before = wish.from;
        params.not_after = wish.from + wish.lifetime;
        params.use_authority_key_identifier_extension = true;
        match wish.like.and_then(usages) {
            Some(usages) => params.custom_extensions = usages,
            None => {
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                if !wish.key.key_type().is_ecdsa() {
                    params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
                }
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
        }
        let leaf = params.signed_by(&wish.key.public_key(), &self.0)?;
        Ok(leaf.pem() + &self.0.pem())
    }
}

/// Returns a random positive serial of 16 bytes.
fn serial() -> [u8; 16] {
    let mut serial = fastrand::u128(..).to_be_bytes();
    serial[0] = 0x40 | (serial[0] & 0x3f);
    serial
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Returns exact copies of a leaf's key usages and extended key usages, if it has them.
fn usages(der: &[u8]) -> Option<Vec<CustomExtension>> {
    const USAGES: [(&str, [u64; 4]); 2] =
        [("2.5.29.15", [2, 5, 29, 15]), ("2.5.29.37", [2, 5, 29, 37])];
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let copies = certificate.extensions().iter().filter_map(|extension| {
        let id = extension.oid.to_id_string();
        let (_, oid) = USAGES.iter().find(|(known, _)| *known == id)?;
        let mut copy = CustomExtension::from_oid_content(oid, extension.value.to_vec());
        copy.set_criticality(extension.critical);
        Some(copy)
    });
    Some(copies.collect())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::values::chain::{Chain, check_issued, may_reimport};
    use crate::values::key::KeyType;

    fn wish<'a>(key: &'a PrivateKey, names: &'a [DnsName], like: Option<&'a [u8]>) -> LeafWish<'a> {
        LeafWish {
            key,
            names,
            from: datetime!(2026-11-22 12:00 UTC),
            lifetime: Duration::hours(160),
            like,
        }
    }

    #[test]
    fn what_is_made_up_passes_for_what_was_ordered() {
        let made_up = MadeUp::new().unwrap();
        let names = [
            DnsName::parse("shop.example.com").unwrap(),
            DnsName::parse("*.example.com").unwrap(),
        ];
        for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
            let key = PrivateKey::generate(key_type).unwrap();
            let issue = || Chain::parse(&made_up.issue(&wish(&key, &names, None)).unwrap());
            let (one, other) = (issue().unwrap(), issue().unwrap());
            let at = datetime!(2026-11-22 13:00 UTC);
            assert_eq!(check_issued(&one, &key, &names, at), Ok(()), "{key_type}");
            assert_eq!(one.leaf().key_type, Some(key_type));
            assert_ne!(one.leaf().serial, other.leaf().serial);
            assert!(!one.leaf().self_signed);
            assert!(one.leaf().identifier().is_some());
            assert_eq!(
                one.leaf().not_after - one.leaf().not_before,
                Duration::hours(160)
            );
        }
    }

    #[test]
    fn usages_are_those_of_the_one_before() {
        let made_up = MadeUp::new().unwrap();
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let names = [DnsName::parse("shop.example.com").unwrap()];
        let leaf = |like: Option<&[u8]>| {
            let chain = made_up.issue(&wish(&key, &names, like)).unwrap();
            Chain::parse(&chain).unwrap().leaf().clone()
        };
        let mut params = CertificateParams::new(["shop.example.com".to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::EmailProtection,
        ];
        let before = params.signed_by(&key.public_key(), &made_up.0).unwrap();
        let before = Chain::parse(&before.pem()).unwrap().leaf().clone();
        assert_eq!(before.key_usages, None);

        let after = leaf(Some(&before.der));
        assert_eq!(after.key_usages, before.key_usages);
        assert_eq!(after.extended_key_usages, before.extended_key_usages);
        assert_eq!(may_reimport(&before, &after), Ok(()));
        assert!(may_reimport(&before, &leaf(None)).is_err());
    }
}
