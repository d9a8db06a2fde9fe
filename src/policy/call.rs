//! Calls of functions by name: Moodle's web services, where one path serves all and a parameter says what is to be done.
//!
//! A path cannot tell such calls apart, so that on such an upstream a route names functions, and the path alone opens
//! nothing. PHP merges the query and the form of a POST, and of two that are called the same it takes the last: a request names
//! its function once, in one place, or it is refused. The other ways into the web services (SOAP, XML-RPC, other formats),
//! and the path that hands out tokens, are closed unless a route spells them out.

use std::{borrow::Cow, collections::BTreeMap};

use http::Method;

use super::{
    path::CanonicalPath,
    query::{self, Parameters, QueryProblem},
    table::Found,
};

/// Where functions are called, behind whatever directory Moodle lives in.
pub(super) const SERVER: &str = "/webservice/rest/server.php";

/// The parameter that names the function.
const FUNCTION: &str = "wsfunction";

/// The parameter that Moodle reads a token from.
pub(super) const TOKEN: &str = "wstoken";

/// The methods by which a function can be called. PHP reads no form of any other than POST.
pub(super) const METHODS: [Method; 2] = [Method::GET, Method::POST];

/// The longest name of a function that Moodle can hold.
const LONGEST_NAME: usize = 255;

/// The same where files are fetched and left.
pub(super) const FILE_TOKEN: &str = "token";

/// Where web services live. Only files are fetched (and left) by path.
const WEB_SERVICES: &str = "/webservice/";
const FILES: &str = "pluginfile.php";
const UPLOADS: &str = "upload.php";

/// Name and password for a token.
const TOKEN_SERVICE: &str = "/login/token.php";

/// What a path is on an upstream where functions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Functions are called there.
    Server,
    /// Files are fetched there, and the token's parameter has another name.
    Files,
    /// Files are left there; the parameter has the same name.
    Uploads,
    /// Only a route that spells it out opens it.
    Guarded,
    /// A path like any other.
    Other,
}

/// What `path` is by any reading of it.
pub(super) fn place(path: &CanonicalPath<'_>) -> Place {
    let by_reading = place_of(path.reading());
    match path.other_reading() {
        Some(other) if by_reading != Place::Other || place_of(&other) != Place::Other => {
            Place::Guarded
        }
        _ => by_reading,
    }
}

/// Whether a route's path is one where functions are called. Its parameters would stand for anything.
pub(super) fn is_server(template: &str) -> bool {
    !template.contains(['{', '%']) && place_of(template) == Place::Server
}

/// A script also runs with more behind its name (PATH_INFO), and on some servers in any case.
fn place_of(path: &str) -> Place {
    let folded = path.to_ascii_lowercase();
    let is_server =
        path.ends_with(SERVER) && folded.find(SERVER) == Some(path.len() - SERVER.len());
    if is_server {
        return Place::Server;
    }
    if let Some(at) = folded.find(WEB_SERVICES) {
        let below = path
            .get(at..)
            .and_then(|rest| rest.strip_prefix(WEB_SERVICES));
        let script = below.and_then(|below| below.split('/').next());
        return match script {
            Some(FILES) => Place::Files,
            Some(UPLOADS) => Place::Uploads,
            _ => Place::Guarded,
        };
    }
    match format!("{folded}/").contains(&format!("{TOKEN_SERVICE}/")) {
        true => Place::Guarded,
        false => Place::Other,
    }
}

/// Whether a route can name the function: letters, digits and underscores.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_plain)
}

/// The form of a POST, as it may be sent on.
#[derive(Debug, Default)]
pub struct Form {
    function: Option<String>,
    without_credentials: Option<Vec<u8>>,
}

impl Form {
    /// Reads a form (`application/x-www-form-urlencoded`). `removed` are cut out of it.
    pub(super) fn read(form: &[u8], removed: Parameters) -> Result<Self, QueryProblem> {
        query::check_bytes(form)?;
        let text = std::str::from_utf8(form).map_err(|_| QueryProblem::Undecodable)?;
        Ok(Self {
            function: only_function(text)?.map(Cow::into_owned),
            without_credentials: query::cut(text, removed)?.map(String::into_bytes),
        })
    }

    /// The form without the application's own credentials, if it held any.
    #[must_use]
    pub fn without_credentials(&mut self) -> Option<Vec<u8>> {
        self.without_credentials.take()
    }
}

/// The function that a request calls.
///
/// # Errors
///
/// It names more than one, or one in a way that servers read differently.
pub(super) fn function<'a>(
    query: &'a str,
    form: Option<&'a Form>,
) -> Result<Option<Cow<'a, str>>, QueryProblem> {
    let in_form = form.and_then(|form| form.function.as_deref());
    match (only_function(query)?, in_form) {
        (Some(_), Some(_)) => Err(QueryProblem::SeveralFunctions),
        (in_query, in_form) => Ok(in_query.or_else(|| in_form.map(Cow::Borrowed))),
    }
}

