//! Pure: what CAA records say about an authority (RFC 8659), its account and the way of validation (RFC 8657).
//!
//! Judged as Let's Encrypt's validator does: the records of the closest name that has any; a property that cannot be read
//! allows nobody.

use crate::names::DnsName;

/// One CAA record as the DNS has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caa {
    /// Whether whoever does not know the tag must not issue.
    pub critical: bool,
    /// The property's tag; letter case means nothing.
    pub tag: String,
    /// The property's value.
    pub value: String,
}

/// Who asks for a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The domains by which CAA records name the authority; empty when nobody knows them.
    pub identities: &'a [String],
    /// URL of the account, where it is known.
    pub account: Option<&'a str>,
}

/// What a set of records says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// The authority may issue.
    Allowed,
    /// It may not; why, and what to change.
    Forbidden(String),
    /// That cannot be told from here; why.
    Unknown(String),
}

/// Returns the names whose records are looked at, the closest first: the name without its `*.`, then its parents, down to the
/// one below the root.
pub fn levels(name: &DnsName) -> Vec<&str> {
    let text = name.as_str();
    let mut rest = Some(text.strip_prefix("*.").unwrap_or(text));
    let mut levels = Vec::new();
    while let Some(level) = rest {
        levels.push(level);
        rest = level.split_once('.').map(|(_, parent)| parent);
    }
    levels
}

/// Judges the closest set of records, which stands at `at`. None at all allows anybody.
pub fn judge(records: &[Caa], at: &str, name: &DnsName, asking: Asking<'_>) -> Ruling {
    let unknown = records
        .iter()
        .find(|record| record.critical && !is_known(&record.tag));
    if let Some(record) = unknown {
        return Ruling::Forbidden(format!(
            "{at} has a critical CAA record of the unknown tag {:?}, with which no authority may issue: remove it",
            shown(&record.tag)
        ));
    }
    let of = |tag: &str| -> Vec<&Caa> {
        let wanted = |record: &&Caa| record.tag.eq_ignore_ascii_case(tag);
        records.iter().filter(wanted).collect()
    };
    let (issue, issuewild) = (of("issue"), of("issuewild"));
    let (tag, properties) = match name.is_wildcard() && !issuewild.is_empty() {
        true => ("issuewild", issuewild),
        false => ("issue", issue),
    };
    if properties.is_empty() {
        return Ruling::Allowed;
    }
    let issuers: Vec<Issuer> = (properties.iter())
        .filter_map(|record| Issuer::parse(&record.value))
        .collect();
    if issuers.is_empty() {
        return Ruling::Forbidden(format!(
            "the CAA records of {at} ({}) allow no authority: {}",
            told(&properties),
            add(at, tag, asking)
        ));
    }
    if asking.identities.is_empty() {
        return Ruling::Unknown(format!(
            "the CAA records of {at} ({}) name authorities, and it is not known by which name they mean this one: set \
             caaIdentities at the authority in the settings",
            told(&properties)
        ));
    }
    let ours: Vec<&Issuer> = issuers
        .iter()
        .filter(|issuer| {
            let mut identities = asking.identities.iter();
            identities.any(|identity| same_domain(identity, &issuer.domain))
        })
        .collect();
    if ours.is_empty() {
        return Ruling::Forbidden(format!(
            "the CAA records of {at} ({}) allow others only: {}",
            told(&properties),
            add(at, tag, asking)
        ));
    }
    let verdicts: Vec<Ruling> = ours.iter().map(|issuer| issuer.judge(at, asking)).collect();
    if verdicts.contains(&Ruling::Allowed) {
        return Ruling::Allowed;
    }
    let is_unknown = |ruling: &&Ruling| matches!(ruling, Ruling::Unknown(_));
    let said = verdicts.iter().find(is_unknown).or(verdicts.first());
    said.cloned().unwrap_or(Ruling::Allowed)
}

/// An issuer of an `issue` or `issuewild` property that can be read and names somebody.
struct Issuer {
    domain: String,
    parameters: Vec<(String, String)>,
}

