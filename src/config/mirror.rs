//! `[source.repository]`: somebody else's repository, whose files are published as they are.
//!
//! Owns how a mirror is written, and what of a component has no meaning for one. Knows nothing of how
//! a repository is read.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::schema::OneOrMore;
use super::source::HttpUrl;
use crate::template::{Template, Vars};

/// The most patterns of one mirror: an OS has a handful of files a version.
const MOST_PATTERNS: usize = 16;

/// `[source.repository]`: somebody else's repository, whose files are published as they are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "Raw")]
#[schemars(into = "Raw")]
pub struct RepositoryRule {
    /// The folder that has the `SHA256SUMS`; it ends with a slash.
    pub url: HttpUrl,
    /// What the files of a version are called; the first tells which versions there are.
    pub patterns: Vec<Template>,
    /// The folder that a file is in, if it is not beside the manifest.
    pub files: Option<Template>,
    /// Whose signature lets their manifest in.
    pub trust: Trust,
    /// Whether their manifest and signatures are published as they are.
    pub verbatim: bool,
    /// Whether what they no longer list is yanked here, too.
    pub follow_yanks: bool,
    /// Whether system extensions are looked into before they are published.
    pub inspect: bool,
}

/// Whose signature lets a manifest in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// That of a key in this keyring; the component's parser makes it relative to the current folder.
    Keyring(PathBuf),
    /// Nobody's: it is not signed, or nobody knows by whom.
    Unsigned,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    /// The folder of their `SHA256SUMS`.
    url: HttpUrl,
    /// What the files of a version are called; the first tells which versions there are.
    #[serde(rename = "match")]
    #[schemars(with = "Option<OneOrMore<Template>>", extend("default" = "{name}-{version}-{arch}.raw"))]
    patterns: Option<Patterns>,
    /// The folder that a file is in, if it is not beside the manifest.
    files: Option<Template>,
    /// Their public keys, relative to this file: the manifest must have a signature of one.
    keyring: Option<PathBuf>,
    /// Whether there is no signature.
    #[serde(default)]
    unsigned: bool,
    /// Whether everything is published as it is, with their manifest and signatures.
    #[serde(default)]
    verbatim: bool,
    /// Whether a version that they take out is taken out here, too.
    #[serde(default)]
    follow_yanks: bool,
    /// Whether images are looked into before they are published.
    #[schemars(extend("default" = true))]
    inspect: Option<bool>,
}

impl TryFrom<Raw> for RepositoryRule {
    type Error = String;
    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { url, patterns, files, keyring, unsigned, verbatim, follow_yanks, inspect } = raw;
        let trust = match (keyring, unsigned) {
            (Some(keyring), false) => Trust::Keyring(keyring),
            (None, true) => Trust::Unsigned,
            (None, false) => return Err("nothing says whose signature their SHA256SUMS must have\nhint: keyring = \"FILE\" has their public key, binary or armored, beside this file; or, if they sign nothing, unsigned = true".to_owned()),
            (Some(_), true) => return Err("it has a `keyring`, but says `unsigned = true`\nhint: leave one of them out".to_owned()),
        };
        if url.0.query().is_some() || url.0.fragment().is_some() {
            return Err(format!(
                "url: `{}` must end with the path: it names the folder of their SHA256SUMS",
                url.0
            ));
        }
        if url.0.path().ends_with("/SHA256SUMS") {
            return Err(format!(
                "url: `{}` is their manifest\nhint: give the folder that it is in",
                url.0
            ));
        }
        if verbatim && patterns.is_some() {
            return Err("`verbatim = true` takes everything, so `match` has nothing to choose\nhint: leave `match` out, or `verbatim`".to_owned());
        }
        if verbatim && follow_yanks {
            return Err("`verbatim = true` follows everything they do, so `follow-yanks` has nothing to add\nhint: leave it out".to_owned());
        }
        if follow_yanks && trust == Trust::Unsigned {
            return Err("`follow-yanks` needs a `keyring`: whoever could change their SHA256SUMS could take versions out here".to_owned());
        }
        if let Some(files) = &files {
            let vars = Vars { name: "n", version: "1", arch: "a", tag: "t", ..Vars::default() };
            HttpUrl::try_from(files.expand(&vars))
                .map_err(|_| format!("files: `{files}` is not an http or https URL"))?;
        }
        if verbatim
            && files.as_ref().is_some_and(|files| files.uses("version") || files.uses("arch"))
        {
            return Err("files: with `verbatim = true` nobody tells versions apart, so no {version} and no {arch} can stand in it".to_owned());
        }
        let patterns = match patterns {
            Some(Patterns(patterns)) => patterns,
            None => vec![
                Template::parse(if verbatim { "{tag}" } else { "{name}-{version}-{arch}.raw" })
                    .expect("a literal template"),
            ],
        };
        let with_arch = patterns.iter().filter(|pattern| pattern.uses("arch")).count();
        for pattern in patterns.iter().filter(|_| !verbatim) {
            pattern.require(&["version"]).map_err(|error| format!("match: {error}"))?;
            if pattern.as_str().contains('/') {
                return Err(format!(
                    "match: `{pattern}` has a slash, but a manifest lists the files of one folder\nhint: `files` says where files are that lie elsewhere"
                ));
            }
            if with_arch > 0 && !pattern.uses("arch") {
                return Err(format!(
                    "match: `{pattern}` has no {{arch}}, but another pattern has\nhint: files that are for no one architecture make another component"
                ));
            }
        }
        Ok(Self {
            url: HttpUrl(folder(url.0)),
            patterns,
            files,
            trust,
            verbatim,
            follow_yanks,
            inspect: inspect.unwrap_or(true),
        })
    }
}

