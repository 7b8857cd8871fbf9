//! What vouches for the assets of the versions that are wanted.
//!
//! Owns naming those that nothing vouches for, refusing what is too weak, and which first uses are
//! still worth remembering. What was checked when an image was made is in its record.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Candidate, Located, Refusal, Verdict, applicable, locate, vars};
use crate::build::from;
use crate::config::Component;
use crate::config::trust::Strength;
use crate::name::Arch;
use crate::source::Release;
use crate::trust;
use crate::trust::vouchers::Vouchers;
use crate::version::Version;

/// What vouches for one asset.
#[derive(Debug, Clone, Serialize)]
pub struct Vouched {
    /// Of this version,
    pub version: Version,
    /// for this architecture.
    pub arch: Arch,
    /// Its file name.
    pub asset: String,
    /// How much that is.
    pub strength: Strength,
    /// What it is.
    pub by: Vec<String>,
}

/// What vouches for each asset of these versions. One that the release lacks is told elsewhere.
pub(super) fn vouched(
    component: &Component,
    arches: &[(Arch, String)],
    wanted: &[Candidate],
) -> Vec<Vouched> {
    let mut all = Vec::new();
    for Candidate { version, release } in wanted {
        for (arch, theirs) in arches {
            let vars = vars(component, version, release, theirs);
            for rule in applicable(component, version).unwrap_or_default() {
                let Ok(Located { name, at, .. }) = locate(rule, release, &vars) else { continue };
                let source = &component.source;
                let Ok(vouchers) = Vouchers::of(&rule.trust, source, (&name, &at), release, &vars)
                else {
                    continue;
                };
                all.push(Vouched {
                    version: version.clone(),
                    arch: *arch,
                    asset: name,
                    strength: vouchers.strength(),
                    by: vouchers.names(),
                });
            }
        }
    }
    all
}

/// Why a version must not be built, if less vouches for one of its assets than must.
pub(super) fn refusal(
    candidate: &Candidate,
    vouched: &[Vouched],
    require: Strength,
) -> Option<Refusal> {
    let of_it = vouched.iter().filter(|asset| asset.version == candidate.version);
    let weakest = of_it.filter(|asset| asset.strength < require).min_by_key(|a| a.strength)?;
    Some(Refusal {
        tag: candidate.release.tag.clone(),
        problem: format!(
            "cannot trust {}: {}",
            weakest.asset,
            trust::shortage(weakest.strength, require)
        ),
        hint: trust::STRONGER.to_owned(),
    })
}

/// Which assets' first uses are worth remembering: those of versions that are `kept`. What no release
/// tells the version of stays, unless upstream still lists every version that is kept.
pub fn worth_remembering(
    component: &Component,
    arches: &[(Arch, String)],
    releases: &[Release],
    verdicts: &[Verdict],
    kept: &BTreeSet<Version>,
) -> impl Fn(&str) -> bool + use<> {
    let (mut ours, mut others) = (BTreeSet::new(), BTreeSet::new());
    let mut listed = BTreeSet::new();
    for release in releases {
        let verdict = verdicts.iter().find(|verdict| verdict.tag == release.tag);
        let Some(version) = verdict.and_then(|verdict| verdict.version.as_ref()) else { continue };
        let is_kept = kept.contains(version);
        if is_kept {
            listed.insert(version);
        }
        for (_, theirs) in arches {
            let vars = vars(component, version, release, theirs);
            let rules = applicable(component, version).unwrap_or_default();
            for rule in rules.into_iter().filter(|rule| rule.trust.first_use) {
                if let Ok(Located { name, at, .. }) = locate(rule, release, &vars) {
                    if is_kept { &mut ours } else { &mut others }.insert(from(&name, &at));
                }
            }
        }
    }
    let is_complete = kept.iter().all(|version| listed.contains(version));
    move |from: &str| ours.contains(from) || !is_complete && !others.contains(from)
}
