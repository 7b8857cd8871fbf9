//! The files for nodes beside the images, as far as they are to go.
//!
//! Owns that only what we wrote is taken away. What they say is for `sync`.

use super::catalogue::ClientFile;
use super::commit::CommitError;
use super::{Place, Published, path};
use crate::name::{FileName, Sha256};
use crate::store::{Seen, Store, StoreError};

/// Takes files for nodes away, and forgets them; the catalogue is for the caller to keep. What somebody
/// else put in their place stays.
///
/// # Errors
/// The store cannot be read or written.
pub async fn take_away(
    place: &Place<'_>,
    published: &mut Published,
    names: &[FileName],
) -> Result<(), CommitError> {
    let Place { store, folder, .. } = *place;
    for name in names {
        let Some(known) = published.catalogue.clients.get(name) else { continue };
        forget(store, &path(folder, name.as_str()), known).await?;
        published.catalogue.clients.remove(name);
    }
    Ok(())
}

/// Takes a file away if it is ours.
///
/// # Errors
/// The store cannot be read or written.
pub async fn forget(store: &Store, path: &str, known: &ClientFile) -> Result<(), StoreError> {
    if !store.is_blocked(path) {
        let there = store.read(path).await?.map(|bytes| Sha256::of(&bytes));
        if there.is_some_and(|there| known.is_ours(there)) {
            store.delete(path).await?;
        }
    }
    Ok(())
}

/// A file that is to have a text.
#[derive(Debug)]
pub struct Claim {
    /// What is to be remembered of it before it is written.
    pub file: ClientFile,
    /// What is there, if it is to be replaced.
    pub due: Option<Seen>,
}

/// Looks at what has a file's place, and whether that may be replaced. `known` is what was written last.
///
/// # Errors
/// The store cannot be read.
pub async fn claim(
    store: &Store,
    path: &str,
    text: &str,
    known: Option<&ClientFile>,
) -> Result<Claim, StoreError> {
    let is_blocked = store.is_blocked(path);
    let seen = if is_blocked { Seen::default() } else { store.look(path).await? };
    let ours = match seen.bytes() {
        None => !is_blocked,
        // An empty one, or the beginning of ours, is what a disk makes of it, and nobody's work.
        Some(bytes) => {
            text.as_bytes().starts_with(bytes)
                || known.is_some_and(|known| known.is_ours(Sha256::of(bytes)))
        }
    };
    let is_written = seen.bytes().is_some_and(|bytes| **bytes == *text.as_bytes());
    let writing = (ours && !is_written).then(|| {
        let former = known
            .into_iter()
            .flat_map(|known| known.writing.iter().flatten().copied().chain([known.sha256]));
        former.collect()
    });
    let due = writing.is_some().then_some(seen);
    let file = ClientFile { sha256: Sha256::of(text.as_bytes()), theirs: !ours, writing };
    Ok(Claim { file, due })
}
