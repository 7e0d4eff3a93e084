//! Pure: whether passes are made by themselves, and the machinery's own numbers of the last day.

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::names::Names;
use super::{APPLY, Finding, Seen, finding};
use crate::words::{relative, span};

const ABOUT: &str = "schedule";

/// What was read of the schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) is_enabled: bool,
    /// `rate(10 minutes)`, or a `cron()`.
    pub(crate) expression: String,
    /// The ARN of what it invokes.
    pub(crate) target: String,
    /// What it says to it.
    pub(crate) input: Option<String>,
    /// When it ends by itself, if it does.
    pub(crate) ends: Option<OffsetDateTime>,
}

impl Schedule {
    fn asks_for_a_full_pass(&self) -> bool {
        let input =
            (self.input.as_deref()).and_then(|text| serde_json::from_str::<Value>(text).ok());
        input.is_some_and(|event| {
            event["action"] == "reconcile" && event.get("certificates").is_none()
                || event["detail-type"] == "Scheduled Event"
        })
    }
}

/// Judges the schedule; `None` where there is none. `function` is renew's ARN.
pub(crate) fn judge(
    schedule: &Seen<Option<Schedule>>,
    names: &Names,
    function: Option<&str>,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let Some((group, name)) = names.schedule() else {
        let said = format!(
            "what it is called: {} does not end in -renew, as the module's does",
            names.function
        );
        return vec![finding::unknown(ABOUT, said)];
    };
    let schedule = match schedule {
        Ok(Some(schedule)) => schedule,
        Ok(None) => {
            return vec![
                finding::wrong(
                    ABOUT,
                    format!(
                        "there is none called {name} in the group {group}: no pass is made by \
                         itself"
                    ),
                )
                .with(APPLY),
            ];
        }
        Err(error) => {
            return vec![finding::could_not_tell(
                ABOUT,
                "whether it is on",
                "scheduler:GetSchedule",
                error,
            )];
        }
    };
    let mut findings = Vec::new();
    let mut is_wrong = |said: String| findings.push(finding::wrong(ABOUT, said).with(APPLY));
    if !schedule.is_enabled {
        is_wrong(format!("{name} is switched off: nothing is renewed"));
    }
    if schedule.ends.is_some_and(|end| end <= now) {
        is_wrong(format!("{name} has ended: nothing is renewed"));
    }
    // With a version or an alias behind it, it is not what is deployed.
    if let Some(function) = function.filter(|function| *function != schedule.target) {
        is_wrong(format!(
            "{name} invokes {}, not {function}",
            schedule.target
        ));
    }
    if !schedule.asks_for_a_full_pass() {
        is_wrong(format!(
            "{name} does not ask for a full pass: its input is not {{\"action\":\"reconcile\"}}"
        ));
    }
    if findings.is_empty() {
        findings.push(finding::ok(
            ABOUT,
            format!("{name} is on, {}", schedule.expression),
        ));
    }
    findings
}

