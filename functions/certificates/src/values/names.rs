//! Names of certificates, which operators choose, and names of hosts, which authorities and the DNS
//! know.
//!
//! Both types check their text on construction, so their users need no check. A host name is stored
//! in its wire form: lower case, international labels as A-labels (RFC 5890), processed by UTS 46
//! (non-transitional, STD3).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Name of a wanted certificate. It appears in object keys, tags, reports and log lines.
///
/// `[a-z0-9][a-z0-9-]{0,62}`, so it needs no escaping in any of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CertificateName(String);

impl CertificateName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_short_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName::new(format!(
            "{} cannot name a certificate: use 1 to {MAX_LABEL} of a-z, 0-9 and -, the first not \
             a -",
            quoted(text)
        )))
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// DNS name that a certificate can hold: lower-case A-labels, optionally with a leading `*.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DnsName(String);

impl DnsName {
    /// Parses a name and normalises it.
    ///
    /// Normalises letter case, international letters and one trailing dot. Refuses, with the
    /// reason, what no public CA signs: a single label, an underscore, more than ten labels, an IP
    /// address.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        refuse_what_is_no_name(text)?;

        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(InvalidName::new(format!(
                "{} has a * that is not its whole first label: write *.example.com or list \
                 the names",
                quoted(text)
            )));
        }

        let ascii = Uts46::new()
            .to_ascii(
                rest.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::Check,
                DnsLength::Ignore,
            )
            .map_err(|_| refusal_of_letters(text, rest))?;
        // Check again after the mapping, which knows other dots (U+3002) and other digits (full
        // width).
        let base = ascii.strip_suffix('.').unwrap_or(&ascii);
        check_labels(text, base)?;

        let name = match wildcard {
            true => format!("*.{base}"),
            false => base.to_owned(),
        };
        if name.len() > MAX_NAME {
            return Err(InvalidName::new(format!(
                "{} is {} characters long on the wire and a name may have {MAX_NAME}: use \
                 a shorter name",
                quoted(text),
                name.len()
            )));
        }
        Ok(Self(name))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the name begins with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Returns whether a certificate for this name serves `other`.
    ///
    /// A name covers itself. `*.x` covers every name that has exactly one label more than `x` (RFC
    /// 6125 section 6.4.3).
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        match (self.0.strip_prefix("*."), other.0.split_once('.')) {
            (Some(base), Some((_, parent))) => base == parent,
            _ => false,
        }
    }
}

impl FromStr for DnsName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for DnsName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is not a valid name, with the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidName {
    reason: String,
}

impl InvalidName {
    fn new(reason: String) -> Self {
        Self { reason }
    }
}

/// Returns one label as an A-label, or `None` if it has none.
pub(crate) fn a_label(label: &str) -> Option<String> {
    Uts46::new()
        .to_ascii(
            label.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Ignore,
        )
        .ok()
        .map(|ascii| ascii.into_owned())
}

