//! Parameters in a query that could carry a credential or another identity.
//!
//! Names are compared as the LMS will read them: decoded once (percent and `+`), in any case, `a[]`
//! and `[a]` for `a`, every repetition. Values are never looked at, and nothing but the parameters
//! that are cut out ever changes: all other bytes stay as they are.

use std::borrow::Cow;

use super::path::escaped;

/// Denied on every upstream.
const DENIED: [&str; 9] = [
    "access_token",
    "wstoken",
    "x_a",
    "x_b",
    "x_c",
    "x_d",
    "x_t",
    "_method",
    "as_user_id",
];

/// Names another file than the path does, at Moodle's script for files.
const FILE: &str = "file";

/// No business of bursar's, except where they stand for a credential (then they are [removed](check)) or for a file.
const HARMLESS: [&str; 2] = ["token", FILE];

/// A set of the denied parameters, and of those that are harmless elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(u16);

impl Parameters {
    /// Those that are harmless everywhere but where Moodle's files are.
    pub(super) const HARMLESS: Self =
        Self((1 << (DENIED.len() + HARMLESS.len())) - (1 << DENIED.len()));

    /// Those of the names that are known at all.
    pub(super) fn named<T: AsRef<str>>(names: &[T]) -> Self {
        let is_named = |denied: &str| {
            names
                .iter()
                .any(|name| name.as_ref().eq_ignore_ascii_case(denied))
        };
        let bits = (0..).zip(known()).filter(|(_, denied)| is_named(denied));
        Self(bits.map(|(bit, _)| 1 << bit).sum())
    }

    /// Those of both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn contains(self, parameter: usize) -> bool {
        self.0 >> parameter & 1 == 1
    }
}

/// Why a query is refused. The text goes to the application; the one name in it is from [`DENIED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryProblem {
    #[error(
        "The query parameter {0} can carry a credential or another identity; if the route is meant to take it, \
         add it to the route's query_allow."
    )]
    Denied(&'static str),
    /// `get_file_argument` of Moodle prefers it to the path.
    #[error(
        "The query parameter file names another file than the path that was checked; name the file in the path, or add file to \
         the route's query_allow."
    )]
    OtherFile,
    /// Moodle prefers a form that is posted to the query and to the path.
    #[error(
        "A form that is posted there can name another file and another token; fetch files with GET."
    )]
    PostForFile,
    /// Who knows what a server makes of it.
    #[error("The name of a query parameter does not decode to text.")]
    Undecodable,
    /// In a form too: PHP ends a name at a NUL byte, escaped or not.
    #[error("The query or the form holds a byte that must be percent-encoded.")]
    RawByte,
    /// The server would call one of them; which one hangs on its rules.
    #[error(
        "The request names a function (wsfunction) more than once; name it once, in the query or in the form."
    )]
    SeveralFunctions,
    /// An array, another case, or no name at all.
    #[error(
        "The function (wsfunction) is written in a way that servers read differently; write wsfunction=NAME, of letters, \
         digits and underscores."
    )]
    OddFunction,
}

/// Checks a query against what is allowed there; `removed` are cut out of it beforehand.
///
/// Returns the query without those, if there were any.
pub(super) fn check(
    query: &str,
    removed: Parameters,
    allowed: Parameters,
) -> Result<Option<String>, QueryProblem> {
    check_bytes(query.as_bytes())?;
    let mut removes_any = false;
    for part in query.split('&') {
        match denied(part)? {
            Some((parameter, _)) if removed.contains(parameter) => removes_any = true,
            found => {
                refuse(found, allowed)?;
                for part in further(part) {
                    refuse(denied(part)?, allowed)?;
                }
            }
        }
    }
    match removes_any {
        true => without(query, removed).map(Some),
        false => Ok(None),
    }
}

/// Refuses what stands in no query and no form that is encoded as it should be.
pub(super) fn check_bytes(text: &[u8]) -> Result<(), QueryProblem> {
    match text.iter().all(u8::is_ascii_graphic) {
        true => Ok(()),
        false => Err(QueryProblem::RawByte),
    }
}

/// A form without `removed`, if it holds any. Whatever else is in it is its function's business.
pub(super) fn cut(form: &str, removed: Parameters) -> Result<Option<String>, QueryProblem> {
    let mut removes_any = false;
    for part in form.split('&') {
        match denied(part)? {
            Some((parameter, _)) if removed.contains(parameter) => removes_any = true,
            _ => {
                for part in further(part) {
                    refuse_any(denied(part)?, removed)?;
                }
            }
        }
    }
    match removes_any {
        true => without(form, removed).map(Some),
        false => Ok(None),
    }
}

