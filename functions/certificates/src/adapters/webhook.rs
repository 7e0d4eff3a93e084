//! Posts messages to webhooks.

use std::sync::OnceLock;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;

use crate::adapters::network::{Schemes, https_client, trust_roots};

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The client for webhooks: one pool of connections, opened with the first message.
#[derive(Default)]
pub(crate) struct Webhooks(OnceLock<Http>);

impl Webhooks {
    /// Posts JSON to a URL, which is a secret: error texts contain no part of it. `id` is the same
    /// for each repetition of a message. Redirects are not followed.
    pub(crate) async fn post(&self, url: &str, id: &str, body: &Value) -> Result<(), String> {
        let url = parsed(url)?;
        let key = HeaderValue::from_str(id).map_err(|_| "the message has no id".to_owned())?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("idempotency-key", key)
            .body(Full::new(Bytes::from(body.to_string())));
        let request = request.map_err(|_| "the request cannot be made".to_owned())?;
        let answer = self.client()?.request(request).await;
        // The client's own error text may contain the URL.
        let answer = answer.map_err(|error| match error.is_connect() {
            true => "no connection was made".to_owned(),
            false => "the connection broke before there was an answer".to_owned(),
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(format!(
                "it answered {}, a redirect: store the address of its target in the secret",
                status.as_u16()
            )),
            status if matches!(status.as_u16(), 401 | 403 | 404 | 410) => Err(format!(
                "it answered {}: the webhook was removed or its address is wrong; store the new \
                 one in the secret",
                status.as_u16()
            )),
            status => Err(format!("it answered {}", status.as_u16())),
        }
    }

    fn client(&self) -> Result<&Http, String> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let client = https_client(trust_roots(None), Schemes::HttpsOrHttp)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(self.0.get_or_init(|| client))
    }
}

fn parsed(url: &str) -> Result<Uri, String> {
    let wrong =
        || "the secret's string is not the address of a webhook (https:// or http://)".to_owned();
    let url: Uri = url.trim().parse().map_err(|_| wrong())?;
    let is_web = matches!(url.scheme_str(), Some("https" | "http"));
    match is_web && url.host().is_some() {
        true => Ok(url),
        false => Err(wrong()),
    }
}

const AGENT: &str = concat!("certloop/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_of_a_failure_names_nothing_of_the_address() {
        let webhooks = Webhooks::default();
        for address in [
            "http://127.0.0.1:1/T0/B0/secret",
            "http://127.0.0.1:secret/",
            "secret",
            "ftp://secret/",
            "",
        ] {
            let said = webhooks.post(address, "1", &Value::Null).await.unwrap_err();
            assert!(!said.contains("secret/") && !said.contains("T0"), "{said}");
            assert!(!said.contains("127.0.0.1"), "{said}");
        }
    }
}
