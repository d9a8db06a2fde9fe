//! The files that a configuration was read from, by content: whether reading it again could give another one.
//!
//! Content decides, not times or inodes: Kubernetes swaps a directory under the files' names, `subPath` mounts and editors
//! write in place or rename, and some of these leave every time as it was.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// No file of a configuration is larger; what is behind it does not count.
const SIZE_LIMIT: u64 = 4 * 1024 * 1024;

/// Files and directories, each with what was in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Inputs(BTreeMap<PathBuf, Fingerprint>);

/// A digest of content, permissions and owner. Of a directory: of the files in it. Of what cannot be read: of the reason.
#[derive(Clone, PartialEq, Eq)]
struct Fingerprint(Vec<u8>);

impl Inputs {
    /// Notes a file or a directory. Comes before it is read: a change between the two is then a difference later on, and at
    /// worst the same is read twice.
    pub(super) fn note(&mut self, path: &Path) {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), Fingerprint::of(path));
        }
    }

    /// The same files, as they are now.
    #[must_use]
    pub fn reread(&self) -> Self {
        let now = |path: &PathBuf| (path.clone(), Fingerprint::of(path));
        Self(self.0.keys().map(now).collect())
    }

    /// These, and those of `others` that are not among them.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        for (path, fingerprint) in &others.0 {
            if !self.0.contains_key(path) {
                self.0.insert(path.clone(), fingerprint.clone());
            }
        }
        self
    }

    /// These files only, as they are in `others` where those have them.
    #[must_use]
    pub fn as_in(mut self, others: &Self) -> Self {
        for (path, fingerprint) in &mut self.0 {
            if let Some(other) = others.0.get(path) {
                fingerprint.clone_from(other);
            }
        }
        self
    }
}

/// The names: a digest of a short secret says too much.
impl fmt::Debug for Inputs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Fingerprint {
    fn of(path: &Path) -> Self {
        let mut context = Context::new(&SHA256);
        if let Err(error) = digest(path, &mut context, true) {
            context.update(format!("{:?}", error.kind()).as_bytes());
        }
        Self(context.finish().as_ref().to_vec())
    }
}

fn digest(path: &Path, context: &mut Context, with_entries: bool) -> io::Result<()> {
    // Symlinks are followed. A FIFO must not keep us waiting.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    // A secret that was refused for its mode is to be looked at again when only that has changed.
    context.update(&metadata.mode().to_be_bytes());
    context.update(&metadata.uid().to_be_bytes());
    if metadata.is_file() {
        let length = metadata.len().min(SIZE_LIMIT);
        let capacity = usize::try_from(length).unwrap_or_default();
        // Never grows, so that no copy of a secret is left behind; what is written just now shows the next time.
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        file.take(length).read_to_end(&mut bytes)?;
        context.update(&metadata.len().to_be_bytes());
        context.update(&bytes);
    } else if metadata.is_dir() && with_entries {
        let mut names = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            context.update(name.as_bytes());
            context.update(b"\0");
            digest(&path.join(name), context, false)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Notes `path`, makes a change, and says whether it is seen.
    fn sees(path: &Path, change: impl FnOnce()) -> bool {
        let mut inputs = Inputs::default();
        inputs.note(path);
        assert!(inputs.reread() == inputs);
        change();
        inputs.reread() != inputs
    }

    #[test]
    fn a_file_written_in_place_with_the_same_length_and_time_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "one").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(sees(&path, || {
            fs::write(&path, "two").unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        }));
    }

    #[test]
    fn a_file_renamed_over_it_counts_only_for_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("a"), directory.path().join("b"));
        let replace = |content: &str| {
            fs::write(&new, content).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        fs::write(&path, "one").unwrap();
        assert!(!sees(&path, || replace("one")));
        assert!(sees(&path, || replace("two")));
    }

    #[test]
    fn the_kubernetes_swap_of_data_is_seen_through_two_symlinks() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (version, content) in [("..one", "1"), ("..two", "2")] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("key"), content).unwrap();
        }
        symlink("..one", root.join("..data")).unwrap();
        symlink("..data/key", root.join("key")).unwrap();
        assert!(sees(&root.join("key"), || {
            symlink("..two", root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        }));
    }

    #[test]
    fn what_appears_vanishes_or_changes_its_mode_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("late");
        assert!(sees(&path, || fs::write(&path, "x").unwrap()));
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(sees(&path, || mode(0o600)));
        assert!(sees(&path, || fs::remove_file(&path).unwrap()));
    }

    #[test]
    fn a_directory_is_all_the_files_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("a"), "1").unwrap();
        assert!(sees(root, || fs::write(root.join("b"), "").unwrap()));
        assert!(sees(root, || fs::write(root.join("a"), "2").unwrap()));
        assert!(sees(root, || fs::rename(root.join("a"), root.join("c")).unwrap()));
    }

    #[test]
    fn a_fifo_without_a_writer_does_not_hang() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        assert!(!sees(&path, || {}));
    }

    #[test]
    fn no_digest_is_printed() {
        let directory = tempfile::tempdir().unwrap();
        let mut inputs = Inputs::default();
        inputs.note(directory.path());
        let printed = format!("{inputs:?}");
        assert_eq!(printed, format!("{{{:?}}}", directory.path()));
    }
}
