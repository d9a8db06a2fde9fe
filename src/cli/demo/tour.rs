//! The scripted tour: real requests through bursar, and a check of everything that is claimed.

use std::{
    io,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use super::{
    lanes::Lanes,
    report::Report,
    stage::{CREDENTIAL, Stage, UPSTREAM, call, text_of},
};
use crate::{causes::with_causes, mock::Counters};

/// Short enough to see a refresh, long enough for the steps before it: renewed when about half of it is over.
pub(super) const FIRST_LIFETIME: Duration = Duration::from_secs(8);

/// Requests of the cold start.
const HERD: usize = 50;

/// How long bursar may take until something shows.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

const WHOAMI: &str = "/d2l/api/lp/1.49/users/whoami";
const USER: &str = "/d2l/api/lp/1.49/users/1003";
const GRADE: &str = "/d2l/api/le/1.49/6607/grades/7/values/1003";
const HOME: &str = "/d2l/home";

/// The tour through one stage.
pub(super) struct Tour {
    stage: Stage,
    report: Report,
    /// Every answer so far, to be searched for tokens.
    seen: String,
    denied: u32,
}

impl Tour {
    pub(super) fn new(stage: Stage, report: Report) -> Self {
        Self {
            stage,
            report,
            seen: String::new(),
            denied: 0,
        }
    }

    /// Goes through all steps, even if one fails. Whether every check held.
    pub(super) async fn make(mut self) -> bool {
        let begun = SystemTime::now();
        self.report.say(&format!(
            "A simulated Brightspace with its authorization server on {}, bursar before it on {}.",
            self.stage.mock.address(),
            self.stage.proxy(),
        ));
        let result = self.cold_start().await;
        self.note(result);
        let result = self.permitted().await;
        self.note(result);
        let result = self.no_route().await;
        self.note(result);
        let result = self.insufficient_scope().await;
        self.note(result);
        let result = self.early_refresh().await;
        self.note(result);
        let result = self.healed_401().await;
        self.note(result);
        let result = self.lanes().await;
        self.note(result);
        let result = self.counters().await;
        self.note(result);
        self.nothing_leaked();
        self.end(begun).await
    }

    async fn cold_start(&mut self) -> io::Result<()> {
        self.report.step(&format!(
            "Cold start: {HERD} requests arrive before there is a token"
        ));
        self.report.sent(&format!(
            "{HERD} x GET {WHOAMI}   (the authorization server keeps its answer back)"
        ));
        let proxy = self.stage.proxy();
        let mut herd = JoinSet::new();
        for _ in 0..HERD {
            let proxy = proxy.clone();
            herd.spawn(async move { call(&proxy, Method::GET, WHOAMI, "").await });
        }
        let waiting = self.all_in_flight().await;
        self.report
            .check(&format!("all {HERD} wait inside bursar"), waiting);
        self.stage.open();
        let mut ok = 0_usize;
        while let Some(answer) = herd.join_next().await {
            let answer = answer.map_err(io::Error::other)??;
            ok += usize::from(answer.status() == StatusCode::OK);
            self.remember(&answer);
        }
        let counters = self.stage.mock.counters();
        self.report
            .received(&format!("{ok} x 200, the LMS's answers"));
        self.report
            .check_eq("every request was answered", &ok, &HERD);
        self.report.check_eq(
            "with one single token request",
            &counters.token_requests,
            &1,
        );
        self.report.check_eq(
            "which bursar signed with its own key, found in its public key set",
            &counters.assertions,
            &1,
        );
        Ok(())
    }

    async fn permitted(&mut self) -> io::Result<()> {
        self.report.step("A permitted call");
        let answer = self.send(Method::GET, WHOAMI, "").await?;
        self.report.check_eq(
            "the LMS accepts the token",
            &answer.status(),
            &StatusCode::OK,
        );
        self.report.check(
            "the answer is the LMS's own",
            json_of(&answer).get("UniqueName").is_some(),
        );
        self.report.check(
            "and can be traced (Bursar-Request-Id)",
            answer.headers().contains_key("bursar-request-id"),
        );
        Ok(())
    }

    async fn no_route(&mut self) -> io::Result<()> {
        self.report.step("A call that no route allows");
        self.denied(Method::GET, HOME, "", "route_denied", None)
            .await
    }

    async fn insufficient_scope(&mut self) -> io::Result<()> {
        self.report
            .step("A call that no scope of the allowlist covers");
        self.denied(
            Method::DELETE,
            USER,
            "",
            "insufficient_scope",
            Some("users:userdata:delete"),
        )
        .await?;
        self.report.step(
            "A call whose scope is in the allowlist, but was not granted by the authorization server",
        );
        self.denied(
            Method::PUT,
            GRADE,
            r#"{"GradeObjectType":1,"PointsNumerator":8.5}"#,
            "insufficient_scope",
            Some("grades:gradevalues:write"),
        )
        .await
    }

    async fn early_refresh(&mut self) -> io::Result<()> {
        self.report.step(&format!(
            "The token is renewed before it expires (this one lives for {} s)",
            FIRST_LIFETIME.as_secs()
        ));
        let waited = self.waited().await?;
        let deadline = Instant::now() + PATIENCE;
        let (mut sent, mut ok) = (0_usize, 0_usize);
        loop {
            // Asked before the request goes out: when the loop ends, the new token has been in use.
            let renewed = self.refreshes().await? >= 2.0;
            let answer = call(&self.stage.proxy(), Method::GET, WHOAMI, "").await?;
            sent += 1;
            ok += usize::from(answer.status() == StatusCode::OK);
            self.remember(&answer);
            if renewed || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.report
            .sent(&format!("{sent} x GET {WHOAMI}, all the while"));
        self.report.received(&format!("{ok} x 200"));
        let counters = self.stage.mock.counters();
        self.report
            .check_eq("there is a second token", &counters.tokens_issued, &2);
        self.report.check_eq("no request failed", &ok, &sent);
        let unauthorized = counters.api_calls_with(StatusCode::UNAUTHORIZED);
        self.report
            .check_eq("none was sent with a dead token", &unauthorized, &0);
        let waited_now = self.waited().await?;
        self.report
            .check_eq("and none had to wait for it", &waited_now, &waited);
        Ok(())
    }

    async fn healed_401(&mut self) -> io::Result<()> {
        self.report
            .step("The LMS revokes the token: its 401 is healed by one refresh and one retry");
        let before = self.stage.mock.counters();
        self.stage.mock.control().revoke_tokens();
        let answer = self.send(Method::GET, USER, "").await?;
        let after = self.stage.mock.counters();
        let grown = |count: fn(&Counters) -> u64| count(&after) - count(&before);
        self.report.check_eq(
            "the application sees nothing of it",
            &answer.status(),
            &StatusCode::OK,
        );
        self.report.check_eq(
            "the LMS answered 401 once",
            &grown(|counters| counters.api_calls_with(StatusCode::UNAUTHORIZED)),
            &1,
        );
        self.report.check_eq(
            "and 200 to the retry",
            &grown(|counters| counters.api_calls_with(StatusCode::OK)),
            &1,
        );
        self.report.check_eq(
            "with one new token",
            &grown(|counters| counters.tokens_issued),
            &1,
        );
        Ok(())
    }

    async fn lanes(&mut self) -> io::Result<()> {
        self.report
            .step("Every system has a way in of its own: one call on each");
        self.report
            .say("\nBrightspace, with a service user (client credentials, signed assertions)");
        let answer = self.send(Method::GET, WHOAMI, "").await?;
        self.report.check_eq(
            "the LMS accepts the credential that bursar put on",
            &answer.status(),
            &StatusCode::OK,
        );
        let lanes = Lanes::set().await;
        let lanes = lanes.map_err(|error| io::Error::other(with_causes(&error)))?;
        let shown = lanes.show(&mut self.report).await;
        lanes.strike().await;
        shown
    }

    async fn counters(&mut self) -> io::Result<()> {
        self.report.step("What the metrics say");
        let scrape = self.stage.metrics().await?;
        self.seen.push_str(scrape.text());
        let control = self.stage.control();
        let status = call(&control, Method::GET, "/api/v1/status", "").await?;
        self.remember(&status);

        let issued = self.stage.mock.counters().tokens_issued;
        let credential = ("credential", CREDENTIAL);
        let upstream = ("upstream", UPSTREAM);
        let mut expect = |claim: &str, name: &str, labels: &[(&str, &str)], value: f64| {
            for line in scrape.series(name, labels) {
                self.report.received(line);
            }
            self.report
                .check_eq(claim, &scrape.sum(name, labels), &value);
        };
        expect(
            "as many token requests succeeded as tokens were issued",
            "bursar_token_refreshes_total",
            &[credential, ("result", "success")],
            counted(issued),
        );
        expect(
            "a usable token is held",
            "bursar_token_valid",
            &[credential],
            1.0,
        );
        expect(
            "the LMS refused one token",
            "bursar_upstream_unauthorized_total",
            &[upstream],
            1.0,
        );
        expect(
            "every refusal of this tour was counted",
            "bursar_policy_decisions_total",
            &[upstream, ("decision", "deny")],
            self.denied.into(),
        );
        self.report
            .check_eq("the status can be read", &status.status(), &StatusCode::OK);
        Ok(())
    }

    fn nothing_leaked(&mut self) {
        self.report
            .step("No token has left bursar towards the application");
        let mock = &self.stage.mock;
        let leaked = mock.finds_token_in(&self.seen) || mock.finds_token_in(self.report.text());
        self.report.check(
            "no answer, metric or status holds one, nor does this page",
            !leaked,
        );
    }

    async fn end(mut self, begun: SystemTime) -> bool {
        self.report.step("The end");
        let ended = self.stage.strike().await;
        self.report.check("bursar drains and stops", ended);
        let took = begun.elapsed().unwrap_or_default().as_secs_f64();
        self.report.say(&format!("The tour took {took:.1} s."));
        self.report.verdict()
    }

    /// A call that bursar answers itself, and that never reaches the LMS.
    async fn denied(
        &mut self,
        method: Method,
        target: &str,
        body: &'static str,
        code: &str,
        missing: Option<&str>,
    ) -> io::Result<()> {
        let before = self.stage.mock.counters().api_calls_total();
        let answer = self.send(method, target, body).await?;
        self.denied += 1;
        let after = self.stage.mock.counters().api_calls_total();
        let problem = json_of(&answer);
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let field = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
        self.report.check(
            "bursar answers with a problem of its own",
            answer.status() == StatusCode::FORBIDDEN
                && field("content-type") == Some("application/problem+json")
                && field("proxy-status").is_some_and(|value| value.starts_with("bursar")),
        );
        self.report
            .check_eq(&format!("its code is {code}"), &text("code"), &Some(code));
        if let Some(scope) = missing {
            self.report.check_eq(
                &format!("it names the missing scope, {scope}"),
                &problem.get("missing_scopes"),
                &Some(&Value::from(vec![scope])),
            );
        }
        self.report
            .check_eq("the LMS has not heard of it", &after, &before);
        Ok(())
    }

    /// Sends a request as the application does, and shows it.
    async fn send(
        &mut self,
        method: Method,
        target: &str,
        body: &'static str,
    ) -> io::Result<Response<Bytes>> {
        self.report.sent(&format!("{method} {target}"));
        let answer = call(&self.stage.proxy(), method, target, body).await?;
        self.report
            .received(&format!("{}\n{}", answer.status(), shown(&answer)));
        self.remember(&answer);
        Ok(answer)
    }

    /// Waits until the whole herd is inside bursar.
    async fn all_in_flight(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(scrape) = self.stage.metrics().await {
                let inside =
                    scrape.sum("bursar_http_requests_in_flight", &[("upstream", UPSTREAM)]);
                if inside >= counted(HERD as u64) {
                    return true;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// How many requests have waited for a token so far.
    async fn waited(&self) -> io::Result<f64> {
        let labels = [("credential", CREDENTIAL), ("outcome", "waited")];
        let scrape = self.stage.metrics().await?;
        Ok(scrape.sum("bursar_token_lookups_total", &labels))
    }

    /// How many tokens bursar has received so far.
    async fn refreshes(&self) -> io::Result<f64> {
        let labels = [("credential", CREDENTIAL), ("result", "success")];
        let scrape = self.stage.metrics().await?;
        Ok(scrape.sum("bursar_token_refreshes_total", &labels))
    }

    fn remember(&mut self, answer: &Response<Bytes>) {
        for value in answer.headers().values() {
            self.seen
                .push_str(&String::from_utf8_lossy(value.as_bytes()));
            self.seen.push('\n');
        }
        self.seen.push_str(&text_of(answer));
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.report.broke_off(&error);
        }
    }
}

/// A count as Prometheus has it.
fn counted(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// Bursar's own answers in full, the LMS's only by their beginning.
fn shown(answer: &Response<Bytes>) -> String {
    if answer.status().is_success() {
        let text = text_of(answer);
        let mut line: String = text.chars().take(80).collect();
        if line.len() < text.len() {
            line.push('…');
        }
        return line;
    }
    serde_json::to_string_pretty(&json_of(answer)).unwrap_or_default()
}

/// The body of an answer; `null` where it is no JSON.
fn json_of(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}
