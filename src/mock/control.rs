//! The strings that tests and demonstrations pull.

use std::{sync::Arc, time::Duration};

use super::{fault::Fault, keys::KeySource, store::State};

/// Steers a running mock. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    state: Arc<State>,
}

/// While it lives, token requests wait before they are looked at. Several gates are open when all are.
pub struct Gate {
    state: Arc<State>,
}

impl Control {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// The lifetime of the next token that is issued, and of that one only.
    pub fn set_next_lifetime(&self, lifetime: Duration) {
        self.state.store().set_next_lifetime(lifetime);
    }

    /// Makes every token so far invalid, and the user's ID key: the next call with one gets the LMS's refusal.
    pub fn revoke_tokens(&self) {
        self.state.store().revoke_tokens();
    }

    /// Ends what people have agreed to, with every token that it brought: only a new login helps.
    pub fn revoke_grants(&self) {
        self.state.store().end_all_grants();
    }

    /// Orders a fault, behind those that are ordered already.
    pub fn inject(&self, fault: Fault) {
        self.state.faults().add(fault);
    }

    /// Takes back all that was ordered.
    pub fn clear_faults(&self) {
        self.state.faults().clear();
    }

    /// Holds token requests back until the gate is dropped.
    #[must_use]
    pub fn hold_token_requests(&self) -> Gate {
        self.state.gates.send_modify(|closed| *closed += 1);
        Gate {
            state: Arc::clone(&self.state),
        }
    }

    /// Changes where the client's keys come from, and forgets those already known.
    pub fn set_keys(&self, source: KeySource) {
        self.state.keys.replace(source);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.gates.send_modify(|closed| *closed -= 1);
    }
}
