//! OpenPGP signatures of upstreams.
//!
//! Owns whose of a keyring's keys count, and that a signature was made while its key was good. What
//! a signature is, and whether it holds, is [`crate::sign`]'s.

use std::path::Path;

use jiff::Timestamp;

use super::signature::{Flaw, Signed};
use crate::config::asset::Fingerprint;
use crate::sign::{Keyring, SignatureError};

/// Checks that one of the signatures in a file is by a key that counts. Projects that change their
/// key sign with both for a while.
///
/// # Errors
/// Why none holds.
pub fn verify(
    keyring: &Keyring,
    keys: &[Fingerprint],
    signatures: &[u8],
    signed: &Signed<'_>,
    now: Timestamp,
) -> Result<String, Flaw> {
    let counts =
        |fingerprint: &str| keys.is_empty() || keys.iter().any(|key| key.as_str() == fingerprint);
    let found = keyring.vouch(&|| signed.open(), signatures, now).map_err(Flaw::Read)?;
    let mut flaw = None;
    for signature in found {
        match signature {
            Ok(by) if !(counts(&by.key) || counts(&by.primary)) => {
                flaw.get_or_insert_with(|| {
                    Flaw::Stranger(format!("is by key {}, which is not among `keys`", by.primary))
                });
            }
            Ok(by) if by.outlived => {
                flaw = Some(Flaw::Form {
                    problem: format!(
                        "is by key {}, which had expired on {} when it signed",
                        by.key,
                        by.expired.unwrap_or_default()
                    ),
                    hint: "the project will have renewed its key: look for it, and for its new expiry",
                });
            }
            Ok(by) => {
                let user = by.user.map(|user| format!(" ({user})")).unwrap_or_default();
                return Ok(format!("OpenPGP key {}{user}", by.primary));
            }
            Err(SignatureError::WrongKey(key)) => {
                flaw.get_or_insert_with(|| {
                    Flaw::Stranger(format!("is by key {key}, which is not in the keyring"))
                });
            }
            Err(SignatureError::Tampered(_)) => flaw = Some(Flaw::Changed),
            Err(SignatureError::NotASignature) => {
                flaw = Some(Flaw::none("is no detached OpenPGP signature"));
            }
            Err(other) => {
                flaw = Some(Flaw::Form {
                    problem: other.to_string(),
                    hint: "look whether the project has a newer signature, or another key",
                });
            }
        }
    }
    Err(flaw.unwrap_or_else(|| Flaw::none("is no detached OpenPGP signature")))
}

/// Reads a keyring, and tells whether it has every key that is pinned.
///
/// # Errors
/// It is none, or lacks one.
pub fn read(path: &Path, keys: &[Fingerprint]) -> Result<Keyring, String> {
    let keyring = Keyring::read(path).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    })?;
    let known = keyring.all_fingerprints();
    match keys.iter().find(|key| known.iter().all(|known| known != key.as_str())) {
        None => Ok(keyring),
        Some(missing) => Err(format!("it has no key {}", missing.as_str())),
    }
}
