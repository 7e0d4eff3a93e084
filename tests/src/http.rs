//! The small part of HTTP/1.1 that the stand-ins need.
//!
//! The server side is written here. With hyper's server feature, a crate that the whole AWS SDK
//! depends on would get other features, and the SDK would be compiled a second time only for the
//! tests.

use std::future::Future;
use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

/// A request, received or to be sent.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// Path and query, as on the wire.
    pub target: String,
    /// Header fields in order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// Returns a GET of `target` from `host`.
    pub fn get(host: &str, target: &str) -> Self {
        Self {
            method: "GET".into(),
            target: target.into(),
            headers: vec![
                ("host".into(), host.into()),
                ("user-agent".into(), "local-cloud".into()),
            ],
            body: Vec::new(),
        }
    }

    /// Returns the first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the target's path.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&self.target, |(path, _)| path)
    }

    /// Returns the target's query; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Where its transfer breaks off, if it does.
    pub stall: Option<Stall>,
}

/// Where the transfer of an answer stops, or how it never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Nothing arrives, and the connection stays open.
    BeforeHead,
    /// Half of its header fields arrive, and the connection stays open.
    InHead,
    /// Half of its body arrives, and the connection stays open.
    InBody,
    /// Half of its body arrives, and the connection is closed.
    CutInBody,
    /// Its body arrives slowly and never ends.
    Drip,
    /// Its body arrives as fast as the client reads, and never ends.
    Flood,
}

impl Response {
    /// Returns a response with a status and a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            stall: None,
        }
    }

    /// Sets where the transfer breaks off.
    #[must_use]
    pub fn stalled(mut self, stall: Stall) -> Self {
        self.stall = Some(stall);
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Returns the first header of this name, in any letter case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Serves requests of one connection until one side ends it. If the handler returns `None`, the
/// connection is closed without an answer.
pub async fn serve<S, H, F>(mut stream: S, handler: H) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Option<Response>>,
{
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let head_only = request.method == "HEAD";
        let close = request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let Some(response) = handler(request).await else {
            return Ok(());
        };
        if let Some(stall) = response.stall {
            return write_stalled(&mut stream, &response, stall).await;
        }
        write_response(&mut stream, &response, head_only, close).await?;
        if close {
            break;
        }
    }
    stream.shutdown().await
}

async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let (mut request, head) = loop {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(buffer).map_err(invalid)? {
            httparse::Status::Complete(head) => {
                let headers = parsed
                    .headers
                    .iter()
                    .map(|field| {
                        let value = String::from_utf8_lossy(field.value).into_owned();
                        (field.name.to_ascii_lowercase(), value)
                    })
                    .collect();
                let request = Request {
                    method: parsed.method.unwrap_or_default().to_owned(),
                    target: parsed.path.unwrap_or_default().to_owned(),
                    headers,
                    body: Vec::new(),
                };
                break (request, head);
            }
            httparse::Status::Partial if fill(stream, buffer).await? == 0 => return Ok(None),
            httparse::Status::Partial => {}
        }
    };
    buffer.drain(..head);

    if request
        .header("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let chunked = request
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    request.body = if chunked {
        read_chunks(stream, buffer).await?
    } else {
        let length = match request.header("content-length") {
            Some(length) => length.trim().parse().map_err(invalid)?,
            None => 0,
        };
        take(stream, buffer, length).await?
    };
    Ok(Some(request))
}

async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (start, size) = loop {
            match httparse::parse_chunk_size(buffer).map_err(|_| invalid("bad chunk"))? {
                httparse::Status::Complete((start, size)) => break (start, size as usize),
                httparse::Status::Partial if fill(stream, buffer).await? == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                httparse::Status::Partial => {}
            }
        };
        buffer.drain(..start);
        if size == 0 {
            // An empty line ends the trailers.
            loop {
                while !buffer.contains(&b'\n') {
                    if fill(stream, buffer).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                let end = buffer.iter().position(|byte| *byte == b'\n').unwrap_or(0);
                let line = buffer.drain(..=end).collect::<Vec<_>>();
                if line == b"\r\n" || line == b"\n" {
                    return Ok(body);
                }
            }
        }
        body.extend(take(stream, buffer, size).await?);
        take(stream, buffer, 2).await?;
    }
}

