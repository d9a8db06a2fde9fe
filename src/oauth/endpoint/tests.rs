mod peer;

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, DATE, RETRY_AFTER};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower_test::mock::{self, Mock};

use super::*;
use crate::{
    dial::{Dialer, Origin, Way},
    keys::{self, Algorithm, SigningKey},
    oauth::{AssertionParams, BasicEncoding, ClientAuth, Grant, OAuthError, ScopeSource},
    tls::{Trust, client_config},
};
use peer::Peer;

const NOW: Moment = Moment {
    wall: Duration::from_secs(1_767_225_600),
    boot: Duration::from_secs(1_000),
};

const SECRET: &str = "canary:s+e%c r/et~";

const TOKEN: &str = r#"{"access_token":"canary-token","token_type":"Bearer","expires_in":3600}"#;

fn basic() -> ClientAuth {
    ClientAuth::SecretBasic {
        secret: SECRET.to_owned().into(),
        encoding: BasicEncoding::Form,
    }
}

fn private_key_jwt() -> ClientAuth {
    let pem = keys::generate(Algorithm::Es256).unwrap();
    ClientAuth::PrivateKeyJwt {
        keys: keys::testing::ring_of(SigningKey::from_pem(&pem, None, None).unwrap()),
        assertion: AssertionParams {
            audience: "https://as.test/token".to_owned(),
            audience_as_array: false,
            lifetime: Duration::from_secs(60),
            typ: "JWT".to_owned(),
        },
    }
}

fn params(auth: ClientAuth, port: u16) -> ClientParams {
    let timeout = Duration::from_secs(5);
    ClientParams {
        client_id: "c:2 %".to_owned(),
        grant: Grant::ClientCredentials,
        auth,
        dialer: Dialer {
            origin: Origin {
                tls: false,
                host: "127.0.0.1".into(),
                port,
            },
            tls: None,
            timeout,
            way: Way::Direct,
        },
        token_path: "/core/connect/token?x=1".parse().unwrap(),
        token_params: Vec::new(),
        token_headers: HeaderMap::new(),
        timeout,
        dialect: Dialect::Standard,
        scope_source: ScopeSource::Answer,
        key_set: None,
    }
}

fn request(scopes: Option<ScopeSet>) -> TokenRequest {
    TokenRequest {
        scopes,
        subject: None,
        now: NOW,
        skew_seconds: 0.0,
        is_forced: false,
    }
}

async fn ask(endpoint: &TokenEndpoint) -> Result<Answer, Failure> {
    endpoint.request(request(None)).await
}

async fn ask_peer(peer: &Peer, timeout: Duration) -> Result<Answer, Failure> {
    let params = ClientParams {
        timeout,
        ..params(basic(), peer.port)
    };
    ask(&TokenEndpoint::new(params)).await
}

/// What comes of an AS that sends `bytes` and hangs up.
async fn cause_of_bytes(bytes: impl Into<Vec<u8>>) -> Cause {
    let peer = Peer::sending(bytes).await;
    ask_peer(&peer, Duration::from_secs(5))
        .await
        .unwrap_err()
        .cause
}

fn json_answer(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

// What goes out.

#[tokio::test]
async fn a_token_request_is_a_form_post_that_says_no_more_than_it_must() {
    let peer = Peer::sending(json_answer(TOKEN)).await;
    let params = ClientParams {
        token_params: vec![("resource".to_owned(), "a b&c=ü".to_owned())],
        ..params(basic(), peer.port)
    };
    let scopes = ScopeSet::parse("users:userdata:read core:*:*").unwrap();
    let answer = TokenEndpoint::new(params)
        .request(request(Some(scopes)))
        .await
        .unwrap();
    assert_eq!(answer.injection.secret(), b"canary-token");

    let port = peer.port;
    let received = peer.received().await;
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        "grant_type=client_credentials&scope=core%3A*%3A*+users%3Auserdata%3Aread&resource=a+b%26c%3D%C3%BC"
    );
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /core/connect/token?x=1 HTTP/1.1"));
    let fields: BTreeSet<String> = lines.map(str::to_ascii_lowercase).collect();
    let pair = "c%3A2+%25:canary%3As%2Be%25c+r%2Fet%7E";
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    let expected = [
        format!("host: 127.0.0.1:{port}"),
        "connection: close".to_owned(),
        "accept: application/json".to_owned(),
        "accept-encoding: identity".to_owned(),
        "content-type: application/x-www-form-urlencoded".to_owned(),
        format!("content-length: {}", body.len()),
        format!("user-agent: bursar/{}", env!("CARGO_PKG_VERSION")),
        format!("authorization: basic {}", pair.to_ascii_lowercase()),
    ];
    assert_eq!(fields, BTreeSet::from(expected));
}

