//! What vouches for the assets of the versions that are wanted.
//!
//! Owns naming those that nothing vouches for, refusing what is too weak, and which first uses are
//! still worth remembering. What was checked when an image was made is in its record.

use std::collections::BTreeSet;

use serde::Serialize;

use super::assets::{self, Found, Located};
use super::company::Company;
use super::revision::Planner;
use super::{Candidate, Refusal, Upstream, vars};
use crate::build::from;
use crate::config::Component;
use crate::config::build::Maker;
use crate::config::trust::Strength;
use crate::name::Arch;
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
pub(super) fn vouched(planner: &Planner<'_>, wanted: &[Candidate]) -> Vec<Vouched> {
    let component = planner.component;
    let mut all = Vec::new();
    for candidate in wanted {
        let Candidate { version, upstream, release } = candidate;
        // Without its companions nothing of it is built.
        let Ok(company) = planner.company(candidate) else { continue };
        for (arch, theirs) in planner.arches {
            let beside = company.beside(component, *arch, theirs);
            let vars = vars(component, upstream, release, theirs, &beside);
            let rules = assets::applicable(component, upstream).unwrap_or_default();
            // What a command makes of nothing that we fetch, it makes of what we do not see.
            let made = component.build.as_ref();
            if let Some(made) = made.filter(|made| rules.is_empty() || !made.takes_assets()) {
                // Of a workflow's artifact the API tells the digest.
                let (strength, by) = match made.by {
                    Maker::Command(_) => (Strength::Nothing, Vec::new()),
                    Maker::Workflow(_) => (Strength::Digest, vec!["GitHub".to_owned()]),
                };
                all.push(Vouched {
                    version: version.clone(),
                    arch: *arch,
                    asset: made.product(),
                    strength,
                    by,
                });
            }
            for rule in rules {
                let Ok(found) = assets::locate(rule, release, &company, &vars) else { continue };
                let (asset, vouchers) = match found {
                    Found::File(located) => {
                        match Vouchers::of(&rule.trust, &component.source, &located, &vars) {
                            Ok(vouchers) => (located.name, vouchers),
                            Err(_) => continue,
                        }
                    }
                    Found::Image(image) => {
                        let vouchers = Vouchers::of_image(&rule.trust, &image);
                        (image, vouchers)
                    }
                };
                all.push(Vouched {
                    version: version.clone(),
                    arch: *arch,
                    asset,
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
/// tells the version of stays, unless upstream still lists every version that is kept. Which companion
/// was in a version that is gone nobody knows any more, so with companions all of them stay.
pub fn worth_remembering(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &Upstream,
    kept: &BTreeSet<Version>,
) -> impl Fn(&str) -> bool + use<> {
    let (mut ours, mut others) = (BTreeSet::new(), BTreeSet::new());
    let mut listed = BTreeSet::new();
    let alone = component.companions.is_empty();
    let company = Company::default();
    for judged in upstream.judged.iter().filter(|_| alone) {
        let (Some(version), Some(text)) = (&judged.version, judged.upstream()) else { continue };
        let is_kept = kept.contains(version);
        if is_kept {
            listed.insert(version);
        }
        let rules = assets::applicable(component, text).unwrap_or_default();
        for rule in rules.into_iter().filter(|rule| rule.trust.first_use) {
            for (_, theirs) in arches {
                let vars = vars(component, text, &judged.release, theirs, &[]);
                let from = match assets::locate(rule, &judged.release, &company, &vars) {
                    Ok(Found::File(Located { name, at, .. })) => from(&name, &at),
                    Ok(Found::Image(image)) => image,
                    Err(_) => continue,
                };
                if is_kept { &mut ours } else { &mut others }.insert(from);
            }
        }
    }
    let is_complete = alone && kept.iter().all(|version| listed.contains(version));
    move |from: &str| ours.contains(from) || !is_complete && !others.contains(from)
}
