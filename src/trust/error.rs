//! What keeps an asset out, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;

use super::checksum::ChecksumError;
use super::digest::{Algorithm, Digest};
use super::lockfile::LockfileError;
use crate::config::trust::Strength;
use crate::fetch::FetchError;
use crate::name::{FileName, Sha256};

/// An asset that nothing vouches for as it must.
#[derive(Debug, Error)]
pub enum TrustError {
    /// What should vouch for it cannot be had.
    #[error("cannot fetch what vouches for it")]
    Fetch(#[from] FetchError),
    /// The release lacks what should vouch for it.
    #[error("the release has no file `{0}` that would vouch for it")]
    NoFile(String),
    /// A checksum file that says nothing of the asset.
    #[error("{url}: {problem}")]
    Checksum {
        /// The checksum file.
        url: String,
        /// What is wrong with it.
        problem: ChecksumError,
    },
    /// The bytes are not those that were promised.
    #[error("{url} has {algorithm} {got}, but {promised_by} says {expected}")]
    Digest {
        /// What was fetched.
        url: String,
        /// Of the digests.
        algorithm: Algorithm,
        /// Who said what it should be.
        promised_by: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        got: Digest,
    },
    /// Two that should know say two things.
    #[error("{first} says SHA-256 {this}, but {second} says {that}")]
    Disagree {
        /// One.
        first: String,
        /// What it says.
        this: Sha256,
        /// The other.
        second: String,
        /// What that says.
        that: Sha256,
    },
    /// The component's file pins other assets, not this one.
    #[error("`pinned` has no digest of `{0}`")]
    NotPinned(String),
    /// A signature that does not hold.
    #[error("the signature {url} {problem}")]
    Signature {
        /// Where it is.
        url: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A signature by whom nobody named.
    #[error("the signature {url} {problem}")]
    Stranger {
        /// Where it is.
        url: String,
        /// Who made it, and who should have.
        problem: String,
    },
    /// No attestation holds.
    #[error("no attestation of {repo} holds: {problem}")]
    Attestation {
        /// `OWNER/REPOSITORY`
        repo: String,
        /// What is wrong with the last.
        problem: String,
    },
    /// A public key that cannot be used.
    #[error("cannot use the key {path}: {problem}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Sigstore's keys cannot be used.
    #[error("cannot use sigstore's trusted root: {problem}")]
    Root {
        /// What is wrong.
        problem: String,
    },
    /// Other bytes than when it was met first.
    #[error("{file}:{line}: {from} had SHA-256 {before} when it was met first, and has {now} now", file = file.display())]
    Replaced {
        /// The lock file.
        file: PathBuf,
        /// The line in it.
        line: usize,
        /// The asset.
        from: String,
        /// What it was.
        before: Sha256,
        /// What it is.
        now: Sha256,
    },
    /// The lock file says something else than the record of a published image.
    #[error("{file}:{line}: {from} should have SHA-256 {says}, but {image} was made from {published}", file = file.display())]
    Contradicted {
        /// The lock file.
        file: PathBuf,
        /// The line in it.
        line: usize,
        /// The asset.
        from: String,
        /// What the lock file says.
        says: Sha256,
        /// What was made from it.
        image: FileName,
        /// What the asset was then.
        published: Sha256,
    },
    /// Nobody has met it, and nobody may.
    #[error("{file} does not know {from}, and is locked", file = file.display())]
    Unknown {
        /// The lock file.
        file: PathBuf,
        /// The asset.
        from: String,
    },
    /// Less vouches for it than `[trust] require` asks for.
    #[error("{}", shortage(*.has, *.wants))]
    TooWeak {
        /// What vouches for it.
        has: Strength,
        /// What must.
        wants: Strength,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Lockfile(#[from] LockfileError),
    /// The file itself cannot be read again.
    #[error("cannot read what was fetched")]
    Read(#[source] std::io::Error),
}

/// Why so much is not enough.
#[must_use]
pub fn shortage(has: Strength, wants: Strength) -> String {
    let has = match has {
        Strength::Nothing => "nothing vouches for it",
        Strength::FirstUse => "only its first use vouches for it",
        Strength::Digest => "only a digest vouches for it",
        Strength::Signature => "a signature vouches for it",
    };
    let wants = match wants {
        Strength::Nothing => "nothing",
        Strength::FirstUse => "first-use",
        Strength::Digest => "digest",
        Strength::Signature => "signature",
    };
    format!("{has}, and [trust] require is \"{wants}\"")
}

/// What to do where less vouches for an asset than must.
pub const STRONGER: &str = "look for a checksum file, a signature or an attestation of the project, and name it in [[asset]]; if there is none, trust = \"first-use\" or `pinned`";

/// What to do about bytes that are not what they should be.
const CHANGED: &str =
    "the file changed upstream or on the way; do not publish it before you know why";

impl TrustError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Fetch(error) if error.is_too_large() => {
                "no checksum file and no signature is that long"
            }
            Self::Fetch(error) => return error.hint(),
            Self::NoFile(_) => "check the `name` of the checksum file or signature",
            Self::Checksum { problem, .. } => return Some(problem.hint()),
            Self::Digest { .. } | Self::Disagree { .. } => CHANGED,
            Self::NotPinned(_) => {
                "look at the new file, and add its digest; or `require` only the versions that are pinned"
            }
            Self::Signature { hint, .. } => hint,
            Self::Stranger { .. } => {
                "either the project changed who signs, which it will have announced, or somebody else made this file"
            }
            Self::Attestation { .. } => {
                "`gh attestation verify FILE --repo OWNER/REPO` shows who made it; check `workflow` and `ref`"
            }
            Self::Key { .. } => "paths are relative to the component's file",
            Self::Root { .. } => {
                "[trust] sigstore-root names a trusted_root.json, such as `cosign trusted-root create` writes"
            }
            Self::Replaced { now, .. } => {
                return Some(format!(
                    "what is published stays as it is; find out what happened, then exclude the version, or, if the new file is right, write \"{now}\" into [versions] accept"
                ));
            }
            Self::Contradicted { .. } => {
                "one of the two was changed: find out which, and bring the line back from version control"
            }
            Self::Unknown { .. } => {
                "run `publish build NAME` without --locked where the file can be committed, look at the new line, and commit it"
            }
            Self::TooWeak { .. } => STRONGER,
            Self::Lockfile(error) => return Some(error.hint()),
            Self::Read(_) => "downloads go to the folder of temporary files; $TMPDIR names another",
        };
        Some(text.to_owned())
    }
}
