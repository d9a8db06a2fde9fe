//! The scopes that a route needs.

use crate::scope::{Scope, ScopeSet};

/// Which scopes a route needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Every one of them. Empty: none at all.
    All(ScopeSet),
    /// Any one of them. The order says which is asked for: the first that the allowlist covers.
    Any(Vec<Scope>),
}

impl Requirement {
    /// The scopes that are named.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        let (all, any) = match self {
            Self::All(all) => (Some(all), None),
            Self::Any(any) => (None, Some(any)),
        };
        all.into_iter()
            .flat_map(ScopeSet::iter)
            .chain(any.into_iter().flatten())
    }
}
