//! The function as Lambda starts it: the real binary between a minimal Runtime API and a store with
//! scripted answers.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

const EVENT: &str = include_str!("../../../events/challenge-alb.json");
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

#[test]
fn a_stored_token_is_answered_with_one_signed_read() {
    let store = Store::start(|_| Some((200, KEY_AUTHORIZATION.into())));
    let (answer, output) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["body"], KEY_AUTHORIZATION);

    let requests = store.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let head = requests[0].to_ascii_lowercase();
    let target = format!("/bucket/challenges/{TOKEN}").to_ascii_lowercase();
    assert!(head.starts_with(&format!("get {target}")), "{head}");
    assert!(head.contains("authorization: aws4-hmac-sha256 credential=akidexample/"));
    assert!(head.contains("/eu-west-1/s3/aws4_request"), "{head}");
    assert!(
        head.contains("x-amz-security-token: a-session-token"),
        "{head}"
    );

    let metric = json!({"Function": "the-function", "ChallengeAnswered": 1});
    assert!(counts(&output, &metric), "{output}");
    assert!(!output.contains(KEY_AUTHORIZATION), "{output}");
    for line in output.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn the_key_authorization_is_not_logged_at_any_level() {
    let store = Store::start(|_| Some((200, KEY_AUTHORIZATION.into())));
    let function = Function::start_with(&store.url(), &[("AWS_LAMBDA_LOG_LEVEL", "TRACE")]);
    let (answer, output) = function.invoke(EVENT);
    assert_eq!(answer["body"], KEY_AUTHORIZATION);
    assert!(!output.contains(KEY_AUTHORIZATION), "{output}");
    assert!(!output.contains("a-session-token"), "{output}");
}

#[test]
fn a_token_that_is_not_stored_is_a_404() {
    let store = Store::start(|_| Some((404, error_document("NoSuchKey"))));
    let (answer, output) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 404);
    assert!(counts(&output, &json!({"ChallengeMissed": 1})), "{output}");
    assert_eq!(store.requests().len(), 1);
}

#[test]
fn a_denied_read_is_a_404_and_counted_apart() {
    let store = Store::start(|_| Some((403, error_document("AccessDenied"))));
    let (answer, output) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 404);
    assert!(counts(&output, &json!({"ChallengeDenied": 1})), "{output}");
    assert_eq!(store.requests().len(), 1);
}

#[test]
fn any_other_refusal_of_the_store_is_a_503() {
    for (status, code) in [
        (404, "NoSuchBucket"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (400, "ExpiredToken"),
    ] {
        let store = Store::start(move |_| Some((status, error_document(code))));
        let (answer, output) = Function::start(&store.url()).invoke(EVENT);
        assert_eq!(answer["statusCode"], 503, "{code}: {output}");
        assert!(output.contains(code), "{output}");
    }
}

#[test]
fn a_failure_of_the_store_is_tried_once_more() {
    let store = Store::start(|earlier| match earlier {
        0 => Some((503, error_document("SlowDown"))),
        _ => Some((200, KEY_AUTHORIZATION.into())),
    });
    let (answer, _) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(store.requests().len(), 2);

    let store = Store::start(|_| Some((500, error_document("InternalError"))));
    let (answer, _) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 503);
    assert_eq!(store.requests().len(), 2);
}

#[test]
fn a_store_that_does_not_answer_is_a_503_in_time() {
    let store = Store::start(|_| None);
    let began = Instant::now();
    let (answer, _) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 503);
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[test]
fn a_store_that_is_not_there_is_a_503() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let (answer, output) = Function::start(&closed).invoke(EVENT);
    assert_eq!(answer["statusCode"], 503);
    assert!(output.contains("the store could not be read"), "{output}");
}

#[test]
fn an_object_that_is_too_long_is_a_404() {
    let store = Store::start(|_| Some((200, "a".repeat(1 << 20))));
    let (answer, _) = Function::start(&store.url()).invoke(EVENT);
    assert_eq!(answer["statusCode"], 404);
    assert_eq!(answer["body"], "Not Found");
}

#[test]
fn a_missing_bucket_ends_the_start_with_a_word_about_it() {
    let output = command("http://127.0.0.1:1", "127.0.0.1:1")
        .env_remove("CERTLOOP_BUCKET")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("CERTLOOP_BUCKET is not set"), "{words}");
}

/// The started function, and the Runtime API that it calls.
struct Function {
    process: Child,
    runtime_api: TcpListener,
}

impl Function {
    fn start(store: &str) -> Self {
        Self::start_with(store, &[])
    }

    fn start_with(store: &str, variables: &[(&str, &str)]) -> Self {
        let runtime_api = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = runtime_api.local_addr().unwrap().to_string();
        let process = command(store, &address)
            .envs(variables.iter().copied())
            .spawn()
            .unwrap();
        Self {
            process,
            runtime_api,
        }
    }

    /// Returns the answer to one event, and everything the function printed.
    fn invoke(mut self, event: &str) -> (Value, String) {
        let deadline =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(10);
        let mut answer = None;
        while answer.is_none() {
            let (mut stream, _) = self.runtime_api.accept().unwrap();
            while let Some((head, body)) = read_message(&mut stream) {
                if head.contains("/invocation/next") {
                    write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: r1\r\n\
                         lambda-runtime-deadline-ms: {}\r\n\
                         lambda-runtime-invoked-function-arn: a\r\n\
                         content-length: {}\r\n\r\n{event}",
                        deadline.as_millis(),
                        event.len(),
                    )
                    .unwrap();
                } else {
                    assert!(head.contains("/invocation/r1/response"), "{head}");
                    answer = Some(serde_json::from_slice(&body).unwrap());
                    break;
                }
            }
        }

        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut output = String::new();
        self.process
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        (answer.unwrap(), output)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(store: &str, runtime_api: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_challenge"));
    command
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("AWS_LAMBDA_FUNCTION_NAME", "the-function"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "a-secret-key"),
            ("AWS_SESSION_TOKEN", "a-session-token"),
            ("AWS_ENDPOINT_URL", store),
            ("CERTLOOP_BUCKET", "bucket"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A store that answers its n-th request (from 0) with a status and a body, or not at all.
struct Store {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Store {
    fn start(script: impl Fn(usize) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Self {
            address: listener.local_addr().unwrap().to_string(),
            requests: Arc::default(),
        };
        let requests = store.requests.clone();
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, script) = (requests.clone(), script.clone());
                thread::spawn(move || serve(stream.unwrap(), &requests, &*script));
            }
        });
        store
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<String>>,
    script: &dyn Fn(usize) -> Option<(u16, String)>,
) {
    while let Some((head, _)) = read_message(&mut stream) {
        let earlier = {
            let mut requests = requests.lock().unwrap();
            requests.push(head);
            requests.len() - 1
        };
        let Some((status, body)) = script(earlier) else {
            thread::sleep(Duration::from_secs(10));
            return;
        };
        let answer = write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        );
        if answer.is_err() {
            return;
        }
    }
}

/// Returns the head and the body of the next message, `None` at the end of the stream.
fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }

    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let mut body = Vec::new();
    if field("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
    }
    Some((head, body))
}

fn error_document(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>No.</Message></Error>"
    )
}

/// Returns whether one of the lines is a metric line with all of these fields.
fn counts(output: &str, fields: &Value) -> bool {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .any(|line| {
            line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "certloop"
                && fields
                    .as_object()
                    .unwrap()
                    .iter()
                    .all(|(name, value)| line[name] == *value)
        })
}
