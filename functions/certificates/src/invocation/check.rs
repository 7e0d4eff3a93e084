//! The event `check`: would the names of a certificate be validated now, and what to change where not, in words.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use serde::Serialize;

use crate::contract::certificate::Wanted;
use crate::contract::settings::CheckMode;
use crate::pass::context::Cycle;
use crate::pass::halt::store_problem;
use crate::pass::preflight::{self, balancers, bounded};
use crate::ports::Ports;
use crate::ports::dns::NoAnswer;
use crate::ports::load_balancer::LoadBalancer;
use crate::ports::probe::Fetched;
use crate::ports::store::{self, Store};
use crate::rules::caa::Ruling;
use crate::rules::challenge_path::Finding;
use crate::values::address::is_global;
use crate::values::arn::LoadBalancerArn;
use crate::values::names::{CertificateName, DnsName};
use crate::values::problem::Problem;
use crate::values::problem_types::Ours;

/// How it stands with something; the worst of a list is that of the whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It may keep authorities from validating, or could not be told.
    Warning,
    /// No authority could validate the name, or may issue for it.
    Blocked,
}

/// The answer: what was checked for each name of a certificate.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Check {
    /// The document's name.
    pub name: String,
    /// The worst of all.
    pub verdict: Verdict,
    /// One per name, sorted by name.
    pub domains: Vec<Domain>,
    /// Why nothing could be checked.
    pub problem: Option<Problem>,
}

/// What was checked for one name.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Domain {
    /// The name.
    pub domain: DnsName,
    /// The worst of its checks.
    pub verdict: Verdict,
    /// Each thing that was looked at.
    pub checks: Vec<Checked>,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Checked {
    /// What: `addresses`, `ipv6`, `rule`, `webAcl`, `fetch`, `caa`.
    pub check: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen, and what to do where it is not ok.
    pub detail: String,
}

impl Checked {
    fn new(check: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            detail: detail.into(),
        }
    }

    /// Says which authority of a list it is about; only the first is needed as long as it answers.
    fn about(mut self, authority: &str, place: usize) -> Self {
        self.detail = format!("{authority}: {}", self.detail);
        if place > 0 {
            self.verdict = self.verdict.min(Verdict::Warning);
        }
        self
    }
}

/// Checks all that an authority's validation of a certificate's names depends on. Changes nothing but a probe under
/// `challenges/`, which is deleted again.
pub async fn check<P: Ports>(cycle: &Cycle<'_, P>, name: &str) -> Check {
    match document_to_check(cycle, name).await {
        Ok(wanted) => check_wanted(cycle, &wanted).await,
        Err(problem) => Check {
            name: name.to_owned(),
            verdict: Verdict::Blocked,
            domains: Vec::new(),
            problem: Some(problem),
        },
    }
}

async fn document_to_check<P: Ports>(cycle: &Cycle<'_, P>, name: &str) -> Result<Wanted, Problem> {
    let invalid = |detail: String| Problem::ours(Ours::InvalidDocument, detail);
    let name: CertificateName = name
        .parse()
        .map_err(|error| invalid(format!("name: {error}")))?;
    let key = store::certificate_key(&name);
    let read = cycle.ports.store().read(&key).await;
    let object = read.map_err(|error| store_problem(&error))?;
    let object = object.ok_or_else(|| {
        Problem::ours(
            Ours::UnknownCertificate,
            format!("{key} is not in the bucket; put it there or ask for another name"),
        )
    })?;
    let account = cycle.account_id.as_deref();
    Wanted::parse(&name, &object.body, &cycle.settings, account)
        .map_err(|error| invalid(format!("{key}: {error}")))
}

