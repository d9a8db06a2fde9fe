//! Routes that name functions (Moodle).

use super::*;

const SERVER: &str = FUNCTIONS_PATH;

fn calling(name: &str, functions: &[&str]) -> RouteSpec {
    RouteSpec {
        functions: functions.iter().map(ToString::to_string).collect(),
        ..route(name, &format!("GET,POST {SERVER}"))
    }
}

fn moodle_in(mode: Mode, routes: Vec<RouteSpec>) -> Result<Policy, Vec<PolicyProblem>> {
    Policy::build(&PolicySpec {
        mode,
        catalogue: Catalogue::None,
        cut_out: Vec::new(),
        allowlist: scopes("read"),
        calls_functions: true,
        routes,
    })
}

fn moodle() -> Policy {
    let users = RouteSpec {
        requirement: Requirement::All(scopes("write")),
        ..calling("users", &["core_user_create_users"])
    };
    let routes = vec![
        calling(
            "courses",
            &["core_course_get_courses", "core_course_get_contents"],
        ),
        users,
        route("anything", "GET,POST /{*rest}"),
        route("upload", "POST /webservice/upload.php"),
    ];
    moodle_in(Mode::Enforce, routes).unwrap()
}

fn get(policy: &Policy, target: &str) -> Result<Permit, Denial> {
    policy.decide(&Method::GET, &target.parse().unwrap())
}

fn post(policy: &Policy, target: &str, form: &str) -> Result<Permit, Denial> {
    let target = target.parse().unwrap();
    assert!(policy.needs_form(&Method::POST, &target));
    policy.precheck_call(&Method::POST, &target)?;
    let form = policy.read_form(form.as_bytes())?;
    policy.decide_call(&Method::POST, &target, &form)
}

fn label(decision: Result<Permit, Denial>) -> String {
    decision.unwrap().route().label.to_string()
}

fn refusal(decision: Result<Permit, Denial>) -> (Code, Reason) {
    let denial = decision.unwrap_err();
    (denial.code, denial.reason)
}

const NO_ROUTE: (Code, Reason) = (Code::RouteDenied, Reason::NoRoute);
const AMBIGUOUS: (Code, Reason) = (Code::QueryParameterDenied, Reason::Query);

#[test]
fn a_function_in_the_query_or_in_the_form_has_the_route_that_names_it() {
    let policy = moodle();
    let call = format!("{SERVER}?wsfunction=core_course_get_courses&x=1");
    let permit = get(&policy, &call).unwrap();
    assert_eq!(&*permit.route().label, "courses");
    assert_eq!(permit.target(), call.as_str());
    let form = "moodlewsrestformat=json&wsfunction=core_course_get_contents";
    assert_eq!(label(post(&policy, SERVER, form)), "courses");
    assert_eq!(label(post(&policy, &call, "options[ids][0]=1")), "courses");
    let head = policy.decide(&Method::HEAD, &call.parse().unwrap());
    assert_eq!(label(head), "courses");
}

#[test]
fn a_function_that_no_route_names_is_refused_however_broad_a_path_is() {
    let policy = moodle();
    let evil = "wsfunction=core_user_delete_users";
    assert_eq!(refusal(get(&policy, &format!("{SERVER}?{evil}"))), NO_ROUTE);
    assert_eq!(refusal(post(&policy, SERVER, evil)), NO_ROUTE);
    assert_eq!(refusal(get(&policy, SERVER)), NO_ROUTE);
    assert_eq!(refusal(post(&policy, SERVER, "")), NO_ROUTE);
    let case = format!("{SERVER}?wsfunction=Core_course_get_courses");
    assert_eq!(refusal(get(&policy, &case)), NO_ROUTE);
    // A form is not even read if the query has decided.
    let target = format!("{SERVER}?{evil}").parse().unwrap();
    assert!(policy.precheck_call(&Method::POST, &target).is_err());
}

