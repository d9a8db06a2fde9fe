//! Keeps the method that the policy saw the method that a Rails application executes (R34).
//!
//! Rack reads a form field `_method` of a POST and executes PUT, PATCH or DELETE instead. Where Rack
//! and we might read a form differently, the form is refused.

use http::{HeaderMap, Method, header::CONTENT_TYPE, uri::PathAndQuery};
use percent_encoding::percent_decode;

use crate::{
    code::Code,
    policy::{Catalogue, Policy},
    proxy::reject::Rejection,
};

const FIELD: &[u8] = b"_method";

/// The part headers that can give a part its name; Rack finds them anywhere in a line.
const NAMING_FIELDS: [&[u8]; 2] = [b"content-disposition", b"content-id"];

/// What a tunnelled method could be.
const OVERRIDES: [Method; 3] = [Method::PUT, Method::PATCH, Method::DELETE];

/// How Rack would read the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Form {
    /// `application/x-www-form-urlencoded`, or a POST that does not say.
    Urlencoded,
    /// `multipart/…`.
    Multipart,
    /// Content-Type is repeated and says both: servers differ in which they believe.
    Either,
}

/// Which form a request carries, if its upstream is one that looks for `_method`.
pub(in crate::proxy) fn form_of(
    catalogue: Catalogue,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Form> {
    if catalogue != Catalogue::Canvas || method != Method::POST {
        return None;
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter().peekable();
    if types.peek().is_none() {
        return Some(Form::Urlencoded);
    }
    let mut forms = types.filter_map(|value| form_of_type(value.as_bytes()));
    let first = forms.next()?;
    let is_unanimous = forms.all(|other| other == first);
    Some(if is_unanimous { first } else { Form::Either })
}

/// Checks the start of a form; `is_whole`: there is no more of it.
///
/// A form that goes on cannot be checked to its end, so it passes only where the policy allows all
/// that it could be turned into.
pub(in crate::proxy) fn check(
    form: Form,
    start: &[u8],
    is_whole: bool,
    policy: &Policy,
    target: &PathAndQuery,
) -> Result<(), Rejection> {
    if names_method(form, start) {
        return Err(Rejection::new(
            Code::MethodOverrideDenied,
            "A form field `_method` would change the method; use the method itself.",
        ));
    }
    // What report mode lets through is not allowed.
    let allows_all = || {
        OVERRIDES.iter().all(|method| {
            let decision = policy.decide(method, target);
            decision.is_ok_and(|permit| permit.reported().is_none())
        })
    };
    if is_whole || allows_all() {
        return Ok(());
    }
    Err(Rejection::new(
        Code::MethodOverrideDenied,
        "A form over 64 KiB cannot be checked for a field `_method`; send the file itself as the body.",
    ))
}

fn form_of_type(value: &[u8]) -> Option<Form> {
    let media_type = value
        .split(|byte| matches!(byte, b';' | b','))
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if media_type.is_empty()
        || media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    {
        return Some(Form::Urlencoded);
    }
    let multipart = b"multipart/";
    media_type
        .get(..multipart.len())
        .filter(|kind| kind.eq_ignore_ascii_case(multipart))
        .map(|_| Form::Multipart)
}

fn names_method(form: Form, body: &[u8]) -> bool {
    match form {
        Form::Urlencoded => body.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
            is_method_name(pair.split(|byte| *byte == b'=').next().unwrap_or_default())
        }),
        Form::Multipart => a_part_mentions_method(body),
        Form::Either => names_method(Form::Urlencoded, body) || names_method(Form::Multipart, body),
    }
}

/// Rack drops leading brackets and blanks of a name, and what follows one is a subscript.
fn is_method_name(encoded: &[u8]) -> bool {
    let name: Vec<u8> = percent_decode(encoded)
        .map(|byte| if byte == b'+' { b' ' } else { byte })
        .skip_while(|byte| byte.is_ascii_whitespace() || matches!(byte, b'[' | b']' | 0))
        .collect();
    name.get(..FIELD.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FIELD))
        && !name
            .get(FIELD.len())
            .is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'_')
}

/// Whether a block of part headers that can name a part mentions the field. Boundaries are not looked
/// at, as two parsers may disagree on them; a block goes from the word to the next empty line.
fn a_part_mentions_method(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(start) = NAMING_FIELDS
        .iter()
        .filter_map(|name| find_ignoring_case(rest, name))
        .min()
    {
        let block = rest.get(start..).unwrap_or_default();
        let (block, after) = block.split_at(end_of_block(block));
        if mentions_method(block) {
            return true;
        }
        rest = after;
    }
    false
}

/// At least 1: the search goes on behind it.
fn end_of_block(text: &[u8]) -> usize {
    let is_empty_line = |at: usize| {
        let next = text.get(at + 1..).unwrap_or_default();
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    };
    text.iter()
        .enumerate()
        .position(|(at, byte)| *byte == b'\n' && is_empty_line(at))
        .map_or(text.len(), |line_feed| line_feed + 1)
}

/// Quoted pairs and percent-encoding undone: parsers differ in which of them they honour.
fn mentions_method(block: &[u8]) -> bool {
    let plain: Vec<u8> = percent_decode(block)
        .filter(|byte| *byte != b'\\')
        .collect();
    find_ignoring_case(&plain, FIELD).is_some()
}

