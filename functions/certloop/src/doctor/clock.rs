//! Pure: whether the clock here, the function's and AWS's agree. Signatures of requests are refused
//! when they are five minutes apart.

use time::{Duration, OffsetDateTime};

use super::{Finding, finding};
use crate::words::span;

const ABOUT: &str = "clock";

/// What a clock elsewhere said, and when it was asked here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) sent: OffsetDateTime,
    pub(crate) answered: OffsetDateTime,
    pub(crate) said: OffsetDateTime,
}

impl Reading {
    /// Returns how far this machine's clock is ahead, at least: what lies between asking and
    /// answering excuses it.
    fn ahead(&self) -> Duration {
        // Clocks elsewhere show whole seconds.
        let (earliest, latest) = (
            self.sent - Duration::SECOND,
            self.answered + Duration::SECOND,
        );
        if self.said < earliest {
            earliest - self.said
        } else if self.said > latest {
            latest - self.said
        } else {
            Duration::ZERO
        }
    }
}

/// Judges this machine's clock by AWS's, and the function's by this machine's.
pub(crate) fn judge(aws: Option<Reading>, function: Option<Reading>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let here = aws.map(|reading| reading.ahead());
    match here {
        Some(ahead) => findings.push(of(
            ahead,
            "this machine's clock",
            "AWS's",
            "set the clock of this machine (NTP)",
        )),
        None => findings.push(finding::unknown(
            ABOUT,
            "what AWS's clock says: no answer had a date",
        )),
    }
    if let Some(reading) = function {
        // The function's clock against AWS's, if that is known; an error of ours is none of the
        // function's.
        let ahead = here.unwrap_or_default() - reading.ahead();
        findings.push(of(
            ahead,
            "the function's clock",
            "AWS's",
            "nothing on your side sets it: report it to AWS",
        ));
    }
    findings
}

fn of(ahead: Duration, whose: &str, others: &str, remedy: &str) -> Finding {
    let by = ahead.abs();
    let side = if ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    match by {
        by if by > REFUSED => finding::wrong(
            ABOUT,
            format!(
                "{whose} is {} {side} {others}: AWS refuses what is signed by it, and no time here \
                 is right",
                span(by)
            ),
        )
        .with(remedy),
        by if by > NOTABLE => {
            finding::warning(ABOUT, format!("{whose} is {} {side} {others}", span(by))).with(remedy)
        }
        _ => finding::ok(ABOUT, format!("{whose} agrees with {others}")),
    }
}

const NOTABLE: Duration = Duration::seconds(5);
const REFUSED: Duration = Duration::minutes(5);

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::Verdict;
    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 09:00 UTC);

    fn reading(off: i64) -> Reading {
        Reading {
            sent: NOW,
            answered: NOW + Duration::seconds(2),
            said: NOW - Duration::seconds(off),
        }
    }

    fn verdicts(aws: i64, function: i64) -> Vec<Verdict> {
        let found = judge(Some(reading(aws)), Some(reading(function)));
        found.into_iter().map(|it| it.verdict).collect()
    }

    #[test]
    fn clocks_may_differ_by_seconds() {
        assert_eq!(verdicts(0, 0), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(5, 5), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(20, 20), [Verdict::Warning, Verdict::Ok]);
        assert_eq!(verdicts(-20, -20), [Verdict::Warning, Verdict::Ok]);
        assert_eq!(verdicts(400, 400), [Verdict::Wrong, Verdict::Ok]);
        assert_eq!(verdicts(0, 400), [Verdict::Ok, Verdict::Wrong]);
        assert_eq!(judge(None, None)[0].verdict, Verdict::CouldNotTell);
    }

    #[test]
    fn which_clock_is_ahead_is_said() {
        let found = judge(Some(reading(61)), Some(reading(61)));
        assert_eq!(
            found[0].found,
            "this machine's clock is 60 seconds ahead of AWS's"
        );
        let found = judge(Some(reading(-603)), None);
        assert!(
            found[0].found.contains("10 minutes behind AWS's"),
            "{found:?}"
        );
        let found = judge(Some(reading(0)), Some(reading(61)));
        assert_eq!(
            found[1].found,
            "the function's clock is 60 seconds behind AWS's"
        );
    }
}