#[test]
fn a_function_is_called_by_the_methods_of_its_route_only() {
    let put = moodle().decide(
        &Method::PUT,
        &format!("{SERVER}?wsfunction=core_course_get_courses")
            .parse()
            .unwrap(),
    );
    let denial = put.unwrap_err();
    assert_eq!(
        (denial.code, denial.reason),
        (Code::RouteDenied, Reason::Method)
    );
    assert!(denial.detail.contains("GET, POST"), "{}", denial.detail);
}

#[test]
fn two_functions_or_an_odd_one_are_ambiguous_in_every_mode() {
    let reporting = moodle_in(Mode::Report, vec![calling("c", &["a", "b"])]).unwrap();
    for policy in [moodle(), reporting] {
        let a = format!("{SERVER}?wsfunction=a");
        for (target, form) in [
            (a.as_str(), "wsfunction=b"),
            (SERVER, "wsfunction=a&wsfunction=b"),
            (SERVER, "wsfunction[]=a"),
            (SERVER, "wsfunction=a%00b"),
        ] {
            let decision = post(&policy, target, form);
            if decision
                .as_ref()
                .is_err_and(|denial| denial.reason == Reason::NoRoute)
            {
                // The query alone was refused before the form was read.
                assert_eq!(target, a);
                continue;
            }
            assert_eq!(refusal(decision), AMBIGUOUS, "{target} {form}");
        }
        let twice = format!("{a}&wsfunction=b");
        assert_eq!(refusal(get(&policy, &twice)), AMBIGUOUS);
    }
}

#[test]
fn the_scopes_of_a_route_count_for_its_functions() {
    let denial = post(&moodle(), SERVER, "wsfunction=core_user_create_users").unwrap_err();
    assert_eq!(denial.code, Code::InsufficientScope);
    assert_eq!(denial.route.as_deref(), Some("users"));
}

#[test]
fn other_ways_into_the_web_services_take_a_route_that_spells_them_out() {
    let policy = moodle();
    for path in [
        "/webservice/soap/server.php?wsfunction=core_course_get_courses",
        "/webservice/rest/server.php/x?wsfunction=core_course_get_courses",
        "/Webservice/rest/server.php?wsfunction=core_course_get_courses",
        "/login/token.php",
    ] {
        let (code, reason) = refusal(get(&policy, path));
        assert_eq!((code, reason), (Code::RouteDenied, Reason::Deny), "{path}");
    }
    assert_eq!(label(get(&policy, "/pluginfile.php/1/a")), "anything");
    let soap = route("soap", "POST /webservice/soap/server.php");
    let spelt = moodle_in(Mode::Enforce, vec![soap]).unwrap();
    let target = "/webservice/soap/server.php".parse().unwrap();
    assert_eq!(label(spelt.decide(&Method::POST, &target)), "soap");
}

#[test]
fn the_applications_own_token_is_cut_out_before_anything_is_decided() {
    let policy = moodle();
    let call = format!("{SERVER}?wstoken=mine&wsfunction=core_course_get_courses&WSToken=too");
    let permit = get(&policy, &call).unwrap();
    let expected = format!("{SERVER}?wsfunction=core_course_get_courses");
    assert_eq!(permit.target(), expected.as_str());
    let other = get(&policy, "/a?wstoken=mine").unwrap();
    assert_eq!(other.target(), "/a");
    let form = b"wstoken=mine&wsfunction=core_course_get_courses&x=1";
    let mut form = policy.read_form(form).unwrap();
    let cut = form.without_credentials().unwrap();
    assert_eq!(cut, b"wsfunction=core_course_get_courses&x=1");
    // On other upstreams it is refused as ever.
    let plain = build(Catalogue::None, "read", vec![route("a", "GET /a")]).unwrap();
    assert_eq!(refusal(get(&plain, "/a?wstoken=mine")), AMBIGUOUS);
}

