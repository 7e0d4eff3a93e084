//! Bringing the certificate of the vault into the certificate manager of a region (rule 4).
//!
//! The same ARN where the certificate manager allows it, else a new one. An ARN that was lost, because an answer or a state
//! was, is found again before another certificate is imported.

use std::time::Duration;

use time::OffsetDateTime;

use crate::arn::CertificateArn;
use crate::certificate::{Chain, Leaf, may_reimport};
use crate::certificate_manager::{CertificateManager, Material, same_serial};
use crate::cycle::{Halt, Ports, Work};
use crate::problem::{Problem, Retry, ServiceError};
use crate::state::{Importing, Superseded, VaultEntry};
use crate::store::{self, read_record};

/// An issued certificate as the vault has it.
pub(crate) struct Issued {
    pub(crate) chain: Chain,
    private_key: zeroize::Zeroizing<String>,
    intermediates: String,
}

impl Issued {
    fn material(&self) -> Material<'_> {
        Material {
            certificate: self.chain.leaf_pem(),
            chain: &self.intermediates,
            private_key: &self.private_key,
        }
    }

    pub(crate) fn leaf(&self) -> &Leaf {
        self.chain.leaf()
    }
}

/// How a certificate came to stand in the certificate manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Imported {
    /// It stood there already.
    Before,
    /// As a new certificate.
    New,
    /// In the place of the one with this serial.
    Over(Option<String>),
}

/// What is known about the certificate that stands under an ARN.
enum Standing {
    Gone,
    NotOurs,
    Right,
    Other(Box<Leaf>),
}

impl<P: Ports> Work<'_, '_, P> {
    /// Reads a certificate from the vault, or `None` when it is not there.
    pub(crate) async fn issued(&self, serial: &str) -> Result<Option<Issued>, Halt> {
        let object = store::vault_key(&self.wanted.name, serial);
        let Some((entry, _)) = read_record::<VaultEntry>(self.cycle.ports.store(), &object).await?
        else {
            return Ok(None);
        };
        let chain = Chain::parse(&entry.chain).map_err(|error| {
            Problem::ours(
                "record",
                Retry::Person,
                format!("{object} holds no usable chain: {error}"),
            )
        })?;
        Ok(Some(Issued {
            intermediates: chain.intermediates_pem(),
            chain,
            private_key: entry.private_key,
        }))
    }

    /// Makes the certificate manager of a region hold this certificate, and says under which ARN.
    ///
    /// `others_hold_arn`: a `certificateManager` target stands in this region, so the ARN must not change.
    pub(crate) async fn import(
        &mut self,
        region: &str,
        issued: &Issued,
        others_hold_arn: bool,
    ) -> Result<(CertificateArn, Imported), Halt> {
        let serial = issued.leaf().serial.clone();
        if let Some(arn) = self
            .state
            .imports
            .get(region)
            .and_then(|import| import.arn.clone())
        {
            match self.standing(region, &arn, &serial).await? {
                Standing::Right => {
                    self.adopt(region, arn.clone(), &serial);
                    return Ok((arn, Imported::Before));
                }
                Standing::Other(old) => match self
                    .import_in_place(region, &arn, &old, issued)
                    .await?
                {
                    None => return Ok((arn, Imported::Over(Some(old.serial)))),
                    Some(why) if others_hold_arn => {
                        let detail = format!(
                            "{arn} cannot take the new certificate ({why}) and others hold this ARN; the old one stays: undo the change, or take the \
                             certificateManager target out of the document and point its holders at the new ARN"
                        );
                        return Err(Problem::ours("arnWouldChange", Retry::Person, detail).into());
                    }
                    Some(why) => self.note("new ARN needed", why),
                },
                Standing::Gone => {
                    self.note("ARN lost", format!("{arn} is not there any more"));
                    self.forget(region);
                }
                Standing::NotOurs => {
                    self.note(
                        "ARN lost",
                        format!("{arn} does not carry our tags any more and is left alone"),
                    );
                    self.forget(region);
                }
            }
        }
        if let Some((arn, how)) = self.find_lost(region, issued).await? {
            return Ok((arn, how));
        }
        let arn = self.import_new(region, issued).await?;
        Ok((arn, Imported::New))
    }

    fn forget(&mut self, region: &str) {
        if let Some(import) = self.state.imports.get_mut(region) {
            import.arn = None;
            import.serial = None;
        }
    }

    /// Records the ARN under which the serial stands; an ARN that was there before is superseded.
    fn adopt(&mut self, region: &str, arn: CertificateArn, serial: &str) {
        let import = self.state.imports.entry(region.to_owned()).or_default();
        import.superseded.retain(|old| old.arn != arn);
        if let Some(old) = import.arn.replace(arn.clone()).filter(|old| *old != arn) {
            import.superseded.push(Superseded {
                arn: old,
                detached_at: None,
            });
        }
        import.serial = Some(serial.to_owned());
        import.importing = None;
    }

