//! What somebody's repository no longer lists, although it is published here.
//!
//! Owns telling apart why: old versions that newer ones pushed out there are nobody's concern, because
//! retention here decides for itself. A version that is missing among others, or was the newest, was
//! taken out on purpose, or an old state is served. That is never followed without a word.

use std::collections::BTreeMap;

use super::{Judged, Refusal, Upstream, assets, vars};
use crate::config::Component;
use crate::config::mirror::Trust;
use crate::name::Arch;
use crate::repository::retention::Branch;
use crate::repository::shelf::Shelf;
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
    upstream: &Upstream,
    shelf: &Shelf,
    most: usize,
) -> Gone {
    let Some(rule) = component.mirrored() else { return Gone::default() };
    let versions = upstream.versions();
    let judged = upstream.judged.iter();
    let upstream: BTreeMap<&Version, &Judged> =
        judged.filter_map(|judged| Some((judged.version.as_ref()?, judged))).collect();
    let is_whole = |version: &Version| {
        let Some(judged) = upstream.get(version) else { return false };
        let slot = &shelf.slots[version];
        let offered =
            arches.iter().filter(|(arch, _)| slot.values().any(|files| files.contains_key(arch)));
        offered.into_iter().all(|(_, theirs)| {
            let (release, text) = (&judged.release, judged.upstream().unwrap_or_default());
            let vars = vars(component, text, release, theirs, &[]);
            let names = assets::names(component, &vars);
            names.iter().all(|name| assets::named(release, name).is_some())
        })
    };
    let rules = &component.versions;
    let is_excluded = |version: &Version| {
        let text = upstream.get(version).and_then(|judged| judged.upstream());
        let names: Vec<&str> = text.into_iter().chain([version.as_str()]).collect();
        rules.exclude.iter().any(|excluded| excluded.names(&names))
    };
    let mut found = Vec::new();
    for version in shelf.slots.keys().filter(|version| !is_whole(version)) {
        let is_excluded = is_excluded(version);
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
