//! Looking ahead: whether the next order could be validated.

use crate::cycle::{Cycle, Ports};
use crate::names::DnsName;
use crate::settings::Authority;

impl<P: Ports> Cycle<'_, P> {
    /// Returns the names whose CAA records surely forbid this authority, and why.
    pub(crate) async fn forbidden_by_caa(
        &self,
        _authority: &Authority,
        _account: Option<&str>,
        _names: &[DnsName],
    ) -> Vec<(DnsName, String)> {
        Vec::new()
    }
}
