//! What changes something: POST on the control socket, for those that prove that they may.

use std::error::Error;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
    request,
};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};

use super::{
    Admin, reload,
    reply::{JSON, TEXT, answer},
};
use crate::socket;

/// Holds the control key.
const CONTROL_KEY: HeaderName = HeaderName::from_static("bursar-control");

/// Nothing is asked for in a body; one that `curl -d` sends is taken in, so that closing does not reset the connection
/// before the answer has been read.
const BODY_LIMIT: usize = 16 * 1024;

/// Says the same to everybody who is refused: which part was wrong is in the log.
const REFUSED: &str = "not found. Over TCP POST needs admin.control_key_file, `Bursar-Control: KEY` and `Content-Type: application/json`; bursar's log says what was missing\n";

/// Who came by the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Somebody on this machine.
    Tcp {
        /// The port of the socket.
        port: u16,
    },
    /// A process of this user, if the system says so.
    Unix {
        /// The user's id.
        uid: Option<u32>,
    },
}

impl Caller {
    /// What Host may name: a Unix socket has no port, so the scheme's own (none) it is.
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Tcp { port } => port,
            Self::Unix { .. } => 80,
        }
    }
}

/// Why a POST is treated as if there were nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoKeyConfigured,
    NoKeyShown,
    WrongKey,
    NotJson,
    OtherUser,
}

impl Refusal {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoKeyConfigured => "admin.control_key_file is not set",
            Self::NoKeyShown => "there is no Bursar-Control field",
            Self::WrongKey => "the key in Bursar-Control is not the one in admin.control_key_file",
            Self::OtherUser => "the peer is neither root nor the user that bursar runs as",
            Self::NotJson => "Content-Type is not application/json",
        }
    }
}

/// Answers a POST that has passed the guard of the socket.
pub(super) async fn post(
    admin: &Admin,
    caller: Caller,
    head: &request::Parts,
) -> Response<Full<Bytes>> {
    if let Err(refusal) = authorize(admin, caller, &head.headers) {
        if let Some(withheld) = admin.refusals.take(admin.clock.now().boot) {
            tracing::warn!(
                event = "control_refused",
                reason = refusal.as_str(),
                lines_withheld = withheld,
                "a POST on admin.control was refused"
            );
        }
        return answer(StatusCode::NOT_FOUND, TEXT, REFUSED);
    }
    match head.uri.path() {
        "/-/drain" => drain(admin),
        "/-/reload" => reload::respond(&admin.state.reload().await),
        _ => answer(StatusCode::NOT_FOUND, TEXT, "not found\n"),
    }
}

/// Reads a body to its end, or to the limit, and forgets it.
pub(super) async fn take_in<B>(body: B)
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // However it ends, the request is in its head.
    let _ = Limited::new(body, BODY_LIMIT).collect().await;
}

/// The key keeps other programs away, the content type web pages: a browser does not send it across origins unasked. On a
/// Unix socket, which no page can reach, the system says who it is.
fn authorize(admin: &Admin, caller: Caller, headers: &HeaderMap) -> Result<(), Refusal> {
    if let Caller::Unix { uid } = caller {
        let is_trusted = uid.is_some_and(socket::is_us_or_root);
        return is_trusted.then_some(()).ok_or(Refusal::OtherUser);
    }
    let configuration = admin.configuration.load();
    let keys = configuration.control_keys.as_ref();
    let keys = keys.ok_or(Refusal::NoKeyConfigured)?;
    let mut shown = headers.get_all(CONTROL_KEY).iter();
    let (Some(key), None) = (shown.next(), shown.next()) else {
        return Err(Refusal::NoKeyShown);
    };
    if !keys.admit(key.as_bytes()) {
        return Err(Refusal::WrongKey);
    }
    let is_json = headers.get(CONTENT_TYPE).is_some_and(is_json);
    is_json.then_some(()).ok_or(Refusal::NotJson)
}

/// `application/json`, with or without parameters.
fn is_json(value: &HeaderValue) -> bool {
    let media_type = value.as_bytes().split(|byte| *byte == b';').next();
    media_type.is_some_and(|media_type| {
        media_type
            .trim_ascii()
            .eq_ignore_ascii_case(JSON.as_bytes())
    })
}

fn drain(admin: &Admin) -> Response<Full<Bytes>> {
    tracing::info!(
        event = "control_drain",
        "the drain was asked for on admin.control"
    );
    admin.state.drain();
    answer(StatusCode::OK, JSON, r#"{"phase":"draining"}"#)
}
