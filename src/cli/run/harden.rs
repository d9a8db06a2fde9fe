//! Keeps the memory of the process, which holds secrets, out of core dumps and of other processes' reach.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// What came of it. Best effort: a container may forbid it, and serves all the same.
pub(super) struct Hardening {
    core_limit: io::Result<()>,
    dumpable: io::Result<()>,
}

impl Hardening {
    /// No core dumps; and neither `/proc/PID/mem` nor `/proc/PID/environ` opens for another process of
    /// our uid (`PR_SET_DUMPABLE` of prctl(2)).
    pub(super) fn apply() -> Self {
        let none = Rlimit {
            current: Some(0),
            // Lowering it needs no privilege; raising it again would.
            maximum: Some(0),
        };
        Self {
            core_limit: setrlimit(Resource::Core, none).map_err(Into::into),
            dumpable: set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Into::into),
        }
    }

    /// Says so at level debug, once there is a log.
    pub(super) fn log(&self) {
        for (what, result) in [
            ("core_limit", &self.core_limit),
            ("non_dumpable", &self.dumpable),
        ] {
            match result {
                Ok(()) => tracing::debug!(event = "hardened", what, "process hardened"),
                Err(error) => tracing::debug!(
                    event = "hardening_failed",
                    what,
                    error = error as &dyn std::error::Error,
                    "this system does not allow it"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn afterwards_the_process_leaves_no_core_dump() {
        let hardening = Hardening::apply();
        hardening.core_limit.unwrap();
        hardening.dumpable.unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
