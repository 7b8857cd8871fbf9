//! Documents that list versions: pages, JSON, plain texts.
//!
//! Owns which documents are read, and reading versions out of pages and texts. Places in JSON are
//! for [`json`].

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use jiff::Timestamp;
use url::Url;

use super::{CHECK_MATCH, LONGEST, Listing, MOST, Release, SourceError, date};
use crate::config::source::{HttpRule, PagePattern, Reading, VersionPattern};
use crate::fetch::cache::Cache;
use crate::fetch::{Client, without_password};

mod json;

/// The longest text that is taken for a version, in bytes, where a pattern finds it: one that
/// matches half a page is a mistake.
const LONGEST_MATCH: usize = 128;

/// The most documents that are read for one component.
const MOST_PAGES: usize = 200;

/// What a place in a document may be to do about.
const CHECK_PLACE: &str =
    "look at the document, and check the place in the component; nothing is taken away meanwhile";

/// Versions, each with its date where the document tells it.
#[derive(Default)]
struct Versions(BTreeMap<String, Option<Timestamp>>);

impl Versions {
    /// Adds a version. Of two dates the later one counts: what waits to be old enough waits rather
    /// longer.
    fn add(&mut self, version: String, at: Option<Timestamp>) {
        let known = self.0.entry(version).or_default();
        *known = at.max(*known);
    }
}

/// Every distinct version in the documents.
pub(super) async fn poll(
    rule: &HttpRule,
    client: &Client,
    cache: &Cache,
) -> Result<Listing, SourceError> {
    let mut reader = Reader { client, cache, read: BTreeSet::new() };
    let mut versions = Versions::default();
    for url in &rule.urls {
        let pages = reader.all(&url.0).await?;
        let Some(follow) = &rule.follow else {
            for (at, body) in pages {
                add(&mut versions, &at, read(&rule.reading, &at, &body)?)?;
            }
            continue;
        };
        let mut found = BTreeSet::new();
        for (at, body) in pages {
            found.extend(links(follow, &at, &body)?);
        }
        if found.is_empty() {
            let problem = format!("no link in {} matches `{}`", shown(&url.0), follow.0.as_str());
            let hint = "check `follow` in the component; nothing is taken away meanwhile";
            return Err(SourceError::Nothing { problem, hint });
        }
        for link in found {
            for (at, body) in reader.all(&link).await? {
                add(&mut versions, &at, read(&rule.reading, &at, &body)?)?;
            }
        }
    }
    if versions.0.is_empty() {
        return Err(nothing(rule));
    }
    let releases = versions.0.into_iter().map(|(tag, published)| Release::bare(tag, published));
    Ok(Listing::whole(releases.collect()))
}

fn nothing(rule: &HttpRule) -> SourceError {
    let urls: Vec<String> = rule.urls.iter().map(|url| shown(&url.0)).collect();
    let below = if rule.follow.is_some() { "what is linked from " } else { "" };
    let whence = format!("{below}{}", urls.join(" and "));
    let (problem, hint) = match &rule.reading {
        Reading::Match(pattern) => {
            (format!("nothing in {whence} matches `{}`", pattern.0.as_str()), CHECK_MATCH)
        }
        Reading::Values { at, .. } => {
            (format!("{whence} has no text or whole number at `{at}`"), CHECK_PLACE)
        }
        Reading::Keys { of, .. } => (format!("{whence} has no keys at `{of}`"), CHECK_PLACE),
        Reading::Text => (format!("{whence} is empty"), CHECK_PLACE),
    };
    SourceError::Nothing { problem, hint }
}

/// Reads documents, each once.
struct Reader<'a> {
    client: &'a Client,
    cache: &'a Cache,
    read: BTreeSet<Url>,
}

