//! Pure: whether the rules on a load balancer's port 80 let an authority reach the challenge
//! function, and the command that repairs them if they do not.
//!
//! An authority sends `GET http://<name>/.well-known/acme-challenge/<token>` from any address. The
//! load balancer tries its rules by priority, the default rule last. The first rule whose
//! conditions all hold acts. Path patterns are case-sensitive, host names are not.

use crate::challenge::WELL_KNOWN_PREFIX;
use crate::ports::load_balancer::{Rule, RuleAction, RuleMatch, RuledListener};
use crate::values::arn::{LoadBalancerArn, TargetGroupArn};
use crate::values::names::DnsName;
use crate::values::text::shell_word;
use crate::values::wildcard;

/// What the rules mean for a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The challenge path leads to a function.
    Right {
        /// Its target group.
        group: String,
        /// The priority of an earlier rule that takes some of the requests, because of their
        /// source address or their headers.
        some_taken_by: Option<u32>,
    },
    /// The load balancer does not exist.
    NoBalancer,
    /// The load balancer has no listener on port 80.
    NoListener(Repair),
    /// The listener on port 80 does not speak HTTP.
    NotHttp {
        /// What it speaks instead.
        protocol: String,
        /// How to repair it.
        repair: Repair,
    },
    /// There is no rule for the challenge path.
    Missing {
        /// What happens to such requests.
        instead: String,
        /// How to repair it.
        repair: Repair,
    },
    /// There is a rule for the path, but in the wrong letter case.
    WrongCase {
        /// Its priority.
        priority: u32,
        /// Its pattern.
        pattern: String,
        /// How to repair it.
        repair: Repair,
    },
    /// Another rule takes the requests before the right one.
    ShadowedBy {
        /// Its priority.
        priority: u32,
        /// What it does.
        does: String,
        /// How to repair it.
        repair: Repair,
    },
    /// There is a rule, but it rewrites the path on the way to the function.
    Rewritten {
        /// Its priority.
        priority: u32,
        /// The regular expression that the path matches.
        regex: String,
        /// How to repair it.
        repair: Repair,
    },
    /// There is a rule, but it leaves this name or some requests out.
    OnlySome {
        /// Its priority.
        priority: u32,
        /// What it leaves out.
        left_out: String,
        /// How to repair it.
        repair: Repair,
    },
}

/// A command line that repairs what was found. Unknown parts are in angle brackets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair(pub String);

impl Finding {
    /// Whether requests reach a function.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right { .. })
    }

    /// Says what is wrong, and the command that repairs it; `None` if nothing is wrong.
    pub fn words(&self) -> Option<String> {
        let (found, Repair(repair)) = match self {
            Self::Right { .. } => return None,
            Self::NoBalancer => {
                return Some(
                    "the load balancer does not exist any more: change the document's targets"
                        .to_owned(),
                );
            }
            Self::NoListener(repair) => (
                "the load balancer has no listener on port 80, where authorities ask".to_owned(),
                repair,
            ),
            Self::NotHttp { protocol, repair } => (
                format!(
                    "the load balancer's listener on port 80 speaks {protocol}, but authorities \
                     ask by HTTP there"
                ),
                repair,
            ),
            Self::Missing { instead, repair } => (
                format!("no rule on port 80 leads {PATTERN} to the challenge function: {instead}"),
                repair,
            ),
            Self::WrongCase {
                priority,
                pattern,
                repair,
            } => (
                format!(
                    "the rule of priority {priority} on port 80 is for {pattern}, but paths are \
                     case-sensitive: authorities ask for {PATTERN}"
                ),
                repair,
            ),
            Self::ShadowedBy {
                priority,
                does,
                repair,
            } => (
                format!(
                    "the rule of priority {priority} on port 80 comes before the one for \
                     {PATTERN} and {does}"
                ),
                repair,
            ),
            Self::Rewritten {
                priority,
                regex,
                repair,
            } => (
                format!(
                    "the rule of priority {priority} on port 80 for {PATTERN} rewrites the path \
                     (url-rewrite of {regex}), so that the function does not see it"
                ),
                repair,
            ),
            Self::OnlySome {
                priority,
                left_out,
                repair,
            } => (
                format!(
                    "the rule of priority {priority} on port 80 for {PATTERN} leaves out {left_out}"
                ),
                repair,
            ),
        };
        Some(format!("{found}; to repair it: {repair}"))
    }
}

/// Judges what the rules on port 80 mean for a name. `functions` are the target groups of
/// functions. If exactly one of them is named like that of a challenge function, only this one
/// counts.
pub fn judge(
    balancer: &LoadBalancerArn,
    listener: Option<&RuledListener>,
    functions: &[TargetGroupArn],
    name: &DnsName,
) -> Finding {
    let Some(listener) = listener else {
        return Finding::NoListener(Repair(format!(
            "aws elbv2 create-listener --region {} --load-balancer-arn {balancer} \
             --protocol HTTP --port 80 --default-actions \
             'Type=redirect,RedirectConfig={{Protocol=HTTPS,Port=443,StatusCode=HTTP_301}}', \
             and then a rule for {PATTERN}",
            balancer.region()
        )));
    };
    if listener.protocol != "HTTP" {
        return Finding::NotHttp {
            protocol: listener.protocol.clone(),
            repair: Repair(format!(
                "aws elbv2 modify-listener --region {} --listener-arn {} --port 80 \
                 --protocol HTTP, and then a rule for {PATTERN}",
                balancer.region(),
                listener.arn
            )),
        };
    }
    judge_rules(listener, functions, name)
}

