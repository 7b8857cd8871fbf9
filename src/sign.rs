//! Signing: the step between a manifest and its publication.
//!
//! Owns who vouches for a manifest. [`SignedManifest`] can only be made here, and only it can be
//! committed, so nothing is published that did not pass this door. Knows nothing of stores.

use crate::manifest::Manifest;

/// Who vouches for manifests.
#[derive(Debug, Clone)]
pub enum Signer {
    /// Nobody: clients are told `Verify=no`.
    Unsigned,
}

/// A manifest as it will be published.
#[derive(Debug, Clone)]
pub struct SignedManifest {
    manifest: Vec<u8>,
}

impl Signer {
    /// Makes a manifest ready to be published.
    #[must_use]
    pub fn sign(&self, manifest: &Manifest) -> SignedManifest {
        match self {
            Self::Unsigned => SignedManifest { manifest: manifest.render() },
        }
    }
}

impl SignedManifest {
    /// The bytes of `SHA256SUMS`.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }
}
