//! A page or a JSON document that lists versions, read by a regular expression.

use std::collections::BTreeSet;

use http::HeaderMap;

use super::{Release, SourceError};
use crate::config::source::HttpRule;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, without_password};

/// The longest text that is taken for a version, in bytes: a pattern that matches half a page is
/// a mistake.
const LONGEST: usize = 128;

/// Every distinct version in the document.
pub(super) async fn poll(
    rule: &HttpRule,
    client: &Client,
    cache: &Cache,
) -> Result<Vec<Release>, SourceError> {
    let page = client.document(&rule.url.0, HeaderMap::new(), cache).await?;
    let text = String::from_utf8_lossy(&page.body);
    let tags: BTreeSet<&str> = rule
        .pattern
        .0
        .captures_iter(&text)
        .filter_map(|captures| captures.name("version"))
        .map(|version| version.as_str())
        .filter(|version| !version.is_empty() && version.len() <= LONGEST)
        .collect();
    if tags.is_empty() {
        let problem = format!(
            "nothing in {} matches `{}`",
            without_password(rule.url.0.as_str()),
            rule.pattern.0.as_str()
        );
        return Err(SourceError::Nothing(problem));
    }
    let none = [].into();
    Ok(tags.into_iter().map(|tag| Release::tagged(tag, &none)).collect())
}