/// Returns the function's target group behind a redirect: port 80 redirects the challenge path for
/// this name to HTTPS, and the rules there lead to the group. Authorities follow the redirect and
/// accept any certificate there.
pub fn behind_redirect(
    http: &RuledListener,
    https: &RuledListener,
    functions: &[TargetGroupArn],
    name: &DnsName,
) -> Option<Finding> {
    let right = judge_rules(https, functions, name);
    (redirects_to_https(http, name) && https.protocol == "HTTPS" && right.is_right())
        .then_some(right)
}

/// Whether port 80 redirects the challenge path for this name to the same path on port 443.
pub fn redirects_to_https(http: &RuledListener, name: &DnsName) -> bool {
    let rules = Rules::new(http, &[]);
    let mut sorted = rules.sorted.iter();
    let taking = sorted.find(|rule| matches!(fits(rule, name), Fits::Always));
    taking.is_some_and(|rule| {
        let hosts = ["#{host}", name.as_str()];
        let is_same = |to: &str| {
            let mut hosts = hosts.iter();
            hosts.any(|host| to == format!("https://{host}:443/#{{path}}"))
        };
        matches!(&rule.action, RuleAction::Redirect(to) if is_same(to)) && !rule.authenticates
    })
}

fn judge_rules(listener: &RuledListener, functions: &[TargetGroupArn], name: &DnsName) -> Finding {
    let rules = Rules::new(listener, functions);
    let mut some_taken_by = None;
    let mut only_some: Option<(&Rule, String)> = None;
    for rule in &rules.sorted {
        let fits = fits(rule, name);
        let leads_there = rules.leads_to_a_function(rule);
        match fits {
            Fits::Never(why) => {
                // A rule for the path that leaves this name out. It matters unless another rule
                // includes the name.
                if leads_there && rules.is_for_the_path(rule) && only_some.is_none() {
                    only_some = why.map(|why| (*rule, why));
                }
            }
            Fits::Sometimes(why) if leads_there => {
                only_some = only_some.or(Some((rule, why)));
            }
            Fits::Sometimes(_) => {
                some_taken_by = some_taken_by.or(rule.priority);
            }
            Fits::Always if leads_there => {
                if let Some(rewritten) = rules.rewritten(rule) {
                    return rewritten;
                }
                return Finding::Right {
                    group: rules.group_of(rule).unwrap_or_default().to_owned(),
                    some_taken_by,
                };
            }
            Fits::Always => return rules.not_reached(rule, only_some, name),
        }
    }
    // A listener always has a default rule. Without one we do not know what answers.
    Finding::Missing {
        instead: "no rule takes them".to_owned(),
        repair: rules.new_rule(None, None),
    }
}

/// Whether a rule applies to an authority's request.
enum Fits {
    Always,
    /// To some of the requests; to which not.
    Sometimes(String),
    /// Not at all; why, if the rule is for this path but not for this name.
    Never(Option<String>),
}

struct Rules<'r> {
    listener: &'r RuledListener,
    functions: &'r [TargetGroupArn],
    sorted: Vec<&'r Rule>,
}

impl<'r> Rules<'r> {
    fn new(listener: &'r RuledListener, functions: &'r [TargetGroupArn]) -> Self {
        let mut sorted: Vec<&Rule> = listener.rules.iter().collect();
        sorted.sort_by_key(|rule| rule.priority.unwrap_or(u32::MAX));
        Self {
            listener,
            functions,
            sorted,
        }
    }

    fn leads_to_a_function(&self, rule: &Rule) -> bool {
        self.group_of(rule).is_some()
    }

