//! Keys whose value is one of a few words.

use figment::value::Value;
use tracing_subscriber::filter::Targets;

use super::{
    Fault, FromValue, nearest,
    shape::{self, Shape},
    string,
};
use crate::{
    admin::ReadyNeeds,
    config::problem::ProblemCode,
    keys::Algorithm,
    policy::{Catalogue, Mode},
    proxy::Http2,
    secret::SecretFiles,
    telemetry::LogFormat,
};

/// `profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Profile {
    /// No presets but those of the standard.
    Oauth2,
    /// D2L Brightspace, server to server.
    Brightspace,
    /// D2L Brightspace, calls signed with ID keys.
    BrightspaceIdKey,
    /// LTI services of D2L Brightspace.
    BrightspaceLti,
    /// LTI services of Canvas.
    CanvasLti,
    /// REST of Blackboard Learn.
    Blackboard,
    /// LTI services of Blackboard Learn.
    BlackboardLti,
    /// The Instructure identity service.
    Instructure,
    /// REST of Canvas, in the name of a person.
    Canvas,
    /// The OAuth2 add-on of LTIAAS.
    Ltiaas,
    /// Web services of Moodle.
    Moodle,
}

/// `grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Grant {
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 7523 section 2.1.
    JwtBearer,
    /// Keys that sign each request.
    IdKey,
    /// RFC 6749 section 4.1: a person logs in, once.
    AuthorizationCode,
    /// A token that somebody else made.
    Static,
}

/// `exchange_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum ExchangeMethod {
    /// In a body.
    Post,
    /// In the query.
    Get,
}

/// `state.backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum StateBackend {
    /// Sealed files in a directory.
    File,
    /// Nothing is written.
    Memory,
}

/// `auth_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum AuthMethod {
    /// RFC 6749 section 2.3.1.
    ClientSecretBasic,
    /// The same in the form.
    ClientSecretPost,
    /// OpenID Connect Core section 9.
    ClientSecretJwt,
    /// RFC 7523 section 2.2.
    PrivateKeyJwt,
    /// RFC 8705 section 2.1: the certificate of the connection.
    TlsClientAuth,
    /// RFC 8705 section 2.2: the same with a certificate that nobody vouches for.
    SelfSignedTlsClientAuth,
    /// No proof: what the grant brings is one.
    None,
}

/// `audience_form`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum AudienceForm {
    /// `"aud": "…"`.
    String,
    /// `"aud": ["…"]`.
    Array,
}

/// `token_scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum TokenScope {
    /// One token with all that the upstream may need.
    Upstream,
    /// One token per needed scope set.
    Route,
}

impl Grant {
    /// The word.
    pub(in crate::config) const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::JwtBearer => "jwt_bearer",
            Self::IdKey => "id_key",
            Self::AuthorizationCode => "authorization_code",
            Self::Static => "static",
        }
    }
}

impl AuthMethod {
    /// The word.
    pub(in crate::config) const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            Self::None => "none",
        }
    }
}

macro_rules! words {
    ($type:ty: $($word:literal => $value:expr),+; later: [$($later:literal),*]) => {
        impl FromValue for $type {
            const SHAPE: Shape = Shape::Words(&[$($word),+]);

            fn from_value(value: &Value) -> Result<Self, Fault> {
                let known = &[$($word),+];
                let text = string(value, &one_of(known))?;
                match text {
                    $($word => Ok($value),)+
                    _ => Err(no_word(text, known, &[$($later),*])),
                }
            }
        }
    };
}

words!(Mode: "enforce" => Self::Enforce, "report" => Self::Report; later: ["learn"]);
words!(SecretFiles: "private" => Self::Private, "any" => Self::Any; later: []);
words!(ReadyNeeds: "first_token" => Self::FirstToken, "token" => Self::Token, "nothing" => Self::Nothing; later: []);
words!(LogFormat: "auto" => Self::Auto, "text" => Self::Text, "json" => Self::Json; later: []);
words!(Profile: "oauth2" => Self::Oauth2, "brightspace" => Self::Brightspace, "brightspace-lti" => Self::BrightspaceLti,
    "canvas-lti" => Self::CanvasLti, "blackboard" => Self::Blackboard, "blackboard-lti" => Self::BlackboardLti,
    "instructure" => Self::Instructure, "brightspace-id-key" => Self::BrightspaceIdKey, "canvas" => Self::Canvas,
    "ltiaas" => Self::Ltiaas, "moodle" => Self::Moodle;
    later: []);
