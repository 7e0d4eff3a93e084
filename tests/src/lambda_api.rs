//! The part of Lambda's own API that operators use: the synchronous Invoke, in front of the real
//! functions.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::{self, Request, Response, Serving};
use crate::lambda::{self, Lambda, Plan};
use crate::process::lock;

/// The API, at its own address.
#[derive(Debug)]
pub struct LambdaApi {
    address: SocketAddr,
    shared: Arc<SharedApi>,
    _serving: Serving,
}

#[derive(Debug)]
struct SharedApi {
    lambda: Lambda,
    asked: Mutex<Vec<Asked>>,
    plan: Mutex<Plan>,
    without_alias: Mutex<HashSet<String>>,
}

/// One invocation that was requested.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The function's name.
    pub function: String,
    /// The alias, if one was given.
    pub qualifier: Option<String>,
    /// The event.
    pub event: Value,
}

impl LambdaApi {
    /// Opens the API in front of these functions.
    pub async fn open(lambda: Lambda) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(SharedApi {
            lambda,
            asked: Mutex::default(),
            plan: Mutex::default(),
            without_alias: Mutex::default(),
        });
        let answering = shared.clone();
        let serving = http::listen(listener, move |stream, _| {
            let shared = answering.clone();
            async move {
                let answer = |request| {
                    let shared = shared.clone();
                    async move { Some(shared.answer(&request).await) }
                };
                let _ = http::serve(stream, answer).await;
            }
        });
        Self {
            address,
            shared,
            _serving: serving,
        }
    }

    /// Returns the value for `AWS_ENDPOINT_URL_LAMBDA`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets special conditions for all further invocations, such as another clock.
    pub fn invoke_with(&self, plan: Plan) {
        *lock(&self.shared.plan) = plan;
    }

    /// Removes the alias `view` of a function.
    pub fn without_alias(&self, function: &str) {
        lock(&self.shared.without_alias).insert(function.to_owned());
    }

    /// Returns every invocation so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }
}

impl SharedApi {
    async fn answer(&self, request: &Request) -> Response {
        let path = request.path().strip_prefix("/2015-03-31/functions/");
        let name = path.and_then(|path| path.strip_suffix("/invocations"));
        let (Some(name), "POST") = (name, request.method.as_str()) else {
            let message = "this stand-in for AWS Lambda knows Invoke alone";
            return refusal(404, "UnknownOperationException", message);
        };
        let name = name.rsplit_once("%3A").map_or(name, |(_, name)| name);
        let event = serde_json::from_slice(&request.body).unwrap_or_default();
        let qualifier = request.query().strip_prefix("Qualifier=");
        lock(&self.asked).push(Asked {
            function: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
            event,
        });
        let alias = match qualifier {
            None => None,
            Some("view") if !lock(&self.without_alias).contains(name) => Some("view"),
            Some(other) => return not_found(&format!("{}:{other}", lambda::arn(name))),
        };
        let event = serde_json::from_slice(&request.body).unwrap_or_default();
        let plan = Plan {
            alias,
            ..lock(&self.plan).clone()
        };
        let invocation = self.lambda.invoke_with(name, &event, plan).await;
        match invocation.result {
            Ok(answer) => Response::new(200, answer.to_string()),
            Err(error) if error.error_type == "ResourceNotFoundException" => {
                not_found(&lambda::arn(name))
            }
            Err(error) => {
                let body = json!({"errorType": error.error_type, "errorMessage": error.message});
                Response::new(200, body.to_string()).with("x-amz-function-error", "Unhandled")
            }
        }
    }
}

fn not_found(arn: &str) -> Response {
    let message = format!("Function not found: {arn}");
    refusal(404, "ResourceNotFoundException", &message)
}

fn refusal(status: u16, kind: &str, message: &str) -> Response {
    let body = json!({"Type": "User", "Message": message});
    Response::new(status, body.to_string())
        .with("content-type", "application/json")
        .with("x-amzn-errortype", kind)
}
