//! `POST /-/reload`: what came of reading the configuration again. Never with a secret's value.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::reply::{JSON, answer};

/// RFC 9457 section 3.
const PROBLEM: &str = "application/problem+json";

/// A new configuration is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Its hash, secrets left out.
    pub hash: String,
    /// What became of the upstreams.
    pub upstreams: Changes,
    /// What became of the credentials. A secret, key or CA with another content is a change.
    pub credentials: Changes,
    /// The other settings that have another value.
    pub settings: Vec<String>,
}

/// By name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those that are not there any more.
    pub removed: Vec<String>,
    /// Those that are not as they were.
    pub changed: Vec<String>,
}

/// Why the old configuration stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReloaded {
    /// What kind of reason it is.
    pub reason: Reason,
    /// Everything that stands against the new one.
    pub problems: Vec<ReloadProblem>,
}

/// The kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The new one is not valid.
    Invalid,
    /// It is valid, and a running process cannot take it over.
    NeedsRestart,
    /// The process is about to end.
    Draining,
    /// A bug.
    Internal,
}

/// One thing that stands against the new configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadProblem {
    /// For `bursar explain`.
    pub code: String,
    /// The key; empty where it is about the configuration as a whole.
    pub key: String,
    /// Where it stands.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

/// A problem details object (RFC 9457) without a type of its own.
#[derive(Serialize)]
struct Details<'a> {
    title: &'static str,
    status: u16,
    detail: &'static str,
    problems: &'a [ReloadProblem],
}

impl Reloaded {
    /// Whether nothing is different but, perhaps, comments.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let none = Changes::default();
        self.upstreams == none && self.credentials == none && self.settings.is_empty()
    }
}

impl Reason {
    const fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NeedsRestart | Self::Draining => StatusCode::CONFLICT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "the new configuration is not valid; the old one stays in force",
            Self::NeedsRestart => {
                "the new configuration changes what only a restart can change; the old one stays in force, all of it"
            }
            Self::Draining => "the drain has begun; nothing is reloaded any more",
            Self::Internal => {
                "bursar failed to take the new configuration over; the old one stays in force; please report this"
            }
        }
    }
}

impl std::fmt::Display for ReloadProblem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            key,
            place,
            what,
            ..
        } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(formatter, "{code} {place}: {key}{colon}{what}")
    }
}

/// The answer to who asked for it.
pub(super) fn respond(outcome: &Result<Reloaded, NotReloaded>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(reloaded) => document(StatusCode::OK, JSON, reloaded),
        Err(NotReloaded { reason, problems }) => {
            let status = reason.status();
            let details = Details {
                title: "Not reloaded",
                status: status.as_u16(),
                detail: reason.as_str(),
                problems,
            };
            document(status, PROBLEM, &details)
        }
    }
}

fn document(
    status: StatusCode,
    content_type: &'static str,
    document: &impl Serialize,
) -> Response<Full<Bytes>> {
    // Only a map with keys that are no text could fail.
    let body = serde_json::to_vec(document).unwrap_or_default();
    answer(status, content_type, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_with_every_problem() {
        let problem = ReloadProblem {
            code: "BUR1004".to_owned(),
            key: "server.lisen".to_owned(),
            place: "bursar.toml:2".to_owned(),
            what: "unknown key".to_owned(),
            help: "did you mean `listen`?".to_owned(),
        };
        assert_eq!(
            problem.to_string(),
            "BUR1004 bursar.toml:2: server.lisen: unknown key"
        );
        for (reason, status) in [
            (Reason::Invalid, 422),
            (Reason::NeedsRestart, 409),
            (Reason::Draining, 409),
            (Reason::Internal, 500),
        ] {
            let response = respond(&Err(NotReloaded {
                reason,
                problems: vec![problem.clone()],
            }));
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["content-type"], PROBLEM);
        }
    }

    #[test]
    fn a_configuration_in_which_nothing_differs_is_the_same() {
        let mut reloaded = Reloaded::default();
        assert!(reloaded.is_same());
        reloaded.credentials.changed.push("d2l".to_owned());
        assert!(!reloaded.is_same());
    }
}
