//! Report mode: what it relaxes, and what it never does.

use super::*;

fn reporting(catalogue: Catalogue, allowlist: &str, routes: Vec<RouteSpec>) -> Policy {
    build_in(Mode::Report, catalogue, allowlist, routes).unwrap()
}

fn routes() -> Vec<RouteSpec> {
    vec![
        needing(Requirement::All(scopes("a")), route("open", "GET /open")),
        needing(
            Requirement::All(scopes("a b")),
            route("lacking", "GET /lacking"),
        ),
        deny("closed", "* /closed/{*rest}"),
    ]
}

/// The code and the reason that enforcing would have given.
fn reported(policy: &Policy, request: &str) -> (Code, Reason) {
    let permit = decide(policy, request).unwrap();
    let denial = permit.reported().expect("the policy does not allow it");
    (denial.code, denial.reason)
}

#[test]
fn what_has_no_route_or_lacks_scopes_is_let_through_with_the_denial_that_enforcing_gives() {
    let (lax, strict) = (
        reporting(PLAIN, "a", routes()),
        policy(PLAIN, "a", routes()),
    );
    for request in ["GET /nowhere", "PUT /open", "GET /lacking?q=1"] {
        let permit = decide(&lax, request).unwrap();
        let denial = denied(&strict, request);
        assert_eq!(permit.reported(), Some(&denial), "{request}");
        assert_eq!(permit.target().as_str(), &request[4..], "{request}");
    }
    let nowhere = decide(&lax, "GET /nowhere").unwrap();
    assert_eq!(&*nowhere.route().label, UNMATCHED);
    assert_eq!(nowhere.route().label_index, None);
    assert_eq!(nowhere.route().max_body, None);
}

#[test]
fn what_the_policy_allows_is_not_reported() {
    let policy = reporting(PLAIN, "a", routes());
    assert_eq!(decide(&policy, "GET /open").unwrap().reported(), None);
}

#[test]
fn nothing_else_is_relaxed() {
    let policy = reporting(Catalogue::Canvas, "a url:*", routes());
    for (request, code) in [
        ("GET /closed/1", Code::RouteDenied),
        ("POST /api/v1/jwts", Code::RouteDenied),
        ("POST /login/oauth2/token", Code::RouteDenied),
        ("GET /nowhere/../open", Code::PathAmbiguous),
        ("GET /nowhere%2fx", Code::PathAmbiguous),
        ("GET /nowhere//x", Code::PathAmbiguous),
        ("GET /nowhere?as_user_id=1", Code::QueryParameterDenied),
        ("GET /lacking?_method=PUT", Code::QueryParameterDenied),
        ("GET /nowhere?x_a=1", Code::QueryParameterDenied),
    ] {
        assert_eq!(denied(&policy, request).code, code, "{request}");
    }
}

#[test]
fn a_query_allowance_of_one_route_opens_no_other_path() {
    let allowing = RouteSpec {
        query_allow: vec!["as_user_id".into()],
        ..route("open", "GET /open")
    };
    let policy = reporting(PLAIN, "a", vec![allowing]);
    assert!(decide(&policy, "GET /open?as_user_id=1").is_ok());
    assert_eq!(
        denied(&policy, "GET /other?as_user_id=1").code,
        Code::QueryParameterDenied
    );
}

#[test]
fn the_fallback_of_brightspace_is_reported_with_its_scope() {
    let policy = reporting(BRIGHTSPACE, "users:userdata:read", Vec::new());
    let unknown = "GET /d2l/api/lp/1.49/no/such/thing";
    assert_eq!(
        reported(&policy, unknown),
        (Code::InsufficientScope, Reason::Scope)
    );
    let permit = decide(&policy, unknown).unwrap();
    assert_eq!(permit.reported().unwrap().missing[0].as_str(), "core:*:*");
}

#[test]
fn a_reported_request_needs_what_the_allowlist_has_and_never_more() {
    let policy = reporting(PLAIN, "a c", routes());
    for request in ["GET /lacking", "GET /nowhere"] {
        assert_eq!(
            decide(&policy, request).unwrap().needed(),
            &scopes("a c"),
            "{request}"
        );
    }
    assert_eq!(decide(&policy, "GET /open").unwrap().needed(), &scopes("a"));
}

#[test]
fn a_scope_that_was_not_granted_is_reported_and_decided_by_the_lms() {
    let policy = reporting(PLAIN, "a", routes());
    let permit = decide(&policy, "GET /open").unwrap();
    assert_eq!(permit.check_granted(&scopes("a")), Ok(None));
    let denial = permit.check_granted(&scopes("x")).unwrap().unwrap();
    assert_eq!(denial.code, Code::InsufficientScope);
    assert_eq!(denial.missing, [Scope::parse("a").unwrap()]);

    // What is reported already is not reported twice.
    let lacking = decide(&policy, "GET /lacking").unwrap();
    assert_eq!(lacking.check_granted(&scopes("x")), Ok(None));
}

proptest! {
    #[test]
    fn report_mode_refuses_just_what_enforcing_refuses_for_another_reason(
        path in "(/(open|lacking|closed|x|\\.\\.|%2e|%2f|a;b|é)){1,4}/?",
        query in "(\\?(q|_method|as_user_id|x_a|%5Fmethod)(=1)?)?",
        method in prop_oneof![Just("GET"), Just("PUT"), Just("HEAD")],
    ) {
        let Ok(target) = format!("{path}{query}").parse::<PathAndQuery>() else {
            return Ok(());
        };
        let method: Method = method.parse().unwrap();
        let strict = policy(PLAIN, "a", routes()).decide(&method, &target);
        let lax = reporting(PLAIN, "a", routes()).decide(&method, &target);
        match (strict, lax) {
            (Ok(_), Ok(permit)) => prop_assert!(permit.reported().is_none()),
            (Err(denial), Ok(permit)) => {
                prop_assert!(matches!(denial.reason, Reason::NoRoute | Reason::Method | Reason::Scope));
                prop_assert_eq!(permit.reported(), Some(&denial));
            }
            (Err(strict), Err(lax)) => prop_assert!(
                strict == lax || matches!(strict.reason, Reason::NoRoute | Reason::Method | Reason::Scope)
            ),
            (Ok(_), Err(lax)) => prop_assert!(false, "{lax:?}"),
        }
    }
}
