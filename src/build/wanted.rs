//! The assets of a build: where each is, and all that is known of it beforehand.
//!
//! Owns the step from the component's rules to URLs. Pure.

use super::BuildError;
use super::layers::LayerOf;
use crate::config::Component;
use crate::fetch;
use crate::fetch::oci::{Reference, ReferenceError};
use crate::plan::{Build, assets};
use crate::source::{Location, Private};
use crate::trust::TrustError;
use crate::trust::vouchers::Vouchers;

/// A file for a build.
pub(super) struct Wanted {
    /// Which of the recipe's assets it belongs to.
    pub(super) rule: usize,
    /// Its file name.
    pub(super) name: String,
    /// Where it is.
    pub(super) at: Location,
    /// What it is called in records.
    pub(super) from: String,
    /// Its length in bytes, if the source tells it.
    pub(super) size: Option<u64>,
    /// Where an API gives it to who has a token.
    pub(super) private: Option<Private>,
    /// What vouches for it.
    pub(super) vouchers: Vouchers,
    /// Set for a layer of an image, of which more is known.
    pub(super) layer: Option<LayerOf>,
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

/// Where the asset of a rule is.
pub(super) enum Found {
    /// In one place.
    File(Box<Wanted>),
    /// In a registry, which knows of what layers it is made.
    Image(Reference, Box<Vouchers>),
}

impl Found {
    /// The URL of the one place, if it is not here already.
    pub(super) fn url(&self) -> Option<&str> {
        match self {
            Self::File(file) => file.url(),
            Self::Image(..) => None,
        }
    }
}

/// The assets of a build, in the order of the recipe.
pub(super) fn locate_all(component: &Component, build: &Build) -> Result<Vec<Found>, BuildError> {
    let vars = build.vars(component);
    let rules = assets::applicable(component, &build.upstream).map_err(BuildError::Rule)?;
    let found = rules.into_iter().enumerate().map(|(number, rule)| {
        let located = assets::locate(rule, &build.release, &build.company, &vars)
            .map_err(|names| BuildError::NoAsset(names.join("` or `")))?;
        let located = match located {
            assets::Found::File(located) => located,
            assets::Found::Image(image) => {
                let vouchers = Vouchers::of_image(&rule.trust, &image);
                // A version may have what no tag can have.
                let reference = image.parse();
                let reference = reference
                    .map_err(|error: ReferenceError| BuildError::Rule(error.to_string()))?;
                return Ok(Found::Image(reference, Box::new(vouchers)));
            }
        };
        let vouchers = Vouchers::of(&rule.trust, &component.source, &located, &vars);
        let vouchers = vouchers.map_err(|file| BuildError::Trust {
            asset: located.name.clone(),
            source: TrustError::NoFile(file),
        })?;
        let assets::Located { name, at, asset, .. } = located;
        Ok(Found::File(Box::new(Wanted {
            rule: number,
            from: from(&name, &at),
            size: asset.and_then(|asset| asset.size),
            private: asset.and_then(|asset| asset.private.clone()),
            name,
            at,
            vouchers,
            layer: None,
        })))
    });
    found.collect()
}

/// What an asset is called in records: its URL, or its name in a folder.
pub(crate) fn from(name: &str, at: &Location) -> String {
    match at {
        Location::Url(url) => fetch::for_records(url),
        Location::File(_) => name.to_owned(),
    }
}
