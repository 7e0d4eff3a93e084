//! `certloop status`: is everything fine, and if not, what is to be done?

mod health;
mod notes;
mod serving;
mod table;
mod unmanaged;

use certificates::invocation::status::{Inventory, Standing};
use certificates::values::problem::Problem;
use certificates::values::problem_types::ProblemType;
use serde_json::{Value, json};
use time::OffsetDateTime;

pub(crate) use health::{Health, by_urgency, is_running_out};
pub(crate) use serving::{Serving, helps, revoked, to_be_served};
pub(crate) use table::{command, name_of, rendered, word_of};

use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::function::{Function, read};
use crate::terminal::{Screen, Spinner, say};

/// Shows the inventory.
pub(crate) async fn status(
    function: &Function,
    asked: &cli::Status,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    let spinner = Spinner::start("asking for the inventory");
    let answer = whole(function, &asked.names, asked.unmanaged).await?;
    drop(spinner);
    let inventory: Inventory = read(answer.clone())?;
    let now = inventory.at.unwrap_or_else(OffsetDateTime::now_utc);
    match as_json {
        true => say(&format!("{answer:#}\n"))?,
        false => {
            let most = if asked.all { usize::MAX } else { table::MOST };
            say(&table::rendered(&inventory, now, screen, most))?;
            if let Some(unmanaged) = &inventory.unmanaged {
                say(&unmanaged::rendered(unmanaged, now, screen))?;
            }
        }
    }
    let worst = inventory.certificates.iter();
    let worst = worst.map(|standing| Health::of(standing, now)).min();
    // What could not be read is neither fine nor wrong, and what is served may be unknown as well.
    let store = Problem::kind_of(ProblemType::Store);
    let is_unread = |standing: &Standing| {
        (standing.problem.as_ref()).is_some_and(|problem| problem.kind == store)
            || Health::of(standing, now) == Health::Unserved
                && Serving::of(standing) == Serving::Unknown
    };
    let is_blind =
        inventory.limits.problem.is_some() || inventory.certificates.iter().any(is_unread);
    let is_fine = worst != Some(Health::NeedsPerson) && inventory.orphans.is_empty() && !is_blind;
    Ok(if is_fine {
        Ends::Well
    } else {
        Ends::NeedsPerson
    })
}

/// Reads the inventory of the named certificates, or of all.
pub(crate) async fn inventory(
    function: &Function,
    names: &[String],
) -> Result<Inventory, CliError> {
    read(whole(function, names, false).await?)
}

/// Asks for page after page, and puts them together as one answer.
async fn whole(function: &Function, names: &[String], unmanaged: bool) -> Result<Value, CliError> {
    let mut event = json!({"action": "status"});
    if !names.is_empty() {
        event["certificates"] = json!(names);
    }
    if unmanaged {
        event["unmanaged"] = json!(true);
    }
    let mut whole: Option<Value> = None;
    loop {
        let mut page = function.ask(&event).await?;
        let next = page["next"].take();
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => {
                let certificates = page["certificates"].take();
                if let (Value::Array(all), Value::Array(more)) =
                    (&mut whole["certificates"], certificates)
                {
                    all.extend(more);
                }
            }
        }
        let Some(next) = next.as_str() else {
            return Ok(whole.unwrap_or_default());
        };
        // A page that leads to itself would never end.
        if event["after"].as_str().is_some_and(|before| before >= next) {
            return Err(CliError::failed(format!(
                "the inventory does not get past {next:?}: the function's answer is not understood"
            )));
        }
        event["after"] = json!(next);
        if let Some(event) = event.as_object_mut() {
            // Once is enough.
            event.remove("unmanaged");
        }
    }
}
