//! What passes between bursar and the LMS for one permitted request.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use crate::{
    clock::Clock,
    code::Code,
    id_key::{self, Complaint, IdKey, Signer},
    oauth::Injection,
    policy::{Denial, Permit},
    proxy::{
        arriving::Arriving,
        body::{self, Upload},
        connection::Answered,
        headers,
        inject::{self, Signed, Slot},
        moodle,
        quota::{Quota, Wait},
        record::{Record, Recorded},
        reject::Rejection,
        request_id,
        tunnel::Tunnel,
        unauthorized, upgrade,
        upstream::{RequestBody, RetryReason, UpstreamBody, UpstreamError},
        worker::Lane,
    },
    token::{AccessToken, Broker, Claim},
};

/// A change of the LMS's clock that is worth a line, in seconds: an LMS that cannot be satisfied must not fill the log.
const TELLING_SKEW: f64 = 5.0;

/// How long the start of a refusal's body is waited for.
const PEEK_WAIT: Duration = Duration::from_secs(2);

/// A permitted request on its way to the LMS.
pub(super) struct Exchange<'a> {
    pub(super) lane: &'a Lane,
    pub(super) broker: &'a Broker,
    pub(super) claim: &'a Claim<'a>,
    pub(super) record: &'a mut Record,
    pub(super) clock: &'a dyn Clock,
    /// The form that takes the token, if it is one that goes into a parameter.
    pub(super) form: Option<Bytes>,
}

