//! The policy as a whole; its parts have tests of their own.

use super::*;
use crate::{code::Code, scope::Scope};
use proptest::prelude::*;
use std::sync::LazyLock;

mod calls;
mod credentials;
mod report;

fn scopes(list: &str) -> ScopeSet {
    ScopeSet::parse(list).unwrap()
}

fn any_of(list: &str) -> Requirement {
    Requirement::Any(
        list.split(' ')
            .map(|text| Scope::parse(text).unwrap())
            .collect(),
    )
}

/// `GET,PUT /path`, which needs no scopes.
fn route(name: &str, request: &str) -> RouteSpec {
    let (methods, path) = request.split_once(' ').unwrap();
    let methods = methods.split(',').filter(|method| *method != "*");
    RouteSpec {
        name: name.into(),
        methods: methods.map(|method| method.parse().unwrap()).collect(),
        path: path.into(),
        requirement: Requirement::All(ScopeSet::default()),
        functions: Vec::new(),
        deny: false,
        max_body: None,
        encoded_slash: false,
        upgrade: false,
        query_allow: Vec::new(),
        credential: None,
    }
}

fn deny(name: &str, request: &str) -> RouteSpec {
    RouteSpec {
        deny: true,
        ..route(name, request)
    }
}

fn needing(requirement: Requirement, route: RouteSpec) -> RouteSpec {
    RouteSpec {
        requirement,
        ..route
    }
}

fn build(
    catalogue: Catalogue,
    allowlist: &str,
    routes: Vec<RouteSpec>,
) -> Result<Policy, Vec<PolicyProblem>> {
    build_in(Mode::Enforce, catalogue, allowlist, routes)
}

fn build_in(
    mode: Mode,
    catalogue: Catalogue,
    allowlist: &str,
    routes: Vec<RouteSpec>,
) -> Result<Policy, Vec<PolicyProblem>> {
    Policy::build(&PolicySpec {
        mode,
        catalogue,
        cut_out: Vec::new(),
        allowlist: scopes(allowlist),
        calls_functions: false,
        routes,
    })
}

fn policy(catalogue: Catalogue, allowlist: &str, routes: Vec<RouteSpec>) -> Policy {
    build(catalogue, allowlist, routes).unwrap()
}

fn decide(policy: &Policy, request: &str) -> Result<Permit, Denial> {
    let (method, target) = request.split_once(' ').unwrap();
    policy.decide(&method.parse().unwrap(), &target.parse().unwrap())
}

/// The label of the route that allows it.
fn allowed(policy: &Policy, request: &str) -> String {
    match decide(policy, request) {
        Ok(permit) => permit.route().label.to_string(),
        Err(denial) => panic!("{request}: {denial:?}"),
    }
}

fn denied(policy: &Policy, request: &str) -> Denial {
    match decide(policy, request) {
        Err(denial) => denial,
        Ok(permit) => panic!("{request}: {permit:?}"),
    }
}

fn reason(policy: &Policy, request: &str) -> Reason {
    denied(policy, request).reason
}

fn texts<'a>(scopes: impl IntoIterator<Item = &'a Scope>) -> Vec<&'a str> {
    scopes.into_iter().map(Scope::as_str).collect()
}

const BRIGHTSPACE: Catalogue = Catalogue::Brightspace;
const CANVAS: Catalogue = Catalogue::Canvas;
const PLAIN: Catalogue = Catalogue::None;

#[test]
fn without_a_route_nothing_is_allowed() {
    let policy = policy(PLAIN, "a b c", vec![]);
    for request in [
        "GET /",
        "GET /d2l/api/lp/1.49/users/whoami",
        "POST /api/v1/courses",
    ] {
        let denial = denied(&policy, request);
        assert_eq!(
            (denial.code, denial.reason),
            (Code::RouteDenied, Reason::NoRoute)
        );
        assert_eq!(denial.route, None);
    }
}

