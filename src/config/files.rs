//! `[files]` and `[asset.files]`: which file of an image comes from where.
//!
//! Owns how such a table is written. Knows nothing of archives.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::schema::OneOrMore;
use crate::template::Text;

/// Destinations and what goes there, in the order of the destinations.
pub type Files = BTreeMap<Destination, FileRule>;

/// A path in the image, relative to its root: `usr/bin/` (into that folder) or `usr/bin/ts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r"^[^/][^\x00-\x1f]*$", "examples" = ["usr/bin/"]))]
pub struct Destination(String);

impl Destination {
    /// The path without a final slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }

    /// True for a final slash: what goes there keeps its own name.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }
}

impl TryFrom<String> for Destination {
    type Error = String;
    fn try_from(path: String) -> Result<Self, String> {
        let shown = path.escape_debug();
        let trimmed = path.strip_suffix('/').unwrap_or(&path);
        if path.starts_with('/') {
            return Err(format!(
                "`{shown}` is absolute\nhint: paths in an image are relative to its root: `{}`",
                path.trim_start_matches('/').escape_debug()
            ));
        }
        if trimmed.split('/').any(|part| matches!(part, "" | "." | ".."))
            || path.chars().any(char::is_control)
        {
            return Err(format!("`{shown}` is not a plain path"));
        }
        // Which of these an image may have, and that one published as it is may have a name alone, is
        // for the component to say.
        let top = trimmed.split('/').next();
        if !matches!(top, Some("usr" | "opt" | "etc")) && path.contains('/') {
            return Err(format!(
                "`{shown}` would not be seen on a node\nhint: a system extension merges only `usr/` and `opt/`"
            ));
        }
        Ok(Self(path))
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> String {
        destination.0
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What goes to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileRule {
    /// Entries of the asset: files, folders or globs.
    Pick {
        /// Paths in the asset, `strip-components` applied.
        from: Vec<Text>,
        /// Permissions for files; left out, 0755 for programs and 0644 for the rest.
        mode: Option<Mode>,
        /// Texts to replace in each picked file; each must occur.
        replace: BTreeMap<String, Text>,
    },
    /// A file with this content.
    Text {
        /// The content.
        text: Text,
        /// Permissions; 0644 if left out.
        mode: Option<Mode>,
    },
    /// A symbolic link to this target.
    Symlink(Text),
    /// Nothing: what is there is taken away.
    Delete,
}

impl FileRule {
    /// Every text in which variables are filled in.
    pub(super) fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Pick { from, replace, .. } => from.iter().chain(replace.values()).collect(),
            Self::Text { text, .. } | Self::Symlink(text) => vec![text],
            Self::Delete => Vec::new(),
        }
    }
}

/// Permission bits of a file, written in octal as a string: `"0755"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-7]{3,4}$", "examples" = ["0755"]))]
pub struct Mode(u32);

impl Mode {
    /// The bits, up to 0o7777.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for Mode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|c| (b'0'..=b'7').contains(&c));
        let bits = u32::from_str_radix(&text, 8).ok().filter(|_| octal);
        bits.map(Self)
            .ok_or_else(|| format!("`{}` is not a mode such as \"0755\"", text.escape_debug()))
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> String {
        format!("{:04o}", mode.0)
    }
}

/// The long form of a rule: `{ from = "…", mode = "…" }`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "FileTable")]
struct Long {
    /// Entries of the asset: paths or globs, after `strip-components`; `.` is all of it.
    #[schemars(with = "Option<OneOrMore<Text>>")]
    from: Option<Paths>,
    /// A file with this content.
    text: Option<Text>,
    /// A symbolic link to this target.
    symlink: Option<Text>,
    /// `true`: what is there is taken away.
    delete: Option<bool>,
    /// Permissions; left out, 0755 for programs of an asset and 0644 for the rest.
    mode: Option<Mode>,
    /// Texts to replace in each picked file; each must occur.
    #[serde(default)]
    replace: BTreeMap<String, Text>,
}

impl JsonSchema for FileRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "File".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What goes to a place in the image: paths in the asset, or a table.",
            "anyOf": [
                generator.subschema_for::<OneOrMore<Text>>(),
                generator.subschema_for::<Long>(),
            ],
        })
    }
}

impl TryFrom<Long> for FileRule {
    type Error = String;
    fn try_from(long: Long) -> Result<Self, String> {
        let Long { from, text, symlink, delete, mode, replace } = long;
        if !replace.is_empty() && from.is_none() {
            return Err("`replace` goes with `from`".to_owned());
        }
        if replace.keys().any(String::is_empty) {
            return Err("`replace` has an empty text to look for".to_owned());
        }
        if mode.is_some() && from.is_none() && text.is_none() {
            return Err("`mode` goes with `from` or `text`".to_owned());
        }
        match (from, text, symlink, delete) {
            (Some(Paths(from)), None, None, None) => Ok(Self::Pick { from, mode, replace }),
            (None, Some(text), None, None) => Ok(Self::Text { text, mode }),
            (None, None, Some(target), None) => Ok(Self::Symlink(target)),
            (None, None, None, Some(true)) => Ok(Self::Delete),
            _ => Err("a file is one of `from`, `text`, `symlink` or `delete = true`".to_owned()),
        }
    }
}

/// One path or a list of them.
struct Paths(Vec<Text>);

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Paths;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path in the asset, or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Paths, E> {
                check_paths(vec![Text::from(path)])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Paths, A::Error> {
                check_paths(Vec::deserialize(SeqAccessDeserializer::new(list))?)
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

fn check_paths<E: serde::de::Error>(paths: Vec<Text>) -> Result<Paths, E> {
    if paths.is_empty() || paths.iter().any(|path| path.as_str().is_empty()) {
        return Err(E::custom("an empty path picks nothing\nhint: `.` is the whole asset"));
    }
    Ok(Paths(paths))
}

impl<'de> Deserialize<'de> for FileRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyForm;
        impl<'de> Visitor<'de> for AnyForm {
            type Value = FileRule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path in the asset, a list of them, or a table with `from`, `text`, `symlink` or `delete`")
            }
            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<FileRule, E> {
                check_paths(vec![Text::from(path)]).map(pick)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<FileRule, A::Error> {
                check_paths(Vec::deserialize(SeqAccessDeserializer::new(list))?).map(pick)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FileRule, A::Error> {
                Long::deserialize(MapAccessDeserializer::new(map))?
                    .try_into()
                    .map_err(A::Error::custom)
            }
        }
        from.deserialize_any(AnyForm)
    }
}

fn pick(paths: Paths) -> FileRule {
    FileRule::Pick { from: paths.0, mode: None, replace: BTreeMap::new() }
}
