//! Whose record it is.

use std::{fmt::Write as _, sync::Arc};

use aws_lc_rs::digest;

/// Names one record. What is stored under one key is never used for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey {
    /// The credential's name in the configuration.
    pub credential: Arc<str>,
    /// The token endpoint; for ID keys the LMS. A configuration that points elsewhere cannot send what was stored there.
    pub token_url: String,
    /// The client, at that endpoint.
    pub client_id: String,
    /// The person, where the credential serves many.
    pub subject: Option<Arc<str>>,
}

/// A record's file name without its extension: the credential's name, so that people find it, and the digest of the whole key. The
/// subject stands in no name: directory listings end up in tickets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RecordName(String);

impl StoreKey {
    pub(super) fn record_name(&self) -> RecordName {
        // An array of its parts, and not a text joined of them, which could be the same for different parts.
        let structured = serde_json::json!([
            "bursar-state",
            &*self.credential,
            self.token_url,
            self.client_id,
            self.subject.as_deref(),
        ]);
        let digest = digest::digest(&digest::SHA256, structured.to_string().as_bytes());
        // Names of credentials are harmless; this does not depend on it.
        let mut name: String = self
            .credential
            .chars()
            .take(63)
            .map(|letter| match letter {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => letter,
                _ => '_',
            })
            .collect();
        name.push('.');
        for byte in digest.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        RecordName(name)
    }
}

impl RecordName {
    /// Reads the name of a record's file; `None`: it is another file.
    pub(super) fn of_state_file(file: &str) -> Option<Self> {
        let name = file.strip_suffix(".state")?;
        let (credential, digest) = name.rsplit_once('.')?;
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_digest && !credential.is_empty()).then(|| Self(name.to_owned()))
    }

    /// What a record is sealed for.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn state_file(&self) -> String {
        format!("{}.state", self.0)
    }

    pub(super) fn lock_file(&self) -> String {
        format!("{}.lock", self.0)
    }

    pub(super) fn draft_file(&self) -> String {
        format!("{}.draft", self.0)
    }

    pub(super) fn reserved_file(&self) -> String {
        format!("{}.reserved", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: [&str; 4]) -> StoreKey {
        let [credential, token_url, client_id, subject] = parts;
        StoreKey {
            credential: credential.into(),
            token_url: token_url.to_owned(),
            client_id: client_id.to_owned(),
            subject: Some(subject.into()),
        }
    }

    #[test]
    fn keys_that_differ_in_any_part_have_different_names() {
        let one = ["d2l", "https://as.test/token", "me", "ann"];
        let mut names = vec![key(one).record_name()];
        for part in 0..one.len() {
            let mut other = one;
            other[part] = "other";
            names.push(key(other).record_name());
        }
        let nobody = StoreKey {
            subject: None,
            ..key(one)
        };
        names.push(nobody.record_name());
        // Parts that only touch each other differently.
        names.push(key(["d2l", "https://as.test/tokenm", "e", "ann"]).record_name());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn a_name_says_the_credential_and_hides_the_subject() {
        let name = key(["d2l", "https://as.test/token", "me", "ann@school.test"]).record_name();
        assert!(name.0.starts_with("d2l."));
        assert!(!name.0.contains("ann"));
        assert_eq!(RecordName::of_state_file(&name.state_file()), Some(name));
    }

    #[test]
    fn a_name_leads_out_of_no_directory() {
        let name = key(["../..", "u", "c", "s"]).record_name();
        assert!(!name.0.contains('/'));
        assert!(name.0.starts_with("_____."));
    }

    #[test]
    fn other_files_are_no_records() {
        for file in [
            "README",
            ".state",
            "d2l.state",
            "d2l.00.state",
            "d2l.lock",
            "…",
        ] {
            assert_eq!(RecordName::of_state_file(file), None, "{file}");
        }
    }
}
