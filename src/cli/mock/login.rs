//! What `bursar mock` can be told about logins.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::mock::{Lms, LoginParams, RedirectUri, RefreshTokens};

#[derive(Args)]
#[command(next_help_heading = "Logins (authorization code grant)")]
pub(super) struct LoginArgs {
    /// Where browsers may be sent back to, compared exactly: https, or http on loopback; may be given several times
    ///
    /// Without it, http://127.0.0.1:8765/callback and https://localhost:8765/callback.
    #[arg(long = "redirect-uri", value_name = "URI")]
    redirect_uris: Vec<RedirectUri>,
    /// Agree at once instead of showing the consent page
    #[arg(long)]
    approve: bool,
    /// Refuse logins without a code challenge (PKCE, S256)
    #[arg(long)]
    require_pkce: bool,
    /// Send this as iss with every callback (RFC 9207)
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// What becomes of a refresh token that is used; without it, rotate on brightspace and keep on ltiaas
    #[arg(long, value_name = "WHAT")]
    refresh_tokens: Option<Refreshing>,
    /// How long a spent refresh token is accepted again, unless its successor has been used
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    reuse_grace: Duration,
    /// What a spent refresh token does when it comes again
    #[arg(long, value_name = "WHAT", default_value = "revoke")]
    on_reuse: OnReuse,
    /// Serve a revocation endpoint at /core/connect/revocation (RFC 7009)
    #[arg(long)]
    revocation: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Refreshing {
    /// It is spent, and the answer has the next one
    Rotate,
    /// It stays good, and the answer has none
    Keep,
    /// There are none
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnReuse {
    /// The whole grant ends, access tokens too
    Revoke,
    /// It is refused, and that is all
    Refuse,
}

impl LoginArgs {
    /// One that browsers may be sent back to.
    pub(super) fn first_redirect_uri(&self) -> String {
        let usual = LoginParams::default().redirect_uris;
        let first = self.redirect_uris.first().or_else(|| usual.first());
        first.map_or_else(String::new, |uri| uri.as_str().to_owned())
    }

    pub(super) fn into_params(self, lms: Lms) -> LoginParams {
        let usual = LoginParams::default();
        LoginParams {
            redirect_uris: match self.redirect_uris.is_empty() {
                true => usual.redirect_uris,
                false => self.redirect_uris,
            },
            approve: self.approve,
            require_pkce: self.require_pkce,
            issuer: self.issuer,
            code_lifetime: usual.code_lifetime,
            refresh_tokens: match (self.refresh_tokens, lms) {
                // The answer that LTIAAS documents has no new one.
                (Some(Refreshing::Keep), _) | (None, Lms::Ltiaas) => RefreshTokens::Reusable,
                (Some(Refreshing::None), _) => RefreshTokens::Absent,
                (Some(Refreshing::Rotate) | None, _) => RefreshTokens::Rotating,
            },
            reuse_grace: self.reuse_grace,
            reuse_revokes: self.on_reuse == OnReuse::Revoke,
            revocation: self.revocation,
        }
    }
}
