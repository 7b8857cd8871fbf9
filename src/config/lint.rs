//! `[lint]` and `[require]`: what a component says to what is found in its images.
//!
//! Owns how it is written. Knows nothing of what is looked for.

use std::collections::BTreeMap;
use std::fmt;

use globset::{Glob, GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::schema::Either;
use crate::lint::{Finding, Level, Lint};

/// `[lint]`: what is said to what is found in the images.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LintRules {
    /// What is meant, everywhere or in some files.
    #[schemars(with = "Either<Vec<LintName>, BTreeMap<LintName, Vec<Pattern>>>")]
    allow: Allowed,
    /// Warnings that are errors here.
    deny: Vec<LintName>,
}

impl LintRules {
    /// Refuses what is both meant and an error, everywhere: one of the two would silently win. What is
    /// meant in some files alone may be an error in all others.
    pub(super) fn check(&self) -> Result<(), String> {
        let everywhere =
            |name: &&LintName| matches!(self.allow.0.get(&name.0), Some(Patterns::Everywhere));
        match self.deny.iter().find(everywhere) {
            None => Ok(()),
            Some(LintName(lint)) => Err(format!(
                "[lint] deny: `{lint}` is in `allow` too\nhint: take it out of one of them; allow.{lint} = [\"usr/…\"] allows it in some files alone"
            )),
        }
    }

    /// Whether it says something to what can be found inside an image.
    #[must_use]
    pub fn concerns_contents(&self) -> bool {
        let denied = self.deny.iter().map(|name| &name.0);
        self.allow.0.keys().chain(denied).any(|lint| *lint != Lint::SizeChanged)
    }

    /// Whether something is meant, that is found in this file or in the image as a whole.
    #[must_use]
    pub fn allows(&self, lint: Lint, path: Option<&str>) -> bool {
        let patterns = self.allow.0.get(&lint);
        patterns.is_some_and(|patterns| match patterns {
            Patterns::Everywhere => true,
            Patterns::Files(globs) => {
                path.is_some_and(|path| globs.iter().any(|glob| glob.is_match(path)))
            }
        })
    }

    /// What remains of a finding.
    #[must_use]
    pub fn settle(&self, finding: Finding) -> Option<Finding> {
        if self.allows(finding.lint, finding.path.as_deref()) {
            return None;
        }
        let denied = self.deny.iter().any(|name| name.0 == finding.lint);
        Some(Finding { level: if denied { Level::Error } else { finding.level }, ..finding })
    }
}

/// The name of a lint, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = LintName::pattern()))]
struct LintName(Lint);

impl LintName {
    /// All names that may stand there, as a regular expression.
    fn pattern() -> String {
        let all = Lint::ALL.into_iter().filter(|lint| lint.may_be_allowed());
        format!("^({})$", all.map(Lint::name).collect::<Vec<_>>().join("|"))
    }
}

impl TryFrom<String> for LintName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        match Lint::ALL.into_iter().find(|lint| lint.name() == name) {
            Some(lint) if lint.may_be_allowed() => Ok(Self(lint)),
            Some(_) => Err(format!(
                "`{name}` is always an error\nhint: no node takes such an image; change what is in it"
            )),
            None => {
                let all = Lint::ALL.into_iter().filter(|lint| lint.may_be_allowed());
                let all: Vec<_> = all.map(Lint::name).collect();
                Err(format!(
                    "`{}` is nothing that is looked for\nhint: one of {}",
                    name.escape_debug(),
                    all.join(", ")
                ))
            }
        }
    }
}

/// Where something is meant.
#[derive(Debug, Clone)]
enum Patterns {
    Everywhere,
    Files(Vec<GlobMatcher>),
}

