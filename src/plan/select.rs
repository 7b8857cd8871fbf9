//! Selection: which of an upstream's releases a component wants, and why the others are out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Refusal;
use crate::config::Component;
use crate::config::source::SourceRule;
use crate::config::versions::Per;
use crate::repository::retention::Branch;
use crate::source::Release;
use crate::template::{Matcher, Template, Vars};
use crate::version::{self, Version};

/// An upstream release, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Upstream's name for it.
    pub tag: String,
    /// `None`: it is wanted. Otherwise why it is not.
    pub out: Option<Out>,
    /// Its version, if it has one.
    #[serde(skip)]
    pub version: Option<Version>,
}

impl Verdict {
    /// Whether it is published, or might be some day without a change of the configuration.
    pub(super) fn is_eligible(&self) -> bool {
        match &self.out {
            None
            | Some(
                Out::TooYoung
                | Out::AgeUnknown
                | Out::Superseded
                | Out::Duplicate
                | Out::Yanked { .. },
            ) => true,
            Some(
                Out::Tag { .. }
                | Out::Excluded
                | Out::Requirement
                | Out::NotSemver
                | Out::Prerelease
                | Out::Refused,
            ) => false,
        }
    }
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
    /// There is a `require`, but it is not semver.
    NotSemver,
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
    /// Somebody took it out of the repository.
    Yanked {
        /// Why, in their words.
        reason: Option<String>,
    },
    /// It is wanted, but no client could use it.
    Refused,
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { template } => write!(f, "the tag does not look like `{template}`"),
            Self::Excluded => f.write_str("excluded"),
            Self::Requirement => f.write_str("does not meet `require`"),
            Self::NotSemver => f.write_str("not semver, so `require` cannot be told"),
            Self::Prerelease => f.write_str("a pre-release"),
            Self::TooYoung => f.write_str("younger than `min-age`"),
            Self::AgeUnknown => {
                f.write_str("`min-age` is set, but upstream does not tell the release's date")
            }
            Self::Superseded => f.write_str("there are enough newer ones"),
            Self::Duplicate => f.write_str("another tag is the same version"),
            Self::Yanked { reason: None } => f.write_str("yanked"),
            Self::Yanked { reason: Some(reason) } => {
                write!(f, "yanked: {}", reason.escape_debug())
            }
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

/// The versions of these releases, wanted or not.
#[must_use]
pub fn versions_of(component: &Component, releases: &[Release]) -> BTreeSet<Version> {
    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    let matcher = component.versions.tag.as_ref().map(|template| template.matcher(&vars, &[]));
    let text = |release: &Release| {
        version_of(component, matcher.as_ref(), &release.tag)?.parse::<Version>().ok()
    };
    releases.iter().filter_map(text).collect()
}

/// Why a version is left out by who asks for a selection; `None` if it is not.
pub type Held<'h> = dyn Fn(&Version, &Release) -> Option<Out> + 'h;

/// Selects the releases that the component wants, but for those that are held back.
#[must_use]
pub fn select(
    component: &Component,
    mut releases: Vec<Release>,
    held: &Held<'_>,
    now: Timestamp,
) -> Selection {
    // The newest first, by the clients' order of the raw tags: good enough to read, and stable.
    releases.sort_by(|a, b| version::compare(&b.tag, &a.tag).then_with(|| a.tag.cmp(&b.tag)));
    let rules = &component.versions;
    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    let matcher = rules.tag.as_ref().map(|template| template.matcher(&vars, &[]));
    let mut verdicts = Vec::new();
    let mut refusals = Vec::new();
    let mut wanted: Vec<(usize, Candidate)> = Vec::new();
    for release in releases {
        let tag = release.tag.clone();
        let version = version_of(component, matcher.as_ref(), &tag);
        let parsed = version.and_then(|version| version.parse::<Version>().ok());
        let out = match judge(component, &release, version, now) {
            Judgement::Out(out) => Some(out),
            Judgement::Wanted(version) if held(&version, &release).is_some() => {
                held(&version, &release)
            }
            Judgement::Refused(refusal) => {
                refusals.push(refusal);
                Some(Out::Refused)
            }
            Judgement::Wanted(version) => {
                let release = Arc::new(release);
                wanted.push((verdicts.len(), Candidate { version, release }));
                None
            }
        };
        verdicts.push(Verdict { tag, out, version: parsed });
    }
    wanted.sort_by(|(_, a), (_, b)| b.version.cmp(&a.version));
    let mut selection = Selection { wanted: Vec::new(), verdicts, refusals };
    let wanted = selection.without_duplicates(wanted);
    let wanted = selection.without_mixed_prefixes(wanted);
    let wanted = selection.newest(wanted, rules.per, rules.newest.get());
    let wanted = selection.in_both_orders(wanted);
    selection.wanted = wanted.into_iter().map(|(_, candidate)| candidate).collect();
    selection.forget_old_refusals(rules.per, rules.newest.get());
    selection.tell_if_nothing_is_left();
    selection
}

/// Wanted releases, each with the index of its verdict, the newest first.
type Wanted = Vec<(usize, Candidate)>;

impl Selection {
    fn refuse(&mut self, verdict: usize, candidate: &Candidate, problem: String, hint: String) {
        self.verdicts[verdict].out = Some(Out::Refused);
        self.refusals.push(Refusal { tag: candidate.release.tag.clone(), problem, hint });
    }

