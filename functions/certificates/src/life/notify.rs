//! Sends the messages about a certificate, under its lease. A new message is stored before it is
//! sent. Messages that were taken are marked with the write that gives the lease back. If an
//! invocation is stopped in between, the next pass sends the message again under the same id.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::contract::report::Entry;
use crate::life::work::Work;
use crate::pass::notifier::Fate;
use crate::pass::patience::within;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::records::notified::Outgoing;
use crate::rules::news::Sendable;
use crate::values::instant::whole_seconds;
use crate::values::problem::backoff;

impl<P: Ports> Work<'_, '_, P> {
    /// Sends the messages about the work on the certificate; returns whether anything was sent.
    /// Where there is no time, the next pass sends them.
    pub(crate) async fn tell(&mut self, entry: &Entry) -> Result<bool, Stop> {
        let notify = &self.cycle.settings.notify;
        let domains = self.wanted.domains.iter().map(ToString::to_string);
        let found = self
            .cycle
            .notifier
            .found(entry, &self.state, domains.collect());
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
        let Some(limit) = limit.filter(|_| !sendable.is_empty() && self.cycle.notifier.may_tell())
        else {
            return Ok(false);
        };
        let until = Instant::now() + limit;
        if is_new {
            // What is not stored is not sent: another invocation may have the lease by now.
            match within(until.saturating_duration_since(Instant::now()), self.save()).await {
                Some(saved) => saved?,
                None => return Ok(false),
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
            let sending = self.cycle.notifier.send(channel, &outgoing.message);
            let sent = within(until.saturating_duration_since(Instant::now()), sending).await;
            let late = || Fate::Failed("no time was left for it".to_owned());
            (channel.key(), sent.unwrap_or_else(late))
        });
        let fates: Vec<(String, Fate)> = join_all(sends).await;
        // A channel that is no longer in the settings gets no message.
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

    /// Drops messages that every channel has taken, and those that are too old.
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

/// With less time than this left no message is sent.
const LEAST: Duration = Duration::from_secs(3);
/// The time limit for all messages about a certificate: it keeps its lease meanwhile.
const LONGEST: Duration = Duration::from_secs(10);
/// A message that is older than this is dropped.
const GIVEN_UP_AFTER: time::Duration = time::Duration::days(3);
