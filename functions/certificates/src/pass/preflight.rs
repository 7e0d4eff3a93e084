//! Preflight: could authorities validate the names now, and may they issue for them? It checks that
//! long before the next order.
//!
//! Every pass reads the rules on port 80, once per load balancer. Once a day, and at once when
//! these rules change, it fetches a probe as an authority would fetch a challenge, and reads CAA
//! records. What cannot be read is never a problem (rule 6).

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use time::OffsetDateTime;

use crate::challenge::OBJECT_PREFIX;
use crate::contract::certificate::Wanted;
use crate::contract::report::Entry;
use crate::contract::settings::{self, Authority, CheckMode, Settings};
use crate::contract::target::Target;
use crate::pass::accounts::account_url;
use crate::pass::memo::Memo;
use crate::ports::Ports;
use crate::ports::authority::Authorities;
use crate::ports::dns::{CaaRecords, DnsError, Resolver};
use crate::ports::load_balancer::{Balancer, LoadBalancer, RuledListener};
use crate::ports::probe::Fetched;
use crate::ports::store::{self, Condition, Store, read_record, write_record};
use crate::records::order::Preflight;
use crate::records::state::State;
use crate::rules::caa::{self, Asking, Ruling};
use crate::rules::challenge_path::{self, Finding};
use crate::rules::standing::Judge;
use crate::values::arn::{LoadBalancerArn, TargetGroupArn};
use crate::values::clock::Clock;
use crate::values::instant::whole_seconds;
use crate::values::names::{CertificateName, DnsName};
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

/// What preflight checks have read in this pass, each thing once.
struct Sights<R> {
    resolver: OnceCell<R>,
    addresses: Memo<Result<Vec<IpAddr>, DnsError>>,
    caa: Memo<Result<Rc<CaaRecords>, DnsError>>,
    identities: Memo<Vec<String>>,
    accounts: Memo<Option<String>>,
    balancers: Memo<Result<Option<Balancer>, ServiceError>>,
    rules: Memo<Result<Option<Rc<RuledListener>>, ServiceError>>,
    functions: Memo<Result<Rc<Vec<TargetGroupArn>>, ServiceError>>,
    /// Certificates that need no work, with the result of their last preflight check.
    kept: RefCell<Vec<(Wanted, Option<Preflight>)>>,
}

impl<R> Default for Sights<R> {
    fn default() -> Self {
        Self {
            resolver: OnceCell::new(),
            addresses: Memo::default(),
            caa: Memo::default(),
            identities: Memo::default(),
            accounts: Memo::default(),
            balancers: Memo::default(),
            rules: Memo::default(),
            functions: Memo::default(),
            kept: RefCell::default(),
        }
    }
}

/// Checks in advance whether the next order would succeed. Each thing is asked for once per pass.
pub(crate) struct Outlook<'p, P: Ports> {
    ports: &'p P,
    settings: Rc<Settings>,
    clock: Clock,
    sights: Sights<P::Resolver>,
}

impl<'p, P: Ports> Outlook<'p, P> {
    pub(crate) fn new(ports: &'p P, settings: Rc<Settings>, clock: Clock) -> Self {
        Self {
            ports,
            settings,
            clock,
            sights: Sights::default(),
        }
    }

    /// Notes a certificate that needs no work: its preflight check follows after the work on all
    /// others.
    pub(crate) fn note(&self, wanted: &Wanted, state: &State) {
        let seen = (wanted.clone(), state.orders.preflight.clone());
        self.sights.kept.borrow_mut().push(seen);
    }

    /// Returns the names whose CAA records clearly forbid this authority to issue, each with the
    /// reason and what to change. `account` is the account's URL, where it is known.
    pub(crate) async fn forbidden_by_caa(
        &self,
        authority: &Authority,
        account: Option<&str>,
        names: &[DnsName],
    ) -> Vec<(DnsName, String)> {
        let ruled = self.ruled_by_caa(authority, account, names).await;
        let forbidden = ruled.into_iter().filter_map(|(name, ruling)| match ruling {
            Ruling::Forbidden(why) => Some((name.clone(), why)),
            Ruling::Allowed => None,
            Ruling::Unknown(why) => {
                tracing::warn!(domain = %name, why, "the CAA records could not be read");
                None
            }
        });
        forbidden.collect()
    }

