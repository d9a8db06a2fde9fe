//! What a failure says of the refresh token that was presented.

use crate::oauth::{Cause, Failure, OAuthError, Unreachable};

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was not seen, or not looked at: it can be presented again.
    Unspent,
    /// The AS says that it is no good.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Fate {
    pub(super) const fn of(failure: &Failure) -> Self {
        if !failure.is_sent {
            return Self::Unspent;
        }
        match &failure.cause {
            Cause::Rejected(OAuthError::InvalidGrant) => Self::Refused,
            Cause::Rejected(_)
            | Cause::Throttled(_)
            | Cause::NotSent(_)
            | Cause::LoginNeeded(_)
            | Cause::Store(_)
            | Cause::Unreachable(
                Unreachable::Dns
                | Unreachable::Connect
                | Unreachable::Tls
                | Unreachable::Proxy
                | Unreachable::ProxyRefused(_),
            ) => Self::Unspent,
            // A gateway does not say what the AS behind it did. Any success but 200 may have brought a successor.
            Cause::Status(502 | 504 | 200..=299)
            | Cause::Timeout(_)
            | Cause::Unreachable(Unreachable::Reset)
            | Cause::InvalidResponse(_) => Self::Unknown,
            // The answer of an AS that did not do what it was asked for.
            Cause::Status(_) => Self::Unspent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_authorization_server_may_have_acted_on_may_be_spent() {
        let fate = |cause: Cause| Fate::of(&Failure::from(cause));
        for cause in [
            Cause::Timeout(Duration::from_secs(10)),
            Cause::Unreachable(Unreachable::Reset),
            Cause::InvalidResponse("it is empty"),
            Cause::Status(502),
            Cause::Status(504),
            Cause::Status(201),
            Cause::Status(204),
        ] {
            assert_eq!(fate(cause.clone()), Fate::Unknown, "{cause}");
        }
        for cause in [
            Cause::Unreachable(Unreachable::Dns),
            Cause::Unreachable(Unreachable::Connect),
            Cause::Unreachable(Unreachable::Tls),
            Cause::Unreachable(Unreachable::Proxy),
            Cause::Unreachable(Unreachable::ProxyRefused(403)),
            Cause::Throttled(429),
            Cause::Throttled(503),
            Cause::Status(307),
            Cause::Status(404),
            Cause::Status(500),
            Cause::Status(503),
            Cause::Rejected(OAuthError::InvalidClient),
            Cause::Rejected(OAuthError::InvalidScope),
            Cause::Rejected(OAuthError::TemporarilyUnavailable),
            Cause::NotSent("the host is no field value"),
        ] {
            assert_eq!(fate(cause.clone()), Fate::Unspent, "{cause}");
        }
        let refused = Cause::Rejected(OAuthError::InvalidGrant);
        assert_eq!(fate(refused), Fate::Refused);
    }

    #[test]
    fn a_timeout_before_there_was_a_connection_has_spent_nothing() {
        let failure = Failure {
            is_sent: false,
            ..Cause::Timeout(Duration::from_secs(10)).into()
        };
        assert_eq!(Fate::of(&failure), Fate::Unspent);
    }
}
