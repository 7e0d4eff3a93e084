//! The errors of services, in our words.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::values::problem::ServiceError;

/// Describes a failed call in our words. Without an answer, or with one that cannot be parsed and
/// is no refusal, there is neither code nor status: the call may have taken effect.
pub fn service_error<E>(operation: &'static str, error: &SdkError<E>) -> ServiceError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    if let Some(status) = status {
        // The parser's message may quote the answer, which can hold a secret.
        let reason = match error.message() {
            Some(message) => message.to_owned(),
            None if error.code().is_some() => "the service gave no reason".to_owned(),
            None => format!("the answer with status {status} cannot be understood"),
        };
        return ServiceError {
            operation,
            code: error.code().map(str::to_owned),
            message: reason,
            status: Some(status).filter(|status| *status >= 300),
        };
    }
    let outcome = match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(_) => "no answer",
        _ => "the request could not be made",
    };
    unusable(operation, format!("{outcome}: {}", words(error)))
}

/// Returns the error for an answer that lacks a required field, or for a request that cannot be
/// made.
pub(super) fn unusable(operation: &'static str, message: impl Into<String>) -> ServiceError {
    ServiceError {
        operation,
        code: None,
        message: message.into(),
        status: None,
    }
}

/// Returns a wait of about the given length, so that callers that were refused together do not all
/// come back together.
pub(super) fn about(wait: Duration) -> Duration {
    wait.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Returns the messages of the causes, outermost first, without repetitions. The error itself only
/// names its class and is left out.
fn words(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !words.iter().any(|earlier| earlier.contains(&said)) {
            words.push(said);
        }
        cause = error.source();
    }
    words.join(": ")
}
