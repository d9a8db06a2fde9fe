//! Scopes (RFC 6749 section 3.3), and which scopes cover which.
//!
//! Three kinds are told apart by their form alone, under every catalogue and profile: D2L's
//! `group:resource:permission,…`, Canvas's `url:METHOD|/path`, and any other, compared as a whole.
//!
//! `*` counts only in the scopes that somebody holds, never in the one that is required: a required
//! `core:*:*` is covered by nothing less than `core:*:*`.

use std::{borrow::Borrow, collections::BTreeSet, fmt, ops::Bound, sync::Arc};

/// One scope token. Never empty; printable ASCII without space, `"` and `\`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

/// A set of scopes; order and repetition do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(BTreeSet<Scope>);

/// The text is no scope token (RFC 6749 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope: it must be printable ASCII without space, quote or backslash")]
pub struct InvalidScope(pub String);

impl Scope {
    /// Parses one scope token.
    ///
    /// # Errors
    ///
    /// [`InvalidScope`] when `text` is not a `scope-token` of RFC 6749 section 3.3.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let is_token = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(InvalidScope(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The scope as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Scope {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl ScopeSet {
    /// Parses a space-separated list, as in a token request or answer.
    ///
    /// # Errors
    ///
    /// [`InvalidScope`] for the first part that is no scope token.
    pub fn parse(list: &str) -> Result<Self, InvalidScope> {
        list.split(' ')
            .filter(|part| !part.is_empty())
            .map(Scope::parse)
            .collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether these scopes cover `required` by the rule of its kind.
    ///
    /// - `group:resource:permission,…`: each permission is covered by some scope of the set, several may
    ///   cover together. The group is literal; in the set, `*` stands for any resource or permission.
    /// - `url:METHOD|/path`: by an equal scope, or by one whose `*` (any text, also the whole method)
    ///   make it match.
    /// - Any other, malformed ones of the kinds above among them: by an equal scope.
    ///
    /// All comparison is case-sensitive.
    #[must_use]
    pub fn covers(&self, required: &Scope) -> bool {
        self.0.contains(required)
            || match required.form() {
                Form::D2l(parts) => parts
                    .permissions()
                    .all(|permission| self.holders(&parts, permission).next().is_some()),
                Form::Url { .. } => self.0.iter().any(|held| held.matches_url(required)),
                Form::Other => false,
            }
    }

    /// What these scopes lack to cover `required`: nothing, or `required` itself, or of a
    /// `group:resource:permission,…` one scope for each permission that is missing.
    #[must_use]
    pub fn missing(&self, required: &Scope) -> Vec<Scope> {
        if self.covers(required) {
            return Vec::new();
        }
        let Form::D2l(parts) = required.form() else {
            return vec![required.clone()];
        };
        let D2l {
            group, resource, ..
        } = parts;
        parts
            .permissions()
            .filter(|permission| self.holders(&parts, permission).next().is_none())
            .map(|permission| Scope(format!("{group}:{resource}:{permission}").into()))
            .collect()
    }

    /// The scopes of the set that have a part in covering `required`.
    #[must_use]
    pub fn covering(&self, required: &Scope) -> Vec<&Scope> {
        let has_part = |held: &&Scope| {
            *held == required
                || match required.form() {
                    Form::D2l(parts) => parts
                        .permissions()
                        .any(|permission| held.holds(&parts, permission)),
                    Form::Url { .. } => held.matches_url(required),
                    Form::Other => false,
                }
        };
        self.0.iter().filter(has_part).collect()
    }

    /// The scopes that give one permission of `required`. Only the neighbourhood of its group is
    /// searched: this runs for each request whose token states what was granted.
    fn holders(&self, required: &D2l<'_>, permission: &str) -> impl Iterator<Item = &Scope> {
        self.0
            .range::<str, _>((Bound::Included(required.group), Bound::Unbounded))
            .take_while(|held| held.as_str().starts_with(required.group))
            .filter(move |held| held.holds(required, permission))
    }
}

/// How a scope is compared.
enum Form<'a> {
    D2l(D2l<'a>),
    Url { method: &'a str, path: &'a str },
    Other,
}

/// D2L's `group:resource:permission,…`.
#[derive(Clone, Copy)]
struct D2l<'a> {
    group: &'a str,
    resource: &'a str,
    permissions: &'a str,
}

impl<'a> D2l<'a> {
    /// `None` unless the text has the whole form: D2L's own parser drops empty parts (`a::b:c` passes there).
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(':');
        let (group, resource, permissions) = (parts.next()?, parts.next()?, parts.next()?);
        let is_name = |part: &str| !part.is_empty() && !part.contains([',', '/', '|']);
        (parts.next().is_none()
            && is_name(group)
            && is_name(resource)
            && permissions.split(',').all(is_name))
        .then_some(Self {
            group,
            resource,
            permissions,
        })
    }

    fn permissions(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.permissions.split(',')
    }
}

impl Scope {
    fn form(&self) -> Form<'_> {
        let url = self
            .0
            .strip_prefix("url:")
            .and_then(|url| url.split_once('|'));
        if let Some((method, path)) = url {
            return Form::Url { method, path };
        }
        D2l::parse(&self.0).map_or(Form::Other, Form::D2l)
    }

    /// Whether this scope gives one permission on the resource of `required`.
    fn holds(&self, required: &D2l<'_>, permission: &str) -> bool {
        let Some(held) = D2l::parse(&self.0) else {
            return false;
        };
        held.group == required.group
            && (held.resource == required.resource || held.resource == "*")
            && held
                .permissions()
                .any(|held| held == permission || held == "*")
    }

    /// Whether this is a `url:` scope that matches another. Method and path are matched apart, so that
    /// no `*` reaches across the `|`.
    fn matches_url(&self, required: &Self) -> bool {
        match (self.form(), required.form()) {
            (
                Form::Url { method, path },
                Form::Url {
                    method: required_method,
                    path: required_path,
                },
            ) => matches_glob(method, required_method) && matches_glob(path, required_path),
            _ => false,
        }
    }

    /// Whether this is a `url:` scope with a `*` in it, which may stand for many.
    ///
    /// Canvas itself names two of its tails with one (`…/by_path/*full_path`), so a pattern may well be a
    /// plain scope too.
    #[must_use]
    pub fn is_url_pattern(&self) -> bool {
        matches!(self.form(), Form::Url { .. }) && self.0.contains('*')
    }
}

/// Whether `*`, standing for any text, makes the pattern equal to the text. No recursion: on a mismatch
/// only the last `*` is moved, as an earlier one can gain nothing.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        let Some((_, after)) = text.split_once(piece) else {
            return false;
        };
        text = after;
    }
    text.ends_with(end)
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
                formatter.write_str(" ")?;
            }
            formatter.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