fn find_ignoring_case(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{Mode, PolicySpec, Requirement, RouteSpec},
        scope::ScopeSet,
    };
    use http::HeaderValue;
    use proptest::prelude::*;

    fn form(content_type: &'static str) -> Option<Form> {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        form_of(Catalogue::Canvas, &Method::POST, &headers)
    }

    #[test]
    fn only_a_post_of_a_form_to_canvas_is_looked_at() {
        assert_eq!(
            form("application/x-www-form-urlencoded"),
            Some(Form::Urlencoded)
        );
        assert_eq!(
            form("Application/X-WWW-Form-Urlencoded ; charset=x"),
            Some(Form::Urlencoded)
        );
        assert_eq!(
            form("multipart/form-data; boundary=b"),
            Some(Form::Multipart)
        );
        assert_eq!(form("MULTIPART/mixed"), Some(Form::Multipart));
        assert_eq!(form("application/json"), None);
        assert_eq!(form("text/csv"), None);
        let none = HeaderMap::new();
        assert_eq!(
            form_of(Catalogue::Canvas, &Method::POST, &none),
            Some(Form::Urlencoded)
        );
        assert_eq!(form_of(Catalogue::Canvas, &Method::PUT, &none), None);
        assert_eq!(form_of(Catalogue::Brightspace, &Method::POST, &none), None);
    }

    #[test]
    fn a_repeated_content_type_is_read_in_both_ways() {
        let forms = |types: [&'static str; 2]| {
            let types = types.map(|text| (CONTENT_TYPE, HeaderValue::from_static(text)));
            let mut headers = HeaderMap::new();
            for (name, value) in types {
                headers.append(name, value);
            }
            form_of(Catalogue::Canvas, &Method::POST, &headers)
        };
        let urlencoded = "application/x-www-form-urlencoded";
        assert_eq!(forms(["multipart/mixed", urlencoded]), Some(Form::Either));
        assert_eq!(forms([urlencoded, "multipart/mixed"]), Some(Form::Either));
        assert_eq!(forms(["text/csv", urlencoded]), Some(Form::Urlencoded));
        assert!(names_method(Form::Either, b"_method=DELETE"));
        assert!(!names_method(Form::Either, b"a=1&b=2"));
    }

    #[test]
    fn an_urlencoded_method_is_found_however_it_is_written() {
        for body in [
            "_method=DELETE",
            "a=b&_method=DELETE",
            "a=b;_method=put",
            "a=b& _method=put",
            "%5Fmethod=DELETE",
            "_%6dethod=DELETE",
            "+_method=DELETE",
            "[_method]=DELETE",
            "_method[]=DELETE",
            "%5b_method%5d=DELETE",
            "_METHOD=DELETE",
            "_method",
        ] {
            assert!(names_method(Form::Urlencoded, body.as_bytes()), "{body}");
        }
        for body in ["", "name=_method", "user_method=1", "_methods=1", "a=1&b=2"] {
            assert!(!names_method(Form::Urlencoded, body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_multipart_method_is_found_however_it_is_written() {
        for header in [
            "Content-Disposition: form-data; name=\"_method\"",
            "content-disposition: form-data; name=_method",
            "Content-Disposition: form-data;\r\n name=\"_method\"",
            "Content-Disposition: form-data; name=\"\\_method\"",
            "Content-Disposition: form-data; name*=utf-8''%5Fmethod",
            "Content-ID: _method",
            "X: Content-Disposition: form-data; name=_method",
            "Content-Disposition: form-data;\r\nx; name=_method",
        ] {
            let body = format!("--b\r\n{header}\r\n\r\nDELETE\r\n--b--\r\n");
            assert!(names_method(Form::Multipart, body.as_bytes()), "{header}");
        }
    }

    #[test]
    fn a_form_that_goes_on_is_refused_unless_the_policy_itself_allows_all_it_could_become() {
        let target: PathAndQuery = "/api/v1/courses/1".parse().unwrap();
        let all = RouteSpec {
            name: "all".into(),
            methods: OVERRIDES.to_vec(),
            path: "/api/v1/courses/{id}".to_owned(),
            requirement: Requirement::All(ScopeSet::default()),
            functions: Vec::new(),
            deny: false,
            max_body: None,
            encoded_slash: false,
            upgrade: false,
            query_allow: Vec::new(),
            credential: None,
        };
        for mode in [Mode::Enforce, Mode::Report] {
            for (routes, passes) in [(Vec::new(), false), (vec![all.clone()], true)] {
                let policy = Policy::build(&PolicySpec {
                    mode,
                    catalogue: Catalogue::Canvas,
                    cut_out: Vec::new(),
                    allowlist: ScopeSet::default(),
                    calls_functions: false,
                    routes,
                })
                .unwrap();
                let whole = check(Form::Urlencoded, b"a=1", true, &policy, &target);
                assert!(whole.is_ok());
                let flowing = check(Form::Urlencoded, b"a=1", false, &policy, &target);
                assert_eq!(flowing.is_ok(), passes, "{mode:?}");
            }
        }
    }

    #[test]
    fn a_file_that_talks_about_methods_is_no_override() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"x.rb\"\r\n\r\n\
                    def some_method\n  params[:_method]\nend\r\n--b--\r\n";
        assert!(!names_method(Form::Multipart, body.as_bytes()));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_check_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = names_method(Form::Urlencoded, &body);
            let _ = names_method(Form::Multipart, &body);
        }

        #[test]
        fn an_override_among_other_fields_is_always_found(
            before in "([a-z]{1,5}=[a-z0-9%]{0,5}&){0,4}",
            after in "(&[a-z]{1,5}=[a-z0-9]{0,5}){0,4}",
        ) {
            let body = format!("{before}_method=DELETE{after}");
            prop_assert!(names_method(Form::Urlencoded, body.as_bytes()));
        }
    }
}
