//! Whether a client that is configured anew is still the same one.

use std::{sync::Arc, time::Duration};

use super::{ClientAuth, ClientParams, Grant};
use crate::secret;

impl ClientParams {
    /// Whether tokens that one is given are as good for the other: the same client asks the same AS in the same words, for the
    /// same user if for one. What it proves itself with may differ (secret, key, assertion, further header fields), and how
    /// the AS is reached (CA, time).
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        let Self {
            client_id,
            grant,
            auth: _,
            dialer,
            token_path,
            token_params,
            token_headers: _,
            timeout: _,
            dialect,
            scope_source,
            key_set: _,
        } = self;
        *client_id == other.client_id
            && grant.is_for_the_same(&other.grant)
            && dialer.origin == other.dialer.origin
            && *token_path == other.token_path
            && *token_params == other.token_params
            && *dialect == other.dialect
            && *scope_source == other.scope_source
    }

    /// Whether a token request at `now` (time since the Unix epoch) would prove the client with the same, and go the same way.
    /// Keys that wait for their turn, or have had it, make no difference to that, nor does where the key set is looked at.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self, now: Duration) -> bool {
        let signs_the_same = match (self.keys(), other.keys()) {
            (Some(keys), Some(others)) => keys.signing(now) == others.signing(now),
            (None, None) => true,
            _ => false,
        };
        let mut alike = other.clone();
        alike.key_set.clone_from(&self.key_set);
        if let (Some(keys), ClientAuth::PrivateKeyJwt { keys: theirs, .. }) =
            (self.keys(), &mut alike.auth)
        {
            *theirs = Arc::clone(keys);
        }
        if let (Some(keys), Grant::JwtBearer { keys: theirs, .. }) = (self.keys(), &mut alike.grant)
        {
            *theirs = Arc::clone(keys);
        }
        signs_the_same && alike == *self
    }

    /// Goes on from `former`: what the world sees of the keys is known already, if it is the same key set that is looked at.
    pub fn follow(&self, former: &Self) {
        if let (Some(keys), Some(theirs)) = (self.keys(), former.keys())
            && self.key_set.is_some()
            && self.key_set == former.key_set
        {
            keys.follow(theirs);
        }
    }
}

impl Grant {
    fn is_for_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ClientCredentials, Self::ClientCredentials) | (Self::Login, Self::Login) => true,
            (
                Self::JwtBearer { subject, .. },
                Self::JwtBearer {
                    subject: other_subject,
                    ..
                },
            ) => subject == other_subject,
            (Self::ClientCredentials | Self::JwtBearer { .. } | Self::Login, _) => false,
        }
    }
}

