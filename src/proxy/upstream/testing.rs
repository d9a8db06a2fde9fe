//! Peers for the tests: an LMS on a raw socket, which does exactly what it is told, and an
//! application over memory.

pub(super) mod frames;

use std::{cell::RefCell, future::Future, rc::Rc, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus::{Registry, TextEncoder};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use super::{UpstreamClient, UpstreamFamilies};
use crate::{
    clock::ManualClock,
    dial::{Dialer, Origin, Way},
    policy::Catalogue,
    proxy::{Http2, UpstreamParams, arriving::Arriving},
};

/// Longer than anything here takes: whoever waits this long waits for ever.
const FOREVER: Duration = Duration::from_secs(20);

/// The application's end of its connection to bursar.
pub(super) type Application = DuplexStream;

/// An application has sent the head of a POST; `fields` ends with the empty line. What it writes
/// from now on is the body.
pub(super) async fn application(fields: &str) -> (Arriving, Application) {
    let (mut application, bursar) = tokio::io::duplex(1024);
    let (sender, receiver) = oneshot::channel();
    let sender = Rc::new(RefCell::new(Some(sender)));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.borrow_mut().take().unwrap();
        sender.send(request.into_body()).unwrap();
        std::future::pending::<Result<Response<Full<&[u8]>>, hyper::Error>>()
    });
    tokio::task::spawn_local(async move {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(bursar), service);
        drop(connection.await);
    });
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
    application.write_all(head.as_bytes()).await.unwrap();
    (
        Arriving::new(receiver.await.unwrap(), Rc::default()),
        application,
    )
}

/// The listening LMS, and the settings and metrics of the clients that use it.
pub(super) struct Lms {
    listener: TcpListener,
    registry: Registry,
    families: UpstreamFamilies,
    pub(super) clock: Arc<ManualClock>,
    pub(super) params: UpstreamParams,
}

impl Lms {
    /// Starts it, with settings under which nothing times out.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Registry::new();
        Self {
            listener,
            families: UpstreamFamilies::new(&registry).unwrap(),
            registry,
            clock: Arc::new(ManualClock::new()),
            params: UpstreamParams {
                name: Arc::from("lms"),
                dialer: Dialer {
                    origin: Origin {
                        tls: false,
                        host: Arc::from("127.0.0.1"),
                        port,
                    },
                    tls: None,
                    timeout: FOREVER,
                    way: Way::Direct,
                },
                hosts: vec![],
                listen: None,
                response_timeout: FOREVER,
                idle_timeout: FOREVER,
                pool_idle_timeout: FOREVER,
                max_connections: 4,
                http2: Http2::Auto,
                cookies: false,
                catalogue: Catalogue::None,
                pace: false,
            },
        }
    }

    /// A client that may open `params.max_connections`.
    pub(super) fn client(&self) -> Rc<UpstreamClient> {
        let metrics = self.families.upstream("lms");
        let max = self.params.max_connections;
        let clock = Arc::clone(&self.clock);
        Rc::new(UpstreamClient::new(&self.params, max, clock, &metrics))
    }

    pub(super) async fn accept(&self) -> Peer {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream }
    }

    /// Whether nobody is knocking right now.
    pub(super) async fn is_left_alone(&self) -> bool {
        timeout(Duration::from_millis(50), self.listener.accept())
            .await
            .is_err()
    }

    /// The value of the series `bursar_upstream_{series}`, whose labels beside `upstream` are
    /// written as `name{label="value"}`.
    pub(super) fn metric(&self, series: &str) -> String {
        let wanted = match series.split_once('}') {
            Some((labelled, _)) => format!("bursar_upstream_{labelled},upstream=\"lms\"}} "),
            None => format!("bursar_upstream_{series}{{upstream=\"lms\"}} "),
        };
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(wanted.as_str()))
            .unwrap_or_else(|| panic!("no {wanted} in\n{text}"))
            .to_owned()
    }

    /// How many exchanges failed as `kind`.
    pub(super) fn errors(&self, kind: &str) -> String {
        self.metric(&format!("errors_total{{kind=\"{kind}\"}}"))
    }

    /// How many requests were sent again for `reason`.
    pub(super) fn retries(&self, reason: &str) -> String {
        self.metric(&format!("retries_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until there are `idle` and `active` connections.
    pub(super) async fn settles_at(&self, idle: u32, active: u32) {
        let wanted = (idle.to_string(), active.to_string());
        soon(async {
            while wanted
                != (
                    self.metric("connections{state=\"idle\"}"),
                    self.metric("connections{state=\"active\"}"),
                )
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// One connection, as the LMS sees it.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
}

impl Peer {
    /// Reads a head, its empty line included.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.stream.read_u8()).await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn read(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        soon(self.stream.read_exact(&mut bytes)).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(super) async fn write(&mut self, bytes: &str) {
        soon(self.stream.write_all(bytes.as_bytes())).await.unwrap();
    }

    /// Answers the next request, of which only the head is read.
    pub(super) async fn answer(&mut self, answer: &str) {
        self.head().await;
        self.write(answer).await;
    }

    /// Waits until bursar has closed the connection; what it sent before that.
    pub(super) async fn closed(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _read = soon(self.stream.read_to_end(&mut rest)).await;
        String::from_utf8(rest).unwrap()
    }

    /// Ends the connection with a TCP reset.
    pub(super) fn reset(self) {
        let socket = SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Fails the test instead of hanging.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(FOREVER, future).await.expect("this takes for ever")
}
