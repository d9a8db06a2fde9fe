//! Every vector of `vectors.json`, and what holds for all requests.
//!
//! The vectors come from D2L's Python package, run with a frozen clock; where the official libraries disagree, they hold the
//! other readings as well.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::*;

const NOW: Moment = Moment {
    wall: Duration::from_secs(1_700_000_000),
    boot: Duration::ZERO,
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn of_kind<'a>(vectors: &'a Value, kind: &str) -> Vec<&'a Value> {
    let vectors = vectors["vectors"].as_array().unwrap();
    vectors
        .iter()
        .filter(|vector| vector["kind"] == kind)
        .collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn app(input: &Value) -> IdKey {
    IdKey::new(
        text(input, "app_id").to_owned(),
        text(input, "app_key").into(),
    )
}

fn signer() -> Signer {
    let app = Arc::new(IdKey::new("app".to_owned(), "canary-app-key".into()));
    let user = IdKey::new("user".to_owned(), "canary-user-key".into());
    Signer::new(app, Some(user), Arc::default())
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

#[test]
fn every_call_of_the_vectors_is_signed_as_the_official_library_signs_it() {
    let vectors = vectors();
    let calls = of_kind(&vectors, "api_call");
    assert_eq!(calls.len(), 14);
    for vector in calls {
        let (name, input) = (text(vector, "name"), &vector["input"]);
        let user = Some(text(input, "user_id")).filter(|id| !id.is_empty());
        let user = user.map(|id| IdKey::new(id.to_owned(), text(input, "user_key").into()));
        let seconds = input["clock_unix_seconds"].as_u64().unwrap();
        let now = Moment {
            wall: Duration::from_secs(seconds),
            ..NOW
        };
        let signer = Signer::new(Arc::new(app(input)), user, Arc::default());
        let skew = input["server_skew_ms"].as_i64().unwrap();
        let server = now.wall.as_millis().cast_signed() + i128::from(skew);
        let server = Duration::from_millis(u64::try_from(server).unwrap());
        signer.skew().learn(server, now).unwrap();

        let method = Method::from_bytes(text(input, "method").as_bytes()).unwrap();
        let url = Url::parse(text(input, "url")).unwrap();
        let target: PathAndQuery = url[url::Position::BeforePath..].parse().unwrap();
        let signed = signer.sign(&method, &target, now).unwrap();

        assert_eq!(signed.path(), target.path(), "{name}");
        let mut expected = parameters(url.query().unwrap_or_default());
        for (parameter, value) in vector["expected_query"].as_object().unwrap() {
            // The Python package sends x_b and x_d empty where there is no user; the other two leave them out.
            if !value.as_str().unwrap().is_empty() {
                expected.insert(parameter.clone(), value.as_str().unwrap().to_owned());
            }
        }
        let decode_then_lower = &vector["decode_then_lower"];
        let text_signed = match decode_then_lower.as_object() {
            None => text(vector, "base_string"),
            Some(members) => {
                for parameter in ["x_c", "x_d"] {
                    let value = members[parameter].as_str().unwrap().to_owned();
                    expected.insert(parameter.to_owned(), value);
                }
                text(decode_then_lower, "base_string")
            }
        };
        assert_eq!(parameters(signed.query().unwrap()), expected, "{name}");
        let stamp = expected["x_t"].parse().unwrap();
        let base_string = base_string::base_string(&method, target.path(), stamp);
        assert_eq!(base_string, text_signed, "{name}");
    }
}

#[test]
fn every_token_request_of_the_vectors_has_the_url_of_the_official_library() {
    let vectors = vectors();
    let requests = of_kind(&vectors, "user_token_request");
    assert_eq!(requests.len(), 3);
    for vector in requests {
        let input = &vector["input"];
        let endpoint = format!("https://{}/d2l/auth/api/token", text(input, "host"));
        let display = match input["type"].as_str() {
            None => consent::Display::Browser,
            Some("mobile") => consent::Display::Mobile,
            Some(other) => panic!("{other}"),
        };
        let url = consent::url(&endpoint, &app(input), text(input, "x_target"), display);
        assert_eq!(url, text(vector, "reference_url"));
    }
}

#[test]
fn the_redirect_of_the_vectors_brings_the_user_s_key() {
    let vectors = vectors();
    let redirects = of_kind(&vectors, "user_token_response");
    assert_eq!(redirects.len(), 1);
    for vector in redirects {
        let url = Url::parse(text(&vector["input"], "redirect_url")).unwrap();
        let user = consent::user_of_callback(url.query().unwrap()).unwrap();
        let expected = &vector["expected"];
        assert_eq!(user.id(), text(expected, "user_id"));
        assert_eq!(user.key().expose_secret(), text(expected, "user_key"));
    }
}

#[test]
fn the_bodies_of_the_vectors_teach_the_skew_or_nothing() {
    let vectors = vectors();
    let bodies = vectors["skew_bodies"].as_array().unwrap();
    assert_eq!(bodies.len(), 4);
    for vector in bodies {
        let body = text(vector, "body");
        let read = Complaint::read(body.as_bytes());
        if let Some(expected) = vector["skew_ms"].as_i64() {
            let Some(Complaint::TimestampOutOfRange(server)) = read else {
                panic!("{body}: {read:?}");
            };
            let seconds = vector["clock_unix_seconds"].as_u64().unwrap();
            let now = Moment {
                wall: Duration::from_secs(seconds),
                ..NOW
            };
            let learned = Skew::default().learn(server, now).unwrap();
            assert!((learned * 1_000.0 - f64::from(i32::try_from(expected).unwrap())).abs() < 0.5);
        } else {
            let is_token = text(vector, "meaning").starts_with("invalid signature");
            assert_eq!(read, is_token.then_some(Complaint::InvalidToken), "{body}");
        }
    }
}

#[test]
fn no_key_is_printed() {
    let signer = signer();
    let shown = format!("{signer:?}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("app") && shown.contains("user"), "{shown}");
}

#[test]
fn each_second_has_a_signature_of_its_own() {
    let target = PathAndQuery::from_static("/d2l/api/versions/");
    let sign = |now| signer().sign(&Method::GET, &target, now).unwrap();
    assert_ne!(sign(NOW), sign(NOW.after(Duration::from_secs(1))));
}

#[test]
fn a_target_that_leaves_no_room_for_a_signature_is_an_error() {
    let target: PathAndQuery = format!("/{}", "a".repeat(65_500)).parse().unwrap();
    assert_eq!(signer().sign(&Method::GET, &target, NOW), Err(TooLong));
}

#[test]
fn signers_are_the_same_when_their_keys_are() {
    let other = Signer::new(
        Arc::new(IdKey::new("app".to_owned(), "canary-app-key".into())),
        Some(IdKey::new("user".to_owned(), "another".into())),
        Arc::default(),
    );
    assert!(signer() == signer());
    assert!(signer() != other);
}

proptest! {
    #[test]
    fn the_target_stays_as_it_is_and_the_signature_comes_behind_it(
        target in "/[a-zA-Z0-9%/._~+-]{0,30}(\\?[a-zA-Z0-9%&=+]{0,20})?"
    ) {
        let target: PathAndQuery = target.parse().unwrap();
        let signed = signer().sign(&Method::GET, &target, NOW).unwrap();
        let behind = signed.as_str().strip_prefix(target.as_str()).unwrap();
        prop_assert!(behind.starts_with(['?', '&']));
        prop_assert_eq!(signed.path(), target.path());
        let names: Vec<String> = form_urlencoded::parse(&behind.as_bytes()[1..])
            .map(|(name, _)| name.into_owned())
            .collect();
        prop_assert_eq!(names, ["x_a", "x_c", "x_b", "x_d", "x_t"]);
    }

    #[test]
    fn neither_the_query_nor_the_case_of_a_path_changes_a_signature(
        path in "/[a-zA-Z0-9/]{0,30}", query in "[a-z0-9=&]{1,20}"
    ) {
        let signature = |target: String| {
            let target: PathAndQuery = target.parse().unwrap();
            let signed = signer().sign(&Method::GET, &target, NOW).unwrap();
            signed.as_str().rsplit_once("&x_c=").unwrap().1.to_owned()
        };
        let plain = signature(path.clone());
        prop_assert_eq!(&signature(path.to_uppercase()), &plain);
        prop_assert_eq!(&signature(format!("{path}?{query}")), &plain);
    }
}
