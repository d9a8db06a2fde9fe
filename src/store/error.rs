//! What can go wrong with a store, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

use crate::secret::SecretFileError;

/// Why a record cannot be read or written. Never with a byte of its content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refuses: no room, read-only, no such device.
    #[error("cannot {operation} {path}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Others could read or replace it, or we could not.
    #[error("{path} has mode {mode:04o}, and must have {wanted:04o}")]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be.
        wanted: u32,
    },
    /// Somebody else's.
    #[error("{path} belongs to the user {owner}, and bursar runs as {us}")]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// A link, a pipe, a file that is far too large.
    #[error("{path} {reason}")]
    Kind {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, as a predicate.
        reason: &'static str,
    },
    /// None of our keys has sealed it.
    #[error("{path} was sealed with the key {id}, which the key file does not hold")]
    NoKey {
        /// The record.
        path: PathBuf,
        /// The id of the key that would open it.
        id: String,
    },
    /// It is no record, or not the one that its name says.
    #[error("{path} {reason}")]
    Content {
        /// The record.
        path: PathBuf,
        /// What is wrong, as a predicate.
        reason: &'static str,
    },
    /// The key file cannot be read, or others can read it.
    #[error("the key of the store cannot be used")]
    KeyFile(#[source] SecretFileError),
    /// The key file does not hold keys.
    #[error("line {line} of {path} {reason}")]
    KeyText {
        /// The key file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong, as a predicate.
        reason: &'static str,
    },
    /// Somebody has written to it who does not hold its lock.
    #[error("{path} has changed under its lock")]
    Changed {
        /// The record.
        path: PathBuf,
    },
    /// Another process holds the lock for longer than is waited for.
    #[error("another process has not let go of its lock for {}", humantime::format_duration(*.waited))]
    Busy {
        /// How long that was waited for.
        waited: Duration,
    },
    /// The process ends, and begins nothing new.
    #[error("bursar is ending")]
    Ending,
}

/// What a command makes of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A secret lies open to others (exit code 77).
    Exposed,
    /// What is configured cannot be a store, or not ours (exit code 78).
    Refused,
    /// It may work later (exit code 1).
    Failed,
}

impl StoreError {
    /// What a command makes of it.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Mode { mode, wanted, .. } if *mode & !*wanted & 0o077 != 0 => Severity::Exposed,
            Self::KeyFile(SecretFileError::Readable { .. }) => Severity::Exposed,
            Self::System { .. } | Self::Changed { .. } | Self::Busy { .. } | Self::Ending => {
                Severity::Failed
            }
            _ => Severity::Refused,
        }
    }

    /// The `result` label of `bursar_state_operations_total`: a closed set.
    #[must_use]
    pub const fn result(&self) -> &'static str {
        match self {
            Self::System { .. } | Self::Busy { .. } | Self::Ending => "io_error",
            Self::Mode { .. } | Self::Owner { .. } | Self::Kind { .. } => "refused",
            Self::NoKey { .. } | Self::KeyFile(_) | Self::KeyText { .. } => "no_key",
            Self::Content { .. } => "damaged",
            Self::Changed { .. } => "conflict",
        }
    }

    /// The same in words that name no file, for where applications can read them.
    #[must_use]
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::System { .. } | Self::Busy { .. } | Self::Ending => {
                "it cannot be read or written"
            }
            Self::Mode { .. } | Self::Owner { .. } | Self::Kind { .. } => {
                "its files are not private to bursar"
            }
            Self::NoKey { .. } | Self::KeyFile(_) | Self::KeyText { .. } => {
                "there is no key that opens it"
            }
            Self::Content { .. } => "a record is damaged",
            Self::Changed { .. } => "a record changed under its lock",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::System { .. } | Self::Ending => {
                "see whether the disk is full, read-only or not mounted; `[state] path` says where the store is"
            }
            Self::Mode { .. } => {
                "if nobody else can have read it, `chmod 700` the directory and `chmod 600` the file; else log in anew"
            }
            Self::Busy { .. } => {
                "a running bursar holds it while it renews the token, and for as long as it cannot write what it got: see its log, \
                 put that right or stop it, then try again"
            }
            Self::Owner { .. } => {
                "run bursar as the user who logged in, or give `[state] path` a directory of its own"
            }
            Self::Kind { .. } => {
                "remove it, or give `[state] path` a directory that is bursar's alone"
            }
            Self::NoKey { .. } => {
                "put the key back into the key file (one per line: the first seals, all open), or replace the record with `bursar login`"
            }
            Self::Content { .. } => {
                "replace the record with `bursar login`; one that a newer bursar wrote needs that bursar"
            }
            Self::KeyFile(_) | Self::KeyText { .. } => {
                "a key file holds base64 of 32 bytes on each line: `openssl rand -base64 32`, mode 0600"
            }
            Self::Changed { .. } => {
                "see who else writes to the store: only bursar may, and only on a file system whose locks work"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_read_is_exposed_and_what_they_cannot_is_only_refused() {
        let mode = |mode| StoreError::Mode {
            path: "f".into(),
            mode,
            wanted: 0o600,
        };
        assert_eq!(mode(0o644).severity(), Severity::Exposed);
        assert_eq!(mode(0o620).severity(), Severity::Exposed);
        assert_eq!(mode(0o400).severity(), Severity::Refused);
    }
}