/// Returns whether `text` matches `[a-z0-9][a-z0-9-]{0,62}`, the form of every name that operators
/// choose.
pub(crate) fn is_short_name(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Returns `text` in quotes, for one line of a message: escaped, and cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("\"{}...\"", text[..end].escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

/// Recognises texts that people paste in place of a host name.
fn refuse_what_is_no_name(text: &str) -> Result<(), InvalidName> {
    let shown = quoted(text);
    let reason = if text.is_empty() {
        "is empty: give a host name such as www.example.com".to_owned()
    } else if text.contains(char::is_whitespace) || text.contains(char::is_control) {
        format!("{shown} holds white space or control characters: remove them")
    } else if is_address(text) {
        format!("{shown} is an IP address, which is not yet supported: use a DNS name")
    } else if text.contains('/') {
        format!("{shown} is a URL or path: give the host name alone")
    } else if text.contains('@') {
        format!("{shown} is a mail address: give the host name alone")
    } else if text.contains(':') {
        format!("{shown} holds a port or a colon: give the host name alone")
    } else {
        return Ok(());
    };
    Err(InvalidName::new(reason))
}

fn is_address(text: &str) -> bool {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>().is_ok()
}

/// Returns why UTS 46 refused the name, as far as its characters show it.
fn refusal_of_letters(text: &str, rest: &str) -> InvalidName {
    let shown = quoted(text);
    let labels = || rest.split('.');
    InvalidName::new(if rest.contains('_') {
        format!(
            "{shown} has an underscore, which no certificate may hold: use a host name without one"
        )
    } else if labels().any(|label| label.starts_with('-') || label.ends_with('-')) {
        format!("{shown} has a label that begins or ends with a hyphen: correct the name")
    } else if labels().any(|label| {
        label.get(2..4) == Some("--")
            && !label
                .get(..2)
                .is_some_and(|start| start.eq_ignore_ascii_case("xn"))
    }) {
        format!("{shown} has hyphens in third and fourth place, which CAs refuse: use another name")
    } else if rest.is_ascii()
        && labels().all(|label| {
            label
                .get(..4)
                .is_none_or(|s| !s.eq_ignore_ascii_case("xn--"))
        })
    {
        format!("{shown} has characters other than letters, digits and hyphens: correct the name")
    } else {
        format!(
            "{shown} is not a valid international domain name (UTS 46): correct its spelling or \
             its xn-- label"
        )
    })
}

/// Checks the labels of a name in wire form, without its wildcard.
fn check_labels(text: &str, base: &str) -> Result<(), InvalidName> {
    let shown = quoted(text);
    let labels = base.split('.').collect::<Vec<_>>();
    let reason = if is_address(base) {
        format!("{shown} is an IP address, which is not yet supported: use a DNS name")
    } else if labels.iter().any(|label| label.is_empty()) {
        format!("{shown} has an empty label (a dot too many): correct the name")
    } else if let Some(label) = labels.iter().find(|label| label.len() > MAX_LABEL) {
        format!(
            "{shown} has a label of {} characters on the wire and {MAX_LABEL} are allowed: use \
             a shorter one",
            label.len()
        )
    } else if labels.len() < 2 {
        format!("{shown} is a single label, which no public CA signs: give the full name")
    } else if labels.len() > MAX_LABELS {
        format!(
            "{shown} has {} labels and the CA allows {MAX_LABELS}: use a shorter name",
            labels.len()
        )
    } else if labels.last().is_some_and(|label| is_number(label)) {
        format!("{shown} ends in a number, so it is no public DNS name: correct the name")
    } else {
        return Ok(());
    };
    Err(InvalidName::new(reason))
}

/// Returns whether clients take a last label for a part of an IPv4 address. Browsers (URL Standard,
/// "ends in a number") and rustls do so for hexadecimal too.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Longest DNS name, RFC 1035 section 2.3.4 in presentation form.
const MAX_NAME: usize = 253;

/// Longest label.
const MAX_LABEL: usize = 63;

/// The most labels that Let's Encrypt signs (boulder `policy/pa.go`).
const MAX_LABELS: usize = 10;

/// How many characters of a refused text a message repeats.
pub(crate) const MAX_QUOTED: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_names_are_one_short_label() {
        let longest = "a".repeat(63);
        for name in ["shop", "0", "a-b", "a-", "xn--a", &longest] {
            let parsed = name.parse::<CertificateName>().unwrap();
            assert_eq!(parsed.as_str(), name);
            assert_eq!(parsed.to_string(), name);
            assert_eq!(
                serde_json::to_value(&parsed).unwrap(),
                serde_json::json!(name)
            );
        }
        let too_long = "a".repeat(64);
        for name in [
            "", "-a", "Shop", "a.b", "a/b", "a_b", "ä", "a b", "a\n", &too_long,
        ] {
            assert!(name.parse::<CertificateName>().is_err(), "{name:?}");
        }
        assert_eq!(
            "Shop".parse::<CertificateName>().unwrap_err().to_string(),
            "\"Shop\" cannot name a certificate: use 1 to 63 of a-z, 0-9 and -, the first not a -"
        );
    }

    #[test]
    fn dns_names_are_normalised() {
        let ten = "a.b.c.d.e.f.g.h.i.j";
        let label = format!("{}.example", "a".repeat(63));
        for (why, text, expected) in [
            ("plain", "www.example.com", "www.example.com"),
            (
                "letter case means nothing",
                "WWW.Example.COM",
                "www.example.com",
            ),
            (
                "one trailing dot is the root",
                "example.com.",
                "example.com",
            ),
            (
                "unicode becomes an A-label",
                "bücher.example",
                "xn--bcher-kva.example",
            ),
            (
                "upper-case unicode is folded",
                "BÜCHER.example",
                "xn--bcher-kva.example",
            ),
            (
                "an upper-case A-label is lowered",
                "XN--BCHER-KVA.example",
                "xn--bcher-kva.example",
            ),
            (
                "sharp s is kept, not made ss",
                "straße.example",
                "xn--strae-oqa.example",
            ),
            (
                "decomposed letters are composed",
                "bu\u{308}cher.example",
                "xn--bcher-kva.example",
            ),
            (
                "the ideographic stop is a dot",
                "例え。jp",
                "xn--r8jz45g.jp",
            ),
            (
                "full-width letters are letters",
                "ｗｗｗ.example.com",
                "www.example.com",
            ),
            (
                "a wildcard keeps its star",
                "*.Bücher.example",
                "*.xn--bcher-kva.example",
            ),
            ("digits may lead a label", "1.example.com", "1.example.com"),
            ("ten labels", ten, ten),
            ("63 characters in a label", &label, &label),
        ] {
            assert_eq!(DnsName::parse(text).unwrap().as_str(), expected, "{why}");
        }
    }

    #[test]
    fn dns_names_no_ca_signs_are_refused_with_the_reason() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_wire_label = format!("{}.example", "ü".repeat(62));
        let label = "a".repeat(60);
        let long_name = format!("{label}.{label}.{label}.{label}.1234567890.com");
        for (text, reason) in [
            ("", "is empty: give a host name"),
            (" example.com", "holds white space"),
            (
                "exam\nple.com",
                "\"exam\\nple.com\" holds white space or control",
            ),
            ("192.0.2.1", "is an IP address, which is not yet supported"),
            (
                "１９２.0.2.1",
                "is an IP address, which is not yet supported",
            ),
            (
                "2001:db8::1",
                "is an IP address, which is not yet supported",
            ),
            (
                "[2001:db8::1]",
                "is an IP address, which is not yet supported",
            ),
            ("https://example.com", "is a URL or path"),
            ("ops@example.com", "is a mail address"),
            ("example.com:443", "holds a port or a colon"),
            ("*", "has a * that is not its whole first label"),
            (
                "w*.example.com",
                "has a * that is not its whole first label",
            ),
            (
                "*.*.example.com",
                "has a * that is not its whole first label",
            ),
            (
                "a.*.example.com",
                "has a * that is not its whole first label",
            ),
            (
                "_acme.example.com",
                "has an underscore, which no certificate may hold",
            ),
            ("-a.example.com", "begins or ends with a hyphen"),
            ("a-.example.com", "begins or ends with a hyphen"),
            ("ab--c.example.com", "hyphens in third and fourth place"),
            (
                "a!b.example.com",
                "characters other than letters, digits and hyphens",
            ),
            ("xn--a.example.com", "not a valid international domain name"),
            (
                "xn--\u{fc}.example.com",
                "not a valid international domain name",
            ),
            (
                "a\u{200e}.example.com",
                "not a valid international domain name",
            ),
            ("a..example.com", "has an empty label"),
            (".example.com", "has an empty label"),
            ("example.com..", "has an empty label"),
            (".", "has an empty label"),
            ("*.", "has an empty label"),
            ("localhost", "is a single label"),
            ("*.com", "is a single label"),
            (
                "a.b.c.d.e.f.g.h.i.j.k",
                "has 11 labels and the CA allows 10",
            ),
            ("1.2.3", "ends in a number"),
            ("www.0x", "ends in a number"),
            ("www.0XaF", "ends in a number"),
            (&long_label, "has a label of 64 characters"),
            (&long_wire_label, "has a label of"),
            (&long_name, "and a name may have 253"),
        ] {
            let refusal = DnsName::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
            assert!(refusal.contains(": "), "{text:?} has no remedy: {refusal}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        for (certificate, host, covered) in [
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "*.a.example.com", false),
            ("*.example.com", "wwwexample.com", false),
            ("www.example.com", "*.example.com", false),
        ] {
            let certificate = DnsName::parse(certificate).unwrap();
            let host = DnsName::parse(host).unwrap();
            assert_eq!(certificate.covers(&host), covered, "{certificate} {host}");
        }
    }

    #[test]
    fn a_dns_name_travels_as_text() {
        let name = serde_json::from_str::<DnsName>("\"Bücher.example\"").unwrap();
        assert_eq!(
            serde_json::to_string(&name).unwrap(),
            "\"xn--bcher-kva.example\""
        );
        assert!(serde_json::from_str::<DnsName>("\"local host\"").is_err());
    }

    #[test]
    fn a_long_text_is_cut_in_messages() {
        let refusal = DnsName::parse(&"ü".repeat(5000)).unwrap_err().to_string();
        assert!(refusal.len() < 400, "{refusal}");
    }
}
