//! What is kept for one login.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::StoreKey;
use crate::secret::{ExposeSecret as _, SecretString};

/// Times in it are readings of the wall clock, since the Unix epoch: no other survives a restart.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which login, and which rotation since.
    pub version: Version,
    /// What the login brought.
    pub granted: Granted,
    /// The newest access token, so that a restart, or another process, need not rotate for one.
    pub access: Option<Access>,
    /// The scopes that the person has agreed to, as the AS said; `None`: as asked.
    pub scopes: Option<String>,
    /// Who has logged in, as the AS or the LMS names them: for people to read, never to decide by.
    pub account: Option<String>,
    /// A refresh token that is being presented, or was when the process ended.
    pub intent: Option<Intent>,
    /// When the AS said that the refresh token is no good (`invalid_grant`). It is kept, and not presented again.
    pub refused: Option<Duration>,
}

/// Tells one state of a record from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The login that it comes from: a random id.
    pub login: String,
    /// Counts the refresh tokens of this login, from 1.
    pub generation: u64,
}

/// What a login brings.
#[derive(Clone, Debug)]
pub enum Granted {
    /// A refresh token (RFC 6749 section 1.5).
    RefreshToken {
        /// The token.
        token: SecretString,
        /// When it ends, where the AS has said so.
        expires: Option<Duration>,
    },
    /// A user of the Brightspace ID-key scheme.
    UserKey {
        /// `x_b`.
        user: String,
        /// What signs for that user.
        key: SecretString,
        /// When it ends, where that is known.
        expires: Option<Duration>,
    },
}

/// An access token.
#[derive(Clone, Debug)]
pub struct Access {
    /// The token, without `Bearer`.
    pub token: SecretString,
    /// The scopes that were asked for, as a list; `None`: no `scope` was sent. It serves only who would ask the same.
    pub asked: Option<String>,
    /// The scopes that the AS named; `None`: as asked.
    pub granted: Option<String>,
    /// When it was asked for.
    pub issued: Duration,
    /// When it ends.
    pub expires: Duration,
}

/// A refresh token on its way: it may be spent. Which one, the record's version says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The attempt, a random id: who has opened it can tell that it was theirs.
    pub attempt: String,
    /// When this refresh token was first presented.
    pub first: Duration,
    /// How often it has been, this attempt included.
    pub presented: u32,
}

impl Version {
    /// That of a new login.
    #[must_use]
    pub fn first(login: String) -> Self {
        Self {
            login,
            generation: 1,
        }
    }

    /// That of the next refresh token.
    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            login: self.login.clone(),
            generation: self.generation.saturating_add(1),
        }
    }
}

impl Granted {
    /// When it ends, where that is known.
    #[must_use]
    pub const fn expires(&self) -> Option<Duration> {
        match self {
            Self::RefreshToken { expires, .. } | Self::UserKey { expires, .. } => *expires,
        }
    }
}

/// Room for what is written, made at once so that no half of a secret is left behind by a buffer that grows.
const ROOM: usize = 64 * 1024;

/// As it is written. Every field is there, and none that is not known: a record that says more than we understand is one that we
/// would destroy by rotating it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    key: WrittenKey<'a>,
    #[serde(borrow)]
    login: Cow<'a, str>,
    generation: u64,
    #[serde(borrow)]
    granted: WrittenGranted<'a>,
    #[serde(borrow)]
    access: Option<WrittenAccess<'a>>,
    scopes: Option<Cow<'a, str>>,
    account: Option<Cow<'a, str>>,
    #[serde(borrow)]
    intent: Option<WrittenIntent<'a>>,
    refused_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey<'a> {
    #[serde(borrow)]
    credential: Cow<'a, str>,
    #[serde(borrow)]
    token_url: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum WrittenGranted<'a> {
    RefreshToken {
        #[serde(borrow)]
        token: Cow<'a, str>,
        expires_ms: Option<u64>,
    },
    UserKey {
        #[serde(borrow)]
        user: Cow<'a, str>,
        #[serde(borrow)]
        key: Cow<'a, str>,
        expires_ms: Option<u64>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAccess<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    asked: Option<Cow<'a, str>>,
    granted: Option<Cow<'a, str>>,
    issued_ms: u64,
    expires_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIntent<'a> {
    #[serde(borrow)]
    attempt: Cow<'a, str>,
    first_ms: u64,
    presented: u32,
}

