//! What is remembered of somebody's repository from one run to the next.
//!
//! Owns when each of their files was first seen, with which digest, and the signature that let their
//! manifest in. It is no cache: without it nobody could tell that an old manifest is served again, or
//! how long a version has been there. Nothing here is believed: a signature that is remembered is
//! verified like one that was just fetched. Knows nothing of how a repository is asked.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::manifest::Manifest;
use crate::name::{FileName, Sha256};

/// The version of the document.
const FORMAT: u32 = 1;

/// The most bytes it may unpack to.
const LIMIT: u64 = 256 << 20;

/// A signature file, by the name it is served under.
pub type Signatures = BTreeMap<String, Vec<u8>>;

/// Their manifest as it was let in, in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theirs {
    /// Byte for byte.
    pub manifest: Bytes,
    /// What is served beside it.
    pub signatures: Signatures,
    /// Its lines.
    pub lines: Manifest,
}

/// A file that they listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    sha256: Sha256,
    /// In seconds since 1970.
    first: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// The manifest that was let in last.
    manifest: Option<Sha256>,
    /// When it was signed, in seconds since 1970.
    signed: Option<u64>,
    signatures: Signatures,
    files: BTreeMap<FileName, Known>,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    changed: bool,
    theirs: Option<Arc<Theirs>>,
    notes: Vec<String>,
}

/// What is remembered of an upstream, but cannot be read.
#[derive(Debug, Error)]
#[error(
    "{path} cannot be read: {problem}; without it, an old manifest of theirs could come as a new one"
)]
pub struct MemoryError {
    path: String,
    problem: String,
}

impl MemoryError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        "bring it back from a copy; or look whether what they serve is their newest, and `publish sync --adopt` begins it anew".to_owned()
    }
}

/// What is remembered of one component's upstream. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

impl Memory {
    /// Reads what [`Memory::save`] made; `path` is where that is kept.
    ///
    /// # Errors
    /// It cannot be read. It is never just forgotten: nobody could tell an old manifest then.
    pub fn load(saved: &[u8], path: &str) -> Result<Self, MemoryError> {
        let wrong = |problem: String| MemoryError { path: path.to_owned(), problem };
        let decoder = zstd::Decoder::new(saved).map_err(|error| wrong(error.to_string()))?;
        let kept: Kept = serde_json::from_reader(decoder.take(LIMIT))
            .map_err(|error| wrong(error.to_string()))?;
        if kept.format != FORMAT {
            return Err(wrong("another version of publish wrote it".to_owned()));
        }
        let memory = Self::default();
        memory.lock().kept = kept;
        Ok(memory)
    }

    /// The bytes to keep for the next run; `None` if nothing changed.
    #[must_use]
    pub fn save(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if !state.changed {
            return None;
        }
        state.kept.format = FORMAT;
        let text = serde_json::to_vec(&state.kept).ok()?;
        zstd::encode_all(text.as_slice(), 3).ok()
    }

