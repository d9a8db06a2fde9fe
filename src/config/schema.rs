//! Every key there is, with its type, its default and what it is for: the one table that reading, environment variables,
//! `config show`, `config schema` and the test of `config.example.toml` go by.
//!
//! A pattern is a TOML path; `*` stands for a name that a person chose, `[]` for the items of an array of tables.

use std::path::PathBuf;

#[cfg(test)]
use figment::value::Value;
use tracing_subscriber::filter::Targets;

use super::value::{
    FromValue, Text,
    address::{BaseUrl, JwksUrl, Listen, ListenTcp, TokenUrl},
    login::{AuthorizeUrl, RevocationUrl, SubjectHeader},
    proxy::ProxyUrl,
    quantity::{AssertionLifetime, Connections, MaxAge, Period, Size, Timeout, Workers},
    request::{Methods, Scopes},
    shape::Shape,
    socket::{SocketMode, Uids},
    word::{AudienceForm, AuthMethod, ExchangeMethod, Grant, Profile, StateBackend, TokenScope},
};
use crate::{
    admin::ReadyNeeds,
    keys::Algorithm,
    oauth::authorization::RedirectUri,
    policy::{Catalogue, Mode},
    proxy::{HostName, Http2, LogRequests},
    secret::{SecretFiles, SecretString},
    telemetry::LogFormat,
    token::RefreshAhead,
};

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Where it stands.
    pub(super) pattern: &'static str,
    /// What it is for, in the words of an editor's hint: the lines of its comment.
    doc: &'static str,
    /// What its value looks like.
    pub(super) shape: Shape,
    /// Its default in TOML; `None`: none, or one that depends on the profile.
    pub(super) default: Option<&'static str>,
    /// Whether its value must never be shown.
    pub(super) secret: bool,
    /// Whether its type takes the value.
    #[cfg(test)]
    pub(super) accepts: fn(&Value) -> bool,
    /// Whether only a new process can take another value over.
    pub(super) fixed: bool,
}

const fn key<T: FromValue>(pattern: &'static str, doc: &'static str) -> Key {
    Key {
        pattern,
        doc,
        shape: T::SHAPE,
        default: None,
        secret: false,
        #[cfg(test)]
        accepts: accepts::<T>,
        fixed: false,
    }
}

#[cfg(test)]
fn accepts<T: FromValue>(value: &Value) -> bool {
    T::from_value(value).is_ok()
}

impl Key {
    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn fixed(mut self) -> Self {
        self.fixed = true;
        self
    }

    /// What it is for.
    pub(super) fn description(&self) -> String {
        let lines: Vec<_> = self.doc.lines().map(str::trim).collect();
        lines.join(" ")
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $pattern:literal: $type:ty $(= $default:literal)? $(, $mark:ident)?;)+) => {
        /// All keys.
        pub(super) const KEYS: &[Key] = &[
            $(key::<$type>($pattern, concat!($($doc, "\n"),+))$(.or($default))?$(.$mark())?,)+
        ];
    };
}

