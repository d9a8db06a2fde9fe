//! What the LMS holds: a small, invented university whose answers have the shapes of the real ones.
//!
//! Users 1001 to 1045 study in the courses 6607 to 6609 of the organization 6606. Grades can be written and read back.
//! Every other route of the table answers 200 with its template and the values of its parameters.

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    catalogue::Matched,
    reply,
    store::{GradeKey, State},
};

/// How much of a request's body is looked at, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Where paging begins and how far it goes.
pub(super) const USERS: std::ops::RangeInclusive<u64> = 1001..=1045;
pub(super) const COURSES: [(u64, &str); 3] = [
    (6607, "Introduction to Botany"),
    (6608, "Marine Biology"),
    (6609, "Statistics for Naturalists"),
];
const ORGANIZATION: u64 = 6606;
const PAGE: usize = 20;

const FIRST_NAMES: [&str; 9] = [
    "Amara", "Björn", "Chidi", "Dalia", "Emeka", "Freya", "Goran", "Hana", "Iker",
];
const LAST_NAMES: [&str; 5] = ["Okafor", "Lindqvist", "Moreau", "Nakamura", "Silva"];

/// Answers a call that may be made.
///
/// `owner` is the person whose consent it is made by; `None`: the application's service user.
pub(super) fn answer(
    state: &State,
    owner: Option<u64>,
    matched: &Matched<'_>,
    head: &Parts,
    body: &[u8],
) -> Response<Full<Bytes>> {
    let reading = head.method == Method::GET || head.method == Method::HEAD;
    let page = Page::of(state, head);
    let id = |name: &str| {
        matched
            .parameters
            .get(name)
            .and_then(|text| text.parse().ok())
    };
    let found = match matched.route.template {
        "/d2l/api/lp/(version)/users/whoami" => Some(owner.map_or_else(service_user, who_am_i)),
        "/d2l/api/lp/(version)/users/" if reading => Some(page.result_set(USERS, user_data)),
        "/d2l/api/lp/(version)/users/(userId)" if reading => {
            id("userId").filter(|id| USERS.contains(id)).map(user_data)
        }
        "/d2l/api/lp/(version)/enrollments/myenrollments/" => {
            Some(page.result_set(COURSES.iter(), |&(id, name)| my_org_unit(id, name)))
        }
        "/d2l/api/lp/(version)/enrollments/users/(userId)/orgUnits/" => Some(page.result_set(
            COURSES.iter(),
            |&(id, name)| json!({ "OrgUnit": org_unit(id, name), "Role": role() }),
        )),
        "/d2l/api/lp/(version)/enrollments/orgUnits/(orgUnitId)/users/" => {
            Some(page.result_set(USERS, |id| json!({ "User": user(id), "Role": role() })))
        }
        "/d2l/api/le/(version)/(orgUnitId)/classlist/" => Some(USERS.map(classlist_user).collect()),
        "/d2l/api/le/(version)/(orgUnitId)/classlist/paged/" => {
            Some(page.object_list(USERS, classlist_user))
        }
        "/d2l/api/le/(version)/(orgUnitId)/grades/(gradeObjectId)/values/" => {
            let value =
                |id: u64| json!({ "User": user(id), "GradeValue": grade(state, matched, id) });
            Some(page.object_list(USERS, value))
        }
        "/d2l/api/le/(version)/(orgUnitId)/grades/(gradeObjectId)/values/(userId)" => {
            let student = id("userId").filter(|id| USERS.contains(id));
            if head.method == Method::PUT {
                return match student {
                    Some(student) => put_grade(state, matched, student, body),
                    None => missing(),
                };
            }
            student.map(|student| grade(state, matched, student))
        }
        template => Some(json!({
            "Template": template,
            "Method": head.method.as_str(),
            "Parameters": matched.parameters,
        })),
    };
    found.map_or_else(missing, |value| ok(&value))
}

