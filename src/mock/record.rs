//! What was received: for the tests of an application to look at. Tokens and secrets are not in it.

use std::collections::{BTreeMap, VecDeque};

use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde::Serialize;

use super::fault::Place;

/// The oldest make room beyond this number.
const MAX_RECORDS: usize = 1_000;

/// Parameters whose values are as good as a token.
const SECRET_PARAMETERS: [&str; 3] = ["x_c", "x_d", "wstoken"];

/// One request.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    /// Counts from 1.
    pub(super) id: u64,
    on: Place,
    method: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// Of a repeated field the last.
    fields: BTreeMap<String, String>,
    /// Which token it came with, counted from 1; 0: one that was never issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    /// Which refresh token it presented, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<u64>,
    /// The fault that happened to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// Absent while there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What the client must never do.
    #[serde(skip_serializing_if = "Option::is_none")]
    violation: Option<&'static str>,
}

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: VecDeque<Record>,
    last_id: u64,
}

/// Who knows the tokens that were issued.
pub(super) trait Tokens {
    /// Which one it is, counted from 1.
    fn number(&self, token: &str) -> Option<u64>;

    /// Whether the text holds one, or a refresh token or a code.
    fn stand_in(&self, text: &str) -> bool;
}

impl Record {
    pub(super) fn of(
        on: Place,
        method: &Method,
        uri: &Uri,
        fields: &HeaderMap,
        fault: Option<String>,
        tokens: &impl Tokens,
    ) -> Self {
        let hidden = |text: &str| match tokens.stand_in(text) {
            true => "[a token]".to_owned(),
            false => text.to_owned(),
        };
        let mut shown = BTreeMap::new();
        for (name, value) in fields {
            let value = String::from_utf8_lossy(value.as_bytes());
            let value = match *name {
                header::AUTHORIZATION => match value.split_once(' ') {
                    Some((scheme, _)) => format!("{scheme} [redacted]"),
                    None => "[redacted]".to_owned(),
                },
                header::COOKIE | header::PROXY_AUTHORIZATION => "[redacted]".to_owned(),
                _ => hidden(&value),
            };
            shown.insert(name.to_string(), value);
        }
        let token = bearer(fields).map(|token| tokens.number(token).unwrap_or(0));
        Self {
            id: 0,
            on,
            method: method.to_string(),
            path: hidden(uri.path()),
            query: uri.query().map(|query| hidden(&redacted(query))),
            fields: shown,
            token,
            refresh_token: None,
            fault,
            status: None,
            violation: None,
        }
    }
}

impl Record {
    /// Notes which refresh token it presented.
    pub(super) fn presenting(self, refresh_token: Option<u64>) -> Self {
        Self {
            refresh_token,
            ..self
        }
    }
}

impl Records {
    /// Notes a request; its id.
    pub(super) fn add(&mut self, mut record: Record) -> u64 {
        self.last_id += 1;
        record.id = self.last_id;
        if self.records.len() >= MAX_RECORDS {
            self.records.pop_front();
        }
        self.records.push_back(record);
        self.last_id
    }

    /// Notes how it was answered.
    pub(super) fn answered(
        &mut self,
        id: u64,
        status: StatusCode,
        violation: Option<&'static str>,
    ) {
        if let Some(record) = self.records.iter_mut().rev().find(|record| record.id == id) {
            record.status = Some(status.as_u16());
            record.violation = violation;
        }
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
    }

    pub(super) fn all(&self) -> &VecDeque<Record> {
        &self.records
    }
}

/// The query without the values of [`SECRET_PARAMETERS`].
fn redacted(query: &str) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if SECRET_PARAMETERS.contains(&name) => format!("{name}=[redacted]"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

/// The token of a request.
pub(super) fn bearer(fields: &HeaderMap) -> Option<&str> {
    let (scheme, token) = fields
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    struct One;

    impl Tokens for One {
        fn number(&self, token: &str) -> Option<u64> {
            (token == "canary-token").then_some(1)
        }

        fn stand_in(&self, text: &str) -> bool {
            text.contains("canary-token")
        }
    }

    #[test]
    fn no_token_and_no_secret_is_kept_wherever_it_stands() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer canary-token"),
            ("cookie", "canary"),
            ("x-copy", "it is canary-token"),
            ("accept", "text/plain"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let uri = Uri::from_static("/x?access_token=canary-token");
        let record = Record::of(Place::Api, &Method::GET, &uri, &fields, None, &One);
        let shown = serde_json::to_string(&record).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains(r#""accept":"text/plain""#) && shown.contains(r#""token":1"#));
        fields.insert(
            "authorization",
            HeaderValue::from_static("Basic Y2FuYXJ5OmNhbmFyeQ=="),
        );
        let record = Record::of(Place::Token, &Method::POST, &uri, &fields, None, &One);
        assert!(!serde_json::to_string(&record).unwrap().contains("Y2Fu"));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut records = Records::default();
        let uri = Uri::from_static("/x");
        for _ in 0..=MAX_RECORDS {
            let fields = HeaderMap::new();
            records.add(Record::of(
                Place::Api,
                &Method::GET,
                &uri,
                &fields,
                None,
                &One,
            ));
        }
        assert_eq!(records.all().len(), MAX_RECORDS);
        assert_eq!(records.all().front().unwrap().id, 2);
    }
}
