//! The port to the places where a certificate is served, by family: what a deployment does there. It
//! knows families, never products: what a load balancer is, only [`by_arn`](super::by_arn) knows.
//!
//! The pure questions about one destination (its kind, id, region) are in `rules::destination`.
//!
//! A family is one way to bring a certificate to places, and to take it away. A new one is a
//! variant here and a folder beside `by_arn`; a new destination of a family is a file there and an
//! answer to each question of `rules::destination`.

use crate::life::deploy::deployment::Deployment;
use crate::life::deploy::issued::{Brought, Issued};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;

/// One way to bring a certificate to places.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    /// The certificate manager of a region holds it, and the places hold its ARN.
    ByArn,
}

impl Family {
    /// All of them, in the order in which they are dealt with.
    pub(crate) const ALL: [Self; 1] = [Self::ByArn];
}

impl<P: Ports> Deployment<'_, '_, P> {
    /// Returns why a place is not as wanted, where one is not.
    pub(crate) async fn not_as_wanted(&self, family: Family) -> Option<String> {
        match family {
            Family::ByArn => self.by_arn_not_as_wanted().await,
        }
    }

    /// Returns what of ours has to be let go of, where something has.
    pub(crate) async fn left_over(&self, family: Family) -> Option<String> {
        match family {
            Family::ByArn => self.by_arn_left_over().await,
        }
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Takes up again what was not ours to change for a while.
    pub(crate) async fn take_up_again(&mut self, family: Family) {
        match family {
            Family::ByArn => self.settle_untagged().await,
        }
    }

    /// Returns a certificate without its key, as the places of a family have it in use.
    pub(crate) async fn in_use(
        &self,
        family: Family,
        serial: &str,
    ) -> Result<Option<Issued>, Stop> {
        match family {
            Family::ByArn => self.in_certificate_managers(serial).await,
        }
    }

    /// Brings a certificate to all places of a family that are in force.
    pub(crate) async fn bring_to(
        &mut self,
        family: Family,
        issued: &Issued,
    ) -> Result<Brought, Stop> {
        match family {
            Family::ByArn => self.bring_by_arn(issued).await,
        }
    }

    /// Forgets what is known of places that the document does not name any more. What they hold of
    /// ours is taken off as a stray.
    pub(crate) fn forget_unnamed(&mut self, family: Family) {
        match family {
            Family::ByArn => self.forget_listeners(),
        }
    }

    /// Takes ours off all places that are not in force. One that cannot be dealt with stops no
    /// other.
    pub(crate) async fn take_off_strays(&mut self) -> Result<(), Stop> {
        for family in Family::ALL {
            match family {
                Family::ByArn => self.take_off_by_arn().await?,
            }
        }
        Ok(())
    }

    /// Deletes what has a successor, whose overlap is over, and that nothing uses.
    pub(crate) async fn delete_superseded(&mut self) {
        for family in Family::ALL {
            match family {
                Family::ByArn => self.delete_superseded_by_arn().await,
            }
        }
    }
}
