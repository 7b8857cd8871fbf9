//! The repository: what is published, how that changes, and whether it is right.
//!
//! Owns the layout and the order of writing. Knows nothing of upstreams or of how images are made.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::manifest::{Manifest, ManifestError};
use crate::name::{ComponentName, FileName, Folder};
use crate::store::{Store, StoreError};

pub mod commit;
pub mod verify;

/// The manifest's name in each folder: what sysupdate.d(5) asks a `url-file` source for.
pub const MANIFEST: &str = "SHA256SUMS";

/// What publish keeps for itself; clients never read it.
pub const PRIVATE: &str = ".publish";

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
    files: BTreeSet<String>,
}

impl Published {
    /// A folder with this manifest and these files.
    #[must_use]
    pub fn new(manifest: Manifest, files: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { manifest, files: files.into_iter().map(Into::into).collect() }
    }

    /// Reads a folder. One that is not there is empty; every other failure is one.
    ///
    /// # Errors
    /// The store or the manifest cannot be read.
    pub async fn read(store: &Store, folder: &Folder) -> Result<Self, SnapshotError> {
        let manifest_path = path(folder, MANIFEST);
        let manifest = match store.read(&manifest_path).await? {
            None => Manifest::default(),
            Some(bytes) => Manifest::parse(&bytes).map_err(|source| SnapshotError::Manifest {
                path: store.root().join(&manifest_path).display().to_string(),
                source,
            })?,
        };
        let files = store.list(folder.as_str()).await?.into_iter().map(|(name, _)| name).collect();
        Ok(Self { manifest, files })
    }

    /// Whether the folder has a file of this name.
    #[must_use]
    pub fn has_file(&self, name: &FileName) -> bool {
        self.files.contains(name.as_str())
    }
}

/// A file of a folder, for people; the folder may be empty.
fn shown(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
