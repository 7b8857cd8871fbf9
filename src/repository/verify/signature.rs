//! Who vouches for a manifest, and until when.

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

use super::{Look, Origin, Trust, Verified, VerifyError};
use crate::fetch::FetchError;
use crate::manifest::Manifest;
use crate::repository::MANIFEST;
use crate::sign::{ARMORED, Keyring, SIGNATURE, freshness, same_signature};

/// A promise that ends so soon, in hours, is worth a warning.
const SOON: i64 = 48;

/// Who signed a manifest, and until when it may be believed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seal {
    /// Whether there is a signature at all.
    pub signed: bool,
    /// The fingerprint of the primary key, if the signature was checked and is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The user ID of that key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When the promise of freshness ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// Checks both signature files over the manifest as it is served.
pub(super) async fn check(
    origin: &Origin,
    folder: &str,
    manifest: &[u8],
    look: &Look<'_>,
    verified: &mut Verified,
) -> Result<(), VerifyError> {
    let (signature, refused) = ask(origin, folder, SIGNATURE, look).await?;
    let (armored, armored_refused) = ask(origin, folder, ARMORED, look).await?;
    verified.seal.signed = signature.is_some() || armored.is_some();
    let (keyring, convinced) = match look.trust {
        Trust::Keyring(keyring) => (Some(keyring), true),
        Trust::Served(keyring) => (Some(keyring), false),
        Trust::Nobody => (None, false),
    };
    for (name, status) in [(SIGNATURE, refused), (ARMORED, armored_refused)] {
        let Some(status) = status else { continue };
        let told = format!(
            "is answered with {status}: systemd 262 goes on to the next name only if the server says 404"
        );
        if convinced || verified.seal.signed {
            verified.problem(name, told);
        } else {
            verified.warning(name, told);
        }
    }
    match (&signature, &armored) {
        (None, None) => {
            if (convinced || look.signed) && refused.is_none() {
                verified
                    .problem(SIGNATURE, "is missing: nodes with Verify=yes refuse the manifest");
            }
            return Ok(());
        }
        (None, Some(_)) => {
            verified.problem(SIGNATURE, "is missing: systemd 257 reads no other signature");
        }
        (Some(_), None) if armored_refused.is_some() => {}
        (Some(_), None) => verified.warning(
            ARMORED,
            "is missing: systemd 262 asks for it first, and goes on only if the server says 404",
        ),
        (Some(signature), Some(armored)) if !same_signature(signature, armored) => {
            verified.problem(ARMORED, format!("is not the same signature as {SIGNATURE}"));
        }
        (Some(_), Some(_)) => {}
    }
    let Some(keyring) = keyring else {
        verified.warning(
            SIGNATURE,
            "was not checked: --keyring FILE says whose signature it should be",
        );
        return Ok(());
    };
    for (name, bytes) in [(SIGNATURE, &signature), (ARMORED, &armored)] {
        let Some(bytes) = bytes else { continue };
        // The same finding twice would help nobody.
        if name == ARMORED && signature.as_ref().is_some_and(|first| same_signature(first, bytes)) {
            continue;
        }
        check_one(keyring, manifest, name, bytes, look.now, verified);
    }
    if !convinced && verified.seal.by.is_some() {
        verified.warning(
            SIGNATURE,
            "was checked with the keyring of the repository itself, which does not tell who signed: --keyring FILE does",
        );
    }
    Ok(())
}

/// A signature file, if there is one; or the status of a server that will not say.
async fn ask(
    origin: &Origin,
    folder: &str,
    name: &str,
    look: &Look<'_>,
) -> Result<(Option<Bytes>, Option<StatusCode>), VerifyError> {
    match origin.read(folder, name, look.client).await {
        Err(VerifyError::Fetch(FetchError::Status { status, .. }))
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
        {
            Ok((None, Some(status)))
        }
        read => Ok((read?, None)),
    }
}

fn check_one(
    keyring: &Keyring,
    manifest: &[u8],
    name: &str,
    signature: &[u8],
    now: Timestamp,
    verified: &mut Verified,
) {
    match keyring.verify(manifest, signature, now) {
        Ok(by) => {
            if let Some(day) = by.expired {
                let key = &by.primary;
                verified.warning(
                    name,
                    format!(
                        "is by key {key}, which expired on {day}; clients take it all the same"
                    ),
                );
            }
            verified.seal.by = Some(by.primary);
            verified.seal.user = by.user;
        }
        Err(error) => verified.problem(name, error.to_string()),
    }
}

/// Checks until when the manifest may be believed.
pub(super) fn check_freshness(manifest: &Manifest, now: Timestamp, verified: &mut Verified) {
    verified.seal.expires = freshness::expiry(manifest);
    let Some(expires) = verified.seal.expires else { return };
    if expires <= now {
        let problem = format!("is out of date since {expires}: systemd 262 refuses it");
        verified.problem(MANIFEST, problem);
    } else if expires.duration_since(now).as_hours() < SOON {
        verified.warning(MANIFEST, format!("is out of date at {expires}: sync in time"));
    }
    let lines = manifest.freshness().count();
    if lines > 1 {
        verified.warning(
            MANIFEST,
            format!("says {lines} times until when it is good; the first day counts"),
        );
    }
}