/// The record of `key` as one JSON object.
pub(super) fn encode(key: &StoreKey, record: &Record) -> Zeroizing<Vec<u8>> {
    let written = Written {
        key: WrittenKey {
            credential: Cow::Borrowed(&key.credential),
            token_url: Cow::Borrowed(&key.token_url),
            client_id: Cow::Borrowed(&key.client_id),
            subject: key.subject.as_deref().map(Cow::Borrowed),
        },
        login: Cow::Borrowed(&record.version.login),
        generation: record.version.generation,
        granted: match &record.granted {
            Granted::RefreshToken { token, expires } => WrittenGranted::RefreshToken {
                token: Cow::Borrowed(token.expose_secret()),
                expires_ms: expires.map(milliseconds),
            },
            Granted::UserKey { user, key, expires } => WrittenGranted::UserKey {
                user: Cow::Borrowed(user),
                key: Cow::Borrowed(key.expose_secret()),
                expires_ms: expires.map(milliseconds),
            },
        },
        access: record.access.as_ref().map(|access| WrittenAccess {
            token: Cow::Borrowed(access.token.expose_secret()),
            asked: access.asked.as_deref().map(Cow::Borrowed),
            granted: access.granted.as_deref().map(Cow::Borrowed),
            issued_ms: milliseconds(access.issued),
            expires_ms: milliseconds(access.expires),
        }),
        scopes: record.scopes.as_deref().map(Cow::Borrowed),
        account: record.account.as_deref().map(Cow::Borrowed),
        intent: record.intent.as_ref().map(|intent| WrittenIntent {
            attempt: Cow::Borrowed(&intent.attempt),
            first_ms: milliseconds(intent.first),
            presented: intent.presented,
        }),
        refused_ms: record.refused.map(milliseconds),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
    #[expect(
        clippy::expect_used,
        reason = "strings and numbers in a struct, written to memory: nothing can fail"
    )]
    serde_json::to_writer(&mut *bytes, &written).expect("a record can be written down");
    bytes
}

/// Reads what [`encode`] has written; `None`: it is something else.
pub(super) fn decode(bytes: &[u8]) -> Option<(StoreKey, Record)> {
    let written: Written<'_> = serde_json::from_slice(bytes).ok()?;
    let key = StoreKey {
        credential: written.key.credential.into(),
        token_url: written.key.token_url.into_owned(),
        client_id: written.key.client_id.into_owned(),
        subject: written.key.subject.map(Into::into),
    };
    let record = Record {
        version: Version {
            login: written.login.into_owned(),
            generation: written.generation,
        },
        granted: match written.granted {
            WrittenGranted::RefreshToken { token, expires_ms } => Granted::RefreshToken {
                token: secret(token),
                expires: expires_ms.map(Duration::from_millis),
            },
            WrittenGranted::UserKey {
                user,
                key,
                expires_ms,
            } => Granted::UserKey {
                user: user.into_owned(),
                key: secret(key),
                expires: expires_ms.map(Duration::from_millis),
            },
        },
        access: written.access.map(|access| Access {
            token: secret(access.token),
            asked: access.asked.map(Cow::into_owned),
            granted: access.granted.map(Cow::into_owned),
            issued: Duration::from_millis(access.issued_ms),
            expires: Duration::from_millis(access.expires_ms),
        }),
        scopes: written.scopes.map(Cow::into_owned),
        account: written.account.map(Cow::into_owned),
        intent: written.intent.map(|intent| Intent {
            attempt: intent.attempt.into_owned(),
            first: Duration::from_millis(intent.first_ms),
            presented: intent.presented,
        }),
        refused: written.refused_ms.map(Duration::from_millis),
    };
    Some((key, record))
}

