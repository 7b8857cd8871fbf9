//! The requests of GitHub's API for releases and their assets.
//!
//! Owns addresses, statuses and what answers look like. The token goes to the API, and to the host for
//! uploads that belongs to it; where a download is redirected to, it does not follow. Knows nothing of
//! what assets are for.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use object_store::client::HttpResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::error::ReleaseError;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError};
use crate::name::Sha256;
use crate::source::github;
use crate::store::stream::{self, Body};

/// More pages than there are releases, or assets of one.
const MOST_PAGES: usize = 1000;

/// How many releases come at once: each with all of its assets, of which a thousand are over a megabyte.
const RELEASES: u8 = 30;

/// How many assets come at once: the API's maximum.
const ASSETS: u8 = 100;

/// How many files may be sent in a row, and how often one goes after that: GitHub asks for no more than
/// 80 requests a minute that make something.
const IN_A_ROW: u32 = 40;
const EVERY: Duration = Duration::from_millis(1500);

/// A release, as far as we need it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Release {
    pub id: u64,
    pub tag_name: String,
    pub draft: bool,
    /// Older servers know no such thing.
    #[serde(default)]
    pub immutable: bool,
    /// `https://uploads.github.com/repos/…/assets{?name,label}`
    pub upload_url: String,
}

/// A file of a release.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Asset {
    pub id: u64,
    pub name: String,
    pub size: u64,
    /// `uploaded`; `starter` is what is on its way, or what an upload that broke off left.
    pub state: String,
    pub updated_at: String,
    /// What people see instead of the name.
    #[serde(default)]
    pub label: Option<String>,
    /// `sha256:…`
    digest: Option<String>,
}

impl Asset {
    pub fn is_whole(&self) -> bool {
        self.state == "uploaded"
    }

    pub fn sha256(&self) -> Option<Sha256> {
        self.digest.as_deref()?.strip_prefix("sha256:")?.parse().ok()
    }
}

/// What something is sent as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'n> {
    pub name: &'n str,
    /// Its media type.
    pub kind: &'static str,
    /// See [`Asset::label`].
    pub label: Option<&'n str>,
}

/// What an upload came to.
pub(super) enum Sent {
    /// It is there.
    Done(Asset),
    /// Something of this name is there, perhaps half of something.
    Taken,
}

/// The API of one project.
#[derive(Debug)]
pub(super) struct Api {
    pub client: Client,
    /// `OWNER/REPO`
    pub repo: String,
    pace: Pace,
}

impl Api {
    pub fn new(client: Client, repo: &str) -> Self {
        Self { client, repo: repo.to_owned(), pace: Pace::default() }
    }

    /// The address of something of the project, and what to ask for it with.
    fn at(&self, path: &str) -> Result<(Url, HeaderMap), ReleaseError> {
        let path = format!("repos/{}/{path}", self.repo);
        let (url, mut headers) = github::address(&self.client, &path)
            .map_err(|error| ReleaseError::Api(Box::new(error)))?;
        let url = Url::parse(&url).map_err(|error| ReleaseError::Answer(error.to_string()))?;
        headers.insert(
            HeaderName::from_static("x-github-api-version"),
            HeaderValue::from_static("2022-11-28"),
        );
        Ok((url, headers))
    }

    /// Whether there is a token.
    pub fn has_token(&self) -> Result<bool, ReleaseError> {
        Ok(self.at("releases")?.1.contains_key(header::AUTHORIZATION))
    }

