//! The assets of a build: which rules hold for a version, and which files of which release they mean.
//!
//! Owns finding them among what the sources tell. Fetches nothing.

use super::company::Company;
use crate::config::Component;
use crate::config::asset_name::AssetName;
use crate::config::component::{AssetAt, AssetRule};
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

/// The files that rules pick by name, but that no release has: all names of each, and whose it
/// would be.
pub(super) fn missing(
    component: &Component,
    version: &str,
    release: &Release,
    company: &Company,
    vars: &Vars<'_>,
) -> Vec<Missing> {
    // What is wrong with a rule is told by the build.
    let rules = applicable(component, version).unwrap_or_default();
    let names = rules.into_iter().filter_map(|rule| match &rule.at {
        AssetAt::Name(name) => Some(name),
        AssetAt::Url(_) | AssetAt::Oci(_) => None,
    });
    names
        .filter_map(|name| {
            let names = find(name, release, company, vars).err()?;
            Some(Missing { names, of: name.of.clone() })
        })
        .collect()
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
