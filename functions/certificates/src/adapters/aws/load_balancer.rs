//! Elastic Load Balancing (version 2) of one region, and AWS WAF (version 2) in front of it: the
//! certificates and rules of listeners.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    self as types, Action, ActionTypeEnum, Certificate, LoadBalancerSchemeEnum, ProtocolEnum,
    RedirectActionConfig, RuleCondition, Tag, TargetTypeEnum,
};

use super::error::{service_error, unusable};
use crate::contract::target::NewListener;
use crate::ports::load_balancer::{
    self, AttachError, Balancer, Holding, Listener, LoadBalancer, Rule, RuleMatch, RuledListener,
};
use crate::rules::tls_policy::RECOMMENDED_POLICY;
use crate::values::arn::{ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::problem::ServiceError;

/// The load balancers of one region. Every call here is safe to repeat, so the SDK's retries are
/// on.
#[derive(Clone)]
pub struct LoadBalancerClient {
    client: Client,
    firewall: aws_sdk_wafv2::Client,
}

impl LoadBalancerClient {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self {
            client: Client::new(config),
            firewall: aws_sdk_wafv2::Client::new(config),
        }
    }
}

impl LoadBalancer for LoadBalancerClient {
    async fn listener(&self, arn: &ListenerArn) -> Result<Option<Listener>, ServiceError> {
        const LISTENERS: &str = "DescribeListeners";
        const BALANCERS: &str = "DescribeLoadBalancers";
        let sent = self
            .client
            .describe_listeners()
            .listener_arns(arn.as_str())
            .send()
            .await;
        let output = match sent.map_err(|error| service_error(LISTENERS, &error)) {
            Ok(output) => output,
            Err(error) if error.code.as_deref() == Some("ListenerNotFound") => return Ok(None),
            Err(error) => return Err(error),
        };
        let listener = output.listeners.unwrap_or_default().into_iter().next();
        let Some((listener, balancer)) =
            listener.and_then(|mut it| it.load_balancer_arn.take().map(|balancer| (it, balancer)))
        else {
            return Err(unusable(
                LISTENERS,
                "the answer lacks the listener or its load balancer",
            ));
        };
        let sent = self
            .client
            .describe_load_balancers()
            .load_balancer_arns(balancer)
            .send()
            .await;
        let output = match sent.map_err(|error| service_error(BALANCERS, &error)) {
            Ok(output) => output,
            // The load balancer was deleted since, and its listeners with it.
            Err(error) if error.code.as_deref() == Some("LoadBalancerNotFound") => return Ok(None),
            Err(error) => return Err(error),
        };
        let balancer = output.load_balancers.unwrap_or_default().into_iter().next();
        let host = balancer.as_ref().and_then(|it| it.dns_name.clone());
        let port = listener.port.and_then(|port| u16::try_from(port).ok());
        let (Some(balancer), Some(host), Some(port)) = (balancer, host, port) else {
            return Err(unusable(
                BALANCERS,
                "the answers lack the listener's port or the load balancer's DNS name",
            ));
        };
        Ok(Some(Listener {
            protocol: listener
                .protocol
                .map(|protocol| protocol.as_str().to_owned())
                .unwrap_or_default(),
            port,
            host,
            internet_facing: balancer.scheme == Some(LoadBalancerSchemeEnum::InternetFacing),
            tls_policy: listener.ssl_policy,
        }))
    }

