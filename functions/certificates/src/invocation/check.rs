//! The event `check`: would an authority validate the names of a certificate now? If not, it says
//! in words what to change.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use serde::Serialize;

use crate::contract::certificate::Wanted;
use crate::contract::settings::CheckMode;
use crate::pass::context::Cycle;
use crate::pass::preflight::{self, balancers, bounded};
use crate::pass::stop::store_problem;
use crate::ports::Ports;
use crate::ports::dns::DnsError;
use crate::ports::load_balancer::LoadBalancer;
use crate::ports::probe::Fetched;
use crate::ports::store::{self, Store};
use crate::rules::caa::Ruling;
use crate::rules::challenge_path::Finding;
use crate::values::address::is_global;
use crate::values::arn::LoadBalancerArn;
use crate::values::names::{CertificateName, DnsName};
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The result of a check; the worst of a list is that of the whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It may keep authorities from validating, or it is unknown.
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
    /// The checks, one for each thing.
    pub checks: Vec<Checked>,
}

/// The check of one thing.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Checked {
    /// What was checked: `addresses`, `ipv6`, `rule`, `webAcl`, `fetch`, `caa`.
    pub check: &'static str,
    /// Its result.
    pub verdict: Verdict,
    /// What was found, and what to do where it is not ok.
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

    /// Adds the authority of a list that it is about. Only the first one is needed as long as it
    /// answers.
    fn about(mut self, authority: &str, place: usize) -> Self {
        self.detail = format!("{authority}: {}", self.detail);
        if place > 0 {
            self.verdict = self.verdict.min(Verdict::Warning);
        }
        self
    }
}

