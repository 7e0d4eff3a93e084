//! One certloop in the local cloud, with the actions of its operator.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_acm::primitives::Blob;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, FixedResponseActionConfig, ProtocolEnum,
    RedirectActionConfig, RedirectActionStatusCodeEnum, RuleCondition, TargetDescription,
    TargetTypeEnum,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::browser::{self, Leaf};
use crate::http::{self, Request, Response};
use crate::lambda::{Function, Invocation, Plan};
use crate::load_balancer::Ports;
use crate::{ACCOUNT, REGION, Shared, tls};

const RENEW_TIMEOUT: Duration = Duration::from_secs(60);
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A bucket, the functions `<name>-renew` and `<name>-challenge`, and a load balancer.
#[derive(Debug)]
pub struct Installation {
    cloud: Arc<Shared>,
    /// The bucket.
    pub bucket: String,
    /// The load balancer's ARN.
    pub balancer: String,
    /// The DNS name of the load balancer, which leads to it.
    pub host: String,
    /// The HTTP:80 listener's ARN.
    pub http_listener: String,
    /// The HTTPS:443 listener's ARN.
    pub listener: String,
    /// ARN of the self-signed certificate that the HTTPS listener had at first.
    pub placeholder: String,
    /// The renewing function's name.
    pub renew: String,
    /// The challenge function's name.
    pub challenge: String,
    /// PEM of the root that the authority's certificates lead to. A browser here trusts nothing
    /// else.
    pub roots: String,
    ports: Ports,
}

/// The certificates of a listener, as AWS lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The default certificate.
    pub default: String,
    /// The certificates chosen by SNI. The default is among them only if it was also added to the
    /// list.
    pub sni: BTreeSet<String>,
}

impl Installation {
    pub(crate) async fn new(
        cloud: Arc<Shared>,
        name: &str,
        (http, https): (SocketAddr, SocketAddr),
    ) -> Self {
        let bucket = format!("{name}-certificates");
        cloud
            .aws
            .s3()
            .create_bucket()
            .bucket(&bucket)
            .send()
            .await
            .unwrap();

        let renew = Function::new(&format!("{name}-renew"), "renew", RENEW_TIMEOUT);
        let renew = renew.with("CERTLOOP_BUCKET", &bucket);
        let challenge = Function::new(&format!("{name}-challenge"), "challenge", CHALLENGE_TIMEOUT);
        let challenge = challenge.with("CERTLOOP_BUCKET", &bucket);
        let names = (renew.name.clone(), challenge.name.clone());
        let function = challenge.arn();
        cloud.lambda.deploy(renew);
        cloud.lambda.deploy(challenge);

        let (balancer, host) = balancer(&cloud, name).await;
        let group = target_group(&cloud, &format!("{name}-challenge"), &function).await;
        let http_listener = http_listener(&cloud, &balancer).await;
        challenge_rule(&cloud, &http_listener, &group).await;
        let (certificate, key) = tls::self_signed(&["placeholder.invalid"]);
        let placeholder = import(&cloud, &certificate, &key).await;
        let listener = https_listener(&cloud, &balancer, &placeholder).await;

        let ports = Ports::open(
            &balancer,
            http,
            https,
            cloud.aws.clone(),
            cloud.lambda.clone(),
        );
        let installation = Self {
            ports: ports.await.unwrap(),
            roots: cloud.pebble.root().await,
            cloud,
            bucket,
            balancer,
            host,
            http_listener,
            listener,
            placeholder,
            renew: names.0,
            challenge: names.1,
        };
        installation.point(&installation.host).await;
        installation.put_settings(&installation.settings()).await;
        installation
    }