async fn check_wanted<P: Ports>(cycle: &Cycle<'_, P>, wanted: &Wanted) -> Check {
    let left = cycle.clock.left().min(LONGEST);
    let until = tokio::time::Instant::now() + left;
    let balancers = cycle.outlook.facing(balancers(wanted)).await;
    let fetched = async {
        match cycle.settings.self_check.mode {
            CheckMode::Off => None,
            // Beside the pass's own probe: the two must not delete each other's.
            _ => Some(
                cycle
                    .outlook
                    .fetch_probe(&wanted.name, &wanted.domains, preflight::ASKED, until)
                    .await,
            ),
        }
    };
    let authorities = wanted.authorities.iter();
    let authorities = authorities.filter_map(|key| cycle.settings.authorities.get(key));
    let ruled = future::join_all(authorities.map(|authority| async move {
        let account = cycle.outlook.account_seen(authority).await;
        let ruled = cycle
            .outlook
            .ruled_by_caa(authority, account.as_deref(), &wanted.domains);
        (authority.key.as_str(), ruled.await)
    }));
    let web_acl = async {
        let looks = balancers.iter().map(|balancer| web_acl(cycle, balancer));
        worst(future::join_all(looks).await)
    };
    let looked = stream::iter(&wanted.domains)
        .map(|name| look_at(cycle, name, &balancers, until))
        .buffered(AT_ONCE)
        .collect::<Vec<_>>();
    let (fetched, ruled, web_acl, looked) = future::join4(fetched, ruled, web_acl, looked).await;
    let domains = wanted.domains.iter().zip(looked);
    let domains: Vec<Domain> = domains
        .enumerate()
        .map(|(index, (domain, looked))| {
            let fetched = fetched.as_ref().and_then(|all| all.get(index));
            let mut checks = looked.told(fetched.map(|(_, fetched)| fetched));
            checks.extend(web_acl.clone());
            checks.extend(fetched.map(|(_, fetched)| told_of_fetch(fetched)));
            for (place, (authority, rulings)) in ruled.iter().enumerate() {
                let ruling = rulings.get(index).map(|(_, ruling)| told_of_caa(ruling));
                checks.extend(ruling.map(|told| match ruled.len() {
                    1 => told,
                    _ => told.about(authority, place),
                }));
            }
            Domain {
                domain: domain.clone(),
                verdict: worst_of(checks.iter().map(|check| check.verdict)),
                checks,
            }
        })
        .collect();
    Check {
        name: wanted.name.to_string(),
        verdict: worst_of(domains.iter().map(|domain| domain.verdict)),
        domains,
        problem: None,
    }
}

/// Looks a name up and at what stands before it on port 80.
async fn look_at<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &DnsName,
    balancers: &[LoadBalancerArn],
    until: tokio::time::Instant,
) -> Looked {
    let late = || "no answer in time".to_owned();
    let addresses =
        tokio::time::timeout_at(until, cycle.outlook.addresses_seen(name.as_str())).await;
    let addresses = addresses.unwrap_or_else(|_| Err(NoAnswer(late())));
    let mut theirs: Result<Vec<IpAddr>, String> = Ok(Vec::new());
    let mut rules = Vec::new();
    for arn in balancers {
        let found = async {
            let described = cycle.outlook.balancer_seen(arn).await;
            let described = described.map_err(|error| error.to_string())?;
            let host = described
                .ok_or_else(|| format!("{arn} does not exist"))?
                .host;
            let addresses = cycle.outlook.addresses_seen(&host).await;
            addresses.map_err(|error| error.to_string())
        };
        let found = tokio::time::timeout_at(until, found).await;
        match (&mut theirs, found.unwrap_or_else(|_| Err(late()))) {
            (Ok(all), Ok(found)) => all.extend(found),
            (known, Err(error)) => *known = Err(error),
            (Err(_), Ok(_)) => {}
        }
        let rule = tokio::time::timeout_at(until, cycle.outlook.rule_seen(arn, name)).await;
        rules.push(match rule {
            Ok(rule) => rule.map_err(|error| error.to_string()),
            Err(_) => Err(late()),
        });
    }
    Looked {
        addresses,
        theirs: (!balancers.is_empty()).then_some(theirs),
        rules,
        is_bypassed: cycle.settings.self_check.connect_to.is_some(),
    }
}

