//! Lambda: the Runtime API in front of the real function binaries.
//!
//! An execution environment is one process with its own Runtime API. As on Lambda, it serves one
//! invocation at a time and is used again when idle; a second one starts for an invocation that
//! arrives meanwhile. A process that dies, hangs or never starts is a function error in Lambda's
//! own words.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::http::{self, Request, Response, Serving};
use crate::process::{Process, lock};
use crate::proxy::Sent;
use crate::{ACCOUNT, REGION};

const INIT_PATIENCE: Duration = Duration::from_secs(10);
const RESPONSE_LIMIT: usize = 6 * 1024 * 1024;

/// A deployed function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The name it is invoked by.
    pub name: String,
    /// The program.
    pub binary: PathBuf,
    /// The longest time for one invocation.
    pub timeout: Duration,
    /// Its environment variables, in addition to Lambda's own.
    pub environment: Vec<(String, String)>,
}

impl Function {
    /// Returns a function of the workspace, by the name of its binary.
    pub fn new(name: &str, binary: &str, timeout: Duration) -> Self {
        Self {
            name: name.to_owned(),
            binary: crate::binary(binary),
            timeout,
            environment: Vec::new(),
        }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.environment.push((key.to_owned(), value.into()));
        self
    }

    /// Returns the function's ARN.
    pub fn arn(&self) -> String {
        arn(&self.name)
    }
}

/// Returns the ARN of a function of this account.
pub fn arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

/// The special conditions of an invocation.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How far the function's clock is ahead of ours. Each offset has its own environments.
    pub clock: Duration,
    /// Where the process dies.
    pub kill: Option<Kill>,
    /// Another timeout than the function's own.
    pub timeout: Option<Duration>,
    /// The alias that the caller uses.
    pub alias: Option<&'static str>,
}

impl Plan {
    /// Moves the function's clock, deadline header included.
    pub fn days_later(days: u64) -> Self {
        Self {
            clock: Duration::from_secs(days * 24 * 60 * 60),
            ..Self::default()
        }
    }

    /// Kills the process at its n-th outgoing request (1 is the first).
    #[must_use]
    pub fn killed_at(mut self, request: usize, moment: Moment) -> Self {
        let at = Deadly::Number(request);
        self.kill = Some(Kill { at, moment });
        self
    }

    /// Kills the process at its first outgoing request whose call begins so: `POST /authZ/`.
    #[must_use]
    pub fn killed_on(mut self, call: &'static str, moment: Moment) -> Self {
        let at = Deadly::Call(call);
        self.kill = Some(Kill { at, moment });
        self
    }

    /// Invokes through an alias of the function.
    #[must_use]
    pub fn through(alias: &'static str) -> Self {
        Self {
            alias: Some(alias),
            ..Self::default()
        }
    }

    /// Gives this invocation another timeout.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Where a process dies: at an outgoing request.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    at: Deadly,
    /// Before or after it.
    pub moment: Moment,
}

/// Which request of an invocation.
#[derive(Clone, Copy, Debug)]
enum Deadly {
    /// The n-th, counted from 1.
    Number(usize),
    /// The first whose call begins so.
    Call(&'static str),
}

/// The two moments around a request when a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The service never receives the request.
    Before,
    /// The service executes the request, but its answer never arrives.
    After,
}

/// A failed invocation, as Lambda reports it to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// `errorType`.
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_type, self.message)
    }
}

/// The result of an invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The function's result.
    pub result: Result<Value, FunctionError>,
    /// Its calls to AWS and to the certificate authority, in order.
    pub requests: Vec<Sent>,
    /// Its output, on both streams.
    pub log: Vec<String>,
    /// Its duration, without the start of the environment.
    pub duration: Duration,
    /// The time from process start to the request for the first invocation, if an environment was
    /// started for this one.
    pub start: Option<Duration>,
}

