//! The data path: the life of a request, from the application's socket to the LMS and back.
//!
//! 1. [`listener`] accepts a connection, `connection` runs HTTP/1 or HTTP/2 on it and watches its clocks.
//! 2. `handler` is the whole life of one request: one function, top to bottom.
//! 3. `screen` refuses what is not plain, unambiguous HTTP from a program.
//!    `caller` asks for the caller key, where there is one.
//! 4. `hosts` chooses the upstream; its [`policy`](crate::policy) decides. `call` reads the form for it, where that names what is called.
//! 5. `body` reads what fits into memory, so that it can be checked, and sent again.
//! 6. The upstream's [`token::Broker`](crate::token::Broker) gives a token for the permit.
//! 7. `pace` holds GETs back while the LMS asks for fewer requests, where that is wanted; `quota` reads from an answer whether it does.
//! 8. `headers` keeps fields that are not the LMS's business from it, and the LMS's from the application.
//! 9. `inject` is the only place where a credential meets a request.
//! 10. [`upstream`] sends it; `unauthorized` reads from a refusal whether the token is dead, `moodle` from an answer that looks like none.
//! 11. `reject` is the one table of responses that bursar makes itself.
//! 12. `tunnel` carries what follows a 101, where `upgrade` and the route allow one.
//! 13. `record` writes metrics and the log line when the last byte has gone, or the application has.
//!
//! What belongs to one worker thread (`worker`) is reached through `Rc` and `Cell`: on the way of a
//! request there is no lock.

mod arriving;
mod body;
mod call;
mod caller;
mod connection;
mod contain;
mod frames;
pub mod handler;
pub mod headers;
mod hosts;
mod in_flight;
pub mod inject;
pub mod listener;
pub mod metrics;
mod moodle;
mod observed;
pub mod pace;
mod preface;
mod progress;
mod pseudo;
mod quota;
mod record;
pub mod reject;
mod request_id;
mod rewound;
pub mod screen;
mod seats;
mod tunnel;
mod unauthorized;
mod upgrade;
pub mod upstream;
mod worker;

use std::{sync::Arc, time::Duration};

use pace::Pacer;

use crate::{
    clock::Clock,
    dial::{Dialer, Offer, Stream},
    policy::{Catalogue, CredentialChoice, Permit, Policy},
    secret::AccessKeys,
    socket::Address,
    token::Broker,
};

/// `[server]`.
#[derive(Clone, Debug)]
pub struct ServerParams {
    /// Where the application connects.
    pub listen: Address,
    /// The permissions of Unix sockets.
    pub socket_mode: u32,
    /// Who may connect to them besides us and root; `None`: whom the permissions let in.
    pub allowed_uids: Option<Vec<u32>>,
    /// Who shows one of them may use bursar; `None`: whoever can connect.
    pub caller_keys: Option<AccessKeys>,
    /// Further names by which applications call bursar, each with a port or without.
    pub hosts: Vec<HostName>,
    /// Worker threads; already resolved, at least 1.
    pub workers: usize,
    /// Connections from applications, all workers together; also the requests over HTTP/2 at once, of which there may always be
    /// 100.
    pub max_connections: usize,
    /// For a request's head.
    pub header_timeout: Duration,
    /// For an idle connection.
    pub idle_timeout: Duration,
    /// From shutdown to deadline.
    pub drain_timeout: Duration,
    /// Which requests get a log line.
    pub log_requests: LogRequests,
}

/// `log.requests`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogRequests {
    /// Those that bursar denied or that failed.
    #[default]
    Denied,
    /// All.
    All,
    /// Those, and one in so many of the others.
    OneIn(u32),
}

/// A name by which bursar is called, lower case, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName {
    /// DNS name or IP literal (IPv6 without brackets).
    pub host: String,
    /// `None`: this listener's port, or none.
    pub port: Option<u16>,
}

