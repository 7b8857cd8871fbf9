//! What is read of GitHub's listings.
//!
//! Owns their form. A listing is megabytes of notes, authors and uploaders; texts are borrowed from it, and
//! what is not named here is passed over. Knows nothing of what is made of it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

/// A release, as `GET /repos/{owner}/{repo}/releases` has it.
#[derive(Serialize, Deserialize)]
pub(super) struct ListedRelease<'a> {
    #[serde(borrow)]
    pub(super) tag_name: Cow<'a, str>,
    pub(super) draft: bool,
    pub(super) prerelease: bool,
    pub(super) created_at: Option<Timestamp>,
    pub(super) published_at: Option<Timestamp>,
    #[serde(borrow)]
    pub(super) assets: Vec<ListedAsset<'a>>,
    #[serde(borrow)]
    pub(super) html_url: Cow<'a, str>,
}

/// A file of a release.
#[derive(Serialize, Deserialize)]
pub(super) struct ListedAsset<'a> {
    #[serde(borrow)]
    pub(super) browser_download_url: Cow<'a, str>,
    pub(super) id: u64,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) state: Cow<'a, str>,
    pub(super) size: i64,
    #[serde(borrow, default)]
    pub(super) digest: Option<Cow<'a, str>>,
}

/// A tag, as `GET /repos/{owner}/{repo}/tags` has it.
#[derive(Deserialize)]
pub(super) struct ListedTag<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    commit: Commit<'a>,
}

#[derive(Deserialize)]
struct Commit<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

impl ListedTag<'_> {
    /// The repository that it is in, as the API calls it today: `OWNER/REPOSITORY`.
    pub(super) fn repo(&self) -> Option<String> {
        // `…/repos/OWNER/REPOSITORY/commits/…`
        let url = Url::parse(&self.commit.url).ok()?;
        let steps: Vec<&str> = url.path_segments()?.collect();
        let repos = steps.iter().position(|step| *step == "repos")?;
        Some(steps.get(repos + 1..repos + 3)?.join("/"))
    }
}
