//! The plan: which of the upstream's releases the repository lacks, and why.
//!
//! Owns selection and the difference between what is wanted and what is published. Pure: no I/O
//! and no clock; the same arguments give the same plan.

use std::collections::BTreeSet;

use jiff::Timestamp;
use thiserror::Error;

use crate::config::component::AssetAt;
use crate::config::source::SourceRule;
use crate::config::trust::Strength;
use crate::config::{Component, Retention};
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::recipe::fingerprint;
use crate::repository::commit::Removal;
use crate::repository::shelf::{Names, Shelf};
use crate::repository::{Published, retention};
use crate::template::Vars;
use crate::version::{self, Version};

mod action;
pub(crate) mod assets;
mod company;
mod gone;
pub(crate) mod inputs;
mod judge;
mod ordered;
mod revision;
mod select;
mod trust;
mod verbatim;
mod verdict;
mod waiting;

use action::vars;
pub use action::{Action, Build, Why};
pub use company::{Because, Chosen, Company};
pub use judge::{Judged, Upstream};
pub use ordered::ordered;
use revision::Planner;
pub use select::{Asked, Candidate, Selection, select};
pub use trust::{Vouched, worth_remembering};
pub use verbatim::verbatim;
pub use verdict::{Out, Verdict};
pub use waiting::{Awaited, awaited};

/// What a sync will do for one component.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The component.
    pub component: ComponentName,
    /// What is to be done: builds, the newest version first, then lines that go, then files.
    pub actions: Vec<Action>,
    /// Every upstream release, the newest first, and whether it is wanted.
    pub verdicts: Vec<Verdict>,
    /// What is wanted but cannot be published.
    pub refusals: Vec<Refusal>,
    /// The newest version that is wanted.
    pub newest: Option<Version>,
    /// What is wanted, but not all there yet.
    pub waiting: Vec<Awaited>,
    /// Versions newer than the one that is pinned, the newest first.
    pub newer: Vec<Version>,
    /// Published versions that upstream no longer lists, the newest first.
    pub withdrawn: Vec<Version>,
    /// What vouches for the assets of the versions that are wanted.
    pub vouched: Vec<Vouched>,
}

impl Plan {
    /// The images to build.
    pub fn builds(&self) -> impl Iterator<Item = &Build> {
        self.actions.iter().filter_map(|action| match action {
            Action::Build(build) => Some(build),
            Action::Sign { .. }
            | Action::Yank(_)
            | Action::Remove(_)
            | Action::Delete(_)
            | Action::Await(_) => None,
        })
    }

    /// The versions to take out because their upstream did.
    pub fn yanks(&self) -> impl Iterator<Item = &Version> {
        self.actions.iter().filter_map(|action| match action {
            Action::Yank(version) => Some(version),
            Action::Build(_)
            | Action::Sign { .. }
            | Action::Remove(_)
            | Action::Delete(_)
            | Action::Await(_) => None,
        })
    }

    /// Why the manifest is to be signed even if nothing else changes, if it is.
    #[must_use]
    pub fn sign(&self) -> Option<Why> {
        self.actions.iter().find_map(|action| match action {
            Action::Sign { why } => Some(*why),
            Action::Build(_)
            | Action::Yank(_)
            | Action::Remove(_)
            | Action::Delete(_)
            | Action::Await(_) => None,
        })
    }

