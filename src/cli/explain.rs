//! `bursar explain CODE`: what a code means, what usually causes it, and what to do next.
//!
//! The texts are Markdown: a heading `## CODE` and what follows it. They are built in, so they are there
//! when the network is not.

use std::io;

use crate::{app::AppError, dial::DialError, oauth};

/// Codes of the configuration, of token requests and of upstreams, and the codes of rejections.
const TEXTS: &[&str] = &[
    include_str!("explain/configuration.md"),
    include_str!("explain/token.md"),
    include_str!("explain/upstream.md"),
    include_str!("explain/rejections.md"),
];

/// Codes that live checks print, or the log of a start that failed. Like all others they keep their meaning for ever.
pub mod live {
    /// The name of the authorization server does not resolve.
    pub const TOKEN_DNS: &str = "BUR2001";
    /// It does not accept connections, or hung up.
    pub const TOKEN_CONNECT: &str = "BUR2002";
    /// TLS to it failed.
    pub const TOKEN_TLS: &str = "BUR2003";
    /// It did not answer in time.
    pub const TOKEN_TIMEOUT: &str = "BUR2004";
    /// It throttles.
    pub const TOKEN_THROTTLED: &str = "BUR2005";
    /// Its answer is no token answer.
    pub const TOKEN_INVALID_RESPONSE: &str = "BUR2006";
    /// It answered another status than 200, without a known error code.
    pub const TOKEN_STATUS: &str = "BUR2007";
    /// The token request could not be made at all.
    pub const TOKEN_NOT_SENT: &str = "BUR2008";
    /// A person has to log in.
    pub const LOGIN_NEEDED: &str = "BUR2010";
    /// The store of refresh tokens could not take the answer.
    pub const TOKEN_STORE: &str = "BUR5001";
    /// `invalid_client`.
    pub const INVALID_CLIENT: &str = "BUR2101";
    /// `unauthorized_client`.
    pub const UNAUTHORIZED_CLIENT: &str = "BUR2102";
    /// `unsupported_grant_type`.
    pub const UNSUPPORTED_GRANT_TYPE: &str = "BUR2103";
    /// `invalid_scope`.
    pub const INVALID_SCOPE: &str = "BUR2104";
    /// `invalid_request`.
    pub const INVALID_REQUEST: &str = "BUR2105";
    /// `invalid_grant`.
    pub const INVALID_GRANT: &str = "BUR2106";
    /// Any other error code.
    pub const OTHER_ERROR: &str = "BUR2107";
    /// The granted scopes are narrower than those asked for.
    pub const NARROWER_SCOPE: &str = "BUR2201";
    /// The clocks of this machine and of the authorization server differ.
    pub const CLOCK_SKEW: &str = "BUR2202";
    /// Another audience than the configured one works.
    pub const OTHER_AUDIENCE: &str = "BUR2203";
    /// The token's lifetime is outside what the LMS is known to give.
    pub const ODD_LIFETIME: &str = "BUR2204";
    /// The key set at `jwks_url` cannot be fetched.
    pub const KEY_SET_UNSEEN: &str = "BUR2301";
    /// It lacks a key that signs, or will soon.
    pub const KEY_UNPUBLISHED: &str = "BUR2302";
    /// It holds a private key.
    pub const PRIVATE_KEY_PUBLISHED: &str = "BUR2303";
    /// The company proxy before the AS does not let bursar through.
    pub const TOKEN_PROXY: &str = "BUR2009";
    /// The name of the LMS does not resolve.
    pub const UPSTREAM_DNS: &str = "BUR4001";
    /// The LMS does not accept connections.
    pub const UPSTREAM_CONNECT: &str = "BUR4002";
    /// TLS to the LMS failed.
    pub const UPSTREAM_TLS: &str = "BUR4003";
    /// No connection to the LMS in time.
    pub const UPSTREAM_TIMEOUT: &str = "BUR4004";
    /// It does not speak the version of HTTP that is set for it.
    pub const UPSTREAM_HTTP_VERSION: &str = "BUR4005";
    /// The company proxy before the LMS does not let bursar through.
    pub const UPSTREAM_PROXY: &str = "BUR4006";
    /// An address of a listener is taken.
    pub const LISTENER_TAKEN: &str = "BUR4101";

