//! What upstreams answered: for the others of this run who ask the same, and for the next run, which
//! asks only whether anything changed.
//!
//! Owns validators (ETag, Last-Modified: RFC 9110 §8.8), the bodies they stand for, and that one URL
//! is asked once a run. Bodies are compressed one by one, and stay so until somebody wants them: a
//! thousand listings are megabytes each. Knows nothing of sources or of how requests are made.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::sync::OnceCell;
use url::Url;

use super::{DOCUMENT, FetchError};
use crate::name::Sha256;
use crate::store::{Store, StoreError};

mod shard;

use shard::{SHARDS, Shard};

/// How hard bodies are compressed: they are read more often than written.
const LEVEL: i32 = 3;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    etag: Option<String>,
    last_modified: Option<String>,
    link: Option<String>,
    /// The length of the body in bytes.
    length: usize,
    /// The body, compressed.
    packed: Bytes,
}

impl Entry {
    /// An answer with these headers and this body.
    #[must_use]
    pub fn new(headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
        let date = text(header::DATE);
        Self {
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED)
                .filter(|modified| is_settled(modified, date.as_deref())),
            link: text(header::LINK),
            length: body.len(),
            packed: shard::pack(body),
        }
    }

    /// The body; `None` if what was kept of it is broken.
    #[must_use]
    pub fn body(&self) -> Option<Bytes> {
        let most = usize::try_from(DOCUMENT).unwrap_or(usize::MAX);
        // The checksum in the frame tells of every bit that is not as it was.
        let body = zstd::bulk::decompress(&self.packed, self.length.min(most)).ok()?;
        (body.len() == self.length).then(|| body.into())
    }

    /// Adds the headers that ask whether this answer still holds.
    pub fn add_conditions(&self, headers: &mut HeaderMap) {
        let etag = self.etag.as_ref().map(|etag| match etag.strip_suffix("-gzip\"") {
            // Apache marks what it compressed, and then does not know its own mark.
            Some(plain) => format!("{etag}, {plain}\""),
            None => etag.clone(),
        });
        for (name, value) in
            [(header::IF_NONE_MATCH, &etag), (header::IF_MODIFIED_SINCE, &self.last_modified)]
        {
            if let Some(value) =
                value.as_deref().and_then(|value| HeaderValue::from_str(value).ok())
            {
                headers.insert(name, value);
            }
        }
    }

    /// The page after this one, as its `Link` header names it; relative to `at`, where it was asked.
    #[must_use]
    pub fn next(&self, at: &Url) -> Option<Url> {
        self.link.as_deref()?.split(',').find_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = |parameter: &str| {
                let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
                name.trim_end().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').split(' ').any(|rel| rel == "next")
            };
            parameters.split(';').any(is_next).then(|| at.join(target).ok())?
        })
    }

    fn is_worth_keeping(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// What one request of this run brought, for all who would have asked the same.
pub(super) struct Flight {
    pub(super) entry: Entry,
    /// The body as it came, for the first who wants it.
    pub(super) fresh: Mutex<Option<Bytes>>,
}

/// The answers of all upstreams, by URL. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Cache(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Where they are kept; in memory alone, if nowhere.
    store: OnceLock<(Store, String)>,
    shards: [OnceCell<Mutex<Shard>>; SHARDS],
    flights: Mutex<HashMap<Sha256, Shared>>,
    /// Whether all was asked for that anybody asks for.
    whole: AtomicBool,
}

type Shared = Arc<OnceCell<Result<Flight, Arc<FetchError>>>>;

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

/// Whether a date tells of the next change. What changed in the second of the answer may change again in
/// that second, and would have the same date (RFC 9110 §8.8.2.2).
fn is_settled(modified: &str, answered: Option<&str>) -> bool {
    let parser = DateTimeParser::new();
    let at = |text: &str| parser.parse_timestamp(text).ok();
    let answered = answered.and_then(at);
    at(modified).zip(answered).is_none_or(|(modified, answered)| modified < answered)
}

/// The name of an answer. Not the URL itself: it may have a password in it.
fn key(url: &str, headers: &HeaderMap) -> Sha256 {
    // An API answers one URL in several forms.
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
    Sha256::of(&[url.as_bytes(), b"\n", accept].concat())
}

/// The name of a request: credentials and all make another one.
fn flight_key(url: &str, headers: &HeaderMap) -> Sha256 {
    let mut text = url.as_bytes().to_vec();
    for (name, value) in headers {
        text.extend([b"\n", name.as_str().as_bytes(), b":", value.as_bytes()].concat());
    }
    Sha256::of(&text)
}

impl Cache {
    /// Keeps the answers of this and later runs in a folder of a store. Nothing is read before it is
    /// wanted. Of several calls, the first one holds.
    pub fn keep_in(&self, store: &Store, folder: &str) {
        self.0.store.get_or_init(|| (store.clone(), folder.to_owned()));
    }