type Handle = mock::Handle<Request<Full<Bytes>>, Response<Full<Bytes>>>;

fn mocked(params: ClientParams) -> (TokenEndpoint, Handle) {
    let (service, handle): (Mock<_, _>, _) = mock::pair();
    (TokenEndpoint::over(params, service), handle)
}

async fn fields(request: Request<Full<Bytes>>) -> Vec<(String, String)> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    url::form_urlencoded::parse(&body).into_owned().collect()
}

#[tokio::test(start_paused = true)]
async fn each_attempt_carries_an_assertion_of_its_own() {
    let (endpoint, mut handle) = mocked(params(private_key_jwt(), 443));
    let server = tokio::spawn(async move {
        let mut ids = BTreeSet::new();
        for _ in 0..3 {
            let (request, answer) = handle.next_request().await.unwrap();
            assert!(!request.headers().contains_key(AUTHORIZATION));
            let fields = fields(request).await;
            let (_, assertion) = fields
                .iter()
                .find(|(name, _)| name == "client_assertion")
                .unwrap();
            let claims = assertion.split('.').nth(1).unwrap();
            let claims: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
            ids.insert(claims["jti"].as_str().unwrap().to_owned());
            answer.send_error("the connection broke");
        }
        ids
    });
    for _ in 0..3 {
        let failure = ask(&endpoint).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Unreachable(Unreachable::Reset));
    }
    assert_eq!(server.await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn configured_fields_cannot_replace_what_the_exchange_hangs_on() {
    let configured = [
        ("host", "elsewhere.test"),
        ("authorization", "Basic Zm9v"),
        ("content-type", "text/plain"),
        ("user-agent", "school/1"),
        ("x-vendor-key", "canary"),
    ];
    let token_headers = configured
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let (endpoint, mut handle) = mocked(ClientParams {
        token_headers,
        ..params(basic(), 80)
    });
    let server = tokio::spawn(async move {
        let (request, answer) = handle.next_request().await.unwrap();
        answer.send_error("enough");
        request
    });
    drop(ask(&endpoint).await);
    let request = server.await.unwrap();
    let headers = request.headers();
    assert_eq!(headers[HOST], "127.0.0.1");
    assert_eq!(headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
    assert_ne!(headers[AUTHORIZATION], "Basic Zm9v");
    assert_eq!(headers[USER_AGENT], "school/1");
    assert_eq!(headers["x-vendor-key"], "canary");
    assert!(!format!("{request:?}").contains("canary"));
}

// What comes back.

#[tokio::test(start_paused = true)]
async fn skew_and_the_time_to_wait_are_read_off_a_refusal() {
    let (endpoint, mut handle) = mocked(params(basic(), 443));
    tokio::spawn(async move {
        let (_, answer) = handle.next_request().await.unwrap();
        let refusal = Response::builder()
            .status(429)
            .header(DATE, "Wed, 31 Dec 2025 23:59:00 GMT")
            .header(RETRY_AFTER, "Thu, 01 Jan 2026 00:00:00 GMT")
            .body(Full::default())
            .unwrap();
        answer.send_response(refusal);
    });
    let failure = ask(&endpoint).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Throttled(429));
    assert_eq!(failure.skew_seconds, Some(59.5));
    assert_eq!(failure.retry_after, Some(Duration::from_millis(59_500)));
}

#[tokio::test(start_paused = true)]
async fn an_as_that_never_answers_is_a_timeout() {
    let (endpoint, mut handle) = mocked(params(basic(), 443));
    let silent = tokio::spawn(async move { handle.next_request().await });
    let failure = ask(&endpoint).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Timeout(Duration::from_secs(5)));
    drop(silent);
}

