//! What the token endpoints answer, and what becomes of logins.

use std::time::Duration;

use super::{
    Stage, THROTTLED, for_each_system, on_each_stage,
    systems::{Renewal, System},
};

const REAUTH_REQUIRED: &str = "bursar_token_reauth_required{credential=\"app\"}";

/// A bursar whose first token request gets what `fault` makes of it.
fn meeting(fault: &str, system: &'static System) -> Stage {
    let site = (system.site)();
    // What the login brings has to be renewed at once.
    let one_second = Duration::from_secs(1);
    site.lms().control.set_next_lifetime(one_second);
    site.log_in();
    if !system.has_logins() {
        site.lms()
            .control
            .set_next_lifetime(Duration::from_hours(1));
    }
    site.lms().order(&format!("on=token,times=1,fault={fault}"));
    Stage::before(system, site)
}

#[test]
fn a_malformed_token_answer_costs_one_more_token_request_unless_it_may_have_spent_a_refresh_token()
{
    for fault in ["garbage", "html", "empty"] {
        for_each_system(move |system| {
            let stage = meeting(fault, system);
            match system.renewal {
                Renewal::Never => {
                    stage.passes(200, "");
                    stage.assert_token_requests(0);
                }
                Renewal::Request => {
                    stage.passes(200, "");
                    stage.assert_token_requests(2);
                    stage.assert_refreshes("invalid_response", 1.0);
                }
                Renewal::RefreshToken => {
                    stage.bursar.until("it has asked again", |_| {
                        stage.lms().counters().token_requests == 3
                    });
                    stage.passes(200, "");
                    stage.assert_refreshes("invalid_response", 1.0);
                }
                Renewal::RefreshTokenOnce => {
                    stage.bursar.until("a person is called", |_| {
                        stage.permitted().code() == "reauthorization_required"
                    });
                    stage.assert_metric(REAUTH_REQUIRED, 1.0);
                    stage.assert_token_requests(2);
                    stage.assert_refreshes("rejected", 1.0);
                }
            }
        });
    }
}

#[test]
fn a_token_request_that_is_throttled_is_made_again_and_spends_no_refresh_token() {
    for_each_system(|system| {
        let stage = meeting("throttle", system);
        let requests = match system.renewal {
            Renewal::Never => 0,
            Renewal::Request => 2,
            Renewal::RefreshTokenOnce | Renewal::RefreshToken => 3,
        };
        stage.bursar.until("it has asked again", |_| {
            stage.lms().counters().token_requests == requests
        });
        stage.passes(200, "");
        stage.assert_refreshes("throttled", f64::from(u8::from(requests > 0)));
        stage.assert_upstream(THROTTLED, 0.0);
    });
}

#[test]
fn a_login_that_has_ended_calls_for_a_person_once_and_the_next_login_heals_it() {
    on_each_stage(|stage| {
        if !stage.system.has_logins() {
            return;
        }
        stage.lms().control.revoke_grants();
        // The LMS's words, as long as the access token is not known to have ended.
        let (status, words) = stage.system.dead_token;
        for _ in 0..3 {
            stage.passes(status, words);
        }
        // The login, and the one refresh token that it brought.
        stage.assert_token_requests(2);
        stage.assert_metric(REAUTH_REQUIRED, 1.0);
        stage.assert_refreshes("rejected", 1.0);
        stage.site.log_in();
        stage.bursar.until("the new login is taken over", |_| {
            stage.permitted().status == 200
        });
        stage.assert_metric(REAUTH_REQUIRED, 0.0);
        stage.assert_token_requests(3);
        let counters = stage.lms().counters();
        assert_eq!(counters.refresh_tokens_presented_again(), 0);
    });
}

#[test]
fn an_application_whose_login_and_token_have_ended_is_told_to_call_a_person() {
    for_each_system(|system| {
        if !system.has_logins() {
            return;
        }
        let site = (system.site)();
        site.lms().control.set_next_lifetime(Duration::from_secs(1));
        site.log_in();
        site.lms().control.revoke_grants();
        let stage = Stage::before(system, site);
        stage.bursar.until("a person is called", |_| {
            stage.permitted().code() == "reauthorization_required"
        });
        let answer = stage.permitted();
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 503);
        assert!(detail.contains("bursar login app"), "{detail}");
        stage.assert_token_requests(2);
        stage.assert_metric(REAUTH_REQUIRED, 1.0);
    });
}
