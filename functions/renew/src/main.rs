//! The renewing function: schedule, bucket events and requests by hand, each one pass over the certificates that are due.
//!
//! Wiring only: what it understands is in [`event`], what it does in [`handler`] and the `certificates` library.

mod event;
mod handler;

use std::env;

use certificates::aws::Aws;
use certificates::live::Live;
use lambda_runtime::{Error, run, service_fn};

use crate::handler::Installation;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let lookup = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    certificates::log::init(
        lookup("AWS_LAMBDA_LOG_LEVEL").as_deref(),
        env!("CARGO_CRATE_NAME"),
    );
    let bucket = lookup("CERTLOOP_BUCKET")
        .ok_or("CERTLOOP_BUCKET is not set: name the bucket with settings.json")?;
    if lookup("CERTLOOP_QUEUE_URL").is_some() {
        return Err(
            "CERTLOOP_QUEUE_URL: spreading a pass over a queue is not yet built; leave it unset"
                .into(),
        );
    }
    let aws = Aws::load().await;
    let region = aws
        .region()
        .ok_or("no AWS region: set AWS_REGION")?
        .to_owned();
    let ports = Live::new(aws, bucket.clone(), lookup("CERTLOOP_KMS_KEY_ARN"));
    let installation = Installation {
        ports,
        bucket,
        region,
    };
    run(service_fn(|event| installation.handle(event))).await
}
