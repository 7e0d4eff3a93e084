//! Pure: which messages people and programs get about a certificate. There is one for the first
//! issuance, one when a problem starts, changes or ends, and one when little of the lifetime is
//! left and no renewal has worked. Renewals get one if the settings ask for it.
//!
//! The messages follow from earlier ones ([`Notified`], in the certificate's record) and from what
//! a pass found. `life::notify` sends them under the lease: it first stores a message, then sends
//! it, then marks it. So each news is sent once. [`wording`] brings it into the form of each
//! channel.

use time::{Duration, OffsetDateTime};

use crate::contract::report::{Entry, Outcome};
use crate::contract::settings::{Channel, Notify};
use crate::records::state::State;
use crate::rules::remedy;
use crate::rules::wording;
use crate::values::instant::whole_seconds;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

use crate::contract::message::{About, Kind, Message, ProblemSummary};
use crate::records::notified::{Notified, Outgoing};
use std::collections::BTreeSet;

impl ProblemSummary {
    /// Whether this problem needs a message although people know that one.
    fn is_other_than(&self, told: &Self) -> bool {
        self.retry != told.retry || (self.needs_person() && self.kind != told.kind)
    }
}

/// A message that may be sent, and to which channels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sendable {
    pub(crate) id: String,
    pub(crate) to: Vec<String>,
}

impl Notified {
    /// Returns the messages that may be sent now. A channel gets no message before it has accepted
    /// all earlier ones.
    pub(crate) fn sendable(&self, now: OffsetDateTime) -> Vec<Sendable> {
        let mut waiting = BTreeSet::new();
        let mut sendable = Vec::new();
        for outgoing in &self.outbox {
            let to = outgoing.to.iter().filter(|key| !waiting.contains(*key));
            let to: Vec<String> = to.cloned().collect();
            match outgoing.is_due(now) && !to.is_empty() {
                true => sendable.push(Sendable {
                    id: outgoing.message.id.clone(),
                    to,
                }),
                false => waiting.extend(outgoing.to.iter().cloned()),
            }
        }
        sendable
    }
}

impl Outgoing {
    fn is_due(&self, now: OffsetDateTime) -> bool {
        self.next_attempt <= now || self.next_attempt > now + LONGEST_WAIT
    }
}

impl State {
    /// Whether people still have to receive a message about a certificate that is removed.
    pub(crate) fn has_to_tell(&self, notify: &Notify, now: OffsetDateTime) -> bool {
        let told = self.told.as_ref().filter(|_| !notify.channels.is_empty());
        told.is_some_and(|told| told.problem.is_some() || !told.sendable(now).is_empty())
    }
}

/// What a pass found about a certificate.
pub struct Found<'f> {
    /// What the pass did with it.
    pub entry: &'f Entry,
    /// Its record.
    pub state: &'f State,
    /// The names wanted.
    pub domains: Vec<String>,
    /// The bucket of the installation.
    pub installation: &'f str,
    /// The present instant.
    pub now: OffsetDateTime,
}

