//! Releases or tags of a GitHub repository, through its REST API.
//!
//! Owns what GitHub's answers mean. Drafts are nobody's release and are left out here; pre-releases
//! are marked. Whose address and token it is, [`super::forge`] knows.

use std::collections::BTreeSet;

use http::HeaderMap;
use jiff::Timestamp;
use octocrab::models::repos::{Release as GithubRelease, Tag};
use octocrab::service::middleware::retry::RetryConfig;
use octocrab::{Octocrab, Page};
use serde::de::DeserializeOwned;
use url::Url;

use super::forge::{self, Api, MOST_PAGES};
use super::{Asset, Listing, Location, Private, Release, SourceError, TRY_TAGS};
use crate::config::source::GithubRule;
use crate::fetch::cache::Cache;
use crate::fetch::{self, Client, FetchError};
use crate::name::Sha256;

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
        github: connect(rule, &api, client, cache)?,
        client,
        api: &api,
        repo: rule.repo.to_string(),
        most: rule.pages.map(usize::from),
    };
    let repos = asker.github.repos(&rule.repo.owner, &rule.repo.name);
    let (releases, complete, seen) = if rule.tags {
        let (tags, complete): (Vec<Tag>, _) =
            asker.all(async || repos.list_tags().per_page(PER_PAGE).send().await).await?;
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
            asker.all(async || repos.releases().list().per_page(PER_PAGE).send().await).await?;
        let seen = all.first().and_then(|release| forge::repo_of(&release.html_url));
        let published = all.into_iter().filter(|release| !release.draft);
        (published.map(|release| read(rule, &api, release)).collect(), complete, seen)
    };
    if releases.is_empty() {
        let what = if rule.tags { "tag" } else { "release" };
        let problem = format!("github lists no {what} of {}", asker.repo);
        return Err(SourceError::Nothing { problem, hint: TRY_TAGS });
    }
    let notes = seen.and_then(|now| forge::moved(FIELD, &asker.repo, &now)).into_iter().collect();
    Ok(Listing { releases, complete, notes })
}

/// Who asks about one repository.
struct Asker<'a> {
    github: Octocrab,
    client: &'a Client,
    api: &'a Api,
    repo: String,
    /// How many pages are read at most.
    most: Option<usize>,
}

impl Asker<'_> {
    /// Every item, from the first page on, and whether that is all.
    async fn all<T: DeserializeOwned>(
        &self,
        first: impl AsyncFn() -> octocrab::Result<Page<T>>,
    ) -> Result<(Vec<T>, bool), SourceError> {
        let mut page = self.asking(first).await?;
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
            match self.asking(async || self.github.get_page(&next).await).await? {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok((items, true))
    }

    async fn asking<T>(
        &self,
        attempt: impl AsyncFn() -> octocrab::Result<T>,
    ) -> Result<T, SourceError> {
        let waited = self.client.deadline();
        let url = format!("github ({})", self.repo);
        let classified = async || match tokio::time::timeout(waited, attempt()).await {
            Ok(answer) => answer.map_err(|error| classify(&self.repo, self.api, error)),
            Err(_) => Err(FetchError::Overlong { url: url.clone(), waited }.into()),
        };
        fetch::retry(classified, |error| match error {
            SourceError::Github { source, .. } | SourceError::Fetch(source) => Some(source),
            _ => None,
        })
        .await
    }
}

fn connect(
    rule: &GithubRule,
    api: &Api,
    client: &Client,
    cache: &Cache,
) -> Result<Octocrab, SourceError> {
    let wrong = |error: octocrab::Error| SourceError::GithubAnswer {
        repo: rule.repo.to_string(),
        problem: describe(&error),
    };
    let mut builder =
        Octocrab::builder().cache(cache.clone()).base_uri(api.base()).map_err(wrong)?;
    if let Some(token) = api.token()? {
        builder = builder.personal_token(token);
    }
    builder
        .add_retry_config(RetryConfig::None)
        .build_with_reqwest(client.http()?.clone())
        .map_err(wrong)
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
    let url = format!("github (releases of {repo})");
    match error {
        octocrab::Error::GitHub { source, .. } => {
            let headers = source.headers.unwrap_or_else(HeaderMap::new);
            // A proxy in front of GitHub answers with a page of HTML.
            let message = source.message.lines().next().unwrap_or_default();
            let refusal = fetch::refusal(url, source.status_code, &headers);
            SourceError::Github {
                repo: repo.to_owned(),
                message: message.chars().take(200).collect::<String>().escape_debug().to_string(),
                hint: api.hint(&refusal, FIELD),
                source: refusal,
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
