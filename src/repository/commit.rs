//! The commit: how a folder goes from one right state to the next.
//!
//! **At every instant, every line of the served `SHA256SUMS` names a file that is there with that
//! hash.** A client takes the newest line and nothing else: one that names a file which is not
//! there, or not whole, stops every node that asks meanwhile. So the order is fixed:
//!
//! 1. Every name is checked against the manifest: a name never gets other bytes.
//! 2. Images go up, create-only, each whole or not at all.
//! 3. What is known about their making goes beside them.
//! 4. If it is signed, the catalogue keeps the signature of the manifest that comes next.
//! 5. The manifest replaces the one that the plan was made from, in one step, and has every line of
//!    it but those that a prune or a yank names. If another publisher was faster, nothing is
//!    written: whoever lost reads again and plans again.
//! 6. The signature replaces the one before it, in one step, as long as the manifest is ours.
//!
//! A crash before the manifest leaves the old one with all its files, and perhaps images that no
//! line names yet; the next sync takes those over if it builds the same bytes, and says so if not.
//! A crash after it leaves a signature that does not fit, which the next sync sees and heals.
//!
//! Why two publishers end with the right signature: each puts its signature in the place of one
//! that it saw *before* it saw its own manifest served. A newer manifest's signature is written
//! later than that, so an older publisher never replaces it; and a newer publisher that finds an
//! older signature in its way replaces that.

use std::collections::BTreeMap;
use std::fs::File;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::seal::{Seal, SealError};
use super::{MANIFEST, Published, SIGNATURES, SnapshotError, catalogue, path, record_path};
use crate::fetch::for_records;
use crate::image::Image;
use crate::image::contents::Contents;
use crate::manifest::Manifest;
use crate::name::{FileName, Folder, Sha256};
use crate::sign::{SignError, SignedManifest, Signer};
use crate::store::{Created, Lock, Store, StoreError};
use crate::version::Version;

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
    /// The manifest could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The manifest changed since the plan was made.
    #[error("the manifest of {folder} changed meanwhile")]
    Raced {
        /// The folder.
        folder: Folder,
    },
    /// The folder cannot be signed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A line of the old manifest would be lost.
    #[error("the new manifest of {folder} would lack lines of the old one")]
    Shrunk {
        /// The folder.
        folder: Folder,
    },
    /// It is published as somebody else has it, byte for byte.
    #[error("the manifest of {folder} is its upstream's, as they signed it")]
    Theirs {
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
            Self::Seal(error) => error.hint(),
            Self::Changed { .. } => Some(
                "this program makes other bytes of the same inputs than the one that published it: put the file back from a copy, or `publish yank` the version and `publish restore --rebuild` it, which makes a revision".to_owned(),
            ),
            Self::Taken { .. } => Some("no manifest lists the file: remove it if nothing else needs it".to_owned()),
            Self::Raced { .. } => Some("something else writes to this folder all the time; sync again".to_owned()),
            Self::Theirs { folder } => Some(format!(
                "to let go of it, remove {folder}/ from the store, and .publish/folders/{folder}.json with it; a component without `verbatim = true` makes it one of yours"
            )),
            Self::Shrunk { .. } | Self::Image { .. } | Self::Sign(_) => None,
        }
    }
}

/// What went into an image, so that anyone can make it again and compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The upstream version it was made from; a record that does not say it is an old one.
    #[serde(default)]
    pub release: Option<Version>,
    /// Which revision of that version it is; 0 is the first.
    #[serde(default)]
    pub revision: u32,
    /// The recipe it was made by, see [`crate::recipe::fingerprint`].
    #[serde(default)]
    pub recipe: Option<Sha256>,
    /// What was fetched for it, in the order of the recipe.
    pub inputs: Vec<InputRecord>,
    /// Which releases of its companions went in, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub companions: BTreeMap<String, CompanionRecord>,
    /// What is in it, where we put that there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// When it was published, once it is; an old record does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
}

impl Record {
    /// Reads what was written of an image.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// A companion's release that went into an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanionRecord {
    /// Its version, as its upstream writes it.
    pub version: String,
    /// Its tag.
    pub tag: String,
}

/// The version of the record's format.
pub const RECORD: u32 = 2;

/// The program that makes images, as records name it.
pub const TOOL: &str = concat!("publish ", env!("CARGO_PKG_VERSION"));

/// A file that went into an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Its URL, or its name in the folder of a `directory` source.
    #[serde(deserialize_with = "of_record")]
    pub from: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// Who promised the digest; empty if nobody did.
    pub promised_by: Vec<String>,
}

