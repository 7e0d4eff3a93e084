//! The ports of a pass that changes nothing. Imports `life` and above.
//!
//! What the next pass would do: the real cycle over ports that change nothing.
//!
//! [`DryRunPorts`] reads through to the live ports and keeps what would have been changed to itself, so that later reads see it; each
//! call that would have changed something is written down ([`Call`]). A plan cannot drift from what a pass does, since it is
//! one, and of the same machine code: both run over [`LiveOrDryRun`]. Authorities are taken to validate every name anew and to issue
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

pub use authority::{DryRunAccount, DryRunAuthorities, DryRunOrder};
pub use certificate_manager::DryRunCertificateManager;
pub use either::{Either, LiveOrDryRun};
pub use forecast::{Forecast, Foreseen, Total, forecast};
pub use journal::Call;
pub use load_balancer::DryRunLoadBalancer;
pub use ports::DryRunPorts;
pub use store::DryRunStore;
