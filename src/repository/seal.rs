//! The seal: what vouches for a folder's manifest as it is served, and whether that is still right.
//!
//! Owns when a folder must be signed although nothing else changes, and the keyring in the root. A
//! crash between the manifest and its signature leaves a stale one: it is seen and healed here.

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;

use super::Published;
use crate::manifest::Manifest;
use crate::plan::Why;
use crate::sign::{ARMORED, KEYRING, Keyring, SIGNATURE, Signer};
use crate::store::{Lock, Store, StoreError};

/// A manifest that is served with a signature, and nobody to make the next one.
#[derive(Debug, Error)]
#[error("{path} is served, but the configuration has no [signing]")]
pub struct Orphaned {
    path: String,
}

impl Orphaned {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(format!(
            "the next manifest would not fit its signature, and every node with Verify=yes would stop: bring [signing] back, or, once no node asks for signatures, remove {SIGNATURE} and {ARMORED}"
        ))
    }
}

/// The served manifest and its signatures.
#[derive(Debug, Clone, Default)]
pub struct Seal {
    manifest: Option<Bytes>,
    signature: Option<Bytes>,
    armored: Option<Bytes>,
}

impl Seal {
    /// Of what was read of a folder.
    #[must_use]
    pub fn of(published: &Published) -> Self {
        let Published { served, signatures: [signature, armored], .. } = published;
        let [manifest, signature, armored] =
            [served, signature, armored].map(|seen| seen.bytes().cloned());
        Self { manifest, signature, armored }
    }

    /// Why the folder must be signed, if it must; an empty one need not be.
    ///
    /// # Errors
    /// [`Orphaned`]: it is signed, but `signer` signs nothing.
    pub fn due(&self, signer: &Signer, now: Timestamp) -> Result<Option<Why>, Orphaned> {
        let (signature, armored) = (self.signature.as_deref(), self.armored.as_deref());
        match signer {
            Signer::Unsigned if signature.is_some() => Err(Orphaned { path: SIGNATURE.to_owned() }),
            Signer::Unsigned if armored.is_some() => Err(Orphaned { path: ARMORED.to_owned() }),
            Signer::Unsigned => Ok(None),
            Signer::Key { .. } => {
                let Some(manifest) = &self.manifest else { return Ok(None) };
                // One that cannot be read is told elsewhere, and never written over.
                let Ok(lines) = Manifest::parse(manifest) else { return Ok(None) };
                Ok(if signature.is_none() && armored.is_none() {
                    Some(Why::NotSigned)
                } else if !signer.vouches(manifest, signature, armored, now) {
                    Some(Why::StaleSignature)
                } else if signer.is_due(&lines, now) {
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