#[test]
fn the_token_of_a_file_has_another_name_and_there_only() {
    let policy = moodle();
    let file = get(
        &policy,
        "/webservice/pluginfile.php/1/a?token=mine&forcedownload=1",
    )
    .unwrap();
    assert_eq!(
        file.target(),
        "/webservice/pluginfile.php/1/a?forcedownload=1"
    );
    assert_eq!(file.token_parameter(), Some("token"));
    let other = get(&policy, "/a?token=mine").unwrap();
    assert_eq!(
        (other.target().as_str(), other.token_parameter()),
        ("/a?token=mine", None)
    );
    let plain = build(Catalogue::None, "read", vec![route("a", "GET /{*rest}")]).unwrap();
    let plain = get(&plain, "/webservice/pluginfile.php/1?token=mine").unwrap();
    assert_eq!(plain.target(), "/webservice/pluginfile.php/1?token=mine");
}

#[test]
fn a_file_is_named_by_its_path_and_by_nothing_else() {
    let course = "GET,POST /webservice/pluginfile.php/12/{*rest}";
    let by_parameter = RouteSpec {
        query_allow: vec!["file".into()],
        ..route("any file", "GET /webservice/pluginfile.php")
    };
    for mode in [Mode::Enforce, Mode::Report] {
        let routes = vec![route("course", course), by_parameter.clone()];
        let policy = moodle_in(mode, routes).unwrap();
        let file = "/webservice/pluginfile.php/12/a";
        for query in [
            "file=/34/secret",
            "File=/34/b",
            "x=1&f%69le[]=/34/b",
            "x=1;token=t",
        ] {
            let decision = get(&policy, &format!("{file}?{query}"));
            assert_eq!(refusal(decision), AMBIGUOUS, "{query}");
        }
        let posted = policy.decide(&Method::POST, &file.parse().unwrap());
        assert_eq!(refusal(posted), AMBIGUOUS);
        assert_eq!(
            label(get(&policy, &format!("{file}?preview=thumb"))),
            "course"
        );
        let named = "/webservice/pluginfile.php?file=/34/b";
        assert_eq!(label(get(&policy, named)), "any file");
    }
    assert_eq!(label(get(&moodle(), "/a?file=1")), "anything");
}

#[test]
fn report_mode_lets_a_function_without_a_route_through_but_no_denied_one() {
    let denied = RouteSpec {
        deny: true,
        ..calling("no", &["core_user_delete_users"])
    };
    let routes = vec![calling("courses", &["core_course_get_courses"]), denied];
    let policy = moodle_in(Mode::Report, routes).unwrap();
    let permit = post(&policy, SERVER, "wsfunction=core_user_get_users").unwrap();
    assert_eq!(
        permit.reported().map(|denial| denial.code),
        Some(Code::RouteDenied)
    );
    let permit = get(&policy, SERVER).unwrap();
    assert!(permit.reported().is_some());
    for function in ["core_user_delete_users", "CORE_user_delete_users"] {
        let decision = post(&policy, SERVER, &format!("wsfunction={function}"));
        assert_eq!(
            refusal(decision),
            (Code::RouteDenied, Reason::Deny),
            "{function}"
        );
    }
    let soap = get(&policy, "/webservice/soap/server.php");
    assert_eq!(refusal(soap), (Code::RouteDenied, Reason::Deny));
}

#[test]
fn a_deny_route_of_a_path_closes_all_functions_there() {
    let routes = vec![
        calling("courses", &["core_course_get_courses"]),
        deny("closed", "* /webservice/{*rest}"),
    ];
    let policy = moodle_in(Mode::Enforce, routes).unwrap();
    let call = format!("{SERVER}?wsfunction=core_course_get_courses");
    assert_eq!(
        refusal(get(&policy, &call)),
        (Code::RouteDenied, Reason::Deny)
    );
}

