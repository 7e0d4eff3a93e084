//! The wire between the functions and the services. It counts and records every request and
//! attributes it to the invocation that sent it. It can kill the process at a request, and answer a
//! request with a fault.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::{ClientConfig, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::http::{self, Connection, Request, Response, Serving, Stall};
use crate::lambda::{Environment, Lambda, Moment};
use crate::process::lock;
use crate::tls;

/// The receiver of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Any AWS service.
    Aws,
    /// The certificate authority.
    Acme,
}

/// A request that a function sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was sent.
    pub at: Instant,
    /// Its receiver.
    pub service: Service,
    /// The function, where it is known.
    pub function: Option<String>,
    /// The method.
    pub method: String,
    /// The Host header.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// The operation: `ImportCertificate`, `PutObject state/shop.json`, `POST /order-plz`.
    pub call: String,
    /// The payload of a signed request to the certificate authority, or the parameters of one to
    /// AWS, without private keys. Null when there is none.
    pub payload: Value,
    /// The status of the answer, after there is one.
    pub status: Option<u16>,
    /// The Location header of the answer, if it has one: the URL of a new order or account.
    pub location: Option<String>,
}

impl Sent {
    /// Returns whether it is this AWS operation.
    pub fn is(&self, operation: &str) -> bool {
        self.service == Service::Aws && self.call.split(' ').next() == Some(operation)
    }

    /// Returns whether it went to the certificate authority, to a path with this prefix.
    pub fn is_acme(&self, prefix: &str) -> bool {
        self.service == Service::Acme && self.target.starts_with(prefix)
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        match self.status {
            Some(status) => write!(f, " {status}"),
            None => Ok(()),
        }
    }
}

/// An answer that does not come from the service.
#[derive(Clone)]
pub struct Fault {
    matches: Arc<dyn Fn(&Sent) -> bool + Send + Sync>,
    skip: usize,
    times: usize,
    dice: Option<Dice>,
    label: Option<String>,
    act: Act,
}

/// A random share of the requests. For one seed it is always the same requests of a call,
/// independent of other work in progress.
#[derive(Clone)]
struct Dice {
    share: f64,
    seed: u64,
    seen: HashMap<String, u64>,
}

impl Dice {
    fn strikes(&mut self, sent: &Sent) -> bool {
        let seen = self.seen.entry(sent.call.clone()).or_default();
        *seen += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, &sent.call, *seen).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish()).f64() < self.share
    }
}

type Edit = Arc<dyn Fn(&Sent, &mut Response) + Send + Sync>;

#[derive(Clone)]
enum Act {
    Answer(Response),
    AnswerBy(Arc<dyn Fn(&Sent) -> Response + Send + Sync>),
    Swallow(Response),
    Edit(Edit),
    HangUp,
    Delay(Duration),
}

impl Fault {
    /// Strikes requests to paths with this prefix (`/order-plz`) or calls of this name
    /// (`ImportCertificate`).
    pub fn on(what: &str) -> FaultBuilder {
        let what = what.to_owned();
        Self::when(move |sent| sent.target.starts_with(&what) || sent.is(&what))
    }

    /// Strikes the requests that `matches` accepts.
    pub fn when(matches: impl Fn(&Sent) -> bool + Send + Sync + 'static) -> FaultBuilder {
        FaultBuilder(Self {
            matches: Arc::new(matches),
            skip: 0,
            times: 1,
            dice: None,
            label: None,
            act: Act::HangUp,
        })
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault {{ skip: {}, times: {} }}", self.skip, self.times)
    }
}

/// A fault without its action.
#[derive(Clone, Debug)]
#[must_use]
pub struct FaultBuilder(Fault);

impl FaultBuilder {
    /// Lets the first n matching requests through.
    pub fn after(mut self, requests: usize) -> Self {
        self.0.skip = requests;
        self
    }

    /// Strikes n times instead of once.
    pub fn times(mut self, times: usize) -> Self {
        self.0.times = times;
        self
    }

