//! Which upstream a name selects.

use super::*;
use crate::{
    dial::{Dialer, Origin, Way},
    policy::Catalogue,
    proxy::Http2,
};
use http::Request;
use proptest::prelude::*;
use std::time::Duration;

fn upstream(tls: bool, host: &str, port: u16, hosts: &[(&str, Option<u16>)]) -> UpstreamParams {
    let second = Duration::from_secs(1);
    UpstreamParams {
        name: host.into(),
        dialer: Dialer {
            origin: Origin {
                tls,
                host: host.into(),
                port,
            },
            tls: None,
            timeout: second,
            way: Way::Direct,
        },
        hosts: hosts.iter().map(|(host, port)| name(host, *port)).collect(),
        listen: None,
        response_timeout: second,
        idle_timeout: second,
        pool_idle_timeout: second,
        max_connections: 1,
        http2: Http2::Auto,
        cookies: false,
        catalogue: Catalogue::None,
        pace: false,
    }
}

fn name(host: &str, port: Option<u16>) -> HostName {
    HostName {
        host: host.to_owned(),
        port,
    }
}

/// One upstream, and the server's own names, on port 8080.
fn single() -> Directory {
    let lms = upstream(true, "lms.test", 443, &[("lms.localhost", None)]);
    let server = [name("bursar", None), name("gateway", Some(9000))];
    Directory::new(&server, &[&lms], None, 8080)
}

/// Two upstreams; `own` as given.
fn double(own: Option<usize>) -> Directory {
    let first = upstream(true, "one.test", 443, &[("one.localhost", None)]);
    let second = upstream(true, "two.test", 8443, &[]);
    Directory::new(&[name("bursar", None)], &[&first, &second], own, 8080)
}

fn head(target: &str, hosts: &[&[u8]]) -> Parts {
    let mut request = Request::get(target);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    request.body(()).unwrap().into_parts().0
}

fn choose(directory: &Directory, host: &str) -> Result<usize, Code> {
    directory
        .choose(&head("/", &[host.as_bytes()]))
        .map_err(|rejection| rejection.code)
}

#[test]
fn the_names_of_the_only_upstream_and_of_bursar_itself_select_it() {
    for host in [
        "localhost:8080",
        "LocalHost:8080",
        "127.0.0.1:8080",
        "127.5.6.7:8080",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]:8080",
        "bursar",
        "bursar:80",
        "bursar:8080",
        "gateway:9000",
        "LMS.Test",
        "lms.test.",
        "lms.test:443",
        "lms.test.:443",
        "lms.localhost",
        "lms.localhost:8080",
    ] {
        assert_eq!(choose(&single(), host), Ok(0), "{host}");
    }
}

#[test]
fn a_name_or_a_port_that_is_not_ours_is_misdirected() {
    for host in [
        "evil.test",
        "localhost",
        "localhost:8081",
        "127.0.0.1",
        "128.0.0.1:8080",
        "127.1:8080",
        "[::ffff:127.0.0.1]:8080",
        "[::2]:8080",
        "gateway",
        "gateway:8080",
        "bursar:9000",
        "lms.test:8443",
        "lms.test.evil.test",
        "my_service",
    ] {
        assert_eq!(
            choose(&single(), host),
            Err(Code::MisdirectedRequest),
            "{host}"
        );
    }
}

#[test]
fn a_host_that_is_no_host_is_invalid() {
    for host in [
        "",
        "lms.test..",
        "lms..test",
        ".lms.test",
        ".",
        "lms@evil",
        "user:pass@lms.test",
        "lms.test, evil.test",
        "lms.test evil.test",
        "lms.test/path",
        "lms%2etest",
        "lms.test:",
        "lms.test:0x50",
        "lms.test:+80",
        "lms.test:65536",
        "lms.test:80:80",
        "[lms.test]",
        "[::1",
        "::1",
        "[::1%25lo]:8080",
        "[::1]8080",
        "lms.t\u{e9}st",
    ] {
        assert_eq!(choose(&single(), host), Err(Code::HostInvalid), "{host}");
    }
}

