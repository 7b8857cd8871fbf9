//! Folders that the repository holds, and no component has any more: removed, or moved elsewhere.
//!
//! Owns finding them, and letting one go as a whole. What they offer stays offered, and signed, until
//! somebody says otherwise: nodes do not read configurations. A folder that was let go keeps an empty
//! manifest, because nothing could take that away only if it is still empty; and its catalogue, so
//! that a name in it never gets other bytes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::commit::{CommitError, Gone, Removal};
use super::shelf::Shelf;
use super::{Place, Published, catalogue, derived, retention};
use crate::name::{FileName, Folder};
use crate::store::{PRIVATE, Store, StoreError};

/// The folders with a catalogue, or with files for nodes, that are not among `claimed`, by name. Each
/// that was ever signed has the one.
///
/// # Errors
/// The store cannot be read.
pub async fn find(store: &Store, claimed: &BTreeSet<Folder>) -> Result<Vec<Folder>, StoreError> {
    let clients = format!("{PRIVATE}/{}", derived::CLIENTS);
    let (mut below, clients) =
        futures::try_join!(store.names_below(catalogue::FOLDERS), store.names_below(&clients))?;
    below.extend(clients);
    let folders = below.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
    let left: BTreeSet<Folder> = folders.filter(|folder| !claimed.contains(folder)).collect();
    Ok(left.into_iter().collect())
}

/// What became of a folder that was let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The lines that went.
    pub images: Vec<FileName>,
    /// Lines that stay, because nothing says that they are ours.
    pub strangers: Vec<FileName>,
}

/// Takes every line of ours out of a folder. The files go after the grace.
///
/// # Errors
/// The folder cannot be read or changed.
pub async fn retire(place: &Place<'_>, now: Timestamp) -> Result<Retired, CommitError> {
    let Place { store, folder, .. } = *place;
    let mut published = Published::read(store, folder).await?;
    // An empty manifest would need their signature.
    if published.catalogue.verbatim {
        return Err(CommitError::Theirs { folder: folder.clone() });
    }
    let names: Vec<FileName> = published.manifest.files().map(|(name, _)| name.clone()).collect();
    published.read_records(store, folder, names.iter().cloned()).await?;
    let (images, strangers): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| published.recorded(name).is_some());
    let removals: Vec<Removal> =
        images.iter().map(|name| Removal { name: name.clone(), why: Gone::Retired }).collect();
    if !removals.is_empty() {
        retention::retire(place, &mut published, &Shelf::default(), &removals, now).await?;
    }
    // They would set nodes up for what is not there.
    if !published.clients.files.is_empty() {
        published.keep_clients(place, &BTreeMap::new()).await?;
    }
    Ok(Retired { images, strangers })
}

/// The files of a folder that was let go, and when each is due.
#[must_use]
pub fn pending(
    published: &Published,
    grace: std::time::Duration,
    now: Timestamp,
) -> BTreeMap<FileName, Timestamp> {
    let (due, mut pending) = retention::due(published, grace, now);
    pending.extend(due.into_iter().map(|name| (name, now)));
    pending.retain(|name, _| published.catalogue.removed[name].why == Gone::Retired);
    pending
}

/// The files of folders that were let go, once their grace is over.
#[must_use]
pub fn due(published: &Published, grace: std::time::Duration, now: Timestamp) -> Vec<FileName> {
    let (mut due, _) = retention::due(published, grace, now);
    due.retain(|name| published.catalogue.removed[name].why == Gone::Retired);
    due
}
