//! Files of ours that follow from what is published, such as those for nodes beside the images: they can
//! be written again at any time, and no manifest lists them.
//!
//! Owns which of them are ours, so that what somebody else put in their place stays. Each set of files has
//! a record of its own: whoever loses a race for one stands in the way of nothing else, and the next sync
//! heals it. What the files say is for others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::name::{FileName, Folder, Sha256};
use crate::store::{Lock, PRIVATE, Seen, Store, StoreError};

/// The version of the record's format.
const FORMAT: u32 = 1;

/// The name of the records of files for nodes, below [`PRIVATE`].
pub const CLIENTS: &str = "clients";

/// The path of the record of a folder's files of one kind, such as [`CLIENTS`].
#[must_use]
pub fn path(kind: &str, folder: &Folder) -> String {
    format!("{PRIVATE}/{kind}/{folder}.json")
}

/// The files that are wanted, by name: what each of them says.
pub type Wanted = BTreeMap<FileName, String>;

/// A file of ours that follows from what is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedFile {
    /// What ours is.
    pub sha256: Sha256,
    /// Whether somebody else's has its place, which stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub theirs: bool,
    /// While ours is being written: what else of ours may have its place. A run that is killed leaves
    /// one of them or the other, and neither is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<BTreeSet<Sha256>>,
}

impl DerivedFile {
    /// Whether bytes of this digest are ours.
    #[must_use]
    pub fn is_ours(&self, sha256: Sha256) -> bool {
        self.sha256 == sha256
            || self.writing.as_ref().is_some_and(|before| before.contains(&sha256))
    }

    /// Whether what is there is what was left there: ours whole, which has `size` bytes, or somebody
    /// else's, as far as lengths tell.
    #[must_use]
    pub fn is_as_left(&self, size: u64, there: Option<u64>) -> bool {
        let is_whole = there == Some(size);
        let is_right = if self.theirs { there.is_some() && !is_whole } else { is_whole };
        self.writing.is_none() && is_right
    }
}

#[derive(Serialize, Deserialize)]
struct Document<F> {
    format: u32,
    files: F,
}

/// Another publisher changed the same files: what it wrote is to be read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken;

/// One set of files, as they were written last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    /// By name.
    pub files: BTreeMap<FileName, DerivedFile>,
    /// Why the record that is there tells nothing: all of it is found out, and written, anew.
    pub problem: Option<String>,
    /// Where the record is.
    path: String,
    /// The record as it was read, to be replaced only if it is still this one.
    seen: Seen,
}

