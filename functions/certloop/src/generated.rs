//! What is generated from the definitions: completions, manual pages, schemas.

use std::fs;
use std::path::Path;

use certificates::contract::certificate::certificate_schema;
use certificates::contract::settings::settings_schema;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{Cli, SchemaOf};
use crate::cli_error::{CliError, Ends};
use crate::terminal::say;

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Result<Ends, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "certloop", &mut script);
    say(&String::from_utf8_lossy(&script))?;
    Ok(Ends::Well)
}

/// Prints the manual page, or writes one per command into a directory.
pub(crate) fn man(directory: Option<&Path>) -> Result<Ends, CliError> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        let rendered = Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|error| CliError::failed(format!("the manual page: {error}")))?;
        say(&String::from_utf8_lossy(&page))?;
        return Ok(Ends::Well);
    };
    let written = fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| CliError::failed(format!("{}: {error}", directory.display())))?;
    Ok(Ends::Well)
}

/// Prints a JSON Schema.
pub(crate) fn schema(of: SchemaOf) -> Result<Ends, CliError> {
    let schema = match of {
        SchemaOf::Certificate => certificate_schema(),
        SchemaOf::Settings => settings_schema(),
    };
    say(&format!("{schema:#}\n"))?;
    Ok(Ends::Well)
}
