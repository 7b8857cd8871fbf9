//! The catalogue of a folder: what is no longer offered, since when and why.
//!
//! The manifest says what is offered, and the records how that was made; this is the rest of what
//! must be remembered, one small document a folder under `.publish/folders/`. It is written before
//! the manifest changes, so that no file is ever without a line and without an entry here; what it
//! says of a file that is listed counts for nothing.
//!
//! Knows nothing of upstreams, and decides nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use super::commit::Gone;
use super::derived::DerivedFile;
use crate::name::{FileName, Folder, Sha256};
use crate::store::{Seen, Store};
use crate::version::Version;

/// The version of the document.
const FORMAT: u32 = 1;

/// Where the catalogues are.
pub const FOLDERS: &str = ".publish/folders";

/// The path of a folder's catalogue.
#[must_use]
pub fn path(folder: &Folder) -> String {
    format!("{FOLDERS}/{folder}.json")
}

/// What is remembered of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalogue {
    format: u32,
    /// Files whose lines went; they are deleted when the grace is over.
    pub removed: BTreeMap<FileName, Removed>,
    /// Versions that somebody took out, as they were named: `1.0`, or `1.0-r1` for that alone.
    pub yanked: BTreeMap<Version, Yank>,
    /// The lowest revision that a version may be built as now that nothing of it is left: a name
    /// that nodes may know never gets other bytes.
    pub floor: BTreeMap<Version, u32>,
    /// Versions that were not all there when they were first seen, and tell no date themselves or did
    /// not say beforehand what they lack.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<Version, Waiting>,
    /// Signatures of manifests that were about to be written, armored, the newest first: what tells
    /// ours from somebody else's where a crash left the old signature in place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pledges: Vec<String>,
    /// The files for nodes beside the images, from before they had a record of their own: they go there
    /// when they are next looked after.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<FileName, DerivedFile>,
    /// Whether the folder is another's, byte for byte: its manifest is not ours to sign.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub verbatim: bool,
}

/// A version that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Since when.
    pub since: Timestamp,
    /// What it lacks.
    pub lacks: String,
}

/// A file whose line went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its digest.
    pub sha256: Sha256,
    /// Its length in bytes, if it was there.
    pub size: Option<u64>,
    /// The version it is of.
    pub version: Version,
    /// Which revision of that.
    pub revision: u32,
    /// When its line went.
    pub at: Timestamp,
    /// Why.
    pub why: Gone,
}

/// A version that somebody took out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yank {
    /// When.
    pub at: Timestamp,
    /// Why, in their words.
    pub reason: Option<String>,
    /// The lines it had.
    pub images: BTreeMap<FileName, Yanked>,
}

/// A line that was yanked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yanked {
    /// The image's digest.
    pub sha256: Sha256,
    /// The version it is of.
    pub version: Version,
    /// Which revision of that.
    pub revision: u32,
    /// The recipe it was made by, where that is known.
    pub recipe: Option<Sha256>,
}

impl Catalogue {
    /// Reads a folder's catalogue, and what it must still be to be replaced; an empty one if there is
    /// none. One that is there, but cannot be
    /// read, is an error: a yanked version would come back, and files would be kept for ever.
    ///
    /// # Errors
    /// The store or the catalogue cannot be read.
    pub async fn read(store: &Store, folder: &Folder) -> Result<(Self, Seen), SnapshotError> {
        let path = path(folder);
        let seen = store.look(&path).await?;
        let Some(bytes) = seen.bytes() else { return Ok((Self::default(), seen)) };
        let read = serde_json::from_slice::<Self>(bytes).and_then(|catalogue| {
            if catalogue.format != FORMAT {
                let problem = match catalogue.format {
                    0 => "it does not say its format",
                    _ => "a newer version of publish wrote it",
                };
                return Err(serde::de::Error::custom(problem));
            }
            Ok(catalogue)
        });
        match read {
            Ok(catalogue) => Ok((catalogue, seen)),
            Err(source) => Err(SnapshotError::Catalogue { path: store.locate(&path), source }),
        }
    }

    /// The document.
    pub(super) fn render(&mut self) -> Bytes {
        self.format = FORMAT;
        let mut text = serde_json::to_vec_pretty(self).expect("its keys are text");
        text.push(b'\n');
        text.into()
    }

    /// The yank that keeps a version out: of the version as a whole, or of that revision.
    #[must_use]
    pub fn yank_of(&self, version: &Version, revision: u32) -> Option<&Yank> {
        let revised = || self.yanked.get(&version.revised(revision).ok()?);
        self.yanked.get(version).or_else(revised)
    }

    /// The version and revision of an image that was yanked.
    #[must_use]
    pub fn yanked_line(&self, name: &FileName) -> Option<(Version, u32)> {
        let line = self.yanked.values().find_map(|yank| yank.images.get(name))?;
        Some((line.version.clone(), line.revision))
    }

    /// The highest revision of a version among the files whose lines went.
    #[must_use]
    pub fn last_removed(&self, version: &Version) -> Option<u32> {
        let removed = self.removed.values().filter(|removed| removed.version == *version);
        removed.map(|removed| removed.revision).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_before_there_were_mirrors_reads_as_ours() {
        let old = r#"{"format":1,"removed":{},"yanked":{},"floor":{}}"#;
        let mut ours: Catalogue = serde_json::from_str(old).unwrap();
        assert!(!ours.verbatim);
        // And who has none writes what was always written.
        let text = String::from_utf8(ours.render().to_vec()).unwrap();
        assert!(!text.contains("verbatim"), "{text}");
        let mut theirs = Catalogue { verbatim: true, ..ours };
        assert_eq!(serde_json::from_slice::<Catalogue>(&theirs.render()).unwrap(), theirs);
    }
}
