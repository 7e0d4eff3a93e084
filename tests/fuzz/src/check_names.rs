//! Names and ARNs: a parsed name has the same text, and that text parses to the same name.

use std::str::FromStr;

use crate::challenge::{MalformedToken, OBJECT_PREFIX, Token, WELL_KNOWN_PREFIX};
use crate::ports::store;
use crate::rules::ledger;
use crate::values::arn::{self, CertificateArn, ListenerArn, LoadBalancerArn, TargetGroupArn};
use crate::values::names::{CertificateName, DnsName};

/// Checks one text as every kind of name.
pub fn names(text: &str) {
    dns_name(text);
    certificate_name(text);
    token(text);
    keys(text);

    arn::<ListenerArn>(text, |arn| (arn.as_str(), arn.region(), arn.account()));
    arn::<LoadBalancerArn>(text, |arn| (arn.as_str(), arn.region(), arn.account()));
    arn::<TargetGroupArn>(text, |arn| (arn.as_str(), arn.region(), arn.account()));
    arn::<CertificateArn>(text, |arn| (arn.as_str(), arn.region(), arn.account()));
    if let Ok(balancer) = text.parse::<LoadBalancerArn>() {
        let listener = balancer.listeners() + "0123456789abcdef";
        let listener: ListenerArn = listener.parse().expect("a listener's ARN");
        assert_eq!(listener.account(), balancer.account());
    }
    let kinds = [
        text.parse::<ListenerArn>().is_ok(),
        text.parse::<LoadBalancerArn>().is_ok(),
        text.parse::<TargetGroupArn>().is_ok(),
        text.parse::<CertificateArn>().is_ok(),
        arn::is_secret(text),
    ];
    assert!(kinds.into_iter().filter(|kind| *kind).count() <= 1);
}

fn dns_name(text: &str) {
    let name = match DnsName::parse(text) {
        Ok(name) => name,
        Err(refusal) => return is_fit(&refusal.to_string()),
    };
    assert_eq!(DnsName::parse(name.as_str()).as_ref(), Ok(&name));
    let json = serde_json::to_string(&name).unwrap();
    assert_eq!(serde_json::from_str::<DnsName>(&json).unwrap(), name);

    let base = name.as_str().strip_prefix("*.");
    assert_eq!(base.is_some(), name.is_wildcard());
    let base = base.unwrap_or(name.as_str());
    assert!(name.as_str().len() <= 253);
    let labels: Vec<&str> = base.split('.').collect();
    assert!((2..=10).contains(&labels.len()));
    for label in labels {
        let of_host = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        assert!((1..=63).contains(&label.len()) && label.bytes().all(of_host));
        assert!(!label.starts_with('-') && !label.ends_with('-'));
    }
    assert!(name.covers(&name));
    let registered = ledger::registered_domain(&name);
    assert!(base == registered || base.ends_with(&format!(".{registered}")));
    // As a host: its address is looked up, and its certificate is looked at.
    assert!(
        rustls::pki_types::ServerName::try_from(base).is_ok(),
        "{base}"
    );
}

fn certificate_name(text: &str) {
    match text.parse::<CertificateName>() {
        Err(refusal) => is_fit(&refusal.to_string()),
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            let key = store::certificate_key(&name);
            assert_eq!(store::name_of_certificate_key(&key), Some(text));
            assert!(store::vault_key(&name, "00").starts_with(&store::vault_prefix(&name)));
        }
    }
}

fn token(text: &str) {
    let is_token = (1..=128).contains(&text.len())
        && (text.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match text.parse::<Token>() {
        Err(refusal) => assert_eq!((refusal, is_token), (MalformedToken, false)),
        Ok(token) => {
            assert!(is_token);
            assert_eq!(token.as_str(), text);
            assert_eq!(token.object_key(), format!("{OBJECT_PREFIX}{text}"));
            assert_eq!(Token::from_path(&token.well_known_path()), Some(token));
        }
    }
    if let Some(token) = Token::from_path(text) {
        assert_eq!(text, format!("{WELL_KNOWN_PREFIX}{token}"));
    }
}

fn keys(text: &str) {
    if let Some(name) = store::name_of_certificate_key(text) {
        assert_eq!(format!("certificates/{name}.json"), text);
    }
    if let Some(region) = store::region_of_imports_key(text) {
        assert_eq!(store::imports_key(region), text);
    }
}

fn arn<A>(text: &str, parts: fn(&A) -> (&str, &str, &str))
where
    A: FromStr<Err: ToString> + Into<String> + Clone,
{
    match text.parse::<A>() {
        Err(refusal) => is_fit(&refusal.to_string()),
        Ok(arn) => {
            let (whole, region, account) = parts(&arn);
            assert_eq!(whole, text);
            assert!(arn::is_region(region));
            assert!(account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(Into::<String>::into(arn.clone()), text);
        }
    }
}

/// One line of a length that fits into a report.
fn is_fit(refusal: &str) {
    assert!(
        !refusal.is_empty() && !refusal.contains(char::is_control),
        "{refusal:?}"
    );
    assert!(refusal.chars().count() <= LONGEST, "{refusal:?}");
}

const LONGEST: usize = 2_500;
