//! Documents: pages, listings and other small texts, from the server or from what it answered before.
//!
//! Owns what is asked of a server for them: whether anything changed, and compression. No file that
//! is published comes this way.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::TryFutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::SemaphorePermit;
use url::Url;

use super::cache::{Cache, Entry, Flight};
use super::{Client, DOCUMENT, FetchError, Flow};

/// A document up to this size comes in beside any number of others, in bytes.
const SMALL: usize = 128 << 10;

/// A page, a listing or another small text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The text, as it came, or what was kept of it.
    pub body: Bytes,
    /// The page after this one, where the server names one (`Link: <…>; rel="next"`, RFC 8288).
    pub next: Option<Url>,
}

/// What is worth keeping of a document: all of it, if it is not as expected.
pub type Digest = fn(&[u8]) -> Option<Vec<u8>>;

impl Client {
    /// A document, asked for with `headers`, from the server or, if the server says that it has not
    /// changed, from the cache. Whoever asks for the same in one run gets the same answer.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn document(
        &self,
        url: &Url,
        headers: HeaderMap,
        cache: &Cache,
    ) -> Result<Document, FetchError> {
        self.digest(url, headers, cache, |_| None).await
    }

    /// The same, of which only what `keep` makes of it is kept and given.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn digest(
        &self,
        url: &Url,
        headers: HeaderMap,
        cache: &Cache,
        keep: Digest,
    ) -> Result<Document, FetchError> {
        let flight = cache.flight(url.as_str(), &headers);
        let flown = flight.get_or_init(|| self.fly(url, &headers, cache, keep).map_err(Arc::new));
        let flight = flown.await.as_ref().map_err(FetchError::again)?;
        let next = flight.entry.next(url);
        let fresh = flight.fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It was whole when it was packed, or when the first one read it.
        let body = fresh.or_else(|| flight.entry.body()).unwrap_or_default();
        Ok(Document { body, next })
    }

    async fn fly(
        &self,
        url: &Url,
        headers: &HeaderMap,
        cache: &Cache,
        keep: Digest,
    ) -> Result<Flight, FetchError> {
        let known = cache.get(url.as_str(), headers).await;
        if let Some(entry) = known {
            let mut conditional = headers.clone();
            entry.add_conditions(&mut conditional);
            let (head, body) = self.small(url.as_str(), &conditional, DOCUMENT).await?;
            if head.status != StatusCode::NOT_MODIFIED {
                return Ok(landed(url, headers, cache, keep, &head.headers, body).await);
            }
            if let Some(body) = entry.body() {
                return Ok(Flight { entry, fresh: Mutex::new(Some(body)) });
            }
            tracing::debug!(url = self.shown(url.as_str()), "what was kept of it is broken");
        }
        let (head, body) = self.small(url.as_str(), headers, DOCUMENT).await?;
        Ok(landed(url, headers, cache, keep, &head.headers, body).await)
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
        self.small(url, &headers, limit).await.map(|(_, body)| body)
    }

    /// A document of the server's, tried a few times.
    pub(super) async fn small(
        &self,
        url: &str,
        headers: &HeaderMap,
        limit: u64,
    ) -> Result<(Head, Bytes), FetchError> {
        let mut headers = headers.clone();
        headers
            .entry(header::ACCEPT_ENCODING)
            .or_insert(const { HeaderValue::from_static("gzip") });
        let mut tries = 0;
        loop {
            match self.small_once(url, headers.clone(), limit).await {
                Err(error) => self.try_again(url, error, &mut tries).await?,
                done => return done,
            }
        }
    }

    async fn small_once(
        &self,
        url: &str,
        headers: HeaderMap,
        limit: u64,
    ) -> Result<(Head, Bytes), FetchError> {
        let conditional = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
            .iter()
            .any(|name| headers.contains_key(name));
        let answer = self.ask(Method::GET, url, headers).await?;
        let head = Head { status: answer.status(), headers: answer.headers().clone() };
        // Nobody asked for a part, so a 206 is not what was asked for; and a 304 is an answer only to
        // who has something already.
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if conditional => return Ok((head, Bytes::new())),
            _ => return Err(self.refused(url, answer).await),
        }
        let encoding = head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let mut body = match encoding {
            Some(b"gzip" | b"x-gzip") => {
                Body::Packed(MultiGzDecoder::new(Bounded::to(limit)).into())
            }
            _ => Body::Plain(Bounded::to(limit)),
        };
        let mut large: Option<SemaphorePermit<'_>> = None;
        let too_large = || FetchError::TooLarge { url: self.shown(url), limit };
        let bad = |received| FetchError::Truncated { url: self.shown(url), received };
        let mut flow = Flow::of(answer, limit, 0);
        while let Some(chunk) = self.piece(url, &mut flow).await? {
            body.add(&chunk)
                .map_err(|()| if body.is_full() { too_large() } else { bad(flow.received) })?;
            if large.is_none() && body.length() > SMALL {
                let permit = self.0.large.acquire().await;
                large = Some(permit.expect("it is never closed"));
            }
        }
        let received = flow.received;
        match body.end() {
            Some(bytes) => Ok((head, bytes.into())),
            None => Err(bad(received)),
        }
    }
}

/// Keeps an answer, or what is worth it.
async fn landed(
    url: &Url,
    asked: &HeaderMap,
    cache: &Cache,
    keep: Digest,
    headers: &HeaderMap,
    body: Bytes,
) -> Flight {
    let body = keep(&body).map_or(body, Bytes::from);
    let entry = Entry::new(headers, &body);
    cache.put(url.as_str(), asked, &entry).await;
    Flight { entry, fresh: Mutex::new(Some(body)) }
}

/// The head of an answer.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// A body that grows to the limit and no further, however little of it comes over the network.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
    limit: u64,
}

impl Bounded {
    fn to(limit: u64) -> Self {
        Self { bytes: Vec::new(), full: false, limit }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.limit {
            self.full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Body {
    Plain(Bounded),
    Packed(Box<MultiGzDecoder<Bounded>>),
}

impl Body {
    fn bounded(&self) -> &Bounded {
        match self {
            Self::Plain(bounded) => bounded,
            Self::Packed(decoder) => decoder.get_ref(),
        }
    }

    fn length(&self) -> usize {
        self.bounded().bytes.len()
    }

    fn is_full(&self) -> bool {
        self.bounded().full
    }

    fn add(&mut self, chunk: &[u8]) -> Result<(), ()> {
        let added = match self {
            Self::Plain(bounded) => bounded.write_all(chunk),
            Self::Packed(decoder) => decoder.write_all(chunk),
        };
        added.map_err(|_| ())
    }

    /// All of it; `None` if it is not whole, or unpacks to too much at its very end.
    fn end(self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(bounded) => Some(bounded.bytes),
            Self::Packed(decoder) => decoder.finish().ok().map(|bounded| bounded.bytes),
        }
    }
}
