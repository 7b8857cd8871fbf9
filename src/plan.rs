//! The plan: which of the upstream's releases the repository lacks, and why.
//!
//! Owns selection and the difference between what is wanted and what is published. Pure: no I/O
//! and no clock; the same arguments give the same plan.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::config::component::{AssetAt, AssetRule};
use crate::config::{Component, Retention};
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::recipe::fingerprint;
use crate::repository::commit::{InputRecord, Removal};
use crate::repository::shelf::Names;
use crate::repository::{Published, retention};
use crate::source::{Asset, Release};
use crate::template::Vars;
use crate::version::Version;

mod gone;
pub(crate) mod inputs;
mod revision;
mod select;
mod verbatim;

use revision::Planner;
pub use select::{Candidate, Out, Selection, Verdict, select, versions_of};
pub use verbatim::verbatim;

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
}

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Build an image and publish it.
    Build(Build),
    /// Sign the manifest, whose lines stay as they are.
    Sign {
        /// The reason.
        why: Why,
    },
    /// Take a version out, because its upstream did.
    Yank(Version),
    /// Take a line out of the manifest; its file stays for the grace.
    Remove(Removal),
    /// Delete a file whose grace is over.
    Delete(FileName),
}

impl Plan {
    /// The images to build.
    pub fn builds(&self) -> impl Iterator<Item = &Build> {
        self.actions.iter().filter_map(|action| match action {
            Action::Build(build) => Some(build),
            Action::Sign { .. } | Action::Yank(_) | Action::Remove(_) | Action::Delete(_) => None,
        })
    }

    /// The versions to take out because their upstream did.
    pub fn yanks(&self) -> impl Iterator<Item = &Version> {
        self.actions.iter().filter_map(|action| match action {
            Action::Yank(version) => Some(version),
            Action::Build(_) | Action::Sign { .. } | Action::Remove(_) | Action::Delete(_) => None,
        })
    }

    /// Why the manifest is to be signed even if nothing else changes, if it is.
    #[must_use]
    pub fn sign(&self) -> Option<Why> {
        self.actions.iter().find_map(|action| match action {
            Action::Sign { why } => Some(*why),
            Action::Build(_) | Action::Yank(_) | Action::Remove(_) | Action::Delete(_) => None,
        })
    }

    /// The lines that go.
    pub fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.actions.iter().filter_map(|action| match action {
            Action::Remove(removal) => Some(removal),
            Action::Build(_) | Action::Sign { .. } | Action::Yank(_) | Action::Delete(_) => None,
        })
    }

    /// The files that go.
    pub fn deletions(&self) -> impl Iterator<Item = &FileName> {
        self.actions.iter().filter_map(|action| match action {
            Action::Delete(name) => Some(name),
            Action::Build(_) | Action::Sign { .. } | Action::Yank(_) | Action::Remove(_) => None,
        })
    }
}

/// An image to build.
#[derive(Debug, Clone)]
pub struct Build {
    /// The release it is made from.
    pub release: Arc<Release>,
    /// Its upstream version: what templates and texts in the image say.
    pub version: Version,
    /// Which revision of that it is; 0 is the first.
    pub revision: u32,
    /// The version that clients see: with the revision.
    pub shown: Version,
    /// Its architecture.
    pub arch: Arch,
    /// What upstream calls the architecture.
    pub upstream_arch: String,
    /// What the image is called.
    pub image: FileName,
    /// The reason.
    pub why: Why,
    /// What decides its bytes, but for what upstream gives.
    pub recipe: Sha256,
    /// What was fetched for the published image of this version: the same again, or it is an alarm.
    pub expects: Vec<InputRecord>,
    /// What the published image is dated, if this is to be the same one again.
    pub time: Option<u64>,
}

impl Build {
    /// What the component's templates stand for in this build.
    #[must_use]
    pub fn vars<'a>(&'a self, component: &'a Component) -> Vars<'a> {
        vars(component, &self.version, &self.release, &self.upstream_arch)
    }
}

fn vars<'a>(
    component: &'a Component,
    version: &'a Version,
    release: &'a Release,
    arch: &'a str,
) -> Vars<'a> {
    let (name, version) = (component.name.as_str(), version.as_str());
    Vars { name, version, arch, tag: &release.tag, url: "" }
}

/// Why an image is built, or a manifest signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The repository has no image of this version.
    NewVersion,
    /// It has this version, but not for this architecture.
    NewArchitecture,
    /// It has this version, but made by another recipe: this is a revision of it.
    RecipeChanged,
    /// It has this version, but upstream replaced a file, and somebody accepted that.
    InputsChanged,
    /// The manifest lists the image, but the file is gone.
    FileGone,
    /// The manifest lists the image, but the file has not the length it was published with.
    FileDamaged,
    /// Somebody asked for just this image.
    Asked,
    /// Nobody has signed the manifest yet.
    NotSigned,
    /// The signature is not the configured key's, or not over this manifest.
    StaleSignature,
    /// Less than half is left of the time that clients may believe the manifest.
    Renew,
    /// A mirror that is published as it is has another manifest or signature by now.
    UpstreamSigned,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NewVersion => "new version",
            Self::NewArchitecture => "new architecture",
            Self::RecipeChanged => "the recipe changed",
            Self::InputsChanged => "upstream replaced a file, and that was accepted",
            Self::FileGone => "listed, but the file is gone",
            Self::FileDamaged => "listed, but the file is damaged",
            Self::Asked => "asked for",
            Self::NotSigned => "not signed yet",
            Self::StaleSignature => "the signature is not this key's, or not of this manifest",
            Self::Renew => "in time before it expires",
            Self::UpstreamSigned => "as upstream signed it",
        })
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
}

