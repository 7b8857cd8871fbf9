//! Where bytes go: a directory, a bucket or releases, and the right to write there.
//!
//! Owns reading, atomic writing, conditions and locks. Knows nothing of manifests or images: a path
//! and bytes are all it sees. Everything is the same code over `ObjectStore`; where a directory
//! differs from a bucket, the difference stays in here:
//!
//! | room | owns |
//! |---|---|
//! | `directory` | opening one, and what a killed publisher left in it |
//! | `bucket` | clients of S3, Google and Azure, from the environment |
//! | `release` | releases on GitHub: what their API has no request for |
//! | `upload` | files into objects, create-only or not, in bounded memory |
//! | `stream` | a file as the body of one request to S3 |
//! | `replace` | replacing an object only if nobody else did |
//! | `lock`, `probe` | who may write, and whether the bucket can be trusted with that |
//! | `error` | what servers answer, in few words |

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::{
    Attribute, Attributes, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, path::Path as Key,
};
use sha2::Digest;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::config::{CacheControl, Config, StoreUrl};
use crate::fetch::Client;
use crate::name::Sha256;

mod bucket;
mod directory;
mod error;
mod lock;
mod probe;
mod release;
mod replace;
mod stream;
mod upload;

pub use error::StoreError;
pub use lock::{Holder, Lock};
pub use replace::Seen;

use error::is_missing;

/// The folder that publish keeps for itself. In a directory only its own user can look into it; of
/// a bucket, its policy must not let anybody read it.
pub const PRIVATE: &str = ".publish";

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
    /// The same objects, through a client for uploads.
    uploading: Option<bucket::Uploading>,
    place: Place,
    cache_control: CacheControl,
    buffers: Arc<upload::Buffers>,
    /// Whether something stands between it and its objects, that is to see every byte.
    is_watched: bool,
    /// What is being written that belongs together: see [`Store::writing`].
    writes: Arc<RwLock<()>>,
}

/// Something that is being written, and belongs together.
#[derive(Debug)]
pub struct Writing(#[expect(dead_code, reason = "it is held, not read")] OwnedRwLockReadGuard<()>);

#[derive(Debug, Clone)]
enum Place {
    /// As it was named; whether it was there when it was opened.
    Directory(PathBuf, bool),
    /// For people: `s3://bucket/prefix`.
    Bucket(String),
    /// The same releases that are the objects.
    Releases(release::Releases),
}

/// What became of an object that must not replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    New,
    /// Something of this name was there already, and still is.
    Exists,
}

/// An object of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// The bytes of an object, piece by piece.
pub struct Opened {
    /// How many there are.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
    /// The pieces.
    pub pieces: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("size", &self.size).finish_non_exhaustive()
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Directory(path, _) => path.display().fmt(f),
            Place::Bucket(url) => f.write_str(url),
            Place::Releases(releases) => releases.fmt(f),
        }
    }
}

impl Store {
    /// Opens the store of a configuration. A client for a bucket is made only here, and nothing is
    /// asked of its server yet.
    ///
    /// # Errors
    /// The directory cannot be read or made, or the environment lacks what a bucket needs.
    pub fn configured(config: &Config, access: Access) -> Result<Self, StoreError> {
        let document = &config.document;
        let client = || Client::new(&document.network, &document.limits);
        Self::open(&config.store(), &document.repository.cache_control, client, access)
    }