    fn to_write(&self, path: &str) -> Result<(Url, HeaderMap), ReleaseError> {
        let (url, headers) = self.at(path)?;
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(ReleaseError::NoToken(self.repo.clone()));
        }
        Ok((url, headers))
    }

    /// Every item of a listing.
    async fn all<T: DeserializeOwned>(
        &self,
        path: &str,
        at_once: u8,
        doing: &str,
    ) -> Result<Vec<T>, ReleaseError> {
        let (mut url, headers) = self.at(path)?;
        url.set_query(Some(&format!("per_page={at_once}")));
        let mut items = Vec::new();
        for _ in 0..MOST_PAGES {
            // What is there changes while we work: nothing of it is kept for later.
            let page = self.client.document(&url, headers.clone(), &Cache::default()).await;
            let page = page.map_err(|source| asking(doing, source))?;
            items.extend(read::<Vec<T>>(&page.body)?);
            let Some(next) = page.next else { return Ok(items) };
            // An answer must not choose where the token goes.
            if url.query() == next.query() {
                break;
            }
            url.set_query(next.query());
        }
        Err(ReleaseError::Answer(format!("{path} has no last page")))
    }

    /// Every release; drafts only for who may write.
    pub async fn releases(&self) -> Result<Vec<Release>, ReleaseError> {
        self.all("releases", RELEASES, &format!("cannot list the releases of {}", self.repo)).await
    }

    /// Every asset of a release.
    pub async fn assets(&self, release: &Release) -> Result<Vec<Asset>, ReleaseError> {
        let doing = format!("cannot list the files of the release {}", release.tag_name);
        self.all(&format!("releases/{}/assets", release.id), ASSETS, &doing).await
    }

    /// Makes a release; `None` if there is one of this tag.
    pub async fn make(&self, tag: &str, draft: bool) -> Result<Option<Release>, ReleaseError> {
        let (url, headers) = self.to_write("releases")?;
        let about = if draft {
            "What `publish` keeps for itself. Do not publish or delete this draft: the repository is in it."
        } else {
            "Files for systemd-sysupdate, replaced as new versions come."
        };
        let body = serde_json::json!({
            "tag_name": tag, "name": tag, "body": about, "draft": draft,
            // What people download by hand is something else.
            "make_latest": "false",
        });
        self.pace.wait().await;
        let answers = [StatusCode::CREATED, StatusCode::UNPROCESSABLE_ENTITY];
        let (status, body) = self
            .client
            .change(Method::POST, &url, headers, Some(body.to_string().into()), &answers)
            .await
            .map_err(|source| asking(&format!("cannot make the release {tag}"), source))?;
        if status == StatusCode::CREATED {
            return read(&body).map(Some);
        }
        if is_taken(&body) {
            return Ok(None);
        }
        Err(refused(&format!("cannot make the release {tag}"), &url, status, &body))
    }

    /// Takes a release away that has nothing in it.
    pub async fn unmake(&self, release: &Release) -> Result<(), ReleaseError> {
        self.delete_at(&format!("releases/{}", release.id), &release.tag_name).await
    }

    /// Takes an asset away; one that is not there is no error.
    pub async fn delete(&self, asset: &Asset) -> Result<(), ReleaseError> {
        self.delete_at(&format!("releases/assets/{}", asset.id), &asset.name).await
    }

    async fn delete_at(&self, path: &str, name: &str) -> Result<(), ReleaseError> {
        let (url, headers) = self.to_write(path)?;
        let answers = [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND];
        let deleted = self.client.change(Method::DELETE, &url, headers, None, &answers).await;
        deleted.map(drop).map_err(|source| asking(&format!("cannot delete {name}"), source))
    }

    /// Gives an asset another name; `None` if it is gone, or another has the name.
    pub async fn rename(&self, asset: &Asset, name: &str) -> Result<Option<Asset>, ReleaseError> {
        let (url, headers) = self.to_write(&format!("releases/assets/{}", asset.id))?;
        let body = serde_json::json!({ "name": name }).to_string();
        let answers = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY];
        let doing = format!("cannot give {} its name", asset.name);
        let (status, body) = self
            .client
            .change(Method::PATCH, &url, headers, Some(body.into()), &answers)
            .await
            .map_err(|source| asking(&doing, source))?;
        match status {
            StatusCode::OK => read(&body).map(Some),
            StatusCode::UNPROCESSABLE_ENTITY if !is_taken(&body) => {
                Err(refused(&doing, &url, status, &body))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of an asset.
    pub async fn download(
        &self,
        asset: &Asset,
    ) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, ReleaseError> {
        let (url, mut headers) = self.at(&format!("releases/assets/{}", asset.id))?;
        // Else it describes the file.
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/octet-stream"));
        let opened = self.client.open(&url, headers).await;
        opened.map_err(|source| asking(&format!("cannot download {}", asset.name), source))
    }

    fn to_upload(
        &self,
        release: &Release,
        Named { name, kind, label }: Named<'_>,
    ) -> Result<(Url, HeaderMap), ReleaseError> {
        let (api, mut headers) = self.to_write("releases")?;
        let url = release.upload_url.split('{').next().unwrap_or_default();
        let url = Url::parse(url).ok().filter(|url| is_of(url, &api));
        let Some(mut url) = url else {
            let text = release.upload_url.escape_debug();
            return Err(ReleaseError::Answer(format!("{text} is no place of it for uploads")));
        };
        url.query_pairs_mut().clear().append_pair("name", name);
        if let Some(label) = label {
            url.query_pairs_mut().append_pair("label", label);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let headers = self.client.for_its_own_server(url.as_str(), headers);
        Ok((url, headers))
    }

    /// Sends bytes.
    pub async fn send(
        &self,
        release: &Release,
        named: Named<'_>,
        bytes: Bytes,
    ) -> Result<Sent, ReleaseError> {
        let (url, headers) = self.to_upload(release, named)?;
        let name = named.name;
        self.pace.wait().await;
        let answers = [StatusCode::CREATED, StatusCode::UNPROCESSABLE_ENTITY];
        let (status, body) = self
            .client
            .change(Method::POST, &url, headers, Some(bytes), &answers)
            .await
            .map_err(|source| asking(&format!("cannot send {name}"), source))?;
        sent(name, &url, status, &body)
    }

    /// Sends a file, which is read as it goes.
    pub async fn send_file(
        &self,
        release: &Release,
        named: Named<'_>,
        body: Body,
    ) -> Result<Sent, ReleaseError> {
        let (url, headers) = self.to_upload(release, named)?;
        let name = named.name;
        let uploads = self.client.uploads();
        let uploads = uploads.map_err(|source| asking(&format!("cannot send {name}"), source))?;
        let to = Url::parse(&self.client.rewritten(url.as_str()))
            .map_err(|error| ReleaseError::Answer(error.to_string()))?;
        let mut request = reqwest::Request::new(Method::POST, to);
        *request.headers_mut() = headers;
        self.pace.wait().await;
        let failed = |source| ReleaseError::Sending { name: name.to_owned(), source };
        let answer = stream::send(uploads, request, body).await.map_err(failed)?;
        let (status, body) = whole(answer).await.map_err(failed)?;
        sent(name, &url, status, &body)
    }
}

async fn whole(
    answer: HttpResponse,
) -> Result<(StatusCode, Bytes), object_store::client::HttpError> {
    let status = answer.status();
    Ok((status, answer.into_body().bytes().await?))
}

fn sent(name: &str, url: &Url, status: StatusCode, body: &[u8]) -> Result<Sent, ReleaseError> {
    match status {
        StatusCode::CREATED => read(body).map(Sent::Done),
        StatusCode::UNPROCESSABLE_ENTITY if is_taken(body) => Ok(Sent::Taken),
        _ => Err(refused(&format!("cannot send {name}"), url, status, body)),
    }
}

/// Whether uploads may go there: to the API's own host, or to one beside it that is for that.
fn is_of(url: &Url, api: &Url) -> bool {
    let (Some(host), Some(api_host)) = (url.host_str(), api.host_str()) else { return false };
    let site = api_host.strip_prefix("api.").unwrap_or(api_host);
    url.scheme() == api.scheme()
        && url.username().is_empty()
        && (host == api_host || host.strip_prefix("uploads.") == Some(site))
}

fn asking(doing: &str, source: FetchError) -> ReleaseError {
    ReleaseError::Asking { doing: doing.to_owned(), source }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ReleaseError> {
    serde_json::from_slice(body).map_err(|error| ReleaseError::Answer(error.to_string()))
}

/// What a refusal says: `{"message": …, "errors": [{"code": …, "field": …, "message": …}]}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
    errors: Vec<Problem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    message: Option<String>,
}

fn refusal(body: &[u8]) -> Refusal {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Whether the name, or the tag, is there already.
fn is_taken(body: &[u8]) -> bool {
    refusal(body).errors.iter().any(|problem| problem.code == "already_exists")
}

fn refused(doing: &str, url: &Url, status: StatusCode, body: &[u8]) -> ReleaseError {
    let Refusal { message, errors } = refusal(body);
    let more = errors.into_iter().filter_map(|problem| problem.message);
    let said: Vec<String> = std::iter::once(message).chain(more).collect();
    let said: String = said.join(": ").chars().filter(|c| !c.is_control()).take(200).collect();
    let mut url = url.clone();
    url.set_query(None);
    let (url, said) = (url.to_string(), Some(said).filter(|said| !said.is_empty()));
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::FORBIDDEN
            && said.as_ref().is_some_and(|said| said.to_ascii_lowercase().contains("rate limit"));
    let source = if limited {
        FetchError::RateLimited { url, status, until: None, said }
    } else {
        FetchError::Status { url, status, said }
    };
    asking(doing, source)
}

/// How often something is made.
#[derive(Debug)]
struct Pace(Mutex<Turns>);

#[derive(Debug, Clone, Copy)]
struct Turns {
    /// How many may go at once.
    left: u32,
    /// When the last of these was earned.
    since: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Turns { left: IN_A_ROW, since: Instant::now() }))
    }
}