/// Compares what upstream has with what is published.
///
/// `arches` are those the component is built for, with upstream's names; `now` is what ages are
/// measured against. `published` should have learned what [`worth_knowing`] names.
#[must_use]
pub fn plan(
    component: &Component,
    arches: &[(Arch, String)],
    releases: Vec<Release>,
    published: &Published,
    basis: Basis,
    now: Timestamp,
) -> Plan {
    let planner = Planner::new(component, arches, &releases, published, basis);
    let most = basis.retention.max_delete;
    let gone = gone::gone(component, arches, &releases, &planner.shelf, most);
    let Selection { wanted, verdicts, mut refusals } =
        select(component, releases, &|version, release| planner.held_back(version, release), now);
    let newest = wanted.first().map(|candidate| candidate.version.clone());
    let versions: Vec<&Version> = wanted.iter().map(|candidate| &candidate.version).collect();
    refusals.extend(gone.refusals);
    let mut actions: Vec<Action> = gone.yanks.into_iter().map(Action::Yank).collect();
    let mut shelf = planner.all.clone();
    for candidate in &wanted {
        if !planner.is_kept(&candidate.version, &versions) {
            continue;
        }
        match planner.builds(candidate, &verdicts) {
            Ok(builds) => {
                for build in builds {
                    let Build { version, revision, arch, image, .. } = &build;
                    shelf.put(version.clone(), *revision, *arch, image.clone());
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
    Plan { component: component.name.clone(), actions, verdicts, refusals, newest }
}

/// The images whose making a plan wants to know: those of the versions that are wanted, and what
/// looks like a revision.
#[must_use]
pub fn worth_knowing(
    component: &Component,
    arches: &[(Arch, String)],
    releases: Vec<Release>,
    published: &Published,
    basis: Basis,
    now: Timestamp,
) -> Vec<FileName> {
    let planner = Planner::new(component, arches, &releases, published, basis);
    let held_back = |version: &Version, release: &Release| planner.held_back(version, release);
    let wanted = select(component, releases, &held_back, now).wanted;
    let wanted: BTreeSet<Version> = wanted.into_iter().map(|candidate| candidate.version).collect();
    let names = Names::of(component);
    let listed = published.manifest.files().map(|(name, _)| name);
    listed
        .chain(published.catalogue.removed.keys())
        .filter(|name| {
            names
                .read(name)
                .is_some_and(|(shown, _)| wanted.contains(&shown) || shown.unrevised().is_some())
        })
        .cloned()
        .collect()
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
    Vars { name, version, arch: arch.as_str(), tag: version, url: "" }
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

/// The names of the release's files that are wanted of it.
fn asset_names(component: &Component, vars: &Vars<'_>) -> Vec<String> {
    let named = component.assets.iter().filter_map(|rule| match &rule.at {
        AssetAt::Name(name) => Some(name.expand(vars)),
        AssetAt::Url(_) => None,
    });
    named.collect()
}

/// The asset rules that hold for a version.
///
/// # Errors
/// A rule has a `when`, but the version is not semver.
pub fn applicable<'c>(
    component: &'c Component,
    version: &Version,
) -> Result<Vec<&'c AssetRule>, String> {
    let mut rules = Vec::new();
    for rule in &component.assets {
        let holds = match &rule.when {
            None => true,
            Some(when) => when.matches(&version.semver().ok_or_else(|| {
                format!("`when` cannot be told for `{version}`, which is not semver")
            })?),
        };
        if holds {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// The release's asset of this name.
#[must_use]
pub fn find_asset<'r>(release: &'r Release, name: &str) -> Option<&'r Asset> {
    release.assets.iter().find(|asset| asset.name == name)
}

/// The recipe of an image, as a number.
#[must_use]
pub fn recipe_of(
    component: &Component,
    overlay: Option<Sha256>,
    version: &Version,
    release: &Release,
    arch: Arch,
    upstream_arch: &str,
) -> Sha256 {
    // What is wrong with a rule is told by the build.
    let rules = applicable(component, version).unwrap_or_default();
    let vars = vars(component, version, release, upstream_arch);
    if component.mirrored().is_some() {
        // Whatever the component says, the image is their file.
        let names = asset_names(component, &vars);
        let asset = names.first().and_then(|name| find_asset(release, name));
        if let Some(sha256) = asset.and_then(|asset| asset.sha256) {
            return sha256;
        }
    }
    fingerprint::fingerprint(component, &rules, overlay, &vars, arch)
}

/// The names of assets that the build picks from the release, but that are not there.
fn missing_assets(component: &Component, build: &Build) -> Vec<String> {
    let vars = build.vars(component);
    let rules = applicable(component, &build.version).unwrap_or_default();
    rules
        .into_iter()
        .filter_map(|rule| match &rule.at {
            AssetAt::Name(name) => Some(name.expand(&vars)),
            AssetAt::Url(_) => None,
        })
        .filter(|name| find_asset(&build.release, name).is_none())
        .collect()
}

#[cfg(test)]
mod tests;
