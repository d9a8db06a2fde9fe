//! Does the world see the keys that sign? The key sets at `jwks_url` are fetched, as an authorization server would.

use std::time::Duration;

use super::report::{Category, Check};
use crate::{
    cli::{exit::Exit, explain::live},
    clock::{Clock as _, SystemClock},
    config::Config,
    keys::{KeyRing, KeyView},
    oauth::{KeySetError, PublishedKeys, Unreachable},
};

/// `None` where no credential names one.
pub(super) async fn check(config: &Config) -> Option<Category> {
    let mut checks = Vec::new();
    for credential in &config.credentials {
        let Some(client) = credential.source.client() else {
            continue;
        };
        if let (Some(keys), Some(url)) = (client.keys(), &client.key_set) {
            let looked = url.fetch().await;
            checks.extend(judge(
                &credential.name,
                keys,
                looked,
                SystemClock.now().wall,
            ));
        }
    }
    (!checks.is_empty()).then_some(Category {
        name: "key sets",
        checks,
    })
}

fn judge(
    name: &str,
    keys: &KeyRing,
    looked: Result<PublishedKeys, KeySetError>,
    now: Duration,
) -> Vec<Check> {
    let published = match looked {
        Ok(published) => published,
        Err(error) => return vec![unseen(name, &error)],
    };
    let mut checks = Vec::new();
    for view in keys.views(now) {
        match (view.state, published.kids.contains(&view.kid)) {
            ("active", true) => checks.push(Check::good(format!(
                "{name}: the key that signs (kid {}) is in the key set at jwks_url",
                view.kid
            ))),
            ("active", false) => checks.push(missing(name, &view)),
            ("next", true) => checks.push(Check::good(format!(
                "{name}: the next key (kid {}, signs from {}) is there too",
                view.kid, view.start
            ))),
            ("next", false) => checks.push(late(name, keys, &view, now)),
            // Who needs a retired one has it already.
            _ => {}
        }
    }
    if published.has_private_members {
        checks.push(Check::bad(
            format!("{name}: key set"),
            "a key is published with its private half",
            live::PRIVATE_KEY_PUBLISHED,
            "take it away at once, then: bursar keys rotate --now",
            Exit::Refused,
        ));
    }
    checks
}

fn missing(name: &str, view: &KeyView) -> Check {
    Check::bad(
        format!("{name}: key set"),
        format!(
            "the key that signs (kid {}) is not in the key set at jwks_url",
            view.kid
        ),
        live::KEY_UNPUBLISHED,
        format!(
            "publish what this prints: bursar keys jwks {name}   (or let the URL lead to admin.jwks_listen)"
        ),
        Exit::Refused,
    )
}

/// There is time to publish a key before the AS has to know it; when that is over, it is a mistake.
fn late(name: &str, keys: &KeyRing, view: &KeyView, now: Duration) -> Check {
    let deadline = view.start.wall().saturating_sub(keys.terms().max_age);
    let what = format!(
        "the next key (kid {}, signs from {}) is not in the key set at jwks_url",
        view.kid, view.start
    );
    let hint = format!("publish what this prints: bursar keys jwks {name}");
    let subject = format!("{name}: key set");
    if now < deadline {
        Check::warning(subject, what, live::KEY_UNPUBLISHED, hint)
    } else {
        Check::bad(subject, what, live::KEY_UNPUBLISHED, hint, Exit::Refused)
    }
}

fn unseen(name: &str, error: &KeySetError) -> Check {
    let exit = match error {
        KeySetError::Unreachable(Unreachable::Tls) => Exit::Refused,
        KeySetError::Unreachable(_) | KeySetError::Timeout | KeySetError::Status(500..) => {
            Exit::Temporary
        }
        _ => Exit::Refused,
    };
    Check::bad(
        format!("{name}: key set"),
        error.to_string(),
        live::KEY_SET_UNSEEN,
        "is jwks_url the URL that is registered at the LMS, and can it be reached from here?",
        exit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::check::report::Outcome,
        keys::{Algorithm, SigningKey, generate, testing},
    };

    fn key() -> (std::sync::Arc<KeyRing>, String) {
        let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
        let kid = key.kid().to_owned();
        (testing::ring_of(key), kid)
    }

    fn published(kids: &[&str]) -> Result<PublishedKeys, KeySetError> {
        Ok(PublishedKeys {
            kids: kids.iter().map(|kid| (*kid).to_owned()).collect(),
            has_private_members: false,
        })
    }

    fn results(checks: &[Check]) -> Vec<(Outcome, Option<&'static str>)> {
        checks
            .iter()
            .map(|check| (check.result, check.code))
            .collect()
    }

    const NOW: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn the_key_that_signs_must_be_seen() {
        let (ring, kid) = key();
        let checks = judge("d2l", &ring, published(&[&kid]), NOW);
        assert_eq!(results(&checks), [(Outcome::Success, None)]);
        let checks = judge("d2l", &ring, published(&["other"]), NOW);
        assert_eq!(
            results(&checks),
            [(Outcome::Error, Some(live::KEY_UNPUBLISHED))]
        );
        assert!(checks[0].error.as_ref().unwrap().contains(&kid));
    }

    #[test]
    fn the_next_key_may_be_missing_while_there_is_time_to_publish_it() {
        let (ring, kids) = testing::ring(&[1_000, 1_010_000]);
        let judged = |seconds, kids: &[&str]| {
            let checks = judge("d2l", &ring, published(kids), Duration::from_secs(seconds));
            results(&checks)
                .into_iter()
                .map(|(result, _)| result)
                .collect::<Vec<_>>()
        };
        use Outcome::{Error, Success, Warning};
        assert_eq!(judged(1_000_000, &[&kids[0]]), [Success, Warning]);
        assert_eq!(judged(1_006_400, &[&kids[0]]), [Success, Error]);
        assert_eq!(judged(1_006_400, &[&kids[0], &kids[1]]), [Success, Success]);
        // Later the old one is of no interest.
        assert_eq!(judged(1_010_000, &[&kids[1]]), [Success]);
    }

    #[test]
    fn a_private_half_that_is_published_is_an_error() {
        let (ring, kid) = key();
        let looked = published(&[&kid]).map(|published| PublishedKeys {
            has_private_members: true,
            ..published
        });
        let checks = judge("d2l", &ring, looked, NOW);
        assert_eq!(checks[1].code, Some(live::PRIVATE_KEY_PUBLISHED));
    }

    #[test]
    fn a_key_set_that_cannot_be_fetched_is_temporary_or_a_mistake() {
        let exit = |error| {
            let report = super::super::report::Report {
                categories: vec![Category {
                    name: "key sets",
                    checks: vec![unseen("d2l", &error)],
                }],
            };
            report.exit()
        };
        assert_eq!(exit(KeySetError::Timeout), Exit::Temporary);
        assert_eq!(exit(KeySetError::Status(503)), Exit::Temporary);
        assert_eq!(
            exit(KeySetError::Unreachable(Unreachable::Dns)),
            Exit::Temporary
        );
        assert_eq!(
            exit(KeySetError::Unreachable(Unreachable::Tls)),
            Exit::Refused
        );
        assert_eq!(exit(KeySetError::Status(404)), Exit::Refused);
        assert_eq!(exit(KeySetError::Invalid("it is not JSON")), Exit::Refused);
    }
}
