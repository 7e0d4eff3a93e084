//! A function URL: the HTTPS endpoint of one function, under its own name.
//!
//! It is as strict as Lambda may be. It does not answer a handshake without the name. It refuses a
//! request with another Host header before the function receives it. Events and answers have
//! [payload format 2.0](https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html).

#![allow(
    clippy::print_stderr,
    reason = "a test's output is where a stand-in complains"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

use crate::http::{self, Request, Response, Serving};
use crate::lambda::Lambda;
use crate::load_balancer::Visit;
use crate::process::lock;
use crate::tls::{self, PrivateAuthority};
use crate::{HTTPS_PORT, REGION};

/// A running function URL.
#[derive(Debug)]
pub struct FunctionUrl {
    front: Arc<Front>,
    address: SocketAddr,
    root: String,
    _serving: Serving,
}

#[derive(Debug)]
struct Front {
    host: String,
    port: u16,
    function: String,
    lambda: Lambda,
    visits: Mutex<Vec<Visit>>,
}

impl FunctionUrl {
    /// Opens one at port 443 of an address. Without the privileges for that, it uses the port that
    /// replaces 443.
    pub(crate) async fn open(
        function: &str,
        address: SocketAddr,
        lambda: Lambda,
        authority: &PrivateAuthority,
    ) -> Self {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((address.ip(), HTTPS_PORT)).await.unwrap(),
        };
        let address = listener.local_addr().unwrap();
        let id: String = std::iter::repeat_with(|| fastrand::char('a'..='z'))
            .take(32)
            .collect();
        let parent = format!("lambda-url.{REGION}.on.aws");
        let front = Arc::new(Front {
            host: format!("{id}.{parent}"),
            port: address.port(),
            function: function.to_owned(),
            lambda,
            visits: Mutex::default(),
        });
        let (chain, key) = authority.issue(&[&format!("*.{parent}")]);
        let config = tls::server_config(&chain, &key).unwrap();
        let serving = http::listen(listener, {
            let front = front.clone();
            move |stream, peer| encrypted(front.clone(), config.clone(), stream, peer)
        });
        Self {
            front,
            address,
            root: authority.root_pem(),
            _serving: serving,
        }
    }

    /// Returns the URL's name: the URL without `https://`.
    pub fn host(&self) -> &str {
        &self.front.host
    }

    /// Returns the address of the name.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the PEM of the root that its certificate leads to.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Returns every request answered so far.
    pub fn visits(&self) -> Vec<Visit> {
        lock(&self.front.visits).clone()
    }

    /// Sends a request over a connection that uses the right name in its handshake, even if the
    /// Host header is another.
    pub async fn request(&self, request: Request) -> Response {
        let client = tls::client_config(&self.root);
        let stream = tls::connect(client, self.address, self.host()).await;
        http::exchange(stream.unwrap(), request).await.unwrap()
    }

    /// Fetches a path.
    pub async fn fetch(&self, path: &str) -> Response {
        self.request(Request::get(self.host(), path)).await
    }
}

async fn encrypted(
    front: Arc<Front>,
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let acceptor = rustls::server::Acceptor::default();
    let Ok(start) = LazyConfigAcceptor::new(acceptor, stream).await else {
        return;
    };
    if start.client_hello().server_name() != Some(&front.host) {
        return;
    }
    if let Ok(stream) = start.into_stream(config).await {
        let serve = |request| answer(front.clone(), request, peer);
        let _ = http::serve(stream, serve).await;
    }
}

