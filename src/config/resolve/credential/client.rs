//! A client of an authorization server.

use std::sync::Arc;

use figment::value::Value;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Files, one_of_two};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Preset, Reader, Table},
        value::{
            Fault, Text,
            address::TokenUrl,
            quantity::{AssertionLifetime, Timeout},
            word::{AudienceForm, AuthMethod, Profile},
        },
    },
    dial::Dialer,
    keys::{Algorithm, SigningKey},
    oauth::{AssertionParams, BasicEncoding, ClientAuth, ClientParams, ScopeSource},
};

/// Form fields that bursar sets itself (RFC 6749, RFC 7521).
const PROTOCOL_PARAMS: &[&str] = &[
    "grant_type",
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
    "username",
    "password",
];

/// Header fields that bursar sets itself, and those that belong to the connection.
const PROTOCOL_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "host",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "accept",
    "accept-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "cookie",
];

pub(super) fn client(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    profile: Profile,
) -> Option<(ClientParams, AuthMethod)> {
    let client_id = reader.require::<Text>(
        table,
        "client_id",
        "set it to the id that the LMS showed when bursar was registered there",
    );
    let url = reader.get_or::<TokenUrl>(table, "token_url", profile.preset("token_url"));
    if url.is_none() && !table.has("token_url") {
        reader.missing(
            table,
            "token_url",
            "set it to the URL of the authorization server's token endpoint, or choose a profile that knows it",
        );
    }
    let method = auth_method(reader, table, profile);
    let auth = match method {
        Some(AuthMethod::ClientSecretBasic) => secret_basic(reader, files, table, profile),
        Some(AuthMethod::PrivateKeyJwt) => private_key_jwt(reader, files, table, url.as_ref()),
        // Which keys go with it cannot be known.
        None => {
            reader.give_up(table);
            None
        }
    };
    let token_params = token_params(reader, table);
    let token_headers = token_headers(reader, table);
    let timeout = reader.get::<Timeout>(table, "timeout");

    let (url, timeout) = (url?, timeout?.0);
    let tls = match url.origin.tls {
        true => Some(files.tls(reader, table, false)?),
        false => None,
    };
    let params = ClientParams {
        client_id: client_id?.0,
        auth: auth?,
        dialer: Dialer {
            origin: url.origin,
            tls,
            timeout,
        },
        token_path: url.path,
        token_params: token_params?,
        token_headers: token_headers?,
        timeout,
        scope_source: match profile {
            Profile::Oauth2 => ScopeSource::Answer,
            Profile::Brightspace => ScopeSource::AnswerOrToken,
            Profile::Instructure => ScopeSource::Nowhere,
        },
    };
    Some((params, method?))
}

fn auth_method(reader: &mut Reader, table: &Table, profile: Profile) -> Option<AuthMethod> {
    let method = reader.get_or(table, "auth_method", profile.preset("auth_method"));
    if method.is_none() && !table.has("auth_method") {
        let help = if table.has("private_key_file") {
            r#"set auth_method = "private_key_jwt", which goes with private_key_file"#
        } else {
            r#"set it to "client_secret_basic" (with client_secret_file) or "private_key_jwt" (with private_key_file), whichever was registered"#
        };
        reader.missing(table, "auth_method", help);
    }
    method
}

fn secret_basic(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    profile: Profile,
) -> Option<ClientAuth> {
    let secret = one_of_two(reader, files, table, "client_secret", "client_secret_file")?;
    Some(ClientAuth::SecretBasic {
        secret,
        encoding: match profile {
            Profile::Instructure => BasicEncoding::Raw,
            Profile::Oauth2 | Profile::Brightspace => BasicEncoding::Form,
        },
    })
}

fn private_key_jwt(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    url: Option<&TokenUrl>,
) -> Option<ClientAuth> {
    let key = signing_key(reader, files, table);
    let token_url = url.map(|url| Preset {
        value: Value::from(url.text.clone()),
        from: "token_url".to_owned(),
    });
    let audience = reader.get_or::<Text>(table, "audience", token_url);
    let form = reader.get::<AudienceForm>(table, "audience_form");
    let lifetime = reader.get::<AssertionLifetime>(table, "assertion_lifetime");
    let typ = reader.get::<Text>(table, "assertion_typ");
    Some(ClientAuth::PrivateKeyJwt {
        key: key?,
        assertion: AssertionParams {
            audience: audience?.0,
            audience_as_array: form? == AudienceForm::Array,
            lifetime: lifetime?.0,
            typ: typ?.0,
        },
    })
}

fn signing_key(reader: &mut Reader, files: &Files, table: &Table) -> Option<Arc<SigningKey>> {
    let kid = reader.get::<Text>(table, "kid").map(|kid| kid.0);
    let algorithm = reader.get::<Algorithm>(table, "signing_alg");
    if !table.has("private_key_file") {
        reader.missing(
            table,
            "private_key_file",
            "name a file with a private key in PEM; `bursar keys new` makes one",
        );
        return None;
    }
    let pem = files.lines(reader, table, "private_key_file")?;
    match SigningKey::from_pem(&pem, algorithm, kid) {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            let fault = Fault::new(
                ProblemCode::KeyUnusable,
                error.to_string(),
                "`bursar keys new` makes a key that fits; RSA (2048 bits or more), P-256, P-384 and Ed25519 keys in PEM will do",
            );
            reader.fault(table, "private_key_file", fault);
            None
        }
    }
}

fn token_params(reader: &mut Reader, parent: &Table) -> Option<Vec<(String, String)>> {
    let table = reader.table(parent, "token_params");
    let entries = reader.entries::<Text>(parent, "token_params");
    let mut is_sound = entries.len() == table.names().count();
    for (name, _) in &entries {
        if PROTOCOL_PARAMS.contains(&name.as_str()) {
            reader.fault(&table, name, protocol_field(name));
            is_sound = false;
        }
    }
    let fields = entries.into_iter().map(|(name, value)| (name, value.0));
    is_sound.then(|| fields.collect())
}

fn token_headers(reader: &mut Reader, parent: &Table) -> Option<HeaderMap> {
    let table = reader.table(parent, "token_headers");
    let entries = reader.entries::<Text>(parent, "token_headers");
    let mut is_sound = entries.len() == table.names().count();
    let mut headers = HeaderMap::new();
    for (name, value) in entries {
        let field = HeaderName::from_bytes(name.as_bytes()).ok();
        match (field, HeaderValue::from_str(&value.0).ok()) {
            (Some(field), _) if PROTOCOL_HEADERS.contains(&field.as_str()) => {
                reader.fault(&table, &name, protocol_field(&name));
                is_sound = false;
            }
            (Some(field), Some(mut value)) => {
                value.set_sensitive(true);
                headers.insert(field, value);
            }
            _ => {
                let fault = Fault::invalid(
                    "cannot be a header field",
                    "write the field's name as the key and its value, visible ASCII, as a string",
                );
                reader.fault(&table, &name, fault);
                is_sound = false;
            }
        }
    }
    is_sound.then_some(headers)
}

fn protocol_field(name: &str) -> Fault {
    Fault::new(
        ProblemCode::ProtocolField,
        format!("bursar sets {name:?} itself"),
        "remove it; only what a vendor wants beyond the standard goes here",
    )
}
