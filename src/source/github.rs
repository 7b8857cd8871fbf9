//! Releases or tags of a GitHub repository, through its REST API.
//!
//! Owns what GitHub's answers mean. Drafts are nobody's release and are left out here; pre-releases
//! are marked. Whose address and token it is, [`super::forge`] knows.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use octocrab::models::repos::{Release as GithubRelease, Tag};
use octocrab::{Octocrab, Page};
use serde::de::DeserializeOwned;
use url::Url;

use super::forge::{self, Api, MOST_PAGES};
use super::{Asset, Listing, Location, Private, Release, SourceError, TRY_TAGS};
use crate::config::source::GithubRule;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError};
use crate::name::Sha256;
use crate::report::count;

mod transport;

/// Releases asked for at once: the API's maximum.
const PER_PAGE: u8 = 100;

/// Where a component names its repository.
const FIELD: &str = "[source.github] repo";

/// Every published release, or every tag, page by page.
pub(super) async fn poll(
    rule: &GithubRule,
    client: &Client,
    cache: &Cache,
) -> Result<Listing, SourceError> {
    let api = Api::github(rule)?;
    let asker = Asker {
        github: transport::over(client, cache, &api, api.token()?.as_deref()),
        api: &api,
        repo: rule.repo.to_string(),
        most: rule.pages.map(usize::from),
    };
    let repos = asker.github.repos(&rule.repo.owner, &rule.repo.name);
    let mut strange = None;
    let (releases, complete, seen) = if rule.tags {
        let (tags, complete): (Vec<Tag>, _) =
            asker.all(repos.list_tags().per_page(PER_PAGE).send()).await?;
        // `…/repos/OWNER/REPOSITORY/commits/…`
        let seen = tags.first().and_then(|tag| {
            let url = Url::parse(tag.commit.url.as_ref()).ok()?;
            let steps: Vec<&str> = url.path_segments()?.collect();
            let repos = steps.iter().position(|step| *step == "repos")?;
            Some(steps.get(repos + 1..repos + 3)?.join("/"))
        });
        let releases: Vec<_> = tags.into_iter().map(|tag| Release::bare(tag.name, None)).collect();
        (releases, complete, seen)
    } else {
        let (all, complete): (Vec<GithubRelease>, _) =
            asker.all(repos.releases().list().per_page(PER_PAGE).send()).await?;
        strange = unread(&all);
        let seen = all.first().and_then(|release| forge::repo_of(&release.html_url));
        let published = all.into_iter().filter(|release| !release.draft);
        (published.map(|release| read(rule, &api, release)).collect(), complete, seen)
    };
    if releases.is_empty() {
        let what = if rule.tags { "tag" } else { "release" };
        let problem = format!("github lists no {what} of {}", asker.repo);
        return Err(SourceError::Nothing { problem, hint: TRY_TAGS });
    }
    let moved = seen.and_then(|now| forge::moved(FIELD, &asker.repo, &now));
    let notes = moved.into_iter().chain(strange).collect();
    Ok(Listing { releases, complete, notes })
}

/// A note about files whose digest is there, but in no form that can be compared: what GitHub says of
/// them verifies nothing, and nobody should believe that it does.
fn unread(releases: &[GithubRelease]) -> Option<String> {
    let assets =
        releases.iter().filter(|release| !release.draft).flat_map(|release| &release.assets);
    let mut strange = assets.filter_map(|asset| {
        let digest = asset.digest.as_deref().filter(|digest| sha256(digest).is_none())?;
        Some((&asset.name, digest))
    });
    let (name, digest) = strange.next()?;
    let more = match strange.count() {
        0 => String::new(),
        more => format!(", and of {}", count(more, "more file")),
    };
    let digest: String = digest.chars().take(80).collect();
    Some(format!(
        "github's digest of {}{more} cannot be read (`{}`): unverified, unless something else vouches for it",
        name.escape_debug(),
        digest.escape_debug()
    ))
}

/// Asks what is left of the quota of the API that a rule asks, if no other answer told.
pub(crate) async fn ask_quota(rule: &GithubRule, client: &Client) {
    let Ok(api) = Api::github(rule) else { return };
    let url = api.at("rate_limit");
    let Ok(headers) = api.headers(client, &url) else { return };
    if client.quota(&url).is_some() {
        return;
    }
    // Who cannot be asked has told why, or does not count requests.
    if let Err(error) = client.document(&url, headers, client.answers()).await {
        tracing::debug!(%error, "no quota");
    }
}

