//! A folder that is published byte for byte as somebody else has it: their manifest, their signatures.
//!
//! Owns the order of writing, which is that of [`commit`](super::commit): files first, then the manifest
//! in the place of the one that the plan was made from, then the signatures. So each line of what is
//! served names a file that is there, whoever signed it. A crash before the signatures leaves those of
//! the manifest before; the next run sees that they are not theirs, and goes on.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use futures::stream::FuturesOrdered;
use jiff::Timestamp;

use super::catalogue::Removed;
use super::commit::{CommitError, Gone, Record, put_image};
use super::{MANIFEST, Place, Published, path, record_path, retention};
use crate::image::Image;
use crate::name::{FileName, Folder};
use crate::source::memory::{Signatures, Theirs};
use crate::source::repository::SIGNATURES;
use crate::store::{Store, StoreError};

/// Asks which of the files are there that our manifest or theirs lists.
///
/// # Errors
/// The store cannot be read.
pub async fn look(
    store: &Store,
    published: &mut Published,
    folder: &Folder,
    theirs: &Theirs,
) -> Result<(), StoreError> {
    let ours = published.manifest.files().map(|(name, _)| name);
    let all = ours.chain(theirs.lines.files().map(|(name, _)| name));
    let names: BTreeSet<FileName> = all.cloned().collect();
    let names: Vec<FileName> = names.into_iter().collect();
    published.read_sizes(store, folder, &names).await
}

/// The signatures that are served beside a manifest, under whatever name clients ask for.
///
/// # Errors
/// The store cannot be read.
pub async fn signatures(
    store: &Store,
    published: &Published,
    folder: &Folder,
) -> Result<Signatures, StoreError> {
    // A bucket was listed.
    let may_be =
        |name: &&str| store.as_directory().is_some() || published.sizes.contains_key(*name);
    let there = SIGNATURES.into_iter().filter(may_be);
    let read = there.map(async |name| {
        let bytes = store.read(&path(folder, name)).await?;
        Ok::<_, StoreError>(bytes.map(|bytes| (name.to_owned(), bytes.to_vec())))
    });
    let read: Vec<_> = read.collect::<FuturesOrdered<_>>().try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// Whether a file that no line names yet is there as it should be: an earlier run was cut short.
///
/// # Errors
/// The store cannot be read.
pub async fn is_there(
    place: &Place<'_>,
    published: &Published,
    name: &FileName,
    theirs: &Theirs,
) -> Result<bool, StoreError> {
    if !published.has_file(name) {
        return Ok(false);
    }
    let digest = place.store.digest(&path(place.folder, name.as_str())).await?;
    Ok(digest.is_some() && digest == theirs.lines.get(name))
}

/// Puts a file there that no line names yet, and what is known of it.
///
/// # Errors
/// The store cannot be written, or has another file of this name.
pub async fn put(
    place: &Place<'_>,
    published: &Published,
    image: &(Image, Record),
) -> Result<(), CommitError> {
    let Place { store, lock, folder, .. } = *place;
    let put = put_image(store, lock, folder, published, image).await;
    let Err(CommitError::Taken { there, .. }) = put else { return put };
    // Left by a run that could not have all of it, before they put another file there. No line ever
    // named it, so nobody has it; what we did not put there stays.
    let name = &image.0.name;
    let record = store.read(&record_path(folder, name)).await?;
    let record = record.and_then(|record| Record::read(&record).ok());
    let is_listed =
        published.manifest.get(name).is_some() || published.catalogue.removed.contains_key(name);
    if is_listed || record.is_none_or(|record| record.sha256 != there) {
        return put;
    }
    store.delete(&path(folder, name.as_str())).await?;
    put_image(store, lock, folder, published, image).await
}

/// Serves their manifest and signatures, when every file of it is there.
///
/// # Errors
/// The folder is as it was; or [`CommitError::Raced`]: it is not as it was read, and is to be planned
/// again.
pub async fn serve(
    place: &Place<'_>,
    published: &mut Published,
    theirs: &Theirs,
    now: Timestamp,
) -> Result<(), CommitError> {
    let Place { store, lock, folder, .. } = *place;
    let raced = || CommitError::Raced { folder: folder.clone() };
    retention::reclaim(place, published, theirs.lines.files().map(|(name, _)| name)).await?;
    let gone: Vec<_> = published
        .manifest
        .files()
        .filter(|(name, _)| theirs.lines.get(name).is_none())
        .map(|(name, sha256)| (name.clone(), sha256))
        .collect();
    for (name, sha256) in &gone {
        let Ok(version) = name.as_str().parse() else { continue };
        let (size, why) = (published.size(name), Gone::Upstream);
        let removed = Removed { sha256: *sha256, size, version, revision: 0, at: now, why };
        published.catalogue.removed.insert(name.clone(), removed);
    }
    // Who has no component for it any more must know, too, that it is not to be signed.
    let is_new = !std::mem::replace(&mut published.catalogue.verbatim, true);
    if is_new || !gone.is_empty() {
        published.keep_catalogue(place).await?;
    }
    // What they take the place of is seen before the manifest is: whoever is later wins with both.
    let mut seen = Vec::new();
    for name in SIGNATURES {
        seen.push(store.look(&path(folder, name)).await?);
    }
    // A manifest and its signatures are better not parted by somebody who ends the run.
    let _writing = store.writing().await;
    if published.served() != Some(&theirs.manifest[..]) {
        let to = path(folder, MANIFEST);
        let replaced = store.replace(&to, theirs.manifest.clone(), &published.served, lock).await?;
        published.served = replaced.ok_or_else(raced)?;
    }
    published.manifest = theirs.lines.clone();
    for (name, seen) in SIGNATURES.into_iter().zip(seen) {
        let to = path(folder, name);
        match theirs.signatures.get(name) {
            Some(signature) if seen.bytes().is_some_and(|bytes| **bytes == **signature) => {}
            Some(signature) => {
                let bytes = signature.clone().into();
                store.replace(&to, bytes, &seen, lock).await?.ok_or_else(raced)?;
            }
            // A client would find it before one of those that they have.
            None if seen.bytes().is_some() => store.delete(&to).await?,
            None => {}
        }
    }
    Ok(())
}
