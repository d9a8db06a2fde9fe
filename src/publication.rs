//! Whether the world sees the keys that sign: the key set at `jwks_url` is fetched again and again, as an AS would.
//!
//! What is seen is told to the [`KeyRing`], which then does not sign with a key that cannot be seen while an older one can. What a
//! person should know is logged once, not with every look. This never stops a token request: where nothing is known, the clock
//! alone decides which key signs.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    clock::{Clock, Moment},
    keys::{KeyRing, KeyView},
    oauth::{KeySetError, KeySetUrl, PublishedKeys},
    random,
};

/// How often to look while all is well, give or take a fifth: replicas that were started together do not stay together.
const INTERVAL: Duration = Duration::from_secs(300);

/// How often to look while a key waits to be seen.
const SOON: Duration = Duration::from_secs(30);

/// What was seen so long ago says nothing about now.
const STALE: Duration = Duration::from_secs(1_200);

/// Where a key set can be seen. [`KeySetUrl`] is the real one; tests script their own.
pub trait KeySetSource: Send + Sync + 'static {
    /// Looks once.
    fn fetch(&self) -> impl Future<Output = Result<PublishedKeys, KeySetError>> + Send;
}

impl KeySetSource for KeySetUrl {
    fn fetch(&self) -> impl Future<Output = Result<PublishedKeys, KeySetError>> + Send {
        // Not recursion: the method of the type itself comes first.
        Self::fetch(self)
    }
}

/// Looks again and again, as long as `ring` is in use.
pub async fn watch<S: KeySetSource>(
    credential: Arc<str>,
    ring: Weak<KeyRing>,
    source: S,
    clock: Arc<dyn Clock>,
) {
    let mut watch = Watch::new(credential);
    loop {
        let looked = source.fetch().await;
        let Some(ring) = ring.upgrade() else {
            return;
        };
        let now = clock.now();
        watch.take(looked, &ring, now);
        let pause = watch.pause(&ring, now, random::fraction());
        drop(ring);
        sleep(pause).await;
    }
}

/// What was seen and said so far.
struct Watch {
    credential: Arc<str>,
    said: Vec<Finding>,
    last_seen: Option<Moment>,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// The key whose turn it is cannot be seen; `instead`: the one that signs in its place, if there is one.
    Unpublished {
        kid: String,
        instead: Option<String>,
    },
    /// The next key cannot be seen, though its turn comes so soon that the AS may miss it.
    Late { kid: String, starts: String },
    /// Somebody has published a private key.
    PrivateMembers,
    /// The key set cannot be fetched.
    Failed(KeySetError),
}

impl Watch {
    const fn new(credential: Arc<str>) -> Self {
        Self {
            credential,
            said: Vec::new(),
            last_seen: None,
        }
    }

    /// Tells the ring and the log what came of one look.
    fn take(&mut self, looked: Result<PublishedKeys, KeySetError>, ring: &KeyRing, now: Moment) {
        let findings = match looked {
            Ok(seen) => {
                self.last_seen = Some(now);
                let has_private_members = seen.has_private_members;
                let late = late(ring, &seen, now);
                ring.observe(Some(seen.kids));
                let mut findings: Vec<Finding> = unpublished(ring, now).into_iter().collect();
                findings.extend(late);
                if has_private_members {
                    findings.push(Finding::PrivateMembers);
                }
                findings
            }
            Err(error) => {
                let is_stale = |seen: Moment| seen.after(STALE).is_reached(now);
                if self.last_seen.is_none_or(is_stale) {
                    ring.observe(None);
                }
                // What is known of the keys has not changed: it has been said, and is not good news either.
                let mut findings: Vec<Finding> = unpublished(ring, now).into_iter().collect();
                findings.push(Finding::Failed(error));
                findings
            }
        };
        self.say(findings);
    }

    /// How long to wait before the next look. `jitter`: 0 to 1.
    fn pause(&self, ring: &KeyRing, now: Moment, jitter: f64) -> Duration {
        let usual = if unpublished(ring, now).is_some() {
            SOON
        } else {
            INTERVAL
        };
        let pause = usual.mul_f64(0.8 + 0.4 * jitter);
        // The moment of a change is one to look at.
        match ring.timeline().next_start(now.wall) {
            Some(start) => pause.min(start.wall().saturating_sub(now.wall)),
            None => pause,
        }
    }

    /// Logs what is new.
    fn say(&mut self, findings: Vec<Finding>) {
        let credential = &*self.credential;
        for finding in findings
            .iter()
            .filter(|finding| !self.said.contains(finding))
        {
            match finding {
                Finding::Unpublished { kid, instead } => {
                    let signs_instead = instead.as_deref();
                    tracing::warn!(
                        event = "signing_key_unpublished",
                        credential,
                        kid,
                        signs_instead,
                        hint = HINT,
                        "the key set at jwks_url lacks the key whose turn it is to sign"
                    );
                }
                Finding::Late { kid, starts } => {
                    tracing::warn!(
                        event = "next_key_unpublished",
                        credential,
                        kid,
                        signs_from = starts,
                        hint = HINT,
                        "the key set at jwks_url lacks the key that signs soon"
                    );
                }
                Finding::PrivateMembers => {
                    tracing::error!(
                        event = "private_key_published",
                        credential,
                        hint = "take it away and replace the key: `bursar keys rotate --now`",
                        "the key set at jwks_url holds a private key"
                    );
                }
                Finding::Failed(error) => {
                    tracing::warn!(event = "key_set_unseen", credential, %error, hint = "`bursar check` tells more; whether the authorization server sees the keys is not known", "the key set at jwks_url cannot be fetched");
                }
            }
        }
        if findings.is_empty() && !self.said.is_empty() {
            tracing::info!(
                event = "key_set_seen",
                credential,
                "the key set at jwks_url holds every key that it should"
            );
        }
        self.said = findings;
    }
}

const HINT: &str = "publish what `bursar keys jwks` prints; `bursar check` looks at it again";

/// The key whose turn it is, if it is known that it cannot be seen.
fn unpublished(ring: &KeyRing, now: Moment) -> Option<Finding> {
    let views = ring.views(now.wall);
    let of = |state: &'static str| views.iter().find(move |view| view.state == state);
    let unpublished = of("unpublished")?;
    Some(Finding::Unpublished {
        kid: unpublished.kid.clone(),
        instead: of("active").map(|view| view.kid.clone()),
    })
}

/// The next key, if it is not seen and the AS would have to fetch the set before it may.
fn late(ring: &KeyRing, seen: &PublishedKeys, now: Moment) -> Option<Finding> {
    let is_soon = |view: &KeyView| {
        let needed = view.start.wall().saturating_sub(ring.terms().max_age);
        view.state == "next" && needed <= now.wall && !seen.kids.contains(&view.kid)
    };
    let views = ring.views(now.wall);
    let view = views.iter().find(|view| is_soon(view))?;
    Some(Finding::Late {
        kid: view.kid.clone(),
        starts: view.start.to_string(),
    })
}

#[cfg(test)]
mod tests;
