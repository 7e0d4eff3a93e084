use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::contract::settings::WebhookFormat;
use crate::records::certificate::{IssuedCertificate, Renewal};
use crate::rules::wording::{body, schemas, subject};

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

fn held(serial: &str, left: Duration) -> IssuedCertificate {
    IssuedCertificate {
        serial: serial.to_owned(),
        fingerprint: String::new(),
        not_before: NOW + left - Duration::days(90),
        not_after: NOW + left,
        domains: Vec::new(),
        key_type: crate::values::key::KeyType::EcdsaP256,
        authority: "letsencrypt".to_owned(),
        directory: String::new(),
        profile: None,
        identifier: None,
        renewal: Renewal {
            at: NOW + left - Duration::days(30),
            information: None,
            early_windows: 0,
            window_counts_from: None,
            replaces_refused: false,
        },
        public: None,
        adopted: false,
        kept_under: None,
        was_served: None,
        revoked_at: None,
        refused_at: None,
        refused_before: false,
    }
}

fn notify(renewals: bool) -> Notify {
    let arn = "arn:aws:sns:eu-central-1:123456789012:certloop".to_owned();
    Notify {
        channels: vec![Channel::Topic { arn }],
        renewals,
    }
}

/// One certificate, pass after pass. Its channels accept every message.
struct Story {
    state: State,
    notify: Notify,
    now: OffsetDateTime,
}

impl Story {
    fn new() -> Self {
        Self {
            state: State::default(),
            notify: notify(false),
            now: NOW,
        }
    }

    fn passes(&mut self, entry: Entry) -> Vec<Message> {
        let entry = entry.with_state(&self.state, None, "eu-central-1");
        let found = Found {
            entry: &entry,
            state: &self.state,
            domains: vec!["shop.example.com".to_owned()],
            installation: "certloop-example",
            now: self.now,
        };
        let is_news = is_news(&found, &self.notify);
        let (told, messages) = found.news(&self.state.told(), &self.notify);
        assert_eq!(is_news, !messages.is_empty());
        self.state.take_in(messages.clone(), told, &self.notify);
        self.state.told.as_mut().unwrap().outbox.clear();
        messages
    }

    fn kinds(&mut self, entry: Entry) -> Vec<Kind> {
        let messages = self.passes(entry);
        messages.iter().map(|message| message.kind).collect()
    }
}

fn entry(outcome: Outcome) -> Entry {
    Entry::bare("shop", outcome, "")
}

fn failed(problem_type: ProblemType, detail: &str) -> Entry {
    Entry::failed("shop", Problem::ours(problem_type, detail), None)
}

#[test]
fn a_problem_is_told_when_it_starts_changes_class_and_ends_and_not_between() {
    let mut story = Story::new();
    assert_eq!(
        story.kinds(failed(ProblemType::Authority, "a")),
        [Kind::ProblemStarted]
    );
    assert_eq!(
        story.kinds(failed(ProblemType::Authority, "b")),
        [],
        "the same"
    );
    assert_eq!(
        story.kinds(failed(ProblemType::Order, "c")),
        [],
        "of the same class"
    );
    assert_eq!(
        story.kinds(failed(ProblemType::CaaForbids, "d")),
        [Kind::ProblemChanged]
    );
    assert_eq!(
        story.kinds(failed(ProblemType::ListenerFull, "e")),
        [Kind::ProblemChanged]
    );
    assert_eq!(story.kinds(failed(ProblemType::ListenerFull, "f")), []);
    assert_eq!(
        story.kinds(entry(Outcome::Waiting)),
        [],
        "nobody could tell"
    );
    assert_eq!(story.kinds(entry(Outcome::Kept)), [Kind::ProblemEnded]);
    assert_eq!(story.kinds(entry(Outcome::Kept)), []);
}

#[test]
fn the_first_certificate_is_told_and_later_ones_where_that_is_asked_for() {
    let mut story = Story::new();
    story.state.certificate = Some(held("01", Duration::days(89)));
    assert_eq!(
        story.kinds(failed(ProblemType::Import, "")),
        [Kind::ProblemStarted],
        "not deployed"
    );
    assert_eq!(
        story.kinds(entry(Outcome::Deployed)),
        [Kind::Issued, Kind::ProblemEnded]
    );
    story.state.certificate = Some(held("02", Duration::days(89)));
    assert_eq!(story.kinds(entry(Outcome::Renewed)), []);
    story.notify = notify(true);
    assert_eq!(
        story.kinds(entry(Outcome::Kept)),
        [],
        "told of nothing older"
    );
    story.state.certificate = Some(held("03", Duration::days(89)));
    assert_eq!(story.kinds(entry(Outcome::Renewed)), [Kind::Renewed]);
    assert_eq!(story.kinds(entry(Outcome::Kept)), []);
}

