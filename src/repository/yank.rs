//! Yanking: a version that turned out bad leaves the manifest at once, and may come back.
//!
//! Owns the order: the catalogue first, so that whatever happens the next sync finishes what was
//! begun, then the manifest. The files stay for the grace. A node that has the version keeps it:
//! systemd-sysupdate never goes back.

use std::collections::BTreeSet;

use jiff::Timestamp;
use thiserror::Error;

use super::catalogue::{Yank, Yanked};
use super::commit::{Change, CommitError, Gone, Removal, commit};
use super::shelf::{Names, Shelf};
use super::{Place, Published, SnapshotError, path, retention};
use crate::config::Component;
use crate::name::{FileName, Folder};
use crate::report::likely;
use crate::store::StoreError;
use crate::version::Version;

/// A version that was not yanked or restored.
#[derive(Debug, Error)]
pub enum YankError {
    /// The folder cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The folder cannot be changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store gave an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing of it is listed.
    #[error("version `{version}` is not published in {folder}")]
    NotPublished {
        /// The version.
        version: Version,
        /// The folder.
        folder: Folder,
        /// What is.
        published: Vec<String>,
    },
    /// It is all there is.
    #[error("version `{version}` is all that {folder} offers")]
    Last {
        /// The version.
        version: Version,
        /// The folder.
        folder: Folder,
    },
    /// It was never yanked, or is back already.
    #[error("version `{version}` is not yanked in {folder}")]
    NotYanked {
        /// The version.
        version: Version,
        /// The folder.
        folder: Folder,
        /// What is.
        yanked: Vec<String>,
    },
}

