//! Metrics as one log line. CloudWatch reads them from a JSON line on standard output, so
//! publishing needs no call and no permission.
//!
//! [Embedded metric
//! format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
//! This module builds the line and does no I/O. The line must be printed unchanged: CloudWatch does
//! not see it inside another log line.

use serde_json::{Map, Value, json};

/// The namespace of every metric.
pub const NAMESPACE: &str = "certloop";

/// The metrics of one invocation, under the one dimension `Function`.
///
/// ```
/// use certificates::metrics::Metrics;
///
/// let metrics = Metrics::new("renew").count("Passes", 1).seconds("PassSeconds", 0.5);
/// let line = metrics.to_line(1_767_225_600_000);
/// assert!(line.ends_with(r#""Function":"renew","Passes":1,"PassSeconds":0.5}"#));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Metrics {
    function: String,
    values: Vec<(&'static str, &'static str, Value)>,
}

impl Metrics {
    /// Returns an empty set for the function of that name.
    pub fn new(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            values: Vec::new(),
        }
    }

    /// Adds a count.
    pub fn count(self, name: &'static str, count: u64) -> Self {
        self.with(name, "Count", count.into())
    }

    /// Adds a duration in milliseconds.
    pub fn seconds(self, name: &'static str, seconds: f64) -> Self {
        self.with(name, "Seconds", seconds.into())
    }

    /// Adds a share of a whole, from 0 to 1.
    pub fn share(self, name: &'static str, share: f64) -> Self {
        self.with(name, "None", share.into())
    }

    /// Returns the line without a line break. The instant is in milliseconds since the epoch.
    pub fn to_line(&self, timestamp_ms: u64) -> String {
        let metrics: Vec<Value> = self
            .values
            .iter()
            .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}))
            .collect();

        let mut line = Map::new();
        line.insert(
            "_aws".into(),
            json!({
                "Timestamp": timestamp_ms,
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": [["Function"]], "Metrics": metrics},
                ],
            }),
        );
        line.insert("Function".into(), self.function.as_str().into());
        for (name, _, value) in &self.values {
            line.insert((*name).into(), value.clone());
        }
        Value::Object(line).to_string()
    }

    /// The later value of a name wins. Values that are not finite are left out: `null` would make
    /// CloudWatch drop the whole line.
    fn with(mut self, name: &'static str, unit: &'static str, value: Value) -> Self {
        self.values.retain(|(other, ..)| *other != name);
        if value.is_number() {
            self.values.push((name, unit, value));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_embedded_metric_format() {
        let line = Metrics::new("certloop-renew")
            .count("Passes", 1)
            .seconds("PassSeconds", 1.25)
            .share("LifetimeLeftShare", 0.5)
            .to_line(1_767_225_600_000);

        assert!(!line.contains('\n'));
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "_aws": {
                    "Timestamp": 1_767_225_600_000_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "certloop",
                        "Dimensions": [["Function"]],
                        "Metrics": [
                            {"Name": "Passes", "Unit": "Count"},
                            {"Name": "PassSeconds", "Unit": "Seconds"},
                            {"Name": "LifetimeLeftShare", "Unit": "None"},
                        ],
                    }],
                },
                "Function": "certloop-renew",
                "Passes": 1,
                "PassSeconds": 1.25,
                "LifetimeLeftShare": 0.5,
            })
        );
    }

    #[test]
    fn a_name_is_reported_once_and_the_later_value_wins() {
        let twice = Metrics::new("f").count("Failed", 1).count("Failed", 2);
        assert_eq!(twice, Metrics::new("f").count("Failed", 2));
    }

    #[test]
    fn a_value_that_is_no_number_is_left_out() {
        let none = Metrics::new("f")
            .share("LifetimeLeftShare", f64::NAN)
            .seconds("PassSeconds", f64::INFINITY);
        assert_eq!(none, Metrics::new("f"));
    }
}
