//! The load balancer: ports 80 and 443 of one Application Load Balancer.
//!
//! It has no configuration of its own. Each connection follows the listeners, rules and
//! certificates that the stand-in for AWS has at that moment.

#![allow(
    clippy::print_stderr,
    reason = "a test's output is where a stand-in complains"
)]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, SignatureScheme};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::aws::Aws;
use crate::http::{self, Request, Response, Serving};
use crate::lambda::Lambda;
use crate::process::lock;
use crate::tls;

const LIMIT: usize = 1024 * 1024;

/// A request that a load balancer has answered.
#[derive(Clone, Debug)]
pub struct Visit {
    /// When it was answered.
    pub at: Instant,
    /// 80 or 443.
    pub port: u64,
    /// The Host header.
    pub host: String,
    /// The path.
    pub path: String,
    /// The User-Agent header.
    pub agent: String,
    /// The status of the answer.
    pub status: u16,
}

/// The two ports of a load balancer.
#[derive(Debug)]
pub struct Ports {
    balancer: Arc<Balancer>,
    address: IpAddr,
    http: SocketAddr,
    https: SocketAddr,
    _serving: [Serving; 2],
}

impl Ports {
    /// Opens them at their own address.
    pub(crate) async fn open(
        arn: &str,
        http: SocketAddr,
        https: SocketAddr,
        aws: Arc<Aws>,
        lambda: Lambda,
    ) -> std::io::Result<Self> {
        let balancer = Arc::new(Balancer {
            arn: arn.to_owned(),
            aws,
            lambda,
            seen: Mutex::default(),
            visits: Mutex::default(),
        });
        let plain = http::listen(TcpListener::bind(http).await?, {
            let balancer = balancer.clone();
            move |stream, peer| plain(balancer.clone(), stream, peer)
        });
        let encrypted = http::listen(TcpListener::bind(https).await?, {
            let balancer = balancer.clone();
            move |stream, peer| encrypted(balancer.clone(), stream, peer)
        });
        Ok(Self {
            balancer,
            address: http.ip(),
            http,
            https,
            _serving: [plain, encrypted],
        })
    }

    /// Returns the address of its name.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the address that replaces its port 80.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns every request answered so far, on both ports.
    pub fn visits(&self) -> Vec<Visit> {
        lock(&self.balancer.visits).clone()
    }

    /// Returns the address that replaces its port 443.
    pub fn https(&self) -> SocketAddr {
        self.https
    }
}

#[derive(Debug)]
struct Balancer {
    arn: String,
    aws: Arc<Aws>,
    lambda: Lambda,
    seen: Mutex<Option<(Value, Arc<Vec<Listener>>)>>,
    visits: Mutex<Vec<Visit>>,
}

#[derive(Debug)]
struct Listener {
    port: u64,
    default: Option<Arc<Served>>,
    others: Vec<Arc<Served>>,
    rules: Vec<Value>,
}

/// A certificate of a listener, ready to serve.
#[derive(Debug)]
struct Served {
    names: Vec<String>,
    ecdsa: bool,
    /// How ALB ranks certificates of one key algorithm: hash, key length, validity.
    merit: (u32, usize, i64),
    config: Arc<ServerConfig>,
}

impl Balancer {
    async fn listener(&self, port: u64) -> Option<(Arc<Vec<Listener>>, usize)> {
        let revision = self.aws.admin("GET", "revision", None).await;
        let seen = lock(&self.seen).clone();
        let listeners = match seen {
            Some((at, listeners)) if at == revision => listeners,
            _ => {
                let path = format!("load-balancer?arn={}", self.arn);
                let state = self.aws.admin("GET", &path, None).await;
                let listeners = state["listeners"].as_array().into_iter().flatten();
                let listeners = listeners.map(|one| Listener::read(one, &state["certificates"]));
                let listeners = Arc::new(listeners.collect::<Vec<_>>());
                *lock(&self.seen) = Some((revision, listeners.clone()));
                listeners
            }
        };
        let index = listeners.iter().position(|one| one.port == port)?;
        Some((listeners, index))
    }
}

