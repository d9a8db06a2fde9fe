//! What a client asks with, and how it proves itself: `grant`, `auth_method` and the keys that go with them.

use std::sync::Arc;

use figment::value::Value;

use super::super::{Files, keys, one_of_two};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Preset, Reader, Table},
        value::{
            Fault, Text,
            address::TokenUrl,
            quantity::AssertionLifetime,
            word::{AudienceForm, AuthMethod, Grant, Profile},
        },
    },
    keys::HmacKey,
    oauth::{self, AssertionParams, ClientAuth},
    secret::SecretString,
};

/// What goes into a token request beside the scopes.
pub(super) struct Proof {
    pub(super) grant: oauth::Grant,
    pub(super) auth: ClientAuth,
    pub(super) method: AuthMethod,
}

impl Proof {
    /// Whether a private key has a part in it.
    pub(super) const fn signs(&self) -> bool {
        matches!(self.grant, oauth::Grant::JwtBearer { .. })
            || matches!(self.auth, ClientAuth::PrivateKeyJwt { .. })
    }
}

pub(super) fn proof(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    profile: Profile,
    grant: Grant,
    client_id: Option<&str>,
    url: Option<&TokenUrl>,
) -> Option<Proof> {
    let Some(method) = auth_method(reader, table, profile, grant) else {
        // Which keys go with it cannot be known.
        reader.give_up(table);
        return None;
    };
    let is_jwt_bearer = grant == Grant::JwtBearer;
    let signs = is_jwt_bearer || method == AuthMethod::PrivateKeyJwt;
    let asserts = signs || method == AuthMethod::ClientSecretJwt;

    // A client assertion and the assertion of the grant have one key and one set of settings: both go to the same server.
    let params = asserts.then(|| assertion(reader, table, profile, url));
    let keys = signs.then(|| {
        let lifetime = params.as_ref().and_then(Option::as_ref);
        let terms = keys::terms(reader, table, lifetime.map(|params| params.lifetime));
        keys::key_ring(reader, files, table, terms)
    });
    let subject = is_jwt_bearer.then(|| subject(reader, table, client_id));
    let auth = match method {
        AuthMethod::ClientSecretBasic => {
            secret(reader, files, table).map(|secret| ClientAuth::SecretBasic {
                secret,
                encoding: profile.basic_encoding(),
            })
        }
        AuthMethod::ClientSecretPost => {
            secret(reader, files, table).map(|secret| ClientAuth::SecretPost { secret })
        }
        AuthMethod::ClientSecretJwt => {
            let key = hmac_key(reader, files, table);
            key.zip(params.clone().flatten())
                .map(|(key, assertion)| ClientAuth::SecretJwt { key, assertion })
        }
        AuthMethod::PrivateKeyJwt => {
            let keys = keys.clone().flatten();
            keys.zip(params.clone().flatten())
                .map(|(keys, assertion)| ClientAuth::PrivateKeyJwt { keys, assertion })
        }
        AuthMethod::TlsClientAuth | AuthMethod::SelfSignedTlsClientAuth => {
            if !table.has("client_cert_file") {
                reader.missing(
                    table,
                    "client_cert_file",
                    "name the file of the certificate that was registered (and its key in `client_key_file`)",
                );
            }
            Some(ClientAuth::Tls).filter(|_| table.has("client_cert_file"))
        }
        AuthMethod::None => Some(ClientAuth::None),
    };
    let grant = match grant {
        Grant::JwtBearer => oauth::Grant::JwtBearer {
            keys: keys??,
            subject: subject??,
            assertion: params??,
        },
        Grant::AuthorizationCode => oauth::Grant::Login,
        // The others ask nobody.
        Grant::ClientCredentials | Grant::IdKey | Grant::Static => oauth::Grant::ClientCredentials,
    };
    Some(Proof {
        grant,
        auth: auth?,
        method,
    })
}

fn auth_method(
    reader: &mut Reader,
    table: &Table,
    profile: Profile,
    grant: Grant,
) -> Option<AuthMethod> {
    let preset = match grant {
        // The assertion is proof enough (RFC 7523 section 3.1), and what most servers of this grant want.
        Grant::JwtBearer => Some(Preset {
            value: Value::from(AuthMethod::None.as_str()),
            from: format!("grant {}", grant.as_str()),
        }),
        _ => profile.preset_for("auth_method", grant),
    };
    let method = reader.get_or(table, "auth_method", preset);
    if method.is_none() && !table.has("auth_method") {
        let help = if table.has("private_key_file") || table.has("keys_dir") {
            r#"set auth_method = "private_key_jwt", which goes with private keys"#
        } else {
            r#"set it to "client_secret_basic" or "client_secret_post" (with client_secret_file), or to "private_key_jwt" (with private_key_file), whichever was registered"#
        };
        reader.missing(table, "auth_method", help);
    }
    if (method, grant) == (Some(AuthMethod::None), Grant::ClientCredentials) {
        let fault = Fault::new(
            ProblemCode::Conflict,
            r#""none" proves nothing, and with the grant client_credentials nothing else does (RFC 6749 section 4.4)"#,
            r#"write the method that was registered, such as "client_secret_basic" or "private_key_jwt""#,
        );
        reader.fault(table, "auth_method", fault);
        return None;
    }
    method
}

fn secret(reader: &mut Reader, files: &Files, table: &Table) -> Option<SecretString> {
    one_of_two(reader, files, table, "client_secret", "client_secret_file")
}

fn hmac_key(reader: &mut Reader, files: &Files, table: &Table) -> Option<Arc<HmacKey>> {
    match HmacKey::new(secret(reader, files, table)?) {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            let fault = Fault::new(
                ProblemCode::SecretUnusable,
                error.to_string(),
                r#"have the authorization server issue a longer one, or register another method, such as "client_secret_basic""#,
            );
            let key = if table.has("client_secret") {
                "client_secret"
            } else {
                "client_secret_file"
            };
            reader.fault(table, key, fault);
            None
        }
    }
}

fn assertion(
    reader: &mut Reader,
    table: &Table,
    profile: Profile,
    url: Option<&TokenUrl>,
) -> Option<AssertionParams> {
    let token_url = url.map(|url| Preset {
        value: Value::from(url.text.clone()),
        from: "token_url".to_owned(),
    });
    let default = profile.preset("audience").or(token_url);
    let audience = reader.get_or::<Text>(table, "audience", default);
    let form =
        reader.get_or::<AudienceForm>(table, "audience_form", profile.preset("audience_form"));
    let lifetime = reader.get::<AssertionLifetime>(table, "assertion_lifetime");
    let typ = reader.get::<Text>(table, "assertion_typ");
    Some(AssertionParams {
        audience: audience?.0,
        audience_as_array: form? == AudienceForm::Array,
        lifetime: lifetime?.0,
        typ: typ?.0,
    })
}

fn subject(reader: &mut Reader, table: &Table, client_id: Option<&str>) -> Option<String> {
    let default = client_id.map(|id| Preset {
        value: Value::from(id),
        from: "client_id".to_owned(),
    });
    let subject = reader.get_or::<Text>(table, "subject", default);
    subject.map(|subject| subject.0)
}
