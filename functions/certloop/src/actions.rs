//! The commands that ask the function: issue, renew, plan, check, rollback, revoke, remove.

use certificates::invocation::status::Standing;
use certificates::values::instant::rfc3339;
use certificates::values::text::abridged;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::check::Check;
use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::document;
use crate::fates::{Revocation, of_removal, of_rollback};
use crate::function::{Function, read};
use crate::installation::Installation;
use crate::plan::Forecast;
use crate::report::Report;
use crate::status::{inventory, is_unknown, no_such_certificate, no_such_certificates};
use crate::terminal::{Screen, Spinner, confirm, say, tell};
use crate::words::parsed;

fn names_of(all: &[String]) -> Result<(), CliError> {
    all.iter().try_for_each(|name| parsed(name).map(drop))
}

/// Says what happens to what, before it is done. Standard output is for the answer.
fn said(name: &str, fates: &[String]) {
    fates
        .iter()
        .for_each(|fate| tell(&format!("{name}: {fate}")));
}

/// Asks the function, and shows its answer for a person or as it is.
pub(crate) struct Asking {
    function: Function,
    screen: Screen,
    as_json: bool,
}

impl Asking {
    /// Opens the way to the function.
    pub(crate) async fn of(
        here: &Installation,
        screen: Screen,
        as_json: bool,
    ) -> Result<Self, CliError> {
        Ok(Self {
            function: here.function().await?,
            screen,
            as_json,
        })
    }

    /// Writes a document through the function, and waits for its certificate.
    pub(crate) async fn issue(&self, asked: &cli::Issue) -> Result<Ends, CliError> {
        parsed(&asked.name)?;
        let document = document::given(&asked.name, &asked.document)?;
        if asked.replace && !asked.yes {
            let question = format!(
                "Replace the document of {0}? (certloop edit {0} shows the difference.)",
                asked.name
            );
            confirm(&question, "--yes")?;
        }
        let event = json!({
            "action": "issue", "name": asked.name, "certificate": document,
             "replace": asked.replace,
        });
        let doing = format!("issuing {}", asked.name);
        self.report(&event, &doing).await
    }

    /// Does what is due.
    pub(crate) async fn renew(&self, asked: &cli::Renew) -> Result<Ends, CliError> {
        names_of(&asked.names)?;
        if asked.names.is_empty() && !asked.all {
            return Err(CliError::misused("renew which certificates? None is named")
                .try_next("certloop renew NAME")
                .try_next("certloop renew --all, for all of them"));
        }
        let mut event = json!({"action": "reconcile"});
        if !asked.all {
            event["certificates"] = json!(asked.names);
            event["force"] = json!(asked.force);
            if asked.reissue {
                event["reissue"] = json!(true);
            }
        }
        let doing = if asked.all {
            "a pass over all certificates".to_owned()
        } else {
            format!("a pass over {}", abridged(asked.names.iter(), 3))
        };
        self.report(&event, &doing).await
    }

    /// Shows what the next pass would do.
    pub(crate) async fn plan(&self, asked: &cli::Plan) -> Result<Ends, CliError> {
        names_of(&asked.names)?;
        let mut event = json!({"action": "plan"});
        if !asked.names.is_empty() {
            event["certificates"] = json!(asked.names);
        }
        if let Some(at) = &asked.at {
            event["at"] = json!(rfc3339(*at));
        }
        let answer = self.ask(&event, "planning").await?;
        let forecast: Forecast = read(answer.clone())?;
        self.show(&answer, || forecast.rendered(self.screen))?;
        Ok(self
            .hinted(&forecast.unknown())
            .await
            .unwrap_or(forecast.ends()))
    }

    /// Checks whether authorities could validate the names.
    pub(crate) async fn check(&self, name: &str) -> Result<Ends, CliError> {
        parsed(name)?;
        let event = json!({"action": "check", "name": name});
        let answer = self.ask(&event, &format!("checking {name}")).await?;
        let check: Check = read(answer.clone())?;
        if check.is_unknown() {
            return Err(no_such_certificate(&self.function, name).await);
        }
        self.show(&answer, || check.rendered(self.screen))?;
        Ok(check.ends())
    }

