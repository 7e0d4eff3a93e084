//! The port to Elastic Load Balancing in one region: listeners and their certificates.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::target::NewListener;
use crate::values::arn::{ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::problem::ServiceError;

/// The calls a pass makes to the load balancers of one region.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait LoadBalancer {
    /// Returns the listener, or `None` when the service said that there is none.
    async fn listener(&self, arn: &ListenerArn) -> Result<Option<Listener>, ServiceError>;

    /// Returns the listener on a port of a load balancer, or `None` when the service said that there is none.
    async fn on_port(
        &self,
        load_balancer: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<ListenerArn>, ServiceError>;

    /// Makes an HTTPS listener with this default certificate. The error's code is `DuplicateListener` where the port is taken.
    async fn create(
        &self,
        new: &NewListener,
        certificate: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<ListenerArn, AttachError>;

    /// Returns the certificates the listener holds, to the last page.
    async fn certificates(&self, arn: &ListenerArn) -> Result<Holding, ServiceError>;

    /// Adds to the listener's certificate list (SNI). Adding what is there succeeds.
    async fn add(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError>;

    /// Makes it the default certificate; the list and the other properties stay.
    async fn set_default(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError>;

    /// Removes from the certificate list. Removing what is not there succeeds.
    async fn remove(&self, arn: &ListenerArn, certificate: &str) -> Result<(), ServiceError>;

    /// Returns the load balancer, or `None` when the service said that there is none.
    async fn balancer(&self, arn: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError>;

    /// Returns the listener on a port with all its rules, or `None` when the service said that there is none.
    async fn rules_on(
        &self,
        arn: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<RuledListener>, ServiceError>;

    /// Returns the target groups of functions, to the last page: of the whole region, since one that no rule leads to belongs to no
    /// load balancer.
    async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError>;

    /// Returns the name of the web ACL (AWS WAF) before the load balancer, or `None` when the service said that there is none.
    async fn web_acl(&self, arn: &LoadBalancerArn) -> Result<Option<String>, ServiceError>;
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// Its own DNS name.
    pub host: String,
    /// Whether it can be reached from outside (`internet-facing`).
    pub internet_facing: bool,
}

/// A listener with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuledListener {
    /// Its ARN.
    pub arn: ListenerArn,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    /// All of its rules, the default one too, in any order.
    pub rules: Vec<Rule>,
}

/// A rule of a listener. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its ARN.
    pub arn: String,
    /// The lowest is asked first; `None` is the default rule, which comes last.
    pub priority: Option<u32>,
    /// When it holds.
    pub conditions: Vec<RuleMatch>,
    /// What it does in the end: forward, redirect or answer.
    pub action: RuleAction,
    /// Whether it asks who one is before.
    pub authenticates: bool,
}

/// A condition of a rule: one of the values must fit. `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleMatch {
    /// `path-pattern`, by letter case.
    Path(Vec<String>),
    /// `host-header`, whatever the letter case.
    Host(Vec<String>),
    /// `http-request-method`.
    Method(Vec<String>),
    /// `source-ip`, CIDR blocks.
    SourceIp(Vec<String>),
    /// `http-header`, whatever the letter case.
    Header {
        /// The header's name.
        name: String,
        /// Its values.
        values: Vec<String>,
    },
    /// `query-string`.
    Query,
    /// One by regular expressions, or of a kind that is new.
    Other(String),
}

/// What a rule does in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Forwards to target groups; those of weight 0 are left out.
    Forward(Vec<String>),
    /// Sends elsewhere; where to, as an address.
    Redirect(String),
    /// Answers with this status.
    FixedResponse(String),
    /// Something new.
    Other(String),
}

/// A listener and the load balancer before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `HTTPS` for one that can hold certificates.
    pub protocol: String,
    /// The port it listens on.
    pub port: u16,
    /// The load balancer's own DNS name.
    pub host: String,
    /// Whether it can be reached from outside (`internet-facing`).
    pub internet_facing: bool,
}

/// The certificates of a listener, by ARN as the service writes it (an IAM server certificate has another shape than ours).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The default certificate.
    pub default: Option<String>,
    /// The certificate list (SNI), the default only when it also stands there.
    pub list: Vec<String>,
}

impl Holding {
    /// Whether the certificate is attached, as the default or in the list.
    pub fn has(&self, certificate: &str) -> bool {
        self.default.as_deref() == Some(certificate)
            || self.list.iter().any(|held| held == certificate)
    }
}

impl Holding {
    /// Returns it without these in the list.
    pub fn without(mut self, certificates: &BTreeSet<String>) -> Self {
        self.list.retain(|held| !certificates.contains(held));
        self
    }
}

/// Why a certificate could not be attached.
#[derive(Debug)]
pub enum AttachError {
    /// `CertificateNotFound` or `UnsupportedCertificate`: also seen for a while right after an import.
    NotYetKnown(ServiceError),
    /// `TooManyCertificates`: the list is full.
    Full(ServiceError),
    /// Anything else.
    Service(ServiceError),
}
