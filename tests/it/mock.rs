use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use bursar::mock::{Fault, Lms};

use crate::support::{
    bursar::Bursar,
    http::{Answer, exchange},
    program::{free_port, write_private},
    simulated::Simulated,
};

const WHOAMI: &str = "/d2l/api/lp/1.49/users/whoami";
const GRADE: &str = "/d2l/api/le/1.74/6606/grades/1/values/2";

#[test]
fn whatever_the_first_token_answer_is_the_first_request_still_gets_its_answer() {
    let faults = [
        "close",
        "reset",
        "close_mid_body",
        "garbage",
        "empty",
        "html",
        "redirect",
        "oversize",
        "status,status=500",
        "status,status=503,retry_after=1",
        "throttle",
        "throttle,retry_after=soon",
        "oauth_error,error=temporarily_unavailable",
    ];
    // All at once: each waits for a second.
    let tests: Vec<_> = faults
        .into_iter()
        .map(|fault| {
            thread::spawn(move || {
                let lms = Simulated::start(Lms::Brightspace);
                lms.order(&format!("on=token,times=1,fault={fault}"));
                let bursar = Bursar::start(&lms.brightspace());
                let answer = bursar.get(WHOAMI);
                assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
                let counters = lms.counters();
                assert_eq!(
                    (counters.token_requests, counters.faults),
                    (2, 1),
                    "{fault}"
                );
            })
        })
        .collect();
    for test in tests {
        test.join().unwrap();
    }
}

#[test]
fn a_lifetime_that_is_no_lifetime_costs_one_more_token_request_and_an_odd_one_none() {
    let test = |stated: &'static str, requests: u64| {
        thread::spawn(move || {
            let lms = Simulated::start(Lms::Brightspace);
            lms.order(&format!(
                r#"{{"on":"token","fault":"expires_in","times":1,"expires_in":{stated}}}"#
            ));
            let bursar = Bursar::start(&lms.brightspace());
            let answer = bursar.get(WHOAMI);
            assert_eq!(answer.status, 200, "{stated}: {}", answer.text());
            assert_eq!(lms.counters().token_requests, requests, "{stated}");
        })
    };
    let useless = ["0", "-1", "{}"].map(|stated| test(stated, 2));
    let odd = [r#""3600""#, "1e30", "null", "3599.9"].map(|stated| test(stated, 1));
    for test in useless.into_iter().chain(odd) {
        test.join().unwrap();
    }
}

