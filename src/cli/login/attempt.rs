//! One flow, open for one answer, whichever way it comes: by the browser or by what a person pastes.

use std::sync::{Mutex, PoisonError};

use crate::{
    id_key::IdKey,
    oauth::{
        LoginGrant,
        authorization::{AuthorizationError, Callback, Flow},
    },
};

/// What an answer brings.
pub(super) enum Brought {
    /// What a token request redeems.
    Grant(LoginGrant),
    /// A user's key (Brightspace ID keys).
    User(IdKey),
}

/// What the first answer makes of the flow.
pub(super) type Outcome = Result<Brought, AuthorizationError>;

/// A flow that waits for its callback.
#[derive(Debug)]
pub(super) struct Attempt {
    code_parameter: String,
    flow: Mutex<Option<Flow>>,
}

/// What a callback is to the attempt.
pub(super) enum Received {
    /// The answer. There is no other one from now on.
    Answer(Outcome),
    /// Another flow's, or made up: the attempt goes on.
    Foreign,
    /// The answer has been here already.
    Over,
}

impl Attempt {
    pub(super) fn new(flow: Flow) -> Self {
        Self {
            code_parameter: flow.code_parameter().to_owned(),
            flow: Mutex::new(Some(flow)),
        }
    }

    /// The parameter that brings the code.
    pub(super) fn code_parameter(&self) -> &str {
        &self.code_parameter
    }

    /// Takes the callback, if it is the answer.
    pub(super) fn receive(&self, callback: Callback) -> Received {
        let mut waiting = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = waiting.take_if(|flow| flow.is_answered_by(&callback));
        match answered {
            Some(flow) if flow.is_for_user_key() => {
                Received::Answer(flow.conclude_with_user_key(callback).map(Brought::User))
            }
            Some(flow) => Received::Answer(flow.conclude(callback).map(Brought::Grant)),
            None if waiting.is_some() => Received::Foreign,
            None => Received::Over,
        }
    }
}