    /// All of them.
    pub const ALL: &[&str] = &[
        TOKEN_DNS,
        TOKEN_CONNECT,
        TOKEN_TLS,
        TOKEN_TIMEOUT,
        TOKEN_THROTTLED,
        TOKEN_INVALID_RESPONSE,
        TOKEN_STATUS,
        TOKEN_NOT_SENT,
        LOGIN_NEEDED,
        TOKEN_STORE,
        INVALID_CLIENT,
        UNAUTHORIZED_CLIENT,
        UNSUPPORTED_GRANT_TYPE,
        INVALID_SCOPE,
        INVALID_REQUEST,
        INVALID_GRANT,
        OTHER_ERROR,
        NARROWER_SCOPE,
        CLOCK_SKEW,
        OTHER_AUDIENCE,
        ODD_LIFETIME,
        KEY_SET_UNSEEN,
        KEY_UNPUBLISHED,
        PRIVATE_KEY_PUBLISHED,
        UPSTREAM_DNS,
        UPSTREAM_CONNECT,
        UPSTREAM_TLS,
        UPSTREAM_TIMEOUT,
        UPSTREAM_HTTP_VERSION,
        TOKEN_PROXY,
        UPSTREAM_PROXY,
        LISTENER_TAKEN,
    ];
}

/// The text of a code, however its letters are cased: `BUR1004`, `bur1004`, `insufficient_scope`.
#[must_use]
pub(super) fn explain(code: &str) -> Option<&'static str> {
    sections()
        .find(|(name, _)| name.eq_ignore_ascii_case(code.trim()))
        .map(|(_, text)| text)
}

/// The code that says why a token request failed.
#[must_use]
pub(super) fn token_request_code(cause: &oauth::Cause) -> &'static str {
    use oauth::{Cause, OAuthError, Unreachable};
    match cause {
        Cause::Rejected(OAuthError::InvalidClient) => live::INVALID_CLIENT,
        Cause::Rejected(OAuthError::UnauthorizedClient) => live::UNAUTHORIZED_CLIENT,
        Cause::Rejected(OAuthError::UnsupportedGrantType) => live::UNSUPPORTED_GRANT_TYPE,
        Cause::Rejected(OAuthError::InvalidScope) => live::INVALID_SCOPE,
        Cause::Rejected(OAuthError::InvalidRequest) => live::INVALID_REQUEST,
        Cause::Rejected(OAuthError::InvalidGrant) => live::INVALID_GRANT,
        Cause::Rejected(
            OAuthError::TemporarilyUnavailable | OAuthError::ServerError | OAuthError::Other,
        ) => live::OTHER_ERROR,
        Cause::LoginNeeded(_) => live::LOGIN_NEEDED,
        Cause::Store(_) => live::TOKEN_STORE,
        Cause::Throttled(_) => live::TOKEN_THROTTLED,
        Cause::Timeout(_) => live::TOKEN_TIMEOUT,
        Cause::Unreachable(Unreachable::Dns) => live::TOKEN_DNS,
        Cause::Unreachable(Unreachable::Connect | Unreachable::Reset) => live::TOKEN_CONNECT,
        Cause::Unreachable(Unreachable::Tls) => live::TOKEN_TLS,
        Cause::Unreachable(Unreachable::Proxy | Unreachable::ProxyRefused(_)) => live::TOKEN_PROXY,
        Cause::InvalidResponse(_) => live::TOKEN_INVALID_RESPONSE,
        Cause::Status(_) => live::TOKEN_STATUS,
        Cause::NotSent(_) => live::TOKEN_NOT_SENT,
    }
}

