//! AWS Certificate Manager of one region. It accepts one import per second.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_acm::Client;
use aws_sdk_acm::config::Builder;
use aws_sdk_acm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_acm::primitives::{Blob, DateTime};
use aws_sdk_acm::types::builders::TagBuilder;
use aws_sdk_acm::types::{CertificateType, Filters, KeyAlgorithm, Tag};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::error::{about, service_error, unusable};
use crate::ports::certificate_manager::{
    CertificateManager, Deletion, Described, Listed, Material,
};
use crate::values::arn::CertificateArn;
use crate::values::problem::ServiceError;

/// The certificate manager of one region. Clones take turns for the calls that the service allows
/// once a second.
#[derive(Clone)]
pub struct CertificateManagerClient {
    client: Client,
    imports: Arc<Mutex<()>>,
    listings: Arc<Mutex<()>>,
    pace: Pace,
}

impl CertificateManagerClient {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self {
            client: Client::new(config),
            imports: Arc::default(),
            listings: Arc::default(),
            pace: Pace::ONE_A_SECOND,
        }
    }

    /// Imports once, with the SDK's retries off: they cannot distinguish a lost answer from a
    /// refusal.
    async fn import(
        &self,
        over: Option<&CertificateArn>,
        material: &Material<'_>,
        tags: &BTreeMap<String, String>,
        repeat: Repeat,
    ) -> Result<Option<String>, ServiceError> {
        // Held during the waits: the next caller would only be throttled too.
        let _turn = self.imports.lock().await;
        let chain = Some(material.chain).filter(|chain| !chain.is_empty());
        let mut request = self
            .client
            .import_certificate()
            .set_certificate_arn(over.map(|arn| arn.as_str().to_owned()))
            .certificate(Blob::new(material.certificate))
            .set_certificate_chain(chain.map(Blob::new))
            .private_key(Blob::new(material.private_key));
        for (key, value) in tags {
            let tag = Tag::builder().key(key).value(value).build();
            request = request.tags(tag.map_err(|error| unusable(IMPORT, error.to_string()))?);
        }
        let output = self
            .pace
            .call(IMPORT, repeat, async || {
                request
                    .clone()
                    .customize()
                    .config_override(once())
                    .send()
                    .await
            })
            .await?;
        Ok(output.certificate_arn)
    }
}

impl CertificateManager for CertificateManagerClient {
    async fn import_new(
        &self,
        material: &Material<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateArn, ServiceError> {
        let arn = self
            .import(None, material, tags, Repeat::WhenThrottled)
            .await?
            .ok_or_else(|| unusable(IMPORT, "the answer has no CertificateArn"))?;
        arn.parse()
            .map_err(|error| unusable(IMPORT, format!("the answer: {error}")))
    }

    async fn import_over(
        &self,
        arn: &CertificateArn,
        material: &Material<'_>,
    ) -> Result<(), ServiceError> {
        self.import(Some(arn), material, &BTreeMap::new(), Repeat::WhenTransient)
            .await?;
        Ok(())
    }

    async fn describe(&self, arn: &CertificateArn) -> Result<Option<Described>, ServiceError> {
        const OPERATION: &str = "DescribeCertificate";
        let sent = self
            .client
            .describe_certificate()
            .certificate_arn(arn.as_str())
            .send()
            .await;
        let Some(output) = absent_as_none(OPERATION, sent)? else {
            return Ok(None);
        };
        let detail = output
            .certificate
            .ok_or_else(|| unusable(OPERATION, "the answer has no Certificate"))?;
        Ok(Some(Described {
            serial: detail.serial.as_deref().and_then(der_serial),
            in_use_by: detail.in_use_by.unwrap_or_default(),
            names: names(
                detail.domain_name,
                detail.subject_alternative_names.unwrap_or_default(),
            ),
            imported_at: detail.imported_at.and_then(instant),
            not_after: detail.not_after.and_then(instant),
            issuer: detail.issuer,
        }))
    }

    async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
        let sent = self
            .client
            .list_tags_for_certificate()
            .certificate_arn(arn.as_str())
            .send()
            .await;
        let output = absent_as_none("ListTagsForCertificate", sent)?;
        Ok(output.map(|output| {
            let tags = output.tags.unwrap_or_default().into_iter();
            tags.map(|tag| (tag.key, tag.value.unwrap_or_default()))
                .collect()
        }))
    }

