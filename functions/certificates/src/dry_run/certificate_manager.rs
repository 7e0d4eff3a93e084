//! The certificate manager as it would be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::journal::Journal;
use super::reading::ReadCertificateManager;
use crate::ports::certificate_manager::{
    CertificateManager, Deletion, Described, Listed, Material,
};
use crate::values::arn::CertificateArn;
use crate::values::chain::{Chain, Leaf};
use crate::values::problem::ServiceError;

/// The planned content of ARNs in all regions, in place of the real content.
#[derive(Default)]
pub(super) struct CertificateChanges(RefCell<BTreeMap<CertificateArn, DryRunChange>>);

#[derive(Clone)]
enum DryRunChange {
    Imported {
        leaf: Box<Leaf>,
        pem: String,
        /// The tags of a new certificate. An import over another one keeps its tags.
        tags: Option<BTreeMap<String, String>>,
    },
    Deleted,
}

/// The certificate manager of one region.
pub struct DryRunCertificateManager<C> {
    pub(super) live: ReadCertificateManager<C>,
    pub(super) region: String,
    /// The beginning of ARNs, before the region.
    pub(super) partition: String,
    pub(super) account: String,
    pub(super) changes: Rc<CertificateChanges>,
    pub(super) journal: Rc<Journal>,
}

impl<C: CertificateManager> DryRunCertificateManager<C> {
    fn change(&self, arn: &CertificateArn) -> Option<DryRunChange> {
        self.changes.0.borrow().get(arn).cloned()
    }

    fn put(&self, arn: &CertificateArn, change: DryRunChange) {
        self.changes.0.borrow_mut().insert(arn.clone(), change);
    }
}

