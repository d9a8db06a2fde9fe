//! The files that settings name: secrets and certificates.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{Fault, check_secret, secret_file},
    },
    keys::{
        Algorithm, SigningKey,
        directory::{self, KeyFileError},
        timeline::Turn,
    },
    secret::{self, AccessKeys, ExposeSecret, SecretFile, SecretFiles, SecretString},
    tls::{self, Identity, TlsError, Trust},
};

/// Reads files; makes one TLS configuration per set of roots, however many servers share it.
pub(super) struct Files {
    rule: SecretFiles,
    trusts: BTreeMap<(Option<PathBuf>, bool), Arc<rustls::ClientConfig>>,
}

impl Files {
    /// `rule`: who else may read a secret.
    pub(super) fn new(rule: SecretFiles) -> Self {
        Self {
            rule,
            trusts: BTreeMap::new(),
        }
    }

    /// The one-line secret in the file that `key` names; `None` when it is not set, or when a problem was noted.
    pub(super) fn secret(
        &self,
        reader: &mut Reader,
        table: &Table,
        key: &str,
    ) -> Option<SecretString> {
        let secret = self.whole(reader, table, key)?.secret;
        if let Err(reason) = check_secret(secret.expose_secret()) {
            let fault = Fault::new(
                ProblemCode::SecretUnusable,
                format!("what is in the file {reason}"),
                "put the secret alone into the file, in one line",
            );
            reader.fault(table, key, fault);
            return None;
        }
        Some(secret)
    }

    /// The same for a secret of several lines, such as a PEM key, with what is known of its file.
    pub(super) fn whole(
        &self,
        reader: &mut Reader,
        table: &Table,
        key: &str,
    ) -> Option<SecretFile> {
        let path = path(reader, table, key)?;
        match secret::read_with_exposure(&path, self.rule) {
            Ok(file) => {
                if let Some(exposure) = &file.exposure {
                    reader.fault(table, key, secret_file(exposure).warning());
                }
                Some(file)
            }
            Err(error) => {
                reader.fault(table, key, secret_file(&error));
                None
            }
        }
    }

    /// The secret of several lines alone.
    pub(super) fn lines(
        &self,
        reader: &mut Reader,
        table: &Table,
        key: &str,
    ) -> Option<SecretString> {
        self.whole(reader, table, key).map(|file| file.secret)
    }

    /// The keys in the file that `key` names, if it is set. The outer `None`: a problem was noted.
    #[expect(
        clippy::option_option,
        reason = "absent and invalid are different here, and the inner one is the parameter"
    )]
    pub(super) fn access_keys(
        &self,
        reader: &mut Reader,
        table: &Table,
        key: &str,
    ) -> Option<Option<AccessKeys>> {
        if !table.has(key) {
            return Some(None);
        }
        let lines = self.lines(reader, table, key)?;
        match AccessKeys::parse(lines.expose_secret()) {
            Ok(keys) => Some(Some(keys)),
            Err(error) => {
                let fault = Fault::new(
                    ProblemCode::SecretUnusable,
                    format!("the file holds no keys: {error}"),
                    "make a key with `openssl rand -base64 32`, and put it alone into a line; a second line may hold the \
                     key that it replaces",
                );
                reader.fault(table, key, fault);
                None
            }
        }
    }

    /// The keys in the directory that `key` names, and that directory.
    pub(super) fn keys(
        &self,
        reader: &mut Reader,
        table: &Table,
        key: &str,
        algorithm: Option<Algorithm>,
    ) -> Option<(PathBuf, Vec<Turn<Arc<SigningKey>>>)> {
        let path = path(reader, table, key)?;
        match directory::read(&path, self.rule, algorithm) {
            Ok(found) => {
                for exposure in &found.exposures {
                    reader.fault(table, key, secret_file(exposure).warning());
                }
                for planted in plantable(&path, &found.strangers) {
                    reader.fault(table, key, planted.warning());
                }
                Some((path, found.keys))
            }
            Err(errors) => {
                for error in &errors {
                    reader.fault(table, key, key_file(error, &path));
                }
                None
            }
        }
    }

    /// The TLS configuration for the roots that `ca_file` names; towards a server that is not to know who asks.
    pub(super) fn tls(
        &mut self,
        reader: &mut Reader,
        table: &Table,
        ca_only: bool,
    ) -> Option<Arc<rustls::ClientConfig>> {
        self.tls_as(reader, table, ca_only, None)
    }

    /// The same towards one that may ask, and then learns that it is `identity`.
    pub(super) fn tls_as(
        &mut self,
        reader: &mut Reader,
        table: &Table,
        ca_only: bool,
        identity: Option<&Identity>,
    ) -> Option<Arc<rustls::ClientConfig>> {
        let ca_file = path(reader, table, "ca_file");
        if ca_file.is_none() && table.has("ca_file") {
            return None;
        }
        let trust = (ca_file, ca_only);
        if let (Some(config), None) = (self.trusts.get(&trust), identity) {
            return Some(Arc::clone(config));
        }
        let made = tls::client_config(&Trust {
            ca_file: trust.0.as_deref(),
            ca_only,
            identity,
        });
        match made {
            Ok(config) => {
                if identity.is_none() {
                    self.trusts.insert(trust, Arc::clone(&config));
                }
                Some(config)
            }
            Err(error) => {
                reader.fault(table, "ca_file", ca_fault(&error));
                None
            }
        }
    }
}

