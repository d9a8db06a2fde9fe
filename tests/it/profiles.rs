//! Every profile against the simulated LMS that it is for: what the application gets, how many token requests it takes, and what
//! the metrics say, for each answer that the provider is known to give.

mod renewals;
mod systems;

use std::thread;

use http::StatusCode;

use crate::support::{bursar::Bursar, http::Answer, simulated::Simulated};
use systems::{Call, Renewal, SYSTEMS, Site, System, Ungranted};

const UNAUTHORIZED: &str = "bursar_upstream_unauthorized_total";
const THROTTLED: &str = "bursar_upstream_throttled_total";

/// One system, its LMS, and a bursar before it.
struct Stage {
    system: &'static System,
    site: Site,
    bursar: Bursar,
}

impl Stage {
    fn before(system: &'static System, site: Site) -> Self {
        let bursar = Bursar::start(&site.toml());
        Self {
            system,
            site,
            bursar,
        }
    }

    const fn lms(&self) -> &Simulated {
        self.site.lms()
    }

    fn call(&self, call: Call) -> Answer {
        let field = match call.body {
            "" => "",
            _ => "Content-Type: application/json\r\n",
        };
        self.bursar
            .request(call.method, call.target, field, call.body)
    }

    fn permitted(&self) -> Answer {
        self.call(self.system.permitted)
    }

    /// The permitted call, and the LMS's answer to it, as it was.
    fn passes(&self, status: u16, words: &str) -> Answer {
        let answer = self.permitted();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(answer.field("proxy-status"), None);
        answer
    }

    fn assert_token_requests(&self, expected: u64) {
        let counters = self.lms().counters();
        assert_eq!(counters.token_requests, expected, "{counters:?}");
    }

    fn assert_metric(&self, series: &str, expected: f64) {
        let value = self.bursar.metric(series);
        assert!((value - expected).abs() < 0.1, "{series} {value}");
    }

