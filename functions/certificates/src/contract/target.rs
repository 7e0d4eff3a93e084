//! Where a certificate goes, in the words of a document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::settings::Settings;
use crate::contract::strict::{Invalid, Object};
use crate::values::arn::{self, ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::names::quoted;

/// Where a certificate goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Target {
    /// An HTTPS listener of an Application Load Balancer of our account, in any region.
    Listener {
        /// The listener.
        at: ListenerAt,
        /// How the listener holds the certificate.
        #[serde(rename = "as")]
        placement: Placement,
    },
    /// An import into AWS Certificate Manager alone, for services that use the certificate by its
    /// ARN.
    CertificateManager {
        /// Region of the import; `None` for our own region.
        region: Option<String>,
    },
}

impl Target {
    /// Returns the text that the patterns of `permit.targets` are matched with.
    ///
    /// For a listener it is the ARN, with `*` for the id where the document names only load
    /// balancer and port. For `certificateManager` it is
    /// `arn:aws:acm:<region>:<account>:certificate/*`, with `*` for a region or an account that is
    /// not given.
    pub fn permit_text(&self, account: Option<&str>) -> String {
        match self {
            Self::Listener { at, .. } => match at {
                ListenerAt::Arn(arn) => arn.to_string(),
                ListenerAt::Port(new) => new.load_balancer.listeners() + "*",
            },
            Self::CertificateManager { region } => format!(
                "arn:aws:acm:{}:{}:certificate/*",
                region.as_deref().unwrap_or("*"),
                account.unwrap_or("*")
            ),
        }
    }
}

/// How a document names a listener.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListenerAt {
    /// By its ARN: a listener that exists already.
    Arn(ListenerArn),
    /// By load balancer and port. If there is none, the first certificate creates it.
    Port(Box<NewListener>),
}

impl ListenerAt {
    /// Returns its region.
    pub fn region(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.region(),
            Self::Port(new) => new.load_balancer.region(),
        }
    }
}

/// The properties of a listener that certloop creates. A listener that exists already gets the
/// certificate and keeps everything else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewListener {
    /// Its load balancer.
    pub load_balancer: LoadBalancerArn,
    /// The port that it listens on.
    pub port: u16,
    /// The target group that its default action forwards to.
    pub forward: TargetGroupArn,
    /// Name of the security policy; `None` for the one that AWS recommends.
    pub tls_policy: Option<String>,
}

impl NewListener {
    /// Returns the text that identifies it before it has an ARN: a load balancer has at most one
    /// listener on a port.
    pub fn key(&self) -> String {
        format!("{}:{}", self.load_balancer, self.port)
    }
}

/// How a listener holds a certificate.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// In its list; clients choose it by the name that they ask for.
    #[default]
    Sni,
    /// As its default certificate.
    Default,
}

pub(super) fn check_targets(
    documents: Vec<Object<TargetDocument>>,
    settings: &Settings,
    account: Option<&str>,
) -> Result<Vec<Target>, Invalid> {
    let mut targets = Vec::<Target>::with_capacity(documents.len());
    for (index, Object(document)) in documents.into_iter().enumerate() {
        let field = format!("targets[{index}]");
        let target = check_target(&field, document, account)?;
        // Does not compare by equality: the same listener as `sni` and as `default` is a
        // contradiction too.
        let same = |other: &Target| match (other, &target) {
            (Target::Listener { at: one, .. }, Target::Listener { at: two, .. }) => {
                match (one, two) {
                    (ListenerAt::Port(one), ListenerAt::Port(two)) => one.key() == two.key(),
                    (one, two) => one == two,
                }
            }
            (one, two) => one == two,
        };
        if let Some(earlier) = targets.iter().position(same) {
            return Err(Invalid::at(
                field,
                format!("is the same target as targets[{earlier}]: remove one of the two"),
            ));
        }
        let refuse = |field: &str, text: &str| {
            Err(Invalid::at(
                field,
                format!(
                    "{text} is not permitted by permit.targets of settings.json: remove it here, \
                     or add a pattern there"
                ),
            ))
        };
        let text = target.permit_text(account);
        if !settings.permit.permits_target(&text) {
            return refuse(&field, &text);
        }
        // A new listener makes its target group public.
        if let Target::Listener {
            at: ListenerAt::Port(new),
            ..
        } = &target
            && !settings.permit.permits_target(new.forward.as_str())
        {
            return refuse(&format!("{field}.forward"), new.forward.as_str());
        }
        targets.push(target);
    }
    Ok(targets)
}

