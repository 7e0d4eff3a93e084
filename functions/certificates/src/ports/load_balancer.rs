//! The port to Elastic Load Balancing in one region: listeners and their certificates.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::target::NewListener;
use crate::values::arn::{ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::problem::ServiceError;

/// The calls that a pass makes to the load balancers of one region.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait LoadBalancer {
    /// Returns the listener. `None` when the service says that it does not exist.
    async fn listener(&self, arn: &ListenerArn) -> Result<Option<Listener>, ServiceError>;

    /// Returns the listener on a port of a load balancer. `None` when the service says that it does
    /// not exist.
    async fn on_port(
        &self,
        load_balancer: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<ListenerArn>, ServiceError>;

    /// Creates an HTTPS listener with this default certificate. The error's code is
    /// `DuplicateListener` when the port is taken.
    async fn create(
        &self,
        new: &NewListener,
        certificate: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<ListenerArn, AttachError>;

    /// Returns the certificates of the listener, to the last page.
    async fn certificates(&self, arn: &ListenerArn) -> Result<Holding, ServiceError>;

    /// Adds the certificate to the listener's certificate list (SNI). Succeeds if it is already
    /// there.
    async fn add(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError>;

    /// Makes it the default certificate. The list and the other properties do not change.
    async fn set_default(&self, arn: &ListenerArn, certificate: &str) -> Result<(), AttachError>;

    /// Removes the certificate from the certificate list. Succeeds if it is not there.
    async fn remove(&self, arn: &ListenerArn, certificate: &str) -> Result<(), ServiceError>;

    /// Returns the load balancer. `None` when the service says that it does not exist.
    async fn balancer(&self, arn: &LoadBalancerArn) -> Result<Option<Balancer>, ServiceError>;

    /// Returns the listener on a port with all its rules. `None` when the service says that it does
    /// not exist.
    async fn rules_on(
        &self,
        arn: &LoadBalancerArn,
        port: u16,
    ) -> Result<Option<RuledListener>, ServiceError>;

    /// Returns the target groups of functions, to the last page. It covers the whole region,
    /// because a group that no rule leads to belongs to no load balancer.
    async fn function_groups(&self) -> Result<Vec<TargetGroupArn>, ServiceError>;

    /// Returns the name of the web ACL (AWS WAF) in front of the load balancer. `None` when the
    /// service says that there is none.
    async fn web_acl(&self, arn: &LoadBalancerArn) -> Result<Option<String>, ServiceError>;
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// Its own DNS name.
    pub host: String,
    /// Whether it is reachable from the internet (`internet-facing`).
    pub internet_facing: bool,
}

/// A listener with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuledListener {
    /// Its ARN.
    pub arn: ListenerArn,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    /// All of its rules, including the default rule, in any order.
    pub rules: Vec<Rule>,
}

/// A rule of a listener. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its ARN.
    pub arn: String,
    /// The rule with the lowest number is tried first. `None` is the default rule, which is tried
    /// last.
    pub priority: Option<u32>,
    /// Its conditions.
    pub conditions: Vec<RuleMatch>,
    /// Its final action: forward, redirect or answer.
    pub action: RuleAction,
    /// Whether it authenticates users before that action.
    pub authenticates: bool,
    /// Its `url-rewrite` transforms: a regular expression, and what replaces its match. A rewritten
    /// host does not matter: the challenge function answers by the path alone.
    pub rewrites: Vec<(String, String)>,
}

/// A condition of a rule: one of the values must match. `*` matches any characters, `?` matches
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleMatch {
    /// `path-pattern`; letter case matters.
    Path(Vec<String>),
    /// `host-header`; letter case does not matter.
    Host(Vec<String>),
    /// `http-request-method`.
    Method(Vec<String>),
    /// `source-ip`, CIDR blocks.
    SourceIp(Vec<String>),
    /// `http-header`; letter case does not matter.
    Header {
        /// The header's name.
        name: String,
        /// Its values.
        values: Vec<String>,
    },
    /// `query-string`.
    Query,
    /// A condition with regular expressions, or of an unknown kind.
    Other(String),
}

/// The final action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Forwards to target groups; groups of weight 0 are left out.
    Forward(Vec<String>),
    /// Redirects to this address.
    Redirect(String),
    /// Answers with this status.
    FixedResponse(String),
    /// An unknown action.
    Other(String),
}

/// A listener with the name of its load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its protocol; `HTTPS` if it can hold certificates.
    pub protocol: String,
    /// The port that it listens on.
    pub port: u16,
    /// The load balancer's own DNS name.
    pub host: String,
    /// Whether the load balancer is reachable from the internet (`internet-facing`).
    pub internet_facing: bool,
    /// The name of its security policy; `None` if it is not HTTPS.
    pub tls_policy: Option<String>,
}

/// The certificates of a listener, by ARN in the service's form. The ARN of an IAM server
/// certificate has another form than ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The default certificate.
    pub default: Option<String>,
    /// The certificate list (SNI). It contains the default certificate only if that was added to
    /// the list too.
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
    /// Returns a copy without these certificates in the list.
    pub fn without(mut self, certificates: &BTreeSet<String>) -> Self {
        self.list.retain(|held| !certificates.contains(held));
        self
    }
}

/// Why a certificate cannot be attached.
#[derive(Debug)]
pub enum AttachError {
    /// `CertificateNotFound` or `UnsupportedCertificate`. Also happens for a short time after an
    /// import.
    NotYetKnown(ServiceError),
    /// `TooManyCertificates`: the list is full.
    Full(ServiceError),
    /// Anything else.
    Service(ServiceError),
}
