//! Moodle: one path for all, the function in a parameter, a token that is one too, and errors with status 200.

use bursar::mock::{Lms, MOODLE_TOKEN};

use crate::support::{
    bursar::Bursar,
    http::{Answer, exchange},
    peer::{Peer, Reply, Seen},
    program::{Daemon, bursar_in, write_private},
    simulated::Simulated,
};

const SERVER: &str = "/webservice/rest/server.php";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const COURSES: &str = "moodlewsrestformat=json&wsfunction=core_course_get_courses";

/// `more`: further settings of the server, routes behind the usual ones.
fn toml(lms: &str, token: &str, server: &str, routes: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
{server}

[admin]
listen = "127.0.0.1:0"
control = "127.0.0.1:0"

[credentials.moodle]
profile = "moodle"
token = "{token}"

[upstreams.moodle]
base_url = "{lms}"
credential = "moodle"

[[upstreams.moodle.routes]]
name = "courses"
functions = ["core_course_get_courses", "core_course_get_contents"]
scopes = []
{routes}
"#
    )
}

fn before(peer: &Peer) -> Bursar {
    Bursar::ready(&toml(&peer.url(), "canary-moodle-token", "", ""))
}

fn post(bursar: &Bursar, target: &str, form: &str) -> Answer {
    bursar.request("POST", target, FORM, form)
}

fn sent(peer: &Peer) -> Seen {
    peer.last()
}

#[test]
fn the_token_goes_into_the_form_of_a_post_and_into_the_query_of_a_get_and_never_into_both() {
    let peer = Peer::start(|_| Reply::ok());
    let bursar = before(&peer);

    assert_eq!(post(&bursar, SERVER, COURSES).status, 200);
    let seen = sent(&peer);
    assert_eq!(seen.target(), SERVER);
    let form = format!("wstoken=canary%2Dmoodle%2Dtoken&{COURSES}");
    assert_eq!(seen.text(), form);
    assert_eq!(seen.fields("content-length"), [form.len().to_string()]);
    assert_eq!(seen.fields("authorization"), [""; 0]);

    let call = format!("{SERVER}?{COURSES}");
    assert_eq!(bursar.get(&call).status, 200);
    let seen = sent(&peer);
    assert_eq!(
        seen.target(),
        format!("{call}&wstoken=canary%2Dmoodle%2Dtoken")
    );

    // A POST that names all in its query has an empty form, which takes the token.
    assert_eq!(bursar.request("POST", &call, "", "").status, 200);
    let seen = sent(&peer);
    assert_eq!(seen.target(), call);
    assert_eq!(seen.text(), "wstoken=canary%2Dmoodle%2Dtoken");
    assert_eq!(
        seen.fields("content-type"),
        ["application/x-www-form-urlencoded"]
    );
}

#[test]
fn the_applications_own_token_is_replaced_wherever_it_stands() {
    let peer = Peer::start(|_| Reply::ok());
    let bursar = before(&peer);
    let form = format!("wstoken=placeholder&{COURSES}&WS%54OKEN=too");
    assert_eq!(
        post(&bursar, &format!("{SERVER}?wstoken=placeholder"), &form).status,
        200
    );
    let seen = sent(&peer);
    assert_eq!(seen.target(), SERVER);
    assert_eq!(
        seen.text(),
        format!("wstoken=canary%2Dmoodle%2Dtoken&{COURSES}")
    );

    let call = format!("{SERVER}?wstoken=placeholder&{COURSES}");
    assert_eq!(bursar.get(&call).status, 200);
    let expected = format!("{SERVER}?{COURSES}&wstoken=canary%2Dmoodle%2Dtoken");
    assert_eq!(sent(&peer).target(), expected);
}

