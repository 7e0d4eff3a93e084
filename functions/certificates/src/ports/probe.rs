//! What our own looks at the outside show: at a challenge, and at what a listener serves.

use time::OffsetDateTime;

use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// What our own fetch of a challenge met. The texts hold nothing of any body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The key authorization, as the authority will want it.
    Right,
    /// An answer that the authority would not take, and why.
    Wrong(String),
    /// No answer, which may be this machine's fault as well as the name's.
    Unreachable(String),
}

/// What the handshakes showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// Every name is served the right leaf at every address.
    Yes {
        /// Whether the served chain leads to a trusted root for each name; if not, why.
        trusted: Result<(), String>,
    },
    /// Some name is served another leaf at some address: which, where, and whose.
    Wrong(String),
    /// Somewhere no leaf was seen, and nowhere a wrong one.
    CouldNotTell(String),
}

/// What is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// DNS name of the load balancer itself.
    pub host: &'a str,
    /// Port of its listener.
    pub port: u16,
    /// `host:port` to connect to instead.
    pub connect_to: Option<&'a str>,
    /// Names that must be served the leaf; a wildcard is asked for as `certloop-probe` under its zone.
    pub names: &'a [DnsName],
    /// The leaf that must be served, in DER.
    pub leaf_der: &'a [u8],
    /// Type of the leaf's key.
    pub key_type: KeyType,
    /// Roots that make a chain trusted beside the platform's, in PEM.
    pub roots: Option<&'a str>,
    /// Instant at which the chain must be valid: now, by the wall clock.
    pub now: OffsetDateTime,
}
