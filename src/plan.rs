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

use crate::config::Component;
use crate::config::component::{AssetAt, AssetRule};
use crate::name::{Arch, ComponentName, FileName};
use crate::repository::Published;
use crate::source::{Asset, Release};
use crate::template::Vars;
use crate::version::Version;

mod select;

pub use select::{Candidate, Out, Selection, Verdict, select};

/// What a sync will do for one component.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The component.
    pub component: ComponentName,
    /// What is to be done, the newest version first.
    pub actions: Vec<Action>,
    /// Every upstream release, the newest first, and whether it is wanted.
    pub verdicts: Vec<Verdict>,
    /// What is wanted but cannot be published.
    pub refusals: Vec<Refusal>,
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
}

impl Action {
    /// The image to build, if that is what is to be done.
    #[must_use]
    pub fn build(&self) -> Option<&Build> {
        match self {
            Self::Build(build) => Some(build),
            Self::Sign { .. } => None,
        }
    }
}

impl Plan {
    /// Why the manifest is to be signed even if no image comes out, if it is.
    #[must_use]
    pub fn sign(&self) -> Option<Why> {
        self.actions.iter().find_map(|action| match action {
            Action::Sign { why } => Some(*why),
            Action::Build(_) => None,
        })
    }
}

/// An image to build.
#[derive(Debug, Clone)]
pub struct Build {
    /// The release it is made from.
    pub release: Arc<Release>,
    /// Its version.
    pub version: Version,
    /// Its architecture.
    pub arch: Arch,
    /// What upstream calls the architecture.
    pub upstream_arch: String,
    /// What the image is called.
    pub image: FileName,
    /// The reason.
    pub why: Why,
}

impl Build {
    /// What the component's templates stand for in this build.
    #[must_use]
    pub fn vars<'a>(&'a self, component: &'a Component) -> Vars<'a> {
        Vars {
            name: component.name.as_str(),
            version: self.version.as_str(),
            arch: &self.upstream_arch,
            tag: &self.release.tag,
            url: "",
        }
    }
}

/// Why an image is built, or a manifest signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The repository has no image of this version.
    NewVersion,
    /// It has this version, but not for this architecture.
    NewArchitecture,
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
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NewVersion => "new version",
            Self::NewArchitecture => "new architecture",
            Self::FileGone => "listed, but the file is gone",
            Self::FileDamaged => "listed, but the file is damaged",
            Self::Asked => "asked for",
            Self::NotSigned => "not signed yet",
            Self::StaleSignature => "the signature is not this key's, or not of this manifest",
            Self::Renew => "in time before it expires",
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