    /// Serves the certificate before again.
    pub(crate) async fn roll_back(&self, asked: &cli::Rollback) -> Result<Ends, CliError> {
        parsed(&asked.name)?;
        let serial = asked.serial.as_deref();
        if let Some(standing) = self.standing(&asked.name).await? {
            said(&asked.name, &of_rollback(&standing, serial));
        }
        if !asked.yes {
            let question = match serial {
                Some(serial) => format!("Serve {serial} of {} again?", asked.name),
                None => format!("Serve the previous certificate of {} again?", asked.name),
            };
            confirm(&question, "--yes")?;
        }
        let mut event = json!({"action": "rollback", "name": asked.name});
        if let Some(serial) = &asked.serial {
            event["serial"] = json!(serial);
        }
        let doing = format!("rolling {} back", asked.name);
        self.report(&event, &doing).await
    }

    /// Revokes a certificate.
    pub(crate) async fn revoke(&self, asked: &cli::Revoke) -> Result<Ends, CliError> {
        let cli::Revoke {
            name,
            reason,
            serial,
            yes,
        } = asked;
        parsed(name)?;
        let standing = self.standing(name).await?;
        let revocation = (standing.as_ref()).map(|one| Revocation::of(one, serial.as_deref()));
        if let Some(revocation) = &revocation {
            said(name, &revocation.fates);
        }
        let serial = match revocation {
            Some(revocation) => revocation.serial,
            None => serial.clone(),
        };
        if !yes {
            let which = match &serial {
                Some(serial) => format!("the certificate {serial} of {name}"),
                None => format!("the certificate that {name} serves"),
            };
            confirm(&format!("Revoke {which}? This cannot be undone."), "--yes")?;
        }
        let mut event = json!({"action": "revoke", "name": name, "reason": reason.word()});
        if let Some(serial) = serial {
            event["serial"] = json!(serial);
        }
        self.report(&event, &format!("revoking {name}")).await
    }

    /// Takes a certificate off all its targets.
    pub(crate) async fn remove(&self, asked: &cli::Remove) -> Result<Ends, CliError> {
        let cli::Remove { name, yes } = asked;
        parsed(name)?;
        if let Some(standing) = self.standing(name).await? {
            said(name, &of_removal(&standing));
        }
        if !yes {
            let question = format!(
                "Take {name} off its listeners and out of the certificate manager, and delete its \
                 document? (If Terraform writes the document, take it out there as well.)"
            );
            confirm(&question, "--yes")?;
        }
        let event = json!({"action": "remove", "name": name});
        self.report(&event, &format!("removing {name}")).await
    }

    /// Returns what is known of a certificate; a name that nobody knows is an error.
    ///
    /// `None` where that cannot be read: the command goes on without it.
    async fn standing(&self, name: &str) -> Result<Option<Standing>, CliError> {
        let spinner = Spinner::start("asking what is served");
        let asked = inventory(&self.function, &[name.to_owned()]).await;
        drop(spinner);
        let mut all = match asked {
            Ok(inventory) => inventory.certificates.into_iter(),
            Err(cli_error) => {
                let why = cli_error.what;
                tell(&format!("{name}: what is served is unknown: {why}"));
                return Ok(None);
            }
        };
        let standing = all.find(|one| one.name == name);
        let problem = standing.as_ref().and_then(|one| one.problem.as_ref());
        if is_unknown(problem) {
            return Err(no_such_certificate(&self.function, name).await);
        }
        Ok(standing)
    }

    /// Says which names nobody knows, with those that may be meant; `None` where there are none.
    async fn hinted(&self, unknown: &[String]) -> Option<Ends> {
        if unknown.is_empty() {
            return None;
        }
        for cli_error in no_such_certificates(&self.function, unknown).await {
            tell(&cli_error.to_string());
        }
        Some(Ends::Misused)
    }

    /// Asks for what answers with a report, and shows that.
    async fn report(&self, event: &Value, doing: &str) -> Result<Ends, CliError> {
        let answer = self.ask(event, doing).await?;
        let report: Report = read(answer.clone())?;
        let now = OffsetDateTime::now_utc();
        self.show(&answer, || report.rendered(now, self.screen))?;
        let unknown = self.hinted(&report.unknown()).await;
        // For the names that are known, something may have been done, or may have failed.
        let unknown = unknown.filter(|_| report.knows_none());
        Ok(unknown.unwrap_or(report.ends()))
    }

    async fn ask(&self, event: &Value, doing: &str) -> Result<Value, CliError> {
        let _spinner = Spinner::start(doing);
        self.function.ask(event).await
    }

    fn show(&self, answer: &Value, rendered: impl FnOnce() -> String) -> Result<(), CliError> {
        if self.as_json {
            say(&format!("{answer:#}\n"))
        } else {
            say(&rendered())
        }
    }
}
