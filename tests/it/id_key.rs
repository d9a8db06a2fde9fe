use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bursar::mock::{Lms, ShiftedClock};
use http::StatusCode;

use crate::support::{
    bursar::{Bursar, admin_get},
    http::{Answer, exchange},
    peer::{Peer, Reply},
    person::{Login, get},
    program::{Daemon, Finished, bursar_in, free_port, write_private},
    simulated::Simulated,
};

const WHOAMI: &str = "/d2l/api/lp/1.49/users/whoami";
const GRADE: &str = "/d2l/api/le/1.74/6607/grades/1/values/1001";
const POINTS: &str = r#"{"GradeObjectType":1,"PointsNumerator":7}"#;

/// An LMS whose clock is some hours ahead: its time in Unix seconds, and how the `x_t` of requests begins that are signed by it.
fn late_lms() -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let thousands = now.as_secs() / 1_000 + 36;
    (format!("{thousands}000"), format!("x_t={thousands}0"))
}

/// What the mock knows unless it is told otherwise.
const APP_KEY: &str = "bursar-mock-app-key";
const USER_KEY: &str = "bursar-mock-user-key";

/// A bursar that signs, before `lms` (an authority).
fn toml(directory: &Path, lms: &str, catalogue: &str) -> String {
    let app_key = write_private(&directory.join("app-key"), APP_KEY);
    let user_key = write_private(&directory.join("user-key"), USER_KEY);
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\n\
         [credentials.keys]\nprofile = \"brightspace-id-key\"\n\
         app_id = \"bursar-mock-app\"\napp_key_file = {app_key:?}\n\
         user_id = \"bursar-mock-user\"\nuser_key_file = {user_key:?}\n\
         [upstreams.lms]\nbase_url = \"http://{lms}\"\ncredential = \"keys\"\n\
         catalogue = \"{catalogue}\"\n\
         scopes = [\"users:own_profile:read\", \"grades:gradevalues:read\", \"grades:gradevalues:write\"]\n"
    )
}

fn before(lms: &Simulated) -> Bursar {
    let directory = tempfile::tempdir().unwrap();
    Bursar::ready(&toml(
        directory.path(),
        &lms.address.to_string(),
        "brightspace",
    ))
}

fn ahead(by: Duration) -> Simulated {
    Simulated::start_with(move |params| params.clock = Arc::new(ShiftedClock::ahead(by)))
}

