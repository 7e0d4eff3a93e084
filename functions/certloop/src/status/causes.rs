//! Pure: certificates that say the same but for their names, put together: one cause is said once.

use std::collections::HashMap;

use certificates::invocation::status::Standing;
use time::OffsetDateTime;

use super::health::Health;
use super::reasons::{command, lines};
use crate::words::arns_apart;

/// Certificates with the same cause.
#[derive(Debug)]
pub(crate) struct Cause<'s> {
    /// How they are.
    pub(crate) health: Health,
    /// At least one, in the order in which they came.
    pub(crate) members: Vec<&'s Standing>,
}

impl<'s> Cause<'s> {
    /// Returns the certificate that speaks for all of them.
    pub(crate) fn speaker(&self) -> &'s Standing {
        self.members[0]
    }

    /// Whether there are several.
    pub(crate) fn is_shared(&self) -> bool {
        self.members.len() > 1
    }

    /// Returns a sentence about the first as it is true of all.
    pub(crate) fn of_all(&self, sentence: &str) -> String {
        if self.is_shared() {
            without_names(self.speaker(), sentence)
        } else {
            sentence.to_owned()
        }
    }

    /// Returns the command that helps with each of them: with `NAME` where it has their names.
    pub(crate) fn command(&self) -> Option<String> {
        command(self.health, self.speaker()).map(|command| self.of_all(&command))
    }

    /// Returns the earliest instant at which one of them is tried again.
    pub(crate) fn next_attempt(&self) -> Option<OffsetDateTime> {
        let attempts = self.members.iter().filter_map(|one| one.next_attempt);
        attempts.min()
    }
}

/// Puts together what has one cause; each group is where its first certificate was.
pub(crate) fn causes<'s>(sorted: &[(Health, &'s Standing)], now: OffsetDateTime) -> Vec<Cause<'s>> {
    let mut causes: Vec<Cause<'s>> = Vec::new();
    let mut known = HashMap::new();
    for (health, standing) in sorted {
        let key = key(*health, standing, now);
        let place = key.as_ref().and_then(|key| known.get(key)).copied();
        if let Some(cause) = place.and_then(|at: usize| causes.get_mut(at)) {
            cause.members.push(standing);
            continue;
        }
        if let Some(key) = key {
            known.insert(key, causes.len());
        }
        causes.push(Cause {
            health: *health,
            members: vec![standing],
        });
    }
    causes
}

/// Returns what all certificates of one cause have in common; `None` where one stays by itself.
fn key(health: Health, standing: &Standing, now: OffsetDateTime) -> Option<String> {
    let said = lines(health, standing, now);
    if said.is_empty() || standing.rolled_back.is_some() || !standing.revoking.is_empty() {
        return None;
    }
    let said = said.join("\n");
    let command = command(health, standing).unwrap_or_default();
    let all = without_names(standing, &format!("{said}\n{command}"));
    let kind = standing.problem.as_ref().map(|problem| &problem.kind);
    Some(format!("{health:?} {kind:?} {all}"))
}

/// Puts a word for all in the place of what is a certificate's own: its names, serials, ARNs.
fn without_names(standing: &Standing, text: &str) -> String {
    let mut own: Vec<(String, &str)> = Vec::new();
    own.push((
        format!("certificates/{}.json", standing.name),
        "certificates/NAME.json",
    ));
    own.extend(
        standing
            .domains
            .iter()
            .map(|domain| (domain.clone(), "DOMAIN")),
    );
    let served = standing.served.as_ref().map(|served| &served.serial);
    let serials = (standing.serial.iter())
        .chain(&standing.previous)
        .chain(served);
    own.extend(serials.map(|serial| (serial.clone(), "SERIAL")));
    // The longest first: a name may be in another one.
    own.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    let mut told = String::new();
    for (part, is_arn) in arns_apart(text) {
        if is_arn && part.contains(":certificate/") {
            told.push_str("the certificate");
        } else if is_arn {
            told.push_str(part);
        } else {
            let mut part = part.to_owned();
            for (own, word) in &own {
                part = part.replace(own.as_str(), word);
            }
            let words = part.split_inclusive([' ', '\n']);
            told.extend(words.map(|word| without_name(&standing.name, word)));
        }
    }
    told
}

