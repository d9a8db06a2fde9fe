//! The closed table of rejection codes: what bursar itself answers, and with which status.
//!
//! Logs, metrics, problem bodies, `Proxy-Status` and `bursar explain` all speak of a rejection by
//! the same code. A code, once published, keeps its meaning.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:ident, $proxy_status:literal, $retryable:literal, $title:literal;)*) => {
        /// Why bursar answered instead of the LMS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it stands in problem bodies, logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The error type of `Proxy-Status` (RFC 9209 section 2.3) nearest to it.
            #[must_use]
            pub const fn proxy_status_error(self) -> &'static str {
                match self { $(Self::$variant => $proxy_status,)* }
            }

            /// Whether the same request may succeed later without anybody changing anything.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// The `title` of the problem (RFC 9457 section 3.1.3).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// The framing of the request is ambiguous (RFC 9112 section 6).
    FramingInvalid = "framing_invalid", BAD_REQUEST, "http_request_error", false, "The request's framing is ambiguous";
    /// The body breaks its own framing.
    BodyFramingInvalid = "body_framing_invalid", BAD_REQUEST, "http_request_error", false, "The request's body breaks its framing";
    /// Host is absent, repeated or malformed (RFC 9112 section 3.2).
    HostInvalid = "host_invalid", BAD_REQUEST, "http_request_error", false, "The Host field is missing or malformed";
    /// The path has more than one reading.
    PathAmbiguous = "path_ambiguous", BAD_REQUEST, "http_request_error", false, "The path has more than one reading";
    /// A field name that servers read differently.
    HeaderNameAmbiguous = "header_name_ambiguous", BAD_REQUEST, "http_request_error", false, "A field name has more than one reading";
    /// The request does not say for whom it is, where each person has a grant of their own.
    SubjectMissing = "subject_missing", BAD_REQUEST, "http_request_error", false, "The request does not say for whom it is";
    /// The caller key is missing or wrong.
    ClientUnauthenticated = "client_unauthenticated", UNAUTHORIZED, "http_request_denied", false, "The caller key is missing or wrong";
    /// No route matches: default deny.
    RouteDenied = "route_denied", FORBIDDEN, "http_request_denied", false, "No route allows this request";
    /// The allowlist, or what the AS granted, does not cover what the route needs.
    InsufficientScope = "insufficient_scope", FORBIDDEN, "http_request_denied", false, "The scopes do not cover this request";
    /// A query parameter that could carry a credential or another identity.
    QueryParameterDenied = "query_parameter_denied", FORBIDDEN, "http_request_denied", false, "A query parameter is not allowed";
    /// The request comes from a web page.
    BrowserRequestDenied = "browser_request_denied", FORBIDDEN, "http_request_denied", false, "Requests from web pages are refused";
    /// An Upgrade that the route does not opt in to.
    UpgradeDenied = "upgrade_denied", FORBIDDEN, "http_request_denied", false, "This route does not allow an upgrade";
    /// The method is tunnelled in a form field.
    MethodOverrideDenied = "method_override_denied", FORBIDDEN, "http_request_denied", false, "The method must not be overridden";
    /// TRACE, TRACK, and CONNECT where it is not served.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "http_request_denied", false, "The method is never forwarded";
    /// The application was too slow with head or body.
    ClientTimeout = "client_timeout", REQUEST_TIMEOUT, "http_request_error", true, "The request did not arrive in time";
    /// The body is larger than the route allows.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "http_request_error", false, "The body is larger than the route allows";
    /// The target is longer than 8 KiB.
    UriTooLong = "uri_too_long", URI_TOO_LONG, "http_request_error", false, "The request target is too long";
    /// `Expect` names something other than `100-continue`.
    ExpectationFailed = "expectation_failed", EXPECTATION_FAILED, "http_request_error", false, "The expectation cannot be met";
    /// More than 100 fields, or a head over 64 KiB.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error", false, "The request's head is too large";
    /// Host names none of ours.
    MisdirectedRequest = "misdirected_request", MISDIRECTED_REQUEST, "http_request_denied", false, "The Host field names no upstream of this bursar";
    /// A bug in bursar.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "proxy_internal_error", true, "bursar failed; the process lives on";
    /// A transfer coding other than `chunked`.
    TransferCodingUnsupported = "transfer_coding_unsupported", NOT_IMPLEMENTED, "http_request_error", false, "Only the transfer coding chunked is understood";
    /// The upstream's name does not resolve, or nobody answers there.
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY, "destination_unavailable", true, "The LMS cannot be reached";
    /// TLS to the upstream failed.
    UpstreamTlsError = "upstream_tls_error", BAD_GATEWAY, "tls_protocol_error", false, "TLS to the LMS failed";
    /// The upstream closed the connection before it answered.
    UpstreamReset = "upstream_reset", BAD_GATEWAY, "connection_terminated", true, "The LMS closed the connection before it answered";
    /// The upstream's answer is not HTTP, or is ambiguous.
    UpstreamProtocolError = "upstream_protocol_error", BAD_GATEWAY, "http_protocol_error", true, "The answer of the LMS is not valid HTTP";
    /// No usable token at present.
    TokenUnavailable = "token_unavailable", SERVICE_UNAVAILABLE, "proxy_internal_response", true, "No valid token is available at present";
    /// The AS refuses in a way that only a person can cure.
    TokenConfigurationError = "token_configuration_error", SERVICE_UNAVAILABLE, "proxy_configuration_error", false, "The authorization server refuses this client's configuration";
    /// The store of refresh tokens could not take the next one, so no token was asked for.
    TokenStoreUnavailable = "token_store_unavailable", SERVICE_UNAVAILABLE, "proxy_internal_response", true, "The token store is not available";
    /// A person has to log in.
    ReauthorizationRequired = "reauthorization_required", SERVICE_UNAVAILABLE, "proxy_configuration_error", false, "A person has to log in";
    /// Too much at once.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "connection_limit_reached", true, "Too many requests at once";
    /// The upstream was too slow.
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, "http_response_timeout", true, "The LMS did not answer in time";
    /// The request has been through this bursar before.
    LoopDetected = "loop_detected", LOOP_DETECTED, "proxy_loop_detected", false, "The request has been through this bursar before";
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_answers_an_error_status() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert!(code.status().is_client_error() || code.status().is_server_error());
            assert!(
                Code::ALL[..index]
                    .iter()
                    .all(|other| other.as_str() != code.as_str())
            );
        }
    }
}
