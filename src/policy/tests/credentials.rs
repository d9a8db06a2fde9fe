//! What each credential of an upstream is to ask for.

use super::*;

fn of(credential: &str, route: RouteSpec) -> RouteSpec {
    RouteSpec {
        credential: Some(credential.into()),
        ..route
    }
}

fn all_of(list: &str, route: RouteSpec) -> RouteSpec {
    needing(Requirement::All(scopes(list)), route)
}

/// What each credential asks for, the upstream's own first.
fn asks(policy: &Policy) -> Vec<(String, String)> {
    let own = ("-".to_owned(), policy.scopes_to_ask().to_string());
    let named = policy.route_credentials().iter();
    let named = named.map(|named| (named.name.to_string(), named.scopes.to_string()));
    [own].into_iter().chain(named).collect()
}

fn texts<const N: usize>(asks: [(&str, &str); N]) -> Vec<(String, String)> {
    let text = |(name, scopes): (&str, &str)| (name.to_owned(), scopes.to_owned());
    asks.into_iter().map(text).collect()
}

#[test]
fn a_scope_that_only_routes_with_a_credential_of_their_own_use_is_theirs_to_ask_for() {
    let policy = policy(
        PLAIN,
        "read write both unused",
        vec![
            all_of("read both", route("r", "GET /r")),
            of("writer", all_of("write both", route("w", "PUT /w"))),
            of("writer", all_of("write", route("v", "PUT /v"))),
            of("other", all_of("write", route("o", "PUT /o"))),
        ],
    );
    assert_eq!(
        asks(&policy),
        texts([
            ("-", "both read unused"),
            ("writer", "both write"),
            ("other", "write"),
        ])
    );
    let choice = |request: &str| decide(&policy, request).unwrap().route().credential;
    assert_eq!(choice("GET /r"), CredentialChoice::Upstream);
    assert_eq!(choice("PUT /w"), CredentialChoice::Route(0));
    assert_eq!(choice("PUT /v"), CredentialChoice::Route(0));
    assert_eq!(choice("PUT /o"), CredentialChoice::Route(1));
}

#[test]
fn of_alternatives_a_credential_asks_for_the_first_that_the_allowlist_covers() {
    let policy = policy(
        PLAIN,
        "b c",
        vec![of("one", needing(any_of("a b c"), route("r", "GET /r")))],
    );
    assert_eq!(asks(&policy), texts([("-", ""), ("one", "b")]));
}

#[test]
fn a_route_that_the_allowlist_does_not_cover_adds_nothing_to_what_its_credential_asks_for() {
    let routes = || {
        vec![
            of("one", all_of("read", route("r", "GET /r"))),
            of("one", all_of("write", route("w", "PUT /w"))),
            of("one", needing(any_of("x y"), route("s", "GET /s"))),
        ]
    };
    let enforced = build_in(Mode::Enforce, PLAIN, "read", routes()).unwrap();
    assert_eq!(asks(&enforced), texts([("-", ""), ("one", "read")]));
    // Its requests pass, and need a token.
    let reported = build_in(Mode::Report, PLAIN, "read", routes()).unwrap();
    assert_eq!(asks(&reported), texts([("-", ""), ("one", "read write x")]));
}

#[test]
fn a_wildcard_of_d2l_stays_while_any_route_of_the_upstream_uses_it() {
    let routes = || {
        vec![of(
            "writer",
            all_of(
                "users:userdata:delete",
                route("d", "DELETE /d2l/api/lp/{version}/users/{userId}"),
            ),
        )]
    };
    let shared = policy(BRIGHTSPACE, "users:*:*", routes());
    assert_eq!(shared.scopes_to_ask(), &scopes("users:*:*"));
    // The explicit route stands in front of the only one of the table that needs the scope.
    let own = policy(
        BRIGHTSPACE,
        "users:userdata:read users:userdata:delete",
        routes(),
    );
    assert_eq!(
        asks(&own),
        texts([
            ("-", "users:userdata:read"),
            ("writer", "users:userdata:delete")
        ])
    );
}

#[test]
fn a_pattern_of_canvas_is_expanded_over_the_routes_of_each_credential() {
    let favorite = "url:POST|/api/v1/users/self/favorites/courses/:id";
    let policy = policy(
        Catalogue::Canvas,
        "url:*|/api/v1/users/self/favorites/*",
        vec![of(
            "writer",
            all_of(
                favorite,
                route("f", "POST /api/v1/users/self/favorites/courses/{id}"),
            ),
        )],
    );
    let own = policy.scopes_to_ask().to_string();
    assert!(
        own.contains("url:GET|/api/v1/users/self/favorites/courses"),
        "{own}"
    );
    assert!(!own.contains(favorite), "{own}");
    assert_eq!(&*policy.route_credentials()[0].scopes, &scopes(favorite));
}

#[test]
fn a_reported_request_of_such_a_route_needs_what_its_credential_asks_for() {
    let policy = build_in(
        Mode::Report,
        PLAIN,
        "read",
        vec![of("writer", all_of("write", route("w", "PUT /w")))],
    )
    .unwrap();
    let permit = decide(&policy, "PUT /w").unwrap();
    assert!(permit.reported().is_some());
    assert_eq!(permit.needed(), &scopes("write"));
    assert_eq!(permit.route().credential, CredentialChoice::Route(0));
}

#[test]
fn a_denial_names_the_credential_of_its_route() {
    let policy = policy(
        PLAIN,
        "read",
        vec![of("writer", all_of("write", route("w", "PUT /w")))],
    );
    assert_eq!(
        denied(&policy, "PUT /w").credential,
        CredentialChoice::Route(0)
    );
    assert_eq!(
        denied(&policy, "GET /nowhere").credential,
        CredentialChoice::Upstream
    );
}
