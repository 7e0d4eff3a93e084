//! What goes to the terminal: colours where they are wanted, questions, and a sign of life while
//! something takes long.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::builder::styling::{AnsiColor, Style};
use tokio::task::JoinHandle;

use crate::cli_error::CliError;
use crate::words::clean;

/// How to write to standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Whether colours are understood and wanted.
    pub(crate) colours: bool,
    /// Columns of a line.
    pub(crate) width: usize,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Good,
    Warning,
    Bad,
    Strong,
    Faint,
}

impl Screen {
    /// Looks at standard output and the environment: a pipe has the width that COLUMNS says.
    pub(crate) fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let measured = terminal_size::terminal_size().filter(|_| is_terminal);
        let width = measured.map_or_else(columns, |(width, _)| usize::from(width.0));
        Self {
            colours: is_terminal && !unwanted && !dumb,
            width: width.clamp(NARROWEST, WIDEST),
        }
    }

    /// Returns the text as it means.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let style = match ink {
            Ink::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Ink::Warning => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Ink::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
            Ink::Strong => Style::new().bold(),
            Ink::Faint => Style::new().dimmed(),
        };
        format!("{style}{text}{style:#}")
    }
}

/// Returns the width that the environment names, or the usual one.
fn columns() -> usize {
    let named = env::var("COLUMNS").ok();
    let named = named.and_then(|text| text.trim().parse().ok());
    named.filter(|width| *width > 0).unwrap_or(WIDTH)
}

/// Writes to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn say(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes what is no result to standard error.
pub(crate) fn tell(text: &str) {
    // Where this fails, nobody is left to hear of it.
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// Whether somebody is there who can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line; `None` at the end of input.
pub(crate) fn ask(question: &str) -> Result<Option<String>, CliError> {
    let cli_error = |error: io::Error| CliError::failed(format!("the terminal: {error}"));
    let mut err = io::stderr().lock();
    write!(err, "{question} ")
        .and_then(|()| err.flush())
        .map_err(cli_error)?;
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line).map_err(cli_error)? {
        0 => Ok(None),
        _ => Ok(Some(line.trim().to_owned())),
    }
}

/// Asks whether to go on; `flag` is what answers it beforehand where nobody can be asked.
pub(crate) fn confirm(question: &str, flag: &str) -> Result<(), CliError> {
    if !can_ask() {
        return Err(CliError::misused(format!(
            "{question} This is no terminal, so nobody can answer"
        ))
        .try_next(format!("the same command with {flag}")));
    }
    let answer = ask(&format!("{question} [y/N]"))?.unwrap_or_default();
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::failed("nothing was changed")),
    }
}

/// A line on standard error that names a step and how long it takes; only on a terminal.
pub(crate) struct Spinner {
    turning: Option<JoinHandle<()>>,
    drawn: Arc<AtomicBool>,
}

impl Spinner {
    /// Names a step that begins now.
    pub(crate) fn start(step: &str) -> Self {
        Self::since(Instant::now(), step)
    }

    /// Names a step of what began before.
    pub(crate) fn since(begun: Instant, step: &str) -> Self {
        let drawn = Arc::new(AtomicBool::new(false));
        if !io::stderr().is_terminal() {
            return Self {
                turning: None,
                drawn,
            };
        }
        let (step, mark) = (step.to_owned(), drawn.clone());
        let turning = tokio::spawn(async move {
            tokio::time::sleep(QUIET).await;
            for sign in ["|", "/", "-", "\\"].iter().cycle() {
                mark.store(true, Ordering::Relaxed);
                let took = elapsed(begun.elapsed());
                draw(&format!("\r{sign} {step}{took}\u{1b}[K"));
                tokio::time::sleep(TURN).await;
            }
        });
        Self {
            turning: Some(turning),
            drawn,
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(turning) = self.turning.take() {
            turning.abort();
        }
        if self.drawn.load(Ordering::Relaxed) {
            draw("\r\u{1b}[K");
        }
    }
}

/// Says how long something has taken: nothing before the first second is over.
fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0 => String::new(),
        seconds @ ..60 => format!(", {seconds} s"),
        seconds => format!(", {} min {} s", seconds / 60, seconds % 60),
    }
}

fn draw(text: &str) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{text}").and_then(|()| err.flush());
}

/// Of a file or pipe, where COLUMNS says nothing.
const WIDTH: usize = 100;
const NARROWEST: usize = 40;
const WIDEST: usize = 160;
const QUIET: Duration = Duration::from_millis(300);
const TURN: Duration = Duration::from_millis(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_something_takes_is_told_in_seconds_and_minutes() {
        for (seconds, words) in [(0, ""), (1, ", 1 s"), (59, ", 59 s"), (75, ", 1 min 15 s")] {
            assert_eq!(elapsed(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn without_colours_a_text_is_itself() {
        let plain = Screen {
            colours: false,
            width: 80,
        };
        assert_eq!(plain.ink(Ink::Bad, "x"), "x");
        let coloured = Screen {
            colours: true,
            ..plain
        };
        let text = coloured.ink(Ink::Bad, "x");
        assert!(text.contains('x') && text.starts_with('\u{1b}') && text.ends_with("\u{1b}[0m"));
        assert_eq!(coloured.ink(Ink::Bad, ""), "");
    }
}
