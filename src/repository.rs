//! The repository: what is published, how that changes, and whether it is right.
//!
//! Owns the layout and the order of writing. Knows nothing of upstreams or of how images are made.

use std::collections::BTreeMap;

use catalogue::Catalogue;
use commit::Record;
use futures::StreamExt;
use thiserror::Error;

use crate::manifest::{Manifest, ManifestError};
use crate::name::{ComponentName, FileName, Folder};
use crate::sign::Signer;
use crate::store::{Lock, PRIVATE, Store, StoreError};

pub mod catalogue;
pub mod commit;
pub mod retention;
pub mod shelf;
pub mod verify;
pub mod yank;

/// The manifest's name in each folder: what sysupdate.d(5) asks a `url-file` source for.
pub const MANIFEST: &str = "SHA256SUMS";

/// The path of a file in a component's folder.
#[must_use]
pub fn path(folder: &Folder, name: &str) -> String {
    format!("{folder}/{name}")
}

/// The path of what is known about how an image was made.
#[must_use]
pub fn record_path(folder: &Folder, image: &FileName) -> String {
    format!("{PRIVATE}/images/{folder}/{image}.json")
}

/// The folders that a sync of a component writes to.
#[must_use]
pub fn folders_of(folder: &Folder) -> [String; 4] {
    let catalogue = catalogue::path(folder);
    let catalogues = catalogue.rsplit_once('/').map_or("", |(folder, _)| folder);
    [
        folder.to_string(),
        format!("{PRIVATE}/images/{folder}"),
        format!("{PRIVATE}/upstream"),
        catalogues.to_owned(),
    ]
}

/// A folder that may be changed: nobody else changes it meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The store it is in.
    pub store: &'a Store,
    /// What keeps others out.
    pub lock: &'a Lock,
    /// The folder.
    pub folder: &'a Folder,
    /// Who vouches for its manifest.
    pub signer: &'a Signer,
}

/// The path of what a component's upstream answered before.
#[must_use]
pub fn cache_path(component: &ComponentName) -> String {
    format!("{PRIVATE}/upstream/{component}.json.zst")
}

/// A folder that cannot be read as a repository's.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The store gave an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is there, but no client would take it.
    #[error("{path} cannot be used")]
    Manifest {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The catalogue is there, but nobody can read it.
    #[error("{path} cannot be used")]
    Catalogue {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl SnapshotError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Manifest { .. } => Some(
                "nothing is written over it: repair it by hand, or move it away to start anew"
                    .to_owned(),
            ),
            Self::Catalogue { .. } => Some(
                "repair it by hand; moved away, yanked versions would be published again"
                    .to_owned(),
            ),
        }
    }
}

/// What is published in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Its manifest; empty if there is none.
    pub manifest: Manifest,
    /// What is no longer offered, and why.
    pub catalogue: Catalogue,
    /// Every file and its length in bytes.
    files: BTreeMap<String, u64>,
    /// How the images were made that [`Published::read_records`] was asked for.
    records: BTreeMap<FileName, Record>,
}

impl Published {
    /// A folder with this manifest and these files.
    #[must_use]
    pub fn new(manifest: Manifest, files: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self { manifest, files: files.into_iter().collect(), ..Self::default() }
    }

    /// Reads a folder. One that is not there is empty; every other failure is one.
    ///
    /// # Errors
    /// The store, the manifest or the catalogue cannot be read.
    pub async fn read(store: &Store, folder: &Folder) -> Result<Self, SnapshotError> {
        let manifest = Self::read_manifest(store, folder).await?;
        let catalogue = Catalogue::read(store, folder).await?;
        let files = store.list(folder.as_str()).await?;
        Ok(Self { catalogue, ..Self::new(manifest, files) })
    }

    /// Reads how these images were made. One without a record, or with one that nobody can read, is
    /// unknown: nothing is concluded from that.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read_records(
        &mut self,
        store: &Store,
        folder: &Folder,
        names: impl IntoIterator<Item = FileName>,
    ) -> Result<(), StoreError> {
        let names: Vec<FileName> =
            names.into_iter().filter(|name| !self.records.contains_key(name)).collect();
        let mut records = futures::stream::iter(names)
            .map(async |name| {
                let record = store.read(&record_path(folder, &name)).await?;
                let record =
                    record.and_then(|record| serde_json::from_slice::<Record>(&record).ok());
                Ok::<_, StoreError>(record.map(|record| (name, record)))
            })
            .buffer_unordered(16);
        while let Some(record) = records.next().await.transpose()? {
            self.records.extend(record);
        }
        Ok(())
    }

    /// Remembers how an image was made.
    pub fn remember(&mut self, name: FileName, record: Record) {
        self.files.insert(name.to_string(), record.size);
        self.records.insert(name, record);
    }

    /// Forgets how an image was made.
    #[cfg(test)]
    pub(crate) fn unlearn(&mut self, name: &FileName) {
        self.records.remove(name);
    }

    /// Forgets a file.
    #[cfg(test)]
    pub(crate) fn forget(&mut self, name: &FileName) {
        self.files.remove(name.as_str());
        self.records.remove(name);
    }

    /// How an image was made, if that was asked for and is known.
    #[must_use]
    pub fn record(&self, name: &FileName) -> Option<&Record> {
        self.records.get(name)
    }

    /// The length of a file in bytes, if it is there.
    #[must_use]
    pub fn size(&self, name: &FileName) -> Option<u64> {
        self.files.get(name.as_str()).copied()
    }

    /// Reads only the manifest of a folder; an empty one if there is none.
    ///
    /// # Errors
    /// As [`Published::read`].
    pub async fn read_manifest(store: &Store, folder: &Folder) -> Result<Manifest, SnapshotError> {
        let path = path(folder, MANIFEST);
        let Some(bytes) = store.read(&path).await? else { return Ok(Manifest::default()) };
        Manifest::parse(&bytes).map_err(|source| SnapshotError::Manifest {
            path: store.root().join(&path).display().to_string(),
            source,
        })
    }

    /// Whether the folder has a file of this name.
    #[must_use]
    pub fn has_file(&self, name: &FileName) -> bool {
        self.files.contains_key(name.as_str())
    }

    /// Whether a file has another length than when we published it. That its bytes are the same is
    /// for `verify` to say: to read all of them at every sync would cost too much.
    #[must_use]
    pub fn is_damaged(&self, name: &FileName) -> bool {
        match (self.size(name), self.record(name)) {
            (Some(is), Some(record)) => is != record.size,
            _ => false,
        }
    }
}

/// A file of a folder, for people; the folder may be empty.
fn shown(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
