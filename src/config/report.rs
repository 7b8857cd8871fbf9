//! `[report]` and `[[notify]]`: what those who watch over a publisher get to read.
//!
//! Owns how that is written. Where a message goes is a secret, for whoever has the address may write
//! there; so it never stands in a configuration.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretAt;

/// `[report]`: files for those who watch over a publisher.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Report {
    /// Metrics for Prometheus, as its node exporter collects them from text files.
    pub metrics: Option<PathBuf>,
    /// What the last sync did: the document of `sync --json`.
    pub json: Option<PathBuf>,
    /// The folder for what must be known of earlier runs.
    pub state: Option<PathBuf>,
}

impl Report {
    /// Reads its paths from the folder of the configuration file.
    pub(super) fn relative_to(&mut self, folder: &Path) {
        for path in [&mut self.metrics, &mut self.json, &mut self.state].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

/// `[[notify]]`: somebody who is told, by a request to an address of his.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// Where it goes.
    pub url: SecretAt,
    /// What he reads.
    #[serde(default)]
    pub kind: Kind,
    /// What he is told of.
    #[serde(default = "all")]
    pub on: Vec<Event>,
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A document of our own.
    #[default]
    Json,
    /// A text, as Slack takes it, and many others who say that they are compatible.
    Slack,
}

/// What is worth a message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Something was published, or taken out.
    Change,
    /// Something fails that did not before.
    Failure,
    /// What failed does not any more.
    Recovery,
}

fn all() -> Vec<Event> {
    vec![Event::Change, Event::Failure, Event::Recovery]
}
