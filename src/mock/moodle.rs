//! Moodle's web services: one path, the function in a parameter, and errors that arrive with status 200.

mod functions;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{reply, store::State};
use crate::secret::ExposeSecret;

/// Where a name and a password buy a token, the real one's path.
pub(super) const TOKEN_PATH: &str = "/login/token.php";

/// Where functions are called.
const SERVER: &str = "/webservice/rest/server.php";

/// Where files are fetched.
const FILES: &str = "/webservice/pluginfile.php/";

/// The token that an administrator has made, unless another is given. Worth nothing, and so may be known.
pub const TOKEN: &str = "6c1e7a2fbursarmocktoken0d0c2b4e8";

/// The largest form that is read.
const MAX_FORM: usize = 64 * 1024;

const JSON: &str = "application/json; charset=utf-8";

/// An exception, which Moodle answers with status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    class: &'static str,
    code: &'static str,
    message: &'static str,
}

impl Exception {
    const INVALID_TOKEN: Self = Self {
        class: "moodle_exception",
        code: "invalidtoken",
        message: "Invalid token - token not found",
    };
    /// The function exists, but is not in the service of the token.
    const ACCESS: Self = Self {
        class: "webservice_access_exception",
        code: "accessexception",
        message: "Access control exception",
    };
    /// The token's user lacks a capability.
    const NO_PERMISSION: Self = Self {
        class: "required_capability_exception",
        code: "nopermissions",
        message: "Sorry, but you do not currently have permissions to do that (View participants).",
    };
    const NO_RECORD: Self = Self {
        class: "dml_missing_record_exception",
        code: "invalidrecord",
        message: "Can't find data record in database table external_functions.",
    };
    const INVALID_PARAMETER: Self = Self {
        class: "invalid_parameter_exception",
        code: "invalidparameter",
        message: "Invalid parameter value detected",
    };

    fn to_json(self) -> Value {
        json!({ "exception": self.class, "errorcode": self.code, "message": self.message })
    }

    /// Without `moodlewsrestformat=json` all is XML.
    fn to_xml(self) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<EXCEPTION class=\"{}\">\n<ERRORCODE>{}</ERRORCODE>\n\
             <MESSAGE>{}</MESSAGE>\n</EXCEPTION>",
            self.class, self.code, self.message
        )
    }
}

/// The parameters of a call. Of a repeated one the last counts, and the form's before the query's, as in PHP.
#[derive(Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn add(&mut self, encoded: &[u8]) {
        let pairs = url::form_urlencoded::parse(encoded);
        self.0.extend(pairs.into_owned());
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        let (_, value) = pairs.find(|(found, _)| found == name)?;
        Some(value)
    }

    /// The values of a list: `values[0]=…&values[1]=…`.
    fn list(&self, name: &str) -> Vec<&str> {
        let is_item = |found: &str| {
            let rest = found.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'))
        };
        let pairs = self.0.iter().filter(|(found, _)| is_item(found));
        pairs.map(|(_, value)| value.as_str()).collect()
    }
}

/// Answers a call, or hands out a file.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if let Some(file) = path.strip_prefix(FILES) {
        return self::file(state, request.uri().query().unwrap_or_default(), file);
    }
    if path != SERVER {
        let page = "<!DOCTYPE html><title>Error</title><p>The requested URL was not found.";
        return reply::text(StatusCode::NOT_FOUND, "text/html; charset=utf-8", page);
    }
    let Some(parameters) = read(request).await else {
        return reply::empty(StatusCode::BAD_REQUEST);
    };
    let result = call(state, &parameters);
    if parameters.get("moodlewsrestformat") == Some("json") {
        let body = result.unwrap_or_else(Exception::to_json);
        return reply::json(StatusCode::OK, JSON, &body);
    }
    let body = match result {
        Ok(value) => functions::xml(&value),
        Err(exception) => exception.to_xml(),
    };
    reply::text(StatusCode::OK, "application/xml; charset=utf-8", body)
}

/// What the query and the form say.
async fn read(request: Request<Incoming>) -> Option<Parameters> {
    let (head, body) = request.into_parts();
    let mut parameters = Parameters::default();
    parameters.add(head.uri.query().unwrap_or_default().as_bytes());
    if head.method == Method::POST {
        let form = Limited::new(body, MAX_FORM).collect().await.ok()?;
        parameters.add(&form.to_bytes());
    }
    Some(parameters)
}

fn call(state: &State, parameters: &Parameters) -> Result<Value, Exception> {
    // A field named Authorization means nothing here: only the parameter counts.
    let token = parameters.get("wstoken").unwrap_or_default();
    if !is_alive(state, token) {
        return Err(Exception::INVALID_TOKEN);
    }
    let function = parameters.get("wsfunction").unwrap_or_default();
    functions::call(state, function, parameters)
}

fn is_alive(state: &State, token: &str) -> bool {
    let now = state.clock.now();
    state.store().tokens.holder(token, now).is_some()
}

/// Here the parameter's name is `token`, and an error has a status of its own.
fn file(state: &State, query: &str, file: &str) -> Response<Full<Bytes>> {
    let mut parameters = Parameters::default();
    parameters.add(query.as_bytes());
    if !is_alive(state, parameters.get("token").unwrap_or_default()) {
        let body = json!({
            "error": Exception::INVALID_TOKEN.message,
            "errorcode": Exception::INVALID_TOKEN.code,
        });
        return reply::json(StatusCode::FORBIDDEN, JSON, &body);
    }
    match functions::file(file) {
        Some(text) => reply::text(StatusCode::OK, "text/plain", text),
        None => reply::empty(StatusCode::NOT_FOUND),
    }
}

/// Answers a log-in: the client's id and secret stand for name and password.
pub(super) async fn log_in(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(parameters) = read(request).await else {
        return reply::empty(StatusCode::BAD_REQUEST);
    };
    let secret = state.secret.as_ref().map(ExposeSecret::expose_secret);
    let is_known = parameters.get("username") == Some(&state.client_id)
        && secret.is_some()
        && parameters.get("password") == secret
        && parameters.get("service").is_some();
    if !is_known {
        let body = json!({
            "error": "Invalid login, please try again",
            "errorcode": "invalidlogin",
            "stacktrace": null,
            "debuginfo": null,
            "reproductionlink": null,
        });
        return reply::json(StatusCode::OK, JSON, &body);
    }
    let token = state.static_token.expose_secret();
    state.count(|counters| counters.tokens_issued += 1);
    reply::json(
        StatusCode::OK,
        JSON,
        &json!({ "token": token, "privatetoken": null }),
    )
}

/// The token is missing, dead or unknown.
pub(super) fn unauthorized() -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, JSON, &Exception::INVALID_TOKEN.to_json())
}

/// The token's user lacks a capability.
pub(super) fn forbidden() -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, JSON, &Exception::NO_PERMISSION.to_json())
}

/// The core counts no calls: what throttles is a server before it.
pub(super) fn throttled() -> Response<Full<Bytes>> {
    let page = "<html><head><title>429 Too Many Requests</title></head></html>";
    reply::text(StatusCode::TOO_MANY_REQUESTS, "text/html", page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_counts_before_the_query_and_the_last_before_the_first() {
        let mut parameters = Parameters::default();
        parameters.add(b"wsfunction=a&wsfunction=b&values[0]=1&values[1]=2&valuesx=3");
        assert_eq!(parameters.get("wsfunction"), Some("b"));
        parameters.add(b"wsfunction=c");
        assert_eq!(parameters.get("wsfunction"), Some("c"));
        assert_eq!(parameters.list("values"), ["1", "2"]);
    }
}
