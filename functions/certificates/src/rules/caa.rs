//! Pure: what CAA records say about an authority (RFC 8659), about its account and about the way of
//! validation (RFC 8657).
//!
//! The judgement is that of Let's Encrypt's validator (Boulder's `va/caa.go`): the records of the
//! closest name with any records count, and an unreadable property allows no authority. Where that
//! validator and the RFCs differ, the ruling is [`Ruling::Unknown`].

use std::fmt;

use crate::ports::dns::{Caa, CaaRecords};
use crate::values::names::DnsName;

/// The authority and the account for which we ask.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The domains by which CAA records name the authority; empty if they are not known.
    pub identities: &'a [String],
    /// The URL of the account; `None` if it is not known yet.
    pub account: Option<&'a str>,
}

/// What a set of records says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// The authority may issue.
    Allowed,
    /// The authority may not issue: the reason, and what to change.
    Forbidden(String),
    /// The records do not decide it for certain: the reason.
    Unknown(String),
}

/// Returns the names to ask for records, the closest first: the name without its `*.`, then its
/// parents, up to the one below the root.
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

/// Judges the closest set of records, found by asking about `level`. No records allow every
/// authority.
pub fn judge(found: &CaaRecords, level: &str, name: &DnsName, asking: Asking<'_>) -> Ruling {
    let place = Place {
        owner: &found.owner,
        level,
    };
    let strange = |flag: u8| {
        let mut records = found.records.iter();
        records.find(|record| record.flags & flag != 0 && !is_known(&record.tag))
    };
    if let Some(record) = strange(CRITICAL) {
        return Ruling::Forbidden(format!(
            "{place} has a critical CAA record with the unknown tag {:?}, so no authority may \
             issue: remove it",
            shown(&record.tag)
        ));
    }
    let ruling = judge_issuers(&found.records, place, name, asking);
    match (strange(MISREAD), ruling) {
        (Some(record), Ruling::Allowed) => Ruling::Unknown(format!(
            "{place} has a CAA record with the unknown tag {:?} and the flag 1, which Let's \
             Encrypt reads as critical (128): remove it",
            shown(&record.tag)
        )),
        (_, ruling) => ruling,
    }
}

/// Returns the records that say which authorities may issue for a name, and their tag. Records for
/// wildcards count only for a wildcard, and there they replace the others.
fn properties_for<'r>(records: &'r [Caa], name: &DnsName) -> (&'static str, Vec<&'r Caa>) {
    let of = |tag: &str| -> Vec<&'r Caa> {
        let wanted = |record: &&'r Caa| record.tag.eq_ignore_ascii_case(tag);
        records.iter().filter(wanted).collect()
    };
    let (issue, issuewild) = (of("issue"), of("issuewild"));
    match name.is_wildcard() && !issuewild.is_empty() {
        true => ("issuewild", issuewild),
        false => ("issue", issue),
    }
}

fn judge_issuers(records: &[Caa], place: Place<'_>, name: &DnsName, asking: Asking<'_>) -> Ruling {
    let (tag, properties) = properties_for(records, name);
    if properties.is_empty() {
        return Ruling::Allowed;
    }
    let said = told(&properties);
    let issuers: Vec<Issuer> = (properties.iter())
        .filter_map(|record| Issuer::parse(&record.value))
        .collect();
    if issuers.is_empty() {
        return Ruling::Forbidden(format!(
            "the CAA records of {place} ({said}) allow no authority: {}",
            add(place, tag, asking)
        ));
    }
    if asking.identities.is_empty() {
        return Ruling::Unknown(format!(
            "the CAA records of {place} ({said}) name authorities, but the name of this one in CAA \
             records is not known: set caaIdentities at the authority in the settings"
        ));
    }
    let mut verdicts = Vec::new();
    for issuer in &issuers {
        let is = |same: fn(&str, &str) -> bool| {
            let mut identities = asking.identities.iter();
            identities.any(|identity| same(identity, &issuer.domain))
        };
        if is(|one, other| one == other) {
            verdicts.push(issuer.judge(place, tag, asking));
        } else if is(same_domain) {
            verdicts.push(match issuer.judge(place, tag, asking) {
                forbidden @ Ruling::Forbidden(_) => forbidden,
                _ => Ruling::Unknown(format!(
                    "the CAA records of {place} ({said}) name {:?}, which some authorities, such \
                     as Let's Encrypt, read as a different authority: {}",
                    issuer.domain,
                    add(place, tag, asking)
                )),
            });
        }
    }
    if verdicts.is_empty() {
        return Ruling::Forbidden(format!(
            "the CAA records of {place} ({said}) allow only other authorities: {}",
            add(place, tag, asking)
        ));
    }
    if verdicts.contains(&Ruling::Allowed) {
        return Ruling::Allowed;
    }
    let is_unknown = |ruling: &&Ruling| matches!(ruling, Ruling::Unknown(_));
    let said = verdicts.iter().find(is_unknown).or(verdicts.first());
    said.cloned().unwrap_or(Ruling::Allowed)
}

