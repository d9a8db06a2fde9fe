//! An authorization server made by hand: it plays a script, then goes on with good tokens.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;

use super::peer::{Peer, Reply, Seen};

/// What the server does with one token request.
pub type Act = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

pub struct AuthorizationServer {
    pub peer: Peer,
    script: Arc<Mutex<VecDeque<Act>>>,
}

impl AuthorizationServer {
    /// Gives out `token-1`, `token-2`, … for an hour each.
    pub fn start() -> Self {
        Self::with_lifetime(3600)
    }

    /// Gives out `token-1`, `token-2`, … for so many seconds each.
    pub fn with_lifetime(seconds: u64) -> Self {
        let script: Arc<Mutex<VecDeque<Act>>> = Arc::default();
        let acts = Arc::clone(&script);
        let issued = AtomicUsize::new(0);
        let peer = Peer::start(move |seen| {
            let act = acts.lock().unwrap().pop_front();
            act.map_or_else(
                || {
                    token(
                        &format!("token-{}", issued.fetch_add(1, Ordering::SeqCst) + 1),
                        seconds,
                    )
                },
                |act| act(seen),
            )
        });
        Self { peer, script }
    }

    /// Plays this at the next token request that has no act yet.
    pub fn then(&self, act: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> &Self {
        self.script.lock().unwrap().push_back(Box::new(act));
        self
    }

    /// Plays this at the next `count` token requests that have no act yet.
    pub fn then_times(&self, count: usize, reply: &Reply) -> &Self {
        for _ in 0..count {
            let reply = reply.clone();
            self.then(move |_| reply.clone());
        }
        self
    }

    /// Drops what is left of the script: good tokens from now on.
    pub fn recover(&self) {
        self.script.lock().unwrap().clear();
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.peer.url())
    }

    pub fn calls(&self) -> usize {
        self.peer.calls()
    }
}

/// A good answer.
pub fn token(access_token: &str, expires_in: u64) -> Reply {
    Reply::json(
        200,
        &json!({"access_token": access_token, "token_type": "Bearer", "expires_in": expires_in}),
    )
}

/// An error answer (RFC 6749 section 5.2).
pub fn refusal(status: u16, error: &str) -> Reply {
    Reply::json(
        status,
        &json!({"error": error, "error_description": "canary-description"}),
    )
}
