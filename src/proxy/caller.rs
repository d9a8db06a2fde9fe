//! Who may use bursar at all: with a caller key configured, requests that show it (R78).
//!
//! Every process in the network namespace can connect to a loopback port; the key tells the application from the others.
//! Asked for before Host and policy are looked at: whoever has no key learns nothing about names and routes.
//!
//! A right key is never delayed, so wrong ones cannot be made to wait either: whoever guesses would only look for the
//! answer that comes at once. What stands against guessing is the length of a key alone
//! ([`AccessKeys::MIN_LENGTH`]). A wrong one ends the connection over HTTP/1.1, which slows a guesser down at best: over
//! HTTP/2 it ends only its stream, as the other streams may have shown a right one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION},
};
use zeroize::Zeroizing;

use super::reject::Rejection;
use crate::{code::Code, secret::AccessKeys};

/// Holds the key alone.
const CALLER_KEY: HeaderName = HeaderName::from_static("bursar-caller");

/// What a field shows.
enum Shown {
    Nothing,
    Wrong,
    Right,
}

/// Whether the request shows one of the keys, in any of the fields that may hold it. An application whose library insists
/// on an `Authorization` of its own shows the key in another one.
pub(super) fn check(keys: Option<&AccessKeys>, headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(keys) = keys else {
        return Ok(());
    };
    let mut is_wrong = false;
    for name in [CALLER_KEY, AUTHORIZATION, PROXY_AUTHORIZATION] {
        match show(keys, &name, headers) {
            Shown::Right => return Ok(()),
            Shown::Wrong => is_wrong = true,
            Shown::Nothing => {}
        }
    }
    if is_wrong {
        return Err(
            Rejection::new(Code::ClientUnauthenticated, "The caller key is wrong.").closing(),
        );
    }
    Err(Rejection::new(
        Code::ClientUnauthenticated,
        "A caller key is needed: as `Bursar-Caller: KEY`, `Authorization: Bearer KEY` or a Basic password.",
    ))
}

fn show(keys: &AccessKeys, name: &HeaderName, headers: &HeaderMap) -> Shown {
    let mut values = headers.get_all(name).iter();
    let (Some(value), more) = (values.next(), values.next()) else {
        return Shown::Nothing;
    };
    let value = value.as_bytes();
    let is_right = if *name == CALLER_KEY {
        keys.admit(value)
    } else {
        is_admitted(keys, value)
    };
    // Twice the same field would be two guesses.
    if is_right && more.is_none() {
        Shown::Right
    } else {
        Shown::Wrong
    }
}

/// `Bearer KEY` (RFC 6750 section 2.1), or `Basic` with any user name and the key as password (RFC 7617).
fn is_admitted(keys: &AccessKeys, credentials: &[u8]) -> bool {
    let Some(blank) = credentials.iter().position(|byte| *byte == b' ') else {
        return false;
    };
    let (scheme, rest) = credentials.split_at(blank);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        keys.admit(rest)
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        let decoded = STANDARD.decode(rest).map(Zeroizing::new);
        decoded.is_ok_and(|pair| {
            // A user name holds no colon, a password may.
            let colon = pair.iter().position(|byte| *byte == b':');
            let password = colon.and_then(|colon| pair.get(colon.saturating_add(1)..));
            password.is_some_and(|password| keys.admit(password))
        })
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef+/:=";

    fn keys() -> AccessKeys {
        AccessKeys::parse(KEY).unwrap()
    }

    fn checked(fields: &[(&str, &str)]) -> Result<(), Rejection> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        check(Some(&keys()), &headers)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn each_form_of_the_key_is_taken() {
        let bearer = format!("Bearer {KEY}");
        let lower_case = format!("bearer  {KEY}");
        let pair = basic(&format!("anybody:{KEY}"));
        let no_name = basic(&format!(":{KEY}"));
        for (name, value) in [
            ("bursar-caller", KEY),
            ("authorization", &bearer),
            ("authorization", &lower_case),
            ("authorization", &pair),
            ("authorization", &no_name),
            ("proxy-authorization", &bearer),
            ("proxy-authorization", &pair),
        ] {
            assert!(checked(&[(name, value)]).is_ok(), "{name}: {value}");
        }
        let beside_its_own = [("authorization", "Bearer its-own"), ("bursar-caller", KEY)];
        assert!(checked(&beside_its_own).is_ok());
    }

    #[test]
    fn a_wrong_key_ends_the_connection_and_a_missing_one_does_not() {
        let missing = checked(&[("accept", "*/*")]).unwrap_err();
        assert_eq!(missing.code, Code::ClientUnauthenticated);
        assert!(!missing.close);

        let bearer = format!("Bearer {KEY}x");
        let in_the_name = basic(&format!("{KEY}:x"));
        let no_colon = basic(KEY);
        let digest = format!("Digest {KEY}");
        for fields in [
            &[("bursar-caller", "")][..],
            &[("bursar-caller", "0123456789abcdef+/:")],
            &[("bursar-caller", KEY), ("bursar-caller", KEY)],
            &[("authorization", KEY)],
            &[("authorization", &bearer)],
            &[("authorization", "Bearer")],
            &[("authorization", &in_the_name)],
            &[("authorization", &no_colon)],
            &[("authorization", "Basic ***")],
            &[("authorization", &digest)],
        ] {
            let wrong = checked(fields).unwrap_err();
            assert_eq!(wrong.code, Code::ClientUnauthenticated, "{fields:?}");
            assert!(wrong.close, "{fields:?}");
        }
    }

    #[test]
    fn without_a_key_in_the_configuration_nobody_is_asked() {
        assert!(check(None, &HeaderMap::new()).is_ok());
    }

    proptest! {
        #[test]
        fn no_value_but_the_key_itself_is_admitted(value in prop_oneof![
            prop::collection::vec(0x20_u8..0x7f, 0..60),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| basic(&String::from_utf8_lossy(&bytes)).into_bytes()),
            prop::collection::vec(any::<u8>(), 0..60),
        ]) {
            prop_assert!(!is_admitted(&keys(), &value));
        }
    }
}
