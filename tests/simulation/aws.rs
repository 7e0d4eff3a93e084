//! AWS Certificate Manager and Elastic Load Balancing, with their rules, quotas and delays.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use certificates::contract::target::NewListener;
use certificates::ports::certificate_manager::{
    CertificateManager, Deletion, Described, Listed, Material,
};
use certificates::ports::dns::{CaaRecords, DnsError, Resolver};
use certificates::ports::load_balancer::{
    AttachError, Balancer, Holding, Listener, LoadBalancer, Rule, RuleAction, RuleMatch,
    RuledListener,
};
use certificates::values::arn::{CertificateArn, ListenerArn, LoadBalancerArn, TargetGroupArn};
use certificates::values::chain::{Chain, Leaf};
use certificates::values::key::{KeyType, PrivateKey};
use certificates::values::problem::ServiceError;
use time::{Duration, OffsetDateTime};

use crate::faults::Service;
use crate::rules;
use crate::visitors::{Touch, around};
use crate::world::{ACCOUNT, Handle, World};

/// A certificate in the certificate manager.
pub(crate) struct AcmCertificate {
    pub(crate) region: String,
    pub(crate) leaf: Rc<Leaf>,
    pub(crate) leaf_pem: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) imported_at: OffsetDateTime,
    /// The leaves it held, each with the instant from which it held it: load balancers see a change
    /// late.
    pub(crate) versions: Vec<(OffsetDateTime, Rc<Leaf>)>,
    /// The instant from which the load balancers know it.
    pub(crate) known_at: OffsetDateTime,
    /// How long a change takes to be visible.
    pub(crate) lag: Duration,
}

impl AcmCertificate {
    /// Returns the leaf that load balancers serve from it.
    pub(crate) fn served(&self, at: OffsetDateTime) -> &Leaf {
        let seen = at - self.lag;
        let version = self.versions.iter().rfind(|(since, _)| *since <= seen);
        version.map_or(&self.versions[0].1, |(_, leaf)| leaf)
    }
}

/// A listener of a load balancer.
pub(crate) struct SimListener {
    pub(crate) host: String,
    pub(crate) internet_facing: bool,
    pub(crate) holding: Holding,
    pub(crate) quota: usize,
    /// What it held, each with the instant from which it held it.
    pub(crate) versions: Vec<(OffsetDateTime, Holding)>,
    /// How long a change takes to be listed, and to be served.
    pub(crate) listing_lag: Duration,
    pub(crate) serving_lag: Duration,
}

impl SimListener {
    pub(crate) fn at(&self, at: OffsetDateTime) -> &Holding {
        let version = self.versions.iter().rfind(|(since, _)| *since <= at);
        version.map_or(&self.versions[0].1, |(_, holding)| holding)
    }

    /// Records that the listener now holds something else.
    pub(crate) fn changed(&mut self, now: OffsetDateTime, rng: &mut fastrand::Rng) {
        let old = now - Duration::minutes(20);
        while self.versions.len() > 1 && self.versions[1].0 < old {
            self.versions.remove(0);
        }
        self.versions.push((now, self.holding.clone()));
        let slow = rng.u8(..4) == 0;
        self.listing_lag = Duration::milliseconds(if slow { rng.i64(0..8_000) } else { 0 });
        self.serving_lag = Duration::milliseconds(rng.i64(0..if slow { 60_000 } else { 8_000 }));
    }
}

pub(crate) struct SimCertificateManager {
    pub(crate) handle: Handle,
    pub(crate) region: String,
}

fn service_error(operation: &'static str, code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError {
        operation,
        code: Some(code.to_owned()),
        message: message.into(),
        status: Some(400),
    }
}

