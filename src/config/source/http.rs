//! `[source.http]`: documents that list versions, and where in them the versions stand.
//!
//! Owns the ways to say that. Knows nothing of documents.

use std::fmt;

use regex_automata::meta::Regex as Compiled;
use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::HttpUrl;
use crate::config::schema::OneOrMore;

/// `[source.http]`: a page, JSON or a text that lists versions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "RawHttp")]
#[schemars(into = "RawHttp")]
pub struct HttpRule {
    /// The documents.
    pub urls: Vec<HttpUrl>,
    /// Which links of theirs lead to the documents that list versions, if they do not themselves.
    pub follow: Option<PagePattern>,
    /// How versions are found in them.
    pub reading: Reading,
}

/// How versions are found in a document.
#[derive(Debug, Clone)]
pub enum Reading {
    /// By a regular expression with a group `version`, and perhaps one `date`.
    Match(VersionPattern),
    /// The values of a JSON document at this place.
    Values {
        /// The versions.
        at: Pointer,
        /// Their dates.
        date: Option<Pointer>,
    },
    /// The names in the objects of a JSON document at this place.
    Keys {
        /// The objects.
        of: Pointer,
        /// The dates of the versions.
        date: Option<Pointer>,
    },
    /// The document is the version, or has one a line.
    Text,
}

