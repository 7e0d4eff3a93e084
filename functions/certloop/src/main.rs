//! The operator's command line.

mod actions;
mod check;
mod cli;
mod cli_error;
mod config;
mod doctor;
mod document;
mod documents;
mod fates;
mod follow;
mod function;
mod generated;
mod history;
mod installation;
mod losses;
mod page;
mod plan;
mod pull;
mod report;
mod status;
mod terminal;
mod words;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::actions::Asking;
use crate::cli::{Cli, Command};
use crate::cli_error::{CliError, Ends};
use crate::config::Config;
use crate::installation::Installation;
use crate::terminal::{Screen, say, tell};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_json = cli.options.json;
    let ends = match run(cli).await {
        Ok(ends) => ends,
        Err(cli_error) => {
            tell(&cli_error.to_string());
            if as_json {
                let _ = say(&format!(
                    "{:#}\n",
                    json!({"error": cli_error.what, "try": cli_error.next})
                ));
            }
            cli_error.ends
        }
    };
    ExitCode::from(ends as u8)
}

async fn run(Cli { options, command }: Cli) -> Result<Ends, CliError> {
    let (json, screen) = (options.json, Screen::of_stdout());
    let here = || Config::load(options.clone()).map(Installation::new);
    let asking = async || Asking::of(&here()?, screen, json).await;
    match &command {
        Command::Status(asked) => {
            status::status(&here()?.function().await?, asked, screen, json).await
        }
        Command::Add(asked) => documents::add(&here()?, asked, screen, json).await,
        Command::Edit(asked) => documents::edit(&here()?, asked, screen, json).await,
        Command::Pause(asked) => documents::pause(&here()?, asked, true, screen, json).await,
        Command::Resume(asked) => documents::pause(&here()?, asked, false, screen, json).await,
        Command::Remove(asked) => asking().await?.remove(asked).await,
        Command::Issue(asked) => asking().await?.issue(asked).await,
        Command::Renew(asked) => asking().await?.renew(asked).await,
        Command::Plan(asked) => asking().await?.plan(asked).await,
        Command::Check(asked) => asking().await?.check(&asked.name).await,
        Command::Rollback(asked) => asking().await?.roll_back(asked).await,
        Command::Revoke(asked) => asking().await?.revoke(asked).await,
        Command::History(asked) => history::history(&here()?, &asked.name, screen, json).await,
        Command::Pull(asked) => pull::run(&here()?, asked, json).await,
        Command::Page(asked) => page::show::show(&here()?, asked).await,
        Command::Doctor => doctor::doctor(&here()?, screen, json).await,
        Command::Schema(asked) => generated::schema(asked.of),
        Command::Completions { shell } => generated::completions(*shell),
        Command::Man { dir } => generated::man(dir.as_deref()),
    }
}
