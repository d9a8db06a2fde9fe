//! Unix sockets: for applications and for control. The file's mode and the system's word about the peer decide who may.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::{process::Uid, thread::set_thread_res_uid};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::{Bursar, Extra, toml},
    peer::{Peer, Reply},
    program::{Daemon, bursar_in, write_private},
};

/// Users that exist nowhere.
const APPLICATION: u32 = 64_001;
const STRANGER: u32 = 64_002;

struct Setup {
    lms: Peer,
    server: AuthorizationServer,
    directory: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Others may pass: what keeps them away is the socket's own mode.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            lms: Peer::start(|_| Reply::ok()),
            server: AuthorizationServer::start(),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The usual configuration, with `settings` in `[server]`, on two sockets.
    fn configuration(&self, settings: &str) -> String {
        let extra = Extra {
            server: settings,
            ..Extra::default()
        };
        let [proxy, control] = ["proxy", "control"].map(|name| self.path(name));
        toml(&self.lms, &self.server, extra)
            .replacen(
                "listen = \"127.0.0.1:0\"",
                &format!("listen = \"unix:{}\"", proxy.display()),
                1,
            )
            .replace(
                "control = \"127.0.0.1:0\"",
                &format!("control = \"unix:{}\"", control.display()),
            )
    }

    fn start(&self, settings: &str) -> Bursar {
        Bursar::ready(&self.configuration(settings))
    }

    fn ask(
        &self,
        socket: &str,
        method: &str,
        target: &str,
        fields: &str,
    ) -> io::Result<(u16, String)> {
        ask(
            &self.path(socket),
            method,
            target,
            &format!("Host: localhost\r\n{fields}"),
        )
    }

    fn get(&self, target: &str) -> u16 {
        self.ask("proxy", "GET", target, "").unwrap().0
    }
}

/// One exchange on a connection of its own: status and everything behind it.
fn ask(socket: &Path, method: &str, target: &str, fields: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    // Whoever is refused at once may find it closed already; the answer is what counts.
    let _ = stream.write_all(
        format!("{method} {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").as_bytes(),
    );
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.expect("a status line"), text))
}

/// Runs `work` as another user. `None`: we are not root, and cannot.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let uid = Uid::from_raw(uid);
    Some(thread::scope(|scope| {
        let working = scope.spawn(|| {
            // Of this thread alone, and it ends with it.
            set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        working.join().unwrap()
    }))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_application_is_served_on_a_unix_socket_as_on_a_port() {
    let setup = Setup::new();
    let _bursar = setup.start("");
    assert_eq!(mode(&setup.path("proxy")), 0o600);
    for _ in 0..20 {
        assert_eq!(setup.get("/api/x"), 200);
    }
    assert_eq!(setup.get("/nowhere"), 403);
    assert_eq!(setup.lms.last().fields("authorization"), ["Bearer token-1"]);
}

#[test]
fn its_host_is_a_loopback_name_without_a_port_or_the_lms_own() {
    let setup = Setup::new();
    let _bursar = setup.start("hosts = [\"bursar\"]");
    let lms = setup.lms.address;
    let own = lms.to_string();
    for (host, status) in [
        ("localhost", 200),
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("[::1]", 200),
        ("bursar", 200),
        (own.as_str(), 200),
        ("localhost:8080", 421),
        ("evil.test", 421),
        ("", 400),
    ] {
        let fields = format!("Host: {host}\r\n");
        let answer = ask(&setup.path("proxy"), "GET", "/api/x", &fields).unwrap();
        assert_eq!(answer.0, status, "{host}: {}", answer.1);
    }
}

#[test]
fn the_file_goes_when_bursar_stops_and_one_that_was_left_behind_is_replaced() {
    let setup = Setup::new();
    drop(UnixListener::bind(setup.path("proxy")).unwrap());
    drop(UnixListener::bind(setup.path("control")).unwrap());
    let bursar = setup.start("");
    assert_eq!(setup.get("/api/x"), 200);
    bursar.shutdown();
    bursar.join();
    assert!(!setup.path("proxy").exists());
    assert!(!setup.path("control").exists());
}

#[test]
fn a_second_bursar_leaves_the_socket_of_a_living_one_alone() {
    let setup = Setup::new();
    let directory = setup.directory.path();
    let daemon = Daemon::start(directory, &setup.configuration(""));
    let file = write_private(
        &setup.path("second.toml"),
        &setup
            .configuration("")
            .replace("127.0.0.1:0\"", "127.0.0.1:1\""),
    );
    let second = bursar_in(directory, &[], &["run", "--config", file.to_str().unwrap()]);
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("another process listens"),
        "{}",
        second.stderr
    );
    assert!(second.stderr.contains("BUR4101"), "{}", second.stderr);
    assert_eq!(setup.get("/api/x"), 200);
    let (code, output) = daemon.stop();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("unix:"), "{output}");
    assert!(!setup.path("proxy").exists());
}