impl Exchange<'_> {
    /// Sends the request, and where the LMS says that the token is dead, sees whether another helps (R59).
    pub(super) async fn send(
        mut self,
        outgoing: Outgoing,
        upload: Upload<Arriving>,
        token: Arc<AccessToken>,
    ) -> Result<Answer, Rejection> {
        let (body, spare) = match upload {
            Upload::Whole(bytes) => {
                let spare = (outgoing.clone(), bytes.clone());
                (RequestBody::buffered(bytes), Some(spare))
            }
            Upload::Flowing { prefix, rest } => {
                let limit = self.claim.permit().route().max_body;
                let idle = self.lane.upstream.params.idle_timeout;
                let body = RequestBody::streaming(prefix, rest, limit, idle);
                (body, None)
            }
        };
        let answer = self.attempt(outgoing, body, token, spare.as_ref()).await?;
        // Rare, and too large to make room for in every request.
        match (answer.response.status(), &answer.token.injection) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Injection::Signature(signer)) => {
                let signer = Arc::clone(signer);
                Box::pin(self.correct(answer, &signer, spare.as_ref())).await
            }
            (StatusCode::UNAUTHORIZED, _) => Box::pin(self.heal(answer, spare.as_ref())).await,
            (status, Injection::Parameter { .. })
                if moodle::may_be_exception(status, answer.response.headers()) =>
            {
                Box::pin(self.look_for_exception(answer)).await
            }
            _ => Ok(answer),
        }
    }

    /// A 401. One replay with a fresh token, if the token is what the LMS objects to and the request is
    /// at hand; otherwise the application gets the 401. A second one it gets in any case.
    async fn heal(
        mut self,
        mut answer: Answer,
        spare: Option<&(Outgoing, Bytes)>,
    ) -> Result<Answer, Rejection> {
        let (broker, claim) = (self.broker, self.claim);
        if !answer.says_dead_token(self.lane, self.record).await? {
            return Ok(answer);
        }
        let Some((outgoing, bytes)) = spare.cloned() else {
            broker.note_401(claim, &answer.token);
            return Ok(answer);
        };
        let renewing = broker.token_after_401(claim, &answer.token);
        let Some(fresh) = self.record.waiting(renewing).await else {
            return Ok(answer);
        };
        check_granted(claim.permit(), &fresh, self.record)?;
        self.lane.metrics.retried(RetryReason::Unauthorized);
        // Frees its connection, for the replay among others.
        drop(answer);
        let body = RequestBody::buffered(bytes);
        self.attempt(outgoing, body, fresh, spare).await
    }

    /// A 403 for a signed request, or a 401, which some take it for. Where the LMS says that the time is wrong, it says what it
    /// should be: one replay with that, if the request is at hand. That it refuses the keys no repetition cures.
    async fn correct(
        mut self,
        mut answer: Answer,
        signer: &Signer,
        spare: Option<&(Outgoing, Bytes)>,
    ) -> Result<Answer, Rejection> {
        let is_forbidden = answer.response.status() == StatusCode::FORBIDDEN;
        let complaint = match is_forbidden {
            true => answer.complaint(self.record).await?,
            false => Some(Complaint::InvalidToken),
        };
        let server = match complaint {
            None => return Ok(answer),
            Some(Complaint::TimestampOutOfRange(server)) => server,
            Some(Complaint::InvalidToken) => {
                if is_forbidden {
                    // As a 401 is counted.
                    self.record.series().unauthorized.inc();
                }
                self.note_refusal(signer, &answer.token);
                return Ok(answer);
            }
        };
        let is_learned = self.learn_skew(signer, server);
        let Some((outgoing, bytes)) = spare.cloned().filter(|_| is_learned) else {
            return Ok(answer);
        };
        self.lane.metrics.retried(RetryReason::Clock);
        let token = Arc::clone(&answer.token);
        // Frees its connection, for the replay among others.
        drop(answer);
        let body = RequestBody::buffered(bytes);
        self.attempt(outgoing, body, token, spare).await
    }

    fn note_refusal(&self, signer: &Signer, token: &AccessToken) {
        if signer.note(true) {
            tracing::warn!(
                upstream = &*self.lane.upstream.params.name,
                app_id = signer.app().id(),
                user_id = signer.user().map(IdKey::id),
                "the LMS refuses our signature (Invalid token): a key is wrong, or the user's has expired or been revoked; \
                 the answers pass to the application"
            );
        }
        if signer.is_dead() {
            // Where a login has brought the key, this asks for another one.
            self.broker.note_401(self.claim, token);
        }
    }

    /// Whether another attempt would be signed by another time.
    fn learn_skew(&self, signer: &Signer, server: Duration) -> bool {
        let known = signer.skew().seconds();
        let Some(seconds_ahead) = signer.skew().learn(server, self.broker.now()) else {
            return false;
        };
        self.broker.learn_skew(-seconds_ahead);
        if (seconds_ahead - known).abs() > TELLING_SKEW {
            tracing::info!(
                upstream = &*self.lane.upstream.params.name,
                seconds_ahead,
                "the LMS's clock differs from ours; requests are signed by its time from now on"
            );
        }
        true
    }

    /// Moodle says that a token is dead with status 200. It is counted and said, and the answer passes: nobody but a person can
    /// make another token.
    async fn look_for_exception(self, mut answer: Answer) -> Result<Answer, Rejection> {
        if !answer.holds_dead_token_exception(self.record).await? {
            return Ok(answer);
        }
        self.record.series().unauthorized.inc();
        if let Some(withheld) = self.lane.dead_tokens.take(self.clock.now().boot) {
            let upstream = &self.lane.upstream;
            let route = self.claim.permit().route();
            tracing::warn!(
                upstream = &*upstream.params.name,
                credential = &**upstream.credential(route.credential),
                lines_withheld = Some(withheld).filter(|lines| *lines > 0),
                "Moodle does not take the token (errorcode invalidtoken): it has expired or was deleted; make a new one (Site \
                 administration > Server > Web services > Manage tokens) and write it into the token_file, which is read again \
                 by itself"
            );
        }
        Ok(answer)
    }

    async fn attempt(
        &mut self,
        outgoing: Outgoing,
        body: RequestBody,
        mut token: Arc<AccessToken>,
        spare: Option<&(Outgoing, Bytes)>,
    ) -> Result<Answer, Rejection> {
        let (broker, claim) = (self.broker, self.claim);
        let permit = claim.permit();
        self.record.uses_token(token.generation);
        let mut reported = None;
        let mut signed = None;
        let slot = Slot {
            target: permit.target(),
            form: self.form.as_ref(),
            parameter: permit.token_parameter(),
        };
        let authorize = async |request: &mut Request<RequestBody>| {
            // It was usable when it was handed out. Since then the request may have stood in line for
            // a connection, or been lost by one that was silent for long: what leaves now must still be.
            if !broker.is_usable(&token) {
                // Rare, and too large to make room for in every request.
                token = Box::pin(broker.token(claim)).await?;
                reported = not_granted(permit, &token)?;
            }
            inject::inject(request, slot, &token, || broker.now())
                .map(|target| signed = target)
                .map_err(|_| not_injected())
        };
        let again = || {
            let (outgoing, bytes) = spare.cloned()?;
            Some(outgoing.with(RequestBody::buffered(bytes)))
        };
        let response = {
            let request = outgoing.with(body);
            // Pinned here: handed over by value it would take its room twice.
            let sending = pin!(self.lane.client.send_with(request, authorize, again));
            self.record.waiting_for_lms(sending).await?
        };
        self.record.uses_token(token.generation);
        if let Some(denial) = reported {
            self.record.reported(&denial);
        }
        let catalogue = self.lane.upstream.params.catalogue;
        // By its head alone: this comes with every answer, and most of what says otherwise says it there.
        if response.status() == StatusCode::UNAUTHORIZED
            && unauthorized::is_dead_token(catalogue, response.headers(), &[])
        {
            self.record.series().unauthorized.inc();
        }
        self.note_quota(&response);
        Ok(Answer {
            response,
            start: Bytes::new(),
            token,
            signed,
        })
    }

    /// What the answer says of the LMS's quota.
    fn note_quota(&self, response: &Response<UpstreamBody>) {
        let params = &self.lane.upstream.params;
        let (status, headers) = (response.status(), response.headers());
        let quota = Quota::read(params.catalogue, status, headers, self.clock);
        self.record.series().quota.note(&quota, self.clock);
        if let (Some(pacer), Some(wait)) = (&self.lane.upstream.pacer, quota.wait())
            && pacer.close(wait)
        {
            tracing::info!(
                upstream = &*params.name,
                seconds = match wait {
                    Wait::For(wait) => Some(wait.as_secs_f64()),
                    Wait::ForAWhile => None,
                },
                "the LMS asks for fewer requests; GETs are held"
            );
        }
    }
}

