//! Directories: opening one, and cleaning up after a killed publisher.
//!
//! Owns modes and half-written files. Knows of what is stored only what its files are called.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::{Access, Created, Lock, PRIVATE, Place, Store, StoreError};

impl Store {
    /// Opens a directory.
    ///
    /// # Errors
    /// It is no directory, or cannot be read or made.
    pub fn directory(root: &Path, access: Access) -> Result<Self, StoreError> {
        let failed =
            |error: io::Error| StoreError::new("cannot open the store", root.display(), error);
        if access == Access::Write {
            make(root).map_err(failed)?;
        }
        let (objects, is_there): (Arc<dyn ObjectStore>, bool) = match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {
                let objects = LocalFileSystem::new_with_prefix(root);
                let objects = objects.map_err(|error| {
                    StoreError::new("cannot open the store", root.display(), error)
                })?;
                (Arc::new(objects.with_fsync(true)), true)
            }
            Ok(_) => return Err(failed(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Arc::new(InMemory::new()), false)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self::new(objects, Place::Directory(root.to_owned(), is_there)))
    }

    /// The same store, made if it is a directory that is not there yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn made(self) -> Result<Self, StoreError> {
        match &self.place {
            Place::Bucket(_) | Place::Releases(_) => Ok(self),
            Place::Directory(root, true) => {
                make(root).map_err(|error| {
                    StoreError::new("cannot open the store", root.display(), error)
                })?;
                Ok(self)
            }
            // Somebody may have made it meanwhile; what we hold is in memory all the same.
            Place::Directory(root, false) => {
                let made = Self::directory(root, Access::Write)?;
                Ok(Self { writes: self.writes, ..made })
            }
        }
    }

    /// Gives a whole file of this machine a name in the directory, if nothing has it: nothing is copied,
    /// and nobody ever sees half of it. `None` if that cannot be: in a bucket, or from another file
    /// system. The file is given back.
    pub(super) async fn link(
        &self,
        path: &str,
        file: File,
    ) -> object_store::Result<(Option<Created>, File)> {
        let Place::Directory(root, true) = &self.place else { return Ok((None, file)) };
        if self.is_watched {
            return Ok((None, file));
        }
        let to = root.join(path);
        let linked = tokio::task::spawn_blocking(move || (link(&file, &to), file)).await;
        let (linked, file) = linked.expect("naming a file does not panic");
        let failed = |source: io::Error| object_store::Error::Generic {
            store: "directory",
            source: Box::new(source),
        };
        Ok((linked.map_err(failed)?, file))
    }

    /// Brings a file onto the disk that will get its name in this directory, so that who publishes need
    /// not wait for that. Does nothing where it will be copied.
    pub async fn settle(&self, path: &Path) {
        let Place::Directory(root, true) = &self.place else { return };
        let (root, path, is_watched) = (root.clone(), path.to_owned(), self.is_watched);
        let settled = tokio::task::spawn_blocking(move || {
            let there = fs::metadata(root)?.dev() == fs::metadata(&path)?.dev();
            if there && !is_watched { File::open(path)?.sync_all() } else { Ok(()) }
        });
        // Whatever is wrong with the file is told when it is published.
        let _ = settled.await;
    }

    /// Whether something that is no file has the place of one, such as a folder. Never in a bucket.
    #[must_use]
    pub fn is_blocked(&self, path: &str) -> bool {
        let Place::Directory(root, _) = &self.place else { return false };
        fs::metadata(root.join(path)).is_ok_and(|metadata| !metadata.is_file())
    }

    /// Takes away what a killed publisher left half written. Only for who holds the lock.
    ///
    /// The file system backend of `object_store` writes `NAME#N` and renames it. In a bucket nobody
    /// sees the parts of an upload that did not end, but somebody pays for them: a lifecycle rule
    /// (`AbortIncompleteMultipartUpload`) takes them away, and `object_store` cannot list them.
    ///
    /// # Errors
    /// The folder cannot be read, or such a file not be removed.
    pub fn sweep(&self, folder: &str, _lock: &Lock) -> Result<(), StoreError> {
        let Place::Directory(root, _) = &self.place else { return Ok(()) };
        let ends: &[&str] = if folder.starts_with(PRIVATE) {
            &[".json", ".json.zst", ".answers"]
        } else {
            &[".raw", ".efi", ".xz", ".gz", ".zst", ".transfer", ".bu", ".ign", ".sh"]
        };
        let folder = root.join(folder);
        let failed = |error: io::Error| StoreError::new("cannot clean", folder.display(), error);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let half = name.to_str().and_then(|name| name.rsplit_once('#')).is_some_and(
                |(stem, number)| {
                    let ours = ends.iter().any(|end| stem.ends_with(end));
                    (ours || stem.starts_with("SHA256SUMS"))
                        && !number.is_empty()
                        && number.bytes().all(|c| c.is_ascii_digit())
                },
            );
            if half && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn link(file: &File, to: &Path) -> io::Result<Option<Created>> {
    let Some(folder) = to.parent() else { return Ok(None) };
    fs::create_dir_all(folder)?;
    // Before it has the name: whoever sees that finds all of it, whatever happens to the machine.
    file.sync_all()?;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => {
            File::open(folder)?.sync_all()?;
            Ok(Some(Created::New))
        }
        Err(Errno::EXIST) => Ok(Some(Created::Exists)),
        // Another file system, or one without links, or a machine without /proc: it can be copied.
        Err(_) => Ok(None),
    }
}

/// The lengths of these files; `None` for what is no file, or not there.
pub(super) fn sizes(paths: &[PathBuf]) -> Result<Vec<Option<u64>>, StoreError> {
    let size = |path: &PathBuf| match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(StoreError::new("cannot read", path.display(), error)),
    };
    paths.iter().map(size).collect()
}

fn make(root: &Path) -> io::Result<()> {
    // What nodes fetch must be readable for the web server, whatever the shell's habits are.
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask & rustix::fs::Mode::from_raw_mode(0o022));
    fs::create_dir_all(root)?;
    // What upstreams answered is nobody else's business: some of them are private.
    match fs::DirBuilder::new().mode(0o700).create(root.join(PRIVATE)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