    /// Returns the load balancer's ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Returns the settings that every installation has at first.
    pub fn settings(&self) -> Value {
        json!({
            "authorities": {"pebble": {
                "directory": self.cloud.directory,
                "contact": ["mailto:ops@example.com"],
                "termsOfServiceAgreed": true,
                // Pebble's own HTTPS and the certificates that it issues have different roots.
                "rootCertificate": format!("{}{}", self.cloud.authority.root_pem(), self.roots),
            }},
            // Without a profile Pebble chooses one at random.
            "defaults": {"authority": "pebble", "profile": "default"},
            "selfCheck": {"mode": "require", "connectTo": self.ports.http().to_string()},
            "proof": {"mode": "require", "connectTo": self.ports.https().to_string(),
                      "seconds": 10},
            // No local client uses a listener's old list, so the next pass may delete a detached
            // certificate.
            "limits": {"overlapSeconds": 0},
        })
    }

    /// Returns the same settings with one more authority.
    pub fn settings_with(&self, name: &str, authority: &Authority) -> Value {
        let mut settings = self.settings();
        settings["authorities"][name] = authority.settings();
        settings
    }

    /// Writes `settings.json`.
    pub async fn put_settings(&self, settings: &Value) {
        self.put("settings.json", settings.to_string()).await;
    }

    /// Returns a document for one certificate on the HTTPS listener, chosen by SNI.
    pub fn document(&self, domains: &[&str]) -> Value {
        json!({
            "domains": domains,
            "targets": [{"type": "listener", "arn": self.listener, "as": "sni"}],
        })
    }

    /// Writes `certificates/<name>.json` and points its domains to this load balancer.
    pub async fn put_document(&self, name: &str, document: &Value) {
        for domain in document["domains"].as_array().into_iter().flatten() {
            if let Some(domain) = domain.as_str() {
                self.point(domain).await;
            }
        }
        let key = format!("certificates/{name}.json");
        self.put(&key, document.to_string()).await;
    }

    /// Requests a certificate: writes a document for these domains on the HTTPS listener.
    pub async fn want(&self, name: &str, domains: &[&str]) {
        self.put_document(name, &self.document(domains)).await;
    }

    /// Points a name to this load balancer.
    pub async fn point(&self, domain: &str) {
        self.cloud.pebble.point(domain, self.ports.address()).await;
    }

    /// Fires the schedule.
    pub async fn pass(&self) -> Invocation {
        self.pass_with(Plan::default()).await
    }

    /// Fires the schedule with special conditions for the invocation.
    pub async fn pass_with(&self, plan: Plan) -> Invocation {
        self.invoke_with(&scheduled_event(), plan).await
    }

    /// Invokes the renewing function.
    pub async fn invoke(&self, event: &Value) -> Invocation {
        self.invoke_with(event, Plan::default()).await
    }

    /// Invokes the renewing function with special conditions.
    pub async fn invoke_with(&self, event: &Value, plan: Plan) -> Invocation {
        let lambda = &self.cloud.lambda;
        lambda.invoke_with(&self.renew, event, plan).await
    }

    /// Opens `https://<name>/` as a browser that trusts only the certificate authority's root. The
    /// error says in words why the browser refuses.
    pub async fn browser_trusts(&self, name: &str) -> Result<Leaf, String> {
        self.browser_with(name, &self.roots).await
    }

    /// Opens `https://<name>/` as a browser that trusts only these roots.
    pub async fn browser_with(&self, name: &str, roots: &str) -> Result<Leaf, String> {
        let visited = browser::visit(self.ports.https(), name, roots).await;
        visited.map(|(leaf, _)| leaf)
    }

    /// Fetches a path from port 80 of the load balancer.
    pub async fn fetch(&self, host: &str, path: &str) -> Response {
        self.request(Request::get(host, path)).await
    }

    /// Sends a request to port 80 of the load balancer.
    pub async fn request(&self, request: Request) -> Response {
        let stream = TcpStream::connect(self.ports.http()).await.unwrap();
        http::exchange(stream, request).await.unwrap()
    }