impl Issuer {
    /// Reads a property's value (RFC 8659 section 4.2); `None` when it names nobody, or is malformed, which is the same.
    fn parse(value: &str) -> Option<Self> {
        let trimmed = |text: &str| text.trim_matches([' ', '\t']).to_owned();
        let mut parts = value.split(';').map(trimmed);
        let domain = parts.next()?;
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !domain.trim_end_matches('.').split('.').all(is_label) {
            return None;
        }
        let mut parameters = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            let (tag, value) = part.split_once('=')?;
            let (tag, value) = (trimmed(tag), trimmed(value));
            let is_tag = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_tag || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            parameters.push((tag.to_ascii_lowercase(), value));
        }
        Some(Self { domain, parameters })
    }

    fn parameter(&self, tag: &str) -> Vec<&str> {
        self.parameters
            .iter()
            .filter(|(own, _)| own == tag)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Judges the parameters of a property that names the authority (RFC 8657).
    fn judge(&self, at: &str, asking: Asking<'_>) -> Ruling {
        let methods = self.parameter("validationmethods");
        let by_http = |value: &&str| value.split(',').any(|method| method.trim() == METHOD);
        if methods.len() > 1 || !methods.iter().all(by_http) {
            return Ruling::Forbidden(format!(
                "the CAA records of {at} allow {} with validationmethods={} only: add {METHOD}",
                self.domain,
                methods.join(" and ")
            ));
        }
        match (self.parameter("accounturi").as_slice(), asking.account) {
            ([], _) => Ruling::Allowed,
            ([wanted], Some(account)) if *wanted == account => Ruling::Allowed,
            ([wanted], None) => Ruling::Unknown(format!(
                "the CAA records of {at} allow {} for the account {wanted} only, and ours has no URL yet",
                self.domain
            )),
            ([wanted], Some(account)) if last(wanted) == last(account) => {
                // Some authorities know an account by several URLs.
                Ruling::Unknown(format!(
                    "the CAA records of {at} allow {} for the account {wanted} only, and ours is {account}",
                    self.domain
                ))
            }
            (wanted, account) => Ruling::Forbidden(format!(
                "the CAA records of {at} allow {} for the account {} only, and ours is {}: change accounturi",
                self.domain,
                wanted.join(" and "),
                account.unwrap_or("not known yet")
            )),
        }
    }
}

fn add(at: &str, tag: &str, asking: Asking<'_>) -> String {
    match asking.identities.first() {
        Some(identity) => format!("add the record {at} CAA 0 {tag} \"{identity}\""),
        None => format!("add one for the authority's own domain (CAA 0 {tag} \"...\")"),
    }
}

/// Returns the records as they stand in a zone, cut to what a report can bear.
fn told(records: &[&Caa]) -> String {
    let mut texts: Vec<String> = (records.iter().take(MOST_SHOWN))
        .map(|record| format!("{} {:?}", shown(&record.tag), shown(&record.value)))
        .collect();
    if records.len() > MOST_SHOWN {
        texts.push("...".to_owned());
    }
    texts.join(", ")
}

fn shown(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).collect()
}

fn last(url: &str) -> Option<&str> {
    url.rsplit('/').next().filter(|last| !last.is_empty())
}

fn same_domain(one: &str, other: &str) -> bool {
    one.trim_end_matches('.')
        .eq_ignore_ascii_case(other.trim_end_matches('.'))
}

/// Whether a tag is one that authorities know, although it may not concern what is asked (RFC 8659 section 4, RFC 9495).
fn is_known(tag: &str) -> bool {
    let known = ["issue", "issuewild", "iodef", "issuemail", "issuevmc"];
    known.iter().any(|known| tag.eq_ignore_ascii_case(known))
}