/// Returns how long lies between two passes, where the expression says.
pub(crate) fn interval(expression: &str) -> Option<Duration> {
    let inner = expression.strip_prefix("rate(")?.strip_suffix(')')?;
    let (count, unit) = inner.split_once(' ')?;
    let count: i64 = count.parse().ok()?;
    let seconds = match unit.trim_end_matches('s') {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    Some(Duration::seconds(count.checked_mul(seconds)?))
}

/// Returns since when a pass must have been seen: three intervals, and an hour at least.
pub(crate) fn patience(interval: Option<Duration>) -> Duration {
    interval.map_or(LEAST, |interval| interval.saturating_mul(3).max(LEAST))
}

/// Judges when the last full pass was; `None` where none was seen since `since`.
pub(crate) fn last_pass(
    seen: &Seen<Option<OffsetDateTime>>,
    interval: Option<Duration>,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> Finding {
    const ABOUT: &str = "last pass";
    let remedy = "certloop renew --all, and what it says; then the log of the function, and the \
                  queue of what could not be delivered";
    match seen {
        Ok(Some(at)) if now - *at > patience(interval) => finding::wrong(
            ABOUT,
            format!(
                "the last full pass was {}: nothing is renewed",
                relative(*at, now)
            ),
        )
        .with(remedy),
        Ok(Some(at))
            if interval.is_some_and(|interval| now - *at > interval.saturating_mul(3) + SLACK) =>
        {
            finding::warning(
                ABOUT,
                format!(
                    "the last full pass was {}, more than three times what is scheduled",
                    relative(*at, now)
                ),
            )
            .with(remedy)
        }
        Ok(Some(at)) => finding::ok(
            ABOUT,
            format!("a full pass was made {}", relative(*at, now)),
        ),
        Ok(None) => finding::wrong(
            ABOUT,
            format!("no full pass for {}: nothing is renewed", span(now - since)),
        )
        .with(remedy),
        Err(error) => finding::could_not_tell(
            ABOUT,
            "when it was",
            "cloudwatch:GetMetricStatistics",
            error,
        ),
    }
}

/// A number of the last day, or of now, that should be zero.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) about: &'static str,
    /// What it counts, in the plural.
    pub(crate) what: String,
    pub(crate) seen: Seen<Option<f64>>,
    pub(crate) remedy: String,
}

/// Judges the numbers that should be zero.
pub(crate) fn counts(counts: &[Count]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = (counts.iter())
        .filter_map(|count| match &count.seen {
            Ok(Some(many)) if *many > 0.0 => Some(
                finding::warning(count.about, format!("{many} {}", count.what))
                    .with(count.remedy.clone()),
            ),
            Ok(_) => None,
            Err(error) => Some(finding::could_not_tell(
                count.about,
                &count.what,
                "cloudwatch:GetMetricStatistics",
                error,
            )),
        })
        .collect();
    if findings.is_empty() {
        findings.push(finding::ok(
            "machinery",
            "no errors, throttles, undelivered invocations or messages, or certificates that \
             nothing knows",
        ));
    }
    findings
}

const LEAST: Duration = Duration::hours(1);
/// Numbers come in steps of five minutes, and a little later than they were made.
const SLACK: Duration = Duration::minutes(10);

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::Verdict;
    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:certloop-renew";
    const NOW: OffsetDateTime = datetime!(2026-11-23 09:00 UTC);

    fn good() -> Schedule {
        Schedule {
            is_enabled: true,
            expression: "rate(10 minutes)".to_owned(),
            target: ARN.to_owned(),
            input: Some(r#"{"action":"reconcile"}"#.to_owned()),
            ends: None,
        }
    }

    fn one(schedule: Option<Schedule>) -> Finding {
        let found = judge(&Ok(schedule), &Names::of("certloop-renew"), Some(ARN), NOW);
        let [only] = found.try_into().unwrap();
        only
    }

    #[test]
    fn a_schedule_that_makes_no_passes_is_wrong() {
        assert_eq!(one(Some(good())).verdict, Verdict::Ok);
        for (schedule, words) in [
            (
                Some(Schedule {
                    is_enabled: false,
                    ..good()
                }),
                "switched off",
            ),
            (
                Some(Schedule {
                    target: format!("{ARN}:view"),
                    ..good()
                }),
                ":view",
            ),
            (
                Some(Schedule {
                    input: Some(r#"{"action":"status"}"#.to_owned()),
                    ..good()
                }),
                "full pass",
            ),
            (
                Some(Schedule {
                    input: Some(r#"{"action":"reconcile","certificates":["a"]}"#.to_owned()),
                    ..good()
                }),
                "full pass",
            ),
            (
                Some(Schedule {
                    ends: Some(NOW),
                    ..good()
                }),
                "has ended",
            ),
            (None, "there is none"),
        ] {
            let found = one(schedule);
            assert_eq!(found.verdict, Verdict::Wrong);
            assert!(found.found.contains(words), "{found:?}");
        }
        let unnamed = judge(&Ok(Some(good())), &Names::of("mine"), Some(ARN), NOW);
        assert_eq!(unnamed[0].verdict, Verdict::CouldNotTell);
    }

    #[test]
    fn intervals_are_read_of_rates() {
        assert_eq!(interval("rate(10 minutes)"), Some(Duration::minutes(10)));
        assert_eq!(interval("rate(1 day)"), Some(Duration::DAY));
        assert_eq!(interval("cron(0/10 * * * ? *)"), None);
        assert_eq!(patience(Some(Duration::minutes(10))), Duration::HOUR);
        assert_eq!(patience(Some(Duration::HOUR)), Duration::hours(3));
    }

    #[test]
    fn a_pass_that_did_not_come_is_wrong() {
        let of = |minutes: Option<i64>, interval| {
            let at = minutes.map(|minutes| NOW - Duration::minutes(minutes));
            last_pass(&Ok(at), interval, NOW - Duration::DAY, NOW)
        };
        let ten = Some(Duration::minutes(10));
        assert_eq!(of(Some(12), ten).verdict, Verdict::Ok);
        assert_eq!(of(Some(45), ten).verdict, Verdict::Warning);
        assert_eq!(of(Some(61), ten).verdict, Verdict::Wrong);
        assert_eq!(of(Some(61), Some(Duration::HOUR)).verdict, Verdict::Ok);
        assert_eq!(of(Some(61), None).verdict, Verdict::Wrong);
        let never = of(None, ten);
        assert_eq!(
            (never.verdict, never.found.as_str()),
            (
                Verdict::Wrong,
                "no full pass for 24 hours: nothing is renewed"
            )
        );
    }

    #[test]
    fn numbers_that_should_be_zero_are_told_where_they_are_not() {
        let of = |many: Option<f64>| {
            counts(&[Count {
                about: "renew",
                what: "invocations failed in the last day".to_owned(),
                seen: Ok(many),
                remedy: "the log".to_owned(),
            }])
        };
        assert_eq!(of(None)[0].verdict, Verdict::Ok);
        assert_eq!(of(Some(0.0))[0].verdict, Verdict::Ok);
        assert_eq!(
            of(Some(3.0))[0].found,
            "3 invocations failed in the last day"
        );
    }
}
