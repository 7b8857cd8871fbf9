//! The files for nodes beside the images, as far as they are to go.
//!
//! Owns that only what we wrote is taken away. What they say is for `sync`.

use super::commit::CommitError;
use super::{Place, Published, path};
use crate::name::{FileName, Sha256};

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
        let path = path(folder, name.as_str());
        if !store.is_blocked(&path) {
            let there = store.read(&path).await?.map(|bytes| Sha256::of(&bytes));
            if there.is_some_and(|there| known.is_ours(there)) {
                store.delete(&path).await?;
            }
        }
        published.catalogue.clients.remove(name);
    }
    Ok(())
}