impl<C: CertificateManager> CertificateManager for DryRunCertificateManager<C> {
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
        let change = DryRunChange::Imported {
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
            Some(DryRunChange::Imported { tags, .. }) => tags,
            _ => None,
        };
        let change = DryRunChange::Imported {
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
            Some(DryRunChange::Deleted) => return Ok(None),
            Some(DryRunChange::Imported { leaf, tags, .. }) => (leaf, tags.is_some()),
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
            issuer: None,
        }))
    }

    async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
        match self.change(arn) {
            Some(DryRunChange::Deleted) => Ok(None),
            Some(DryRunChange::Imported {
                tags: Some(tags), ..
            }) => Ok(Some(tags)),
            _ => self.live.tags(arn).await,
        }
    }

    async fn change_tags(
        &self,
        arn: &CertificateArn,
        gone: &[String],
        _set: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        if !gone.is_empty() {
            self.journal
                .record("acm", "RemoveTagsFromCertificate", arn.as_str());
        }
        self.journal
            .record("acm", "AddTagsToCertificate", arn.as_str());
        Ok(())
    }

    async fn leaf_pem(&self, arn: &CertificateArn) -> Result<Option<String>, ServiceError> {
        match self.change(arn) {
            None => self.live.leaf_pem(arn).await,
            Some(DryRunChange::Deleted) => Ok(None),
            Some(DryRunChange::Imported { pem, .. }) => Ok(Some(pem)),
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        let mut listed = self.live.list().await?;
        let changes = self.changes.0.borrow();
        listed.retain(|one| !changes.contains_key(&one.arn));
        for (arn, change) in changes.iter() {
            if arn.region() == self.region
                && let DryRunChange::Imported { leaf, .. } = change
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
        self.put(arn, DryRunChange::Deleted);
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

/// Returns the error of an import that cannot be simulated; nothing happened.
fn unusable(message: String) -> ServiceError {
    ServiceError {
        operation: IMPORT,
        code: Some("ValidationException".to_owned()),
        message,
        status: Some(400),
    }
}

const IMPORT: &str = "ImportCertificate";

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::dry_run::made_up::{LeafWish, MadeUp};
    use crate::values::key::{KeyType, PrivateKey};
    use crate::values::names::DnsName;

    const ARN: &str =
        "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012";

    /// One certificate that is in use and cannot be changed.
    struct RealManager;

    impl CertificateManager for RealManager {
        async fn import_new(
            &self,
            _: &Material<'_>,
            _: &BTreeMap<String, String>,
        ) -> Result<CertificateArn, ServiceError> {
            panic!("imported");
        }

        async fn import_over(
            &self,
            _: &CertificateArn,
            _: &Material<'_>,
        ) -> Result<(), ServiceError> {
            panic!("imported");
        }

        async fn describe(&self, arn: &CertificateArn) -> Result<Option<Described>, ServiceError> {
            Ok((arn.as_str() == ARN).then(|| Described {
                serial: Some("03ab".to_owned()),
                in_use_by: vec!["a listener".to_owned()],
                names: vec!["old.example.com".to_owned()],
                imported_at: None,
                not_after: None,
                issuer: None,
            }))
        }

        async fn tags(
            &self,
            arn: &CertificateArn,
        ) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
            Ok((arn.as_str() == ARN).then(|| tags("theirs")))
        }

        async fn change_tags(
            &self,
            _: &CertificateArn,
            _: &[String],
            _: &BTreeMap<String, String>,
        ) -> Result<(), ServiceError> {
            panic!("tagged");
        }

        async fn leaf_pem(&self, _: &CertificateArn) -> Result<Option<String>, ServiceError> {
            Ok(None)
        }

        async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
            Ok(vec![Listed {
                arn: ARN.parse().unwrap(),
                names: None,
                imported_at: None,
            }])
        }

        async fn delete(&self, _: &CertificateArn) -> Result<Deletion, ServiceError> {
            panic!("deleted");
        }
    }

    fn tags(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("certloop:certificate".to_owned(), value.to_owned())])
    }

    #[tokio::test]
    async fn what_stands_under_an_arn_is_what_would() {
        let at: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);
        let planned = |region: &str, changes: &Rc<CertificateChanges>| DryRunCertificateManager {
            live: ReadCertificateManager::of(RealManager),
            region: region.to_owned(),
            partition: "aws".to_owned(),
            account: "123456789012".to_owned(),
            changes: changes.clone(),
            journal: Rc::new(Journal::new(at)),
        };
        let changes = Rc::default();
        let manager = planned("eu-central-1", &changes);
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let names = [DnsName::parse("shop.example.com").unwrap()];
        let wish = LeafWish {
            key: &key,
            names: &names,
            from: at,
            lifetime: time::Duration::days(90),
            like: None,
        };
        let pem = MadeUp::new().unwrap().issue(&wish).unwrap();
        let chain = Chain::parse(&pem).unwrap();
        let private_key = key.to_pem();
        let material = Material {
            certificate: chain.leaf_pem(),
            chain: "",
            private_key: &private_key,
        };

        let old = ARN.parse().unwrap();
        manager.import_over(&old, &material).await.unwrap();
        let described = manager.describe(&old).await.unwrap().unwrap();
        assert_eq!(described.serial.as_ref(), Some(&chain.leaf().serial));
        assert_eq!(described.names, ["shop.example.com"]);
        assert_eq!(described.in_use_by.len(), 1, "others go on holding it");
        assert_eq!(manager.tags(&old).await.unwrap(), Some(tags("theirs")));
        let new = manager.import_new(&material, &tags("ours")).await.unwrap();
        let described = manager.describe(&new).await.unwrap().unwrap();
        assert!(described.in_use_by.is_empty());
        manager.import_over(&new, &material).await.unwrap();
        assert_eq!(manager.tags(&new).await.unwrap(), Some(tags("ours")));
        manager.delete(&old).await.unwrap();
        assert!(manager.describe(&old).await.unwrap().is_none());
        assert_eq!(manager.tags(&old).await.unwrap(), None);

        let listed = |listed: Vec<Listed>| -> Vec<CertificateArn> {
            listed.into_iter().map(|one| one.arn).collect()
        };
        assert_eq!(listed(manager.list().await.unwrap()), [new]);
        let elsewhere = planned("eu-west-3", &changes).list().await.unwrap();
        assert_eq!(listed(elsewhere), [], "of another region");
        let resources: Vec<String> = (manager.journal.take().into_iter())
            .map(|call| call.resource)
            .collect();
        let made_up = "arn:aws:acm:eu-central-1:123456789012:certificate/<new>";
        assert_eq!(resources, [ARN, "eu-central-1", made_up, ARN]);
    }
}
