//! A requirement on a version: `>=1.58`, `~1.31`, `>=2024-05-01, <2025`.
//!
//! Owns how one is written and when it holds. What cargo would read means what it means there, for
//! the numbers that a version begins with; anything else is compared as clients compare.

use std::cmp::Ordering;

use schemars::JsonSchema;
use semver::VersionReq;
use serde::{Deserialize, Serialize};

use crate::version::{self, Version, compare};

/// What a version must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("minLength" = 1, "examples" = [">=1.58"]))]
pub struct Requirement {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Semver(VersionReq),
    /// All of these, in the clients' order.
    Order(Vec<(Sign, String)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    AtLeast,
    AtMost,
    Above,
    Below,
    Same,
}

impl Sign {
    /// Longer ones first: `>=` begins with `>`.
    const ALL: [(&'static str, Self); 5] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
        ("=", Self::Same),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::AtLeast => order.is_ge(),
            Self::AtMost => order.is_le(),
            Self::Above => order.is_gt(),
            Self::Below => order.is_lt(),
            Self::Same => order.is_eq(),
        }
    }
}

impl Requirement {
    /// Whether it holds for a version; `None` if that cannot be told.
    ///
    /// What makes a pre-release of it does not count: whether those are wanted is asked elsewhere.
    #[must_use]
    pub fn holds(&self, version: &str) -> Option<bool> {
        match &self.rule {
            Rule::Semver(requirement) => Some(requirement.matches(&version::numbered(version)?)),
            Rule::Order(bounds) => {
                let comparable =
                    |bound: &str| version::prefix_of(bound) == version::prefix_of(version);
                bounds.iter().try_fold(true, |holds, (sign, bound)| {
                    let order = comparable(bound).then(|| compare(version, bound))?;
                    Some(holds && sign.holds(order))
                })
            }
        }
    }

    /// The requirement as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for Requirement {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(without) = without_v(text) {
            return Err(format!(
                "`{}` is about tags, not about versions, which have no `v`\nhint: write \"{without}\"; [versions] tag says what a tag looks like",
                text.escape_debug()
            ));
        }
        let rule = match VersionReq::parse(text) {
            Ok(requirement) => Rule::Semver(requirement),
            Err(error) => Rule::Order(bounds(text).ok_or_else(|| {
                format!(
                    "`{}` is no requirement: {error}\nhint: such as \">=1.58\", \"~1.31\", or, for versions of another kind, \">=2024-05-01, <2025\"",
                    text.escape_debug()
                )
            })?),
        };
        Ok(Self { text: text.to_owned(), rule })
    }
}

/// What would be a requirement without the `v` that tags have before their versions.
fn without_v(text: &str) -> Option<String> {
    let bound = |part: &str| {
        let at = part.find(|c: char| !c.is_whitespace() && !"<>=~^".contains(c))?;
        let (sign, version) = part.split_at(at);
        let bare = version.strip_prefix(['v', 'V']).unwrap_or(version);
        Some(format!("{sign}{bare}"))
    };
    let bare: Vec<String> = text.split(',').map(bound).collect::<Option<_>>()?;
    let bare = bare.join(",");
    (bare != text && VersionReq::parse(&bare).is_ok()).then_some(bare)
}

/// `>=2024-05-01, <2025`
fn bounds(text: &str) -> Option<Vec<(Sign, String)>> {
    let bound = |part: &str| {
        let part = part.trim();
        let (sign, rest) = Sign::ALL
            .iter()
            .find_map(|(sign, meaning)| Some((*meaning, part.strip_prefix(sign)?.trim())))?;
        let version: Version = rest.parse().ok()?;
        rest.contains(|c: char| c.is_ascii_digit()).then(|| (sign, version.into()))
    };
    text.split(',').map(bound).collect()
}

impl TryFrom<String> for Requirement {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Requirement> for String {
    fn from(requirement: Requirement) -> String {
        requirement.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_holds_where_it_can_be_told() {
        for (requirement, version, holds) in [
            (">=1.31", "1.31.2+k3s1", Some(true)),
            (">=1.31.3", "1.31.2+k3s1", Some(false)),
            ("~1.31", "1.31.2-rc1", Some(true)),
            (">=1.2", "1.2.3.4", Some(true)),
            (">=2, <3", "2.9", Some(true)),
            (">=2024", "2024-05-01", Some(true)),
            (">=20240101", "20240501", Some(true)),
            (">=100", "r123", Some(true)),
            (">=1.3", "release-1.2", Some(false)),
            (">=1.2", "1.2.3-1", Some(true)),
            (">=1", "nightly", None),
            (">=2024-05-01", "2024-05-01", Some(true)),
            (">=2024-05-01, <2024-06-01", "2024-06-01", Some(false)),
            (">2024.05.01", "2024.05.02", Some(true)),
            ("<1.2.3.5", "1.2.3.4", Some(true)),
            ("=r123", "r123", Some(true)),
            (">=r99", "r123", Some(true)),
            (">=r99", "123", None),
        ] {
            let read: Requirement = requirement.parse().unwrap();
            assert_eq!(read.holds(version), holds, "{version} {requirement}");
        }
        for bad in [
            "",
            "soon",
            ">=",
            ">=x",
            ">=1.x.y.z~",
            "1.2.3.4",
            ">=1.0~rc1",
            ">= v1.1",
            "v1",
            ">=V1, <2",
        ] {
            assert!(bad.parse::<Requirement>().is_err(), "{bad} was taken");
        }
        let told = ">= v1.1, <v2".parse::<Requirement>().unwrap_err();
        assert!(told.contains("write \">= 1.1, <2\""), "{told}");
    }
}
