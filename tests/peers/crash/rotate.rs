//! One rotation of a refresh token, for `tests/peers/crash/run`, which kills it at every system call.
//!
//! `rotate login DIRECTORY PORT TOKEN` stores a login; `rotate show DIRECTORY PORT` prints what is stored; `rotate once DIRECTORY PORT
//! GRACE` says that it is ready, waits for a line, makes one token request, and ends as bursar does. The tokens are made up.

use std::{env, io, path::Path, sync::Arc, time::Duration};

use bursar::{
    clock::{Clock as _, SystemClock},
    dial::{Dialer, Origin, Way},
    oauth::{
        Cause, ClientAuth, ClientParams, Dialect, Grant, ScopeSource, TokenEndpoint, TokenRequest,
        TokenSource as _,
        authorization::{AuthorizationParams, RedirectUri},
    },
    secret::{ExposeSecret as _, SecretString},
    store::{Granted, KeyFile, Record, Store, StoreMetrics, StoreParams, Version},
    token::{
        LoginParams, RefreshRules, TokenMetrics,
        custody::{Custodian, Custody},
    },
};
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread waits for the network, one for the disk: each can be stopped at each of its calls.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    match arguments.as_slice() {
        ["login", directory, port, token] => log_in(&runtime, directory, port.parse()?, token),
        ["show", directory, port] => show(&runtime, directory, port.parse()?),
        ["once", directory, port, grace] => {
            let grace = Duration::from_secs(grace.parse()?);
            once(&runtime, directory, port.parse()?, grace)
        }
        _ => Err(
            "login DIRECTORY PORT TOKEN | show DIRECTORY PORT | once DIRECTORY PORT GRACE".into(),
        ),
    }
}

fn log_in(runtime: &Runtime, directory: &str, port: u16, token: &str) -> Result<(), Failed> {
    let key = params(port, Duration::ZERO)?.store_key(&"d2l".into(), None);
    let record = Record {
        version: Version::first("login".to_owned()),
        granted: Granted::RefreshToken {
            token: SecretString::from(token),
            expires: None,
        },
        access: None,
        scopes: None,
        account: None,
        intent: None,
        refused: None,
    };
    runtime.block_on(async {
        let guard = store(directory)?.lock(&key).await?;
        Ok(guard.replace(&record).await?)
    })
}

fn show(runtime: &Runtime, directory: &str, port: u16) -> Result<(), Failed> {
    let key = params(port, Duration::ZERO)?.store_key(&"d2l".into(), None);
    let store = store(directory)?;
    let Some(record) = runtime.block_on(store.read(&key))? else {
        return Err("nothing is stored".into());
    };
    let Granted::RefreshToken { token, .. } = &record.granted else {
        return Err("something else is stored".into());
    };
    let presented = record.intent.map_or(0, |intent| intent.presented);
    println!("{} {presented}", token.expose_secret());
    Ok(())
}

fn once(runtime: &Runtime, directory: &str, port: u16, grace: Duration) -> Result<(), Failed> {
    let registry = Registry::new();
    let metrics = Arc::new(TokenMetrics::new(&registry)?);
    let custodian = Custodian::new(store(directory)?, Arc::new(SystemClock), metrics);
    let params = params(port, grace)?;
    let endpoint = TokenEndpoint::new(params.client.clone());
    let custody = Custody::new(
        &custodian,
        endpoint,
        &"d2l".into(),
        &params,
        Duration::from_secs(300),
    );
    let disk =
        runtime.block_on(async { tokio::task::spawn_blocking(rustix::thread::gettid).await })?;
    println!(
        "{} {}",
        rustix::thread::gettid().as_raw_nonzero(),
        disk.as_raw_nonzero()
    );
    io::stdin().read_line(&mut String::new())?;

    let request = TokenRequest {
        scopes: None,
        subject: None,
        now: SystemClock.now(),
        skew_seconds: 0.0,
        is_forced: false,
    };
    let outcome = runtime.block_on(async {
        let outcome = custody.request(request).await;
        custodian.rotations().finish().await;
        outcome
    });
    match outcome.map_err(|failure| failure.cause) {
        Ok(_answer) => println!("token"),
        Err(Cause::LoginNeeded(why)) => println!("login: {why}"),
        Err(Cause::Store(why)) => println!("store: {why}"),
        Err(cause) => println!("failed: {cause}"),
    }
    Ok(())
}

fn store(directory: &str) -> Result<Store, Failed> {
    let place = Path::new(directory);
    let params = StoreParams::File {
        directory: place.join("state"),
        key_file: KeyFile::Own {
            path: place.join("state.key"),
        },
    };
    let metrics = StoreMetrics::new(&Registry::new())?;
    Ok(Store::new(&params, Arc::new(metrics)))
}

fn params(port: u16, reuse_grace: Duration) -> Result<LoginParams, Failed> {
    let timeout = Duration::from_secs(10);
    Ok(LoginParams {
        client: ClientParams {
            client_id: "me".to_owned(),
            grant: Grant::Login,
            auth: ClientAuth::None,
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
            token_path: "/token".parse()?,
            token_params: Vec::new(),
            token_headers: http::HeaderMap::new(),
            timeout,
            scope_source: ScopeSource::Answer,
            key_set: None,
            dialect: Dialect::Standard,
        },
        authorization: AuthorizationParams {
            authorize_url: "https://as.test/authorize".parse()?,
            redirect_uri: RedirectUri::parse("http://127.0.0.1:0/callback")
                .map_err(|_invalid| "the redirect_uri is wrong")?,
            issuer: None,
            pkce: true,
            relay_parameter: None,
        },
        refresh: RefreshRules {
            is_reusable: false,
            reuse_grace,
            names_scopes: true,
        },
    })
}
