//! Faults on demand: what goes wrong, where, and how often.
//!
//! A fault is written as a JSON object (the control endpoint) or as `name=value` pairs with commas between them (`--fault`).
//! Both are read by the same rules, and a setting that does not go with the fault is refused.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::scope::ScopeSet;

/// Where a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The token endpoint.
    Token,
    /// The authorization endpoint and its consent page.
    Authorize,
    /// The revocation endpoint.
    Revoke,
    /// The LMS's API.
    Api,
    /// The server of pre-signed objects (DAP).
    Object,
}

/// A fault that is to happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub(super) on: Place,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
    /// Before anything else happens.
    pub(super) delay: Duration,
    /// With what the path has to begin.
    pub(super) path: String,
    /// How often it still happens; `None`: until it is cleared.
    pub(super) left: Option<u32>,
}

/// The names of the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Slow,
    Hang,
    Close,
    Reset,
    CloseMidBody,
    AnswerLost,
    AnswerTruncated,
    Status,
    Throttle,
    Garbage,
    Empty,
    Html,
    Redirect,
    Oversize,
    OauthError,
    NoExpiresIn,
    ExpiresIn,
    Lifetime,
    Scope,
    Unauthorized,
    Forbidden,
    EchoToken,
}

/// What a fault does to an exchange.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Nothing but the delay.
    None,
    /// There is never an answer.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// The same with a TCP reset.
    Reset,
    /// The right answer, of which half arrives.
    CloseMidBody,
    /// Everything is done as it was asked, and then the connection is closed without the answer; with a status, a gateway says that instead.
    AnswerLost(Option<StatusCode>),
    /// Everything is done as it was asked, and half of the answer is sent as if it were all.
    AnswerTruncated,
    /// Another status. `None` as field: no Retry-After.
    Status(StatusCode, Option<HeaderValue>),
    /// The LMS's own way of saying "too many requests".
    Throttle(StatusCode, Option<HeaderValue>),
    /// A 200 with this type and body.
    Body(&'static str, &'static str),
    /// A 302 to another place.
    Redirect(HeaderValue),
    /// A token answer of a megabyte.
    Oversize,
    /// An error of RFC 6749 section 5.2.
    OauthError(String),
    /// The right answer with another `expires_in`; `None`: without it.
    ExpiresIn(Option<Value>),
    /// A token that lives only so long, and says so.
    Lifetime(Duration),
    /// A token with these scopes at most.
    Scope(ScopeSet),
    /// The LMS's 401 for a dead token.
    Unauthorized,
    /// The LMS's 403 for a missing permission.
    Forbidden,
    /// The right answer with the request's Authorization in a field.
    EchoToken,
}

/// Why a fault cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultError(String);

/// A fault as people write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    on: Option<Place>,
    fault: Option<Kind>,
    times: Option<u32>,
    path: Option<String>,
    delay: Option<String>,
    status: Option<u16>,
    retry_after: Option<Value>,
    location: Option<String>,
    error: Option<String>,
    #[serde(default, deserialize_with = "present")]
    expires_in: Option<Value>,
    lifetime: Option<String>,
    scope: Option<String>,
}

/// `null` is a value of `expires_in` too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Fault {
    /// The names of all faults.
    pub const NAMES: [&str; 22] = [
        "slow",
        "hang",
        "close",
        "reset",
        "close_mid_body",
        "answer_lost",
        "answer_truncated",
        "status",
        "throttle",
        "garbage",
        "empty",
        "html",
        "redirect",
        "oversize",
        "oauth_error",
        "no_expires_in",
        "expires_in",
        "lifetime",
        "scope",
        "unauthorized",
        "forbidden",
        "echo_token",
    ];

    /// Reads a JSON object.
    ///
    /// # Errors
    ///
    /// It is not a fault; the text says why.
    pub fn from_json(value: &Value) -> Result<Self, FaultError> {
        let written = Written::deserialize(value).map_err(|error| FaultError(error.to_string()))?;
        written.into_fault()
    }

    /// As it is shown.
    pub(super) fn to_json(&self) -> Value {
        let mut shown = json!({ "on": self.on, "fault": self.kind });
        if let Value::Object(shown) = &mut shown {
            if let Some(left) = self.left {
                shown.insert("times".to_owned(), left.into());
            }
            if !self.path.is_empty() {
                shown.insert("path".to_owned(), self.path.clone().into());
            }
        }
        shown
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        match serde_json::to_value(self.kind) {
            Ok(Value::String(name)) => name,
            // Unit variants are strings.
            _ => String::new(),
        }
    }
}

