//! Whether upstream still has the files that a published image was made from.
//!
//! Owns the alarm: other bytes under the same URL are a mistake of upstream's or an attack, and
//! nobody but a person can tell. What the source itself says of a file is enough to see it; what it
//! does not say is seen when the file is fetched again.

use super::assets::{self, Found, Located};
use super::company::Company;
use super::{Candidate, file_names, vars};
use crate::build::from;
use crate::config::Component;
use crate::manifest::Manifest;
use crate::name::{Arch, Sha256};
use crate::repository::commit::InputRecord;
use crate::version::Version;

/// What became of the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// They are the same, as far as the source says.
    No,
    /// Some are others, and somebody found them right.
    Accepted,
    /// Some are others: the problem, and the way out.
    Refused(String, String),
}

/// Compares what the source says of a release's files with what was recorded.
pub(super) fn replaced(
    component: &Component,
    arches: &[(Arch, String)],
    candidate: &Candidate,
    company: &Company,
    recorded: &[InputRecord],
) -> Replaced {
    let Candidate { upstream: version, release, .. } = candidate;
    let accepted = accepted(component, version);
    let mut replaced = Replaced::No;
    for (arch, theirs) in arches {
        let beside = company.beside(component, *arch, theirs);
        let vars = vars(component, version, release, theirs, &beside);
        for rule in assets::applicable(component, version).unwrap_or_default() {
            // No source knows of container images; the build looks at their digests.
            let Ok(Found::File(Located { name, at, asset: Some(asset), .. })) =
                assets::locate(rule, release, company, &vars)
            else {
                continue;
            };
            let from = from(&name, &at);
            let Some(before) = recorded.iter().find(|input| input.from == from) else { continue };
            match (asset.sha256, asset.size) {
                (Some(now), _) if now == before.sha256 => {}
                (Some(now), _) if accepted.contains(&now) => replaced = Replaced::Accepted,
                (Some(now), _) => {
                    let problem = format!(
                        "upstream replaced {from}: it had SHA-256 {} when it was published, and has {now} now",
                        before.sha256
                    );
                    return Replaced::Refused(problem, way_out(version, now));
                }
                (None, Some(now)) if now != before.size && accepted.is_empty() => {
                    let problem = format!(
                        "upstream replaced {from}: it had {} bytes when it was published, and has {now} now",
                        before.size
                    );
                    let hint = format!(
                        "what is published stays as it is; find out what happened, then exclude `{version}`, or accept the new file's SHA-256 in [versions] accept"
                    );
                    return Replaced::Refused(problem, hint);
                }
                (None, _) => {}
            }
        }
    }
    replaced
}

/// The same for a mirror, whose files are what is published: the manifest itself tells. `shown` is
/// the version under which this one is published.
pub(super) fn replaced_in_mirror(
    component: &Component,
    arches: &[(Arch, String)],
    candidate: &Candidate,
    shown: &Version,
    published: &Manifest,
) -> Replaced {
    let Candidate { upstream: version, release, .. } = candidate;
    let accepted = accepted(component, version);
    let mut replaced = Replaced::No;
    for (arch, theirs) in arches {
        let names = file_names(component, shown, *arch).unwrap_or_default();
        let theirs = assets::names(component, &vars(component, version, release, theirs, &[]));
        for (name, theirs) in names.iter().zip(theirs) {
            let now = assets::named(release, &theirs).and_then(|asset| asset.sha256);
            match (published.get(name), now) {
                (Some(before), Some(now)) if before != now => {
                    if !accepted.contains(&now) {
                        let problem = format!(
                            "upstream replaced {theirs}: it had SHA-256 {before} when it was published, and has {now} now"
                        );
                        return Replaced::Refused(problem, way_out(version, now));
                    }
                    replaced = Replaced::Accepted;
                }
                _ => {}
            }
        }
    }
    replaced
}

/// The digests that somebody found right for a version.
pub(crate) fn accepted<'c>(component: &'c Component, version: &str) -> &'c [Sha256] {
    component.versions.accept.get(version).map_or(&[], Vec::as_slice)
}

/// What to do about a file that upstream replaced.
pub(crate) fn way_out(version: &str, now: Sha256) -> String {
    format!(
        "what is published stays as it is; find out what happened, then exclude `{version}`, or, if the new file is right, write accept = {{ \"{version}\" = [\"{now}\"] }} into [versions]: a revision is published then"
    )
}
