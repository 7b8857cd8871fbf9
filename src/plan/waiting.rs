//! Releases that are not all there yet: whoever publishes in steps is waited for, but not for ever.
//!
//! Owns when that is so. What it lacks is known from the source, or from a try that failed, which the
//! catalogue remembers.

use jiff::Timestamp;
use serde::Serialize;

use super::assets::{self, Missing};
use super::judge::age;
use super::revision::Planner;
use super::{Candidate, Company, vars};
use crate::config::versions::Versions;
use crate::name::Arch;
use crate::version::Version;

/// A version that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Awaited {
    /// The version.
    pub version: Version,
    /// What it lacks.
    pub lacks: String,
    /// Since when: its release, or when it was first seen.
    pub since: Timestamp,
    /// Until when. After that it is an error.
    pub until: Timestamp,
    /// Whether only a try can tell if it is there now.
    #[serde(skip)]
    pub retry: bool,
    /// Whether nobody remembers yet since when.
    #[serde(skip)]
    pub is_new: bool,
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, lacks, since, until, .. } = self;
        write!(f, "{version} waits for {lacks} since {since:.0}, at most until {until:.0}")
    }
}

/// A version that lacks something, if that may be waited for still. `published` is when upstream says
/// that it was released, `seen` since when the catalogue remembers it; one of which neither is
/// known is waited for from now on, if `is_new` allows it.
#[must_use]
pub fn awaited(
    rules: &Versions,
    version: &Version,
    lacks: String,
    (published, seen): (Option<Timestamp>, Option<Timestamp>),
    may_begin: bool,
    now: Timestamp,
) -> Option<Awaited> {
    let since = published.or(seen).or(may_begin.then_some(now))?;
    if age(since, now) >= rules.wait {
        return None;
    }
    let until = since.checked_add(rules.wait).unwrap_or(Timestamp::MAX);
    let is_new = published.is_none() && seen.is_none();
    Some(Awaited { version: version.clone(), lacks, since, until, retry: false, is_new })
}

impl Planner<'_> {
    /// Whether a version is not all there yet, and may be waited for.
    pub(super) fn awaited(&self, candidate: &Candidate) -> Option<Awaited> {
        let Candidate { version, release, .. } = candidate;
        // A manifest is written when all is there: what it lacks was never meant to come with it.
        if self.component.mirrored().is_some() {
            return None;
        }
        let rules = &self.component.versions;
        let offered = self.offered(version).map(|(_, files)| files).unwrap_or_default();
        let lacking: Vec<&(Arch, String)> = (0..self.arches.len())
            .filter(|index| !offered.contains_key(index))
            .map(|index| &self.arches[index])
            .collect();
        let seen = self.published.catalogue.waiting.get(version);
        if lacking.is_empty() || rules.partial && !offered.is_empty() && seen.is_none() {
            return None;
        }
        let wait = |lacks: String| {
            // Somebody who begins to follow an upstream wants to know what does not work.
            let may_begin = self.shelf.slots.keys().any(|published| published < version);
            let dates = (release.published, seen.map(|waiting| waiting.since));
            awaited(rules, version, lacks, dates, may_begin, self.now)
        };
        let company = match self.accompanied(candidate) {
            Ok(company) => company,
            Err(alone) => return wait(format!("a {}", alone.lacks)),
        };
        let missing = lacking.iter().map(|at| self.missing(candidate, &company, at));
        let missing: Vec<Vec<Missing>> = missing.collect();
        let buildable = missing.iter().any(Vec::is_empty);
        if let Some(first) = missing.iter().flatten().next()
            && !(rules.partial && buildable)
        {
            return wait(first.to_string());
        }
        Some(Awaited { retry: true, ..wait(seen?.lacks.clone())? })
    }

    pub(super) fn missing(
        &self,
        candidate: &Candidate,
        company: &Company,
        (arch, theirs): &(Arch, String),
    ) -> Vec<Missing> {
        let beside = company.beside(self.component, *arch, theirs);
        let vars = vars(self.component, &candidate.upstream, &candidate.release, theirs, &beside);
        assets::missing(self.component, &candidate.upstream, &candidate.release, company, &vars)
    }
}
