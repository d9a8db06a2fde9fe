//! The one table of responses that bursar makes itself, each a problem (RFC 9457).
//!
//! Nothing in them comes from the request or from a secret.

use std::{borrow::Cow, error::Error, fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::{
    request_id::RequestId,
    upstream::{BodyFault, UpstreamError},
};
use crate::{
    code::Code,
    policy::{Denial, Reason},
    problem::ProblemDetails,
    scope::Scope,
    token::{SubjectError, TokenError},
};

/// The methods that a policy can allow (RFC 9110 section 15.5.6 wants them with a 405).
const ALLOWED_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// How a caller key can be shown (RFC 9110 section 15.5.2 wants challenges with a 401). Basic is for libraries that send the
/// password in a URL only when they are asked; one field each, as some read the first challenge of a field only.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Basic realm=\"bursar\", charset=\"UTF-8\""),
    HeaderValue::from_static("Bearer realm=\"bursar\""),
];

/// When to come back after `overloaded`.
const OVERLOAD_WAIT: Duration = Duration::from_secs(1);

/// Why bursar answers instead of the LMS.
#[derive(Debug)]
pub(super) struct Rejection {
    /// Decides about status, title and `Proxy-Status`.
    pub(super) code: Code,
    /// A sentence for a person.
    pub(super) detail: Cow<'static, str>,
    /// For `bursar_policy_decisions_total`; `None`: no decision of policy.
    pub(super) reason: Option<Reason>,
    /// The route's label, where one was found.
    pub(super) route: Option<Arc<str>>,
    /// What the scopes lack.
    pub(super) missing: Vec<Scope>,
    /// What lies behind it, for the log alone: nothing that the application needs to know.
    pub(super) cause: Option<Box<str>>,
    /// When waiting helps.
    pub(super) retry_after: Option<Duration>,
    /// Whether the application's connection ends with this answer.
    pub(super) close: bool,
}

