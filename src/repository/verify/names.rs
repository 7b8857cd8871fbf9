//! What clients make of the names in a manifest: which lines they see, in which order, for whom.
//!
//! Versions of clients differ: systemd 262 reads `~` and `^` in versions, which 257 drops without a
//! word, so that the two may take different ones for the newest.

use std::collections::{BTreeMap, BTreeSet};

use super::{Expected, Verified};
use crate::manifest::{Manifest, ManifestError};
use crate::name::{Arch, Sha256, is_portable};
use crate::repository::MANIFEST;
use crate::version::{Version, compare};

/// The lines of a manifest as all clients together read it.
pub(super) struct Listing {
    /// What every client sees.
    pub(super) manifest: Manifest,
    /// What only newer clients see.
    newer: BTreeMap<String, Sha256>,
}

impl Listing {
    /// Reads a manifest that may have `~` and `^` in names.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        let refused = match Manifest::parse(bytes) {
            Ok(manifest) => return Ok(Self { manifest, newer: BTreeMap::new() }),
            Err(error) => error,
        };
        let mut rest = Vec::with_capacity(bytes.len());
        let mut newer = BTreeMap::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match newer_line(line) {
                Some((name, sha256)) => {
                    newer.insert(name, sha256);
                }
                None => rest.extend_from_slice(line),
            }
        }
        match Manifest::parse(&rest) {
            Ok(manifest) if !newer.is_empty() => Ok(Self { manifest, newer }),
            // With the number that the line has in the file itself.
            _ => Err(refused),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.manifest.is_empty() && self.newer.is_empty()
    }

    /// Every file and its digest.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, Sha256)> {
        let all = self.manifest.files().map(|(name, sha256)| (name.to_string(), sha256));
        all.chain(self.newer.iter().map(|(name, sha256)| (name.clone(), *sha256)))
    }
}

/// A line that is right but for `~` and `^` in its name.
fn newer_line(line: &[u8]) -> Option<(String, Sha256)> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (digest, rest) = text.split_at_checked(64)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let only_newer = name.contains(['~', '^'])
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| is_portable(c) || matches!(c, '~' | '^'));
    only_newer.then_some((name.to_owned(), digest.parse().ok()?))
}

/// Versions of one component for one architecture: version → file.
type Series = BTreeMap<String, String>;

/// What a client sees of the names alone.
pub(super) fn check(listing: &Listing, expected: Option<&Expected>, verified: &mut Verified) {
    // Component → architecture → versions.
    let mut seen: BTreeMap<String, BTreeMap<String, Series>> = BTreeMap::new();
    for (name, _) in listing.files() {
        let parts = match expected {
            Some(expected) => expected.matcher.captures(&name).map(|(version, arch)| {
                (String::new(), version.to_owned(), arch.unwrap_or_default().to_owned())
            }),
            None => guess(&name),
        };
        let mut others = expected.iter().flat_map(|expected| &expected.others);
        if parts.is_none() && others.any(|other| other.captures(&name).is_some()) {
            continue;
        }
        let Some((component, version, arch)) = parts else {
            verified.warning(
                &name,
                match expected {
                    Some(_) => "does not match the component's [image] name",
                    None => "is not named NAME-VERSION-ARCHITECTURE.raw",
                },
            );
            continue;
        };
        let for_newer = version.contains(['~', '^']);
        match version.parse::<Version>() {
            Err(_) if for_newer => verified
                .warning(&name, "is seen by systemd 262 alone: 257 drops versions with `~` or `^`"),
            Err(error) => verified.problem(&name, error.to_string()),
            Ok(_) => {}
        }
        seen.entry(component).or_default().entry(arch).or_default().insert(version, name);
    }
    for arches in seen.values() {
        for versions in arches.values() {
            check_order(versions, verified);
        }
        check_arches(arches, expected, verified);
    }
}

fn check_order(versions: &Series, verified: &mut Verified) {
    let mut sorted: Vec<(&String, &String)> = versions.iter().collect();
    sorted.sort_by(|a, b| compare(a.0, b.0));
    // Versions that clients hold equal are neighbours in their order.
    for pair in sorted.windows(2) {
        let ((older, _), (version, name)) = (pair[0], pair[1]);
        if compare(older, version).is_eq() {
            let problem = format!("clients hold its version `{version}` equal to `{older}`");
            verified.problem(name, problem);
        }
    }
    let newest_of_257 = sorted.iter().rev().find(|(version, _)| !version.contains(['~', '^']));
    match (newest_of_257, sorted.last()) {
        (Some((of_257, _)), Some((of_262, name))) if of_257 != of_262 => verified.warning(
            name,
            format!("systemd 262 takes {of_262} for the newest version, but 257 takes {of_257}"),
        ),
        _ => {}
    }
}

