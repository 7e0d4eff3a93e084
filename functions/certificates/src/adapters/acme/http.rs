//! The only way to the authority: an [`HttpClient`] that adds what instant-acme does not have.
//!
//! It adds: the platform's trust roots together with a configured one, a timeout for every call,
//! the status and `Retry-After` of refusals (the library's `Problem` drops them), a pool of nonces
//! that answers `HEAD newNonce`, our User-Agent (RFC 8555 section 6.1), a count of requests, and
//! the redirects of what is read without a signature. Each answer is put into the form of RFC 8555
//! first ([`accent`]).

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::RootCertStore;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::accent;
use super::answer::{of_problem, refusal, retry_after};
use crate::adapters::network::{Schemes, https_client};
use crate::values::problem::{AcmeError, UNSPECIFIED};

/// A connection pool to one authority, shared by all its orders.
pub(super) struct Wire {
    http: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    nonces: Mutex<Vec<String>>,
    directory: Mutex<Option<CachedDirectory>>,
    requests: AtomicU64,
    /// How many requests wait for their answer.
    under_way: AtomicU64,
    /// Notified when a nonce enters the pool.
    returned: Notify,
}

struct CachedDirectory {
    url: String,
    body: Bytes,
    new_nonce: String,
    new_order: String,
    read: Instant,
}

impl Wire {
    pub(super) fn new(roots: RootCertStore) -> Result<Self, AcmeError> {
        let http = https_client(roots, Schemes::Https)
            .map_err(|error| unreachable_because(format!("TLS cannot be set up: {error}")))?;
        Ok(Self {
            http,
            nonces: Mutex::default(),
            directory: Mutex::default(),
            requests: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            returned: Notify::new(),
        })
    }

    /// Returns how many requests were sent.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Answers from memory where no request is needed: the directory, and a nonce from an earlier
    /// answer.
    async fn remembered_answer(
        &self,
        request: &Request<BodyWrapper<Bytes>>,
    ) -> Option<Response<Full<Bytes>>> {
        let uri = request.uri().to_string();
        {
            let directory = lock(&self.directory);
            let directory = directory
                .as_ref()
                .filter(|directory| directory.read.elapsed() < DIRECTORY_AGE)?;
            if *request.method() == Method::GET && uri == directory.url {
                return Some(Response::new(Full::new(directory.body.clone())));
            }
            if *request.method() != Method::HEAD || uri != directory.new_nonce {
                return None;
            }
        }
        let nonce = HeaderValue::from_str(&self.next_nonce().await?).ok()?;
        let mut response = Response::new(Full::default());
        response.headers_mut().insert(REPLAY_NONCE, nonce);
        Some(response)
    }

    /// Takes a nonce from the pool. While other requests are open, each of their answers brings
    /// one: that is worth a short wait.
    async fn next_nonce(&self) -> Option<String> {
        let until = tokio::time::Instant::now() + NONCE_PATIENCE;
        loop {
            let returned = self.returned.notified();
            if let Some(nonce) = lock(&self.nonces).pop() {
                return Some(nonce);
            }
            if self.under_way.load(Ordering::Relaxed) == 0 {
                return None;
            }
            tokio::time::timeout_at(until, returned).await.ok()?;
        }
    }

    /// Keeps a nonce for later and removes it from the answer, so that only one owner has it.
    fn keep_nonce(&self, headers: &mut HeaderMap) {
        let nonce = headers.remove(REPLAY_NONCE);
        if let Some(nonce) = nonce.as_ref().and_then(|nonce| nonce.to_str().ok()) {
            let mut nonces = lock(&self.nonces);
            if nonces.len() < NONCES {
                nonces.push(nonce.to_owned());
            }
            drop(nonces);
            self.returned.notify_one();
        }
    }

