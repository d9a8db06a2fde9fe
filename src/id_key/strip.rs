//! Signatures in what the LMS sends back.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// The names of a signature's parameters.
const NAMES: [&str; 5] = ["x_a", "x_b", "x_c", "x_d", "x_t"];

/// The signatures in a target that [`Signer::sign`](super::Signer::sign) has made.
pub fn signatures(signed: &PathAndQuery) -> impl Iterator<Item = &str> {
    let parts = signed.query().unwrap_or_default().split('&');
    parts.filter_map(|part| {
        part.strip_prefix("x_c=")
            .or_else(|| part.strip_prefix("x_d="))
    })
}

/// A URL, absolute or not, without the parameters of a signature. Borrowed where it has none.
#[must_use]
pub fn without_signature(url: &str) -> Cow<'_, str> {
    let Some((before, rest)) = url.split_once('?') else {
        return Cow::Borrowed(url);
    };
    let (query, fragment) = match rest.split_once('#') {
        Some((query, fragment)) => (query, Some(fragment)),
        None => (rest, None),
    };
    if !query.split('&').any(is_of_signature) {
        return Cow::Borrowed(url);
    }
    let kept: Vec<&str> = query
        .split('&')
        .filter(|part| !is_of_signature(part))
        .collect();
    let mut clean = before.to_owned();
    if !kept.is_empty() {
        clean.push('?');
        clean.push_str(&kept.join("&"));
    }
    if let Some(fragment) = fragment {
        clean.push('#');
        clean.push_str(fragment);
    }
    Cow::Owned(clean)
}

fn is_of_signature(part: &str) -> bool {
    let name = part.split_once('=').map_or(part, |(name, _)| name);
    let name = percent_decode_str(name).decode_utf8_lossy();
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_five_parameters_go_and_all_else_stays() {
        for (url, clean) in [
            ("/a", "/a"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?x_a=1&x_c=2&x_b=3&x_d=4&x_t=5", "/a"),
            (
                "https://lms/a?b=%20&x_c=2&&x_t=5#end?x_c=1",
                "https://lms/a?b=%20&#end?x_c=1",
            ),
            ("/a?X_C=1&x%5Fd=2&x_cc=3", "/a?x_cc=3"),
            ("?x_c", ""),
        ] {
            assert_eq!(without_signature(url), clean, "{url}");
        }
        assert!(matches!(without_signature("/a?b=c"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_signatures_of_a_target_are_found() {
        let signed = PathAndQuery::from_static("/a?b=x_c=9&x_a=1&x_c=C&x_b=2&x_d=D&x_t=3");
        assert_eq!(signatures(&signed).collect::<Vec<_>>(), ["C", "D"]);
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_as_it_is(url in "\\PC{0,40}") {
            let clean = without_signature(&url).into_owned();
            prop_assert_eq!(without_signature(&clean), clean.as_str());
        }
    }
}
