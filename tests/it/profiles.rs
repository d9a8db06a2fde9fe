//! Every profile against the simulated LMS that it is for: what the application gets, how many token requests it takes, and what
//! the metrics say, for each answer that the provider is known to give.

use std::thread;

use bursar::mock::Lms;
use http::StatusCode;

use crate::support::{bursar::Bursar, http::Answer, simulated::Simulated};

/// What differs between the systems.
struct System {
    name: &'static str,
    start: fn() -> Simulated,
    /// A bursar before it, whose allowlist covers [`permitted`](Self::permitted) and no more.
    toml: fn(&Simulated) -> String,
    /// A call that the allowlist covers.
    permitted: Call,
    /// A call of the catalogue that the allowlist does not cover.
    not_allowed: Call,
    /// What the provider says when the token is dead: its status, and words of its body.
    dead_token: (u16, &'static str),
    /// What it says to somebody who lacks a permission.
    forbidden: (u16, &'static str),
    /// What it says to somebody who asks too often.
    throttled: (u16, Option<&'static str>),
    /// Whether the AS says in its answers what it has granted.
    states_grant: bool,
}

#[derive(Clone, Copy)]
struct Call {
    method: &'static str,
    target: &'static str,
    body: &'static str,
}

const fn get(target: &'static str) -> Call {
    Call {
        method: "GET",
        target,
        body: "",
    }
}

const BRIGHTSPACE: System = System {
    name: "brightspace service user",
    start: || Simulated::start(Lms::Brightspace),
    toml: Simulated::brightspace,
    permitted: get("/d2l/api/lp/1.49/users/whoami"),
    not_allowed: get("/d2l/api/lp/1.49/users/1001"),
    dead_token: (401, "parse token"),
    forbidden: (403, "Forbidden"),
    throttled: (429, Some("retry-after")),
    states_grant: true,
};

const DAP: System = System {
    name: "Instructure DAP",
    start: || Simulated::start(Lms::Dap),
    toml: |lms| lms.toml("instructure", "dap", r#""dap:tables:read""#, ""),
    permitted: get("/dap/query/canvas/table"),
    not_allowed: Call {
        method: "POST",
        target: "/dap/object/url",
        body: "[]",
    },
    dead_token: (401, "error"),
    forbidden: (403, "error"),
    throttled: (429, Some("retry-after")),
    states_grant: false,
};

const BLACKBOARD: System = System {
    name: "Blackboard Learn",
    start: || Simulated::start(Lms::Blackboard),
    toml: |lms| {
        lms.toml("blackboard", "none", r#""users:read""#, "")
            + r#"
              [[upstreams.lms.routes]]
              name = "users"
              methods = ["GET"]
              path = "/learn/api/public/v1/users"
              scopes = ["users:read"]
              [[upstreams.lms.routes]]
              name = "courses"
              methods = ["GET"]
              path = "/learn/api/public/v1/courses"
              scopes = ["courses:read"]
              "#
    },
    permitted: get("/learn/api/public/v1/users"),
    not_allowed: get("/learn/api/public/v1/courses"),
    dead_token: (401, "Bearer token is invalid"),
    forbidden: (403, "message"),
    throttled: (429, Some("retry-after")),
    states_grant: false,
};

const SYSTEMS: &[System] = &[BRIGHTSPACE, DAP, BLACKBOARD];

/// One system, its LMS, and a bursar that has its token.
struct Stage {
    system: &'static System,
    lms: Simulated,
    bursar: Bursar,
}

impl Stage {
    fn call(&self, call: Call) -> Answer {
        let field = match call.body {
            "" => "",
            _ => "Content-Type: application/json\r\n",
        };
        self.bursar
            .request(call.method, call.target, field, call.body)
    }

    fn metric(&self, name: &str, labels: &str) -> f64 {
        self.bursar.metric(&format!("{name}{{{labels}}}"))
    }

    fn refreshes(&self, result: &str) -> f64 {
        let labels = format!(r#"credential="app",result="{result}""#);
        self.metric("bursar_token_refreshes_total", &labels)
    }
}

/// Runs a test for every system, all at once.
fn for_each_system(test: fn(&Stage)) {
    let running: Vec<_> = SYSTEMS
        .iter()
        .map(|system| {
            let run = move || {
                let lms = (system.start)();
                let bursar = Bursar::ready(&(system.toml)(&lms));
                test(&Stage {
                    system,
                    lms,
                    bursar,
                });
            };
            let thread = thread::Builder::new().name(system.name.to_owned());
            thread.spawn(run).unwrap()
        })
        .collect();
    let failed: Vec<_> = SYSTEMS
        .iter()
        .zip(running)
        .filter_map(|(system, thread)| thread.join().is_err().then_some(system.name))
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}

#[test]
fn a_permitted_call_is_answered_with_one_token_for_all() {
    for_each_system(|stage| {
        for _ in 0..3 {
            let answer = stage.call(stage.system.permitted);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let counters = stage.lms.counters();
        assert_eq!(counters.tokens_issued, 1, "{counters:?}");
        assert_eq!(counters.api_calls_with(StatusCode::OK), 3);
        assert!((stage.refreshes("success") - 1.0).abs() < 0.1);
        let hits = stage.metric(
            "bursar_token_lookups_total",
            r#"credential="app",outcome="hit""#,
        );
        assert!((hits - 3.0).abs() < 0.1, "{hits}");
    });
}

#[test]
fn a_dead_token_is_replaced_once_and_the_call_is_answered() {
    for_each_system(|stage| {
        stage.lms.control.revoke_tokens();
        let answer = stage.call(stage.system.permitted);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let counters = stage.lms.counters();
        assert_eq!(counters.tokens_issued, 2, "{counters:?}");
        let unauthorized = stage.metric("bursar_upstream_unauthorized_total", r#"upstream="lms""#);
        assert!((unauthorized - 1.0).abs() < 0.1, "{unauthorized}");
    });
}

#[test]
fn a_token_that_stays_dead_passes_the_providers_words_on_and_costs_one_token_request() {
    for_each_system(|stage| {
        stage.lms.order("on=api,fault=unauthorized");
        let (status, words) = stage.system.dead_token;
        for _ in 0..3 {
            let answer = stage.call(stage.system.permitted);
            assert_eq!(answer.status, status);
            assert!(answer.text().contains(words), "{}", answer.text());
            assert_eq!(answer.field("proxy-status"), None);
        }
        assert_eq!(stage.lms.counters().tokens_issued, 2);
    });
}

#[test]
fn what_the_allowlist_lacks_never_reaches_the_lms() {
    for_each_system(|stage| {
        let answer = stage.call(stage.system.not_allowed);
        let code = answer.code();
        assert_eq!((answer.status, &*code), (403, "insufficient_scope"));
        let counters = stage.lms.counters();
        assert_eq!(counters.api_calls_total(), 0, "{counters:?}");
        assert_eq!(counters.tokens_issued, 1);
        let metrics = stage.bursar.metrics();
        let denied = metrics.lines().any(|line| {
            line.starts_with("bursar_policy_decisions_total")
                && line.contains(r#"decision="deny""#)
                && line.contains(r#"reason="scope""#)
                && line.ends_with(" 1")
        });
        assert!(denied, "{metrics}");
    });
}

#[test]
fn what_the_authorization_server_did_not_grant_never_reaches_the_lms() {
    for_each_system(|stage| {
        if !stage.system.states_grant {
            // Its `scope` is a description, and what it says there changes nothing.
            assert_eq!(stage.call(stage.system.permitted).status, 200);
            return;
        }
        stage
            .lms
            .order("on=token,fault=scope,scope=something:else:read");
        let narrowed = Bursar::ready(&(stage.system.toml)(&stage.lms));
        let target = stage.system.permitted.target;
        let answer = narrowed.get(target);
        let code = answer.code();
        assert_eq!((answer.status, &*code), (403, "insufficient_scope"));
        assert_eq!(stage.lms.counters().api_calls_total(), 0);
    });
}

#[test]
fn a_missing_permission_is_the_providers_to_say_and_no_reason_for_another_token() {
    for_each_system(|stage| {
        stage.lms.order("on=api,fault=forbidden,times=1");
        let answer = stage.call(stage.system.permitted);
        let (status, words) = stage.system.forbidden;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(answer.field("proxy-status"), None);
        assert_eq!(stage.lms.counters().tokens_issued, 1);
        let throttled = stage.metric("bursar_upstream_throttled_total", r#"upstream="lms""#);
        assert!(throttled < 0.1, "{throttled}");
    });
}

#[test]
fn throttling_passes_with_its_fields_and_is_counted_and_no_reason_for_another_token() {
    for_each_system(|stage| {
        stage
            .lms
            .order("on=api,fault=throttle,times=1,retry_after=7");
        let answer = stage.call(stage.system.permitted);
        let (status, field) = stage.system.throttled;
        assert_eq!(answer.status, status, "{}", answer.text());
        if let Some(field) = field {
            assert_eq!(answer.field(field), Some("7"));
        }
        assert_eq!(stage.lms.counters().tokens_issued, 1);
        let throttled = stage.metric("bursar_upstream_throttled_total", r#"upstream="lms""#);
        assert!((throttled - 1.0).abs() < 0.1, "{throttled}");
    });
}

#[test]
fn a_malformed_token_answer_costs_one_more_token_request_and_no_call() {
    for fault in ["garbage", "html", "empty"] {
        let systems: Vec<_> = SYSTEMS
            .iter()
            .map(|system| {
                thread::spawn(move || {
                    let lms = (system.start)();
                    lms.order(&format!("on=token,times=1,fault={fault}"));
                    let bursar = Bursar::start(&(system.toml)(&lms));
                    let stage = Stage {
                        system,
                        lms,
                        bursar,
                    };
                    let answer = stage.call(system.permitted);
                    assert_eq!(answer.status, 200, "{}: {}", system.name, answer.text());
                    assert_eq!(stage.lms.counters().token_requests, 2, "{}", system.name);
                    assert!((stage.refreshes("invalid_response") - 1.0).abs() < 0.1);
                })
            })
            .collect();
        for system in systems {
            system.join().unwrap();
        }
    }
}

#[test]
fn an_answer_of_the_lms_that_breaks_off_is_never_completed_by_bursar() {
    for_each_system(|stage| {
        stage.lms.order("on=api,fault=close_mid_body,times=1");
        let answer = stage.call(stage.system.permitted);
        assert!(!answer.complete, "{}", answer.text());
        assert_eq!(stage.lms.counters().tokens_issued, 1);
    });
}