    /// Returns what the CAA records of each name say about an authority, in the order of the names.
    pub(crate) async fn ruled_by_caa<'n>(
        &self,
        authority: &Authority,
        account: Option<&str>,
        names: &'n [DnsName],
    ) -> Vec<(&'n DnsName, Ruling)> {
        let limit = self.clock.left().min(LONGEST_CAA);
        let until = tokio::time::Instant::now() + limit;
        let late = || Ruling::Unknown(format!("no answer within {:.1} s", limit.as_secs_f32()));
        let identities = tokio::time::timeout_at(until, self.caa_identities(authority)).await;
        let identities = identities.unwrap_or_default();
        let asking = Asking {
            identities: &identities,
            account,
        };
        stream::iter(names)
            .map(|name| async move {
                let ruling = tokio::time::timeout_at(until, self.caa_of(name, asking)).await;
                (name, ruling.unwrap_or_else(|_| late()))
            })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    /// Climbs from a name to the closest CAA records.
    async fn caa_of(&self, name: &DnsName, asking: Asking<'_>) -> Ruling {
        for level in caa::levels(name) {
            let cell = self.sights.caa.cell(level);
            let answer = cell
                .get_or_init(|| async { self.resolver().caa(level).await.map(Rc::new) })
                .await;
            match answer {
                Ok(found) if found.records.is_empty() => {}
                Ok(found) => return caa::judge(found, level, name, asking),
                Err(DnsError(why)) => return Ruling::Unknown(why.clone()),
            }
        }
        Ruling::Allowed
    }

    /// Returns the domains that name an authority in CAA records: those of the settings, else those
    /// of its directory, else the known ones.
    async fn caa_identities(&self, authority: &Authority) -> Vec<String> {
        if let Some(identities) = &authority.caa_identities {
            return identities.clone();
        }
        let told = || async {
            let told = self.ports.authorities().caa_identities(authority).await;
            match told {
                Ok(identities) if !identities.is_empty() => identities,
                _ if settings::is_letsencrypt(&authority.directory) => {
                    vec!["letsencrypt.org".to_owned()]
                }
                _ => Vec::new(),
            }
        };
        let cell = self.sights.identities.cell(&authority.key);
        cell.get_or_init(told).await.clone()
    }

    /// Returns the URL of the account at an authority, where one is stored.
    pub(crate) async fn account_seen(&self, authority: &Authority) -> Option<String> {
        let cell = self.sights.accounts.cell(&authority.key);
        cell.get_or_init(|| account_url(self.ports, authority))
            .await
            .clone()
    }

    fn resolver(&self) -> &P::Resolver {
        let servers = self.settings.dns.servers.as_deref();
        let resolver = &self.sights.resolver;
        resolver.get_or_init(|| self.ports.resolver(servers))
    }

    /// Returns the addresses of a name.
    pub(crate) async fn addresses_seen(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let cell = self.sights.addresses.cell(name);
        cell.get_or_init(|| self.resolver().addresses(name))
            .await
            .clone()
    }

    /// Returns a load balancer as this pass has read it.
    pub(crate) async fn balancer_seen(
        &self,
        arn: &LoadBalancerArn,
    ) -> Result<Option<Balancer>, ServiceError> {
        let cell = self.sights.balancers.cell(arn.as_str());
        cell.get_or_init(|| async {
            let load_balancer = self.ports.load_balancer(arn.region());
            bounded(
                "DescribeLoadBalancers",
                LONGEST_CALL,
                load_balancer.balancer(arn),
            )
            .await
        })
        .await
        .clone()
    }

    /// Returns those load balancers that authorities can reach, as far as that is known; all of
    /// them where none is.
    pub(crate) async fn facing(&self, balancers: Vec<LoadBalancerArn>) -> Vec<LoadBalancerArn> {
        if balancers.len() < 2 {
            return balancers;
        }
        let mut facing = Vec::new();
        for arn in &balancers {
            let seen = self.balancer_seen(arn).await;
            if !matches!(seen, Ok(Some(balancer)) if !balancer.internet_facing) {
                facing.push(arn.clone());
            }
        }
        match facing.is_empty() {
            true => balancers,
            false => facing,
        }
    }

    /// Returns what the rules on port 80 of a load balancer do with a name, and after a redirect to
    /// HTTPS those on port 443.
    pub(crate) async fn rule_seen(
        &self,
        arn: &LoadBalancerArn,
        name: &DnsName,
    ) -> Result<Finding, ServiceError> {
        let listener = self.rules_seen(arn, HTTP).await?;
        let Some(http) = &listener else {
            return Ok(match self.balancer_seen(arn).await? {
                None => Finding::NoBalancer,
                Some(_) => challenge_path::judge(arn, None, &[], name),
            });
        };
        let cell = self.sights.functions.cell(arn.region());
        let functions = cell
            .get_or_init(|| async {
                let load_balancer = self.ports.load_balancer(arn.region());
                let groups = bounded(
                    "DescribeTargetGroups",
                    LONGEST_CALL,
                    load_balancer.function_groups(),
                );
                groups.await.map(Rc::new)
            })
            .await
            .clone()?;
        let finding = challenge_path::judge(arn, Some(http), &functions, name);
        if finding.is_right() || !challenge_path::redirects_to_https(http, name) {
            return Ok(finding);
        }
        let https = self.rules_seen(arn, HTTPS).await?;
        let behind =
            https.and_then(|https| challenge_path::behind_redirect(http, &https, &functions, name));
        Ok(behind.unwrap_or(finding))
    }

    /// Returns the listener on a port with its rules.
    async fn rules_seen(
        &self,
        arn: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<Rc<RuledListener>>, ServiceError> {
        let cell = self.sights.rules.cell(&format!("{arn}:{port}"));
        cell.get_or_init(|| async {
            let load_balancer = self.ports.load_balancer(arn.region());
            let listener = load_balancer.rules_on(arn, port);
            let listener = bounded("DescribeRules", LONGEST_CALL, listener).await?;
            Ok(listener.map(Rc::new))
        })
        .await
        .clone()
    }

    /// Runs the preflight checks of all certificates that need no work, if they are due and time is
    /// left. Puts the problems into their entries.
    pub(crate) async fn look_ahead_of_all(&self, entries: &mut [Entry], judge: Judge<'_>) {
        let kept = self.sights.kept.take();
        let concurrency = self.settings.limits.concurrency;
        let looked: Vec<Option<(Wanted, State)>> = stream::iter(kept)
            .map(|(wanted, before)| async move {
                let looked = self.look_ahead_of(wanted, before);
                let looked = tokio::time::timeout(self.clock.left(), looked).await;
                looked.ok().flatten()
            })
            .buffer_unordered(concurrency)
            .collect()
            .await;
        let looked: BTreeMap<String, (Wanted, State)> = (looked.into_iter().flatten())
            .map(|(wanted, state)| (wanted.name.to_string(), (wanted, state)))
            .collect();
        for entry in entries {
            let Some((wanted, state)) = looked.get(&entry.name) else {
                continue;
            };
            let of_ours = |problem: &Problem| {
                let ours = [ProblemType::CaaForbids, ProblemType::ChallengePath];
                ours.map(Problem::kind_of).contains(&problem.kind)
            };
            if entry.problem.as_ref().is_none_or(of_ours) {
                let standing = judge.problem(wanted, state);
                entry.problem = standing.map(|(problem, _)| problem);
            }
        }
    }

    /// Runs the preflight check of one certificate, if that is due, and stores the result. Returns
    /// it where it could be stored.
    #[tracing::instrument(
        name = "certificate",
        level = "error",
        skip_all,
        fields(certificate.name = %wanted.name)
    )]
    async fn look_ahead_of(
        &self,
        wanted: Wanted,
        before: Option<Preflight>,
    ) -> Option<(Wanted, State)> {
        // For most of them not even the record must be read again.
        let now = self.clock.now();
        let is_due = before.as_ref().is_none_or(|it| is_due(it, now));
        let has_changed = async || {
            let rules = self.rules_found(&wanted).await;
            rules.is_some_and(|rules| rules.differ(before.as_ref()))
        };
        if wanted.paused || !is_due && !has_changed().await {
            return None;
        }
        let (store, key) = (self.ports.store(), store::state_key(&wanted.name));
        let (mut state, etag) = read_record::<State>(store, &key).await.ok()??;
        if state.lease_in_force(now).is_some() || !self.look_ahead(&wanted, &mut state).await {
            return None;
        }
        match write_record(store, &key, &mut state, Condition::Matches(&etag)).await {
            Ok(_) => Some((wanted, state)),
            // Another invocation was faster and acts on what it read; the next pass looks again.
            Err(error) => {
                tracing::warn!(%error, "the result of the preflight check is not stored");
                None
            }
        }
    }

    /// Checks what the next order would meet, if that is due. Keeps the result in the state and
    /// returns whether that must be written. Takes [`LONGEST`] at most.
    pub(crate) async fn look_ahead(&self, wanted: &Wanted, state: &mut State) -> bool {
        if wanted.paused {
            // Nothing will be ordered.
            return false;
        }
        let Some(limit) = self.clock.grant(LEAST, LONGEST) else {
            return false;
        };
        let until = tokio::time::Instant::now() + limit;
        let rules = tokio::time::timeout_at(until, self.rules_found(wanted)).await;
        let before = state.orders.preflight.as_ref();
        // Where the rules could not be read, the last result stays.
        let rules = rules
            .ok()
            .flatten()
            .unwrap_or_else(|| RulesFound::of(before));
        let now = self.clock.now();
        let due = before.is_none_or(|preflight| is_due(preflight, now)) || rules.differ(before);
        if !due || tokio::time::Instant::now() + LEAST / 2 > until {
            return false;
        }
        let rule = rules.wrong.as_deref();
        let problem = self.what_stands_ahead(wanted, rule, until).await;
        let wait = match problem {
            Some(_) => AGAIN,
            None => in_a_day(),
        };
        if let Some(problem) = &problem {
            tracing::warn!(
                problem.type = problem.kind,
                problem.detail = problem.detail,
                "the next order would fail"
            );
        }
        state.orders.preflight = Some(Preflight {
            at: whole_seconds(now),
            next: whole_seconds(now + wait),
            problem,
            rule: rules.wrong,
            leads_to: rules.leads_to,
        });
        true
    }

    /// Returns what the rules on port 80 of the document's load balancers do; `None` when one
    /// cannot be read.
    async fn rules_found(&self, wanted: &Wanted) -> Option<RulesFound> {
        let mut found: Vec<(String, Vec<&DnsName>)> = Vec::new();
        let mut leads_to = BTreeSet::new();
        let balancers = balancers(wanted);
        let findings = |balancers: Vec<LoadBalancerArn>, name| async move {
            let mut findings = Vec::new();
            for balancer in balancers {
                let finding = self.rule_seen(&balancer, name).await;
                let unread = |error: &ServiceError| {
                    tracing::warn!(
                        load_balancer = %balancer,
                        %error,
                        "the rules on port 80 could not be read"
                    );
                };
                findings.push(finding.inspect_err(unread).ok()?);
            }
            Some(findings)
        };
        for name in &wanted.domains {
            let mut all = findings(balancers.clone(), name).await?;
            if !all.iter().all(Finding::is_right) && all.len() > 1 {
                all = findings(self.facing(balancers.clone()).await, name).await?;
            }
            // Where several ways lead to a name, one is enough.
            let has_a_way = all.iter().any(Finding::is_right);
            for finding in all {
                if let Finding::Right { group, .. } = &finding {
                    leads_to.insert(group.clone());
                }
                let Some(words) = finding.words().filter(|_| !has_a_way) else {
                    continue;
                };
                match found.iter_mut().find(|(known, _)| *known == words) {
                    Some((_, names)) => names.push(name),
                    None => found.push((words, vec![name])),
                }
            }
        }
        let all = wanted.domains.len();
        let told = found.into_iter().map(|(words, names)| match names.len() {
            some if some == all => words,
            _ => format!(
                "{}: {words}",
                some_of(names.iter().map(ToString::to_string))
            ),
        });
        let told: Vec<String> = told.collect();
        Some(RulesFound {
            wrong: (!told.is_empty()).then(|| told.join("; ")),
            leads_to,
        })
    }

    /// Fetches the probe and reads CAA records; returns what blocks an order.
    async fn what_stands_ahead(
        &self,
        wanted: &Wanted,
        rule: Option<&str>,
        until: tokio::time::Instant,
    ) -> Option<Problem> {
        // Only the first of the list: the others are for when it is down.
        let preferred = wanted.authorities.first();
        let authority = preferred.and_then(|key| self.settings.authorities.get(key));
        let forbidden = async {
            let Some(authority) = authority else {
                return Vec::new();
            };
            let account = self.account_seen(authority).await;
            self.forbidden_by_caa(authority, account.as_deref(), &wanted.domains)
                .await
        };
        let forbidden = async {
            let forbidden = tokio::time::timeout_at(until, forbidden).await;
            forbidden.unwrap_or_default()
        };
        let fetches = self.settings.self_check.mode != CheckMode::Off;
        let fetched = async {
            match fetches {
                true => Some(
                    self.fetch_probe(&wanted.name, &wanted.domains, AHEAD, until)
                        .await,
                ),
                false => None,
            }
        };
        let (forbidden, fetched) = future::join(forbidden, fetched).await;
        if !forbidden.is_empty() {
            let told = forbidden.iter().map(|(name, why)| format!("{name}: {why}"));
            return Some(Problem::ours(ProblemType::CaaForbids, some_of(told)));
        }
        challenge_path_problem(rule, fetched.as_deref())
    }

    /// Puts a probe where the challenge function looks for answers, fetches it for each name as
    /// authorities fetch a challenge, and deletes it. `mark` keeps probes of different purposes
    /// apart.
    ///
    /// The object's key is always the same: the next probe overwrites and deletes one that a
    /// stopped invocation left.
    pub(crate) async fn fetch_probe(
        &self,
        name: &CertificateName,
        domains: &[DnsName],
        mark: &str,
        until: tokio::time::Instant,
    ) -> Vec<(DnsName, Fetched)> {
        let token = format!("{PROBE}{mark}{name}");
        let key = format!("{OBJECT_PREFIX}{token}");
        let store = self.ports.store();
        let mut seen: Vec<(DnsName, Fetched)> = Vec::new();
        // Another check of the same certificate may interfere once.
        for _ in 0..2 {
            let body = format!("{token}.{:032x}", fastrand::u128(..));
            let put = store.write(&key, body.clone().into_bytes(), Condition::None);
            let written = match tokio::time::timeout_at(until, put).await {
                Ok(written) => written.map(drop).map_err(|error| error.to_string()),
                Err(_) => Err("no time was left to store the probe".to_owned()),
            };
            if let Err(why) = written {
                let unreachable =
                    |name: &DnsName| (name.clone(), Fetched::Unreachable(why.clone()));
                seen = domains.iter().map(unreachable).collect();
                break;
            }
            let fetches = domains.iter().map(|domain| {
                let (token, body) = (token.as_str(), body.as_str());
                async move {
                    (
                        domain.clone(),
                        self.fetch_one(domain, token, body, until).await,
                    )
                }
            });
            seen = stream::iter(fetches).buffered(AT_ONCE).collect().await;
            let is_wrong = |(_, fetched): &(DnsName, Fetched)| matches!(fetched, Fetched::Wrong(_));
            if !seen.iter().any(is_wrong) {
                break;
            }
        }
        // Delete after any result, and however late it is: the clock keeps time for that.
        match tokio::time::timeout(TO_DELETE, store.delete(&key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(key, %error, "the probe was not deleted"),
            Err(_) => tracing::warn!(key, "the probe was not deleted in time"),
        }
        seen
    }

    async fn fetch_one(
        &self,
        domain: &DnsName,
        token: &str,
        body: &str,
        until: tokio::time::Instant,
    ) -> Fetched {
        let connect_to = self.settings.self_check.connect_to.as_deref();
        let limit = until.saturating_duration_since(tokio::time::Instant::now());
        let fetch = self.ports.fetch(domain, token, body, connect_to, limit);
        match tokio::time::timeout_at(until, fetch).await {
            Ok(fetched) => fetched,
            Err(_) => Fetched::Unreachable(format!("http://{domain}: no complete answer in time")),
        }
    }
}