/// Answers a path that has no scope of its own; `None`: it is not known.
pub(super) fn unlisted(method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let path = path.to_ascii_lowercase();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match *segments.as_slice() {
        ["d2l", "api", "versions"] => Some(ok(&json!([versions("lp"), versions("le")]))),
        ["d2l", "api", product @ ("lp" | "le"), "versions"] => Some(ok(&versions(product))),
        ["d2l", "api", "lp", _version, "organization", "info"] => Some(ok(&json!({
            "Identifier": ORGANIZATION.to_string(),
            "Name": "Invented University",
            "TimeZone": "Europe/Berlin",
        }))),
        _ => None,
    }
}

/// Whether the LMS tells it to everybody: which versions there are.
pub(super) fn is_open(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    matches!(
        *segments.as_slice(),
        ["d2l", "api", "versions"] | ["d2l", "api", _, "versions"]
    )
}

/// Where a reader of a long list stands.
struct Page {
    /// The number of the first item.
    start: usize,
    /// The list's own absolute URL.
    url: String,
}

impl Page {
    fn of(state: &State, head: &Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let bookmark = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "bookmark")
            .and_then(|(_, value)| value.parse().ok());
        Self {
            start: bookmark.unwrap_or(0),
            url: format!("{}{}", state.origin(), head.uri.path()),
        }
    }

    /// One page of items, and the bookmark of the next page if there is one.
    fn cut<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        render: impl Fn(T) -> Value,
    ) -> (Vec<Value>, Option<usize>) {
        let mut rest = all.into_iter().skip(self.start);
        let items = rest.by_ref().take(PAGE).map(render).collect();
        let next = rest.next().map(|_| self.start.saturating_add(PAGE));
        (items, next)
    }

    /// D2L's `PagedResultSet`: the next page is asked for with a bookmark.
    fn result_set<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        render: impl Fn(T) -> Value,
    ) -> Value {
        let (items, next) = self.cut(all, render);
        json!({
            "PagingInfo": {
                "Bookmark": next.map_or_else(String::new, |next| next.to_string()),
                "HasMoreItems": next.is_some(),
            },
            "Items": items,
        })
    }

    /// D2L's `ObjectListPage`: `Next` is a whole URL, at the LMS's own address.
    fn object_list<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        render: impl Fn(T) -> Value,
    ) -> Value {
        let (objects, next) = self.cut(all, render);
        let next = next.map(|next| format!("{}?bookmark={next}", self.url));
        json!({ "Next": next, "Objects": objects })
    }
}

/// Whether somebody has this number.
pub(super) fn is_user(id: u64) -> bool {
    USERS.contains(&id)
}

/// A person's name.
pub(super) fn full_name(id: u64) -> String {
    let (first, last) = name(id);
    format!("{first} {last}")
}

fn who_am_i(id: u64) -> Value {
    let (first, last) = name(id);
    json!({
        "Identifier": id.to_string(),
        "FirstName": first,
        "LastName": last,
        "Pronouns": null,
        "UniqueName": format!("student.{id}"),
        "ProfileIdentifier": format!("p{id}"),
    })
}

fn service_user() -> Value {
    json!({
        "Identifier": "169",
        "FirstName": "Service",
        "LastName": "User",
        "Pronouns": null,
        "UniqueName": "service.user",
        "ProfileIdentifier": "s3rv1c3",
    })
}

fn user_data(id: u64) -> Value {
    let (first, last) = name(id);
    json!({
        "OrgId": ORGANIZATION,
        "UserId": id,
        "FirstName": first,
        "MiddleName": null,
        "LastName": last,
        "UserName": format!("student.{id}"),
        "ExternalEmail": email(id),
        "OrgDefinedId": format!("S{id}"),
        "UniqueIdentifier": format!("student.{id}"),
        "Activation": { "IsActive": true },
        "LastAccessedDate": null,
        "Pronouns": null,
        "DisplayName": format!("{first} {last}"),
    })
}

fn user(id: u64) -> Value {
    let (first, last) = name(id);
    json!({
        "Identifier": id.to_string(),
        "DisplayName": format!("{first} {last}"),
        "EmailAddress": email(id),
        "OrgDefinedId": format!("S{id}"),
        "ProfileBadgeUrl": null,
        "ProfileIdentifier": format!("p{id}"),
    })
}

