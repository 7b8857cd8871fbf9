//! Releases or tags of a GitLab project, through its REST API (v4).
//!
//! Owns what GitLab's answers mean. Releases of the future are nobody's release and are left out
//! here. Whose address and token it is, [`super::forge`] knows.

use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::forge::{self, Api, Project};
use super::{Asset, Listing, Location, Private, Release, SourceError, TRY_TAGS, date};
use crate::config::source::{GitlabRule, HttpUrl};
use crate::fetch::Client;
use crate::fetch::cache::Cache;

/// Where a component names its project.
const FIELD: &str = "[source.gitlab] project";

/// The kinds of archive that GitLab makes of a project's source.
const FORMATS: [&str; 4] = ["tar.gz", "tar.bz2", "tar", "zip"];

/// `GET /projects/:id/releases`
#[derive(Deserialize)]
struct GitlabRelease {
    /// Left out for guests, who may see the release, but not the code.
    tag_name: Option<String>,
    released_at: Option<String>,
    created_at: Option<String>,
    #[serde(default)]
    upcoming_release: bool,
    #[serde(default)]
    assets: Assets,
    #[serde(default, rename = "_links")]
    links: SelfLink,
}

#[derive(Default, Deserialize)]
struct SelfLink {
    #[serde(rename = "self")]
    own: Option<String>,
}

#[derive(Default, Deserialize)]
struct Assets {
    #[serde(default)]
    links: Vec<Link>,
    #[serde(default)]
    sources: Vec<Archive>,
}

#[derive(Deserialize)]
struct Link {
    name: String,
    url: String,
    direct_asset_url: Option<String>,
}

#[derive(Deserialize)]
struct Archive {
    format: String,
    url: String,
}

/// `GET /projects/:id/repository/tags`
#[derive(Deserialize)]
struct GitlabTag {
    name: String,
    /// Of an annotated tag.
    created_at: Option<String>,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    committed_date: Option<String>,
    created_at: Option<String>,
}

/// Every release that is out, or every tag, page by page.
pub(super) async fn poll(
    rule: &GitlabRule,
    client: &Client,
    cache: &Cache,
) -> Result<Listing, SourceError> {
    let api = Arc::new(Api::gitlab(rule));
    let name = rule.project.as_str();
    let project = Project { name, field: FIELD, pages: rule.pages.map(usize::from) };
    let root = format!("projects/{}", name.replace('/', "%2F"));
    let (releases, complete, seen) = if rule.tags {
        let url = api.at(&format!("{root}/repository/tags?per_page=100"));
        let (tags, complete): (Vec<GitlabTag>, _) = api.list(&project, url, client, cache).await?;
        let releases: Vec<_> = tags
            .into_iter()
            .map(|tag| {
                let commit =
                    tag.commit.and_then(|commit| commit.committed_date.or(commit.created_at));
                let at = tag.created_at.or(commit);
                Release::bare(tag.name, at.as_deref().and_then(date::read))
            })
            .collect();
        (releases, complete, None)
    } else {
        let url = api.at(&format!("{root}/releases?per_page=100"));
        let (all, complete): (Vec<GitlabRelease>, _) =
            api.list(&project, url, client, cache).await?;
        let seen = all.first().and_then(|release| path_of(release.links.own.as_deref()?));
        let out = all.into_iter().filter(|release| !release.upcoming_release);
        let read = out.map(|release| read(&api, &root, name, release));
        (read.collect::<Result<_, _>>()?, complete, seen)
    };
    if releases.is_empty() {
        let what = if rule.tags { "tag" } else { "release" };
        let problem = format!("gitlab lists no {what} of {name}");
        return Err(SourceError::Nothing { problem, hint: TRY_TAGS });
    }
    let notes = seen.and_then(|now| forge::moved(FIELD, name, &now)).into_iter().collect();
    Ok(Listing { releases, complete, notes })
}

fn read(
    api: &Arc<Api>,
    root: &str,
    project: &str,
    release: GitlabRelease,
) -> Result<Release, SourceError> {
    let tag = release.tag_name.ok_or_else(|| SourceError::Answer {
        from: format!("gitlab about {project}"),
        problem: "a release has no tag".to_owned(),
        hint: "whoever may not read the code is not told tags: the token needs that right",
    })?;
    let mut assets = Vec::new();
    for link in release.assets.links {
        let Some(url) = http(&link.url) else { continue };
        let at = link.direct_asset_url.as_deref().and_then(http).unwrap_or_else(|| url.clone());
        // Packages of the project itself are behind the API, and are given to a token there.
        let own = api.has(&url).then(|| Private { url: url.to_string(), api: api.clone() });
        let file = [&at, &url].iter().find_map(|url| file_name(url));
        let asset = Asset {
            name: link.name,
            at: Location::Url(at.into()),
            sha256: None,
            size: None,
            private: own,
        };
        // A link has a title, which need not be what its file is called; both find it.
        if let Some(name) = file.filter(|name| *name != asset.name) {
            assets.push(Asset { name, ..asset.clone() });
        }
        assets.push(asset);
    }
    for archive in release.assets.sources {
        // The format becomes a part of an address that a token goes to.
        if !FORMATS.contains(&archive.format.as_str()) {
            continue;
        }
        let Some(url) = http(&archive.url) else { continue };
        let Some(name) = file_name(&url) else { continue };
        let mut private = api.at(&format!("{root}/repository/archive.{}", archive.format));
        private.query_pairs_mut().append_pair("sha", &tag);
        assets.push(Asset {
            name,
            at: Location::Url(url.into()),
            sha256: None,
            size: None,
            private: Some(Private { url: private.into(), api: api.clone() }),
        });
    }
    let at = release.released_at.or(release.created_at);
    Ok(Release {
        tag,
        published: at.as_deref().and_then(date::read),
        // GitLab knows no such mark.
        prerelease: false,
        assets: assets.into(),
    })
}

/// `group/project` in `https://gitlab.com/group/project/-/releases/v1.0`.
fn path_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let (project, _) = url.path().split_once("/-/")?;
    Some(project.trim_start_matches('/').to_owned())
}

fn http(url: &str) -> Option<Url> {
    HttpUrl::try_from(url.to_owned()).ok().map(|url| url.0)
}

fn file_name(url: &Url) -> Option<String> {
    let name = url.path_segments()?.next_back()?;
    (!name.is_empty()).then(|| name.to_owned())
}
