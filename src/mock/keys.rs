//! The client's public keys, read by D2L's rules: `kty` and `kid` are needed, `use` is absent or `sig`, a private member
//! spoils a key, `alg` is not read, and a member `exp` ends a key's life. Keys are kept per `kid` for an hour; an
//! unknown `kid` makes the mock ask for the set again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};

use super::exchange::exchange;

/// How long a fetched key is used without asking again.
const CACHED_FOR: Duration = Duration::from_hours(1);

/// Limit of one request for a key set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The members that only private keys have (RFC 7518 sections 6.2.2 and 6.3.2).
const PRIVATE_MEMBERS: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Where the client's public keys are.
#[derive(Clone, Default)]
pub enum KeySource {
    /// Nowhere: assertions are refused.
    #[default]
    None,
    /// Here.
    Set(KeySet),
    /// At this URL, on loopback, over plain HTTP: bursar's own `/.well-known/jwks.json`. The real
    /// service wants HTTPS, and a host that it can reach.
    Url(Url),
}

/// The usable keys of a key set (RFC 7517), by `kid`.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: HashMap<String, VerifyingKey>,
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not the JSON of RFC 7517 section 5.
    #[error("it is not a JSON Web Key Set")]
    Malformed(#[source] serde_json::Error),
    /// Only `http://` on loopback is asked.
    #[error("its URL is not http:// on loopback")]
    NotLoopback,
    /// It could not be had.
    #[error("it cannot be fetched")]
    Fetch(#[source] std::io::Error),
    /// Another status than 200.
    #[error("it cannot be fetched: HTTP {0}")]
    Status(StatusCode),
    /// No answer within five seconds.
    #[error("it cannot be fetched: no answer within {FETCH_TIMEOUT:?}")]
    Timeout,
}

/// A public key, and what may be signed with its other half.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) key: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
    /// By the wall clock since 1970.
    expires: Option<Duration>,
}

/// The keys of the registered client, and where to get more.
pub(super) struct Keys {
    inner: Mutex<Inner>,
}

struct Inner {
    source: KeySource,
    cached: HashMap<String, Cached>,
}

struct Cached {
    key: VerifyingKey,
    until: Duration,
}

/// The answer to "which key is this?".
pub(super) enum Lookup {
    Found(VerifyingKey),
    /// Not among the known ones; the set is at this URL.
    Ask(Url),
    Unknown,
}

impl KeySet {
    /// Reads a key set. Keys that D2L would not use are left out.
    ///
    /// # Errors
    ///
    /// The text is no key set at all.
    pub fn from_json(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(json).map_err(KeySetError::Malformed)?;
        Ok(Self {
            keys: document
                .keys
                .iter()
                .filter_map(VerifyingKey::read)
                .collect(),
        })
    }

    /// Asks for the set at `url`.
    ///
    /// # Errors
    ///
    /// The URL is not plain HTTP on loopback, nobody answers there, or the answer is no key set.
    pub async fn fetch(url: &Url) -> Result<Self, KeySetError> {
        let authority = loopback_authority(url).ok_or(KeySetError::NotLoopback)?;
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let request = Request::get(target)
            .header(header::ACCEPT, "application/json")
            .body(Full::<Bytes>::default())
            .map_err(|error| KeySetError::Fetch(std::io::Error::other(error)))?;
        let response = tokio::time::timeout(FETCH_TIMEOUT, exchange(&authority, request))
            .await
            .map_err(|_elapsed| KeySetError::Timeout)?
            .map_err(KeySetError::Fetch)?;
        if response.status() != StatusCode::OK {
            return Err(KeySetError::Status(response.status()));
        }
        Self::from_json(response.body())
    }

    /// Whether there is no usable key in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl KeySource {
    /// The key set at `url`.
    ///
    /// # Errors
    ///
    /// [`KeySetError::NotLoopback`].
    pub fn url(url: Url) -> Result<Self, KeySetError> {
        match loopback_authority(&url) {
            Some(_) => Ok(Self::Url(url)),
            None => Err(KeySetError::NotLoopback),
        }
    }
}

impl Keys {
    pub(super) fn new(source: KeySource) -> Self {
        Self {
            inner: Mutex::new(Inner {
                source,
                cached: HashMap::new(),
            }),
        }
    }

    pub(super) fn replace(&self, source: KeySource) {
        let mut inner = self.lock();
        inner.source = source;
        inner.cached.clear();
    }

    /// Looks where no request is needed.
    pub(super) fn look_up(&self, kid: &str, now: Duration) -> Lookup {
        let inner = self.lock();
        match &inner.source {
            KeySource::None => Lookup::Unknown,
            KeySource::Set(set) => match set.keys.get(kid) {
                Some(key) if key.is_alive(now) => Lookup::Found(key.clone()),
                _ => Lookup::Unknown,
            },
            KeySource::Url(url) => match inner.cached.get(kid) {
                Some(cached) if cached.until > now => Lookup::Found(cached.key.clone()),
                _ => Lookup::Ask(url.clone()),
            },
        }
    }