async fn take<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    length: usize,
) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if fill(stream, buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

async fn fill<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<usize> {
    stream.read_buf(buffer).await
}

async fn write_response<S: AsyncWrite + Unpin>(
    stream: &mut S,
    response: &Response,
    head_only: bool,
    close: bool,
) -> io::Result<()> {
    let reason = hyper::StatusCode::from_u16(response.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Status");
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", response.status);
    for (name, value) in &response.headers {
        let framing = ["content-length", "transfer-encoding", "connection"]
            .iter()
            .any(|framing| name.eq_ignore_ascii_case(framing));
        // The Content-Length of an answer to HEAD describes no body here.
        if !framing || (head_only && name.eq_ignore_ascii_case("content-length")) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !matches!(response.status, 204 | 304) && !head_only {
        text.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    if close {
        text.push_str("connection: close\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if !head_only {
        bytes.extend_from_slice(&response.body);
    }
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Writes an answer as far as its break allows, and waits until the other side gives up.
async fn write_stalled<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    response: &Response,
    stall: Stall,
) -> io::Result<()> {
    let mut whole = Vec::new();
    let mut head = Response::new(response.status, Vec::new());
    head.headers = response.headers.clone();
    // A cut answer announces a length that never arrives; an endless one announces none.
    let (framing, half) = match stall {
        Stall::Drip | Stall::Flood => ("transfer-encoding: chunked\r\n\r\n".to_owned(), 0),
        _ => (
            format!("content-length: {}\r\n\r\n", response.body.len().max(2)),
            response.body.len() / 2,
        ),
    };
    write_response(&mut io::Cursor::new(&mut whole), &head, false, false).await?;
    let text = String::from_utf8_lossy(&whole);
    let fields = text.trim_end().trim_end_matches("content-length: 0");
    match stall {
        Stall::BeforeHead => {}
        Stall::InHead => {
            stream
                .write_all(&fields.as_bytes()[..fields.len() / 2])
                .await?
        }
        _ => {
            stream.write_all(fields.as_bytes()).await?;
            stream.write_all(framing.as_bytes()).await?;
            stream.write_all(&response.body[..half]).await?;
        }
    }
    stream.flush().await?;
    match stall {
        Stall::CutInBody => return Ok(()),
        Stall::Drip | Stall::Flood => {
            let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
                stream.flush().await?;
                if stall == Stall::Drip {
                    tokio::time::sleep(DRIP).await;
                }
            }
        }
        _ => {}
    }
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Slow enough to stay below a body's size limit for as long as a caller waits.
const DRIP: std::time::Duration = std::time::Duration::from_millis(100);

/// Sends one request over a new connection, closes it, and returns the whole answer.
pub async fn exchange<S>(stream: S, mut request: Request) -> io::Result<Response>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let close = ("connection".to_owned(), "close".to_owned());
    request.headers.retain(|(name, _)| name != "connection");
    request.headers.push(close);
    Connection::open(stream).await?.send(request).await
}

/// A connection to a server for one request after another.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Starts HTTP on a stream.
    pub async fn open<S>(stream: S) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Returns the connection if another request is possible: the server has not closed its side.
    pub async fn still_open(mut self) -> Option<Self> {
        self.sender.ready().await.is_ok().then_some(self)
    }

    /// Sends a request and returns the whole answer.
    pub async fn send(&mut self, request: Request) -> io::Result<Response> {
        let mut outgoing = hyper::Request::builder()
            .method(request.method.as_str())
            .uri(&request.target);
        for (name, value) in &request.headers {
            if !matches!(
                name.as_str(),
                "content-length" | "transfer-encoding" | "expect"
            ) {
                outgoing = outgoing.header(name, value);
            }
        }
        let outgoing = outgoing
            .body(Full::new(Bytes::from(request.body)))
            .map_err(io::Error::other)?;
        let sent = self.sender.send_request(outgoing).await;
        let (parts, body) = sent.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Response {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: body.to_vec(),
            stall: None,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Accepts connections while the returned guard lives.
pub fn listen<H, F>(listener: tokio::net::TcpListener, serve_one: H) -> Serving
where
    H: Fn(tokio::net::TcpStream, std::net::SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let serve_one = Arc::new(serve_one);
    Serving(tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, peer)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve_one(stream, peer));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }))
}

/// A running listener; dropping it closes the listener and its connections.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
