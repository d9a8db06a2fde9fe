//! The OAuth2 add-on of LTIAAS: it logs people in at the LMS itself and gives the LMS's access tokens to whoever has its API key.
//!
//! The LMS behind it is Brightspace, on the same origin. What the documentation leaves open is in [`LtiaasParams`](super::LtiaasParams);
//! the form of the errors is that of the library which LTIAAS is made with.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    client_auth::Form,
    fault::Effect,
    grants::{Asked, Presented},
    record::bearer,
    refusal::Refusal,
    reply,
    store::State,
    token_endpoint::{code, issue::Minted, no_store, pass_gates, refresh},
};
use crate::secret::ExposeSecret;

/// Where a browser begins; the platform's id follows.
pub(super) const START_PATH: &str = "/oauth/start/";

/// Where codes are exchanged; a slash and the platform's id follow.
pub(super) const TOKEN_PATH: &str = "/api/oauth/access-token";

const JSON: &str = "application/json; charset=utf-8";

/// What a token request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    First,
    Refresh,
}

/// Why a token request brings nothing.
enum Refused {
    /// LTIAAS's own refusal.
    Own(StatusCode, &'static str),
    /// The LMS has said it.
    Lms(Refusal),
}

/// Whether a path is that of a token request, whatever platform it names.
pub(super) fn is_token_path(state: &State, path: &str) -> bool {
    let rest = path.strip_prefix(TOKEN_PATH);
    rest.is_some_and(|rest| rest.starts_with('/'))
        || state.ltiaas.refresh_path.as_deref() == Some(path)
}

/// What the person is asked for: all that LTIAAS is registered for at the LMS. `None`: there is no such platform, or nowhere to return to.
pub(super) fn asked(state: &State, path: &str) -> Option<Asked> {
    let platform = path.strip_prefix(START_PATH)?;
    let return_url = return_url(state)?;
    (platform == state.ltiaas.platform_id).then(|| Asked {
        redirect_uri: return_url.to_owned(),
        state: None,
        challenge: None,
        scopes: state.registered.clone(),
    })
}

fn return_url(state: &State) -> Option<&str> {
    let first = state.login.redirect_uris.first();
    first.map(super::RedirectUri::as_str)
}

/// Answers a token request.
pub(super) async fn answer(
    state: &State,
    head: &Parts,
    form: Result<Form, Refusal>,
    effect: &Effect,
) -> Response<Full<Bytes>> {
    pass_gates(state).await;
    let answered = exchange(state, head, form, effect);
    no_store(answered.unwrap_or_else(|refused| refused.into_response(state)))
}

fn exchange(
    state: &State,
    head: &Parts,
    form: Result<Form, Refusal>,
    effect: &Effect,
) -> Result<Response<Full<Bytes>>, Refused> {
    let key = bearer(&head.headers).unwrap_or_default();
    let expected = state.ltiaas.api_key.expose_secret();
    if verify_slices_are_equal(key.as_bytes(), expected.as_bytes()).is_err() {
        return Err(Refused::Own(
            StatusCode::UNAUTHORIZED,
            "The API key is missing or wrong",
        ));
    }
    let wanted = wanted(state, head.uri.path()).ok_or(Refused::Own(
        StatusCode::NOT_FOUND,
        "There is no such platform",
    ))?;
    let method = match wanted {
        Wanted::First => &state.ltiaas.first_method,
        Wanted::Refresh => &Method::POST,
    };
    if head.method != *method {
        return Err(Refused::Own(
            StatusCode::METHOD_NOT_ALLOWED,
            "The method is another one",
        ));
    }
    let form = match *method {
        Method::GET => query(head),
        _ => form.map_err(|_unread| {
            Refused::Own(StatusCode::BAD_REQUEST, "The body must be a JSON object")
        })?,
    };
    let name = match wanted {
        Wanted::First => &state.ltiaas.parameter,
        Wanted::Refresh => "refreshToken",
    };
    let presented = form.get(name).ok_or(Refused::Own(
        StatusCode::BAD_REQUEST,
        "A parameter is missing",
    ))?;
    let mut store = state.store();
    let (minted, refresh_token) = match wanted {
        Wanted::First => {
            let presented = Presented {
                code: presented,
                redirect_uri: return_url(state),
                verifier: None,
            };
            code::exchange(state, &mut store, &presented, effect)
        }
        Wanted::Refresh => refresh::exchange(state, &mut store, presented, None, effect),
    }
    .map_err(Refused::Lms)?;
    Ok(granted(&minted, refresh_token, effect))
}

fn wanted(state: &State, path: &str) -> Option<Wanted> {
    let ltiaas = &state.ltiaas;
    let first = format!("{TOKEN_PATH}/{}", ltiaas.platform_id);
    let refresh = || format!("{first}/refresh");
    if path == first {
        Some(Wanted::First)
    } else if path == ltiaas.refresh_path.clone().unwrap_or_else(refresh) {
        Some(Wanted::Refresh)
    } else {
        None
    }
}

fn query(head: &Parts) -> Form {
    let query = head.uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

fn granted(
    minted: &Minted,
    refresh_token: Option<String>,
    effect: &Effect,
) -> Response<Full<Bytes>> {
    let mut answer = json!({
        "tokenType": "Bearer",
        "accessToken": minted.token,
        "expiresIn": minted.lifetime.as_secs(),
    });
    if let (Some(refresh_token), Value::Object(answer)) = (refresh_token, &mut answer) {
        answer.insert("refreshToken".to_owned(), refresh_token.into());
    }
    effect.restate_lifetime(&mut answer, "expiresIn");
    reply::json(StatusCode::OK, JSON, &answer)
}

impl Refused {
    fn into_response(self, state: &State) -> Response<Full<Bytes>> {
        let (status, message) = match self {
            Self::Own(status, message) => (status, message.to_owned()),
            Self::Lms(refusal) if state.ltiaas.passes_errors_on => {
                return refusal.logged().into_response();
            }
            Self::Lms(refusal) => {
                let refusal = refusal.logged();
                let message = format!("{}: {}", refusal.error, refusal.description);
                (StatusCode::BAD_REQUEST, message)
            }
        };
        let body = json!({
            "status": status.as_u16(),
            "error": status.canonical_reason().unwrap_or_default(),
            "details": { "message": message },
        });
        reply::json(status, JSON, &body)
    }
}
