//! The losses of visitors, by rule 12: certloop must not take anything from a visitor that is not
//! its own.
//!
//! The stand-in for AWS compares what each visitor gets before and after each call. When a cloud
//! ends, it reports every loss that nobody allowed.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::aws::{Aws, HANDS};

/// How long an ending cloud waits for the stand-in's answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A visitor got a valid leaf before a call and does not get it after the call.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The operation, such as `RemoveListenerCertificates`.
    pub operation: String,
    /// The caller: a function's name, `operator` for a command, or [`HANDS`].
    pub caller: String,
    /// The listener's ARN; `None` if the certificate was on none.
    pub listener: Option<String>,
    /// The name that the visitor opens.
    pub name: String,
    /// The only kind of key that the visitor supports: `RSA` or `ECDSA`.
    pub key_type: String,
    /// Whether the visitor sends the name.
    pub sni: bool,
    /// Whether no valid leaf is left. Otherwise an invalid one may also be chosen.
    pub lost: bool,
    /// The ARN of the certificate that served the visitor.
    pub arn: String,
    /// Whether it had both tags of certloop.
    pub ours: bool,
    /// The installation that its tag names.
    pub installation: Option<String>,
    /// ARNs of the certificates that the visitor may get instead.
    pub instead: Vec<String>,
}

impl Loss {
    fn read(loss: &Value) -> Self {
        let text = |field: &str| loss[field].as_str().map(str::to_owned);
        let instead = loss["instead"].as_array().into_iter().flatten();
        Self {
            operation: text("operation").unwrap(),
            caller: text("caller").unwrap(),
            listener: text("listener"),
            name: text("name").unwrap(),
            key_type: text("keyType").unwrap(),
            sni: loss["sni"].as_bool().unwrap(),
            lost: loss["lost"].as_bool().unwrap(),
            arn: text("arn").unwrap(),
            ours: loss["ours"].as_bool().unwrap(),
            installation: text("installation"),
            instead: instead.filter_map(Value::as_str).map(Into::into).collect(),
        }
    }

    /// Reads the stand-in's answer.
    pub(crate) fn read_all(answer: &Value) -> Vec<Self> {
        let losses = answer["losses"].as_array().unwrap();
        losses.iter().map(Self::read).collect()
    }

    /// Returns whether certloop caused it: a function, or a command of the operator.
    pub fn is_certloops(&self) -> bool {
        self.caller != HANDS
    }

    /// Returns whether the leaf did not belong to the caller: it lacks one of both tags, or belongs
    /// to another installation.
    pub fn is_foreign(&self) -> bool {
        let own = |name| Some(format!("{name}-certificates")) == self.installation;
        !self.ours
            || self
                .caller
                .strip_suffix("-renew")
                .is_some_and(|name| !own(name))
    }

    /// Returns whether nobody allowed it: certloop took a foreign leaf from visitors who send its
    /// name.
    pub fn breaks_rule_12(&self) -> bool {
        self.lost && self.sni && self.is_foreign() && self.is_certloops()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            caller,
            name,
            key_type,
            arn,
            instead,
            ..
        } = self;
        let sni = if self.sni { "" } else { ", without SNI" };
        let what = if self.lost { "lost" } else { "may lose" };
        let place = self.listener.as_deref().unwrap_or("no listener");
        write!(
            f,
            "{operation} by {caller}: {name} ({key_type}{sni}) {what} {arn} on {place} \
             to {instead:?}"
        )
    }
}

impl Aws {
    /// Returns all losses of visitors so far, of all callers.
    pub async fn losses(&self) -> Vec<Loss> {
        Loss::read_all(&self.admin("GET", "losses", None).await)
    }

    /// Forgets the losses so far.
    pub async fn forget_losses(&self) {
        self.admin("DELETE", "losses", None).await;
    }
}

/// Returns the losses that break rule 12. It needs no runtime: a cloud calls it when it is dropped.
pub(crate) fn breaking_rule_12(aws: SocketAddr) -> io::Result<Vec<Loss>> {
    let mut stream = TcpStream::connect_timeout(&aws, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request =
        format!("GET /_local/losses HTTP/1.1\r\nHost: {aws}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let answer = serde_json::from_str(body)?;
    let mut losses = Loss::read_all(&answer);
    losses.retain(Loss::breaks_rule_12);
    Ok(losses)
}
