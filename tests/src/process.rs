//! Child processes with recorded output. They never outlive the test that started them.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    id: u32,
    watched: bool,
    child: Mutex<Child>,
    output: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a program and collects its output. Its standard input stays open while it lives.
    pub fn start(name: &str, command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::other(format!("could not start {name}: {error}")))?;
        let output = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, output.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, output.clone());
        }
        Ok(Self {
            name: name.to_owned(),
            id: child.id(),
            watched: false,
            child: Mutex::new(child),
            output,
        })
    }

    /// Starts a program that would not notice the death of its parent. A shell beside it notices:
    /// its standard input closes.
    pub fn start_watched(name: &str, command: &Command) -> io::Result<Self> {
        let mut watched = Command::new("sh");
        watched
            .arg("-c")
            .arg("\"$@\" </dev/null & child=$!; read -r line; kill -9 $child; wait")
            .arg("sh")
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => watched.env(key, value),
                None => watched.env_remove(key),
            };
        }
        let mut process = Self::start(name, &mut watched)?;
        process.watched = true;
        Ok(process)
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the output lines so far, on both streams.
    pub fn output(&self) -> Vec<String> {
        lock(&self.output).clone()
    }

    /// Returns how many lines there are so far.
    pub fn lines(&self) -> usize {
        lock(&self.output).len()
    }

    /// Returns the lines from number `from` on.
    pub fn output_since(&self, from: usize) -> Vec<String> {
        lock(&self.output).get(from..).unwrap_or_default().to_vec()
    }

    /// Returns the exit status after the process has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().ok().flatten()
    }

    /// Kills the process as `kill -9` does, and waits for its end.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
        forget_clock(self.id);
    }

    /// Waits for a line for which `find` returns a value.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> io::Result<T> {
        let until = Instant::now() + patience;
        loop {
            let found = lock(&self.output).iter().find_map(|line| find(line));
            if let Some(found) = found {
                return Ok(found);
            }
            let ended = self.exited();
            if ended.is_some() || Instant::now() > until {
                return Err(io::Error::other(format!(
                    "{} did not start ({}):\n{}",
                    self.name,
                    ended.map_or("still running".to_owned(), |status| status.to_string()),
                    self.output().join("\n"),
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // When its standard input closes, a watching shell ends the program and waits for that
        // itself.
        drop(child.stdin.take());
        let until = Instant::now() + Duration::from_secs(2);
        while self.watched && Instant::now() < until {
            if let Ok(Some(_)) = child.try_wait() {
                forget_clock(self.id);
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
        forget_clock(self.id);
    }
}

/// Removes what libfaketime shares within a process. A killed process leaves it, and the next
/// process with the same id would fail on it.
fn forget_clock(process: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{process}"));
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lock(&output).push(text);
            line.clear();
        }
    });
}

/// Locks a mutex even if another test thread has panicked meanwhile.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
