//! WebSockets (RFC 6455): which request may become one, and the fields of asking and of switching.
//!
//! Only over HTTP/1.1, and only where the route says so. No other protocol is ever switched to.

use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{CONNECTION, UPGRADE},
    request::Parts,
};

use super::reject::Rejection;
use crate::{code::Code, policy::Route};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// How one `Upgrade` field is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// h2c: ignored, as RFC 9110 section 7.8 allows, and never passed on (R12).
    Ignored,
    /// A WebSocket, and nothing else: the route decides.
    WebSocket,
    /// Anything else.
    Refused,
}

impl Offer {
    pub(super) fn of(value: &HeaderValue) -> Self {
        let mut protocols = value.as_bytes().split(|byte| *byte == b',');
        let is = |protocol: &[u8], name: &str| {
            protocol.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
        };
        if protocols.clone().all(|protocol| is(protocol, "h2c")) {
            return Self::Ignored;
        }
        match (protocols.next(), protocols.next()) {
            (Some(only), None) if is(only, "websocket") => Self::WebSocket,
            _ => Self::Refused,
        }
    }
}

/// Whether the request wants to become a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers
        .get_all(UPGRADE)
        .iter()
        .any(|value| Offer::of(value) == Offer::WebSocket)
}

/// Whether it may.
pub(super) fn check(head: &Parts, has_body: bool, route: &Route) -> Result<(), Rejection> {
    let headers = &head.headers;
    if !route.upgrade {
        return Err(denied(
            "The route does not allow an upgrade; `upgrade = true` on it would.",
        ));
    }
    if head.method != Method::GET || has_body || head.version != Version::HTTP_11 {
        return Err(denied(
            "A WebSocket begins with a GET over HTTP/1.1 without a body (RFC 6455 section 4.1).",
        ));
    }
    if headers.get_all(UPGRADE).iter().count() != 1 || !names_upgrade(headers) {
        return Err(denied(
            "A WebSocket is asked for by one Upgrade field and a Connection field that names it.",
        ));
    }
    Ok(())
}

/// Puts the two fields on a request or on a 101 whose hop-by-hop fields are gone.
pub(super) fn switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

fn denied(detail: &'static str) -> Rejection {
    Rejection::new(Code::UpgradeDenied, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_websocket_alone_is_left_to_the_route() {
        for (value, offer) in [
            ("h2c", Offer::Ignored),
            ("h2c, H2C", Offer::Ignored),
            ("websocket", Offer::WebSocket),
            (" WebSocket\t", Offer::WebSocket),
            ("h2c, websocket", Offer::Refused),
            ("websocket, websocket", Offer::Refused),
            ("websocket,", Offer::Refused),
            ("websocket/13", Offer::Refused),
            ("TLS/1.0", Offer::Refused),
            ("", Offer::Refused),
        ] {
            assert_eq!(
                Offer::of(&HeaderValue::from_static(value)),
                offer,
                "{value}"
            );
        }
    }
}
