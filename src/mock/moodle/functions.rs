//! The functions of the one service that the mock has, and what they answer.

use serde_json::{Value, json};

use super::{Exception, FILES, Parameters};
use crate::mock::{
    resources::{COURSES, USERS, email, name},
    store::State,
};

/// The functions that an administrator has put into the service.
pub(super) const IN_SERVICE: [&str; 5] = [
    "core_course_get_contents",
    "core_course_get_courses",
    "core_enrol_get_enrolled_users",
    "core_user_get_users_by_field",
    "core_webservice_get_site_info",
];

/// Functions that every Moodle has, and this service has not.
const ELSEWHERE: [&str; 4] = [
    "core_course_delete_courses",
    "core_user_create_users",
    "core_user_delete_users",
    "core_user_update_users",
];

/// The file of each course.
const FILE: &str = "mod_resource/content/1/notes.txt";

/// Calls a function.
pub(super) fn call(
    state: &State,
    function: &str,
    parameters: &Parameters,
) -> Result<Value, Exception> {
    if ELSEWHERE.contains(&function) {
        return Err(Exception::ACCESS);
    }
    match function {
        "core_webservice_get_site_info" => Ok(site_info(state)),
        "core_course_get_courses" => {
            Ok(COURSES.iter().map(|&(id, name)| course(id, name)).collect())
        }
        "core_course_get_contents" => course_id(parameters).map(|id| contents(state, id)),
        "core_enrol_get_enrolled_users" => {
            course_id(parameters)?;
            Ok(USERS.map(user).collect())
        }
        "core_user_get_users_by_field" => users_by_field(parameters),
        _ => Err(Exception::NO_RECORD),
    }
}

/// The text of a file.
pub(super) fn file(path: &str) -> Option<&'static str> {
    let (context, rest) = path.split_once('/')?;
    let context: u64 = context.parse().ok()?;
    let is_known = COURSES.iter().any(|(id, _)| *id == context) && rest == FILE;
    is_known.then_some("Field notes of an invented course.\n")
}

/// The course that is meant; 403 stands for one that the user may not see, as everywhere in the mock.
fn course_id(parameters: &Parameters) -> Result<u64, Exception> {
    let id = parameters.get("courseid").or_else(|| parameters.get("id"));
    let id = id.and_then(|id| id.parse().ok());
    match id.ok_or(Exception::INVALID_PARAMETER)? {
        403 => Err(Exception::NO_PERMISSION),
        id if COURSES.iter().any(|(course, _)| *course == id) => Ok(id),
        _ => Err(Exception::NO_RECORD),
    }
}

fn users_by_field(parameters: &Parameters) -> Result<Value, Exception> {
    if parameters.get("field") != Some("id") {
        return Err(Exception::INVALID_PARAMETER);
    }
    let ids = parameters.list("values").into_iter().map(str::parse::<u64>);
    let ids: Vec<u64> = ids
        .collect::<Result<_, _>>()
        .map_err(|_| Exception::INVALID_PARAMETER)?;
    Ok(ids
        .into_iter()
        .filter(|id| USERS.contains(id))
        .map(user)
        .collect())
}

fn site_info(state: &State) -> Value {
    let functions: Vec<Value> = IN_SERVICE
        .iter()
        .map(|name| json!({ "name": name, "version": "2026042000" }))
        .collect();
    json!({
        "sitename": "Invented University",
        "username": "service.user",
        "fullname": "Service User",
        "userid": 169,
        "siteurl": state.origin(),
        "functions": functions,
    })
}

fn course(id: u64, name: &str) -> Value {
    json!({ "id": id, "shortname": format!("C{id}"), "fullname": name, "visible": 1 })
}

fn contents(state: &State, course: u64) -> Value {
    let url = format!("{}{FILES}{course}/{FILE}", state.origin());
    json!([{
        "id": course,
        "name": "General",
        "modules": [{
            "name": "Notes",
            "modname": "resource",
            "contents": [{ "type": "file", "filename": "notes.txt", "fileurl": url }],
        }],
    }])
}

fn user(id: u64) -> Value {
    let (first, last) = name(id);
    json!({
        "id": id,
        "username": format!("student.{id}"),
        "fullname": format!("{first} {last}"),
        "email": email(id),
    })
}

/// A result in Moodle's XML.
pub(super) fn xml(value: &Value) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<RESPONSE>\n{}</RESPONSE>",
        element(value)
    )
}

fn element(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: String = items.iter().map(element).collect();
            format!("<MULTIPLE>\n{items}</MULTIPLE>\n")
        }
        Value::Object(members) => {
            let members = members.iter();
            let keys: String = members
                .map(|(name, value)| format!("<KEY name=\"{name}\">{}</KEY>\n", element(value)))
                .collect();
            format!("<SINGLE>\n{keys}</SINGLE>\n")
        }
        Value::String(text) => format!("<VALUE>{}</VALUE>\n", escaped(text)),
        other => format!("<VALUE>{other}</VALUE>\n"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_written_in_moodle_s_xml() {
        let value = json!([{ "id": 1, "fullname": "a<b&c" }]);
        let text = xml(&value);
        assert!(
            text.contains("<KEY name=\"fullname\"><VALUE>a&lt;b&amp;c</VALUE>"),
            "{text}"
        );
        assert!(text.contains("<MULTIPLE>\n<SINGLE>"), "{text}");
    }

    #[test]
    fn a_file_is_known_by_its_whole_path() {
        assert!(file("6607/mod_resource/content/1/notes.txt").is_some());
        for path in [
            "6607",
            "1/mod_resource/content/1/notes.txt",
            "6607/../notes.txt",
        ] {
            assert_eq!(file(path), None, "{path}");
        }
    }
}