#[test]
fn a_function_without_a_route_is_refused_and_nothing_leaves() {
    let peer = Peer::start(|_| Reply::ok());
    let bursar = before(&peer);
    let evil = "wsfunction=core_user_delete_users";
    let call = format!("{SERVER}?{COURSES}");
    let twice = format!("{COURSES}&{evil}");
    let nul = format!("{COURSES}&wsfunction\0=core_user_delete_users");
    // PHP joins a line without a colon to the one before it.
    let parts = "--b\r\nContent-Disposition: form-data; name=\"wsfun\r\nction\"\r\n\r\n\
                 core_user_delete_users\r\n--b--\r\n";
    let harmless = "--b\r\nContent-Disposition: form-data; name=\"courseid\"\r\n\r\n7\r\n--b--\r\n";
    let multipart = "Content-Type: multipart/form-data; boundary=b\r\n";
    let json = "Content-Type: application/json\r\n";
    let gzip = "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n";
    for (method, target, fields, body, code) in [
        ("GET", format!("{SERVER}?{evil}"), "", "", "route_denied"),
        (
            "POST",
            format!("{SERVER}?{evil}"),
            FORM,
            "x=1",
            "route_denied",
        ),
        ("POST", SERVER.to_owned(), FORM, evil, "route_denied"),
        ("POST", SERVER.to_owned(), FORM, "x=1", "route_denied"),
        (
            "POST",
            SERVER.to_owned(),
            FORM,
            &twice,
            "query_parameter_denied",
        ),
        ("POST", call.clone(), FORM, evil, "query_parameter_denied"),
        (
            "POST",
            SERVER.to_owned(),
            FORM,
            &nul,
            "query_parameter_denied",
        ),
        ("POST", call.clone(), multipart, parts, "route_denied"),
        ("POST", call.clone(), multipart, harmless, "route_denied"),
        ("POST", call.clone(), json, "{}", "route_denied"),
        ("POST", call.clone(), gzip, COURSES, "route_denied"),
        ("POST", call.clone(), "", evil, "route_denied"),
        ("PUT", call, "", "", "route_denied"),
        (
            "POST",
            format!("{SERVER}/x?{COURSES}"),
            "",
            "",
            "route_denied",
        ),
        (
            "GET",
            "/webservice/soap/server.php".to_owned(),
            "",
            "",
            "route_denied",
        ),
        (
            "GET",
            "/login/token.php?username=a".to_owned(),
            "",
            "",
            "route_denied",
        ),
        (
            "GET",
            "/pluginfile.php/1".to_owned(),
            "",
            "",
            "route_denied",
        ),
    ] {
        let answer = bursar.request(method, &target, fields, body);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (403, Some(code)),
            "{method} {target} {body}"
        );
        assert!(!answer.text().contains("delete_users"));
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_form_over_a_mebibyte_is_too_large_whether_it_says_so_or_not() {
    let peer = Peer::start(|_| Reply::ok());
    let bursar = before(&peer);
    let form = format!(
        "{COURSES}&x={}",
        "y".repeat(1024 * 1024 - COURSES.len() - 3)
    );
    assert_eq!(form.len(), 1024 * 1024);
    assert_eq!(post(&bursar, SERVER, &form).status, 200);
    assert_eq!(
        sent(&peer).text().len(),
        form.len() + "wstoken=canary%2Dmoodle%2Dtoken&".len()
    );

    let answer = post(&bursar, SERVER, &format!("{form}y"));
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (413, Some("body_too_large"))
    );
    let chunked = exchange(
        bursar.proxy,
        format!(
            "POST {SERVER} HTTP/1.1\r\nHost: {}\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{form}y\r\n0\r\n\r\n",
            bursar.proxy,
            form.len() + 1
        ),
    );
    assert_eq!(chunked.status, 413);
    assert_eq!(peer.calls(), 1);
}

#[test]
fn the_route_of_a_call_has_its_limit_its_scopes_and_its_name() {
    let peer = Peer::start(|_| Reply::ok());
    let more = r#"
max_body = "64B"
[[upstreams.moodle.routes]]
name = "users"
functions = ["core_user_get_users"]
methods = ["POST"]
scopes = ["people:read"]
"#;
    let bursar = Bursar::ready(&toml(&peer.url(), "canary-moodle-token", "", more));
    let answer = post(&bursar, SERVER, &format!("{COURSES}&x={}", "y".repeat(64)));
    assert_eq!(
        (answer.status, answer.json()["route"].as_str()),
        (413, Some("courses"))
    );
    let answer = post(&bursar, SERVER, "wsfunction=core_user_get_users");
    let problem = answer.json();
    assert_eq!(problem["code"], "insufficient_scope");
    assert_eq!(problem["missing_scopes"][0], "people:read");
    assert_eq!(peer.calls(), 0);
    assert_eq!(post(&bursar, SERVER, COURSES).status, 200);
    let decisions = r#"bursar_policy_decisions_total{decision="allow",reason="ok",route="courses",upstream="moodle"}"#;
    bursar.until("counted", |bursar| bursar.metric(decisions) > 0.5);
}