/// A list of names, or a table of names with the files where each is meant.
#[derive(Debug, Clone, Default)]
struct Allowed(BTreeMap<Lint, Patterns>);

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Allowed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or a table of names with lists of paths")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Allowed, A::Error> {
                let names = Vec::<LintName>::deserialize(SeqAccessDeserializer::new(list))?;
                let everywhere = |name: LintName| (name.0, Patterns::Everywhere);
                Ok(Allowed(names.into_iter().map(everywhere).collect()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Allowed, A::Error> {
                let table = BTreeMap::<LintName, Vec<Pattern>>::deserialize(
                    MapAccessDeserializer::new(table),
                )?;
                let files = |(name, patterns): (LintName, Vec<Pattern>)| {
                    let globs = patterns.iter().map(Pattern::matcher).collect();
                    (name.0, Patterns::Files(globs))
                };
                Ok(Allowed(table.into_iter().map(files).collect()))
            }
        }

        from.deserialize_any(Either)
    }
}

/// `[require]`: what must be in the images.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Require {
    /// Paths or globs; for each, something must be in the image.
    pub paths: Vec<Pattern>,
}

/// A path in an image, or a glob of such paths; `*` stays in its folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^[^/]", "examples" = ["usr/bin/*"]))]
pub struct Pattern(Glob);

impl Pattern {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.glob()
    }

    /// What tells whether a path is meant.
    #[must_use]
    pub fn matcher(&self) -> GlobMatcher {
        self.0.compile_matcher()
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(pattern: String) -> Result<Self, String> {
        let shown = pattern.escape_debug();
        if pattern.starts_with('/') {
            return Err(format!(
                "`{shown}` is absolute\nhint: paths in an image are relative to its root: `{}`",
                pattern.trim_start_matches('/').escape_debug()
            ));
        }
        if pattern.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(format!(
                "`{shown}` is nowhere in an image: no path there has a `.` or `..` in it\nhint: write it from the image's root, such as `usr/bin/tool`"
            ));
        }
        if pattern.is_empty() || pattern.ends_with('/') {
            return Err(format!("`{shown}` names no file\nhint: `usr/bin/*`, or `usr/bin/**`"));
        }
        GlobBuilder::new(&pattern)
            .literal_separator(true)
            .build()
            .map(Self)
            .map_err(|error| format!("`{shown}` is not a glob: {}", error.kind()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LintRules, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_meant_is_meant_everywhere_or_in_some_files() {
        let rules = read("allow = [\"setuid\", \"elf-arch\"]").unwrap();
        assert!(rules.allows(Lint::Setuid, Some("usr/bin/a")) && rules.allows(Lint::ElfArch, None));
        assert!(!rules.allows(Lint::UsrSbin, Some("usr/sbin")));
        let rules = read("allow.setuid = [\"usr/bin/*\"]\ndeny = [\"usr-sbin\"]").unwrap();
        assert!(rules.allows(Lint::Setuid, Some("usr/bin/a")));
        assert!(!rules.allows(Lint::Setuid, Some("usr/bin/a/b")));
        assert!(!rules.allows(Lint::Setuid, None));
        let finding = Finding::of_image(Lint::UsrSbin, String::new());
        assert_eq!(rules.settle(finding).unwrap().level, Level::Error);
    }

    #[test]
    fn what_is_both_meant_and_an_error_is_refused() {
        let error = |text: &str| read(text).unwrap().check().err().unwrap_or_default();
        let both = error("allow = [\"setuid\", \"usr-sbin\"]\ndeny = [\"usr-sbin\"]");
        assert!(both.starts_with("[lint] deny: `usr-sbin` is in `allow` too"), "{both}");
        // Everywhere else it is an error.
        assert_eq!(error("allow.setuid = [\"usr/bin/*\"]\ndeny = [\"setuid\"]"), "");
    }

    #[test]
    fn what_is_no_name_or_no_pattern_is_refused() {
        for (text, part) in [
            ("allow = [\"set-uid\"]", "one of elf-arch, "),
            ("allow = [\"os-release\"]", "always an error"),
            ("deny = [\"x\"]", "nothing that is looked for"),
            ("allow.setuid = [\"/usr/bin/x\"]", "absolute"),
            ("allow.setuid = [\"usr/bin/\"]", "names no file"),
            ("allow.setuid = [\"../usr/bin/x\"]", "nowhere in an image"),
            ("allow.setuid = [\"a[\"]", "not a glob"),
            ("allow = 1", "a list of names, or a table"),
            ("alow = []", "alow"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
