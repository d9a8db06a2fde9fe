//! What a Canvas holds: the same invented university, in Canvas's shapes, with lists that are walked by `Link` (RFC 8288).

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    super::{
        access::Holder,
        reply,
        resources::{COURSES, USERS, email, full_name, is_user},
        store::State,
    },
    JSON,
};

/// How many items a page has, unless `per_page` says otherwise, and at most.
const PAGE: usize = 10;
const MAX_PAGE: usize = 100;

/// Answers a call that may be made; `None`: there is no such thing.
pub(super) fn answer(
    state: &State,
    head: &Parts,
    template: &str,
    holder: &Holder,
) -> Option<Response<Full<Bytes>>> {
    let segments: Vec<&str> = head.uri.path().split('/').skip(3).collect();
    let me = holder.owner.map(|owner| owner.user);
    let person = |id: &str| match id {
        "self" => me,
        id => id.parse().ok().filter(|id| is_user(*id)),
    };
    let course = |id: &str| COURSES.iter().find(|(known, _)| known.to_string() == id);
    let reading = head.method == Method::GET || head.method == Method::HEAD;
    let found = match segments.as_slice() {
        ["users", id] if reading => user(person(id)?),
        ["users", id, "profile"] if reading => user(person(id)?),
        ["courses"] if reading => {
            return Some(page(
                state,
                head,
                COURSES.map(|(id, name)| course_of(id, name)),
            ));
        }
        ["courses", id] if reading => {
            let (id, name) = course(id)?;
            course_of(*id, name)
        }
        ["courses", id, "users"] if reading => {
            course(id)?;
            return Some(page(state, head, USERS.map(user)));
        }
        _ => json!({ "template": template, "method": head.method.as_str() }),
    };
    Some(reply::json(StatusCode::OK, JSON, &found))
}

fn user(id: u64) -> Value {
    json!({
        "id": id,
        "name": full_name(id),
        "sortable_name": full_name(id),
        "login_id": email(id),
        "sis_user_id": format!("S{id}"),
    })
}

fn course_of(id: u64, name: &str) -> Value {
    json!({
        "id": id,
        "name": name,
        "course_code": format!("C{id}"),
        "workflow_state": "available",
    })
}

/// One page, with the URLs of the others in `Link`, all of them absolute.
fn page(
    state: &State,
    head: &Parts,
    all: impl IntoIterator<Item = Value>,
) -> Response<Full<Bytes>> {
    let query = head.uri.query().unwrap_or_default();
    let number = |wanted: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == wanted)
            .and_then(|(_, value)| value.parse::<usize>().ok())
            .filter(|number| *number > 0)
    };
    let size = number("per_page").unwrap_or(PAGE).min(MAX_PAGE);
    let current = number("page").unwrap_or(1);
    let all: Vec<Value> = all.into_iter().collect();
    let last = all.len().div_ceil(size).max(1);
    let start = (current - 1).saturating_mul(size);
    let items: Value = all.into_iter().skip(start).take(size).collect();

    let url = |page: usize, rel: &str| {
        let (origin, path) = (state.origin(), head.uri.path());
        format!("<{origin}{path}?page={page}&per_page={size}>; rel=\"{rel}\"")
    };
    let mut links = vec![url(current, "current")];
    if current < last {
        links.push(url(current + 1, "next"));
    }
    if current > 1 {
        links.push(url(current - 1, "prev"));
    }
    links.extend([url(1, "first"), url(last, "last")]);
    let mut response = reply::json(StatusCode::OK, JSON, &items);
    if let Ok(links) = HeaderValue::from_str(&links.join(",")) {
        response.headers_mut().insert(header::LINK, links);
    }
    response
}
