//! Pure: whether authorities' requests to port 80 of each load balancer reach the challenge
//! function, by its rules.

use std::collections::{BTreeMap, BTreeSet};

use certificates::invocation::status::Inventory;
use certificates::ports::load_balancer::{Holding, RuledListener};
use certificates::rules::challenge_path::{self, Finding as Rule};
use certificates::values::arn::{ListenerArn, LoadBalancerArn, TargetGroupArn};
use certificates::values::names::DnsName;
use certificates::values::problem::ServiceError;
use certificates::values::text::abridged;

use super::{Finding, Seen, finding};
use crate::words::counted;

const ABOUT: &str = "port 80";

/// A load balancer of the inventory: what is served there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    /// The names of its certificates.
    pub(crate) names: BTreeSet<String>,
    /// Its listeners that hold them.
    pub(crate) listeners: BTreeSet<ListenerArn>,
}

/// What was read of a load balancer.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) arn: LoadBalancerArn,
    pub(crate) exists: Seen<bool>,
    /// The listener on port 80, with its rules.
    pub(crate) http: Seen<Option<RuledListener>>,
    /// The one on port 443.
    pub(crate) https: Seen<Option<RuledListener>>,
    /// The target groups of functions in its region.
    pub(crate) functions: Seen<Vec<TargetGroupArn>>,
    /// What its listeners hold.
    pub(crate) held: Seen<Vec<Holding>>,
    /// The security policies of these listeners.
    pub(crate) policies: Vec<(ListenerArn, String)>,
}

/// Returns the load balancers that certificates are on.
pub(crate) fn served(inventory: &Inventory) -> BTreeMap<LoadBalancerArn, Served> {
    let mut all: BTreeMap<LoadBalancerArn, Served> = BTreeMap::new();
    for standing in &inventory.certificates {
        for arn in standing
            .targets
            .iter()
            .filter_map(|target| target.entry.arn.as_deref())
        {
            let listener: Option<ListenerArn> = arn.parse().ok();
            let balancer = listener.as_ref().and_then(ListenerArn::load_balancer);
            // One that is not made yet is known by its load balancer.
            let Some(balancer) = balancer.or_else(|| arn.parse().ok()) else {
                continue;
            };
            let served = all.entry(balancer).or_default();
            served.names.extend(standing.domains.iter().cloned());
            served.listeners.extend(listener);
        }
    }
    all
}

/// Judges one load balancer for the names that are served there; returns the target groups that
/// challenges lead to, too.
pub(crate) fn judge(
    balancer: &Balancer,
    names: &BTreeSet<String>,
) -> (Vec<Finding>, BTreeSet<String>) {
    let mut groups = BTreeSet::new();
    let name = balancer_name(&balancer.arn);
    let (http, functions) = match (&balancer.exists, &balancer.http, &balancer.functions) {
        (Ok(false), ..) => {
            return (vec![gone(&name, names)], groups);
        }
        (Ok(true), Ok(http), Ok(functions)) => (http, functions),
        (Err(error), ..) | (_, Err(error), _) | (_, _, Err(error)) => {
            return (vec![blind(&name, error)], groups);
        }
    };
    let mut said: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    let mut right = 0_i64;
    let mut taken = BTreeSet::new();
    for text in names {
        let Ok(domain) = text.parse::<DnsName>() else {
            continue;
        };
        let found = match rule_for(balancer, http.as_ref(), functions, &domain) {
            Ok(found) => found,
            Err(error) => return (vec![blind(&name, error)], groups),
        };
        if let Rule::Right {
            group,
            some_taken_by,
        } = &found
        {
            right += 1;
            groups.insert(group.clone());
            taken.extend(*some_taken_by);
        }
        if let Some(words) = found.words() {
            said.entry(words).or_default().push(text);
        }
    }
    let mut findings: Vec<Finding> = (said.into_iter())
        .map(|(words, names)| wrong_rule(&name, &words, names))
        .collect();
    for priority in taken {
        findings.push(finding::warning(
            ABOUT,
            format!(
                "{name}: the rule of priority {priority} takes some requests before the challenge \
                 rule, by where they come from or what they say"
            ),
        ));
    }
    if findings.is_empty() && right > 0 {
        findings.push(finding::ok(
            ABOUT,
            format!(
                "{name} leads challenges for {} to the function",
                counted(right, "name")
            ),
        ));
    }
    (findings, groups)
}

fn blind(balancer: &str, error: &ServiceError) -> Finding {
    let what = format!("where challenges lead on {balancer}");
    let permission = "elasticloadbalancing:DescribeLoadBalancers, DescribeListeners, DescribeRules \
                      and DescribeTargetGroups";
    finding::could_not_tell(ABOUT, &what, permission, error)
}

fn gone(balancer: &str, names: &BTreeSet<String>) -> Finding {
    finding::wrong(
        ABOUT,
        format!(
            "the load balancer {balancer} does not exist any more, and certificates for {} belong \
             there",
            abridged(names.iter(), 3)
        ),
    )
    .with("other targets: certloop edit NAME")
}

/// Finds the rule that a name's challenges meet on port 80, or on port 443 where they are sent on.
fn rule_for<'b>(
    balancer: &'b Balancer,
    http: Option<&RuledListener>,
    functions: &[TargetGroupArn],
    name: &DnsName,
) -> Result<Rule, &'b ServiceError> {
    let found = challenge_path::judge(&balancer.arn, http, functions, name);
    let Some(http) =
        http.filter(|http| !found.is_right() && challenge_path::redirects_to_https(http, name))
    else {
        return Ok(found);
    };
    Ok(match balancer.https.as_ref()? {
        Some(https) => {
            challenge_path::behind_redirect(http, https, functions, name).unwrap_or(found)
        }
        None => found,
    })
}

