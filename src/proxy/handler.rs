//! The whole life of one request, top to bottom.

mod exchange;

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version, request::Parts, uri::PathAndQuery};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    arriving::Arriving,
    body::{self, READ_AHEAD, Upload},
    call::{self, Call},
    caller,
    connection::Answered,
    contain::contain,
    headers,
    hosts::Directory,
    in_flight::InFlight,
    pace::{Pacer, Turn},
    pseudo,
    record::{Record, Recorded},
    reject::Rejection,
    screen::{self, method_override},
    upgrade,
    upstream::UpstreamBody,
    worker::{Lane, Worker},
};
use crate::{
    code::Code,
    policy::{Permit, Policy, Route},
};
use exchange::{Answer, Exchange, Outgoing};

/// How long an application may take to deliver the rest of a body that nobody wants.
const DISCARD_WAIT: Duration = Duration::from_secs(1);

/// Answers one request: with what the LMS answers, or with a rejection. Whatever goes wrong, a panic
/// included, there is exactly one answer and one record of it. Without `has_room` there are too many at once already.
pub(super) async fn handle(
    worker: Rc<Worker>,
    directory: Rc<Directory>,
    in_flight: InFlight,
    request: Request<Incoming>,
    has_room: bool,
) -> Answered<Recorded<UpstreamBody>> {
    let (head, incoming) = request.into_parts();
    let waits_for_continue = screen::expects_continue(&head.headers);
    let is_stream = head.version == Version::HTTP_2;
    let reception = Rc::clone(in_flight.reception());
    let mut record = Record::begin(&worker, in_flight, &head.method);
    let mut incoming = (!incoming.is_end_stream()).then(|| Arriving::new(incoming, reception));
    let outcome = contain(forward(
        &worker,
        &directory,
        head,
        has_room,
        &mut incoming,
        &mut record,
    ))
    .await;
    let mut rejection = match outcome {
        Ok(Ok((lane, answer))) => return answer.deliver(lane, record),
        Ok(Err(rejection)) => rejection,
        Err(_panicked) => {
            tracing::error!(request_id = record.id().as_str(), "a request panicked");
            Rejection::new(Code::InternalError, "The request ran into a bug in bursar.").closing()
        }
    };
    Box::pin(settle(
        incoming,
        waits_for_continue,
        &mut rejection,
        &mut record,
    ))
    .await;
    if is_stream {
        // What was not read is reset with the stream (RFC 9113 section 8.1); the others go on.
        rejection.close = false;
    }
    record.rejected(&mut rejection);
    let response = rejection.response(record.id());
    record.answers(response.status());
    Answered::Response(response.map(|problem| Recorded::fixed(problem, record)))
}

/// The way of a request that nothing stands against. Every `?` is a rejection.
async fn forward<'a>(
    worker: &'a Worker,
    directory: &Directory,
    mut head: Parts,
    has_room: bool,
    incoming: &mut Option<Arriving>,
    record: &mut Record,
) -> Result<(&'a Lane, Answer), Rejection> {
    if !has_room {
        return Err(Rejection::too_many_streams());
    }
    if head.version == Version::HTTP_2 {
        pseudo::normalise(&mut head)?;
    }
    let had_fragment = record.in_flight().had_fragment();
    screen::screen(&head, worker.pseudonym.as_str(), had_fragment)?;
    caller::check(worker.proxy.server.caller_keys.as_ref(), &head.headers)?;

    let index = directory.choose(&head)?;
    let lane = worker.lanes.get(index).ok_or_else(no_lane)?;
    let upstream = &*lane.upstream;
    record.chose_upstream(index);

    let target = head.uri.path_and_query().ok_or_else(no_target)?;
    let policy = &upstream.policy;
    let (permit, call) = match policy.needs_form(&head.method, target) {
        false => (decide(policy, &head.method, target, record)?, None),
        true => {
            let (method, headers) = (&head.method, &mut head.headers);
            // Rare, and too large to make room for in every request.
            let deciding = Box::pin(call::decide(
                lane, method, target, headers, incoming, record,
            ));
            let (permit, call) = deciding.await?;
            (permit, Some(call))
        }
    };
    record.permitted(&permit);
    call::check_upload(&permit, &head.method, &head.headers)?;

    let switches = upgrade::is_asked(&head.headers);
    if switches {
        upgrade::check(&head, incoming.is_some(), permit.route())?;
    }
    check_announced_length(&head.headers, permit.route())?;
    let form = call.as_ref().map(Call::form).cloned();
    let upload = match call {
        None => read_body(incoming, permit.route(), lane, record).await?,
        Some(call) => {
            call.check_size(permit.route())?;
            call.into_upload()
        }
    };
    check_method_override(&head, &upload, lane, &permit)?;

    let broker = &*upstream.tokens_for(&permit).ok_or_else(no_tokens)?.broker;
    let claim = broker.claim(&permit, &head.headers)?;
    let token = record.waiting(broker.token(&claim)).await?;
    exchange::check_granted(&permit, &token, record)?;

    headers::rewrite_request(&mut head.headers, head.version, &lane.rules);
    if switches {
        upgrade::switch(&mut head.headers);
    }
    let turn = hold(&head.method, lane, record).await;
    let outgoing = Outgoing::new(head.method, &permit, head.headers);
    let exchange = Exchange {
        lane,
        broker,
        claim: &claim,
        record,
        clock: &*worker.proxy.clock,
        form,
    };
    let answer = exchange.send(outgoing, upload, token).await;
    if let Some(turn) = turn {
        turn.finish();
    }
    Ok((lane, answer?))
}

