//! `bursar mock`: a simulated LMS to develop and test an application against.

mod canvas;
mod guide;
mod id_keys;
mod login;
mod ltiaas;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tracing::{Level, subscriber::SetGlobalDefaultError};
use tracing_subscriber::filter::Targets;
use url::Url;

use self::{
    canvas::CanvasArgs, guide::Guide, id_keys::IdKeyArgs, login::LoginArgs, ltiaas::LtiaasArgs,
};
use super::{Exit, Surroundings, output, signals};
use crate::{
    causes::with_causes,
    mock::{
        Fault, KeySet, KeySetError, KeySource, Lms, MOODLE_TOKEN, Mock, MockParams,
        RegisteredClient,
    },
    scope::{Scope, ScopeSet},
    telemetry::{self, LogFormat, LogParams, Logs},
};

/// What an application is registered for unless `--scopes` says otherwise.
const SCOPES: &str = "users:own_profile:read users:userdata:read enrollment:own_enrollment:read \
                      enrollment:orgunit:read grades:gradevalues:read,write";

/// The lifetime that the real service is known to give.
const BRIGHTSPACE_LIFETIME: Duration = Duration::from_mins(30);
const DAP_LIFETIME: Duration = Duration::from_secs(3599);

/// The same for a Canvas.
const CANVAS_SCOPES: &str = "url:GET|/api/v1/users/:id url:GET|/api/v1/courses url:GET|/api/v1/courses/:id \
                             url:GET|/api/v1/courses/:course_id/users";

/// Blackboard's, Canvas's, and of no matter to Moodle.
const HOUR: Duration = Duration::from_hours(1);

/// These systems know clients by a secret; this one is worth nothing and so may be known.
const SECRET: &str = "bursar-mock-secret";

/// Run a simulated LMS with its authorization server, on this machine only
///
/// brightspace answers as the real service does: tokens for client_credentials with a client assertion (or a
/// secret), D2L's table of routes and scopes, 401 for a dead token, 403 for a missing scope, 429 when
/// the credits are used up. An identifier of 403 or 404 in a path (`/users/403`) gets that answer, so
/// that you can see how your application takes it. People log in at /oauth2/auth, on a page with two buttons; their
/// refresh tokens are good once.
///
/// dap is Instructure's identity service and query API: tables, jobs, and objects on another origin, behind
/// pre-signed URLs. blackboard hands the same token out again until it expires. moodle has one path and answers
/// errors with status 200. canvas logs people in at /login/oauth2/auth; its refresh tokens stay, and each refresh
/// kills the token before it. ltiaas logs people in at a Brightspace on the same address and hands out its tokens.
///
/// What goes wrong is ordered with --fault, or while it runs by POST /mock/faults on the control address; GET
/// /mock/requests there shows what arrived. docs/reference/mock.md lists the faults.
#[derive(Args)]
#[command(after_help = "Examples:
  bursar mock                                      keys from bursar's own key set on 127.0.0.1:9465
  bursar mock --token-lifetime 20s                 tokens that die young: watch them being renewed
  bursar mock --client-id app --client-secret s    client_secret_basic instead of a key
  bursar mock --lms dap                            Instructure's query API
  bursar mock --lms canvas --approve               a Canvas on which everybody agrees at once
  bursar mock --clock-skew 10m                     an LMS with a wrong clock
  bursar mock --fault on=token,fault=status,status=503,times=3
                                                   the first three token requests fail")]
