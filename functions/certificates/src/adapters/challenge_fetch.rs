//! Our own fetch of a challenge through port 80, before the authority makes its own (RFC 8555
//! section 8.3).
//!
//! It follows the rules of Let's Encrypt's validator. Ten redirects at most, between ports 80 and
//! 443, without checking certificates. An answer of status 200 with less than 128 bytes; whitespace
//! after the key authorization is ignored. One difference: when an IPv6 connection fails, it tries
//! IPv4 after a redirect too, because IPv6 may be missing only on our side.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Host, ParseError, Position, SyntaxViolation, Url};

use crate::adapters::network;
use crate::ports::probe::Fetched;
use crate::values::names::DnsName;

/// Fetches the challenge `token` of `name` over port 80 and compares the answer with
/// `key_authorization`.
///
/// `connect_to` (`host:port`) replaces the address of every connection, redirects included. Without
/// it, only global addresses are used. The whole fetch takes at most [`LONGEST`], or `limit` if
/// that is less.
pub async fn fetch(
    name: &DnsName,
    token: &str,
    key_authorization: &str,
    connect_to: Option<&str>,
    limit: Duration,
) -> Fetched {
    let until = network::deadline(limit, LONGEST);
    let start = format!("http://{name}/.well-known/acme-challenge/{token}");
    let Ok(start) = Url::parse(&start) else {
        return Fetched::Wrong(format!("http://{name}: not an address one can ask for"));
    };
    let fetched = follow(
        Address(start),
        key_authorization.as_bytes(),
        connect_to,
        until,
    );
    match timeout_at(until, fetched).await {
        Ok(Ok(())) => Fetched::Right,
        Ok(Err(fetched)) => fetched,
        Err(_) => Fetched::Unreachable(format!(
            "http://{name}: no complete answer within {:.1} s",
            limit.min(LONGEST).as_secs_f32()
        )),
    }
}

/// The pauses before a host that is too busy is asked again.
const BUSY: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// The longest time for one fetch, redirects included.
pub const LONGEST: Duration = Duration::from_secs(5);

async fn follow(
    start: Address,
    wanted: &[u8],
    connect_to: Option<&str>,
    until: Instant,
) -> Result<(), Fetched> {
    let mut visited: Vec<Address> = Vec::new();
    let mut url = start;
    let mut busy = BUSY.into_iter();
    loop {
        // Dropped at the end of the round: it holds the connection.
        let mut connection = JoinSet::new();
        let response = ask(&url, connect_to, until, &mut connection).await?;
        // A load balancer says so of a function whose environments are all in use.
        let is_busy = matches!(response.status().as_u16(), 429 | 502 | 503 | 504);
        if is_busy && let Some(pause) = busy.next().filter(|pause| Instant::now() + *pause < until)
        {
            drop(connection);
            tokio::time::sleep(pause).await;
            continue;
        }
        if !response.status().is_redirection() {
            return compare(&url, response, wanted).await;
        }
        let target = redirect(&url, &response)?;
        visited.push(url);
        if visited.contains(&target) {
            return Err(Fetched::Wrong(format!(
                "{target}: redirects go in a circle"
            )));
        }
        if visited.len() > MOST_REDIRECTS {
            return Err(Fetched::Wrong(format!(
                "{target}: more than {MOST_REDIRECTS} redirects"
            )));
        }
        url = target;
    }
}

/// Returns the response at `url`, its body unread. `connection` must live until the body is read.
async fn ask(
    url: &Address,
    connect_to: Option<&str>,
    until: Instant,
    connection: &mut JoinSet<()>,
) -> Result<Response<hyper::body::Incoming>, Fetched> {
    let unreachable = |why: &dyn fmt::Display| Fetched::Unreachable(format!("{url}: {why}"));
    let addresses = network::addresses(url.host(), url.port(), connect_to, until)
        .await
        .map_err(|why| unreachable(&why))?;
    let stream = dial(&addresses, until)
        .await
        .map_err(|why| unreachable(&why))?;
    if !url.is_https() {
        return exchange(stream, url, connection).await;
    }
    let client = network::tls_client(aws_lc_rs::default_provider(), Arc::new(network::Anyone))
        .map_err(|error| unreachable(&error))?;
    let server = ServerName::try_from(url.host().to_owned())
        .map_err(|_| Fetched::Wrong(format!("{url}: not a host name that TLS can ask for")))?;
    let stream = TlsConnector::from(Arc::new(client))
        .connect(server, stream)
        .await
        .map_err(|error| unreachable(&format_args!("TLS handshake failed: {error}")))?;
    exchange(stream, url, connection).await
}