    /// Whether [`Memory::save`] has something to give.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.lock().changed
    }

    /// The signatures that were served beside this very manifest.
    #[must_use]
    pub(super) fn signatures(&self, manifest: Sha256) -> Option<Signatures> {
        let state = self.lock();
        let same = state.kept.manifest == Some(manifest);
        same.then(|| state.kept.signatures.clone())
    }

    /// When the manifest was signed that was let in last, in seconds since 1970.
    pub(super) fn signed(&self) -> Option<u64> {
        self.lock().kept.signed
    }

    /// Whether this very manifest was let in last.
    pub(super) fn is_known(&self, manifest: Sha256) -> bool {
        self.lock().kept.manifest == Some(manifest)
    }

    /// Takes over a manifest that was let in: the files of interest, seen at `now` if they are new, or
    /// when the manifest was signed. Gives the names of those that have another digest than before.
    pub(super) fn learn<'f>(
        &self,
        theirs: Theirs,
        signed: Option<u64>,
        files: impl IntoIterator<Item = (&'f FileName, Sha256)>,
        now: Timestamp,
    ) -> Vec<FileName> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut replaced = Vec::new();
        // Who signed it then had all of its files by then.
        let signed_at = signed.and_then(|at| i64::try_from(at).ok());
        let first = signed_at.map_or(now.as_second(), |at| at.min(now.as_second()));
        let mut known = BTreeMap::new();
        for (name, sha256) in files {
            let file = match state.kept.files.get(name) {
                Some(before) if before.sha256 == sha256 => before.clone(),
                Some(_) => {
                    replaced.push(name.clone());
                    Known { sha256, first: now.as_second() }
                }
                None => Known { sha256, first },
            };
            known.insert(name.clone(), file);
        }
        let kept = Kept {
            format: state.kept.format,
            manifest: Some(Sha256::of(&theirs.manifest)),
            signed,
            signatures: theirs.signatures.clone(),
            files: known,
        };
        if kept != state.kept {
            state.kept = kept;
            state.changed = true;
        }
        state.theirs = Some(Arc::new(theirs));
        replaced
    }

    /// When a file was first seen with the digest that it has.
    pub(super) fn first_seen(&self, name: &FileName) -> Option<Timestamp> {
        Timestamp::from_second(self.lock().kept.files.get(name)?.first).ok()
    }

    /// Their manifest, if it was let in in this run.
    #[must_use]
    pub fn theirs(&self) -> Option<Arc<Theirs>> {
        self.lock().theirs.clone()
    }

    /// Something that people should know.
    pub(super) fn note(&self, note: String) {
        self.lock().notes.push(note);
    }

    /// What people should know, once.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().notes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs(text: &str) -> Theirs {
        let lines = Manifest::parse(text.as_bytes()).unwrap();
        let manifest = Bytes::copy_from_slice(text.as_bytes());
        Theirs { manifest, signatures: Signatures::new(), lines }
    }

    fn learn(memory: &Memory, content: &[u8], signed: Option<u64>, now: i64) -> usize {
        let name: FileName = "x.raw".parse().unwrap();
        let text = format!("{}  x.raw\n", Sha256::of(content));
        let files = [(&name, Sha256::of(content))];
        memory.learn(theirs(&text), signed, files, Timestamp::from_second(now).unwrap()).len()
    }

    fn first(memory: &Memory) -> i64 {
        memory.first_seen(&"x.raw".parse().unwrap()).unwrap().as_second()
    }

    #[test]
    fn a_file_is_as_old_as_its_digest() {
        let memory = Memory::default();
        assert_eq!(learn(&memory, b"a", None, 100), 0);
        let memory = Memory::load(&memory.save().unwrap(), "x").unwrap();
        assert_eq!(learn(&memory, b"a", None, 200), 0);
        assert_eq!((first(&memory), memory.save()), (100, None));
        assert_eq!(learn(&memory, b"b", None, 300), 1);
        assert_eq!(first(&memory), 300);
        assert!(memory.is_changed());
    }

    #[test]
    fn what_was_signed_was_there_by_then() {
        let memory = Memory::default();
        learn(&memory, b"a", Some(50), 100);
        assert_eq!(first(&memory), 50);
        // But not what took the place of another, and no clock is believed that is ahead.
        learn(&memory, b"b", Some(60), 100);
        assert_eq!(first(&memory), 100);
        let memory = Memory::default();
        learn(&memory, b"a", Some(500), 100);
        assert_eq!(first(&memory), 100);
    }

    #[test]
    fn a_memory_that_cannot_be_read_is_never_just_forgotten() {
        let none = zstd::encode_all(&b"{}"[..], 3).unwrap();
        let newer = Kept { format: FORMAT + 1, ..Kept::default() };
        let newer = zstd::encode_all(&*serde_json::to_vec(&newer).unwrap(), 3).unwrap();
        for spoilt in [&b"nonsense"[..], b"", &none, &newer] {
            let error = Memory::load(spoilt, "the path").unwrap_err().to_string();
            assert!(error.starts_with("the path cannot be read: "), "{error}");
        }
    }
}
