//! Log lines: JSON on standard output, one object a line.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, layer};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::{prelude::*, registry};

/// Starts logging at the level that the function is configured with (`AWS_LAMBDA_LOG_LEVEL`),
/// `INFO` by default.
///
/// Below `INFO` only our own lines are printed: libraries print whole events and answers there, and
/// an answer is a key authorization. There is no directive syntax, because it would cost a
/// regular-expression engine at each start.
pub fn init(level: Option<&str>, function: &'static str) {
    let level = match level {
        Some("FATAL") => LevelFilter::ERROR,
        Some(level) => level.parse().unwrap_or(LevelFilter::INFO),
        None => LevelFilter::INFO,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target(function, level);
    let lines = layer().fmt_fields(JsonFields::new()).event_format(JsonLine);
    registry().with(lines).with(targets).init();
}

/// Writes an event as one flat object: its level, the fields of all spans around it, its own, the
/// name of the innermost span (the step), and the module.
///
/// What a span carries no event repeats: a name that is there twice would be written twice.
struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        write!(line, r#"{{"level":"{}""#, metadata.level())?;
        let mut step = None;
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            step = Some(span.name());
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                write_members(&mut line, &fields.fields)?;
            }
        }
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        write_members(&mut line, &fields)?;
        if let Some(step) = step {
            write!(line, r#","span":"{step}""#)?;
        }
        writeln!(line, r#","target":"{}"}}"#, metadata.target())
    }
}

/// Adds the members of an object to the one that is being written.
fn write_members(line: &mut Writer<'_>, object: &str) -> fmt::Result {
    let members = object.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    match members {
        None | Some("") => Ok(()),
        Some(members) => write!(line, ",{members}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_has_the_fields_of_all_spans_at_its_top() {
        let lines = written(|| {
            let certificate = tracing::error_span!("certificate", certificate.name = "sh\"op");
            let _in_certificate = certificate.enter();
            tracing::info!("looked at");
            let _in_order = tracing::error_span!("order").entered();
            tracing::warn!(problem.type = "dns", problem.detail = %"a \"b\"\n", attempts = 2, "failed");
        });
        let target = module_path!();
        assert_eq!(
            lines,
            [
                json!({
                    "level": "INFO", "certificate.name": "sh\"op", "message": "looked at",
                    "span": "certificate", "target": target,
                }),
                json!({
                    "level": "WARN", "certificate.name": "sh\"op", "problem.type": "dns",
                    "problem.detail": "a \"b\"\n", "attempts": 2, "message": "failed",
                    "span": "order", "target": target,
                }),
            ]
        );
    }

    #[test]
    fn a_line_outside_of_spans_is_whole() {
        let lines = written(|| tracing::error!("down"));
        let target = module_path!();
        assert_eq!(
            lines,
            [json!({"level": "ERROR", "message": "down", "target": target})]
        );
    }

    /// Returns the lines that are written meanwhile.
    fn written(say: impl FnOnce()) -> Vec<Value> {
        let page = Page::default();
        let writer = page.clone();
        let lines = layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines), say);
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