/// The values of `x_c` and `x_d` in a target.
fn signatures(target: &str) -> Vec<String> {
    let (_, query) = target.split_once('?').unwrap();
    let values: Vec<String> = query
        .split('&')
        .filter_map(|part| {
            part.strip_prefix("x_c=")
                .or_else(|| part.strip_prefix("x_d="))
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(values.len(), 2, "{target}");
    values
}

#[test]
fn a_permitted_request_arrives_signed_and_nobody_is_asked_for_a_token() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = before(&lms);
    for _ in 0..3 {
        let answer = bursar.get(&format!("{WHOAMI}?x=%20y"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let written = bursar.request("PUT", GRADE, "Content-Type: application/json\r\n", POINTS);
    assert_eq!(written.status, 200, "{}", written.text());
    let counters = lms.counters();
    assert_eq!(counters.token_requests, 0);
    assert_eq!(counters.api_calls_with(StatusCode::OK), 4);
    let valid = bursar.metric(r#"bursar_token_valid{credential="keys"}"#);
    assert!((valid - 1.0).abs() < 0.1);
}

#[test]
fn the_allowlist_decides_for_signed_requests_as_for_others() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = before(&lms);
    let answer = bursar.get("/d2l/api/lp/1.49/users/1001");
    assert_eq!(
        (answer.status, &*answer.code()),
        (403, "insufficient_scope")
    );
    assert_eq!(lms.counters().api_calls_total(), 0);
}

#[test]
fn the_applications_own_signature_is_replaced_whatever_the_catalogue() {
    let lms = Peer::start(|_| Reply::ok());
    let directory = tempfile::tempdir().unwrap();
    let text = toml(directory.path(), &lms.address.to_string(), "none")
        + "[[upstreams.lms.routes]]\nname = \"one\"\nmethods = [\"GET\"]\npath = \"/one\"\nscopes = []\n";
    let bursar = Bursar::ready(&text);
    let answer = bursar.request(
        "GET",
        "/one?x_a=theirs&b=1&x_b=theirs&X_C=theirs&x_d=theirs&x_t=1&c=2",
        "Authorization: Bearer theirs\r\n",
        "",
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = lms.last();
    assert!(!seen.head.contains("theirs"), "{}", seen.head);
    assert!(
        seen.target()
            .starts_with("/one?b=1&c=2&x_a=bursar-mock-app&x_c="),
        "{}",
        seen.target()
    );
    assert_eq!(seen.field("authorization"), None);
    let once = ["x_a=", "x_b=", "x_c=", "x_d=", "x_t="];
    assert!(
        once.iter()
            .all(|name| seen.target().matches(name).count() == 1)
    );
}

#[test]
fn a_clock_that_differs_is_learned_from_the_first_refusal() {
    let lms = ahead(Duration::from_mins(10));
    let bursar = before(&lms);
    for _ in 0..3 {
        assert_eq!(bursar.get(WHOAMI).status, 200);
    }
    let written = bursar.request("PUT", GRADE, "Content-Type: application/json\r\n", POINTS);
    assert_eq!(written.status, 200);
    let counters = lms.counters();
    assert_eq!(
        counters.api_calls_with(StatusCode::FORBIDDEN),
        1,
        "{counters:?}"
    );
    let retries = bursar.metric(r#"bursar_upstream_retries_total{reason="clock",upstream="lms"}"#);
    assert!((retries - 1.0).abs() < 0.1, "{retries}");
    let skew = bursar.metric(r#"bursar_clock_skew_seconds{credential="keys"}"#);
    assert!((skew + 600.0).abs() < 5.0, "{skew}");
    let unauthorized = bursar.metric(r#"bursar_upstream_unauthorized_total{upstream="lms"}"#);
    assert!(unauthorized < 0.1, "a wrong clock is no wrong key");
}

#[test]
fn a_request_that_is_not_at_hand_any_more_gets_the_refusal_and_teaches_the_next_one() {
    let (time, signed) = late_lms();
    let refusal = format!("Timestamp out of range {time}");
    let lms = Peer::start(move |seen| match seen.target().contains(&signed) {
        true => Reply::ok(),
        false => Reply::new(403, "text/plain", &refusal),
    });
    let directory = tempfile::tempdir().unwrap();
    let bursar = Bursar::ready(&toml(
        directory.path(),
        &lms.address.to_string(),
        "brightspace",
    ));
    let large = format!("{POINTS}{}", " ".repeat(300_000));
    let refused = bursar.request("PUT", GRADE, "Content-Type: application/json\r\n", &large);
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(lms.calls(), 1);
    assert_eq!(bursar.get(WHOAMI).status, 200);
    assert_eq!(lms.calls(), 2);
}

#[test]
fn a_clock_that_differs_for_ever_costs_one_retry_for_each_request() {
    let (time, signed) = late_lms();
    let refusal = format!("Timestamp out of range {time}");
    let words = refusal.clone();
    let lms = Peer::start(move |_| Reply::new(403, "text/plain", &words));
    let directory = tempfile::tempdir().unwrap();
    let bursar = Bursar::ready(&toml(
        directory.path(),
        &lms.address.to_string(),
        "brightspace",
    ));
    let answer = bursar.get(WHOAMI);
    assert_eq!((answer.status, answer.text()), (403, refusal));
    assert_eq!(lms.calls(), 2);
    let times: Vec<bool> = lms
        .seen()
        .iter()
        .map(|seen| seen.target().contains(&signed))
        .collect();
    assert_eq!(times, [false, true]);
}

#[test]
fn a_refused_key_is_counted_and_its_answer_passes() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = before(&lms);
    lms.control.revoke_tokens();
    for _ in 0..2 {
        let answer = bursar.get(WHOAMI);
        assert_eq!((answer.status, &*answer.text()), (403, "Invalid token"));
    }
    assert_eq!(lms.counters().api_calls_total(), 2, "no retry");
    let unauthorized = bursar.metric(r#"bursar_upstream_unauthorized_total{upstream="lms"}"#);
    assert!((unauthorized - 2.0).abs() < 0.1, "{unauthorized}");
}

#[test]
fn other_refusals_pass_as_they_are_however_long() {
    let long = format!("Timestamp out of range 1700000000{}", "x".repeat(10_000));
    let body = long.clone();
    let lms = Peer::start(move |seen| match seen.target().contains("whoami") {
        true => Reply::new(403, "text/plain", &body),
        false => Reply::new(403, "text/plain", "Not Authorized"),
    });
    let directory = tempfile::tempdir().unwrap();
    let bursar = Bursar::ready(&toml(
        directory.path(),
        &lms.address.to_string(),
        "brightspace",
    ));
    assert_eq!(bursar.get(WHOAMI).text(), long);
    assert_eq!(bursar.get(GRADE).text(), "Not Authorized");
    assert_eq!(lms.calls(), 2);
}

#[test]
fn no_signature_is_in_an_answer_that_repeats_the_request() {
    let lms = Peer::start(|seen| {
        let signature = signatures(seen.target()).remove(0);
        let (location, link) = (
            format!("http://lms.example{}", seen.target()),
            seen.target(),
        );
        let link = format!("<{link}>; rel=\"next\"");
        let fields = [
            ("Location", &*location),
            ("Link", &*link),
            ("X-Echo", &*signature),
            ("X-Kept", "yes"),
        ];
        Reply::with_fields(302, &fields, "")
    });
    let directory = tempfile::tempdir().unwrap();
    let bursar = Bursar::ready(&toml(
        directory.path(),
        &lms.address.to_string(),
        "brightspace",
    ));
    let answer = bursar.get(&format!("{WHOAMI}?a=b"));
    assert_eq!(answer.status, 302);
    let location = format!("http://lms.example{WHOAMI}?a=b");
    assert_eq!(answer.field("location"), Some(&*location));
    assert_eq!((answer.field("link"), answer.field("x-echo")), (None, None));
    assert_eq!(answer.field("x-kept"), Some("yes"));
}

// R50.
#[test]
fn neither_keys_nor_signatures_appear_in_any_output_at_trace_level() {
    let (time, signed) = late_lms();
    let refusal = format!("Timestamp out of range {time}");
    let lms = Peer::start(move |seen| {
        let target = seen.target();
        if target.contains("moment=late") && !target.contains(&signed) {
            Reply::new(403, "text/plain", &refusal)
        } else if target.contains("moment=dead") {
            Reply::new(403, "text/plain", "Invalid token")
        } else if target.contains("moment=broken") {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n";
            Reply::BytesThenClose(head.to_vec())
        } else {
            let location = format!("http://lms.example{target}");
            Reply::with_fields(200, &[("Location", &*location), ("X-Echo", target)], "ok")
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[log]\nlevel = \"trace\"\nrequests = \"all\"\n{}",
        toml(directory.path(), &lms.address.to_string(), "brightspace")
    );
    let daemon = Daemon::start(directory.path(), &text);
    let own = daemon.proxy;
    let mut seen = String::new();
    let mut note = |answer: &Answer| seen.push_str(&format!("{answer:?}\n{}\n", answer.text()));
    for moment in ["good", "broken", "dead", "late", "good"] {
        let head = format!("GET {WHOAMI}?moment={moment} HTTP/1.1\r\nHost: {own}\r\n\r\n");
        note(&exchange(own, head));
    }
    for path in ["/metrics", "/readyz?verbose"] {
        note(&admin_get(daemon.admin, path));
    }
    note(&admin_get(daemon.control, "/api/v1/status"));
    let (code, log) = daemon.stop();
    assert_eq!(code, 0);
    assert!(
        log.contains(r#""level":"debug""#),
        "the log was at its most talkative"
    );
    assert!(
        log.contains("Invalid token") && log.contains("clock differs"),
        "{log}"
    );
    seen.push_str(&log);

    let requests = lms.seen();
    assert!(requests.len() >= 6, "{}", requests.len());
    let mut secrets = vec![APP_KEY.to_owned(), USER_KEY.to_owned()];
    secrets.extend(
        requests
            .iter()
            .flat_map(|request| signatures(request.target())),
    );
    secrets.extend(["x_c=", "x_d="].map(str::to_owned));
    for secret in secrets {
        let place = seen.find(&secret).map(|at| {
            let around = &seen[at.saturating_sub(200)..];
            around.chars().take(400).collect::<String>()
        });
        assert_eq!(place, None, "{secret}");
    }
}

/// A Brightspace at which a person consents, and a directory with the configuration for it.
struct Consent {
    lms: Simulated,
    directory: tempfile::TempDir,
    redirect: String,
}

impl Consent {
    fn new() -> Self {
        Self {
            lms: Simulated::start(Lms::Brightspace),
            directory: tempfile::tempdir().unwrap(),
            redirect: format!("http://{}/callback", free_port()),
        }
    }

    fn toml(&self) -> String {
        let directory = self.directory.path();
        let address = self.lms.address;
        let app_key = write_private(&directory.join("app-key"), APP_KEY);
        let state_key = write_private(
            &directory.join("state-key"),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        );
        let (state, redirect) = (directory.join("state"), &self.redirect);
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
             [admin]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\n\
             [state]\npath = {state:?}\nkey_file = {state_key:?}\n\
             [credentials.keys]\nprofile = \"brightspace-id-key\"\n\
             app_id = \"bursar-mock-app\"\napp_key_file = {app_key:?}\n\
             authorize_url = \"http://{address}/d2l/auth/api/token\"\nredirect_uri = \"{redirect}\"\n\
             [upstreams.lms]\nbase_url = \"http://{address}\"\ncredential = \"keys\"\n\
             catalogue = \"brightspace\"\nscopes = [\"users:own_profile:read\"]\n"
        );
        write_private(&directory.join("bursar.toml"), &text);
        text
    }

    fn run(&self, words: &[&str]) -> Finished {
        self.toml();
        bursar_in(self.directory.path(), &[], words)
    }

    /// A whole login: the simulated person always says yes.
    fn log_in(&self) -> Finished {
        self.toml();
        let login = Login::begin(self.directory.path(), &["keys", "--no-browser"]);
        let target = format!("{}?{}", login.url.path(), login.url.query().unwrap());
        let sent = get(&login.url, &target);
        let back: url::Url = sent.field("location").unwrap().parse().unwrap();
        let target = format!("{}?{}", back.path(), back.query().unwrap());
        let forged = get(
            &back,
            "/callback?x_a=bursar-mock-user&x_b=forged&state=guess",
        );
        assert_eq!(forged.status, 400);
        let page = get(&back, &target);
        assert_eq!(page.status, 200, "{}", page.text());
        login.end()
    }
}

#[test]
fn a_person_consents_once_and_requests_are_signed_in_their_name() {
    let consent = Consent::new();
    let bursar = Bursar::start(&consent.toml());
    let waiting = bursar.get(WHOAMI);
    assert_eq!(
        (waiting.status, &*waiting.code()),
        (503, "reauthorization_required")
    );
    assert_eq!(consent.run(&["check", "--offline"]).code, 4);

    let finished = consent.log_in();
    assert_eq!(finished.code, 0, "{}", finished.said());
    assert!(
        finished.stderr.contains("user bursar-mock-user"),
        "{}",
        finished.stderr
    );
    assert!(!finished.said().contains(USER_KEY) && !finished.said().contains(APP_KEY));
    bursar.until("it has taken the login over", |bursar| {
        bursar.get(WHOAMI).status == 200
    });

    let checked = consent.run(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.said());
    assert!(
        checked
            .stdout
            .contains("keys: logged in as bursar-mock-user"),
        "{}",
        checked.stdout
    );
    let told = consent.run(&["token", "keys"]);
    assert_eq!(told.code, 0, "{}", told.said());
    assert!(told.stdout.contains("signature") && !told.said().contains(USER_KEY));

    assert_eq!(consent.run(&["logout", "keys"]).code, 0);
    assert_eq!(consent.run(&["check", "--offline"]).code, 4);
}

#[test]
fn a_key_that_is_refused_again_and_again_needs_another_login() {
    let consent = Consent::new();
    assert_eq!(consent.log_in().code, 0);
    let bursar = Bursar::ready(&consent.toml());
    assert_eq!(bursar.get(WHOAMI).status, 200);
    consent.lms.control.revoke_tokens();
    let refused: Vec<u16> = (0..3).map(|_| bursar.get(WHOAMI).status).collect();
    assert_eq!(refused, [403; 3], "the LMS's own answers pass");
    bursar.until("a login is asked for", |bursar| {
        bursar.metric(r#"bursar_token_reauth_required{credential="keys"}"#) > 0.5
    });
    assert_eq!(consent.log_in().code, 0);
    bursar.until("nobody is asked for a login any more", |bursar| {
        bursar.metric(r#"bursar_token_reauth_required{credential="keys"}"#) < 0.5
    });
    // And whoever starts now has the new key from the beginning.
    let another = Bursar::ready(&consent.toml());
    assert_eq!(another.get(WHOAMI).status, 200);
}
