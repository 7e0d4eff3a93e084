//! Answers a certificate authority's http-01 challenges from the key authorizations in the bucket.
//!
//! It reads one prefix of one bucket and does nothing else: wiring here, the rules in [`handler`].

mod event;
mod handler;
mod log;
mod store;

use std::env;

use lambda_runtime::{Error, run, service_fn};

use crate::store::Bucket;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log::init(env::var("AWS_LAMBDA_LOG_LEVEL").ok().as_deref());

    let bucket = env::var("CERTLOOP_BUCKET").unwrap_or_default();
    if bucket.is_empty() {
        return Err(
            "CERTLOOP_BUCKET is not set: it names the bucket that holds the key authorizations"
                .into(),
        );
    }

    let store = Bucket::open(bucket).await;
    run(service_fn(|event| handler::handle(event, &store))).await
}
