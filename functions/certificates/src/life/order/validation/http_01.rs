//! The http-01 challenge (RFC 8555 section 8.3): a file in the bucket, which the challenge function
//! serves from port 80 of the name.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::challenge::{OBJECT_PREFIX, Token};
use crate::contract::settings::CheckMode;
use crate::life::work::Work;
use crate::pass::preflight;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::authority::Authorization;
use crate::ports::probe::Fetched;
use crate::ports::store::{Condition, Store};
use crate::records::state::{AskedFor, Leftovers};
use crate::rules::order_names::FailedName;
use crate::values::names::DnsName;
use crate::values::problem::{AcmeError, Problem};
use crate::values::problem_types::ProblemType;

/// A file that an authority will read from a name's host.
pub(crate) struct File {
    pub(super) name: DnsName,
    token: Token,
    /// The content that it reads. A secret until the challenge is final: no `Debug`.
    key_authorization: String,
}

impl File {
    pub(super) fn of(name: DnsName, authorization: Authorization) -> Result<Self, Problem> {
        let Some(challenge) = authorization.http01 else {
            let detail = format!(
                "the authority offers no http-01 challenge for {name}; \
                 certloop does not support other validations yet"
            );
            return Err(Problem::ours(ProblemType::NoChallenge, detail));
        };
        let token = challenge.token.parse().map_err(|_| {
            Problem::ours(
                ProblemType::Protocol,
                format!("the token for {name} is not base64url (RFC 8555 section 8.3)"),
            )
        })?;
        Ok(Self {
            name,
            token,
            key_authorization: challenge.key_authorization,
        })
    }

    pub(super) fn remember(&self, leftovers: &mut Leftovers) {
        leftovers.tokens.insert(self.token.to_string());
    }
}

/// The failures of our own fetches, each with its reason.
#[derive(Default)]
struct Met<'f> {
    wrong: Vec<(&'f DnsName, String)>,
    unreachable: Vec<(&'f DnsName, String)>,
}

impl<P: Ports> Work<'_, '_, P> {
    pub(super) async fn put_files(&self, files: &[&File]) -> Result<(), Stop> {
        let store = self.cycle.ports.store();
        let puts = files.iter().map(|file| async move {
            let body = file.key_authorization.clone().into_bytes();
            store
                .write(&file.token.object_key(), body, Condition::None)
                .await
        });
        futures_util::future::try_join_all(puts).await?;
        Ok(())
    }

    /// Rule 9: no challenge is answered before our own fetch of it succeeded.
    pub(super) async fn fetch_files(&mut self, files: &[&File]) -> Result<(), Stop> {
        if self.cycle.settings.self_check.mode == CheckMode::Off {
            return Ok(());
        }
        let limit = self.time_for("the self-check", SELF_CHECK, SELF_CHECK)?;
        let Met { wrong, unreachable } = self.fetch_all(files, limit).await;
        if !wrong.is_empty() {
            let detail = format!(
                "our own fetch of the challenge got something else; \
                 check the port-80 rule for /.well-known/acme-challenge/*: {}",
                listed(&wrong)
            );
            return self.self_check_failed(ProblemType::SelfCheck, detail, &wrong);
        }
        if !unreachable.is_empty() {
            return self.not_reached(&unreachable);
        }
        preflight::checked(&mut self.state, self.cycle.clock.now());
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        self.note("fetched", names.join(", "));
        Ok(())
    }

    async fn fetch_all<'f>(&self, files: &[&'f File], limit: Duration) -> Met<'f> {
        let connect_to = self.cycle.settings.self_check.connect_to.as_deref();
        let ports = self.cycle.ports;
        let fetches = files.iter().map(|file| async move {
            let (name, token) = (&file.name, file.token.to_string());
            let expected = &file.key_authorization;
            let fetched = ports.fetch(name, &token, expected, connect_to, limit);
            (name, fetched.await)
        });
        // A name's host may be a function of few environments, which refuses more at once.
        let mut fetches = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE);
        let mut met = Met::default();
        while let Some((name, fetched)) = fetches.next().await {
            match fetched {
                Fetched::Right => {}
                Fetched::Wrong(why) => met.wrong.push((name, why)),
                Fetched::Unreachable(why) => met.unreachable.push((name, why)),
            }
        }
        met
    }

    /// Stops once where no host answered: the whole order, or only the names concerned.
    fn not_reached(&mut self, unreachable: &[(&DnsName, String)]) -> Result<(), Stop> {
        let detail = format!(
            "our own fetch of the challenge could not connect on port 80: {}",
            listed(unreachable)
        );
        let blocked_before = (self.state.orders.current.as_ref())
            .is_some_and(|order| order.unreachable_once)
            || (unreachable.iter()).all(|(name, _)| self.state.orders.missing.contains_key(*name));
        if blocked_before {
            self.note(
                "self-check",
                format!("{detail}; the challenge was answered after one wait nevertheless"),
            );
            return Ok(());
        }
        if let Some(order) = &mut self.state.orders.current {
            let mode = self.cycle.settings.self_check.mode;
            order.unreachable_once = mode == CheckMode::Require;
        }
        self.self_check_failed(ProblemType::SelfCheckUnreachable, detail, unreachable)
    }

    /// Stops the order where the check is required. Notes the failures in any case.
    fn self_check_failed(
        &mut self,
        kind: ProblemType,
        detail: String,
        met: &[(&DnsName, String)],
    ) -> Result<(), Stop> {
        let problem = Problem::ours(kind, detail);
        if self.cycle.settings.self_check.mode != CheckMode::Require {
            self.note("self-check", problem.detail);
            return Ok(());
        }
        let failed_name = |(name, why): &(&DnsName, String)| FailedName {
            name: (*name).clone(),
            problem: Problem::ours(kind, why.clone()),
            not_before: None,
        };
        Err(Stop::Failed(Failing {
            failed_names: met.iter().map(failed_name).collect(),
            ..Failing::from(problem)
        }))
    }
}

