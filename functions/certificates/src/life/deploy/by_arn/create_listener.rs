//! The listener that a document names by load balancer and port: found, or created with the first
//! certificate.
//!
//! HTTP-01 needs only port 80. So a listener on 443 can wait for a real certificate and needs no
//! placeholder.

use std::collections::BTreeMap;

use crate::contract::target::{ListenerAt, NewListener};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::load_balancer::{AttachError, LoadBalancer};
use crate::rules::listener::not_made;
use crate::values::arn::{CertificateArn, ListenerArn};

impl<P: Ports> Work<'_, '_, P> {
    /// Returns the ARN of a listener, and whether this call created it. A listener named by load
    /// balancer and port is looked up each time. Where there is none, it is created with ours as
    /// its default.
    pub(crate) async fn listener_at(
        &mut self,
        at: &ListenerAt,
        ours: &CertificateArn,
    ) -> Result<(ListenerArn, bool), Stop> {
        let new = match at {
            ListenerAt::Arn(arn) => return Ok((arn.clone(), false)),
            ListenerAt::Port(new) => new,
        };
        let (arn, made) = match self.on_port(new).await? {
            Some(arn) => (arn, false),
            None => (self.make(new, ours).await?, true),
        };
        // Forget what was known of it before it had an ARN.
        self.state
            .deployment
            .targets
            .retain(|target| target.id != new.key());
        let known = self
            .state
            .deployment
            .listeners
            .insert(new.key(), arn.clone());
        if known.as_ref() != Some(&arn) {
            self.save().await?;
        }
        Ok((arn, made))
    }

    /// Forgets the listeners on ports that the document no longer names. If one still holds a
    /// certificate of ours, that is removed as a stray.
    pub(crate) fn forget_listeners(&mut self) {
        let named: Vec<String> = (self.in_force.targets.iter())
            .filter_map(|target| match target.listener_at()? {
                ListenerAt::Port(new) => Some(new.key()),
                ListenerAt::Arn(_) => None,
            })
            .collect();
        self.state
            .deployment
            .listeners
            .retain(|key, _| named.contains(key));
    }

    async fn on_port(&self, new: &NewListener) -> Result<Option<ListenerArn>, Stop> {
        let balancer = self.cycle.ports.load_balancer(new.load_balancer.region());
        let found = balancer.on_port(&new.load_balancer, new.port).await;
        found.map_err(|error| not_made(new, &error).into())
    }

    async fn make(
        &mut self,
        new: &NewListener,
        ours: &CertificateArn,
    ) -> Result<ListenerArn, Stop> {
        let tags = BTreeMap::from(self.cycle.own_tags(&self.wanted.name));
        let balancer = self.cycle.ports.load_balancer(new.load_balancer.region());
        let made = self
            .until_known(async || balancer.create(new, ours.as_str(), &tags).await)
            .await?;
        let error = match made {
            Ok(arn) => {
                self.note("listener made", format!("{arn} on port {}", new.port));
                return Ok(arn);
            }
            Err(
                AttachError::NotYetKnown(error)
                | AttachError::Full(error)
                | AttachError::Service(error),
            ) => error,
        };
        // Another invocation was faster, or our own call had worked and its answer was lost.
        let taken = error.code.as_deref() == Some("DuplicateListener");
        if (taken || error.may_have_happened())
            && let Some(arn) = self.on_port(new).await?
        {
            return Ok(arn);
        }
        Err(not_made(new, &error).into())
    }
}
