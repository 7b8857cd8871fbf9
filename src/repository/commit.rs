//! The commit: how a folder goes from one right state to the next.
//!
//! **At every instant, every line of the served `SHA256SUMS` names a file that is there with that
//! hash.** A client takes the newest line and nothing else: one that names a file which is not
//! there, or not whole, stops every node that asks meanwhile. So the order is fixed:
//!
//! 1. Every name is checked against the manifest: a name never gets other bytes.
//! 2. Images go up, create-only, each whole or not at all.
//! 3. What is known about their making goes beside them.
//! 4. The manifest replaces the old one in one step, and has every line of it.
//!
//! A crash at any point leaves the old manifest with all its files, and perhaps images that no line
//! names yet; the next sync takes those over if it builds the same bytes, and says so if not.

use std::fs::File;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{MANIFEST, Published, SnapshotError, path, record_path};
use crate::image::Image;
use crate::manifest::Manifest;
use crate::name::{FileName, Folder, Sha256};
use crate::sign::Signer;
use crate::store::{Created, Lock, Store, StoreError};

/// A commit that did not happen. The folder is as right as it was before.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The store gave an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A published name would get other bytes.
    #[error("{name} is published with SHA-256 {published}, but the build gave {built}")]
    Changed {
        /// The image.
        name: FileName,
        /// What nodes have.
        published: Sha256,
        /// What would take its place.
        built: Sha256,
    },
    /// A file that no manifest lists has the name.
    #[error("{path} is there already with SHA-256 {there}, but the build gave {built}")]
    Taken {
        /// The file.
        path: String,
        /// What is there.
        there: Sha256,
        /// What would take its place.
        built: Sha256,
    },
    /// The manifest changed since the plan was made, although we hold the lock.
    #[error("the manifest of {folder} changed while images were built")]
    Raced {
        /// The folder.
        folder: Folder,
    },
    /// A line of the old manifest would be lost.
    #[error("the new manifest of {folder} would lack lines of the old one")]
    Shrunk {
        /// The folder.
        folder: Folder,
    },
    /// The built image is gone from this machine.
    #[error("cannot read the image {name}")]
    Image {
        /// The image.
        name: FileName,
        /// Why.
        source: std::io::Error,
    },
}

impl CommitError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Snapshot(error) => error.hint(),
            Self::Changed { .. } => Some(
                "the upstream file or the recipe changed: a published version never gets other bytes".to_owned(),
            ),
            Self::Taken { .. } => Some("no manifest lists the file: remove it if nothing else needs it".to_owned()),
            Self::Raced { .. } => Some("something else writes to this folder; sync again".to_owned()),
            Self::Shrunk { .. } | Self::Image { .. } => None,
        }
    }
}

/// What went into an image, so that anyone can make it again and compare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The version of this format.
    pub version: u32,
    /// The program that made it.
    pub tool: String,
    /// The image's digest.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// What its files are dated, in seconds since 1970.
    pub time: u64,
    /// What was fetched for it, in the order of the recipe.
    pub inputs: Vec<InputRecord>,
}

/// A file that went into an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InputRecord {
    /// Its URL, or its name in the folder of a `directory` source.
    pub from: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// Who promised the digest; empty if nobody did.
    pub promised_by: Vec<String>,
}

/// What a commit does to a folder.
#[derive(Debug, Clone, Default)]
pub struct Change<'a> {
    /// Images that get a line, each with what went into it.
    pub images: &'a [(Image, Record)],
    /// Lines that go. Nothing else ever loses its line.
    pub removals: &'a [Removal],
}

/// A line that is taken out of the manifest. Its file stays until the grace is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The image.
    pub name: FileName,
    /// Who asked for it.
    pub why: Gone,
}

/// Why a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// Newer versions took its place.
    Pruned,
    /// A person said that it is bad.
    Yanked,
}

/// Changes a folder. `before` is what the plan was made from; the answer is the manifest that is
/// published now.
///
/// # Errors
/// Nothing that was published is touched then.
pub async fn commit(
    store: &Store,
    _lock: &Lock,
    folder: &Folder,
    before: &Published,
    change: &Change<'_>,
    signer: &Signer,
) -> Result<Manifest, CommitError> {
    let Change { images, removals } = *change;
    let mut manifest = before.manifest.clone();
    for removal in removals {
        manifest.remove(&removal.name);
    }
    for (image, _) in images {
        manifest.add(image.name.clone(), image.sha256).map_err(|published| {
            CommitError::Changed { name: image.name.clone(), published, built: image.sha256 }
        })?;
    }
    for (image, record) in images {
        upload(store, folder, before, image).await?;
        let mut text = serde_json::to_vec_pretty(record).expect("a record has only text keys");
        text.push(b'\n');
        store.put(&record_path(folder, &image.name), text).await?;
    }
    let now = Published::read_manifest(store, folder).await?;
    if now != before.manifest {
        return Err(CommitError::Raced { folder: folder.clone() });
    }
    let mut kept = now.clone();
    for removal in removals {
        kept.remove(&removal.name);
    }
    if !manifest.includes(&kept) {
        return Err(CommitError::Shrunk { folder: folder.clone() });
    }
    if manifest != now {
        let ready = signer.sign(&manifest);
        store.put(&path(folder, MANIFEST), ready.manifest().to_vec()).await?;
    }
    Ok(manifest)
}

async fn upload(
    store: &Store,
    folder: &Folder,
    before: &Published,
    image: &Image,
) -> Result<(), CommitError> {
    let to = path(folder, image.name.as_str());
    match store.create_from_file(&to, open(image)?).await? {
        Created::New => Ok(()),
        // A crashed sync left it, or somebody else put it there.
        Created::Exists => {
            let there = store.digest(&to).await?;
            if there == Some(image.sha256) {
                return Ok(());
            }
            // The manifest promises these very bytes, so what is there is damaged: no node takes it.
            if before.manifest.get(&image.name) == Some(image.sha256) {
                let file = open(image)?;
                return Ok(store.put_from_file(&to, file).await?);
            }
            Err(CommitError::Taken {
                path: store.root().join(&to).display().to_string(),
                there: there.unwrap_or_else(|| Sha256::of(b"")),
                built: image.sha256,
            })
        }
    }
}

fn open(image: &Image) -> Result<File, CommitError> {
    let name = &image.name;
    File::open(&image.path).map_err(|source| CommitError::Image { name: name.clone(), source })
}
