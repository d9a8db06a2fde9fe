//! For whom a request is, where each person has a grant of their own (`subject_header`).

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

/// The longest name of a person. Directories and mail addresses have shorter ones.
const MAX_LENGTH: usize = 255;

/// The name of a person, as the application has it: visible ASCII, as a field value has it (RFC 9110 section 5.5). Personal data:
/// it is in no log, metric or error.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

/// A request does not say, in so many words, for whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The field is absent or empty.
    #[error("the field that names the person is missing")]
    Missing,
    /// The field stands more than once.
    #[error("the field that names the person stands more than once")]
    Repeated,
    /// It is no name.
    #[error("the field that names the person is no name: 1 to 255 visible ASCII characters")]
    Malformed,
}

impl Subject {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`SubjectError`].
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        if text.is_empty() {
            return Err(SubjectError::Missing);
        }
        let is_sound = text.len() <= MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sound
            .then(|| Self(text.into()))
            .ok_or(SubjectError::Malformed)
    }

    /// Reads the one field that names the person.
    ///
    /// # Errors
    ///
    /// [`SubjectError`].
    pub fn of(headers: &HeaderMap, field: &HeaderName) -> Result<Self, SubjectError> {
        let mut values = headers.get_all(field).iter();
        let value = values.next().ok_or(SubjectError::Missing)?;
        if values.next().is_some() {
            return Err(SubjectError::Repeated);
        }
        let text = value.to_str().map_err(|_| SubjectError::Malformed)?;
        Self::parse(text)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Subject(…)")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const FIELD: HeaderName = HeaderName::from_static("bursar-subject");

    fn of(values: &[&str]) -> Result<Subject, SubjectError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FIELD, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Subject::of(&headers, &FIELD)
    }

    #[test]
    fn one_field_names_one_person() {
        assert_eq!(
            of(&["ann@example.edu"]).unwrap().as_str(),
            "ann@example.edu"
        );
        assert_eq!(of(&[]), Err(SubjectError::Missing));
        assert_eq!(of(&[""]), Err(SubjectError::Missing));
        assert_eq!(of(&["ann", "ann"]), Err(SubjectError::Repeated));
        for wrong in ["ann bob", "ann\tbob", "änn", &"a".repeat(256)] {
            assert_eq!(of(&[wrong]), Err(SubjectError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_not_printed_by_accident() {
        assert!(!format!("{:?}", of(&["ann"]).unwrap()).contains("ann"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(text in ".*") {
            if let Ok(subject) = Subject::parse(&text) {
                prop_assert_eq!(subject.as_str(), text);
            }
        }
    }
}
