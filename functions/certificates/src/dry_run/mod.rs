//! The ports of a pass that changes nothing. Imports `life` and above.
//!
//! What the next pass would do: the real pass over ports that change nothing.
//!
//! [`DryRunPorts`] reads from the live ports and keeps changes to itself, so that later reads see
//! them. It writes down each call that would change something ([`Call`]). A plan cannot drift from
//! a pass, because it is one, in the same machine code: both run over [`LiveOrDryRun`]. It assumes
//! that authorities validate every name again and issue at once, and that listeners serve what they
//! hold.

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
