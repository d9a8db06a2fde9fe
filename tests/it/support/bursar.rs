//! A whole bursar in this process, from TOML text to sockets.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bursar::{
    app::{App, Running},
    clock::SystemClock,
    config::{LoadOptions, load},
    socket::Address,
    telemetry::LogHandle,
};

use super::{
    authorization_server::AuthorizationServer,
    http::{Answer, PATIENCE, exchange},
    peer::{Peer, Reply},
};

pub struct Bursar {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub control: SocketAddr,
    pub jwks: Option<SocketAddr>,
    running: Option<Running>,
}

impl Bursar {
    /// Starts from a complete configuration; its listeners should have port 0.
    pub fn start(toml: &str) -> Self {
        Self::start_with(&LoadOptions::from_text("test.toml", toml))
    }

    /// As [`start`](Self::start), from a file that may change later.
    pub fn start_from(file: &Path) -> Self {
        Self::start_with(&LoadOptions {
            file: Some(file.to_owned()),
            ..LoadOptions::default()
        })
    }

    fn start_with(options: &LoadOptions) -> Self {
        let loaded = load(options).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let running =
            App::start(loaded, Arc::new(SystemClock), LogHandle::default()).expect("bursar starts");
        let addresses = running.addresses();
        Self {
            proxy: port_or_none(&addresses.proxy[0]),
            admin: addresses.admin,
            control: port_or_none(&addresses.control),
            jwks: addresses.jwks,
            running: Some(running),
        }
    }

    /// As [`start`](Self::start), and waits until it has its first token.
    pub fn ready(toml: &str) -> Self {
        let bursar = Self::start(toml);
        bursar.until_ready();
        bursar
    }

    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target, "", "")
    }

    /// `fields`: further field lines, each with its CRLF.
    pub fn request(&self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        exchange(
            self.proxy,
            format!(
                "{method} {target} HTTP/1.1\r\nHost: {}\r\n{fields}{length}\r\n{body}",
                self.proxy
            ),
        )
    }

    pub fn metrics(&self) -> String {
        admin_get(self.admin, "/metrics").text()
    }

    /// The value of the series that starts with `series` (name and labels as they are printed); 0 if there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.and_then(|line| line.rsplit(' ').next())
            .map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until the condition holds.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never happened: {what}\n{}",
                self.metrics()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn until_ready(&self) {
        self.until("ready", |bursar| {
            admin_get(bursar.admin, "/readyz").status == 200
        });
    }

    /// Asks for a reload as `bursar reload` does, with [`CONTROL_KEY`].
    pub fn reload(&self) -> Answer {
        control_post(self.control, "/-/reload")
    }

    /// Begins the drain.
    pub fn shutdown(&self) {
        self.running.as_ref().expect("running").shutdown();
    }

    /// Waits for the end of the drain.
    pub fn join(mut self) {
        self.running.take().expect("running").join();
    }
}

impl Drop for Bursar {
    fn drop(&mut self) {
        // Leaves without the drain: the test is over, and its peers may hang on purpose.
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

/// The control key of the tests that have one.
pub const CONTROL_KEY: &str = "canary-control-key";

pub fn control_post(control: SocketAddr, target: &str) -> Answer {
    let fields = format!("Content-Type: application/json\r\nBursar-Control: {CONTROL_KEY}\r\n");
    exchange(
        control,
        format!(
            "POST {target} HTTP/1.1\r\nHost: {control}\r\n{fields}Content-Length: 2\r\n\r\n{{}}"
        ),
    )
}

/// A test that uses Unix sockets knows their paths; port 0 is what it never connects to.
fn port_or_none(address: &Address) -> SocketAddr {
    address
        .tcp()
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
}

pub fn admin_get(address: SocketAddr, target: &str) -> Answer {
    exchange(
        address,
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}

/// Settings of [`between`] beyond the usual; each is TOML.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    pub server: &'a str,
    pub credential: &'a str,
    pub upstream: &'a str,
    /// After the upstream: `[[upstreams.lms.routes]]` and whatever else.
    pub tail: &'a str,
}

/// The usual configuration: one upstream with plain routes between an LMS and an authorization server.
///
/// `GET`, `POST`, `PUT` and `DELETE` on `/api/{*rest}` need `api:read`; `PUT /grades/{id}` needs `grades:write`, which the
/// allowlist lacks.
pub fn toml(lms: &Peer, server: &AuthorizationServer, extra: Extra<'_>) -> String {
    let Extra {
        server: server_settings,
        credential,
        upstream,
        tail,
    } = extra;
    let (lms, token_url) = (lms.url(), server.token_url());
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 2
{server_settings}

[admin]
listen = "127.0.0.1:0"
control = "127.0.0.1:0"

[credentials.app]
profile = "oauth2"
grant = "client_credentials"
auth_method = "client_secret_basic"
client_id = "app"
client_secret = "canary-client-secret"
token_url = "{token_url}"
{credential}

[upstreams.lms]
base_url = "{lms}"
credential = "app"
scopes = ["api:read"]
{upstream}

[[upstreams.lms.routes]]
name = "api"
methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
path = "/api/{{*rest}}"
scopes = ["api:read"]

[[upstreams.lms.routes]]
name = "grades"
methods = ["PUT"]
path = "/grades/{{id}}"
scopes = ["grades:write"]
{tail}
"#
    )
}

/// A bursar with the usual configuration, ready.
pub fn between(lms: &Peer, server: &AuthorizationServer) -> Bursar {
    Bursar::ready(&toml(lms, server, Extra::default()))
}

/// The same with an LMS that answers everything with 200, and an authorization server.
pub fn setup() -> (Peer, AuthorizationServer, Bursar) {
    let lms = Peer::start(|_| Reply::ok());
    let server = AuthorizationServer::start();
    let bursar = between(&lms, &server);
    (lms, server, bursar)
}
