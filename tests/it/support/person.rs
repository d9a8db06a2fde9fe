//! `bursar login` with a person at the other end: a browser that follows where it is sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use bursar::{
    mock::{Lms, MockParams},
    scope::ScopeSet,
};
use url::Url;

use super::{
    http::{Answer, exchange},
    program::{Finished, bursar_in, free_port, write_private},
    simulated::{CLIENT_ID, SECRET, Simulated},
};

/// What of a configuration is the LMS's.
pub struct Kind {
    pub lms: Lms,
    /// Profile, grant and where people agree.
    pub credential: &'static str,
    pub authorize_path: &'static str,
    pub catalogue: &'static str,
    pub scopes: &'static str,
}

pub const BRIGHTSPACE: Kind = Kind {
    lms: Lms::Brightspace,
    credential: "profile = \"brightspace\"\ngrant = \"authorization_code\"",
    authorize_path: "/oauth2/auth",
    catalogue: "brightspace",
    scopes: "users:own_profile:read",
};

pub const LTIAAS: Kind = Kind {
    lms: Lms::Ltiaas,
    credential: "profile = \"ltiaas\"\nplatform_id = \"bursar-mock-platform\"",
    authorize_path: "/oauth/start/bursar-mock-platform",
    catalogue: "brightspace",
    scopes: "users:own_profile:read",
};

pub const CANVAS: Kind = Kind {
    lms: Lms::Canvas,
    credential: "profile = \"canvas\"",
    authorize_path: "/login/oauth2/auth",
    catalogue: "canvas",
    scopes: "url:GET|/api/v1/courses",
};

/// A credential of a simulated LMS for which people log in, and its own store.
pub struct Office {
    pub lms: Simulated,
    kind: Kind,
    pub directory: tempfile::TempDir,
    pub redirect: String,
    pub more: String,
}

impl Office {
    /// `set` has what differs from a Brightspace by default.
    pub fn open(set: impl FnOnce(&mut MockParams) + Send + 'static) -> Self {
        Self::of(BRIGHTSPACE, set)
    }

    /// A Canvas whose developer key is registered for what is asked for.
    pub fn canvas(set: impl FnOnce(&mut MockParams) + Send + 'static) -> Self {
        Self::of(CANVAS, |params| {
            params.client.scopes = ScopeSet::parse(CANVAS.scopes).unwrap();
            set(params);
        })
    }

    /// The same for another LMS.
    pub fn of(kind: Kind, set: impl FnOnce(&mut MockParams) + Send + 'static) -> Self {
        let redirect = format!("http://{}/callback", free_port());
        let (registered, lms) = (redirect.clone(), kind.lms);
        let lms = Simulated::start_with(move |params| {
            params.lms = lms;
            params.login.redirect_uris = vec![registered.parse().unwrap()];
            set(params);
        });
        let directory = tempfile::tempdir().unwrap();
        Self {
            lms,
            kind,
            directory,
            redirect,
            more: String::new(),
        }
    }

    /// Further settings of the credential.
    pub fn with(mut self, more: &str) -> Self {
        self.more = more.to_owned();
        self
    }

    /// The configuration, as for an in-process bursar.
    pub fn toml(&self) -> String {
        let Self {
            lms,
            kind,
            redirect,
            more,
            ..
        } = self;
        let proof = match kind.lms {
            Lms::Ltiaas => format!("api_key_file = {:?}", self.api_key()),
            _ => format!("client_id = \"{CLIENT_ID}\"\nclient_secret = \"{SECRET}\""),
        };
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
             [admin]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\n\
             [state]\npath = {state:?}\nkey_file = {key:?}\n\
             [credentials.app]\n{credential}\n\
             {proof}\n\
             token_url = \"{token_url}\"\nauthorize_url = \"http://{address}{authorize_path}\"\n\
             redirect_uri = \"{redirect}\"\n{more}\n\
             [upstreams.lms]\nbase_url = \"http://{address}\"\ncredential = \"app\"\n\
             catalogue = \"{catalogue}\"\nscopes = [\"{scopes}\"]\n",
            credential = kind.credential,
            authorize_path = kind.authorize_path,
            catalogue = kind.catalogue,
            scopes = kind.scopes,
            state = self.state(),
            key = self.key_file(),
            token_url = lms.token_url,
            address = lms.address,
        )
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn api_key(&self) -> PathBuf {
        let path = self.directory.path().join("api-key");
        write_private(&path, "bursar-mock-api-key\n")
    }

    fn key_file(&self) -> PathBuf {
        let path = self.directory.path().join("state-key");
        if !path.exists() {
            write_private(&path, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        }
        path
    }

    /// Runs a command with the configuration.
    pub fn run(&self, words: &[&str]) -> Finished {
        self.write();
        bursar_in(self.directory.path(), &[], words)
    }

    fn write(&self) {
        write_private(&self.directory.path().join("bursar.toml"), &self.toml());
    }

    /// Begins a login, and reads where it sends people to.
    pub fn login(&self, words: &[&str]) -> Login {
        self.write();
        Login::begin(self.directory.path(), words)
    }

    /// A whole login: somebody agrees. Without a `state`, and off a terminal, they paste what comes back.
    pub fn log_in(&self, words: &[&str]) -> Finished {
        if matches!(self.kind.lms, Lms::Ltiaas) {
            let mut login = self.login(&[words, &["--paste"]].concat());
            let callback = login.decide("auto=1");
            login.paste(&format!("{callback}\n"));
            return login.end();
        }
        let login = self.login(words);
        let page = login.go("auto=1");
        assert_eq!(page.status, 200, "{}", page.text());
        login.end()
    }
}

/// A `bursar login` that waits for its answer.
pub struct Login {
    child: Child,
    /// The authorization request.
    pub url: Url,
    stdout: BufReader<std::process::ChildStdout>,
    pub stdin: Option<ChildStdin>,
}

impl Login {
    /// Begins one with the configuration of a directory.
    pub fn begin(directory: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bursar"))
            .current_dir(directory)
            .env_clear()
            .arg("login")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().parse();
        let stdin = child.stdin.take();
        let login = Self {
            child,
            url: url.unwrap_or_else(|_| "none:".parse().unwrap()),
            stdout,
            stdin,
        };
        if login.url.scheme() == "none" {
            panic!("it prints no address: {}", login.end().said());
        }
        login
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Goes to the login page; `decision`: what the simulated one takes in place of a click. Where the browser is sent then.
    pub fn decide(&self, decision: &str) -> Url {
        let query = self.url.query();
        let query = query.map_or_else(String::new, |query| format!("{query}&"));
        let target = format!("{}?{query}{decision}", self.url.path());
        let answer = get(&self.url, &target);
        let location = answer.field("location");
        location
            .unwrap_or_else(|| panic!("{answer:?}"))
            .parse()
            .unwrap()
    }

    /// The same, and comes back to bursar.
    pub fn go(&self, decision: &str) -> Answer {
        let callback = self.decide(decision);
        let target = format!("{}?{}", callback.path(), callback.query().unwrap());
        get(&callback, &target)
    }

    pub fn paste(&mut self, text: &str) {
        let mut stdin = self.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end.
    pub fn end(mut self) -> Finished {
        drop(self.stdin.take());
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        Finished {
            code: self.child.wait().unwrap().code().unwrap_or(-1),
            stdout,
            stderr,
        }
    }
}

/// What a browser would be answered.
pub fn get(url: &Url, target: &str) -> Answer {
    let port = url.port().unwrap();
    let host = url.host_str().unwrap();
    let address = format!("{host}:{port}").parse().unwrap();
    exchange(
        address,
        format!("GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"),
    )
}
