//! Sets up what is demonstrated: the simulated LMS, bursar before it, and a private key in a directory of its own.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, header::HOST};
use http_body_util::Full;
use tokio::task::spawn_blocking;
use url::Url;

use super::scrape::Scrape;
use crate::{
    app::{Addresses, App, AppError, Running},
    clock::SystemClock,
    config::{self, LoadOptions},
    keys::{self, Algorithm, KeyError},
    mock::{Gate, KeySource, Mock, MockParams, RegisteredClient, exchange},
    random,
    scope::{InvalidScope, ScopeSet},
    secret::{ExposeSecret, SecretString},
    socket::Address,
    telemetry::LogHandle,
};

/// The names that metrics carry.
pub(super) const CREDENTIAL: &str = "demo";
pub(super) const UPSTREAM: &str = "lms";

/// What bursar may ask for and do.
const ALLOWLIST: &[&str] = &[
    "users:own_profile:read",
    "users:userdata:read",
    "grades:gradevalues:read,write",
];

/// What the LMS's administrator registered: writing grades was forgotten.
const REGISTERED: &str = "users:own_profile:read users:userdata:read grades:gradevalues:read";

/// How long tokens live.
const LIFETIME: Duration = Duration::from_mins(1);

/// Limit of one request of the demonstration.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Which ports are used; 0 takes a free one.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    lms: u16,
    proxy: u16,
    admin: u16,
    control: u16,
}

/// Everything that runs.
pub(super) struct Stage {
    /// The LMS with its authorization server.
    pub(super) mock: Mock,
    running: Running,
    addresses: Addresses,
    gate: Option<Gate>,
    // Last: the key's file outlives whoever might read it.
    _directory: PrivateDirectory,
}