impl Listener {
    fn read(state: &Value, certificates: &Value) -> Self {
        let held = |arn: &Value| Served::read(certificates.get(arn.as_str()?)?);
        let others = state["sniCertificates"].as_array().into_iter().flatten();
        Self {
            port: state["port"].as_u64().unwrap_or_default(),
            default: held(&state["defaultCertificate"]),
            others: others.filter_map(held).collect(),
            rules: state["rules"].as_array().cloned().unwrap_or_default(),
        }
    }

    /// Chooses as ALB does: the best match that the client supports, ECDSA first. Without a match:
    /// the default.
    fn certificate(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<Served>> {
        let ecdsa = schemes.iter().any(|scheme| {
            matches!(
                scheme,
                SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384
            )
        });
        let rsa = schemes.iter().any(|scheme| {
            matches!(
                scheme,
                SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::RSA_PKCS1_SHA256
            )
        });
        let name = name.map(str::to_ascii_lowercase);
        let all = self.default.iter().chain(&self.others);
        let mut matching = all
            .filter(|one| name.as_ref().is_some_and(|name| one.covers(name)))
            .filter(|one| if one.ecdsa { ecdsa } else { rsa })
            .collect::<Vec<_>>();
        matching.sort_by_key(|one| (one.ecdsa, one.merit));
        matching.last().copied().or(self.default.as_ref()).cloned()
    }
}

impl Served {
    fn read(state: &Value) -> Option<Arc<Self>> {
        let text = |field: &str| state[field].as_str().unwrap_or_default();
        let chain = format!("{}\n{}", text("certificate").trim_end(), text("chain"));
        let config = tls::server_config(&chain, text("privateKey")).ok()?;
        let leaf = tls::certificates(text("certificate"));
        let (_, leaf) = X509Certificate::from_der(leaf.first()?).ok()?;
        let names = leaf.subject_alternative_name().ok().flatten();
        let names = names
            .into_iter()
            .flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let names = names.collect();
        // id-ecPublicKey
        let algorithm = leaf.public_key().algorithm.algorithm.to_id_string();
        let ecdsa = algorithm == "1.2.840.10045.2.1";
        let hash = match leaf.signature_algorithm.algorithm.to_id_string().as_str() {
            // ecdsa-with-SHA384 and -SHA512, sha384 and sha512WithRSAEncryption
            "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => 384,
            "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => 512,
            _ => 256,
        };
        let length = leaf.public_key().parsed().map_or(0, |key| key.key_size());
        let until = leaf.validity().not_after.timestamp();
        Some(Arc::new(Self {
            names,
            ecdsa,
            merit: (hash, length, until),
            config,
        }))
    }

    fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(parent) => name
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => own == name,
        })
    }
}

async fn plain(balancer: Arc<Balancer>, stream: TcpStream, peer: SocketAddr) {
    let serve = |request| answer(balancer.clone(), 80, request, peer);
    let _ = http::serve(stream, serve).await;
}

async fn encrypted(balancer: Arc<Balancer>, stream: TcpStream, peer: SocketAddr) {
    let acceptor = rustls::server::Acceptor::default();
    let Ok(start) = LazyConfigAcceptor::new(acceptor, stream).await else {
        return;
    };
    let Some((listeners, index)) = balancer.listener(443).await else {
        return;
    };
    let served = {
        let hello = start.client_hello();
        listeners[index].certificate(hello.server_name(), hello.signature_schemes())
    };
    let Some(served) = served else { return };
    if let Ok(stream) = start.into_stream(served.config.clone()).await {
        let serve = |request| answer(balancer.clone(), 443, request, peer);
        let _ = http::serve(stream, serve).await;
    }
}

