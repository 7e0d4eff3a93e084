//! Pure: whether an order is due, and when the next one will be (rule 8). This includes what an
//! authority suggests (RFC 9773) and what that means.

use time::{Duration, OffsetDateTime, UtcOffset};

use crate::contract::certificate::Wanted;
use crate::ports::authority::Suggested;
use crate::records::certificate::{IssuedCertificate, Renewal, RenewalInformation, Window};
use crate::records::state::State;
use crate::rules::order_names;
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::lifetime::{SHORT, little};
use crate::values::names::DnsName;
use crate::values::problem::{AcmeError, backoff};
use crate::values::text::listed;

/// Whether a certificate needs an order, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Order a new certificate.
    Order {
        /// Why, in words.
        reason: String,
    },
    /// The certificate in the vault is right for now.
    Keep,
}

/// What the decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The document.
    pub wanted: &'a Wanted,
    /// The certificate's record.
    pub state: &'a State,
    /// The directories of the document's authorities.
    pub directories: &'a [&'a str],
    /// The present instant.
    pub now: OffsetDateTime,
}

/// Decides whether to order. The first check with an answer decides.
pub fn decide(situation: &Situation<'_>, force: bool) -> Decision {
    let Situation {
        wanted,
        state,
        directories,
        now,
    } = *situation;
    let order = |reason: String| Decision::Order { reason };
    let Some(held) = &state.certificate else {
        return order("no certificate yet".to_owned());
    };
    if held.revoked_at.is_some() {
        return order("the certificate was revoked".to_owned());
    }
    if !force && state.is_held_back(now) {
        return Decision::Keep;
    }
    let is_refused = held.refused_at.is_some() && !held.refused_before;
    if is_refused && now - held.not_before >= REFUSED_FOR {
        return order("the certificate manager does not take the certificate".to_owned());
    }
    let names = order_names::names_now(wanted, state, now);
    let missing = |name: &&DnsName| !held.domains.contains(name);
    if held.domains != names {
        let plus: Vec<&str> = names.iter().filter(missing).map(DnsName::as_str).collect();
        let minus = held.domains.iter().filter(|name| !names.contains(name));
        let minus: Vec<&str> = minus.map(DnsName::as_str).collect();
        let again = |name: &&str| {
            state
                .orders
                .missing
                .keys()
                .any(|known| known.as_str() == *name)
        };
        return order(match minus.is_empty() && plus.iter().all(again) {
            true => format!(
                "names that are missing are tried again: {}",
                listed_or_none(&plus)
            ),
            false => format!(
                "the domains changed (new: {}; gone: {})",
                listed_or_none(&plus),
                listed_or_none(&minus)
            ),
        });
    }
    if held.key_type != wanted.key_type {
        return order(format!(
            "the key type changed from {} to {}",
            held.key_type, wanted.key_type
        ));
    }
    if !directories.contains(&held.directory.as_str()) {
        return order(format!(
            "the directory changed from {} to {}",
            held.directory,
            directories.join(" or ")
        ));
    }
    if held.renew_at() <= now {
        return order(due_reason(held));
    }
    if force {
        return order("renewal was forced".to_owned());
    }
    Decision::Keep
}

impl State {
    /// Whether no order is made now: a rollback is in force, or the document may be an older copy.
    /// The document is the same, the certificate does not end soon, and it does not have to be
    /// replaced at once.
    pub fn is_held_back(&self, now: OffsetDateTime) -> bool {
        let Some(held) = &self.certificate else {
            return false;
        };
        let until_due = self.kept().is_some_and(|kept| now < kept.latest());
        (self.held_back().is_some() || until_due)
            && !held.is_urgent(now)
            && !held.is_to_be_replaced_at_once(now)
    }

    /// Returns the adopted certificate if the document lacks a name or the key type of it, and is
    /// still the same.
    pub(crate) fn kept(&self) -> Option<&IssuedCertificate> {
        let held = self.certificate.as_ref();
        held.filter(|held| held.kept_under.is_some() && held.kept_under == self.document)
    }

    /// Returns when the certificate will be renewed.
    pub fn renew_at(&self) -> Option<OffsetDateTime> {
        let held = self.certificate.as_ref()?;
        Some(match self.held_back() {
            Some(_) => held.not_after - little(held.lifetime()),
            None if self.kept().is_some() => held.latest(),
            None => held.renew_at(),
        })
    }
}

