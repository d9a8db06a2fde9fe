//! Scopes that are scopes, and still not what was meant.

use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{Fault, word::Profile},
    },
    policy::Catalogue,
    scope::Scope,
};

/// Whose scopes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `group:resource:permission,…` (D2L).
    Brightspace,
    /// `url:METHOD|/api/…`.
    Canvas,
    /// `dap:…`, names of bursar's own.
    Dap,
    /// Anything.
    Other,
}

/// The names that stand for the calls of the Data Access Platform, which has no scopes.
const DAP: &[&str] = &[
    "dap:tables:read",
    "dap:queries:create",
    "dap:jobs:read",
    "dap:objects:read",
];

impl Dialect {
    /// The catalogue decides; without one the credential's profile.
    pub(super) fn of(catalogue: Catalogue, profile: Option<Profile>) -> Self {
        match (catalogue, profile) {
            (Catalogue::Brightspace, _) | (Catalogue::None, Some(Profile::Brightspace)) => {
                Self::Brightspace
            }
            (Catalogue::Canvas, _) => Self::Canvas,
            (Catalogue::Dap, _) => Self::Dap,
            (Catalogue::None, _) => Self::Other,
        }
    }
}

/// Looks at `scopes` of an upstream.
pub(super) fn check_allowlist(
    reader: &mut Reader,
    table: &Table,
    scopes: &[Scope],
    dialect: Dialect,
) {
    for scope in scopes {
        if let Some(fault) = fault(scope.as_str(), dialect) {
            reader.fault(table, "scopes", fault);
        }
    }
}

/// Looks at what a route needs.
pub(super) fn check_required(
    reader: &mut Reader,
    table: &Table,
    key: &str,
    scopes: &[Scope],
    dialect: Dialect,
) {
    for scope in scopes {
        let fault = fault(scope.as_str(), dialect).or_else(|| wildcard(scope.as_str(), dialect));
        if let Some(fault) = fault {
            reader.fault(table, key, fault);
        }
    }
}

fn fault(scope: &str, dialect: Dialect) -> Option<Fault> {
    // LTI services name their scopes by URL, on every LMS.
    let is_lti = scope.starts_with("https://");
    match dialect {
        Dialect::Brightspace | Dialect::Canvas if is_lti => None,
        Dialect::Brightspace => brightspace(scope),
        Dialect::Canvas if !scope.starts_with("url:") && scope != "*" => Some(suspicious(
            scope,
            "is not of the form url:METHOD|/api/…",
            "Canvas names scopes as in url:GET|/api/v1/courses/:id",
        )),
        Dialect::Dap if !DAP.contains(&scope) => Some(suspicious(
            scope,
            "is not one of the names for DAP's calls",
            &format!("the names are {}", DAP.join(", ")),
        )),
        Dialect::Canvas | Dialect::Dap | Dialect::Other => None,
    }
}

/// D2L's grammar (the facts, section 4), without its parser's habit of dropping empty parts.
fn brightspace(scope: &str) -> Option<Fault> {
    let refused = |what: &str, help: &str| {
        Some(Fault::new(
            ProblemCode::InvalidScope,
            format!("{scope:?} {what}"),
            help,
        ))
    };
    let parts: Vec<_> = scope.split(':').collect();
    let [group, resource, permissions] = parts.as_slice() else {
        return Some(suspicious(
            scope,
            "is not of the form group:resource:permission",
            "Brightspace names scopes as in users:userdata:read",
        ));
    };
    let mut words = [*group, *resource]
        .into_iter()
        .chain(permissions.split(','));
    if words.clone().any(str::is_empty) {
        return refused(
            "has an empty part",
            "write group:resource:permission, with commas between several permissions",
        );
    }
    if *group == "*" {
        return refused(
            "has the group `*`, which Brightspace never registers",
            "name the group, as in users:*:read",
        );
    }
    if words.any(|word| word.contains('*') && word != "*") {
        return Some(suspicious(
            scope,
            "has a `*` inside a word, where it is no wildcard",
            "`*` stands for a whole part, as in users:*:read",
        ));
    }
    None
}

/// `*` widens what is allowed or granted, never what is needed; only `core:*:*` is a name in itself.
fn wildcard(scope: &str, dialect: Dialect) -> Option<Fault> {
    let is_wild = scope.split([':', ',']).any(|word| word == "*");
    (dialect == Dialect::Brightspace && is_wild && scope != "core:*:*").then(|| {
        suspicious(
            scope,
            "needs the wildcard itself: only an allowlist and a token with the same `*` cover it",
            "name the permissions that the route needs",
        )
    })
}

fn suspicious(scope: &str, what: &str, help: &str) -> Fault {
    Fault::new(
        ProblemCode::SuspiciousScope,
        format!("{scope:?} {what}"),
        help,
    )
    .warning()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fault: Option<Fault>) -> String {
        fault.map(|fault| format!("{fault:?}")).unwrap_or_default()
    }

    #[test]
    fn the_grammar_of_d2l_is_kept_more_strictly_than_d2l_keeps_it() {
        for sound in [
            "users:userdata:read",
            "a:b:c,d",
            "core:*:*",
            "users:*:read",
            "users:x:*",
        ] {
            assert!(brightspace(sound).is_none(), "{sound}");
        }
        for refused in ["a::c", ":b:c", "a:b:", "a:b:c,", "a:b:,c", "*:b:c", "*:*:*"] {
            assert!(
                text(brightspace(refused)).contains("InvalidScope"),
                "{refused}"
            );
        }
        for odd in ["openid", "a:b", "a:b:c:d", "us*:b:c", "a:b:re*"] {
            assert!(text(brightspace(odd)).contains("SuspiciousScope"), "{odd}");
        }
    }

    #[test]
    fn a_route_that_needs_a_wildcard_is_odd_except_for_the_fallback() {
        assert!(wildcard("core:*:*", Dialect::Brightspace).is_none());
        assert!(wildcard("users:*:read", Dialect::Brightspace).is_some());
        assert!(wildcard("users:*:read", Dialect::Other).is_none());
    }

    #[test]
    fn the_catalogue_says_whose_scopes_they_are() {
        assert!(fault("users:userdata:read", Dialect::Canvas).is_some());
        assert!(fault("url:GET|/api/v1/courses", Dialect::Canvas).is_none());
        let lti = "https://purl.imsglobal.org/spec/lti-ags/scope/lineitem";
        assert!(fault(lti, Dialect::Canvas).is_none());
        assert!(fault(lti, Dialect::Brightspace).is_none());
        assert!(fault(lti, Dialect::Other).is_none());
        assert!(fault("dap:jobs:read", Dialect::Dap).is_none());
        assert!(fault("dap:jobs:write", Dialect::Dap).is_some());
        assert_eq!(
            Dialect::of(Catalogue::None, Some(Profile::Brightspace)),
            Dialect::Brightspace
        );
    }
}
