//! Pure: the security policies of listeners.

/// What AWS recommends for new listeners: TLS 1.2 and 1.3 with post-quantum key exchange. Without a
/// policy, its API would choose one of 2016.
pub const RECOMMENDED_POLICY: &str = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09";

/// Whether a security policy is older than TLS 1.3, or still takes TLS 1.0 or 1.1.
pub fn is_old_policy(policy: &str) -> bool {
    let takes_old = ["-TLS13-1-0-", "-TLS13-1-1-"];
    !policy.contains("-TLS13-") || takes_old.iter().any(|old| policy.contains(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_take_old_protocols_are_old() {
        for (policy, is_old) in [
            (RECOMMENDED_POLICY, false),
            ("ELBSecurityPolicy-TLS13-1-2-2021-06", false),
            ("ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", false),
            ("ELBSecurityPolicy-TLS13-1-2-Res-FIPS-PQ-2025-09", false),
            ("ELBSecurityPolicy-2016-08", true),
            ("ELBSecurityPolicy-FS-1-2-Res-2020-10", true),
            ("ELBSecurityPolicy-TLS13-1-0-2021-06", true),
            ("ELBSecurityPolicy-TLS13-1-1-2021-06", true),
        ] {
            assert_eq!(is_old_policy(policy), is_old, "{policy}");
        }
    }
}