    fn without_duplicates(&mut self, wanted: Wanted) -> Wanted {
        let mut kept: Wanted = Vec::with_capacity(wanted.len());
        for (verdict, candidate) in wanted {
            let last = kept.last().map(|(_, last)| &last.version);
            if last.is_some_and(|last| last.client_cmp(&candidate.version).is_eq()) {
                self.verdicts[verdict].out = Some(Out::Duplicate);
            } else {
                kept.push((verdict, candidate));
            }
        }
        kept
    }

    /// `v1.2` sorts below every version without a `v`: mixed, no node would move on.
    fn without_mixed_prefixes(&mut self, wanted: Wanted) -> Wanted {
        let prefixed = |(_, candidate): &(usize, Candidate)| {
            let rest = candidate.version.as_str().strip_prefix(['v', 'V']);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let (with, without): (Wanted, Wanted) = wanted.into_iter().partition(prefixed);
        if without.is_empty() {
            return with;
        }
        for (verdict, candidate) in with {
            let problem = format!(
                "nodes would take `{}` for older than every version without a `v`",
                candidate.version
            );
            let hint = "let [versions] tag or `match` take the `v` off, or exclude it".to_owned();
            self.refuse(verdict, &candidate, problem, hint);
        }
        without
    }

    fn newest(&mut self, mut wanted: Wanted, per: Option<Per>, newest: usize) -> Wanted {
        let mut held: BTreeMap<Branch, usize> = BTreeMap::new();
        wanted.retain(|(verdict, candidate)| {
            let held = held.entry(Branch::of(per, &candidate.version)).or_default();
            *held += 1;
            if *held > newest {
                self.verdicts[*verdict].out = Some(Out::Superseded);
            }
            *held <= newest
        });
        wanted
    }

    /// Takes out versions that semver holds newer, but clients older, than another wanted one.
    fn in_both_orders(&mut self, wanted: Wanted) -> Wanted {
        // The newest first for clients. What semver holds newer than the one before came too late.
        let mut kept: Wanted = Vec::with_capacity(wanted.len());
        let mut lowest: Option<(semver::Version, Version)> = None;
        for (verdict, candidate) in wanted {
            let Some(semver) = candidate.version.semver() else {
                kept.push((verdict, candidate));
                continue;
            };
            match &lowest {
                Some((above, text)) if semver.cmp_precedence(above).is_gt() => {
                    let problem =
                        format!("nodes would take `{text}` for newer than `{}`", candidate.version);
                    let hint =
                        format!("exclude `{text}`, or give `tag` a form that orders as clients do");
                    self.refuse(verdict, &candidate, problem, hint);
                }
                _ => {
                    lowest = Some((semver, candidate.version.clone()));
                    kept.push((verdict, candidate));
                }
            }
        }
        kept
    }

    /// A release that could not be published anyway is no news once there are enough newer ones.
    fn forget_old_refusals(&mut self, per: Option<Per>, newest: usize) {
        // With branches, nobody knows which one an unreadable version belongs to.
        let oldest = match (per, self.wanted.last()) {
            (None, Some(oldest)) if self.wanted.len() >= newest => oldest.release.tag.clone(),
            _ => return,
        };
        let is_old = |tag: &str| version::compare(tag, &oldest).is_lt();
        self.refusals.retain(|refusal| !is_old(&refusal.tag));
        for verdict in &mut self.verdicts {
            if verdict.out == Some(Out::Refused) && is_old(&verdict.tag) {
                verdict.out = Some(Out::Superseded);
            }
        }
    }

    /// An upstream of which nothing is wanted is a repository that silently stopped: upstream
    /// changed its tags, or a rule is wrong. Only a release that waits for its age, or was
    /// yanked, is no mistake.
    fn tell_if_nothing_is_left(&mut self) {
        let waits = self
            .verdicts
            .iter()
            .any(|verdict| matches!(verdict.out, Some(Out::TooYoung | Out::Yanked { .. })));
        if !self.wanted.is_empty() || !self.refusals.is_empty() || waits {
            return;
        }
        if let Some(Verdict { tag, out: Some(out), .. }) = self.verdicts.first() {
            self.refusals.push(Refusal {
                tag: tag.clone(),
                problem: format!("none of upstream's releases is wanted; this one is out: {out}"),
                hint: "check [versions]; `publish plan -v` lists every release".to_owned(),
            });
        }
    }
}

enum Judgement {
    Wanted(Version),
    Out(Out),
    Refused(Refusal),
}

fn judge(
    component: &Component,
    release: &Release,
    version: Option<&str>,
    now: Timestamp,
) -> Judgement {
    let rules = &component.versions;
    let Some(text) = version else {
        let template = rules.tag.as_ref().map_or("{version}", Template::as_str).to_owned();
        return Judgement::Out(Out::Tag { template });
    };
    if rules.exclude.iter().any(|excluded| excluded == text || *excluded == release.tag) {
        return Judgement::Out(Out::Excluded);
    }
    if release.prerelease && !rules.prerelease {
        return Judgement::Out(Out::Prerelease);
    }
    let refused = |problem: String, hint: &str| {
        Judgement::Refused(Refusal { tag: release.tag.clone(), problem, hint: hint.to_owned() })
    };
    let version = match text.parse::<Version>() {
        Ok(version) => version,
        Err(error) => {
            let hint = "exclude it in [versions], or let `tag` or `match` leave that part out";
            return refused(error.to_string(), hint);
        }
    };
    if version::final_of(text).is_some() && !rules.prerelease {
        return Judgement::Out(Out::Prerelease);
    }
    if let Some(requirement) = &rules.require {
        let Some(mut semver) = version::semver_of(text) else {
            return Judgement::Out(Out::NotSemver);
        };
        // Whether pre-releases are wanted was asked already; semver would ask again.
        semver.pre = semver::Prerelease::EMPTY;
        if !requirement.matches(&semver) {
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
    if version::outlives_its_final(&version) {
        return refused(
            format!(
                "nodes would take `{version}` for newer than its final release, and never move on to that"
            ),
            "leave pre-releases out: [versions] prerelease = false",
        );
    }
    Judgement::Wanted(version)
}

fn age(published: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(published)).unwrap_or_default()
}

/// The version in a tag: by the template, or a plain one, or, where tags are a forge's, one with a
/// `v` before it.
fn version_of<'t>(
    component: &Component,
    matcher: Option<&Matcher>,
    tag: &'t str,
) -> Option<&'t str> {
    if let Some(matcher) = matcher {
        return matcher.captures(tag).map(|(version, _)| version);
    }
    match component.source {
        SourceRule::Github(_) => {
            let version = tag.strip_prefix('v').unwrap_or(tag);
            version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
        }
        SourceRule::Http(_) | SourceRule::Directory(_) | SourceRule::Repository(_) => Some(tag),
    }
}