    async fn change_tags(
        &self,
        arn: &CertificateArn,
        gone: &[String],
        set: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        const REMOVE: &str = "RemoveTagsFromCertificate";
        const ADD: &str = "AddTagsToCertificate";
        let built = |operation, tag: TagBuilder| {
            tag.build()
                .map_err(|error| unusable(operation, error.to_string()))
        };
        if !gone.is_empty() {
            // A key alone removes the tag with any value.
            let tags = gone
                .iter()
                .map(|key| built(REMOVE, Tag::builder().key(key)));
            self.client
                .remove_tags_from_certificate()
                .certificate_arn(arn.as_str())
                .set_tags(Some(tags.collect::<Result<_, _>>()?))
                .send()
                .await
                .map_err(|error| service_error(REMOVE, &error))?;
        }
        let tags = set.iter();
        let tags = tags.map(|(key, value)| built(ADD, Tag::builder().key(key).value(value)));
        self.client
            .add_tags_to_certificate()
            .certificate_arn(arn.as_str())
            .set_tags(Some(tags.collect::<Result<_, _>>()?))
            .send()
            .await
            .map_err(|error| service_error(ADD, &error))?;
        Ok(())
    }

    async fn leaf_pem(&self, arn: &CertificateArn) -> Result<Option<String>, ServiceError> {
        const OPERATION: &str = "GetCertificate";
        let sent = self
            .client
            .get_certificate()
            .certificate_arn(arn.as_str())
            .send()
            .await;
        let Some(output) = absent_as_none(OPERATION, sent)? else {
            return Ok(None);
        };
        match output.certificate {
            Some(pem) => Ok(Some(pem)),
            None => Err(unusable(OPERATION, "the answer has no Certificate")),
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        const OPERATION: &str = "ListCertificates";
        let _turn = self.listings.lock().await;
        // Without this filter, only RSA certificates of up to 2048 bits are listed.
        let key_types = KeyAlgorithm::values().iter().copied();
        let filters = Filters::builder()
            .set_key_types(Some(key_types.map(KeyAlgorithm::from).collect()))
            .build();
        let mut request = self
            .client
            .list_certificates()
            .includes(filters)
            .max_items(PAGE);
        let mut listed = Vec::new();
        loop {
            let page = self
                .pace
                .call(OPERATION, Repeat::WhenTransient, async || {
                    request
                        .clone()
                        .customize()
                        .config_override(once())
                        .send()
                        .await
                })
                .await?;
            for summary in page.certificate_summary_list.unwrap_or_default() {
                if !matches!(summary.r#type, None | Some(CertificateType::Imported)) {
                    continue;
                }
                let arn = summary
                    .certificate_arn
                    .ok_or_else(|| unusable(OPERATION, "an entry has no CertificateArn"))?;
                let complete = summary.has_additional_subject_alternative_names == Some(false);
                listed.push(Listed {
                    arn: arn
                        .parse()
                        .map_err(|error| unusable(OPERATION, format!("an entry: {error}")))?,
                    names: summary
                        .subject_alternative_name_summaries
                        .filter(|_| complete)
                        .map(|alternatives| names(summary.domain_name, alternatives)),
                    imported_at: summary.imported_at.and_then(instant),
                });
            }
            match page.next_token.filter(|token| !token.is_empty()) {
                Some(token) => request = request.next_token(token),
                None => return Ok(listed),
            }
        }
    }

    async fn delete(&self, arn: &CertificateArn) -> Result<Deletion, ServiceError> {
        let sent = self
            .client
            .delete_certificate()
            .certificate_arn(arn.as_str())
            .send()
            .await;
        match sent.map_err(|error| service_error("DeleteCertificate", &error)) {
            Ok(_) => Ok(Deletion::Done),
            Err(error) => match error.code.as_deref() {
                Some("ResourceNotFoundException") => Ok(Deletion::Done),
                Some("ResourceInUseException" | "ConflictException") => Ok(Deletion::InUse),
                _ => Err(error),
            },
        }
    }
}

/// Returns a serial number as the hex of its DER content. A zero byte comes first where the number
/// would otherwise be negative. `None` when the text is not a number.
fn der_serial(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .filter(|char| !matches!(char, ':' | ' '))
        .map(|char| char.to_ascii_lowercase())
        .collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    let padding = match (significant.len() % 2, significant.as_bytes().first()) {
        (_, None) => "00",
        (1, _) => "0",
        (_, Some(b'8'..)) => "00",
        _ => "",
    };
    Some(format!("{padding}{significant}"))
}

fn absent_as_none<T, E>(
    operation: &'static str,
    sent: Result<T, SdkError<E>>,
) -> Result<Option<T>, ServiceError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match sent.map_err(|error| service_error(operation, &error)) {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.code.as_deref() == Some("ResourceNotFoundException") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns each name once, in lower case.
fn names(domain_name: Option<String>, alternatives: Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in alternatives.into_iter().chain(domain_name) {
        let name = name.to_ascii_lowercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn instant(moment: DateTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(moment.as_nanos()).ok()
}

/// Returns the override that turns the SDK's retries off, for calls that [`Pace`] repeats or that
/// must not be repeated.
fn once() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}

/// The failures after which a call is repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Only failures that say that the call was not accepted.
    WhenThrottled,
    /// Also failures after which it is unknown whether the call took effect.
    WhenTransient,
}

/// How to repeat a call that is allowed once a second.
#[derive(Clone, Copy)]
struct Pace {
    /// The wait after the first refusal.
    first: Duration,
    /// The longest wait.
    longest: Duration,
    /// No repetition starts later than this.
    total: Duration,
}

impl Pace {
    const ONE_A_SECOND: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(4),
        total: Duration::from_secs(300),
    };

    async fn call<T, E>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        send: impl AsyncFn() -> Result<T, SdkError<E>>,
    ) -> Result<T, ServiceError>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let begun = Instant::now();
        let mut wait = self.first;
        let mut transient_left = TRANSIENT_ATTEMPTS;
        loop {
            let error = match send().await {
                Ok(output) => return Ok(output),
                Err(error) => service_error(operation, &error),
            };
            let again = match error.is_throttling() {
                true => true,
                false => {
                    repeat == Repeat::WhenTransient && is_transient(&error) && {
                        transient_left -= 1;
                        transient_left > 0
                    }
                }
            };
            let pause = about(wait);
            if !again || begun.elapsed() + pause > self.total {
                return Err(error);
            }
            debug!(operation, code = error.code, "waiting to call again");
            sleep(pause).await;
            wait = wait.mul_f64(1.25).min(self.longest);
        }
    }
}

