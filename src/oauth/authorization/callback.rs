//! What the browser brings back (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207 section 2).

use std::fmt;

use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{AuthorizationRefusal, RedirectUri};
use crate::{secret::SecretString, telemetry::visible};

/// The longest query that is read. A code of 8 KiB would be a monster.
const MAX_QUERY: usize = 16 * 1024;

/// The longest `error` that is shown. Those of the RFCs have 25 characters at most.
const MAX_ERROR: usize = 100;

/// How much of an `error_description` is shown: a paragraph.
const MAX_DESCRIPTION: usize = 2_000;

/// A callback that can be understood. Whose answer it is, is another question.
pub struct Callback {
    pub(super) state: Option<SecretString>,
    pub(super) issuer: Option<String>,
    /// `x_a`: whose ID key it is.
    pub(super) user: Option<String>,
    pub(super) result: Result<SecretString, AuthorizationRefusal>,
}

/// Why a callback cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackError {
    /// Not the redirect URI.
    #[error("it is not the address that the login page sends the browser back to")]
    OtherPlace,
    /// Longer than any server's.
    #[error("it is too long")]
    TooLong,
    /// RFC 6749 section 3.1: no parameter more than once.
    #[error("{0} stands in it twice")]
    Twice(&'static str),
    /// A code and an error, of which only one can be true.
    #[error("it holds both a code and an error")]
    CodeAndError,
    /// Neither.
    #[error("it holds neither a code nor an error")]
    Nothing,
    /// `code` has characters that no code has (RFC 6749 appendix A.11).
    #[error("its code is none")]
    NoCode,
}

impl Callback {
    /// Reads the query with which the browser came to the redirect URI. `code_parameter`:
    /// [`Flow::code_parameter`](super::Flow::code_parameter).
    ///
    /// # Errors
    ///
    /// [`CallbackError`]; never with a part of the query.
    pub fn parse(query: &str, code_parameter: &str) -> Result<Self, CallbackError> {
        if query.len() > MAX_QUERY {
            return Err(CallbackError::TooLong);
        }
        let once = |name: &'static str| only(query, name).ok_or(CallbackError::Twice(name));
        let state = once("state")?;
        let issuer = once("iss")?;
        let user = once("x_a")?;
        let error = once("error")?;
        let description = once("error_description")?;
        let code = only(query, code_parameter).ok_or(CallbackError::Twice("the code"))?;
        let result = match (code, error) {
            (Some(_), Some(_)) => return Err(CallbackError::CodeAndError),
            (None, None) => return Err(CallbackError::Nothing),
            (Some(code), None) => Ok(code_of(&code)?),
            (None, Some(error)) => Err(AuthorizationRefusal {
                error: shown(&error, MAX_ERROR),
                description: description.map(|text| shown(&text, MAX_DESCRIPTION)),
            }),
        };
        Ok(Self {
            state: state.map(|state| state.as_str().into()),
            issuer: issuer.map(|issuer| issuer.to_string()),
            user: user.map(|user| user.to_string()),
            result,
        })
    }

    /// Reads the address that a person has copied from the browser.
    ///
    /// # Errors
    ///
    /// [`CallbackError`]; never with a part of the address.
    pub fn parse_url(
        text: &str,
        redirect_uri: &RedirectUri,
        code_parameter: &str,
    ) -> Result<Self, CallbackError> {
        let text = text.trim();
        if text.len() > MAX_QUERY {
            return Err(CallbackError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| CallbackError::OtherPlace)?;
        if !redirect_uri.is_same_place(&url) {
            return Err(CallbackError::OtherPlace);
        }
        Self::parse(url.query().unwrap_or_default(), code_parameter)
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Callback")
            .field("issuer", &self.issuer)
            .field("refusal", &self.result.as_ref().err())
            .finish_non_exhaustive()
    }
}

/// The one value of a parameter; an empty one is as good as none (RFC 6749 section 3.1). Unknown parameters are ignored
/// (section 4.1.2). The outer `None`: there are several.
#[expect(
    clippy::option_option,
    reason = "absent and ambiguous are different here, and the inner one is the parameter"
)]
fn only(query: &str, name: &str) -> Option<Option<Zeroizing<String>>> {
    let mut values =
        form_urlencoded::parse(query.as_bytes()).filter(|(parameter, _)| parameter == name);
    let value = values.next();
    if values.next().is_some() {
        return None;
    }
    Some(
        value
            .map(|(_, value)| Zeroizing::new(value.into_owned()))
            .filter(|value| !value.is_empty()),
    )
}

fn code_of(text: &str) -> Result<SecretString, CallbackError> {
    let is_code = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    is_code.then(|| text.into()).ok_or(CallbackError::NoCode)
}

