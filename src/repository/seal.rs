//! The seal: what vouches for a folder's manifest as it is served, and whether that is still right.
//!
//! Owns when a folder must be signed although nothing else changes, what is never signed, and the
//! keyring in the root. A crash between the manifest and its signature leaves a stale one: it is seen
//! and healed here, because the signature was pledged before the manifest was written. A manifest
//! that somebody else wrote has no such pledge.

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;

use super::{MANIFEST, Published};
use crate::manifest::Manifest;
use crate::plan::Why;
use crate::sign::{ARMORED, KEYRING, Keyring, SIGNATURE, Signer};
use crate::store::{Lock, Store, StoreError};

/// A manifest that cannot be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// It is served with a signature, and nobody is there to make the next one.
    #[error("{0} is served, but the configuration has no [signing]")]
    Orphaned(&'static str),
    /// Nobody known has signed it as it is.
    #[error("{MANIFEST} is not as any key of [signing] has signed it")]
    Foreign,
}

impl SealError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Orphaned(_) => format!(
                "the next manifest would not fit its signature, and every node with Verify=yes would stop: bring [signing] back, or, once no node asks for signatures, remove {SIGNATURE} and {ARMORED}"
            ),
            Self::Foreign => "nothing is signed that somebody else may have written: look at each of its lines; if all are right, as where [signing] is new, `publish sync --adopt` signs them once".to_owned(),
        })
    }
}

/// The served manifest and its signatures.
#[derive(Debug, Clone, Default)]
pub struct Seal {
    manifest: Option<Bytes>,
    /// What it says of its freshness.
    fresh: Manifest,
    signature: Option<Bytes>,
    armored: Option<Bytes>,
    /// Signatures that were made before the manifests they are of were written.
    pledges: Vec<String>,
}

impl Seal {
    /// Of what was read of a folder.
    #[must_use]
    pub fn of(published: &Published) -> Self {
        let Published { served, signatures: [signature, armored], .. } = published;
        let [manifest, signature, armored] =
            [served, signature, armored].map(|seen| seen.bytes().cloned());
        let fresh = published.manifest.without_files();
        let pledges = published.catalogue.pledges.clone();
        Self { manifest, fresh, signature, armored, pledges }
    }

    /// Why the folder must be signed, if it must; an empty one need not be.
    ///
    /// # Errors
    /// It is signed, but `signer` signs nothing; or nobody that it knows has signed what is served.
    pub fn due(&self, signer: &Signer, now: Timestamp) -> Result<Option<Why>, SealError> {
        let (signature, armored) = (self.signature.as_deref(), self.armored.as_deref());
        match signer {
            Signer::Unsigned if signature.is_some() => Err(SealError::Orphaned(SIGNATURE)),
            Signer::Unsigned if armored.is_some() => Err(SealError::Orphaned(ARMORED)),
            Signer::Unsigned => Ok(None),
            Signer::Key { .. } => {
                let Some(manifest) = &self.manifest else { return Ok(None) };
                // Who can write to the store cannot make us vouch for what he wrote.
                let pledges = self.pledges.iter().map(String::as_bytes);
                let all = signature.into_iter().chain(armored).chain(pledges);
                if !signer.recognises(manifest, all, now) {
                    return Err(SealError::Foreign);
                }
                Ok(if signature.is_none() && armored.is_none() {
                    Some(Why::NotSigned)
                } else if !signer.vouches(manifest, signature, armored, now) {
                    Some(Why::StaleSignature)
                } else if signer.is_due(&self.fresh, now) {
                    Some(Why::Renew)
                } else {
                    None
                })
            }
        }
    }
}

/// Whether the root lacks this keyring.
///
/// # Errors
/// The store cannot be read.
pub async fn keyring_is_due(store: &Store, keyring: &Keyring) -> Result<bool, StoreError> {
    Ok(store.read(KEYRING).await?.is_none_or(|there| *there != *keyring.to_bytes()))
}

/// Puts the keyring into the root, for the set-up of new nodes. Does nothing if it is there.
///
/// # Errors
/// The store cannot be read or written.
pub async fn put_keyring(
    store: &Store,
    _lock: &Lock,
    keyring: &Keyring,
) -> Result<bool, StoreError> {
    let due = keyring_is_due(store, keyring).await?;
    if due {
        store.put(KEYRING, keyring.to_bytes()).await?;
    }
    Ok(due)
}