/// The same with a slash at its end, so that names are joined to it.
fn folder(mut url: url::Url) -> url::Url {
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
}

/// One pattern or a list of them.
struct Patterns(Vec<Template>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Patterns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what a file is called, or a list, where a version has several")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Patterns, E> {
                Template::parse(text).map(|pattern| Patterns(vec![pattern])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Patterns, A::Error> {
                let patterns: Vec<Template> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                match patterns.len() {
                    1..=MOST_PATTERNS => Ok(Patterns(patterns)),
                    _ => Err(serde::de::Error::custom(format!(
                        "a version has 1 to {MOST_PATTERNS} files"
                    ))),
                }
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<RepositoryRule, String> {
        let text = format!("url = \"https://e.org/x\"\n{lines}");
        toml::from_str(&text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_mirror_says_whom_it_believes() {
        let rule = read("keyring = \"their.gpg\"").unwrap();
        assert_eq!(rule.trust, Trust::Keyring("their.gpg".into()));
        assert_eq!(rule.url.0.as_str(), "https://e.org/x/");
        assert_eq!(rule.patterns[0].as_str(), "{name}-{version}-{arch}.raw");
        assert!(rule.inspect && !rule.verbatim && !rule.follow_yanks);
        assert_eq!(read("unsigned = true").unwrap().trust, Trust::Unsigned);
        for (lines, part) in [
            ("", "keyring = \"FILE\""),
            ("keyring = \"x\"\nunsigned = true", "leave one"),
            ("unsigned = true\nfollow-yanks = true", "needs a `keyring`"),
            ("unsigned = true\nverbatim = true\nmatch = \"{version}\"", "takes everything"),
            ("keyring = \"x\"\nverbatim = true\nfollow-yanks = true", "leave it out"),
            ("unsigned = true\nmatch = \"x.raw\"", "{version}"),
            ("unsigned = true\nmatch = \"x/{version}.raw\"", "slash"),
            ("unsigned = true\nmatch = []", "1 to 16"),
            ("unsigned = true\nmatch = [\"a-{version}-{arch}\", \"b-{version}\"]", "no {arch}"),
            ("unsigned = true\nfiles = \"ftp://e.org/\"", "http"),
            ("unsigned = true\nmtach = \"x\"", "unknown field"),
        ] {
            let error = read(lines).unwrap_err();
            assert!(error.contains(part), "{lines}: {error}");
        }
        for url in ["https://e.org/SHA256SUMS", "https://e.org/?x", "ftp://e.org/"] {
            let text = format!("url = \"{url}\"\nunsigned = true\n");
            assert!(toml::from_str::<RepositoryRule>(&text).is_err(), "{url}");
        }
    }

    #[test]
    fn a_version_may_have_several_files() {
        let lines = "unsigned = true\nmatch = [\"os_{version}.efi\", \"os_{version}.root.raw.xz\"]";
        assert_eq!(read(lines).unwrap().patterns.len(), 2);
        assert_eq!(
            read("unsigned = true\nmatch = \"os_{version}.efi\"").unwrap().patterns.len(),
            1
        );
    }
}
