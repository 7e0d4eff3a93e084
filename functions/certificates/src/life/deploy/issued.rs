//! An issued certificate as it is brought to its places, from the vault.

use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::store::{self, read_record};
use crate::records::vault::VaultEntry;
use crate::values::chain::{Chain, Leaf};
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// An issued certificate as the vault has it.
pub(crate) struct Issued {
    pub(crate) chain: Chain,
    /// None of one that was taken over from where it is used.
    private_key: Option<zeroize::Zeroizing<String>>,
    pub(crate) intermediates: String,
}

impl Issued {
    /// Makes what is in use without its key usable: it can be attached, and not copied.
    pub(crate) fn without_key(chain: Chain) -> Self {
        Self {
            intermediates: chain.intermediates_pem(),
            chain,
            private_key: None,
        }
    }

    pub(crate) fn leaf(&self) -> &Leaf {
        self.chain.leaf()
    }

    pub(crate) fn private_key(&self) -> Result<&zeroize::Zeroizing<String>, Stop> {
        self.private_key.as_ref().ok_or_else(|| {
            let serial = &self.leaf().serial;
            let detail = format!(
                "the vault does not hold the key of {serial}, so it cannot be imported anew: \
                 another certificate is ordered"
            );
            Problem::ours(ProblemType::VaultEntryLost, detail).into()
        })
    }
}

/// What came of bringing a certificate to its places.
pub(crate) enum Brought {
    /// It stands where it can stand.
    Done,
    /// A newer one of ours was found and taken over: that one is to be served.
    Adopted,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Reads a certificate from the vault, or `None` when it is not there.
    pub(crate) async fn issued(&self, serial: &str) -> Result<Option<Issued>, Stop> {
        let object = store::vault_key(&self.wanted.name, serial);
        let Some((entry, _)) = read_record::<VaultEntry>(self.cycle.ports.store(), &object).await?
        else {
            return Ok(None);
        };
        let chain = Chain::parse(&entry.chain).map_err(|error| {
            Problem::ours(
                ProblemType::Record,
                format!("{object} holds no usable chain: {error}"),
            )
        })?;
        Ok(Some(Issued {
            intermediates: chain.intermediates_pem(),
            chain,
            private_key: Some(entry.private_key),
        }))
    }
}
