//! The company of a version: which release of each companion goes in with it.
//!
//! Owns that choice. It is made once: what a published image has in it stays in it, and comes in
//! again for another architecture and for another recipe, unless the companion says `follow`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::judge::Judged;
use super::revision::Planner;
use super::{Candidate, Refusal, assets, has};
use crate::config::Component;
use crate::config::companion::Companion;
use crate::name::{Arch, FileName};
use crate::repository::commit::CompanionRecord;
use crate::source::Release;
use crate::template::Beside;
use crate::version::Version;

/// A companion's release that goes into a version.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The companion.
    pub name: String,
    /// Its version, as its upstream writes it.
    pub version: String,
    /// Its release. Of one that upstream has no longer, only the tag is known.
    pub release: Arc<Release>,
    /// Why this one.
    pub why: Because,
}

/// Why a companion's version was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// The published image of this version has it.
    Recorded,
    /// It is the newest that may go with the version.
    Newest,
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Recorded => "as it is published",
            Self::Newest => "the newest that goes with it",
        })
    }
}

/// What goes in beside a version, in the order of the configuration; mostly nothing.
#[derive(Debug, Clone, Default)]
pub struct Company(Vec<Chosen>);

/// What was in the published images of a version, by name.
pub(super) type Recorded = BTreeMap<String, CompanionRecord>;

/// A companion without a version that fits.
#[derive(Debug)]
pub(super) struct Alone {
    /// What it needs.
    pub lacks: String,
    pub hint: String,
}

impl Company {
    /// Chooses for an upstream version. `upstreams` are the companions' releases, each the newest
    /// first; `arches` those that the version is built for.
    pub(super) fn choose(
        component: &Component,
        upstreams: &[Vec<Judged>],
        version: &str,
        recorded: &Recorded,
        arches: &[(Arch, String)],
    ) -> Result<Self, Alone> {
        let companions = component.companions.iter().zip(upstreams);
        let chosen = companions.map(|(companion, releases)| {
            let recorded = recorded.get(companion.name()).filter(|_| !companion.follow);
            let kept = recorded.and_then(|recorded| keep(companion, releases, version, recorded));
            match kept {
                Some(kept) => Ok(kept),
                None => newest(component, companion, releases, version, arches),
            }
        });
        chosen.collect::<Result<_, _>>().map(Self)
    }

    /// Those that were chosen before, whatever there is by now; `None` if they are not of these
    /// companions.
    pub(super) fn recorded(
        component: &Component,
        upstreams: &[Vec<Judged>],
        recorded: &Recorded,
    ) -> Option<Self> {
        if recorded.len() != component.companions.len() {
            return None;
        }
        let companions = component.companions.iter().zip(upstreams);
        let chosen = companions.map(|(companion, releases)| {
            let recorded = recorded.get(companion.name())?;
            Some(as_recorded(companion, releases, recorded))
        });
        chosen.collect::<Option<_>>().map(Self)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Chosen> {
        self.0.iter()
    }

    /// What templates may say of them, in a build for this architecture.
    #[must_use]
    pub fn beside(&self, component: &Component, arch: Arch, theirs: &str) -> Vec<Beside> {
        let all = component.companions.iter().zip(&self.0);
        all.map(|(companion, chosen)| beside(companion, chosen, arch, theirs)).collect()
    }

    /// The release of the one of this name.
    #[must_use]
    pub fn release(&self, name: &str) -> Option<&Release> {
        self.0.iter().find(|chosen| chosen.name == name).map(|chosen| &*chosen.release)
    }

    /// What is to be remembered of it.
    #[must_use]
    pub fn record(&self) -> BTreeMap<String, CompanionRecord> {
        let record = |chosen: &Chosen| {
            let (version, tag) = (chosen.version.clone(), chosen.release.tag.clone());
            (chosen.name.clone(), CompanionRecord { version, tag })
        };
        self.0.iter().map(record).collect()
    }
}

impl Planner<'_> {
    /// Which release of each companion goes in with a version.
    pub(super) fn company(&self, candidate: &Candidate) -> Result<Company, Refusal> {
        self.accompanied(candidate).map_err(|Alone { lacks, hint }| Refusal {
            tag: candidate.release.tag.clone(),
            problem: format!("there is no {lacks}"),
            hint,
        })
    }

    pub(super) fn accompanied(&self, candidate: &Candidate) -> Result<Company, Alone> {
        let recorded = self.recorded(&candidate.version);
        let companions = &self.upstream.companions;
        Company::choose(self.component, companions, &candidate.upstream, &recorded, self.arches)
    }