fn not_injected() -> Rejection {
    Rejection::new(
        Code::InternalError,
        "The credential could not be put on the request.",
    )
}

/// Refuses what the AS did not grant: it knows better than we which scopes the token has. In report mode it is noted.
pub(super) fn check_granted(
    permit: &Permit,
    token: &AccessToken,
    record: &mut Record,
) -> Result<(), Rejection> {
    if let Some(denial) = not_granted(permit, token)? {
        record.reported(&denial);
    }
    Ok(())
}

fn not_granted(permit: &Permit, token: &AccessToken) -> Result<Option<Denial>, Denial> {
    match &token.granted {
        Some(granted) => permit.check_granted(granted),
        None => Ok(None),
    }
}

/// What goes to the LMS, but for the credential and the body.
#[derive(Clone)]
pub(super) struct Outgoing {
    method: Method,
    target: Uri,
    headers: HeaderMap,
}

impl Outgoing {
    /// The target is exactly what the policy matched.
    pub(super) fn new(method: Method, permit: &Permit, headers: HeaderMap) -> Self {
        Self {
            method,
            target: Uri::from(permit.target().clone()),
            headers,
        }
    }

    fn with(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }
}

/// What the LMS answered.
pub(super) struct Answer {
    response: Response<UpstreamBody>,
    /// What has been read of the body.
    start: Bytes,
    /// What the request was sent with.
    token: Arc<AccessToken>,
    signed: Signed,
}

impl Answer {
    /// What the LMS says of a signature in a 403, if it says anything of it.
    async fn complaint(&mut self, record: &mut Record) -> Result<Option<Complaint>, UpstreamError> {
        let peeking = body::peek(self.response.body_mut(), id_key::MAX_COMPLAINT, PEEK_WAIT);
        let (start, has_ended) = record.waiting_for_lms(peeking).await?;
        self.start = start;
        Ok(Complaint::read(&self.start).filter(|_| has_ended))
    }

    /// Reads on only where the first bytes are those of an exception.
    async fn holds_dead_token_exception(
        &mut self,
        record: &mut Record,
    ) -> Result<bool, UpstreamError> {
        for enough in [moodle::ENOUGH_OF_START, moodle::ENOUGH_OF_BODY] {
            let missing = enough.saturating_sub(self.start.len());
            let peeking = body::peek(self.response.body_mut(), missing, PEEK_WAIT);
            let (more, _ended) = record.waiting_for_lms(peeking).await?;
            self.start = match self.start.is_empty() {
                true => more,
                false => [&self.start[..], &more[..]].concat().into(),
            };
            if !moodle::starts_exception(&self.start) {
                return Ok(false);
            }
        }
        Ok(moodle::says_dead_token(&self.start))
    }

    /// Reads as much of a 401 as it takes to tell. Mostly that is all of it.
    async fn says_dead_token(
        &mut self,
        lane: &Lane,
        record: &mut Record,
    ) -> Result<bool, UpstreamError> {
        let peeking = body::peek(
            self.response.body_mut(),
            unauthorized::ENOUGH_OF_BODY,
            PEEK_WAIT,
        );
        let (start, _ended) = record.waiting_for_lms(peeking).await?;
        self.start = start;
        let catalogue = lane.upstream.params.catalogue;
        Ok(unauthorized::is_dead_token(
            catalogue,
            self.response.headers(),
            &self.start,
        ))
    }

    /// Makes it our own answer. Status and body stay as they are.
    pub(super) fn deliver(
        self,
        lane: &Lane,
        mut record: Record,
    ) -> Answered<Recorded<UpstreamBody>> {
        let Self {
            mut response,
            start,
            token,
            signed,
        } = self;
        let status = response.status();
        if let Injection::Signature(signer) = &token.injection
            && status.is_success()
            && signer.note(false)
        {
            tracing::info!(
                upstream = &*lane.upstream.params.name,
                "the LMS takes our signature again"
            );
        }
        let headers = response.headers_mut();
        let reflected = inject::strip_reflections(headers, &token, &signed);
        if reflected > 0 {
            tracing::warn!(
                request_id = record.id().as_str(),
                upstream = &*lane.upstream.params.name,
                fields = reflected,
                "the LMS sent our token back in its answer; the fields were removed"
            );
        }
        headers::rewrite_response(headers, lane.upstream.params.cookies);
        headers.insert(request_id::FIELD, record.id().value());
        record.answers(status);
        if let Some(lms) = response.body_mut().switched() {
            upgrade::switch(response.headers_mut());
            let tunnel = Tunnel::new(lms, record, lane.upstream.params.idle_timeout);
            return Answered::Switching(response.map(drop), Box::new(tunnel));
        }
        Answered::Response(response.map(|rest| Recorded::passed_on(start, rest, record)))
    }
}
