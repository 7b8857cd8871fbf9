//! `[source.…]`: what a component follows.
//!
//! Owns how a source is written. Knows nothing of how it is asked.

use std::path::PathBuf;

use regex::Regex;
use serde::Deserialize;
use url::Url;

use super::mirror::RepositoryRule;
use crate::template::Template;

/// What to do about a component that follows nothing.
pub(super) const NO_SOURCE: &str =
    "add one of [source.github], [source.http], [source.directory], [source.repository]";

/// `[source.…]`: one of a closed set.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "SourceTable")]
pub enum SourceRule {
    /// Releases of a GitHub repository.
    Github(GithubRule),
    /// A page or JSON that lists versions.
    Http(HttpRule),
    /// Files somebody drops into a folder.
    Directory(DirectoryRule),
    /// Somebody else's repository.
    Repository(RepositoryRule),
}

/// `[source]` as TOML sees it, so that two sources are told apart from a typo in one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SourceTable {
    github: Option<GithubRule>,
    http: Option<HttpRule>,
    directory: Option<DirectoryRule>,
    repository: Option<RepositoryRule>,
}

impl TryFrom<SourceTable> for SourceRule {
    type Error = String;
    fn try_from(table: SourceTable) -> Result<Self, String> {
        let SourceTable { github, http, directory, repository } = table;
        let mut found: Vec<(&str, Self)> = Vec::new();
        found.extend(github.map(|rule| ("github", Self::Github(rule))));
        found.extend(http.map(|rule| ("http", Self::Http(rule))));
        found.extend(directory.map(|rule| ("directory", Self::Directory(rule))));
        found.extend(repository.map(|rule| ("repository", Self::Repository(rule))));
        if found.len() > 1 {
            let names = found.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>();
            return Err(format!(
                "more than one source: {}\nhint: a component follows one; make another component for the other",
                names.join(" and ")
            ));
        }
        found.pop().map(|(_, rule)| rule).ok_or_else(|| format!("no source\nhint: {NO_SOURCE}"))
    }
}

/// `[source.github]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GithubRule {
    /// `OWNER/REPOSITORY`
    pub repo: GithubRepo,
}

/// `OWNER/REPOSITORY` on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct GithubRepo {
    /// The user or organisation.
    pub owner: String,
    /// The repository's own name.
    pub name: String,
}

impl TryFrom<String> for GithubRepo {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let legal = |part: &str| {
            !part.is_empty()
                && !matches!(part, "." | "..")
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if legal(owner) && legal(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("`{}` is not OWNER/REPOSITORY", text.escape_debug())),
        }
    }
}

/// `[source.http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpRule {
    /// The page or JSON document.
    pub url: HttpUrl,
    /// What a version looks like in it: a regular expression with a group `version`.
    #[serde(rename = "match")]
    pub pattern: VersionPattern,
}

/// A URL that HTTP can reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(pub Url);

impl TryFrom<String> for HttpUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Self(url)),
            Ok(_) => Err(format!("`{}` is not an http or https URL", text.escape_debug())),
            Err(error) => Err(format!("`{}` is not a URL: {error}", text.escape_debug())),
        }
    }
}

/// A regular expression with a group named `version`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct VersionPattern(pub Regex);

impl TryFrom<String> for VersionPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let regex = Regex::new(&text).map_err(|error| {
            let reason = error.to_string();
            format!(
                "not a regular expression: {}",
                reason.lines().last().unwrap_or_default().trim()
            )
        })?;
        if regex.capture_names().flatten().any(|name| name == "version") {
            Ok(Self(regex))
        } else {
            Err("the regular expression has no group `version`\nhint: write `(?<version>[0-9.]+)` where the version stands".to_owned())
        }
    }
}

/// `[source.directory]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectoryRule {
    /// The folder; [`parse`] makes it relative to the current one.
    pub path: PathBuf,
    /// What a release's file is called.
    #[serde(rename = "match")]
    pub pattern: Template,
}
