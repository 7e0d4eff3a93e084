//! Pure: what is left of the published limits of the authorities and of the certificate manager.
//!
//! Let's Encrypt counts in token buckets (<https://letsencrypt.org/docs/rate-limits/>): a bucket
//! holds some tokens and fills again evenly. The [`Ledger`] of an authority keeps the same buckets
//! on our side, in `limits/`, for all invocations. [`Ledger::reserve`] takes tokens before each new
//! order. [`Ledger::settle`] gives back the tokens that the authority did not count, once the
//! result of the order is known. An unknown result stays counted.
//!
//! [`Imports`] keeps the certificate manager's yearly quota
//! (<https://docs.aws.amazon.com/acm/latest/userguide/acm-limits.html>), which is per account and
//! region.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::{Date, Duration, OffsetDateTime};

use crate::contract::rate_limit::{RateLimit, RateLimits};
use crate::records::certificate::IssuedCertificate;
use crate::records::ledger::{Hold, LimitKind, Reserved, TakenToken, TokenBucket};
use crate::records::record::Record;
use crate::values::instant::{DAY, HOUR, rfc3339};
use crate::values::names::DnsName;
use crate::values::problem::{LONGEST_RETRY_AFTER, Problem};
use crate::values::problem_types::ProblemType;
use crate::values::text::abridged;

impl RateLimit {
    /// How long an empty bucket takes to fill.
    fn span(self) -> Duration {
        Duration::seconds(
            i64::try_from(self.seconds)
                .unwrap_or(LONGEST_SPAN)
                .min(LONGEST_SPAN),
        )
    }

    /// How long one token takes to come back.
    fn each(self) -> Duration {
        self.span() / self.count.max(1)
    }

    /// Returns when a bucket is full. An instant further ahead than an empty bucket takes to fill
    /// comes from a wrong clock and means an empty bucket.
    fn full_at(self, bucket: Option<&TokenBucket>, now: OffsetDateTime) -> OffsetDateTime {
        let full_at = bucket.map_or(now, |bucket| bucket.full_at);
        if full_at > now + self.span() + CLOCKS_DIFFER {
            // Assume one token: the invocation that takes it also corrects the instant.
            now + self.span() - self.each()
        } else {
            full_at.max(now)
        }
    }

    /// Returns when a token is available, `now` at the earliest.
    fn next(self, bucket: Option<&TokenBucket>, now: OffsetDateTime) -> OffsetDateTime {
        (self.full_at(bucket, now) + self.each() - self.span()).max(now)
    }

    /// Returns how many tokens are available.
    fn left(self, bucket: Option<&TokenBucket>, now: OffsetDateTime) -> u32 {
        let there = now + self.span() - self.full_at(bucket, now);
        let each = self.each().whole_nanoseconds().max(1);
        u32::try_from((there.whole_nanoseconds() / each).max(0))
            .unwrap_or(self.count)
            .min(self.count)
    }
}

impl RateLimits {
    fn of(&self, kind: LimitKind) -> Option<RateLimit> {
        match kind {
            LimitKind::OrdersPerAccount => self.orders_per_account,
            LimitKind::CertificatesPerDomain => self.certificates_per_domain,
            LimitKind::CertificatesPerNameSet => self.certificates_per_name_set,
            LimitKind::FailedValidationsPerName => self.failed_validations_per_name,
        }
    }

    /// Returns the buckets from which an order takes tokens.
    ///
    /// At Let's Encrypt, an order in the window of the certificate that it replaces needs no
    /// tokens. Issued certificates and failed validations are counted all the same. A set of names
    /// that was issued before does not count for its registered domains.
    fn demands(&self, names: &[DnsName], purpose: Purpose) -> Vec<Demand> {
        let replacement = matches!(purpose, Purpose::Replacement { .. });
        let same_set = matches!(
            purpose,
            Purpose::SameSet | Purpose::Replacement { same_set: true }
        );
        let mut subjects = Vec::new();
        if purpose == Purpose::New {
            subjects.push((LimitKind::OrdersPerAccount, ACCOUNT.to_owned()));
        }
        if !same_set {
            let mut domains: Vec<String> = names.iter().map(registered_domain).collect();
            domains.sort_unstable();
            domains.dedup();
            let domains = domains.into_iter();
            subjects.extend(domains.map(|domain| (LimitKind::CertificatesPerDomain, domain)));
        }
        subjects.push((LimitKind::CertificatesPerNameSet, set_key(names)));
        let each = names.iter().map(DnsName::to_string);
        subjects.extend(each.map(|name| (LimitKind::FailedValidationsPerName, name)));
        subjects
            .into_iter()
            .filter_map(|(kind, subject)| {
                Some(Demand {
                    limit: self.of(kind)?,
                    about: (kind == LimitKind::CertificatesPerNameSet)
                        .then(|| abridged(names.iter(), FIRST_NAMES)),
                    kind,
                    subject,
                    blocks: !replacement,
                })
            })
            .collect()
    }
}

/// What an order is for. Some purposes are exempt from some limits
/// (<https://letsencrypt.org/docs/rate-limits/#limit-exemptions-for-renewals>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// None of the others: every limit applies.
    New,
    /// Exactly these names got a certificate there in the last 120 days. The order is exempt from
    /// orders per account and certificates per registered domain.
    SameSet,
    /// The order sends `replaces`, and now is in the window of the replaced certificate. The order
    /// is exempt from all limits.
    Replacement {
        /// Whether it is for exactly the same names as a certificate of the last 120 days.
        same_set: bool,
    },
}

impl Purpose {
    /// Returns the purpose of an order for `names` at `directory`, from the present certificate.
    /// `in_window`: the order sends `replaces`, and now is in that certificate's window, start
    /// included and end not.
    pub fn of(
        held: Option<&IssuedCertificate>,
        names: &[DnsName],
        directory: &str,
        in_window: bool,
        now: OffsetDateTime,
    ) -> Self {
        let same_set = held.is_some_and(|held| {
            held.directory == directory
                && held.domains == names
                && now - held.not_before < REMEMBERED
        });
        match (in_window, same_set) {
            (true, same_set) => Self::Replacement { same_set },
            (false, true) => Self::SameSet,
            (false, false) => Self::New,
        }
    }
}

/// One bucket from which an order takes a token.
struct Demand {
    kind: LimitKind,
    subject: String,
    about: Option<String>,
    limit: RateLimit,
    /// Whether the order has to wait for a token. If not, the token is only counted.
    blocks: bool,
}