impl Derived {
    /// Reads a record; an empty one if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read(store: &Store, path: String) -> Result<Self, StoreError> {
        let seen = store.look(&path).await?;
        let read = seen.bytes().map(|bytes| Self::parse(bytes)).transpose();
        let (files, problem) = match read {
            Ok(files) => (files.unwrap_or_default(), None),
            Err(problem) => (BTreeMap::new(), Some(problem)),
        };
        Ok(Self { files, problem, path, seen })
    }

    /// The files that a record tells of.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub fn parse(bytes: &[u8]) -> Result<BTreeMap<FileName, DerivedFile>, String> {
        let document: Document<_> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.format != FORMAT {
            return Err("another version of publish wrote it".to_owned());
        }
        Ok(document.files)
    }

    /// Whether there is a record.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.seen.bytes().is_some()
    }

    /// Where the record is.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The files that are missing, other than they should be, or not wanted any more; as far as lengths
    /// tell, of which `None` is that of a file that is not there.
    pub fn due(&self, wanted: &Wanted, size: impl Fn(&FileName) -> Option<u64>) -> Vec<FileName> {
        let due = wanted.iter().filter(|(name, text)| !self.is_kept(name, text, size(name)));
        let unwanted = self.files.keys().filter(|name| !wanted.contains_key(*name));
        due.map(|(name, _)| name).chain(unwanted).cloned().collect()
    }

    /// Whether a file is as it was written last, as far as its length tells; or somebody else's, as
    /// before.
    fn is_kept(&self, name: &FileName, text: &str, there: Option<u64>) -> bool {
        self.files.get(name).is_some_and(|known| {
            known.sha256 == Sha256::of(text.as_bytes())
                && known.is_as_left(text.len() as u64, there)
        })
    }

    /// Which of the files are somebody else's.
    pub fn theirs(&self) -> impl Iterator<Item = &FileName> {
        self.files.iter().filter(|(_, file)| file.theirs).map(|(name, _)| name)
    }

    /// Writes the files that differ into a folder, which is empty for the repository's own, and takes away
    /// those that are not wanted any more. What somebody else put in their place stays.
    ///
    /// The record learns what will be written before that is, and afterwards that it was: whenever a run
    /// is killed, what it leaves is known to be ours.
    ///
    /// # Errors
    /// The store cannot be read or written. The inner one is no failure: what another publisher wrote
    /// meanwhile is to be read first.
    pub async fn keep(
        &mut self,
        (store, lock): (&Store, &Lock),
        folder: &str,
        wanted: &Wanted,
        size: impl Fn(&FileName) -> Option<u64>,
    ) -> Result<Result<(), Overtaken>, StoreError> {
        let before = self.files.clone();
        let mut writes = Vec::new();
        for (name, text) in wanted {
            if self.is_kept(name, text, size(name)) {
                continue;
            }
            let known = before.get(name);
            let path = within(folder, name);
            let claim = claim(store, &path, text, known).await?;
            if let Some(seen) = claim.due {
                writes.push((name, path, Bytes::copy_from_slice(text.as_bytes()), seen));
            }
            self.files.insert(name.clone(), claim.file);
        }
        // What is known without a record is from before there were any.
        let is_unrecorded = !self.is_recorded() && !before.is_empty();
        let is_due = self.files != before || self.problem.is_some() || is_unrecorded;
        if is_due && !self.record(store, lock).await? {
            return Ok(Err(Overtaken));
        }
        for (name, path, bytes, seen) in &writes {
            if store.replace(path, bytes.clone(), seen, lock).await?.is_none() {
                return Ok(Err(Overtaken));
            }
            if let Some(file) = self.files.get_mut(*name) {
                file.writing = None;
            }
        }
        let unwanted: Vec<FileName> =
            before.into_keys().filter(|name| !wanted.contains_key(name)).collect();
        for name in &unwanted {
            self.take_away(store, folder, name).await?;
        }
        let is_done = writes.is_empty() && unwanted.is_empty();
        Ok(if is_done || self.record(store, lock).await? { Ok(()) } else { Err(Overtaken) })
    }

    /// Takes a file away if it is ours, and forgets it.
    async fn take_away(
        &mut self,
        store: &Store,
        folder: &str,
        name: &FileName,
    ) -> Result<(), StoreError> {
        if let Some(known) = self.files.get(name) {
            take_away(store, &within(folder, name), known).await?;
        }
        self.files.remove(name);
        Ok(())
    }

    /// Keeps the record, unless another publisher changed it since it was read.
    async fn record(&mut self, store: &Store, lock: &Lock) -> Result<bool, StoreError> {
        let document = Document { format: FORMAT, files: &self.files };
        let mut text = serde_json::to_vec_pretty(&document).expect("its keys are text");
        text.push(b'\n');
        let Some(kept) = store.replace(&self.path, text.into(), &self.seen, lock).await? else {
            return Ok(false);
        };
        (self.seen, self.problem) = (kept, None);
        Ok(true)
    }
}

/// A file that is to have a text.
#[derive(Debug)]
pub struct Claim {
    /// What is to be remembered of it before it is written.
    pub file: DerivedFile,
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
    known: Option<&DerivedFile>,
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
    let file = DerivedFile { sha256: Sha256::of(text.as_bytes()), theirs: !ours, writing };
    Ok(Claim { file, due })
}

/// Takes a file away if it is ours.
///
/// # Errors
/// The store cannot be read or written.
pub async fn take_away(store: &Store, path: &str, known: &DerivedFile) -> Result<(), StoreError> {
    if !store.is_blocked(path) {
        let there = store.read(path).await?.map(|bytes| Sha256::of(&bytes));
        if there.is_some_and(|there| known.is_ours(there)) {
            store.delete(path).await?;
        }
    }
    Ok(())
}

fn within(folder: &str, name: &FileName) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_format_tells_nothing() {
        let text = r#"{"format":1,"files":{"x.sh":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}}"#;
        assert_eq!(Derived::parse(text.as_bytes()).unwrap().len(), 1);
        let newer = text.replace("\"format\":1", "\"format\":2");
        assert!(Derived::parse(newer.as_bytes()).unwrap_err().contains("another version"));
        assert!(Derived::parse(b"{}").is_err());
    }
}
