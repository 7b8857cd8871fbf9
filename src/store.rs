//! Where bytes go: an object store and, for a directory, a lock.
//!
//! Owns reading, atomic writing and the lock against a second publisher. Knows nothing of
//! manifests or images: a path and bytes are all it sees.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart, path::Path as Key};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use thiserror::Error;

use crate::name::Sha256;

/// The folder that publish keeps for itself; only its own user can look into it.
pub const PRIVATE: &str = ".publish";

/// Bytes that are held at most for one part of an upload.
const PART: usize = 4 << 20;

/// A store that did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Reading or writing one object failed.
    #[error("{doing} {path}")]
    Object {
        /// What was tried: `cannot write`.
        doing: &'static str,
        /// The object, as a person would find it.
        path: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process publishes to this store.
    #[error("another publisher holds {path}{}", holder.as_ref().map(|h| format!(": process {} on {} since {}", h.process, h.host, h.since)).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: String,
        /// Who wrote it, if it could be read.
        holder: Option<Holder>,
    },
}

impl StoreError {
    fn new(
        doing: &'static str,
        path: impl std::fmt::Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Object { doing, path: path.to_string(), source: source.into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => Some(
                "wait for it to end; a lock whose process is gone counts for nothing".to_owned(),
            ),
            Self::Object { source, .. } => {
                let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
                while let Some(error) = cause {
                    if let Some(io) = error.downcast_ref::<io::Error>() {
                        return match io.kind() {
                            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                                Some("the store must be writable for this user".to_owned())
                            }
                            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                                Some("nothing of the unfinished file is left; free some space and sync again".to_owned())
                            }
                            _ => None,
                        };
                    }
                    cause = error.source();
                }
                None
            }
        }
    }
}

/// What the store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is made or changed; a store that is not there yet reads as empty.
    Read,
    /// The store is made if it is not there.
    Write,
}

/// A place that holds objects under relative paths: `ts/SHA256SUMS`.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: PathBuf,
}

/// What became of an object that must not replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    New,
    /// Something of this name was there already, and still is.
    Exists,
}