pub(super) struct MockArgs {
    /// Which LMS
    #[arg(long, value_name = "LMS", default_value = "brightspace")]
    lms: SimulatedLms,
    /// Where to listen: a loopback address and a port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9400", value_parser = loopback)]
    listen: SocketAddr,
    /// The registered application's client id
    #[arg(long, value_name = "ID", default_value = "bursar-mock")]
    client_id: String,
    /// Its secret, for client_secret_basic; without it only assertions are accepted
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,
    /// Where its public keys are (http:// on loopback); bursar publishes them on admin.control
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9465/.well-known/jwks.json",
        conflicts_with = "jwks_file",
        value_parser = key_url
    )]
    jwks_url: Url,
    /// A file with its public keys, instead of a URL
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// How long a token lives, in whole seconds (the real service: 30m to 20h)
    #[arg(long = "token-lifetime", visible_alias = "lifetime", value_name = "DURATION", value_parser = lifetime)]
    lifetime: Option<Duration>,
    /// Where faults are ordered and requests looked at: a loopback address and a port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9401", value_parser = loopback)]
    control: SocketAddr,
    /// Where the pre-signed objects of dap are: a loopback address and a port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9402", value_parser = loopback)]
    objects: SocketAddr,
    /// A fault from the start, as settings with commas between them or as JSON; may be given several times
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Count no calls against the LMS's limits
    #[arg(long)]
    unlimited: bool,
    /// The token that an administrator has made (moodle)
    #[arg(long, value_name = "TOKEN", default_value = MOODLE_TOKEN)]
    token: String,
    #[command(flatten)]
    id_keys: IdKeyArgs,
    /// The scopes that it is registered for, separated by spaces (brightspace, canvas)
    #[arg(long, value_name = "SCOPES", value_parser = registered_scopes)]
    scopes: Option<ScopeSet>,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    canvas: CanvasArgs,
    #[command(flatten)]
    ltiaas: LtiaasArgs,
}