// To add a key, write a line for it:
//
//     /// What it is for, in a sentence: editors show it (`bursar config schema`).
//     "table.*.key": Type = r#""default""#, secret;
//
// `Type` is the one that `Reader::get` reads it with; what it looks like in TOML is `Type::SHAPE`. The default (in TOML)
// and `secret` may be left out. `fixed` in its place says that a reload cannot change it. A new table needs a line in `TABLES`, and config.example.toml shows every key.
keys! {
    /// Where the application connects: a loopback address, unless `allow_remote` is true, or a Unix socket,
    /// "unix:/run/bursar/proxy.sock". Port 0 takes a free one.
    "server.listen": Listen = r#""127.0.0.1:8080""#, fixed;
    /// Further names by which applications call bursar, with a port or without.
    "server.hosts": Vec<HostName> = "[]";
    /// What happens to requests that the policy does not allow: "enforce" refuses them; "report" lets those through that have
    /// no route or lack scopes, and reports them.
    "server.mode": Mode = r#""enforce""#;
    /// Worker threads; 0: as many as there are cores for this process (a container's CPU quota is counted).
    "server.workers": Workers = "0", fixed;
    /// Connections from applications at once.
    "server.max_connections": Connections = "10000";
    /// How long a request's head may take.
    "server.header_timeout": Timeout = r#""10s""#;
    /// How long a connection may be idle, and how long the application may pause in reading an answer.
    "server.idle_timeout": Timeout = r#""60s""#;
    /// How long requests under way may take to finish after SIGTERM.
    "server.drain_timeout": Period = r#""25s""#;
    /// The permissions of Unix sockets for applications: whoever may write to one may connect.
    "server.socket_mode": SocketMode = r#""0600""#, fixed;
    /// The users (by number) that may connect to those sockets, besides root and the one that bursar runs as; unset:
    /// whom the mode lets in.
    "server.allowed_uids": Uids;
    /// true is needed to listen off loopback, and so is a caller key.
    "server.allow_remote": bool = "false";
    /// The file of the keys by which bursar knows its callers, one per line; unset: whoever can connect is served.
    "server.caller_key_file": PathBuf;
    /// Who else may read the files of secrets. "private": nobody, but the group where root owns the file;
    /// "any": a warning only.
    "server.secret_files": SecretFiles = r#""private""#;

    /// /livez, /startupz, /readyz and /metrics. May bind any address.
    "admin.listen": ListenTcp = r#""127.0.0.1:9464""#, fixed;
    /// Status API, public keys, reload and drain: a loopback address, or a Unix socket.
    "admin.control": Listen = r#""127.0.0.1:9465""#, fixed;
    /// The file of the keys that POST (/-/reload, /-/drain) on the control socket must show, one per line; without it there is no
    /// POST over TCP. On a Unix socket our user and root need none.
    "admin.control_key_file": PathBuf;
    /// The public keys alone, for the LMS to fetch (behind a TLS ingress). Off unless set.
    "admin.jwks_listen": ListenTcp, fixed;
    /// When /readyz says yes: "first_token" (every token was there once), "token" (every token is usable
    /// now), "nothing".
    "admin.ready_needs": ReadyNeeds = r#""first_token""#;

    /// "error", "warn", "info", "debug" or "trace"; for modules behind a comma: "info,bursar::token=debug".
    "log.level": Targets = r#""info""#;
    /// "auto": text on a terminal, JSON otherwise; "text"; "json".
    "log.format": LogFormat = r#""auto""#, fixed;
    /// Requests that get a line: "denied" (refused or failed), "all", or a share of the others such as
    /// "1/100".
    "log.requests": LogRequests = r#""denied""#;

    /// Where what logins have brought is kept. "file": sealed, in files that only bursar's user can read; "memory": nothing is written;
    /// for configurations without credentials for which people log in.
    "state.backend": StateBackend = r#""file""#, fixed;
    /// The directory, mode 0700, of the backend "file"; unless set, $XDG_STATE_HOME/bursar or ~/.local/state/bursar. Nothing is
    /// written unless somebody logs in.
    "state.path": PathBuf, fixed;
    /// The file of the keys that seal it: base64 of 32 bytes, one per line; the first seals, all open. Unless set, bursar makes one
    /// in $XDG_CONFIG_HOME/bursar or ~/.config/bursar.
    "state.key_file": PathBuf, fixed;

    /// Presets for the rest; "oauth2": none but those of the standard.
    "credentials.*.profile": Profile = r#""oauth2""#;
    /// How tokens are obtained; unless set, as the profile says.
    "credentials.*.grant": Grant;
    /// The id under which bursar is registered.
    "credentials.*.client_id": Text;
    /// The client's secret; a file of its own (client_secret_file) is safer.
    "credentials.*.client_secret": SecretString, secret;
    /// The file that holds the client's secret.
    "credentials.*.client_secret_file": PathBuf;
    /// How the client proves itself; unless set, as the profile says.
    "credentials.*.auth_method": AuthMethod;
    /// `sub` of the assertion of a jwt_bearer grant; unless set, the client_id.
    "credentials.*.subject": Text;
    /// The file of the private key, PEM: PKCS#8, PKCS#1 or SEC1; RSA, P-256, P-384 or Ed25519.
    "credentials.*.private_key_file": PathBuf;
    /// In place of private_key_file: a directory of keys that are rotated (`bursar keys rotate`). The name of
    /// each file, such as 20261127T101500Z.pem, is the moment from which on the key signs.
    "credentials.*.keys_dir": PathBuf;
    /// How long the authorization server may use a key set before it fetches it again. A new key is published
    /// for that long before it signs, an old one that long after.
    "credentials.*.jwks_max_age": MaxAge = r#""1h""#;
    /// Where the authorization server fetches the key set: https, or http on loopback. When set, bursar looks
    /// whether its keys are there before it signs with them.
    "credentials.*.jwks_url": JwksUrl;
    /// The key's id in the public key set; unless set, its thumbprint (RFC 7638).
    "credentials.*.kid": Text;
    /// What assertions are signed with; unless set, what goes with the key.
    "credentials.*.signing_alg": Algorithm;
    /// The token endpoint: https, or http on loopback; unless set, the profile's.
    "credentials.*.token_url": TokenUrl;
    /// `aud` of the assertion; unless set, the profile's or the token URL as written.
    "credentials.*.audience": Text;
    /// "string", or "array" for servers that want a list of one.
    "credentials.*.audience_form": AudienceForm = r#""string""#;
    /// How long an assertion is good for; at most 300 s.
    "credentials.*.assertion_lifetime": AssertionLifetime = r#""60s""#;
    /// `typ` of the assertion's header. Some servers want "client-authentication+jwt".
    "credentials.*.assertion_typ": Text = r#""JWT""#;
    /// A form field that a vendor wants beyond the standard.
    "credentials.*.token_params.*": Text, secret;
    /// A header field that a vendor wants beyond the standard.
    "credentials.*.token_headers.*": Text, secret;
    /// A token's lifetime where the answer does not state it.
    "credentials.*.default_lifetime": Timeout = r#""5m""#;
    /// When to renew a token: with this share of its lifetime left ("1%" to "90%"), or this long before its
    /// end.
    "credentials.*.refresh_ahead": RefreshAhead = r#""20%""#;
    /// A token with less life than this is never used; at most a quarter of its lifetime. The default of
    /// "blackboard" is "5s".
    "credentials.*.safety_margin": Period = r#""30s""#;
    /// How long a request waits when there is no usable token.
    "credentials.*.wait": Period = r#""10s""#;
    /// How long one token request may take.
    "credentials.*.timeout": Timeout = r#""10s""#;
    /// Roots beside the system's, in PEM.
    "credentials.*.ca_file": PathBuf;
    /// The certificate (PEM, its chain behind it) by which the server knows bursar: mutual TLS, with client_key_file.
    "credentials.*.client_cert_file": PathBuf;
    /// The file of the key of that certificate, PEM: PKCS#8, PKCS#1 or SEC1.
    "credentials.*.client_key_file": PathBuf;
    /// The company proxy to go through: http://[USER:PASSWORD@]HOST:PORT.
    "credentials.*.http_proxy": ProxyUrl, secret;
    /// The application's id (Application ID) of an id_key grant.
    "credentials.*.app_id": Text;
    /// The file that holds its key (Application Key).
    "credentials.*.app_key_file": PathBuf;
    /// The id of the user in whose name an id_key grant signs; unless set, whoever logs in (`bursar login`).
    "credentials.*.user_id": Text;
    /// The file that holds that user's key.
    "credentials.*.user_key_file": PathBuf;
    /// Where the browser comes back to after a login, exactly as registered: on loopback, or https. With port 0 any free one.
    "credentials.*.redirect_uri": RedirectUri;
    /// The authorization endpoint, to which a person is sent: https, or http on loopback; unless set, the profile's.
    "credentials.*.authorize_url": AuthorizeUrl;
    /// Who the authorization server says it is (`iss` of its answers, RFC 9207). When set, an answer without it is refused.
    "credentials.*.issuer": Text;
    /// Whether a login sends a code challenge (RFC 7636, S256). Servers that do not know it ignore it.
    "credentials.*.pkce": bool = "true";
    /// How long the authorization server accepts a refresh token once more that it has answered already; 0: it is never sent twice,
    /// and when an answer is lost somebody has to log in again.
    "credentials.*.refresh_reuse_grace": Period = r#""0s""#;
    /// The revocation endpoint (RFC 7009), for `bursar logout`; unless set, the profile's way if it has one.
    "credentials.*.revocation_url": RevocationUrl;
    /// The request field that names the person for whom a request is: each has a login of their own. It is not sent on.
    "credentials.*.subject_header": SubjectHeader;
    /// LTIAAS: the file that holds the API key.
    "credentials.*.api_key_file": PathBuf;
    /// LTIAAS: the id of the LMS there (GET /admin/platforms lists them).
    "credentials.*.platform_id": Text;
    /// LTIAAS: the query parameter with which the browser comes back. The public documentation does not name it.
    "credentials.*.callback_parameter": Text = r#""token""#;
    /// LTIAAS: how what the browser has come back with is traded in: "POST" has it in a JSON body, "GET" in the query.
    "credentials.*.exchange_method": ExchangeMethod = r#""POST""#;
    /// LTIAAS: where a refresh token is exchanged; unless set, the token URL with the platform's id and `/refresh` behind it.
    "credentials.*.refresh_url": TokenUrl;
    /// The token of a static grant; a file of its own (token_file) is safer.
    "credentials.*.token": SecretString, secret;
    /// The file that holds the token of a static grant.
    "credentials.*.token_file": PathBuf;

    /// The LMS's origin; no path.
    "upstreams.*.base_url": BaseUrl;
    /// Whose tokens it gets: the name of a credential.
    "upstreams.*.credential": Text;
    /// The built-in table of calls and the scopes they need.
    "upstreams.*.catalogue": Catalogue = r#""none""#;
    /// The allowlist. A request passes if its route's scopes are covered by these and by the token.
    "upstreams.*.scopes": Scopes = "[]";
    /// "upstream": one token with all scopes; "route": one per set of scopes that a route needs.
    "upstreams.*.token_scope": TokenScope = r#""upstream""#;
    /// Whether a scope parameter is sent. false: granted is what is registered, and the allowlist still
    /// decides. The default of "instructure", "blackboard" and "ltiaas" is false.
    "upstreams.*.request_scopes": bool = "true";
    /// Further Host names that select this upstream, with a port or without.
    "upstreams.*.hosts": Vec<HostName> = "[]";
    /// A listener of its own, under the rules of `server.listen`: a port, or a Unix socket.
    "upstreams.*.listen": Listen, fixed;
    /// For name, TCP and TLS together.
    "upstreams.*.connect_timeout": Timeout = r#""5s""#;
    /// To the first byte of the answer.
    "upstreams.*.response_timeout": Timeout = r#""60s""#;
    /// Between bytes of an exchange, those of the application's body too.
    "upstreams.*.idle_timeout": Timeout = r#""60s""#;
    /// How long an idle connection is kept.
    "upstreams.*.pool_idle_timeout": Timeout = r#""30s""#;
    /// Open connections at once; over HTTP/2 each carries up to 100 requests.
    "upstreams.*.max_connections": Connections = "256";
    /// Roots beside the system's, in PEM.
    "upstreams.*.ca_file": PathBuf;
    /// Only those roots, not the system's.
    "upstreams.*.ca_only": bool = "false";
    /// "auto": HTTP/2 where the LMS chooses it over TLS, else HTTP/1.1; "never": HTTP/1.1; "only": HTTP/2, also without TLS.
    "upstreams.*.http2": Http2 = r#""auto""#;
    /// The certificate (PEM, its chain behind it) by which the LMS knows bursar: mutual TLS, with client_key_file.
    "upstreams.*.client_cert_file": PathBuf;
    /// The file of the key of that certificate, PEM: PKCS#8, PKCS#1 or SEC1.
    "upstreams.*.client_key_file": PathBuf;
    /// The company proxy to go through: http://[USER:PASSWORD@]HOST:PORT.
    "upstreams.*.http_proxy": ProxyUrl, secret;
    /// Whether Cookie and Set-Cookie pass.
    "upstreams.*.cookies": bool = "false";
    /// Whether GETs are held, for at most `response_timeout`, while the LMS asks for fewer requests (429 and the like).
    "upstreams.*.pace": bool = "false";
    /// Plain http to a host that is not this machine. The token crosses the network unencrypted.
    "upstreams.*.allow_plain_http": bool = "false";

    /// What metrics, logs and answers call it.
    "upstreams.*.routes[].name": Text;
    /// In upper case. HEAD goes where GET goes.
    "upstreams.*.routes[].methods": Methods;
    /// A whole path of the LMS. {name} is one segment, {*rest} at the end the tail.
    "upstreams.*.routes[].path": Text;
    /// Of Moodle (profile "moodle"), in place of a path: the functions (`wsfunction`) that may be called. `methods` are then GET and
    /// POST, and `path` is /webservice/rest/server.php, unless they are set.
    "upstreams.*.routes[].functions": Vec<String>;
    /// What it needs: all of these. [] says that it needs none.
    "upstreams.*.routes[].scopes": Scopes;
    /// In place of `scopes`: one of these is enough.
    "upstreams.*.routes[].any_scope": Scopes;
    /// true refuses, whatever the scopes.
    "upstreams.*.routes[].deny": bool = "false";
    /// A credential of its own, in place of the upstream's.
    "upstreams.*.routes[].credential": Text;
    /// The largest body; unless set, there is no limit.
    "upstreams.*.routes[].max_body": Size;
    /// Whether %2F may stand in a segment.
    "upstreams.*.routes[].encoded_slash": bool = "false";
    /// Whether a request may become a WebSocket (GET with Upgrade: websocket).
    "upstreams.*.routes[].upgrade": bool = "false";
    /// Query parameters that are refused by default and pass on this route.
    "upstreams.*.routes[].query_allow": Vec<String> = "[]";
}

