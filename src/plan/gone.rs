//! What somebody's repository no longer lists, although it is published here.
//!
//! Owns telling apart why: old versions that newer ones pushed out there are nobody's concern, because
//! retention here decides for itself. A version that is missing among others, or was the newest, was
//! taken out on purpose, or an old state is served. That is never followed without a word.

use std::collections::{BTreeMap, BTreeSet};

use super::{Refusal, asset_names, vars};
use crate::config::Component;
use crate::config::mirror::Trust;
use crate::name::Arch;
use crate::repository::retention::Branch;
use crate::repository::shelf::Shelf;
use crate::source::Release;
use crate::version::Version;

/// What to do about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Versions to take out here, too.
    pub(super) yanks: Vec<Version>,
    /// Versions that a person must decide about.
    pub(super) refusals: Vec<Refusal>,
}

/// Compares what is offered of a mirror with what its upstream lists. `most` is how many versions may
/// go at once.
pub(super) fn gone(
    component: &Component,
    arches: &[(Arch, String)],
    releases: &[Release],
    shelf: &Shelf,
    most: usize,
) -> Gone {
    let Some(rule) = component.mirrored() else { return Gone::default() };
    let upstream: BTreeMap<&str, &Release> =
        releases.iter().map(|release| (release.tag.as_str(), release)).collect();
    let versions: BTreeSet<Version> =
        upstream.keys().filter_map(|version| version.parse().ok()).collect();
    let is_whole = |version: &Version| {
        let Some(release) = upstream.get(version.as_str()) else { return false };
        let slot = &shelf.slots[version];
        let offered =
            arches.iter().filter(|(arch, _)| slot.values().any(|files| files.contains_key(arch)));
        offered.into_iter().all(|(_, theirs)| {
            let vars = vars(component, version, release, theirs);
            asset_names(component, &vars)
                .iter()
                .all(|name| release.assets.iter().any(|asset| asset.name == *name))
        })
    };
    let rules = &component.versions;
    let mut found = Vec::new();
    for version in shelf.slots.keys().filter(|version| !is_whole(version)) {
        let is_excluded = rules.exclude.iter().any(|excluded| excluded == version.as_str());
        let branch = Branch::of(rules.per, version);
        let leaves_older =
            versions.iter().any(|other| other < version && Branch::of(rules.per, other) == branch);
        let is_newest = versions.iter().all(|other| other < version);
        if !is_excluded && (leaves_older || is_newest || versions.contains(version)) {
            found.push((version, is_newest));
        }
    }
    if !rule.follow_yanks {
        let refusals = found.into_iter().map(|(version, is_newest)| {
            told(component, version, versions.contains(version), is_newest)
        });
        return Gone { yanks: Vec::new(), refusals: refusals.collect() };
    }
    if found.len() > most {
        let refusal = Refusal {
            tag: found[0].0.to_string(),
            problem: format!(
                "upstream no longer lists it and {} more, which is too much to follow at once",
                found.len() - 1
            ),
            hint: "what is published stays as it is; `publish yank` takes them out one by one, a larger [retention] max-delete all at once".to_owned(),
        };
        return Gone { yanks: Vec::new(), refusals: vec![refusal] };
    }
    Gone {
        yanks: found.into_iter().map(|(version, _)| version.clone()).collect(),
        ..Gone::default()
    }
}

fn told(component: &Component, version: &Version, is_listed: bool, is_newest: bool) -> Refusal {
    let problem = match (is_listed, is_newest) {
        (true, _) => "upstream no longer lists all files of it",
        (false, true) => "upstream no longer lists it, although it was the newest",
        (false, false) => "upstream no longer lists it, although it lists older ones",
    };
    // Who could change what nobody signed is not to be followed.
    let follow = match component.mirrored().map(|rule| &rule.trust) {
        Some(Trust::Keyring(_)) => "; `follow-yanks = true` does as they do",
        Some(Trust::Unsigned) | None => "",
    };
    Refusal {
        tag: version.to_string(),
        problem: problem.to_owned(),
        hint: format!(
            "what is published stays as it is: `publish yank {} {version}` takes it out here, too; excluded in [versions], it stays without a word{follow}",
            component.name
        ),
    }
}
