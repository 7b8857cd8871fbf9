//! Sources: what an upstream has released.
//!
//! Owns asking upstreams and turning their answers into candidates. Every source is one variant of
//! [`SourceRule`] and one file here. Knows nothing of which candidates are wanted: `plan` selects.

use std::path::PathBuf;
use std::sync::Arc;

use ::http::HeaderMap;
use jiff::Timestamp;
use thiserror::Error;

use crate::config::Component;
use crate::config::source::SourceRule;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError, without_password};
use crate::name::{Arch, Sha256};

pub mod command;
mod date;
pub mod directory;
pub mod forge;
pub mod git;
pub mod gitea;
pub mod github;
pub mod gitlab;
pub mod http;
pub mod memory;
pub mod repository;

use memory::Memory;
use repository::MirrorError;

use command::CommandError;

/// More than any project has ever released; who lists more is broken or means harm.
const MOST: usize = 100_000;

/// The longest name of a release that is looked at, in bytes: that of a file.
const LONGEST: usize = 255;

/// What an upstream lists.
#[derive(Debug)]
pub struct Listing {
    /// What it has released, in no particular order.
    pub releases: Vec<Release>,
    /// Whether that is all: of what was not read, nobody knows whether it is there.
    pub complete: bool,
    /// What its users should know: that it moved.
    pub notes: Vec<String>,
}

impl Listing {
    /// All that there is.
    fn whole(releases: Vec<Release>) -> Self {
        Self { releases, complete: true, notes: Vec::new() }
    }

    /// The same without what has no name: nobody could write a rule for it, nor read it in a list.
    fn without_nameless(mut self) -> Self {
        let all = self.releases.len();
        self.releases.retain(|release| is_name(&release.tag));
        let left = all - self.releases.len();
        if left > 0 {
            let one = if left == 1 { "one release has" } else { &format!("{left} releases have") };
            self.notes.push(format!(
                "{one} no name that can be shown: longer than {LONGEST} bytes, or not plain text"
            ));
        }
        self
    }
}

fn is_name(tag: &str) -> bool {
    let strange = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    !tag.is_empty() && tag.len() <= LONGEST && !tag.contains(strange)
}

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
    pub(crate) fn tagged(tag: &str, assets: &Arc<[Asset]>) -> Self {
        Self { tag: tag.to_owned(), published: None, prerelease: false, assets: assets.clone() }
    }

    /// A release without files, of which the tag is known, and perhaps the date.
    fn bare(tag: String, published: Option<Timestamp>) -> Self {
        Self { tag, published, prerelease: false, assets: [].into() }
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
    /// Where an API gives it to who has a token.
    pub private: Option<Private>,
}

/// A file where an API gives it to who has a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// Its address. An answer must not choose the server: a token goes there.
    pub url: String,
    /// Whose token.
    pub api: Arc<forge::Api>,
}

impl Private {
    /// Asks for a file at its public address, or, for who has a token, where an API gives it: there
    /// first, or after a "not found", as the site has it. `headers` are for the public address.
    ///
    /// # Errors
    /// As `ask` says.
    pub async fn either<T>(
        private: Option<&Self>,
        client: &Client,
        (url, headers): (&str, HeaderMap),
        ask: impl AsyncFn(&str, HeaderMap) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let private = private.and_then(|private| {
            let headers = private.api.download_headers()?;
            Some((private, client.for_its_own_server(&private.url, headers)))
        });
        match private {
            // Some sites show to who is not logged in a page to log in at, and no error.
            Some((private, theirs)) if private.api.forge() != forge::Forge::Github => {
                ask(&private.url, theirs).await
            }
            private => match (ask(url, headers).await, private) {
                (Err(error), Some((private, theirs))) if error.is_not_found() => {
                    ask(&private.url, theirs).await
                }
                (asked, _) => asked,
            },
        }
    }
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
        /// What to do about it.
        hint: Option<String>,
    },
    /// GitHub's answer was no answer.
    #[error("cannot read github's answer about {repo}: {problem}")]
    GithubAnswer {
        /// `OWNER/REPOSITORY`
        repo: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another forge refused.
    #[error("cannot ask {forge} about {project}")]
    Forge {
        /// `gitlab`
        forge: &'static str,
        /// What the component follows there.
        project: String,
        /// What it answered.
        source: FetchError,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An answer that is none.
    #[error("cannot read the answer of {from}: {problem}")]
    Answer {
        /// Who gave it.
        from: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// An environment variable that holds no token.
    #[error("{0} holds characters that no token has")]
    Token(String),
    /// A command that tells no versions.
    #[error(transparent)]
    Command(#[from] CommandError),
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
    #[error("{problem}")]
    Nothing {
        /// Who lists nothing of what.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
}

/// What to do about an upstream that lists nothing, where a pattern may be the reason.
const CHECK_MATCH: &str = "check `match` in the component; nothing is taken away meanwhile";

/// The same, where the project has no releases, but perhaps tags.
const TRY_TAGS: &str =
    "a project that has tags alone is followed with `tags = true`; nothing is taken away meanwhile";

impl SourceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch(_) => None,
            Self::Github { source, hint, .. } | Self::Forge { source, hint, .. } => {
                hint.clone().or_else(|| source.hint())
            }
            Self::GithubAnswer { .. } => Some("check GITHUB_API_URL, if it is set".to_owned()),
            Self::Answer { hint, .. } | Self::Nothing { hint, .. } => Some((*hint).to_owned()),
            Self::Token(_) => Some("set it to the token, and nothing else".to_owned()),
            Self::Command(error) => Some(error.hint()),
            Self::Directory { .. } => Some(
                "[source.directory] path names it, relative to the component's file".to_owned(),
            ),
            Self::Mirror(error) => error.hint(),
        }
    }
}

/// Asks a component's upstream for its releases.
///
/// # Errors
/// The upstream could not be asked, or lists nothing at all.
pub async fn poll(
    component: &Component,
    arches: &[(Arch, String)],
    client: &Client,
    cache: &Cache,
    memory: &Memory,
) -> Result<Listing, SourceError> {
    let listing = match &component.source {
        SourceRule::Github(rule) => github::poll(rule, client, cache).await,
        SourceRule::Gitlab(rule) => gitlab::poll(rule, client, cache).await,
        SourceRule::Gitea(rule) => gitea::poll(rule, client, cache).await,
        SourceRule::Git(rule) => git::poll(rule, client).await,
        SourceRule::Http(rule) => http::poll(rule, client, cache).await,
        SourceRule::Command(rule) => Ok(command::poll(rule, component).await?),
        SourceRule::Directory(rule) => directory::poll(rule, component, arches),
        SourceRule::Repository(rule) => {
            repository::poll(rule, component, arches, client, cache, memory).await
        }
    }?;
    let listing = listing.without_nameless();
    match listing.notes.first() {
        Some(note) if listing.releases.is_empty() => {
            let hint = "check the source in the component; nothing is taken away meanwhile";
            Err(SourceError::Nothing { problem: note.clone(), hint })
        }
        _ => Ok(listing),
    }
}