/// The mock's own 429, which has nothing but `Retry-After`: the application does not see it, and no token is asked for.
#[test]
fn a_get_behind_a_429_of_brightspace_is_held_and_answered() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = Bursar::ready(&format!("{}pace = true\n", lms.brightspace()));
    lms.order("on=api,fault=throttle,retry_after=1,times=1");
    assert_eq!(bursar.get(WHOAMI).status, 429);
    let began = tokio::time::Instant::now();
    let answer = bursar.get(WHOAMI);
    assert_eq!(answer.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(900));
    // The quota as the next answer has it.
    assert_eq!(answer.field("x-request-cost"), Some("10"));
    let metric = |name: &str| bursar.metric(&format!("bursar_upstream_{name}"));
    assert!((metric(r#"request_cost_total{upstream="lms"}"#) - 10.0).abs() < 0.5);
    assert!(metric(r#"rate_limit_remaining{upstream="lms"}"#) > 0.0);
    assert!(metric(r#"rate_limit_reset_timestamp_seconds{upstream="lms"}"#) > 1.7e9);
    assert!((metric(r#"paced_total{outcome="held",upstream="lms"}"#) - 1.0).abs() < 0.5);
    let counters = lms.counters();
    assert_eq!((counters.token_requests, counters.api_calls[&429]), (1, 1));
}

#[test]
fn tokens_that_live_two_seconds_are_renewed_and_no_dead_one_is_sent() {
    let lms = Simulated::start(Lms::Brightspace);
    lms.order("on=token,fault=lifetime,lifetime=2s");
    let bursar = Bursar::ready(&lms.brightspace());
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(5_500) {
        assert_eq!(bursar.get(WHOAMI).status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    let counters = lms.counters();
    assert_eq!(counters.api_calls.get(&401), None, "{counters:?}");
    assert!((3..=6).contains(&counters.tokens_issued), "{counters:?}");
}

#[test]
fn what_was_granted_less_is_refused_here_and_not_at_the_lms() {
    let lms = Simulated::start(Lms::Brightspace);
    lms.order("on=token,fault=scope,scope=users:own_profile:read");
    let bursar = Bursar::ready(&lms.brightspace());
    assert_eq!(bursar.get(WHOAMI).status, 200);
    let refused = bursar.get(GRADE);
    assert_eq!(
        (refused.status, refused.code()),
        (403, "insufficient_scope".to_owned())
    );
    assert_eq!(lms.counters().api_calls_total(), 1);
}

#[test]
fn a_connection_that_is_reset_is_tried_again_for_a_get_and_never_for_a_put() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = Bursar::ready(&lms.brightspace());
    // From here on there is a pooled connection, which may have died of old age: that is why a GET is sent again.
    assert_eq!(bursar.get(WHOAMI).status, 200);
    lms.order("on=api,fault=reset,times=1");
    assert_eq!(bursar.get(WHOAMI).status, 200);
    lms.order("on=api,fault=reset,times=1");
    let put = bursar.request("PUT", GRADE, "Content-Type: application/json\r\n", "{}");
    assert_eq!((put.status, put.code()), (502, "upstream_reset".to_owned()));
    assert_eq!(lms.counters().faults, 2);
}

#[test]
fn a_401_that_no_new_token_cures_costs_one_token_request_and_passes_through() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = Bursar::ready(&lms.brightspace());
    lms.order("on=api,fault=unauthorized");
    for _ in 0..5 {
        let answer = bursar.get(WHOAMI);
        assert_eq!(answer.status, 401);
        assert!(answer.text().contains("parse token"), "the LMS's own words");
    }
    assert_eq!(lms.counters().tokens_issued, 2);
}

#[test]
fn a_header_field_that_echoes_the_token_does_not_reach_the_application() {
    let lms = Simulated::start(Lms::Brightspace);
    let bursar = Bursar::ready(&lms.brightspace());
    lms.order("on=api,fault=echo_token,times=1");
    let answer = bursar.get(WHOAMI);
    assert_eq!(lms.counters().faults, 1);
    assert_eq!(
        (answer.status, answer.field("x-debug-authorization")),
        (200, None)
    );
}

#[test]
fn a_dap_query_goes_through_and_its_object_is_fetched_past_bursar_without_a_credential() {
    let lms = Simulated::start(Lms::Dap);
    let scopes = r#""dap:tables:read", "dap:queries:create", "dap:jobs:read", "dap:objects:read""#;
    let bursar = Bursar::ready(&lms.toml("instructure", "dap", scopes, ""));
    let post = |path: &str, body: &str| -> Answer {
        bursar.request("POST", path, "Content-Type: application/json\r\n", body)
    };
    assert_eq!(
        bursar.get("/dap/query/canvas/table").json()["tables"][3],
        "users"
    );
    let job = post("/dap/query/canvas/table/users/data", r#"{"format":"csv"}"#).json();
    let job = format!("/dap/job/{}", job["id"].as_str().unwrap());
    assert_eq!(bursar.get(&job).json()["status"], "running");
    let complete = bursar.get(&job).json();
    let object = complete["objects"][0]["id"].as_str().unwrap();
    let urls = post("/dap/object/url", &format!(r#"[{{"id":"{object}"}}]"#)).json();
    let url = urls["urls"][object]["url"].as_str().unwrap();
    let url = url::Url::parse(url).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
    assert_ne!(address, lms.address);
    let target = format!("{}?{}", url.path(), url.query().unwrap());
    let file = exchange(
        address,
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    );
    assert_eq!(file.status, 200);
    // Whoever asks bursar for it by mistake gets a refusal, and the credential goes nowhere.
    assert_eq!(bursar.get(&target).status, 403);
    let counters = lms.counters();
    assert_eq!((counters.object_requests, counters.violations), (1, 0));
    assert_eq!(counters.tokens_issued, 1);
}

/// The page, and the first block of a language in it.
fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/mock.md");
    fs::read_to_string(path).unwrap()
}

fn block(page: &str, language: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n```{language}\n")).unwrap();
    rest.split("\n```").next().unwrap().to_owned()
}

#[test]
fn every_fault_is_documented_with_an_example_that_can_be_ordered() {
    let page = page();
    let mut documented = BTreeSet::new();
    for row in page.lines().filter(|line| line.contains("| `on=")) {
        let mut code = row.split('`').skip(1).step_by(2);
        let (name, example) = (code.next().unwrap(), code.next().unwrap());
        assert!(example.contains(&format!("fault={name}")), "{example}");
        assert!(example.parse::<Fault>().is_ok(), "{example}");
        documented.insert(name);
    }
    assert_eq!(documented, BTreeSet::from(Fault::NAMES));
}

#[test]
fn the_script_in_the_documentation_survives() {
    let directory = tempfile::tempdir().unwrap();
    let page = page();
    let (mut configuration, mut script) = (block(&page, "toml"), block(&page, "sh"));
    for documented in [8080, 9400, 9401, 9464, 9465] {
        let (documented, free) = (format!("127.0.0.1:{documented}"), free_port().to_string());
        configuration = configuration.replace(&documented, &free);
        script = script.replace(&documented, &free);
    }
    write_private(&directory.path().join("bursar.toml"), &configuration);
    let program = Path::new(env!("CARGO_BIN_EXE_bursar"));
    let script = format!("PATH={:?}:$PATH\n{script}", program.parent().unwrap());
    let has_curl = Command::new("curl").arg("--version").output();
    if has_curl.is_err() {
        // The script is for machines that have it; what it shows is tested above.
        return;
    }
    let finished = Command::new("sh")
        .args(["-c", &script])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, log) = (
        String::from_utf8_lossy(&finished.stdout),
        String::from_utf8_lossy(&finished.stderr),
    );
    assert!(
        finished.status.success() && said.ends_with("survived\n"),
        "{said}\n{log}"
    );
}
