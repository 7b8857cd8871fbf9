//! The shelf: a manifest's lines as versions, revisions and architectures of a component.
//!
//! Owns telling whose line is whose. What does not look like an image of the component is not on
//! its shelf, and nothing here ever touches it.

use std::collections::{BTreeMap, BTreeSet};

use super::Published;
use super::catalogue::Catalogue;
use crate::config::Component;
use crate::name::{Arch, FileName};
use crate::plan::file_names;
use crate::template::{Matcher, Vars};
use crate::version::Version;

/// Every revision of a version: its images by architecture.
pub type Slot = BTreeMap<u32, BTreeMap<Arch, FileName>>;

/// What a folder offers of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    /// By upstream's version, in the clients' order.
    pub slots: BTreeMap<Version, Slot>,
    /// Files that come and go with an image: the others of an OS.
    beside: BTreeMap<FileName, Vec<FileName>>,
}

/// Reads names of a component's images.
#[derive(Debug)]
pub struct Names {
    matcher: Matcher,
    /// Whether a name says what it is for.
    with_arch: bool,
}

impl Names {
    /// Those of a component, for whatever architecture.
    #[must_use]
    pub fn of(component: &Component) -> Self {
        let arches: Vec<&str> = Arch::ALL.iter().map(|arch| arch.as_str()).collect();
        let vars = Vars { name: component.name.as_str(), ..Vars::default() };
        let name = &component.image.name;
        Self { matcher: name.matcher(&vars, &arches), with_arch: name.uses("arch") }
    }

    /// The version as clients see it, and the architecture.
    #[must_use]
    pub fn read(&self, name: &FileName) -> Option<(Version, Arch)> {
        let (version, arch) = self.matcher.captures(name.as_str())?;
        let arch = if self.with_arch { arch?.parse().ok()? } else { Arch::ANY };
        Some((version.parse().ok()?, arch))
    }
}

impl Shelf {
    /// What a folder offers of a component. `upstream` are the versions that upstream has, as far as
    /// that is known: only they tell `1.0-r1` from a revision of `1.0` where an image has no record.
    #[must_use]
    pub fn new(component: &Component, published: &Published, upstream: &BTreeSet<Version>) -> Self {
        let names = Names::of(component);
        let mut shelf = Self::default();
        // Nothing there is ours to choose from.
        if component.is_verbatim() {
            return shelf;
        }
        for (name, _) in published.manifest.files() {
            if let Some((shown, arch)) = names.read(name) {
                let (version, revision) = identify(&shown, name, published, upstream);
                shelf.put(version, revision, arch, name.clone());
                let others = file_names(component, &shown, arch).unwrap_or_default();
                let is_listed = |name: &FileName| published.manifest.get(name).is_some();
                let others: Vec<_> = others.into_iter().skip(1).filter(is_listed).collect();
                if !others.is_empty() {
                    shelf.beside.insert(name.clone(), others);
                }
            }
        }
        shelf
    }

    /// Puts an image on it.
    pub fn put(&mut self, version: Version, revision: u32, arch: Arch, name: FileName) {
        let slot = self.slots.entry(version).or_default();
        slot.entry(revision).or_default().insert(arch, name);
    }

    /// The same without what is yanked.
    #[must_use]
    pub fn without_yanked(&self, catalogue: &Catalogue) -> Self {
        let mut left = self.clone();
        for (version, slot) in &mut left.slots {
            slot.retain(|revision, _| catalogue.yank_of(version, *revision).is_none());
        }
        left.slots.retain(|_, slot| !slot.is_empty());
        left
    }

    /// Every image on it.
    pub fn images(&self) -> impl Iterator<Item = (&Version, u32, Arch, &FileName)> {
        self.slots.iter().flat_map(move |(version, slot)| {
            slot.iter().flat_map(move |(revision, files)| {
                files.iter().flat_map(move |(arch, name)| {
                    self.with_others(name).map(move |name| (version, *revision, *arch, name))
                })
            })
        })
    }

    /// An image, and what comes and goes with it.
    pub fn with_others<'s>(&'s self, name: &'s FileName) -> impl Iterator<Item = &'s FileName> {
        std::iter::once(name).chain(self.beside.get(name).into_iter().flatten())
    }

    /// The newest version and revision that is there for each of these architectures.
    #[must_use]
    pub fn newest_complete(&self, arches: &[Arch]) -> Option<(&Version, u32)> {
        self.slots.iter().rev().find_map(|(version, slot)| {
            let complete =
                |files: &BTreeMap<Arch, _>| arches.iter().all(|arch| files.contains_key(arch));
            let (revision, _) = slot.iter().rev().find(|(_, files)| complete(files))?;
            Some((version, *revision))
        })
    }
}

/// The version and revision that an image is of.
fn identify(
    shown: &Version,
    name: &FileName,
    published: &Published,
    upstream: &BTreeSet<Version>,
) -> (Version, u32) {
    if let Some(record) = published.record(name)
        && let Some(version) = &record.release
        && version.revised(record.revision).is_ok_and(|revised| revised == *shown)
    {
        return (version.clone(), record.revision);
    }
    match shown.unrevised() {
        Some((version, revision)) if !upstream.contains(shown) && upstream.contains(&version) => {
            (version, revision)
        }
        _ => (shown.clone(), 0),
    }
}
