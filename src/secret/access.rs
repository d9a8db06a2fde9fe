//! Keys by which bursar knows its callers: the application (`server.caller_key_file`) and the operator
//! (`admin.control_key_file`).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret, SecretString};

use super::is_same;

/// One key, or several while one replaces another: any of them will do.
#[derive(Clone, Debug)]
pub struct AccessKeys {
    /// The one that we show ourselves.
    first: SecretString,
    others: Vec<SecretString>,
}

/// Why a text is no list of keys. Never with a byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAccessKey {
    /// A key is so short that it can be guessed.
    #[error(
        "line {line} has {length} characters; a key has at least {}",
        AccessKeys::MIN_LENGTH
    )]
    Short {
        /// From 1.
        line: usize,
        /// Of the key.
        length: usize,
    },
    /// A key cannot stand in a field of a request.
    #[error("line {line} has blanks or other characters that cannot be sent in a header field")]
    Character {
        /// From 1.
        line: usize,
    },
    /// There is none.
    #[error("there is no key in it")]
    None,
}

impl AccessKeys {
    /// Fewer characters can be guessed.
    pub const MIN_LENGTH: usize = 16;

    /// One key per line, in visible ASCII; empty lines are skipped.
    ///
    /// # Errors
    ///
    /// [`InvalidAccessKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidAccessKey> {
        let mut keys = Vec::new();
        for (line, key) in (1..).zip(text.lines()).filter(|(_, key)| !key.is_empty()) {
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(InvalidAccessKey::Character { line });
            }
            if key.len() < Self::MIN_LENGTH {
                let length = key.len();
                return Err(InvalidAccessKey::Short { line, length });
            }
            keys.push(SecretString::from(key));
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            first: keys.next().ok_or(InvalidAccessKey::None)?,
            others: keys.collect(),
        })
    }

    /// Whether `shown` is one of them. Takes the same time however much of it is right, and whichever it is; only the
    /// lengths of the keys, which say nothing about a random one, can be told from it.
    #[must_use]
    pub fn admit(&self, shown: &[u8]) -> bool {
        let is_equal = |key: &SecretString| {
            verify_slices_are_equal(key.expose_secret().as_bytes(), shown).is_ok()
        };
        // No `any`: it would stop at the one that fits.
        self.others
            .iter()
            .fold(is_equal(&self.first), |found, key| found | is_equal(key))
    }

    /// Whether both admit the same, and show the same themselves.
    #[must_use]
    pub fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => {
                let pairs = one.others.iter().zip(&other.others);
                one.others.len() == other.others.len()
                    && pairs.fold(is_same(&one.first, &other.first), |same, (one, other)| {
                        same & is_same(one, other)
                    })
            }
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The key to show where bursar itself is the caller.
    #[must_use]
    pub const fn first(&self) -> &SecretString {
        &self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210+/=";

    #[test]
    fn each_line_is_a_key_and_any_of_them_will_do() {
        let keys = AccessKeys::parse(&format!("{NEW}\r\n\n{OLD}\n")).unwrap();
        assert!(keys.admit(NEW.as_bytes()));
        assert!(keys.admit(OLD.as_bytes()));
        assert_eq!(keys.first().expose_secret(), NEW);
        for wrong in ["", "0123456789abcdeF", "0123456789abcdef0", "0123456789"] {
            assert!(!keys.admit(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn what_could_be_guessed_or_cannot_be_sent_is_refused_with_its_line() {
        let error = |text: &str| AccessKeys::parse(text).unwrap_err();
        let short = InvalidAccessKey::Short {
            line: 2,
            length: 15,
        };
        assert_eq!(error(&format!("{OLD}\n0123456789abcde")), short);
        for wrong in [
            " 0123456789abcdef",
            "0123456789abcdef\t",
            "0123456789abcdéf",
        ] {
            assert_eq!(error(wrong), InvalidAccessKey::Character { line: 1 });
        }
        assert_eq!(error("\n"), InvalidAccessKey::None);
    }

    #[test]
    fn a_key_is_in_no_debug_output_and_no_error() {
        let keys = AccessKeys::parse(OLD).unwrap();
        assert!(!format!("{keys:?}").contains(OLD));
        let error = AccessKeys::parse("canary").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}