    async fn standing(
        &self,
        region: &str,
        arn: &CertificateArn,
        serial: &str,
    ) -> Result<Standing, Halt> {
        let manager = self.cycle.ports.certificate_manager(region);
        let failed =
            |error: ServiceError| Halt::from(error.problem("certificateManager", arn.as_str()));
        let Some(described) = manager.describe(arn).await.map_err(failed)? else {
            return Ok(Standing::Gone);
        };
        if described
            .serial
            .is_some_and(|held| same_serial(&held, serial))
        {
            return Ok(Standing::Right);
        }
        let Some(tags) = manager.tags(arn).await.map_err(failed)? else {
            return Ok(Standing::Gone);
        };
        if !self.cycle.is_ours(&tags, &self.wanted.name) {
            return Ok(Standing::NotOurs);
        }
        let Some(pem) = manager.leaf_pem(arn).await.map_err(failed)? else {
            return Ok(Standing::Gone);
        };
        let chain = Chain::parse(&pem).map_err(|error| {
            Problem::ours(
                "certificateManager",
                Retry::Soon,
                format!("{arn} holds a certificate that cannot be read: {error}"),
            )
        })?;
        Ok(Standing::Other(Box::new(chain.leaf().clone())))
    }

    /// Re-imports under the same ARN; returns why not, when that is not allowed.
    async fn import_in_place(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        old: &Leaf,
        issued: &Issued,
    ) -> Result<Option<String>, Halt> {
        if let Err(why) = may_reimport(old, issued.leaf()) {
            return Ok(Some(why));
        }
        let left = self.grant("importing", LEAST, LONGEST)?;
        let import = self.cycle.ports.certificate_manager(region);
        match tokio::time::timeout(left, import.import_over(arn, &issued.material())).await {
            Err(_) => Err(self.out_of_time("the import's answer")),
            Ok(Ok(())) => {
                self.adopt(region, arn.clone(), &issued.leaf().serial);
                self.note(
                    "imported",
                    format!("{} over {} into {arn}", issued.leaf().serial, old.serial),
                );
                self.save().await?;
                Ok(None)
            }
            // Our prediction was wrong, or the rules have changed: a new ARN always works.
            Ok(Err(error)) if is_refusal(&error) => Ok(Some(error.message)),
            Ok(Err(error)) => Err(error.problem("import", arn.as_str()).into()),
        }
    }

    /// Looks for a certificate of ours that no record names: all key types, all pages, a shared name, imported since the
    /// intent, then both tags and the serial.
    async fn find_lost(
        &mut self,
        region: &str,
        issued: &Issued,
    ) -> Result<Option<(CertificateArn, Imported)>, Halt> {
        let serial = issued.leaf().serial.clone();
        let record = self.state.imports.get(region).cloned().unwrap_or_default();
        let since = record.importing.as_ref().map(|intent| intent.at);
        let manager = self.cycle.ports.certificate_manager(region);
        let failed = |error: ServiceError| {
            Halt::from(error.problem(
                "certificateManager",
                &format!("looking for a lost ARN in {region}"),
            ))
        };
        let listing = self.cycle.listing(region, since).await.map_err(failed)?;
        let names = &self.wanted.domains;
        let mut found = None;
        for listed in listing.iter() {
            let known = record.arn.as_ref() == Some(&listed.arn)
                || record.superseded.iter().any(|old| old.arn == listed.arn);
            let shares_a_name = listed.names.as_ref().is_none_or(|held| {
                names
                    .iter()
                    .any(|name| held.iter().any(|held| held == name.as_str()))
            });
            let is_recent = since.is_none_or(|since| {
                listed
                    .imported_at
                    .is_none_or(|at| at >= since - CLOCKS_DIFFER)
            });
            if known || !shares_a_name || !is_recent {
                continue;
            }
            let Some(tags) = manager.tags(&listed.arn).await.map_err(failed)? else {
                continue;
            };
            if !self.cycle.is_ours(&tags, &self.wanted.name) {
                continue;
            }
            match self.standing(region, &listed.arn, &serial).await? {
                Standing::Right => {
                    self.note(
                        "ARN found",
                        format!("{} holds {serial} already", listed.arn),
                    );
                    self.adopt(region, listed.arn.clone(), &serial);
                    self.save().await?;
                    return Ok(Some((listed.arn.clone(), Imported::Before)));
                }
                Standing::Other(old) => found = found.or(Some((listed.arn.clone(), old))),
                Standing::Gone | Standing::NotOurs => {}
            }
        }
        // Ours, but with an earlier certificate: a state was lost. It is taken up again where no record names another.
        let Some((arn, old)) = found else {
            return Ok(None);
        };
        self.note(
            "ARN found",
            format!("{arn} is ours and holds {}", old.serial),
        );
        if record.arn.is_none() {
            self.adopt(region, arn.clone(), &old.serial);
            self.save().await?;
            if self
                .import_in_place(region, &arn, &old, issued)
                .await?
                .is_none()
            {
                return Ok(Some((arn, Imported::Over(Some(old.serial)))));
            }
        } else {
            let import = self.state.imports.entry(region.to_owned()).or_default();
            import.superseded.push(Superseded {
                arn,
                detached_at: None,
            });
        }
        Ok(None)
    }