    /// Opens a store by its address. `client` is asked for where GitHub is reached by it.
    ///
    /// # Errors
    /// As [`Store::configured`].
    pub fn open(
        url: &StoreUrl,
        cache_control: &CacheControl,
        client: impl FnOnce() -> Client,
        access: Access,
    ) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Directory(path) => Self::directory(path, access),
            StoreUrl::Bucket(url) => {
                let bucket::Clients { objects, uploading } = bucket::clients(url)?;
                let place = Place::Bucket(url.to_string());
                Ok(Self {
                    uploading,
                    cache_control: cache_control.clone(),
                    ..Self::new(objects, place)
                })
            }
            StoreUrl::Release(url) => {
                let releases = release::Releases::new(url, &client());
                let objects: Arc<dyn ObjectStore> = Arc::new(releases.clone());
                let uploading = Some(bucket::Uploading {
                    objects: objects.clone(),
                    streams: true,
                    whole: u64::MAX,
                });
                Ok(Self { uploading, ..Self::new(objects, Place::Releases(releases)) })
            }
        }
    }

    /// A bucket of any kind: one in memory, or one behind somebody's own `ObjectStore`.
    #[must_use]
    pub fn with_objects(objects: Arc<dyn ObjectStore>) -> Self {
        let place = Place::Bucket(objects.to_string());
        Self::new(objects, place)
    }

    /// The same store, with something between it and its objects.
    #[must_use]
    pub fn through(
        mut self,
        between: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Self {
        self.objects = between(self.objects);
        self.uploading = self.uploading.map(|uploading| bucket::Uploading {
            objects: between(uploading.objects),
            ..uploading
        });
        self.is_watched = true;
        self
    }

    fn new(objects: Arc<dyn ObjectStore>, place: Place) -> Self {
        Self {
            objects,
            uploading: None,
            place,
            cache_control: CacheControl::default(),
            buffers: Arc::default(),
            is_watched: false,
            writes: Arc::default(),
        }
    }

    /// Says that what is written from now on belongs together, until the answer is dropped. Nothing
    /// depends on it: whoever ends a run before its time may wait for [`Store::quiet`].
    pub async fn writing(&self) -> Writing {
        Writing(self.writes.clone().read_owned().await)
    }

    /// Waits until nothing is half written; nothing more is begun meanwhile.
    pub async fn quiet(&self) {
        drop(self.writes.write().await);
    }

    /// Where an object is, as a person would find it.
    #[must_use]
    pub fn locate(&self, path: &str) -> String {
        match &self.place {
            Place::Directory(root, _) => root.join(path).display().to_string(),
            Place::Bucket(url) => format!("{url}/{path}"),
            Place::Releases(releases) => releases.locate(path),
        }
    }

    /// The directory, if it is one.
    #[must_use]
    pub fn as_directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(root, _) => Some(root),
            Place::Bucket(_) | Place::Releases(_) => None,
        }
    }

    fn error(&self, doing: &'static str, path: &str, error: object_store::Error) -> StoreError {
        StoreError::of(doing, self.locate(path), error)
    }

    /// The same, about a folder.
    fn of_folder(
        &self,
        doing: &'static str,
        folder: &str,
        error: object_store::Error,
    ) -> StoreError {
        match &self.place {
            Place::Releases(releases) => {
                StoreError::of(doing, releases.locate_folder(folder), error)
            }
            Place::Directory(..) | Place::Bucket(_) => self.error(doing, folder, error),
        }
    }

    /// What goes out beside an object's bytes. Never a Content-Encoding: it breaks the hash of what
    /// clients get. A directory has no place for any of it.
    fn attributes(&self, path: &str) -> Attributes {
        let mut attributes = Attributes::new();
        if matches!(self.place, Place::Directory(..)) {
            return attributes;
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_image = Path::new(name).extension().is_some_and(|ending| ending == "raw");
        let cache = if is_image && !path.starts_with(PRIVATE) {
            &self.cache_control.images
        } else {
            &self.cache_control.manifests
        };
        attributes.insert(Attribute::ContentType, content_type(name).into());
        attributes.insert(Attribute::CacheControl, cache.clone().into());
        attributes
    }

    /// An object's bytes; `None` only if the store says that there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let found = async { self.objects.get(&Key::from(path)).await?.bytes().await }.await;
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.error("cannot read", path, error)),
        }
    }

    /// An object's bytes, piece by piece; `None` only if the store says that there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn open_object(&self, path: &str) -> Result<Option<Opened>, StoreError> {
        let found = match self.objects.get(&Key::from(path)).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.error("cannot read", path, error)),
        };
        let (size, modified) = (found.meta.size, time(&found.meta));
        let (store, path) = (self.clone(), path.to_owned());
        let pieces =
            found.into_stream().map_err(move |error| store.error("cannot read", &path, error));
        Ok(Some(Opened { size, modified, pieces: pieces.boxed() }))
    }

    /// The objects right in a folder, by name; none if it is not there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = self.objects.list_with_delimiter(Some(&Key::from(folder))).await;
        let listed = listed.map_err(|error| self.of_folder("cannot list", folder, error))?;
        let listed = listed.objects.into_iter().filter_map(|object| {
            let name = object.location.filename()?.to_owned();
            Some(Listed { name, size: object.size, modified: time(&object) })
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The folders right in a folder, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.objects.list_with_delimiter(Some(&Key::from(folder))).await;
        let listed = listed.map_err(|error| self.of_folder("cannot list", folder, error))?;
        let names =
            listed.common_prefixes.iter().filter_map(|path| Some(path.filename()?.to_owned()));
        let mut names: Vec<_> = names.collect();
        names.sort();
        Ok(names)
    }

    /// The paths of all objects below a folder, relative to it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn names_below(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let key = Key::from(folder);
        let names = self.objects.list(Some(&key)).try_filter_map(async |object| {
            let parts = object.location.prefix_match(&key);
            Ok(parts.map(|parts| {
                parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/")
            }))
        });
        names.try_collect().await.map_err(|error| self.of_folder("cannot list", folder, error))
    }

    /// The SHA-256 of an object, read piece by piece, or as GitHub tells it; `None` only if there is
    /// none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn digest(&self, path: &str) -> Result<Option<Sha256>, StoreError> {
        if let Place::Releases(_) = &self.place {
            let told = match self.objects.head(&Key::from(path)).await {
                Ok(found) => found.e_tag.and_then(|digest| digest.parse().ok()),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(self.error("cannot read", path, error)),
            };
            // Old assets have none.
            if told.is_some() {
                return Ok(told);
            }
        }
        let Some(mut opened) = self.open_object(path).await? else { return Ok(None) };
        let mut hasher = sha2::Sha256::new();
        while let Some(piece) = opened.pieces.try_next().await? {
            hasher.update(&piece);
        }
        Ok(Some(Sha256::from_hasher(hasher)))
    }

    /// Copies an object into a file and hashes it on the way; `None` only if there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found", or the file cannot be written.
    pub async fn fetch(&self, path: &str, to: &Path) -> Result<Option<(Sha256, u64)>, StoreError> {
        let Some(mut opened) = self.open_object(path).await? else { return Ok(None) };
        let disk = |error: io::Error| StoreError::new("cannot write", to.display(), error);
        let file = tokio::fs::File::create(to).await.map_err(disk)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let mut hasher = sha2::Sha256::new();
        let mut size = 0;
        while let Some(piece) = opened.pieces.try_next().await? {
            hasher.update(&piece);
            size += piece.len() as u64;
            file.write_all(&piece).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        Ok(Some((Sha256::from_hasher(hasher), size)))
    }

    /// The length of an object in bytes; `None` only if there is none.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&Key::from(path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.error("cannot read", path, error)),
        }
    }

    /// The lengths of these files of a folder in bytes, in their order; `None` for one that is not
    /// there. In a directory, only the names' own entries are looked at.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn sizes(
        &self,
        folder: &str,
        names: &[String],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let Place::Directory(root, _) = &self.place else {
            let paths: Vec<String> = names.iter().map(|name| format!("{folder}/{name}")).collect();
            let sizes = paths.into_iter().map(|path| async move { self.size(&path).await });
            return futures::stream::iter(sizes).buffered(16).try_collect().await;
        };
        let paths: Vec<PathBuf> = names.iter().map(|name| root.join(folder).join(name)).collect();
        let looked = tokio::task::spawn_blocking(move || directory::sizes(&paths)).await;
        looked.expect("looking at files does not panic")
    }

    /// Brings to its end what a killed publisher left between two requests, where a store knows such a
    /// thing: until then nodes miss a file of the folder.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn mend(&self, folder: &str) -> Result<(), StoreError> {
        let Place::Releases(releases) = &self.place else { return Ok(()) };
        releases.mend(folder).await.map_err(|error| self.of_folder("cannot mend", folder, error))
    }

    /// Puts bytes at a path, in the place of what was there: readers see the old or the new ones,
    /// and after a crash one of both is whole.
    ///
    /// # Errors
    /// The store cannot be written; what was there is untouched.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let put = self.put_if(path, bytes.into(), PutMode::Overwrite).await;
        put.map(|_| ()).map_err(|error| self.error("cannot write", path, error))
    }

    /// Takes an object away; one that is not there is no error.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.objects.delete(&Key::from(path)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.error("cannot delete", path, error)),
        }
    }
}

fn time(object: &ObjectMeta) -> Timestamp {
    let (seconds, nanos) =
        (object.last_modified.timestamp(), object.last_modified.timestamp_subsec_nanos());
    Timestamp::new(seconds, nanos.cast_signed()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "json" | "ign" => "application/json",
        "xml" if name == "feed.xml" => "application/atom+xml",
        "html" => "text/html; charset=utf-8",
        "xml" => "application/xml",
        "asc" | "gpg" if name.starts_with("SHA256SUMS") => "application/pgp-signature",
        "gpg" | "pgp" => "application/pgp-keys",
        "" | "transfer" | "bu" | "sh" | "txt" | "conf" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
