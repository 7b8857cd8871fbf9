//! The repository: what is published, how that changes, and whether it is right.
//!
//! Owns the layout and the order of writing. Knows nothing of upstreams or of how images are made.

use std::collections::BTreeMap;

use commit::Record;
use futures::StreamExt;
use thiserror::Error;

use crate::manifest::{Manifest, ManifestError};
use crate::name::{ComponentName, FileName, Folder};
use crate::store::{PRIVATE, Store, StoreError};

pub mod commit;
pub mod seal;
pub mod verify;

/// The manifest's name in each folder.
pub const MANIFEST: &str = crate::manifest::FILE;

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
pub fn folders_of(folder: &Folder) -> [String; 3] {
    [folder.to_string(), format!("{PRIVATE}/images/{folder}"), format!("{PRIVATE}/upstream")]
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
        }
    }
}

/// What is published in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Its manifest; empty if there is none.
    pub manifest: Manifest,
    /// Every file and its length in bytes.
    files: BTreeMap<String, u64>,
    /// What the files of ours should have, by their records.
    sizes: BTreeMap<String, u64>,
}

impl Published {
    /// A folder with this manifest and these files.
    #[must_use]
    pub fn new(manifest: Manifest, files: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self { manifest, files: files.into_iter().collect(), sizes: BTreeMap::new() }
    }

    /// Reads a folder. One that is not there is empty; every other failure is one.
    ///
    /// # Errors
    /// The store or the manifest cannot be read.
    pub async fn read(store: &Store, folder: &Folder) -> Result<Self, SnapshotError> {
        let manifest = Self::read_manifest(store, folder).await?;
        let mut published = Self::new(manifest, store.list(folder.as_str()).await?);
        let names: Vec<FileName> =
            published.manifest.files().map(|(name, _)| name.clone()).collect();
        let mut records = futures::stream::iter(names)
            .map(async |name| {
                let record = store.read(&record_path(folder, &name)).await?;
                let record =
                    record.and_then(|record| serde_json::from_slice::<Record>(&record).ok());
                Ok::<_, StoreError>((name, record))
            })
            .buffer_unordered(16);
        while let Some((name, record)) = records.next().await.transpose()? {
            published.sizes.extend(record.map(|record| (name.into(), record.size)));
        }
        drop(records);
        Ok(published)
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
        match (self.files.get(name.as_str()), self.sizes.get(name.as_str())) {
            (Some(is), Some(should_be)) => is != should_be,
            _ => false,
        }
    }
}

/// A file of a folder, for people; the folder may be empty.
fn shown(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
