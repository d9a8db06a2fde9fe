//! The form of a log line: the same field names in JSON and in text.

use std::{
    error::Error,
    fmt::{self, Debug},
    time::SystemTime,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::escape;
use crate::causes::with_causes;

/// The longest value of a field, in bytes: an application cannot fill the log with one header.
const LONGEST_VALUE: usize = 256;

/// The longest `msg`, in bytes. It is ours, and may name a chain of causes.
const LONGEST_MESSAGE: usize = 1024;

/// The form of a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// `{"ts":…,"level":…,"target":…,"event":…,"msg":…,…}`, one flat object.
    Json,
    /// `ts LEVEL target: msg event=… …`.
    Text {
        /// Whether the level is coloured.
        colour: bool,
    },
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let head = Head {
            ts: humantime::format_rfc3339_millis(SystemTime::now()),
            level: *metadata.level(),
            target: metadata.target(),
        };
        match self {
            Self::Json => json(&mut writer, &head, &fields),
            Self::Text { colour } => text(&mut writer, &head, &fields, *colour),
        }
    }
}

/// What every line begins with.
struct Head<'a> {
    ts: humantime::Rfc3339Timestamp,
    level: Level,
    target: &'a str,
}

fn json(out: &mut Writer<'_>, head: &Head<'_>, fields: &Fields) -> fmt::Result {
    let level = match head.level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    write!(
        out,
        r#"{{"ts":"{}","level":"{level}","target":"{}""#,
        head.ts, head.target
    )?;
    let event = fields.event.as_ref().map(|value| ("event", value));
    let message = fields.message.as_ref().map(|value| ("msg", value));
    let others = fields.others.iter().map(|(name, value)| (*name, value));
    for (name, value) in event.into_iter().chain(message).chain(others) {
        write!(out, r#","{name}":"#)?;
        match value {
            Value::Literal(literal) => out.write_str(literal)?,
            Value::Text(text) => {
                out.write_char('"')?;
                escape::json(out, text)?;
                out.write_char('"')?;
            }
        }
    }
    out.write_str("}\n")
}

fn text(out: &mut Writer<'_>, head: &Head<'_>, fields: &Fields, colour: bool) -> fmt::Result {
    let (name, style) = match head.level {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => ("WARN ", "33"),
        Level::INFO => ("INFO ", "32"),
        Level::DEBUG => ("DEBUG", "34"),
        Level::TRACE => ("TRACE", "35"),
    };
    write!(out, "{} ", head.ts)?;
    if colour {
        write!(out, "\x1b[{style}m{name}\x1b[0m")?;
    } else {
        out.write_str(name)?;
    }
    write!(out, " {}:", head.target)?;
    if let Some(Value::Text(message) | Value::Literal(message)) = &fields.message {
        out.write_char(' ')?;
        escape::text(out, message)?;
    }
    let event = fields.event.as_ref().map(|value| ("event", value));
    let others = fields.others.iter().map(|(name, value)| (*name, value));
    for (name, value) in event.into_iter().chain(others) {
        write!(out, " {name}=")?;
        match value {
            Value::Literal(literal) => out.write_str(literal)?,
            Value::Text(text) if is_one_word(text) => escape::text(out, text)?,
            Value::Text(text) => {
                out.write_char('"')?;
                escape::json(out, text)?;
                out.write_char('"')?;
            }
        }
    }
    out.write_char('\n')
}

/// Whether a value can stand without quotes and still be told apart from its neighbours.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '=', '\\'])
}

/// The fields of one event, in the order in which they were given.
#[derive(Default)]
struct Fields {
    event: Option<Value>,
    message: Option<Value>,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    /// A number or a truth value: the same in JSON and text.
    Literal(String),
    /// Anything else, as it came.
    Text(String),
}

