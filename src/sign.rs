//! Signing: the step between a manifest and its publication.
//!
//! Owns who vouches for a manifest, and until when. [`SignedManifest`] can only be made here, and
//! only it can be committed, so nothing is published that did not pass this door. Needs no network
//! and no store: a key, the clock and random numbers are all.
//!
//! A signer that is not in this process, such as a key service, is one more member of [`Signer`]: it
//! gets the bytes of a manifest and gives back one detached signature. The compiler then asks for its
//! public half and its promise wherever they are needed.

use std::time::Duration;

use jiff::Timestamp;
use pgp::composed::{ArmorOptions, DetachedSignature};
use pgp::ser::Serialize;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::manifest::{self, Manifest};

mod certificate;
pub mod freshness;
pub mod key;
pub mod keyring;
pub mod secret;
#[cfg(test)]
mod tests;

pub use key::{KeyError, SigningKey};
pub use keyring::{Keyring, KeyringError, SignatureError, SignedBy};

/// The signature in binary form: the one that systemd 257 asks for.
pub const SIGNATURE: &str = "SHA256SUMS.gpg";

/// The same signature, armored: the first one that systemd 262 asks for. A server that answers
/// anything but 404 to a file that is not there would stop it.
pub const ARMORED: &str = "SHA256SUMS.sha256.asc";

/// What nodes keep at `/etc/systemd/import-pubring.gpg`, in the root of a signed repository.
pub const KEYRING: &str = "import-pubring.gpg";

/// Who vouches for manifests.
#[derive(Debug, Default)]
pub enum Signer {
    /// Nobody: clients are told `Verify=no`.
    #[default]
    Unsigned,
    /// A key in this process.
    Key {
        /// The key.
        key: Box<SigningKey>,
        /// How long clients may believe a manifest; for ever, if there is no such promise.
        best_before: Option<Duration>,
        /// Whose earlier signatures make a manifest one that may be signed anew.
        known: Keyring,
        /// Whether one is signed that nobody known has signed: somebody has looked at it.
        adopt: bool,
    },
}

/// A signature that could not be made.
#[derive(Debug, Error)]
#[error("the manifest cannot be signed")]
pub struct SignError(#[source] pgp::errors::Error);

/// A manifest as it will be published.
#[derive(Debug, Clone)]
pub struct SignedManifest {
    lines: Manifest,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Signer {
    /// The one that the configuration asks for.
    ///
    /// # Errors
    /// The key is not there, or cannot be used.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        let Some(signing) = &config.document.signing else { return Ok(Self::Unsigned) };
        let base = config.folder();
        let secret = |what, at| {
            secret::read(at, base).map_err(|error| {
                let hint = "`publish key generate` makes a signing key; without [signing], nothing is signed";
                told(config, what, &error, Some(hint.to_owned()))
            })
        };
        let passphrase = match &signing.passphrase {
            Some(at) => Some(secret("passphrase", at)?),
            None => None,
        };
        let passphrase = passphrase.as_deref().map(|text| without_newline(text));
        let bytes = secret("key", &signing.key)?;
        let key = SigningKey::read(&bytes, passphrase, Timestamp::now())
            .map_err(|error| told(config, "key", &error, error.hint()))?;
        if let Some(day) = key.expires_soon(Timestamp::now()) {
            tracing::warn!(
                "the signing key expires on {day}, and nothing is signed with it after that"
            );
        }
        let mut signer = Self::with_key(key, signing.best_before);
        if let (Some(all), Self::Key { known, .. }) =
            (client_keyring(config, &signer)?, &mut signer)
        {
            *known = all;
        }
        Ok(if config.adopt { signer.adopting() } else { signer })
    }

    /// One with this key, and no other one that counts.
    #[must_use]
    pub fn with_key(key: SigningKey, best_before: Option<Duration>) -> Self {
        Self::Key { known: key.public(), key: Box::new(key), best_before, adopt: false }
    }

    /// The same, for a run in which every manifest is signed as it is served: somebody has looked.
    #[must_use]
    pub fn adopting(mut self) -> Self {
        if let Self::Key { adopt, .. } = &mut self {
            *adopt = true;
        }
        self
    }

    /// Whether a manifest may be signed as it is served: one of these signatures over it is by a key
    /// that is known, or somebody has looked at it.
    #[must_use]
    pub fn recognises<'s>(
        &self,
        manifest: &[u8],
        signatures: impl IntoIterator<Item = &'s [u8]>,
        now: Timestamp,
    ) -> bool {
        match self {
            Self::Unsigned => true,
            Self::Key { known, adopt, .. } => {
                let is_right = |signature| known.verify(manifest, signature, now).is_ok();
                *adopt || signatures.into_iter().any(is_right)
            }
        }
    }

    /// Makes a manifest ready to be published, now: its promise is written anew.
    ///
    /// # Errors
    /// The key gives no signature.
    pub fn sign(&self, manifest: &Manifest) -> Result<SignedManifest, SignError> {
        self.sign_at(manifest, Timestamp::now())
    }

    /// The same, at any time.
    ///
    /// # Errors
    /// The key gives no signature.
    pub fn sign_at(
        &self,
        manifest: &Manifest,
        now: Timestamp,
    ) -> Result<SignedManifest, SignError> {
        let mut lines = manifest.clone();
        match self {
            Self::Unsigned => {
                let files = vec![(manifest::FILE, lines.render())];
                Ok(SignedManifest { lines, files })
            }
            Self::Key { key, best_before, .. } => {
                freshness::promise(&mut lines, *best_before, now);
                let text = lines.render();
                let signature = key.sign(&text, now).map_err(SignError)?;
                let (binary, armored) = forms(&signature).map_err(SignError)?;
                let files = vec![(manifest::FILE, text), (SIGNATURE, binary), (ARMORED, armored)];
                Ok(SignedManifest { lines, files })
            }
        }
    }

    /// Whether the promise in a manifest must be renewed.
    #[must_use]
    pub fn is_due(&self, manifest: &Manifest, now: Timestamp) -> bool {
        match self {
            Self::Unsigned => false,
            Self::Key { best_before, .. } => freshness::due(manifest, *best_before, now),
        }
    }

    /// Whether what is served beside a manifest is what this signer would serve: both files, with
    /// one and the same signature, by this very key, over these bytes.
    #[must_use]
    pub fn vouches(
        &self,
        manifest: &[u8],
        signature: Option<&[u8]>,
        armored: Option<&[u8]>,
        now: Timestamp,
    ) -> bool {
        match self {
            Self::Unsigned => signature.is_none() && armored.is_none(),
            Self::Key { key, .. } => {
                let (Some(signature), Some(armored)) = (signature, armored) else { return false };
                same_signature(signature, armored)
                    && key.public().verify(manifest, signature, now).is_ok()
            }
        }
    }

    /// The public keys that nodes need for this signer; `None` if it signs nothing.
    #[must_use]
    pub fn public(&self) -> Option<Keyring> {
        match self {
            Self::Unsigned => None,
            Self::Key { key, .. } => Some(key.public()),
        }
    }
}

