//! What a request to the LMS carries so that the LMS knows whose it is.

use std::sync::Arc;

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    id_key::Signer,
    secret::{self, ExposeSecret, SecretString},
};

/// How a credential is put on a request. Its Debug output says only of which kind it is.
#[derive(Clone)]
pub enum Injection {
    /// `Authorization: Bearer …` (RFC 6750 section 2.1), ready and sensitive.
    Bearer(HeaderValue),
    /// A parameter of the query (Moodle's `wstoken`).
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value, not encoded.
        value: SecretString,
    },
    /// A signature in the query, made anew for each request (Brightspace ID keys).
    Signature(Arc<Signer>),
}

impl Injection {
    /// `Bearer` with a token that was checked when it came; `None`: it is none after all.
    #[must_use]
    pub fn bearer(token: &SecretString) -> Option<Self> {
        let field = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut field = HeaderValue::from_str(&field).ok()?;
        field.set_sensitive(true);
        Some(Self::Bearer(field))
    }

    /// What must not be seen in an answer. A signature is another one each time; what is seen of it here is nothing.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        match self {
            Self::Bearer(field) => {
                let bytes = field.as_bytes();
                bytes.strip_prefix(b"Bearer ").unwrap_or(bytes)
            }
            Self::Parameter { value, .. } => value.expose_secret().as_bytes(),
            Self::Signature(_) => &[],
        }
    }
}

impl PartialEq for Injection {
    /// By value; secrets in a time that tells nothing about them.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bearer(one), Self::Bearer(other)) => one == other,
            (
                Self::Parameter { name, value },
                Self::Parameter {
                    name: other_name,
                    value: other_value,
                },
            ) => name == other_name && secret::is_same(value, other_value),
            (Self::Signature(one), Self::Signature(other)) => one == other,
            (Self::Bearer(_) | Self::Parameter { .. } | Self::Signature(_), _) => false,
        }
    }
}

impl std::fmt::Debug for Injection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Parameter { .. } => "Parameter",
            Self::Signature(_) => "Signature",
        })
    }
}
