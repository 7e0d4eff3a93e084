//! The real Chromium without a window, controlled by its DevTools protocol over a pipe.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::{Directory, is_missing, root, tool};

/// A running Chromium with one page open.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    session: Option<String>,
    calls: u64,
    heard: VecDeque<Value>,
    files: Directory,
}

impl Chromium {
    /// Returns whether Chromium is missing, so that the test must be skipped. With `CI=true` the
    /// test fails instead.
    #[track_caller]
    pub fn is_missing(test: &str) -> bool {
        is_missing("Chromium", Command::new(program()).arg("--version"), test)
    }

    /// Starts one with an empty page.
    pub fn start() -> Self {
        let files = Directory::new();
        // Chromium reads the protocol from descriptor 3 and writes to 4. When the pipe closes,
        // Chromium ends too.
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                "sh",
            ])
            .arg(program())
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                // Chromium loads only our own pages, and its sandbox cannot be made within
                // containers.
                "--no-sandbox",
            ])
            .arg(format!("--user-data-dir={}", files.0.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, from) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for message in messages(stdout) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            to: child.stdin.take(),
            child,
            from,
            session: None,
            calls: 0,
            heard: VecDeque::new(),
            files,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attached);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Performance.enable", json!({"timeDomain": "threadTicks"}));
        browser
    }

    /// Calls a method of the protocol and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let to = self.to.as_mut().unwrap();
        to.write_all(format!("{message}\0").as_bytes()).unwrap();
        to.flush().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let heard = self.listen(until, method);
            if heard["id"] == json!(self.calls) {
                assert!(heard.get("error").is_none(), "{method}: {heard}");
                return heard["result"].clone();
            }
            self.heard.push_back(heard);
        }
    }

    fn listen(&mut self, until: Instant, what: &str) -> Value {
        let patience = until.saturating_duration_since(Instant::now());
        let heard = self.from.recv_timeout(patience);
        heard.unwrap_or_else(|error| panic!("Chromium does not answer {what}: {error}"))
    }

    /// Opens a page under its own address and waits until it is loaded. `fragment` is the part
    /// after the file's name.
    pub fn open(&mut self, html: &[u8], fragment: &str) {
        let path = self
            .files
            .0
            .join(format!("page-{:08x}.html", fastrand::u32(..)));
        std::fs::write(&path, html).unwrap();
        self.heard.clear();
        self.call(
            "Page.navigate",
            json!({"url": format!("file://{}{fragment}", path.display())}),
        );
        let until = Instant::now() + PATIENCE;
        let is_load = |heard: &Value| heard["method"] == "Page.loadEventFired";
        while !self.heard.iter().any(is_load) {
            let heard = self.listen(until, "the page's load");
            self.heard.push_back(heard);
        }
    }

    /// Evaluates an expression in the page and waits for its promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Evaluates an expression that gives a list of texts.
    pub fn texts(&mut self, expression: &str) -> Vec<String> {
        let texts = self.evaluate(expression);
        let texts = texts.as_array().unwrap_or_else(|| panic!("{texts}"));
        let text = |text: &Value| text.as_str().unwrap().to_owned();
        texts.iter().map(text).collect()
    }

    /// Returns all events of a kind since the page was opened, such as `Network.requestWillBeSent`.
    pub fn heard(&self, method: &str) -> Vec<Value> {
        let of_kind = self.heard.iter().filter(|heard| heard["method"] == method);
        of_kind.map(|heard| heard["params"].clone()).collect()
    }

    /// Sets the size of the window in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32, is_phone: bool) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}),
        );
    }

    /// Shows pages for a `medium` (`screen`, `print`) and a preferred colour `scheme` (`light`,
    /// `dark`).
    pub fn prefer(&mut self, medium: &str, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"media": medium, "features": [feature]}),
        );
    }

    /// Returns how many seconds of processor time pages have used in the browser's present process;
    /// other tests at the same time do not change that. A new page may start a new process.
    pub fn seconds_of_work(&mut self) -> f64 {
        let metrics = self.call("Performance.getMetrics", json!({}));
        let metrics = metrics["metrics"].as_array().unwrap();
        let work = metrics.iter().find(|one| one["name"] == "TaskDuration");
        work.unwrap()["value"].as_f64().unwrap()
    }

    /// Allows pages to run scripts, or not.
    pub fn run_scripts(&mut self, allowed: bool) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !allowed}),
        );
    }

    /// Types into the element that has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Saves a PNG of the visible page for a person, in the folder that `PAGES` names.
    pub fn keep_picture(&mut self, name: &str) {
        if let Some(folder) = kept_in() {
            let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
            keep(&folder, &format!("{name}.png"), &picture["data"]);
        }
    }

    /// Prints the page on A4 paper and returns the PDF.
    pub fn print(&mut self, name: &str) -> Vec<u8> {
        let paper = json!({"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": false});
        let printed = self.call("Page.printToPDF", paper);
        if let Some(folder) = kept_in() {
            keep(&folder, &format!("{name}.pdf"), &printed["data"]);
        }
        decoded(&printed["data"])
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Chromium ends with the pipe, and so do its helpers.
        drop(self.to.take());
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads messages; each ends with a zero byte.
fn messages(from: impl Read) -> impl Iterator<Item = Value> {
    let parts = BufReader::new(from).split(0);
    parts.map_while(|part| serde_json::from_slice(&part.ok()?).ok())
}

fn kept_in() -> Option<PathBuf> {
    let folder = std::env::var_os("PAGES").filter(|folder| !folder.is_empty());
    folder.map(|folder| root().join(folder))
}

fn keep(folder: &Path, name: &str, data: &Value) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), decoded(data)).unwrap();
}

fn decoded(data: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(data.as_str().unwrap()).unwrap()
}

/// Prefers the installed program to one in PATH.
fn program() -> PathBuf {
    let installed = tool("chromium/chromium");
    match installed.exists() {
        true => installed,
        false => "chromium".into(),
    }
}

/// On a busy machine several instances start at once.
const PATIENCE: Duration = Duration::from_secs(60);
