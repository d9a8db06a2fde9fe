//! A peer made by hand: plain sockets and threads, so that it can say exactly the bytes a test wants,
//! hang up in the middle, or say nothing. It stands in for the LMS and for the authorization server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::http::PATIENCE;

/// One request as the peer saw it on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The head, byte for byte, without the empty line.
    pub head: String,
    /// The body, its framing taken off.
    pub body: Vec<u8>,
    /// The body arrived in full.
    pub complete: bool,
}

impl Seen {
    pub fn request_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.request_line().split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.request_line().split(' ').nth(1).unwrap_or_default()
    }

    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the peer does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Writes these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes.
    BytesThenClose(Vec<u8>),
    /// Writes these bytes and resets the connection.
    BytesThenReset(Vec<u8>),
    /// Writes these bytes, and then nothing, until the other side closes.
    BytesThenSilence(Vec<u8>),
    /// Writes these bytes, which end HTTP, and then whatever it reads, until the other side ends its half. Waits a moment
    /// first, to see whether anything comes before its time.
    BytesThenEcho(Vec<u8>),
}

impl Reply {
    /// A complete answer with a body.
    pub fn new(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self::with_fields(status, &[("Content-Type", content_type)], body)
    }

    pub fn with_fields(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n",
            body.len()
        )
        .into_bytes();
        for (name, value) in fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub fn ok() -> Self {
        Self::new(200, "application/json", "{}")
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running peer. Its threads end with the connections; the listener with the process.
pub struct Peer {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    handler: Box<Handler>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Bytes that came behind a head before it was answered with [`Reply::BytesThenEcho`].
    early: AtomicUsize,
    /// Whether the body is read before the handler is asked.
    reads_body: bool,
}

impl Peer {
    pub fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(handler, true)
    }

    /// A peer that answers as soon as it has the head, and never reads a body.
    pub fn start_reading_heads_only(
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(handler, false)
    }

    fn start_with(
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
        reads_body: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            handler: Box::new(handler),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            early: AtomicUsize::new(0),
            reads_body,
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&accepting);
                state.connections.fetch_add(1, Ordering::SeqCst);
                thread::Builder::new()
                    .stack_size(128 * 1024)
                    .spawn(move || serve(stream, &state))
                    .unwrap();
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request reached the peer")
    }

    /// How many requests came.
    pub fn calls(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// How many bytes came too early for an echo.
    pub fn early_bytes(&self) -> usize {
        self.state.early.load(Ordering::SeqCst)
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    loop {
        let Some(mut seen) = read_head(&mut reader) else {
            return;
        };
        if state.reads_body {
            read_body(&mut reader, &mut seen);
        }
        state.seen.lock().unwrap().push(seen.clone());
        let reply = (state.handler)(&seen);
        if matches!(reply, Reply::BytesThenEcho(_)) {
            let early = early_bytes(&mut reader);
            state.early.fetch_add(early, Ordering::SeqCst);
        }
        let stream = reader.get_mut();
        match reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
            Reply::BytesThenClose(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Reply::BytesThenReset(bytes) => {
                let _ = stream.write_all(&bytes);
                reset(stream);
                return;
            }
            Reply::BytesThenSilence(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return;
            }
            Reply::BytesThenEcho(bytes) => {
                let _ = stream.write_all(&bytes);
                let mut out = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut out);
                let _ = out.write_all(b"end");
                return;
            }
        }
    }
}

/// Waits a moment for bytes, and says how many came.
fn early_bytes(reader: &mut BufReader<TcpStream>) -> usize {
    let moment = Duration::from_millis(200);
    reader.get_ref().set_read_timeout(Some(moment)).unwrap();
    let early = reader.fill_buf().map_or(0, <[u8]>::len);
    reader.get_ref().set_read_timeout(None).unwrap();
    early
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    Some(Seen {
        head: head.trim_end().to_owned(),
        body: Vec::new(),
        complete: true,
    })
}

fn read_body(reader: &mut BufReader<TcpStream>, seen: &mut Seen) {
    if seen.field("transfer-encoding").is_some() {
        seen.complete = read_chunks(reader, &mut seen.body).is_some();
        return;
    }
    let length = seen
        .field("content-length")
        .map_or(0, |text| text.parse::<u64>().unwrap());
    let _ = reader.take(length).read_to_end(&mut seen.body);
    seen.complete = seen.body.len() as u64 == length;
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let size = u64::from_str_radix(line.trim_end(), 16).ok()?;
        let before = body.len() as u64;
        reader.take(size).read_to_end(body).ok()?;
        let mut end = String::new();
        reader.read_line(&mut end).ok()?;
        if body.len() as u64 != before + size || end != "\r\n" {
            return None;
        }
        if size == 0 {
            return Some(());
        }
    }
}

fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    // Dropping the stream now sends RST.
}

/// Holds requests back until a test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    /// Blocks the peer's thread until the gate is opened.
    pub fn pass(&self) {
        let (lock, changed) = &*self.0;
        let mut state = lock.lock().unwrap();
        state.1 += 1;
        changed.notify_all();
        let _ = changed
            .wait_timeout_while(state, PATIENCE, |(open, _)| !*open)
            .unwrap();
    }

    pub fn open(&self) {
        let (lock, changed) = &*self.0;
        lock.lock().unwrap().0 = true;
        changed.notify_all();
    }

    /// Blocks the test until `count` requests have arrived at the gate.
    pub fn await_arrivals(&self, count: usize) {
        let (lock, changed) = &*self.0;
        let state = lock.lock().unwrap();
        let (state, _) = changed
            .wait_timeout_while(state, PATIENCE, |(_, arrived)| *arrived < count)
            .unwrap();
        assert!(
            state.1 >= count,
            "only {} of {count} requests arrived",
            state.1
        );
    }
}