    /// Returns the function's target group that a rule forwards all its requests to.
    fn group_of(&self, rule: &'r Rule) -> Option<&'r str> {
        let RuleAction::Forward(groups) = &rule.action else {
            return None;
        };
        let named = self.named();
        let is_function = |group: &String| match named.as_slice() {
            [ours] => ours.as_str() == group,
            _ => self.functions.iter().any(|one| one.as_str() == group),
        };
        let all = !groups.is_empty() && groups.iter().all(is_function) && !rule.authenticates;
        all.then(|| groups.first().map(String::as_str)).flatten()
    }

    /// Returns the finding of a rule that rewrites the challenge path.
    fn rewritten(&self, rule: &Rule) -> Option<Finding> {
        let mut rewrites = rule.rewrites.iter();
        let (regex, _) = rewrites.find(|(regex, _)| may_match_the_path(regex))?;
        let of_it_alone = |condition: &RuleMatch| {
            matches!(condition, RuleMatch::Path(patterns)
                if patterns.iter().all(|pattern| pattern.starts_with("/.well-known/")))
        };
        let repair = match rule.conditions.iter().any(of_it_alone) {
            true => Repair(format!(
                "aws elbv2 modify-rule --region {} --rule-arn {} --reset-transforms",
                self.listener.arn.region(),
                rule.arn
            )),
            // Others need the rewrite.
            false => self.new_rule(Some(rule), self.group_of(rule)),
        };
        Some(Finding::Rewritten {
            priority: rule.priority?,
            regex: regex.clone(),
            repair,
        })
    }

    /// Whether a rule was made for the challenge path, in any letter case.
    fn is_for_the_path(&self, rule: &Rule) -> bool {
        let is_for_it =
            |pattern: &String| of_path(std::slice::from_ref(pattern), true) == Some(true);
        rule.conditions.iter().any(|condition| {
            matches!(condition, RuleMatch::Path(patterns)
                if patterns.iter().any(is_for_it))
        })
    }

    /// Says why the requests end at a rule that leads elsewhere.
    fn not_reached(
        &self,
        taken_by: &'r Rule,
        only_some: Option<(&'r Rule, String)>,
        name: &DnsName,
    ) -> Finding {
        let later = self
            .sorted
            .iter()
            .skip_while(|rule| rule.arn != taken_by.arn);
        let later = later.skip(1).find(|rule| {
            self.leads_to_a_function(rule)
                && rule.priority.is_some()
                && matches!(fits(rule, name), Fits::Always)
        });
        if let (Some(ours), Some(priority)) = (later, taken_by.priority) {
            return Finding::ShadowedBy {
                priority,
                does: does(taken_by),
                repair: self.moved_ahead(ours, taken_by),
            };
        }
        if let Some((rule, left_out)) = only_some
            && let Some(priority) = rule.priority
        {
            return Finding::OnlySome {
                priority,
                left_out,
                repair: self.new_rule(Some(taken_by), self.group_of(rule)),
            };
        }
        for rule in &self.sorted {
            if let Some((priority, pattern, repair)) = self.other_letters(rule, name) {
                return Finding::WrongCase {
                    priority,
                    pattern,
                    repair,
                };
            }
        }
        let instead = match taken_by.priority {
            Some(priority) => format!("the rule of priority {priority} {}", does(taken_by)),
            None => format!("the default action {}", does(taken_by)),
        };
        Finding::Missing {
            instead,
            repair: self.new_rule(Some(taken_by), None),
        }
    }

    /// Returns the repair of a rule that would be right in another letter case, with its priority
    /// and its pattern.
    fn other_letters(&self, rule: &Rule, name: &DnsName) -> Option<(u32, String, Repair)> {
        let priority = rule.priority?;
        self.group_of(rule)?;
        let wrong = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns
                .find(|pattern| of_path(std::slice::from_ref(pattern), true) == Some(true))
                .cloned()
        };
        let pattern = rule
            .conditions
            .iter()
            .find_map(|condition| match condition {
                RuleMatch::Path(patterns) if of_path(patterns, false) != Some(true) => {
                    wrong(patterns)
                }
                _ => None,
            })?;
        let conditions: Vec<RuleMatch> = (rule.conditions.iter())
            .map(|condition| match condition {
                RuleMatch::Path(_) => RuleMatch::Path(vec![PATTERN.to_owned()]),
                other => other.clone(),
            })
            .collect();
        let corrected = Rule {
            conditions,
            ..rule.clone()
        };
        if !matches!(fits(&corrected, name), Fits::Always) {
            return None;
        }
        let conditions: Vec<serde_json::Value> =
            corrected.conditions.iter().filter_map(in_json).collect();
        if conditions.len() < corrected.conditions.len() {
            return None;
        }
        let repair = Repair(format!(
            "aws elbv2 modify-rule --region {} --rule-arn {} --conditions {}",
            self.listener.arn.region(),
            rule.arn,
            shell_word(&serde_json::Value::from(conditions).to_string())
        ));
        Some((priority, pattern, repair))
    }

    /// Returns the command that creates a rule before another one.
    fn new_rule(&self, before: Option<&Rule>, group: Option<&str>) -> Repair {
        let region = self.listener.arn.region();
        let (shift, priority) = self.room_before(before);
        let group = group.map_or_else(|| self.likely_group(), str::to_owned);
        let create = format!(
            "aws elbv2 create-rule --region {region} --listener-arn {} --priority {priority} \
             --conditions 'Field=path-pattern,Values={PATTERN}' --actions {}",
            self.listener.arn,
            shell_word(&format!("Type=forward,TargetGroupArn={group}"))
        );
        Repair(match shift.is_empty() {
            true => create,
            false => format!("{} && {create}", set_priorities(region, &shift)),
        })
    }

    /// Returns the command that moves a rule before another one.
    fn moved_ahead(&self, ours: &Rule, before: &Rule) -> Repair {
        let (mut shift, priority) = self.room_before(Some(before));
        // The rule's own priority becomes free: no rule behind it has to move.
        shift.retain(|(arn, to)| *arn != ours.arn && ours.priority.is_some_and(|own| *to <= own));
        shift.insert(0, (ours.arn.clone(), priority));
        Repair(set_priorities(self.listener.arn.region(), &shift))
    }

    /// Returns a free priority before a rule, and the rules that have to move for it. None has to
    /// move unless all priorities before the rule are taken.
    fn room_before(&self, rule: Option<&Rule>) -> (Vec<(String, u32)>, u32) {
        let taken = |priority: u32| {
            let mut rules = self.sorted.iter();
            rules.find(|rule| rule.priority == Some(priority))
        };
        let limit = rule.and_then(|rule| rule.priority);
        let limit = limit.unwrap_or(HIGHEST_PRIORITY + 1);
        // The first free priority is before any rule that could take the requests.
        if let Some(free) = (1..limit.min(HIGHEST_PRIORITY + 1)).find(|at| taken(*at).is_none()) {
            return (Vec::new(), free);
        }
        let block = (1..=HIGHEST_PRIORITY).map_while(|at| Some((taken(at)?.arn.clone(), at + 1)));
        (block.collect(), 1)
    }

    /// Returns the target groups whose names look like that of the challenge function.
    fn named(&self) -> Vec<&'r TargetGroupArn> {
        let named = |group: &&TargetGroupArn| {
            let name = short(group.as_str()).to_ascii_lowercase();
            name.contains("challenge")
        };
        self.functions.iter().filter(named).collect()
    }