fn listed(met: &[(&DnsName, String)]) -> String {
    let words = met.iter().map(|(name, why)| format!("{name}: {why}"));
    words.collect::<Vec<_>>().join("; ")
}

pub(super) fn error_in(authorization: &Authorization) -> Option<&AcmeError> {
    authorization.http01.as_ref()?.error.as_ref()
}

pub(super) fn keep(authorization: &Authorization, leftovers: &mut Leftovers, until: AskedFor) {
    let challenge = authorization.http01.as_ref();
    let token = challenge.map(|challenge| &challenge.token);
    if let Some(token) = token.filter(|token| leftovers.tokens.contains(*token)) {
        leftovers.asked_for.insert(token.clone(), until);
    }
}

pub(super) fn keep_all(leftovers: &mut Leftovers, until: AskedFor) {
    for token in &leftovers.tokens {
        leftovers.asked_for.entry(token.clone()).or_insert(until);
    }
}

pub(super) fn not_asked_for(
    leftovers: &Leftovers,
    now: OffsetDateTime,
) -> (Vec<String>, Leftovers) {
    let mut asked_for = leftovers.asked_for.clone();
    let over = asked_for.extract_if(.., |_, until| until.is_over(now));
    let over: Vec<String> = over.map(|(token, _)| token).collect();
    let keys = leftovers
        .tokens
        .iter()
        .filter(|token| !asked_for.contains_key(*token))
        .chain(&over)
        .map(|token| format!("{OBJECT_PREFIX}{token}"))
        .collect();
    let kept = Leftovers {
        asked_for,
        ..Leftovers::default()
    };
    (keys, kept)
}

const SELF_CHECK: Duration = Duration::from_secs(5);
/// A new AWS account has ten concurrent executions of all its functions together.
const FETCHES_AT_ONCE: usize = 5;