/// Connects as the authority does: to the first IPv6 address, and if that fails to the first IPv4
/// address.
async fn dial(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, String> {
    let first = |v6| addresses.iter().find(|address| address.is_ipv6() == v6);
    let mut failures = Vec::new();
    let candidates: Vec<&SocketAddr> = [first(true), first(false)].into_iter().flatten().collect();
    for (at, address) in candidates.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(candidates.len() - at).unwrap_or(1);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: no connection in time")),
        }
    }
    Err(format!("could not connect to {}", failures.join(", ")))
}

async fn exchange<T>(
    stream: T,
    url: &Address,
    connection: &mut JoinSet<()>,
) -> Result<Response<hyper::body::Incoming>, Fetched>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| match error.is_parse() {
        true => Fetched::Wrong(format!("{url}: the answer is not HTTP")),
        false => Fetched::Unreachable(format!("{url}: {error}")),
    };
    let request = Request::get(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, "certloop")
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Fetched::Wrong(format!("{url}: not an address one can ask for")))?;
    let (mut sender, driver) = http1::Builder::new()
        .max_buf_size(MOST_BUFFERED)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    connection.spawn(async {
        // Its error reaches us through the request and the body.
        let _ = driver.await;
    });
    sender.send_request(request).await.map_err(failed)
}

/// Returns the target of a redirect, if authorities would follow it.
fn redirect<B>(from: &Address, response: &Response<B>) -> Result<Address, Fetched> {
    let status = response.status();
    let wrong = |why: String| Fetched::Wrong(format!("{from}: {why}"));
    if ![
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ]
    .contains(&status)
    {
        return Err(wrong(format!(
            "answered {}; authorities follow redirects of status 301, 302, 307 and 308 only",
            status.as_u16()
        )));
    }
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or_else(|| wrong(format!("answered {} without a Location", status.as_u16())))?;
    from.join(location)
        .map_err(|why| wrong(format!("redirects to where authorities do not go: {why}")))
}

async fn compare(
    url: &Address,
    response: Response<hyper::body::Incoming>,
    wanted: &[u8],
) -> Result<(), Fetched> {
    let wrong = |why: String| Fetched::Wrong(format!("{url}: {why}"));
    let status = response.status();
    if status != StatusCode::OK {
        return Err(wrong(format!(
            "answered {} instead of 200",
            status.as_u16()
        )));
    }
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fetched::Unreachable(format!("{url}: the answer broke off: {error}"))
        })?;
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(data);
        }
        // This is stricter than reading 1 KiB first, but the verdict is the same.
        if read.len() >= TOO_LONG {
            return Err(wrong(format!(
                "answered {TOO_LONG} bytes or more, which no authority accepts"
            )));
        }
    }
    if read.trim_ascii_end() != wanted {
        return Err(wrong(format!(
            "answered 200 with {} bytes that are not the challenge's answer: is the path routed to \
             the challenge function?",
            read.len()
        )));
    }
    Ok(())
}

/// The target of a request: `http` or `https`, a host name, port 80 or 443, no fragment, no user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address(Url);