impl Effect {
    /// Lets [`Effect::ExpiresIn`] happen to the member `name` of a successful answer.
    pub(super) fn restate_lifetime(&self, answer: &mut Value, name: &str) {
        if let (Self::ExpiresIn(stated), Value::Object(answer)) = (self, answer) {
            match stated {
                Some(stated) => answer.insert(name.to_owned(), stated.clone()),
                None => answer.remove(name),
            };
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    /// Reads `on=token,fault=status,status=503,times=2`, or JSON.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        if text.trim_start().starts_with('{') {
            let value: Value =
                serde_json::from_str(text).map_err(|error| FaultError(error.to_string()))?;
            return Self::from_json(&value);
        }
        let mut object = Map::new();
        for pair in text.split(',') {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                FaultError(format!(
                    "{pair:?} is no setting: write on=token,fault=status,status=503"
                ))
            })?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            if object.insert(name.trim().to_owned(), value).is_some() {
                return Err(FaultError(format!("{name} stands twice")));
            }
        }
        Self::from_json(&Value::Object(object))
    }
}

impl Written {
    fn into_fault(mut self) -> Result<Fault, FaultError> {
        let on = self.on.ok_or_else(|| {
            FaultError("on is missing: token, authorize, revoke, api or object".to_owned())
        })?;
        let kind = self
            .fault
            .ok_or_else(|| FaultError("fault is missing".to_owned()))?;
        let delay = self.delay.take();
        if kind == Kind::Slow && delay.is_none() {
            return Err(missing("delay"));
        }
        let delay = delay.map_or(Ok(Duration::ZERO), |text| duration("delay", &text))?;
        let effect = self.effect(kind)?;
        let only_on_token = matches!(
            effect,
            Effect::Oversize | Effect::ExpiresIn(_) | Effect::Lifetime(_) | Effect::Scope(_)
        );
        let only_on_api = matches!(
            effect,
            Effect::Unauthorized | Effect::Forbidden | Effect::EchoToken
        );
        if (only_on_token && on != Place::Token) || (only_on_api && on != Place::Api) {
            return Err(FaultError(format!(
                "this fault happens on {} only",
                if only_on_token { "token" } else { "api" }
            )));
        }
        if matches!(effect, Effect::OauthError(_)) && matches!(on, Place::Api | Place::Object) {
            return Err(FaultError(
                "this fault happens on token, authorize and revoke only".to_owned(),
            ));
        }
        if self.times == Some(0) {
            return Err(FaultError(
                "times is at least 1; without it, until it is cleared".to_owned(),
            ));
        }
        if let Some(name) = self.leftover() {
            return Err(FaultError(format!("{name} does not go with this fault")));
        }
        Ok(Fault {
            on,
            kind,
            effect,
            delay,
            path: self.path.unwrap_or_default(),
            left: self.times,
        })
    }

