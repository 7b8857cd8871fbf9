//! Versions: the order that clients use, and what an upstream version becomes.
//!
//! Owns the UAPI version format order (`strverscmp_improved` in systemd) and the reading of upstream
//! versions as semver. Knows nothing of which versions anybody wants.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::is_portable;

/// A version that no client could read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("version `{version}` {problem}")]
pub struct VersionError {
    version: String,
    problem: &'static str,
}

/// A version as it stands in an image's name: what `@v` of a client's pattern matches.
///
/// Ordered as clients order it. Two versions that clients hold equal (`01.0` and `1.0`) are only
/// equal here when they are the same text; otherwise their text decides, so that sorting is total.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where a client would sort `self` against `other`; `Equal` also for `01.0` and `1.0`.
    #[must_use]
    pub fn client_cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }

    /// This version's revision of that number: `1.0-r2`; revision 0 is the version itself.
    ///
    /// # Errors
    /// It would be too long.
    pub fn revised(&self, revision: u32) -> Result<Self, VersionError> {
        match revision {
            0 => Ok(self.clone()),
            _ => format!("{}-r{revision}", self.0).parse(),
        }
    }

    /// The version and the number that a text such as `1.0-r2` would be the revision of. Upstreams
    /// may call their own versions so.
    #[must_use]
    pub fn unrevised(&self) -> Option<(Self, u32)> {
        let (version, number) = self.0.rsplit_once("-r")?;
        let plain = number.bytes().all(|c| c.is_ascii_digit()) && !number.starts_with('0');
        let number = number.parse().ok().filter(|_| plain)?;
        Some((version.parse().ok()?, number))
    }
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(version: &str) -> Result<Self, VersionError> {
        let error = |problem| VersionError {
            version: version.chars().take(80).collect::<String>().escape_debug().to_string(),
            problem,
        };
        if version.is_empty() {
            return Err(error("is empty"));
        }
        if version.len() > 128 {
            return Err(error("is longer than 128 characters"));
        }
        if version.contains(['~', '^']) {
            return Err(error(
                "has a `~` or `^`, which systemd 257 drops from the list without a word",
            ));
        }
        if !version.chars().all(is_portable) {
            return Err(error(
                "has a character outside A-Z a-z 0-9 . , _ + -, which clients refuse",
            ));
        }
        if !version.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(error("must start with a letter or a digit"));
        }
        Ok(Self(version.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;
    fn try_from(version: String) -> Result<Self, VersionError> {
        version.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.client_cmp(other).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two versions as the UAPI version format specification does, and with it systemd's
/// `strverscmp_improved`: the older one is `Less`.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        a = skip(a, |c| !is_significant(c));
        b = skip(b, |c| !is_significant(c));

        // `~` sorts before everything, even the end: a pre-release.
        match (a.first() == Some(&b'~'), b.first() == Some(&b'~')) {
            (true, true) => (a, b) = (&a[1..], &b[1..]),
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        if a.is_empty() || b.is_empty() {
            return b.is_empty().cmp(&a.is_empty());
        }
        for separator in [b'-', b'^', b'.'] {
            match (a.first() == Some(&separator), b.first() == Some(&separator)) {
                (true, true) => (a, b) = (&a[1..], &b[1..]),
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (false, false) => {}
            }
        }

        let digit = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let order = if digit(a) || digit(b) {
            // A number is newer than letters or nothing; of two numbers, the longer one is larger.
            let (left, right) =
                (prefix(&mut a, u8::is_ascii_digit), prefix(&mut b, u8::is_ascii_digit));
            (!left.is_empty()).cmp(&!right.is_empty()).then_with(|| {
                let (left, right) = (skip(left, |c| c == b'0'), skip(right, |c| c == b'0'));
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            })
        } else {
            prefix(&mut a, u8::is_ascii_alphabetic).cmp(prefix(&mut b, u8::is_ascii_alphabetic))
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn is_significant(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'~' | b'-' | b'^' | b'.')
}

fn skip(text: &[u8], what: impl Fn(u8) -> bool) -> &[u8] {
    &text[text.iter().take_while(|c| what(**c)).count()..]
}

fn prefix<'a>(text: &mut &'a [u8], what: impl Fn(&u8) -> bool) -> &'a [u8] {
    let (head, tail) = text.split_at(text.iter().take_while(|c| what(c)).count());
    *text = tail;
    head
}

/// Reads a version as semver, filling in what upstreams leave out: `1.58` is `1.58.0`, and leading
/// zeros of the first three numbers do not count (`2024.01.05`).
///
/// `None` where there are more than three numbers, or none, or where numbers follow a hyphen that
/// comes too early for semver: `2024-01-05` is a date.
#[must_use]
pub fn semver_of(version: &str) -> Option<semver::Version> {
    let end = version.find(['-', '+']).unwrap_or(version.len());
    let (core, rest) = version.split_at(end);
    let mut numbers = [0; 3];
    let mut found = 0;
    for number in core.split('.') {
        *numbers.get_mut(found)? = number.parse::<u64>().ok()?;
        found += 1;
    }
    let [major, minor, patch] = numbers;
    let mut semver = semver::Version::new(major, minor, patch);
    let (pre, build) = match rest.split_once('+') {
        Some((pre, build)) => (pre, Some(build)),
        None => (rest, None),
    };
    if let Some(pre) = pre.strip_prefix('-') {
        let dated = pre.starts_with(|c: char| c.is_ascii_digit());
        if pre.is_empty() || found < 3 && dated {
            return None;
        }
        semver.pre = semver::Prerelease::new(pre).ok()?;
    }
    if let Some(build) = build {
        if build.is_empty() {
            return None;
        }
        semver.build = semver::BuildMetadata::new(build).ok()?;
    }
    Some(semver)
}

/// The numbers that a version begins with, as a semver version: of `v1.31.2+k3s1` and `1.31.2-rc1`
/// 1.31.2, of `1.2.3.4` the first three, of `2024-05-01` 2024.5.1, of `r123` 123.0.0.
///
/// `None` where there is no number, or one that nobody counts to.
#[must_use]
pub fn numbered(version: &str) -> Option<semver::Version> {
    let mut rest = &version[prefix_of(version).len()..];
    let mut numbers = Vec::with_capacity(3);
    while numbers.len() < 3 {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        numbers.push(rest[..end].parse::<u64>().ok()?);
        // A year makes it a date, and only there do hyphens part numbers.
        let dated = numbers[0] >= 1900 && numbers[0] < 10_000;
        let part = rest[end..]
            .strip_prefix('.')
            .or_else(|| rest[end..].strip_prefix(['-', '_']).filter(|_| dated));
        match part {
            Some(part) if part.starts_with(|c: char| c.is_ascii_digit()) => rest = part,
            _ => break,
        }
    }
    numbers.resize(3, 0);
    Some(semver::Version::new(numbers[0], numbers[1], numbers[2]))
}

/// What comes before the first digit: `v`, `release-`, mostly nothing.
#[must_use]
pub fn prefix_of(version: &str) -> &str {
    let end = version.find(|c: char| c.is_ascii_digit()).unwrap_or(version.len());
    &version[..end]
}

/// The version as semver orders it, where semver and clients may disagree; `None` where it is not
/// semver. The number after a hyphen that packagers give, `1.2.3-1`, is no pre-release.
#[must_use]
pub fn precedence(version: &str) -> Option<semver::Version> {
    let mut semver = semver_of(version)?;
    if is_packaging(&semver.pre) {
        semver.pre = semver::Prerelease::EMPTY;
    }
    Some(semver)
}

/// Whether this stands for the packager's own number: `1` of `1.2.3-1`, `28` of `8.0.36-28`.
fn is_packaging(pre: &semver::Prerelease) -> bool {
    !pre.is_empty() && pre.split('.').all(|part| part.bytes().all(|c| c.is_ascii_digit()))
}

/// The version of which `1.2.3-1` is the packager's first.
#[must_use]
pub fn packaged(version: &str) -> Option<&str> {
    let (first, _) = version.split_once('-')?;
    semver_of(version).filter(|semver| is_packaging(&semver.pre))?;
    Some(first)
}

/// What upstreams write where a pre-release begins, as a word of its own: `1.0rc1`, `1.0.beta`.
const PRE_RELEASES: [&str; 17] = [
    "alpha",
    "beta",
    "rc",
    "cr",
    "pre",
    "preview",
    "prerelease",
    "dev",
    "devel",
    "snapshot",
    "nightly",
    "canary",
    "milestone",
    "ea",
    "unstable",
    "test",
    "testing",
];

/// The same, but only with a number right after it: `1.0b2`. Without one it is a patch: `3.5a`.
const NUMBERED_PRE_RELEASES: [&str; 4] = ["a", "b", "c", "m"];

/// The part of a version before whatever makes it a pre-release: `1.0` of `1.0-rc1`, `1.0rc1` and
/// `1.0.beta`. `None` if it is none.
///
/// As semver has it where a version is semver, but for the number that packagers give (`1.2.3-1`), and
/// by the words that upstreams use where it is not.
#[must_use]
pub fn final_of(version: &str) -> Option<&str> {
    if let Some((last, _)) = version.split_once('-')
        && precedence(version).is_some_and(|semver| !semver.pre.is_empty())
    {
        return Some(last);
    }
    let bytes = version.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let letters = skip(&bytes[at..], |c| c.is_ascii_alphabetic());
        let end = bytes.len() - letters.len();
        if end == at {
            at += 1;
            continue;
        }
        let word = version[at..end].to_ascii_lowercase();
        let numbered = bytes.get(end).is_some_and(u8::is_ascii_digit);
        let is_marker = PRE_RELEASES.contains(&word.as_str())
            || numbered && NUMBERED_PRE_RELEASES.contains(&word.as_str());
        // A word that nothing comes before is part of a name: `dev-1.0`.
        if is_marker && version[..at].contains(|c: char| c.is_ascii_digit()) {
            return Some(version[..at].trim_end_matches(|c: char| !c.is_ascii_alphanumeric()));
        }
        at = end;
    }
    None
}

#[cfg(test)]
mod tests;
