//! The renewing function: it handles the schedule, bucket events and manual requests. Each is one
//! pass over the due certificates.
//!
//! This file is only the wiring; the work is in [`certificates::invocation`].

use std::env;
use std::io::Write;

use certificates::adapters::aws::Aws;
use certificates::adapters::live::Live;
use certificates::invocation::{Installation, InvocationError, Invoked};
use certificates::values::clock::Clock;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;

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
    run(service_fn(|event| handle(&installation, event))).await
}

async fn handle(
    installation: &Installation<Live>,
    event: LambdaEvent<Value>,
) -> Result<Value, Diagnostic> {
    let LambdaEvent { payload, context } = event;
    let clock = Clock::start(context.deadline());
    let invoked = Invoked {
        function: &context.env_config.function_name,
        arn: &context.invoked_function_arn,
    };
    let answer = installation.answer(&payload, clock, invoked).await;
    let answer = answer.map_err(|failure| diagnostic(&failure))?;
    // The embedded metric format must be a bare line, so it does not go through tracing.
    if let Some(line) = answer.metrics
        && let Err(error) = writeln!(std::io::stdout(), "{line}")
    {
        tracing::warn!(%error, "metrics not written");
    }
    Ok(answer.result)
}

fn diagnostic(failure: &InvocationError) -> Diagnostic {
    Diagnostic {
        error_type: failure.kind().to_owned(),
        error_message: failure.to_string(),
    }
}
