//! What went wrong at a service, in our words.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::values::problem::ServiceError;

/// Tells a failed call in our words. What got no answer, or one that cannot be understood although it is no refusal, has
/// neither code nor status: it may have taken effect.
pub fn service_error<E>(operation: &'static str, error: &SdkError<E>) -> ServiceError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    if let Some(status) = status {
        // What the parser says about an answer may quote it, and it can hold a secret.
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

/// Returns the error of an answer that lacks what it should have, or of a request that cannot be made.
pub(super) fn unusable(operation: &'static str, message: impl Into<String>) -> ServiceError {
    ServiceError {
        operation,
        code: None,
        message: message.into(),
        status: None,
    }
}

/// Returns a wait of about the given length, so that those who were refused together do not come back together.
pub(super) fn about(wait: Duration) -> Duration {
    wait.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Returns what the causes say, outermost first, each thing once. The error itself only names its class and is left out.
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
