//! The shelf: a manifest's lines as versions, revisions and architectures of a component.
//!
//! Owns telling whose line is whose. What does not look like an image of the component is not on
//! its shelf, and nothing here ever touches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    /// By upstream's version, in the clients' order. Shared, so that who keeps another shelf of the
    /// same lines need not copy them.
    pub slots: Arc<BTreeMap<Version, Slot>>,
    /// Files that come and go with an image: the others of an OS.
    beside: BTreeMap<FileName, Vec<FileName>>,
}

/// Reads names of a component's images.
#[derive(Debug)]
pub struct Names(Form);

/// What such a name looks like. There may be very many, and nearly all are of the plain form.
#[derive(Debug)]
enum Form {
    /// A version and then an architecture, each once, with fixed text around them.
    Plain { before: String, between: String, after: String },
    /// Everything else; whether a name says what it is for.
    Odd(Matcher, bool),
}

impl Names {
    /// Those of a component, for whatever architecture.
    #[must_use]
    pub fn of(component: &Component) -> Self {
        // No name that was written by a person has these.
        const VERSION: &str = "\u{1}";
        const ARCH: &str = "\u{2}";
        let name = component.name.as_str();
        let filled = component.image.name.expand(&Vars {
            name,
            version: VERSION,
            arch: ARCH,
            ..Vars::default()
        });
        let plain = filled.split_once(VERSION).and_then(|(before, rest)| {
            let (between, after) = rest.split_once(ARCH)?;
            let fixed = [before, between, after];
            let once = !fixed.iter().any(|text| text.contains(VERSION) || text.contains(ARCH));
            let [before, between, after] = fixed.map(str::to_owned);
            once.then_some(Form::Plain { before, between, after })
        });
        Self(plain.unwrap_or_else(|| Self::odd(component)))
    }

    fn odd(component: &Component) -> Form {
        let arches: Vec<&str> = Arch::ALL.iter().map(|arch| arch.as_str()).collect();
        let vars = Vars { name: component.name.as_str(), ..Vars::default() };
        let name = &component.image.name;
        Form::Odd(name.matcher(&vars, &arches), name.uses("arch"))
    }

    /// The version as clients see it, and the architecture.
    #[must_use]
    pub fn read(&self, name: &FileName) -> Option<(Version, Arch)> {
        let (version, arch) = match &self.0 {
            Form::Plain { before, between, after } => {
                let inner = name.as_str().strip_prefix(before.as_str())?;
                let inner = inner.strip_suffix(after.as_str())?;
                // Where several would do, the shortest version, as a client's pattern takes it.
                let split = |arch: &Arch| {
                    let version =
                        inner.strip_suffix(arch.as_str())?.strip_suffix(between.as_str())?;
                    (!version.is_empty()).then_some((version, *arch))
                };
                Arch::ALL.iter().filter_map(split).min_by_key(|(version, _)| version.len())?
            }
            Form::Odd(matcher, with_arch) => {
                let (version, arch) = matcher.captures(name.as_str())?;
                (version, if *with_arch { arch?.parse().ok()? } else { Arch::ANY })
            }
        };
        Some((version.parse().ok()?, arch))
    }
}

impl Shelf {
    /// What a folder offers of a component. `upstream` are the versions that upstream has, as far as
    /// that is known: only they tell `1.0-r1` from a revision of `1.0` where an image has no record.
    #[must_use]
    pub fn new(component: &Component, published: &Published, upstream: &BTreeSet<Version>) -> Self {
        let names = Names::of(component);
        let mut slots: BTreeMap<Version, Slot> = BTreeMap::new();
        let mut beside = BTreeMap::new();
        // Nothing there is ours to choose from.
        if component.is_verbatim() {
            return Self::default();
        }
        let has_others = component.mirrored().is_some_and(|rule| rule.patterns.len() > 1);
        for (name, _) in published.manifest.files() {
            if let Some((shown, arch)) = names.read(name) {
                if has_others {
                    let others = file_names(component, &shown, arch).unwrap_or_default();
                    let is_listed = |name: &FileName| published.manifest.get(name).is_some();
                    let others: Vec<_> = others.into_iter().skip(1).filter(is_listed).collect();
                    beside.insert(name.clone(), others);
                }
                let (version, revision) = identify(shown, name, published, upstream);
                slots
                    .entry(version)
                    .or_default()
                    .entry(revision)
                    .or_default()
                    .insert(arch, name.clone());
            }
        }
        Self { slots: Arc::new(slots), beside }
    }