#[test]
fn a_catalogue_route_is_allowed_when_the_allowlist_covers_it() {
    let policy = policy(BRIGHTSPACE, "grades:gradevalues:*", vec![]);
    let request = "PUT /d2l/api/le/1.49/6606/grades/12/values/345";
    assert_eq!(allowed(&policy, request), "brightspace:grades");
    assert_eq!(
        reason(&policy, "GET /d2l/api/lp/1.49/users/"),
        Reason::Scope
    );
}

#[test]
fn a_denial_names_the_scope_to_add_and_the_route() {
    let policy = policy(BRIGHTSPACE, "grades:gradevalues:read", vec![]);
    let denial = denied(&policy, "PUT /d2l/api/le/1.49/6606/grades/12/values/345");
    assert_eq!(denial.code, Code::InsufficientScope);
    assert_eq!(denial.route.as_deref(), Some("brightspace:grades"));
    assert_eq!(texts(&denial.missing), ["grades:gradevalues:write"]);
    assert_eq!(
        denial.detail,
        "The route needs grades:gradevalues:write; add it to the upstream's scopes."
    );
}

#[test]
fn brightspace_paths_match_in_any_case_and_with_either_slash() {
    let policy = policy(BRIGHTSPACE, "checklists:checklist:read", vec![]);
    for path in [
        "/d2l/api/le/1.49/6606/checklists/",
        "/d2l/api/le/1.49/6606/checklists",
        "/D2L/API/LE/Unstable/6606/CheckLists/",
        "/d2l/api/le/1.49/6606/%63hecklists/",
    ] {
        assert_eq!(
            allowed(&policy, &format!("GET {path}")),
            "brightspace:checklists"
        );
    }
}

#[test]
fn a_row_that_takes_one_of_two_scopes_is_content_with_either() {
    let request = "GET /d2l/api/lp/1.49/users/whoami";
    for scope in ["users:profile:read", "users:own_profile:read"] {
        let policy = policy(BRIGHTSPACE, scope, vec![]);
        assert_eq!(allowed(&policy, request), "brightspace:users");
        assert_eq!(
            decide(&policy, request).unwrap().needed().to_string(),
            scope
        );
    }
    let denial = denied(&policy(BRIGHTSPACE, "core:*:*", vec![]), request);
    assert_eq!(
        texts(&denial.missing),
        ["users:profile:read", "users:own_profile:read"]
    );
    assert_eq!(
        denial.detail,
        "The route needs users:profile:read or users:own_profile:read; add one of them to the upstream's scopes."
    );
}

#[test]
fn an_unlisted_brightspace_path_needs_the_fallback_scope() {
    let core = policy(BRIGHTSPACE, "core:*:*", vec![]);
    for path in [
        "/d2l/api/lp/1.49/organization/info",
        "/D2L/api/versions/",
        "/d2l/api/",
    ] {
        assert_eq!(allowed(&core, &format!("GET {path}")), "brightspace:core");
    }
    assert_eq!(reason(&core, "GET /d2l/home"), Reason::NoRoute);
    assert_eq!(reason(&core, "GET /d2l/api"), Reason::NoRoute);

    let denial = denied(
        &policy(BRIGHTSPACE, "core:a:read users:*:*", vec![]),
        "GET /d2l/api/lp/1.49/organization/info",
    );
    assert_eq!(denial.code, Code::InsufficientScope);
    assert_eq!(texts(&denial.missing), ["core:*:*"]);
    assert_eq!(denial.route.as_deref(), Some("brightspace:core"));
    assert!(denial.detail.contains("core:*:*"), "{}", denial.detail);
}

#[test]
fn a_known_path_with_another_method_does_not_fall_back() {
    let policy = policy(BRIGHTSPACE, "core:*:* users:*:*", vec![]);
    let denial = denied(&policy, "DELETE /d2l/api/lp/1.49/users/whoami");
    assert_eq!(
        (denial.code, denial.reason),
        (Code::RouteDenied, Reason::Method)
    );
    assert!(denial.detail.contains("(GET)"), "{}", denial.detail);
}

#[test]
fn head_uses_the_route_of_get() {
    let policy = policy(BRIGHTSPACE, "users:profile:read", vec![]);
    assert_eq!(
        allowed(&policy, "HEAD /d2l/api/lp/1.49/users/whoami"),
        "brightspace:users"
    );
}

