//! Sending a person to the login page, and waiting for what they bring back.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use url::Url;
use zeroize::Zeroizing;

use super::{
    attempt::{Attempt, Brought, Outcome, Received},
    browser,
    door::{Arrival, Door, DoorError, OpenDoor, Reply},
    lines::Lines,
    page::Page,
};
use crate::{
    cli::{
        Surroundings,
        output::{print, tell},
        signals::Stop,
    },
    id_key::IdKey,
    oauth::authorization::{
        AuthorizationError, AuthorizationParams, Callback, CallbackError, Flow, RedirectUri,
    },
    scope::ScopeSet,
};

/// What a person is asked to agree to.
pub(super) struct Request<'a> {
    /// The credential.
    pub(super) credential: &'a str,
    /// For whom, where each person has a grant of their own.
    pub(super) subject: Option<&'a str>,
    /// The client, as the authorization server knows it.
    pub(super) client_id: &'a str,
    /// Where.
    pub(super) params: &'a AuthorizationParams,
    /// What for.
    pub(super) scopes: Option<&'a ScopeSet>,
    /// Set where it is a user's ID key that is asked for: the application's, which signs the request.
    pub(super) signer: Option<&'a Arc<IdKey>>,
}

/// How it is done.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Whether a browser is opened.
    pub(super) opens_browser: bool,
    /// Whether the answer is pasted, and nothing listens.
    pub(super) pastes: bool,
    /// How long the person may take.
    pub(super) limit: Duration,
}

/// Who waits to be told how it went.
pub(super) enum Listener {
    /// A browser, behind the door by which it has come.
    Browser(Reply, Option<OpenDoor>),
    /// Nobody but the terminal.
    Terminal,
}

/// The answer.
pub(super) struct Answered {
    /// What it brings.
    pub(super) brought: Brought,
    /// Who waits to be told what becomes of it.
    pub(super) listener: Listener,
    /// What a person types from now on.
    pub(super) lines: Option<Lines>,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DialogueError {
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Refused(#[from] AuthorizationError),
    #[error("what was pasted is no answer: {0}")]
    Pasted(CallbackError),
    #[error(
        "what was pasted is not the answer to this login: its state is not the one that was sent, or it brings an error that \
         nothing vouches for"
    )]
    PastedForeign,
    #[error("nothing was pasted")]
    NothingPasted,
    #[error(
        "the relay passes no state on, so a person must say that the answer is theirs, and nobody is here"
    )]
    NobodyToConfirm,
    #[error("not confirmed: nothing is stored, and what was stored before stays")]
    NotConfirmed,
    #[error("nobody has logged in within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("interrupted")]
    Interrupted,
    #[error("this machine gives no signals")]
    Signals(#[source] std::io::Error),
}

impl Listener {
    pub(super) async fn tell(self, page: Page) {
        match self {
            Self::Browser(reply, door) => {
                reply.show(page).await;
                drop(door);
            }
            Self::Terminal => {}
        }
    }
}

/// Asks, and waits for the answer.
pub(super) async fn ask(
    request: &Request<'_>,
    manner: Manner,
    stops: &mut mpsc::Receiver<Stop>,
    surroundings: &Surroundings,
) -> Result<Answered, DialogueError> {
    let deadline = Instant::now() + manner.limit;
    let mut room = Room::open(request, manner, surroundings).await?;
    room.invite(request, manner, surroundings);
    tokio::select! {
        answer = room.answer() => {
            let (outcome, listener) = answer?;
            match outcome {
                Ok(brought) => Ok(Answered {
                    brought,
                    listener,
                    lines: room.lines.take(),
                }),
                Err(error) => {
                    listener.tell(Page::failed(capitalised(&error.to_string()))).await;
                    Err(error.into())
                }
            }
        }
        () = sleep_until(deadline) => Err(DialogueError::TimedOut(manner.limit)),
        _ = stops.recv() => Err(DialogueError::Interrupted),
    }
}

/// The places where an answer may come from.
struct Room {
    attempt: Arc<Attempt>,
    redirect_uri: RedirectUri,
    /// The authorization request.
    url: Url,
    door: Option<OpenDoor>,
    fingerprint: Option<String>,
    lines: Option<Lines>,
    /// Whether Enter opens a browser, and which one is wanted.
    opens: Option<Option<String>>,
    /// Whether a person sits at the terminal, who can try again.
    is_manned: bool,
}

