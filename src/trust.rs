//! Trust: what lets an upstream's bytes in.
//!
//! Owns checksums, signatures, attestations and the first use of an asset: what each of them is
//! worth, and whether one holds. Knows nothing of how bytes are fetched or what they are for. Nothing
//! here is ever asked of the network: what must be read was fetched before.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::config::asset::Scheme;
use crate::config::trust::Strength;
use crate::config::{Component, Config};

pub mod checksum;
pub mod digest;
mod error;
pub mod lockfile;
pub mod minisign;
pub mod openpgp;
pub mod signature;
pub mod sigstore;
pub mod vouchers;

pub use error::{STRONGER, TrustError, shortage};
use lockfile::Ledger;

/// What an asset must turn out to be, and who says so.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The digest.
    pub digest: digest::Digest,
    /// `the release`, or the URL of a checksum file and who signed that.
    pub by: String,
}

/// What holds for all components of a run.
#[derive(Debug)]
pub struct Guard {
    /// The least that must vouch for an asset.
    pub require: Strength,
    /// What was met before.
    pub ledger: Ledger,
    /// Sigstore's keys, if not those built in.
    root: Option<PathBuf>,
    verifier: OnceLock<Result<sigstore::Verifier, String>>,
}

impl Guard {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let trust = &config.document.trust;
        Self {
            require: trust.require,
            ledger: Ledger::at(config.folder().join(lockfile::NAME), trust.locked),
            root: trust.sigstore_root.as_ref().map(|path| config.folder().join(path)),
            verifier: OnceLock::new(),
        }
    }

    /// Tells of keys of Sigstore's that cannot be used before anything is fetched.
    ///
    /// # Errors
    /// [`TrustError::Root`]
    pub fn check(&self) -> Result<(), TrustError> {
        match &self.root {
            Some(_) => self.sigstore().map(drop),
            None => Ok(()),
        }
    }

    /// Sigstore's verifier, made when it is first needed.
    fn sigstore(&self) -> Result<&sigstore::Verifier, TrustError> {
        let made = self.verifier.get_or_init(|| sigstore::Verifier::new(self.root.as_deref()));
        made.as_ref().map_err(|problem| TrustError::Root { problem: problem.clone() })
    }
}

/// Tells of a key that cannot be used before anything is fetched.
///
/// # Errors
/// [`TrustError::Key`]
pub fn check_keys(component: &Component) -> Result<(), TrustError> {
    let signatures = component.assets.iter().filter_map(|rule| rule.trust.signature.as_ref());
    for signature in signatures {
        let (path, checked) = match &signature.scheme {
            Scheme::Openpgp { keyring, keys } => (keyring, openpgp::read(keyring, keys).map(drop)),
            Scheme::Cosign { key } => (key, sigstore::read_key(key).map(drop)),
            Scheme::Minisign { .. } | Scheme::Sigstore(_) => continue,
        };
        checked.map_err(|problem| TrustError::Key { path: path.clone(), problem })?;
    }
    Ok(())
}
