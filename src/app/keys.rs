//! The signing keys of all credentials together, as the admin sockets show them, and the looks at what the world sees of them.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use crate::{
    admin::CurrentKeys,
    clock::Clock,
    keys::{KeyRing, KeyState, KeyView, public_key_set},
    publication,
    token::Credential,
};

/// The key rings of a configuration.
pub(super) struct SigningKeys {
    rings: Vec<Arc<KeyRing>>,
    clock: Arc<dyn Clock>,
}

impl SigningKeys {
    pub(super) fn new(credentials: &[Arc<Credential>], clock: Arc<dyn Clock>) -> Self {
        Self {
            rings: credentials.iter().filter_map(ring_of).cloned().collect(),
            clock,
        }
    }

    /// The public key set as of now.
    pub(super) fn key_set(&self) -> CurrentKeys {
        let now = self.clock.now().wall;
        let keys: Vec<_> = self
            .rings
            .iter()
            .flat_map(|ring| ring.published(now))
            .collect();
        let max_ages = self.rings.iter().map(|ring| ring.terms().max_age);
        CurrentKeys {
            set: public_key_set(&keys),
            max_age: max_ages.min().unwrap_or(Duration::MAX),
        }
    }

    /// The live keys as of now.
    pub(super) fn views(&self) -> Vec<KeyView> {
        let now = self.clock.now().wall;
        let views = self.rings.iter().flat_map(|ring| ring.views(now));
        views
            .filter(|view| view.state != KeyState::Expired.as_str())
            .collect()
    }
}

/// Begins to look at the key sets that credentials name (`jwks_url`), for as long as their key rings are in use. Those of
/// `former` are being looked at already.
pub(super) fn watch_publications(
    credentials: &[Arc<Credential>],
    former: &[Arc<Credential>],
    clock: &Arc<dyn Clock>,
    runtime: &Handle,
) {
    let is_watched = |ring: &Arc<KeyRing>| {
        let mut rings = former.iter().filter_map(ring_of);
        rings.any(|other| Arc::ptr_eq(other, ring))
    };
    for credential in credentials {
        let Some(client) = credential.source.client() else {
            continue;
        };
        if let (Some(ring), Some(url)) = (client.keys(), &client.key_set)
            && !is_watched(ring)
        {
            runtime.spawn(publication::watch(
                Arc::clone(&credential.name),
                Arc::downgrade(ring),
                url.clone(),
                Arc::clone(clock),
            ));
        }
    }
}

fn ring_of(credential: &Arc<Credential>) -> Option<&Arc<KeyRing>> {
    credential.source.client()?.keys()
}
