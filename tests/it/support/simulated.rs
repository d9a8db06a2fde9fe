//! A simulated LMS on a runtime of its own.

use std::{net::SocketAddr, sync::mpsc, thread};

use bursar::{
    mock::{Control, Counters, KeySet, KeySource, Lms, Mock, MockParams, RegisteredClient},
    scope::ScopeSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The application that is registered there: an id that a strict client would encode.
pub const CLIENT_ID: &str = "us-west-2#app";

/// Its secret.
pub const SECRET: &str = "canary-secret";

/// The LMS; it ends with this.
pub struct Simulated {
    pub address: SocketAddr,
    pub token_url: String,
    pub control: Control,
    counters: Box<dyn Fn() -> Counters>,
    _stop: DropGuard,
}

impl Simulated {
    pub fn start(lms: Lms) -> Self {
        Self::start_with(move |params| params.lms = lms)
    }

    /// `set` has what differs from one application with [`CLIENT_ID`] and [`SECRET`].
    pub fn start_with(set: impl FnOnce(&mut MockParams) + Send + 'static) -> Self {
        let (started, starts) = mpsc::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = RegisteredClient {
                    id: CLIENT_ID.to_owned(),
                    secret: Some(SECRET.into()),
                    keys: KeySource::Set(KeySet::from_json(br#"{"keys":[]}"#).unwrap()),
                    scopes: ScopeSet::parse("users:own_profile:read grades:gradevalues:read,write")
                        .unwrap(),
                };
                let mut params = MockParams::new(client);
                set(&mut params);
                let mock = Mock::start(params).await.unwrap();
                let parts = (mock.address(), mock.token_url(), mock.control());
                let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
                started.send((parts, asked)).unwrap();
                serve_counters(&mock, asks, stopped).await;
            });
        });
        let ((address, token_url, control), asked) = starts.recv().unwrap();
        Self {
            address,
            token_url,
            control,
            counters: Box::new(move || {
                let (answer, answers) = mpsc::channel();
                asked.send(answer).unwrap();
                answers.recv().unwrap()
            }),
            _stop: stop.drop_guard(),
        }
    }

    /// What has reached it.
    pub fn counters(&self) -> Counters {
        (self.counters)()
    }

    /// Orders a fault, written as for `--fault`.
    pub fn order(&self, fault: &str) {
        self.control.inject(fault.parse().unwrap());
    }

    /// A bursar before it that proves itself with the secret; `more`: further settings of the credential.
    pub fn toml(&self, profile: &str, catalogue: &str, scopes: &str, more: &str) -> String {
        self.toml_of(
            &format!(
                "profile = \"{profile}\"\nclient_id = \"{CLIENT_ID}\"\n\
                 auth_method = \"client_secret_basic\"\nclient_secret = \"{SECRET}\"\n\
                 token_url = \"{}\"\n{more}",
                self.token_url
            ),
            catalogue,
            scopes,
        )
    }

    /// A bursar before it with whatever credential.
    pub fn toml_of(&self, credential: &str, catalogue: &str, scopes: &str) -> String {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
             [admin]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\n\
             [credentials.app]\n{credential}\n\
             [upstreams.lms]\nbase_url = \"http://{}\"\ncredential = \"app\"\n\
             catalogue = \"{catalogue}\"\nscopes = [{scopes}]\n",
            self.address
        )
    }

    pub fn brightspace(&self) -> String {
        let scopes =
            r#""users:own_profile:read", "grades:gradevalues:read", "grades:gradevalues:write""#;
        self.toml("brightspace", "brightspace", scopes, "")
    }
}

async fn serve_counters(
    mock: &Mock,
    mut asks: tokio::sync::mpsc::UnboundedReceiver<mpsc::Sender<Counters>>,
    stopped: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stopped.cancelled() => break,
            Some(answer) = asks.recv() => {
                // Who has asked is waiting.
                let _ = answer.send(mock.counters());
            }
        }
    }
}