async fn web_acl<P: Ports>(cycle: &Cycle<'_, P>, arn: &LoadBalancerArn) -> Checked {
    let load_balancer = cycle.ports.load_balancer(arn.region());
    let asked = load_balancer.web_acl(arn);
    match bounded("GetWebACLForResource", LONGEST_CALL, asked).await {
        Ok(None) => Checked::new(
            "webAcl",
            Verdict::Ok,
            "no web ACL is associated with the load balancer",
        ),
        Ok(Some(web_acl)) => Checked::new(
            "webAcl",
            Verdict::Warning,
            format!(
                "the web ACL {web_acl} is associated with the load balancer: authorities ask from many places whose addresses they do \
                 not tell, so let {} through before rules by country, address, rate or bot control",
                crate::rules::challenge_path::PATTERN
            ),
        ),
        Err(error) => Checked::new(
            "webAcl",
            Verdict::Warning,
            format!(
                "whether a web ACL is associated with the load balancer could not be told: {error}"
            ),
        ),
    }
}

/// What was seen of one name.
struct Looked {
    addresses: Result<Vec<IpAddr>, NoAnswer>,
    /// Those of the load balancers, where there is one.
    theirs: Option<Result<Vec<IpAddr>, String>>,
    rules: Vec<Result<Finding, String>>,
    /// Whether our own fetch does not go by the name's addresses.
    is_bypassed: bool,
}

impl Looked {
    /// Tells it. What our own fetch proves to be reachable is no more than a warning.
    fn told(&self, fetched: Option<&Fetched>) -> Vec<Checked> {
        let is_right = fetched == Some(&Fetched::Right);
        let is_wrong = matches!(fetched, Some(Fetched::Wrong(_)));
        let mut checks = self.told_of_addresses(is_wrong);
        let rules = self.rules.iter().map(|rule| told_of_rule(rule, is_right));
        // Where several ways lead to a name, one is enough.
        checks.extend(rules.min_by_key(|check| check.verdict));
        checks
    }

    /// Addresses that are not the load balancer's prove nothing: something in between may forward, and a load balancer with many
    /// answers with some of them at a time.
    fn told_of_addresses(&self, is_wrong: bool) -> Vec<Checked> {
        let check = |verdict: Verdict, detail: String| {
            // Through connectTo authorities may see other addresses than we do.
            let most = match self.is_bypassed {
                true => Verdict::Warning,
                false => Verdict::Blocked,
            };
            Checked::new("addresses", verdict.min(most), detail)
        };
        let own = match &self.addresses {
            Ok(own) if own.is_empty() => {
                let detail = "there is neither an A nor an AAAA record: let the name lead to the load balancer";
                return vec![check(Verdict::Blocked, detail.to_owned())];
            }
            Ok(own) => own,
            Err(NoAnswer(why)) => {
                let detail =
                    format!("could not be told, and authorities may not know either: {why}");
                return vec![check(Verdict::Warning, detail)];
            }
        };
        if !self.is_bypassed && !own.iter().any(|address| is_global(*address)) {
            let detail = format!(
                "{} cannot be reached from the internet, where authorities ask: let the name lead to a public address",
                the_first(own)
            );
            return vec![check(Verdict::Blocked, detail)];
        }
        let theirs = match &self.theirs {
            None => return vec![check(Verdict::Ok, format!("leads to {}", the_first(own)))],
            Some(Err(why)) => {
                let detail = format!(
                    "leads to {}; whether that is the load balancer could not be told: {why}",
                    the_first(own)
                );
                return vec![check(Verdict::Warning, detail)];
            }
            Some(Ok(theirs)) => theirs,
        };
        let mut checks = Vec::new();
        for v6 in [false, true] {
            let of = |all: &[IpAddr]| -> Vec<IpAddr> {
                let family = all.iter().filter(|address| address.is_ipv6() == v6);
                family.copied().collect()
            };
            let (own, theirs) = (of(own), of(theirs));
            if own.is_empty() {
                continue;
            }
            let leads_there = own.iter().any(|address| theirs.contains(address));
            checks.push(match (leads_there, v6) {
                (true, _) => check(
                    Verdict::Ok,
                    format!("leads to this load balancer ({})", the_first(&own)),
                ),
                (false, false) => check(
                    match is_wrong {
                        true => Verdict::Blocked,
                        false => Verdict::Warning,
                    },
                    format!(
                        "A leads to {}, and the load balancer has {}: change the record, unless something in between forwards \
                         port 80",
                        the_first(&own),
                        the_first(&theirs)
                    ),
                ),
                (false, true) => check(
                    Verdict::Warning,
                    format!(
                        "AAAA leads to {}, and the load balancer has {}: authorities prefer IPv6, so remove the record, or let it \
                         lead to a dual-stack load balancer",
                        the_first(&own),
                        the_first(&theirs)
                    ),
                ),
            });
            if let (true, Some(last)) = (v6, checks.last_mut()) {
                last.check = "ipv6";
            }
        }
        checks
    }
}

