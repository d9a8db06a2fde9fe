//! The authorization endpoint (RFC 6749 section 4.1.1): who asks for what, and where a yes or a no is sent to.
//!
//! `GET` shows the consent page, whose form comes back by `POST`. For scripts, `auto=1` in the query says yes at once and `auto=deny` no,
//! in the name of `user=` (1001 unless said otherwise).

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use url::Url;

use super::{
    Lms, canvas, fault::Effect, grants::Asked, login_page, ltiaas, reply, resources, scopes,
    store::State,
};
use crate::scope::ScopeSet;

/// The largest form that is read, in bytes.
const MAX_FORM: usize = 16 * 1024;

/// The length of a challenge by S256 (RFC 7636 section 4.2).
const CHALLENGE_LENGTH: usize = 43;

/// Who agrees if nobody else is named.
const USER: u64 = 1001;

/// Why a request leads to no consent.
enum Refused {
    /// There is nowhere that the browser may be sent to (RFC 6749 section 4.1.2.1).
    Here(&'static str),
    /// The application is told.
    Back {
        redirect_uri: String,
        state: Option<String>,
        error: Cow<'static, str>,
        description: &'static str,
    },
}

/// Answers a browser.
pub(super) async fn answer(
    state: &State,
    request: Request<Incoming>,
    effect: &Effect,
) -> Response<Full<Bytes>> {
    let mut response = match *request.method() {
        Method::GET if is_too_long(state, request.uri()) => reply::empty(StatusCode::URI_TOO_LONG),
        Method::GET => ask(state, request.uri(), effect),
        Method::POST => match Limited::new(request.into_body(), MAX_FORM).collect().await {
            Ok(form) => decide(state, &form.to_bytes()),
            Err(_broken) => login_page::error("the form cannot be read"),
        },
        _ => reply::empty(StatusCode::METHOD_NOT_ALLOWED),
    };
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

fn ask(state: &State, target: &Uri, effect: &Effect) -> Response<Full<Bytes>> {
    let query = target.query().unwrap_or_default();
    let parameters = match read(query.as_bytes()) {
        Ok(parameters) => parameters,
        Err(name) => return login_page::error(&format!("{name} is there more than once")),
    };
    let asked = match state.lms {
        Lms::Ltiaas => {
            ltiaas::asked(state, target.path()).ok_or(Refused::Here("there is no such platform"))
        }
        _ => check(state, &parameters),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(refused) => return refused.into_response(state),
    };
    if let Effect::OauthError(error) = effect {
        return Refused::Back {
            redirect_uri: asked.redirect_uri,
            state: asked.state,
            error: error.clone().into(),
            description: "a fault of bursar mock",
        }
        .into_response(state);
    }
    let user = parameters.get("user").map(String::as_str);
    match parameters.get("auto").map(String::as_str) {
        Some("deny") => deny(state, asked),
        Some(_) => approve(state, asked, user),
        None if state.login.approve => approve(state, asked, user),
        None => {
            let scopes = asked.scopes.clone();
            let now = state.clock.now();
            let id = state.store().codes.wait(asked, now);
            login_page::page(state, &id, &scopes)
        }
    }
}

fn is_too_long(state: &State, target: &Uri) -> bool {
    let length = target
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    state.lms == Lms::Canvas && length > canvas::MAX_TARGET
}

/// The form of the consent page.
fn decide(state: &State, form: &[u8]) -> Response<Full<Bytes>> {
    let Ok(form) = read(form) else {
        return login_page::error("a field is there more than once");
    };
    let now = state.clock.now();
    let asked = form
        .get("request")
        .and_then(|id| state.store().codes.decide(id, now));
    let Some(asked) = asked else {
        return login_page::error("this page was answered before, or it is too old: log in again");
    };
    match form.get("decision").map(String::as_str) {
        Some("approve") => approve(state, asked, form.get("user").map(String::as_str)),
        _ => deny(state, asked),
    }
}

fn approve(state: &State, asked: Asked, user: Option<&str>) -> Response<Full<Bytes>> {
    let user = match user.map(str::parse) {
        None => USER,
        Some(Ok(user)) if resources::is_user(user) => user,
        Some(_) => return login_page::error("there is no such user: they are 1001 to 1045"),
    };
    let (redirect_uri, echoed) = (asked.redirect_uri.clone(), asked.state.clone());
    let now = state.clock.now();
    let code = state
        .store()
        .codes
        .issue(asked, user, state.login.code_lifetime, now);
    state.count(|counters| counters.codes_issued += 1);
    let name = match state.lms {
        Lms::Ltiaas => &state.ltiaas.parameter,
        _ => "code",
    };
    let mut parameters = vec![(name, code.as_str())];
    parameters.extend(echoed.as_deref().map(|echoed| ("state", echoed)));
    back(state, &redirect_uri, &parameters)
}

fn deny(state: &State, asked: Asked) -> Response<Full<Bytes>> {
    Refused::Back {
        redirect_uri: asked.redirect_uri,
        state: asked.state,
        error: "access_denied".into(),
        description: "the person said no",
    }
    .into_response(state)
}

/// Judges an authorization request. What decides where the browser may go comes first.
fn check(state: &State, parameters: &HashMap<String, String>) -> Result<Asked, Refused> {
    let get = |name: &str| parameters.get(name).map(String::as_str);
    if get("client_id") != Some(&state.client_id) {
        return Err(Refused::Here("client_id is not known"));
    }
    let redirect_uri = get("redirect_uri")
        .filter(|asked| {
            let registered = &state.login.redirect_uris;
            registered.iter().any(|uri| uri.as_str() == *asked)
        })
        .ok_or(Refused::Here(
            "redirect_uri is not registered: it is compared exactly",
        ))?;
    let refused = |error: &'static str, description| Refused::Back {
        redirect_uri: redirect_uri.to_owned(),
        state: get("state").map(str::to_owned),
        error: error.into(),
        description,
    };
    let invalid = |description| refused("invalid_request", description);
    match get("response_type") {
        Some("code") => {}
        Some(_) => {
            return Err(refused(
                "unsupported_response_type",
                "response_type must be code",
            ));
        }
        None => return Err(invalid("response_type is missing")),
    }
    let echoed = get("state").ok_or_else(|| invalid("state is missing"))?;
    let challenge = match (get("code_challenge"), get("code_challenge_method")) {
        (None, None) if !state.login.require_pkce => None,
        (None, _) => return Err(invalid("code_challenge is missing")),
        (Some(challenge), Some("S256")) if is_challenge(challenge) => Some(challenge.to_owned()),
        (Some(_), Some("S256")) => return Err(invalid("code_challenge is not one of S256")),
        (Some(_), _) => return Err(invalid("code_challenge_method must be S256")),
    };
    let scopes = match state.lms {
        // Such a key gives all that its user may do.
        Lms::Canvas if !state.canvas.is_scoped => ScopeSet::default(),
        _ => scopes::agreeable(get("scope"), &state.registered)
            .map_err(|description| refused("invalid_scope", description))?,
    };
    Ok(Asked {
        redirect_uri: redirect_uri.to_owned(),
        state: Some(echoed.to_owned()),
        challenge,
        scopes,
    })
}

fn is_challenge(text: &str) -> bool {
    let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() == CHALLENGE_LENGTH && text.bytes().all(is_base64url)
}

/// The parameters.
///
/// # Errors
///
/// The name of one that is there more than once (RFC 6749 section 3.1).
fn read(text: &[u8]) -> Result<HashMap<String, String>, String> {
    let mut parameters = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(text) {
        if parameters
            .insert(name.clone().into_owned(), value.into_owned())
            .is_some()
        {
            return Err(name.into_owned());
        }
    }
    Ok(parameters)
}

impl Refused {
    fn into_response(self, state: &State) -> Response<Full<Bytes>> {
        match self {
            Self::Here(why) => login_page::error(why),
            Self::Back {
                redirect_uri,
                state: echoed,
                error,
                description,
            } => {
                tracing::info!(%error, "{description}");
                let mut parameters = vec![
                    ("error", error.as_ref()),
                    ("error_description", description),
                ];
                parameters.extend(echoed.as_deref().map(|echoed| ("state", echoed)));
                back(state, &redirect_uri, &parameters)
            }
        }
    }
}

/// Sends the browser back to the application. What its address has as a query stays (RFC 6749 section 3.1.2).
fn back(state: &State, redirect_uri: &str, parameters: &[(&str, &str)]) -> Response<Full<Bytes>> {
    // It was registered, so it is a URL.
    let Ok(mut url) = Url::parse(redirect_uri) else {
        return login_page::error("redirect_uri is not registered");
    };
    url.query_pairs_mut()
        .extend_pairs(parameters)
        .extend_pairs(state.login.issuer.iter().map(|issuer| ("iss", issuer)));
    reply::redirect(url.as_str())
}
