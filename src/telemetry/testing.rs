//! What is logged, for the tests of everybody who logs.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::{filter::Targets, fmt::MakeWriter};

use super::{LogFormat, LogParams, Stderr, subscriber};

/// Collects what is written. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Collects the JSON lines of this thread, from `level` up, while the guard lives.
    pub(crate) fn listen(level: impl Into<LevelFilter>) -> (Self, DefaultGuard) {
        let captured = Self::default();
        let params = LogParams {
            level: Targets::new().with_default(level),
            format: LogFormat::Json,
        };
        let (subscriber, _level) = subscriber(&params, Stderr::default(), captured.clone());
        (captured, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes().clone()).unwrap()
    }

    pub(crate) fn clear(&self) {
        self.bytes().clear();
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
