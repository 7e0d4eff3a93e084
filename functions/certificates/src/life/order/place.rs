//! Makes an order within the authority's limits, and decides what a refusal means for other orders.

use std::time::Duration;

use time::OffsetDateTime;

use crate::contract::settings::Authority;
use crate::life::order::route::{OrderRoute, purpose, warn_uncounted};
use crate::life::work::Work;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::authority::{Account, Order};
use crate::records::ledger::Reserved;
use crate::records::order::{OrderRecord, Stage};
use crate::rules::ledger::{Blocked, OrderFate, registered_domain};
use crate::rules::order_names::{self, FailedName};
use crate::values::instant::whole_seconds;
use crate::values::names::DnsName;
use crate::values::problem::{self, AcmeError, Problem, of_account};
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Makes an order within the authority's limits. Where possible, it replaces the certificate
    /// held.
    pub(crate) async fn place<A: Account>(
        &mut self,
        route: &OrderRoute<'_>,
        account: &A,
        reason: &str,
    ) -> Result<A::Order, Stop> {
        let OrderRoute {
            authority,
            is_rehearsal,
        } = *route;
        let profile = self.profile_at(route, account)?;
        let held = self.state.certificate.as_ref().filter(|_| !is_rehearsal);
        let now = self.cycle.clock.now();
        let replaces = held
            .and_then(|held| held.replaceable(&self.wanted, &authority.directory, now))
            .map(str::to_owned);
        let asked = Asked {
            names: order_names::names_now(&self.wanted, &self.state, now),
            profile,
        };
        self.check_caa(authority, &asked.names).await?;
        let (order, reserved) = self
            .make_order(authority, account, &asked, replaces)
            .await?;
        if asked.profile != self.wanted.profile {
            let why = format!("{} does not offer the profile", authority.key);
            self.note("without profile", why);
        }
        self.state.orders.current = Some(OrderRecord {
            authority: authority.key.clone(),
            directory: authority.directory.clone(),
            profile: self.wanted.profile.clone(),
            domains: asked.names,
            key_type: self.wanted.key_type,
            url: order.url().to_owned(),
            stage: Stage::Ordered,
            reason: reason.to_owned(),
            ordered_at: Some(whole_seconds(self.cycle.clock.now())),
            unreachable_once: false,
            not_before: None,
            reserved,
            rehearsal: is_rehearsal,
        });
        let step = match is_rehearsal {
            true => "rehearsing",
            false => "ordered",
        };
        self.note(step, order.url());
        self.save().await?;
        if order.ignores_replaces() {
            self.count_as_ordinary(authority).await?;
        }
        Ok(order)
    }

    /// Books that the order replaces no certificate: the limits count it like any other. It exists,
    /// so a limit that allows no more holds only the next one.
    async fn count_as_ordinary(&mut self, authority: &Authority) -> Result<(), Stop> {
        self.refuse_replaces(true);
        self.note("replaces ignored", "the order is one like any other");
        let Some(order) = &self.state.orders.current else {
            return Ok(());
        };
        if !order.reserved.is_empty() {
            let (names, before) = (order.domains.clone(), order.reserved.clone());
            if let Ok(ordinary) = self.reserve(authority, &names, false).await {
                let fate = OrderFate::NeverMade { counted: false };
                let (key, directory) = (&authority.key, &authority.directory);
                let ledgers = &self.cycle.ledgers;
                ledgers.settle(key, directory, &before, fate).await?;
                if let Some(order) = &mut self.state.orders.current {
                    order.reserved = ordinary;
                }
            }
        }
        self.save().await
    }

    /// Returns the profile to order there. A profile belongs to the preferred authority; another
    /// authority issues without it.
    fn profile_at<A: Account>(
        &self,
        route: &OrderRoute<'_>,
        account: &A,
    ) -> Result<Option<String>, Problem> {
        let authority = route.authority;
        let offered = account.profiles();
        let wanted = self.wanted.profile.clone();
        let unknown = wanted.as_ref().filter(|profile| !offered.contains(profile));
        let Some(profile) = unknown else {
            return Ok(wanted);
        };
        if route.is_rehearsal || self.wanted.authorities.first() != Some(&authority.key) {
            return Ok(None);
        }
        let known = if offered.is_empty() {
            "no profiles".to_owned()
        } else {
            offered.join(", ")
        };
        let detail = format!(
            "profile: {} does not offer {profile:?}; it offers {known}",
            authority.directory
        );
        Err(Problem::ours(ProblemType::Profile, detail))
    }

    /// Makes an order within the authority's limits. If the authority refuses the reference to the
    /// certificate that it replaces, one more attempt is made without that.
    async fn make_order<A: Account>(
        &mut self,
        authority: &Authority,
        account: &A,
        asked: &Asked,
        replaces: Option<String>,
    ) -> Result<(A::Order, Reserved), Stop> {
        let mut reserved = self
            .reserve(authority, &asked.names, replaces.is_some())
            .await?;
        let mut made = self
            .ask_for_order(account, asked, replaces.as_deref())
            .await;
        if let (Some(predecessor), Err(refusal)) = (&replaces, &made)
            && refusal.may_be_about_replaces()
        {
            let why = format!("{predecessor}: {}; ordered without it", refusal.detail);
            self.release_reservation(authority, &reserved, refusal)
                .await?;
            let kind = refusal.kind.clone();
            self.refuse_replaces(refusal.status != Some(500));
            self.note("replaces refused", why);
            // Now the limits count it like any other order.
            reserved = self.reserve(authority, &asked.names, false).await?;
            made = self.ask_for_order(account, asked, None).await;
            // The same answer without it: the refusal was about something else.
            self.refuse_replaces(match &made {
                Ok(_) => true,
                Err(refusal) => refusal.kind != kind,
            });
        }
        match made {
            Ok(order) => Ok((order, reserved)),
            Err(refusal) => {
                self.release_reservation(authority, &reserved, &refusal)
                    .await?;
                Err(self.refused(authority, &asked.names, refusal).await)
            }
        }
    }

    fn refuse_replaces(&mut self, refused: bool) {
        if let Some(held) = &mut self.state.certificate {
            held.renewal.replaces_refused = refused;
        }
    }

    async fn ask_for_order<A: Account>(
        &self,
        account: &A,
        asked: &Asked,
        replaces: Option<&str>,
    ) -> Result<A::Order, AcmeError> {
        let profile = asked.profile.as_deref();
        self.within_time(account.new_order(&asked.names, profile, replaces))
            .await
    }

    /// Refuses early when CAA records clearly forbid the authority, so that we don't spend a failed
    /// validation. An undecidable record is left to the authority.
    async fn check_caa(&self, authority: &Authority, names: &[DnsName]) -> Result<(), Stop> {
        match self.caa_against(authority, names).await? {
            Some(failing) => Err(Stop::Failed(failing)),
            None => Ok(()),
        }
    }

    /// Returns which CAA records of these names clearly forbid the authority, or `None`.
    pub(crate) async fn caa_against(
        &self,
        authority: &Authority,
        names: &[DnsName],
    ) -> Result<Option<Failing>, Stop> {
        let account = self.cycle.accounts.opened(authority).await?.url;
        let forbidden = self
            .cycle
            .outlook
            .forbidden_by_caa(authority, Some(&account), names)
            .await;
        if forbidden.is_empty() {
            return Ok(None);
        }
        let words: Vec<String> = (forbidden.iter())
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        let failed_name = |(name, why): (DnsName, String)| FailedName {
            name,
            problem: Problem::ours(ProblemType::CaaForbids, why),
            not_before: None,
        };
        Ok(Some(Failing {
            failed_names: forbidden.into_iter().map(failed_name).collect(),
            ..Failing::from(Problem::ours(ProblemType::CaaForbids, words.join("; ")))
        }))
    }

    /// Takes what the order costs from the authority's limits, or says until when it has to wait.
    async fn reserve(
        &self,
        authority: &Authority,
        names: &[DnsName],
        as_successor: bool,
    ) -> Result<Reserved, Stop> {
        let held = self.state.certificate.as_ref();
        let purpose = purpose(self.cycle, names, held, &authority.directory, as_successor);
        let reserved = self
            .cycle
            .ledgers
            .reserve(authority, &self.wanted.name, names, purpose)
            .await;
        match reserved {
            // Failed bookkeeping does not delay the renewal of a certificate that is about to end.
            Err(Stop::Failed(failing))
                if held.is_some_and(|held| held.cannot_wait(self.cycle.clock.now())) =>
            {
                warn_uncounted(authority, &failing.problem);
                Ok(Reserved::default())
            }
            reserved => reserved?.map_err(|blocked| self.blocked(names, blocked)),
        }
    }

    /// A limit for single names is a failure of these names only, if an order can go without them.
    fn blocked(&self, names: &[DnsName], blocked: Blocked) -> Stop {
        let now = self.cycle.clock.now();
        let those = &blocked.names;
        if !order_names::can_go_without(those, names, &self.wanted, &self.state, now) {
            return blocked.into();
        }
        let failed_name = |name: &DnsName| FailedName {
            name: name.clone(),
            problem: blocked.problem(),
            not_before: Some(blocked.until),
        };
        Stop::Failed(Failing {
            not_before: Some(blocked.until),
            failed_names: those.iter().map(failed_name).collect(),
            ..Failing::from(blocked.problem())
        })
    }

    /// Books that the authority made no order.
    async fn release_reservation(
        &self,
        authority: &Authority,
        reserved: &Reserved,
        refusal: &AcmeError,
    ) -> Result<(), Stop> {
        let counted = refusal.status.is_none_or(|status| status >= 500);
        let outcome = OrderFate::NeverMade { counted };
        self.cycle
            .ledgers
            .settle(&authority.key, &authority.directory, reserved, outcome)
            .await
    }

    /// A new order was refused. If the authority says something about a name, that name is held,
    /// also for other certificates. A limit without a name holds all orders at this authority.
    async fn refused(
        &mut self,
        authority: &Authority,
        names: &[DnsName],
        refusal: AcmeError,
    ) -> Stop {
        let refusal = of_account(refusal);
        let problem = refusal.problem();
        let paused = problem::is_paused(&refusal);
        let named = said_of(names, |name| mentions(&refusal.detail, name.as_str()));
        let until = match refusal.retry_after {
            Some(until) => Some(until),
            None => paused.then(|| self.cycle.clock.now() + A_DAY),
        };
        let is_limit = refusal.word() == "rateLimited" || matches!(refusal.status, Some(429 | 503));
        if let Some(until) = until.filter(|_| paused || is_limit) {
            self.hold(authority, names, &named, &refusal, until).await;
        }
        let failed_name = |name: &DnsName| FailedName {
            name: name.clone(),
            problem: problem.clone(),
            not_before: until,
        };
        Stop::Failed(Failing {
            failed_names: named.iter().map(failed_name).collect(),
            not_before: refusal.retry_after,
            identifiers: named.iter().map(ToString::to_string).collect(),
            paused,
            unavailable: named.is_empty() && problem::is_unavailable(&refusal),
            problem,
        })
    }

    /// Sets a hold on the subject of a refusal until then; `named`: those of the names that it
    /// mentions.
    async fn hold(
        &self,
        authority: &Authority,
        names: &[DnsName],
        named: &[DnsName],
        refusal: &AcmeError,
        until: OffsetDateTime,
    ) {
        let (ledgers, problem) = (&self.cycle.ledgers, refusal.problem());
        let detail = &refusal.detail;
        let under = said_of(names, |name| mentions(detail, &registered_domain(name)));
        if problem::is_paused(refusal) {
            let names = match named.is_empty() {
                true => names,
                false => named,
            };
            ledgers.hold_names(authority, names, until, problem).await;
        } else if detail.contains("exact set of") {
            // Nobody else orders these names; the certificate's own failure remembers it.
        } else if !under.is_empty() && detail.contains("certificates") {
            ledgers
                .hold_domains(authority, &under, until, problem)
                .await;
        } else if !named.is_empty() {
            ledgers.hold_names(authority, named, until, problem).await;
        } else {
            ledgers.hold_authority(authority, until, problem).await;
        }
    }
}

/// Returns the names for which `is_said` is true.
fn said_of(names: &[DnsName], is_said: impl Fn(&DnsName) -> bool) -> Vec<DnsName> {
    names.iter().filter(|name| is_said(name)).cloned().collect()
}

/// What an order asks for.
struct Asked {
    names: Vec<DnsName>,
    profile: Option<String>,
}

/// Whether a text contains this name, and not only as a part of a longer one.
fn mentions(text: &str, name: &str) -> bool {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    text.split(|c: char| !is_of_a_name(c) && c != '*')
        .any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
}

/// A paused name is tried again after this time.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mentioned_as_a_whole_word() {
        let said = "too many certificates already issued for \"Example.com\": \
                    *.a.example.com, see https://ca.example.org/limits.";
        for (name, mentioned) in [
            ("example.com", true),
            ("*.a.example.com", true),
            ("a.example.com", false),
            ("ample.com", false),
            ("example.co", false),
        ] {
            assert_eq!(mentions(said, name), mentioned, "{name}");
        }
    }
}
