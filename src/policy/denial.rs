//! The policy's refusals, and what they say to people.

use std::sync::Arc;

use http::Method;

use super::{
    path::PathProblem,
    query::QueryProblem,
    requirement::Requirement,
    route::{CredentialChoice, Origin, Route},
};
use crate::{code::Code, scope::Scope};

/// The policy's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// `path_ambiguous`, `route_denied`, `insufficient_scope` or `query_parameter_denied`.
    pub code: Code,
    /// For `bursar_policy_decisions_total`.
    pub reason: Reason,
    /// The route's label, where one was found.
    pub route: Option<Arc<str>>,
    /// See [`Route::label_index`].
    pub label_index: Option<usize>,
    /// See [`Route::credential`].
    pub credential: CredentialChoice,
    /// See [`Route::template`].
    pub template: Option<Arc<str>>,
    /// What is missing, for `insufficient_scope`: all of them are needed, or of a route with `any_scope` one.
    pub missing: Vec<Scope>,
    /// A sentence for a person, without any byte of the request.
    pub detail: String,
}

/// The `reason` label of `bursar_policy_decisions_total`: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Allowed.
    Ok,
    /// No route matches.
    NoRoute,
    /// The path is known with other methods only.
    Method,
    /// The allowlist or the granted scopes do not cover the route.
    Scope,
    /// The path has more than one reading.
    Path,
    /// A `deny` route, or a path that hands out credentials.
    Deny,
    /// A query parameter.
    Query,
    /// The Host field.
    Host,
    /// A web page asks.
    Browser,
    /// The request's framing.
    Framing,
    /// The destination in forward mode.
    Destination,
    /// The caller key.
    Caller,
}

impl Reason {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoRoute => "no_route",
            Self::Method => "method",
            Self::Scope => "scope",
            Self::Path => "path",
            Self::Deny => "deny",
            Self::Query => "query",
            Self::Host => "host",
            Self::Browser => "browser",
            Self::Framing => "framing",
            Self::Destination => "destination",
            Self::Caller => "caller",
        }
    }
}

/// A refusal while its route is still at hand.
#[derive(Debug)]
pub(super) struct Refusal<'a> {
    pub(super) route: Option<&'a Arc<Route>>,
    pub(super) why: Why,
}

impl Refusal<'_> {
    /// Whether report mode lets such a request through: what has no route, and what lacks scopes. Everything else protects
    /// more than the allowlist.
    pub(super) const fn is_relaxed_by_report(&self) -> bool {
        match self.why {
            Why::NoRoute
            | Why::NoFunction
            | Why::Unnamed
            | Why::Method(_)
            | Why::NotAllowed(_)
            | Why::NotGranted(_) => true,
            Why::Path(_) | Why::EncodedSlash | Why::DenyRoute | Why::Sensitive | Why::Query(_) => {
                false
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Why {
    Path(PathProblem),
    EncodedSlash,
    DenyRoute,
    Sensitive,
    NoRoute,
    /// No route takes the function that is called.
    NoFunction,
    /// No function is called, and there are routes for some.
    Unnamed,
    /// With the methods that the path has routes for.
    Method(Vec<Method>),
    Query(QueryProblem),
    /// The allowlist lacks these.
    NotAllowed(Vec<Scope>),
    /// The AS granted all but these.
    NotGranted(Vec<Scope>),
}

impl From<Refusal<'_>> for Denial {
    fn from(Refusal { route, why }: Refusal<'_>) -> Self {
        let (code, reason) = match why {
            Why::Path(_) | Why::EncodedSlash => (Code::PathAmbiguous, Reason::Path),
            Why::DenyRoute | Why::Sensitive => (Code::RouteDenied, Reason::Deny),
            Why::NoRoute | Why::NoFunction | Why::Unnamed => (Code::RouteDenied, Reason::NoRoute),
            Why::Method(_) => (Code::RouteDenied, Reason::Method),
            Why::Query(_) => (Code::QueryParameterDenied, Reason::Query),
            Why::NotAllowed(_) | Why::NotGranted(_) => (Code::InsufficientScope, Reason::Scope),
        };
        let detail = detail(route, &why);
        let missing = match why {
            Why::NotAllowed(missing) | Why::NotGranted(missing) => missing,
            _ => Vec::new(),
        };
        Self {
            code,
            reason,
            route: route.map(|route| Arc::clone(&route.label)),
            label_index: route.and_then(|route| route.label_index),
            credential: route.map(|route| route.credential).unwrap_or_default(),
            template: route.map(|route| Arc::clone(&route.template)),
            missing,
            detail,
        }
    }
}

fn detail(route: Option<&Arc<Route>>, why: &Why) -> String {
    match why {
        Why::Path(problem) => problem.to_string(),
        Why::EncodedSlash => String::from(
            "The path holds an encoded slash; a route that is meant to take one says so with encoded_slash = true.",
        ),
        Why::DenyRoute => String::from("A route with deny = true refuses this path."),
        Why::Sensitive => String::from(
            "This path hands out or ends credentials; it is refused unless a route of its own names it in full.",
        ),
        Why::NoRoute => String::from(
            "No route matches the path; if the application is meant to use it, add a route for it.",
        ),
        Why::NoFunction => String::from(
            "No route takes the function (wsfunction) that is called; if the application is meant to call it, add it to the \
             functions of a route.",
        ),
        Why::Unnamed => String::from(
            "The call names no function; wsfunction, in the query or in a form that is posted, says which one it is.",
        ),
        Why::Method(methods) => {
            let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
            format!(
                "The path has routes for other methods only ({}); if the application is meant to use this one, add a route \
                 for it.",
                methods.join(", ")
            )
        }
        Why::Query(problem) => problem.to_string(),
        Why::NotAllowed(missing) => match route.map(|route| (route.origin, &route.requirement)) {
            Some((Origin::Fallback, _)) => format!(
                "The catalogue does not know the path, so it needs {0}; add {0} to the upstream's scopes, or a route \
                 for the path.",
                list(missing, " and ")
            ),
            Some((_, Requirement::Any(_))) => format!(
                "The route needs {}; add one of them to the upstream's scopes.",
                list(missing, " or ")
            ),
            _ => format!(
                "The route needs {}; add {} to the upstream's scopes.",
                list(missing, " and "),
                if missing.len() == 1 { "it" } else { "them" }
            ),
        },
        Why::NotGranted(missing) => {
            let any = route.is_some_and(|route| matches!(route.requirement, Requirement::Any(_)));
            format!(
                "The route needs {}, which the authorization server did not grant; allow it for this client there.",
                list(missing, if any { " or " } else { " and " })
            )
        }
    }
}

fn list(scopes: &[Scope], joint: &str) -> String {
    let texts: Vec<_> = scopes.iter().map(Scope::as_str).collect();
    texts.join(joint)
}