/// `[upstreams.NAME]`, ready.
#[derive(Clone)]
pub struct UpstreamParams {
    /// The metric label.
    pub name: Arc<str>,
    /// The one origin. Its `timeout` is `connect_timeout`.
    pub dialer: Dialer,
    /// Further Host names that select this upstream.
    pub hosts: Vec<HostName>,
    /// A port or a socket of its own.
    pub listen: Option<Address>,
    /// To the first byte of the answer.
    pub response_timeout: Duration,
    /// Between bytes of an exchange.
    pub idle_timeout: Duration,
    /// How long an idle connection is kept.
    pub pool_idle_timeout: Duration,
    /// Open connections, all workers together.
    pub max_connections: usize,
    /// Which version of HTTP it is spoken to in.
    pub http2: Http2,
    /// Whether Cookie and Set-Cookie pass.
    pub cookies: bool,
    /// How this LMS tells a dead token from a missing permission.
    pub catalogue: Catalogue,
    /// Whether GETs are held while it asks for fewer requests.
    pub pace: bool,
}

/// `upstreams.NAME.http2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// HTTP/2 where the LMS chooses it (over TLS), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Never,
    /// HTTP/2, also without TLS (RFC 9113 section 3.3).
    Only,
}

impl Http2 {
    /// What is offered to the LMS over TLS.
    #[must_use]
    pub const fn offer(self) -> Offer {
        match self {
            Self::Auto => Offer::Both,
            Self::Never => Offer::Http1,
            Self::Only => Offer::Http2,
        }
    }

    /// Whether HTTP/2 is spoken on a connection that was made with that offer.
    #[must_use]
    pub fn is_spoken_on(self, stream: &Stream) -> bool {
        self == Self::Only || stream.is_http2()
    }
}

/// One upstream of a running proxy.
pub struct Upstream {
    /// Its settings.
    pub params: UpstreamParams,
    /// Its policy.
    pub policy: Policy,
    /// Its tokens.
    pub tokens: TokensOf,
    /// The tokens of the routes with a credential of their own, in the order of
    /// [`Policy::route_credentials`].
    pub route_tokens: Vec<TokensOf>,
    /// Where it is paced, its pace.
    pub pacer: Option<Arc<Pacer>>,
}

/// The tokens of one credential of an upstream.
pub struct TokensOf {
    /// The credential's name, for logs and metrics.
    pub credential: Arc<str>,
    /// The tokens.
    pub broker: Arc<Broker>,
}

impl Upstream {
    /// The tokens for a permitted request; `None`, which cannot be, must let nothing leave.
    fn tokens_for(&self, permit: &Permit) -> Option<&TokensOf> {
        match permit.route().credential {
            CredentialChoice::Upstream => Some(&self.tokens),
            CredentialChoice::Route(number) => self.route_tokens.get(number),
        }
    }

    /// The name of the credential that a route names, or of the upstream's own.
    fn credential(&self, choice: CredentialChoice) -> &Arc<str> {
        let of_route = match choice {
            CredentialChoice::Upstream => None,
            CredentialChoice::Route(number) => self.route_tokens.get(number),
        };
        &of_route.unwrap_or(&self.tokens).credential
    }
}

/// What all workers share.
pub struct Proxy {
    /// `[server]`.
    pub server: ServerParams,
    /// In the order of the configuration.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The `bursar_http_*`, `bursar_policy_*` and `bursar_upstream_*` families.
    pub metrics: metrics::ProxyMetrics,
    /// The time, suspends included.
    pub clock: Arc<dyn Clock>,
}

impl Proxy {
    /// The fields by which applications tell bursar whose tokens a request gets, at whichever upstream: to a request for another
    /// one they are of no use, and who the person is is not that LMS's business.
    fn subject_headers(&self) -> Vec<http::HeaderName> {
        let upstreams = self.upstreams.iter();
        upstreams
            .flat_map(|upstream| std::iter::once(&upstream.tokens).chain(&upstream.route_tokens))
            .filter_map(|tokens| tokens.broker.subject_header().cloned())
            .collect()
    }
}