/// Words of a server, as a person can read them safely.
fn shown(text: &str, limit: usize) -> String {
    let mut cut: String = text.chars().take(limit).collect();
    if text.chars().nth(limit).is_some() {
        cut.push('…');
    }
    visible(&cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::ExposeSecret;

    fn parse(query: &str) -> Result<Callback, CallbackError> {
        Callback::parse(query, "code")
    }

    fn error_of(query: &str) -> CallbackError {
        parse(query).unwrap_err()
    }

    fn refusal(query: &str) -> AuthorizationRefusal {
        parse(query).unwrap().result.unwrap_err()
    }

    #[test]
    fn a_code_comes_with_its_state_and_perhaps_an_issuer() {
        let callback =
            parse("code=a%2Fb+c&state=xyz&iss=https%3A%2F%2Fas.test&session_state=1").unwrap();
        assert_eq!(callback.result.unwrap().expose_secret(), "a/b c");
        assert_eq!(callback.state.unwrap().expose_secret(), "xyz");
        assert_eq!(callback.issuer.unwrap(), "https://as.test");
    }

    #[test]
    fn what_a_server_says_against_it_is_kept() {
        let refusal = refusal(
            "error=access_denied&error_description=Der+Zugriff+wurde+verweigert%2C+bitte+%C3%BCberpr%C3%BCfen&state=x",
        );
        assert_eq!(refusal.error, "access_denied");
        assert_eq!(
            refusal.description.unwrap(),
            "Der Zugriff wurde verweigert, bitte überprüfen"
        );
    }

    #[test]
    fn nothing_that_a_server_says_acts_on_a_terminal_or_fills_it() {
        let refusal = refusal(&format!(
            "error=%1b[31mx&error_description=%e2%80%ae{}",
            "y".repeat(5_000)
        ));
        assert_eq!(refusal.error, "\\u{1b}[31mx");
        let description = refusal.description.unwrap();
        assert!(description.starts_with("\\u{202e}yyy"));
        assert!(description.ends_with("y…"));
        assert!(description.chars().count() < MAX_DESCRIPTION + 20);
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for name in ["code", "state", "error", "iss", "error_description"] {
            let query = format!("code=1&state=2&{name}=3&{name}=3");
            let name = if name == "code" { "the code" } else { name };
            assert_eq!(error_of(&query), CallbackError::Twice(name), "{query}");
        }
        assert_eq!(
            error_of("code=1&error=access_denied"),
            CallbackError::CodeAndError
        );
        for query in ["", "state=x", "code=&state=x", "code", "access_token=1"] {
            assert_eq!(error_of(query), CallbackError::Nothing, "{query}");
        }
        for query in ["code=%0a", "code=%00", "code=%c3%bc", "code=%ff"] {
            assert_eq!(error_of(query), CallbackError::NoCode, "{query}");
        }
        assert_eq!(
            error_of(&format!("code={}", "a".repeat(MAX_QUERY))),
            CallbackError::TooLong
        );
    }

    #[test]
    fn a_pasted_address_must_be_the_redirect_uri() {
        let uri = RedirectUri::parse("https://localhost:8765/callback").unwrap();
        let of = |text: &str| Callback::parse_url(text, &uri, "code");
        assert!(of(" https://localhost:8765/callback?code=1&state=2#_=_ \r\n").is_ok());
        for text in [
            "",
            "code=1&state=2",
            "http://localhost:8765/callback?code=1",
            "https://localhost/callback?code=1",
            "https://localhost:8765/other?code=1",
            "https://localhost:8765/callback/?code=1",
            "https://localhost:8765@evil.test/callback?code=1",
            "https://ann@localhost:8765/callback?code=1",
        ] {
            assert_eq!(of(text).unwrap_err(), CallbackError::OtherPlace, "{text}");
        }
        assert_eq!(
            of("https://localhost:8765/callback").unwrap_err(),
            CallbackError::Nothing
        );
    }

    #[test]
    fn nothing_secret_is_in_debug_output_or_errors() {
        let callback = parse("code=canary&state=canary").unwrap();
        assert!(!format!("{callback:?}").contains("canary"));
        let error = error_of("code=canary&code=canary");
        assert!(!format!("{error:?} {error}").contains("canary"));
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in ".{0,300}") {
            let _ = parse(&query);
        }

        #[test]
        fn every_code_and_state_is_read_as_it_was_sent(
            code in "[ -~]{1,80}",
            state in "[ -~]{1,80}",
            noise in proptest::collection::vec(("[a-z_]{1,3}", ".{0,10}"), 0..4),
        ) {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(noise.iter().filter(|(name, _)| name != "iss"))
                .append_pair("state", &state)
                .append_pair("code", &code)
                .finish();
            let callback = parse(&query).unwrap();
            let read = callback.state.unwrap();
            prop_assert_eq!(read.expose_secret(), &state);
            let read = callback.result.unwrap();
            prop_assert_eq!(read.expose_secret(), &code);
        }

        #[test]
        fn what_is_shown_of_a_refusal_is_plain_text_of_bounded_length(
            error in ".{1,200}",
            description in ".{0,400}",
        ) {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("error", &error)
                .append_pair("error_description", &description)
                .finish();
            let refusal = parse(&query).unwrap().result.unwrap_err();
            let shown = format!("{}{}", refusal.error, refusal.description.unwrap_or_default());
            prop_assert!(!shown.contains(char::is_control));
            prop_assert!(refusal.error.chars().count() <= MAX_ERROR * 10 + 1);
        }
    }
}
