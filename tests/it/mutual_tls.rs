//! Mutual TLS: bursar shows its certificate to an LMS that asks, and is turned away without it.

use std::path::{Path, PathBuf};

use crate::{
    support::{
        authorization_server::AuthorizationServer,
        bursar::{Bursar, Extra, toml},
        peer::{Peer, Reply},
        program::{bursar_in, write_private},
    },
    tls::{Authority, TlsLms},
};

/// A certificate of the authority's for bursar and its key, as files, and the setting that names them.
fn identity(authority: &Authority, directory: &Path, name: &str) -> (PathBuf, PathBuf, String) {
    let (certificate, key) = authority.issue_pem(name);
    let certificate_file = directory.join(format!("{name}.crt"));
    std::fs::write(&certificate_file, certificate).unwrap();
    let key_file = write_private(&directory.join(format!("{name}.key")), &key);
    let setting =
        format!("client_cert_file = {certificate_file:?}\nclient_key_file = {key_file:?}");
    (certificate_file, key_file, setting)
}

fn configuration(server: &AuthorizationServer, lms: &TlsLms, upstream: &str) -> String {
    let nobody = Peer::start(|_| Reply::ok());
    let text = toml(
        &nobody,
        server,
        Extra {
            upstream,
            ..Extra::default()
        },
    );
    let url = format!("https://localhost:{}", lms.address.port());
    text.replace(&nobody.url(), &url)
}

#[test]
fn an_lms_that_asks_for_a_certificate_gets_the_configured_one() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let lms = TlsLms::asking(&authority, "localhost");
    let server = AuthorizationServer::start();
    let (_, _, setting) = identity(&authority, directory.path(), "bursar.test");
    let trust = format!("ca_file = {:?}\nca_only = true", authority.file(&directory));

    let known = Bursar::ready(&configuration(
        &server,
        &lms,
        &format!("{trust}\n{setting}"),
    ));
    assert_eq!(known.get("/api/x").text(), "secret");
    assert!(lms.read().contains("authorization: Bearer "));

    let before = lms.read().len();
    let unknown = Bursar::ready(&configuration(&server, &lms, &trust));
    assert_eq!(unknown.get("/api/x").status, 502);
    let stranger = Authority::new();
    let (_, _, foreign) = identity(&stranger, directory.path(), "stranger.test");
    let foreign = Bursar::ready(&configuration(
        &server,
        &lms,
        &format!("{trust}\n{foreign}"),
    ));
    assert_eq!(foreign.get("/api/x").status, 502);
    assert_eq!(lms.read().len(), before, "no byte of theirs was read");
}

#[test]
fn a_key_of_another_certificate_is_a_configuration_error_that_names_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let lms = TlsLms::asking(&authority, "localhost");
    let server = AuthorizationServer::start();
    let (certificate, key, setting) = identity(&authority, directory.path(), "bursar.test");
    let (_, other_key, _) = identity(&authority, directory.path(), "other.test");
    let trust = format!("ca_file = {:?}\nca_only = true", authority.file(&directory));
    let check = |upstream: &str| {
        let text = configuration(&server, &lms, &format!("{trust}\n{upstream}"));
        write_private(&directory.path().join("bursar.toml"), &text);
        bursar_in(directory.path(), &[], &["check", "--offline"])
    };
    assert_eq!(check(&setting).code, 0);

    let mixed = check(&format!(
        "client_cert_file = {certificate:?}\nclient_key_file = {other_key:?}"
    ));
    assert_eq!(mixed.code, 78, "{}", mixed.said());
    for part in [
        "BUR1211",
        "upstreams.lms.client_key_file",
        "not the one of the certificate",
    ] {
        assert!(mixed.said().contains(part), "{}", mixed.said());
    }
    let half = check(&format!("client_cert_file = {certificate:?}"));
    assert_eq!(half.code, 78);
    assert!(half.said().contains("BUR1006"), "{}", half.said());

    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, permissions).unwrap();
    let exposed = check(&setting);
    assert_eq!(exposed.code, 77, "{}", exposed.said());
    assert!(exposed.said().contains("BUR1202"), "{}", exposed.said());
}

#[test]
fn check_warns_of_a_certificate_that_expires_soon_or_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let lms = TlsLms::asking(&authority, "localhost");
    let server = AuthorizationServer::start();
    let trust = format!("ca_file = {:?}\nca_only = true", authority.file(&directory));
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for (from, until, said) in [
        (now - 9 * day, now + 5 * day, Some("expires in")),
        (now - 9 * day, now - 5 * day, Some("expired")),
        (now + 3 * day, now + 90 * day, Some("valid only in")),
        (now - 9 * day, now + 30 * day, None),
    ] {
        let (certificate, key) = authority.issue_between("bursar.test", from, until);
        let certificate_file = directory.path().join("dated.crt");
        std::fs::write(&certificate_file, certificate).unwrap();
        let key_file = write_private(&directory.path().join("dated.key"), &key);
        let upstream = format!(
            "{trust}\nclient_cert_file = {certificate_file:?}\nclient_key_file = {key_file:?}"
        );
        write_private(
            &directory.path().join("bursar.toml"),
            &configuration(&server, &lms, &upstream),
        );
        let check = bursar_in(directory.path(), &[], &["check", "--offline"]);
        assert_eq!(check.code, 0, "{}", check.said());
        match said {
            Some(said) => assert!(
                check.said().contains("BUR1212") && check.said().contains(said),
                "{}",
                check.said()
            ),
            None => assert!(!check.said().contains("BUR1212"), "{}", check.said()),
        }
    }
}