impl YankError {
    /// Whether it was asked of what is not there.
    #[must_use]
    pub fn is_of_nothing(&self) -> bool {
        matches!(self, Self::NotPublished { .. } | Self::NotYanked { .. })
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let list = |what: &str, version: &Version, names: &[String]| match names {
            [] => Some(format!("nothing is {what}")),
            names => Some(format!("{what}: {}", likely(version.as_str(), names))),
        };
        match self {
            Self::Snapshot(error) => error.hint(),
            Self::Commit(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::NotPublished { version, published, .. } => list("published", version, published),
            Self::NotYanked { version, yanked, .. } => list("yanked", version, yanked),
            Self::Last { .. } => Some(
                "systemd 257 takes an empty manifest for an error: publish another version first, or say --force".to_owned(),
            ),
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// These lines are back.
    Lines(Vec<FileName>),
    /// The files are gone, or not what they were, or not wanted: the next sync builds the version
    /// anew, as this revision or a later one.
    Anew(u32),
}

/// Takes a version out: all its revisions, or the one that is named. Gives the lines that went; none
/// if they had gone before.
///
/// # Errors
/// Nothing of it is published, or it is all there is; or the folder cannot be read or changed.
pub async fn yank(
    place: &Place<'_>,
    component: &Component,
    version: &Version,
    reason: Option<String>,
    force: bool,
    now: Timestamp,
) -> Result<Vec<FileName>, YankError> {
    let Place { store, folder, .. } = *place;
    let mut published = Published::read(store, folder).await?;
    let (shelf, others) = learned(place, component, &mut published, version).await?;
    let is_meant = |release: &Version, revision| {
        release == version || release.revised(revision).is_ok_and(|shown| shown == *version)
    };
    let images = shelf.images().map(|(release, revision, _, name)| (release, revision, name));
    let others = others.iter().map(|(release, revision, name)| (release, *revision, name));
    let all: Vec<(&Version, u32, &FileName)> = images.chain(others).collect();
    let lines: Vec<(FileName, Yanked)> = all
        .iter()
        .filter(|(release, revision, _)| is_meant(release, *revision))
        .filter_map(|&(release, revision, name)| {
            let sha256 = published.manifest.get(name)?;
            let recipe = published.record(name).and_then(|record| record.recipe);
            Some((name.clone(), Yanked { sha256, version: release.clone(), revision, recipe }))
        })
        .collect();
    let names: Vec<FileName> = lines.iter().map(|(name, _)| name.clone()).collect();
    let standing = published.catalogue.yanked.contains_key(version);
    if names.is_empty() && !standing {
        let shown = |(release, revision, _): (&Version, u32, _)| {
            release.revised(revision).ok().map(String::from)
        };
        let published: BTreeSet<String> = all.into_iter().filter_map(shown).collect();
        return Err(YankError::NotPublished {
            version: version.clone(),
            folder: folder.clone(),
            published: published.into_iter().collect(),
        });
    }
    let is_last = published.manifest.files().all(|(name, _)| names.contains(name));
    if is_last && !names.is_empty() && !force {
        return Err(YankError::Last { version: version.clone(), folder: folder.clone() });
    }
    let fresh = Yank { at: now, reason: None, images: [].into() };
    let yank = published.catalogue.yanked.entry(version.clone()).or_insert(fresh);
    yank.images.extend(lines);
    yank.reason = reason.or(yank.reason.take());
    let removals: Vec<Removal> =
        names.iter().map(|name| Removal { name: name.clone(), why: Gone::Yanked }).collect();
    retention::retire(place, &mut published, &shelf, &removals, now).await?;
    Ok(names)
}

/// Puts a yanked version back, if all its files are there as they were. Otherwise, or if it is to be
/// built anew, the next sync builds it.
///
/// # Errors
/// It is not yanked; or the folder cannot be read or changed.
pub async fn restore(
    place: &Place<'_>,
    version: &Version,
    rebuild: bool,
) -> Result<Restored, YankError> {
    let Place { store, lock, folder, signer } = *place;
    let mut published = Published::read(store, folder).await?;
    let Some(yank) = published.catalogue.yanked.get(version).cloned() else {
        let yanked = published.catalogue.yanked.keys().map(ToString::to_string).collect();
        return Err(YankError::NotYanked {
            version: version.clone(),
            folder: folder.clone(),
            yanked,
        });
    };
    // A name that is spent has its file deleted, now or soon.
    let is_spent = |line: &Yanked| {
        let floor = published.catalogue.floor.get(&line.version);
        floor.is_some_and(|floor| *floor > line.revision)
    };
    let mut whole = !rebuild && !yank.images.is_empty() && !yank.images.values().any(is_spent);
    for (name, line) in &yank.images {
        whole = whole && store.digest(&path(folder, name.as_str())).await? == Some(line.sha256);
    }
    let restored = if whole {
        let lines: Vec<(FileName, _)> =
            yank.images.iter().map(|(name, line)| (name.clone(), line.sha256)).collect();
        retention::reclaim(place, &mut published, lines.iter().map(|(name, _)| name)).await?;
        let change = Change { restored: &lines, ..Change::default() };
        published = commit(store, lock, folder, &published, &change, signer).await?;
        Restored::Lines(lines.into_iter().map(|(name, _)| name).collect())
    } else {
        // Nodes may have the yanked image: what is built now must sort above it.
        let last = yank.images.values().max_by_key(|line| line.revision);
        let (release, revision) =
            last.map_or((version.clone(), 0), |line| (line.version.clone(), line.revision));
        let floor = published.catalogue.floor.entry(release).or_default();
        *floor = (*floor).max(revision + 1);
        Restored::Anew(*floor)
    };
    // Last, so that a crash before leaves the yank standing, and the next restore goes on.
    published.catalogue.yanked.remove(version);
    published.keep_catalogue(place).await?;
    Ok(restored)
}

/// What the folder offers, with what tells revisions of this version; and the images that have another
/// name than the component's have now, but whose records say that they are of a version of it.
async fn learned(
    place: &Place<'_>,
    component: &Component,
    published: &mut Published,
    version: &Version,
) -> Result<(Shelf, Vec<(Version, u32, FileName)>), YankError> {
    let known = BTreeSet::from([version.clone()]);
    let reader = Names::of(component);
    let revises = |shown: &Version| {
        shown == version || shown.unrevised().is_some_and(|(release, _)| release == *version)
    };
    let (mut meant, mut odd) = (Vec::new(), Vec::new());
    for (name, _) in published.manifest.files() {
        match reader.read(name) {
            Some((shown, _)) if revises(&shown) => meant.push(name.clone()),
            Some(_) => {}
            None => odd.push(name.clone()),
        }
    }
    let Place { store, folder, .. } = *place;
    published.read_records(store, folder, meant.into_iter().chain(odd.iter().cloned())).await?;
    let of_record = |name: FileName| {
        let record = published.recorded(&name)?;
        Some((record.release.clone()?, record.revision, name))
    };
    let others = odd.into_iter().filter_map(of_record).collect();
    Ok((Shelf::new(component, published, &known), others))
}
