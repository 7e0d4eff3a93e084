//! Amazon Resource Names of what certloop works on: listeners with their load balancers and target
//! groups, and certificates of AWS Certificate Manager.
//!
//! Each kind has its own type, because services report the ARN of a listener in place of a
//! certificate's ARN badly. The account and the region in an ARN decide where a call goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::values::names::quoted;

/// ARN of a listener of an Application Load Balancer:
/// `arn:<partition>:elasticloadbalancing:<region>:<account>:listener/app/<name>/<id>/<id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ListenerArn(Arn);

impl FromStr for ListenerArn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| refuse(text, reason, LISTENER_REMEDY);
        let arn = of_load_balancing(text, LISTENER_REMEDY)?;
        match parts(&arn).as_slice() {
            ["listener", "app", ids @ ..] if ids.len() == 3 && all_ids(ids) => Ok(Self(arn)),
            ["listener", "net", ..] => {
                refuse("is a listener of a Network Load Balancer, which is not yet supported")
            }
            ["listener", "gwy", ..] => {
                refuse("is a listener of a Gateway Load Balancer, which holds no certificates")
            }
            ["loadbalancer", "app" | "net" | "gwy", ..] => {
                refuse("is a load balancer, not one of its listeners")
            }
            ["loadbalancer", _] => refuse("is a Classic Load Balancer, which is not yet supported"),
            ["listener-rule", ..] => refuse("is a rule of a listener, not the listener"),
            ["targetgroup", ..] => refuse("is a target group, not a listener"),
            _ => refuse("is not the ARN of a listener"),
        }
    }
}

impl ListenerArn {
    /// Returns the load balancer that the listener belongs to.
    pub fn load_balancer(&self) -> Option<LoadBalancerArn> {
        let (balancer, _) = self.as_str().rsplit_once('/')?;
        balancer
            .replacen(":listener/", ":loadbalancer/", 1)
            .parse()
            .ok()
    }
}

/// ARN of an Application Load Balancer:
/// `arn:<partition>:elasticloadbalancing:<region>:<account>:loadbalancer/app/<name>/<id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LoadBalancerArn(Arn);

impl LoadBalancerArn {
    /// Returns the common beginning of the ARNs of all its listeners, up to their own id.
    pub fn listeners(&self) -> String {
        self.as_str().replacen(":loadbalancer/", ":listener/", 1) + "/"
    }
}

impl FromStr for LoadBalancerArn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| refuse(text, reason, LOAD_BALANCER_REMEDY);
        let arn = of_load_balancing(text, LOAD_BALANCER_REMEDY)?;
        match parts(&arn).as_slice() {
            ["loadbalancer", "app", ids @ ..] if ids.len() == 2 && all_ids(ids) => Ok(Self(arn)),
            ["loadbalancer", "net", ..] => {
                refuse("is a Network Load Balancer, which is not yet supported")
            }
            ["loadbalancer", _] => refuse("is a Classic Load Balancer, which is not yet supported"),
            ["listener", ..] => refuse("is a listener, not a load balancer"),
            ["targetgroup", ..] => refuse("is a target group, not a load balancer"),
            _ => refuse("is not the ARN of an Application Load Balancer"),
        }
    }
}

/// ARN of a target group:
/// `arn:<partition>:elasticloadbalancing:<region>:<account>:targetgroup/<name>/<id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TargetGroupArn(Arn);

impl FromStr for TargetGroupArn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| refuse(text, reason, TARGET_GROUP_REMEDY);
        let arn = of_load_balancing(text, TARGET_GROUP_REMEDY)?;
        match parts(&arn).as_slice() {
            ["targetgroup", ids @ ..] if ids.len() == 2 && all_ids(ids) => Ok(Self(arn)),
            ["loadbalancer", ..] => refuse("is a load balancer, not a target group"),
            ["listener", ..] => refuse("is a listener, not a target group"),
            _ => refuse("is not the ARN of a target group"),
        }
    }
}