#[test]
fn every_catalogue_route_resolves_to_itself() {
    for catalogue in [BRIGHTSPACE, CANVAS, Catalogue::Dap] {
        let policy = policy(catalogue, "", vec![]);
        for entry in catalogue.entries() {
            for template in &entry.templates {
                let path = sample(template);
                let found = policy.allow.find(&entry.method, &path);
                let Found::Route(number) = found else {
                    panic!("{path}: {found:?}")
                };
                assert_eq!(
                    &*policy.routes[number].template, entry.path,
                    "{} {path}",
                    entry.method
                );
            }
        }
    }
}

/// A path that matches a template and, as far as possible, no other.
fn sample(template: &Template) -> String {
    use template::{Segment, Values};
    let mut path = String::new();
    for segment in &template.segments {
        path.push('/');
        path.push_str(match segment {
            Segment::Literal(text) => text,
            Segment::Parameter(Values::Any) => "sis_id:1",
            Segment::Parameter(Values::Decimal) => "6606",
            Segment::Parameter(Values::Version) => "1.49",
            Segment::Tail => "b/c",
        });
    }
    if template.trailing_slash {
        path.push('/');
    }
    path
}

#[test]
fn every_catalogue_route_is_permitted_by_its_own_scopes() {
    for catalogue in [BRIGHTSPACE, CANVAS, Catalogue::Dap] {
        let all = catalogue
            .entries()
            .flat_map(|entry| entry.requirement.scopes().cloned().collect::<Vec<_>>());
        let all: ScopeSet = all.collect();
        let policy = policy(catalogue, &all.to_string(), vec![]);
        assert!(policy.routes.iter().all(|route| route.missing.is_empty()));
    }
}

#[test]
fn an_explicit_route_replaces_the_catalogues_of_the_same_template_and_method() {
    let policy = policy(
        BRIGHTSPACE,
        "own:whoami:read",
        vec![
            needing(
                Requirement::All(scopes("own:whoami:read")),
                route("mine", "GET /D2L/api/lp/{v}/users/WhoAmI/"),
            ),
            route(
                "one-event",
                "GET /d2l/api/le/{v}/{org}/calendar/event/{event}",
            ),
        ],
    );
    assert_eq!(
        allowed(&policy, "GET /d2l/api/lp/1.49/users/whoami"),
        "mine"
    );
    assert_eq!(
        allowed(&policy, "GET /d2l/api/le/1.49/1/calendar/event/2"),
        "one-event"
    );
}

#[test]
fn an_explicit_route_leaves_the_catalogues_other_methods() {
    let path = "/d2l/api/le/1.49/6606/grades/12/values/345";
    let policy = policy(
        BRIGHTSPACE,
        "grades:*:*",
        vec![route(
            "mine",
            "PUT /d2l/api/le/{v}/{org}/grades/{object}/values/{user}",
        )],
    );
    assert_eq!(allowed(&policy, &format!("PUT {path}")), "mine");
    assert_eq!(
        allowed(&policy, &format!("GET {path}")),
        "brightspace:grades"
    );
}

#[test]
fn a_more_specific_catalogue_route_goes_before_a_broad_explicit_one() {
    let policy = policy(BRIGHTSPACE, "", vec![route("all", "GET,PUT /d2l/{*rest}")]);
    assert_eq!(allowed(&policy, "GET /d2l/home"), "all");
    assert_eq!(
        reason(&policy, "GET /d2l/api/lp/1.49/users/whoami"),
        Reason::Scope
    );
}

#[test]
fn a_deny_route_refuses_however_broad_it_is() {
    let policy = policy(
        PLAIN,
        "",
        vec![
            route("one", "GET /a/b/c"),
            deny("none", "* /a/{*rest}"),
            route("other", "GET,POST /b/{*rest}"),
            deny("no-post", "POST /b/{x}/secret"),
        ],
    );
    let denial = denied(&policy, "GET /a/b/c");
    assert_eq!(
        (denial.code, denial.reason),
        (Code::RouteDenied, Reason::Deny)
    );
    assert_eq!(denial.route.as_deref(), Some("none"));
    assert_eq!(allowed(&policy, "GET /b/1/secret"), "other");
    assert_eq!(reason(&policy, "POST /b/1/secret"), Reason::Deny);
}

