//! A service for tests. It returns prepared answers in order and records the requests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

/// What the service does with one request.
pub(super) enum CannedAnswer {
    /// Answers.
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Closes the connection after reading the request.
    Hangup,
    /// Reads the request and then keeps the connection open.
    Silence,
}

impl CannedAnswer {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::of("application/x-amz-json-1.1", status, body)
    }

    pub(super) fn xml(status: u16, body: &str) -> Self {
        Self::of("text/xml", status, body)
    }

    /// An error in the form of the JSON protocols.
    pub(super) fn refusal(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"__type": code, "message": message});
        Self::json(status, &body.to_string())
    }

    /// Sets a header, replacing an existing one.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Response { headers, .. } = &mut self {
            headers.retain(|(present, _)| present != name);
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    fn of(content_type: &str, status: u16, body: &str) -> Self {
        let headers = vec![
            ("content-type".to_owned(), content_type.to_owned()),
            ("content-length".to_owned(), body.len().to_string()),
            ("connection".to_owned(), "close".to_owned()),
        ];
        Self::Response {
            status,
            headers,
            body: body.to_owned(),
        }
    }
}

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub(super) struct ReceivedRequest {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl ReceivedRequest {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (present, value) = line.split_once(':')?;
            present.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the form's fields, sorted by name.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        let body = String::from_utf8(self.body.clone()).unwrap();
        let mut fields = body
            .split('&')
            .map(|field| {
                let (name, value) = field.split_once('=').unwrap();
                (decoded(name), decoded(value))
            })
            .collect::<Vec<_>>();
        fields.sort();
        fields
    }

    pub(super) fn field(&self, name: &str) -> Option<String> {
        let mut fields = self.fields().into_iter();
        fields.find_map(|(present, value)| (present == name).then_some(value))
    }
}

/// The service. Without a prepared answer it refuses in a way that no client retries.
pub(super) struct Canned {
    endpoint: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl Canned {
    pub(super) fn answering(answers: impl IntoIterator<Item = CannedAnswer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<ReceivedRequest>>>::default();
        let seen = Arc::clone(&requests);
        let answers = answers.into_iter().collect::<Vec<_>>();
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&mut stream) else {
                    continue;
                };
                seen.lock().unwrap().push(request);
                let exhausted = || CannedAnswer::refusal(400, "OutOfAnswers", "no answer is left");
                match answers.next().unwrap_or_else(exhausted) {
                    CannedAnswer::Response {
                        status,
                        headers,
                        body,
                    } => {
                        let mut text = format!("HTTP/1.1 {status} Canned\r\n");
                        for (name, value) in headers {
                            text += &format!("{name}: {value}\r\n");
                        }
                        text += &format!("\r\n{body}");
                        // The client may have closed the connection by now.
                        let _ = stream.write_all(text.as_bytes());
                    }
                    CannedAnswer::Hangup => {}
                    CannedAnswer::Silence => kept.push(stream),
                }
            }
        });
        Self { endpoint, requests }
    }

    pub(super) fn config(&self) -> SdkConfig {
        config(&self.endpoint)
    }

    /// Returns all requests so far; there must be `N`.
    pub(super) fn requests<const N: usize>(&self) -> [ReceivedRequest; N] {
        let requests = self.requests.lock().unwrap().clone();
        requests.try_into().unwrap_or_else(|requests: Vec<_>| {
            panic!("{N} requests were expected, not {}", requests.len())
        })
    }
}

/// Returns a configuration like the real one, with short waits.
pub(super) fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("id", "secret", None, None, "test");
    let retry = RetryConfig::standard()
        .with_max_attempts(super::ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(1))
        .with_max_backoff(Duration::from_millis(5));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .retry_config(retry)
        .build()
}

fn read(stream: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16_384];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut request = ReceivedRequest {
                head,
                body: bytes[end + 4..].to_vec(),
            };
            let length = request
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            if request.body.len() >= length {
                request.body.truncate(length);
                return Some(request);
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