impl CertificateManager for SimCertificateManager {
    async fn import_new(
        &self,
        material: &Material<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateArn, ServiceError> {
        let pass = self.handle.pass;
        self.handle
            .call(
                Service::CertificateManager,
                "acm.importNew",
                &self.region,
                |world| {
                    let leaf = checked(world, material)?;
                    rules::before_first_import(world, pass, &self.region, &leaf, material, tags);
                    let arn = add_certificate(
                        world,
                        &self.region,
                        leaf,
                        material.certificate,
                        tags.clone(),
                    );
                    let serial = &world.manager[&arn].leaf.serial;
                    let line = format!("pass#{pass} acm.importNew: {serial} is {arn}");
                    world.say(format_args!("{line}"));
                    Ok(arn.parse().unwrap())
                },
            )
            .await
    }

    async fn import_over(
        &self,
        arn: &CertificateArn,
        material: &Material<'_>,
    ) -> Result<(), ServiceError> {
        let pass = self.handle.pass;
        self.handle
            .call(
                Service::CertificateManager,
                "acm.importOver",
                arn.as_str(),
                |world| {
                    let leaf = checked(world, material)?;
                    rules::before_reimport(world, pass, arn.as_str(), &leaf, material);
                    let now = world.now();
                    let Some(held) = world.manager.get(arn.as_str()) else {
                        return Err(service_error(
                            "ImportCertificate",
                            "ResourceNotFoundException",
                            "none",
                        ));
                    };
                    if let Err(why) = reimport(&held.leaf, &leaf) {
                        world.tally.count("re-import refused");
                        return Err(service_error(
                            "ImportCertificate",
                            "ValidationException",
                            why,
                        ));
                    }
                    let line = format!("pass#{pass} acm.importOver: {} is {arn}", leaf.serial);
                    let touch = Touch::ReImport { arn: arn.as_str() };
                    around(world, pass, touch, |world| {
                        let Some(held) = world.manager.get_mut(arn.as_str()) else {
                            return;
                        };
                        held.leaf = Rc::new(leaf);
                        held.leaf_pem = material.certificate.to_owned();
                        held.imported_at = now;
                        held.lag = Duration::milliseconds(world.rng.i64(0..20_000));
                        held.versions.push((now, held.leaf.clone()));
                        if held.versions.len() > 3 {
                            held.versions.remove(0);
                        }
                        world.imports += 1;
                        world.say(format_args!("{line}"));
                    });
                    Ok(())
                },
            )
            .await
    }

    async fn describe(&self, arn: &CertificateArn) -> Result<Option<Described>, ServiceError> {
        self.handle
            .call(
                Service::CertificateManager,
                "acm.describe",
                arn.as_str(),
                |world| {
                    let now = world.now();
                    // The list of its users is updated late.
                    let seen = now - Duration::seconds(world.rng.i64(5..240));
                    let used = world.listeners.iter();
                    let in_use_by = used
                        .filter(|(_, listener)| listener.at(seen).has(arn.as_str()))
                        .map(|(listener, _)| listener.clone())
                        .collect();
                    Ok(world.manager.get(arn.as_str()).map(|held| Described {
                        serial: Some(held.leaf.serial.clone()),
                        in_use_by,
                        names: held.leaf.names.iter().map(ToString::to_string).collect(),
                        imported_at: Some(held.imported_at),
                        not_after: Some(held.leaf.not_after),
                        issuer: None,
                    }))
                },
            )
            .await
    }

    async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
        self.handle
            .call(
                Service::CertificateManager,
                "acm.tags",
                arn.as_str(),
                |world| {
                    Ok(world
                        .manager
                        .get(arn.as_str())
                        .map(|held| held.tags.clone()))
                },
            )
            .await
    }

    async fn change_tags(
        &self,
        arn: &CertificateArn,
        gone: &[String],
        set: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        let (gone, set) = (gone.to_vec(), set.clone());
        self.handle
            .call(
                Service::CertificateManager,
                "acm.changeTags",
                arn.as_str(),
                |world| {
                    if let Some(held) = world.manager.get_mut(arn.as_str()) {
                        held.tags.retain(|key, _| !gone.contains(key));
                        held.tags.extend(set);
                    }
                    Ok(())
                },
            )
            .await
    }

    async fn leaf_pem(&self, arn: &CertificateArn) -> Result<Option<String>, ServiceError> {
        self.handle
            .call(
                Service::CertificateManager,
                "acm.get",
                arn.as_str(),
                |world| {
                    Ok(world
                        .manager
                        .get(arn.as_str())
                        .map(|held| held.leaf_pem.clone()))
                },
            )
            .await
    }

