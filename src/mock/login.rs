//! How people log in: what is registered for the authorization code grant, and what its refresh tokens are like.

use std::{str::FromStr, time::Duration};

use url::{Host, Url};

/// The authorization code grant of the registered application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginParams {
    /// Where a browser may be sent back to; compared exactly.
    pub redirect_uris: Vec<RedirectUri>,
    /// Whether the person agrees at once, without the consent page.
    pub approve: bool,
    /// Whether a code challenge must be sent (RFC 7636). One that was sent is verified in any case.
    pub require_pkce: bool,
    /// What the callback says as `iss` (RFC 9207); `None`: nothing.
    pub issuer: Option<String>,
    /// How long a code is good for.
    pub code_lifetime: Duration,
    /// The refresh tokens of Brightspace. Those of the other systems are as those systems have them.
    pub refresh_tokens: RefreshTokens,
    /// How long a spent refresh token is accepted once more, if its successor has not been used.
    pub reuse_grace: Duration,
    /// Whether a spent refresh token that comes again ends the whole grant, access tokens too (RFC 9700 section 4.14.2).
    pub reuse_revokes: bool,
    /// Whether Brightspace's authorization server has a revocation endpoint (RFC 7009); none is publicly known.
    pub revocation: bool,
}

/// What becomes of a refresh token that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokens {
    /// It is spent, and the answer has the next one.
    Rotating,
    /// It stays good, and the answer has none.
    Reusable,
    /// There are none: the application is not enabled for them.
    Absent,
}

impl Default for LoginParams {
    /// `http://127.0.0.1:8765/callback` and `https://localhost:8765/callback` are registered, the consent page is shown, codes live for
    /// a minute, refresh tokens rotate without grace, and reuse ends the grant.
    fn default() -> Self {
        Self {
            redirect_uris: [
                "http://127.0.0.1:8765/callback",
                "https://localhost:8765/callback",
            ]
            .map(|uri| RedirectUri(uri.to_owned()))
            .to_vec(),
            approve: false,
            require_pkce: false,
            issuer: None,
            code_lifetime: Duration::from_mins(1),
            refresh_tokens: RefreshTokens::Rotating,
            reuse_grace: Duration::ZERO,
            reuse_revokes: true,
            revocation: false,
        }
    }
}

/// A redirect URI that can be registered: `https`, or `http` on loopback; without a fragment (RFC 6749 section 3.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri(String);

/// The text cannot be registered as a redirect URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a redirect URI is https://, or http:// on loopback (127.0.0.1, [::1], localhost), without a fragment"
)]
pub struct RedirectUriError;

impl RedirectUri {
    /// As registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedirectUri {
    type Err = RedirectUriError;

    fn from_str(text: &str) -> Result<Self, RedirectUriError> {
        let url = Url::parse(text).map_err(|_error| RedirectUriError)?;
        let on_loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let allowed = match url.scheme() {
            "https" => url.has_host(),
            "http" => on_loopback,
            _ => false,
        };
        if !allowed || url.fragment().is_some() {
            return Err(RedirectUriError);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_and_loopback_can_be_registered_and_nothing_else() {
        for good in [
            "https://localhost:8765/callback",
            "https://app.example.org/back?x=1",
            "http://127.0.0.1:8765/callback",
            "http://[::1]:1/",
            "http://localhost:9/c",
        ] {
            assert_eq!(good.parse::<RedirectUri>().unwrap().as_str(), good);
        }
        for bad in [
            "http://app.example.org/back",
            "https://a/#fragment",
            "urn:ietf:wg:oauth:2.0:oob",
            "app:/callback",
            "/callback",
            "",
        ] {
            assert_eq!(bad.parse::<RedirectUri>(), Err(RedirectUriError), "{bad}");
        }
    }

    #[test]
    fn the_default_ones_can_be_registered() {
        for uri in LoginParams::default().redirect_uris {
            assert_eq!(uri.as_str().parse(), Ok(uri));
        }
    }
}