async fn answer(
    balancer: Arc<Balancer>,
    port: u64,
    request: Request,
    peer: SocketAddr,
) -> Option<Response> {
    let (listeners, index) = balancer.listener(port).await?;
    if request.body.len() > LIMIT {
        return Some(page(413));
    }
    let rule = listeners[index]
        .rules
        .iter()
        .find(|rule| matches(rule, &request))?;
    let actions = rule["actions"].as_array()?;
    let action = actions.last()?;
    let response = match action["type"].as_str().unwrap_or_default() {
        "fixed-response" => {
            let body = action["messageBody"].as_str().unwrap_or_default();
            let kind = action["contentType"].as_str().unwrap_or("text/plain");
            Response::new(number(&action["statusCode"]), body).with("Content-Type", kind)
        }
        "redirect" => redirect(action, port, &request),
        "forward" => forward(&balancer, &action["targetGroups"][0], port, &request, peer).await,
        _ => page(503),
    };
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    lock(&balancer.visits).push(Visit {
        at: Instant::now(),
        port,
        host: header("host"),
        path: request.path().to_owned(),
        agent: header("user-agent"),
        status: response.status,
    });
    Some(response.with("Server", "awselb/2.0"))
}

fn matches(rule: &Value, request: &Request) -> bool {
    let conditions = rule["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().all(|condition| {
        let values = condition["values"].as_array().into_iter().flatten();
        let mut values = values.filter_map(Value::as_str);
        match condition["field"].as_str().unwrap_or_default() {
            "path-pattern" => values.any(|pattern| glob(pattern, request.path())),
            "host-header" => {
                let host = request.header("host").unwrap_or_default();
                let host = host.split(':').next().unwrap_or_default().to_lowercase();
                values.any(|pattern| glob(&pattern.to_lowercase(), &host))
            }
            "http-request-method" => values.any(|method| method == request.method),
            _ => false,
        }
    })
}

/// Matches `*` (any run of characters) and `?` (any one).
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            text.char_indices()
                .map(|(index, _)| index)
                .chain([text.len()])
                .any(|index| glob(rest, &text[index..]))
        }
        Some(wanted) => {
            let mut characters = text.chars();
            characters
                .next()
                .is_some_and(|found| wanted == '?' || wanted == found)
                && glob(&pattern[wanted.len_utf8()..], characters.as_str())
        }
    }
}

fn redirect(to: &Value, port: u64, request: &Request) -> Response {
    let host = request.header("host").unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    let own = [
        ("#{protocol}", if port == 443 { "https" } else { "http" }),
        ("#{host}", host),
        ("#{port}", &port.to_string()),
        ("#{path}", request.path().trim_start_matches('/')),
        ("#{query}", request.query()),
    ];
    let part = |field: &str, unsaid: &str| {
        let text = to[field].as_str().unwrap_or(unsaid).to_owned();
        own.iter()
            .fold(text, |text, (mark, value)| text.replace(mark, value))
    };
    let mut location = format!(
        "{}://{}:{}{}",
        part("protocol", "#{protocol}").to_lowercase(),
        part("host", "#{host}"),
        part("port", "#{port}"),
        part("path", "/#{path}"),
    );
    let query = part("query", "#{query}");
    if !query.is_empty() {
        location.push('?');
        location.push_str(&query);
    }
    let status = number(&Value::from(
        to["statusCode"]
            .as_str()
            .unwrap_or("HTTP_302")
            .replace("HTTP_", ""),
    ));
    page(status).with("Location", location)
}

async fn forward(
    balancer: &Balancer,
    group: &Value,
    port: u64,
    request: &Request,
    peer: SocketAddr,
) -> Response {
    let Some(function) = group["functionName"].as_str() else {
        return page(503);
    };
    let multi = group["multiValueHeaders"].as_bool().unwrap_or(false);
    let arn = group["arn"].as_str().unwrap_or_default();
    let event = event(arn, multi, port, request, peer);
    let invocation = balancer.lambda.invoke(function, &event).await;
    match invocation.result {
        Ok(value) => response(&value, multi).unwrap_or_else(|| page(502)),
        Err(error) => {
            // An operator would find this in the function's log. A failing test shows it.
            let log = invocation.log.join("\n");
            eprintln!("load balancer: 502 because {function} failed: {error}\n{log}");
            page(502)
        }
    }
}

