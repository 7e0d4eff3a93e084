//! The five files: what they are called and what they hold.

use certificates::values::chain::{Chain, ChainError, Leaf, check_issued, same_serial};
use certificates::values::key::PrivateKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

/// A certificate, what certifies it, and its private key.
pub(super) struct Pair {
    chain: Chain,
    key: PrivateKey,
}

impl Pair {
    /// Returns both, if the key is the certificate's.
    pub(super) fn of(chain: Chain, key: PrivateKey) -> Result<Self, ChainError> {
        let leaf = chain.leaf();
        // The names are its own, and so is the instant: what is left to check is the key.
        check_issued(&chain, &key, &leaf.names, leaf.not_before)?;
        Ok(Self { chain, key })
    }

    /// Returns the certificate itself.
    pub(super) fn leaf(&self) -> &Leaf {
        self.chain.leaf()
    }

    /// Returns the contents of its files.
    pub(super) fn pems(&self) -> Pems {
        Pems {
            serial: self.leaf().serial.clone(),
            leaf: self.chain.leaf_pem().to_owned(),
            intermediates: self.chain.intermediates_pem(),
            key: self.key.to_pem(),
        }
    }

    /// Whether it is valid at an instant.
    pub(super) fn is_valid(&self, at: OffsetDateTime) -> bool {
        (self.leaf().not_before..=self.leaf().not_after).contains(&at)
    }

    /// Whether it is a later one than another: begins and ends later, and serves all its names.
    pub(super) fn is_successor_of(&self, other: &Leaf) -> bool {
        let leaf = self.leaf();
        let serves = |name| leaf.names.iter().any(|held| held.covers(name));
        !same_serial(&leaf.serial, &other.serial)
            && leaf.not_before > other.not_before
            && leaf.not_after > other.not_after
            && other.names.iter().all(serves)
    }
}

/// What a command learns of a certificate.
pub(super) struct Facts {
    /// Lower-case hex.
    pub(super) serial: String,
    /// Its names, sorted.
    pub(super) domains: Vec<String>,
    /// The end of its validity.
    pub(super) not_after: OffsetDateTime,
}

impl Facts {
    /// Returns the facts of a certificate.
    pub(super) fn of(leaf: &Leaf) -> Self {
        let names = leaf.names.iter().map(ToString::to_string);
        Self {
            serial: leaf.serial.clone(),
            domains: names.collect(),
            not_after: leaf.not_after,
        }
    }
}

/// The contents of the five files.
pub(super) struct Pems {
    /// Of the leaf, lower-case hex.
    pub(super) serial: String,
    leaf: String,
    intermediates: String,
    key: Zeroizing<String>,
}

impl Pems {
    /// Returns the files' names and contents, and whether there is the key in them.
    pub(super) fn files(&self) -> [(&'static str, Zeroizing<String>, bool); 5] {
        let (leaf, rest, key) = (&*self.leaf, &*self.intermediates, &**self.key);
        let joined = |parts: [&str; 3]| Zeroizing::new(parts.concat());
        [
            (CERT, joined([leaf, "", ""]), false),
            (CHAIN, joined([rest, "", ""]), false),
            (FULLCHAIN, joined([leaf, rest, ""]), false),
            (PRIVKEY, joined([key, "", ""]), true),
            (BUNDLE, joined([key, leaf, rest]), true),
        ]
    }
}

/// The leaf alone.
pub(super) const CERT: &str = "cert.pem";
/// What certifies the leaf.
pub(super) const CHAIN: &str = "chain.pem";
/// Both: what most servers want.
pub(super) const FULLCHAIN: &str = "fullchain.pem";
/// The private key, PKCS#8.
pub(super) const PRIVKEY: &str = "privkey.pem";
/// Key, leaf and chain in one file.
pub(super) const BUNDLE: &str = "bundle.pem";
/// All of them.
pub(super) const NAMES: [&str; 5] = [CERT, CHAIN, FULLCHAIN, PRIVKEY, BUNDLE];

/// Writes an instant as RFC 3339 does.
pub(super) fn instant(at: &OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
