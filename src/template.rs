//! Templates: `https://example.com/{name}_{version}_{arch}.tgz`, filled in or matched against.
//!
//! Owns the variables and their braces. Knows nothing of what a template is for.

use std::fmt::{self, Write as _};

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

/// A template that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A variable that there is none of.
    #[error(
        "`{template}` has an unknown variable `{{{variable}}}`\nhint: there are {{version}}, {{arch}}, {{tag}}, {{name}} and, for a checksum file, {{url}}"
    )]
    Unknown {
        /// The whole template.
        template: String,
        /// The name between the braces.
        variable: String,
    },
    /// A brace without its partner.
    #[error("`{0}` has a `{{` without a `}}`")]
    Open(String),
    /// A variable that a pattern needs is missing.
    #[error("`{template}` must have `{{{variable}}}` in it")]
    Missing {
        /// The whole template.
        template: String,
        /// The variable it lacks.
        variable: &'static str,
    },
}

/// What the variables of a template stand for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vars<'a> {
    /// `{name}`: the component.
    pub name: &'a str,
    /// `{version}`: the upstream version.
    pub version: &'a str,
    /// `{arch}`: what upstream calls the architecture.
    pub arch: &'a str,
    /// `{tag}`: the upstream tag.
    pub tag: &'a str,
    /// `{url}`: the asset that a checksum file is about.
    pub url: &'a str,
    /// `{NAME.version}` and the like: what goes in beside it.
    pub beside: &'a [Beside],
}

/// What stands for `{NAME.version}`, `{NAME.tag}` and `{NAME.arch}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The name before the dot.
    pub name: String,
    /// Its version, as its upstream writes it.
    pub version: String,
    /// Its tag.
    pub tag: String,
    /// What its upstream calls the architecture.
    pub arch: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Name,
    Version,
    Arch,
    Tag,
    Url,
    Beside(String, Of),
}

/// What is said of something that goes in beside the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Version,
    Tag,
    Arch,
}