impl Rejection {
    /// A rejection that is final for this request, and leaves the connection as it is.
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            reason: reason_of(code),
            route: None,
            missing: Vec::new(),
            cause: None,
            retry_after: None,
            close: false,
        }
    }

    /// Ends the connection too: what follows on it cannot be trusted.
    pub(super) fn closing(self) -> Self {
        Self {
            close: true,
            ..self
        }
    }

    /// Says when to come back.
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// All at once: no seat for this connection.
    pub(super) fn overloaded() -> Self {
        Self::new(Code::Overloaded, "bursar has no connection to spare.")
            .retry_after(OVERLOAD_WAIT)
            .closing()
    }

    /// All at once: no room for this request beside those that other connections of HTTP/2 carry. Its body is not read.
    pub(super) fn too_many_streams() -> Self {
        Self::new(
            Code::Overloaded,
            "bursar serves no more requests over HTTP/2 at once than server.max_connections says.",
        )
        .retry_after(OVERLOAD_WAIT)
        .closing()
    }

    /// The process at the other end of a Unix socket is none of those that may use it.
    pub(super) fn other_user() -> Self {
        Self::new(
            Code::ClientUnauthenticated,
            "The user of this process may not use this socket: server.allowed_uids does not name it.",
        )
        .closing()
    }

    /// The response.
    pub(super) fn response(&self, id: RequestId) -> Response<Bytes> {
        let problem = ProblemDetails {
            code: self.code,
            detail: &self.detail,
            request_id: id.as_str(),
            route: self.route.as_deref(),
            missing_scopes: self.missing.iter().map(Scope::as_str).collect(),
        };
        let mut response = problem.response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.code == Code::MethodNotAllowed {
            headers.insert(ALLOW, ALLOWED_METHODS);
        }
        if self.code == Code::ClientUnauthenticated {
            for challenge in CHALLENGES {
                headers.append(WWW_AUTHENTICATE, challenge.clone());
            }
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same as bytes, for a connection on which no request could be read.
    pub(super) fn bytes(&self, id: RequestId) -> Bytes {
        let response = self.response(id);
        let status = response.status();
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ndate: {}\r\ncontent-length: {}\r\n",
            status.as_str(),
            status.canonical_reason().unwrap_or_default(),
            httpdate::HttpDate::from(std::time::SystemTime::now()),
            response.body().len(),
        );
        for (name, value) in response.headers() {
            // Every value above is visible ASCII; writing to a String cannot fail.
            let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(response.body());
        bytes.into()
    }
}

impl From<Denial> for Rejection {
    fn from(denial: Denial) -> Self {
        Self {
            reason: Some(denial.reason),
            route: denial.route,
            missing: denial.missing,
            ..Self::new(denial.code, denial.detail)
        }
    }
}

impl From<TokenError> for Rejection {
    fn from(error: TokenError) -> Self {
        let (code, detail, cause, wait): (_, Cow<'static, str>, _, _) = match error {
            TokenError::Unavailable { cause, retry_after } => (
                Code::TokenUnavailable,
                "No valid token came within the time that a request may wait; bursar goes on asking, and its log says \
                 what stands against it."
                    .into(),
                cause.map(|cause| cause.to_string()),
                Some(retry_after),
            ),
            TokenError::Configuration { cause, retry_after } => (
                Code::TokenConfigurationError,
                "The authorization server refuses this client; bursar's log and `bursar check` say why."
                    .into(),
                Some(cause.to_string()),
                Some(retry_after),
            ),
            TokenError::LoginNeeded {
                credential,
                is_personal,
                why,
            } => (
                Code::ReauthorizationRequired,
                format!(
                    "A person has to log in: run `bursar login {credential}{}` where bursar keeps its logins. Requests are served \
                     again within seconds of it.",
                    // Who it is, the application knows.
                    if is_personal { " --subject NAME" } else { "" }
                )
                .into(),
                Some(why.to_string()),
                None,
            ),
            TokenError::StoreUnavailable { cause, retry_after } => (
                Code::TokenStoreUnavailable,
                "The next token was not asked for, since its successor could not have been kept; bursar's log says what is \
                 wrong with the directory of `state`."
                    .into(),
                Some(cause.to_string()),
                Some(retry_after),
            ),
        };
        let rejection = Self {
            cause: cause.map(Into::into),
            ..Self::new(code, detail)
        };
        match wait {
            Some(wait) => rejection.retry_after(wait),
            None => rejection,
        }
    }
}

impl From<SubjectError> for Rejection {
    fn from(error: SubjectError) -> Self {
        let detail = match error {
            SubjectError::Missing => {
                "The field that names the person whose login is to be used is missing (`subject_header` of the credential)."
            }
            SubjectError::Repeated => {
                "The field that names the person whose login is to be used stands more than once."
            }
            SubjectError::Malformed => {
                "The field that names the person whose login is to be used must hold 1 to 255 visible ASCII characters."
            }
        };
        Self::new(Code::SubjectMissing, detail)
    }
}

impl From<UpstreamError> for Rejection {
    fn from(error: UpstreamError) -> Self {
        let code = match error {
            UpstreamError::Dns(_) | UpstreamError::Connect(_) | UpstreamError::Proxy(_) => {
                Code::UpstreamUnreachable
            }
            UpstreamError::Tls(_) => Code::UpstreamTlsError,
            UpstreamError::Timeout(_) => Code::UpstreamTimeout,
            UpstreamError::Reset(_) | UpstreamError::Incomplete => Code::UpstreamReset,
            UpstreamError::Protocol(_) | UpstreamError::Version(_) => Code::UpstreamProtocolError,
            UpstreamError::Saturated => Code::Overloaded,
            UpstreamError::Body(fault) => return fault.into(),
        };
        let rejection = Self {
            cause: error.source().map(|cause| chain(cause).into()),
            ..Self::new(code, sentence(&error))
        };
        if code == Code::Overloaded {
            return rejection.retry_after(OVERLOAD_WAIT);
        }
        rejection
    }
}

impl From<BodyFault> for Rejection {
    fn from(fault: BodyFault) -> Self {
        let rejection = match fault {
            BodyFault::Framing => Self::new(
                Code::BodyFramingInvalid,
                "The body is not framed as its head says.",
            ),
            BodyFault::Aborted => Self::new(
                Code::BodyFramingInvalid,
                "The connection ended before the body did.",
            ),
            BodyFault::Timeout => Self::new(
                Code::ClientTimeout,
                "No byte of the body arrived for too long.",
            ),
            BodyFault::TooLarge => Self::new(
                Code::BodyTooLarge,
                "The body is larger than the route allows.",
            ),
        };
        rejection.closing()
    }
}

/// The reason that goes with a code; a [`Denial`] brings its own.
const fn reason_of(code: Code) -> Option<Reason> {
    match code {
        Code::FramingInvalid
        | Code::BodyFramingInvalid
        | Code::HeaderNameAmbiguous
        | Code::SubjectMissing
        | Code::TransferCodingUnsupported => Some(Reason::Framing),
        Code::HostInvalid | Code::MisdirectedRequest => Some(Reason::Host),
        Code::PathAmbiguous => Some(Reason::Path),
        Code::RouteDenied => Some(Reason::NoRoute),
        Code::InsufficientScope => Some(Reason::Scope),
        Code::QueryParameterDenied => Some(Reason::Query),
        Code::BrowserRequestDenied => Some(Reason::Browser),
        Code::UpgradeDenied => Some(Reason::Deny),
        Code::MethodOverrideDenied | Code::MethodNotAllowed => Some(Reason::Method),
        Code::LoopDetected => Some(Reason::Destination),
        Code::ClientUnauthenticated => Some(Reason::Caller),
        Code::ClientTimeout
        | Code::BodyTooLarge
        | Code::UriTooLong
        | Code::ExpectationFailed
        | Code::HeadersTooLarge
        | Code::InternalError
        | Code::UpstreamUnreachable
        | Code::UpstreamTlsError
        | Code::UpstreamReset
        | Code::UpstreamProtocolError
        | Code::TokenUnavailable
        | Code::TokenConfigurationError
        | Code::TokenStoreUnavailable
        | Code::ReauthorizationRequired
        | Code::Overloaded
        | Code::UpstreamTimeout => None,
    }
}

/// An error as a sentence: they are written without capital and full stop, to stand behind a colon.
fn sentence(error: &dyn Error) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(['.']).collect()
}

