//! A raw HTTP/1.1 client: it sends exactly the bytes it is given, and reads what comes back.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No exchange in the suite takes this long unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One parsed answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended as its framing said it would.
    pub complete: bool,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `code` of a rejection; empty for anything else.
    pub fn code(&self) -> String {
        if self.field("content-type") != Some("application/problem+json") {
            return String::new();
        }
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// One connection from the application.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the proxy reads");
    }

    /// For requests that the proxy may refuse, and close on, before they are sent in full.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Reads one final answer; interim ones are skipped.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET").expect("an answer")
    }

    /// As [`answer`](Self::answer), for a request whose method decides about the body.
    pub fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        loop {
            let answer = self.read_one(method)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    /// Reads the next answer, interim or final.
    pub fn read_one(&mut self, method: &str) -> io::Result<Answer> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("status line {line:?}"));
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("field line {line:?}"));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            fields,
            body: Vec::new(),
            complete: true,
        };
        let bodiless = status < 200 || status == 204 || status == 304 || method == "HEAD";
        if !bodiless {
            answer.complete = self.read_body(&mut answer)?;
        }
        Ok(answer)
    }

    fn read_body(&mut self, answer: &mut Answer) -> io::Result<bool> {
        if answer.field("transfer-encoding").is_some() {
            return self.read_chunks(&mut answer.body);
        }
        let Some(length) = answer
            .field("content-length")
            .map(|text| text.parse::<u64>().unwrap())
        else {
            self.reader.read_to_end(&mut answer.body)?;
            return Ok(true);
        };
        let read = (&mut self.reader)
            .take(length)
            .read_to_end(&mut answer.body);
        Ok(read.is_ok() && answer.body.len() as u64 == length)
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
                return Ok(false);
            }
            let size = u64::from_str_radix(line.trim_end(), 16)
                .unwrap_or_else(|_| panic!("chunk size {line:?}"));
            let before = body.len() as u64;
            if (&mut self.reader).take(size).read_to_end(body).is_err()
                || body.len() as u64 != before + size
            {
                return Ok(false);
            }
            loop {
                let mut line = String::new();
                if self.reader.read_line(&mut line)? == 0 {
                    return Ok(false);
                }
                if line == "\r\n" {
                    break;
                }
            }
            if size == 0 {
                return Ok(true);
            }
        }
    }

    /// Reads exactly so many bytes.
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("the bytes come");
        bytes
    }

    /// Whether the proxy closes the connection (within the suite's patience) without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Everything that comes until the proxy closes.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// Ends the application's half of the connection.
    pub fn half_close(&self) {
        self.reader
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

/// One exchange on a connection of its own.
pub fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let bytes = bytes.as_ref();
    let method = bytes
        .split(|byte| *byte == b' ')
        .next()
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    let mut connection = Connection::open(address);
    // An early rejection may close before the whole request is written; the answer is what counts.
    let _ = connection.try_send(bytes);
    connection.answer_to(&method).expect("an answer")
}