#[test]
fn a_deny_route_cannot_be_walked_around_by_spelling() {
    for (catalogue, path) in [
        (PLAIN, "/a/Secret"),
        (PLAIN, "/a/secret/"),
        (PLAIN, "/a/%73ecret"),
        (PLAIN, "/a%2Fsecret"),
        (BRIGHTSPACE, "/A/SECRET"),
        (CANVAS, "/a/secret.json"),
        (CANVAS, "/a/secret.json/"),
        (CANVAS, "/a/secret%2ejson"),
    ] {
        let broad = RouteSpec {
            encoded_slash: true,
            ..route("all", "GET /{*rest}")
        };
        let policy = policy(catalogue, "", vec![broad, deny("secret", "* /a/secret")]);
        assert_eq!(
            reason(&policy, &format!("GET {path}")),
            Reason::Deny,
            "{path}"
        );
        assert_eq!(allowed(&policy, "GET /a/public"), "all");
    }
}

#[test]
fn a_denied_tail_takes_the_bare_slash_too() {
    let policy = policy(
        PLAIN,
        "",
        vec![route("all", "GET /{*rest}"), deny("no", "GET /a/{*rest}")],
    );
    assert_eq!(reason(&policy, "GET /a/"), Reason::Deny);
    assert_eq!(allowed(&policy, "GET /ab"), "all");
}

#[test]
fn explicit_routes_match_the_slash_at_the_end_as_written_except_on_brightspace() {
    let routes = || vec![route("a", "GET /a"), route("b", "GET /b/")];
    let exact = policy(PLAIN, "", routes());
    assert_eq!(reason(&exact, "GET /a/"), Reason::NoRoute);
    assert_eq!(reason(&exact, "GET /b"), Reason::NoRoute);
    let either = policy(BRIGHTSPACE, "", routes());
    assert_eq!(allowed(&either, "GET /a/"), "a");
    assert_eq!(allowed(&either, "GET /b"), "b");
}

#[test]
fn ambiguous_routes_are_a_problem_and_all_problems_are_told_at_once() {
    let problems = build(
        PLAIN,
        "",
        vec![
            route("first", "GET,PUT /a/{x}"),
            route("second", "POST,PUT /a/{y}"),
            route("broken", "GET a"),
            route("any", "* /b"),
            route("third", "DELETE /a/{z}"),
            deny("fourth", "PUT /a/{z}"),
        ],
    )
    .unwrap_err();
    let told: Vec<_> = problems
        .iter()
        .map(|problem| (problem.route, problem.kind.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            (
                Some(1),
                "ambiguous with route \"first\": both match the same requests and neither is more specific".into()
            ),
            (
                Some(2),
                "the path template is not valid: no request has such a path: The path must start with a slash.".into()
            ),
            (Some(3), "the route allows requests, so it must say with which methods".into()),
        ]
    );
}

#[test]
fn routes_that_differ_by_case_or_slash_only_are_ambiguous_where_those_do_not_matter() {
    let routes = |other| vec![route("first", "GET /a/b"), route("second", other)];
    for other in ["GET /A/b", "GET /a/b/"] {
        assert!(build(BRIGHTSPACE, "", routes(other)).is_err(), "{other}");
        assert!(build(PLAIN, "", routes(other)).is_ok(), "{other}");
    }
}

#[test]
fn an_ambiguous_path_is_refused_before_anything_is_matched() {
    let policy = policy(
        PLAIN,
        "",
        vec![route("all", "GET /{*rest}"), deny("no", "* /{*rest}")],
    );
    let denial = denied(&policy, "GET /a/..%2fb");
    assert_eq!(
        (denial.code, denial.reason),
        (Code::PathAmbiguous, Reason::Path)
    );
    assert_eq!(denial.route, None);
    assert_eq!(
        policy
            .decide(&Method::OPTIONS, &PathAndQuery::from_static("*"))
            .unwrap_err()
            .code,
        Code::PathAmbiguous
    );
}