/// ARN of a certificate in AWS Certificate Manager:
/// `arn:<partition>:acm:<region>:<account>:certificate/<id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CertificateArn(Arn);

impl FromStr for CertificateArn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| refuse(text, reason, CERTIFICATE_REMEDY);
        let Some(arn) = Arn::parse(text) else {
            return refuse("is not an ARN");
        };
        if arn.service() == "iam" {
            return refuse("is a server certificate of IAM, not one of Certificate Manager");
        }
        if arn.service() != "acm" {
            return refuse("is not an ARN of Certificate Manager");
        }
        match arn.resource().strip_prefix("certificate/") {
            Some(id) if is_id(id) => Ok(Self(arn)),
            _ => refuse("is not the ARN of a certificate"),
        }
    }
}

/// What every ARN type offers, and how it is serialized as text.
macro_rules! arn {
    ($($name:ident),+) => {$(
        impl $name {
            /// Returns the whole ARN.
            pub fn as_str(&self) -> &str {
                &self.0.text
            }

            /// Returns its region.
            pub fn region(&self) -> &str {
                self.0.region()
            }

            /// Returns the twelve digits of its account.
            pub fn account(&self) -> &str {
                self.0.account()
            }

            /// Returns the partition: `aws`, `aws-cn`, `aws-us-gov`.
            pub fn partition(&self) -> &str {
                self.0.partition()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidArn;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(arn: $name) -> Self {
                arn.0.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0.text, f)
            }
        }
    )+};
}

arn!(ListenerArn, LoadBalancerArn, TargetGroupArn, CertificateArn);

/// Why a text is not the expected ARN, with the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidArn(String);

/// Returns whether `text` is the ARN of a secret in AWS Secrets Manager.
pub(crate) fn is_secret(text: &str) -> bool {
    Arn::parse(text).is_some_and(|arn| {
        arn.service() == "secretsmanager"
            && arn
                .resource()
                .strip_prefix("secret:")
                .is_some_and(|name| !name.is_empty())
    })
}

/// Returns whether `text` has the form of a region name, such as `eu-central-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let parts = text.split('-').collect::<Vec<_>>();
    let Some((number, words)) = parts.split_last() else {
        return false;
    };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    words.len() >= 2
        && words.iter().all(is_word)
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// The ARN of a resource in a region and an account, split only as far as all services agree.
///
/// Comparison and order use the text alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Arn {
    text: String,
}

impl Arn {
    fn parse(text: &str) -> Option<Self> {
        let arn = Self {
            text: text.to_owned(),
        };
        let printable = text.len() <= MAX_ARN && text.bytes().all(|byte| byte.is_ascii_graphic());
        let partition = arn.partition();
        let well_formed = printable
            && arn.part(0) == "arn"
            && (partition == "aws" || partition.starts_with("aws-"))
            && partition
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-')
            // IAM has no regions. We still recognise its ARNs, so that the message can name them.
            && (is_region(arn.region()) || arn.service() == "iam")
            && arn.account().len() == 12
            && arn.account().bytes().all(|b| b.is_ascii_digit())
            && !arn.resource().is_empty();
        well_formed.then_some(arn)
    }

    fn partition(&self) -> &str {
        self.part(1)
    }

    fn service(&self) -> &str {
        self.part(2)
    }

    fn region(&self) -> &str {
        self.part(3)
    }

    fn account(&self) -> &str {
        self.part(4)
    }

    fn resource(&self) -> &str {
        self.part(5)
    }

    fn part(&self, index: usize) -> &str {
        self.text.splitn(6, ':').nth(index).unwrap_or_default()
    }
}

fn of_load_balancing(text: &str, remedy: &str) -> Result<Arn, InvalidArn> {
    match Arn::parse(text) {
        None => refuse(text, "is not an ARN", remedy),
        Some(arn) if arn.service() != "elasticloadbalancing" => {
            refuse(text, "is not an ARN of Elastic Load Balancing", remedy)
        }
        Some(arn) => Ok(arn),
    }
}

