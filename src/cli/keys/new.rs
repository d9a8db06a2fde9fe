//! `bursar keys new`: making a signing key.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use zeroize::Zeroizing;

use super::to_json;
use crate::{
    keys::{
        self, Algorithm, KeyError, KeyStart, SigningKey,
        directory::{self, KeyDirectory, KeyFileError},
    },
    random,
    secret::{ExposeSecret, SecretFiles, SecretString},
};

/// What a command has to say.
pub(super) struct Output {
    /// Data, for stdout. May be a private key.
    pub(super) stdout: Zeroizing<String>,
    /// Talk, for stderr.
    pub(super) stderr: String,
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum NewKeyError {
    /// A terminal keeps what it shows.
    #[error("a private key is not written to a terminal: name a file with --out, or redirect")]
    Terminal,
    /// The file may hold a key that is in use.
    #[error("{0} exists; --force replaces it, and what it holds is lost")]
    Exists(PathBuf),
    /// There are keys in the directory.
    #[error("{0} is begun already; `bursar keys rotate` makes the next key in it")]
    Begun(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The crypto library failed.
    #[error("no key could be made")]
    Key(#[from] KeyError),
}

/// `bursar keys new`: makes a private key and writes it to `out` with mode 0600, or to stdout.
///
/// The public key set and the next step go to where the private key does not.
///
/// # Errors
///
/// [`NewKeyError`]; an existing file is replaced only with `force`, and then in one step.
pub(super) fn new(
    algorithm: Algorithm,
    out: Option<&Path>,
    force: bool,
    stdout_is_terminal: bool,
) -> Result<Output, NewKeyError> {
    if out.is_none() && stdout_is_terminal {
        return Err(NewKeyError::Terminal);
    }
    let pem = keys::generate(algorithm)?;
    let key = Arc::new(SigningKey::from_pem(&pem, Some(algorithm), None)?);
    let set = to_json(&keys::public_key_set([&key]));
    let Some(path) = out else {
        return Ok(Output {
            stdout: Zeroizing::new(pem.expose_secret().to_owned()),
            stderr: format!("Public key set:\n{set}\n{}", next_step("FILE")),
        });
    };
    write(path, &pem, force)?;
    let file = path.display();
    Ok(Output {
        stdout: Zeroizing::new(set),
        stderr: format!(
            "Private key {} ({algorithm}) written to {file}, mode 0600.\n{}",
            key.kid(),
            next_step(&file.to_string())
        ),
    })
}

/// `bursar keys new --dir`: begins a directory with a first key, which signs from `now` (time since the Unix epoch) on.
///
/// # Errors
///
/// [`NewKeyError`]; a directory that holds keys already is left as it is.
pub(super) fn begin_directory(
    algorithm: Algorithm,
    path: &Path,
    now: Duration,
) -> Result<Output, NewKeyError> {
    let failed = |source| NewKeyError::Write {
        path: path.to_owned(),
        source,
    };
    let directory = KeyDirectory::open_or_make(path).map_err(failed)?;
    match directory::read(path, SecretFiles::Any, None) {
        Err(errors) if matches!(errors[..], [KeyFileError::Empty(_)]) => {}
        // Also where what is there cannot be used: it may be what somebody else signs with.
        _ => return Err(NewKeyError::Begun(path.to_owned())),
    }
    let pem = keys::generate(algorithm)?;
    let key = Arc::new(SigningKey::from_pem(&pem, Some(algorithm), None)?);
    let start = KeyStart::at(now);
    directory.add(start, &pem).map_err(failed)?;
    let shown = path.display();
    Ok(Output {
        stdout: Zeroizing::new(to_json(&keys::public_key_set([&key]))),
        stderr: format!(
            "Private key {} ({algorithm}) written to {shown}/{}, mode 0600. It signs from now on.\n\
             Next: set keys_dir = {:?} on the credential, publish the public key set (admin.jwks_listen, or a copy of it on\n\
             any web server with HTTPS), and register its address at the LMS. Later: `bursar keys rotate`.\n",
            key.kid(),
            start.file_name(),
            shown.to_string(),
        ),
    })
}

fn next_step(file: &str) -> String {
    format!(
        "Next: set private_key_file = {file:?} on the credential, serve the public key set where the LMS can\n\
         fetch it over HTTPS (admin.jwks_listen, or a copy of it on any web server), and register that\n\
         address there.\n"
    )
}

/// Writes a file that nobody else can read, not even for a moment.
fn write(path: &Path, pem: &SecretString, force: bool) -> Result<(), NewKeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => NewKeyError::Exists(path.to_owned()),
        _ => NewKeyError::Write {
            path: path.to_owned(),
            source,
        },
    };
    if !force {
        return create(path, pem).map_err(failed);
    }
    // Under another name first: whoever reads the old key meanwhile, or a crash, finds a whole one.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", random::id128()));
    let new = PathBuf::from(name);
    let replaced = create(&new, pem).and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        // Best effort: the error to report is the one above.
        drop(fs::remove_file(&new));
    }
    replaced.map_err(failed)
}

