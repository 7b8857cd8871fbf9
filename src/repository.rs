//! The repository: what is published, how that changes, and whether it is right.
//!
//! Owns the layout and the order of writing. Knows nothing of upstreams or of how images are made.

use std::collections::{BTreeMap, BTreeSet};

use catalogue::Catalogue;
use commit::{CommitError, Record};
use derived::{Derived, Wanted};
use futures::StreamExt;
use jiff::Timestamp;
use thiserror::Error;

use shelf::Names;

use crate::config::Component;
use crate::manifest::{Manifest, ManifestError};
use crate::name::{ComponentName, FileName, Folder};
use crate::report::count;
use crate::sign::Signer;
use crate::store::{Lock, PRIVATE, Seen, Store, StoreError};

pub mod catalogue;
pub mod commit;
pub mod derived;
pub mod left;
pub mod pages;
pub mod retention;
pub mod seal;
pub mod shelf;
pub mod verbatim;
pub mod verify;
pub mod yank;

/// The manifest's name in each folder.
pub const MANIFEST: &str = crate::manifest::FILE;

/// The names of its signature: all clients read the first, systemd 262 asks for the second before.
pub const SIGNATURES: [&str; 2] = [crate::sign::SIGNATURE, crate::sign::ARMORED];

/// The path of a file in a component's folder.
#[must_use]
pub fn path(folder: &Folder, name: &str) -> String {
    format!("{folder}/{name}")
}

/// The path of what is known about how an image was made.
#[must_use]
pub fn record_path(folder: &Folder, image: &FileName) -> String {
    format!("{PRIVATE}/images/{folder}/{image}.json")
}

/// The folders that a sync of a component writes to.
#[must_use]
pub fn folders_of(folder: &Folder) -> [String; 6] {
    let above = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    [
        folder.to_string(),
        format!("{PRIVATE}/images/{folder}"),
        ANSWERS.to_owned(),
        format!("{PRIVATE}/mirrors"),
        above(&catalogue::path(folder)),
        above(&derived::path(derived::CLIENTS, folder)),
    ]
}

/// A folder that may be changed: nobody else changes it meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The store it is in.
    pub store: &'a Store,
    /// What keeps others out.
    pub lock: &'a Lock,
    /// The folder.
    pub folder: &'a Folder,
    /// Who vouches for its manifest.
    pub signer: &'a Signer,
}

/// The folder of what upstreams answered before.
pub const ANSWERS: &str = ".publish/upstream";

/// The path of what is remembered of the repository that a component mirrors.
#[must_use]
pub fn memory_path(component: &ComponentName) -> String {
    format!("{PRIVATE}/mirrors/{component}.json.zst")
}

/// A folder that cannot be read as a repository's.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The store gave an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is there, but no client would take it.
    #[error("{path} cannot be used")]
    Manifest {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Images were published, but their manifest is gone.
    #[error("{path} is gone, but there are records of {images}")]
    Lost {
        /// Where it was.
        path: String,
        /// How many images have a record.
        images: String,
    },
    /// The catalogue is there, but nobody can read it.
    #[error("{path} cannot be used")]
    Catalogue {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl SnapshotError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Manifest { .. } => Some(
                "nothing is written over it: repair it by hand, or move it away to start anew"
                    .to_owned(),
            ),
            Self::Lost { .. } => Some(
                "bring it back from a copy; to start anew, take the folder's records in .publish/images away too"
                    .to_owned(),
            ),
            Self::Catalogue { .. } => Some(
                "repair it by hand; moved away, yanked versions would be published again"
                    .to_owned(),
            ),
        }
    }
}

/// What is published in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Its manifest; empty if there is none.
    pub manifest: Manifest,
    /// What is no longer offered, and why.
    pub catalogue: Catalogue,
    /// The files for nodes beside the images.
    pub clients: Derived,
    /// The manifest as it is served, to be replaced only if it is still this one.
    served: Seen,
    /// The signatures as they are served, in the order of [`SIGNATURES`].
    signatures: [Seen; 2],
    /// The catalogue as it was read.
    remembered: Seen,
    /// The lengths of files, as far as somebody asked: `None` for one that is not there.
    sizes: BTreeMap<String, Option<u64>>,
    /// How the images were made that [`Published::read_records`] was asked for.
    records: BTreeMap<FileName, Record>,
    /// Why the records that are there, but that nobody can read, are none.
    unreadable: BTreeMap<FileName, String>,
}