#[test]
fn moodle_may_live_in_a_directory() {
    let path = "/moodle/webservice/rest/server.php";
    let there = RouteSpec {
        path: path.to_owned(),
        ..calling("courses", &["core_course_get_courses"])
    };
    let policy = moodle_in(Mode::Enforce, vec![there]).unwrap();
    let query = "wsfunction=core_course_get_courses";
    assert_eq!(label(get(&policy, &format!("{path}?{query}"))), "courses");
    assert_eq!(
        refusal(get(&policy, &format!("{SERVER}?{query}"))),
        NO_ROUTE
    );
}

#[test]
fn routes_for_calls_that_cannot_be_are_refused() {
    let kinds = |routes| -> Vec<PolicyProblemKind> {
        let problems = moodle_in(Mode::Enforce, routes).unwrap_err();
        problems.into_iter().map(|problem| problem.kind).collect()
    };
    let other = "courses".into();
    assert_eq!(
        kinds(vec![
            calling("courses", &["f", "f"]),
            calling("again", &["g", "f"])
        ]),
        [PolicyProblemKind::Ambiguous { other }]
    );
    assert_eq!(
        kinds(vec![calling("odd", &["core course"])]),
        [PolicyProblemKind::FunctionName("core course".to_owned())]
    );
    for path in [
        "/x",
        "/webservice/rest/server.php/",
        "/{any}/webservice/rest/server.php",
    ] {
        let elsewhere = RouteSpec {
            path: path.to_owned(),
            ..calling("elsewhere", &["f"])
        };
        assert_eq!(
            kinds(vec![elsewhere]),
            [PolicyProblemKind::FunctionsPath],
            "{path}"
        );
    }
    let put = RouteSpec {
        methods: vec![Method::PUT],
        ..calling("put", &["f"])
    };
    assert_eq!(kinds(vec![put]), [PolicyProblemKind::FunctionsMethod]);
    let problems = build(Catalogue::None, "read", vec![calling("f", &["f"])]).unwrap_err();
    assert_eq!(problems[0].kind, PolicyProblemKind::NoFunctions);
}

#[test]
fn only_a_post_to_the_web_service_needs_its_form() {
    let policy = moodle();
    let needs = |method: Method, target: &str| policy.needs_form(&method, &target.parse().unwrap());
    assert!(needs(Method::POST, SERVER));
    assert!(needs(
        Method::POST,
        "/webservice/rest/server%2Ephp?wsfunction=a"
    ));
    assert!(!needs(Method::GET, SERVER));
    assert!(!needs(Method::POST, "/webservice/upload.php"));
    let plain = build(Catalogue::None, "read", vec![route("a", "GET /a")]).unwrap();
    assert!(!plain.needs_form(&Method::POST, &SERVER.parse().unwrap()));
}

proptest! {
    /// Whatever stands in query and form: what is permitted calls exactly one function, and a route names it.
    #[test]
    fn what_is_permitted_names_one_function_that_a_route_has(
        parts in prop::collection::vec(
            prop_oneof![
                Just("wsfunction=core_course_get_courses"), Just("wsfunction=core_user_delete_users"),
                Just("ws%66unction=core_user_delete_users"), Just("wsfunction[]=core_user_delete_users"),
                Just("a=1;wsfunction=core_user_delete_users"), Just("WSFUNCTION=core_user_delete_users"),
                Just("x=1"), Just("wstoken=t"), Just("+wsfunction=core_user_delete_users"),
            ], 0..5),
        split in 0_usize..5,
    ) {
        let (query, form) = parts.split_at(split.min(parts.len()));
        let target = format!("{SERVER}?{}", query.join("&"));
        if post(&moodle(), &target, &form.join("&")).is_ok() {
            let named: Vec<_> = parts.iter().filter(|part| part.to_lowercase().contains("function")).collect();
            prop_assert_eq!(named, [&"wsfunction=core_course_get_courses"]);
        }
    }
}