fn check_target(
    field: &str,
    document: TargetDocument,
    account: Option<&str>,
) -> Result<Target, Invalid> {
    let at = |part: &str| format!("{field}.{part}");
    let kind = document.kind.as_str();
    check_kind(&at, kind)?;
    if document.account.is_some() {
        return Err(Invalid::not_yet(
            at("account"),
            "a target in another account",
            "remove it",
        ));
    }
    let belongs_to = |part: &str, owner: &str| {
        Err(Invalid::at(
            at(part),
            format!("belongs to a {owner} target, and this one is a {kind}: remove it"),
        ))
    };

    if kind == "certificateManager" {
        let of_listener = [
            ("arn", document.arn.is_some()),
            ("as", document.placement.is_some()),
            ("loadBalancer", document.load_balancer.is_some()),
            ("port", document.port.is_some()),
            ("forward", document.forward.is_some()),
            ("tlsPolicy", document.tls_policy.is_some()),
        ];
        if let Some((part, _)) = of_listener.into_iter().find(|(_, given)| *given) {
            return belongs_to(part, "listener");
        }
        check_region(&at, document.region.as_deref())?;
        return Ok(Target::CertificateManager {
            region: document.region,
        });
    }

    if document.region.is_some() {
        return belongs_to("region", "certificateManager");
    }
    Ok(Target::Listener {
        placement: document.placement.unwrap_or_default(),
        at: match document.load_balancer.is_some() {
            true => ListenerAt::Port(Box::new(check_new_listener(&at, document, account)?)),
            false => ListenerAt::Arn(check_listener(&at, document, account)?),
        },
    })
}

fn check_kind(at: &impl Fn(&str) -> String, kind: &str) -> Result<(), Invalid> {
    match kind {
        "listener" | "certificateManager" => Ok(()),
        planned if is_planned(planned) => Err(Invalid::not_yet(
            at("type"),
            &format!("the target type {}", quoted(planned)),
            "use \"listener\" or \"certificateManager\"",
        )),
        other => Err(Invalid::at(
            at("type"),
            format!(
                "{} is not a target type: use \"listener\" or \"certificateManager\"",
                quoted(other)
            ),
        )),
    }
}

/// Checks the region of an import.
fn check_region(at: &impl Fn(&str) -> String, region: Option<&str>) -> Result<(), Invalid> {
    match region.filter(|region| !arn::is_region(region)) {
        Some(region) => Err(Invalid::at(
            at("region"),
            format!(
                "{} is not the name of a region: write one such as us-east-1, or leave it out for \
                 the function's own",
                quoted(region)
            ),
        )),
        None => Ok(()),
    }
}

/// Checks a listener that the document names by its ARN.
fn check_listener(
    at: &impl Fn(&str) -> String,
    document: TargetDocument,
    account: Option<&str>,
) -> Result<ListenerArn, Invalid> {
    let Some(text) = document.arn else {
        return Err(Invalid::at(
            at("arn"),
            "is missing: add the ARN of the listener, or \"loadBalancer\" and \"forward\" to let \
             certloop create one",
        ));
    };
    let arn = text
        .parse::<ListenerArn>()
        .map_err(|refusal| Invalid::at(at("arn"), refusal.to_string()))?;
    check_account(at("arn"), "listener", arn.account(), account)?;
    let of_new = [
        ("port", document.port.is_some()),
        ("forward", document.forward.is_some()),
        ("tlsPolicy", document.tls_policy.is_some()),
    ];
    match of_new.into_iter().find(|(_, given)| *given) {
        Some((part, _)) => Err(Invalid::at(
            at(part),
            "goes with \"loadBalancer\", for a listener that certloop creates, and this one is \
             named by its arn: remove one of the two",
        )),
        None => Ok(arn),
    }
}

