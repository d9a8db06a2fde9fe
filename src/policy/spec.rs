//! What a policy is built from, and what can be wrong with it.

use std::sync::Arc;

use http::Method;

use super::{catalogue::Catalogue, requirement::Requirement, template::TemplateError};
use crate::scope::ScopeSet;

/// What becomes of requests that the policy does not allow (`server.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are refused.
    #[default]
    Enforce,
    /// What has no route, or lacks scopes, is let through and reported. Everything else is refused as ever.
    Report,
}

impl Mode {
    /// The word in configuration, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

/// What an upstream's policy is made of; `config` fills it.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// What becomes of requests that it does not allow.
    pub mode: Mode,
    /// The built-in table of method + path to scopes.
    pub catalogue: Catalogue,
    /// Query parameters in which the application's own library would send a credential, beside those that the catalogue knows:
    /// they are cut out before any decision.
    pub cut_out: Vec<&'static str>,
    /// The allowlist.
    pub allowlist: ScopeSet,
    /// Whether functions are called there by their names (Moodle), so that routes can have
    /// [`functions`](RouteSpec::functions).
    pub calls_functions: bool,
    /// The explicit routes, in the order of the file.
    pub routes: Vec<RouteSpec>,
}

/// One explicit route as a person wrote it.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Its label in metrics, problems and logs.
    pub name: Arc<str>,
    /// Empty means: any method (only allowed on a `deny` route).
    pub methods: Vec<Method>,
    /// Path template: `{name}` is one segment, `{*rest}` the tail (at the end only), of one segment or
    /// more.
    ///
    /// A slash at the end is matched as written; on a Brightspace upstream, which takes paths with and
    /// without, either is. A `deny` route matches generously under every catalogue: in any
    /// case, with and without the slash.
    pub path: String,
    /// Of a route for calls: the functions (`wsfunction`). Empty: the route is one of a path. The path of a route for calls is
    /// Moodle's `/webservice/rest/server.php`, behind the directory it lives in; a `deny` route refuses its functions everywhere.
    pub functions: Vec<String>,
    /// What the route needs.
    pub requirement: Requirement,
    /// Refuse, whatever the scopes.
    pub deny: bool,
    /// Largest body in bytes.
    pub max_body: Option<u64>,
    /// Whether `%2F` may stand in a segment.
    pub encoded_slash: bool,
    /// Whether a request may become a WebSocket (RFC 6455).
    pub upgrade: bool,
    /// Query parameters, denied by default, that this route allows.
    pub query_allow: Vec<String>,
    /// A credential of its own, in place of the upstream's.
    pub credential: Option<Arc<str>>,
}

/// A fault in the routes or the allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Index into [`PolicySpec::routes`]; `None`: the upstream as a whole (its allowlist).
    pub route: Option<usize>,
    /// What is wrong.
    pub kind: PolicyProblemKind,
}

/// What can be wrong with a route or the allowlist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyProblemKind {
    /// The template does not parse.
    #[error("the path template is not valid: {0}")]
    Template(TemplateError),
    /// Only a `deny` route may go without methods.
    #[error("the route allows requests, so it must say with which methods")]
    MethodsMissing,
    /// An empty [`Requirement::Any`]: nothing could ever meet it.
    #[error("any_scope is empty, so no scope would do; write scopes = [] if the route needs none")]
    NoAlternative,
    /// A route with functions that is none of Moodle's.
    #[error("functions are called on an upstream whose credential has the profile moodle")]
    NoFunctions,
    /// Its path is not where functions are called.
    #[error("functions are called at {server} (behind the directory that Moodle lives in), and nowhere else", server = super::call::SERVER)]
    FunctionsPath,
    /// Moodle could not take the call for one.
    #[error("functions are called with GET and POST only")]
    FunctionsMethod,
    /// No function could be called that.
    #[error("{0:?} is no name of a function: letters, digits and underscores")]
    FunctionName(String),
    /// Two explicit routes match the same request and neither is more specific.
    #[error(
        "ambiguous with route {other:?}: both match the same requests and neither is more specific"
    )]
    Ambiguous {
        /// The other route's name.
        other: Arc<str>,
    },
    /// The scopes to ask for, joined, are longer than an AS takes them.
    #[error(
        "the allowlist comes to {bytes} bytes of scopes, but Canvas takes {limit} at most; narrow {}",
        largest(.groups),
        limit = super::MAX_ASK
    )]
    AskTooLong {
        /// Their length.
        bytes: usize,
        /// The groups of scopes and their bytes, the largest first.
        groups: Vec<(Arc<str>, usize)>,
    },
}

fn largest(groups: &[(Arc<str>, usize)]) -> String {
    let texts: Vec<_> = groups
        .iter()
        .map(|(group, bytes)| format!("{group} ({bytes})"))
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_that_is_too_long_lists_the_groups_to_narrow() {
        let kind = PolicyProblemKind::AskTooLong {
            bytes: 9000,
            groups: vec![("courses".into(), 8000), ("users".into(), 1000)],
        };
        assert_eq!(
            kind.to_string(),
            "the allowlist comes to 9000 bytes of scopes, but Canvas takes 7500 at most; \
             narrow courses (8000), users (1000)"
        );
    }
}