fn due_reason(held: &IssuedCertificate) -> String {
    let since = rfc3339(held.renew_at());
    if held.adopted {
        return format!(
            "renewal is due since {since}: the vault does not hold the key of {}",
            held.serial
        );
    }
    match held.window() {
        None => format!("renewal is due since {since}"),
        Some(window) => {
            let why = window.explanation_url.as_ref();
            let why = why.map_or(String::new(), |url| format!("; it explains why: {url}"));
            format!(
                "renewal is due since {since}: the authority suggests {} to {}{why}",
                rfc3339(window.start),
                rfc3339(window.end)
            )
        }
    }
}

/// Plans the renewal of a certificate that was issued now. Without renewal information it is due
/// when 1/3 of its lifetime is left (1/2 if the lifetime is below 10 days), spread over the tenth
/// of the lifetime before that. The caller draws `jitter` in 0..1 once, and the result is stored.
pub fn draw(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    before: Option<&IssuedCertificate>,
    now: OffsetDateTime,
    jitter: f64,
) -> Renewal {
    let lifetime = not_after - not_before;
    let latest = latest(not_before, not_after);
    // Whether the previous one was replaced early because of its window. That window may have been
    // wrong, and then the next one may be wrong as well.
    let early = |held: &&IssuedCertificate| {
        held.window().is_some() && held.renew_at() <= now && now < held.renewal.at
    };
    let early_windows = before
        .filter(early)
        .map_or(0, |held| held.renewal.early_windows + 1);
    Renewal {
        at: latest - lifetime / 10 * jitter.clamp(0.0, 1.0),
        information: None,
        early_windows,
        window_counts_from: (early_windows > 0).then(|| now + patience(early_windows)),
        replaces_refused: false,
    }
}

/// Returns when a certificate is renewed at the latest without renewal information.
fn latest(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    let lifetime = not_after - not_before;
    let left = match lifetime < SHORT {
        true => lifetime / 2,
        false => lifetime / 3,
    };
    not_after - left
}

/// Returns when to renew a certificate whose key the vault has lost: within a thirtieth of its
/// lifetime. `jitter` in 0..1 spreads the renewals of a fleet.
pub(crate) fn without_key(
    held: &IssuedCertificate,
    now: OffsetDateTime,
    jitter: f64,
) -> OffsetDateTime {
    let soon = now + held.lifetime() / 30 * jitter.clamp(0.0, 1.0);
    held.renewal.at.min(whole_seconds(soon))
}

/// Returns how long a new certificate is kept even if its window says otherwise, after this many
/// early replacements. The waits are those after failures; beyond one day they double.
fn patience(early_windows: u32) -> Duration {
    let doubled = early_windows.saturating_sub(HASTE_OF_A_DAY).min(5);
    backoff(early_windows, false, 0.0) * 2_i32.pow(doubled)
}

impl IssuedCertificate {
    /// When it is renewed at the latest without renewal information.
    fn latest(&self) -> OffsetDateTime {
        latest(self.not_before, self.not_after)
    }

    /// The window that the authority suggests, if it sent a valid one.
    pub fn window(&self) -> Option<&Window> {
        self.renewal.information.as_ref()?.window.as_ref()
    }

    /// Returns when it will be renewed: in the suggested window, but not so late that little
    /// lifetime is left. Without a window its lifetime decides. Without its key in the vault, it
    /// waits for no window.
    pub fn renew_at(&self) -> OffsetDateTime {
        let Some(window) = self.window() else {
            return self.renewal.at;
        };
        let latest = self.not_after - self.lifetime() / 20;
        let latest = match self.adopted {
            true => self.renewal.at.min(latest),
            false => latest,
        };
        let longest = (self.not_before).saturating_add(patience(u32::MAX) + SLACK);
        let counts_from = self.renewal.window_counts_from;
        counts_from
            .filter(|from| *from <= longest)
            .map_or(window.at, |from| window.at.max(from))
            .min(latest)
    }

    /// Returns its unique identifier if a new order at this directory may send it as `replaces`:
    /// the authority issued the certificate, one of its names stays, and it has not ended (RFC 9773
    /// section 5).
    pub fn replaceable(
        &self,
        wanted: &Wanted,
        directory: &str,
        now: OffsetDateTime,
    ) -> Option<&str> {
        let fits = self.directory == directory
            && self
                .domains
                .iter()
                .any(|name| wanted.domains.contains(name))
            && !self.renewal.replaces_refused
            && now < self.not_after;
        self.identifier.as_deref().filter(|_| fits)
    }

    /// Whether now is in the suggested window. An order that replaces the certificate is then
    /// exempt from the authority's limits.
    pub fn is_in_window(&self, now: OffsetDateTime) -> bool {
        self.window()
            .is_some_and(|window| window.start <= now && now < window.end)
    }

