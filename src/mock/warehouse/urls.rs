//! URLs that are the right to an object by themselves.

use std::{collections::VecDeque, time::Duration};

use super::{
    gzip::gzip,
    tables::{self, Format},
};
use crate::{clock::Moment, random};

/// How long a URL is good for.
const LIFETIME: Duration = Duration::from_mins(15);

/// The oldest make room beyond this number.
const MAX_URLS: usize = 1_000;

struct Signed {
    path: String,
    signature: String,
    table: String,
    format: Format,
    expires: Moment,
}

/// The URLs that were handed out.
#[derive(Default)]
pub(super) struct Urls(VecDeque<Signed>);

impl Urls {
    /// Path and query of a URL that is good for a quarter of an hour.
    pub(super) fn sign(&mut self, object: &str, of: (String, Format), now: Moment) -> String {
        let (table, format) = of;
        let signed = Signed {
            path: format!("/{object}/part-00000-{object}.{}.gz", format.extension()),
            signature: random::id128(),
            table,
            format,
            expires: now.after(LIFETIME),
        };
        let target = format!(
            "{}?X-Amz-Expires={}&X-Amz-Signature={}",
            signed.path,
            LIFETIME.as_secs(),
            signed.signature
        );
        if self.0.len() >= MAX_URLS {
            self.0.pop_front();
        }
        self.0.push_back(signed);
        target
    }

    /// The file that a target is the right to, while it is.
    pub(super) fn file(&self, path: &str, query: &str, now: Moment) -> Option<Vec<u8>> {
        let signature = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "X-Amz-Signature")
            .map(|(_, value)| value)?;
        let signed = self.0.iter().find(|signed| {
            signed.path == path && signed.signature == signature && !signed.expires.is_reached(now)
        })?;
        let file = tables::file(&signed.table, signed.format);
        Some(gzip(file.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_good_for_its_object_its_signature_and_a_quarter_of_an_hour() {
        let at = |seconds| Moment {
            wall: Duration::from_secs(seconds),
            boot: Duration::from_secs(seconds),
        };
        let mut urls = Urls::default();
        let target = urls.sign("o-0", ("users".to_owned(), Format::Csv), at(0));
        let (path, query) = target.split_once('?').unwrap();
        assert!(urls.file(path, query, at(899)).is_some());
        assert!(urls.file(path, query, at(900)).is_none());
        assert!(urls.file("/o-1/x", query, at(0)).is_none());
        assert!(urls.file(path, "X-Amz-Signature=guessed", at(0)).is_none());
        assert!(urls.file(path, "", at(0)).is_none());
    }
}
