//! People log in: `bursar login` against a simulated Brightspace, and what bursar makes of it.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use crate::support::{
    authorization_server::AuthorizationServer,
    bursar::Bursar,
    http::exchange,
    peer::{Peer, Reply},
    person::{LTIAAS, Office, get},
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_login_ends_with_what_was_granted_where_it_is_kept_and_what_comes_next() {
    let office = Office::open(|_| {});
    assert_eq!(office.run(&["check", "--offline"]).code, 4);
    assert_eq!(office.run(&["token", "app"]).code, 4);

    let login = office.login(&["app"]);
    let query: Vec<_> = login.url.query_pairs().into_owned().collect();
    let asked = |name: &str| {
        let found = query.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(asked("scope"), Some("users:own_profile:read"));
    assert_eq!(asked("code_challenge_method"), Some("S256"));
    assert_eq!(asked("redirect_uri"), Some(office.redirect.as_str()));

    let callback = login.decide("auto=1&user=1007");
    let target = format!("{}?{}", callback.path(), callback.query().unwrap());
    let page = get(&callback, &target);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("close this tab"), "{}", page.text());
    assert_eq!(page.field("cache-control"), Some("no-store"));
    assert_eq!(page.field("referrer-policy"), Some("no-referrer"));
    let finished = login.end();
    assert_eq!(finished.code, 0, "{}", finished.said());
    for part in [
        "users:own_profile:read",
        "1007",
        office.state().to_str().unwrap(),
        "bursar run",
    ] {
        assert!(
            finished.stderr.contains(part),
            "{part}: {}",
            finished.stderr
        );
    }

    // Nothing of it is a secret.
    let (_, code) = callback
        .query_pairs()
        .find(|(name, _)| name == "code")
        .unwrap();
    assert!(!finished.said().contains(&*code) && !page.text().contains(&*code));
    assert_eq!(mode(&office.state()), 0o700);
    for entry in fs::read_dir(office.state()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }

    let checked = office.run(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.said());
    assert!(
        checked.stdout.contains("app: logged in as 1007"),
        "{}",
        checked.stdout
    );
    let told = office.run(&["token", "app", "-o", "json"]);
    assert_eq!(told.code, 0, "{}", told.said());
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["grant"], "authorization_code");
    // Neither has spent anything.
    let counters = office.lms.counters();
    assert_eq!((counters.token_requests, counters.tokens_issued), (1, 1));
}

#[test]
fn what_is_not_the_answer_is_refused_and_the_login_goes_on() {
    let office = Office::open(|_| {});
    let login = office.login(&["app", "--no-browser"]);
    let callback = login.decide("auto=1");
    for (target, status) in [
        ("/callback?code=1&state=guess", 400),
        ("/callback?error=access_denied&state=guess", 400),
        ("/callback", 400),
        ("/other?code=1", 404),
        ("/favicon.ico", 404),
    ] {
        assert_eq!(get(&callback, target).status, status, "{target}");
    }
    let target = format!("{}?{}", callback.path(), callback.query().unwrap());
    assert_eq!(get(&callback, &target).status, 200);
    assert_eq!(login.end().code, 0);
    assert_eq!(office.lms.counters().token_requests, 1);
}

#[test]
fn a_person_who_says_no_ends_it_and_both_sides_are_told_why() {
    let office = Office::open(|_| {});
    let login = office.login(&["app"]);
    let page = login.go("auto=deny");
    assert_eq!(page.status, 400);
    assert!(page.text().contains("access_denied"), "{}", page.text());
    let finished = login.end();
    assert_eq!(finished.code, 1, "{}", finished.said());
    assert!(finished.stderr.contains("access_denied"));
    assert_eq!(office.lms.counters().token_requests, 0);
}

#[test]
fn a_code_that_is_refused_is_told_in_the_browser_and_in_the_terminal() {
    let office = Office::open(|_| {});
    office
        .lms
        .order("on=token,fault=oauth_error,error=invalid_grant");
    let login = office.login(&["app"]);
    let page = login.go("auto=1");
    assert_eq!(page.status, 400, "{}", page.text());
    assert!(page.text().contains("invalid_grant"), "{}", page.text());
    let finished = login.end();
    assert_eq!(finished.code, 1, "{}", finished.said());
    assert_eq!(office.run(&["check", "--offline"]).code, 4);
}

