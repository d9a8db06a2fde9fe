//! The pages that a person sees at the authorization endpoint.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::{reply, resources, store::State};
use crate::scope::ScopeSet;

const HTML: &str = "text/html; charset=utf-8";

/// Who can log in: enough for an application that keeps people apart.
const USERS: std::ops::RangeInclusive<u64> = 1001..=1005;

/// "May this application …?", for the request `id`.
pub(super) fn page(state: &State, id: &str, scopes: &ScopeSet) -> Response<Full<Bytes>> {
    let mut asked = String::new();
    for scope in scopes.iter() {
        // Writing into a string does not fail.
        let _ = write!(asked, "<li><code>{}</code>", escaped(scope.as_str()));
    }
    if scopes.is_empty() {
        asked.push_str("<li>everything");
    }
    let mut users = String::new();
    for user in USERS {
        let name = escaped(&resources::full_name(user));
        let _ = write!(users, "<option value=\"{user}\">{name} ({user})</option>");
    }
    let client = escaped(&state.client_id);
    let (path, id) = (
        escaped(&state.authorize_path().unwrap_or_default()),
        escaped(id),
    );
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>A simulated login</title>\
         <h1>A simulated login</h1><p>May <b id=\"client\">{client}</b> have:</p><ul id=\"scopes\">{asked}</ul>\
         <form method=\"post\" action=\"{path}\"><input type=\"hidden\" name=\"request\" value=\"{id}\">\
         <p><label>I am <select name=\"user\" id=\"user\">{users}</select></label>\
         <p><button name=\"decision\" value=\"approve\" id=\"approve\">Approve</button> \
         <button name=\"decision\" value=\"deny\" id=\"deny\">Deny</button></form></html>"
    );
    reply::text(StatusCode::OK, HTML, body)
}

/// What went wrong, for the person: the application must not be told (RFC 6749 section 4.1.2.1).
pub(super) fn error(why: &str) -> Response<Full<Bytes>> {
    tracing::info!("{why}");
    let why = escaped(why);
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>This cannot go on</title>\
         <h1>This cannot go on</h1><p id=\"error\">{why}</html>"
    );
    reply::text(StatusCode::BAD_REQUEST, HTML, body)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_in_a_page() {
        assert_eq!(
            escaped("<a href='x'>\"&amp;\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;amp;&quot;&lt;/a&gt;"
        );
    }
}