/// Notes that the challenges of an order were fetched with success: that counts as the daily check.
pub(crate) fn checked(state: &mut State, now: OffsetDateTime) {
    let rules = RulesFound::of(state.orders.preflight.as_ref());
    state.orders.preflight = Some(Preflight {
        at: whole_seconds(now),
        next: whole_seconds(now + in_a_day()),
        problem: None,
        rule: rules.wrong,
        leads_to: rules.leads_to,
    });
}

/// What the rules on port 80 do with the challenge path.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct RulesFound {
    /// What is wrong with them.
    wrong: Option<String>,
    /// The target groups to which they forward the path.
    leads_to: BTreeSet<String>,
}

impl RulesFound {
    fn of(preflight: Option<&Preflight>) -> Self {
        let seen = preflight.map(|it| Self {
            wrong: it.rule.clone(),
            leads_to: it.leads_to.clone(),
        });
        seen.unwrap_or_default()
    }

    /// Whether they differ from the last full check. An older build stored no target groups.
    fn differ(&self, preflight: Option<&Preflight>) -> bool {
        let before = Self::of(preflight);
        let led = |rules: &Self| !rules.leads_to.is_empty();
        let other = led(&before) && led(self) && self.leads_to != before.leads_to;
        self.wrong != before.wrong || other
    }
}