words!(Grant: "client_credentials" => Self::ClientCredentials, "jwt_bearer" => Self::JwtBearer, "id_key" => Self::IdKey,
    "authorization_code" => Self::AuthorizationCode, "static" => Self::Static; later: []);
words!(ExchangeMethod: "POST" => Self::Post, "GET" => Self::Get; later: []);
words!(StateBackend: "file" => Self::File, "memory" => Self::Memory; later: ["redis"]);
words!(AuthMethod: "client_secret_basic" => Self::ClientSecretBasic, "client_secret_post" => Self::ClientSecretPost,
    "client_secret_jwt" => Self::ClientSecretJwt, "private_key_jwt" => Self::PrivateKeyJwt,
    "tls_client_auth" => Self::TlsClientAuth, "self_signed_tls_client_auth" => Self::SelfSignedTlsClientAuth, "none" => Self::None;
    later: ["federated"]);
words!(AudienceForm: "string" => Self::String, "array" => Self::Array; later: []);
words!(TokenScope: "upstream" => Self::Upstream, "route" => Self::Route; later: []);
words!(Http2: "auto" => Self::Auto, "never" => Self::Never, "only" => Self::Only; later: []);
words!(Catalogue: "brightspace" => Self::Brightspace, "canvas" => Self::Canvas, "dap" => Self::Dap, "none" => Self::None; later: []);
words!(Algorithm: "RS256" => Self::Rs256, "PS256" => Self::Ps256, "ES256" => Self::Es256, "ES384" => Self::Es384, "EdDSA" => Self::EdDsa; later: []);

fn one_of(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match words.as_slice() {
        [only] => only.clone(),
        _ => format!("one of {}", words.join(", ")),
    }
}

fn no_word(text: &str, known: &[&str], later: &[&str]) -> Fault {
    if later.contains(&text) {
        return Fault::new(
            ProblemCode::Unsupported,
            format!("{text:?} comes with a later version"),
            format!("this version knows {}", one_of(known)),
        );
    }
    let help = match nearest(text, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("write {}", one_of(known)),
    };
    Fault::invalid(format!("{text:?} is not known"), help)
}

/// `log.level`: a level, and levels of modules.
impl FromValue for Targets {
    const SHAPE: Shape = Shape::Text(shape::TEXT);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a level such as "info""#)?;
        let fault = || {
            Fault::invalid(
                format!("{text:?} is not a log level"),
                r#"write "error", "warn", "info", "debug" or "trace", and levels of modules behind a comma: "info,bursar::token=debug""#,
            )
        };
        // The parser takes a bare word that is no level for a module whose every line is wanted.
        let is_level = |word: &str| {
            matches!(
                word.to_ascii_lowercase().as_str(),
                "off" | "error" | "warn" | "info" | "debug" | "trace"
            )
        };
        let is_sound = text.split(',').all(|part| match part.split_once('=') {
            Some((target, level)) => !target.trim().is_empty() && is_level(level.trim()),
            None => is_level(part.trim()),
        });
        if !is_sound {
            return Err(fault());
        }
        text.replace(' ', "").parse().map_err(|_| fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_later_version_is_told_from_a_misspelt_one() {
        let later = Mode::from_value(&Value::from("learn")).unwrap_err();
        assert!(format!("{later:?}").contains("comes with a later version"));
        let misspelt = Profile::from_value(&Value::from("brightspce")).unwrap_err();
        assert!(format!("{misspelt:?}").contains("did you mean"));
    }

    #[test]
    fn a_log_level_is_not_taken_for_a_module() {
        let of = |text: &str| Targets::from_value(&Value::from(text));
        assert!(of("info").is_ok());
        assert!(of("info, bursar::token=debug").is_ok());
        assert!(of("loud").is_err());
        assert!(of("info,bursar=loud").is_err());
        assert!(of("").is_err());
    }
}