async fn answer(front: Arc<Front>, request: Request, peer: SocketAddr) -> Option<Response> {
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    let host = header("host");
    let port = format!(":{}", front.port);
    let host = host.strip_suffix(&port).unwrap_or(&host);
    let response = if host.eq_ignore_ascii_case(&front.host) {
        invoke(&front, &request, peer).await
    } else {
        message(403, r#"{"Message":"Forbidden"}"#)
    };
    lock(&front.visits).push(Visit {
        at: Instant::now(),
        port: 443,
        host: host.to_owned(),
        path: request.path().to_owned(),
        agent: header("user-agent"),
        status: response.status,
    });
    Some(response)
}

async fn invoke(front: &Front, request: &Request, peer: SocketAddr) -> Response {
    if request.body.len() > LIMIT {
        return message(413, r#"{"Message":null}"#);
    }
    let event = event(&front.host, request, peer);
    let invocation = front.lambda.invoke(&front.function, &event).await;
    match invocation.result {
        Ok(value) => response(&value).unwrap_or_else(|| message(502, "Internal Server Error")),
        Err(error) => {
            let log = invocation.log.join("\n");
            let function = &front.function;
            eprintln!("function URL: 502 because {function} failed: {error}\n{log}");
            message(502, "Internal Server Error")
        }
    }
}

/// Builds the event that a function URL sends.
fn event(host: &str, request: &Request, peer: SocketAddr) -> Value {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    let month = now.month().to_string();
    let time = format!(
        "{:02}/{}/{}:{hour:02}:{minute:02}:{second:02} +0000",
        now.day(),
        &month[..3],
        now.year(),
    );
    let path = request.path();
    let id = host.split('.').next().unwrap_or_default();
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.query(),
        "headers": headers(request, peer),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": id,
            "domainName": host,
            "domainPrefix": id,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": peer.ip().to_string(),
                "userAgent": request.header("user-agent").unwrap_or_default(),
            },
            "requestId": format!("{:08x}-0000-4000-8000-000000000000", fastrand::u32(..)),
            "routeKey": "$default",
            "stage": "$default",
            "time": time,
            "timeEpoch": now.unix_timestamp() * 1000,
        },
        "isBase64Encoded": false,
    });
    // Fields without a value are left out.
    let cookies = request.headers.iter().filter(|(name, _)| name == "cookie");
    let cookies = cookies.flat_map(|(_, value)| value.split(';').map(str::trim));
    let cookies: Vec<&str> = cookies.collect();
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    let query = request.query().split('&').filter(|pair| !pair.is_empty());
    let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = joined(query);
    if !query.is_empty() {
        event["queryStringParameters"] = Value::Object(query);
    }
    if !request.body.is_empty() {
        let kind = request.header("content-type").unwrap_or_default();
        let readable = READABLE.iter().any(|readable| kind.starts_with(readable));
        event["body"] = match readable {
            true => String::from_utf8_lossy(&request.body).into(),
            false => STANDARD.encode(&request.body).into(),
        };
        event["isBase64Encoded"] = (!readable).into();
    }
    event
}

fn headers(request: &Request, peer: SocketAddr) -> Map<String, Value> {
    let sent = request.headers.iter();
    let sent = sent.filter(|(name, _)| !OWN.contains(&name.as_str()));
    let mut headers = joined(sent.map(|(name, value)| (name.as_str(), value.as_str())));
    for (name, value) in [
        (
            "x-amzn-trace-id",
            "Root=1-65a5e2f0-0123456789abcdef01234567",
        ),
        ("x-amzn-tls-version", "TLSv1.3"),
        ("x-forwarded-for", &peer.ip().to_string()),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ] {
        headers.insert(name.to_owned(), value.into());
    }
    headers
}

/// A repeated header becomes one value, with commas.
fn joined<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, value) in pairs {
        let joined = match all.get(key).and_then(Value::as_str) {
            Some(before) => format!("{before},{value}"),
            None => value.to_owned(),
        };
        all.insert(key.to_owned(), joined.into());
    }
    all
}

/// Reads a function's answer as a function URL does. `None` means malformed.
fn response(value: &Value) -> Option<Response> {
    let Some(status) = value.get("statusCode") else {
        // Any other answer is the body of a success.
        let body = match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        return Some(message(200, body));
    };
    let status = u16::try_from(status.as_u64()?).ok()?;
    let text = value["body"].as_str().unwrap_or_default();
    let body = match value["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(text).ok()?,
        _ => text.as_bytes().to_vec(),
    };
    let mut response = Response::new(status, body);
    // This format has no field for several values: multiValueHeaders is ignored.
    if let Some(headers) = value.get("headers") {
        for (name, value) in headers.as_object()? {
            response = response.with(name, value.as_str()?);
        }
    }
    for cookie in value["cookies"].as_array().into_iter().flatten() {
        response = response.with("Set-Cookie", cookie.as_str()?);
    }
    if response.header("content-type").is_none() {
        response = response.with("Content-Type", "application/json");
    }
    Some(response)
}

fn message(status: u16, body: impl Into<String>) -> Response {
    Response::new(status, body.into()).with("Content-Type", "application/json")
}

const LIMIT: usize = 6 * 1024 * 1024;

const READABLE: [&str; 4] = [
    "text/",
    "application/json",
    "application/javascript",
    "application/xml",
];

/// Fields that the event has elsewhere, in another form, or not at all.
const OWN: [&str; 5] = [
    "connection",
    "cookie",
    "transfer-encoding",
    "x-forwarded-port",
    "x-forwarded-proto",
];