    /// Strikes every time.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Names the fault, so that it can be removed separately.
    pub fn labelled(mut self, label: &str) -> Self {
        self.0.label = Some(label.to_owned());
        self
    }

    /// Strikes a random share of the requests, every time, with this seed.
    pub fn share(mut self, share: f64, seed: u64) -> Self {
        self.0.dice = Some(Dice {
            share,
            seed,
            seen: HashMap::new(),
        });
        self.always()
    }

    /// Answers with the result of `answer`; the service never receives the request.
    pub fn answer_by(
        mut self,
        answer: impl Fn(&Sent) -> Response + Send + Sync + 'static,
    ) -> Fault {
        self.0.act = Act::AnswerBy(Arc::new(answer));
        self.0
    }

    /// Passes the request to the service; its answer breaks off on the way.
    pub fn stall(self, stall: Stall) -> Fault {
        self.edit(move |response| response.stall = Some(stall))
    }

    /// Answers with this response; the service never receives the request.
    pub fn answer(mut self, response: Response) -> Fault {
        self.0.act = Act::Answer(response);
        self.0
    }

    /// Answers with an ACME problem document.
    pub fn problem(self, status: u16, urn: &str, detail: &str) -> Fault {
        let body = serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{urn}"), "detail": detail, "status": status,
        });
        let response = Response::new(status, body.to_string());
        self.answer(response.with("Content-Type", "application/problem+json"))
    }

    /// Passes the request to the service, and answers with this instead.
    pub fn swallow(mut self, response: Response) -> Fault {
        self.0.act = Act::Swallow(response);
        self.0
    }

    /// Changes the service's answer on its way.
    pub fn edit(self, edit: impl Fn(&mut Response) + Send + Sync + 'static) -> Fault {
        self.edit_by(move |_, response| edit(response))
    }

    /// Changes the service's answer on its way, by what was asked.
    pub fn edit_by(mut self, edit: impl Fn(&Sent, &mut Response) + Send + Sync + 'static) -> Fault {
        self.0.act = Act::Edit(Arc::new(edit));
        self.0
    }

    /// Closes the connection; the service never receives the request.
    pub fn hang_up(mut self) -> Fault {
        self.0.act = Act::HangUp;
        self.0
    }

    /// Forwards the request after a delay.
    pub fn delay(mut self, delay: Duration) -> Fault {
        self.0.act = Act::Delay(delay);
        self.0
    }
}

/// What happens to a connection before a request can be sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is closed at once.
    Closed,
    /// Nothing answers.
    Silent,
    /// The other end does not speak TLS.
    Garbage,
}

/// One listening address in front of one service.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<SharedProxy>,
    address: SocketAddr,
    serving: Mutex<Option<Serving>>,
}

#[derive(Debug)]
struct SharedProxy {
    service: Service,
    upstream: SocketAddr,
    tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    lambda: Lambda,
    faults: Mutex<Vec<Fault>>,
    broken: Mutex<Vec<(String, Broken)>>,
    sent: Mutex<Vec<Sent>>,
}

