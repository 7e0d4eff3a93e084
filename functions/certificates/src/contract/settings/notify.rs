//! Where notifications are sent (`notify`), checked.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authority::check_secret;
use crate::contract::strict::{Invalid, Object};

/// Where notifications are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// The channels.
    pub channels: Vec<Channel>,
    /// Whether each successful renewal is announced too.
    pub renewals: bool,
}

/// A place that messages go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// An SNS topic.
    Topic {
        /// Its ARN.
        arn: String,
    },
    /// An EventBridge event bus.
    EventBus {
        /// Its name, or its ARN.
        bus: String,
    },
    /// A webhook of a chat room or a program.
    Webhook {
        /// ARN of the secret whose string is the URL.
        secret_arn: String,
        /// Form of the message.
        format: WebhookFormat,
    },
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic { arn } => write!(f, "the topic {arn}"),
            Self::EventBus { bus } => write!(f, "the event bus {bus}"),
            Self::Webhook { secret_arn, format } => {
                write!(f, "the {format} webhook of {secret_arn}")
            }
        }
    }
}

impl Channel {
    /// Returns the text that identifies it in records.
    pub fn key(&self) -> String {
        match self {
            Self::Topic { arn } => format!("topic:{arn}"),
            Self::EventBus { bus } => format!("eventBus:{bus}"),
            Self::Webhook { secret_arn, .. } => format!("webhook:{secret_arn}"),
        }
    }

    /// Returns how many messages it accepts in one pass: a chat room is not a log, and answers a
    /// flood with 429. The rest waits for the next pass.
    pub(crate) fn most_at_once(&self) -> usize {
        match self {
            Self::Webhook { format, .. } if *format != WebhookFormat::Json => 20,
            _ => usize::MAX,
        }
    }
}

impl Notify {
    pub(super) fn check(document: NotifyDocument) -> Result<Self, Invalid> {
        let mut channels = Vec::new();
        if let Some(arn) = document.topic_arn {
            check_arn("notify.topicArn", &arn, "sns", "an SNS topic")?;
            channels.push(Channel::Topic { arn });
        }
        if let Some(bus) = document.event_bus {
            match bus.starts_with("arn:") {
                true => check_arn("notify.eventBus", &bus, "events", "an event bus")?,
                false => check_bus_name(&bus)?,
            }
            channels.push(Channel::EventBus { bus });
        }
        let mut seen = BTreeSet::new();
        for (index, Object(webhook)) in document.webhooks.into_iter().enumerate() {
            let field = format!("notify.webhooks[{index}].secretArn");
            check_secret(&field, &webhook.secret_arn)?;
            if !seen.insert(webhook.secret_arn.clone()) {
                return Err(Invalid::at(
                    field,
                    "is there twice: every message would be sent twice",
                ));
            }
            channels.push(Channel::Webhook {
                secret_arn: webhook.secret_arn,
                format: webhook.format,
            });
        }
        Ok(Self {
            channels,
            renewals: document.renewals,
        })
    }
}

fn check_arn(field: &str, arn: &str, service: &str, what: &str) -> Result<(), Invalid> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_fine = match parts[..] {
        ["arn", partition, of, region, account, name] => {
            partition.starts_with("aws")
                && of == service
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && !name.is_empty()
                && arn.bytes().all(|byte| byte.is_ascii_graphic())
        }
        _ => false,
    };
    match is_fine {
        true => Ok(()),
        false => Err(Invalid::at(field, format!("is not the ARN of {what}"))),
    }
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html>
fn check_bus_name(name: &str) -> Result<(), Invalid> {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    match (1..=256).contains(&name.len()) && name.bytes().all(may_be) {
        true => Ok(()),
        false => Err(Invalid::at(
            "notify.eventBus",
            "is neither the name nor the ARN of an event bus: names have letters, digits and . _ \
             - /",
        )),
    }
}

/// Where notifications are sent: a first certificate is issued, a problem starts, changes or ends,
/// or little of a lifetime is left.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Notify")]
pub(super) struct NotifyDocument {
    /// ARN of the SNS topic to publish to.
    topic_arn: Option<String>,
    /// Name or ARN of the event bus to put events on.
    event_bus: Option<String>,
    /// Webhooks of chat rooms and programs.
    webhooks: Vec<Object<WebhookDocument>>,
    /// Whether to notify on each successful renewal too.
    renewals: bool,
}

/// A place to post messages to.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Webhook")]
struct WebhookDocument {
    /// ARN of the secret whose string is the URL.
    secret_arn: String,
    /// Form of the message.
    format: WebhookFormat,
}

/// Form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// For Slack.
    Slack,
    /// For Microsoft Teams.
    Teams,
    /// For Mattermost and Rocket.Chat.
    Mattermost,
    /// The message itself, as JSON.
    Json,
}

impl fmt::Display for WebhookFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Mattermost => "mattermost",
            Self::Json => "json",
        })
    }
}