impl Published {
    /// A folder with this manifest and these files, and their lengths in bytes.
    #[must_use]
    pub fn new(manifest: Manifest, files: impl IntoIterator<Item = (String, u64)>) -> Self {
        let gone = manifest.files().map(|(name, _)| (name.to_string(), None));
        let there = files.into_iter().map(|(name, size)| (name, Some(size)));
        let sizes = gone.chain(there).collect();
        Self { manifest, sizes, ..Self::default() }
    }

    /// Reads a folder: its manifest with the signatures, if it has any, and its catalogue. One that is
    /// not there is empty; every other failure is one.
    ///
    /// What the manifest vouches for is not looked at here, however many lines it has: which files are
    /// there is asked for the few that a decision needs, see [`read_records`](Self::read_records). A
    /// bucket is listed all the same, because a page of names there costs one request, as much as one
    /// look at one file.
    ///
    /// # Errors
    /// The store, the manifest or the catalogue cannot be read.
    pub async fn read(store: &Store, folder: &Folder) -> Result<Self, SnapshotError> {
        let manifest = async {
            let path = path(folder, MANIFEST);
            let served = store.look(&path).await?;
            let bytes = served.bytes().map_or(&[][..], |bytes| bytes);
            let manifest = Manifest::parse(bytes)
                .map_err(|source| SnapshotError::Manifest { path: store.locate(&path), source })?;
            Ok::<_, SnapshotError>((manifest, served))
        };
        let sizes = async {
            if store.as_directory().is_some() {
                return Ok(None);
            }
            let listed = store.list(folder.as_str()).await?.into_iter();
            let sizes = listed.map(|listed| (listed.name, Some(listed.size)));
            Ok(Some(sizes.collect::<BTreeMap<_, _>>()))
        };
        let catalogue = Catalogue::read(store, folder);
        let clients = async {
            let path = derived::path(derived::CLIENTS, folder);
            Ok(Derived::read(store, path).await?)
        };
        let ((manifest, served), sizes, (catalogue, remembered), mut clients) =
            futures::try_join!(manifest, sizes, catalogue, clients)?;
        if !clients.is_recorded() {
            clients.files.clone_from(&catalogue.clients);
        }
        let signatures = SIGNATURES.map(|name| {
            let maybe = sizes.as_ref().is_none_or(|sizes| sizes.contains_key(name));
            let path = path(folder, name);
            async move { if maybe { store.look(&path).await } else { Ok(Seen::default()) } }
        });
        let [gpg, asc] = signatures;
        let (gpg, asc) = futures::try_join!(gpg, asc)?;
        let (signatures, records) = ([gpg, asc], BTreeMap::new());
        let (sizes, unreadable) = (sizes.unwrap_or_default(), BTreeMap::new());
        let files: Vec<FileName> = clients.files.keys().cloned().collect();
        let mut published = Self {
            manifest,
            catalogue,
            clients,
            served,
            signatures,
            remembered,
            sizes,
            records,
            unreadable,
        };
        published.read_sizes(store, folder, &files).await?;
        Ok(published)
    }

    /// Tells of a manifest that somebody took away: to start over would forget every older version. One
    /// that never was is none of that, though a run that was killed before it wrote its first one left
    /// records of one version. Where nothing tells the two apart, a line about that is the answer.
    ///
    /// # Errors
    /// [`SnapshotError::Lost`], or the store cannot be read.
    pub async fn check_lost(
        &self,
        store: &Store,
        component: &Component,
    ) -> Result<Option<String>, SnapshotError> {
        if self.served.bytes().is_some() {
            return Ok(None);
        }
        let folder = &component.folder;
        let names = Names::of(component);
        let records = store.names_below(&format!("{PRIVATE}/images/{folder}")).await?;
        let images = records.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        let images: Vec<FileName> = images.collect();
        let versions: BTreeSet<_> =
            images.iter().filter_map(|name| Some(names.read(name)?.0)).collect();
        let path = store.locate(&path(folder, MANIFEST));
        let images = count(images.len(), "image");
        match versions.len() {
            0 => Ok(None),
            1 if !self.was_served() => Ok(Some(format!(
                "{path} is not there, but records of {images} are: a run that was cut short leaves that; if it was there before, bring it back from a copy"
            ))),
            _ => Err(SnapshotError::Lost { path, images }),
        }
    }