/// Puts a word for all in the place of a certificate's name, an instant or a token.
fn without_name(name: &str, word: &str) -> String {
    if let Some((before, token)) = word.split_once("/acme-challenge/")
        && !token.starts_with('*')
    {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let after = token.find(ends).map_or("", |at| &token[at..]);
        return format!("{before}/acme-challenge/TOKEN{after}");
    }
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = core.bytes().filter(u8::is_ascii_digit).count();
    let is_instant = core.len() == 20 && core.ends_with('Z') && digits == 14
        || core.len() == 5 && core.contains(':') && digits == 4;
    let is_day = core.len() == 10 && core.matches('-').count() == 2 && digits == 8;
    if core == name {
        word.replacen(core, "NAME", 1)
    } else if is_instant {
        word.replacen(core, "TIME", 1)
    } else if is_day {
        word.replacen(core, "DAY", 1)
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use certificates::invocation::status::Inventory;
    use certificates::values::problem::Problem;
    use certificates::values::problem_types::ProblemType;
    use time::macros::datetime;

    use super::super::by_urgency;
    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-08 16:54:20 UTC);
    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";

    /// The sample's certificate, so many times, with no room on one full listener.
    pub(crate) fn without_room(count: usize) -> Inventory {
        let sample = include_str!("../../../../events/status.sample.json");
        let mut inventory: Inventory = serde_json::from_str(sample).unwrap();
        let one = inventory.certificates.remove(0);
        inventory.total = count;
        inventory.certificates = (0..count)
            .map(|index| {
                let arn = format!(
                    "arn:aws:acm:eu-west-1:123456789012:certificate/6d0ecf83-1eec-4f09-8a4b-{index:012}"
                );
                let detail = format!("{LISTENER} has no room for {arn}; nothing was taken off for \
                                      it");
                let minutes = i64::try_from(index).unwrap();
                Standing {
                    name: format!("site-{index:02}"),
                    domains: vec![format!("site-{index:02}.example.com")],
                    problem: Some(Problem::ours(ProblemType::ListenerFull, detail)),
                    next_attempt: Some(NOW + time::Duration::minutes(5 + minutes)),
                    ..one.clone()
                }
            })
            .collect();
        inventory
    }

    fn told(inventory: &Inventory) -> Vec<usize> {
        let sorted = by_urgency(inventory, NOW);
        let causes = causes(&sorted, NOW);
        causes.iter().map(|cause| cause.members.len()).collect()
    }

    #[test]
    fn one_full_listener_is_one_cause_and_another_one_is_another() {
        let mut inventory = without_room(28);
        assert_eq!(told(&inventory), [28]);
        let other = inventory.certificates[3].problem.as_mut().unwrap();
        other.detail = other.detail.replace("f2f7dc8efc522ab2", "0000dc8efc522ab2");
        assert_eq!(told(&inventory), [27, 1]);
        inventory.certificates[5].problem = None;
        assert_eq!(told(&inventory), [26, 1, 1]);
    }

    #[test]
    fn names_domains_serials_and_instants_set_no_causes_apart() {
        let mut inventory = without_room(2);
        for one in &mut inventory.certificates {
            let (name, domain) = (&one.name, &one.domains[0]);
            let detail = format!(
                "{domain}: Get \"http://{domain}/.well-known/acme-challenge/{name}0abc\": no \
                 answer at 2026-01-08T16:5{}:00Z; edit {name}, or certificates/{name}.json",
                &name[name.len() - 1..]
            );
            one.problem = Some(Problem::ours(ProblemType::SelfCheck, detail));
        }
        assert_eq!(told(&inventory), [2]);
        let sorted = by_urgency(&inventory, NOW);
        let cause = &causes(&sorted, NOW)[0];
        assert_eq!(
            cause.of_all(&cause.speaker().problem.as_ref().unwrap().detail),
            "DOMAIN: Get \"http://DOMAIN/.well-known/acme-challenge/TOKEN\": no answer at TIME; \
             edit NAME, or certificates/NAME.json"
        );
        assert_eq!(cause.command().as_deref(), Some("certloop check NAME"));
        assert_eq!(cause.next_attempt(), Some(NOW + time::Duration::minutes(5)));
    }

    #[test]
    fn what_is_fine_stays_by_itself() {
        let mut inventory = without_room(2);
        for one in &mut inventory.certificates {
            one.problem = None;
        }
        assert_eq!(told(&inventory), [1, 1]);
    }
}