/// The name that has the records, and the name that we asked for.
#[derive(Clone, Copy)]
struct Place<'a> {
    owner: &'a str,
    level: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, level } = self;
        match owner == level {
            true => write!(f, "{owner}"),
            false => write!(f, "{owner}, which {level} is an alias of,"),
        }
    }
}

/// The issuer in a readable `issue` or `issuewild` property that names an authority.
struct Issuer {
    domain: String,
    /// Tags, in the letter case of the record, with their values.
    parameters: Vec<(String, String)>,
    /// Whether it is readable to only one of RFC 8659 and Let's Encrypt's validator.
    is_doubtful: bool,
}

impl Issuer {
    /// Reads a property's value (RFC 8659 section 4.2); `None` if it names no authority or is
    /// malformed, which means the same.
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
        let without_dot = domain.strip_suffix('.').unwrap_or(&domain);
        if !without_dot.split('.').all(is_label) {
            return None;
        }
        let parts: Vec<String> = parts.collect();
        let mut issuer = Self {
            domain,
            parameters: Vec::new(),
            is_doubtful: false,
        };
        // One semicolon may end the domain. Any other separates two parameters.
        if matches!(parts.as_slice(), [only] if only.is_empty()) {
            return Some(issuer);
        }
        for part in parts {
            let (tag, value) = part.split_once('=')?;
            let (tag, value) = (trimmed(tag), trimmed(value));
            if !tag.is_empty() && !is_label(&tag) || !value.bytes().all(|b| b.is_ascii_graphic()) {
                return None;
            }
            // The RFC allows hyphens in a tag but no empty tag. The validator allows an empty tag
            // but no hyphens.
            issuer.is_doubtful |= tag.is_empty() || tag.contains('-');
            issuer.parameters.push((tag, value));
        }
        Some(issuer)
    }

    /// Judges a property that names the authority. If a parameter differs from RFC 8657 in letter
    /// case, Let's Encrypt's validator ignores it; other authorities may not.
    fn judge(&self, place: Place<'_>, tag: &str, asking: Asking<'_>) -> Ruling {
        let to_the_letter = self.judge_by(|one, other| one == other, place, tag, asking);
        let in_any_case = self.judge_by(str::eq_ignore_ascii_case, place, tag, asking);
        match (to_the_letter, in_any_case) {
            (Ruling::Forbidden(why), Ruling::Forbidden(_)) => Ruling::Forbidden(why),
            (Ruling::Allowed, Ruling::Allowed) if self.is_doubtful => Ruling::Unknown(format!(
                "the CAA records of {place} allow {} with parameters that some authorities cannot \
                 read",
                self.domain
            )),
            (Ruling::Allowed, Ruling::Allowed) => Ruling::Allowed,
            (Ruling::Unknown(why) | Ruling::Forbidden(why), _)
            | (_, Ruling::Unknown(why) | Ruling::Forbidden(why)) => Ruling::Unknown(why),
        }
    }

    /// Judges the parameters (RFC 8657).
    fn judge_by(
        &self,
        same: fn(&str, &str) -> bool,
        place: Place<'_>,
        tag: &str,
        asking: Asking<'_>,
    ) -> Ruling {
        let of = |wanted: &str| -> Vec<&str> {
            let parameters = self.parameters.iter();
            let found = parameters.filter(|(own, _)| same(own, wanted));
            found.map(|(_, value)| value.as_str()).collect()
        };
        let by_method = by_method(&of("validationmethods"));
        let domain = &self.domain;
        if by_method == Some(false) {
            return Ruling::Forbidden(format!(
                "the CAA records of {place} allow {domain} only with validationmethods={}: add \
                 {METHOD} to them, or {}",
                of("validationmethods").join(" and "),
                add(place, tag, asking)
            ));
        }
        let by_account = match (of("accounturi").as_slice(), asking.account) {
            ([], _) => Ruling::Allowed,
            ([wanted], Some(account)) if *wanted == account => Ruling::Allowed,
            ([wanted], None) => Ruling::Unknown(format!(
                "the CAA records of {place} allow {domain} only for the account {wanted}, and ours \
                 has no URL yet"
            )),
            ([wanted], Some(account)) if last(wanted) == last(account) => {
                // Some authorities know an account by several URLs.
                Ruling::Unknown(format!(
                    "the CAA records of {place} allow {domain} only for the account {wanted}, and \
                     ours is {account}"
                ))
            }
            (wanted, account) => {
                let ours = account.unwrap_or("not known yet");
                Ruling::Forbidden(format!(
                    "the CAA records of {place} allow {domain} only for the account {}, and ours \
                     is {ours}: add another {tag} record for it, \
                     {} CAA 0 {tag} \"{domain}; accounturi={ours}\"",
                    wanted.join(" and "),
                    place.owner
                ))
            }
        };
        match (by_account, by_method) {
            (Ruling::Allowed, None) => Ruling::Unknown(format!(
                "the CAA records of {place} allow {domain} with validationmethods={}, which some \
                 authorities may not accept: write {METHOD}, and no malformed method",
                of("validationmethods").join(" and ")
            )),
            (by_account, _) => by_account,
        }
    }
}