    /// Writes an object.
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        let put = self.cloud.aws.s3().put_object().bucket(&self.bucket);
        let body = body.into().into();
        put.key(key).body(body).send().await.unwrap();
    }

    /// Reads an object; `None` if there is none.
    pub async fn read(&self, key: &str) -> Option<Vec<u8>> {
        let get = self.cloud.aws.s3().get_object().bucket(&self.bucket);
        match get.key(key).send().await {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_no_such_key()) => None,
            Err(error) => panic!("{key}: {error:?}"),
        }
    }

    /// Reads a JSON object, which must exist.
    pub async fn read_json(&self, key: &str) -> Value {
        let body = self.read(key).await.unwrap_or_else(|| panic!("no {key}"));
        serde_json::from_slice(&body).unwrap()
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) {
        let delete = self.cloud.aws.s3().delete_object().bucket(&self.bucket);
        delete.key(key).send().await.unwrap();
    }

    /// Lists the keys under a prefix, to the last page.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let list = self.cloud.aws.s3().list_objects_v2().bucket(&self.bucket);
        let mut pages = list.prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let objects = page.unwrap().contents.unwrap_or_default();
            keys.extend(objects.into_iter().filter_map(|object| object.key));
        }
        keys
    }

    /// Returns the certificates of the HTTPS listener.
    pub async fn listed(&self) -> Listed {
        self.listed_at(&self.listener).await
    }

    /// Returns the certificates of a listener.
    pub async fn listed_at(&self, listener: &str) -> Listed {
        let describe = self.cloud.aws.elb().describe_listener_certificates();
        let mut pages = describe.listener_arn(listener).into_paginator().send();
        let mut listed = Listed::default();
        while let Some(page) = pages.next().await {
            for certificate in page.unwrap().certificates.unwrap_or_default() {
                let arn = certificate.certificate_arn.unwrap_or_default();
                if certificate.is_default == Some(true) {
                    listed.default = arn;
                } else {
                    listed.sni.insert(arn);
                }
            }
        }
        listed
    }

    /// Returns the ARNs of all certificates in the account, of all key types and pages.
    pub async fn imported(&self) -> Vec<String> {
        use aws_sdk_acm::types::{Filters, KeyAlgorithm};
        let all = KeyAlgorithm::values()
            .iter()
            .map(|name| KeyAlgorithm::from(*name));
        let filter = Filters::builder()
            .set_key_types(Some(all.collect()))
            .build();
        let list = self.cloud.aws.acm().list_certificates().includes(filter);
        let mut pages = list.into_paginator().send();
        let mut arns = Vec::new();
        while let Some(page) = pages.next().await {
            let summaries = page.unwrap().certificate_summary_list.unwrap_or_default();
            arns.extend(summaries.into_iter().filter_map(|one| one.certificate_arn));
        }
        arns
    }

    /// Imports a certificate that does not belong to certloop.
    pub async fn import(&self, certificate: &str, key: &str) -> String {
        import(&self.cloud, certificate, key).await
    }

    /// Imports a self-signed certificate that does not belong to certloop, and adds it to the HTTPS
    /// listener's list.
    pub async fn add_foreign(&self, name: &str) -> String {
        let (certificate, key) = tls::self_signed(&[name]);
        let arn = import(&self.cloud, &certificate, &key).await;
        self.add_to_listener(&arn).await;
        arn
    }

    /// Adds a certificate to the HTTPS listener's list.
    pub async fn add_to_listener(&self, certificate: &str) {
        let add = self.cloud.aws.elb().add_listener_certificates();
        let add = add.listener_arn(&self.listener);
        let certificate = Certificate::builder().certificate_arn(certificate).build();
        add.certificates(certificate).send().await.unwrap();
    }

    /// Removes a certificate from the HTTPS listener's list.
    pub async fn remove_from_listener(&self, certificate: &str) {
        let remove = self.cloud.aws.elb().remove_listener_certificates();
        let remove = remove.listener_arn(&self.listener);
        let certificate = Certificate::builder().certificate_arn(certificate).build();
        remove.certificates(certificate).send().await.unwrap();
    }

    /// Makes a certificate the HTTPS listener's default.
    pub async fn set_default(&self, certificate: &str) {
        let modify = self.cloud.aws.elb().modify_listener();
        let modify = modify.listener_arn(&self.listener);
        let certificate = Certificate::builder().certificate_arn(certificate).build();
        modify.certificates(certificate).send().await.unwrap();
    }

    /// Puts a web ACL in front of the load balancer and returns its ARN. Here it blocks nothing.
    pub async fn associate_web_acl(&self, name: &str) -> String {
        let visible = json!({
            "SampledRequestsEnabled": false, "CloudWatchMetricsEnabled": false, "MetricName": name,
        });
        let acl = json!({
            "Name": name, "Scope": "REGIONAL", "DefaultAction": {"Allow": {}}, "Rules": [],
            "VisibilityConfig": visible,
        });
        let aws = &self.cloud.aws;
        let created = aws
            .json("wafv2", "AWSWAF_20190729.CreateWebACL", &acl)
            .await;
        let acl = created["Summary"]["ARN"].as_str().unwrap().to_owned();
        let both = json!({"WebACLArn": acl, "ResourceArn": self.balancer});
        aws.json("wafv2", "AWSWAF_20190729.AssociateWebACL", &both)
            .await;
        acl
    }

    /// Returns the tags of a certificate.
    pub async fn tags(&self, certificate: &str) -> Vec<(String, String)> {
        let list = self.cloud.aws.acm().list_tags_for_certificate();
        let tags = list.certificate_arn(certificate).send().await.unwrap().tags;
        let tags = tags.unwrap_or_default().into_iter();
        tags.map(|tag| (tag.key, tag.value.unwrap_or_default()))
            .collect()
    }

    /// Adds a rule to the HTTP listener that forwards a path pattern and host to another function.
    pub async fn route(&self, priority: i32, pattern: &str, function: &str, multi_value: bool) {
        let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}");
        let name = format!("tg-{priority}-{:08x}", fastrand::u32(..));
        let group = target_group(&self.cloud, &name, &arn).await;
        if multi_value {
            use aws_sdk_elasticloadbalancingv2::types::TargetGroupAttribute;
            let attribute = TargetGroupAttribute::builder()
                .key("lambda.multi_value_headers.enabled")
                .value("true");
            let modify = self.cloud.aws.elb().modify_target_group_attributes();
            let modify = modify.target_group_arn(&group);
            modify.attributes(attribute.build()).send().await.unwrap();
        }
        let listener = &self.http_listener;
        rule(&self.cloud, listener, priority, pattern, None, &group).await;
    }

    /// Adds such a rule for one host only.
    pub async fn route_host(&self, priority: i32, host: &str, pattern: &str, function: &str) {
        let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}");
        let name = format!("tg-{priority}-{:08x}", fastrand::u32(..));
        let group = target_group(&self.cloud, &name, &arn).await;
        let listener = &self.http_listener;
        rule(&self.cloud, listener, priority, pattern, Some(host), &group).await;
    }

    /// Deletes the rule of this priority from the HTTP listener.
    pub async fn unroute(&self, priority: i32) {
        let elb = self.cloud.aws.elb();
        let rules = elb.describe_rules().listener_arn(&self.http_listener);
        let rules = rules.send().await.unwrap().rules.unwrap_or_default();
        let priority = priority.to_string();
        for rule in rules {
            if rule.priority.as_deref() == Some(&priority) {
                let arn = rule.rule_arn.unwrap_or_default();
                elb.delete_rule().rule_arn(arn).send().await.unwrap();
            }
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.cloud.lambda.forget(&self.renew);
        self.cloud.lambda.forget(&self.challenge);
    }
}

