//! The wire between the functions and the services: every request is counted, recorded and attributed to the
//! invocation that sent it, may be its process's last, and may be answered with a fault.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::http::{self, Connection, Request, Response, Serving};
use crate::lambda::{Environment, Lambda, Moment};
use crate::process::lock;
use crate::tls;

/// Whom a request went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Any AWS service.
    Aws,
    /// The certificate authority.
    Acme,
}

/// A request a function sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// To whom.
    pub service: Service,
    /// The function, when it could be told.
    pub function: Option<String>,
    /// The method.
    pub method: String,
    /// The Host header.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// What it asked for: `ImportCertificate`, `PutObject state/shop.json`, `POST /order-plz`.
    pub call: String,
    /// The status of the answer, once there was one.
    pub status: Option<u16>,
}

impl Sent {
    /// Tells whether it is this AWS operation.
    pub fn is(&self, operation: &str) -> bool {
        self.service == Service::Aws && self.call.split(' ').next() == Some(operation)
    }

    /// Tells whether it went to the certificate authority, to a path with this prefix.
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

/// An answer that is not the service's own.
#[derive(Clone)]
pub struct Fault {
    matches: Arc<dyn Fn(&Sent) -> bool + Send + Sync>,
    skip: usize,
    times: usize,
    act: Act,
}

#[derive(Clone)]
enum Act {
    Answer(Response),
    Swallow(Response),
    Edit(Arc<dyn Fn(&mut Response) + Send + Sync>),
    HangUp,
    Delay(Duration),
}

impl Fault {
    /// Answers requests to paths with this prefix (`/order-plz`) or calls of this name (`ImportCertificate`).
    pub fn on(what: &str) -> FaultBuilder {
        let what = what.to_owned();
        Self::when(move |sent| sent.target.starts_with(&what) || sent.is(&what))
    }

    /// Answers the requests `matches` accepts.
    pub fn when(matches: impl Fn(&Sent) -> bool + Send + Sync + 'static) -> FaultBuilder {
        FaultBuilder(Self {
            matches: Arc::new(matches),
            skip: 0,
            times: 1,
            act: Act::HangUp,
        })
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault {{ skip: {}, times: {} }}", self.skip, self.times)
    }
}

/// A fault whose deed is still to be said.
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

    /// Answers with this; the service never hears of the request.
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

    /// Lets the service do it, and answers with this instead.
    pub fn swallow(mut self, response: Response) -> Fault {
        self.0.act = Act::Swallow(response);
        self.0
    }

    /// Changes the service's answer on its way.
    pub fn edit(mut self, edit: impl Fn(&mut Response) + Send + Sync + 'static) -> Fault {
        self.0.act = Act::Edit(Arc::new(edit));
        self.0
    }

    /// Closes the connection; the service never hears of the request.
    pub fn hang_up(mut self) -> Fault {
        self.0.act = Act::HangUp;
        self.0
    }

    /// Forwards the request only after a while.
    pub fn delay(mut self, delay: Duration) -> Fault {
        self.0.act = Act::Delay(delay);
        self.0
    }
}

/// One listening address before one service.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    _serving: Serving,
}

#[derive(Debug)]
struct Shared {
    service: Service,
    upstream: SocketAddr,
    tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    lambda: Lambda,
    faults: Mutex<Vec<Fault>>,
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
        let shared = Arc::new(Shared {
            service,
            upstream,
            tls,
            lambda,
            faults: Mutex::default(),
            sent: Mutex::default(),
        });
        let serving = http::listen(listener, {
            let shared = shared.clone();
            move |stream, peer| connection(shared.clone(), stream, peer)
        });
        Self {
            shared,
            _serving: serving,
        }
    }

    /// Adds a fault; the first that matches a request strikes.
    pub fn inject(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Returns every request so far, of all invocations.
    pub fn sent(&self) -> Vec<Sent> {
        lock(&self.shared.sent).clone()
    }
}

/// One function's connection, and ours to the service for it.
struct Wire {
    shared: Arc<Shared>,
    environment: Option<Arc<Environment>>,
    upstream: tokio::sync::Mutex<Option<Connection>>,
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let environment = match stream.local_addr() {
        Ok(local) => shared.lambda.environment_behind(peer, local),
        Err(_) => None,
    };
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
        status: None,
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
        Some(Act::HangUp) => return None,
        Some(Act::Swallow(response)) => {
            forward(wire, request).await;
            response
        }
        Some(Act::Edit(edit)) => {
            let mut response = forward(wire, request).await;
            edit(&mut response);
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
    }
    if let Some(environment) = environment {
        environment.answered(number, response.status);
    }
    if dies == Some(Moment::After) {
        return die();
    }
    Some(response)
}

fn strike(shared: &Shared, sent: &Sent) -> Option<Act> {
    let mut faults = lock(&shared.faults);
    let index = faults.iter().position(|fault| (fault.matches)(sent))?;
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

async fn connect(shared: &Shared) -> std::io::Result<Connection> {
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

/// Names what a request asks for, from whichever of AWS's protocols it is in.
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
