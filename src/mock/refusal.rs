//! Error answers of the token endpoint (RFC 6749 section 5.2).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

use super::{assertion, reply};

/// A token request that is refused.
pub(super) struct Refusal {
    pub(super) error: &'static str,
    pub(super) description: String,
    /// The client used the Authorization field, so the answer is 401 and challenges.
    challenge: bool,
}

impl Refusal {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            error,
            description: description.into(),
            challenge: false,
        }
    }

    /// The same for a client that used the Authorization field.
    pub(super) fn with_challenge(self) -> Self {
        Self {
            challenge: true,
            ..self
        }
    }

    /// Says so in the log.
    pub(super) fn logged(self) -> Self {
        tracing::info!(error = self.error, "{}", self.description);
        self
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = json!({ "error": self.error, "error_description": self.description });
        if !self.challenge {
            return reply::json(StatusCode::BAD_REQUEST, "application/json", &body);
        }
        let mut response = reply::json(StatusCode::UNAUTHORIZED, "application/json", &body);
        response.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"bursar mock\""),
        );
        response
    }
}

impl From<assertion::Refusal> for Refusal {
    fn from(refusal: assertion::Refusal) -> Self {
        Self::new("invalid_client", refusal.to_string())
    }
}
