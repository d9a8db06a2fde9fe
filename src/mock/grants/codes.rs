//! Requests that wait for a person's decision, and the codes that a yes brings (RFC 6749 section 4.1).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Consent, GrantId};
use crate::{clock::Moment, random, scope::ScopeSet};

/// How long a person may think.
const PATIENCE: Duration = Duration::from_mins(10);

/// Requests and codes beyond this number push out the oldest.
const MAX: usize = 1_000;

/// An authorization request that may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Asked {
    /// As registered.
    pub(in super::super) redirect_uri: String,
    /// Echoed, if it was sent.
    pub(in super::super) state: Option<String>,
    /// By S256 (RFC 7636 section 4.2).
    pub(in super::super) challenge: Option<String>,
    pub(in super::super) scopes: ScopeSet,
}

/// Requests and codes.
#[derive(Debug, Default)]
pub(in super::super) struct Codes {
    waiting: Kept<(Asked, Moment)>,
    issued: Kept<Code>,
}

#[derive(Debug)]
struct Code {
    redirect_uri: String,
    challenge: Option<String>,
    consent: Consent,
    expires: Moment,
    spent: bool,
    /// What it brought.
    grant: Option<GrantId>,
}

/// What comes with a code.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Presented<'a> {
    pub(in super::super) code: &'a str,
    pub(in super::super) redirect_uri: Option<&'a str>,
    pub(in super::super) verifier: Option<&'a str>,
}

/// Why a code brings nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum Unredeemed {
    #[error("the code is not known")]
    Unknown,
    #[error("the code was used before; what it brought then is revoked")]
    Reused(Option<GrantId>),
    #[error("the code has expired")]
    Expired,
    #[error("redirect_uri is not the one of the authorization request")]
    RedirectUri,
    #[error("code_verifier does not fit code_challenge of the authorization request")]
    Verifier,
    #[error("code_verifier is there, but the authorization request had no code_challenge")]
    NoChallenge,
}

impl Codes {
    /// Keeps a request until somebody decides; its id.
    pub(in super::super) fn wait(&mut self, asked: Asked, now: Moment) -> String {
        let id = random::id128();
        self.waiting.put(id.clone(), (asked, now.after(PATIENCE)));
        id
    }

    /// The request that is decided now. Once.
    pub(in super::super) fn decide(&mut self, id: &str, now: Moment) -> Option<Asked> {
        let (asked, until) = self.waiting.values.remove(id)?;
        (!until.is_reached(now)).then_some(asked)
    }

    /// The code that says yes to a request.
    pub(in super::super) fn issue(
        &mut self,
        asked: Asked,
        user: u64,
        lifetime: Duration,
        now: Moment,
    ) -> String {
        let code = format!("{}{}", random::id128(), random::id128());
        let value = Code {
            redirect_uri: asked.redirect_uri,
            challenge: asked.challenge,
            consent: Consent {
                user,
                scopes: asked.scopes,
            },
            expires: now.after(lifetime),
            spent: false,
            grant: None,
        };
        self.issued.put(code.clone(), value);
        code
    }

    /// Spends a code, even where something that comes with it is wrong: a code that somebody else has seen is no good.
    ///
    /// # Errors
    ///
    /// It brings nothing.
    pub(in super::super) fn redeem(
        &mut self,
        presented: &Presented<'_>,
        now: Moment,
    ) -> Result<Consent, Unredeemed> {
        let code = self
            .issued
            .values
            .get_mut(presented.code)
            .ok_or(Unredeemed::Unknown)?;
        if code.spent {
            return Err(Unredeemed::Reused(code.grant));
        }
        code.spent = true;
        if code.expires.is_reached(now) {
            return Err(Unredeemed::Expired);
        }
        if presented.redirect_uri != Some(&code.redirect_uri) {
            return Err(Unredeemed::RedirectUri);
        }
        match (&code.challenge, presented.verifier) {
            (None, None) => {}
            (None, Some(_)) => return Err(Unredeemed::NoChallenge),
            (Some(challenge), Some(verifier)) if s256(verifier) == *challenge => {}
            (Some(_), _) => return Err(Unredeemed::Verifier),
        }
        Ok(code.consent.clone())
    }

    /// Notes what a code has brought, for the day when it comes again.
    pub(in super::super) fn brought(&mut self, code: &str, grant: GrantId) {
        if let Some(code) = self.issued.values.get_mut(code) {
            code.grant = Some(grant);
        }
    }

    /// Whether the text holds a code.
    pub(in super::super) fn stand_in(&self, text: &str) -> bool {
        self.issued.values.keys().any(|code| text.contains(code))
    }
}

