//! Pure: messages in words, and in the form of each channel.

use schemars::Schema;
use serde_json::{Value, json};

use crate::contract::message::{Kind, Message, ProblemSummary};
use crate::contract::settings::WebhookFormat;
use crate::contract::strict::schema_generator;
use crate::values::instant::{day, rfc3339};
use crate::values::text::cut;

/// Writes a message as one paragraph.
pub(super) fn text(message: &Message) -> String {
    let about = &message.certificate;
    let name = &about.name;
    let until = about.not_after.map(day);
    let valid = (until.as_ref()).map_or(String::new(), |until| format!(", valid until {until}"));
    let detail = |said: &Option<ProblemSummary>| {
        let detail = said.as_ref().map_or("", |said| said.detail.as_str());
        detail.trim_end_matches('.').to_owned()
    };
    let mut text = match message.kind {
        Kind::Issued => {
            format!(
                "{name}: the first certificate was issued{valid}, for {}",
                names(&about.domains)
            )
        }
        Kind::Renewed => format!("{name}: renewed{valid}"),
        Kind::ProblemStarted => format!("{name}: {}", detail(&message.problem)),
        Kind::ProblemChanged => format!(
            "{name}: {} (before: {})",
            detail(&message.problem),
            cut(&detail(&message.before), LONGEST_BEFORE)
        ),
        Kind::ProblemEnded => format!(
            "{name}: all is well again{valid} (it was: {})",
            cut(&detail(&message.before), LONGEST_BEFORE)
        ),
        Kind::RunningOut => {
            let share = about.lifetime_left_share.unwrap_or_default() * 100.0;
            let why = match &message.problem {
                Some(said) => format!(": {}", said.detail.trim_end_matches('.')),
                None => String::new(),
            };
            let end = until.unwrap_or_default();
            format!(
                "{name}: {share:.0} % of the lifetime is left, it ends {end}, and nothing has \
                 renewed it{why}"
            )
        }
    };
    text.push('.');
    if let Some(at) = message.next_attempt {
        text.push_str(&format!(" Next attempt: {}.", rfc3339(at)));
    }
    if let Some(command) = &message.command {
        text.push_str(&format!(" Try: {command}"));
    }
    text
}

/// Writes the last message about a removed certificate as one paragraph: its problem is over.
pub(super) fn removed(message: &Message) -> String {
    let before = message.before.as_ref();
    let before = before.map_or("", |said| said.detail.as_str());
    let name = &message.certificate.name;
    format!(
        "{name}: it is removed (it was: {}).",
        cut(before, LONGEST_BEFORE).trim_end_matches('.')
    )
}

/// Returns a message's headline, which is a mail's subject (SNS accepts 100 ASCII characters).
pub fn subject(message: &Message) -> String {
    let name = &message.certificate.name;
    let needs_person = message
        .problem
        .as_ref()
        .is_some_and(ProblemSummary::needs_person);
    let what = match message.kind {
        Kind::Issued => "issued",
        Kind::Renewed => "renewed",
        Kind::RunningOut => "is running out",
        Kind::ProblemEnded => "is well again",
        Kind::ProblemStarted | Kind::ProblemChanged if needs_person => "needs a person",
        Kind::ProblemStarted => "has a problem",
        Kind::ProblemChanged => "has another problem",
    };
    // A name has at most 63 letters, digits and hyphens.
    let name: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(63)
        .collect();
    format!("certloop: {name} {what}")
}

/// Returns a message as a mail's body.
pub fn email(message: &Message) -> String {
    let about = &message.certificate;
    let mut lines = vec![message.text.clone(), String::new()];
    lines.push(format!("certificate   {}", about.name));
    lines.push(format!("names         {}", names(&about.domains)));
    if let Some(serial) = &about.serial {
        lines.push(format!("serial        {serial}"));
    }
    if let Some(not_after) = about.not_after {
        lines.push(format!("served until  {}", rfc3339(not_after)));
    }
    if let Some(said) = &message.problem {
        lines.push(format!("problem       {}", said.kind));
    }
    lines.push(format!("installation  {}", message.installation));
    lines.push(format!("message       {}", message.id));
    lines.join("\n")
}

