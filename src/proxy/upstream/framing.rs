//! The framing fields: the one that goes out, and those that may come in (RFC 9112 section 6).

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;

use super::{RequestBody, error::Violation};

/// Writes exactly one framing field, from the body: its length if known, else `chunked`. An empty
/// body has none, except where the method gives content a meaning (RFC 9110 section 8.6).
///
/// It is written here because hyper, left to itself, drops a chunked body of a GET.
pub(super) fn declare(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_11;
    let length = request.body().size_hint().exact();
    let expects_content = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    let fields = request.headers_mut();
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRANSFER_ENCODING);
    fields.remove(TRAILER);
    match length {
        Some(0) if !expects_content => {}
        Some(length) => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Refuses what hyper lets pass: two framings at once, codings other than one `chunked`, repeated
/// lengths, and a 101 that switches to anything but the protocol `asked` for.
///
/// hyper has already refused what does not parse: folded fields, control characters, differing
/// lengths, a status below 100, a Transfer-Encoding on HTTP/1.0.
///
/// # Errors
///
/// The [`Violation`].
pub(super) fn check<B>(
    response: &Response<B>,
    asked: Option<&HeaderValue>,
) -> Result<(), Violation> {
    let fields = response.headers();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !is_switch_to(fields, asked) {
        return Err(Violation::Upgrade);
    }
    let coding = single(fields, &TRANSFER_ENCODING).map_err(|_| Violation::TransferEncoding)?;
    let length = single(fields, &CONTENT_LENGTH).map_err(|_| Violation::ContentLength)?;
    if coding.is_some() && length.is_some() {
        return Err(Violation::TwoFramings);
    }
    if coding.is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Err(Violation::TransferEncoding);
    }
    if length.is_some_and(|length| !length.iter().all(u8::is_ascii_digit)) {
        return Err(Violation::ContentLength);
    }
    Ok(())
}

/// Whether a 101 names the one protocol that was asked for (RFC 9110 section 7.8).
fn is_switch_to(fields: &HeaderMap, asked: Option<&HeaderValue>) -> bool {
    let named = single(fields, &UPGRADE).ok().flatten();
    asked
        .zip(named)
        .is_some_and(|(asked, named)| named.trim_ascii().eq_ignore_ascii_case(asked.as_bytes()))
}

/// The field stands in the message more than once.
struct Repeated;

fn single<'a>(
    fields: &'a HeaderMap,
    name: &http::HeaderName,
) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = fields.get_all(name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Repeated),
        None => Ok(first.map(HeaderValue::as_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn declared(method: Method, body: &'static [u8]) -> HeaderMap {
        let mut request = Request::builder()
            .method(method)
            .header(CONTENT_LENGTH, "999")
            .header(TRANSFER_ENCODING, "gzip")
            .header(TRAILER, "authorization")
            .body(RequestBody::buffered(Bytes::from_static(body)))
            .unwrap();
        declare(&mut request);
        request.headers().clone()
    }

    fn answer(fields: &[(http::HeaderName, &'static str)]) -> Result<(), Violation> {
        let mut response = Response::new(());
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            response.headers_mut().append(name, value);
        }
        check(&response, None)
    }

    #[test]
    fn the_length_of_the_body_replaces_what_the_application_declared() {
        let fields = declared(Method::PUT, b"four");
        assert_eq!(fields.len(), 1);
        assert_eq!(fields[CONTENT_LENGTH], "4");
    }

    #[test]
    fn an_empty_body_is_declared_only_where_content_has_a_meaning() {
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS] {
            assert!(declared(method, b"").is_empty());
        }
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(declared(method, b"")[CONTENT_LENGTH], "0");
        }
    }

    #[test]
    fn a_101_names_the_one_protocol_that_was_asked_for() {
        let switches = |asked: Option<&'static str>, named: &[&'static str]| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for name in named {
                let value = HeaderValue::from_static(name);
                response.headers_mut().append(UPGRADE, value);
            }
            check(&response, asked.map(HeaderValue::from_static).as_ref()).is_ok()
        };
        assert!(switches(Some("websocket"), &["WebSocket"]));
        for (asked, named) in [
            (None, &["websocket"][..]),
            (Some("websocket"), &[]),
            (Some("websocket"), &["h2c"]),
            (Some("websocket"), &["websocket, h2c"]),
            (Some("websocket"), &["websocket", "websocket"]),
        ] {
            assert!(!switches(asked, named), "{asked:?} {named:?}");
        }
    }

    #[test]
    fn one_framing_or_none_is_accepted() {
        assert!(answer(&[]).is_ok());
        assert!(answer(&[(CONTENT_LENGTH, "12")]).is_ok());
        assert!(answer(&[(TRANSFER_ENCODING, "Chunked ")]).is_ok());
    }

    #[test]
    fn any_other_framing_is_refused() {
        for fields in [
            &[(CONTENT_LENGTH, "2"), (TRANSFER_ENCODING, "chunked")][..],
            &[(CONTENT_LENGTH, "2"), (CONTENT_LENGTH, "2")],
            &[(CONTENT_LENGTH, "2, 2")],
            &[(CONTENT_LENGTH, "+2")],
            &[(TRANSFER_ENCODING, "chunked, chunked")],
            &[(TRANSFER_ENCODING, "gzip, chunked")],
            &[(TRANSFER_ENCODING, "gzip")],
            &[(TRANSFER_ENCODING, "")],
            &[
                (TRANSFER_ENCODING, "chunked"),
                (TRANSFER_ENCODING, "chunked"),
            ],
        ] {
            assert!(answer(fields).is_err(), "{fields:?}");
        }
    }
}
