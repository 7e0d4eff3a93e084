//! Requests from a load balancer, answered by the challenge function's own handler. The event's
//! `stored` is the content of the store.

#![no_main]

use std::cell::{Cell, OnceCell};
use std::future;

use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use challenge::{KEY_AUTHORIZATION_MAX_LENGTH, Token};
use store::{Challenges, ReadError};

#[path = "../../../functions/challenge/src/event.rs"]
mod event;
#[path = "../../../functions/challenge/src/handler.rs"]
mod handler;
#[path = "../../../functions/challenge/src/store.rs"]
mod store;

#[allow(dead_code, reason = "the library needs more of it")]
#[path = "../../../functions/certificates/src/challenge.rs"]
mod challenge;
#[allow(dead_code, reason = "the library needs more of it")]
#[path = "../../../functions/certificates/src/metrics.rs"]
mod metrics;

/// The path where the handler finds what it shares with the library.
mod shared {
    pub(crate) use crate::{challenge, metrics};
}

/// A store with the same content under every token. It remembers the token it was asked for.
struct Store<'e> {
    stored: &'e Value,
    asked: Cell<Option<Token>>,
}

impl Challenges for Store<'_> {
    fn read(&self, token: &Token) -> impl Future<Output = Result<Option<Vec<u8>>, ReadError>> {
        assert_eq!(self.asked.replace(Some(token.clone())), None, "read twice");
        future::ready(match self.stored {
            Value::String(text) => Ok(Some(text.clone().into_bytes())),
            Value::Null => Ok(None),
            Value::Bool(_) => Err(ReadError::Denied),
            _ => Err("no answer".into()),
        })
    }
}

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(payload) = serde_json::from_slice::<Value>(json) else {
        return;
    };
    let store = Store {
        stored: &payload["stored"],
        asked: Cell::new(None),
    };
    let event = LambdaEvent::new(payload.clone(), Context::default());
    let Ok(answer) = RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().build().unwrap()
        });
        runtime.block_on(handler::handle(event, &store))
    });

    let status = answer["statusCode"].as_u64().unwrap();
    let body = answer["body"].as_str().unwrap();
    let texts = [
        (200, "OK"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (503, "Service Unavailable"),
    ];
    let (_, text) = texts.iter().find(|(code, _)| *code == status).unwrap();
    let asked = store.asked.take();
    let stored = store.stored.as_str();
    // The answer is the stored text, only if that is a key authorization; otherwise nothing but the
    // status.
    if status == 200 && asked.is_some() {
        let stored = stored.unwrap();
        assert!(body == stored || body.is_empty());
        let of_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!((1..=KEY_AUTHORIZATION_MAX_LENGTH).contains(&stored.len()));
        assert!(stored.bytes().all(of_key));
    } else {
        assert!(body == *text || body.is_empty());
    }
    if let Some(token) = &asked {
        let token = token.as_str();
        let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!((1..=128).contains(&token.len()) && token.bytes().all(of_token));
        // The token is the one in the path, byte for byte, for every kind of sender.
        let paths = [&payload["path"], &payload["rawPath"]].map(|path| path.as_str());
        let path = format!("/.well-known/acme-challenge/{token}");
        assert!(paths.iter().flatten().any(|asked| asked.ends_with(&path)));
    } else {
        assert_ne!(status, 503);
    }

    // The answer has the format of the sender.
    let context = &payload["requestContext"];
    assert_eq!(
        answer.get("statusDescription").is_some(),
        context["elb"].is_object()
    );
    let many = payload["multiValueHeaders"].is_object();
    assert_eq!(answer.get("multiValueHeaders").is_some(), many);
    assert_eq!(answer.get("headers").is_some(), !many);
    assert_eq!(answer["isBase64Encoded"], json!(false));
});

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}
