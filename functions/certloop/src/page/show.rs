//! `certloop page`: writes the page, or opens it.

use std::env;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use certificates::invocation::status::Inventory;
use time::OffsetDateTime;

use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::installation::Installation;
use crate::status::inventory;
use crate::terminal::{Spinner, say, tell};

use super::{Place, page_of};

/// Writes the page to standard output, or to a file that is then opened.
pub(crate) async fn show(here: &Installation, asked: &cli::Page) -> Result<Ends, CliError> {
    let spinner = Spinner::start("reading the inventory");
    let mut inventory = inventory(&here.function().await?, &[]).await?;
    drop(spinner);
    inventory.at.get_or_insert_with(OffsetDateTime::now_utc);
    let page = page_of(&inventory, &place(here, &inventory).await?);
    if asked.open {
        open(&page)?;
    } else {
        say(&page)?;
    }
    Ok(Ends::Well)
}

/// Says which installation it is: its account is in the function's ARN, or in those of its
/// certificates.
async fn place(here: &Installation, inventory: &Inventory) -> Result<Place, CliError> {
    let config = here.config();
    let name = if config.local() {
        config.bucket()?
    } else {
        config.function()?
    };
    let all = inventory.certificates.iter();
    let targets = all.flat_map(|standing| &standing.targets);
    let arns = targets.flat_map(|target| {
        let entry = &target.entry;
        entry.certificate_arn.iter().chain(&entry.arn)
    });
    let mut arns = std::iter::once(&name).chain(arns);
    let account = arns.find_map(|arn| Some(arn.split(':').nth(4)?.to_owned()));
    let region = here.aws().await.region().map(str::to_owned);
    Ok(Place {
        name,
        account: account.filter(|account| !account.is_empty()),
        region,
    })
}

/// Shows a page in the browser. The file stays, readable for nobody else: the browser may read it
/// again.
fn open(page: &str) -> Result<(), CliError> {
    let folder = env::temp_dir();
    let written = tempfile::Builder::new()
        .prefix("certloop-")
        .suffix(".html")
        .tempfile_in(&folder)
        .and_then(|mut file| {
            file.write_all(page.as_bytes())?;
            Ok(file.keep()?.1)
        });
    let path = written.map_err(|error| {
        CliError::failed(format!("a file in {}: {error}", folder.display()))
            .try_next("certloop page > fleet.html")
    })?;
    tell(&format!("The page is {}", path.display()));
    opened(OPENER, &path)
}

fn opened(opener: &str, path: &Path) -> Result<(), CliError> {
    let status = Command::new(opener)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let why = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(
        CliError::failed(format!("{opener} did not open it ({why})")).try_next(format!(
            "open {} yourself; on a host without a browser: certloop page > fleet.html",
            path.display()
        )),
    )
}

const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_opened_can_still_be_found() {
        let path = Path::new("/tmp/fleet.html");
        assert_eq!(opened("true", path), Ok(()));
        for opener in ["false", "certloop-no-such-program"] {
            let cli_error = opened(opener, path).unwrap_err();
            assert!(cli_error.what.contains(opener), "{cli_error}");
            assert!(cli_error.next[0].contains("/tmp/fleet.html"), "{cli_error}");
        }
    }
}