/// The real answers: success, dead token, missing function, missing capability, throttle, and none that parses.
#[test]
fn the_answers_of_moodle_pass_unchanged_and_only_a_dead_token_is_counted() {
    let lms = Simulated::start(Lms::Moodle);
    let text = toml(
        &format!("http://{}", lms.address),
        MOODLE_TOKEN,
        "",
        "[[upstreams.moodle.routes]]\nname = \"users\"\nfunctions = [\"core_user_get_users_by_field\", \"nonesuch\"]\nscopes = []\n",
    );
    let bursar = Bursar::ready(&text);
    let unauthorized =
        |bursar: &Bursar| bursar.metric(r#"bursar_upstream_unauthorized_total{upstream="moodle"}"#);
    let answer = post(&bursar, SERVER, COURSES);
    assert_eq!(answer.status, 200);
    assert!(answer.json().is_array(), "{}", answer.text());

    lms.order("on=api,fault=forbidden,times=1");
    let refused = post(&bursar, SERVER, COURSES);
    assert_eq!(
        (refused.status, refused.json()["errorcode"].as_str()),
        (200, Some("nopermissions"))
    );
    let unknown = post(
        &bursar,
        SERVER,
        "moodlewsrestformat=json&wsfunction=nonesuch",
    );
    assert_eq!(unknown.status, 200);
    assert!(unknown.json()["exception"].is_string());
    lms.order("on=api,fault=throttle,times=1");
    assert_eq!(post(&bursar, SERVER, COURSES).status, 429);
    lms.order("on=api,fault=garbage,times=1");
    assert_eq!(post(&bursar, SERVER, COURSES).status, 200);
    assert!(unauthorized(&bursar) < 0.5);

    lms.order("on=api,fault=unauthorized,times=3");
    for _ in 0..3 {
        let dead = post(&bursar, SERVER, COURSES);
        assert_eq!(
            (dead.status, dead.json()["errorcode"].as_str()),
            (200, Some("invalidtoken"))
        );
        assert_eq!(dead.field("proxy-status"), None);
    }
    assert!((unauthorized(&bursar) - 3.0).abs() < 0.5);
    let counters = lms.counters();
    assert_eq!((counters.token_requests, counters.faults), (0, 6));
    assert_eq!(post(&bursar, SERVER, COURSES).status, 200);
}

#[test]
fn a_file_is_fetched_by_its_path_and_the_token_has_another_name_there() {
    let lms = Simulated::start(Lms::Moodle);
    let text = toml(
        &format!("http://{}", lms.address),
        MOODLE_TOKEN,
        "",
        "[[upstreams.moodle.routes]]\nname = \"files\"\nmethods = [\"GET\"]\n\
         path = \"/webservice/pluginfile.php/{*rest}\"\nscopes = []\n",
    );
    let bursar = Bursar::ready(&text);
    let contents = format!(
        "{SERVER}?moodlewsrestformat=json&wsfunction=core_course_get_contents&courseid=6607"
    );
    let listed = bursar.get(&contents).json();
    let url = listed[0]["modules"][0]["contents"][0]["fileurl"]
        .as_str()
        .expect("a file is listed");
    let (_, path) = url.split_once("/webservice/").unwrap();
    let path = format!("/webservice/{path}");
    let file = bursar.get(&format!("{path}?token=placeholder&forcedownload=1"));
    assert_eq!(file.status, 200, "{path}: {}", file.text());
    lms.order("on=api,fault=unauthorized,times=1");
    bursar.get(&path);
    let unauthorized = r#"bursar_upstream_unauthorized_total{upstream="moodle"}"#;
    assert!((bursar.metric(unauthorized) - 1.0).abs() < 0.5);
}

#[test]
fn at_the_scripts_for_files_no_form_stands_before_path_and_token() {
    let peer = Peer::start(|_| Reply::ok());
    let routes = "[[upstreams.moodle.routes]]\nname = \"files\"\nmethods = [\"GET\", \"POST\"]\n\
                  path = \"/webservice/{*rest}\"\nscopes = []\n";
    let bursar = Bursar::ready(&toml(&peer.url(), "canary-moodle-token", "", routes));
    let file = "/webservice/pluginfile.php/1/a";
    let upload = "/webservice/upload.php";
    let parts =
        "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n7\r\n--b--\r\n";
    let multipart = "Content-Type: multipart/form-data; boundary=b\r\n";
    let other = format!("{file}?file=/2/b");
    for (method, target, fields, body, code) in [
        ("GET", other.as_str(), "", "", "query_parameter_denied"),
        ("POST", file, FORM, "file=/2/b", "query_parameter_denied"),
        ("POST", file, multipart, parts, "query_parameter_denied"),
        ("POST", upload, FORM, "token=mine", "route_denied"),
        ("POST", upload, "", "token=mine", "route_denied"),
    ] {
        let answer = bursar.request(method, target, fields, body);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (403, Some(code)),
            "{method} {target} {body}"
        );
    }
    assert_eq!(peer.calls(), 0);
    assert_eq!(bursar.request("POST", upload, multipart, parts).status, 200);
    let seen = sent(&peer);
    assert_eq!(seen.text(), parts);
    assert_eq!(
        seen.target(),
        "/webservice/upload.php?token=canary%2Dmoodle%2Dtoken"
    );
}