fn refuse<T>(text: &str, reason: &str, remedy: &str) -> Result<T, InvalidArn> {
    Err(InvalidArn(format!("{} {reason}: {remedy}", quoted(text))))
}

fn parts(arn: &Arn) -> Vec<&str> {
    arn.resource().split('/').collect()
}

fn all_ids(parts: &[&str]) -> bool {
    parts.iter().all(|part| is_id(part))
}

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

const LISTENER_REMEDY: &str = "give the ARN of an HTTPS listener of an Application Load Balancer, \
     arn:aws:elasticloadbalancing:<region>:<account>:listener/app/... \
     (aws elbv2 describe-listeners --load-balancer-arn ...)";

const LOAD_BALANCER_REMEDY: &str = "give the ARN of an Application Load Balancer, \
    arn:aws:elasticloadbalancing:<region>:<account>:loadbalancer/app/... (aws elbv2 \
    describe-load-balancers)";

const TARGET_GROUP_REMEDY: &str = "give the ARN of a target group, \
    arn:aws:elasticloadbalancing:<region>:<account>:targetgroup/... (aws elbv2 \
    describe-target-groups)";

const CERTIFICATE_REMEDY: &str = "give the ARN of a certificate in AWS Certificate Manager, \
     arn:aws:acm:<region>:<account>:certificate/... (aws acm list-certificates)";