impl Room {
    async fn open(
        request: &Request<'_>,
        manner: Manner,
        surroundings: &Surroundings,
    ) -> Result<Self, DialogueError> {
        let is_manned = surroundings.stdin_is_terminal && surroundings.stderr_is_terminal;
        let mut params = request.params.clone();
        if params.relay_parameter.is_some() && !manner.pastes && !is_manned {
            return Err(DialogueError::NobodyToConfirm);
        }
        let door = match manner.pastes {
            true => None,
            false => Some(Door::bind(&params.redirect_uri).await?),
        };
        if let Some(door) = &door {
            params.redirect_uri = door.redirect_uri().clone();
        }
        let redirect_uri = params.redirect_uri.clone();
        let fingerprint = door.as_ref().and_then(Door::fingerprint).map(str::to_owned);
        let flow = match request.signer {
            Some(app) => Flow::for_user_key(params, Arc::clone(app)),
            None => Flow::begin(params),
        };
        let url = flow.url(request.client_id, request.scopes);
        let attempt = Arc::new(Attempt::new(flow));
        let opens = (manner.opens_browser && is_manned && door.is_some())
            .then(|| surroundings.variable("BROWSER").map(str::to_owned));
        Ok(Self {
            door: door.map(|door| door.open(Arc::clone(&attempt))),
            attempt,
            redirect_uri,
            url,
            fingerprint,
            // Nobody but a person, or who was told to, has anything to say here.
            lines: (is_manned || manner.pastes).then(Lines::of_stdin),
            opens,
            is_manned,
        })
    }

    /// Says what to do. The address alone goes to stdout.
    fn invite(&self, request: &Request<'_>, manner: Manner, surroundings: &Surroundings) {
        tell(&invitation(
            request,
            self.url.host_str().unwrap_or_default(),
        ));
        print(self.url.as_str());
        let mut text = String::new();
        if self.opens.is_some() {
            text.push_str("Press Enter to open it in your browser.\n");
        }
        if self.door.is_some() {
            text.push_str(&format!(
                "Then the browser comes back to {}.\n",
                self.redirect_uri.as_str()
            ));
        }
        if let Some(fingerprint) = &self.fingerprint {
            text.push_str(&format!(
                "It will warn of a certificate that nobody vouches for. It is this one, made for this login:\n  \
                 SHA-256 {fingerprint}\n"
            ));
        }
        if self.lines.is_some() {
            text.push_str(&match &self.door {
                Some(_) => {
                    "If it cannot come back to this machine, paste the address at which it has ended here.\n"
                        .to_owned()
                }
                None => format!(
                    "In the end the browser is at an address that begins with {}: paste that address here, \
                     whether its page\ncould be shown or not.\n",
                    self.redirect_uri.as_str()
                ),
            });
        }
        if self.door.is_some() && browser::is_elsewhere(surroundings) {
            text.push_str(&over_ssh(request.credential, self.redirect_uri.port()));
        }
        text.push_str(&format!(
            "Waiting {} for the answer; Ctrl-C ends it.\n",
            humantime::format_duration(manner.limit)
        ));
        tell(&text);
    }

    /// Waits for the answer, whichever way it comes.
    async fn answer(&mut self) -> Result<(Outcome, Listener), DialogueError> {
        loop {
            tokio::select! {
                Some(arrival) = arrival(&mut self.door) => {
                    let listener = Listener::Browser(arrival.reply, self.door.take());
                    return Ok((arrival.outcome, listener));
                }
                line = line(&mut self.lines) => match line {
                    Some(line) => {
                        if let Some(outcome) = self.hear(&line)? {
                            return Ok((outcome, Listener::Terminal));
                        }
                    }
                    None if self.door.is_none() => return Err(DialogueError::NothingPasted),
                    None => self.lines = None,
                },
            }
        }
    }

    /// What a person has typed: Enter, or the address at which the browser has ended.
    fn hear(&mut self, line: &str) -> Result<Option<Outcome>, DialogueError> {
        if line.trim().is_empty() {
            if let Some(wanted) = self.opens.take()
                && !browser::open(&self.url, wanted.as_deref())
            {
                tell("No browser could be started: open the address above in one.\n");
            }
            return Ok(None);
        }
        let error =
            match Callback::parse_url(line, &self.redirect_uri, self.attempt.code_parameter()) {
                Ok(callback) => match self.attempt.receive(callback) {
                    Received::Answer(outcome) => return Ok(Some(outcome)),
                    Received::Foreign => DialogueError::PastedForeign,
                    // It is on its way by the door.
                    Received::Over => return Ok(None),
                },
                Err(error) => DialogueError::Pasted(error),
            };
        if !self.is_manned {
            return Err(error);
        }
        tell(&format!(
            "{}.\nIt begins with {} and is the whole address, with all that is behind the `?`. Try again:\n",
            capitalised(&error.to_string()),
            self.redirect_uri.as_str()
        ));
        Ok(None)
    }
}