    /// Whether the authority wants it replaced at once: its window is over, as after a revocation
    /// (RFC 9773 section 4.2).
    pub fn is_to_be_replaced_at_once(&self, now: OffsetDateTime) -> bool {
        let is_over = self.window().is_some_and(|window| window.end <= now);
        // Without its key it may be due for renewal earlier than by its window.
        is_over && (self.adopted || now < self.renewal.at) || self.revoked_at.is_some()
    }

    /// Whether to ask the authority for renewal information now. We do not ask for a certificate
    /// that has ended.
    pub fn is_to_be_asked_about(&self, now: OffsetDateTime) -> bool {
        let due = |information: &RenewalInformation| {
            information.ask_again <= now || information.ask_again > now + LONGEST_PAUSE + SLACK
        };
        self.identifier.is_some()
            && now < self.not_after
            && self.renewal.information.as_ref().is_none_or(due)
    }
}

/// Returns what is known after a request for renewal information. An `answer` of `None` is a
/// directory without renewal information. `jitter` in 0..1 chooses the instant in a new window.
///
/// The wait until the next request (RFC 9773 section 4.3):
/// - after an answer: its Retry-After, at least a minute and at most a day;
/// - after a timeout or a fault of the authority: from a minute to six hours, doubled each time;
/// - else six hours: no connection, a refusal, an answer that is not valid, no Retry-After.
pub fn information_after(
    held: &IssuedCertificate,
    answer: Result<Option<Suggested>, AcmeError>,
    now: OffsetDateTime,
    jitter: f64,
) -> RenewalInformation {
    let known = held.window().cloned();
    let told = |wait: std::time::Duration| {
        Duration::try_from(wait)
            .unwrap_or(LONGEST_PAUSE)
            .clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    };
    let (window, pause, unanswered) = match answer {
        Ok(None) => (None, LONGEST_PAUSE, 0),
        Ok(Some(suggested)) => {
            let retry_after = suggested.retry_after;
            match (window_of(suggested, held, jitter), retry_after) {
                (Some(window), Some(pause)) => (Some(window), told(pause), 0),
                (Some(window), None) => (Some(window), LASTING, 0),
                (None, _) => (known, LASTING, 0),
            }
        }
        Err(refusal) => {
            let before = held.renewal.information.as_ref();
            let before = before.map_or(0, |information| information.unanswered);
            let asked_for = refusal
                .retry_after
                .map(|until| (until - now).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
            let doubled = SHORTEST_PAUSE * 2_i32.pow(before.min(10));
            if refusal.status.is_none_or(|status| status >= 500) && !refusal.unconnected {
                let pause = asked_for.unwrap_or_default().max(doubled.min(LASTING));
                (known, pause, before.saturating_add(1))
            } else {
                (known, asked_for.unwrap_or(LASTING), 0)
            }
        }
    };
    RenewalInformation {
        window,
        ask_again: whole_seconds(now + pause),
        unanswered,
    }
}

/// Returns the window with our instant in it; `None` if the window is not valid. A window is not
/// valid if it ends before it starts, or if it was over before this certificate became valid: then
/// it belongs to an older one.
fn window_of(suggested: Suggested, held: &IssuedCertificate, jitter: f64) -> Option<Window> {
    let Suggested {
        start,
        end,
        explanation_url,
        ..
    } = suggested;
    // With its offset, an instant may be in a year that UTC cannot express.
    let written = |at: OffsetDateTime| {
        at.checked_to_offset(UtcOffset::UTC)
            .filter(|at| at.year() >= 0)
    };
    let (start, end) = (written(start)?, written(end)?);
    let explanation_url = explanation_url.filter(|url| url.len() <= LONGEST_URL);
    if end <= start || end <= held.not_before {
        return None;
    }
    let kept = held.window().map(|window| window.at);
    let at = kept
        .filter(|at| (start..=end).contains(at))
        .unwrap_or_else(|| {
            // Early enough that the next pass, some minutes later, is still in the window.
            let width = end - start;
            let drawn_from = width - Duration::min(width / 4, Duration::HOUR);
            whole_seconds(start + drawn_from * jitter.clamp(0.0, 1.0))
        });
    Some(Window {
        start,
        end,
        at,
        explanation_url,
    })
}

fn listed_or_none(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        listed(names)
    }
}

/// The longest URL that is kept, in bytes.
const LONGEST_URL: usize = 1_000;
/// After this many early replacements in a row, the next one waits for a day.
const HASTE_OF_A_DAY: u32 = 4;
/// The shortest time between two requests for the renewal information of a certificate.
const SHORTEST_PAUSE: Duration = Duration::minutes(1);
/// The longest time between two such requests.
const LONGEST_PAUSE: Duration = Duration::days(1);
/// The pause after an error that does not end by itself.
const LASTING: Duration = Duration::hours(6);
/// How far an instant may be beyond the longest pause. One further ahead comes from a wrong clock.
const SLACK: Duration = Duration::hours(1);

