//! Sends what there is to tell of a certificate, under its lease: what is new is stored before it is sent, and what was taken is marked
//! with the write that gives the lease back. Whoever is stopped in between leaves it for the next pass, which sends it under
//! the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use time::OffsetDateTime;

use super::{Found, LONGEST_WAIT, Message, Outgoing, Told};
use crate::cycle::{Cycle, Halt, Ports, Work};
use crate::problem::backoff;
use crate::report::{Entry, whole_seconds};
use crate::settings::Channel;

/// What the channels did in a pass, by [`Channel::key`].
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// How many messages each took.
    taken: BTreeMap<String, usize>,
    /// Why each that did not take one did not. It is left alone for the rest of the pass.
    silent: BTreeMap<String, String>,
}

/// How the channels did in a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many messages were taken, each channel counted.
    pub taken: usize,
    /// The channels that failed, and why.
    pub failed: Vec<(String, String)>,
}

impl<P: Ports> Cycle<'_, P> {
    /// Returns how the channels did in this pass.
    pub(crate) fn sent(&self) -> Sent {
        let told = self.channels.borrow();
        let failed = self.settings.notify.channels.iter().filter_map(|channel| {
            let why = told.silent.get(&channel.key())?;
            Some((channel.to_string(), why.clone()))
        });
        Sent {
            taken: told.taken.values().sum(),
            failed: failed.collect(),
        }
    }

    /// Returns what a pass found, as far as it concerns messages.
    pub(crate) fn found<'f>(
        &'f self,
        entry: &'f Entry,
        state: &'f crate::state::State,
        domains: Vec<String>,
    ) -> Found<'f> {
        Found {
            entry,
            state,
            domains,
            installation: &self.installation,
            now: self.clock.now(),
        }
    }

    /// Sends one message to one channel; returns whether it is done with, or why not.
    async fn send(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        let key = channel.key();
        {
            let told = self.channels.borrow();
            if let Some(why) = told.silent.get(&key) {
                return Err(why.clone());
            }
            let taken = told.taken.get(&key).copied().unwrap_or_default();
            if taken >= channel.most_at_once() {
                return Err(format!("{taken} messages are enough for one pass"));
            }
        }
        let sending = self.ports.send(channel, message);
        let sent = tokio::time::timeout(LONGEST_SEND, sending).await;
        let late = || Err(format!("no answer within {} s", LONGEST_SEND.as_secs()));
        let sent = sent.unwrap_or_else(|_| late());
        let mut told = self.channels.borrow_mut();
        match &sent {
            Ok(()) => *told.taken.entry(key).or_default() += 1,
            Err(why) => {
                tracing::warn!(channel = %channel, message.id, why, "message not taken");
                told.silent.insert(key, why.clone());
            }
        }
        sent
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Tells what there is to tell of what became of the certificate. Where there is no time for it, the next pass does.
    pub(crate) async fn tell(&mut self, entry: &Entry) -> Result<(), Halt> {
        let notify = &self.cycle.settings.notify;
        let domains = self.wanted.domains.iter().map(ToString::to_string);
        let found = self.cycle.found(entry, &self.state, domains.collect());
        let (told, messages) = found.news(&self.state.told(), notify);
        let is_new = self.state.take_in(messages, told, notify);
        let Some(limit) = self.cycle.clock.grant(LEAST, LONGEST) else {
            return Ok(());
        };
        let sendable = self.sendable();
        if sendable.is_empty() {
            return Ok(());
        }
        if is_new {
            // Not stored is not sent: somebody else may have the lease by now.
            match tokio::time::timeout(limit, self.save()).await {
                Ok(saved) => saved?,
                Err(_) => return Ok(()),
            }
        }
        let until = tokio::time::Instant::now() + limit;
        for Sendable { id, to } in sendable {
            if tokio::time::Instant::now() >= until {
                break;
            }
            self.send(&id, &to, until).await;
        }
        self.give_up();
        Ok(())
    }

    fn sendable(&self) -> Vec<Sendable> {
        let now = self.cycle.clock.now();
        (self.state.told.as_ref()).map_or_else(Vec::new, |told| told.sendable(now))
    }

    /// Sends a message to these channels, and notes which took it.
    async fn send(&mut self, id: &str, to: &[String], until: tokio::time::Instant) {
        let outbox = self.state.told.iter_mut().flat_map(|told| &mut told.outbox);
        let mut outgoing = outbox.filter(|outgoing| outgoing.message.id == id);
        let Some(outgoing) = outgoing.next() else {
            return;
        };
        let channels = &self.cycle.settings.notify.channels;
        let asked = channels
            .iter()
            .filter(|channel| to.contains(&channel.key()));
        let sends = asked.map(|channel| async {
            let sending = self.cycle.send(channel, &outgoing.message);
            let sent = tokio::time::timeout_at(until, sending).await;
            let late = |_| Err("no time was left for it".to_owned());
            (channel.key(), sent.unwrap_or_else(late))
        });
        let failed: Vec<(String, String)> = (join_all(sends).await.into_iter())
            .filter_map(|(key, sent)| Some((key, sent.err()?)))
            .collect();
        // A channel that is not in the settings any more is told nothing.
        outgoing
            .to
            .retain(|key| !to.contains(key) || failed.iter().any(|(failed, _)| failed == key));
        if let Some((_, why)) = failed.into_iter().next() {
            outgoing.attempts += 1;
            outgoing.failure = Some(why);
            let wait = backoff(outgoing.attempts, true, fastrand::f64());
            outgoing.next_attempt = whole_seconds(self.cycle.clock.now() + wait);
        }
    }

    /// Drops what everybody has taken, and what nobody needs to hear of any more.
    fn give_up(&mut self) {
        let oldest = self.cycle.clock.now() - GIVEN_UP_AFTER;
        let Some(told) = &mut self.state.told else {
            return;
        };
        told.outbox.retain(|outgoing| !outgoing.to.is_empty());
        let lost = told
            .outbox
            .extract_if(.., |outgoing| outgoing.message.at < oldest);
        let lost: Vec<Outgoing> = lost.collect();
        for outgoing in lost {
            let why = outgoing.failure.unwrap_or_default();
            self.note(
                "message not taken",
                format!("given up after three days: {why}"),
            );
        }
    }
}

/// A message that may be sent, and to which channels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sendable {
    pub(super) id: String,
    pub(super) to: Vec<String>,
}

impl Told {
    /// Returns what may be sent now: to no channel a message before one that it has not taken yet.
    pub(super) fn sendable(&self, now: OffsetDateTime) -> Vec<Sendable> {
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

/// For one message to one channel.
const LONGEST_SEND: Duration = Duration::from_secs(5);
/// With less than this left nothing is told.
const LEAST: Duration = Duration::from_secs(3);
/// For all messages about a certificate: it keeps its lease meanwhile.
const LONGEST: Duration = Duration::from_secs(10);
/// Nobody needs to hear of it any more.
const GIVEN_UP_AFTER: time::Duration = time::Duration::days(3);
