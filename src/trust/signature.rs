//! A signature of any kind: what it is of, and whether it holds.
//!
//! Owns what the kinds have in common. Each kind has a file of its own.

use std::io::{self, Read};

use jiff::Timestamp;

use super::vouchers::{Signature, Whose};
use super::{Guard, TrustError, openpgp, sigstore};
use crate::fetch::arriving::Arriving;

/// The largest signature or bundle that is read, in bytes.
pub const LARGEST: u64 = 1 << 20;

/// What a signature is of.
#[derive(Debug, Clone, Copy)]
pub enum Signed<'a> {
    /// A text that is in memory, such as a checksum file.
    Document(&'a [u8]),
    /// A file that is here, and may be large.
    File(&'a Arriving),
}

impl<'a> Signed<'a> {
    /// Reads it from its first byte: the very bytes that the image is made of.
    #[must_use]
    pub fn open(&self) -> Box<dyn Read + 'a> {
        match *self {
            Self::Document(bytes) => Box::new(bytes),
            Self::File(file) => Box::new(file.open()),
        }
    }
}

/// Why a signature does not hold.
#[derive(Debug)]
pub enum Flaw {
    /// It holds for other bytes, or for none.
    Changed,
    /// It is by somebody else.
    Stranger(String),
    /// It cannot hold as it is.
    Form {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// What it is of cannot be read.
    Read(io::Error),
}

impl Flaw {
    /// Something that is no signature at all.
    pub(super) fn none(problem: &str) -> Self {
        Self::Form { problem: problem.to_owned(), hint: "check where `signature` points to" }
    }

    fn told(self, url: &str) -> TrustError {
        let url = url.to_owned();
        match self {
            Self::Changed => TrustError::Signature {
                url,
                problem:
                    "does not fit: the file or the signature was changed, or it is another file's"
                        .to_owned(),
                hint: "do not publish it before you know why",
            },
            Self::Stranger(problem) => TrustError::Stranger { url, problem },
            Self::Form { problem, hint } => TrustError::Signature { url, problem, hint },
            Self::Read(error) => TrustError::Read(error),
        }
    }
}

/// Checks `bytes`, a signature, over what it is of: the file called `name`. Gives who made it. Reads
/// all of the file, so not for a thread that has other things to do.
///
/// # Errors
/// It does not hold, or a key of ours cannot be used.
pub fn verify(
    guard: &Guard,
    signature: &Signature,
    bytes: &[u8],
    signed: Signed<'_>,
    name: &str,
) -> Result<String, TrustError> {
    let key = |path: &std::path::Path| {
        let path = path.to_owned();
        |problem: String| TrustError::Key { path, problem }
    };
    let holds = match &signature.whose {
        Whose::Openpgp { keyring, keys } => {
            let ring = openpgp::read(keyring, keys).map_err(key(keyring))?;
            openpgp::verify(&ring, keys, bytes, &signed, Timestamp::now())
        }
        Whose::Minisign { key, any_file } => key
            .verify(bytes, &signed, name, *any_file)
            .map(|()| format!("minisign key {}", key.as_str())),
        Whose::Cosign { key: path } => {
            let public = sigstore::read_key(path).map_err(key(path))?;
            sigstore::by_key(guard.sigstore()?, &public, bytes, &signed)
                .map(|()| format!("cosign key {}", path.display()))
        }
        Whose::Sigstore(who) => sigstore::by_identity(guard.sigstore()?, who, bytes, &signed)
            .map(|()| format!("sigstore identity {}", who.identity)),
    };
    holds.map_err(|flaw| flaw.told(&signature.at.to_string()))
}
