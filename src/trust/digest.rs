//! Digests as people and programs write them down.
//!
//! Owns the spellings, and which algorithms verify anything at all. Knows nothing of files.

use std::fmt;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Digest as _;

use crate::name::Sha256;

/// A digest that verifies something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("minLength" = 44))]
pub enum Digest {
    /// SHA-256
    Sha256(Sha256),
    /// SHA-512
    Sha512(Sha512),
}

/// The algorithms that a checksum file may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
}

/// A SHA-512 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha512([u8; 64]);

impl Sha512 {
    /// The digest of all that `reader` gives.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn of_reader(reader: &mut dyn Read) -> std::io::Result<Self> {
        let mut hasher = sha2::Sha512::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self(hasher.finalize().into())),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Display for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        })
    }
}

impl Algorithm {
    /// How the configuration spells it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl Digest {
    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Sha512(digest) => digest.fmt(f),
        }
    }
}

/// A word of a text that may be a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// One that verifies something.
    Digest(Digest),
    /// One of an algorithm that is not taken: its name.
    Other(&'static str),
    /// Something else.
    None,
}

impl Word {
    /// Reads hexadecimal digits of either case, `sha256:` before them, or base64 as in Subresource
    /// Integrity: `sha512-…`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let (name, value) = match text.split_once([':', '-', '=']) {
            Some((name, value)) if name.len() <= 7 => (name.to_ascii_lowercase(), value),
            _ => (String::new(), text),
        };
        let bytes = match &*name {
            "" => from_hex(text).or_else(|| from_base64(text)),
            "md5" | "sha1" | "sha224" | "sha256" | "sha384" | "sha512" => {
                from_hex(value).or_else(|| from_base64(value))
            }
            _ => None,
        };
        let Some(bytes) = bytes else { return Self::None };
        let found = if let Ok(bytes) = <[u8; 32]>::try_from(&*bytes) {
            ("sha256", Self::Digest(Digest::Sha256(bytes.into())))
        } else if let Ok(bytes) = <[u8; 64]>::try_from(&*bytes) {
            ("sha512", Self::Digest(Digest::Sha512(Sha512(bytes))))
        } else {
            match bytes.len() {
                16 => ("md5", Self::Other("MD5")),
                20 => ("sha1", Self::Other("SHA-1")),
                28 => ("sha224", Self::Other("SHA-224")),
                48 => ("sha384", Self::Other("SHA-384")),
                _ => return Self::None,
            }
        };
        if name.is_empty() || name == found.0 { found.1 } else { Self::None }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || !(32..=128).contains(&text.len()) {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// With its padding, so that no ordinary word is taken for a digest.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let padded = (24..=88).contains(&text.len()) && (text.ends_with('=') || text.len() == 64);
    padded.then(|| STANDARD.decode(text).ok())?
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let hint = "64 hexadecimal digits are SHA-256, 128 are SHA-512";
        match Word::read(text.trim()) {
            Word::Digest(digest) => Ok(digest),
            Word::Other(name @ ("MD5" | "SHA-1")) => {
                Err(format!("{name} is broken, and verifies nothing\nhint: {hint}"))
            }
            Word::Other(name) => Err(format!("{name} is not known here\nhint: {hint}")),
            Word::None => {
                let shown: String = text.chars().take(80).collect();
                Err(format!("`{}` is no digest\nhint: {hint}", shown.escape_debug()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of nothing at all, by coreutils and openssl.
    const EMPTY_256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_512: &str = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    #[test]
    fn every_spelling_is_the_same_digest() {
        for (spellings, digest) in [
            (
                [
                    EMPTY_256.to_owned(),
                    EMPTY_256.to_uppercase(),
                    format!("sha256:{EMPTY_256}"),
                    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
                    "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
                ],
                EMPTY_256,
            ),
            (
                [
                    EMPTY_512.to_owned(),
                    EMPTY_512.to_uppercase(),
                    format!("SHA512:{EMPTY_512}"),
                    "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==".to_owned(),
                    "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==".to_owned(),
                ],
                EMPTY_512,
            ),
        ] {
            for spelling in spellings {
                let read = Digest::try_from(spelling.clone()).map(|digest| digest.to_string());
                assert_eq!(read.as_deref(), Ok(digest), "{spelling}");
            }
        }
        assert_eq!(Sha512::of_reader(&mut &b""[..]).unwrap().to_string(), EMPTY_512);
    }

    #[test]
    fn what_verifies_nothing_is_named() {
        for (text, name) in [
            ("d41d8cd98f00b204e9800998ecf8427e", "MD5"),
            ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "SHA-1"),
            ("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "SHA-1"),
        ] {
            assert_eq!(Word::read(text), Word::Other(name), "{text}");
            assert!(Digest::try_from(text.to_owned()).unwrap_err().contains("verifies nothing"));
        }
        // One algorithm's name on the digest of another.
        assert_eq!(Word::read(&format!("sha512:{EMPTY_256}")), Word::None);
        for text in ["", "-", ":", "=", "sha256:", "hello", "\u{e9}".repeat(32).as_str(), "+3"] {
            assert_eq!(Word::read(text), Word::None, "{text}");
        }
    }
}
