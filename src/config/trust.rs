//! `[trust]`: what must vouch for everything that upstreams give.
//!
//! Owns how that is written. Knows nothing of how anything is verified.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[trust]`: what must vouch for everything that upstreams give.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Trust {
    /// The least that must vouch for an asset.
    pub require: Strength,
    /// Whether `publish.lock` stays as it is: an asset with `trust = "first-use"` that it does not
    /// know is refused.
    pub locked: bool,
    /// Sigstore's own keys, as its tools write them, relative to the configuration file; those that
    /// `publish` was built with, if left out.
    pub sigstore_root: Option<PathBuf>,
}

/// How much vouches for an asset, from the least to the most.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Deserialize,
    serde::Serialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// Nothing.
    #[default]
    Nothing,
    /// It is the same as when it was met first.
    FirstUse,
    /// Somebody gives its digest: the release, a checksum file. Or it lies on this machine already.
    Digest,
    /// A signature by somebody who is named in the component's file, or a digest that is.
    Signature,
}
