//! The pages for people, checked against the record of what was written, where that is at hand.

use super::{Look, Origin, Verified, VerifyError, nodes};
use crate::name::Folder;
use crate::repository::pages::{self, Pages, Written};

/// Looks at each page of a folder. Those of the root are told with the first folder that there is.
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
    let Some(bytes) = origin.read("", &pages::path(), look.client).await.ok().flatten() else {
        return Ok(());
    };
    let record = match Pages::parse(&bytes) {
        Ok(record) => record,
        Err(problem) => {
            verified.warning(&pages::path(), format!("cannot be read: {problem}"));
            return Ok(());
        }
    };
    let is_first = record.folders.keys().next() == Some(&known_as);
    for (path, written) in &record.files {
        let (of, name) = path.rsplit_once('/').unwrap_or(("", path));
        if of == folder || (of.is_empty() && is_first) {
            look_at(origin, (of, name), written, look, verified).await;
        }
    }
    Ok(())
}

async fn look_at(
    origin: &Origin,
    (folder, name): (&str, &str),
    Written { file, .. }: &Written,
    look: &Look<'_>,
    verified: &mut Verified,
) {
    let shown = if folder.is_empty() { format!("../{name}") } else { name.to_owned() };
    if file.theirs {
        verified.warning(&shown, "is somebody else's, and what people would read is not there");
        return;
    }
    match origin.read(folder, name, look.client).await {
        Err(error) => verified.problem(&shown, error.to_string()),
        Ok(None) => verified.warning(&shown, "is not there: `publish sync` writes it"),
        Ok(bytes) => nodes::judge(&shown, file, bytes.as_ref(), "people", verified),
    }
}