/// How certloop validates.
const METHOD: &str = "http-01";
const MOST_SHOWN: usize = 5;
const LONGEST_SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "https://acme.example/acct/7";

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    fn record(text: &str) -> Caa {
        let (tag, value) = text.split_once(' ').unwrap();
        Caa {
            critical: tag.starts_with('!'),
            tag: tag.trim_start_matches('!').to_owned(),
            value: value.to_owned(),
        }
    }

    fn ruled(records: &[&str], wildcard: bool, account: Option<&str>) -> Ruling {
        let records: Vec<Caa> = records.iter().map(|text| record(text)).collect();
        let name = name(if wildcard {
            "*.example.com"
        } else {
            "www.example.com"
        });
        let identities = ["letsencrypt.org".to_owned()];
        let asking = Asking {
            identities: &identities,
            account,
        };
        judge(&records, "example.com", &name, asking)
    }

    #[test]
    fn it_is_climbed_to_the_child_of_the_root() {
        assert_eq!(
            levels(&name("a.b.example.co.uk")),
            [
                "a.b.example.co.uk",
                "b.example.co.uk",
                "example.co.uk",
                "co.uk",
                "uk"
            ]
        );
        assert_eq!(levels(&name("*.example.com")), ["example.com", "com"]);
    }

    #[test]
    fn each_set_of_records_is_judged_so() {
        const YES: &str = "allowed";
        const NO: &str = "forbidden";
        const MAYBE: &str = "unknown";
        let account = Some(ACCOUNT);
        for (records, wildcard, account, wanted) in [
            (&[][..], false, None, YES),
            (&["issue letsencrypt.org"], false, None, YES),
            (&["ISSUE LetsEncrypt.org"], false, None, YES),
            (&["issue letsencrypt.org."], false, None, YES),
            (&["issue  \tletsencrypt.org ; "], false, None, YES),
            (
                &["issue other.example", "issue letsencrypt.org"],
                false,
                None,
                YES,
            ),
            (&["issue other.example"], false, None, NO),
            (&["issue notletsencrypt.org"], false, None, NO),
            (&["issue ;"], false, None, NO),
            (&["issue "], false, None, NO),
            (&["issue ; policy=ev"], false, None, NO),
            (&["issue %%%%"], false, None, NO),
            (&["issue letsencrypt.org; malformed"], false, None, NO),
            (&["issue letsencrypt.org; a_b=c"], false, None, NO),
            (&["issue letsencrypt.org; key=a b"], false, None, NO),
            (&["issue letsencrypt.org; anything=else"], false, None, YES),
            // Only what concerns TLS certificates counts, unless it is critical and unknown.
            (&["iodef mailto:ca@example.com"], false, None, YES),
            (&["!iodef mailto:ca@example.com"], false, None, YES),
            (&["issuemail other.example"], false, None, YES),
            (&["future x"], false, None, YES),
            (&["!future x"], false, None, NO),
            (&["!future x", "issue letsencrypt.org"], false, None, NO),
            (&["!issue letsencrypt.org"], false, None, YES),
            // Wildcards go by issuewild where there is one, others never.
            (&["issuewild ;"], false, None, YES),
            (&["issuewild ;"], true, None, NO),
            (&["issue ;", "issuewild letsencrypt.org"], true, None, YES),
            (&["issue ;", "issuewild letsencrypt.org"], false, None, NO),
            (&["issue letsencrypt.org"], true, None, YES),
            (&["issue other.example"], true, None, NO),
            // RFC 8657.
            (
                &["issue letsencrypt.org; validationmethods=http-01"],
                false,
                None,
                YES,
            ),
            (
                &["issue letsencrypt.org; ValidationMethods=dns-01,http-01"],
                false,
                None,
                YES,
            ),
            (
                &["issue letsencrypt.org; validationmethods=dns-01"],
                false,
                None,
                NO,
            ),
            (
                &["issue letsencrypt.org; validationmethods="],
                false,
                None,
                NO,
            ),
            (
                &["issue letsencrypt.org; validationmethods=http-01; validationmethods=http-01"],
                false,
                None,
                NO,
            ),
            (
                &["issue letsencrypt.org; accounturi=https://acme.example/acct/7"],
                false,
                account,
                YES,
            ),
            (
                &["issue letsencrypt.org; accounturi=https://acme.example/acct/8"],
                false,
                account,
                NO,
            ),
            (
                &["issue letsencrypt.org; accounturi=https://acme.example/acct/8"],
                false,
                None,
                MAYBE,
            ),
            (
                &["issue letsencrypt.org; accounturi=https://acme-v01.example/reg/7"],
                false,
                account,
                MAYBE,
            ),
            (
                &[
                    "issue letsencrypt.org; accounturi=https://acme.example/acct/8",
                    "issue letsencrypt.org; accounturi=https://acme.example/acct/7",
                ],
                false,
                account,
                YES,
            ),
            (
                &[
                    "issue letsencrypt.org; accounturi=https://acme.example/acct/7; \
                     accounturi=https://acme.example/acct/7",
                ],
                false,
                account,
                NO,
            ),
            (
                &[
                    "issue letsencrypt.org; validationmethods=dns-01; accounturi=https://acme.example/acct/7",
                ],
                false,
                account,
                NO,
            ),
        ] {
            let told = match ruled(records, wildcard, account) {
                Ruling::Allowed => YES,
                Ruling::Forbidden(_) => NO,
                Ruling::Unknown(_) => MAYBE,
            };
            assert_eq!(told, wanted, "{records:?}, wildcard: {wildcard}");
        }
    }

    #[test]
    fn an_authority_nobody_knows_by_name_is_forbidden_by_none_only() {
        let asking = Asking {
            identities: &[],
            account: None,
        };
        let name = name("www.example.com");
        let forbidden = judge(&[record("issue ;")], "example.com", &name, asking);
        assert!(
            matches!(&forbidden, Ruling::Forbidden(why) if why.contains("allow no authority")),
            "{forbidden:?}"
        );
        let unknown = judge(
            &[record("issue other.example")],
            "example.com",
            &name,
            asking,
        );
        assert!(
            matches!(&unknown, Ruling::Unknown(why) if why.contains("caaIdentities")),
            "{unknown:?}"
        );
    }

    #[test]
    fn what_to_add_is_said() {
        let Ruling::Forbidden(why) = ruled(&["issue other.example"], false, None) else {
            panic!("allowed");
        };
        assert_eq!(
            why,
            "the CAA records of example.com (issue \"other.example\") allow others only: add the record example.com CAA 0 issue \
             \"letsencrypt.org\""
        );
    }
}