/// Who asks about one repository.
struct Asker<'a> {
    github: Octocrab,
    api: &'a Api,
    repo: String,
    /// How many pages are read at most.
    most: Option<usize>,
}

impl Asker<'_> {
    /// Every item, from the first page on, and whether that is all.
    async fn all<T: DeserializeOwned>(
        &self,
        first: impl Future<Output = octocrab::Result<Page<T>>>,
    ) -> Result<(Vec<T>, bool), SourceError> {
        let failed = |error| classify(&self.repo, self.api, error);
        let mut page = first.await.map_err(failed)?;
        let (mut items, mut seen) = (Vec::new(), BTreeSet::new());
        for number in 1.. {
            items.extend(page.take_items());
            let next = page.next.clone();
            if next.as_ref().is_some_and(|next| !seen.insert(next.to_string())) {
                let problem = "its pages go in a circle".to_owned();
                return Err(SourceError::GithubAnswer { repo: self.repo.clone(), problem });
            }
            if next.is_some() && self.most.is_some_and(|most| number >= most) {
                return Ok((items, false));
            }
            if number == MOST_PAGES && self.most.is_none() && next.is_some() {
                let problem = format!("it has more than {MOST_PAGES} pages");
                return Err(SourceError::GithubAnswer { repo: self.repo.clone(), problem });
            }
            match self.github.get_page(&next).await.map_err(failed)? {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok((items, true))
    }
}

/// The address of something in the API, and what to ask for it with.
///
/// # Errors
/// The environment names no address, or no token.
pub(crate) fn address(client: &Client, path: &str) -> Result<(String, HeaderMap), SourceError> {
    let api = Api::github_of_environment("attestations")?;
    let url = api.at(path);
    let mut headers = api.headers(client, &url)?;
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    Ok((url.into(), headers))
}

fn read(rule: &GithubRule, api: &Api, release: GithubRelease) -> Release {
    let root = format!("{}/repos/{}", api.base(), rule.repo);
    let assets =
        release.assets.into_iter().filter(|asset| asset.state == "uploaded").map(|asset| Asset {
            at: Location::Url(asset.browser_download_url.into()),
            // Made here, because a token goes there: an answer must not choose where.
            private: Some(Private {
                url: format!("{root}/releases/assets/{}", asset.id),
                api: api.clone(),
            }),
            sha256: asset.digest.as_deref().and_then(sha256),
            size: u64::try_from(asset.size).ok(),
            name: asset.name,
        });
    Release {
        assets: assets.collect(),
        tag: release.tag_name,
        prerelease: release.prerelease,
        published: release
            .published_at
            .or(release.created_at)
            .and_then(|at| Timestamp::from_second(at.timestamp()).ok()),
    }
}

fn classify(repo: &str, api: &Api, error: octocrab::Error) -> SourceError {
    let unreadable = |problem| SourceError::GithubAnswer { repo: repo.to_owned(), problem };
    let octocrab::Error::Service { source, .. } = error else {
        return unreadable(describe(&error));
    };
    let source = match source.downcast::<FetchError>() {
        Ok(source) => *source,
        Err(other) => return unreadable(other.to_string()),
    };
    let said = match &source {
        FetchError::Status { said, .. } | FetchError::RateLimited { said, .. } => said.clone(),
        _ => None,
    };
    match said {
        Some(message) => {
            let (repo, hint) = (repo.to_owned(), api.hint(&source, FIELD));
            SourceError::Github { repo, message, hint, source }
        }
        // A proxy in front of GitHub, or another server, answers with a page of HTML.
        None => match api.hint(&source, FIELD) {
            hint @ Some(_) => {
                let (forge, project) = ("github", repo.to_owned());
                SourceError::Forge { forge, project, source, hint }
            }
            None => SourceError::Fetch(source),
        },
    }
}

/// The API says `sha256:…`.
fn sha256(digest: &str) -> Option<Sha256> {
    digest.strip_prefix("sha256:")?.parse().ok()
}

/// The innermost cause: octocrab's own texts repeat it, with backtraces.
fn describe(error: &octocrab::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}
