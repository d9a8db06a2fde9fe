//! D2L's rule for scopes, as the LMS applies it: `group:resource:permission,…`, compared case-sensitively, `*` counting
//! on the granted side only, several granted scopes covering one required scope together.

use crate::scope::{Scope, ScopeSet};

/// How the scopes of Canvas begin.
const URL: &str = "url:";

/// Whether `granted` covers `required`, permission by permission.
pub(super) fn cover(granted: &ScopeSet, required: &str) -> bool {
    let Some(wanted) = Parts::parse(required) else {
        return granted.iter().any(|scope| scope.as_str() == required);
    };
    wanted
        .permissions()
        .all(|permission| wanted.is_covered_by(granted, permission))
}

/// What the authorization server grants: the permissions asked for that are registered. The rest is dropped without a word.
pub(super) fn narrow(asked: &ScopeSet, registered: &ScopeSet) -> ScopeSet {
    asked
        .iter()
        .filter_map(|scope| narrow_one(scope, registered))
        .collect()
}

/// What a person can be asked to agree to: nothing that the application is not registered for.
///
/// # Errors
///
/// Why not, for `error_description`.
pub(super) fn agreeable(
    asked: Option<&str>,
    registered: &ScopeSet,
) -> Result<ScopeSet, &'static str> {
    let asked = asked.ok_or("scope is missing")?;
    let asked = ScopeSet::parse(asked).map_err(|_invalid| "scope is not a list of scopes")?;
    if asked.is_empty() {
        return Err("scope is empty");
    }
    let is_registered = asked.iter().all(|scope| cover(registered, scope.as_str()));
    match is_registered {
        true => Ok(asked),
        false => Err("the client is not registered for all of the scopes"),
    }
}

fn narrow_one(asked: &Scope, registered: &ScopeSet) -> Option<Scope> {
    let Some(parts) = Parts::parse(asked.as_str()) else {
        return registered
            .iter()
            .any(|scope| scope == asked)
            .then(|| asked.clone());
    };
    let kept: Vec<&str> = parts
        .permissions()
        .filter(|permission| parts.is_covered_by(registered, permission))
        .collect();
    if kept.is_empty() {
        return None;
    }
    Scope::parse(&format!(
        "{}:{}:{}",
        parts.group,
        parts.resource,
        kept.join(",")
    ))
    .ok()
}

/// A scope of three parts, none of them empty.
struct Parts<'a> {
    group: &'a str,
    resource: &'a str,
    permissions: &'a str,
}

impl<'a> Parts<'a> {
    fn parse(scope: &'a str) -> Option<Self> {
        if scope.starts_with(URL) {
            // Canvas's, which are compared as a whole.
            return None;
        }
        let (group, rest) = scope.split_once(':')?;
        let (resource, permissions) = rest.split_once(':')?;
        let complete = !group.is_empty()
            && !resource.is_empty()
            && !permissions.contains(':')
            && permissions.split(',').all(|part| !part.is_empty());
        complete.then_some(Self {
            group,
            resource,
            permissions,
        })
    }

    fn permissions(&self) -> impl Iterator<Item = &'a str> {
        self.permissions.split(',')
    }

    fn is_covered_by(&self, granted: &ScopeSet, permission: &str) -> bool {
        granted
            .iter()
            .filter_map(|scope| Parts::parse(scope.as_str()))
            .any(|granted| {
                matches(granted.group, self.group)
                    && matches(granted.resource, self.resource)
                    && granted.permissions().any(|part| matches(part, permission))
            })
    }
}

fn matches(granted: &str, required: &str) -> bool {
    granted == "*" || granted == required
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(list: &str) -> ScopeSet {
        ScopeSet::parse(list).unwrap()
    }

    #[test]
    fn several_granted_scopes_cover_one_required_scope_together() {
        let granted = set("quizzing:quizzes:read quizzing:quizzes:write");
        assert!(cover(&granted, "quizzing:quizzes:read,write"));
        assert!(!cover(&granted, "quizzing:quizzes:read,delete"));
    }

    #[test]
    fn a_star_counts_on_the_granted_side_only() {
        assert!(cover(&set("grades:*:*"), "grades:gradevalues:read"));
        assert!(!cover(&set("grades:gradevalues:read"), "grades:*:*"));
        assert!(!cover(&set("core:*:*"), "grades:gradevalues:read"));
    }

    #[test]
    fn scopes_are_compared_case_sensitively() {
        assert!(!cover(&set("Users:userdata:read"), "users:userdata:read"));
    }

    #[test]
    fn only_registered_permissions_are_granted() {
        let registered = set("users:userdata:read grades:*:read other");
        let asked =
            set("users:userdata:read,delete grades:gradevalues:read role:detail:read other");
        let granted = narrow(&asked, &registered);
        assert_eq!(
            granted,
            set("users:userdata:read grades:gradevalues:read other")
        );
    }

    proptest! {
        #[test]
        fn nothing_is_granted_that_is_not_registered_nor_asked_for(
            asked in "([ab*]:[ab*]:[ab*](,[ab])? ){1,3}",
            registered in "([ab]:[ab*]:[ab*](,[ab])? ){1,3}",
        ) {
            let (asked, registered) = (set(&asked), set(&registered));
            let granted = narrow(&asked, &registered);
            for scope in granted.iter() {
                prop_assert!(cover(&registered, scope.as_str()));
                prop_assert!(cover(&asked, scope.as_str()));
            }
            prop_assert_eq!(narrow(&granted, &registered), granted);
        }
    }
}
