//! Secrets: from the environment or a file into memory, and nowhere else.
//!
//! Owns where a secret may come from: also the credentials that systemd gives a service with
//! `LoadCredential=`, files in a folder that only the service sees. Errors name the place, never what is there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::SecretAt;

/// The longest secret that is read, in bytes; an RSA key with its signatures has a hundredth.
const LONGEST: u64 = 1 << 20;

/// A secret that is not there.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The environment lacks it.
    #[error("the environment has no {0}")]
    Unset(String),
    /// CI systems give out empty variables where a secret is not to be had.
    #[error("the environment's {0} is empty")]
    Empty(String),
    /// The file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It should be one line of text, and is not.
    #[error("it is not one line of text")]
    NoText,
    /// Nobody gave us credentials.
    #[error("there is no credential {0}: the environment has no CREDENTIALS_DIRECTORY")]
    NoCredentials(String),
    /// The file has nothing in it.
    #[error("{} is empty", .0.display())]
    EmptyFile(PathBuf),
}

/// Reads a secret; a file is looked for from `base`.
///
/// # Errors
/// It is not there.
pub fn read(at: &SecretAt, base: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    match at {
        SecretAt::Env(name) => {
            use std::os::unix::ffi::OsStringExt;
            let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset(name.clone()))?;
            let value = Zeroizing::new(value.into_vec());
            if value.trim_ascii().is_empty() {
                return Err(SecretError::Empty(name.clone()));
            }
            Ok(value)
        }
        SecretAt::File(file) => {
            let path = base.join(file);
            warn_of_readers(&path);
            read_whole(path)
        }
        // Whom it is readable for is the service manager's doing.
        SecretAt::Credential(name) => match credential(name) {
            Some(path) => read_whole(path),
            None => Err(SecretError::NoCredentials(name.clone())),
        },
    }
}

/// Where a credential is, if we were given any.
fn credential(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty())?;
    Some(Path::new(&folder).join(name))
}

fn read_whole(path: PathBuf) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let value =
        read_file(&path).map_err(|source| SecretError::File { path: path.clone(), source })?;
    if value.trim_ascii().is_empty() {
        return Err(SecretError::EmptyFile(path));
    }
    Ok(value)
}

fn warn_of_readers(path: &Path) {
    let readable = |metadata: std::fs::Metadata| metadata.is_file() && metadata.mode() & 0o077 != 0;
    if std::fs::metadata(path).is_ok_and(readable) {
        let path = path.display();
        tracing::warn!("{path} is readable for others: `chmod 600 {path}`");
    }
}

/// Reads a secret that is one line of text: without the newline that it comes with, and only what a
/// header or a URL can hold.
///
/// # Errors
/// As [`read`], or it is something else.
pub fn read_line(at: &SecretAt, base: &Path) -> Result<Zeroizing<String>, SecretError> {
    let secret = read(at, base)?;
    let text = std::str::from_utf8(secret.trim_ascii()).ok();
    let text = text.filter(|text| !text.chars().any(char::is_control));
    text.map(|text| Zeroizing::new(text.to_owned())).ok_or(SecretError::NoText)
}

/// Whether there is anything to read at all.
#[must_use]
pub fn is_there(at: &SecretAt, base: &Path) -> bool {
    match at {
        SecretAt::Env(name) => std::env::var_os(name).is_some_and(|value| !value.is_empty()),
        SecretAt::File(file) => base.join(file).exists(),
        SecretAt::Credential(name) => credential(name).is_some_and(|path| path.exists()),
    }
}

fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe would wait for somebody to write.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    // Once and for all: a vector that grows leaves copies behind.
    let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(LONGEST).unwrap_or(0) + 1));
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut value)?;
    Ok(value)
}