    fn keep_directory(&self, url: String, body: &Bytes) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Places {
            new_nonce: String,
            new_order: String,
        }
        if let Ok(places) = serde_json::from_slice::<Places>(body) {
            let directory = CachedDirectory {
                url,
                body: body.clone(),
                new_nonce: places.new_nonce,
                new_order: places.new_order,
                read: Instant::now(),
            };
            *lock(&self.directory) = Some(directory);
        }
    }

    /// Whether a request to this URL makes an order.
    fn makes_orders(&self, url: &str) -> bool {
        let directory = lock(&self.directory);
        (directory.as_ref()).is_some_and(|directory| directory.new_order == url)
    }

    /// Sends a request. Follows the redirects of one without a signature; a signature holds for one
    /// URL only (RFC 8555 section 6.4).
    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Answer, Unanswered> {
        let method = request.method().clone();
        let mut url = request.uri().to_string();
        let mut request = Some(request);
        let mut left = MOST_REDIRECTS;
        loop {
            let asked = match request.take() {
                Some(first) => first,
                None => again(&method, &url)?,
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let response = {
                let _in_flight = InFlight::count(self);
                self.send(asked).await?
            };
            let (parts, body) = response.into_parts();
            let answer = Answer { url, parts, body };
            match answer.points_to() {
                Some(next) if left > 0 && method != Method::POST => {
                    left -= 1;
                    url = next;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Asks for a nonce. RFC 8555 section 7.2 has two methods for it; some authorities know only
    /// GET.
    async fn ask_for_nonce(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Answer, Unanswered> {
        let first = self.ask(request).await?;
        let status = first.parts.status;
        let has_nonce = first.parts.headers.contains_key(REPLAY_NONCE);
        // An authority that asks for patience is not asked twice.
        let knows_no_head = matches!(status.as_u16(), 404 | 405 | 501);
        if !knows_no_head && (has_nonce || !status.is_success()) {
            return Ok(first);
        }
        let second = self.ask(again(&Method::GET, &first.url)?).await;
        Ok(second
            .ok()
            .filter(|second| second.parts.headers.contains_key(REPLAY_NONCE))
            .unwrap_or(first))
    }

    async fn send(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, Unanswered> {
        let answered = async {
            let response = self.http.request(request).await.map_err(|error| {
                let mut unconnected = error.is_connect();
                let mut words = error.to_string();
                let mut source = error.source();
                while let Some(cause) = source {
                    words = format!("{words}: {cause}");
                    // A connection that takes too long now may work later.
                    unconnected &= cause
                        .downcast_ref::<std::io::Error>()
                        .is_none_or(|error| error.kind() != std::io::ErrorKind::TimedOut);
                    source = cause.source();
                }
                Unanswered {
                    reason: words,
                    unconnected,
                }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_BODY)
                .collect()
                .await
                .map_err(|error| Unanswered {
                    reason: error.to_string(),
                    unconnected: false,
                })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(CALL, answered).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unanswered {
                reason: format!("no complete answer within {} s", CALL.as_secs()),
                unconnected: false,
            }),
        }
    }
}

fn again(method: &Method, url: &str) -> Result<Request<BodyWrapper<Bytes>>, Unanswered> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(USER_AGENT, HeaderValue::from_static(AGENT))
        .body(BodyWrapper::default());
    request.map_err(|error| Unanswered {
        reason: format!("it redirects to {url}: {error}"),
        unconnected: false,
    })
}

/// An authority's answer.
struct Answer {
    /// What was asked, after redirects.
    url: String,
    parts: Parts,
    body: Bytes,
}

impl Answer {
    /// Returns where a redirect leads.
    fn points_to(&self) -> Option<String> {
        let location = self.parts.headers.get(LOCATION)?.to_str().ok()?;
        let is_redirect = self.parts.status.is_redirection();
        accent::resolved(location, &self.url).filter(|_| is_redirect)
    }

    /// Puts the answer into the form of RFC 8555; `makes_order`: the request made an order.
    fn make_plain(&mut self, makes_order: bool) -> Result<(), String> {
        let Self { url, parts, body } = self;
        let headers = &mut parts.headers;
        let location = headers.get(LOCATION).and_then(|text| text.to_str().ok());
        let location = location.and_then(|text| accent::resolved(text, url));
        if let Some(location) = location.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(LOCATION, location);
        }
        let plain = accent::plain(url, parts.status, body);
        if makes_order && parts.status.is_success() && headers.contains_key(LOCATION) {
            let plain = plain.ok().flatten();
            let order = plain.filter(|content| accent::is_order(content));
            *body = order.unwrap_or_else(accent::undescribed_order).into();
            return Ok(());
        }
        if let Some(plain) = plain? {
            *body = plain.into();
        }
        Ok(())
    }

    /// Makes a new order say that it replaces this certificate: the library takes no other order,
    /// but the authority has made it. Returns whether the order says so itself.
    fn echo(&mut self, replaces: &str) -> bool {
        match accent::echoing(&self.body, replaces) {
            Some(body) if self.parts.status.is_success() => {
                self.body = body.into();
                false
            }
            _ => true,
        }
    }

    /// Returns what the next question about this answer needs; `plain`: whether it could be read.
    fn summary(&self, plain: Result<(), String>) -> Last {
        let status = self.parts.status;
        let retry_after = retry_after(&self.parts.headers);
        let answered = format!("{} answered HTTP {}", shown(&self.url), status.as_u16());
        let refusal = match plain {
            _ if status.is_client_error() || status.is_server_error() => {
                Some(refusal(status, retry_after, &answered, &self.body))
            }
            _ if status.is_redirection() => {
                let leads = self
                    .points_to()
                    .map(|url| format!(" and leads to {}", shown(&url)));
                let detail = format!(
                    "{answered}{}; a signed request follows no redirect: set the authority's \
                     `directory` to the URL of the server itself",
                    leads.unwrap_or_default()
                );
                Some(AcmeError {
                    retry_after,
                    ..unreachable_because(detail)
                })
            }
            Err(why) => Some(unreachable_because(format!("{answered}, but {why}"))),
            Ok(()) => None,
        };
        Last {
            accepted: status.is_success(),
            echoed: true,
            refusal,
            retry_after,
            answered,
        }
    }
}

/// Why no answer came.
struct Unanswered {
    reason: String,
    /// Whether no connection was made at all.
    unconnected: bool,
}

impl Unanswered {
    fn refusal(self, asked: &str) -> AcmeError {
        let detail = format!(
            "{} could not be asked: {}; is the authority's directory right, and can it be reached \
             from here?",
            host(asked),
            self.reason
        );
        AcmeError {
            unconnected: self.unconnected,
            ..unreachable_because(detail)
        }
    }
}

/// The client for one order: it remembers the status and headers of the last answer.
#[derive(Clone)]
pub(super) struct Exchange {
    wire: Arc<Wire>,
    last: Arc<Mutex<Last>>,
    /// The certificate that the next new order replaces.
    replaces: Arc<Mutex<Option<String>>>,
}

#[derive(Default)]
struct Last {
    refusal: Option<AcmeError>,
    retry_after: Option<OffsetDateTime>,
    accepted: bool,
    /// Whether a new order says that it replaces the certificate that was asked for.
    echoed: bool,
    /// The URL that was asked and the HTTP status of its answer, in words.
    answered: String,
}

impl Exchange {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            last: Arc::default(),
            replaces: Arc::default(),
        }
    }

    /// Says which certificate the next new order replaces (RFC 9773 section 5).
    pub(super) fn expect_replaces(&self, certificate: Option<&str>) {
        *lock(&self.replaces) = certificate.map(str::to_owned);
    }

    /// Whether the last answer is an order that replaces what was expected.
    pub(super) fn was_echoed(&self) -> bool {
        lock(&self.last).echoed
    }

    /// Returns how long the last answer asked us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let at = lock(&self.last).retry_after?;
        Some(
            (at - OffsetDateTime::now_utc())
                .try_into()
                .unwrap_or_default(),
        )
    }

    /// Whether the last answer was a success.
    pub(super) fn was_accepted(&self) -> bool {
        lock(&self.last).accepted
    }

    /// Drops the refusal of the last answer: it is handled.
    pub(super) fn forget_refusal(&self) {
        lock(&self.last).refusal = None;
    }

    /// Returns the error for a success whose content is no certificate.
    pub(super) fn no_certificate(&self) -> AcmeError {
        let answered = lock(&self.last).answered.clone();
        unreachable_because(format!("{answered}, but its content is no PEM certificate"))
    }

    /// Returns the refusal of the last answer as an error.
    pub(super) fn accepted(&self) -> Result<(), AcmeError> {
        lock(&self.last).refusal.take().map_or(Ok(()), Err)
    }

    /// Returns a fresh nonce.
    pub(super) async fn nonce(&self, new_nonce: &str) -> Result<String, AcmeError> {
        let asked = async {
            let request = Request::head(new_nonce).body(BodyWrapper::default())?;
            self.request(request).await
        };
        let answer = asked.await.map_err(|error| self.refusal(&error))?;
        self.accepted()?;
        let nonce = answer.parts.headers.get(REPLAY_NONCE);
        let nonce = nonce.and_then(|nonce| nonce.to_str().ok());
        nonce.map(str::to_owned).ok_or_else(|| {
            let answered = lock(&self.last).answered.clone();
            unreachable_because(format!("{answered} without a nonce (Replay-Nonce)"))
        })
    }

    /// Reads a resource that needs no signature.
    pub(super) async fn read<T: DeserializeOwned>(&self, url: &str) -> Result<T, AcmeError> {
        let answered = async {
            let request = Request::get(url).body(BodyWrapper::default())?;
            let mut response = self.request(request).await?;
            response.body.into_bytes().await.map_err(Error::Other)
        };
        let body = answered.await.map_err(|error| self.refusal(&error))?;
        self.accepted()?;
        serde_json::from_slice(&body).map_err(|error| AcmeError {
            status: Some(StatusCode::OK.as_u16()),
            ..self.refusal(&Error::Json(error))
        })
    }

    /// Returns the refusal behind an error of the library.
    pub(super) fn refusal(&self, error: &Error) -> AcmeError {
        if let Some(refusal) = lock(&self.last).refusal.take() {
            return refusal;
        }
        match error {
            Error::Api(problem) => of_problem(problem),
            // The text quotes neither the answer's body nor a secret of ours.
            Error::Json(error) => {
                let answered = &lock(&self.last).answered;
                unreachable_because(format!("{answered}, but {}", unread(error)))
            }
            other => match &*lock(&self.last).answered {
                "" => unreachable_because(other.to_string()),
                answered => unreachable_because(format!("{answered}, but: {other}")),
            },
        }
    }
}

impl HttpClient for Exchange {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        *lock(&self.last) = Last::default();
        let Self {
            wire,
            last,
            replaces,
        } = self.clone();
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let asks_for_nonce = *request.method() == Method::HEAD;
        let directory = (*request.method() == Method::GET).then(|| request.uri().to_string());
        let asked = request.uri().to_string();
        let signed = *request.method() == Method::POST;
        Box::pin(async move {
            if let Some(response) = wire.remembered_answer(&request).await {
                return Ok(BytesResponse::from(response));
            }
            let answered = match asks_for_nonce {
                true => wire.ask_for_nonce(request).await,
                false => wire.ask(request).await,
            };
            let mut answer = match answered {
                Ok(answer) => answer,
                Err(unanswered) => {
                    let refusal = unanswered.refusal(&asked);
                    let detail = refusal.detail.clone();
                    lock(&last).refusal = Some(refusal);
                    return Err(Error::Other(detail.into()));
                }
            };
            if !asks_for_nonce {
                wire.keep_nonce(&mut answer.parts.headers);
            } else if answer.parts.status.is_success() {
                // RFC 8555 section 7.2 says 200; some authorities answer 204.
                answer.parts.status = StatusCode::OK;
            }
            let makes_order = signed && wire.makes_orders(&asked);
            let plain = answer.make_plain(makes_order);
            let replaces = lock(&replaces).clone().filter(|_| makes_order);
            let echoed = replaces.is_none_or(|replaces| answer.echo(&replaces));
            let summary = answer.summary(plain);
            *lock(&last) = Last {
                echoed,
                // A nonce is no answer to what is asked for.
                accepted: summary.accepted && signed,
                ..summary
            };
            let Answer { parts, body, .. } = answer;
            if let Some(url) = directory.filter(|_| parts.status == StatusCode::OK) {
                wire.keep_directory(url, &body);
            }
            Ok(BytesResponse::from(Response::from_parts(
                parts,
                Full::new(body),
            )))
        })
    }
}