    fn effect(&mut self, kind: Kind) -> Result<Effect, FaultError> {
        Ok(match kind {
            Kind::Slow => Effect::None,
            Kind::Hang => Effect::Hang,
            Kind::Close => Effect::Close,
            Kind::Reset => Effect::Reset,
            Kind::CloseMidBody => Effect::CloseMidBody,
            Kind::AnswerLost => Effect::AnswerLost(self.status()?),
            Kind::AnswerTruncated => Effect::AnswerTruncated,
            Kind::Status => {
                let status = self.status()?.ok_or_else(|| missing("status"))?;
                Effect::Status(status, self.retry_after()?)
            }
            Kind::Throttle => {
                let status = self.status()?.unwrap_or(StatusCode::TOO_MANY_REQUESTS);
                Effect::Throttle(status, self.retry_after()?)
            }
            Kind::Garbage => Effect::Body("application/json", "{\"access_token\": \"half a js"),
            Kind::Empty => Effect::Body("application/json", ""),
            Kind::Html => Effect::Body(
                "text/html; charset=utf-8",
                "<!doctype html><title>Sign in</title><p>Please sign in to the network.",
            ),
            Kind::Redirect => {
                let location = self.location.take();
                let location = location.unwrap_or_else(|| "https://login.example/".to_owned());
                Effect::Redirect(field("location", &location)?)
            }
            Kind::Oversize => Effect::Oversize,
            Kind::OauthError => {
                let error = self.error.take().ok_or_else(|| missing("error"))?;
                Effect::OauthError(error)
            }
            Kind::NoExpiresIn => Effect::ExpiresIn(None),
            Kind::ExpiresIn => {
                let value = self.expires_in.take();
                Effect::ExpiresIn(Some(value.ok_or_else(|| missing("expires_in"))?))
            }
            Kind::Lifetime => {
                let text = self.lifetime.take().ok_or_else(|| missing("lifetime"))?;
                Effect::Lifetime(duration("lifetime", &text)?)
            }
            Kind::Scope => {
                let text = self.scope.take().ok_or_else(|| missing("scope"))?;
                let scopes = ScopeSet::parse(&text)
                    .map_err(|error| FaultError(format!("scope: {error}")))?;
                Effect::Scope(scopes)
            }
            Kind::Unauthorized => Effect::Unauthorized,
            Kind::Forbidden => Effect::Forbidden,
            Kind::EchoToken => Effect::EchoToken,
        })
    }

    fn status(&mut self) -> Result<Option<StatusCode>, FaultError> {
        let Some(number) = self.status.take() else {
            return Ok(None);
        };
        StatusCode::from_u16(number)
            .ok()
            .filter(|status| (200..600).contains(&status.as_u16()))
            .map(Some)
            .ok_or_else(|| FaultError(format!("{number} is no status of an answer")))
    }

    /// Seconds, a date, or whatever nonsense is wanted.
    fn retry_after(&mut self) -> Result<Option<HeaderValue>, FaultError> {
        let text = match self.retry_after.take() {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        field("retry_after", &text).map(Some)
    }

    /// The name of a setting that nobody took.
    fn leftover(&self) -> Option<&'static str> {
        let settings = BTreeMap::from([
            ("status", self.status.is_some()),
            ("retry_after", self.retry_after.is_some()),
            ("location", self.location.is_some()),
            ("error", self.error.is_some()),
            ("expires_in", self.expires_in.is_some()),
            ("lifetime", self.lifetime.is_some()),
            ("scope", self.scope.is_some()),
        ]);
        let left = settings.into_iter().find(|(_, is_left)| *is_left);
        left.map(|(name, _)| name)
    }
}

fn missing(name: &str) -> FaultError {
    FaultError(format!("{name} is missing, which this fault needs"))
}

fn duration(name: &str, text: &str) -> Result<Duration, FaultError> {
    humantime::parse_duration(text)
        .map_err(|error| FaultError(format!("{name}: {error}; write 500ms or 10s")))
}

fn field(name: &str, text: &str) -> Result<HeaderValue, FaultError> {
    HeaderValue::from_str(text).map_err(|_| FaultError(format!("{name} is no value of a field")))
}

