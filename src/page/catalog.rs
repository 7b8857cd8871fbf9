//! `catalog.json`: what a repository holds, for programs.
//!
//! Owns the document and its version. Everything that the pages show is in here, so that they are
//! made of it alone; and what was once in here need not be read again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{Arch, ComponentName, FileName, Folder, Sha256};
use crate::repository::commit::{CompanionRecord, InputRecord};
use crate::version::Version;

/// The version of the document.
pub const VERSION: u32 = 1;

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The version of this document.
    pub version: u32,
    /// What the page is called.
    pub title: String,
    /// Where clients fetch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file of the keys that sign it, where it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// What it holds, by name.
    pub components: Vec<Entry>,
}

/// What a folder offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The component.
    pub name: ComponentName,
    /// Its folder in the repository.
    pub folder: Folder,
    /// A line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where people read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// Where people read what changed upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog: Option<String>,
    /// Whether its manifest has a signature.
    pub signed: bool,
    /// When clients that check freshness refuse its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The newest version that is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Version>,
    /// What is offered, the newest first.
    pub versions: Vec<Release>,
    /// What somebody took out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yanked: Vec<Yanked>,
    /// What was offered before, the newest first: as far as anybody remembers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    /// The files beside the images that tell nodes how to follow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_files: Vec<FileName>,
}

/// A version that is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// As clients see it.
    pub version: Version,
    /// Its images, by architecture.
    pub images: Vec<Item>,
}

/// An image that is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The file beside the manifest.
    pub file: FileName,
    /// What it is for.
    pub architecture: Arch,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length in bytes, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was published. Before that was written down: what its files are dated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// The upstream version it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Version>,
    /// Which revision of that version it is; 0 is the first.
    #[serde(default)]
    pub revision: u32,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What was fetched for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRecord>,
    /// Which releases of other projects went in, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub companions: BTreeMap<String, CompanionRecord>,
    /// What is otherwise than in the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// What is otherwise in an image than in the one before, for the same architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The version before.
    pub since: Version,
    /// How many bytes the image grew by.
    pub growth: i64,
    /// Its files, where both lists are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileChanges>,
}

/// Which files are otherwise. A name that ends with a slash is all that is in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChanges {
    /// Those that came.
    pub added: Names,
    /// Those that went.
    pub removed: Names,
    /// Those of another length.
    pub resized: Names,
}

/// Some names of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub names: Vec<String>,
}

/// A version that somebody took out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yanked {
    /// As it was named.
    pub version: Version,
    /// When.
    pub at: Timestamp,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A version that was offered once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// As clients saw it.
    pub version: Version,
    /// The lengths of its images in bytes.
    pub sizes: BTreeMap<Arch, u64>,
}

impl Catalog {
    /// Reads a document of this version; `None` if it is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|read| read.version == VERSION)
    }

    /// The document.
    #[must_use]
    pub fn render(&self) -> String {
        serde_json::to_string_pretty(self).expect("its keys are text") + "\n"
    }

    /// Puts an entry in the place of whatever its folder had.
    pub fn put(&mut self, entry: Entry) {
        self.components.retain(|other| other.folder != entry.folder);
        self.components.push(entry);
        self.components.sort_by(|a, b| (&a.name, &a.folder).cmp(&(&b.name, &b.folder)));
    }

    /// What a folder offers.
    #[must_use]
    pub fn of(&self, folder: &Folder) -> Option<&Entry> {
        self.components.iter().find(|entry| entry.folder == *folder)
    }
}

impl Entry {
    /// All images that are offered.
    pub fn images(&self) -> impl Iterator<Item = &Item> {
        self.versions.iter().flat_map(|release| &release.images)
    }

    /// What the page of the component is called, beside its images.
    #[must_use]
    pub fn page(&self) -> String {
        super::path(&self.folder, &self.name)
    }
}

impl Release {
    /// When the first of its images was published.
    #[must_use]
    pub fn published(&self) -> Option<Timestamp> {
        self.images.iter().filter_map(|image| image.published).min()
    }
}
