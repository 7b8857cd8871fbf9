//! The assets of a build: where each is, and all that is known of it beforehand.
//!
//! Owns the step from the component's rules to URLs. Pure.

use super::BuildError;
use crate::config::Component;
use crate::fetch;
use crate::plan::{self, Build, Located};
use crate::source::Location;
use crate::trust::TrustError;
use crate::trust::vouchers::Vouchers;

/// An asset of a build.
pub(super) struct Wanted {
    /// Its file name.
    pub(super) name: String,
    /// Where it is.
    pub(super) at: Location,
    /// What it is called in records.
    pub(super) from: String,
    /// Its length in bytes, if the source tells it.
    pub(super) size: Option<u64>,
    /// Where an API gives it to who has a token.
    pub(super) private: Option<String>,
    /// What vouches for it.
    pub(super) vouchers: Vouchers,
}

impl Wanted {
    /// Its URL, if it is not here already.
    pub(super) fn url(&self) -> Option<&str> {
        match &self.at {
            Location::Url(url) => Some(url),
            Location::File(_) => None,
        }
    }
}

/// The assets of a build, in the order of the recipe.
pub(super) fn locate_all(component: &Component, build: &Build) -> Result<Vec<Wanted>, BuildError> {
    let vars = build.vars(component);
    let rules = plan::applicable(component, &build.version).map_err(BuildError::Rule)?;
    let wanted = rules.into_iter().map(|rule| {
        let Located { name, at, asset } =
            plan::locate(rule, &build.release, &vars).map_err(BuildError::NoAsset)?;
        let vouchers =
            Vouchers::of(&rule.trust, &component.source, (&name, &at), &build.release, &vars);
        let vouchers = vouchers.map_err(|file| BuildError::Trust {
            asset: name.clone(),
            source: TrustError::NoFile(file),
        })?;
        Ok(Wanted {
            from: from(&name, &at),
            size: asset.and_then(|asset| asset.size),
            private: asset.and_then(|asset| asset.private.clone()),
            name,
            at,
            vouchers,
        })
    });
    wanted.collect()
}

/// What an asset is called in records: its URL, or its name in a folder.
pub(crate) fn from(name: &str, at: &Location) -> String {
    match at {
        Location::Url(url) => fetch::without_password(url),
        Location::File(_) => name.to_owned(),
    }
}
