//! A request as the mock takes it in: before any fault happens to it, so that what a client has presented is known even where nothing
//! is answered.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::{Lms, client_auth::Form, fault::Place, refusal::Refusal};

/// The largest form that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A request, and what has been read of it.
pub(super) enum Arrived {
    /// To an endpoint that takes a form, read to its end.
    Form(Parts, Result<Form, Refusal>),
    /// To any other, its body still to come.
    Open(Request<Incoming>),
}

impl Arrived {
    pub(super) async fn read(lms: Lms, place: Place, request: Request<Incoming>) -> Self {
        match place {
            // Moodle takes parameters from the query as well.
            Place::Token | Place::Revoke if lms != Lms::Moodle => {
                let (head, body) = request.into_parts();
                let form = match lms {
                    Lms::Ltiaas => read_json(&head.headers, body).await,
                    _ => read_form(&head.headers, body).await,
                };
                Self::Form(head, form)
            }
            _ => Self::Open(request),
        }
    }

    pub(super) fn method(&self) -> &Method {
        match self {
            Self::Form(head, _) => &head.method,
            Self::Open(request) => request.method(),
        }
    }

    pub(super) fn uri(&self) -> &Uri {
        match self {
            Self::Form(head, _) => &head.uri,
            Self::Open(request) => request.uri(),
        }
    }

    pub(super) fn fields(&self) -> &HeaderMap {
        match self {
            Self::Form(head, _) => &head.headers,
            Self::Open(request) => request.headers(),
        }
    }

    /// The refresh token that a token request presents.
    pub(super) fn refresh_token(&self) -> Option<&str> {
        match self {
            Self::Form(_, Ok(form)) => {
                let token = form
                    .get("refresh_token")
                    .or_else(|| form.get("refreshToken"));
                token.map(String::as_str)
            }
            _ => None,
        }
    }
}

async fn read_form(fields: &HeaderMap, body: Incoming) -> Result<Form, Refusal> {
    if !content_type(fields).is_some_and(|kind| kind.eq_ignore_ascii_case(FORM)) {
        return Err(Refusal::new(
            "invalid_request",
            "Content-Type must be application/x-www-form-urlencoded",
        ));
    }
    parse_form(&read(body).await?)
}

/// The texts of a JSON object.
async fn read_json(fields: &HeaderMap, body: Incoming) -> Result<Form, Refusal> {
    if !content_type(fields).is_some_and(|kind| kind.eq_ignore_ascii_case(JSON)) {
        return Err(Refusal::new(
            "invalid_request",
            "Content-Type must be application/json",
        ));
    }
    serde_json::from_slice(&read(body).await?)
        .map_err(|_error| Refusal::new("invalid_request", "the body is no JSON object of texts"))
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, MAX_FORM)
        .collect()
        .await
        .map_err(|_error| Refusal::new("invalid_request", "the form cannot be read"))?;
    Ok(body.to_bytes())
}

/// The media type, without parameters.
fn content_type(fields: &HeaderMap) -> Option<&str> {
    let value = fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

fn parse_form(body: &[u8]) -> Result<Form, Refusal> {
    let mut form = Form::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            // RFC 6749 section 3.2.
            return Err(Refusal::new(
                "invalid_request",
                "a parameter is there more than once",
            ));
        }
    }
    Ok(form)
}