/// Tells what is wrong with a rule, for the names that meet it, and how to repair it.
fn wrong_rule(balancer: &str, words: &str, names: Vec<&String>) -> Finding {
    let (found, repair) = words.split_once("; to repair it: ").unwrap_or((words, ""));
    let found = finding::wrong(
        ABOUT,
        format!(
            "{balancer}, for {}: {found}",
            abridged(names.into_iter(), 3)
        ),
    );
    match repair {
        "" => found,
        repair => found.with(format!("terraform apply; or {repair}")),
    }
}

/// Returns `app/<name>`.
pub(crate) fn balancer_name(arn: &LoadBalancerArn) -> String {
    let parts: Vec<&str> = arn.as_str().rsplit('/').collect();
    format!("app/{}", parts.get(1).unwrap_or(&arn.as_str()))
}

#[cfg(test)]
mod tests {
    use certificates::ports::load_balancer::{Rule as ListenerRule, RuleAction, RuleMatch};

    use super::super::Verdict;
    use super::*;

    const BALANCER: &str =
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/web/0123456789abcdef";
    const GROUP: &str = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/certloop-1/0123456789abcdef";

    fn rule(priority: Option<u32>, conditions: Vec<RuleMatch>, action: RuleAction) -> ListenerRule {
        ListenerRule {
            arn: format!("rule-{priority:?}"),
            priority,
            conditions,
            action,
            authenticates: false,
            rewrites: Vec::new(),
        }
    }

    fn balancer(with_rule: bool) -> Balancer {
        let path = RuleMatch::Path(vec!["/.well-known/acme-challenge/*".to_owned()]);
        let mut rules = vec![rule(
            None,
            Vec::new(),
            RuleAction::FixedResponse("404".to_owned()),
        )];
        if with_rule {
            rules.push(rule(
                Some(1),
                vec![path],
                RuleAction::Forward(vec![GROUP.to_owned()]),
            ));
        }
        Balancer {
            arn: BALANCER.parse().unwrap(),
            exists: Ok(true),
            http: Ok(Some(RuledListener {
                arn: format!(
                    "{}/fedcba9876543210",
                    BALANCER.replace(":loadbalancer/", ":listener/")
                )
                .parse()
                .unwrap(),
                protocol: "HTTP".to_owned(),
                rules,
            })),
            https: Ok(None),
            functions: Ok(vec![GROUP.parse().unwrap()]),
            held: Ok(Vec::new()),
            policies: Vec::new(),
        }
    }

    fn names(count: usize) -> BTreeSet<String> {
        (0..count)
            .map(|number| format!("n{number}.example.com"))
            .collect()
    }

    #[test]
    fn a_rule_that_leads_to_the_function_is_right() {
        let (found, groups) = judge(&balancer(true), &names(2));
        assert_eq!(
            found[0].found,
            "app/web leads challenges for 2 names to the function"
        );
        assert_eq!(groups.into_iter().collect::<Vec<_>>(), [GROUP]);
        assert_eq!(judge(&balancer(true), &BTreeSet::new()).0, []);
    }

    #[test]
    fn a_rule_that_is_gone_is_told_once_with_its_command() {
        let (found, groups) = judge(&balancer(false), &names(5));
        let [found] = found.try_into().unwrap();
        assert_eq!(found.verdict, Verdict::Wrong);
        assert!(
            found
                .found
                .contains("n0.example.com, n1.example.com, n2.example.com and 2 more"),
            "{found:?}"
        );
        assert!(found.remedy.unwrap().contains("aws elbv2 create-rule"));
        assert!(groups.is_empty());
    }

    #[test]
    fn what_cannot_be_read_and_what_is_gone_differ() {
        let gone = Balancer {
            exists: Ok(false),
            http: Ok(None),
            ..balancer(true)
        };
        assert_eq!(judge(&gone, &names(1)).0[0].verdict, Verdict::Wrong);
        let denied = ServiceError {
            operation: "DescribeRules",
            code: Some("AccessDenied".to_owned()),
            message: "no".to_owned(),
            status: Some(403),
        };
        let blind = Balancer {
            http: Err(denied),
            ..balancer(true)
        };
        let found = &judge(&blind, &names(1)).0[0];
        assert_eq!(found.verdict, Verdict::CouldNotTell);
        assert!(
            found
                .remedy
                .as_ref()
                .is_some_and(|it| it.contains("DescribeRules"))
        );
    }

    #[test]
    fn load_balancers_are_those_of_the_inventory() {
        let listener = format!(
            "{}/fedcba9876543210",
            BALANCER.replace(":loadbalancer/", ":listener/")
        );
        let inventory: Inventory = serde_json::from_value(serde_json::json!({"certificates": [
            {"name": "a", "domains": ["a.example.com"], "targets": [
                {"type": "listener", "arn": listener, "state": "attached"},
                {"type": "certificateManager", "arn": null, "state": "imported"},
            ]},
            {"name": "b", "domains": ["b.example.com"], "targets": [{"type": "listener",
             "arn": BALANCER, "state": "pending"}]},
        ]}))
        .unwrap();
        let all = served(&inventory);
        let [(arn, served)] = all.into_iter().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(arn.as_str(), BALANCER);
        assert_eq!((served.names.len(), served.listeners.len()), (2, 1));
    }
}
