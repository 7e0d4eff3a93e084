//! `certloop status`: is everything fine, and if not, what helps?

mod causes;
mod health;
mod notes;
mod reasons;
mod serving;
mod table;
mod unmanaged;

use certificates::invocation::status::{Inventory, Standing};
use certificates::values::problem::Problem;
use certificates::values::problem_types::ProblemType;
use serde_json::{Value, json};
use time::OffsetDateTime;

#[cfg(test)]
pub(crate) use causes::tests::without_room;
pub(crate) use causes::{Cause, causes};
pub(crate) use health::{Health, by_urgency, is_running_out};
pub(crate) use reasons::{command, name_of};
pub(crate) use serving::{Serving, helps, revoked, to_be_served};
pub(crate) use table::{rendered, word_of};

use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::function::{Function, read};
use crate::terminal::{Screen, Spinner, say, tell};

/// Shows the inventory.
pub(crate) async fn status(
    function: &Function,
    asked: &cli::Status,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    let spinner = Spinner::start("reading the inventory");
    let answer = whole(function, &asked.names, asked.unmanaged).await?;
    drop(spinner);
    let mut inventory: Inventory = read(answer.clone())?;
    let unknown = take_unknown(&mut inventory);
    let now = inventory.at.unwrap_or_else(OffsetDateTime::now_utc);
    match as_json {
        true => say(&format!("{answer:#}\n"))?,
        false => {
            let most = if asked.all { usize::MAX } else { table::MOST };
            // Of names that nobody knows there is nothing to show.
            if unknown.is_empty() || !inventory.certificates.is_empty() {
                say(&table::rendered(&inventory, now, screen, most))?;
            }
            if let Some(unmanaged) = &inventory.unmanaged {
                say(&unmanaged::rendered(unmanaged, now, screen, most))?;
            }
        }
    }
    if !unknown.is_empty() {
        for cli_error in no_such_certificates(function, &unknown).await {
            tell(&cli_error.to_string());
        }
        return Ok(Ends::Misused);
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

/// Takes the names that nobody knows out of an inventory: they are no certificates.
fn take_unknown(inventory: &mut Inventory) -> Vec<String> {
    let all = std::mem::take(&mut inventory.certificates);
    let (unknown, known) = all
        .into_iter()
        .partition::<Vec<_>, _>(|one| is_unknown(one.problem.as_ref()));
    inventory.certificates = known;
    unknown.into_iter().map(|one| one.name).collect()
}

/// Whether a problem says that there is no certificate of the name.
pub(crate) fn is_unknown(problem: Option<&Problem>) -> bool {
    let unknown = Problem::kind_of(ProblemType::UnknownCertificate);
    problem.is_some_and(|problem| problem.kind == unknown)
}

/// Makes the error of a name that nobody knows, with the name that may be meant.
pub(crate) async fn no_such_certificate(function: &Function, name: &str) -> CliError {
    let mut errors = no_such_certificates(function, &[name.to_owned()]).await;
    errors.remove(0)
}

/// Makes one error for each name that nobody knows.
pub(crate) async fn no_such_certificates(function: &Function, names: &[String]) -> Vec<CliError> {
    let _spinner = Spinner::start("looking for names that are similar");
    // Without an inventory the name is unknown all the same.
    let known = inventory(function, &[]).await.unwrap_or_default();
    let known: Vec<&str> = (known.certificates.iter())
        .map(|one| one.name.as_str())
        .collect();
    let error = |name: &String| {
        let unknown = format!("the certificate {name} is unknown");
        match nearest(name, &known) {
            Some(near) => CliError::misused(format!("{unknown}; did you mean {near}?")),
            None => CliError::misused(unknown).try_next("certloop status, for the names there are"),
        }
    };
    names.iter().map(error).collect()
}

/// Returns the known name that somebody may have meant, where one is similar.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let far = |known: &str| {
        let edits = strsim::damerau_levenshtein(known, name);
        if known.starts_with(name) || name.starts_with(known) {
            edits.min(2)
        } else {
            edits
        }
    };
    let most = (name.chars().count() / 3).clamp(1, 3);
    let candidates = known.iter().map(|known| (far(known), *known));
    let near = candidates.filter(|(far, _)| *far <= most).min();
    near.map(|(_, known)| known)
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
                "the inventory does not go on behind {next:?}: is the function of another version?"
            )));
        }
        event["after"] = json!(next);
        if let Some(event) = event.as_object_mut() {
            // Once is enough.
            event.remove("unmanaged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_has_a_neighbour() {
        let known = ["shop", "blog", "api", "shop-staging"];
        for (typed, meant) in [
            ("shopp", Some("shop")),
            ("sohp", Some("shop")),
            ("bolg", Some("blog")),
            ("shop-stagign", Some("shop-staging")),
            ("shop-s", Some("shop")),
            ("mail", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
    }
}
