//! `[credentials.NAME]`.

mod client;
mod id_key;
mod keys;
mod login;
mod profile;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{Files, bad_name, is_name};
use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{
            Fault,
            quantity::{Period, Timeout},
            word::{Grant, Profile},
        },
    },
    oauth::{Injection, Revocation},
    secret::{ExposeSecret, SecretString},
    token::{Credential, RefreshAhead, Source, Timing},
};

/// A credential, even one with problems: upstreams may refer to it.
pub(super) struct Draft {
    /// Its name.
    pub(super) name: String,
    /// Its profile.
    pub(super) profile: Option<Profile>,
    /// Its grant.
    pub(super) grant: Option<Grant>,
    /// Itself, if there is nothing wrong with it.
    pub(super) credential: Option<Arc<Credential>>,
    revocation: Option<Revocation>,
    table: Table,
    is_used: AtomicBool,
}

impl Draft {
    /// Notes that an upstream uses it.
    pub(super) fn mark_used(&self) {
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// Whether any does.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether nobody is asked for a token: somebody else made it, or requests are signed instead.
    pub(super) fn is_static(&self) -> bool {
        matches!(self.grant, Some(Grant::Static | Grant::IdKey))
    }

    /// Where the application's own library would put a credential of this kind.
    pub(super) fn query_parameters(&self) -> &'static [&'static str] {
        match self.grant {
            Some(Grant::IdKey) => &["x_a", "x_b", "x_c", "x_d", "x_t"],
            _ => &[],
        }
    }

    /// Whether people log in for it.
    pub(super) fn needs_login(&self) -> bool {
        let brings_key =
            |credential: &Arc<Credential>| matches!(credential.source, Source::UserKey(_));
        self.grant == Some(Grant::AuthorizationCode)
            || self.credential.as_ref().is_some_and(brings_key)
    }

    /// How a login for it is taken back, if people log in, and somebody knows.
    pub(super) fn revocation(&self) -> Option<(Arc<str>, Revocation)> {
        Some((self.name.as_str().into(), self.revocation.clone()?))
    }

    pub(super) fn into_credential(self) -> Option<Arc<Credential>> {
        self.credential
    }

    pub(super) fn warn_unused(&self, reader: &mut Reader) {
        let fault = Fault::new(
            ProblemCode::UnusedCredential,
            "no upstream uses this credential",
            format!(
                "name it in an upstream (credential = {:?}), or remove it",
                self.name
            ),
        );
        reader.fault_at_table(&self.table, "", fault.warning());
    }
}

pub(super) fn credential(
    reader: &mut Reader,
    files: &mut Files,
    name: String,
    table: Table,
) -> Draft {
    if !is_name(&name) {
        reader.fault_at_table(&table, "", bad_name(&name));
    }
    let profile = reader.get::<Profile>(&table, "profile");
    let grant = profile
        .and_then(|profile| reader.get_or::<Grant>(&table, "grant", profile.preset("grant")));
    let mut revocation = None;
    let parts = match (profile, grant) {
        (Some(profile), Some(grant @ (Grant::ClientCredentials | Grant::JwtBearer))) => {
            from_server(reader, files, &table, profile, grant)
        }
        (Some(_), Some(Grant::IdKey)) => id_key::id_key(reader, files, &table),
        (Some(profile), Some(Grant::AuthorizationCode)) => {
            login::login(reader, files, &table, profile).map(|(parts, way)| {
                revocation = way;
                parts
            })
        }
        (Some(profile), Some(Grant::Static)) => fixed(reader, files, &table, profile),
        // Which keys go together hangs on these two.
        _ => {
            reader.give_up(&table);
            None
        }
    };
    let credential = parts.map(|parts| {
        Arc::new(Credential {
            name: name.as_str().into(),
            grant: parts.grant,
            auth_method: parts.auth_method,
            source: parts.source,
            timing: parts.timing,
            subject_header: parts.subject_header,
        })
    });
    Draft {
        name,
        profile,
        grant,
        credential,
        revocation,
        table,
        is_used: AtomicBool::new(false),
    }
}

/// All of a credential but its name.
struct Parts {
    source: Source,
    timing: Timing,
    grant: &'static str,
    auth_method: &'static str,
    subject_header: Option<HeaderName>,
}

