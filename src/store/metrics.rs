//! `bursar_state_operations_total`.

use prometheus::{IntCounterVec, Opts, Registry};

use super::StoreError;

/// Counts what is done to the store.
pub struct StoreMetrics {
    operations: IntCounterVec,
}

/// The `result` label where there is no error.
const OK: &str = "ok";

/// The `operation` label.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Read,
    Lock,
    Reserve,
    Intent,
    Commit,
    Forget,
}

impl StoreMetrics {
    /// Registers the family.
    ///
    /// # Errors
    ///
    /// When `registry` holds the name already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let operations = IntCounterVec::new(
            Opts::new(
                "bursar_state_operations_total",
                "Operations on the store of refresh tokens by their result.",
            ),
            &["backend", "operation", "result"],
        )?;
        registry.register(Box::new(operations.clone()))?;
        Ok(Self { operations })
    }

    /// Makes the children of a backend at 0.
    pub(super) fn prepare(&self, backend: &str) {
        for operation in Operation::ALL {
            self.operations
                .with_label_values(&[backend, operation.as_str(), OK]);
        }
    }

    pub(super) fn count<T>(
        &self,
        backend: &str,
        operation: Operation,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let label = result.as_ref().err().map_or(OK, StoreError::result);
        self.operations
            .with_label_values(&[backend, operation.as_str(), label])
            .inc();
        result
    }
}

impl Operation {
    const ALL: [Self; 6] = [
        Self::Read,
        Self::Lock,
        Self::Reserve,
        Self::Intent,
        Self::Commit,
        Self::Forget,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Lock => "lock",
            Self::Reserve => "reserve",
            Self::Intent => "intent",
            Self::Commit => "commit",
            Self::Forget => "forget",
        }
    }
}