    /// Returns the one target group that can be the challenge function's, or a placeholder for it.
    fn likely_group(&self) -> String {
        match (self.named().as_slice(), self.functions) {
            ([one], _) => one.to_string(),
            ([], [one]) => one.to_string(),
            _ => "<ARN of the challenge function's target group>".to_owned(),
        }
    }
}

/// Whether a regular expression may match a challenge path. One that begins with other letters
/// cannot.
fn may_match_the_path(regex: &str) -> bool {
    let begin = regex.strip_prefix('^').filter(|regex| !regex.contains('|'));
    let Some(begin) = begin else {
        return true;
    };
    let literal = begin.split(|c: char| !(c.is_ascii_alphanumeric() || "/-_".contains(c)));
    let literal = literal.into_iter().next().unwrap_or_default();
    // What follows may make the last letter optional.
    let literal = &literal[..literal.len().saturating_sub(1)];
    let whole = literal.len().min(WELL_KNOWN_PREFIX.len());
    WELL_KNOWN_PREFIX.starts_with(&literal[..whole])
}

fn set_priorities(region: &str, priorities: &[(String, u32)]) -> String {
    let pairs: Vec<String> = (priorities.iter())
        .map(|(arn, priority)| format!("RuleArn={arn},Priority={priority}"))
        .collect();
    format!(
        "aws elbv2 set-rule-priorities --region {region} --rule-priorities {}",
        pairs.join(" ")
    )
}

