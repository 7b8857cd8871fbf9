//! Downloads: a file onto the disk, hashed on the way, and gone on with where it broke off.
//!
//! Owns asking for the rest. That is only taken from a server that proves that it is the rest of the
//! same file: by a strong validator in `If-Range`, and by naming the place (RFC 9110 §13.1.5, §14).
//! In all other cases the file is begun anew, and those who read along are told.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sha2::Digest;

use super::arriving::{Arriving, Feed};
use super::{Answer, Client, FetchError, Flow};
use crate::name::Sha256;

/// How much of a download is written at once, in bytes.
const PIECE: usize = 256 << 10;

/// A try that brought so much, in bytes, is not held against those that come after it.
const PROGRESS: u64 = 1 << 20;

/// How often a download is gone on with at most.
const RESUMED: u32 = 100;

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

impl Client {
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
        let mut partly: Option<Partly> = None;
        // What was brought before, and thrown away, is no progress when it comes again.
        let (mut tries, mut resumed, mut most) = (0, 0, 0);
        loop {
            let done = self.download_once(url, &headers, to, &progress, &mut partly).await;
            let Err(error) = done else { return done };
            let goes_on =
                |partly: &Partly| partly.is_resumable() && partly.received >= most + PROGRESS;
            if error.may_pass() && resumed < RESUMED && partly.as_ref().is_some_and(goes_on) {
                resumed += 1;
                tries = 0;
            }
            most = partly.as_ref().map_or(most, |partly| most.max(partly.received));
            self.try_again(url, error, &mut tries).await?;
        }
    }

    async fn download_once(
        &self,
        url: &str,
        headers: &HeaderMap,
        to: &Arriving,
        progress: &impl Fn(u64, Option<u64>),
        partly: &mut Option<Partly>,
    ) -> Result<Fetched, FetchError> {
        let disk = |source| FetchError::Disk { path: to.path().to_owned(), source };
        let mut headers = headers.clone();
        // What cannot be gone on with is not kept open.
        *partly = partly.take().filter(Partly::is_resumable);
        let asked_for_rest = partly.as_ref().is_some_and(|partly| partly.ask(&mut headers));
        let answer = self.ask(Method::GET, url, headers).await?;
        match answer.status() {
            StatusCode::OK => {
                *partly = Some(Partly::begin(to.begin().map_err(disk)?, &answer));
            }
            StatusCode::PARTIAL_CONTENT if asked_for_rest => {
                if !partly.as_ref().is_some_and(|partly| partly.is_gone_on_with_by(&answer)) {
                    // Another place or another file: from the start, at the next try.
                    let received = partly.take().map_or(0, |partly| partly.received);
                    return Err(FetchError::Truncated { url: self.shown(url), received });
                }
                tracing::debug!(url = self.shown(url), "goes on");
            }
            StatusCode::RANGE_NOT_SATISFIABLE if asked_for_rest => {
                let received = partly.take().map_or(0, |partly| partly.received);
                return Err(FetchError::Truncated { url: self.shown(url), received });
            }
            _ => return Err(self.refused(url, answer).await),
        }
        let file = partly.as_mut().expect("it was just begun, or gone on with");
        let (before, total) = (file.received, file.total);
        let mut flow = Flow::of(answer, self.0.limit, before);
        while let Some(chunk) = self.piece(url, &mut flow).await? {
            file.received = flow.received;
            progress(file.received, total);
            file.pieces.add(&chunk).await.map_err(disk)?;
        }
        if total.is_some_and(|total| total != file.received) {
            let received = file.received;
            return Err(FetchError::Truncated { url: self.shown(url), received });
        }
        let Partly { pieces, received, .. } = partly.take().expect("it is here");
        let sha256 = pieces.end().await.map_err(disk)?;
        Ok(Fetched { path: to.path().to_owned(), sha256, size: received })
    }
}

/// A file of which some is here.
struct Partly {
    pieces: Pieces,
    received: u64,
    /// The length of the whole, if the server told it.
    total: Option<u64>,
    /// What tells this file from another at the same address; only a strong one.
    validator: Option<HeaderValue>,
}

impl Partly {
    fn begin(feed: Feed, answer: &Answer) -> Self {
        // A weak one may stand for other bytes that mean the same; a date for all of its second.
        let etag = answer.headers().get(header::ETAG);
        let strong = |etag: &&HeaderValue| etag.as_bytes().starts_with(b"\"");
        let plain = !answer.headers().contains_key(header::CONTENT_ENCODING);
        Self {
            pieces: Pieces::new(feed),
            received: 0,
            total: answer.content_length(),
            validator: etag.filter(strong).filter(|_| plain).cloned(),
        }
    }

    fn is_resumable(&self) -> bool {
        // A write that failed took the file with it.
        self.validator.is_some() && self.received > 0 && self.pieces.written.is_some()
    }

    /// Asks for the rest.
    fn ask(&self, headers: &mut HeaderMap) -> bool {
        let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
        let (Some(validator), Ok(range)) = (&self.validator, range) else { return false };
        headers.insert(header::RANGE, range);
        headers.insert(header::IF_RANGE, validator.clone());
        true
    }

    /// Whether an answer is the rest, all of it, of the same file.
    fn is_gone_on_with_by(&self, answer: &Answer) -> bool {
        let headers = answer.headers();
        let same =
            headers.get(header::ETAG).is_none_or(|etag| Some(etag) == self.validator.as_ref());
        let plain = !headers.contains_key(header::CONTENT_ENCODING);
        let range = headers.get(header::CONTENT_RANGE).and_then(|range| {
            let (place, total) = range.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = place.split_once('-')?;
            let number = |text: &str| text.trim().parse::<u64>().ok();
            Some((number(first)?, number(last)?, number(total)?))
        });
        let Some((first, last, total)) = range else { return false };
        same && plain
            && first == self.received
            && last.checked_add(1) == Some(total)
            && self.total.is_none_or(|known| known == total)
    }
}

/// What came of a download, on its way to the disk in pieces that are worth a system call.
struct Pieces {
    /// `None` after a write that failed.
    written: Option<Written>,
    gathered: Vec<u8>,
}

/// What is on the disk, and its digest so far.
struct Written {
    feed: Feed,
    hasher: sha2::Sha256,
}

impl Pieces {
    fn new(feed: Feed) -> Self {
        let written = Written { feed, hasher: sha2::Sha256::new() };
        Self { written: Some(written), gathered: Vec::new() }
    }

    async fn add(&mut self, bytes: &Bytes) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() < PIECE { Ok(()) } else { self.write().await }
    }

    /// Hashes and writes on a thread that may wait for a disk: of many downloads at once, several
    /// cores take care, and not the one thread that listens to all of them.
    async fn write(&mut self) -> io::Result<()> {
        let Some(mut written) = self.written.take() else { return Ok(()) };
        let mut bytes = std::mem::take(&mut self.gathered);
        let done = tokio::task::spawn_blocking(move || {
            written.hasher.update(&bytes);
            written.feed.write(&bytes)?;
            bytes.clear();
            Ok::<_, io::Error>((written, bytes))
        });
        let (written, bytes) = done.await??;
        self.written = Some(written);
        self.gathered = bytes;
        Ok(())
    }

    /// The digest of all of it.
    async fn end(mut self) -> io::Result<Sha256> {
        self.write().await?;
        let written = self.written.take();
        let Written { feed, hasher } =
            written.ok_or_else(|| io::Error::other("a write failed before"))?;
        feed.close();
        Ok(Sha256::from_hasher(hasher))
    }
}