#[test]
fn an_encoded_slash_needs_a_route_that_takes_it() {
    let takes = RouteSpec {
        encoded_slash: true,
        ..route("takes", "GET /sis/{id}")
    };
    let policy = policy(PLAIN, "", vec![takes, route("plain", "GET /plain/{id}")]);
    assert_eq!(allowed(&policy, "GET /sis/a%2Fb"), "takes");
    assert_eq!(
        denied(&policy, "GET /plain/a%2Fb").code,
        Code::PathAmbiguous
    );
    assert_eq!(denied(&policy, "GET /none/a%2Fb").code, Code::PathAmbiguous);
    assert_eq!(
        denied(&policy, "GET /sis/a%2F..%2Fb").code,
        Code::PathAmbiguous
    );
}

#[test]
fn a_canvas_path_matches_with_a_format_suffix() {
    let scope = "url:GET|/api/v1/courses/:id";
    let policy = policy(CANVAS, &format!("{scope} url:GET|/api/v1/courses"), vec![]);
    for path in [
        "/api/v1/courses",
        "/api/v1/courses.json",
        "/api/v1/courses/1.json",
        "/api/v1/courses/sis_course_id:X",
    ] {
        assert_eq!(
            allowed(&policy, &format!("GET {path}")),
            "canvas:courses",
            "{path}"
        );
    }
    assert_eq!(reason(&policy, "GET /API/v1/courses"), Reason::NoRoute);
}

#[test]
fn optional_ends_of_canvas_paths_match_with_and_without() {
    let policy = policy(CANVAS, "url:*|*", vec![]);
    for path in [
        "/api/v1/users/self/custom_data",
        "/api/v1/users/self/custom_data/a/b",
    ] {
        assert_eq!(allowed(&policy, &format!("GET {path}")), "canvas:users");
    }
}

const MINTING: [&str; 9] = [
    "POST /api/v1/inst_access_tokens",
    "POST /api/v1/jwts",
    "POST /api/v1/jwts.json",
    "POST /api/v1/jwts/",
    "POST /api/v1/users/self/tokens",
    "PUT /api/v1/users/1/tokens/2",
    "GET /login/session_token",
    "DELETE /login/oauth2/token",
    "HEAD /login",
];

#[test]
fn canvas_paths_that_hand_out_credentials_are_refused_though_routes_and_scopes_match() {
    let policy = policy(
        CANVAS,
        "url:*|*",
        vec![route("all", "GET,PUT,POST,DELETE /{*rest}")],
    );
    for request in MINTING {
        let denial = denied(&policy, request);
        assert_eq!(
            (denial.code, denial.reason),
            (Code::RouteDenied, Reason::Deny),
            "{request}"
        );
    }
    assert_eq!(
        allowed(&policy, "GET /api/v1/users/self/profile"),
        "canvas:users"
    );
}

#[test]
fn an_explicit_route_that_names_such_a_path_opens_it() {
    let routes = vec![
        route("jwts", "POST /api/v1/jwts"),
        route("tokens", "POST /api/v1/users/self/tokens"),
        route("logout", "DELETE /login/oauth2/token"),
        route("login", "GET,POST /login/{*rest}"),
    ];
    let policy = policy(CANVAS, "", routes);
    assert_eq!(allowed(&policy, "POST /api/v1/jwts"), "jwts");
    assert_eq!(allowed(&policy, "POST /api/v1/users/self/tokens"), "tokens");
    assert_eq!(allowed(&policy, "DELETE /login/oauth2/token"), "logout");
    assert_eq!(allowed(&policy, "GET /login/canvas"), "login");
    for request in [
        "POST /api/v1/users/1/tokens",
        "POST /login/oauth2/token",
        "GET /login/session_token",
    ] {
        assert_eq!(reason(&policy, request), Reason::Deny, "{request}");
    }
}

