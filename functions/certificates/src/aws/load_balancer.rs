//! Elastic Load Balancing (version 2) of one region: the certificates of listeners.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, LoadBalancerSchemeEnum, ProtocolEnum, Tag,
};

use super::{service_error, unusable};
use crate::arn::{ListenerArn, LoadBalancerArn};
use crate::document::NewListener;
use crate::load_balancer::{AttachError, Holding, Listener, LoadBalancer};
use crate::problem::ServiceError;

/// The load balancers of one region. Every call made here is safe to repeat, so the SDK's retries are on.
#[derive(Clone)]
pub struct LoadBalancerClient {
    client: Client,
}

impl LoadBalancerClient {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self {
            client: Client::new(config),
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
            // Deleted since, and its listeners with it.
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
        let output = self
            .client
            .create_listener()
            .load_balancer_arn(new.load_balancer.as_str())
            .protocol(ProtocolEnum::Https)
            .port(i32::from(new.port))
            .set_ssl_policy(new.tls_policy.clone())
            .certificates(by_arn(certificate))
            .default_actions(forward)
            .set_tags(Some(tags))
            .send()
            .await
            .map_err(|error| attach_error(service_error(OPERATION, &error)))?;
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
        // What is not given stays as it is; whatever else were given would be replaced whole.
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
            // What does not exist is on no list.
            Err(error) if error.code.as_deref() == Some("CertificateNotFound") => Ok(()),
            Err(error) => Err(error),
        }
    }
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

/// The most the service gives at once.
const PAGE: i32 = 400;

#[cfg(test)]
mod tests {
    use super::super::canned::{Answer, Canned};
    use super::*;

    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";
    const CERTIFICATE: &str =
        "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012";

    fn client(service: &Canned) -> LoadBalancerClient {
        LoadBalancerClient::new(&service.config())
    }

    fn listener() -> ListenerArn {
        LISTENER.parse().unwrap()
    }

    fn done(operation: &str, result: &str) -> Answer {
        Answer::xml(
            200,
            &format!(
                "<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"
            ),
        )
    }

    fn refusal(status: u16, code: &str) -> Answer {
        Answer::xml(
            status,
            &format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
            ),
        )
    }

    fn described(port: &str) -> Answer {
        done(
            "DescribeListeners",
            &format!(
                "<Listeners><member><ListenerArn>{LISTENER}</ListenerArn><LoadBalancerArn>balancer</LoadBalancerArn>\
                 <Protocol>HTTPS</Protocol>{port}</member></Listeners>"
            ),
        )
    }

    #[tokio::test]
    async fn a_listener_is_told_with_its_load_balancer() {
        for (scheme, internet_facing) in [("internet-facing", true), ("internal", false)] {
            let service = Canned::answering([
                described("<Port>8443</Port>"),
                done(
                    "DescribeLoadBalancers",
                    &format!(
                        "<LoadBalancers><member><DNSName>web.elb.example</DNSName><Scheme>{scheme}</Scheme></member></LoadBalancers>"
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

    const BALANCER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188";
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
        assert!(
            matches!(create().await, Err(AttachError::Service(error)) if error.code.as_deref() == Some("DuplicateListener"))
        );
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
                "<member><CertificateArn>{arn}</CertificateArn><IsDefault>{default}</IsDefault></member>"
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
    async fn refusals_to_attach_are_told_apart() {
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
}
