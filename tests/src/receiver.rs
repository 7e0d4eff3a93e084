//! A receiver of webhooks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::net::TcpListener;

use crate::http::{self, Request, Response, Serving};

/// A chat or a program that accepts what is posted to it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Mutex<Heard>>,
    _serving: Serving,
}

#[derive(Debug)]
struct Heard {
    posts: Vec<Post>,
    status: u16,
}

/// What was posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// Path and query.
    pub target: String,
    /// The header that stays the same when a message is repeated.
    pub id: String,
    /// The body.
    pub body: Value,
    /// The status of its answer.
    pub status: u16,
}

impl Receiver {
    /// Starts one that accepts everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Heard {
            posts: Vec::new(),
            status: 200,
        }));
        let heard = shared.clone();
        let serving = http::listen(listener, move |stream, _| {
            let heard = heard.clone();
            async move {
                let _ = http::serve(stream, |request| {
                    let answer = hear(&heard, &request);
                    async move { Some(answer) }
                })
                .await;
            }
        });
        Self {
            address,
            shared,
            _serving: serving,
        }
    }

    /// Returns a URL to post to.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.shared.lock().unwrap().status = status;
    }

    /// Returns everything that was posted so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.lock().unwrap().posts.clone()
    }

    /// Returns what was posted to one path and accepted.
    pub fn taken(&self, path: &str) -> Vec<Post> {
        let mut posts = self.posts();
        posts.retain(|post| post.target == path && post.status == 200);
        posts
    }
}

fn hear(shared: &Mutex<Heard>, request: &Request) -> Response {
    let mut shared = shared.lock().unwrap();
    let status = shared.status;
    shared.posts.push(Post {
        target: request.target.clone(),
        id: request
            .header("idempotency-key")
            .unwrap_or_default()
            .to_owned(),
        body: serde_json::from_slice(&request.body).unwrap_or_default(),
        status,
    });
    Response::new(status, "")
}
