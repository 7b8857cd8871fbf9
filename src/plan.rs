//! The plan: which of the upstream's releases the repository lacks, and why.
//!
//! Owns selection and the difference between what is wanted and what is published. Pure: no I/O
//! and no clock; the same arguments give the same plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::config::Component;
use crate::config::component::{AssetAt, AssetRule, Per, SourceRule};
use crate::name::{Arch, ComponentName, FileName};
use crate::repository::Published;
use crate::source::{Asset, Release};
use crate::template::{Template, Vars};
use crate::version::{self, Version};

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

/// Why an image is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The repository has no image of this version.
    NewVersion,
    /// It has this version, but not for this architecture.
    NewArchitecture,
    /// The manifest lists the image, but the file is gone.
    FileGone,
    /// Somebody asked for just this image.
    Asked,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NewVersion => "new version",
            Self::NewArchitecture => "new architecture",
            Self::FileGone => "listed, but the file is gone",
            Self::Asked => "asked for",
        })
    }
}

/// An upstream release, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Upstream's name for it.
    pub tag: String,
    /// `None`: it is wanted. Otherwise why it is not.
    pub out: Option<Out>,
}

/// Why a release is not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Out {
    /// The tag is no version.
    Tag {
        /// What a tag looks like.
        template: String,
    },
    /// `exclude` lists it.
    Excluded,
    /// `require` does not hold.
    Requirement,
    /// It is a pre-release.
    Prerelease,
    /// It is younger than `min-age`.
    TooYoung,
    /// Its age is not known, and there is a `min-age`.
    AgeUnknown,
    /// There are enough newer ones.
    Superseded,
    /// Another tag is the same version.
    Duplicate,
    /// It is wanted, but no client could use it.
    Refused,
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { template } => write!(f, "the tag does not look like `{template}`"),
            Self::Excluded => f.write_str("excluded"),
            Self::Requirement => f.write_str("does not meet `require`"),
            Self::Prerelease => f.write_str("a pre-release"),
            Self::TooYoung => f.write_str("younger than `min-age`"),
            Self::AgeUnknown => {
                f.write_str("`min-age` is set, but upstream does not tell the release's date")
            }
            Self::Superseded => f.write_str("there are enough newer ones"),
            Self::Duplicate => f.write_str("another tag is the same version"),
            Self::Refused => f.write_str("refused, see the error"),
        }
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
        for (arch, theirs) in arches {
            let image = match image_name(component, &version, *arch) {
                Ok(image) => image,
                Err(problem) => {
                    refusals.push(Refusal {
                        tag: release.tag.clone(),
                        problem,
                        hint: "change [image] name, or exclude the version".to_owned(),
                    });
                    continue;
                }
            };
            let why = match (published.manifest.get(&image), published.has_file(&image)) {
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

/// A release that is wanted, under the version it will have.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its version.
    pub version: Version,
    /// The release.
    pub release: Arc<Release>,
}

/// What [`select`] decided.
#[derive(Debug)]
pub struct Selection {
    /// The newest first.
    pub wanted: Vec<Candidate>,
    /// For every release, the newest first.
    pub verdicts: Vec<Verdict>,
    /// Wanted, but not to be published as they are.
    pub refusals: Vec<Refusal>,
}

/// Selects the releases that the component wants.
#[must_use]
pub fn select(component: &Component, mut releases: Vec<Release>, now: Timestamp) -> Selection {
    // The newest first, by the clients' order of the raw tags: good enough to read, and stable.
    releases.sort_by(|a, b| version::compare(&b.tag, &a.tag).then_with(|| a.tag.cmp(&b.tag)));
    let rules = &component.versions;
    let mut verdicts = Vec::new();
    let mut refusals = Vec::new();
    let mut wanted: Vec<(usize, Candidate)> = Vec::new();
    for release in releases {
        let tag = release.tag.clone();
        let out = match judge(component, &release, now) {
            Judgement::Out(out) => Some(out),
            Judgement::Refused(refusal) => {
                refusals.push(refusal);
                Some(Out::Refused)
            }
            Judgement::Wanted(version) => {
                if wanted.iter().any(|(_, known)| known.version.client_cmp(&version).is_eq()) {
                    Some(Out::Duplicate)
                } else {
                    wanted
                        .push((verdicts.len(), Candidate { version, release: Arc::new(release) }));
                    None
                }
            }
        };
        verdicts.push(Verdict { tag, out });
    }
    wanted.sort_by(|(_, a), (_, b)| b.version.cmp(&a.version));
    let mut held: BTreeMap<Branch, usize> = BTreeMap::new();
    wanted.retain(|(verdict, candidate)| {
        let held = held.entry(branch(rules.per, &candidate.version)).or_default();
        *held += 1;
        let keep = *held <= rules.newest.get();
        if !keep {
            verdicts[*verdict].out = Some(Out::Superseded);
        }
        keep
    });
    refuse_disorder(&mut wanted, &mut verdicts, &mut refusals);
    let wanted = wanted.into_iter().map(|(_, candidate)| candidate).collect();
    Selection { wanted, verdicts, refusals }
}

enum Judgement {
    Wanted(Version),
    Out(Out),
    Refused(Refusal),
}

fn judge(component: &Component, release: &Release, now: Timestamp) -> Judgement {
    let rules = &component.versions;
    let Some(text) = version_of(component, &release.tag) else {
        let template = rules.tag.as_ref().map_or("{version}", Template::as_str).to_owned();
        return Judgement::Out(Out::Tag { template });
    };
    if rules.exclude.iter().any(|excluded| excluded == text || *excluded == release.tag) {
        return Judgement::Out(Out::Excluded);
    }
    let semver = version::semver_of(text);
    let prerelease =
        release.prerelease || semver.as_ref().is_some_and(|semver| !semver.pre.is_empty());
    if prerelease && !rules.prerelease {
        return Judgement::Out(Out::Prerelease);
    }
    if let Some(requirement) = &rules.require {
        // Whether pre-releases are wanted was asked already; semver would ask again.
        let holds = semver.is_some_and(|mut semver| {
            semver.pre = semver::Prerelease::EMPTY;
            requirement.matches(&semver)
        });
        if !holds {
            return Judgement::Out(Out::Requirement);
        }
    }
    if let Some(min_age) = rules.min_age {
        match release.published {
            None => return Judgement::Out(Out::AgeUnknown),
            Some(at) if age(at, now) < min_age => return Judgement::Out(Out::TooYoung),
            Some(_) => {}
        }
    }
    let refused = |problem: String, hint: &str| {
        Judgement::Refused(Refusal { tag: release.tag.clone(), problem, hint: hint.to_owned() })
    };
    match text.parse::<Version>() {
        Err(error) => refused(
            error.to_string(),
            "exclude it in [versions], or let `tag` or `match` leave that part out",
        ),
        Ok(version) if version::outlives_its_final(&version) => refused(
            format!(
                "nodes would take `{version}` for newer than its final release, and never move on to that"
            ),
            "leave pre-releases out: [versions] prerelease = false",
        ),
        Ok(version) => Judgement::Wanted(version),
    }
}

fn age(published: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(published)).unwrap_or_default()
}

