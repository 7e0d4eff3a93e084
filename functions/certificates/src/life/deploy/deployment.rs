//! The facts from which a deployment is decided.

use std::time::Duration;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::pass::context::Cycle;
use crate::ports::Ports;
use crate::records::certificate::IssuedCertificate;
use crate::records::deployment::Superseded;
use crate::records::state::State;

/// The facts from which a deployment is decided.
pub(crate) struct Deployment<'d, 'p, P: Ports> {
    pub(crate) cycle: &'d Cycle<'p, P>,
    /// What the document says.
    pub(crate) document: &'d Wanted,
    /// The part of it that is in force (rule 12).
    pub(crate) wanted: &'d Wanted,
    pub(crate) state: &'d State,
    /// The current certificate: the one that targets must serve.
    pub(crate) held: &'d IssuedCertificate,
    pub(crate) now: OffsetDateTime,
}

/// Whether the overlap after a switch is over.
pub(crate) fn may_delete<P: Ports>(cycle: &Cycle<'_, P>, old: &Superseded) -> bool {
    // Not in the pass that detached it: what the place reports about its use lags behind.
    let overlap = Duration::from_secs(cycle.settings.limits.overlap_seconds);
    old.detached_since(cycle.clock.now())
        .is_some_and(|at| at < cycle.clock.received() && at + overlap <= cycle.clock.now())
}
