//! Calls of functions (Moodle): the policy decides by a name that can stand in the request's form, so that is read first.
//!
//! PHP reads two kinds of forms. One that is urlencoded is read here as well, and takes the token. In one of several parts
//! nobody is sure to see what PHP sees, so it may hold neither a function nor a token. Any other body says nothing that
//! counts, unless something in between turns it into a form; it is refused.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    uri::PathAndQuery,
};
use percent_encoding::percent_decode;

use super::{
    arriving::Arriving,
    body::{self, Upload},
    record::Record,
    reject::Rejection,
    worker::Lane,
};
use crate::{
    code::Code,
    policy::{Form, Permit, Route},
};

/// The largest body of a call in bytes: all of it is read before anything is sent.
pub(super) const LARGEST: usize = 1024 * 1024;

const URLENCODED: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// What must not stand in a form of several parts.
const NAMES: [&[u8]; 2] = [b"wsfunction", b"wstoken"];

/// The body of a permitted call.
#[derive(Debug)]
pub(super) enum Call {
    /// A form, without the application's own token. Ours goes into it.
    Form(Bytes),
    /// Another body; the token goes into the query.
    Parts(Bytes),
}

/// How PHP reads a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Urlencoded,
    Multipart,
}

impl Call {
    /// The form that takes the token.
    pub(super) fn form(&self) -> Option<&Bytes> {
        match self {
            Self::Form(form) => Some(form),
            Self::Parts(_) => None,
        }
    }

    /// Refuses a body that is larger than its route allows. Which route that is nobody could know before it was read.
    pub(super) fn check_size(&self, route: &Route) -> Result<(), Rejection> {
        let (Self::Form(bytes) | Self::Parts(bytes)) = self;
        match route.max_body {
            Some(limit) if bytes.len() as u64 > limit => Err(Rejection::new(
                Code::BodyTooLarge,
                "The body is larger than the route allows.",
            )),
            _ => Ok(()),
        }
    }

    /// The body, as it is without our token.
    pub(super) fn into_upload(self) -> Upload<Arriving> {
        match self {
            Self::Form(bytes) | Self::Parts(bytes) => Upload::Whole(bytes),
        }
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
    let (form, call) = match kind(headers, &bytes)? {
        Kind::Urlencoded => {
            let mut form = policy
                .read_form(&bytes)
                .map_err(|denial| record.denial(denial))?;
            let bytes = form.without_credentials().map_or(bytes, Bytes::from);
            headers.entry(CONTENT_TYPE).or_insert(URLENCODED);
            (form, Call::Form(bytes))
        }
        Kind::Multipart => {
            check_parts(&bytes)?;
            (Form::default(), Call::Parts(bytes))
        }
    };
    let permit = policy
        .decide_call(method, target, &form)
        .map_err(|denial| record.denial(denial))?;
    Ok((permit, call))
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

/// An empty body is a form without fields.
fn kind(headers: &mut HeaderMap, body: &[u8]) -> Result<Kind, Rejection> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unreadable());
    }
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
        return Ok(Kind::Urlencoded);
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return Err(unreadable());
    };
    let media_type = only.as_bytes().split(|byte| *byte == b';').next();
    let media_type = media_type.unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(URLENCODED.as_bytes()) {
        Ok(Kind::Urlencoded)
    } else if media_type.eq_ignore_ascii_case(b"multipart/form-data") {
        Ok(Kind::Multipart)
    } else {
        Err(unreadable())
    }
}

/// However it is quoted or encoded, wherever it stands: parsers of parts agree on little.
fn check_parts(body: &[u8]) -> Result<(), Rejection> {
    let plain: Vec<u8> = percent_decode(body).filter(|byte| *byte != b'\\').collect();
    let mentions = |text: &[u8], name: &[u8]| {
        text.windows(name.len())
            .any(|window| window.eq_ignore_ascii_case(name))
    };
    let is_mentioned = |name: &&[u8]| mentions(body, name) || mentions(&plain, name);
    match NAMES.iter().any(is_mentioned) {
        true => Err(Rejection::new(
            Code::QueryParameterDenied,
            "A form of several parts (multipart/form-data) can name neither wsfunction nor wstoken; put wsfunction into the \
             query, or send the form as application/x-www-form-urlencoded.",
        )),
        false => Ok(()),
    }
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
        "The body of a call is a form, without Content-Encoding: which function another one calls is not known. Send it as \
         application/x-www-form-urlencoded.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind_of(types: &[&'static str], body: &[u8]) -> Result<Kind, Code> {
        let mut headers = HeaderMap::new();
        for text in types {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(text));
        }
        kind(&mut headers, body).map_err(|rejection| rejection.code)
    }

    #[test]
    fn a_body_is_one_of_two_kinds_of_forms_or_refused() {
        let urlencoded = "application/x-www-form-urlencoded";
        for (types, expected) in [
            (&[urlencoded][..], Ok(Kind::Urlencoded)),
            (
                &["Application/X-WWW-Form-Urlencoded ; charset=utf-8"],
                Ok(Kind::Urlencoded),
            ),
            (&["multipart/form-data; boundary=b"], Ok(Kind::Multipart)),
            (&["multipart/mixed; boundary=b"], Err(Code::RouteDenied)),
            (&["application/json"], Err(Code::RouteDenied)),
            (&[urlencoded, urlencoded], Err(Code::RouteDenied)),
            (&[], Err(Code::RouteDenied)),
        ] {
            assert_eq!(kind_of(types, b"a=1"), expected, "{types:?}");
        }
        assert_eq!(kind_of(&["application/json"], b""), Ok(Kind::Urlencoded));
    }

    #[test]
    fn an_encoded_body_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(kind(&mut headers, b"").is_err());
    }

    #[test]
    fn a_part_that_could_be_a_function_or_a_token_is_refused_however_it_is_written() {
        for name in [
            "\"wsfunction\"",
            "wstoken",
            "\"WSFunction[]\"",
            "\"ws\\function\"",
            "\"ws%66unction\"",
        ] {
            let body =
                format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\nx\r\n--b--\r\n");
            assert!(check_parts(body.as_bytes()).is_err(), "{name}");
        }
        let body = "--b\r\nContent-Disposition: form-data; name=\"courseid\"\r\n\r\n7\r\n--b--\r\n";
        assert!(check_parts(body.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn no_body_makes_the_checks_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = check_parts(&body);
            let _ = kind_of(&["multipart/form-data"], &body);
        }
    }
}
