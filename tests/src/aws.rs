//! The stand-in for AWS (moto, made as strict as the documented services), and clients for it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_acm::config::{BehaviorVersion, Credentials, Region};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::http::{Connection, Request, Response};
use crate::process::{Process, lock};
use crate::{REGION, root, tool};

/// The access key of the test itself: it marks what people do by hand. A function's access key is
/// the function's name.
pub const HANDS: &str = "local";

/// A running stand-in.
#[derive(Debug)]
pub struct Aws {
    address: SocketAddr,
    process: Process,
    idle: Mutex<Vec<Connection>>,
    s3: aws_sdk_s3::Client,
    acm: aws_sdk_acm::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
}

impl Aws {
    /// Starts one.
    pub async fn start() -> Self {
        let mut command = Command::new(tool("venv/bin/python"));
        command
            .arg(root().join("tests/aws/strict_aws.py"))
            .args(["--port", "0", "--watch-stdin"])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let process = Process::start("AWS stand-in", &mut command).unwrap();
        let port: u16 = process
            .wait_for(Duration::from_secs(60), |line| {
                line.strip_prefix("listening ")?.trim().parse().ok()
            })
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let endpoint = format!("http://{address}");
        Self {
            address,
            process,
            idle: Mutex::default(),
            s3: s3(&endpoint),
            acm: acm(&endpoint, REGION),
            elb: elb(&endpoint, HANDS),
        }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns an S3 client.
    pub fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    /// Returns a Certificate Manager client.
    pub fn acm(&self) -> &aws_sdk_acm::Client {
        &self.acm
    }

    /// Returns a Certificate Manager client of another region.
    pub fn acm_in(&self, region: &str) -> aws_sdk_acm::Client {
        acm(&format!("http://{}", self.address), region)
    }

    /// Returns an Elastic Load Balancing client.
    pub fn elb(&self) -> &aws_sdk_elasticloadbalancingv2::Client {
        &self.elb
    }

    /// Returns an Elastic Load Balancing client with another access key, such as a function's name.
    pub fn elb_as(&self, caller: &'static str) -> aws_sdk_elasticloadbalancingv2::Client {
        elb(&format!("http://{}", self.address), caller)
    }

    /// Returns its output: mostly its complaints.
    pub fn output(&self) -> Vec<String> {
        self.process.output()
    }

    /// Calls an admin endpoint under `/_local/`.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut request = Request::get(&self.address.to_string(), &format!("/_local/{path}"));
        request.method = method.to_owned();
        if let Some(body) = body {
            request.body = body.to_string().into_bytes();
            request
                .headers
                .push(("content-type".into(), "application/json".into()));
        }
        let response = self.send(request).await;
        assert!(
            response.status < 300,
            "/_local/{path}: {} {}",
            response.status,
            response.text()
        );
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// Sets options of the stand-in (`POST /_local/options`).
    pub async fn options(&self, options: Value) {
        self.admin("POST", "options", Some(&options)).await;
    }

    /// Adds a fault to the stand-in (`POST /_local/faults`).
    pub async fn fault(&self, fault: Value) {
        self.admin("POST", "faults", Some(&fault)).await;
    }

    /// Calls an operation of EC2; an SDK crate for it would take too long to compile.
    pub async fn ec2(&self, action: &str, parameters: &str) -> String {
        let body = format!("Action={action}&Version=2016-11-15{parameters}");
        let kind = "application/x-www-form-urlencoded";
        self.call("ec2", kind, None, body).await.text()
    }

    /// Calls an operation of a service that speaks JSON, for the same reason.
    pub async fn json(&self, service: &str, target: &str, parameters: &Value) -> Value {
        let kind = "application/x-amz-json-1.1";
        let target = Some(target.to_owned());
        let answer = self
            .call(service, kind, target, parameters.to_string())
            .await;
        let status = answer.status;
        assert!(status < 300, "{service}: {status} {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    async fn call(
        &self,
        service: &str,
        kind: &str,
        target: Option<String>,
        body: String,
    ) -> Response {
        let mut request = Request::get(&self.address.to_string(), "/");
        request.method = "POST".into();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={HANDS}/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0"
        );
        request.headers.extend([
            ("authorization".into(), authorization),
            ("content-type".into(), kind.into()),
        ]);
        let target = target.map(|target| ("x-amz-target".into(), target));
        request.headers.extend(target);
        request.body = body.into_bytes();
        self.send(request).await
    }

    async fn send(&self, request: Request) -> Response {
        let idle = lock(&self.idle).pop();
        let idle = match idle {
            Some(idle) => idle.still_open().await,
            None => None,
        };
        let mut connection = match idle {
            Some(idle) => idle,
            None => {
                let stream = TcpStream::connect(self.address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Connection::open(stream).await.unwrap()
            }
        };
        let response = connection.send(request).await.unwrap();
        lock(&self.idle).push(connection);
        response
    }
}

fn credentials(key: &'static str) -> Credentials {
    Credentials::new(key, key, None, None, "local cloud")
}

fn s3(endpoint: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials(HANDS))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new(REGION))
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn acm(endpoint: &str, region: &str) -> aws_sdk_acm::Client {
    let config = aws_sdk_acm::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials(HANDS))
        .endpoint_url(endpoint)
        .region(Region::new(region.to_owned()))
        .build();
    aws_sdk_acm::Client::from_conf(config)
}

fn elb(endpoint: &str, caller: &'static str) -> aws_sdk_elasticloadbalancingv2::Client {
    let config = aws_sdk_elasticloadbalancingv2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials(caller))
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .build();
    aws_sdk_elasticloadbalancingv2::Client::from_conf(config)
}