/// The version in a tag: by the template, or a plain one, or, where tags are a forge's, one with a
/// `v` before it.
fn version_of<'t>(component: &Component, tag: &'t str) -> Option<&'t str> {
    if let Some(template) = &component.versions.tag {
        let vars = Vars { name: component.name.as_str(), ..Vars::default() };
        return template.matcher(&vars, &[]).captures(tag).map(|(version, _)| version);
    }
    match component.source {
        SourceRule::Github(_) => {
            let version = tag.strip_prefix('v').unwrap_or(tag);
            version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
        }
        SourceRule::Http(_) | SourceRule::Directory(_) => Some(tag),
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Branch {
    All,
    Number(u64, Option<u64>),
    /// Not semver: a branch of its own.
    Odd(String),
}

fn branch(per: Option<Per>, version: &Version) -> Branch {
    match (per, version.semver()) {
        (None, _) => Branch::All,
        (Some(Per::Major), Some(semver)) => Branch::Number(semver.major, None),
        (Some(Per::Minor), Some(semver)) => Branch::Number(semver.major, Some(semver.minor)),
        (Some(_), None) => Branch::Odd(version.to_string()),
    }
}

/// Takes out versions that semver holds newer, but clients older, than another wanted one.
fn refuse_disorder(
    wanted: &mut Vec<(usize, Candidate)>,
    verdicts: &mut [Verdict],
    refusals: &mut Vec<Refusal>,
) {
    // The newest first for clients. Whatever semver holds newer than all before it came too late.
    let mut newest: Option<(semver::Version, Version)> = None;
    wanted.retain(|(verdict, candidate)| {
        let Some(semver) = candidate.version.semver() else { return true };
        match &newest {
            Some((top, above)) if semver.cmp_precedence(top).is_gt() => {
                verdicts[*verdict].out = Some(Out::Refused);
                refusals.push(Refusal {
                    tag: candidate.release.tag.clone(),
                    problem: format!(
                        "nodes would take `{above}` for newer than `{}`",
                        candidate.version
                    ),
                    hint: format!(
                        "exclude `{above}`, or give `tag` a form that orders as clients do"
                    ),
                });
                false
            }
            _ => {
                newest = Some((semver, candidate.version.clone()));
                true
            }
        }
    });
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
    component.image.name.expand(&vars).parse::<FileName>().map_err(|error| error.to_string())
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
        let builds = plan.actions.iter().map(|Action::Build(build)| build);
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
        let published = Published::new(manifest, ["x-1-x86-64.raw", "x-2-x86-64.raw"]);
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
        let names: Vec<String> = manifest.files().map(|(name, _)| name.to_string()).collect();
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
        };
        let releases = vec![Release { assets: [asset].into(), ..release("v1") }];
        let plan = plan(&component, &arches(), releases, &Published::default(), now());
        assert!(plan.actions.is_empty());
        assert_eq!(plan.refusals[0].problem, "the release has no asset `x-aarch64`");
        assert_eq!(plan.refusals[0].hint, "it has x-amd64");
    }
}
