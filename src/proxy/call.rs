//! Calls of functions (Moodle): the policy decides by a name that can stand in the request's form, so that is read first.
//!
//! PHP reads two kinds of forms. One that is urlencoded is read here as well, and takes the token. One of several parts is
//! refused: PHP joins a header line without a colon to the one before it, drops backslashes, guesses at quotes, so that nobody
//! else is sure to see the names that it sees. So is any other body: something in between could turn it into a form.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    uri::PathAndQuery,
};

use super::{
    arriving::Arriving,
    body::{self, Upload},
    record::Record,
    reject::Rejection,
    worker::Lane,
};
use crate::{
    code::Code,
    policy::{Permit, Route},
};

/// The largest body of a call in bytes: all of it is read before anything is sent.
pub(super) const LARGEST: usize = 1024 * 1024;

const URLENCODED: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

const MULTIPART: &[u8] = b"multipart/form-data";

/// The body of a permitted call: a form, without the application's own token. Ours goes into it.
#[derive(Debug)]
pub(super) struct Call(Bytes);

impl Call {
    /// The form that takes the token.
    pub(super) fn form(&self) -> &Bytes {
        &self.0
    }

    /// Refuses a body that is larger than its route allows. Which route that is nobody could know before it was read.
    pub(super) fn check_size(&self, route: &Route) -> Result<(), Rejection> {
        match route.max_body {
            Some(limit) if self.0.len() as u64 > limit => Err(Rejection::new(
                Code::BodyTooLarge,
                "The body is larger than the route allows.",
            )),
            _ => Ok(()),
        }
    }

    /// The body, as it is without our token.
    pub(super) fn into_upload(self) -> Upload<Arriving> {
        Upload::Whole(self.0)
    }
}

/// Reads the body of a call and decides about it. Of what is refused in any case nothing is read.
pub(super) async fn decide(
    lane: &Lane,
    method: &Method,
    target: &PathAndQuery,
    headers: &mut HeaderMap,
    incoming: &mut Option<Arriving>,
    record: &mut Record,
) -> Result<(Permit, Call), Rejection> {
    let policy = &lane.upstream.policy;
    policy
        .precheck_call(method, target)
        .map_err(|denial| record.denial(denial))?;
    let bytes = read(lane, headers, incoming, record).await?;
    check_kind(headers, &bytes)?;
    let mut form = policy
        .read_form(&bytes)
        .map_err(|denial| record.denial(denial))?;
    let bytes = form.without_credentials().map_or(bytes, Bytes::from);
    headers.entry(CONTENT_TYPE).or_insert(URLENCODED);
    let permit = policy
        .decide_call(method, target, &form)
        .map_err(|denial| record.denial(denial))?;
    Ok((permit, Call(bytes)))
}

async fn read(
    lane: &Lane,
    headers: &HeaderMap,
    incoming: &mut Option<Arriving>,
    record: &mut Record,
) -> Result<Bytes, Rejection> {
    if body::announced_length(headers).is_some_and(|length| length > LARGEST as u64) {
        return Err(too_large());
    }
    let Some(body) = incoming.take() else {
        return Ok(Bytes::new());
    };
    let idle = lane.upstream.params.idle_timeout;
    let reading = Box::pin(body::read_up_to(body, LARGEST, Some(LARGEST as u64), idle));
    match record.waiting(reading).await? {
        Upload::Whole(bytes) => Ok(bytes),
        // The limit is where it would begin to flow.
        Upload::Flowing { .. } => Err(too_large()),
    }
}

/// Refuses a body that is no urlencoded form. An empty one is a form without fields.
fn check_kind(headers: &mut HeaderMap, body: &[u8]) -> Result<(), Rejection> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unreadable());
    }
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
        return Ok(());
    }
    match is_of_type(headers, URLENCODED.as_bytes()) {
        true => Ok(()),
        false => Err(unreadable()),
    }
}

/// Refuses a POST to where files are left that is not of the form that files come in: in an urlencoded one, `token` would stand
/// before ours.
pub(super) fn check_upload(
    permit: &Permit,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Rejection> {
    let is_upload = permit.token_parameter().is_some() && *method == Method::POST;
    match is_upload && !is_of_type(headers, MULTIPART) {
        true => Err(Rejection::new(
            Code::RouteDenied,
            "Files are uploaded to Moodle in a form of several parts (multipart/form-data); another could hold another token.",
        )),
        false => Ok(()),
    }
}

/// Whether the one Content-Type is this.
fn is_of_type(headers: &HeaderMap, media_type: &[u8]) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let own = only.as_bytes().split(|byte| *byte == b';').next();
    let own = own.unwrap_or_default().trim_ascii();
    own.eq_ignore_ascii_case(media_type)
}

fn too_large() -> Rejection {
    Rejection::new(
        Code::BodyTooLarge,
        "The body of a call is at most 1 MiB: which function it calls must be known before it is sent.",
    )
}

fn unreadable() -> Rejection {
    Rejection::new(
        Code::RouteDenied,
        "The body of a call is a form of the type application/x-www-form-urlencoded, without Content-Encoding: which function \
         another body calls is not known, one of several parts (multipart/form-data) included. Send the fields urlencoded; \
         files go to /webservice/upload.php.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(types: &[&'static str], body: &[u8]) -> Result<(), Code> {
        let mut headers = HeaderMap::new();
        for text in types {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(text));
        }
        check_kind(&mut headers, body).map_err(|rejection| rejection.code)
    }

    #[test]
    fn a_body_is_an_urlencoded_form_or_refused() {
        let urlencoded = "application/x-www-form-urlencoded";
        for types in [
            &[urlencoded][..],
            &["Application/X-WWW-Form-Urlencoded ; charset=utf-8"],
        ] {
            assert_eq!(check(types, b"a=1"), Ok(()), "{types:?}");
        }
        for types in [
            &["multipart/form-data; boundary=b"][..],
            &["Multipart/Form-Data"],
            &["multipart/mixed; boundary=b"],
            &["application/x-www-form-urlencoded, multipart/form-data; boundary=b"],
            &["application/json"],
            &[urlencoded, urlencoded],
            &[],
        ] {
            assert_eq!(check(types, b"a=1"), Err(Code::RouteDenied), "{types:?}");
        }
        assert_eq!(check(&["application/json"], b""), Ok(()));
    }

    #[test]
    fn an_encoded_body_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(check_kind(&mut headers, b"").is_err());
    }
}
