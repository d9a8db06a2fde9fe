//! P1 and P3: exactly one credential, ours, in one field; nothing the application sends adds, removes or moves it.

use crate::support::{bursar::setup, http::exchange};

#[test]
fn credentials_of_the_application_are_replaced_never_added_to() {
    let (lms, _server, bursar) = setup();
    for fields in [
        "Authorization: Bearer mine\r\n",
        "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        "AUTHORIZATION: Basic YTpi\r\nProxy-Authorization: Basic YTpi\r\n",
        "Authorization: \r\n",
    ] {
        assert_eq!(bursar.request("GET", "/api/x", fields, "").status, 200);
        let seen = lms.last();
        assert_eq!(
            seen.fields("authorization"),
            ["Bearer token-1"],
            "{fields:?}"
        );
        assert!(seen.fields("proxy-authorization").is_empty());
    }
}

#[test]
fn connection_cannot_name_our_fields_away() {
    let (lms, _server, bursar) = setup();
    for fields in [
        "Connection: authorization, host, cookie\r\n",
        "Connection:\r\nConnection: x-b, Authorization\r\nX-B: 1\r\n",
        "connection: X-B,,HOST ,authorization\r\nX-B: 1\r\n",
    ] {
        assert_eq!(
            bursar.request("GET", "/api/x", fields, "").status,
            200,
            "{fields:?}"
        );
        let seen = lms.last();
        assert_eq!(
            seen.fields("authorization"),
            ["Bearer token-1"],
            "{fields:?}"
        );
        assert_eq!(seen.fields("host").len(), 1);
        assert!(seen.fields("connection").is_empty());
        assert!(seen.fields("x-b").is_empty());
    }
}

#[test]
fn hop_by_hop_and_spoofable_fields_stop_here() {
    let (lms, _server, bursar) = setup();
    let fields = "Keep-Alive: 1\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: X\r\nForwarded: for=1\r\nX-Forwarded-For: 1\r\n\
        x-forwarded-HOST: evil\r\nX-Real-IP: 1\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-HTTP-Method-Override: DELETE\r\n\
        X-HTTP-Method: DELETE\r\nX-Method-Override: DELETE\r\nProxy: http://evil\r\nX-InstAuth: mine\r\nX-Kept: 1\r\n";
    assert_eq!(bursar.request("GET", "/api/x", fields, "").status, 200);
    let seen = lms.last();
    for name in [
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "proxy",
    ] {
        assert!(seen.fields(name).is_empty(), "{name}");
    }
    assert_eq!(seen.fields("x-kept"), ["1"]);
}

#[test]
fn credential_parameters_in_the_query_are_refused() {
    let (lms, _server, bursar) = setup();
    for query in [
        "access_token=x",
        "ACCESS_TOKEN=x",
        "a=1&access%5Ftoken=x",
        "wstoken=x",
        "x_a=1",
        "X_T=1",
        "_method=DELETE",
        "as_user_id=1",
        "As%5FUser_Id=1",
        "access_token[]=1",
        "access_token%5B%5D=1",
        "a=1&a=2&_method=PUT",
        "access_token",
    ] {
        let answer = bursar.get(&format!("/api/x?{query}"));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "query_parameter_denied"),
            "{query}"
        );
    }
    assert_eq!(lms.connections(), 0);
    assert_eq!(
        bursar.get("/api/x?x=/nowhere&token=1&method=2").status,
        200,
        "other parameters are nobody's business"
    );
}

#[test]
fn a_request_that_has_been_here_before_is_a_loop() {
    let (lms, _server, bursar) = setup();
    assert_eq!(
        bursar
            .request("GET", "/api/x", "Via: 1.1 elsewhere\r\n", "")
            .status,
        200
    );
    let via = lms.last().fields("via").join(", ");
    assert!(via.starts_with("1.1 elsewhere"), "{via}");

    let answer = bursar.request("GET", "/api/x", &format!("Via: {via}\r\n"), "");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (508, "loop_detected")
    );
}

#[test]
fn web_pages_are_refused() {
    let (lms, _server, bursar) = setup();
    for fields in [
        "Origin: http://evil.test\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Access-Control-Request-Method: PUT\r\n",
        "Access-Control-Request-Headers: x\r\n",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let answer = bursar.request(method, "/api/x", fields, "");
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "browser_request_denied"),
                "{fields:?}"
            );
            assert!(
                answer
                    .fields
                    .iter()
                    .all(|(name, _)| !name.to_lowercase().starts_with("access-control-"))
            );
        }
    }
    assert_eq!(lms.connections(), 0);
}

#[test]
fn a_trailer_never_becomes_a_field() {
    let (lms, _server, bursar) = setup();
    let answer = exchange(
        bursar.proxy,
        format!(
            "POST /api/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: Bearer evil\r\n\r\n",
            bursar.proxy
        ),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(lms.last().fields("authorization"), ["Bearer token-1"]);
}