    /// The lines that go.
    pub fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.actions.iter().filter_map(|action| match action {
            Action::Remove(removal) => Some(removal),
            Action::Build(_)
            | Action::Sign { .. }
            | Action::Yank(_)
            | Action::Delete(_)
            | Action::Await(_) => None,
        })
    }

    /// The assets that nothing vouches for, each once.
    #[must_use]
    pub fn unverified(&self) -> Vec<&str> {
        let nothing = self.vouched.iter().filter(|asset| asset.strength == Strength::Nothing);
        let names: BTreeSet<&str> = nothing.map(|asset| asset.asset.as_str()).collect();
        names.into_iter().collect()
    }

    /// The files that go.
    pub fn deletions(&self) -> impl Iterator<Item = &FileName> {
        self.actions.iter().filter_map(|action| match action {
            Action::Delete(name) => Some(name),
            Action::Build(_)
            | Action::Sign { .. }
            | Action::Yank(_)
            | Action::Remove(_)
            | Action::Await(_) => None,
        })
    }

    /// The waiting that begins now.
    pub fn begun(&self) -> impl Iterator<Item = &Awaited> {
        self.actions.iter().filter_map(|action| match action {
            Action::Await(awaited) => Some(awaited),
            Action::Build(_)
            | Action::Sign { .. }
            | Action::Yank(_)
            | Action::Remove(_)
            | Action::Delete(_) => None,
        })
    }

    /// Whether a build is only another try at what is waited for.
    #[must_use]
    pub fn is_awaited(&self, build: &Build) -> bool {
        self.waiting.iter().any(|awaited| awaited.version == build.version)
    }
}

/// A release that is wanted, but must not be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{tag}: {problem}")]
pub struct Refusal {
    /// Upstream's name for it.
    pub tag: String,
    /// What is wrong.
    pub problem: String,
    /// A way out.
    pub hint: String,
}

/// What a plan rests on, besides the component, its upstream and its folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Basis {
    /// The digest of the component's overlay, see [`fingerprint::overlay`].
    pub overlay: Option<Sha256>,
    /// How long what is no longer offered is kept.
    pub retention: Retention,
    /// Whether the store reads a `+` in a path as a blank.
    pub plus_is_blank: bool,
    /// The least that must vouch for an asset.
    pub require: Strength,
    /// Whether somebody said that others may sign from now on what we signed.
    pub adopt: bool,
}

