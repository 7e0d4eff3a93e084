//! Modules of the `certificates` library, compiled into this binary instead of linked.
//!
//! Cargo builds a library with the union of the features that its users in the workspace request.
//! Built together with the renewing function, the library is the whole cycle. The linker then keeps
//! the unwinding tables of every SDK crate, although none of their code is called: this binary was
//! 6.6 MB that way, and is 5.1 MB this way.

#[path = "../../certificates/src/challenge.rs"]
pub(crate) mod challenge;

#[path = "../../certificates/src/metrics.rs"]
pub(crate) mod metrics;

#[path = "../../certificates/src/log.rs"]
pub(crate) mod log;

#[allow(dead_code, reason = "no ARN is made here")]
#[path = "../../certificates/src/values/partition.rs"]
pub(crate) mod partition;
