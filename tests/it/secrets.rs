use std::fmt::Write as _;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use crate::support::{
    authorization_server::{AuthorizationServer, refusal, token},
    bursar::{Extra, admin_get, toml},
    http::exchange,
    peer::{Peer, Reply},
    program::Daemon,
};

/// The forms in which a secret could hide (R86).
fn forms(secret: &str) -> Vec<String> {
    let mut hex = String::new();
    for byte in secret.bytes() {
        write!(hex, "{byte:02x}").unwrap();
    }
    let mut forms = vec![
        secret.to_owned(),
        hex.clone(),
        hex.to_uppercase(),
        percent(secret),
    ];
    // Base64 of a longer text that holds the secret, at each of the three alignments: only the middle is certain.
    for padding in ["", "a", "ab"] {
        for encoded in [
            STANDARD.encode(format!("{padding}{secret}")),
            URL_SAFE_NO_PAD.encode(format!("{padding}{secret}")),
        ] {
            let middle: String = encoded
                .chars()
                .skip(4)
                .take(encoded.len().saturating_sub(10))
                .collect();
            forms.push(middle);
        }
    }
    forms
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02X}").unwrap();
        out
    })
}

#[test]
fn no_secret_appears_in_any_output_at_trace_level() {
    let access_token = "canary-access-token-5b1f";
    let lms = Peer::start(|seen| match seen.target() {
        "/api/401" => Reply::new(401, "text/plain", "no"),
        "/api/broken" => Reply::BytesThenClose(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n".to_vec(),
        ),
        "/api/echo" => Reply::with_fields(
            200,
            &[("X-Echo", seen.field("authorization").unwrap_or_default())],
            "ok",
        ),
        _ => Reply::ok(),
    });
    let server = AuthorizationServer::start();
    server.then(|seen| {
        refusal(
            400,
            &format!(
                "echo {} {}",
                seen.field("authorization").unwrap_or_default(),
                seen.text()
            ),
        )
    });
    server.then(|seen| Reply::new(500, "text/plain", seen.head.clone()));
    for _ in 0..20 {
        server.then(move |_| token(access_token, 3600));
    }
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[log]\nlevel = \"trace\"\nrequests = \"all\"\n{}",
        toml(&lms, &server, Extra::default())
    );
    let daemon = Daemon::start(directory.path(), &text);
    let own = daemon.proxy;

    let mut seen = String::new();
    for (target, fields) in [
        (
            "/api/x?sessionpassword=canary-query-value",
            "Authorization: Bearer canary-of-the-application\r\n",
        ),
        ("/api/401", ""),
        ("/api/broken", ""),
        ("/api/echo", ""),
        (
            "/nowhere/canary-path-segment",
            "Cookie: canary-cookie-value\r\n",
        ),
        ("/api/x?access_token=canary-query-value", ""),
    ] {
        let answer = exchange(
            own,
            format!("GET {target} HTTP/1.1\r\nHost: {own}\r\n{fields}\r\n"),
        );
        seen.push_str(&format!("{answer:?}\n{}\n", answer.text()));
    }
    for path in ["/metrics", "/readyz?verbose"] {
        seen.push_str(&admin_get(daemon.admin, path).text());
    }
    seen.push_str(&admin_get(daemon.control, "/api/v1/status").text());
    let arguments =
        std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid().as_raw_nonzero()))
            .unwrap_or_default();
    seen.push_str(&arguments);
    let (code, log) = daemon.stop();
    assert_eq!(code, 0);
    assert!(
        log.contains(r#""level":"debug""#),
        "the log was at its most talkative"
    );
    seen.push_str(&log);

    for secret in [
        "canary-client-secret",
        access_token,
        "canary-of-the-application",
        "canary-query-value",
        "canary-cookie-value",
        "canary-path-segment",
        "canary-description",
    ] {
        for form in forms(secret) {
            let place = seen.find(&form).map(|at| {
                seen[at.saturating_sub(200)..]
                    .chars()
                    .take(400)
                    .collect::<String>()
            });
            assert!(
                place.is_none(),
                "{secret} shows as {form}: {}",
                place.unwrap_or_default()
            );
        }
    }
}
