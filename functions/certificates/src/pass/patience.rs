//! Limits for waiting: for one answer, and between looks at something that changes by itself.

use std::time::Duration;

use tokio::time::Instant;

/// Waits no longer than this; `None` where the time limit ended the wait.
pub(crate) async fn within<T>(limit: Duration, awaited: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, awaited).await.ok()
}

/// The result of one of several looks.
pub(crate) enum Looked<T> {
    /// It is as it should be, or never will be.
    Enough(T),
    /// It may change after a while.
    Again(T),
}

/// The pauses between looks: each twice as long as the one before.
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Pauses {
    /// Makes pauses of one length.
    pub(crate) fn of(length: Duration) -> Self {
        Self {
            first: length,
            longest: length,
        }
    }
}

/// Looks until a look is enough, or until the next one would come too late; returns the last one.
pub(crate) async fn poll_until<T>(
    until: Instant,
    pauses: Pauses,
    mut look: impl AsyncFnMut() -> Looked<T>,
) -> T {
    let mut pause = pauses.first;
    loop {
        match look().await {
            Looked::Again(_) if Instant::now() + pause < until => {}
            Looked::Enough(last) | Looked::Again(last) => return last,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(pauses.longest);
    }
}
