//! The data behind the query API of DAP: tables, the jobs that query them, the URLs of what they made, and how often each
//! call may be made.

mod gzip;
mod jobs;
mod tables;
mod urls;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::clock::Moment;
pub(super) use jobs::Invalid;
use jobs::{Jobs, Query};
pub(super) use tables::{NAMES as TABLES, NAMESPACE, schema};
use urls::Urls;

const WINDOW: Duration = Duration::from_mins(1);

/// What the query API remembers.
#[derive(Default)]
pub(super) struct Warehouse {
    jobs: Jobs,
    urls: Urls,
    /// Per call the start of its minute, and how often it was made in it.
    windows: BTreeMap<Call, (Duration, u32)>,
}

/// The calls, each with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Tables,
    Schema,
    Query,
    Job,
    Objects,
}

impl Call {
    /// How often it may be made in a minute.
    const fn limit(self) -> u32 {
        match self {
            Self::Tables | Self::Query => 5,
            Self::Schema | Self::Job => 500,
            Self::Objects => 200,
        }
    }
}

impl Warehouse {
    /// Counts a call.
    ///
    /// # Errors
    ///
    /// There were too many in this minute: the seconds until the next one.
    pub(super) fn count(&mut self, call: Call, now: Moment) -> Result<(), u64> {
        let (start, count) = self.windows.entry(call).or_insert((now.boot, 0));
        if now.boot.saturating_sub(*start) >= WINDOW {
            (*start, *count) = (now.boot, 0);
        }
        if *count >= call.limit() {
            let left = WINDOW.saturating_sub(now.boot.saturating_sub(*start));
            return Err(left.as_secs().saturating_add(1));
        }
        *count += 1;
        Ok(())
    }

    /// Starts the job that answers a query; what is said of it.
    ///
    /// # Errors
    ///
    /// The body is no query.
    pub(super) fn query(
        &mut self,
        table: &str,
        body: &[u8],
        now: Moment,
    ) -> Result<Value, Invalid> {
        Query::parse(table, body, now.wall).map(|query| self.jobs.start(query))
    }

    /// Asks for a job, which moves it on.
    pub(super) fn ask(&mut self, job: &str) -> Option<Value> {
        self.jobs.ask(job)
    }

    /// Path and query of a URL for an object, if it exists by now.
    pub(super) fn sign(&mut self, object: &str, now: Moment) -> Option<String> {
        let of = self.jobs.made(object)?;
        Some(self.urls.sign(object, of, now))
    }

    /// The file that path and query of a URL are the right to.
    pub(super) fn file(&self, path: &str, query: &str, now: Moment) -> Option<Vec<u8>> {
        self.urls.file(path, query, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_a_limit_of_its_own_and_the_minute_ends() {
        let at = |seconds| Moment {
            wall: Duration::from_secs(seconds),
            boot: Duration::from_secs(seconds),
        };
        let mut warehouse = Warehouse::default();
        for _ in 0..5 {
            assert_eq!(warehouse.count(Call::Tables, at(10)), Ok(()));
        }
        assert_eq!(warehouse.count(Call::Tables, at(40)), Err(31));
        assert_eq!(warehouse.count(Call::Schema, at(40)), Ok(()));
        assert_eq!(warehouse.count(Call::Tables, at(70)), Ok(()));
    }
}