    async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        self.handle
            .call(
                Service::CertificateManager,
                "acm.list",
                &self.region,
                |world| {
                    let held = world.manager.iter();
                    Ok(held
                        .filter(|(_, held)| held.region == self.region)
                        .map(|(arn, held)| Listed {
                            arn: arn.parse().unwrap(),
                            names: Some(held.leaf.names.iter().map(ToString::to_string).collect()),
                            imported_at: Some(held.imported_at),
                        })
                        .collect())
                },
            )
            .await
    }

    async fn delete(&self, arn: &CertificateArn) -> Result<Deletion, ServiceError> {
        let pass = self.handle.pass;
        self.handle
            .call(
                Service::CertificateManager,
                "acm.delete",
                arn.as_str(),
                |world| {
                    let used = world
                        .listeners
                        .values()
                        .any(|listener| listener.holding.has(arn.as_str()));
                    rules::before_certificate_deletion(world, pass, arn.as_str());
                    if used {
                        world.tally.count("deletion refused: in use");
                        return Ok(Deletion::InUse);
                    }
                    around(world, pass, Touch::Delete { arn: arn.as_str() }, |world| {
                        world.manager.remove(arn.as_str());
                    });
                    Ok(Deletion::Done)
                },
            )
            .await
    }
}

/// Checks an import as the service does.
fn checked(world: &mut World, material: &Material<'_>) -> Result<Leaf, ServiceError> {
    const IMPORT: &str = "ImportCertificate";
    if world.imports >= world.import_quota {
        world.tally.count("import quota met");
        return Err(service_error(
            IMPORT,
            "LimitExceededException",
            "you have reached your limit",
        ));
    }
    let invalid = |why: &str| service_error(IMPORT, "ValidationException", why);
    let chain = Chain::parse(material.certificate).map_err(|_| invalid("not a certificate"))?;
    let leaf = chain.leaf().clone();
    let key = PrivateKey::from_pem(material.private_key).map_err(|_| invalid("not a key"))?;
    if Some(key.key_type()) != leaf.key_type {
        return Err(invalid("the key is not the certificate's"));
    }
    let now = world.now();
    if now < leaf.not_before || now > leaf.not_after {
        return Err(invalid("the certificate is not valid now"));
    }
    if material.chain.is_empty() || material.chain.contains(material.certificate.trim()) {
        return Err(invalid("the chain is not what follows the certificate"));
    }
    Ok(leaf)
}

/// The service's own rules for a reimport, written again independently of the library.
pub(crate) fn reimport(old: &Leaf, new: &Leaf) -> Result<(), String> {
    if old.key_type != new.key_type {
        return Err("the key's type or size changes".to_owned());
    }
    let empty = std::collections::BTreeSet::new();
    for (held, offered) in [
        (&old.key_usages, &new.key_usages),
        (&old.extended_key_usages, &new.extended_key_usages),
    ] {
        if held.is_none() && offered.is_some() {
            return Err("usages appear".to_owned());
        }
        let offered = offered.as_ref().unwrap_or(&empty);
        let ecdsa = old.key_type.is_some_and(KeyType::is_ecdsa);
        let lost = held
            .iter()
            .flatten()
            .any(|usage| !(offered.contains(usage) || ecdsa && usage == "KEY_ENCIPHERMENT"));
        if lost {
            return Err("New certificate is missing one or more Key Usages".to_owned());
        }
    }
    if !new.names.iter().any(|name| old.names.contains(name)) {
        return Err("no name stays".to_owned());
    }
    Ok(())
}

/// Puts a certificate into the certificate manager, for certloop or for anyone else.
pub(crate) fn add_certificate(
    world: &mut World,
    region: &str,
    leaf: Leaf,
    leaf_pem: &str,
    tags: BTreeMap<String, String>,
) -> String {
    let number = world.fresh();
    let arn =
        format!("arn:aws:acm:{region}:{ACCOUNT}:certificate/00000000-0000-0000-0000-{number:012}");
    let now = world.now();
    let leaf = Rc::new(leaf);
    let slow = world.rng.u8(..4) == 0;
    let known = Duration::milliseconds(if slow { world.rng.i64(0..40_000) } else { 0 });
    world.imports += 1;
    world.manager.insert(
        arn.clone(),
        AcmCertificate {
            region: region.to_owned(),
            versions: vec![(now, leaf.clone())],
            leaf,
            leaf_pem: leaf_pem.to_owned(),
            tags,
            imported_at: now,
            known_at: now + known,
            lag: Duration::ZERO,
        },
    );
    arn
}

pub(crate) struct SimLoadBalancer {
    pub(crate) handle: Handle,
}

