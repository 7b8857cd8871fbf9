//! Selection: which of an upstream's releases a component wants, and why the others are out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Refusal;
use crate::config::Component;
use crate::config::source::SourceRule;
use crate::config::versions::Per;
use crate::source::Release;
use crate::template::{Template, Vars};
use crate::version::{self, Version};

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
