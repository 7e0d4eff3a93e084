//! The events that renew understands: those of the schedule and the bucket, and requests made by
//! hand.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::invocation::actions::Action;
use crate::invocation::status::Selection;
use crate::ports::store;
use crate::values::revocation_reason::Reason;

/// What an invocation asks for.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// One pass, over all certificates or the named ones.
    Reconcile {
        /// Only these.
        certificates: Option<Vec<String>>,
        /// Also what is not due, and what waits after a failure by our own schedule.
        force: bool,
        /// With `force`: also where the current certificate is not deployed yet.
        reissue: bool,
    },
    /// First issuance by hand: store the document, then reconcile it.
    Issue {
        /// The document's name.
        name: String,
        /// The document.
        certificate: Value,
        /// Whether it may replace a different document of that name.
        replace: bool,
    },
    /// A request for one certificate.
    Act {
        /// The name of the certificate.
        name: String,
        /// The request.
        action: Action,
    },
    /// What a pass would do, now or at a future instant.
    Plan {
        /// Only these.
        certificates: Option<Vec<String>>,
        /// When; without it, now.
        at: Option<OffsetDateTime>,
    },
    /// The inventory.
    Status(Selection),
    /// Whether the names of a certificate would be validated now.
    Check {
        /// The document's name.
        name: String,
    },
}

impl Event {
    /// Whether the answer leaves what is served or ordered as it is. A check puts a probe into the
    /// bucket, only as long as it runs.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Plan { .. } | Self::Status(_) | Self::Check { .. }
        )
    }
}

/// An event that is not understood. Nothing was changed.
#[derive(Debug, Error, PartialEq)]
pub enum NotUnderstood {
    /// It has no shape that renew knows: the answer lists those it knows.
    #[error("{}. {UNDERSTOOD}", in_one_line(.0))]
    Event(String),
    /// A value in it cannot be used: the sentence says which, and which can.
    #[error("{}", in_one_line(.0))]
    Value(String),
}

const UNDERSTOOD: &str = "Understood are: \
     an EventBridge event of detail-type \"Scheduled Event\" (source aws.events or aws.scheduler); \
     an EventBridge event of detail-type \"Object Created\" (source aws.s3) \
     for certificates/<name>.json; \
     a notification of S3 itself for such objects; \
     {\"action\":\"reconcile\"} with optional \"certificates\", \"force\" and \"reissue\"; \
     {\"action\":\"issue\",\"name\":...,\"certificate\":{...}} with optional \"replace\"; \
     {\"action\":\"plan\"} with optional \"certificates\" and \"at\"; \
     {\"action\":\"status\"} with optional \"certificates\", \"limit\", \"after\" and \
     \"unmanaged\"; \
     {\"action\":\"rollback\",\"name\":...} with optional \"serial\"; \
     {\"action\":\"revoke\",\"name\":...} with optional \"reason\" and \"serial\"; \
     {\"action\":\"remove\",\"name\":...}; \
     {\"action\":\"check\",\"name\":...}";