    async fn import_new(&mut self, region: &str, issued: &Issued) -> Result<CertificateArn, Halt> {
        let serial = issued.leaf().serial.clone();
        let left = self.grant("importing", LEAST, LONGEST)?;
        let at = crate::report::whole_seconds(self.cycle.clock.now());
        self.state
            .imports
            .entry(region.to_owned())
            .or_default()
            .importing = Some(Importing {
            serial: serial.clone(),
            at,
        });
        self.save().await?;
        let tags = self.cycle.tags(&self.wanted);
        let manager = self.cycle.ports.certificate_manager(region);
        let arn =
            match tokio::time::timeout(left, manager.import_new(&issued.material(), &tags)).await {
                Ok(Ok(arn)) => arn,
                Ok(Err(error)) if error.may_have_happened() => {
                    match self.find_just_imported(region, &serial, at).await? {
                        Some(arn) => arn,
                        None => {
                            return Err(error
                                .problem("import", &format!("first import in {region}"))
                                .into());
                        }
                    }
                }
                Ok(Err(error)) => {
                    // It did not happen: there is nothing to look for.
                    if let Some(import) = self.state.imports.get_mut(region) {
                        import.importing = None;
                    }
                    return Err(error
                        .problem("import", &format!("first import in {region}"))
                        .into());
                }
                Err(_) => return Err(self.out_of_time("the import's answer")),
            };
        self.adopt(region, arn.clone(), &serial);
        self.note("imported", format!("{serial} as {arn}"));
        // The ARN is written down before it is attached anywhere.
        self.save().await?;
        Ok(arn)
    }

    /// After a lost answer: did the import happen?
    async fn find_just_imported(
        &mut self,
        region: &str,
        serial: &str,
        at: OffsetDateTime,
    ) -> Result<Option<CertificateArn>, Halt> {
        let failed = |error: ServiceError| {
            Halt::from(error.problem(
                "certificateManager",
                &format!("looking for a lost ARN in {region}"),
            ))
        };
        let listing = self
            .cycle
            .listing(region, Some(self.cycle.clock.now()))
            .await
            .map_err(failed)?;
        let manager = self.cycle.ports.certificate_manager(region);
        for listed in listing.iter().filter(|listed| {
            listed
                .imported_at
                .is_none_or(|imported| imported >= at - CLOCKS_DIFFER)
        }) {
            let names = &self.wanted.domains;
            if listed.names.as_ref().is_some_and(|held| {
                !names
                    .iter()
                    .any(|name| held.iter().any(|held| held == name.as_str()))
            }) {
                continue;
            }
            let tags = manager
                .tags(&listed.arn)
                .await
                .map_err(failed)?
                .unwrap_or_default();
            if self.cycle.is_ours(&tags, &self.wanted.name)
                && let Standing::Right = self.standing(region, &listed.arn, serial).await?
            {
                return Ok(Some(listed.arn.clone()));
            }
        }
        Ok(None)
    }

    /// Puts an earlier certificate back under its ARN.
    pub(crate) async fn import_back(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        serial: &str,
    ) -> Result<bool, Halt> {
        let Some(issued) = self.issued(serial).await? else {
            return Ok(false);
        };
        let manager = self.cycle.ports.certificate_manager(region);
        manager
            .import_over(arn, &issued.material())
            .await
            .map_err(|error| error.problem("import", arn.as_str()))?;
        self.adopt(region, arn.clone(), serial);
        self.note("undone", format!("{arn} holds {serial} again"));
        self.save().await?;
        Ok(true)
    }
}

/// Whether the certificate manager will not have this certificate in that place, as opposed to not now or not from us.
fn is_refusal(error: &ServiceError) -> bool {
    matches!(
        error.code.as_deref(),
        Some(
            "ValidationException"
                | "InvalidParameterException"
                | "InvalidParameterCombinationException"
        )
    )
}

/// The service's clock and ours may differ by this much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(300);