/// The file that a key names; a relative name is relative to the configuration file. What is in it belongs to the configuration.
pub(super) fn path(reader: &mut Reader, table: &Table, key: &str) -> Option<PathBuf> {
    let path = reader.get::<PathBuf>(table, key)?;
    let path = reader.directory(table, key).join(path);
    reader.note_input(&path);
    Some(path)
}

/// What to say of a file in the directory of keys at `directory`, or of the directory.
fn key_file(error: &KeyFileError, directory: &Path) -> Fault {
    let directory = directory.display();
    let help = match error {
        KeyFileError::File(error) => return secret_file(error),
        KeyFileError::Key { .. } => {
            return Fault::new(
                ProblemCode::KeyUnusable,
                error.to_string(),
                "`bursar keys rotate` makes keys that fit; RSA (2048 bits or more), P-256, P-384 and Ed25519 keys in PEM will do",
            );
        }
        KeyFileError::Name(_) => {
            "name each key after the second (UTC) from which on it signs, as in 20261127T101500Z.pem; move files that are no keys elsewhere".to_owned()
        }
        KeyFileError::Twice { .. } => {
            "keep the one under which it began to sign, and delete the other".to_owned()
        }
        _ => format!(
            "check the name, and that it is mounted; `bursar keys new --dir {directory}` makes it with a first key"
        ),
    };
    Fault::new(ProblemCode::KeysDirectory, error.to_string(), help)
}

/// What lets another user choose a key that bursar signs with and publishes. No reason to refuse the directory: an emptyDir has
/// mode 0777, and root in a container reads what a user of the host owns.
fn plantable(directory: &Path, strangers: &[(PathBuf, u32)]) -> Vec<Fault> {
    let shown = directory.display();
    let writers = mode_for_others(directory)
        .map(|mode| ("others", mode))
        .or_else(|| mode_for_group(directory).map(|mode| ("the group", mode)));
    let writers = writers.map(|(who, mode)| {
        Fault::new(
            ProblemCode::KeysDirectory,
            format!(
                "{who} can write to {shown} (mode {mode:04o}), and so put in a key of their own, with which bursar would sign \
                 and which it would publish"
            ),
            format!(
                "chmod go-w {shown}. In Kubernetes, mount the Secret itself; an emptyDir has mode 0777: mount it into no \
                 container but bursar's and the one that fills it"
            ),
        )
    });
    let strangers = strangers.iter().map(|(path, owner)| {
        let path = path.display();
        Fault::new(
            ProblemCode::KeysDirectory,
            format!(
                "{path} belongs to user {owner}, who is neither root nor the user that bursar runs as, and can change the key \
                 with which bursar signs and which it publishes"
            ),
            format!(
                "if the key is not one of yours, remove it; `ls -ln {shown}` shows the owners, `chown` as root changes them"
            ),
        )
    });
    writers.into_iter().chain(strangers).collect()
}

const STICKY: u32 = 0o1000;

/// The mode of a directory in which others could replace what is in it.
pub(super) fn mode_for_others(directory: &Path) -> Option<u32> {
    const OTHERS_WRITE: u32 = 0o002;
    let mode = directory.metadata().ok()?.mode() & 0o7777;
    (mode & OTHERS_WRITE != 0 && mode & STICKY == 0).then_some(mode)
}

/// The same for its group, where that is not root's.
fn mode_for_group(directory: &Path) -> Option<u32> {
    const GROUP_WRITE: u32 = 0o020;
    let metadata = directory.metadata().ok()?;
    let mode = metadata.mode() & 0o7777;
    (metadata.gid() != 0 && mode & GROUP_WRITE != 0 && mode & STICKY == 0).then_some(mode)
}

fn ca_fault(error: &TlsError) -> Fault {
    let cause = std::error::Error::source(error);
    let what = match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    Fault::new(
        ProblemCode::CaUnusable,
        what,
        "name a PEM file with the root certificates (-----BEGIN CERTIFICATE-----)",
    )
}
