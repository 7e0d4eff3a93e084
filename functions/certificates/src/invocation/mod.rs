//! One event in, one answer out. Imports `dry_run` and above, and alone `adapters::live`.
//!
//! One invocation: event in, report out.
//!
//! A certificate's failure is in the report and never an error of the invocation. After an error
//! the schedule or the queue would repeat what the state already remembers. The invocation is an
//! error only when the pass itself could not run ([`InvocationError`]): the event is not
//! understood, or the bucket, settings or credentials cannot be used.

pub mod actions;
pub mod check;
mod event;
pub mod status;
pub mod unmanaged;

use std::collections::BTreeSet;
use std::pin::Pin;

use serde_json::{Value, json};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::adapters::live::Live;
use crate::contract::certificate::Wanted;
use crate::contract::report::{Entry, Outcome, Report};
use crate::contract::settings::{Orphans, Settings};
use crate::dry_run::{LiveOrDryRun, forecast};
use crate::invocation::actions::act_on;
use crate::invocation::check::check;
use crate::invocation::status::status;
use crate::life::{Pass, list_known, read_settings, run};
use crate::metrics::Metrics;
use crate::pass::context::Cycle;
use crate::pass::stop::store_problem;
use crate::ports::Ports;
use crate::ports::store::{self, Condition, Store, StoreError};
use crate::rules::figures;
use crate::values::clock::Clock;
use crate::values::instant::rfc3339;
use crate::values::names::CertificateName;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

pub use event::{Event, NotUnderstood};

/// Why an invocation could not do its work. Nothing was changed.
#[derive(Debug, Error)]
pub enum InvocationError {
    /// The event is not one of ours.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// A caller with the right to look asked for a change.
    #[error(
        "through the alias {VIEW:?} only status, plan and check are answered; \
         invoke the function without the alias, which needs the permission of an operator"
    )]
    NotPermitted,
    /// Bucket, settings or credentials cannot be used.
    #[error("{0}")]
    CannotRun(String),
}

impl From<Problem> for InvocationError {
    fn from(problem: Problem) -> Self {
        Self::CannotRun(format!("{} ({})", problem.detail, problem.kind))
    }
}

impl InvocationError {
    /// Returns the error's type, as callers of the function see it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotUnderstood(_) => "certloop.NotUnderstood",
            Self::NotPermitted => "certloop.NotPermitted",
            Self::CannotRun(_) => "certloop.CannotRun",
        }
    }
}

/// Where the passes run and what they work on.
pub struct Installation<P> {
    /// Everything outside.
    pub ports: P,
    /// The bucket's name.
    pub bucket: String,
    /// The home region.
    pub region: String,
}

/// The origin of an invocation.
#[derive(Clone, Copy, Debug)]
pub struct Invoked<'i> {
    /// The function's name, a dimension of its metrics.
    pub function: &'i str,
    /// The ARN by which it was invoked; empty where there is none.
    pub arn: &'i str,
}

/// The result of an invocation.
#[derive(Debug)]
pub struct Answer {
    /// The function's result.
    pub result: Value,
    /// The line of metrics, if there was a pass.
    pub metrics: Option<String>,
}

impl Answer {
    fn only(result: Value) -> Self {
        Self {
            result,
            metrics: None,
        }
    }
}

impl<P: Ports> Installation<P> {
    /// Answers one invocation.
    ///
    /// Through the alias `view`, a request that is not understood or not permitted gets a normal
    /// result with the text of an error. An error would count as one of the function: callers who
    /// may only look could raise its alarm as often as they like.
    pub async fn answer(
        &self,
        payload: &Value,
        clock: Clock,
        invoked: Invoked<'_>,
    ) -> Result<Answer, InvocationError> {
        // In a box: the nested futures are too deep for the compiler.
        let answer = Box::pin(self.answer_or_fail(payload, clock, invoked)).await;
        let is_viewed = alias_of(invoked.arn) == Some(VIEW);
        answer.or_else(|failure| match failure {
            InvocationError::NotUnderstood(_) | InvocationError::NotPermitted if is_viewed => {
                Ok(Answer::only(json!({
                    "errorType": failure.kind(),
                    "errorMessage": failure.to_string(),
                })))
            }
            failure => Err(failure),
        })
    }

