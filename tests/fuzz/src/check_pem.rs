//! Chains, keys and trust roots: PEM texts, or one DER, which goes into the PEM of each kind.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use time::OffsetDateTime;

use crate::values::chain::{Chain, Leaf, check_issued, may_reimport};
use crate::values::key::PrivateKey;
use crate::values::names::DnsName;
use crate::values::trust::roots_in;

/// Checks a PEM text, or anything else as a DER.
pub fn pem(data: &[u8]) {
    match str::from_utf8(data) {
        Ok(text) if text.contains("-----BEGIN") => {
            chain(text);
            key(text);
            roots(text);
        }
        _ => {
            let within = |label: &str| {
                let text = STANDARD.encode(data);
                format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
            };
            chain(&within("CERTIFICATE"));
            roots(&within("CERTIFICATE"));
            key(&within("PRIVATE KEY"));
        }
    }
}

fn chain(text: &str) {
    let chain = match Chain::parse(text) {
        Ok(chain) => chain,
        Err(refusal) => return assert!(refusal.to_string().len() <= LONGEST, "{refusal}"),
    };
    let leaf = chain.leaf();
    assert_eq!(chain.der()[0], leaf.der);
    assert_eq!(Leaf::parse(&leaf.der).as_ref(), Ok(leaf));

    // The certificate manager gets the same chain, with the leaf once.
    let again = chain.leaf_pem().to_owned() + &chain.intermediates_pem();
    let again = Chain::parse(&again).expect("a chain as it is imported");
    assert_eq!(again.leaf(), leaf);
    let others = chain.der().iter().filter(|der| **der != leaf.der);
    assert!(again.der().iter().skip(1).eq(others));

    assert!(
        is_hex(&leaf.serial) && is_hex(&leaf.fingerprint),
        "{leaf:?}"
    );
    assert_eq!(leaf.fingerprint.len(), 64);
    assert!(leaf.names.is_sorted_by(|one, two| one < two));
    for name in &leaf.names {
        assert_eq!(DnsName::parse(name.as_str()).as_ref(), Ok(name));
    }
    if let Some(identifier) = leaf.identifier() {
        let (authority, serial) = identifier.split_once('.').expect("two parts");
        let read = |text| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        assert_eq!(Some(read(authority)), leaf.authority_key_identifier);
        let serial: String = read(serial).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(serial, leaf.serial);
    }
    if leaf.key_type.is_some() && !leaf.names.is_empty() {
        assert_eq!(may_reimport(leaf, leaf), Ok(()));
    }

    let key = &*KEY;
    for now in [leaf.not_before, leaf.not_after, OffsetDateTime::UNIX_EPOCH] {
        if let Err(refusal) = check_issued(&chain, key, &leaf.names, now) {
            assert!(refusal.to_string().len() <= LONGEST, "{refusal}");
        }
        // Only a valid key is kept.
        if leaf.not_before <= now && now <= leaf.not_after {
            for jitter in [0.0, 1.0] {
                let renewal =
                    crate::rules::renewal::draw(leaf.not_before, leaf.not_after, None, now, jitter);
                assert!(leaf.not_before <= renewal.at && renewal.at <= leaf.not_after);
            }
        }
    }
}

fn key(text: &str) {
    match PrivateKey::from_pem(text) {
        Err(refusal) => {
            let words = format!("{refusal} {refusal:?}");
            let known = words.starts_with("not a PEM private key: expected one unencrypted")
                || words.starts_with("the key has a type that certloop does not support");
            assert!(known && words.len() < 200, "{words}");
        }
        Ok(key) => {
            let pem = key.to_pem();
            let again = PrivateKey::from_pem(&pem).expect("a key as it was written");
            assert_eq!(*again.to_pem(), *pem);
            assert_eq!(again.key_type(), key.key_type());
            assert_eq!(again.public_key_der(), key.public_key_der());
            assert!(pem.lines().all(|line| (1..=64).contains(&line.len())));
            assert_eq!(
                format!("{key:?}"),
                format!("PrivateKey({}, hidden)", key.key_type())
            );
        }
    }
}

fn roots(text: &str) {
    match roots_in(text) {
        Ok(roots) => {
            assert!(!roots.is_empty());
            for root in roots {
                let mut store = rustls::RootCertStore::empty();
                assert!(store.add(root).is_ok());
            }
        }
        Err(refusal) => assert!(refusal.len() <= LONGEST, "{refusal}"),
    }
}

fn is_hex(text: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    !text.is_empty() && text.len().is_multiple_of(2) && text.bytes().all(digit)
}

/// A key that belongs to no order.
static KEY: std::sync::LazyLock<PrivateKey> = std::sync::LazyLock::new(|| {
    PrivateKey::generate(crate::values::key::KeyType::EcdsaP256).unwrap()
});

/// In bytes.
const LONGEST: usize = 10_000;