impl Variable {
    const ALL: [(&'static str, Self); 5] = [
        ("name", Self::Name),
        ("version", Self::Version),
        ("arch", Self::Arch),
        ("tag", Self::Tag),
        ("url", Self::Url),
    ];

    fn parse(name: &str) -> Option<Self> {
        let plain = Self::ALL.iter().find(|(known, _)| *known == name);
        plain.map(|(_, variable)| variable.clone()).or_else(|| {
            let (of, what) = name.split_once('.')?;
            let what = match what {
                "version" => Of::Version,
                "tag" => Of::Tag,
                "arch" => Of::Arch,
                _ => return None,
            };
            let is_name = of.starts_with(|c: char| c.is_ascii_alphanumeric())
                && of.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            is_name.then(|| Self::Beside(of.to_owned(), what))
        })
    }

    /// `None`: nothing of that name goes in beside it.
    fn value<'a>(&self, vars: &Vars<'a>) -> Option<&'a str> {
        Some(match self {
            Self::Name => vars.name,
            Self::Version => vars.version,
            Self::Arch => vars.arch,
            Self::Tag => vars.tag,
            Self::Url => vars.url,
            Self::Beside(name, of) => {
                let beside = vars.beside.iter().find(|beside| beside.name == *name)?;
                match of {
                    Of::Version => &beside.version,
                    Of::Tag => &beside.tag,
                    Of::Arch => &beside.arch,
                }
            }
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// A template in which every brace is a variable: for URLs, tags and names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// An unknown variable, or an open brace.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (variable, after) =
                after.split_once('}').ok_or_else(|| TemplateError::Open(text.to_owned()))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Variable(Variable::parse(variable).ok_or_else(|| {
                TemplateError::Unknown { template: text.to_owned(), variable: variable.to_owned() }
            })?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The same template, once it is known to hold these variables.
    ///
    /// # Errors
    /// The first one that is missing.
    pub fn require(&self, variables: &[&'static str]) -> Result<(), TemplateError> {
        match variables.iter().find(|name| !self.uses(name)) {
            Some(variable) => Err(TemplateError::Missing { template: self.text.clone(), variable }),
            None => Ok(()),
        }
    }

    /// Whether the variable of this name occurs.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        Variable::parse(name).is_some_and(|variable| self.parts.contains(&Part::Variable(variable)))
    }

    /// The names of what it wants beside the component.
    pub fn beside(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(Variable::Beside(name, _)) => Some(name.as_str()),
            Part::Text(_) | Part::Variable(_) => None,
        })
    }

    /// The text with every variable filled in. The configuration was checked for names that nothing
    /// stands for.
    #[must_use]
    pub fn expand(&self, vars: &Vars<'_>) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Variable(variable) => variable.value(vars).unwrap_or_default(),
            })
            .collect()
    }

    /// A matcher for texts this template could have become, with `vars` filled in for all but
    /// `{version}` and `{arch}`.
    ///
    /// `arches` are the values `{arch}` may have; where there are some, only they match, so that
    /// `{version}-{arch}` splits `1.0-x86-64` where it should.
    #[must_use]
    pub fn matcher(&self, vars: &Vars<'_>, arches: &[&str]) -> Matcher {
        if let Some(plain) = self.plain(vars) {
            return plain;
        }
        let arch = if arches.is_empty() {
            ".+?".to_owned()
        } else {
            arches.iter().map(|arch| regex::escape(arch)).collect::<Vec<_>>().join("|")
        };
        let mut pattern = String::from("^");
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(text) => pattern.push_str(&regex::escape(text)),
                // Numbered, because a variable may come twice.
                Part::Variable(Variable::Version) => {
                    let _ = write!(pattern, "(?<version{index}>.+?)");
                }
                Part::Variable(Variable::Arch) => {
                    let _ = write!(pattern, "(?<arch{index}>{arch})");
                }
                Part::Variable(variable) => {
                    pattern.push_str(&regex::escape(variable.value(vars).unwrap_or_default()));
                }
            }
        }
        pattern.push('$');
        let regex = Regex::new(&pattern);
        Matcher::Regex(regex.expect("literal text and fixed groups make a valid pattern"))
    }

    /// The same for a template with one `{version}` and nothing else that is unknown, as nearly all
    /// tags are: a thousand components are not worth a thousand regular expressions.
    fn plain(&self, vars: &Vars<'_>) -> Option<Matcher> {
        let mut around = [String::new(), String::new()];
        let mut side = 0;
        for part in &self.parts {
            match part {
                Part::Text(text) => around[side].push_str(text),
                Part::Variable(Variable::Version) if side == 0 => side = 1,
                Part::Variable(Variable::Version | Variable::Arch) => return None,
                Part::Variable(variable) => {
                    around[side].push_str(variable.value(vars).unwrap_or_default());
                }
            }
        }
        let [before, after] = around;
        (side == 1).then_some(Matcher::Plain { before, after })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;
    fn try_from(text: String) -> Result<Self, TemplateError> {
        Self::parse(&text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Tells which texts a template could have become.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// A version between two texts.
    Plain {
        /// What comes before it.
        before: String,
        /// What comes after it.
        after: String,
    },
    /// Anything else.
    Regex(Regex),
}

impl Matcher {
    /// The version in `text` and, if the template has `{arch}`, the architecture.
    #[must_use]
    pub fn captures<'t>(&self, text: &'t str) -> Option<(&'t str, Option<&'t str>)> {
        let regex = match self {
            Self::Plain { before, after } => {
                let version = text.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                return (!version.is_empty() && !version.contains('\n')).then_some((version, None));
            }
            Self::Regex(regex) => regex,
        };
        let captures = regex.captures(text)?;
        // The regex crate has no back-references: what a repeated variable matched is compared here.
        let only = |variable: &str| -> Option<Option<&'t str>> {
            let mut found = regex
                .capture_names()
                .flatten()
                .filter(|name| name.starts_with(variable))
                .filter_map(|name| captures.name(name).map(|m| m.as_str()));
            let first = found.next();
            found.all(|other| Some(other) == first).then_some(first)
        };
        Some((only("version")?.unwrap_or_default(), only("arch")?))
    }
}

