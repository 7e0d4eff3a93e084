//! The five files: what they are called and what they hold.

use certificates::values::chain::Chain;
use certificates::values::key::PrivateKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

/// What a command is told of a certificate.
pub(super) struct Facts {
    /// Lower-case hex.
    pub(super) serial: String,
    /// Its names, sorted.
    pub(super) domains: Vec<String>,
    /// The end of its validity.
    pub(super) not_after: OffsetDateTime,
}

impl Facts {
    /// Returns the facts of the first certificate in a PEM text.
    pub(super) fn of(chain: &Chain) -> Self {
        let leaf = chain.leaf();
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
    /// Returns the contents of the files of a certificate.
    pub(super) fn of(chain: &Chain, key: &PrivateKey) -> Self {
        Self {
            serial: chain.leaf().serial.clone(),
            leaf: chain.leaf_pem().to_owned(),
            intermediates: chain.intermediates_pem(),
            key: key.to_pem(),
        }
    }

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