impl Invocation {
    /// Returns the result of an invocation; panics if it failed.
    #[track_caller]
    pub fn report(&self) -> &Value {
        match &self.result {
            Ok(report) => report,
            Err(error) => panic!("the function failed: {error}\n{}", self.log.join("\n")),
        }
    }

    /// Returns the report's entry of one certificate.
    #[track_caller]
    pub fn certificate(&self, name: &str) -> &Value {
        let report = self.report();
        report["certificates"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == name))
            .unwrap_or_else(|| panic!("no certificate {name} in {report:#}"))
    }

    /// Returns one certificate's outcome.
    #[track_caller]
    pub fn outcome(&self, name: &str) -> &str {
        self.certificate(name)["outcome"].as_str().unwrap_or("")
    }

    /// Returns the log lines that are JSON.
    pub fn log_lines(&self) -> Vec<Value> {
        let parsed = self.log.iter().map(|line| serde_json::from_str(line));
        parsed.filter_map(Result::ok).collect()
    }

    /// Returns the metric documents (CloudWatch's embedded format).
    pub fn metrics(&self) -> Vec<Value> {
        let mut lines = self.log_lines();
        lines.retain(|line| line.get("_aws").is_some());
        lines
    }

    /// Counts the requests that `which` accepts.
    pub fn count(&self, which: impl Fn(&Sent) -> bool) -> usize {
        self.requests.iter().filter(|sent| which(sent)).count()
    }
}

/// The deployed functions and their execution environments.
#[derive(Clone, Debug)]
pub struct Lambda {
    shared: Arc<SharedService>,
}

#[derive(Debug)]
struct SharedService {
    base: Vec<(String, String)>,
    faketime: PathBuf,
    functions: Mutex<HashMap<String, Function>>,
    environments: Mutex<Vec<Arc<Environment>>>,
    requests: AtomicU64,
}

/// One process with its Runtime API.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) function: String,
    clock: Duration,
    process: Process,
    busy: AtomicBool,
    waiting: AtomicBool,
    changed: Notify,
    events: mpsc::UnboundedSender<Event>,
    current: Mutex<Option<Current>>,
    init_error: Mutex<Option<FunctionError>>,
    started: Instant,
    _serving: Mutex<Option<Serving>>,
}

#[derive(Debug)]
struct Event {
    id: String,
    deadline: u128,
    arn: String,
    body: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    id: String,
    kill: Option<Kill>,
    requests: Vec<Sent>,
    done: Option<oneshot::Sender<Result<Value, FunctionError>>>,
}

impl Lambda {
    /// Makes an empty Lambda. Its functions get these variables in addition to Lambda's own.
    pub fn new(base: Vec<(String, String)>, faketime: PathBuf) -> Self {
        Self {
            shared: Arc::new(SharedService {
                base,
                faketime,
                functions: Mutex::default(),
                environments: Mutex::default(),
                requests: AtomicU64::new(1),
            }),
        }
    }

    /// Deploys a function. If it exists, its environments end.
    pub fn deploy(&self, function: Function) {
        assert!(
            function.binary.exists(),
            "{} is missing: run `cargo build --release` first",
            function.binary.display()
        );
        self.forget(&function.name);
        lock(&self.shared.functions).insert(function.name.clone(), function);
    }

    /// Ends a function's idle environments, so that the next invocation starts cold.
    pub fn forget(&self, function: &str) {
        lock(&self.shared.environments).retain(|one| one.function != function);
    }

    /// Invokes a function and waits for its end.
    pub async fn invoke(&self, function: &str, event: &Value) -> Invocation {
        self.invoke_with(function, event, Plan::default()).await
    }