#[test]
fn a_dead_token_is_said_once_and_the_token_never() {
    let peer = Peer::start(|seen| {
        let body = match seen.target().contains("pluginfile") {
            true => r#"{"error":"Token invalide","errorcode":"invalidtoken"}"#,
            false => {
                r#"{"exception":"moodle_exception","errorcode":"invalidtoken","message":"Token invalide"}"#
            }
        };
        let echo = seen.target().to_owned();
        Reply::with_fields(
            200,
            &[("Content-Type", "application/json"), ("Location", &echo)],
            body,
        )
    });
    let directory = tempfile::tempdir().unwrap();
    let text = toml(
        &peer.url(),
        "canary-moodle-token",
        "",
        "[log]\nrequests = \"all\"\nlevel = \"trace\"\n",
    );
    let daemon = Daemon::start(directory.path(), &text);
    for _ in 0..5 {
        let target = format!("{SERVER}?{COURSES}");
        let answer = exchange(
            daemon.proxy,
            format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.proxy),
        );
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("location"), None, "it repeats the token");
        assert!(answer.text().contains("invalidtoken"));
    }
    let (code, said) = daemon.stop();
    assert_eq!(code, 0);
    assert_eq!(said.matches("errorcode invalidtoken").count(), 1, "{said}");
    assert!(said.contains("token_file"));
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn report_mode_lets_a_function_through_and_says_so() {
    let peer = Peer::start(|_| Reply::ok());
    let text = toml(&peer.url(), "canary-moodle-token", "mode = \"report\"", "");
    let bursar = Bursar::ready(&text);
    assert_eq!(
        post(&bursar, SERVER, "wsfunction=core_user_delete_users").status,
        200
    );
    assert!(sent(&peer).text().starts_with("wstoken=canary"));
    let reported = r#"bursar_policy_decisions_total{decision="report",reason="no_route",route="_unmatched",upstream="moodle"}"#;
    bursar.until("reported", |bursar| bursar.metric(reported) > 0.5);
    let two = post(&bursar, SERVER, "wsfunction=a&wsfunction=b");
    assert_eq!(two.json()["code"], "query_parameter_denied");
}

#[test]
fn route_test_takes_the_function_of_a_url() {
    let directory = tempfile::tempdir().unwrap();
    let text = toml("https://moodle.example", "canary-moodle-token", "", "");
    let file = write_private(&directory.path().join("bursar.toml"), &text);
    let test = |url: &str| {
        let arguments = [
            "route",
            "test",
            "--config",
            file.to_str().unwrap(),
            "POST",
            url,
        ];
        bursar_in(directory.path(), &[], &arguments)
    };
    let allowed = test(&format!(
        "https://moodle.example{SERVER}?wsfunction=core_course_get_courses"
    ));
    assert_eq!(allowed.code, 0, "{}", allowed.said());
    assert!(
        allowed.stdout.contains("route     courses"),
        "{}",
        allowed.stdout
    );
    let denied = test(&format!("{SERVER}?wsfunction=core_user_delete_users"));
    assert_eq!(denied.code, 3);
    assert!(
        denied.stdout.contains("No route takes the function"),
        "{}",
        denied.stdout
    );
    let unnamed = test(SERVER);
    assert_eq!(unnamed.code, 3);
    assert!(
        unnamed.stdout.contains("names no function"),
        "{}",
        unnamed.stdout
    );
}

#[test]
fn check_says_what_an_administrator_has_to_enter() {
    let directory = tempfile::tempdir().unwrap();
    let text = toml("https://moodle.example", "canary-moodle-token", "", "");
    let file = write_private(&directory.path().join("bursar.toml"), &text);
    let arguments = ["check", "--offline", "--config", file.to_str().unwrap()];
    let checked = bursar_in(directory.path(), &[], &arguments);
    let said = checked.said();
    assert!(
        said.contains("functions core_course_get_contents core_course_get_courses;"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
}
