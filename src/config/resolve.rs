//! From settings to the parameters of the layers below: files are read, keys loaded, policies built.

mod asks;
mod claims;
mod credential;
mod file;
mod listener;
mod mutual_tls;
mod outbound;
mod route;
mod scopes;
mod server;
mod state;
mod upstream;

use std::net::SocketAddr;

use super::{Config, locate::Home, problem::ProblemCode, reader::Reader, value::Fault};
use crate::{secret::AccessKeys, socket::Address};
use claims::Claims;
use file::Files;

/// Reads every section, whatever is wrong with the others. `None` only when a problem was noted.
///
/// `home`: where files of bursar's own belong.
pub(super) fn config(reader: &mut Reader, home: &Home) -> Option<Config> {
    let mut claims = Claims::default();
    let secret_files = server::secret_files(reader);
    let mut files = Files::new(secret_files);

    let mode = server::mode(reader);
    let reach = listener::Reach::read(reader);
    let server = server::server(reader, &files, &mut claims, reach);
    let admin = server::admin(reader, &files, &mut claims);
    let log = server::log(reader);

    let credentials: Vec<_> = reader
        .tables("credentials")
        .into_iter()
        .map(|(name, table)| credential::credential(reader, &mut files, name, table))
        .collect();
    let upstreams: Vec<_> = reader
        .tables("upstreams")
        .into_iter()
        .map(|(name, table)| {
            let shared = upstream::Shared {
                files: &mut files,
                claims: &mut claims,
                reach,
                mode: mode.unwrap_or_default(),
                credentials: &credentials,
            };
            upstream::upstream(reader, shared, &name, &table)
        })
        .collect();

    if upstreams.is_empty() {
        reader.fault_overall(Fault::new(
            ProblemCode::NothingAllowed,
            "there is no upstream",
            "add [upstreams.NAME] with base_url, credential, catalogue and scopes; config.example.toml begins with one",
        ));
    }
    // Where an upstream has problems, a misspelt `credential` may be one of them.
    if upstreams.iter().all(Option::is_some) {
        for unused in credentials.iter().filter(|draft| !draft.is_used()) {
            unused.warn_unused(reader);
        }
    }
    server::check_unix_rules(reader, &claims);
    claims.check(reader);
    let needs_state = credentials.iter().any(credential::Draft::needs_login);
    let state = state::state(reader, secret_files, home, needs_state);

    mode?;
    Some(Config {
        server: server?,
        admin: admin?,
        log: log?,
        state: state?,
        revocations: credentials
            .iter()
            .filter_map(credential::Draft::revocation)
            .collect(),
        credentials: credentials
            .into_iter()
            .map(credential::Draft::into_credential)
            .collect::<Option<_>>()?,
        upstreams: upstreams.into_iter().collect::<Option<_>>()?,
    })
}

/// Where a running bursar is found, and the keys for orders to it, each as far as it is valid.
pub(super) fn control(
    reader: &mut Reader,
) -> (
    Option<SocketAddr>,
    Option<Address>,
    Option<Option<AccessKeys>>,
) {
    let files = Files::new(server::secret_files(reader));
    server::control(reader, &files, &mut Claims::default())
}

/// Names become metric labels and parts of variables: letters, digits, `_` and `-`.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 63
        && bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn bad_name(name: &str) -> Fault {
    Fault::new(
        ProblemCode::InvalidName,
        format!("{name:?} cannot be a name"),
        "names are up to 63 letters, digits, `_` and `-`, and begin with a letter or a digit: metrics and logs speak of them",
    )
}
