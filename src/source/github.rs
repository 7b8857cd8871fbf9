//! Releases or tags of a GitHub repository, through its REST API.
//!
//! Owns what GitHub's answers mean. Drafts are nobody's release and are left out here; pre-releases
//! are marked. Whose address and token it is, [`super::forge`] knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use octocrab::{FromResponse, Octocrab};
use url::Url;

use super::forge::{self, Api, MOST_PAGES};
use super::{Asset, Listing, Location, Private, Release, SourceError, TRY_TAGS};
use crate::config::source::GithubRule;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError};
use crate::name::Sha256;
use crate::report::count;

mod listed;
mod transport;

use listed::{ListedRelease, ListedTag};

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
    let api = Arc::new(Api::github(rule)?);
    let asker = Asker {
        github: transport::over(client, cache, &api, api.token()?.as_deref()),
        api: &api,
        repo: rule.repo.to_string(),
        most: rule.pages.map(usize::from),
    };
    let mut strange = Strange::default();
    let (releases, complete, seen) = if rule.tags {
        let mut seen = None;
        let (tags, complete) = asker
            .all("tags", |body| {
                let tags: Vec<ListedTag<'_>> = serde_json::from_slice(body)?;
                seen = seen.take().or_else(|| tags.first().and_then(ListedTag::repo));
                Ok(tags.into_iter().map(|tag| Release::bare(tag.name.into_owned(), None)).collect())
            })
            .await?;
        (tags, complete, seen)
    } else {
        let mut seen = None;
        let (releases, complete) = asker
            .all("releases", |body| {
                let mut all: Vec<ListedRelease<'_>> = serde_json::from_slice(body)?;
                seen = seen
                    .take()
                    .or_else(|| forge::repo_of(&Url::parse(&all.first()?.html_url).ok()?));
                all.retain(|release| !release.draft);
                strange.add(&all);
                Ok(all.into_iter().map(|release| read(rule, &api, release)).collect())
            })
            .await?;
        (releases, complete, seen)
    };
    if releases.is_empty() {
        let what = if rule.tags { "tag" } else { "release" };
        let problem = format!("github lists no {what} of {}", asker.repo);
        return Err(SourceError::Nothing { problem, hint: TRY_TAGS });
    }
    let moved = seen.and_then(|now| forge::moved(FIELD, &asker.repo, &now));
    let notes = moved.into_iter().chain(strange.note()).collect();
    Ok(Listing { releases, complete, notes })
}

/// Files whose digest is there, but in no form that can be compared: what GitHub says of them verifies
/// nothing, and nobody should believe that it does.
#[derive(Default)]
struct Strange {
    /// The name of the first one, and its digest.
    first: Option<(String, String)>,
    count: usize,
}

impl Strange {
    fn add(&mut self, releases: &[ListedRelease<'_>]) {
        for asset in releases.iter().flat_map(|release| &release.assets) {
            let Some(digest) = asset.digest.as_deref() else { continue };
            if sha256(digest).is_some() {
                continue;
            }
            self.count += 1;
            self.first
                .get_or_insert_with(|| (asset.name.to_string(), digest.chars().take(80).collect()));
        }
    }

    fn note(self) -> Option<String> {
        let (name, digest) = self.first?;
        let more = match self.count - 1 {
            0 => String::new(),
            more => format!(", and of {}", count(more, "more file")),
        };
        Some(format!(
            "github's digest of {}{more} cannot be read (`{}`): unverified, unless something else vouches for it",
            name.escape_debug(),
            digest.escape_debug()
        ))
    }
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
    /// Everything in a list of the repository's, from the first page on, and whether that is all.
    async fn all(
        &self,
        list: &str,
        mut read: impl FnMut(&[u8]) -> serde_json::Result<Vec<Release>>,
    ) -> Result<(Vec<Release>, bool), SourceError> {
        let unreadable = |problem| SourceError::GithubAnswer { repo: self.repo.clone(), problem };
        let mut asked = format!("/repos/{}/{list}?per_page={PER_PAGE}", self.repo);
        let (mut items, mut seen) = (Vec::new(), BTreeSet::new());
        for number in 1.. {
            let page: Answer = self
                .github
                .get(&asked, None::<&()>)
                .await
                .map_err(|error| classify(&self.repo, self.api, error))?;
            items.extend(read(&page.body).map_err(|error| unreadable(error.to_string()))?);
            let Some(next) = page.next else { break };
            if !seen.insert(next.clone()) {
                return Err(unreadable("its pages go in a circle".to_owned()));
            }
            if self.most.is_some_and(|most| number >= most) {
                return Ok((items, false));
            }
            if number == MOST_PAGES && self.most.is_none() {
                return Err(unreadable(format!("it has more than {MOST_PAGES} pages")));
            }
            asked = next;
        }
        Ok((items, true))
    }
}

/// A page as it came: octocrab's own models of it take longer to read than a run takes otherwise.
struct Answer {
    body: Bytes,
    /// The page after it.
    next: Option<String>,
}

impl FromResponse for Answer {
    async fn from_response<B>(response: http::Response<B>) -> octocrab::Result<Self>
    where
        B: Body<Data = Bytes, Error = octocrab::Error> + Send,
    {
        let (head, body) = response.into_parts();
        let next = head.extensions.get::<transport::Next>().map(|next| next.0.to_string());
        Ok(Self { body: body.collect().await?.to_bytes(), next })
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

fn read(rule: &GithubRule, api: &Arc<Api>, release: ListedRelease<'_>) -> Release {
    let root = format!("{}/repos/{}", api.base(), rule.repo);
    let assets =
        release.assets.into_iter().filter(|asset| asset.state == "uploaded").map(|asset| Asset {
            at: Location::Url(asset.browser_download_url.into_owned()),
            // Made here, because a token goes there: an answer must not choose where.
            private: Some(Private {
                url: format!("{root}/releases/assets/{}", asset.id),
                api: api.clone(),
            }),
            sha256: asset.digest.as_deref().and_then(sha256),
            size: u64::try_from(asset.size).ok(),
            name: asset.name.into_owned(),
        });
    Release {
        assets: assets.collect(),
        tag: release.tag_name.into_owned(),
        prerelease: release.prerelease,
        published: release.published_at.or(release.created_at),
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
