//! `SHA256SUMS`: which files a folder offers, in the one dialect that every client takes.
//!
//! Owns reading, merging and writing manifests. A single line that a client dislikes makes it
//! refuse the whole manifest, so nothing else than `HASH␣␣NAME` with plain names is ever written,
//! and a manifest with anything else in it is not taken for one. Knows nothing of files or stores.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use thiserror::Error;

use crate::name::{FileName, NameError, Sha256};

pub mod lenient;

/// The most lines that are read; clients take more, but such a folder is no accident.
const MOST_LINES: usize = 1_000_000;

/// What the file is called in each folder: what sysupdate.d(5) asks a `url-file` source for.
pub const FILE: &str = "SHA256SUMS";

/// The prefix of a line that says until when the manifest is fresh (systemd 262).
pub const BEST_BEFORE: &str = "BEST-BEFORE-";

/// A manifest that clients would refuse.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// A line is not `HASH␣␣NAME`.
    #[error("line {number}: {problem}")]
    Line {
        /// Which line, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// One name, two digests: the last would win, silently.
    #[error("line {number}: `{name}` is listed before with another digest")]
    Conflict {
        /// Which line, from 1.
        number: usize,
        /// The name.
        name: FileName,
    },
    /// No newline at the end.
    #[error("it does not end with a newline, so clients refuse it")]
    Unterminated,
    /// Larger than any real one.
    #[error("it has more than {MOST_LINES} lines")]
    TooLong,
}

/// The lines of a `SHA256SUMS`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    lines: BTreeMap<FileName, Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    sha256: Sha256,
    /// As it stands in the file, if that is not how we write it: a line that is not ours stays as it
    /// is.
    text: Option<Box<str>>,
}

impl Manifest {
    /// Reads a manifest. Lines keep their form; exact duplicates count once.
    ///
    /// # Errors
    /// Whatever makes a client refuse it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let Some(body) = bytes.strip_suffix(b"\n") else {
            return if bytes.is_empty() {
                Ok(Self::default())
            } else {
                Err(ManifestError::Unterminated)
            };
        };
        let mut read: Vec<(FileName, Line)> = Vec::new();
        for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
            if index == MOST_LINES {
                return Err(ManifestError::TooLong);
            }
            let bad = |problem: String| ManifestError::Line { number: index + 1, problem };
            read.push(read_line(line).map_err(bad)?);
        }
        // As we write it: then a tree is made at once, and no name comes twice.
        if read.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Ok(Self { lines: read.into_iter().collect() });
        }
        let mut lines: BTreeMap<FileName, Line> = BTreeMap::new();
        for (index, (name, line)) in read.into_iter().enumerate() {
            if lines.get(&name).is_some_and(|known| known.sha256 != line.sha256) {
                return Err(ManifestError::Conflict { number: index + 1, name });
            }
            lines.entry(name).or_insert(line);
        }
        Ok(Self { lines })
    }

    /// The bytes of the file: sorted by name, so that what changed is easy to see.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut out = String::new();
        for (name, line) in &self.lines {
            let _ = match &line.text {
                Some(text) => writeln!(out, "{text}"),
                None => writeln!(out, "{}  {name}", line.sha256),
            };
        }
        out.into_bytes()
    }

    /// The digest of a file.
    #[must_use]
    pub fn get(&self, name: &FileName) -> Option<Sha256> {
        self.lines.get(name).map(|line| line.sha256)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// It is listed with another digest, which is given back.
    pub fn add(&mut self, name: FileName, sha256: Sha256) -> Result<(), Sha256> {
        if let Some(known) = self.get(&name) {
            return if known == sha256 { Ok(()) } else { Err(known) };
        }
        self.lines.insert(name, Line { sha256, text: None });
        Ok(())
    }

    /// Takes a line out, if it is there.
    pub fn remove(&mut self, name: &FileName) {
        self.lines.remove(name);
    }

    /// Every file that is listed, by name. Freshness lines are none.
    pub fn files(&self) -> impl Iterator<Item = (&FileName, Sha256)> {
        self.lines
            .iter()
            .filter(|(name, _)| !name.as_str().starts_with(BEST_BEFORE))
            .map(|(name, line)| (name, line.sha256))
    }

    /// The lines that say until when the manifest is fresh. There should be one at most.
    pub fn freshness(&self) -> impl Iterator<Item = (&FileName, Sha256)> {
        self.lines
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(BEST_BEFORE))
            .map(|(name, line)| (name, line.sha256))
    }

    /// The same without its files: only the lines that say until when it is fresh.
    #[must_use]
    pub fn without_files(&self) -> Self {
        let fresh = self.lines.iter().filter(|(name, _)| name.as_str().starts_with(BEST_BEFORE));
        Self { lines: fresh.map(|(name, line)| (name.clone(), line.clone())).collect() }
    }

    /// True if nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// True if every line of `other` stands here with the same digest.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.lines.iter().all(|(name, line)| self.lines.get(name) == Some(line))
    }
}

