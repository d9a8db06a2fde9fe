//! What routes speak of: methods and scopes.

use figment::value::Value;
use http::Method;

use super::{
    Fault, FromValue, list, list_from_text,
    shape::{self, Shape},
    string,
};
use crate::{config::problem::ProblemCode, scope::Scope};

/// The methods of a route.
#[derive(Debug)]
pub(in crate::config) struct Methods(pub(in crate::config) Vec<Method>);

impl FromValue for Methods {
    const SHAPE: Shape = Shape::List {
        items: shape::METHOD,
        min: 1,
    };

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let items = list(value)?;
        if items.is_empty() {
            return Err(Fault::new(
                ProblemCode::InvalidMethod,
                "is empty",
                r#"name the methods, as in ["GET", "POST"]"#,
            ));
        }
        items.iter().map(method).collect::<Result<_, _>>().map(Self)
    }
}

fn method(value: &Value) -> Result<Method, Fault> {
    let text = string(value, "a string")?;
    let fault = |what: String, help: String| Fault::new(ProblemCode::InvalidMethod, what, help);
    let upper = text.to_ascii_uppercase();
    if matches!(upper.as_str(), "TRACE" | "TRACK" | "CONNECT") {
        return Err(fault(
            format!("{upper} is never forwarded"),
            "remove it".to_owned(),
        ));
    }
    if text != upper {
        return Err(fault(
            format!("{text:?} is not in upper case, and methods are case-sensitive"),
            format!("write {upper:?}"),
        ));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| {
        fault(
            format!("{text:?} is not a method"),
            r#"write one such as "GET""#.to_owned(),
        )
    })
}

/// A list of scopes in the order of the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct Scopes(pub(in crate::config) Vec<Scope>);

impl FromValue for Scopes {
    const SHAPE: Shape = Shape::List {
        items: shape::SCOPE,
        min: 0,
    };

    fn from_text(text: &str) -> Value {
        list_from_text(text)
    }

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let scopes = list(value)?.iter().map(|item| {
            Scope::parse(string(item, "a string")?).map_err(|error| {
                Fault::new(
                    ProblemCode::InvalidScope,
                    error.to_string(),
                    r#"write one scope per string, as in ["users:userdata:read", "grades:gradevalues:read"]"#,
                )
            })
        });
        scopes.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_upper_case_tokens_that_may_be_forwarded() {
        let of = |text: &str| method(&Value::from(text));
        assert_eq!(of("GET").unwrap(), Method::GET);
        assert_eq!(of("PROPFIND").unwrap().as_str(), "PROPFIND");
        for wrong in ["get", "", "G T", "TRACE", "connect", "TRACK"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(Methods::from_value(&Value::from(Vec::<Value>::new())).is_err());
    }

    #[test]
    fn two_scopes_in_one_string_are_refused() {
        assert!(Scopes::from_value(&Value::from(vec!["a:b:c d:e:f"])).is_err());
        let scopes = Scopes::from_value(&Scopes::from_text("d:e:f a:b:c")).unwrap();
        assert_eq!(scopes.0[0].as_str(), "d:e:f");
    }
}