    async fn answer_or_fail(
        &self,
        payload: &Value,
        clock: Clock,
        invoked: Invoked<'_>,
    ) -> Result<Answer, InvocationError> {
        let event = self.permitted_event(payload, invoked)?;
        let settings = read_settings(self.ports.store())
            .await
            .inspect_err(|problem| {
                tracing::error!(
                    problem.type = problem.kind,
                    problem.detail = problem.detail,
                    "the pass cannot run"
                );
            })?;
        let ports = LiveOrDryRun::live(&self.ports);
        let mut cycle = self.cycle(&ports, settings, clock, invoked);
        let function = invoked.function;
        match event {
            Event::Reconcile {
                certificates,
                force,
                reissue,
            } => {
                cycle.reissue = reissue;
                cycle.is_full = certificates.is_none();
                let (names, orphans) = self.names(certificates, &mut cycle).await?;
                let pass = run(&cycle, &names, force).await;
                let fleet = Fleet::of(&cycle, &pass, &orphans).await;
                Ok(report(&clock, function, pass, fleet))
            }
            Event::Issue {
                name,
                certificate,
                replace,
            } => {
                let put = self.put_document(&cycle, &name, &certificate, replace);
                let pass = match put.await {
                    Ok(()) => run(&cycle, &[name], false).await,
                    Err(problem) => Pass {
                        entries: vec![Entry::failed(&name, problem, None)],
                        ..Pass::default()
                    },
                };
                Ok(report(&clock, function, pass, None))
            }
            Event::Act { name, action } => {
                let pass = act_on(&cycle, &name, &action).await;
                Ok(report(&clock, function, pass, None))
            }
            Event::Plan { certificates, at } => {
                cycle.clock = clock.showing(instant_of_plan(at, clock.now())?);
                let (names, _) = self.names(certificates, &mut cycle).await?;
                let forecast = forecast(&self.ports, cycle, &names).await;
                tracing::info!(certificates = forecast.certificates.len(), "plan made");
                Ok(Answer::only(json!(forecast)))
            }
            Event::Status(selection) => Ok(Answer::only(json!(status(&cycle, &selection).await?))),
            Event::Check { name } => {
                let check = check(&cycle, &name).await;
                tracing::info!(certificate.name = %check.name, verdict = ?check.verdict, "checked");
                Ok(Answer::only(json!(check)))
            }
        }
    }

    /// Returns the request, if it is understood and the caller is permitted to make it.
    fn permitted_event(
        &self,
        payload: &Value,
        invoked: Invoked<'_>,
    ) -> Result<Event, InvocationError> {
        let event = match Event::parse(payload, &self.bucket) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "event not understood");
                return Err(error.into());
            }
        };
        if alias_of(invoked.arn) == Some(VIEW) && !event.only_looks() {
            tracing::warn!("the alias {VIEW} was asked for a change");
            return Err(InvocationError::NotPermitted);
        }
        Ok(event)
    }

    fn cycle<'p>(
        &self,
        ports: &'p LiveOrDryRun<'p, P>,
        settings: Settings,
        clock: Clock,
        invoked: Invoked<'_>,
    ) -> Cycle<'p, LiveOrDryRun<'p, P>> {
        Cycle::new(
            ports,
            settings,
            self.bucket.clone(),
            self.region.clone(),
            account_of(invoked.arn),
            clock,
        )
    }

    /// Returns the names that a pass looks at, the requested ones or all. If all records were
    /// listed, also returns the names without a document.
    async fn names(
        &self,
        asked_for: Option<Vec<String>>,
        cycle: &mut Cycle<'_, LiveOrDryRun<'_, P>>,
    ) -> Result<(Vec<String>, Vec<String>), Problem> {
        match asked_for {
            Some(names) if cycle.settings.orphans != Orphans::Remove => Ok((names, Vec::new())),
            asked_for => {
                let known = list_known(self.ports.store()).await?;
                cycle.mass_deletion_suspected = known.most_are_gone();
                let all = || [&known.documents[..], &known.orphans].concat();
                Ok((asked_for.unwrap_or_else(all), known.orphans))
            }
        }
    }

    /// Stores a document put in by hand. An identical one is fine; a different one is replaced only
    /// on request.
    async fn put_document(
        &self,
        cycle: &Cycle<'_, LiveOrDryRun<'_, P>>,
        name: &str,
        certificate: &Value,
        replace: bool,
    ) -> Result<(), Problem> {
        let invalid = |detail: String| Problem::ours(ProblemType::InvalidDocument, detail);
        let name: CertificateName = name
            .parse()
            .map_err(|error| invalid(format!("name: {error}")))?;
        let body = serde_json::to_vec_pretty(certificate)
            .map_err(|error| invalid(format!("certificate: {error}")))?;
        let account = cycle.account_id.as_deref();
        Wanted::parse(&name, &body, &cycle.settings, account)
            .map_err(|error| invalid(format!("certificate.{error}")))?;
        let (store, key) = (self.ports.store(), store::certificate_key(&name));
        for _ in 0..ROUNDS {
            let there = store
                .read(&key)
                .await
                .map_err(|error| store_problem(&error))?;
            let is_identical = there.as_ref().is_some_and(|object| {
                serde_json::from_slice::<Value>(&object.body)
                    .is_ok_and(|there| there == *certificate)
            });
            if is_identical {
                return Ok(());
            }
            let condition = match &there {
                None => Condition::Absent,
                Some(object) if replace => Condition::Matches(&object.etag),
                Some(_) => {
                    let detail = format!(
                        "{key} exists already and is different; --replace replaces it \\
                         (\"replace\": true in an event)"
                    );
                    return Err(Problem::ours(ProblemType::DocumentExists, detail));
                }
            };
            match store.write(&key, body.clone(), condition).await {
                Ok(_) => return Ok(()),
                // Another writer was faster, or our own write had worked: the next read shows that.
                Err(StoreError::ConditionFailed { .. }) => {}
                Err(error) => return Err(store_problem(&error)),
            }
        }
        Err(Problem::ours(
            ProblemType::Store,
            format!("{key} keeps being changed by others; ask again"),
        ))
    }
}

