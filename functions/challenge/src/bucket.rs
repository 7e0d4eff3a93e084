//! The bucket behind the port: one signed `GET` per object.
//!
//! It does not use the SDK's client, which would be two thirds of this binary and half of its start
//! time. It reads the same parts of a Lambda function's environment as the SDK: region,
//! credentials, endpoint, FIPS and dual stack.
//!
//! [GetObject](https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html),
//! [its errors](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html),
//! [endpoints](https://docs.aws.amazon.com/general/latest/gr/s3.html)

use std::time::{Duration, SystemTime};
use std::{iter, str};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lambda_runtime::Error;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

use crate::shared::challenge::{KEY_AUTHORIZATION_MAX_LENGTH, Token};
use crate::shared::partition::Partition;
use crate::store::{Challenges, ReadError};

/// The bucket, and all that a request for an object needs.
pub(crate) struct Bucket {
    /// The URL of the bucket, without a slash at the end.
    url: String,
    region: String,
    credentials: Credentials,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Bucket {
    /// Opens the bucket that the environment names. Makes no request.
    pub(crate) fn open(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let bucket = lookup("CERTLOOP_BUCKET").ok_or(
            "CERTLOOP_BUCKET is not set: it names the bucket that holds the key authorizations",
        )?;
        let region = lookup("AWS_REGION")
            .or_else(|| lookup("AWS_DEFAULT_REGION"))
            .ok_or("AWS_REGION is not set: it names the region of the bucket")?;
        let (Some(key_id), Some(secret)) =
            (lookup("AWS_ACCESS_KEY_ID"), lookup("AWS_SECRET_ACCESS_KEY"))
        else {
            return Err("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set: \
                        without them no object can be read"
                .into());
        };
        let session = lookup("AWS_SESSION_TOKEN");

        Ok(Self {
            url: bucket_url(&bucket, &region, lookup)?,
            region,
            credentials: Credentials::new(key_id, secret, session, None, "environment"),
            client: client()?,
        })
    }

    /// Reads the object once. An answer that is neither yes nor no is `Unreachable`.
    async fn attempt(&self, token: &Token) -> Result<Option<Vec<u8>>, ReadError> {
        let response = self.client.request(self.signed(token)?).await?;
        let status = response.status();
        let body = response.into_body();
        if status == StatusCode::OK {
            return Ok(Some(at_most(KEY_AUTHORIZATION_MAX_LENGTH, body).await?));
        }

        let document = at_most(ERROR_MAX_LENGTH, body).await?;
        match (status, error_code(&document)) {
            (StatusCode::NOT_FOUND, "NoSuchKey") => Ok(None),
            (StatusCode::FORBIDDEN, "AccessDenied") => Err(ReadError::Denied),
            (status, code) => Err(format!("the bucket answered {status} {code}").into()),
        }
    }

    fn signed(&self, token: &Token) -> Result<Request<Empty<Bytes>>, Error> {
        let uri: Uri = format!("{}/{}", self.url, token.object_key()).parse()?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(&uri)
            .header(HOST, host)
            .header(USER_AGENT, concat!("certloop/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;

        // The SDK does the same for S3 and for no other service.
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;

        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()?
            .into();
        let signable = SignableRequest::new(
            "GET",
            uri.to_string(),
            iter::once(("host", host)),
            SignableBody::Bytes(&[]),
        )?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

impl Challenges for Bucket {
    async fn read(&self, token: &Token) -> Result<Option<Vec<u8>>, ReadError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let read = tokio::time::timeout(ATTEMPT_TIMEOUT, self.attempt(token))
                .await
                .unwrap_or_else(|elapsed| Err(elapsed.into()));
            match read {
                // A kept connection may have died while the function was frozen.
                Err(error @ ReadError::Unreachable(_)) if attempts < ATTEMPTS => {
                    warn!(challenge.token = %token, %error, "reading the store once more");
                    tokio::time::sleep(BACKOFF).await;
                }
                settled => return settled,
            }
        }
    }
}

/// Returns the URL of a bucket: `https://<bucket>.<host>`, or `<endpoint>/<bucket>` when the
/// bucket's name cannot be part of a host name.
fn bucket_url(
    bucket: &str,
    region: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<String, Error> {
    if !is_host_name(bucket) {
        return Err(format!("CERTLOOP_BUCKET is no name of a bucket: {bucket:?}").into());
    }
    if !is_host_name(region) {
        return Err(format!("AWS_REGION is no name of a region: {region:?}").into());
    }

    let configured = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| Some((name, lookup(name)?)));
    if let Some((name, endpoint)) = configured {
        let parsed: Uri = endpoint
            .parse()
            .map_err(|error| format!("{name} is no URL: {error}"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(format!("{name} is no http or https URL: {endpoint:?}").into());
        }
        return Ok(format!("{}/{bucket}", endpoint.trim_end_matches('/')));
    }

    let is_true = |name| lookup(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let fips = match is_true("AWS_USE_FIPS_ENDPOINT") {
        true => "-fips",
        false => "",
    };
    let dual_stack = match is_true("AWS_USE_DUALSTACK_ENDPOINT") {
        true => ".dualstack",
        false => "",
    };
    let domain = Partition::of(region).domain();
    let host = format!("s3{fips}{dual_stack}.{region}.{domain}");
    // The service's certificate covers only one label.
    match bucket.contains('.') {
        true => Ok(format!("https://{host}/{bucket}")),
        false => Ok(format!("https://{bucket}.{host}")),
    }
}

fn is_host_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        warn!("no trusted root certificates were found");
    }
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();

    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Reads a body to its end, or until it is longer than `length`.
async fn at_most(length: usize, mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let wanted = data.len().min(length + 1 - read.len());
            read.extend_from_slice(&data[..wanted]);
        }
        if read.len() > length {
            break;
        }
    }
    Ok(read)
}

/// Returns the code in an error document; empty if it has none.
fn error_code(document: &[u8]) -> &str {
    str::from_utf8(document)
        .ok()
        .and_then(|text| text.split_once("<Code>")?.1.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .unwrap_or_default()
}

const ATTEMPTS: usize = 2;

/// Two attempts fit into the time that the handler allows for a read.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2200);

/// A bucket in the same region accepts a connection within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

const BACKOFF: Duration = Duration::from_millis(50);

/// Error documents are a few hundred bytes.
const ERROR_MAX_LENGTH: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_bucket_follows_the_environment() {
        for (bucket, region, variables, expected) in [
            (
                "certloop-prod",
                "eu-west-1",
                &[][..],
                "https://certloop-prod.s3.eu-west-1.amazonaws.com",
            ),
            (
                "certs.example.com",
                "eu-west-1",
                &[],
                "https://s3.eu-west-1.amazonaws.com/certs.example.com",
            ),
            (
                "b",
                "cn-north-1",
                &[],
                "https://b.s3.cn-north-1.amazonaws.com.cn",
            ),
            (
                "b",
                "eusc-de-east-1",
                &[],
                "https://b.s3.eusc-de-east-1.amazonaws.eu",
            ),
            (
                "b",
                "us-gov-west-1",
                &[("AWS_USE_FIPS_ENDPOINT", "true")],
                "https://b.s3-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                "b",
                "eu-west-1",
                &[("AWS_USE_DUALSTACK_ENDPOINT", "true")],
                "https://b.s3.dualstack.eu-west-1.amazonaws.com",
            ),
            (
                "b",
                "eu-west-1",
                &[("AWS_ENDPOINT_URL", "http://127.0.0.1:5000/")],
                "http://127.0.0.1:5000/b",
            ),
            (
                "b",
                "eu-west-1",
                &[
                    ("AWS_ENDPOINT_URL", "http://127.0.0.1:5000"),
                    ("AWS_ENDPOINT_URL_S3", "https://store.example/s3"),
                ],
                "https://store.example/s3/b",
            ),
        ] {
            let url = bucket_url(bucket, region, among(variables)).unwrap();
            assert_eq!(url, expected, "{bucket} {region} {variables:?}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let complete = [
            ("CERTLOOP_BUCKET", "b"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "a-secret-key"),
        ];
        assert!(Bucket::open(among(&complete)).is_ok());

        for (name, value, words) in [
            ("CERTLOOP_BUCKET", "", "CERTLOOP_BUCKET is not set"),
            ("AWS_REGION", "", "AWS_REGION is not set"),
            ("AWS_ACCESS_KEY_ID", "", "AWS_ACCESS_KEY_ID"),
            ("AWS_SECRET_ACCESS_KEY", "", "AWS_SECRET_ACCESS_KEY"),
            ("CERTLOOP_BUCKET", "b/../c", "no name of a bucket"),
            ("AWS_REGION", "eu@evil.example/", "no name of a region"),
            (
                "AWS_ENDPOINT_URL",
                "127.0.0.1:5000",
                "AWS_ENDPOINT_URL is no",
            ),
            (
                "AWS_ENDPOINT_URL_S3",
                "ftp://a",
                "AWS_ENDPOINT_URL_S3 is no",
            ),
        ] {
            let mut variables = vec![(name, value)];
            variables.extend(complete.iter().filter(|(other, _)| *other != name));
            let error = Bucket::open(among(&variables)).err().unwrap().to_string();
            assert!(error.contains(words), "{name}={value:?}: {error}");
        }
    }

    #[test]
    fn the_code_is_read_from_an_error_document() {
        for (document, expected) in [
            (
                "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Key>a</Key></Error>",
                "NoSuchKey",
            ),
            ("<Error><Code>a\nb</Code></Error>", ""),
            ("<Error><Code>NoSuchKey", ""),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(error_code(document.as_bytes()), expected, "{document:?}");
        }
    }

    fn among<'v>(
        variables: &'v [(&'v str, &'v str)],
    ) -> impl Fn(&str) -> Option<String> + Copy + 'v {
        move |name| {
            let (_, value) = variables.iter().find(|(other, _)| *other == name)?;
            Some((*value).to_owned())
        }
    }
}
