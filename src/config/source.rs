//! `[source.…]`: what a component follows.
//!
//! Owns how a source is written. Knows nothing of how it is asked.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::build::Words;
use super::mirror::{RepositoryRule, Trust};
use super::schema::Either;
use crate::template::Template;

mod command;
mod forge;
mod http;

pub use command::CommandRule;
pub use forge::{GiteaRule, GithubRule, GitlabRule, OwnerRepo, ProjectPath};
pub use http::{HttpRule, PagePattern, Pointer, Reading, Step, VersionPattern};

/// What to do about a component that follows nothing.
pub(super) const NO_SOURCE: &str = "add one of [source.github], [source.gitlab], [source.gitea], [source.git], [source.http], [source.command], [source.directory], [source.repository]";

/// `[source.…]`: what a component follows; one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "SourceTable")]
#[schemars(into = "SourceTable", extend("minProperties" = 1, "maxProperties" = 1))]
pub enum SourceRule {
    /// Releases or tags of a GitHub repository.
    Github(GithubRule),
    /// Releases or tags of a GitLab project.
    Gitlab(GitlabRule),
    /// Releases or tags of a repository on Gitea or Forgejo.
    Gitea(GiteaRule),
    /// Tags of any git repository.
    Git(GitRule),
    /// A page or JSON that lists versions.
    Http(HttpRule),
    /// A program that prints versions.
    Command(CommandRule),
    /// Files somebody drops into a folder.
    Directory(DirectoryRule),
    /// Somebody else's repository.
    Repository(RepositoryRule),
}

impl SourceRule {
    /// Whether it may tell when something was released.
    #[must_use]
    pub fn tells_dates(&self) -> bool {
        match self {
            Self::Github(rule) => !rule.tags,
            Self::Gitlab(_) | Self::Gitea(_) | Self::Command(_) | Self::Repository(_) => true,
            Self::Http(rule) => rule.tells_dates(),
            Self::Git(_) | Self::Directory(_) => false,
        }
    }

    /// Whether what it lists are tags of a repository: where no template says what they look like,
    /// a version has a `v` before it or none, and what does not begin with a digit then is none.
    #[must_use]
    pub fn strips_v(&self) -> bool {
        match self {
            Self::Github(_) | Self::Gitlab(_) | Self::Gitea(_) | Self::Git(_) => true,
            Self::Http(_) | Self::Command(_) | Self::Directory(_) | Self::Repository(_) => false,
        }
    }

    /// Makes its paths relative to the current folder: they are written relative to `folder`, where
    /// the component's file is.
    pub fn settle(&mut self, folder: &Path) {
        match self {
            Self::Directory(rule) => rule.path = folder.join(&rule.path),
            Self::Command(rule) => folder.clone_into(&mut rule.folder),
            Self::Repository(rule) => {
                if let Trust::Keyring(keyring) = &mut rule.trust {
                    *keyring = folder.join(&keyring);
                }
            }
            Self::Github(_) | Self::Gitlab(_) | Self::Gitea(_) | Self::Git(_) | Self::Http(_) => {}
        }
    }
}

/// `[source]` as TOML sees it, so that two sources are told apart from a typo in one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SourceTable {
    /// Releases or tags of a GitHub repository.
    github: Option<GithubRule>,
    /// Releases or tags of a GitLab project.
    gitlab: Option<GitlabRule>,
    /// Releases or tags of a repository on Gitea or Forgejo.
    gitea: Option<GiteaRule>,
    /// Tags of any git repository.
    git: Option<GitRule>,
    /// A page, JSON or a text that lists versions.
    http: Option<HttpRule>,
    /// A program that prints versions.
    #[schemars(with = "Option<Either<Words, command::Table>>")]
    command: Option<CommandRule>,
    /// Files that somebody drops into a folder.
    directory: Option<DirectoryRule>,
    /// Somebody else's repository, whose files are published as they are.
    repository: Option<RepositoryRule>,
}

impl TryFrom<SourceTable> for SourceRule {
    type Error = String;
    fn try_from(table: SourceTable) -> Result<Self, String> {
        let SourceTable { github, gitlab, gitea, git, http, command, directory, repository } =
            table;
        let mut found: Vec<(&str, Self)> = Vec::new();
        found.extend(github.map(|rule| ("github", Self::Github(rule))));
        found.extend(gitlab.map(|rule| ("gitlab", Self::Gitlab(rule))));
        found.extend(gitea.map(|rule| ("gitea", Self::Gitea(rule))));
        found.extend(git.map(|rule| ("git", Self::Git(rule))));
        found.extend(http.map(|rule| ("http", Self::Http(rule))));
        found.extend(command.map(|rule| ("command", Self::Command(rule))));
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

/// `[source.git]`: tags of any git repository.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GitRule {
    /// What `git clone` takes, over http or https.
    pub url: HttpUrl,
}

/// `[source.directory]`: files that somebody drops into a folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectoryRule {
    /// The folder, relative to this file.
    pub path: PathBuf,
    /// What a release's file is called.
    #[serde(rename = "match")]
    pub pattern: Template,
}

/// A URL that HTTP can reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^[Hh][Tt][Tt][Pp][Ss]?://", "examples" = ["https://example.org/"]))]
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