    /// Invokes a function with special conditions.
    pub async fn invoke_with(&self, name: &str, event: &Value, plan: Plan) -> Invocation {
        let Some(function) = lock(&self.shared.functions).get(name).cloned() else {
            return Invocation::failed("ResourceNotFoundException", format!("no function {name}"));
        };
        let (environment, start) = match self.environment(&function, plan.clock).await {
            Ok(found) => found,
            Err(failed) => return failed,
        };
        let timeout = plan.timeout.unwrap_or(function.timeout);
        let id = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("{id:08x}-0000-4000-8000-000000000000");
        let (done, answer) = oneshot::channel();
        *lock(&environment.current) = Some(Current {
            id: id.clone(),
            kill: plan.kill,
            requests: Vec::new(),
            done: Some(done),
        });
        // The output of an environment during its start belongs to the invocation that it is
        // started for.
        let printed = match start {
            Some(_) => 0,
            None => environment.process.lines(),
        };

        let begun = Instant::now();
        environment.waiting.store(false, Ordering::SeqCst);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let _ = environment.events.send(Event {
            id: id.clone(),
            deadline: (now + plan.clock + timeout).as_millis(),
            arn: match plan.alias {
                Some(alias) => format!("{}:{alias}", function.arn()),
                None => function.arn(),
            },
            body: event.to_string().into_bytes(),
        });
        let result = tokio::select! {
            Ok(result) = answer => result,
            status = environment.exit() => Err(FunctionError {
                error_type: "Runtime.ExitError".into(),
                message: format!("RequestId: {id} Error: Runtime exited with error: {status}"),
            }),
            () = tokio::time::sleep(timeout) => {
                environment.process.kill();
                Err(FunctionError {
                    error_type: "Sandbox.Timedout".into(),
                    message: format!(
                        "RequestId: {id} Error: Task timed out after {:.2} seconds",
                        timeout.as_secs_f64()
                    ),
                })
            }
        };
        let duration = begun.elapsed();

        // The environment is ready again when it asks for the next event. By then all its output is
        // in the pipe, but on a busy machine not always read yet.
        let alive = tokio::time::timeout(Duration::from_secs(1), environment.idle()).await;
        let alive = alive.unwrap_or(false);
        let mut seen = printed;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let lines = environment.process.lines();
            if lines > printed && lines == seen {
                break;
            }
            seen = lines;
        }
        let log = environment.process.output_since(printed);
        let current = lock(&environment.current).take();
        if alive {
            environment.busy.store(false, Ordering::SeqCst);
        } else {
            environment.process.kill();
            lock(&self.shared.environments).retain(|one| !Arc::ptr_eq(one, &environment));
        }
        Invocation {
            result,
            requests: current.map(|current| current.requests).unwrap_or_default(),
            log,
            duration,
            start,
        }
    }

    /// Returns an idle environment, or a new one with its start time.
    async fn environment(
        &self,
        function: &Function,
        clock: Duration,
    ) -> Result<(Arc<Environment>, Option<Duration>), Invocation> {
        let idle = lock(&self.shared.environments)
            .iter()
            .find(|one| {
                one.function == function.name
                    && one.clock == clock
                    && one.process.exited().is_none()
                    && !one.busy.swap(true, Ordering::SeqCst)
            })
            .cloned();
        if let Some(idle) = idle {
            return Ok((idle, None));
        }
        let environment = self
            .start(function, clock)
            .await
            .map_err(|error| Invocation::failed("Runtime.InvalidEntrypoint", error.to_string()))?;
        let result = tokio::select! {
            true = environment.idle() => Ok(()),
            status = environment.exit() => Err(FunctionError {
                error_type: "Runtime.ExitError".into(),
                message: format!("Error: Runtime exited with error: {status}"),
            }),
            () = tokio::time::sleep(INIT_PATIENCE) => Err(FunctionError {
                error_type: "Sandbox.Timedout".into(),
                message: "Init timed out".into(),
            }),
        };
        match result {
            Ok(()) => {
                let start = environment.started.elapsed();
                lock(&self.shared.environments).push(environment.clone());
                Ok((environment, Some(start)))
            }
            Err(error) => {
                environment.process.kill();
                tokio::time::sleep(Duration::from_millis(3)).await;
                let reported = lock(&environment.init_error).take();
                Err(Invocation {
                    result: Err(reported.unwrap_or(error)),
                    log: environment.process.output(),
                    ..Invocation::failed("", String::new())
                })
            }
        }
    }

    async fn start(
        &self,
        function: &Function,
        clock: Duration,
    ) -> std::io::Result<Arc<Environment>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut command = Command::new(&function.binary);
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", &function.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env(
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", function.name),
            )
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
            .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            // The stand-in for AWS recognises the caller by this.
            .env("AWS_ACCESS_KEY_ID", &function.name)
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_SESSION_TOKEN", "local")
            .env("TZ", ":UTC")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(self.shared.base.iter().cloned())
            .envs(function.environment.iter().cloned());
        if !clock.is_zero() {
            command
                .env("LD_PRELOAD", &self.shared.faketime)
                .env("FAKETIME", format!("+{}", clock.as_secs()))
                // The stand-in for AWS learns this clock from signatures. Otherwise the SDK would
                // sign with the time of the services.
                .env("AWS_DISABLE_CLOCK_SKEW_CORRECTION", "true")
                // Timeouts run on the monotonic clock, which never jumps.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        }

        let started = Instant::now();
        let process = Process::start(&function.name, &mut command)?;
        let (events, queue) = mpsc::unbounded_channel();
        let environment = Arc::new(Environment {
            function: function.name.clone(),
            clock,
            process,
            busy: AtomicBool::new(true),
            waiting: AtomicBool::new(false),
            changed: Notify::new(),
            events,
            current: Mutex::default(),
            init_error: Mutex::default(),
            started,
            _serving: Mutex::default(),
        });
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let weak = Arc::downgrade(&environment);
        let serving = http::listen(listener, move |stream, _| {
            let (weak, queue) = (weak.clone(), queue.clone());
            async move {
                let _ = http::serve(stream, |request| {
                    let (weak, queue) = (weak.clone(), queue.clone());
                    async move {
                        let environment = weak.upgrade()?;
                        let next = environment.take(&request)?;
                        match next {
                            Some(response) => Some(response),
                            None => {
                                drop(environment);
                                let event = queue.lock().await.recv().await?;
                                Some(event.response())
                            }
                        }
                    }
                })
                .await;
            }
        });
        *lock(&environment._serving) = Some(serving);
        Ok(environment)
    }

    /// Returns the environment whose process owns the other end of a connection.
    pub(crate) fn environment_behind(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Option<Arc<Environment>> {
        let socket = format!("socket:[{}]", socket_inode(peer, local)?);
        let environments = lock(&self.shared.environments).clone();
        environments.into_iter().find(|one| {
            let directory = format!("/proc/{}/fd", one.process.id());
            std::fs::read_dir(directory).is_ok_and(|mut open| {
                open.any(|file| {
                    file.and_then(|file| std::fs::read_link(file.path()))
                        .is_ok_and(|target| target.as_os_str() == socket.as_str())
                })
            })
        })
    }

    /// Returns the output of a function so far, from the environments that still live.
    pub fn printed(&self, function: &str) -> Vec<String> {
        let mut environments = lock(&self.shared.environments).clone();
        environments.retain(|one| one.function == function);
        let lines = environments.iter().flat_map(|one| one.process.output());
        lines.collect()
    }
}

