//! How Moodle says that a token is dead: with status 200, in the first bytes of the answer.
//!
//! | where | answer |
//! | --- | --- |
//! | a function, `moodlewsrestformat=json` | 200 `{"exception":"…","errorcode":"invalidtoken","message":"…"}` |
//! | a function, XML | 200 `<EXCEPTION class="…"><ERRORCODE>invalidtoken</ERRORCODE>…` |
//! | a file | 403 (or 200) `{"error":"…","errorcode":"invalidtoken"}` |
//!
//! The message is translated, the code is not. A compressed answer is not looked into.

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};

/// How many bytes tell an exception from other answers.
pub(super) const ENOUGH_OF_START: usize = 12;

/// How much of an exception is looked at. Where debugging is on, a stack trace follows.
pub(super) const ENOUGH_OF_BODY: usize = 4 * 1024;

/// The longest exception; what announces more is none.
const LONGEST: u64 = 64 * 1024;

const CODE: &[u8] = b"\"errorcode\"";
const CODE_XML: &[u8] = b"<ERRORCODE>invalidtoken</ERRORCODE>";
const DEAD_TOKEN: &[u8] = b"\"invalidtoken\"";

/// Whether the body of an answer is worth a look.
pub(super) fn may_be_exception(status: StatusCode, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let is_text = text(CONTENT_TYPE).is_some_and(|media_type| {
        let media_type = media_type.to_ascii_lowercase();
        media_type.contains("json") || media_type.contains("xml")
    });
    matches!(status, StatusCode::OK | StatusCode::FORBIDDEN)
        && is_text
        && length.is_none_or(|length| length <= LONGEST)
        && !headers.contains_key(CONTENT_ENCODING)
}

/// Whether what has been read of a body can be the start of an exception.
pub(super) fn starts_exception(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    [&b"{\"exception\""[..], b"{\"error", b"<?xml", b"<EXCEPTION"]
        .iter()
        .any(|known| start.starts_with(known))
}

/// Whether it says that the token is dead.
pub(super) fn says_dead_token(start: &[u8]) -> bool {
    if start.trim_ascii_start().starts_with(b"<") {
        return find(start, CODE_XML).is_some();
    }
    let after_code = find(start, CODE)
        .and_then(|at| start.get(at + CODE.len()..))
        .unwrap_or_default();
    let value = after_code.trim_ascii_start().strip_prefix(b":");
    value.is_some_and(|value| value.trim_ascii_start().starts_with(DEAD_TOKEN))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn worth(status: u16, fields: &[(HeaderName, &'static str)]) -> bool {
        let headers = fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        may_be_exception(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_small_texts_are_looked_at() {
        let json = (CONTENT_TYPE, "application/json; charset=utf-8");
        assert!(worth(200, std::slice::from_ref(&json)));
        assert!(worth(403, &[json.clone(), (CONTENT_LENGTH, "130")]));
        assert!(worth(200, &[(CONTENT_TYPE, "application/xml")]));
        assert!(!worth(200, &[json.clone(), (CONTENT_LENGTH, "70000")]));
        assert!(!worth(200, &[json.clone(), (CONTENT_ENCODING, "gzip")]));
        assert!(!worth(404, std::slice::from_ref(&json)));
        assert!(!worth(200, &[(CONTENT_TYPE, "application/pdf")]));
        assert!(!worth(200, &[]));
    }

    #[test]
    fn a_dead_token_is_known_by_its_code() {
        for body in [
            r#"{"exception":"moodle_exception","errorcode":"invalidtoken","message":"Token invalide"}"#,
            r#"{"exception":"core\\exception\\moodle_exception","errorcode" : "invalidtoken"}"#,
            r#"{"error":"Ungültiges Token","errorcode":"invalidtoken","stacktrace":null}"#,
            "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<EXCEPTION class=\"moodle_exception\">\n\
             <ERRORCODE>invalidtoken</ERRORCODE>\n<MESSAGE>No</MESSAGE>\n</EXCEPTION>",
        ] {
            assert!(starts_exception(body.as_bytes()), "{body}");
            assert!(says_dead_token(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn other_exceptions_and_other_answers_are_not_taken_for_it() {
        for body in [
            r#"{"exception":"required_capability_exception","errorcode":"nopermissions","message":"invalidtoken"}"#,
            r#"{"exception":"x","message":"\"errorcode\":\"invalidtoken\"","errorcode":"other"}"#,
            r#"{"exception":"x"}"#,
            "<?xml version=\"1.0\"?><RESPONSE>invalidtoken</RESPONSE>",
        ] {
            assert!(!says_dead_token(body.as_bytes()), "{body}");
        }
        for body in [r#"[{"id":1}]"#, r#"{"courses":[]}"#, "", "null"] {
            assert!(!starts_exception(body.as_bytes()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_the_look_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (starts_exception(&body), says_dead_token(&body));
        }
    }
}
