//! Pure: what visitors lose by an edit of a document, and whether it ends a rollback.
//!
//! It is said before the edit is written.

use std::collections::BTreeSet;

use certificates::contract::certificate::Wanted;
use certificates::contract::target::{ListenerAt, Placement, Target};
use certificates::contract::word::Word;
use certificates::values::names::DnsName;

use crate::fates::ELSE;

/// What is known of a rollback when a document is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoneBack {
    /// A rollback holds.
    InForce,
    /// What is served is what was issued last.
    None,
    /// Neither the function nor the state tells.
    Unknown,
}

/// Whether an edit would end a rollback: pausing and resuming do not.
pub(crate) fn ends_rollbacks(before: &Wanted, after: &Wanted) -> bool {
    Word::from(before) != Word::from(after)
}

/// Says what an edit takes from visitors, and that it ends a rollback.
pub(crate) fn of_edit(before: &Wanted, after: &Wanted, rollback: GoneBack) -> Vec<String> {
    let mut losses = Vec::new();
    losses.extend(end_of_rollback(before, after, rollback));
    losses.extend(names_left_out(before, after));
    losses.extend(visitors_of_old_keys(before, after));
    losses.extend(losses_by_place(before, after));
    for arn in (after.supersedes.iter()).filter(|arn| !before.supersedes.contains(arn)) {
        losses.push(format!(
            "supersedes {arn}: visitors of its names get this one; it stays while it serves a name \
             that this one lacks"
        ));
    }
    losses
}

/// Says whether an edit ends a rollback.
fn end_of_rollback(before: &Wanted, after: &Wanted, rollback: GoneBack) -> Option<String> {
    // What a rollback goes by.
    let changed = Word::from(before).changed(&Word::from(after));
    match rollback {
        GoneBack::InForce if !changed.is_empty() => Some(format!(
            "this ends the rollback that is in force (changed: {}): then another certificate is \
             served",
            changed.join(", ")
        )),
        GoneBack::Unknown if !changed.is_empty() => Some(format!(
            "whether a rollback is in force could not be read; this would end it (changed: {})",
            changed.join(", ")
        )),
        _ => None,
    }
}

/// Says which names the certificate is not valid for any more.
fn names_left_out(before: &Wanted, after: &Wanted) -> Option<String> {
    let is_lost = |name: &&DnsName| !after.domains.iter().any(|kept| kept.covers(name));
    let lost: Vec<&str> = (before.domains.iter().filter(is_lost))
        .map(DnsName::as_str)
        .collect();
    (!lost.is_empty()).then(|| {
        format!(
            "names lost: {}; once the new certificate is served {ELSE}",
            lost.join(", ")
        )
    })
}

/// Says who loses all names because another type of key is not understood.
fn visitors_of_old_keys(before: &Wanted, after: &Wanted) -> Option<String> {
    if before.key_type == after.key_type {
        return None;
    }
    let old = match (before.key_type.is_ecdsa(), after.key_type.is_ecdsa()) {
        (false, true) => "RSA".to_owned(),
        (true, false) => "ECDSA".to_owned(),
        _ => before.key_type.to_string(),
    };
    let names: Vec<&str> = after.domains.iter().map(DnsName::as_str).collect();
    Some(format!(
        "names lost to visitors that understand {old} alone: {}",
        names.join(", ")
    ))
}

/// Says what is lost on targets that are left out, and where the default becomes another one.
fn losses_by_place(before: &Wanted, after: &Wanted) -> Vec<String> {
    let mut losses = Vec::new();
    let (old, new) = (places(before), places(after));
    for (place, _) in old
        .iter()
        .filter(|(place, _)| !new.iter().any(|(other, _)| other == place))
    {
        losses.push(format!("names lost on {place}: all; {ELSE}"));
    }
    for (place, _) in old
        .iter()
        .filter(|(place, was)| *was && new.contains(&(place.clone(), false)))
    {
        losses.push(format!(
            "not the default of {place} any more: visitors who send no name, or one that it holds \
             no certificate for, get another one"
        ));
    }
    for (place, _) in new.iter().filter(|place| place.1 && !old.contains(place)) {
        losses.push(format!(
            "default of {place}: visitors who send no name, or one that it holds no certificate \
             for, get this one instead of what they get now"
        ));
    }
    losses
}

