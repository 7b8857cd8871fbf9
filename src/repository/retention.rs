//! Retention: which lines go because newer versions took their place, and when files follow them.
//!
//! What is decided here is pure. The order is fixed: the catalogue learns what goes, the manifest
//! loses the line, and only when the grace is over does the file go, last of all. A file is deleted
//! only if the catalogue says that its line went, and only as long as it is what the line was for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::catalogue::Removed;
use super::commit::{Change, CommitError, Gone, Removal, commit};
use super::seal::Seal;
use super::shelf::{Shelf, Slot};
use super::{Place, Published, path, record_path};
use crate::config::versions::{Per, Versions};
use crate::name::{Arch, FileName};
use crate::version::{Version, numbered};

/// A branch of versions: each holds its own newest ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    /// All versions are in one.
    All,
    /// `1.x` or `1.31.x`
    Number(u64, Option<u64>),
    /// Without a number: a branch of its own.
    Odd(String),
}

impl Branch {
    /// The branch that a version belongs to.
    #[must_use]
    pub fn of(per: Option<Per>, version: &Version) -> Self {
        match (per, numbered(version.as_str())) {
            (None, _) => Self::All,
            (Some(Per::Major), Some(numbers)) => Self::Number(numbers.major, None),
            (Some(Per::Minor), Some(numbers)) => Self::Number(numbers.major, Some(numbers.minor)),
            (Some(_), None) => Self::Odd(version.to_string()),
        }
    }
}

/// The versions that have a place, of those that are given, the newest first: the newest of each of the
/// newest branches, and the pinned one.
#[must_use]
pub fn staying<'v>(
    newest_first: impl Iterator<Item = &'v Version>,
    rules: &Versions,
) -> BTreeSet<&'v Version> {
    let branches = rules.branches().filter(|_| rules.per.is_some());
    let pin = rules.pin.as_deref().map(|pin| (pin, rules.written(pin)));
    let mut held: BTreeMap<Branch, usize> = BTreeMap::new();
    let mut staying = BTreeSet::new();
    for version in newest_first {
        let branch = Branch::of(rules.per, version);
        let is_pinned = pin
            .as_ref()
            .is_some_and(|(pin, written)| version.as_str() == *pin || version.as_str() == written);
        let is_old = branches.is_some_and(|most| held.len() >= most) && !held.contains_key(&branch);
        if is_old && !is_pinned {
            continue;
        }
        let held = held.entry(branch).or_default();
        *held += 1;
        if *held <= rules.newest.get() || is_pinned {
            staying.insert(version);
        }
    }
    staying
}

/// The images whose place newer ones took: for each architecture all but the versions that
/// [stay](staying), and all but the newest revision of those. The newest version that is there for
/// every architecture always stays.
#[must_use]
pub fn surplus(shelf: &Shelf, rules: &Versions, arches: &[Arch]) -> Vec<FileName> {
    let has_one_revision = |slot: &Slot| slot.len() == 1;
    if shelf.slots.len() <= rules.newest.get() && shelf.slots.values().all(has_one_revision) {
        return Vec::new();
    }
    let complete = shelf.newest_complete(arches);
    let mut there: BTreeMap<Arch, BTreeSet<&Version>> = BTreeMap::new();
    for (version, _, arch, _) in shelf.images() {
        there.entry(arch).or_default().insert(version);
    }
    let staying: BTreeMap<Arch, BTreeSet<&Version>> = there
        .into_iter()
        .map(|(arch, versions)| (arch, staying(versions.into_iter().rev(), rules)))
        .collect();
    let mut surplus = Vec::new();
    for (version, slot) in shelf.slots.iter().rev() {
        let mut seen = BTreeSet::new();
        for (revision, files) in slot.iter().rev() {
            for (arch, name) in files {
                let wanted = seen.insert(*arch) && staying[arch].contains(version);
                if !wanted && complete != Some((version, *revision)) {
                    surplus.extend(shelf.with_others(name).cloned());
                }
            }
        }
    }
    surplus
}

