//! Answers a certificate authority's http-01 challenges from the key authorizations in the bucket.
//!
//! It reads one prefix of one bucket and does nothing else. This file is the wiring; the rules are
//! in [`handler`].

mod bucket;
mod event;
mod handler;
#[allow(dead_code, unreachable_pub, reason = "the library needs more of them")]
mod shared;
mod store;

use std::env;

use lambda_runtime::{Error, run, service_fn};

use crate::bucket::Bucket;
use crate::shared::log;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let lookup = |name: &str| env::var(name).ok();
    log::init(
        lookup("AWS_LAMBDA_LOG_LEVEL").as_deref(),
        env!("CARGO_CRATE_NAME"),
    );
    let store = Bucket::open(lookup)?;
    run(service_fn(|event| handler::handle(event, &store))).await
}
