//! `[versions]`: which of an upstream's releases a component wants.
//!
//! Owns how that is written. Knows nothing of releases.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Count;
use crate::name::Sha256;
use crate::template::Template;

/// `[versions]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Versions {
    /// What a tag looks like; left out, a version with or without a `v` before it.
    pub tag: Option<Template>,
    /// A semver requirement; with it, a version that is not semver is out.
    pub require: Option<semver::VersionReq>,
    /// Versions that are never wanted.
    pub exclude: Vec<String>,
    /// Digests of files that upstream replaced after they were published, by version: somebody looked
    /// at them and found them right.
    pub accept: BTreeMap<String, Vec<Sha256>>,
    /// How many, the newest first; of each branch where there is `per`.
    pub newest: Count,
    /// What a branch is.
    pub per: Option<Per>,
    /// Whether pre-releases are wanted too.
    pub prerelease: bool,
    /// How old a release must be.
    #[serde(deserialize_with = "some_duration")]
    pub min_age: Option<Duration>,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            tag: None,
            require: None,
            exclude: Vec::new(),
            accept: BTreeMap::new(),
            newest: Count(3),
            per: None,
            prerelease: false,
            min_age: None,
        }
    }
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    super::quantity::duration(from).map(Some)
}

/// A branch of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// `1.x`
    Major,
    /// `1.31.x`
    Minor,
}
