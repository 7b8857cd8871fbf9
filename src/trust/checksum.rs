//! Checksum files: what `sha256sum` and its like print, one digest alone, or a place in JSON.
//!
//! Owns finding one file's digest in such a text. Knows nothing of where it came from.

use std::borrow::Cow;

use thiserror::Error;

use super::digest::{Algorithm, Digest, Word};

/// The largest checksum file that is read, in bytes: a hundred thousand lines.
pub const LARGEST: u64 = 16 << 20;

/// A text that does not tell the digest of a file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChecksumError {
    /// Not a text, or no line in it is a checksum.
    #[error("no {0} digest in it")]
    None(Algorithm),
    /// There are digests, but for other files.
    #[error("no line for `{0}`")]
    NotListed(String),
    /// The file is listed twice, with different digests.
    #[error("two different digests for `{0}`")]
    Ambiguous(String),
    /// Anybody can make another file with that digest.
    #[error("it has {0} digests, which verify nothing: {0} is broken")]
    Weak(&'static str),
    /// Digests of another algorithm than the one asked for.
    #[error("it has {found} digests, not {wanted}")]
    Other {
        /// What it has.
        found: &'static str,
        /// What was asked for.
        wanted: Algorithm,
    },
    /// Not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// JSON, but without that place.
    #[error("nothing at `{0}` in it")]
    NoPlace(String),
    /// The place holds something else.
    #[error("no {wanted} digest at `{place}`")]
    NoDigest {
        /// The pointer.
        place: String,
        /// What was asked for.
        wanted: Algorithm,
    },
}

impl ChecksumError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::None(wanted) => format!("check the template in `{}`", wanted.key()),
            Self::Other { found: "SHA-256", .. } => "write it as `sha256 = …`".to_owned(),
            Self::Other { found: "SHA-512", .. } => "write it as `sha512 = …`".to_owned(),
            Self::Weak(_) | Self::Other { .. } => {
                "look for SHA-256 or SHA-512, a signature, or an attestation; else trust = \"first-use\"".to_owned()
            }
            Self::NotListed(_) | Self::Ambiguous(_) => "check the template in `sha256`".to_owned(),
            Self::NotJson | Self::NoPlace(_) | Self::NoDigest { .. } => {
                "check `json`, a pointer such as \"/assets/{arch}/sha256\"".to_owned()
            }
        }
    }
}

/// The digest of the file called `name`: from a list in the form of GNU coreutils, of the BSDs
/// (`SHA256 (NAME) = …`) or of openssl, or a digest that stands alone.
///
/// # Errors
/// There is none, or more than one.
pub fn find(text: &[u8], name: &str, wanted: Algorithm) -> Result<Digest, ChecksumError> {
    let text = std::str::from_utf8(text).map_err(|_| ChecksumError::None(wanted))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<_> = text.lines().filter_map(read_line).collect();
    let is_ours = |listed: &Option<Cow<'_, str>>| {
        listed.as_deref().is_some_and(|listed| listed.rsplit('/').next() == Some(name))
    };
    let ours: Vec<Word> = match &lines[..] {
        [(word, None)] => vec![*word],
        lines => {
            lines.iter().filter(|(_, listed)| is_ours(listed)).map(|(word, _)| *word).collect()
        }
    };
    let mut fitting = ours.iter().filter_map(|word| match word {
        Word::Digest(digest) if digest.algorithm() == wanted => Some(*digest),
        _ => None,
    });
    if let Some(digest) = fitting.next() {
        if fitting.any(|other| other != digest) {
            return Err(ChecksumError::Ambiguous(name.to_owned()));
        }
        return Ok(digest);
    }
    // What is there instead, for our file or else for any.
    let instead = ours.first().or_else(|| lines.first().map(|(word, _)| word));
    Err(match instead {
        _ if ours.is_empty() && lines.iter().any(|(word, _)| is_of(*word, wanted)) => {
            ChecksumError::NotListed(name.to_owned())
        }
        Some(word) => refusal(*word, wanted),
        None => ChecksumError::None(wanted),
    })
}

