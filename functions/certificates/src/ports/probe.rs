//! The results of our own checks: of a challenge, and of what a listener serves.

use time::OffsetDateTime;

use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// The result of our own fetch of a challenge. The texts contain no part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The key authorization, as the authority expects it.
    Right,
    /// An answer that the authority would not accept, and why.
    Wrong(String),
    /// No answer. The cause may be this machine or the name.
    Unreachable(String),
}

/// The result of the handshakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// Every address serves the right leaf for every name.
    Yes {
        /// Whether the served chain leads to a trusted root for each name; if not, why.
        trusted: Result<(), String>,
    },
    /// Some address serves another leaf for some name: which name, which address, whose leaf.
    Wrong(String),
    /// Some address showed no leaf, and none showed a wrong one.
    CouldNotTell(String),
}

/// The question for the handshakes.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// DNS name of the load balancer itself.
    pub host: &'a str,
    /// Port of its listener.
    pub port: u16,
    /// `host:port` to connect to instead.
    pub connect_to: Option<&'a str>,
    /// Names for which the leaf must be served. For a wildcard, the handshake asks for
    /// `certloop-probe` under its zone.
    pub names: &'a [DnsName],
    /// The leaf that must be served, in DER.
    pub leaf_der: &'a [u8],
    /// Type of the leaf's key.
    pub key_type: KeyType,
    /// Trust roots in addition to the platform's, in PEM.
    pub roots: Option<&'a str>,
    /// The instant at which the chain must be valid: now, by the wall clock.
    pub now: OffsetDateTime,
}
