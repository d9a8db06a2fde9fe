//! Brightspace ID-key authentication: a request is signed instead of carrying a token.
//!
//! There is no RFC for it; the rules are those of D2L's own client libraries ("Valence"). Two keys sign the same text,
//! method & path & time, with HMAC-SHA256: the application's, which D2L issues, and the user's, which the LMS hands out when a
//! person consents. Five query parameters carry the result:
//!
//! | parameter | value |
//! | --- | --- |
//! | `x_a`, `x_b` | application id, user id |
//! | `x_c`, `x_d` | signature by the application's key, by the user's key |
//! | `x_t` | the time that was signed, in Unix seconds |
//!
//! Host, query, fields and body are not signed, so a signature is as good as a token for its path until its time runs out
//! (five minutes or so): [`Signer::sign`] comes after all that happens to a path, and what it returns is never logged.
//!
//! [`Complaint`] reads what the LMS says of a signature that it refuses, and [`consent`] gets the user's key.

pub mod consent;

mod base_string;
mod complaint;
mod skew;
mod strip;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{Method, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    clock::Moment,
    secret::{self, ExposeSecret, SecretString},
};
pub use complaint::{Complaint, MAX_COMPLAINT};
pub use skew::Skew;
pub use strip::{signatures, without_signature};

/// So many refusals in a row, and none of them by chance.
const DEAD_AFTER: u32 = 3;

/// Everything but what RFC 3986 section 2.3 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An identifier with the key that proves it: the application's or a user's.
pub struct IdKey {
    id: String,
    key: SecretString,
    /// Boxed: it is more than a kilobyte.
    hmac: Box<hmac::Key>,
}

impl IdKey {
    /// The key's bytes are those of its text, as the LMS shows it.
    #[must_use]
    pub fn new(id: String, key: SecretString) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
        let hmac = Box::new(hmac);
        Self { id, key, hmac }
    }

    /// The identifier, which is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key, to be kept.
    #[must_use]
    pub const fn key(&self) -> &SecretString {
        &self.key
    }

    /// The MAC in base64 without padding, `-` and `_` for `+` and `/` (RFC 4648 section 5).
    fn sign(&self, text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.hmac, text.as_bytes()))
    }
}

impl PartialEq for IdKey {
    fn eq(&self, other: &Self) -> bool {
        secret::is_same(&self.key, &other.key) && self.id == other.id
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IdKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Signs requests for one application and, unless it calls anonymously, one user.
#[derive(Debug)]
pub struct Signer {
    app: Arc<IdKey>,
    user: Option<IdKey>,
    skew: Arc<Skew>,
    /// Refusals in a row.
    refusals: AtomicU32,
}

/// The target with its signature is longer than a URI can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request target is too long to be signed")]
pub struct TooLong;

impl Signer {
    /// Without a user the LMS answers what it answers to everybody. `skew` is shared by all that sign for one LMS.
    #[must_use]
    pub const fn new(app: Arc<IdKey>, user: Option<IdKey>, skew: Arc<Skew>) -> Self {
        Self {
            app,
            user,
            skew,
            refusals: AtomicU32::new(0),
        }
    }

    /// The target with the five parameters behind its query, of which every byte stays as it is.
    ///
    /// `target` is exactly what would be sent without them. Each attempt is signed anew: the time is part of it.
    ///
    /// # Errors
    ///
    /// [`TooLong`], beyond 64 KiB.
    pub fn sign(
        &self,
        method: &Method,
        target: &PathAndQuery,
        now: Moment,
    ) -> Result<PathAndQuery, TooLong> {
        let seconds = self.skew.server_seconds(now);
        let text = base_string::base_string(method, target.path(), seconds);
        let mut signed = target.as_str().to_owned();
        let mut separator = if target.query().is_some() { '&' } else { '?' };
        let mut add = |name, value: &str| {
            signed.push(separator);
            signed.push_str(name);
            signed.push('=');
            signed.extend(utf8_percent_encode(value, RESERVED));
            separator = '&';
        };
        add("x_a", &self.app.id);
        add("x_c", &self.app.sign(&text));
        if let Some(user) = &self.user {
            add("x_b", &user.id);
            add("x_d", &user.sign(&text));
        }
        add("x_t", &seconds.to_string());
        PathAndQuery::try_from(signed).map_err(|_invalid| TooLong)
    }

    /// What is known about the LMS's clock.
    #[must_use]
    pub fn skew(&self) -> &Skew {
        &self.skew
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &IdKey {
        &self.app
    }

    /// The user whose key signs too.
    #[must_use]
    pub const fn user(&self) -> Option<&IdKey> {
        self.user.as_ref()
    }

    /// Notes whether the LMS takes the keys. True when that is news: worth a line then, and not for every request.
    pub fn note(&self, is_refused: bool) -> bool {
        if is_refused {
            return self.refusals.fetch_add(1, Ordering::Relaxed) == 0;
        }
        // Mostly nothing changes, and a read is cheaper than a write that all threads share.
        self.refusals.load(Ordering::Relaxed) > 0 && self.refusals.swap(0, Ordering::Relaxed) > 0
    }

    /// Lets the next refusal decide anew: nothing is signed while the keys count as dead, so nothing could ever show that they are not.
    pub fn parole(&self) {
        self.refusals.store(DEAD_AFTER - 1, Ordering::Relaxed);
    }

    /// Whether the LMS has refused the keys several times in a row. Once may be a path that it signs in another way.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.refusals.load(Ordering::Relaxed) >= DEAD_AFTER
    }
}

/// Whether both sign alike. What they know about a clock does not count.
impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.app == other.app && self.user == other.user
    }
}