#[test]
fn token_paths_of_brightspace_and_dap_are_refused_under_broad_routes() {
    for (catalogue, request) in [
        (BRIGHTSPACE, "GET /d2l/auth/api/token"),
        (BRIGHTSPACE, "POST /d2l/lp/auth/oauth2/token"),
        (Catalogue::Dap, "POST /ids/auth/login"),
    ] {
        let policy = policy(catalogue, "", vec![route("all", "GET,POST /{*rest}")]);
        assert_eq!(reason(&policy, request), Reason::Deny, "{request}");
    }
}

#[test]
fn dap_scopes_decide_here_and_are_never_asked_for_nor_granted() {
    let policy = policy(
        Catalogue::Dap,
        "dap:tables:read dap:queries:* other",
        vec![],
    );
    let request = "GET /dap/query/canvas/table";
    assert_eq!(allowed(&policy, request), "dap:tables");
    assert_eq!(
        allowed(&policy, "POST /dap/query/canvas/table/users/data"),
        "dap:queries"
    );
    assert_eq!(
        texts(&denied(&policy, "GET /dap/job/1").missing),
        ["dap:jobs:read"]
    );
    assert_eq!(policy.scopes_to_ask().to_string(), "other");
    let permit = decide(&policy, request).unwrap();
    assert!(permit.needed().is_empty());
    assert_eq!(permit.check_granted(&ScopeSet::default()), Ok(None));
}

#[test]
fn a_denied_query_parameter_is_refused_and_named() {
    let policy = policy(PLAIN, "", vec![route("all", "GET /{*rest}")]);
    let denial = denied(&policy, "GET /a?b=1&As%5fUser_id[]=2");
    assert_eq!(
        (denial.code, denial.reason),
        (Code::QueryParameterDenied, Reason::Query)
    );
    assert_eq!(denial.route.as_deref(), Some("all"));
    assert!(denial.detail.contains("as_user_id"), "{}", denial.detail);
}

#[test]
fn a_route_may_allow_a_query_parameter() {
    let masquerade = RouteSpec {
        query_allow: vec!["as_user_id".into()],
        ..route("all", "GET /{*rest}")
    };
    let policy = policy(PLAIN, "", vec![masquerade]);
    let target = "/a?as_user_id=sis:1&b=%2B";
    let permit = decide(&policy, &format!("GET {target}")).unwrap();
    assert_eq!(permit.target().as_str(), target);
    assert_eq!(reason(&policy, "GET /a?x_a=1"), Reason::Query);
}

#[test]
fn the_lmss_own_credential_parameters_are_cut_out() {
    for (catalogue, target, expected) in [
        (BRIGHTSPACE, "/a?x_a=1&b=%7E+&x_t=2&X_B=3", "/a?b=%7E+"),
        (BRIGHTSPACE, "/a?x_a=1", "/a"),
        (CANVAS, "/a?b&access_token=t&c=d?e", "/a?b&c=d?e"),
        (CANVAS, "/a?", "/a?"),
    ] {
        let policy = policy(catalogue, "", vec![route("all", "GET /{*rest}")]);
        let permit = decide(&policy, &format!("GET {target}")).unwrap();
        assert_eq!(permit.target().as_str(), expected);
    }
    let brightspace = policy(BRIGHTSPACE, "", vec![route("all", "GET /{*rest}")]);
    assert_eq!(reason(&brightspace, "GET /a?access_token=t"), Reason::Query);
    let canvas = policy(CANVAS, "", vec![route("all", "GET /{*rest}")]);
    assert_eq!(reason(&canvas, "GET /a?x_a=t"), Reason::Query);
}

#[test]
fn the_decision_asks_for_route_then_query_then_allowlist() {
    let needy = needing(Requirement::All(scopes("a:b:c")), route("a", "GET /a"));
    let policy = policy(PLAIN, "", vec![needy]);
    assert_eq!(reason(&policy, "GET /b?x_a=1"), Reason::NoRoute);
    assert_eq!(reason(&policy, "GET /a?x_a=1"), Reason::Query);
    assert_eq!(reason(&policy, "GET /a"), Reason::Scope);
}

#[test]
fn a_route_without_scopes_needs_none() {
    let policy = policy(PLAIN, "", vec![route("a", "GET /a")]);
    let permit = decide(&policy, "GET /a").unwrap();
    assert!(permit.needed().is_empty());
    assert_eq!(permit.check_granted(&ScopeSet::default()), Ok(None));
}