fn only_function(text: &str) -> Result<Option<Cow<'_, str>>, QueryProblem> {
    let mut function = None;
    for part in text.split('&') {
        // Some servers take `;` for `&`.
        let mut subparts = part.split(';');
        let first = subparts.next().unwrap_or_default();
        for later in subparts {
            if query::is_named(later, FUNCTION)? {
                return Err(QueryProblem::SeveralFunctions);
            }
        }
        if !query::is_named(first, FUNCTION)? {
            continue;
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if query::decode(name)? != FUNCTION {
            return Err(QueryProblem::OddFunction);
        }
        let value = query::decode(value)?;
        if !is_name(&value) {
            return Err(QueryProblem::OddFunction);
        }
        if function.replace(value).is_some() {
            return Err(QueryProblem::SeveralFunctions);
        }
    }
    Ok(function)
}

/// The functions that have routes.
#[derive(Debug, Default)]
pub(super) struct Calls {
    allowed: BTreeMap<Box<str>, Vec<Candidate>>,
    /// In lower case: a database may find a name in any.
    denied: BTreeMap<Box<str>, usize>,
}

#[derive(Debug)]
struct Candidate {
    path: Box<str>,
    method: Method,
    route: usize,
}

impl Calls {
    /// Adds a route that allows `function`. Where another has one of the methods already, that one stays and is returned.
    pub(super) fn allow(
        &mut self,
        function: &str,
        path: &str,
        methods: &[Method],
        route: usize,
    ) -> Option<usize> {
        let candidates = self.allowed.entry(function.into()).or_default();
        let mut taken = None;
        for method in methods {
            let same = candidates
                .iter()
                .find(|other| *other.path == *path && other.method == *method);
            match same {
                Some(other) => taken = Some(other.route),
                None => candidates.push(Candidate {
                    path: path.into(),
                    method: method.clone(),
                    route,
                }),
            }
        }
        taken
    }

    /// Adds a route that refuses `function` wherever it is called.
    pub(super) fn deny(&mut self, function: &str, route: usize) {
        let function = function.to_ascii_lowercase();
        self.denied.entry(function.into()).or_insert(route);
    }

    /// The route that refuses `function`.
    pub(super) fn denied(&self, function: &str) -> Option<usize> {
        self.denied
            .get(function.to_ascii_lowercase().as_str())
            .copied()
    }

    /// The route of a call. HEAD uses the route of GET.
    pub(super) fn find(&self, method: &Method, path: &str, function: &str) -> Found {
        let candidates = self.allowed.get(function).map_or(&[][..], Vec::as_slice);
        let mut there = candidates.iter().filter(|other| *other.path == *path);
        let is_known = there.clone().next().is_some();
        match there.find(|other| other.answers(method)) {
            Some(found) => Found::Route(found.route),
            None if is_known => Found::OtherMethod,
            None => Found::Nothing,
        }
    }

    /// The methods that routes have for a function.
    pub(super) fn methods(&self, path: &str, function: &str) -> Vec<Method> {
        let candidates = self.allowed.get(function).map_or(&[][..], Vec::as_slice);
        let there = candidates.iter().filter(|other| *other.path == *path);
        there.map(|other| other.method.clone()).collect()
    }

    /// Whether any function can be called there.
    pub(super) fn opens(&self, method: &Method, path: &str) -> bool {
        let mut all = self.allowed.values().flatten();
        all.any(|candidate| *candidate.path == *path && candidate.answers(method))
    }
}

