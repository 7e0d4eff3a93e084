//! HTTP requests as a Lambda function receives them from several services, and the form of answer
//! that each service accepts.
//!
//! - [Application Load
//!   Balancer](https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html),
//!   with single-value or multi-value headers
//! - [API
//!   Gateway](https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html):
//!   REST (payload 1.0) and HTTP (payload 2.0)
//! - [function URL](https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html) (payload
//!   2.0)
//!
//! Events are read field by field, not deserialized: an unknown event must get an answer, because
//! an error of the function is a 502 for the client.

use serde_json::{Map, Value, json};

/// The few parts of a request that we need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request<'e> {
    pub(crate) method: &'e str,
    pub(crate) path: &'e str,
}

impl<'e> Request<'e> {
    /// Reads a request from any of these services; `None` if the event has no known form.
    pub(crate) fn read(event: &'e Value) -> Option<Self> {
        let context = &event["requestContext"];
        if let Some(method) = context["http"]["method"].as_str() {
            let path = event["rawPath"].as_str()?;
            return Some(Self {
                method,
                path: without_stage(path, context["stage"].as_str()),
            });
        }
        Some(Self {
            method: event["httpMethod"].as_str()?,
            path: event["path"].as_str()?,
        })
    }
}

/// An answer, before it is put into the form of its receiver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: Status,
    pub(crate) body: String,
}

impl Response {
    /// Returns the answer in the form that the sender of `event` accepts.
    pub(crate) fn into_json(self, event: &Value) -> Value {
        let mut headers = vec![
            ("content-type", "text/plain"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ];
        if self.status == Status::MethodNotAllowed {
            headers.push(("allow", "GET, HEAD"));
        }

        let mut response = Map::new();
        response.insert("statusCode".into(), self.status.code().into());
        // Only a load balancer knows this field, and a REST API refuses an answer with unknown
        // fields.
        if event["requestContext"]["elb"].is_object() {
            let description = format!("{} {}", self.status.code(), self.status.reason());
            response.insert("statusDescription".into(), description.into());
        }
        // A load balancer ignores headers of the one kind if it sent the other kind.
        let multi_value = event["multiValueHeaders"].is_object();
        let named = headers.into_iter().map(|(name, value)| match multi_value {
            true => (name.to_owned(), json!([value])),
            false => (name.to_owned(), json!(value)),
        });
        let kind = match multi_value {
            true => "multiValueHeaders",
            false => "headers",
        };
        response.insert(kind.into(), named.collect());
        response.insert("body".into(), self.body.into());
        response.insert("isBase64Encoded".into(), false.into());
        Value::Object(response)
    }
}

/// The statuses that this function answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NotFound,
    MethodNotAllowed,
    ServiceUnavailable,
}

impl Status {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::ServiceUnavailable => 503,
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::ServiceUnavailable => "Service Unavailable",
        }
    }
}

/// HTTP APIs put the stage name before the path, unless the stage is `$default`.
fn without_stage<'e>(path: &'e str, stage: Option<&str>) -> &'e str {
    stage
        .and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage))
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_taken_off_and_nothing_else() {
        for (path, stage, expected) in [
            ("/prod/health", Some("prod"), "/health"),
            ("/health", Some("$default"), "/health"),
            ("/health", None, "/health"),
            ("/health", Some("health"), "/health"),
            ("/production/health", Some("prod"), "/production/health"),
            ("/prod/prod/health", Some("prod"), "/prod/health"),
            ("/health", Some(""), "/health"),
            ("", Some("prod"), ""),
        ] {
            assert_eq!(without_stage(path, stage), expected, "{path:?} {stage:?}");
        }
    }
}
