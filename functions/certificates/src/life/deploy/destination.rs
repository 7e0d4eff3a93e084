//! The port to the places where a certificate is served, by family: what a deployment does there.
//! It knows families, never products: only [`by_arn`](super::by_arn) knows what a load balancer is.
//!
//! The pure questions about one destination (its kind, id, region) are in `rules::destination`.
//!
//! A family is one way to bring a certificate to its places and to take it away. A new family is a
//! variant here and a folder beside `by_arn`. A new destination of a family is a file there and an
//! answer to each question of `rules::destination`.

use crate::life::deploy::deployment::Deployment;
use crate::life::deploy::issued::{Brought, Issued};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;

/// One way to bring a certificate to places.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    /// The certificate manager of a region holds the certificate, and the places hold its ARN.
    ByArn,
}

impl Family {
    /// All families, in the order in which they are processed.
    pub(crate) const ALL: [Self; 1] = [Self::ByArn];
}

impl<P: Ports> Deployment<'_, '_, P> {
    /// Returns why a place is not as wanted, or `None`.
    pub(crate) async fn not_as_wanted(&self, family: Family) -> Option<String> {
        match family {
            Family::ByArn => self.by_arn_not_as_wanted().await,
        }
    }

    /// Returns which certificate of ours must be released, or `None`.
    pub(crate) async fn left_over(&self, family: Family) -> Option<String> {
        match family {
            Family::ByArn => self.by_arn_left_over().await,
        }
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Checks again the certificates that had lost our tags.
    pub(crate) async fn take_up_again(&mut self, family: Family) {
        match family {
            Family::ByArn => self.settle_untagged().await,
        }
    }

    /// Returns a certificate without its key, as the places of a family use it.
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

    /// Forgets the places that the document no longer names. If one still holds a certificate of
    /// ours, that is removed as a stray.
    pub(crate) fn forget_unnamed(&mut self, family: Family) {
        match family {
            Family::ByArn => self.forget_listeners(),
        }
    }

    /// Takes our certificate off all places that are not in force. A failure at one place does not
    /// stop the others.
    pub(crate) async fn take_off_strays(&mut self) -> Result<(), Stop> {
        for family in Family::ALL {
            match family {
                Family::ByArn => self.take_off_by_arn().await?,
            }
        }
        Ok(())
    }

    /// Deletes certificates that have a successor, whose overlap is over, and that nothing uses.
    pub(crate) async fn delete_superseded(&mut self) {
        for family in Family::ALL {
            match family {
                Family::ByArn => self.delete_superseded_by_arn().await,
            }
        }
    }
}
