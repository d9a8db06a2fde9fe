//! Moodle's one path, its errors with status 200, and its files.

use super::*;

const SERVER: &str = "/webservice/rest/server.php";

async fn start() -> Mock {
    let keys = KeySource::Set(KeySet::from_json(b"{\"keys\":[]}").unwrap());
    let mut client = registered(keys);
    client.secret = Some("secret".into());
    let mut params = MockParams::new(client);
    params.lms = Lms::Moodle;
    Mock::start(params).await.unwrap()
}

async fn post_form(mock: &Mock, target: &str, pairs: &[(&str, &str)]) -> Response<Bytes> {
    let request = Request::post(target)
        .header("content-type", FORM)
        .body(Full::from(form(pairs)))
        .unwrap();
    send(mock, request).await
}

async fn get(mock: &Mock, target: &str) -> Response<Bytes> {
    send(mock, Request::get(target).body(Full::default()).unwrap()).await
}

/// A call as JSON.
async fn function(mock: &Mock, token: &str, function: &str, more: &str) -> Value {
    let target =
        format!("{SERVER}?moodlewsrestformat=json&wstoken={token}&wsfunction={function}{more}");
    let response = get(mock, &target).await;
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    json_of(&response)
}

#[tokio::test]
async fn the_token_is_a_parameter_of_the_query_or_the_form_and_no_field() {
    let mock = start().await;
    let courses = function(&mock, MOODLE_TOKEN, "core_course_get_courses", "").await;
    assert_eq!(courses[0]["fullname"], "Introduction to Botany");
    let pairs = [
        ("wstoken", MOODLE_TOKEN),
        ("wsfunction", "core_user_get_users_by_field"),
        ("moodlewsrestformat", "json"),
        ("field", "id"),
        ("values[0]", "1001"),
        ("values[1]", "1002"),
    ];
    let users = json_of(&post_form(&mock, SERVER, &pairs).await);
    assert_eq!(users[1]["username"], "student.1002");
    let as_field = Request::get(format!(
        "{SERVER}?moodlewsrestformat=json&wsfunction=core_course_get_courses"
    ))
    .header("authorization", format!("Bearer {MOODLE_TOKEN}"))
    .body(Full::default())
    .unwrap();
    let refused = send(&mock, as_field).await;
    assert_eq!(json_of(&refused)["errorcode"], "invalidtoken");
}

#[tokio::test]
async fn errors_arrive_with_status_200_each_with_a_code_of_its_own() {
    let mock = start().await;
    for (token, name, more, exception, code) in [
        (
            "dead",
            "core_course_get_courses",
            "",
            "moodle_exception",
            "invalidtoken",
        ),
        (
            MOODLE_TOKEN,
            "core_user_delete_users",
            "",
            "webservice_access_exception",
            "accessexception",
        ),
        (
            MOODLE_TOKEN,
            "no_such_function",
            "",
            "dml_missing_record_exception",
            "invalidrecord",
        ),
        (
            MOODLE_TOKEN,
            "core_enrol_get_enrolled_users",
            "&courseid=403",
            "required_capability_exception",
            "nopermissions",
        ),
        (
            MOODLE_TOKEN,
            "core_enrol_get_enrolled_users",
            "",
            "invalid_parameter_exception",
            "invalidparameter",
        ),
    ] {
        let answer = function(&mock, token, name, more).await;
        assert_eq!(
            (&answer["exception"], &answer["errorcode"]),
            (&json!(exception), &json!(code))
        );
    }
    let xml = get(&mock, &format!("{SERVER}?wstoken=dead&wsfunction=x")).await;
    assert_eq!(xml.status(), StatusCode::OK);
    let text = String::from_utf8_lossy(xml.body());
    assert!(
        text.contains("<ERRORCODE>invalidtoken</ERRORCODE>"),
        "{text}"
    );
}

#[tokio::test]
async fn a_revoked_token_is_dead_for_calls_and_files() {
    let mock = start().await;
    let contents = function(
        &mock,
        MOODLE_TOKEN,
        "core_course_get_contents",
        "&courseid=6607",
    )
    .await;
    let url = contents[0]["modules"][0]["contents"][0]["fileurl"]
        .as_str()
        .unwrap();
    let path = Url::parse(url).unwrap().path().to_owned();
    let file = get(&mock, &format!("{path}?token={MOODLE_TOKEN}")).await;
    assert_eq!(file.status(), StatusCode::OK);
    assert!(file.body().starts_with(b"Field notes"));

    mock.control().revoke_tokens();
    let refused = get(&mock, &format!("{path}?token={MOODLE_TOKEN}")).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(json_of(&refused)["errorcode"], "invalidtoken");
    let dead = function(&mock, MOODLE_TOKEN, "core_course_get_courses", "").await;
    assert_eq!(dead["errorcode"], "invalidtoken");
}

#[tokio::test]
async fn name_and_password_buy_the_token() {
    let mock = start().await;
    let log_in = async |password| {
        let pairs = [
            ("username", CLIENT),
            ("password", password),
            ("service", "bursar"),
        ];
        json_of(&post_form(&mock, "/login/token.php", &pairs).await)
    };
    assert_eq!(log_in("secret").await["token"], MOODLE_TOKEN);
    assert_eq!(log_in("wrong").await["errorcode"], "invalidlogin");
    assert_eq!(mock.counters().token_requests, 2);
}

#[tokio::test]
async fn faults_are_in_moodle_s_words() {
    let mock = start().await;
    let target = format!(
        "{SERVER}?moodlewsrestformat=json&wstoken={MOODLE_TOKEN}&wsfunction=core_course_get_courses"
    );
    for (fault, status, word) in [
        ("unauthorized", 200, "invalidtoken"),
        ("forbidden", 200, "nopermissions"),
        ("throttle,retry_after=3", 429, "Too Many"),
        ("echo_token", 200, "Botany"),
    ] {
        let fault = format!("on=api,times=1,fault={fault}");
        mock.control().inject(fault.parse().unwrap());
        let response = get(&mock, &target).await;
        assert_eq!(response.status().as_u16(), status);
        let text = String::from_utf8_lossy(response.body());
        assert!(text.contains(word), "{fault}: {text}");
    }
    assert!(mock.finds_token_in(&target));
}
