//! Releases or tags of a repository on Gitea or Forgejo, through its REST API (v1).
//!
//! Owns what their answers mean. Drafts are nobody's release and are left out here; pre-releases are
//! marked. Whose address and token it is, [`super::forge`] knows.

use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::forge::{self, Api, Project};
use super::{Asset, Listing, Location, Private, Release, SourceError, TRY_TAGS, date};
use crate::config::source::{GiteaRule, HttpUrl};
use crate::fetch::Client;
use crate::fetch::cache::Cache;

/// Where a component names its repository.
const FIELD: &str = "[source.gitea] repo";

/// `GET /repos/:owner/:repo/releases`
#[derive(Deserialize)]
struct GiteaRelease {
    tag_name: String,
    html_url: Option<String>,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    prerelease: bool,
    published_at: Option<String>,
    created_at: Option<String>,
    #[serde(default)]
    assets: Vec<Attachment>,
}

#[derive(Deserialize)]
struct Attachment {
    name: String,
    size: Option<u64>,
    browser_download_url: String,
    /// Forgejo: `external` is a link to somewhere else, without a size.
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// `GET /repos/:owner/:repo/tags`
#[derive(Deserialize)]
struct GiteaTag {
    name: String,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    created: Option<String>,
}

/// Every published release, or every tag, page by page.
pub(super) async fn poll(
    rule: &GiteaRule,
    client: &Client,
    cache: &Cache,
) -> Result<Listing, SourceError> {
    let api = Arc::new(Api::gitea(rule));
    let name = rule.repo.to_string();
    let project = Project { name: &name, field: FIELD, pages: rule.pages.map(usize::from) };
    // 50 is what a server gives at most, unless its owner changed that.
    let what = if rule.tags { "tags" } else { "releases" };
    let url = api.at(&format!("repos/{name}/{what}?limit=50&page=1"));
    let (releases, complete, seen) = if rule.tags {
        let (tags, complete): (Vec<GiteaTag>, _) = api.list(&project, url, client, cache).await?;
        let tags = tags.into_iter().map(|tag| {
            let at = tag.commit.and_then(|commit| commit.created);
            Release::bare(tag.name, at.as_deref().and_then(date::read))
        });
        (tags.collect::<Vec<_>>(), complete, None)
    } else {
        let (all, complete): (Vec<GiteaRelease>, _) =
            api.list(&project, url, client, cache).await?;
        let seen = all
            .first()
            .and_then(|release| forge::repo_of(&Url::parse(release.html_url.as_deref()?).ok()?));
        let out = all.into_iter().filter(|release| !release.draft);
        (out.map(|release| read(&api, release)).collect(), complete, seen)
    };
    if releases.is_empty() {
        let what = what.trim_end_matches('s');
        let problem = format!("{} lists no {what} of {name}", host(&rule.url));
        return Err(SourceError::Nothing { problem, hint: TRY_TAGS });
    }
    let notes = seen.and_then(|now| forge::moved(FIELD, &name, &now)).into_iter().collect();
    Ok(Listing { releases, complete, notes })
}

fn read(api: &Arc<Api>, release: GiteaRelease) -> Release {
    let assets = release.assets.into_iter().filter_map(|asset| {
        let url = HttpUrl::try_from(asset.browser_download_url).ok()?.0;
        let linked = asset.kind.as_deref() == Some("external");
        // The site itself gives its files to a token; a link's target gets none.
        let own =
            (!linked && api.has(&url)).then(|| Private { url: url.to_string(), api: api.clone() });
        Some(Asset {
            name: asset.name,
            at: Location::Url(url.into()),
            sha256: None,
            size: asset.size.filter(|_| !linked),
            private: own,
        })
    });
    let at = release.published_at.as_deref().or(release.created_at.as_deref());
    Release {
        assets: assets.collect(),
        published: at.and_then(date::read),
        prerelease: release.prerelease,
        tag: release.tag_name,
    }
}

fn host(url: &HttpUrl) -> &str {
    url.0.host_str().unwrap_or_default()
}