/// Tokens that an authorization server issues for one request of bursar's own.
fn from_server(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    profile: Profile,
    grant: Grant,
) -> Option<Parts> {
    let client = client::client(reader, files, table, profile, grant);
    let timing = timing(reader, table, profile);
    let (client, auth_method) = client?;
    Some(Parts {
        source: Source::Client(Box::new(client)),
        timing: timing?,
        grant: grant.as_str(),
        auth_method: auth_method.as_str(),
        subject_header: None,
    })
}

/// When tokens are renewed.
fn timing(reader: &mut Reader, table: &Table, profile: Profile) -> Option<Timing> {
    let default_lifetime = reader.get::<Timeout>(table, "default_lifetime");
    let refresh_ahead =
        reader.get_or::<RefreshAhead>(table, "refresh_ahead", profile.preset("refresh_ahead"));
    let safety_margin =
        reader.get_or::<Period>(table, "safety_margin", profile.preset("safety_margin"));
    let wait = reader.get::<Period>(table, "wait");
    Some(Timing {
        default_lifetime: default_lifetime?.0,
        refresh_ahead: refresh_ahead?,
        safety_margin: safety_margin?.0,
        wait: wait?.0,
    })
}

/// `grant = "static"`: a token that somebody else made, and that never expires as far as bursar knows.
fn fixed(reader: &mut Reader, files: &Files, table: &Table, profile: Profile) -> Option<Parts> {
    let token = one_of_two(reader, files, table, "token", "token_file")?;
    // Of its own form, Moodle's token is one as well.
    let Some(field) = bearer(&token) else {
        let fault = Fault::new(
            ProblemCode::SecretUnusable,
            "is not a bearer token (RFC 6750 section 2.1)",
            "set it to the token alone: no `Bearer`, no quotes, no blanks, at most 16 KiB",
        );
        let key = if table.has("token") {
            "token"
        } else {
            "token_file"
        };
        reader.fault(table, key, fault);
        return None;
    };
    // Nothing is ever renewed or waited for.
    let timing = Timing {
        default_lifetime: Duration::ZERO,
        refresh_ahead: RefreshAhead::Before(Duration::ZERO),
        safety_margin: Duration::ZERO,
        wait: Duration::ZERO,
    };
    let injection = match profile {
        // Its core reads nothing else.
        Profile::Moodle => Injection::Parameter {
            name: "wstoken",
            value: token,
        },
        _ => Injection::Bearer(field),
    };
    Some(Parts {
        source: Source::Static(injection),
        timing,
        grant: "static",
        auth_method: "none",
        subject_header: None,
    })
}

/// A secret that stands in the configuration, or better in a file of its own.
fn one_of_two(
    reader: &mut Reader,
    files: &Files,
    table: &Table,
    inline: &'static str,
    in_file: &'static str,
) -> Option<SecretString> {
    let has_both = table.has(inline) && table.has(in_file);
    if has_both {
        let fault = Fault::new(
            ProblemCode::Conflict,
            format!("`{inline}` is set too"),
            format!("keep `{in_file}` and remove `{inline}`"),
        );
        reader.fault(table, in_file, fault);
    } else if !table.has(inline) && !table.has(in_file) {
        reader.missing(
            table,
            in_file,
            &format!("name a file that holds it (or set `{inline}`)"),
        );
        return None;
    }
    let value = reader.get::<SecretString>(table, inline);
    reader.warn_exposed(table, inline);
    let content = files.secret(reader, table, in_file);
    value.or(content).filter(|_| !has_both)
}

/// `Bearer …`, ready and sensitive.
fn bearer(token: &SecretString) -> Option<HeaderValue> {
    const LIMIT: usize = 16 * 1024;
    let token = token.expose_secret();
    let is_b64token = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    let unpadded = token.trim_end_matches('=');
    if unpadded.is_empty() || token.len() > LIMIT || !unpadded.bytes().all(is_b64token) {
        return None;
    }
    let field = Zeroizing::new(format!("Bearer {token}"));
    let mut field = HeaderValue::from_str(&field).ok()?;
    field.set_sensitive(true);
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_b64token_characters_make_a_bearer_token() {
        let of = |text: &str| bearer(&SecretString::from(text));
        let field = of("abc.DEF-_~+/123==").unwrap();
        assert_eq!(field.as_bytes(), b"Bearer abc.DEF-_~+/123==");
        assert!(field.is_sensitive());
        for wrong in ["", "==", "a b", "a\r\nX: y", "é", "a=b", "Bearer x"] {
            assert!(of(wrong).is_none(), "{wrong:?}");
        }
        assert!(of(&"a".repeat(16 * 1024 + 1)).is_none());
    }
}