/// A GET stands in line while the LMS asks for fewer requests, where the upstream is paced. Should its token end meanwhile, it
/// gets another.
async fn hold(method: &Method, lane: &Lane, record: &mut Record) -> Option<Turn> {
    let pacer = lane.upstream.pacer.as_ref()?;
    if pacer.is_open() || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let series = record.series().quota.pace().clone();
    let longest = lane.upstream.params.response_timeout;
    // Rare, and too large to make room for in every request.
    let turn = Box::pin(Pacer::turn(pacer, longest, &series));
    record.waiting(turn).await
}

fn decide(
    policy: &Policy,
    method: &Method,
    target: &PathAndQuery,
    record: &mut Record,
) -> Result<Permit, Rejection> {
    policy
        .decide(method, target)
        .map_err(|denial| record.denial(denial))
}

/// A body that says itself that it is too large is refused before a byte of it is read.
fn check_announced_length(headers: &HeaderMap, route: &Route) -> Result<(), Rejection> {
    match (body::announced_length(headers), route.max_body) {
        (Some(length), Some(limit)) if length > limit => Err(Rejection::new(
            Code::BodyTooLarge,
            "The body is larger than the route allows.",
        )),
        _ => Ok(()),
    }
}

/// Reading makes hyper send `100 Continue` where it was asked for: not before the policy has said yes (R14).
async fn read_body(
    incoming: &mut Option<Arriving>,
    route: &Route,
    lane: &Lane,
    record: &mut Record,
) -> Result<Upload<Arriving>, Rejection> {
    let Some(body) = incoming.take_if(|body| !body.is_end_stream()) else {
        return Ok(Upload::Whole(Bytes::new()));
    };
    let idle = lane.upstream.params.idle_timeout;
    let reading = Box::pin(body::read_ahead(body, route.max_body, idle));
    let upload = record.waiting(reading).await?;
    if matches!(upload, Upload::Flowing { .. }) {
        // Whoever answers before all of it was read leaves the rest where it is.
        record.leaves_unread();
    }
    Ok(upload)
}

fn check_method_override(
    head: &Parts,
    upload: &Upload<Arriving>,
    lane: &Lane,
    permit: &Permit,
) -> Result<(), Rejection> {
    let catalogue = lane.upstream.params.catalogue;
    let Some(form) = method_override::form_of(catalogue, &head.method, &head.headers) else {
        return Ok(());
    };
    let (start, is_whole) = match upload {
        Upload::Whole(bytes) => (bytes, true),
        Upload::Flowing { prefix, .. } => (prefix, false),
    };
    method_override::check(
        form,
        start,
        is_whole,
        &lane.upstream.policy,
        permit.target(),
    )
}

/// What becomes of a body that nobody read (R11): it is dropped if it is small and comes soon. If not,
/// the connection (over HTTP/2 the stream) ends, and none of it is ever taken for a request.
async fn settle(
    incoming: Option<Arriving>,
    waits_for_continue: bool,
    rejection: &mut Rejection,
    record: &mut Record,
) {
    if let Some(mut body) = incoming.filter(|body| !body.is_end_stream()) {
        let is_small = body.size_hint().lower() <= READ_AHEAD as u64;
        let worth_reading = is_small && !waits_for_continue && !rejection.close;
        let is_gone = worth_reading
            && record
                .waiting(body::discard(&mut body, READ_AHEAD, DISCARD_WAIT))
                .await;
        rejection.close |= !is_gone;
    }
    rejection.close |= record.has_left_unread();
    if rejection.close {
        record.leaves_unread();
    }
}

fn no_lane() -> Rejection {
    Rejection::new(Code::InternalError, "The chosen upstream does not exist.")
}

fn no_tokens() -> Rejection {
    Rejection::new(
        Code::InternalError,
        "The credential of the route does not exist.",
    )
}

fn no_target() -> Rejection {
    Rejection::new(Code::PathAmbiguous, "The request target has no path.")
}
