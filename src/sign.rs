//! Signing: the step between a manifest and its publication.
//!
//! Owns who vouches for a manifest. [`SignedManifest`] can only be made here, and only it can be
//! committed, so nothing is published that did not pass this door. Knows nothing of stores.

use crate::manifest::Manifest;
use crate::repository::SIGNATURES;

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
    signature: Option<Vec<u8>>,
}

impl Signer {
    /// Makes a manifest ready to be published.
    #[must_use]
    pub fn sign(&self, manifest: &Manifest) -> SignedManifest {
        match self {
            Self::Unsigned => SignedManifest { manifest: manifest.render(), signature: None },
        }
    }
}

impl SignedManifest {
    /// The bytes of `SHA256SUMS`.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Its detached signature; `None` if nobody vouches for it.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// The signature under every name that clients ask for; none if nobody vouches for it.
    #[must_use]
    pub fn signatures(&self) -> Vec<(&'static str, &[u8])> {
        let signature = self.signature();
        SIGNATURES.iter().filter_map(|name| Some((*name, signature?))).collect()
    }
}
