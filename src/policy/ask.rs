//! What the credentials of an upstream are to ask the AS for.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Mode, RouteCredential,
    catalogue::{Catalogue, group_of_url_scope},
    requirement::Requirement,
    route::{CredentialChoice, Route},
};
use crate::scope::{Scope, ScopeSet};

/// The allowlist as the AS is to be asked for it. A pattern becomes the scopes of all routes that it
/// covers, if any; those are all there can be a use for. What only routes with a credential of their own use is theirs to ask for.
pub(super) fn of_upstream(
    catalogue: Catalogue,
    allowlist: &ScopeSet,
    routes: &[&Route],
) -> ScopeSet {
    let scopes_of = |is_own: bool| -> ScopeSet {
        routes
            .iter()
            .filter(|route| (route.credential == CredentialChoice::Upstream) == is_own)
            .flat_map(|route| route.requirement.scopes())
            .cloned()
            .collect()
    };
    let (used, used_elsewhere) = (scopes_of(true), scopes_of(false));
    let is_pattern = |scope: &Scope| {
        let is_known = |known: &ScopeSet| known.iter().any(|known| known == scope);
        scope.is_url_pattern() && !is_known(&used) && !is_known(&used_elsewhere)
    };
    let patterns: ScopeSet = allowlist
        .iter()
        .filter(|scope| is_pattern(scope))
        .cloned()
        .collect();
    let elsewhere = covering(allowlist, &used_elsewhere);
    let here = match elsewhere.is_empty() {
        true => BTreeSet::new(),
        false => covering(allowlist, &used),
    };
    let only_elsewhere = |scope: &Scope| elsewhere.contains(scope) && !here.contains(scope);

    let expanded = used.iter().filter(|scope| patterns.covers(scope));
    let plain = allowlist
        .iter()
        .filter(|scope| !is_pattern(scope) && !only_elsewhere(scope));
    plain
        .chain(expanded)
        .filter(|scope| catalogue.asks_for(scope))
        .cloned()
        .collect()
}

/// The entries of the allowlist that have a part in covering any of `used`.
fn covering<'a>(allowlist: &'a ScopeSet, used: &ScopeSet) -> BTreeSet<&'a Scope> {
    used.iter()
        .flat_map(|scope| allowlist.covering(scope))
        .collect()
}

/// The credentials that routes name, with the scopes of those routes; of alternatives, the first that the allowlist covers.
#[derive(Default)]
pub(super) struct RouteAsks(Vec<(Arc<str>, Vec<Scope>)>);

impl RouteAsks {
    /// The number of a credential, a new one if need be.
    pub(super) fn choice(&mut self, credential: Option<&Arc<str>>) -> CredentialChoice {
        let Some(name) = credential else {
            return CredentialChoice::Upstream;
        };
        let known = self.0.iter().position(|(known, _)| known == name);
        CredentialChoice::Route(known.unwrap_or_else(|| {
            self.0.push((Arc::clone(name), Vec::new()));
            self.0.len() - 1
        }))
    }

    /// Adds what a route needs to what its credential asks for, if it has one of its own. A route that the allowlist does not cover
    /// adds nothing, unless report mode lets its requests through: one scope that is not registered would cost the credential its
    /// token, and with it the routes that are covered.
    pub(super) fn add(&mut self, route: &Route, catalogue: Catalogue, mode: Mode) {
        if mode == Mode::Enforce && !route.missing.is_empty() {
            return;
        }
        let CredentialChoice::Route(number) = route.credential else {
            return;
        };
        let Some((_, scopes)) = self.0.get_mut(number) else {
            return;
        };
        match &route.requirement {
            Requirement::Any(any) if route.grant.needed.is_empty() => {
                // The allowlist covers none, so no request passes unless report mode lets it.
                scopes.extend(
                    any.first()
                        .filter(|scope| catalogue.asks_for(scope))
                        .cloned(),
                );
            }
            _ => scopes.extend(route.grant.needed.iter().cloned()),
        }
    }

    pub(super) fn finish(self) -> Vec<RouteCredential> {
        let credential = |(name, scopes): (Arc<str>, Vec<Scope>)| RouteCredential {
            name,
            scopes: Arc::new(scopes.into_iter().collect()),
        };
        self.0.into_iter().map(credential).collect()
    }
}

/// The bytes that each group has in an ask, the largest first.
pub(super) fn bytes_by_group(ask: &ScopeSet) -> Vec<(Arc<str>, usize)> {
    let mut groups = BTreeMap::<&str, usize>::new();
    for scope in ask.iter() {
        *groups.entry(group_of_url_scope(scope)).or_default() += scope.as_str().len() + 1;
    }
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|(group, bytes)| (group.into(), bytes))
        .collect();
    groups.sort_by_key(|(_, bytes)| Reverse(*bytes));
    groups
}
