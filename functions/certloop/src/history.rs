//! `certloop history`: what happened to a certificate, and when.

use certificates::records::state::HistoryStep;
use certificates::values::problem::Problem;
use serde_json::json;
use time::OffsetDateTime;

use crate::cli_error::{CliError, Ends};
use crate::installation::Installation;
use crate::status::{Serving, helps, inventory, is_unknown, no_such_certificate};
use crate::terminal::{Ink, Screen, say};
use crate::words::{behind, cut, detailed, parsed, relative, second, wrapped};

/// Shows all steps that are remembered.
pub(crate) async fn history(
    here: &Installation,
    name: &str,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    parsed(name)?;
    let function = here.function().await?;
    let inventory = inventory(&function, &[name.to_owned()]).await?;
    let now = inventory.at.unwrap_or_else(OffsetDateTime::now_utc);
    let standing = inventory
        .certificates
        .into_iter()
        .find(|one| one.name == name);
    let standing = standing.unwrap_or_default();
    if is_unknown(standing.problem.as_ref()) {
        return Err(no_such_certificate(&function, name).await);
    }
    let steps = &standing.history;
    match as_json {
        true => say(&format!("{:#}\n", json!({"name": name, "history": steps})))?,
        false => {
            let serving = Serving::of(&standing).lines(&standing, now);
            let problem = standing.problem.as_ref();
            say(&rendered(steps, problem, &serving, name, now, screen))?;
        }
    }
    // Of a document that cannot be read there is nothing to tell.
    let is_blind = steps.is_empty() && standing.problem.is_some();
    Ok(if is_blind {
        Ends::NeedsPerson
    } else {
        Ends::Well
    })
}

fn rendered(
    steps: &[HistoryStep],
    problem: Option<&Problem>,
    serving: &[String],
    name: &str,
    now: OffsetDateTime,
    screen: Screen,
) -> String {
    let mut text = String::new();
    let widest = steps.iter().map(|step| step.step.chars().count()).max();
    let widest = widest.unwrap_or(0);
    for step in steps {
        text += &line(step, widest, screen);
    }
    if steps.is_empty() {
        text += &format!("Nothing has happened to {name} yet.\n");
    }
    if let Some(last) = steps.last() {
        text += &format!("The last step was {}.\n", relative(last.at, now));
        for line in serving {
            text += &wrapped(line, screen.width, "");
        }
    }
    if let Some(problem) = problem {
        text += &detailed(&format!("Now: {}", problem.detail), screen.width, "");
        let command = helps(problem, name);
        if let Some(command) = command.filter(|command| !command.starts_with("certloop history")) {
            text += &format!("  try: {}\n", screen.ink(Ink::Strong, &command));
        }
    }
    text
}

/// Renders one step; a detail that is too long for its line is below it.
pub(crate) fn line(step: &HistoryStep, widest: usize, screen: Screen) -> String {
    let at = screen.ink(Ink::Faint, &second(step.at));
    let ink = match step.step.as_str() {
        "issued" | "proved" | "attached" | "imported" => Ink::Good,
        "failed" | "deployment failed" | "not proved" => Ink::Bad,
        _ => Ink::Strong,
    };
    let word = screen.ink(ink, &cut(&step.step, usize::MAX));
    let padding = " ".repeat(widest.saturating_sub(step.step.chars().count()));
    let before = format!("{at}  {word}{padding}  ");
    // Colours have no columns.
    let columns = second(step.at).chars().count() + widest.max(step.step.chars().count()) + 4;
    let colours = before.chars().count().saturating_sub(columns);
    behind(&before, &step.detail, screen.width + colours, INDENT)
}

const INDENT: &str = "    ";

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const PLAIN: Screen = Screen {
        colours: false,
        width: 60,
    };

    #[test]
    fn each_step_is_a_line_or_two() {
        let at = datetime!(2026-01-08 16:53:04 UTC);
        let step = |step: &str, detail: &str| HistoryStep {
            at,
            step: step.to_owned(),
            detail: detail.to_owned(),
        };
        let steps = [
            step("ordered", ""),
            step("issued", "serial 03ab, valid until 2026-04-08T15:53:05Z"),
        ];
        assert_eq!(
            rendered(
                &steps,
                None,
                &["What is served is unknown.".to_owned()],
                "shop",
                at + time::Duration::minutes(5),
                PLAIN
            ),
            "2026-01-08 16:53:04 UTC  ordered\n\
             2026-01-08 16:53:04 UTC  issued\n    serial 03ab, valid until 2026-04-08T15:53:05Z\n\
             The last step was 5 minutes ago.\nWhat is served is unknown.\n"
        );
    }
}