    /// Whether something is there that only comes after a manifest.
    fn was_served(&self) -> bool {
        let Catalogue { removed, yanked, floor, .. } = &self.catalogue;
        let is_gone = !removed.is_empty() || !yanked.is_empty() || !floor.is_empty();
        let is_signed = self.signatures().any(|(_, signature)| signature.is_some());
        is_gone || is_signed || !self.clients.files.is_empty()
    }

    /// Keeps the catalogue, unless somebody else changed it since it was read.
    ///
    /// # Errors
    /// The store cannot be written; or [`CommitError::Raced`]: read again, and decide again.
    pub async fn keep_catalogue(&mut self, place: &Place<'_>) -> Result<(), CommitError> {
        self.keep_catalogue_in(place.store, place.lock, place.folder).await
    }

    async fn keep_catalogue_in(
        &mut self,
        store: &Store,
        lock: &Lock,
        folder: &Folder,
    ) -> Result<(), CommitError> {
        let path = catalogue::path(folder);
        let kept = store.replace(&path, self.catalogue.render(), &self.remembered, lock).await?;
        let raced = || CommitError::Raced { folder: folder.clone() };
        self.remembered = kept.ok_or_else(raced)?;
        Ok(())
    }

    /// The files for nodes that are missing, other than they should be, or not wanted any more.
    #[must_use]
    pub fn clients_due(&self, wanted: &Wanted) -> Vec<FileName> {
        self.clients.due(wanted, |name| self.size(name))
    }

    /// Brings the files for nodes to what is wanted.
    ///
    /// # Errors
    /// The store cannot be read or written; or [`CommitError::Raced`]: read again, and decide again.
    pub async fn keep_clients(
        &mut self,
        place: &Place<'_>,
        wanted: &Wanted,
    ) -> Result<(), CommitError> {
        let Place { store, lock, folder, .. } = *place;
        let Self { clients, sizes, .. } = self;
        let size = |name: &FileName| sizes.get(name.as_str()).copied().flatten();
        let kept = clients.keep((store, lock), folder.as_str(), wanted, size).await?;
        kept.map_err(|_| CommitError::Raced { folder: folder.clone() })?;
        if !std::mem::take(&mut self.catalogue.clients).is_empty() {
            self.keep_catalogue(place).await?;
        }
        Ok(())
    }

    /// Reads how these images were made and whether they are there, so that [`record`](Self::record),
    /// [`has_file`](Self::has_file) and [`is_damaged`](Self::is_damaged) know of them. One without a record, or with one that makes no
    /// sense, is unknown: nothing is concluded from that, but the latter is [told](Self::unreadable).
    ///
    /// # Errors
    /// A record is there, but the store cannot read it.
    pub async fn read_records(
        &mut self,
        store: &Store,
        folder: &Folder,
        images: impl IntoIterator<Item = FileName>,
    ) -> Result<(), StoreError> {
        let known = |name: &FileName| {
            self.manifest.get(name).is_some() || self.catalogue.removed.contains_key(name)
        };
        let images: Vec<FileName> = images.into_iter().filter(known).collect();
        self.read_sizes(store, folder, &images).await?;
        let unread = |name: &FileName| {
            !self.records.contains_key(name) && !self.unreadable.contains_key(name)
        };
        let images: Vec<FileName> = images.into_iter().filter(unread).collect();
        let mut records = futures::stream::iter(images)
            .map(|name| {
                let path = record_path(folder, &name);
                async move {
                    let record = store.read(&path).await?;
                    Ok::<_, StoreError>((name, record.map(|record| Record::read(&record))))
                }
            })
            .buffer_unordered(16);
        while let Some((name, record)) = records.next().await.transpose()? {
            match record {
                None => {}
                Some(Ok(record)) => drop(self.records.insert(name, record)),
                Some(Err(problem)) => drop(self.unreadable.insert(name, problem)),
            }
        }
        Ok(())
    }