#[test]
fn a_certificate_that_was_there_before_there_were_messages_is_not_new() {
    let mut story = Story::new();
    story.state.told = None;
    story.state.certificate = Some(held("01", Duration::days(80)));
    assert_eq!(story.kinds(entry(Outcome::Kept)), []);
    story.state.certificate = Some(held("02", Duration::days(80)));
    assert_eq!(story.kinds(entry(Outcome::Renewed)), []);
}

#[test]
fn a_problem_is_told_to_channels_that_came_after_it() {
    let mut story = Story::new();
    story.notify = Notify::default();
    assert_eq!(story.kinds(failed(ProblemType::Authority, "")), []);
    story.notify = notify(false);
    assert_eq!(
        story.kinds(failed(ProblemType::Authority, "")),
        [Kind::ProblemStarted]
    );
}

#[test]
fn little_left_is_told_once_for_each_certificate_if_nothing_has_worked() {
    let mut story = Story::new();
    story.state.told = None;
    let end = NOW + Duration::days(30);
    story.state.certificate = Some(held("01", Duration::days(30)));
    story.now = end - Duration::days(23);
    assert_eq!(
        story.kinds(entry(Outcome::Waiting)),
        [],
        "more than a quarter"
    );
    story.now = end - Duration::days(22);
    let told = story.passes(entry(Outcome::Waiting));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].kind, Kind::RunningOut);
    assert_eq!(
        told[0].text,
        "shop: 24 % of the lifetime is left, it ends 2026-12-23, and nothing has renewed it."
    );
    assert_eq!(story.kinds(entry(Outcome::Waiting)), []);
    story.now = end;
    assert_eq!(story.kinds(entry(Outcome::Waiting)), []);
    // A late window from the authority is no failure, and no all-clear either.
    let mut late = held("02", Duration::days(31));
    late.renewal.at = end - Duration::days(5);
    story.state.certificate = Some(late);
    story.now = end - Duration::days(10);
    assert_eq!(story.kinds(entry(Outcome::Kept)), []);
    story.now = end - Duration::days(4);
    assert_eq!(story.kinds(entry(Outcome::Waiting)), [Kind::RunningOut]);
    // A rollback to a certificate that ends even earlier needs no warning.
    story.state.certificate = Some(held("01", Duration::days(30)));
    assert_eq!(story.kinds(entry(Outcome::Deployed)), []);
    story.state.certificate = Some(held("03", Duration::days(110)));
    assert_eq!(
        story.kinds(entry(Outcome::Renewed)),
        [Kind::Renewed],
        "the all-clear"
    );
    assert_eq!(story.kinds(entry(Outcome::Kept)), []);
}

#[test]
fn two_problems_that_stand_are_not_told_in_turns() {
    let mut story = Story::new();
    let order = || Problem::ours(ProblemType::Authority, "a");
    let deployment = || Problem::ours(ProblemType::ListenerGone, "b");
    let failure = |problem| crate::values::problem::Failure {
        problem,
        attempts: 1,
        at: NOW,
        next_attempt: NOW,
        identifiers: Vec::new(),
        binding: false,
        document: String::new(),
        directory: String::new(),
        unavailable: false,
    };
    story.state.orders.failure = Some(failure(order()));
    assert_eq!(
        story.kinds(Entry::failed("shop", order(), None)),
        [Kind::ProblemStarted]
    );
    story.state.deployment.failure = Some(failure(deployment()));
    assert_eq!(
        story.kinds(Entry::failed("shop", deployment(), None)),
        [Kind::ProblemChanged]
    );
    for _ in 0..3 {
        assert_eq!(story.kinds(Entry::failed("shop", order(), None)), []);
        assert_eq!(story.kinds(Entry::failed("shop", deployment(), None)), []);
    }
    story.state.deployment.failure = None;
    assert_eq!(
        story.kinds(Entry::failed("shop", order(), None)),
        [],
        "known before"
    );
    story.state.deployment.failure = Some(failure(deployment()));
    assert_eq!(
        story.kinds(Entry::failed("shop", deployment(), None)),
        [Kind::ProblemChanged],
        "it was over"
    );
    story.state.orders.failure = None;
    story.state.deployment.failure = None;
    assert_eq!(story.kinds(entry(Outcome::Kept)), [Kind::ProblemEnded]);
    assert_eq!(
        story.kinds(Entry::failed("shop", order(), None)),
        [Kind::ProblemStarted]
    );
}

#[test]
fn what_is_gone_back_to_or_from_is_no_renewal() {
    let mut story = Story::new();
    story.state.told = None;
    story.notify = notify(true);
    story.state.certificate = Some(held("01", Duration::days(70)));
    assert_eq!(story.kinds(entry(Outcome::Kept)), []);
    story.state.certificate = Some(held("02", Duration::days(80)));
    assert_eq!(story.kinds(entry(Outcome::Renewed)), [Kind::Renewed]);
    story.state.certificate = Some(held("01", Duration::days(70)));
    story.state.previous.rolled_back = Some(crate::records::previous::RolledBack {
        from: "02".to_owned(),
        at: NOW,
        document: String::new(),
        word: None,
    });
    assert_eq!(story.kinds(entry(Outcome::Deployed)), []);
    story.state.certificate = Some(held("02", Duration::days(80)));
    story.state.previous.rolled_back = None;
    assert_eq!(story.kinds(entry(Outcome::Deployed)), []);
}

