//! The port through which the handler reads the stored object of a token.

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::shared::challenge::Token;

/// Reads the stored object of a token.
pub(crate) trait Challenges {
    /// Returns the stored bytes. `None` if the service says that nothing is stored.
    ///
    /// MUST NOT return `None` when the answer is unknown. SHOULD read once. MAY cut an object that
    /// is too long for a key authorization, if the result is still too long.
    fn read(&self, token: &Token) -> impl Future<Output = Result<Option<Vec<u8>>, ReadError>>;
}

/// Why the stored object is unknown.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The service refused the read. Without the right to list the bucket it does so for every
    /// token that is not stored.
    Denied,
    /// No usable answer.
    Unreachable(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("access denied"),
            Self::Unreachable(source) => {
                write!(f, "{source}")?;
                let mut next = source.source();
                while let Some(source) = next {
                    write!(f, ": {source}")?;
                    next = source.source();
                }
                Ok(())
            }
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for ReadError {
    fn from(source: E) -> Self {
        Self::Unreachable(source.into())
    }
}