    /// Takes in a set that has been fetched. A key that is no longer in it stays until its hour is over, as at D2L.
    pub(super) fn learn(&self, set: KeySet, now: Duration) {
        let mut inner = self.lock();
        for (kid, key) in set.keys {
            let until = key.expires.unwrap_or(now + CACHED_FOR);
            inner.cached.insert(kid, Cached { key, until });
        }
    }

    /// What is known of `kid` by now, without asking.
    pub(super) fn known(&self, kid: &str, now: Duration) -> Option<VerifyingKey> {
        match self.look_up(kid, now) {
            Lookup::Found(key) => Some(key),
            Lookup::Ask(_) | Lookup::Unknown => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerifyingKey {
    fn read(value: &Value) -> Option<(String, Self)> {
        if PRIVATE_MEMBERS
            .iter()
            .any(|member| value.get(member).is_some())
        {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if !matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        ) {
            return None;
        }
        let key = Self {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            algorithms: algorithms(&jwk.algorithm)?,
            expires: value
                .get("exp")
                .and_then(Value::as_u64)
                .map(Duration::from_secs),
        };
        Some((jwk.common.key_id?, key))
    }

    fn is_alive(&self, now: Duration) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

/// The algorithms that Brightspace is known to take, by type of key. PS256 and EdDSA are not among them, nor can ES512
/// be verified here.
fn algorithms(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    match parameters {
        AlgorithmParameters::RSA(_) => {
            Some(vec![Algorithm::RS256, Algorithm::RS384, Algorithm::RS512])
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Some(vec![Algorithm::ES256]),
            EllipticCurve::P384 => Some(vec![Algorithm::ES384]),
            _ => None,
        },
        _ => None,
    }
}

/// `host:port` of a URL that is plain HTTP on this machine.
fn loopback_authority(url: &Url) -> Option<String> {
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => IpAddr::from(address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(address).is_loopback(),
    };
    if url.scheme() != "http" || !is_loopback {
        return None;
    }
    Some(format!(
        "{}:{}",
        url.host_str()?,
        url.port_or_known_default()?
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// RFC 7517, appendix A.1.
    fn elliptic() -> Value {
        json!({
            "kty": "EC", "kid": "ec", "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        })
    }

    fn with(mut key: Value, member: &str, value: Value) -> Value {
        key[member] = value;
        key
    }

    fn usable(key: &Value) -> bool {
        let set = json!({ "keys": [key] }).to_string();
        !KeySet::from_json(set.as_bytes()).unwrap().is_empty()
    }

    #[test]
    fn a_key_is_used_by_the_rules_of_d2ls_parser() {
        assert!(usable(&elliptic()));
        assert!(usable(&with(elliptic(), "use", "sig".into())));
        assert!(usable(&with(elliptic(), "alg", "nonsense".into())));
        assert!(!usable(&with(elliptic(), "use", "enc".into())));
        assert!(!usable(&with(elliptic(), "d", "secret".into())));
        assert!(!usable(&with(elliptic(), "kid", Value::Null)));
        assert!(!usable(&with(elliptic(), "crv", "secp256k1".into())));
    }

    #[test]
    fn a_shared_secret_is_never_a_key() {
        let oct = json!({ "kty": "oct", "kid": "hmac", "k": "c2VjcmV0" });
        assert!(!usable(&oct));
    }

    #[test]
    fn a_text_that_is_no_key_set_is_refused() {
        assert!(KeySet::from_json(b"<html>").is_err());
        assert!(KeySet::from_json(b"{}").is_err());
    }

    #[test]
    fn a_fetched_key_lives_an_hour_or_as_long_as_it_says() {
        let set = json!({ "keys": [elliptic(), with(with(elliptic(), "exp", 1_060.into()), "kid", "brief".into())] });
        let url = Url::parse("http://127.0.0.1:1/jwks").unwrap();
        let keys = Keys::new(KeySource::Url(url));
        let at = Duration::from_secs;
        assert!(keys.known("ec", at(1_000)).is_none());
        keys.learn(
            KeySet::from_json(set.to_string().as_bytes()).unwrap(),
            at(1_000),
        );
        assert!(keys.known("brief", at(1_059)).is_some());
        assert!(keys.known("brief", at(1_060)).is_none());
        assert!(keys.known("ec", at(4_599)).is_some());
        assert!(matches!(keys.look_up("ec", at(4_600)), Lookup::Ask(_)));
    }

    #[test]
    fn only_plain_http_on_loopback_is_asked_for_keys() {
        let accepted = |url: &str| KeySource::url(Url::parse(url).unwrap()).is_ok();
        assert!(accepted("http://127.0.0.1:9465/.well-known/jwks.json"));
        assert!(accepted("http://localhost/jwks"));
        assert!(accepted("http://[::1]:8081/jwks"));
        assert!(!accepted("https://127.0.0.1/jwks"));
        assert!(!accepted("http://192.0.2.1/jwks"));
        assert!(!accepted("http://127.0.0.1.example.org/jwks"));
    }
}