/// Reports the result of a pass; `fleet` where it was a full one.
fn report(clock: &Clock, function: &str, pass: Pass, fleet: Option<Fleet>) -> Answer {
    let needs_person = figures::needing_a_person(&pass.entries);
    let unproved = figures::unproved(&pass.entries);
    let untrusted = pass.entries.iter().filter(|entry| entry.is_untrusted);
    let untrusted = untrusted.count();
    let failing = figures::failing(&pass.entries);
    let unserved = figures::unserved(&pass.entries, clock.now());
    let failed_channels = pass.sent.failed.len();
    let report = Report::new(pass.entries, pass.sent);
    let summary = report.summary;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut metrics = Metrics::new(function)
        .seconds("PassSeconds", clock.elapsed().as_secs_f64())
        .count("Issued", count(summary.issued))
        .count("Renewed", count(summary.renewed))
        .count("Deployed", count(summary.deployed))
        .count("Waiting", count(summary.waiting))
        .count("Failed", count(summary.failed))
        .count("NeedsPerson", count(needs_person))
        .count("Unproved", count(unproved))
        .count("Untrusted", count(untrusted));
    // Without certificates nothing expires: the alarm on the last one must clear after its removal.
    // But if a certificate of ours exists that no record knows, its end is unknown.
    let is_empty = |fleet: &Fleet| fleet.managed == 0 && fleet.strays == Some(0);
    let share = pass.lowest_share_left;
    if let Some(share) = share.or(fleet.as_ref().is_some_and(is_empty).then_some(1.0)) {
        metrics = metrics.share("LifetimeLeftShare", share);
    }
    let full = fleet.is_some();
    if let Some(fleet) = fleet {
        metrics = metrics
            .count("Passes", 1)
            .count("CertificatesManaged", count(fleet.managed))
            .count("MessagesFailed", count(failed_channels));
        for (name, number) in [
            ("Failing", failing),
            ("Unserved", unserved),
            ("Strays", fleet.strays),
        ] {
            if let Some(number) = number {
                metrics = metrics.count(name, count(number));
            }
        }
        if let Some(imports) = fleet.imports_of_a_year {
            metrics = metrics.count("ImportsThisYear", imports.into());
        }
        if let Some(most) = pass.most_in_a_place {
            metrics = metrics.count("ListenerCertificates", count(most));
        }
    }
    let milliseconds = clock.now().unix_timestamp_nanos() / 1_000_000;
    let line = metrics.to_line(u64::try_from(milliseconds).unwrap_or_default());
    tracing::info!(summary = %json!(summary), full, "pass done");
    Answer {
        result: json!(report),
        metrics: Some(line),
    }
}

impl Installation<Live> {
    /// Answers one invocation as [`answer`](Self::answer) does. Compiles all that it needs with
    /// this library, and not again with each caller.
    pub fn answer_compiled<'i>(
        &'i self,
        payload: &'i Value,
        clock: Clock,
        invoked: Invoked<'i>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, InvocationError>> + 'i>> {
        Box::pin(self.answer(payload, clock, invoked))
    }
}