/// Checks all that an authority's validation of a certificate's names depends on. Changes nothing
/// except a probe under `challenges/`, which is deleted again.
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
    let invalid = |detail: String| Problem::ours(ProblemType::InvalidDocument, detail);
    let name: CertificateName = name
        .parse()
        .map_err(|error| invalid(format!("name: {error}")))?;
    let key = store::certificate_key(&name);
    let read = cycle.ports.store().read(&key).await;
    let object = read.map_err(|error| store_problem(&error))?;
    let object = object.ok_or_else(|| {
        Problem::ours(
            ProblemType::UnknownCertificate,
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
            // A probe of its own: it and that of a pass must not delete each other.
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
    let connect_to = cycle.settings.self_check.connect_to.as_deref();
    let domains: Vec<Domain> = domains
        .enumerate()
        .map(|(index, (domain, looked))| {
            let fetched = fetched.as_ref().and_then(|all| all.get(index));
            let mut checks = looked.told(fetched.map(|(_, fetched)| fetched));
            checks.extend(web_acl.clone());
            checks.extend(fetched.map(|(_, fetched)| fetch_check(fetched, connect_to)));
            checks.extend(told_of_authorities(&ruled, index));
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

/// Returns what CAA records say to each authority, for the name at this place of the wanted names.
fn told_of_authorities(ruled: &[(&str, Vec<(&DnsName, Ruling)>)], index: usize) -> Vec<Checked> {
    let mut checks = Vec::new();
    for (place, (authority, rulings)) in ruled.iter().enumerate() {
        let ruling = rulings.get(index).map(|(_, ruling)| told_of_caa(ruling));
        checks.extend(ruling.map(|told| match ruled.len() {
            1 => told,
            _ => told.about(authority, place),
        }));
    }
    checks
}

/// Looks up a name and the rules before it on port 80.
async fn look_at<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &DnsName,
    balancers: &[LoadBalancerArn],
    until: tokio::time::Instant,
) -> Looked {
    let late = || "no answer in time".to_owned();
    let addresses =
        tokio::time::timeout_at(until, cycle.outlook.addresses_seen(name.as_str())).await;
    let addresses = addresses.unwrap_or_else(|_| Err(DnsError(late())));
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
                "the web ACL {web_acl} is associated with the load balancer: authorities ask from \
                 many addresses that they do not publish, so let {} through before rules by \
                 country, address, rate or bot control",
                crate::rules::challenge_path::PATTERN
            ),
        ),
        Err(error) => Checked::new(
            "webAcl",
            Verdict::Warning,
            format!("cannot find out whether the load balancer has a web ACL: {error}"),
        ),
    }
}

/// What was found for one name.
struct Looked {
    addresses: Result<Vec<IpAddr>, DnsError>,
    /// The addresses of the load balancers, where there is one.
    theirs: Option<Result<Vec<IpAddr>, String>>,
    rules: Vec<Result<Finding, String>>,
    /// Whether our own fetch does not use the name's addresses.
    is_bypassed: bool,
}

impl Looked {
    /// Returns the checks. What our own fetch reached is at most a warning.
    fn told(&self, fetched: Option<&Fetched>) -> Vec<Checked> {
        let is_right = fetched == Some(&Fetched::Right);
        let is_wrong = matches!(fetched, Some(Fetched::Wrong(_)));
        let mut checks = self.told_of_addresses(is_wrong);
        let rules = self.rules.iter().map(|rule| told_of_rule(rule, is_right));
        // Where several ways lead to a name, one is enough.
        checks.extend(rules.min_by_key(|check| check.verdict));
        checks
    }

    fn about_addresses(&self, verdict: Verdict, detail: String) -> Checked {
        // With `connectTo`, authorities may see other addresses than we do.
        let most = match self.is_bypassed {
            true => Verdict::Warning,
            false => Verdict::Blocked,
        };
        Checked::new("addresses", verdict.min(most), detail)
    }

    /// Returns the name's addresses if authorities can reach one of them, or what is wrong with
    /// them.
    fn public_addresses(&self) -> Result<&[IpAddr], Checked> {
        let own = match &self.addresses {
            Ok(own) if own.is_empty() => {
                let detail = "there is neither an A nor an AAAA record: \
                              point the name to the load balancer";
                return Err(self.about_addresses(Verdict::Blocked, detail.to_owned()));
            }
            Ok(own) => own,
            Err(DnsError(why)) => {
                let detail = format!("the lookup failed, and may fail for authorities too: {why}");
                return Err(self.about_addresses(Verdict::Warning, detail));
            }
        };
        if !self.is_bypassed && !own.iter().any(|address| is_global(*address)) {
            let detail = format!(
                "{} cannot be reached from the internet, where authorities ask: \
                 point the name to a public address",
                the_first(own)
            );
            return Err(self.about_addresses(Verdict::Blocked, detail));
        }
        Ok(own)
    }

    /// Addresses that are not the load balancer's prove nothing: a proxy in between may forward,
    /// and a load balancer with many addresses answers with a few of them at a time.
    fn told_of_addresses(&self, is_wrong: bool) -> Vec<Checked> {
        let own = match self.public_addresses() {
            Ok(own) => own,
            Err(why) => return vec![why],
        };
        let theirs = match &self.theirs {
            None => {
                let detail = format!("leads to {}", the_first(own));
                return vec![self.about_addresses(Verdict::Ok, detail)];
            }
            Some(Err(why)) => {
                let detail = format!(
                    "leads to {}; cannot find out whether that is the load balancer: {why}",
                    the_first(own)
                );
                return vec![self.about_addresses(Verdict::Warning, detail)];
            }
            Some(Ok(theirs)) => theirs,
        };
        let elsewhere = match is_wrong {
            true => Verdict::Blocked,
            false => Verdict::Warning,
        };
        let told = [
            self.told_of_ipv4(own, theirs, elsewhere),
            self.told_of_ipv6(own, theirs),
        ];
        told.into_iter().flatten().collect()
    }

    /// Returns where the A records lead; `elsewhere`: the verdict if that is not the load balancer.
    fn told_of_ipv4(
        &self,
        own: &[IpAddr],
        theirs: &[IpAddr],
        elsewhere: Verdict,
    ) -> Option<Checked> {
        let (own, theirs) = (ipv4_of(own), ipv4_of(theirs));
        if own.is_empty() {
            return None;
        }
        Some(self.led_to_balancer(&own, &theirs).unwrap_or_else(|| {
            let detail = format!(
                "A leads to {}, and the load balancer has {}: change the record, unless something \
                 in between forwards port 80",
                the_first(&own),
                the_first(&theirs)
            );
            self.about_addresses(elsewhere, detail)
        }))
    }

    /// Returns where the AAAA records lead.
    fn told_of_ipv6(&self, own: &[IpAddr], theirs: &[IpAddr]) -> Option<Checked> {
        let (own, theirs) = (ipv6_of(own), ipv6_of(theirs));
        if own.is_empty() {
            return None;
        }
        let told = self.led_to_balancer(&own, &theirs).unwrap_or_else(|| {
            let detail = format!(
                "AAAA leads to {}, and the load balancer has {}: authorities prefer IPv6, so \
                 remove the record, or point it to a dual-stack load balancer",
                the_first(&own),
                the_first(&theirs)
            );
            self.about_addresses(Verdict::Warning, detail)
        });
        Some(Checked {
            check: "ipv6",
            ..told
        })
    }

    fn led_to_balancer(&self, own: &[IpAddr], theirs: &[IpAddr]) -> Option<Checked> {
        let leads_there = own.iter().any(|address| theirs.contains(address));
        leads_there.then(|| {
            let detail = format!("leads to this load balancer ({})", the_first(own));
            self.about_addresses(Verdict::Ok, detail)
        })
    }
}

fn ipv4_of(all: &[IpAddr]) -> Vec<IpAddr> {
    all.iter().copied().filter(IpAddr::is_ipv4).collect()
}

fn ipv6_of(all: &[IpAddr]) -> Vec<IpAddr> {
    all.iter().copied().filter(IpAddr::is_ipv6).collect()
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
                "a rule on port 80 leads the challenge path to a function, but the rule of \
                 priority {priority} takes some requests first, by their source or their headers: \
                 authorities ask from everywhere, so move that rule behind the other"
            ),
        ),
        Ok(finding) => {
            let words = finding.words().unwrap_or_default();
            match is_right {
                true => (
                    Verdict::Warning,
                    format!("{words}; our own fetch succeeded nevertheless"),
                ),
                false => (Verdict::Blocked, words),
            }
        }
    };
    Checked::new("rule", verdict, detail)
}

