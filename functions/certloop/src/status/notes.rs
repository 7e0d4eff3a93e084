//! Pure: what the inventory says beside the certificates: limits, names without a document,
//! removals.

use std::collections::BTreeMap;

use certificates::invocation::status::Inventory;
use certificates::pass::ledgers::LimitsLeft;
use certificates::values::text::abridged;
use time::OffsetDateTime;

use crate::terminal::{Ink, Screen};
use crate::words::{counted, minute, relative, wrapped};

/// Renders the notes, nothing where there are none.
pub(super) fn rendered(inventory: &Inventory, now: OffsetDateTime, screen: Screen) -> String {
    let mut notes = limits(&inventory.limits, now);
    notes.extend(untold(inventory));
    if !inventory.removing.is_empty() {
        notes.push(format!(
            "being removed: {}",
            abridged(inventory.removing.iter(), LISTED)
        ));
    }
    if let Some(first) = inventory.orphans.first() {
        notes.push(format!(
            "without a document: {}; certloop remove {first} takes it off all its targets",
            abridged(inventory.orphans.iter(), LISTED)
        ));
    }
    let mut text = String::new();
    for note in notes {
        text += &wrapped(&note, screen.width, "  ");
    }
    if text.is_empty() {
        return text;
    }
    format!("\n{}\n{text}", screen.ink(Ink::Strong, "Also"))
}

/// Says which limits are nearly used up, and what authorities want left alone.
fn limits(limits: &LimitsLeft, now: OffsetDateTime) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(problem) = &limits.problem {
        notes.push(format!(
            "what is left of limits could not be read: {}",
            problem.detail
        ));
    }
    let there_at = |at: Option<OffsetDateTime>| match at {
        Some(at) => format!(", the next {}", relative(at, now)),
        None => String::new(),
    };
    for (authority, left) in &limits.authorities {
        for limit in left
            .limits
            .iter()
            .filter(|limit| is_little(limit.left, limit.of))
        {
            let next = there_at(limit.next_at);
            notes.push(format!(
                "{authority}: nearly used up: {}{next}",
                limit.in_words()
            ));
        }
        for hold in &left.holds {
            let subject = hold.subject.as_deref().unwrap_or("everything");
            let until = minute(hold.until);
            let detail = &hold.problem.detail;
            notes.push(format!(
                "{authority} refuses requests for {subject} until {until}: {detail}"
            ));
        }
    }
    for (region, imports) in &limits.imports {
        if is_little(imports.left, imports.of) {
            let (left, of, next) = (imports.left, imports.of, there_at(imports.next_at));
            notes.push(format!(
                "{region}: {left} of {of} imports of a year into the certificate manager are \
                 left{next}"
            ));
        }
    }
    notes
}

/// Says which channels have not taken messages, and why.
fn untold(inventory: &Inventory) -> Vec<String> {
    let mut by_channel = BTreeMap::<&str, (usize, &str)>::new();
    let all = inventory.certificates.iter();
    for untold in all.flat_map(|standing| &standing.untold) {
        let Some(why) = &untold.failure else {
            continue;
        };
        for channel in &untold.to {
            let (count, last) = by_channel.entry(channel).or_default();
            *count += 1;
            *last = why;
        }
    }
    let line = |(channel, (count, why)): (&str, (usize, &str))| {
        let count = counted(i64::try_from(count).unwrap_or(i64::MAX), "message");
        format!("{channel} has not taken {count}: {why}")
    };
    by_channel.into_iter().map(line).collect()
}

/// A fifth or less.
fn is_little(left: u32, of: u32) -> bool {
    u64::from(left) * 5 <= u64::from(of)
}

const LISTED: usize = 10;
