//! From a URL to verified bytes: one HTTP client for everything that is asked of upstreams.
//!
//! Owns retries, time limits, size limits, rewriting and digests. Knows nothing of what the bytes
//! are. Files are streamed to disk and hashed on the way; only small documents are held in memory.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use sha2::Digest;
use url::Url;

use crate::config::{Limits, Network};
use crate::name::Sha256;

pub mod arriving;
pub mod cache;
mod error;

pub use error::{FetchError, refusal};

use arriving::{Arriving, Feed};
use cache::{Cache, Entry};
use error::CRAWL;

/// The largest page or listing that is read, in bytes.
const DOCUMENT: u64 = 64 << 20;

/// How much of a download is written at once, in bytes.
const PIECE: usize = 256 << 10;

/// The longest that one request may take, in time limits: an hour at the default of 30 s.
const LONGEST: u32 = 120;

/// How often a request is tried in all.
const TRIES: u32 = 3;

/// Tries again, a few times, what fails for a reason that may pass; `fault` finds it in the error.
///
/// # Errors
/// That of the last try.
pub async fn retry<T, E: std::fmt::Display>(
    attempt: impl AsyncFn() -> Result<T, E>,
    fault: impl Fn(&E) -> Option<&FetchError>,
) -> Result<T, E> {
    for tried in 1..TRIES {
        match attempt().await {
            Err(error) => match fault(&error).and_then(|fault| fault.wait(tried)) {
                Some(wait) => {
                    tracing::debug!(%error, ?wait, "trying again");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            },
            done => return done,
        }
    }
    attempt().await
}

/// A file that was fetched: on disk, and known byte for byte.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// A page, a listing or another small text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The text, as it came.
    pub body: Bytes,
    /// The page after this one, where the server names one (`Link: <…>; rel="next"`, RFC 8288).
    pub next: Option<Url>,
}

/// The one client for all upstreams.
#[derive(Debug, Clone)]
pub struct Client {
    /// Made when it is first needed: a machine without CA certificates can still publish what
    /// lies in a folder.
    http: Arc<OnceLock<reqwest::Client>>,
    rewrite: Vec<(String, String)>,
    timeout: Duration,
    limit: u64,
}

impl Client {
    /// A client with the configured limits.
    #[must_use]
    pub fn new(network: &Network, limits: &Limits) -> Self {
        let mut rewrite: Vec<_> = network.rewrite.clone().into_iter().collect();
        // The longest prefix first, as in a routing table.
        rewrite.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Self {
            http: Arc::default(),
            rewrite,
            timeout: network.timeout,
            limit: limits.download.bytes(),
        }
    }