#[tokio::test]
async fn requests_can_be_spawned() {
    let peer = Peer::sending(json_answer(TOKEN)).await;
    let endpoint = TokenEndpoint::new(params(basic(), peer.port));
    let asked = tokio::spawn(async move { ask(&endpoint).await });
    assert!(asked.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_chunked_answer_is_read() {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (start, end) = TOKEN.split_at(10);
    let answer = format!(
        "{head}{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n",
        start.len(),
        end.len()
    );
    let peer = Peer::sending(answer).await;
    assert!(ask_peer(&peer, Duration::from_secs(5)).await.is_ok());
}

#[tokio::test]
async fn an_as_that_hangs_up_is_unreachable() {
    let cut = json_answer(TOKEN);
    for bytes in [&b""[..], b"HTTP/1.1 200 O", &cut[..cut.len() - 5]] {
        assert_eq!(
            cause_of_bytes(bytes).await,
            Cause::Unreachable(Unreachable::Reset)
        );
    }
}

#[tokio::test]
async fn what_is_not_http_is_invalid() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        assert!(matches!(
            cause_of_bytes(bytes).await,
            Cause::InvalidResponse(_)
        ));
    }
}

#[tokio::test]
async fn answers_that_are_no_token_answers_are_invalid() {
    let html = "<html>Please log in to the network</html>";
    let html = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{html}",
        html.len()
    );
    let gzip = String::from_utf8(json_answer(TOKEN))
        .unwrap()
        .replace("Content-Type", "Content-Encoding: gzip\r\nContent-Type");
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    for answer in [
        html.into_bytes(),
        gzip.into_bytes(),
        json_answer(""),
        json_answer("{}"),
        json_answer(&deep),
        json_answer(r#"{"access_token":"a","access_token":"b","token_type":"bearer"}"#),
        // Cut where only the end of the connection ends the body.
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"access_tok".to_vec(),
    ] {
        assert!(matches!(
            cause_of_bytes(answer).await,
            Cause::InvalidResponse(_)
        ));
    }
}

#[tokio::test]
async fn it_is_known_whether_a_request_can_have_been_seen() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let refused = ask(&TokenEndpoint::new(params(basic(), port))).await;
    assert!(!refused.unwrap_err().is_sent);

    let cut_off = Peer::sending("").await;
    let failure = ask_peer(&cut_off, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable(Unreachable::Reset));
    assert!(failure.is_sent);
}

#[tokio::test]
async fn a_connection_that_is_never_made_has_sent_nothing_though_it_is_a_timeout() {
    // Its queue is full: the system answers no further connection.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let mut others = Vec::new();
    for _ in 0..8 {
        let other =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        other.set_nonblocking(true).unwrap();
        let _ = other.connect(&address);
        others.push(other);
    }
    let port = address.as_socket().unwrap().port();
    let mut params = params(basic(), port);
    params.timeout = Duration::from_millis(200);
    params.dialer.timeout = params.timeout;
    let failure = ask(&TokenEndpoint::new(params)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Timeout(Duration::from_millis(200)));
    assert!(!failure.is_sent);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Peer::sending(json_answer(TOKEN)).await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{}/\r\nContent-Length: 0\r\n\r\n",
            elsewhere.port
        );
        assert_eq!(cause_of_bytes(answer).await, Cause::Status(status));
    }
    assert!(!elsewhere.was_called());
}