/// The code that says why an LMS could not be dialled.
#[must_use]
pub(super) fn upstream_code(error: &DialError) -> &'static str {
    match error {
        DialError::Dns(_) => live::UPSTREAM_DNS,
        DialError::Connect(_) => live::UPSTREAM_CONNECT,
        DialError::Tls(_) => live::UPSTREAM_TLS,
        DialError::Proxy(_) => live::UPSTREAM_PROXY,
        DialError::Timeout(_) => live::UPSTREAM_TIMEOUT,
        DialError::Alpn(_) => live::UPSTREAM_HTTP_VERSION,
    }
}

/// The code that says why bursar could not start, where one is known.
#[must_use]
pub(super) fn start_code(error: &AppError) -> Option<&'static str> {
    let cause = match error {
        AppError::Listen(cause) => cause,
        AppError::Admin(error) => &error.source,
        _ => return None,
    };
    (cause.kind() == io::ErrorKind::AddrInUse).then_some(live::LISTENER_TAKEN)
}

/// Codes with their texts, headings included.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXTS.iter().flat_map(|text| {
        let mut rest = *text;
        std::iter::from_fn(move || {
            let start = rest.find("## ")?;
            let section = rest.get(start..)?;
            let end = section
                .find("\n## ")
                .map_or(section.len(), |end| end.saturating_add(1));
            rest = section.get(end..)?;
            let section = section.get(..end)?.trim_end();
            let heading = section.lines().next()?.strip_prefix("## ")?;
            let code = heading.split([':', ' ']).next()?;
            Some((code, section))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{code::Code, config::ProblemCode};

    #[test]
    fn every_code_has_a_text_that_says_what_why_and_what_next() {
        let configuration = ProblemCode::ALL.iter().map(|code| code.as_str());
        let rejections = Code::ALL.iter().map(|code| code.as_str());
        let live = live::ALL.iter().copied();
        for code in configuration.chain(rejections).chain(live) {
            let text = explain(code).unwrap_or_else(|| panic!("{code} has no text"));
            for part in ["Likely cause", "Next:"] {
                assert!(text.contains(part), "{code} does not say {part:?}");
            }
            assert!(text.lines().count() >= 4, "{code} says too little");
        }
    }

    #[test]
    fn every_text_belongs_to_a_code_and_stands_once() {
        let known: Vec<&str> = ProblemCode::ALL
            .iter()
            .map(|code| code.as_str())
            .chain(Code::ALL.iter().map(|code| code.as_str()))
            .chain(live::ALL.iter().copied())
            .collect();
        let explained: Vec<_> = sections().map(|(code, _)| code).collect();
        assert_eq!(explained.len(), known.len());
        for code in explained {
            assert!(known.contains(&code), "{code}");
        }
    }

    #[test]
    fn the_case_of_a_code_does_not_matter() {
        assert_eq!(explain("bur1004"), explain("BUR1004"));
        assert!(explain(" Insufficient_Scope ").is_some());
        assert!(explain("BUR9999").is_none());
        assert!(explain("").is_none());
    }

    #[test]
    fn a_text_ends_where_the_next_one_begins() {
        let text = explain("BUR1004").unwrap();
        assert!(text.starts_with("## BUR1004"));
        assert!(!text.contains("BUR1005:"));
    }

    #[test]
    fn an_address_that_is_taken_is_told_from_one_that_is_not_ours() {
        let code = |kind: io::ErrorKind| start_code(&AppError::Listen(kind.into()));
        assert_eq!(code(io::ErrorKind::AddrInUse), Some("BUR4101"));
        assert_eq!(code(io::ErrorKind::AddrNotAvailable), None);
    }

    #[test]
    fn a_refused_client_is_told_from_an_unreachable_server() {
        use oauth::{Cause, OAuthError, Unreachable};
        assert_eq!(
            token_request_code(&Cause::Rejected(OAuthError::InvalidClient)),
            "BUR2101"
        );
        assert_eq!(
            token_request_code(&Cause::Unreachable(Unreachable::Dns)),
            "BUR2001"
        );
    }
}