/// Whether another try may succeed.
fn is_transient(error: &ServiceError) -> bool {
    error.may_have_happened() || error.code.as_deref() == Some("ConflictException")
}

const IMPORT: &str = "ImportCertificate";
/// The most entries that the service returns at once.
const PAGE: i32 = 1000;
const TRANSIENT_ATTEMPTS: u32 = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::canned::{Canned, CannedAnswer};
    use super::*;

    const ARN: &str =
        "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012";
    const MATERIAL: Material<'_> = Material {
        certificate: "leaf",
        chain: "chain",
        private_key: "key",
    };

    fn client(service: &Canned) -> CertificateManagerClient {
        CertificateManagerClient {
            pace: Pace {
                first: Duration::from_millis(1),
                longest: Duration::from_millis(2),
                total: Duration::from_secs(60),
            },
            ..CertificateManagerClient::new(&service.config())
        }
    }

    fn arn() -> CertificateArn {
        ARN.parse().unwrap()
    }

    fn imported() -> CannedAnswer {
        CannedAnswer::json(200, &json!({"CertificateArn": ARN}).to_string())
    }

    fn throttled() -> CannedAnswer {
        CannedAnswer::refusal(400, "ThrottlingException", "Rate exceeded")
    }

    fn denied() -> CannedAnswer {
        CannedAnswer::refusal(
            400,
            "AccessDeniedException",
            "not authorized to perform: acm:...",
        )
    }

    fn not_found() -> CannedAnswer {
        CannedAnswer::refusal(
            400,
            "ResourceNotFoundException",
            "Could not find certificate",
        )
    }

    #[tokio::test]
    async fn a_new_certificate_carries_its_parts_and_tags() {
        let service = Canned::answering([imported()]);
        let tags = BTreeMap::from([("certloop:certificate".to_owned(), "shop".to_owned())]);
        let imported = client(&service).import_new(&MATERIAL, &tags).await.unwrap();
        assert_eq!(imported, arn());
        let [request] = service.requests();
        assert_eq!(
            request.header("x-amz-target"),
            Some("CertificateManager.ImportCertificate")
        );
        assert_eq!(
            request.json(),
            json!({
                "Certificate": "bGVhZg==",
                "CertificateChain": "Y2hhaW4=",
                "PrivateKey": "a2V5",
                "Tags": [{"Key": "certloop:certificate", "Value": "shop"}],
            })
        );
    }

    #[tokio::test]
    async fn a_throttled_import_waits_and_goes_on() {
        let service = Canned::answering([
            throttled(),
            throttled(),
            throttled(),
            throttled(),
            throttled(),
            throttled(),
            imported(),
        ]);
        client(&service)
            .import_new(&MATERIAL, &BTreeMap::new())
            .await
            .unwrap();
        service.requests::<7>();
    }

    #[tokio::test]
    async fn a_throttled_import_does_not_wait_for_ever() {
        let service = Canned::answering([throttled()]);
        let mut client = client(&service);
        client.pace.total = Duration::ZERO;
        let error = client
            .import_new(&MATERIAL, &BTreeMap::new())
            .await
            .unwrap_err();
        assert!(
            error.is_throttling() && !error.may_have_happened(),
            "{error}"
        );
        service.requests::<1>();
    }

    #[tokio::test]
    async fn a_new_import_whose_outcome_is_unknown_is_never_repeated() {
        for answer in [
            CannedAnswer::refusal(500, "InternalFailure", "oops"),
            CannedAnswer::xml(503, "unavailable"),
            CannedAnswer::Hangup,
            CannedAnswer::json(200, "{}"),
            CannedAnswer::json(200, "<html>"),
        ] {
            let service = Canned::answering([answer]);
            let error = client(&service)
                .import_new(&MATERIAL, &BTreeMap::new())
                .await
                .unwrap_err();
            assert!(error.may_have_happened(), "{error}");
            service.requests::<1>();
        }
    }

    #[tokio::test]
    async fn a_refused_new_import_is_returned_at_once() {
        for code in [
            "ValidationException",
            "LimitExceededException",
            "ConflictException",
            "AccessDeniedException",
        ] {
            let service = Canned::answering([CannedAnswer::refusal(400, code, "no")]);
            let error = client(&service)
                .import_new(&MATERIAL, &BTreeMap::new())
                .await
                .unwrap_err();
            assert_eq!(
                (error.code.as_deref(), error.status),
                (Some(code), Some(400))
            );
            assert!(!error.may_have_happened());
            service.requests::<1>();
        }
    }

    #[tokio::test]
    async fn an_import_over_is_repeated_after_what_may_pass() {
        let service = Canned::answering([
            CannedAnswer::refusal(500, "InternalFailure", "oops"),
            throttled(),
            CannedAnswer::Hangup,
            CannedAnswer::refusal(400, "ConflictException", "already being updated"),
            imported(),
        ]);
        let material = Material {
            chain: "",
            ..MATERIAL
        };
        client(&service)
            .import_over(&arn(), &material)
            .await
            .unwrap();
        let requests = service.requests::<5>();
        assert_eq!(
            requests[4].json(),
            json!({"CertificateArn": ARN, "Certificate": "bGVhZg==", "PrivateKey": "a2V5"})
        );
    }

    #[tokio::test]
    async fn an_import_over_gives_up_within_bounds() {
        let service = Canned::answering(
            [(); 5].map(|()| CannedAnswer::refusal(500, "InternalFailure", "oops")),
        );
        let error = client(&service)
            .import_over(&arn(), &MATERIAL)
            .await
            .unwrap_err();
        assert_eq!(error.status, Some(500));
        service.requests::<5>();
        let service = Canned::answering([CannedAnswer::refusal(
            400,
            "ValidationException",
            "Key Usage",
        )]);
        let error = client(&service)
            .import_over(&arn(), &MATERIAL)
            .await
            .unwrap_err();
        assert_eq!(error.code.as_deref(), Some("ValidationException"));
        service.requests::<1>();
    }

    #[tokio::test]
    async fn imports_of_a_region_go_one_at_a_time() {
        let service = Canned::answering([throttled(), imported(), imported()]);
        let client = client(&service);
        let other = client.clone();
        let arn = arn();
        let (first, second) = tokio::join!(
            client.import_over(&arn, &MATERIAL),
            other.import_over(
                &arn,
                &Material {
                    certificate: "other",
                    ..MATERIAL
                }
            )
        );
        first.unwrap();
        second.unwrap();
        let leaves = service
            .requests::<3>()
            .map(|request| request.json()["Certificate"].clone());
        assert_eq!(leaves, ["bGVhZg==", "bGVhZg==", "b3RoZXI="]);
    }

    #[tokio::test]
    async fn a_certificate_is_described() {
        let answer = CannedAnswer::json(200, include_str!("fixtures/certificate.json"));
        let service = Canned::answering([answer]);
        let described = client(&service).describe(&arn()).await.unwrap().unwrap();
        assert_eq!(described.serial.as_deref(), Some("00c30aff"));
        assert_eq!(described.names, ["shop.example.com", "www.example.com"]);
        assert_eq!(described.in_use_by.len(), 1);
        assert_eq!(
            described.imported_at.unwrap().unix_timestamp(),
            1_780_000_000
        );
        assert_eq!(described.not_after.unwrap().unix_timestamp(), 1_790_000_000);
        let [request] = service.requests();
        assert_eq!(request.json(), json!({"CertificateArn": ARN}));
    }

    #[tokio::test]
    async fn what_a_description_leaves_out_is_none() {
        let service = Canned::answering([
            CannedAnswer::json(200, r#"{"Certificate":{}}"#),
            CannedAnswer::json(200, "{}"),
        ]);
        let client = client(&service);
        let described = client.describe(&arn()).await.unwrap().unwrap();
        assert!(
            described.serial.is_none()
                && described.not_after.is_none()
                && described.names.is_empty()
        );
        assert!(client.describe(&arn()).await.is_err());
    }

    #[tokio::test]
    async fn only_what_the_service_says_is_not_found_is_absent() {
        let service = Canned::answering([
            not_found(),
            not_found(),
            not_found(),
            denied(),
            denied(),
            denied(),
        ]);
        let client = client(&service);
        assert!(client.describe(&arn()).await.unwrap().is_none());
        assert!(client.tags(&arn()).await.unwrap().is_none());
        assert!(client.leaf_pem(&arn()).await.unwrap().is_none());
        for error in [
            client.describe(&arn()).await.err(),
            client.tags(&arn()).await.err(),
            client.leaf_pem(&arn()).await.err(),
        ] {
            assert_eq!(
                error.unwrap().code.as_deref(),
                Some("AccessDeniedException")
            );
        }
    }

    #[tokio::test]
    async fn reading_is_repeated_when_throttled() {
        let service = Canned::answering([
            throttled(),
            CannedAnswer::json(200, r#"{"Tags":[{"Key":"a","Value":"b"},{"Key":"c"}]}"#),
            throttled(),
            CannedAnswer::json(200, r#"{"Certificate":"pem","CertificateChain":"more"}"#),
        ]);
        let client = client(&service);
        let tags = client.tags(&arn()).await.unwrap().unwrap();
        assert_eq!(
            tags.into_iter().collect::<Vec<_>>(),
            [
                ("a".to_owned(), "b".to_owned()),
                ("c".to_owned(), String::new())
            ]
        );
        assert_eq!(
            client.leaf_pem(&arn()).await.unwrap().as_deref(),
            Some("pem")
        );
        service.requests::<4>();
    }

    #[tokio::test]
    async fn every_key_type_is_listed_to_the_last_page() {
        let service = Canned::answering([
            throttled(),
            CannedAnswer::json(200, include_str!("fixtures/certificates-first-page.json")),
            throttled(),
            CannedAnswer::json(200, include_str!("fixtures/certificates-last-page.json")),
        ]);
        let listed = client(&service).list().await.unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!(
            listed[0].names,
            Some(vec!["a.example".to_owned(), "b.example".to_owned()])
        );
        assert!(listed[0].imported_at.is_some());
        assert!(
            listed[1..]
                .iter()
                .all(|entry| entry.names.is_none() && entry.imported_at.is_none())
        );
        let [_, first, _, second] = service.requests().map(|request| request.json());
        assert_eq!(
            first,
            json!({"MaxItems": 1000, "Includes": {"keyTypes": [
                "EC_prime256v1", "EC_secp384r1", "EC_secp521r1",
                "RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096",
            ]}})
        );
        assert_eq!(second["NextToken"], "next");
        assert_eq!(second["Includes"], first["Includes"]);
    }

    #[tokio::test]
    async fn a_list_that_is_refused_is_no_empty_list() {
        let service = Canned::answering([
            denied(),
            CannedAnswer::json(200, r#"{"CertificateSummaryList":[]}"#),
        ]);
        let client = client(&service);
        assert!(client.list().await.is_err());
        assert!(client.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_deletion_tells_gone_from_in_use() {
        let refusal = |code| CannedAnswer::refusal(400, code, "no");
        let service = Canned::answering([
            CannedAnswer::json(200, "{}"),
            not_found(),
            refusal("ResourceInUseException"),
            refusal("ConflictException"),
            throttled(),
            CannedAnswer::json(200, "{}"),
            denied(),
        ]);
        let client = client(&service);
        for expected in [
            Deletion::Done,
            Deletion::Done,
            Deletion::InUse,
            Deletion::InUse,
            Deletion::Done,
        ] {
            assert_eq!(client.delete(&arn()).await.unwrap(), expected);
        }
        assert_eq!(
            client.delete(&arn()).await.unwrap_err().code.as_deref(),
            Some("AccessDeniedException")
        );
        service.requests::<7>();
    }

    #[test]
    fn serials_are_returned_as_der_content() {
        for (text, der) in [
            ("3:ab", "03ab"),
            ("c3", "00c3"),
            ("00:7f", "7f"),
            ("0", "00"),
        ] {
            assert_eq!(der_serial(text).as_deref(), Some(der), "{text}");
        }
    }
}
