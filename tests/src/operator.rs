//! An operator's machine: the command line with its own directory and home, piped or in a terminal.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use std::time::Duration;

use crate::{Directory, Installation, LambdaApi, LocalCloud, REGION, binary};

/// A person who runs `certloop`.
#[derive(Debug)]
pub struct Operator {
    api: LambdaApi,
    environment: Vec<(String, String)>,
    files: Directory,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// Its output; in a terminal, errors too.
    pub out: String,
    /// Its standard error; empty in a terminal.
    pub err: String,
}

impl LocalCloud {
    /// Sets up an operator for an installation: the environment names it.
    pub async fn operator(&self, installation: &Installation) -> Operator {
        let api = LambdaApi::open(self.lambda().clone()).await;
        let environment = [
            (
                "AWS_ENDPOINT_URL",
                format!("http://{}", self.to_aws().address()),
            ),
            ("AWS_ENDPOINT_URL_LAMBDA", api.url()),
            ("AWS_ACCESS_KEY_ID", "operator".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "operator".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("CERTLOOP_BUCKET", installation.bucket.clone()),
            ("CERTLOOP_FUNCTION", installation.renew.clone()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Operator {
            api,
            environment: environment.into(),
            files: Directory::new(),
        }
    }
}

impl Operator {
    /// Returns Lambda's API, as this operator reaches it.
    pub fn lambda(&self) -> &LambdaApi {
        &self.api
    }

    /// Sets an environment variable for later commands. An empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Returns the environment in which its commands find the installation.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Returns the working directory.
    pub fn directory(&self) -> &Path {
        &self.files.0
    }

    /// Writes a file into the working directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs `certloop` with its output in pipes.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(&binary("certloop"));
        command.args(arguments).stdin(Stdio::null());
        ran(command, "", None).await
    }

    /// Runs `certloop` in a terminal of 100 columns, and types these lines into it.
    pub async fn in_terminal(&self, arguments: &[&str], typed: &str) -> Ran {
        let program = binary("certloop");
        let words = std::iter::once(program.to_str().unwrap()).chain(arguments.iter().copied());
        let line: Vec<String> = words.map(quoted).collect();
        // If it were typed before the terminal is set up, it would be shown.
        let ready = self.files.0.join("terminal-is-ready");
        let _ = std::fs::remove_file(&ready);
        let set_up = format!("stty cols 100 rows 40 -echo; touch {}", ready.display());
        let line = format!("{set_up}; exec {}", line.join(" "));
        let mut command = self.command(Path::new("script"));
        command.args(["-qec", &line, "/dev/null"]);
        let mut ran = ran(command, typed, Some(ready)).await;
        ran.out = ran.out.replace("\r\n", "\n");
        ran
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let home = self.files.0.to_str().unwrap();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.environment.iter().cloned())
            .current_dir(&self.files.0);
        command
    }
}

impl Ran {
    /// Returns the output as a person finally sees it: without colours and without overwritten
    /// lines.
    pub fn seen(&self) -> String {
        let mut seen = String::new();
        for line in self.out.split_inclusive('\n') {
            // An overwritten line ends with the command to clear the line.
            let line = line.rsplit('\r').next().unwrap_or(line);
            let mut rest = line;
            while let Some((before, after)) = rest.split_once('\u{1b}') {
                seen.push_str(before);
                rest = after
                    .split_once(|c: char| c.is_ascii_alphabetic())
                    .map_or("", |(_, rest)| rest);
            }
            seen.push_str(rest);
        }
        seen
    }

    /// Returns the output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command. Types when the file `ready` exists.
async fn ran(mut command: Command, typed: &str, ready: Option<PathBuf>) -> Ran {
    let typed = typed.to_owned();
    let output = tokio::task::spawn_blocking(move || -> std::io::Result<Output> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if !typed.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let mut input = child.stdin.take();
        if let Some(input) = &mut input {
            while ready.as_ref().is_some_and(|ready| !ready.exists()) && child.try_wait()?.is_none()
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            input.write_all(typed.as_bytes())?;
        }
        child.wait_with_output()
    });
    let output = output.await.unwrap().unwrap();
    Ran {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