/// Builds the event that ALB sends.
fn event(target_group: &str, multi: bool, port: u64, request: &Request, peer: SocketAddr) -> Value {
    let mut headers = request.headers.clone();
    headers.retain(|(name, _)| {
        ![
            "connection",
            "transfer-encoding",
            "x-forwarded-port",
            "x-forwarded-proto",
        ]
        .contains(&name.as_str())
    });
    let text = |name: &str, value: String| (name.to_owned(), value);
    headers.extend([
        text(
            "x-amzn-trace-id",
            "Root=1-65a5e2f0-0123456789abcdef01234567".into(),
        ),
        text("x-forwarded-for", peer.ip().to_string()),
        text("x-forwarded-port", port.to_string()),
        text(
            "x-forwarded-proto",
            if port == 443 { "https" } else { "http" }.into(),
        ),
    ]);
    let query = request.query().split('&').filter(|pair| !pair.is_empty());
    let query = query.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    });
    let query = query.collect::<Vec<_>>();
    let kind = request.header("content-type").unwrap_or("text/plain");
    let readable = kind.starts_with("text/")
        || [
            "application/json",
            "application/javascript",
            "application/xml",
        ]
        .iter()
        .any(|readable| kind.starts_with(readable));
    let body = if readable {
        String::from_utf8_lossy(&request.body).into_owned()
    } else {
        STANDARD.encode(&request.body)
    };
    let mut event = json!({
        "requestContext": {"elb": {"targetGroupArn": target_group}},
        "httpMethod": request.method,
        "path": request.path(),
    });
    if multi {
        event["multiValueQueryStringParameters"] = several(&query);
        event["multiValueHeaders"] = several(&headers);
    } else {
        event["queryStringParameters"] = last(&query);
        event["headers"] = last(&headers);
    }
    event["body"] = body.into();
    event["isBase64Encoded"] = (!readable).into();
    event
}

fn last(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter().cloned();
    let pairs = pairs.map(|(key, value)| (key, Value::from(value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn several(pairs: &[(String, String)]) -> Value {
    let mut all = Map::new();
    for (key, value) in pairs {
        let values = all.entry(key.clone()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(value.clone().into());
        }
    }
    Value::Object(all)
}

/// Reads a function's answer as ALB does. `None` means malformed.
fn response(value: &Value, multi: bool) -> Option<Response> {
    if value.to_string().len() > LIMIT {
        return None;
    }
    let status = u16::try_from(value.get("statusCode")?.as_u64()?).ok()?;
    let body = value
        .get("body")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let body = match value.get("isBase64Encoded").and_then(Value::as_bool) {
        Some(true) => STANDARD.decode(body).ok()?,
        _ => body.as_bytes().to_vec(),
    };
    let mut response = Response::new(status, body);
    let field = if multi {
        "multiValueHeaders"
    } else {
        "headers"
    };
    let headers = match value.get(field) {
        Some(headers) => headers.as_object()?,
        // In the multi-value case, an answer without the field for the target group's attribute is
        // malformed.
        None if multi => return None,
        None => return Some(response),
    };
    for (name, value) in headers {
        let values = match value {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        for value in values {
            response = response.with(name, value.as_str()?);
        }
    }
    Some(response)
}

fn number(value: &Value) -> u16 {
    let text = value.as_str().map(str::to_owned);
    let text = text.unwrap_or_else(|| value.to_string());
    text.parse().unwrap_or(500)
}

fn page(status: u16) -> Response {
    let reason = hyper::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    let body = format!("<html><head><title>{status} {reason}</title></head></html>\r\n");
    Response::new(status, body).with("Content-Type", "text/html")
}
