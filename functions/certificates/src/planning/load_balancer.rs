//! The load balancers as they would be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::journal::Journal;
use super::reading::ReadLoadBalancer;
use crate::arn::{ListenerArn, LoadBalancerArn};
use crate::document::NewListener;
use crate::load_balancer::{AttachError, Holding, Listener, LoadBalancer};
use crate::problem::ServiceError;

/// What listeners of all regions would hold instead of what they do, and those that would have been made.
#[derive(Default)]
pub(super) struct Changes {
    holdings: RefCell<BTreeMap<ListenerArn, Holding>>,
    made: RefCell<BTreeMap<(LoadBalancerArn, u16), ListenerArn>>,
}

/// The load balancers of one region.
pub struct PlannedLoadBalancer<B> {
    pub(super) live: ReadLoadBalancer<B>,
    pub(super) changes: Rc<Changes>,
    pub(super) journal: Rc<Journal>,
}

impl<B: LoadBalancer> PlannedLoadBalancer<B> {
    fn port_of_made(&self, arn: &ListenerArn) -> Option<u16> {
        let made = self.changes.made.borrow();
        let found = made.iter().find(|(_, made)| *made == arn);
        found.map(|((_, port), _)| *port)
    }

    fn put(&self, arn: &ListenerArn, holding: Holding) {
        let mut holdings = self.changes.holdings.borrow_mut();
        holdings.insert(arn.clone(), holding);
    }
}

impl<B: LoadBalancer> LoadBalancer for PlannedLoadBalancer<B> {
    async fn listener(&self, arn: &ListenerArn) -> Result<Option<Listener>, ServiceError> {
        match self.port_of_made(arn) {
            None => self.live.listener(arn).await,
            Some(port) => Ok(Some(Listener {
                protocol: "HTTPS".to_owned(),
                port,
                host: String::new(),
                internet_facing: true,
            })),
        }
    }

    async fn on_port(
        &self,
        load_balancer: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<ListenerArn>, ServiceError> {
        let at = (load_balancer.clone(), port);
        if let Some(made) = self.changes.made.borrow().get(&at) {
            return Ok(Some(made.clone()));
        }
        self.live.on_port(load_balancer, port).await
    }

    async fn create(
        &self,
        new: &NewListener,
        certificate: &str,
        _tags: &BTreeMap<String, String>,
    ) -> Result<ListenerArn, AttachError> {
        const OPERATION: &str = "CreateListener";
        let before = new.load_balancer.listeners();
        let arn: ListenerArn = format!("{before}planned-{}", self.journal.next())
            .parse()
            .map_err(|error| AttachError::Service(refused(OPERATION, "ValidationError", error)))?;
        self.journal.show(arn.as_str(), format!("{before}<new>"));
        self.journal.record("elbv2", OPERATION, &new.key());
        let at = (new.load_balancer.clone(), new.port);
        self.changes.made.borrow_mut().insert(at, arn.clone());
        let holding = Holding {
            default: Some(certificate.to_owned()),
            list: Vec::new(),
        };
        self.put(&arn, holding);
        Ok(arn)
    }

    async fn certificates(&self, arn: &ListenerArn) -> Result<Holding, ServiceError> {
        if let Some(holding) = self.changes.holdings.borrow().get(arn) {
            return Ok(holding.clone());
        }
        self.live.certificates(arn).await
    }

    async fn add(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError> {
        let holding = self.certificates(arn).await;
        let mut holding = holding.map_err(AttachError::Service)?;
        self.journal
            .record("elbv2", "AddListenerCertificates", arn.as_str());
        if !holding.list.iter().any(|held| held == certificate) {
            holding.list.push(certificate.to_owned());
        }
        self.put(arn, holding);
        Ok(())
    }

    async fn set_default(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError> {
        let holding = self.certificates(arn).await;
        let mut holding = holding.map_err(AttachError::Service)?;
        self.journal.record("elbv2", "ModifyListener", arn.as_str());
        holding.default = Some(certificate.to_owned());
        self.put(arn, holding);
        Ok(())
    }

    async fn remove(&self, arn: &ListenerArn, certificate: &str) -> Result<(), ServiceError> {
        const OPERATION: &str = "RemoveListenerCertificates";
        let mut holding = self.certificates(arn).await?;
        let listed = holding.list.iter().any(|held| held == certificate);
        if !listed && holding.default.as_deref() == Some(certificate) {
            let why = "the default certificate cannot be removed";
            return Err(refused(OPERATION, "OperationNotPermitted", why));
        }
        self.journal.record("elbv2", OPERATION, arn.as_str());
        holding.list.retain(|held| held != certificate);
        self.put(arn, holding);
        Ok(())
    }
}

fn refused(operation: &'static str, code: &str, why: impl ToString) -> ServiceError {
    ServiceError {
        operation,
        code: Some(code.to_owned()),
        message: why.to_string(),
        status: Some(400),
    }
}
