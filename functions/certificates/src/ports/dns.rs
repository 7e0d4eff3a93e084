//! The port to the DNS: what the checks ask of it.
//!
//! "There is none" is an answer (NXDOMAIN, or no record of that type); SERVFAIL, REFUSED, silence
//! and nonsense are [`DnsError`], which says nothing about the name.

use std::net::IpAddr;

use thiserror::Error;

/// The questions the checks ask.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Resolver {
    /// Returns the addresses of a name, of both families, CNAMEs followed; empty when there are surely none.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// Returns the CAA records of a name, CNAMEs followed (RFC 8659 section 3), with the name they stand at. Its parents are not
    /// asked about.
    async fn caa(&self, name: &str) -> Result<CaaRecords, DnsError>;
}

/// One CAA record as the DNS has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caa {
    /// Its flags.
    pub flags: u8,
    /// The property's tag; letter case means nothing.
    pub tag: String,
    /// The property's value.
    pub value: String,
}

/// The CAA records that a name leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaaRecords {
    /// The name they stand at: the one that was asked about, or what that is an alias of.
    pub owner: String,
    /// The records; empty when there are surely none.
    pub records: Vec<Caa>,
}

/// What kept the DNS from answering, in words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct DnsError(pub String);