#[tokio::test]
async fn an_endless_body_is_cut_at_its_limit() {
    let peer = Peer::sending_for_ever(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n",
        vec![b' '; 64 * 1024],
        Duration::ZERO,
    )
    .await;
    let failure = ask_peer(&peer, Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(failure.cause, ExchangeError::TooLarge.cause());
}

#[tokio::test]
async fn an_endless_head_is_cut_too() {
    let peer =
        Peer::sending_for_ever("HTTP/1.1 200 OK\r\nX: ", vec![b'x'; 1024], Duration::ZERO).await;
    let failure = ask_peer(&peer, Duration::from_secs(30)).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::InvalidResponse(_)));
}

#[tokio::test]
async fn the_time_limit_covers_a_body_that_only_drips() {
    for status in ["200 OK", "500 Oops"] {
        let peer = Peer::sending_for_ever(
            &format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n"),
            b" ".to_vec(),
            Duration::from_millis(5),
        )
        .await;
        let limit = Duration::from_millis(100);
        let failure = ask_peer(&peer, limit).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Timeout(limit));
        // The connection goes with the request; the peer cannot write any more.
        peer.hung_up_on().await;
    }
}

#[tokio::test]
async fn the_status_counts_even_where_the_body_is_too_large() {
    let peer = Peer::sending_for_ever(
        "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n",
        vec![b' '; 64 * 1024],
        Duration::ZERO,
    )
    .await;
    let failure = ask_peer(&peer, Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Throttled(503));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut closed = params(basic(), listener.local_addr().unwrap().port());
    drop(listener);
    assert_eq!(
        ask(&TokenEndpoint::new(closed.clone()))
            .await
            .unwrap_err()
            .cause,
        Cause::Unreachable(Unreachable::Connect)
    );
    // Longer than any name can be, so that no resolver is asked for it.
    closed.dialer.origin.host = "a".repeat(300).into();
    let failure = ask(&TokenEndpoint::new(closed)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable(Unreachable::Dns));
}

#[tokio::test]
async fn nothing_of_a_refusal_but_its_code_is_kept() {
    let body = r#"{"error":"invalid_client","error_description":"canary","error_uri":"canary"}"#;
    let answer = format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let peer = Peer::sending(answer).await;
    let failure = ask_peer(&peer, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Rejected(OAuthError::InvalidClient));
    assert!(!format!("{failure} {failure:?}").contains("canary"));
}

// TLS.

async fn ask_over_tls(host: &str, peer: &Peer, trust: &Trust<'_>) -> Result<Answer, Failure> {
    let mut params = params(basic(), peer.port);
    params.dialer.origin = Origin {
        tls: true,
        host: host.into(),
        port: peer.port,
    };
    params.dialer.tls = Some(client_config(trust).unwrap());
    ask(&TokenEndpoint::new(params)).await
}

#[tokio::test]
async fn a_verified_as_is_spoken_to() {
    let peer = Peer::secured("localhost", json_answer(TOKEN)).await;
    let trust = Trust {
        ca_file: peer.ca_file(),
        ca_only: true,
        identity: None,
    };
    assert!(ask_over_tls("localhost", &peer, &trust).await.is_ok());
    assert!(peer.received().await.starts_with("POST "));
}

#[tokio::test]
async fn an_as_that_cannot_be_verified_gets_no_byte_of_the_request() {
    let wrong_host = Peer::secured("as.example.org", json_answer(TOKEN)).await;
    let trust = Trust {
        ca_file: wrong_host.ca_file(),
        ca_only: true,
        identity: None,
    };
    let failure = ask_over_tls("localhost", &wrong_host, &trust)
        .await
        .unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable(Unreachable::Tls));
    assert_eq!(wrong_host.received().await, "");

    let unknown_ca = Peer::secured("localhost", json_answer(TOKEN)).await;
    let failure = ask_over_tls("localhost", &unknown_ca, &Trust::default())
        .await
        .unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable(Unreachable::Tls));
    assert_eq!(unknown_ca.received().await, "");
}