#[test]
fn without_refresh_tokens_a_login_would_be_worth_nothing_and_says_so() {
    let office = Office::open(|params| {
        params.login.refresh_tokens = bursar::mock::RefreshTokens::Absent;
    });
    let login = office.login(&["app"]);
    assert_eq!(login.go("auto=1").status, 400);
    let finished = login.end();
    assert_eq!(finished.code, 1);
    assert!(
        finished.stderr.contains("refresh tokens"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_issuer_that_is_missing_or_another_one_is_refused() {
    for (says, expected) in [
        (None, "iss is missing"),
        (Some("https://evil.test"), "another"),
    ] {
        let office = Office::open(move |params| {
            params.login.issuer = says.map(str::to_owned);
        })
        .with("issuer = \"https://auth.brightspace.test\"");
        let login = office.login(&["app"]);
        assert_eq!(login.go("auto=1").status, 400);
        let finished = login.end();
        assert_eq!(finished.code, 1);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert_eq!(
            office.lms.counters().token_requests,
            0,
            "the code went nowhere"
        );
    }
}

#[test]
fn over_ssh_the_address_is_pasted_and_nothing_listens() {
    let office = Office::open(|_| {});
    let mut login = office.login(&["app", "--paste"]);
    let callback = login.decide("auto=1");
    assert!(TcpListener::bind(("127.0.0.1", callback.port().unwrap())).is_ok());
    login.paste(&format!("\n{callback}\n"));
    let finished = login.end();
    assert_eq!(finished.code, 0, "{}", finished.said());

    let mut login = office.login(&["app", "--paste"]);
    login.paste("http://127.0.0.1/somewhere?code=1\n");
    let finished = login.end();
    assert_eq!(finished.code, 1, "{}", finished.said());
}

#[test]
fn nobody_is_waited_for_for_ever_and_ctrl_c_frees_the_port() {
    let office = Office::open(|_| {});
    let login = office.login(&["app", "--timeout", "300ms"]);
    let finished = login.end();
    assert_eq!(finished.code, 4, "{}", finished.said());
    assert!(finished.stderr.contains("300ms"), "{}", finished.stderr);

    let login = office.login(&["app"]);
    rustix::process::kill_process(login.pid(), rustix::process::Signal::INT).unwrap();
    assert_eq!(login.end().code, 130);
    let port = office.redirect.parse::<url::Url>().unwrap().port().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();

    let finished = office.run(&["login", "app"]);
    assert_eq!(finished.code, 1, "{}", finished.said());
    assert!(finished.stderr.contains("--paste"), "{}", finished.stderr);
    drop(taken);
}

#[test]
fn what_cannot_be_logged_in_is_wrong_usage() {
    let office = Office::open(|_| {});
    for words in [
        &["login", "nobody"][..],
        &["login", "app", "--subject", "ann"],
        &["logout", "nobody"],
        &["token", "app", "--subject", "ann"],
    ] {
        let finished = office.run(words);
        assert_eq!(finished.code, 2, "{words:?}: {}", finished.said());
    }
    let office = office.with("subject_header = \"Bursar-Subject\"");
    for words in [
        &["login", "app"][..],
        &["login", "app", "--subject", "two words"],
        &["logout", "app"],
    ] {
        assert_eq!(office.run(words).code, 2, "{words:?}");
    }
}

#[test]
fn each_person_has_a_login_of_their_own() {
    let office = Office::open(|_| {}).with("subject_header = \"Bursar-Subject\"");
    assert_eq!(office.log_in(&["app", "--subject", "ann"]).code, 0);
    assert_eq!(office.log_in(&["app", "--subject", "bob"]).code, 0);
    assert_eq!(office.run(&["token", "app", "--subject", "ann"]).code, 0);
    assert_eq!(office.run(&["token", "app", "--subject", "eve"]).code, 4);
    let checked = office.run(&["check", "--offline"]);
    assert_eq!(checked.code, 0, "{}", checked.said());
    assert!(checked.stdout.contains("2 of them"), "{}", checked.stdout);
    let state = office.state();
    let names = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.collect::<String>().find("ann").is_none());
    assert!(!checked.said().contains("ann"));
}

#[test]
fn a_logout_takes_the_login_back_where_it_can_and_forgets_it() {
    let office = Office::open(|params| params.login.revocation = true);
    let url = format!(
        "revocation_url = \"http://{}{}\"",
        office.lms.address,
        bursar::mock::REVOCATION_PATH
    );
    let office = office.with(&url);
    assert_eq!(office.log_in(&["app"]).code, 0);
    let finished = office.run(&["logout", "app"]);
    assert_eq!(finished.code, 0, "{}", finished.said());
    for said in [
        "has taken the login back",
        "A running bursar uses the access token that it holds until its end",
    ] {
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
    assert_eq!(office.lms.counters().revocations, 1);
    assert_eq!(office.run(&["check", "--offline"]).code, 4);
    assert_eq!(
        office.run(&["logout", "app"]).code,
        0,
        "there is nothing to do"
    );
}

#[test]
fn a_logout_says_what_it_could_not_do() {
    let office = Office::open(|_| {});
    assert_eq!(office.log_in(&["app"]).code, 0);
    let finished = office.run(&["logout", "app"]);
    assert_eq!(finished.code, 0, "{}", finished.said());
    assert!(
        finished.stderr.contains("not taken back"),
        "{}",
        finished.stderr
    );

    let office = office.with("revocation_url = \"http://127.0.0.1:1/revoke\"");
    assert_eq!(office.log_in(&["app"]).code, 0);
    let finished = office.run(&["logout", "app"]);
    assert_eq!(finished.code, 75, "{}", finished.said());
    assert_eq!(
        office.run(&["check", "--offline"]).code,
        4,
        "forgotten all the same"
    );
}

/// A call of the application's.
const CALL: &str = "/d2l/api/lp/1.49/users/whoami";

/// How often the refresh tokens came that were issued.
fn presented(office: &Office) -> Vec<u64> {
    office.lms.counters().refresh_tokens.into_values().collect()
}

#[test]
fn a_running_bursar_takes_a_login_over_by_itself_and_serves_the_application() {
    let office = Office::open(|_| {});
    let bursar = Bursar::start(&office.toml());
    let refused = bursar.get(CALL);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "reauthorization_required")
    );
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("bursar login app"), "{detail}");
    let series = "bursar_token_reauth_required{credential=\"app\"}";
    assert_eq!(bursar.metric(series), 1.0);

    assert_eq!(office.log_in(&["app"]).code, 0);
    bursar.until("the login is taken over", |bursar| {
        bursar.get(CALL).status == 200
    });
    assert_eq!(bursar.metric(series), 0.0);
    // The token of the login itself is used: no refresh token was spent.
    assert_eq!(office.lms.counters().token_requests, 1);
}

