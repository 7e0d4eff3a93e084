//! Sends what there is to tell of a certificate, under its lease: what is new is stored before it is sent, and what was taken is marked
//! with the write that gives the lease back. Whoever is stopped in between leaves it for the next pass, which sends it under
//! the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::contract::message::{Message, Sent};
use crate::contract::report::Entry;
use crate::contract::settings::Channel;
use crate::pass::context::{Cycle, Halt, Work};
use crate::ports::Ports;
use crate::records::state::State;
use crate::records::told::{Outgoing, Told};
use crate::rules::news::{Found, LONGEST_WAIT};
use crate::values::instant::whole_seconds;
use crate::values::problem::backoff;

/// What the channels did in a pass, by [`Channel::key`].
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// How many messages were sent to each.
    sent: BTreeMap<String, usize>,
    /// How many each took.
    taken: BTreeMap<String, usize>,
    /// Why each that did not take one did not. It is left alone for the rest of the pass.
    silent: BTreeMap<String, String>,
    /// Why each did not take one in an earlier pass that still waits.
    owing: BTreeMap<String, String>,
}

impl Channels {
    fn may_send(&self, channel: &Channel) -> bool {
        let key = channel.key();
        let sent = self.sent.get(&key).copied().unwrap_or_default();
        !self.silent.contains_key(&key) && sent < channel.most_at_once()
    }
}

/// What became of a message on one channel.
enum Fate {
    Taken,
    Failed(String),
    /// The channel has had enough for this pass, or nothing would come through.
    NotTried,
}

impl<P: Ports> Cycle<'_, P> {
    /// Returns how the channels did in this pass.
    pub(crate) fn sent(&self) -> Sent {
        let told = self.channels.borrow();
        let failed = self.settings.notify.channels.iter().filter_map(|channel| {
            let key = channel.key();
            let owing = || {
                told.owing
                    .get(&key)
                    .filter(|_| !told.taken.contains_key(&key))
            };
            let why = told.silent.get(&key).or_else(owing)?;
            Some((channel.to_string(), why.clone()))
        });
        Sent {
            taken: told.taken.values().sum(),
            failed: failed.collect(),
        }
    }

    /// Notes which channels have not taken what an earlier pass sent.
    pub(crate) fn note_untold(&self, state: &State) {
        let outbox = state.told.iter().flat_map(|told| &told.outbox);
        for outgoing in outbox {
            let Some(why) = &outgoing.failure else {
                continue;
            };
            let mut channels = self.channels.borrow_mut();
            let owing = outgoing.to.iter().map(|key| (key.clone(), why.clone()));
            channels.owing.extend(owing);
        }
    }

    /// Whether any channel may be sent something now.
    pub(crate) fn may_tell(&self) -> bool {
        let told = self.channels.borrow();
        let mut channels = self.settings.notify.channels.iter();
        channels.any(|channel| told.may_send(channel))
    }

    /// Returns what a pass found, as far as it concerns messages.
    pub(crate) fn found<'f>(
        &'f self,
        entry: &'f Entry,
        state: &'f State,
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

    /// Sends one message to one channel.
    async fn send(&self, channel: &Channel, message: &Message) -> Fate {
        let key = channel.key();
        {
            let mut told = self.channels.borrow_mut();
            if !told.may_send(channel) {
                return Fate::NotTried;
            }
            *told.sent.entry(key.clone()).or_default() += 1;
        }
        let sending = self.ports.send(channel, message);
        let sent = tokio::time::timeout(LONGEST_SEND, sending).await;
        let late = || Err(format!("no answer within {} s", LONGEST_SEND.as_secs()));
        let sent = sent.unwrap_or_else(|_| late());
        let mut told = self.channels.borrow_mut();
        match sent {
            Ok(()) => {
                *told.taken.entry(key).or_default() += 1;
                Fate::Taken
            }
            Err(why) => {
                tracing::warn!(channel = %channel, message.id, why, "message not taken");
                told.silent.insert(key, why.clone());
                Fate::Failed(why)
            }
        }
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Tells what there is to tell of what became of the certificate; returns whether anything was sent. Where there is no time for it, the
    /// next pass does.
    pub(crate) async fn tell(&mut self, entry: &Entry) -> Result<bool, Halt> {
        let notify = &self.cycle.settings.notify;
        let domains = self.wanted.domains.iter().map(ToString::to_string);
        let found = self.cycle.found(entry, &self.state, domains.collect());
        let (told, messages) = found.news(&self.state.told(), notify);
        let is_new = !messages.is_empty();
        let dropped = self.state.take_in(messages, told, notify);
        if dropped > 0 {
            self.note(
                "messages dropped",
                format!("{dropped}, since too many wait"),
            );
        }
        let sendable = self.sendable();
        let limit = self.cycle.clock.grant(LEAST, LONGEST);
        let Some(limit) = limit.filter(|_| !sendable.is_empty() && self.cycle.may_tell()) else {
            return Ok(false);
        };
        let until = Instant::now() + limit;
        if is_new {
            // Not stored is not sent: somebody else may have the lease by now.
            match tokio::time::timeout_at(until, self.save()).await {
                Ok(saved) => saved?,
                Err(_) => return Ok(false),
            }
        }
        for Sendable { id, to } in sendable {
            if Instant::now() >= until {
                break;
            }
            self.send(&id, &to, until).await;
        }
        self.give_up();
        Ok(true)
    }

    fn sendable(&self) -> Vec<Sendable> {
        let now = self.cycle.clock.now();
        (self.state.told.as_ref()).map_or_else(Vec::new, |told| told.sendable(now))
    }

    /// Sends a message to these channels, and notes which took it.
    async fn send(&mut self, id: &str, to: &[String], until: Instant) {
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
            let late = |_| Fate::Failed("no time was left for it".to_owned());
            (channel.key(), sent.unwrap_or_else(late))
        });
        let fates: Vec<(String, Fate)> = join_all(sends).await;
        // A channel that is not in the settings any more is told nothing.
        outgoing.to.retain(|key| {
            let fate = fates.iter().find(|(known, _)| known == key);
            match fate {
                Some((_, fate)) => !matches!(fate, Fate::Taken),
                None => !to.contains(key),
            }
        });
        let failed = fates.into_iter().find_map(|(_, fate)| match fate {
            Fate::Failed(why) => Some(why),
            Fate::Taken | Fate::NotTried => None,
        });
        if let Some(why) = failed {
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
pub(crate) struct Sendable {
    pub(crate) id: String,
    pub(crate) to: Vec<String>,
}

impl Told {
    /// Returns what may be sent now: to no channel a message before one that it has not taken yet.
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

/// For one message to one channel.
const LONGEST_SEND: Duration = Duration::from_secs(5);
/// With less than this left nothing is told.
const LEAST: Duration = Duration::from_secs(3);
/// For all messages about a certificate: it keeps its lease meanwhile.
const LONGEST: Duration = Duration::from_secs(10);
/// Nobody needs to hear of it any more.
const GIVEN_UP_AFTER: time::Duration = time::Duration::days(3);
