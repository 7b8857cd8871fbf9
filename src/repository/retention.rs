//! Retention: which lines go because newer versions took their place, and when files follow them.
//!
//! What is decided here is pure. The order is fixed: the catalogue learns what goes, the manifest
//! loses the line, and only when the grace is over does the file go, last of all. A file is deleted
//! only if the catalogue says that its line went, and only as long as it is what the line was for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::catalogue::Removed;
use super::commit::{Change, CommitError, Gone, Removal, commit};
use super::shelf::Shelf;
use super::{Place, Published, path, record_path};
use crate::config::versions::{Per, Versions};
use crate::name::{Arch, FileName};
use crate::store::StoreError;
use crate::version::Version;

/// A branch of versions: each holds its own newest ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    /// All versions are in one.
    All,
    /// `1.x` or `1.31.x`
    Number(u64, Option<u64>),
    /// Not semver: a branch of its own.
    Odd(String),
}

impl Branch {
    /// The branch that a version belongs to.
    #[must_use]
    pub fn of(per: Option<Per>, version: &Version) -> Self {
        match (per, version.semver()) {
            (None, _) => Self::All,
            (Some(Per::Major), Some(semver)) => Self::Number(semver.major, None),
            (Some(Per::Minor), Some(semver)) => Self::Number(semver.major, Some(semver.minor)),
            (Some(_), None) => Self::Odd(version.to_string()),
        }
    }
}

/// The images whose place newer ones took: for each architecture and branch all but the newest
/// versions, and all but the newest revision of those. The newest version that is there for every
/// architecture always stays.
#[must_use]
pub fn surplus(shelf: &Shelf, rules: &Versions, arches: &[Arch]) -> Vec<FileName> {
    let complete = shelf.newest_complete(arches);
    let mut held: BTreeMap<(Arch, Branch), usize> = BTreeMap::new();
    let mut surplus = Vec::new();
    for (version, slot) in shelf.slots.iter().rev() {
        let branch = Branch::of(rules.per, version);
        let mut seen = BTreeSet::new();
        for (revision, files) in slot.iter().rev() {
            for (arch, name) in files {
                let wanted = seen.insert(*arch) && {
                    let held = held.entry((*arch, branch.clone())).or_default();
                    *held += 1;
                    *held <= rules.newest.get()
                };
                if !wanted && complete != Some((version, *revision)) {
                    surplus.push(name.clone());
                }
            }
        }
    }
    surplus
}

/// The lines that go from a shelf: what was yanked, and what is surplus.
#[must_use]
pub fn removals(
    shelf: &Shelf,
    published: &Published,
    rules: &Versions,
    arches: &[Arch],
) -> Vec<Removal> {
    let is_yanked = |version, revision| published.catalogue.yank_of(version, revision).is_some();
    let yanked = shelf.images().filter(|(version, revision, ..)| is_yanked(version, *revision));
    let mut removals: Vec<Removal> =
        yanked.map(|(.., name)| Removal { name: name.clone(), why: Gone::Yanked }).collect();
    let left = shelf.without_yanked(&published.catalogue);
    let surplus = surplus(&left, rules, arches);
    removals.extend(surplus.into_iter().map(|name| Removal { name, why: Gone::Pruned }));
    removals
}

/// The files whose line went longer ago than the grace, and when each of the others will be due.
#[must_use]
pub fn due(
    published: &Published,
    grace: std::time::Duration,
    now: Timestamp,
) -> (Vec<FileName>, BTreeMap<FileName, Timestamp>) {
    let mut due = Vec::new();
    let mut waiting = BTreeMap::new();
    for (name, removed) in &published.catalogue.removed {
        if published.manifest.get(name).is_some() {
            continue;
        }
        // A grace that no clock reaches is for ever.
        let end = removed.at.checked_add(grace).unwrap_or(Timestamp::MAX);
        if end <= now {
            due.push(name.clone());
        } else {
            waiting.insert(name.clone(), end);
        }
    }
    (due, waiting)
}

/// Takes lines out of the manifest. Their files stay.
///
/// # Errors
/// The lines are there as before.
pub async fn retire(
    place: &Place<'_>,
    published: &mut Published,
    shelf: &Shelf,
    removals: &[Removal],
    now: Timestamp,
) -> Result<(), CommitError> {
    for (version, revision, _, name) in shelf.images() {
        let Some(removal) = removals.iter().find(|removal| removal.name == *name) else { continue };
        let Some(sha256) = published.manifest.get(name) else { continue };
        let size = published.size(name);
        let (version, why) = (version.clone(), removal.why);
        let removed = Removed { sha256, size, version, revision, at: now, why };
        published.catalogue.removed.insert(name.clone(), removed);
    }
    let Place { store, lock, folder, signer } = *place;
    published.catalogue.write(store, folder).await?;
    let change = Change { removals, ..Change::default() };
    published.manifest = commit(store, lock, folder, published, &change, signer).await?;
    Ok(())
}

/// Deletes files whose grace is over, and forgets them.
///
/// # Errors
/// The store refuses; what was deleted until then is forgotten all the same.
pub async fn delete(
    place: &Place<'_>,
    published: &mut Published,
    due: &[FileName],
) -> Result<Vec<FileName>, StoreError> {
    let Place { store, folder, .. } = *place;
    let mut deleted = Vec::new();
    let mut failed = None;
    for name in due {
        let Some(removed) = published.catalogue.removed.get(name) else { continue };
        // Neither what is offered again, nor what somebody put in its place.
        let is_ours = published.manifest.get(name).is_none()
            && published.size(name).is_none_or(|size| removed.size == Some(size));
        if is_ours {
            let image = store.delete(&path(folder, name.as_str())).await;
            let gone = match image {
                Ok(()) => store.delete(&record_path(folder, name)).await,
                error => error,
            };
            if let Err(error) = gone {
                failed = Some(error);
                break;
            }
            deleted.push(name.clone());
        }
        let removed = published.catalogue.removed.remove(name).expect("it was there just now");
        if removed.revision > 0 {
            let floor = published.catalogue.floor.entry(removed.version).or_default();
            *floor = (*floor).max(removed.revision + 1);
        }
    }
    let manifest = &published.manifest;
    published.catalogue.removed.retain(|name, _| manifest.get(name).is_none());
    published.catalogue.write(store, folder).await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(deleted),
    }
}