/// What the tables are for.
pub(super) const TABLES: &[(&str, &str)] = &[
    ("server", "The application's side."),
    (
        "admin",
        "Probes, metrics and control; never on the application's port.",
    ),
    ("log", "What is logged, and how."),
    ("state", "Where what people's logins have brought is kept."),
    ("credentials", "The clients of authorization servers."),
    (
        "credentials.*",
        "One client of an authorization server: how bursar obtains tokens.",
    ),
    (
        "credentials.*.token_params",
        "Form fields that a vendor wants beyond the standard.",
    ),
    (
        "credentials.*.token_headers",
        "Header fields that a vendor wants beyond the standard.",
    ),
    ("upstreams", "The LMSs."),
    (
        "upstreams.*",
        "One LMS: where it is, whose tokens it gets, and what the application may do there.",
    ),
    (
        "upstreams.*.routes",
        "Routes beside the catalogue's; they take the place of its own on the same method and path.",
    ),
];

/// What stands at a pattern.
#[derive(Debug)]
pub(super) enum Node {
    /// A key with a value.
    Leaf(&'static Key),
    /// A table of keys.
    Table,
    /// An array of tables.
    Tables,
}

/// What stands at `pattern`, if anything.
pub(super) fn node(pattern: &str) -> Option<Node> {
    for key in KEYS {
        if key.pattern == pattern {
            return Some(Node::Leaf(key));
        }
        match key.pattern.strip_prefix(pattern) {
            Some(rest) if rest.starts_with('.') => return Some(Node::Table),
            Some(rest) if rest.starts_with("[].") => return Some(Node::Tables),
            _ => {}
        }
    }
    None
}

/// The pattern of `name` in the table at `pattern`, and what stands there.
pub(super) fn child(pattern: &str, name: &str) -> Option<(String, Node)> {
    // A person may call a credential `*`; the name must not match the pattern by accident.
    let own = (name != "*").then(|| join(pattern, name));
    let own = own.and_then(|pattern| node(&pattern).map(|node| (pattern, node)));
    own.or_else(|| {
        let any = join(pattern, "*");
        node(&any).map(|node| (any, node))
    })
}

/// The names that the table at `pattern` may hold; empty where any name will do.
pub(super) fn names(pattern: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if pattern.is_empty() {
            Some(key.pattern)
        } else {
            key.pattern
                .strip_prefix(pattern)
                .and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split(['.', '[']).next());
        if let Some(name) = name
            && name != "*"
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The place of a key in the table.
pub(super) fn rank(key: &Key) -> usize {
    let place = KEYS.iter().position(|other| other.pattern == key.pattern);
    place.unwrap_or(KEYS.len())
}

/// Whether only a new process can take over another value of the key with this place in the table.
pub(super) fn needs_restart(rank: usize) -> bool {
    KEYS.get(rank).is_some_and(|key| key.fixed)
}

/// Puts a name behind a pattern.
pub(super) fn join(pattern: &str, name: &str) -> String {
    if pattern.is_empty() {
        name.to_owned()
    } else {
        format!("{pattern}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_that_people_chose_match_the_star() {
        let (pattern, node) = child("credentials", "d2l").unwrap();
        assert_eq!(pattern, "credentials.*");
        assert!(matches!(node, Node::Table));
        assert!(child("server", "lisen").is_none());
        assert!(child("", "servers").is_none());
    }

    #[test]
    fn routes_are_an_array_of_tables() {
        assert!(matches!(node("upstreams.*.routes"), Some(Node::Tables)));
        assert!(matches!(
            node("upstreams.*.routes[].name"),
            Some(Node::Leaf(_))
        ));
    }

    #[test]
    fn the_names_of_a_table_are_its_own() {
        assert_eq!(names("log"), ["level", "format", "requests"]);
        assert_eq!(
            names(""),
            [
                "server",
                "admin",
                "log",
                "state",
                "credentials",
                "upstreams"
            ]
        );
        assert!(names("credentials").is_empty());
    }

    #[test]
    fn every_key_and_every_table_says_what_it_is_for() {
        let mut tables = BTreeSet::new();
        for key in KEYS {
            let description = key.description();
            assert!(
                description.len() > 15 && description.ends_with('.'),
                "{}: {description:?}",
                key.pattern
            );
            let mut path = key.pattern;
            while let Some((parent, _)) = path.rsplit_once('.') {
                tables.insert(parent.trim_end_matches("[]"));
                path = parent;
            }
        }
        let described: BTreeSet<_> = TABLES.iter().map(|(pattern, _)| *pattern).collect();
        assert_eq!(described, tables);
    }

    #[test]
    fn no_key_stands_twice() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..index]
                    .iter()
                    .all(|other| other.pattern != key.pattern)
            );
        }
    }
}