#[test]
fn nothing_overtakes_on_a_channel_what_it_has_not_taken() {
    let mut story = Story::new();
    let first = story.passes(failed(ProblemType::Authority, "")).remove(0);
    let second = story.passes(entry(Outcome::Kept)).remove(0);
    let outgoing = |message: Message, to: &[&str], next_attempt| Outgoing {
        message,
        to: to.iter().map(|key| (*key).to_owned()).collect(),
        attempts: 1,
        next_attempt,
        failure: None,
    };
    let mut told = Notified {
        outbox: vec![
            outgoing(first.clone(), &["a"], NOW + Duration::MINUTE),
            outgoing(second.clone(), &["a", "b"], NOW),
        ],
        ..Notified::default()
    };
    let sendable = told.sendable(NOW);
    assert_eq!(sendable.len(), 1);
    assert_eq!(
        (&sendable[0].id, &sendable[0].to),
        (&second.id, &vec!["b".to_owned()])
    );
    told.outbox[1].to = vec!["a".to_owned()];
    assert_eq!(told.sendable(NOW), []);
    assert_eq!(told.sendable(NOW + Duration::MINUTE).len(), 2);
    assert_eq!(
        told.sendable(NOW - Duration::days(1)).len(),
        2,
        "a clock was wrong"
    );
}

#[test]
fn chats_get_text_that_calls_nobody_and_formats_nothing() {
    let mut story = Story::new();
    let detail = "<!channel> @all *bold* [here](http://evil.example) & \"quoted\"";
    let message = story
        .passes(failed(ProblemType::SelfCheck, detail))
        .remove(0);
    let slack = body(&message, WebhookFormat::Slack);
    let text = slack["text"].as_str().unwrap();
    assert!(
        text.contains("&lt;!channel&gt;") && !text.contains("<!"),
        "{text}"
    );
    assert_eq!(slack["blocks"][0]["text"]["text"], text);
    let mattermost = body(&message, WebhookFormat::Mattermost);
    let text = mattermost["text"].as_str().unwrap();
    assert!(
        !text.contains("@all") && text.contains(r"\*bold\*"),
        "{text}"
    );
    assert!(!text.contains("[here]"), "{text}");
    let teams = body(&message, WebhookFormat::Teams);
    let card = &teams["attachments"][0];
    assert_eq!(
        card["contentType"],
        "application/vnd.microsoft.card.adaptive"
    );
    assert!(!card.to_string().contains("[here]"), "{card}");
    let json = body(&message, WebhookFormat::Json);
    assert_eq!(json["id"], message.id.as_str());
    assert_eq!(json["kind"], "problemStarted");
    assert_eq!(json["problem"]["type"], "certloop:selfCheck");
    assert_eq!(json["command"], "certloop check shop");
    for format in [slack, mattermost, teams] {
        assert!(format.to_string().contains(&message.id), "{format}");
    }
}

#[test]
fn a_subject_fits_sns() {
    let mut story = Story::new();
    let long = "a".repeat(63);
    for problem in [
        ProblemType::Authority,
        ProblemType::CaaForbids,
        ProblemType::ListenerFull,
    ] {
        let mut entry = failed(problem, "ü\n");
        entry.name.clone_from(&long);
        for message in story.passes(entry) {
            let subject = subject(&message);
            assert!(subject.len() < 100 && subject.is_ascii(), "{subject}");
            assert!(!subject.contains(char::is_control), "{subject}");
        }
    }
}

#[test]
fn the_committed_schemas_are_current_and_hold() {
    let mut story = Story::new();
    let started = story.passes(failed(ProblemType::Authority, "")).remove(0);
    let schemas = schemas();
    assert_eq!(schemas.len(), Kind::ALL.len());
    for (file, schema) in &schemas {
        crate::contract::settings::tests::assert_schema_is_current(
            &format!("messages/{file}"),
            schema,
        );
        let properties = schema["properties"].as_object().unwrap();
        let told = json!(started);
        for field in told.as_object().unwrap().keys() {
            assert!(
                properties[field]["description"].is_string()
                    || properties[field]["$ref"].is_string(),
                "{file}: {field}"
            );
        }
    }
}

#[test]
fn the_sample_is_a_message() {
    let sample = include_str!("../../../../../events/message.sample.json");
    let message: Message = serde_json::from_str(sample).unwrap();
    assert_eq!(wording::text(&message), message.text);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(sample).unwrap(),
        json!(message)
    );
}