impl SimLoadBalancer {
    async fn attach(
        &self,
        operation: &'static str,
        listener: &ListenerArn,
        certificate: &str,
        default: bool,
    ) -> Result<(), AttachError> {
        let pass = self.handle.pass;
        let about = format!("{certificate} on {listener}");
        self.handle
            .call(Service::LoadBalancer, operation, &about, |world| {
                let now = world.now();
                let known = world
                    .manager
                    .get(certificate)
                    .is_some_and(|held| held.known_at <= now);
                if !known {
                    world.tally.count("CertificateNotFound");
                    return Err(AttachError::NotYetKnown(service_error(
                        operation,
                        "CertificateNotFound",
                        "not yet",
                    )));
                }
                let Some(held) = world.listeners.get(listener.as_str()) else {
                    return Err(AttachError::Service(service_error(
                        operation,
                        "ListenerNotFound",
                        "none",
                    )));
                };
                let full = held.holding.list.len() >= held.quota;
                if !default && full && !held.holding.list.iter().any(|it| it == certificate) {
                    world.tally.count("TooManyCertificates");
                    return Err(AttachError::Full(service_error(
                        operation,
                        "TooManyCertificates",
                        "full",
                    )));
                }
                rules::before_attach(world, pass, listener.as_str(), certificate, default);
                let (listener, arn) = (listener.as_str(), certificate);
                let touch = match default {
                    true => Touch::SetDefault { listener, arn },
                    false => Touch::Add { listener, arn },
                };
                around(world, pass, touch, |world| {
                    change(world, listener, |holding| {
                        if default {
                            holding.default = Some(certificate.to_owned());
                        } else if !holding.list.iter().any(|it| it == certificate) {
                            holding.list.push(certificate.to_owned());
                        }
                    });
                });
                Ok(())
            })
            .await
    }
}

/// Changes what a listener holds, for certloop or for anyone else.
pub(crate) fn change(world: &mut World, listener: &str, how: impl FnOnce(&mut Holding)) {
    let now = world.now();
    if let Some(held) = world.listeners.get_mut(listener) {
        how(&mut held.holding);
        held.changed(now, &mut world.rng);
    }
}

impl LoadBalancer for SimLoadBalancer {
    async fn listener(&self, arn: &ListenerArn) -> Result<Option<Listener>, ServiceError> {
        self.handle
            .call(
                Service::LoadBalancer,
                "elb.listener",
                arn.as_str(),
                |world| {
                    Ok(world.listeners.get(arn.as_str()).map(|held| Listener {
                        protocol: "HTTPS".to_owned(),
                        port: 443,
                        host: held.host.clone(),
                        internet_facing: held.internet_facing,
                        tls_policy: None,
                    }))
                },
            )
            .await
    }

    async fn on_port(
        &self,
        _load_balancer: &LoadBalancerArn,
        _port: u16,
    ) -> Result<Option<ListenerArn>, ServiceError> {
        Err(service_error(
            "DescribeListeners",
            "NotSimulated",
            "no document asks for it",
        ))
    }

    async fn create(
        &self,
        _new: &NewListener,
        _certificate: &str,
        _tags: &BTreeMap<String, String>,
    ) -> Result<ListenerArn, AttachError> {
        Err(AttachError::Service(service_error(
            "CreateListener",
            "NotSimulated",
            "no document asks for it",
        )))
    }

    async fn certificates(&self, arn: &ListenerArn) -> Result<Holding, ServiceError> {
        self.handle
            .call(
                Service::LoadBalancer,
                "elb.certificates",
                arn.as_str(),
                |world| {
                    let now = world.now();
                    let Some(held) = world.listeners.get(arn.as_str()) else {
                        return Err(service_error(
                            "DescribeListenerCertificates",
                            "ListenerNotFound",
                            "none",
                        ));
                    };
                    Ok(held.at(now - held.listing_lag).clone())
                },
            )
            .await
    }

