//! One event in, one answer out.
//!
//! The handler returns no error: if a function fails, its load balancer answers 502, so every case
//! ends in an answer. 404 means that nothing is stored for the token, 503 that the store could not
//! be read.

use std::convert::Infallible;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Context, LambdaEvent};
use serde_json::Value;
use tracing::{debug, error, info, warn};

use crate::event::{Request, Response, Status};
use crate::shared::challenge::{Token, is_key_authorization};
use crate::shared::metrics::Metrics;
use crate::store::{Challenges, ReadError};

/// Answers an invocation and prints its metrics.
pub(crate) async fn handle(
    event: LambdaEvent<Value>,
    store: &impl Challenges,
) -> Result<Value, Infallible> {
    let now = SystemTime::now();
    let Answer { response, counted } =
        answer(&event.payload, store, time_to_read(&event.context, now)).await;

    if let Some(name) = counted {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = Metrics::new(&event.context.env_config.function_name)
            .count(name, 1)
            .to_line(u64::try_from(since_epoch.as_millis()).unwrap_or_default());
        line.push('\n');
        if let Err(error) = std::io::stdout().lock().write_all(line.as_bytes()) {
            error!(%error, "could not print a metric");
        }
    }
    Ok(response.into_json(&event.payload))
}

/// An answer, and the metric that it counts in.
struct Answer {
    response: Response,
    counted: Option<&'static str>,
}

/// Answers an event. Reads the store at most once, and for no longer than `time_to_read`.
async fn answer(event: &Value, store: &impl Challenges, time_to_read: Duration) -> Answer {
    let Some(Request { method, path }) = Request::read(event) else {
        warn!("an event of an unknown kind was answered with 404");
        return Status::NotFound.into();
    };
    let token = Token::from_path(path);
    if token.is_none() && path != HEALTH_PATH {
        debug!("a path that is not answered");
        return Status::NotFound.into();
    }
    if !matches!(method, "GET" | "HEAD") {
        return Status::MethodNotAllowed.into();
    }

    let mut answer = match token {
        Some(token) => challenge(&token, store, time_to_read).await,
        None => Status::Ok.into(),
    };
    if method == "HEAD" {
        answer.response.body.clear();
    }
    answer
}

/// Answers the challenge of this token with the stored object and nothing else.
async fn challenge(token: &Token, store: &impl Challenges, time_to_read: Duration) -> Answer {
    let read = tokio::time::timeout(time_to_read, store.read(token))
        .await
        .unwrap_or_else(|elapsed| Err(ReadError::Unreachable(elapsed.into())));

    let (status, body, counted) = match read {
        Ok(Some(stored)) if is_key_authorization(&stored) => match String::from_utf8(stored) {
            Ok(body) => (Status::Ok, Some(body), Some("ChallengeAnswered")),
            Err(_) => (Status::NotFound, None, Some("ChallengeMissed")),
        },
        Ok(Some(_)) => {
            warn!(challenge.token = %token, "the stored object is not a key authorization and \
                is not served");
            (Status::NotFound, None, Some("ChallengeMissed"))
        }
        Ok(None) => (Status::NotFound, None, Some("ChallengeMissed")),
        Err(ReadError::Denied) => (Status::NotFound, None, Some("ChallengeDenied")),
        Err(error @ ReadError::Unreachable(_)) => {
            error!(challenge.token = %token, %error, "the store could not be read");
            (Status::ServiceUnavailable, None, None)
        }
    };
    info!(challenge.token = %token, http.status = status.code(), "challenge");

    let mut answer = Answer::from(status);
    answer.counted = counted;
    if let Some(body) = body {
        answer.response.body = body;
    }
    answer
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self {
            response: Response {
                status,
                body: status.reason().to_owned(),
            },
            counted: None,
        }
    }
}

/// Returns how long the store may be read so that the answer is still in time.
///
/// Ignore a deadline that has passed on receipt: Lambda starts no such invocation.
fn time_to_read(context: &Context, now: SystemTime) -> Duration {
    match context.deadline().duration_since(now) {
        Ok(left) if !left.is_zero() => left.saturating_sub(TIME_TO_ANSWER).min(STORE_TIMEOUT),
        _ => STORE_TIMEOUT,
    }
}

/// The path for health checks; it never reads the store.
const HEALTH_PATH: &str = "/health";

/// A certificate authority gives up after ten seconds, a load balancer when the function times out.
const STORE_TIMEOUT: Duration = Duration::from_millis(4500);