    /// The HTTP client itself, for a library that speaks to an API over it.
    ///
    /// # Errors
    /// The TLS set-up of this machine cannot be used.
    pub fn http(&self) -> Result<&reqwest::Client, FetchError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let http = self.connect().map_err(|source| FetchError::Tls { source })?;
        Ok(self.http.get_or_init(|| http))
    }

    fn connect(&self) -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            .user_agent(concat!("publish/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.timeout.min(Duration::from_secs(15)))
            .read_timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::custom(|attempt| {
                let downgrade = attempt.url().scheme() == "http"
                    && attempt.previous().last().is_some_and(|from| from.scheme() == "https");
                if downgrade {
                    attempt.error("a redirect from https to http")
                } else if attempt.previous().len() >= 10 {
                    attempt.error("more than 10 redirects")
                } else {
                    attempt.follow()
                }
            }))
            .build()
    }

    /// The longest that one request may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.timeout * LONGEST
    }

    /// The URL that is asked in the place of `url`.
    #[must_use]
    pub fn rewritten(&self, url: &str) -> String {
        match self.rewrite.iter().find(|(from, _)| url.starts_with(from.as_str())) {
            Some((from, to)) => format!("{to}{}", &url[from.len()..]),
            None => url.to_owned(),
        }
    }

    /// A document, asked for with `headers`, from the server or, if the server says that it has not
    /// changed, from the cache.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn document(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        cache: &Cache,
    ) -> Result<Document, FetchError> {
        let known = cache.get(url.as_str());
        if let Some(entry) = &known {
            entry.add_conditions(&mut headers);
        }
        let (response, body) = self.small(url.as_str(), headers, DOCUMENT).await?;
        match known {
            Some(entry) if response.status == StatusCode::NOT_MODIFIED => {
                Ok(Document { next: entry.next(url), body: entry.body.into() })
            }
            _ => {
                let entry = Entry::new(&response.headers, body.to_vec());
                let next = entry.next(url);
                cache.put(url.as_str(), entry);
                Ok(Document { body, next })
            }
        }
    }

    /// A small file as it is, such as a checksum file or a signature, of so many bytes at most.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn bytes(
        &self,
        url: &str,
        headers: HeaderMap,
        limit: u64,
    ) -> Result<Bytes, FetchError> {
        self.small(url, headers, limit).await.map(|(_, body)| body)
    }

    async fn small(
        &self,
        url: &str,
        headers: HeaderMap,
        limit: u64,
    ) -> Result<(Head, Bytes), FetchError> {
        retry(
            async || {
                let mut body = Vec::new();
                let head = self
                    .stream(url, headers.clone(), limit, async |_: &Head, chunk: &Bytes| {
                        body.extend_from_slice(chunk);
                        Ok(())
                    })
                    .await?;
                Ok((head, Bytes::from(body)))
            },
            |error| Some(error),
        )
        .await
    }

    /// Streams a file to where it is awaited, asked for with `headers`, and hashes it on the way.
    /// Whoever follows it reads it meanwhile. `progress` hears of each piece and of the whole
    /// length, where the server tells it.
    ///
    /// # Errors
    /// What went wrong last, after a few tries where that may help. What is at the path then is
    /// not to be used.
    pub async fn download(
        &self,
        url: &str,
        headers: HeaderMap,
        to: &Arriving,
        progress: impl Fn(u64, Option<u64>),
    ) -> Result<Fetched, FetchError> {
        let disk = |source| FetchError::Disk { path: to.path().to_owned(), source };
        retry(
            async || {
                let mut pieces = Pieces::new(to.begin().map_err(disk)?);
                let mut hasher = sha2::Sha256::new();
                let mut size = 0;
                self.stream(
                    url,
                    headers.clone(),
                    self.limit,
                    async |head: &Head, chunk: &Bytes| {
                        hasher.update(chunk);
                        size += chunk.len() as u64;
                        progress(size, head.length);
                        pieces.add(chunk).await.map_err(disk)
                    },
                )
                .await?;
                pieces.end().await.map_err(disk)?;
                let path = to.path().to_owned();
                Ok(Fetched { path, sha256: Sha256::from_hasher(hasher), size })
            },
            |error| Some(error),
        )
        .await
    }

    /// The length of a file in bytes, without fetching it; `None` if the server does not tell.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn size(&self, url: &str) -> Result<Option<u64>, FetchError> {
        retry(
            async || {
                let response = self.ask(Method::HEAD, url, HeaderMap::new()).await?;
                let response = match response.status() {
                    // Only the head is read of this answer either.
                    StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                        self.ask(Method::GET, url, HeaderMap::new()).await?
                    }
                    _ => response,
                };
                if response.status() != StatusCode::OK {
                    return Err(refusal(self.shown(url), response.status(), response.headers()));
                }
                let length = response.headers().get(header::CONTENT_LENGTH);
                Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
            },
            |error| Some(error),
        )
        .await
    }

    /// One request, as far as the head of its answer.
    async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, FetchError> {
        let asked = self.http()?.request(method, self.rewritten(url)).headers(headers).send().await;
        let shown = self.shown(url);
        match asked {
            Ok(response) => {
                tracing::debug!(url = shown, status = response.status().as_u16(), "asked");
                Ok(response)
            }
            Err(error) if error.is_timeout() => {
                Err(FetchError::Slow { url: shown, waited: self.timeout })
            }
            Err(error) => {
                Err(FetchError::Unreachable { url: shown, source: error.without_url().into() })
            }
        }
    }

    /// One request; gives the body to `sink` piece by piece.
    async fn stream(
        &self,
        url: &str,
        headers: HeaderMap,
        limit: u64,
        mut sink: impl AsyncFnMut(&Head, &Bytes) -> Result<(), FetchError>,
    ) -> Result<Head, FetchError> {
        let shown = self.shown(url);
        let conditional = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
            .iter()
            .any(|name| headers.contains_key(name));
        let mut response = self.ask(Method::GET, url, headers).await?;
        let head = Head {
            status: response.status(),
            length: response.content_length(),
            headers: response.headers().clone(),
        };
        // Nobody asked for a part, so a 206 is not what was asked for; and a 304 is an answer only to
        // who has something already.
        let expected = match head.status {
            StatusCode::OK => true,
            StatusCode::NOT_MODIFIED => conditional,
            _ => false,
        };
        if !expected {
            return Err(refusal(shown, head.status, &head.headers));
        }
        if head.length.is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge { url: shown, limit });
        }
        let started = Instant::now();
        let mut received = 0;
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    received += chunk.len() as u64;
                    if received > limit {
                        return Err(FetchError::TooLarge { url: shown, limit });
                    }
                    sink(&head, &chunk).await?;
                }
                Err(error) if error.is_timeout() => {
                    return Err(FetchError::Slow { url: shown, waited: self.timeout });
                }
                Err(_) => return Err(FetchError::Truncated { url: shown, received }),
            }
            let elapsed = started.elapsed();
            if elapsed > self.deadline() {
                return Err(FetchError::Overlong { url: shown, waited: self.deadline() });
            }
            if elapsed > self.timeout && received < CRAWL * elapsed.as_secs() {
                return Err(FetchError::Slow { url: shown, waited: self.timeout });
            }
        }
        Ok(head)
    }

    /// A URL as people know it, and where it was really asked. Never with a password in it.
    fn shown(&self, url: &str) -> String {
        let asked = self.rewritten(url);
        let mut shown = without_password(url);
        if asked != url {
            let _ = write!(shown, " (rewritten to {})", without_password(&asked));
        }
        shown
    }
}

