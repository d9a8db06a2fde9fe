//! Blackboard Learn's REST API: who may call and how often, and a little data in its shapes.
//!
//! The token endpoint gives each application one token and gives it again, with what is left of its life, until it expires.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    access::Holder,
    fault::Effect,
    record::bearer,
    reply,
    resources::{COURSES, USERS, email, name},
    store::{GradeKey, State},
};
use crate::{random, scope::ScopeSet};

/// The path of the token endpoint, the real one's.
pub(super) const TOKEN_PATH: &str = "/learn/api/public/v1/oauth2/token";

/// Calls that a group of developers has in 24 hours.
pub(super) const CALLS_PER_DAY: u32 = 10_000;

/// The most that a list holds at once.
const PAGE: usize = 20;

/// The largest body that is read.
const MAX_BODY: usize = 64 * 1024;

const LIMIT: HeaderName = HeaderName::from_static("x-rate-limit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");

/// The successful answer of the token endpoint.
pub(super) fn issue(state: &State, granted: ScopeSet, effect: &Effect) -> Response<Full<Bytes>> {
    let now = state.clock.now();
    let next_lifetime = state.store().take_next_lifetime();
    let lifetime = match effect {
        Effect::Lifetime(lifetime) => Some(*lifetime),
        _ => next_lifetime,
    };
    let again = match lifetime {
        None => state.store().tokens.newest(now),
        Some(_) => None,
    };
    let (token, left) = again.unwrap_or_else(|| {
        let (token, lifetime) = (random::id128(), lifetime.unwrap_or(state.lifetime));
        let expires = now.after(lifetime);
        let holder = Holder::application(granted);
        state
            .store()
            .tokens
            .add(token.clone(), holder, expires, now);
        (token, lifetime)
    });
    let mut answer = json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_in": left.as_secs(),
    });
    effect.restate_lifetime(&mut answer, "expires_in");
    state.count(|counters| counters.tokens_issued += 1);
    reply::json(StatusCode::OK, "application/json", &answer)
}

/// Answers an API call.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let now = state.clock.now();
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Some((_version, segments)) = segments(&path) else {
        return not_found();
    };
    if segments == ["system", "version"] {
        // Open to everybody.
        return ok(&json!({ "learn": { "major": 4000, "minor": 1, "patch": 0, "build": "mock" } }));
    }
    let Some(token) = bearer(&head.headers) else {
        return error(
            StatusCode::UNAUTHORIZED,
            "API request is not authenticated.",
        );
    };
    if state.store().tokens.holder(token, now).is_none() {
        return unauthorized();
    }
    let left = match state.is_unlimited {
        true => Ok(state.calls_per_day),
        false => state.day().spend(1, state.calls_per_day, now),
    };
    match left {
        Err(seconds) => {
            let mut response = with_limits(throttled(), state.calls_per_day, 0);
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
            response
        }
        Ok(left) => {
            let response = resource(state, &head, &segments, body).await;
            with_limits(response, state.calls_per_day, left)
        }
    }
}

/// The version, and what follows it.
fn segments(path: &str) -> Option<(&str, Vec<&str>)> {
    let rest = path.strip_prefix("/learn/api/public/v")?;
    let (version, rest) = rest.split_once('/')?;
    version.parse::<u8>().ok()?;
    Some((version, rest.split('/').collect()))
}

async fn resource(
    state: &State,
    head: &Parts,
    segments: &[&str],
    body: Incoming,
) -> Response<Full<Bytes>> {
    // As everywhere in the mock: an identifier of 403 or 404 gets that answer.
    if segments.contains(&"403") {
        return forbidden();
    }
    let page = Page::of(head);
    let found = match (&head.method, segments) {
        (&Method::GET, ["users"]) => Some(page.cut(USERS.map(user))),
        (&Method::GET, ["users", id]) => user_id(id).map(user),
        (&Method::GET, ["courses"]) => {
            let courses = COURSES.iter().map(|&(id, name)| course(id, name));
            Some(page.cut(courses))
        }
        (&Method::GET, ["courses", id]) => {
            let found = COURSES.iter().find(|(course, _)| *id == internal(*course));
            found.map(|&(id, name)| course(id, name))
        }
        (&Method::GET, ["courses", course, "users"]) => {
            Some(page.cut(USERS.map(|user| membership(course, user))))
        }
        (
            method,
            [
                "courses",
                course,
                "gradebook",
                "columns",
                column,
                "users",
                user,
            ],
        ) => {
            let key: GradeKey = ((*course).into(), (*column).into(), (*user).into());
            match *method {
                Method::GET => user_id(user).map(|_| grade(state, &key)),
                Method::PATCH => return put_grade(state, key, body).await,
                _ => None,
            }
        }
        _ => None,
    };
    found.map_or_else(not_found, |value| ok(&value))
}