    fn assert_upstream(&self, name: &str, expected: f64) {
        self.assert_metric(&format!(r#"{name}{{upstream="lms"}}"#), expected);
    }

    fn assert_refreshes(&self, result: &str, expected: f64) {
        let labels = format!(r#"{{credential="app",result="{result}"}}"#);
        self.assert_metric(&format!("bursar_token_refreshes_total{labels}"), expected);
    }
}

/// Runs a test for every system, all at once.
fn for_each_system(test: impl Fn(&'static System) + Copy + Send + 'static) {
    let running: Vec<_> = SYSTEMS
        .iter()
        .map(|system| {
            let thread = thread::Builder::new().name(system.name.to_owned());
            thread.spawn(move || test(system)).unwrap()
        })
        .collect();
    let failed: Vec<_> = SYSTEMS
        .iter()
        .zip(running)
        .filter_map(|(system, thread)| thread.join().is_err().then_some(system.name))
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// The same with a bursar that has its token.
fn on_each_stage(test: fn(&Stage)) {
    for_each_system(move |system| {
        let site = (system.site)();
        site.log_in();
        let stage = Stage::before(system, site);
        stage.bursar.until_ready();
        test(&stage);
    });
}

#[test]
fn a_permitted_call_is_answered_with_one_token_for_all() {
    on_each_stage(|stage| {
        for _ in 0..3 {
            stage.passes(200, "");
        }
        stage.assert_token_requests(stage.system.token_requests());
        assert_eq!(stage.lms().counters().api_calls_with(StatusCode::OK), 3);
        // A login's own token is used, and where there are no token requests none is counted.
        let refreshed = stage.system.renewal == Renewal::Request;
        stage.assert_refreshes("success", f64::from(u8::from(refreshed)));
        let hits = r#"bursar_token_lookups_total{credential="app",outcome="hit"}"#;
        stage.assert_metric(hits, 3.0);
    });
}

#[test]
fn a_dead_token_is_replaced_once_and_the_call_is_answered_where_another_can_be_had() {
    on_each_stage(|stage| {
        stage.lms().control.revoke_tokens();
        let (status, words) = stage.system.dead_token;
        match stage.system.renewal {
            Renewal::Never => {
                stage.passes(status, words);
                stage.assert_token_requests(0);
            }
            _ => {
                stage.passes(200, "");
                stage.assert_token_requests(2);
            }
        }
        stage.assert_upstream(UNAUTHORIZED, 1.0);
        let refresh_tokens: Vec<u64> = stage
            .lms()
            .counters()
            .refresh_tokens
            .into_values()
            .collect();
        match stage.system.renewal {
            // The first is spent, its successor not yet shown.
            Renewal::RefreshTokenOnce => assert_eq!(refresh_tokens, [1, 0]),
            Renewal::RefreshToken => assert_eq!(refresh_tokens, [1]),
            Renewal::Request | Renewal::Never => assert!(refresh_tokens.is_empty()),
        }
    });
}

#[test]
fn a_token_that_stays_dead_passes_the_providers_words_on_and_costs_one_token_request() {
    on_each_stage(|stage| {
        stage.lms().order("on=api,fault=unauthorized");
        let (status, words) = stage.system.dead_token;
        for _ in 0..3 {
            stage.passes(status, words);
        }
        // One for the token, and one to replace it.
        stage.assert_token_requests(2 * stage.system.token_requests());
    });
}

#[test]
fn what_the_allowlist_lacks_never_reaches_the_lms() {
    on_each_stage(|stage| {
        let answer = stage.call(stage.system.not_allowed);
        let code = answer.code();
        assert_eq!((answer.status, &*code), (403, "insufficient_scope"));
        assert_eq!(stage.lms().counters().api_calls_total(), 0);
        stage.assert_token_requests(stage.system.token_requests());
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
fn a_narrower_grant_is_refused_by_who_knows_of_it_and_no_reason_for_another_token() {
    for_each_system(|system| {
        let site = (system.site)();
        site.lms()
            .order("on=token,fault=scope,scope=something:else:read");
        site.log_in();
        let stage = Stage::before(system, site);
        stage.bursar.until_ready();
        let calls = match system.ungranted {
            Ungranted::Stated => {
                let answer = stage.permitted();
                let code = answer.code();
                assert_eq!((answer.status, &*code), (403, "insufficient_scope"));
                0
            }
            Ungranted::Said(status, words) => {
                let answer = stage.passes(status, words);
                assert_eq!(answer.field("www-authenticate"), None);
                1
            }
            Ungranted::Never => {
                stage.passes(200, "");
                1
            }
        };
        assert_eq!(stage.lms().counters().api_calls_total(), calls);
        stage.assert_token_requests(system.token_requests());
        stage.assert_upstream(UNAUTHORIZED, 0.0);
    });
}

#[test]
fn what_no_new_token_cures_passes_and_is_counted_as_what_it_is() {
    on_each_stage(|stage| {
        for says in stage.system.says {
            let counted = |name: &str| {
                let series = format!(r#"{name}{{upstream="lms"}}"#);
                stage.bursar.metric(&series)
            };
            let before = [UNAUTHORIZED, THROTTLED].map(counted);
            stage.lms().order(&format!("on=api,times=1,{}", says.fault));
            let answer = stage.passes(says.status, says.words);
            let (field, value) = says.field;
            assert_eq!(answer.field(field), value, "{}", says.fault);
            let expected = f64::from(u8::from(says.is_throttling));
            stage.assert_upstream(UNAUTHORIZED, before[0]);
            stage.assert_upstream(THROTTLED, before[1] + expected);
        }
        stage.assert_token_requests(stage.system.token_requests());
        stage.passes(200, "");
    });
}

#[test]
fn what_the_lms_says_in_no_form_at_all_passes_as_it_is() {
    on_each_stage(|stage| {
        for (fault, words) in [("garbage", "half a js"), ("html", "sign in"), ("empty", "")] {
            stage.lms().order(&format!("on=api,times=1,fault={fault}"));
            stage.passes(200, words);
        }
        stage.assert_token_requests(stage.system.token_requests());
        stage.assert_upstream(UNAUTHORIZED, 0.0);
    });
}

#[test]
fn an_answer_of_the_lms_that_breaks_off_is_never_completed_by_bursar() {
    on_each_stage(|stage| {
        stage.lms().order("on=api,fault=close_mid_body,times=1");
        let answer = stage.permitted();
        assert!(!answer.complete, "{}", answer.text());
        stage.assert_token_requests(stage.system.token_requests());
    });
}