/// What servers see in a part that take `;` for `&`. Nothing is cut out there: others take it for a part of the value.
fn further(part: &str) -> impl Iterator<Item = &str> {
    part.split(';').filter(|_| part.contains(';'))
}

fn without(text: &str, removed: Parameters) -> Result<String, QueryProblem> {
    let mut kept = Vec::new();
    for part in text.split('&') {
        if !denied(part)?.is_some_and(|(parameter, _)| removed.contains(parameter)) {
            kept.push(part);
        }
    }
    Ok(kept.join("&"))
}

fn refuse_any(
    found: Option<(usize, &'static str)>,
    refused: Parameters,
) -> Result<(), QueryProblem> {
    match found {
        Some((parameter, name)) if refused.contains(parameter) => Err(QueryProblem::Denied(name)),
        _ => Ok(()),
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    DENIED.into_iter().chain(HARMLESS)
}

fn refuse(found: Option<(usize, &'static str)>, allowed: Parameters) -> Result<(), QueryProblem> {
    match found {
        Some((parameter, _)) if allowed.contains(parameter) => Ok(()),
        Some((_, FILE)) => Err(QueryProblem::OtherFile),
        Some((_, name)) => Err(QueryProblem::Denied(name)),
        None => Ok(()),
    }
}

/// The known parameter that `name=value` sets, with its number.
fn denied(part: &str) -> Result<Option<(usize, &'static str)>, QueryProblem> {
    let name = name_of(part)?;
    let name = stem(&name);
    Ok(known()
        .enumerate()
        .find(|(_, denied)| is_same_folded(name, denied)))
}

/// Whether `name=value` sets the parameter `name`, which is in lower case, or what a server may take for it.
pub(super) fn is_named(part: &str, name: &str) -> Result<bool, QueryProblem> {
    let own = name_of(part)?;
    Ok(is_same_folded(stem(&own), name))
}

fn name_of(part: &str) -> Result<Cow<'_, str>, QueryProblem> {
    decode(part.split_once('=').map_or(part, |(name, _)| name))
}

/// `a` of `a[]` and of `[a]`.
fn stem(name: &str) -> &str {
    let name = name.trim_start_matches(|c: char| c.is_whitespace() || c == '[' || c == ']');
    name.split(['[', ']']).next().unwrap_or_default()
}

/// Decodes a name (or a value that is a name) once. A bad escape (`%u0061` is a letter to ASP.NET), a control character or what is
/// not UTF-8 would leave it to the server what the name is.
pub(super) fn decode(name: &str) -> Result<Cow<'_, str>, QueryProblem> {
    if !name.contains(['%', '+']) {
        return match name.contains(char::is_control) {
            true => Err(QueryProblem::Undecodable),
            false => Ok(Cow::Borrowed(name)),
        };
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => escaped(&mut bytes).ok_or(QueryProblem::Undecodable)?,
            byte => byte,
        });
    }
    match String::from_utf8(decoded) {
        Ok(name) if !name.contains(char::is_control) => Ok(Cow::Owned(name)),
        _ => Err(QueryProblem::Undecodable),
    }
}

/// Compares with a lower-case ASCII name, also by the letters outside ASCII that fold into it.
fn is_same_folded(name: &str, denied: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(denied);
    }
    let folded = name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{130}' | '\u{131}' => 'i',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(denied.chars())
}

#[cfg(test)]
mod tests {
    use super::*;
    use QueryProblem::*;
    use proptest::prelude::*;

    const NONE: Parameters = Parameters(0);

    fn problem(query: &str) -> Option<QueryProblem> {
        check(query, NONE, NONE).err()
    }

    fn without(query: &str, removed: &[&str]) -> Option<String> {
        check(query, Parameters::named(removed), NONE).unwrap()
    }

    #[test]
    fn every_denied_parameter_is_refused() {
        for name in DENIED {
            for query in [
                format!("{name}=1"),
                format!("a=1&{name}=1"),
                name.to_owned(),
                format!("a=1&b&{name}="),
                format!("{}=1", name.to_uppercase()),
                format!("{name}[]=1"),
                format!("{name}[a][b]=1"),
                format!("[{name}]=1"),
                format!("{name}%5B%5d=1"),
                format!("%5b{name}%5D=1"),
                format!("+{name}=1"),
                format!("a=1;{name}=1"),
                name.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            ] {
                assert_eq!(problem(&query), Some(Denied(name)), "{query}");
            }
        }
    }

