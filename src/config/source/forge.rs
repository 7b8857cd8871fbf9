//! `[source.github]`, `[source.gitlab]`, `[source.gitea]`: places where projects live.
//!
//! Owns how a project is named there. Knows nothing of their APIs.

use schemars::JsonSchema;
use serde::Deserialize;

use super::HttpUrl;
use crate::config::Count;

/// `[source.github]`: releases or tags on GitHub.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GithubRule {
    /// The repository: `OWNER/REPO`.
    pub repo: OwnerRepo,
    /// The site, where it is not github.com.
    pub url: Option<HttpUrl>,
    /// Whether its tags are followed, not its releases.
    #[serde(default)]
    pub tags: bool,
    /// How many pages of the listing are read, the newest first; left out, all.
    pub pages: Option<Count>,
}

/// `[source.gitlab]`: releases or tags on GitLab.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GitlabRule {
    /// The project: `GROUP/PROJECT`, with as many groups as there are.
    pub project: ProjectPath,
    /// The site.
    #[serde(default = "gitlab_com")]
    pub url: HttpUrl,
    /// Whether its tags are followed, not its releases.
    #[serde(default)]
    pub tags: bool,
    /// How many pages of the listing are read, the newest first; left out, all.
    pub pages: Option<Count>,
}

fn gitlab_com() -> HttpUrl {
    HttpUrl::try_from("https://gitlab.com".to_owned()).expect("a URL")
}

/// `[source.gitea]`: releases or tags on Gitea, Forgejo, Codeberg.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GiteaRule {
    /// The site.
    pub url: HttpUrl,
    /// The repository: `OWNER/REPO`.
    pub repo: OwnerRepo,
    /// Whether its tags are followed, not its releases.
    #[serde(default)]
    pub tags: bool,
    /// How many pages of the listing are read, the newest first; left out, all.
    pub pages: Option<Count>,
}

/// `OWNER/REPOSITORY`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", "examples" = ["OWNER/REPO"]))]
pub struct OwnerRepo {
    /// The user or organisation.
    pub owner: String,
    /// The repository's own name.
    pub name: String,
}

impl std::fmt::Display for OwnerRepo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl TryFrom<String> for OwnerRepo {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("`{}` is not OWNER/REPOSITORY", text.escape_debug())),
        }
    }
}

/// `GROUP/PROJECT` or `GROUP/SUBGROUP/PROJECT`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$", "examples" = ["GROUP/PROJECT"]))]
pub struct ProjectPath(String);

impl ProjectPath {
    /// The path as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProjectPath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('/') && text.split('/').all(is_name) {
            Ok(Self(text))
        } else {
            Err(format!("`{}` is not GROUP/PROJECT", text.escape_debug()))
        }
    }
}

/// What a user, a group or a repository may be called on any of these sites.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && !matches!(part, "." | "..")
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