    /// What went into the images of a version: those that are offered, else those whose lines went.
    fn recorded(&self, version: &Version) -> Recorded {
        let offered = self.offered(version).map(|(_, files)| files.into_values().collect());
        let names: Vec<&FileName> = offered.unwrap_or_else(|| {
            let removed = self.published.catalogue.removed.iter();
            removed.filter(|(_, gone)| gone.version == *version).map(|(name, _)| name).collect()
        });
        let records = names.into_iter().filter_map(|name| self.published.record(name));
        records.flat_map(|record| record.companions.clone()).collect()
    }

    /// Whether a companion is another one than in the published images.
    pub(super) fn is_followed(&self, version: &Version, company: &Company) -> bool {
        let recorded = self.recorded(version);
        company.iter().any(|chosen| {
            let before = recorded.get(&chosen.name);
            chosen.why == Because::Newest && before.is_some_and(|b| b.version != chosen.version)
        })
    }
}

fn beside(companion: &Companion, chosen: &Chosen, arch: Arch, theirs: &str) -> Beside {
    Beside {
        name: chosen.name.clone(),
        version: chosen.version.clone(),
        tag: chosen.release.tag.clone(),
        arch: companion.arch(arch, theirs).to_owned(),
    }
}

/// The recorded one, unless the configuration does not want it any more.
fn keep(
    companion: &Companion,
    releases: &[Judged],
    version: &str,
    recorded: &CompanionRecord,
) -> Option<Chosen> {
    if listed(releases, recorded).is_some_and(Judged::is_ruled_out) {
        return None;
    }
    let allowed = companion.matches.allows(version, &recorded.version);
    allowed.then(|| as_recorded(companion, releases, recorded))
}

fn listed<'j>(releases: &'j [Judged], recorded: &CompanionRecord) -> Option<&'j Judged> {
    releases.iter().find(|judged| judged.release.tag == recorded.tag)
}

/// The recorded one. Of one that upstream has no longer, only the tag is known.
fn as_recorded(companion: &Companion, releases: &[Judged], recorded: &CompanionRecord) -> Chosen {
    let release = match listed(releases, recorded) {
        Some(judged) => judged.release.clone(),
        None => Arc::new(Release::tagged(&recorded.tag, &[].into())),
    };
    Chosen {
        name: companion.name().to_owned(),
        version: recorded.version.clone(),
        release,
        why: Because::Recorded,
    }
}

/// The newest one that fits and has all files that are picked from it; where there is none, the
/// newest that fits, and what it lacks is told.
fn newest(
    component: &Component,
    companion: &Companion,
    releases: &[Judged],
    version: &str,
    arches: &[(Arch, String)],
) -> Result<Chosen, Alone> {
    let wanted = releases.iter().filter_map(|judged| Some((judged.wanted()?, judged)));
    let mut fitting = wanted
        .filter(|(theirs, _)| companion.matches.allows(version, theirs))
        .map(|(theirs, judged)| Chosen {
            name: companion.name().to_owned(),
            version: theirs.to_owned(),
            release: judged.release.clone(),
            why: Because::Newest,
        })
        .peekable();
    let first = fitting.peek().cloned();
    let whole = fitting.find(|chosen| {
        arches.iter().all(|(arch, theirs)| {
            let beside = beside(companion, chosen, *arch, theirs);
            assets::is_whole(component, version, theirs, &beside, &chosen.release)
        })
    });
    whole.or(first).ok_or_else(|| alone(companion, releases, version))
}

fn alone(companion: &Companion, releases: &[Judged], version: &str) -> Alone {
    let name = companion.name();
    let asked: Vec<String> =
        companion.matches.asked(version).map(|text| format!("`{text}`")).collect();
    let known: Vec<&str> = releases.iter().filter_map(Judged::wanted).collect();
    let hint = match known.as_slice() {
        [] => match releases.first() {
            Some(judged) => format!(
                "of the companion's releases none is wanted; `{}` is out: {}",
                judged.release.tag.escape_debug(),
                judged.why_out()
            ),
            None => "the companion has no release".to_owned(),
        },
        known if asked.is_empty() => has(known),
        known => format!("[companion.match] asks for {}; {}", asked.join(" and "), has(known)),
    };
    Alone { lacks: format!("release of the companion `{name}` that goes with it"), hint }
}
