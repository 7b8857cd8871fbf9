//! The verdict on a release, and how it reads.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::version::Version;

/// An upstream release, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Upstream's name for it.
    pub tag: String,
    /// Its version as clients see it, if it has one.
    pub version: Option<Version>,
    /// When it was released, where upstream says so.
    pub date: Option<Timestamp>,
    /// `None`: it is wanted. Otherwise why it is not.
    pub out: Option<Out>,
}

impl Verdict {
    /// Whether it is published, or might be some day without a change of the configuration.
    pub(super) fn is_eligible(&self) -> bool {
        match &self.out {
            None
            | Some(
                Out::TooYoung
                | Out::AgeUnknown
                | Out::Superseded
                | Out::OldBranch { .. }
                | Out::Duplicate
                | Out::Waiting { .. }
                | Out::Yanked { .. },
            ) => true,
            Some(
                Out::Tag { .. }
                | Out::NotIncluded
                | Out::Excluded
                | Out::Requirement
                | Out::RequirementUnknown
                | Out::Prerelease
                | Out::NotPinned
                | Out::Refused,
            ) => false,
        }
    }
}

/// Why a release is not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Out {
    /// The tag is no version.
    Tag {
        /// What a tag looks like.
        template: String,
    },
    /// There is an `include`, and nothing in it names it.
    NotIncluded,
    /// `exclude` names it.
    Excluded,
    /// `require` does not hold.
    Requirement,
    /// There is a `require`, but nobody can tell whether it holds.
    #[serde(rename = "not-semver")]
    RequirementUnknown,
    /// It is a pre-release.
    Prerelease,
    /// Another version is the only one that is wanted.
    NotPinned,
    /// It is younger than `min-age`.
    TooYoung,
    /// Its age is not known, and there is a `min-age`.
    AgeUnknown,
    /// There are enough newer ones.
    Superseded,
    /// There are enough newer branches.
    OldBranch {
        /// How many are held.
        branches: usize,
    },
    /// Another tag is the same version.
    Duplicate,
    /// Not all of it is there yet.
    Waiting {
        /// What it lacks.
        lacks: String,
        /// Since when it is waited for.
        since: Timestamp,
    },
    /// Somebody took it out of the repository.
    Yanked {
        /// Why, in their words.
        reason: Option<String>,
    },
    /// It is wanted, but no client could use it.
    Refused,
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { template } => write!(f, "the tag does not look like `{template}`"),
            Self::NotIncluded => f.write_str("not in `include`"),
            Self::Excluded => f.write_str("excluded"),
            Self::Requirement => f.write_str("does not meet `require`"),
            Self::RequirementUnknown => {
                f.write_str("`require` cannot be told of a version of this kind")
            }
            Self::Prerelease => f.write_str("a pre-release"),
            Self::NotPinned => f.write_str("another version is pinned"),
            Self::TooYoung => f.write_str("younger than `min-age`"),
            Self::AgeUnknown => {
                f.write_str("`min-age` is set, but upstream does not tell the release's date")
            }
            Self::Superseded => f.write_str("there are enough newer ones"),
            Self::OldBranch { branches } => {
                write!(f, "its branch is not among the newest {branches}")
            }
            Self::Duplicate => f.write_str("another tag is the same version"),
            Self::Waiting { lacks, .. } => write!(f, "waiting for {lacks}"),
            Self::Yanked { reason: None } => f.write_str("yanked"),
            Self::Yanked { reason: Some(reason) } => {
                write!(f, "yanked: {}", reason.escape_debug())
            }
            Self::Refused => f.write_str("refused, see the error"),
        }
    }
}