async fn arrival(door: &mut Option<OpenDoor>) -> Option<Arrival> {
    match door {
        Some(door) => door.next().await,
        None => std::future::pending().await,
    }
}

async fn line(lines: &mut Option<Lines>) -> Option<Zeroizing<String>> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

fn invitation(request: &Request<'_>, host: &str) -> String {
    let whom = request
        .subject
        .map_or_else(String::new, |subject| format!(" for {subject}"));
    let scopes = match request.scopes {
        Some(scopes) if !scopes.is_empty() => format!("for these scopes: {scopes}"),
        _ => "for what the client is registered for".to_owned(),
    };
    format!(
        "Log in to {host}{whom} and let the client {:?} (credential {}) have access, {scopes}.\n\
         Open this address in a browser:\n\n",
        request.client_id, request.credential
    )
}

fn over_ssh(credential: &str, port: u16) -> String {
    format!(
        "This looks like a session over SSH. From where the browser is, `ssh -L {port}:127.0.0.1:{port} …` lets it come\n\
         back here; or use: bursar login {credential} --paste\n"
    )
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> AuthorizationParams {
        AuthorizationParams {
            authorize_url: "https://as.test/auth".parse().unwrap(),
            redirect_uri: RedirectUri::parse("http://127.0.0.1:0/callback").unwrap(),
            issuer: None,
            pkce: true,
            relay_parameter: None,
        }
    }

    const PASTES: Manner = Manner {
        opens_browser: false,
        pastes: true,
        limit: Duration::from_secs(60),
    };

    async fn room(is_manned: bool) -> Room {
        let params = params();
        let request = Request {
            credential: "d2l",
            subject: None,
            client_id: "app",
            params: &params,
            scopes: None,
            signer: None,
        };
        let mut room = Room::open(&request, PASTES, &Surroundings::default())
            .await
            .unwrap();
        room.is_manned = is_manned;
        room
    }

    fn state(room: &Room) -> String {
        let mut pairs = room.url.query_pairs();
        pairs.find(|(name, _)| name == "state").unwrap().1.into()
    }

    #[tokio::test]
    async fn a_pasted_address_is_as_good_as_a_callback() {
        let mut room = room(true).await;
        let address = format!(
            "http://127.0.0.1:0/callback?code=1&state={}\n",
            state(&room)
        );
        assert!(room.hear("\n").unwrap().is_none());
        let outcome = room.hear(&address).unwrap().unwrap();
        assert!(outcome.is_ok());
        assert!(room.hear(&address).unwrap().is_none(), "a second time");
    }

    #[tokio::test]
    async fn a_person_can_try_again_and_a_pipe_cannot() {
        for wrong in ["hello", "http://127.0.0.1:0/callback?code=1&state=guess"] {
            assert!(room(true).await.hear(wrong).unwrap().is_none(), "{wrong}");
            assert!(room(false).await.hear(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn without_a_state_and_a_terminal_an_answer_is_only_taken_by_paste() {
        let params = AuthorizationParams {
            relay_parameter: Some("token".to_owned()),
            ..params()
        };
        let request = Request {
            credential: "lms",
            subject: None,
            client_id: "app",
            params: &params,
            scopes: None,
            signer: None,
        };
        let open = |pastes, is_manned| {
            let manner = Manner { pastes, ..PASTES };
            let surroundings = Surroundings {
                stdin_is_terminal: is_manned,
                stderr_is_terminal: is_manned,
                ..Surroundings::default()
            };
            let request = &request;
            async move { Room::open(request, manner, &surroundings).await.err() }
        };
        assert!(matches!(
            open(false, false).await,
            Some(DialogueError::NobodyToConfirm)
        ));
        assert!(open(true, false).await.is_none());
        assert!(open(false, true).await.is_none());
    }

    #[test]
    fn an_invitation_says_where_who_and_what_for() {
        let (params, scopes) = (params(), ScopeSet::parse("a:b:c").unwrap());
        let request = Request {
            credential: "d2l",
            subject: Some("ann"),
            client_id: "app-1",
            params: &params,
            scopes: Some(&scopes),
            signer: None,
        };
        let text = invitation(&request, "as.test");
        for part in ["as.test", "ann", "app-1", "d2l", "a:b:c"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