    async fn add(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError> {
        self.attach("elb.add", arn, certificate, false).await
    }

    async fn set_default(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError> {
        self.attach("elb.setDefault", arn, certificate, true).await
    }

    async fn remove(&self, arn: &ListenerArn, certificate: &str) -> Result<(), ServiceError> {
        let pass = self.handle.pass;
        let about = format!("{certificate} from {arn}");
        self.handle
            .call(Service::LoadBalancer, "elb.remove", &about, |world| {
                let Some(held) = world.listeners.get(arn.as_str()) else {
                    return Err(service_error(
                        "RemoveListenerCertificates",
                        "ListenerNotFound",
                        "none",
                    ));
                };
                if held.holding.default.as_deref() == Some(certificate) {
                    world.tally.count("OperationNotPermitted");
                    return Err(service_error(
                        "RemoveListenerCertificates",
                        "OperationNotPermitted",
                        "it is the default",
                    ));
                }
                rules::before_detach(world, pass, arn.as_str(), certificate);
                let touch = Touch::Remove {
                    listener: arn.as_str(),
                    arn: certificate,
                };
                around(world, pass, touch, |world| {
                    change(world, arn.as_str(), |holding| {
                        holding.list.retain(|it| it != certificate);
                    });
                });
                Ok(())
            })
            .await
    }

    async fn balancer(&self, arn: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError> {
        let listeners = arn.listeners();
        self.handle
            .call(
                Service::LoadBalancer,
                "elb.balancer",
                arn.as_str(),
                |world| {
                    let mut held = world.listeners.iter();
                    let held = held.find(|(listener, _)| listener.starts_with(&listeners));
                    Ok(held.map(|(_, held)| Balancer {
                        host: held.host.clone(),
                        internet_facing: held.internet_facing,
                    }))
                },
            )
            .await
    }

    async fn rules_on(
        &self,
        arn: &LoadBalancerArn,
        _port: u16,
    ) -> Result<Option<RuledListener>, ServiceError> {
        self.handle
            .call(Service::LoadBalancer, "elb.rules", arn.as_str(), |_| {
                let rule = Rule {
                    arn: "challenge".to_owned(),
                    priority: Some(1),
                    conditions: vec![RuleMatch::Path(vec![
                        certificates::rules::challenge_path::PATTERN.to_owned(),
                    ])],
                    action: RuleAction::Forward(vec![CHALLENGE.to_owned()]),
                    authenticates: false,
                    rewrites: Vec::new(),
                };
                Ok(Some(RuledListener {
                    arn: (arn.listeners() + "0000000000000080").parse().unwrap(),
                    protocol: "HTTP".to_owned(),
                    rules: vec![rule],
                }))
            })
            .await
    }

    async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError> {
        self.handle
            .call(Service::LoadBalancer, "elb.groups", "", |_| {
                Ok(vec![CHALLENGE.parse().unwrap()])
            })
            .await
    }

    async fn web_acl(&self, arn: &LoadBalancerArn) -> Result<Option<String>, ServiceError> {
        self.handle
            .call(Service::LoadBalancer, "waf.webAcl", arn.as_str(), |_| {
                Ok(None)
            })
            .await
    }
}

/// The target group of the challenge function.
const CHALLENGE: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/challenge/73e2d6bc24d8a067";

/// Every name exists, and none has a CAA record.
pub(crate) struct SimResolver;

impl Resolver for SimResolver {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsError> {
        Ok(vec![IpAddr::from([203, 0, 113, 10])])
    }

    async fn caa(&self, name: &str) -> Result<CaaRecords, DnsError> {
        Ok(CaaRecords {
            owner: name.to_owned(),
            records: Vec::new(),
        })
    }
}

/// Returns the leaf that a listener serves for a name to clients that accept only this kind of key.
pub(crate) fn served<'w>(
    world: &'w World,
    listener: &str,
    name: &str,
    ecdsa: bool,
    at: OffsetDateTime,
) -> Option<(&'w str, &'w Leaf)> {
    let held = world.listeners.get(listener)?;
    let holding = held.at(at - held.serving_lag);
    let usable = |arn: &String| {
        let (arn, certificate) = world.manager.get_key_value(arn)?;
        let leaf = certificate.served(at);
        (leaf.key_type.is_some_and(KeyType::is_ecdsa) == ecdsa).then_some((arn.as_str(), leaf))
    };
    let matching = holding
        .list
        .iter()
        .chain(&holding.default)
        .filter_map(usable)
        .filter(|(_, leaf)| covers(leaf, name));
    // The listener chooses one of those that fit by its own rules. Here: a valid one, of the
    // shortest validity, then the first by ARN.
    let chosen = matching
        .min_by_key(|(arn, leaf)| (leaf.not_after < at, leaf.not_after - leaf.not_before, *arn));
    chosen.or_else(|| holding.default.as_ref().and_then(usable))
}

pub(crate) fn covers(leaf: &Leaf, name: &str) -> bool {
    leaf.names.iter().any(|held| {
        // A wildcard matches one label.
        let below = held.as_str().strip_prefix("*.");
        held.as_str() == name
            || below
                .is_some_and(|below| name.split_once('.').is_some_and(|(_, rest)| rest == below))
    })
}