impl Demand {
    fn in_words(&self, next: OffsetDateTime) -> String {
        let of_what = match self.kind {
            LimitKind::OrdersPerAccount => "no new order is left for the account".to_owned(),
            LimitKind::CertificatesPerDomain => format!(
                "no certificate is left for the registered domain {}",
                self.subject
            ),
            LimitKind::CertificatesPerNameSet => {
                "no certificate is left for exactly these names".to_owned()
            }
            LimitKind::FailedValidationsPerName => {
                format!("no failed validation is left for {}", self.subject)
            }
        };
        let RateLimit { count, seconds } = self.limit;
        format!(
            "{of_what}: {count} per {}, the next is available at {}",
            period(seconds),
            rfc3339(next)
        )
    }
}

impl TakenToken {
    /// Returns the part that has not come back with time yet.
    fn outstanding(&self, now: OffsetDateTime) -> Duration {
        (self.until - self.from.max(now)).max(Duration::ZERO)
    }
}

impl Reserved {
    /// Returns when all of it has come back with time.
    fn until(&self) -> Option<OffsetDateTime> {
        let tokens = self.tokens.values().flat_map(BTreeMap::values);
        tokens.map(|token| token.until).max()
    }
}

/// The result of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderFate<'n> {
    /// The order was not placed, or its URL is not known: no certificate, no validation.
    NeverMade {
        /// Whether the authority may have counted it.
        counted: bool,
    },
    /// There is a certificate. It counts from now on.
    Issued,
    /// The order ended without a certificate; the validations of these names failed.
    Ended {
        /// The names as the authority writes them: a wildcard without its `*.`.
        failed: &'n [String],
    },
    /// The result is unknown: everything stays counted.
    Unknown,
}

impl Hold {
    /// Whether it is in force now. A hold that is longer than any authority asks for comes from a
    /// wrong clock and does not count.
    fn is_in_force(&self, now: OffsetDateTime) -> bool {
        self.until > now && self.until <= now + LONGEST_RETRY_AFTER
    }
}

/// Why no order is possible now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// From when on an order is possible again.
    pub until: OffsetDateTime,
    /// Which limit, for what, how many, and when the next is available, in words.
    pub what: String,
    /// The problem that the authority reported, if it did.
    pub problem: Option<Problem>,
    /// The names that are blocked, if an order without them is possible.
    pub names: Vec<DnsName>,
}

impl Blocked {
    /// Returns the problem to report: the one from the authority, or else one from our own count.
    pub fn problem(&self) -> Problem {
        let ours = || Problem::ours(ProblemType::Limit, self.what.clone());
        self.problem.clone().unwrap_or_else(ours)
    }
}

/// What is left of a limit, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// Its name in the settings.
    pub limit: LimitKind,
    /// What it is counted for: `account`, a registered domain, some names, one name.
    pub subject: String,
    /// How many are left.
    pub left: u32,
    /// Of how many.
    pub of: u32,
    /// Per how many seconds.
    pub seconds: u64,
    /// When the next is available, if none is left.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
}

impl Left {
    /// Says what one more order or validation costs.
    pub fn in_words(&self) -> String {
        let of_what = match self.limit {
            LimitKind::OrdersPerAccount => "a new order of the account".to_owned(),
            LimitKind::CertificatesPerDomain => format!("a certificate under {}", self.subject),
            LimitKind::CertificatesPerNameSet => "a certificate for exactly these names".to_owned(),
            LimitKind::FailedValidationsPerName => format!("a validation of {}", self.subject),
        };
        let (of, left) = (self.of, self.left);
        format!(
            "{of_what} of {of} per {} ({left} left)",
            period(self.seconds)
        )
    }
}

/// `limits/<authority>-<digest>.json`: what an authority probably counted of our orders, and the
/// orders that it told us not to place for now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    version: u32,
    write_id: String,
    /// The buckets that are not full. The key of a set of names is [`set_key`].
    #[serde(default)]
    buckets: BTreeMap<LimitKind, BTreeMap<String, TokenBucket>>,
    /// Tokens that were taken and are not settled, by certificate.
    #[serde(default)]
    open: BTreeMap<String, Reserved>,
    /// A hold on all new orders.
    #[serde(default)]
    hold: Option<Hold>,
    /// Holds on one name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    names: BTreeMap<String, Hold>,
    /// Holds on a registered domain and every name under it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    domains: BTreeMap<String, Hold>,
}

impl Record for Ledger {
    // The record may be large.
    const PRETTY: bool = false;

