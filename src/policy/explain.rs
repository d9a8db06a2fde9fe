//! Why the policy decides as it does, for `bursar route test`.

use std::sync::Arc;

use http::{Method, uri::PathAndQuery};

use super::{Denial, Origin, Permit, Policy, Route};
use crate::scope::Scope;

/// A decision and what led to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What [`Policy::decide`] says.
    pub decision: Result<Permit, Denial>,
    /// The route that decided, also where it denies: its template, label, origin and requirement.
    pub route: Option<Arc<Route>>,
    /// Each scope that the route needs (or, of `any_scope`, would take).
    pub scopes: Vec<Cover>,
}

/// How the allowlist covers one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// The scope that the route names.
    pub required: Scope,
    /// The entries of the allowlist that have a part in covering it.
    pub by: Vec<Scope>,
    /// What none of them covers.
    pub missing: Vec<Scope>,
}

impl Policy {
    /// Decides as [`decide`](Self::decide) does, and tells why.
    #[must_use]
    pub fn explain(&self, method: &Method, target: &PathAndQuery) -> Explanation {
        let judgement = self.judge(method, target, None);
        let route = match &judgement {
            Ok(permit) => Some(&permit.route).filter(|route| route.origin != Origin::Unmatched),
            Err(refusal) => refusal.route,
        };
        let route = route.cloned();
        let scopes = route.iter().flat_map(|route| route.requirement.scopes());
        let scopes = scopes
            .map(|required| Cover {
                required: required.clone(),
                by: self
                    .allowlist
                    .covering(required)
                    .into_iter()
                    .cloned()
                    .collect(),
                missing: self.allowlist.missing(required),
            })
            .collect();
        Explanation {
            decision: judgement.map_err(Denial::from),
            route,
            scopes,
        }
    }
}