#[test]
fn refresh_tokens_rotate_and_a_restart_costs_no_rotation() {
    // Due for renewal as soon as it is there.
    let office = Office::open(|params| params.token_lifetime = Duration::from_secs(4));
    let office = office.with("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"");
    assert_eq!(office.log_in(&["app"]).code, 0);
    let bursar = Bursar::start(&office.toml());
    bursar.until("three rotations", |_| {
        office.lms.counters().token_requests >= 4
    });
    assert_eq!(bursar.get(CALL).status, 200);
    bursar.shutdown();
    bursar.join();
    // None was shown twice, and the newest never.
    let shown = presented(&office);
    let (newest, spent) = shown.split_last().unwrap();
    assert_eq!(*newest, 0);
    assert!(spent.iter().all(|times| *times == 1), "{shown:?}");

    let office = Office::open(|_| {});
    assert_eq!(office.log_in(&["app"]).code, 0);
    for _restart in 0..3 {
        let bursar = Bursar::ready(&office.toml());
        assert_eq!(bursar.get(CALL).status, 200);
        bursar.shutdown();
        bursar.join();
    }
    assert_eq!(office.lms.counters().token_requests, 1);
}

#[test]
fn a_login_that_the_lms_no_longer_accepts_is_told_and_a_new_one_heals_it() {
    let office = Office::open(|params| params.token_lifetime = Duration::from_secs(3));
    let office = office.with("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"");
    assert_eq!(office.log_in(&["app"]).code, 0);
    let bursar = Bursar::ready(&office.toml());
    office.lms.control.revoke_grants();
    bursar.until("the login is refused", |bursar| {
        bursar.get(CALL).code() == "reauthorization_required"
    });
    let checked = office.run(&["check", "--offline"]);
    assert_eq!(checked.code, 4, "{}", checked.said());
    assert!(
        checked.stdout.contains("no longer accepts"),
        "{}",
        checked.stdout
    );
    assert_eq!(office.log_in(&["app"]).code, 0);
    bursar.until("the new login is taken over", |bursar| {
        bursar.get(CALL).status == 200
    });

    assert_eq!(office.run(&["logout", "app"]).code, 0);
    bursar.until("the logout shows", |bursar| {
        bursar.get(CALL).code() == "reauthorization_required"
    });
}

#[test]
fn each_request_gets_the_token_of_the_person_it_is_for() {
    let office = Office::open(|_| {}).with("subject_header = \"Bursar-Subject\"");
    for (person, user) in [("ann", "1001"), ("bob", "1002")] {
        let login = office.login(&["app", "--subject", person]);
        assert_eq!(login.go(&format!("auto=1&user={user}")).status, 200);
        assert_eq!(login.end().code, 0);
    }
    let bursar = Bursar::start(&office.toml());
    let as_person = |person: &str| {
        let field = format!("Bursar-Subject: {person}\r\n");
        bursar.request("GET", CALL, &field, "")
    };
    let (ann, bob) = (as_person("ann"), as_person("bob"));
    assert_eq!((ann.status, bob.status), (200, 200));
    assert_ne!(ann.text(), bob.text());
    let nobody = as_person("eve");
    assert_eq!(nobody.code(), "reauthorization_required");
    let detail = nobody.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("--subject") && !detail.contains("eve"),
        "{detail}"
    );
    assert_eq!(bursar.get(CALL).code(), "subject_missing");
    // A login that comes later is found without a restart.
    assert_eq!(office.log_in(&["app", "--subject", "eve"]).code, 0);
    bursar.until("eve is served", |_| as_person("eve").status == 200);
}

#[test]
fn who_the_person_is_reaches_no_other_upstream_either() {
    let office = Office::open(|_| {}).with("subject_header = \"X-Person\"");
    let (other, server) = (Peer::start(|_| Reply::ok()), AuthorizationServer::start());
    let toml = format!(
        "{}hosts = [\"lms.localhost\"]\n\
         [credentials.service]\nprofile = \"oauth2\"\ngrant = \"client_credentials\"\n\
         auth_method = \"client_secret_basic\"\nclient_id = \"app\"\nclient_secret = \"secret\"\n\
         token_url = \"{}\"\n\
         [upstreams.other]\nbase_url = \"{}\"\ncredential = \"service\"\nhosts = [\"other.localhost\"]\n\
         [[upstreams.other.routes]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{{*rest}}\"\nscopes = []\n",
        office.toml(),
        server.token_url(),
        other.url(),
    );
    let bursar = Bursar::start(&toml);
    let port = bursar.proxy.port();
    let answer = exchange(
        bursar.proxy,
        format!(
            "GET /x HTTP/1.1\r\nHost: other.localhost:{port}\r\nX-Person: ann\r\nX-Kept: 1\r\n\r\n"
        ),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(other.last().field("x-kept"), Some("1"));
    assert_eq!(other.last().field("x-person"), None);
}

#[test]
fn canvas_keeps_its_refresh_token_and_names_who_has_logged_in() {
    let office = Office::canvas(|params| {
        params.token_lifetime = Duration::from_secs(4);
        params.is_unlimited = true;
    })
    .with("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"");
    let login = office.login(&["app"]);
    assert_eq!(login.go("auto=1&user=1003").status, 200);
    let finished = login.end();
    assert_eq!(finished.code, 0, "{}", finished.said());
    assert!(finished.stderr.contains("(1003)"), "{}", finished.stderr);

    let bursar = Bursar::ready(&office.toml());
    assert_eq!(bursar.get("/api/v1/courses").status, 200);
    bursar.until("two renewals", |_| {
        office.lms.counters().token_requests >= 3
    });
    assert_eq!(bursar.get("/api/v1/courses").status, 200);
    // One refresh token, shown each time, and nobody minds.
    let counters = office.lms.counters();
    assert_eq!(counters.refresh_tokens.len(), 1);
    assert_eq!(
        (counters.refresh_token_reuses, counters.grants_revoked),
        (0, 0)
    );
    let rotations = "bursar_refresh_token_rotations_total{credential=\"app\",result=\"persisted\"}";
    assert_eq!(bursar.metric(rotations), 0.0);

    let finished = office.run(&["logout", "app"]);
    assert_eq!(finished.code, 0, "{}", finished.said());
    assert!(
        finished.stderr.contains("has taken the login back"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_canvas_that_does_not_know_the_refresh_token_wants_a_login() {
    let office = Office::canvas(|params| {
        params.token_lifetime = Duration::from_secs(3);
        params.is_unlimited = true;
    })
    .with("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"");
    assert_eq!(office.log_in(&["app"]).code, 0);
    let bursar = Bursar::ready(&office.toml());
    office.lms.control.revoke_grants();
    bursar.until("the login is refused", |bursar| {
        bursar.get("/api/v1/courses").code() == "reauthorization_required"
    });
    let checked = office.run(&["check", "--offline"]);
    assert_eq!(checked.code, 4, "{}", checked.said());
}

#[test]
fn without_a_state_nothing_listens_where_nobody_can_say_that_the_answer_is_theirs() {
    let office = Office::of(LTIAAS, |_| {});
    let finished = office.run(&["login", "app"]);
    assert_eq!(finished.code, 2, "{}", finished.said());
    assert!(finished.stderr.contains("--paste"), "{}", finished.stderr);
    assert_eq!(office.run(&["check", "--offline"]).code, 4);
}

#[test]
fn ltiaas_hands_out_the_lms_s_tokens_by_whatever_its_undocumented_parts_turn_out_to_be() {
    for (settings, set) in [
        ("", (|_| {}) as fn(&mut bursar::mock::MockParams)),
        (
            "callback_parameter = \"handle\"\nexchange_method = \"GET\"",
            |params| {
                params.ltiaas.parameter = "handle".to_owned();
                params.ltiaas.first_method = http::Method::GET;
            },
        ),
    ] {
        let office = Office::of(LTIAAS, move |params| {
            params.token_lifetime = Duration::from_secs(4);
            params.login.refresh_tokens = bursar::mock::RefreshTokens::Reusable;
            set(params);
        });
        let more = format!("refresh_ahead = \"50%\"\nsafety_margin = \"0s\"\n{settings}");
        let office = office.with(&more);
        let mut login = office.login(&["app", "--paste"]);
        assert_eq!(login.url.path(), "/oauth/start/bursar-mock-platform");
        assert_eq!(login.url.query(), None);
        let callback = login.decide("auto=1");
        login.paste(&format!("{callback}\n"));
        let finished = login.end();
        assert_eq!(finished.code, 0, "{}", finished.said());

        let bursar = Bursar::ready(&office.toml());
        assert_eq!(bursar.get(CALL).status, 200);
        bursar.until("a renewal", |_| office.lms.counters().token_requests >= 2);
        assert_eq!(bursar.get(CALL).status, 200);
        assert!(!bursar.metrics().contains("bursar-mock-api-key"));
    }
}