#[test]
fn other_users_are_kept_away_by_the_mode() {
    let setup = Setup::new();
    let _bursar = setup.start("");
    let Some(refused) = as_user(STRANGER, || {
        ["proxy", "control"].map(|socket| setup.ask(socket, "GET", "/", "").unwrap_err().kind())
    }) else {
        return;
    };
    assert_eq!(refused, [io::ErrorKind::PermissionDenied; 2]);
}

#[test]
fn where_the_mode_lets_everybody_in_allowed_uids_decides() {
    let setup = Setup::new();
    let bursar = setup.start(&format!(
        "socket_mode = \"0666\"\nallowed_uids = [{APPLICATION}]"
    ));
    assert_eq!(mode(&setup.path("proxy")), 0o666);
    assert_eq!(
        mode(&setup.path("control")),
        0o600,
        "that is another matter"
    );
    assert_eq!(setup.get("/api/x"), 200, "we may always");
    let ask = || setup.ask("proxy", "GET", "/api/x", "").unwrap();
    let Some(served) = as_user(APPLICATION, ask) else {
        return;
    };
    assert_eq!(served.0, 200);
    let before = setup.lms.calls();
    let (status, text) = as_user(STRANGER, ask).unwrap();
    assert_eq!(status, 401, "{text}");
    assert!(text.contains("client_unauthenticated"), "{text}");
    assert_eq!(setup.lms.calls(), before);
    assert_eq!(
        bursar.metric(r#"bursar_policy_decisions_total{decision="deny",reason="caller",route="_unmatched",upstream="_none"}"#),
        1.0
    );
}

#[test]
fn the_caller_key_is_asked_for_on_a_unix_socket_too() {
    let setup = Setup::new();
    let key = write_private(&setup.path("key"), "canary-caller-key\n");
    let _bursar = setup.start(&format!("caller_key_file = {key:?}"));
    assert_eq!(setup.get("/api/x"), 401);
    let shown = "Bursar-Caller: canary-caller-key\r\n";
    assert_eq!(setup.ask("proxy", "GET", "/api/x", shown).unwrap().0, 200);
}

#[test]
fn control_on_a_unix_socket_trusts_our_user_and_no_other() {
    let setup = Setup::new();
    let bursar = setup.start("");
    let control = setup.path("control");
    assert_eq!(
        setup.ask("control", "GET", "/api/v1/status", "").unwrap().0,
        200
    );
    let foreign = ask(&control, "GET", "/api/v1/status", "Host: evil.test\r\n").unwrap();
    assert_eq!(foreign.0, 421);
    let page = setup
        .ask("control", "POST", "/-/drain", "Origin: null\r\n")
        .unwrap();
    assert_eq!(page.0, 403);

    // Somebody has opened the file to everybody: they may read, and change nothing.
    fs::set_permissions(&control, fs::Permissions::from_mode(0o666)).unwrap();
    let other = as_user(STRANGER, || {
        ["GET", "POST"].map(|method| {
            let target = if method == "GET" {
                "/api/v1/status"
            } else {
                "/-/drain"
            };
            setup.ask("control", method, target, "").unwrap().0
        })
    });
    assert!(
        other.is_none_or(|statuses| statuses == [200, 404]),
        "{other:?}"
    );

    let drained = setup.ask("control", "POST", "/-/drain", "").unwrap();
    assert_eq!(drained.0, 200);
    bursar.join();
}

#[test]
fn the_commands_find_control_on_its_socket() {
    let setup = Setup::new();
    let directory = setup.directory.path();
    let daemon = Daemon::start(directory, &setup.configuration(""));
    let config = setup.path("bursar.toml");
    let status = bursar_in(
        directory,
        &[],
        &["status", "-o", "json", "--config", config.to_str().unwrap()],
    );
    assert_eq!(status.code, 0, "{}", status.said());
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let shown = |path: &Path| serde_json::json!(format!("unix:{}", path.display()));
    assert_eq!(status["listen"][0], shown(&setup.path("proxy")));
    assert_eq!(status["admin"]["control"], shown(&setup.path("control")));
    daemon.stop();
    let gone = bursar_in(
        directory,
        &[],
        &["status", "--config", config.to_str().unwrap()],
    );
    assert_eq!(gone.code, 1);
    assert!(
        gone.stderr.contains("nothing answers at unix:"),
        "{}",
        gone.stderr
    );
}