/// A record that was written before URLs lost their secrets still tells of the same file.
fn of_record<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let from = String::deserialize(from)?;
    Ok(if from.contains("://") { for_records(&from) } else { from })
}

/// What a commit does to a folder.
#[derive(Debug, Clone, Default)]
pub struct Change<'a> {
    /// Images that get a line, each with what went into it.
    pub images: &'a [(Image, Record)],
    /// Lines that come back: who gives them has read their files, and found them right.
    pub restored: &'a [(FileName, Sha256)],
    /// Lines that go. Nothing else ever loses its line.
    pub removals: &'a [Removal],
    /// The manifest is signed anew, also if no line changes.
    pub sign: bool,
}

/// A line that is taken out of the manifest. Its file stays until the grace is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// The repository that is published as it is no longer has it.
    Upstream,
    /// A person let its whole folder go.
    Retired,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pruned => "newer ones took its place",
            Self::Yanked => "yanked",
            Self::Upstream => "upstream no longer lists it",
            Self::Retired => "its folder was retired",
        })
    }
}

/// How often a signature is tried that others get in the way of.
const ATTEMPTS: usize = 20;

/// Changes a folder. `before` is what the plan was made from; the answer is what is published now.
///
/// # Errors
/// Nothing that was published is touched then, or it is replaced by what was asked for.
/// [`CommitError::Raced`] if the folder is not as it was: read it again, and plan again.
pub async fn commit(
    store: &Store,
    lock: &Lock,
    folder: &Folder,
    before: &Published,
    change: &Change<'_>,
    signer: &Signer,
) -> Result<Published, CommitError> {
    let Change { images, restored, removals, sign } = *change;
    if before.catalogue.verbatim {
        return Err(CommitError::Theirs { folder: folder.clone() });
    }
    let mut manifest = before.manifest.clone();
    for removal in removals {
        manifest.remove(&removal.name);
    }
    let images_and_lines = images.iter().map(|(image, _)| (&image.name, image.sha256));
    for (name, built) in images_and_lines.chain(restored.iter().map(|(name, sha)| (name, *sha))) {
        manifest.add(name.clone(), built).map_err(|published| CommitError::Changed {
            name: name.clone(),
            published,
            built,
        })?;
    }
    // Signatures that nobody makes anew would stop every node that asks for them; and nothing is
    // signed that we do not know.
    Seal::of(before).due(signer, Timestamp::now())?;
    let ready = signer.sign(&manifest)?;
    check_lines(folder, before, removals, ready.lines())?;

    let mut after = Published { manifest: ready.lines().clone(), ..before.clone() };
    // A mirror publishes many in one step, and each waits for the disk.
    let at_once = if images.len() > AT_ONCE { AT_ONCE } else { 1 };
    let uploads = images.iter().map(|image| put_image(store, lock, folder, before, image));
    futures::stream::iter(uploads).buffered(at_once).try_collect::<()>().await?;
    for (image, record) in images {
        after.records.insert(image.name.clone(), record.clone());
        after.sizes.insert(image.name.to_string(), Some(image.size));
    }
    let raced = || CommitError::Raced { folder: folder.clone() };
    let to = path(folder, MANIFEST);
    // A manifest and its signatures are better not parted by somebody who ends the run.
    let _writing = store.writing().await;
    let is_changed = manifest != before.manifest;
    if (is_changed || sign) && ready.armored().is_some() {
        pledge(store, lock, folder, &mut after, &ready).await?;
    } else if store.look(&catalogue::path(folder)).await? != before.remembered {
        // A version that came and was yanked meanwhile leaves the manifest as it was, but not this.
        return Err(raced());
    }
    if (is_changed || sign) && before.served() != Some(ready.manifest()) {
        let bytes = Bytes::copy_from_slice(ready.manifest());
        after.served = store.replace(&to, bytes, &before.served, lock).await?.ok_or_else(raced)?;
    } else if store.look(&to).await? != before.served {
        return Err(raced());
    }
    if !is_changed && !sign {
        return Ok(Published { manifest, ..after });
    }
    publish_signatures(store, lock, folder, &mut after, &ready, signer).await?;
    Ok(after)
}

/// How many images of one commit go up at once, where there are more than that.
const AT_ONCE: usize = 8;

