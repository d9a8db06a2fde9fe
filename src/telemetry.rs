//! Logs: one line per event on stderr, through a writer that never blocks a request.
//!
//! Events carry their fields themselves; spans are not used. Nothing secret is ever a field, at any
//! level: what is logged of a request is its route's template, not its path.

mod escape;
mod line;
mod panic;
mod quota;
#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::{io, sync::Arc};

use tracing::{Subscriber, subscriber::SetGlobalDefaultError};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry, reload,
};

pub use escape::visible;
use line::Line;
pub use panic::install_panic_hook;
pub use quota::LogQuota;
use writer::LogWriter;

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogParams {
    /// Per-module levels.
    pub level: Targets,
    /// The form of a line.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What stderr is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr {
    /// Whether a person watches it.
    pub is_terminal: bool,
    /// Whether colour is wanted there.
    pub colour: bool,
}

/// The running log. Dropping it writes what is still queued, for a second at most.
#[must_use = "dropping it ends the log"]
pub struct Logs {
    writer: LogWriter,
    level: LevelSwitch,
}

/// Sets which lines of the running log are written.
#[derive(Clone)]
pub struct LevelSwitch(Arc<dyn Fn(Targets) + Send + Sync>);

/// What others have to do with the running log.
#[derive(Clone, Default)]
pub struct LogHandle {
    /// For `bursar_log_dropped_total`.
    pub drops: DropCounter,
    /// For a `log.level` that changes.
    pub level: LevelSwitch,
}

/// Counts the lines that were lost, because stderr was blocked or could not be written.
#[derive(Clone)]
pub struct DropCounter(Arc<dyn Fn() -> u64 + Send + Sync>);

/// Starts logging to stderr for the whole process.
///
/// # Errors
///
/// When logging has been started before.
pub fn init(params: &LogParams, stderr: Stderr) -> Result<Logs, SetGlobalDefaultError> {
    let writer = LogWriter::new(io::stderr());
    let (subscriber, level) = subscriber(params, stderr, writer.lines());
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(Logs { writer, level })
}

impl Logs {
    /// Its counter and its switch.
    #[must_use]
    pub fn handle(&self) -> LogHandle {
        LogHandle {
            drops: self.writer.drop_counter(),
            level: self.level.clone(),
        }
    }
}

impl LevelSwitch {
    /// From now on the lines of these levels are written.
    pub fn set(&self, level: Targets) {
        (self.0)(level);
    }
}

impl Default for LevelSwitch {
    /// Where nothing is logged there is nothing to set.
    fn default() -> Self {
        Self(Arc::new(|_level| ()))
    }
}

impl DropCounter {
    /// How many lines have been lost since the start.
    #[must_use]
    pub fn get(&self) -> u64 {
        (self.0)()
    }
}

impl Default for DropCounter {
    /// Where nothing is logged, nothing is lost.
    fn default() -> Self {
        Self(Arc::new(|| 0))
    }
}

fn subscriber<W>(
    params: &LogParams,
    stderr: Stderr,
    writer: W,
) -> (impl Subscriber + Send + Sync, LevelSwitch)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let line = match params.format {
        LogFormat::Json => Line::Json,
        LogFormat::Auto if !stderr.is_terminal => Line::Json,
        LogFormat::Auto | LogFormat::Text => Line::Text {
            colour: stderr.colour,
        },
    };
    let (level, handle) = reload::Layer::new(params.level.clone());
    let lines = fmt::layer()
        .event_format(line)
        .with_writer(writer)
        // They would go to stderr, past the writer that never blocks.
        .log_internal_errors(false)
        .with_filter(level);
    let switch = LevelSwitch(Arc::new(move |level| {
        // An error says that there is no log any more.
        let _ = handle.reload(level);
    }));
    (registry().with(lines), switch)
}

#[cfg(test)]
mod tests {
    use super::{testing::Captured, *};

    /// Collects what is logged inside `run`.
    fn logged(format: LogFormat, stderr: Stderr, run: impl FnOnce()) -> String {
        let lines = Captured::default();
        let params = LogParams {
            level: "info".parse().unwrap(),
            format,
        };
        let (subscriber, _level) = subscriber(&params, stderr, lines.clone());
        tracing::subscriber::with_default(subscriber, run);
        lines.text()
    }

    const PIPE: Stderr = Stderr {
        is_terminal: false,
        colour: false,
    };
    const TERMINAL: Stderr = Stderr {
        is_terminal: true,
        colour: true,
    };

    #[test]
    fn auto_is_json_in_a_pipe_and_text_on_a_terminal() {
        let hello = || tracing::info!("hello");
        assert!(logged(LogFormat::Auto, PIPE, hello).starts_with('{'));
        assert!(!logged(LogFormat::Auto, TERMINAL, hello).starts_with('{'));
        assert!(logged(LogFormat::Json, TERMINAL, hello).starts_with('{'));
        assert!(!logged(LogFormat::Text, PIPE, hello).starts_with('{'));
    }

    #[test]
    fn what_the_level_leaves_out_is_not_written() {
        let lines = logged(LogFormat::Json, PIPE, || tracing::debug!("hidden"));
        assert_eq!(lines, "");
    }

    #[test]
    fn the_level_follows_its_switch() {
        let lines = Captured::default();
        let params = LogParams {
            level: "info".parse().unwrap(),
            format: LogFormat::Json,
        };
        let (subscriber, level) = subscriber(&params, PIPE, lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            let speak = |text| tracing::debug!("{text}");
            speak("too early");
            level.set("debug".parse().unwrap());
            speak("in time");
            level.set("info".parse().unwrap());
            speak("too late");
        });
        let text = lines.text();
        assert!(text.contains("in time"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn each_event_is_one_line() {
        let lines = logged(LogFormat::Text, PIPE, || {
            tracing::info!(agent = "first\nsecond", "a\r\nb");
            tracing::info!("next");
        });
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn colour_is_written_only_where_it_is_wanted() {
        let hello = || tracing::info!("hello");
        assert!(logged(LogFormat::Text, TERMINAL, hello).contains('\x1b'));
        assert!(!logged(LogFormat::Text, PIPE, hello).contains('\x1b'));
    }
}