/// Returns text that may repeat parts of an event, safe for one line of a message: escaped, and cut
/// when it is long.
fn in_one_line(reason: &str) -> String {
    let mut line = String::new();
    for (at, c) in reason.chars().enumerate() {
        match c {
            _ if at == LONGEST_REASON => return line + "...",
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// In characters.
const LONGEST_REASON: usize = 500;

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Reconcile {
        #[serde(default)]
        certificates: Option<Vec<String>>,
        #[serde(default)]
        force: bool,
        #[serde(default)]
        reissue: bool,
    },
    Issue {
        name: String,
        certificate: Value,
        #[serde(default)]
        replace: bool,
    },
    Rollback {
        name: String,
        #[serde(default)]
        serial: Option<String>,
    },
    Revoke {
        name: String,
        #[serde(default)]
        reason: Reason,
        #[serde(default)]
        serial: Option<String>,
    },
    Remove {
        name: String,
    },
    Plan {
        #[serde(default)]
        certificates: Option<Vec<String>>,
        #[serde(default)]
        at: Option<String>,
    },
    Status(Selection),
    Check {
        name: String,
    },
}

impl Event {
    /// Parses an event. `bucket` is ours: an object created in another one is refused.
    pub fn parse(event: &Value, bucket: &str) -> Result<Self, NotUnderstood> {
        if let Some(action) = event.get("action") {
            return Self::parse_request(event, action);
        }
        let text = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        match (text("/detail-type"), text("/source")) {
            ("Scheduled Event", "aws.events" | "aws.scheduler") => Ok(Self::Reconcile {
                certificates: None,
                force: false,
                reissue: false,
            }),
            ("Object Created", "aws.s3") => {
                let (named, key) = (text("/detail/bucket/name"), text("/detail/object/key"));
                let name = name_of_object(named, key, bucket)?;
                Ok(Self::Reconcile {
                    certificates: Some(vec![name]),
                    force: false,
                    reissue: false,
                })
            }
            ("", "") if event.get("Records").is_some() => of_records(event, bucket),
            ("", "") => Err(NotUnderstood::Event(
                "the event has neither \"action\" nor \"detail-type\"".to_owned(),
            )),
            (kind, source) => Err(NotUnderstood::Event(format!(
                "detail-type {kind:?} of source {source:?} is not understood"
            ))),
        }
    }

    fn parse_request(event: &Value, action: &Value) -> Result<Self, NotUnderstood> {
        match action.as_str() {
            Some(
                "reconcile" | "issue" | "plan" | "status" | "rollback" | "revoke" | "remove"
                | "check",
            ) => {}
            _ => {
                return Err(NotUnderstood::Event(format!(
                    "the action {action} is unknown"
                )));
            }
        }
        let request = Request::deserialize(event).map_err(|error| {
            NotUnderstood::Event(format!("the request {action} is wrong: {error}"))
        })?;
        Self::of_request(request)
    }

    fn of_request(request: Request) -> Result<Self, NotUnderstood> {
        Ok(match request {
            Request::Reconcile {
                reissue: true,
                force: false,
                ..
            } => {
                return Err(NotUnderstood::Value(
                    "reissue: needs \"force\": true; add that, or leave reissue out".to_owned(),
                ));
            }
            Request::Reconcile {
                certificates,
                force,
                reissue,
            } => Self::Reconcile {
                certificates,
                force,
                reissue,
            },
            Request::Issue {
                name,
                certificate,
                replace,
            } => Self::Issue {
                name,
                certificate,
                replace,
            },
            Request::Rollback { name, serial } => Self::Act {
                name,
                action: Action::RollBack { serial },
            },
            Request::Revoke {
                name,
                reason,
                serial,
            } => Self::Act {
                name,
                action: Action::Revoke { serial, reason },
            },
            Request::Remove { name } => Self::Act {
                name,
                action: Action::Remove,
            },
            Request::Plan { certificates, at } => Self::Plan {
                certificates,
                at: at.as_deref().map(instant).transpose()?,
            },
            Request::Status(selection) => Self::Status(selection),
            Request::Check { name } => Self::Check { name },
        })
    }
}

/// Reads a notification as S3 itself sends it to a function: one or more created objects, whose
/// keys are URL-encoded.
fn of_records(event: &Value, bucket: &str) -> Result<Event, NotUnderstood> {
    let records = event["Records"].as_array().map(Vec::as_slice);
    let mut names = Vec::new();
    for record in records.unwrap_or_default() {
        let text = |pointer: &str| {
            let value = record.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default()
        };
        let (source, what) = (text("/eventSource"), text("/eventName"));
        if source == "aws:sqs" {
            return Err(NotUnderstood::Event(
                "batches of a queue are not yet supported".to_owned(),
            ));
        }
        if source != "aws:s3" || !what.starts_with("ObjectCreated:") {
            return Err(NotUnderstood::Event(format!(
                "the record {what:?} of source {source:?} is no created object of S3"
            )));
        }
        let encoded = text("/s3/object/key");
        let decoded = url::form_urlencoded::parse(encoded.as_bytes()).next();
        let key = decoded.map(|(key, _)| key.into_owned()).unwrap_or_default();
        names.push(name_of_object(text("/s3/bucket/name"), &key, bucket)?);
    }
    if names.is_empty() {
        return Err(NotUnderstood::Event("\"Records\" is empty".to_owned()));
    }
    Ok(Event::Reconcile {
        certificates: Some(names),
        force: false,
        reissue: false,
    })
}

/// Returns the certificate whose document was created as `key` in the bucket `named`.
fn name_of_object(named: &str, key: &str, bucket: &str) -> Result<String, NotUnderstood> {
    if named != bucket {
        return Err(NotUnderstood::Event(format!(
            "the object was created in the bucket {named:?}, not in {bucket:?}"
        )));
    }
    let name = store::name_of_certificate_key(key).ok_or_else(|| {
        NotUnderstood::Event(format!(
            "the object {key:?} is not certificates/<name>.json"
        ))
    })?;
    Ok(name.to_owned())
}

fn instant(text: &str) -> Result<OffsetDateTime, NotUnderstood> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        NotUnderstood::Value(format!(
            "at: {text:?} is not an instant of RFC 3339, such as \"2026-03-04T09:20:00Z\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Event, NotUnderstood> {
        Event::parse(&serde_json::from_str(text).unwrap(), "certloop-example")
    }

    fn sample(text: &str) -> Event {
        parse(text).unwrap()
    }

    const EVERYTHING: Event = Event::Reconcile {
        certificates: None,
        force: false,
        reissue: false,
    };

    #[test]
    fn the_schedule_asks_for_a_whole_pass() {
        assert_eq!(
            sample(include_str!("../../../../events/scheduled.json")),
            EVERYTHING
        );
        assert_eq!(
            sample(include_str!("../../../../events/scheduler.json")),
            EVERYTHING
        );
        assert_eq!(
            sample(include_str!("../../../../events/reconcile.json")),
            EVERYTHING
        );
    }

    #[test]
    fn some_certificates_may_be_named_and_forced() {
        let names = Some(vec!["shop".to_owned()]);
        assert_eq!(
            sample(include_str!("../../../../events/reconcile-some.json")),
            Event::Reconcile {
                certificates: names,
                force: true,
                reissue: false
            }
        );
    }

    #[test]
    fn a_reissue_has_to_be_forced() {
        let both = "{\"action\":\"reconcile\",\"force\":true,\"reissue\":true}";
        assert!(matches!(
            parse(both),
            Ok(Event::Reconcile { reissue: true, .. })
        ));
        let alone = parse("{\"action\":\"reconcile\",\"reissue\":true}").unwrap_err();
        assert!(alone.to_string().starts_with("reissue: "), "{alone}");
    }

    #[test]
    fn a_document_put_into_the_bucket_asks_for_that_certificate() {
        let names = Some(vec!["shop".to_owned()]);
        assert_eq!(
            sample(include_str!("../../../../events/object-created.json")),
            Event::Reconcile {
                certificates: names,
                force: false,
                reissue: false
            }
        );
    }

    #[test]
    fn a_notification_of_s3_itself_asks_for_its_certificates() {
        let record = |bucket: &str, key: &str| {
            serde_json::json!({
                "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
            })
        };
        let of = |records: Vec<Value>| {
            Event::parse(&serde_json::json!({"Records": records}), "certloop-example")
        };
        let both = of(vec![
            record("certloop-example", "certificates/shop.json"),
            record("certloop-example", "certificates/web%2Fa+b.json"),
        ]);
        let names = Some(vec!["shop".to_owned(), "web/a b".to_owned()]);
        assert_eq!(
            both,
            Ok(Event::Reconcile {
                certificates: names,
                force: false,
                reissue: false
            })
        );
        for (records, words) in [
            (
                vec![record("other", "certificates/shop.json")],
                "in the bucket",
            ),
            (
                vec![record("certloop-example", "state/shop.json")],
                "is not certificates/",
            ),
            (
                vec![serde_json::json!({"eventSource": "aws:sqs"})],
                "batches of a queue",
            ),
            (
                vec![serde_json::json!({"eventSource": "aws:sns"})],
                "no created object",
            ),
            (vec![], "is empty"),
        ] {
            let refused = of(records).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn an_object_elsewhere_is_refused() {
        let event = include_str!("../../../../events/object-created.json");
        let other =
            Event::parse(&serde_json::from_str(event).unwrap(), "another-bucket").unwrap_err();
        assert!(other.to_string().contains("certloop-example"), "{other}");
        let settings =
            parse(&event.replace("certificates/shop.json", "state/shop.json")).unwrap_err();
        assert!(
            settings.to_string().contains("state/shop.json"),
            "{settings}"
        );
    }

    #[test]
    fn a_request_by_hand_is_read_whole() {
        let issue = sample(include_str!("../../../../events/issue.json"));
        assert!(matches!(issue, Event::Issue { name, replace: false, .. } if name == "shop"));
        assert!(matches!(
            sample(include_str!("../../../../events/status.json")),
            Event::Status(Selection {
                limit: Some(100),
                ..
            })
        ));
        let name = "shop".to_owned();
        assert_eq!(
            sample(include_str!("../../../../events/check.json")),
            Event::Check { name }
        );
        assert_eq!(
            sample(include_str!("../../../../events/plan.json")),
            Event::Plan {
                certificates: Some(vec!["shop".to_owned()]),
                at: None
            }
        );
    }

    #[test]
    fn a_plan_may_be_for_an_instant() {
        let Ok(Event::Plan { at: Some(at), .. }) =
            parse("{\"action\":\"plan\",\"at\":\"2026-03-04T10:20:00+01:00\"}")
        else {
            panic!("not understood");
        };
        assert_eq!(at.unix_timestamp(), 1_772_616_000);
        for wrong in ["\"tomorrow\"", "\"2026-03-04\"", "7"] {
            let event = format!("{{\"action\":\"plan\",\"at\":{wrong}}}");
            parse(&event).unwrap_err();
        }
        let typo = parse("{\"action\":\"plan\",\"certificate\":\"shop\"}").unwrap_err();
        assert!(typo.to_string().contains("certificate"), "{typo}");
    }

    #[test]
    fn a_refusal_is_one_short_line() {
        let event = serde_json::json!({"action": ["\u{7f}", "a".repeat(100_000)]});
        let refusal = Event::parse(&event, "certloop-example")
            .unwrap_err()
            .to_string();
        assert!(
            !refusal.contains(char::is_control) && refusal.len() < 2_000,
            "{refusal}"
        );
        assert!(refusal.contains("Understood are"), "{refusal}");
    }

    #[test]
    fn whatever_is_not_understood_is_answered_with_what_is() {
        for event in [
            "{}",
            "[]",
            "null",
            "{\"action\":\"dance\"}",
            "{\"action\":7}",
            "{\"detail-type\":\"Dance\",\"source\":\"aws.s3\"}",
        ] {
            let error = parse(event).unwrap_err().to_string();
            assert!(
                error.contains("\"reconcile\"") && error.contains("Scheduled Event"),
                "{error}"
            );
        }
        let typo = parse("{\"action\":\"reconcile\",\"certificats\":[]}")
            .unwrap_err()
            .to_string();
        assert!(typo.contains("certificats"), "{typo}");
        let later = parse("{\"Records\":[{\"eventSource\":\"aws:sqs\"}]}");
        let later = later.unwrap_err().to_string();
        assert!(later.contains("not yet"), "{later}");
    }
}
