//! The table: what differs between the systems.

use bursar::mock::{Lms, MOODLE_TOKEN};
use tempfile::TempDir;

use crate::support::{
    person::{LTIAAS, Office},
    program::write_private,
    simulated::Simulated,
};

/// What differs between the systems.
pub struct System {
    pub name: &'static str,
    /// The simulated one, and a bursar before it whose allowlist covers [`permitted`](Self::permitted) and no more.
    pub site: fn() -> Site,
    /// A call that the allowlist covers.
    pub permitted: Call,
    /// A call that has a route, and that the allowlist does not cover.
    pub not_allowed: Call,
    pub renewal: Renewal,
    /// What the provider says when the token is dead: its status, and words of its body.
    pub dead_token: (u16, &'static str),
    pub ungranted: Ungranted,
    /// What else it says that no new token cures.
    pub says: &'static [Says],
}

/// A simulated LMS, and the configuration of a bursar before it.
pub enum Site {
    /// The application is somebody by itself.
    Service {
        lms: Simulated,
        toml: String,
        /// Holds the files that the configuration names.
        _directory: Option<TempDir>,
    },
    /// Somebody has to log in.
    Logins(Office),
}

/// Where a token comes from when the one at hand is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// From a token request like the first.
    Request,
    /// From a refresh token that is good once.
    RefreshTokenOnce,
    /// From a refresh token that stays.
    RefreshToken,
    /// From nowhere: there are no token requests.
    Never,
}

/// How it shows that a token may do less than what was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Ungranted {
    /// The token answer says so: bursar refuses by itself.
    Stated,
    /// The LMS says so, when a call is made: its status, and words of its body.
    Said(u16, &'static str),
    /// Not at all: tokens have no scopes.
    Never,
}

/// What the provider says, and how bursar takes it.
pub struct Says {
    /// The fault that makes it say so.
    pub fault: &'static str,
    pub status: u16,
    /// Words of the body.
    pub words: &'static str,
    /// A field, and what it has to say; `None`: it has to be absent.
    pub field: (&'static str, Option<&'static str>),
    /// Whether it counts as throttling.
    pub is_throttling: bool,
}

#[derive(Clone, Copy)]
pub struct Call {
    pub method: &'static str,
    pub target: &'static str,
    pub body: &'static str,
}

const fn get(target: &'static str) -> Call {
    Call {
        method: "GET",
        target,
        body: "",
    }
}

impl Site {
    fn service(lms: Lms, toml: impl FnOnce(&Simulated) -> String) -> Self {
        let lms = Simulated::start(lms);
        let toml = toml(&lms);
        Self::Service {
            lms,
            toml,
            _directory: None,
        }
    }

    pub const fn lms(&self) -> &Simulated {
        match self {
            Self::Service { lms, .. } => lms,
            Self::Logins(office) => &office.lms,
        }
    }

    pub fn toml(&self) -> String {
        match self {
            Self::Service { toml, .. } => toml.clone(),
            Self::Logins(office) => office.toml(),
        }
    }

    /// Somebody logs in, where somebody has to.
    pub fn log_in(&self) {
        if let Self::Logins(office) = self {
            let finished = office.log_in(&["app"]);
            assert_eq!(finished.code, 0, "{}", finished.said());
        }
    }
}

impl System {
    pub fn has_logins(&self) -> bool {
        matches!(
            self.renewal,
            Renewal::RefreshTokenOnce | Renewal::RefreshToken
        )
    }

    /// How many token requests it takes until there is a token; that of a login is one.
    pub fn token_requests(&self) -> u64 {
        u64::from(self.renewal != Renewal::Never)
    }
}

const FORBIDDEN: &str = "fault=forbidden";
const THROTTLE: &str = "fault=throttle,retry_after=7";
const RETRY_AFTER: (&str, Option<&str>) = ("retry-after", Some("7"));

/// A missing permission.
const fn forbidden(words: &'static str) -> Says {
    Says {
        fault: FORBIDDEN,
        status: 403,
        words,
        field: ("www-authenticate", None),
        is_throttling: false,
    }
}

const fn throttled(words: &'static str) -> Says {
    Says {
        fault: THROTTLE,
        status: 429,
        words,
        field: RETRY_AFTER,
        is_throttling: true,
    }
}

const WHOAMI: Call = get("/d2l/api/lp/1.49/users/whoami");
const USER: Call = get("/d2l/api/lp/1.49/users/1001");
const BRIGHTSPACE_SAYS: &[Says] = &[forbidden("Not Authorized"), throttled("")];

const BRIGHTSPACE: System = System {
    name: "Brightspace, service user",
    site: || Site::service(Lms::Brightspace, Simulated::brightspace),
    permitted: WHOAMI,
    not_allowed: USER,
    renewal: Renewal::Request,
    dead_token: (401, "parse token"),
    ungranted: Ungranted::Stated,
    says: BRIGHTSPACE_SAYS,
};

const BRIGHTSPACE_LOGIN: System = System {
    name: "Brightspace, a person's login",
    site: || Site::Logins(Office::open(|_| {})),
    renewal: Renewal::RefreshTokenOnce,
    ..BRIGHTSPACE
};