/// One open request, until it is answered or given up.
struct InFlight<'w>(&'w Wire);

impl<'w> InFlight<'w> {
    fn count(wire: &'w Wire) -> Self {
        wire.under_way.fetch_add(1, Ordering::Relaxed);
        Self(wire)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        // Tasks that wait for a nonce check again, and request one if no open answer can bring it.
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.returned.notify_one();
    }
}

fn unreachable_because(detail: String) -> AcmeError {
    AcmeError {
        kind: UNSPECIFIED.to_owned(),
        detail,
        status: None,
        retry_after: None,
        unconnected: false,
    }
}

/// Says which member of an answer the library missed, without a value of the answer.
fn unread(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let member = words.strip_prefix("missing field `");
    match member.and_then(|rest| rest.split('`').next()) {
        Some(member) => format!("its member `{member}` is missing (RFC 8555)"),
        None => "its content is not the JSON object that RFC 8555 describes".to_owned(),
    }
}

fn host(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(url::Url::host_str);
    host.unwrap_or_default().to_owned()
}

/// Returns a URL without its query: that may hold a secret.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const REPLAY_NONCE: &str = "replay-nonce";
const AGENT: &str = concat!(
    "certloop/",
    env!("CARGO_PKG_VERSION"),
    " instant-acme/0.8.5"
);
const CALL: Duration = Duration::from_secs(20);
/// A warm function reads the directory again after this time.
const DIRECTORY_AGE: Duration = Duration::from_secs(3600);
const NONCES: usize = 64;
/// More redirects than any authority needs.
const MOST_REDIRECTS: u32 = 5;
/// The longest wait for a nonce from the answer to another request.
const NONCE_PATIENCE: Duration = Duration::from_millis(150);
const LARGEST_BODY: usize = 1 << 20;
