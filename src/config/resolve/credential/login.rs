//! `grant = "authorization_code"`: where a person logs in, and what becomes of what that brings.

mod ltiaas;

use super::{Files, Parts, client, timing};
use crate::{
    config::{
        reader::{Reader, Table},
        resolve::outbound,
        value::{
            Text,
            login::{AuthorizeUrl, RevocationUrl, SubjectHeader},
            quantity::Period,
            word::{Grant, Profile},
        },
    },
    oauth::{
        ClientParams, Revocation,
        authorization::{AuthorizationParams, RedirectUri},
    },
    token::{Source, login::LoginParams},
};

pub(super) fn login(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    profile: Profile,
) -> Option<(Parts, Option<Revocation>)> {
    let way = match profile {
        Profile::Ltiaas => ltiaas::way(reader, files, table),
        _ => standard(reader, files, table, profile),
    };
    let reuse_grace = reader.get::<Period>(table, "refresh_reuse_grace");
    let subject_header = match table.has("subject_header") {
        true => reader
            .get::<SubjectHeader>(table, "subject_header")
            .map(Some),
        false => Some(None),
    };
    let timing = timing(reader, table, profile);
    let way = way?;
    let parts = Parts {
        source: Source::Login(Box::new(LoginParams {
            client: way.client,
            authorization: way.authorization,
            refresh: profile.refresh_rules(reuse_grace?.0),
        })),
        timing: timing?,
        grant: Grant::AuthorizationCode.as_str(),
        auth_method: way.auth_method,
        subject_header: subject_header?.map(|header| header.0),
    };
    Some((parts, way.revocation))
}

/// How tokens are had from one kind of server.
struct Way {
    client: ClientParams,
    auth_method: &'static str,
    authorization: AuthorizationParams,
    revocation: Option<Revocation>,
}

fn standard(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    profile: Profile,
) -> Option<Way> {
    let client = client::client(reader, files, table, profile, Grant::AuthorizationCode);
    let preset = profile.preset_for("authorize_url", Grant::AuthorizationCode);
    let authorize_url = reader.get_or::<AuthorizeUrl>(table, "authorize_url", preset);
    if authorize_url.is_none() && !table.has("authorize_url") {
        reader.missing(table, "authorize_url", profile.authorize_url_help());
    }
    let redirect_uri = redirect_uri(reader, table);
    let issuer = match table.has("issuer") {
        true => reader.get::<Text>(table, "issuer").map(Some),
        false => Some(None),
    };
    let pkce = reader.get::<bool>(table, "pkce");
    let has_revocation_url = table.has("revocation_url");
    let revocation_url = has_revocation_url
        .then(|| reader.get::<RevocationUrl>(table, "revocation_url"))
        .flatten();

    let (client, method) = client?;
    let revocation = match (revocation_url, profile) {
        (Some(url), _) => {
            let proxy = outbound::http_proxy(reader, table)?;
            let dialer = client::dialer(reader, files, table, url.origin, client.timeout, proxy)?;
            Some(Revocation::Endpoint {
                dialer,
                path: url.path,
            })
        }
        (None, _) if has_revocation_url => return None,
        (None, Profile::Canvas) => Some(Revocation::Delete),
        (None, _) => None,
    };
    let authorization = AuthorizationParams {
        authorize_url: authorize_url?.0,
        redirect_uri: redirect_uri?,
        issuer: issuer?.map(|issuer| issuer.0),
        pkce: pkce?,
        relay_parameter: None,
    };
    Some(Way {
        client,
        auth_method: method.as_str(),
        authorization,
        revocation,
    })
}

pub(super) fn redirect_uri(reader: &mut Reader, table: &Table) -> Option<RedirectUri> {
    reader.require::<RedirectUri>(
        table,
        "redirect_uri",
        r#"set it to the redirect URI that is registered at the LMS, such as "http://127.0.0.1:8765/callback" or "https://localhost:8765/callback""#,
    )
}
