//! Folders that no component has any more: what they offer is kept fresh, and said.
//!
//! Owns what a run does about them: sign them in time, and delete the files of those that somebody let
//! go. Nothing else: another publisher's configuration may have a component for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Run, contained, in_turn, is_raced, signer_to_look};
use crate::config::Config;
use crate::name::{FileName, Folder};
use crate::plan::Why;
use crate::report::{Progress, Told, count};
use crate::repository::commit::{Change, commit};
use crate::repository::seal::Seal;
use crate::repository::{Place, Published, left, retention};
use crate::sign::{Signer, freshness};
use crate::store::Store;

/// A folder that no component has.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    /// The folder.
    pub folder: Folder,
    /// How many images it offers.
    pub lines: usize,
    /// From this day on, clients that check freshness refuse its manifest.
    pub expires: Option<Timestamp>,
    /// Why the manifest was signed, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<Why>,
    /// The files that went, or would, because the folder was let go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<FileName>,
    /// How many files go when their grace is over, because the folder was let go.
    pub pending: usize,
    /// When the first of them may be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_from: Option<Timestamp>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Told>,
}

impl Left {
    /// Whether something was done about it, or would be.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.signed.is_some() || !self.deleted.is_empty()
    }

    /// What people should know of it; nothing of one that was let go.
    #[must_use]
    pub fn warning(&self, program: &str) -> Option<String> {
        let Self { folder, lines, .. } = self;
        (*lines > 0).then(|| {
            format!(
                "warning: {folder}/ has no component any more, and still offers {}\n  hint: with `path = \"{folder}\"` a component goes on with it; `{program} retire {folder}` lets it go\n",
                count(*lines, "image")
            )
        })
    }
}

/// Looks after the folders that no component has. With only some of the components at hand, as
/// `--only` leaves them, nobody could tell which these are: do not ask then.
///
/// # Errors
/// Only what concerns the store as a whole; a folder's own errors are told with it.
pub async fn tend(store: Store, config: &Config, run: Run) -> anyhow::Result<Vec<Left>> {
    let claimed: BTreeSet<Folder> =
        config.components.iter().map(|component| component.folder.clone()).collect();
    let folders = left::find(&store, &claimed).await?;
    if folders.is_empty() {
        return Ok(Vec::new());
    }
    let signer = match run {
        // That a key is not here was said when the components were looked at.
        Run::Dry => signer_to_look(config, &Progress::new(true))?,
        Run::Real => Some(Arc::new(Signer::open(config)?)),
    };
    let mut found = Vec::new();
    // As many files as a run may delete; what is more goes with the next ones.
    let mut most = config.document.retention.max_delete;
    for folder in folders {
        let looked = contained(look(&store, config, &folder, signer.as_deref())).await;
        let mut left = looked.unwrap_or_else(|error| {
            let errors = vec![Told::of(folder.as_str(), error.as_ref())];
            Left {
                folder,
                lines: 0,
                expires: None,
                signed: None,
                deleted: Vec::new(),
                pending: 0,
                pending_from: None,
                errors,
            }
        });
        left.deleted.truncate(most);
        most -= left.deleted.len();
        found.push(left);
    }
    let signer = signer.filter(|_| run == Run::Real && found.iter().any(Left::is_due));
    if let Some(signer) = signer {
        let store = store.made()?;
        let lock = store.lock().await?;
        lock.during(async |lock| {
            for left in found.iter_mut().filter(|left| left.is_due()) {
                let folder = left.folder.clone();
                let place = Place { store: &store, lock, folder: &folder, signer: &signer };
                let done =
                    in_turn(is_raced, async || contained(look_after(&place, config, left)).await);
                if let Err(error) = done.await {
                    left.errors.push(Told::of(folder.as_str(), error.as_ref()));
                }
            }
        })
        .await;
    }
    Ok(found)
}

/// Reads a folder, and tells what is due.
async fn look(
    store: &Store,
    config: &Config,
    folder: &Folder,
    signer: Option<&Signer>,
) -> anyhow::Result<Left> {
    let (now, grace) = (Timestamp::now(), config.document.retention.grace);
    let published = Published::read(store, folder).await?;
    let lines = published.manifest.files().count();
    // Nobody needs to believe a manifest without a line; and without a key, nothing is changed.
    // What is another's, byte for byte, is theirs to sign, although nobody follows them any more.
    let ours = lines > 0 && !published.catalogue.verbatim;
    let signer = signer.filter(|signer| ours && !matches!(signer, Signer::Unsigned));
    let due = signer.map_or(Ok(None), |signer| Seal::of(&published).due(signer, now));
    let (why, errors) = match due {
        Ok(why) => (why, Vec::new()),
        Err(error) => (None, vec![Told::of(folder.as_str(), &error)]),
    };
    let pending = left::pending(&published, grace, now);
    Ok(Left {
        folder: folder.clone(),
        lines,
        expires: freshness::expiry(&published.manifest).filter(|_| lines > 0),
        signed: why,
        deleted: left::due(&published, grace, now),
        pending: pending.len(),
        pending_from: pending.into_values().min(),
        errors,
    })
}

/// Does what is due, if it still is.
async fn look_after(place: &Place<'_>, config: &Config, left: &mut Left) -> anyhow::Result<()> {
    let Place { store, lock, folder, signer } = *place;
    let (now, grace) = (Timestamp::now(), config.document.retention.grace);
    let most = left.deleted.len();
    let mut published = Published::read(store, folder).await?;
    if left.signed.is_some() {
        left.signed = Seal::of(&published).due(signer, now)?;
        if left.signed.is_some() {
            let change = Change { sign: true, ..Change::default() };
            published = commit(store, lock, folder, &published, &change, signer).await?;
            left.expires = freshness::expiry(&published.manifest);
        }
    }
    let mut due = left::due(&published, grace, now);
    due.truncate(most);
    if !due.is_empty() {
        left.deleted = retention::delete(place, &mut published, &due).await?;
    }
    Ok(())
}
