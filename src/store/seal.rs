//! What hides a record: AES-256-GCM-SIV (RFC 8452), which survives that a nonce comes up twice.
//!
//! A sealed file is one line of text (`bursar-state 1 KEY-ID`), then a nonce of 12 bytes and the ciphertext with its tag. The line, and
//! the name of the record, are authenticated with it.

use std::fmt::Write as _;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::key::RecordName;
use crate::secret::{ExposeSecret as _, SecretString};

/// What every sealed file begins with.
const MAGIC: &str = "bursar-state ";

/// The only form of a record that there is so far.
const FORM: &str = "1";

/// Longer than any head line.
const MAX_HEAD: usize = 64;

/// The keys of the store: the first one seals, all of them open.
pub(super) struct SealingKeys(Vec<SealingKey>);

struct SealingKey {
    id: String,
    cipher: RandomizedNonceKey,
}

/// Why a text does not hold keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotKeys {
    /// From 1.
    pub(super) line: usize,
    pub(super) reason: &'static str,
}

/// Why a sealed file does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// None of our keys has sealed it.
    NoKey(String),
    /// What is wrong with it, as a predicate.
    Content(&'static str),
}

impl SealingKeys {
    /// Open nothing, and seal nothing.
    pub(super) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a key file: base64 of 32 bytes on each line, blank lines aside.
    pub(super) fn parse(text: &SecretString) -> Result<Self, NotKeys> {
        let mut keys = Vec::new();
        for (number, line) in text.expose_secret().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let key = SealingKey::parse(line).ok_or_else(|| NotKeys {
                line: number.saturating_add(1),
                reason: "is not base64 of 32 bytes",
            })?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(NotKeys {
                line: 1,
                reason: "holds no key",
            });
        }
        Ok(Self(keys))
    }

    /// Seals `content` for the record called `name`. `None`: there is no key, or the crypto library fails.
    pub(super) fn seal(
        &self,
        name: &RecordName,
        mut content: Zeroizing<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let key = self.0.first()?;
        let head = format!("{MAGIC}{FORM} {}\n", key.id);
        let nonce = key
            .cipher
            .seal_in_place_append_tag(Aad::from(bound_to(&head, name)), &mut *content)
            .ok()?;
        let mut sealed = head.into_bytes();
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&content);
        Some(sealed)
    }

    /// Opens what was sealed for the record called `name`.
    pub(super) fn open(
        &self,
        name: &RecordName,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Shut> {
        const DAMAGED: Shut = Shut::Content("is damaged, or was moved here from another name");
        let (head, rest) = split_head(sealed).ok_or(Shut::Content("is no record of bursar's"))?;
        let id = key_id(head)?;
        let key = self
            .0
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| Shut::NoKey(id.to_owned()))?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).ok_or(DAMAGED)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DAMAGED)?;
        let mut content = Zeroizing::new(ciphertext.to_vec());
        let length = key
            .cipher
            .open_in_place(nonce, Aad::from(bound_to(head, name)), &mut content)
            .map_err(|_| DAMAGED)?
            .len();
        content.truncate(length);
        Ok(content)
    }
}

impl SealingKey {
    fn parse(line: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(line).ok()?);
        // The other sizes are refused here.
        let cipher = RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes).ok()?;
        Some(Self {
            id: identify(&bytes),
            cipher,
        })
    }
}

