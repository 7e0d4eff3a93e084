//! Adapters to AWS: one service each, behind the ports of [`store`](crate::ports::store),
//! [`certificate_manager`](crate::ports::certificate_manager) and
//! [`load_balancer`](crate::ports::load_balancer).
//!
//! The SDK repeats the calls that are safe to repeat; where a repetition could leave something
//! behind, the adapter says so. Errors are distinguished by their code, because several important
//! ones are in no service's model.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use zeroize::Zeroizing;

use crate::values::problem::ServiceError;

mod certificate_manager;
mod error;
mod load_balancer;
mod messages;
mod s3;

pub use certificate_manager::CertificateManagerClient;
pub use error::service_error;
pub use load_balancer::LoadBalancerClient;

pub use s3::Bucket;

use error::unusable;

/// The way to AWS: one shared configuration, with one client per region, made on first use.
pub struct Aws {
    config: SdkConfig,
    certificate_managers: Mutex<HashMap<String, CertificateManagerClient>>,
    load_balancers: Mutex<HashMap<String, LoadBalancerClient>>,
}

impl Aws {
    /// Reads region, credentials and endpoints from the standard environment, as the SDK does.
    pub async fn load() -> Self {
        Self::load_as(None, None).await
    }

    /// Reads the standard environment as [`load`](Self::load) does, with this profile and region if
    /// given. The profile has priority over keys in the environment, as in the AWS command line.
    pub async fn load_as(profile: Option<&str>, region: Option<&str>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        let region = region.map(|region| Region::new(region.to_owned()));
        if let Some(region) = &region {
            loader = loader.region(region.clone());
        }
        if let Some(profile) = profile {
            let chain = DefaultRegionChain::builder().profile_name(profile).build();
            let region = match region {
                Some(region) => Some(region),
                None => chain.region().await,
            };
            let credentials = ProfileFileCredentialsProvider::builder()
                .configure(&ProviderConfig::without_region().with_region(region))
                .profile_name(profile)
                .build();
            loader = (loader.profile_name(profile)).credentials_provider(credentials);
        }
        let config = loader
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .read_timeout(ATTEMPT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build(),
            )
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .load()
            .await;
        Self::new(config)
    }

    fn new(config: SdkConfig) -> Self {
        Self {
            config,
            certificate_managers: Mutex::default(),
            load_balancers: Mutex::default(),
        }
    }

