//! Pure: what the next pass would do.

use certificates::rules::remedy;
use certificates::values::problem::Problem;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::cli_error::Ends;
use crate::report::{ink_of, needs_person};
use crate::status::is_unknown;
use crate::terminal::{Ink, Screen};
use crate::words::{behind, counted, cut, detailed, minute, relative, wrapped};

/// The answer to `plan`.
#[derive(Debug, Deserialize)]
pub(crate) struct Forecast {
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    certificates: Vec<Foreseen>,
    #[serde(default)]
    omitted: usize,
    #[serde(default)]
    total: Total,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Foreseen {
    name: String,
    outcome: String,
    reason: String,
    #[serde(with = "time::serde::rfc3339::option")]
    next_attempt: Option<OffsetDateTime>,
    problem: Option<Problem>,
    calls: Vec<Call>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Call {
    service: String,
    operation: String,
    resource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Total {
    orders: usize,
    imports: usize,
    orders_per_year: f64,
    imports_per_year: f64,
}

impl Forecast {
    /// Returns how the command ends that brought it.
    pub(crate) fn ends(&self) -> Ends {
        let mut certificates = self.certificates.iter();
        if certificates.any(|one| needs_person(&one.problem)) {
            Ends::NeedsPerson
        } else {
            Ends::Well
        }
    }

    /// Returns the names in it that nobody knows.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let unknown = self.certificates.iter();
        let unknown = unknown.filter(|one| is_unknown(one.problem.as_ref()));
        unknown.map(|one| one.name.clone()).collect()
    }

    /// Renders it; certificates with nothing to do are counted where there are several.
    pub(crate) fn rendered(&self, screen: Screen) -> String {
        let mut text = format!("A pass at {} would do this:\n", minute(self.at));
        let is_idle = |one: &&Foreseen| {
            one.outcome == "kept" && one.problem.is_none() && one.calls.is_empty()
        };
        let idle = self.certificates.iter().filter(is_idle).count();
        let counts_idle = self.certificates.len() > 1;
        for one in &self.certificates {
            if !(counts_idle && is_idle(&one)) {
                text += &one.rendered(self.at, screen);
            }
        }
        if counts_idle && idle > 0 {
            let verb = if idle == 1 { "needs" } else { "need" };
            text += &format!("{} {verb} nothing\n", counted(count(idle), "certificate"));
        }
        if self.omitted > 0 {
            text += &format!(
                "... and {} more, which the answer leaves out\n",
                self.omitted
            );
        }
        let Total {
            orders,
            imports,
            orders_per_year,
            imports_per_year,
        } = &self.total;
        // A year has fewer than 2^63 of them.
        let of_a_year = |number: &f64| number.round() as i64;
        let summary = format!(
            "In all {} and {}; in a year about {} and {}",
            counted(count(*orders), "order"),
            counted(count(*imports), "import"),
            counted(of_a_year(orders_per_year), "order"),
            counted(of_a_year(imports_per_year), "import"),
        );
        text + &wrapped(&summary, screen.width, "")
    }
}

impl Foreseen {
    fn rendered(&self, now: OffsetDateTime, screen: Screen) -> String {
        let ink = ink_of(&self.outcome, &self.problem);
        let name = screen.ink(Ink::Strong, &cut(&self.name, usize::MAX));
        let mut text = format!("{name}  {}\n", screen.ink(ink, &self.outcome));
        let mut add = |words: &str| text += &detailed(words, screen.width, INDENT);
        add(&self.reason);
        let said = self.problem.as_ref().map(|problem| &problem.detail);
        if let Some(said) = said.filter(|said| **said != self.reason) {
            add(said);
        }
        if let Some(at) = self.next_attempt.filter(|at| *at > now) {
            add(&format!(
                "next attempt {} ({})",
                relative(at, now),
                minute(at)
            ));
        }
        let width = |of: fn(&Call) -> &str| {
            let seen = self.calls.iter().filter(|call| call.service != "s3");
            seen.map(|call| of(call).chars().count()).max().unwrap_or(0)
        };
        let (services, operations) = (width(|call| &call.service), width(|call| &call.operation));
        let mut to_bucket = 0;
        for call in &self.calls {
            if call.service == "s3" {
                to_bucket += 1;
                continue;
            }
            let Call {
                service,
                operation,
                resource,
            } = call;
            let before = format!("{INDENT}{service:services$}  {operation:operations$}  ");
            text += &behind(&before, resource, screen.width, FURTHER);
        }
        if to_bucket > 0 {
            let writes = counted(to_bucket, "write");
            text += &screen.ink(Ink::Faint, &format!("{INDENT}and {writes} to the bucket"));
            text.push('\n');
        }
        let problem = self.problem.as_ref();
        if let Some(command) = problem.and_then(|problem| remedy::command(problem, &self.name)) {
            text += &format!("{INDENT}try: {}\n", screen.ink(Ink::Strong, &command));
        }
        text
    }
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

const INDENT: &str = "    ";
const FURTHER: &str = "        ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_shows_each_call_and_counts_what_is_written() {
        let sample = include_str!("../../../events/plan.sample.json");
        let forecast: Forecast = serde_json::from_str(sample).unwrap();
        let plain = Screen {
            colours: false,
            width: 100,
        };
        assert_eq!(
            forecast.rendered(plain),
            "A pass at 2026-03-09 09:20 UTC would do this:\n\
             shop  renewed\n    \
             renewal is due since 2026-03-09T09:12:44Z: the authority suggests \
             2026-03-08T18:00:00Z to\n    \
             2026-03-10T13:00:00Z\n    \
             acme  newOrder           shop.example.com, www.shop.example.com\n    \
             acme  challenge          shop.example.com\n    \
             acme  challenge          www.shop.example.com\n    \
             acme  finalize           shop.example.com, www.shop.example.com\n    \
             acm   ImportCertificate\n        \
             arn:aws:acm:eu-west-1:123456789012:certificate/6d0ecf83-1eec-4f09-8a4b-1f0a5b0f8c11\n    \
             and 18 writes to the bucket\n\
             In all 1 order and 1 import; in a year about 7 orders and 7 imports\n"
        );
        assert_eq!(forecast.ends(), Ends::Well);
    }
}
