//! Messages to SNS topics and EventBridge event buses.

use std::time::SystemTime;

use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::json;

use super::Aws;
use super::error::{service_error, unusable};
use crate::contract::message::Message;
use crate::rules::wording::{email, subject};
use crate::values::problem::ServiceError;

impl Aws {
    /// Publishes a message to a topic, in the region of its ARN: words for mail, JSON for all other
    /// protocols.
    ///
    /// The attributes `kind` and `certificate` are for the filters of subscriptions. On a FIFO
    /// topic, the message's id prevents a second delivery within five minutes.
    pub async fn publish(&self, topic: &str, message: &Message) -> Result<(), ServiceError> {
        let json = json!(message).to_string();
        let by_protocol =
            json!({"default": json, "email": email(message), "sms": subject(message)});
        let attribute = |value: String| {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value);
            value
                .build()
                .map_err(|error| unusable("Publish", error.to_string()))
        };
        let kind = json!(message.kind).as_str().unwrap_or_default().to_owned();
        let region = topic.split(':').nth(3).unwrap_or_default();
        let request = aws_sdk_sns::Client::new(&self.in_region(region))
            .publish()
            .topic_arn(topic)
            .subject(subject(message))
            .message_structure("json")
            .message(by_protocol.to_string())
            .message_attributes("kind", attribute(kind)?)
            .message_attributes("certificate", attribute(message.certificate.name.clone())?);
        let request = match topic.ends_with(".fifo") {
            true => request
                .message_group_id(&message.certificate.name)
                .message_deduplication_id(&message.id),
            false => request,
        };
        let sent = request.send().await;
        sent.map_err(|error| service_error("Publish", &error))?;
        Ok(())
    }

    /// Puts an event on a bus. A bus given by its ARN is called in the region of the ARN.
    pub async fn put_event(&self, bus: &str, message: &Message) -> Result<(), ServiceError> {
        const OPERATION: &str = "PutEvents";
        let config = match bus.starts_with("arn:") {
            true => self.in_region(bus.split(':').nth(3).unwrap_or_default()),
            false => self.config.clone(),
        };
        let entry = PutEventsRequestEntry::builder()
            .source("certloop")
            .detail_type(message.kind.detail_type())
            .detail(json!(message).to_string())
            .time(DateTime::from(SystemTime::from(message.at)))
            .event_bus_name(bus)
            .set_resources(message.certificate.arn.clone().map(|arn| vec![arn]))
            .build();
        let sent = aws_sdk_eventbridge::Client::new(&config)
            .put_events()
            .entries(entry)
            .send();
        let answer = sent
            .await
            .map_err(|error| service_error(OPERATION, &error))?;
        let refused = answer
            .entries()
            .iter()
            .find(|entry| entry.error_code.is_some());
        match refused {
            None if answer.failed_entry_count == 0 => Ok(()),
            entry => {
                let code = entry.and_then(|entry| entry.error_code.clone());
                let message = entry.and_then(|entry| entry.error_message.clone());
                let message = message.unwrap_or_else(|| "the event was not taken".to_owned());
                Err(ServiceError {
                    code,
                    ..unusable(OPERATION, message)
                })
            }
        }
    }
}
