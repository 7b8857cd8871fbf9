//! What a sync does about releases that are not all there yet.
//!
//! Owns what the catalogue remembers of them. Whether they may be waited for is the plan's to say.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Outcome;
use crate::build::BuildError;
use crate::config::Component;
use crate::fetch::FetchError;
use crate::manifest::Manifest;
use crate::plan::{Awaited, Build, Plan, Why, awaited};
use crate::report::Told;
use crate::repository::Published;
use crate::repository::catalogue::Waiting;
use crate::repository::shelf::Names;
use crate::stage::StagedError;
use crate::trust::TrustError;

/// Whether a build that failed may succeed once upstream has put everything up: a file of a new
/// version is not there.
pub(super) fn is_absent(component: &Component, build: &Build, error: &BuildError) -> bool {
    // Whoever lists a file with its digest has it.
    if component.mirrored().is_some() {
        return false;
    }
    let is_new = matches!(build.why, Why::NewVersion | Why::NewArchitecture);
    is_new && lacking(error).is_some()
}

/// The file that is not there, if that is why a build failed.
#[must_use]
pub fn lacking(error: &BuildError) -> Option<String> {
    if let BuildError::Staged(StagedError::Absent { lacks }) = error {
        return Some(lacks.clone());
    }
    let (asset, fault) = fault(error).filter(|(_, fault)| fault.is_not_found())?;
    Some(absent_file(fault).unwrap_or(asset).to_owned())
}

/// The asset that could not be had, and why: it, or what should vouch for it, may be what is missing.
fn fault(error: &BuildError) -> Option<(&str, &FetchError)> {
    match error {
        BuildError::Fetch { asset, source }
        | BuildError::Trust { asset, source: TrustError::Fetch(source) } => Some((asset, source)),
        _ => None,
    }
}

/// The name of the file that is not there.
fn absent_file(error: &FetchError) -> Option<&str> {
    match error {
        FetchError::Shared(error) => absent_file(error),
        FetchError::Status { url, .. } => {
            let url = url.split([' ', '?', '#']).next()?;
            url.rsplit('/').next().filter(|name| !name.is_empty())
        }
        _ => None,
    }
}

/// Remembers the waiting that a plan begins; what is not waited for any more is forgotten then. Says
/// whether the catalogue is another one now.
pub(super) fn begin(published: &mut Published, plan: &Plan) -> bool {
    if plan.begun().next().is_none() {
        return false;
    }
    let waiting = &mut published.catalogue.waiting;
    waiting.retain(|version, _| plan.waiting.iter().any(|awaited| awaited.version == *version));
    for Awaited { version, since, lacks, .. } in plan.begun() {
        waiting.insert(version.clone(), Waiting { since: *since, lacks: lacks.clone() });
    }
    true
}

/// Tells of builds whose files were not there: what may be waited for, and what not. Says whether the
/// catalogue is another one now.
pub(super) fn tell(
    component: &Component,
    before: &Manifest,
    absent: &[(&Build, BuildError)],
    published: &mut Published,
    outcome: &mut Outcome,
) -> bool {
    let mut changed = false;
    let mut told = BTreeSet::new();
    let now = Timestamp::now();
    for (build, error) in absent {
        let version = &build.version;
        let names = Names::of(component);
        let listed = before.files().filter_map(|(name, _)| Some(names.read(name)?.0));
        let may_begin = listed.into_iter().any(|published| published < *version);
        let seen = published.catalogue.waiting.get(version).map(|waiting| waiting.since);
        let lacks = lacking(error).map_or_else(|| error.to_string(), |file| format!("`{file}`"));
        let dates = (build.release.published, seen);
        match awaited(&component.versions, version, lacks, dates, may_begin, now) {
            None => {
                let subject = format!("{} {} {}", component.name, build.shown, build.arch);
                outcome.errors.push(Told::of(&subject, error));
            }
            Some(_) if !told.insert(version) => {}
            Some(awaited) => {
                if seen.is_none() {
                    let Awaited { since, lacks, .. } = awaited.clone();
                    let waiting = Waiting { since, lacks };
                    published.catalogue.waiting.insert(version.clone(), waiting);
                    changed = true;
                }
                outcome.waiting.retain(|known| known.version != *version);
                outcome.waiting.push(awaited);
            }
        }
    }
    changed
}
