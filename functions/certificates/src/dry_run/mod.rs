//! The ports of a pass that changes nothing. Imports `life` and above.
//!
//! What the next pass would do: the real cycle over ports that change nothing.
//!
//! [`Planned`] reads through to the live ports and keeps what would have been changed to itself, so that later reads see it; each
//! call that would have changed something is written down ([`Call`]). A plan cannot drift from what a pass does, since it is
//! one, and of the same machine code: both run over [`EitherPorts`]. Authorities are taken to validate every name anew and to issue
//! at once, listeners to serve what they hold.

mod authority;
mod certificate_manager;
mod either;
mod forecast;
mod journal;
mod load_balancer;
mod made_up;
mod ports;
mod reading;
mod store;

pub use authority::{PlannedAccount, PlannedAuthorities, PlannedOrder};
pub use certificate_manager::PlannedCertificateManager;
pub use either::{Either, EitherPorts};
pub use forecast::{Forecast, Foreseen, Total, forecast};
pub use journal::Call;
pub use load_balancer::PlannedLoadBalancer;
pub use ports::Planned;
pub use store::PlannedStore;