/// Compares what upstream has with what is published.
///
/// `arches` are those the component is built for, with upstream's names; `now` is what ages are
/// measured against.
#[must_use]
pub fn plan(
    component: &Component,
    arches: &[(Arch, String)],
    releases: Vec<Release>,
    published: &Published,
    now: Timestamp,
) -> Plan {
    let Selection { wanted, verdicts, mut refusals } = select(component, releases, now);
    let mut actions = Vec::new();
    for Candidate { version, release } in wanted {
        let mut builds = Vec::new();
        let mut missing = BTreeSet::new();
        let mut unnameable = None;
        for (arch, theirs) in arches {
            let image = match image_name(component, &version, *arch) {
                Ok(image) => image,
                Err(problem) => {
                    unnameable = Some(problem);
                    break;
                }
            };
            let why = match (published.manifest.get(&image), published.has_file(&image)) {
                (Some(_), true) if published.is_damaged(&image) => Why::FileDamaged,
                (Some(_), true) => continue,
                (Some(_), false) => Why::FileGone,
                (None, _) => Why::NewVersion,
            };
            let build = Build {
                release: release.clone(),
                version: version.clone(),
                arch: *arch,
                upstream_arch: theirs.clone(),
                image,
                why,
            };
            missing.extend(missing_assets(component, &build));
            builds.push(build);
        }
        if let Some(problem) = unnameable {
            refusals.push(Refusal {
                tag: release.tag.clone(),
                problem,
                hint: "change [image] name, or exclude the version".to_owned(),
            });
            continue;
        }
        if let Some(first) = missing.first() {
            let known = release.assets.iter().map(|asset| asset.name.as_str()).collect::<Vec<_>>();
            refusals.push(Refusal {
                tag: release.tag.clone(),
                problem: format!("the release has no asset `{first}`"),
                hint: has(&known),
            });
            continue;
        }
        let partly =
            builds.iter().filter(|build| build.why == Why::NewVersion).count() < arches.len();
        for mut build in builds {
            if partly && build.why == Why::NewVersion {
                build.why = Why::NewArchitecture;
            }
            actions.push(Action::Build(build));
        }
    }
    Plan { component: component.name.clone(), actions, verdicts, refusals }
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

/// What an image of this version and architecture is called.
///
/// # Errors
/// The name is none that a manifest could list.
pub fn image_name(
    component: &Component,
    version: &Version,
    arch: Arch,
) -> Result<FileName, String> {
    let vars = Vars {
        name: component.name.as_str(),
        version: version.as_str(),
        arch: arch.as_str(),
        tag: version.as_str(),
        url: "",
    };
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

/// The names of the images that are wanted, published or not: what a plan must know most about.
#[must_use]
pub fn wanted_images(
    component: &Component,
    arches: &[(Arch, String)],
    releases: Vec<Release>,
    now: Timestamp,
) -> Vec<FileName> {
    let wanted = select(component, releases, now).wanted;
    let images = wanted.iter().flat_map(|Candidate { version, .. }| {
        arches.iter().filter_map(|(arch, _)| image_name(component, version, *arch).ok())
    });
    images.collect()
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
mod tests {
    use super::*;
    use crate::config::component;
    use crate::manifest::Manifest;
    use crate::name::Sha256;
    use crate::source::Asset;
    use crate::source::Location;
    use std::path::Path;

    const ARCHES: [(Arch, &str); 2] = [(Arch::X86_64, "amd64"), (Arch::Arm64, "aarch64")];

    fn arches() -> Vec<(Arch, String)> {
        ARCHES.map(|(arch, theirs)| (arch, theirs.to_owned())).to_vec()
    }

    fn component(rest: &str) -> Component {
        let text = format!("[source.github]\nrepo = \"o/r\"\n{rest}");
        component::parse("x".parse().unwrap(), Path::new("x.toml"), &text).unwrap()
    }

    fn release(tag: &str) -> Release {
        Release { tag: tag.to_owned(), published: None, prerelease: false, assets: [].into() }
    }

    fn now() -> Timestamp {
        "2025-01-10T00:00:00Z".parse().unwrap()
    }

    fn wanted(rules: &str, tags: &[&str]) -> Vec<String> {
        let releases = tags.iter().map(|tag| release(tag)).collect();
        let selection = select(&component(rules), releases, now());
        selection.wanted.into_iter().map(|candidate| candidate.version.to_string()).collect()
    }

    fn images(plan: &Plan) -> Vec<(String, Why)> {
        let builds = plan.actions.iter().filter_map(Action::build);
        builds.map(|build| (build.image.to_string(), build.why)).collect()
    }

    #[test]
    fn the_newest_are_wanted_in_the_clients_order() {
        assert_eq!(wanted("", &["v1.9", "v1.10", "v1.2", "v1.11"]), ["1.11", "1.10", "1.9"]);
        assert_eq!(wanted("[versions]\nnewest = 1\n", &["v1.9", "v1.10"]), ["1.10"]);
        let branches = "[versions]\nnewest = 1\nper = \"minor\"\n";
        assert_eq!(wanted(branches, &["v1.30.9", "v1.31.0", "v1.30.10"]), ["1.31.0", "1.30.10"]);
    }

    #[test]
    fn every_rule_leaves_out_what_it_says() {
        assert_eq!(wanted("", &["v1.0.0-rc1", "nightly", "v1.0.0"]), ["1.0.0"]);
        assert_eq!(
            wanted("[versions]\nexclude = [\"1.1\", \"v1.2\"]\n", &["v1.0", "v1.1", "v1.2"]),
            ["1.0"]
        );
        assert_eq!(wanted("[versions]\nrequire = \">=2\"\n", &["v1.0", "v2.1"]), ["2.1"]);
        assert_eq!(wanted("[versions]\ntag = \"x-{version}\"\n", &["v1.0", "x-1.1"]), ["1.1"]);
        assert_eq!(wanted("", &["v1.0", "1.0"]), ["1.0"]);
    }

    #[test]
    fn a_release_waits_until_it_is_old_enough() {
        let component = component("[versions]\nmin-age = \"2d\"\n");
        let dated = |tag: &str, at: Option<&str>| Release {
            published: at.map(|at| at.parse().unwrap()),
            ..release(tag)
        };
        let releases = vec![
            dated("v1", Some("2025-01-07T23:59:59Z")),
            dated("v2", Some("2025-01-08T00:00:01Z")),
            dated("v3", None),
        ];
        let outs: Vec<_> =
            select(&component, releases, now()).verdicts.into_iter().map(|v| v.out).collect();
        assert_eq!(outs, [Some(Out::AgeUnknown), Some(Out::TooYoung), None]);
    }

    #[test]
    fn what_nodes_would_misorder_is_refused() {
        let component = component("[versions]\nprerelease = true\n");
        let releases = ["v1.0.0-rc1", "v1.0~rc2", "v2.0+build", "v2.0.1"].map(release).to_vec();
        let selection = select(&component, releases, now());
        let mut refused: Vec<_> =
            selection.refusals.iter().map(|refusal| refusal.tag.as_str()).collect();
        refused.sort_unstable();
        assert_eq!(refused, ["v1.0.0-rc1", "v1.0~rc2", "v2.0.1"]);
    }

    #[test]
    fn only_what_is_missing_is_built_and_the_reason_is_told() {
        let component = component("");
        let releases = || vec![release("v1"), release("v2")];
        let mut manifest = Manifest::default();
        for name in ["x-1-x86-64.raw", "x-2-x86-64.raw", "x-2-arm64.raw"] {
            manifest.add(name.parse().unwrap(), Sha256::of(b"")).unwrap();
        }
        let published = Published::new(
            manifest,
            ["x-1-x86-64.raw", "x-2-x86-64.raw"].map(|name| (name.to_owned(), 1)),
        );
        let plan = plan(&component, &arches(), releases(), &published, now());
        assert_eq!(
            images(&plan),
            [
                ("x-2-arm64.raw".to_owned(), Why::FileGone),
                ("x-1-arm64.raw".to_owned(), Why::NewArchitecture)
            ]
        );
    }

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do() {
        let component = component("");
        let releases = || ["v1", "v2.1", "v2.0"].map(release).to_vec();
        let first = plan(&component, &arches(), releases(), &Published::default(), now());
        assert_eq!(first.actions.len(), 6);
        let mut manifest = Manifest::default();
        for (name, _) in images(&first) {
            manifest.add(name.parse().unwrap(), Sha256::of(b"")).unwrap();
        }
        let names: Vec<_> = manifest.files().map(|(name, _)| (name.to_string(), 1)).collect();
        let published = Published::new(manifest, names);
        assert!(plan(&component, &arches(), releases(), &published, now()).actions.is_empty());
    }

    #[test]
    fn half_a_release_is_refused_whole() {
        let component = component(
            "[[asset]]\nname = \"x-{arch}\"\n[asset.files]\n\"usr/bin/x\" = \"x-{arch}\"\n",
        );
        let asset = Asset {
            name: "x-amd64".to_owned(),
            at: Location::Url("https://e.org/x".to_owned()),
            sha256: None,
            private: None,
            size: None,
        };
        let releases = vec![Release { assets: [asset].into(), ..release("v1") }];
        let plan = plan(&component, &arches(), releases, &Published::default(), now());
        assert!(plan.actions.is_empty());
        assert_eq!(plan.refusals[0].problem, "the release has no asset `x-aarch64`");
        assert_eq!(plan.refusals[0].hint, "it has x-amd64");
    }
}