fn secret(text: Cow<'_, str>) -> SecretString {
    match text {
        Cow::Borrowed(text) => SecretString::from(text),
        // It had an escape in it. What is moved is wiped with the secret.
        Cow::Owned(text) => SecretString::from(text),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Everything that is the same in two records that are.
    pub(in crate::store) fn fields(record: &Record) -> Vec<u8> {
        let key = StoreKey {
            credential: "any".into(),
            token_url: String::new(),
            client_id: String::new(),
            subject: None,
        };
        encode(&key, record).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn time() -> impl Strategy<Value = Duration> {
        any::<u64>().prop_map(Duration::from_millis)
    }

    fn secrets() -> impl Strategy<Value = SecretString> {
        any::<String>().prop_map(SecretString::from)
    }

    fn granted() -> impl Strategy<Value = Granted> {
        prop_oneof![
            (secrets(), option::of(time()))
                .prop_map(|(token, expires)| Granted::RefreshToken { token, expires }),
            (any::<String>(), secrets(), option::of(time()))
                .prop_map(|(user, key, expires)| Granted::UserKey { user, key, expires }),
        ]
    }

    fn access() -> impl Strategy<Value = Access> {
        let text = || option::of(any::<String>());
        (secrets(), text(), text(), time(), time()).prop_map(
            |(token, asked, granted, issued, expires)| Access {
                token,
                asked,
                granted,
                issued,
                expires,
            },
        )
    }

    fn intent() -> impl Strategy<Value = Intent> {
        (any::<String>(), time(), any::<u32>()).prop_map(|(attempt, first, presented)| Intent {
            attempt,
            first,
            presented,
        })
    }

    fn records() -> impl Strategy<Value = Record> {
        let text = || option::of(any::<String>());
        (
            (any::<String>(), any::<u64>()),
            granted(),
            option::of(access()),
            (text(), text()),
            option::of(intent()),
            option::of(time()),
        )
            .prop_map(
                |((login, generation), granted, access, (scopes, account), intent, refused)| {
                    Record {
                        version: Version { login, generation },
                        granted,
                        access,
                        scopes,
                        account,
                        intent,
                        refused,
                    }
                },
            )
    }

    fn keys() -> impl Strategy<Value = StoreKey> {
        let text = any::<String>;
        (text(), text(), text(), option::of(text())).prop_map(
            |(credential, token_url, client_id, subject)| StoreKey {
                credential: credential.into(),
                token_url,
                client_id,
                subject: subject.map(Into::into),
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(key in keys(), record in records()) {
            let written = encode(&key, &record);
            let (read_key, read) = decode(&written).unwrap();
            prop_assert_eq!(&read_key, &key);
            prop_assert_eq!(&*encode(&read_key, &read), &*written);
        }

        #[test]
        fn half_a_record_is_none(key in keys(), record in records(), part in 0.0..1.0_f64) {
            let written = encode(&key, &record);
            let end = (written.len() as f64 * part) as usize;
            prop_assert!(decode(&written[..end]).is_none());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_record_that_says_more_than_we_know_is_not_ours_to_replace() {
        let key = StoreKey {
            credential: "d2l".into(),
            token_url: "u".to_owned(),
            client_id: "c".to_owned(),
            subject: None,
        };
        let record = Record {
            version: Version::first("login".to_owned()),
            granted: Granted::RefreshToken {
                token: SecretString::from("t"),
                expires: None,
            },
            access: None,
            scopes: None,
            account: None,
            intent: None,
            refused: None,
        };
        let text = String::from_utf8(encode(&key, &record).to_vec()).unwrap();
        assert!(decode(text.as_bytes()).is_some());
        let more = text.replace("\"generation\":1", "\"generation\":1,\"lease\":2");
        assert!(decode(more.as_bytes()).is_none());
        let twice = text.replace("\"generation\":1", "\"generation\":1,\"generation\":2");
        assert!(decode(twice.as_bytes()).is_none());
        assert!(!format!("{record:?}").contains("\"t\""));
    }
}