impl Address {
    /// Resolves `location` against this URL (RFC 3986 section 5). The error says why authorities
    /// would not follow it.
    fn join(&self, location: &str) -> Result<Self, String> {
        let unreadable = || "an unreadable address".to_owned();
        let is_lenient = Cell::new(names_no_host(location));
        let note = |violation| {
            if is_what_browsers_repair(violation) {
                is_lenient.set(true);
            }
        };
        let parsed = Url::options()
            .base_url(Some(&self.0))
            .syntax_violation_callback(Some(&note))
            // For authorities a backslash is an ordinary character, for browsers a slash.
            .parse(&location.replace('\\', "%5C"));
        let mut url = match parsed {
            Ok(url) => url,
            Err(ParseError::InvalidPort) => return Err(OTHER_PORT.to_owned()),
            Err(_) => return Err(unreadable()),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err("neither http nor https".to_owned());
        }
        if is_lenient.get() {
            return Err(unreadable());
        }
        if !matches!(url.host(), Some(Host::Domain(_))) {
            return Err("no host name".to_owned());
        }
        if !matches!(url.port(), None | Some(80 | 443)) {
            return Err(OTHER_PORT.to_owned());
        }
        if url.path().len() > MOST_PATH {
            return Err(format!("a path of more than {MOST_PATH} bytes"));
        }
        url.set_fragment(None);
        url.set_username("").map_err(|()| unreadable())?;
        url.set_password(None).map_err(|()| unreadable())?;
        Ok(Self(url))
    }

    fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(80)
    }

    /// Returns host and port; a default port is left out.
    fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Returns path and query.
    fn path(&self) -> &str {
        &self.0[Position::BeforePath..Position::AfterQuery]
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a redirect may be anything, of any length.
        let path: String = self.path().chars().take(MOST_SHOWN).collect();
        write!(f, "{}://{}{path}", self.0.scheme(), self.authority())
    }
}

/// Whether a location has our scheme but no host after it: browsers read `http:p` as a path.
fn names_no_host(location: &str) -> bool {
    let scheme = location.split_once(':');
    scheme.is_some_and(|(scheme, rest)| {
        let mut ours = ["http", "https"].into_iter();
        ours.any(|ours| scheme.eq_ignore_ascii_case(ours)) && !rest.starts_with("//")
    })
}

/// Whether browsers, and so the `url` crate, accept an address that authorities refuse.
fn is_what_browsers_repair(violation: SyntaxViolation) -> bool {
    matches!(
        violation,
        SyntaxViolation::ExpectedDoubleSlash | SyntaxViolation::TabOrNewlineIgnored
    )
}