#[test]
fn exactly_one_host_is_required() {
    let code = |hosts: &[&[u8]]| single().choose(&head("/", hosts)).unwrap_err().code;
    assert_eq!(code(&[]), Code::HostInvalid);
    assert_eq!(code(&[b"lms.test", b"lms.test"]), Code::HostInvalid);
    assert_eq!(code(&[b"lms.test", b"evil.test"]), Code::HostInvalid);
    assert_eq!(code(&[b"lms.\xfftest"]), Code::HostInvalid);
}

#[test]
fn several_upstreams_are_told_apart_by_their_names_alone() {
    let directory = double(None);
    assert_eq!(choose(&directory, "one.test"), Ok(0));
    assert_eq!(choose(&directory, "one.localhost:8080"), Ok(0));
    assert_eq!(choose(&directory, "two.test:8443"), Ok(1));
    for host in ["two.test", "bursar", "localhost:8080", "127.0.0.2:8080"] {
        assert_eq!(
            choose(&directory, host),
            Err(Code::MisdirectedRequest),
            "{host}"
        );
    }
}

#[test]
fn an_upstream_with_a_listener_of_its_own_owns_the_loopback_names_there() {
    let directory = double(Some(1));
    for host in [
        "localhost:8080",
        "127.9.9.9:8080",
        "bursar",
        "two.test:8443",
    ] {
        assert_eq!(choose(&directory, host), Ok(1), "{host}");
    }
    assert_eq!(choose(&directory, "one.test"), Ok(0));
}

#[test]
fn without_an_upstream_nothing_is_ours() {
    let directory = Directory::new(&[name("bursar", None)], &[], None, 8080);
    assert_eq!(choose(&directory, "bursar"), Err(Code::MisdirectedRequest));
}

#[test]
fn the_detail_of_a_421_lists_the_names_that_would_do() {
    let rejection = double(None).choose(&head("/", &[b"evil"])).unwrap_err();
    assert_eq!(
        rejection.detail,
        "Host must be one of: one.localhost, one.localhost:8080, one.test, one.test:443, two.test:8443."
    );
}

#[test]
fn an_absolute_target_must_name_the_same_as_host() {
    let choose = |target: &str, host: &[u8]| {
        single()
            .choose(&head(target, &[host]))
            .map_err(|rejection| rejection.code)
    };
    assert_eq!(choose("http://localhost:8080/a", b"localhost:8080"), Ok(0));
    assert_eq!(choose("http://bursar:80/a", b"bursar"), Ok(0));
    assert_eq!(choose("https://lms.test/a", b"LMS.test:443"), Ok(0));
    assert_eq!(choose("http://evil/a", b"lms.test"), Err(Code::HostInvalid));
    assert_eq!(
        choose("http://lms@lms.test/a", b"lms.test"),
        Err(Code::HostInvalid)
    );
    assert_eq!(
        choose("ftp://lms.test/a", b"lms.test"),
        Err(Code::HostInvalid)
    );
    assert_eq!(
        choose("http://evil/a", b"evil"),
        Err(Code::MisdirectedRequest)
    );
}

proptest! {
    #[test]
    fn no_host_makes_the_choice_panic(host in prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..40)) {
        let _ = single().choose(&head("/", &[&host]));
    }

    #[test]
    fn what_is_chosen_is_spelled_like_one_of_our_names(host in "[a-zA-Z0-9.:\\[\\]_-]{0,20}|(lms|bursar|localhost)[.:0-9a-z]{0,12}") {
        if choose(&single(), &host).is_ok() {
            let name = Name::parse(host.as_bytes(), DEFAULT_PORT).unwrap();
            let directory = single();
            prop_assert!(directory.upstreams.contains_key(&name.canonical()) || directory.is_loopback(&name));
        }
    }
}