    /// The one request of this run for a URL with these headers.
    pub(super) fn flight(&self, url: &str, headers: &HeaderMap) -> Shared {
        let key = flight_key(url, headers);
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.entry(key).or_default().clone()
    }

    /// Lets the next request for a URL be made, although this run made one: what is there may have
    /// changed meanwhile.
    pub(crate) fn ask_again(&self, url: &str, headers: &HeaderMap) {
        let key = flight_key(url, headers);
        self.0.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// What the URL answered in an earlier run.
    pub(super) async fn get(&self, url: &str, headers: &HeaderMap) -> Option<Entry> {
        let key = key(url, headers);
        let shard = self.shard(key).await;
        let mut shard = lock(shard);
        shard.wanted.insert(key);
        shard.entries.get(&key).cloned()
    }

    /// Keeps an answer, if it can be asked for again.
    pub(super) async fn put(&self, url: &str, headers: &HeaderMap, entry: &Entry) {
        let key = key(url, headers);
        let mut shard = lock(self.shard(key).await);
        if !entry.is_worth_keeping() {
            shard.changed |= shard.entries.remove(&key).is_some();
        } else if shard.entries.get(&key) != Some(entry) {
            shard.entries.insert(key, entry.clone());
            shard.changed = true;
        }
    }

    async fn shard(&self, key: Sha256) -> &Mutex<Shard> {
        let number = shard::number(key);
        let load = async || {
            let Some((store, folder)) = self.0.store.get() else { return Mutex::default() };
            let path = shard::path(folder, number);
            Mutex::new(match store.read(&path).await {
                Ok(saved) => saved.as_ref().map(Shard::load).unwrap_or_default(),
                Err(error) => {
                    // It costs requests and no more. What is there may be good, so it stays.
                    tracing::warn!("{error}; upstreams are asked for everything");
                    Shard { locked: true, ..Shard::default() }
                }
            })
        };
        self.0.shards[number].get_or_init(load).await
    }

    /// Lets go what nobody asked for. Only for who asked for everything, and got it.
    pub fn forget_unasked(&self) {
        self.0.whole.store(true, Ordering::Relaxed);
        for cell in &self.0.shards {
            let Some(shard) = cell.get() else { continue };
            let mut shard = lock(shard);
            let Shard { entries, wanted, changed, .. } = &mut *shard;
            let before = entries.len();
            entries.retain(|key, _| wanted.contains(key));
            *changed |= entries.len() != before;
        }
    }

    /// Writes what changed for the next run, and takes away what versions before this one wrote.
    ///
    /// # Errors
    /// The store cannot be written; each piece in it is whole, old or new.
    pub async fn save(&self, store: &Store) -> Result<(), StoreError> {
        let Some((_, folder)) = self.0.store.get() else { return Ok(()) };
        let changed = self.0.shards.iter().enumerate().filter_map(|(number, cell)| {
            let shard = lock(cell.get()?);
            let bytes = (shard.changed && !shard.locked).then(|| shard.save())?;
            Some((shard::path(folder, number), bytes))
        });
        let changed: Vec<_> = changed.collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut writing = futures::stream::iter(changed)
            .map(async |(path, bytes)| match bytes {
                Some(bytes) => store.put(&path, bytes).await,
                None => store.delete(&path).await,
            })
            .buffer_unordered(4);
        while let Some(written) = writing.next().await {
            written?;
        }
        drop(writing);
        let whole = self.0.whole.load(Ordering::Relaxed);
        for listed in store.list(folder).await? {
            // Of one that was not read, nothing was asked for.
            let number = shard::number_of(&listed.name);
            let unasked = number.is_some_and(|number| self.0.shards[number].get().is_none());
            if listed.name.ends_with(".json.zst") || (whole && unasked) {
                store.delete(&format!("{folder}/{}", listed.name)).await?;
            }
        }
        for cell in &self.0.shards {
            cell.get().into_iter().for_each(|shard| lock(shard).changed = false);
        }
        Ok(())
    }

    /// Whether [`Cache::save`] has something to write.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        let changed = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.changed && !shard.locked
        };
        self.0.store.get().is_some() && self.0.shards.iter().filter_map(OnceCell::get).any(changed)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"1\""))])
    }

    fn store() -> Store {
        Store::with_objects(Arc::new(object_store::memory::InMemory::new()))
    }

    fn at(store: &Store) -> Cache {
        let cache = Cache::default();
        cache.keep_in(store, "answers");
        cache
    }

    #[tokio::test]
    async fn a_saved_cache_reads_back_and_has_nothing_to_save() {
        let (store, none) = (store(), HeaderMap::new());
        let cache = at(&store);
        let page = Entry::new(&headers(), b"page");
        cache.put("http://x/", &none, &page).await;
        assert!(cache.is_changed());
        cache.save(&store).await.unwrap();
        let again = at(&store);
        let read = again.get("http://x/", &none).await.unwrap();
        assert_eq!((read.body().unwrap(), &read), (Bytes::from_static(b"page"), &page));
        again.put("http://x/", &none, &page).await;
        assert!(!again.is_changed());
        // Another form of the same, and another address, are other answers.
        let json = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("a/b"))]);
        assert_eq!(again.get("http://x/", &json).await, None);
        assert_eq!(again.get("http://x", &none).await, None);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_any_more_goes() {
        let (store, none) = (store(), HeaderMap::new());
        let cache = at(&store);
        for number in 0..40 {
            cache.put(&format!("http://x/{number}"), &none, &Entry::new(&headers(), b"x")).await;
        }
        cache.save(&store).await.unwrap();
        store.put("answers/x.json.zst", "of another time").await.unwrap();
        for left in [20, 1] {
            let later = at(&store);
            for number in 0..left {
                later.get(&format!("http://x/{number}"), &none).await.expect("kept");
            }
            later.forget_unasked();
            later.save(&store).await.unwrap();
            let last = at(&store);
            for number in 0..left {
                last.get(&format!("http://x/{number}"), &none).await.expect("kept");
            }
            last.forget_unasked();
            assert!(!last.is_changed());
        }
        assert_eq!(store.list("answers").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_cache_that_nobody_can_read_is_forgotten() {
        let (store, none) = (store(), HeaderMap::new());
        let cache = at(&store);
        cache.put("http://x/", &none, &Entry::new(&headers(), &[7; 1000])).await;
        cache.save(&store).await.unwrap();
        let path = store.list("answers").await.unwrap().remove(0).name;
        let path = format!("answers/{path}");
        let saved = store.read(&path).await.unwrap().unwrap();
        let mut forgotten = 0;
        for at_byte in (0..saved.len()).step_by(3) {
            let mut broken = saved.to_vec();
            broken[at_byte] ^= 0x20;
            store.put(&path, broken).await.unwrap();
            match at(&store).get("http://x/", &none).await.map(|entry| entry.body()) {
                None | Some(None) => forgotten += 1,
                // A bit of a validator: the server will not know it.
                Some(Some(body)) => assert_eq!(body, Bytes::from_static(&[7; 1000])),
            }
            store.put(&path, saved.slice(..at_byte)).await.unwrap();
            assert_eq!(at(&store).get("http://x/", &none).await, None);
        }
        assert!(forgotten > saved.len() / 6);
    }

    #[test]
    fn the_next_page_is_the_one_with_that_relation() {
        let at: Url = "https://e.org/api/releases?page=1".parse().unwrap();
        let next = |link: &'static str| {
            let mut headers = headers();
            headers.insert(header::LINK, HeaderValue::from_static(link));
            Entry::new(&headers, b"").next(&at).map(String::from)
        };
        let second = Some("https://e.org/api/releases?page=2".to_owned());
        assert_eq!(next("<https://e.org/api/releases?page=2>; rel=\"next\""), second);
        assert_eq!(next("</api/x>; rel=\"prev\", <?page=2>; title=x; rel=next"), second);
        assert_eq!(next("<https://e.org/x>; rel=\"last\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn a_date_of_the_very_second_tells_nothing() {
        let entry = |modified: &'static str| {
            let pairs = [
                (header::LAST_MODIFIED, HeaderValue::from_static(modified)),
                (header::DATE, HeaderValue::from_static("Mon, 01 Jan 2024 00:00:03 GMT")),
            ];
            Entry::new(&HeaderMap::from_iter(pairs), b"").last_modified
        };
        assert!(entry("Mon, 01 Jan 2024 00:00:02 GMT").is_some());
        assert_eq!(entry("Mon, 01 Jan 2024 00:00:03 GMT"), None);
        assert_eq!(entry("Mon, 01 Jan 2024 00:00:09 GMT"), None);
    }

    #[test]
    fn a_mark_of_apaches_is_asked_for_with_and_without() {
        let marked = [(header::ETAG, HeaderValue::from_static("\"1-gzip\""))];
        let mut asked = HeaderMap::new();
        Entry::new(&HeaderMap::from_iter(marked), b"").add_conditions(&mut asked);
        assert_eq!(asked[header::IF_NONE_MATCH], "\"1-gzip\", \"1\"");
    }

    #[tokio::test]
    async fn what_cannot_be_asked_for_again_is_not_kept() {
        let cache = at(&store());
        cache.put("http://x/", &HeaderMap::new(), &Entry::new(&HeaderMap::new(), b"page")).await;
        assert!(!cache.is_changed());
    }

    #[test]
    fn a_body_that_unpacks_to_more_than_it_says_is_broken() {
        let bomb = Entry { length: 10, ..Entry::new(&headers(), &vec![0; 100_000]) };
        assert_eq!(bomb.body(), None);
        let lie = Entry { length: usize::MAX, ..Entry::new(&headers(), b"short") };
        assert_eq!(lie.body(), None);
    }
}