    fn stamp(&mut self, write_id: String) {
        self.version = Self::VERSION;
        self.write_id = write_id;
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            write_id: String::new(),
            buckets: BTreeMap::new(),
            open: BTreeMap::new(),
            hold: None,
            names: BTreeMap::new(),
            domains: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// Returns the stamp of its last write.
    pub(crate) fn write_id(&self) -> &str {
        &self.write_id
    }

    /// Returns why no order for `names` is possible now. Tokens that `owner` took for an earlier
    /// order and never settled do not count, because [`Self::reserve`] gives them back.
    pub fn what_blocks(
        &self,
        limits: &RateLimits,
        owner: &str,
        names: &[DnsName],
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Option<Blocked> {
        match self.open.contains_key(owner) {
            true => {
                let mut without = self.clone();
                without.give_up(owner, now);
                without.in_the_way(limits, names, purpose, now)
            }
            false => self.in_the_way(limits, names, purpose, now),
        }
    }

    fn in_the_way(
        &self,
        limits: &RateLimits,
        names: &[DnsName],
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Option<Blocked> {
        let mut found = Vec::new();
        let mut stand_in_the_way = Vec::new();
        for (about, name, hold) in self.holds(names, purpose) {
            if hold.is_in_force(now) {
                let until = rfc3339(hold.until);
                let what = format!("the authority accepts no order{about} before {until}");
                found.push((hold.until, what, Some(hold.problem.clone())));
                stand_in_the_way.push(name);
            }
        }
        for demand in limits.demands(names, purpose) {
            let next = demand.limit.next(self.bucket(&demand), now);
            if demand.blocks && next > now {
                found.push((next, demand.in_words(next), None));
                let is_name = demand.kind == LimitKind::FailedValidationsPerName;
                let mut names = names.iter().filter(|_| is_name);
                stand_in_the_way.push(names.find(|name| name.as_str() == demand.subject));
            }
        }
        // The longest wait first; on a tie, what the authority said before what we counted.
        found.sort_by_key(|(until, _, problem)| (std::cmp::Reverse(*until), problem.is_none()));
        let until = found.first()?.0;
        let problem = found.iter_mut().find_map(|(.., problem)| problem.take());
        let more = found.len().saturating_sub(MOST_TOLD);
        let told = found.iter().take(MOST_TOLD);
        let mut what = told
            .map(|(_, what, _)| what.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        if more > 0 {
            what.push_str(&format!("; and {more} more"));
        }
        // An order without some names is possible only if each obstacle is about one name.
        let about_names: Option<BTreeSet<&DnsName>> = stand_in_the_way.into_iter().collect();
        let names = about_names.into_iter().flatten().cloned().collect();
        Some(Blocked {
            until,
            what,
            problem,
            names,
        })
    }

    fn holds<'s>(
        &'s self,
        names: &'s [DnsName],
        purpose: Purpose,
    ) -> Vec<(String, Option<&'s DnsName>, &'s Hold)> {
        let mut holds = Vec::new();
        holds.extend((self.hold.as_ref()).map(|hold| (String::new(), None, hold)));
        for name in names {
            if let Some(hold) = self.names.get(name.as_str()) {
                holds.push((format!(" for {name}"), Some(name), hold));
            }
        }
        for (domain, hold) in &self.domains {
            // Renewals are exempt from the limit on certificates per domain.
            if purpose == Purpose::New
                && names.iter().any(|name| registered_domain(name) == *domain)
            {
                holds.push((format!(" under {domain}"), None, hold));
            }
        }
        holds
    }

    fn bucket(&self, demand: &Demand) -> Option<&TokenBucket> {
        self.buckets.get(&demand.kind)?.get(&demand.subject)
    }

    /// Takes the tokens for an order for `names`. It does not check whether they are available:
    /// [`Self::what_blocks`] does. `id` is a random word.
    ///
    /// Tokens that `owner` took before and never settled come back: that order left no trace, so it
    /// had no result.
    pub fn reserve(
        &mut self,
        limits: &RateLimits,
        owner: &str,
        id: String,
        names: &[DnsName],
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Reserved {
        self.give_up(owner, now);
        self.tidy(limits, now);
        let mut reserved = Reserved {
            owner: owner.to_owned(),
            id,
            tokens: BTreeMap::new(),
        };
        for demand in limits.demands(names, purpose) {
            let limit = demand.limit;
            let bucket = self.bucket(&demand);
            // A bucket that is only counted never goes below zero, neither here nor at the
            // authority.
            if limit.next(bucket, now) > now {
                continue;
            }
            let from = limit.full_at(bucket, now);
            let token = TakenToken {
                from,
                until: from + limit.each(),
            };
            let buckets = self.buckets.entry(demand.kind).or_default();
            let bucket = TokenBucket {
                full_at: token.until,
                about: demand.about,
            };
            buckets.insert(demand.subject.clone(), bucket);
            let tokens = reserved.tokens.entry(demand.kind).or_default();
            tokens.insert(demand.subject, token);
        }
        if !reserved.is_empty() {
            self.open.insert(owner.to_owned(), reserved.clone());
        }
        reserved
    }

    /// Whether these tokens are taken and not settled.
    pub fn is_open(&self, reserved: &Reserved) -> bool {
        let open = self.open.get(&reserved.owner);
        open.is_some_and(|open| open.id == reserved.id)
    }

    /// Books the result of an order. To book it twice is harmless.
    ///
    /// Which tokens come back:
    /// - those for certificates, if there is no certificate;
    /// - the one for the order, only if the authority surely did not count it;
    /// - those for validations, for names that did not fail.
    ///
    /// What has already come back with time does not come back again.
    pub fn settle(&mut self, reserved: &Reserved, outcome: OrderFate<'_>, now: OffsetDateTime) {
        let open = self.is_open(reserved);
        if open {
            self.open.remove(&reserved.owner);
        }
        for (kind, tokens) in &reserved.tokens {
            for (subject, token) in tokens {
                let comes_back = match (outcome, kind) {
                    (OrderFate::Unknown, _) => false,
                    (OrderFate::NeverMade { counted }, LimitKind::OrdersPerAccount) => !counted,
                    (OrderFate::NeverMade { .. }, _) => true,
                    (_, LimitKind::OrdersPerAccount) => false,
                    (OrderFate::Ended { failed }, LimitKind::FailedValidationsPerName) => {
                        !failed.iter().any(|name| base(name) == base(subject))
                    }
                    (OrderFate::Ended { .. }, _) => true,
                    (OrderFate::Issued, LimitKind::FailedValidationsPerName) => true,
                    (OrderFate::Issued, _) => {
                        self.count_from(*kind, subject, token, open, now);
                        false
                    }
                };
                if comes_back && open {
                    self.give_back(*kind, subject, token, now);
                }
            }
        }
    }

    /// Holds all new orders.
    pub fn hold(&mut self, hold: Hold) {
        keep_longer(&mut self.hold, hold);
    }

    /// Holds new orders with one of these names.
    pub fn hold_names(&mut self, names: &[DnsName], hold: &Hold) {
        for name in names {
            let mut kept = self.names.remove(name.as_str());
            keep_longer(&mut kept, hold.clone());
            self.names.extend(kept.map(|kept| (name.to_string(), kept)));
        }
    }

    /// Holds new orders with a name under the registered domain of one of these.
    pub fn hold_domains(&mut self, names: &[DnsName], hold: &Hold) {
        for domain in names.iter().map(registered_domain) {
            let mut kept = self.domains.remove(&domain);
            keep_longer(&mut kept, hold.clone());
            self.domains.extend(kept.map(|kept| (domain, kept)));
        }
    }

    /// Returns all holds in force, each with its name or registered domain; `None`: on everything.
    pub fn holds_in_force(&self, now: OffsetDateTime) -> Vec<(Option<&str>, &Hold)> {
        let of_all = self.hold.iter().map(|hold| (None, hold));
        let of_some = self.names.iter().chain(&self.domains);
        of_all
            .chain(of_some.map(|(subject, hold)| (Some(subject.as_str()), hold)))
            .filter(|(_, hold)| hold.is_in_force(now))
            .collect()
    }

    /// Returns what is left of each bucket that is not full.
    pub fn left(&self, limits: &RateLimits, now: OffsetDateTime) -> Vec<Left> {
        let mut left = Vec::new();
        for (kind, buckets) in &self.buckets {
            let Some(limit) = limits.of(*kind) else {
                continue;
            };
            for (subject, bucket) in buckets.iter().filter(|(_, bucket)| bucket.full_at > now) {
                let subject = bucket.about.as_ref().unwrap_or(subject);
                left.push(remainder(*kind, subject, limit, Some(bucket), now));
            }
        }
        left
    }

    /// Returns what is left of each bucket from which an order would take a token. Validations are
    /// left out: they cost nothing unless they fail.
    pub fn costs(
        &self,
        limits: &RateLimits,
        names: &[DnsName],
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Vec<Left> {
        let demands = limits.demands(names, purpose).into_iter();
        let demands = demands.filter(|demand| demand.kind != LimitKind::FailedValidationsPerName);
        let left = demands.map(|demand| {
            let subject = demand.about.as_ref().unwrap_or(&demand.subject);
            remainder(
                demand.kind,
                subject,
                demand.limit,
                self.bucket(&demand),
                now,
            )
        });
        left.collect()
    }

    /// Drops buckets that are full again or have no limit, and holds that are over. Returns whether
    /// it corrected an instant from a wrong clock: such a bucket stays empty until the ledger is
    /// written.
    pub fn tidy(&mut self, limits: &RateLimits, now: OffsetDateTime) -> bool {
        let mut set_right = false;
        self.buckets.retain(|kind, buckets| {
            let Some(limit) = limits.of(*kind) else {
                return false;
            };
            for bucket in buckets.values_mut() {
                let believed = limit.full_at(Some(bucket), now);
                set_right |= believed < bucket.full_at;
                bucket.full_at = bucket.full_at.min(believed);
            }
            buckets.retain(|_, bucket| bucket.full_at.saturating_add(CLOCKS_DIFFER) > now);
            !buckets.is_empty()
        });
        self.open.retain(|_, reserved| {
            reserved
                .until()
                .is_some_and(|until| until.saturating_add(CLOCKS_DIFFER) > now)
        });
        let in_force = |hold: &Hold| {
            hold.until.saturating_add(CLOCKS_DIFFER) > now
                && hold.until <= now + LONGEST_RETRY_AFTER
        };
        self.hold = self.hold.take().filter(|hold| in_force(hold));
        self.names.retain(|_, hold| in_force(hold));
        self.domains.retain(|_, hold| in_force(hold));
        set_right
    }

    /// Settles what `owner` took for an order that left no trace: there is no certificate, and no
    /// validation was requested.
    fn give_up(&mut self, owner: &str, now: OffsetDateTime) {
        if let Some(reserved) = self.open.get(owner).cloned() {
            self.settle(&reserved, OrderFate::NeverMade { counted: true }, now);
        }
    }

    fn give_back(
        &mut self,
        kind: LimitKind,
        subject: &str,
        token: &TakenToken,
        now: OffsetDateTime,
    ) {
        let buckets = self.buckets.get_mut(&kind);
        if let Some(bucket) = buckets.and_then(|buckets| buckets.get_mut(subject)) {
            bucket.full_at = bucket.full_at.saturating_sub(token.outstanding(now));
        }
    }

    /// Counts a certificate from its issuance instead of from its order, as the authority does.
    fn count_from(
        &mut self,
        kind: LimitKind,
        subject: &str,
        token: &TakenToken,
        open: bool,
        now: OffsetDateTime,
    ) {
        let buckets = self.buckets.entry(kind).or_default();
        let bucket = buckets.entry(subject.to_owned()).or_insert(TokenBucket {
            full_at: now,
            about: None,
        });
        let each = token.until - token.from;
        bucket.full_at = match open {
            true => (bucket.full_at)
                .saturating_sub(token.outstanding(now))
                .max(now)
                .saturating_add(each),
            // It was settled before, or forgotten because all of it had come back. At least this
            // one is counted.
            false => bucket.full_at.max(now.saturating_add(each)),
        };
    }
}

/// `limits/certificate-manager-<region>.json`: imports into the certificate manager of a region, by
/// day.
///
/// The quota is for the last 365 days and counts every import. A deletion gives nothing back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imports {
    version: u32,
    write_id: String,
    /// By day (UTC, `2026-11-22`).
    #[serde(default)]
    days: BTreeMap<String, u32>,
}

impl Record for Imports {
    fn stamp(&mut self, write_id: String) {
        self.version = Self::VERSION;
        self.write_id = write_id;
    }
}

impl Default for Imports {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            write_id: String::new(),
            days: BTreeMap::new(),
        }
    }
}

impl Imports {
    /// Returns the stamp of its last write.
    pub(crate) fn write_id(&self) -> &str {
        &self.write_id
    }

    /// Counts an import, and forgets what is older than a year.
    pub fn count(&mut self, now: OffsetDateTime) {
        let today = date(now);
        // A day in the future comes from a wrong clock.
        let to_come: Vec<String> = self
            .days
            .keys()
            .filter(|day| **day > key(today.saturating_add(Duration::DAY)))
            .cloned()
            .collect();
        let misdated = to_come
            .iter()
            .filter_map(|day| self.days.remove(day))
            .fold(0, u32::saturating_add);
        let counted = self.days.entry(key(today)).or_default();
        *counted = counted.saturating_add(misdated).saturating_add(1);
        let oldest = oldest(now);
        self.days.retain(|day, count| *day >= oldest && *count > 0);
    }

    /// Takes back one import that was counted and then refused.
    pub fn refund(&mut self, now: OffsetDateTime) {
        let today = key(date(now));
        let mut days = self.days.range_mut(..=today).rev();
        if let Some((_, count)) = days.find(|(_, count)| **count > 0) {
            *count -= 1;
        }
    }

    /// Counts the imports of the last 365 days. The day a year ago counts in full.
    pub fn of_a_year(&self, now: OffsetDateTime) -> u32 {
        let days = self.days.range(oldest(now)..);
        days.filter(|(day, _)| parsed(day).is_some())
            .map(|(_, count)| *count)
            .fold(0, u32::saturating_add)
    }

    /// Returns how many more imports are possible now.
    pub fn left(&self, limit: u32, now: OffsetDateTime) -> u32 {
        limit.saturating_sub(self.of_a_year(now))
    }

    /// Returns when the next import is possible, `now` at the earliest.
    pub fn next(&self, limit: u32, now: OffsetDateTime) -> OffsetDateTime {
        let made = self.of_a_year(now);
        let mut to_go = made.saturating_add(1).saturating_sub(limit.max(1));
        if to_go == 0 {
            return now;
        }
        for (day, count) in self.days.range(oldest(now)..) {
            // A key that we did not write counts for no day.
            let Some(day) = parsed(day) else {
                continue;
            };
            to_go = to_go.saturating_sub(*count);
            if to_go == 0 {
                let free = day
                    .saturating_add(YEAR + Duration::DAY)
                    .midnight()
                    .assume_utc();
                return free.clamp(now, now + YEAR + Duration::DAY);
            }
        }
        now + YEAR
    }

    /// Returns why no import is possible now.
    pub fn what_blocks(&self, limit: u32, region: &str, now: OffsetDateTime) -> Option<Blocked> {
        let until = self.next(limit, now);
        (until > now).then(|| Blocked {
            until,
            what: format!(
                "no import into the certificate manager of {region} is left: {limit} per 365 \
                 days, the next is available at {}; ask AWS for a higher quota and raise \
                 limits.importsPerYear in settings.json",
                rfc3339(until)
            ),
            problem: None,
            names: Vec::new(),
        })
    }
}

/// Returns the registered domain of a name, by the public suffix list with its private part
/// (<https://publicsuffix.org/>). A public suffix stands for itself, a wildcard for its base.
pub fn registered_domain(name: &DnsName) -> String {
    let base = base(name.as_str());
    psl::domain_str(base).unwrap_or(base).to_owned()
}

/// Returns the key of a set of names: 12 hex digits of the SHA-256 of the sorted names, one a line.
pub fn set_key(names: &[DnsName]) -> String {
    let mut names: Vec<&str> = names.iter().map(DnsName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    crate::ports::store::digest(names.join("\n").as_bytes())
}

fn remainder(
    kind: LimitKind,
    subject: &str,
    limit: RateLimit,
    bucket: Option<&TokenBucket>,
    now: OffsetDateTime,
) -> Left {
    let next = limit.next(bucket, now);
    Left {
        limit: kind,
        subject: subject.to_owned(),
        left: limit.left(bucket, now),
        of: limit.count,
        seconds: limit.seconds,
        next_at: (next > now).then_some(next),
    }
}

/// Keeps the longer hold.
fn keep_longer(kept: &mut Option<Hold>, hold: Hold) {
    if kept.as_ref().is_none_or(|kept| kept.until < hold.until) {
        *kept = Some(hold);
    }
}

fn base(name: &str) -> &str {
    name.strip_prefix("*.").unwrap_or(name)
}

/// Says a span of time in words that can follow "per".
fn period(seconds: u64) -> String {
    let (unit, word) = [(DAY, "day"), (HOUR, "hour"), (60, "minute")]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit))
        .unwrap_or((1, "second"));
    match seconds / unit {
        1 => word.to_owned(),
        many => format!("{many} {word}s"),
    }
}

fn date(at: OffsetDateTime) -> Date {
    at.to_offset(time::UtcOffset::UTC).date()
}

fn key(day: Date) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

/// Returns the day of a key; `None` if it is not in the form that we write.
fn parsed(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let year = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    let day = Date::from_calendar_date(year, month.try_into().ok()?, day).ok()?;
    (key(day) == text).then_some(day)
}

/// Returns the key of the oldest day that still counts.
fn oldest(now: OffsetDateTime) -> String {
    key(date(now).saturating_sub(YEAR))
}

/// The subject of the one bucket of orders.
const ACCOUNT: &str = "account";
const YEAR: Duration = Duration::days(365);
/// The longest span of a limit, in seconds.
const LONGEST_SPAN: i64 = 366 * 86_400;
/// How long Let's Encrypt remembers a set of names as issued before.
const REMEMBERED: Duration = Duration::days(120);
/// How much clocks may differ. A clock that differs more is wrong.
const CLOCKS_DIFFER: Duration = Duration::HOUR;
/// How many of the limits that block an order are reported.
const MOST_TOLD: usize = 3;
/// How many names describe a set.
const FIRST_NAMES: usize = 2;

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);
    const MINUTE: Duration = Duration::MINUTE;

    fn names(names: &[&str]) -> Vec<DnsName> {
        names
            .iter()
            .map(|name| DnsName::parse(name).unwrap())
            .collect()
    }

    fn limits() -> RateLimits {
        RateLimits::letsencrypt()
    }

    /// Reserves if nothing blocks, as a pass does.
    fn order(
        ledger: &mut Ledger,
        owner: &str,
        wanted: &[&str],
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Result<Reserved, Blocked> {
        let wanted = names(wanted);
        match ledger.what_blocks(&limits(), owner, &wanted, purpose, now) {
            Some(blocked) => Err(blocked),
            None => {
                let id = format!("{owner} at {now}");
                Ok(ledger.reserve(&limits(), owner, id, &wanted, purpose, now))
            }
        }
    }

    /// Returns what is left of a bucket that is not full.
    fn left(ledger: &Ledger, kind: LimitKind, now: OffsetDateTime) -> Option<u32> {
        let told = ledger.left(&limits(), now);
        let of_kind = told.iter().find(|left| left.limit == kind);
        of_kind.map(|left| left.left)
    }

    fn hold(until: OffsetDateTime) -> Hold {
        let problem = Problem::ours(ProblemType::Limit, "too many");
        Hold { until, problem }
    }

    #[test]
    fn a_bucket_fills_evenly() {
        let limit = RateLimit {
            count: 5,
            seconds: 3_600,
        };
        let ahead = |minutes: i64| TokenBucket {
            full_at: START + MINUTE * minutes as i32,
            about: None,
        };
        for (why, bucket, left, next) in [
            ("never used", None, 5, 0),
            ("full again", Some(ahead(-1)), 5, 0),
            ("one taken", Some(ahead(12)), 4, 0),
            ("one taken and nearly back", Some(ahead(1)), 4, 0),
            ("one is left", Some(ahead(48)), 1, 0),
            ("half a token is none", Some(ahead(54)), 0, 6),
            ("empty", Some(ahead(60)), 0, 12),
            (
                "a clock that is a little ahead is believed",
                Some(ahead(90)),
                0,
                42,
            ),
            (
                "a wrong clock's instant means empty but for one",
                Some(ahead(100_000)),
                1,
                0,
            ),
        ] {
            let bucket = bucket.as_ref();
            assert_eq!(limit.left(bucket, START), left, "{why}");
            let next = START + MINUTE * next;
            assert_eq!(limit.next(bucket, START), next, "{why}");
        }
    }

    #[test]
    fn five_of_a_set_then_one_per_34_hours() {
        let mut ledger = Ledger::default();
        for attempt in 0..5 {
            let now = START + MINUTE * attempt;
            let reserved = order(&mut ledger, "shop", &["a.example"], Purpose::New, now).unwrap();
            ledger.settle(&reserved, OrderFate::Issued, now);
        }
        let now = START + MINUTE * 5;
        let blocked = order(&mut ledger, "shop", &["a.example"], Purpose::New, now).unwrap_err();
        assert_eq!(
            blocked.what,
            "no certificate is left for exactly these names: 5 per 7 days, the next is available \
             at 2026-11-23T21:36:00Z"
        );
        assert_eq!(blocked.problem, None);
        assert_eq!(blocked.until, datetime!(2026-11-23 21:36 UTC));
        let other = order(&mut ledger, "blog", &["b.a.example"], Purpose::New, now);
        assert!(other.is_ok(), "another set under the same domain");
        let order = order(
            &mut ledger,
            "shop",
            &["a.example"],
            Purpose::New,
            blocked.until,
        );
        assert!(order.is_ok(), "exactly then");
    }

    #[test]
    fn exemptions_are_lets_encrypts() {
        let worn_out = || {
            let mut ledger = Ledger::default();
            let empty = |limit: Option<RateLimit>| TokenBucket {
                full_at: START + limit.unwrap().span(),
                about: None,
            };
            let wanted = names(&["a.example"]);
            for demand in limits().demands(&wanted, Purpose::New) {
                let bucket = empty(Some(demand.limit));
                let buckets = ledger.buckets.entry(demand.kind).or_default();
                buckets.insert(demand.subject, bucket);
            }
            ledger
        };
        let replacement = Purpose::Replacement { same_set: true };
        use LimitKind::*;
        let all = [
            OrdersPerAccount,
            CertificatesPerDomain,
            CertificatesPerNameSet,
            FailedValidationsPerName,
        ];
        for (purpose, emptied, passes) in [
            (Purpose::New, OrdersPerAccount, false),
            (Purpose::New, CertificatesPerDomain, false),
            (Purpose::New, CertificatesPerNameSet, false),
            (Purpose::New, FailedValidationsPerName, false),
            (Purpose::SameSet, OrdersPerAccount, true),
            (Purpose::SameSet, CertificatesPerDomain, true),
            (Purpose::SameSet, CertificatesPerNameSet, false),
            (Purpose::SameSet, FailedValidationsPerName, false),
            (replacement, OrdersPerAccount, true),
            (replacement, CertificatesPerDomain, true),
            (replacement, CertificatesPerNameSet, true),
            (replacement, FailedValidationsPerName, true),
        ] {
            let mut ledger = worn_out();
            ledger.buckets.retain(|kind, _| *kind == emptied);
            let order = order(&mut ledger, "shop", &["a.example"], purpose, START);
            assert_eq!(order.is_ok(), passes, "{purpose:?} {emptied:?}");
        }
        for (purpose, counted) in [
            (Purpose::New, &all[..]),
            (
                Purpose::SameSet,
                &[CertificatesPerNameSet, FailedValidationsPerName],
            ),
            (
                replacement,
                &[CertificatesPerNameSet, FailedValidationsPerName],
            ),
            (
                Purpose::Replacement { same_set: false },
                &[
                    CertificatesPerDomain,
                    CertificatesPerNameSet,
                    FailedValidationsPerName,
                ],
            ),
        ] {
            let mut ledger = Ledger::default();
            order(&mut ledger, "shop", &["a.example"], purpose, START).unwrap();
            let kinds: Vec<LimitKind> = ledger.buckets.keys().copied().collect();
            assert_eq!(kinds, counted, "{purpose:?}");
        }
    }

    #[test]
    fn what_is_only_counted_is_not_counted_below_nothing() {
        let mut ledger = Ledger::default();
        let replacement = Purpose::Replacement { same_set: true };
        for attempt in 0..7 {
            let owner = format!("shop-{attempt}");
            let reserved = order(&mut ledger, &owner, &["a.example"], replacement, START).unwrap();
            ledger.settle(&reserved, OrderFate::Issued, START);
        }
        let blocked = order(&mut ledger, "shop", &["a.example"], Purpose::SameSet, START);
        assert_eq!(
            blocked.unwrap_err().until,
            START + Duration::days(7) / 5,
            "one token later"
        );
    }

    #[test]
    fn what_was_not_counted_comes_back() {
        use LimitKind::*;
        let failed = ["b.example".to_owned()];
        let wanted = &["a.example", "b.example"][..];
        // What is left of: orders (of 300), a registered domain (of 50), the set (of 5), a.example
        // and b.example (of 5).
        for (why, outcome, expected) in [
            (
                "refused before it was counted",
                OrderFate::NeverMade { counted: false },
                [300, 50, 5, 5, 5],
            ),
            (
                "nobody heard whether it was made",
                OrderFate::NeverMade { counted: true },
                [299, 50, 5, 5, 5],
            ),
            ("issued", OrderFate::Issued, [299, 49, 4, 5, 5]),
            (
                "one name failed",
                OrderFate::Ended { failed: &failed },
                [299, 50, 5, 5, 4],
            ),
            (
                "it ran out",
                OrderFate::Ended { failed: &[] },
                [299, 50, 5, 5, 5],
            ),
            ("who knows", OrderFate::Unknown, [299, 49, 4, 4, 4]),
        ] {
            let mut ledger = Ledger::default();
            let reserved = order(&mut ledger, "shop", wanted, Purpose::New, START).unwrap();
            let now = START + Duration::SECOND;
            ledger.settle(&reserved, outcome, now);
            ledger.settle(&reserved, outcome, now);
            assert!(!ledger.is_open(&reserved), "{why}");
            let of = |kind: LimitKind, subject: &str| {
                let bucket = ledger.buckets.get(&kind).and_then(|of| of.get(subject));
                limits().of(kind).unwrap().left(bucket, now)
            };
            let found = [
                of(OrdersPerAccount, "account"),
                of(CertificatesPerDomain, "a.example"),
                of(CertificatesPerNameSet, &set_key(&names(wanted))),
                of(FailedValidationsPerName, "a.example"),
                of(FailedValidationsPerName, "b.example"),
            ];
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn what_came_back_by_itself_does_not_come_back_twice() {
        let mut ledger = Ledger::default();
        let first = order(&mut ledger, "one", &["a.example"], Purpose::New, START).unwrap();
        // The token of the first is back after 12 minutes. Then the second takes another.
        let later = START + MINUTE * 12;
        let second = order(&mut ledger, "two", &["a.example"], Purpose::New, later).unwrap();
        ledger.settle(&first, OrderFate::Ended { failed: &[] }, later);
        let kind = LimitKind::FailedValidationsPerName;
        assert_eq!(left(&ledger, kind, later), Some(4));
        ledger.settle(&second, OrderFate::Ended { failed: &[] }, later);
        assert_eq!(left(&ledger, kind, later), None);
    }

    #[test]
    fn a_certificate_counts_from_its_issuance() {
        let mut ledger = Ledger::default();
        let reserved = order(&mut ledger, "shop", &["a.example"], Purpose::New, START).unwrap();
        let issued = START + Duration::days(2);
        ledger.tidy(&limits(), issued);
        ledger.settle(&reserved, OrderFate::Issued, issued);
        let kind = LimitKind::CertificatesPerNameSet;
        assert_eq!(left(&ledger, kind, issued + Duration::days(1)), Some(4));
        assert_eq!(left(&ledger, kind, issued + Duration::days(2)), None);
    }

    #[test]
    fn an_order_nobody_heard_of_again_is_given_up() {
        let mut ledger = Ledger::default();
        for _ in 0..20 {
            order(&mut ledger, "shop", &["a.example"], Purpose::New, START).unwrap();
        }
        assert_eq!(
            left(&ledger, LimitKind::CertificatesPerNameSet, START),
            Some(4)
        );
        assert_eq!(left(&ledger, LimitKind::OrdersPerAccount, START), Some(280));
        // An order that reappears does not change what its successor took.
        let mut dead = order(&mut ledger, "shop", &["a.example"], Purpose::New, START).unwrap();
        dead.id = "dead".to_owned();
        ledger.settle(&dead, OrderFate::NeverMade { counted: false }, START);
        assert_eq!(
            left(&ledger, LimitKind::CertificatesPerNameSet, START),
            Some(4)
        );
    }

    #[test]
    fn wrong_clocks_are_set_right() {
        let mut ledger = Ledger::default();
        let ahead = START + Duration::days(3_650);
        order(&mut ledger, "shop", &["a.example"], Purpose::New, ahead).unwrap();
        // The one assumed token corrects the instants.
        order(&mut ledger, "blog", &["a.example"], Purpose::New, START).unwrap();
        assert!(!ledger.tidy(&limits(), START));
        let blocked = order(&mut ledger, "news", &["a.example"], Purpose::New, START);
        assert_eq!(
            blocked.unwrap_err().until,
            START + Duration::days(7) / 5,
            "counted as empty"
        );
        let later = START + Duration::days(7) / 5;
        assert!(order(&mut ledger, "blog", &["a.example"], Purpose::New, later).is_ok());
    }

    #[test]
    fn holds_hold_what_they_are_about() {
        let until = START + Duration::HOUR;
        let about = names(&["www.a.example"]);
        let all: fn(&mut Ledger, &[DnsName], Hold) = |ledger, _, hold| ledger.hold(hold);
        let name: fn(&mut Ledger, &[DnsName], Hold) =
            |ledger, names, hold| ledger.hold_names(names, &hold);
        let domain: fn(&mut Ledger, &[DnsName], Hold) =
            |ledger, names, hold| ledger.hold_domains(names, &hold);
        for (why, set, wanted, words) in [
            ("all", all, "b.example", Some("")),
            ("a name", name, "www.a.example", Some(" for www.a.example")),
            ("its neighbour", name, "a.example", None),
            (
                "a domain",
                domain,
                "x.y.a.example",
                Some(" under a.example"),
            ),
            ("another domain", domain, "b.example", None),
        ] {
            for limits in [RateLimits::default(), limits()] {
                let mut ledger = Ledger::default();
                set(&mut ledger, &about, hold(until));
                // A later but shorter hold changes nothing.
                set(&mut ledger, &about, hold(until - MINUTE));
                let wanted = names(&[wanted]);
                let blocked = ledger.what_blocks(&limits, "shop", &wanted, Purpose::New, START);
                let expected = words.map(|about| {
                    format!("the authority accepts no order{about} before 2026-11-22T13:00:00Z")
                });
                let what = blocked.as_ref().map(|blocked| blocked.what.clone());
                assert_eq!(what, expected, "{why}");
                if let Some(blocked) = blocked {
                    assert_eq!(blocked.until, until, "{why}");
                    assert_eq!(blocked.problem.unwrap().detail, "too many", "{why}");
                }
                let past = ledger.what_blocks(&limits, "shop", &wanted, Purpose::New, until);
                assert_eq!(past, None, "{why}");
                // A hold on a domain does not block renewals. A hold on a name or on all orders
                // does.
                let renewal = ledger.what_blocks(&limits, "shop", &wanted, Purpose::SameSet, START);
                let is_held = words.is_some_and(|about| !about.starts_with(" under"));
                assert_eq!(renewal.is_some(), is_held, "{why}");
                ledger.tidy(&limits, until + Duration::hours(2));
                assert!(
                    ledger.hold.is_none() && ledger.names.is_empty() && ledger.domains.is_empty()
                );
            }
        }
    }

    #[test]
    fn several_limits_in_the_way_are_told_longest_first() {
        let mut ledger = Ledger::default();
        let many: Vec<String> = (0..6).map(|n| format!("n{n}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for owner in 0..5 {
            let owner = format!("shop-{owner}");
            order(&mut ledger, &owner, &many, Purpose::New, START).unwrap();
        }
        let blocked = order(&mut ledger, "shop", &many, Purpose::New, START).unwrap_err();
        assert_eq!(
            blocked.what,
            "no certificate is left for exactly these names: 5 per 7 days, \
             the next is available at 2026-11-23T21:36:00Z; \
             no failed validation is left for n0.example: 5 per hour, \
             the next is available at 2026-11-22T12:12:00Z; \
             no failed validation is left for n1.example: 5 per hour, \
             the next is available at 2026-11-22T12:12:00Z; \
             and 4 more"
        );
        assert_eq!(blocked.until, START + Duration::days(7) / 5);
    }

    #[test]
    fn what_is_left_is_told() {
        let mut ledger = Ledger::default();
        let wanted = names(&["shop.example.com", "www.shop.example.com", "x.example.com"]);
        let reserved = ledger.reserve(
            &limits(),
            "shop",
            "id".to_owned(),
            &wanted,
            Purpose::New,
            START,
        );
        ledger.settle(&reserved, OrderFate::Issued, START);
        let told = |left: Vec<Left>| {
            let told = left.into_iter().map(|left| {
                let Left {
                    subject,
                    left,
                    of,
                    seconds,
                    ..
                } = left;
                (subject, left, of, seconds)
            });
            told.collect::<Vec<_>>()
        };
        let set = "shop.example.com, www.shop.example.com and 1 more".to_owned();
        assert_eq!(
            told(ledger.left(&limits(), START)),
            [
                ("account".to_owned(), 299, 300, 10_800),
                ("example.com".to_owned(), 49, 50, 604_800),
                (set.clone(), 4, 5, 604_800),
            ]
        );
        assert_eq!(
            told(ledger.costs(&limits(), &wanted, Purpose::SameSet, START)),
            [(set, 4, 5, 604_800)]
        );
        let json = serde_json::to_value(&ledger.left(&limits(), START)[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "limit": "ordersPerAccount",
                "subject": "account",
                "left": 299,
                "of": 300,
                "seconds": 10_800,
                "nextAt": null
            })
        );
        let week = START + Duration::days(7);
        assert_eq!(ledger.left(&limits(), week), []);
        assert_eq!(ledger.left(&RateLimits::default(), START), []);
    }

    #[test]
    fn a_ledger_travels_as_json() {
        let mut ledger = Ledger::default();
        order(
            &mut ledger,
            "shop",
            &["a.example", "*.b.example"],
            Purpose::New,
            START,
        )
        .unwrap();
        ledger.hold(hold(START + MINUTE));
        ledger.hold_names(&names(&["a.example"]), &hold(START + MINUTE));
        let json = serde_json::to_vec(&ledger).unwrap();
        let read: Ledger = crate::ports::store::parse_record("limits/x.json", &json).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), json);
        let empty: Ledger =
            crate::ports::store::parse_record("limits/x.json", br#"{"version": 1, "writeId": ""}"#)
                .unwrap();
        assert!(empty.buckets.is_empty());
    }

    #[test]
    fn a_registered_domain_is_one_label_above_a_public_suffix() {
        for (name, domain) in [
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("*.example.com", "example.com"),
            ("a.b.co.uk", "b.co.uk"),
            ("co.uk", "co.uk"),
            ("a.b.github.io", "b.github.io"),
            ("github.io", "github.io"),
            ("*.github.io", "github.io"),
            ("www.city.kawasaki.jp", "city.kawasaki.jp"),
            ("x.y.kawasaki.jp", "x.y.kawasaki.jp"),
            ("www.食狮.公司.cn", "xn--85x722f.xn--55qx5d.cn"),
            ("a.b.example", "b.example"),
            ("pebble.internal", "pebble.internal"),
        ] {
            let parsed = DnsName::parse(name).unwrap();
            assert_eq!(registered_domain(&parsed), domain, "{name}");
        }
    }

    #[test]
    fn a_set_of_names_has_no_order() {
        let key = set_key(&names(&["a.example", "b.example"]));
        assert_eq!(
            key,
            set_key(&names(&["b.example", "A.example", "a.example"]))
        );
        assert_ne!(key, set_key(&names(&["a.example"])));
        assert_eq!(key.len(), 12);
    }

    #[test]
    fn what_a_record_says_is_never_too_much() {
        let day = START.date();
        let written =
            serde_json::json!({"version": 1, "writeId": "", "days": {key(day): u32::MAX}});
        let imports: Imports = serde_json::from_value(written).unwrap();
        assert_eq!(imports.left(5, START), 0);
        assert!(imports.next(5, START) > START);

        let last = datetime!(9999-12-31 23:59:59 UTC);
        let mut ledger = Ledger::default();
        let bucket = TokenBucket {
            full_at: last,
            about: None,
        };
        let buckets = BTreeMap::from([("account".to_owned(), bucket)]);
        ledger.buckets.insert(LimitKind::OrdersPerAccount, buckets);
        let problem = Problem::ours(ProblemType::Limit, "");
        ledger.hold = Some(Hold {
            until: last,
            problem,
        });
        ledger.tidy(&RateLimits::letsencrypt(), START);
        assert!(ledger.hold.is_none());
    }

    #[test]
    fn imports_are_counted_for_a_rolling_year() {
        let mut imports = Imports::default();
        let day = Duration::DAY;
        for (count, at) in [(2, START), (1, START + day * 20), (2, START + day * 300)] {
            (0..count).for_each(|_| imports.count(at));
        }
        let midnight = datetime!(2026-11-22 0:00 UTC);
        for (why, at, made, next) in [
            ("in the year", START + day * 300, 5, midnight + day * 366),
            (
                "a day of a year ago counts whole",
                START + day * 365,
                5,
                midnight + day * 366,
            ),
            (
                "then it is gone",
                midnight + day * 366,
                3,
                midnight + day * 366,
            ),
            (
                "the next day that goes",
                START + day * 386,
                2,
                START + day * 386,
            ),
        ] {
            assert_eq!(imports.of_a_year(at), made, "{why}");
            assert_eq!(imports.left(5, at), 5 - made, "{why}");
            assert_eq!(imports.next(5, at), next, "{why}");
        }
        let at = START + day * 300;
        assert_eq!(imports.next(2, at), midnight + day * (300 + 366), "lowered");
        assert!(imports.what_blocks(6, "eu-central-1", at).is_none());
        assert_eq!(
            imports.what_blocks(5, "eu-central-1", at).unwrap().what,
            "no import into the certificate manager of eu-central-1 is left: 5 per 365 days, the \
             next is available at 2027-11-23T00:00:00Z; ask AWS for a higher quota and raise \
             limits.importsPerYear in settings.json"
        );
        imports.refund(at);
        assert_eq!(imports.of_a_year(at), 4);
        imports.refund(at + day);
        assert_eq!(imports.of_a_year(at), 3, "refused after midnight");
        imports.count(at + day * 300);
        assert_eq!(imports.days.len(), 1, "a year is kept");
    }

    #[test]
    fn imports_of_a_wrong_clock_are_counted_today() {
        let mut imports = Imports::default();
        imports.count(START + Duration::days(3_650));
        imports.count(START);
        assert_eq!(imports.days, BTreeMap::from([("2026-11-22".to_owned(), 2)]));
    }

    #[test]
    fn a_day_that_nobody_wrote_so_is_not_counted() {
        let mut imports = Imports::default();
        imports.days.insert("21-9-2".to_owned(), 4_999);
        assert_eq!((imports.left(1, START), imports.next(1, START)), (1, START));
        // Nor does it free a place: both imports must be a year old.
        imports.count(START - Duration::days(2));
        imports.count(START);
        let next = imports.next(1, START);
        imports.days.insert("2026-1-1".to_owned(), 2);
        assert_eq!(imports.next(1, START), next);
    }
}