impl Reader<'_> {
    /// A document and those that it says come after it.
    async fn all(&mut self, first: &Url) -> Result<Vec<(Url, bytes::Bytes)>, SourceError> {
        let (mut pages, mut next) = (Vec::new(), Some(first.clone()));
        while let Some(url) = next.take() {
            if !self.read.insert(url.clone()) {
                // Two index pages may lead to one; pages that lead to each other are at their end.
                break;
            }
            if self.read.len() > MOST_PAGES {
                let problem = format!("it leads to more than {MOST_PAGES} documents");
                let hint = "let `follow` match fewer, or name those that are wanted in `url`";
                return Err(SourceError::Answer { from: shown(first), problem, hint });
            }
            let page = self.client.document(&url, HeaderMap::new(), self.cache).await?;
            if let Some(after) = page.next {
                let after = near(&url, after)?;
                if after == url {
                    let problem =
                        "it says that it comes after itself (`Link: …; rel=\"next\"`)".to_owned();
                    let hint = "what comes after it is not to be had; name all documents in `url`";
                    return Err(SourceError::Answer { from: shown(&url), problem, hint });
                }
                next = Some(after);
            }
            pages.push((url, page.body));
        }
        Ok(pages)
    }
}

/// A link, if it stays on its server: a page decides what is read next, but not of whom.
fn near(page: &Url, link: Url) -> Result<Url, SourceError> {
    if page.origin() == link.origin() {
        return Ok(link);
    }
    let problem = format!("it leads to another server, {}", shown(&link));
    let hint = "if that is meant, name the other document in `url`";
    Err(SourceError::Answer { from: shown(page), problem, hint })
}

fn links(follow: &PagePattern, page: &Url, body: &[u8]) -> Result<BTreeSet<Url>, SourceError> {
    let text = String::from_utf8_lossy(body);
    let mut found = BTreeSet::new();
    for [link] in follow.0.matches(&text, ["page"]) {
        let Some(link) = link else { continue };
        // In HTML an ampersand is written so.
        let link = link.replace("&amp;", "&");
        let Ok(mut url) = page.join(&link) else { continue };
        url.set_fragment(None);
        // `../`, as listings of folders have it, and the page itself.
        if url.origin() == page.origin() && page.path().starts_with(url.path()) {
            continue;
        }
        found.insert(near(page, url)?);
        if found.len() > MOST_PAGES {
            break;
        }
    }
    Ok(found)
}

fn add(all: &mut Versions, from: &Url, more: Versions) -> Result<(), SourceError> {
    for (version, at) in more.0 {
        all.add(version, at);
    }
    if all.0.len() <= MOST {
        return Ok(());
    }
    let problem = format!("it lists more than {MOST} versions");
    Err(SourceError::Answer { from: shown(from), problem, hint: CHECK_PLACE })
}

fn read(reading: &Reading, from: &Url, body: &[u8]) -> Result<Versions, SourceError> {
    let answer = |problem| SourceError::Answer { from: shown(from), problem, hint: CHECK_PLACE };
    let mut versions = Versions::default();
    match reading {
        Reading::Match(pattern) => return Ok(matches(pattern, body)),
        Reading::Values { at, date } => {
            let dates = json::dates(body, date.as_ref()).map_err(answer)?;
            for found in json::values(body, at).map_err(answer)? {
                versions.add(found.text, dates.of(&found.stars));
            }
        }
        Reading::Keys { of, date } => {
            let dates = json::dates(body, date.as_ref()).map_err(answer)?;
            for mut found in json::keys(body, of).map_err(answer)? {
                found.stars.push(found.text.clone());
                versions.add(found.text, dates.of(&found.stars));
            }
        }
        Reading::Text => {
            let text = std::str::from_utf8(body).map_err(|_| answer("it is no text".to_owned()))?;
            let text = text.trim_start_matches('\u{feff}');
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                // A page about the service being down must not look like versions.
                if line.len() > LONGEST || line.contains(char::is_whitespace) || line.contains('<')
                {
                    let start: String = line.chars().take(40).collect();
                    return Err(answer(format!("`{}` is no version", start.escape_debug())));
                }
                versions.add(line.to_owned(), None);
            }
        }
    }
    Ok(versions)
}

fn matches(pattern: &VersionPattern, body: &[u8]) -> Versions {
    let text = String::from_utf8_lossy(body);
    let mut versions = Versions::default();
    for [version, date] in pattern.0.matches(&text, ["version", "date"]) {
        let Some(version) = version else { continue };
        if version.is_empty() || version.len() > LONGEST_MATCH || versions.0.len() > MOST {
            continue;
        }
        let at = date.and_then(date::read);
        versions.add(version.to_owned(), at);
    }
    versions
}

fn shown(url: &Url) -> String {
    without_password(url.as_str())
}