impl PartialEq for ClientAuth {
    /// By value; secrets in a time that tells nothing about them.
    fn eq(&self, other: &Self) -> bool {
        match self {
            Self::SecretBasic { secret, encoding } => matches!(
                other,
                Self::SecretBasic { secret: theirs, encoding: their_encoding }
                    if secret::is_same(secret, theirs) && encoding == their_encoding
            ),
            Self::SecretPost { secret } => matches!(
                other,
                Self::SecretPost { secret: theirs } if secret::is_same(secret, theirs)
            ),
            Self::SecretJwt { key, assertion } => matches!(
                other,
                Self::SecretJwt { key: theirs, assertion: their_assertion }
                    if key == theirs && assertion == their_assertion
            ),
            Self::PrivateKeyJwt { keys, assertion } => matches!(
                other,
                Self::PrivateKeyJwt { keys: theirs, assertion: their_assertion }
                    if keys == theirs && assertion == their_assertion
            ),
            Self::ApiKey { key } => matches!(
                other,
                Self::ApiKey { key: theirs } if secret::is_same(key, theirs)
            ),
            // The certificate is the connection's, and compared with it.
            Self::Tls => matches!(other, Self::Tls),
            Self::None => matches!(other, Self::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dial::{Dialer, Origin, Way},
        keys::{
            self, Algorithm, HmacKey, KeyRing, SigningKey,
            testing::{ring_of, ring_over},
            timeline::Turn,
        },
        oauth::{AssertionParams, BasicEncoding, Dialect, KeySetUrl, LtiaasParams, ScopeSource},
    };

    fn assertion(audience: &str) -> AssertionParams {
        AssertionParams {
            audience: audience.to_owned(),
            audience_as_array: false,
            lifetime: Duration::from_secs(60),
            typ: "JWT".to_owned(),
        }
    }

    fn client(auth: ClientAuth) -> ClientParams {
        ClientParams {
            client_id: "app".to_owned(),
            grant: Grant::ClientCredentials,
            auth,
            dialer: Dialer {
                origin: Origin {
                    tls: false,
                    host: "localhost".into(),
                    port: 80,
                },
                tls: None,
                timeout: Duration::from_secs(10),
                way: Way::Direct,
            },
            token_path: "/token".parse().unwrap(),
            token_params: Vec::new(),
            token_headers: http::HeaderMap::new(),
            timeout: Duration::from_secs(10),
            dialect: Dialect::Standard,
            scope_source: ScopeSource::Answer,
            key_set: None,
        }
    }

    /// Every kind of proof, made twice from the same content.
    fn proofs(secret: &str, pem: &secret::SecretString) -> Vec<ClientAuth> {
        let keys = || ring_of(SigningKey::from_pem(pem, None, None).unwrap());
        vec![
            ClientAuth::SecretBasic {
                secret: secret.into(),
                encoding: BasicEncoding::Form,
            },
            ClientAuth::SecretPost {
                secret: secret.into(),
            },
            ClientAuth::SecretJwt {
                key: Arc::new(HmacKey::new(secret.into()).unwrap()),
                assertion: assertion("as"),
            },
            ClientAuth::PrivateKeyJwt {
                keys: keys(),
                assertion: assertion("as"),
            },
            ClientAuth::ApiKey { key: secret.into() },
        ]
    }

    #[test]
    fn a_proof_is_the_same_by_its_content_whatever_its_kind() {
        let (pem, other_pem) = (
            keys::generate(Algorithm::Es256).unwrap(),
            keys::generate(Algorithm::Es256).unwrap(),
        );
        let one = proofs("a-secret-of-thirty-two-bytes-....", &pem);
        let again = proofs("a-secret-of-thirty-two-bytes-....", &pem);
        let other = proofs("a-secret-of-thirty-two-bytes-,,,,", &other_pem);
        for (index, proof) in one.iter().enumerate() {
            assert!(*proof == again[index], "{index}");
            assert!(*proof != other[index], "{index}");
            assert!(*proof != one[(index + 1) % one.len()], "{index}");
            assert!(*proof != ClientAuth::None);
            // And all of them prove the same client.
            assert!(client(proof.clone()).is_same_client(&client(other[index].clone())));
        }
    }

    #[test]
    fn whoever_asks_somebody_else_or_for_something_else_is_another_client() {
        let one = client(ClientAuth::None);
        let differs = |change: fn(&mut ClientParams)| {
            let mut other = one.clone();
            change(&mut other);
            !one.is_same_client(&other)
        };
        assert!(differs(|client| client.client_id.push('x')));
        assert!(differs(|client| client.dialer.origin.port = 81));
        assert!(differs(
            |client| client.token_path = "/other".parse().unwrap()
        ));
        assert!(differs(|client| client.scope_source = ScopeSource::Nowhere));
        assert!(differs(|client| {
            client.dialect = Dialect::Ltiaas(LtiaasParams {
                code_member: "token".to_owned(),
                code_in_query: false,
                refresh_path: "/refresh".parse().unwrap(),
            });
        }));
        assert!(differs(|client| {
            client
                .token_params
                .push(("resource".to_owned(), "x".to_owned()));
        }));
        assert!(!differs(|client| client.timeout = Duration::from_secs(1)));
        assert!(!differs(
            |client| client.dialer.timeout = Duration::from_secs(1)
        ));
    }

    #[test]
    fn a_key_that_waits_changes_nothing_about_the_next_token_request_and_one_that_signs_does() {
        let turn = |start| Turn {
            start: keys::KeyStart::at(Duration::from_secs(start)),
            key: Arc::new(
                SigningKey::from_pem(&keys::generate(Algorithm::EdDsa).unwrap(), None, None)
                    .unwrap(),
            ),
        };
        let (old, new) = (turn(1_000), turn(10_000));
        let of = |turns: &[&Turn<Arc<SigningKey>>]| {
            let keys: Arc<KeyRing> = ring_over(turns.iter().map(|turn| (*turn).clone()).collect());
            client(ClientAuth::PrivateKeyJwt {
                keys,
                assertion: assertion("as"),
            })
        };
        let (before, after) = (of(&[&old]), of(&[&old, &new]));
        assert!(before != after);
        assert!(before.asks_the_same(&after, Duration::from_secs(9_999)));
        assert!(!before.asks_the_same(&after, Duration::from_secs(10_000)));
        // Withdrawn and deleted.
        assert!(after.asks_the_same(&of(&[&new]), Duration::from_secs(20_000)));
        // Another assertion is another proof.
        let mut other = of(&[&old]);
        other.auth = ClientAuth::PrivateKeyJwt {
            keys: Arc::clone(before.keys().unwrap()),
            assertion: assertion("other"),
        };
        assert!(!before.asks_the_same(&other, Duration::ZERO));
        assert!(!before.asks_the_same(&client(ClientAuth::None), Duration::ZERO));
    }

    #[test]
    fn what_the_world_sees_of_the_keys_is_known_of_their_successors_too() {
        let url = |path: &str| KeySetUrl {
            dialer: client(ClientAuth::None).dialer,
            path: path.parse().unwrap(),
        };
        let signer = |path: &str| ClientParams {
            key_set: Some(url(path)),
            ..client(ClientAuth::PrivateKeyJwt {
                keys: keys::testing::ring(&[1_000]).0,
                assertion: assertion("as"),
            })
        };
        let state = |client: &ClientParams| client.keys().unwrap().views(Duration::ZERO)[0].state;
        let former = signer("/a");
        former.keys().unwrap().observe(Some([].into()));
        let (same, other) = (signer("/a"), signer("/b"));
        same.follow(&former);
        other.follow(&former);
        assert_eq!((state(&same), state(&other)), ("unpublished", "active"));
    }

    #[test]
    fn a_jwt_bearer_for_another_user_is_another_client() {
        let pem = keys::generate(Algorithm::Es256).unwrap();
        let keys = ring_of(SigningKey::from_pem(&pem, None, None).unwrap());
        let of = |subject: &str, audience: &str| ClientParams {
            grant: Grant::JwtBearer {
                keys: Arc::clone(&keys),
                subject: subject.to_owned(),
                assertion: assertion(audience),
            },
            ..client(ClientAuth::None)
        };
        assert!(of("ann", "as").is_same_client(&of("ann", "other")));
        assert!(of("ann", "as") != of("ann", "other"));
        assert!(!of("ann", "as").is_same_client(&of("bob", "as")));
        assert!(!of("ann", "as").is_same_client(&client(ClientAuth::None)));
    }
}
