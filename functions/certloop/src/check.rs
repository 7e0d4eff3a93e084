//! Pure: whether authorities could validate the names of a certificate.

use certificates::rules::remedy;
use certificates::values::problem::Problem;
use serde::Deserialize;

use crate::cli_error::Ends;
use crate::status::is_unknown;
use crate::terminal::{Ink, Screen};
use crate::words::{cut, detailed};

/// The answer to `check`.
#[derive(Debug, Deserialize)]
pub(crate) struct Check {
    name: String,
    verdict: CheckVerdict,
    #[serde(default)]
    domains: Vec<Domain>,
    #[serde(default)]
    problem: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Domain {
    domain: String,
    verdict: CheckVerdict,
    checks: Vec<Checked>,
}

#[derive(Debug, Deserialize)]
struct Checked {
    check: String,
    verdict: CheckVerdict,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CheckVerdict {
    Ok,
    Warning,
    Blocked,
}

impl CheckVerdict {
    fn shown(self, screen: Screen) -> String {
        match self {
            Self::Ok => screen.ink(Ink::Good, "ok"),
            Self::Warning => screen.ink(Ink::Warning, "warning"),
            Self::Blocked => screen.ink(Ink::Bad, "BLOCKED"),
        }
    }
}

impl Check {
    /// Returns how the command ends that brought it.
    pub(crate) fn ends(&self) -> Ends {
        match self.verdict {
            CheckVerdict::Blocked => Ends::NeedsPerson,
            CheckVerdict::Ok | CheckVerdict::Warning => Ends::Well,
        }
    }

    /// Whether nobody knows the name.
    pub(crate) fn is_unknown(&self) -> bool {
        is_unknown(self.problem.as_ref())
    }

    /// Renders it: in full what is not as it should be, in one line what is.
    pub(crate) fn rendered(&self, screen: Screen) -> String {
        let name = screen.ink(Ink::Strong, &cut(&self.name, usize::MAX));
        let mut text = format!("{name}  {}\n", self.verdict.shown(screen));
        if let Some(problem) = &self.problem {
            text += &detailed(&problem.detail, screen.width, "    ");
            if let Some(command) = remedy::command(problem, &self.name) {
                text += &format!("    try: {}\n", screen.ink(Ink::Strong, &command));
            }
        }
        for Domain {
            domain,
            verdict,
            checks,
        } in &self.domains
        {
            text += &format!("  {}  {}\n", cut(domain, usize::MAX), verdict.shown(screen));
            for Checked {
                check,
                verdict,
                detail,
            } in checks
            {
                // Colours would count as columns.
                let gap = " ".repeat(COLUMN.saturating_sub(check.chars().count()));
                let check = cut(check, COLUMN);
                if *verdict == CheckVerdict::Ok {
                    let room = screen.width.saturating_sub(COLUMN + 10).max(20);
                    let detail = screen.ink(Ink::Faint, &cut(detail, room));
                    text += &format!("    {check}{gap}  {}  {detail}\n", verdict.shown(screen));
                } else {
                    text += &format!("    {check}{gap}  {}\n", verdict.shown(screen));
                    text += &detailed(detail, screen.width, "      ");
                }
            }
        }
        text
    }
}

/// As long as the longest check.
const COLUMN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_says_what_is_wrong_with_the_command_whole() {
        let sample = include_str!("../../../events/check.sample.json");
        let check: Check = serde_json::from_str(sample).unwrap();
        let plain = Screen {
            colours: false,
            width: 80,
        };
        let text = check.rendered(plain);
        assert!(
            text.starts_with(
                "shop  BLOCKED\n  shop.example.com  BLOCKED\n    addresses  ok  leads to this"
            ),
            "{text}"
        );
        let command = text
            .lines()
            .find(|line| line.contains("repair: aws elbv2"))
            .unwrap();
        assert!(
            command.ends_with("9683b2d02a6cabee,Priority=1"),
            "{command}"
        );
        let long = text
            .lines()
            .filter(|line| line.len() > 80 && !line.contains("repair:"));
        let long: Vec<_> = long.filter(|line| line.trim().contains(' ')).collect();
        assert_eq!(long, Vec::<&str>::new());
        assert_eq!(check.ends(), Ends::NeedsPerson);
    }

    #[test]
    fn what_cannot_be_checked_is_said_with_what_to_try() {
        let problem = serde_json::json!({
            "type": "certloop:invalidDocument", "detail": "domains: is empty", "retry": "never",
        });
        let check = serde_json::json!({"name": "shop", "verdict": "blocked", "domains": [],
            "problem": problem});
        let check: Check = serde_json::from_value(check).unwrap();
        let plain = Screen {
            colours: false,
            width: 80,
        };
        assert_eq!(
            check.rendered(plain),
            "shop  BLOCKED\n    domains: is empty\n    try: certloop edit shop\n"
        );
    }
}