impl MockArgs {
    /// What the application is registered for.
    fn registered(&self) -> ScopeSet {
        let usual = match self.lms {
            SimulatedLms::Canvas => CANVAS_SCOPES,
            _ => SCOPES,
        };
        // Both are written here, and a test reads them.
        let usual = || ScopeSet::parse(usual).unwrap_or_default();
        self.scopes.clone().unwrap_or_else(usual)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SimulatedLms {
    /// D2L Brightspace
    Brightspace,
    /// Instructure Data Access Platform
    Dap,
    /// Blackboard Learn
    Blackboard,
    /// Moodle web services
    Moodle,
    /// Canvas REST API
    Canvas,
    /// LTIAAS, with a Brightspace behind it
    Ltiaas,
}

/// Why the mock cannot run.
#[derive(Debug, thiserror::Error)]
enum MockError {
    #[error("cannot listen on {0}, {1} or {2}; --listen, --control and --objects choose others")]
    Listen(SocketAddr, SocketAddr, SocketAddr, #[source] io::Error),
    #[error("cannot read the key set {}", .0.display())]
    ReadKeys(PathBuf, #[source] io::Error),
    #[error("cannot use the key set {}", .0.display())]
    Keys(PathBuf, #[source] KeySetError),
    #[error(
        "no key in {} is usable: RSA, P-256 or P-384, public, with kid",
        .0.display()
    )]
    NoUsableKey(PathBuf),
    #[error("cannot log")]
    Logs(#[from] SetGlobalDefaultError),
    #[error("cannot start")]
    System(#[from] io::Error),
}

/// Runs until Ctrl-C or SIGTERM.
pub(super) fn run(args: MockArgs, surroundings: &Surroundings) -> Exit {
    match serve(args, surroundings) {
        Ok(()) => Exit::Done,
        Err(error) => {
            output::tell(&format!("bursar: {}\n", with_causes(&error)));
            Exit::Failed
        }
    }
}

/// Requests are logged for a person, on a terminal and elsewhere.
pub(super) fn log(surroundings: &Surroundings) -> Result<Logs, SetGlobalDefaultError> {
    let params = LogParams {
        level: Targets::new().with_default(Level::INFO),
        format: LogFormat::Text,
    };
    telemetry::init(&params, surroundings.stderr())
}

fn serve(args: MockArgs, surroundings: &Surroundings) -> Result<(), MockError> {
    // Dropped, and so written out, at the end.
    let _logs = log(surroundings)?;
    let guide = Guide::of(&args);
    let (listen, control, objects) = (args.listen, args.control, args.objects);
    let params = params(args)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut stops = signals::listen()?;
            let mock = Mock::start(params)
                .await
                .map_err(|error| MockError::Listen(listen, control, objects, error))?;
            // A reader that has gone away is no reason to stop.
            output::print(&guide.render(&mock));
            stops.recv().await;
            mock.stop().await;
            Ok(())
        })
}

fn params(args: MockArgs) -> Result<MockParams, MockError> {
    let scopes = args.registered();
    let keys = match args.jwks_file {
        None => KeySource::Url(args.jwks_url),
        Some(path) => KeySource::Set(read_keys(path)?),
    };
    let (lms, lifetime) = match args.lms {
        SimulatedLms::Brightspace => (Lms::Brightspace, BRIGHTSPACE_LIFETIME),
        SimulatedLms::Dap => (Lms::Dap, DAP_LIFETIME),
        SimulatedLms::Blackboard => (Lms::Blackboard, HOUR),
        SimulatedLms::Moodle => (Lms::Moodle, HOUR),
        SimulatedLms::Canvas => (Lms::Canvas, HOUR),
        SimulatedLms::Ltiaas => (Lms::Ltiaas, BRIGHTSPACE_LIFETIME),
    };
    let secret = match args.lms {
        SimulatedLms::Brightspace => args.client_secret,
        _ => Some(args.client_secret.unwrap_or_else(|| SECRET.to_owned())),
    };
    let client = RegisteredClient {
        id: args.client_id,
        secret: secret.map(Into::into),
        keys,
        scopes,
    };
    Ok(MockParams {
        lms,
        listen: args.listen,
        objects: args.objects,
        control: Some(args.control),
        login: args.login.into_params(lms),
        canvas: args.canvas.into_params(),
        ltiaas: args.ltiaas.into_params(),
        faults: args.faults,
        is_unlimited: args.unlimited,
        token_lifetime: args.lifetime.unwrap_or(lifetime),
        id_keys: args.id_keys.registered(),
        clock: args.id_keys.clock(),
        static_token: args.token.into(),
        ..MockParams::new(client)
    })
}

fn read_keys(path: PathBuf) -> Result<KeySet, MockError> {
    match fs::read(&path).map(|json| KeySet::from_json(&json)) {
        Err(error) => Err(MockError::ReadKeys(path, error)),
        Ok(Err(error)) => Err(MockError::Keys(path, error)),
        Ok(Ok(set)) if set.is_empty() => Err(MockError::NoUsableKey(path)),
        Ok(Ok(set)) => Ok(set),
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let port_only = || text.strip_prefix("localhost:")?.parse().ok();
    let address = text
        .parse()
        .ok()
        .or_else(|| {
            Some(SocketAddr::new(
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                port_only()?,
            ))
        })
        .ok_or("give an address and a port, such as 127.0.0.1:9400")?;
    if !address.ip().is_loopback() {
        return Err("a simulated LMS listens on loopback only (127.0.0.1, [::1])".to_owned());
    }
    Ok(address)
}

fn key_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    KeySource::url(url.clone())
        .map(|_source| url)
        .map_err(|error| error.to_string())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if lifetime < Duration::from_secs(1) || lifetime.subsec_nanos() != 0 {
        return Err("expires_in counts whole seconds: give at least 1s".to_owned());
    }
    Ok(lifetime)
}

fn registered_scopes(text: &str) -> Result<ScopeSet, String> {
    let scopes: ScopeSet = text
        .split_whitespace()
        .map(|scope| Scope::parse(scope).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    if scopes.is_empty() {
        return Err("give at least one scope".to_owned());
    }
    let unregistrable = scopes.iter().find(|scope| scope.as_str().starts_with("*:"));
    if let Some(scope) = unregistrable {
        return Err(format!(
            "{scope}: Brightspace does not register a scope whose group is *"
        ));
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::mock::{LoginParams, RefreshTokens};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        mock: MockArgs,
    }

    fn parse(arguments: &[&str]) -> Result<MockArgs, clap::Error> {
        Command::try_parse_from(std::iter::once(&"mock").chain(arguments))
            .map(|command| command.mock)
    }

    #[test]
    fn without_arguments_it_suits_a_bursar_with_default_ports() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.listen, "127.0.0.1:9400".parse().unwrap());
        assert_eq!(args.jwks_url.port(), Some(9465));
        assert_eq!(args.control, "127.0.0.1:9401".parse().unwrap());
        assert_eq!(args.lms, SimulatedLms::Brightspace);
        assert_eq!(args.registered().len(), 5);
    }

    #[test]
    fn arguments_that_the_real_service_or_safety_forbids_are_refused() {
        for refused in [
            ["--listen", "0.0.0.0:9400"],
            ["--listen", "nonsense"],
            ["--jwks-url", "https://keys.example.org/jwks.json"],
            ["--lifetime", "1500ms"],
            ["--lifetime", "0s"],
            ["--scopes", "*:*:*"],
            ["--scopes", " "],
            ["--control", "0.0.0.0:9401"],
            ["--fault", "on=token,fault=explode"],
            ["--lms", "schoology"],
            ["--clock-skew", "soon"],
            ["--redirect-uri", "http://app.example.org/callback"],
            ["--refresh-tokens", "sometimes"],
            ["--throttle-status", "500"],
            ["--request-cost", "-1"],
            ["--platform-id", "a/b"],
            ["--refresh-path", "refresh"],
        ] {
            assert!(parse(&refused).is_err(), "{refused:?}");
        }
        let both = ["--jwks-url", "http://127.0.0.1:1/", "--jwks-file", "f"];
        assert!(parse(&both).is_err());
    }

    #[test]
    fn logins_are_as_the_library_has_them_unless_said_otherwise() {
        let usual = parse(&[]).unwrap().login.into_params(Lms::Brightspace);
        assert_eq!(usual, LoginParams::default());
        let of_ltiaas = parse(&[]).unwrap().login.into_params(Lms::Ltiaas);
        assert_eq!(of_ltiaas.refresh_tokens, RefreshTokens::Reusable);
        let args = parse(&[
            "--redirect-uri",
            "https://a.example/c",
            "--refresh-tokens",
            "keep",
            "--on-reuse",
            "refuse",
            "--reuse-grace",
            "10s",
            "--approve",
        ]);
        let login = args.unwrap().login.into_params(Lms::Brightspace);
        assert_eq!(
            login,
            LoginParams {
                redirect_uris: vec!["https://a.example/c".parse().unwrap()],
                approve: true,
                refresh_tokens: RefreshTokens::Reusable,
                reuse_grace: Duration::from_secs(10),
                reuse_revokes: false,
                ..LoginParams::default()
            }
        );
    }

    #[test]
    fn localhost_is_a_name_for_loopback() {
        let args = parse(&["--listen", "localhost:9000"]).unwrap();
        assert_eq!(args.listen, "127.0.0.1:9000".parse().unwrap());
    }

    #[test]
    fn a_file_without_a_usable_key_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        fs::write(&path, r#"{"keys":[]}"#).unwrap();
        let args = parse(&["--jwks-file", path.to_str().unwrap()]).unwrap();
        let Err(refused) = params(args) else {
            panic!("an empty key set was accepted");
        };
        assert!(refused.to_string().contains("jwks.json"), "{refused}");
    }

    #[tokio::test]
    async fn what_it_prints_is_toml_and_holds_no_secret() {
        const FREE: [&str; 6] = [
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--objects",
            "127.0.0.1:0",
        ];
        for (more, scopes) in [
            (vec![], 5),
            (vec!["--lms", "dap"], 4),
            (vec!["--lms", "blackboard"], 1),
            (vec!["--lms", "canvas"], 4),
            (vec!["--lms", "ltiaas"], 5),
            (vec!["--client-secret", "s3cr3t", "--client-id", "a\"b"], 5),
        ] {
            let arguments: Vec<&str> = FREE.into_iter().chain(more).collect();
            let args = parse(&arguments).unwrap();
            let guide = Guide::of(&args);
            let client_id = args.client_id.clone();
            let mock = Mock::start(params(args).unwrap()).await.unwrap();
            let text = guide.render(&mock);
            assert!(!text.contains("s3cr3t"));
            let start = text.find("[credentials.mock]").unwrap();
            let end = text.find("Then `bursar run`").unwrap();
            let parsed: toml::Table = text[start..end].parse().unwrap();
            let credential = &parsed["credentials"]["mock"];
            assert_eq!(credential["token_url"].as_str().unwrap(), mock.token_url());
            let client = match credential.get("platform_id") {
                Some(platform) => (platform, "bursar-mock-platform"),
                None => (&credential["client_id"], client_id.as_str()),
            };
            assert_eq!(client.0.as_str().unwrap(), client.1);
            let allowlist = parsed["upstreams"]["lms"]["scopes"].as_array().unwrap();
            assert_eq!(allowlist.len(), scopes);
            let control = mock.control_address().unwrap();
            assert!(text.contains(&format!("http://{control}/mock/requests")));
        }
    }
}
