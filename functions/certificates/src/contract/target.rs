//! Where a certificate goes, as documents say it.

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
        /// Which listener.
        at: ListenerAt,
        /// How the listener holds the certificate.
        #[serde(rename = "as")]
        placement: Placement,
    },
    /// An import into AWS Certificate Manager alone, for whatever follows its ARN.
    CertificateManager {
        /// Region to import into, or the one we run in.
        region: Option<String>,
    },
}

impl Target {
    /// Returns the text that `permit.targets` is matched against.
    ///
    /// It is a listener's ARN, with `*` for its id where only its load balancer and port are named; for `certificateManager` it is
    /// `arn:aws:acm:<region>:<account>:certificate/*`, in which `*` stands for a region or account not given.
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

/// Which listener.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListenerAt {
    /// The one of this ARN, which somebody else made.
    Arn(ListenerArn),
    /// The one on a port of a load balancer, made with the first certificate where there is none.
    Port(Box<NewListener>),
}

impl ListenerAt {
    /// Returns the region it is in.
    pub fn region(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.region(),
            Self::Port(new) => new.load_balancer.region(),
        }
    }
}

/// A listener as it is to be made; one that is there already gets the certificate and stays as it is otherwise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewListener {
    /// Its load balancer.
    pub load_balancer: LoadBalancerArn,
    /// The port it listens on.
    pub port: u16,
    /// The target group that its default action forwards to.
    pub forward: TargetGroupArn,
    /// Name of the security policy, or the load balancer's own choice.
    pub tls_policy: Option<String>,
}

impl NewListener {
    /// Returns the text under which it is known before it has an ARN: a load balancer has one listener on a port.
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
    /// In its list, chosen by the name a client asks for.
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
        // Not by equality: one listener as both `sni` and `default` is a contradiction too.
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
                    "{text} is not permitted by permit.targets of settings.json: remove it here, or add a pattern there"
                ),
            ))
        };
        let text = target.permit_text(account);
        if !settings.permit.permits_target(&text) {
            return refuse(&field, &text);
        }
        // What a new listener leads to is published by it.
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

/// Checks the region that is imported into.
fn check_region(at: &impl Fn(&str) -> String, region: Option<&str>) -> Result<(), Invalid> {
    match region.filter(|region| !arn::is_region(region)) {
        Some(region) => Err(Invalid::at(
            at("region"),
            format!(
                "{} is not the name of a region: write one such as us-east-1, or leave it out for the function's own",
                quoted(region)
            ),
        )),
        None => Ok(()),
    }
}

/// Checks a listener that is named by its ARN.
fn check_listener(
    at: &impl Fn(&str) -> String,
    document: TargetDocument,
    account: Option<&str>,
) -> Result<ListenerArn, Invalid> {
    let Some(text) = document.arn else {
        return Err(Invalid::at(
            at("arn"),
            "is missing: add the ARN of the listener, or \"loadBalancer\" and \"forward\" to have one made",
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
            "goes with \"loadBalancer\", for a listener that is to be made, and this one is named by its arn: remove one of the two",
        )),
        None => Ok(arn),
    }
}

/// Checks a listener that is named by its load balancer and port.
fn check_new_listener(
    at: &impl Fn(&str) -> String,
    document: TargetDocument,
    account: Option<&str>,
) -> Result<NewListener, Invalid> {
    if document.arn.is_some() {
        return Err(Invalid::at(
            at("arn"),
            "names a listener that is there, and \"loadBalancer\" one that may have to be made: remove one of the two",
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
            "is missing: add the ARN of the target group that the listener is to forward to",
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
            "is 80, which stays plain HTTP: authorities begin there to validate a name; write another, such as 443",
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
                "{} is not the name of a security policy: write one such as ELBSecurityPolicy-TLS13-1-2-2021-06 \
                 (aws elbv2 describe-ssl-policies)",
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

/// Returns whether a target type is one of those to come, however its writer spells it.
fn is_planned(kind: &str) -> bool {
    let letters = kind
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect::<String>();
    PLANNED_TARGETS.contains(&letters.as_str())
}

// Flat rather than an enum tagged by `type`: serde buffers those, and an error inside would lose its field.
/// A place a certificate goes to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Target", extend("oneOf" = [
    {
        "properties": {
            "type": {"const": "listener"}, "region": {"type": "null"}, "arn": {"type": "string"}, "loadBalancer": {"type": "null"},
            "port": {"type": "null"}, "forward": {"type": "null"}, "tlsPolicy": {"type": "null"}
        },
        "required": ["arn"]
    },
    {
        "properties": {
            "type": {"const": "listener"}, "region": {"type": "null"}, "arn": {"type": "null"},
            "loadBalancer": {"type": "string"}, "forward": {"type": "string"}, "port": {"not": {"const": 80}}
        },
        "required": ["loadBalancer", "forward"]
    },
    {
        "properties": {
            "type": {"const": "certificateManager"}, "arn": {"type": "null"}, "as": {"type": "null"},
            "loadBalancer": {"type": "null"}, "port": {"type": "null"}, "forward": {"type": "null"}, "tlsPolicy": {"type": "null"}
        }
    }
]))]
pub(super) struct TargetDocument {
    /// "listener": an HTTPS listener of an Application Load Balancer. "certificateManager": an import into AWS Certificate
    /// Manager alone, for CloudFront, API Gateway and whatever else follows its ARN.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["listener", "certificateManager"]))]
    kind: String,
    /// ARN of the listener, in any region of the account.
    #[serde(default)]
    #[schemars(regex(
        pattern = r"^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:listener/app/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$"
    ))]
    arn: Option<String>,
    /// ARN of the load balancer, instead of a listener's: its listener on `port` is used, and made with the first certificate where
    /// there is none. HTTP-01 needs only port 80, so no placeholder is needed.
    #[serde(default)]
    #[schemars(regex(
        pattern = r"^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:loadbalancer/app/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$"
    ))]
    load_balancer: Option<String>,
    /// Port of the listener of `loadBalancer`. Left out: 443.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    port: Option<u16>,
    /// ARN of the target group that a listener made for `loadBalancer` forwards to. One that is there already keeps its actions.
    #[serde(default)]
    #[schemars(regex(
        pattern = r"^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$"
    ))]
    forward: Option<String>,
    /// Name of the security policy of a listener made for `loadBalancer`. Left out: the load balancer's own choice. One that is there
    /// already keeps its policy.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    tls_policy: Option<String>,
    /// How the listener holds the certificate: "sni" (the default) in its list, "default" as its default certificate.
    #[serde(rename = "as", default)]
    placement: Option<Placement>,
    /// Region that certificateManager imports into. Left out: the one certloop runs in.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z]+(-[a-z]+)+-[0-9]+$"))]
    region: Option<String>,
    /// Key of a role in settings.json, for a target in another account. Not yet supported.
    #[serde(default)]
    account: Option<String>,
}

/// Where a new listener listens unless the document says otherwise.
const HTTPS_PORT: u16 = 443;

/// Where validation begins (RFC 8555 section 8.3).
const HTTP_PORT: u16 = 80;

const MAX_TLS_POLICY: usize = 255;

/// Target types to come, in lower case and without separators.
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
