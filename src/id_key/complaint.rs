//! What the LMS says in a 403 about a signature.

use std::time::Duration;

/// As much of a 403's body is looked at, in bytes: D2L's own words are short.
pub const MAX_COMPLAINT: usize = 4 * 1024;

const OUT_OF_RANGE: &str = "Timestamp out of range";
const INVALID_TOKEN: &str = "Invalid token";

/// Why the LMS refuses a signature. Any other 403 is about permissions, which no new signature changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The clocks differ too much; this is the LMS's time since the Unix epoch.
    TimestampOutOfRange(Duration),
    /// A key is wrong, or the user's has expired or been revoked.
    InvalidToken,
}

impl Complaint {
    /// Reads the body of a 403. What is longer than [`MAX_COMPLAINT`] is none.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        if body.len() > MAX_COMPLAINT {
            return None;
        }
        let body = String::from_utf8_lossy(body);
        if body.trim().eq_ignore_ascii_case(INVALID_TOKEN) {
            return Some(Self::InvalidToken);
        }
        server_seconds(&body).map(|seconds| Self::TimestampOutOfRange(Duration::from_secs(seconds)))
    }
}

/// `Timestamp out of range\s*(\d+)`, anywhere.
fn server_seconds(body: &str) -> Option<u64> {
    body.match_indices(OUT_OF_RANGE).find_map(|(start, found)| {
        let rest = body.get(start + found.len()..)?.trim_start();
        let end = rest.find(|character: char| !character.is_ascii_digit());
        rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Option<Complaint> {
        let time = Duration::from_secs(seconds);
        Some(Complaint::TimestampOutOfRange(time))
    }

    #[test]
    fn the_time_of_the_lms_is_found_anywhere_in_a_small_body() {
        for body in [
            "Timestamp out of range 1700000090",
            "Timestamp out of range\r\n1700000090",
            "Timestamp out of range1700000090\n",
            r#"{"Errors":[{"Message":"Timestamp out of range 1700000090"}]}"#,
            "Timestamp out of range: see Timestamp out of range 1700000090 and so on",
        ] {
            assert_eq!(
                Complaint::read(body.as_bytes()),
                at(1_700_000_090),
                "{body}"
            );
        }
        let padding = " ".repeat(MAX_COMPLAINT);
        let large = format!("Timestamp out of range 1700000090{padding}");
        assert_eq!(Complaint::read(large.as_bytes()), None);
    }

    #[test]
    fn a_refused_key_is_known_by_the_whole_body_in_any_case() {
        for body in ["Invalid token", "INVALID TOKEN\r\n"] {
            let read = Complaint::read(body.as_bytes());
            assert_eq!(read, Some(Complaint::InvalidToken), "{body}");
        }
    }

    #[test]
    fn other_words_are_about_permissions() {
        for body in [
            "",
            "Forbidden",
            "Not Authorized",
            "The comment says: Invalid token",
            "Timestamp out of range",
            "Timestamp out of range soon",
            "Timestamp out of range -1",
            "Timestamp out of range 99999999999999999999999",
            "timestamp out of range 1700000090",
        ] {
            assert_eq!(Complaint::read(body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Complaint::read(&body);
        }

        #[test]
        fn whatever_stands_around_it_the_time_is_read(
            before in "\\PC{0,40}", blanks in "[ \t\r\n]{0,3}", seconds in 0_u64..1 << 40, after in "([^0-9]\\PC{0,40})?"
        ) {
            let body = format!("{before}{OUT_OF_RANGE}{blanks}{seconds}{after}");
            prop_assert_eq!(Complaint::read(body.as_bytes()), at(seconds));
        }
    }
}