/// Returns the event that the schedule sends.
pub(crate) fn scheduled_event() -> Value {
    json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": ACCOUNT,
        "time": "2026-11-22T12:00:00Z",
        "region": REGION,
        "resources": [format!("arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/certloop")],
        "detail": "{}",
    })
}

async fn balancer(cloud: &Shared, name: &str) -> (String, String) {
    let subnets = cloud.aws.ec2("DescribeSubnets", "").await;
    let subnets = subnets.split("<subnetId>").skip(1).take(2);
    let subnets = subnets.filter_map(|rest| rest.split('<').next().map(str::to_owned));
    let mut create = cloud.aws.elb().create_load_balancer().name(name);
    for subnet in subnets {
        create = create.subnets(subnet);
    }
    let created = create.send().await.unwrap();
    let balancer = created.load_balancers.unwrap_or_default().remove(0);
    (
        balancer.load_balancer_arn.unwrap(),
        balancer.dns_name.unwrap(),
    )
}

async fn target_group(cloud: &Shared, name: &str, function: &str) -> String {
    let elb = cloud.aws.elb();
    let create = elb.create_target_group().name(name);
    let created = create.target_type(TargetTypeEnum::Lambda).send().await;
    let group = created.unwrap().target_groups.unwrap_or_default().remove(0);
    let arn = group.target_group_arn.unwrap();
    let target = TargetDescription::builder().id(function).build();
    let register = elb.register_targets().target_group_arn(&arn);
    register.targets(target).send().await.unwrap();
    arn
}

