//! Judging releases one by one: what each is by the component's rules, whatever else there is.
//!
//! Owns reading versions out of tags. Knows nothing of what is published.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use super::Refusal;
use super::verdict::Out;
use crate::config::Component;
use crate::source::{Asset, Release};
use crate::template::{Matcher, Template, Vars};
use crate::version::{self, Version};

/// What upstreams have, each release judged by the component's rules. Made once a poll: a plan that is
/// made again takes the same one.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// The component's own, the newest first.
    pub judged: Vec<Judged>,
    /// Its companions', in the order of the configuration.
    pub companions: Vec<Vec<Judged>>,
    /// Whether the component's own are all that there are: a listing may be cut.
    pub complete: bool,
    /// See [`Upstream::versions`].
    versions: OnceLock<BTreeSet<Version>>,
}

/// A release, and what is to be said of it alone.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The release.
    pub release: Arc<Release>,
    /// Its version as clients see it, if it has one.
    pub version: Option<Version>,
    /// The same as upstream writes it.
    text: Option<String>,
    pub(super) judgement: Judgement,
}

#[derive(Debug, Clone)]
pub(super) enum Judgement {
    /// As this version.
    Wanted(Version),
    Out(Out),
    Refused(Refusal),
}

impl Judged {
    /// The version as upstream writes it, if it has one.
    #[must_use]
    pub fn upstream(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The version as upstream writes it, if nothing is to be said against the release.
    pub(super) fn wanted(&self) -> Option<&str> {
        match &self.judgement {
            Judgement::Wanted(_) => self.upstream(),
            Judgement::Out(_) | Judgement::Refused(_) => None,
        }
    }

    /// Whether a rule says that it is not wanted, and not only its age.
    pub(super) fn is_ruled_out(&self) -> bool {
        match &self.judgement {
            Judgement::Wanted(_) | Judgement::Out(Out::TooYoung | Out::AgeUnknown) => false,
            Judgement::Out(_) | Judgement::Refused(_) => true,
        }
    }

    /// Why it is not wanted.
    pub(super) fn why_out(&self) -> String {
        match &self.judgement {
            Judgement::Wanted(_) => String::new(),
            Judgement::Out(out) => out.to_string(),
            Judgement::Refused(refusal) => refusal.problem.clone(),
        }
    }
}

impl Upstream {
    /// Judges what a component's upstream has, and what those of its companions have, in the order of
    /// the configuration; `now` is what ages are measured against.
    #[must_use]
    pub fn new(
        component: &Component,
        releases: Vec<Release>,
        companions: Vec<Vec<Release>>,
        now: Timestamp,
    ) -> Self {
        let shared = |releases: Vec<Release>| releases.into_iter().map(Arc::new).collect();
        let companions = component.companions.iter().zip(companions);
        Self {
            judged: judge_all(component, shared(releases), now),
            companions: companions
                .map(|(companion, releases)| {
                    let mut judged = judge_all(&companion.follows, shared(releases), now);
                    judged.sort_by(|a, b| b.version.cmp(&a.version));
                    judged
                })
                .collect(),
            complete: true,
            versions: OnceLock::new(),
        }
    }

    /// Lets the releases' files go, where nothing else holds them: of a thousand components of which
    /// nothing is built they are nearly all there is in memory.
    pub fn forget_assets(&mut self) {
        let none: Arc<[Asset]> = [].into();
        for judged in self.judged.iter_mut().chain(self.companions.iter_mut().flatten()) {
            if let Some(release) = Arc::get_mut(&mut judged.release) {
                release.assets = none.clone();
            }
        }
    }

    /// The same releases, judged by other rules.
    #[must_use]
    pub fn by(&self, component: &Component, now: Timestamp) -> Self {
        let releases = self.judged.iter().map(|judged| judged.release.clone()).collect();
        let judged = judge_all(component, releases, now);
        let (companions, complete) = (self.companions.clone(), self.complete);
        Self { judged, companions, complete, versions: OnceLock::new() }
    }