impl Pace {
    /// Waits until the next one may go.
    async fn wait(&self) {
        let at = self.0.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now());
        tokio::time::sleep_until(at).await;
    }
}

impl Turns {
    /// When the next one may go.
    fn next(&mut self, now: Instant) -> Instant {
        while self.left < IN_A_ROW && self.since + EVERY <= now {
            self.left += 1;
            self.since += EVERY;
        }
        if self.left == IN_A_ROW {
            self.since = now;
        }
        if self.left > 0 {
            self.left -= 1;
            return now;
        }
        // Whoever waits takes what is earned next.
        self.since += EVERY;
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_no_other_host() {
        let of = |url: &str, api: &str| is_of(&Url::parse(url).unwrap(), &Url::parse(api).unwrap());
        let github = "https://api.github.com/repos/o/r/releases";
        assert!(of("https://uploads.github.com/repos/o/r/releases/1/assets", github));
        assert!(of("https://uploads.x.ghe.com/repos", "https://api.x.ghe.com/repos"));
        assert!(of("https://git.example.com/api/uploads/repos", "https://git.example.com/api/v3"));
        for url in [
            "https://uploads.github.com.evil.org/",
            "https://evil.org/",
            "http://uploads.github.com/",
            "https://u:p@uploads.github.com/",
            "https://uploads.evil.org/",
        ] {
            assert!(!of(url, github), "{url}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_told_from_other_refusals() {
        let taken = br#"{"message":"Validation Failed","errors":[{"resource":"ReleaseAsset","code":"already_exists","field":"name"}]}"#;
        assert!(is_taken(taken));
        let full = br#"{"message":"Validation Failed","errors":[{"resource":"ReleaseAsset","code":"custom","field":"file_count","message":"file_count limited to 1000 assets per release"}]}"#;
        assert!(!is_taken(full) && !is_taken(b"<html>"));
        let url = Url::parse("https://uploads.github.com/x?name=y").unwrap();
        let said = refused("cannot send y", &url, StatusCode::UNPROCESSABLE_ENTITY, full);
        let ReleaseError::Asking { source, .. } = said else { panic!("{said}") };
        assert_eq!(
            source.to_string(),
            "https://uploads.github.com/x answered 422 Unprocessable Entity: Validation Failed: file_count limited to 1000 assets per release"
        );
    }

    #[test]
    fn many_go_out_one_after_another() {
        let start = Instant::now();
        let mut turns = Turns { left: IN_A_ROW, since: start };
        for _ in 0..IN_A_ROW {
            assert_eq!(turns.next(start), start);
        }
        for number in 1..5 {
            assert_eq!(turns.next(start), start + EVERY * number);
        }
        let later = start + Duration::from_secs(3600);
        for _ in 0..IN_A_ROW {
            assert_eq!(turns.next(later), later);
        }
        assert_eq!(turns.next(later), later + EVERY);
    }
}
