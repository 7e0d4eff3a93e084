//! Pure: whether the listeners that certificates are on have a security policy of today.

use certificates::rules::tls_policy::{RECOMMENDED_POLICY, is_old_policy};
use certificates::values::arn::ListenerArn;

use super::{Finding, finding};

/// Warns of each listener with an older policy; `policies`: its name for each listener.
pub(crate) fn judge(policies: &[(ListenerArn, String)]) -> Vec<Finding> {
    let old = policies.iter().filter(|(_, policy)| is_old_policy(policy));
    let warnings = old.map(|(listener, policy)| {
        let lacks = match policy.contains("-TLS13-") {
            true => "takes TLS 1.0 or 1.1",
            false => "does not have TLS 1.3",
        };
        let found = format!("{listener} has the policy {policy}, which {lacks}");
        finding::warning(ABOUT, found).with(format!(
            "aws elbv2 modify-listener --region {} --listener-arn {listener} --ssl-policy \
             {RECOMMENDED_POLICY}, if your visitors' clients can use it",
            listener.region()
        ))
    });
    warnings.collect()
}

const ABOUT: &str = "TLS policy";

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/\
                            50dc6c495c0c9188/f2f7dc8efc522ab2";

    #[test]
    fn an_old_policy_is_told_with_the_command() {
        let of = |policy: &str| judge(&[(LISTENER.parse().unwrap(), policy.to_owned())]);
        assert_eq!(of(RECOMMENDED_POLICY), []);
        let told = of("ELBSecurityPolicy-2016-08").remove(0);
        assert!(told.found.contains("does not have TLS 1.3"), "{told:?}");
        let remedy = told.remedy.unwrap();
        assert!(
            remedy.contains("modify-listener --region eu-west-1"),
            "{remedy}"
        );
        let told = of("ELBSecurityPolicy-TLS13-1-0-2021-06").remove(0);
        assert!(told.found.contains("TLS 1.0 or 1.1"), "{told:?}");
    }
}
