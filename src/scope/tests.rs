//! What covers what.

use super::*;
use proptest::{collection::vec, prelude::*};

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

fn held(list: &str) -> ScopeSet {
    ScopeSet::parse(list).unwrap()
}

fn covers(list: &str, required: &str) -> bool {
    held(list).covers(&scope(required))
}

#[test]
fn an_equal_scope_covers() {
    assert!(covers("grades:gradevalues:read", "grades:gradevalues:read"));
    assert!(covers("openid profile", "profile"));
}

#[test]
fn several_scopes_cover_together() {
    assert!(covers("a:b:read a:b:write,delete", "a:b:read,write"));
    assert!(!covers("a:b:read a:b:delete", "a:b:read,write"));
}

#[test]
fn a_star_covers_any_resource_and_any_permission() {
    assert!(covers("a:*:read", "a:b:read"));
    assert!(covers("a:b:*", "a:b:read,write"));
    assert!(covers("a:*:read a:b:write", "a:b:read,write"));
}

#[test]
fn a_star_never_stands_for_a_group() {
    assert!(!covers("*:*:*", "grades:gradevalues:read"));
    assert!(!covers("*:b:read", "a:b:read"));
}

#[test]
fn a_required_star_is_covered_only_by_a_star() {
    assert!(covers("core:*:*", "core:*:*"));
    assert!(!covers("core:a:* core:*:read", "core:*:*"));
    assert!(!covers("grades:*:*", "core:*:*"));
}

#[test]
fn core_is_no_master_key() {
    assert!(!covers("core:*:*", "grades:gradevalues:read"));
}

#[test]
fn comparison_is_case_sensitive() {
    assert!(!covers(
        "Grades:gradevalues:read",
        "grades:gradevalues:read"
    ));
    assert!(!covers("a:b:Read", "a:b:read"));
}

#[test]
fn read_and_readonly_are_different_words() {
    assert!(!covers("a:b:manage a:b:read", "a:b:readonly"));
}

#[test]
fn a_group_does_not_cover_one_that_starts_like_it() {
    assert!(!covers("users:*:*", "user:a:read"));
    assert!(!covers("user:*:*", "users:a:read"));
}

#[test]
fn a_malformed_scope_is_compared_as_a_whole() {
    for malformed in [
        "a::b", "a::b:c", "a:b:", ":b:c", "a:b:c,", "a:b:,c", "a,x:b:c",
    ] {
        assert!(covers(malformed, malformed));
        assert!(!covers("a:*:*", malformed), "{malformed}");
    }
    assert!(!covers("a::*", "a:b:c"));
    assert!(!covers("a:b:*,", "a:b:c"));
}

#[test]
fn a_uri_is_compared_as_a_whole() {
    let lineitem = "https://purl.imsglobal.org/spec/lti-ags/scope/lineitem";
    assert!(covers(lineitem, lineitem));
    assert!(!covers(lineitem, &format!("{lineitem}.readonly")));
    assert!(!covers("https:*:*", "https://a:b:c"));
}

#[test]
fn a_url_scope_is_covered_by_an_equal_one_or_a_pattern() {
    let required = "url:GET|/api/v1/courses/:course_id/users";
    assert!(covers(required, required));
    assert!(covers("url:GET|/api/v1/courses/*", required));
    assert!(covers("url:*|/api/v1/courses/*/users", required));
    assert!(covers("url:*|*", required));
    assert!(!covers("url:PUT|/api/v1/courses/*", required));
    assert!(!covers("url:GET|/api/v1/courses", required));
    assert!(!covers("url:GET|/api/v1/accounts/*", required));
    assert!(!covers("url:*", required), "no star reaches across the bar");
    assert!(!covers("*", required));
}