/// Returns the load balancers of a document's targets, each once.
pub(crate) fn balancers(wanted: &Wanted) -> Vec<LoadBalancerArn> {
    let mut balancers: Vec<LoadBalancerArn> = (wanted.targets.iter())
        .filter_map(Target::balancer)
        .collect();
    balancers.sort();
    balancers.dedup();
    balancers
}

/// Whether it is time for the full check. A wrong clock wrote an instant that is too far ahead, or
/// a last check that is in the future.
fn is_due(preflight: &Preflight, now: OffsetDateTime) -> bool {
    let wrong = preflight.at > now + CLOCKS_DIFFER || preflight.next > now + DAY + CLOCKS_DIFFER;
    wrong || preflight.next <= now
}

/// Returns a wait of a day, less up to a tenth of it, so that checks of the same minute spread out.
fn in_a_day() -> time::Duration {
    DAY * (1.0 - 0.1 * fastrand::f64())
}

/// Limits the time of a call to AWS, whose retries may take longer than a preflight check may.
pub(crate) async fn bounded<T>(
    operation: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(ServiceError {
            operation,
            code: None,
            message: format!("no answer within {} s", limit.as_secs()),
            status: None,
        })
    })
}

/// Returns what is wrong on the way to the challenge function: by the rules on port 80, and by our
/// own fetches where there were any.
fn challenge_path_problem(
    rule: Option<&str>,
    fetched: Option<&[(DnsName, Fetched)]>,
) -> Option<Problem> {
    let challenge_path = |detail: String| Some(Problem::ours(ProblemType::ChallengePath, detail));
    let Some(fetched) = fetched else {
        return challenge_path(rule?.to_owned());
    };
    let wrong: Vec<String> = (fetched.iter())
        .filter_map(|(name, fetched)| match fetched {
            Fetched::Wrong(why) => Some(format!("{name}: {why}")),
            _ => None,
        })
        .collect();
    // If nothing else is wrong, the fetch may fail only from here.
    let unreachable: Vec<String> = (fetched.iter())
        .filter_map(|(name, fetched)| match fetched {
            Fetched::Unreachable(why) if rule.is_some() => Some(format!("{name}: {why}")),
            _ => None,
        })
        .collect();
    if wrong.is_empty() && unreachable.is_empty() {
        return None;
    }
    let met = some_of(wrong.into_iter().chain(unreachable));
    challenge_path(match rule {
        Some(rule) => format!("{rule}; our own fetch met: {met}"),
        None => format!(
            "our own fetch, by the same path as an authority, was not answered by the challenge \
             function: {met}; the event check says more"
        ),
    })
}