/// A version that is not there for everybody tells some nodes nothing at all.
fn check_arches(
    arches: &BTreeMap<String, Series>,
    expected: Option<&Expected>,
    verified: &mut Verified,
) {
    let wanted: BTreeSet<&str> = match expected {
        Some(expected) => expected.arches.iter().map(|arch| arch.as_str()).collect(),
        None => arches.keys().map(String::as_str).collect(),
    };
    // Names without an architecture are for all of them.
    if arches.contains_key("") {
        return;
    }
    let versions: BTreeMap<&String, &String> = arches.values().flatten().collect();
    for (version, name) in versions {
        let missing: Vec<&str> = wanted
            .iter()
            .copied()
            .filter(|arch| !arches.get(*arch).is_some_and(|series| series.contains_key(version)))
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            verified.warning(
                MANIFEST,
                format!("version {version} is not there for {missing} (but {name} is)"),
            );
        }
    }
}

/// Component, version and architecture of a name like ours, if nobody says what it is called.
fn guess(name: &str) -> Option<(String, String, String)> {
    let stem = name.strip_suffix(".raw")?;
    let (rest, arch) = Arch::ALL
        .iter()
        .filter_map(|arch| Some((stem.strip_suffix(&format!("-{arch}"))?, arch)))
        .min_by_key(|(rest, _)| rest.len())?;
    // The component's name ends where the first part that starts like a version begins.
    let at = rest.match_indices('-').map(|(at, _)| at + 1).find(|at| {
        let part = rest[*at..].strip_prefix('v').unwrap_or(&rest[*at..]);
        part.starts_with(|c: char| c.is_ascii_digit())
    })?;
    Some((rest[..at].to_owned(), rest[at..].to_owned(), arch.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::verify::Seal;

    fn checked(names: &[&str]) -> Verified {
        let lines: Vec<_> =
            names.iter().map(|name| format!("{}  {name}\n", "a".repeat(64))).collect();
        let text = lines.concat();
        let mut verified = Verified {
            folder: String::new(),
            files: 0,
            clients: 0,
            bytes: 0,
            seal: Seal::default(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        check(&Listing::read(text.as_bytes()).unwrap(), None, &mut verified);
        verified
    }

    #[test]
    fn what_two_clients_take_for_the_newest_is_told() {
        let verified =
            checked(&["x-1.0-x86-64.raw", "x-1.0^p1-x86-64.raw", "x-0.9~rc1-x86-64.raw"]);
        assert!(verified.problems.is_empty(), "{verified:?}");
        let told: Vec<_> =
            verified.warnings.iter().map(|finding| finding.problem.as_str()).collect();
        assert!(
            told.contains(&"systemd 262 takes 1.0^p1 for the newest version, but 257 takes 1.0"),
            "{told:?}"
        );
        // A pre-release below its final one is the newest for nobody.
        let verified = checked(&["x-1.0-x86-64.raw", "x-1.0~rc1-x86-64.raw"]);
        assert!(!verified.warnings.iter().any(|f| f.problem.contains("newest")), "{verified:?}");
    }

    #[test]
    fn a_version_that_is_not_there_for_everybody_is_told() {
        let verified =
            checked(&["x-1-x86-64.raw", "x-1-arm64.raw", "x-2-x86-64.raw", "y-1-riscv64.raw"]);
        assert_eq!(verified.warnings.len(), 1, "{verified:?}");
        assert!(verified.warnings[0].problem.starts_with("version 2 is not there for arm64"));
    }

    #[test]
    fn versions_that_clients_hold_equal_are_a_problem() {
        assert_eq!(checked(&["x-1.0-arm64.raw", "x-01.0-arm64.raw"]).problems.len(), 1);
        assert!(checked(&["x-1.0-arm64.raw", "y-01.0-arm64.raw"]).problems.is_empty());
    }

    #[test]
    fn a_manifest_that_clients_refuse_is_refused_with_its_own_line_number() {
        let a = "a".repeat(64);
        let text = format!("{a}  x~1.raw\n{a}  y.raw\n{a}  a/b.raw\n");
        let error = Listing::read(text.as_bytes()).err().unwrap().to_string();
        assert!(error.starts_with("line 1") || error.starts_with("line 3"), "{error}");
    }
}
