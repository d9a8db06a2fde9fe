//! A client of an authorization server.

mod proof;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    super::{mutual_tls, outbound},
    Files, keys,
};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault, Text,
            address::TokenUrl,
            quantity::Timeout,
            word::{AuthMethod, Grant, Profile},
        },
    },
    dial::{Dialer, HttpProxy, Origin},
    oauth::ClientParams,
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
    grant: Grant,
) -> Option<(ClientParams, AuthMethod)> {
    let client_id = reader.require::<Text>(
        table,
        "client_id",
        "set it to the id that the LMS showed when bursar was registered there",
    );
    let url = token_url(reader, table, profile);
    let id = client_id.as_ref().map(|id| id.0.as_str());
    let proof = proof::proof(reader, files, table, profile, grant, id, url.as_ref());
    let timeout = reader.get::<Timeout>(table, "timeout").map(|limit| limit.0);
    // Only a client that signs has a key set; with another one the setting has no effect, and is told to have none.
    let proxy = outbound::http_proxy(reader, table);
    let signs = proof.as_ref().is_none_or(proof::Proof::signs);
    let key_set = match signs {
        true => keys::key_set(reader, files, table, timeout, proxy.clone()),
        false => Ok(None),
    };
    let token_params = token_params(reader, table);
    let token_headers = token_headers(reader, table);

    let (url, timeout, proof) = (url?, timeout?, proof?);
    let params = ClientParams {
        client_id: client_id?.0,
        grant: proof.grant,
        auth: proof.auth,
        dialer: dialer(reader, files, table, url.origin, timeout, proxy?)?,
        token_path: url.path,
        token_params: token_params?,
        token_headers: token_headers?,
        timeout,
        dialect: profile.dialect(),
        scope_source: profile.scope_source(),
        key_set: key_set.ok()?,
    };
    Some((params, proof.method))
}

/// Where the token endpoint is.
pub(super) fn token_url(reader: &mut Reader, table: &Table, profile: Profile) -> Option<TokenUrl> {
    let url = reader.get_or::<TokenUrl>(table, "token_url", profile.preset("token_url"));
    if url.is_none() && !table.has("token_url") {
        reader.missing(table, "token_url", profile.token_url_help());
    }
    url
}

/// How a server of the credential's is reached.
pub(super) fn dialer(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    origin: Origin,
    timeout: Duration,
    proxy: Option<Arc<HttpProxy>>,
) -> Option<Dialer> {
    let tls = match origin.tls {
        true => Some(mutual_tls::tls(reader, files, table, false)?),
        false => None,
    };
    outbound::keeps_plain_http_here(reader, table, &origin, proxy.as_deref())?;
    Some(Dialer {
        origin,
        tls,
        timeout,
        way: proxy.into(),
    })
}

pub(super) fn token_params(reader: &mut Reader, parent: &Table) -> Option<Vec<(String, String)>> {
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

pub(super) fn token_headers(reader: &mut Reader, parent: &Table) -> Option<HeaderMap> {
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