/// The lines that go from a shelf: what was yanked, and what is surplus. What was yanked under another
/// name than the component's images have now is on no shelf, but goes all the same.
#[must_use]
pub fn removals(
    shelf: &Shelf,
    published: &Published,
    rules: &Versions,
    arches: &[Arch],
) -> Vec<Removal> {
    let catalogue = &published.catalogue;
    let mut yanked: BTreeSet<&FileName> = BTreeSet::new();
    if !catalogue.yanked.is_empty() {
        let is_yanked = |version, revision| catalogue.yank_of(version, revision).is_some();
        let ours = shelf.images().filter(|(version, revision, ..)| is_yanked(version, *revision));
        yanked.extend(ours.map(|(.., name)| name));
        let lines = catalogue.yanked.values().flat_map(|yank| &yank.images);
        let lines = lines.filter(|(name, line)| published.manifest.get(name) == Some(line.sha256));
        yanked.extend(lines.map(|(name, _)| name));
    }
    let mut removals: Vec<Removal> =
        yanked.into_iter().map(|name| Removal { name: name.clone(), why: Gone::Yanked }).collect();
    let surplus = surplus(&shelf.without_yanked(catalogue), rules, arches);
    removals.extend(surplus.into_iter().map(|name| Removal { name, why: Gone::Pruned }));
    removals
}

/// The files whose line went longer ago than the grace, and when each of the others will be due.
#[must_use]
pub fn due(
    published: &Published,
    grace: std::time::Duration,
    now: Timestamp,
) -> (Vec<FileName>, BTreeMap<FileName, Timestamp>) {
    let mut due = Vec::new();
    let mut waiting = BTreeMap::new();
    for (name, removed) in &published.catalogue.removed {
        if published.manifest.get(name).is_some() {
            continue;
        }
        // A grace that no clock reaches is for ever.
        let end = removed.at.checked_add(grace).unwrap_or(Timestamp::MAX);
        if end <= now {
            due.push(name.clone());
        } else {
            waiting.insert(name.clone(), end);
        }
    }
    (due, waiting)
}

/// Takes lines out of the manifest. Their files stay.
///
/// # Errors
/// The lines are there as before.
pub async fn retire(
    place: &Place<'_>,
    published: &mut Published,
    shelf: &Shelf,
    removals: &[Removal],
    now: Timestamp,
) -> Result<(), CommitError> {
    let Place { store, lock, folder, signer } = *place;
    // What could not be signed in the end is not even begun.
    Seal::of(published).due(signer, now)?;
    let names: Vec<FileName> = removals.iter().map(|removal| removal.name.clone()).collect();
    published.read_sizes(store, folder, &names).await?;
    let known: BTreeMap<&FileName, (&Version, u32)> =
        shelf.images().map(|(version, revision, _, name)| (name, (version, revision))).collect();
    for Removal { name, why } in removals {
        let Some(sha256) = published.manifest.get(name) else { continue };
        // What has another name than the component's images have now is on no shelf.
        let recorded = || {
            let record = published.recorded(name)?;
            Some((record.release.clone()?, record.revision))
        };
        let Some((version, revision)) = known
            .get(name)
            .map(|(version, revision)| ((*version).clone(), *revision))
            .or_else(|| published.catalogue.yanked_line(name))
            .or_else(recorded)
        else {
            continue;
        };
        let size = published.size(name);
        let removed = Removed { sha256, size, version, revision, at: now, why: *why };
        published.catalogue.removed.insert(name.clone(), removed);
    }
    published.keep_catalogue(place).await?;
    let change = Change { removals, ..Change::default() };
    *published = commit(store, lock, folder, published, &change, signer).await?;
    Ok(())
}