impl HttpRule {
    /// Whether its documents may tell when something was released.
    pub(super) fn tells_dates(&self) -> bool {
        match &self.reading {
            Reading::Match(pattern) => pattern.tells_dates(),
            Reading::Values { date, .. } | Reading::Keys { date, .. } => date.is_some(),
            Reading::Text => false,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawHttp {
    /// The document, or several.
    #[schemars(with = "OneOrMore<HttpUrl>")]
    url: Urls,
    /// What leads from the document to those that list versions: an expression with a group `page`.
    follow: Option<PagePattern>,
    /// An expression with a group `version`, and perhaps one `date`.
    #[serde(rename = "match")]
    pattern: Option<VersionPattern>,
    /// Where versions stand in JSON, as values; `*` is each entry.
    pointer: Option<Pointer>,
    /// Where an object stands in JSON whose keys are versions.
    keys: Option<Pointer>,
    /// Where the dates of the versions stand in JSON.
    date: Option<Pointer>,
    /// Whether the document is a version, or has one a line.
    #[serde(default)]
    text: bool,
}

impl TryFrom<RawHttp> for HttpRule {
    type Error = String;
    fn try_from(raw: RawHttp) -> Result<Self, String> {
        let RawHttp { url: Urls(urls), follow, pattern, pointer, keys, date, text } = raw;
        let stars = match (&pointer, &keys) {
            (Some(at), _) => at.stars(),
            (None, Some(of)) => of.stars() + 1,
            (None, None) => 0,
        };
        if let Some(date) = date.as_ref().filter(|date| date.stars() > stars) {
            return Err(format!(
                "`date` has more stars than the versions: `{date}`\nhint: each `*` of `date` stands for what the same `*` of the versions stood for; the key that `keys` takes is the last of them"
            ));
        }
        let reading = match (pattern, pointer, keys, text) {
            (Some(pattern), None, None, false) if date.is_none() => Reading::Match(pattern),
            (Some(_), None, None, false) => {
                return Err("`date` is a place in JSON\nhint: in `match`, write a group `(?<date>…)` where the date stands".to_owned());
            }
            (None, Some(at), None, false) => Reading::Values { at, date },
            (None, None, Some(of), false) => Reading::Keys { of, date },
            (None, None, None, true) if date.is_none() => Reading::Text,
            (None, None, None, true) => return Err("a text tells no `date`".to_owned()),
            _ => {
                return Err("it takes one of `match`, `pointer`, `keys` or `text`\nhint: match = 'x-(?<version>[0-9.]+)\\.tgz' for a page, pointer = \"/releases/*/version\" or keys = \"/versions\" for JSON, text = true where the document is the version".to_owned());
            }
        };
        Ok(Self { urls, follow, reading })
    }
}

/// One URL or a list of them.
struct Urls(Vec<HttpUrl>);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Urls;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<Urls, E> {
                HttpUrl::try_from(url.to_owned()).map(|url| Urls(vec![url])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Urls, A::Error> {
                let urls: Vec<HttpUrl> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                if urls.is_empty() {
                    return Err(serde::de::Error::custom("`url` lists nothing"));
                }
                Ok(Urls(urls))
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

/// A regular expression with a group named `version`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String")]
pub struct VersionPattern(pub Regex);

impl VersionPattern {
    fn tells_dates(&self) -> bool {
        self.0.has_group("date")
    }
}

impl TryFrom<String> for VersionPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        with_group(&text, "version", "(?<version>[0-9.]+)` where the version stands").map(Self)
    }
}

/// A regular expression with a group named `page`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String")]
pub struct PagePattern(pub Regex);

impl TryFrom<String> for PagePattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        with_group(&text, "page", "href=\"(?<page>[^\"]+/)\"` where the link stands").map(Self)
    }
}

/// A regular expression, without the table of all its states: a run reads one or two pages by it, and a
/// table takes ten times as long to make as they take to be read.
#[derive(Debug, Clone)]
pub struct Regex {
    text: String,
    compiled: Compiled,
}

impl Regex {
    fn new(text: &str) -> Result<Self, String> {
        let settings = Compiled::config().dfa(false);
        match Compiled::builder().configure(settings).build(text) {
            Ok(compiled) => Ok(Self { text: text.to_owned(), compiled }),
            Err(error) => {
                // The other crate shows where in the text it is.
                let error = match regex::Regex::new(text) {
                    Err(shown) => shown.to_string(),
                    Ok(_) => error.to_string(),
                };
                let reason = error.lines().last().unwrap_or_default().trim();
                Err(format!("not a regular expression: {reason}"))
            }
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// For every place in a text that matches, what these named groups matched there.
    pub fn matches<'t, const N: usize>(
        &'t self,
        text: &'t str,
        groups: [&'t str; N],
    ) -> impl Iterator<Item = [Option<&'t str>; N]> {
        self.compiled.captures_iter(text).map(move |captures| {
            groups.map(|group| captures.get_group_by_name(group).map(|span| &text[span.range()]))
        })
    }

    fn has_group(&self, group: &str) -> bool {
        let names = self.compiled.group_info().pattern_names(regex_automata::PatternID::ZERO);
        names.flatten().any(|name| name == group)
    }
}

fn with_group(text: &str, group: &str, example: &str) -> Result<Regex, String> {
    let regex = Regex::new(text)?;
    if regex.has_group(group) {
        Ok(regex)
    } else {
        Err(format!("the regular expression has no group `{group}`\nhint: write `{example}"))
    }
}

/// Places in a JSON document: a JSON pointer (RFC 6901) in which `*` stands for every element of an
/// array and every value of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^(/.*)?$", "examples" = ["/releases/*/version"]))]
pub struct Pointer {
    text: String,
    steps: Vec<Step>,
}

/// One step of a [`Pointer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of this name, or the element of this number.
    Key(String),
    /// All of them.
    Star,
}

impl Pointer {
    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn stars(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::Star).count()
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let shown = text.escape_debug();
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!(
                "`{shown}` is no JSON pointer\nhint: it begins with a slash, such as \"/releases/*/version\""
            ));
        }
        let mut steps = Vec::new();
        for step in text.split('/').skip(1) {
            steps.push(if step == "*" {
                Step::Star
            } else {
                // RFC 6901 §4: this order, so that `~01` becomes `~1`.
                if step.split('~').skip(1).any(|after| !after.starts_with(['0', '1'])) {
                    return Err(format!(
                        "`{shown}` has a `~` that stands for nothing\nhint: in a JSON pointer `~0` is a tilde and `~1` a slash"
                    ));
                }
                Step::Key(step.replace("~1", "/").replace("~0", "~"))
            });
        }
        Ok(Self { text, steps })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Result<Pointer, String> {
        Pointer::try_from(text.to_owned())
    }

    #[test]
    fn a_pointer_has_its_escapes_undone() {
        let steps = pointer("/a~1b/*/~01/0").unwrap().steps;
        let key = |text: &str| Step::Key(text.to_owned());
        assert_eq!(steps, [key("a/b"), Step::Star, key("~1"), key("0")]);
        assert_eq!(pointer("").unwrap().steps, []);
        assert_eq!(pointer("/").unwrap().steps, [key("")]);
        for bad in ["a", "$.a", "/a~", "/~2"] {
            assert!(pointer(bad).is_err(), "{bad}");
        }
    }
}