impl Invocation {
    fn failed(error_type: &str, message: String) -> Self {
        Self {
            result: Err(FunctionError {
                error_type: error_type.to_owned(),
                message,
            }),
            requests: Vec::new(),
            log: Vec::new(),
            duration: Duration::ZERO,
            start: None,
        }
    }
}

impl Event {
    fn response(self) -> Response {
        Response::new(200, self.body)
            .with("Content-Type", "application/json")
            .with("Lambda-Runtime-Aws-Request-Id", self.id)
            .with("Lambda-Runtime-Deadline-Ms", self.deadline.to_string())
            .with("Lambda-Runtime-Invoked-Function-Arn", self.arn)
            .with(
                "Lambda-Runtime-Trace-Id",
                "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
            )
    }
}

impl Environment {
    /// Handles a call of the Runtime API. `Some(None)` is a request for the next event.
    fn take(&self, request: &Request) -> Option<Option<Response>> {
        let path = request.path().strip_prefix("/2018-06-01/runtime/")?;
        let accepted =
            || Response::new(202, r#"{"status":"OK"}"#).with("Content-Type", "application/json");
        if path == "invocation/next" {
            self.waiting.store(true, Ordering::SeqCst);
            self.changed.notify_waiters();
            return Some(None);
        }
        if path == "init/error" {
            *lock(&self.init_error) = Some(function_error(&request.body));
            return Some(Some(accepted()));
        }
        let (id, what) = path.strip_prefix("invocation/")?.split_once('/')?;
        let mut current = lock(&self.current);
        let current = current.as_mut().filter(|current| current.id == id);
        let Some(done) = current.and_then(|current| current.done.take()) else {
            let body = r#"{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}"#;
            return Some(Some(Response::new(400, body)));
        };
        let result = match what {
            "response" if request.body.len() > RESPONSE_LIMIT => Err(FunctionError {
                error_type: "Function.ResponseSizeTooLarge".into(),
                message:
                    "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
                        .into(),
            }),
            "response" => serde_json::from_slice(&request.body).map_err(|error| FunctionError {
                error_type: "Runtime.InvalidResponse".into(),
                message: error.to_string(),
            }),
            _ => Err(function_error(&request.body)),
        };
        let _ = done.send(result);
        Some(Some(accepted()))
    }

    /// Waits until the process asks for an event (true) or has ended (false).
    async fn idle(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.process.exited().is_some() {
                return false;
            }
            if self.waiting.load(Ordering::SeqCst) {
                return true;
            }
            let _ = tokio::time::timeout(Duration::from_millis(5), changed).await;
        }
    }

