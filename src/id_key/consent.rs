//! How a user's key is obtained: a person consents in a browser, and the LMS sends the browser back with it.

use percent_encoding::utf8_percent_encode;
use url::form_urlencoded;

use super::{IdKey, RESERVED};

/// Who looks at the LMS's page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Display {
    /// A browser.
    #[default]
    Browser,
    /// A small screen, for which some versions of the LMS have a page of its own.
    Mobile,
}

/// Why a callback brings no key. The text names parameters, never their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCallback {
    /// The person declined, or it is the callback of something else.
    #[error("{0} is missing or empty in the callback")]
    Missing(&'static str),
    /// Who knows which one is meant.
    #[error("{0} stands more than once in the callback")]
    Repeated(&'static str),
}

/// The URL to open. `endpoint` is where the LMS asks (`https://school.example/d2l/auth/api/token`); `target` is where the browser is to come back to,
/// and is signed exactly as it is.
#[must_use]
pub fn url(endpoint: &str, app: &IdKey, target: &str, display: Display) -> String {
    let encoded = |text| utf8_percent_encode(text, RESERVED);
    let separator = if endpoint.contains('?') { '&' } else { '?' };
    let display = match display {
        Display::Browser => "",
        Display::Mobile => "&type=mobile",
    };
    format!(
        "{endpoint}{separator}x_a={}&x_b={}&x_target={}{display}",
        encoded(&app.id),
        app.sign(target),
        encoded(target),
    )
}

/// Reads the query with which the browser comes back: `x_a` is the user's id, `x_b` the user's key. Other parameters are
/// the target's own, or (`x_c`) of no use.
///
/// # Errors
///
/// [`InvalidCallback`].
pub fn user_of_callback(query: &str) -> Result<IdKey, InvalidCallback> {
    let only = |name: &'static str| {
        let mut values = form_urlencoded::parse(query.as_bytes())
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) if !value.is_empty() => Ok(value.into_owned()),
            (_, Some(_)) => Err(InvalidCallback::Repeated(name)),
            _ => Err(InvalidCallback::Missing(name)),
        }
    };
    Ok(IdKey::new(only("x_a")?, only("x_b")?.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::ExposeSecret;

    #[test]
    fn a_callback_without_exactly_one_id_and_key_is_refused_without_its_values() {
        use InvalidCallback::{Missing, Repeated};
        for (query, expected) in [
            ("", Missing("x_a")),
            ("x_a=canary", Missing("x_b")),
            ("x_a=canary&x_b=", Missing("x_b")),
            ("x_b=canary&state=1", Missing("x_a")),
            ("x_a=canary&x_b=canary&x_b=canary2", Repeated("x_b")),
        ] {
            let error = user_of_callback(query).unwrap_err();
            assert_eq!(error, expected, "{query}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    proptest! {
        #[test]
        fn what_an_lms_sends_back_is_read(id in "\\PC{1,20}", key in "\\PC{1,20}", state in "[a-z&=]{0,8}") {
            let query: String = form_urlencoded::Serializer::new(String::new())
                .append_pair("state", &state)
                .append_pair("x_a", &id)
                .append_pair("x_b", &key)
                .finish();
            let user = user_of_callback(&query).unwrap();
            prop_assert_eq!(user.id(), id);
            prop_assert_eq!(user.key().expose_secret(), key);
        }

        #[test]
        fn no_query_makes_reading_panic(query in "\\PC{0,60}") {
            let _ = user_of_callback(&query);
        }
    }
}
