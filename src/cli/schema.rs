//! `publish schema`: what may be written in the configuration, for editors and for the page of every key.

use super::{Ended, print};
use crate::config::{reference, schema};

/// Whose schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum What {
    /// publish.toml
    Repository,
    /// A component's file
    Component,
}

impl What {
    /// The schema, as a file holds it.
    pub(super) fn text(self) -> String {
        let schema = match self {
            Self::Repository => schema::repository(),
            Self::Component => schema::component(),
        };
        format!("{schema:#}\n")
    }
}

pub(super) fn run(what: Option<What>) -> anyhow::Result<Ended> {
    print(&what.map_or_else(reference::page, What::text))?;
    Ok(Ended::Well)
}