impl Candidate {
    fn answers(&self, method: &Method) -> bool {
        self.method == *method || *method == Method::HEAD && self.method == Method::GET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::path::Server;
    use proptest::prelude::*;

    fn place_at(path: &str) -> Place {
        place(&CanonicalPath::parse(path, Server::Other).unwrap())
    }

    fn in_query(query: &str) -> Result<Option<String>, QueryProblem> {
        function(query, None).map(|found| found.map(Cow::into_owned))
    }

    fn form(text: &str) -> Result<Form, QueryProblem> {
        Form::read(text.as_bytes(), Parameters::named(&[TOKEN]))
    }

    #[test]
    fn functions_are_called_at_one_script_wherever_moodle_lives() {
        assert_eq!(place_at(SERVER), Place::Server);
        assert_eq!(
            place_at("/moodle/webservice/rest/server.php"),
            Place::Server
        );
        assert_eq!(place_at("/webservice/rest/server%2ephp"), Place::Server);
    }

    #[test]
    fn what_else_reaches_the_web_services_is_guarded() {
        for path in [
            "/webservice/rest/server.php/",
            "/webservice/rest/server.php/x",
            "/webservice/rest/server.php/webservice/rest/server.php",
            "/WebService/rest/server.php",
            "/webservice/rest/Server.PHP",
            "/webservice/rest/server",
            "/webservice/rest/simpleserver.php",
            "/webservice/soap/server.php",
            "/moodle/webservice/xmlrpc/server.php",
            "/webservice%2Frest%2Fserver.php",
            "/x%2Fy/webservice/rest/server.php",
            "/login/token.php",
            "/moodle/Login/Token.php/x",
        ] {
            assert_eq!(place_at(path), Place::Guarded, "{path}");
        }
        for path in [
            "/",
            "/webservice",
            "/pluginfile.php/1",
            "/login/token.phps",
            "/course/view.php",
        ] {
            assert_eq!(place_at(path), Place::Other, "{path}");
        }
    }

    #[test]
    fn files_have_scripts_of_their_own() {
        let file = "/webservice/pluginfile.php/12/mod_resource/content/1/upload.php";
        assert_eq!(place_at(file), Place::Files);
        assert_eq!(place_at("/moodle/webservice/upload.php"), Place::Uploads);
        assert_eq!(place_at("/WebService/pluginfile.php/1"), Place::Guarded);
        assert_eq!(place_at("/webservice/pluginfile.phps/1"), Place::Guarded);
    }

    #[test]
    fn a_function_is_read_as_moodle_reads_it() {
        for query in [
            "wsfunction=core_course_get_courses",
            "a=1&wsfunction=core_course_get_courses&b=wsfunction",
            "ws%66unction=core%5Fcourse_get_courses",
        ] {
            let found = in_query(query).unwrap();
            assert_eq!(found.as_deref(), Some("core_course_get_courses"), "{query}");
        }
        for query in ["", "a=1", "wsfunctions=a", "my_wsfunction=a"] {
            assert_eq!(in_query(query), Ok(None), "{query}");
        }
    }

    #[test]
    fn more_than_one_function_is_refused_wherever_they_stand() {
        for query in [
            "wsfunction=a&wsfunction=b",
            "wsfunction=a&wsfunction=a",
            "wsfunction=a&x=1;wsfunction=b",
            "wsfunction=a;wsfunction=b",
            "x=1&amp;wsfunction=b",
        ] {
            assert_eq!(
                in_query(query),
                Err(QueryProblem::SeveralFunctions),
                "{query}"
            );
        }
        let both = form("x=1&wsfunction=b").unwrap();
        let found = function("wsfunction=a", Some(&both));
        assert_eq!(found, Err(QueryProblem::SeveralFunctions));
        assert_eq!(function("x=1", Some(&both)).unwrap().as_deref(), Some("b"));
    }

    #[test]
    fn a_function_that_servers_could_read_differently_is_refused() {
        for query in [
            "wsfunction[]=a",
            "wsfunction[0]=a",
            "WSFunction=a",
            "+wsfunction=a",
            "wsfunction",
            "wsfunction=",
            "wsfunction=a;b",
            "wsfunction=a+",
            "wsfunction=%C3%A9",
            "wsfunction=a%00",
            "wsfunction=a%zz",
            "wsfunct%C4%B1on=a",
        ] {
            assert!(in_query(query).is_err(), "{query}");
        }
    }

    #[test]
    fn the_applications_own_token_is_cut_out_of_a_form_and_nothing_else_changes() {
        let cut = |text: &str| form(text).unwrap().without_credentials();
        assert_eq!(cut("wsfunction=a&x=%20+"), None);
        for text in [
            "wstoken=mine&wsfunction=a&x=%20+",
            "wsfunction=a&wstoken=1&wstoken=2&x=%20+",
            "wsfunction=a&x=%20+&WS%54oken[]=mine",
        ] {
            assert_eq!(cut(text).unwrap(), b"wsfunction=a&x=%20+", "{text}");
        }
        assert!(form("a=1;wstoken=2").is_err());
        assert!(Form::read(b"a=\xff", Parameters::default()).is_err());
    }

    #[test]
    fn a_form_with_a_byte_that_should_be_encoded_is_refused() {
        for text in [
            &b"wsfunction=a&wsfunction\0=b"[..],
            b"wsfunction=a&wsfunction\0x=b",
            b"wsfunction=a&wstoken\0=X",
            b"wsfunction=a&x=\0",
            b"wsfunction=a&\twsfunction=b",
            b"wsfunction=a& wsfunction=b",
            b"wsfunction=a\r\n",
            b"wsfunction=a&\xc3\xa9=b",
            b"wsfunction=a&\xff=b",
        ] {
            let read = Form::read(text, Parameters::named(&[TOKEN]));
            assert_eq!(read.unwrap_err(), QueryProblem::RawByte, "{text:?}");
        }
    }

    /// The names in a form, as PHP reads them (`php_register_variable_ex`).
    fn names_to_php(form: &[u8]) -> Vec<Vec<u8>> {
        let name = |part: &[u8]| {
            let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
            let spaced: Vec<u8> = name
                .iter()
                .map(|byte| if *byte == b'+' { b' ' } else { *byte })
                .collect();
            let decoded: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
            let until_nul = decoded.split(|byte| *byte == 0).next().unwrap_or_default();
            let start = until_nul.iter().position(|byte| *byte != b' ');
            let name = until_nul.get(start?..)?;
            name.split(|byte| *byte == b'[').next().map(<[u8]>::to_vec)
        };
        form.split(|byte| *byte == b'&').filter_map(name).collect()
    }

    fn count(names: &[Vec<u8>], name: &str) -> usize {
        names
            .iter()
            .filter(|other| *other == name.as_bytes())
            .count()
    }

    /// Bytes that are like a form, and any others.
    fn any_form() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(vec![
            "wsfunction",
            "wstoken",
            "wsfunction",
            "ws%66unction",
            "&",
            "&",
            "=a",
            "=",
            "\0",
            "%00",
            " ",
            "+",
            "%20",
            "[",
            "]",
            "%5b",
            ";",
            "\t",
            "\r\n",
            "a",
            "\u{85}",
            "%",
        ]);
        let piece = prop_oneof![
            9 => known.prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 1..3),
        ];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn a_function_has_one_route_per_path_and_method() {
        let mut calls = Calls::default();
        assert_eq!(calls.allow("f", SERVER, &METHODS, 0), None);
        assert_eq!(calls.allow("f", SERVER, &[Method::POST], 1), Some(0));
        assert_eq!(
            calls.allow("f", "/m/webservice/rest/server.php", &METHODS, 2),
            None
        );
        assert_eq!(calls.find(&Method::HEAD, SERVER, "f"), Found::Route(0));
        assert_eq!(calls.find(&Method::PUT, SERVER, "f"), Found::OtherMethod);
        assert_eq!(calls.find(&Method::GET, SERVER, "F"), Found::Nothing);
        assert_eq!(calls.find(&Method::GET, "/x", "f"), Found::Nothing);
        assert!(calls.opens(&Method::POST, SERVER));
        assert!(!calls.opens(&Method::PUT, SERVER));
        calls.deny("Delete_All", 3);
        assert_eq!(calls.denied("delete_ALL"), Some(3));
    }

