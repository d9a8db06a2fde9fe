//! `grant = "id_key"`: requests are signed, and there is no token.

use std::{sync::Arc, time::Duration};

use super::{Files, Parts};
use crate::{
    config::{
        reader::{Reader, Table},
        value::Text,
    },
    id_key::{IdKey, Signer, Skew},
    oauth::Injection,
    token::{RefreshAhead, Source, Timing},
};

const APP_ID: &str = "set it to the Application ID that D2L's extensibility tool shows";
const APP_KEY: &str = "name a file that holds the Application Key, which stands beside the id";
const USER_ID: &str = "set it to the User ID that goes with the user's key (x_a of the callback)";
const USER_KEY: &str = "name a file that holds the user's key (x_b of the callback)";

pub(super) fn id_key(reader: &mut Reader, files: &Files, table: &Table) -> Option<Parts> {
    let app = pair(
        reader,
        files,
        table,
        ("app_id", APP_ID),
        ("app_key_file", APP_KEY),
    );
    let user = pair(
        reader,
        files,
        table,
        ("user_id", USER_ID),
        ("user_key_file", USER_KEY),
    );
    let signer = Signer::new(Arc::new(app?), Some(user?), Arc::new(Skew::default()));
    // Nothing is ever renewed or waited for.
    let timing = Timing {
        default_lifetime: Duration::ZERO,
        refresh_ahead: RefreshAhead::Before(Duration::ZERO),
        safety_margin: Duration::ZERO,
        wait: Duration::ZERO,
    };
    Some(Parts {
        source: Source::Static(Injection::Signature(Arc::new(signer))),
        timing,
        grant: "id_key",
        auth_method: "none",
        subject_header: None,
    })
}

/// An id and the file of its key, each with what to do where it is missing.
fn pair(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    (id, id_help): (&'static str, &str),
    (key, key_help): (&'static str, &str),
) -> Option<IdKey> {
    let name = reader.require::<Text>(table, id, id_help);
    if !table.has(key) {
        reader.missing(table, key, key_help);
        return None;
    }
    let key = files.secret(reader, table, key);
    Some(IdKey::new(name?.0, key?))
}
