//! Asking the renewing function: by AWS Lambda, or the very same in this process (`--local`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::primitives::Blob;
use certificates::adapters::aws::{Aws, service_error};
use certificates::adapters::live::Live;
use certificates::invocation::{self, Invoked};
use certificates::values::clock::Clock;
use certificates::values::problem::ServiceError;
use serde::Deserialize;
use serde_json::Value;

use crate::cli_error::{CliError, NO_BUCKET};

/// What answers events.
pub(crate) enum Function {
    /// The function on AWS Lambda.
    Remote(Remote),
    /// This process.
    Local(Box<invocation::Installation<Live>>),
}

/// The function on AWS Lambda.
pub(crate) struct Remote {
    /// For what only looks: asked again when no answer comes.
    looks: Client,
    /// For what does something: asked once, since it may have been done although no answer came.
    acts: Client,
    name: String,
    /// Whether the function has the alias that only looks, as far as is known.
    has_view: AtomicBool,
}

impl Function {
    pub(crate) fn remote(config: &SdkConfig, name: String) -> Self {
        let client = |attempts| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(LONGEST)
                .operation_attempt_timeout(LONGEST)
                .operation_timeout(LONGEST);
            let config = Builder::from(config)
                .retry_config(RetryConfig::standard().with_max_attempts(attempts))
                .timeout_config(timeouts.build())
                // Nothing comes until the function has ended.
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
            Client::from_conf(config.build())
        };
        Self::Remote(Remote {
            looks: client(3),
            acts: client(1),
            name,
            has_view: AtomicBool::new(true),
        })
    }

    pub(crate) fn local(
        aws: Aws,
        bucket: String,
        region: String,
        kms_key_arn: Option<String>,
    ) -> Self {
        Self::Local(Box::new(invocation::Installation {
            ports: Live::new(aws, bucket.clone(), kms_key_arn),
            bucket,
            region,
        }))
    }

    /// Sends an event and returns the function's answer.
    pub(crate) async fn ask(&self, event: &Value) -> Result<Value, CliError> {
        match self {
            Self::Remote(remote) => remote.ask(event).await,
            Self::Local(installation) => {
                let clock = Clock::start(SystemTime::now() + LONGEST);
                let invoked = Invoked {
                    function: "certloop",
                    arn: "",
                };
                let answer = installation.answer_compiled(event, clock, invoked).await;
                let answer = answer.map_err(|failure| {
                    let error = FunctionError {
                        error_type: failure.kind().to_owned(),
                        error_message: failure.to_string(),
                    };
                    let bucket = &installation.bucket;
                    error_of_function(&format!("this process (bucket {bucket})"), &error)
                })?;
                Ok(answer.result)
            }
        }
    }
}

/// Reads an answer of the function as what it is.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer).map_err(|error| {
        CliError::failed(format!(
            "the function's answer is not understood ({error}): is the function of another version \
             than this command, {}?",
            env!("CARGO_PKG_VERSION")
        ))
    })
}

impl Remote {
    async fn ask(&self, event: &Value) -> Result<Value, CliError> {
        let looks = only_looks(event);
        let client = if looks { &self.looks } else { &self.acts };
        if looks && self.has_view.load(Ordering::Relaxed) {
            match self.invoke(client, event, Some(VIEW)).await {
                // No such alias, or no right to it: an installation not made by our module.
                Err(Refusal::Service(error)) if is_about_the_alias(&error) => {
                    self.has_view.store(false, Ordering::Relaxed);
                }
                outcome => return outcome.map_err(|refusal| self.cli_error(refusal, looks)),
            }
        }
        let outcome = self.invoke(client, event, None).await;
        outcome.map_err(|refusal| self.cli_error(refusal, looks))
    }

    async fn invoke(
        &self,
        client: &Client,
        event: &Value,
        alias: Option<&str>,
    ) -> Result<Value, Refusal> {
        let invoke = client.invoke().function_name(&self.name);
        let invoke = invoke.set_qualifier(alias.map(str::to_owned));
        let sent = invoke.payload(Blob::new(event.to_string())).send().await;
        let answer = sent.map_err(|error| Refusal::Service(service_error("Invoke", &error)))?;
        let payload = answer.payload.unwrap_or_else(|| Blob::new("null"));
        let payload = serde_json::from_slice(payload.as_ref())
            .map_err(|error| Refusal::Function(FunctionError::of("the answer", &error)))?;
        match answer.function_error {
            None if !is_refusal(&payload) => Ok(payload),
            _ => Err(Refusal::Function(
                serde_json::from_value(payload).unwrap_or_default(),
            )),
        }
    }