    /// Puts an image on it.
    pub fn put(&mut self, version: Version, revision: u32, arch: Arch, name: FileName) {
        let slot = Arc::make_mut(&mut self.slots).entry(version).or_default();
        slot.entry(revision).or_default().insert(arch, name);
    }

    /// The same without what is yanked.
    #[must_use]
    pub fn without_yanked(&self, catalogue: &Catalogue) -> Self {
        if catalogue.yanked.is_empty() {
            return self.clone();
        }
        let mut left = self.clone();
        let slots = Arc::make_mut(&mut left.slots);
        for (version, slot) in slots.iter_mut() {
            slot.retain(|revision, _| catalogue.yank_of(version, *revision).is_none());
        }
        slots.retain(|_, slot| !slot.is_empty());
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
    shown: Version,
    name: &FileName,
    published: &Published,
    upstream: &BTreeSet<Version>,
) -> (Version, u32) {
    if let Some(record) = published.record(name)
        && let Some(version) = &record.release
        && version.revised(record.revision).is_ok_and(|revised| revised == shown)
    {
        return (version.clone(), record.revision);
    }
    // There is a record only of what we published, and of that such a name is a revision's.
    let is_ours = || published.unreadable().any(|(unreadable, _)| unreadable == name);
    match shown.unrevised() {
        Some((version, revision))
            if !upstream.contains(&shown) && (upstream.contains(&version) || is_ours()) =>
        {
            (version, revision)
        }
        _ => (shown, 0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::component;

    fn of(template: &str) -> (Names, Names) {
        let text = format!("[source.github]\nrepo = \"o/r\"\n[image]\nname = \"{template}\"\n");
        let component = component::parse("x".parse().unwrap(), Path::new("x.toml"), &text).unwrap();
        (Names::of(&component), Names(Names::odd(&component)))
    }

    proptest::proptest! {
        /// The two ways of reading a name agree, also where it could be read in several ways.
        #[test]
        fn a_name_reads_the_same_either_way(
            template in proptest::sample::select(vec![
                "{name}-{version}-{arch}.raw", "{version}{arch}.raw", "{version}_{arch}.raw",
                "{name}{version}-{arch}.raw",
            ]),
            name in "(x-?|)(1|a|-|_|\\.){0,4}[-_]?(x86-64|ppc64|ppc64-le|mips64-le|x86|arm64|arm|le|riscv)?(\\.raw)?",
        ) {
            let (plain, odd) = of(template);
            let is_plain = matches!(plain.0, Form::Plain { .. });
            proptest::prop_assert!(is_plain);
            if let Ok(name) = name.parse() {
                proptest::prop_assert_eq!(plain.read(&name), odd.read(&name), "{} {}", template, name);
            }
        }
    }

    #[test]
    fn a_name_without_a_plain_form_is_read_all_the_same() {
        let read = |template: &str, name: &str| {
            let found = of(template).0.read(&name.parse().unwrap());
            found.map(|(version, arch)| format!("{version} {arch}"))
        };
        assert_eq!(read("{arch}-{version}.raw", "arm64-1.0.raw").as_deref(), Some("1.0 arm64"));
        let twice = "{version}-{version}-{arch}.raw";
        assert_eq!(read(twice, "1-1-arm64.raw").as_deref(), Some("1 arm64"));
        assert_eq!(read(twice, "1-2-arm64.raw"), None);
    }
}