fn told_of_rule(rule: &Result<Finding, String>, is_right: bool) -> Checked {
    let (verdict, detail) = match rule {
        Err(why) => (
            Verdict::Warning,
            format!("the rules on port 80 could not be read: {why}"),
        ),
        Ok(Finding::Right {
            some_taken_by: None,
            ..
        }) => (
            Verdict::Ok,
            "a rule on port 80 leads the challenge path to a function".to_owned(),
        ),
        Ok(Finding::Right {
            some_taken_by: Some(priority),
            ..
        }) => (
            Verdict::Warning,
            format!(
                "a rule on port 80 leads the challenge path to a function, but the rule of priority {priority} takes some requests \
                 before, by where they come from or by their headers: authorities ask from everywhere, so move it behind"
            ),
        ),
        Ok(finding) => {
            let words = finding.words().unwrap_or_default();
            match is_right {
                true => (
                    Verdict::Warning,
                    format!("{words}; our own fetch came through all the same"),
                ),
                false => (Verdict::Blocked, words),
            }
        }
    };
    Checked::new("rule", verdict, detail)
}

fn told_of_fetch(fetched: &Fetched) -> Checked {
    match fetched {
        Fetched::Right => Checked::new(
            "fetch",
            Verdict::Ok,
            "our own fetch, by the way authorities take, was answered to the letter",
        ),
        Fetched::Wrong(why) => Checked::new(
            "fetch",
            Verdict::Blocked,
            format!(
                "our own fetch, by the way authorities take, met something else than the challenge function: {why}"
            ),
        ),
        Fetched::Unreachable(why) => Checked::new(
            "fetch",
            Verdict::Warning,
            format!("our own fetch did not get through, which may be so for us only: {why}"),
        ),
    }
}

fn told_of_caa(ruling: &Ruling) -> Checked {
    match ruling {
        Ruling::Allowed => Checked::new("caa", Verdict::Ok, "no CAA record forbids the authority"),
        Ruling::Forbidden(why) => Checked::new("caa", Verdict::Blocked, why),
        Ruling::Unknown(why) => {
            Checked::new("caa", Verdict::Warning, format!("could not be told: {why}"))
        }
    }
}

/// Returns the worst of several looks at the same thing.
fn worst(checks: Vec<Checked>) -> Option<Checked> {
    checks.into_iter().max_by_key(|check| check.verdict)
}

fn worst_of(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    verdicts.max().unwrap_or(Verdict::Ok)
}

fn the_first(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "none".to_owned();
    }
    let shown = addresses.iter().take(MOST_SHOWN).map(ToString::to_string);
    let mut shown: Vec<String> = shown.collect();
    if addresses.len() > MOST_SHOWN {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

/// For all of a certificate's names.
const LONGEST: Duration = Duration::from_secs(20);
const LONGEST_CALL: Duration = Duration::from_secs(10);
/// Names looked at side by side.
const AT_ONCE: usize = 16;
const MOST_SHOWN: usize = 8;
