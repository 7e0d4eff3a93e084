//! The smallest possible function: the start of the others is measured against it, and the
//! stand-ins are tested with it.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(async |event: LambdaEvent<Value>| {
        let (event, context) = event.into_parts();
        match event["do"].as_str() {
            Some("fail") => Err(Error::from("asked to fail")),
            Some("exit") => std::process::exit(3),
            Some("sleep") => {
                tokio::time::sleep(std::time::Duration::from_secs(600)).await;
                Ok(Value::Null)
            }
            _ => Ok(json!({
                "statusCode": 200,
                "headers": {"content-type": "application/json"},
                "body": json!({
                    "event": event,
                    "deadline": context.deadline,
                    "function": context.invoked_function_arn,
                    "now": std::time::SystemTime::now()
                        .duration_since(std::time::UNIX_EPOCH)
                        .map(|now| now.as_millis() as u64)
                        .unwrap_or_default(),
                }).to_string(),
            })),
        }
    }))
    .await
}