/// The part of an invocation's time that is reserved for the answer.
const TIME_TO_ANSWER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future;

    use serde_json::json;

    use super::*;

    const LOAD_BALANCER: &str = include_str!("../../../events/challenge-alb.json");
    const MULTI_VALUE: &str = include_str!("../../../events/challenge-alb-multi-value.json");
    const FUNCTION_URL: &str = include_str!("../../../events/challenge-function-url.json");
    const REST_API: &str = include_str!("../../../events/challenge-api-gateway-v1.json");
    const HTTP_API: &str = include_str!("../../../events/challenge-api-gateway-v2.json");
    const HEALTH: &str = include_str!("../../../events/challenge-health.json");

    const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const KEY_AUTHORIZATION: &str =
        "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

    #[tokio::test]
    async fn every_sender_gets_the_key_authorization_in_its_own_form() {
        let headers = json!({
            "content-type": "text/plain",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        });
        let multi_value_headers = json!({
            "content-type": ["text/plain"],
            "x-content-type-options": ["nosniff"],
            "cache-control": ["no-store"],
        });
        let plain = json!({
            "statusCode": 200,
            "headers": headers,
            "body": KEY_AUTHORIZATION,
            "isBase64Encoded": false,
        });

        for (event, expected) in [
            (
                LOAD_BALANCER,
                json!({
                    "statusCode": 200,
                    "statusDescription": "200 OK",
                    "headers": headers,
                    "body": KEY_AUTHORIZATION,
                    "isBase64Encoded": false,
                }),
            ),
            (
                MULTI_VALUE,
                json!({
                    "statusCode": 200,
                    "statusDescription": "200 OK",
                    "multiValueHeaders": multi_value_headers,
                    "body": KEY_AUTHORIZATION,
                    "isBase64Encoded": false,
                }),
            ),
            (
                REST_API,
                json!({
                    "statusCode": 200,
                    "multiValueHeaders": multi_value_headers,
                    "body": KEY_AUTHORIZATION,
                    "isBase64Encoded": false,
                }),
            ),
            (FUNCTION_URL, plain.clone()),
            (HTTP_API, plain),
        ] {
            let store = Fake::found(KEY_AUTHORIZATION);
            let event = parse(event);
            let answer = answer(&event, &store, SOON).await;
            assert_eq!(answer.response.into_json(&event), expected);
            assert_eq!(answer.counted, Some("ChallengeAnswered"));
            assert_eq!(store.reads.get(), 1);
        }
    }

    #[tokio::test]
    async fn what_the_store_says_becomes_the_status_and_the_metric() {
        for (stored, status, counted) in [
            (
                Stored::Found(KEY_AUTHORIZATION.into()),
                200,
                Some("ChallengeAnswered"),
            ),
            (Stored::Absent, 404, Some("ChallengeMissed")),
            (Stored::Denied, 404, Some("ChallengeDenied")),
            (Stored::Unreachable, 503, None),
            (Stored::Silent, 503, None),
        ] {
            let store = Fake::new(stored);
            let answer = ask(LOAD_BALANCER, &store).await;
            assert_eq!(answer.response.status.code(), status, "{:?}", store.stored);
            assert_eq!(answer.counted, counted, "{:?}", store.stored);
            assert_eq!(store.reads.get(), 1, "{:?}", store.stored);
        }
    }

    #[tokio::test]
    async fn an_object_that_is_no_key_authorization_is_not_served() {
        for stored in [
            "".to_owned(),
            "<script>alert(1)</script>".to_owned(),
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            format!("{KEY_AUTHORIZATION}\n"),
            "a".repeat(1024),
        ] {
            let answer = ask(LOAD_BALANCER, &Fake::found(&stored)).await;
            assert_eq!(answer.response, not_found(), "{stored:?}");
            assert_eq!(answer.counted, Some("ChallengeMissed"), "{stored:?}");
        }
    }

    #[tokio::test]
    async fn the_answer_is_what_is_stored_and_not_made_of_the_request() {
        let answer = ask(LOAD_BALANCER, &Fake::found("another.one")).await;
        assert_eq!(answer.response.body, "another.one");
    }

    #[tokio::test]
    async fn a_head_request_is_answered_without_a_body() {
        for event in [LOAD_BALANCER, MULTI_VALUE, REST_API] {
            let store = Fake::found(KEY_AUTHORIZATION);
            let answer = ask_with(event, "/httpMethod", "HEAD", &store).await;
            assert_eq!(answer.response.status, Status::Ok);
            assert_eq!(answer.response.body, "");
            assert_eq!(store.reads.get(), 1);
        }
        for event in [FUNCTION_URL, HTTP_API] {
            let store = Fake::new(Stored::Absent);
            let answer = ask_with(event, "/requestContext/http/method", "HEAD", &store).await;
            assert_eq!(answer.response.status, Status::NotFound);
            assert_eq!(answer.response.body, "");
        }
    }

    #[tokio::test]
    async fn other_methods_learn_which_are_allowed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get", ""] {
            for event in [LOAD_BALANCER, MULTI_VALUE, HEALTH] {
                let store = Fake::found(KEY_AUTHORIZATION);
                let mut event = parse(event);
                event["httpMethod"] = method.into();
                let answer = answer(&event, &store, SOON).await;
                assert_eq!(answer.counted, None);

                let json = answer.response.into_json(&event);
                assert_eq!(json["statusCode"], 405, "{method:?}");
                assert_eq!(json["statusDescription"], "405 Method Not Allowed");
                match event["multiValueHeaders"].is_object() {
                    true => assert_eq!(json["multiValueHeaders"]["allow"], json!(["GET, HEAD"])),
                    false => assert_eq!(json["headers"]["allow"], "GET, HEAD"),
                }
                assert_eq!(store.reads.get(), 0);
            }
        }
    }

    #[tokio::test]
    async fn only_exact_paths_are_answered() {
        let too_long = format!("/.well-known/acme-challenge/{}", "a".repeat(129));
        for path in [
            "",
            "/",
            "/index.html",
            "/health/",
            "/Health",
            "/.well-known/acme-challenge",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/a/",
            "/.well-known/acme-challenge/a%2e",
            "/.well-known/acme-challenge/../../state/shop.json",
            "/.well-known/acme-challenge/a.b",
            "/.well-known/acme-challenge/é",
            &too_long,
        ] {
            let store = Fake::found(KEY_AUTHORIZATION);
            for answer in [
                ask_with(LOAD_BALANCER, "/path", path, &store).await,
                ask_with(FUNCTION_URL, "/rawPath", path, &store).await,
            ] {
                assert_eq!(answer.response, not_found(), "{path:?}");
                assert_eq!(answer.counted, None, "{path:?}");
            }
            assert_eq!(store.reads.get(), 0, "{path:?}");
        }
    }

    #[tokio::test]
    async fn a_health_check_does_not_touch_the_store() {
        let store = Fake::new(Stored::Unreachable);
        let event = parse(HEALTH);
        let answer = answer(&event, &store, SOON).await;
        assert_eq!(answer.counted, None);
        assert_eq!(store.reads.get(), 0);

        let json = answer.response.into_json(&event);
        assert_eq!(json["statusCode"], 200);
        assert_eq!(json["body"], "OK");
    }

    #[tokio::test]
    async fn an_event_of_an_unknown_kind_is_an_answer_and_not_an_error() {
        for event in [
            json!(null),
            json!(17),
            json!("reconcile"),
            json!([]),
            json!({}),
            json!({"action": "reconcile"}),
            json!({"httpMethod": 1, "path": {}}),
            json!({"httpMethod": "GET", "path": null, "multiValueHeaders": []}),
            json!({"requestContext": {"http": {"method": "GET"}}}),
            json!({"requestContext": "elb", "headers": 3}),
        ] {
            let store = Fake::found(KEY_AUTHORIZATION);
            let answer = answer(&event, &store, SOON).await;
            let json = answer.response.into_json(&event);
            assert_eq!(json["statusCode"], 404, "{event}");
            assert_eq!(json["headers"]["content-type"], "text/plain", "{event}");
            assert_eq!(store.reads.get(), 0, "{event}");
        }
    }

    #[tokio::test]
    async fn the_handler_answers_what_the_rules_say() {
        let event = LambdaEvent::new(parse(LOAD_BALANCER), Context::default());
        let store = Fake::found(KEY_AUTHORIZATION);
        let Ok(json) = handle(event, &store).await;
        assert_eq!(json["body"], KEY_AUTHORIZATION);
    }

    #[test]
    fn the_store_is_read_for_no_longer_than_the_invocation_lasts() {
        let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        for (left_ms, expected_ms) in [(60_000, 4_500), (2_000, 1_750), (100, 0), (0, 4_500)] {
            let mut context = Context::default();
            context.deadline = 1_767_225_600_000 + left_ms;
            let time = time_to_read(&context, now);
            assert_eq!(time, Duration::from_millis(expected_ms), "{left_ms}");
        }
        assert_eq!(time_to_read(&Context::default(), now), STORE_TIMEOUT);
    }

    #[derive(Debug)]
    enum Stored {
        Found(String),
        Absent,
        Denied,
        Unreachable,
        Silent,
    }

    struct Fake {
        stored: Stored,
        reads: Cell<usize>,
    }

    impl Fake {
        fn new(stored: Stored) -> Self {
            Self {
                stored,
                reads: Cell::new(0),
            }
        }

        fn found(stored: &str) -> Self {
            Self::new(Stored::Found(stored.to_owned()))
        }
    }

    impl Challenges for Fake {
        async fn read(&self, token: &Token) -> Result<Option<Vec<u8>>, ReadError> {
            assert_eq!(token.as_str(), TOKEN);
            self.reads.set(self.reads.get() + 1);
            match &self.stored {
                Stored::Found(stored) => Ok(Some(stored.clone().into_bytes())),
                Stored::Absent => Ok(None),
                Stored::Denied => Err(ReadError::Denied),
                Stored::Unreachable => Err(ReadError::Unreachable("no route to host".into())),
                Stored::Silent => future::pending().await,
            }
        }
    }

    async fn ask(event: &str, store: &Fake) -> Answer {
        answer(&parse(event), store, SOON).await
    }

    async fn ask_with(event: &str, pointer: &str, value: &str, store: &Fake) -> Answer {
        let mut event = parse(event);
        *event.pointer_mut(pointer).unwrap() = value.into();
        answer(&event, store, SOON).await
    }

    fn parse(event: &str) -> Value {
        serde_json::from_str(event).unwrap()
    }

    fn not_found() -> Response {
        Response {
            status: Status::NotFound,
            body: "Not Found".to_owned(),
        }
    }

    const SOON: Duration = Duration::from_millis(50);
}
