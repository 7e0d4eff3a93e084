//! An issued certificate on its way from the vault to its places.

use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::store::{self, read_record};
use crate::records::vault::VaultEntry;
use crate::values::chain::{Chain, Leaf};
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// An issued certificate as the vault holds it.
pub(crate) struct Issued {
    pub(crate) chain: Chain,
    /// `None` for a certificate that is read from where it is used.
    private_key: Option<zeroize::Zeroizing<String>>,
    pub(crate) intermediates: String,
}

impl Issued {
    /// Makes a certificate without its key usable: it can be attached, but not copied.
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

    /// Whether the vault holds its key.
    pub(crate) fn has_key(&self) -> bool {
        self.private_key.is_some()
    }

    pub(crate) fn private_key(&self) -> Result<&zeroize::Zeroizing<String>, Stop> {
        self.private_key.as_ref().ok_or_else(|| {
            let serial = &self.leaf().serial;
            let detail = format!(
                "the vault does not hold the key of {serial}, so it cannot be imported again: \
                 a new certificate is ordered"
            );
            Problem::ours(ProblemType::VaultEntryLost, detail).into()
        })
    }
}

/// The result of bringing a certificate to its places.
pub(crate) enum Brought {
    /// It is in every place that can hold it.
    Done,
    /// A newer certificate of ours was found and adopted: that one must be served.
    Adopted,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Reads a certificate from the vault; `None` when the vault does not hold it.
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