const OTHER_PORT: &str = "another port than 80 and 443";
const MOST_REDIRECTS: usize = 10;
const MOST_PATH: usize = 2000;
const MOST_SHOWN: usize = 200;
/// Let's Encrypt accepts bodies below this size, whitespace included.
const TOO_LONG: usize = 128;
/// The smallest buffer that hyper allows; it holds the headers and the start of the body.
const MOST_BUFFERED: usize = 8192;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const ANSWER: &str =
        "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

    /// One request, as the server received it.
    #[derive(Clone, Debug)]
    struct SeenRequest {
        https: bool,
        path: String,
        head: String,
    }

    /// Answers with the result of `answer`, over TLS when the client starts TLS. Can pause before
    /// the last byte.
    struct WebServer {
        address: String,
        seen: Arc<Mutex<Vec<SeenRequest>>>,
        tasks: JoinSet<()>,
    }

    impl WebServer {
        async fn start(answer: impl Fn(&SeenRequest) -> String + Send + Sync + 'static) -> Self {
            Self::start_slow(answer, Duration::ZERO).await
        }

        async fn start_slow(
            answer: impl Fn(&SeenRequest) -> String + Send + Sync + 'static,
            pause: Duration,
        ) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let seen = Arc::new(Mutex::new(Vec::new()));
            let (answer, tls) = (Arc::new(answer), acceptor());
            let mut tasks = JoinSet::new();
            let log = Arc::clone(&seen);
            tasks.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (answer, tls, log) = (answer.clone(), tls.clone(), log.clone());
                    tokio::spawn(async move {
                        let mut first = [0];
                        stream.peek(&mut first).await.unwrap();
                        let answer = |seen: &SeenRequest| {
                            log.lock().unwrap().push(seen.clone());
                            answer(seen)
                        };
                        if first[0] == 0x16 {
                            let stream = tls.accept(stream).await.unwrap();
                            serve(stream, true, pause, answer).await;
                        } else {
                            serve(stream, false, pause, answer).await;
                        }
                    });
                }
            });
            Self {
                address,
                seen,
                tasks,
            }
        }

        async fn fetch(&self) -> Fetched {
            self.fetch_within(Duration::from_secs(5)).await
        }

        async fn fetch_within(&self, limit: Duration) -> Fetched {
            assert_eq!(self.tasks.len(), 1);
            let name = DnsName::parse("shop.example.com").unwrap();
            fetch(&name, TOKEN, ANSWER, Some(&self.address), limit).await
        }

        fn seen(&self) -> Vec<SeenRequest> {
            self.seen.lock().unwrap().clone()
        }
    }

    async fn serve(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        https: bool,
        pause: Duration,
        answer: impl Fn(&SeenRequest) -> String,
    ) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let answer = answer(&SeenRequest { https, path, head });
        let (begin, end) = answer.as_bytes().split_at(answer.len().saturating_sub(1));
        let _ = stream.write_all(begin).await;
        let _ = stream.flush().await;
        tokio::time::sleep(pause).await;
        let _ = stream.write_all(end).await;
        let _ = stream.shutdown().await;
    }

    fn acceptor() -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(server))
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn redirect_to(status: u16, location: &str) -> String {
        format!("HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    }

    /// Redirects `times` times, then answers.
    async fn redirecting(times: usize) -> WebServer {
        WebServer::start(move |seen| {
            let (_, hop) = seen.path.split_once("hop=").unwrap_or(("", "0"));
            match hop.parse::<usize>().unwrap() {
                hop if hop == times => ok(ANSWER),
                hop => redirect_to(302, &format!("/somewhere?hop={}", hop + 1)),
            }
        })
        .await
    }

    fn why(fetched: &Fetched) -> String {
        match fetched {
            Fetched::Right => String::new(),
            Fetched::Wrong(why) | Fetched::Unreachable(why) => {
                let thumbprint = ANSWER.split_once('.').unwrap().1;
                assert!(
                    !why.contains(thumbprint) && !why.contains("SECRET"),
                    "{why}"
                );
                why.clone()
            }
        }
    }

    #[tokio::test]
    async fn the_right_answer_is_right_and_asked_for_as_the_authority_asks() {
        let server = WebServer::start(|_| ok(ANSWER)).await;
        assert_eq!(server.fetch().await, Fetched::Right);
        let seen = &server.seen()[0];
        assert!(!seen.https);
        assert_eq!(seen.path, format!("/.well-known/acme-challenge/{TOKEN}"));
        let head = seen.head.to_ascii_lowercase();
        assert!(head.starts_with("get "), "{head}");
        assert!(head.contains("\r\nhost: shop.example.com\r\n"), "{head}");
        assert!(head.contains("\r\nuser-agent: certloop\r\n"), "{head}");
    }

    #[tokio::test]
    async fn whitespace_is_forgiven_behind_the_answer_only() {
        for body in [format!("{ANSWER}\n"), format!("{ANSWER} \t\r\n\r\n")] {
            let server = WebServer::start(move |_| ok(&body)).await;
            assert_eq!(server.fetch().await, Fetched::Right);
        }
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             {:x}\r\n{ANSWER}\r\n1\r\n\n\r\n0\r\n\r\n",
            ANSWER.len()
        );
        let server = WebServer::start(move |_| chunked.clone()).await;
        assert_eq!(server.fetch().await, Fetched::Right);
    }

    #[tokio::test]
    async fn wrong_answers_are_wrong_and_their_text_is_not_repeated() {
        let cases: &[(&str, String, &str)] = &[
            (
                "404",
                "HTTP/1.1 404 Not Found\r\ncontent-length: 6\r\n\r\nSECRET".into(),
                "answered 404 instead of 200",
            ),
            (
                "204",
                "HTTP/1.1 204 No Content\r\n\r\n".into(),
                "answered 204 instead of 200",
            ),
            (
                "the answer with 201",
                ok(ANSWER).replace("200 OK", "201 Created"),
                "answered 201 instead of 200",
            ),
            ("another text", ok("SECRET"), "6 bytes that are not"),
            ("nothing", ok(""), "0 bytes that are not"),
            (
                "whitespace before",
                ok(&format!(" {ANSWER}")),
                "bytes that are not",
            ),
            (
                "another case",
                ok(&ANSWER.to_ascii_uppercase()),
                "bytes that are not",
            ),
            (
                "whitespace to the 128th byte",
                ok(&format!("{ANSWER:<128}")),
                "128 bytes or more",
            ),
            ("a page", ok(&"SECRET".repeat(100_000)), "128 bytes or more"),
            ("no HTTP", "SSH-2.0-SECRET\r\n\r\n".into(), "not HTTP"),
            (
                "303",
                redirect_to(303, "/there"),
                "301, 302, 307 and 308 only",
            ),
            (
                "300",
                redirect_to(300, "/there"),
                "301, 302, 307 and 308 only",
            ),
            (
                "304",
                redirect_to(304, "/there"),
                "301, 302, 307 and 308 only",
            ),
            (
                "no Location",
                "HTTP/1.1 301 Go\r\ncontent-length: 0\r\n\r\n".into(),
                "without a Location",
            ),
            (
                "another port",
                redirect_to(301, "http://shop.example.com:8080/"),
                "another port than 80 and 443",
            ),
            (
                "another scheme",
                redirect_to(301, "ftp://shop.example.com/"),
                "neither http nor https",
            ),
            (
                "mail",
                redirect_to(301, "mailto:a@example.com"),
                "do not go",
            ),
            (
                "an address",
                redirect_to(301, "http://169.254.169.254/"),
                "no host name",
            ),
            (
                "an IPv6 address",
                redirect_to(301, "http://[::1]/"),
                "no host name",
            ),
            (
                "a long way",
                redirect_to(301, &format!("/{}", "a".repeat(2000))),
                "more than 2000 bytes",
            ),
            (
                "itself",
                redirect_to(301, &format!("/.well-known/acme-challenge/{TOKEN}")),
                "circle",
            ),
        ];
        for (sentence, answer, words) in cases {
            let answer = answer.clone();
            let server = WebServer::start(move |_| answer.clone()).await;
            let fetched = server.fetch().await;
            assert!(
                matches!(fetched, Fetched::Wrong(_)),
                "{sentence}: {fetched:?}"
            );
            let why = why(&fetched);
            assert!(why.contains(words), "{sentence}: {why}");
            assert!(why.contains("shop.example.com"), "{sentence}: {why}");
        }
    }

    #[tokio::test]
    async fn one_byte_below_the_limit_is_right() {
        let server = WebServer::start(|_| ok(&format!("{ANSWER:<127}"))).await;
        assert_eq!(server.fetch().await, Fetched::Right);
    }

    #[tokio::test]
    async fn ten_redirects_are_followed_and_the_eleventh_is_not() {
        let server = redirecting(10).await;
        assert_eq!(server.fetch().await, Fetched::Right);
        assert_eq!(server.seen().len(), 11);

        let server = redirecting(11).await;
        let fetched = server.fetch().await;
        assert!(
            why(&fetched).contains("more than 10 redirects"),
            "{fetched:?}"
        );
        assert!(matches!(fetched, Fetched::Wrong(_)));
        assert_eq!(server.seen().len(), 11);
    }

    #[tokio::test]
    async fn every_redirect_that_authorities_follow_is_followed() {
        for status in [301, 302, 307, 308] {
            let server = WebServer::start(move |seen| match &*seen.path {
                "/there" => ok(ANSWER),
                _ => redirect_to(status, "http://other.example.com/there#part"),
            })
            .await;
            assert_eq!(server.fetch().await, Fetched::Right, "{status}");
            let head = server.seen()[1].head.to_ascii_lowercase();
            assert!(head.contains("\r\nhost: other.example.com\r\n"), "{head}");
        }
    }

    #[tokio::test]
    async fn two_pages_that_point_at_each_other_are_a_circle() {
        let server = WebServer::start(|seen| match &*seen.path {
            "/a" => redirect_to(302, "/b"),
            _ => redirect_to(302, "/a"),
        })
        .await;
        let fetched = server.fetch().await;
        assert!(why(&fetched).contains("circle"), "{fetched:?}");
        assert_eq!(server.seen().len(), 3);
    }

    #[tokio::test]
    async fn a_redirect_to_https_is_followed_with_any_certificate() {
        let server = WebServer::start(|seen| match seen.https {
            true => ok(ANSWER),
            false => redirect_to(301, &format!("https://shop.example.com{}", seen.path)),
        })
        .await;
        assert_eq!(server.fetch().await, Fetched::Right);
        let seen = server.seen();
        assert_eq!(
            seen.iter().map(|seen| seen.https).collect::<Vec<_>>(),
            [false, true]
        );
        assert_eq!(seen[0].path, seen[1].path);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_in_time_is_no_verdict() {
        let server = WebServer::start_slow(|_| ok(ANSWER), Duration::from_secs(60)).await;
        let began = std::time::Instant::now();
        let fetched = server.fetch_within(Duration::from_millis(300)).await;
        assert!(began.elapsed() < Duration::from_secs(3));
        assert!(matches!(fetched, Fetched::Unreachable(_)), "{fetched:?}");
        assert!(why(&fetched).contains("no complete answer within 0.3 s"));
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_verdict() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nSECRET"] {
            let server = WebServer::start(move |_| answer.to_owned()).await;
            let fetched = server.fetch().await;
            assert!(matches!(fetched, Fetched::Unreachable(_)), "{fetched:?}");
            why(&fetched);
        }
    }

    #[tokio::test]
    async fn nobody_there_is_no_verdict() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let name = DnsName::parse("shop.example.com").unwrap();
        let limit = Duration::from_secs(5);
        let fetched = fetch(&name, TOKEN, ANSWER, Some(&address), limit).await;
        assert!(matches!(fetched, Fetched::Unreachable(_)), "{fetched:?}");
        assert!(why(&fetched).contains("could not connect"), "{fetched:?}");
    }

    #[tokio::test]
    async fn ipv6_comes_first_and_ipv4_when_it_cannot_be_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let v4 = listener.local_addr().unwrap();
        let v6 = SocketAddr::new("::1".parse().unwrap(), v4.port());
        let until = Instant::now() + Duration::from_secs(5);
        let stream = dial(&[v4, v6], until).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), v4);

        let Ok(second) = TcpListener::bind(v6).await else {
            return; // No IPv6 on this machine.
        };
        let stream = dial(&[v4, v6], until).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), second.local_addr().unwrap());
    }

    #[test]
    fn locations_are_resolved_against_where_they_stand() {
        let from = Address(Url::parse("https://a.example.com/x/y?z=1").unwrap());
        for (location, wanted) in [
            ("http://b.example.com", "http://b.example.com/"),
            ("HTTP://B.Example.com:80/P", "http://b.example.com/P"),
            ("https://b.example.com:80/p", "https://b.example.com:80/p"),
            ("http://user@b.example.com/p", "http://b.example.com/p"),
            ("http://u:p@b.example.com/p", "http://b.example.com/p"),
            ("https://b.example.com:/p", "https://b.example.com/p"),
            ("//b.example.com/p", "https://b.example.com/p"),
            ("/p?q=1#f", "https://a.example.com/p?q=1"),
            ("p", "https://a.example.com/x/p"),
            ("../p", "https://a.example.com/p"),
            ("./", "https://a.example.com/x/"),
            ("../../../p/..", "https://a.example.com/"),
            ("/a//b/./c", "https://a.example.com/a//b/c"),
            ("?q=2", "https://a.example.com/x/y?q=2"),
            ("", "https://a.example.com/x/y?z=1"),
            ("#f", "https://a.example.com/x/y?z=1"),
            (
                "/\\b.example.com/p",
                "https://a.example.com/%5Cb.example.com/p",
            ),
        ] {
            assert_eq!(
                from.join(location).unwrap().to_string(),
                wanted,
                "{location}"
            );
        }
        for location in [
            "http://",
            "http:///p",
            "http://a b/",
            "javascript:1",
            "http://b:99999/",
            "http://b:8080/",
            "https:p",
            "http:/p",
            "///b.example.com/p",
            "/a\tb",
            "http://2130706433/",
            "http://0x7f.1/",
        ] {
            assert!(from.join(location).is_err(), "{location}");
        }
    }
}