#[test]
fn what_the_as_did_not_grant_is_named() {
    let requirement = Requirement::All(scopes("a:b:read,write x"));
    let policy = policy(
        PLAIN,
        "a:b:* x",
        vec![needing(requirement, route("a", "GET /a"))],
    );
    let permit = decide(&policy, "GET /a").unwrap();
    assert_eq!(permit.check_granted(&scopes("x a:*:read,write")), Ok(None));
    let denial = permit.check_granted(&scopes("a:b:read")).unwrap_err();
    assert_eq!(
        (denial.code, denial.reason),
        (Code::InsufficientScope, Reason::Scope)
    );
    assert_eq!(texts(&denial.missing), ["a:b:write", "x"]);
    assert_eq!(
        denial.detail,
        "The route needs a:b:write and x, which the authorization server did not grant; allow it for this client there."
    );
}

#[test]
fn of_alternatives_the_first_that_the_allowlist_covers_is_asked_for() {
    let policy = policy(
        PLAIN,
        "a b",
        vec![needing(any_of("c b a"), route("r", "GET /r"))],
    );
    let permit = decide(&policy, "GET /r").unwrap();
    assert_eq!(permit.needed().to_string(), "b");
    assert_eq!(permit.check_granted(&scopes("a")), Ok(None));
    assert_eq!(permit.check_granted(&scopes("b")), Ok(None));
    let denial = permit.check_granted(&scopes("c")).unwrap_err();
    assert_eq!(
        texts(&denial.missing),
        ["b", "a"],
        "c is not in the allowlist"
    );
}

#[test]
fn an_empty_list_of_alternatives_is_a_problem() {
    let routes = vec![needing(Requirement::Any(vec![]), route("r", "GET /r"))];
    let problems = build(PLAIN, "a", routes).unwrap_err();
    assert_eq!(problems[0].kind, PolicyProblemKind::NoAlternative);
}

#[test]
fn a_wildcard_is_asked_for_as_the_scopes_that_it_covers() {
    let own = needing(
        Requirement::All(scopes("url:GET|/api/v1/polls/new_choices")),
        route("own", "GET /api/v1/polls/new_choices"),
    );
    let allowlist = "url:*|/api/v1/polls/*_choices url:PUT|/x/* openid";
    let policy = policy(CANVAS, allowlist, vec![own]);
    assert_eq!(
        texts(policy.scopes_to_ask().iter()),
        [
            "openid",
            "url:GET|/api/v1/polls/:poll_id/poll_choices",
            "url:GET|/api/v1/polls/new_choices",
            "url:POST|/api/v1/polls/:poll_id/poll_choices",
        ]
    );
    assert_eq!(policy.check_ask(), Ok(()));
}

#[test]
fn a_canvas_scope_with_a_star_of_its_own_is_asked_for_as_it_stands() {
    let scope = "url:GET|/api/v1/courses/:course_id/folders/by_path/*full_path";
    let policy = policy(CANVAS, scope, vec![]);
    assert_eq!(policy.scopes_to_ask().to_string(), scope);
}

#[test]
fn an_ask_that_canvas_would_not_take_lists_the_groups_to_narrow() {
    let policy = policy(CANVAS, "url:GET|/api/v1/*", vec![]);
    let problem = policy.check_ask().unwrap_err();
    assert_eq!(problem.route, None);
    let text = problem.kind.to_string();
    assert!(text.contains("narrow courses ("), "{text}");
}

#[test]
fn labels_are_dense_and_the_explicit_ones_come_first() {
    let policy = policy(
        BRIGHTSPACE,
        "users:profile:read",
        vec![
            route("one", "GET /1"),
            deny("two", "GET /2"),
            route("one", "GET /3"),
        ],
    );
    assert_eq!(policy.explicit_labels(), 2);
    assert_eq!(
        policy.labels().len(),
        2 + 36 + 1,
        "36 groups and the fallback"
    );
    for request in ["GET /1", "GET /3", "GET /d2l/api/lp/1.49/users/whoami"] {
        let permit = decide(&policy, request).unwrap();
        let route = permit.route();
        assert_eq!(policy.labels()[route.label_index.unwrap()], route.label);
    }
    let denial = denied(&policy, "GET /2");
    assert_eq!(denial.label_index, Some(1));
}