/// So old is a certificate that no certificate manager takes before another one is ordered. If that
/// one is refused too, no third one follows.
const REFUSED_FOR: Duration = Duration::DAY;

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_instant_lies_in_the_tenth_before_a_third_is_left() {
        let start = datetime!(2026-01-01 0:00 UTC);
        let end = start + Duration::days(90);
        let at = |jitter| draw(start, end, None, start, jitter).at;
        assert_eq!(at(0.0), start + Duration::days(60));
        assert_eq!(at(1.0), start + Duration::days(51));
    }

    #[test]
    fn a_short_lived_one_is_renewed_at_half() {
        let start = datetime!(2026-01-01 0:00 UTC);
        let end = start + Duration::hours(160);
        let drawn = draw(start, end, None, start, 0.0);
        assert_eq!(drawn.at, start + Duration::hours(80));
    }

    const START: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);

    /// A certificate of 90 days, issued at its notBefore, whose lifetime says day 60.
    fn held(before: Option<&IssuedCertificate>, issued: OffsetDateTime) -> IssuedCertificate {
        let not_after = issued + Duration::days(90);
        IssuedCertificate {
            serial: "01".to_owned(),
            fingerprint: String::new(),
            not_before: issued,
            not_after,
            domains: Vec::new(),
            key_type: crate::values::key::KeyType::EcdsaP256,
            authority: "a".to_owned(),
            directory: "https://a.example.com/dir".to_owned(),
            profile: None,
            identifier: Some("aa.01".to_owned()),
            renewal: draw(issued, not_after, before, issued, 0.0),
            public: None,
            adopted: false,
            kept_under: None,
            was_served: None,
            revoked_at: None,
            refused_at: None,
            refused_before: false,
        }
    }

    fn suggested(from: i64, to: i64) -> Suggested {
        Suggested {
            start: START + Duration::days(from),
            end: START + Duration::days(to),
            explanation_url: None,
            retry_after: Some(std::time::Duration::from_secs(21_600)),
        }
    }

    #[test]
    fn instants_at_the_end_of_the_calendar_are_not_too_much() {
        let mut held = held(None, START);
        let mut window = suggested(20, 30);
        let offset = |hours| UtcOffset::from_hms(hours, 0, 0).unwrap();
        window.start = datetime!(9999-12-31 20:00 UTC).replace_offset(offset(-10));
        window.end = datetime!(9999-12-31 23:59 UTC).replace_offset(offset(-23));
        told(&mut held, window, START, 1.0);
        assert_eq!(held.window(), None);
        held.not_before = datetime!(9999-12-31 23:59 UTC);
        held.not_after = held.not_before;
        let mut window = suggested(20, 30);
        window.start = datetime!(0000-01-01 0:00 UTC).replace_offset(offset(23));
        told(&mut held, window, START, 0.0);
        assert_eq!(held.window(), None);

        held.not_before = datetime!(9999-12-31 23:59 UTC);
        held.not_after = held.not_before;
        let mut window = suggested(20, 30);
        window.end = held.not_after + Duration::SECOND;
        told(&mut held, window, START, 1.0);
        assert!(held.renew_at() <= held.not_after);
    }

    fn told(held: &mut IssuedCertificate, suggested: Suggested, now: OffsetDateTime, jitter: f64) {
        let information = information_after(held, Ok(Some(suggested)), now, jitter);
        held.renewal.information = Some(information);
    }

    fn refusal(status: Option<u16>, unconnected: bool) -> AcmeError {
        AcmeError {
            status,
            unconnected,
            ..AcmeError::no_answer(std::time::Duration::from_secs(1))
        }
    }

    #[test]
    fn one_instant_is_drawn_in_the_window_and_kept_while_it_lies_there() {
        let mut held = held(None, START);
        told(&mut held, suggested(20, 30), START, 0.5);
        let drawn = START + Duration::days(25) - Duration::minutes(30);
        assert_eq!(held.renew_at(), drawn);
        told(&mut held, suggested(24, 40), START, 0.9);
        assert_eq!(held.renew_at(), drawn, "it still lies there");
        told(&mut held, suggested(30, 40), START, 1.0);
        let drawn = START + Duration::days(40) - Duration::hours(1);
        assert_eq!(held.renew_at(), drawn);
    }

    #[test]
    fn no_window_postpones_past_a_twentieth_of_the_lifetime() {
        let mut held = held(None, START);
        told(&mut held, suggested(88, 89), START, 0.5);
        assert_eq!(held.renew_at(), held.not_after - Duration::hours(108));
    }

    #[test]
    fn what_is_no_window_is_ignored() {
        for (from, to, why) in [
            (30, 30, "empty"),
            (30, 20, "backwards"),
            (-9, -1, "of an older certificate"),
        ] {
            let mut held = held(None, START);
            told(&mut held, suggested(from, to), START, 0.5);
            assert_eq!(held.renew_at(), held.renewal.at, "{why}");
            told(&mut held, suggested(20, 30), START, 0.5);
            told(&mut held, suggested(from, to), START, 0.5);
            assert_eq!(
                held.renew_at(),
                START + Duration::days(25) - Duration::minutes(30),
                "{why}: the last valid one stays"
            );
        }
    }

    #[test]
    fn a_window_wholly_past_wants_it_replaced_at_once() {
        let now = START + Duration::days(10);
        let mut held = held(None, START);
        told(&mut held, suggested(8, 9), now, 0.5);
        assert!(held.renew_at() <= now && held.is_to_be_replaced_at_once(now));
        told(&mut held, suggested(9, 11), now, 0.0);
        assert!(held.renew_at() <= now && !held.is_to_be_replaced_at_once(now));
    }

    #[test]
    fn windows_that_are_always_past_are_obeyed_ever_more_slowly() {
        let mut now = START + Duration::days(10);
        let mut waits = Vec::new();
        let mut before = held(None, START);
        for _ in 0..6 {
            told(&mut before, suggested(0, 1), now, 0.5);
            // The authority suggests a past window for every new certificate as well, but none from
            // before the certificate's beginning.
            let mut next = held(Some(&before), now);
            let past = Suggested {
                start: now - Duration::hours(1),
                end: now + Duration::seconds(1),
                ..suggested(0, 0)
            };
            told(&mut next, past, now, 0.0);
            waits.push(next.renew_at() - now);
            now = now.max(next.renew_at());
            before = next;
        }
        let minutes: Vec<i64> = waits.iter().map(|wait| wait.whole_minutes()).collect();
        assert_eq!(minutes, [1, 10, 100, 1_440, 2_880, 5_760]);
    }

    #[test]
    fn an_authority_is_asked_again_when_it_said_within_a_minute_and_a_day() {
        let after = |retry_after: Option<u64>| {
            let answer = Suggested {
                retry_after: retry_after.map(std::time::Duration::from_secs),
                ..suggested(20, 30)
            };
            information_after(&held(None, START), Ok(Some(answer)), START, 0.5).ask_again - START
        };
        assert_eq!(after(Some(21_600)), Duration::hours(6));
        assert_eq!(after(Some(1)), Duration::minutes(1));
        assert_eq!(after(Some(864_000)), Duration::days(1));
        assert_eq!(after(None), Duration::hours(6));
        let none = information_after(&held(None, START), Ok(None), START, 0.5);
        assert_eq!(none.ask_again - START, Duration::days(1));
    }

    #[test]
    fn what_may_pass_is_asked_again_soon_and_what_lasts_in_six_hours() {
        let mut held = held(None, START);
        told(&mut held, suggested(20, 30), START, 0.5);
        let mut ask = |status, unconnected| {
            let information =
                information_after(&held, Err(refusal(status, unconnected)), START, 0.5);
            held.renewal.information = Some(information.clone());
            assert_eq!(
                held.renew_at(),
                START + Duration::days(25) - Duration::minutes(30),
                "the window stays"
            );
            (information.ask_again - START).whole_minutes()
        };
        let waits: Vec<i64> = (0..11).map(|_| ask(Some(503), false)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(ask(None, true), 360, "no connection");
        assert_eq!(ask(None, false), 1, "too slow");
        assert_eq!(ask(Some(404), false), 360);
        assert_eq!(ask(Some(200), false), 360, "not understood");
    }

    #[test]
    fn an_instant_of_a_wrong_clock_keeps_nobody_from_asking() {
        let mut held = held(None, START);
        assert!(held.is_to_be_asked_about(START));
        told(&mut held, suggested(20, 30), START, 0.5);
        assert!(!held.is_to_be_asked_about(START + Duration::hours(5)));
        assert!(held.is_to_be_asked_about(START + Duration::hours(6)));
        assert!(held.is_to_be_asked_about(START - Duration::days(2)));
        assert!(!held.is_to_be_asked_about(held.not_after), "it has ended");
    }
}
