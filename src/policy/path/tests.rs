//! One reading of a path, or none.

use super::*;
use PathProblem::*;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;

fn problem(raw: &str) -> Option<PathProblem> {
    CanonicalPath::parse(raw, Server::Other).err()
}

fn reading(raw: &str) -> String {
    let path = CanonicalPath::parse(raw, Server::AspNet).unwrap();
    path.reading().to_owned()
}

/// The piece before, in the midst of, and after a harmless path.
fn assert_refused(piece: &str, expected: PathProblem) {
    for path in [
        format!("/{piece}/allowed"),
        format!("/allowed/{piece}/admin"),
        format!("/allowed/{piece}"),
    ] {
        assert_eq!(problem(&path), Some(expected), "{path}");
    }
}

#[test]
fn a_plain_path_is_read_as_it_stands_and_not_copied() {
    for raw in [
        "/",
        "/d2l/api/lp/1.49/users/whoami",
        "/a/b/",
        "/a:b@c/~d/(e)!$&'*+,=",
    ] {
        let path = CanonicalPath::parse(raw, Server::AspNet).unwrap();
        assert_eq!(path.reading(), raw);
        assert!(matches!(path.reading, Cow::Borrowed(_)));
    }
}

#[test]
fn escapes_are_read_decoded_once() {
    assert_eq!(reading("/users/1/%74okens"), "/users/1/tokens");
    assert_eq!(reading("/a/%C3%A9t%c3%a9%20b"), "/a/été b");
    assert_eq!(reading("/a/100%25"), "/a/100%");
    assert_eq!(reading("/a/%23%3F"), "/a/#?");
}

#[test]
fn a_dot_segment_is_refused_raw_and_encoded_in_any_mix() {
    for piece in [
        ".", "..", "%2e", "%2E%2e", ".%2e", "%2e.", "...", "a.", "a%2e",
    ] {
        assert_refused(piece, TrailingDotOrSpace);
    }
}

#[test]
fn a_segment_that_ends_with_a_space_is_refused() {
    assert_refused("a%20", TrailingDotOrSpace);
    assert_refused("..%20", TrailingDotOrSpace);
}

#[test]
fn two_slashes_in_a_row_are_refused() {
    for path in ["//", "//a", "/a//b", "/a//"] {
        assert_eq!(problem(path), Some(EmptySegment), "{path}");
    }
}

#[test]
fn a_semicolon_is_refused_raw_and_encoded() {
    for piece in [";", "..;", "a;b=c", "a%3bb"] {
        assert_refused(piece, Semicolon);
    }
}

#[test]
fn a_backslash_is_refused_raw_and_encoded() {
    for piece in ["\\", "a%5cb", "%5C"] {
        assert_refused(piece, Backslash);
    }
}

#[test]
fn a_control_character_is_refused_raw_and_encoded() {
    for piece in ["a\tb", "%00", "a%0d%0a", "%7f", "a%C2%85b"] {
        assert_refused(piece, Control);
    }
}

#[test]
fn a_bad_escape_is_refused() {
    for piece in ["%zz", "%", "%4", "%u002e", "a%+1"] {
        assert_refused(piece, BadEscape);
    }
}

#[test]
fn double_encoding_is_refused() {
    for piece in [
        "%252e",
        "%252%65",
        "%25%32%65",
        "%25u002e",
        "a%255cb",
        "%252F",
    ] {
        assert_refused(piece, DoubleEncoding);
    }
}

#[test]
fn what_is_not_utf8_after_decoding_is_refused() {
    for piece in ["%c0%ae", "%e0%80%ae", "%ff", "%C3", "%ed%a0%80"] {
        assert_refused(piece, NotUtf8);
    }
}

#[test]
fn what_a_path_may_not_hold_raw_is_refused() {
    for piece in ["é", "a#b", "a b", "a?b", "<", "{x}", "a|b", "\""] {
        assert_refused(piece, NotAllowed);
    }
}

#[test]
fn a_path_that_does_not_start_with_a_slash_is_refused() {
    for path in ["", "*", "a/b", "http:evil", "@evil"] {
        assert_eq!(problem(path), Some(NotAbsolute), "{path}");
    }
}

#[test]
fn an_encoded_slash_is_noted_and_both_readings_are_canonical() {
    let path = CanonicalPath::parse("/a/b%2fc/d%2Fe", Server::Other).unwrap();
    assert_eq!(path.reading(), "/a/b%2Fc/d%2Fe");
    assert_eq!(path.other_reading().as_deref(), Some("/a/b/c/d/e"));
    for path in ["/a/%2fb", "/a%2f/b", "/a/b%2f%2fc"] {
        assert_eq!(problem(path), Some(EmptySegment), "{path}");
    }
    for path in ["/allowed%2f..%2fadmin", "/a/%2e%2e%2fb", "/a/b%2f."] {
        assert_eq!(problem(path), Some(TrailingDotOrSpace), "{path}");
    }
}

#[test]
fn asp_net_readings_are_refused_where_asp_net_reads() {
    for (path, expected) in [
        ("/d2l/(S(x))/api/", SessionSegment),
        ("/d2l/(a(x))/api/", SessionSegment),
        ("/d2l/%28F(x))/api/", SessionSegment),
        ("/d2l/(S(x))ap/(S(x))i/", SessionSegment),
        ("/d2l/api::$DATA", FileStream),
        ("/d2l/api%3A%3A%24INDEX_ALLOCATION/a", FileStream),
        ("/d2l/u%C5%BFers", FoldsToAscii),
        ("/d2l/%E2%84%AAeys", FoldsToAscii),
    ] {
        assert_eq!(
            CanonicalPath::parse(path, Server::AspNet).err(),
            Some(expected),
            "{path}"
        );
        assert_eq!(problem(path), None, "{path}");
    }
}

fn any_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "/", "a", ".", "..", "%2e", "%2f", "%25", "2e", "%5c", ";", "%20", "u", "%c0", "%ae", "%C3%A9",
            "%", "(S(", "::$", "%00", "#",
        ])
        .prop_map(String::from),
        1 => "\\PC",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(raw in ".*") {
        let _ = CanonicalPath::parse(&raw, Server::AspNet);
    }

    #[test]
    fn the_short_cut_skips_nothing(raw in "[a/.]{0,8}|[-a-c_1/.%;]{0,8}") {
        if is_plain(&raw) {
            prop_assert_eq!(check_bytes(&raw), Ok(false));
            prop_assert_eq!(check_segments(&raw), Ok(()));
            prop_assert_eq!(check_asp_net(&raw), Ok(()));
            prop_assert!(raw.starts_with('/'));
        }
    }

    /// A server that decodes twice sees the same, and decoding brings forth no slash, no dot segment.
    #[test]
    fn an_accepted_path_holds_no_surprise_after_decoding(raw in any_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw, Server::Other) {
            let once = percent_decode_str(&raw).decode_utf8().unwrap();
            let twice = percent_decode_str(&once).decode_utf8().unwrap();
            prop_assert_eq!(&once, &twice);
            let seen = path.other_reading().unwrap_or_else(|| path.reading().to_owned());
            prop_assert_eq!(&seen, &once);
            prop_assert!(!once.contains("//") && !once.contains(['\\', ';']));
            prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            if path.other_reading().is_none() {
                prop_assert_eq!(once.matches('/').count(), raw.matches('/').count());
            }
        }
    }
}