fn read_line(line: &[u8]) -> Result<(FileName, Line), String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let form = || {
        format!(
            "`{}` is not `HASH  NAME`",
            text.chars().take(100).collect::<String>().escape_debug()
        )
    };
    let (digest, rest) = text.split_at_checked(64).ok_or_else(form)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *")).ok_or_else(form)?;
    let is_ours = rest.starts_with("  ") && !digest.bytes().any(|c| c.is_ascii_uppercase());
    let sha256 = digest.parse().map_err(|_| form())?;
    let name = name.parse().map_err(|error: NameError| error.to_string())?;
    Ok((name, Line { sha256, text: (!is_ours).then(|| text.into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn what_clients_refuse_is_refused() {
        for bad in [
            format!("{A}  x.raw"),
            format!("{A}  x.raw\r\n"),
            format!("{A}  x.raw\n\n"),
            "\n".to_owned(),
            format!("# {A}\n"),
            format!("\u{feff}{A}  x.raw\n"),
            format!("{A} x.raw\n"),
            format!("\\{A}  x.raw\n"),
            format!("{A}  ./x.raw\n"),
            format!("{A}  ../x.raw\n"),
            format!("{A}  /x.raw\n"),
            format!("{A}  a/x.raw\n"),
            format!("{A}  a%20.raw\n"),
            format!("{A}  x\0.raw\n"),
            format!("{A}{B}  x.raw\n"),
            format!("{A}  x.raw\n{B}  x.raw\n"),
        ] {
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        assert!(Manifest::parse(b"\xff\n").is_err());
    }

    #[test]
    fn lines_of_others_stay_byte_for_byte() {
        let theirs = format!(
            "{}  BEST-BEFORE-2030-01-01\n{} *other.img\n",
            A.to_uppercase(),
            B.to_uppercase()
        );
        let mut manifest = Manifest::parse(theirs.as_bytes()).unwrap();
        manifest.add("x.raw".parse().unwrap(), A.parse().unwrap()).unwrap();
        assert_eq!(String::from_utf8(manifest.render()).unwrap(), format!("{theirs}{A}  x.raw\n"));
        assert_eq!(manifest.files().count(), 2);
    }

    #[test]
    fn a_name_never_gets_another_digest() {
        let mut manifest = Manifest::default();
        let name: FileName = "x.raw".parse().unwrap();
        manifest.add(name.clone(), A.parse().unwrap()).unwrap();
        manifest.add(name.clone(), A.parse().unwrap()).unwrap();
        assert_eq!(manifest.add(name, B.parse().unwrap()), Err(A.parse().unwrap()));
        assert_eq!(Manifest::parse(&manifest.render()).unwrap(), manifest);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(
            files in proptest::collection::btree_map("[A-Za-z0-9][A-Za-z0-9.,_+-]{0,40}", proptest::num::u64::ANY, 0..40),
            upper in proptest::bool::ANY,
            star in proptest::bool::ANY,
        ) {
            let mut manifest = Manifest::default();
            let mut theirs = String::new();
            for (name, content) in &files {
                let digest = Sha256::of(&content.to_le_bytes());
                manifest.add(name.parse().unwrap(), digest).unwrap();
                let digest = if upper { digest.to_string().to_uppercase() } else { digest.to_string() };
                let _ = writeln!(theirs, "{digest} {}{name}", if star { '*' } else { ' ' });
            }
            let text = manifest.render();
            let again = Manifest::parse(&text).unwrap();
            proptest::prop_assert_eq!(&again, &manifest);
            proptest::prop_assert_eq!(again.render(), text);
            // Written by another program, it says the same, and stays as it is.
            let other = Manifest::parse(theirs.as_bytes()).unwrap();
            proptest::prop_assert!(other.files().eq(manifest.files()));
            proptest::prop_assert_eq!(other.render(), theirs.into_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_what_is_read_stays(bytes: Vec<u8>) {
            if let Ok(manifest) = Manifest::parse(&bytes) {
                let text = manifest.render();
                proptest::prop_assert_eq!(Manifest::parse(&text).unwrap(), manifest);
            }
        }
    }
}
