//! Releases of a GitHub repository, through its REST API.
//!
//! The API's address comes from `GITHUB_API_URL`, a token from `GITHUB_TOKEN` or `GH_TOKEN`.
//! Drafts are nobody's release and are left out here; pre-releases are marked.

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use octocrab::models::repos::Release as GithubRelease;
use octocrab::{Octocrab, Page};

use super::{Asset, Location, Release, SourceError};
use crate::config::source::{GithubRepo, GithubRule};
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError};
use crate::name::Sha256;

mod api;

/// Releases asked for at once: the API's maximum.
const PER_PAGE: u8 = 100;

/// More pages than any project has; a listing that goes on longer goes in a circle.
const MOST_PAGES: usize = 100;

/// Every published release, page by page.
pub(super) async fn poll(
    rule: &GithubRule,
    client: &Client,
    cache: &Cache,
) -> Result<Vec<Release>, SourceError> {
    let repo = format!("{}/{}", rule.repo.owner, rule.repo.name);
    let github = connect(&repo, client, cache)?;
    let repos = github.repos(&rule.repo.owner, &rule.repo.name);
    let listed = repos.releases().list().per_page(PER_PAGE).send().await;
    let mut page: Page<GithubRelease> = listed.map_err(|error| classify(&repo, error))?;
    let mut releases = Vec::new();
    for number in 1.. {
        releases.extend(
            page.take_items()
                .into_iter()
                .filter(|release| !release.draft)
                .map(|release| read(rule, release)),
        );
        let next = page.next.clone();
        if number == MOST_PAGES && next.is_some() {
            let problem = format!("its releases have more than {MOST_PAGES} pages");
            return Err(SourceError::GithubAnswer { repo, problem });
        }
        match github.get_page(&next).await.map_err(|error| classify(&repo, error))? {
            Some(next) => page = next,
            None => break,
        }
    }
    if releases.is_empty() {
        return Err(SourceError::Nothing(format!("github lists no release of {repo}")));
    }
    Ok(releases)
}

/// Asks what is left of the quota, if no other answer told.
pub(crate) async fn ask_quota(client: &Client) {
    let Ok(url) = format!("{}/rate_limit", api::address()).parse::<url::Url>() else { return };
    if client.quota(&url).is_some() {
        return;
    }
    let token = token().and_then(|token| bearer(&token));
    let headers = token.into_iter().map(|token| (header::AUTHORIZATION, token)).collect();
    // Who cannot be asked has told why, or does not count requests.
    if let Err(error) = client.document(&url, headers, &Cache::default()).await {
        tracing::debug!(%error, "no quota");
    }
}

fn connect(repo: &str, client: &Client, cache: &Cache) -> Result<Octocrab, SourceError> {
    let token = match token() {
        Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            let problem =
                "GITHUB_TOKEN (or GH_TOKEN) holds characters that no token has".to_owned();
            return Err(SourceError::GithubAnswer { repo: repo.to_owned(), problem });
        }
        token => token.and_then(|token| bearer(&token)),
    };
    Ok(api::over(client, cache, token))
}

/// A token, as a header that nobody prints.
fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The token, without the newline that a pasted secret comes with.
fn token() -> Option<String> {
    let token = variable("GITHUB_TOKEN").or_else(|| variable("GH_TOKEN"))?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The headers that the API gives a file for instead of its description, to who has a token.
///
/// They are for the API alone: the HTTP client drops the token at a redirect to another host.
pub fn download_headers() -> Option<HeaderMap> {
    Some(HeaderMap::from_iter([
        (header::AUTHORIZATION, bearer(&token()?)?),
        (header::ACCEPT, HeaderValue::from_static("application/octet-stream")),
    ]))
}

/// An environment variable; CI systems set those they have nothing for to the empty string.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn read(rule: &GithubRule, release: GithubRelease) -> Release {
    let GithubRepo { owner, name } = &rule.repo;
    let api = api::address();
    let assets =
        release.assets.into_iter().filter(|asset| asset.state == "uploaded").map(|asset| Asset {
            at: Location::Url(asset.browser_download_url.into()),
            // Made here, because a token goes there: an answer must not choose where.
            private: Some(format!("{api}/repos/{owner}/{name}/releases/assets/{}", asset.id)),
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

fn classify(repo: &str, error: octocrab::Error) -> SourceError {
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
        Some(message) => SourceError::Github { repo: repo.to_owned(), message, source },
        None => SourceError::Fetch(source),
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
