//! The load balancers as they would be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::journal::Journal;
use super::reading::ReadLoadBalancer;
use crate::contract::target::NewListener;
use crate::ports::load_balancer::{
    AttachError, Balancer, Holding, Listener, LoadBalancer, RuledListener,
};
use crate::values::arn::{ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::problem::ServiceError;

/// The planned content of listeners in all regions, and the listeners that would be created.
#[derive(Default)]
pub(super) struct ListenerChanges {
    holdings: RefCell<BTreeMap<ListenerArn, Holding>>,
    made: RefCell<BTreeMap<(LoadBalancerArn, u16), ListenerArn>>,
}

/// The load balancers of one region.
pub struct DryRunLoadBalancer<B> {
    pub(super) live: ReadLoadBalancer<B>,
    pub(super) changes: Rc<ListenerChanges>,
    pub(super) journal: Rc<Journal>,
}

impl<B: LoadBalancer> DryRunLoadBalancer<B> {
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

impl<B: LoadBalancer> LoadBalancer for DryRunLoadBalancer<B> {
    async fn listener(&self, arn: &ListenerArn) -> Result<Option<Listener>, ServiceError> {
        match self.port_of_made(arn) {
            None => self.live.listener(arn).await,
            Some(port) => Ok(Some(Listener {
                protocol: "HTTPS".to_owned(),
                port,
                host: String::new(),
                internet_facing: true,
                tls_policy: None,
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

    async fn balancer(&self, arn: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError> {
        self.live.balancer(arn).await
    }

    async fn rules_on(
        &self,
        arn: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<RuledListener>, ServiceError> {
        self.live.rules_on(arn, port).await
    }

    async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError> {
        self.live.function_groups().await
    }

    async fn web_acl(&self, arn: &LoadBalancerArn) -> Result<Option<String>, ServiceError> {
        self.live.web_acl(arn).await
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

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";
    const BALANCER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        loadbalancer/app/web/50dc6c495c0c9188";
    const GROUP: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/site/73e2d6bc24d8a067";

    /// One listener with `a` as its default and `b` in its list, which cannot be changed.
    struct RealBalancer;

    impl LoadBalancer for RealBalancer {
        async fn listener(&self, _: &ListenerArn) -> Result<Option<Listener>, ServiceError> {
            Ok(None)
        }

        async fn on_port(
            &self,
            _: &LoadBalancerArn,
            _: u16,
        ) -> Result<Option<ListenerArn>, ServiceError> {
            Ok(None)
        }

        async fn create(
            &self,
            _: &NewListener,
            _: &str,
            _: &BTreeMap<String, String>,
        ) -> Result<ListenerArn, AttachError> {
            panic!("made");
        }

        async fn certificates(&self, _: &ListenerArn) -> Result<Holding, ServiceError> {
            Ok(holding("a", &["b"]))
        }

        async fn add(&self, _: &ListenerArn, _: &str) -> Result<(), AttachError> {
            panic!("added");
        }

        async fn set_default(&self, _: &ListenerArn, _: &str) -> Result<(), AttachError> {
            panic!("made the default");
        }

        async fn remove(&self, _: &ListenerArn, _: &str) -> Result<(), ServiceError> {
            panic!("removed");
        }

        async fn balancer(&self, _: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError> {
            Ok(None)
        }

        async fn rules_on(
            &self,
            _: &LoadBalancerArn,
            _: u16,
        ) -> Result<Option<RuledListener>, ServiceError> {
            Ok(None)
        }

        async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError> {
            Ok(Vec::new())
        }

        async fn web_acl(&self, _: &LoadBalancerArn) -> Result<Option<String>, ServiceError> {
            Ok(None)
        }
    }

    fn holding(default: &str, list: &[&str]) -> Holding {
        Holding {
            default: Some(default.to_owned()),
            list: list.iter().map(|held| (*held).to_owned()).collect(),
        }
    }

    fn planned() -> DryRunLoadBalancer<RealBalancer> {
        DryRunLoadBalancer {
            live: ReadLoadBalancer::of(RealBalancer),
            changes: Rc::default(),
            journal: Rc::new(Journal::new(OffsetDateTime::UNIX_EPOCH)),
        }
    }

    #[tokio::test]
    async fn a_listener_holds_what_it_would() {
        let planned = planned();
        let listener = LISTENER.parse().unwrap();
        planned.add(&listener, "c").await.unwrap();
        planned.add(&listener, "c").await.unwrap();
        planned.remove(&listener, "b").await.unwrap();
        let refused = planned.remove(&listener, "a").await.unwrap_err();
        assert_eq!(refused.code.as_deref(), Some("OperationNotPermitted"));
        let held = planned.certificates(&listener).await.unwrap();
        assert_eq!(held, holding("a", &["c"]));
        planned.set_default(&listener, "c").await.unwrap();
        planned.remove(&listener, "c").await.unwrap();
        planned.remove(&listener, "a").await.unwrap();
        let held = planned.certificates(&listener).await.unwrap();
        assert_eq!(held, holding("c", &[]));
        let calls = planned.journal.take();
        assert!(calls.iter().all(|call| call.resource == LISTENER));
        assert_eq!(calls.len(), 6, "a refused call changes nothing");
    }

    #[tokio::test]
    async fn a_listener_that_would_be_made_is_there_from_then_on() {
        let planned = planned();
        let new = NewListener {
            load_balancer: BALANCER.parse().unwrap(),
            port: 8443,
            forward: GROUP.parse().unwrap(),
            tls_policy: None,
        };
        let made = planned.create(&new, "a", &BTreeMap::new()).await.unwrap();
        let found = planned.on_port(&new.load_balancer, 8443).await.unwrap();
        assert_eq!(found, Some(made.clone()));
        let elsewhere = planned.on_port(&new.load_balancer, 443).await.unwrap();
        assert_eq!(elsewhere, None);
        let listener = planned.listener(&made).await.unwrap().unwrap();
        assert_eq!((listener.protocol.as_str(), listener.port), ("HTTPS", 8443));
        let held = planned.certificates(&made).await.unwrap();
        assert_eq!(held, holding("a", &[]));
        planned.add(&made, "a").await.unwrap();
        let resources: Vec<String> = (planned.journal.take().into_iter())
            .map(|call| call.resource)
            .collect();
        let listeners = new.load_balancer.listeners();
        assert_eq!(
            resources,
            [format!("{BALANCER}:8443"), format!("{listeners}<new>")]
        );
    }
}