/// A text of the user's own in which only the known variables are replaced and every other brace
/// stands for itself: file contents, globs.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// The text with the known variables filled in.
    #[must_use]
    pub fn expand(&self, vars: &Vars<'_>) -> String {
        let mut out = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let value = rest
                .find('}')
                .and_then(|end| Some((Variable::parse(&rest[1..end])?.value(vars)?, end)));
            if let Some((value, end)) = value {
                out.push_str(value);
                rest = &rest[end + 1..];
            } else {
                out.push('{');
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }

    /// The names before the dot of whatever looks like `{NAME.version}`.
    #[must_use]
    pub fn beside(&self) -> Vec<String> {
        let inner = self.0.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
        let variables = inner.filter_map(|(inner, _)| Variable::parse(inner));
        variables
            .filter_map(|variable| match variable {
                Variable::Beside(name, _) => Some(name),
                _ => None,
            })
            .collect()
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARS: Vars<'static> = Vars {
        name: "ts",
        version: "1.58.1",
        arch: "amd64",
        tag: "v1.58.1",
        url: "http://x/",
        beside: &[],
    };

    #[test]
    fn a_template_expands_and_matches_back() {
        let template = Template::parse("{name}_{version}_{arch}.tgz").unwrap();
        let text = template.expand(&VARS);
        assert_eq!(text, "ts_1.58.1_amd64.tgz");
        let matcher = template.matcher(&VARS, &[]);
        assert_eq!(matcher.captures(&text), Some(("1.58.1", Some("amd64"))));
        assert_eq!(matcher.captures("ts_1.58.1.tgz"), None);
        assert_eq!(matcher.captures("xts_1.58.1_amd64.tgz"), None);
    }

    #[test]
    fn known_architectures_decide_where_a_name_splits() {
        let template = Template::parse("{name}-{version}-{arch}.raw").unwrap();
        let matcher = template.matcher(&VARS, &["x86-64", "arm64"]);
        assert_eq!(matcher.captures("ts-1.0-rc1-x86-64.raw"), Some(("1.0-rc1", Some("x86-64"))));
        assert_eq!(matcher.captures("ts-1.0-mips.raw"), None);
    }

    #[test]
    fn a_variable_that_comes_twice_must_be_the_same_twice() {
        let matcher = Template::parse("v{version}/x-{version}").unwrap().matcher(&VARS, &[]);
        assert_eq!(matcher.captures("v1/x-1"), Some(("1", None)));
        assert_eq!(matcher.captures("v1/x-2"), None);
    }

    #[test]
    fn one_version_between_texts_is_found_as_any_other() {
        let matcher = Template::parse("{name}-v{version}.tgz").unwrap().matcher(&VARS, &[]);
        assert!(matches!(matcher, Matcher::Plain { .. }));
        for (text, version) in
            [("ts-v1.2.tgz", Some("1.2")), ("ts-v.tgz", None), ("ts-v", None), ("v1.2.tgz", None)]
        {
            assert_eq!(matcher.captures(text), version.map(|version| (version, None)), "{text}");
        }
        assert_eq!(matcher.captures("ts-v1\n2.tgz"), None);
        // The texts may not share a letter.
        let matcher = Template::parse("aa{version}aa").unwrap().matcher(&VARS, &[]);
        assert_eq!(matcher.captures("aaa"), None);
    }

    #[test]
    fn an_unknown_variable_is_named() {
        let error = Template::parse("x{versoin}").unwrap_err().to_string();
        assert!(error.contains("`{versoin}`"), "{error}");
        assert!(Template::parse("x{version").is_err());
        assert!(Template::parse("x").unwrap().require(&["version"]).is_err());
    }

    #[test]
    fn what_goes_in_beside_it_has_variables_too() {
        let beside = [Beside {
            name: "cni".to_owned(),
            version: "1.5".to_owned(),
            tag: "v1.5".to_owned(),
            arch: "x64".to_owned(),
        }];
        let vars = Vars { beside: &beside, ..VARS };
        let template = Template::parse("{cni.tag}/{cni.version}-{cni.arch}-{version}").unwrap();
        assert_eq!(template.expand(&vars), "v1.5/1.5-x64-1.58.1");
        assert_eq!(template.beside().collect::<Vec<_>>(), ["cni", "cni", "cni"]);
        assert!(Template::parse("{cni.digest}").is_err() && Template::parse("{.version}").is_err());
        // A text says what it likes, where nothing has the name.
        let text = Text::from("{cni.version} {nats.version} {{.version}}");
        assert_eq!(text.expand(&vars), "1.5 {nats.version} {{.version}}");
        assert_eq!(text.beside(), ["cni", "nats"]);
    }

    #[test]
    fn other_braces_of_a_text_stand_for_themselves() {
        let text = Text::from("{version} {x} {{arch}} {\n{");
        assert_eq!(text.expand(&VARS), "1.58.1 {x} {amd64} {\n{");
    }
}