    /// The versions of these releases, wanted or not.
    #[must_use]
    pub fn versions(&self) -> &BTreeSet<Version> {
        let versions = || self.judged.iter().filter_map(|judged| judged.version.clone()).collect();
        self.versions.get_or_init(versions)
    }
}

fn judge_all(
    component: &Component,
    mut releases: Vec<Arc<Release>>,
    now: Timestamp,
) -> Vec<Judged> {
    // The newest first, by the clients' order of the raw tags: good enough to read, and stable.
    releases.sort_by(|a, b| version::compare(&b.tag, &a.tag).then_with(|| a.tag.cmp(&b.tag)));
    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    let matcher = component.versions.tag.as_ref().map(|template| template.matcher(&vars, &[]));
    let judge = |release: Arc<Release>| {
        let text = version_of(component, matcher.as_ref(), &release.tag);
        let written = text.map(|text| component.versions.written(text));
        let version = written.and_then(|written| written.parse::<Version>().ok());
        let judgement = judge(component, &release, text, now);
        let text = text.map(str::to_owned);
        Judged { release, version, text, judgement }
    };
    releases.into_iter().map(judge).collect()
}

fn judge(
    component: &Component,
    release: &Release,
    text: Option<&str>,
    now: Timestamp,
) -> Judgement {
    let rules = &component.versions;
    let Some(text) = text else {
        let template = rules.tag.as_ref().map_or("{version}", Template::as_str).to_owned();
        return Judgement::Out(Out::Tag { template });
    };
    let written = rules.written(text);
    let names = [text, &*written, release.tag.as_str()];
    if rules.exclude.iter().any(|excluded| excluded.names(&names)) {
        return Judgement::Out(Out::Excluded);
    }
    let pinned = rules.pin.as_deref().map(|pin| names.contains(&pin));
    // Whoever names one version means it, whatever else is said of versions.
    if pinned != Some(true)
        && let Some(out) = left_out(component, release, text, &names, now)
    {
        return out;
    }
    if pinned == Some(false) {
        return Judgement::Out(Out::NotPinned);
    }
    let refused = |problem: String, hint: String| {
        Judgement::Refused(Refusal { tag: release.tag.clone(), problem, hint })
    };
    let version = match written.parse::<Version>() {
        Ok(version) => version,
        Err(error) => {
            let bad = text.chars().find(|c| !crate::name::is_portable(*c) && !c.is_control());
            let otherwise = bad
                .filter(|_| text.len() <= 128)
                .map(|bad| format!(", or write it otherwise: replace = {{ \"{bad}\" = \"-\" }}"));
            let hint = format!(
                "exclude it in [versions], or let `tag` or `match` leave that part out{}",
                otherwise.unwrap_or_default()
            );
            return refused(error.to_string(), hint);
        }
    };
    let last = version::final_of(text);
    if last.is_some_and(|last| version::compare(version.as_str(), &rules.written(last)).is_gt()) {
        return refused(
            format!(
                "nodes would take `{version}` for newer than its final release, and never move on to that"
            ),
            "leave pre-releases out: [versions] prerelease = false".to_owned(),
        );
    }
    Judgement::Wanted(version)
}

/// The first rule of `[versions]` that leaves a release out.
fn left_out(
    component: &Component,
    release: &Release,
    text: &str,
    names: &[&str],
    now: Timestamp,
) -> Option<Judgement> {
    let rules = &component.versions;
    let out = if !rules.include.is_empty() && !rules.include.iter().any(|named| named.names(names))
    {
        Some(Out::NotIncluded)
    } else if !rules.prerelease && (release.prerelease || version::final_of(text).is_some()) {
        Some(Out::Prerelease)
    } else {
        match rules.require.as_ref().map(|requirement| requirement.holds(text)) {
            Some(None) => Some(Out::RequirementUnknown),
            Some(Some(false)) => Some(Out::Requirement),
            None | Some(Some(true)) => None,
        }
    };
    let young = || match (rules.min_age, release.published) {
        (None, _) => None,
        (Some(_), None) => Some(Out::AgeUnknown),
        (Some(min_age), Some(at)) => (age(at, now) < min_age).then_some(Out::TooYoung),
    };
    out.or_else(young).map(Judgement::Out)
}

/// How long ago something was; nothing, if it is still to come.
pub(super) fn age(published: Timestamp, now: Timestamp) -> Duration {
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
    if !component.source.strips_v() {
        return Some(tag);
    }
    let version = tag.strip_prefix('v').unwrap_or(tag);
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}
