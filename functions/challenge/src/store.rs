//! The stored key authorizations: the port the handler reads through, and the bucket behind it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use certificates::challenge::{KEY_AUTHORIZATION_MAX_LENGTH, Token};

/// Reads what is stored for a token.
pub(crate) trait Challenges {
    /// Returns the stored bytes, `None` if the service said that nothing is stored.
    ///
    /// MUST NOT return `None` when it could not tell. SHOULD read once. MAY cut short an object that is too long for a
    /// key authorization, as long as it stays too long.
    fn read(&self, token: &Token) -> impl Future<Output = Result<Option<Vec<u8>>, ReadError>>;
}

/// Why it is not known what is stored.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The service refused to say. Without the right to list the bucket it says so of every token that is not stored.
    Denied,
    /// No usable answer.
    Unreachable(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("access denied"),
            Self::Unreachable(source) => write!(f, "{}", DisplayErrorContext(source.as_ref())),
        }
    }
}

impl Error for ReadError {}

/// The bucket.
pub(crate) struct Bucket {
    name: String,
    client: Client,
}

impl Bucket {
    /// Opens the bucket of that name; makes no request.
    pub(crate) async fn open(name: String) -> Self {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .build(),
            )
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(2)
                    .with_initial_backoff(FIRST_BACKOFF),
            )
            // The handler bounds the whole read, body included.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        Self {
            name,
            client: Client::new(&config),
        }
    }
}

impl Challenges for Bucket {
    async fn read(&self, token: &Token) -> Result<Option<Vec<u8>>, ReadError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(token.object_key());
        let mut body = match request.send().await {
            Ok(object) => object.body,
            Err(error) => {
                return match error.as_service_error() {
                    Some(service) if service.is_no_such_key() => Ok(None),
                    Some(service) if service.code() == Some("AccessDenied") => {
                        Err(ReadError::Denied)
                    }
                    _ => Err(ReadError::Unreachable(error.into())),
                };
            }
        };

        let mut stored = Vec::new();
        while let Some(chunk) = body
            .try_next()
            .await
            .map_err(|error| ReadError::Unreachable(error.into()))?
        {
            stored.extend_from_slice(&chunk);
            if stored.len() > KEY_AUTHORIZATION_MAX_LENGTH {
                break;
            }
        }
        Ok(Some(stored))
    }
}

/// A bucket in the same region accepts a connection within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Two attempts fit into the time the handler gives a read.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1200);

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
