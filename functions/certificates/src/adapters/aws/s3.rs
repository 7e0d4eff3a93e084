//! The store in S3: conditional writes, and encryption per object.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;

use super::error::{about, service_error, unusable};
use crate::ports::store::{Condition, ListedObject, Store, StoreError, StoredObject};
use crate::values::problem::ServiceError;
use time::OffsetDateTime;

/// One bucket.
///
/// When the answer to a write is lost, the SDK repeats the write and then gets a failed condition
/// because of its own work. [`write_record`](crate::ports::store::write_record) distinguishes that
/// from another writer.
#[derive(Clone)]
pub struct Bucket {
    client: Client,
    name: String,
    kms_key_arn: Option<String>,
    conflict_wait: Duration,
}

impl Bucket {
    pub(super) fn new(config: &SdkConfig, name: String, kms_key_arn: Option<String>) -> Self {
        // A custom endpoint rarely has a host name per bucket.
        let config = Builder::from(config)
            .force_path_style(config.endpoint_url().is_some())
            .build();
        Self {
            client: Client::from_conf(config),
            name,
            kms_key_arn,
            conflict_wait: CONFLICT_WAIT,
        }
    }

    /// Returns the KMS key for an object. Only secret objects have one: the challenge function may
    /// not use any key.
    fn kms_key(&self, key: &str) -> Option<String> {
        let secret = SECRET_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
        self.kms_key_arn.clone().filter(|_| secret)
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: Condition<'_>,
    ) -> Result<String, ServiceError> {
        let content_type = match key.starts_with(CHALLENGES) {
            true => "text/plain",
            false => "application/json",
        };
        let mut request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from(body));
        request = match condition {
            Condition::None => request,
            Condition::Absent => request.if_none_match("*"),
            Condition::Matches(etag) => request.if_match(etag),
        };
        if let Some(kms_key) = self.kms_key(key) {
            request = request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(kms_key);
        }
        request
            .send()
            .await
            .map_err(|error| service_error("PutObject", &error))?
            .e_tag
            .ok_or_else(|| unusable("PutObject", "the answer has no ETag"))
    }
}

impl Bucket {
    async fn delete_if(&self, key: &str, etag: Option<&str>) -> Result<(), StoreError> {
        let deleted = self.despite_conflicts(async || {
            let request = self.client.delete_object().bucket(&self.name).key(key);
            let sent = request.set_if_match(etag.map(str::to_owned)).send().await;
            sent.map_err(|error| service_error("DeleteObject", &error))
        });
        match deleted.await {
            Ok(_) => Ok(()),
            Err(error) if error.code.as_deref() == Some("NoSuchKey") => Ok(()),
            Err(error) if error.status == Some(412) => Err(StoreError::ConditionFailed {
                key: key.to_owned(),
            }),
            Err(error) => Err(unavailable("delete", key, &error)),
        }
    }

    /// Repeats a conditional request that met another one (409), a few times with growing waits.
    async fn despite_conflicts<T>(
        &self,
        request: impl AsyncFn() -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let mut wait = self.conflict_wait;
        for _ in 1..CONFLICT_ATTEMPTS {
            match request().await {
                Err(error) if is_conflict(&error) => {}
                outcome => return outcome,
            }
            tokio::time::sleep(about(wait)).await;
            wait *= 2;
        }
        request().await
    }
}

