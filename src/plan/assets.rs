//! The assets of a build: which rules hold for a version, and which files of which release they mean.
//!
//! Owns finding them among what the sources tell. Fetches nothing.

use super::company::Company;
use crate::config::Component;
use crate::config::asset::{AssetAt, AssetRule, Place};
use crate::config::asset_name::AssetName;
use crate::source::{Asset, Location, Release};
use crate::template::{Beside, Vars};

/// The asset rules that hold for an upstream version.
///
/// # Errors
/// A rule has a `when` that cannot be told for it.
pub fn applicable<'c>(
    component: &'c Component,
    version: &str,
) -> Result<Vec<&'c AssetRule>, String> {
    let mut rules = Vec::new();
    for rule in &component.assets {
        let holds = match &rule.when {
            None => true,
            Some(when) => when.holds(version).ok_or_else(|| {
                format!("`when = \"{}\"` cannot be told for `{version}`", when.as_str())
            })?,
        };
        if holds {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// The file that a rule means, by the first of its names that the release has.
///
/// # Errors
/// It has none of them: the names.
pub fn find<'r>(
    asset: &AssetName,
    release: &'r Release,
    company: &'r Company,
    vars: &Vars<'_>,
) -> Result<&'r Asset, Vec<String>> {
    let release = match &asset.of {
        None => Some(release),
        Some(of) => company.release(of),
    };
    among(asset, release.map_or(&[][..], |release| &release.assets), vars)
}

fn among<'r>(
    asset: &AssetName,
    assets: &'r [Asset],
    vars: &Vars<'_>,
) -> Result<&'r Asset, Vec<String>> {
    let names: Vec<String> = asset.names.iter().map(|name| name.expand(vars)).collect();
    let found = names.iter().find_map(|name| assets.iter().find(|asset| asset.name == *name));
    found.ok_or(names)
}

/// What the files are called that are wanted of a release, by their first names.
pub(super) fn names(component: &Component, vars: &Vars<'_>) -> Vec<String> {
    let named = component.assets.iter().filter_map(|rule| match &rule.at {
        AssetAt::Name(name) => Some(name.names.first()?.expand(vars)),
        AssetAt::Url(_) | AssetAt::Oci(_) => None,
    });
    named.collect()
}

/// The release's asset of this name.
pub(super) fn named<'r>(release: &'r Release, name: &str) -> Option<&'r Asset> {
    release.assets.iter().find(|asset| asset.name == name)
}

/// What a release knows of the file at a URL.
#[must_use]
pub fn known_at<'r>(
    at: &Location,
    release: &'r Release,
    company: &'r Company,
) -> Option<&'r Asset> {
    let releases = std::iter::once(release).chain(company.iter().map(|chosen| &*chosen.release));
    releases.flat_map(|release| &*release.assets).find(|asset| asset.at == *at)
}

/// A file that a rule means, among what the sources tell.
#[derive(Debug)]
pub struct Located<'r> {
    /// Its file name.
    pub name: String,
    /// Where it is.
    pub at: Location,
    /// What a release knows of it, if one knows it.
    pub asset: Option<&'r Asset>,
    /// The releases that it may be of, and the files beside it.
    pub releases: Vec<&'r Release>,
}

/// What a rule means.
#[derive(Debug)]
pub enum Found<'r> {
    /// A file.
    File(Located<'r>),
    /// A container image, whose files its registry knows.
    Image(String),
}

/// Finds what a rule means.
///
/// # Errors
/// The names of which no release has a file.
pub fn locate<'r>(
    rule: &AssetRule,
    release: &'r Release,
    company: &'r Company,
    vars: &Vars<'_>,
) -> Result<Found<'r>, Vec<String>> {
    let located = match &rule.at {
        AssetAt::Url(url) => {
            let url = url.expand(vars);
            let path = url.split(['?', '#']).next().unwrap_or_default();
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            let at = Location::Url(url);
            // A release may know this very file, and its digest.
            let asset = known_at(&at, release, company);
            let all = std::iter::once(release).chain(company.iter().map(|chosen| &*chosen.release));
            Located { name, at, asset, releases: all.collect() }
        }
        AssetAt::Name(name) => {
            let asset = find(name, release, company, vars)?;
            let of = name.of.as_ref().map_or(Some(release), |of| company.release(of));
            let releases = of.into_iter().collect();
            Located { name: asset.name.clone(), at: asset.at.clone(), asset: Some(asset), releases }
        }
        AssetAt::Oci(image) => return Ok(Found::Image(image.expand(vars))),
    };
    Ok(Found::File(located))
}

/// The files that rules pick by name, or that should vouch for them, but that no release has: all names
/// of each, and whose it would be.
pub(super) fn missing(
    component: &Component,
    version: &str,
    release: &Release,
    company: &Company,
    vars: &Vars<'_>,
) -> Vec<Missing> {
    // What is wrong with a rule is told by the build.
    let rules = applicable(component, version).unwrap_or_default();
    let mut missing = Vec::new();
    for rule in rules {
        let of = match &rule.at {
            AssetAt::Name(name) => {
                if let Err(names) = find(name, release, company, vars) {
                    missing.push(Missing { names, of: name.of.clone() });
                }
                &name.of
            }
            AssetAt::Url(_) | AssetAt::Oci(_) => &None,
        };
        for place in rule.trust.places() {
            let Place::Name(name) = place else { continue };
            let beside = AssetName { of: of.clone(), names: vec![name.clone()] };
            if let Err(names) = find(&beside, release, company, vars) {
                missing.push(Missing { names, of: beside.of });
            }
        }
    }
    missing
}

/// A file that a release should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    /// What it may be called.
    pub names: Vec<String>,
    /// The companion whose it would be.
    pub of: Option<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
        f.write_str(&names.join(" or "))?;
        self.of.as_ref().map_or(Ok(()), |of| write!(f, " of the companion `{of}`"))
    }
}

/// Whether a companion's release has every file that is picked from it.
pub(super) fn is_whole(
    component: &Component,
    version: &str,
    arch: &str,
    beside: &Beside,
    release: &Release,
) -> bool {
    let name = component.name.as_str();
    let vars =
        Vars { name, version, arch, beside: std::slice::from_ref(beside), ..Vars::default() };
    let rules = applicable(component, version).unwrap_or_default();
    rules.into_iter().all(|rule| match &rule.at {
        AssetAt::Name(asset) if asset.of.as_ref() == Some(&beside.name) => {
            among(asset, &release.assets, &vars).is_ok()
        }
        AssetAt::Name(_) | AssetAt::Url(_) | AssetAt::Oci(_) => true,
    })
}
