//! Whose keys a command is about: credentials of the configuration, or a directory without one.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    cli::{Exit, Surroundings, args::WhoseKeys, load_or_tell, output},
    config::Config,
    keys::{
        KeyRing, KeyTerms,
        directory::{self, KeyFileError},
    },
    secret::{SecretFileError, SecretFiles},
};

/// The longest that an assertion can be good for: what counts where no configuration says less.
const LONGEST_ASSERTION: Duration = Duration::from_secs(300);

/// A client with keys.
#[derive(Debug)]
pub(super) struct Holder {
    /// The name of its credential; `None`: a directory that stands alone.
    pub(super) name: Option<Arc<str>>,
    /// Its keys.
    pub(super) ring: Arc<KeyRing>,
}

impl Holder {
    /// Finds them, or says why not.
    pub(super) fn find(whose: &WhoseKeys, surroundings: &Surroundings) -> Result<Vec<Self>, Exit> {
        if let Some(path) = &whose.dir {
            return Ok(vec![Self::standing_alone(path, whose.jwks_max_age)?]);
        }
        let config = load_or_tell(&whose.config, surroundings)?.config;
        let holders = Self::all(&config);
        match &whose.credential {
            None => Ok(holders),
            Some(name) => {
                let of_that_name = |holder: &Self| holder.name.as_deref() == Some(name);
                let known = names(&holders);
                let found: Vec<_> = holders.into_iter().filter(of_that_name).collect();
                if found.is_empty() {
                    output::tell(&format!(
                        "bursar: no credential {name:?} signs with a key; those that do: {known}\n"
                    ));
                    return Err(Exit::Usage);
                }
                Ok(found)
            }
        }
    }

    /// The one whose keys can be rotated; `asked`: the credential that was named.
    pub(super) fn the_rotated(holders: Vec<Self>, asked: Option<&str>) -> Result<Self, Exit> {
        let (mut rotated, single): (Vec<_>, Vec<_>) = holders
            .into_iter()
            .partition(|holder| holder.ring.directory().is_some());
        match (rotated.pop(), rotated.is_empty()) {
            (Some(holder), true) => Ok(holder),
            (Some(last), false) => {
                rotated.push(last);
                output::tell(&format!(
                    "bursar: several credentials have keys_dir; name one of them: {}\n",
                    names(&rotated)
                ));
                Err(Exit::Usage)
            }
            (None, _) => {
                let whose = asked.map_or_else(|| names(&single), str::to_owned);
                output::tell(&format!(
                    "bursar: there is no keys_dir to rotate keys in ({whose}). A single private_key_file cannot be changed \
                     without a gap. To begin: `mkdir -m 700 keys`, move the key to keys/20260101T000000Z.pem, and set \
                     keys_dir = \"keys\" in place of private_key_file\n"
                ));
                Err(Exit::Usage)
            }
        }
    }

    fn all(config: &Config) -> Vec<Self> {
        let holder = |credential: &Arc<crate::token::Credential>| {
            let ring = credential.source.client()?.keys()?;
            Some(Self {
                name: Some(Arc::clone(&credential.name)),
                ring: Arc::clone(ring),
            })
        };
        config.credentials.iter().filter_map(holder).collect()
    }

    fn standing_alone(path: &Path, max_age: Duration) -> Result<Self, Exit> {
        let terms = KeyTerms {
            assertion_lifetime: LONGEST_ASSERTION,
            max_age,
        };
        let refused = |errors: Vec<KeyFileError>| {
            for error in &errors {
                output::tell(&format!("bursar: {error}\n"));
            }
            let is_exposed = |error: &KeyFileError| {
                matches!(error, KeyFileError::File(SecretFileError::Readable { .. }))
            };
            if errors.iter().all(is_exposed) {
                Exit::SecretExposed
            } else {
                Exit::Failed
            }
        };
        let found = directory::read(path, SecretFiles::Private, None).map_err(refused)?;
        let ring = KeyRing::new(found.keys, terms, path.to_owned())
            .ok_or_else(|| refused(vec![KeyFileError::Empty(path.to_owned())]))?;
        Ok(Self {
            name: None,
            ring: Arc::new(ring),
        })
    }
}

fn names(holders: &[Holder]) -> String {
    let names: Vec<&str> = holders
        .iter()
        .filter_map(|holder| holder.name.as_deref())
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