    fn cli_error(&self, refusal: Refusal, looks: bool) -> CliError {
        let name = &self.name;
        match refusal {
            Refusal::Service(error) => {
                let cli_error =
                    CliError::failed(format!("the function {name} could not be asked: {error}"));
                error_of_service(cli_error, &error, looks)
            }
            Refusal::Function(error) => error_of_function(&format!("the function {name}"), &error),
        }
    }
}

/// Why no answer came.
enum Refusal {
    /// Lambda, or nobody at all.
    Service(ServiceError),
    /// The function itself.
    Function(FunctionError),
}

/// What Lambda answers in place of a function that failed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FunctionError {
    error_type: String,
    error_message: String,
}

impl FunctionError {
    fn of(what: &str, error: &serde_json::Error) -> Self {
        Self {
            error_type: String::new(),
            error_message: format!("{what} is no JSON: {error}"),
        }
    }
}

/// `who` answers events: the function, or this process.
fn error_of_function(who: &str, error: &FunctionError) -> CliError {
    let FunctionError {
        error_type,
        error_message,
    } = error;
    match error_type.as_str() {
        "certloop.CannotRun" if error_message.contains(NO_BUCKET) => {
            CliError::failed(format!("{who} cannot run: its bucket does not exist"))
                .try_next("certloop doctor")
        }
        "certloop.CannotRun" => CliError::failed(format!("{who} cannot run: {error_message}"))
            .try_next("certloop doctor"),
        "certloop.NotPermitted" => CliError::failed(format!("{who} refused: {error_message}")),
        "certloop.NotUnderstood" => not_understood(who, error_message),
        _ if error_message.contains("Task timed out") => CliError::failed(format!(
            "{who} ran out of time ({error_message}); what it began is recorded, and the next pass \
             continues it"
        ))
        .try_next("certloop status"),
        _ => {
            let said = [error_type.as_str(), error_message.as_str()];
            let said: Vec<_> = said.into_iter().filter(|text| !text.is_empty()).collect();
            CliError::failed(format!("{who} failed: {}", said.join(": ")))
                .try_next("certloop doctor")
                .try_next("its log in CloudWatch, or the same command with --local")
        }
    }
}

/// Makes the error of a request that renew does not take: a wrong value, which the sentence names,
/// or a request that an older build does not know.
fn not_understood(who: &str, sentence: &str) -> CliError {
    match sentence.split_once(". Understood are: ") {
        None => CliError::misused(sentence),
        Some((reason, _)) => {
            let version = env!("CARGO_PKG_VERSION");
            CliError::misused(format!("{who} does not know this command: {reason}")).try_next(
                format!("to deploy the function in the version of this command, {version}"),
            )
        }
    }
}

/// `looks`: the request changes nothing.
fn error_of_service(cli_error: CliError, error: &ServiceError, looks: bool) -> CliError {
    match error.code.as_deref() {
        Some("ResourceNotFoundException") => cli_error
            .try_next("another --function, --region or --profile: no function has this name"),
        Some(
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException",
        ) => cli_error
            .try_next("other credentials (--profile, AWS_PROFILE): they need lambda:InvokeFunction")
            .try_next("aws sso login, if you sign in that way"),
        Some(_) if error.is_throttling() => cli_error.try_next("the command again in a minute"),
        Some(_) => cli_error.try_next("certloop doctor"),
        None if error.message.contains("redential") => cli_error
            .try_next("aws sso login, or a profile that has credentials: --profile, AWS_PROFILE"),
        None if error.message.contains("egion") => {
            cli_error.try_next("--region REGION, or the environment variable AWS_REGION")
        }
        None if looks => cli_error
            .try_next("the command again, if --region is right: the network may have failed")
            .try_next("--local, which does the same in this process"),
        None => cli_error
            .try_next("certloop status, before you repeat the command: it may have been done")
            .try_next("--local, which does the same in this process"),
    }
}

