//! An LMS that speaks HTTP/2 frame by frame (RFC 9113 section 4), and does exactly what it is told.

use std::collections::HashMap;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Lms, soon};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `:status: 200`, as HPACK writes it (RFC 7541 appendix A).
const STATUS_200: &[u8] = &[0x88];

pub(in super::super) const REFUSED_STREAM: u32 = 7;
pub(in super::super) const CANCEL: u32 = 8;
pub(in super::super) const NO_ERROR: u32 = 0;
pub(in super::super) const INTERNAL_ERROR: u32 = 2;
pub(in super::super) const HTTP_1_1_REQUIRED: u32 = 13;

/// SETTINGS_MAX_CONCURRENT_STREAMS.
pub(in super::super) const MAX_STREAMS: u16 = 3;
/// SETTINGS_INITIAL_WINDOW_SIZE.
pub(in super::super) const WINDOW: u16 = 4;

/// One connection.
pub(in super::super) struct FramePeer {
    stream: TcpStream,
    /// What has come of requests whose end has not.
    started: HashMap<u32, Vec<u8>>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Event {
    /// The head of a request; the block is HPACK.
    Head { stream: u32, block: Vec<u8> },
    /// A whole request, with its body.
    Request { stream: u32, body: Vec<u8> },
    /// A piece of a body that goes on.
    Piece { stream: u32, body: Vec<u8> },
    /// A stream was given up.
    Reset { stream: u32, code: u32 },
    /// The connection was given up, or has ended.
    End,
}

impl FramePeer {
    /// Takes the next connection.
    pub(in super::super) async fn accept(lms: &Lms, settings: &[(u16, u32)]) -> Self {
        let peer = lms.accept().await;
        Self::start(peer.stream, settings).await
    }

    pub(in super::super) async fn start(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        Self::try_start(stream, settings).await.expect("a preface")
    }

    /// `None`: nobody says a word.
    pub(in super::super) async fn try_start(
        stream: TcpStream,
        settings: &[(u16, u32)],
    ) -> Option<Self> {
        let mut peer = Self {
            stream,
            started: HashMap::new(),
        };
        let mut preface = vec![0; PREFACE.len()];
        soon(peer.stream.read_exact(&mut preface)).await.ok()?;
        assert_eq!(preface, PREFACE);
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        peer.write(SETTINGS, 0, 0, &payload).await;
        Some(peer)
    }

    /// The next thing that happens. What belongs to the connection itself is dealt with here.
    pub(in super::super) async fn event(&mut self) -> Event {
        loop {
            let mut head = [0; 9];
            if soon(self.stream.read_exact(&mut head)).await.is_err() {
                return Event::End;
            }
            let [a, b, c, kind, flags, d, e, f, g] = head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let stream = u32::from_be_bytes([d, e, f, g]);
            let mut payload = vec![0; length];
            if soon(self.stream.read_exact(&mut payload)).await.is_err() {
                return Event::End;
            }
            let is_end = flags & END_STREAM != 0;
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload).await,
                HEADERS if is_end => {
                    let body = Vec::new();
                    return Event::Request { stream, body };
                }
                HEADERS => {
                    self.started.insert(stream, Vec::new());
                    return Event::Head {
                        stream,
                        block: payload,
                    };
                }
                DATA => {
                    let body = self.started.entry(stream).or_default();
                    body.extend_from_slice(&payload);
                    let body = body.clone();
                    if is_end {
                        self.started.remove(&stream);
                        return Event::Request { stream, body };
                    }
                    return Event::Piece { stream, body };
                }
                RST_STREAM => {
                    let code = u32::from_be_bytes(payload.try_into().unwrap());
                    return Event::Reset { stream, code };
                }
                GOAWAY => return Event::End,
                _ => {}
            }
        }
    }

    /// The next whole request: its stream, and its body.
    pub(in super::super) async fn request(&mut self) -> (u32, Vec<u8>) {
        loop {
            match self.event().await {
                Event::Request { stream, body } => return (stream, body),
                Event::End => panic!("the connection has ended"),
                _ => {}
            }
        }
    }

    /// Waits until a stream is given up; with which code.
    pub(in super::super) async fn reset_of(&mut self, stream: u32) -> u32 {
        loop {
            match self.event().await {
                Event::Reset {
                    stream: reset,
                    code,
                } if reset == stream => return code,
                Event::End => panic!("the connection has ended"),
                _ => {}
            }
        }
    }

    /// Answers 200 with a body.
    pub(in super::super) async fn answer(&mut self, stream: u32, body: &[u8]) {
        self.head(stream, STATUS_200).await;
        self.data(stream, body, true).await;
    }

    /// The head of an answer 200 that goes on.
    pub(in super::super) async fn answer_head(&mut self, stream: u32) {
        self.head(stream, STATUS_200).await;
    }

    /// The head of an answer that goes on, in HPACK.
    pub(in super::super) async fn head(&mut self, stream: u32, block: &[u8]) {
        self.write(HEADERS, END_HEADERS, stream, block).await;
    }

    pub(in super::super) async fn data(&mut self, stream: u32, body: &[u8], is_end: bool) {
        let flags = if is_end { END_STREAM } else { 0 };
        self.write(DATA, flags, stream, body).await;
    }

    pub(in super::super) async fn reset(&mut self, stream: u32, code: u32) {
        self.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    /// Says that no request after `last` has been processed or will be.
    pub(in super::super) async fn go_away(&mut self, last: u32) {
        let payload = u64::from(last) << 32;
        self.write(GOAWAY, 0, 0, &payload.to_be_bytes()).await;
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        // bursar may have hung up.
        let _written = soon(self.stream.write_all(&frame)).await;
    }
}