    async fn on_port(
        &self,
        load_balancer: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<ListenerArn>, ServiceError> {
        const OPERATION: &str = "DescribeListeners";
        let mut pages = self
            .client
            .describe_listeners()
            .load_balancer_arn(load_balancer.as_str())
            .page_size(PAGE)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| service_error(OPERATION, &error))?;
            let mut listeners = page.listeners.unwrap_or_default().into_iter();
            if let Some(found) = listeners.find(|it| it.port == Some(i32::from(port))) {
                return listener_arn(OPERATION, found.listener_arn).map(Some);
            }
        }
        Ok(None)
    }

    async fn create(
        &self,
        new: &NewListener,
        certificate: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<ListenerArn, AttachError> {
        const OPERATION: &str = "CreateListener";
        let forward = Action::builder()
            .r#type(ActionTypeEnum::Forward)
            .target_group_arn(new.forward.as_str())
            .build();
        let tags = (tags.iter())
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect();
        let create = self
            .client
            .create_listener()
            .load_balancer_arn(new.load_balancer.as_str())
            .protocol(ProtocolEnum::Https)
            .port(i32::from(new.port))
            .certificates(by_arn(certificate))
            .default_actions(forward)
            .set_tags(Some(tags));
        let named = new.tls_policy.as_deref();
        let policy = named.unwrap_or(RECOMMENDED_POLICY);
        let mut made = create.clone().ssl_policy(policy).send().await;
        // The recommended policy may be too new for a partition.
        if let Err(error) = &made
            && named.is_none()
            && service_error(OPERATION, error).code.as_deref() == Some("SSLPolicyNotFound")
        {
            made = create.ssl_policy(OLDER_POLICY).send().await;
        }
        let output = made.map_err(|error| attach_error(service_error(OPERATION, &error)))?;
        let made = output.listeners.unwrap_or_default().into_iter().next();
        listener_arn(OPERATION, made.and_then(|it| it.listener_arn)).map_err(AttachError::Service)
    }

    async fn certificates(&self, arn: &ListenerArn) -> Result<Holding, ServiceError> {
        const OPERATION: &str = "DescribeListenerCertificates";
        let mut pages = self
            .client
            .describe_listener_certificates()
            .listener_arn(arn.as_str())
            .page_size(PAGE)
            .into_paginator()
            .send();
        let mut holding = Holding::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| service_error(OPERATION, &error))?;
            for certificate in page.certificates.unwrap_or_default() {
                let arn = certificate
                    .certificate_arn
                    .ok_or_else(|| unusable(OPERATION, "an entry has no CertificateArn"))?;
                if certificate.is_default == Some(true) {
                    holding.default = Some(arn);
                } else if !holding.list.contains(&arn) {
                    holding.list.push(arn);
                }
            }
        }
        Ok(holding)
    }

    async fn add(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError> {
        self.client
            .add_listener_certificates()
            .listener_arn(arn.as_str())
            .certificates(by_arn(certificate))
            .send()
            .await
            .map_err(|error| attach_error(service_error("AddListenerCertificates", &error)))?;
        Ok(())
    }

    async fn set_default(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError> {
        // A property that is not given stays unchanged. A property that is given is replaced as a
        // whole.
        self.client
            .modify_listener()
            .listener_arn(arn.as_str())
            .certificates(by_arn(certificate))
            .send()
            .await
            .map_err(|error| attach_error(service_error("ModifyListener", &error)))?;
        Ok(())
    }

    async fn remove(&self, arn: &ListenerArn, certificate: &str) -> Result<(), ServiceError> {
        let sent = self
            .client
            .remove_listener_certificates()
            .listener_arn(arn.as_str())
            .certificates(by_arn(certificate))
            .send()
            .await;
        match sent.map_err(|error| service_error("RemoveListenerCertificates", &error)) {
            Ok(_) => Ok(()),
            // A certificate that does not exist is on no list.
            Err(error) if error.code.as_deref() == Some("CertificateNotFound") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn balancer(&self, arn: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError> {
        const OPERATION: &str = "DescribeLoadBalancers";
        let sent = self
            .client
            .describe_load_balancers()
            .load_balancer_arns(arn.as_str())
            .send()
            .await;
        let output = match sent.map_err(|error| service_error(OPERATION, &error)) {
            Ok(output) => output,
            Err(error) if error.code.as_deref() == Some("LoadBalancerNotFound") => return Ok(None),
            Err(error) => return Err(error),
        };
        let balancer = output.load_balancers.unwrap_or_default().into_iter().next();
        let host = balancer.as_ref().and_then(|it| it.dns_name.clone());
        let (Some(balancer), Some(host)) = (balancer, host) else {
            return Err(unusable(
                OPERATION,
                "the answer lacks the load balancer or its DNS name",
            ));
        };
        Ok(Some(Balancer {
            host,
            internet_facing: balancer.scheme == Some(LoadBalancerSchemeEnum::InternetFacing),
        }))
    }

    async fn rules_on(
        &self,
        arn: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<RuledListener>, ServiceError> {
        const LISTENERS: &str = "DescribeListeners";
        const RULES: &str = "DescribeRules";
        let mut pages = self
            .client
            .describe_listeners()
            .load_balancer_arn(arn.as_str())
            .page_size(PAGE)
            .into_paginator()
            .send();
        let mut found = None;
        while let Some(page) = pages.next().await {
            let page = match page.map_err(|error| service_error(LISTENERS, &error)) {
                Ok(page) => page,
                Err(error) if error.code.as_deref() == Some("LoadBalancerNotFound") => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let mut listeners = page.listeners.unwrap_or_default().into_iter();
            found = listeners.find(|it| it.port == Some(i32::from(port)));
            if found.is_some() {
                break;
            }
        }
        let Some(found) = found else {
            return Ok(None);
        };
        let mut listener = RuledListener {
            arn: listener_arn(LISTENERS, found.listener_arn)?,
            protocol: (found.protocol.as_ref())
                .map(|protocol| protocol.as_str().to_owned())
                .unwrap_or_default(),
            rules: Vec::new(),
        };
        let mut pages = self
            .client
            .describe_rules()
            .listener_arn(listener.arn.as_str())
            .page_size(PAGE)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| service_error(RULES, &error))?;
            for one in page.rules.unwrap_or_default() {
                listener.rules.push(
                    rule(one).ok_or_else(|| unusable(RULES, "a rule has no ARN or no priority"))?,
                );
            }
        }
        Ok(Some(listener))
    }

    async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError> {
        const OPERATION: &str = "DescribeTargetGroups";
        let mut pages = self
            .client
            .describe_target_groups()
            .page_size(PAGE)
            .into_paginator()
            .send();
        let mut groups = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| service_error(OPERATION, &error))?;
            for group in page.target_groups.unwrap_or_default() {
                if group.target_type != Some(TargetTypeEnum::Lambda) {
                    continue;
                }
                let arn = group.target_group_arn.and_then(|arn| arn.parse().ok());
                groups.push(arn.ok_or_else(|| unusable(OPERATION, "a target group has no ARN"))?);
            }
        }
        Ok(groups)
    }

    async fn web_acl(&self, arn: &LoadBalancerArn) -> Result<Option<String>, ServiceError> {
        const OPERATION: &str = "GetWebACLForResource";
        let sent = self
            .firewall
            .get_web_acl_for_resource()
            .resource_arn(arn.as_str())
            .send()
            .await;
        match sent.map_err(|error| service_error(OPERATION, &error)) {
            Ok(output) => Ok(output.web_acl.map(|web_acl| web_acl.name)),
            Err(error) if error.code.as_deref() == Some("WAFNonexistentItemException") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn rule(rule: types::Rule) -> Option<Rule> {
    let priority = rule.priority.as_deref()?;
    let priority = match priority {
        "default" => None,
        priority => Some(priority.parse().ok()?),
    };
    let mut actions = rule.actions.unwrap_or_default();
    actions.sort_by_key(|action| action.order.unwrap_or(i32::MAX));
    let authenticates = actions.iter().any(|action| {
        let kind = action.r#type.as_ref().map(ActionTypeEnum::as_str);
        kind.is_some_and(|kind| kind.starts_with("authenticate-") || kind == "jwt-validation")
    });
    Some(Rule {
        arn: rule.rule_arn?,
        priority,
        conditions: (rule.conditions.unwrap_or_default().into_iter())
            .map(condition)
            .collect(),
        action: action(actions.pop()),
        authenticates,
        rewrites: (rule.transforms.unwrap_or_default().into_iter())
            .filter_map(|transform| transform.url_rewrite_config)
            .flat_map(|config| config.rewrites.unwrap_or_default())
            .map(|rewrite| {
                (
                    rewrite.regex.unwrap_or_default(),
                    rewrite.replace.unwrap_or_default(),
                )
            })
            .collect(),
    })
}

fn condition(condition: RuleCondition) -> RuleMatch {
    // A single value is at the top level, several are in an object of their own.
    let plain = condition.values.unwrap_or_default();
    let of = |values: Option<Vec<String>>| match values {
        Some(values) if !values.is_empty() => values,
        _ => plain.clone(),
    };
    let by_expressions = |field: &str, expressions: &Option<Vec<String>>| {
        let any = expressions.as_ref().is_some_and(|all| !all.is_empty());
        any.then(|| RuleMatch::Other(format!("{field} by regular expressions")))
    };
    let field = condition.field.unwrap_or_default();
    match field.as_str() {
        "path-pattern" => {
            let config = condition.path_pattern_config;
            let (values, expressions) =
                config.map_or((None, None), |config| (config.values, config.regex_values));
            by_expressions(&field, &expressions).unwrap_or_else(|| RuleMatch::Path(of(values)))
        }
        "host-header" => {
            let config = condition.host_header_config;
            let (values, expressions) =
                config.map_or((None, None), |config| (config.values, config.regex_values));
            by_expressions(&field, &expressions).unwrap_or_else(|| RuleMatch::Host(of(values)))
        }
        "http-header" => {
            let config = condition.http_header_config;
            let (name, values, expressions) = config.map_or((None, None, None), |config| {
                (config.http_header_name, config.values, config.regex_values)
            });
            by_expressions(&field, &expressions).unwrap_or_else(|| RuleMatch::Header {
                name: name.unwrap_or_default(),
                values: of(values),
            })
        }
        "http-request-method" => RuleMatch::Method(of(condition
            .http_request_method_config
            .and_then(|config| config.values))),
        "source-ip" => RuleMatch::SourceIp(of(condition
            .source_ip_config
            .and_then(|config| config.values))),
        "query-string" => RuleMatch::Query,
        _ => RuleMatch::Other(field),
    }
}

fn action(action: Option<Action>) -> load_balancer::RuleAction {
    use load_balancer::RuleAction::{FixedResponse, Forward, Other, Redirect};
    let Some(action) = action else {
        return Other("nothing".to_owned());
    };
    match action.r#type {
        Some(ActionTypeEnum::Forward) => {
            let groups = action
                .forward_config
                .and_then(|config| config.target_groups);
            let used = groups.unwrap_or_default().into_iter();
            let used = used.filter(|group| group.weight != Some(0));
            let mut arns: Vec<String> = used.filter_map(|group| group.target_group_arn).collect();
            if arns.is_empty() {
                arns.extend(action.target_group_arn);
            }
            Forward(arns)
        }
        Some(ActionTypeEnum::Redirect) => Redirect(address(action.redirect_config)),
        Some(ActionTypeEnum::FixedResponse) => FixedResponse(
            action
                .fixed_response_config
                .and_then(|config| config.status_code)
                .unwrap_or_default(),
        ),
        kind => Other(kind.map_or_else(String::new, |kind| kind.as_str().to_owned())),
    }
}

/// Returns the target of a redirect; parts that are not given come from the request.
fn address(config: Option<RedirectActionConfig>) -> String {
    let Some(config) = config else {
        return "another address".to_owned();
    };
    let part = |value: Option<String>, else_: &str| value.unwrap_or_else(|| else_.to_owned());
    format!(
        "{}://{}:{}{}",
        part(config.protocol, "#{protocol}").to_ascii_lowercase(),
        part(config.host, "#{host}"),
        part(config.port, "#{port}"),
        part(config.path, "/#{path}"),
    )
}

fn listener_arn(operation: &'static str, arn: Option<String>) -> Result<ListenerArn, ServiceError> {
    arn.and_then(|arn| arn.parse().ok())
        .ok_or_else(|| unusable(operation, "the answer lacks the listener's ARN"))
}

fn by_arn(arn: &str) -> Certificate {
    Certificate::builder().certificate_arn(arn).build()
}

fn attach_error(error: ServiceError) -> AttachError {
    match error.code.as_deref() {
        Some("CertificateNotFound" | "UnsupportedCertificate") => AttachError::NotYetKnown(error),
        Some("TooManyCertificates") => AttachError::Full(error),
        _ => AttachError::Service(error),
    }
}

/// The most entries that the service returns at once.
/// [`RECOMMENDED_POLICY`] without post-quantum key exchange.
const OLDER_POLICY: &str = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06";
const PAGE: i32 = 400;

#[cfg(test)]
mod tests {
    use super::super::canned::{Canned, CannedAnswer};
    use super::*;

    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";
    const CERTIFICATE: &str =
        "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012";

    fn client(service: &Canned) -> LoadBalancerClient {
        LoadBalancerClient::new(&service.config())
    }

    fn listener() -> ListenerArn {
        LISTENER.parse().unwrap()
    }

    fn done(operation: &str, result: &str) -> CannedAnswer {
        CannedAnswer::xml(
            200,
            &format!(
                "<{operation}Response><{operation}Result>{result}</{operation}Result>\
                 </{operation}Response>"
            ),
        )
    }

    fn refusal(status: u16, code: &str) -> CannedAnswer {
        CannedAnswer::xml(
            status,
            &format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message>\
                 </Error></ErrorResponse>"
            ),
        )
    }

    fn described(port: &str) -> CannedAnswer {
        done(
            "DescribeListeners",
            &format!(
                "<Listeners><member><ListenerArn>{LISTENER}</ListenerArn>\
                 <LoadBalancerArn>balancer</LoadBalancerArn>\
                 <Protocol>HTTPS</Protocol>{port}</member></Listeners>"
            ),
        )
    }

    #[tokio::test]
    async fn a_listener_is_returned_with_its_load_balancer() {
        for (scheme, internet_facing) in [("internet-facing", true), ("internal", false)] {
            let service = Canned::answering([
                described("<Port>8443</Port>"),
                done(
                    "DescribeLoadBalancers",
                    &format!(
                        "<LoadBalancers><member><DNSName>web.elb.example</DNSName>\
                         <Scheme>{scheme}</Scheme></member></LoadBalancers>"
                    ),
                ),
            ]);
            let found = client(&service)
                .listener(&listener())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                found,
                Listener {
                    protocol: "HTTPS".to_owned(),
                    port: 8443,
                    host: "web.elb.example".to_owned(),
                    internet_facing,
                    tls_policy: None,
                }
            );
            let [first, second] = service.requests();
            assert_eq!(
                first.field("ListenerArns.member.1").as_deref(),
                Some(LISTENER)
            );
            assert_eq!(
                second.field("LoadBalancerArns.member.1").as_deref(),
                Some("balancer")
            );
        }
    }

    const BALANCER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        loadbalancer/app/web/50dc6c495c0c9188";
    const GROUP: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/site/73e2d6bc24d8a067";

    #[tokio::test]
    async fn a_listener_is_looked_for_by_port_on_every_page() {
        let plain = "<member><ListenerArn>plain</ListenerArn><Port>80</Port></member>";
        let ours =
            format!("<member><ListenerArn>{LISTENER}</ListenerArn><Port>443</Port></member>");
        let service = Canned::answering([
            done(
                "DescribeListeners",
                &format!("<Listeners>{plain}</Listeners><NextMarker>more</NextMarker>"),
            ),
            done(
                "DescribeListeners",
                &format!("<Listeners>{ours}</Listeners>"),
            ),
            done(
                "DescribeListeners",
                &format!("<Listeners>{plain}</Listeners>"),
            ),
            refusal(400, "LoadBalancerNotFound"),
        ]);
        let client = client(&service);
        let balancer = BALANCER.parse().unwrap();
        assert_eq!(
            client.on_port(&balancer, 443).await.unwrap(),
            Some(listener())
        );
        assert_eq!(client.on_port(&balancer, 443).await.unwrap(), None);
        let gone = client.on_port(&balancer, 443).await.unwrap_err();
        assert_eq!(gone.code.as_deref(), Some("LoadBalancerNotFound"));
        let [first, second, _, _] = service.requests();
        assert_eq!(first.field("LoadBalancerArn").as_deref(), Some(BALANCER));
        assert_eq!(second.field("Marker").as_deref(), Some("more"));
    }

    #[tokio::test]
    async fn a_listener_is_made_with_one_certificate_and_our_tags() {
        let made = format!(
            "<Listeners><member><ListenerArn>{LISTENER}</ListenerArn></member></Listeners>"
        );
        let service = Canned::answering([
            done("CreateListener", &made),
            refusal(400, "DuplicateListener"),
            refusal(400, "CertificateNotFound"),
        ]);
        let client = client(&service);
        let new = NewListener {
            load_balancer: BALANCER.parse().unwrap(),
            port: 8443,
            forward: GROUP.parse().unwrap(),
            tls_policy: Some("ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned()),
        };
        let tags = BTreeMap::from([("certloop:installation".to_owned(), "bucket".to_owned())]);
        let create = async || client.create(&new, CERTIFICATE, &tags).await;
        assert_eq!(create().await.unwrap(), listener());
        let Err(AttachError::Service(error)) = create().await else {
            panic!("the port is free");
        };
        assert_eq!(error.code.as_deref(), Some("DuplicateListener"));
        assert!(matches!(create().await, Err(AttachError::NotYetKnown(_))));
        let [first, _, _] = service.requests();
        for (field, value) in [
            ("LoadBalancerArn", BALANCER),
            ("Protocol", "HTTPS"),
            ("Port", "8443"),
            ("SslPolicy", "ELBSecurityPolicy-TLS13-1-2-2021-06"),
            ("Certificates.member.1.CertificateArn", CERTIFICATE),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", GROUP),
            ("Tags.member.1.Key", "certloop:installation"),
            ("Tags.member.1.Value", "bucket"),
        ] {
            assert_eq!(first.field(field).as_deref(), Some(value), "{field}");
        }
    }

    #[tokio::test]
    async fn only_what_the_service_says_is_not_found_is_absent() {
        let service = Canned::answering([
            refusal(400, "ListenerNotFound"),
            described("<Port>443</Port>"),
            refusal(400, "LoadBalancerNotFound"),
            refusal(403, "AccessDenied"),
            done("DescribeListeners", ""),
            described(""),
            done(
                "DescribeLoadBalancers",
                "<LoadBalancers><member><DNSName>a</DNSName></member></LoadBalancers>",
            ),
        ]);
        let client = client(&service);
        assert_eq!(client.listener(&listener()).await.unwrap(), None);
        assert_eq!(client.listener(&listener()).await.unwrap(), None);
        let denied = client.listener(&listener()).await.unwrap_err();
        assert_eq!(
            (denied.code.as_deref(), denied.status),
            (Some("AccessDenied"), Some(403))
        );
        assert!(client.listener(&listener()).await.is_err());
        assert!(client.listener(&listener()).await.is_err());
        service.requests::<7>();
    }

    #[tokio::test]
    async fn the_certificates_are_read_to_the_last_page() {
        let entry = |arn: &str, default: bool| {
            format!(
                "<member><CertificateArn>{arn}</CertificateArn>\
                 <IsDefault>{default}</IsDefault></member>"
            )
        };
        let page = |entries: &[String], more: &str| {
            done(
                "DescribeListenerCertificates",
                &format!("<Certificates>{}</Certificates>{more}", entries.concat()),
            )
        };
        let service = Canned::answering([
            page(
                &[entry("a", true), entry("a", false), entry("b", false)],
                "<NextMarker>next</NextMarker>",
            ),
            page(&[entry("b", false), entry("c", false)], ""),
        ]);
        let holding = client(&service).certificates(&listener()).await.unwrap();
        assert_eq!(
            holding,
            Holding {
                default: Some("a".to_owned()),
                list: ["a", "b", "c"].map(str::to_owned).to_vec(),
            }
        );
        let [first, second] = service.requests();
        assert_eq!(first.field("Marker"), None);
        assert_eq!(second.field("Marker").as_deref(), Some("next"));
        assert_eq!(second.field("ListenerArn").as_deref(), Some(LISTENER));
    }

    #[tokio::test]
    async fn certificates_that_cannot_be_read_are_no_empty_list() {
        let service = Canned::answering([
            refusal(400, "ListenerNotFound"),
            refusal(403, "AccessDenied"),
        ]);
        let client = client(&service);
        for code in ["ListenerNotFound", "AccessDenied"] {
            let error = client.certificates(&listener()).await.unwrap_err();
            assert_eq!(error.code.as_deref(), Some(code));
        }
    }

    #[tokio::test]
    async fn exactly_one_certificate_is_added() {
        let service = Canned::answering([
            refusal(429, "PriorRequestNotComplete"),
            refusal(400, "Throttling"),
            done("AddListenerCertificates", ""),
        ]);
        client(&service)
            .add(&listener(), CERTIFICATE)
            .await
            .unwrap();
        let [.., request] = service.requests::<3>();
        assert_eq!(
            request.fields(),
            [
                ("Action", "AddListenerCertificates"),
                ("Certificates.member.1.CertificateArn", CERTIFICATE),
                ("ListenerArn", LISTENER),
                ("Version", "2015-12-01"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[tokio::test]
    async fn a_default_is_set_and_nothing_else() {
        let service = Canned::answering([done("ModifyListener", "")]);
        client(&service)
            .set_default(&listener(), CERTIFICATE)
            .await
            .unwrap();
        let [request] = service.requests();
        assert_eq!(
            request.fields(),
            [
                ("Action", "ModifyListener"),
                ("Certificates.member.1.CertificateArn", CERTIFICATE),
                ("ListenerArn", LISTENER),
                ("Version", "2015-12-01"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[tokio::test]
    async fn refusals_to_attach_are_distinguished() {
        for (code, kind) in [
            ("CertificateNotFound", "not yet known"),
            ("UnsupportedCertificate", "not yet known"),
            ("TooManyCertificates", "full"),
            ("ListenerNotFound", "service"),
            ("AccessDenied", "service"),
        ] {
            let service = Canned::answering([refusal(400, code), refusal(400, code)]);
            let client = client(&service);
            for error in [
                client.add(&listener(), CERTIFICATE).await.unwrap_err(),
                client
                    .set_default(&listener(), CERTIFICATE)
                    .await
                    .unwrap_err(),
            ] {
                let (told, error) = match error {
                    AttachError::NotYetKnown(error) => ("not yet known", error),
                    AttachError::Full(error) => ("full", error),
                    AttachError::Service(error) => ("service", error),
                };
                assert_eq!((told, error.code.as_deref()), (kind, Some(code)));
            }
            service.requests::<2>();
        }
    }

    #[tokio::test]
    async fn removing_what_does_not_exist_succeeds() {
        let service = Canned::answering([
            done("RemoveListenerCertificates", ""),
            refusal(400, "CertificateNotFound"),
            refusal(400, "OperationNotPermitted"),
        ]);
        let client = client(&service);
        let foreign = "arn:aws:iam::123456789012:server-certificate/web";
        client.remove(&listener(), foreign).await.unwrap();
        client.remove(&listener(), foreign).await.unwrap();
        let error = client.remove(&listener(), foreign).await.unwrap_err();
        assert_eq!(error.code.as_deref(), Some("OperationNotPermitted"));
        let [request, ..] = service.requests::<3>();
        assert_eq!(
            request
                .field("Certificates.member.1.CertificateArn")
                .as_deref(),
            Some(foreign)
        );
    }

    #[tokio::test]
    async fn a_load_balancer_is_returned_or_surely_absent() {
        let service = Canned::answering([
            done(
                "DescribeLoadBalancers",
                "<LoadBalancers><member><DNSName>web.elb.example</DNSName>\
                 <Scheme>internal</Scheme></member></LoadBalancers>",
            ),
            refusal(400, "LoadBalancerNotFound"),
            refusal(403, "AccessDenied"),
        ]);
        let client = client(&service);
        let arn = BALANCER.parse().unwrap();
        assert_eq!(
            client.balancer(&arn).await.unwrap(),
            Some(Balancer {
                host: "web.elb.example".to_owned(),
                internet_facing: false
            })
        );
        assert_eq!(client.balancer(&arn).await.unwrap(), None);
        assert!(client.balancer(&arn).await.is_err());
    }

    #[tokio::test]
    async fn the_rules_of_port_80_are_read_to_the_last_page() {
        let service = Canned::answering([
            CannedAnswer::xml(200, include_str!("fixtures/listeners.xml")),
            CannedAnswer::xml(200, include_str!("fixtures/rules-first-page.xml")),
            CannedAnswer::xml(200, include_str!("fixtures/rules-last-page.xml")),
        ]);
        let arn = BALANCER.parse().unwrap();
        let found = client(&service).rules_on(&arn, 80).await.unwrap().unwrap();
        assert_eq!(
            (found.arn.as_str(), found.protocol.as_str()),
            (LISTENER, "HTTP")
        );
        let text = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let [one, two, three, last] = found.rules.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(
            *one,
            Rule {
                arn: "rule-10".to_owned(),
                priority: Some(10),
                conditions: vec![
                    RuleMatch::Path(text(&["/a/*"])),
                    RuleMatch::Host(text(&["a.example", "b.example"]))
                ],
                action: load_balancer::RuleAction::Forward(text(&[GROUP])),
                authenticates: false,
                rewrites: Vec::new(),
            }
        );
        assert_eq!(
            two.conditions,
            [
                RuleMatch::SourceIp(text(&["192.0.2.0/24"])),
                RuleMatch::Method(text(&["GET"])),
                RuleMatch::Header {
                    name: "User-Agent".to_owned(),
                    values: text(&["*bot*"])
                },
                RuleMatch::Query
            ]
        );
        assert_eq!(
            two.action,
            load_balancer::RuleAction::FixedResponse("403".to_owned())
        );
        assert!(two.authenticates);
        assert!(
            matches!(three.conditions.as_slice(), [RuleMatch::Other(_)]),
            "{three:?}"
        );
        assert_eq!(
            three.action,
            load_balancer::RuleAction::Forward(text(&[GROUP]))
        );
        assert_eq!(last.priority, None);
        assert_eq!(
            last.action,
            load_balancer::RuleAction::Redirect("https://#{host}:443/#{path}".to_owned())
        );
        let [_, _, second_page] = service.requests();
        assert_eq!(second_page.field("Marker").as_deref(), Some("more"));
    }

    #[tokio::test]
    async fn no_listener_on_port_80_is_not_no_answer() {
        let service = Canned::answering([
            done("DescribeListeners", "<Listeners/>"),
            refusal(400, "LoadBalancerNotFound"),
            refusal(403, "AccessDenied"),
        ]);
        let client = client(&service);
        let arn = BALANCER.parse().unwrap();
        assert_eq!(client.rules_on(&arn, 80).await.unwrap(), None);
        assert_eq!(client.rules_on(&arn, 80).await.unwrap(), None);
        assert!(client.rules_on(&arn, 80).await.is_err());
    }

    #[tokio::test]
    async fn only_target_groups_of_functions_are_returned() {
        let group = |arn: &str, kind: &str| {
            format!(
                "<member><TargetGroupArn>{arn}</TargetGroupArn>\
                 <TargetType>{kind}</TargetType></member>"
            )
        };
        let service = Canned::answering([
            done(
                "DescribeTargetGroups",
                &format!(
                    "<TargetGroups>{}</TargetGroups><NextMarker>more</NextMarker>",
                    group("x", "instance")
                ),
            ),
            done(
                "DescribeTargetGroups",
                &format!("<TargetGroups>{}</TargetGroups>", group(GROUP, "lambda")),
            ),
        ]);
        let groups = client(&service).function_groups().await.unwrap();
        assert_eq!(groups, [GROUP.parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_web_acl_is_returned_by_name() {
        let service = Canned::answering([
            CannedAnswer::json(200, include_str!("fixtures/web-acl.json")),
            CannedAnswer::json(200, "{}"),
            CannedAnswer::refusal(400, "WAFNonexistentItemException", "none"),
            CannedAnswer::refusal(400, "AccessDeniedException", "no"),
        ]);
        let client = client(&service);
        let arn = BALANCER.parse().unwrap();
        assert_eq!(client.web_acl(&arn).await.unwrap().as_deref(), Some("edge"));
        assert_eq!(client.web_acl(&arn).await.unwrap(), None);
        assert_eq!(client.web_acl(&arn).await.unwrap(), None);
        let denied = client.web_acl(&arn).await.unwrap_err();
        assert_eq!(denied.code.as_deref(), Some("AccessDeniedException"));
        let [first, ..] = service.requests::<4>();
        assert_eq!(first.json(), serde_json::json!({"ResourceArn": BALANCER}));
    }
}