/// RFC 7636 section 4.6; what is no verifier (section 4.1) fits nothing.
fn s256(verifier: &str) -> String {
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(is_unreserved) {
        return String::new();
    }
    let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// The newest of what is kept by a name.
#[derive(Debug)]
struct Kept<T> {
    values: HashMap<String, T>,
    by_age: VecDeque<String>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }
}

impl<T> Kept<T> {
    fn put(&mut self, name: String, value: T) {
        if self.by_age.len() >= MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.by_age.push_back(name.clone());
        self.values.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const CALLBACK: &str = "http://127.0.0.1:8765/callback";

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: Duration::from_secs(1_000_000 + seconds),
            boot: Duration::from_secs(1_000 + seconds),
        }
    }

    fn asked(challenge: Option<&str>) -> Asked {
        Asked {
            redirect_uri: CALLBACK.to_owned(),
            state: Some("s".to_owned()),
            challenge: challenge.map(str::to_owned),
            scopes: ScopeSet::parse("a:b:c").unwrap(),
        }
    }

    fn issued(codes: &mut Codes, challenge: Option<&str>) -> String {
        codes.issue(asked(challenge), 1001, Duration::from_mins(1), at(0))
    }

    fn redeem(
        codes: &mut Codes,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
        now: Moment,
    ) -> Result<Consent, Unredeemed> {
        let presented = Presented {
            code,
            redirect_uri,
            verifier,
        };
        codes.redeem(&presented, now)
    }

    #[test]
    fn the_challenge_is_that_of_appendix_b() {
        assert_eq!(s256(VERIFIER), CHALLENGE);
        assert_eq!(s256("too short"), "");
    }

    #[test]
    fn a_code_is_good_once_and_says_then_what_it_had_brought() {
        let mut codes = Codes::default();
        let code = issued(&mut codes, Some(CHALLENGE));
        let consent = redeem(&mut codes, &code, Some(CALLBACK), Some(VERIFIER), at(59));
        assert_eq!(consent.unwrap().user, 1001);
        codes.brought(&code, 7);
        let again = redeem(&mut codes, &code, Some(CALLBACK), Some(VERIFIER), at(59));
        assert_eq!(again, Err(Unredeemed::Reused(Some(7))));
        assert!(codes.stand_in(&format!("?code={code}&state=s")));
    }

    #[test]
    fn what_comes_with_a_code_must_fit_and_is_judged_once() {
        for (challenge, redirect_uri, verifier, now, why) in [
            (None, Some(CALLBACK), None, at(60), Unredeemed::Expired),
            (None, None, None, at(0), Unredeemed::RedirectUri),
            (
                None,
                Some("http://127.0.0.1:8765/callback/"),
                None,
                at(0),
                Unredeemed::RedirectUri,
            ),
            (
                None,
                Some(CALLBACK),
                Some(VERIFIER),
                at(0),
                Unredeemed::NoChallenge,
            ),
            (
                Some(CHALLENGE),
                Some(CALLBACK),
                None,
                at(0),
                Unredeemed::Verifier,
            ),
            (
                Some(CHALLENGE),
                Some(CALLBACK),
                Some(CHALLENGE),
                at(0),
                Unredeemed::Verifier,
            ),
        ] {
            let mut codes = Codes::default();
            let code = issued(&mut codes, challenge);
            let refused = redeem(&mut codes, &code, redirect_uri, verifier, now);
            assert_eq!(refused, Err(why));
            let again = redeem(&mut codes, &code, redirect_uri, verifier, now);
            assert_eq!(again, Err(Unredeemed::Reused(None)));
        }
        let unknown = redeem(&mut Codes::default(), "x", Some(CALLBACK), None, at(0));
        assert_eq!(unknown, Err(Unredeemed::Unknown));
    }

    #[test]
    fn a_request_is_decided_once_and_in_time() {
        let mut codes = Codes::default();
        let id = codes.wait(asked(None), at(0));
        assert!(codes.decide(&id, at(599)).is_some());
        assert!(codes.decide(&id, at(599)).is_none());
        let late = codes.wait(asked(None), at(0));
        assert!(codes.decide(&late, at(600)).is_none());
    }

    #[test]
    fn the_oldest_requests_make_room() {
        let mut codes = Codes::default();
        let first = codes.wait(asked(None), at(0));
        for _ in 0..MAX {
            codes.wait(asked(None), at(0));
        }
        assert!(codes.decide(&first, at(0)).is_none());
        assert_eq!(codes.waiting.values.len(), MAX);
    }
}
