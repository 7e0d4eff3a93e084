//! The questions to AWS. Thin: what is asked, and what of the answer is kept.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_cloudwatch::primitives::DateTime as MetricTime;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_sdk_lambda::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_lambda::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_lambda::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ExpirationStatus, LifecycleRule, OwnershipControls, PublicAccessBlockConfiguration,
    ServerSideEncryptionConfiguration,
};
use certificates::adapters::aws::{Aws, service_error};
use certificates::ports::load_balancer::LoadBalancer;
use certificates::values::arn::{ListenerArn, LoadBalancerArn, TargetGroupArn};
use time::OffsetDateTime;

use super::Seen;
use super::bucket::{Bucket, Expiry};
use super::clock::Reading;
use super::functions::{Configuration, FoundFunction};
use super::route::Balancer;
use super::schedule::Schedule;

/// Clients for all that is looked at.
pub(crate) struct Look<'a> {
    aws: &'a Aws,
    s3: aws_sdk_s3::Client,
    lambda: aws_sdk_lambda::Client,
    scheduler: aws_sdk_scheduler::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    dated: Dated,
    functions: Mutex<HashMap<String, Seen<Vec<TargetGroupArn>>>>,
}

/// Returns what was asked for, or `None` where the service says by this code that it is not there.
fn unless<T, E>(
    operation: &'static str,
    sent: Result<T, SdkError<E>>,
    absent: &str,
) -> Seen<Option<T>>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match sent.map_err(|error| service_error(operation, &error)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code.as_deref() == Some(absent) => Ok(None),
        Err(error) => Err(error),
    }
}

fn seen<T, E>(operation: &'static str, sent: Result<T, SdkError<E>>) -> Seen<T>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    sent.map_err(|error| service_error(operation, &error))
}

