//! `[retention]`: how long what is no longer offered is kept, and how much may go at once.
//!
//! Owns how that is written. How many versions are offered is each component's own `newest`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::quantity::{Time, duration};

/// `[retention]`: how long what is no longer offered is kept, and how much may go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Retention {
    /// How long a file outlives its manifest line: a node may have read the line just before it went.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "Time", extend("default" = "24h"))]
    pub grace: Duration,
    /// How many files a run may delete. One that would delete more deletes none, and says so.
    pub max_delete: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { grace: Duration::from_secs(24 * 60 * 60), max_delete: 20 }
    }
}