/// A URL for people and records: whoever may read those must not learn a password.
#[must_use]
pub fn without_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() || !parsed.username().is_empty() => {
            // Both only fail for URLs that cannot have a user at all.
            let _ = parsed.set_username("").and_then(|()| parsed.set_password(None));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}

struct Head {
    status: StatusCode,
    length: Option<u64>,
    headers: HeaderMap,
}

/// What came of a download, on its way to the disk in pieces that are worth a system call.
struct Pieces {
    feed: Option<Feed>,
    gathered: Vec<u8>,
}

impl Pieces {
    fn new(feed: Feed) -> Self {
        Self { feed: Some(feed), gathered: Vec::new() }
    }

    async fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() < PIECE { Ok(()) } else { self.write().await }
    }

    /// Writes on a thread that may wait for a disk.
    async fn write(&mut self) -> io::Result<()> {
        let Some(mut feed) = self.feed.take() else { return Ok(()) };
        let mut bytes = std::mem::take(&mut self.gathered);
        let written = tokio::task::spawn_blocking(move || {
            feed.write(&bytes)?;
            bytes.clear();
            Ok::<_, io::Error>((feed, bytes))
        });
        let (feed, bytes) = written.await??;
        self.feed = Some(feed);
        self.gathered = bytes;
        Ok(())
    }

    async fn end(mut self) -> io::Result<()> {
        self.write().await?;
        self.feed.take().into_iter().for_each(Feed::close);
        Ok(())
    }
}