impl Store {
    /// Opens a directory.
    ///
    /// # Errors
    /// It is no directory, or cannot be read or made.
    pub fn directory(root: &Path, access: Access) -> Result<Self, StoreError> {
        let failed =
            |error: io::Error| StoreError::new("cannot open the store", root.display(), error);
        if access == Access::Write {
            // What nodes fetch must be readable for the web server, whatever the shell's habits are.
            let mask = rustix::process::umask(rustix::fs::Mode::empty());
            rustix::process::umask(mask & rustix::fs::Mode::from_raw_mode(0o022));
            fs::create_dir_all(root).map_err(failed)?;
            // What upstreams answered is nobody else's business: some of them are private.
            match fs::DirBuilder::new().mode(0o700).create(root.join(PRIVATE)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        let objects: Arc<dyn ObjectStore> = match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Arc::new(
                LocalFileSystem::new_with_prefix(root)
                    .map_err(|error| {
                        StoreError::new("cannot open the store", root.display(), error)
                    })?
                    .with_fsync(true),
            ),
            Ok(_) => return Err(failed(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Arc::new(InMemory::new()),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { objects, root: root.to_owned() })
    }

    /// The directory, as it was named.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn error(&self, doing: &'static str, path: &str, error: object_store::Error) -> StoreError {
        StoreError::new(doing, self.root.join(path).display(), error)
    }

    /// An object's bytes; `None` only if the store says that there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let found = async { self.objects.get(&Key::from(path)).await?.bytes().await }.await;
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("cannot read", path, error)),
        }
    }

    /// Names and sizes in bytes of the objects right in a folder, sorted; none if it is not there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let listed = self
            .objects
            .list_with_delimiter(Some(&Key::from(folder)))
            .await
            .map_err(|error| self.error("cannot list", folder, error))?;
        let mut names: Vec<_> = listed
            .objects
            .into_iter()
            .filter_map(|object| Some((object.location.filename()?.to_owned(), object.size)))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The SHA-256 of an object, read piece by piece; `None` only if there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn digest(&self, path: &str) -> Result<Option<Sha256>, StoreError> {
        let found = match self.objects.get(&Key::from(path)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.error("cannot read", path, error)),
        };
        let mut hasher = sha2::Sha256::new();
        let mut pieces = found.into_stream();
        while let Some(piece) =
            pieces.try_next().await.map_err(|error| self.error("cannot read", path, error))?
        {
            hasher.update(&piece);
        }
        Ok(Some(Sha256::from_hasher(hasher)))
    }

    /// Puts bytes at a path, in the place of what was there: readers see the old or the new ones,
    /// and after a crash one of both is whole.
    ///
    /// # Errors
    /// The store cannot be written; what was there is untouched.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let payload = PutPayload::from_bytes(bytes.into());
        match self.objects.put(&Key::from(path), payload).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error("cannot write", path, error)),
        }
    }

    /// Puts a file's content at a path, unless something is there. It appears whole or not at all.
    ///
    /// # Errors
    /// The file cannot be read or the store not written; nothing appears then.
    pub async fn create_from_file(&self, path: &str, file: File) -> Result<Created, StoreError> {
        let key = Key::from(path);
        match self.objects.head(&key).await {
            Ok(_) => Ok(Created::Exists),
            Err(object_store::Error::NotFound { .. }) => {
                self.put_from_file(path, file).await.map(|()| Created::New)
            }
            Err(error) => Err(self.error("cannot read", path, error)),
        }
    }

    /// Puts a file's content at a path, in the place of what was there, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be read or the store not written; what was there is untouched.
    pub async fn put_from_file(&self, path: &str, mut file: File) -> Result<(), StoreError> {
        let key = Key::from(path);
        let upload = self
            .objects
            .put_multipart(&key)
            .await
            .map_err(|error| self.error("cannot write", path, error))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        let copied: Result<(), object_store::Error> = async {
            loop {
                let (read, buffer) = tokio::task::spawn_blocking(move || {
                    let mut buffer = Vec::with_capacity(PART);
                    let read = (&mut file).take(PART as u64).read_to_end(&mut buffer).map(|_| file);
                    (read, buffer)
                })
                .await?;
                file = read.map_err(|source| object_store::Error::Generic {
                    store: "image",
                    source: Box::new(source),
                })?;
                if buffer.is_empty() {
                    return Ok(());
                }
                writer.wait_for_capacity(2).await?;
                writer.put(buffer.into());
            }
        }
        .await;
        let finished = match copied {
            Ok(()) => writer.finish().await.map(|_| ()),
            Err(error) => writer.abort().await.and(Err(error)),
        };
        finished.map_err(|error| self.error("cannot write", path, error))
    }

    /// Deletes an object. One that is not there is as good as deleted.
    ///
    /// # Errors
    /// It is there, and stays.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.objects.delete(&Key::from(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("cannot delete", path, error)),
        }
    }

    /// When an object was last written; `None` only if there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn modified(&self, path: &str) -> Result<Option<Timestamp>, StoreError> {
        match self.objects.head(&Key::from(path)).await {
            Ok(found) => Ok(Timestamp::from_second(found.last_modified.timestamp()).ok()),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("cannot read", path, error)),
        }
    }

    /// Takes the lock of a directory, for as long as the answer lives.
    ///
    /// The kernel's own lock on the file decides, so one that a dead process left behind counts for
    /// nothing; what the file says is only for people.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a live process has it.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.root.join(PRIVATE).join("lock");
        let failed = |error: io::Error| StoreError::new("cannot write", path.display(), error);
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // A link would have us write over whatever it leads to.
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(failed)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    // Whoever holds it may be writing it right now: no holder is no error.
                    let _ = (&mut file).take(4096).read_to_string(&mut text);
                    return Err(StoreError::Locked {
                        path: self.root.display().to_string(),
                        holder: serde_json::from_str(&text).ok(),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The one before us takes the file away at its end: a lock on a file that is gone is none.
            let held = file.metadata().map_err(failed)?;
            match fs::metadata(&path) {
                Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            }
            file.set_len(0).map_err(failed)?;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            let holder = serde_json::to_string(&Holder::this_process()).map_err(io::Error::other);
            holder.and_then(|text| writeln!(file, "{text}")).map_err(failed)?;
            return Ok(Lock { path, _file: file });
        }
    }

    /// Takes away what a killed publisher left half written. Only for who holds the lock.
    ///
    /// The file system backend of `object_store` writes `NAME#N` and renames it.
    ///
    /// # Errors
    /// The folder cannot be read, or such a file not be removed.
    pub fn sweep(&self, folder: &str, _lock: &Lock) -> Result<(), StoreError> {
        let ends: &[&str] =
            if folder.starts_with(PRIVATE) { &[".json", ".json.zst"] } else { &[".raw"] };
        let folder = self.root.join(folder);
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
                    (ours || stem == "SHA256SUMS")
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

/// Who holds a lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Holder {
    /// Its process number.
    pub process: u32,
    /// The machine it runs on.
    pub host: String,
    /// When it took the lock.
    pub since: Timestamp,
}

impl Holder {
    fn this_process() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let now = Timestamp::now();
        Self {
            process: std::process::id(),
            host,
            since: now.round(jiff::Unit::Second).unwrap_or(now),
        }
    }
}

/// The lock of a store, given back when it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While we still hold it, so that nobody's else is taken away. A file that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}
