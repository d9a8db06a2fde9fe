//! A company proxy made by hand: it takes CONNECT, and connects to wherever it was told to.

use std::{
    io::{BufRead, BufReader, Write, copy},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

pub struct ConnectProxy {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    through: Arc<Mutex<Vec<u8>>>,
}

impl ConnectProxy {
    /// Lets everybody through.
    pub fn start() -> Self {
        Self::answering("HTTP/1.1 200 Connection established\r\n\r\n")
    }

    /// Answers each CONNECT with these bytes; connects where they are a success.
    pub fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let through: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (seen, passed) = (Arc::clone(&heads), Arc::clone(&through));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, passed) = (Arc::clone(&seen), Arc::clone(&passed));
                thread::spawn(move || serve(stream, answer, &seen, &passed));
            }
        });
        Self {
            address,
            heads,
            through,
        }
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// What went through the tunnels towards the origins, as the proxy can read it.
    pub fn read(&self) -> String {
        String::from_utf8_lossy(&self.through.lock().unwrap()).into_owned()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &str,
    seen: &Mutex<Vec<String>>,
    passed: &Arc<Mutex<Vec<u8>>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(head);
    if stream.write_all(answer.as_bytes()).is_err() || !answer.contains(" 200 ") {
        return;
    }
    let Ok(origin) = TcpStream::connect(target.replace("localhost", "127.0.0.1")) else {
        return;
    };
    let (mut back_from, mut back_to) = (origin.try_clone().unwrap(), stream);
    thread::spawn(move || {
        let _ = copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    let mut forth = Noting(origin, Arc::clone(passed));
    let _ = copy(&mut reader, &mut forth);
    let _ = forth.0.shutdown(Shutdown::Both);
}

/// Notes what goes to the origin.
struct Noting(TcpStream, Arc<Mutex<Vec<u8>>>);

impl Write for Noting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.lock().unwrap().extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