/// Joins the first few of many.
fn some_of(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let shown = all.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>();
    match all.len().saturating_sub(MOST_SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

/// Returns the keys of the probes that a stopped invocation may have left behind.
pub(crate) fn probes(name: &CertificateName) -> [String; 2] {
    [AHEAD, ASKED].map(|mark| format!("{OBJECT_PREFIX}{PROBE}{mark}{name}"))
}

/// The port on which authorities fetch challenges.
const HTTP: u16 = 80;
/// The port to which they follow a redirect.
const HTTPS: u16 = 443;
/// The start of a probe's token.
const PROBE: &str = "certloop-check";
/// Marks the probe of a preflight check.
const AHEAD: &str = "-";
/// Marks the probe of the event `check`.
pub(crate) const ASKED: &str = "_";
/// The time limit for the full check of one certificate.
const LONGEST: Duration = Duration::from_secs(5);
/// With less time than this no check starts.
const LEAST: Duration = Duration::from_secs(2);
const LONGEST_CAA: Duration = Duration::from_secs(8);
const LONGEST_CALL: Duration = Duration::from_secs(4);
/// In addition to the time that the clock keeps free.
const TO_DELETE: Duration = Duration::from_secs(2);
const DAY: time::Duration = time::Duration::DAY;
/// The wait after a problem: somebody may have repaired it.
const AGAIN: time::Duration = time::Duration::HOUR;
const CLOCKS_DIFFER: time::Duration = time::Duration::HOUR;
/// How many names are checked at the same time.
const AT_ONCE: usize = 16;
const MOST_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_after_a_day_and_after_a_clock_that_was_wrong() {
        let now = OffsetDateTime::UNIX_EPOCH + DAY * 20_000;
        let hours = time::Duration::hours;
        for (at, next, due) in [
            (hours(-1), hours(22), false),
            (hours(-23), hours(1), false),
            (hours(-24), hours(0), true),
            (hours(-240), hours(-216), true),
            // Clocks may differ a little.
            (hours(1), hours(24), false),
            (hours(48), hours(20), true),
            (hours(-1), hours(48), true),
        ] {
            let preflight = Preflight {
                at: now + at,
                next: now + next,
                problem: None,
                rule: None,
                leads_to: BTreeSet::new(),
            };
            assert_eq!(is_due(&preflight, now), due, "{at} {next}");
        }
    }

    #[test]
    fn an_orders_own_fetches_are_the_days_look() {
        let now = OffsetDateTime::UNIX_EPOCH + DAY * 20_000;
        let mut state = State::default();
        state.orders.preflight = Some(Preflight {
            at: now - DAY,
            next: now,
            problem: Some(Problem::ours(ProblemType::ChallengePath, "no rule")),
            rule: Some("no rule".to_owned()),
            leads_to: BTreeSet::from(["group".to_owned()]),
        });
        checked(&mut state, now);
        let preflight = state.orders.preflight.unwrap();
        assert_eq!(preflight.problem, None);
        assert_eq!(preflight.rule.as_deref(), Some("no rule"));
        assert_eq!(preflight.leads_to.len(), 1);
        let wait = preflight.next - now;
        assert!(wait > DAY * 0.89 && wait <= DAY, "{wait}");
    }

    #[test]
    fn another_function_behind_the_rule_is_a_change() {
        let rules = |wrong: Option<&str>, group: &str| RulesFound {
            wrong: wrong.map(str::to_owned),
            leads_to: (group.split_whitespace().map(str::to_owned)).collect(),
        };
        let now = OffsetDateTime::UNIX_EPOCH;
        for (before, after, differ) in [
            (rules(None, "a"), rules(None, "a"), false),
            (rules(None, "a"), rules(None, "b"), true),
            (rules(None, "a"), rules(None, "a b"), true),
            (rules(None, "a"), rules(Some("gone"), ""), true),
            // An older build stored this.
            (rules(None, ""), rules(None, "a"), false),
        ] {
            let preflight = Preflight {
                at: now,
                next: now,
                problem: None,
                rule: before.wrong,
                leads_to: before.leads_to,
            };
            assert_eq!(after.differ(Some(&preflight)), differ, "{after:?}");
        }
    }

    #[test]
    fn of_many_a_few_are_told() {
        let words = |count: usize| some_of((0..count).map(|at| at.to_string()));
        assert_eq!(words(2), "0; 1");
        assert_eq!(words(7), "0; 1; 2; 3; 4; and 2 more");
    }
}
