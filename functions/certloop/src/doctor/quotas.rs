//! Pure: how near quotas and limits are.

use certificates::pass::ledgers::LimitsLeft;

use super::route::{Balancer, balancer_name};
use super::{Finding, finding};
use crate::words::{counted, minute};

const ABOUT: &str = "quotas";
const LIMITS: &str = "limits";

/// Judges what is left of authorities' limits and of yearly imports, as the inventory has it.
pub(crate) fn judge(left: &LimitsLeft) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(problem) = &left.problem {
        findings.push(finding::unknown(
            LIMITS,
            format!("what is left of them: {}", problem.detail),
        ));
    }
    for (region, imports) in &left.imports {
        let (left, of) = (imports.left, imports.of);
        let used = of.saturating_sub(left);
        let words = format!("{used} of {of} imports within 365 days are used in {region}");
        let remedy = "Service Quotas, ACM, imported certificates in the last year: ask for more, \
                      then raise limits.importsPerYear in settings.json";
        findings.push(match left {
            0 => finding::wrong(
                ABOUT,
                format!("{words}: nothing can be renewed there any more"),
            )
            .with(remedy),
            left if is_scarce(left, of) => finding::warning(ABOUT, words).with(remedy),
            _ => finding::ok(ABOUT, words),
        });
    }
    let mut scarce = Vec::new();
    for (authority, left) in &left.authorities {
        for hold in &left.holds {
            let subject = hold.subject.as_deref().unwrap_or("everything");
            scarce.push(format!(
                "{authority} refuses requests for {subject} until {}: {}",
                minute(hold.until),
                hold.problem.detail
            ));
        }
        for limit in left
            .limits
            .iter()
            .filter(|limit| is_scarce(limit.left, limit.of))
        {
            let next = limit
                .next_at
                .map(|at| format!(", the next at {}", minute(at)))
                .unwrap_or_default();
            scarce.push(format!("{authority}: {}{next}", limit.in_words()));
        }
    }
    let more = scarce.len().saturating_sub(MOST);
    findings.extend(scarce.into_iter().take(MOST).map(|words| {
        finding::warning(LIMITS, words).with(
            "nothing, if it can wait; otherwise a second authority, or a higher limit of this one",
        )
    }));
    if more > 0 {
        findings.push(
            finding::warning(LIMITS, format!("and {more} more of this kind"))
                .with("certloop status"),
        );
    }
    findings
}

/// Judges how full a load balancer is.
pub(crate) fn certificates(balancer: &Balancer) -> Finding {
    let name = balancer_name(&balancer.arn);
    let held = match &balancer.held {
        Ok(held) => held,
        Err(error) => {
            let what = format!("how many certificates {name} holds");
            return finding::could_not_tell(
                ABOUT,
                &what,
                "elasticloadbalancing:DescribeListenerCertificates",
                error,
            );
        }
    };
    let besides = held.iter().map(|one| {
        one.list
            .iter()
            .filter(|arn| one.default.as_ref() != Some(arn))
            .count()
    });
    let count = besides.sum::<usize>();
    let words = format!(
        "{name} holds {} beside the defaults on listeners of ours, of {QUOTA} that AWS gives by \
         default",
        counted(i64::try_from(count).unwrap_or(i64::MAX), "certificate")
    );
    let left = u32::try_from(QUOTA.saturating_sub(count)).unwrap_or_default();
    match is_scarce(left, QUOTA as u32) {
        true => finding::warning(ABOUT, words).with(
            "more names on a certificate, more load balancers, or Service Quotas, ELB, \
             certificates per load balancer",
        ),
        false => finding::ok(ABOUT, words),
    }
}

/// Whether less than a fifth is left. Of few, the last one is no news.
fn is_scarce(left: u32, of: u32) -> bool {
    left == 0 || left.saturating_mul(5) < of
}

/// Certificates per load balancer, its listeners' defaults not counted.
const QUOTA: usize = 25;
/// So many limits are listed one by one.
const MOST: usize = 10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use certificates::pass::ledgers::{AuthorityLeft, ImportsLeft};
    use certificates::ports::load_balancer::Holding;
    use certificates::records::ledger::LimitKind;
    use certificates::rules::ledger::Left;

    use super::super::Verdict;
    use super::*;

    fn imports(left: u32) -> Vec<Finding> {
        let of_region = ImportsLeft {
            left,
            of: 5_000,
            next_at: None,
        };
        judge(&LimitsLeft {
            imports: BTreeMap::from([("us-east-1".to_owned(), of_region)]),
            ..LimitsLeft::default()
        })
    }

    #[test]
    fn imports_of_the_year_are_watched() {
        assert_eq!(imports(1_000)[0].verdict, Verdict::Ok);
        let near = &imports(999)[0];
        assert_eq!(
            (near.verdict, near.found.as_str()),
            (
                Verdict::Warning,
                "4001 of 5000 imports within 365 days are used in us-east-1"
            )
        );
        assert_eq!(imports(0)[0].verdict, Verdict::Wrong);
    }

    #[test]
    fn limits_that_are_used_up_are_told_and_others_not() {
        let limit = |left| Left {
            limit: LimitKind::OrdersPerAccount,
            subject: "account".to_owned(),
            left,
            of: 300,
            seconds: 10_800,
            next_at: None,
        };
        let of = |limits: Vec<Left>| {
            judge(&LimitsLeft {
                authorities: BTreeMap::from([(
                    "letsencrypt".to_owned(),
                    AuthorityLeft {
                        limits,
                        holds: Vec::new(),
                    },
                )]),
                ..LimitsLeft::default()
            })
        };
        assert_eq!(of(vec![limit(290), limit(60)]), []);
        let found = of(vec![limit(0)]);
        assert_eq!(found[0].verdict, Verdict::Warning);
        assert!(found[0].found.contains("0 left"), "{found:?}");
        assert_eq!(of((0..30).map(|_| limit(1)).collect()).len(), MOST + 1);
    }

    #[test]
    fn a_full_load_balancer_is_told() {
        let of = |count: usize| {
            let list: Vec<String> = (0..count).map(|number| format!("arn:{number}")).collect();
            let held = Holding {
                default: Some("arn:0".to_owned()),
                list,
            };
            let arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/web/0123456789abcdef";
            certificates(&Balancer {
                arn: arn.parse().unwrap(),
                exists: Ok(true),
                http: Ok(None),
                https: Ok(None),
                functions: Ok(Vec::new()),
                held: Ok(vec![held]),
                policies: Vec::new(),
            })
        };
        assert_eq!(of(21).verdict, Verdict::Ok);
        assert_eq!(of(22).verdict, Verdict::Warning);
        assert_eq!(of(40).verdict, Verdict::Warning);
        assert!(of(22).found.contains("holds 21 certificates"));
    }
}