impl Store for Bucket {
    async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        let sent = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await;
        let mut output = match sent.map_err(|error| service_error("GetObject", &error)) {
            Ok(output) => output,
            Err(error) if error.code.as_deref() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(unavailable("read", key, &error)),
        };
        let too_large = || StoreError::Unusable {
            key: key.to_owned(),
            reason: format!("it is larger than {LARGEST} bytes"),
        };
        if output
            .content_length
            .is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > LARGEST))
        {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = output.body.next().await {
            let chunk = chunk.map_err(|error| {
                let error = unusable("GetObject", format!("the answer broke off: {error}"));
                unavailable("read", key, &error)
            })?;
            if body.len() + chunk.len() > LARGEST {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let etag = output.e_tag.ok_or_else(|| {
            unavailable(
                "read",
                key,
                &unusable("GetObject", "the answer has no ETag"),
            )
        })?;
        let modified = output.last_modified;
        Ok(Some(StoredObject {
            body,
            etag,
            modified: modified.and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok()),
        }))
    }

    async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: Condition<'_>,
    ) -> Result<String, StoreError> {
        let put = self.despite_conflicts(async || self.put(key, body.clone(), condition).await);
        let error = match put.await {
            Ok(etag) => return Ok(etag),
            Err(error) => error,
        };
        // With If-Match, a missing object means that it was deleted in the meantime.
        let failed = match error.code.as_deref() {
            Some("NoSuchKey") => matches!(condition, Condition::Matches(_)),
            _ => error.status == Some(412),
        };
        Err(match failed {
            true => StoreError::ConditionFailed {
                key: key.to_owned(),
            },
            false => unavailable("write", key, &error),
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.delete_if(key, None).await
    }

    async fn delete_matching(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        self.delete_if(key, Some(etag)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut entries = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                unavailable("list", prefix, &service_error("ListObjectsV2", &error))
            })?;
            for object in page.contents.unwrap_or_default() {
                let (Some(key), Some(etag)) = (object.key, object.e_tag) else {
                    let error = unusable("ListObjectsV2", "an entry has no key or no ETag");
                    return Err(unavailable("list", prefix, &error));
                };
                entries.push(ListedObject { key, etag });
            }
        }
        Ok(entries)
    }
}

fn unavailable(verb: &'static str, key: &str, error: &ServiceError) -> StoreError {
    let code = error.code.as_deref().unwrap_or_default();
    // 301: the bucket is in another region. 404: the bucket does not exist; a missing object was
    // handled before.
    let person = matches!(error.status, Some(301 | 401 | 403 | 404))
        || (code.starts_with("KMS.") && !error.is_throttling() && error.status < Some(500));
    StoreError::Unavailable {
        verb,
        key: key.to_owned(),
        reason: error.to_string(),
        person,
    }
}

const SECRET_PREFIXES: [&str; 2] = ["accounts/", "vault/"];
const CHALLENGES: &str = "challenges/";
/// Far larger than any document or record.
const LARGEST: usize = 10_000_000;
const CONFLICT_ATTEMPTS: u32 = 6;
/// Before the second attempt; doubled each time.
const CONFLICT_WAIT: Duration = Duration::from_millis(50);

/// Two conditional requests met at one object: the service judged neither condition.
fn is_conflict(error: &ServiceError) -> bool {
    matches!(
        error.code.as_deref(),
        Some("ConditionalRequestConflict" | "OperationAborted")
    )
}

#[cfg(test)]
mod tests {
    use super::super::canned::{Canned, CannedAnswer};
    use super::*;

    const KMS_KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/1234";

    fn bucket(service: &Canned) -> Bucket {
        let mut bucket = Bucket::new(
            &service.config(),
            "certloop".to_owned(),
            Some(KMS_KEY.to_owned()),
        );
        bucket.conflict_wait = Duration::from_millis(1);
        bucket
    }

    fn refusal(status: u16, code: &str) -> CannedAnswer {
        CannedAnswer::xml(
            status,
            &format!("<Error><Code>{code}</Code><Message>no</Message></Error>"),
        )
    }

