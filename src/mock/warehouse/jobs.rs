//! Queries and the jobs that answer them.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::tables::Format;
use crate::random;

/// How long a job and its objects are there.
const LIFETIME: Duration = Duration::from_hours(24);

/// The oldest make room beyond this number.
const MAX_JOBS: usize = 1_000;

/// What is asked for.
pub(super) struct Query {
    table: String,
    format: Format,
    since: Option<String>,
    until: Option<String>,
    /// By the wall clock since 1970.
    asked: Duration,
}

/// A body that is no query, and where.
pub(in crate::mock) struct Invalid {
    pub(in crate::mock) message: String,
    pub(in crate::mock) line: usize,
    pub(in crate::mock) column: usize,
}

#[derive(Deserialize)]
struct Written {
    format: String,
    mode: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl Invalid {
    pub(in crate::mock) fn json(error: &serde_json::Error) -> Self {
        Self {
            message: error.to_string(),
            line: error.line(),
            column: error.column(),
        }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            line: 1,
            column: 1,
        }
    }
}

impl Query {
    pub(super) fn parse(table: &str, body: &[u8], now: Duration) -> Result<Self, Invalid> {
        let written: Written =
            serde_json::from_slice(body).map_err(|error| Invalid::json(&error))?;
        let format = Format::parse(&written.format).ok_or_else(|| {
            Invalid::whole(format!(
                "format {:?} is not made here: jsonl, csv or tsv",
                written.format
            ))
        })?;
        if let Some(mode) = &written.mode
            && !matches!(mode.as_str(), "expanded" | "condensed")
        {
            return Err(Invalid::whole(format!("there is no mode {mode:?}")));
        }
        for time in [&written.since, &written.until].into_iter().flatten() {
            humantime::parse_rfc3339_weak(time.trim_end_matches("+00:00").trim_end_matches('Z'))
                .map_err(|error| Invalid::whole(format!("{time:?} is no time: {error}")))?;
        }
        Ok(Self {
            table: table.to_owned(),
            format,
            since: written.since,
            until: written.until,
            asked: now,
        })
    }
}

/// A job.
struct Job {
    id: String,
    query: Query,
    /// How often it was asked for.
    asked: u32,
}

impl Job {
    /// Its only object.
    fn object(&self) -> String {
        format!("{}-0", self.id)
    }

    fn to_json(&self) -> Value {
        let expires_at = rfc3339(self.query.asked.saturating_add(LIFETIME));
        let status = match self.asked {
            0 => "waiting",
            1 => "running",
            _ => "complete",
        };
        let mut job = json!({ "id": self.id, "status": status, "expires_at": expires_at });
        if let (Value::Object(job), "complete") = (&mut job, status) {
            job.insert("objects".to_owned(), json!([{ "id": self.object() }]));
            job.insert("schema_version".to_owned(), 1.into());
            let now = || rfc3339(self.query.asked);
            match &self.query.since {
                None => {
                    job.insert("at".to_owned(), now().into());
                }
                Some(since) => {
                    let until = self.query.until.clone().unwrap_or_else(now);
                    job.insert("since".to_owned(), since.clone().into());
                    job.insert("until".to_owned(), until.into());
                }
            }
        }
        job
    }
}

/// All jobs.
#[derive(Default)]
pub(super) struct Jobs(VecDeque<Job>);

impl Jobs {
    /// Makes a job.
    pub(super) fn start(&mut self, query: Query) -> Value {
        let job = Job {
            id: random::id128(),
            query,
            asked: 0,
        };
        let shown = job.to_json();
        if self.0.len() >= MAX_JOBS {
            self.0.pop_front();
        }
        self.0.push_back(job);
        shown
    }

    /// Asks for a job, which moves it on.
    pub(super) fn ask(&mut self, id: &str) -> Option<Value> {
        let job = self.0.iter_mut().find(|job| job.id == id)?;
        job.asked = job.asked.saturating_add(1);
        Some(job.to_json())
    }

    /// The table and the format of an object that exists by now.
    pub(super) fn made(&self, object: &str) -> Option<(String, Format)> {
        let job = self.0.iter().find(|job| job.object() == object)?;
        (job.asked > 1).then(|| (job.query.table.clone(), job.query.format))
    }
}

fn rfc3339(wall: Duration) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(wall);
    at.map_or_else(String::new, |at| {
        humantime::format_rfc3339_seconds(at).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn query(body: &str) -> Result<Query, String> {
        Query::parse("users", body.as_bytes(), NOW).map_err(|invalid| invalid.message)
    }

    #[test]
    fn a_job_waits_runs_and_is_complete_and_only_then_has_objects() {
        let mut jobs = Jobs::default();
        let job = jobs.start(query(r#"{"format":"csv"}"#).unwrap());
        let id = job["id"].as_str().unwrap();
        assert_eq!(job["status"], "waiting");
        let running = jobs.ask(id).unwrap();
        assert_eq!(running["status"], "running");
        assert!(running.get("objects").is_none() && jobs.made(&format!("{id}-0")).is_none());
        let complete = jobs.ask(id).unwrap();
        assert_eq!(complete["status"], "complete");
        assert_eq!(complete["at"], "2027-01-15T08:00:00Z");
        let object = complete["objects"][0]["id"].as_str().unwrap();
        assert_eq!(jobs.made(object), Some(("users".to_owned(), Format::Csv)));
        assert!(jobs.ask("another").is_none());
    }

    #[test]
    fn an_incremental_query_says_from_when_to_when() {
        let mut jobs = Jobs::default();
        let body =
            r#"{"format":"jsonl","mode":"expanded","since":"2026-01-01T00:00:00Z","until":null}"#;
        let job = jobs.start(query(body).unwrap());
        let id = job["id"].as_str().unwrap();
        jobs.ask(id);
        let complete = jobs.ask(id).unwrap();
        assert_eq!(complete["since"], "2026-01-01T00:00:00Z");
        assert_eq!(complete["until"], "2027-01-15T08:00:00Z");
    }

    #[test]
    fn what_is_no_query_is_named() {
        for (body, word) in [
            ("{", "EOF"),
            ("{}", "format"),
            (r#"{"format":"parquet"}"#, "parquet"),
            (r#"{"format":"csv","mode":"odd"}"#, "odd"),
            (r#"{"format":"csv","since":"yesterday"}"#, "yesterday"),
        ] {
            let Err(message) = query(body) else {
                panic!("{body} was accepted");
            };
            assert!(message.contains(word), "{message}");
        }
    }
}
