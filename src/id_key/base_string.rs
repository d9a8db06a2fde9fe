//! The text that is signed.

use http::Method;
use percent_encoding::percent_decode_str;

/// `GET&/d2l/api/lp/1.49/users/whoami&1700000000`.
///
/// The path is decoded once and then lower-cased, as the LMS does it on its side. D2L's libraries agree on ordinary paths.
/// Where they do not (an escaped `/`, `+`, capitals outside ASCII), this is the .NET library's way, which the LMS is written
/// with too.
pub(super) fn base_string(method: &Method, path: &str, seconds: u64) -> String {
    // To .NET's decoder a plus sign is a space in a path as well.
    let path = path.replace('+', " ");
    let path = percent_decode_str(&path).decode_utf8_lossy();
    let path: String = path.chars().map(lower_case).collect();
    let method = method.as_str().to_ascii_uppercase();
    format!("{method}&{path}&{seconds}")
}

/// One character for one, whatever stands around it: .NET's invariant culture has no other way.
fn lower_case(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower,
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> String {
        let text = base_string(&Method::GET, path, 7);
        let text = text.strip_prefix("GET&").unwrap();
        text.strip_suffix("&7").unwrap().to_owned()
    }

    #[test]
    fn a_path_is_decoded_once_and_then_lower_cased() {
        assert_eq!(path("/D2L/Api/%41%2f%2B+b"), "/d2l/api/a/+ b");
        assert_eq!(path("/%2541"), "/%41");
        assert_eq!(path("/%C3%89t%C3%A9"), "/été");
    }

    #[test]
    fn each_character_is_lower_cased_by_itself() {
        // A sigma at the end of a word is no special case, and a dotted capital I has no single lower-case letter.
        assert_eq!(path("/%CE%A3%CE%A3"), "/σσ");
        assert_eq!(path("/%C4%B0"), "/İ");
    }

    #[test]
    fn the_method_is_in_capitals() {
        let method = Method::from_bytes(b"patch").unwrap();
        assert_eq!(base_string(&method, "/", 0), "PATCH&/&0");
    }
}