/// Keys in place of tokens: a dead one is said with 403, and the LMS looks at the user's role alone.
const BRIGHTSPACE_ID_KEY: System = System {
    name: "Brightspace, ID keys",
    site: || {
        let directory = tempfile::tempdir().unwrap();
        let key = |name: &str, key: &str| write_private(&directory.path().join(name), key);
        let app_key = key("app-key", "bursar-mock-app-key");
        let user_key = key("user-key", "bursar-mock-user-key");
        let credential = format!(
            "profile = \"brightspace-id-key\"\napp_id = \"bursar-mock-app\"\napp_key_file = {app_key:?}\n\
             user_id = \"bursar-mock-user\"\nuser_key_file = {user_key:?}"
        );
        let lms = Simulated::start(Lms::Brightspace);
        let toml = lms.toml_of(&credential, "brightspace", r#""users:own_profile:read""#);
        Site::Service {
            lms,
            toml,
            _directory: Some(directory),
        }
    },
    renewal: Renewal::Never,
    dead_token: (403, "Invalid token"),
    ungranted: Ungranted::Never,
    ..BRIGHTSPACE
};

/// The tokens are Brightspace's; who hands them out says nothing of scopes, and of a refused refresh token in its own form.
const LTIAAS_BRIGHTSPACE: System = System {
    name: "LTIAAS before Brightspace",
    site: || Site::Logins(Office::of(LTIAAS, |_| {})),
    renewal: Renewal::RefreshTokenOnce,
    ungranted: Ungranted::Said(403, "Insufficient scope to call"),
    ..BRIGHTSPACE
};

/// `WWW-Authenticate` is what tells a dead token from all else that is 401 here.
const CANVAS: System = System {
    name: "Canvas",
    // A token request costs a third of what its bucket holds: no matter of this test.
    site: || Site::Logins(Office::canvas(|params| params.is_unlimited = true)),
    permitted: get("/api/v1/courses"),
    not_allowed: get("/api/v1/courses/6607"),
    renewal: Renewal::RefreshToken,
    dead_token: (401, "Invalid access token."),
    ungranted: Ungranted::Said(401, "Insufficient scopes on access token."),
    says: &[
        Says {
            status: 401,
            ..forbidden("user not authorized to perform that action")
        },
        CANVAS_THROTTLED,
        // Older installations.
        Says {
            fault: "fault=throttle,status=403",
            status: 403,
            ..CANVAS_THROTTLED
        },
    ],
};

const CANVAS_THROTTLED: Says = Says {
    fault: "fault=throttle",
    status: 429,
    words: "(Rate Limit Exceeded)",
    field: ("x-rate-limit-remaining", Some("0.0")),
    is_throttling: true,
};

const DAP: System = System {
    name: "Instructure DAP",
    site: || {
        Site::service(Lms::Dap, |lms| {
            lms.toml("instructure", "dap", r#""dap:tables:read""#, "")
        })
    },
    permitted: get("/dap/query/canvas/table"),
    not_allowed: Call {
        method: "POST",
        target: "/dap/object/url",
        body: "[]",
    },
    renewal: Renewal::Request,
    dead_token: (401, "AuthenticationError"),
    // Its `scope` is a description.
    ungranted: Ungranted::Never,
    says: &[
        forbidden("RequestTypeForbidden"),
        throttled("TooManyRequests"),
    ],
};

const BLACKBOARD: System = System {
    name: "Blackboard Learn",
    site: || {
        Site::service(Lms::Blackboard, |lms| {
            lms.toml("blackboard", "none", r#""users:read""#, "")
                + r#"
                  [[upstreams.lms.routes]]
                  name = "users"
                  methods = ["GET"]
                  path = "/learn/api/public/v1/users"
                  scopes = ["users:read"]
                  [[upstreams.lms.routes]]
                  name = "courses"
                  methods = ["GET"]
                  path = "/learn/api/public/v1/courses"
                  scopes = ["courses:read"]
                  "#
        })
    },
    permitted: get("/learn/api/public/v1/users"),
    not_allowed: get("/learn/api/public/v1/courses"),
    renewal: Renewal::Request,
    dead_token: (401, "Bearer token is invalid"),
    ungranted: Ungranted::Never,
    says: &[forbidden("privilege"), throttled("Rate limit exceeded")],
};

/// Whatever it says has status 200, that the token is dead too; only what stands before it says otherwise.
const MOODLE: System = System {
    name: "Moodle",
    site: || {
        Site::service(Lms::Moodle, |lms| {
            let credential = format!("profile = \"moodle\"\ntoken = \"{MOODLE_TOKEN}\"");
            lms.toml_of(&credential, "none", r#""courses:read""#)
                + r#"
                  [[upstreams.lms.routes]]
                  name = "courses"
                  functions = ["core_course_get_courses"]
                  scopes = ["courses:read"]
                  [[upstreams.lms.routes]]
                  name = "users"
                  functions = ["core_user_get_users_by_field"]
                  scopes = ["users:read"]
                  "#
        })
    },
    permitted: get(
        "/webservice/rest/server.php?moodlewsrestformat=json&wsfunction=core_course_get_courses",
    ),
    not_allowed: get("/webservice/rest/server.php?wsfunction=core_user_get_users_by_field"),
    renewal: Renewal::Never,
    dead_token: (200, r#""errorcode":"invalidtoken""#),
    ungranted: Ungranted::Never,
    says: &[
        Says {
            status: 200,
            ..forbidden(r#""errorcode":"nopermissions""#)
        },
        throttled("Too Many Requests"),
    ],
};

/// All of them.
pub const SYSTEMS: &[System] = &[
    BRIGHTSPACE,
    BRIGHTSPACE_LOGIN,
    BRIGHTSPACE_ID_KEY,
    LTIAAS_BRIGHTSPACE,
    CANVAS,
    DAP,
    BLACKBOARD,
    MOODLE,
];
