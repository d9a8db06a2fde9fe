//! A connection to the LMS on which HTTP has ended with a 101 (RFC 9110 section 7.8).

use tokio::sync::oneshot;

use super::{pool::Link, raw::Raw};

/// The LMS's end of a tunnel. Holds its place among the upstream's connections until it is dropped, and
/// never comes back to the pool.
pub struct Switched {
    raw: oneshot::Receiver<Raw>,
    link: Link,
}

/// That place.
pub struct Place(#[expect(dead_code, reason = "held until it is dropped")] Link);

impl Switched {
    pub(super) const fn new(raw: oneshot::Receiver<Raw>, link: Link) -> Self {
        Self { raw, link }
    }

    /// The stream, as soon as HTTP has let go of it; `None`: it broke in that moment.
    pub async fn open(self) -> Option<(Raw, Place)> {
        let raw = self.raw.await.ok()?;
        Some((raw, Place(self.link)))
    }
}
