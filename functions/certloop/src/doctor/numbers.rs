//! What the machinery counted that should be zero: which metrics, since when, and where to look.

use time::{Duration, OffsetDateTime};

use super::aws::Look;
use super::names::Names;
use super::schedule::Count;

/// A number that is not read yet.
pub(super) struct Number {
    about: &'static str,
    what: &'static str,
    metric: (&'static str, &'static str),
    /// Its value is unknown where the module's names are.
    dimension: (&'static str, Option<String>),
    since: OffsetDateTime,
    remedy: String,
}

impl Number {
    /// Reads it; nothing where it is not known what its dimension is called.
    pub(super) async fn read(self, look: &Look<'_>, now: OffsetDateTime) -> Option<Count> {
        let (dimension, value) = (self.dimension.0, self.dimension.1?);
        let seen = look
            .total(self.metric, (dimension, &value), self.since, now)
            .await;
        Some(Count {
            about: self.about,
            what: self.what.to_owned(),
            seen,
            remedy: self.remedy,
        })
    }
}

/// Returns the numbers of the functions: what failed of renew, what of it was not let run, and what
/// failed of challenge.
pub(super) fn of_the_last_day(names: &Names, now: OffsetDateTime) -> [Number; 3] {
    let since = now - Duration::DAY;
    let (renew, challenge) = (&names.function, names.challenge());
    [
        Number {
            about: "function renew",
            what: "invocations failed in the last day",
            metric: ("AWS/Lambda", "Errors"),
            dimension: ("FunctionName", Some(renew.clone())),
            since,
            remedy: log(renew),
        },
        Number {
            about: "function renew",
            what: "invocations were not let run in the last day",
            metric: ("AWS/Lambda", "Throttles"),
            dimension: ("FunctionName", Some(renew.clone())),
            since,
            remedy: "aws lambda get-account-settings: the account's concurrent executions"
                .to_owned(),
        },
        Number {
            about: "function challenge",
            what: "invocations failed in the last day",
            metric: ("AWS/Lambda", "Errors"),
            remedy: log(challenge.as_deref().unwrap_or_default()),
            dimension: ("FunctionName", challenge),
            since,
        },
    ]
}

/// Returns the numbers that say how things are now: what could not be delivered, which messages
/// failed, and what nothing in the bucket knows.
pub(super) fn of_the_last_hour(names: &Names, now: OffsetDateTime) -> [Number; 3] {
    let since = now - Duration::HOUR;
    let (renew, queue) = (&names.function, names.queue());
    [
        Number {
            about: "undelivered",
            what: "invocations could not be delivered in the last hour",
            metric: ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
            remedy: format!(
                "a message of the queue {} says why (ERROR_MESSAGE)",
                queue.as_deref().unwrap_or_default()
            ),
            dimension: ("QueueName", queue),
            since,
        },
        Number {
            about: "messages",
            what: "messages reached no channel in the last hour",
            metric: ("certloop", "MessagesFailed"),
            dimension: ("Function", Some(renew.clone())),
            since,
            remedy: format!("{}: which, and why", log(renew)),
        },
        Number {
            about: "strays",
            what: "certificates carry the tag of this installation, and nothing in the bucket \
                   knows them",
            metric: ("certloop", "Strays"),
            dimension: ("Function", Some(renew.clone())),
            since,
            remedy: "certloop status --unmanaged: which; was the bucket emptied, or put back from \
                     another day?"
                .to_owned(),
        },
    ]
}

fn log(function: &str) -> String {
    format!("aws logs tail --since 1d /aws/lambda/{function}")
}
