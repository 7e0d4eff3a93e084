//! Modules of the `certificates` library, compiled in rather than linked.
//!
//! Cargo gives a library the union of what its users in the workspace ask for. Built beside the
//! renewing function it is the whole cycle, and the linker keeps the unwinding tables of every SDK
//! crate behind it, although none of their code is called: this binary was 6.6 MB that way, and is
//! 5.1 MB this way.

#[path = "../../certificates/src/challenge.rs"]
pub(crate) mod challenge;

#[path = "../../certificates/src/metrics.rs"]
pub(crate) mod metrics;

#[path = "../../certificates/src/log.rs"]
pub(crate) mod log;

#[allow(dead_code, reason = "no ARN is made here")]
#[path = "../../certificates/src/values/partition.rs"]
pub(crate) mod partition;