#[test]
fn a_star_matches_any_text_at_any_place() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*", "a", true),
        ("*a", "ba", true),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("a*b*c", "abbc", true),
        ("a*b*c", "acb", false),
        ("a**c", "abc", true),
        ("*ab*ab", "ab", false),
        ("*ab*ab", "xabyabzab", true),
    ] {
        assert_eq!(matches_glob(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn what_is_missing_is_named_permission_by_permission() {
    let missing = |list: &str, required: &str| {
        let missing = held(list).missing(&scope(required));
        missing.iter().map(Scope::to_string).collect::<Vec<_>>()
    };
    assert!(missing("a:b:*", "a:b:read,write").is_empty());
    assert_eq!(
        missing("a:b:read", "a:b:read,write,delete"),
        ["a:b:write", "a:b:delete"]
    );
    assert_eq!(missing("", "core:*:*"), ["core:*:*"]);
    assert_eq!(missing("", "a::b"), ["a::b"]);
}

#[test]
fn the_scopes_that_have_a_part_in_covering_are_named() {
    let held = held("a:*:read a:b:write a:c:write z:b:read *:*:* url:GET|/x");
    let covering = |required| {
        let covering = held.covering(&scope(required));
        covering.into_iter().map(Scope::as_str).collect::<Vec<_>>()
    };
    assert_eq!(covering("a:b:read,write"), ["a:*:read", "a:b:write"]);
    assert_eq!(covering("url:GET|/x"), ["url:GET|/x"]);
}

/// Few words, so that random scopes meet each other.
fn any_scope() -> impl Strategy<Value = Scope> {
    let part = || prop::sample::select(vec!["a", "b", "ab", "*"]);
    let d2l = (part(), part(), vec(part(), 1..3))
        .prop_map(|(group, resource, all)| format!("{group}:{resource}:{}", all.join(",")));
    let url = (prop::sample::select(vec!["GET", "PUT", "*"]), "[a*/]{0,5}")
        .prop_map(|(method, path)| format!("url:{method}|/{path}"));
    let other = prop::sample::select(vec!["openid", "a::b", "a:b", "https://a/b"]);
    prop_oneof![4 => d2l, 2 => url, 1 => other.prop_map(String::from)].prop_map(|text| scope(&text))
}

fn any_set() -> impl Strategy<Value = ScopeSet> {
    vec(any_scope(), 0..5).prop_map(|scopes| scopes.into_iter().collect())
}

fn covers_all(set: &ScopeSet, required: &ScopeSet) -> bool {
    required.iter().all(|scope| set.covers(scope))
}

proptest! {
    #[test]
    fn covering_is_reflexive(set in any_set()) {
        prop_assert!(covers_all(&set, &set));
    }

    #[test]
    fn covering_is_transitive(a in any_set(), b in any_set(), c in any_scope()) {
        if covers_all(&a, &b) && b.covers(&c) {
            prop_assert!(a.covers(&c));
        }
    }

    #[test]
    fn covering_is_transitive_along_chains(a in any_scope(), b in any_scope(), c in any_scope()) {
        let set = |scope: &Scope| ScopeSet::from_iter([scope.clone()]);
        if set(&a).covers(&b) && set(&b).covers(&c) {
            prop_assert!(set(&a).covers(&c));
        }
    }

    #[test]
    fn covering_is_monotone(mut set in any_set(), more in any_scope(), required in any_scope()) {
        let before = set.covers(&required);
        set.0.insert(more);
        prop_assert!(set.covers(&required) || !before);
    }

    #[test]
    fn covering_never_crosses_groups(set in any_set(), required in any_scope()) {
        let group = |scope: &Scope| D2l::parse(scope.as_str()).map(|parts| parts.group.to_owned());
        if let Some(wanted) = group(&required) {
            let same_group: ScopeSet =
                set.iter().filter(|held| group(held).as_ref() == Some(&wanted)).cloned().collect();
            prop_assert_eq!(set.covers(&required), same_group.covers(&required));
        }
    }

    #[test]
    fn adding_what_is_missing_covers(mut set in any_set(), required in any_scope()) {
        let missing = set.missing(&required);
        prop_assert_eq!(missing.is_empty(), set.covers(&required));
        set.0.extend(missing);
        prop_assert!(set.covers(&required));
    }
}
