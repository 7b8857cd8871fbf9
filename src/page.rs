//! What people read: a page of the repository, one of each component, a catalogue and a feed.
//!
//! Pure: values in, text out, and the same values give the same bytes at any time. Every text of a user
//! or an upstream is escaped where it goes, by the template library, and is made plain before. Knows
//! nothing of stores.
//!
//! | room | owns |
//! |---|---|
//! | [`catalog`] | `catalog.json`: all that is shown, for programs |
//! | [`entry`] | from what is published to an entry there |
//! | [`html`] | the templates, and what a browser lets them do |
//! | [`chart`] | sizes as a picture |
//! | [`feed`] | `feed.xml` |

use std::sync::LazyLock;

use crate::name::{ComponentName, Folder, Sha256};

pub mod catalog;
pub mod chart;
pub mod entry;
pub mod feed;
pub mod html;

/// The page of the repository, in its root.
pub const INDEX: &str = "index.html";

/// The same for programs.
pub const CATALOG: &str = "catalog.json";

/// What came lately, for feed readers.
pub const FEED: &str = "feed.xml";

/// The page of a component, beside its images.
#[must_use]
pub fn path(folder: &Folder, component: &ComponentName) -> String {
    format!("{folder}/{component}.html")
}

/// To be raised when pages come out otherwise for another reason than their templates.
const EDITION: u32 = 1;

/// What all pages are made with: one made with something else is made again.
#[must_use]
pub fn edition() -> Sha256 {
    static OF: LazyLock<Sha256> = LazyLock::new(|| {
        let all = html::TEMPLATES.iter().map(|(name, text)| format!("{name}\n{text}\n"));
        Sha256::of(format!("{EDITION}\n{}", all.collect::<String>()).as_bytes())
    });
    *OF
}

#[cfg(test)]
mod tests;