/// The digest at a pointer (RFC 6901) in a JSON document.
///
/// # Errors
/// It is none, or the place holds no digest of this algorithm.
pub fn at(text: &[u8], pointer: &str, wanted: Algorithm) -> Result<Digest, ChecksumError> {
    let document: serde_json::Value =
        serde_json::from_slice(text).map_err(|_| ChecksumError::NotJson)?;
    let found = document.pointer(pointer).ok_or_else(|| ChecksumError::NoPlace(pointer.into()))?;
    // Subresource Integrity may name several.
    let words = found.as_str().unwrap_or_default().split_ascii_whitespace().map(Word::read);
    let none = ChecksumError::NoDigest { place: pointer.to_owned(), wanted };
    let mut instead = none;
    for word in words {
        match word {
            Word::Digest(digest) if digest.algorithm() == wanted => return Ok(digest),
            Word::None => {}
            other => instead = refusal(other, wanted),
        }
    }
    Err(instead)
}

fn is_of(word: Word, wanted: Algorithm) -> bool {
    matches!(word, Word::Digest(digest) if digest.algorithm() == wanted)
}

fn refusal(word: Word, wanted: Algorithm) -> ChecksumError {
    match word {
        Word::Other(name @ ("MD5" | "SHA-1")) => ChecksumError::Weak(name),
        Word::Other(found) => ChecksumError::Other { found, wanted },
        Word::Digest(Digest::Sha256(_)) => ChecksumError::Other { found: "SHA-256", wanted },
        Word::Digest(Digest::Sha512(_)) => ChecksumError::Other { found: "SHA-512", wanted },
        Word::None => ChecksumError::None(wanted),
    }
}

fn read_line(line: &str) -> Option<(Word, Option<Cow<'_, str>>)> {
    let line = line.trim();
    let known = |word: Word| (word != Word::None).then_some(word);
    // `SHA256 (NAME) = …`, and without the blanks.
    if line.starts_with(['S', 'M'])
        && let Some((algorithm, rest)) = line.split_once('(')
        && let Some((name, digest)) = rest.rsplit_once(')')
        && let Some(digest) = digest.trim_start().strip_prefix('=')
    {
        let word = known(Word::read(digest.trim()))?;
        return names(algorithm.trim_end(), word).then_some((word, Some(name.into())));
    }
    // A backslash says that the name has escapes in it.
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    match line.split_once([' ', '\t']) {
        None => Some((known(Word::read(line))?, None)),
        Some((digest, name)) => {
            let name = name.trim_start();
            let name = name.strip_prefix('*').unwrap_or(name);
            let name = if escaped { unescape(name)?.into() } else { name.into() };
            Some((known(Word::read(digest))?, Some(name)))
        }
    }
}

/// Whether an algorithm's name, as the BSDs or openssl write it, is that of a digest.
fn names(algorithm: &str, word: Word) -> bool {
    let expected: &[&str] = match word {
        Word::Digest(Digest::Sha256(_)) => &["SHA256", "SHA2-256"],
        Word::Digest(Digest::Sha512(_)) => &["SHA512", "SHA2-512"],
        Word::Other("MD5") => &["MD5"],
        Word::Other("SHA-1") => &["SHA1"],
        Word::Other("SHA-224") => &["SHA224", "SHA2-224"],
        Word::Other("SHA-384") => &["SHA384", "SHA2-384"],
        Word::Other(_) | Word::None => &[],
    };
    expected.contains(&algorithm)
}