    proptest! {
        #[test]
        fn no_form_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::read(&text, Parameters::named(&[TOKEN]));
        }

        /// Of whatever bytes: a form that passes has for PHP the function that was found in it and no other, and no token.
        #[test]
        fn php_finds_no_other_function_in_a_form_and_no_token(text in any_form()) {
            if let Ok(mut form) = Form::read(&text, Parameters::named(&[TOKEN])) {
                let found = usize::from(form.function.is_some());
                let sent = form.without_credentials().unwrap_or(text);
                let names = names_to_php(&sent);
                prop_assert_eq!(count(&names, FUNCTION), found);
                prop_assert_eq!(count(&names, TOKEN), 0);
            }
        }

        #[test]
        fn whatever_stands_around_it_one_function_is_found_and_a_second_refused(
            before in "([a-z]{1,5}(\\[[0-9]\\])?=[a-zA-Z0-9%2-7]{0,0}[a-z]{0,6}&){0,4}",
            after in "(&[a-z]{1,5}=[a-z0-9+]{0,5}){0,4}",
        ) {
            let one = format!("{before}wsfunction=core_f{after}");
            prop_assert_eq!(in_query(&one), Ok(Some("core_f".to_owned())));
            let two = format!("{one}&ws%66unction=core_g");
            prop_assert_eq!(in_query(&two), Err(QueryProblem::SeveralFunctions));
        }

        /// No path that a case-folding PHP server would take to a web service is one like any other.
        #[test]
        fn every_path_to_a_server_script_is_known(
            prefix in "(/[a-z]{1,4}){0,2}", plugin in "[a-z]{1,6}", info in "(/[a-z.]{1,4}[a-z])?", upper in any::<bool>(),
        ) {
            let path = format!("{prefix}/webservice/{plugin}/server.php{info}");
            let path = if upper { path.to_uppercase() } else { path };
            if let Ok(canonical) = CanonicalPath::parse(&path, Server::Other) {
                prop_assert_ne!(place(&canonical), Place::Other);
            }
        }
    }
}