/// Returns the body of a webhook.
///
/// Slack: incoming webhooks, whose text escapes `&`, `<` and `>`
/// (<https://docs.slack.dev/messaging/formatting-message-text>). Teams: an adaptive card, the form
/// that workflows accept
/// (<https://learn.microsoft.com/power-automate/teams/send-a-message-in-teams>). Mattermost and
/// Rocket.Chat: incoming webhooks with Markdown.
pub fn body(message: &Message, format: WebhookFormat) -> Value {
    let headline = subject(message);
    let mark = mark(message);
    match format {
        WebhookFormat::Json => json!(message),
        WebhookFormat::Slack => {
            let text = format!(
                "{mark} *{}*\n{}",
                in_slack(&headline),
                in_slack(&message.text)
            );
            let context = in_slack(&context(message));
            let section = json!({"type": "mrkdwn", "text": cut(&text, SLACK_SECTION)});
            let context = json!({"type": "mrkdwn", "text": cut(&context, SLACK_CONTEXT)});
            json!({
                "text": text,
                "blocks": [
                    {"type": "section", "text": section},
                    {"type": "context", "elements": [context]},
                ],
            })
        }
        WebhookFormat::Mattermost => {
            let (headline, words) = (in_markdown(&headline), in_markdown(&message.text));
            let context = in_markdown(&context(message));
            json!({"text": format!("{mark} **{headline}**\n{words}\n_{context}_")})
        }
        WebhookFormat::Teams => {
            let block = |text: String, rest: Value| {
                let mut block = json!({"type": "TextBlock", "text": text, "wrap": true});
                if let (Some(block), Value::Object(rest)) = (block.as_object_mut(), rest) {
                    block.extend(rest);
                }
                block
            };
            let headline = format!("{mark} {}", in_markdown(&headline));
            let context = in_markdown(&context(message));
            json!({
                "type": "message",
                "attachments": [{
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "contentUrl": null,
                    "content": {
                        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                        "type": "AdaptiveCard",
                        "version": "1.4",
                        "body": [
                            block(headline, json!({"weight": "Bolder", "size": "Medium"})),
                            block(in_markdown(&message.text), json!({})),
                            block(context, json!({"isSubtle": true, "size": "Small"})),
                        ],
                    },
                }],
            })
        }
    }
}

/// Returns the schema of each kind of message, with the name of its file.
pub fn schemas() -> Vec<(String, Value)> {
    let schema = |kind: &Kind| {
        let mut schema: Schema = schema_generator().into_root_schema_for::<Message>();
        let title = kind.detail_type();
        schema.insert("title".to_owned(), json!(title));
        let is_set: &[&str] = match kind {
            Kind::ProblemStarted => &["problem"],
            Kind::ProblemChanged => &["problem", "before"],
            Kind::ProblemEnded => &["before"],
            Kind::Issued | Kind::Renewed | Kind::RunningOut => &[],
        };
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert(
                "kind".to_owned(),
                json!({"const": kind, "description": "What it is about."}),
            );
            for field in is_set {
                properties.insert((*field).to_owned(), json!({"$ref": "#/$defs/Said"}));
            }
        }
        if let Some(Value::Object(defined)) = schema.get_mut("$defs") {
            defined.remove("Kind");
        }
        let file = title.to_lowercase().replace(' ', "-");
        (format!("{file}.schema.json"), schema.to_value())
    };
    Kind::ALL.iter().map(schema).collect()
}

fn context(message: &Message) -> String {
    let about = &message.certificate;
    let names = names(&about.domains);
    format!("{names} · {} · {}", message.installation, message.id)
}

fn mark(message: &Message) -> &'static str {
    match message.kind {
        Kind::Issued | Kind::Renewed | Kind::ProblemEnded => "✅",
        Kind::RunningOut => "🔥",
        Kind::ProblemStarted | Kind::ProblemChanged => {
            match message
                .problem
                .as_ref()
                .is_some_and(ProblemSummary::needs_person)
            {
                true => "🛑",
                false => "⚠️",
            }
        }
    }
}

fn names(domains: &[String]) -> String {
    match domains {
        [] => "no names".to_owned(),
        [first] => first.clone(),
        [first, second] => format!("{first}, {second}"),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn in_slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Escapes characters that have a meaning in Markdown or in a chat. One of them is `@`, which could
/// notify everybody.
fn in_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // With a zero-width space it is not a mention.
            '@' => escaped.push_str("@\u{200b}"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// How much of the earlier problem a message shows, in characters.
const LONGEST_BEFORE: usize = 300;
/// In characters. Slack refuses sections of more than 3,000 and context elements of more than
/// 2,000.
const SLACK_SECTION: usize = 2_900;
const SLACK_CONTEXT: usize = 1_900;
