//! `--wait`: starts the work on one certificate and follows it, a line per step, to the leaf that
//! is served.

use std::time::Duration;

use certificates::contract::report::TargetState;
use certificates::invocation::status::{Inventory, Standing};
use certificates::records::order::Stage;
use certificates::records::state::HistoryStep;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::cli_error::{CliError, Ends};
use crate::function::{Function, read};
use crate::history::line;
use crate::report::Report;
use crate::status::{Serving, inventory, name_of, rendered};
use crate::terminal::{Ink, Screen, Spinner, say, tell};
use crate::words::{behind, cut, relative, second};

/// Follows one certificate.
pub(crate) struct Following<'a> {
    function: &'a Function,
    name: String,
    screen: Screen,
    as_json: bool,
    /// Steps that were there before, or have been shown.
    seen: Vec<HistoryStep>,
    begun: Instant,
}

impl<'a> Following<'a> {
    /// Follows the certificate of this name.
    pub(crate) fn of(function: &'a Function, name: &str, screen: Screen, as_json: bool) -> Self {
        Self {
            function,
            name: name.to_owned(),
            screen,
            as_json,
            seen: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Starts what is due, and shows each step until the certificate is served or needs a person.
    pub(crate) async fn follow(mut self) -> Result<Ends, CliError> {
        let until = self.begun + LONGEST;
        // Only what happened since then is news: the event of the bucket may have begun it.
        let before = self.inventory().await?;
        let just_now = before.at.unwrap_or_else(OffsetDateTime::now_utc) - JUST_NOW;
        let steps = before.certificates.into_iter().flat_map(|one| one.history);
        self.seen = steps.filter(|step| step.at < just_now).collect();
        let event = json!({"action": "reconcile", "certificates": [self.name]});
        let function = self.function;
        let (report, mut standing) = loop {
            let answer = {
                let mut asked = std::pin::pin!(function.ask(&event));
                // Both go on at the same time: with --local the work is done in this process.
                tokio::select! {
                    answer = &mut asked => answer,
                    () = self.watch() => watching_ended(),
                }
            };
            let report: Report = read(answer?)?;
            let standing = self.look().await?;
            // Another invocation may still be at work by the document before.
            if !report.only_waits() || standing.paused || Instant::now() >= until {
                break (report, standing);
            }
            self.spin(&standing).await;
        };
        // Another invocation may be at work on it, by the event of the bucket. What is served is
        // recorded last; a function of an older build never records it.
        let mut more = SETTLES;
        while report.ends() == Ends::Well && Instant::now() < until {
            match is_under_way(&standing) {
                true => {}
                false if is_on_targets(&standing) && !is_served(&standing) && more > 0 => more -= 1,
                false => break,
            }
            self.spin(&standing).await;
            standing = self.look().await?;
        }
        self.conclude(standing, report.ends())
    }

    /// Looks once a second, and shows each new step.
    async fn watch(&mut self) {
        let mut standing = Standing::default();
        loop {
            self.spin(&standing).await;
            match self.look().await {
                Ok(seen) => standing = seen,
                // The report of the work says what is wrong.
                Err(_) => sleep(SECOND).await,
            }
        }
    }

    async fn spin(&self, standing: &Standing) {
        let stage = standing.under_way.as_ref().map(|order| order.stage);
        let step = match (stage, standing.history.last()) {
            (Some(Stage::Ordered), _) => "the authority checks the names".to_owned(),
            (Some(Stage::Finalizing), _) => "the authority issues the certificate".to_owned(),
            (None, Some(last)) => format!("working, last step: {}", cut(&last.step, 40)),
            (None, None) => "working".to_owned(),
        };
        let name = &self.name;
        let _spinner = Spinner::since(self.begun.into_std(), &format!("{name}: {step}"));
        sleep(SECOND).await;
    }

    async fn inventory(&self) -> Result<Inventory, CliError> {
        inventory(self.function, std::slice::from_ref(&self.name)).await
    }

    /// Shows the steps that are new.
    async fn look(&mut self) -> Result<Standing, CliError> {
        let mut certificates = self.inventory().await?.certificates.into_iter();
        let standing = certificates.next().unwrap_or_default();
        for step in &standing.history {
            let is_new = !self.seen.iter().any(|seen| is_same(seen, step));
            if is_new {
                self.seen.push(step.clone());
                let text = line(step, WIDEST, self.screen);
                match self.as_json {
                    true => tell(text.trim_end()),
                    false => say(&text)?,
                }
            }
        }
        Ok(standing)
    }

    fn conclude(&self, standing: Standing, ends: Ends) -> Result<Ends, CliError> {
        let now = OffsetDateTime::now_utc();
        // Of a function of an older build the targets are all that is known.
        let is_served = is_served(&standing)
            || is_on_targets(&standing) && Serving::of(&standing) == Serving::Unknown;
        if self.as_json {
            say(&format!("{:#}\n", json!(standing)))?;
        } else if is_served {
            say(&self.leaf(&standing, now))?;
        } else {
            let inventory = Inventory {
                certificates: vec![standing],
                ..Inventory::default()
            };
            say(&format!("\n{}", rendered(&inventory, now, self.screen, 1)))?;
        }
        Ok(match is_served {
            true => ends,
            false => Ends::NeedsPerson,
        })
    }

    /// Renders what is served, or held ready.
    fn leaf(&self, standing: &Standing, now: OffsetDateTime) -> String {
        let serving = Serving::of(standing);
        let heading = match serving {
            Serving::Seen(_) => self.screen.ink(Ink::Good, "Served:"),
            Serving::Ready(_) => self
                .screen
                .ink(Ink::Good, "Held ready for hosts that pull it:"),
            // A function of an older build does not say what is served.
            _ => "On its targets; what is served is unknown:".to_owned(),
        };
        let mut text = format!("{heading}\n");
        let width = self.screen.width;
        let mut add = |what: &str, words: &str| {
            text += &behind(&format!("  {what:12}"), words, width, INDENT)
        };
        add("names", &standing.domains.join(", "));
        add("issuer", standing.authority.as_deref().unwrap_or("unknown"));
        add("serial", standing.serial.as_deref().unwrap_or("unknown"));
        if let Some(end) = standing.not_after {
            add(
                "valid until",
                &format!("{} ({})", second(end), relative(end, now)),
            );
        }
        if let Some(at) = standing.renew_at {
            add("renews", &format!("{} ({})", second(at), relative(at, now)));
        }
        for target in &standing.targets {
            let at = target.checked_at.map(second).unwrap_or_default();
            let proof = match (target.entry.proved, target.entry.state) {
                (Some(true), _) => format!("served in a TLS handshake, {at}"),
                (_, TargetState::Imported) => "imported".to_owned(),
                _ => "attached; no handshake was made".to_owned(),
            };
            add("on", &format!("{}: {proof}", name_of(&target.entry)));
        }
        text
    }
}

/// Watching never ends: the work that it watches does.
fn watching_ended<T>() -> Result<T, CliError> {
    Err(CliError::failed("watching ended before the work did"))
}

fn is_same(one: &HistoryStep, other: &HistoryStep) -> bool {
    (one.at, &one.step, &one.detail) == (other.at, &other.step, &other.detail)
}

/// Whether it is what is served, or held ready, and nothing is wrong.
fn is_served(standing: &Standing) -> bool {
    is_on_targets(standing) && Serving::of(standing).is_wanted(standing)
}

/// Whether the certificate is on all its targets, and nothing is wrong.
fn is_on_targets(standing: &Standing) -> bool {
    let on_target = |state| matches!(state, TargetState::Attached | TargetState::Imported);
    let mut targets = standing.targets.iter();
    let all_on =
        targets.all(|target| on_target(target.entry.state) && target.entry.proved != Some(false));
    standing.serial.is_some()
        && all_on
        && standing.under_way.is_none()
        && standing.problem.is_none()
}

fn is_under_way(standing: &Standing) -> bool {
    !is_on_targets(standing) && standing.problem.is_none() && !standing.paused
}

const INDENT: &str = "    ";
const SECOND: Duration = Duration::from_secs(1);
const JUST_NOW: Duration = Duration::from_secs(30);
/// So many more looks at what is served.
const SETTLES: u32 = 5;
/// No invocation takes longer.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// As long as most steps' words.
const WIDEST: usize = 16;
