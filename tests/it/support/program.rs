//! The built program, as a person or a kubelet runs it.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use super::{bursar::admin_get, http::PATIENCE};

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end, in an empty environment and an empty directory.
pub fn bursar(arguments: &[&str]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    bursar_in(directory.path(), &[], arguments)
}

pub fn bursar_in(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let output = command(directory, environment, arguments)
        .output()
        .expect("the program runs");
    Finished {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn command(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Writes a file that only we can read.
pub fn write_private(path: &Path, text: &str) -> PathBuf {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.to_owned()
}

/// A port that was free a moment ago: for the built program, which cannot tell a test which one it got.
///
/// Below the range from which the system gives ports to the connections of the other tests.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 8_000).unwrap();
    loop {
        let port = 20_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// `bursar run`, until it is stopped.
pub struct Daemon {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub control: SocketAddr,
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
}

impl Daemon {
    /// `toml` as made for an in-process bursar: its three ports of 0 are filled in, in the order proxy, admin, control.
    pub fn start(directory: &Path, toml: &str) -> Self {
        let [proxy, admin, control] = [free_port(), free_port(), free_port()];
        let mut text = toml.to_owned();
        // One that listens on Unix sockets has a port for its probes only.
        let ports = if toml.contains("\"unix:") {
            vec![admin]
        } else {
            vec![proxy, admin, control]
        };
        for address in ports {
            text = text.replacen("127.0.0.1:0\"", &format!("{address}\""), 1);
        }
        let file = write_private(&directory.join("bursar.toml"), &text);
        let mut child = command(directory, &[], &["run", "--config", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = [
            collect(child.stdout.take().unwrap()),
            collect(child.stderr.take().unwrap()),
        ];
        let mut daemon = Self {
            proxy,
            admin,
            control,
            child,
            output: Some(output),
        };
        daemon.until_started();
        daemon
    }

    fn until_started(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", self.take_output());
            }
            let up = std::net::TcpStream::connect(self.admin).is_ok();
            if up && admin_get(self.admin, "/startupz").status == 200 {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "it never started");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// SIGTERM, then the exit code and everything it wrote.
    pub fn stop(mut self) -> (i32, String) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.take_output())
    }

    fn take_output(&mut self) -> String {
        self.output
            .take()
            .into_iter()
            .flatten()
            .map(|thread| thread.join().unwrap())
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.output.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    })
}