/// Whether `validationmethods` allow certloop's way of validation; `None` if authorities may read
/// the value in different ways.
fn by_method(values: &[&str]) -> Option<bool> {
    let methods: Vec<&str> = match values {
        [] => return Some(true),
        [value] => value.split(',').collect(),
        // A property that has the parameter twice cannot be satisfied.
        _ => return Some(false),
    };
    let is_label = |method: &&str| {
        !method.is_empty()
            && method
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if methods.contains(&METHOD) {
        return methods.iter().all(is_label).then_some(true);
    }
    let mut methods = methods.iter();
    match methods.any(|method| method.eq_ignore_ascii_case(METHOD)) {
        true => None,
        false => Some(false),
    }
}

fn add(place: Place<'_>, tag: &str, asking: Asking<'_>) -> String {
    match asking.identities.first() {
        Some(identity) => format!("add the record {} CAA 0 {tag} \"{identity}\"", place.owner),
        None => format!("add a record for the authority's own domain (CAA 0 {tag} \"...\")"),
    }
}

/// Returns the records as a zone file shows them, shortened for a report.
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

/// Whether authorities know a tag (RFC 8659 section 4, RFC 9495). It may still not be about TLS
/// certificates.
fn is_known(tag: &str) -> bool {
    let known = ["issue", "issuewild", "iodef", "issuemail", "issuevmc"];
    known.iter().any(|known| tag.eq_ignore_ascii_case(known))
}

/// The flag of a critical record: an authority that does not know the tag must not issue.
const CRITICAL: u8 = 128;
/// A flag that many read as the critical one.
const MISREAD: u8 = 1;
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
        let flags = match tag.chars().next() {
            Some('!') => CRITICAL,
            Some('1') => MISREAD,
            _ => 0,
        };
        Caa {
            flags,
            tag: tag.trim_start_matches(['!', '1']).to_owned(),
            value: value.to_owned(),
        }
    }

    fn found(records: &[&str]) -> CaaRecords {
        CaaRecords {
            owner: "example.com".to_owned(),
            records: records.iter().map(|text| record(text)).collect(),
        }
    }

    fn ruled(records: &[&str], wildcard: bool, account: Option<&str>) -> Ruling {
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
        judge(&found(records), "example.com", &name, asking)
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
            (&["ISSUE letsencrypt.org"], false, None, YES),
            // The same domain for the DNS, a different one for Let's Encrypt.
            (&["issue LetsEncrypt.org"], false, None, MAYBE),
            (&["issue letsencrypt.org."], false, None, MAYBE),
            (
                &["issue LetsEncrypt.org", "issue letsencrypt.org"],
                false,
                None,
                YES,
            ),
            (
                &["issue LetsEncrypt.org; validationmethods=dns-01"],
                false,
                None,
                NO,
            ),
            (&["issue letsencrypt.org.."], false, None, NO),
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
            (&["issue letsencrypt.org;"], false, None, YES),
            (&["issue letsencrypt.org;;"], false, None, NO),
            (
                &["issue letsencrypt.org; validationmethods=http-01;"],
                false,
                None,
                NO,
            ),
            (&["issue letsencrypt.org; a-b=c"], false, None, MAYBE),
            (&["issue letsencrypt.org; =c"], false, None, MAYBE),
            (&["issue letsencrypt.org; key=a b"], false, None, NO),
            (&["issue letsencrypt.org; anything=else"], false, None, YES),
            // Only tags about TLS certificates count, and unknown critical ones.
            (&["iodef mailto:ca@example.com"], false, None, YES),
            (&["!iodef mailto:ca@example.com"], false, None, YES),
            (&["issuemail other.example"], false, None, YES),
            (&["future x"], false, None, YES),
            (&["1future x"], false, None, MAYBE),
            (&["1future x", "issue letsencrypt.org"], false, None, MAYBE),
            (&["1future x", "issue other.example"], false, None, NO),
            (&["1issue letsencrypt.org"], false, None, YES),
            (&["!future x"], false, None, NO),
            (&["!future x", "issue letsencrypt.org"], false, None, NO),
            (&["!issue letsencrypt.org"], false, None, YES),
            // For wildcards, issuewild counts instead if there is one. For other names it never
            // counts.
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
                &["issue letsencrypt.org; ValidationMethods=dns-01"],
                false,
                None,
                MAYBE,
            ),
            (
                &["issue letsencrypt.org; AccountURI=https://acme.example/acct/8"],
                false,
                account,
                MAYBE,
            ),
            (
                &["issue letsencrypt.org; validationmethods=HTTP-01"],
                false,
                None,
                MAYBE,
            ),
            (
                &["issue letsencrypt.org; validationmethods=a_b,http-01"],
                false,
                None,
                MAYBE,
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
                &["issue letsencrypt.org; validationmethods=dns-01; \
                     accounturi=https://acme.example/acct/7"],
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
        let forbidden = judge(&found(&["issue ;"]), "example.com", &name, asking);
        assert!(
            matches!(&forbidden, Ruling::Forbidden(why) if why.contains("allow no authority")),
            "{forbidden:?}"
        );
        let unknown = judge(
            &found(&["issue other.example"]),
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
            "the CAA records of example.com (issue \"other.example\") allow only other \
             authorities: add the record example.com CAA 0 issue \"letsencrypt.org\""
        );
    }

    #[test]
    fn an_account_that_is_left_out_gets_a_record_beside_the_others() {
        let records = ["issue letsencrypt.org; accounturi=https://acme.example/acct/8"];
        let Ruling::Forbidden(why) = ruled(&records, false, Some(ACCOUNT)) else {
            panic!("allowed");
        };
        let record = format!("example.com CAA 0 issue \"letsencrypt.org; accounturi={ACCOUNT}\"");
        assert!(why.contains("add another issue record"), "{why}");
        assert!(why.ends_with(&record), "{why}");
    }

    #[test]
    fn records_behind_an_alias_are_changed_where_they_stand() {
        let identities = ["letsencrypt.org".to_owned()];
        let asking = Asking {
            identities: &identities,
            account: None,
        };
        let found = CaaRecords {
            owner: "edge.example.net".to_owned(),
            ..found(&["issue other.example"])
        };
        let ruling = judge(&found, "www.example.com", &name("www.example.com"), asking);
        let Ruling::Forbidden(why) = ruling else {
            panic!("{ruling:?}");
        };
        assert!(
            why.contains("CAA records of edge.example.net, which www.example.com is an alias of,"),
            "{why}"
        );
        assert!(
            why.contains("add the record edge.example.net CAA 0"),
            "{why}"
        );
    }
}