    /// Waits until the process has ended and returns how, in words.
    async fn exit(&self) -> String {
        loop {
            if let Some(status) = self.process.exited() {
                return status.to_string();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Counts an outgoing request of the current invocation. Returns whether the process dies with
    /// it.
    pub(crate) fn sends(&self, sent: Sent) -> (usize, Option<Moment>) {
        let mut current = lock(&self.current);
        let Some(current) = current.as_mut() else {
            return (0, None);
        };
        let number = current.requests.len() + 1;
        let dies = current.kill.filter(|kill| match kill.at {
            Deadly::Number(at) => at == number,
            Deadly::Call(call) => sent.call.starts_with(call),
        });
        current.requests.push(sent);
        (number, dies.map(|kill| kill.moment))
    }

    /// Records the answer's status of a counted request.
    pub(crate) fn answered(&self, number: usize, status: u16) {
        if let Some(current) = lock(&self.current).as_mut()
            && let Some(sent) = number
                .checked_sub(1)
                .and_then(|index| current.requests.get_mut(index))
        {
            sent.status = Some(status);
        }
    }

    /// Ends the process at once, as the platform would.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }
}

fn function_error(body: &[u8]) -> FunctionError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    FunctionError {
        error_type: text("errorType"),
        message: text("errorMessage"),
    }
}

/// Finds the socket of a connection in the kernel's table, by both ends: one port can lead to
/// several places.
fn socket_inode(near: SocketAddr, far: SocketAddr) -> Option<String> {
    let entry = |address| {
        let SocketAddr::V4(address) = address else {
            return None;
        };
        let ip = u32::from_ne_bytes(address.ip().octets());
        Some(format!("{ip:08X}:{:04X}", address.port()))
    };
    let (near, far) = (entry(near)?, entry(far)?);
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let inode = fields.clone().nth(9)?;
        let is_wanted = fields.nth(1)? == near && fields.next()? == far;
        (is_wanted && inode != "0").then(|| inode.to_owned())
    })
}