    fn person(error: StoreError) -> bool {
        match error {
            StoreError::Unavailable { person, .. } => person,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn an_object_is_read_with_its_etag() {
        let service = Canned::answering([CannedAnswer::xml(200, "{}").with("etag", "\"0a1b\"")]);
        let object = bucket(&service)
            .read("state/a.json")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (object.body.as_slice(), &*object.etag),
            (&b"{}"[..], "\"0a1b\"")
        );
        let [request] = service.requests();
        assert!(
            request.head.starts_with("GET /certloop/state/a.json?"),
            "{}",
            request.head
        );
    }

    #[tokio::test]
    async fn only_a_missing_key_is_absent() {
        let service = Canned::answering([
            refusal(404, "NoSuchKey"),
            refusal(404, "NoSuchBucket"),
            refusal(403, "AccessDenied"),
            refusal(400, "KMS.DisabledException"),
        ]);
        let bucket = bucket(&service);
        assert!(bucket.read("settings.json").await.unwrap().is_none());
        for _ in 0..3 {
            assert!(person(bucket.read("settings.json").await.err().unwrap()));
        }
        service.requests::<4>();
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_read() {
        let service =
            Canned::answering([CannedAnswer::xml(200, "").with("content-length", "10000001")]);
        let error = bucket(&service).read("state/a.json").await.err().unwrap();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    }

    #[tokio::test]
    async fn faults_and_throttling_are_waited_out_and_do_not_need_a_person() {
        let service = Canned::answering([
            refusal(503, "SlowDown"),
            refusal(500, "InternalError"),
            refusal(404, "NoSuchKey"),
        ]);
        assert!(bucket(&service).read("a").await.unwrap().is_none());
        service.requests::<3>();
        let service = Canned::answering([(); 5].map(|()| refusal(503, "SlowDown")));
        assert!(!person(bucket(&service).read("a").await.err().unwrap()));
        service.requests::<5>();
    }

    #[tokio::test]
    async fn conditions_and_encryption_are_as_the_key_asks() {
        for (key, condition, header, value, encrypted, content_type) in [
            (
                "settings.json",
                Condition::None,
                "",
                "",
                false,
                "application/json",
            ),
            (
                "challenges/abc",
                Condition::None,
                "",
                "",
                false,
                "text/plain",
            ),
            (
                "state/a.json",
                Condition::Matches("\"1\""),
                "if-match",
                "\"1\"",
                false,
                "application/json",
            ),
            (
                "accounts/a-1.json",
                Condition::Absent,
                "if-none-match",
                "*",
                true,
                "application/json",
            ),
            (
                "vault/a/01.json",
                Condition::Absent,
                "if-none-match",
                "*",
                true,
                "application/json",
            ),
        ] {
            let service = Canned::answering([CannedAnswer::xml(200, "").with("etag", "\"2\"")]);
            let etag = bucket(&service)
                .write(key, b"body".to_vec(), condition)
                .await
                .unwrap();
            assert_eq!(etag, "\"2\"");
            let [request] = service.requests();
            for name in ["if-match", "if-none-match"] {
                assert_eq!(
                    request.header(name),
                    (name == header).then_some(value),
                    "{key}"
                );
            }
            assert_eq!(
                (
                    request.header("x-amz-server-side-encryption"),
                    request.header("x-amz-server-side-encryption-aws-kms-key-id"),
                ),
                match encrypted {
                    true => (Some("aws:kms"), Some(KMS_KEY)),
                    false => (None, None),
                },
                "{key}"
            );
            assert_eq!(request.header("content-type"), Some(content_type), "{key}");
            assert_eq!(request.body, b"body");
        }
    }

    #[tokio::test]
    async fn without_a_key_nothing_names_an_encryption() {
        let service = Canned::answering([CannedAnswer::xml(200, "").with("etag", "\"2\"")]);
        let bucket = Bucket::new(&service.config(), "certloop".to_owned(), None);
        bucket
            .write("vault/a/01.json", Vec::new(), Condition::None)
            .await
            .unwrap();
        let [request] = service.requests();
        assert!(
            !request.head.contains("server-side-encryption"),
            "{}",
            request.head
        );
    }

    #[tokio::test]
    async fn a_failed_condition_is_reported() {
        for (condition, answer) in [
            (Condition::Absent, refusal(412, "PreconditionFailed")),
            (
                Condition::Matches("\"1\""),
                refusal(412, "PreconditionFailed"),
            ),
            (Condition::Matches("\"1\""), refusal(404, "NoSuchKey")),
        ] {
            let service = Canned::answering([answer]);
            let error = bucket(&service)
                .write("state/a.json", Vec::new(), condition)
                .await
                .unwrap_err();
            assert!(
                matches!(error, StoreError::ConditionFailed { .. }),
                "{error}"
            );
            service.requests::<1>();
        }
    }

    #[tokio::test]
    async fn a_write_to_no_bucket_or_without_permission_needs_a_person() {
        for answer in [refusal(404, "NoSuchBucket"), refusal(403, "AccessDenied")] {
            let service = Canned::answering([answer]);
            let error = bucket(&service)
                .write("state/a.json", Vec::new(), Condition::Matches("\"1\""))
                .await
                .unwrap_err();
            assert!(person(error));
        }
    }

    #[tokio::test]
    async fn a_conflict_is_repeated_within_bounds() {
        let service = Canned::answering([
            refusal(409, "ConditionalRequestConflict"),
            refusal(409, "ConditionalRequestConflict"),
            CannedAnswer::xml(200, "").with("etag", "\"2\""),
        ]);
        bucket(&service)
            .write("state/a.json", Vec::new(), Condition::Absent)
            .await
            .unwrap();
        service.requests::<3>();
        let service =
            Canned::answering([(); 6].map(|()| refusal(409, "ConditionalRequestConflict")));
        let error = bucket(&service)
            .write("state/a.json", Vec::new(), Condition::Absent)
            .await
            .unwrap_err();
        assert!(!person(error));
        service.requests::<6>();
    }

    #[tokio::test]
    async fn a_conflict_is_not_taken_for_another_object_when_deleting() {
        let service = Canned::answering([
            refusal(409, "ConditionalRequestConflict"),
            CannedAnswer::xml(204, ""),
        ]);
        let bucket = bucket(&service);
        let deleted = bucket.delete_matching("certificates/a.json", "\"1\"");
        deleted.await.unwrap();
        service.requests::<2>();
    }

    #[tokio::test]
    async fn deleting_what_is_not_there_succeeds() {
        let service = Canned::answering([
            CannedAnswer::xml(204, ""),
            refusal(404, "NoSuchKey"),
            refusal(403, "AccessDenied"),
        ]);
        let bucket = bucket(&service);
        bucket.delete("challenges/a").await.unwrap();
        bucket.delete("challenges/a").await.unwrap();
        assert!(person(bucket.delete("challenges/a").await.unwrap_err()));
    }

    #[tokio::test]
    async fn a_list_is_followed_to_its_last_page() {
        let page = |key: &str, more: &str| {
            CannedAnswer::xml(
                200,
                &format!(
                    "<ListBucketResult>{more}<Contents><Key>{key}</Key>\
                     <ETag>&quot;1&quot;</ETag></Contents></ListBucketResult>"
                ),
            )
        };
        let service = Canned::answering([
            page(
                "state/a.json",
                "<IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>next</NextContinuationToken>",
            ),
            page("state/b.json", "<IsTruncated>false</IsTruncated>"),
        ]);
        let entries = bucket(&service).list("state/").await.unwrap();
        let entry = |key: &str| ListedObject {
            key: key.to_owned(),
            etag: "\"1\"".to_owned(),
        };
        assert_eq!(entries, [entry("state/a.json"), entry("state/b.json")]);
        let [first, second] = service.requests();
        assert!(first.head.contains("prefix=state%2F"), "{}", first.head);
        assert!(
            second.head.contains("continuation-token=next"),
            "{}",
            second.head
        );
    }

    #[tokio::test]
    async fn a_list_that_is_refused_is_no_empty_list() {
        let service = Canned::answering([
            refusal(404, "NoSuchBucket"),
            CannedAnswer::xml(200, "<ListBucketResult/>"),
        ]);
        let bucket = bucket(&service);
        assert!(person(bucket.list("state/").await.unwrap_err()));
        assert!(bucket.list("state/").await.unwrap().is_empty());
    }
}
