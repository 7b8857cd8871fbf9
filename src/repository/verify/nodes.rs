//! The files for nodes beside the images, which no manifest lists: checked against their record, where
//! that is at hand. A web server does not give it out.

use bytes::Bytes;

use super::{Look, Origin, Verified, VerifyError};
use crate::name::{Folder, Sha256};
use crate::repository::catalogue::{self, Catalogue};
use crate::repository::derived::{self, Derived, DerivedFile};

/// Looks at each file that was written for nodes.
///
/// # Errors
/// The folder cannot be read.
pub(super) async fn check(
    origin: &Origin,
    folder: &str,
    look: &Look<'_>,
    verified: &mut Verified,
) -> Result<(), VerifyError> {
    let Ok(known_as) = folder.parse::<Folder>() else { return Ok(()) };
    if matches!(origin, Origin::Url(_)) {
        return Ok(());
    }
    // Who may not read what publish keeps for itself verifies what is served all the same.
    let read = async |path: &str| origin.read("", path, look.client).await.ok().flatten();
    let mut path = derived::path(derived::CLIENTS, &known_as);
    let files = if let Some(bytes) = read(&path).await {
        Derived::parse(&bytes)
    } else {
        // What was written before they had a record of their own is in the catalogue.
        path = catalogue::path(&known_as);
        let Some(bytes) = read(&path).await else { return Ok(()) };
        let catalogue = serde_json::from_slice::<Catalogue>(&bytes);
        catalogue.map(|catalogue| catalogue.clients).map_err(|error| error.to_string())
    };
    let files = match files {
        Ok(files) => files,
        Err(problem) => {
            verified.warning(&path, format!("cannot be read: {problem}"));
            return Ok(());
        }
    };
    let names = origin.list(folder).await?;
    for (name, known) in &files {
        let name = name.as_str();
        verified.clients += 1;
        let is_there = names.iter().any(|there| there == name);
        if !is_there {
            verified
                .problem(name, "was written for nodes, but is not there: `publish sync` writes it");
        } else if known.theirs {
            verified.warning(name, "is somebody else's, and what nodes would need is not there");
        } else if !look.quick {
            match origin.read(folder, name, look.client).await {
                Ok(bytes) => judge(name, known, bytes.as_ref(), "nodes", verified),
                Err(error) => verified.problem(name, error.to_string()),
            }
        }
    }
    Ok(())
}

/// What is said of a file of ours by the bytes that have its place; `readers` is who it was written for.
pub(super) fn judge(
    name: &str,
    known: &DerivedFile,
    bytes: Option<&Bytes>,
    readers: &str,
    verified: &mut Verified,
) {
    let digest = bytes.map(|bytes| Sha256::of(bytes));
    if digest == Some(known.sha256) {
        return;
    }
    if digest.is_some_and(|digest| known.is_ours(digest)) {
        verified
            .warning(name, "is the one before: a sync was cut short, and the next one writes it");
    } else {
        verified.problem(
            name,
            format!(
                "has other bytes than were written for {readers}: delete it, and `publish sync` writes it again"
            ),
        );
    }
}