/// Checks a listener that the document names by load balancer and port.
fn check_new_listener(
    at: &impl Fn(&str) -> String,
    document: TargetDocument,
    account: Option<&str>,
) -> Result<NewListener, Invalid> {
    if document.arn.is_some() {
        return Err(Invalid::at(
            at("arn"),
            "names a listener that exists, and \"loadBalancer\" one that certloop may create: \
             remove one of the two",
        ));
    }
    let load_balancer = document
        .load_balancer
        .unwrap_or_default()
        .parse::<LoadBalancerArn>()
        .map_err(|refusal| Invalid::at(at("loadBalancer"), refusal.to_string()))?;
    check_account(
        at("loadBalancer"),
        "load balancer",
        load_balancer.account(),
        account,
    )?;
    let port = document.port.unwrap_or(HTTPS_PORT);
    check_port(at, port)?;
    let Some(forward) = document.forward else {
        return Err(Invalid::at(
            at("forward"),
            "is missing: add the ARN of the target group that the listener must forward to",
        ));
    };
    let forward = forward
        .parse::<TargetGroupArn>()
        .map_err(|refusal| Invalid::at(at("forward"), refusal.to_string()))?;
    if (forward.region(), forward.account()) != (load_balancer.region(), load_balancer.account()) {
        return Err(Invalid::at(
            at("forward"),
            "is in another region or account than the load balancer: name one of the same",
        ));
    }
    check_tls_policy(at, document.tls_policy.as_deref())?;
    Ok(NewListener {
        load_balancer,
        port,
        forward,
        tls_policy: document.tls_policy,
    })
}

fn check_port(at: &impl Fn(&str) -> String, port: u16) -> Result<(), Invalid> {
    if port == 0 {
        return Err(Invalid::at(at("port"), "is 0: write 1 to 65535"));
    }
    if port == HTTP_PORT {
        return Err(Invalid::at(
            at("port"),
            "is 80, which stays plain HTTP: authorities start on it to validate a name; write \
             another, such as 443",
        ));
    }
    Ok(())
}