#[test]
fn an_explanation_tells_what_covers_what() {
    let requirement = Requirement::All(scopes("a:b:read,write x"));
    let policy = policy(
        PLAIN,
        "a:*:read a:c:write x",
        vec![needing(requirement, route("r", "GET /r/{id}"))],
    );
    let explain = |request: &str| {
        let (method, target) = request.split_once(' ').unwrap();
        policy.explain(&method.parse().unwrap(), &target.parse().unwrap())
    };
    let explanation = explain("GET /r/1");
    assert_eq!(explanation.decision.unwrap_err().reason, Reason::Scope);
    let route = explanation.route.unwrap();
    assert_eq!(
        (&*route.template, route.origin),
        ("/r/{id}", Origin::Explicit)
    );
    let told: Vec<_> = explanation
        .scopes
        .iter()
        .map(|cover| {
            (
                cover.required.as_str(),
                texts(&cover.by),
                texts(&cover.missing),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("a:b:read,write", vec!["a:*:read"], vec!["a:b:write"]),
            ("x", vec!["x"], vec![])
        ]
    );
    assert!(explain("GET /none").route.is_none());
}

#[test]
fn no_denial_repeats_the_request() {
    let policy = policy(BRIGHTSPACE, "", vec![route("a", "GET /known/{x}")]);
    for request in [
        "GET /SECRET",
        "GET /SECRET/..",
        "PUT /known/SECRET",
        "GET /known/SECRET?access_token=SECRET",
        "GET /known/a%2FSECRET",
        "GET /d2l/api/SECRET",
        "GET /known/a?SECRET%zz",
    ] {
        let denial = denied(&policy, request);
        assert!(!format!("{denial:?}").contains("SECRET"), "{denial:?}");
    }
}

/// Paths near the rules, with queries.
fn any_target() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "a", "d2l", "api", "v1", "courses", "..", "%2e", "%2f", "%25", "%61", ";", "%20", "1",
        ".json", "%c0", "%C3%A9",
    ]);
    let parameter = prop::sample::select(vec![
        "a=1",
        "x_a=2",
        "access_token=3",
        "b=%zz",
        "%78_a",
        "",
        "as_user_id",
    ]);
    (
        prop::collection::vec(piece, 0..8),
        prop::collection::vec(parameter, 0..4),
        any::<bool>(),
    )
        .prop_map(|(pieces, parameters, has_query)| {
            let query = if has_query {
                format!("?{}", parameters.join("&"))
            } else {
                String::new()
            };
            format!("/{}{query}", pieces.concat())
        })
}

/// Policies that allow every path, and the parameters that they cut out.
static OPEN: LazyLock<[(Policy, &[&str]); 3]> = LazyLock::new(|| {
    let open = |catalogue| {
        let all = RouteSpec {
            encoded_slash: true,
            ..route("all", "GET /{*rest}")
        };
        policy(catalogue, "", vec![all])
    };
    [
        (open(PLAIN), &[]),
        (open(CANVAS), &["access_token=3"]),
        (open(BRIGHTSPACE), &["x_a=2", "%78_a"]),
    ]
});

proptest! {
    #[test]
    fn what_is_allowed_is_sent_byte_for_byte(target in any_target()) {
        let target: PathAndQuery = target.parse().unwrap();
        for (policy, cut) in OPEN.iter() {
            if let Ok(permit) = policy.decide(&Method::GET, &target) {
                let sent = permit.target();
                prop_assert_eq!(sent.path(), target.path());
                let query = target.query().map(|query| {
                    let kept: Vec<_> = query.split('&').filter(|part| !cut.contains(part)).collect();
                    kept.join("&")
                });
                let was_cut = query.as_deref() != target.query();
                let query = query.filter(|query| !(was_cut && query.is_empty()));
                prop_assert_eq!(sent.query(), query.as_deref());
            }
        }
    }
}
