//! `[versions]`: which of an upstream's releases a component wants, and how it writes their versions.
//!
//! Owns how that is written. Knows nothing of releases.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Count;
use super::requirement::Requirement;
use crate::name::Sha256;
use crate::template::Template;

/// How many branches are held where nothing says it, and no `require` draws the line.
const BRANCHES: usize = 4;

/// How long an incomplete release is waited for, if nothing says it.
const WAIT: Duration = Duration::from_secs(24 * 3600);

/// `[versions]`: which of an upstream's releases are wanted, and how their versions are written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Versions {
    /// What a tag looks like; left out, a version with or without a `v` before it.
    pub tag: Option<Template>,
    /// A requirement; with it, a version that it cannot be told of is out.
    pub require: Option<Requirement>,
    /// If there are some, only what one of them names is wanted.
    pub include: Vec<Named>,
    /// What is never wanted.
    pub exclude: Vec<Named>,
    /// The only version that is wanted.
    pub pin: Option<String>,
    /// Digests of files that upstream replaced after they were published, by version: somebody looked
    /// at them and found them right.
    pub accept: BTreeMap<String, Vec<Sha256>>,
    /// How many versions are held, the newest first; of each branch where there is `per`.
    pub newest: Count,
    /// What a branch is; left out, all versions are one.
    pub per: Option<Per>,
    /// How many branches, the newest first; left out, all that `require` lets through, or four.
    pub branches: Option<Count>,
    /// Whether pre-releases are wanted too.
    pub prerelease: bool,
    /// How old a release must be.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "Option<super::quantity::Time>", extend("examples" = ["2d"]))]
    pub min_age: Option<Duration>,
    /// How long a release is waited for whose files are not all there.
    #[serde(deserialize_with = "super::quantity::duration")]
    #[schemars(with = "super::quantity::Time", extend("default" = "24h"))]
    pub wait: Duration,
    /// Whether a version is published for the architectures that are there.
    pub partial: bool,
    /// Texts in upstream's versions, and what stands for them in the version that is published.
    pub replace: Replace,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            tag: None,
            require: None,
            include: Vec::new(),
            exclude: Vec::new(),
            pin: None,
            accept: BTreeMap::new(),
            newest: Count(3),
            per: None,
            branches: None,
            prerelease: false,
            min_age: None,
            wait: WAIT,
            partial: false,
            replace: Replace::default(),
        }
    }
}

impl Versions {
    /// How many branches are held, if that is bounded: what the configuration says; else all that
    /// `require` lets through; and without one a few, because an old project has dozens.
    #[must_use]
    pub fn branches(&self) -> Option<usize> {
        match (self.branches, &self.require) {
            (Some(branches), _) => Some(branches.get()),
            (None, Some(_)) => None,
            (None, None) => Some(BRANCHES),
        }
    }

    /// How an upstream version is written where clients see it.
    #[must_use]
    pub fn written<'v>(&self, upstream: &'v str) -> Cow<'v, str> {
        self.replace.apply(upstream)
    }

    /// What no single value can tell.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.branches.is_some() && self.per.is_none() {
            return Err("[versions] branches: there is only one branch\nhint: `per = \"minor\"` makes one of each 1.x, `per = \"major\"` of each x".to_owned());
        }
        if let Some(pin) = &self.pin
            && self.exclude.iter().any(|named| named.names(&[pin]))
        {
            return Err(format!("[versions] pin: `{pin}` is excluded too"));
        }
        if let Some(tag) = &self.tag {
            tag.require(&["version"]).map_err(|error| format!("[versions] tag: {error}"))?;
        }
        Ok(())
    }
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    super::quantity::duration(from).map(Some)
}

/// A branch of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// `1.x`
    Major,
    /// `1.31.x`
    Minor,
}

/// Versions by name: one, or `/a regular expression/`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("minLength" = 1))]
pub enum Named {
    /// This one.
    Exactly(String),
    /// All that it is found in.
    Pattern(Regex),
}

impl Named {
    /// Whether it names what is called by any of these texts.
    #[must_use]
    pub fn names(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| match self {
            Self::Exactly(exactly) => exactly == text,
            Self::Pattern(pattern) => pattern.is_match(text),
        })
    }
}

impl TryFrom<String> for Named {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let Some(inner) = text.strip_prefix('/') else {
            return match text.as_str() {
                "" => Err("an empty text names no version".to_owned()),
                _ => Ok(Self::Exactly(text)),
            };
        };
        let pattern = inner.strip_suffix('/').filter(|pattern| !pattern.is_empty());
        let pattern = pattern.ok_or_else(|| {
            format!(
                "`{}` is no regular expression\nhint: one stands between two slashes, such as \"/-fips$/\"",
                text.escape_debug()
            )
        })?;
        Regex::new(pattern).map(Self::Pattern).map_err(|error| {
            let reason = error.to_string();
            format!(
                "`{}` is no regular expression: {}\nhint: a text without slashes around it is a version as it is",
                text.escape_debug(),
                reason.lines().last().unwrap_or_default().trim().trim_start_matches("error: ")
            )
        })
    }
}

/// `replace`: texts to look for, and what takes their place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "BTreeMap<String, String>")]
#[schemars(into = "BTreeMap<String, String>")]
pub struct Replace(BTreeMap<String, String>);

impl Replace {
    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with everything replaced, from the left, of two texts that fit the longer one; what
    /// took a text's place is not looked at again.
    fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let fits = self.0.iter().filter(|(from, _)| rest.starts_with(from.as_str()));
            if let Some((from, to)) = fits.max_by_key(|(from, _)| from.len()) {
                out.push_str(to);
                rest = &rest[from.len()..];
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        Cow::Owned(out)
    }
}

impl TryFrom<BTreeMap<String, String>> for Replace {
    type Error = String;
    fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
        for (from, to) in &map {
            if from.is_empty() {
                return Err("`replace` has an empty text to look for".to_owned());
            }
            if !to.chars().all(crate::name::is_portable) {
                return Err(format!(
                    "`{}` has a character that clients refuse in a version\nhint: they take A-Z a-z 0-9 . , _ + -",
                    to.escape_debug()
                ));
            }
        }
        Ok(Self(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_replaced_once_and_the_longest_first() {
        let replace = |pairs: &[(&str, &str)]| {
            let map: BTreeMap<String, String> =
                pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            Replace::try_from(map)
        };
        let rules = replace(&[("+", "-"), ("+k3s", ".k"), ("-", "+"), ("é", "e")]).unwrap();
        assert_eq!(rules.apply("1.0+k3s1+x-é"), "1.0.k1-x+e");
        assert_eq!(Replace::default().apply("1.0+x"), "1.0+x");
        assert!(replace(&[("", "x")]).is_err() && replace(&[("x", "~")]).is_err());
    }

    #[test]
    fn a_text_in_slashes_is_a_pattern() {
        let named = |text: &str| Named::try_from(text.to_owned());
        assert!(named("1.0").unwrap().names(&["1.0"]) && !named("1.0").unwrap().names(&["1.0.1"]));
        assert!(named("/^1\\.0/").unwrap().names(&["x", "1.0.1"]));
        for bad in ["", "/", "//", "/x", "/(/"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