fn check_tls_policy(at: &impl Fn(&str) -> String, policy: Option<&str>) -> Result<(), Invalid> {
    let is_policy = |name: &str| {
        !name.is_empty()
            && name.len() <= MAX_TLS_POLICY
            && (name.bytes()).all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if let Some(policy) = policy.filter(|name| !is_policy(name)) {
        return Err(Invalid::at(
            at("tlsPolicy"),
            format!(
                "{} is not the name of a security policy: write one such as \
                 ELBSecurityPolicy-TLS13-1-2-2021-06 (aws elbv2 describe-ssl-policies)",
                quoted(policy)
            ),
        ));
    }
    Ok(())
}

fn check_account(
    field: String,
    what: &str,
    owner: &str,
    account: Option<&str>,
) -> Result<(), Invalid> {
    match account {
        Some(account) if account != owner => Err(Invalid::not_yet(
            field,
            &format!("a {what} of another account ({owner}, and this is {account})"),
            &format!("give a {what} of this account, or run certloop in that one"),
        )),
        _ => Ok(()),
    }
}

/// Returns whether a target type is one of the planned ones, in any spelling.
fn is_planned(kind: &str) -> bool {
    let letters = kind
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect::<String>();
    PLANNED_TARGETS.contains(&letters.as_str())
}

// One flat type, not an enum tagged by `type`: serde buffers those, and an error inside would lose
// its field.
const LISTENER_PATTERN: &str = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:\
    listener/app/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$";

const LOAD_BALANCER_PATTERN: &str = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:\
    loadbalancer/app/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$";

const TARGET_GROUP_PATTERN: &str = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:\
    targetgroup/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$";

/// A place that a certificate goes to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Target", extend("oneOf" = [
    {
        "properties": {
            "type": {"const": "listener"}, "region": {"type": "null"}, "arn": {"type": "string"},
            "loadBalancer": {"type": "null"}, "port": {"type": "null"}, "forward": {"type": "null"},
            "tlsPolicy": {"type": "null"}
        },
        "required": ["arn"]
    },
    {
        "properties": {
            "type": {"const": "listener"}, "region": {"type": "null"}, "arn": {"type": "null"},
            "loadBalancer": {"type": "string"}, "forward": {"type": "string"},
            "port": {"not": {"const": 80}}
        },
        "required": ["loadBalancer", "forward"]
    },
    {
        "properties": {
            "type": {"const": "certificateManager"}, "arn": {"type": "null"},
            "as": {"type": "null"}, "loadBalancer": {"type": "null"}, "port": {"type": "null"},
            "forward": {"type": "null"}, "tlsPolicy": {"type": "null"}
        }
    }
]))]
pub(super) struct TargetDocument {
    /// "listener": an HTTPS listener of an Application Load Balancer. "certificateManager": an
    /// import into AWS Certificate Manager alone, for CloudFront, API Gateway and other services
    /// that use the certificate by its ARN.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["listener", "certificateManager"]))]
    kind: String,
    /// ARN of the listener, in any region of the account.
    #[serde(default)]
    #[schemars(regex(pattern = LISTENER_PATTERN))]
    arn: Option<String>,
    /// ARN of a load balancer, instead of a listener's ARN. certloop uses the listener on `port`;
    /// if there is none, it creates one with the first certificate. HTTP-01 needs only port 80, so
    /// no placeholder is needed.
    #[serde(default)]
    #[schemars(regex(pattern = LOAD_BALANCER_PATTERN))]
    load_balancer: Option<String>,
    /// Port of the listener of `loadBalancer`. Left out: 443.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    port: Option<u16>,
    /// ARN of the target group that a listener created for `loadBalancer` forwards to. A listener
    /// that exists already keeps its actions.
    #[serde(default)]
    #[schemars(regex(pattern = TARGET_GROUP_PATTERN))]
    forward: Option<String>,
    /// Name of the security policy of a listener created for `loadBalancer`. Left out: the policy
    /// that AWS recommends, today `ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09`. A listener that
    /// exists already keeps its policy.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    tls_policy: Option<String>,
    /// How the listener holds the certificate. "sni": in its list. "default": as its default
    /// certificate. Left out: "sni".
    #[serde(rename = "as", default)]
    placement: Option<Placement>,
    /// Region that certificateManager imports into. Left out: the region that certloop runs in.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z]+(-[a-z]+)+-[0-9]+$"))]
    region: Option<String>,
    /// Key of a role in settings.json, for a target in another account. Not yet supported.
    #[serde(default)]
    account: Option<String>,
}

/// The port of a new listener unless the document says otherwise.
const HTTPS_PORT: u16 = 443;

/// The port where validation starts (RFC 8555 section 8.3).
const HTTP_PORT: u16 = 80;

const MAX_TLS_POLICY: usize = 255;

/// Planned target types, in lower case and without separators.
const PLANNED_TARGETS: &[&str] = &[
    "apigateway",
    "applicationgateway",
    "azure",
    "classic",
    "classicloadbalancer",
    "cloudfront",
    "gcp",
    "googlecloud",
    "keyvault",
    "kubernetes",
    "kubernetessecret",
    "networkloadbalancer",
    "nlb",
    "secretsmanager",
];
