//! The operator's command line.

mod cli;
mod config;
mod function;
mod generated;
mod installation;
mod status;
mod terminal;
mod trouble;
mod words;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::installation::Installation;
use crate::terminal::{Screen, tell};
use crate::trouble::{Ends, Trouble};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ends = match run(cli).await {
        Ok(ends) => ends,
        Err(trouble) => {
            tell(&trouble.to_string());
            trouble.ends
        }
    };
    ExitCode::from(ends as u8)
}

async fn run(cli: Cli) -> Result<Ends, Trouble> {
    let Cli { options, command } = cli;
    match &command {
        Command::Completions { shell } => return generated::completions(*shell),
        Command::Man { dir } => return generated::man(dir.as_deref()),
        Command::Schema(asked) => return generated::schema(asked.of),
        _ => {}
    }
    let (json, screen) = (options.json, Screen::of_stdout());
    let here = Installation::new(Config::load(options)?);
    match &command {
        Command::Status(asked) => {
            status::status(&here.function().await?, asked, screen, json).await
        }
        Command::Add(_) => not_yet("add"),
        Command::Edit(_) => not_yet("edit"),
        Command::Pause(_) => not_yet("pause"),
        Command::Resume(_) => not_yet("resume"),
        Command::Remove(_) => not_yet("remove"),
        Command::Issue(_) => not_yet("issue"),
        Command::Renew(_) => not_yet("renew"),
        Command::Plan(_) => not_yet("plan"),
        Command::Check(_) => not_yet("check"),
        Command::Rollback(_) => not_yet("rollback"),
        Command::Revoke(_) => not_yet("revoke"),
        Command::History(_) => not_yet("history"),
        Command::Pull(_) => not_yet("pull"),
        Command::Page(_) => not_yet("page"),
        Command::Doctor => not_yet("doctor"),
        Command::Completions { .. } | Command::Man { .. } | Command::Schema(_) => Ok(Ends::Well),
    }
}

fn not_yet(command: &str) -> Result<Ends, Trouble> {
    Err(Trouble::unknown(format!("{command} is not yet built")))
}