    /// The images whose records are there, among those that were [asked for](Self::read_records), but
    /// that nobody can read: what is wrong with each.
    pub fn unreadable(&self) -> impl Iterator<Item = (&FileName, &str)> {
        self.unreadable.iter().map(|(name, problem)| (name, problem.as_str()))
    }

    /// Asks for the lengths of files that are not known.
    async fn read_sizes(
        &mut self,
        store: &Store,
        folder: &Folder,
        names: &[FileName],
    ) -> Result<(), StoreError> {
        let unknown = names.iter().filter(|name| !self.sizes.contains_key(name.as_str()));
        let names: Vec<String> = unknown.map(ToString::to_string).collect();
        // What a bucket has was listed.
        let sizes = match store.as_directory() {
            Some(_) => store.sizes(folder.as_str(), &names).await?,
            None => vec![None; names.len()],
        };
        self.sizes.extend(names.into_iter().zip(sizes));
        Ok(())
    }

    /// Forgets how an image was made.
    #[cfg(test)]
    pub(crate) fn unlearn(&mut self, name: &FileName) {
        self.records.remove(name);
    }

    /// Forgets a file.
    #[cfg(test)]
    pub(crate) fn forget(&mut self, name: &FileName) {
        self.sizes.insert(name.to_string(), None);
        self.records.remove(name);
    }

    /// Remembers how an image was made.
    #[cfg(test)]
    pub(crate) fn remember(&mut self, name: FileName, record: Record) {
        self.sizes.insert(name.to_string(), Some(record.size));
        self.records.insert(name, record);
    }

    /// The length of a file in bytes, if it is there and somebody asked.
    #[must_use]
    pub fn size(&self, name: &FileName) -> Option<u64> {
        self.sizes.get(name.as_str()).copied().flatten()
    }

    /// How an image was made, if that was [read](Self::read_records).
    #[must_use]
    pub fn record(&self, name: &FileName) -> Option<&Record> {
        self.records.get(name)
    }

    /// The same, if it is of the very bytes that are listed: one that is not says nothing of them.
    #[must_use]
    pub fn recorded(&self, name: &FileName) -> Option<&Record> {
        self.record(name).filter(|record| self.manifest.get(name) == Some(record.sha256))
    }

    /// The bytes of the manifest as they are served; `None` if there is none.
    #[must_use]
    pub fn served(&self) -> Option<&[u8]> {
        self.served.bytes().map(|bytes| &**bytes)
    }

    /// The signatures as they are served, by name; `None` where there is none. A crash between the
    /// manifest and its signatures leaves one that does not fit any more.
    pub fn signatures(&self) -> impl Iterator<Item = (&'static str, Option<&[u8]>)> {
        let seen = self.signatures.iter().map(|seen| seen.bytes().map(|bytes| &**bytes));
        SIGNATURES.into_iter().zip(seen)
    }

    /// When the manifest was written, by the store's clock; `None` if there is none.
    #[must_use]
    pub fn changed(&self) -> Option<Timestamp> {
        self.served.modified()
    }

    /// Whether the folder has a file of this name. One that nobody asked for is believed to be there,
    /// as the manifest says.
    #[must_use]
    pub fn has_file(&self, name: &FileName) -> bool {
        self.sizes.get(name.as_str()).is_none_or(Option::is_some)
    }

    /// Whether a file has another length than when we published it. That its bytes are the same is
    /// for `verify` to say: to read all of them at every sync would cost too much.
    #[must_use]
    pub fn is_damaged(&self, name: &FileName) -> bool {
        match (self.size(name), self.record(name)) {
            (Some(is), Some(record)) => is != record.size,
            _ => false,
        }
    }
}
