//! Lint: what a finished tree must not be, because a node would break or never see it.

use thiserror::Error;

use super::tree::{Node, Tree};
use crate::config::Component;

/// A tree that no image is made of.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LintError {
    /// There is nothing in it.
    #[error("the image would be empty")]
    Empty,
    /// Outside what systemd-sysext merges.
    #[error("`{0}` would not be seen on a node: only usr/ and opt/ are merged")]
    Hierarchy(String),
    /// A file that makes systemd-sysext refuse the image.
    #[error("`{0}` makes nodes refuse the image")]
    HostFile(String),
    /// A unit to enable that is not there.
    #[error("the unit `{0}` is to be enabled, but the image has no such unit")]
    Unit(String),
}

impl LintError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Empty => "add [[asset]] or [files], or files beside the component",
            Self::Hierarchy(_) => "pick what is needed into usr/ by name",
            Self::HostFile(_) => "take it out with `delete = true`",
            Self::Unit(_) => "units belong into usr/lib/systemd/system/",
        };
        Some(text.to_owned())
    }
}

/// Checks a finished tree.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(tree: &Tree, component: &Component) -> Result<(), LintError> {
    if !tree.iter().any(|(_, node)| !matches!(node, Node::Folder)) {
        return Err(LintError::Empty);
    }
    if let Some((path, _)) =
        tree.iter().find(|(path, _)| !matches!(path.split('/').next(), Some("usr" | "opt")))
    {
        return Err(LintError::Hierarchy(path.clone()));
    }
    // systemd-sysext takes an image with its own os-release for an operating system.
    for path in ["usr/lib/os-release", "usr/lib/initrd-release"] {
        if tree.get(path).is_some() {
            return Err(LintError::HostFile(path.to_owned()));
        }
    }
    for unit in &component.services.enable {
        let unit = unit.as_str();
        // `x@1.service` is an instance of the template `x@.service`.
        let template = unit
            .split_once('@')
            .and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        let there = |name: &str| {
            matches!(
                tree.get(&format!("usr/lib/systemd/system/{name}")),
                Some(Node::File { .. } | Node::Symlink { .. })
            )
        };
        if !there(unit) && !template.is_some_and(|template| there(&template)) {
            return Err(LintError::Unit(unit.to_owned()));
        }
    }
    Ok(())
}
