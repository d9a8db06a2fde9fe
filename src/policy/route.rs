//! A route as requests meet it: all that can be worked out beforehand is.

use std::sync::Arc;

use super::{query::Parameters, requirement::Requirement, template::Template};
use crate::scope::{Scope, ScopeSet};

/// What a permitted request is known by, and what its route allows.
#[derive(Debug)]
pub struct Route {
    /// The label for metrics, problems and logs: the explicit route's name, or `catalogue:group`.
    pub label: Arc<str>,
    /// A dense number of the label within this policy, for tables of ready-made metrics; `None`: it stands for
    /// what has no route.
    pub label_index: Option<usize>,
    /// The template as written, for logs: never the path itself.
    pub template: Arc<str>,
    /// What the route needs.
    pub requirement: Requirement,
    /// Largest body in bytes.
    pub max_body: Option<u64>,
    /// Whether a request may become a WebSocket.
    pub upgrade: bool,
    /// Where the route comes from.
    pub origin: Origin,
    /// Whose token its requests get.
    pub credential: CredentialChoice,
    pub(super) encoded_slash: bool,
    pub(super) query_allow: Parameters,
    /// Of an explicit route.
    pub(super) parsed: Option<Template>,
    /// What the allowlist lacks; empty: it covers the route.
    pub(super) missing: Vec<Scope>,
    pub(super) grant: Grant,
}

/// Which of an upstream's credentials a request uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialChoice {
    /// The upstream's own.
    #[default]
    Upstream,
    /// One that routes name, by its number in [`Policy::route_credentials`](super::Policy::route_credentials).
    Route(usize),
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the configuration.
    Explicit,
    /// From the built-in table.
    Catalogue,
    /// From nowhere: the path is of the LMS's API, but the built-in table does not know it.
    Fallback,
    /// From nowhere, and in report mode only: no route matches.
    Unmatched,
}

/// What the AS must have granted.
#[derive(Debug)]
pub(super) struct Grant {
    /// The smallest set that will do.
    pub(super) needed: ScopeSet,
    /// Scopes each of which will do instead.
    alternatives: Vec<Scope>,
}

impl Grant {
    /// `is_asked` tells scopes that go to the AS from those that are known to bursar alone, which nobody
    /// can grant.
    pub(super) fn new(
        requirement: &Requirement,
        allowlist: &ScopeSet,
        is_asked: impl Fn(&Scope) -> bool,
    ) -> Self {
        match requirement {
            Requirement::All(all) => Self {
                needed: all
                    .iter()
                    .filter(|scope| is_asked(scope))
                    .cloned()
                    .collect(),
                alternatives: Vec::new(),
            },
            Requirement::Any(any) => {
                let covered = any.iter().filter(|scope| allowlist.covers(scope));
                let covered: Vec<Scope> = covered.cloned().collect();
                let first = covered.first().filter(|scope| is_asked(scope));
                Self {
                    needed: first.cloned().into_iter().collect(),
                    alternatives: covered,
                }
            }
        }
    }

    /// What `granted` lacks: nothing, or scopes all of which (or, of alternatives, one of which) would do.
    pub(super) fn missing(&self, granted: &ScopeSet) -> Vec<Scope> {
        if self.needed.iter().all(|scope| granted.covers(scope))
            || self.alternatives.iter().any(|scope| granted.covers(scope))
        {
            return Vec::new();
        }
        if self.alternatives.is_empty() {
            missing(&self.needed, granted)
        } else {
            self.alternatives.clone()
        }
    }
}

impl Requirement {
    /// What `held` lacks: nothing, or scopes all of which (or, of [`Any`](Self::Any), one of which)
    /// would do.
    pub(super) fn missing(&self, held: &ScopeSet) -> Vec<Scope> {
        match self {
            Self::All(all) => missing(all, held),
            Self::Any(any) if any.iter().any(|scope| held.covers(scope)) => Vec::new(),
            Self::Any(any) => any.clone(),
        }
    }
}

fn missing(required: &ScopeSet, held: &ScopeSet) -> Vec<Scope> {
    required
        .iter()
        .flat_map(|scope| held.missing(scope))
        .collect()
}