/// Refuses names that exist, symbolic links included.
fn create(path: &Path, pem: &SecretString) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(pem.expose_secret().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn kid(json: &str) -> String {
        let set: serde_json::Value = serde_json::from_str(json).unwrap();
        set["keys"][0]["kid"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_new_key_is_written_for_its_owner_only_and_its_public_half_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let output = new(Algorithm::Es256, Some(&path), false, true).unwrap();

        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let pem = fs::read_to_string(&path).unwrap();
        let key = SigningKey::from_pem(&pem.clone().into(), None, None).unwrap();
        assert_eq!(kid(&output.stdout), key.kid());
        assert!(output.stderr.contains("private_key_file"));
        let body = pem.lines().nth(1).unwrap();
        assert!(!output.stdout.contains(body) && !output.stderr.contains(body));
    }

    #[test]
    fn an_existing_file_or_link_is_replaced_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, "in use").unwrap();
        let link = directory.path().join("link.pem");
        symlink(directory.path().join("absent"), &link).unwrap();
        for existing in [&path, &link] {
            assert!(matches!(
                new(Algorithm::EdDsa, Some(existing), false, false),
                Err(NewKeyError::Exists(_))
            ));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "in use");

        new(Algorithm::EdDsa, Some(&path), true, false).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("PRIVATE KEY"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_private_key_never_goes_to_a_terminal() {
        assert!(matches!(
            new(Algorithm::EdDsa, None, false, true),
            Err(NewKeyError::Terminal)
        ));
        let output = new(Algorithm::EdDsa, None, false, false).unwrap();
        assert!(output.stdout.contains("PRIVATE KEY"));
        assert!(output.stderr.contains("\"keys\""));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_with_its_cause() {
        let refused = new(
            Algorithm::EdDsa,
            Some(Path::new("/nowhere/key.pem")),
            false,
            false,
        );
        assert!(matches!(refused, Err(NewKeyError::Write { .. })));
        let refused = new(
            Algorithm::EdDsa,
            Some(Path::new("/nowhere/key.pem")),
            true,
            false,
        );
        assert!(matches!(refused, Err(NewKeyError::Write { .. })));
    }

    #[test]
    fn a_directory_is_begun_once_with_a_key_that_signs_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keys");
        let now = Duration::from_secs(1_000);
        let output = begin_directory(Algorithm::EdDsa, &path, now).unwrap();
        let found = directory::read(&path, SecretFiles::Private, None).unwrap();
        assert_eq!(found.keys[0].start, KeyStart::at(now));
        assert_eq!(kid(&output.stdout), found.keys[0].key.kid());
        assert!(output.stdout.ends_with("}\n"));
        assert!(output.stderr.contains("keys_dir") && !output.stderr.contains("PRIVATE"));

        let again = begin_directory(Algorithm::EdDsa, &path, now + now);
        assert!(matches!(again, Err(NewKeyError::Begun(_))));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_with_keys_under_other_names_is_left_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("mine.pem"), "x").unwrap();
        let refused = begin_directory(Algorithm::EdDsa, parent.path(), Duration::ZERO);
        assert!(matches!(refused, Err(NewKeyError::Begun(_))));
    }
}