/// The faults that are still to happen, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn to_json(&self) -> Value {
        self.0.iter().map(Fault::to_json).collect()
    }

    /// What happens to a request: the oldest fault that fits.
    pub(super) fn take(&mut self, on: Place, path: &str) -> Option<Fault> {
        let fits = |fault: &Fault| fault.on == on && path.starts_with(&fault.path);
        let index = self.0.iter().position(fits)?;
        let fault = self.0.get_mut(index)?;
        let taken = fault.clone();
        fault.left = fault.left.map(|left| left.saturating_sub(1));
        if fault.left == Some(0) {
            self.0.remove(index);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn pairs_and_json_are_read_alike() {
        for (pairs, json) in [
            (
                "on=token,fault=status,status=503,times=2,retry_after=7",
                r#"{"on":"token","fault":"status","status":503,"times":2,"retry_after":"7"}"#,
            ),
            (
                "on=api,fault=slow,delay=2s,path=/d2l/api/lp",
                r#"{"on":"api","fault":"slow","delay":"2s","path":"/d2l/api/lp"}"#,
            ),
            (
                "on=token,fault=expires_in,expires_in=-1",
                r#"{"on":"token","fault":"expires_in","expires_in":-1}"#,
            ),
        ] {
            assert_eq!(fault(pairs), fault(json));
        }
        let null = r#"{"on":"token","fault":"expires_in","expires_in":null}"#;
        assert_eq!(fault(null).effect, Effect::ExpiresIn(Some(Value::Null)));
    }

    #[test]
    fn every_name_is_that_of_a_fault_and_there_is_no_other() {
        for name in Fault::NAMES {
            assert!(Kind::deserialize(Value::from(name)).is_ok(), "{name}");
        }
        let unknown = Kind::deserialize(Value::from("explode")).unwrap_err();
        let known = unknown.to_string().matches('`').count() / 2 - 1;
        assert_eq!(known, Fault::NAMES.len(), "{unknown}");
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no setting"),
            ("on=token", "fault is missing"),
            ("fault=hang", "on is missing"),
            ("on=lms,fault=hang", "unknown variant"),
            ("on=token,fault=explode", "unknown variant"),
            ("on=token,fault=hang,tmes=1", "unknown field"),
            ("on=token,fault=hang,on=api", "twice"),
            ("on=token,fault=hang,times=0", "at least 1"),
            ("on=token,fault=hang,status=500", "does not go with"),
            ("on=token,fault=status", "status is missing"),
            ("on=token,fault=status,status=99", "no status"),
            ("on=token,fault=slow", "delay is missing"),
            ("on=token,fault=slow,delay=soon", "delay"),
            (
                "on=api,fault=oauth_error,error=x",
                "token, authorize and revoke only",
            ),
            ("on=authorize,fault=lifetime,lifetime=1s", "token only"),
            ("on=token,fault=unauthorized", "api only"),
        ] {
            let refused = text.parse::<Fault>().unwrap_err().to_string();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn a_fault_happens_as_often_as_it_was_ordered_and_where() {
        let mut faults = Faults::default();
        faults.add(fault("on=api,fault=unauthorized,times=2,path=/a"));
        faults.add(fault("on=api,fault=forbidden"));
        let mut taken = |on, path| faults.take(on, path).map(|fault| fault.name());
        assert_eq!(taken(Place::Token, "/a"), None);
        assert_eq!(taken(Place::Api, "/a/1").as_deref(), Some("unauthorized"));
        assert_eq!(taken(Place::Api, "/b").as_deref(), Some("forbidden"));
        assert_eq!(taken(Place::Api, "/a").as_deref(), Some("unauthorized"));
        assert_eq!(taken(Place::Api, "/a").as_deref(), Some("forbidden"));
        faults.clear();
        assert_eq!(faults.take(Place::Api, "/a"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(on=(token|api),)?(fault=[a-z_]{1,12},?)?\\PC{0,20}") {
            let _ = text.parse::<Fault>();
        }
    }
}