/// Whether two files hold one and the same signature, in whatever form.
#[must_use]
pub fn same_signature(one: &[u8], other: &[u8]) -> bool {
    match (keyring::parse_signature(one), keyring::parse_signature(other)) {
        (Ok(one), Ok(other)) => one.signature.to_bytes().ok() == other.signature.to_bytes().ok(),
        _ => false,
    }
}

fn forms(signature: &DetachedSignature) -> Result<(Vec<u8>, Vec<u8>), pgp::errors::Error> {
    Ok((signature.to_bytes()?, signature.to_armored_bytes(ArmorOptions::default())?))
}

/// An error about a key of `[signing]`, in one line, because it is the configuration that is wrong.
fn told(
    config: &Config,
    what: &str,
    problem: &dyn std::error::Error,
    hint: Option<String>,
) -> ConfigError {
    let cause = problem.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let error = ConfigError::new(&config.file, format!("[signing] {what}: {problem}{cause}"));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Editors and `echo` end a file with a newline that nobody means.
fn without_newline(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// The keyring that nodes need: the signer's own key, and those that the configuration adds.
/// `None` if nothing is signed.
///
/// # Errors
/// One of the added files is no keyring.
pub fn client_keyring(config: &Config, signer: &Signer) -> Result<Option<Keyring>, ConfigError> {
    let Some(mut keyring) = signer.public() else { return Ok(None) };
    for file in config.document.signing.iter().flat_map(|signing| &signing.keyring) {
        let path = config.folder().join(file);
        keyring.add(
            Keyring::read(&path).map_err(|error| told(config, "keyring", &error, error.hint()))?,
        );
    }
    Ok(Some(keyring))
}

impl SignedManifest {
    /// What is to be written: the manifest first, then what vouches for it.
    #[must_use]
    pub fn files(&self) -> &[(&'static str, Vec<u8>)] {
        &self.files
    }

    /// The signature, armored, if there is one.
    #[must_use]
    pub fn armored(&self) -> Option<&[u8]> {
        self.files.iter().find(|(name, _)| *name == ARMORED).map(|(_, bytes)| &bytes[..])
    }

    /// The bytes of `SHA256SUMS`.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.files[0].1
    }

    /// The lines of it, with the promise that was added.
    #[must_use]
    pub fn lines(&self) -> &Manifest {
        &self.lines
    }
}
