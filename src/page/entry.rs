//! From what is published of a component to its entry in the catalogue.
//!
//! Owns which of it people see, and what changed from version to version. Pure. What was told of an
//! image before is told again, so that nothing is read of it a second time.

use std::collections::BTreeMap;

use super::catalog::{Changes, Earlier, Entry, FileChanges, Item, Names, Release, Yanked};
use crate::client::{Offer, Offered, emulate, inert};
use crate::config::Component;
use crate::image::contents::Contents;
use crate::name::{Arch, FileName};
use crate::repository::Published;
use crate::repository::commit::{CompanionRecord, InputRecord, Record};
use crate::sign::freshness;
use crate::version::Version;

/// How many versions that went are remembered.
const REMEMBERED: usize = 40;

/// How many names of files are told.
const TOLD: usize = 24;

/// The images of which something must be read to tell of the component: those that are new, and the ones
/// before these.
#[must_use]
pub fn worth_reading(
    component: &Component,
    published: &Published,
    before: Option<&Entry>,
) -> Vec<FileName> {
    let mut worth = Vec::new();
    for_each_pair(component, published, |item, previous| {
        if known(before, item, previous.map(|(version, _)| version)).is_none() {
            worth.push(item.name.clone());
            worth.extend(previous.map(|(_, name)| name.clone()));
        }
    });
    worth.sort();
    worth.dedup();
    worth
}

/// Calls with each image and, of the same architecture, the version before it.
fn for_each_pair(
    component: &Component,
    published: &Published,
    mut each: impl FnMut(&Offered, Option<(&Version, &FileName)>),
) {
    let mut images = emulate::images(component, &published.manifest);
    images.sort_by(|a, b| (a.arch, &a.shown).cmp(&(b.arch, &b.shown)));
    for (at, image) in images.iter().enumerate() {
        let previous = at.checked_sub(1).map(|at| &images[at]);
        let previous = previous.filter(|previous| previous.arch == image.arch);
        each(image, previous.map(|previous| (&previous.shown, &previous.name)));
    }
}

/// What was told of an image, if it is still the same one after the same version.
fn known<'e>(
    before: Option<&'e Entry>,
    image: &Offered,
    previous: Option<&Version>,
) -> Option<&'e Item> {
    let known = before?.images().find(|item| item.file == image.name)?;
    let same_step = match (previous, &known.changes) {
        // The version before may have gone since: what changed is told all the same.
        (None, _) => true,
        (Some(previous), Some(changes)) => changes.since == *previous,
        (Some(_), None) => false,
    };
    (known.sha256 == image.sha256 && known.published.is_some() && same_step).then_some(known)
}

/// The entry of a component. Of `published`, the records of [`worth_reading`] were read.
#[must_use]
pub fn entry(component: &Component, published: &Published, before: Option<&Entry>) -> Entry {
    let mut releases: BTreeMap<Version, Vec<Item>> = BTreeMap::new();
    for_each_pair(component, published, |image, previous| {
        let item = match known(before, image, previous.map(|(version, _)| version)) {
            Some(item) => item.clone(),
            None => item(published, image, previous),
        };
        releases.entry(image.shown.clone()).or_default().push(item);
    });
    let versions: Vec<Release> =
        releases.into_iter().rev().map(|(version, images)| Release { version, images }).collect();
    let catalogue = &published.catalogue;
    let mut yanked: Vec<Yanked> = catalogue
        .yanked
        .iter()
        .map(|(version, yank)| Yanked {
            version: version.clone(),
            at: yank.at,
            reason: yank.reason.as_deref().map(inert::line),
        })
        .collect();
    yanked.reverse();
    let http = |url: Option<url::Url>| {
        url.filter(|url| matches!(url.scheme(), "http" | "https")).map(String::from)
    };
    let offer = Offer::to_try(component, &[]);
    Entry {
        name: component.name.clone(),
        folder: component.folder.clone(),
        description: component
            .description
            .as_deref()
            .map(inert::line)
            .filter(|text| !text.is_empty()),
        homepage: http(component.homepage.clone()),
        changelog: http(offer.changelog()),
        signed: published.signatures().any(|(_, signature)| signature.is_some()),
        expires: freshness::expiry(&published.manifest),
        newest: versions.first().map(|release| release.version.clone()),
        earlier: earlier(before, &versions, &yanked),
        versions,
        yanked,
        client_files: Vec::new(),
    }
}

fn item(published: &Published, image: &Offered, previous: Option<(&Version, &FileName)>) -> Item {
    let record = published.recorded(&image.name);
    let size = |name| published.recorded(name).map(|record| record.size).or(published.size(name));
    let changes = previous.and_then(|(version, name)| {
        let contents = |name| published.recorded(name)?.contents.as_ref();
        let files = contents(name).zip(contents(&image.name));
        Some(Changes {
            since: version.clone(),
            growth: i64::try_from(size(&image.name)?).ok()? - i64::try_from(size(name)?).ok()?,
            files: files.map(|(before, after)| compare(before, after)),
        })
    });
    Item {
        file: image.name.clone(),
        architecture: image.arch,
        sha256: image.sha256,
        size: size(&image.name),
        published: record.and_then(date),
        release: record.and_then(|record| record.release.clone()),
        revision: record.map_or(0, |record| record.revision),
        tool: record.map(|record| inert::line(&record.tool)),
        inputs: record.map(inputs).unwrap_or_default(),
        companions: record.map(companions).unwrap_or_default(),
        changes,
    }
}

