//! Brightspace's ID keys, as the LMS verifies them. Written anew, and not with what bursar signs with: see the parent.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;

use super::{reply, store::State};
use crate::{
    clock::Moment,
    secret::{ExposeSecret, SecretString},
};

/// How far a signature's time may be from the LMS's, in seconds.
const TOLERANCE: u64 = 300;

/// The names of a signature's parameters.
const NAMES: [&str; 5] = ["x_a", "x_b", "x_c", "x_d", "x_t"];

/// Who has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signatory {
    /// The application in the name of the user.
    User,
    /// The application alone.
    Anonymous,
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The LMS's seconds are in it.
    TimestampOutOfRange(u64),
    /// The keys do not fit, or the parameters are not what they should be.
    InvalidToken,
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = match self {
            Self::TimestampOutOfRange(now) => format!("Timestamp out of range {now}"),
            Self::InvalidToken => "Invalid token".to_owned(),
        };
        reply::text(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", body)
    }
}

/// Whether a query holds a signature, be it a bad one.
pub(super) fn is_signed(uri: &Uri) -> bool {
    parameters(uri).iter().any(|values| !values.is_empty())
}

/// Verifies the signature of a request.
///
/// # Errors
///
/// [`Refusal`]
pub(super) fn verify(
    state: &State,
    method: &Method,
    uri: &Uri,
    now: Moment,
) -> Result<Signatory, Refusal> {
    let [app, user, app_mac, user_mac, time] = parameters(uri);
    let (app, app_mac, time) = (one(app)?, one(app_mac)?, one(time)?);
    let seconds: u64 = time.parse().map_err(|_| Refusal::InvalidToken)?;
    let now = now.wall.as_secs();
    if now.abs_diff(seconds) > TOLERANCE {
        return Err(Refusal::TimestampOutOfRange(now));
    }
    let keys = &state.id_keys;
    let text = text_to_sign(method, uri.path(), &time);
    if app != keys.app_id || !fits(&keys.app_key, &text, &app_mac) {
        return Err(Refusal::InvalidToken);
    }
    state.store().remember_secret(app_mac);
    if user.is_empty() && user_mac.is_empty() {
        return Ok(Signatory::Anonymous);
    }
    let (user, user_mac) = (one(user)?, one(user_mac)?);
    let user_key = state.store().user_key(&keys.user_key);
    let is_users = |key: SecretString| user == keys.user_id && fits(&key, &text, &user_mac);
    if !user_key.is_some_and(is_users) {
        return Err(Refusal::InvalidToken);
    }
    state.store().remember_secret(user_mac);
    Ok(Signatory::User)
}

/// Whether `mac`, in base64 without padding, is that of the text.
pub(super) fn fits(key: &SecretString, text: &str, mac: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    let mac = BASE64_URL_SAFE_NO_PAD.decode(mac);
    mac.is_ok_and(|mac| hmac::verify(&key, text.as_bytes(), &mac).is_ok())
}

fn one(values: Vec<String>) -> Result<String, Refusal> {
    <[String; 1]>::try_from(values)
        .map(|[value]| value)
        .map_err(|_| Refusal::InvalidToken)
}

/// The values of each of [`NAMES`].
fn parameters(uri: &Uri) -> [Vec<String>; 5] {
    let query = uri.query().unwrap_or_default().as_bytes();
    NAMES.map(|name| {
        url::form_urlencoded::parse(query)
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    })
}

fn text_to_sign(method: &Method, path: &str, time: &str) -> String {
    let lower: String = decoded(path).chars().flat_map(char::to_lowercase).collect();
    [&method.as_str().to_uppercase(), &lower, time].join("&")
}

/// What ASP.NET's `UrlDecode` makes of it.
fn decoded(path: &str) -> String {
    let mut bytes = path.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let ahead = bytes.clone();
                let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = hex(bytes.next()).zip(hex(bytes.next()));
                match value.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
                    Some(byte) => byte,
                    None => {
                        bytes = ahead;
                        b'%'
                    }
                }
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_read_as_asp_net_reads_it() {
        let text = |path| text_to_sign(&Method::GET, path, "7");
        assert_eq!(text("/D2L/a%2Fb+c"), "GET&/d2l/a/b c&7");
        assert_eq!(text("/%C3%89"), "GET&/é&7");
        assert_eq!(text("/%zz%4"), "GET&/%zz%4&7");
    }

    #[test]
    fn a_mac_of_another_key_or_text_does_not_fit() {
        // From D2L's vectors.
        let key = "5Ts6F8Jj0aUhEo1yZ0qq1w".into();
        let text = "GET&/d2l/api/lp/1.43/users/whoami&1700000000";
        let mac = "L21V2M1hj55Pl4VQNAAp0iqmlYPTum4bkcyokBKiRwg";
        assert!(fits(&key, text, mac));
        assert!(!fits(&"another".into(), text, mac));
        assert!(!fits(
            &key,
            "GET&/d2l/api/lp/1.43/users/whoami&1700000001",
            mac
        ));
        assert!(!fits(&key, text, &format!("{mac}=")));
        assert!(!fits(&key, text, ""));
    }

    proptest! {
        #[test]
        fn no_path_makes_decoding_panic(path in "\\PC{0,40}") {
            decoded(&path);
        }
    }
}
