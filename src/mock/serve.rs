//! Connections, and what becomes of a request: the fault that it meets, the answer, the note of both.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use socket2::Socket;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Lms, api, dap,
    fault::{Effect, Place},
    record::Record,
    remote, reply,
    store::State,
    token_endpoint,
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

/// What has been written of half an answer gets this long to leave before the connection ends.
const HALF_TIME: Duration = Duration::from_millis(50);

/// Larger than anything that a client should read from a token endpoint.
const OVERSIZE: usize = 1024 * 1024;

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
        _ if path == state.lms.token_path() => Place::Token,
        _ => Place::Api,
    };
    if place == Place::Token {
        state.count(|counters| counters.token_requests += 1);
    }
    let fault = state.faults().take(place, &path);
    let name = fault.as_ref().map(|fault| fault.name());
    let id = {
        let (uri, fields) = (request.uri(), request.headers());
        let record = Record::of(place, &method, uri, fields, name.clone(), &*state.store());
        state.records().add(record)
    };
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

    let credential = request.headers().get(header::AUTHORIZATION).cloned();
    let (mut response, violation) = match instead(state, place, &effect) {
        Some(response) => (response, None),
        None => answer(state, place, request, &effect).await,
    };
    if let (Effect::EchoToken, Some(credential)) = (&effect, credential) {
        response.headers_mut().insert(ECHO, credential);
    }
    let status = response.status();
    state.count(|counters| {
        match place {
            Place::Token => {}
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
        Effect::CloseMidBody => cut(response).await,
        _ => whole_response(response),
    })
}

/// The answer, and what the client did that it must never do.
async fn answer(
    state: &State,
    place: Place,
    request: Request<Incoming>,
    effect: &Effect,
) -> (Response<Full<Bytes>>, Option<&'static str>) {
    match (place, state.lms) {
        (Place::Token, _) => (token_endpoint::answer(state, request, effect).await, None),
        (Place::Api, Lms::Brightspace) => (api::answer(state, request).await, None),
        (Place::Api, Lms::Dap) => (dap::answer(state, request).await, None),
        (Place::Object, _) => {
            let (head, _body) = request.into_parts();
            dap::objects::answer(state, &head)
        }
    }
}

/// What a fault answers in place of the service.
fn instead(state: &State, place: Place, effect: &Effect) -> Option<Response<Full<Bytes>>> {
    let json = "application/json";
    Some(match effect {
        Effect::Status(status, retry_after) => {
            let body = json!({ "message": "a fault of bursar mock" });
            with_retry_after(reply::json(*status, json, &body), retry_after.clone())
        }
        Effect::Throttle(status, retry_after) => {
            let mut response = match (place, state.lms) {
                (Place::Api, Lms::Dap) => dap::throttled(None),
                _ => reply::empty(StatusCode::TOO_MANY_REQUESTS),
            };
            *response.status_mut() = *status;
            with_retry_after(response, retry_after.clone())
        }
        Effect::Body(content_type, body) => reply::text(StatusCode::OK, content_type, *body),
        Effect::Redirect(location) => {
            let mut response = reply::empty(StatusCode::FOUND);
            response
                .headers_mut()
                .insert(header::LOCATION, location.clone());
            response
        }
        Effect::Oversize => {
            let padding = " ".repeat(OVERSIZE);
            let body = format!("{{\"access_token\":\"x\",\"token_type\":\"Bearer\"{padding}}}");
            reply::text(StatusCode::OK, json, body)
        }
        Effect::OauthError(error) => {
            let status = match error.as_str() {
                "invalid_client" => StatusCode::UNAUTHORIZED,
                _ => StatusCode::BAD_REQUEST,
            };
            let body = json!({ "error": error, "error_description": "a fault of bursar mock" });
            reply::json(status, json, &body)
        }
        Effect::Unauthorized => match state.lms {
            Lms::Brightspace => api::unauthorized(),
            Lms::Dap => dap::unauthorized(),
        },
        Effect::Forbidden => match state.lms {
            Lms::Brightspace => api::forbidden(),
            Lms::Dap => dap::forbidden(),
        },
        Effect::None
        | Effect::Hang
        | Effect::Close
        | Effect::Reset
        | Effect::CloseMidBody
        | Effect::ExpiresIn(_)
        | Effect::Lifetime(_)
        | Effect::Scope(_)
        | Effect::EchoToken => return None,
    })
}

fn with_retry_after(
    mut response: Response<Full<Bytes>>,
    value: Option<HeaderValue>,
) -> Response<Full<Bytes>> {
    if let Some(value) = value {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn whole(body: Full<Bytes>) -> AnyBody {
    body.map_err(|never| match never {}).boxed()
}

fn whole_response(response: Response<Full<Bytes>>) -> Response<AnyBody> {
    response.map(whole)
}

/// The answer as it is, of which only the first half arrives before the connection ends.
async fn cut(response: Response<Full<Bytes>>) -> Response<AnyBody> {
    let (mut head, body) = response.into_parts();
    // A body that is there already cannot fail.
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let promised = body.len().max(2);
    set_length(&mut head.headers, promised);
    let half = body.slice(..body.len() / 2);
    let cut = Cut {
        half: Some(half),
        end: Box::pin(tokio::time::sleep(HALF_TIME)),
    };
    Response::from_parts(head, cut.boxed())
}

fn set_length(fields: &mut HeaderMap, length: usize) {
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// A body that breaks off.
struct Cut {
    half: Option<Bytes>,
    end: Pin<Box<Sleep>>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(half) = self.half.take()
            && !half.is_empty()
        {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        self.end
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(io::Error::other("the answer breaks off, as ordered"))))
    }
}
