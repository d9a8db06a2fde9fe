//! What a profile sets unless a person does.

use std::time::Duration;

use crate::{
    config::{
        reader::Preset,
        tree::parse_value,
        value::word::{Grant, Profile},
    },
    oauth::{BasicEncoding, Dialect, ScopeSource},
    token::login::RefreshRules,
};

/// Keys and their values in TOML.
type Presets = &'static [(&'static str, &'static str)];

const OAUTH2: Presets = &[("grant", r#""client_credentials""#)];

const BRIGHTSPACE: Presets = &[
    ("grant", r#""client_credentials""#),
    ("auth_method", r#""private_key_jwt""#),
    (
        "token_url",
        r#""https://auth.brightspace.com/core/connect/token""#,
    ),
];

const BRIGHTSPACE_ID_KEY: Presets = &[
    ("grant", r#""id_key""#),
    // Who signs has the rights of the user's role; there is nobody to ask for scopes.
    ("request_scopes", "false"),
];

const BRIGHTSPACE_LTI: Presets = &[
    ("grant", r#""client_credentials""#),
    ("auth_method", r#""private_key_jwt""#),
    (
        "token_url",
        r#""https://auth.brightspace.com/core/connect/token""#,
    ),
    // Every known LTI tool; those that use REST name the token URL.
    ("audience", r#""https://api.brightspace.com/auth/token""#),
];

const CANVAS_LTI: Presets = &[
    ("grant", r#""client_credentials""#),
    ("auth_method", r#""private_key_jwt""#),
];

const BLACKBOARD: Presets = &[
    ("grant", r#""client_credentials""#),
    ("auth_method", r#""client_secret_basic""#),
    // The two-legged grant has no scopes: what the application may do is decided by its user's role.
    ("request_scopes", "false"),
    // One token per application, which nobody gets a successor of before it has expired. Requests must be able to wait for as
    // long as it is held back.
    ("safety_margin", r#""5s""#),
];

const BLACKBOARD_LTI: Presets = &[
    ("grant", r#""client_credentials""#),
    ("auth_method", r#""private_key_jwt""#),
    (
        "token_url",
        r#""https://developer.blackboard.com/api/v1/gateway/oauth2/jwttoken""#,
    ),
    ("audience_form", r#""array""#),
];

const INSTRUCTURE: Presets = &[
    ("grant", r#""client_credentials""#),
    ("auth_method", r#""client_secret_basic""#),
    (
        "token_url",
        r#""https://api-gateway.instructure.com/ids/auth/login""#,
    ),
    // What the identity service answers as scope is a description, not a list of permissions.
    ("request_scopes", "false"),
];

/// Presets that go with the authorization code grant, before those of the profile.
const BRIGHTSPACE_LOGIN: Presets = &[
    ("auth_method", r#""client_secret_basic""#),
    (
        "authorize_url",
        r#""https://auth.brightspace.com/oauth2/auth""#,
    ),
];

const CANVAS: Presets = &[
    ("grant", r#""authorization_code""#),
    ("auth_method", r#""client_secret_post""#),
    // A new token kills the one before it at once: no earlier than needed.
    ("refresh_ahead", r#""60s""#),
];

const LTIAAS: Presets = &[
    ("grant", r#""authorization_code""#),
    // What the scopes are is decided in the portal.
    ("request_scopes", "false"),
];

// An administrator makes the token; there is nothing to ask for another.
const MOODLE: Presets = &[("grant", r#""static""#)];

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Oauth2 => "oauth2",
            Self::Brightspace => "brightspace",
            Self::BrightspaceIdKey => "brightspace-id-key",
            Self::BrightspaceLti => "brightspace-lti",
            Self::CanvasLti => "canvas-lti",
            Self::Blackboard => "blackboard",
            Self::BlackboardLti => "blackboard-lti",
            Self::Instructure => "instructure",
            Self::Canvas => "canvas",
            Self::Ltiaas => "ltiaas",
            Self::Moodle => "moodle",
        }
    }

    const fn presets(self) -> Presets {
        match self {
            Self::Oauth2 => OAUTH2,
            Self::Brightspace => BRIGHTSPACE,
            Self::BrightspaceIdKey => BRIGHTSPACE_ID_KEY,
            Self::BrightspaceLti => BRIGHTSPACE_LTI,
            Self::CanvasLti => CANVAS_LTI,
            Self::Blackboard => BLACKBOARD,
            Self::BlackboardLti => BLACKBOARD_LTI,
            Self::Instructure => INSTRUCTURE,
            Self::Canvas => CANVAS,
            Self::Ltiaas => LTIAAS,
            Self::Moodle => MOODLE,
        }
    }

    const fn login_presets(self) -> Presets {
        match self {
            Self::Brightspace => BRIGHTSPACE_LOGIN,
            _ => &[],
        }
    }

    /// The profile's default for `key`.
    pub(super) fn preset(self, key: &str) -> Option<Preset> {
        self.found(key, self.presets())
    }

    /// The same where people log in.
    pub(super) fn preset_for(self, key: &str, grant: Grant) -> Option<Preset> {
        let of_login = match grant {
            Grant::AuthorizationCode => self.found(key, self.login_presets()),
            _ => None,
        };
        of_login.or_else(|| self.preset(key))
    }

    fn found(self, key: &str, presets: Presets) -> Option<Preset> {
        let (_, value) = presets.iter().find(|(name, _)| *name == key)?;
        Some(Preset {
            value: parse_value(value)?,
            from: format!("profile {}", self.name()),
        })
    }

    /// The profile's default for an upstream's `request_scopes`.
    pub(in crate::config::resolve) fn request_scopes(self) -> Option<Preset> {
        self.preset("request_scopes")
    }

    /// The same as a value.
    pub(in crate::config::resolve) fn requests_scopes(self) -> bool {
        let preset = self.request_scopes();
        preset
            .and_then(|preset| preset.value.to_bool())
            .unwrap_or(true)
    }

    /// What to do about a token URL that neither a person nor the profile has set.
    pub(super) const fn token_url_help(self) -> &'static str {
        match self {
            Self::CanvasLti | Self::Canvas => {
                "set it to https://YOUR-HOST/login/oauth2/token, with the host name of your Canvas"
            }
            Self::Blackboard => {
                "set it to https://YOUR-HOST/learn/api/public/v1/oauth2/token, with the host name of your Blackboard Learn"
            }
            Self::Ltiaas => {
                "set it to https://YOUR-ACCOUNT.ltiaas.com/api/oauth/access-token; the platform's id is put behind it"
            }
            _ => {
                "set it to the URL of the authorization server's token endpoint, or choose a profile that knows it"
            }
        }
    }

    /// What to do about an authorization endpoint that neither a person nor the profile has set.
    pub(super) const fn authorize_url_help(self) -> &'static str {
        match self {
            Self::Canvas => {
                "set it to https://YOUR-HOST/login/oauth2/auth, with the host name of your Canvas"
            }
            _ => {
                "set it to the URL of the authorization server's authorization endpoint, or choose a profile that knows it"
            }
        }
    }

    /// How its token endpoint is spoken to. LTIAAS has a client of its own kind.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Self::Canvas => Dialect::Canvas,
            _ => Dialect::Standard,
        }
    }

    /// What its authorization server makes of refresh tokens.
    pub(super) const fn refresh_rules(self, reuse_grace: Duration) -> RefreshRules {
        RefreshRules {
            is_reusable: matches!(self, Self::Canvas),
            reuse_grace,
            names_scopes: !matches!(self, Self::Canvas | Self::Ltiaas),
        }
    }

    /// Where its authorization server says what it granted.
    pub(super) const fn scope_source(self) -> ScopeSource {
        match self {
            Self::Oauth2 | Self::Canvas | Self::CanvasLti | Self::BlackboardLti => {
                ScopeSource::Answer
            }
            Self::Brightspace | Self::BrightspaceLti => ScopeSource::AnswerOrToken,
            Self::BrightspaceIdKey
            | Self::Blackboard
            | Self::Instructure
            | Self::Ltiaas
            | Self::Moodle => ScopeSource::Nowhere,
        }
    }

    /// How its authorization server reads the pair of `client_secret_basic`.
    pub(super) const fn basic_encoding(self) -> BasicEncoding {
        match self {
            Self::Instructure => BasicEncoding::Raw,
            _ => BasicEncoding::Form,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;

    const ALL: [Profile; 11] = [
        Profile::Oauth2,
        Profile::Brightspace,
        Profile::BrightspaceLti,
        Profile::CanvasLti,
        Profile::Blackboard,
        Profile::BlackboardLti,
        Profile::Instructure,
        Profile::Canvas,
        Profile::Ltiaas,
        Profile::BrightspaceIdKey,
        Profile::Moodle,
    ];

    #[test]
    fn every_preset_is_of_a_key_that_exists_and_is_toml() {
        for profile in ALL {
            for (key, _) in profile.presets().iter().chain(profile.login_presets()) {
                let table = match *key {
                    "request_scopes" => "upstreams",
                    _ => "credentials",
                };
                let pattern = format!("{table}.*.{key}");
                assert!(
                    matches!(schema::node(&pattern), Some(schema::Node::Leaf(_))),
                    "{pattern}"
                );
                let preset = profile.preset_for(key, Grant::AuthorizationCode);
                assert!(preset.is_some(), "{} {key}", profile.name());
            }
        }
    }
}