/// Says what our own fetch met, and by which way: through `connectTo` it takes another than
/// authorities do.
fn fetch_check(fetched: &Fetched, connect_to: Option<&str>) -> Checked {
    let own = match connect_to {
        None => "our own fetch, by the same path as an authority,".to_owned(),
        Some(address) => format!(
            "our own fetch, by another path than an authority (selfCheck.connectTo {address}),"
        ),
    };
    match fetched {
        Fetched::Right => Checked::new(
            "fetch",
            Verdict::Ok,
            format!("{own} got exactly the right answer"),
        ),
        Fetched::Wrong(why) => Checked::new(
            "fetch",
            Verdict::Blocked,
            format!("{own} was not answered by the challenge function: {why}"),
        ),
        Fetched::Unreachable(why) => Checked::new(
            "fetch",
            Verdict::Warning,
            format!("{own} failed, but an authority's fetch may succeed: {why}"),
        ),
    }
}

fn told_of_caa(ruling: &Ruling) -> Checked {
    match ruling {
        Ruling::Allowed => Checked::new("caa", Verdict::Ok, "no CAA record forbids the authority"),
        Ruling::Forbidden(why) => Checked::new("caa", Verdict::Blocked, why),
        Ruling::Unknown(why) => {
            Checked::new("caa", Verdict::Warning, format!("cannot find out: {why}"))
        }
    }
}

/// Returns the worst of several checks of the same thing.
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

/// The time limit for all of a certificate's names.
const LONGEST: Duration = Duration::from_secs(20);
const LONGEST_CALL: Duration = Duration::from_secs(10);
/// How many names are checked at the same time.
const AT_ONCE: usize = 16;
const MOST_SHOWN: usize = 8;