impl Fields {
    fn text(&mut self, field: &Field, text: &str) {
        let longest = if field.name() == "message" {
            LONGEST_MESSAGE
        } else {
            LONGEST_VALUE
        };
        self.put(field, Value::Text(shortened(text, longest)));
    }

    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "event" => self.event = Some(value),
            "message" => self.message = Some(value),
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Literal(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Literal(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Literal(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let literal = if value.is_finite() {
            value.to_string()
        } else {
            // JSON has no infinity (RFC 8259 section 6).
            "null".to_owned()
        };
        self.put(field, Value::Literal(literal));
    }

    /// An error's Display prints its own level only, so the causes are written behind it.
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.text(field, &with_causes(error));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let (kept, _) = text.split_at(text.floor_char_boundary(longest));
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::{fmt, layer::SubscriberExt as _, registry};

    use super::*;
    use crate::telemetry::testing::Captured;

    fn written(line: Line, run: impl FnOnce()) -> String {
        let captured = Captured::default();
        let lines = fmt::layer()
            .event_format(line)
            .with_writer(captured.clone());
        tracing::subscriber::with_default(registry().with(lines), run);
        captured.text()
    }

    fn as_json(run: impl FnOnce()) -> serde_json::Value {
        serde_json::from_str(&written(Line::Json, run)).unwrap()
    }

    fn as_text(run: impl FnOnce()) -> String {
        let line = written(Line::Text { colour: false }, run);
        // Without the timestamp, which differs each time.
        line.split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn a_json_line_is_one_flat_object_with_the_head_first() {
        let line = written(Line::Json, || {
            tracing::warn!(
                upstream = "lms",
                status = 403,
                event = "request_denied",
                retryable = false,
                "denied"
            );
        });
        let from_level = line.split_once(r#","level""#).unwrap().1;
        assert_eq!(
            from_level,
            concat!(
                r#":"warn","target":"bursar::telemetry::line::tests","event":"request_denied","msg":"denied","#,
                r#""upstream":"lms","status":403,"retryable":false}"#,
                "\n"
            )
        );
    }

    #[test]
    fn the_time_is_rfc_3339_with_milliseconds_in_utc() {
        let line = as_json(|| tracing::info!("now"));
        let ts = line["ts"].as_str().unwrap();
        assert_eq!(ts.len(), "2026-01-01T00:00:00.000Z".len());
        assert!(ts.ends_with('Z'));
        humantime::parse_rfc3339(ts).unwrap();
    }

    #[test]
    fn a_value_cannot_break_out_of_its_field() {
        let hostile = "x\",\"level\":\"error\n\x1b[31m\u{202e}";
        let line = as_json(|| tracing::info!(agent = hostile, "seen"));
        assert_eq!(line["agent"], hostile);
        assert_eq!(line["level"], "info");

        let line = as_text(|| tracing::info!(agent = hostile, "seen"));
        assert!(line.ends_with(
            r#"seen agent="x\",\"level\":\"error\u000a\u001b[31m\u202e"
"#
        ));
    }

    #[test]
    fn a_long_value_is_cut_on_a_character() {
        let line = as_json(|| tracing::info!(agent = "ä".repeat(1_000), "seen"));
        assert_eq!(line["agent"], format!("{}…", "ä".repeat(128)));
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("no connection")]
        struct Outer(#[source] io::Error);

        let error = Outer(io::Error::other("refused"));
        let line = as_json(|| {
            tracing::error!(error = &error as &dyn Error, "failed");
        });
        assert_eq!(line["error"], "no connection: refused");
    }

    #[test]
    fn a_number_that_json_lacks_is_null() {
        let line = as_json(|| tracing::info!(ratio = f64::NAN, "odd"));
        assert!(line["ratio"].is_null());
    }

    #[test]
    fn text_quotes_only_what_is_not_one_word() {
        let line = as_text(|| tracing::info!(route = "grades", why = "no scope", "denied"));
        assert_eq!(
            line,
            "INFO  bursar::telemetry::line::tests: denied route=grades why=\"no scope\"\n"
        );
    }
}
