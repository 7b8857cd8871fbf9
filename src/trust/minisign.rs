//! Signatures of minisign.
//!
//! Owns their keys and what their trusted comment says. Knows nothing of where they come from.

use minisign_verify::{Error, PublicKey, Signature};
use serde::Deserialize;

use super::signature::{Flaw, Signed};

/// The longest signature that is read, in bytes; real ones have 300.
const LONGEST: usize = 4096;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Key {
    text: String,
    key: PublicKey,
}

impl TryFrom<String> for Key {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match PublicKey::from_base64(text.trim()) {
            Ok(key) => Ok(Self { text: text.trim().to_owned(), key }),
            Err(_) => Err(format!(
                "`{}` is no public key of minisign\nhint: the second line of minisign.pub: it begins with RW",
                text.chars().take(80).collect::<String>().escape_debug()
            )),
        }
    }
}

impl Key {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Checks a signature of the file called `name`.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(
        &self,
        signature: &[u8],
        signed: &Signed<'_>,
        name: &str,
        any_file: bool,
    ) -> Result<(), Flaw> {
        let text = std::str::from_utf8(signature).ok().filter(|text| text.len() <= LONGEST);
        let signature = text
            .and_then(|text| Signature::decode(text).ok())
            .ok_or_else(|| Flaw::none("is no signature of minisign"))?;
        let verified = match signed {
            Signed::Document(bytes) => self.key.verify(bytes, &signature, true),
            Signed::File(file) => match self.key.verify_stream(&signature) {
                Ok(mut verifier) => {
                    let mut reader = file.open();
                    let mut piece = vec![0; 256 << 10];
                    loop {
                        match std::io::Read::read(&mut reader, &mut piece) {
                            Ok(0) => break verifier.finalize(),
                            Ok(n) => verifier.update(&piece[..n]),
                            Err(error) => return Err(Flaw::Read(error)),
                        }
                    }
                }
                Err(error) => Err(error),
            },
        };
        verified.map_err(|error| match error {
            Error::UnexpectedKeyId => {
                Flaw::Stranger(format!("is by another key than {}", self.text))
            }
            Error::UnsupportedLegacyMode => Flaw::Form {
                problem: "is of minisign's old form, for which the whole file must be in memory".to_owned(),
                hint: "ask the project to sign with minisign 0.8 or newer, or for a signed checksum file",
            },
            _ => Flaw::Changed,
        })?;
        let comment = signature.trusted_comment();
        let other = comment
            .split('\t')
            .find_map(|part| part.strip_prefix("file:"))
            .map(|file| file.rsplit('/').next().unwrap_or(file))
            .filter(|file| !any_file && *file != name);
        match other {
            None => Ok(()),
            // Right in itself, so it may be that of another version's file, put in this one's place.
            Some(other) => Err(Flaw::Form {
                problem: format!("is of the file `{}`, not of `{name}`", other.escape_debug()),
                hint: "it may be an older file under a newer name; if the project names it otherwise before it signs, add any-file = true",
            }),
        }
    }
}
