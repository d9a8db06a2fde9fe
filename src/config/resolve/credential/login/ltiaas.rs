//! Profile `ltiaas`: it logs in at the LMS itself, and gives the LMS's tokens to whoever has the API key.

use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{Files, Way, redirect_uri};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        resolve::{credential::client, outbound},
        value::{
            Fault, Text,
            address::TokenUrl,
            login::AuthorizeUrl,
            quantity::Timeout,
            word::{ExchangeMethod, Profile},
        },
    },
    oauth::{
        ClientAuth, ClientParams, Dialect, Grant, LtiaasParams, ScopeSource,
        authorization::AuthorizationParams,
    },
};

/// What may stand in a segment of a path as it is (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(super) fn way(reader: &mut Reader, files: &mut Files, table: &Table) -> Option<Way> {
    let token_url = client::token_url(reader, table, Profile::Ltiaas);
    let platform = reader.require::<Text>(
        table,
        "platform_id",
        "set it to the id of the LMS in LTIAAS: GET /admin/platforms lists them",
    );
    let key = match table.has("api_key_file") {
        true => files.secret(reader, table, "api_key_file"),
        false => {
            reader.missing(table, "api_key_file", "name a file that holds the API key");
            None
        }
    };
    let code_member = reader.get::<Text>(table, "callback_parameter");
    let method = reader.get::<ExchangeMethod>(table, "exchange_method");
    let redirect_uri = redirect_uri(reader, table);
    let timeout = reader.get::<Timeout>(table, "timeout").map(|limit| limit.0);
    let proxy = outbound::http_proxy(reader, table);
    let token_headers = client::token_headers(reader, table);
    let own_start = table
        .has("authorize_url")
        .then(|| reader.get::<AuthorizeUrl>(table, "authorize_url"));
    let own_refresh = table
        .has("refresh_url")
        .then(|| reader.get::<TokenUrl>(table, "refresh_url"));

    let (url, platform) = (token_url?, platform?.0);
    let segment = utf8_percent_encode(&platform, SEGMENT).to_string();
    let start = match own_start {
        Some(url) => url?.0,
        None => start(&url, &segment)?,
    };
    let exchange_path = behind(url.path.path(), &segment)?;
    let refresh_path = match own_refresh {
        Some(refresh) => {
            let refresh = refresh?;
            if refresh.origin != url.origin {
                let fault = Fault::new(
                    ProblemCode::Conflict,
                    "is on another server than token_url, and would take the API key there",
                    "write a URL on the same host",
                );
                reader.fault(table, "refresh_url", fault);
                return None;
            }
            refresh.path
        }
        None => behind(exchange_path.path(), "refresh")?,
    };
    let code_member = code_member?.0;
    let timeout = timeout?;
    let client = ClientParams {
        client_id: platform,
        grant: Grant::Login,
        auth: ClientAuth::ApiKey { key: key? },
        dialer: client::dialer(reader, files, table, url.origin, timeout, proxy?)?,
        token_path: exchange_path,
        token_params: Vec::new(),
        token_headers: token_headers?,
        timeout,
        dialect: Dialect::Ltiaas(LtiaasParams {
            code_member: code_member.clone(),
            code_in_query: method? == ExchangeMethod::Get,
            refresh_path,
        }),
        scope_source: ScopeSource::Nowhere,
        key_set: None,
    };
    Some(Way {
        client,
        auth_method: "api_key",
        authorization: AuthorizationParams {
            authorize_url: start,
            redirect_uri: redirect_uri?,
            issuer: None,
            pkce: false,
            relay_parameter: Some(code_member),
        },
        revocation: None,
    })
}

/// `https://ACCOUNT.ltiaas.com/oauth/start/PLATFORM`.
fn start(token_url: &TokenUrl, segment: &str) -> Option<Url> {
    let scheme = if token_url.origin.tls {
        "https"
    } else {
        "http"
    };
    let authority = token_url.origin.authority();
    Url::parse(&format!("{scheme}://{authority}/oauth/start/{segment}")).ok()
}

fn behind(path: &str, segment: &str) -> Option<PathAndQuery> {
    let path = path.trim_end_matches('/');
    PathAndQuery::try_from(format!("{path}/{segment}")).ok()
}