/// Tells keys apart without telling the key: 64 bits of a digest.
fn identify(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"bursar-state key id\0");
    context.update(key);
    let digest = context.finish();
    let mut id = String::with_capacity(16);
    for byte in digest.as_ref().iter().take(8) {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// What is authenticated beside the record. The head has one newline, at its end: the two cannot run into each other.
fn bound_to(head: &str, name: &RecordName) -> Vec<u8> {
    [head.as_bytes(), name.as_bytes()].concat()
}

/// The head with its newline, and what follows.
fn split_head(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let end = sealed
        .iter()
        .take(MAX_HEAD)
        .position(|byte| *byte == b'\n')?;
    let (head, rest) = sealed.split_at_checked(end.saturating_add(1))?;
    let head = std::str::from_utf8(head).ok()?;
    head.starts_with(MAGIC).then_some((head, rest))
}

fn key_id(head: &str) -> Result<&str, Shut> {
    let words = head.strip_prefix(MAGIC).and_then(|rest| {
        let (form, id) = rest.strip_suffix('\n')?.split_once(' ')?;
        let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some((form, is_id.then_some(id)))
    });
    match words {
        Some((FORM, Some(id))) => Ok(id),
        Some((FORM, None)) | None => Err(Shut::Content("is no record of bursar's")),
        Some(_) => Err(Shut::Content("was written by another version of bursar")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::StoreKey;

    fn text(bytes: &[u8]) -> String {
        bytes
            .iter()
            .map(|byte| STANDARD.encode([*byte; 32]) + "\n")
            .collect()
    }

    fn keys(bytes: &[u8]) -> SealingKeys {
        SealingKeys::parse(&SecretString::from(text(bytes))).unwrap()
    }

    fn name(credential: &str) -> RecordName {
        StoreKey {
            credential: credential.into(),
            token_url: "https://as.test/token".to_owned(),
            client_id: "me".to_owned(),
            subject: None,
        }
        .record_name()
    }

    fn sealed() -> Vec<u8> {
        let content = Zeroizing::new(b"the record".to_vec());
        keys(&[1]).seal(&name("d2l"), content).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_and_shows_nothing_until_then() {
        let sealed = sealed();
        assert!(!sealed.windows(6).any(|part| part == b"record"));
        let opened = keys(&[1]).open(&name("d2l"), &sealed).unwrap();
        assert_eq!(&**opened, b"the record");
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let sealed = sealed();
        assert!(keys(&[2, 1]).open(&name("d2l"), &sealed).is_ok());
        let anew = keys(&[2, 1])
            .seal(&name("d2l"), Zeroizing::new(b"anew".to_vec()))
            .unwrap();
        assert!(keys(&[2]).open(&name("d2l"), &anew).is_ok());
        assert!(matches!(
            keys(&[1]).open(&name("d2l"), &anew),
            Err(Shut::NoKey(_))
        ));
    }

    #[test]
    fn a_record_opens_under_its_own_name_only() {
        assert!(matches!(
            keys(&[1]).open(&name("canvas"), &sealed()),
            Err(Shut::Content(_))
        ));
    }

    #[test]
    fn the_form_of_a_later_bursar_is_told_from_garbage() {
        let head = b"bursar-state 2 0123456789abcdef\nrest";
        assert_eq!(
            keys(&[1]).open(&name("d2l"), head),
            Err(Shut::Content("was written by another version of bursar"))
        );
        for garbage in [
            &b""[..],
            b"\n",
            b"bursar-state 1\n",
            b"bursar-state 1 xyz\n",
        ] {
            assert_eq!(
                keys(&[1]).open(&name("d2l"), garbage),
                Err(Shut::Content("is no record of bursar's"))
            );
        }
    }

    #[test]
    fn a_line_that_is_no_key_is_named_by_its_number_and_not_shown() {
        let parse = |text: &str| SealingKeys::parse(&SecretString::from(text)).err();
        let bad = |line| {
            Some(NotKeys {
                line,
                reason: "is not base64 of 32 bytes",
            })
        };
        assert_eq!(parse(&text(&[1, 2])), None);
        assert_eq!(parse(&format!("\n{}\n", text(&[1]))), None);
        assert_eq!(parse(&format!("{}secret", text(&[1]))), bad(2));
        assert_eq!(parse(&STANDARD.encode([1; 16])), bad(1));
        assert_eq!(parse(&STANDARD.encode([1; 33])), bad(1));
        assert!(parse("\n\n").is_some());
    }

    proptest! {
        #[test]
        fn a_record_that_was_touched_anywhere_does_not_open(place in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut sealed = sealed();
            let place = place.index(sealed.len());
            sealed[place] ^= flip;
            prop_assert!(keys(&[1]).open(&name("d2l"), &sealed).is_err());
        }

        #[test]
        fn half_a_record_does_not_open(place in any::<prop::sample::Index>()) {
            let sealed = sealed();
            let end = place.index(sealed.len());
            prop_assert!(keys(&[1]).open(&name("d2l"), &sealed[..end]).is_err());
        }

        #[test]
        fn no_bytes_make_the_opener_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(keys(&[1]).open(&name("d2l"), &bytes).is_err());
        }
    }
}