/// What only a full pass reports.
struct Fleet {
    /// How many certificates there are documents for.
    managed: usize,
    /// How many certificates carry our installation's tag and are known by no record; unknown if
    /// the search failed.
    strays: Option<usize>,
    /// Imports in the region with the most; unknown if they could not be read.
    imports_of_a_year: Option<u32>,
}

impl Fleet {
    /// Counts them; `None` if the pass did not cover all certificates.
    async fn of<P: Ports>(cycle: &Cycle<'_, P>, pass: &Pass, orphans: &[String]) -> Option<Self> {
        if !cycle.is_full {
            return None;
        }
        let orphans: BTreeSet<&String> = orphans.iter().collect();
        let is_managed =
            |entry: &&Entry| entry.outcome != Outcome::Removed && !orphans.contains(&entry.name);
        let managed = pass.entries.iter().filter(is_managed).count();
        let targets = pass.entries.iter().flat_map(|entry| &entry.targets);
        let arns = targets.filter_map(|target| target.certificate_arn.as_deref());
        let regions = arns.filter_map(|arn| Some(arn.split(':').nth(3)?.to_owned()));
        let imports = cycle.ledgers.imports_of_a_year(&regions.collect()).await;
        if let Err(problem) = &imports {
            tracing::warn!(
                problem.type = problem.kind,
                problem.detail = problem.detail,
                "imports not counted"
            );
        }
        let time = cycle.clock.left().saturating_sub(TO_REPORT);
        let strays = match tokio::time::timeout(time, cycle.count_of_strays(managed)).await {
            Ok(Ok(strays)) => Some(strays),
            Ok(Err(problem)) => {
                tracing::warn!(
                    problem.type = problem.kind,
                    problem.detail = problem.detail,
                    "strays not counted"
                );
                None
            }
            Err(_) => {
                tracing::warn!("strays not counted: no time was left");
                None
            }
        };
        Some(Self {
            managed,
            strays,
            imports_of_a_year: imports.ok(),
        })
    }
}

/// Returns the instant a plan is for: now, or a future one.
fn instant_of_plan(
    at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, NotUnderstood> {
    match at {
        Some(at) if at < now - JUST_NOW => Err(NotUnderstood::Value(format!(
            "at: {} is past; a plan is for now or for a future instant",
            rfc3339(at)
        ))),
        Some(at) if at > now + FURTHEST => Err(NotUnderstood::Value(format!(
            "at: {} is too far ahead; a plan is for an instant within two years",
            rfc3339(at)
        ))),
        Some(at) => Ok(at.max(now)),
        None => Ok(now),
    }
}

/// Returns the account from the invoked function's ARN
/// (`arn:partition:lambda:region:account:function:name`).
fn account_of(function_arn: &str) -> Option<String> {
    let account = function_arn.split(':').nth(4)?;
    (account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| account.to_owned())
}

/// Returns the alias or version through which the function was invoked, the last part of
/// `arn:partition:lambda:region:account:function:name:alias`.
fn alias_of(function_arn: &str) -> Option<&str> {
    function_arn.split(':').nth(7)
}

/// The alias that only looks: the right to invoke it is the right to see, not to change.
const VIEW: &str = "view";

/// The time kept for the report after the work.
const TO_REPORT: std::time::Duration = std::time::Duration::from_secs(3);
const ROUNDS: usize = 4;
/// A caller's "now" is already past when it is read.
const JUST_NOW: Duration = Duration::MINUTE;
/// No certificate lives longer; instants far ahead exceed the range of time arithmetic.
const FURTHEST: Duration = Duration::days(731);

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_plan_is_for_now_or_an_instant_within_two_years() {
        let now = datetime!(2026-11-22 12:00 UTC);
        for (at, planned) in [
            (now - Duration::HOUR, None),
            (now - Duration::SECOND, Some(now)),
            (now + Duration::days(730), Some(now + Duration::days(730))),
            (now + Duration::days(740), None),
            (datetime!(9999-12-31 23:59:59 UTC), None),
        ] {
            let instant = instant_of_plan(Some(at), now);
            assert_eq!(instant.as_ref().ok(), planned.as_ref(), "{at}");
            if let Err(why) = instant {
                let why = why.to_string();
                assert!(why.starts_with("at: ") && why.len() < 100, "{why}");
            }
        }
    }
}