/// Whether answering the event changes nothing, so that it may be asked through the alias, and
/// again.
fn only_looks(event: &Value) -> bool {
    let action = event.get("action").and_then(Value::as_str);
    matches!(action, Some("status" | "plan" | "check"))
}

/// Whether an answer says why there is none: what is asked through the alias and not understood or
/// not permitted is no error of the function.
fn is_refusal(answer: &Value) -> bool {
    answer.get("errorType").is_some_and(Value::is_string)
}

fn is_about_the_alias(error: &ServiceError) -> bool {
    matches!(
        error.code.as_deref(),
        Some("ResourceNotFoundException" | "AccessDeniedException")
    )
}

/// The alias by which the function only looks.
const VIEW: &str = "view";
/// As long as any invocation can take.
const LONGEST: Duration = Duration::from_secs(15 * 60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli_error::Ends;

    fn service(code: Option<&str>, message: &str) -> ServiceError {
        ServiceError {
            operation: "Invoke",
            code: code.map(str::to_owned),
            message: message.to_owned(),
            status: None,
        }
    }

    #[test]
    fn only_what_looks_may_be_asked_twice() {
        for action in ["status", "plan", "check"] {
            assert!(only_looks(&json!({"action": action})), "{action}");
        }
        for action in ["reconcile", "issue", "rollback", "revoke", "remove"] {
            assert!(!only_looks(&json!({"action": action})), "{action}");
        }
    }

    #[test]
    fn each_failure_of_the_function_is_told_with_what_to_try() {
        let of = |kind: &str, message: &str| {
            let error = json!({"errorType": kind, "errorMessage": message});
            error_of_function("the function f", &serde_json::from_value(error).unwrap())
        };
        let cannot = of("certloop.CannotRun", "settings.json is not in the bucket");
        assert!(cannot.what.contains("settings.json"), "{cannot}");
        assert_eq!(cannot.next, ["certloop doctor"]);
        let late = of(
            "Sandbox.Timedout",
            "RequestId: 1 Error: Task timed out after 3.00 seconds",
        );
        assert!(late.what.contains("ran out of time"), "{late}");
        let value = of("certloop.NotUnderstood", "at: 2020-01-01T00:00:00Z is past");
        assert_eq!(
            value.to_string(),
            "certloop: at: 2020-01-01T00:00:00Z is past"
        );
        assert_eq!(value.ends, Ends::Misused);
        let older = of(
            "certloop.NotUnderstood",
            "the action \"x\" is unknown. Understood are: y",
        );
        assert!(!older.to_string().contains("Understood"), "{older}");
        let died = of("Runtime.ExitError", "signal: killed");
        assert!(
            died.what.contains("Runtime.ExitError: signal: killed"),
            "{died}"
        );
    }

    #[test]
    fn a_refusal_through_the_alias_is_told_from_an_answer() {
        let refusal = json!({"errorType": "certloop.NotUnderstood", "errorMessage": "x"});
        assert!(is_refusal(&refusal));
        for answer in [
            json!({"certificates": []}),
            json!(null),
            json!([1]),
            json!({"errorType": null}),
        ] {
            assert!(!is_refusal(&answer), "{answer}");
        }
    }

    #[test]
    fn each_refusal_of_the_service_is_told_with_what_to_try() {
        let of = |error: &ServiceError| {
            let cli_error = error_of_service(CliError::failed("x"), error, false);
            cli_error.next.join(" ")
        };
        let missing = service(Some("ResourceNotFoundException"), "Function not found");
        assert!(of(&missing).contains("--function"));
        let denied = service(Some("AccessDeniedException"), "not authorized");
        assert!(of(&denied).contains("lambda:InvokeFunction"));
        let nobody = service(None, "no answer: no credentials provider");
        assert!(of(&service(None, "no answer")).contains("certloop status"));
        assert!(of(&nobody).contains("aws sso login"));
        let unanswered = service(None, "no answer");
        let looking = error_of_service(CliError::failed("x"), &unanswered, true);
        assert!(!looking.next.join(" ").contains("certloop status"));
    }
}
