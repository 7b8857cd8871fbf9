//! What upstreams answered before, so that the next poll can ask whether anything changed.
//!
//! Owns validators (ETag, Last-Modified: RFC 9110 §8.8) and the bodies they stand for. Knows
//! nothing of sources; the bytes it is saved as are opaque to everybody else.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use octocrab::service::middleware::cache::{CacheKey, CacheStorage, CacheWriter, CachedResponse};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::name::Sha256;

/// The most bytes a saved cache may unpack to; a larger one is forgotten.
const LIMIT: u64 = 256 << 20;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    etag: Option<String>,
    last_modified: Option<String>,
    link: Option<String>,
    /// The body, as it came.
    #[serde(with = "text")]
    pub body: Vec<u8>,
}

/// Bodies are JSON and pages: text, nearly always. What is not UTF-8 is not worth keeping.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(body: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&String::from_utf8_lossy(body))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(from).map(String::into_bytes)
    }
}

impl Entry {
    /// An answer with these headers and this body.
    #[must_use]
    pub fn new(headers: &HeaderMap, body: Vec<u8>) -> Self {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
        Self {
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
            link: text(header::LINK),
            body,
        }
    }

    /// Adds the headers that ask whether this answer still holds.
    pub fn add_conditions(&self, headers: &mut HeaderMap) {
        for (name, value) in
            [(header::IF_NONE_MATCH, &self.etag), (header::IF_MODIFIED_SINCE, &self.last_modified)]
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
        (self.etag.is_some() || self.last_modified.is_some())
            && std::str::from_utf8(&self.body).is_ok()
    }
}

/// Not the URL itself: it may have a password in it.
fn key(url: &str) -> String {
    Sha256::of(url.as_bytes()).to_string()
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    changed: bool,
}

/// The answers of one component's upstream, by URL. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Cache(Arc<Mutex<State>>);

impl Cache {
    /// Reads what [`Cache::save`] made. What cannot be read is forgotten: it only costs a request.
    #[must_use]
    pub fn load(saved: &[u8]) -> Self {
        let entries = zstd::Decoder::new(saved)
            .ok()
            .and_then(|decoder| serde_json::from_reader(decoder.take(LIMIT)).ok())
            .unwrap_or_default();
        Self(Arc::new(Mutex::new(State { entries, changed: false })))
    }

    /// The bytes to keep for the next run; `None` if nothing changed.
    #[must_use]
    pub fn save(&self) -> Option<Vec<u8>> {
        let state = self.lock();
        if !state.changed {
            return None;
        }
        let text = serde_json::to_vec(&state.entries).ok()?;
        zstd::encode_all(text.as_slice(), 3).ok()
    }

    /// Whether [`Cache::save`] has something to give.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.lock().changed
    }

    /// What the URL answered last.
    #[must_use]
    pub fn get(&self, url: &str) -> Option<Entry> {
        self.lock().entries.get(&key(url)).cloned()
    }

    /// Keeps an answer, if it can be asked for again.
    pub fn put(&self, url: &str, entry: Entry) {
        let mut state = self.lock();
        let key = key(url);
        if !entry.is_worth_keeping() {
            state.changed |= state.entries.remove(&key).is_some();
        } else if state.entries.get(&key) != Some(&entry) {
            state.entries.insert(key, entry);
            state.changed = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStorage for Cache {
    fn try_hit(&self, uri: &Uri) -> Option<CacheKey> {
        let entry = self.get(&uri.to_string())?;
        // A value that cannot stand in a header would panic in the middleware.
        let legal = |text: String| HeaderValue::from_str(&text).ok().map(|_| text);
        match (entry.etag, entry.last_modified) {
            (Some(etag), _) => legal(etag).map(CacheKey::ETag),
            (None, Some(date)) => legal(date).map(CacheKey::LastModified),
            (None, None) => None,
        }
    }

    fn load(&self, uri: &Uri) -> Option<CachedResponse> {
        // The middleware panics at `None`, and a server may say "not modified" unasked. An empty
        // body is an error to whoever reads it.
        let Some(entry) = self.get(&uri.to_string()) else {
            return Some(CachedResponse::default());
        };
        let mut headers = HeaderMap::new();
        if let Some(link) = entry.link.and_then(|link| HeaderValue::from_str(&link).ok()) {
            headers.insert(header::LINK, link);
        }
        Some(CachedResponse { body: entry.body, headers })
    }

    fn writer(&self, uri: &Uri, _key: CacheKey, headers: HeaderMap) -> Box<dyn CacheWriter> {
        Box::new(Writer {
            cache: self.clone(),
            url: uri.to_string(),
            entry: Entry::new(&headers, Vec::new()),
        })
    }
}

/// Collects a body as octocrab reads it.
struct Writer {
    cache: Cache,
    url: String,
    entry: Entry,
}

impl CacheWriter for Writer {
    fn write_body(&mut self, data: &[u8]) {
        self.entry.body.extend_from_slice(data);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The middleware does not say whether the answer was a success or came whole. A listing is
        // a JSON array; an error is an object, and half an array does not parse.
        if serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&self.entry.body).is_ok() {
            let entry =
                std::mem::replace(&mut self.entry, Entry::new(&HeaderMap::new(), Vec::new()));
            self.cache.put(&self.url, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("\"1\""));
        headers
    }

    #[test]
    fn a_saved_cache_reads_back_and_has_nothing_to_save() {
        let cache = Cache::default();
        assert_eq!(cache.save(), None);
        cache.put("http://x/", Entry::new(&headers(), b"page".to_vec()));
        let again = Cache::load(&cache.save().unwrap());
        assert_eq!(again.get("http://x/").unwrap().body, b"page");
        assert_eq!(again.save(), None);
        again.put("http://x/", Entry::new(&headers(), b"page".to_vec()));
        assert_eq!(again.save(), None);
    }

    #[test]
    fn the_next_page_is_the_one_with_that_relation() {
        let at: Url = "https://e.org/api/releases?page=1".parse().unwrap();
        let next = |link: &'static str| {
            let mut headers = headers();
            headers.insert(header::LINK, HeaderValue::from_static(link));
            Entry::new(&headers, Vec::new()).next(&at).map(String::from)
        };
        let second = Some("https://e.org/api/releases?page=2".to_owned());
        assert_eq!(next("<https://e.org/api/releases?page=2>; rel=\"next\""), second);
        assert_eq!(next("</api/x>; rel=\"prev\", <?page=2>; title=x; rel=next"), second);
        assert_eq!(next("<https://e.org/x>; rel=\"last\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn what_cannot_be_asked_for_again_is_not_kept() {
        let cache = Cache::default();
        cache.put("http://x/", Entry::new(&HeaderMap::new(), b"page".to_vec()));
        assert_eq!(cache.save(), None);
        assert_eq!(Cache::load(b"not zstd").get("http://x/"), None);
    }

    #[test]
    fn half_a_listing_or_an_error_is_not_kept() {
        let cache = Cache::default();
        let uri: Uri = "http://x/releases".parse().unwrap();
        for (body, kept) in
            [("[{\"a\":1},", false), ("{\"message\":\"x\"}", false), ("[{\"a\":1}]", true)]
        {
            let mut writer = cache.writer(&uri, CacheKey::ETag(String::new()), headers());
            writer.write_body(body.as_bytes());
            drop(writer);
            assert_eq!(cache.try_hit(&uri).is_some(), kept, "{body}");
        }
    }
}