impl Found<'_> {
    /// Whether it was checked completely. Only then does no problem mean that all is well.
    fn is_settled(&self) -> bool {
        matches!(
            self.entry.outcome,
            Outcome::Issued | Outcome::Renewed | Outcome::Deployed | Outcome::Kept
        )
    }

    /// Whether an earlier problem is over: it is solved, or the certificate is removed.
    fn is_over(&self) -> bool {
        self.is_settled() || self.entry.outcome == Outcome::Removed
    }

    /// Returns what is wrong. To wait for a limit is no problem.
    fn problem(&self) -> Option<ProblemSummary> {
        let problem = self.entry.problem.as_ref();
        let problem =
            problem.filter(|problem| problem.kind != Problem::kind_of(ProblemType::Limit));
        problem.map(ProblemSummary::from)
    }

    /// Whether a problem that people know still exists, even if another one is reported.
    fn stands(&self, known: &ProblemSummary) -> bool {
        let state = self.state;
        let revoking = state.revocations.pending.iter();
        let failures = (state.orders.failure.iter())
            .chain(&state.orders.failures_elsewhere)
            .chain(&state.deployment.failure)
            .chain(revoking.filter_map(|revoking| revoking.failure.as_ref()));
        let mut problems = failures.map(|failure| ProblemSummary::from(&failure.problem));
        problems.any(|problem| !problem.is_other_than(known))
    }

    /// Returns the end of validity and the share left of the served certificate. That may be the
    /// previous one, until the new one is deployed.
    fn served(&self) -> Option<(OffsetDateTime, f64)> {
        let held = self.state.certificate.as_ref()?.validity();
        let valid = self.state.deployment.still_served.unwrap_or(held);
        let lifetime = (valid.not_after - valid.not_before).as_seconds_f64();
        let left = (valid.not_after - self.now).as_seconds_f64();
        Some((valid.not_after, (left / lifetime.max(1.0)).clamp(0.0, 1.0)))
    }

    fn message(&self, kind: Kind, before: Option<ProblemSummary>) -> Message {
        let (not_after, share) = self.served().unzip();
        let problem = self.problem().filter(|_| kind != Kind::ProblemEnded);
        let mut message = Message {
            id: format!("{:032x}", fastrand::u128(..)),
            kind,
            at: whole_seconds(self.now),
            installation: self.installation.to_owned(),
            certificate: About {
                name: self.entry.name.clone(),
                domains: self.domains.iter().take(MOST_DOMAINS).cloned().collect(),
                arn: self.entry.certificate_arn.clone(),
                serial: self.entry.serial.clone(),
                not_after: not_after.map(whole_seconds),
                lifetime_left_share: share.map(|share| (share * 1000.0).round() / 1000.0),
            },
            next_attempt: (self.entry.next_attempt)
                .filter(|_| problem.is_some())
                .map(whole_seconds),
            command: (self.entry.problem.as_ref())
                .filter(|_| problem.is_some())
                .and_then(|problem| remedy::command(problem, &self.entry.name)),
            problem,
            before,
            text: String::new(),
        };
        message.text = match self.entry.outcome {
            Outcome::Removed => wording::removed(&message),
            _ => wording::text(&message),
        };
        message
    }

    /// Returns the new messages after those in `told`, and what people know after them.
    pub(crate) fn news(&self, told: &Notified, notify: &Notify) -> (Notified, Vec<Message>) {
        let mut told = told.clone();
        let mut messages = Vec::new();
        let held = self.state.certificate.as_ref();
        // A rollback is no news. Neither is the certificate from before the rollback when it is
        // served again.
        if let Some(held) = held.filter(|held| {
            self.is_settled()
                && self.state.previous.rolled_back.is_none()
                && told.serial.as_ref().is_none_or(|told| *told != held.serial)
        }) {
            let before = told.serial.replace(held.serial.clone());
            match before {
                None => messages.push(self.message(Kind::Issued, None)),
                Some(_) if notify.renewals => {
                    messages.push(self.message(Kind::Renewed, None));
                }
                Some(_) => {}
            }
        }
        // A certificate we warned about was replaced: announce that even if renewals are not
        // announced.
        let is_clear = told.running_out.is_some_and(|known| {
            (self.served()).is_some_and(|(not_after, share)| not_after != known && share >= LITTLE)
        });
        if self.is_settled() && is_clear {
            told.running_out = None;
            if messages.is_empty() {
                messages.push(self.message(Kind::Renewed, None));
            }
        }
        if notify.channels.is_empty() {
            // There are no channels, so nobody knows of a problem.
            let serial = told.serial;
            return (
                Notified {
                    serial,
                    ..Notified::default()
                },
                Vec::new(),
            );
        }
        messages.extend(self.news_of_problem(&mut told));
        messages.extend(self.news_of_little_left(&mut told));
        (told, messages)
    }

    /// Notes what is wrong now; returns the message about it, if it needs one.
    fn news_of_problem(&self, told: &mut Notified) -> Option<Message> {
        told.others.retain(|other| self.stands(other));
        match (told.problem.take(), self.problem()) {
            (None, Some(problem)) => {
                told.problem = Some(problem);
                Some(self.message(Kind::ProblemStarted, None))
            }
            (Some(known), Some(problem)) if problem.is_other_than(&known) => {
                let mut others = told.others.iter();
                let message = match others.position(|other| !problem.is_other_than(other)) {
                    Some(index) => {
                        told.others.swap_remove(index);
                        None
                    }
                    None => Some(self.message(Kind::ProblemChanged, Some(known.clone()))),
                };
                told.others.extend(self.stands(&known).then_some(known));
                told.problem = Some(problem);
                message
            }
            (Some(known), None) if self.is_over() => {
                told.others.clear();
                Some(self.message(Kind::ProblemEnded, Some(known)))
            }
            (known, _) => {
                told.problem = known;
                None
            }
        }
    }

    /// Notes that little of the lifetime is left and no renewal has worked; returns the message
    /// about it, unless it was sent before.
    fn news_of_little_left(&self, told: &mut Notified) -> Option<Message> {
        let (not_after, _) = self.served().filter(|(_, share)| *share < LITTLE)?;
        let is_due = self.entry.renew_at.is_none_or(|at| at <= self.now);
        let has_failed = is_due || self.entry.problem.is_some();
        let is_told = told.running_out.is_some_and(|known| known >= not_after);
        if !has_failed || is_told || self.state.removing.is_some() {
            return None;
        }
        told.running_out = Some(not_after);
        Some(self.message(Kind::RunningOut, None))
    }
}

impl State {
    /// Returns what people know. In a record that is older than messages, the certificate is no
    /// news.
    pub(crate) fn told(&self) -> Notified {
        self.told.clone().unwrap_or_else(|| Notified {
            serial: self.certificate.as_ref().map(|held| held.serial.clone()),
            ..Notified::default()
        })
    }

    /// Puts new messages into the outbox; returns how many old messages it dropped for them.
    pub(crate) fn take_in(
        &mut self,
        messages: Vec<Message>,
        told: Notified,
        notify: &Notify,
    ) -> usize {
        let to: Vec<String> = notify.channels.iter().map(Channel::key).collect();
        let told = self.told.insert(told);
        told.outbox
            .extend(messages.into_iter().map(|message| Outgoing {
                next_attempt: message.at,
                message,
                to: to.clone(),
                attempts: 0,
                failure: None,
            }));
        let surplus = told.outbox.len().saturating_sub(LONGEST_OUTBOX);
        told.outbox.drain(..surplus);
        surplus
    }
}

/// Whether there is a message about a certificate to send now: a new one, or one that has not
/// reached every channel.
pub(crate) fn is_news(found: &Found<'_>, notify: &Notify) -> bool {
    if notify.channels.is_empty() {
        return false;
    }
    let told = found.state.told();
    !told.sendable(found.now).is_empty() || !found.news(&told, notify).1.is_empty()
}

/// Below this share of the lifetime, little is left.
const LITTLE: f64 = 0.25;
/// How many names a message holds. Chats accept a few thousand characters, and a larger message
/// would never arrive.
const MOST_DOMAINS: usize = 100;
/// How many messages of one certificate may wait. The oldest beyond that are dropped.
const LONGEST_OUTBOX: usize = 20;
/// How long the wait for the next attempt can be. A longer one comes from a wrong clock.
pub(crate) const LONGEST_WAIT: Duration = Duration::hours(2);

#[cfg(test)]
mod tests;