/// Compares what upstream has with what is published.
///
/// `arches` are those the component is built for, with upstream's names; `now` is what ages are
/// measured against. `published` should have learned what [`worth_knowing`] names.
#[must_use]
pub fn plan(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &Upstream,
    published: &Published,
    basis: Basis,
    now: Timestamp,
) -> Plan {
    let planner = Planner::new(component, arches, upstream, published, basis, now);
    let most = basis.retention.max_delete;
    let gone = gone::gone(component, arches, upstream, &planner.shelf, most);
    let Selection { wanted, verdicts, mut refusals, waiting } = planner.select();
    refusals.extend(gone.refusals);
    let is_awaited = |version: &Version| waiting.iter().any(|awaited| awaited.version == *version);
    let newest = wanted
        .iter()
        .map(|candidate| &candidate.version)
        .chain(waiting.iter().map(|awaited| &awaited.version))
        .max()
        .cloned();
    // What is waited for takes no place from what is there.
    let places = wanted.iter().map(|candidate| &candidate.version);
    let staying = planner.staying(&places.filter(|version| !is_awaited(version)).collect());
    let vouched = trust::vouched(&planner, &wanted);
    let mut actions: Vec<Action> = gone.yanks.into_iter().map(Action::Yank).collect();
    let mut shelf = planner.all.clone();
    for candidate in &wanted {
        let awaited = is_awaited(&candidate.version);
        if !awaited && !staying.contains(&candidate.version) {
            continue;
        }
        let too_weak = || trust::refusal(candidate, &vouched, basis.require);
        match planner.builds(candidate, &verdicts) {
            Ok(builds) if !builds.is_empty() && too_weak().is_some() => refusals.extend(too_weak()),
            Ok(builds) => {
                for build in builds {
                    let Build { version, revision, arch, image, .. } = &build;
                    // Nothing goes for what may not come.
                    if !awaited {
                        shelf.put(version.clone(), *revision, *arch, image.clone());
                    }
                    actions.push(Action::Build(build));
                }
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    let known: Vec<Arch> = arches.iter().map(|(arch, _)| *arch).collect();
    let removals = retention::removals(&shelf, published, &component.versions, &known);
    actions.extend(removals.into_iter().map(Action::Remove));
    let (due, _) = retention::due(published, basis.retention.grace, now);
    let comes_back = |name: &FileName| {
        actions.iter().any(|action| matches!(action, Action::Build(build) if build.image == *name))
    };
    let due: Vec<FileName> = due.into_iter().filter(|name| !comes_back(name)).collect();
    actions.extend(due.into_iter().map(Action::Delete));
    let begun = waiting.iter().filter(|awaited| awaited.is_new && !awaited.retry);
    actions.extend(begun.cloned().map(Action::Await));
    let newer = newer_than_pin(component, &verdicts);
    let withdrawn = withdrawn(component, upstream, &planner.all);
    let component = component.name.clone();
    Plan { component, actions, verdicts, refusals, newest, waiting, newer, withdrawn, vouched }
}

/// The versions that would be wanted, if an older one were not pinned.
fn newer_than_pin(component: &Component, verdicts: &[Verdict]) -> Vec<Version> {
    let Some(pin) = &component.versions.pin else { return Vec::new() };
    let pin = component.versions.written(pin);
    let others = verdicts.iter().filter(|verdict| verdict.out == Some(Out::NotPinned));
    let mut newer: Vec<Version> = others
        .filter_map(|verdict| verdict.version.clone())
        .filter(|version| version::compare(version.as_str(), &pin).is_gt())
        .collect();
    newer.sort_by(|a, b| b.cmp(a));
    newer
}

/// The published versions that upstream took back: it lists older ones than these. A page does not list
/// all that there is, so it tells nothing.
fn withdrawn(component: &Component, upstream: &Upstream, shelf: &Shelf) -> Vec<Version> {
    // Of a mirror it is told as a refusal, or followed.
    if !upstream.complete
        || matches!(component.source, SourceRule::Http(_) | SourceRule::Repository(_))
    {
        return Vec::new();
    }
    let listed = upstream.versions();
    let is_listed = |version: &Version| {
        listed.contains(version)
            || upstream.judged.iter().any(|judged| judged.upstream() == Some(version.as_str()))
    };
    let lists_older = |version: &Version| {
        let prefix = |version: &Version| version::prefix_of(version.as_str()).len();
        listed.range(..version).any(|older| prefix(older) == prefix(version))
    };
    let published = shelf.slots.keys().rev();
    published.filter(|version| !is_listed(version) && lists_older(version)).cloned().collect()
}

/// The images whose making a plan wants to know: those of the versions that are wanted, and what
/// looks like a revision.
#[must_use]
pub fn worth_knowing(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &Upstream,
    published: &Published,
    basis: Basis,
    now: Timestamp,
) -> Vec<FileName> {
    let planner = Planner::new(component, arches, upstream, published, basis, now);
    let Selection { wanted, waiting, .. } = planner.select();
    let wanted: BTreeSet<Version> = wanted
        .into_iter()
        .map(|candidate| candidate.version)
        .chain(waiting.into_iter().map(|awaited| awaited.version))
        .collect();
    let names = Names::of(component);
    let listed = published.manifest.files().map(|(name, _)| name);
    let mut worth: Vec<FileName> = Vec::new();
    for name in listed.chain(published.catalogue.removed.keys()) {
        let Some((shown, arch)) = names.read(name) else { continue };
        if wanted.contains(&shown) || shown.unrevised().is_some() {
            worth.push(name.clone());
            // The others of an OS are part of it.
            if component.mirrored().is_some() {
                let others = file_names(component, &shown, arch).unwrap_or_default();
                worth.extend(others.into_iter().skip(1));
            }
        }
    }
    worth
}

/// `it has a, b and 3 more`
fn has(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        0 => "it has none".to_owned(),
        1..=SHOWN => format!("it has {}", names.join(", ")),
        more => format!("it has {} and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

/// What the variables of a published name stand for.
fn vars_of_name<'a>(component: &'a Component, version: &'a Version, arch: Arch) -> Vars<'a> {
    let (name, version) = (component.name.as_str(), version.as_str());
    Vars { name, version, arch: arch.as_str(), tag: version, ..Vars::default() }
}

/// What an image of this version and architecture is called.
///
/// # Errors
/// The name is none that a manifest could list.
pub fn image_name(
    component: &Component,
    version: &Version,
    arch: Arch,
) -> Result<FileName, String> {
    let vars = vars_of_name(component, version, arch);
    let name = component.image.name.expand(&vars);
    // Files beside it and on the way have its name and a little more.
    if name.len() > 240 {
        return Err(format!(
            "the image's name would have {} characters, more than 240",
            name.len()
        ));
    }
    name.parse::<FileName>().map_err(|error| error.to_string())
}

/// What the files of a version and architecture are called: that of [`image_name`] first, then those of
/// a mirror that are published with it.
///
/// # Errors
/// A name is none that a manifest could list.
pub fn file_names(
    component: &Component,
    version: &Version,
    arch: Arch,
) -> Result<Vec<FileName>, String> {
    let mut names = vec![image_name(component, version, arch)?];
    let vars = vars_of_name(component, version, arch);
    for pattern in component.mirrored().iter().flat_map(|rule| &rule.patterns).skip(1) {
        let name = pattern.expand(&vars).parse();
        names.push(name.map_err(|error: crate::name::NameError| error.to_string())?);
    }
    Ok(names)
}

/// The recipe of an image, as a number.
fn recipe_of(
    component: &Component,
    overlay: Option<Sha256>,
    candidate: &Candidate,
    company: &Company,
    (arch, upstream_arch): &(Arch, String),
) -> Sha256 {
    let Candidate { upstream, release, .. } = candidate;
    // What is wrong with a rule is told by the build.
    let rules = assets::applicable(component, upstream).unwrap_or_default();
    let beside = company.beside(component, *arch, upstream_arch);
    let vars = vars(component, upstream, release, upstream_arch, &beside);
    if component.mirrored().is_some() {
        // Whatever the component says, the image is their file.
        let names = assets::names(component, &vars);
        let asset = names.first().and_then(|name| assets::named(release, name));
        if let Some(sha256) = asset.and_then(|asset| asset.sha256) {
            return sha256;
        }
    }
    let named = |at: &AssetAt| match at {
        AssetAt::Url(_) | AssetAt::Oci(_) => None,
        AssetAt::Name(name) => match assets::find(name, release, company, &vars) {
            Ok(asset) => Some(asset.name.clone()),
            Err(names) => names.into_iter().next(),
        },
    };
    let rules: Vec<_> = rules.into_iter().map(|rule| (rule, named(&rule.at))).collect();
    fingerprint::fingerprint(component, &rules, overlay, &vars, *arch)
}

/// The builds of a version that somebody asks for, as the revision that is given, whatever is
/// published. What is published of it tells which companions go in.
///
/// # Errors
/// A companion that does not fit, or a name that no image can have.
pub fn asked_for(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &Upstream,
    published: &Published,
    basis: Basis,
    candidate: &Candidate,
    revision: u32,
) -> Result<Vec<Build>, Refusal> {
    let now = Timestamp::UNIX_EPOCH;
    let planner = Planner::new(component, arches, upstream, published, basis, now);
    let company = planner.company(candidate)?;
    let refuse = |problem: String| Refusal {
        tag: candidate.release.tag.clone(),
        problem,
        hint: "change [image] name".to_owned(),
    };
    let shown =
        candidate.version.revised(revision).map_err(|problem| refuse(problem.to_string()))?;
    let build = |at: &(Arch, String)| {
        let image = image_name(component, &shown, at.0).map_err(refuse)?;
        let recipe = recipe_of(component, basis.overlay, candidate, &company, at);
        let as_published = planner.build(candidate, revision, &shown, at, image, recipe, &company);
        // What differs is told, not refused.
        Ok(Build { why: Why::Asked, ..as_published })
    };
    arches.iter().map(build).collect()
}

#[cfg(test)]
mod tests;