/// Returns where a certificate goes, each with whether as the default.
fn places(wanted: &Wanted) -> BTreeSet<(String, bool)> {
    let place = |target: &Target| match target {
        Target::Listener { at, placement } => {
            let place = match at {
                ListenerAt::Arn(arn) => arn.to_string(),
                ListenerAt::Port(new) => new.key(),
            };
            (place, *placement == Placement::Default)
        }
        Target::CertificateManager { region } => {
            let region = region.as_deref().unwrap_or("the function's region");
            (format!("the certificate manager of {region}"), false)
        }
    };
    wanted.targets.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use certificates::contract::settings::Settings;
    use serde_json::{Value, json};

    use super::*;

    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";

    fn wanted(change: impl FnOnce(&mut Value)) -> Wanted {
        let settings = json!({
            "authorities": {"letsencrypt": {
                "directory": "https://acme.example/directory", "termsOfServiceAgreed": true,
            }},
            "defaults": {"authority": "letsencrypt"},
        });
        let settings = Settings::parse(settings.to_string().as_bytes()).unwrap();
        let mut document = json!({
            "domains": ["a.example.com", "b.example.com"],
            "keyType": "rsa-2048",
            "targets": [{"type": "listener", "arn": LISTENER}],
        });
        change(&mut document);
        let name = "shop".parse().unwrap();
        Wanted::parse(&name, document.to_string().as_bytes(), &settings, None).unwrap()
    }

    fn losses(change: impl FnOnce(&mut Value)) -> Vec<String> {
        of_edit(&wanted(|_| {}), &wanted(change), GoneBack::None)
    }

    #[test]
    fn an_edit_that_takes_nothing_says_nothing() {
        let none: [&str; 0] = [];
        assert_eq!(losses(|_| {}), none);
        assert_eq!(losses(|to| to["paused"] = json!(true)), none);
        assert_eq!(
            losses(|to| to["domains"] = json!(["a.example.com", "b.example.com", "c.example.com"])),
            none
        );
    }

    #[test]
    fn names_that_visitors_lose_are_named() {
        let told = losses(|to| to["domains"] = json!(["a.example.com"]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("names lost: b.example.com; "),
            "{told:?}"
        );
        let told = losses(|to| to["keyType"] = json!("ecdsa-p256"));
        assert_eq!(
            told,
            ["names lost to visitors that understand RSA alone: a.example.com, b.example.com"]
        );
        let told = losses(|to| to["targets"] = json!([]));
        assert!(
            told[0].starts_with(&format!("names lost on {LISTENER}: all")),
            "{told:?}"
        );
        let told = losses(|to| to["targets"][0]["as"] = json!("default"));
        assert!(
            told[0].starts_with(&format!("default of {LISTENER}: ")),
            "{told:?}"
        );
        assert_eq!(told.len(), 1, "{told:?}");
        let arn =
            "arn:aws:acm:eu-west-1:123456789012:certificate/6d0ecf83-1eec-4f09-8a4b-1f0a5b0f8c11";
        let told = losses(|to| to["supersedes"] = json!([arn]));
        assert!(
            told[0].starts_with(&format!("supersedes {arn}: ")),
            "{told:?}"
        );
    }

    #[test]
    fn the_end_of_a_rollback_comes_first() {
        let before = wanted(|_| {});
        let after = wanted(|to| to["domains"] = json!(["a.example.com"]));
        let told = of_edit(&before, &after, GoneBack::InForce);
        assert!(told[0].contains("changed: domains"), "{told:?}");
        assert_eq!(told.len(), 2);
        let paused = wanted(|to| to["paused"] = json!(true));
        for rollback in [GoneBack::InForce, GoneBack::Unknown] {
            assert!(!ends_rollbacks(&before, &paused));
            assert_eq!(of_edit(&before, &paused, rollback).len(), 0);
        }
        assert!(of_edit(&before, &after, GoneBack::Unknown)[0].contains("could not be read"));
    }
}
