//! The keys that a client signs with: one file, or a directory of keys with a life cycle.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::Files;
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{Fault, Text, address::JwksUrl, quantity::MaxAge},
    },
    dial::{Dialer, HttpProxy},
    keys::{Algorithm, KeyRing, KeyTerms, SigningKey},
    oauth::KeySetUrl,
};

/// The keys of a client whose assertions live as long as `terms` says.
pub(super) fn key_ring(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    terms: Option<KeyTerms>,
) -> Option<Arc<KeyRing>> {
    let algorithm = reader.get::<Algorithm>(table, "signing_alg");
    let kid = reader.get::<Text>(table, "kid").map(|kid| kid.0);
    match (table.has("private_key_file"), table.has("keys_dir")) {
        (true, false) => single(reader, files, table, algorithm, kid, terms),
        (false, true) => directory(reader, files, table, algorithm, terms),
        (true, true) => {
            let fault = Fault::new(
                ProblemCode::Conflict,
                "`private_key_file` is set too",
                "keep `keys_dir` for keys that are rotated, `private_key_file` for a single one, and remove the other",
            );
            reader.fault(table, "keys_dir", fault);
            // Both are in the way of each other, and neither is without effect.
            reader.get::<PathBuf>(table, "keys_dir");
            reader.get::<PathBuf>(table, "private_key_file");
            None
        }
        (false, false) => {
            reader.missing(
                table,
                "private_key_file",
                "name a file with a private key in PEM; `bursar keys new` makes one (or set `keys_dir`, for keys that are rotated)",
            );
            None
        }
    }
}

/// How long others may need a key of this client, whose assertions live for `assertion_lifetime`.
pub(super) fn terms(
    reader: &mut Reader,
    table: &Table,
    assertion_lifetime: Option<Duration>,
) -> Option<KeyTerms> {
    let max_age = reader.get::<MaxAge>(table, "jwks_max_age");
    Some(KeyTerms {
        assertion_lifetime: assertion_lifetime?,
        max_age: max_age?.0,
    })
}

/// Where the AS fetches the key set; `Err` when it is set and a problem was noted.
pub(super) fn key_set(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    timeout: Option<Duration>,
    proxy: Option<Option<Arc<HttpProxy>>>,
) -> Result<Option<KeySetUrl>, ()> {
    if !table.has("jwks_url") {
        return Ok(None);
    }
    let url = reader.get::<JwksUrl>(table, "jwks_url").ok_or(())?;
    let tls = match url.origin.tls {
        true => Some(files.tls(reader, table, false).ok_or(())?),
        false => None,
    };
    // A key set over plain http is on this machine, where the proxy does not lead.
    let proxy = proxy.ok_or(())?.filter(|_| tls.is_some());
    Ok(Some(KeySetUrl {
        dialer: Dialer {
            origin: url.origin,
            tls,
            timeout: timeout.ok_or(())?,
            way: proxy.into(),
        },
        path: url.path,
    }))
}

fn single(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    terms: Option<KeyTerms>,
) -> Option<Arc<KeyRing>> {
    let file = files.whole(reader, table, "private_key_file")?;
    match SigningKey::from_pem(&file.secret, algorithm, kid) {
        Ok(key) => Some(Arc::new(KeyRing::single(
            Arc::new(key),
            file.modified.into(),
            terms?,
        ))),
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

fn directory(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    algorithm: Option<Algorithm>,
    terms: Option<KeyTerms>,
) -> Option<Arc<KeyRing>> {
    if table.has("kid") {
        let fault = Fault::new(
            ProblemCode::Conflict,
            "one id cannot be that of every key in `keys_dir`",
            "remove `kid`: each key is known by its thumbprint (RFC 7638)",
        );
        reader.fault(table, "kid", fault);
    }
    let (path, keys) = files.keys(reader, table, "keys_dir", algorithm)?;
    if table.has("kid") {
        return None;
    }
    KeyRing::new(keys, terms?, path).map(Arc::new)
}
