//! Releases of a GitHub repository, through its REST API.
//!
//! The API's address comes from `GITHUB_API_URL`, a token from `GITHUB_TOKEN` or `GH_TOKEN`.
//! Drafts are nobody's release and are left out here; pre-releases are marked.

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use octocrab::models::repos::Release as GithubRelease;
use octocrab::service::middleware::retry::RetryConfig;
use octocrab::{Octocrab, Page};

use super::{Asset, Location, Release, SourceError};
use crate::config::source::{GithubRepo, GithubRule};
use crate::fetch::cache::Cache;
use crate::fetch::{self, Client, FetchError};
use crate::name::Sha256;

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
    let mut page: Page<GithubRelease> =
        asking(&repo, client, async || repos.releases().list().per_page(PER_PAGE).send().await)
            .await?;
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
        match asking(&repo, client, async || github.get_page(&next).await).await? {
            Some(next) => page = next,
            None => break,
        }
    }
    if releases.is_empty() {
        return Err(SourceError::Nothing(format!("github lists no release of {repo}")));
    }
    Ok(releases)
}

fn connect(repo: &str, client: &Client, cache: &Cache) -> Result<Octocrab, SourceError> {
    let wrong = |error: octocrab::Error| SourceError::GithubAnswer {
        repo: repo.to_owned(),
        problem: describe(&error),
    };
    let mut builder = Octocrab::builder().cache(cache.clone());
    if let Some(url) = variable("GITHUB_API_URL") {
        builder = builder.base_uri(url).map_err(wrong)?;
    }
    if let Some(token) = token() {
        // octocrab panics at what no header can hold.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem =
                "GITHUB_TOKEN (or GH_TOKEN) holds characters that no token has".to_owned();
            return Err(SourceError::GithubAnswer { repo: repo.to_owned(), problem });
        }
        builder = builder.personal_token(token);
    }
    builder
        .add_retry_config(RetryConfig::None)
        .build_with_reqwest(client.http()?.clone())
        .map_err(wrong)
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
    let mut token = HeaderValue::from_str(&format!("Bearer {}", token()?)).ok()?;
    token.set_sensitive(true);
    Some(HeaderMap::from_iter([
        (header::AUTHORIZATION, token),
        (header::ACCEPT, HeaderValue::from_static("application/octet-stream")),
    ]))
}

/// The API's address, and what to ask it with.
pub fn api() -> (String, HeaderMap) {
    let mut headers = download_headers().unwrap_or_default();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    let api = variable("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned());
    (api.trim_end_matches('/').to_owned(), headers)
}

/// An environment variable; CI systems set those they have nothing for to the empty string.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn read(rule: &GithubRule, release: GithubRelease) -> Release {
    let GithubRepo { owner, name } = &rule.repo;
    let (api, _) = api();
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

async fn asking<T>(
    repo: &str,
    client: &Client,
    attempt: impl AsyncFn() -> octocrab::Result<T>,
) -> Result<T, SourceError> {
    let waited = client.deadline();
    let classified = async || match tokio::time::timeout(waited, attempt()).await {
        Ok(answer) => answer.map_err(|error| classify(repo, error)),
        Err(_) => Err(FetchError::Overlong { url: format!("github ({repo})"), waited }.into()),
    };
    fetch::retry(classified, |error| match error {
        SourceError::Github { source, .. } | SourceError::Fetch(source) => Some(source),
        _ => None,
    })
    .await
}

fn classify(repo: &str, error: octocrab::Error) -> SourceError {
    let url = format!("github (releases of {repo})");
    match error {
        octocrab::Error::GitHub { source, .. } => {
            let headers = source.headers.unwrap_or_else(HeaderMap::new);
            // A proxy in front of GitHub answers with a page of HTML.
            let message = source.message.lines().next().unwrap_or_default();
            SourceError::Github {
                repo: repo.to_owned(),
                message: message.chars().take(200).collect::<String>().escape_debug().to_string(),
                source: fetch::refusal(url, source.status_code, &headers),
            }
        }
        octocrab::Error::Json { .. }
        | octocrab::Error::Serde { .. }
        | octocrab::Error::InvalidUtf8 { .. } => {
            SourceError::GithubAnswer { repo: repo.to_owned(), problem: describe(&error) }
        }
        // Whatever is left never got an answer.
        error => {
            SourceError::Fetch(FetchError::Unreachable { url, source: describe(&error).into() })
        }
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