    #[test]
    fn every_repetition_is_seen() {
        assert_eq!(
            problem("as_user_id2=1&as%5Fuser%5Fid=1"),
            Some(Denied("as_user_id"))
        );
        assert_eq!(
            problem("x=/allowed&As_User_Id=1"),
            Some(Denied("as_user_id"))
        );
    }

    #[test]
    fn a_name_that_folds_to_a_denied_one_is_refused() {
        assert_eq!(problem("acce%C5%BFs_token=1"), Some(Denied("access_token")));
        assert_eq!(problem("wsto%E2%84%AAen=1"), Some(Denied("wstoken")));
        assert_eq!(problem("as_user_%C4%B1d=1"), Some(Denied("as_user_id")));
    }

    #[test]
    fn other_parameters_pass_whatever_their_values() {
        for query in [
            "",
            "&&",
            "include[]=email&per_page=100",
            "x=access_token",
            "x=%zz&y=%u0061&z=a;b",
            "my_access_token=1&x_ab=1&x=a&method=b",
            "%C3%A9t%C3%A9=1",
            "a=b?c/d",
        ] {
            assert_eq!(check(query, NONE, NONE), Ok(None), "{query}");
        }
    }

    #[test]
    fn a_name_that_does_not_decode_is_refused() {
        for query in [
            "%zz=1",
            "%u0061ccess_token=1",
            "access_token%00=1",
            "a=1&%c1%a1b=1",
            "%=1",
            "%ff",
        ] {
            assert_eq!(problem(query), Some(Undecodable), "{query}");
        }
    }

    #[test]
    fn raw_bytes_outside_visible_ascii_are_refused() {
        for query in ["a=é", "é=1", "a=b\tc", "a=\u{7f}", "a= b"] {
            assert_eq!(problem(query), Some(RawByte), "{query}");
        }
    }

    #[test]
    fn a_name_with_a_control_character_has_no_reading_escaped_or_not() {
        for name in ["wstoken\0", "a\u{7f}", "\u{85}a", "a\r\nb", "a%00", "a%0ab"] {
            assert_eq!(decode(name), Err(Undecodable), "{name:?}");
            assert_eq!(is_named(name, "wstoken"), Err(Undecodable), "{name:?}");
        }
        assert_eq!(decode("wstoken").as_deref(), Ok("wstoken"));
    }

    #[test]
    fn what_is_harmless_elsewhere_is_refused_where_it_is_not_allowed() {
        for query in [
            "file=/1/a",
            "File=/1/a",
            "x=1&f%69le[]=/1/a",
            "x=1;file=/1/a",
        ] {
            assert_eq!(problem(query), Some(OtherFile), "{query}");
            assert_eq!(
                check(query, NONE, Parameters::HARMLESS),
                Ok(None),
                "{query}"
            );
        }
        assert_eq!(problem("token=a"), Some(Denied("token")));
        assert_eq!(Parameters::HARMLESS, Parameters::named(&HARMLESS));
    }

    #[test]
    fn a_route_may_allow_a_parameter_by_name() {
        let allowed = Parameters::named(&["AS_user_id", "unknown"]);
        assert_eq!(
            check("as_user_id=1&as_user_id[]=2", NONE, allowed),
            Ok(None)
        );
        assert_eq!(
            check("as_user_id=1&x_a=1", NONE, allowed),
            Err(Denied("x_a"))
        );
    }

    #[test]
    fn removed_parameters_are_cut_out_and_all_else_stays() {
        for (query, expected) in [
            ("x_a=1", Some("")),
            ("x_a=1&b=%zz", Some("b=%zz")),
            ("b=+%2b&x_a=1;c=2&X_A[]=2&&%78_a&c", Some("b=+%2b&&c")),
            ("b=1&c=2", None),
            ("", None),
        ] {
            assert_eq!(without(query, &["x_a"]).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn behind_a_semicolon_a_parameter_is_refused_and_not_removed() {
        let removed = Parameters::named(&["x_a"]);
        assert_eq!(check("b=1;x_a=1", removed, NONE), Err(Denied("x_a")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_check_panic(query in ".*") {
            let _ = check(&query, Parameters::named(&["x_a"]), NONE);
        }

        #[test]
        fn what_is_left_needs_no_second_cut(
            parts in prop::collection::vec("(x_a|X_A|%78_a|b|c|)(=[a-z%&]{0,3})?", 0..6)
        ) {
            let query = parts.join("&");
            let removed = Parameters::named(&["x_a"]);
            if let Ok(Some(left)) = check(&query, removed, NONE) {
                prop_assert_eq!(check(&left, removed, NONE), Ok(None));
            }
        }
    }
}