fn classlist_user(id: u64) -> Value {
    let (first, last) = name(id);
    json!({
        "Identifier": id.to_string(),
        "ProfileIdentifier": format!("p{id}"),
        "DisplayName": format!("{last}, {first}"),
        "Username": format!("student.{id}"),
        "OrgDefinedId": format!("S{id}"),
        "Email": email(id),
        "FirstName": first,
        "LastName": last,
        "RoleId": 110,
        "LastAccessed": null,
        "IsOnline": false,
        "ClasslistRoleDisplayName": "Student",
    })
}

pub(super) fn name(id: u64) -> (&'static str, &'static str) {
    let pick = |names: &[&'static str]| {
        let index = usize::try_from(id).unwrap_or(0) % names.len().max(1);
        names.get(index).copied().unwrap_or_default()
    };
    (pick(&FIRST_NAMES), pick(&LAST_NAMES))
}

pub(super) fn email(id: u64) -> String {
    format!("student.{id}@example.edu")
}

fn role() -> Value {
    json!({ "Id": 110, "Code": null, "Name": "Student" })
}

fn org_unit(id: u64, name: &str) -> Value {
    json!({
        "Id": id,
        "Type": { "Id": 3, "Code": "Course Offering", "Name": "Course Offering" },
        "Name": name,
        "Code": format!("C{id}"),
        "HomeUrl": null,
        "ImageUrl": null,
    })
}

fn my_org_unit(id: u64, name: &str) -> Value {
    json!({
        "OrgUnit": org_unit(id, name),
        "Access": {
            "IsActive": true,
            "StartDate": null,
            "EndDate": null,
            "CanAccess": true,
            "ClasslistRoleName": "Student",
            "LISRoles": ["urn:lti:role:ims/lis/Learner"],
            "LastAccessed": null,
        },
    })
}

fn grade(state: &State, matched: &Matched<'_>, student: u64) -> Value {
    let key = grade_key(matched, student);
    let written = state.store().grade(&key);
    let points = written.unwrap_or(Value::Null);
    json!({
        "UserId": student.to_string(),
        "OrgUnitId": key.0,
        "GradeObjectIdentifier": key.1,
        "GradeObjectName": "Field notes",
        "GradeObjectType": 1,
        "GradeObjectTypeName": "Numeric",
        "DisplayedGrade": points.as_f64().map_or_else(String::new, |points| format!("{points} / 10")),
        "PointsNumerator": points,
        "PointsDenominator": 10.0,
        "WeightedNumerator": null,
        "WeightedDenominator": null,
    })
}

/// Takes an `IncomingGradeValue` of the numeric kind.
fn put_grade(
    state: &State,
    matched: &Matched<'_>,
    student: u64,
    body: &[u8],
) -> Response<Full<Bytes>> {
    let points = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| value.get("PointsNumerator")?.as_f64());
    let Some(points) = points else {
        return reply::problem(
            StatusCode::BAD_REQUEST,
            "about:blank",
            "PointsNumerator must be a number",
        );
    };
    state
        .store()
        .put_grade(grade_key(matched, student), points.into());
    reply::empty(StatusCode::OK)
}

fn grade_key(matched: &Matched<'_>, student: u64) -> GradeKey {
    let parameter = |name: &str| matched.parameters.get(name).cloned().unwrap_or_default();
    (
        parameter("orgUnitId"),
        parameter("gradeObjectId"),
        student.to_string(),
    )
}

fn versions(product: &str) -> Value {
    json!({
        "ProductCode": product,
        "LatestVersion": "1.49",
        "SupportedVersions": ["1.47", "1.48", "1.49"],
    })
}

fn ok(value: &Value) -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, "application/json", value)
}

fn missing() -> Response<Full<Bytes>> {
    reply::problem(StatusCode::NOT_FOUND, "about:blank", "Resource Not Found")
}
