//! What a set of files on the disk holds.

use std::fs;
use std::path::Path;

use certificates::values::chain::{Chain, Leaf};
use certificates::values::key::PrivateKey;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::files::{BUNDLE, CERT, FULLCHAIN, PRIVKEY, Pair};

/// The certificate of a set, as far as it can be read.
pub(super) struct Standing {
    leaf: Leaf,
    /// With its key, where that is there and is the leaf's.
    pair: Option<Pair>,
}

impl Standing {
    /// Reads a set; `None` where there is no certificate in it.
    pub(super) fn read(set: &Path) -> Option<Self> {
        let read = |name| fs::read_to_string(set.join(name)).ok().map(Zeroizing::new);
        let chain_in = |name| Chain::parse(&read(name)?).ok();
        let pair_in = |chain, key| {
            let key = PrivateKey::from_pem(&read(key)?).ok()?;
            Pair::of(chain_in(chain)?, key).ok()
        };
        let pair = pair_in(FULLCHAIN, PRIVKEY).or_else(|| pair_in(BUNDLE, BUNDLE));
        let leaf = match &pair {
            Some(pair) => pair.leaf().clone(),
            None => {
                let chain = [FULLCHAIN, CERT, BUNDLE].into_iter().find_map(chain_in);
                chain?.leaf().clone()
            }
        };
        Some(Self { leaf, pair })
    }

    /// Returns the certificate itself.
    pub(super) fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Returns the certificate with its key, if a server can serve it at an instant.
    pub(super) fn servable(&self, at: OffsetDateTime) -> Option<&Pair> {
        self.pair.as_ref().filter(|pair| pair.is_valid(at))
    }

    /// Whether it has a name in common with another certificate.
    pub(super) fn shares_a_name_with(&self, other: &Leaf) -> bool {
        let is_shared = |ours: &_| {
            let mut others = other.names.iter();
            others.any(|name| name.covers(ours) || ours.covers(name))
        };
        self.leaf.names.iter().any(is_shared)
    }
}