async fn http_listener(cloud: &Shared, balancer: &str) -> String {
    let redirect = RedirectActionConfig::builder()
        .protocol("HTTPS")
        .port("443")
        .status_code(RedirectActionStatusCodeEnum::Http301)
        .build();
    let action = Action::builder()
        .r#type(ActionTypeEnum::Redirect)
        .redirect_config(redirect)
        .build();
    let create = cloud.aws.elb().create_listener();
    let create = create.load_balancer_arn(balancer).port(80);
    let create = create.protocol(ProtocolEnum::Http).default_actions(action);
    let created = create.send().await.unwrap();
    let listener = created.listeners.unwrap_or_default().remove(0);
    listener.listener_arn.unwrap()
}

async fn https_listener(cloud: &Shared, balancer: &str, certificate: &str) -> String {
    let answer = FixedResponseActionConfig::builder()
        .status_code("200")
        .content_type("text/plain")
        .message_body("the site\n")
        .build();
    let action = Action::builder()
        .r#type(ActionTypeEnum::FixedResponse)
        .fixed_response_config(answer)
        .build();
    let certificate = Certificate::builder().certificate_arn(certificate).build();
    let create = cloud.aws.elb().create_listener();
    let create = create.load_balancer_arn(balancer).port(443);
    let create = create
        .protocol(ProtocolEnum::Https)
        .ssl_policy("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09")
        .certificates(certificate);
    let created = create.default_actions(action).send().await.unwrap();
    let listener = created.listeners.unwrap_or_default().remove(0);
    listener.listener_arn.unwrap()
}

async fn challenge_rule(cloud: &Shared, listener: &str, group: &str) {
    let pattern = "/.well-known/acme-challenge/*";
    rule(cloud, listener, 1, pattern, None, group).await;
}

async fn rule(
    cloud: &Shared,
    listener: &str,
    priority: i32,
    pattern: &str,
    host: Option<&str>,
    group: &str,
) {
    let condition = RuleCondition::builder()
        .field("path-pattern")
        .values(pattern)
        .build();
    let action = Action::builder()
        .r#type(ActionTypeEnum::Forward)
        .target_group_arn(group)
        .build();
    let create = cloud.aws.elb().create_rule().listener_arn(listener);
    let host = host.map(|host| {
        let condition = RuleCondition::builder().field("host-header");
        condition.values(host).build()
    });
    let conditions = std::iter::once(condition).chain(host).collect();
    let create = create.priority(priority).set_conditions(Some(conditions));
    create.actions(action).send().await.unwrap();
}

async fn import(cloud: &Shared, certificate: &str, key: &str) -> String {
    let import = cloud.aws.acm().import_certificate();
    let import = import.certificate(Blob::new(certificate));
    let imported = import.private_key(Blob::new(key)).send().await.unwrap();
    imported.certificate_arn.unwrap()
}