/// Where a reader of a long list stands.
struct Page {
    offset: usize,
    path: String,
}

impl Page {
    fn of(head: &Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let offset = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "offset")
            .and_then(|(_, value)| value.parse().ok());
        Self {
            offset: offset.unwrap_or(0),
            path: head.uri.path().to_owned(),
        }
    }

    /// `paging.nextPage` is a path, not a URL.
    fn cut(&self, all: impl Iterator<Item = Value>) -> Value {
        let mut rest = all.skip(self.offset);
        let results: Vec<Value> = rest.by_ref().take(PAGE).collect();
        if rest.next().is_none() {
            return json!({ "results": results });
        }
        let next = format!("{}?offset={}", self.path, self.offset.saturating_add(PAGE));
        json!({ "results": results, "paging": { "nextPage": next } })
    }
}

/// How the primary key of a record is written.
fn internal(id: u64) -> String {
    format!("_{id}_1")
}

/// `_1001_1` or `userName:student.1001`.
fn user_id(text: &str) -> Option<u64> {
    let by_key = || text.strip_prefix('_')?.strip_suffix("_1");
    let id = text.strip_prefix("userName:student.").or_else(by_key)?;
    id.parse().ok().filter(|id| USERS.contains(id))
}

fn user(id: u64) -> Value {
    let (given, family) = name(id);
    json!({
        "id": internal(id),
        "uuid": format!("{id:032x}"),
        "externalId": format!("S{id}"),
        "userName": format!("student.{id}"),
        "studentId": format!("S{id}"),
        "institutionRoleIds": ["STUDENT"],
        "availability": { "available": "Yes" },
        "name": { "given": given, "family": family },
        "contact": { "email": email(id) },
    })
}

fn course(id: u64, name: &str) -> Value {
    json!({
        "id": internal(id),
        "courseId": format!("C{id}"),
        "name": name,
        "organization": false,
        "ultraStatus": "Ultra",
        "availability": { "available": "Yes" },
    })
}

fn membership(course: &str, user: u64) -> Value {
    json!({
        "id": internal(user + 10_000),
        "userId": internal(user),
        "courseId": course,
        "courseRoleId": "Student",
        "availability": { "available": "Yes" },
    })
}

fn grade(state: &State, key: &GradeKey) -> Value {
    let score = state.store().grade(key);
    json!({ "userId": key.2, "columnId": key.1, "score": score, "status": "Graded" })
}

async fn put_grade(state: &State, key: GradeKey, body: Incoming) -> Response<Full<Bytes>> {
    let body = Limited::new(body, MAX_BODY).collect().await;
    let score = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok())
        .and_then(|value| value.get("score")?.as_f64());
    let Some(score) = score else {
        return error(StatusCode::BAD_REQUEST, "score must be a number");
    };
    if user_id(&key.2).is_none() {
        return not_found();
    }
    state.store().put_grade(key.clone(), score.into());
    ok(&grade(state, &key))
}

fn ok(value: &Value) -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, "application/json", value)
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let body = json!({ "status": status.as_u16(), "message": message });
    reply::json(status, "application/json", &body)
}

/// The token is dead or unknown.
pub(super) fn unauthorized() -> Response<Full<Bytes>> {
    error(StatusCode::UNAUTHORIZED, "Bearer token is invalid")
}

/// The application's user lacks a privilege, or the application is disabled.
pub(super) fn forbidden() -> Response<Full<Bytes>> {
    error(
        StatusCode::FORBIDDEN,
        "User does not have the privilege that this request needs",
    )
}

fn not_found() -> Response<Full<Bytes>> {
    error(StatusCode::NOT_FOUND, "The resource was not found")
}

/// The day's calls are used up.
pub(super) fn throttled() -> Response<Full<Bytes>> {
    error(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded")
}

fn with_limits(
    mut response: Response<Full<Bytes>>,
    limit: u32,
    left: u32,
) -> Response<Full<Bytes>> {
    let fields = response.headers_mut();
    fields.insert(LIMIT, HeaderValue::from(limit));
    fields.insert(REMAINING, HeaderValue::from(left));
    response
}
