//! `grant = "id_key"`: requests are signed, and there is no token.

use std::{sync::Arc, time::Duration};

use super::{Files, Parts, login};
use crate::{
    config::{
        reader::{Reader, Table},
        value::{Text, login::AuthorizeUrl},
    },
    id_key::{IdKey, Signer, Skew},
    oauth::Injection,
    token::{RefreshAhead, Source, Timing, UserKeyParams},
};

const APP_ID: &str = "set it to the Application ID that D2L's extensibility tool shows";
const APP_KEY: &str = "name a file that holds the Application Key, which stands beside the id";
const USER_ID: &str = "set it to the User ID that goes with the user's key (x_a of the callback)";
const USER_KEY: &str = "name a file that holds the user's key (x_b of the callback)";

const CONSENT_URL: &str = "without user_id and user_key_file a person logs in: set it to https://YOUR-HOST/d2l/auth/api/token, \
                           with the host name of your Brightspace";

/// How long a stored key is good before the store is looked at again: somebody may have logged in as another user.
const LOOK_AGAIN: Duration = Duration::from_mins(5);

/// How long a request waits for the store.
const WAIT: Duration = Duration::from_secs(10);

pub(super) fn id_key(reader: &mut Reader, files: &Files, table: &Table) -> Option<Parts> {
    let app = pair(
        reader,
        files,
        table,
        ("app_id", APP_ID),
        ("app_key_file", APP_KEY),
    );
    let skew = Arc::new(Skew::default());
    let (source, timing) = if table.has("user_id") || table.has("user_key_file") {
        let user = pair(
            reader,
            files,
            table,
            ("user_id", USER_ID),
            ("user_key_file", USER_KEY),
        );
        let signer = Signer::new(Arc::new(app?), Some(user?), skew);
        let source = Source::Static(Injection::Signature(Arc::new(signer)));
        // Nothing is ever renewed or waited for.
        (source, timing(Duration::ZERO, Duration::ZERO))
    } else {
        let consent_url = reader.require::<AuthorizeUrl>(table, "authorize_url", CONSENT_URL);
        let redirect_uri = login::redirect_uri(reader, table);
        let params = UserKeyParams {
            app: Arc::new(app?),
            skew,
            consent_url: consent_url?.0,
            redirect_uri: redirect_uri?,
        };
        let source = Source::UserKey(Box::new(params));
        (source, timing(LOOK_AGAIN, WAIT))
    };
    Some(Parts {
        source,
        timing,
        grant: "id_key",
        auth_method: "none",
        subject_header: None,
    })
}

const fn timing(default_lifetime: Duration, wait: Duration) -> Timing {
    Timing {
        default_lifetime,
        refresh_ahead: RefreshAhead::Before(Duration::ZERO),
        safety_margin: Duration::ZERO,
        wait,
    }
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