/// Why nothing can be demonstrated.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error("no runtime could be started")]
    Runtime(#[source] io::Error),
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    #[error("cannot log")]
    Logs(#[from] tracing::subscriber::SetGlobalDefaultError),
    #[error("no key could be made")]
    Key(#[from] KeyError),
    #[error("the key cannot be kept in a temporary directory")]
    Directory(#[source] io::Error),
    #[error("the simulated LMS cannot be started")]
    Mock(#[source] io::Error),
    #[error("the demonstration's own scopes are not valid")]
    Scopes(#[from] InvalidScope),
    #[error("the demonstration's own configuration is refused:\n{0}")]
    Config(String),
    #[error("bursar cannot be started")]
    App(#[from] AppError),
    #[error("bursar's start broke off")]
    Start(#[from] tokio::task::JoinError),
    #[error("nobody could log in")]
    Login(#[source] io::Error),
    #[error("bursar does not say where it {0}")]
    Address(&'static str),
}

impl Ports {
    /// Whatever is free.
    pub(super) const FREE: Self = Self {
        lms: 0,
        proxy: 0,
        admin: 0,
        control: 0,
    };

    /// The ports of the documentation, each replaced by a free one where it is taken.
    pub(super) fn usual() -> Self {
        let available =
            |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_or(0, |_listener| port);
        Self {
            lms: available(9400),
            proxy: available(8080),
            admin: available(9464),
            control: available(9465),
        }
    }
}

impl Stage {
    /// Starts everything. The authorization server keeps its answers back until [`open`](Self::open).
    /// `first_lifetime`: of the first token.
    ///
    /// # Errors
    ///
    /// Something could not be started; what was is gone again.
    pub(super) async fn set(
        ports: Ports,
        first_lifetime: Option<Duration>,
    ) -> Result<Self, StageError> {
        let directory = PrivateDirectory::new().map_err(StageError::Directory)?;
        let key = keys::generate(Algorithm::Es256)?;
        let key_file = directory
            .keep("key.pem", &key)
            .map_err(StageError::Directory)?;

        let mut params = MockParams::new(RegisteredClient {
            id: "bursar-demo".to_owned(),
            secret: None,
            keys: KeySource::None,
            scopes: ScopeSet::parse(REGISTERED)?,
        });
        params.listen.set_port(ports.lms);
        params.token_lifetime = LIFETIME;
        let mock = Mock::start(params).await.map_err(StageError::Mock)?;
        let control = mock.control();
        if let Some(lifetime) = first_lifetime {
            control.set_next_lifetime(lifetime);
        }
        // Held from the start: until bursar listens, nobody knows where its key set is.
        let gate = control.hold_token_requests();

        let text = configuration(&mock, &key_file, ports);
        let options = LoadOptions {
            text: Some(("bursar.toml of the demonstration".to_owned(), text)),
            ..LoadOptions::default()
        };
        let loaded = config::load(&options)
            .map_err(|problems| StageError::Config(problems.render(false)))?;
        // Starting may block, and the LMS lives on this thread.
        let running =
            spawn_blocking(move || App::start(loaded, Arc::new(SystemClock), LogHandle::default()))
                .await??;
        let addresses = running.addresses().clone();
        let keys = format!("http://{}/.well-known/jwks.json", addresses.control);
        let keys = Url::parse(&keys)
            .ok()
            .and_then(|url| KeySource::url(url).ok())
            .ok_or(StageError::Address("publishes its keys"))?;
        control.set_keys(keys);
        if addresses.proxy.is_empty() {
            return Err(StageError::Address("listens"));
        }
        Ok(Self {
            mock,
            running,
            addresses,
            gate: Some(gate),
            _directory: directory,
        })
    }

    /// Lets the authorization server answer.
    pub(super) fn open(&mut self) {
        self.gate = None;
    }

    /// Makes bursar read its configuration again.
    pub(super) fn reload(&self) {
        self.running.reload();
    }

    /// Where the application connects, as `host:port`.
    pub(super) fn proxy(&self) -> String {
        self.addresses
            .proxy
            .first()
            .map_or_else(String::new, Address::to_string)
    }

    /// Probes and metrics, as `host:port`.
    pub(super) fn admin(&self) -> String {
        self.addresses.admin.to_string()
    }

    /// API and key set, as `host:port`.
    pub(super) fn control(&self) -> String {
        self.addresses.control.to_string()
    }

    /// Reads the metrics.
    pub(super) async fn metrics(&self) -> io::Result<Scrape> {
        let response = call(&self.admin(), Method::GET, "/metrics", "").await?;
        Ok(Scrape::new(text_of(&response)))
    }

    /// Drains bursar, stops the LMS and removes the key. Whether bursar came to its end in time.
    pub(super) async fn strike(self) -> bool {
        self.running.shutdown();
        let running = self.running;
        // Joining blocks, and the LMS has to go on answering meanwhile.
        let joined = tokio::time::timeout(REQUEST_TIMEOUT, spawn_blocking(|| running.join())).await;
        self.mock.stop().await;
        matches!(joined, Ok(Ok(())))
    }
}

/// Makes one request over a connection of its own.
pub(super) async fn call(
    authority: &str,
    method: Method,
    target: &str,
    body: &'static str,
) -> io::Result<Response<Bytes>> {
    call_host(authority, authority, method, target, body).await
}

/// As [`call`], to a host that is found at `authority`.
pub(super) async fn call_host(
    authority: &str,
    host: &str,
    method: Method,
    target: &str,
    body: &'static str,
) -> io::Result<Response<Bytes>> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .body(Full::from(body))
        .map_err(io::Error::other)?;
    tokio::time::timeout(REQUEST_TIMEOUT, exchange(authority, request))
        .await
        .map_err(|_elapsed| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))?
}

/// The body of an answer as text.
pub(super) fn text_of(response: &Response<Bytes>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

/// The configuration as a person would write it, but for the ports.
fn configuration(mock: &Mock, key_file: &Path, ports: Ports) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let scopes: Vec<String> = ALLOWLIST.iter().map(|scope| text(scope)).collect();
    format!(
        "[server]
listen        = \"127.0.0.1:{proxy}\"
drain_timeout = \"5s\"

[admin]
listen  = \"127.0.0.1:{admin}\"
control = \"127.0.0.1:{control}\"

[credentials.{CREDENTIAL}]
profile          = \"brightspace\"
client_id        = \"bursar-demo\"
private_key_file = {key_file}
token_url        = {token_url}
refresh_ahead    = \"50%\"

[upstreams.{UPSTREAM}]
base_url   = {base_url}
credential = \"{CREDENTIAL}\"
catalogue  = \"brightspace\"
scopes     = [{scopes}]
",
        proxy = ports.proxy,
        admin = ports.admin,
        control = ports.control,
        key_file = text(&key_file.display().to_string()),
        token_url = text(&mock.token_url()),
        base_url = text(&mock.origin()),
        scopes = scopes.join(", "),
    )
}

/// A temporary directory that only we can enter. Gone, with all that is in it, when it is dropped.
pub(super) struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    pub(super) fn new() -> io::Result<Self> {
        // Nobody can have guessed the name, and a directory that exists already is an error.
        let path = std::env::temp_dir().join(format!("bursar-demo-{}", random::id128()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// The head of a configuration that keeps all its state in here.
    pub(super) fn configuration(&self) -> io::Result<String> {
        // The key has 32 bytes, and what it seals is worth nothing.
        let key = STANDARD.encode(random::id128());
        let key_file = self.keep("state-key", &key.into())?;
        let text = |path: PathBuf| toml::Value::from(path.display().to_string());
        Ok(format!(
            "[server]
listen        = \"127.0.0.1:0\"
drain_timeout = \"5s\"
[admin]
listen  = \"127.0.0.1:0\"
control = \"127.0.0.1:0\"
[state]
path     = {}
key_file = {}
",
            text(self.path.join("state")),
            text(key_file),
        ))
    }

    /// Keeps a secret.
    pub(super) fn keep(&self, name: &str, secret: &SecretString) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(secret.expose_secret().as_bytes())?;
        Ok(path)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Nothing more can be done, and the key is worth nothing once the simulated LMS is gone.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_readable_by_its_owner_only_and_removed_at_the_end() {
        let directory = PrivateDirectory::new().unwrap();
        let file = directory
            .keep("key.pem", &"secret".to_owned().into())
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.path), 0o700);
        assert_eq!(mode(&file), 0o600);
        drop(directory);
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn the_configuration_is_toml_and_names_the_simulated_lms() {
        let client = RegisteredClient {
            id: "bursar-demo".to_owned(),
            secret: None,
            keys: KeySource::None,
            scopes: ScopeSet::parse(REGISTERED).unwrap(),
        };
        let mock = Mock::start(MockParams::new(client)).await.unwrap();
        let text = configuration(&mock, Path::new("/tmp/a \"b\"/key.pem"), Ports::FREE);
        let parsed: toml::Table = text.parse().unwrap();
        let upstream = &parsed["upstreams"][UPSTREAM];
        assert_eq!(upstream["base_url"].as_str().unwrap(), mock.origin());
        assert_eq!(upstream["scopes"].as_array().unwrap().len(), 3);
        let credential = &parsed["credentials"][CREDENTIAL];
        assert_eq!(
            credential["private_key_file"].as_str().unwrap(),
            "/tmp/a \"b\"/key.pem"
        );
    }
}
