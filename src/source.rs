//! Sources: what an upstream has released.
//!
//! Owns asking upstreams and turning their answers into candidates. Every source is one variant of
//! [`SourceRule`] and one file here. Knows nothing of which candidates are wanted: `plan` selects.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;

use crate::config::Component;
use crate::config::source::SourceRule;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError, without_password};
use crate::name::{Arch, Sha256};

pub mod directory;
pub(crate) mod github;
pub mod http;
pub mod memory;
pub mod repository;

use memory::Memory;
use repository::MirrorError;

/// Something an upstream released: a candidate.
#[derive(Debug, Clone)]
pub struct Release {
    /// What upstream calls it: `v1.58.1`.
    pub tag: String,
    /// When it was released, where upstream says so.
    pub published: Option<Timestamp>,
    /// Whether upstream calls it a pre-release.
    pub prerelease: bool,
    /// The files that come with it. A source that does not know any leaves this empty.
    pub assets: Arc<[Asset]>,
}

impl Release {
    /// A release of which only the tag is known, and files that may belong to it.
    fn tagged(tag: &str, assets: &Arc<[Asset]>) -> Self {
        Self { tag: tag.to_owned(), published: None, prerelease: false, assets: assets.clone() }
    }
}

/// A file of a release.
#[derive(Debug, Clone)]
pub struct Asset {
    /// Its file name.
    pub name: String,
    /// Where it is.
    pub at: Location,
    /// The digest that the source itself gives.
    pub sha256: Option<Sha256>,
    /// The length in bytes that the source gives.
    pub size: Option<u64>,
    /// Where an API gives it to who has a token, if the location gives it to nobody.
    pub private: Option<String>,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On a web server.
    Url(String),
    /// On this machine.
    File(PathBuf),
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => f.write_str(&without_password(url)),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// An upstream that could not be asked, or answered nothing that helps.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The request failed.
    #[error("cannot ask upstream")]
    Fetch(#[from] FetchError),
    /// GitHub refused, in its own words.
    #[error("github said of {repo}: {message}")]
    Github {
        /// `OWNER/REPOSITORY`
        repo: String,
        /// What it said.
        message: String,
        /// How that reads as an answer over HTTP.
        source: FetchError,
    },
    /// GitHub's answer was no answer.
    #[error("cannot read github's answer about {repo}: {problem}")]
    GithubAnswer {
        /// `OWNER/REPOSITORY`
        repo: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder that cannot be read.
    #[error("cannot read the folder {path}", path = path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody's repository that is not let in.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The upstream is there, but lists nothing. That is never taken for "nothing new".
    #[error("{0}")]
    Nothing(String),
}

impl SourceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch(_) => None,
            Self::Github { source, .. } => match source {
                FetchError::Status { status, .. } if status.as_u16() == 404 => {
                    Some("check [source.github] repo; a private one needs GITHUB_TOKEN".to_owned())
                }
                FetchError::Status { status, .. } if status.as_u16() == 401 => Some(
                    "GITHUB_TOKEN (or GH_TOKEN) holds a token that GitHub does not accept"
                        .to_owned(),
                ),
                other => other.hint(),
            },
            Self::GithubAnswer { .. } => Some("check GITHUB_API_URL, if it is set".to_owned()),
            Self::Directory { .. } => Some(
                "[source.directory] path names it, relative to the component's file".to_owned(),
            ),
            Self::Mirror(error) => error.hint(),
            Self::Nothing(_) => {
                Some("check `match` in the component; nothing is taken away meanwhile".to_owned())
            }
        }
    }
}

/// Asks a component's upstream for its releases, in no particular order.
///
/// # Errors
/// The upstream could not be asked, or lists nothing at all.
pub async fn poll(
    component: &Component,
    arches: &[(Arch, String)],
    client: &Client,
    cache: &Cache,
    memory: &Memory,
) -> Result<Vec<Release>, SourceError> {
    match &component.source {
        SourceRule::Github(rule) => github::poll(rule, client, cache).await,
        SourceRule::Http(rule) => http::poll(rule, client, cache).await,
        SourceRule::Directory(rule) => directory::poll(rule, component, arches),
        SourceRule::Repository(rule) => {
            repository::poll(rule, component, arches, client, cache, memory).await
        }
    }
}