fn unescape(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn sha256(text: &str, name: &str) -> Result<String, ChecksumError> {
        find(text.as_bytes(), name, Algorithm::Sha256).map(|digest| digest.to_string())
    }

    #[test]
    fn every_common_form_reads() {
        for text in [
            format!("{A}\n"),
            format!("{}\n", A.to_uppercase()),
            format!("\u{feff}{A}  x.tgz\r\n"),
            format!("{A}  x.tgz\n{B}  y.tgz\n"),
            format!("{A} *x.tgz\r\n{B} *y.tgz\r\n"),
            format!("{B}  y.tgz\n{A}  ./dist/x.tgz"),
            format!("SHA256 (x.tgz) = {A}\n"),
            format!("SHA256(x.tgz)= {A}\nSHA2-256(y.tgz)= {B}\n"),
            format!("# sums\n\n{A}  x.tgz\n"),
            format!("{A}{A}  x.tgz\n{A}  x.tgz\n"),
            format!("sha256:{A}\n"),
        ] {
            assert_eq!(sha256(&text, "x.tgz").as_deref(), Ok(A), "{text}");
        }
        let long = find(format!("{A}{B}  x\n").as_bytes(), "x", Algorithm::Sha512).unwrap();
        assert_eq!(long.to_string(), format!("{A}{B}"));
        let bsd = find(format!("SHA512 (x) = {A}{B}\n").as_bytes(), "x", Algorithm::Sha512);
        assert_eq!(bsd, Ok(long));
    }

    #[test]
    fn a_name_with_escapes_is_that_name() {
        let text = format!("\\{A}  a\\\\b\\nc\n{B}  a\\\\b\\nc\n");
        assert_eq!(sha256(&text, "a\\b\nc").as_deref(), Ok(A));
        assert_eq!(sha256(&text, "a\\\\b\\nc").as_deref(), Ok(B));
        assert!(sha256(&format!("\\{A}  a\\x\n"), "ax").is_err());
    }

    #[test]
    fn what_says_nothing_of_the_file_is_an_error() {
        use ChecksumError::{Ambiguous, NotListed};
        let none = Err(ChecksumError::None(Algorithm::Sha256));
        assert_eq!(sha256("<html>", "x"), none);
        assert_eq!(sha256("", "x"), none);
        assert_eq!(find(b"\xff", "x", Algorithm::Sha256).map(|d| d.to_string()), none);
        assert_eq!(sha256(&format!("{A}  y\n"), "x"), Err(NotListed("x".into())));
        assert_eq!(sha256(&format!("{A}  x\n{B}  x\n"), "x"), Err(Ambiguous("x".into())));
        assert_eq!(sha256(&format!("{A}\n{B}\n"), "x"), Err(NotListed("x".into())));
        // A file whose name only ends like ours is another one.
        assert_eq!(sha256(&format!("{A}  ax\n"), "x"), Err(NotListed("x".into())));
    }

    #[test]
    fn what_is_there_instead_is_told() {
        let weak = |text: &str, name| assert_eq!(sha256(text, "x"), Err(ChecksumError::Weak(name)));
        weak(&format!("{}  x\n", &A[..32]), "MD5");
        weak(&format!("{}\n", &A[..40]), "SHA-1");
        weak(&format!("MD5 (x) = {}\n", &A[..32]), "MD5");
        let other = sha256(&format!("{A}{A}  x\n"), "x").unwrap_err();
        assert_eq!(other.to_string(), "it has SHA-512 digests, not SHA-256");
        assert_eq!(other.hint(), "write it as `sha512 = …`");
        // A list of both, of which ours has only the weak one.
        weak(&format!("{}  x\n{A}  y\n", &A[..40]), "SHA-1");
    }

    #[test]
    fn a_place_in_json_holds_one() {
        let text = format!(
            r#"{{"a":{{"b/c":[{{"sha256":"{A}"}}]}},"i":"sha1-x sha512-{}=="}}"#,
            "A".repeat(86)
        );
        let read = |pointer, wanted| at(text.as_bytes(), pointer, wanted);
        assert_eq!(read("/a/b~1c/0/sha256", Algorithm::Sha256).unwrap().to_string(), A);
        assert_eq!(read("/i", Algorithm::Sha512).unwrap().to_string(), "0".repeat(128));
        assert!(matches!(read("/i", Algorithm::Sha256), Err(ChecksumError::Other { .. })));
        assert!(matches!(read("/a", Algorithm::Sha256), Err(ChecksumError::NoDigest { .. })));
        assert!(matches!(read("/x", Algorithm::Sha256), Err(ChecksumError::NoPlace(_))));
        assert_eq!(at(b"<html>", "/", Algorithm::Sha256), Err(ChecksumError::NotJson));
    }
}
