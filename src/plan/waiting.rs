//! Releases that are not all there yet: whoever publishes in steps is waited for, but not for ever.
//!
//! Owns when that is so. What it lacks is known from the source, or from a try that failed, which the
//! catalogue remembers.

use jiff::Timestamp;
use serde::Serialize;

use super::judge::age;
use crate::config::versions::Versions;
use crate::version::Version;

/// A version that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Awaited {
    /// The version.
    pub version: Version,
    /// What it lacks.
    pub lacks: String,
    /// Since when: its release, or when it was first seen.
    pub since: Timestamp,
    /// Until when. After that it is an error.
    pub until: Timestamp,
    /// Whether only a try can tell if it is there now.
    #[serde(skip)]
    pub retry: bool,
    /// Whether nobody remembers yet since when.
    #[serde(skip)]
    pub is_new: bool,
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, lacks, since, until, .. } = self;
        write!(f, "{version} waits for {lacks} since {since:.0}, at most until {until:.0}")
    }
}

/// A version that lacks something, if that may be waited for still. `published` is when upstream says
/// that it was released, `seen` since when the catalogue remembers it; one of which neither is
/// known is waited for from now on, if `is_new` allows it.
#[must_use]
pub fn awaited(
    rules: &Versions,
    version: &Version,
    lacks: String,
    (published, seen): (Option<Timestamp>, Option<Timestamp>),
    may_begin: bool,
    now: Timestamp,
) -> Option<Awaited> {
    let since = published.or(seen).or(may_begin.then_some(now))?;
    if age(since, now) >= rules.wait {
        return None;
    }
    let until = since.checked_add(rules.wait).unwrap_or(Timestamp::MAX);
    let is_new = published.is_none() && seen.is_none();
    Some(Awaited { version: version.clone(), lacks, since, until, retry: false, is_new })
}