/// Puts an image there, and what went into it.
pub(super) async fn put_image(
    store: &Store,
    lock: &Lock,
    folder: &Folder,
    before: &Published,
    (image, record): &(Image, Record),
) -> Result<(), CommitError> {
    upload(store, lock, folder, before, image).await?;
    // Whole seconds are enough for people, and for feeds.
    let now = Timestamp::from_second(Timestamp::now().as_second()).ok();
    let record = Record { published: now, ..record.clone() };
    let mut text = serde_json::to_vec_pretty(&record).expect("a record has only text keys");
    text.push(b'\n');
    Ok(store.put(&record_path(folder, &image.name), text).await?)
}

/// How many pledges are kept: one for each publisher that may be at it.
const PLEDGES: usize = 8;

/// Keeps the signature of a manifest that is about to be written, so that after a crash it can be told
/// from one that somebody else wrote.
async fn pledge(
    store: &Store,
    lock: &Lock,
    folder: &Folder,
    after: &mut Published,
    ready: &SignedManifest,
) -> Result<(), CommitError> {
    let Some(signature) = ready.armored() else { return Ok(()) };
    let pledges = &mut after.catalogue.pledges;
    pledges.insert(0, String::from_utf8_lossy(signature).into_owned());
    pledges.truncate(PLEDGES);
    after.keep_catalogue_in(store, lock, folder).await
}

/// The shrink guard: what will be served has every line that was, as it was, but for the removals
/// and the line that says until when it is fresh.
fn check_lines(
    folder: &Folder,
    before: &Published,
    removals: &[Removal],
    ready: &Manifest,
) -> Result<(), CommitError> {
    let mut kept = before.manifest.clone();
    for removal in removals {
        kept.remove(&removal.name);
    }
    let fresh: Vec<FileName> = kept.freshness().map(|(name, _)| name.clone()).collect();
    for name in &fresh {
        kept.remove(name);
    }
    if ready.includes(&kept) { Ok(()) } else { Err(CommitError::Shrunk { folder: folder.clone() }) }
}

/// Puts the signatures in the place of those that were there, as long as the manifest is ours.
async fn publish_signatures(
    store: &Store,
    lock: &Lock,
    folder: &Folder,
    after: &mut Published,
    ready: &SignedManifest,
    signer: &Signer,
) -> Result<(), CommitError> {
    'names: for (name, signature) in &ready.files()[1..] {
        let to = path(folder, name);
        let index = SIGNATURES.iter().position(|known| known == name).expect("one of ours");
        for _ in 0..ATTEMPTS {
            let bytes = Bytes::copy_from_slice(signature);
            let seen = &after.signatures[index];
            if let Some(now) = store.replace(&to, bytes, seen, lock).await? {
                after.signatures[index] = now;
                continue 'names;
            }
            // First what is there, then whether it is still ours to replace: in this order.
            after.signatures[index] = store.look(&to).await?;
            let served = store.look(&path(folder, MANIFEST)).await?;
            if served.bytes().map(|bytes| &**bytes) != Some(ready.manifest()) {
                // Another publisher went on from our manifest, and signs its own.
                return Ok(());
            }
            let there = after.signatures[index].bytes().map(|bytes| &**bytes);
            if signer.vouches(ready.manifest(), there, there, Timestamp::now()) {
                // Another publisher wrote the same manifest, and both files are to have one and the
                // same signature: who was first at this one writes the other, too.
                return Ok(());
            }
        }
        return Err(CommitError::Raced { folder: folder.clone() });
    }
    Ok(())
}

async fn upload(
    store: &Store,
    lock: &Lock,
    folder: &Folder,
    before: &Published,
    image: &Image,
) -> Result<(), CommitError> {
    let to = path(folder, image.name.as_str());
    for _ in 0..ATTEMPTS {
        if store.create_from_file(&to, open(image)?, image.sha256, lock).await? == Created::New {
            return Ok(());
        }
        // A crashed sync left it, or somebody else put it there.
        let Some(there) = store.digest(&to).await? else { continue };
        if there == image.sha256 {
            return Ok(());
        }
        // The manifest promises these very bytes, so what is there is damaged: no node takes it.
        if before.manifest.get(&image.name) == Some(image.sha256) {
            return Ok(store.put_from_file(&to, open(image)?, image.sha256).await?);
        }
        let (path, built) = (store.locate(&to), image.sha256);
        return Err(CommitError::Taken { path, there, built });
    }
    // It is there when we create it, and gone when we look.
    Err(CommitError::Raced { folder: folder.clone() })
}

fn open(image: &Image) -> Result<File, CommitError> {
    let name = &image.name;
    File::open(&image.path).map_err(|source| CommitError::Image { name: name.clone(), source })
}