/// Begins the grace of images anew that wait to be deleted, before they get a line again. What is said
/// of a file that is listed counts for nothing; but if it never gets its line, it is still to go.
///
/// # Errors
/// The store cannot be written; or [`CommitError::Raced`], if another publisher is about to delete
/// them: then they are to be published under another name.
pub async fn reclaim<'n>(
    place: &Place<'_>,
    published: &mut Published,
    names: impl Iterator<Item = &'n FileName>,
) -> Result<(), CommitError> {
    let mut waiting = false;
    for name in names {
        if let Some(removed) = published.catalogue.removed.get_mut(name) {
            removed.at = Timestamp::now();
            waiting = true;
        }
    }
    if waiting { published.keep_catalogue(place).await } else { Ok(()) }
}

/// Deletes files whose grace is over, and forgets them.
///
/// First the catalogue says that their names are spent, so that no other publisher gives one of them
/// a line again while it goes; what is not deleted then, because of a crash, is deleted by the next
/// run. Only on a disk that is full, files go first: else nobody could make room.
///
/// # Errors
/// The store refuses; what was deleted until then is forgotten all the same. Or
/// [`CommitError::Raced`]: nothing is deleted.
pub async fn delete(
    place: &Place<'_>,
    published: &mut Published,
    due: &[FileName],
) -> Result<Vec<FileName>, CommitError> {
    let Place { store, folder, .. } = *place;
    let catalogue = &mut published.catalogue;
    let due: Vec<(&FileName, Removed)> =
        due.iter().filter_map(|name| Some((name, catalogue.removed.get(name)?.clone()))).collect();
    for (_, removed) in &due {
        let floor = catalogue.floor.entry(removed.version.clone()).or_default();
        *floor = (*floor).max(removed.revision + 1);
    }
    match published.keep_catalogue(place).await {
        // Nobody else writes to a directory meanwhile; and the records, which tell what had the names, go
        // when the catalogue has it, as always.
        Err(CommitError::Store(error)) if error.is_full() && store.as_directory().is_some() => {
            for (name, removed) in &due {
                let path = path(folder, name.as_str());
                if store.digest(&path).await? == Some(removed.sha256) {
                    store.delete(&path).await?;
                }
            }
            published.keep_catalogue(place).await?;
        }
        kept => kept?,
    }
    let mut deleted = Vec::new();
    let mut failed = None;
    for (name, removed) in due {
        // Not what somebody put in its place.
        let is_there = store.digest(&path(folder, name.as_str())).await?;
        if is_there.is_none_or(|sha256| sha256 == removed.sha256) {
            let image = store.delete(&path(folder, name.as_str())).await;
            let gone = match image {
                Ok(()) => store.delete(&record_path(folder, name)).await,
                error => error,
            };
            if let Err(error) = gone {
                failed = Some(error);
                break;
            }
            deleted.push(name.clone());
        }
        published.catalogue.removed.remove(name);
    }
    match published.keep_catalogue(place).await {
        // Somebody remembers something else meanwhile: the next run finds the files gone.
        Ok(()) | Err(CommitError::Raced { .. }) => {}
        Err(error) => return Err(error),
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(deleted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::component;
    use std::path::Path;

    fn gone(rules: &str, lines: &[(&str, u32, &str)]) -> Vec<String> {
        let text = format!("[source.github]\nrepo = \"o/r\"\n[versions]\n{rules}");
        let component = component::parse("x".parse().unwrap(), Path::new("x.toml"), &text).unwrap();
        let mut shelf = Shelf::default();
        for (version, revision, arch) in lines {
            let name = format!("{version}-r{revision}-{arch}").parse().unwrap();
            shelf.put(version.parse().unwrap(), *revision, arch.parse().unwrap(), name);
        }
        let arches = [Arch::X86_64, Arch::Arm64];
        let mut gone = surplus(&shelf, &component.versions, &arches);
        gone.sort();
        gone.into_iter().map(String::from).collect()
    }

    #[test]
    fn the_newest_stay_for_each_architecture() {
        let lines = [
            ("1.9", 0, "arm64"),
            ("1.9", 0, "x86-64"),
            ("1.10", 0, "x86-64"),
            ("1.11", 0, "x86-64"),
            ("1.8", 0, "arm64"),
        ];
        assert_eq!(gone("newest = 2", &lines), Vec::<String>::new(), "1.9 is the complete one");
        assert_eq!(gone("newest = 1", &lines), ["1.10-r0-x86-64", "1.8-r0-arm64"]);
    }

    #[test]
    fn revisions_of_a_version_have_one_place() {
        let lines = [
            ("1.0", 0, "x86-64"),
            ("1.0", 1, "x86-64"),
            ("1.0", 10, "x86-64"),
            ("1.0", 9, "arm64"),
            ("1.1", 0, "x86-64"),
        ];
        assert_eq!(gone("newest = 2", &lines), ["1.0-r0-x86-64", "1.0-r1-x86-64"]);
    }

    #[test]
    fn a_branch_holds_its_own() {
        let lines = ["1.30.9", "1.30.10", "1.31.0", "nightly"].map(|v| (v, 0, "x86-64"));
        assert_eq!(gone("newest = 1\nper = \"minor\"", &lines), ["1.30.9-r0-x86-64"]);
        assert_eq!(gone("newest = 1\nper = \"major\"", &lines).len(), 2);
    }

    #[test]
    fn a_branch_that_is_too_old_goes_as_a_whole() {
        let lines = ["1.28.1", "1.29.9", "1.30.2", "1.31.0", "1.31.1", "1.32.0"];
        let lines = lines.map(|version| (version, 0, "x86-64"));
        let minor = "newest = 1\nper = \"minor\"\n";
        // Without `require` a few branches are enough.
        assert_eq!(gone(minor, &lines), ["1.28.1-r0-x86-64", "1.31.0-r0-x86-64"]);
        assert_eq!(gone(&format!("{minor}require = \">=1\""), &lines), ["1.31.0-r0-x86-64"]);
        assert_eq!(gone(&format!("{minor}branches = 2"), &lines).len(), 4);
        // The pinned one stays wherever it is.
        let pinned = gone(&format!("{minor}branches = 1\npin = \"1.28.1\""), &lines);
        assert_eq!(pinned.len(), 4);
        assert!(!pinned.contains(&"1.28.1-r0-x86-64".to_owned()));
        // Dates and four numbers have branches, too.
        let dates = ["2023-12-01", "2024-05-01", "2024-05-30", "2024-06-02"];
        let dates = dates.map(|version| (version, 0, "x86-64"));
        assert_eq!(gone(minor, &dates), ["2024-05-01-r0-x86-64"]);
    }

    #[test]
    fn a_file_waits_for_the_whole_grace() {
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let name: FileName = "a.raw".parse().unwrap();
        let removed = Removed {
            sha256: crate::name::Sha256::of(b""),
            size: None,
            version: "1".parse().unwrap(),
            revision: 0,
            at,
            why: Gone::Pruned,
        };
        let mut published = Published::default();
        published.catalogue.removed.insert(name.clone(), removed);
        let grace = std::time::Duration::from_secs(60);
        let after = |seconds| at + jiff::SignedDuration::from_secs(seconds);
        let is_due = |published: &Published, grace, now| !due(published, grace, now).0.is_empty();
        assert!(!is_due(&published, grace, after(59)));
        assert!(is_due(&published, grace, after(60)));
        // A clock that went back, and a grace without an end.
        assert!(!is_due(&published, grace, after(-1_000_000)));
        assert!(!is_due(
            &published,
            std::time::Duration::MAX,
            Timestamp::MAX - jiff::SignedDuration::from_secs(1)
        ));
        // What is listed again is nobody's to delete.
        published.manifest.add(name, crate::name::Sha256::of(b"")).unwrap();
        assert!(!is_due(&published, grace, after(60)));
    }
}
