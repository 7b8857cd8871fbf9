//! `feed.xml`: what came lately, as Atom (RFC 4287).
//!
//! Owns which versions are in it, and their names: a version keeps its own for ever, whatever else
//! changes.

use jiff::Timestamp;
use serde::Serialize;

use super::catalog::{Catalog, Entry, Release};
use super::html;
use crate::report::human_size;

/// The most versions in it.
const MOST: usize = 100;

/// A version.
#[derive(Serialize)]
struct Item<'a> {
    name: &'a str,
    version: &'a str,
    page: String,
    published: Timestamp,
    updated: Timestamp,
    summary: String,
}

#[derive(Serialize)]
struct Feed<'a> {
    url: &'a str,
    title: &'a str,
    updated: Timestamp,
    entries: Vec<Item<'a>>,
}

/// The feed; `None` where nobody knows the address of the repository, which it must name.
#[must_use]
pub fn render(catalog: &Catalog) -> Option<String> {
    let url = catalog.url.as_deref()?;
    let all = catalog
        .components
        .iter()
        .flat_map(|entry| entry.versions.iter().filter_map(move |release| item(entry, release)));
    let mut entries: Vec<Item<'_>> = all.collect();
    // Two of one moment stay in the order of the catalogue.
    entries.sort_by_key(|item| std::cmp::Reverse(item.published));
    entries.truncate(MOST);
    let updated = entries.iter().map(|item| item.updated).max().unwrap_or(Timestamp::UNIX_EPOCH);
    Some(html::fill("feed.xml", &Feed { url, title: &catalog.title, updated, entries }))
}

fn item<'a>(entry: &'a Entry, release: &'a Release) -> Option<Item<'a>> {
    let images = release.images.iter().map(|image| match image.size {
        Some(size) => format!("{} ({})", image.architecture, human_size(size)),
        None => image.architecture.to_string(),
    });
    let images = images.collect::<Vec<_>>().join(", ");
    let summary = match &entry.description {
        Some(description) => format!("{description}: {images}"),
        None => images,
    };
    Some(Item {
        name: entry.name.as_str(),
        version: release.version.as_str(),
        page: entry.page(),
        published: release.published()?,
        updated: release.images.iter().filter_map(|image| image.published).max()?,
        summary,
    })
}