impl<'a> Look<'a> {
    pub(crate) fn new(aws: &'a Aws) -> Self {
        let config = aws.config();
        // An endpoint of one's own rarely has a host name per bucket.
        let of_s3 = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(config.endpoint_url().is_some());
        Self {
            aws,
            s3: aws_sdk_s3::Client::from_conf(of_s3.build()),
            lambda: aws_sdk_lambda::Client::new(config),
            scheduler: aws_sdk_scheduler::Client::new(config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
            dated: Dated::default(),
            functions: Mutex::default(),
        }
    }

    pub(crate) async fn bucket(&self, name: &str) -> Bucket {
        let s3 = &self.s3;
        let (versioning, encryption, blocked, ownership, lifecycle, notification, policy) = tokio::join!(
            s3.get_bucket_versioning().bucket(name).send(),
            s3.get_bucket_encryption().bucket(name).send(),
            s3.get_public_access_block().bucket(name).send(),
            s3.get_bucket_ownership_controls().bucket(name).send(),
            s3.get_bucket_lifecycle_configuration().bucket(name).send(),
            s3.get_bucket_notification_configuration()
                .bucket(name)
                .send(),
            s3.get_bucket_policy().bucket(name).send(),
        );
        let encryption = unless(
            "GetBucketEncryption",
            encryption,
            "ServerSideEncryptionConfigurationNotFoundError",
        );
        let blocked = unless(
            "GetPublicAccessBlock",
            blocked,
            "NoSuchPublicAccessBlockConfiguration",
        );
        let ownership = unless(
            "GetBucketOwnershipControls",
            ownership,
            "OwnershipControlsNotFoundError",
        );
        let lifecycle = unless(
            "GetBucketLifecycleConfiguration",
            lifecycle,
            "NoSuchLifecycleConfiguration",
        );
        Bucket {
            name: name.to_owned(),
            versioning: seen("GetBucketVersioning", versioning).map(|it| {
                it.status()
                    .is_some_and(|status| status.as_str() == "Enabled")
            }),
            encryption: encryption
                .map(|it| encryption_by_default(it?.server_side_encryption_configuration?)),
            is_blocked: blocked.map(|it| {
                let block = it.and_then(|it| it.public_access_block_configuration);
                block.is_some_and(|block| blocks_all(&block))
            }),
            ownership: ownership.map(|it| ownership_of_objects(it?.ownership_controls?)),
            expiries: lifecycle.map(|it| {
                let rules = it.and_then(|it| it.rules).unwrap_or_default();
                rules.iter().filter_map(expiry).collect()
            }),
            tells_event_bridge: seen("GetBucketNotificationConfiguration", notification)
                .map(|it| it.event_bridge_configuration.is_some()),
            policy: unless("GetBucketPolicy", policy, "NoSuchBucketPolicy").map(|it| it?.policy),
        }
    }

    pub(crate) async fn function(&self, name: &str) -> FoundFunction {
        let lambda = &self.lambda;
        let sent = OffsetDateTime::now_utc();
        let configured = async {
            let asked = lambda.get_function_configuration().function_name(name);
            let told = asked
                .customize()
                .interceptor(self.dated.clone())
                .send()
                .await;
            self.dated.answered(sent, OffsetDateTime::now_utc());
            told
        };
        let (configuration, concurrency, policy) = tokio::join!(
            configured,
            lambda.get_function_concurrency().function_name(name).send(),
            lambda.get_policy().function_name(name).send(),
        );
        let text = |value: Option<String>| value.unwrap_or_default();
        FoundFunction {
            name: name.to_owned(),
            configuration: unless("GetFunctionConfiguration", configuration, NOT_FOUND).map(|it| {
                let it = it?;
                let variables = it.environment.and_then(|environment| environment.variables);
                Some(Configuration {
                    runtime: it
                        .runtime
                        .map(|runtime| runtime.as_str().to_owned())
                        .unwrap_or_default(),
                    architecture: (it.architectures.unwrap_or_default().first())
                        .map(|architecture| architecture.as_str().to_owned())
                        .unwrap_or_default(),
                    timeout: it.timeout.unwrap_or_default(),
                    memory: it.memory_size.unwrap_or_default(),
                    bucket: variables.and_then(|mut all| all.remove("CERTLOOP_BUCKET")),
                    state: it
                        .state
                        .map(|state| state.as_str().to_owned())
                        .unwrap_or_default(),
                    last_update: it
                        .last_update_status
                        .map(|status| status.as_str().to_owned())
                        .unwrap_or_default(),
                    reason: it.state_reason.or(it.last_update_status_reason),
                    modified: text(it.last_modified),
                    arn: unversioned(&text(it.function_arn)),
                    role: text(it.role),
                })
            }),
            reserved: unless("GetFunctionConcurrency", concurrency, NOT_FOUND)
                .map(|it| it?.reserved_concurrent_executions),
            policy: unless("GetPolicy", policy, NOT_FOUND).map(|it| it?.policy),
        }
    }

    /// Returns the version that an alias names.
    pub(crate) async fn alias(&self, function: &str, name: &str) -> Seen<Option<String>> {
        let sent = self
            .lambda
            .get_alias()
            .function_name(function)
            .name(name)
            .send()
            .await;
        unless("GetAlias", sent, NOT_FOUND).map(|it| it?.function_version)
    }

    pub(crate) async fn schedule(&self, named: Option<(String, String)>) -> Seen<Option<Schedule>> {
        let Some((group, name)) = named else {
            return Ok(None);
        };
        let sent = self
            .scheduler
            .get_schedule()
            .group_name(group)
            .name(name)
            .send()
            .await;
        unless("GetSchedule", sent, NOT_FOUND).map(|it| {
            let it = it?;
            Some(Schedule {
                is_enabled: it.state.is_none_or(|state| state.as_str() == "ENABLED"),
                expression: it.schedule_expression.unwrap_or_default(),
                target: it
                    .target
                    .as_ref()
                    .map(|target| target.arn.clone())
                    .unwrap_or_default(),
                input: it.target.and_then(|target| target.input),
                ends: it
                    .end_date
                    .and_then(|end| OffsetDateTime::from_unix_timestamp(end.secs()).ok()),
            })
        })
    }

    /// Returns when a metric was last more than zero, to five minutes.
    pub(crate) async fn last(
        &self,
        metric: (&str, &str),
        dimension: (&str, &str),
        since: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Seen<Option<OffsetDateTime>> {
        // No more than 1,440 values are given at once.
        let period = ((now - since).whole_seconds() / 1_400 / STEP + 1) * STEP;
        let points = self.points(metric, dimension, since, now, period).await?;
        let seen = points.into_iter().filter(|(_, sum)| *sum > 0.0);
        let begun = seen.map(|(at, _)| at).max();
        // It happened within the step that begins then.
        Ok(begun.map(|at| (at + time::Duration::seconds(period)).min(now)))
    }

    /// Returns the sum of a metric, or for what is a state the highest value, since then.
    pub(crate) async fn total(
        &self,
        metric: (&str, &str),
        dimension: (&str, &str),
        since: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Seen<Option<f64>> {
        let points = self.points(metric, dimension, since, now, 3_600).await?;
        let values = points.into_iter().map(|(_, value)| value);
        Ok(match IS_A_STATE.contains(&metric.1) {
            true => values.reduce(f64::max),
            false => values.reduce(|sum, value| sum + value),
        })
    }

    async fn points(
        &self,
        (namespace, name): (&str, &str),
        (dimension, value): (&str, &str),
        since: OffsetDateTime,
        now: OffsetDateTime,
        period: i64,
    ) -> Seen<Vec<(OffsetDateTime, f64)>> {
        let statistic = match IS_A_STATE.contains(&name) {
            true => Statistic::Maximum,
            false => Statistic::Sum,
        };
        let sent = self
            .cloudwatch
            .get_metric_statistics()
            .namespace(namespace)
            .metric_name(name)
            .dimensions(Dimension::builder().name(dimension).value(value).build())
            .start_time(MetricTime::from_secs(since.unix_timestamp()))
            .end_time(MetricTime::from_secs(now.unix_timestamp()))
            .period(i32::try_from(period).unwrap_or(i32::MAX))
            .statistics(statistic)
            .send()
            .await;
        let points = seen("GetMetricStatistics", sent)?
            .datapoints
            .unwrap_or_default();
        let point = |point: aws_sdk_cloudwatch::types::Datapoint| {
            let at = OffsetDateTime::from_unix_timestamp(point.timestamp?.secs()).ok()?;
            Some((at, point.sum.or(point.maximum)?))
        };
        Ok(points.into_iter().filter_map(point).collect())
    }

    /// Looks at a load balancer, at the rules of its ports and at what these listeners of it hold.
    pub(crate) async fn balancer(
        &self,
        arn: &LoadBalancerArn,
        listeners: &BTreeSet<ListenerArn>,
    ) -> Balancer {
        let region = self.aws.load_balancer(arn.region());
        let (exists, http, https) = tokio::join!(
            region.balancer(arn),
            region.rules_on(arn, 80),
            region.rules_on(arn, 443)
        );
        let mut held = Ok(Vec::new());
        let mut policies = Vec::new();
        for listener in listeners {
            // The look at what it holds reports a failure.
            if let Ok(Some(found)) = region.listener(listener).await {
                policies.extend(found.tls_policy.map(|policy| (listener.clone(), policy)));
            }
            match region.certificates(listener).await {
                Ok(holding) => {
                    if let Ok(all) = &mut held {
                        all.push(holding);
                    }
                }
                // Somebody deleted it: the next pass tells of that.
                Err(error) if error.code.as_deref() == Some("ListenerNotFound") => {}
                Err(error) => held = Err(error),
            }
        }
        let known = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(arn.region())
            .cloned();
        let functions = match known {
            Some(known) => known,
            None => {
                let found = region.function_groups().await;
                let mut all = self
                    .functions
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                all.insert(arn.region().to_owned(), found.clone());
                found
            }
        };
        Balancer {
            arn: arn.clone(),
            exists: exists.map(|it| it.is_some()),
            http,
            https,
            functions,
            held,
            policies,
        }
    }

    /// Returns what AWS's clock said.
    pub(crate) fn clock(&self) -> Option<Reading> {
        *self
            .dated
            .reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the algorithm by which objects are encrypted unless said otherwise, and its key.
fn encryption_by_default(
    configuration: ServerSideEncryptionConfiguration,
) -> Option<(String, Option<String>)> {
    let rule = configuration.rules.into_iter().next()?;
    let default = rule.apply_server_side_encryption_by_default?;
    Some((
        default.sse_algorithm.as_str().to_owned(),
        default.kms_master_key_id,
    ))
}

/// Whether public access lists and policies are blocked and ignored: all of the four.
fn blocks_all(block: &PublicAccessBlockConfiguration) -> bool {
    [
        block.block_public_acls,
        block.block_public_policy,
        block.ignore_public_acls,
        block.restrict_public_buckets,
    ] == [Some(true); 4]
}

fn ownership_of_objects(controls: OwnershipControls) -> Option<String> {
    let rule = controls.rules.into_iter().next()?;
    Some(rule.object_ownership.as_str().to_owned())
}

/// Returns what a rule deletes by age, if it is on and for all objects under a prefix.
fn expiry(rule: &LifecycleRule) -> Option<Expiry> {
    if rule.status != ExpirationStatus::Enabled {
        return None;
    }
    let filter = rule.filter.as_ref();
    let and = filter.and_then(|filter| filter.and.as_ref());
    // Nothing of ours has tags.
    let is_by_tag = filter.is_some_and(|filter| filter.tag.is_some())
        || and.is_some_and(|and| and.tags.is_some());
    if is_by_tag {
        return None;
    }
    let prefix = filter.and_then(|filter| filter.prefix.clone());
    let prefix = prefix.or_else(|| and.and_then(|and| and.prefix.clone()));
    #[allow(deprecated)] // older rules have it there
    let prefix = prefix.or_else(|| rule.prefix.clone());
    Some(Expiry {
        prefix: prefix.unwrap_or_default(),
        days: rule
            .expiration
            .as_ref()
            .and_then(|expiration| expiration.days),
        noncurrent_days: (rule.noncurrent_version_expiration.as_ref())
            .and_then(|expiration| expiration.noncurrent_days),
    })
}

/// Returns a function's ARN without a version.
fn unversioned(arn: &str) -> String {
    arn.splitn(8, ':').take(7).collect::<Vec<_>>().join(":")
}

/// Notes the date of an answer.
#[derive(Clone, Debug, Default)]
struct Dated {
    said: Arc<Mutex<Option<OffsetDateTime>>>,
    reading: Arc<Mutex<Option<Reading>>>,
}

impl Dated {
    fn answered(&self, sent: OffsetDateTime, answered: OffsetDateTime) {
        let said = self
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(said) = said {
            *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reading {
                sent,
                answered,
                said,
            });
        }
    }
}

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "Dated"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let date = date.and_then(|date| OffsetDateTime::from_unix_timestamp(date.secs()).ok());
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

impl fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

/// Of Lambda and of EventBridge Scheduler.
const NOT_FOUND: &str = "ResourceNotFoundException";
/// Metrics that say how something is, not how often it was.
const IS_A_STATE: [&str; 3] = [
    "ApproximateNumberOfMessagesVisible",
    "MessagesFailed",
    "Strays",
];
/// In seconds: metrics are kept by the minute for 15 days, and nobody asks more exactly.
const STEP: i64 = 300;