    /// Returns the configuration itself, for clients of services that no pass needs.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Returns the region the environment names.
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(AsRef::as_ref)
    }

    /// Returns a bucket of the environment's region. Secret objects are encrypted with the KMS key,
    /// if there is one.
    pub fn bucket(&self, bucket: String, kms_key_arn: Option<String>) -> Bucket {
        Bucket::new(&self.config, bucket, kms_key_arn)
    }

    /// Returns the certificate manager of a region. All clones for one region import one at a time.
    pub fn certificate_manager(&self, region: &str) -> CertificateManagerClient {
        let mut clients = self
            .certificate_managers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients
            .entry(region.to_owned())
            .or_insert_with(|| CertificateManagerClient::new(&self.in_region(region)))
            .clone()
    }

    /// Returns the load balancers of a region.
    pub fn load_balancer(&self, region: &str) -> LoadBalancerClient {
        let mut clients = self
            .load_balancers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients
            .entry(region.to_owned())
            .or_insert_with(|| LoadBalancerClient::new(&self.in_region(region)))
            .clone()
    }

    /// Returns the string of a secret in Secrets Manager, read in the region of its ARN.
    pub async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError> {
        const OPERATION: &str = "GetSecretValue";
        let mut parts = arn.split(':');
        let (Some("secretsmanager"), Some(region)) = (parts.nth(2), parts.next()) else {
            return Err(unusable(
                OPERATION,
                format!("{arn} is not the ARN of a secret"),
            ));
        };
        aws_sdk_secretsmanager::Client::new(&self.in_region(region))
            .get_secret_value()
            .secret_id(arn)
            .send()
            .await
            .map_err(|error| service_error(OPERATION, &error))?
            .secret_string
            .map(Zeroizing::new)
            .ok_or_else(|| unusable(OPERATION, format!("{arn} holds no string")))
    }

    fn in_region(&self, region: &str) -> SdkConfig {
        self.config
            .to_builder()
            .region(Region::new(region.to_owned()))
            .build()
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// For all attempts of one call.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 5;

#[cfg(test)]
mod canned;

#[cfg(test)]
mod tests {
    use super::canned::{Canned, CannedAnswer};
    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:eab-AbCdEf";

    #[tokio::test]
    async fn a_secret_is_read_in_the_region_of_its_arn() {
        let service =
            Canned::answering([CannedAnswer::json(200, r#"{"SecretString":"zWNDZM6e"}"#)]);
        let secret = Aws::new(service.config()).secret(SECRET).await.unwrap();
        assert_eq!(*secret, "zWNDZM6e");
        let [request] = service.requests();
        assert_eq!(
            request.header("x-amz-target"),
            Some("secretsmanager.GetSecretValue")
        );
        assert_eq!(request.json(), serde_json::json!({"SecretId": SECRET}));
        let authorization = request.header("authorization").unwrap();
        assert!(
            authorization.contains("/eu-west-3/secretsmanager/"),
            "{authorization}"
        );
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_says_why() {
        let service = Canned::answering([
            CannedAnswer::refusal(400, "AccessDeniedException", "not authorized"),
            CannedAnswer::json(200, r#"{"SecretBinary":"AAAA"}"#),
        ]);
        let aws = Aws::new(service.config());
        let denied = aws.secret(SECRET).await.unwrap_err();
        assert_eq!(
            denied.to_string(),
            "GetSecretValue: AccessDeniedException: not authorized"
        );
        assert_eq!(denied.status, Some(400));
        let binary = aws.secret(SECRET).await.unwrap_err();
        assert!(binary.message.ends_with("holds no string"), "{binary}");
        let elsewhere = aws
            .secret("arn:aws:iam::123456789012:user/me")
            .await
            .unwrap_err();
        assert!(
            elsewhere.message.ends_with("is not the ARN of a secret"),
            "{elsewhere}"
        );
        assert_eq!(service.requests::<2>().len(), 2);
    }

    #[tokio::test]
    async fn a_call_without_an_answer_has_no_code_and_says_what_kept_it() {
        let nobody = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        let refused = canned::config(&nobody);
        let error = Aws::new(refused).secret(SECRET).await.unwrap_err();
        assert_eq!((error.code.as_deref(), error.status), (None, None));
        assert!(error.message.starts_with("no answer: "), "{error}");
        assert!(error.message.contains("refused"), "{error}");

        let service = Canned::answering([CannedAnswer::Silence]);
        let slow = service
            .config()
            .to_builder()
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(Duration::from_millis(200))
                    .build(),
            )
            .build();
        let error = Aws::new(slow).secret(SECRET).await.unwrap_err();
        assert_eq!((error.code.as_deref(), error.status), (None, None));
        assert!(error.message.starts_with("no answer in time: "), "{error}");
        assert!(error.may_have_happened());
    }

    #[tokio::test]
    async fn an_answer_nobody_understands_may_have_been_a_success() {
        let service = Canned::answering([CannedAnswer::json(200, "<html>")]);
        let error = Aws::new(service.config()).secret(SECRET).await.unwrap_err();
        assert_eq!((error.code.as_deref(), error.status), (None, None));
        assert!(error.message.ends_with("cannot be understood"), "{error}");
    }

    #[test]
    fn clients_of_a_region_are_made_once() {
        let aws = Aws::new(canned::config("http://127.0.0.1:9"));
        assert_eq!(aws.region(), Some("eu-central-1"));
        for region in ["eu-central-1", "us-east-1", "eu-central-1"] {
            aws.certificate_manager(region);
            aws.load_balancer(region);
        }
        assert_eq!(aws.certificate_managers.lock().unwrap().len(), 2);
        assert_eq!(aws.load_balancers.lock().unwrap().len(), 2);
    }
}