fn in_json(condition: &RuleMatch) -> Option<serde_json::Value> {
    use serde_json::json;
    Some(match condition {
        RuleMatch::Path(values) => {
            json!({"Field": "path-pattern", "PathPatternConfig": {"Values": values}})
        }
        RuleMatch::Host(values) => {
            json!({"Field": "host-header", "HostHeaderConfig": {"Values": values}})
        }
        RuleMatch::Method(values) => {
            json!({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": values}})
        }
        RuleMatch::SourceIp(values) => {
            json!({"Field": "source-ip", "SourceIpConfig": {"Values": values}})
        }
        RuleMatch::Header { name, values } => json!({"Field": "http-header",
            "HttpHeaderConfig": {"HttpHeaderName": name, "Values": values}}),
        RuleMatch::Query | RuleMatch::Other(_) => return None,
    })
}

fn does(rule: &Rule) -> String {
    let then = match &rule.action {
        RuleAction::Forward(groups) => format!(
            "forwards elsewhere ({})",
            groups.first().map_or("nowhere", |group| short(group))
        ),
        RuleAction::Redirect(to) => format!("redirects to {to}"),
        RuleAction::FixedResponse(status) => format!("answers {status}"),
        RuleAction::Other(kind) => format!("does something else ({kind})"),
    };
    match rule.authenticates {
        true => format!("authenticates, then {then}"),
        false => then,
    }
}

/// Returns the name in a target group's ARN.
fn short(arn: &str) -> &str {
    arn.rsplit_once(":targetgroup/").map_or(arn, |(_, name)| {
        name.split_once('/').map_or(name, |(name, _)| name)
    })
}

fn fits(rule: &Rule, name: &DnsName) -> Fits {
    let for_the_path = |condition: &RuleMatch| {
        matches!(condition, RuleMatch::Path(patterns)
            if of_path(patterns, false).is_none_or(|fits| fits))
    };
    let is_for_the_path = rule.conditions.iter().any(for_the_path);
    let mut sometimes = Vec::new();
    for condition in &rule.conditions {
        match holds(condition, name) {
            Fits::Always => {}
            Fits::Sometimes(why) => sometimes.push(why),
            Fits::Never(why) => return Fits::Never(why.filter(|_| is_for_the_path)),
        }
    }
    match sometimes.is_empty() {
        true => Fits::Always,
        false => Fits::Sometimes(sometimes.join(" and ")),
    }
}

fn holds(condition: &RuleMatch, name: &DnsName) -> Fits {
    let by = |fits: bool, why: String| match fits {
        true => Fits::Always,
        false => Fits::Never(Some(why)),
    };
    match condition {
        RuleMatch::Path(patterns) => match of_path(patterns, false) {
            Some(true) => Fits::Always,
            Some(false) => Fits::Never(None),
            None => Fits::Sometimes(format!(
                "tokens that do not match its path ({})",
                patterns.join(", ")
            )),
        },
        RuleMatch::Host(patterns) => by(
            patterns
                .iter()
                .any(|pattern| fits_any_case(pattern, name.as_str())),
            format!("the name {name} (it is for {})", patterns.join(", ")),
        ),
        RuleMatch::Method(methods) => by(
            methods.iter().any(|method| method == "GET"),
            "GET requests".to_owned(),
        ),
        RuleMatch::SourceIp(blocks) => match blocks.iter().any(|block| block == "0.0.0.0/0") {
            true => Fits::Always,
            false => Fits::Sometimes(format!(
                "requests that do not come from {}: authorities ask from everywhere",
                blocks.join(", ")
            )),
        },
        RuleMatch::Header {
            name: header,
            values,
        } => {
            let is = |known: &str| header.eq_ignore_ascii_case(known);
            if is("host") {
                let fits = values
                    .iter()
                    .any(|value| fits_any_case(value, name.as_str()));
                return by(fits, format!("the name {name}"));
            }
            let sent = ["user-agent", "accept", "accept-encoding", "connection"];
            let is_sent = sent.iter().any(|known| is(known));
            match is_sent {
                true if values.iter().any(|value| value == "*") => Fits::Always,
                true => Fits::Sometimes(format!("requests with another {header} header")),
                false => by(false, format!("requests without the header {header}")),
            }
        }
        RuleMatch::Query => by(false, "requests without a query".to_owned()),
        RuleMatch::Other(kind) => {
            Fits::Sometimes(format!("requests that do not match its condition ({kind})"))
        }
    }
}

/// Whether patterns match the challenge path with all tokens (true) or with none (false); `None`:
/// with some.
fn of_path(patterns: &[String], any_case: bool) -> Option<bool> {
    let fits = |token: &&&str| {
        let path = format!("{WELL_KNOWN_PREFIX}{token}");
        patterns.iter().any(|pattern| match any_case {
            true => fits_any_case(pattern, &path),
            false => wildcard::fits(pattern, &path),
        })
    };
    match TOKENS.iter().filter(fits).count() {
        0 => Some(false),
        all if all == TOKENS.len() => Some(true),
        _ => None,
    }
}

fn fits_any_case(pattern: &str, text: &str) -> bool {
    wildcard::fits(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// The path pattern that leads to the challenge function.
pub const PATTERN: &str = "/.well-known/acme-challenge/*";
const HIGHEST_PRIORITY: u32 = 50_000;
/// Tokens that differ as much as tokens can: a pattern that matches all of them matches any.
const TOKENS: &[&str] = &[
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA",
    "-_0Zy4Hq7TBnU3kMdOcW8XLrEhYiQj5oKgF61Sl2VwzI",
    "_9cE-uW5LPgQ0RDbjT2vNmYo4KsXhAfZ7iHx8B6nVtyC",
    "0123456789ABCDEFGHIJKLMN",
];

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/\
                            app/web/50dc6c495c0c9188";
    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/\
                            app/web/50dc6c495c0c9188/0467ef3c8400ae65";
    const CHALLENGE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/\
                             certloop-challenge/73e2d6bc24d8a067";
    const CHALLENGES: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/\
                              challenges/a3e2d6bc24d8a067";
    const API: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/api/83e2d6bc24d8a067";
    const SITE: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/site/93e2d6bc24d8a067";

    fn rule_arn(priority: u32) -> String {
        format!(
            "{}/{priority:016x}",
            LISTENER.replacen(":listener/", ":listener-rule/", 1)
        )
    }

    fn rule(priority: u32, conditions: Vec<RuleMatch>, action: RuleAction) -> Rule {
        Rule {
            arn: rule_arn(priority),
            priority: (priority > 0).then_some(priority),
            conditions,
            action,
            authenticates: false,
            rewrites: Vec::new(),
        }
    }

    fn path(pattern: &str) -> RuleMatch {
        RuleMatch::Path(vec![pattern.to_owned()])
    }

    fn host(pattern: &str) -> RuleMatch {
        RuleMatch::Host(vec![pattern.to_owned()])
    }

    fn from(block: &str) -> RuleMatch {
        RuleMatch::SourceIp(vec![block.to_owned()])
    }

    fn header(name: &str, value: &str) -> RuleMatch {
        RuleMatch::Header {
            name: name.to_owned(),
            values: vec![value.to_owned()],
        }
    }

    fn to(group: &str) -> RuleAction {
        RuleAction::Forward(vec![group.to_owned()])
    }

    fn redirect() -> RuleAction {
        RuleAction::Redirect("https://#{host}:443/#{path}".to_owned())
    }

    fn answer() -> RuleAction {
        RuleAction::FixedResponse("503".to_owned())
    }

    /// Judges rules, with a redirect to HTTPS as the default.
    fn judged(rules: Vec<Rule>) -> Finding {
        judged_with(rules, &[CHALLENGE, API])
    }

    fn judged_with(mut rules: Vec<Rule>, functions: &[&str]) -> Finding {
        // The order in which the service lists rules has no meaning.
        rules.insert(0, rule(0, vec![], redirect()));
        let listener = RuledListener {
            arn: LISTENER.parse().unwrap(),
            protocol: "HTTP".to_owned(),
            rules,
        };
        let functions: Vec<TargetGroupArn> =
            functions.iter().map(|arn| arn.parse().unwrap()).collect();
        let name = DnsName::parse("shop.example.com").unwrap();
        judge(
            &BALANCER.parse().unwrap(),
            Some(&listener),
            &functions,
            &name,
        )
    }

    fn kind(finding: &Finding) -> String {
        match finding {
            Finding::Right {
                some_taken_by: None,
                ..
            } => "right".to_owned(),
            Finding::Right {
                some_taken_by: Some(priority),
                ..
            } => format!("right, some taken by {priority}"),
            Finding::NoBalancer => "no balancer".to_owned(),
            Finding::NoListener(_) => "no listener".to_owned(),
            Finding::NotHttp { protocol, .. } => format!("speaks {protocol}"),
            Finding::Missing { .. } => "missing".to_owned(),
            Finding::WrongCase { priority, .. } => format!("wrong case {priority}"),
            Finding::ShadowedBy { priority, .. } => format!("shadowed by {priority}"),
            Finding::Rewritten { priority, .. } => format!("rewritten {priority}"),
            Finding::OnlySome { priority, .. } => format!("only some {priority}"),
        }
    }

    fn command(finding: &Finding) -> String {
        let words = finding.words().unwrap();
        words.split_once("; to repair it: ").unwrap().1.to_owned()
    }

    #[test]
    fn a_rewritten_path_does_not_reach_the_function() {
        let rewriting = |patterns: Vec<RuleMatch>, regex: &str| Rule {
            rewrites: vec![(regex.to_owned(), "/$1".to_owned())],
            ..rule(4, patterns, to(CHALLENGE))
        };
        let cases = [
            (rewriting(vec![path(PATTERN)], "^/(.*)$"), "rewritten 4"),
            (
                rewriting(vec![path(PATTERN)], r"^/\.well-known/(.*)$"),
                "rewritten 4",
            ),
            (
                rewriting(vec![path("/*")], "acme-challenge/(.*)"),
                "rewritten 4",
            ),
            (rewriting(vec![path(PATTERN)], "^/api/(.*)$"), "right"),
            // The path is as it was until a rule takes the request.
            (rewriting(vec![path("/other/*")], "^/(.*)$"), "missing"),
        ];
        for (rule, expected) in cases {
            let found = judged(vec![rule.clone()]);
            assert_eq!(kind(&found), expected, "{rule:?}");
        }
        let own = judged(vec![rewriting(vec![path(PATTERN)], "^/(.*)$")]);
        assert!(command(&own).contains("--reset-transforms"), "{own:?}");
        let shared = judged(vec![rewriting(vec![path("/*")], "^/(.*)$")]);
        assert!(command(&shared).contains("create-rule"), "{shared:?}");
    }

    #[test]
    fn each_set_of_rules_is_judged_so() {
        let right = |priority| rule(priority, vec![path(PATTERN)], to(CHALLENGE));
        let authenticating = Rule {
            authenticates: true,
            rewrites: Vec::new(),
            ..right(1)
        };
        let cases = vec![
            (vec![right(1)], "right"),
            (vec![right(50_000)], "right"),
            (vec![], "missing"),
            // Any pattern that takes all tokens is enough. Of several values, one has to match.
            (
                vec![rule(7, vec![path("/.well-known/*")], to(CHALLENGE))],
                "right",
            ),
            (
                vec![rule(7, vec![path("*/acme-challenge/??*")], to(CHALLENGE))],
                "right",
            ),
            (
                vec![rule(
                    7,
                    vec![RuleMatch::Path(vec!["/x".to_owned(), PATTERN.to_owned()])],
                    to(CHALLENGE),
                )],
                "right",
            ),
            (
                vec![rule(
                    7,
                    vec![path("/.well-known/acme-challenge")],
                    to(CHALLENGE),
                )],
                "missing",
            ),
            (
                vec![rule(
                    7,
                    vec![path("/.well-known/acme-challenge/e*")],
                    to(CHALLENGE),
                )],
                "only some 7",
            ),
            (
                vec![rule(
                    7,
                    vec![path("/.well-known/acme-challenge/?")],
                    to(CHALLENGE),
                )],
                "missing",
            ),
            // Letter case.
            (
                vec![rule(
                    3,
                    vec![path("/.Well-Known/Acme-Challenge/*")],
                    to(CHALLENGE),
                )],
                "wrong case 3",
            ),
            (
                vec![
                    rule(
                        3,
                        vec![path("/.Well-Known/Acme-Challenge/*")],
                        to(CHALLENGE),
                    ),
                    right(4),
                ],
                "right",
            ),
            (
                vec![rule(
                    3,
                    vec![path("/.WELL-KNOWN/*"), host("other.example")],
                    to(CHALLENGE),
                )],
                "missing",
            ),
            // Earlier rules.
            (vec![rule(1, vec![], redirect()), right(2)], "shadowed by 1"),
            (vec![right(1), rule(2, vec![], redirect())], "right"),
            (
                vec![rule(5, vec![path("/*")], answer()), right(9)],
                "shadowed by 5",
            ),
            (
                vec![rule(5, vec![host("*.EXAMPLE.com")], to(SITE)), right(9)],
                "shadowed by 5",
            ),
            (
                vec![rule(5, vec![host("*.example.org")], to(SITE)), right(9)],
                "right",
            ),
            (
                vec![rule(5, vec![path("/admin/*")], redirect()), right(9)],
                "right",
            ),
            (
                vec![
                    rule(
                        5,
                        vec![RuleMatch::Method(vec!["POST".to_owned()])],
                        redirect(),
                    ),
                    right(9),
                ],
                "right",
            ),
            (
                vec![
                    rule(
                        5,
                        vec![RuleMatch::Method(vec!["HEAD".to_owned(), "GET".to_owned()])],
                        redirect(),
                    ),
                    right(9),
                ],
                "shadowed by 5",
            ),
            (
                vec![rule(5, vec![RuleMatch::Query], redirect()), right(9)],
                "right",
            ),
            (
                vec![rule(5, vec![from("0.0.0.0/0")], redirect()), right(9)],
                "shadowed by 5",
            ),
            (
                vec![rule(5, vec![from("192.0.2.0/24")], answer()), right(9)],
                "right, some taken by 5",
            ),
            (
                vec![
                    rule(5, vec![from("192.0.2.0/24"), path("/admin/*")], answer()),
                    right(9),
                ],
                "right",
            ),
            (
                vec![
                    rule(5, vec![header("User-Agent", "*bot*")], answer()),
                    right(9),
                ],
                "right, some taken by 5",
            ),
            (
                vec![rule(5, vec![header("User-Agent", "*")], answer()), right(9)],
                "shadowed by 5",
            ),
            (
                vec![rule(5, vec![header("X-Secret", "*")], answer()), right(9)],
                "right",
            ),
            (
                vec![
                    rule(
                        5,
                        vec![RuleMatch::Other("regular expression".to_owned())],
                        answer(),
                    ),
                    right(9),
                ],
                "right, some taken by 5",
            ),
            // Another function in its place.
            (vec![rule(1, vec![], to(API))], "missing"),
            (vec![rule(1, vec![], to(API)), right(2)], "shadowed by 1"),
            (vec![rule(1, vec![path(PATTERN)], to(SITE))], "missing"),
            (
                vec![rule(
                    1,
                    vec![path(PATTERN)],
                    RuleAction::Forward(vec![CHALLENGE.to_owned(), SITE.to_owned()]),
                )],
                "missing",
            ),
            (vec![authenticating], "missing"),
            (
                vec![rule(1, vec![path(PATTERN)], RuleAction::Forward(vec![]))],
                "missing",
            ),
            // What a rule leaves out.
            (
                vec![rule(
                    4,
                    vec![path(PATTERN), host("other.example")],
                    to(CHALLENGE),
                )],
                "only some 4",
            ),
            (
                vec![
                    rule(4, vec![path(PATTERN), host("other.example")], to(CHALLENGE)),
                    right(5),
                ],
                "right",
            ),
            (
                vec![rule(
                    4,
                    vec![path(PATTERN), host("*.example.com")],
                    to(CHALLENGE),
                )],
                "right",
            ),
            (
                vec![rule(
                    4,
                    vec![path(PATTERN), host("sho?.example.com")],
                    to(CHALLENGE),
                )],
                "right",
            ),
            (
                vec![rule(
                    4,
                    vec![path(PATTERN), from("192.0.2.0/24")],
                    to(CHALLENGE),
                )],
                "only some 4",
            ),
            (
                vec![rule(
                    4,
                    vec![path(PATTERN), header("X-Secret", "a")],
                    to(CHALLENGE),
                )],
                "only some 4",
            ),
            (
                vec![rule(
                    4,
                    vec![path(PATTERN), RuleMatch::Method(vec!["POST".to_owned()])],
                    to(CHALLENGE),
                )],
                "only some 4",
            ),
        ];
        for (rules, wanted) in cases {
            let said = format!("{rules:?}");
            assert_eq!(kind(&judged(rules)), wanted, "{said}");
        }
    }

    #[test]
    fn where_nobody_knows_which_is_ours_any_function_counts() {
        for functions in [&[API][..], &[API, CHALLENGE, CHALLENGES]] {
            let found = judged_with(vec![rule(1, vec![], to(API))], functions);
            let group = match &found {
                Finding::Right { group, .. } => group,
                other => panic!("{other:?}"),
            };
            assert_eq!(group, API);
        }
    }

    #[test]
    fn a_redirect_leads_to_the_rules_of_port_443() {
        let name = DnsName::parse("shop.example.com").unwrap();
        let listener = |protocol: &str, rules: Vec<Rule>| RuledListener {
            arn: LISTENER.parse().unwrap(),
            protocol: protocol.to_owned(),
            rules,
        };
        let functions = [CHALLENGE.parse().unwrap()];
        let right = rule(1, vec![path(PATTERN)], to(CHALLENGE));
        let leads = |to: RuleAction, secure: Vec<Rule>| {
            let http = listener("HTTP", vec![rule(0, vec![], to)]);
            let https = listener("HTTPS", secure);
            behind_redirect(&http, &https, &functions, &name).is_some()
        };
        assert!(leads(redirect(), vec![right.clone()]));
        assert!(!leads(redirect(), vec![rule(1, vec![], to(SITE))]));
        assert!(!leads(answer(), vec![right.clone()]));
        for elsewhere in [
            "https://#{host}:8443/#{path}",
            "https://www.example.com:443/#{path}",
            "https://#{host}:443/",
        ] {
            let elsewhere = RuleAction::Redirect(elsewhere.to_owned());
            assert!(!leads(elsewhere, vec![right.clone()]));
        }
    }

    #[test]
    fn without_a_listener_there_is_nowhere_to_ask() {
        let name = DnsName::parse("shop.example.com").unwrap();
        let balancer = BALANCER.parse().unwrap();
        let none = judge(&balancer, None, &[], &name);
        assert_eq!(kind(&none), "no listener");
        assert!(command(&none).contains(BALANCER), "{none:?}");
        let https = RuledListener {
            arn: LISTENER.parse().unwrap(),
            protocol: "HTTPS".to_owned(),
            rules: vec![],
        };
        let wrong = judge(&balancer, Some(&https), &[], &name);
        assert_eq!(kind(&wrong), "speaks HTTPS");
        let command = command(&wrong);
        assert!(
            command.contains("modify-listener") && command.contains(LISTENER),
            "{command}"
        );
        assert!(
            !Finding::NoBalancer
                .words()
                .unwrap()
                .contains("to repair it")
        );
    }

    #[test]
    fn a_missing_rule_is_made_where_nothing_comes_before_it() {
        let taken = |priority| rule(priority, vec![path("/x/*")], to(SITE));
        let redirecting = rule(3, vec![], redirect());
        let missing = judged(vec![taken(1), taken(2), redirecting.clone()]);
        assert_eq!(
            missing.words().unwrap(),
            format!(
                "no rule on port 80 leads /.well-known/acme-challenge/* to the challenge \
                 function: the rule of priority 3 redirects to https://#{{host}}:443/#{{path}}; \
                 to repair it: aws elbv2 set-rule-priorities --region eu-central-1 \
                 --rule-priorities RuleArn={},Priority=2 RuleArn={},Priority=3 \
                 RuleArn={},Priority=4 && aws elbv2 create-rule \
                 --region eu-central-1 --listener-arn {LISTENER} --priority 1 --conditions \
                 'Field=path-pattern,Values=/.well-known/acme-challenge/*' \
                 --actions 'Type=forward,TargetGroupArn={CHALLENGE}'",
                rule_arn(1),
                rule_arn(2),
                rule_arn(3)
            )
        );
        let with_room = judged(vec![taken(1), redirecting, taken(4)]);
        assert_eq!(
            command(&with_room),
            format!(
                "aws elbv2 create-rule --region eu-central-1 --listener-arn {LISTENER} \
                 --priority 2 --conditions \
                 'Field=path-pattern,Values=/.well-known/acme-challenge/*' \
                 --actions 'Type=forward,TargetGroupArn={CHALLENGE}'"
            )
        );
        let words = judged(vec![]).words().unwrap();
        assert!(
            words.contains(
                "the default action redirects to https://#{host}:443/#{path}; to repair it"
            ) && words.contains("--priority 1 "),
            "{words}"
        );
    }

    #[test]
    fn the_target_group_is_named_where_only_one_can_be_meant() {
        for (functions, named) in [
            (&[CHALLENGE][..], Some(CHALLENGE)),
            (&[API], Some(API)),
            (&[API, CHALLENGE], Some(CHALLENGE)),
            (&[], None),
            (&[API, SITE], None),
            (&[CHALLENGE, CHALLENGES], None),
        ] {
            let command = command(&judged_with(vec![], functions));
            let named = named.unwrap_or("<ARN of the challenge function's target group>");
            let quoted = named.replace('\'', r"'\''");
            assert!(
                command.ends_with(&format!("'Type=forward,TargetGroupArn={quoted}'")),
                "{functions:?}: {command}"
            );
        }
    }

    #[test]
    fn a_shadowed_rule_moves_ahead_and_the_others_keep_their_order() {
        let right = |priority| rule(priority, vec![path(PATTERN)], to(CHALLENGE));
        let with_room = judged(vec![rule(5, vec![], redirect()), right(9)]);
        assert_eq!(
            command(&with_room),
            format!(
                "aws elbv2 set-rule-priorities --region eu-central-1 \
                 --rule-priorities RuleArn={},Priority=1",
                rule_arn(9)
            )
        );
        let without = judged(vec![
            rule(1, vec![], redirect()),
            rule(2, vec![path("/x")], to(SITE)),
            right(3),
            rule(4, vec![path("/y")], to(SITE)),
        ]);
        assert_eq!(
            command(&without),
            format!(
                "aws elbv2 set-rule-priorities --region eu-central-1 \
                 --rule-priorities RuleArn={},Priority=1 RuleArn={},Priority=2 \
                 RuleArn={},Priority=3",
                rule_arn(3),
                rule_arn(1),
                rule_arn(2)
            )
        );
        let words = with_room.words().unwrap();
        assert!(
            words.contains("priority 5") && words.contains("redirects to https://"),
            "{words}"
        );
    }

    #[test]
    fn letters_are_corrected_and_the_other_conditions_stay() {
        let wrong = rule(
            3,
            vec![path("/.well-known/ACME-challenge/*"), host("*.example.com")],
            to(CHALLENGE),
        );
        let found = judged(vec![wrong]);
        let words = found.words().unwrap();
        assert!(words.contains("/.well-known/ACME-challenge/*"), "{words}");
        assert_eq!(
            command(&found),
            format!(
                "aws elbv2 modify-rule --region eu-central-1 --rule-arn {} --conditions \
                 '[{{\"Field\":\"path-pattern\",\"PathPatternConfig\":\
                 {{\"Values\":[\"/.well-known/acme-challenge/*\"]}}}},\
                 {{\"Field\":\"host-header\",\"HostHeaderConfig\":\
                 {{\"Values\":[\"*.example.com\"]}}}}]'",
                rule_arn(3)
            )
        );
    }

    #[test]
    fn what_a_rule_leaves_out_gets_a_rule_of_its_own_to_the_same_function() {
        let found = judged(vec![rule(
            4,
            vec![path(PATTERN), host("other.example")],
            to(CHALLENGE),
        )]);
        let words = found.words().unwrap();
        assert!(
            words.contains("leaves out the name shop.example.com (it is for other.example)"),
            "{words}"
        );
        assert!(
            command(&found).contains("--priority 1 ") && command(&found).contains(CHALLENGE),
            "{words}"
        );
    }
}