/// The longest ARN that any AWS API accepts.
const MAX_ARN: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
        listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";
    const CERTIFICATE: &str =
        "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012";

    #[test]
    fn a_listener_says_where_it_is() {
        let arn = LISTENER.parse::<ListenerArn>().unwrap();
        assert_eq!(arn.as_str(), LISTENER);
        assert_eq!(arn.to_string(), LISTENER);
        assert_eq!(
            (arn.partition(), arn.region(), arn.account()),
            ("aws", "eu-central-1", "123456789012")
        );
        assert_eq!(
            serde_json::to_value(&arn).unwrap(),
            serde_json::json!(LISTENER)
        );
    }

    #[test]
    fn other_partitions_are_known() {
        for (partition, region) in [
            ("aws-cn", "cn-north-1"),
            ("aws-us-gov", "us-gov-west-1"),
            ("aws-iso", "us-iso-east-1"),
            ("aws-eusc", "eusc-de-east-1"),
        ] {
            let text = CERTIFICATE
                .replace("arn:aws:", &format!("arn:{partition}:"))
                .replace("us-east-1", region);
            let arn = text.parse::<CertificateArn>().unwrap();
            assert_eq!((arn.partition(), arn.region()), (partition, region));
        }
    }

    #[test]
    fn what_is_no_listener_is_named() {
        for (text, reason) in [
            ("", "\"\" is not an ARN:"),
            ("web", "\"web\" is not an ARN:"),
            (
                "arn:aws:elasticloadbalancing:eu-central-1",
                "is not an ARN:",
            ),
            (&LISTENER.replace("123456789012", "12345"), "is not an ARN:"),
            (
                &LISTENER.replace("eu-central-1", "Frankfurt"),
                "is not an ARN:",
            ),
            (&LISTENER.replace("web", "w b"), "is not an ARN:"),
            (
                &LISTENER.replace("arn:aws:", "arn:azure:"),
                "is not an ARN:",
            ),
            (CERTIFICATE, "is not an ARN of Elastic Load Balancing"),
            (
                &LISTENER.replace("/app/", "/net/"),
                "is a listener of a Network Load Balancer, which is not yet supported",
            ),
            (
                &LISTENER.replace("/app/", "/gwy/"),
                "is a listener of a Gateway Load Balancer",
            ),
            (
                &LISTENER.replace("listener/app", "loadbalancer/app"),
                "is a load balancer, not one of its listeners",
            ),
            (
                "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/web",
                "is a Classic Load Balancer, which is not yet supported",
            ),
            (
                &LISTENER.replace("listener/", "listener-rule/"),
                "is a rule of a listener",
            ),
            (
                "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
                 targetgroup/web/50dc6c495c0c9188",
                "is a target group",
            ),
            (
                &LISTENER.replace("/f2f7dc8efc522ab2", ""),
                "is not the ARN of a listener",
            ),
            (
                &LISTENER.replace("/f2f7dc8efc522ab2", "/"),
                "is not the ARN of a listener",
            ),
            (&format!("{LISTENER}/extra"), "is not the ARN of a listener"),
        ] {
            let refusal = text.parse::<ListenerArn>().unwrap_err().to_string();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
            assert!(
                refusal.ends_with("describe-listeners --load-balancer-arn ...)"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_load_balancer_says_how_its_listeners_begin() {
        let balancer = LISTENER
            .replace("listener/", "loadbalancer/")
            .replace("/f2f7dc8efc522ab2", "");
        let arn = balancer.parse::<LoadBalancerArn>().unwrap();
        assert!(LISTENER.starts_with(&arn.listeners()), "{arn}");
        assert!(arn.listeners().ends_with("/50dc6c495c0c9188/"));
    }

    #[test]
    fn load_balancers_target_groups_and_listeners_are_distinguished() {
        const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:\
            targetgroup/web/50dc6c495c0c9188";
        let balancer = LISTENER
            .replace("listener/", "loadbalancer/")
            .replace("/f2f7dc8efc522ab2", "");
        assert_eq!(GROUP.parse::<TargetGroupArn>().unwrap().to_string(), GROUP);
        for (text, reason) in [
            (LISTENER, "is a listener, not a load balancer"),
            (GROUP, "is a target group, not a load balancer"),
            (
                &balancer.replace("/app/", "/net/"),
                "is a Network Load Balancer, which is not yet supported",
            ),
            (CERTIFICATE, "is not an ARN of Elastic Load Balancing"),
            (&format!("{balancer}/x"), "is not the ARN of an Application"),
        ] {
            let refusal = text.parse::<LoadBalancerArn>().unwrap_err().to_string();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
        }
        for (text, reason) in [
            (LISTENER, "is a listener, not a target group"),
            (&*balancer, "is a load balancer, not a target group"),
            ("web", "is not an ARN:"),
        ] {
            let refusal = text.parse::<TargetGroupArn>().unwrap_err().to_string();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn a_certificate_travels_as_text() {
        let json = format!("\"{CERTIFICATE}\"");
        let arn = serde_json::from_str::<CertificateArn>(&json).unwrap();
        assert_eq!(arn.to_string(), CERTIFICATE);
        assert_eq!(
            (arn.partition(), arn.region(), arn.account()),
            ("aws", "us-east-1", "123456789012")
        );
        assert_eq!(serde_json::to_string(&arn).unwrap(), json);
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        for (text, reason) in [
            ("shop", "\"shop\" is not an ARN:"),
            (LISTENER, "is not an ARN of Certificate Manager:"),
            (
                "arn:aws:iam::123456789012:server-certificate/web",
                "is a server certificate of IAM",
            ),
            (
                &CERTIFICATE.replace("certificate/", "account/"),
                "is not the ARN of a certificate:",
            ),
            (
                &CERTIFICATE.replace("certificate/", "certificate/*"),
                "is not the ARN of a certificate:",
            ),
        ] {
            let refusal = text.parse::<CertificateArn>().unwrap_err().to_string();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
            assert!(
                refusal.ends_with("(aws acm list-certificates)"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn regions_have_words_and_a_number() {
        for region in ["eu-central-1", "us-gov-west-1", "ap-southeast-12"] {
            assert!(is_region(region), "{region}");
        }
        for text in [
            "",
            "eu",
            "eu-central",
            "eu-1",
            "EU-CENTRAL-1",
            "eu--1",
            "eu-central-1 ",
            "eu-central-1a",
        ] {
            assert!(!is_region(text), "{text}");
        }
    }
}