/// When it was published, or, before that was written down, what its files are dated.
fn date(record: &Record) -> Option<jiff::Timestamp> {
    let dated = || jiff::Timestamp::from_second(i64::try_from(record.time).ok()?).ok();
    record.published.or_else(dated)
}

fn inputs(record: &Record) -> Vec<InputRecord> {
    let inputs = record.inputs.iter().map(|input| InputRecord {
        from: inert::text(&input.from),
        promised_by: input.promised_by.iter().map(|by| inert::text(by)).collect(),
        ..input.clone()
    });
    inputs.collect()
}

fn companions(record: &Record) -> BTreeMap<String, CompanionRecord> {
    let companions = record.companions.iter().map(|(name, companion)| {
        let CompanionRecord { version, tag } = companion;
        let plain = CompanionRecord { version: inert::line(version), tag: inert::line(tag) };
        (inert::line(name), plain)
    });
    companions.collect()
}

/// Which files are otherwise. Where one list is shorter than the other, both are cut to the same depth.
fn compare(before: &Contents, after: &Contents) -> FileChanges {
    let depth = [before.depth, after.depth].into_iter().flatten().min();
    let [before, after] = [before, after].map(|contents| match depth {
        Some(depth) => contents.summed_up(depth.max(1)).paths,
        None => contents.paths.clone(),
    });
    // Each image has its own name in its extension-release.
    let own = |path: &str| path.starts_with("usr/lib/extension-release.d/");
    let mut changes = FileChanges::default();
    for (path, size) in after.iter().filter(|(path, _)| !own(path)) {
        match before.get(path) {
            None => tell(&mut changes.added, path),
            Some(former) if former != size => tell(&mut changes.resized, path),
            Some(_) => {}
        }
    }
    for path in before.keys().filter(|path| !own(path) && !after.contains_key(*path)) {
        tell(&mut changes.removed, path);
    }
    changes
}

fn tell(names: &mut Names, name: &str) {
    names.count += 1;
    if names.names.len() < TOLD {
        names.names.push(inert::text(name));
    }
}

/// What was offered before and is not any more, but for what was taken out because it was bad.
fn earlier(before: Option<&Entry>, versions: &[Release], yanked: &[Yanked]) -> Vec<Earlier> {
    let Some(before) = before else { return Vec::new() };
    let gone = before.versions.iter().map(|release| {
        let sizes = release.images.iter().filter_map(|item| Some((item.architecture, item.size?)));
        Earlier { version: release.version.clone(), sizes: sizes.collect::<BTreeMap<Arch, u64>>() }
    });
    let all = gone.chain(before.earlier.iter().cloned());
    let mut all: BTreeMap<Version, Earlier> =
        all.map(|earlier| (earlier.version.clone(), earlier)).collect();
    all.retain(|version, earlier| {
        !earlier.sizes.is_empty()
            && !versions.iter().any(|release| release.version == *version)
            && !yanked.iter().any(|yank| {
                let unrevised = version.unrevised().map(|(version, _)| version);
                yank.version == *version || Some(&yank.version) == unrevised.as_ref()
            })
    });
    all.into_values().rev().take(REMEMBERED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests;

    fn contents(paths: &[(&str, u64)], depth: Option<usize>) -> Contents {
        let paths = paths.iter().map(|(path, size)| ((*path).to_owned(), *size)).collect();
        Contents { files: 0, bytes: 0, paths, depth }
    }

    #[test]
    fn files_come_go_and_grow() {
        let own = "usr/lib/extension-release.d/extension-release.x-1";
        let before = contents(&[("usr/bin/x", 1), ("usr/bin/y", 1), (own, 1)], None);
        let after = contents(&[("usr/bin/x", 2), ("usr/bin/z", 1)], None);
        let changes = compare(&before, &after);
        assert_eq!(changes.added.names, ["usr/bin/z"]);
        assert_eq!(changes.removed.names, ["usr/bin/y"]);
        assert_eq!(changes.resized.names, ["usr/bin/x"]);
        // Of one, only the folders are known.
        let summed = contents(&[("usr/bin/", 2)], Some(2));
        assert_eq!(
            compare(&before, &summed),
            FileChanges {
                removed: Names { count: 1, names: vec!["usr/lib/".to_owned()] },
                ..FileChanges::default()
            }
        );
        let many: Vec<String> = (0..100).map(|n| format!("usr/{n}")).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|path| (path.as_str(), 0)).collect();
        let changes = compare(&contents(&[], None), &contents(&many, None));
        assert_eq!((changes.added.count, changes.added.names.len()), (100, TOLD));
    }

    #[test]
    fn what_went_is_remembered_but_not_what_was_bad() {
        let before = tests::entry("x", &["1.3", "1.2-r1", "1.2", "1.1"]);
        let after = tests::entry("x", &["1.4", "1.3"]);
        let yank = |version: &str| Yanked {
            version: version.parse().unwrap(),
            at: jiff::Timestamp::UNIX_EPOCH,
            reason: None,
        };
        let earlier = |before: &Entry, yanked: &[Yanked]| {
            let earlier = earlier(Some(before), &after.versions, yanked);
            earlier.into_iter().map(|one| one.version.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(earlier(&before, &[]), ["1.2-r1", "1.2", "1.1"]);
        assert_eq!(earlier(&before, &[yank("1.2")]), ["1.1"]);
        assert_eq!(earlier(&before, &[yank("1.2-r1")]), ["1.2", "1.1"]);
        let many: Vec<String> = (0..100).map(|n| format!("0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let remembered = earlier(&tests::entry("x", &many), &[]);
        assert_eq!((remembered.len(), remembered[0].as_str()), (REMEMBERED, "0.99"));
    }
}
