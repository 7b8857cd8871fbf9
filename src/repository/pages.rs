//! What was written for people, in the root and beside the images: one small record of it.
//!
//! Owns that record, so that a run without work need not read the pages, and that what somebody else put
//! in their place stays. What they say is for [`page`](crate::page), when they are written for `sync`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::derived::DerivedFile;
use crate::name::{ComponentName, Folder, Sha256};
use crate::store::{PRIVATE, Seen, Store, StoreError};

/// The version of the record.
const FORMAT: u32 = 1;

/// Where it is.
#[must_use]
pub fn path() -> String {
    format!("{PRIVATE}/page.json")
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    format: u32,
    /// What all pages were made of, besides what is published.
    pub basis: Option<Sha256>,
    /// The folders that are told of.
    pub folders: BTreeMap<Folder, Told>,
    /// The files, by their paths.
    pub files: BTreeMap<String, Written>,
}

/// A folder that is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The component that had it.
    pub component: ComponentName,
    /// What that was made of.
    pub basis: Sha256,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Which.
    pub file: DerivedFile,
    /// Its length in bytes.
    pub size: u64,
}

impl Pages {
    /// Reads the record, and what it must still be to be replaced. One that cannot be read is none: all
    /// is written anew then, as far as nobody else's is in its place.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read(store: &Store) -> Result<(Self, Seen), StoreError> {
        let seen = store.look(&path()).await?;
        let read = seen.bytes().and_then(|bytes| Self::parse(bytes).ok());
        Ok((read.unwrap_or_default(), seen))
    }

    /// The record that a document is.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if read.format == FORMAT {
            Ok(read)
        } else {
            Err("another version of publish wrote it".to_owned())
        }
    }

    /// The document.
    pub fn render(&mut self) -> Bytes {
        self.format = FORMAT;
        let mut text = serde_json::to_vec_pretty(self).expect("its keys are text");
        text.push(b'\n');
        text.into()
    }

    /// Whether the file of a path is as it was written last, as far as its length tells; or somebody
    /// else's, as before.
    #[must_use]
    pub fn is_kept(&self, path: &str, there: Option<u64>) -> bool {
        self.files.get(path).is_some_and(|known| known.file.is_as_left(known.size, there))
    }
}
