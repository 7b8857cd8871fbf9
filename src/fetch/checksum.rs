//! Checksum files: what `sha256sum` prints, or one digest alone.
//!
//! Owns finding one file's digest in such a text. Knows nothing of where it came from.

use thiserror::Error;

use crate::name::Sha256;

/// A text that does not tell the digest of a file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChecksumError {
    /// Not a text, or no line in it is a checksum.
    #[error("no SHA-256 digest in it")]
    None,
    /// There are digests, but for other files.
    #[error("no line for `{0}`")]
    NotListed(String),
    /// The file is listed twice, with different digests.
    #[error("two different digests for `{0}`")]
    Ambiguous(String),
}

/// The digest of the file called `name`: from a list in the form of GNU `sha256sum` or of the BSDs
/// (`SHA256 (NAME) = …`), or a digest that stands alone.
///
/// # Errors
/// There is none, or more than one.
pub fn find(text: &[u8], name: &str) -> Result<Sha256, ChecksumError> {
    let text = std::str::from_utf8(text).map_err(|_| ChecksumError::None)?;
    let lines: Vec<_> = text.lines().filter_map(read_line).collect();
    if let [(digest, None)] = lines[..] {
        return Ok(digest);
    }
    let mut named = lines
        .iter()
        .filter(|(_, listed)| listed.is_some_and(|listed| listed.rsplit('/').next() == Some(name)))
        .map(|(digest, _)| *digest);
    let Some(digest) = named.next() else {
        return Err(if lines.is_empty() {
            ChecksumError::None
        } else {
            ChecksumError::NotListed(name.to_owned())
        });
    };
    if named.any(|other| other != digest) {
        return Err(ChecksumError::Ambiguous(name.to_owned()));
    }
    Ok(digest)
}

fn read_line(line: &str) -> Option<(Sha256, Option<&str>)> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (name, digest) = rest.rsplit_once(") = ")?;
        return Some((digest.parse().ok()?, Some(name)));
    }
    match line.split_once([' ', '\t']) {
        None => Some((line.parse().ok()?, None)),
        Some((digest, name)) => {
            let name = name.trim_start();
            Some((digest.parse().ok()?, Some(name.strip_prefix('*').unwrap_or(name))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn every_common_form_reads() {
        for text in [
            format!("{A}\n"),
            format!("{A}  x.tgz\n{B}  y.tgz\n"),
            format!("{A} *x.tgz\r\n{B} *y.tgz\r\n"),
            format!("{B}  y.tgz\n{A}  ./dist/x.tgz"),
            format!("SHA256 (x.tgz) = {A}\n"),
            format!("# sums\n\n{A}  x.tgz\n"),
        ] {
            assert_eq!(find(text.as_bytes(), "x.tgz").unwrap().to_string(), A, "{text}");
        }
    }

    #[test]
    fn what_says_nothing_of_the_file_is_an_error() {
        assert_eq!(find(b"<html>", "x"), Err(ChecksumError::None));
        assert_eq!(find(b"\xff", "x"), Err(ChecksumError::None));
        assert_eq!(
            find(format!("{A}  y\n").as_bytes(), "x"),
            Err(ChecksumError::NotListed("x".into()))
        );
        assert_eq!(
            find(format!("{A}  x\n{B}  x\n").as_bytes(), "x"),
            Err(ChecksumError::Ambiguous("x".into()))
        );
        assert_eq!(
            find(format!("{A}\n{B}\n").as_bytes(), "x"),
            Err(ChecksumError::NotListed("x".into()))
        );
    }
}
