//! The port to the DNS: the questions of our checks.
//!
//! "There is none" is an answer: NXDOMAIN, or no record of that type. SERVFAIL, REFUSED, silence
//! and nonsense are a [`DnsError`], which says nothing about the name.

use std::net::IpAddr;

use thiserror::Error;

/// The questions of our checks.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Resolver {
    /// Returns the addresses of a name, of both families, following CNAMEs. Empty when the DNS says
    /// that there are none.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// Returns the CAA records of a name, following CNAMEs (RFC 8659 section 3), with the name that
    /// holds them. Does not ask about parent names.
    async fn caa(&self, name: &str) -> Result<CaaRecords, DnsError>;
}

/// One CAA record, as the DNS holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caa {
    /// Its flags.
    pub flags: u8,
    /// The property's tag; letter case does not matter.
    pub tag: String,
    /// The property's value.
    pub value: String,
}

/// The CAA records for a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaaRecords {
    /// The name that holds them: the name in question, or the target of its alias.
    pub owner: String,
    /// The records; empty when the DNS says that there are none.
    pub records: Vec<Caa>,
}

/// Why the DNS gave no answer, in words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct DnsError(pub String);
