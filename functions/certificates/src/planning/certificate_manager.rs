//! The certificate manager as it would be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::journal::Journal;
use super::reading::ReadCertificateManager;
use crate::arn::CertificateArn;
use crate::certificate::{Chain, Leaf};
use crate::certificate_manager::{CertificateManager, Deletion, Described, Listed, Material};
use crate::problem::ServiceError;

/// What would stand under ARNs of all regions instead of what does.
#[derive(Default)]
pub(super) struct Changes(RefCell<BTreeMap<CertificateArn, Change>>);

#[derive(Clone)]
enum Change {
    Imported {
        leaf: Box<Leaf>,
        pem: String,
        /// Of a new one; of one imported over another the tags stay.
        tags: Option<BTreeMap<String, String>>,
    },
    Deleted,
}

/// The certificate manager of one region.
pub struct PlannedCertificateManager<C> {
    pub(super) live: ReadCertificateManager<C>,
    pub(super) region: String,
    /// What ARNs begin with before the region.
    pub(super) partition: String,
    pub(super) account: String,
    pub(super) changes: Rc<Changes>,
    pub(super) journal: Rc<Journal>,
}

impl<C: CertificateManager> PlannedCertificateManager<C> {
    fn change(&self, arn: &CertificateArn) -> Option<Change> {
        self.changes.0.borrow().get(arn).cloned()
    }

    fn put(&self, arn: &CertificateArn, change: Change) {
        self.changes.0.borrow_mut().insert(arn.clone(), change);
    }
}

impl<C: CertificateManager> CertificateManager for PlannedCertificateManager<C> {
    async fn import_new(
        &self,
        material: &Material<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateArn, ServiceError> {
        let leaf = leaf_of(material)?;
        let id = format!("planned-{}", self.journal.next());
        let before = format!(
            "arn:{}:acm:{}:{}:certificate/",
            self.partition, self.region, self.account
        );
        let arn: CertificateArn = format!("{before}{id}")
            .parse()
            .map_err(|error| unusable(format!("{error}")))?;
        self.journal.show(arn.as_str(), format!("{before}<new>"));
        self.journal.record("acm", IMPORT, &self.region);
        let change = Change::Imported {
            leaf: Box::new(leaf),
            pem: material.certificate.to_owned(),
            tags: Some(tags.clone()),
        };
        self.put(&arn, change);
        Ok(arn)
    }

    async fn import_over(
        &self,
        arn: &CertificateArn,
        material: &Material<'_>,
    ) -> Result<(), ServiceError> {
        let tags = match self.change(arn) {
            Some(Change::Imported { tags, .. }) => tags,
            _ => None,
        };
        let change = Change::Imported {
            leaf: Box::new(leaf_of(material)?),
            pem: material.certificate.to_owned(),
            tags,
        };
        self.journal.record("acm", IMPORT, arn.as_str());
        self.put(arn, change);
        Ok(())
    }

    async fn describe(&self, arn: &CertificateArn) -> Result<Option<Described>, ServiceError> {
        let (leaf, is_new) = match self.change(arn) {
            None => return self.live.describe(arn).await,
            Some(Change::Deleted) => return Ok(None),
            Some(Change::Imported { leaf, tags, .. }) => (leaf, tags.is_some()),
        };
        let in_use_by = match is_new {
            true => Vec::new(),
            false => {
                let described = self.live.describe(arn).await?;
                described.map(|it| it.in_use_by).unwrap_or_default()
            }
        };
        Ok(Some(Described {
            serial: Some(leaf.serial.clone()),
            in_use_by,
            names: names(&leaf),
            imported_at: Some(self.journal.at),
            not_after: Some(leaf.not_after),
        }))
    }

    async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
        match self.change(arn) {
            Some(Change::Deleted) => Ok(None),
            Some(Change::Imported {
                tags: Some(tags), ..
            }) => Ok(Some(tags)),
            _ => self.live.tags(arn).await,
        }
    }

    async fn leaf_pem(&self, arn: &CertificateArn) -> Result<Option<String>, ServiceError> {
        match self.change(arn) {
            None => self.live.leaf_pem(arn).await,
            Some(Change::Deleted) => Ok(None),
            Some(Change::Imported { pem, .. }) => Ok(Some(pem)),
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        let mut listed = self.live.list().await?;
        let changes = self.changes.0.borrow();
        listed.retain(|one| !changes.contains_key(&one.arn));
        for (arn, change) in changes.iter() {
            if arn.region() == self.region
                && let Change::Imported { leaf, .. } = change
            {
                listed.push(Listed {
                    arn: arn.clone(),
                    names: Some(names(leaf)),
                    imported_at: Some(self.journal.at),
                });
            }
        }
        Ok(listed)
    }

    async fn delete(&self, arn: &CertificateArn) -> Result<Deletion, ServiceError> {
        self.journal
            .record("acm", "DeleteCertificate", arn.as_str());
        self.put(arn, Change::Deleted);
        Ok(Deletion::Done)
    }
}

fn leaf_of(material: &Material<'_>) -> Result<Leaf, ServiceError> {
    let chain = Chain::parse(material.certificate).map_err(|error| unusable(error.to_string()))?;
    Ok(chain.leaf().clone())
}

fn names(leaf: &Leaf) -> Vec<String> {
    leaf.names.iter().map(ToString::to_string).collect()
}

/// Returns the error of an import that cannot even be imagined; nothing happened.
fn unusable(message: String) -> ServiceError {
    ServiceError {
        operation: IMPORT,
        code: Some("ValidationException".to_owned()),
        message,
        status: Some(400),
    }
}

const IMPORT: &str = "ImportCertificate";