impl Proxy {
    /// Forwards `listener` to `upstream`, with TLS on both sides if configured.
    pub fn start(
        service: Service,
        listener: TcpListener,
        upstream: SocketAddr,
        tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
        lambda: Lambda,
    ) -> Self {
        let shared = Arc::new(SharedProxy {
            service,
            upstream,
            tls,
            lambda,
            faults: Mutex::default(),
            broken: Mutex::default(),
            sent: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let serving = Mutex::new(Some(serve(&shared, listener)));
        Self {
            shared,
            address,
            serving,
        }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the service down: open connections are closed and new ones refused, until
    /// [`Self::up`].
    pub async fn down(&self) {
        lock(&self.serving).take();
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Makes the service reachable again.
    pub async fn up(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *lock(&self.serving) = Some(serve(&self.shared, listener));
    }

    /// Adds a fault. The first fault that matches a request strikes.
    pub fn inject(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// Breaks every new connection of a function from now on.
    pub fn break_connections(&self, function: &str, how: Broken) {
        lock(&self.shared.broken).push((function.to_owned(), how));
    }

    /// Allows a function's connections again.
    pub fn mend_connections(&self, function: &str) {
        lock(&self.shared.broken).retain(|(held, _)| held != function);
    }

    /// Removes the faults of a label.
    pub fn heal_labelled(&self, label: &str) {
        lock(&self.shared.faults).retain(|fault| fault.label.as_deref() != Some(label));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
        lock(&self.shared.broken).clear();
    }

    /// Returns every request so far, of all invocations.
    pub fn sent(&self) -> Vec<Sent> {
        lock(&self.shared.sent).clone()
    }
}

fn serve(shared: &Arc<SharedProxy>, listener: TcpListener) -> Serving {
    let shared = shared.clone();
    http::listen(listener, move |stream, peer| {
        connection(shared.clone(), stream, peer)
    })
}

/// One connection of a function, and ours to the service for it.
struct Wire {
    shared: Arc<SharedProxy>,
    environment: Option<Arc<Environment>>,
    upstream: tokio::sync::Mutex<Option<Connection>>,
}

async fn connection(shared: Arc<SharedProxy>, mut stream: TcpStream, peer: SocketAddr) {
    let environment = match stream.local_addr() {
        Ok(local) => shared.lambda.environment_behind(peer, local),
        Err(_) => None,
    };
    let broken = environment.as_ref().and_then(|environment| {
        let broken = lock(&shared.broken);
        let mine = broken
            .iter()
            .find(|(held, _)| *held == environment.function);
        mine.map(|(_, how)| *how)
    });
    if let Some(how) = broken {
        let mut rest = [0; 64];
        if how == Broken::Garbage {
            let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
        }
        while how != Broken::Closed && stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        return;
    }
    let wire = Wire {
        environment,
        upstream: tokio::sync::Mutex::default(),
        shared,
    };
    let wire = &wire;
    let serve = |request| exchange(wire, request);
    let _ = match &wire.shared.tls {
        Some((server, _)) => match TlsAcceptor::from(server.clone()).accept(stream).await {
            Ok(stream) => http::serve(stream, serve).await,
            Err(_) => Ok(()),
        },
        None => http::serve(stream, serve).await,
    };
}

async fn exchange(wire: &Wire, request: Request) -> Option<Response> {
    let Wire {
        shared,
        environment,
        ..
    } = wire;
    let sent = Sent {
        at: Instant::now(),
        service: shared.service,
        function: environment.as_ref().map(|one| one.function.clone()),
        method: request.method.clone(),
        host: request.header("host").unwrap_or_default().to_owned(),
        target: request.target.clone(),
        call: call(shared.service, &request),
        payload: match shared.service {
            Service::Acme => payload(&request.body),
            Service::Aws => parameters(&request),
        },
        status: None,
        location: None,
    };
    let index = {
        let mut all = lock(&shared.sent);
        all.push(sent.clone());
        all.len() - 1
    };
    let (number, dies) = match environment {
        Some(environment) => environment.sends(sent.clone()),
        None => (0, None),
    };
    let die = || {
        if let Some(environment) = environment {
            environment.kill();
        }
        None
    };
    if dies == Some(Moment::Before) {
        return die();
    }

    let act = strike(shared, &sent);
    let response = match act {
        Some(Act::Answer(response)) => response,
        Some(Act::AnswerBy(answer)) => answer(&sent),
        Some(Act::HangUp) => return None,
        Some(Act::Swallow(response)) => {
            forward(wire, request).await;
            response
        }
        Some(Act::Edit(edit)) => {
            let mut response = forward(wire, request).await;
            edit(&sent, &mut response);
            response
        }
        Some(Act::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            forward(wire, request).await
        }
        None => forward(wire, request).await,
    };
    if let Some(sent) = lock(&shared.sent).get_mut(index) {
        sent.status = Some(response.status);
        sent.location = response.header("location").map(str::to_owned);
    }
    if let Some(environment) = environment {
        environment.answered(number, response.status);
    }
    if dies == Some(Moment::After) {
        return die();
    }
    Some(response)
}

fn strike(shared: &SharedProxy, sent: &Sent) -> Option<Act> {
    let mut faults = lock(&shared.faults);
    let index = faults.iter_mut().position(|fault| {
        let dice = &mut fault.dice;
        (fault.matches)(sent) && dice.as_mut().is_none_or(|dice| dice.strikes(sent))
    })?;
    let fault = &mut faults[index];
    if fault.skip > 0 {
        fault.skip -= 1;
        return None;
    }
    let act = fault.act.clone();
    fault.times -= 1;
    if fault.times == 0 {
        faults.remove(index);
    }
    Some(act)
}

/// Reads the payload of a signed request (RFC 7515).
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap_or_default();
    let encoded = signed["payload"].as_str().unwrap_or_default();
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap_or_default();
    serde_json::from_slice(&decoded).unwrap_or_default()
}

/// Reads the content of a request to AWS, if it is JSON or a form.
fn parameters(request: &Request) -> Value {
    if request.header("x-amz-target").is_some() {
        let mut parameters: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.remove("PrivateKey");
        }
        return parameters;
    }
    if request.path() != "/" || request.method != "POST" {
        return Value::Null;
    }
    let body = String::from_utf8_lossy(&request.body);
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(key, value)| (unescaped(key), Value::from(unescaped(value))));
    Value::Object(pairs.collect())
}

/// Decodes percent-encoding.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(code, 16).ok());
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn forward(wire: &Wire, request: Request) -> Response {
    let attempt = async {
        let mut upstream = wire.upstream.lock().await;
        let open = match upstream.take() {
            Some(open) => open.still_open().await,
            None => None,
        };
        let mut connection = match open {
            Some(open) => open,
            None => connect(&wire.shared).await?,
        };
        let response = connection.send(request).await?;
        *upstream = Some(connection);
        Ok::<_, std::io::Error>(response)
    };
    match attempt.await {
        Ok(response) => response,
        Err(error) => Response::new(502, format!("local cloud: {error}")),
    }
}

async fn connect(shared: &SharedProxy) -> std::io::Result<Connection> {
    match &shared.tls {
        Some((_, client)) => {
            let name = shared.upstream.ip().to_string();
            let stream = tls::connect(client.clone(), shared.upstream, &name).await?;
            Connection::open(stream).await
        }
        None => {
            let stream = TcpStream::connect(shared.upstream).await?;
            stream.set_nodelay(true)?;
            Connection::open(stream).await
        }
    }
}

/// Names the operation of a request, for each of AWS's protocols.
fn call(service: Service, request: &Request) -> String {
    if service == Service::Acme {
        return format!("{} {}", request.method, request.target);
    }
    if let Some(target) = request.header("x-amz-target") {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    if request.path() == "/" && request.method == "POST" {
        let body = String::from_utf8_lossy(&request.body);
        let action = body
            .split('&')
            .find_map(|pair| pair.strip_prefix("Action="));
        return action.unwrap_or("POST /").to_owned();
    }
    let key = request
        .path()
        .trim_start_matches('/')
        .split_once('/')
        .map(|(_, key)| key.replace("%2F", "/"))
        .filter(|key| !key.is_empty());
    match (request.method.as_str(), key) {
        ("GET", None) => "ListObjectsV2".to_owned(),
        ("GET", Some(key)) => format!("GetObject {key}"),
        ("HEAD", Some(key)) => format!("HeadObject {key}"),
        ("PUT", Some(key)) => format!("PutObject {key}"),
        ("DELETE", Some(key)) => format!("DeleteObject {key}"),
        (method, _) => format!("{method} {}", request.target),
    }
}
