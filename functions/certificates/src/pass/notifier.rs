//! The results of the channels for messages in a pass. Each channel gets only so many messages, and
//! a channel that does not answer gets no more in this pass.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::contract::message::{Message, Sent};
use crate::contract::report::Entry;
use crate::contract::settings::{Channel, Settings};
use crate::ports::Ports;
use crate::records::state::State;
use crate::rules::news::Found;
use crate::values::clock::Clock;

/// The results of the channels in a pass, by [`Channel::key`].
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// How many messages were sent to each.
    sent: BTreeMap<String, usize>,
    /// How many messages each took.
    taken: BTreeMap<String, usize>,
    /// Why a channel did not take a message. It gets no more in this pass.
    silent: BTreeMap<String, String>,
    /// Why a channel did not take a message in an earlier pass; that message still waits.
    owing: BTreeMap<String, String>,
}

impl Channels {
    fn may_send(&self, channel: &Channel) -> bool {
        let key = channel.key();
        let sent = self.sent.get(&key).copied().unwrap_or_default();
        !self.silent.contains_key(&key) && sent < channel.most_at_once()
    }
}

/// The result of a message on one channel.
pub(crate) enum Fate {
    Taken,
    Failed(String),
    /// The channel has had its number of messages in this pass, or it does not answer.
    NotTried,
}

/// Sends messages, and knows the results of the channels in this pass.
pub(crate) struct Notifier<'p, P: Ports> {
    ports: &'p P,
    settings: Rc<Settings>,
    installation: String,
    clock: Clock,
    channels: RefCell<Channels>,
}

impl<'p, P: Ports> Notifier<'p, P> {
    pub(crate) fn new(
        ports: &'p P,
        settings: Rc<Settings>,
        installation: String,
        clock: Clock,
    ) -> Self {
        Self {
            ports,
            settings,
            installation,
            clock,
            channels: RefCell::default(),
        }
    }

    /// Returns the results of the channels in this pass.
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

    /// Notes which channels have not taken a message of an earlier pass.
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

    /// Whether any channel may get a message now.
    pub(crate) fn may_tell(&self) -> bool {
        let told = self.channels.borrow();
        let mut channels = self.settings.notify.channels.iter();
        channels.any(|channel| told.may_send(channel))
    }

    /// Returns the facts that decide about messages for a certificate.
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
    pub(crate) async fn send(&self, channel: &Channel, message: &Message) -> Fate {
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

/// The time limit for one message to one channel.
const LONGEST_SEND: Duration = Duration::from_secs(5);
