//! Records that come back from the bucket: any content is read completely or refused, and no
//! instant in it is out of range.

use time::{Duration, OffsetDateTime};

use crate::contract::rate_limit::RateLimits;
use crate::ports::store::parse_record;
use crate::records::certificate::IssuedCertificate;
use crate::records::record::Record;
use crate::records::state::State;
use crate::records::vault::{PendingKey, VaultEntry};
use crate::rules::ledger::{Imports, Ledger, OrderFate, Purpose};
use crate::values::names::DnsName;
use crate::values::problem::Failure;

/// Checks one object as every kind of record.
pub fn records(body: &[u8]) {
    if let Some(read) = record::<State>(body) {
        for now in instants() {
            state(read.clone(), now);
        }
    }
    if let Some(read) = record::<Ledger>(body) {
        for now in instants() {
            ledger(read.clone(), now);
        }
    }
    if let Some(read) = record::<Imports>(body) {
        for now in instants() {
            imports(read.clone(), now);
        }
    }
    record::<VaultEntry>(body);
    record::<PendingKey>(body);
}

/// A record that can be read is written as it was read. A refusal names the place, and quotes
/// nothing of the content.
fn record<R: Record>(body: &[u8]) -> Option<R> {
    let read = match parse_record::<R>(KEY, body) {
        Ok(read) => read,
        Err(refusal) => {
            let words = refusal.to_string();
            let without = words.replace(|c: char| c.is_ascii_digit(), "");
            let place = format!("{KEY} cannot be used: line  column  is not as expected");
            let version = format!(
                "{KEY} cannot be used: it has version  and this build knows  at most; deploy the \
                 newer build again"
            );
            assert!(without == place || without == version, "{words}");
            return None;
        }
    };
    let written = serde_json::to_vec(&read).expect("a record that was read can be written");
    let again = parse_record::<R>(KEY, &written).expect("a record that was written can be read");
    assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    Some(read)
}

fn state(mut state: State, now: OffsetDateTime) {
    if let Some(lease) = state.lease_in_force(now) {
        assert!(lease.until > now && lease.until < now + Duration::HOUR);
    }
    state.leftovers.is_empty(now);
    for import in state.deployment.imports.values() {
        for superseded in &import.superseded {
            superseded.detached_since(now);
        }
    }
    let failures = state.orders.failure.iter().chain(&state.deployment.failure);
    for failure in failures.chain(&state.orders.failures_elsewhere) {
        of_failure(failure, now);
    }
    state.note_document("etag", None);
    state.is_held_back(now);
    state.orders.missing.values().for_each(|missing| {
        missing.waits(now);
    });
    for held in state
        .certificate
        .iter()
        .chain(state.previous.certificate.as_deref())
    {
        of_held(held, now);
    }
    state.note(now, "looked", "at");
    assert!(state.history.len() <= crate::records::state::HISTORY);
    state.stamp("00".to_owned());
    assert!(serde_json::to_vec(&state).is_ok());
}

fn of_failure(failure: &Failure, now: OffsetDateTime) {
    for force in [false, true] {
        let held = failure.holds(now, force, "etag", "https://acme.example/directory", &[]);
        if let Some(until) = held {
            assert!(until > now && until <= now + Duration::days(9));
        }
    }
}

fn of_held(held: &IssuedCertificate, now: OffsetDateTime) {
    assert!((0.0..=1.0).contains(&held.share_left(now)));
    held.is_urgent(now);
    held.is_in_window(now);
    held.is_to_be_replaced_at_once(now);
    held.is_to_be_asked_about(now);
    crate::values::instant::rfc3339(held.renew_at());
    let renewal = crate::rules::renewal::draw(now, now + Duration::days(90), Some(held), now, 0.5);
    assert!(renewal.at > now);
    let refusal = crate::values::problem::AcmeError::no_answer(std::time::Duration::from_secs(1));
    let information = crate::rules::renewal::information_after(held, Err(refusal), now, 0.5);
    assert!(information.ask_again > now && information.ask_again < now + Duration::days(2));
}

fn ledger(mut ledger: Ledger, now: OffsetDateTime) {
    let limits = RateLimits::letsencrypt();
    let names = [DnsName::parse("shop.example.com").unwrap()];
    ledger.holds_in_force(now);
    for left in ledger.left(&limits, now) {
        assert!(left.left <= left.of);
        left.in_words();
    }
    for purpose in [Purpose::New, Purpose::SameSet] {
        ledger.costs(&limits, &names, purpose, now);
        if let Some(blocked) = ledger.what_blocks(&limits, "shop", &names, purpose, now) {
            assert!(blocked.until > now && blocked.until <= now + Duration::days(16));
        }
    }
    let id = "id".to_owned();
    let reserved = ledger.reserve(&limits, "shop", id, &names, Purpose::New, now);
    for outcome in [
        OrderFate::Issued,
        OrderFate::NeverMade { counted: false },
        OrderFate::Unknown,
    ] {
        let mut ledger = ledger.clone();
        ledger.settle(&reserved, outcome, now);
        ledger.tidy(&limits, now);
        assert!(serde_json::to_vec(&ledger).is_ok());
    }
}

fn imports(mut imports: Imports, now: OffsetDateTime) {
    for limit in [1, 5_000, 1_000_000] {
        let next = imports.next(limit, now);
        assert!(next >= now && next <= now + Duration::days(367));
        assert_eq!(imports.left(limit, now) > 0, next == now);
        imports.what_blocks(limit, "eu-central-1", now);
    }
    let before = imports.of_a_year(now);
    imports.count(now);
    assert!(imports.of_a_year(now) > before || before == u32::MAX);
    imports.refund(now);
}

/// Clocks may be wrong, within the years that a certificate can have.
fn instants() -> [OffsetDateTime; 3] {
    [1_790_000_000, 0, 4_000_000_000].map(|at| OffsetDateTime::from_unix_timestamp(at).unwrap())
}

const KEY: &str = "a/key";
