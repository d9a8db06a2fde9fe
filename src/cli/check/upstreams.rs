//! Can each upstream be reached: name, TCP, TLS. No request is sent.

use std::time::Duration;

use super::report::{Category, Check};
use crate::{
    causes::with_causes,
    cli::{exit::Exit, explain},
    config::Config,
    dial::{DialError, Dialer, Phases, ProxyError},
};

pub(super) async fn check(config: &Config) -> Category {
    let mut checks = Vec::new();
    for upstream in &config.upstreams {
        let params = &upstream.params;
        let dialled = params.dialer.dial(params.http2.offer()).await;
        let dialled = dialled.map(|(stream, phases)| Reached {
            phases,
            http2: params.http2.is_spoken_on(&stream),
        });
        checks.push(judge(&params.name, &params.dialer, &dialled));
    }
    Category {
        name: "upstreams",
        checks,
    }
}

/// A connection that was made.
struct Reached {
    phases: Phases,
    /// Whether it would carry HTTP/2.
    http2: bool,
}

fn judge(name: &str, dialer: &Dialer, dialled: &Result<Reached, DialError>) -> Check {
    let host = &dialer.origin.host;
    let port = dialer.origin.port;
    let subject = format!("{name}: {host}:{port}");
    let error = match dialled {
        Ok(reached) => return Check::good(format!("{subject} {}", describe(reached, dialer))),
        Err(error) => error,
    };
    let (exit, hint) = match error {
        DialError::Dns(_) => (
            Exit::Temporary,
            format!(
                "is base_url right, and does DNS work in this container? next: getent hosts {host}"
            ),
        ),
        DialError::Connect(_) => (
            Exit::Temporary,
            format!(
                "does a firewall or a network policy forbid port {port}? bursar ignores HTTPS_PROXY; http_proxy is the setting"
            ),
        ),
        DialError::Proxy(ProxyError::Refused(status)) => (
            if status.is_server_error() {
                Exit::Temporary
            } else {
                Exit::Refused
            },
            format!(
                "do user and password in http_proxy fit, and does the proxy allow CONNECT to {host}:{port}?"
            ),
        ),
        DialError::Proxy(_) => (
            Exit::Temporary,
            "is http_proxy right, and may this machine connect to it?".to_owned(),
        ),
        DialError::Timeout(_) => (
            Exit::Temporary,
            format!(
                "packets to port {port} are probably dropped by a firewall; the limit is connect_timeout"
            ),
        ),
        DialError::Tls(_) => (
            Exit::Refused,
            "is a company's TLS inspection in between? then its CA belongs into ca_file".to_owned(),
        ),
        DialError::Alpn(_) => (
            Exit::Refused,
            "http2 of the upstream allows another version of HTTP only; \"auto\" takes either"
                .to_owned(),
        ),
    };
    Check::bad(
        subject,
        with_causes(error),
        explain::upstream_code(error),
        hint,
        exit,
    )
}

fn describe(reached: &Reached, dialer: &Dialer) -> String {
    let phases = &reached.phases;
    let ms = |duration: Duration| format!("{} ms", duration.as_millis());
    let tls = if dialer.origin.tls {
        format!(", TLS verified {}", ms(phases.tls))
    } else {
        ", no TLS".to_owned()
    };
    let version = if reached.http2 { "HTTP/2" } else { "HTTP/1.1" };
    format!(
        "resolves {}, accepts connections {}{tls}, {version}",
        ms(phases.dns),
        ms(phases.tcp)
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{
        cli::check::report::Outcome,
        dial::{Origin, Way},
    };

    fn judged(dialled: &Result<Reached, DialError>) -> Check {
        let dialer = Dialer {
            origin: Origin {
                tls: false,
                host: "lms.example.edu".into(),
                port: 443,
            },
            tls: None,
            timeout: Duration::from_secs(5),
            way: Way::Direct,
        };
        judge("lms", &dialer, dialled)
    }

    #[test]
    fn an_upstream_that_is_reached_says_how_fast() {
        let check = judged(&Ok(Reached {
            phases: Phases {
                dns: Duration::from_millis(2),
                tcp: Duration::from_millis(18),
                tls: Duration::ZERO,
            },
            http2: false,
        }));
        assert_eq!(check.result, Outcome::Success);
        assert_eq!(
            check.description,
            "lms: lms.example.edu:443 resolves 2 ms, accepts connections 18 ms, no TLS, HTTP/1.1"
        );
    }

    #[test]
    fn each_way_to_fail_has_its_own_code_and_its_causes() {
        let cause = || io::Error::other("word of the system");
        for (error, code) in [
            (DialError::Dns(cause()), "BUR4001"),
            (DialError::Connect(cause()), "BUR4002"),
            (DialError::Tls(cause()), "BUR4003"),
            (DialError::Timeout(Duration::from_secs(5)), "BUR4004"),
            (DialError::Alpn(cause()), "BUR4005"),
        ] {
            let is_timeout = matches!(error, DialError::Timeout(_));
            let check = judged(&Err(error));
            assert_eq!(check.code, Some(code));
            let said = check.error.unwrap();
            assert!(said.contains("word of the system") || is_timeout, "{said}");
        }
    }
}
