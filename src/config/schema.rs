//! Every key there is, with its default: the one table that reading, environment variables,
//! `config show` and the test of `config.example.toml` go by.
//!
//! A pattern is a TOML path; `*` stands for a name that a person chose, `[]` for the items of an array of tables.

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Where it stands.
    pub(super) pattern: &'static str,
    /// Its default in TOML; `None`: none, or one that depends on the profile.
    pub(super) default: Option<&'static str>,
    /// Whether its value must never be shown.
    pub(super) secret: bool,
}

const fn key(pattern: &'static str) -> Key {
    Key {
        pattern,
        default: None,
        secret: false,
    }
}

impl Key {
    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// All keys.
pub(super) const KEYS: &[Key] = &[
    key("server.listen").or(r#""127.0.0.1:8080""#),
    key("server.hosts").or("[]"),
    key("server.mode").or(r#""enforce""#),
    key("server.workers").or("0"),
    key("server.max_connections").or("10000"),
    key("server.header_timeout").or(r#""10s""#),
    key("server.idle_timeout").or(r#""60s""#),
    key("server.drain_timeout").or(r#""25s""#),
    key("server.secret_files").or(r#""private""#),
    key("admin.listen").or(r#""127.0.0.1:9464""#),
    key("admin.control").or(r#""127.0.0.1:9465""#),
    key("admin.jwks_listen"),
    key("admin.ready_needs").or(r#""first_token""#),
    key("log.level").or(r#""info""#),
    key("log.format").or(r#""auto""#),
    key("log.requests").or(r#""denied""#),
    key("credentials.*.profile").or(r#""oauth2""#),
    key("credentials.*.grant"),
    key("credentials.*.client_id"),
    key("credentials.*.client_secret").secret(),
    key("credentials.*.client_secret_file"),
    key("credentials.*.auth_method"),
    key("credentials.*.private_key_file"),
    key("credentials.*.kid"),
    key("credentials.*.signing_alg"),
    key("credentials.*.token_url"),
    key("credentials.*.audience"),
    key("credentials.*.audience_form").or(r#""string""#),
    key("credentials.*.assertion_lifetime").or(r#""60s""#),
    key("credentials.*.assertion_typ").or(r#""JWT""#),
    key("credentials.*.token_params.*").secret(),
    key("credentials.*.token_headers.*").secret(),
    key("credentials.*.default_lifetime").or(r#""5m""#),
    key("credentials.*.refresh_ahead").or(r#""20%""#),
    key("credentials.*.safety_margin").or(r#""30s""#),
    key("credentials.*.wait").or(r#""10s""#),
    key("credentials.*.timeout").or(r#""10s""#),
    key("credentials.*.ca_file"),
    key("credentials.*.token").secret(),
    key("credentials.*.token_file"),
    key("upstreams.*.base_url"),
    key("upstreams.*.credential"),
    key("upstreams.*.catalogue").or(r#""none""#),
    key("upstreams.*.scopes").or("[]"),
    key("upstreams.*.token_scope").or(r#""upstream""#),
    key("upstreams.*.request_scopes").or("true"),
    key("upstreams.*.hosts").or("[]"),
    key("upstreams.*.listen"),
    key("upstreams.*.connect_timeout").or(r#""5s""#),
    key("upstreams.*.response_timeout").or(r#""60s""#),
    key("upstreams.*.idle_timeout").or(r#""60s""#),
    key("upstreams.*.pool_idle_timeout").or(r#""30s""#),
    key("upstreams.*.max_connections").or("256"),
    key("upstreams.*.ca_file"),
    key("upstreams.*.ca_only").or("false"),
    key("upstreams.*.cookies").or("false"),
    key("upstreams.*.allow_plain_http").or("false"),
    key("upstreams.*.routes[].name"),
    key("upstreams.*.routes[].methods"),
    key("upstreams.*.routes[].path"),
    key("upstreams.*.routes[].scopes"),
    key("upstreams.*.routes[].any_scope"),
    key("upstreams.*.routes[].deny").or("false"),
    key("upstreams.*.routes[].max_body"),
    key("upstreams.*.routes[].encoded_slash").or("false"),
    key("upstreams.*.routes[].query_allow").or("[]"),
];

/// What stands at a pattern.
#[derive(Debug)]
pub(super) enum Node {
    /// A key with a value.
    Leaf(&'static Key),
    /// A table of keys.
    Table,
    /// An array of tables.
    Tables,
}

/// What stands at `pattern`, if anything.
pub(super) fn node(pattern: &str) -> Option<Node> {
    for key in KEYS {
        if key.pattern == pattern {
            return Some(Node::Leaf(key));
        }
        match key.pattern.strip_prefix(pattern) {
            Some(rest) if rest.starts_with('.') => return Some(Node::Table),
            Some(rest) if rest.starts_with("[].") => return Some(Node::Tables),
            _ => {}
        }
    }
    None
}

/// The pattern of `name` in the table at `pattern`, and what stands there.
pub(super) fn child(pattern: &str, name: &str) -> Option<(String, Node)> {
    // A person may call a credential `*`; the name must not match the pattern by accident.
    let own = (name != "*").then(|| join(pattern, name));
    let own = own.and_then(|pattern| node(&pattern).map(|node| (pattern, node)));
    own.or_else(|| {
        let any = join(pattern, "*");
        node(&any).map(|node| (any, node))
    })
}

/// The names that the table at `pattern` may hold; empty where any name will do.
pub(super) fn names(pattern: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if pattern.is_empty() {
            Some(key.pattern)
        } else {
            key.pattern
                .strip_prefix(pattern)
                .and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split(['.', '[']).next());
        if let Some(name) = name
            && name != "*"
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The place of a key in the table.
pub(super) fn rank(key: &Key) -> usize {
    let place = KEYS.iter().position(|other| other.pattern == key.pattern);
    place.unwrap_or(KEYS.len())
}

/// Puts a name behind a pattern.
pub(super) fn join(pattern: &str, name: &str) -> String {
    if pattern.is_empty() {
        name.to_owned()
    } else {
        format!("{pattern}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_chose_match_the_star() {
        let (pattern, node) = child("credentials", "d2l").unwrap();
        assert_eq!(pattern, "credentials.*");
        assert!(matches!(node, Node::Table));
        assert!(child("server", "lisen").is_none());
        assert!(child("", "servers").is_none());
    }

    #[test]
    fn routes_are_an_array_of_tables() {
        assert!(matches!(node("upstreams.*.routes"), Some(Node::Tables)));
        assert!(matches!(
            node("upstreams.*.routes[].name"),
            Some(Node::Leaf(_))
        ));
    }

    #[test]
    fn the_names_of_a_table_are_its_own() {
        assert_eq!(names("log"), ["level", "format", "requests"]);
        assert_eq!(
            names(""),
            ["server", "admin", "log", "credentials", "upstreams"]
        );
        assert!(names("credentials").is_empty());
    }

    #[test]
    fn no_key_stands_twice() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..index]
                    .iter()
                    .all(|other| other.pattern != key.pattern)
            );
        }
    }
}
