//! Connections, and what becomes of a request: the fault that it meets, the answer, the note of both.

use std::{
    io,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::Socket;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    arrived::Arrived,
    cut::{cut, halved},
    endpoints,
    fault::{Effect, Place},
    instead::instead,
    record::Record,
    remote, reply,
    store::State,
};

/// What a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The LMS with its token endpoint.
    Lms,
    /// The server of pre-signed objects.
    Objects,
    /// Where faults are ordered.
    Control,
}

/// Where the token of a request is put by [`Effect::EchoToken`].
const ECHO: HeaderName = HeaderName::from_static("x-debug-authorization");

type AnyBody = BoxBody<Bytes, io::Error>;

/// Serves a listener until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    door: Door,
    state: Arc<State>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(serve_connection(stream, door, Arc::clone(&state)));
                }
                // Out of file descriptors, most likely: give it a moment instead of spinning.
                Err(_exhausted) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn serve_connection(stream: TcpStream, door: Door, state: Arc<State>) {
    // Without it small answers wait for the peer's delayed acknowledgements; no harm where it fails.
    let _ = stream.set_nodelay(true);
    // The same socket once more: hyper keeps the stream to itself.
    let socket = stream.as_fd().try_clone_to_owned().map(Socket::from);
    let socket = Arc::new(socket.ok());
    let service = service_fn(move |request| {
        let (state, socket) = (Arc::clone(&state), Arc::clone(&socket));
        async move {
            match door {
                Door::Control => Ok(remote::answer(&state, request).await.map(whole)),
                Door::Lms | Door::Objects => {
                    exchange(&state, door, request, socket.as_ref().as_ref()).await
                }
            }
        }
    });
    // A connection that ends badly is the peer's affair, or a fault that was ordered.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The whole life of a request. An error ends the connection without an answer.
async fn exchange(
    state: &State,
    door: Door,
    request: Request<Incoming>,
    socket: Option<&Socket>,
) -> io::Result<Response<AnyBody>> {
    let method = request.method().clone();
    // Without the query: its values are nobody's business, not even in a simulation.
    let path = request.uri().path().to_owned();
    let place = match door {
        Door::Objects => Place::Object,
        Door::Lms | Door::Control => endpoints::place(state, &method, &path),
    };
    state.count(|counters| match place {
        Place::Token => counters.token_requests += 1,
        Place::Authorize => counters.authorization_requests += 1,
        Place::Revoke => counters.revocations += 1,
        Place::Api | Place::Object => {}
    });
    let request = Arrived::read(state.lms, place, request).await;
    let fault = state.faults().take(place, &path);
    let name = fault.as_ref().map(|fault| fault.name());
    let id = note(state, place, &request, name.clone());
    let name = name.unwrap_or_default();
    let effect = match fault {
        Some(fault) => {
            state.count(|counters| counters.faults += 1);
            tokio::time::sleep(fault.delay).await;
            fault.effect
        }
        None => Effect::None,
    };
    match &effect {
        Effect::Hang => {
            tracing::info!("{method} {path}: hang");
            std::future::pending::<()>().await;
        }
        Effect::Close | Effect::Reset => {
            tracing::info!("{method} {path}: {name}");
            if let (Effect::Reset, Some(socket)) = (&effect, socket) {
                // What is closed with nothing lingering is reset.
                socket.set_linger(Some(Duration::ZERO))?;
            }
            return Err(io::Error::other("the connection ends, as ordered"));
        }
        _ => {}
    }

    let credential = credential(&request);
    let (mut response, violation) = match instead(state, place, request.uri(), &effect) {
        Some(response) => (response, None),
        None => endpoints::answer(state, place, request, &effect).await,
    };
    match (&effect, credential) {
        (Effect::EchoToken, Some(credential)) => {
            response.headers_mut().insert(ECHO, credential);
        }
        (Effect::AnswerTruncated, _) => response = halved(response).await,
        (Effect::AnswerLost(Some(status)), _) => response = reply::empty(*status),
        _ => {}
    }
    response.headers_mut().insert(header::DATE, date(state));
    let status = response.status();
    state.count(|counters| {
        match place {
            Place::Token | Place::Authorize | Place::Revoke => {}
            Place::Api => counters.count_api_call(status),
            Place::Object => counters.object_requests += 1,
        }
        counters.violations += u64::from(violation.is_some());
    });
    state.records().answered(id, status, violation);
    if let Some(violation) = violation {
        tracing::warn!("{method} {path}: {violation}");
    }
    if name.is_empty() {
        tracing::info!(status = status.as_u16(), "{method} {path}");
    } else {
        tracing::info!(status = status.as_u16(), fault = name, "{method} {path}");
    }
    Ok(match effect {
        Effect::AnswerLost(None) => {
            return Err(io::Error::other("the answer is lost, as ordered"));
        }
        Effect::CloseMidBody => cut(response).await.map(BodyExt::boxed),
        _ => whole_response(response),
    })
}

/// The time as the LMS has it, be it wrong.
fn date(state: &State) -> HeaderValue {
    let now = SystemTime::UNIX_EPOCH.checked_add(state.clock.now().wall);
    let text = httpdate::fmt_http_date(now.unwrap_or(SystemTime::UNIX_EPOCH));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// What a request shows: the field, or else the query, which is where signatures and the tokens of some LMSs are.
fn credential(request: &Arrived) -> Option<HeaderValue> {
    let field = request.fields().get(header::AUTHORIZATION).cloned();
    field.or_else(|| HeaderValue::from_str(request.uri().query()?).ok())
}

/// Notes what arrived; the id of the record.
fn note(state: &State, place: Place, request: &Arrived, fault: Option<String>) -> u64 {
    let store = state.store();
    let presented = request
        .refresh_token()
        .filter(|_| place == Place::Token)
        .map(|token| store.grants.number(token).unwrap_or(0));
    if let Some(number) = presented {
        state.count(|counters| counters.note_refresh_token(number, 1));
    }
    let (method, uri, fields) = (request.method(), request.uri(), request.fields());
    let record = Record::of(place, method, uri, fields, fault, &*store);
    state.records().add(record.presenting(presented))
}

fn whole(body: Full<Bytes>) -> AnyBody {
    body.map_err(|never| match never {}).boxed()
}

fn whole_response(response: Response<Full<Bytes>>) -> Response<AnyBody> {
    response.map(whole)
}