/// An error with its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Rounded up, and at least 1: never an invitation to come back at once.
fn whole_seconds(wait: Duration) -> u64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(more).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::CredentialChoice,
        proxy::{request_id::RequestIds, upstream::Violation},
    };
    use std::io;

    fn respond(rejection: &Rejection) -> (Response<Bytes>, serde_json::Value, RequestId) {
        let id = RequestIds::new().next();
        let response = rejection.response(id);
        let problem = serde_json::from_slice(response.body()).unwrap();
        (response, problem, id)
    }

    #[test]
    fn a_denial_brings_its_route_and_the_missing_scopes() {
        let denial = Denial {
            code: Code::InsufficientScope,
            reason: Reason::Scope,
            route: Some("grades".into()),
            label_index: Some(3),
            credential: CredentialChoice::Upstream,
            template: Some("/grades/{id}".into()),
            missing: vec![Scope::parse("grades:gradevalues:write").unwrap()],
            detail: "Not covered.".to_owned(),
        };
        let rejection = Rejection::from(denial);
        assert_eq!(rejection.reason, Some(Reason::Scope));
        let (_, problem, _) = respond(&rejection);
        assert_eq!(problem["route"], "grades");
        assert_eq!(problem["missing_scopes"][0], "grades:gradevalues:write");
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_never_as_zero() {
        for (wait, seconds) in [
            (0, "1"),
            (1, "1"),
            (1_000, "1"),
            (1_001, "2"),
            (59_500, "60"),
        ] {
            let error = TokenError::Unavailable {
                cause: None,
                retry_after: Duration::from_millis(wait),
            };
            let (response, _, _) = respond(&error.into());
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
            assert_eq!(response.status(), 503);
        }
    }

    #[test]
    fn what_went_wrong_at_the_lms_has_a_code_of_its_own() {
        let io_error = || io::Error::from(io::ErrorKind::Other);
        let waited = Duration::from_secs(60);
        for (error, code) in [
            (UpstreamError::Dns(io_error()), Code::UpstreamUnreachable),
            (
                UpstreamError::Connect(io_error()),
                Code::UpstreamUnreachable,
            ),
            (UpstreamError::Tls(io_error()), Code::UpstreamTlsError),
            (UpstreamError::Timeout(waited), Code::UpstreamTimeout),
            (
                UpstreamError::Protocol(Violation::TwoFramings),
                Code::UpstreamProtocolError,
            ),
            (
                UpstreamError::Version(io_error()),
                Code::UpstreamProtocolError,
            ),
            (UpstreamError::Incomplete, Code::UpstreamReset),
            (UpstreamError::Saturated, Code::Overloaded),
            (
                UpstreamError::Body(BodyFault::Framing),
                Code::BodyFramingInvalid,
            ),
            (
                UpstreamError::Body(BodyFault::Aborted),
                Code::BodyFramingInvalid,
            ),
            (UpstreamError::Body(BodyFault::Timeout), Code::ClientTimeout),
            (UpstreamError::Body(BodyFault::TooLarge), Code::BodyTooLarge),
        ] {
            assert_eq!(Rejection::from(error).code, code);
        }
    }

    #[test]
    fn the_application_reads_a_sentence_and_the_log_what_lies_behind_it() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let rejection = Rejection::from(UpstreamError::Connect(refused));
        assert_eq!(rejection.detail, "The LMS does not accept connections.");
        assert_eq!(rejection.cause.as_deref(), Some("connection refused"));
        let (_, problem, _) = respond(&rejection);
        assert!(!problem.to_string().contains("refused"));
    }

    #[test]
    fn a_broken_body_ends_the_connection() {
        let (response, _, _) = respond(&BodyFault::Framing.into());
        assert_eq!(response.headers()[CONNECTION], "close");
    }

    #[test]
    fn a_405_says_which_methods_there_are() {
        let (response, _, _) = respond(&Rejection::new(Code::MethodNotAllowed, "No."));
        assert!(response.headers()[ALLOW].to_str().unwrap().contains("GET"));
    }

    #[test]
    fn a_401_says_how_a_key_can_be_shown() {
        let (response, _, _) = respond(&Rejection::new(Code::ClientUnauthenticated, "No."));
        let challenges: Vec<_> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .collect();
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[1], "Bearer realm=\"bursar\"");
    }

    #[test]
    fn the_bare_form_is_a_whole_http_response() {
        let bytes = Rejection::overloaded().bytes(RequestIds::new().next());
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\ndate: "));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(head.contains("connection: close"));
        assert!(head.contains("retry-after: 1"));
        assert!(body.contains(r#""code":"overloaded""#));
    }
}
